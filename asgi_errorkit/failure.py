"""What an exception means for its exchange: a failure, a client that left, or the server's word."""

from collections.abc import Mapping
from types import CodeType, TracebackType
from typing import Any

from asgi_errorkit.choices import Answers, Choices
from asgi_errorkit.errors import PublicError
from asgi_errorkit.exchange import (
    CHOICES,
    CURRENT,
    KEY,
    Caught,
    Exchange,
    Seen,
    is_cut_off,
    state_in,
    told_of,
)
from asgi_errorkit.fingerprint import is_any_of, is_in_app, snapshot, type_name
from asgi_errorkit.holding import has_last_resort, holds, release
from asgi_errorkit.told import remember
from asgi_errorkit.types import Message, Send

__all__ = [
    "answering",
    "failed",
    "failing",
    "feed",
    "fill_silence",
    "has_left",
    "is_disconnect",
    "met_amid",
    "note",
    "note_within",
    "raised_by",
    "says_gone",
    "swallowed",
    "tell",
    "tell_apart",
]

# What frameworks and servers raise into the app when its client has gone.
_DISCONNECTS = frozenset(
    (
        "blacksheep.exceptions.MessageAborted",
        "blacksheep.server.websocket.WebSocketDisconnectError",
        "django.core.exceptions.RequestAborted",
        "falcon.errors.WebSocketDisconnected",
        "litestar.exceptions.websocket_exceptions.WebSocketDisconnect",
        "starlette.requests.ClientDisconnect",
        "starlette.websockets.WebSocketDisconnect",
        "uvicorn.protocols.utils.ClientDisconnected",
    )
)

# What frameworks raise from the true exception, and how it begins where its class says too little.
_WRAPPERS = {
    "RuntimeError": "Caught handled exception, but response already started",  # Starlette
    "litestar.exceptions.base_exceptions.LitestarException": "",
}

# What those of asyncio and anyio say, of one error or of several.
_TASK_GROUP = "unhandled errors in a TaskGroup"

# What they raise then without a class of its own.
_DISCONNECT_WORDS = {"ValueError": "WSGI wrapper received a non-HTTP-request message"}  # asgiref

# What a server may raise when it writes to a client that has gone; not ConnectionRefusedError, with
# which the application itself was turned away.
_LOST = (ConnectionResetError, ConnectionAbortedError, BrokenPipeError)

_MOST_WRAPPERS = 8
_MOST_LEAVES = 1000
_traceback_of: Any = vars(BaseException)["__traceback__"].__get__
_cause_of: Any = vars(BaseException)["__cause__"].__get__
_context_of: Any = vars(BaseException)["__context__"].__get__
_args_of: Any = vars(BaseException)["args"].__get__
_leaves_of: Any = vars(BaseExceptionGroup)["exceptions"].__get__


def failing(exchange: Exchange, choices: Choices, message: Message) -> bool:
    """Look closer at the start of a response of 500 or more; True when it is held back for now.

    What the application has told of before, or logged, is taken for what failed.
    """
    answers, seen, status = choices.answers, exchange.seen, message.get("status")
    if isinstance(status, int) and status < 500:
        return False  # of an enumeration of them
    if answers is not None and status == 500 and holds(exchange, message):
        return True
    if seen is not None and exchange.caught is None and isinstance(seen.exc, Exception):
        keep(exchange, seen.exc, exchange.choices)
    return False


