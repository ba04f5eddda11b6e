"""Websocket sessions: watched and recorded like requests, never answered."""

from collections.abc import Awaitable
from typing import Any

from asgi_errorkit.apps import coroutine_marker
from asgi_errorkit.choices import Choices
from asgi_errorkit.exchange import (
    CURRENT,
    KEY,
    METHOD,
    PATH,
    PLACE,
    STARTED,
    Exchange,
    begin,
    is_open,
    leave,
    state_in,
)
from asgi_errorkit.failure import is_disconnect, note, note_within
from asgi_errorkit.joining import begin_running, enter, gather
from asgi_errorkit.response import headers_of, start, with_header
from asgi_errorkit.told import remember
from asgi_errorkit.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["serve_session"]

# The places in a session: messages from the client, to it, and the close code.
_IN, _OUT, _CODE = range(3)


async def serve_session(
    app: ASGIApp, choices: Choices, scope: Scope, receive: Receive, send: Send
) -> Any:
    """Run the app for one websocket; an exception is recorded and goes on to the server."""
    if is_open(scope):
        return await _joined(app, Exchange(state_in(scope)), choices, scope, receive, send)
    recorder = choices.recorder
    if choices.number not in recorder.begun:
        begin_running(choices, scope)
    headers = headers_of(scope)
    request_id = choices.ids.of(headers.get(choices.ids.header))
    memory = recorder.sampler.memory_mb
    state = begin(scope, headers, request_id, recorder.clock, memory, choices.logs, send, choices)
    exchange = Exchange(state)
    exchange.session = [0, 0, None]

    async def watched_receive() -> Message:
        message = await receive()
        _received(exchange, message)
        return message

    def watched_send(message: Message) -> Awaitable[None]:
        return send(_sent(exchange, choices, message))

    mark = coroutine_marker()
    if mark is not None:
        mark(watched_send)
    scope[KEY] = state.copy
    recorder.open(state)
    if recorder.ledger is not None:
        state[PLACE] = recorder.ledger.begin(
            request_id, state[METHOD], state[PATH], state[STARTED], memory
        )
    token = CURRENT.set(state)
    try:
        return await _noted(app, exchange, choices, scope, watched_receive, watched_send)
    finally:
        leave(token)
        try:
            if choices.collect is not None:
                gather(exchange, choices.collect, scope)
        finally:
            recorder.finish(state)


async def _joined(
    app: ASGIApp, exchange: Exchange, choices: Choices, scope: Scope, receive: Receive, send: Send
) -> Any:
    """Within the session that a frame further out has opened; who answers errors judges them."""
    enter(exchange, choices)
    try:
        if choices.answers is None:
            return await app(scope, receive, send)
        return await _noted(app, exchange, choices, scope, receive, send)
    finally:
        if choices.collect is not None:
            gather(exchange, choices.collect, scope)


async def _noted(
    app: ASGIApp, exchange: Exchange, choices: Choices, scope: Scope, receive: Receive, send: Send
) -> Any:
    try:
        return await app(scope, receive, send)
    except Exception as exc:
        if is_disconnect(exchange, exc):
            remember(exc)
            exchange.disconnected = exchange.disconnected or not exchange.complete
        else:
            await note(exchange, exc, choices)
        raise
    except BaseException as exc:
        exchange.interrupted = True
        note_within(exchange, exc, choices)
        raise


def _received(exchange: Exchange, message: Message) -> None:
    kind = message.get("type")
    session = exchange.session
    if session is None:
        return
    if kind == "websocket.receive":
        session[_IN] = (session[_IN] or 0) + 1
        exchange.received += _size(message)
    elif kind == "websocket.disconnect" and not exchange.complete:
        exchange.disconnected = exchange.complete = True
        exchange.ended_at = exchange.now()
        code = message.get("code")
        session[_CODE] = 1005 if code is None else code  # daphne says None


def _sent(exchange: Exchange, choices: Choices, message: Message) -> Message:
    kind = message.get("type")
    session = exchange.session
    if session is None:
        return message
    if kind == "websocket.send":
        session[_OUT] = (session[_OUT] or 0) + 1
        exchange.sent += _size(message)
    elif kind == "websocket.accept":
        return _accept(exchange, choices, message)
    elif kind == "websocket.close":
        _close(exchange, session, message)
    elif kind == "websocket.http.response.start":
        return start(exchange, message, exchange.now(), choices.ids.header)
    elif kind == "websocket.http.response.body":
        exchange.sent += len(message.get("body") or b"")
        exchange.complete = not message.get("more_body")
    return message


def _accept(exchange: Exchange, choices: Choices, message: Message) -> Message:
    exchange.first_byte_at = exchange.now()
    ledger = choices.recorder.ledger
    if ledger is not None and exchange.state[PLACE] is not None:
        ledger.answer(exchange.state)
    exchange.status = 101  # last: from now on the session can be announced
    return with_header(message, choices.ids.header, exchange.request_id)


def _close(exchange: Exchange, session: list[int | None], message: Message) -> None:
    if exchange.complete:
        return
    if exchange.status is None:
        exchange.status = 403  # what servers answer to a close before the accept
    session[_CODE] = message.get("code", 1000)
    exchange.ended_at = exchange.now()
    exchange.complete = True


def _size(message: Message) -> int:
    payload = message.get("bytes")
    if payload is not None:
        return len(payload)
    text = message.get("text") or ""
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
