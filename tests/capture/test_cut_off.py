"""What a framework answers by itself of being cut off is no error beside the timeout."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest
import trio
import trio.testing
from litestar import Litestar, get
from quart import Quart

from asgi_errorkit import (
    ErrorHandlingMiddleware,
    ErrorTracker,
    ErrorType,
    MiddlewareStack,
    Recorder,
    StructuredLoggingMiddleware,
    TimeoutMiddleware,
    current,
)
from asgi_errorkit.failure import swallowed
from asgi_errorkit.testing import LogLines, http_scope, request

START = {"type": "http.response.start", "status": 200, "headers": []}
END = {"type": "http.response.body", "body": b"end"}
SHORT, LONG = 0.05, 60.0

Handler = Callable[[], Any]


class World:
    """A tracker without threads, what it logs, and all that its types' breakers hear."""

    def __init__(self, **clocks: Any) -> None:
        self.recorder = Recorder(flush_seconds=None, **clocks)
        self.tracker = ErrorTracker(recorder=self.recorder)
        self.lines = LogLines()
        self.heard: list[str] = []
        self.observed: list[Exception] = []

    def around(self, app: Any, **options: Any) -> Any:
        """All of the kit around an app; ``options`` are those of its time limit."""
        timed = TimeoutMiddleware(app, error_tracker=self.tracker, **options)
        return self.answering(
            StructuredLoggingMiddleware(timed, stream=self.lines, recorder=self.recorder)
        )

    def answering(self, app: Any) -> Any:
        return ErrorHandlingMiddleware(
            app, self.tracker, log_errors=False, on_error=lambda _, exc: self.observed.append(exc)
        )

    def listen(self) -> None:
        for each in ErrorType:
            breaker = self.tracker.breaker(each)
            breaker.record_failure = self._hearing(each.value, breaker.record_failure)

    def _hearing(self, name: str, record: Callable[..., Any]) -> Callable[..., Any]:
        def hear(*args: Any, **more: Any) -> Any:
            self.heard.append(name)
            return record(*args, **more)

        return hear

    def only(self) -> Any:
        """The one error that all that was asked has led to."""
        self.recorder.flush()
        (group,) = self.tracker.groups()
        assert group.count == 1
        return group

    def last(self) -> dict[str, Any]:
        self.recorder.flush()
        return self.lines.lines()[-1]

    def is_one_timeout(self, *causes: str) -> None:
        """One error was told of, to all who hear of errors: the timeout, of these causes."""
        group = self.only()
        assert group.type_name == "asgi_errorkit.errors.DeadlineExceededError"
        assert [each["type"] for each in group.sample["exception"].get("causes", ())] == [*causes]
        assert self.tracker.get_error_stats()["errors_by_type"] == {"timeout": 1}
        line = self.last()
        assert (line["outcome"], line["timed_out"]) == ("timeout", "total")
        assert self.heard == ["timeout"]
        assert [type(each).__name__ for each in self.observed] == []


@pytest.fixture
def world() -> World:
    world = World()
    world.listen()
    return world


@pytest.fixture(autouse=True)
def _quiet() -> None:
    logging.getLogger("django.request").disabled = True


async def converting() -> None:
    try:
        await asyncio.sleep(LONG)
    except asyncio.CancelledError:
        raise ValueError("mine") from None


def quart(handler: Handler) -> Any:
    app = Quart("cut_off")

    @app.get("/")
    async def serve() -> str:
        await handler()
        return ""

    return app


def litestar(handler: Handler) -> Any:
    @get("/")
    async def serve() -> str:
        await handler()
        return ""

    return Litestar([serve], openapi_config=None, logging_config=None)


def django(handler: Handler) -> Any:
    from django.conf import settings
    from django.http import HttpResponse
    from django.urls import path

    from .apps.django import make

    async def serve(request: Any) -> Any:
        await handler()
        return HttpResponse("")

    app = make()
    settings.ROOT_URLCONF = type("urls", (), {"urlpatterns": [path("", serve)]})
    return app


