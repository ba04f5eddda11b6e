"""Takes the measurements over the wire: each subject in turn, in a fresh server each time."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.clients import Load, Saturate, saturate, steady
from benchmarks.figures import spread
from benchmarks.measure import rotated
from benchmarks.servers import Server, figures, serving
from benchmarks.subjects import BARE

__all__ = ["HALF", "SATURATION", "Plan", "measure", "rows"]

SATURATION = "saturation"
HALF = "half load"

_WARMING_SECONDS = 0.3


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is measured, by which client, and for how long."""

    subjects: list[str]
    rounds: int
    seconds: float
    connections: int
    saturate: Saturate
    core: int | None
    folder: Path


@dataclass(frozen=True, slots=True)
class Turn:
    """One subject under one load in one round; CPU time and collections are the server's."""

    load: Load
    cpu_seconds: float
    collections: list[int]

    @property
    def per_second(self) -> float:
        return self.load.requests / self.load.seconds

    @property
    def cpu_us(self) -> float:
        return self.cpu_seconds / self.load.requests * 1e6

    @property
    def busy(self) -> float:
        """The share of the time in which the server ran."""
        return self.cpu_seconds / self.load.seconds


Turns = dict[str, list[Turn]]


def measure(server: Server, plan: Plan) -> tuple[float, dict[str, Turns]]:
    """The requests a second of the half load, and by load each subject's turns, one a round.

    The half is that of the bare app in a turn of its own before the first round, and the same for
    every subject.
    """
    rate = _turn(server, BARE, plan, [_saturation])[0].per_second / 2
    taken: dict[str, Turns] = {
        load: {subject: [] for subject in plan.subjects} for load in (SATURATION, HALF)
    }
    for number in range(plan.rounds):
        half = partial(_steady, rate=rate, seed=number)
        for subject in rotated(plan.subjects, number):
            turns = _turn(server, subject, plan, [_saturation, half])
            for load, turn in zip(taken, turns, strict=True):
                taken[load][subject].append(turn)
    return rate, taken


def _turn(
    server: Server, subject: str, plan: Plan, asking: list[Callable[[int, Plan], Load]]
) -> list[Turn]:
    """A subject's loads, one after the other, in a fresh server: chance differences of one start
    and the next must not be taken for differences of the subjects."""
    with serving(server, subject, core=plan.core, folder=plan.folder) as port:
        saturate(port, min(_WARMING_SECONDS, plan.seconds), plan.connections)
        turns = []
        for ask in asking:
            before = figures(port)
            load = ask(port, plan)
            after = figures(port)
            if after["undone"]:
                raise RuntimeError(
                    f"{subject}: {after['undone']} records lost, lines dropped or sinks failed, "
                    "so its figures would be too good; mend that first"
                )
            turns.append(_used(load, before, after))
        return turns


def _saturation(port: int, plan: Plan) -> Load:
    return plan.saturate(port, plan.seconds, plan.connections)


def _steady(port: int, plan: Plan, *, rate: float, seed: int) -> Load:
    return steady(port, plan.seconds, plan.connections, rate=rate, seed=seed)


def _used(load: Load, before: dict[str, Any], after: dict[str, Any]) -> Turn:
    pairs = zip(after["collections"], before["collections"], strict=True)
    collections = [now - then for now, then in pairs]
    return Turn(load, after["cpu_seconds"] - before["cpu_seconds"], collections)


def rows(turns: Turns) -> dict[str, dict[str, Any]]:
    """The figures of one load by subject; ratios are to the bare app's turn of the same round."""
    return {subject: _row(own, turns[BARE]) for subject, own in turns.items()}


def _row(own: list[Turn], bare: list[Turn]) -> dict[str, Any]:
    requests = sum(turn.load.requests for turn in own)
    collections = (sum(each) for each in zip(*(turn.collections for turn in own), strict=True))
    measured: dict[str, Callable[[Turn], float]] = {
        "requests_per_second": lambda turn: turn.per_second,
        "p50_us": lambda turn: turn.load.p50_us,
        "p99_us": lambda turn: turn.load.p99_us,
        "p999_us": lambda turn: turn.load.p999_us,
        "cpu_us": lambda turn: turn.cpu_us,
    }
    row: dict[str, Any] = {}
    for name, of in measured.items():
        row[name] = spread([of(turn) for turn in own])
        row[f"{name}_to_bare"] = spread(
            [of(turn) / of(other) for turn, other in zip(own, bare, strict=True)]
        )
    row["cpu_us_added"] = median(a.cpu_us - b.cpu_us for a, b in zip(own, bare, strict=True))
    row["busy"] = spread([turn.busy for turn in own])
    row["requests"] = requests
    row["gc_collections_per_100_000"] = [number * 100_000 / requests for number in collections]
    return row
