import warnings
from typing import Any

from starlette.background import BackgroundTask
from starlette.responses import PlainTextResponse, StreamingResponse

from .failing import ExpectedError, fail, later, pieces, synchronous_pieces

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it imports what is deprecated
    from connexion import AsyncApp, FlaskApp, Resolver, problem
    from connexion.exceptions import ProblemException
    from connexion.lifecycle import ConnexionResponse


def make() -> Any:
    async def failing(kind: str) -> None:
        fail(kind)

    def in_thread(kind: str) -> None:
        fail(kind)

    async def refused(status: int) -> None:
        raise ProblemException(status=status, title="words of the framework")

    async def validated(number: int) -> int:
        return number

    async def ok(_: Any) -> Any:
        return PlainTextResponse("fine")

    async def streamed(_: Any) -> Any:
        return StreamingResponse(pieces())

    async def afterwards(_: Any) -> Any:
        return PlainTextResponse("done", background=BackgroundTask(later))

    def answer(request: Any, exc: Exception) -> Any:
        return ConnexionResponse(status_code=409, body="expected")

    operations = {
        "/fail/{kind}": (failing, "string"),
        "/thread/{kind}": (in_thread, "string"),
        "/refuse/{status}": (refused, "integer"),
        "/validate/{number}": (validated, "integer"),
    }
    app = AsyncApp(__name__)
    _add(app, operations)
    _add(app, {"/fail/{kind}": (failing, "string")}, base_path="/mounted")
    app.add_error_handler(ExpectedError, answer)
    app.route("/ok/{item}")(ok)
    app.route("/stream")(streamed)
    app.route("/later")(afterwards)
    return app


def by_flask() -> Any:
    def failing(kind: str) -> None:
        fail(kind)

    def refused(status: int) -> None:
        raise ProblemException(status=status, title="words of the framework")

    def validated(number: int) -> int:
        return number

    def ok(item: str) -> str:
        return "fine"

    def answer(request: Any, exc: Exception) -> Any:
        return problem(409, "expected", "expected")

    operations = {
        "/ok/{item}": (ok, "string"),
        "/fail/{kind}": (failing, "string"),
        "/thread/{kind}": (failing, "string"),  # as every other
        "/refuse/{status}": (refused, "integer"),
        "/validate/{number}": (validated, "integer"),
    }
    app = FlaskApp(__name__)
    _add(app, operations)
    _add(app, {"/fail/{kind}": (failing, "string")}, base_path="/mounted")
    app.add_error_handler(ExpectedError, answer)
    app.app.add_url_rule("/stream", "stream", synchronous_pieces)
    return app


def answer_all(app: Any) -> None:
    app.add_error_handler(Exception, lambda request, exc: problem(500, "sorry", "sorry"))


def _add(app: Any, operations: dict[str, Any], **options: Any) -> None:
    """Add an API whose operations have their paths for names."""

    def operation(path: str, kind: str) -> dict[str, Any]:
        name = path.partition("{")[2].rstrip("}")
        parameter = {"name": name, "in": "path", "required": True, "schema": {"type": kind}}
        return {
            "operationId": path,
            "parameters": [parameter],
            "responses": {"200": {"description": "it went well"}},
        }

    paths = {path: {"get": operation(path, kind)} for path, (_, kind) in operations.items()}
    specification = {
        "openapi": "3.0.0",
        "info": {"title": "of a test", "version": "1"},
        "paths": paths,
    }
    resolver = Resolver(lambda operation_id: operations[operation_id][0])
    app.add_api(specification, resolver=resolver, **options)
