"""Takes the measurements: each subject in turn, round after round, in one process and one loop."""

import asyncio
import gc
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, TypeVar

from asgi_errorkit.recorder import BATCH, Recorder
from asgi_errorkit.types import ASGIApp
from benchmarks.pace import Pace
from benchmarks.scenarios import Scenario, send
from benchmarks.subjects import GUIDE, SUBJECTS, Subject

__all__ = ["Series", "background_cpu_us_per_second", "measure", "rotated", "serve", "whole"]

T = TypeVar("T")

_GROUP = 31
"""Requests timed at a stretch for the hot path: even with two records each they fill no batch."""

_ASIDE = 3 * BATCH
"""Requests of a turn that are made aside from those that are timed, at most."""

_GUIDE_SHARE = 0.0125  # it takes some hundred times as long
_SETTLING = 8
_SETTLING_SECONDS = 0.002


@dataclass(slots=True)
class Series:
    """One subject's measurements, an entry a round; microseconds a unit of the scenario."""

    wall_us: list[float] = field(default_factory=list)
    hot_us: list[float] = field(default_factory=list)
    cpu_us: list[float] = field(default_factory=list)
    requests: int = 0
    lines: int = 0
    collections: list[int] = field(default_factory=lambda: [0, 0, 0])

    def add(self, taken: tuple[float, float, list[int]], *, requests: int) -> None:
        """Note what ``whole`` has measured in a turn."""
        wall_us, cpu_us, collections = taken
        self.wall_us.append(wall_us)
        self.cpu_us.append(cpu_us)
        self.requests += requests
        self.collections = [a + b for a, b in zip(self.collections, collections, strict=True)]


async def measure(
    scenarios: Sequence[Scenario], *, rounds: int, requests: int, folder: Path, pace: Pace
) -> dict[str, dict[str, Series]]:
    """Measure every subject ``rounds`` times; ``requests`` are made of each in a round.

    A subject has its turns of all the scenarios one right after the other, so that they can be
    compared.
    """
    series = {one.name: {name: Series() for name in SUBJECTS} for one in scenarios}
    with _logs(folder) as logs:
        subjects = {one.name: _made(one, logs) for one in scenarios}
        for turn in range(rounds):
            for name in rotated(list(SUBJECTS), turn):
                for one in scenarios[:: 1 if turn % 2 else -1]:
                    count = _count(one, name, requests)
                    subject, taken = subjects[one.name][name], series[one.name][name]
                    await pace.quiet()
                    while not await _block(subject, one, count, taken, logs[name], pace):
                        await pace.quiet()
    for made in subjects.values():
        for name, subject in made.items():
            _end(name, subject)
    return series


def _made(scenario: Scenario, logs: dict[str, IO[bytes]]) -> dict[str, Subject]:
    return {name: make(scenario.app, logs[name]) for name, make in SUBJECTS.items()}


def _count(scenario: Scenario, name: str, requests: int) -> int:
    number = max(1, round(requests * scenario.share))
    share = _GUIDE_SHARE if name == GUIDE and scenario.seen_by_guide else 1.0
    return max(1, round(number * share))


@contextmanager
def _logs(folder: Path) -> Iterator[dict[str, IO[bytes]]]:
    """A real file on disk for each subject's log lines, emptied in each turn."""
    with ExitStack() as files:
        yield {
            name: files.enter_context((folder / f"{number}.log").open("wb"))
            for number, name in enumerate(SUBJECTS)
        }


def _end(name: str, subject: Subject) -> None:
    """Work that was not done costs nothing: a run that lost or broke some must not be reported."""
    if subject.recorder is None:
        return
    counts = subject.recorder.counts()
    if subject.recorder.ledger is not None:
        subject.recorder.ledger.close()  # before its folder goes
    if counts["lost"] or counts["sink_errors"]:
        raise RuntimeError(
            f"{name}: {counts['lost']} records lost and {counts['sink_errors']} sinks failed, "
            "so its figures would be too good; mend that first"
        )


def rotated(names: list[T], turn: int) -> list[T]:
    """Another one comes first each turn, and every other turn runs backwards."""
    start = turn % len(names)
    order = names[start:] + names[:start]
    return order if turn % 2 == 0 else order[::-1]


