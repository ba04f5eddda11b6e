# ruff: noqa: SLF001  a retry and its calls are one thing in two parts
"""Recovery in application code: retries with full jitter, and something else where they fail."""

import inspect
import re
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from functools import wraps
from random import random as random_share
from typing import Any, NamedTuple, ParamSpec, TypeAlias, TypeVar, overload

from asgi_errorkit.async_library import sleep
from asgi_errorkit.budget import RetryBudget, process_budget
from asgi_errorkit.classify import Classifier
from asgi_errorkit.errors import ErrorAction, ErrorInfo, ErrorType, PublicError
from asgi_errorkit.exchange import current
from asgi_errorkit.options import check_callable, check_number, check_text, check_type, check_whole

__all__ = [
    "Recovery",
    "Retry",
    "RetryAttempt",
    "RetryPlan",
    "backoff_seconds",
    "next_wait",
    "retry_after_of",
    "seconds_of_retry_after",
    "wait",
    "wait_sync",
]

T = TypeVar("T")
P = ParamSpec("P")
F = TypeVar("F", bound=Callable[..., Any])

Operation: TypeAlias = Callable[..., Any]
Condition: TypeAlias = type[Exception] | ErrorType | ErrorAction | Callable[[BaseException], object]

_DAY_SECONDS = 86_400
_LONGEST = 100  # characters of a header's value
_MOST_ATTEMPTS = 100
_MOST_DOUBLINGS = 64  # a float could not bear a thousand
_REFUSALS = frozenset({"circuit_open", "shed"})  # trying again is what they are there to prevent


# Waiting

hook: Callable[[float], float] | None = None
"""What `asgi_errorkit.testing.instant_waits` makes of the seconds to wait; None lets them be."""


async def wait(seconds: float) -> None:
    """Sleep in the library that runs this task; other tasks get their turn even at 0."""
    await sleep(seconds if hook is None else hook(seconds))


def wait_sync(seconds: float) -> None:
    """Sleep in this thread."""
    time.sleep(seconds if hook is None else hook(seconds))


# When to try again


class RetryPlan(NamedTuple):
    """How often and how soon to try again; ``attempts`` and ``total_seconds`` are from the first on."""

    attempts: int = 3
    base_seconds: float = 0.1
    max_seconds: float = 5.0
    total_seconds: float = 45.0

    def within(self, info: ErrorInfo) -> "RetryPlan":
        """The plan for an error of this policy, which says how soon, and may allow fewer attempts."""
        return self._replace(
            attempts=min(self.attempts, info.max_retries + 1), base_seconds=info.retry_delay
        )


def backoff_seconds(
    attempt: int,
    *,
    base_seconds: float,
    max_seconds: float,
    random: Callable[[], float] = random_share,
) -> float:
    """A random share of a span that doubles with each attempt, the first being 1 ("full jitter").

    AWS Architecture Blog, "Exponential Backoff And Jitter".
    """
    doubled: float = base_seconds * 2.0 ** min(attempt - 1, _MOST_DOUBLINGS)
    return random() * min(max_seconds, doubled)


def next_wait(
    attempt: int,
    *,
    plan: RetryPlan,
    elapsed_seconds: float,
    retry_after_seconds: float | None = None,
    remaining_seconds: float | None = None,
    random: Callable[[], float] = random_share,
) -> float | None:
    """The seconds to wait after an attempt that failed, the first being 1; None to give up.

    ``elapsed_seconds`` is the time since the first attempt began, ``remaining_seconds`` what a
    deadline leaves. What was told to come back after a time comes back the backoff later, for
    others were told the same.
    """
    if attempt >= plan.attempts:
        return None
    seconds = (retry_after_seconds or 0.0) + backoff_seconds(
        attempt, base_seconds=plan.base_seconds, max_seconds=plan.max_seconds, random=random
    )
    left = plan.total_seconds - elapsed_seconds
    if remaining_seconds is not None:
        left = min(left, remaining_seconds)
    return seconds if seconds < left else None


