"""Something else answers in place of what failed, says so, and hides nothing from the operator."""

import asyncio
import gc
import importlib
import sys
from collections import UserList, deque
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Mount, Route

from asgi_errorkit import (
    Answer,
    ErrorAction,
    ErrorHandlingMiddleware,
    ErrorKit,
    ErrorTracker,
    ErrorType,
    MiddlewareStack,
    PublicError,
    Recorder,
    StructuredLoggingMiddleware,
    cors,
    current,
)
from asgi_errorkit.async_library import sleep
from asgi_errorkit.errors import CircuitOpenError
from asgi_errorkit.middleware.circuit_breaking import CircuitBreakingMiddleware
from asgi_errorkit.middleware.fallbacks import FallbackMiddleware
from asgi_errorkit.middleware.load_shedding import LoadSheddingMiddleware
from asgi_errorkit.middleware.timeouts import TimeoutMiddleware
from asgi_errorkit.stale import StaleCopies
from asgi_errorkit.testing import HandClock, LogLines, http_scope, request, session
from tests.naming import shown

OK = {"type": "http.response.start", "status": 200, "headers": []}
END = {"type": "http.response.body", "body": b"of the app"}
STATIC = Answer(200, [(b"content-type", b"text/plain"), (b"content-length", b"6")], b"static")


class BrokenError(Exception):
    """What the app of the tests raises."""


TYPE = ErrorType.CACHE


def quiet() -> ErrorTracker:
    return ErrorTracker(recorder=Recorder(flush_seconds=None), rules={BrokenError: TYPE})


def kit(app: Any, *within: Any, lines: LogLines | None = None, **options: Any) -> ErrorKit:
    stack = MiddlewareStack(error_tracker=quiet())
    stack.add_middleware(StructuredLoggingMiddleware, stream=lines or LogLines())
    stack.add_middleware(FallbackMiddleware, **options)
    for cls, its in within:
        stack.add_middleware(cls, **its)
    return stack.create_middleware_stack(app)


def alone(app: Any, fallbacks: Any, **options: Any) -> FallbackMiddleware:
    return FallbackMiddleware(app, fallbacks=fallbacks, **{"error_tracker": quiet(), **options})


def the(kit: ErrorKit) -> FallbackMiddleware:
    [layer] = [each for each in kit.survival if isinstance(each, FallbackMiddleware)]
    return layer


def sending(*messages: Any, raised: Any = None) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> str:
        for message in messages:
            await send(message)
        if raised is not None:
            raise raised
        return "word"

    return app


broken = sending(raised=BrokenError("boom"))
refusing = sending({**OK, "status": 503}, END)


def answer(text: str, status: int = 200) -> Answer:
    return Answer(status, [(b"content-type", b"text/plain")], text.encode())


def fallback_app(text: str = "app", *, status: int = 200, raised: Any = None, started: bool = True):
    messages = [{**OK, "status": status}, {**END, "body": text.encode()}] if started else []
    return sending(*messages, raised=raised)


# What answers


async def instead(exchange: Any, failing: Any) -> Answer:
    return answer(f"async {failing.verdict.info.error_type.value} {exchange.method}")


FALLBACKS = [
    (STATIC, "static", b"static"),
    (lambda exchange, failing: answer(type(failing.exc).__name__), "callable", b"BrokenError"),
    (instead, "callable", b"async cache GET"),
    (fallback_app(), "app", b"app"),
    (Starlette(routes=[Route("/", lambda _: PlainTextResponse("starlette"))]), "app", b"starlette"),
]


@pytest.mark.parametrize(
    ("fallback", "kind", "body"), FALLBACKS, ids=["static", "sync", "async", "app", "starlette"]
)
@pytest.mark.parametrize("key", [TYPE, "/", "/*", "*"], ids=shown)
async def test_what_fails_is_answered_marked_and_counted(
    fallback: Any, kind: str, body: bytes, key: Any
) -> None:
    """By type or by path; the request did not fail, and its error is known with its traceback."""
    lines = LogLines()
    app = kit(broken, lines=lines, fallbacks={key: fallback})
    reply = await request(app)
    assert (reply.status, reply.body, reply.raised) == (200, body, None)
    assert reply.headers["x-fallback"] == kind and len(reply.starts) == 1
    app.flush()
    stats = app.get_error_stats()
    assert (stats["failed_requests"], stats["total_errors"]) == (0, 1)
    assert stats["errors_by_type"] == {"cache": 1}
    [group] = app.tracker.groups()
    assert group.type_name.endswith("BrokenError") and group.sample["exception"]["frames"]
    [line] = [each for each in lines.lines() if "outcome" in each]
    assert line["outcome"] == "fallback"
    assert (line["fallback"], line["fallback_for"]) == (kind, "cache")
    assert the(app).answered[kind] == 1


@pytest.mark.parametrize("library", ["asyncio", "trio"])
def test_standing_alone_it_does_the_same_under_either_library(library: str) -> None:
    async def later(exchange: Any, failing: Any) -> Answer:
        await sleep(0)
        return answer("later")

    async def main() -> None:
        for fallback, body in ((STATIC, b"static"), (later, b"later"), (fallback_app(), b"app")):
            middleware = alone(broken, {TYPE: fallback})
            reply = await request(middleware)
            assert (reply.body, reply.raised) == (body, None)
            assert reply.headers["x-request-id"]
            stats = middleware.choices.recorder.counts()
            assert stats

    if library == "trio":
        trio.run(main)
    else:
        asyncio.run(main())


