"""Litestar calls ``after_exception`` for every exception it answers, its HTTP exceptions too."""

from typing import Any

from litestar.exceptions import HTTPException

from asgi_errorkit.failure import swallowed

__all__ = ["install"]


def install(app: Any) -> None:
    """Add a hook behind those of the application."""
    if _note not in app.after_exception:
        app.after_exception.append(_note)


async def _note(exc: Exception, scope: Any) -> None:
    meant = isinstance(exc, HTTPException) and exc.status_code < 500
    handled = meant or _has_handler(exc, scope)
    swallowed(exc, scope, by="litestar", handled=handled)


def _has_handler(exc: Exception, scope: Any) -> bool:
    """Whether the application has a handler for its kind: one for any exception expects none."""
    app = scope.get("litestar_app") or scope["app"]  # older versions have the second alone
    handlers = dict(app.exception_handlers)
    route = scope.get("route_handler")
    if route is not None:
        handlers.update(route.resolve_exception_handlers())
    kinds = [cls for cls in type(exc).__mro__ if cls not in (Exception, BaseException, object)]
    return any(cls in handlers for cls in kinds if cls.__module__ != HTTPException.__module__)
