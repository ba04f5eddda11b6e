"""The screen of `top` while it runs, and the terminal as it was when it ends."""

import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from rich.console import Console, ConsoleDimensions
from rich.live import Live
from rich.text import Text

from asgi_errorkit.cli.top_history import History
from asgi_errorkit.cli.top_keys import Keyboard, keyboard
from asgi_errorkit.cli.top_lines import Line, Paper
from asgi_errorkit.cli.top_reader import Reader, looked
from asgi_errorkit.cli.top_screen import Look, draw, everything, group_id_of
from asgi_errorkit.cli.top_source import Source
from asgi_errorkit.cli.top_state import Seen, State, pressed

__all__ = ["can_show_live", "console_here", "printed_once", "show_live"]

_TICK_SECONDS = 0.1
_USUAL_SIZE = (80, 24)
_PIPED_WIDTH = 160
_ENDING = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")


class _EndedError(BaseException):
    """A signal has asked the process to end, and not for the first time."""


def console_here() -> Console:
    """Where it is shown."""
    return Console(highlight=False, markup=False, emoji=False)


def can_show_live(console: Console) -> bool:
    """Whether there is a terminal that can be drawn on."""
    return sys.stdout.isatty() and console.is_terminal and not console.is_dumb_terminal


def printed_once(source: Source, console: Console) -> str | None:
    """Print one picture; why that cannot be, if so."""
    look = looked(source, Look(name=source.name), None)
    if look.picture is None:
        return look.problem
    width = _size()[0] if sys.stdout.isatty() else _piped_width()
    console.width = width
    paper = Paper(width, 0, console.encoding)
    lines = everything(look, History(), paper)
    with console.capture() as captured:
        console.print(_text(lines, is_stripped=True), soft_wrap=True)
    try:
        print(captured.get(), end="", flush=True)
    except BrokenPipeError:  # who reads it has seen enough; Python would complain at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return None


def _piped_width() -> int:
    told = os.environ.get("COLUMNS", "")
    return max(20, min(int(told), 1000)) if told.isdecimal() else _PIPED_WIDTH


def show_live(source: Source, console: Console, every_seconds: float) -> int:
    """Show it until somebody ends it; the exit status."""
    reader = Reader(source, every_seconds)
    try:
        with _signals() as asked, keyboard() as keys:
            reader.start()
            with Live(
                console=console,
                screen=True,
                auto_refresh=False,
                redirect_stdout=False,
                redirect_stderr=False,
            ) as live:
                _watch(live, reader, keys, asked)
    except _EndedError:
        return 128 + asked[0]
    finally:
        reader.stop()
        if console.is_alt_screen:  # something was raised while it was entered
            console.set_alt_screen(False)
            console.show_cursor()
    return 128 + asked[0] if asked and asked[0] != signal.SIGINT else 0


def _watch(live: Live, reader: Reader, keys: Keyboard, asked: list[int]) -> None:
    """Draw what is new, and do what the keys say, until one of them or a signal ends it."""
    history, state, seen = History(), State(), Seen()
    drawn: object = None
    read_at = 0.0
    while not (state.is_over or asked):
        look, size = reader.latest(), _size()
        if look.picture is not None and look.read_at != read_at:
            history.add(look.picture)
            read_at = look.read_at
        if drawn != (id(look), state, size):
            lines, seen = draw(look, history, state, Paper(*size, live.console.encoding))
            live.console.size = ConsoleDimensions(*size)
            live.update(_text(lines), refresh=True)
            drawn = (id(look), state, size)
        for key in keys(_TICK_SECONDS):
            state = pressed(state, key, seen)
            _, seen = draw(look, history, state, Paper(*size, live.console.encoding))
        reader.want(group_id_of(state), is_paused=state.is_paused)


def _size() -> tuple[int, int]:
    """Of the terminal as it is now; it may not know."""
    try:
        size = os.get_terminal_size(sys.stdout.fileno())
    except (OSError, ValueError):
        return _USUAL_SIZE
    return (size.columns or _USUAL_SIZE[0], size.lines or _USUAL_SIZE[1])


def _text(lines: Sequence[Line], *, is_stripped: bool = False) -> Text:
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


@contextmanager
def _signals() -> Iterator[list[int]]:
    """Which signals have asked the process to end, while it is entered.

    The first is only noted: raised anywhere, it could be lost, or leave the terminal half restored.
    The second is raised, for then something holds up.
    """
    asked: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    numbers = [getattr(signal, name) for name in _ENDING if hasattr(signal, name)]

    def note(number: int, _: FrameType | None) -> None:
        asked.append(number)
        if len(asked) == 2:
            raise _EndedError(number)

    before = [(number, signal.signal(number, note)) for number in numbers]
    try:
        yield asked
    finally:
        for number, handler in before:
            signal.signal(number, handler)
