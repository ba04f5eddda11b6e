"""A stock 500 is held back only when an exception is at its heels; nothing overtakes or is lost."""

import asyncio
import gc
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from asgi_errorkit import (
    Answer,
    ErrorHandlingMiddleware,
    ErrorKit,
    StructuredLoggingMiddleware,
)
from asgi_errorkit.testing import LogLines, http_scope, request

STOCK = b"Internal Server Error"
START = {
    "type": "http.response.start",
    "status": 500,
    "headers": [(b"content-length", b"21"), (b"content-type", b"text/plain")],
}


def shapes(messages: list[Any]) -> list[tuple[str, Any]]:
    return [(m["type"].rpartition(".")[2], m.get("status", m.get("body"))) for m in messages]


async def boom(_: Any) -> Any:
    raise ValueError("x")


async def refused(_: Any) -> Any:
    raise HTTPException(500)


STARLETTE = Starlette(routes=[Route("/boom", boom), Route("/refused", refused)])


@pytest.mark.parametrize("depth", ["outermost", "further in"])
async def test_starlettes_stock_answer_is_replaced_and_a_chosen_one_is_not(depth: str) -> None:
    kit: Any = ErrorHandlingMiddleware(STARLETTE)
    if depth == "further in":
        kit = StructuredLoggingMiddleware(kit, stream=LogLines())
    assert (await request(kit, path="/boom")).json()["title"] == STOCK.decode()
    chosen = await request(kit, path="/refused")
    assert (chosen.status, chosen.body) == (500, STOCK)
    assert chosen.headers["content-type"].startswith("text/plain")


async def test_a_handlers_own_500_does_not_wait_for_its_background_task() -> None:
    began = asyncio.Event()
    seen: list[str] = []

    async def later() -> None:
        began.set()
        await asyncio.Event().wait()

    async def endpoint(_: Any) -> PlainTextResponse:
        return PlainTextResponse(STOCK, 500, background=BackgroundTask(later))

    async def send(message: Any) -> None:
        seen.append(message["type"])

    async def receive() -> Any:
        return {"type": "http.request"}

    kit = ErrorKit(Starlette(routes=[Route("/", endpoint)]))
    task = asyncio.create_task(kit(http_scope(), receive, send))
    await began.wait()
    assert seen == ["http.response.start", "http.response.body"]
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert kit.get_error_stats()["errors_by_type"] == {"unknown": 1}


@pytest.mark.parametrize(
    "follower",
    [
        {"type": "http.response.start", "status": 503, "headers": []},
        {"type": "http.response.trailers", "headers": []},
        {"type": "http.response.body", "body": b"other words, of any size"},
    ],
    ids=["start", "trailers", "body"],
)
async def test_nothing_overtakes_what_is_held(follower: dict[str, Any]) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        try:
            raise ValueError
        except ValueError:
            await send(START)
            await send(follower)

    bare, wrapped = await request(app), await request(ErrorKit(app))
    assert shapes(wrapped.messages) == shapes(bare.messages)


async def test_headers_that_can_be_read_but_once_are_left_to_the_server() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        try:
            raise ValueError
        except ValueError:
            await send({**START, "headers": (pair for pair in START["headers"])})  # type: ignore[attr-defined]
            await send({"type": "http.response.body", "body": STOCK})

    reply = await request(ErrorKit(app))
    assert reply.headers["content-type"] == "text/plain"
    assert reply.body == STOCK


@pytest.mark.parametrize("wrap", [1, 2])
async def test_an_error_leaves_no_circle_for_the_collector(wrap: int) -> None:
    """Its traceback holds the locals of every frame: uploads and tensors among them."""
    app: Any = STARLETTE
    for _ in range(wrap):
        app = ErrorHandlingMiddleware(app)
    await request(app, path="/boom")
    gc.collect()
    gc.disable()
    try:
        before = kept_errors()
        for _ in range(10):
            await request(app, path="/boom")
        assert kept_errors() == before
    finally:
        gc.enable()


def kept_errors() -> int:
    """How many of the app's errors are alive; by their type, for a lazy object's class may lie."""
    return sum(type(each) is ValueError and each.args == ("x",) for each in gc.get_objects())


async def test_a_route_that_cannot_be_looked_at_costs_nothing() -> None:
    class Hostile:
        @property
        def path(self) -> str:
            raise RuntimeError

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope["route"] = Hostile()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body"})

    kit = ErrorKit(app)
    reply = await request(kit)
    assert (reply.status, reply.raised) == (200, None)
    stats = kit.get_performance_stats()
    assert (stats["total_requests"], stats["in_flight"]) == (1, 0)


async def test_a_call_with_the_scope_of_an_ended_request_is_a_request_of_its_own() -> None:
    scopes: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scopes.append(dict(scope))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body"})

    async def receive() -> Any:
        return {"type": "http.request"}

    async def send(_: Any) -> None: ...

    kit = ErrorKit(app)
    await request(kit)
    await kit(scopes[0], receive, send)
    stats = kit.get_performance_stats()
    assert (stats["total_requests"], stats["in_flight"]) == (2, 0)


