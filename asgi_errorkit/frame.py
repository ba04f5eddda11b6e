"""The one frame around the app: opens an exchange, watches it, and publishes what happened."""

import logging
from collections.abc import Awaitable
from contextlib import suppress
from contextvars import ContextVar
from typing import Any, TypeAlias
from weakref import ref

from asgi_errorkit.apps import coroutine_marker
from asgi_errorkit.choices import Choices
from asgi_errorkit.exchange import (
    COMPLETE,
    CURRENT,
    DISCONNECTED,
    END,
    ENDED,
    FIRST_BYTE,
    HELD,
    INTERRUPTED,
    JOINED,
    KEY,
    MEMORY_AFTER,
    METHOD,
    PATH,
    PLACE,
    RECEIVED,
    SCOPE,
    SEEN,
    SEND,
    SENT,
    STAMP,
    STARTED,
    STATUS,
    TAKEN,
    UNKNOWN,
    Exchange,
    State,
    begin,
    is_open,
)
from asgi_errorkit.failure import (
    failed,
    failing,
    fill_silence,
    note_within,
    says_gone,
    tell,
    tell_apart,
)
from asgi_errorkit.holding import after_held, let_go, nothing, release
from asgi_errorkit.joining import begin_running, gather, join, note_overlooked
from asgi_errorkit.recorder import BATCH, Recorder, note_route, plain_status, tell_joined
from asgi_errorkit.response import FILE_BODIES, headers_of, watch_file, with_header
from asgi_errorkit.session import serve_session
from asgi_errorkit.told import take_known
from asgi_errorkit.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["frame"]

logger = logging.getLogger("asgi_errorkit")

_Outermost: TypeAlias = tuple[object, "ref[Recorder] | None"]
_outermost: ContextVar[_Outermost] = ContextVar("asgi_errorkit_lifespan", default=(None, None))


def frame(app: ASGIApp, choices: Choices) -> ASGIApp:
    """Wrap ``app`` so that each of its exchanges is recorded.

    Whoever stands outermost opens the exchange; a frame further in finds it in the scope and
    joins it. Scopes other than http and websocket pass through untouched.
    """
    recorder, answers, collect = choices.recorder, choices.answers, choices.collect
    logs, ids = choices.logs, choices.ids
    clock, sampler, local = recorder.clock, recorder.sampler, recorder.local
    set_current, reset_current = CURRENT.set, CURRENT.reset
    take_seat, publish, drain_inline = recorder.take_seat, recorder.publish, recorder.drain_inline
    last, quarter = BATCH - 1, recorder.quarter
    begun, number = recorder.begun, choices.number
    mark = coroutine_marker()
    header, id_of, ready_id, make_id = ids.header, ids.of, ids.ready, ids.make
    ledger = recorder.ledger

    async def serve(scope: Scope, receive: Receive, send: Send) -> Any:
        if scope.get("type") != "http":
            return await serve_other(app, choices, scope, receive, send)
        if KEY in scope and is_open(scope):
            return await join(app, choices, scope, receive, send)
        if number not in begun:
            begin_running(choices, scope)
        headers = headers_of(scope)
        if header in headers:
            request_id = id_of(headers[header])
        else:
            try:
                request_id = ready_id()
            except IndexError:
                request_id = make_id()
        memory = sampler.memory_mb
        try:
            claim, slots, mask = local.parts
        except AttributeError:
            claim, slots, mask = take_seat()
        stamp = claim()
        try:  # as `begin` makes it: a call costs 70 ns, and looking for what may be missing 200
            state: State = [
                stamp,
                END,
                request_id,
                scope["method"] or "GET",
                scope["path"] or "",
                clock(),
                None,  # ENDED
                memory,
                memory,
                None,  # STATUS
                None,  # CAUGHT
                scope["query_string"] or b"",
                headers,
                scope["client"],
                scope["scheme"] or "http",
                logs,
                scope,
                clock,
                send,
                choices,
                choices,
                *UNKNOWN,
            ]
        except KeyError:  # a server may leave out what has a default
            state = begin(scope, headers, request_id, clock, memory, logs, send, choices)
            state[STAMP] = stamp
        slots[stamp & mask] = state  # as `Recorder.open` does
        if stamp & quarter == quarter:  # so many have begun, and perhaps none has ended
            drain_inline()
        if ledger is not None:
            state[PLACE] = ledger.begin(
                request_id, state[METHOD], state[PATH], state[STARTED], memory
            )

        async def watched_receive() -> Message:
            if state[HELD]:  # whoever listens has nothing to raise
                await release(Exchange(state), state[HELD], send, header)
            message = await receive()
            kind = message.get("type")
            if kind == "http.request":
                state[RECEIVED] += len(message.get("body") or b"")
            elif kind == "http.disconnect" and not state[COMPLETE]:
                state[DISCONNECTED] = True
            return message

        def watched_send(message: Message) -> Awaitable[None]:
            # Not a coroutine: the server's own awaitable goes back, one frame less per message.
            kind = message.get("type")
            if state[HELD]:
                return after_held(Exchange(state), answers, message, send, header)
            if kind == "http.response.body":
                piece = message.get("body")
                if piece:
                    state[SENT] += len(piece)
                if not message.get("more_body"):
                    state[ENDED] = clock()
                    state[COMPLETE] = True
            elif kind == "http.response.start":
                status = message.get("status")
                if (status.__class__ is not int or status >= 500) and failing(
                    Exchange(state), choices, message
                ):
                    return nothing()
                state[STATUS] = status
                state[FIRST_BYTE] = clock()
                if ledger is not None and state[PLACE] is not None and state[SCOPE] is not None:
                    ledger.answer(state)
                message = with_header(message, header, request_id)
            elif kind in FILE_BODIES:
                watch_file(Exchange(state), message, clock())
            return send(message)

        if mark is not None:
            mark(watched_send)
        scope[KEY] = state.copy
        token = set_current(state)
        try:
            result = await app(scope, watched_receive, watched_send)
            if state[HELD]:
                await release(Exchange(state), state[HELD], send, header)
            elif state[STATUS] is None and answers is not None:
                await fill_silence(Exchange(state), answers, watched_send)
            if state[SEEN] is not None:
                await tell(Exchange(state), choices)
            return result
        except Exception as exc:
            if not await failed(Exchange(state), exc, choices, send, watched_send):
                raise
        except BaseException as exc:
            state[INTERRUPTED] = True
            note_within(Exchange(state), exc, choices)
            await let_go(Exchange(state), exc, send, header)
            raise
        finally:
            try:
                reset_current(token)
            except ValueError:  # ended in another context than it began in
                pass
            try:
                if collect is not None:
                    gather(Exchange(state), collect, scope)
            finally:  # as `Recorder.finish` does
                scope.pop(KEY, None)
                if "route" in scope or "path_template" in scope:
                    note_route(state, scope)
                if state[STATUS].__class__ is not int:
                    state[STATUS] = plain_status(state[STATUS])
                if state[ENDED] is None:
                    state[ENDED] = clock()
                state[MEMORY_AFTER] = sampler.memory_mb
                state[SEND] = state[SEEN] = None
                if state[JOINED]:
                    tell_joined(state)
                if ledger is not None and state[PLACE] is not None:
                    ledger.leave(state)
                state[SCOPE] = None
                if state[TAKEN] is not None:
                    publish(state)
                elif stamp & last == last:
                    drain_inline()

    return serve


