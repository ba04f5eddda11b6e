"""The apps that the peers are put around: the raw one, and the same as an endpoint of a framework."""

from collections.abc import Callable
from typing import Any

from asgi_errorkit.types import ASGIApp
from benchmarks.scenarios import Scenario, deep

__all__ = ["APPS", "FASTAPI", "RAW", "STARLETTE", "AnyApp", "fastapi", "raw", "starlette"]

RAW = "ASGI"
STARLETTE = "Starlette"
FASTAPI = "FastAPI"

AnyApp = Any
"""An application object of a framework, with its own ways to add a middleware."""

_PATH = "/items/{name}"


def raw(scenario: Scenario) -> ASGIApp:
    return scenario.app


def starlette(scenario: Scenario) -> AnyApp:
    """One route with a parameter, for those that ask the router which route it was."""
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import PlainTextResponse, Response
    from starlette.routing import Route

    async def answering(request: Request) -> Response:
        return PlainTextResponse("ok")

    async def failing(request: Request) -> Response:
        deep(18)
        return PlainTextResponse("never")

    return Starlette(routes=[Route(_PATH, failing if scenario.raises else answering)])


def fastapi(scenario: Scenario) -> AnyApp:
    """The same with a parameter that is checked, as FastAPI's users have it."""
    from fastapi import FastAPI
    from fastapi.responses import PlainTextResponse

    app = FastAPI()

    async def answering(name: str) -> PlainTextResponse:
        return PlainTextResponse("ok")

    async def failing(name: str) -> PlainTextResponse:
        deep(18)
        return PlainTextResponse("never")

    app.get(_PATH)(failing if scenario.raises else answering)
    return app


APPS: dict[str, Callable[[Scenario], AnyApp]] = {
    RAW: raw,
    STARLETTE: starlette,
    FASTAPI: fastapi,
}
"""How each is made; what is added by a peer is told as what it adds to one of these."""
