"""From measurements to figures: what each subject adds to the bare app, and how sure that is."""

from statistics import median, quantiles
from typing import Any

from benchmarks.measure import Series
from benchmarks.subjects import BARE, FULL, GUIDE

__all__ = ["REACH", "cost", "figures", "reach", "spread"]

REACH = {"hot_added_us": 2.0, "cpu_added_us": 6.0, "cheaper_than_guide": 100.0}
"""What was promised of a request with its start and its completion logged."""


def figures(series: dict[str, Series], *, guide: bool) -> dict[str, dict[str, Any]]:
    """The figures of one scenario by subject; microseconds a unit.

    What is added is the subject's less the bare app's of the same round, so that a machine that
    slows down for a while slows both.
    """
    bare = series[BARE]
    rows = {name: _row(one, bare) for name, one in series.items()}
    guide_cpu = rows[GUIDE]["cpu_added_us"]["median"]
    for row in rows.values():
        added = row["cpu_added_us"]["median"]
        row["cheaper_than_guide"] = guide_cpu / added if guide and added > 0 else None
    return rows


def reach(rows: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Each promise, what was measured of it, and whether it is kept."""
    row = rows[FULL]
    measured = {
        "hot_added_us": row["hot_added_us"]["median"],
        "cpu_added_us": row["cpu_added_us"]["median"],
        "cheaper_than_guide": row["cheaper_than_guide"],
    }
    return {
        name: {"wanted": wanted, "measured": measured[name], "kept": _kept(name, measured[name])}
        for name, wanted in REACH.items()
    }


def _kept(name: str, measured: float | None) -> bool:
    if measured is None:
        return False
    return measured >= REACH[name] if name == "cheaper_than_guide" else measured <= REACH[name]


def _row(one: Series, bare: Series) -> dict[str, Any]:
    return {
        "hot_added_us": spread(_less(one.hot_us, bare.hot_us)),
        "hot_us": spread(one.hot_us),
        **cost(one, bare),
    }


def cost(one: Series, bare: Series) -> dict[str, Any]:
    """What a subject takes, and what it adds to its bare app, as wall and as CPU time."""
    return {
        "wall_added_us": spread(_less(one.wall_us, bare.wall_us)),
        "cpu_added_us": spread(_less(one.cpu_us, bare.cpu_us)),
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
