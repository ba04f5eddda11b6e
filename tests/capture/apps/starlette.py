from typing import Any

from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.websockets import WebSocket

from .failing import ExpectedError, fail, later, pieces


def make() -> Any:
    return Starlette(
        routes=[
            Route("/ok/{item}", ok),
            Route("/fail/{kind}", failing),
            Route("/thread/{kind}", in_thread),
            Route("/refuse/{status}", refused),
            Route("/stream", streamed),
            Route("/later", afterwards),
            WebSocketRoute("/ws/{kind}", session),
            WebSocketRoute("/listen", listen),
            Mount("/mounted", routes=[Route("/fail/{kind}", failing)]),
        ],
        exception_handlers={ExpectedError: answer},
    )


async def ok(_: Request) -> Any:
    return PlainTextResponse("fine")


async def failing(request: Request) -> Any:
    fail(request.path_params["kind"])


def in_thread(request: Request) -> Any:
    fail(request.path_params["kind"])


async def refused(request: Request) -> Any:
    raise HTTPException(int(request.path_params["status"]), "words of the framework")


async def streamed(_: Request) -> Any:
    return StreamingResponse(pieces())


async def afterwards(_: Request) -> Any:
    return PlainTextResponse("done", background=BackgroundTask(later))


async def answer(_: Request, exc: Exception) -> Any:
    return PlainTextResponse("expected", 409)


async def session(websocket: WebSocket) -> None:
    await websocket.accept()
    fail(websocket.path_params["kind"])


async def listen(websocket: WebSocket) -> None:
    await websocket.accept()
    while True:
        await websocket.receive_text()
