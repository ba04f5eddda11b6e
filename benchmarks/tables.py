"""Prints figures as aligned tables."""

from collections.abc import Sequence
from typing import Any

__all__ = ["print_table", "scenario_table"]

_COLUMNS = (
    "subject",
    "hot path +us",
    "(q1-q3)",
    "wall +us",
    "CPU +us",
    "(min q1-q3)",
    "x bare",
    "guide / this",
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


def _cells(name: str, row: dict[str, Any]) -> list[str]:
    hot, wall, cpu = row["hot_added_us"], row["wall_added_us"], row["cpu_added_us"]
    cheaper = row["cheaper_than_guide"]
    return [
        name,
        f"{hot['median']:.2f}",
        f"({hot['q1']:.2f}-{hot['q3']:.2f})",
        f"{wall['median']:.2f}",
        f"{cpu['median']:.2f}",
        f"({cpu['min']:.2f} {cpu['q1']:.2f}-{cpu['q3']:.2f})",
        f"{row['cpu_ratio_to_bare']:.2f}",
        "-" if cheaper is None else f"{cheaper:,.0f}",
        "/".join(f"{number:.0f}" for number in row["gc_collections_per_100_000"]),
    ]
