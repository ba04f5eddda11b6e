"""Only what is named is tried again, a bounded number of times; the last error comes out as it is."""

import asyncio
import functools
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from email.utils import formatdate
from math import inf, nan
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
import requests
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from asgi_errorkit.backoff import (
    RetryPlan,
    backoff_seconds,
    next_wait,
    retry_after_of,
    seconds_of_retry_after,
)
from asgi_errorkit.budget import RetryBudget, process_budget
from asgi_errorkit.classify import Classifier
from asgi_errorkit.errors import (
    POLICIES,
    CircuitOpenError,
    DeadlineExceededError,
    ErrorAction,
    ErrorInfo,
    ErrorSeverity,
    ErrorType,
    OverloadedError,
    PublicError,
)
from asgi_errorkit.exchange import CURRENT, DEADLINE, SCOPE, Exchange, begin
from asgi_errorkit.recovery import Recovery
from asgi_errorkit.retry import Retry, RetryAttempt
from asgi_errorkit.testing import HandClock, instant_waits
from asgi_errorkit.waiting import wait, wait_sync
from tests.naming import shown

NOW = 1_000_000_000.0


class Flaky:
    """Raises so many times (or always), then returns what it was given."""

    def __init__(
        self, exc: BaseException | type[BaseException], times: float = inf, clock: Any = None
    ) -> None:
        self.exc, self.times, self.calls = exc, times, 0
        self.clock = clock

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.calls += 1
        if self.clock is not None:
            self.clock.move(1)
        if self.calls <= self.times:
            raise self.exc
        return args, kwargs

    async def later(self, *args: Any, **kwargs: Any) -> Any:
        return self(*args, **kwargs)


@pytest.fixture
def waits() -> Iterator[list[float]]:
    with instant_waits() as waited:
        yield waited


@pytest.fixture
def exchange() -> Iterator[Exchange]:
    made = Exchange(begin({"type": "http"}, {}, "id", time.monotonic, 0.0))
    token = CURRENT.set(made.state)
    yield made
    CURRENT.reset(token)


def rich() -> RetryBudget:
    """A budget that refuses nothing."""
    return RetryBudget(floor_per_second=10_000)


