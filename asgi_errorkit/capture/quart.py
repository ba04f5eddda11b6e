"""Quart tells of unhandled exceptions by its signals; what has a handler is never signalled."""

from typing import Any

from quart.signals import (
    got_background_exception,
    got_request_exception,
    got_websocket_exception,
    request_tearing_down,
)

from asgi_errorkit.exchange import current
from asgi_errorkit.failure import swallowed

__all__ = ["install"]


def install(app: Any) -> None:
    """Have the signals of this application tell of its errors and of the matched rules."""
    for signal in (got_request_exception, got_websocket_exception, got_background_exception):
        signal.connect(_note, sender=app)
    request_tearing_down.connect(_note_route, sender=app)


async def _note(_: Any, exception: Exception, **__: Any) -> None:
    swallowed(exception, by="quart")


async def _note_route(_: Any, **__: Any) -> None:
    from quart import request  # noqa: PLC0415  the request of this very moment

    exchange = current()
    rule = getattr(request, "url_rule", None)
    if exchange is not None and exchange.scope is not None and rule is not None:
        exchange.route = rule.rule
