"""What the thread of an event loop is at, and for which exchange, seen from another thread."""

import gc
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextvars import Context
from inspect import CO_ASYNC_GENERATOR, CO_COROUTINE, CO_ITERABLE_COROUTINE
from itertools import takewhile
from types import CodeType, FrameType
from typing import Any, Final, NamedTuple

from asgi_errorkit.exchange import CURRENT, State
from asgi_errorkit.fingerprint import is_in_app
from asgi_errorkit.tracebacks import Frames

__all__ = ["Glimpse", "base_of", "blamed", "can_look", "glimpse", "is_waiting"]

_MOST_FRAMES = 1000
_MOST_KEPT = 50
_COROUTINE = CO_COROUTINE | CO_ASYNC_GENERATOR | CO_ITERABLE_COROUTINE

_BASES: Final = frozenset({("asyncio.events", "_run"), ("trio._core._run", "unrolled_run")})

# Whoever stands still at a breakpoint is looked at by a person already.
_DEBUGGERS: Final = frozenset("bdb pdb pydevd debugpy _pydevd_bundle _pydevd_frame_eval".split())

# The kit's own frames around an app: each has the exchange as ``state``.
_SERVES: Final = frozenset(
    {("asgi_errorkit.frame", "serve"), ("asgi_errorkit.session", "serve_session")}
)


class Glimpse(NamedTuple):
    """One look: the frames above the loop's own, outermost first, and whose they were.

    ``seconds`` is the time since the look before, for which it stands.
    """

    frames: Frames
    state: State | None
    is_debugged: bool
    seconds: float


def can_look() -> bool:
    """Whether the frames of a thread that runs can be read.

    Where threads run without a lock that all share, that may crash the interpreter.
    """
    is_gil_enabled: Callable[[], bool] | None = getattr(sys, "_is_gil_enabled", None)
    return is_gil_enabled is None or is_gil_enabled()


def base_of(frame: FrameType | None) -> CodeType | None:
    """What runs the task that ``frame`` belongs to: asyncio's handle, or trio's loop.

    A loop written in C, such as uvloop, has no frame: then it is what runs the loop, which lies
    right below the outermost coroutine. None outside of a task.
    """
    frames = list(_outwards(frame))
    named = next((each.f_code for each in frames if _name(each) in _BASES), None)
    if named is not None:
        return named
    inside = [n for n, each in enumerate(frames) if each.f_code.co_flags & _COROUTINE]
    if not inside or inside[-1] + 1 == len(frames):
        return None
    return frames[inside[-1] + 1].f_code


def is_waiting(frame: FrameType, base: CodeType) -> bool:
    """Whether the loop is between two callbacks, seen by the innermost frame of its thread.

    Then it waits for something to do, or is about to. Of a loop written in C that looks as a
    callback does that is written in C.
    """
    if frame.f_code is base:
        return frame.f_globals.get("__name__") != "asyncio.events"
    return not any(each.f_code is base for each in _outwards(frame))


def glimpse(frame: FrameType, base: CodeType, loop: Any, seconds: float) -> Glimpse:
    """What the thread whose innermost frame this is runs now.

    The context variable that holds the exchange is another thread's. So the exchange is asked of
    the kit's own frame, if that is on the stack, else of the context of what the loop runs: a task
    that the application has started bears that of its request.
    """
    known = list(_outwards(frame))
    above = list(takewhile(lambda each: each.f_code is not base, known))
    frames = tuple((each.f_code, each.f_lineno or 0) for each in reversed(above or known[:1]))
    return Glimpse(
        frames[-_MOST_KEPT:],
        _served(above) or _bearing(known[len(above) : len(above) + 1], loop),
        any(_name(each)[0].partition(".")[0] in _DEBUGGERS for each in above),
        seconds,
    )


def blamed(glimpses: Sequence[Glimpse]) -> tuple[Glimpse, int]:
    """The look that shows best what held the loop up, and which of its frames is to blame.

    That is the innermost function of the application that was on the stack for half of the time or
    more, at the line where it was for longest. Without one it is the innermost function of all.
    """
    depth, within = _majority(glimpses)
    if depth is None:
        within = [each for each in glimpses if _innermost_in_app(each.frames) is not None]
        places = [(each, _innermost_in_app(each.frames) or 0) for each in within]
    else:
        places = [(each, depth) for each in within]
    if not places:
        return glimpses[0], len(glimpses[0].frames) - 1
    longest: Counter[tuple[CodeType, int]] = Counter()
    for each, at in places:
        longest[each.frames[at]] += each.seconds  # type: ignore[assignment]  # it adds floats too
    line = longest.most_common(1)[0][0]
    return next((each, at) for each, at in places if each.frames[at] == line)


def _majority(glimpses: Sequence[Glimpse]) -> tuple[int | None, list[Glimpse]]:
    """How deep the innermost function of the application lies that took half of the time, and where."""
    half = sum(each.seconds for each in glimpses) / 2
    found: tuple[int | None, list[Glimpse]] = (None, [])
    within = list(glimpses)
    for depth in range(_MOST_KEPT):
        by_code: dict[CodeType, list[Glimpse]] = {}
        for each in within:
            if depth < len(each.frames):
                by_code.setdefault(each.frames[depth][0], []).append(each)
        within = max(by_code.values(), key=_seconds, default=[])
        if not within or _seconds(within) < half:
            break
        if _is_named(within[0].frames[depth][0]):
            found = depth, within
    return found


def _seconds(glimpses: Sequence[Glimpse]) -> float:
    return sum(each.seconds for each in glimpses)


def _is_named(code: CodeType) -> bool:
    """Whether it is code of the application that a file holds."""
    return not code.co_filename.startswith("<") and is_in_app(code)


def _innermost_in_app(frames: Frames) -> int | None:
    places = range(len(frames) - 1, -1, -1)
    return next((n for n in places if _is_named(frames[n][0])), None)


def _outwards(frame: FrameType | None) -> Iterator[FrameType]:
    for _ in range(_MOST_FRAMES):
        if frame is None:
            return
        yield frame
        frame = frame.f_back


def _name(frame: FrameType) -> tuple[str, str]:
    return str(frame.f_globals.get("__name__")), frame.f_code.co_name


def _served(frames: Sequence[FrameType]) -> State | None:
    """That of the innermost frame of the kit which has opened one; those that join it have none."""
    states = (each.f_locals.get("state") for each in frames if _name(each) in _SERVES)
    return next((state for state in states if isinstance(state, list)), None)


def _bearing(base: Sequence[FrameType], loop: Any) -> State | None:
    """The exchange in the context of the task or callback that the frame ``base`` runs."""
    state = _state_in(_task(loop))
    if state is None and base:
        names = base[0].f_locals
        # A handle of asyncio's is its own ``self``; trio's loop has the task at hand.
        state = _state_in(names.get("self")) or _state_in(names.get("task"))
    return state


def _task(loop: Any) -> Any:
    try:
        return sys.modules["asyncio"].current_task(loop)
    except (KeyError, AttributeError, RuntimeError, TypeError):  # a loop of trio's
        return None


def _state_in(source: Any) -> State | None:
    # Before Python 3.12 a task does not tell its context, but what it refers to can be seen.
    context = getattr(source, "_context", None) or getattr(source, "context", None)
    contexts = [each for each in (context, *gc.get_referents(source)) if type(each) is Context]
    return contexts[0].get(CURRENT) if contexts else None
