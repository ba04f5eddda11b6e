"""Falcon answers by error handlers: ours stand before them, and leave the answer to them."""

from inspect import signature
from typing import Any

from falcon import HTTPError, HTTPStatus, WebSocketDisconnected

from asgi_errorkit.exchange import tell_route
from asgi_errorkit.failure import swallowed

__all__ = ["install"]

_MARK = "_asgi_errorkit_wraps"

_NO_ERRORS = (HTTPStatus, WebSocketDisconnected)  # a way to answer, and a client that has left


def install(app: Any) -> None:
    """Put our handlers before those for any exception, for HTTP errors, and the application's own.

    What a handler for a nearer class answers is handled. Those that are added later are not seen.
    """
    handlers = app._error_handlers  # noqa: SLF001  the one place that tells
    if hasattr(handlers.get(Exception), _MARK):
        return
    for kind in {Exception: None, HTTPError: None, **handlers}:
        if not issubclass(kind, _NO_ERRORS):
            app.add_error_handler(kind, _before(handlers.get(kind), kind))
    app.add_middleware(_Routes())


def _before(handler: Any, kind: type[BaseException]) -> Any:
    async def note(req: Any, resp: Any, ex: Exception, params: Any, ws: Any = None) -> None:
        _tell_route(req)
        swallowed(ex, req.scope, by="falcon", handled=_is_expected(ex, kind))
        if handler is None:
            raise ex
        more = {"ws": ws} if takes_ws else {}
        await handler(req, resp, ex, params, **more)

    takes_ws = handler is not None and "ws" in signature(handler).parameters
    setattr(note, _MARK, handler)
    return note


def _is_expected(exc: Exception, kind: type[BaseException]) -> bool:
    """Whether it means an answer below 500, or the application has a handler for its kind."""
    if issubclass(type(exc), HTTPError):
        return bool(getattr(exc, "status_code", 500) < 500)
    return kind not in (Exception, BaseException)


class _Routes:
    """Tells the exchange of the matched route, also where another middleware answers before it."""

    async def process_resource(self, req: Any, resp: Any, resource: Any, params: Any) -> None:
        _tell_route(req)

    async def process_resource_ws(self, req: Any, ws: Any, resource: Any, params: Any) -> None:
        _tell_route(req)

    async def process_response(self, req: Any, resp: Any, resource: Any, succeeded: bool) -> None:
        _tell_route(req)


def _tell_route(req: Any) -> None:
    if isinstance(req.uri_template, str):
        tell_route(req.scope, req.uri_template)
