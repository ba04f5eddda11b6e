"""FastMCP answers with 200 whatever a tool, resource or prompt raises; a middleware sees it first."""

from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any

from fastmcp.exceptions import (
    DisabledError,
    FastMCPError,
    McpError,
    NotFoundError,
    ValidationError,
)
from fastmcp.server.middleware import CallNext, Middleware, MiddlewareContext
from pydantic import ValidationError as InvalidParams

from asgi_errorkit.failure import swallowed
from asgi_errorkit.routes import OTHER

__all__ = ["install"]

_MOST_WRAPS = 8
_MOST_NAMES = 100
_LONGEST = 128

_CLIENTS = (ValidationError, NotFoundError, DisabledError)  # whatever they came from
_UNKNOWN = (NotFoundError, DisabledError, McpError)  # the name, or the method, may be made up
_WORDS = (FastMCPError, McpError)  # what is said to the client, of itself or of a cause

_inside: ContextVar[bool] = ContextVar("asgi_errorkit.fastmcp", default=False)


def install(server: Any) -> None:
    """Put a middleware around those of the server."""
    # Outermost: what a middleware of the application puts right, by another try, is no error.
    server.middleware.insert(0, _Told())


class _Told(Middleware):
    """Tells of what a message raises, and names the route of its request, such as "tools/call add".

    Names that a client makes up are not taken, and of those that exist the first 100.
    """

    def __init__(self) -> None:
        self._known: set[str] = set()

    async def on_message(
        self, context: MiddlewareContext[Any], call_next: CallNext[Any, Any]
    ) -> Any:
        scope = _scope_of(context)
        if scope is None or _inside.get():  # a tool may call another, and bear its error
            return await call_next(context)
        token = _inside.set(True)
        try:
            result = await call_next(context)
        except Exception as exc:
            # What has no type yet was not understood: no code of the application has run.
            malformed = isinstance(exc, InvalidParams) and isinstance(context.message, Mapping)
            true, handled = (exc, True) if malformed else _judged(exc)
            swallowed(true, scope, by="fastmcp", handled=handled, despite_status=True)
            self._note_route(scope, context, exists=not isinstance(exc, _UNKNOWN))
            raise
        finally:
            _inside.reset(token)
        self._note_route(scope, context, exists=True)
        return result

    def _note_route(self, scope: Any, context: MiddlewareContext[Any], *, exists: bool) -> None:
        name = getattr(context.message, "name", None)
        label = f"{context.method} {name}" if isinstance(name, str) else f"{context.method}"
        if exists and len(self._known) < _MOST_NAMES and len(label) <= _LONGEST:
            self._known.add(label)
        if label in self._known:
            scope["path_template"] = label
        elif exists:
            scope["path_template"] = OTHER
        elif scope.get("path_template") in self._known:
            del scope["path_template"]  # older versions list the tools before they call one


def _scope_of(context: MiddlewareContext[Any]) -> Any:
    """The scope of the request that brought a message; None where the message came another way."""
    try:
        request: Any = context.fastmcp_context.request_context.request  # type: ignore[union-attr]
        scope = request.scope
    except Exception:  # noqa: BLE001  versions differ in what they raise without a request
        return None
    return scope if isinstance(scope, Mapping) else None


def _judged(exc: BaseException) -> tuple[BaseException, bool]:
    """What the application raised, and whether it is an answer to the client that was meant."""
    true = exc
    for _ in range(_MOST_WRAPS):
        if isinstance(true, _CLIENTS):
            return true, True
        if not isinstance(true, _WORDS) or true.__cause__ is None:
            break
        true = true.__cause__
    # FastMCP puts what an upstream server says into an error of its own; nobody meant that.
    meant = isinstance(true, FastMCPError) or (isinstance(true, McpError) and true is exc)
    return true, meant
