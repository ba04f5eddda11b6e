"""The same application in each framework: what goes wrong is named by the path."""

import asyncio
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from itertools import count
from typing import Any

_numbers = count()  # a process has no two Sanics of one name


class ExpectedError(Exception):
    """What applications have a handler for, which answers with 409."""


def fail(kind: str) -> None:
    """Raise what the name says: the frame that every framework's error is to lead to."""
    if kind == "value":
        raise ValueError("the words of the exception")
    if kind == "timeout":
        raise TimeoutError
    if kind == "memory":
        raise MemoryError
    if kind == "group":
        raise ExceptionGroup("several", [ConnectionError("one"), ConnectionError("two")])
    raise LookupError(kind)


async def pieces() -> AsyncIterator[bytes]:
    yield b"first"
    await asyncio.sleep(0)
    fail("value")


def starlette() -> Any:
    from starlette.applications import Starlette
    from starlette.background import BackgroundTask
    from starlette.exceptions import HTTPException
    from starlette.requests import Request
    from starlette.responses import PlainTextResponse, StreamingResponse
    from starlette.routing import Mount, Route

    async def failing(request: Request) -> Any:
        fail(request.path_params["kind"])

    def in_thread(request: Request) -> Any:
        fail(request.path_params["kind"])

    async def refused(request: Request) -> Any:
        raise HTTPException(int(request.path_params["status"]), "words of the framework")

    async def streamed(_: Request) -> Any:
        return StreamingResponse(pieces())

    async def later(_: Request) -> Any:
        return PlainTextResponse("done", background=BackgroundTask(fail, "value"))

    async def ok(_: Request) -> Any:
        return PlainTextResponse("fine")

    return Starlette(
        routes=[
            Route("/ok/{item}", ok),
            Route("/fail/{kind}", failing),
            Route("/thread/{kind}", in_thread),
            Route("/refuse/{status}", refused),
            Route("/stream", streamed),
            Route("/later", later),
            Mount("/mounted", routes=[Route("/fail/{kind}", failing)]),
        ]
    )


def fastapi() -> Any:
    from fastapi import APIRouter, BackgroundTasks, FastAPI, HTTPException
    from fastapi.responses import StreamingResponse

    app = FastAPI()
    mounted = APIRouter()

    @app.get("/ok/{item}")
    async def ok(item: str) -> str:
        return "fine"

    @app.get("/fail/{kind}")
    @mounted.get("/fail/{kind}")
    async def failing(kind: str) -> None:
        fail(kind)

    @app.get("/thread/{kind}")
    def in_thread(kind: str) -> None:
        fail(kind)

    @app.get("/refuse/{status}")
    async def refused(status: int) -> None:
        raise HTTPException(status, "words of the framework")

    @app.get("/validate/{number}")
    async def validated(number: int) -> int:
        return number

    @app.get("/stream")
    async def streamed() -> Any:
        return StreamingResponse(pieces())

    @app.get("/later")
    async def later(tasks: BackgroundTasks) -> str:
        tasks.add_task(fail, "value")
        return "done"

    app.include_router(mounted, prefix="/mounted")
    return app


def quart() -> Any:
    from quart import Blueprint, Quart, abort

    app = Quart("capture_apps")
    mounted = Blueprint("mounted", "capture_apps", url_prefix="/mounted")

    @app.get("/ok/<item>")
    async def ok(item: str) -> str:
        return "fine"

    @mounted.get("/fail/<kind>")
    async def failing_there(kind: str) -> str:
        fail(kind)
        return ""

    @app.get("/fail/<kind>")
    async def failing(kind: str) -> str:
        fail(kind)
        return ""

    @app.get("/thread/<kind>")
    def in_thread(kind: str) -> str:
        fail(kind)
        return ""

    @app.get("/refuse/<int:status>")
    async def refused(status: int) -> str:
        abort(status)

    @app.get("/stream")
    async def streamed() -> Any:
        return pieces()

    @app.get("/later")
    async def later() -> str:
        async def background() -> None:
            fail("value")

        app.add_background_task(background)
        return "done"

    app.register_blueprint(mounted)
    return app


