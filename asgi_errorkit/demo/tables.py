"""Plain text for the report of the demo: sections under rules, tables, and JSON to look at."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

__all__ = ["Row", "pretty", "section", "table"]

_WIDTH = 78
_MOST_WIDTH = 100
_TAIL = 40

Row: TypeAlias = Sequence[object]


def section(title: str, lines: Iterable[str]) -> Iterator[str]:
    """A title, a rule that is as wide as all that is under it, and the lines."""
    under = list(lines)
    yield ""
    yield title
    yield "-" * max(_WIDTH, *map(len, under), 0)
    yield from under


def table(headings: Row, rows: Iterable[Row], *, indent: str = "  ") -> list[str]:
    """Rows under their headings, text to the left and numbers to the right; None is left blank."""
    cells = [[_text(cell) for cell in row] for row in rows]
    heads = [str(heading) for heading in headings]
    widths = [max(map(len, column)) for column in zip(heads, *cells, strict=True)]
    right = [_is_number(column) for column in zip(*cells, strict=True)] or [False] * len(heads)
    lines = []
    for row in [heads, *cells]:
        parts = [
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(row, widths, right, strict=True)
        ]
        lines.append((indent + "  ".join(parts)).rstrip())
    return lines


def pretty(document: Mapping[str, Any]) -> Iterator[str]:
    """A JSON object line by line, in ASCII; of a line that is too long the middle is left out."""
    for line in json.dumps(document, indent=2).splitlines():
        yield "  " + _cut(line, _MOST_WIDTH - 2)


def _cut(line: str, width: int) -> str:
    return line if len(line) <= width else f"{line[: width - _TAIL - 5]} ... {line[-_TAIL:]}"


def _text(cell: object) -> str:
    if cell is None:
        return ""
    if isinstance(cell, float):
        return f"{cell:.1f}"
    return f"{cell:,}" if isinstance(cell, int) else str(cell)


def _is_number(column: Sequence[str]) -> bool:
    return all(cell[:1].isdigit() or not cell for cell in column)