async def failed(
    exchange: Exchange, exc: Exception, choices: Choices, send: Send, watched_send: Send
) -> bool:
    """Record what escaped the app; True when it was answered and need not go any further."""
    answers = choices.answers
    is_left = has_last_resort(exchange.scope or {}) and not _was_asked(exchange)
    held, exchange.held = exchange.held, []  # from now on nothing is held
    if has_left(exchange, exc):
        remember(exc)
        gone = exchange.disconnected or not exchange.complete
        exchange.disconnected = gone or raised_by(
            exc, exchange.send
        )  # its last piece has not arrived
    elif not _is_cut_off(exchange):  # else whoever cuts it off tells of it, and answers
        await note(exchange, exc, choices)
        scope = exchange.scope
        if (
            answers
            and scope is not None
            and not exchange.started
            and not raised_by(exc, exchange.send)
            and not is_left
        ):
            return await answers.answer(exchange, exc, scope, watched_send, held or [])
    if held:
        await release(exchange, held, send, choices.ids.header)
    return False


def _was_asked(exchange: Exchange) -> bool:
    """Whether the application's own handler for any exception has run.

    It stands further out where the kit is one of the middlewares of a Starlette or FastAPI app.
    """
    return exchange.seen is not None and exchange.seen.answered


async def note(exchange: Exchange, exc: Exception, choices: Choices) -> None:
    """Keep what is to be known of an error that has escaped, and tell the application's hook."""
    keep(exchange, exc, choices)
    await tell(exchange, choices)


def keep(
    exchange: Exchange,
    exc: Exception,
    choices: Choices,
    *,
    handled: bool = False,
    despite_status: bool = False,
) -> bool:
    """Keep an error's snapshot and the verdict on it; False when that is known already."""
    seen, caught = _seen_of(exchange, exc), exchange.caught
    remember(exc)
    handled = handled or (seen is not None and seen.answered and _is_answered(exchange))
    if caught is not None and (handled or (seen is not None and not caught.handled)):
        return False  # by a frame further in, or a worse one before
    counted_by = seen.counted_by if seen is not None else ()
    true = _unwrapped(exc)
    answered = seen is not None and seen.answered
    is_fed = not _is_cut_off(exchange)
    exchange.caught = caught = (Caught if is_fed else _Amid)(
        snapshot(true),
        choices.classifier(true),
        late=exchange.complete,
        counted_by=counted_by,
        handled=handled,
        despite_status=despite_status,
    )
    if is_fed and not handled:
        _learn(exchange, true, caught, choices)
    exchange.seen = Seen(exc, counted_by, untold=not handled, answered=answered)
    remember(true)
    return True


class _Amid(Caught):
    """What is kept of an error of a request that is being cut off: the breakers do not hear of it,
    for it is told as the cause of that."""

    __slots__ = ()


def feed(exchange: Exchange) -> None:
    """Tell the breakers of an error that was kept amid a cut which has come to nothing."""
    caught, seen = exchange.caught, exchange.seen
    if type(caught) is not _Amid:
        return
    exchange.caught = caught = Caught(*caught)
    if not caught.handled:
        true = None if seen is None or not isinstance(seen.exc, Exception) else _unwrapped(seen.exc)
        _learn(exchange, true, caught, exchange.choices)


def met_amid(exchange: Exchange) -> Exception | None:
    """The error that a framework has answered, or has had answered, amid a cut."""
    seen = exchange.seen
    if type(exchange.caught) is not _Amid or seen is None:
        return None
    return seen.exc if isinstance(seen.exc, Exception) else None


def _seen_of(exchange: Exchange | None, exc: BaseException) -> Seen | None:
    """Whom an exception was told to, if it is the one that was met last."""
    seen = exchange.seen if exchange is not None else None
    return seen if seen is not None and seen.exc is exc else None


def _learn(
    exchange: Exchange, true: BaseException | None, caught: Caught, choices: Choices
) -> None:
    """Tell the breakers at once, which are not to open a drain too late; and why it ended so."""
    ends_as = getattr(true, "ends_as", None) if issubclass(type(true), PublicError) else None
    if exchange.ended_as is None:
        exchange.ended_as = ends_as
    # Being refused is no news of what is failing: it would keep a circuit open for ever.
    if choices.learn is not None and ends_as not in ("circuit_open", "shed"):
        choices.learn(caught)


