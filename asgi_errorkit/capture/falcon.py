"""Falcon answers by error handlers; ours stands before its defaults and leaves the answer to them."""

from inspect import signature
from typing import Any

from falcon import HTTPError

from asgi_errorkit.failure import swallowed

__all__ = ["install"]

_MARK = "_asgi_errorkit_wraps"


def install(app: Any) -> None:
    """Put our handlers in front of those for any exception and for HTTP errors.

    Handlers of the application's own for a nearer class, or added later, are asked instead: what
    they answer is handled.
    """
    if hasattr(app._error_handlers.get(Exception), _MARK):  # noqa: SLF001  the one place that tells
        return
    for kind in (Exception, HTTPError):
        app.add_error_handler(kind, _before(app._error_handlers.get(kind)))  # noqa: SLF001
    app.add_middleware(_Routes())


def _before(handler: Any) -> Any:
    async def note(req: Any, resp: Any, ex: Exception, params: Any, ws: Any = None) -> None:
        status = getattr(ex, "status_code", 500)
        meant = isinstance(ex, HTTPError) and status < 500
        swallowed(ex, req.scope, by="falcon", handled=meant)
        if handler is None:
            raise ex
        more = {"ws": ws} if takes_ws else {}
        await handler(req, resp, ex, params, **more)

    takes_ws = handler is not None and "ws" in signature(handler).parameters
    setattr(note, _MARK, handler)
    return note


class _Routes:
    """Tells the exchange of the matched route."""

    async def process_resource(self, req: Any, resp: Any, resource: Any, params: Any) -> None:
        if isinstance(req.uri_template, str):
            req.scope["path_template"] = req.uri_template

    async def process_resource_ws(self, req: Any, ws: Any, resource: Any, params: Any) -> None:
        if isinstance(req.uri_template, str):
            req.scope["path_template"] = req.uri_template
