"""Circuit breaking as middleware: what is known to be failing is refused at once, and left alone."""

from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any, Final

from asgi_errorkit.apps import choices_within, coroutine_marker, single_callable
from asgi_errorkit.breaker import CircuitBreaker
from asgi_errorkit.choices import watching
from asgi_errorkit.circuit_policy import CircuitPolicy
from asgi_errorkit.circuit_state import CircuitState
from asgi_errorkit.classify import Verdict
from asgi_errorkit.composition import check_order
from asgi_errorkit.errors import ErrorAction, ErrorType
from asgi_errorkit.exchange import (
    COMPLETE,
    INTERRUPTED,
    KEY,
    STATUS,
    Caught,
    Exchange,
    is_open,
    route_of,
    state_in,
)
from asgi_errorkit.failure import is_disconnect, raised_by
from asgi_errorkit.frame import frame
from asgi_errorkit.identity import RequestIds
from asgi_errorkit.learned_routes import LearnedRoutes
from asgi_errorkit.options import check_callable, check_type, strings
from asgi_errorkit.outcome import Outcome, outcome_of
from asgi_errorkit.patterns import PathTable
from asgi_errorkit.refusal import refuse
from asgi_errorkit.response import FILE_BODIES
from asgi_errorkit.tracker import ErrorTracker
from asgi_errorkit.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["CircuitBreakingMiddleware"]

_OUTCOMES: Final = ("server_error", "truncated", "incomplete", "timeout")
_COUNTABLE: Final = frozenset((*_OUTCOMES, "background_failed"))


