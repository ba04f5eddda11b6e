"""What there is no room for is refused unheard, what is let in is served, and no place is lost."""

import asyncio
import gc
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from math import nan
from random import Random
from typing import Any

import orjson
import pytest
import trio
import trio.testing
from fastapi import FastAPI, HTTPException
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from asgi_errorkit import ErrorKit, ErrorTracker, MiddlewareStack, Recorder, Retry, current
from asgi_errorkit.async_library import cancel_scope, sleep, wakeup
from asgi_errorkit.errors import OverloadedError
from asgi_errorkit.limiter import ConcurrencyLimiter
from asgi_errorkit.limits import AdaptiveLimit
from asgi_errorkit.memory_guard import MemoryGuard
from asgi_errorkit.middleware.circuit_breaking import CircuitBreakingMiddleware
from asgi_errorkit.middleware.load_shedding import LoadSheddingMiddleware
from asgi_errorkit.middleware.retrying import RetryMiddleware
from asgi_errorkit.middleware.structured_logging import StructuredLoggingMiddleware
from asgi_errorkit.middleware.timeouts import TimeoutMiddleware
from asgi_errorkit.testing import HandClock, LogLines, http_scope, instant_waits, request, session
from tests.naming import shown

OK = {"type": "http.response.start", "status": 200, "headers": []}
PIECE = {"type": "http.response.body", "body": b"1", "more_body": True}
END = {"type": "http.response.body", "body": b"2"}


class Gated:
    """An app, each request of which waits until its path's gate opens; what began is written down."""

    def __init__(self, *before: Any, after: Any = (OK, END)) -> None:
        self.before, self.after = before, after
        self.begun: list[str] = []
        self.ended: list[str] = []
        self._wakeups: list[Any] = []
        self._open: set[str] = set()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> str:
        path = scope["path"]
        self.begun.append(path)
        try:
            if scope["type"] == "websocket":
                await receive()
                await send({"type": "websocket.accept"})
            for message in self.before:
                await send(message)
            while path not in self._open:
                waiting = wakeup()
                self._wakeups.append(waiting)
                await waiting.wait()
            if scope["type"] == "http":
                for message in self.after:
                    await send(message)
        finally:
            self.ended.append(path)
        return path

    def open(self, *paths: str) -> None:
        self._open.update(paths)
        for waiting in self._wakeups:
            waiting.wake()
        self._wakeups.clear()


def quiet(clock: Any = None) -> ErrorTracker:
    options = {} if clock is None else {"clock": clock}
    return ErrorTracker(recorder=Recorder(flush_seconds=None, **options))


def shedding(app: Any, **options: Any) -> LoadSheddingMiddleware:
    return LoadSheddingMiddleware(app, **{"error_tracker": quiet(), "max_queue": 0, **options})


def in_kit(app: Any, lines: LogLines, *within: Any, **options: Any) -> ErrorKit:
    stack = MiddlewareStack(error_tracker=quiet())
    stack.add_middleware(StructuredLoggingMiddleware, stream=lines)
    stack.add_middleware(LoadSheddingMiddleware, **{"max_queue": 0, **options})
    for cls, its in within:
        stack.add_middleware(cls, **its)
    return stack.create_middleware_stack(app)


def the(kit: ErrorKit) -> LoadSheddingMiddleware:
    [layer] = [each for each in kit.survival if isinstance(each, LoadSheddingMiddleware)]
    return layer


def in_flight(middleware: LoadSheddingMiddleware) -> list[int]:
    return [each["in_flight"] for each in middleware.as_dict()["limits"]]


async def settled() -> None:
    """Long enough for every task to come to where it waits, in whatever order a loop runs them."""
    for _ in range(40):
        await sleep(0)


class Server:
    """Serves requests side by side, under asyncio or trio."""

    def __init__(self, app: Any, spawn: Callable[..., Any]) -> None:
        self.app, self._spawn = app, spawn
        self.replies: dict[str, Any] = {}

    async def begin(self, *paths: str, **more: Any) -> None:
        """Have them come in one after the other."""
        for path in paths:
            self._spawn(self._serve, path, more)
            await settled()

    async def _serve(self, path: str, more: Any) -> None:
        self.replies[path] = await request(self.app, path=path, **more)

    @property
    def statuses(self) -> dict[str, Any]:
        return {path: reply.status for path, reply in self.replies.items()}


@asynccontextmanager
async def serving(app: Any) -> Any:
    async with asyncio.TaskGroup() as group:
        yield Server(app, lambda task, *given: group.create_task(task(*given)))


def run(library: str, main: Callable[..., Awaitable[Any]]) -> Any:
    """Give it what spawns, under asyncio or trio."""

    async def in_trio() -> Any:
        async with trio.open_nursery() as nursery:
            return await main(nursery.start_soon)

    async def in_asyncio() -> Any:
        async with asyncio.TaskGroup() as group:
            return await main(lambda task, *given: group.create_task(task(*given)))

    if library == "trio":
        return trio.run(in_trio, clock=trio.testing.MockClock(autojump_threshold=0))
    return asyncio.run(in_asyncio())


