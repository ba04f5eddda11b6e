"""Timeouts as middleware: a request is given so much time, and is cut off when it is up."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from math import inf
from typing import Any, Final

from asgi_errorkit.apps import choices_within, coroutine_marker, single_callable
from asgi_errorkit.async_library import CancelScope, cancel_scope, in_trio
from asgi_errorkit.choices import watching
from asgi_errorkit.composition import check_order
from asgi_errorkit.errors import DeadlineExceededError
from asgi_errorkit.exchange import (
    DEADLINE,
    KEY,
    NOW,
    SEEN,
    Caught,
    Deadline,
    Exchange,
    State,
    is_open,
    state_in,
)
from asgi_errorkit.failure import feed, has_left, is_disconnect, met_amid, tell_apart
from asgi_errorkit.fingerprint import snapshot
from asgi_errorkit.frame import frame
from asgi_errorkit.holding import nothing
from asgi_errorkit.identity import RequestIds
from asgi_errorkit.options import check_number, check_type
from asgi_errorkit.patterns import PathTable
from asgi_errorkit.refusal import refuse
from asgi_errorkit.told import remember
from asgi_errorkit.tracker import ErrorTracker
from asgi_errorkit.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["TimeLimits", "TimeoutMiddleware"]

_LAST_WORDS_SECONDS: Final = 1.0
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
    `Exchange.remaining` tells the application how much of the total is left, and before its
    response has started how much of the time until that, if it is less. Websocket sessions are left
    alone. Raises TypeError or ValueError for an option that cannot work.
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
        self._usual = _Times(usual) if usual.are_any else None
        # In a table None would be no value: what has no limits is told apart by its tuple.
        self._routes = PathTable(
            {
                path: (_Times(limits) if limits is not None and limits.are_any else None,)
                for path, limits in (routes or {}).items()
            },
            name="routes",
        )
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
        """How many requests were cut off, by which of the times."""
        return {"timed_out": dict(self.timed_out)}

    def _times(self, scope: Scope) -> "_Times | None":
        if scope.get("type") != "http":
            return None
        if self._routes:
            found = self._routes.get(scope)
            if found is not None:
                return found[0]
        return self._usual

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> Any:
        times = self._times(scope)
        if times is None:
            return await self._inner(scope, receive, send)
        state, mark = state_in(scope), self._mark
        watch = _Watch(state, times)
        outer, state[DEADLINE] = state[DEADLINE], watch
        made: Exception | None = None
        try:
            with watch.scope:
                watched = watch.watching(send)
                if mark is not None:
                    mark(watched)
                result = await self._inner(scope, watch.listening(receive), watched)
                if not watch.scope.called:
                    return result
                if watch.complete:
                    watch.give_way()
                    return result
        except Exception as exc:
            exchange = Exchange(state)
            if watch.complete or not watch.scope.called or has_left(exchange, exc):
                watch.give_way()
                raise
            if not is_disconnect(exchange, exc):  # which it was told, to end
                made = exc  # of being cut, or in spite of it
        except BaseException:
            watch.give_way()
            raise
        finally:
            state[DEADLINE] = outer
        try:
            return await self._cut(Exchange(state), watch, made, scope, receive, send)
        finally:
            del made  # whose traceback leads here: a circle is work for the collector

    async def _cut(
        self,
        exchange: Exchange,
        watch: "_Watch",
        made: Exception | None,
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> None:
        """Say so, where that can still be said; else break off, for the server to see.

        What the app has ``made`` of it is no error beside the timeout, but told of as its cause.
        """
        error = watch.error()
        self.timed_out[error.limit] += 1
        exchange.annotate(timed_out=error.limit)
        if exchange.disconnected:  # nobody is there to be told
            watch.give_way()
            if made is not None:
                tell_apart(exchange, made, exchange.choices)
            return
        met = watch.met_since(exchange)
        error.__cause__ = made = met if made is None else made
        del met  # as above
        if made is not None:
            remember(made)
        if watch.started:
            exchange.ended_as = error.ends_as
            try:
                raise error
            finally:
                del error, made  # as above
        await self._answer(exchange, error, scope, receive, send)

    async def _answer(
        self,
        exchange: Exchange,
        error: DeadlineExceededError,
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> None:
        choices = exchange.choices
        known = None if error.__cause__ is None else snapshot(error)
        caught = Caught(known, choices.classifier(error))
        if choices.learn is not None:  # as of an error that gets out
            choices.learn(caught)
        await refuse(exchange, error, scope, receive, send)
        if known is not None:
            exchange.caught = caught


def _is_late(message: Message) -> bool:
    """Whether it is no answer but a failure's, or what follows that."""
    status = message.get("status")
    is_start = message.get("type") == "http.response.start"
    return not is_start or not isinstance(status, int) or status >= 500


