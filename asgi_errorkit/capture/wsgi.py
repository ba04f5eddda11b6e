"""Flask, behind whatever runs a WSGI app under ASGI, signals what it answers with a 500."""

from typing import Any

from flask import got_request_exception, request, request_started

from asgi_errorkit.exchange import current
from asgi_errorkit.failure import swallowed

__all__ = ["install"]


def install(app: Any) -> None:
    """Have the signals of this application tell of its errors and of the matched rules.

    They come from the thread that the application runs in, which has the context of its request.
    """
    got_request_exception.connect(_note, sender=app)
    request_started.connect(_note_route, sender=app)


def _note(app: Any, exception: Exception, **_: Any) -> None:
    if not _raises_on(app):
        swallowed(exception, by="wsgi")


def _raises_on(app: Any) -> bool:
    """Whether the application raises its errors after the signal: then somebody else judges them."""
    propagates = app.config["PROPAGATE_EXCEPTIONS"]
    return bool(app.testing or app.debug if propagates is None else propagates)


def _note_route(_: Any, **__: Any) -> None:
    exchange = current()
    rule = request.url_rule
    if exchange is not None and exchange.scope is not None and rule is not None:
        exchange.scope["path_template"] = f"{request.script_root}{rule.rule}"