both = pytest.mark.parametrize("library", ["asyncio", "trio"])


# Refused


@both
def test_one_too_many_is_refused_unheard(library: str) -> None:
    app = Gated()
    middleware = shedding(app, limit=2)

    async def main(spawn: Any) -> None:
        server = Server(middleware, spawn)
        await server.begin("/1", "/2", "/3")
        assert server.statuses == {"/3": 503}
        reply = server.replies["/3"]
        assert int(reply.headers["retry-after"]) >= 1
        assert reply.headers["content-type"] == "application/problem+json"
        assert (reply.raised, reply.complete) == (None, True)
        assert app.begun == ["/1", "/2"]
        app.open("/1", "/2", "/4")
        await settled()
        await server.begin("/4")
        assert server.statuses == {"/1": 200, "/2": 200, "/3": 503, "/4": 200}

    run(library, main)
    assert middleware.shed == {"limit": 1, "queue": 0, "queue_timeout": 0, "memory": 0}
    assert in_flight(middleware) == [0]


async def test_what_is_shed_is_told_as_such() -> None:
    """Outcome, reason and the words of the error, in the log, the statistics and the answer."""
    lines, app = LogLines(), Gated()
    kit = in_kit(app, lines, limit=1)
    async with serving(kit) as server:
        await server.begin("/1", "/2")
        app.open("/1")
    kit.flush()
    [line] = lines.lines("request_error")
    assert (line["outcome"], line["status_code"], line["shed_by"]) == ("shed", 503, "limit")
    assert server.replies["/2"].headers["x-request-id"] == line["request_id"]
    stats = kit.get_error_stats()
    assert (stats["total_requests"], stats["failed_requests"]) == (2, 1)
    assert kit.get_performance_stats()["outcomes"]["shed"] == 1
    survival = kit.status()["survival"]["LoadSheddingMiddleware"]
    assert survival["shed"]["limit"] == 1 and survival["limits"][0]["in_flight"] == 0


async def test_a_head_request_is_refused_without_a_body() -> None:
    app = Gated()
    async with serving(shedding(app, limit=1)) as server:
        await server.begin("/1")
        await server.begin("/2", method="HEAD")
        app.open("/1")
    assert server.replies["/2"].status == 503 and server.replies["/2"].body == b""


async def test_a_refusal_reads_nothing_of_the_body() -> None:
    app = Gated()
    middleware = shedding(app, limit=1)

    async def receive() -> Any:
        raise AssertionError

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message["type"])

    async with serving(middleware) as server:
        await server.begin("/1")
        await middleware(http_scope("POST", "/2"), receive, send)
        app.open("/1")
    assert sent == ["http.response.start", "http.response.body"]


async def test_a_refusal_leaves_no_circle_to_the_collector() -> None:
    """It must be cheap: there are most of them when there is least to spare."""
    app = Gated()
    middleware = shedding(app, limit=1)

    async def nothing(*_: Any) -> None:
        pass

    async with serving(middleware) as server:
        await server.begin("/1")
        for _ in range(2):
            gc.collect()
            gc.freeze()
            gc.disable()
            try:
                await middleware(http_scope(), nothing, nothing)
                assert gc.collect() == 0
            finally:
                gc.enable()
        gc.unfreeze()
        app.open("/1")


async def test_what_is_served_leaves_no_circle_to_the_collector() -> None:
    middleware = shedding(hello, limit=AdaptiveLimit())

    async def nothing(*_: Any) -> None:
        pass

    await middleware(http_scope(), nothing, nothing)
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        await middleware(http_scope(), nothing, nothing)
        assert gc.collect() == 0
    finally:
        gc.enable()
        gc.unfreeze()


async def hello(scope: Any, receive: Any, send: Any) -> Any:
    await send(OK)
    await send(END)
    return "word"


async def test_what_is_served_is_passed_unchanged() -> None:
    """The very messages and the value that the app returns; other scopes pass too."""
    messages = [
        {"type": "http.response.early_hint", "links": []},
        {"type": "http.response.start", "status": 200, "headers": []},
        PIECE,
        {},
        END,
    ]

    async def app(scope: Any, receive: Any, send: Any) -> str:
        if scope.get("type") == "http":
            for message in messages:
                await send(message)
        return "word"

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        raise AssertionError

    middleware = shedding(app, limit=1)
    # A frame further out adds the id to the start; the rest is the app's own.
    assert await middleware(http_scope(), receive, send) == "word"
    assert all(
        one is other
        for one, other in zip(sent, messages, strict=True)
        if other.get("type") != "http.response.start"
    )
    for scope in ({"type": "lifespan"}, {"type": "of.somebody"}, {}):
        assert await middleware(scope, receive, send) == "word"


