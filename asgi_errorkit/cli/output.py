"""What every command prints with: lines and tables for people, or one JSON document."""

import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeAlias

import orjson

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

__all__ = ["Columns", "counted", "new_console", "print_json", "print_text", "say", "table"]

_NEEDED = ("rich.console", "rich.table", "rich.text")
_PIPED_WIDTH = 160
_COLUMN_WIDTH = 64
_FOREIGN = re.compile(r"[^ -~\n]")

Columns: TypeAlias = Mapping[str, Callable[[Mapping[str, Any]], str]]
"""How each cell of a row is written, by the heading of its column."""


def new_console() -> "Console":
    """Where tables are printed. Raises ImportError without rich."""
    for module in _NEEDED:
        import_module(module)
    from rich.console import Console  # noqa: PLC0415  needs an extra

    width = None if sys.stdout.isatty() else _PIPED_WIDTH
    return Console(width=width, highlight=False, markup=False, emoji=False)


def say(console: "Console", line: str, style: str = "") -> None:
    """Print one line as it is, however long."""
    from rich.text import Text  # noqa: PLC0415  needs an extra

    console.print(Text(_encodable(console, line), style), soft_wrap=True)


def table(console: "Console", columns: Columns, rows: Sequence[Mapping[str, Any]]) -> "Table":
    """The rows under their headings; no width of the terminal leaves anything out."""
    from rich.table import Table  # noqa: PLC0415  needs an extra
    from rich.text import Text  # noqa: PLC0415

    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for name in columns:
        # A long text takes more lines; nothing of an id or a path is left out.
        made.add_column(name, overflow="fold", max_width=_COLUMN_WIDTH)
    for row in rows:
        made.add_row(*(Text(_encodable(console, tell(row))) for tell in columns.values()))
    return made


def counted(console: "Console", title: str, heading: str, counts: Mapping[str, str]) -> "Table":
    """A table of two columns: what there is of each name."""
    columns: Columns = {title: lambda row: str(row["name"]), heading: lambda row: str(row["told"])}
    return table(console, columns, [{"name": name, "told": told} for name, told in counts.items()])


def print_json(found: Mapping[str, Any]) -> int:
    """In ASCII, so that any terminal shows it and none obeys it."""
    document = orjson.dumps(found, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE).decode()
    return print_text(_FOREIGN.sub(_escaped_for_json, document))


def print_text(text: str) -> int:
    """Print it, and return the exit status."""
    try:
        print(text, end="", flush=True)
    except BrokenPipeError:  # who reads it has seen enough; Python would complain at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _escaped_for_json(found: re.Match[str]) -> str:
    units = found[0].encode("utf-16-be")
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))


def _encodable(console: "Console", text: str) -> str:
    return text.encode(console.encoding, "backslashreplace").decode(console.encoding)
