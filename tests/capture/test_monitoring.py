"""What left the application before a 500 is what failed, where that is asked for by name."""

import asyncio
import contextlib
import gc
import logging
import sys
import sysconfig
import threading
import weakref
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from asgi_errorkit import (
    ErrorHandlingMiddleware,
    ErrorKit,
    ErrorTracker,
    MiddlewareStack,
    Recorder,
    StructuredLoggingMiddleware,
)
from asgi_errorkit.capture import MONITORING
from asgi_errorkit.testing import LogLines, Reply, request

from .apps import APPS, lifespan

_FRAMEWORK = """
async def respond(send, status):
    await send({"type": "http.response.start", "status": status, "headers": []})
    await send({"type": "http.response.body", "body": b""})


def framework(handler, on_error=None):
    async def app(scope, receive, send):
        try:
            status = await handler()
        except Exception as error:
            status = 500
            if on_error is not None:
                on_error(error)
        await respond(send, status)

    return app


def swallow(call):
    try:
        call()
    except Exception:
        pass


def fails():
    raise KeyError("of a library")
"""

_library: dict[str, Any] = {}
exec(compile(_FRAMEWORK, f"{sysconfig.get_path('purelib')}/a_framework.py", "exec"), _library)
framework, swallow, fails_within = (_library[n] for n in ("framework", "swallow", "fails"))


class Watched:
    """An app with the kit around it, which was asked for nothing but what is named."""

    def __init__(self, app: Any, *capture: str) -> None:
        self.lines = LogLines()
        recorder = Recorder(flush_seconds=None)
        stack = MiddlewareStack(error_tracker=ErrorTracker(recorder=recorder))
        stack.add_middleware(StructuredLoggingMiddleware, stream=self.lines)
        stack.add_middleware(ErrorHandlingMiddleware, capture=capture or [MONITORING])
        self.kit = stack.create_middleware_stack(app)

    async def ask(self, path: str = "/") -> tuple[Reply, dict[str, Any]]:
        reply = await request(self.kit, path=path)
        self.kit.flush()
        return reply, self.lines.lines()[-1]

    async def error_type(self) -> str | None:
        """What the one request is told to have failed by; it was answered with 500."""
        reply, line = await self.ask()
        assert reply.status == 500 and line["outcome"] == "server_error"
        return line["error_type"]


async def ok() -> int:
    return 200


async def test_it_is_never_on_by_default() -> None:
    for capture in (True, False):
        kit = ErrorKit(framework(ok), capture=capture, log_level="CRITICAL")
        assert MONITORING not in kit.errors.choices.captures


if sys.version_info < (3, 12):

    def test_a_python_without_it_says_so_at_once() -> None:
        with pytest.raises(ValueError, match=r"Python 3\.12.*leave it out"):
            ErrorKit(framework(ok), capture=["quart", "monitoring"])