def in_asyncio(main: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    return asyncio.run(main())


def in_trio(main: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    return trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


LIBRARIES = pytest.mark.parametrize("run", [in_asyncio, in_trio], ids=["asyncio", "trio"])


# Construction


@pytest.mark.parametrize(
    ("options", "raised"),
    [
        ({"on": ()}, ValueError),
        ({"on": "timeout"}, TypeError),
        ({"on": 503}, TypeError),
        ({"on": int}, TypeError),
        ({"on": BaseException}, TypeError),
        ({"on": asyncio.CancelledError}, TypeError),
        ({"on": [ValueError, KeyboardInterrupt]}, TypeError),
        ({"on": ErrorAction.FALLBACK}, TypeError),
        ({"on": lambda: True}, TypeError),
        ({"attempts": 0}, ValueError),
        ({"attempts": 1.5}, TypeError),
        ({"base_seconds": -1}, ValueError),
        ({"max_seconds": nan}, ValueError),
        ({"total_seconds": 0}, ValueError),
        ({"total_seconds": inf}, ValueError),
        ({"budget": 3}, TypeError),
        ({"clock": 3}, TypeError),
        ({"random": 0.5}, TypeError),
        ({"on_retry": lambda: None}, TypeError),
        ({"classifier": 3}, TypeError),
    ],
    ids=shown,
)
def test_what_does_not_fit_is_refused_by_name(
    options: dict[str, Any], raised: type[Exception]
) -> None:
    with pytest.raises(raised, match=next(iter(options))):
        Retry(**{"on": ConnectionError, **options})


def test_what_is_retried_has_no_default() -> None:
    with pytest.raises(TypeError, match="on"):
        Retry()  # type: ignore[call-arg]


# What is tried again


def test_what_is_not_named_is_raised_at_once(waits: list[float]) -> None:
    """And counts as nothing that was given up."""
    retry, flaky = Retry(on=ConnectionError), Flaky(ValueError("no"))
    with pytest.raises(ValueError, match="no"):
        retry.call_sync(flaky)
    assert (flaky.calls, waits) == (1, [])
    assert set(retry.as_dict().values()) == {0}


@pytest.mark.parametrize(
    "exc",
    [asyncio.CancelledError(), KeyboardInterrupt(), SystemExit(), GeneratorExit()],
    ids=lambda exc: type(exc).__name__,
)
def test_what_is_no_exception_is_never_retried(exc: BaseException) -> None:
    retry = Retry(on=[Exception, lambda _: True, ErrorAction.RETRY])
    assert retry.plan_for(exc) is None
    flaky = Flaky(exc)
    with pytest.raises(type(exc)):
        retry.call_sync(flaky)
    assert flaky.calls == 1


@pytest.mark.parametrize(
    ("exc", "named"),
    [
        (CircuitOpenError("db", retry_after_seconds=1), CircuitOpenError),
        (OverloadedError("queue"), OverloadedError),
    ],
    ids=["circuit", "overload"],
)
def test_a_refusal_is_retried_only_where_its_own_class_is_named(
    exc: PublicError, named: type[Exception]
) -> None:
    """Trying again is what it is there to prevent."""
    for on in (Exception, PublicError, exc.error_type, ErrorAction.RETRY, lambda _: True):
        assert Retry(on=on).plan_for(exc) is None
    assert Retry(on=named).plan_for(exc) == RetryPlan()


@pytest.mark.parametrize(
    ("on", "fits", "other"),
    [
        (ConnectionError, ConnectionResetError(), ValueError()),
        ((KeyError, ConnectionError), KeyError(), ValueError()),
        ({ErrorType.TIMEOUT}, TimeoutError(), KeyError()),
        (ErrorType.DATABASE, PublicError("x", error_type=ErrorType.DATABASE), TimeoutError()),
        (lambda exc: "again" in str(exc), ValueError("again"), ValueError()),
        (
            [ErrorType.CACHE, ConnectionError, lambda e: e.args == (1,)],
            ValueError(1),
            ValueError(2),
        ),
        (DeadlineExceededError, DeadlineExceededError("call", 1), TimeoutError()),
    ],
    ids=["class", "classes", "types", "type", "callable", "mixture", "deadline"],
)
def test_what_is_named_is_retried(on: Any, fits: Exception, other: Exception) -> None:
    retry = Retry(on=on)
    assert retry.plan_for(fits) == RetryPlan()
    assert retry.plan_for(other) is None


def test_a_broken_callable_is_counted_and_the_error_raised(waits: list[float]) -> None:
    def broken(exc: BaseException) -> bool:
        raise RuntimeError

    retry = Retry(on=broken)
    with pytest.raises(ValueError, match="the error"):
        retry.call_sync(Flaky(ValueError("the error")))
    assert retry.as_dict()["hook_errors"] == 1


def test_the_policies_say_what_is_retried_how_often_and_how_soon() -> None:
    own = ErrorInfo(
        ErrorType.CACHE,
        ErrorSeverity.LOW,
        ErrorAction.RETRY,
        max_retries=0,
        retry_delay=0.5,
    )
    retry = Retry(
        on=ErrorAction.RETRY, attempts=5, classifier=Classifier(policies={ErrorType.CACHE: own})
    )
    assert retry.plan_for(TimeoutError()) == RetryPlan(attempts=4, base_seconds=2.0)
    assert retry.plan_for(ValueError()) is None
    database = PublicError("x", error_type=ErrorType.DATABASE)
    assert retry.plan_for(database) == RetryPlan(attempts=5, base_seconds=1.0)
    cache = PublicError("x", error_type=ErrorType.CACHE)
    assert retry.plan_for(cache) == RetryPlan(attempts=1, base_seconds=0.5)
    for error_type, info in POLICIES.items():
        plan = Retry(on=ErrorAction.RETRY).plan_for(PublicError("x", error_type=error_type))
        assert (plan is not None) is (info.action is ErrorAction.RETRY)


# How often, and how soon


def test_the_last_error_is_raised_as_it_is(waits: list[float]) -> None:
    """Neither wrapped, nor noted, nor chained to those before."""
    errors = [ConnectionError(str(number)) for number in range(3)]
    left = iter(errors)

    def fail() -> None:
        raise next(left)

    retry = Retry(on=ConnectionError)
    with pytest.raises(ConnectionError) as raised:
        retry.call_sync(fail)
    assert raised.value is errors[2]
    assert raised.value.__cause__ is raised.value.__context__ is None
    assert not hasattr(raised.value, "__notes__")
    assert retry.as_dict() == {
        "retries": 2,
        "gave_up": 1,
        "refused_by_budget": 0,
        "hook_errors": 0,
    }


def test_each_wait_is_a_share_of_a_span_that_doubles(waits: list[float]) -> None:
    shares = iter([1.0, 0.5, 1.0, 0.25, 0.0])
    retry = Retry(
        on=ConnectionError, attempts=6, base_seconds=0.5, max_seconds=3, random=lambda: next(shares)
    )
    with pytest.raises(ConnectionError):
        retry.call_sync(Flaky(ConnectionError))
    assert waits == [0.5, 0.5, 2.0, 0.75, 0.0]


@pytest.mark.parametrize("attempt", [1, 10, 1100, 10**9], ids=shown)
def test_no_number_of_attempts_is_too_many_for_the_arithmetic(attempt: int) -> None:
    assert backoff_seconds(attempt, base_seconds=5, max_seconds=5, random=lambda: 1.0) == 5
    assert backoff_seconds(attempt, base_seconds=0, max_seconds=5, random=lambda: 1.0) == 0


@given(
    attempt=st.integers(1, 120),
    attempts=st.integers(1, 100),
    base=st.floats(0, 100),
    most=st.floats(0, 100),
    elapsed=st.floats(0, 100),
    told=st.none() | st.floats(0, 100),
    remaining=st.none() | st.floats(0, 100),
    share=st.floats(0, 1),
)
def test_no_wait_is_too_short_too_long_or_too_late(
    attempt: int,
    attempts: int,
    base: float,
    most: float,
    elapsed: float,
    told: float | None,
    remaining: float | None,
    share: float,
) -> None:
    seconds = next_wait(
        attempt,
        plan=RetryPlan(attempts, base, most, total_seconds=60),
        elapsed_seconds=elapsed,
        retry_after_seconds=told,
        remaining_seconds=remaining,
        random=lambda: share,
    )
    if seconds is None:
        return
    assert attempt < attempts
    assert (told or 0) <= seconds <= (told or 0) + most
    assert seconds < 60 - elapsed
    assert remaining is None or seconds < remaining


def test_a_wait_that_would_outlast_the_total_time_is_not_begun() -> None:
    """The time of the calls counts: of ten attempts of a second each three fit into four."""
    clock = HandClock()
    flaky = Flaky(ConnectionError, clock=clock)
    retry = Retry(
        on=ConnectionError,
        attempts=10,
        base_seconds=1,
        total_seconds=4,
        clock=clock,
        random=lambda: 0.0,
        budget=rich(),
    )
    with instant_waits(), pytest.raises(ConnectionError):
        retry.call_sync(flaky)
    assert flaky.calls == 4
    assert retry.as_dict()["gave_up"] == 1


def test_a_wait_that_would_outlast_the_deadline_of_the_request_is_not_begun(
    exchange: Exchange, waits: list[float]
) -> None:
    exchange.state[DEADLINE] = SimpleNamespace(called=False, remaining=lambda: 0.5)
    retry = Retry(on=ConnectionError, base_seconds=1, random=lambda: 0.6)
    flaky = Flaky(ConnectionError)
    with pytest.raises(ConnectionError):
        retry.call_sync(flaky)
    assert flaky.calls == 1
    exchange.state[DEADLINE] = SimpleNamespace(called=False, remaining=lambda: 0.7)
    with pytest.raises(ConnectionError):
        retry.call_sync(flaky)
    assert flaky.calls == 3, "the first wait was 0.6 s, the second would be 1.2"


def test_an_empty_budget_ends_it(waits: list[float]) -> None:
    budget = RetryBudget(ratio=0, floor_per_second=1, clock=HandClock())
    retry, flaky = Retry(on=ConnectionError, budget=budget), Flaky(ConnectionError)
    with pytest.raises(ConnectionError):
        retry.call_sync(flaky)
    assert flaky.calls == 2
    assert retry.as_dict() == {
        "retries": 1,
        "gave_up": 0,
        "refused_by_budget": 1,
        "hook_errors": 0,
    }
    assert (budget.calls, budget.retries, budget.refused) == (1, 1, 1)


def test_a_thousand_calls_that_all_fail_are_not_three_thousand(waits: list[float]) -> None:
    budget = RetryBudget(clock=HandClock())
    one, other = (Retry(on=ConnectionError, budget=budget) for _ in range(2))
    flaky = Flaky(ConnectionError)
    for number in range(1000):
        with pytest.raises(ConnectionError):
            (one if number % 2 else other).call_sync(flaky)
    assert flaky.calls <= 1200 + 3
    assert flaky.calls == budget.calls + budget.retries


def test_who_is_given_no_budget_shares_the_processs() -> None:
    """It is asked unless the waits are instant, when its second is over before it has begun."""
    process_budget.cache_clear()
    try:
        retry = Retry(on=ConnectionError, attempts=50, base_seconds=0)
        with pytest.raises(ConnectionError):
            retry.call_sync(Flaky(ConnectionError))
        assert retry.as_dict()["refused_by_budget"] == process_budget().refused == 1
        assert retry.as_dict()["retries"] == process_budget().retries == 3
        with instant_waits(), pytest.raises(ConnectionError):
            retry.call_sync(Flaky(ConnectionError))
        assert retry.as_dict()["retries"] == 3 + 49
    finally:
        process_budget.cache_clear()


# What an error says


class HostileError(Exception):
    @property
    def retry_after_seconds(self) -> float:
        raise RuntimeError

    @property
    def retry_after(self) -> float:
        raise LookupError

    @property
    def response(self) -> Any:
        raise OSError

    headers = 5


def having(**attributes: Any) -> Exception:
    exc = ValueError()
    exc.__dict__.update(attributes)
    return exc


def answered(**headers: Any) -> Exception:
    return having(response=SimpleNamespace(headers=headers))


@pytest.mark.parametrize(
    "exc",
    [
        HostileError(),
        ValueError(),
        having(retry_after_seconds=None),
        having(retry_after=True),
        having(retry_after=-1),
        having(retry_after=nan),
        having(retry_after="soon"),
        having(response=None),
        answered(),
        having(response=SimpleNamespace(headers={"retry-after": ["3"]})),
    ],
    ids=shown,
)
def test_what_makes_no_sense_is_not_heeded(exc: Exception) -> None:
    assert retry_after_of(exc) is None


@pytest.mark.parametrize(
    "value",
    [
        "",
        "-1",
        "1.5",
        "soon",
        "٣",
        "nan",
        "\ud800",
        "Sun, 99 Nov 1994 08:49:37 GMT",
        "Sun, 06 Nov 99999 08:49:37 GMT",
        "Sun, 06 Nov 1994 08:49:37 +9999999",
        "x" * 100_000,
        3,
        None,
        type("Text", (str,), {})("3"),
    ],
    ids=lambda value: shown(value)[:40],
)
def test_a_header_that_makes_no_sense_is_not_heeded(value: object) -> None:
    assert seconds_of_retry_after(value) is None


@given(st.text() | st.binary())
def test_no_header_does_harm(value: str | bytes) -> None:
    seconds = seconds_of_retry_after(value)
    assert seconds is None or 0 <= seconds <= 86_400


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0),
        ("120", 120),
        (b" 120 ", 120),
        ("9" * 99, 86_400),
        (formatdate(NOW + 30, usegmt=True), 30),
        (formatdate(NOW - 30, usegmt=True), 0),
        ("Sunday, 09-Sep-01 01:47:10 GMT", 30),
        ("Sun Sep  9 01:47:10 2001", 30),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 86_400),
    ],
    ids=shown,
)
def test_a_header_is_a_number_of_seconds_or_a_date_of_any_of_the_three_forms(
    value: object, seconds: float
) -> None:
    assert seconds_of_retry_after(value, wall_clock=lambda: NOW) == seconds


