from typing import Any

from falcon import HTTPError
from falcon.asgi import App
from falcon.util import sync_to_async

from .failing import ExpectedError, fail, later, pieces


def make() -> Any:
    app = App()
    app.add_route("/ok/{item}", Ok())
    app.add_route("/fail/{kind}", Failing())
    app.add_route("/mounted/fail/{kind}", Failing())
    app.add_route("/thread/{kind}", InThread())
    app.add_route("/refuse/{status}", Refusing())
    app.add_route("/validate/{number}", Validating())
    app.add_route("/stream", Streaming())
    app.add_route("/later", Later())
    app.add_route("/ws/{kind}", Session())
    app.add_route("/listen", Listening())
    app.add_error_handler(ExpectedError, answer)
    return app


class Ok:
    async def on_get(self, req: Any, resp: Any, item: str) -> None:
        resp.text = "fine"


class Failing:
    async def on_get(self, req: Any, resp: Any, kind: str) -> None:
        fail(kind)


class InThread:
    async def on_get(self, req: Any, resp: Any, kind: str) -> None:
        await sync_to_async(fail, kind)


class Refusing:
    async def on_get(self, req: Any, resp: Any, status: str) -> None:
        raise HTTPError(int(status), title="words of the framework")


class Validating:
    async def on_get(self, req: Any, resp: Any, number: str) -> None:
        resp.media = req.get_param_as_int("wanted", required=True)


class Streaming:
    async def on_get(self, req: Any, resp: Any) -> None:
        resp.stream = pieces()


class Later:
    async def on_get(self, req: Any, resp: Any) -> None:
        resp.schedule(later)
        resp.text = "done"


class Session:
    async def on_websocket(self, req: Any, ws: Any, kind: str) -> None:
        await ws.accept()
        fail(kind)


class Listening:
    async def on_websocket(self, req: Any, ws: Any) -> None:
        await ws.accept()
        while True:
            await ws.receive_text()


async def answer(req: Any, resp: Any, ex: Exception, params: Any) -> None:
    resp.status, resp.text = 409, "expected"