async def test_an_error_after_a_refusal_is_a_background_failure() -> None:
    async def later() -> None:
        raise KeyError

    async def endpoint(_: Any) -> PlainTextResponse:
        return PlainTextResponse("no", 404, background=BackgroundTask(later))

    kit = ErrorKit(Starlette(routes=[Route("/", endpoint)]))
    reply = await request(kit)
    assert (reply.status, type(reply.raised)) == (404, KeyError)
    assert kit.get_performance_stats()["outcomes"] == {"background_failed": 1}


@pytest.mark.parametrize("depth", ["outermost", "further in"])
async def test_what_middlewares_added_to_the_stock_answer_is_kept(depth: str) -> None:
    """A browser must be able to read the 500 that is sent in its place."""
    cors = CORSMiddleware(STARLETTE, allow_origins=["https://a.b"], expose_headers=["x-a"])

    async def app(scope: Any, receive: Any, send: Any) -> None:
        async def adding(message: Any) -> None:
            if message["type"] == "http.response.start":
                own = [(b"set-cookie", b"a=1"), (b"Strict-Transport-Security", b"max-age=9")]
                message = {**message, "headers": [*message["headers"], *own]}
            await send(message)

        await cors(scope, receive, adding)

    kit: Any = ErrorHandlingMiddleware(app)
    if depth == "further in":
        kit = StructuredLoggingMiddleware(kit, stream=LogLines())
    reply = await request(kit, path="/boom", headers=[(b"origin", b"https://a.b")])
    assert reply.headers["content-type"] == "application/problem+json"
    assert reply.headers["content-length"] == str(len(reply.body))
    assert reply.headers["access-control-allow-origin"] == "https://a.b"
    assert reply.headers["strict-transport-security"] == "max-age=9"
    assert reply.headers["set-cookie"] == "a=1"
    names = [name for name, _ in reply.starts[0]["headers"]]
    assert names.count(b"content-type") == names.count(b"content-length") == 1


@pytest.mark.parametrize("key", [500, Exception])
async def test_the_apps_own_answer_to_any_exception_is_left_alone_at_once(key: Any) -> None:
    """Also in the stock words, and although its background task never ends."""
    began = asyncio.Event()
    sent: list[Any] = []

    async def later() -> None:
        began.set()
        await asyncio.Event().wait()

    async def handler(_: Any, exc: Exception) -> PlainTextResponse:
        return PlainTextResponse(
            STOCK, 500, headers={"x-mine": "1"}, background=BackgroundTask(later)
        )

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "http.request"}

    app = Starlette(routes=[Route("/", boom)], exception_handlers={key: handler})
    task = asyncio.create_task(ErrorKit(app)(http_scope(), receive, send))
    await began.wait()
    assert shapes(sent) == [("start", 500), ("body", STOCK)]
    assert (b"x-mine", b"1") in sent[0]["headers"]
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize("wrap", [1, 2])
@pytest.mark.parametrize("reraise", [False, True])
async def test_an_answer_of_our_own_is_never_held(wrap: int, reraise: bool) -> None:
    """Not even one in the stock words, which a responder may choose."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise ValueError("x")

    answer = Answer(500, [(b"content-length", b"21"), (b"x-mine", b"1")], STOCK)
    kit: Any = ErrorHandlingMiddleware(app, responder=lambda *_: answer, reraise=reraise)
    if wrap == 2:
        kit = StructuredLoggingMiddleware(kit, stream=LogLines())
    reply = await request(kit)
    assert (reply.status, reply.body, reply.complete) == (500, STOCK, True)
    assert reply.headers["x-mine"] == "1"
    assert isinstance(reply.raised, ValueError) is reraise


async def test_a_silent_app_is_answered_amid_somebodys_handling_of_an_error() -> None:
    async def silent(scope: Any, receive: Any, send: Any) -> None:
        pass

    answer = Answer(500, [(b"content-length", b"21")], STOCK)
    kit = ErrorHandlingMiddleware(silent, responder=lambda *_: answer)
    try:
        raise KeyError
    except KeyError:
        reply = await request(kit)
    assert (reply.status, reply.complete) == (500, True)


def stock(*, then: Any) -> Any:
    """An app that answers an exception with the stock words by itself, and goes on."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        try:
            raise ValueError
        except ValueError:
            await send(START)
            await send({"type": "http.response.body", "body": STOCK})
        await then(receive)

    return app


@pytest.mark.parametrize("wrap", [1, 2])
@pytest.mark.parametrize("exc", [asyncio.CancelledError(), KeyboardInterrupt()], ids=repr)
async def test_what_is_held_is_sent_when_the_app_is_interrupted(
    wrap: int, exc: BaseException
) -> None:
    async def then(_: Any) -> None:
        raise exc

    kit: Any = ErrorHandlingMiddleware(stock(then=then))
    if wrap == 2:
        kit = StructuredLoggingMiddleware(kit, stream=LogLines())
    reply = await request(kit)
    assert reply.raised is exc
    assert (reply.status, reply.body) == (500, STOCK)


@pytest.mark.parametrize("wrap", [1, 2])
async def test_what_is_held_is_sent_to_a_client_that_the_app_waits_for(wrap: int) -> None:
    """The client stays until it has its answer: neither waits for the other."""

    async def then(receive: Any) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    kit: Any = ErrorHandlingMiddleware(stock(then=then))
    if wrap == 2:
        kit = StructuredLoggingMiddleware(kit, stream=LogLines())
    reply = await request(kit)
    assert (reply.status, reply.body, reply.raised) == (500, STOCK, None)