@pytest.mark.parametrize(
    ("exc", "seconds"),
    [
        (PublicError("x", retry_after_seconds=7), 7),
        (having(retry_after=2), 2),
        (having(retry_after=inf), 86_400),
        (having(retry_after=10**400), 86_400),
        (having(headers={"Retry-After": "4"}), 4),
        (answered(**{"retry-after": "5"}), 5),
        (
            httpx.HTTPStatusError(
                "503",
                request=httpx.Request("GET", "http://x"),
                response=httpx.Response(503, headers={"Retry-After": "6"}),
            ),
            6,
        ),
    ],
    ids=shown,
)
def test_an_error_may_say_when_to_come_back(exc: Exception, seconds: float) -> None:
    assert retry_after_of(exc) == seconds


def test_a_response_of_requests_says_it_too() -> None:
    response = requests.Response()
    response.headers["Retry-After"] = formatdate(NOW + 30, usegmt=True)
    exc = requests.HTTPError(response=response)
    assert retry_after_of(exc, wall_clock=lambda: NOW) == 30


def test_who_is_told_to_come_back_later_does_not_come_with_all_the_others(
    waits: list[float],
) -> None:
    retry = Retry(on=PublicError, base_seconds=1, random=lambda: 0.5)
    with pytest.raises(PublicError):
        retry.call_sync(Flaky(PublicError("busy", retry_after_seconds=10)))
    assert waits == [10.5, 11.0]


