"""Websocket sessions: watched, logged and counted, and never changed but for their id."""

import asyncio
import itertools

import pytest
import trio
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocketDisconnect

from asgi_errorkit import (
    ErrorHandlingMiddleware,
    ErrorKit,
    ErrorTracker,
    ErrorType,
    MiddlewareStack,
    PerformanceMonitoringMiddleware,
    Recorder,
    StructuredLoggingMiddleware,
    current,
)
from asgi_errorkit.testing import HandClock, LogLines, http_scope, request, session

ACCEPT = {"type": "websocket.accept", "subprotocol": "chat", "headers": [(b"x-own", b"1")]}
DENIAL = [
    {"type": "websocket.http.response.start", "status": 401, "headers": [(b"x-own", b"1")]},
    {"type": "websocket.http.response.body", "body": b"who ", "more_body": True},
    {"type": "websocket.http.response.body", "body": b"are you?"},
]


class Kit:
    """A kit that logs into memory and has no thread."""

    def __init__(self, app, clock=None, **options):
        self.lines = LogLines()
        clocks = {"clock": clock} if clock else {}
        stack = MiddlewareStack(
            error_tracker=ErrorTracker(recorder=Recorder(flush_seconds=None, **clocks))
        )
        stack.add_middleware(StructuredLoggingMiddleware, stream=self.lines, **options)
        self.app = stack.create_middleware_stack(app)

    def read(self):
        self.app.flush()
        return self.lines.lines()

    def counted(self):
        stats = self.app.get_error_stats()
        return stats["total_requests"], stats["failed_requests"], stats["total_errors"]


async def echo(scope, receive, send):
    assert (await receive())["type"] == "websocket.connect"
    await send(ACCEPT)
    while (message := await receive())["type"] == "websocket.receive":
        body = {"text": message["text"]} if "text" in message else {"bytes": message["bytes"]}
        await send({"type": "websocket.send", **body})


def sending(*messages, exc=None):
    async def app(scope, receive, send):
        for message in messages:
            await send(message)
        if exc:
            raise exc

    return app


def without_id(messages):
    """The messages as they were before the kit added its header; the id must be there, once."""
    bare, ids = [], 0
    for message in messages:
        plain = dict(message)
        if "headers" in plain:
            ids += sum(name == b"x-request-id" for name, _ in plain["headers"])
            plain["headers"] = [h for h in plain["headers"] if h[0] != b"x-request-id"]
        bare.append(plain)
    return bare, ids


@pytest.mark.parametrize(
    ("app", "ids"),
    [
        (echo, 1),
        (sending(ACCEPT, {"type": "websocket.close", "code": 4001, "reason": "enough"}), 1),
        (sending({"type": "websocket.close", "code": 4003, "reason": "no"}), 0),
        (sending(*DENIAL), 1),
        (sending(ACCEPT, {"type": "websocket.custom", "x": 1}), 1),
    ],
    ids=["echo", "closed", "refused", "denied", "unknown"],
)
async def test_a_session_is_the_bare_apps_but_for_the_id(app, ids):
    """Every message, code, reason, subprotocol and header is passed on; the id is added once."""
    bare, kit = await session(app, messages=["a", b"b"]), Kit(app)
    reply = await session(kit.app, messages=["a", b"b"])
    assert without_id(reply.messages) == (bare.messages, ids)
    assert reply.raised is None


async def test_a_session_is_told_by_its_opening_and_its_close():
    """Messages and bytes each way, the close code, and how long it lasted, in seconds."""
    clock = HandClock()

    async def app(scope, receive, send):
        await echo(scope, receive, send)
        clock.move(9.0)

    async def slow(scope, receive, send):
        clock.move(1.0)

        async def timed(message):
            await send(message)
            clock.move(0.5)

        await app(scope, receive, timed)

    kit = Kit(slow, clock)
    messages = ["four", "äöü", b"\xff" * 5]
    await session(kit.app, "/ws", messages=messages, code=4321, headers=[(b"x-request-id", b"me")])
    opened, closed = kit.read()
    assert (opened["event"], closed["event"]) == ("websocket_open", "websocket_close")
    assert opened["url"] == closed["url"] == "ws://test/ws"
    assert opened["request_id"] == closed["request_id"] == "me"
    assert (closed["messages_received"], closed["messages_sent"]) == (3, 3)
    assert (closed["request_size"], closed["response_size"]) == (15, 15)
    assert (closed["close_code"], closed["status_code"], closed["outcome"]) == (4321, 101, "ok")
    assert (closed["duration"], closed["level"]) == (3.0, "INFO")
    assert kit.counted() == (1, 0, 0)


async def test_the_code_is_that_of_who_closed_first():
    kit = Kit(sending(ACCEPT, {"type": "websocket.close", "code": 4001}))
    await session(kit.app)
    assert kit.read()[-1]["close_code"] == 4001


