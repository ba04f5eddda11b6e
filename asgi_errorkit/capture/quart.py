"""Quart tells of unhandled exceptions by its signals, of websockets and background tasks too.

What a handler of the application's own answers, and what means a status (``abort``), is seen where
Quart looks for that handler.
"""

from functools import wraps
from typing import Any

from quart import has_request_context, has_websocket_context, request, websocket
from quart.signals import (
    got_background_exception,
    got_request_exception,
    got_websocket_exception,
    request_started,
    websocket_started,
)

from asgi_errorkit.capture import orphans
from asgi_errorkit.capture.wsgi import error_among, is_expected
from asgi_errorkit.exchange import current, tell_route
from asgi_errorkit.failure import swallowed

__all__ = ["install"]


def install(app: Any) -> None:
    """Have this application tell of its errors and of the matched rules."""
    got_request_exception.connect(_note, sender=app)
    got_websocket_exception.connect(_note_session, sender=app)
    got_background_exception.connect(_note_background, sender=app)
    request_started.connect(_note_route, sender=app)
    websocket_started.connect(_note_route, sender=app)
    app.handle_user_exception = _noting(app, app.handle_user_exception)


async def _note(_: Any, exception: Exception, **__: Any) -> None:
    swallowed(exception, request.scope, by="quart")


async def _note_session(_: Any, exception: Exception, **__: Any) -> None:
    swallowed(exception, websocket.scope, by="quart")


async def _note_background(_: Any, exception: Exception, **__: Any) -> None:
    if swallowed(exception, by="quart", apart=True) is None and current() is None:
        orphans.tell(exception)  # begun by no request, but by the application's start


def _noting(app: Any, answer: Any) -> Any:
    """The method by which Quart asks for a handler: without one it raises, and a signal follows."""

    @wraps(answer)
    async def note(*given: Any, **named: Any) -> Any:
        answered = await answer(*given, **named)
        error, asked = error_among(given, named), _asked()
        if error is not None and asked is not None:
            expected = is_expected(app, error, asked.blueprints)
            swallowed(error, asked.scope, by="quart", handled=expected)
        return answered

    return note


async def _note_route(_: Any, **__: Any) -> None:
    asked = _asked()
    if asked is not None and asked.url_rule is not None:
        tell_route(asked.scope, asked.url_rule.rule)


def _asked() -> Any:
    """The request or websocket that is being served; None outside of any."""
    if has_request_context():
        return request
    return websocket if has_websocket_context() else None
