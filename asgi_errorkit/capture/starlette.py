"""Starlette and FastAPI raise what nobody handles; what has a handler is seen by wrapping it."""

from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any

from starlette._utils import is_async_callable  # as it tells sync handlers from async ones
from starlette.applications import Starlette
from starlette.exceptions import HTTPException, WebSocketException
from starlette.middleware.exceptions import ExceptionMiddleware

from asgi_errorkit.failure import swallowed

__all__ = ["install"]

_MARK = "_asgi_errorkit_wraps"


def install(app: Any) -> None:
    """Wrap the handlers of an application, its defaults too, or of a stack that is built already.

    Those for ``Exception`` and 500 stay as they are: what they answer is raised on afterwards.
    """
    handlers: tuple[dict[Any, Any], ...]
    if isinstance(app, ExceptionMiddleware):
        handlers = (app._exception_handlers, app._status_handlers)  # noqa: SLF001  no other way in
    else:
        if type(app) is Starlette and "build_middleware_stack" not in vars(app):
            defaults = ExceptionMiddleware(app)
            app.exception_handlers.setdefault(HTTPException, defaults.http_exception)
            app.exception_handlers.setdefault(WebSocketException, defaults.websocket_exception)
        handlers = (app.exception_handlers,)
    for table in handlers:
        for key, handler in list(table.items()):
            if key not in (500, Exception) and not hasattr(handler, _MARK):
                table[key] = _noting(handler)


def _noting(handler: Callable[..., Any]) -> Callable[..., Any]:
    """The same handler, in the same way sync or async, which tells of what it handles."""

    @wraps(handler)
    def note(connection: Any, exc: Exception) -> Any:
        swallowed(exc, connection.scope, by="starlette", handled=True)
        return handler(connection, exc)

    @wraps(handler)
    async def note_async(connection: Any, exc: Exception) -> Any:
        swallowed(exc, connection.scope, by="starlette", handled=True)
        answer: Awaitable[Any] = handler(connection, exc)
        return await answer

    wrapped = note_async if is_async_callable(handler) else note
    setattr(wrapped, _MARK, handler)
    return wrapped