async def test_alone_the_tracker_counts_the_error_too() -> None:
    tracker = quiet()
    await request(alone(broken, {TYPE: STATIC}, error_tracker=tracker))
    stats = tracker.get_error_stats()
    assert (stats["total_requests"], stats["failed_requests"], stats["total_errors"]) == (1, 0, 1)


async def test_what_has_no_fallback_goes_its_way() -> None:
    app = kit(sending(raised=MemoryError()), fallbacks={TYPE: STATIC})
    reply = await request(app)
    assert reply.status == 503 and "x-fallback" not in reply.headers
    assert app.get_error_stats()["failed_requests"] == 1
    exc = MemoryError()
    reply = await request(alone(sending(raised=exc), {TYPE: STATIC}))
    assert reply.raised is exc and reply.messages == []


async def test_what_goes_well_is_left_alone() -> None:
    app = kit(sending(OK, END), fallbacks={TYPE: STATIC, "*": STATIC})
    reply = await request(app)
    assert (reply.body, reply.returned) == (b"of the app", "word")
    assert "x-fallback" not in reply.headers


async def test_after_the_start_no_fallback_can_help() -> None:
    lines = LogLines()
    app = kit(sending(OK, raised=BrokenError()), lines=lines, fallbacks={TYPE: STATIC})
    reply = await request(app)
    assert isinstance(reply.raised, BrokenError) and len(reply.messages) == 1
    app.flush()
    assert lines.lines("request_error")[0]["outcome"] == "truncated"


@pytest.mark.parametrize("status", [204, 304])
async def test_an_answer_without_a_body_has_none(status: int) -> None:
    reply = await request(alone(broken, {TYPE: answer("not to be sent", status)}))
    assert (reply.status, reply.body) == (status, b"")


@pytest.mark.parametrize("kind", ["static", "callable"])
async def test_to_head_there_is_no_body_and_the_length_stays_true(kind: str) -> None:
    fallback = STATIC if kind == "static" else (lambda exchange, failing: STATIC)
    reply = await request(alone(broken, {TYPE: fallback}), "HEAD")
    assert (reply.status, reply.body, reply.headers["content-length"]) == (200, b"", "6")


@pytest.mark.parametrize(
    ("fallback", "status"), [(answer("no", 503), 503), (fallback_app(status=502), 502)]
)
async def test_a_fallback_that_tells_of_a_failure_hides_none(fallback: Any, status: int) -> None:
    """The outcome stays the true one."""
    lines = LogLines()
    app = kit(broken, lines=lines, fallbacks={TYPE: fallback})
    reply = await request(app)
    assert reply.status == status and "x-fallback" in reply.headers
    stats = app.get_error_stats()
    assert (stats["failed_requests"], stats["errors_by_type"]) == (1, {"cache": 1})
    app.flush()
    [line] = lines.lines("request_error")
    assert line["outcome"] == "server_error"


async def test_a_refusal_that_is_answered_with_503_is_still_a_refusal() -> None:
    lines = LogLines()
    app = kit(
        Gate(),
        (LoadSheddingMiddleware, {"limit": 1, "max_queue": 0}),
        lines=lines,
        fallbacks={"shed": answer("busy page", 503)},
    )
    reply = await busy(app)
    assert (reply.status, reply.body) == (503, b"busy page")
    app.flush()
    assert lines.lines("request_error")[0]["outcome"] == "shed"


# The order


def nothing(exchange: Any, failing: Any) -> None:
    return None


async def nothing_later(exchange: Any, failing: Any) -> None:
    return None


def breaks(exchange: Any, failing: Any) -> Answer:
    raise LookupError("the fallback broke")


async def breaks_later(exchange: Any, failing: Any) -> Answer:
    raise LookupError("the fallback broke")


async def test_the_first_that_has_an_answer_answers() -> None:
    chain = [nothing, nothing_later, StaleCopies(), fallback_app(started=False), STATIC, breaks]
    middleware = alone(broken, {TYPE: chain})
    reply = await request(middleware)
    assert (reply.body, reply.headers["x-fallback"]) == (b"static", "static")
    assert middleware.answered == {"static": 1, "stale": 0, "callable": 0, "app": 0}
    assert middleware.hook_errors == 0


@pytest.mark.parametrize("listed", [list, tuple, deque, UserList], ids=shown)
async def test_any_sequence_is_a_list_of_fallbacks(listed: Any) -> None:
    """Also one that a type checker lets pass as a Sequence; an Answer alone, a tuple, is none."""
    middleware = alone(broken, {TYPE: listed([nothing, STATIC]), "/": STATIC}, on=["timeout"])
    assert (await request(middleware)).body == b"static"
    with pytest.raises(ValueError, match="empty"):
        alone(broken, {TYPE: listed()})


class Routes(tuple[Any, ...]):
    """An app that is the sequence of its routes."""

    __slots__ = ()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self[0](scope, receive, send)


async def test_an_app_that_is_a_sequence_is_one_fallback() -> None:
    reply = await request(alone(broken, {TYPE: Routes([fallback_app()])}))
    assert (reply.body, reply.headers["x-fallback"]) == (b"app", "app")


