"""Connexion answers every exception; a middleware just within the one that does sees them first."""

from typing import Any

from connexion.exceptions import ProblemException
from connexion.middleware import MiddlewarePosition
from connexion.middleware.abstract import RoutedAPI, RoutedMiddleware
from starlette.exceptions import HTTPException
from starlette.routing import Match, Route

from asgi_errorkit.exchange import current, route_of
from asgi_errorkit.failure import swallowed

__all__ = ["install"]


def install(app: Any) -> None:
    """Add our middlewares to a `ConnexionMiddleware` that has not been built yet."""
    if not any(getattr(each, "func", each) is _Watch for each in app.middlewares):
        app.add_middleware(_Watch, position=MiddlewarePosition.BEFORE_SWAGGER, connexion=app)
        app.add_middleware(_Routes, position=MiddlewarePosition.BEFORE_SECURITY)


class _Watch:
    """Tells of every exception on its way to the handlers."""

    def __init__(self, app: Any, connexion: Any) -> None:
        self.app = app
        self._connexion = connexion

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            await self.app(scope, receive, send)
        except Exception as exc:
            swallowed(exc, scope, by="connexion", handled=_has_answer(self._connexion, exc))
            raise


def _has_answer(app: Any, exc: Exception) -> bool:
    """Whether it means an answer below 500, or the application has a handler for its kind."""
    kinds = type(exc).__mro__
    if HTTPException in kinds:
        return bool(getattr(exc, "status_code", 500) < 500)
    if ProblemException in kinds:
        status = getattr(exc, "status", None)
        return isinstance(status, int) and status < 500
    nearer = kinds[: kinds.index(Exception)]
    return any(kind in nearer for kind, _ in app.error_handlers)


class _Matched:
    """An operation of the specification: tells the exchange of its path before it runs."""

    def __init__(self, template: str, next_app: Any) -> None:
        self._template = template
        self._next_app = next_app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        _note_route(f"{scope.get('root_path') or ''}{self._template}")
        await self._next_app(scope, receive, send)


class _Operations(RoutedAPI[_Matched]):  # type: ignore[misc]  # without types
    """The operations of one specification."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.add_paths()

    def make_operation(self, operation: Any) -> _Matched:
        return _Matched(f"{self.base_path}{operation.path}", self.next_app)


class _Routes(RoutedMiddleware[_Operations]):  # type: ignore[misc]
    """Tells the exchange of the matched route, by a specification or by the application within."""

    api_cls = _Operations

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            # Routing has made a copy of the scope: what is found further in stays in it.
            route = scope.get("route") or _matched(scope)
            if isinstance(route, Route):
                _note_route(route_of({**scope, "route": route}))


def _matched(scope: Any) -> Any:
    """The route of its own that led to an endpoint, which older versions of Starlette do not tell."""
    if "endpoint" not in scope:
        return None
    routes = getattr(scope.get("router"), "routes", ())
    return next((each for each in routes if each.matches(scope)[0] is Match.FULL), None)


def _note_route(template: str | None) -> None:
    exchange = current()
    if exchange is not None and exchange.scope is not None:
        # Its own routing leaves no more there than where an API is mounted.
        exchange.scope.pop("route", None)
        exchange.scope["path_template"] = template