def test_who_is_told_to_come_back_too_late_gives_up(waits: list[float]) -> None:
    retry, flaky = Retry(on=PublicError), Flaky(PublicError("busy", retry_after_seconds=60))
    with pytest.raises(PublicError):
        retry.call_sync(flaky)
    assert (flaky.calls, retry.as_dict()["gave_up"]) == (1, 1)


# Calling


@LIBRARIES
@pytest.mark.parametrize("name", ["__call__", "later"])
def test_what_fails_twice_is_answered_the_third_time(run: Any, name: str) -> None:
    """Under both libraries, of sync and of async functions; arguments of any name are handed on."""
    flaky = Flaky(ConnectionError, times=2)
    retry = Retry(on=ConnectionError)

    async def main() -> Any:
        with instant_waits():
            return await retry.call(getattr(flaky, name), 1, function=2, operation=3)

    assert run(main) == ((1,), {"function": 2, "operation": 3})
    assert (flaky.calls, retry.as_dict()["retries"]) == (3, 2)


def test_it_waits_by_the_clock_of_the_library() -> None:
    retry = Retry(on=ConnectionError, base_seconds=5, budget=rich(), random=lambda: 1.0)

    async def main() -> float:
        began_at = trio.current_time()
        await retry.call(Flaky(ConnectionError, times=2).later)
        return trio.current_time() - began_at

    assert in_trio(main) == pytest.approx(10)