class _Times:
    """Limits as a watch needs them: numbers, of which infinity is none."""

    __slots__ = ("first", "first_byte", "idle", "limits", "moves", "name", "total")

    def __init__(self, limits: TimeLimits) -> None:
        self.limits = limits
        self.total = inf if limits.total_seconds is None else limits.total_seconds
        self.idle = inf if limits.idle_seconds is None else limits.idle_seconds
        self.first_byte = inf if limits.first_byte_seconds is None else limits.first_byte_seconds
        self.first = min(self.total, self.first_byte)
        self.name = "first_byte" if self.first_byte < self.total else "total"
        self.moves = (self.idle, self.first_byte) != (inf, inf)  # once the response has started


_UNKNOWN: Final = object()


class _Watch:
    """The time of one request; what is left of it is the exchange's `Deadline`."""

    __slots__ = (
        "_before",
        "_began_at",
        "_clock",
        "_is_told",
        "_listeners",
        "_name",
        "_outer",
        "_state",
        "_times",
        "complete",
        "scope",
        "started",
    )

    def __init__(self, state: State, times: _Times) -> None:
        self.started = False
        self.complete = False
        self._times = times
        self._outer: Deadline | None = state[DEADLINE]
        self._clock: Callable[[], float] = state[NOW]
        self._began_at: float = self._clock()
        self._name = times.name
        self._listeners: set[CancelScope] = set()
        self._is_told = False
        self._state = state
        self._before: Any = _UNKNOWN  # what was seen last when the time was up
        self.scope = cancel_scope(times.first, self._tell_listeners)

    def listening(self, receive: Receive) -> Receive:
        """The receive to give to the app. Who listens in a task of its own is told of a disconnect
        when the time is up: Quart and Django end their handlers by that, and by nothing else."""
        scope = self.scope
        if in_trio():
            return receive

        async def watched_receive() -> Message:
            if scope.spares_caller():
                return await receive()
            if scope.called:
                return {"type": "http.disconnect"}
            with cancel_scope(inf) as listener:
                self._listeners.add(listener)
                try:
                    return await receive()
                finally:
                    self._listeners.discard(listener)
            return {"type": "http.disconnect"}

        return watched_receive

    def _tell_listeners(self) -> float:
        """How long to wait, then, for the app to end by itself."""
        self._before = self._state[SEEN]
        listeners = list(self._listeners)
        for listener in listeners:
            listener.move(0.0)
        self._is_told = bool(listeners)
        return _LAST_WORDS_SECONDS if listeners else 0.0

    def watching(self, send: Send) -> Send:
        """The send to give to the app. Not kept here: a circle is work for the collector."""
        scope, moves = self.scope, self._times.moves

        def watched_send(message: Message) -> Awaitable[None]:
            kind = message.get("type")
            if self._is_told and not self.complete:  # it is said to one who is thought to be gone
                return nothing()
            if (
                not self.started
                and scope.called
                and (_is_late(message) or not scope.spares_caller())
            ):
                return nothing()  # what the app makes of being cut: it is answered in its place
            if kind == "http.response.start":
                self.started = True
                if moves:
                    self._move()
            elif kind in _BODIES:
                if not message.get("more_body"):
                    self.complete = True
                    scope.move(inf)  # what the app does now is nobody's time but its own
                elif moves:
                    self._move()
            return send(message)

        return watched_send

    @property
    def called(self) -> bool:
        is_called = self.scope.called and not self.complete
        return is_called or (self._outer is not None and self._outer.called)

    def met_since(self, exchange: Exchange) -> Exception | None:
        """What was answered or logged since, in place of being raised; the exchange forgets it.

        Under trio, where the moment passes unseen, what a framework has answered.
        """
        before, self._before = self._before, None
        seen, met = exchange.seen, met_amid(exchange)
        if met is None and seen is not None and before is not _UNKNOWN:
            is_old = before is not None and before.exc is seen.exc
            met = seen.exc if not is_old and isinstance(seen.exc, Exception) else None
        if met is None:
            return None
        exchange.seen = None
        return None if is_disconnect(exchange, met) else met

    def give_way(self) -> None:
        """Cut nothing; unless who stands further out does, the errors are the app's own."""
        self._before = None
        if self._outer is None or not self._outer.called:
            feed(Exchange(self._state))

    def remaining(self) -> float:
        if self.scope.called and not self.complete:  # by the loop's clock, which is another
            return 0.0
        times = self._times
        left = (times.total if self.started else times.first) - (self._clock() - self._began_at)
        return left if self._outer is None else min(left, self._outer.remaining())

    def error(self) -> DeadlineExceededError:
        return DeadlineExceededError(
            self._name, getattr(self._times.limits, f"{self._name}_seconds")
        )

    def _move(self) -> None:
        """Once the response has started: until the next piece of it, or the end."""
        times = self._times
        left = times.total
        if left != inf:
            left -= self._clock() - self._began_at
        before, self._name = self._name, "idle" if times.idle < left else "total"
        if self._name == before == "total":
            return  # it is due when it was
        self.scope.move(min(times.idle, left))
