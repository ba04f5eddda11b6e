"""Lines of `top` that fit: cells, columns and sparklines, in what the terminal can show."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeAlias
from unicodedata import category

from rich.cells import cell_len, set_cell_size
from rich.text import Text

__all__ = [
    "Column",
    "Line",
    "Paper",
    "as_text",
    "fitted",
    "folded",
    "line",
    "rows_of",
    "spark",
    "widths_of",
]

_BLOCKS: Final = "▁▂▃▄▅▆▇█"
_ASCII_BLOCKS: Final = "_.,:-=*#"
_AS_ASCII: Final = str.maketrans(_BLOCKS, _ASCII_BLOCKS)
_MARKS: Final = ("Mn", "Me")
_MOST_MARKS: Final = 3  # on one character: more than people write
_GAP: Final = 2
_LEAST_WIDTH: Final = 14  # of a column that gives way
_LEAST_OF_FIRST: Final = 30  # of that which says what a row is
_MOST_WIDTH: Final = 120

Line: TypeAlias = tuple[tuple[str, str], ...]
"""Parts of a line, each with its style."""


class Paper(NamedTuple):
    """What is drawn on: so many cells, and an encoding."""

    width: int
    height: int
    encoding: str = "utf-8"

    def can_show(self, text: str) -> bool:
        """Whether the terminal has these characters."""
        try:
            text.encode(self.encoding)
        except (UnicodeError, LookupError):
            return False
        return True

    def encodable(self, text: str) -> str:
        """The text, with escapes for what the terminal does not have, or would pile up."""
        if text.isascii():
            return text
        told = _unpiled(text if self.can_show(_BLOCKS) else text.translate(_AS_ASCII))
        return told if self.can_show(told) else told.encode("ascii", "backslashreplace").decode()


def _unpiled(text: str) -> str:
    """With escapes for marks upon marks, which would cover the lines above."""
    made, marks = [], 0
    for each in text:
        marks = marks + 1 if category(each) in _MARKS else 0
        made.append(each if marks <= _MOST_MARKS else each.encode("unicode_escape").decode())
    return "".join(made)


class Column(NamedTuple):
    """One column: the higher its ``rank``, the sooner it is left out where there is no room.

    An optional one is left out too where all of its cells are empty.
    """

    title: str
    tell: Callable[[Mapping[str, Any]], str]
    rank: int = 0
    gives_way: bool = False
    is_number: bool = False
    is_optional: bool = False


def line(text: str, style: str = "") -> Line:
    """A line of one style."""
    return ((text, style),)


def fitted(parts: Line, paper: Paper) -> Line:
    """The line in exactly the width of the paper."""
    made, room = [], paper.width
    for text, style in parts:
        cut = _cropped(paper.encodable(text), room, paper)
        room -= cell_len(cut)
        made.append((cut, style))
    return (*made, (" " * max(0, room), parts[-1][1] if parts else ""))


def as_text(lines: Sequence[Line], *, is_stripped: bool = False) -> Text:
    """The lines as they are printed, without the room at their ends if that is no use."""
    made = Text(no_wrap=True, overflow="crop", end="" if not is_stripped else "\n")
    for at, parts in enumerate(lines):
        if at:
            made.append("\n")
        whole = Text()
        for text, style in parts:
            whole.append(text, style or None)
        if is_stripped:
            whole.rstrip()
        made.append_text(whole)
    return made


def _cropped(text: str, width: int, paper: Paper) -> str:
    if cell_len(text) <= width:
        return text
    mark = "…" if paper.can_show("…") else "~"
    return set_cell_size(text, width - 1) + mark if width > 0 else ""


def _cell(text: str, width: int, paper: Paper, *, is_number: bool) -> str:
    cut = _cropped(text, width, paper)
    room = " " * max(0, width - cell_len(cut))
    return room + cut if is_number else cut + room


def folded(text: str, paper: Paper, indent: str = "      ") -> list[str]:
    """A long line as several that fit, the further ones indented if there is room for that."""
    rest, lines = paper.encodable(text), []
    if paper.width <= len(indent) + 1:
        indent = ""
    while cell_len(rest) > paper.width > 1:
        taken = len(rest)
        while cell_len(rest[:taken]) > paper.width:
            taken -= max(1, (cell_len(rest[:taken]) - paper.width) // 2)
        lines.append(rest[:taken])
        rest = indent + rest[taken:]
    return [*lines, rest]


def widths_of(
    columns: Sequence[Column], cells: Sequence[Sequence[str]], width: int
) -> dict[int, int]:
    """How wide each column that has room is, by its place: those of the lowest ranks."""
    natural = [
        min(_MOST_WIDTH, max(cell_len(each.title), *(cell_len(row[at]) for row in cells), 0))
        for at, each in enumerate(columns)
    ]
    widths = {
        at: min(natural[at], _least_of(each)) if each.gives_way else natural[at]
        for at, each in enumerate(columns)
        if not each.is_optional or any(row[at] for row in cells)
    }
    while len(widths) > 1 and _room(widths, width) < 0:
        del widths[max(widths, key=lambda at: columns[at].rank)]
    for at in list(widths):
        if columns[at].gives_way:
            widths[at] += max(0, min(_room(widths, width), natural[at] - widths[at]))
    return widths


def _least_of(column: Column) -> int:
    return _LEAST_WIDTH if column.rank > 1 else _LEAST_OF_FIRST


def _room(widths: Mapping[int, int], width: int) -> int:
    return width - sum(widths.values()) - _GAP * (len(widths) - 1)


def rows_of(
    columns: Sequence[Column], rows: Sequence[Mapping[str, Any]], paper: Paper
) -> tuple[str, list[str]]:
    """The heading and a line for each row, all columns one below the other."""
    cells = [[paper.encodable(each.tell(row)) for each in columns] for row in rows]
    widths = widths_of(columns, cells, paper.width)

    def joined(texts: Sequence[str]) -> str:
        return (" " * _GAP).join(
            _cell(texts[at], width, paper, is_number=columns[at].is_number)
            for at, width in widths.items()
        )

    return joined([each.title for each in columns]), [joined(row) for row in cells]


def spark(numbers: Sequence[float | None], width: int) -> str:
    """The last numbers as blocks, the latest at the right; as high as the highest of those shown."""
    last = numbers[-width:] if width > 0 else []
    highest = max((each for each in last if each is not None), default=0.0)
    return "".join(_block(each, highest) for each in last)


def _block(number: float | None, highest: float) -> str:
    if number is None:
        return " "
    if highest <= 0 or number <= 0:
        return _BLOCKS[0]
    if number >= highest:  # also where both are beyond any number
        return _BLOCKS[-1]
    return _BLOCKS[min(len(_BLOCKS) - 1, int(number / highest * (len(_BLOCKS) - 1) + 0.5))]