def litestar(**options: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # its newest has another style
        return _litestar(**options)


def _litestar(**options: Any) -> Any:
    from litestar import Litestar, Response, Router, get
    from litestar.background_tasks import BackgroundTask
    from litestar.exceptions import HTTPException
    from litestar.response import Stream

    @get("/ok/{item:str}")
    async def ok(item: str) -> str:
        return "fine"

    @get("/fail/{kind:str}")
    async def failing(kind: str) -> None:
        fail(kind)

    @get("/thread/{kind:str}", sync_to_thread=True)
    def in_thread(kind: str) -> None:
        fail(kind)

    @get("/refuse/{status:int}")
    async def refused(status: int) -> None:
        raise HTTPException(status_code=status, detail="words of the framework")

    @get("/validate/{number:str}")
    async def validated(number: str, wanted: int) -> int:
        return wanted

    @get("/stream")
    async def streamed() -> Stream:
        return Stream(pieces())

    @get("/later")
    async def later() -> Response[str]:
        async def background() -> None:
            fail("value")

        return Response("done", background=BackgroundTask(background))

    return Litestar(
        [
            ok,
            failing,
            in_thread,
            refused,
            validated,
            streamed,
            later,
            Router("/mounted", route_handlers=[failing]),
        ],
        **options,
        logging_config=None,  # else it takes the handlers of the whole process away
    )


def falcon() -> Any:
    from falcon import HTTPError
    from falcon.asgi import App

    class Ok:
        async def on_get(self, req: Any, resp: Any, item: str) -> None:
            resp.text = "fine"

    class Failing:
        async def on_get(self, req: Any, resp: Any, kind: str) -> None:
            fail(kind)

    class Refusing:
        async def on_get(self, req: Any, resp: Any, status: str) -> None:
            raise HTTPError(int(status), title="words of the framework")

    class Streaming:
        async def on_get(self, req: Any, resp: Any) -> None:
            resp.stream = pieces()

    app = App()
    app.add_route("/ok/{item}", Ok())
    app.add_route("/fail/{kind}", Failing())
    app.add_route("/mounted/fail/{kind}", Failing())
    app.add_route("/refuse/{status}", Refusing())
    app.add_route("/stream", Streaming())
    return app


def django() -> Any:
    import django as package
    from django.conf import settings
    from django.core.asgi import get_asgi_application
    from django.core.exceptions import PermissionDenied
    from django.http import Http404, HttpResponse, StreamingHttpResponse
    from django.urls import include, path

    async def ok(request: Any, item: str) -> Any:
        return HttpResponse("fine")

    async def failing(request: Any, kind: str) -> Any:
        fail(kind)

    def in_thread(request: Any, kind: str) -> Any:
        fail(kind)

    async def refused(request: Any, status: int) -> Any:
        raise Http404("words of the framework") if status == 404 else PermissionDenied

    async def streamed(request: Any) -> Any:
        return StreamingHttpResponse(pieces())

    patterns = [
        path("ok/<item>", ok),
        path("fail/<kind>", failing),
        path("thread/<kind>", in_thread),
        path("refuse/<int:status>", refused),
        path("stream", streamed),
        path("mounted/", include([path("fail/<kind>", failing)])),
    ]
    if not settings.configured:
        settings.configure(ALLOWED_HOSTS=["*"], SECRET_KEY="of a test", LOGGING_CONFIG=None)
        package.setup()
    settings.ROOT_URLCONF = type("urls", (), {"urlpatterns": patterns})
    return get_asgi_application()


def sanic() -> Any:
    from sanic import Blueprint, Sanic, text
    from sanic.exceptions import SanicException

    app = Sanic(f"capture_apps_{next(_numbers)}", configure_logging=False)
    app.config.MOTD = False
    app.config.TOUCHUP = False  # it rewrites the class, for the first of a process
    mounted = Blueprint("mounted", url_prefix="/mounted")

    @app.get("/ok/<item:str>")
    async def ok(request: Any, item: str) -> Any:
        return text("fine")

    @app.get("/fail/<kind:str>")
    async def failing(request: Any, kind: str) -> None:
        fail(kind)

    @mounted.get("/fail/<kind:str>")
    async def failing_there(request: Any, kind: str) -> None:
        fail(kind)

    @app.get("/refuse/<status:int>")
    async def refused(request: Any, status: int) -> None:
        raise SanicException("words of the framework", status_code=status)

    @app.get("/stream")
    async def streamed(request: Any) -> None:
        response = await request.respond()
        async for piece in pieces():
            await response.send(piece)

    @app.get("/later")
    async def later(request: Any) -> Any:
        async def background() -> None:
            fail("value")

        request.app.add_task(background())
        return text("done")

    @app.get("/expected")
    async def expected(request: Any) -> None:
        raise ExpectedError

    @app.exception(ExpectedError)
    async def answer(request: Any, exc: Exception) -> Any:
        return text("expected", status=409)

    @app.websocket("/ws/<kind:str>")
    async def session(request: Any, ws: Any, kind: str) -> None:
        fail(kind)

    @app.websocket("/listen")
    async def listen(request: Any, ws: Any) -> None:
        while await ws.recv() is not None:
            pass

    app.blueprint(mounted)
    return app


def blacksheep() -> Any:
    from blacksheep import Application, Content, Response, Router, StreamedContent, WebSocket, text
    from blacksheep.exceptions import HTTPException

    app = Application(router=Router())
    mounted = Application(router=Router())

    @app.router.get("/ok/{item}")
    async def ok(item: str) -> Response:
        return text("fine")

    @app.router.get("/fail/{kind}")
    async def failing(kind: str) -> None:
        fail(kind)

    @mounted.router.get("/fail/{kind}")
    async def failing_there(kind: str) -> None:
        fail(kind)

    @app.router.get("/refuse/{status}")
    async def refused(status: int) -> None:
        raise HTTPException(status, "words of the framework")

    @app.router.get("/stream")
    async def streamed() -> Response:
        return Response(200, content=StreamedContent(b"text/plain", pieces))

    @app.router.get("/expected")
    async def expected() -> None:
        raise ExpectedError

    @app.exception_handler(ExpectedError)
    async def answer(app: Any, request: Any, exc: Exception) -> Response:
        return Response(409, content=Content(b"text/plain", b"expected"))

    @app.router.ws("/ws/{kind}")
    async def session(websocket: WebSocket, kind: str) -> None:
        await websocket.accept()
        fail(kind)

    @app.router.ws("/listen")
    async def listen(websocket: WebSocket) -> None:
        await websocket.accept()
        while True:
            await websocket.receive_text()

    app.mount("/mounted", mounted)
    return app


def connexion() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it imports what is deprecated
        return _connexion()


def _connexion() -> Any:
    from connexion import AsyncApp
    from connexion.exceptions import ProblemException
    from connexion.lifecycle import ConnexionResponse
    from starlette.background import BackgroundTask
    from starlette.responses import PlainTextResponse, StreamingResponse

    async def failing(kind: str) -> None:
        fail(kind)

    def in_thread(kind: str) -> None:
        fail(kind)

    async def refused(status: int) -> None:
        raise ProblemException(status=status, title="words of the framework")

    async def validated(number: int) -> int:
        return number

    async def expected() -> None:
        raise ExpectedError

    async def ok(_: Any) -> Any:
        return PlainTextResponse("fine")

    async def streamed(_: Any) -> Any:
        return StreamingResponse(pieces())

    async def later(_: Any) -> Any:
        return PlainTextResponse("done", background=BackgroundTask(fail, "value"))

    def answer(request: Any, exc: Exception) -> Any:
        return ConnexionResponse(status_code=409, body="expected")

    operations = {
        "/fail/{kind}": (failing, "string"),
        "/thread/{kind}": (in_thread, "string"),
        "/refuse/{status}": (refused, "integer"),
        "/validate/{number}": (validated, "integer"),
        "/expected": (expected, None),
    }
    app = AsyncApp(__name__)
    app.add_api(_specification(operations), resolver=_resolver(operations))
    mounted = {"/fail/{kind}": (failing, "string")}
    app.add_api(_specification(mounted), resolver=_resolver(mounted), base_path="/mounted")
    app.add_error_handler(ExpectedError, answer)
    app.route("/ok/{item}")(ok)
    app.route("/stream")(streamed)
    app.route("/later")(later)
    return app


def connexion_flask() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it imports what is deprecated
        return _connexion_flask()


def _connexion_flask() -> Any:
    from connexion import FlaskApp, problem
    from connexion.exceptions import ProblemException

    def failing(kind: str) -> None:
        fail(kind)

    def refused(status: int) -> None:
        raise ProblemException(status=status, title="words of the framework")

    def validated(number: int) -> int:
        return number

    def expected() -> None:
        raise ExpectedError

    def ok(item: str) -> str:
        return "fine"

    def answer(request: Any, exc: Exception) -> Any:
        return problem(409, "expected", "expected")

    operations = {
        "/ok/{item}": (ok, "string"),
        "/fail/{kind}": (failing, "string"),
        "/refuse/{status}": (refused, "integer"),
        "/validate/{number}": (validated, "integer"),
        "/expected": (expected, None),
    }
    app = FlaskApp(__name__)
    app.add_api(_specification(operations), resolver=_resolver(operations))
    mounted = {"/fail/{kind}": (failing, "string")}
    app.add_api(_specification(mounted), resolver=_resolver(mounted), base_path="/mounted")
    app.add_error_handler(ExpectedError, answer)
    app.app.add_url_rule("/stream", "stream", _synchronous_pieces)
    return app


def _specification(operations: dict[str, Any]) -> dict[str, Any]:
    def operation(path: str, kind: str | None) -> dict[str, Any]:
        name = path.partition("{")[2].rstrip("}")
        parameter = {"name": name, "in": "path", "required": True, "schema": {"type": kind}}
        return {
            "operationId": path,
            "parameters": [parameter] if kind else [],
            "responses": {"200": {"description": "it went well"}},
        }

    return {
        "openapi": "3.0.0",
        "info": {"title": "of a test", "version": "1"},
        "paths": {path: {"get": operation(path, kind)} for path, (_, kind) in operations.items()},
    }


def _resolver(operations: dict[str, Any]) -> Any:
    from connexion import Resolver

    return Resolver(lambda operation_id: operations[operation_id][0])


def _flask() -> Any:
    from flask import Blueprint, Flask, abort

    app = Flask("capture_apps")
    mounted = Blueprint("mounted", "capture_apps", url_prefix="/mounted")

    @app.get("/ok/<item>")
    def ok(item: str) -> str:
        return "fine"

    @app.get("/fail/<kind>")
    def failing(kind: str) -> str:
        fail(kind)
        return ""

    @mounted.get("/fail/<kind>")
    def failing_there(kind: str) -> str:
        fail(kind)
        return ""

    @app.get("/refuse/<int:status>")
    def refused(status: int) -> str:
        abort(status)

    @app.get("/expected")
    def expected() -> str:
        raise ExpectedError

    @app.errorhandler(ExpectedError)
    def answer(exc: Exception) -> Any:
        return "expected", 409

    app.add_url_rule("/stream", "stream", _synchronous_pieces)
    app.register_blueprint(mounted)
    return app


def _synchronous_pieces() -> Iterator[bytes]:
    yield b"first"
    fail("value")


def flask_by_asgiref() -> Any:
    from asgiref.wsgi import WsgiToAsgi

    return WsgiToAsgi(_flask())


def flask_by_a2wsgi() -> Any:
    from a2wsgi import WSGIMiddleware

    return WSGIMiddleware(_flask())


def answer_all(app: Any, name: str) -> None:
    """Have the app answer any exception by a handler of its own."""
    if name == "sanic":
        from sanic import text

        app.exception(Exception)(lambda request, exc: text("sorry", status=500))
    elif name == "blacksheep":
        from blacksheep import Content, Response

        async def answer(app: Any, request: Any, exc: Exception) -> Response:
            return Response(500, content=Content(b"text/plain", b"sorry"))

        app.exceptions_handlers[Exception] = answer
    else:
        from connexion import problem

        app.add_error_handler(Exception, lambda request, exc: problem(500, "sorry", "sorry"))


class EndlessError(Exception):
    """Raised where a server would wait for its own end."""


async def lifespan(app: Any) -> None:
    """Start an app as a server does, which then serves on."""
    events = [{"type": "lifespan.startup"}]

    async def receive() -> Any:
        if not events:
            raise EndlessError
        return events.pop()

    async def send(message: Any) -> None:
        assert message["type"] == "lifespan.startup.complete"

    scope = {"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}
    with suppress(EndlessError):
        await app(scope, receive, send)


APPS: dict[str, Callable[[], Any]] = {
    "starlette": starlette,
    "fastapi": fastapi,
    "quart": quart,
    "litestar": litestar,
    "falcon": falcon,
    "django": django,
    "sanic": sanic,
    "blacksheep": blacksheep,
    "connexion": connexion,
    "connexion_flask": connexion_flask,
    "flask_by_asgiref": flask_by_asgiref,
    "flask_by_a2wsgi": flask_by_a2wsgi,
}