@pytest.mark.parametrize(
    "fallback",
    [
        breaks,
        breaks_later,
        fallback_app(started=False, raised=LookupError()),
        lambda exchange, failing: "no answer",
        lambda exchange, failing: Answer(99, [], b""),
        lambda exchange, failing: Answer(200, [(b"a", b"b\r\nc: d")], b""),
        lambda exchange, failing: Answer(200, [("a", "b")], b""),  # type: ignore[list-item]
        lambda exchange, failing: Answer(200, [], "text"),  # type: ignore[arg-type]
        lambda exchange, failing: Answer(200, None, b""),  # type: ignore[arg-type]
    ],
    ids=["sync", "async", "app", "no answer", "status", "forged", "names", "text", "headers"],
)
async def test_a_fallback_that_breaks_gives_way_and_is_counted(fallback: Any) -> None:
    middleware = alone(broken, {TYPE: [fallback, STATIC]})
    assert (await request(middleware)).body == b"static"
    assert middleware.hook_errors == 1
    last = alone(broken, {TYPE: fallback})
    reply = await request(last)
    assert isinstance(reply.raised, BrokenError) and reply.messages == []
    app = kit(broken, fallbacks={TYPE: fallback})
    reply = await request(app)
    assert reply.status == 503 and reply.headers["content-type"] == "application/problem+json"
    stats = app.get_error_stats()
    assert (stats["failed_requests"], stats["total_errors"]) == (1, 1)


async def test_the_path_goes_before_the_outcome_and_that_before_the_type() -> None:
    refused = sending(raised=CircuitOpenError("x", retry_after_seconds=1, error_type=TYPE))
    every: dict[Any, Any] = {
        "/here": answer("path"),
        "circuit_open": answer("outcome"),
        TYPE: answer("type"),
    }
    app = alone(refused, every)
    assert (await request(app, path="/here")).body == b"path"
    assert (await request(app, path="/there")).body == b"outcome"
    app = alone(broken, every)
    assert (await request(app, path="/there")).body == b"type"


async def test_a_method_before_a_path_is_meant() -> None:
    app = alone(broken, {"POST /a": answer("post"), "/a": answer("any")})
    assert (await request(app, "POST", "/a")).body == b"post"
    assert (await request(app, "GET", "/a")).body == b"any"
    assert (await request(app, "GET", "/b")).raised is not None


@pytest.mark.parametrize(
    ("on", "raised", "answered"),
    [
        (None, BrokenError(), True),
        (None, MemoryError(), True),
        (None, PublicError("who?", error_type=ErrorType.NOT_FOUND), False),
        ([ErrorType.MEMORY], MemoryError(), True),
        ([ErrorType.MEMORY], BrokenError(), False),
        (["circuit_open"], CircuitOpenError("x", retry_after_seconds=1), True),
        (["timeout"], CircuitOpenError("x", retry_after_seconds=1), False),
        (None, CircuitOpenError("x", retry_after_seconds=1), True),
    ],
    ids=shown,
)
async def test_a_paths_fallback_answers_for_what_is_named(
    on: Any, raised: Exception, answered: bool
) -> None:
    reply = await request(alone(sending(raised=raised), {"*": STATIC}, on=on))
    assert (reply.raised is None) is answered


@pytest.mark.parametrize(
    ("raised", "answered"), [(BrokenError(), True), (MemoryError(), False)], ids=shown
)
async def test_a_policy_may_ask_for_a_fallback(raised: Exception, answered: bool) -> None:
    """Given for the action, it answers for the types whose policy has it."""
    reply = await request(alone(sending(raised=raised), {ErrorAction.FALLBACK: STATIC}))
    assert (reply.raised is None) is answered


# The request as it came


def rewriting(app: Any, **rewritten: Any) -> Any:
    """As a router within does, which writes into the very scope that it was given."""

    async def rewrites(scope: Any, receive: Any, send: Any) -> Any:
        scope.update(rewritten)
        return await app(scope, receive, send)

    return rewrites


@pytest.mark.parametrize(
    "rewritten",
    [{"path": "/other"}, {"path": "/root/other", "root_path": "/root"}, {"method": "POST"}],
    ids=shown,
)
async def test_a_paths_fallback_is_that_of_the_request_as_it_came(rewritten: Any) -> None:
    """Whatever the app has written into the scope before it failed."""
    fallbacks = {"GET /here": answer("here"), "/other": answer("other"), "*": answer("all")}
    reply = await request(alone(rewriting(broken, **rewritten), fallbacks), path="/here")
    assert reply.body == b"here"


async def test_a_mount_makes_no_path_fit_that_was_not_asked_for() -> None:
    def fails(_: Any) -> Any:
        raise BrokenError

    app = Starlette(routes=[Mount("/v1", routes=[Route("/items/{item}", fails)])])
    fallbacks = {"/items/{item}": answer("of another"), "/v1/*": answer("its own")}
    assert (await request(alone(app, fallbacks), path="/v1/items/7")).body == b"its own"
    del fallbacks["/v1/*"]
    reply = await request(alone(app, fallbacks), path="/v1/items/7")
    assert isinstance(reply.raised, BrokenError)


async def test_to_head_there_is_no_body_also_if_the_app_makes_a_get_of_it() -> None:
    reply = await request(alone(rewriting(broken, method="GET"), {TYPE: STATIC}), "HEAD")
    assert (reply.status, reply.body) == (200, b"")


@pytest.mark.parametrize(
    "rewritten",
    [
        {"path": "/b"},
        {"raw_path": b"/b"},
        {"query_string": b"y=2"},
        {"scheme": "wss"},
        {"method": "POST"},
        {"headers": [(b"host", b"other"), (b"cookie", b"a=b")]},
    ],
    ids=shown,
)
async def test_a_copy_is_found_and_forgotten_by_the_request_as_it_came(rewritten: Any) -> None:
    store, copies = Store(), StaleCopies()
    middleware = alone(rewriting(store, **rewritten), {TYPE: copies})
    await request(middleware, path="/a", query=b"x=1")
    store.broken = True
    assert (await request(middleware, path="/a", query=b"x=1")).body == b"one"
    store.broken = False
    await request(middleware, "PUT", "/a", query=b"x=1")
    assert copies.as_dict()["entries"] == 0


