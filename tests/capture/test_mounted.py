"""Apps within apps, and clients that leave them: routes and outcomes as they are."""

from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from asgi_errorkit import (
    ErrorKit,
    ErrorTracker,
    MiddlewareStack,
    Recorder,
    StructuredLoggingMiddleware,
)
from asgi_errorkit.testing import LogLines, http_scope, request

from . import apps


def watched(app: Any) -> tuple[ErrorKit, LogLines]:
    lines = LogLines()
    stack = MiddlewareStack(error_tracker=ErrorTracker(recorder=Recorder(flush_seconds=None)))
    stack.add_middleware(StructuredLoggingMiddleware, stream=lines)
    return stack.create_middleware_stack(app), lines


@pytest.mark.parametrize(
    ("name", "route"),
    [
        ("starlette", "/in/fail/{kind}"),
        ("fastapi", "/in/fail/{kind}"),
        ("litestar", "/in/fail/{kind}"),
        ("flask_by_asgiref", "/in/fail/<kind>"),
    ],
)
async def test_an_app_in_a_mount_tells_of_its_errors_and_its_route(name: str, route: str) -> None:
    """What a mounted framework says of the route goes before the mount itself."""
    kit, lines = watched(Starlette(routes=[Mount("/in", apps.APPS[name]())]))
    await request(kit, path="/in/fail/memory")
    kit.flush()
    (line,) = lines.lines("request_error")
    assert (line["error_type"], line["route"]) == ("MemoryError", route)


async def test_an_unknown_app_in_a_mount_has_the_label_of_the_mount() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body"})

    kit, lines = watched(Starlette(routes=[Mount("/in", app)]))
    await request(kit, path="/in/whatever/this/is")
    kit.flush()
    assert lines.lines("request_complete")[0]["route"] == "/in/{path}"


async def test_a_client_that_leaves_a_wsgi_app_amid_its_upload_is_no_error() -> None:
    from asgiref.wsgi import WsgiToAsgi

    def application(environ: Any, start_response: Any) -> Any:
        raise AssertionError("is never called")

    events = [{"type": "http.request", "body": b"a", "more_body": True}]

    async def receive() -> Any:
        return events.pop() if events else {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        raise AssertionError(message)

    kit, lines = watched(WsgiToAsgi(application))
    with pytest.raises(ValueError, match="non-HTTP-request"):
        await kit(http_scope("POST", "/"), receive, send)
    kit.flush()
    (line,) = lines.lines("request_complete")
    assert line["outcome"] == "client_disconnect"


@pytest.mark.parametrize("how", ["raises", "refuses", "answers"])
async def test_a_route_is_known_where_a_middleware_of_falcon_answers_first(how: str) -> None:
    import falcon
    import falcon.asgi

    class Guard:
        async def process_resource(self, req: Any, resp: Any, resource: Any, params: Any) -> None:
            if how == "raises":
                raise ValueError
            if how == "refuses":
                raise falcon.HTTPUnauthorized
            resp.complete = True

    class Video:
        async def on_get(self, req: Any, resp: Any, name: str) -> None:
            raise AssertionError

    app = falcon.asgi.App(middleware=[Guard()])
    app.add_route("/videos/{name}", Video())
    kit, lines = watched(app)
    await request(kit, path="/videos/abc")
    kit.flush()
    assert lines.lines()[-1]["route"] == "/videos/{name}"


async def test_a_flask_within_a_dispatcher_is_found() -> None:
    from a2wsgi import WSGIMiddleware
    from werkzeug.middleware.dispatcher import DispatcherMiddleware

    outer, inner = apps.flask.make(), apps.flask.make()
    outer.wsgi_app = DispatcherMiddleware(outer.wsgi_app, {"/in": inner})
    kit, lines = watched(WSGIMiddleware(outer))
    for path in ("/fail/memory", "/in/fail/memory", "/in/refuse/404"):
        await request(kit, path=path)
    kit.flush()
    ends = [line for line in lines.lines() if line["event"] != "request_start"]
    assert [line["error_type"] for line in ends] == ["MemoryError", "MemoryError", "NotFound"]
    assert ends[1]["route"] == "/in/fail/<kind>"


async def test_a_quart_whose_teardown_fails_has_its_route() -> None:
    app = apps.quart.make()

    @app.teardown_request
    async def fails(_: Any) -> None:
        raise OSError

    kit, lines = watched(app)
    await request(kit, path="/ok/7")
    kit.flush()
    assert lines.lines()[-1]["route"] == "/ok/<item>"


@pytest.mark.parametrize(
    ("name", "route"),
    [
        ("quart", "/in/fail/<kind>"),
        ("django", "/in/fail/<kind>"),
        ("falcon", "/in/fail/{kind}"),
        ("flask_by_asgiref", "/in/fail/<kind>"),
    ],
)
async def test_a_dispatcher_that_hands_on_a_copy_of_the_scope_hides_no_route(
    name: str, route: str
) -> None:
    """As that of hypercorn does."""
    app = apps.APPS[name]()

    async def dispatch(scope: Any, receive: Any, send: Any) -> None:
        inner = {**scope, "root_path": "/in"}
        if name == "falcon":  # which takes the path as it is
            inner["path"] = scope["path"].removeprefix("/in")
        await app(inner, receive, send)

    dispatch.app = app  # type: ignore[attr-defined]  # where it is looked for
    kit, lines = watched(dispatch)
    await request(kit, path="/in/fail/memory")
    kit.flush()
    assert lines.lines()[-1]["route"] == route