FRAMEWORKS = pytest.mark.parametrize("make", [quart, litestar, django])


@FRAMEWORKS
async def test_what_is_answered_of_being_cut_is_the_timeouts_cause(world: World, make: Any) -> None:
    """One request, one error, though the framework had made an answer of its own of it."""
    reply = await request(world.around(make(converting), total_seconds=SHORT))
    assert (reply.status, len(reply.starts), reply.raised) == (504, 1, None)
    world.is_one_timeout("ValueError")
    assert "mine" in world.last()["traceback"]


@FRAMEWORKS
async def test_in_a_stack_too(make: Any) -> None:
    world = World()
    stack = MiddlewareStack(error_tracker=world.tracker)
    stack.add_middleware(StructuredLoggingMiddleware, stream=world.lines)
    stack.add_middleware(TimeoutMiddleware, total_seconds=SHORT)
    world.listen()
    await request(stack.create_middleware_stack(make(converting)))
    world.is_one_timeout("ValueError")


@FRAMEWORKS
async def test_an_error_in_time_is_an_error_as_ever(world: World, make: Any) -> None:
    async def failing() -> None:
        raise ValueError("mine")

    reply = await request(world.around(make(failing), total_seconds=LONG))
    assert reply.status == 500
    assert (world.only().type_name, world.heard) == ("ValueError", ["unknown"])


@FRAMEWORKS
async def test_within_another_time_that_is_not_up(world: World, make: Any) -> None:
    """The inner or the outer one cuts; what is kept for its sake goes to no breaker."""
    soon = 10 * SHORT  # a framework's first request may take its time before it is in the handler
    for outer, inner in ((soon, LONG), (LONG, soon)):
        world = World()
        world.listen()
        within = TimeoutMiddleware(
            make(converting), total_seconds=inner, error_tracker=world.tracker
        )
        await request(world.around(within, total_seconds=outer))
        world.is_one_timeout("ValueError")


def test_under_trio_too() -> None:
    async def slow() -> None:
        try:
            await trio.sleep(1000)
        except trio.Cancelled:
            raise ValueError("mine") from None

    async def main() -> None:
        world = World(clock=trio.current_time, wall_clock=trio.current_time)
        world.listen()
        reply = await request(world.around(litestar(slow), total_seconds=5.0))
        assert reply.status == 504
        world.is_one_timeout("ValueError")

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


@pytest.mark.parametrize("logs", ["amid the cut", "before it", "both"])
async def test_what_is_logged_amid_the_cut_is_its_cause(world: World, logs: str) -> None:
    """By a framework that has no hook; what was logged before has nothing to do with it."""

    def log(exc: Exception) -> None:
        try:
            raise exc from None
        except type(exc):
            logging.getLogger("cut_off").exception("failed")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if logs != "amid the cut":
            log(KeyError("before"))
        try:
            await asyncio.sleep(LONG)
        except asyncio.CancelledError:
            if logs != "before it":
                log(ValueError("mine"))
            await send({**START, "status": 500})
            await send(END)

    reply = await request(world.around(app, total_seconds=SHORT))
    assert reply.status == 504
    if logs != "before it":
        world.is_one_timeout("ValueError")
    else:
        assert world.last()["error_type"] is None
        assert world.heard == ["timeout"]


