"""The same application in each framework: what goes wrong is named by the path."""

import asyncio
import warnings
from collections.abc import AsyncIterator, Callable
from typing import Any


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


APPS: dict[str, Callable[[], Any]] = {
    "starlette": starlette,
    "fastapi": fastapi,
    "quart": quart,
    "litestar": litestar,
    "falcon": falcon,
    "django": django,
}