@pytest.mark.parametrize(
    ("app", "status"),
    [(sending({"type": "websocket.close"}), 403), (sending(*DENIAL), 401)],
    ids=["refused", "denied"],
)
async def test_a_refused_session_was_never_open(app, status):
    """Without an accept there is no opening to tell; the refusal is the client's error."""
    kit = Kit(app)
    await session(kit.app)
    (line,) = kit.read()
    assert (line["event"], line["status_code"]) == ("websocket_close", status)
    assert line["outcome"] == "client_error"
    assert kit.counted() == (1, 0, 1)


@pytest.mark.parametrize(
    "sent",
    [(), (ACCEPT,), (ACCEPT, {"type": "websocket.close", "code": 1000}), DENIAL[:1]],
    ids=["before", "open", "closed", "denying"],
)
async def test_an_error_goes_on_and_is_recorded(sent):
    """Nothing is sent in its stead, no http message above all: the server closes as it does."""
    exc = LookupError("boom")
    kit = Kit(sending(*sent, exc=exc))
    reply = await session(kit.app)
    assert reply.raised is exc
    assert [m["type"] for m in reply.messages] == [m["type"] for m in sent]
    line = kit.read()[-1]
    assert (line["event"], line["level"]) == ("websocket_close", "ERROR")
    assert (line["error"], line["error_type"]) == ("boom", "LookupError")
    assert kit.counted() == (1, 1, 1)


@pytest.mark.parametrize(
    "exc", [WebSocketDisconnect(1001), asyncio.CancelledError(), KeyboardInterrupt()], ids=repr
)
async def test_leaving_and_cancelling_are_no_errors(exc):
    kit = Kit(sending(ACCEPT, exc=exc))
    reply = await session(kit.app)
    assert reply.raised is exc and len(reply.messages) == 1
    assert [line["level"] for line in kit.read()] == ["INFO", "INFO"]
    assert kit.counted() == (1, 0, 0)


async def test_what_the_servers_send_raises_after_the_client_left_is_no_error():
    """uvicorn raises an OSError for a send to a closed connection."""

    async def send(message):
        raise OSError

    async def receive():
        return {"type": "websocket.disconnect", "code": 1006}

    kit = Kit(echo)
    scope = {"type": "websocket", "path": "/", "headers": []}
    with pytest.raises(OSError):  # noqa: PT011  it has no words
        await kit.app(scope, receive=_connecting(receive), send=send)
    assert kit.counted() == (1, 0, 0)


def _connecting(receive):
    events = [{"type": "websocket.connect"}]

    async def connecting():
        return events.pop() if events else await receive()

    return connecting


async def test_the_opening_is_told_while_the_session_lasts_and_once():
    async def app(scope, receive, send):
        assert current().request_id
        kit.app.flush()
        assert kit.lines.lines() == []  # not accepted yet
        await send(ACCEPT)
        assert [line["event"] for line in kit.read()] == ["websocket_open"]

    kit = Kit(app)
    assert (await session(kit.app)).raised is None
    assert [line["event"] for line in kit.read()] == ["websocket_open", "websocket_close"]
    assert current() is None


async def test_sessions_count_beside_requests_and_not_among_their_durations():
    async def app(scope, receive, send):
        if scope["type"] == "websocket":
            await echo(scope, receive, send)
        else:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body"})

    kit = Kit(app)
    await session(kit.app)
    await request(kit.app)
    assert kit.app.get_error_stats()["total_requests"] == 2
    assert kit.app.get_performance_stats()["total_requests"] == 1
    assert kit.app.get_performance_stats()["in_flight"] == 0


@pytest.mark.parametrize(
    "app", [echo, sending(ACCEPT, exc=LookupError("boom"))], ids=["ok", "broken"]
)
async def test_a_session_wrapped_twice_is_one(app):
    """Two kits, one within the other: one set of lines, one count in each, one id."""
    inner = Kit(app)
    outer = Kit(inner.app)
    reply = await session(outer.app)
    assert without_id(reply.messages)[1] == 1
    assert len(inner.read()) + len(outer.read()) == 2
    failed = app is not echo
    assert inner.counted() == outer.counted() == (1, failed, failed)


@pytest.mark.parametrize(
    ("error", "failed"), [(ConnectionRefusedError(), True), (ConnectionResetError(), False)]
)
async def test_an_upstream_that_refuses_the_last_rites_is_no_client_that_left(error, failed):
    """What a server raises for one that left is something else."""

    async def app(scope, receive, send):
        await echo(scope, receive, send)
        raise error

    kit = Kit(app)
    await session(kit.app)
    kit.read()
    assert kit.counted() == (1, failed, failed)


async def test_alone_error_handling_watches_sessions_too():
    tracker = ErrorTracker(recorder=Recorder(flush_seconds=None))
    wrapped = ErrorHandlingMiddleware(sending(ACCEPT, exc=TimeoutError()), tracker)
    assert isinstance((await session(wrapped)).raised, TimeoutError)
    assert tracker.get_error_stats()["errors_by_type"] == {"timeout": 1}


