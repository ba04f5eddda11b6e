"""What an exception means for its exchange: a failure, a client that left, or the server's word."""

from types import CodeType, TracebackType
from typing import Any

from asgi_errorkit.choices import Answers, Choices
from asgi_errorkit.exchange import Caught, Exchange
from asgi_errorkit.fingerprint import snapshot, type_name
from asgi_errorkit.holding import release
from asgi_errorkit.types import Send

__all__ = ["failed", "fill_silence", "is_disconnect", "note", "note_within", "raised_by"]

# What frameworks and servers raise into the app when its client has gone.
_DISCONNECTS = frozenset(
    (
        "django.core.exceptions.RequestAborted",
        "falcon.errors.WebSocketDisconnected",
        "litestar.exceptions.websocket_exceptions.WebSocketDisconnect",
        "starlette.requests.ClientDisconnect",
        "starlette.websockets.WebSocketDisconnect",
        "uvicorn.protocols.utils.ClientDisconnected",
    )
)

_MOST_LEAVES = 20
_traceback_of: Any = vars(BaseException)["__traceback__"].__get__
_leaves_of: Any = vars(BaseExceptionGroup)["exceptions"].__get__


async def failed(
    exchange: Exchange, exc: Exception, choices: Choices, send: Send, watched_send: Send
) -> bool:
    """Record what escaped the app; True when it was answered and need not go any further."""
    answers = choices.answers
    held, exchange.held = exchange.held, None
    if is_disconnect(exchange, exc):
        gone = exchange.disconnected or not exchange.complete
        exchange.disconnected = gone or raised_by(
            exc, exchange.send
        )  # its last piece has not arrived
    else:
        await note(exchange, exc, choices)
        scope = exchange.scope
        if (
            answers
            and scope is not None
            and not exchange.started
            and not raised_by(exc, exchange.send)
        ):
            return await answers.answer(exchange, exc, scope, watched_send, held or [])
    if held:
        await release(exchange, held, send, choices.ids.header)
    return False


async def note(exchange: Exchange, exc: Exception, choices: Choices) -> None:
    """Keep what is to be known of an error: its snapshot and the verdict on it."""
    counted_by: tuple[int, ...] = ()
    if exchange.seen is not None and exchange.seen[0] is exc:
        if exchange.caught is not None:
            return  # by a frame further in
        counted_by = exchange.seen[1]
    exchange.caught = Caught(
        snapshot(exc), choices.classifier(exc), counted_by=counted_by, late=exchange.complete
    )
    exchange.seen = (exc, counted_by)
    if choices.answers is not None:
        await choices.answers.observe(exchange, exc)


def note_within(exchange: Exchange, exc: BaseException, choices: Choices) -> None:
    """Keep the errors that a group carries beside the cancellation that lets it pass."""
    if exchange.caught is None and any(issubclass(type(leaf), Exception) for leaf in _leaves(exc)):
        exchange.caught = Caught(snapshot(exc), choices.classifier(exc), late=exchange.complete)


async def fill_silence(exchange: Exchange, answers: Answers, send: Send) -> None:
    """Answer for an app that has returned without a word: servers differ, and daphne hangs."""
    if exchange.scope is None or exchange.disconnected:
        return
    silence = RuntimeError("the app returned without a response")
    await answers.answer(exchange, silence, exchange.scope, send, [])
    exchange.complete = False  # what is complete is not the app's


def is_disconnect(exchange: Exchange, exc: Exception) -> bool:
    """Whether an exception only says that the client has gone."""
    leaves = _leaves(exc)
    return bool(leaves) and all(_is_one_disconnect(exchange, leaf) for leaf in leaves)


def _leaves(exc: BaseException) -> list[BaseException]:
    """The exception itself, or the plain ones of a group; none where there are too many to look at."""
    leaves, pending = [], [exc]
    for _ in range(_MOST_LEAVES):
        each = pending.pop()
        if issubclass(type(each), BaseExceptionGroup):
            pending += _leaves_of(each)[: _MOST_LEAVES + 1]
        else:
            leaves.append(each)
        if not pending:
            return leaves
    return []


def _is_one_disconnect(exchange: Exchange, exc: BaseException) -> bool:
    # By type(exc), since looking at an attribute may run the exception's own code.
    kind = type(exc)
    if any(type_name(cls) in _DISCONNECTS for cls in kind.__mro__):
        return True
    return issubclass(kind, OSError) and (
        (exchange.disconnected and issubclass(kind, ConnectionError))
        or raised_by(exc, exchange.send)
    )


def raised_by(exc: BaseException, send: Send | None) -> bool:
    """Whether the server's own send raised it: such an error is the server's to see.

    Told by the traceback, so only for a server written in Python.
    """
    code = _code_of(send)
    if code is None:
        return False
    traceback: TracebackType | None = _traceback_of(exc)
    while traceback is not None:
        if traceback.tb_frame.f_code is code:
            return True
        traceback = traceback.tb_next
    return False


def _code_of(function: Any) -> CodeType | None:
    """The code behind a function, a method, a partial, or an object that is called."""
    for _ in range(8):
        code = getattr(function, "__code__", None)
        if isinstance(code, CodeType):
            return code
        inner = getattr(function, "__func__", None) or getattr(function, "func", None)
        function = inner or getattr(type(function), "__call__", None)  # noqa: B004  its code is asked for
    return None