async def test_who_is_known_stays_so_when_the_app_takes_the_headers_away() -> None:
    """A copy that is not public is not for them, also where the very list was emptied."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope["headers"][:] = [pair for pair in scope["headers"] if pair[0] != b"cookie"]
        await store(scope, receive, send)

    store = Store()
    middleware = alone(app, {TYPE: StaleCopies()})
    await request(middleware)
    store.broken = True
    reply = await request(middleware, headers=[(b"cookie", b"a=b")])
    assert isinstance(reply.raised, BrokenError)
    assert (await request(middleware)).body == b"one"


async def test_headers_that_are_no_list_are_handed_on_as_they_are() -> None:
    seen: list[Any] = []

    async def other(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["headers"])

    async def nobody(*_: Any) -> None:
        pass

    headers = ((b"host", b"test"),)
    with pytest.raises(BrokenError):
        await alone(broken, {TYPE: other})({**http_scope(), "headers": headers}, nobody, nobody)
    assert seen == [headers]


# Another app


async def echo(scope: Any, receive: Any, send: Any) -> None:
    body, more = b"", True
    while more:
        message = await receive()
        assert message["type"] == "http.request"
        body += message.get("body", b"")
        more = message.get("more_body", False)
    await send(OK)
    await send({"type": "http.response.body", "body": b"<" + body + b">"})
    assert (await receive())["type"] == "http.disconnect"


@pytest.mark.parametrize(
    ("reads", "found"), [(0, b"<onetwo>"), (1, b"<>"), (2, b"<>")], ids=["none", "part", "all"]
)
async def test_another_app_gets_the_body_or_finds_it_at_its_end(reads: int, found: bytes) -> None:
    """Half a body, as if it were whole, is worse than none; and it waits for nothing that is gone."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        for _ in range(reads):
            await receive()
        raise BrokenError

    middleware = alone(app, {TYPE: echo})
    reply = await asyncio.wait_for(request(middleware, "POST", body=[b"one", b"two"]), 5)
    assert (reply.body, reply.raised) == (found, None)


async def test_another_app_does_not_see_what_the_first_has_written_into_the_scope() -> None:
    """But the state and the extensions that the server gave are the same."""
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope["path"], scope["root_path"], scope["left"] = "/other", "/mounted", True
        raise BrokenError

    async def other(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope)
        assert current() is not None
        await send(OK)
        await send(END)

    state: dict[str, Any] = {}
    await request(alone(app, {TYPE: other}), path="/here", state=state)
    [scope] = seen
    assert (scope["path"], scope["root_path"]) == ("/here", "") and "left" not in scope
    assert scope["state"] is state


async def test_the_next_app_does_not_see_what_the_one_before_has_written_either() -> None:
    async def gives_up(scope: Any, receive: Any, send: Any) -> None:
        scope["path"] = "/other"
        scope["headers"].clear()

    async def tells(scope: Any, receive: Any, send: Any) -> None:
        await send(OK)
        await send({**END, "body": scope["path"].encode() + dict(scope["headers"])[b"x-a"]})

    middleware = alone(broken, {TYPE: [gives_up, tells]})
    reply = await request(middleware, path="/here", headers=[(b"x-a", b" and there")])
    assert reply.body == b"/here and there"


async def test_another_starlette_app_finds_its_own_route_behind_a_mount() -> None:
    def fails(_: Any) -> Any:
        raise BrokenError

    first = Starlette(routes=[Mount("/v1", routes=[Route("/items/{item}", fails)])])

    def found(request: Any) -> Any:
        return PlainTextResponse(request.path_params["item"])

    second = Starlette(routes=[Mount("/v1", routes=[Route("/items/{item}", found)])])
    app = kit(first, fallbacks={TYPE: second})
    reply = await request(app, path="/v1/items/7")
    assert (reply.status, reply.body) == (200, b"7")
    [group] = app.tracker.groups()
    assert group.routes == {"GET /v1/items/{item}": 1}


async def test_an_app_that_fails_after_its_start_is_broken_off() -> None:
    """The server must see that this response is not whole; no other is begun."""
    lines = LogLines()
    exc = LookupError("the fallback broke")
    failing = sending(OK, {**END, "more_body": True}, raised=exc)
    app = kit(broken, lines=lines, fallbacks={TYPE: [failing, STATIC]})
    reply = await request(app)
    assert reply.raised is exc and not reply.complete and len(reply.starts) == 1
    app.flush()
    [line] = lines.lines("request_error")
    assert line["outcome"] == "truncated"
    assert the(app).hook_errors == 1 and the(app).answered["app"] == 0


@pytest.mark.parametrize("kind", ["raises", "503"])
async def test_an_app_that_fails_after_its_start_is_not_followed_by_the_first(kind: str) -> None:
    """Also where the first catches what its own send raises, and sends once more."""

    async def first(scope: Any, receive: Any, send: Any) -> None:
        try:
            await send({**OK, "status": 503})
        except LookupError:
            await send({**OK, "status": 500})
            await send(END)

    failing = sending(OK, raised=LookupError())
    app = broken if kind == "raises" else first
    reply = await request(alone(app, {TYPE: failing, "*": failing}, on=[*ErrorType]))
    assert [m["type"] for m in reply.messages] == ["http.response.start"]


async def test_an_app_that_returns_amid_its_response_is_incomplete() -> None:
    lines = LogLines()
    app = kit(broken, lines=lines, fallbacks={TYPE: sending(OK)})
    await request(app)
    app.flush()
    [line] = lines.lines("request_error")
    assert line["outcome"] in ("incomplete", "truncated")


