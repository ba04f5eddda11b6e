"""A framework's stock 500, held back until it is known whether an exception follows it.

Starlette sends a complete "Internal Server Error" and then raises the exception on. The answer
that was asked for can replace it only if it has not been sent; any other response is let through.
"""

import sys
from collections.abc import Awaitable, Mapping

from asgi_errorkit.choices import Answers
from asgi_errorkit.exchange import Exchange
from asgi_errorkit.fingerprint import is_any_of
from asgi_errorkit.response import FILE_BODIES, body, start, watch_file
from asgi_errorkit.types import Message, Scope, Send

__all__ = [
    "after_held",
    "has_last_resort",
    "holds",
    "is_stock_body",
    "is_stock_start",
    "let_go",
    "nothing",
    "release",
]

_STOCK = b"Internal Server Error"

_STARLETTE = frozenset(("starlette.applications.Starlette",))


async def nothing() -> None:
    """Stands for a message that is held back."""


def holds(exchange: Exchange, message: Message) -> bool:
    """Hold the start of a response back if it may be a stock 500.

    Only one that is sent while an exception is being handled, and by no handler of the app's own
    for it: who chose these words by itself is neither corrected nor kept waiting for its
    background task.
    """
    handled = sys.exc_info()[0]
    if exchange.held is not None or handled is None:
        return False  # nothing is held twice, nor what is sent in place of what was held
    if any(cls.__name__ == "HTTPException" for cls in handled.__mro__):
        return False
    scope = exchange.scope
    if exchange.started or scope is None or not is_stock_start(message):
        return False
    if has_last_resort(scope):  # what is registered there has answered
        return False
    exchange.held = [message]
    return True


def is_stock_start(message: Message) -> bool:
    """Whether a start announces exactly the bytes that Starlette answers with."""
    given = message.get("headers")
    if type(given) is not list:  # what can be read but once is not ours to read
        return False
    try:
        headers = dict(given)
    except (TypeError, ValueError):
        return False
    return headers.get(b"content-length") == b"%d" % len(_STOCK)


def is_stock_body(message: Message) -> bool:
    """Whether a message is the whole of Starlette's stock answer."""
    return (
        message.get("type") == "http.response.body"
        and message.get("body") == _STOCK
        and not message.get("more_body")
    )


def has_last_resort(scope: Scope) -> bool:
    """Whether a Starlette or FastAPI application has a handler of its own for any exception."""
    app = scope.get("app")
    if app is None or not is_any_of(type(app), _STARLETTE):
        return False
    handlers = getattr(app, "exception_handlers", None)
    return isinstance(handlers, Mapping) and (500 in handlers or Exception in handlers)


def after_held(
    exchange: Exchange, answers: Answers | None, message: Message, send: Send, header: bytes
) -> Awaitable[None]:
    """Take what follows a held start: hold the stock body too, or let all of it go."""
    held = exchange.held or []
    if len(held) == 1 and answers is not None and is_stock_body(message):
        held.append(message)
        return nothing()
    return release(exchange, [*held, message], send, header)


async def release(exchange: Exchange, messages: list[Message], send: Send, header: bytes) -> None:
    """Send what was held back, noted as if it had been sent at once."""
    exchange.held = []
    for message in messages:
        if message.get("type") == "http.response.start":
            await send(start(exchange, message, exchange.now(), header))
            continue
        if message.get("type") == "http.response.body":
            body(exchange, message, exchange.now())
        elif message.get("type") in FILE_BODIES:
            watch_file(exchange, message, exchange.now())
        await send(message)


async def let_go(exchange: Exchange, exc: BaseException, send: Send, header: bytes) -> None:
    """Send what was held back when the app is cancelled or the process leaves, as it would be."""
    held = exchange.held
    if not held or isinstance(exc, GeneratorExit):  # a coroutine that is closed may not wait
        return
    try:
        await release(exchange, held, send, header)
    except Exception:  # noqa: BLE001, S110  the client has gone too: what is under way goes on
        pass
