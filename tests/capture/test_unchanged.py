"""Capture changes nothing of what a framework does, and mistakes nothing for a failure."""

import logging
from typing import Any

import httpx
import pytest
from falcon.asgi import App as Falcon
from litestar import Litestar, get
from litestar.response import Redirect
from quart import Quart
from starlette.applications import Starlette
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Route

from asgi_errorkit import (
    ErrorHandlingMiddleware,
    ErrorKit,
    ErrorTracker,
    MiddlewareStack,
    Recorder,
    StructuredLoggingMiddleware,
)
from asgi_errorkit.capture import within
from asgi_errorkit.testing import LogLines, request, session


class BoomError(Exception):
    pass


async def boom(_: Any) -> Any:
    raise BoomError


def watched(app: Any) -> tuple[ErrorKit, LogLines]:
    lines = LogLines()
    stack = MiddlewareStack(error_tracker=ErrorTracker(recorder=Recorder(flush_seconds=None)))
    stack.add_middleware(StructuredLoggingMiddleware, stream=lines)
    return stack.create_middleware_stack(app), lines


class Strip:
    """Hands a changed copy of the scope on, as mounts and authentication do."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        path = scope["path"].removeprefix("/api")
        await self.app({**scope, "path": path, "root_path": "/api", "user": "joe"}, receive, send)


async def echo(scope: Any, receive: Any, send: Any) -> None:
    said = f"{scope['path']} {scope['root_path']} {scope.get('user')}".encode()
    scope["path_template"] = "/{x}"
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": said})


@pytest.mark.parametrize("outer", [ErrorKit, StructuredLoggingMiddleware])
async def test_a_frame_inside_another_hands_on_the_scope_that_it_was_given(outer: Any) -> None:
    lines = LogLines()
    tracker = ErrorTracker(recorder=Recorder(flush_seconds=None))
    inner = Strip(ErrorHandlingMiddleware(echo, tracker))
    app = StructuredLoggingMiddleware(
        inner, stream=lines, recorder=tracker.recorder, fields={"user": lambda s: s.get("user")}
    )
    reply = await request(
        app if outer is StructuredLoggingMiddleware else outer(inner), path="/api/x"
    )
    assert reply.body == b"/x /api joe"
    if outer is StructuredLoggingMiddleware:
        tracker.recorder.flush()
        assert lines.lines("request_complete")[0]["route"] == "/api/{x}"


async def test_a_starlette_handler_of_any_kind_answers_as_before() -> None:
    class Answers:
        async def __call__(self, _: Any, exc: Exception) -> Any:
            return JSONResponse({}, 418)

    kit, lines = watched(
        Starlette(routes=[Route("/", boom)], exception_handlers={BoomError: Answers()})
    )
    assert (await request(kit)).status == 418
    kit.flush()
    assert lines.lines()[-1]["error_type"] == "BoomError"


async def test_a_starlette_handler_added_after_wrapping_is_seen() -> None:
    async def answers(_: Any, exc: Exception) -> Any:
        return PlainTextResponse("later", 503)

    app = Starlette(routes=[Route("/", boom)])
    kit, lines = watched(app)
    app.add_exception_handler(BoomError, answers)
    assert (await request(kit)).body == b"later"
    kit.flush()
    assert lines.lines()[-1]["error_type"] == "BoomError"


async def test_an_exception_middleware_of_the_apps_own_keeps_its_answers() -> None:
    class Own(ExceptionMiddleware):
        async def http_exception(self, request: Any, exc: Exception) -> Any:
            return JSONResponse({"mine": 1}, 404)

    class App(Starlette):
        def build_middleware_stack(self) -> Any:
            return Own(self.router, handlers=self.exception_handlers)  # type: ignore[arg-type]

    kit, _ = watched(App())
    assert (await request(kit, path="/nowhere")).json() == {"mine": 1}


async def test_a_falcon_handler_that_knows_no_websocket_is_called_all_the_same() -> None:
    called: list[Exception] = []

    class Session:
        async def on_websocket(self, req: Any, ws: Any) -> None:
            await ws.accept()
            raise ValueError("x")

    async def handler(req: Any, resp: Any, ex: Exception, params: Any) -> None:
        called.append(ex)

    app = Falcon()
    app.add_route("/", Session())
    app.add_error_handler(Exception, handler)
    kit, lines = watched(app)
    reply = await session(kit)
    kit.flush()
    assert reply.raised is None
    assert [type(each) for each in called] == [ValueError]
    assert lines.lines()[-1]["error_type"] == "ValueError"


@pytest.mark.parametrize("kits", [1, 3])
async def test_a_slotted_app_is_hooked_into_once(kits: int) -> None:
    app = Litestar([], logging_config=None)
    falcon = Falcon()
    for _ in range(kits):
        for each in (app, falcon):
            kit, _lines = watched(each)
            await request(kit)
            kit.tracker.recorder.close()
            await request(kit)
    assert len(app.after_exception) == 1
    assert len(falcon._unprepared_middleware) == 1  # type: ignore[attr-defined]


async def test_what_a_litestar_handler_answers_is_handled() -> None:
    @get("/", exception_handlers={BoomError: lambda request, exc: Redirect("/login")})
    async def handler() -> None:
        raise BoomError

    kit, lines = watched(Litestar([handler], logging_config=None))
    assert (await request(kit)).status in (302, 307)
    kit.flush()
    assert lines.lines()[-1]["outcome"] == "ok"
    assert kit.tracker.groups() == []


async def test_a_request_made_within_another_around_the_kit_is_not_its_failure() -> None:
    """The inner answer is for the application to judge: it survives a 500."""
    inner = Quart("inner")
    logging.getLogger("inner").disabled = True

    @inner.get("/fails")
    async def fails() -> str:
        raise BoomError

    async def calls(_: Any) -> Any:
        transport = httpx.ASGITransport(app=inner)
        async with httpx.AsyncClient(transport=transport, base_url="http://inner") as client:
            return PlainTextResponse(str((await client.get("/fails")).status_code))

    await request(
        ErrorKit(inner, log_level="CRITICAL"), path="/nowhere"
    )  # so that it is hooked into
    kit, lines = watched(Starlette(routes=[Route("/", calls)]))
    assert (await request(kit)).body == b"500"
    kit.flush()
    assert lines.lines()[-1]["outcome"] == "ok"


async def test_a_task_that_fails_beside_a_request_does_not_fail_it() -> None:
    app = Quart("tasks")
    logging.getLogger("tasks").disabled = True

    @app.get("/")
    async def handler() -> str:
        import asyncio

        async def bad() -> None:
            raise BoomError

        app.add_background_task(bad)
        await asyncio.sleep(0.01)
        return "x"

    kit, lines = watched(app)
    assert (await request(kit)).status == 200
    kit.flush()
    assert lines.lines()[-1]["outcome"] == "ok"
    (group,) = kit.tracker.groups()
    assert group.count == 1 and group.type_name.endswith("BoomError")
    assert group.sample["request_id"]


@pytest.mark.parametrize("exc_info", [True, (ValueError("x"),), 5], ids=str)
async def test_odd_log_records_are_made_as_before(exc_info: Any) -> None:
    made: list[logging.LogRecord] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        logger = logging.getLogger("odd")
        made.append(logger.makeRecord("odd", 40, "f", 1, "m", (), exc_info))
        await echo(scope, receive, send)

    kit, _ = watched(app)
    assert (await request(kit)).status == 200
    assert len(made) == 1


async def test_lazy_objects_and_mocks_are_not_looked_into() -> None:
    from unittest.mock import AsyncMock

    from django.utils.functional import SimpleLazyObject

    app = Starlette()
    app.state.schema = SimpleLazyObject(lambda: 1 / 0)
    kit, _ = watched(app)
    app.state.app = SimpleLazyObject(lambda: 1 / 0)
    assert (await request(kit)).status == 404
    assert len(list(within(AsyncMock()))) == 0