def retry_after_of(
    exc: BaseException, *, wall_clock: Callable[[], float] = time.time
) -> float | None:
    """The seconds after which the exception says to come back; None where it says nothing of use.

    Read from its ``retry_after_seconds`` or ``retry_after``, else from the Retry-After header of
    its ``response`` (httpx, requests) or its own ``headers`` (aiohttp, urllib). Never raises; more
    than a day is a day.
    """
    for name in ("retry_after_seconds", "retry_after"):
        seconds = _seconds(_read(exc, name))
        if seconds is not None:
            return seconds
    for holder in (_read(exc, "response"), exc):
        headers = _read(holder, "headers")
        for name in ("retry-after", "Retry-After"):  # a plain dict knows one of them
            seconds = seconds_of_retry_after(_item(headers, name), wall_clock=wall_clock)
            if seconds is not None:
                return seconds
    return None


def seconds_of_retry_after(
    value: object, *, wall_clock: Callable[[], float] = time.time
) -> float | None:
    """The seconds that the value of a Retry-After header asks for (RFC 9110, 10.2.3), or None.

    It is a number of seconds or a date; one that has passed is 0 seconds, more than a day a day.
    """
    if type(value) is bytes:
        value = value[:_LONGEST].decode("latin-1")
    if type(value) is not str:  # a string of another class may do anything
        return None
    text = value[:_LONGEST].strip()
    if re.fullmatch(r"[0-9]+", text):
        return _seconds(float(text))
    try:
        date = parsedate_to_datetime(text)
        # Without a zone, as C's asctime writes it, it is one of UTC.
        at = (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
        return _seconds(max(0.0, at - wall_clock()))
    except Exception:  # noqa: BLE001  it has been raising new ones for each release of Python
        return None


def _seconds(value: object) -> float | None:
    """The number as seconds within bounds; None for what is no number, such as NaN."""
    if type(value) not in (int, float):
        return None
    number: Any = value
    return float(min(number, _DAY_SECONDS)) if number >= 0 else None


def _read(thing: object, name: str) -> Any:
    try:
        return getattr(thing, name, None)
    except BaseException:  # noqa: BLE001  a property may raise anything
        return None


def _item(headers: Any, name: str) -> object:
    try:
        return headers.get(name)
    except BaseException:  # noqa: BLE001  as above
        return None


# What to try again


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
        check_whole("attempts", attempts, least=1, most=_MOST_ATTEMPTS, example=3)
        for name, given, example in (
            ("base_seconds", base_seconds, 0.1),
            ("max_seconds", max_seconds, 5.0),
        ):
            check_number(name, given, least=0, most=_DAY_SECONDS, example=example)
        check_number("total_seconds", total_seconds, above=0, most=_DAY_SECONDS, example=45.0)
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
        self._refusals = tuple(c for c in self._classes if _read(c, "ends_as") in _REFUSALS)
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
        if issubclass(kind, PublicError) and _read(exc, "ends_as") in _REFUSALS:
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

    def _holds(self, predicate: Callable[[BaseException], object], exc: BaseException) -> bool:
        try:
            return bool(predicate(exc))
        except Exception:  # noqa: BLE001  the error it was asked about must be raised
            self.hook_errors += 1
            return False

    def _note_call(self) -> None:
        (self._budget or process_budget()).note_call()

    def _take_retry(self) -> bool:
        # Without waits the retries of a test come faster than the process's budget permits.
        if self._budget is None and hook is not None:
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
        _check_function(function)
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
        _check_function(function)
        if _is_async(function):
            raise _async_error(function)
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
        _check_function(function)
        around: Any = self._async(function) if _is_async(function) else self._sync(function)
        return wraps(function)(around)  # type: ignore[return-value]  # it takes and gives the same

    def _async(self, function: Callable[..., Any]) -> Callable[..., Any]:
        async def around(*args: Any, **kwargs: Any) -> Any:
            return await self.call(function, *args, **kwargs)

        return around

    def _sync(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def around(*args: Any, **kwargs: Any) -> Any:
            return self.call_sync(function, *args, **kwargs)

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


def _check_function(function: object) -> None:
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


# Something else instead


class Recovery:
    """Runs operations so that some failures do not matter: again, or something else instead.

    An operation is a callable, sync or async, or the name under which one was given; all further
    arguments are its own. Sync ones are called in the running task and hold up its loop: those that
    block belong into a thread. ``retry`` (default: what the policies retry) says what is tried
    again. A ``fallback`` that answered stands in the log line of the current exchange. Raises
    TypeError or ValueError for what cannot be called, and for a name that is not known.
    """

    def __init__(
        self, operations: Mapping[str, Operation] | None = None, *, retry: Retry | None = None
    ) -> None:
        check_type("operations", operations, Mapping)
        check_type("retry", retry, Retry)
        self._operations: dict[str, Operation] = {}
        for name, function in (operations or {}).items():
            self.operation(name)(function)
        self._retry = retry or Retry(on=ErrorAction.RETRY)

    def operation(self, name: str) -> Callable[[F], F]:
        """As ``@recovery.operation("render")``: register a function, which stays as it is."""
        check_text("name", name, example="render")
        if name in self._operations:
            raise ValueError(f"there is an operation named {name!r} already")

        def register(function: F) -> F:
            _check_function(function)
            self._operations[name] = function
            return function

        return register

    async def process_with_retry(
        self, operation: str | Operation, /, *args: Any, **kwargs: Any
    ) -> Any:
        """What the operation returns, tried again where it fails."""
        return await self._retry.call(self._known(operation), *args, **kwargs)

    async def process_with_fallback(
        self, operation: str | Operation, fallback: str | Operation, /, *args: Any, **kwargs: Any
    ) -> Any:
        """What the operation returns, or where it fails the fallback; each is tried once."""
        return await self._first_of(_once, operation, fallback, args, kwargs)

    async def process_with_recovery(
        self,
        operation: str | Operation,
        /,
        *args: Any,
        fallback: str | Operation | None = None,
        **kwargs: Any,
    ) -> Any:
        """What the operation returns, or else the fallback; each is tried again where it fails.

        The fallback of "render" is named "fallback_render" unless another is given. If both fail,
        the fallback's error is raised, from the operation's.
        """
        instead = self._fallback_of(operation) if fallback is None else fallback
        return await self._first_of(self._retry.call, operation, instead, args, kwargs)

    async def _first_of(
        self,
        call: Callable[..., Awaitable[Any]],
        operation: str | Operation,
        fallback: str | Operation,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        first, second = self._known(operation), self._known(fallback)
        try:
            return await call(first, *args, **kwargs)
        except Exception as failure:
            try:
                answer = await call(second, *args, **kwargs)
            except Exception as last:
                if last is not failure and last.__cause__ is None:  # else it has its own story
                    raise last from failure
                raise
        _annotate_fallback(fallback)
        return answer

    def _known(self, operation: str | Operation) -> Operation:
        if not isinstance(operation, str):
            _check_function(operation)
            return operation
        if operation not in self._operations:
            raise ValueError(
                f"no operation is named {operation!r}; there are: "
                f"{', '.join(map(repr, sorted(self._operations))) or 'none'}"
            )
        return self._operations[operation]

    @staticmethod
    def _fallback_of(operation: str | Operation) -> str:
        if not isinstance(operation, str):
            raise ValueError(  # noqa: TRY004  its type is right
                f"the fallback of a callable must be given, e.g. fallback=cached; got none for "
                f"{operation!r:.200}"
            )
        return f"fallback_{operation}"


async def _once(function: Operation, /, *args: Any, **kwargs: Any) -> Any:
    result = function(*args, **kwargs)
    return await result if inspect.isawaitable(result) else result


def _annotate_fallback(fallback: str | Operation) -> None:
    exchange = current()
    if exchange is None or exchange.scope is None:  # it has ended: its record is written already
        return
    name = fallback if isinstance(fallback, str) else _read(fallback, "__qualname__")
    exchange.annotate(fallback=name or type(fallback).__qualname__)
