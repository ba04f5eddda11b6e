"""Quart tells of unhandled exceptions by its signals, of websockets and background tasks too.

What a handler of the application's own answers, and what means a status (``abort``), is seen where
Quart looks for that handler.
"""

from functools import wraps
from typing import Any

from quart import has_request_context, request, websocket
from quart.signals import (
    got_background_exception,
    got_request_exception,
    got_websocket_exception,
    request_tearing_down,
    websocket_tearing_down,
)

from asgi_errorkit.capture.wsgi import is_error, is_expected
from asgi_errorkit.failure import swallowed

__all__ = ["install"]


def install(app: Any) -> None:
    """Have this application tell of its errors and of the matched rules."""
    got_request_exception.connect(_note, sender=app)
    got_websocket_exception.connect(_note_session, sender=app)
    got_background_exception.connect(_note_background, sender=app)
    request_tearing_down.connect(_note_route, sender=app)
    websocket_tearing_down.connect(_note_route, sender=app)
    app.handle_user_exception = _noting(app, app.handle_user_exception)


async def _note(_: Any, exception: Exception, **__: Any) -> None:
    swallowed(exception, request.scope, by="quart")


async def _note_session(_: Any, exception: Exception, **__: Any) -> None:
    swallowed(exception, websocket.scope, by="quart")


async def _note_background(_: Any, exception: Exception, **__: Any) -> None:
    swallowed(exception, by="quart", apart=True)


def _noting(app: Any, answer: Any) -> Any:
    """The method by which Quart asks for a handler: without one it raises, and a signal follows."""

    @wraps(answer)
    async def note(*given: Any) -> Any:
        error, answered = given[-1], await answer(*given)  # newer versions give the context first
        if is_error(error):
            asked = _asked()
            expected = is_expected(app, error, asked.blueprints)
            swallowed(error, asked.scope, by="quart", handled=expected)
        return answered

    return note


async def _note_route(_: Any, **__: Any) -> None:
    asked = _asked()
    if asked.url_rule is not None:
        asked.scope["path_template"] = asked.url_rule.rule


def _asked() -> Any:
    return request if has_request_context() else websocket
