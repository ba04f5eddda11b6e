"""Timeouts as middleware: a request is given so much time, and is cut off when it is up."""

from collections.abc import Awaitable, Mapping
from dataclasses import dataclass
from math import inf
from typing import Any, Final

from asgi_errorkit.apps import choices_within, coroutine_marker, single_callable
from asgi_errorkit.async_library import CancelScope, cancel_scope
from asgi_errorkit.choices import watching
from asgi_errorkit.composition import check_order
from asgi_errorkit.errors import DeadlineExceededError
from asgi_errorkit.exchange import KEY, Deadline, Exchange, is_open, state_in
from asgi_errorkit.failure import tell_apart
from asgi_errorkit.frame import frame
from asgi_errorkit.identity import RequestIds
from asgi_errorkit.options import check_number, check_type
from asgi_errorkit.patterns import PathTable
from asgi_errorkit.refusal import refuse
from asgi_errorkit.tracker import ErrorTracker
from asgi_errorkit.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["TimeLimits", "TimeoutMiddleware"]

_BODIES: Final = frozenset(
    ("http.response.body", "http.response.pathsend", "http.response.zerocopysend")
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeLimits:
    """How long a request may take: in all, until its response starts, and between two pieces of it.

    Seconds; None is as long as it likes. Raises TypeError or ValueError for what is no time.
    """

    total_seconds: float | None = None
    first_byte_seconds: float | None = None
    idle_seconds: float | None = None

    def __post_init__(self) -> None:
        for name in ("total_seconds", "first_byte_seconds", "idle_seconds"):
            if getattr(self, name) is not None:
                check_number(name, getattr(self, name), above=0, most=604_800, example=30.0)

    @property
    def are_any(self) -> bool:
        return (self.total_seconds, self.first_byte_seconds, self.idle_seconds) != (None,) * 3


class TimeoutMiddleware:
    """Cuts a request off when its time is up: with 504 before its response has started, else by
    breaking off.

    ``total_seconds`` is for all of it but its background tasks, ``first_byte_seconds`` until the
    response starts, ``idle_seconds`` for the longest pause between two pieces of it: for streams
    that may take long, but not stand still. ``routes`` has other `TimeLimits`, or None, for some
    paths (see `asgi_errorkit.patterns.PathTable`). The app stays in its task, and is cancelled
    there by the library that runs it, asyncio or trio; code in a thread runs on to its end.
    `Exchange.remaining` tells the application how much of the total is left. Websocket sessions
    are left alone. Raises TypeError or ValueError for an option that cannot work.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        total_seconds: float | None = None,
        first_byte_seconds: float | None = None,
        idle_seconds: float | None = None,
        routes: Mapping[str, TimeLimits | None] | None = None,
        error_tracker: ErrorTracker | None = None,
        request_ids: RequestIds | None = None,
    ) -> None:
        check_type("error_tracker", error_tracker, ErrorTracker)
        check_type("request_ids", request_ids, RequestIds)
        check_order(self, app)
        usual = TimeLimits(
            total_seconds=total_seconds,
            first_byte_seconds=first_byte_seconds,
            idle_seconds=idle_seconds,
        )
        if not usual.are_any and not routes:
            raise ValueError(
                "give a time: total_seconds, first_byte_seconds or idle_seconds, or routes of them"
            )
        for limits in (routes or {}).values():
            check_type("each of routes", limits, TimeLimits)
        tracker = error_tracker or ErrorTracker()
        self.app = app
        self.timed_out = {"total": 0, "first_byte": 0, "idle": 0}
        self._usual = usual if usual.are_any else None
        # In a table None would be no value: what has no limits is told apart by having none.
        self._routes = PathTable(
            {p: limits or TimeLimits() for p, limits in (routes or {}).items()}
        )
        self._inner = single_callable(app)
        within = choices_within(app)
        self.choices = watching(tracker.recorder, tracker.classifier, within, request_ids)
        self._alone = frame(self._serve, self.choices)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> Any:
        if KEY in scope and is_open(scope):
            return await self._serve(scope, receive, send)
        return await self._alone(scope, receive, send)

    def as_dict(self) -> dict[str, Any]:
        """How many requests were cut off, by which of the times."""
        return {"timed_out": dict(self.timed_out)}

    def _limits(self, scope: Scope) -> TimeLimits | None:
        limits = (self._routes and self._routes.get(scope)) or self._usual
        return limits if limits is not None and limits.are_any else None

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> Any:
        limits = self._limits(scope) if scope.get("type") == "http" else None
        if limits is None:
            return await self._inner(scope, receive, send)
        exchange = Exchange(state_in(scope))
        watch = _Watch(exchange, limits, send)
        outer, exchange.deadline = exchange.deadline, watch
        try:
            with watch.scope:
                result = await self._inner(scope, receive, watch.send)
                if not watch.called or watch.started:
                    return result
        except Exception as exc:
            if not watch.called or watch.started:
                raise
            tell_apart(exchange, exc, exchange.choices)  # it came of being cut, or in spite of it
        finally:
            exchange.deadline = outer
        return await self._cut(watch, scope, receive, send)

    async def _cut(self, watch: "_Watch", scope: Scope, receive: Receive, send: Send) -> None:
        """Say so, where that can still be said; else break off, for the server to see."""
        exchange, error = watch.exchange, watch.error()
        self.timed_out[error.limit] += 1
        exchange.annotate(timed_out=error.limit)
        if exchange.disconnected:  # nobody is there to be told
            return
        if watch.started:
            exchange.ended_as = error.ends_as
            raise error
        await refuse(exchange, error, scope, receive, send)


class _Watch:
    """The time of one request; what is left of it is the exchange's `Deadline`."""

    __slots__ = ("_due", "_limits", "_outer", "_started_at", "exchange", "scope", "send", "started")

    def __init__(self, exchange: Exchange, limits: TimeLimits, send: Send) -> None:
        self.exchange = exchange
        self.started = False
        self._limits = limits
        self._outer: Deadline | None = exchange.deadline
        self._started_at = exchange.now()
        total = inf if limits.total_seconds is None else limits.total_seconds
        first_byte = inf if limits.first_byte_seconds is None else limits.first_byte_seconds
        self._due = "first_byte" if first_byte < total else "total"
        self.scope: CancelScope = cancel_scope(min(total, first_byte))
        self.send = self._watching(send)

    @property
    def called(self) -> bool:
        return self.scope.called or (self._outer is not None and self._outer.called)

    def remaining(self) -> float:
        limit = self._limits.total_seconds
        left = inf if limit is None else limit - self._elapsed()
        return left if self._outer is None else min(left, self._outer.remaining())

    def error(self) -> DeadlineExceededError:
        return DeadlineExceededError(self._due, getattr(self._limits, f"{self._due}_seconds"))

    def _elapsed(self) -> float:
        return self.exchange.now() - self._started_at

    def _watching(self, send: Send) -> Send:
        def watched_send(message: Message) -> Awaitable[None]:
            kind = message.get("type")
            if kind == "http.response.start":
                self.started = True
                self._move()
            elif kind in _BODIES:
                if message.get("more_body"):
                    self._move()
                else:  # what the app does now is nobody's time but its own
                    self.scope.move(inf)
            return send(message)

        mark = coroutine_marker()
        return mark(watched_send) if mark is not None else watched_send

    def _move(self) -> None:
        """Once the response has started: until the next piece of it, or the end."""
        limits = self._limits
        left = inf if limits.total_seconds is None else limits.total_seconds - self._elapsed()
        idle = inf if limits.idle_seconds is None else limits.idle_seconds
        self._due = "idle" if idle < left else "total"
        self.scope.move(min(idle, left))
