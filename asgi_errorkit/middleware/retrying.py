"""Retrying as middleware: a request that failed before its response is run again, unseen."""

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from random import random as random_share
from typing import Any, Final

from asgi_errorkit.apps import choices_within, single_callable
from asgi_errorkit.attempt import Failing, attempt
from asgi_errorkit.backoff import (
    MOST_ATTEMPTS,
    RetryPlan,
    next_wait,
    retry_after_of,
    seconds_of_retry_after,
)
from asgi_errorkit.budget import RetryBudget, process_budget
from asgi_errorkit.choices import watching
from asgi_errorkit.composition import check_order
from asgi_errorkit.errors import ErrorAction, ErrorType, checked_error_types
from asgi_errorkit.exchange import KEY, Exchange, is_open, state_in, told_of
from asgi_errorkit.failure import tell, tell_apart
from asgi_errorkit.frame import frame
from asgi_errorkit.identity import RequestIds
from asgi_errorkit.options import (
    check_bool,
    check_callable,
    check_type,
    check_whole,
    strings,
)
from asgi_errorkit.patterns import by_path
from asgi_errorkit.replay import ReplayedBody
from asgi_errorkit.tracker import ErrorTracker
from asgi_errorkit.types import ASGIApp, Receive, Scope, Send
from asgi_errorkit.waiting import is_instant, wait

__all__ = ["RetryMiddleware"]

IDEMPOTENT: Final = ("GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE")  # RFC 9110, 9.2.2


