"""What is drawn: the figures of each plot, without the drawing."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from benchmarks.page_text import Results
from benchmarks.subjects import BARE, FULL, ONE_LINE

__all__ = ["Bar", "Bars", "Lines", "Plot", "plots"]

_OFF_THE_SCALE = 5
"""By how many times what the kit adds a subject may exceed it, and still be drawn on a linear axis."""


@dataclass(frozen=True, slots=True)
class Bar:
    """The best, up to the upper quartile; of what has none its median with its quartiles.

    The kit's own are ``stressed``.
    """

    label: str
    spread: dict[str, float]
    stressed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Bars:
    """A panel of bars; ``mark`` is what they are compared with. Beside another it is not ``named``."""

    title: str
    bars: list[Bar]
    log: bool = False
    mark: float | None = None
    named: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Lines:
    """A panel of lines by name, over sizes; both axes are logarithmic."""

    title: str
    size: str
    lines: dict[str, list[tuple[float, float]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plot:
    """A file of panels beside each other, and what they show in words."""

    name: str
    benchmark: str
    caption: str
    panels: Sequence[Bars | Lines]


def plots(results: list[Results]) -> list[Plot]:
    """All that the results suffice for; of several interpreters the first is drawn."""
    drawn = []
    for benchmark, finds in _FINDS.items():
        first = next((one for one in results if one.benchmark == benchmark), None)
        if first is not None:
            drawn += [_named_once(plot) for plot in finds(first.told) if _shows(plot)]
    return drawn


def _named_once(plot: Plot) -> Plot:
    """Panels beside each other that have the same names have them on the left alone."""
    panels = [plot.panels[0]]
    for panel in plot.panels[1:]:
        named = _names(panel) != _names(plot.panels[0])
        panels.append(replace(panel, named=named) if isinstance(panel, Bars) else panel)
    return replace(plot, panels=panels)


def _names(panel: Bars | Lines) -> list[str]:
    return [bar.label for bar in panel.bars] if isinstance(panel, Bars) else list(panel.lines)


def _shows(plot: Plot) -> bool:
    return any(panel.bars if isinstance(panel, Bars) else panel.lines for panel in plot.panels)


def _request(told: dict[str, Any]) -> Iterator[Plot]:
    scenarios = told["scenarios"]
    drawn, beyond = _within_scale(scenarios.get("GET", {}).get("subjects", {}))
    left_out = f" Too long to be drawn: {', '.join(beyond)}." if beyond else ""
    yield Plot(
        name="request-features",
        benchmark="request",
        caption=f"Added to a GET feature by feature, microseconds; quartiles are marked.{left_out}",
        panels=[
            Bars(title=title, bars=[Bar(n, row[key], n in (FULL, ONE_LINE)) for n, row in drawn])
            for title, key in (("hot path, +µs", "hot_added_us"), ("CPU, +µs", "cpu_added_us"))
        ],
    )
    yield Plot(
        name="request-scenarios",
        benchmark="request",
        caption="CPU time added to each kind of request with everything on, microseconds.",
        panels=[
            Bars(
                title=f"{title}, CPU, +µs",
                log=True,
                bars=[
                    Bar(name, scenario["subjects"][subject]["cpu_added_us"])
                    for name, scenario in scenarios.items()
                    if subject in scenario["subjects"]
                ],
            )
            for title, subject in (("one log line", ONE_LINE), ("two log lines", FULL))
        ],
    )


def _within_scale(subjects: dict[str, Any]) -> tuple[list[tuple[str, Any]], list[str]]:
    """The subjects that fit on an axis with the kit, and the names of those that do not."""
    most = _OFF_THE_SCALE * subjects[FULL]["cpu_added_us"]["best"] if FULL in subjects else None
    drawn, beyond = [], []
    for name, row in subjects.items():
        if most is not None and row["cpu_added_us"]["best"] > most > 0:
            beyond.append(name)
        elif name != BARE:
            drawn.append((name, row))
    return drawn, beyond


def _peers(told: dict[str, Any]) -> Iterator[Plot]:
    yield Plot(
        name="peers",
        benchmark="peers",
        caption="CPU time that the kit and others add to a request, microseconds.",
        panels=[
            Bars(
                title=f"{name}, CPU, +µs",
                log=True,
                bars=[
                    Bar(
                        f"{row['name']} ({row['around']})",
                        row["cpu_added_us"],
                        row["name"] in (FULL, ONE_LINE),
                    )
                    for row in scenario["subjects"]
                    if row["name"] != BARE
                ],
            )
            for name, scenario in told["scenarios"].items()
        ],
    )


def _growth(told: dict[str, Any]) -> Iterator[Plot]:
    yield Plot(
        name="growth",
        benchmark="growth",
        caption="What a request costs and what is held in memory, by how much has piled up.",
        panels=[
            Lines(
                title=title,
                size="how many",
                lines={
                    name: [(point["size"], _value(point[key])) for point in axis["points"]]
                    for name, axis in told["axes"].items()
                },
            )
            for title, key in (
                ("CPU added to a request, µs", "request_us"),
                ("memory held, KiB", "memory_kib"),
            )
        ],
    )


def _value(measured: float | dict[str, float]) -> float:
    return measured["median"] if isinstance(measured, dict) else measured


def _wire(told: dict[str, Any]) -> Iterator[Plot]:
    yield Plot(
        name="wire",
        benchmark="wire",
        caption="Over the wire, as a multiple of what the bare app does in the same round.",
        panels=[
            Bars(
                title=title,
                mark=1.0,
                bars=[
                    Bar(f"{server}: {name}", row[key], name in (FULL, ONE_LINE))
                    for server, found in told["servers"].items()
                    for name, row in found["loads"].get(load, {}).items()
                    if name != BARE
                ],
            )
            for title, load, key in (
                ("requests/s at saturation", "saturation", "requests_per_second_to_bare"),
                ("p99 at half load", "half load", "p99_us_to_bare"),
                ("CPU at half load", "half load", "cpu_us_to_bare"),
            )
        ],
    )


_FINDS: dict[str, Callable[[dict[str, Any]], Iterator[Plot]]] = {
    "request": _request,
    "growth": _growth,
    "wire": _wire,
    "peers": _peers,
}
