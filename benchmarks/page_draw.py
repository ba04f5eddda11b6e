"""Draws plots as SVG, the same bytes each time. Needs matplotlib, from the extra "bench"."""

from collections.abc import Iterable
from io import StringIO
from math import ceil, floor, log10
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from benchmarks.page_plots import Bars, Lines, Plot
from benchmarks.page_text import figure

__all__ = ["draw"]

# The names that matplotlib knows are a type of its own, and another in each release.
_SETTINGS: dict[Any, Any] = {
    "svg.hashsalt": "asgi-errorkit",  # else the ids in the file are new each time
    "svg.fonttype": "none",  # text stays text
    "font.sans-serif": ["DejaVu Sans", "sans-serif"],  # named at each text
    "font.size": 9.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
}
_PLAIN, _STRESSED = "#8da3b8", "#c2410c"
_LINES = ("#1d4ed8", "#c2410c", "#15803d", "#7e22ce", "#a16207", "#0e7490", "#be185d", "#374151")
_WIDTH, _HEIGHT_OF_A_BAR, _HEIGHT_OF_LINES = 9.0, 0.22, 4.4


def draw(plot: Plot, file: Path) -> None:
    """Write one plot. The white background is drawn, so that it can be read on a dark page."""
    with mpl.rc_context(_SETTINGS):
        sheet = Figure(figsize=(_WIDTH, _height(plot)), layout="constrained", facecolor="white")
        axes = sheet.subplots(1, len(plot.panels), squeeze=False)[0]
        for place, panel in zip(axes, plot.panels, strict=True):
            if isinstance(panel, Bars):
                _draw_bars(place, panel)
            else:
                _draw_lines(place, panel)
        if isinstance(plot.panels[0], Lines):
            names = axes[0].get_legend_handles_labels()
            sheet.legend(*names, loc="outside lower center", ncols=3, frameon=False)
        drawn = StringIO()
        sheet.savefig(drawn, format="svg", metadata={"Date": None, "Creator": None})
    # A fifth of it is indentation.
    lines = (line.strip() for line in drawn.getvalue().splitlines())
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _height(plot: Plot) -> float:
    most = max(len(panel.bars) if isinstance(panel, Bars) else 0 for panel in plot.panels)
    return 0.9 + _HEIGHT_OF_A_BAR * most if most else _HEIGHT_OF_LINES


def _draw_bars(axes: Axes, panel: Bars) -> None:
    values = [bar.spread.get("best", bar.spread["median"]) for bar in panel.bars]
    places = range(len(values))
    whiskers = [
        [
            0.0 if "best" in bar.spread else v - bar.spread["q1"]
            for bar, v in zip(panel.bars, values, strict=True)
        ],
        [max(0.0, bar.spread["q3"] - v) for bar, v in zip(panel.bars, values, strict=True)],
    ]
    colours = [_STRESSED if bar.stressed else _PLAIN for bar in panel.bars]
    thin = {"elinewidth": 0.8, "ecolor": "#1f2937"}
    drawn = axes.barh(places, values, xerr=whiskers, color=colours, error_kw=thin, log=panel.log)
    axes.bar_label(drawn, [figure(value) for value in values], padding=3, fontsize=7)
    axes.margins(x=0.2, y=0.01)
    if panel.log:
        lowest, highest = _decades(bar.spread["q3"] for bar in panel.bars)
        axes.set_xlim(lowest, highest * 2)  # room for the label
        _plain_numbers(axes.xaxis)
    axes.set_yticks(places, [bar.label for bar in panel.bars] if panel.named else [])
    axes.tick_params(axis="y", left=False)
    axes.invert_yaxis()
    axes.set_title(panel.title, fontsize="medium")
    axes.grid(axis="x", color="#d1d5db", linewidth=0.5)
    axes.set_axisbelow(True)
    if panel.mark is not None:
        axes.axvline(panel.mark, color="#1f2937", linewidth=0.8, linestyle="--")


def _draw_lines(axes: Axes, panel: Lines) -> None:
    axes.set_xscale("log")
    axes.set_yscale("log")
    for number, (name, points) in enumerate(panel.lines.items()):
        # A logarithmic axis has no place for what noise made nothing or less.
        shown = [(size, value) for size, value in points if value > 0]
        sizes, values = [size for size, _ in shown], [value for _, value in shown]
        colour = _LINES[number % len(_LINES)]
        axes.plot(sizes, values, marker="o", markersize=3, linewidth=1.2, color=colour, label=name)
    axes.set_ylim(*_decades(value for points in panel.lines.values() for _, value in points))
    for axis in (axes.xaxis, axes.yaxis):
        _plain_numbers(axis)
    axes.set_xlabel(panel.size)
    axes.set_title(panel.title, fontsize="medium")
    axes.grid(color="#d1d5db", linewidth=0.5)


def _decades(values: Iterable[float]) -> tuple[float, float]:
    """The powers of ten around all values, so that at least two are written beside the axis."""
    logs = [log10(value) for value in values if value > 0] or [0.0]
    lowest = floor(min(logs))
    return 10.0**lowest, 10.0 ** max(ceil(max(logs)), lowest + 1)


def _plain_numbers(axis: Axis) -> None:
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    axis.set_minor_locator(NullLocator())
