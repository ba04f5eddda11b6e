"""Errors that nobody awaits are known, once, and whoever was told of them before still is."""

import asyncio
import gc
import sys
import threading
from typing import Any

import pytest

from asgi_errorkit import ErrorHandlingMiddleware, ErrorTracker, Recorder
from asgi_errorkit.testing import request


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
    if sys.version_info >= (3, 12):
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
