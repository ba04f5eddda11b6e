"""What an application answers of an exception is recorded as handled, and nothing else is."""

from typing import Any

import falcon
import falcon.asgi
import flask
import pytest
import quart
from a2wsgi import WSGIMiddleware
from asgiref.wsgi import WsgiToAsgi
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.routing import Route

from asgi_errorkit import ErrorTracker, MiddlewareStack, Recorder, StructuredLoggingMiddleware
from asgi_errorkit.testing import LogLines, request

from . import apps


class BoomError(Exception):
    pass


class Told:
    """An app, and what the kit around it says of one request."""

    def __init__(self, app: Any) -> None:
        self._lines = LogLines()
        tracker = ErrorTracker(recorder=Recorder(flush_seconds=None))
        stack = MiddlewareStack(error_tracker=tracker)
        stack.add_middleware(StructuredLoggingMiddleware, stream=self._lines)
        self.kit = stack.create_middleware_stack(app)

    async def ask(self, path: str = "/") -> tuple[int | None, dict[str, Any]]:
        reply = await request(self.kit, path=path)
        self.kit.flush()
        return reply.status, self._lines.lines()[-1]


def flask_app(**options: Any) -> Any:
    return flask.Flask("handled", **options), WsgiToAsgi


def quart_app(**options: Any) -> Any:
    return quart.Quart("handled", **options), lambda app: app


@pytest.fixture(params=[flask_app, quart_app])
def werkzeug(request: pytest.FixtureRequest) -> Any:
    """An application, and what makes an ASGI app of it."""
    return request.param()


async def test_a_redirect_is_no_error(werkzeug: Any) -> None:
    app, to_asgi = werkzeug
    app.add_url_rule("/to/", "to", lambda: "here")  # asked for without its slash
    app.add_url_rule("/away", "away", lambda: quart_abort(app, 302))
    told = Told(to_asgi(app))
    status, line = await told.ask("/to")
    assert (status, line["outcome"]) == (308, "ok")
    assert "error_type" not in line


def quart_abort(app: Any, status: int) -> Any:
    return (quart if isinstance(app, quart.Quart) else flask).abort(status)


async def test_a_handler_for_any_exception_expects_none(werkzeug: Any) -> None:
    """What it answers with 400 is an error of the application's all the same, with its group."""
    app, to_asgi = werkzeug

    def fails() -> str:
        raise BoomError

    app.add_url_rule("/", "fails", fails)
    app.register_error_handler(Exception, lambda exc: ("sorry", 400))
    told = Told(to_asgi(app))
    status, line = await told.ask()
    assert (status, line["outcome"]) == (400, "client_error")
    assert told.kit.tracker.groups()[0].type_name.endswith("BoomError")


async def test_a_handler_that_fails_is_what_failed(werkzeug: Any) -> None:
    app, to_asgi = werkzeug

    def fails() -> str:
        raise BoomError

    def answer(exc: Exception) -> str:
        raise MemoryError

    app.add_url_rule("/", "fails", fails)
    app.register_error_handler(BoomError, answer)
    status, line = await Told(to_asgi(app)).ask()
    assert (status, line["error_type"]) == (500, "MemoryError")


async def test_an_exception_that_brings_its_response_is_told_of_by_its_status(
    werkzeug: Any,
) -> None:
    app, to_asgi = werkzeug
    module = quart if isinstance(app, quart.Quart) else flask
    app.add_url_rule("/", "aborts", lambda: module.abort(module.Response("mine", 200)))
    status, line = await Told(to_asgi(app)).ask()
    assert (status, line["outcome"]) == (200, "ok")
    assert "error_type" not in line


@pytest.mark.parametrize("passes_on", [True, False])
async def test_a_falcon_handler_that_passes_an_error_on_did_not_handle_it(passes_on: bool) -> None:
    class Fails:
        async def on_get(self, req: Any, resp: Any) -> None:
            raise BoomError

    async def handler(req: Any, resp: Any, ex: Exception, params: Any) -> None:
        if passes_on:
            raise ex
        raise falcon.HTTPServiceUnavailable

    app = falcon.asgi.App()
    app.add_route("/", Fails())
    app.add_error_handler(BoomError, handler)
    told = Told(app)
    status, line = await told.ask()
    assert (status, line["outcome"]) == (500 if passes_on else 503, "server_error")
    assert line["error_type"] == "BoomError"
    assert told.kit.tracker.groups()[0].count == 1


async def test_what_answers_by_being_raised_is_no_error_to_falcon() -> None:
    class Moved:
        async def on_get(self, req: Any, resp: Any) -> None:
            raise falcon.HTTPFound("/elsewhere")

    app = falcon.asgi.App()
    app.add_route("/", Moved())
    status, line = await Told(app).ask()
    assert (status, line["outcome"]) == (302, "ok")
    assert "error_type" not in line


@pytest.mark.parametrize(
    ("path", "status", "error_type"),
    [("/fail/memory", 500, "MemoryError"), ("/refuse/404", 404, "Http404")],
)
async def test_a_wsgi_django_is_known_as_an_asgi_one_is(
    path: str, status: int, error_type: str
) -> None:
    apps.django.make()
    from django.core.wsgi import get_wsgi_application

    told = Told(WSGIMiddleware(get_wsgi_application()))
    answered, line = await told.ask(path)
    assert (answered, line["error_type"]) == (status, error_type)
    assert line["route"].startswith(path.rpartition("/")[0])


async def test_a_django_that_answers_otherwise_is_told_of(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Its unhandled errors are known as before, its 404 by the status."""
    from django.core.handlers import exception

    def other(request: Any, error: Exception) -> Any:
        raise AssertionError

    monkeypatch.setattr(exception, "response_for_exception", other)
    status, _ = await Told(apps.django.make()).ask("/ok/7")
    assert status == 200
    (record,) = [each for each in caplog.records if each.name == "asgi_errorkit"]
    assert "django" in record.getMessage()


async def test_the_method_that_looks_for_a_handler_can_be_called_as_before() -> None:
    """By name, and outside of any request."""
    app = quart.Quart("handled")
    app.register_error_handler(BoomError, lambda exc: ("sorry", 400))
    await Told(app).ask("/nowhere")
    async with app.app_context():
        assert await app.handle_user_exception(error=BoomError()) == ("sorry", 400)
    inner = flask.Flask("handled")
    inner.register_error_handler(BoomError, lambda exc: ("sorry", 400))
    await Told(WsgiToAsgi(inner)).ask("/nowhere")
    with inner.app_context(), inner.test_request_context("/"):
        assert inner.handle_user_exception(e=BoomError()) == ("sorry", 400)


async def test_a_subclass_of_starlette_is_known_as_it_is() -> None:
    class Own(Starlette):
        pass

    async def refuses(_: Any) -> Any:
        raise HTTPException(503)

    _, line = await Told(Own(routes=[Route("/", refuses)])).ask()
    assert (line["status_code"], line["error_type"]) == (503, "HTTPException")


class HostileError(Exception):
    """One that nobody may look at."""

    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError(name)


async def test_a_handler_of_what_cannot_be_looked_at_answers_as_before() -> None:
    class Fails:
        async def on_get(self, req: Any, resp: Any) -> None:
            raise HostileError

    async def handler(req: Any, resp: Any, ex: Exception, params: Any) -> None:
        resp.status, resp.text = 409, "handled"

    app = falcon.asgi.App()
    app.add_route("/", Fails())
    app.add_error_handler(HostileError, handler)
    status, line = await Told(app).ask()
    assert (status, line["outcome"]) == (409, "client_error")