# No place is lost


@pytest.mark.parametrize(
    "messages", [(), (OK,), (OK, PIECE), (OK, END)], ids=["before", "start", "piece", "end"]
)
async def test_an_error_gives_the_place_back(messages: Any) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        for message in messages:
            await send(message)
        raise ValueError("boom")

    middleware = shedding(app, limit=1)
    for _ in range(3):
        assert isinstance((await request(middleware)).raised, ValueError)
        assert in_flight(middleware) == [0]


@pytest.mark.parametrize("exc", [asyncio.CancelledError, KeyboardInterrupt, SystemExit])
async def test_what_ends_a_task_or_the_process_gives_the_place_back(exc: Any) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise exc

    middleware = shedding(app, limit=1)
    assert isinstance((await request(middleware)).raised, exc)
    assert in_flight(middleware) == [0]


@both
@pytest.mark.parametrize("steps", range(1, 12))
def test_a_cancellation_at_any_await_gives_the_place_back(library: str, steps: int) -> None:
    """While it waits, as it is let in, in the app, amid the response."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        for message in (OK, PIECE, END):
            await sleep(0)
            await send(message)

    async def main(spawn: Any) -> None:
        middleware = shedding(app, limit=1, max_queue=9, queue_seconds=5)
        blocker = Gated()
        blocked = shedding(blocker, limit=1)
        blocked._limiters = middleware._limiters  # the same place, held by another app
        server = Server(blocked, spawn)
        await server.begin("/held")
        scopes: list[Any] = []

        async def waits() -> None:
            if library == "trio":
                with trio.CancelScope() as scope:
                    scopes.append(scope)
                    await request(middleware)
            else:
                scopes.append(asyncio.current_task())
                await request(middleware)

        spawn(waits)
        await sleep(0)
        for step in range(steps):
            if step == 5:
                blocker.open("/held")
            await sleep(0)
        scopes[0].cancel()
        blocker.open("/held")
        await settled()
        assert in_flight(middleware) == [0]
        assert middleware.as_dict()["limits"][0]["queued"] == 0
        assert (await request(middleware)).status == 200

    run(library, main)


async def test_a_client_that_leaves_gives_the_place_back() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    middleware = shedding(app, limit=1)
    await request(middleware, leaves=True)
    assert in_flight(middleware) == [0]


async def test_a_server_whose_send_fails_gives_the_place_back() -> None:
    middleware = shedding(hello, limit=1)

    async def send(message: Any) -> None:
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await middleware(http_scope(), None, send)  # type: ignore[arg-type]  # nothing reads
    assert in_flight(middleware) == [0]


async def test_a_closed_coroutine_gives_the_place_back() -> None:
    """A loop that ends closes what it has not finished, and nothing can be awaited then."""
    app = Gated()
    middleware = shedding(app, limit=1)

    async def nothing(*_: Any) -> None:
        pass

    running = middleware(http_scope(), nothing, nothing)
    running.send(None)
    assert in_flight(middleware) == [1]
    running.close()
    assert in_flight(middleware) == [0]


async def test_a_coroutine_that_is_closed_in_the_queue_leaves_it() -> None:
    app = Gated()
    middleware = shedding(app, limit=1, max_queue=5, queue_seconds=5)

    async def nothing(*_: Any) -> None:
        pass

    async with serving(middleware) as server:
        await server.begin("/1")
        waiting = middleware(http_scope(), nothing, nothing)
        waiting.send(None)
        assert middleware.as_dict()["limits"][0]["queued"] == 1
        waiting.close()
        assert middleware.as_dict()["limits"][0]["queued"] == 0
        app.open("/1")
    assert in_flight(middleware) == [0]


@both
@pytest.mark.parametrize("seed", range(4))
def test_under_a_storm_nobody_gets_in_beside_the_limit_and_no_place_is_lost(
    library: str, seed: int
) -> None:
    """Errors, streams, timeouts further in, and clients that are cancelled at any moment."""
    random = Random(seed)
    running, most = 0, 0

    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        try:
            for message in (OK, PIECE, PIECE, END):
                await sleep(random.choice((0, 0, 0.001, 0.02)))
                if random.random() < 0.1:
                    raise ValueError("boom")
                await send(message)
        finally:
            running -= 1

    tracker = quiet()
    inner = TimeoutMiddleware(app, total_seconds=0.01, error_tracker=tracker)
    middleware = LoadSheddingMiddleware(
        inner,
        limit=3,
        max_queue=5,
        queue_seconds=0.01,
        priority=lambda _: random.randrange(3),
        error_tracker=tracker,
    )

    async def client() -> None:
        await sleep(random.random() * 0.05)
        with cancel_scope(random.choice((0, 0.001, 0.01, 1))):
            reply = await request(middleware)
            if not isinstance(reply.raised, (Exception, type(None))):
                raise reply.raised

    async def main(spawn: Any) -> None:
        for _ in range(150):
            spawn(client)

    run(library, main)
    assert (running, most) == (0, 3)
    [limit] = middleware.as_dict()["limits"]
    assert (limit["in_flight"], limit["queued"]) == (0, 0)
    refused = sum(middleware.shed.values())
    assert 0 < refused <= 150 - limit["admitted"]


async def test_a_stream_keeps_its_place_to_its_end() -> None:
    app = Gated(OK, PIECE, after=(END,))
    async with serving(shedding(app, limit=1)) as server:
        await server.begin("/1", "/2")
        assert server.statuses == {"/2": 503}
        app.open("/1", "/3")
        await settled()
        await server.begin("/3")
    assert server.statuses == {"/1": 200, "/2": 503, "/3": 200}


async def test_a_background_task_keeps_its_place() -> None:
    """It takes what the limit is there to guard."""
    gate = asyncio.Event()

    async def answer(_: Any) -> PlainTextResponse:
        return PlainTextResponse("fine", background=BackgroundTask(gate.wait))

    middleware = shedding(Starlette(routes=[Route("/", answer)]), limit=1)
    task = asyncio.create_task(request(middleware))
    await asyncio.sleep(0.01)
    assert (await request(middleware)).status == 503
    gate.set()
    assert (await task).status == 200
    assert (await request(middleware)).status == 200


# The queue


@both
def test_who_waits_is_served_when_there_is_room(library: str) -> None:
    app, lines = Gated(), LogLines()
    kit = in_kit(app, lines, limit=1, max_queue=2, queue_seconds=5)

    async def main(spawn: Any) -> Server:
        server = Server(kit, spawn)
        await server.begin("/1", "/2", "/3", "/4")
        assert server.statuses == {"/4": 503}
        app.open("/1", "/2", "/3")
        await settled()
        assert server.statuses == {"/1": 200, "/2": 200, "/3": 200, "/4": 503}
        assert app.begun == ["/1", "/2", "/3"]
        return server

    server = run(library, main)
    kit.flush()
    assert the(kit).shed["queue"] == 1
    waits = {line["request_id"]: line.get("queued_seconds") for line in lines.lines()}
    waited = {path: waits[r.headers["x-request-id"]] for path, r in server.replies.items()}
    assert waited["/1"] is None
    assert waited["/2"] > 0 and waited["/3"] > 0


@both
def test_who_has_waited_long_enough_is_refused(library: str) -> None:
    app = Gated()
    middleware = shedding(app, limit=1, max_queue=5, queue_seconds=0.02)

    async def main(spawn: Any) -> None:
        server = Server(middleware, spawn)
        await server.begin("/1", "/2")
        await sleep(0.1)
        assert server.statuses == {"/2": 503}
        app.open("/1")

    run(library, main)
    assert middleware.shed["queue_timeout"] == 1
    assert app.begun == ["/1"]


@both
def test_under_overload_the_newest_goes_first(library: str) -> None:
    app, clock = Gated(), HandClock()
    middleware = shedding(app, limit=1, max_queue=9, queue_seconds=10)
    [limiter] = middleware._limiters.values()
    limiter._clock = clock

    async def main(spawn: Any) -> None:
        server = Server(middleware, spawn)
        await server.begin("/1", "/2", "/3")
        clock.move(2)
        await server.begin("/4")
        app.open("/1", "/2", "/3", "/4")
        await settled()
        assert app.begun == ["/1", "/4", "/3", "/2"]

    run(library, main)


@both
def test_the_highest_priority_goes_first_and_the_lowest_makes_room(library: str) -> None:
    app = Gated()
    middleware = shedding(
        app, limit=1, max_queue=2, queue_seconds=5, priority=lambda scope: int(scope["path"][1:])
    )

    async def main(spawn: Any) -> None:
        server = Server(middleware, spawn)
        await server.begin("/9", "/1", "/5", "/7")
        assert server.statuses == {"/1": 503}
        app.open("/9", "/5", "/7")
        await settled()
        assert app.begun == ["/9", "/7", "/5"]

    run(library, main)


@pytest.mark.parametrize("priority", [-(10**30), 10**30, "7", 2.5, None, nan, object()], ids=shown)
async def test_any_word_of_a_priority_is_lived_with(priority: Any) -> None:
    """What is no number is counted, and what is out of bounds is the outermost."""
    app = Gated()
    middleware = shedding(app, limit=1, max_queue=9, queue_seconds=5, priority=lambda _: priority)
    async with serving(middleware) as server:
        await server.begin("/1", "/2")
        app.open("/1", "/2")
    assert server.statuses == {"/1": 200, "/2": 200}
    wrong = priority is None or priority != priority or type(priority) is object  # noqa: PLR0124
    assert (middleware.hook_errors > 0) is wrong


# Whose limit it is


async def test_routes_have_limits_of_their_own_or_none() -> None:
    app = Gated()
    middleware = shedding(app, limit=1, routes={"/a/*": 2, "/free": None, "POST /b": 1})
    async with serving(middleware) as server:
        await server.begin("/x", "/y", "/a/1", "/a/2", "/a/3", "/free", "/b")
        assert server.statuses == {"/y": 503, "/a/3": 503, "/b": 503}
        await server.begin("/b", method="POST")
        assert app.begun[-1] == "/b"
        app.open("/x", "/a/1", "/a/2", "/free", "/b")
    assert in_flight(middleware) == [0, 0, 0]
    names = {each["name"] for each in middleware.as_dict()["limits"]}
    assert names == {"", "/a/*", "POST /b"}


async def test_each_key_has_a_limit_of_its_own() -> None:
    app = Gated()
    middleware = shedding(app, limit=1, key=lambda scope: scope["path"].split("/")[1])
    async with serving(middleware) as server:
        await server.begin("/a/1", "/a/2", "/b/1")
        assert server.statuses == {"/a/2": 503}
        app.open("/a/1", "/b/1")
    assert {each["name"] for each in middleware.as_dict()["limits"]} == {"a", "b"}


async def test_a_callable_makes_a_limit_for_each_key() -> None:
    middleware = shedding(hello, limit=AdaptiveLimit, key=lambda scope: scope["path"])
    for path in ("/a", "/b"):
        await request(middleware, path=path)
    first, second = (each._adaptive for each in middleware._limiters.values())
    assert first is not second and isinstance(first, AdaptiveLimit)


async def test_what_has_no_key_is_limited_by_nothing() -> None:
    """None says so on purpose."""
    app = Gated()
    middleware = shedding(app, limit=1, key=lambda _: None)
    async with serving(middleware) as server:
        await server.begin("/1", "/2")
        app.open("/1", "/2")
    assert server.statuses == {"/1": 200, "/2": 200}
    assert middleware.hook_errors == 0


@pytest.mark.parametrize("key", [3, ["a"], b"a"], ids=shown)
async def test_those_whose_key_cannot_be_told_share_one_limit(key: Any) -> None:
    """Also one that cannot be hashed: a hook that fails must not let in any number."""
    app = Gated()
    middleware = shedding(app, limit=1, key=lambda _: key)
    async with serving(middleware) as server:
        await server.begin("/1", "/2")
        app.open("/1", "/2")
    assert server.statuses == {"/1": 200, "/2": 503}
    assert middleware.hook_errors == 2
    assert [each["name"] for each in middleware.as_dict()["limits"]] == ["(unknown)"]


@pytest.mark.parametrize("key", ["\ud800", "x" * 100_000, "a\nb", ""], ids=shown)
async def test_whatever_text_is_a_key_can_be_shown(key: str) -> None:
    middleware = shedding(hello, limit=1, key=lambda _: key)
    assert (await request(middleware)).status == 200
    assert len(orjson.dumps(middleware.as_dict())) < 1000
    assert len(middleware._limiters) == 1


async def test_keys_are_bounded_and_idle_ones_go_first() -> None:
    """A client that makes up keys fills no memory, and does not free a busy one's place."""
    app = Gated()
    app.open(*(f"/{n}" for n in range(1, 3000)))
    middleware = shedding(app, limit=1, key=lambda scope: scope["path"])
    async with serving(middleware) as server:
        await server.begin("/0")
        for number in range(1, 3000):
            await request(middleware, path=f"/{number}")
        assert len(middleware._limiters) == 1000
        assert (await request(middleware, path="/0")).status == 503
        app.open("/0")


