"""Which keys are pressed at a terminal, and the terminal as it was afterwards."""

import codecs
import os
import re
import select
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import MappingProxyType

from asgi_errorkit.cli.top.terminal import is_terminal

__all__ = ["QUIT", "Keyboard", "TerminalError", "keyboard", "parsed"]

QUIT = "quit"
"""What is read when the terminal is gone."""

Keyboard = Callable[[float], list[str]]
"""Waits for keys as long as that, and gives those that were pressed."""


class TerminalError(Exception):
    """There is no terminal any more."""


_SEQUENCE = re.compile(r"\x1b(?:\[[0-9;?]*[ -/]*[@-~]|O[@-~])")
_BEGUN = re.compile(r"\x1b(?:\[[0-9;?]*[ -/]*|O)?")
_MOST_BYTES = 1024
_PART_SECONDS = 0.05  # what a terminal sends for one key may come in two parts
_NAMES = MappingProxyType(
    {
        "A": "up",
        "B": "down",
        "C": "right",
        "D": "left",
        "F": "end",
        "H": "home",
        "Z": "backtab",
        "1~": "home",
        "4~": "end",
        "5~": "page_up",
        "6~": "page_down",
        "7~": "home",
        "8~": "end",
    }
)
_SINGLE = MappingProxyType(
    {
        "\x1b": "escape",
        "\r": "enter",
        "\n": "enter",
        "\t": "tab",
        "\x7f": "backspace",
        "\x08": "backspace",
        "\x03": QUIT,
    }
)
_WINDOWS = MappingProxyType(
    {
        "H": "up",
        "P": "down",
        "M": "right",
        "K": "left",
        "G": "home",
        "O": "end",
        "I": "page_up",
        "Q": "page_down",
        "\x0f": "backtab",
    }
)


def parsed(typed: str, *, is_all: bool = True) -> tuple[list[str], str]:
    """The keys, and what may be the beginning of another, which is none if this is all."""
    keys: list[str] = []
    at = 0
    while at < len(typed):
        sequence = _SEQUENCE.match(typed, at)
        if sequence is not None:
            keys.append(_NAMES.get(sequence[0][2:], ""))
            at = sequence.end()
            continue
        if typed[at] == "\x1b" and not is_all and _BEGUN.fullmatch(typed, at):
            return [key for key in keys if key], typed[at:]
        one = typed[at]
        keys.append(_SINGLE.get(one, one if one.isprintable() else ""))
        at += 1
    return [key for key in keys if key], ""


@contextmanager
def keyboard() -> Iterator[Keyboard]:
    """Reads keys one by one, unseen, while it is entered; none where there is no terminal."""
    if not is_terminal(sys.stdin):
        yield _no_keys
    elif sys.platform == "win32":
        yield _read_windows
    else:
        with _one_by_one(sys.stdin.fileno()) as read:
            yield read


def _no_keys(seconds: float) -> list[str]:
    time.sleep(seconds)
    return []


@contextmanager
def _one_by_one(file: int) -> Iterator[Keyboard]:
    """Without echo and lines; what Ctrl-C and Ctrl-Z do is done by signals, as ever."""
    import termios  # noqa: PLC0415  there is none on Windows

    try:
        before, mode = termios.tcgetattr(file), termios.tcgetattr(file)
        mode[3] &= ~(termios.ECHO | termios.ICANON)
        mode[6][termios.VMIN], mode[6][termios.VTIME] = 1, 0
        termios.tcsetattr(file, termios.TCSADRAIN, mode)
    except termios.error as error:
        raise TerminalError(*error.args) from error
    try:
        yield _Typed(file)
    finally:
        with suppress(termios.error):  # it is gone
            # Now: one that was stopped by Ctrl-S would never have written what it has to.
            termios.tcsetattr(file, termios.TCSANOW, before)


class _Typed:
    """Keys from a descriptor; keeps what was only half a character."""

    __slots__ = ("_decode", "_file")

    def __init__(self, file: int) -> None:
        self._file = file
        self._decode = codecs.getincrementaldecoder("utf-8")("ignore").decode

    def __call__(self, seconds: float) -> list[str]:
        part = self._read(seconds)
        if part is None:
            return [QUIT]
        keys, rest = parsed(part, is_all=False)
        if rest:
            more, _ = parsed(rest + (self._read(_PART_SECONDS) or ""))
            keys += more
        return keys

    def _read(self, seconds: float) -> str | None:
        try:
            ready, _, _ = select.select([self._file], [], [], seconds)
            if not ready:
                return ""
            got = os.read(self._file, _MOST_BYTES)
        except OSError:
            return None
        return self._decode(got) if got else None


def _read_windows(seconds: float) -> list[str]:
    import msvcrt  # noqa: PLC0415  there is none elsewhere

    console: dict[str, Callable[..., object]] = vars(msvcrt)
    until = time.monotonic() + seconds
    while not console["kbhit"]() and time.monotonic() < until:
        time.sleep(_PART_SECONDS)
    keys: list[str] = []
    while console["kbhit"]():
        one = str(console["getwch"]())
        if one in ("\0", "\xe0"):
            keys.append(_WINDOWS.get(str(console["getwch"]()), ""))
        else:
            keys += parsed(one)[0]
    return [key for key in keys if key]
