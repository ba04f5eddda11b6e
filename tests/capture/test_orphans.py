"""Errors that nobody awaits are known, once, and whoever was told of them before still is."""

import asyncio
import gc
import logging
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest
from quart import Quart
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from asgi_errorkit import ErrorHandlingMiddleware, ErrorTracker, ErrorType, Recorder
from asgi_errorkit.testing import http_scope, request

from .apps import lifespan, sanic


class App:
    """Does what it is told within a request, and then answers."""

    def __init__(self, do: Any) -> None:
        self.do = do

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self.do()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})


def tracked(do: Any, **options: Any) -> ErrorHandlingMiddleware:
    return ErrorHandlingMiddleware(
        App(do), ErrorTracker(recorder=Recorder(flush_seconds=None)), **options
    )


@pytest.fixture(autouse=True)
def hooks(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[Any]]:
    """What the hooks of the process that are there before have been told."""
    told: dict[str, list[Any]] = {"threads": [], "finalizers": []}
    monkeypatch.setattr(threading, "excepthook", told["threads"].append)
    monkeypatch.setattr(sys, "unraisablehook", told["finalizers"].append)
    return told


async def orphan() -> None:
    async def fails() -> None:
        raise ConnectionError("nobody awaits this")

    task = asyncio.create_task(fails())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    del task
    gc.collect()


async def test_a_task_that_nobody_awaits_is_told_of() -> None:
    before: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: before.append(context))
    kit = tracked(orphan)
    reply = await request(kit, headers=[(b"x-request-id", b"the-parent")])
    assert reply.status == 200
    (group,) = kit.error_tracker.groups()
    assert (group.type_name, group.error_type.value) == ("ConnectionError", "external_service")
    assert len(before) == 1
    assert group.sample["request_id"] == "the-parent"
    stats = kit.error_tracker.get_error_stats()
    assert (stats["total_errors"], stats["total_requests"], stats["failed_requests"]) == (1, 1, 0)


async def test_a_thread_that_fails_is_told_of(hooks: dict[str, list[Any]]) -> None:
    async def do() -> None:
        def fails() -> None:
            raise MemoryError("in a thread")

        thread = threading.Thread(target=fails)
        thread.start()
        thread.join()

    kit = tracked(do)
    await request(kit)
    assert kit.error_tracker.get_error_stats()["errors_by_type"] == {"memory": 1}
    assert len(hooks["threads"]) == 1


async def test_a_finalizer_that_fails_is_told_of(hooks: dict[str, list[Any]]) -> None:
    class Fails:
        def __del__(self) -> None:
            raise TimeoutError("in a finalizer")

    async def do() -> None:
        Fails()

    kit = tracked(do)
    await request(kit)
    assert kit.error_tracker.get_error_stats()["errors_by_type"] == {"timeout": 1}
    assert len(hooks["finalizers"]) == 1


async def test_the_hooks_are_set_once_however_many_kits_there_are() -> None:
    async def nothing() -> None:
        pass

    await request(tracked(nothing))
    hook, handler = threading.excepthook, asyncio.get_running_loop().get_exception_handler()
    for _ in range(20):
        await request(tracked(nothing))
    assert threading.excepthook is hook
    assert asyncio.get_running_loop().get_exception_handler() is handler


async def test_whoever_does_not_ask_is_not_told() -> None:
    kit = tracked(orphan, capture=False)
    await request(kit)
    assert kit.error_tracker.groups() == []
    assert asyncio.get_running_loop().get_exception_handler() is None
    gc.collect()


def errors(kit: ErrorHandlingMiddleware) -> int:
    total: int = kit.error_tracker.get_error_stats()["total_errors"]
    return total


async def nothing() -> None:
    pass


async def unawaited(exc: Exception) -> None:
    """A future that nobody awaits carries the exception, and goes."""
    asyncio.get_running_loop().create_future().set_exception(exc)


async def test_a_callback_that_fails_is_told_to_the_kit_of_its_request() -> None:
    def fails() -> None:
        raise ConnectionError("in a callback")

    async def do() -> None:
        asyncio.get_running_loop().call_soon(fails)
        await asyncio.sleep(0)

    asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
    kit, other = tracked(do), tracked(nothing)
    await request(kit)
    await request(other)
    await request(kit, headers=[(b"x-request-id", b"the-parent")])
    assert [group.sample["request_id"] for group in kit.error_tracker.groups()] == ["the-parent"]
    assert (errors(kit), errors(other)) == (2, 0)


