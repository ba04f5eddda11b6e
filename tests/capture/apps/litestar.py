import warnings
from typing import Any

from litestar import Litestar, Response, Router, WebSocket, get, websocket
from litestar.background_tasks import BackgroundTask
from litestar.exceptions import HTTPException
from litestar.response import Stream

from .failing import ExpectedError, fail, later, pieces


def make(**options: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # its newest has another style
        return _make(**options)


def _make(**options: Any) -> Any:
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
    async def afterwards() -> Response[str]:
        return Response("done", background=BackgroundTask(later))

    def answer(_: Any, exc: Exception) -> Any:
        return Response("expected", status_code=409)

    @websocket("/ws/{kind:str}")
    async def session(socket: WebSocket[Any, Any, Any], kind: str) -> None:
        await socket.accept()
        fail(kind)

    @websocket("/listen")
    async def listen(socket: WebSocket[Any, Any, Any]) -> None:
        await socket.accept()
        while True:
            await socket.receive_text()

    handlers = [ok, failing, in_thread, refused, validated, streamed, afterwards, session, listen]
    return Litestar(
        [*handlers, Router("/mounted", route_handlers=[failing])],
        exception_handlers={ExpectedError: answer},
        **options,
        logging_config=None,  # else it takes the handlers of the whole process away
    )