async def test_where_all_keys_are_busy_the_oldest_is_forgotten_and_nothing_breaks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from asgi_errorkit.middleware import load_shedding

    monkeypatch.setattr(load_shedding, "_MOST_KEYS", 2)
    app = Gated()
    middleware = shedding(app, limit=1, key=lambda scope: scope["path"])
    async with serving(middleware) as server:
        await server.begin("/1", "/2", "/3")
        assert list(middleware._limiters) == ["/2", "/3"]
        app.open("/1", "/2", "/3")
    assert server.statuses == {"/1": 200, "/2": 200, "/3": 200}
    assert in_flight(middleware) == [0, 0]


def breaks(*_: Any) -> Any:
    raise LookupError("the hook broke")


@pytest.mark.parametrize("hook", ["key", "priority", "heavy"])
async def test_a_hook_that_raises_is_counted_and_breaks_nothing(hook: str) -> None:
    app = Gated()
    middleware = shedding(
        app, limit=1, max_queue=9, queue_seconds=5, max_memory_mb=1e9, **{hook: breaks}
    )
    async with serving(middleware) as server:
        await server.begin("/1", "/2")
        app.open("/1", "/2")
    assert server.statuses == {"/1": 200, "/2": 200}
    assert middleware.as_dict()["hook_errors"] == 2