@pytest.mark.parametrize("started", [False, True], ids=["before the start", "after the start"])
async def test_a_kit_further_in_leaves_it_to_the_timeout(started: bool) -> None:
    """It neither answers nor counts what the app makes of being cut."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if started:
            await send(START)
        await converting()

    world = World()
    within = world.answering(app)
    kit = world.around(within, total_seconds=SHORT)
    world.listen()
    reply = await request(kit)
    assert reply.status == (200 if started else 504)
    told = [type(each).__name__ for each in world.observed]
    assert told == (["DeadlineExceededError"] if started else [])
    world.observed.clear()
    world.is_one_timeout("ValueError")


async def test_a_kit_further_in_does_not_fill_the_silence_of_what_is_cut(world: World) -> None:
    """An app that ends without a word when it is told to is answered for by whoever cuts it."""

    def respond(exchange: Any, exc: Exception) -> None:
        world.observed.append(exc)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        try:
            await asyncio.sleep(LONG)
        except asyncio.CancelledError:
            return

    within = ErrorHandlingMiddleware(app, world.tracker, log_errors=False, responder=respond)
    reply = await request(world.around(within, total_seconds=SHORT))
    assert reply.status == 504
    assert [type(each).__name__ for each in world.observed] == ["DeadlineExceededError"]
    assert world.heard == ["timeout"]


@pytest.mark.parametrize("outer", [None, LONG], ids=["alone", "within another"])
async def test_where_the_app_completes_its_answer_all_the_same_it_is_an_error(
    world: World, outer: float | None
) -> None:
    """Such as one of GraphQL, of which the answer itself tells: nothing was cut."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        try:
            await asyncio.sleep(LONG)
        except asyncio.CancelledError:
            pass
        swallowed(ValueError("mine"), scope, by="starlette", despite_status=True)
        await send(START)
        await send(END)

    inner: Any = app
    if outer is not None:
        inner = TimeoutMiddleware(app, total_seconds=SHORT, error_tracker=world.tracker)
    kit = world.around(inner, total_seconds=outer or SHORT)
    task = asyncio.current_task()
    assert task is not None
    reply = await request(kit)
    assert (reply.status, reply.complete, task.cancelling()) == (200, True, 0)
    assert (world.only().type_name, world.heard) == ("ValueError", ["unknown"])
    assert world.last()["outcome"] == "server_error"
    assert [type(each) for each in world.observed] == [ValueError]


async def test_what_the_app_has_a_handler_for_is_no_error_where_it_answers(world: World) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        try:
            await asyncio.sleep(LONG)
        except asyncio.CancelledError:
            swallowed(ValueError("mine"), scope, by="starlette", handled=True)
            await send(START)
            await send(END)

    reply = await request(world.around(app, total_seconds=SHORT))
    assert (reply.status, world.last()["outcome"], world.heard) == (200, "ok", [])


async def test_where_the_client_leaves_amid_the_cut_it_is_an_error(world: World) -> None:
    """Nobody is told of the timeout then."""
    left = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        try:
            await asyncio.sleep(LONG)
        except asyncio.CancelledError:
            swallowed(ValueError("mine"), scope, by="starlette")
            left.set()
            assert (await receive())["type"] == "http.disconnect"

    async def receive() -> Any:
        await left.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        raise AssertionError(message)

    await world.around(app, total_seconds=SHORT)(http_scope(), receive, send)
    assert (world.only().type_name, world.heard) == ("ValueError", ["unknown"])


async def test_where_the_server_cancels_amid_the_cut_it_is_an_error(world: World) -> None:
    cleaning = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        try:
            await asyncio.sleep(LONG)
        except asyncio.CancelledError:
            swallowed(ValueError("mine"), scope, by="starlette")
            cleaning.set()
            await asyncio.sleep(LONG)

    task = asyncio.create_task(request(world.around(app, total_seconds=SHORT)))
    await cleaning.wait()
    task.cancel()
    await asyncio.wait([task])
    assert (world.only().type_name, world.heard) == ("ValueError", ["unknown"])


async def test_the_exchange_forgets_what_it_was_cut_for(world: World) -> None:
    """Afterwards nothing is left of it that a frame further out could take for its own."""
    seen = []

    async def around(scope: Any, receive: Any, send: Any) -> None:
        await timed(scope, receive, send)
        exchange = current()
        assert exchange is not None
        seen.append(exchange.seen)

    timed = TimeoutMiddleware(
        litestar(converting), total_seconds=SHORT, error_tracker=world.tracker
    )
    around.app = timed  # type: ignore[attr-defined]  # by which the framework within is found
    await request(world.answering(around))
    assert seen == [None]