@pytest.mark.parametrize("by_framework", [True, False], ids=["by sanic", "by the loop alone"])
async def test_what_a_task_of_sanic_raises_is_told_of_once_each_time(by_framework: bool) -> None:
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
    capture = ["sanic", "orphans"] if by_framework else ["orphans"]
    tracker = ErrorTracker(recorder=Recorder(flush_seconds=None))
    kit = ErrorHandlingMiddleware(sanic.make(), tracker, capture=capture)
    await lifespan(kit)
    for times in (1, 2, 3):
        reply = await request(kit, path="/later")
        assert reply.status == 200
        for _ in range(10):
            await asyncio.sleep(0)
        gc.collect()
        assert errors(kit) == times


async def fails_with_a_future(exc: Exception) -> None:
    await unawaited(exc)
    raise exc


@pytest.mark.parametrize(
    "make",
    [
        lambda: ValueError("of a built-in class"),
        lambda: type("OwnError", (Exception,), {})("of a class of its own"),
        lambda: type("SlottedError", (Exception,), {"__slots__": ()})("without weak references"),
    ],
    ids=["built-in", "own", "slotted"],
)
async def test_what_a_request_has_failed_with_is_no_orphan_as_well(
    make: Callable[[], Exception],
) -> None:
    before: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: before.append(context))

    async def do() -> None:
        exc = make()
        futures.append(asyncio.get_running_loop().create_future())
        futures[-1].set_exception(exc)
        raise exc

    futures: list[Any] = []
    kit = tracked(do)
    for times in (1, 2, 3):
        assert (await request(kit)).status == 500
        futures.clear()
        gc.collect()
        assert (errors(kit), len(before)) == (times, times)


async def test_the_same_error_anew_is_another_one() -> None:
    """Also where its id, its place and its words are those of one that has gone."""
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)

    async def do() -> None:
        for number in range(20):
            exc = ValueError("the same")
            if number % 2:
                kit.error_tracker.record_error(ErrorType.CACHE, context={"exception": exc})
            await unawaited(exc)
            del exc

    kit = tracked(do)
    await request(kit)
    assert errors(kit) == 20


async def test_one_exception_object_that_fails_again_and_again_is_told_of_each_time() -> None:
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
    constant = ValueError("made once")

    async def do() -> None:
        for _ in range(10):
            await unawaited(constant)

    kit = tracked(do)
    await request(kit)
    assert errors(kit) == 10


async def test_an_error_after_the_start_is_no_orphan_of_the_servers_task_as_well() -> None:
    before: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: before.append(context))

    async def starts_and_fails(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise ConnectionError

    async def send(message: Any) -> None:
        pass

    async def receive() -> Any:
        return {"type": "http.disconnect"}

    tracker = ErrorTracker(recorder=Recorder(flush_seconds=None))
    kit = ErrorHandlingMiddleware(starts_and_fails, tracker)
    task = asyncio.create_task(kit(http_scope(), receive, send))  # type: ignore[arg-type]
    await asyncio.wait([task])
    del task
    gc.collect()
    assert (errors(kit), len(before)) == (1, 1)


async def test_a_client_that_left_is_no_error_of_the_servers_task_either() -> None:
    before: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: before.append(context))

    async def send(message: Any) -> None:
        raise ConnectionResetError

    async def receive() -> Any:
        return {"type": "http.disconnect"}

    kit = tracked(nothing)
    task = asyncio.create_task(kit(http_scope(), receive, send))  # type: ignore[arg-type]
    await asyncio.wait([task])
    del task
    gc.collect()
    assert (errors(kit), len(before)) == (0, 1)


async def test_what_a_task_has_recorded_itself_is_counted_once() -> None:
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)

    async def fails() -> None:
        try:
            raise ConnectionError
        except ConnectionError as exc:
            kit.error_tracker.record_error(ErrorType.CACHE, context={"exception": exc})
            raise

    async def do() -> None:
        task = asyncio.create_task(fails())
        await asyncio.wait([task])

    kit = tracked(do)
    await request(kit)
    gc.collect()
    assert kit.error_tracker.get_error_stats()["errors_by_type"] == {"cache": 1}


async def test_of_several_kits_that_of_the_request_is_told() -> None:
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
    kits = [tracked(orphan), tracked(nothing), tracked(orphan)]
    for kit in kits:
        await request(kit)
    assert [errors(kit) for kit in kits] == [1, 0, 1]


async def test_of_an_unknown_origin_the_last_kit_to_begin_is_told_alone() -> None:
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
    kits = [tracked(nothing) for _ in range(3)]
    for kit in kits:
        await request(kit)
    await request(kits[0])  # began long ago
    await unawaited(ValueError("of nobody"))
    assert [errors(kit) for kit in kits] == [0, 0, 1]