async def test_a_limit_that_cannot_be_made_for_a_key_is_counted_and_limits_nothing() -> None:
    made = iter([5])

    def limit() -> int:
        return next(made)  # at construction; StopIteration ever after

    middleware = shedding(hello, limit=limit, key=lambda scope: scope["path"])
    assert (await request(middleware)).status == 200
    assert (middleware.hook_errors, len(middleware._limiters)) == (1, 0)


# What an adaptive limit learns


class Learning(AdaptiveLimit):
    """Writes down what it is told."""

    __slots__ = ("drops", "seen")

    def __init__(self) -> None:
        super().__init__(start=20)
        self.seen: list[float] = []
        self.drops = 0

    def observe(self, seconds: float, in_flight: int) -> None:
        self.seen.append(seconds)

    def dropped(self) -> None:
        self.drops += 1


def timed(clock: HandClock, *messages: Any, raised: Any = None) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        for message in messages:
            clock.move(1)
            await send(message)
        clock.move(1)
        if raised is not None:
            raise raised

    return app


START_503 = {**OK, "status": 503}


@pytest.mark.parametrize(
    ("messages", "raised", "learnt"),
    [
        ((OK, PIECE, PIECE, END), None, 1.0),
        (({**OK, "status": 404}, END), None, 1.0),
        ((OK, PIECE), ValueError(), 1.0),
        ((), ValueError(), nan),
        ((), None, nan),
        ((START_503, END), None, nan),
        ((START_503, END), ValueError(), nan),
    ],
    ids=["stream", "404", "broken off", "raised", "silent", "503", "503 and raised"],
)
async def test_the_time_to_the_first_byte_is_learnt_of_what_goes_well(
    messages: Any, raised: Any, learnt: float
) -> None:
    """Whatever fails fast would make the rest look slow."""
    clock, limit = HandClock(), Learning()
    middleware = LoadSheddingMiddleware(
        timed(clock, *messages, raised=raised), limit=limit, error_tracker=quiet(clock)
    )
    await request(middleware)
    assert limit.seen == pytest.approx([learnt], nan_ok=True)
    assert limit.drops == 0


