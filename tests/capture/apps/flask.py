from typing import Any

from flask import Blueprint, Flask, abort

from .failing import ExpectedError, fail, synchronous_pieces


def by_asgiref() -> Any:
    from asgiref.wsgi import WsgiToAsgi

    return WsgiToAsgi(make())


def by_a2wsgi() -> Any:
    from a2wsgi import WSGIMiddleware

    return WSGIMiddleware(make())


def make() -> Any:
    app = Flask("capture_apps")
    mounted = Blueprint("mounted", "capture_apps", url_prefix="/mounted")

    @app.get("/ok/<item>")
    def ok(item: str) -> str:
        return "fine"

    @app.get("/fail/<kind>")
    @app.get("/thread/<kind>")  # as every other
    def failing(kind: str) -> str:
        fail(kind)
        return ""

    @mounted.get("/fail/<kind>")
    def failing_there(kind: str) -> str:
        fail(kind)
        return ""

    @app.get("/refuse/<int:status>")
    def refused(status: int) -> str:
        abort(status)

    @app.errorhandler(ExpectedError)
    def answer(exc: Exception) -> Any:
        return "expected", 409

    app.add_url_rule("/stream", "stream", synchronous_pieces)
    app.register_blueprint(mounted)
    return app
