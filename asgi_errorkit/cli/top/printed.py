"""The picture of `top` that is printed once, for scripts and where there is no terminal."""

import os
import sys

from rich.console import Console

from asgi_errorkit.cli.top.history import History
from asgi_errorkit.cli.top.lines import Paper, as_text
from asgi_errorkit.cli.top.reader import looked
from asgi_errorkit.cli.top.screen import Look, everything
from asgi_errorkit.cli.top.source import Source
from asgi_errorkit.cli.top.terminal import is_terminal, size_of_terminal

__all__ = ["printed_once"]

_PIPED_WIDTH = 160


def printed_once(source: Source, console: Console) -> str | None:
    """Print one picture; why that cannot be, if so."""
    look = looked(source, Look(name=source.name), None)
    if look.picture is None:
        return look.problem
    console.width = size_of_terminal()[0] if is_terminal(sys.stdout) else _piped_width()
    lines = everything(look, History(), Paper(console.width, 0, console.encoding))
    with console.capture() as captured:
        console.print(as_text(lines, is_stripped=True), soft_wrap=True)
    return _print(captured.get())


def _piped_width() -> int:
    told = os.environ.get("COLUMNS", "")
    return max(20, min(int(told), 1000)) if told.isdecimal() else _PIPED_WIDTH


def _print(text: str) -> str | None:
    if sys.stdout is None:
        return "there is nowhere to print it: the standard output is closed"
    try:
        print(text, end="", flush=True)
    except OSError as error:
        # Python would complain at exit of what is left to be written.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):  # whoever read it has seen enough
            return f"it cannot be printed: {error}"
    return None