async def serve_unknown(
    app: ASGIApp, choices: Choices, scope: Scope, receive: Receive, send: Send
) -> Any:
    """What is no request, such as a message to a worker of Channels: its errors are told of."""
    try:
        return await app(scope, receive, send)
    except Exception as exc:
        if choices.answers is not None and not says_gone(exc) and not take_known(exc):
            if choices.number not in choices.recorder.begun:
                begin_running(choices, scope)
            tell_apart(None, exc, choices)
        raise


async def serve_other(
    app: ASGIApp, choices: Choices, scope: Scope, receive: Receive, send: Send
) -> Any:
    """Websocket sessions are watched too; all else passes."""
    if scope.get("type") == "websocket":
        return await serve_session(app, choices, scope, receive, send)
    if scope.get("type") == "lifespan":
        return await serve_lifespan(app, choices, scope, receive, send)
    return await serve_unknown(app, choices, scope, receive, send)


async def serve_lifespan(
    app: ASGIApp, choices: Choices, scope: Scope, receive: Receive, send: Send
) -> Any:
    """It passes untouched; its beginning opens the record, and its end is told."""
    recorder = choices.recorder
    if choices.prepare is not None:
        choices.prepare(scope)
    outer = _recorder_further_out(scope)
    token = _outermost.set((scope.get("asgi"), ref(recorder))) if outer is None else None
    _begin_record(recorder, outer)
    try:
        return await app(scope, receive, send)
    finally:
        if token is not None:
            with suppress(ValueError):  # it ends in another context than it began in
                _outermost.reset(token)
        recorder.rest()


def _recorder_further_out(scope: Scope) -> Recorder | None:
    """That of the outermost frame that this lifespan has gone through.

    A copy of a scope has the same ``asgi`` in it; a further server has its own, also one that the
    app itself has started, whose tasks inherit the context.
    """
    asgi, recorder_ref = _outermost.get()
    return recorder_ref() if recorder_ref is not None and asgi is scope.get("asgi") else None


def _begin_record(recorder: Recorder, outer: Recorder | None) -> None:
    """Whose record it is, is on it, and looks after the dead, before the first request."""
    try:
        if outer is not None and outer is not recorder:
            note_overlooked(outer, recorder)
        elif recorder.ledger is not None:
            recorder.ledger.open()
            recorder.start()
    except Exception as error:  # the first request does it as well
        logger.warning("the record of this process cannot be opened yet", exc_info=error)