@pytest.mark.parametrize("evil", ["\r\n", "\x1b[m", "\u2028", "\ud800", "\x00"], ids=ascii)
async def test_hostile_sessions_stay_within_their_lines(evil):
    kit = Kit(echo)
    raw = evil.encode("utf-8", "surrogatepass")
    await session(kit.app, f"/{evil}", messages=[evil], headers=[(b"user-agent", raw)])
    opened, closed = kit.read()
    assert (opened["event"], closed["event"]) == ("websocket_open", "websocket_close")
    assert closed["request_size"] == closed["response_size"] == len(raw)


async def test_a_frameworks_session_knows_its_route_and_its_fields():
    """Starlette: the route, path parameters and query are told as they are for requests."""

    async def endpoint(websocket):
        await websocket.accept()
        await websocket.send_json({"progress": await websocket.receive_text()})
        await websocket.close(4000)

    app = Starlette(routes=[WebSocketRoute("/videos/{video_id}/progress", endpoint)])
    kit = Kit(app)
    reply = await session(kit.app, "/videos/v1/progress", messages=["50"])
    assert reply.messages[1]["text"] == '{"progress":"50"}'
    line = kit.read()[-1]
    assert line["route"] == "/videos/{video_id}/progress"
    assert (line["video_id"], line["close_code"]) == ("v1", 4000)


def test_sessions_run_under_trio():
    """No asyncio on a session's way; trio's cancellation passes and is no error."""

    async def app(scope, receive, send):
        await trio.lowlevel.checkpoint()
        if scope["path"] == "/forever":
            await send(ACCEPT)
            await trio.sleep_forever()
        await echo(scope, receive, send)

    kit = Kit(app)
    replies = []

    async def main():
        replies.append(await session(kit.app, messages=["a"]))
        with trio.CancelScope() as scope:
            scope.cancel()
            await session(kit.app, "/forever")

    trio.run(main)
    assert [m["type"] for m in replies[0].messages] == ["websocket.accept", "websocket.send"]
    assert kit.counted() == (2, 0, 0)


async def test_the_one_line_face_watches_sessions():
    """ErrorKit(app) alone does all of the above."""
    app = ErrorKit(echo, tracker=ErrorTracker(recorder=Recorder(flush_seconds=None)))
    await session(app, messages=["a"])
    assert app.get_error_stats()["total_requests"] == 1


async def test_a_handshake_left_unanswered_is_incomplete():
    """Returned normally is not success: the server answers 500."""

    async def silent(scope, receive, send):
        await receive()

    async def receive():
        return {"type": "websocket.connect"}

    async def send(message):
        raise AssertionError(message)

    kit = Kit(silent)
    scope = http_scope()
    del scope["method"]
    await kit.app({**scope, "type": "websocket", "scheme": "ws"}, receive, send)
    (line,) = kit.read()
    assert (line["event"], line["outcome"], line["level"]) == (
        "websocket_close",
        "incomplete",
        "ERROR",
    )
    assert kit.counted() == (1, 1, 1)


@pytest.mark.parametrize("order", list(itertools.permutations("LEP")), ids="".join)
async def test_middlewares_nested_by_hand_do_for_sessions_what_they_do_for_requests(order):
    """Whatever the order: one record, the extracted fields, the hook, and the rules of the tracker."""
    lines, told = LogLines(), []
    tracker = ErrorTracker(recorder=Recorder(), rules={ValueError: ErrorType.MODEL})
    around = {
        "L": lambda app: StructuredLoggingMiddleware(
            app, stream=lines, fields={"who": lambda scope: "bob"}
        ),
        "E": lambda app: ErrorHandlingMiddleware(
            app, tracker, on_error=lambda exchange, exc: told.append(exc)
        ),
        "P": PerformanceMonitoringMiddleware,
    }
    app = sending(ACCEPT, exc=ValueError("x"))
    for letter in order:
        app = around[letter](app)
    reply = await session(app)
    assert isinstance(reply.raised, ValueError)
    assert len(told) == 1
    assert tracker.get_error_stats()["errors_by_type"] == {"model": 1}
    for recorder in all_recorders(app):
        recorder.flush()
    (closed,) = lines.lines("websocket_close")
    assert (closed["who"], closed["error_category"]) == ("bob", "model")


def all_recorders(app):
    while hasattr(app, "choices"):
        yield app.choices.recorder
        app = app.app


async def test_leaving_before_the_accept_is_no_failure_however_the_app_takes_it():
    async def waits(scope, receive, send):
        await receive()
        raise WebSocketDisconnect((await receive())["code"])

    kit = Kit(waits)
    await session(kit.app, code=1006)
    (line,) = kit.read()
    assert (line["outcome"], line["level"]) == ("ok", "INFO")
    assert kit.counted() == (1, 0, 0)


async def test_a_client_that_left_beside_a_cancellation_is_no_error_of_a_session():
    exc = BaseExceptionGroup("", [asyncio.CancelledError(), WebSocketDisconnect(1001)])
    kit = Kit(sending(ACCEPT, exc=exc))
    reply = await session(kit.app)
    assert reply.raised is exc
    assert kit.counted() == (1, 0, 0)