async def test_what_has_no_known_origin_stays_with_a_kit_of_its_event_loop() -> None:
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
    here, elsewhere = tracked(nothing), tracked(nothing)
    await request(here)
    await asyncio.to_thread(lambda: asyncio.run(_served(elsewhere)))
    await unawaited(ValueError("of nobody"))
    assert (errors(here), errors(elsewhere)) == (1, 0)


async def _served(kit: ErrorHandlingMiddleware) -> None:
    await request(kit)


async def test_a_hook_of_the_apps_that_calls_ours_does_not_have_it_told_twice() -> None:
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda loop, context: None)
    first = tracked(nothing)
    await request(first)
    ours: Any = loop.get_exception_handler()
    theirs: list[Any] = []

    def handler(loop: Any, context: Any) -> None:
        theirs.append(context)
        ours(loop, context)

    loop.set_exception_handler(handler)
    kit = tracked(orphan)
    await request(kit)
    assert loop.get_exception_handler() is not handler
    assert (errors(first), errors(kit), len(theirs)) == (0, 1, 1)


async def _with_lifespan(kit: ErrorHandlingMiddleware) -> None:
    async def nowhere(*_: Any) -> Any:
        return {"type": "lifespan.shutdown"}

    await kit({"type": "lifespan"}, nowhere, nowhere)


@pytest.mark.parametrize("requests_before", [0, 1], ids=["by its lifespan", "by its first request"])
def test_a_further_event_loop_in_a_thread_of_its_own_is_watched(requests_before: int) -> None:
    kit = tracked(nothing)

    async def further() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
        await (request(kit) if requests_before else _with_lifespan(kit))
        await unawaited(ValueError("of the second loop"))

    async def do() -> None:
        await request(kit)
        thread = threading.Thread(target=lambda: asyncio.run(further()))
        thread.start()
        thread.join()

    asyncio.run(do())
    assert errors(kit) == 1


@pytest.mark.parametrize("lifespan", [True, False], ids=["by its lifespan", "by its requests"])
def test_a_further_event_loop_in_the_same_thread_is_watched(lifespan: bool) -> None:
    kit = tracked(nothing)

    async def further() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
        for _ in range(64 * (not lifespan)):
            await request(kit)
        if lifespan:
            await _with_lifespan(kit)
        await unawaited(ValueError("of the second loop"))
        await unawaited(ValueError("of the second loop"))

    asyncio.run(_served(kit))
    asyncio.run(further())
    assert errors(kit) == 2


async def test_an_orphan_of_a_request_that_goes_on_has_its_route() -> None:
    """As the framework has told it, and not the path that a client chose."""

    async def spawns(_: Any) -> Any:
        await orphan()
        return PlainTextResponse("done")

    tracker = ErrorTracker(recorder=Recorder(flush_seconds=None))
    kit = ErrorHandlingMiddleware(Starlette(routes=[Route("/of/{name}", spawns)]), tracker)
    for name in ("alice", "bob"):
        await request(kit, path=f"/of/{name}")
    (group,) = tracker.groups()
    assert group.routes == {"GET /of/{name}": 2}


async def test_a_background_task_that_no_request_began_is_told_of() -> None:
    """Quart catches what it raises, so that the loop hears nothing of it."""
    app = Quart("orphans")
    logging.getLogger("orphans").disabled = True

    async def fails() -> None:
        raise ConnectionError

    @app.before_serving
    async def begin() -> None:
        app.add_background_task(fails)

    tracker = ErrorTracker(recorder=Recorder(flush_seconds=None))
    kit = ErrorHandlingMiddleware(app, tracker)
    await lifespan(kit)
    await asyncio.sleep(0)
    assert [(each.type_name, each.count) for each in tracker.groups()] == [("ConnectionError", 1)]


async def test_an_orphan_comes_once_though_a_handler_calls_the_one_before_it() -> None:
    """Also if there is something on the exception."""

    async def marked() -> None:
        async def fails() -> None:
            error = ConnectionError()
            error.extra = 1  # type: ignore[attr-defined]
            raise error

        loop = asyncio.get_running_loop()
        before = loop.get_exception_handler()
        assert before is not None

        def calls_on(loop: Any, context: dict[str, Any]) -> None:
            before(loop, context)

        loop.set_exception_handler(calls_on)
        kit = tracked(_nothing)
        await request(kit)  # which sets its own on top of the application's
        task = asyncio.create_task(fails())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        del task
        gc.collect()

    kit = tracked(marked)
    await request(kit)
    assert kit.error_tracker.get_error_stats()["total_errors"] == 1


async def _nothing() -> None:
    """Nothing to do."""
