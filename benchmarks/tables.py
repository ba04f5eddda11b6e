"""Prints figures as aligned tables."""

from collections.abc import Sequence
from typing import Any

__all__ = ["chunk_table", "print_table", "promise_table", "scenario_table"]

_COLUMNS = (
    "subject",
    "hot path +us",
    "median (q1-q3)",
    "wall +us",
    "CPU +us",
    "median (q1-q3)",
    "step +us",
    "x bare",
    "guide / this",
    "lines",
    "gc 0/1/2 per 100,000",
)


def print_table(rows: Sequence[Sequence[str]]) -> None:
    """The first row heads the columns; the first column is text, the others are figures."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for number, (first, *others) in enumerate(rows):
        cells = [first.ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        print("  ".join(cells).rstrip())
        if number == 0:
            print("  ".join("-" * width for width in widths))


def scenario_table(rows: dict[str, dict[str, Any]]) -> list[list[str]]:
    """One scenario's figures as rows of text."""
    return [list(_COLUMNS), *(_cells(name, row) for name, row in rows.items())]


def chunk_table(per_chunk: dict[str, dict[str, Any]]) -> list[list[str]]:
    """What is added to each further chunk, as rows of text."""
    columns = ["subject", "hot path +us", "median (q1-q3)", "CPU +us", "median (q1-q3)"]
    return [columns, *([name, *_middles(row)] for name, row in per_chunk.items())]


def _middles(row: dict[str, Any]) -> list[str]:
    hot, cpu = row["hot_added_us"], row["cpu_added_us"]
    return [
        f"{hot['best']:.3f}",
        f"{hot['median']:.3f} ({hot['q1']:.3f}-{hot['q3']:.3f})",
        f"{cpu['best']:.3f}",
        f"{cpu['median']:.3f} ({cpu['q1']:.3f}-{cpu['q3']:.3f})",
    ]


def promise_table(promises: list[tuple[str, dict[str, Any]]]) -> list[list[str]]:
    """Promises, each with a text to tell it by, as rows of text."""
    return [
        ["", "wanted", "measured", "kept"],
        *([text, *_judged(promise)] for text, promise in promises),
    ]


def _judged(promise: dict[str, Any]) -> list[str]:
    measured = promise["measured"]
    return [
        f"{promise['wanted']:g}",
        "-" if measured is None else f"{measured:.2f}",
        "yes" if promise["kept"] else "no",
    ]


def _cells(name: str, row: dict[str, Any]) -> list[str]:
    hot, wall, cpu = row["hot_added_us"], row["wall_added_us"], row["cpu_added_us"]
    step, cheaper = row["cpu_step_us"], row["cheaper_than_guide"]
    return [
        name,
        f"{hot['best']:.2f}",
        f"{hot['median']:.2f} ({hot['q1']:.2f}-{hot['q3']:.2f})",
        f"{wall['median']:.2f}",
        f"{cpu['best']:.2f}",
        f"{cpu['median']:.2f} ({cpu['q1']:.2f}-{cpu['q3']:.2f})",
        "-" if step is None else f"{step['median']:.2f}",
        f"{row['cpu_ratio_to_bare']:.2f}",
        "-" if cheaper is None else f"{cheaper:,.0f}",
        f"{row['log_lines']:.3g}",
        "/".join(f"{number:.0f}" for number in row["gc_collections_per_100_000"]),
    ]