@LIBRARIES
def test_a_cancellation_amid_a_wait_ends_it(run: Any) -> None:
    retry = Retry(on=Exception, base_seconds=5, budget=rich(), random=lambda: 1.0)
    flaky = Flaky(ConnectionError)

    async def in_trio_task() -> None:
        with trio.move_on_after(1):
            await retry.call(flaky.later)

    async def in_task() -> None:
        task = asyncio.create_task(retry.call(flaky.later))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(in_trio_task if run is in_trio else in_task)
    assert flaky.calls == 1


@LIBRARIES
def test_others_get_their_turn_during_instant_waits(run: Any) -> None:
    told: list[str] = []

    async def other() -> None:
        told.append("meanwhile")

    async def waiting() -> None:
        for _ in range(2):  # trio has no order among those whose turn it is
            await wait(100)
        told.append("after")

    async def main() -> None:
        with instant_waits():
            if run is in_asyncio:
                await asyncio.gather(waiting(), other())
                return
            async with trio.open_nursery() as nursery:
                nursery.start_soon(waiting)
                nursery.start_soon(other)

    run(main)
    assert told == ["meanwhile", "after"]


def test_instant_waits_may_lie_within_each_other() -> None:
    with instant_waits() as outer:
        with instant_waits() as inner:
            wait_sync(100)
        wait_sync(50)
    assert (inner, outer) == ([100], [50])
    began_at = time.monotonic()
    wait_sync(0.01)
    assert time.monotonic() - began_at >= 0.009
    assert outer == [50]


