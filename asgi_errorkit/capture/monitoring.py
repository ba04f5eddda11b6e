"""Where nothing else tells: the exception that left the application before a 500 was answered.

Python 3.12 and newer tell of each frame that an exception leaves, and of each that handles one
(`sys.monitoring`). What has left a frame of the application, and was handled by none, is taken for
what failed if a response of 500 or more follows: the last one, should there be several. What
frameworks and libraries raise and handle among themselves never is. Whatever the application
handles is its own business, also if it then answers with a 500.

An error that comes through no frame of the application is not known by this, such as that of a
value which its framework cannot send; neither is any of an application that is installed among the
packages, because nothing tells its frames from theirs.
"""

import logging
import sys
import threading
import weakref
from types import CodeType
from typing import Any

from asgi_errorkit.exchange import (
    CAUGHT,
    CHOICES,
    CURRENT,
    DISCONNECTED,
    SCOPE,
    SEEN,
    STATUS,
    Exchange,
    Seen,
    State,
)
from asgi_errorkit.failure import is_disconnect
from asgi_errorkit.fingerprint import is_in_app

__all__ = ["install"]

NAME = "monitoring"

logger = logging.getLogger("asgi_errorkit")

_monitoring: Any = getattr(sys, "monitoring", None)
_TOOLS = (3, 4)  # the others are for debuggers, coverage, profilers and optimizers
_MOST_BEFORE = 3
_MOST_FILES = 4096

_ENDS = (StopIteration, StopAsyncIteration)

# By these an object says that it has no such thing, to hasattr or to whoever reads a mapping.
_ANSWERS: dict[str, type[Exception]] = {
    "__getattr__": AttributeError,
    "__getattribute__": AttributeError,
    "__getitem__": LookupError,
    "__missing__": LookupError,
}

_current = CURRENT.get
_OF_ITS_VALUE = (OSError, BaseExceptionGroup)  # whether they say that the client has gone

_plain: "weakref.WeakSet[type]" = weakref.WeakSet()  # those that do not: to find out takes 10 us
_is_of_app: dict[str, bool] = {}  # by the file's name: the hash of a code object is slow
_owners: set["weakref.ref[Any]"] = set()
_lock = threading.RLock()  # re-entrant, because an owner may be collected at any time
_tool: int | None = None
_has_warned = False


class _Left(Seen):
    """An exception that has left the application, and those that had before it."""

    before: tuple[BaseException, ...] = ()


def install(owner: Any) -> None:
    """Watch the exceptions of this process for as long as an owner lives that has asked for it."""
    with _lock:
        _owners.add(weakref.ref(owner, _let_go))
        if _tool is None:
            _begin()
    if _tool is None:
        _warn()


def _let_go(owner: "weakref.ref[Any]") -> None:
    with _lock:
        _owners.discard(owner)
        if not _owners and _tool is not None:
            _end(_tool)


def _begin() -> None:
    global _tool  # noqa: PLW0603  a process has one sys.monitoring
    for tool in _TOOLS:
        try:
            _monitoring.use_tool_id(tool, "asgi_errorkit")
        except ValueError:  # somebody else's
            continue
        _tool = tool
        for event, callback in _callbacks():
            _monitoring.register_callback(tool, event, callback)
        _monitoring.set_events(tool, sum(event for event, _ in _callbacks()))
        return


def _warn() -> None:
    global _has_warned  # noqa: PLW0603  once is enough
    if _has_warned:
        return
    _has_warned = True
    users = " and ".join(repr(_monitoring.get_tool(tool)) for tool in _TOOLS)
    logger.warning(
        'capture="monitoring" does without: %s use both of the ids that sys.monitoring has for '
        "tools like this",
        users,
    )


def _end(tool: int) -> None:
    global _tool  # noqa: PLW0603  a process has one sys.monitoring
    _tool = None
    _monitoring.set_events(tool, 0)
    for event, _ in _callbacks():  # an id that is freed keeps them, before Python 3.14
        _monitoring.register_callback(tool, event, None)
    _monitoring.free_tool_id(tool)


def _callbacks() -> tuple[tuple[int, Any], ...]:
    events = _monitoring.events
    return (events.PY_UNWIND, _note_left), (events.EXCEPTION_HANDLED, _note_handled)


# These two are called for every frame that any exception of the process comes to. To return
# DISABLE is not possible: for these events it raises into the code that is watched. They take one
# of the frames that the limit of recursion allows: whoever raises reaches it a frame earlier.


def _note_left(code: CodeType, _: int, exc: BaseException) -> None:
    """Remember what leaves a frame of the application, until the response has started."""
    state = _current()
    if state is None or _is_of_app.get(code.co_filename) is False:
        return
    if state[SCOPE] is None or state[STATUS] is not None or state[CAUGHT] is not None:
        return
    seen = state[SEEN]
    if seen is not None and (seen.__class__ is not _Left or seen.exc is exc):
        return  # what the log or the application itself has told of is not replaced
    try:
        if _is_in_app(code) and _may_fail(exc, code, state):
            left = state[SEEN] = _Left(exc)
            if seen is not None:
                left.before = _without((*seen.before, seen.exc), exc)[-_MOST_BEFORE:]
    except Exception:  # noqa: BLE001, S110  whatever was raised: it goes on as it was
        pass


def _note_handled(code: CodeType, _: int, exc: BaseException) -> None:
    """Forget what a frame of the application handles; should it go on, it leaves that frame too."""
    state = _current()
    if state is None:
        return
    seen = state[SEEN]
    if seen.__class__ is not _Left or (seen.exc is not exc and not seen.before):
        return
    try:
        if _is_in_app(code):
            state[SEEN] = _last(_without((*seen.before, seen.exc), exc))
    except Exception:  # noqa: BLE001, S110  as above
        pass


def _last(left: tuple[BaseException, ...]) -> _Left | None:
    if not left:
        return None
    last = _Left(left[-1])
    last.before = left[:-1]
    return last


def _without(many: tuple[BaseException, ...], exc: BaseException) -> tuple[BaseException, ...]:
    return tuple([each for each in many if each is not exc])


def _may_fail(exc: BaseException, code: CodeType, state: State) -> bool:
    """Whether it is an error, neither a client that left nor an object's answer to a question."""
    kind = type(exc)
    if NAME not in state[CHOICES].captures or not issubclass(kind, Exception):
        return False
    if issubclass(kind, _ANSWERS.get(code.co_name, ())) or issubclass(kind, _ENDS):
        return False
    if kind in _plain and not state[DISCONNECTED]:
        return True
    if is_disconnect(Exchange(state), exc):
        return False
    if not issubclass(kind, _OF_ITS_VALUE):
        _plain.add(kind)
    return True


def _is_in_app(code: CodeType) -> bool:
    """Whether it is code of the application, as the groups of errors mean it."""
    name = code.co_filename
    known = _is_of_app.get(name)
    if known is None:
        if len(_is_of_app) >= _MOST_FILES:  # of code that is generated
            _is_of_app.clear()
        # What is in no file was made by a library: Sanic's router, the __init__ of a dataclass.
        known = _is_of_app[name] = is_in_app(code) and name[:1] not in ("", "<")
    return known