async def test_what_the_application_answers_with_a_404_of_its_own_is_learnt() -> None:
    """An exception with a handler is no failure, and a service may answer most requests so."""
    limit, app = Learning(), FastAPI()

    @app.get("/")
    async def missing() -> None:
        raise HTTPException(404)

    kit = in_kit(app, LogLines(), limit=limit)
    assert (await request(kit)).status == 404
    [seconds] = limit.seen
    assert 0 < seconds < 10


async def test_what_a_breaker_further_in_refuses_teaches_nothing() -> None:
    limit, tracker = Learning(), quiet()
    inner = CircuitBreakingMiddleware(hello, key=lambda _: "it", error_tracker=tracker)
    middleware = LoadSheddingMiddleware(inner, limit=limit, error_tracker=tracker)
    tracker.circuits.of("it").open()
    assert (await request(middleware)).status == 503
    assert limit.seen == pytest.approx([nan], nan_ok=True)


def failing_first(clock: HandClock) -> Any:
    """An app whose first run fails, and whose second takes a second."""
    runs: list[int] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        runs.append(1)
        if len(runs) == 1:
            raise ConnectionError("gone")
        clock.move(1)
        await send(OK)
        await send(END)

    return app


@pytest.mark.parametrize("by", ["middleware", "guard"])
async def test_what_was_retried_teaches_nothing(by: str) -> None:
    """The waits between its attempts are no time in which the server was slow."""
    clock, limit = HandClock(), Learning()
    tracker = quiet(clock)
    app = failing_first(clock)

    async def guarded(scope: Any, receive: Any, send: Any) -> None:
        await Retry(on=ConnectionError).call(app, scope, receive, send)

    inner = RetryMiddleware(app, error_tracker=tracker) if by == "middleware" else guarded
    middleware = LoadSheddingMiddleware(inner, limit=limit, error_tracker=tracker)
    with instant_waits():
        assert (await request(middleware)).status == 200
        assert limit.seen == pytest.approx([nan], nan_ok=True)
        assert (await request(middleware)).status == 200
    assert limit.seen == pytest.approx([nan, 1.0], nan_ok=True)
    assert in_flight(middleware) == [0]


async def test_what_is_retried_keeps_its_place_between_its_attempts() -> None:
    """It will be back soon, and more than the limit would be in flight then."""
    tracker, seen = quiet(), []

    def look() -> float:
        seen.extend(in_flight(middleware))
        return 0.0

    inner = RetryMiddleware(failing_first(HandClock()), error_tracker=tracker, random=look)
    middleware = LoadSheddingMiddleware(inner, limit=1, error_tracker=tracker)
    with instant_waits():
        await request(middleware)
    assert seen == [1]


