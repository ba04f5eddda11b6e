# ruff: noqa: SLF001  a retry and its calls are one thing in two parts
"""Retries around a call, of what they are told to retry alone."""

import inspect
import time
from collections.abc import Awaitable, Callable, Iterable
from functools import wraps
from random import random as random_share
from typing import Any, NamedTuple, ParamSpec, TypeAlias, TypeVar, overload

from asgi_errorkit.backoff import RetryPlan, next_wait, retry_after_of
from asgi_errorkit.budget import RetryBudget, process_budget
from asgi_errorkit.classify import Classifier
from asgi_errorkit.errors import ErrorAction, ErrorType, PublicError
from asgi_errorkit.exchange import current
from asgi_errorkit.options import check_callable, check_type
from asgi_errorkit.waiting import is_instant, wait, wait_sync

__all__ = ["Retry", "RetryAttempt", "check_function"]

T = TypeVar("T")
P = ParamSpec("P")
F = TypeVar("F", bound=Callable[..., Any])

# A callable that takes any BaseException takes an Exception, and no other is ever asked about.
Condition: TypeAlias = type[Exception] | ErrorType | ErrorAction | Callable[[Exception], object]

_REFUSALS = frozenset({"circuit_open", "shed"})  # trying again is what they are there to prevent


class RetryAttempt(NamedTuple):
    """An attempt, the first being 1, that failed with ``exc`` and is followed by another."""

    number: int
    exc: Exception
    wait_seconds: float


