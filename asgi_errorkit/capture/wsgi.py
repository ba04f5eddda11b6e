"""Flask, behind whatever runs a WSGI app under ASGI: it signals what it answers with a 500.

What a handler of the application's own answers, and what means a status (``abort``), is seen where
Flask looks for that handler.
"""

from functools import wraps
from typing import Any

from flask import got_request_exception, has_request_context, request, request_started
from werkzeug.exceptions import HTTPException

from asgi_errorkit.exchange import current
from asgi_errorkit.failure import swallowed

__all__ = ["error_among", "install", "is_expected"]


def install(app: Any) -> None:
    """Have this application tell of its errors and of the matched rules.

    They come from the thread that the application runs in, which has the context of its request.
    """
    got_request_exception.connect(_note, sender=app)
    request_started.connect(_note_route, sender=app)
    app.handle_user_exception = _noting(app, app.handle_user_exception)


def _note(app: Any, exception: Exception, **_: Any) -> None:
    if not _raises_on(app):
        swallowed(exception, by="wsgi")


def _raises_on(app: Any) -> bool:
    """Whether the application raises its errors after the signal: then somebody else judges them."""
    propagates = app.config["PROPAGATE_EXCEPTIONS"]
    return bool(app.testing or app.debug if propagates is None else propagates)


def _noting(app: Any, answer: Any) -> Any:
    """The method by which Flask asks for a handler: without one it raises, and the signal follows."""

    @wraps(answer)
    def note(*given: Any, **named: Any) -> Any:
        answered = answer(*given, **named)
        error = error_among(given, named)
        if error is not None and has_request_context():
            swallowed(error, by="wsgi", handled=is_expected(app, error, request.blueprints))
        return answered

    return note


def error_among(given: tuple[Any, ...], named: dict[str, Any]) -> Exception | None:
    """The error that is handled: newer versions give the context before it.

    None for what redirects, and for what brings a response of its own along.
    """
    for each in (*given, *named.values()):
        if issubclass(type(each), HTTPException) and (each.code or 0) < 400:
            return None
        if issubclass(type(each), Exception):
            error: Exception = each
            return error
    return None


def is_expected(app: Any, error: Exception, blueprints: list[str]) -> bool:
    """Whether it means a status, or is answered by a handler for its kind rather than for any."""
    if issubclass(type(error), HTTPException):
        return True
    try:
        nearest, any_kind = (
            app._find_error_handler(each, blueprints)  # noqa: SLF001  no other way to ask
            for each in (error, Exception())
        )
    except Exception:  # noqa: BLE001  a version that looks them up in another way
        return True
    return nearest is not any_kind


def _note_route(_: Any, **__: Any) -> None:
    exchange = current()
    rule = request.url_rule
    if exchange is not None and exchange.scope is not None and rule is not None:
        exchange.scope["path_template"] = f"{request.script_root}{rule.rule}"
