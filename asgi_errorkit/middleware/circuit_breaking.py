"""Circuit breaking as middleware: what is known to be failing is refused at once, and left alone."""

from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Final

from asgi_errorkit.apps import choices_within, coroutine_marker, single_callable
from asgi_errorkit.breaker import CircuitBreaker, next_permit
from asgi_errorkit.breakers import Breakers
from asgi_errorkit.choices import watching
from asgi_errorkit.circuit_policy import CircuitPolicy
from asgi_errorkit.circuit_state import CircuitState
from asgi_errorkit.classify import Classifier, Verdict
from asgi_errorkit.composition import check_order
from asgi_errorkit.errors import ErrorAction, ErrorType, PublicError, checked_error_types
from asgi_errorkit.exchange import (
    CAUGHT,
    COMPLETE,
    DISCONNECTED,
    ENDED_AS,
    FIRST_BYTE,
    KEY,
    NOW,
    ROUTE,
    STATUS,
    Caught,
    Exchange,
    State,
    is_cut_off,
    is_open,
    route_of,
    state_in,
)
from asgi_errorkit.failure import has_left, raised_by
from asgi_errorkit.frame import frame
from asgi_errorkit.identity import RequestIds
from asgi_errorkit.key_names import key_name
from asgi_errorkit.learned_routes import LearnedRoutes
from asgi_errorkit.options import check_callable, check_type, strings
from asgi_errorkit.outcome import Outcome, outcome_of, status_of
from asgi_errorkit.patterns import PathTable
from asgi_errorkit.recorder import plain_status
from asgi_errorkit.refusal import refuse
from asgi_errorkit.response import FILE_BODIES
from asgi_errorkit.tracker import ErrorTracker
from asgi_errorkit.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["CircuitBreakingMiddleware"]