@both
def test_what_times_out_further_in_is_a_drop(library: str) -> None:
    limit, app = Learning(), Gated()

    async def main(spawn: Any) -> None:
        inner = TimeoutMiddleware(app, total_seconds=0.01)
        middleware = LoadSheddingMiddleware(inner, limit=limit, error_tracker=quiet())
        assert (await request(middleware)).status == 504
        assert in_flight(middleware) == [0]

    run(library, main)
    assert (limit.drops, limit.seen) == (1, [])


async def test_a_websocket_teaches_nothing() -> None:
    limit, app = Learning(), Gated()
    app.open("/")
    middleware = LoadSheddingMiddleware(app, limit=limit, error_tracker=quiet())
    for _ in range(50):
        await session(middleware)
    assert limit.seen == pytest.approx([nan] * 50, nan_ok=True)
    assert in_flight(middleware) == [0]


# Websockets


@pytest.mark.parametrize("can_deny", [True, False], ids=["denial", "close"])
async def test_a_websocket_is_refused_before_it_is_accepted(can_deny: bool) -> None:
    app, lines = Gated(), LogLines()
    kit = in_kit(app, lines, limit=1)
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message)

    async with serving(kit) as server:
        await server.begin("/1")
        scope = {**http_scope(), "type": "websocket", "subprotocols": []}
        del scope["method"]
        if can_deny:
            scope["extensions"] = {"websocket.http.response": {}}
        await kit(scope, receive, send)
        app.open("/1")
    kinds = [message["type"] for message in sent]
    if can_deny:
        assert kinds == ["websocket.http.response.start", "websocket.http.response.body"]
        assert sent[0]["status"] == 503 and b"retry-after" in dict(sent[0]["headers"])
    else:
        assert (kinds, sent[0]["code"]) == (["websocket.close"], 1013)
    assert app.begun == ["/1"]
    kit.flush()
    [line] = [each for each in lines.lines() if each.get("outcome") == "shed"]
    assert line["shed_by"] == "limit"


async def test_open_websockets_take_no_place() -> None:
    app = Gated()
    middleware = shedding(app, limit=1)
    async with asyncio.TaskGroup() as group:
        for _ in range(3):
            group.create_task(session(middleware, "/ws"))
        await asyncio.sleep(0.01)
        assert app.begun == ["/ws"] * 3 and in_flight(middleware) == [0]
        app.open("/ws")


