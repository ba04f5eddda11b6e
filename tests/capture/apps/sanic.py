import asyncio
from itertools import count
from typing import Any

from sanic import Blueprint, Sanic, text
from sanic.exceptions import SanicException

from .failing import ExpectedError, fail, later, pieces

_numbers = count()  # a process has no two of one name


def make() -> Any:
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

    @app.get("/thread/<kind:str>")
    async def in_thread(request: Any, kind: str) -> None:
        await asyncio.to_thread(fail, kind)

    @app.get("/refuse/<status:int>")
    async def refused(request: Any, status: int) -> None:
        raise SanicException("words of the framework", status_code=status)

    @app.get("/stream")
    async def streamed(request: Any) -> None:
        response = await request.respond()
        async for piece in pieces():
            await response.send(piece)

    @app.get("/later")
    async def afterwards(request: Any) -> Any:
        request.app.add_task(later())
        return text("done")

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


def answer_all(app: Any) -> None:
    app.exception(Exception)(lambda request, exc: text("sorry", status=500))
