"""Channels raises whatever nobody handles; which route matched only its routers know."""

from collections.abc import Awaitable, Callable, Iterator
from functools import wraps
from typing import Any

from channels.routing import URLRouter  # type: ignore[import-untyped]

from asgi_errorkit.exchange import CHOICES, PARAMS, ROUTE, State, is_open, route_of, state_in
from asgi_errorkit.routes import UNMATCHED
from asgi_errorkit.types import Receive, Scope, Send

__all__ = ["install"]

NAME = "channels"

_MARK = "_asgi_errorkit_wraps"


def install(_: Any) -> None:
    """Have the routers of the whole process tell; every request knows its own exchange."""
    call = URLRouter.__call__
    if not hasattr(call, _MARK):
        URLRouter.__call__ = _telling(call)


def _telling(call: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    @wraps(call)
    async def route(router: Any, scope: Scope, receive: Receive, send: Send) -> Any:
        state = _state_of(scope)
        if state is None:
            return await call(router, scope, receive, send)
        return await call(_Router(router, scope, state), scope, receive, send)

    setattr(route, _MARK, call)
    return route


def _state_of(scope: Scope) -> State | None:
    """The state of the running exchange, if it asked for what is known here."""
    if not is_open(scope):
        return None
    state = state_in(scope)
    choices = state[CHOICES]
    return state if choices is not None and NAME in choices.captures else None


class _Router:
    """A router for one request: it runs as the true one does, over routes that tell of a match.

    The exchange is told, and not the scope, of which every router hands on a copy.
    """

    def __init__(self, router: Any, scope: Scope, state: State) -> None:
        self._router, self._state = router, state
        self._root = f"{(scope.get('root_path') or '').rstrip('/')}/"
        rest = scope.get("path_remaining")
        # Within another router, the route that matched there comes first.
        self._prefix = self._root if rest is None else _joined(state[ROUTE] or self._root, rest)
        state[ROUTE], state[PARAMS] = UNMATCHED, None  # until one matches, here or further in

    def __getattr__(self, name: str) -> Any:
        return getattr(self._router, name)

    @property
    def routes(self) -> Iterator[Any]:
        return (_Route(route, self) for route in self._router.routes)

    def matched(self, pattern: object, scope: Scope) -> None:
        template = f"{self._prefix}{_text(pattern)}"
        # What matches any path and leaves it to others says nothing.
        says_nothing = template == self._root and scope["path_remaining"]
        self._state[ROUTE] = None if says_nothing else template
        self._state[PARAMS] = scope["url_route"]["kwargs"] or None

    def matched_within(self, template: str | None) -> None:
        self._state[ROUTE] = template


class _Route:
    """A route for one request, which tells that it has matched when its application is called."""

    __slots__ = ("_route", "_router", "pattern")

    def __init__(self, route: Any, router: _Router) -> None:
        self._route, self._router = route, router
        self.pattern = route.pattern  # asked of every route that is tried

    def __getattr__(self, name: str) -> Any:
        return getattr(self._route, name)

    async def callback(self, scope: Scope, receive: Receive, send: Send) -> Any:
        before = _told(scope)
        self._router.matched(self.pattern, scope)
        try:
            return await self._route.callback(scope, receive, send)
        finally:
            after = _told(scope)
            if after != before:  # by a framework with routes of its own, Django as a rule
                self._router.matched_within(after)


def _joined(prefix: str, rest: str) -> str:
    """The prefix, with the slash that a router takes off what is left of the path."""
    return f"{prefix}/" if rest.startswith("/") and not prefix.endswith("/") else prefix


def _text(pattern: object) -> str:
    """What was given to ``path`` or ``re_path``, without the anchors of the latter."""
    return str(pattern).removeprefix("^").removesuffix("$").lstrip("/")


def _told(scope: Scope) -> str | None:
    """What the scope says of the matched route."""
    try:
        return route_of(scope)
    except Exception:  # noqa: BLE001  the framework's own objects may do anything when looked at
        return None