async def test_a_client_that_leaves_breaks_no_fallback() -> None:
    """What the server's own send raises is nobody's fault."""
    middleware = alone(broken, {TYPE: STATIC})

    async def send(message: Any) -> None:
        raise ConnectionResetError

    async def receive() -> Any:
        return {"type": "http.disconnect"}

    with pytest.raises(ConnectionResetError):
        await middleware(http_scope(), receive, send)
    assert middleware.hook_errors == 0


async def test_a_fallback_is_cancelled_with_its_request() -> None:
    entered = asyncio.Event()

    async def slow(exchange: Any, failing: Any) -> Answer:
        entered.set()
        await asyncio.sleep(60)
        raise AssertionError

    middleware = alone(broken, {TYPE: [slow, STATIC]})
    task = asyncio.create_task(request(middleware))
    await entered.wait()
    task.cancel()
    reply = await task
    assert isinstance(reply.raised, asyncio.CancelledError) and reply.messages == []
    assert middleware.hook_errors == 0


async def test_another_app_may_be_one_of_asgi_2() -> None:
    with pytest.raises(TypeError, match="fallback"):
        alone(broken, {TYPE: lambda scope: None})


async def test_a_withheld_start_is_not_followed_by_another() -> None:
    """Compression keeps the start back until the body comes."""
    app = kit(
        GZipMiddleware(sending(OK, raised=BrokenError()), minimum_size=1), fallbacks={TYPE: STATIC}
    )
    reply = await request(app, headers=[(b"accept-encoding", b"gzip")])
    assert len(reply.starts) <= 1


# Stale copies


class Store:
    """An app that answers with what it has, until it breaks."""

    def __init__(self, **headers: str) -> None:
        self.broken = False
        self.value = "one"
        self.headers = headers

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if self.broken:
            raise BrokenError
        headers = [(k.replace("_", "-").encode(), v.encode()) for k, v in self.headers.items()]
        await send({**OK, "headers": headers})
        await send({**END, "body": self.value.encode()})


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a_good_response_is_given_out_again(method: str) -> None:
    store, clock = Store(content_type="text/plain"), HandClock()
    middleware = alone(store, {TYPE: StaleCopies(clock=clock)})
    await request(middleware, path="/a", query=b"x=1")
    store.broken = True
    clock.move(60)
    reply = await request(middleware, method, "/a", query=b"x=1")
    assert (reply.status, reply.headers["x-fallback"]) == (200, "stale")
    assert (reply.headers["age"], reply.headers["content-length"]) == ("60", "3")
    assert reply.body == (b"one" if method == "GET" else b"")
    assert isinstance((await request(middleware, path="/a", query=b"x=2")).raised, BrokenError)
    assert middleware.as_dict()["stale"][0]["served"] == 1


async def test_a_copy_that_is_given_out_is_not_kept_anew() -> None:
    """Else it would never grow old."""
    store, clock = Store(), HandClock()
    middleware = alone(store, {TYPE: StaleCopies(clock=clock, max_age_seconds=100)})
    await request(middleware)
    store.broken = True
    for _ in range(3):
        clock.move(40)
        reply = await request(middleware)
    assert isinstance(reply.raised, BrokenError)


@pytest.mark.parametrize(
    ("sent", "asked", "method"),
    [
        ({"cache_control": "no-store"}, [], "GET"),
        ({"cache_control": "private"}, [], "GET"),
        ({"set_cookie": "a=b"}, [], "GET"),
        ({}, [(b"authorization", b"Bearer x")], "GET"),
        ({}, [(b"cookie", b"a=b")], "GET"),
        ({}, [], "POST"),
        ({}, [], "DELETE"),
    ],
    ids=shown,
)
async def test_what_may_be_somebodys_own_is_not_given_out(
    sent: Any, asked: Any, method: str
) -> None:
    store = Store(**sent)
    middleware = alone(store, {TYPE: StaleCopies()})
    await request(middleware, method, headers=asked)
    store.broken = True
    assert isinstance((await request(middleware, method, headers=asked)).raised, BrokenError)
    assert isinstance((await request(middleware)).raised, BrokenError)


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "MKCOL"])
async def test_what_an_unsafe_method_has_changed_is_forgotten(method: str) -> None:
    store = Store()
    middleware = alone(store, {TYPE: StaleCopies()})
    await request(middleware, path="/a")
    await request(middleware, method, "/a")
    store.broken = True
    assert isinstance((await request(middleware, path="/a")).raised, BrokenError)


@pytest.mark.parametrize("method", ["OPTIONS", "TRACE", "HEAD", "QUERY", "GET"])
async def test_a_safe_method_changes_nothing(method: str) -> None:
    store = Store()
    middleware = alone(store, {TYPE: StaleCopies()})
    await request(middleware, path="/a")
    await request(middleware, method, "/a")
    store.broken = True
    assert (await request(middleware, path="/a")).status == 200


async def test_an_unsafe_method_that_failed_changes_nothing() -> None:
    store = Store()
    middleware = alone(store, {TYPE: StaleCopies()})
    await request(middleware, path="/a")
    store.broken = True
    await request(middleware, "POST", "/a")
    assert (await request(middleware, path="/a")).body == b"one"


async def test_a_broken_off_response_is_not_kept() -> None:
    app = sending(OK, {**END, "more_body": True}, raised=BrokenError())
    copies = StaleCopies()
    await request(alone(app, {TYPE: copies}))
    assert copies.as_dict()["entries"] == 0


