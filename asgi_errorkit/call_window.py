"""The latest calls of a circuit breaker: by number, or by time."""

from collections import deque
from typing import NamedTuple

__all__ = ["FAILED", "OK", "SLOW", "SLOW_FAILED", "CountWindow", "TimeWindow", "Totals"]

OK, FAILED, SLOW, SLOW_FAILED = range(4)

_BUCKETS = 10


class Totals(NamedTuple):
    """How many calls there were, and how many of them failed or were slow."""

    calls: int
    failed: int
    slow: int

    @property
    def failure_rate(self) -> float:
        return self.failed / self.calls if self.calls else 0.0

    @property
    def slow_call_rate(self) -> float:
        return self.slow / self.calls if self.calls else 0.0


class CountWindow:
    """The last so many calls. ``add_ok`` is atomic, and so needs no lock."""

    __slots__ = ("_calls", "add_ok")

    def __init__(self, calls: int) -> None:
        self._calls: deque[int] = deque(maxlen=calls)
        append = self._calls.append
        self.add_ok = append

    def add(self, kind: int, now: float) -> None:
        self._calls.append(kind)

    def totals(self, now: float) -> Totals:
        calls = bytes(self._calls.copy())  # counted in C; others may add meanwhile
        both = calls.count(SLOW_FAILED)
        return Totals(len(calls), calls.count(FAILED) + both, calls.count(SLOW) + both)


class TimeWindow:
    """The calls of the last so many seconds, in steps of a tenth of that."""

    __slots__ = ("_buckets", "_width_seconds")

    add_ok = None  # needs the time, and a lock

    def __init__(self, seconds: float) -> None:
        self._width_seconds = seconds / _BUCKETS
        self._buckets = [[-1, 0, 0, 0, 0] for _ in range(_BUCKETS)]

    def add(self, kind: int, now: float) -> None:
        number = int(now // self._width_seconds)
        bucket = self._buckets[number % _BUCKETS]
        if bucket[0] != number:
            bucket[:] = [number, 0, 0, 0, 0]
        bucket[1 + kind] += 1

    def totals(self, now: float) -> Totals:
        number = int(now // self._width_seconds)
        known = [b for b in self._buckets if number - _BUCKETS < b[0] <= number]
        ok, failed, slow, both = (sum(b[1 + kind] for b in known) for kind in range(4))
        return Totals(ok + failed + slow + both, failed + both, slow + both)
