"""From measurements to figures: what each subject adds to the bare app, and how sure that is."""

from collections.abc import Iterable
from itertools import pairwise
from statistics import median, quantiles
from typing import Any, TypeAlias

from benchmarks.measure import Series
from benchmarks.scenarios import CHUNKS
from benchmarks.subjects import BARE, FULL, GUIDE, ONE_LINE, RECORDED, STEPS

__all__ = ["REACH", "chunks", "cost", "figures", "reach", "spread"]

REACH = {
    "hot_added_us": 1.2,
    "record_hot_us": 1.5,
    "cpu_one_line_us": 3.5,
    "cpu_added_us": 5.0,
    "cheaper_than_guide": 100.0,
    "chunk_added_us": 0.25,
    "error_first_us": 60.0,
    "error_repeated_us": 12.0,
}
"""What was promised, with everything on and, but for two, a line at the start and one at the end.

Microseconds at most, of all threads but for the hot path; times the cost at least. The record's are
those that it adds to everything with one line. Each scenario names those that are judged by it.
"""


def figures(series: dict[str, Series], *, guide: bool) -> dict[str, dict[str, Any]]:
    """The figures of one scenario by subject; microseconds a unit.

    What is added is the subject's less the bare app's of the same round, so that a machine that
    slows down for a while slows both. The best is that of all rounds: what others on the machine do
    only ever adds.
    """
    bare = series[BARE]
    rows = {name: _row(one, bare) for name, one in series.items()}
    for before, name in pairwise(STEPS):
        rows[name]["cpu_step_us"] = spread(_less(series[name].cpu_us, series[before].cpu_us))
    without, recorded = series[ONE_LINE], series[RECORDED]
    rows[RECORDED]["cpu_step_us"] = spread(_less(recorded.cpu_us, without.cpu_us))
    rows[RECORDED]["hot_step_us"] = _told(_added(recorded.hot_us, without.hot_us))
    guide_cpu = rows[GUIDE]["cpu_added_us"]["best"]
    for row in rows.values():
        added = row["cpu_added_us"]["best"]
        row["cheaper_than_guide"] = guide_cpu / added if guide and added > 0 else None
    return rows


def chunks(one: dict[str, Series], many: dict[str, Series]) -> dict[str, dict[str, Any]]:
    """What each subject adds to each further chunk of a body, by streams of one and of many."""
    return {
        name: {
            "hot_added_us": _each(_hot_added(one, name), _hot_added(many, name)),
            "cpu_added_us": _each(_cpu_added(one, name), _cpu_added(many, name)),
        }
        for name in one
    }


_Added: TypeAlias = tuple[list[float], float]
"""What was added in each round, and the best that was reached: the least less the bare app's least."""


def _hot_added(series: dict[str, Series], name: str) -> _Added:
    return _added(series[name].hot_us, series[BARE].hot_us)


def _cpu_added(series: dict[str, Series], name: str) -> _Added:
    return _added(series[name].cpu_us, series[BARE].cpu_us)


def _added(one: list[float], bare: list[float]) -> _Added:
    return _less(one, bare), min(one) - min(bare)


def _told(added: _Added) -> dict[str, float]:
    return {"best": added[1], **spread(added[0])}


def _each(one: _Added, many: _Added) -> dict[str, float]:
    steps = CHUNKS - 1
    return _told(([more / steps for more in _less(many[0], one[0])], (many[1] - one[1]) / steps))


def reach(
    rows: dict[str, dict[str, Any]],
    promises: Iterable[str],
    *,
    per_chunk: dict[str, dict[str, Any]] | None = None,
) -> dict[str, dict[str, Any]]:
    """Each promise, what was measured of it, and whether it is kept."""
    measured = {name: _measured(name, rows, per_chunk) for name in promises}
    return {
        name: {"wanted": REACH[name], "measured": figure, "kept": _kept(name, figure)}
        for name, figure in measured.items()
    }


def _measured(
    name: str, rows: dict[str, dict[str, Any]], per_chunk: dict[str, dict[str, Any]] | None
) -> float | None:
    if name == "record_hot_us":
        return _of_record(rows.get(RECORDED))
    rows = (per_chunk or {}) if name == "chunk_added_us" else rows
    row = rows.get(ONE_LINE if name == "cpu_one_line_us" else FULL)
    if row is None or name == "cheaper_than_guide":
        return None if row is None else row[name]
    added = row["hot_added_us" if name == "hot_added_us" else "cpu_added_us"]
    # What a chunk adds is a difference of differences: the bests of four series tell less of it.
    measured: float = added["median" if name == "chunk_added_us" else "best"]
    return measured


def _of_record(row: dict[str, Any] | None) -> float | None:
    if row is None:
        return None
    best: float = row["hot_step_us"]["best"]
    return best


def _kept(name: str, measured: float | None) -> bool:
    if measured is None:
        return False
    return measured >= REACH[name] if name == "cheaper_than_guide" else measured <= REACH[name]


def _row(one: Series, bare: Series) -> dict[str, Any]:
    return {
        "hot_added_us": _told(_added(one.hot_us, bare.hot_us)),
        "hot_us": spread(one.hot_us),
        "cpu_step_us": None,
        "log_lines": one.lines / one.requests,
        **cost(one, bare),
    }


def cost(one: Series, bare: Series) -> dict[str, Any]:
    """What a subject takes, and what it adds to its bare app, as wall and as CPU time."""
    return {
        "wall_added_us": spread(_less(one.wall_us, bare.wall_us)),
        "cpu_added_us": _told(_added(one.cpu_us, bare.cpu_us)),
        "wall_us": spread(one.wall_us),
        "cpu_us": spread(one.cpu_us),
        "cpu_ratio_to_bare": median(a / b for a, b in zip(one.cpu_us, bare.cpu_us, strict=True)),
        "requests": one.requests,
        "gc_collections_per_100_000": [
            number * 100_000 / one.requests for number in one.collections
        ],
    }


def _less(one: list[float], bare: list[float]) -> list[float]:
    return [a - b for a, b in zip(one, bare, strict=True)]


def spread(values: list[float]) -> dict[str, float]:
    """Minimum, quartiles and maximum."""
    low, middle, high = (
        quantiles(values, n=4, method="inclusive") if len(values) > 1 else values * 3
    )
    return {"min": min(values), "q1": low, "median": middle, "q3": high, "max": max(values)}