async def test_what_a_session_itself_is_refused_is_its_own_error() -> None:
    """One that was accepted can not be refused any more."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        raise OverloadedError("limit")

    middleware = shedding(app, limit=1)
    reply = await session(middleware)
    assert isinstance(reply.raised, OverloadedError)
    assert [m["type"] for m in reply.messages] == ["websocket.accept"]
    assert sum(middleware.shed.values()) == 0


async def test_what_the_app_itself_refuses_is_the_apps() -> None:
    """A limiter around a call within it; the place is given back."""
    own = ConcurrencyLimiter(1, max_queue=0)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        with own.slot_now(), own.slot_now():
            raise AssertionError

    lines = LogLines()
    kit = in_kit(app, lines, limit=1)
    reply = await request(kit)
    assert reply.status == 503 and "retry-after" in reply.headers
    kit.flush()
    [line] = lines.lines("request_error")
    assert line["outcome"] == "shed" and "shed_by" not in line
    assert sum(the(kit).shed.values()) == 0 and in_flight(the(kit)) == [0]


# What is never shed, and memory


@pytest.mark.parametrize("path", ["/health", "/health/db", "/healthz", "/livez", "/readyz"])
async def test_health_is_never_shed(path: str) -> None:
    """Whoever restarts what does not answer would make it worse."""
    app = Gated()
    app.open(path)
    middleware = shedding(app, limit=1, max_memory_mb=1)
    assert (await request(middleware, path="/1")).status == 503
    assert (await request(middleware, path=path)).status == 200


async def test_what_is_never_shed_can_be_chosen() -> None:
    middleware = shedding(hello, max_memory_mb=1, never_shed=["POST /ping", "/a/{b}"])
    assert (await request(middleware, path="/health")).status == 503
    assert (await request(middleware, path="/ping")).status == 503
    assert (await request(middleware, "POST", "/ping")).status == 200
    assert (await request(middleware, path="/a/1")).status == 200


def guarded(app: Any, memory: list[float], **options: Any) -> LoadSheddingMiddleware:
    middleware = shedding(app, max_memory_mb=100, **options)
    clock = HandClock()

    def read_mb() -> float:
        clock.move(1)
        return memory[0]

    middleware._memory = MemoryGuard(
        100, read_mb=read_mb, clock=lambda: (clock.move(1), clock())[1]
    )
    return middleware


async def test_above_the_memory_nothing_is_let_in_until_there_is_less() -> None:
    memory = [200.0]
    middleware = guarded(hello, memory)
    reply = await request(middleware)
    assert (reply.status, middleware.shed["memory"]) == (503, 1)
    memory[0] = 50
    assert (await request(middleware)).status == 200


async def test_only_what_is_heavy_is_refused_for_memory() -> None:
    middleware = guarded(hello, [200.0], heavy=lambda scope: scope["path"] == "/render")
    assert (await request(middleware, path="/render")).status == 503
    assert (await request(middleware, path="/light")).status == 200


async def test_a_heavy_that_raises_says_that_it_may_be() -> None:
    middleware = guarded(hello, [200.0], heavy=breaks)
    assert (await request(middleware)).status == 503
    assert middleware.hook_errors == 1


async def test_for_memory_a_websocket_is_refused_too() -> None:
    middleware = guarded(Gated(), [200.0])
    reply = await session(middleware)
    assert [m["type"] for m in reply.messages] == ["websocket.close"]
    assert middleware.shed["memory"] == 1


async def test_a_refusal_for_memory_takes_no_place() -> None:
    middleware = guarded(hello, [200.0], limit=1)
    await request(middleware)
    assert in_flight(middleware) == [0]
    assert middleware.as_dict()["limits"][0]["admitted"] == 0


# Where it stands


async def test_within_the_kit_current_is_the_requests() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        exchange = current()
        assert exchange is not None
        await send({**OK, "headers": [(b"own", exchange.request_id.encode())]})
        await send(END)

    reply = await request(in_kit(app, LogLines(), limit=1))
    assert reply.headers["own"] == reply.headers["x-request-id"]


async def test_two_of_them_refuse_each_for_itself() -> None:
    """One within another, as when an app with its own is mounted."""
    app = Gated()
    inner = shedding(app, limit=1)
    outer = shedding(inner, limit=2)
    async with serving(outer) as server:
        await server.begin("/1", "/2", "/3")
        assert server.statuses == {"/2": 503, "/3": 503}
        app.open("/1")
    assert (inner.shed["limit"], outer.shed["limit"]) == (2, 0)
    assert in_flight(inner) == in_flight(outer) == [0]


@pytest.mark.parametrize(
    ("options", "raised", "named"),
    [
        ({}, ValueError, "limit"),
        ({"limit": 0}, ValueError, "limit"),
        ({"limit": True}, TypeError, "limit"),
        ({"limit": "5"}, TypeError, "limit"),
        ({"limit": 2.5}, TypeError, "limit"),
        ({"routes": {"/a": 0}}, ValueError, "routes"),
        ({"limit": 1, "routes": {"a": 1}}, ValueError, "routes"),
        ({"routes": ["/a"]}, TypeError, "routes"),
        ({"limit": 1, "never_shed": "/health"}, TypeError, "never_shed"),
        ({"limit": 1, "never_shed": ["health"]}, ValueError, "never_shed"),
        ({"limit": 1, "max_queue": -1}, ValueError, "max_queue"),
        ({"limit": 1, "queue_seconds": 0}, ValueError, "queue_seconds"),
        ({"limit": 1, "queue_seconds": 0, "key": str}, ValueError, "queue_seconds"),
        ({"limit": 1, "max_queue": -1, "key": str}, ValueError, "max_queue"),
        ({"limit": lambda: 0, "key": str}, ValueError, "limit"),
        ({"limit": lambda: None}, TypeError, "limit"),
        ({"limit": AdaptiveLimit(), "key": str}, ValueError, "key"),
        ({"key": str}, ValueError, "limit"),
        ({"max_memory_mb": 1, "key": str}, ValueError, "limit"),
        ({"limit": 1, "key": 3}, TypeError, "key"),
        ({"limit": 1, "priority": hello}, TypeError, "priority"),
        ({"limit": 1, "heavy": lambda: True}, TypeError, "heavy"),
        ({"max_memory_mb": 0}, ValueError, "max_memory_mb"),
        ({"max_memory_mb": nan}, ValueError, "max_memory_mb"),
        ({"limit": 1, "error_tracker": 3}, TypeError, "error_tracker"),
        ({"limit": 1, "request_ids": 3}, TypeError, "request_ids"),
    ],
    ids=shown,
)
def test_what_cannot_work_is_refused_by_name(
    options: dict[str, Any], raised: type[Exception], named: str
) -> None:
    with pytest.raises(raised, match=named):
        LoadSheddingMiddleware(hello, **options)


async def test_frames_and_order_are_checked_at_construction() -> None:
    with pytest.raises(ValueError, match="LoadSheddingMiddleware"):
        TimeoutMiddleware(shedding(hello, limit=1), total_seconds=1)