_OUTCOMES: Final = ("server_error", "truncated", "incomplete", "timeout")
_COUNTABLE: Final = frozenset((*_OUTCOMES, "background_failed"))
_TYPES: Final = frozenset(each.value for each in ErrorType)


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
        self._key = key
        # In a table None would be no value: what has no breaker is told apart by an empty tuple.
        self._policies = PathTable(
            {
                p: _rules(self.circuits, p, each) if each else ()
                for p, each in (routes or {}).items()
            },
            name="routes",
        )
        self._policy, self._gate = _rules(self.circuits, "*", policy)
        self._outcomes = _checked_outcomes(outcomes)
        self._error_types = checked_error_types("error_types", error_types)
        self._routes = LearnedRoutes(redactor=tracker.redactor)
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
        """How many requests were refused, and how often the key could not be told."""
        return {"refused": self.refused, "key_errors": self.key_errors}

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> Any:
        is_request = scope.get("type") == "http"
        if not is_request and scope.get("type") != "websocket":
            return await self._inner(scope, receive, send)
        found = self._policies.get(scope) if self._policies else None
        if found == ():
            return await self._inner(scope, receive, send)
        policy, gate = found or (self._policy, self._gate)
        state = state_in(scope)
        name = self._name(scope)
        if gate is not None and (name is not None or self._key is None) and gate.is_open:
            return await self._refuse(gate, Exchange(state), scope, receive, send)
        breaker = self.circuits.get(name) if name is not None else None
        permit = None
        if breaker is not None:
            permit = breaker.allow()
            if not permit:
                return await self._refuse(breaker, Exchange(state), scope, receive, send)
        call = _Call(state, scope, name, policy, breaker, permit)
        if breaker is not None and breaker.state is CircuitState.HALF_OPEN:
            Exchange(state).annotate(circuit_probe=breaker.name)
            breaker.watch_probe(
                permit or 0, partial(self._goes_well, call, scope), call.was_counted
            )
        try:
            if is_request:
                send = call.watching(send)
                if self._mark is not None:
                    self._mark(send)
            result = await self._inner(scope, receive, send)
        except BaseException as exc:
            self._judge(call, scope, exc)
            raise
        self._judge(call, scope, None)
        return result

    def _goes_well(self, call: "_Call", scope: Scope) -> bool:
        """What a breaker asks of a probe that takes longer than one may.

        Else a stream or a session of hours would keep a circuit from closing for as long.
        """
        is_its = self._key is not None or self._learned(call, scope) == call.name
        return is_its and call.goes_well(scope)

    async def _refuse(
        self,
        breaker: CircuitBreaker,
        exchange: Exchange,
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> None:
        self.refused += 1
        exchange.annotate(circuit=breaker.name)
        await refuse(exchange, breaker.error(), scope, receive, send)

    def _name(self, scope: Scope) -> str | None:
        if self._key is None:
            return _label(scope, self._routes.guess(*_asked(scope)))
        try:
            given = self._key(scope)
            name = None if given is None else key_name(given)
        except Exception:  # noqa: BLE001  a key that breaks must not break the request
            self.key_errors += 1
            return None
        is_taken = name is not None and (name in _TYPES or name.startswith(("key:", "routes ")))
        return f"key:{name}" if is_taken else name

    def _judge(self, call: "_Call", scope: Scope, exc: BaseException | None) -> None:
        """Tell the breaker how its call has ended."""
        if exc is None and call.went_well(scope):
            if not call.is_told:
                self._settle(call, scope)
                self._record_success(call, scope)
            return
        failed = self._failed(call, scope, exc)
        if failed is not None:
            self._settle(call, scope)
            self._record_failure(call, scope, failed)
        elif call.breaker is not None:
            call.breaker.record_ignored(call.permit)

    def _settle(self, call: "_Call", scope: Scope) -> None:
        """Find whose call it was: the framework has matched its route meanwhile."""
        if self._key is not None:
            return
        name = self._learned(call, scope)
        if name == call.name:
            return
        if call.breaker is not None:  # it was another's that was asked
            call.breaker.record_ignored(call.permit)
        call.breaker = self.circuits.get(name) if name is not None else None
        call.name, call.permit = name, None

    def _failed(self, call: "_Call", scope: Scope, exc: BaseException | None) -> Verdict | None:
        """The verdict on what counts as a failure; None for what does not."""
        outcome, verdict = call.ended(scope, exc)
        if outcome.text not in self._outcomes or verdict.status_code < 500:
            return None
        if verdict.info.action is ErrorAction.IGNORE:
            return None
        if self._error_types is not None and verdict.info.error_type not in self._error_types:
            return None
        return verdict

    def _record_success(self, call: "_Call", scope: Scope) -> None:
        breaker, name = call.breaker, call.name
        if breaker is None and name is not None:  # it may have been made since
            breaker = self.circuits.get(name)
            if breaker is None and call.is_slow(scope):
                breaker = self.circuits.of(name, call.policy, is_named=False)
        if breaker is not None:
            breaker.record_success(call.permit_of(breaker), seconds=call.seconds(scope))

    def _record_failure(self, call: "_Call", scope: Scope, failed: Verdict) -> None:
        if call.name is None:
            return
        info = failed.info
        breaker = call.breaker or self.circuits.of(
            call.name, call.policy, error_type=info.error_type, is_named=False
        )
        breaker.record_failure(
            call.permit_of(breaker),
            seconds=call.seconds(scope),
            error_type=info.error_type,
            consecutive_failures=info.circuit_break_threshold
            if info.action is ErrorAction.CIRCUIT_BREAK
            else None,
        )

    def _learned(self, call: "_Call", scope: Scope) -> str | None:
        """The name of the route, which the framework has matched meanwhile."""
        try:
            template = call.state[ROUTE] or route_of(scope)
            if template is None and call.status in (404, 405):
                return None
            return _label(scope, self._routes.learn(*call.asked, template))
        except Exception:  # noqa: BLE001  the framework's own objects may do anything when looked at
            return None


def _label(scope: Scope, route: str | None) -> str | None:
    """The name of a route's circuit; websockets of a path have one of their own."""
    if route is None or scope["type"] != "websocket":
        return route
    return f"websocket {route.removeprefix('GET ')}"


class _Call:
    """One request on its way through a breaker; the eye that it has on the response is its own, for
    somebody further out may withhold it."""

    __slots__ = (
        "_began_at",
        "asked",
        "began",
        "breaker",
        "complete",
        "is_told",
        "name",
        "permit",
        "policy",
        "state",
        "status",
    )

    def __init__(
        self,
        state: State,
        scope: Scope,
        name: str | None,
        policy: CircuitPolicy | None,
        breaker: CircuitBreaker | None,
        permit: int | None,
    ) -> None:
        self.state = state
        self.asked = _asked(scope)  # the app may write another path into it
        self.name = name
        self.policy = policy
        self.breaker = breaker
        self.permit = permit
        self.began = next_permit()
        self.status: int | None = None
        self.complete = False
        self.is_told = False  # that it went well, before it has ended
        self._began_at: float = state[NOW]()

    def was_counted(self, began: int) -> None:
        """It went well so far. Should it fail yet, that counts as of a call that begins now."""
        self.is_told, self.permit, self.began = True, None, began

    def permit_of(self, breaker: CircuitBreaker) -> int | None:
        """Its own, or that of a call which had none when it began."""
        permit = self.permit  # once: another thread may ask how it goes meanwhile
        return breaker.permit_since(self.began) if permit is None else permit

    def watching(self, send: Send) -> Send:
        """The send to give to the app. Not kept here: a circle is work for the collector."""

        def watched_send(message: Message) -> Awaitable[None]:
            kind = message.get("type")
            if kind == "http.response.body" or kind in FILE_BODIES:
                self.complete = not message.get("more_body")
            elif kind == "http.response.start":
                self.status = plain_status(message.get("status"))
            return send(message)

        return watched_send

    def seconds(self, scope: Scope) -> float | None:
        """How long it took to its first byte; a websocket takes as long as it likes."""
        breaker = self.breaker
        if scope["type"] == "websocket" or (breaker is not None and not breaker.is_timed):
            return None
        first_byte_at: float | None = self.state[FIRST_BYTE]
        at = self.state[NOW]() if first_byte_at is None else first_byte_at
        return at - self._began_at

    def is_slow(self, scope: Scope) -> bool:
        limit = None if self.policy is None else self.policy.slow_call_seconds
        seconds = None if limit is None else self.seconds(scope)
        return limit is not None and seconds is not None and seconds >= limit

    def went_well(self, scope: Scope) -> bool:
        if self._has_failed or is_cut_off(self.state):
            return False
        if scope["type"] == "websocket":  # whoever ends it
            return bool(self.state[STATUS] == 101)
        return self.complete and not self.state[DISCONNECTED] and (self.status or 500) < 400

    def goes_well(self, scope: Scope) -> bool:
        """Whether it has begun to answer in time, and nothing has failed so far."""
        if self._has_failed or is_cut_off(self.state):
            return False
        if scope["type"] == "websocket":
            return bool(self.state[STATUS] == 101)
        return (self.status or 500) < 400 and not self.is_slow(scope)

    @property
    def _has_failed(self) -> bool:
        caught: Caught | None = self.state[CAUGHT]
        return self.state[ENDED_AS] is not None or (caught is not None and not caught.handled)

    def ended(self, scope: Scope, exc: BaseException | None) -> tuple[Outcome, Verdict]:
        """How it ended, by what can be seen from here, and the verdict on it."""
        exchange = Exchange(self.state)
        judge = exchange.choices.classifier
        is_error = issubclass(type(exc), Exception)
        if is_error and _is_of_client(exchange, exc):
            return Outcome.CLIENT_DISCONNECT, judge.status(500)
        if is_cut_off(self.state):
            return Outcome.TIMEOUT, judge.status(504)
        if exc is None:
            return self._returned(scope, judge)
        if not is_error:
            return Outcome.CANCELLED, judge.status(500)
        return self._raised(exc), judge(exc)

    def _returned(self, scope: Scope, judge: Classifier) -> tuple[Outcome, Verdict]:
        record = self.state.copy()
        if scope["type"] != "websocket":
            record[STATUS], record[COMPLETE] = self.status, self.complete
        outcome = outcome_of(record)
        caught: Caught | None = record[CAUGHT]
        if caught is not None:
            return outcome, caught.verdict
        # Of a failure, though its status may be that of a response which was never completed.
        return outcome, judge.status(max(500, status_of(record, outcome)))

    def _raised(self, exc: BaseException) -> Outcome:
        if self.complete:
            failed = (self.status or 500) >= 500
            return Outcome.SERVER_ERROR if failed else Outcome.BACKGROUND_FAILED
        said = self.state[ENDED_AS]
        if said is None and issubclass(type(exc), PublicError):
            said = getattr(exc, "ends_as", None)
        if said is not None:  # such as a refusal by what is further in
            return Outcome(said)
        return Outcome.SERVER_ERROR if self.status is None else Outcome.TRUNCATED


def _rules(
    circuits: Breakers, pattern: str, policy: CircuitPolicy | None
) -> tuple[CircuitPolicy | None, CircuitBreaker | None]:
    """The policy of each circuit, and what refuses all of them from the start, if it is to.

    One for the pattern, for a circuit is known by its route only when a request has got through.
    """
    if policy is None or policy.initial_state is not CircuitState.FORCED_OPEN:
        circuits.know(policy or CircuitPolicy())
        return policy, None
    gate = circuits.of(f"routes {pattern}", policy, is_kept=True)
    policy = replace(policy, initial_state=CircuitState.CLOSED)
    circuits.know(policy)
    return policy, gate


def _is_of_client(exchange: Exchange, exc: Any) -> bool:
    return has_left(exchange, exc) or raised_by(exc, exchange.send)


def _asked(scope: Scope) -> tuple[str, str]:
    return scope.get("method") or "GET", scope.get("path") or ""


def _checked_outcomes(outcomes: Collection[str]) -> frozenset[str]:
    names = frozenset(strings("outcomes", outcomes))
    if not names or not names <= _COUNTABLE:
        raise ValueError(
            f"outcomes must be among {', '.join(sorted(_COUNTABLE))}; got {sorted(names)!r:.200}"
        )
    return names