def test_a_decorated_function_stays_what_it_is(waits: list[float]) -> None:
    calls: list[object] = []

    class Client:
        @Retry(on=ConnectionError)
        async def fetch(self, key: str) -> str:
            """Fetches."""
            calls.append(self)
            if len(calls) < 3:
                raise ConnectionError
            return key

        @Retry(on=ConnectionError)
        def size(self) -> int:
            calls.append(self)
            if len(calls) < 3:
                raise ConnectionError
            return 7

    client = Client()
    assert asyncio.iscoroutinefunction(client.fetch)
    assert (Client.fetch.__name__, Client.fetch.__doc__) == ("fetch", "Fetches.")
    assert asyncio.run(client.fetch("a")) == "a"
    assert calls == [client] * 3
    calls.clear()
    assert client.size() == 7
    assert calls == [client] * 3


async def async_function() -> None: ...


def hidden() -> Any:
    return async_function()


class AsyncCallable:
    async def __call__(self) -> None: ...


def sync_generator() -> Iterator[int]:
    yield 1


async def async_generator() -> AsyncIterator[int]:
    yield 1


@pytest.mark.parametrize(
    "function",
    [async_function, functools.partial(async_function), AsyncCallable(), hidden],
    ids=["function", "partial", "object", "hidden"],
)
def test_a_sync_call_refuses_what_is_async(function: Callable[[], Any]) -> None:
    with pytest.raises(TypeError, match=r"await retry\.call"):
        Retry(on=ConnectionError).call_sync(function)


@pytest.mark.parametrize("function", [sync_generator, async_generator])
def test_a_generator_is_refused(function: Any) -> None:
    """Those that read it have used what it gave before it failed."""
    retry = Retry(on=ConnectionError)
    for use in (retry, retry.call_sync, lambda each: asyncio.run(retry.call(each))):
        with pytest.raises(TypeError, match="generator"):
            use(function)


def test_a_coroutine_is_refused_for_it_cannot_be_called_again() -> None:
    coroutine = async_function()
    with pytest.raises(TypeError, match="called again"):
        asyncio.run(Retry(on=ConnectionError).call(coroutine))  # type: ignore[call-overload]
    coroutine.close()


def test_who_watches_is_told_before_each_wait(waits: list[float]) -> None:
    told: list[RetryAttempt] = []
    error = ConnectionError()
    retry = Retry(on=ConnectionError, base_seconds=1, random=lambda: 1.0, on_retry=told.append)
    with pytest.raises(ConnectionError):
        retry.call_sync(Flaky(error))
    assert told == [RetryAttempt(1, error, 1.0), RetryAttempt(2, error, 2.0)]


