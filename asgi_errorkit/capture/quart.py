"""Quart tells of unhandled exceptions by its signals; what has a handler is never signalled."""

from typing import Any

from quart import request, websocket
from quart.signals import (
    got_background_exception,
    got_request_exception,
    got_websocket_exception,
    request_tearing_down,
)

from asgi_errorkit.failure import swallowed

__all__ = ["install"]


def install(app: Any) -> None:
    """Have the signals of this application tell of its errors and of the matched rules."""
    got_request_exception.connect(_note, sender=app)
    got_websocket_exception.connect(_note_session, sender=app)
    got_background_exception.connect(_note_background, sender=app)
    request_tearing_down.connect(_note_route, sender=app)


async def _note(_: Any, exception: Exception, **__: Any) -> None:
    swallowed(exception, request.scope, by="quart")


async def _note_session(_: Any, exception: Exception, **__: Any) -> None:
    swallowed(exception, websocket.scope, by="quart")


async def _note_background(_: Any, exception: Exception, **__: Any) -> None:
    swallowed(exception, by="quart", apart=True)


async def _note_route(_: Any, **__: Any) -> None:
    scope: Any = request.scope
    if request.url_rule is not None:
        scope["path_template"] = request.url_rule.rule
