"""BlackSheep answers whatever its routes raise; each route is wrapped, its middlewares too."""

from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

from blacksheep.exceptions import HTTPException
from blacksheep.middlewares import get_middlewares_chain

from asgi_errorkit.exchange import tell_route
from asgi_errorkit.failure import swallowed

__all__ = ["install"]

_Handler: TypeAlias = Callable[[Any], Awaitable[Any]]

_MARK = "_asgi_errorkit_wraps"


def install(app: Any) -> None:
    """Wrap every route, of requests and websockets, once the application has prepared them."""

    async def wrap_routes(_: Any) -> None:
        _wrap_routes(app)

    if app.started:
        _wrap_routes(app)
    else:
        app.after_start(wrap_routes)


def _wrap_routes(app: Any) -> None:
    wrap: Any = get_middlewares_chain  # without types of its own
    for route in app.router:
        if not hasattr(route.handler, _MARK):
            template = None if route is app.router.fallback else route.pattern.decode()
            # As its own middlewares are put around a route: it may look at the result again.
            route.handler = wrap([_noting(app, template)], route.handler)
            setattr(route.handler, _MARK, True)


def _noting(app: Any, template: str | None) -> Callable[[Any, _Handler], Awaitable[Any]]:
    """A middleware of one route, which tells that it was matched and of what it raises."""

    async def note(request: Any, handler: _Handler) -> Any:
        scope = request.scope
        if template is not None:
            tell_route(scope, f"{scope.get('root_path') or app.base_path}{template}")
        try:
            return await handler(request)
        except Exception as exc:
            swallowed(exc, scope, by="blacksheep", handled=_has_answer(app, exc))
            raise

    return note


def _has_answer(app: Any, exc: Exception) -> bool:
    """Whether it means an answer below 500, or the application has a handler for its kind."""
    kinds = type(exc).__mro__
    if HTTPException in kinds:
        status = getattr(exc, "status", None)
        return isinstance(status, int) and status < 500
    return any(kind in app.exceptions_handlers for kind in kinds[: kinds.index(Exception)])
