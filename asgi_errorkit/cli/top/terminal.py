"""The terminal that `top` is shown at: what it can do, how large it is, and that it is given back."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TextIO

from rich.console import Console
from rich.live import Live

__all__ = ["can_show_live", "console_here", "is_terminal", "let_go", "screen", "size_of_terminal"]

_USUAL_SIZE = (80, 24)
_NO_WRAP, _WRAP = "\x1b[?7l", "\x1b[?7h"


def console_here() -> Console:
    """Where it is shown."""
    return Console(highlight=False, markup=False, emoji=False)


def is_terminal(stream: TextIO | None) -> bool:
    """Whether somebody sits there."""
    try:
        return stream is not None and stream.isatty()
    except ValueError:  # it was closed
        return False


def can_show_live(console: Console) -> bool:
    """Whether there is a terminal that can be drawn on."""
    return is_terminal(sys.stdout) and console.is_terminal and not console.is_dumb_terminal


def size_of_terminal() -> tuple[int, int]:
    """As it is now; it may not know."""
    try:
        size = os.get_terminal_size(sys.stdout.fileno())
    except (OSError, ValueError):
        return _USUAL_SIZE
    return (size.columns or _USUAL_SIZE[0], size.lines or _USUAL_SIZE[1])


@contextmanager
def screen(console: Console) -> Iterator[Live]:
    """The other screen of the terminal while it is entered, and then the one before.

    Its lines are not wrapped: terminals do not agree how wide some characters are, and one line that
    takes two would move all others.
    """
    live = Live(
        console=console,
        screen=True,
        auto_refresh=False,
        redirect_stdout=False,
        redirect_stderr=False,
    )
    try:
        with live:
            _write(console, _NO_WRAP)
            yield live
    finally:
        _write(console, _WRAP)
        if console.is_alt_screen:  # something was raised while it was entered
            console.set_alt_screen(False)
            console.show_cursor()


def _write(console: Console, sequence: str) -> None:
    if not console.legacy_windows:
        console.file.write(sequence)
        console.file.flush()


def let_go() -> None:
    """Write no more to a terminal that is gone, for Python would try again at exit, and complain."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
