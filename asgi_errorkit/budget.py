"""The retry budget: all who retry in a process share it, so that retries never multiply its calls."""

import time
from collections import deque
from collections.abc import Callable
from functools import cache
from math import ceil
from threading import RLock
from typing import Any

from asgi_errorkit.forks import reset_in_child
from asgi_errorkit.options import check_callable, check_number

__all__ = ["RetryBudget", "process_budget"]

_LEAST_BUCKETS = 40
_HOUR_SECONDS = 3_600
_MOST_PER_SECOND = 10_000
_CALLS, _RETRIES = range(2)


class RetryBudget:
    """Permits retries up to a share of the calls, or a few a second where there are few calls.

    A retry is permitted while those of the last ``window_seconds`` are fewer than ``ratio`` times
    the calls of that time, or those of the last second fewer than ``floor_per_second``; a floor
    below 1 is one retry in so much longer, and 0 is none. ``calls``, ``retries`` and ``refused``
    are totals. Any thread may use it, and a signal handler amid that; a forked child begins anew.
    The rule is that of Finagle's RetryBudget, the share Envoy's default. Raises TypeError or
    ValueError for an option that cannot work.
    """

    def __init__(
        self,
        *,
        ratio: float = 0.2,
        floor_per_second: float = 3.0,
        window_seconds: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        check_number("ratio", ratio, least=0, most=10, example=0.2)
        check_number(
            "floor_per_second", floor_per_second, least=0, most=_MOST_PER_SECOND, example=3.0
        )
        check_number("window_seconds", window_seconds, least=1, most=_HOUR_SECONDS, example=10.0)
        check_callable("clock", clock)
        self.ratio = ratio
        self.floor_per_second = floor_per_second
        self.window_seconds = window_seconds
        self._clock = clock
        self._bucket_seconds = window_seconds / max(_LEAST_BUCKETS, ceil(window_seconds))
        # Of 2.5 a second the third is one too many unless 1.2 s have passed since the first.
        most = ceil(floor_per_second)
        self._floor_seconds = most / floor_per_second if most else 0.0
        self._latest: deque[float] = deque(maxlen=most)  # when the latest retries were
        self.reset_after_fork()
        reset_in_child(self)

    def reset_after_fork(self) -> None:
        """Begin anew in a forked child, whose calls are its own and whose lock nobody holds."""
        self._lock = RLock()
        self.calls = self.retries = self.refused = 0
        self._read_at = self._clock()
        self._now = 0.0
        self._number = 0  # of the bucket that the present falls into
        self._buckets = [[0, 0] for _ in range(max(_LEAST_BUCKETS, ceil(self.window_seconds)))]
        self._recent = [0, 0]  # the sums of the buckets
        self._latest.clear()

    def __repr__(self) -> str:
        return f"<RetryBudget {self.retries} retries of {self.calls} calls, {self.refused} refused>"

    def note_call(self) -> None:
        """Count a call that is no retry; whether it fails does not matter."""
        with self._lock:
            self._pass_time()
            self.calls += 1
            self._count(_CALLS)

    def take_retry(self) -> bool:
        """Count a retry and permit it, or refuse it."""
        with self._lock:
            self._pass_time()
            if not self._has_room():
                self.refused += 1
                return False
            self.retries += 1
            self._count(_RETRIES)
            self._latest.append(self._now)
            return True

    def as_dict(self) -> dict[str, Any]:
        """The totals, and what the window holds now."""
        with self._lock:
            self._pass_time()
            calls, retries = self._recent
            return {
                "calls": self.calls,
                "retries": self.retries,
                "refused": self.refused,
                "window_calls": calls,
                "window_retries": retries,
                "window_seconds": self.window_seconds,
            }

    def _has_room(self) -> bool:
        calls, retries = self._recent
        return retries < self.ratio * calls or self._is_below_floor()

    def _is_below_floor(self) -> bool:
        latest = self._latest
        if len(latest) < (latest.maxlen or 0):
            return True
        return bool(latest) and self._now - latest[0] >= self._floor_seconds

    def _count(self, kind: int) -> None:
        self._buckets[self._number % len(self._buckets)][kind] += 1
        self._recent[kind] += 1

    def _pass_time(self) -> None:
        """Go on by as much as the clock has; where it goes back, it stands still."""
        read_at = self._clock()
        self._now += max(0.0, read_at - self._read_at)
        self._read_at = read_at
        number = int(self._now / self._bucket_seconds)
        if number != self._number:
            self._move_to(number)

    def _move_to(self, number: int) -> None:
        buckets = self._buckets
        for each in range(max(self._number, number - len(buckets)) + 1, number + 1):
            buckets[each % len(buckets)][:] = [0, 0]
        self._number = number
        # Summed up anew: what a signal handler counts amid this may be lost, but only once.
        self._recent = [sum(bucket[kind] for bucket in buckets) for kind in (_CALLS, _RETRIES)]


@cache
def process_budget() -> RetryBudget:
    """The budget of whoever was given none, made when the first asks for it."""
    return RetryBudget()
