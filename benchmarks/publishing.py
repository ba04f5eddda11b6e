"""Records published faster than any app does: whatever is overwritten is counted, exactly."""

import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from math import inf
from typing import Any

from asgi_errorkit.recorder import Batch
from asgi_errorkit.ring import Ring
from asgi_errorkit.stack import ErrorKit
from benchmarks.kits import ENDS, answer, kit, serve
from benchmarks.tables import print_table

__all__ = ["CAPACITY", "print_published", "published"]

CAPACITY = 4096
"""The ring's, as a recorder has it when nobody says otherwise."""

_BURST_SECONDS = 0.001


def published(rate: float, seconds: float) -> dict[str, dict[str, Any]]:
    number = round(rate * seconds)
    return {
        "ring, consumer keeps up": _ring(rate, number, 0.002),
        "ring, consumer lags": _ring(rate, number, 0.2),
        "ring, as fast as can be": _ring(inf, number, 0.002),
        "recorder, everything listens": _recorded(rate, number, 0.0),
        "recorder, held up by a reader": _recorded(rate, number, 0.2),
    }


def _paced(publish: Callable[[], object], rate: float, number: int) -> float:
    """Publish so many, in bursts of a millisecond's; how many a second it came to."""
    burst = number if rate == inf else max(1, round(rate * _BURST_SECONDS))
    published, began = 0, time.perf_counter()
    while published < number:
        for _ in range(min(burst, number - published)):
            publish()
        published += burst
        ahead = published / rate - (time.perf_counter() - began)
        if ahead > 0:
            time.sleep(ahead)
    return number / (time.perf_counter() - began)


@contextmanager
def _beside(work: Callable[[], object], every_seconds: float) -> Iterator[None]:
    """Have another thread do something again and again meanwhile."""
    over = threading.Event()

    def repeat() -> None:
        while not over.wait(every_seconds):
            work()

    thread = threading.Thread(target=repeat)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _ring(rate: float, number: int, every_seconds: float) -> dict[str, Any]:
    """Publication into a bare ring beside a consumer; what it took is counted by its stamps."""
    ring = Ring(CAPACITY)
    stamps: list[int] = []

    def take() -> None:
        stamps.extend(item[0] for item in ring.take())

    with _beside(take, every_seconds):
        reached = _paced(lambda: ring.publish("record"), rate, number)
    take()
    return {
        "records_per_second": reached,
        "produced": number,
        "taken": ring.taken,
        "lost": ring.lost,
        "exact": number == ring.taken + ring.lost
        and len(stamps) == ring.taken
        and all(a < b for a, b in pairwise(stamps)),
    }


def _recorded(rate: float, number: int, held_seconds: float) -> dict[str, Any]:
    """The same into a recorder with everything listening, which another thread may hold up."""
    with tempfile.TemporaryFile() as log:
        wrapped = kit(answer, log, events=ENDS)
        recorder = wrapped.tracker.recorder
        state = _state(wrapped)
        before = recorder.counts()["produced"]
        longest = 0.0

        def publish() -> None:
            nonlocal longest
            began = time.thread_time()
            recorder.publish(state.copy())
            took = time.thread_time() - began
            longest = max(longest, took)

        def hold() -> None:
            recorder.read(lambda: time.sleep(held_seconds))

        if held_seconds:
            with _beside(hold, held_seconds / 2):
                reached = _paced(publish, rate, number)
        else:
            reached = _paced(publish, rate, number)
        wrapped.flush()
        counts = recorder.counts()
        requests = wrapped.get_performance_stats(60)["total_requests"]
        recorder.close()
        log.seek(0)
        lines = sum(1 for _ in log)
    return {
        "records_per_second": reached,
        "produced": number,
        "taken": counts["taken"] - before,
        "lost": counts["lost"],
        "longest_publication_ms": longest * 1e3,
        "exact": counts["produced"] - before == number
        and counts["taken"] + counts["lost"] == counts["produced"]
        and requests == lines == counts["taken"]
        and not counts["sink_errors"],
    }


def _state(wrapped: ErrorKit) -> list[Any]:
    """What a request publishes, to be published again and again."""
    kept: list[Any] = []

    def keep(batch: Batch) -> None:
        kept.extend(batch.records)

    recorder = wrapped.tracker.recorder
    recorder.add_sink(keep)
    serve(wrapped)
    recorder.drain()
    recorder.sinks.remove(keep)
    return list(kept[0])


def print_published(published: dict[str, Any]) -> None:
    rows = [["publication", "records/s", "produced", "taken", "lost", "exact"]]
    for name, each in published.items():
        numbers = [each[key] for key in ("records_per_second", "produced", "taken", "lost")]
        rows.append([name, *(f"{n:,.0f}" for n in numbers), "yes" if each["exact"] else "NO"])
    print_table(rows)
    print()
