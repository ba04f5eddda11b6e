from typing import Any

from fastapi import APIRouter, BackgroundTasks, FastAPI, HTTPException, WebSocket
from fastapi.responses import PlainTextResponse, StreamingResponse

from .failing import ExpectedError, fail, later, pieces


def make() -> Any:
    app, mounted = FastAPI(), APIRouter()

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
    async def afterwards(tasks: BackgroundTasks) -> str:
        tasks.add_task(later)
        return "done"

    @app.exception_handler(ExpectedError)
    async def answer(_: Any, exc: Exception) -> Any:
        return PlainTextResponse("expected", 409)

    @app.websocket("/ws/{kind}")
    async def session(websocket: WebSocket, kind: str) -> None:
        await websocket.accept()
        fail(kind)

    @app.websocket("/listen")
    async def listen(websocket: WebSocket) -> None:
        await websocket.accept()
        while True:
            await websocket.receive_text()

    app.include_router(mounted, prefix="/mounted")
    return app
