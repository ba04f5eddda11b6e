"""What a handler for any exception answers, Starlette raises on: the answer says how bad it was."""

import logging
from collections.abc import Callable
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import JSONResponse, PlainTextResponse, StreamingResponse
from starlette.routing import Mount, Route

from asgi_errorkit import (
    ErrorHandlingMiddleware,
    ErrorKit,
    ErrorTracker,
    MiddlewareStack,
    Recorder,
    StructuredLoggingMiddleware,
)
from asgi_errorkit.testing import LogLines, Reply, request


class BoomError(Exception):
    pass


def fail() -> None:
    raise BoomError("the words of the exception")


async def boom(_: Any) -> Any:
    fail()


async def pieces() -> Any:
    yield b"first"
    fail()


async def stream(_: Any) -> Any:
    return StreamingResponse(pieces())


async def later(_: Any) -> Any:
    return PlainTextResponse("done", background=BackgroundTask(fail))


def answers(status: int, *, in_thread: bool = False) -> Callable[[Any, Exception], Any]:
    async def handler(_: Any, exc: Exception) -> Any:
        return JSONResponse({"said": str(exc)}, status)

    def sync_handler(_: Any, exc: Exception) -> Any:
        return JSONResponse({"said": str(exc)}, status)

    return sync_handler if in_thread else handler


ROUTES = [Route("/boom", boom), Route("/stream", stream), Route("/later", later)]


def starlette(key: Any, handler: Any, **options: Any) -> Any:
    return Starlette(routes=ROUTES, exception_handlers={key: handler}, **options)


def fastapi(key: Any, handler: Any, **options: Any) -> Any:
    return FastAPI(routes=[*ROUTES], exception_handlers={key: handler}, **options)


class Told:
    """A kit around an app, what its hook was told, and what it says of one request."""

    def __init__(self, app: Any) -> None:
        self.told: list[Exception] = []
        self.lines = LogLines()
        self.tracker = ErrorTracker(recorder=Recorder(flush_seconds=None))
        stack = MiddlewareStack(error_tracker=self.tracker)
        stack.add_middleware(StructuredLoggingMiddleware, stream=self.lines)
        stack.add_middleware(ErrorHandlingMiddleware, on_error=lambda _, exc: self.told.append(exc))
        self.kit: ErrorKit = stack.create_middleware_stack(app)

    async def of(self, path: str) -> tuple[Reply, dict[str, Any]]:
        reply = await request(self.kit, path=path)
        self.tracker.recorder.flush()
        (line,) = [
            line
            for line in self.lines.lines()
            if line["event"] in ("request_complete", "request_error")
        ]
        return reply, line


@pytest.mark.parametrize("framework", [starlette, fastapi])
@pytest.mark.parametrize("key", [Exception, 500], ids=["Exception", "500"])
@pytest.mark.parametrize("in_thread", [False, True], ids=["async", "sync"])
@pytest.mark.parametrize(("status", "outcome"), [(200, "ok"), (418, "client_error")])
async def test_an_answer_below_500_is_what_became_of_the_request(
    framework: Any, key: Any, in_thread: bool, status: int, outcome: str
) -> None:
    told = Told(framework(key, answers(status, in_thread=in_thread)))
    reply, line = await told.of("/boom")
    assert (reply.status, reply.json()) == (status, {"said": "the words of the exception"})
    assert isinstance(reply.raised, BoomError)  # as without the kit
    assert line["outcome"] == outcome
    stats = told.tracker.get_error_stats()
    assert (stats["failed_requests"], stats["client_errors"]) == (0, int(status >= 400))
    assert told.tracker.groups() == []
    assert told.told == []


@pytest.mark.parametrize("framework", [starlette, fastapi])
async def test_an_answer_of_500_or_more_is_a_failure_with_its_exception(framework: Any) -> None:
    told = Told(framework(Exception, answers(503)))
    reply, line = await told.of("/boom")
    assert reply.status == 503
    assert isinstance(reply.raised, BoomError)
    assert (line["outcome"], line["error_type"]) == ("server_error", "BoomError")
    (group,) = told.tracker.groups()
    assert (group.count, group.where is not None and group.where.endswith(" fail")) == (1, True)
    assert told.told == [reply.raised]


@pytest.mark.parametrize("status", [200, 503])
@pytest.mark.parametrize(
    ("path", "outcome"), [("/later", "background_failed"), ("/stream", "truncated")]
)
@pytest.mark.parametrize("zipped", [False, True], ids=["plain", "zipped"])
async def test_a_handler_that_comes_too_late_answers_for_nothing(
    status: int, path: str, outcome: str, zipped: bool
) -> None:
    """Starlette asks the handler all the same, and throws its answer away."""
    middleware = [Middleware(GZipMiddleware, minimum_size=0)] if zipped else []
    told = Told(starlette(Exception, answers(status), middleware=middleware))
    reply, line = await told.of(path)
    assert reply.status == 200
    assert isinstance(reply.raised, BoomError)
    assert line["outcome"] == outcome
    assert told.tracker.get_error_stats()["failed_requests"] == 1
    assert told.told == [reply.raised]


async def test_a_handler_that_raises_has_not_answered() -> None:
    async def raises(_: Any, exc: Exception) -> Any:
        raise exc

    told = Told(starlette(Exception, raises))
    reply, line = await told.of("/boom")
    assert (reply.status, reply.raised) == (500, None)  # the kit's own answer
    assert line["outcome"] == "server_error"
    assert [group.count for group in told.tracker.groups()] == [1]


async def test_what_fails_after_the_handlers_answer_is_another_failure() -> None:
    async def handler(_: Any, exc: Exception) -> Any:
        return PlainTextResponse("sorry", 200, background=BackgroundTask(gone))

    def gone() -> None:
        raise MemoryError

    told = Told(starlette(Exception, handler))
    reply, line = await told.of("/boom")
    assert isinstance(reply.raised, MemoryError)
    assert line["outcome"] == "background_failed"
    assert told.tracker.get_error_stats()["errors_by_type"] == {"memory": 1}


async def test_a_handler_that_logs_another_exception_has_answered_all_the_same() -> None:
    async def handler(_: Any, exc: Exception) -> Any:
        try:
            raise OSError("the notice could not be sent")
        except OSError:
            logging.getLogger("app").warning("no notice", exc_info=True)
        return PlainTextResponse("sorry", 400)

    told = Told(starlette(Exception, handler))
    reply, line = await told.of("/boom")
    assert (reply.status, line["outcome"]) == (400, "client_error")


async def test_a_handler_of_a_mounted_application_answers_too() -> None:
    inner = starlette(Exception, answers(418))
    told = Told(Starlette(routes=[Mount("/in", app=inner)]))
    reply, line = await told.of("/in/boom")
    assert (reply.status, line["outcome"]) == (418, "client_error")
    assert isinstance(reply.raised, BoomError)


@pytest.mark.parametrize("around", [False, True], ids=["within", "within and around"])
async def test_a_kit_within_the_application_leaves_the_answer_to_the_handler(around: bool) -> None:
    """Which stands further out; the error is known all the same, once."""
    stack = MiddlewareStack(error_tracker=ErrorTracker(recorder=Recorder(flush_seconds=None)))
    app = starlette(Exception, answers(418))
    app.add_middleware(ErrorKit, stack=stack)
    reply = await request(ErrorKit(app, log_level="CRITICAL") if around else app, path="/boom")
    assert reply.status == 418 and isinstance(reply.raised, BoomError)
    assert [group.count for group in stack.error_tracker.groups()] == [1]