async def test_messages_of_no_shape_pass_to_the_server() -> None:
    """The observer counts what it cannot read, and the server judges it."""
    middleware = alone(sending({"type": "http.response.start"}), {TYPE: StaleCopies()})
    reply = await request(middleware, "POST")
    assert len(reply.messages) == 1 and middleware.hook_errors == 1


async def test_one_store_for_several_failures_is_seen_once() -> None:
    copies = StaleCopies()
    middleware = alone(Store(), {TYPE: copies, "/a": [copies, STATIC], "timeout": copies})
    await request(middleware, path="/a")
    assert copies.as_dict()["kept"] == 1
    assert len(middleware.as_dict()["stale"]) == 1


# What is refused further in


class Gate:
    """Waits at /hold until it is opened."""

    def __init__(self) -> None:
        self.entered, self.opened = asyncio.Event(), asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/hold":
            self.entered.set()
            await self.opened.wait()
        await send(OK)
        await send(END)


async def busy(app: Any) -> Any:
    """The reply to one who comes while another is being served."""
    gate = app.app
    held = asyncio.create_task(request(app, path="/hold"))
    await gate.entered.wait()
    reply = await request(app)
    gate.opened.set()
    await held
    return reply


async def slow(scope: Any, receive: Any, send: Any) -> None:
    await sleep(30)


def told(app: ErrorKit, lines: LogLines) -> Any:
    app.flush()
    [line] = [each for each in lines.lines() if each.get("fallback")]
    stats = app.get_error_stats()
    return line["outcome"], line["fallback_for"], stats["failed_requests"], stats["total_errors"]


async def test_what_is_shed_is_answered() -> None:
    lines = LogLines()
    app = kit(
        Gate(),
        (LoadSheddingMiddleware, {"limit": 1, "max_queue": 0}),
        lines=lines,
        fallbacks={"shed": STATIC},
    )
    reply = await busy(app)
    assert (reply.status, reply.body) == (200, b"static")
    assert "retry-after" not in reply.headers
    assert told(app, lines) == ("fallback", "shed", 0, 1)


async def test_what_an_open_breaker_refuses_is_answered() -> None:
    lines = LogLines()
    app = kit(
        Gate(),
        (CircuitBreakingMiddleware, {"key": lambda _: "it"}),
        lines=lines,
        fallbacks={"circuit_open": STATIC},
    )
    app.tracker.breaker("it").open()
    assert (await request(app)).body == b"static"
    assert told(app, lines) == ("fallback", "circuit_open", 0, 1)


@pytest.mark.parametrize("library", ["asyncio", "trio"])
def test_what_times_out_is_answered(library: str) -> None:
    lines = LogLines()
    app = kit(
        slow,
        (TimeoutMiddleware, {"total_seconds": 0.01}),
        lines=lines,
        fallbacks={"timeout": [breaks, fallback_app()]},
    )

    async def main() -> None:
        reply = await request(app)
        assert (reply.status, reply.body) == (200, b"app")

    if library == "trio":
        trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    else:
        asyncio.run(main())
    assert told(app, lines) == ("fallback", "timeout", 0, 1)


async def test_in_a_whole_stack_each_refusal_finds_its_own() -> None:
    lines = LogLines()
    app = kit(
        Gate(),
        (LoadSheddingMiddleware, {"limit": 1, "max_queue": 0}),
        (TimeoutMiddleware, {"total_seconds": 5}),
        (CircuitBreakingMiddleware, {"key": lambda scope: scope["path"]}),
        lines=lines,
        fallbacks={"shed": answer("shed"), "circuit_open": answer("open"), TYPE: answer("type")},
    )
    assert (await busy(app)).body == b"shed"
    app.tracker.breaker("/open").open()
    assert (await request(app, path="/open")).body == b"open"
    assert (await request(app, path="/fine")).body == b"of the app"
    assert app.status()["survival"]["FallbackMiddleware"]["answered"]["static"] == 2


async def test_a_breaker_hears_of_what_a_fallback_hid() -> None:
    """Else it would never open, and every request would go on to what is broken."""
    app = kit(
        broken, (CircuitBreakingMiddleware, {"key": lambda _: "it"}), fallbacks={TYPE: STATIC}
    )
    for _ in range(5):
        assert (await request(app)).body == b"static"
    assert app.tracker.breaker("it").as_dict()["failed"] == 5


async def test_a_status_without_an_exception_is_counted_too() -> None:
    """The error is counted all the same, though all that is known of it is its status."""
    error_type = quiet().classifier.status(503).info.error_type
    app = kit(refusing, fallbacks={error_type: STATIC})
    assert (await request(app)).body == b"static"
    stats = app.get_error_stats()
    assert (stats["failed_requests"], stats["errors_by_type"]) == (0, {error_type.value: 1})


# Frameworks


@pytest.mark.parametrize(
    "name", ["starlette", "fastapi", "litestar", "quart", "django", "falcon", "blacksheep"]
)
@pytest.mark.parametrize("path", ["/fail/memory"])
async def test_what_frameworks_swallow_is_answered_by_its_type(name: str, path: str) -> None:
    """Their own hooks tell the exception behind their 500."""
    app = kit(_app_module(name).make(), fallbacks={ErrorType.MEMORY: STATIC})
    reply = await request(app, path=path)
    assert (reply.status, reply.body, reply.raised) == (200, b"static", None)
    assert len(reply.starts) == 1
    stats = app.get_error_stats()
    assert (stats["failed_requests"], stats["errors_by_type"]) == (0, {"memory": 1})
    [group] = app.tracker.groups()
    assert group.type_name == "MemoryError" and group.sample["exception"]["frames"]


