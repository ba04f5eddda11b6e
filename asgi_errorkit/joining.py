"""A frame inside another: it joins the exchange that is open, and answers what it was asked to."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from asgi_errorkit.apps import coroutine_marker
from asgi_errorkit.choices import Answers, Choices
from asgi_errorkit.exchange import OPENER, Exchange, begin, route_of, state_in
from asgi_errorkit.failure import failed, fill_silence, tell
from asgi_errorkit.holding import after_held, holds, let_go, nothing, release
from asgi_errorkit.recorder import Recorder
from asgi_errorkit.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["begin_running", "enter", "gather", "join", "note_overlooked"]


async def join(app: ASGIApp, choices: Choices, scope: Scope, receive: Receive, send: Send) -> Any:
    """Run the app within the exchange that a frame further out has opened."""
    exchange = Exchange(state_in(scope))
    enter(exchange, choices)
    try:
        if choices.answers is None:
            return await app(scope, receive, send)
        return await _answered(app, choices, choices.answers, exchange, scope, receive, send)
    finally:
        if choices.collect is not None:
            gather(exchange, choices.collect, scope)
        if scope is not exchange.scope:  # a copy, made by a middleware between
            _note_route(exchange, scope)


def enter(exchange: Exchange, choices: Choices) -> None:
    """Have this frame's recorder get the exchange too; its log lines are written once."""
    recorder = choices.recorder
    if choices.answers is not None:
        exchange.choices = _watching_for(choices, exchange.choices)
    if choices.number not in recorder.begun and exchange.scope is not None:
        begin_running(choices, exchange.scope)
        note_overlooked(exchange.state[OPENER].recorder, recorder)
    exchange.logged = exchange.logged or choices.logs
    state = exchange.state
    if recorder is not state[OPENER].recorder and recorder not in exchange.joined:
        exchange.joined += (recorder,)
        recorder.guests[id(state)] = recorder.unannounced[id(state)] = state


def _watching_for(inner: Choices, outer: Choices) -> Choices:
    """The inner frame's judgement, of all that either frame has asked for.

    One that asks for nothing leaves it to the outer to be told of what has no record of its own.
    """
    if outer.captures <= inner.captures:
        return inner
    recorder = inner.recorder if inner.captures else outer.recorder
    return replace(inner, captures=inner.captures | outer.captures, recorder=recorder)


def begin_running(choices: Choices, scope: Scope) -> None:
    """What the first request of a frame does for all that follow."""
    recorder = choices.recorder
    if choices.prepare is not None:
        choices.prepare(scope)
    recorder.begun.add(choices.number)
    recorder.start()


def note_overlooked(outer: Recorder, inner: Recorder) -> None:
    """Say so if what could be listed by the inner one is by nobody, for the outer one keeps no record."""
    if inner.ledger is not None and outer.ledger is None:
        inner.ledger.pass_over()


def gather(
    exchange: Exchange, collect: Callable[[Scope], dict[str, Any] | None], scope: Scope
) -> None:
    """Add the log fields that are read from the scope."""
    added = collect(scope)
    if added:
        exchange.annotate(**added)


def _note_route(exchange: Exchange, scope: Scope) -> None:
    try:
        exchange.route = exchange.route or route_of(scope)
    except Exception:  # noqa: BLE001, S110  the framework's own objects may do anything
        pass


async def _answered(
    app: ASGIApp,
    choices: Choices,
    answers: Answers,
    exchange: Exchange,
    scope: Scope,
    receive: Receive,
    send: Send,
) -> Any:
    """As the outermost frame does, with an eye of its own on the response.

    A middleware further out may withhold the start (compression does), and then the exchange has
    not seen it although the app has sent it: a second start would be sent.
    """
    inner = Exchange(begin(scope, exchange.headers, exchange.request_id, exchange.now, 0.0))
    inner.send, inner.choices = exchange.send, choices
    header = choices.ids.header
    watched_receive, watched_send = _watching(inner, answers, receive, send, header)
    try:
        result = await app(scope, watched_receive, watched_send)
        if inner.held:
            await release(inner, inner.held, send, header)
        elif inner.status is None and not exchange.started:
            await _fill_silence_inside(exchange, inner, answers, watched_send)
        await tell(exchange, choices)
        return result
    except Exception as exc:
        if not await _failed_inside(exchange, inner, exc, choices, send, watched_send):
            raise
    except BaseException as exc:
        await let_go(inner, exc, send, header)
        raise
    finally:
        # The exception holds this frame by its traceback: a circle that only the collector ends.
        inner.scope = inner.send = inner.choices = inner.seen = inner.held = None


def _watching(
    inner: Exchange, answers: Answers, receive: Receive, send: Send, header: bytes
) -> tuple[Receive, Send]:
    async def watched_receive() -> Message:
        if inner.held:
            await release(inner, inner.held, send, header)
        return await receive()

    def watched_send(message: Message) -> Awaitable[None]:
        if inner.held:
            return after_held(inner, answers, message, send, header)
        if message.get("type") == "http.response.start":
            if message.get("status") == 500 and holds(inner, message):
                return nothing()
            inner.status = message.get("status")
        return send(message)

    mark = coroutine_marker()
    return watched_receive, mark(watched_send) if mark is not None else watched_send


async def _fill_silence_inside(
    exchange: Exchange, inner: Exchange, answers: Answers, send: Send
) -> None:
    inner.disconnected = exchange.disconnected
    await fill_silence(inner, answers, send)
    exchange.complete = False


async def _failed_inside(
    exchange: Exchange,
    inner: Exchange,
    exc: Exception,
    choices: Choices,
    send: Send,
    watched_send: Send,
) -> bool:
    for name in ("seen", "disconnected", "complete", "caught", "extra"):
        setattr(inner, name, getattr(exchange, name))
    answered = await failed(inner, exc, choices, send, watched_send)
    for name in ("seen", "disconnected", "caught", "extra"):
        setattr(exchange, name, getattr(inner, name))
    return answered