def test_a_broken_watcher_is_counted(waits: list[float]) -> None:
    def broken(attempt: RetryAttempt) -> None:
        raise RuntimeError

    retry = Retry(on=ConnectionError, on_retry=broken)
    assert retry.call_sync(Flaky(ConnectionError, times=2)) == ((), {})
    assert retry.as_dict()["hook_errors"] == 2


def test_a_request_tells_how_often_anything_was_tried_again(
    exchange: Exchange, waits: list[float]
) -> None:
    for _ in range(2):
        Retry(on=ConnectionError).call_sync(Flaky(ConnectionError, times=2))
    assert exchange.extra == {"retries": 4}
    exchange.annotate(retries="mine")
    Retry(on=ConnectionError).call_sync(Flaky(ConnectionError, times=1))
    assert exchange.extra == {"retries": 1}


def test_a_request_that_has_ended_is_left_alone(exchange: Exchange, waits: list[float]) -> None:
    exchange.state[SCOPE] = None
    Retry(on=ConnectionError).call_sync(Flaky(ConnectionError, times=2))
    recovery = Recovery(
        {"a": Flaky(ConnectionError), "fallback_a": Flaky(ConnectionError, times=0)}
    )
    asyncio.run(recovery.process_with_recovery("a"))
    assert exchange.extra is None


def test_no_async_library_is_imported_for_it() -> None:
    code = """
import sys
from asgi_errorkit.retry import Retry
def fail(): raise ConnectionError
try:
    Retry(on=ConnectionError, base_seconds=0).call_sync(fail)
except ConnectionError:
    print([name for name in ("asyncio", "trio") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


# Recovery


def recovery_of(**operations: Any) -> Recovery:
    return Recovery(operations, retry=Retry(on=ConnectionError))


def run_now(coroutine: Coroutine[Any, Any, Any]) -> Any:
    with instant_waits():
        return asyncio.run(coroutine)


async def test_an_unknown_name_is_told_with_those_that_are_known() -> None:
    """At the call, and before anything is tried."""
    flaky = Flaky(ConnectionError)
    recovery = recovery_of(render=flaky, cached=flaky)
    for call in (
        recovery.process_with_retry("redner"),
        recovery.process_with_fallback("render", "redner"),
        recovery.process_with_recovery("render"),
        recovery.process_with_recovery("render", fallback="redner"),
    ):
        with pytest.raises(ValueError, match="there are: 'cached', 'render'"):
            await call
    with pytest.raises(ValueError, match="there are: none"):
        await Recovery().process_with_retry("render")
    assert flaky.calls == 0


async def test_a_callable_needs_a_fallback_that_is_given() -> None:
    with pytest.raises(ValueError, match="fallback of a callable"):
        await Recovery().process_with_recovery(Flaky(ConnectionError))


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"operations": [1]}, "operations"),
        ({"operations": {1: print}}, "name"),
        ({"operations": {"a": 1}}, "function"),
        ({"operations": {"a": async_generator}}, "generator"),
        ({"retry": 3}, "retry"),
    ],
    ids=shown,
)
def test_what_cannot_be_an_operation_is_refused(options: Any, match: str) -> None:
    with pytest.raises(TypeError, match=match):
        Recovery(**options)


def test_a_name_is_given_once() -> None:
    recovery = recovery_of(a=print)
    with pytest.raises(ValueError, match="'a' already"):
        recovery.operation("a")


def test_if_both_fail_the_fallbacks_error_is_raised_from_the_first() -> None:
    first, second = ConnectionError("first"), ConnectionError("second")
    recovery = recovery_of(a=Flaky(first), fallback_a=Flaky(second).later)
    for call in (
        recovery.process_with_recovery("a"),
        recovery.process_with_fallback("a", "fallback_a"),
    ):
        second.__cause__ = None
        with pytest.raises(ConnectionError, match="second") as raised:
            run_now(call)
        assert raised.value is second
        assert second.__cause__ is first


def test_a_cause_of_the_fallbacks_own_is_kept() -> None:
    """What failed first is still in its story."""
    first, cause = ConnectionError("first"), KeyError()

    def fail() -> None:
        try:
            raise cause
        except KeyError as exc:
            raise ValueError("second") from exc

    with pytest.raises(ValueError, match="second") as raised:
        run_now(recovery_of(a=Flaky(first)).process_with_fallback("a", fail))
    assert raised.value.__cause__ is cause
    assert cause.__context__ is first


def test_an_error_that_both_raise_is_no_cause_of_itself() -> None:
    same = ConnectionError()
    with pytest.raises(ConnectionError) as raised:
        run_now(recovery_of(a=Flaky(same)).process_with_recovery("a", fallback="a"))
    assert raised.value is same
    assert same.__cause__ is None


def test_a_cancellation_is_no_reason_to_fall_back() -> None:
    fallback = Flaky(ConnectionError, times=0)
    recovery = recovery_of(a=Flaky(asyncio.CancelledError()), fallback_a=fallback)
    with pytest.raises(asyncio.CancelledError):
        run_now(recovery.process_with_recovery("a"))
    assert fallback.calls == 0


@LIBRARIES
def test_both_are_tried_again(run: Any, exchange: Exchange) -> None:
    """The guide's rule; and the request tells which fallback answered."""
    first, second = Flaky(ConnectionError), Flaky(ConnectionError, times=2)
    recovery = recovery_of(render=first.later, fallback_render=second)

    async def main() -> Any:
        with instant_waits():
            return await recovery.process_with_recovery("render", "video", quality=1)

    assert run(main) == (("video",), {"quality": 1})
    assert (first.calls, second.calls) == (3, 3)
    assert exchange.extra == {"retries": 4, "fallback": "fallback_render"}