def _app_module(name: str) -> Any:
    """Of the applications that `tests/capture` tests with."""
    package = "apps_of_test_fallbacks"
    if package not in sys.modules:
        at = Path(__file__).parent / "capture" / "apps"
        spec = spec_from_file_location(
            package, at / "__init__.py", submodule_search_locations=[str(at)]
        )
        assert spec is not None and spec.loader is not None
        sys.modules[package] = module = module_from_spec(spec)
        spec.loader.exec_module(module)
    return importlib.import_module(f"{package}.{name}")


@pytest.mark.parametrize("stock", [True, False], ids=["stock", "own"])
async def test_fastapis_last_resort_gives_way_too(stock: bool) -> None:
    """It answers, and raises on; the handler has run, and nothing of it is sent."""
    app = FastAPI()
    ran: list[Any] = []

    @app.get("/")
    async def fails() -> None:
        raise BrokenError

    if not stock:

        @app.exception_handler(Exception)
        async def last_resort(_: Any, exc: Exception) -> JSONResponse:
            ran.append(exc)
            return JSONResponse({}, status_code=500)

    wrapped = kit(app, fallbacks={TYPE: STATIC})
    reply = await request(wrapped)
    assert (reply.body, reply.raised, len(reply.starts)) == (b"static", None, 1)
    assert len(ran) == (not stock)
    stats = wrapped.get_error_stats()
    assert (stats["failed_requests"], stats["errors_by_type"]) == (0, {"cache": 1})
    [group] = wrapped.tracker.groups()
    assert group.type_name.endswith("BrokenError") and group.count == 1


async def test_an_error_with_a_handler_of_its_own_that_answers_500_is_grouped() -> None:
    """Handled, but by a failure: a fallback in its place hides nothing."""
    app = FastAPI()

    @app.get("/")
    async def fails() -> None:
        raise BrokenError

    @app.exception_handler(BrokenError)
    async def handler(_: Any, exc: Exception) -> JSONResponse:
        return JSONResponse({}, status_code=503)

    wrapped = kit(app, fallbacks={TYPE: STATIC})
    assert (await request(wrapped)).body == b"static"
    stats = wrapped.get_error_stats()
    assert (stats["failed_requests"], stats["errors_by_type"]) == (0, {"cache": 1})
    [group] = wrapped.tracker.groups()
    assert group.type_name.endswith("BrokenError")


@pytest.mark.parametrize("fallback", [nothing, breaks, nothing_later], ids=["none", "bad", "late"])
@pytest.mark.parametrize("own", [False, True], ids=["stock", "own"])
async def test_where_no_fallback_has_an_answer_all_is_as_without(fallback: Any, own: bool) -> None:
    """The kit's answer in place of a stock 500, and the application's own where it has one."""

    async def fails(_: Any) -> Any:
        raise BrokenError

    async def last_resort(_: Any, exc: Exception) -> JSONResponse:
        return JSONResponse({"own": True}, status_code=500)

    handlers: Any = {Exception: last_resort} if own else None

    def app() -> Any:
        return Starlette(routes=[Route("/", fails)], exception_handlers=handlers)

    wrapped, plain = kit(app(), fallbacks={TYPE: fallback}), plain_kit(app())
    reply, expected = await request(wrapped), await request(plain)
    assert (reply.status, len(reply.starts)) == (expected.status, 1)
    assert reply.headers["content-type"] == expected.headers["content-type"]
    assert type(reply.raised) is type(expected.raised)
    for name in ("failed_requests", "errors_by_type", "error_groups"):
        assert wrapped.get_error_stats()[name] == plain.get_error_stats()[name]


def plain_kit(app: Any) -> ErrorKit:
    stack = MiddlewareStack(error_tracker=quiet())
    stack.add_middleware(StructuredLoggingMiddleware, stream=LogLines())
    return stack.create_middleware_stack(app)


async def test_the_applications_own_hook_hears_of_the_error_once() -> None:
    from asgi_errorkit import ErrorHandlingMiddleware

    heard: list[Any] = []
    stack = MiddlewareStack(error_tracker=quiet())
    stack.add_middleware(StructuredLoggingMiddleware, stream=LogLines())
    stack.add_middleware(ErrorHandlingMiddleware, on_error=lambda e, exc: heard.append(exc))
    stack.add_middleware(FallbackMiddleware, fallbacks={TYPE: STATIC})
    await request(stack.create_middleware_stack(broken))
    assert [type(each) for each in heard] == [BrokenError]


async def test_it_may_stand_among_starlettes_own_middleware() -> None:
    def fails(_: Any) -> Any:
        raise BrokenError

    app = Starlette(routes=[Route("/", fails)])
    app.add_middleware(FallbackMiddleware, fallbacks={TYPE: STATIC}, error_tracker=quiet())
    reply = await request(app)
    assert (reply.body, reply.raised) == (b"static", None)


async def test_one_within_another_answers_first() -> None:
    inner = alone(broken, {TYPE: [nothing, answer("inner")]})
    outer = alone(inner, {TYPE: answer("outer")})
    assert (await request(outer)).body == b"inner"
    inner = alone(broken, {TYPE: nothing})
    reply = await request(alone(inner, {TYPE: answer("outer")}))
    assert (reply.body, len(reply.starts)) == (b"outer", 1)


