"""The same application in each framework: what goes wrong is named by the path."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

from . import (
    ariadne,
    blacksheep,
    channels,
    connexion,
    django,
    falcon,
    fastapi,
    fastmcp,
    flask,
    litestar,
    quart,
    sanic,
    starlette,
    strawberry,
)
from .failing import fail

__all__ = [
    "ANSWERS_ALL",
    "APPS",
    "ariadne",
    "blacksheep",
    "channels",
    "connexion",
    "django",
    "fail",
    "falcon",
    "fastapi",
    "fastmcp",
    "flask",
    "lifespan",
    "litestar",
    "quart",
    "running",
    "sanic",
    "starlette",
    "strawberry",
]

APPS: dict[str, Callable[[], Any]] = {
    "starlette": starlette.make,
    "fastapi": fastapi.make,
    "quart": quart.make,
    "litestar": litestar.make,
    "falcon": falcon.make,
    "django": django.make,
    "sanic": sanic.make,
    "blacksheep": blacksheep.make,
    "connexion": connexion.make,
    "connexion_flask": connexion.by_flask,
    "flask_by_asgiref": flask.by_asgiref,
    "flask_by_a2wsgi": flask.by_a2wsgi,
}

ANSWERS_ALL: dict[str, Callable[[Any], None]] = {
    "sanic": sanic.answer_all,
    "blacksheep": blacksheep.answer_all,
    "connexion": connexion.answer_all,
    "connexion_flask": connexion.answer_all,
}
"""Ways to have an app answer any exception by a handler of its own."""


class EndlessError(Exception):
    """Raised where a server would wait for its own end."""


async def lifespan(app: Any) -> None:
    """Start an app as a server does, which then serves on."""
    events = [{"type": "lifespan.startup"}]

    async def receive() -> Any:
        if not events:
            raise EndlessError
        return events.pop()

    async def send(message: Any) -> None:
        assert message["type"] == "lifespan.startup.complete"

    scope = {"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}
    with suppress(EndlessError):
        await app(scope, receive, send)


@asynccontextmanager
async def running(app: Any) -> AsyncIterator[None]:
    """The lifespan of an app, which FastMCP serves nothing without."""
    events: asyncio.Queue[Any] = asyncio.Queue()
    started = asyncio.Event()

    async def send(message: Any) -> None:
        started.set()
        assert message["type"].endswith("complete")

    scope = {"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}
    task = asyncio.create_task(app(scope, events.get, send))
    events.put_nowait({"type": "lifespan.startup"})
    await started.wait()
    yield
    events.put_nowait({"type": "lifespan.shutdown"})
    await task