def _is_answered(exchange: Exchange) -> bool:
    """Whether the response is complete, and none of a failure."""
    return exchange.complete and (exchange.status or 500) < 500


def _unwrapped(exc: Exception) -> BaseException:
    """The exception that a framework, or several of its layers, put into one of its own."""
    true: BaseException = exc
    for _ in range(_MOST_WRAPPERS):
        cause = _cause_of(true)
        if cause is None or not _wraps(true):
            break
        true = cause
    # By type(true), since looking at an attribute may run the exception's own code.
    if issubclass(type(true), BaseExceptionGroup) and (true is not exc or _is_of_others(true)):
        leaves = _leaves(true)
        return leaves[0] if len(leaves) == 1 else true
    return true


def _is_of_others(group: BaseException) -> bool:
    """Whether it is of a task group that a framework or a server runs the application in."""
    if not _says(group, _TASK_GROUP):
        return False
    traceback: TracebackType | None = _traceback_of(group)
    while traceback is not None:
        if is_in_app(traceback.tb_frame.f_code):
            return False
        traceback = traceback.tb_next
    return True


def _wraps(exc: BaseException) -> bool:
    beginning = _WRAPPERS.get(type_name(type(exc)))
    return beginning is not None and _says(exc, beginning)


def _says(exc: BaseException, beginning: str) -> bool:
    """Whether its words begin so; any words do where no beginning is asked for."""
    words = (*_args_of(exc), None)[0]
    return not beginning or (type(words) is str and words.startswith(beginning))


async def tell(exchange: Exchange, choices: Choices) -> None:
    """Tell the application's own hook of what it has not heard of yet."""
    seen = exchange.seen
    if seen is None or not seen.untold or choices.answers is None:
        return
    exchange.seen = seen._replace(untold=False)
    if isinstance(seen.exc, Exception):
        await choices.answers.observe(exchange, seen.exc)


def swallowed(
    exc: BaseException,
    scope: Any = None,
    *,
    by: str,
    handled: bool = False,
    despite_status: bool = False,
    apart: bool = False,
) -> Exchange | None:
    """Keep an error that a framework is about to answer by itself; a hook in it calls this.

    Callable from any thread. The exchange is that of ``scope``, else the current one; None when
    there is none, or it did not ask for what is captured ``by`` that framework. ``handled`` is for
    what the application has a handler of its own for, ``despite_status`` for what is a failure of
    the server's although it is answered with a status below 500, ``apart`` for what went on beside
    the request, as a task, and did not fail it. The framework's answer is left as it is. An
    exchange that has ended (its background tasks go on) is told of by a record of its own.
    """
    exchange = _asking(scope, by)
    if exchange is None or not issubclass(type(exc), Exception):
        return exchange
    error: Any = exc  # not by isinstance: it may run the exception's own code
    if exchange.scope is None or apart:
        if not says_gone(error):
            tell_apart(exchange, error, exchange.choices)
    elif is_disconnect(exchange, error):
        remember(error)
        if has_left(exchange, error):
            exchange.disconnected = exchange.disconnected or not exchange.complete
    else:
        keep(exchange, error, exchange.choices, handled=handled, despite_status=despite_status)
    return exchange


def answering(exc: BaseException, scope: Any, *, by: str) -> None:
    """Know that a handler of the application's own is asked to answer what is raised on afterwards.

    A hook in the framework calls this before the handler runs. Where the response has started the
    handler is not what answers; else the status that it sends says how bad the error is.
    """
    exchange = _asking(scope, by)
    if exchange is None or exchange.scope is None or exchange.started:
        return
    seen = _seen_of(exchange, exc)
    counted_by = seen.counted_by if seen is not None else ()
    exchange.seen = Seen(exc, counted_by, answered=True)


