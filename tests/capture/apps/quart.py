from typing import Any

from quart import Blueprint, Quart, abort, websocket

from .failing import ExpectedError, fail, later, pieces


def make() -> Any:
    app = Quart("capture_apps")
    mounted = Blueprint("mounted", "capture_apps", url_prefix="/mounted")

    @app.get("/ok/<item>")
    async def ok(item: str) -> str:
        return "fine"

    @app.get("/fail/<kind>")
    async def failing(kind: str) -> str:
        fail(kind)
        return ""

    @mounted.get("/fail/<kind>")
    async def failing_there(kind: str) -> str:
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
    async def afterwards() -> str:
        app.add_background_task(later)
        return "done"

    @app.errorhandler(ExpectedError)
    async def answer(exc: Exception) -> Any:
        return "expected", 409

    @app.websocket("/ws/<kind>")
    async def session(kind: str) -> None:
        await websocket.accept()
        fail(kind)

    @app.websocket("/listen")
    async def listen() -> None:
        while True:
            await websocket.receive()

    app.register_blueprint(mounted)
    return app
