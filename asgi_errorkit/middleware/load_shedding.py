"""Load shedding as middleware: what there is no room for is refused at once, so that the rest is
answered in time."""

from collections.abc import Awaitable, Callable, Collection, Mapping
from functools import partial
from math import nan
from typing import Any, Final, TypeAlias

from asgi_errorkit.apps import choices_within, coroutine_marker, single_callable
from asgi_errorkit.choices import watching
from asgi_errorkit.composition import check_order
from asgi_errorkit.errors import OverloadedError
from asgi_errorkit.exchange import KEY, NOW, Exchange, is_open, state_in
from asgi_errorkit.frame import frame
from asgi_errorkit.identity import RequestIds
from asgi_errorkit.key_names import key_name
from asgi_errorkit.limiter import ConcurrencyLimiter, Slot
from asgi_errorkit.limits import AdaptiveLimit
from asgi_errorkit.memory_guard import MemoryGuard
from asgi_errorkit.options import (
    check_callable,
    check_number,
    check_type,
    check_whole,
    strings,
)
from asgi_errorkit.patterns import PathTable
from asgi_errorkit.refusal import refuse
from asgi_errorkit.tracker import ErrorTracker
from asgi_errorkit.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["LoadSheddingMiddleware"]

Limit: TypeAlias = int | AdaptiveLimit | Callable[[], AdaptiveLimit]

_HEALTH: Final = ("/health", "/health/*", "/healthz", "/livez", "/readyz", "/live", "/ready")
_MOST_KEYS: Final = 1000
_LEAST_PRIORITY: Final = -(2**31)  # that a limiter takes
_ALL: Final = ""
_UNTOLD: Final = "(unknown)"  # the limit of those whose key breaks
_RETRIED: Final = ("retry_attempt", "retries")  # annotated by RetryMiddleware, and by Retry


