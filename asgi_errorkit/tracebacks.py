"""Where an exception passed through: the entries of its traceback, and its frames, each set once."""

from collections.abc import Callable
from operator import is_
from types import CodeType, TracebackType
from typing import Final, TypeAlias

__all__ = ["INNERMOST", "OUTERMOST", "Frames", "passed", "traceback_of", "walk"]

OUTERMOST: Final = 10
INNERMOST: Final = 40

# An exception object that is raised again and again (a module's constant, say) grows its traceback
# with each raise; nobody reads beyond this.
_MAX_WALK = 5000
_MAX_KNOWN = 1024

Frames: TypeAlias = tuple[tuple[CodeType, int], ...]
"""(code object, line number) of each, outermost first."""

# The interpreter's own slot: a class may define a property of this name that raises.
traceback_of: Callable[[BaseException], TracebackType | None]
traceback_of = vars(BaseException)["__traceback__"].__get__

# By the instructions that the frames had come to; the code objects are compared, and kept alive.
_known: dict[tuple[int, ...], tuple[list[CodeType], Frames]] = {}


def walk(exc: BaseException) -> tuple[list[TracebackType], int]:
    """The outermost ten and the innermost forty entries of a traceback, and how many lay between."""
    entries = []
    entry = traceback_of(exc)
    for _ in range(_MAX_WALK):
        if entry is None:
            break
        entries.append(entry)
        entry = entry.tb_next
    gap = len(entries) - OUTERMOST - INNERMOST
    if gap <= 0:
        return entries, 0
    return entries[:OUTERMOST] + entries[-INNERMOST:], gap


def passed(exc: BaseException) -> tuple[Frames, int]:
    """The frames of the entries of `walk`, and how many lay between.

    For exceptions that came the same way it is the same tuple, as long as few others have come
    since: looking up one line number costs as much as the rest of an entry.
    """
    entries, gap = walk(exc)
    codes = [entry.tb_frame.f_code for entry in entries]
    came_to = tuple([entry.tb_lasti for entry in entries])
    known = _known.get(came_to)
    # Not by ==, to which code of two files can be equal.
    if known is not None and len(known[0]) == len(codes) and all(map(is_, known[0], codes)):
        return known[1], gap
    frames = tuple([(code, e.tb_lineno) for code, e in zip(codes, entries, strict=True)])
    if len(_known) >= _MAX_KNOWN:
        _known.clear()
    _known[came_to] = codes, frames
    return frames, gap