async def test_sessions_and_other_scopes_pass() -> None:
    exc = BrokenError()
    middleware = alone(sending(raised=exc), {TYPE: STATIC, "*": fallback_app()})
    assert (await session(middleware)).raised is exc
    for scope in ({"type": "lifespan"}, {"type": "of.somebody"}, {}):
        with pytest.raises(BrokenError):
            await middleware(scope, None, None)  # type: ignore[arg-type]  # nobody reads


async def breaking(scope: Any, receive: Any, send: Any) -> None:
    raise BrokenError("a new one each time")


@pytest.mark.parametrize("app", [sending(OK, END), breaking], ids=["well", "broken"])
@pytest.mark.parametrize("fallback", [STATIC, fallback_app(), StaleCopies()], ids=["s", "a", "c"])
async def test_a_request_leaves_no_circle_to_the_collector(app: Any, fallback: Any) -> None:
    middleware = alone(app, {TYPE: [fallback, STATIC]})

    async def nobody(*_: Any) -> None:
        pass

    await middleware(http_scope(), nobody, nobody)
    middleware.choices.recorder.flush()
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        await middleware(http_scope(), nobody, nobody)
        middleware.choices.recorder.flush()
        assert gc.collect() == 0
    finally:
        gc.enable()
        gc.unfreeze()


@pytest.mark.parametrize(
    ("fallbacks", "raised", "named"),
    [
        ({}, TypeError, "fallbacks"),
        ([], TypeError, "fallbacks"),
        ({3: STATIC}, TypeError, "fallbacks"),
        ({"shedd": STATIC}, ValueError, "fallbacks"),
        ({"fallback": STATIC}, ValueError, "fallbacks"),
        ({"/a/{x}": STATIC, "/a/{y}": STATIC}, ValueError, "fallbacks"),
        ({TYPE: []}, ValueError, "fallbacks"),
        ({TYPE: None}, TypeError, "fallback"),
        ({TYPE: b"bytes"}, TypeError, "b'bytes'"),
        ({TYPE: "text"}, TypeError, "'text'"),
        ({TYPE: [STATIC, [STATIC]]}, TypeError, "fallback"),
        ({TYPE: lambda: None}, TypeError, "fallback"),
        ({TYPE: Starlette}, TypeError, "app"),
        ({TYPE: Answer(99, [], b"")}, ValueError, "status"),
        ({TYPE: Answer(200, [(b"a", b"\r\n")], b"")}, ValueError, "header"),
        ({TYPE: Answer(200, [], "text")}, TypeError, "bytes"),  # type: ignore[arg-type]
    ],
    ids=shown,
)
def test_what_cannot_work_is_refused_by_name(
    fallbacks: Any, raised: type[Exception], named: str
) -> None:
    with pytest.raises(raised, match=named):
        FallbackMiddleware(broken, fallbacks=fallbacks)


@pytest.mark.parametrize("on", [[], "timeout", TYPE, ["fallback"], [3], ["/a"]], ids=shown)
def test_what_on_cannot_mean_is_refused(on: Any) -> None:
    with pytest.raises(ValueError, match="on must be"):
        FallbackMiddleware(broken, fallbacks={"*": STATIC}, on=on)


async def test_what_an_app_before_has_read_of_the_body_is_not_given_to_the_next_as_the_whole():
    """Neither is it waited for: it is at its end."""

    async def broken(scope, receive, send):
        raise MemoryError

    async def reads(scope, receive, send):
        await receive()
        raise ValueError

    async def echo(scope, receive, send):
        message, body = {"more_body": True}, b""
        while message.get("more_body"):
            message = await receive()
            body += message["body"]
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"<" + body + b">"})

    for chain, body, expected in (
        ([reads, echo], [b"one", b"two"], b"<>"),
        ([reads, echo], [b"one"], b"<>"),
        ([reads, reads, echo], [b"one", b"two"], b"<>"),
        ([echo], [b"one", b"two"], b"<onetwo>"),
    ):
        kit = FallbackMiddleware(broken, fallbacks={"*": chain})
        assert (await request(kit, "POST", body=body)).body == expected


@pytest.mark.parametrize("kind", ["static", "callable", "stale", "app"])
async def test_answers_have_the_headers_that_are_wanted_in_each(kind):
    """As CORS needs them; what has some of its own, and the app's own answers, have them once."""
    origin = "https://a.example"
    own = [(b"access-control-allow-origin", origin.encode()), (b"vary", b"Accept")]
    fails = False

    async def app(scope, receive, send):
        if fails:
            raise MemoryError
        await send({"type": "http.response.start", "status": 200, "headers": own})
        await send({"type": "http.response.body", "body": b"good"})

    async def other(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": own})
        await send({"type": "http.response.body", "body": b"other"})

    fallback = {
        "static": Answer(200, [], b""),
        "callable": lambda exchange, failing: Answer(200, own, b""),
        "stale": StaleCopies(),
        "app": other,
    }[kind]
    stack = MiddlewareStack()
    stack.add_middleware(StructuredLoggingMiddleware, stream=LogLines())
    stack.add_middleware(
        ErrorHandlingMiddleware, headers=cors(allow_origins=[origin]), log_errors=False
    )
    stack.add_middleware(FallbackMiddleware, fallbacks={"*": fallback})
    kit = stack.create_middleware_stack(app)
    asked = [(b"origin", origin.encode())]
    assert (await request(kit, headers=asked)).status == 200
    fails = True
    reply = await request(kit, headers=asked)
    assert reply.headers["x-fallback"] == kind
    start = next(m for m in reply.messages if m["type"] == "http.response.start")
    names = [name for name, _ in start["headers"]]
    assert names.count(b"access-control-allow-origin") == 1
    assert reply.headers["access-control-allow-origin"] == origin
    assert b"vary" in names
