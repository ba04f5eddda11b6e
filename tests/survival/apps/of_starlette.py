import inspect

from acts import HTTP, METHODS, SESSIONS, Asked
from arranged import arranged
from starlette.applications import Starlette
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocketDisconnect


def make():
    return Starlette(
        routes=[
            *(Route(path, endpoint(act), methods=METHODS) for path, act in HTTP.items()),
            *(WebSocketRoute(path, session(act)) for path, act in SESSIONS.items()),
        ]
    )


def endpoint(act):
    async def in_loop(request):
        return answer(await act(asked(request)))

    def in_thread(request):
        return answer(act(asked(request)))

    return in_loop if inspect.iscoroutinefunction(act) else in_thread


def asked(request):
    return Asked(request.query_params.get("key", ""), request.method, request.body)


def answer(said):
    kind = Response if isinstance(said.body, bytes) else StreamingResponse
    return kind(said.body, said.status, media_type="text/plain")


def session(act):
    async def serve(websocket):
        async def receive():
            try:
                return await websocket.receive_text()
            except WebSocketDisconnect:
                return None

        key = websocket.query_params.get("key", "")
        await act(key, websocket.accept, receive, websocket.send_text)

    return serve


app = arranged(make)