def test_with_a_fallback_alone_each_is_tried_once(exchange: Exchange) -> None:
    first, second = Flaky(ConnectionError), Flaky(ConnectionError, times=0)
    recovery = recovery_of(generate=first)
    assert run_now(recovery.process_with_fallback("generate", second, 1)) == ((1,), {})
    assert (first.calls, second.calls) == (1, 1)
    assert exchange.extra == {"fallback": "Flaky"}


def test_where_the_operation_answers_there_is_no_fallback(exchange: Exchange) -> None:
    fallback = Flaky(ConnectionError)
    recovery = recovery_of(a=Flaky(ConnectionError, times=1), b=Flaky(ConnectionError, times=0))
    assert run_now(recovery.process_with_recovery("a", fallback=fallback)) == ((), {})
    assert run_now(recovery.process_with_fallback("b", fallback)) == ((), {})
    assert fallback.calls == 0
    assert exchange.extra == {"retries": 1}


def test_an_open_circuit_leads_to_the_fallback_at_once() -> None:
    refused = Flaky(CircuitOpenError("db", retry_after_seconds=1))
    recovery = Recovery({"a": refused, "fallback_a": Flaky(ConnectionError, times=0)})
    assert run_now(recovery.process_with_recovery("a")) == ((), {})
    assert refused.calls == 1


def test_by_itself_it_retries_what_the_policies_retry() -> None:
    recovery = Recovery()
    calls: list[str] = []

    @recovery.operation("load_model")
    async def load_model(video_id: str) -> str:
        calls.append(video_id)
        if len(calls) < 3:
            raise TimeoutError
        return video_id

    assert run_now(recovery.process_with_retry("load_model", "v1")) == "v1"
    assert run_now(recovery.process_with_retry(load_model, "v2")) == "v2"
    assert calls == ["v1"] * 3 + ["v2"]
    failing = Flaky(KeyError)
    with pytest.raises(KeyError):
        run_now(recovery.process_with_retry(failing))
    assert failing.calls == 1