class CircuitBreakingMiddleware:
    """Refuses requests to what keeps failing, with 503 and Retry-After, and lets a few try again.

    A route has a breaker of its own, or whatever ``key(scope)`` names: a tenant, a model, an
    upstream; None leaves a request unguarded. A route is known by the template that the framework
    has matched before. ``policy`` says when a circuit opens and closes, ``routes`` which other
    policy applies to some paths, or None for no breaker (see `asgi_errorkit.patterns.PathTable`).
    A request counts as failed that ends with one of ``outcomes`` and, where ``error_types`` are
    given, an error of one of them; its slowness is the time to its first byte. What is answered with
    400 to 499, and clients that leave, count for nothing. A failure whose policy has the action
    CIRCUIT_BREAK also opens the circuit at that policy's ``circuit_break_threshold`` in a row. A
    stream is judged at its end; a websocket is refused before it is accepted. The breakers are those
    of ``error_tracker``. Raises TypeError or ValueError for an option that cannot work.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        policy: CircuitPolicy | None = None,
        key: Callable[[Scope], str | None] | None = None,
        routes: Mapping[str, CircuitPolicy | None] | None = None,
        outcomes: Collection[str] = _OUTCOMES,
        error_types: Collection[ErrorType] | None = None,
        error_tracker: ErrorTracker | None = None,
        request_ids: RequestIds | None = None,
    ) -> None:
        check_type("policy", policy, CircuitPolicy)
        check_type("error_tracker", error_tracker, ErrorTracker)
        check_type("request_ids", request_ids, RequestIds)
        if key is not None:
            check_callable("key", key, "scope")
        for each in (routes or {}).values():
            check_type("each of routes", each, CircuitPolicy)
        check_order(self, app)
        tracker = error_tracker or ErrorTracker()
        self.app = app
        self.circuits = tracker.circuits
        self.refused = 0
        self.key_errors = 0
        self._policy = policy
        self._key = key
        # In a table None would be no value: what has no breaker is told apart by an empty tuple.
        self._policies = PathTable(
            {p: (each,) if each else () for p, each in (routes or {}).items()}
        )
        self._outcomes = _checked_outcomes(outcomes)
        self._error_types = _checked_types(error_types)
        self._routes = LearnedRoutes(redactor=tracker.redactor)
        self._inner = single_callable(app)
        within = choices_within(app)
        self.choices = watching(tracker.recorder, tracker.classifier, within, request_ids)
        self._alone = frame(self._serve, self.choices)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> Any:
        if KEY in scope and is_open(scope):
            return await self._serve(scope, receive, send)
        return await self._alone(scope, receive, send)

    def as_dict(self) -> dict[str, Any]:
        """How many requests were refused, and how often the key could not be told."""
        return {"refused": self.refused, "key_errors": self.key_errors}

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> Any:
        if scope.get("type") not in ("http", "websocket") or self._policies.get(scope) == ():
            return await self._inner(scope, receive, send)
        exchange = Exchange(state_in(scope))
        name = self._name(scope)
        breaker = self.circuits.get(name) if name is not None else None
        permit = breaker.allow() if breaker is not None else None
        if breaker is not None and not permit:
            self.refused += 1
            exchange.annotate(circuit=breaker.name)
            return await refuse(exchange, breaker.error(), scope, receive, send)
        if breaker is not None and breaker.state is CircuitState.HALF_OPEN:
            exchange.annotate(circuit_probe=breaker.name)
        call = _Call(exchange, scope, send, name, breaker, permit)
        try:
            result = await self._inner(scope, receive, call.send)
        except BaseException as exc:
            self._judge(call, exc)
            raise
        self._judge(call, None)
        return result

    def _name(self, scope: Scope) -> str | None:
        if self._key is None:
            return self._routes.guess(scope.get("method") or "GET", scope.get("path") or "")
        try:
            name = self._key(scope)
        except Exception:  # noqa: BLE001  a key that breaks must not break the request
            self.key_errors += 1
            return None
        if name is not None and not isinstance(name, str):
            self.key_errors += 1
            return None
        return name

    def _judge(self, call: "_Call", exc: BaseException | None) -> None:
        """Tell the breaker how its call has ended."""
        if exc is None and call.went_well:
            call.name = call.name or self._learned(call)
            if call.breaker is not None:
                call.breaker.record_success(call.permit, seconds=call.seconds)
            return
        failed = self._failed(call, exc)
        if failed is None:
            if call.breaker is not None:
                call.breaker.record_ignored(call.permit)
            return
        self._record_failure(call, failed)

    def _failed(self, call: "_Call", exc: BaseException | None) -> Verdict | None:
        """The verdict on what counts as a failure; None for what does not."""
        outcome, verdict = call.ended(exc)
        if outcome.text not in self._outcomes or verdict.status_code < 500:
            return None
        if self._error_types is not None and verdict.info.error_type not in self._error_types:
            return None
        return verdict

    def _record_failure(self, call: "_Call", failed: Verdict) -> None:
        name, breaker, permit = call.name, call.breaker, call.permit
        if self._key is None:
            name = self._learned(call)
            if breaker is not None and name != call.name:  # it was another's that was asked
                breaker.record_ignored(permit)
                breaker, permit = None, None
        if name is None:
            return
        info = failed.info
        if breaker is None:
            found = self._policies.get(call.scope)
            policy = found[0] if found else self._policy
            breaker = self.circuits.of(name, policy, error_type=info.error_type)
        breaker.record_failure(
            permit,
            seconds=call.seconds,
            error_type=info.error_type,
            consecutive_failures=info.circuit_break_threshold
            if info.action is ErrorAction.CIRCUIT_BREAK
            else None,
        )

    def _learned(self, call: "_Call") -> str | None:
        """The name of the route, which the framework has matched meanwhile."""
        if self._key is not None:
            return call.name
        scope = call.scope
        try:
            template = call.exchange.route or route_of(scope)
            if template is None and call.status in (404, 405):
                return None
            return self._routes.learn(scope.get("method") or "GET", call.exchange.path, template)
        except Exception:  # noqa: BLE001  the framework's own objects may do anything when looked at
            return None


class _Call:
    """One request on its way through a breaker."""

    __slots__ = (
        "_complete",
        "_first_byte_at",
        "_started_at",
        "breaker",
        "exchange",
        "name",
        "permit",
        "scope",
        "send",
        "status",
    )

    def __init__(
        self,
        exchange: Exchange,
        scope: Scope,
        send: Send,
        name: str | None,
        breaker: CircuitBreaker | None,
        permit: int | None,
    ) -> None:
        self.exchange = exchange
        self.scope = scope
        self.name = name
        self.breaker = breaker
        self.permit = permit
        self.status: int | None = None
        self._complete = False
        self._first_byte_at: float | None = None
        self._started_at = exchange.now()
        self.send = self._watching(send)

    def _watching(self, send: Send) -> Send:
        """An eye of its own on the response: somebody further out may withhold it."""
        if self.scope["type"] == "websocket":
            return send

        def watched_send(message: Message) -> Awaitable[None]:
            kind = message.get("type")
            if kind == "http.response.start":
                self.status = message.get("status")
                self._first_byte_at = self.exchange.now()
            elif kind == "http.response.body" or kind in FILE_BODIES:
                self._complete = not message.get("more_body")
            return send(message)

        mark = coroutine_marker()
        return mark(watched_send) if mark is not None else watched_send

    @property
    def seconds(self) -> float | None:
        """How long it took to its first byte; a websocket takes as long as it likes."""
        if self.scope["type"] == "websocket":
            return None
        at = self._first_byte_at
        return (self.exchange.now() if at is None else at) - self._started_at

    @property
    def went_well(self) -> bool:
        exchange = self.exchange
        if exchange.caught is not None or exchange.disconnected or exchange.ended_as is not None:
            return False
        if self.scope["type"] == "websocket":
            return exchange.status == 101
        return self._complete and isinstance(self.status, int) and self.status < 400

    def ended(self, exc: BaseException | None) -> tuple[Outcome, Verdict]:
        """How it ended, by what can be seen from here, and the verdict on it."""
        exchange = self.exchange
        record = exchange.state.copy()
        if self.scope["type"] != "websocket":
            record[STATUS], record[COMPLETE] = self.status, self._complete
        judge = exchange.choices.classifier
        caught: Caught | None = exchange.caught
        if exc is None:
            verdict = caught.verdict if caught else judge.status(self.status or 500)
            return outcome_of(record), verdict
        if not issubclass(type(exc), Exception):
            record[INTERRUPTED] = True
            deadline = exchange.deadline
            if deadline is not None and deadline.called:  # cut off by the kit, not by the client
                return Outcome.TIMEOUT, judge.status(504)
            return Outcome.CANCELLED, judge.status(500)
        if is_disconnect(exchange, exc) or raised_by(exc, exchange.send):
            return Outcome.CLIENT_DISCONNECT, judge.status(500)
        verdict = judge(exc)
        if self._complete and (self.status or 500) < 500:
            return Outcome.BACKGROUND_FAILED, verdict
        return Outcome.SERVER_ERROR if self.status is None else Outcome.TRUNCATED, verdict


def _checked_outcomes(outcomes: Collection[str]) -> frozenset[str]:
    names = frozenset(strings("outcomes", outcomes))
    if not names or not names <= _COUNTABLE:
        raise ValueError(
            f"outcomes must be among {', '.join(sorted(_COUNTABLE))}; got {sorted(names)!r:.200}"
        )
    return names


def _checked_types(error_types: Collection[ErrorType] | None) -> frozenset[ErrorType] | None:
    if error_types is None:
        return None
    listed = [] if isinstance(error_types, (str, ErrorType)) else list(error_types)
    if not listed or not all(isinstance(each, ErrorType) for each in listed):
        raise TypeError(
            "error_types must be a collection of ErrorType, e.g. [ErrorType.MODEL], or None for "
            f"all; got {error_types!r:.200}"
        )
    return frozenset(listed)
