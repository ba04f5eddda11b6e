"""How fast the drain takes records, and how long one call of it lasts: CPU times of its own thread."""

import tempfile
import threading
import time
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import IO, Any, Self

from asgi_errorkit.logs import EVENTS
from asgi_errorkit.middleware.error_handling import ErrorHandlingMiddleware
from asgi_errorkit.middleware.performance_monitoring import PerformanceMonitoringMiddleware
from asgi_errorkit.recorder import Recorder
from asgi_errorkit.tracker import ErrorTracker
from asgi_errorkit.types import ASGIApp
from benchmarks.kits import ENDS, answer, begin, kit, linger, serve, whole
from benchmarks.tables import print_table

__all__ = ["LISTENING", "announced", "drained", "held", "print_drained"]


def _without_lines(log: IO[bytes], recorder: Recorder) -> tuple[ASGIApp, Callable[[], None]]:
    measured = PerformanceMonitoringMiddleware(answer, recorder=recorder)
    tracker = ErrorTracker(recorder=recorder)
    return ErrorHandlingMiddleware(
        measured, error_tracker=tracker, log_errors=False
    ), recorder.flush


def _with_one(log: IO[bytes], recorder: Recorder) -> tuple[ASGIApp, Callable[[], None]]:
    wrapped = kit(answer, log, recorder=recorder, events=ENDS)
    return wrapped, wrapped.flush


def _with_two(log: IO[bytes], recorder: Recorder) -> tuple[ASGIApp, Callable[[], None]]:
    wrapped = kit(answer, log, recorder=recorder, events=EVENTS)
    return wrapped, wrapped.flush


LISTENING = {
    "tracker and metrics": _without_lines,
    "tracker, metrics and one line": _with_one,
    "tracker, metrics and two lines": _with_two,
}


def drained(name: str, waiting: int, times: int) -> dict[str, float]:
    """How fast records of requests are drained, so many at a time; the writing counts too."""
    recorder = Recorder(flush_seconds=None)
    with tempfile.TemporaryFile() as log:
        app, flush = LISTENING[name](log, recorder)
        serve(app)
        drains, flushes = [], 0.0
        for number in range(times):
            # While somebody reads, nobody drains: the records wait.
            recorder.read(partial(_fill, app, waiting))
            drains.append(_cpu(recorder.drain))
            if number % 8 == 7 or number == times - 1:
                flushes += _cpu(flush)
        counts = recorder.counts()
        if counts["taken"] != waiting * times + 1 or counts["sink_errors"]:
            raise RuntimeError(f"not every record was drained, so this says nothing: {counts}")
    typical = median(drains) + flushes / times
    return {
        "records_per_second": waiting / typical,
        "median_ms": median(drains) * 1e3,
        "longest_ms": max(drains) * 1e3,
    }


def _fill(app: ASGIApp, requests: int) -> None:
    for number in range(requests):
        serve(app, f"/items/{number % 10}")


class _Watched:
    """A lock that knows for how long at most it was held: CPU time of the holder's."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._since: list[float] = []
        self.longest_ms = 0.0

    def acquire(self, blocking: bool = True) -> bool:
        taken = self._lock.acquire(blocking)
        if taken:
            self._since.append(time.thread_time())
        return taken

    def release(self) -> None:
        self.longest_ms = max(self.longest_ms, (time.thread_time() - self._since.pop()) * 1e3)
        self._lock.release()

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(self, *error: object) -> None:
        self.release()


def held(waiting: int, times: int) -> float:
    """Milliseconds for which the thread holds requests up at most, with so many records waiting.

    The median of so many turns, since whatever else runs on the machine makes one of them long.
    """
    recorder = Recorder(flush_seconds=None)
    longest = []
    with tempfile.TemporaryFile() as log:
        wrapped = kit(answer, log, recorder=recorder, events=EVENTS)
        serve(wrapped)
        for _ in range(times):
            recorder.read(partial(_fill, wrapped, waiting))
            longest.append(_longest_hold(recorder))
        wrapped.flush()
        whole(wrapped)
    return median(longest)


def announced(number: int, times: int) -> float:
    """The same while it logs the start of every request in flight."""
    longest = []
    with tempfile.TemporaryFile() as log:
        for _ in range(times):
            recorder = Recorder(flush_seconds=None)
            wrapped = kit(linger, log, recorder=recorder, events=EVENTS)
            ends = begin(wrapped, number, drain=recorder.drain)
            longest.append(_longest_hold(recorder))
            for end in ends:
                end()
            wrapped.flush()
            whole(wrapped)
    return median(longest)


def _longest_hold(recorder: Recorder) -> float:
    recorder._drain_lock = lock = _Watched()  # type: ignore[assignment]  # it does what one does
    recorder.tick()
    return lock.longest_ms


def _cpu(work: Callable[[], object]) -> float:
    began = time.thread_time()
    work()
    return time.thread_time() - began


def print_drained(drained: dict[str, Any]) -> None:
    rows = [["drain", "records/s", "median ms", "longest ms"]]
    for name, each in drained.items():
        speed, middle, longest = each.values()
        rows.append([name, f"{speed:,.0f}", f"{middle:.3f}", f"{longest:.3f}"])
    print_table(rows)
    print()