def _asking(scope: Any, by: str) -> Exchange | None:
    """The exchange of a scope, else the current one, if it asked for what is captured ``by``."""
    if isinstance(scope, Mapping):
        # One without an exchange is that of a request made within another, around the kit.
        state = state_in(scope) if KEY in scope else None
    else:
        state = CURRENT.get()
    if state is None or state[CHOICES] is None or by not in state[CHOICES].captures:
        return None
    return Exchange(state)


def tell_apart(exchange: Exchange | None, exc: Exception, choices: Choices) -> None:
    """Publish a record of its own for an error beside a request, after it, or outside of any.

    A tracker that the application has told of it does not count it again.
    """
    remember(exc)
    seen = _seen_of(exchange, exc)
    counted_by = seen.counted_by if seen is not None else ()
    caught = Caught(snapshot(exc), choices.classifier(exc), late=True, counted_by=counted_by)
    if choices.learn is not None:
        choices.learn(caught)
    choices.recorder.publish(told_of(exchange, caught, choices.recorder.clock))


def note_within(exchange: Exchange, exc: BaseException, choices: Choices) -> None:
    """Keep the errors that a group carries beside the cancellation that lets it pass."""
    if exchange.caught is not None or not isinstance(exc, BaseExceptionGroup):
        return
    leaves = _leaves(exc)
    errors = [leaf for leaf in leaves if issubclass(type(leaf), Exception)]
    if errors and all(_is_one_disconnect(exchange, error) for error in errors):
        exchange.disconnected = exchange.disconnected or not exchange.complete
    elif errors or not leaves:
        exchange.caught = Caught(snapshot(exc), choices.classifier(exc), late=exchange.complete)
        if choices.learn is not None:
            choices.learn(exchange.caught)


async def fill_silence(exchange: Exchange, answers: Answers, send: Send) -> None:
    """Answer for an app that has returned without a word: servers differ, and daphne hangs."""
    if exchange.scope is None or exchange.disconnected or _is_cut_off(exchange):
        return
    exchange.held = []
    silence = RuntimeError("the app returned without a response")
    await answers.answer(exchange, silence, exchange.scope, send, [])
    exchange.complete = False  # what is complete is not the app's


def is_disconnect(exchange: Exchange, exc: BaseException) -> bool:
    """Whether an exception only says that the client has gone; `has_left` tells whether it has."""
    leaves = _leaves(exc)
    return bool(leaves) and all(_is_one_disconnect(exchange, leaf) for leaf in leaves)


def has_left(exchange: Exchange, exc: BaseException) -> bool:
    """Whether an exception only says that the client has gone, and it was not the kit that said so
    first, to have the app end that it cuts off."""
    if not is_disconnect(exchange, exc):
        return False
    if not _is_cut_off(exchange):
        return True
    return any(_comes_from(exchange.send, leaf) for leaf in _leaves(exc))


def _comes_from(send: Send | None, exc: BaseException) -> bool:
    """Whether the server's own send raised it, or what it was raised in place of."""
    chain = [exc]
    while len(chain) < _MOST_WRAPPERS and (before := _context_of(chain[-1])) is not None:
        chain.append(before)
    return any(raised_by(each, send) for each in chain)


def _is_cut_off(exchange: Exchange) -> bool:
    """As `is_cut_off`: of a frame further in too, whose exchange is its own view of the outer one."""
    scope = exchange.scope
    return is_cut_off(exchange.state if scope is None or KEY not in scope else state_in(scope))


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
    if says_gone(exc):
        return True
    is_told = exchange.disconnected or _is_cut_off(exchange)
    words = _DISCONNECT_WORDS.get(type_name(kind)) if is_told else None
    if words is not None and _says(exc, words):
        return True
    return issubclass(kind, OSError) and (
        (exchange.disconnected and issubclass(kind, _LOST)) or raised_by(exc, exchange.send)
    )


def says_gone(exc: BaseException) -> bool:
    """Whether it is of a class that frameworks and servers raise when the client has gone."""
    return is_any_of(type(exc), _DISCONNECTS)


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