async def _block(
    subject: Subject, scenario: Scenario, count: int, series: Series, log: IO[bytes], pace: Pace
) -> bool:
    """One subject's turn in one round: the whole cost, then the hot path alone.

    False when the machine was too slow for it to count.
    """
    scenario.stock(2 * count + _ASIDE)
    await serve(subject.app, scenario, min(count, BATCH, max(_SETTLING, count // 4)))
    _flush(subject)
    # The background thread has just been started: its first turn must not fall into the window.
    await asyncio.sleep(_SETTLING_SECONDS)
    await serve(subject.app, scenario, min(count, _SETTLING))
    _flush(subject)
    _emptied(log)
    taken = await whole(subject.app, scenario, count, flush=partial(_flush, subject))
    lines = _emptied(log)
    hot_us = await _hot(subject, scenario, max(1, count // 4))
    if subject.recorder is not None:
        subject.recorder.close()  # an idle one must not wake up during another's turn
    _emptied(log)
    if not pace.is_good():
        return False
    series.add(taken, requests=count)
    series.lines += lines
    series.hot_us.append(hot_us)
    return True


def _emptied(log: IO[bytes]) -> int:
    """How many lines were in the file."""
    lines = Path(log.name).read_bytes().count(b"\n")
    log.seek(0)
    log.truncate()
    return lines


async def serve(app: ASGIApp, scenario: Scenario, count: int) -> None:
    """The loop that is the bare app's cost too. One task serves all, so that a task's making
    (4 us) does not drown what is measured."""
    exchange = scenario.exchange
    for _ in range(count):
        scope, receive = exchange()
        try:
            await app(scope, receive, send)
        except RuntimeError:
            pass


async def whole(
    app: ASGIApp, scenario: Scenario, count: int, *, flush: Callable[[], None]
) -> tuple[float, float, list[int]]:
    """Wall time of the requests, and CPU time of all threads until the last line is in the file."""
    collected = _collections()
    cpu = time.process_time()
    wall = time.perf_counter()
    await serve(app, scenario, count)
    wall = time.perf_counter() - wall
    flush()
    cpu = time.process_time() - cpu
    units = count * scenario.units / 1e6
    collections = [after - before for after, before in zip(_collections(), collected, strict=True)]
    return wall / units, cpu / units, collections


async def _hot(subject: Subject, scenario: Scenario, count: int) -> float:
    """Wall time of requests none of which has to drain: what each adds to a response's time."""
    size = min(_GROUP, count)
    groups = max(1, count // size)
    seconds = 0.0
    for _ in range(groups):
        if subject.recorder is not None:
            await _make_room(subject.app, subject.recorder, scenario, size)
        seconds += await _timed(subject.app, scenario, size)
    return seconds / (groups * size * scenario.units / 1e6)


async def _make_room(app: ASGIApp, recorder: Recorder, scenario: Scenario, requests: int) -> None:
    """Drain, and serve what fills the batch up untimed if the requests would not fit into it.

    The records of a batch are counted by the recorder's own sequence, so a drain in between does
    not put the next one off.
    """
    produced, each = recorder.counts()["produced"], 0
    while produced % BATCH + max(each, 1) * requests >= BATCH:
        await serve(app, scenario, 1)
        before, produced = produced, recorder.counts()["produced"]
        each = produced - before


async def _timed(app: ASGIApp, scenario: Scenario, count: int) -> float:
    began = time.perf_counter()
    await serve(app, scenario, count)
    return time.perf_counter() - began


def _flush(subject: Subject) -> None:
    if subject.recorder is not None:
        subject.recorder.flush()


def _collections() -> list[int]:
    return [generation["collections"] for generation in gc.get_stats()]


async def background_cpu_us_per_second(
    scenario: Scenario, name: str, *, seconds: float, folder: Path
) -> float:
    """CPU time that the background thread takes each second while no request comes."""
    with _logs(folder) as logs:
        subject = SUBJECTS[name](scenario.app, logs[name])
        await serve(subject.app, scenario, 1)
        await asyncio.sleep(0.3)
        used = [await _slept(seconds)]
        if subject.recorder is not None:
            subject.recorder.close()
        await asyncio.sleep(0.3)
        used.append(await _slept(seconds))
    return (used[0] - used[1]) / seconds * 1e6


async def _slept(seconds: float) -> float:
    cpu = time.process_time()
    await asyncio.sleep(seconds)
    return time.process_time() - cpu
