"""Starlette and FastAPI raise what nobody handles; what has a handler is seen by wrapping it."""

from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any

from starlette._utils import is_async_callable  # as it tells sync handlers from async ones
from starlette.applications import Starlette
from starlette.exceptions import HTTPException, WebSocketException
from starlette.middleware.exceptions import ExceptionMiddleware

from asgi_errorkit.failure import answering, swallowed

__all__ = ["install"]

_MARK = "_asgi_errorkit_wraps"

_LAST = (500, Exception)
"""What ServerErrorMiddleware takes a handler of: after it, the exception is raised on."""


def install(app: Any) -> None:
    """Wrap the handlers of an application, its defaults too, or of a stack that is built already.

    What those for ``Exception`` and 500 answer is raised on afterwards, and judged then.
    """
    if isinstance(app, ExceptionMiddleware):
        _wrap(app._exception_handlers)  # noqa: SLF001  no other way in
        _wrap(app._status_handlers)  # noqa: SLF001
        return
    if _is_built_as_usual(app):
        defaults = ExceptionMiddleware(app)
        app.exception_handlers.setdefault(HTTPException, defaults.http_exception)
        app.exception_handlers.setdefault(WebSocketException, defaults.websocket_exception)
    _wrap(app.exception_handlers)
    for key in _LAST:
        if key in app.exception_handlers:
            app.exception_handlers[key] = _noting(app.exception_handlers[key], _answering)


def _is_built_as_usual(app: Any) -> bool:
    """Whether its stack has Starlette's defaults; FastAPI has registered its own."""
    makes = type(app).build_middleware_stack
    return makes is Starlette.build_middleware_stack and "build_middleware_stack" not in vars(app)


def _wrap(table: dict[Any, Any]) -> None:
    for key, handler in list(table.items()):
        if key not in _LAST:
            table[key] = _noting(handler, _handled)


def _handled(exc: Exception, scope: Any) -> None:
    swallowed(exc, scope, by="starlette", handled=True)


def _answering(exc: Exception, scope: Any) -> None:
    answering(exc, scope, by="starlette")


def _noting(
    handler: Callable[..., Any], tell: Callable[[Exception, Any], None]
) -> Callable[..., Any]:
    """The same handler, in the same way sync or async, which first tells of what it is given."""
    if hasattr(handler, _MARK):
        return handler

    @wraps(handler)
    def note(connection: Any, exc: Exception) -> Any:
        tell(exc, connection.scope)
        return handler(connection, exc)

    @wraps(handler)
    async def note_async(connection: Any, exc: Exception) -> Any:
        tell(exc, connection.scope)
        answer: Awaitable[Any] = handler(connection, exc)
        return await answer

    wrapped = note_async if is_async_callable(handler) else note
    setattr(wrapped, _MARK, handler)
    return wrapped