class Retry:
    """Calls again what fails, a bounded number of times, after waits of random length.

    ``on`` names the errors to retry, and nothing else is: an exception class, an `ErrorType`, a
    callable that is asked about each error, or a collection of these; `ErrorAction.RETRY` is every
    error that the ``classifier`` has this policy for, whose ``max_retries`` and ``retry_delay``
    (as ``base_seconds``) then apply too. An open circuit and an overload are retried only where
    their own class is named; a cancellation never is.

    Of ``attempts`` calls at most, the n-th that fails is followed by a wait of a random share of
    ``base_seconds`` doubled n - 1 times, at most ``max_seconds``, on top of the time that the error
    says to come back after (`retry_after_of`). The last error is raised as it is: also at once,
    where the wait would outlast ``total_seconds`` since the first attempt or the deadline of the
    current exchange, or where the ``budget`` (default: the process's) refuses.

    Works under asyncio and trio, and in threads. ``on_retry`` is told of each `RetryAttempt`
    before its wait. Raises TypeError or ValueError for an option that cannot work.
    """

    def __init__(
        self,
        *,
        on: Condition | Iterable[Condition],
        attempts: int = 3,
        base_seconds: float = 0.1,
        max_seconds: float = 5.0,
        total_seconds: float = 45.0,
        budget: RetryBudget | None = None,
        clock: Callable[[], float] = time.monotonic,
        random: Callable[[], float] = random_share,
        on_retry: Callable[[RetryAttempt], object] | None = None,
        classifier: Classifier | None = None,
    ) -> None:
        check_type("budget", budget, RetryBudget)
        check_callable("clock", clock)
        check_callable("random", random)
        if on_retry is not None:
            check_callable("on_retry", on_retry, "attempt")
        check_type("classifier", classifier, Classifier)
        self._plan = RetryPlan(attempts, base_seconds, max_seconds, total_seconds)
        self._budget = budget
        self._clock = clock
        self._random = random
        self._on_retry = on_retry
        self._classifier = classifier or Classifier()
        self._take(_conditions(on))
        self.retries = 0
        self.gave_up = 0  # errors it would have retried, had there been attempts or time left
        self.refused_by_budget = 0
        self.hook_errors = 0  # of on_retry, and of callables in ``on``

    def _take(self, conditions: tuple[Condition, ...]) -> None:
        self._classes = tuple(each for each in conditions if isinstance(each, type))
        self._refusals = tuple(c for c in self._classes if getattr(c, "ends_as", None) in _REFUSALS)
        self._types = frozenset(each for each in conditions if isinstance(each, ErrorType))
        self._by_policy = ErrorAction.RETRY in conditions
        self._predicates = tuple(
            each for each in conditions if not isinstance(each, (type, ErrorType, ErrorAction))
        )

    def as_dict(self) -> dict[str, int]:
        """How often it has tried again, and why not."""
        return {
            "retries": self.retries,
            "gave_up": self.gave_up,
            "refused_by_budget": self.refused_by_budget,
            "hook_errors": self.hook_errors,
        }

    def plan_for(self, exc: BaseException) -> RetryPlan | None:
        """The plan by which the error is retried; None for one that is raised at once."""
        kind = type(exc)
        if not issubclass(kind, Exception):
            return None
        if issubclass(kind, PublicError) and getattr(exc, "ends_as", None) in _REFUSALS:
            return self._plan if issubclass(kind, self._refusals) else None
        if issubclass(kind, self._classes) or any(self._holds(p, exc) for p in self._predicates):
            return self._plan
        return self._plan_by_type(exc) if self._types or self._by_policy else None

    def _plan_by_type(self, exc: BaseException) -> RetryPlan | None:
        info = self._classifier(exc).info
        if info.error_type in self._types:
            return self._plan
        is_named = self._by_policy and info.action is ErrorAction.RETRY
        return self._plan.within(info) if is_named else None

    def _holds(self, predicate: Callable[[Exception], object], exc: Any) -> bool:
        try:
            return bool(predicate(exc))
        except Exception:  # noqa: BLE001  the error it was asked about must be raised
            self.hook_errors += 1
            return False

    def _note_call(self) -> None:
        (self._budget or process_budget()).note_call()

    def _take_retry(self) -> bool:
        # Without waits the retries of a test come faster than the process's budget permits.
        if self._budget is None and is_instant():
            return True
        return (self._budget or process_budget()).take_retry()

    # Calling

    @overload
    async def call(
        self, function: Callable[P, Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> T: ...
    @overload
    async def call(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T: ...
    async def call(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """What the function returns, awaited if it can be; called again where it fails.

        A sync function is called in this task, and holds up its loop: one that blocks belongs into
        a thread. Raises TypeError for a generator function.
        """
        check_function(function)
        return await self._call(function, args, kwargs)

    async def _call(
        self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        calls = _Calls(self)
        while True:
            try:
                result = function(*args, **kwargs)
                return await result if inspect.isawaitable(result) else result
            except Exception as exc:
                seconds = calls.seconds_after(exc)
                if seconds is None:
                    raise
            await wait(seconds)

    def call_sync(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """What the function returns; called again where it fails, after a sleep of this thread.

        Raises TypeError for an async function, and for a generator function.
        """
        check_function(function)
        if _is_async(function):
            raise _async_error(function)
        result: T = self._call_sync(function, args, kwargs)
        return result

    def _call_sync(
        self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        calls = _Calls(self)
        while True:
            try:
                result = function(*args, **kwargs)
            except Exception as exc:
                seconds = calls.seconds_after(exc)
                if seconds is None:
                    raise
            else:
                return _no_coroutine(function, result)
            wait_sync(seconds)

    def __call__(self, function: F) -> F:
        """As ``@retry``: the function, sync or async, with each of its calls retried.

        Raises TypeError for a generator function.
        """
        check_function(function)
        around: Any = self._async(function) if _is_async(function) else self._sync(function)
        return wraps(function)(around)  # type: ignore[return-value]  # it takes and gives the same

    def _async(self, function: Callable[..., Any]) -> Callable[..., Any]:
        async def around(*args: Any, **kwargs: Any) -> Any:
            return await self._call(function, args, kwargs)

        return around

    def _sync(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def around(*args: Any, **kwargs: Any) -> Any:
            return self._call_sync(function, args, kwargs)

        return around


class _Calls:
    """The attempts at one call so far. Belongs to whoever calls."""

    __slots__ = ("_began_at", "_number", "_retry")

    def __init__(self, retry: Retry) -> None:
        self._retry = retry
        self._number = 1
        self._began_at = retry._clock()
        retry._note_call()

    def seconds_after(self, exc: Exception) -> float | None:
        """How long to wait until the next attempt; None if there is none."""
        retry = self._retry
        plan = retry.plan_for(exc)
        if plan is None:
            return None
        seconds = self._next_wait(plan, exc)
        if seconds is None:
            retry.gave_up += 1
            return None
        if not retry._take_retry():
            retry.refused_by_budget += 1
            return None
        retry.retries += 1
        _annotate_retry()
        self._tell(RetryAttempt(self._number, exc, seconds))
        self._number += 1
        return seconds

    def _next_wait(self, plan: RetryPlan, exc: Exception) -> float | None:
        exchange = current()
        return next_wait(
            self._number,
            plan=plan,
            elapsed_seconds=max(0.0, self._retry._clock() - self._began_at),
            retry_after_seconds=retry_after_of(exc),
            remaining_seconds=None if exchange is None else exchange.remaining(),
            random=self._retry._random,
        )

    def _tell(self, attempt: RetryAttempt) -> None:
        if self._retry._on_retry is None:
            return
        try:
            self._retry._on_retry(attempt)
        except Exception:  # noqa: BLE001  a broken observer is no reason not to try again
            self._retry.hook_errors += 1


def _annotate_retry() -> None:
    exchange = current()
    if exchange is None or exchange.scope is None:  # it has ended: its record is written already
        return
    before = (exchange.extra or {}).get("retries")
    exchange.annotate(retries=before + 1 if isinstance(before, int) else 1)


def _conditions(on: Any) -> tuple[Any, ...]:
    conditions = tuple(on) if isinstance(on, (tuple, list, set, frozenset)) else (on,)
    if not conditions:
        raise ValueError("on must name what is retried, e.g. on=ConnectionError; got nothing")
    for each in conditions:
        _check_condition(each)
    return conditions


def _check_condition(given: object) -> None:
    if isinstance(given, ErrorType) or given is ErrorAction.RETRY:
        return
    if isinstance(given, type) and issubclass(given, Exception):
        return
    if isinstance(given, type) and issubclass(given, BaseException):
        raise TypeError(
            f"on must name subclasses of Exception: what is none, as a cancellation, is never "
            f"retried; got {given!r}"
        )
    if isinstance(given, (type, ErrorAction)) or not callable(given):
        raise TypeError(
            "on must be an exception class, an ErrorType, a callable that takes (exc), a "
            "collection of these, or ErrorAction.RETRY for what the policies retry; got "
            f"{given!r:.200}"
        )
    check_callable("on", given, "exc")


def check_function(function: object) -> None:
    if not callable(function):
        raise TypeError(
            f"what is retried must be a function, which can be called again; got {function!r:.200}"
        )
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise TypeError(
            f"a generator cannot be retried, for what it gave before it failed has been used; got "
            f"{function!r:.200}"
        )


def _no_coroutine(function: Callable[..., Any], result: T) -> T:
    """The result, unless it is the coroutine of an async function that a decorator has hidden."""
    if inspect.iscoroutine(result):
        result.close()
        raise _async_error(function)
    return result


def _async_error(function: Callable[..., Any]) -> TypeError:
    return TypeError(
        "a sync call sees no failure of an async function; use `await retry.call(...)` for "
        f"{function!r:.200}"
    )


def _is_async(function: Callable[..., Any]) -> bool:
    call = getattr(type(function), "__call__", None)  # noqa: B004  its code is asked for
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(call)
