import asyncio
from typing import Any

from blacksheep import Application, Content, Response, Router, StreamedContent, WebSocket, text
from blacksheep.exceptions import HTTPException

from .failing import ExpectedError, fail, pieces


def make() -> Any:
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

    @app.router.get("/thread/{kind}")
    async def in_thread(kind: str) -> None:
        await asyncio.to_thread(fail, kind)

    @app.router.get("/refuse/{status}")
    async def refused(status: int) -> None:
        raise HTTPException(status, "words of the framework")

    @app.router.get("/validate/{number}")
    async def validated(number: int) -> Response:
        return text(str(number))

    @app.router.get("/stream")
    async def streamed() -> Response:
        return Response(200, content=StreamedContent(b"text/plain", pieces))

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


def answer_all(app: Any) -> None:
    async def answer(app: Any, request: Any, exc: Exception) -> Response:
        return Response(500, content=Content(b"text/plain", b"sorry"))

    app.exceptions_handlers[Exception] = answer