class LoadSheddingMiddleware:
    """Lets so many requests in at a time, has a few wait, and refuses the rest with 503 and
    Retry-After.

    ``limit`` is how many may be in flight: a number, an `AdaptiveLimit` that finds it by the time
    that requests take to their first byte, or a callable that makes one, such as the class itself;
    None sets none. One that is retried further in keeps its place while it waits, and tells an
    adaptive limit nothing. ``routes`` has other limits for some paths, each for itself, or None for
    none (see `asgi_errorkit.patterns.PathTable`); ``key(scope)`` names whose limit it is, such as a
    tenant's (then an adaptive one must be made by a callable); None leaves a request unlimited,
    while those that it fails for share one.
    ``max_queue`` requests wait for at most ``queue_seconds``: those of the highest
    ``priority(scope)`` first, and under overload the newest, whose client still waits. Above
    ``max_memory_mb`` of resident memory no further request is let in that ``heavy(scope)`` says
    needs much of it; None means all. ``never_shed`` are paths that always pass. A websocket takes
    no place, but none is opened while there is none. Raises TypeError or ValueError for an option
    that cannot work.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        limit: Limit | None = None,
        routes: Mapping[str, Limit | None] | None = None,
        key: Callable[[Scope], str | None] | None = None,
        max_queue: int = 100,
        queue_seconds: float = 0.25,
        priority: Callable[[Scope], int] | None = None,
        max_memory_mb: float | None = None,
        heavy: Callable[[Scope], bool] | None = None,
        never_shed: Collection[str] = _HEALTH,
        error_tracker: ErrorTracker | None = None,
        request_ids: RequestIds | None = None,
    ) -> None:
        check_type("error_tracker", error_tracker, ErrorTracker)
        check_type("request_ids", request_ids, RequestIds)
        for name, hook in (("key", key), ("priority", priority), ("heavy", heavy)):
            if hook is not None:
                check_callable(name, hook, "scope")
        check_order(self, app)
        _check_limits(limit, routes, key, max_memory_mb)
        tracker = error_tracker or ErrorTracker()
        self.app = app
        self.shed = {"limit": 0, "queue": 0, "queue_timeout": 0, "memory": 0}
        self.hook_errors = 0
        self.forgotten = 0  # limits of keys beyond the bound
        self._limit = limit
        self._key = key
        self._priority = priority
        self._heavy = heavy
        self._limiting = partial(
            ConcurrencyLimiter, max_queue=max_queue, queue_seconds=queue_seconds
        )
        self._memory = None if max_memory_mb is None else MemoryGuard(max_memory_mb)
        self._limiters: dict[str, ConcurrencyLimiter] = {}
        self._of_routes = {
            pattern: None if each is None else self._limiter(each, pattern)
            for pattern, each in (routes or {}).items()
        }
        # In a table None would be no value: what has no limit is told apart by its tuple.
        self._routes = PathTable({p: (each,) for p, each in self._of_routes.items()}, name="routes")
        # Made also where each key has its own, for what cannot work is refused here.
        of_all = self._limiter(1 if limit is None else limit, _ALL)
        if limit is not None and key is None:
            self._limiters[_ALL] = of_all
        never = dict.fromkeys(strings("never_shed", never_shed), True)
        self._never = PathTable(never, name="never_shed")
        self._inner = single_callable(app)
        self._mark = coroutine_marker()
        within = choices_within(app)
        self.choices = watching(tracker.recorder, tracker.classifier, within, request_ids)
        self._alone = frame(self._serve, self.choices)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> Any:
        if KEY in scope and is_open(scope):
            return await self._serve(scope, receive, send)
        return await self._alone(scope, receive, send)

    def as_dict(self) -> dict[str, Any]:
        """How many were refused for which reason, and how each limit stands."""
        known = [*self._limiters.values(), *filter(None, self._of_routes.values())]
        return {
            "shed": dict(self.shed),
            "hook_errors": self.hook_errors,
            "forgotten": self.forgotten,
            "limits": [limiter.as_dict() for limiter in known],
        }

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> Any:
        kind = scope.get("type")
        if kind not in ("http", "websocket") or self._never.get(scope):
            return await self._inner(scope, receive, send)
        exchange = Exchange(state_in(scope))
        if self._memory is not None and self._is_heavy(scope) and self._memory.is_full():
            return await self._refuse(exchange, OverloadedError("memory"), scope, receive, send)
        limiter = self._limiter_of(scope)
        if limiter is None:
            return await self._inner(scope, receive, send)
        is_session = kind == "websocket"
        try:
            slot = limiter.slot_now() if is_session else await self._slot(limiter, exchange, scope)
        except OverloadedError as error:
            full = error.with_traceback(None)  # with it, a circle that only the collector ends
        else:
            if is_session:
                slot.release(nan)
            if is_session or not limiter.learns:
                return await self._in_its_place(slot, scope, receive, send)
            return await self._timed(slot, exchange, scope, receive, send)
        return await self._refuse(exchange, full, scope, receive, send)

    async def _slot(self, limiter: ConcurrencyLimiter, exchange: Exchange, scope: Scope) -> Slot:
        if limiter.in_flight < limiter.limit:
            return await limiter.acquire(self._priority_of(scope))
        began_at = exchange.now()
        slot = await limiter.acquire(self._priority_of(scope))
        exchange.annotate(queued_seconds=round(exchange.now() - began_at, 6))
        return slot

    async def _in_its_place(self, slot: Slot, scope: Scope, receive: Receive, send: Send) -> Any:
        """Run the app, which keeps its place to its end, if it has one."""
        try:
            return await self._inner(scope, receive, send)
        finally:
            slot.release(nan)

    async def _timed(
        self, slot: Slot, exchange: Exchange, scope: Scope, receive: Receive, send: Send
    ) -> Any:
        """The same, and tell an adaptive limit how long it took to its first byte."""
        clock = exchange.state[NOW]
        began_at = clock()
        first_byte_at = None

        def watched_send(message: Message) -> Awaitable[None]:
            nonlocal first_byte_at
            if message.get("type") == "http.response.start" and _tells_time(exchange, message):
                first_byte_at = clock()
            return send(message)

        if self._mark is not None:
            self._mark(watched_send)
        try:
            return await self._inner(scope, receive, watched_send)
        finally:
            is_late = exchange.ended_as == "timeout"
            # One that failed, was refused further in, or whose client left, says nothing of time.
            seconds = nan
            if first_byte_at is not None and not _has_failed(exchange):
                seconds = first_byte_at - began_at
            slot.release(seconds, dropped=is_late)

    async def _refuse(
        self,
        exchange: Exchange,
        error: OverloadedError,
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> None:
        self.shed[error.reason] += 1
        exchange.annotate(shed_by=error.reason)
        await refuse(exchange, error, scope, receive, send)

    def _limiter_of(self, scope: Scope) -> ConcurrencyLimiter | None:
        found = self._routes.get(scope)
        if found is not None:
            return found[0]
        if self._key is None or self._limit is None:
            return self._limiters.get(_ALL)
        try:
            name = self._name(scope)
            if name is None:
                return None
            return self._limiters.get(name) or self._limiter_named(name, self._limit)
        except Exception:  # noqa: BLE001  a hook that breaks must not break the request
            self.hook_errors += 1
            return None

    def _name(self, scope: Scope) -> str | None:
        try:
            given = self._key(scope) if self._key is not None else None
            return None if given is None else key_name(given)
        except Exception:  # noqa: BLE001  a hook that breaks must not let in any number
            self.hook_errors += 1
            return _UNTOLD

    def _limiter_named(self, name: str, limit: Limit) -> ConcurrencyLimiter:
        made = self._limiter(limit, name)
        if len(self._limiters) >= _MOST_KEYS:
            idle = (n for n, each in self._limiters.items() if not each.in_flight)
            del self._limiters[next(idle, next(iter(self._limiters)))]
            self.forgotten += 1
        self._limiters[name] = made
        return made

    def _limiter(self, limit: Limit, name: str) -> ConcurrencyLimiter:
        own = limit() if callable(limit) else limit
        return self._limiting(own, name=name)

    def _priority_of(self, scope: Scope) -> int:
        if self._priority is None:
            return 0
        try:
            return max(_LEAST_PRIORITY, int(self._priority(scope)))
        except Exception:  # noqa: BLE001  a hook that breaks must not break the request
            self.hook_errors += 1
            return 0

    def _is_heavy(self, scope: Scope) -> bool:
        if self._heavy is None:
            return True
        try:
            return bool(self._heavy(scope))
        except Exception:  # noqa: BLE001  a hook that breaks must not break the request
            self.hook_errors += 1
            return True


def _has_failed(exchange: Exchange) -> bool:
    caught = exchange.caught
    return exchange.ended_as is not None or (caught is not None and not caught.handled)


def _tells_time(exchange: Exchange, start: Message) -> bool:
    """Whether it took to this start what such requests take."""
    status = start.get("status")
    if isinstance(status, int) and status >= 500:
        return False
    # The waits between its attempts are no time in which the server was slow.
    return not exchange.extra or exchange.extra.keys().isdisjoint(_RETRIED)


def _check_limits(
    limit: Limit | None,
    routes: Mapping[str, Limit | None] | None,
    key: Callable[[Scope], str | None] | None,
    max_memory_mb: float | None,
) -> None:
    PathTable(routes or {}, name="routes")  # raises for what is none
    if limit is None and max_memory_mb is None and not routes:
        raise ValueError(
            "give a limit: how many requests may be in flight, e.g. limit=100 or "
            "limit=AdaptiveLimit(), or routes of them, or max_memory_mb"
        )
    if max_memory_mb is not None:
        check_number("max_memory_mb", max_memory_mb, above=0, example=4096)
    for name, each in (("limit", limit), *(("each of routes", r) for r in (routes or {}).values())):
        if each is None or isinstance(each, AdaptiveLimit) or callable(each):
            continue
        check_whole(name, each, least=1, example=100)
    adaptive = [id(e) for e in (limit, *(routes or {}).values()) if isinstance(e, AdaptiveLimit)]
    if len(set(adaptive)) < len(adaptive):
        raise ValueError(
            "an AdaptiveLimit is for one limit alone: make another one for each of routes, e.g. "
            "limit=AdaptiveLimit()"
        )
    if key is not None and isinstance(limit, AdaptiveLimit):
        raise ValueError(
            "with a key, limit must be a number or make a limit for each, e.g. limit=AdaptiveLimit "
            "or limit=lambda: AdaptiveLimit(most=50)"
        )
    if key is not None and limit is None:
        raise ValueError("a key names whose limit it is: give that limit too, e.g. limit=10")
