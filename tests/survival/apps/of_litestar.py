import inspect
import re
from typing import Any

from acts import HTTP, METHODS, SESSIONS, Asked
from arranged import arranged
from litestar import Litestar, Request, Response, WebSocket, route, websocket
from litestar.exceptions import WebSocketDisconnect
from litestar.response import Stream


def make():
    return Litestar(
        [
            *(handler(path, act) for path, act in HTTP.items()),
            *(session(path, act) for path, act in SESSIONS.items()),
        ],
        logging_config=None,  # else it takes the handlers of the whole process away
        openapi_config=None,
    )


def handler(path, act):
    async def in_loop(request: Request[Any, Any, Any]) -> Response[Any]:
        return answer(await act(asked(request)))

    def in_thread(request: Request[Any, Any, Any]) -> Response[Any]:
        return answer(act(asked(request)))

    rule = re.sub(r"\{(\w+)\}", r"{\1:str}", path)
    if inspect.iscoroutinefunction(act):
        return route(rule, http_method=METHODS)(in_loop)
    return route(rule, http_method=METHODS, sync_to_thread=True)(in_thread)


def asked(request):
    return Asked(request.query_params.get("key", ""), request.method, request.body)


def answer(said):
    if isinstance(said.body, bytes):
        return Response(said.body or None, status_code=said.status, media_type="text/plain")
    return Stream(said.body, status_code=said.status, media_type="text/plain")


def session(path, act):
    @websocket(path)
    async def serve(socket: WebSocket[Any, Any, Any]) -> None:
        async def receive():
            try:
                return await socket.receive_text()
            except WebSocketDisconnect:
                return None

        await act(socket.query_params.get("key", ""), socket.accept, receive, socket.send_text)

    return serve


app = arranged(make)