class RetryMiddleware:
    """Runs a request again that failed before its response started; the client sees the last run.

    Retried are requests of ``methods``, by default the idempotent ones, and with
    ``idempotency_keys`` any that has an Idempotency-Key header; those that fail with an error of
    ``error_types``, by default the types whose policy has the action RETRY, by raising it or by a
    response of 500 or more. Not what was refused further in, nor once the client has left, nor when
    the app has read more than ``max_body_bytes``, which are recorded as it reads.

    There are at most ``attempts`` runs, after a random share of ``base_seconds``, doubled each time
    up to ``max_seconds``, or what a Retry-After says; None takes ``max_retries`` and ``retry_delay``
    of the error's policy. None begins when ``total_seconds`` since the first, the request's
    deadline, or the ``budget`` (default: the process's) would be overdrawn. ``routes`` has other
    `RetryPlan`s for some paths, or None for no retries (see `asgi_errorkit.patterns.PathTable`).
    The errors of runs that were not the last are counted and grouped by themselves; the request's
    log line has ``retry_attempt`` and ``retried_for``. Raises TypeError or ValueError for an option
    that cannot work.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        attempts: int | None = None,
        base_seconds: float | None = None,
        max_seconds: float = 5.0,
        total_seconds: float = 45.0,
        error_types: Collection[ErrorType] | None = None,
        methods: Collection[str] = IDEMPOTENT,
        idempotency_keys: bool = False,
        max_body_bytes: int = 65_536,
        routes: Mapping[str, RetryPlan | None] | None = None,
        budget: RetryBudget | None = None,
        random: Callable[[], float] = random_share,
        wall_clock: Callable[[], float] = time.time,
        error_tracker: ErrorTracker | None = None,
        request_ids: RequestIds | None = None,
    ) -> None:
        check_type("error_tracker", error_tracker, ErrorTracker)
        check_type("request_ids", request_ids, RequestIds)
        check_type("budget", budget, RetryBudget)
        check_bool("idempotency_keys", idempotency_keys)
        check_whole("max_body_bytes", max_body_bytes, least=0, example=65_536)
        check_callable("random", random)
        check_callable("wall_clock", wall_clock)
        check_order(self, app)
        tracker = error_tracker or ErrorTracker()
        self.app = app
        self.retries = 0
        self.recovered = 0
        self.refused_by_budget = 0
        self._attempts, self._base_seconds = attempts, base_seconds
        self._usual = RetryPlan(
            attempts=MOST_ATTEMPTS if attempts is None else attempts,
            base_seconds=0.1 if base_seconds is None else base_seconds,
            max_seconds=max_seconds,
            total_seconds=total_seconds,
        )
        self._plans = by_path("routes", routes, RetryPlan)
        self._error_types = checked_error_types("error_types", error_types)
        self._methods = frozenset(strings("methods", methods))
        self._idempotency_keys = idempotency_keys
        self._max_body_bytes = max_body_bytes
        self._budget = budget
        self._random, self._wall_clock = random, wall_clock
        self._inner = single_callable(app)
        within = choices_within(app)
        self.choices = watching(tracker.recorder, tracker.classifier, within, request_ids)
        self._alone = frame(self._serve, self.choices)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> Any:
        if KEY in scope and is_open(scope):
            return await self._serve(scope, receive, send)
        return await self._alone(scope, receive, send)

    def as_dict(self) -> dict[str, Any]:
        """How many further runs there were, how many requests they saved, and the budget."""
        return {
            "retries": self.retries,
            "recovered": self.recovered,
            "refused_by_budget": self.refused_by_budget,
            "budget": (self._budget or process_budget()).as_dict(),
        }

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> Any:
        plan = self._plan(scope)
        if plan is None:
            return await self._inner(scope, receive, send)
        budget = self._budget or process_budget()
        budget.note_call()
        is_free = self._budget is None and is_instant()
        runs = _Runs(Exchange(state_in(scope)), scope, ReplayedBody(receive, self._max_body_bytes))

        async def take_over(failing: Failing) -> bool:
            seconds = self._next_wait(runs, plan, failing)
            if seconds is None:
                return False
            if not is_free and not budget.take_retry():
                self.refused_by_budget += 1
                return False
            runs.wait_seconds = seconds
            return True

        while True:
            result, failed = await attempt(
                self._inner, runs.exchange, scope, runs.body.receive, send, take_over
            )
            if failed is None:
                self.recovered += runs.number > 1 and runs.went_well
                return result
            self.retries += 1
            await runs.let_go(failed)
            await wait(runs.wait_seconds)
            if runs.exchange.disconnected:
                return None
            runs.begin_again()

    def _plan(self, scope: Scope) -> RetryPlan | None:
        if scope.get("type") != "http":
            return None
        if scope.get("method") not in self._methods and not (
            self._idempotency_keys and _has_idempotency_key(scope)
        ):
            return None
        found = self._plans.get(scope) if self._plans else None
        return self._usual if found is None else found[0]

    def _next_wait(self, runs: "_Runs", plan: RetryPlan, failing: Failing) -> float | None:
        """The seconds to wait before the next run; None where there is to be none."""
        info, exchange = failing.verdict.info, runs.exchange
        if failing.refused_as is not None or not runs.body.can_rewind:
            return None
        if self._error_types is None:
            if info.action is not ErrorAction.RETRY:
                return None
        elif info.error_type not in self._error_types:
            return None
        if plan is self._usual:
            plan = self._within_policy(plan, failing)
        return next_wait(
            runs.number,
            plan=plan,
            elapsed_seconds=exchange.now() - runs.began_at,
            retry_after_seconds=self._retry_after(failing),
            remaining_seconds=exchange.remaining(),
            random=self._random,
        )

    def _within_policy(self, plan: RetryPlan, failing: Failing) -> RetryPlan:
        """What was not said of the plan, the policy of the error says."""
        of_policy = plan.within(failing.verdict.info)
        return replace(
            plan,
            attempts=of_policy.attempts if self._attempts is None else plan.attempts,
            base_seconds=of_policy.base_seconds
            if self._base_seconds is None
            else plan.base_seconds,
        )

    def _retry_after(self, failing: Failing) -> float | None:
        for name, value in failing.headers:
            if name.lower() == b"retry-after":
                return seconds_of_retry_after(value, wall_clock=self._wall_clock)
        if failing.exc is None:
            return None
        return retry_after_of(failing.exc, wall_clock=self._wall_clock)


class _Runs:
    """The runs of one request; what the app has written into its scope is taken back between them."""

    __slots__ = ("_before", "_scope", "began_at", "body", "exchange", "number", "wait_seconds")

    def __init__(self, exchange: Exchange, scope: Scope, body: ReplayedBody) -> None:
        self.exchange = exchange
        self.body = body
        self.number = 1
        self.wait_seconds = 0.0
        self.began_at = exchange.now()
        self._scope = scope
        self._before = dict(scope)

    async def let_go(self, failed: Failing) -> None:
        """Tell of the error of a run that is not the last, and forget it as that of the request."""
        exchange, choices = self.exchange, self.exchange.choices
        caught = exchange.caught
        if caught is not None and not caught.handled:  # told of by a hook, and fed to its breaker
            recorder = choices.recorder
            recorder.publish(told_of(exchange, caught, recorder.clock))
        elif failed.exc is not None:
            tell_apart(exchange, failed.exc, choices)
        await tell(exchange, choices)
        exchange.caught = exchange.seen = exchange.ended_as = None
        known = (exchange.extra or {}).get("retried_for", [])
        exchange.annotate(
            retry_attempt=self.number,
            retried_for=[*known, failed.verdict.info.error_type.value],
        )

    @property
    def went_well(self) -> bool:
        """Whether the app has answered; a fallback further out may have, for what failed here."""
        return self.exchange.ended_as is None and (self.exchange.status or 500) < 500

    def begin_again(self) -> None:
        self.number += 1
        self._scope.clear()
        self._scope.update(self._before)
        self.body.rewind()


def _has_idempotency_key(scope: Scope) -> bool:
    headers = scope.get("headers") or ()  # which a server may leave out
    return any(name.lower() == b"idempotency-key" and value for name, value in headers)