else:
    from asgi_errorkit.capture import monitoring

    TOOLS = (3, 4)

    class LocalError(Exception):
        """One of the application's own."""

    class Absent:
        def __getattr__(self, name: str) -> Any:
            raise AttributeError(name)

        def __getitem__(self, name: str) -> Any:
            raise KeyError(name)

    class Endless:
        def __iter__(self) -> Iterator[Any]:
            return self

        def __next__(self) -> Any:
            raise StopIteration

    def fail(error: BaseException) -> Any:
        raise error

    async def fail_later(error: BaseException) -> Any:
        await asyncio.sleep(0)
        raise error

    async def raises_new() -> int:
        raise LocalError("of which no frame keeps hold")

    async def raising() -> int:
        return fail(LocalError("words"))

    def used_by() -> list[str | None]:
        return [sys.monitoring.get_tool(tool) for tool in TOOLS]

    @pytest.fixture(autouse=True)
    def _freed() -> Iterator[None]:
        """Every test begins without an owner; what was logged, and Sanic, keep the kits of others."""
        logging.getLogger("django.request").disabled = True
        factory = logging.getLogRecordFactory()
        yield
        logging.setLogRecordFactory(factory)
        monitoring._owners.clear()
        if monitoring._tool is not None:
            monitoring._end(monitoring._tool)
        assert used_by() == [None, None]

    # What is known of frameworks

    PLACES = {
        "quart": ("fail", "thread", "mounted/fail"),
        "litestar": ("fail", "thread", "mounted/fail"),
        "falcon": ("fail", "mounted/fail"),
        "django": ("fail", "thread", "mounted/fail"),
        "sanic": ("fail", "mounted/fail"),
        "blacksheep": ("fail", "mounted/fail"),
        "connexion": ("fail", "thread"),
        "connexion_flask": ("fail",),
        "flask_by_asgiref": ("fail", "mounted/fail"),
        "flask_by_a2wsgi": ("fail", "mounted/fail"),
    }
    TYPES = {
        "value": "ValueError",
        "timeout": "TimeoutError",
        "memory": "MemoryError",
        "group": "ExceptionGroup",
    }

    async def started(app: Any, name: str) -> Any:
        if name in ("sanic", "blacksheep"):
            await lifespan(app)
        return app

    @pytest.mark.parametrize("kind", TYPES)
    @pytest.mark.parametrize(
        ("name", "place"), [(name, place) for name, places in PLACES.items() for place in places]
    )
    async def test_what_a_framework_answers_with_500_is_known_without_its_hook(
        name: str, place: str, kind: str
    ) -> None:
        path = f"/{place}/{kind}"
        bare = await request(await started(APPS[name](), name), path=path)
        watched = Watched(APPS[name]())
        await started(watched.kit, name)
        reply, line = await watched.ask(path)
        assert (reply.status, reply.raised) == (bare.status, bare.raised) and reply.status == 500
        assert line["error_type"] == TYPES[kind]
        (group,) = watched.kit.tracker.groups()
        assert "failing.py" in group.where and group.where.endswith(" fail")

    @pytest.mark.parametrize("path", ["/ok/7", "/refuse/404", "/nowhere"])
    @pytest.mark.parametrize("name", APPS)
    async def test_what_a_framework_answers_well_is_no_failure(name: str, path: str) -> None:
        watched = Watched(APPS[name]())
        await started(watched.kit, name)
        _, line = await watched.ask(path)
        assert line["event"] == "request_complete" and line.get("error_type") is None
        assert watched.kit.tracker.groups() == []

    async def test_what_the_hook_tells_is_told_once() -> None:
        watched = Watched(APPS["litestar"](), "litestar", MONITORING)
        _, line = await watched.ask("/fail/memory")
        assert line["error_type"] == "MemoryError"
        (group,) = watched.kit.tracker.groups()
        assert group.count == 1

    # What is taken for what failed

    async def by_finally() -> int:
        try:
            return await raising()
        finally:
            swallow(lambda: None)

    async def by_with() -> int:
        with cleaning():
            return await raising()

    @contextlib.contextmanager
    def cleaning() -> Iterator[None]:
        try:
            yield
        finally:
            swallow(lambda: fail(ValueError("while it goes on")))

    async def raised_again() -> int:
        try:
            return await raising()
        except LocalError as error:
            error.add_note("seen")
            raise

    async def by_task() -> int:
        return await asyncio.create_task(fail_later(LocalError()))

    async def by_thread() -> int:
        return await asyncio.to_thread(fail, LocalError())

    async def by_gather() -> int:
        return (await asyncio.gather(fail_later(LocalError()), ok()))[0]

    async def chained() -> int:
        try:
            return fail(ValueError("first"))
        except ValueError as error:
            raise LocalError("second") from error

    async def after_one_that_was_handled() -> int:
        with contextlib.suppress(KeyError):
            fail(KeyError("not there"))
        return await raising()

    async def after_one_that_a_library_handled() -> int:
        swallow(lambda: fail(ValueError("tried in vain")))
        return await raising()

    @pytest.mark.parametrize(
        "handler",
        [
            raising,
            by_finally,
            by_with,
            raised_again,
            by_task,
            by_thread,
            by_gather,
            chained,
            after_one_that_was_handled,
            after_one_that_a_library_handled,
        ],
    )
    async def test_the_last_that_left_the_application_is_what_failed(
        handler: Callable[[], Any],
    ) -> None:
        assert await Watched(framework(handler)).error_type() == "LocalError"

    async def test_what_it_came_from_is_told_with_it() -> None:
        watched = Watched(framework(chained))
        await watched.ask()
        (group,) = watched.kit.tracker.groups()
        assert [cause["type"] for cause in group.sample["exception"]["causes"]] == ["ValueError"]

    async def handled() -> int:
        try:
            return await raising()
        except LocalError:
            return 500

    async def suppressed() -> int:
        with contextlib.suppress(LocalError):
            await raising()
        return 500

    async def handled_within_one_frame() -> int:
        try:
            raise LocalError
        except LocalError:
            return 500

    async def handled_of_a_task() -> int:
        try:
            return await by_task()
        except LocalError:
            return 500

    async def handled_of_a_thread() -> int:
        try:
            return await by_thread()
        except LocalError:
            return 500

    async def a_librarys() -> int:
        swallow(fails_within)
        return 500

    async def answers_of_objects() -> int:
        hasattr(Absent(), "anything")
        list(Endless())
        return 500

    async def cancelled() -> int:
        with contextlib.suppress(asyncio.CancelledError):
            await fail_later(asyncio.CancelledError())
        return 500

    @pytest.mark.parametrize(
        "handler",
        [
            handled,
            suppressed,
            handled_within_one_frame,
            handled_of_a_task,
            handled_of_a_thread,
            a_librarys,
            answers_of_objects,
            cancelled,
        ],
    )
    async def test_what_the_application_handles_is_not_blamed_for_its_500(
        handler: Callable[[], Any],
    ) -> None:
        """Nor is what never came through a frame of the application."""
        assert await Watched(framework(handler)).error_type() is None

    def breaks_and_mends(_: Exception) -> None:
        with contextlib.suppress(KeyError):
            fail(KeyError("another"))

    def looks_closely(_: Exception) -> None:
        hasattr(Absent(), "detail")
        swallow(partial(Absent().__getitem__, "detail"))
        list(Endless())

    def tries_many(_: Exception) -> None:
        for number in range(20):
            with contextlib.suppress(KeyError):
                fail(KeyError(number))

    @pytest.mark.parametrize("on_error", [breaks_and_mends, looks_closely, tries_many])
    async def test_what_goes_on_while_an_error_is_answered_does_not_hide_it(
        on_error: Callable[[Exception], None],
    ) -> None:
        assert await Watched(framework(raising, on_error)).error_type() == "LocalError"

    async def test_a_client_that_left_is_no_failure() -> None:
        from starlette.requests import ClientDisconnect

        async def left() -> int:
            return fail(ClientDisconnect())

        assert await Watched(framework(left)).error_type() is None

    async def test_a_lost_connection_is_one_unless_it_is_the_clients() -> None:
        async def lost() -> int:
            return fail(ConnectionResetError())

        assert await Watched(framework(lost)).error_type() == "ConnectionResetError"

    async def test_what_the_log_told_is_not_replaced() -> None:
        async def logged() -> int:
            try:
                fail(MemoryError())
            except MemoryError:
                logging.getLogger("an.app").exception("what failed")
            return await raising()

        both = Watched(framework(logged), "logs", MONITORING)
        assert await both.error_type() == "MemoryError"

    async def test_requests_side_by_side_keep_their_errors_apart() -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            async def handler() -> int:
                return await fail_later(LocalError(scope["path"]))

            await framework(handler)(scope, receive, send)

        watched = Watched(app)
        await asyncio.gather(*(request(watched.kit, path=f"/{n}") for n in range(50)))
        watched.kit.flush()
        lines = watched.lines.lines("request_error")
        assert len(lines) == 50
        for line in lines:
            assert line["error"] == "/" + line["url"].rpartition("/")[2]

    # What it does to the application

    async def test_what_is_handled_is_let_go_at_once() -> None:
        async def handler() -> int:
            gone: list[Any] = []
            try:
                await raises_new()
            except LocalError as error:
                gone.append(weakref.ref(error))
            return 500 if gone[0]() is None else 200

        assert await Watched(framework(handler)).error_type() is None

    async def test_what_failed_is_let_go_with_its_exchange() -> None:
        told: list[Any] = []
        watched = Watched(framework(raising, lambda error: told.append(weakref.ref(error))))
        assert await watched.error_type() == "LocalError"
        gc.collect()
        assert told[0]() is None

    async def test_of_many_that_leave_few_are_kept() -> None:
        refs: list[Any] = []

        async def handler() -> int:
            for _ in range(100):
                error = LocalError()
                refs.append(weakref.ref(error))
                swallow(lambda error=error: fail(error))
            del error
            gc.collect()
            return 500 if sum(ref() is not None for ref in refs) < 10 else 200

        assert await Watched(framework(handler)).error_type() == "LocalError"

    async def test_nothing_is_kept_once_the_response_has_started() -> None:
        gone: list[Any] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            error = LocalError()
            gone.append(weakref.ref(error))
            swallow(lambda: fail(error))
            del error
            gc.collect()
            body = b"gone" if gone[0]() is None else b"kept"
            await send({"type": "http.response.body", "body": body})

        reply, line = await Watched(app).ask()
        assert (reply.body, line["event"]) == (b"gone", "request_complete")

    async def test_an_exception_that_breaks_whoever_looks_at_it_goes_on_as_it_is() -> None:
        class Trap(Exception):  # noqa: N818  it is one
            def __getattribute__(self, name: str) -> Any:
                raise AssertionError(name)

            def __eq__(self, other: object) -> bool:
                raise AssertionError

            __hash__ = Exception.__hash__

        caught: list[type] = []

        async def handler() -> int:
            return fail(Trap())

        watched = Watched(framework(handler, lambda error: caught.append(type(error))))
        assert (await watched.error_type() or "").endswith("Trap")
        assert caught == [Trap]

    async def test_a_callback_that_breaks_does_not_break_the_application(
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        async def handler() -> int:
            swallow(lambda: fail(LocalError()))
            monkeypatch.setattr(monitoring, "_is_in_app", lambda code: 1 / 0)
            monkeypatch.setattr(monitoring, "_is_of_app", {})
            try:
                return await raising()
            except LocalError:
                return 200

        reply, _ = await Watched(framework(handler)).ask()
        assert reply.status == 200

    async def test_recursion_without_an_end_ends_as_ever() -> None:
        def deeper(number: int) -> int:
            return deeper(number + 1)

        async def handler() -> int:
            return deeper(0)

        assert await Watched(framework(handler)).error_type() == "RecursionError"

    async def test_files_without_end_are_not_all_remembered(
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(monitoring, "_MOST_FILES", 5)
        here = Path(__file__).parent

        async def handler() -> int:
            for number in range(20):
                code: dict[str, Any] = {}
                exec(compile("def f(): 1 / 0", str(here / f"f{number}.py"), "exec"), code)
                swallow(code["f"])
            return 500

        assert await Watched(framework(handler)).error_type() == "ZeroDivisionError"
        assert len(monitoring._is_of_app) <= 5

    # Whose it is

    async def test_it_begins_with_the_first_request_and_ends_with_the_last_kit() -> None:
        first, second = Watched(framework(raising)), Watched(framework(raising))
        assert used_by() == [None, None]
        assert await first.error_type() == await second.error_type() == "LocalError"
        assert used_by() == ["asgi_errorkit", None]
        del first
        gc.collect()
        assert await second.error_type() == "LocalError"
        del second
        gc.collect()
        assert used_by() == [None, None]
        assert await Watched(framework(raising)).error_type() == "LocalError"

    async def test_only_those_that_ask_for_it_have_it() -> None:
        off = Watched(framework(raising), "logs")
        on = Watched(framework(raising))
        assert await on.error_type() == "LocalError"
        assert await off.error_type() is None

    async def test_a_recorder_that_was_closed_goes_on_as_before() -> None:
        watched = Watched(framework(raising))
        assert await watched.error_type() == "LocalError"
        watched.kit.tracker.recorder.close()
        assert await watched.error_type() == "LocalError"
        assert used_by() == ["asgi_errorkit", None]

    async def test_kits_that_come_and_go_in_threads_leave_nothing_behind() -> None:
        failed: list[Any] = []

        def serve() -> None:
            failed.extend(asyncio.run(Watched(framework(raising)).error_type()) for _ in range(5))

        threads = [threading.Thread(target=serve) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failed == ["LocalError"] * 20

    @contextlib.contextmanager
    def taken(*tools: int) -> Iterator[None]:
        for tool in tools:
            sys.monitoring.use_tool_id(tool, f"tool {tool}")
        try:
            yield
        finally:
            for tool in tools:
                sys.monitoring.free_tool_id(tool)

    async def test_an_id_of_another_tool_is_left_to_it() -> None:
        with taken(3):
            assert await Watched(framework(raising)).error_type() == "LocalError"
            assert used_by() == ["tool 3", "asgi_errorkit"]

    async def test_without_an_id_it_says_so_once_and_does_without(
        caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(monitoring, "_has_warned", False)
        with taken(*TOOLS):
            assert await Watched(framework(raising)).error_type() is None
            assert await Watched(framework(raising)).error_type() is None
        (record,) = caplog.records
        assert "'tool 3' and 'tool 4'" in record.getMessage()
