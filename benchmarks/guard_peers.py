"""What the guards of the kit and of its peers are made with: their forms, and their options."""

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from inspect import signature
from time import monotonic
from types import SimpleNamespace
from typing import Any, ClassVar

from asgi_errorkit import (
    CircuitBreaker,
    CircuitOpenError,
    CircuitPolicy,
    CircuitState,
    Retry,
    RetryBudget,
)
from asgi_errorkit.budget import process_budget
from asgi_errorkit.testing import HandClock, instant_waits

__all__ = [
    "BREAKERS",
    "BREAKER_LIBRARIES",
    "KIT",
    "PACKAGES",
    "REFUSED",
    "RETRIES",
    "RETRY_LIBRARIES",
    "BreakerLibrary",
    "Form",
    "Function",
    "Oops",
    "RetryLibrary",
    "RetryWish",
    "Wish",
]

Function = Callable[..., Any]

KIT = "asgi-errorkit"
PACKAGES = ("aiobreaker", "interlock-cb", "purgatory", "pybreaker", "stamina", "tenacity", "trio")
REFUSED = object()
"""What ``allow()`` has the caller return, who need not raise anything."""

_HOUR = 3_600.0
_MANY = 100  # failures in a row, of which there are fewer in any turn
_DAY = 86_400.0


class Oops(Exception):  # noqa: N818  it is what goes wrong, not what anybody handles
    """What the dependency fails with."""


@dataclass(frozen=True, slots=True)
class Form:
    """One way to put a guard of a library around a function; ``rules`` tells it from its like.

    ``turn`` is entered while it is measured: what it sets for the process must not reach others.
    """

    library: str
    form: str
    make: Callable[[Function], Function]
    is_async: bool = False
    rules: str = ""
    turn: Callable[[], AbstractContextManager[object]] = nullcontext


# The kit's breakers

_RULES: dict[str, dict[str, Any]] = {
    "": {},
    "failures in a row": {"failure_rate_threshold": None, "consecutive_failures": _MANY},
    "time window": {"window_seconds": 30.0},
    "slow rule": {"slow_call_seconds": 60.0, "slow_call_rate_threshold": 1.0},
    "time window, slow rule": {
        "window_seconds": 30.0,
        "slow_call_seconds": 60.0,
        "slow_call_rate_threshold": 1.0,
    },
}


def _kit(rules: str) -> CircuitBreaker:
    chosen = {"failure_rate_threshold": 1.0, **_RULES[rules]}
    policy = CircuitPolicy(open_seconds=_HOUR, max_open_seconds=_HOUR, **chosen)
    return CircuitBreaker("benchmark", policy)


def _kit_decorated(rules: str) -> Callable[[Function], Function]:
    def make(function: Function) -> Function:
        return _kit(rules)(function)  # a breaker of its own for each function

    return make


def _kit_with(rules: str) -> Callable[[Function], Function]:
    def make(function: Function) -> Function:
        breaker = _kit(rules)

        def call() -> object:
            with breaker:
                return function()

        return call

    return make


def _kit_allow(rules: str) -> Callable[[Function], Function]:
    """As who has a breaker asks it by hand; the time is taken where a rule needs it."""

    def make(function: Function) -> Function:
        breaker = _kit(rules)
        if breaker.is_timed:
            return _timed(breaker, function)

        def call() -> object:
            permit = breaker.allow()
            if not permit:
                return REFUSED
            try:
                result = function()
            except BaseException as exc:
                breaker.record(permit, exc)
                raise
            breaker.record_success(permit)
            return result

        return call

    return make


def _timed(breaker: CircuitBreaker, function: Function) -> Function:
    def call() -> object:
        permit = breaker.allow()
        if not permit:
            return REFUSED
        began_at = monotonic()
        try:
            result = function()
        except BaseException as exc:
            breaker.record(permit, exc, seconds=monotonic() - began_at)
            raise
        breaker.record_success(permit, seconds=monotonic() - began_at)
        return result

    return call


def _kit_async_with(rules: str) -> Callable[[Function], Function]:
    def make(function: Function) -> Function:
        breaker = _kit(rules)

        async def call() -> object:
            async with breaker:
                return await function()

        return call

    return make


def _kit_forms() -> Iterator[Form]:
    makers = {"allow()": _kit_allow, "with": _kit_with, "decorator": _kit_decorated}
    for form, make in makers.items():
        for rules in _RULES:
            yield Form(KIT, form, make(rules), rules=rules)
    for form, make in (("with", _kit_async_with), ("decorator", _kit_decorated)):
        for rules in _RULES:
            yield Form(KIT, form, make(rules), is_async=True, rules=rules)


# The peers' breakers, each as its manual shows it


def _purgatory(function: Function) -> Function:
    from purgatory import SyncCircuitBreakerFactory

    factory = SyncCircuitBreakerFactory(default_threshold=_MANY, default_ttl=_HOUR)
    decorated: Function = factory("benchmark")(function)
    return decorated


def _purgatory_with(function: Function) -> Function:
    from purgatory import SyncCircuitBreakerFactory

    factory = SyncCircuitBreakerFactory(default_threshold=_MANY, default_ttl=_HOUR)
    breaker = factory.get_breaker("benchmark")

    def call() -> object:
        with breaker:
            return function()

    return call


def _purgatory_async(function: Function) -> Function:
    from purgatory import AsyncCircuitBreakerFactory

    factory = AsyncCircuitBreakerFactory(default_threshold=_MANY, default_ttl=_HOUR)
    decorated: Function = factory("benchmark")(function)
    return decorated


def _purgatory_async_with(function: Function) -> Function:
    from purgatory import AsyncCircuitBreakerFactory

    factory = AsyncCircuitBreakerFactory(default_threshold=_MANY, default_ttl=_HOUR)

    async def call() -> object:
        async with await factory.get_breaker("benchmark"):
            return await function()

    return call


def _pybreaker(function: Function) -> Function:
    import pybreaker

    decorated: Function = pybreaker.CircuitBreaker(fail_max=_MANY, reset_timeout=_HOUR)(function)
    return decorated


def _pybreaker_with(function: Function) -> Function:
    import pybreaker

    breaker = pybreaker.CircuitBreaker(fail_max=_MANY, reset_timeout=_HOUR)

    def call() -> object:
        with breaker.calling():
            return function()

    return call


def _pybreaker_async_with(function: Function) -> Function:
    import pybreaker

    breaker = pybreaker.CircuitBreaker(fail_max=_MANY, reset_timeout=_HOUR)

    async def call() -> object:
        with breaker.calling():
            return await function()

    return call


def _aiobreaker(function: Function) -> Function:
    import aiobreaker

    breaker = aiobreaker.CircuitBreaker(fail_max=_MANY, timeout_duration=timedelta(seconds=_HOUR))
    decorated: Function = breaker(function)
    return decorated


def _interlock_breaker(*, is_timed: bool) -> Any:
    import interlock

    window = interlock.WindowType.TIME_BASED if is_timed else interlock.WindowType.COUNT_BASED
    config = interlock.Config(
        failure_rate_threshold=1.0,
        minimum_number_of_calls=20,
        wait_duration_in_open=_HOUR,
        window_type=window,
        window_size=30 if is_timed else 100,
    )
    return interlock.CircuitBreaker(name="benchmark", config=config)


def _interlock(function: Function) -> Function:
    decorated: Function = _interlock_breaker(is_timed=False)(function)
    return decorated


def _interlock_timed(function: Function) -> Function:
    decorated: Function = _interlock_breaker(is_timed=True)(function)
    return decorated


def _interlock_with(function: Function) -> Function:
    breaker = _interlock_breaker(is_timed=False)

    def call() -> object:
        with breaker:
            return function()

    return call


def _interlock_async_with(function: Function) -> Function:
    breaker = _interlock_breaker(is_timed=False)

    async def call() -> object:
        async with breaker:
            return await function()

    return call


BREAKERS = (
    *_kit_forms(),
    Form("purgatory", "with", _purgatory_with, rules="failures in a row"),
    Form("purgatory", "decorator", _purgatory, rules="failures in a row"),
    Form("purgatory", "with", _purgatory_async_with, is_async=True, rules="failures in a row"),
    Form("purgatory", "decorator", _purgatory_async, is_async=True, rules="failures in a row"),
    Form("pybreaker", "with", _pybreaker_with, rules="failures in a row"),
    Form("pybreaker", "decorator", _pybreaker, rules="failures in a row"),
    Form("pybreaker", "with", _pybreaker_async_with, is_async=True, rules="failures in a row"),
    Form("aiobreaker", "decorator", _aiobreaker, rules="failures in a row"),
    Form("aiobreaker", "decorator", _aiobreaker, is_async=True, rules="failures in a row"),
    Form("interlock-cb", "with", _interlock_with, rules="slow rule"),
    Form("interlock-cb", "decorator", _interlock, rules="slow rule"),
    Form("interlock-cb", "decorator", _interlock_timed, rules="time window, slow rule"),
    Form("interlock-cb", "with", _interlock_async_with, is_async=True, rules="slow rule"),
    Form("interlock-cb", "decorator", _interlock, is_async=True, rules="slow rule"),
    Form(
        "interlock-cb",
        "decorator",
        _interlock_timed,
        is_async=True,
        rules="time window, slow rule",
    ),
)


# Retries: three attempts at most, without a wait


def _kit_retry(function: Function) -> Function:
    # The process's budget would refuse what retries each call: this is one that always permits.
    return Retry(on=Oops, base_seconds=0.0, budget=RetryBudget(ratio=1.0))(function)


def _kit_retry_tested(function: Function) -> Function:
    return Retry(on=Oops)(function)


def _kit_call_sync(function: Function) -> Function:
    retry = Retry(on=Oops, base_seconds=0.0, budget=RetryBudget(ratio=1.0))
    return lambda: retry.call_sync(function)


def _kit_call(function: Function) -> Function:
    retry = Retry(on=Oops, base_seconds=0.0, budget=RetryBudget(ratio=1.0))
    return lambda: retry.call(function)


def _tenacity(function: Function) -> Function:
    import tenacity

    decorated: Function = tenacity.retry(
        retry=tenacity.retry_if_exception_type(Oops),
        stop=tenacity.stop_after_attempt(3),
        wait=tenacity.wait_none(),
        reraise=True,
    )(function)
    return decorated


def _stamina(function: Function) -> Function:
    import stamina

    decorated: Function = stamina.retry(
        on=Oops, attempts=3, wait_initial=0.0, wait_max=0.0, wait_jitter=0.0
    )(function)
    return decorated


def _stamina_tested(function: Function) -> Function:
    import stamina

    decorated: Function = stamina.retry(on=Oops, attempts=3)(function)
    return decorated


@contextmanager
def _stamina_silent() -> Iterator[None]:
    """Without the log lines and counters that it adds where structlog or Prometheus is installed."""
    from stamina import instrumentation

    instrumentation.set_on_retry_hooks([])
    try:
        yield
    finally:
        instrumentation.set_on_retry_hooks(None)


@contextmanager
def _stamina_testing() -> Iterator[None]:
    import stamina

    with _stamina_silent(), stamina.set_testing(True, attempts=3):
        yield


_ZERO, _TESTED = "zero wait", "test mode"

RETRIES = tuple(
    form
    for is_async in (False, True)
    for form in (
        Form(KIT, "decorator", _kit_retry, is_async, _ZERO),
        Form(KIT, "decorator", _kit_retry_tested, is_async, _TESTED, instant_waits),
        Form(KIT, "call()", _kit_call if is_async else _kit_call_sync, is_async, _ZERO),
        Form("tenacity", "decorator", _tenacity, is_async, _ZERO),
        Form("stamina", "decorator", _stamina, is_async, _ZERO, _stamina_silent),
        Form("stamina", "decorator", _stamina_tested, is_async, _TESTED, _stamina_testing),
    )
)


# What they do: breakers as probes make them


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What a probe wishes of a breaker; a library takes what it knows, and leaves out the rest."""

    rate: float | None = 0.5
    minimum: int = 10
    consecutive: int | None = None
    slow_seconds: float | None = None
    is_growing: bool = False
    jitter: float = 0.0
    probes: int = 1
    is_metrics_only: bool = False
    on_change: Callable[[str], object] | None = None

    open_seconds: ClassVar[float] = 10.0
    window_calls: ClassVar[int] = 100


class BreakerLibrary:
    """How a library's breaker is made, asked and used, under a clock that is set by hand."""

    name: str
    uses = ""  # what it is used by in asyncio, where that is not its decorator

    def make(self, wish: Wish, clock: HandClock) -> Any:
        raise NotImplementedError

    def state(self, breaker: Any) -> str:
        raise NotImplementedError

    def refusal(self) -> type[Exception]:
        """What it raises for a call that it refuses, and some also for the one that opens it."""
        raise NotImplementedError

    def options(self) -> Iterable[str]:
        """The names of the options that it is made with."""
        raise NotImplementedError

    def counted(self, breaker: Any) -> int:
        """What it has counted in metrics-only mode."""
        return 0

    def judging(self, bad: Callable[[object], bool], clock: HandClock) -> Any:
        """A breaker to which some results are failures; None where there is no such option."""
        return None

    def run_sync(self, breaker: Any, function: Function) -> Any:
        return breaker(function)()

    async def run(self, breaker: Any, function: Function) -> Any:
        return await breaker(function)()

    def decorated(self, breaker: Any, function: Function) -> Function:
        return breaker(function)  # type: ignore[no-any-return]

    def hand(self, clock: HandClock) -> AbstractContextManager[object]:
        """Has the library read that clock where it cannot be given one."""
        return nullcontext()


class Kit(BreakerLibrary):
    name = KIT

    def make(self, wish: Wish, clock: HandClock) -> CircuitBreaker:
        policy = CircuitPolicy(
            failure_rate_threshold=wish.rate,
            minimum_number_of_calls=wish.minimum,
            consecutive_failures=wish.consecutive,
            slow_call_seconds=wish.slow_seconds,
            slow_call_rate_threshold=None if wish.slow_seconds is None else 0.5,
            window_calls=wish.window_calls,
            open_seconds=wish.open_seconds,
            max_open_seconds=wish.open_seconds * (8 if wish.is_growing else 1),
            jitter=wish.jitter,
            max_concurrent_probes=wish.probes,
            successes_to_close=1,
            initial_state=CircuitState.METRICS_ONLY
            if wish.is_metrics_only
            else CircuitState.CLOSED,
        )
        told = wish.on_change
        on_change = None if told is None else lambda change: told(change.now.value)
        return CircuitBreaker("probed", policy, clock=clock, on_change=on_change)

    def refusal(self) -> type[Exception]:
        return CircuitOpenError

    def options(self) -> Iterable[str]:
        return signature(CircuitBreaker).parameters

    def counted(self, breaker: CircuitBreaker) -> int:
        return breaker.would_have_opened

    def state(self, breaker: CircuitBreaker) -> str:
        return breaker.state.value


class Purgatory(BreakerLibrary):
    name = "purgatory"

    def make(self, wish: Wish, clock: HandClock) -> Any:
        from purgatory import AsyncCircuitBreakerFactory, SyncCircuitBreakerFactory

        made = SimpleNamespace(context=None)
        for name, factory in (
            ("sync", SyncCircuitBreakerFactory),
            ("async_", AsyncCircuitBreakerFactory),
        ):
            one = factory(default_threshold=wish.consecutive or 5, default_ttl=wish.open_seconds)
            setattr(made, name, one)
        told = wish.on_change
        if told is not None:

            def listen(name: str, kind: str, event: Any) -> None:
                if kind == "state_changed":
                    told(_purgatory_state(event.state))

            made.sync.add_listener(listen)
        return made

    def refusal(self) -> type[Exception]:
        from purgatory.domain.model import OpenedState

        return OpenedState  # type: ignore[no-any-return, unused-ignore]

    def options(self) -> Iterable[str]:
        from purgatory import AsyncCircuitBreakerFactory

        return signature(AsyncCircuitBreakerFactory).parameters

    def state(self, breaker: Any) -> str:
        return "closed" if breaker.context is None else _purgatory_state(breaker.context.state)

    def run_sync(self, breaker: Any, function: Function) -> Any:
        guard = breaker.sync.get_breaker("probed")
        breaker.context = guard.context
        with guard:
            return function()

    async def run(self, breaker: Any, function: Function) -> Any:
        guard = await breaker.async_.get_breaker("probed")
        breaker.context = guard.context
        async with guard:
            return await function()

    def decorated(self, breaker: Any, function: Function) -> Function:
        decorated: Function = breaker.async_("probed")(function)

        async def call() -> Any:
            breaker.context = (await breaker.async_.get_breaker("probed")).context
            return await decorated()

        return call

    @contextmanager
    def hand(self, clock: HandClock) -> Iterator[None]:
        from purgatory.domain import model

        with _replaced(model, "time", SimpleNamespace(time=clock)):
            yield


def _purgatory_state(state: str) -> str:
    return {"opened": "open", "half-opened": "half_open"}.get(state, state)


class PyBreaker(BreakerLibrary):
    name = "pybreaker"
    uses = "`with breaker.calling():`"

    def make(self, wish: Wish, clock: HandClock) -> Any:
        import pybreaker

        class Listener(pybreaker.CircuitBreakerListener):  # type: ignore[misc, unused-ignore]
            def state_change(self, cb: Any, old_state: Any, new_state: Any) -> None:
                if wish.on_change is not None:
                    wish.on_change(new_state.name.replace("-", "_"))

        return pybreaker.CircuitBreaker(
            fail_max=wish.consecutive or 5, reset_timeout=wish.open_seconds, listeners=[Listener()]
        )

    def refusal(self) -> type[Exception]:
        import pybreaker

        return pybreaker.CircuitBreakerError  # type: ignore[no-any-return, unused-ignore]

    def options(self) -> Iterable[str]:
        import pybreaker

        return signature(pybreaker.CircuitBreaker).parameters

    def state(self, breaker: Any) -> str:
        return str(breaker.current_state).replace("-", "_")

    async def run(self, breaker: Any, function: Function) -> Any:
        with breaker.calling():
            return await function()

    @contextmanager
    def hand(self, clock: HandClock) -> Iterator[None]:
        import pybreaker

        with _replaced(pybreaker, "datetime", _hand_datetime(clock)):
            yield


class AioBreaker(BreakerLibrary):
    name = "aiobreaker"

    def make(self, wish: Wish, clock: HandClock) -> Any:
        import aiobreaker

        class Listener(aiobreaker.CircuitBreakerListener):  # type: ignore[misc, unused-ignore]
            def state_change(self, breaker: Any, old: Any, new: Any) -> None:
                if wish.on_change is not None:
                    wish.on_change(new.state.name.lower())

        return aiobreaker.CircuitBreaker(
            fail_max=wish.consecutive or 5,
            timeout_duration=timedelta(seconds=wish.open_seconds),
            listeners=[Listener()],
        )

    def refusal(self) -> type[Exception]:
        import aiobreaker

        return aiobreaker.CircuitBreakerError  # type: ignore[no-any-return, unused-ignore]

    def options(self) -> Iterable[str]:
        import aiobreaker

        return signature(aiobreaker.CircuitBreaker).parameters

    def state(self, breaker: Any) -> str:
        return str(breaker.current_state.name).lower()

    @contextmanager
    def hand(self, clock: HandClock) -> Iterator[None]:
        from aiobreaker import circuitbreaker, state

        hand = _hand_datetime(clock)
        with _replaced(circuitbreaker, "datetime", hand), _replaced(state, "datetime", hand):
            yield


class Interlock(BreakerLibrary):
    name = "interlock-cb"

    def make(self, wish: Wish, clock: HandClock) -> Any:
        import interlock

        config = interlock.Config(
            failure_rate_threshold=1.0 if wish.rate is None else wish.rate,
            minimum_number_of_calls=wish.minimum,
            slow_call_duration_threshold=wish.slow_seconds or _DAY,
            slow_call_rate_threshold=0.5,
            permitted_calls_in_half_open=wish.probes,
            max_concurrent_probes=wish.probes,
            wait_duration_in_open=wish.open_seconds,
            wait_duration_backoff_multiplier=2.0 if wish.is_growing else 1.0,
            window_size=wish.window_calls,
        )
        told = wish.on_change
        listener = SimpleNamespace(on_state_change=lambda *, name, old, new: told(new.value))  # type: ignore[misc]
        state = interlock.State.METRICS_ONLY if wish.is_metrics_only else interlock.State.CLOSED
        return interlock.CircuitBreaker(
            name="probed",
            config=config,
            clock=SimpleNamespace(monotonic=clock),
            initial_state=state,
            listener=None if told is None else listener,
        )

    def refusal(self) -> type[Exception]:
        import interlock

        return interlock.CircuitOpenError

    def options(self) -> Iterable[str]:
        import interlock

        return signature(interlock.CircuitBreaker).parameters

    def counted(self, breaker: Any) -> int:
        return int(breaker.snapshot().failed_calls)

    def judging(self, bad: Callable[[object], bool], clock: HandClock) -> Any:
        import interlock

        judge = SimpleNamespace(is_failure=lambda *, result, exception: bad(result))
        config = interlock.Config(minimum_number_of_calls=10)
        clock_ = SimpleNamespace(monotonic=clock)
        return interlock.CircuitBreaker(
            name="judging", config=config, clock=clock_, classifier=judge
        )

    def state(self, breaker: Any) -> str:
        return str(breaker.state.value)

    @contextmanager
    def hand(self, clock: HandClock) -> Iterator[None]:
        """It is given its clock; what it logs of a listener that raises is wanted, not to be read."""
        logger = logging.getLogger("interlock")
        logger.disabled = True
        try:
            yield
        finally:
            logger.disabled = False


def _hand_datetime(clock: HandClock) -> type[datetime]:
    class Hand(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
            return datetime.fromtimestamp(clock(), tz)

        @classmethod
        def utcnow(cls) -> datetime:  # type: ignore[override]
            return datetime.fromtimestamp(clock(), UTC).replace(tzinfo=None)

    return Hand


@contextmanager
def _replaced(module: Any, name: str, value: object) -> Iterator[None]:
    before = getattr(module, name)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, before)


BREAKER_LIBRARIES: tuple[BreakerLibrary, ...] = (
    Kit(),
    Purgatory(),
    PyBreaker(),
    AioBreaker(),
    Interlock(),
)


# What they do: retries as probes make them


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryWish:
    """What a probe wishes of a retry; waits double from ``base_seconds`` as the library does it."""

    attempts: int = 3
    base_seconds: float = 0.0
    max_seconds: float = 100.0
    total_seconds: float = 1_000.0


class RetryLibrary:
    """How a library retries a function, sync or async; ``alone`` is entered for each probe."""

    name: str
    alone: Callable[[], AbstractContextManager[object]] = staticmethod(nullcontext)
    test_mode: Callable[[], AbstractContextManager[object]] | None = None

    def plain(self, function: Function) -> Function:
        """With nothing but the error to retry, and not even that where it may be left out."""
        raise NotImplementedError

    def make(self, wish: RetryWish, function: Function) -> Function:
        raise NotImplementedError

    def by_result(self, bad: Callable[[object], bool], function: Function) -> Function | None:
        """With results that are retried; None where there is no such option."""
        return None

    def block(self, function: Function) -> Function | None:
        """The function called in a block that is retried, which is no function; None without such."""
        return None

    def sharing(self, function: Function) -> Function:
        """As whoever takes no thought for the load would have it, without waits."""
        return self.make(RetryWish(), function)

    @contextmanager
    def waits(self) -> Iterator[list[float]]:
        """Within it no sync retry waits; the seconds it would have waited."""
        from tenacity import nap

        waited: list[float] = []
        with _replaced(nap, "time", SimpleNamespace(sleep=waited.append)):
            yield waited


class KitRetry(RetryLibrary):
    name = KIT
    test_mode = staticmethod(instant_waits)

    @staticmethod
    @contextmanager
    def alone() -> Iterator[None]:
        """As in a process that has just begun: what was measured before has filled the budget."""
        process_budget.cache_clear()
        yield

    def plain(self, function: Function) -> Function:
        return Retry(on=Oops)(function)

    def make(self, wish: RetryWish, function: Function) -> Function:
        return Retry(
            on=Oops,
            attempts=wish.attempts,
            base_seconds=wish.base_seconds,
            max_seconds=wish.max_seconds,
            total_seconds=wish.total_seconds,
            budget=RetryBudget(ratio=10.0),
        )(function)

    def sharing(self, function: Function) -> Function:
        return Retry(on=Oops, base_seconds=0.0)(function)

    @contextmanager
    def waits(self) -> Iterator[list[float]]:
        with instant_waits() as waited:
            yield waited


class Tenacity(RetryLibrary):
    name = "tenacity"

    def by_result(self, bad: Callable[[object], bool], function: Function) -> Function | None:
        import tenacity

        decorated: Function = tenacity.retry(
            retry=tenacity.retry_if_result(bad), stop=tenacity.stop_after_attempt(3)
        )(function)
        return decorated

    def block(self, function: Function) -> Function | None:
        import tenacity

        def call() -> None:
            for attempt in tenacity.Retrying(stop=tenacity.stop_after_attempt(3)):
                with attempt:
                    function()

        return call

    def plain(self, function: Function) -> Function:
        import tenacity

        decorated: Function = tenacity.retry(function)
        return decorated

    def make(self, wish: RetryWish, function: Function) -> Function:
        import tenacity

        decorated: Function = tenacity.retry(
            retry=tenacity.retry_if_exception_type(Oops),
            stop=tenacity.stop_any(
                tenacity.stop_after_attempt(wish.attempts),
                tenacity.stop_before_delay(wish.total_seconds),
            ),
            wait=tenacity.wait_random_exponential(
                multiplier=wish.base_seconds, max=wish.max_seconds
            ),
            reraise=True,
        )(function)
        return decorated


class Stamina(RetryLibrary):
    name = "stamina"
    alone = staticmethod(_stamina_silent)
    test_mode = staticmethod(_stamina_testing)

    def block(self, function: Function) -> Function | None:
        import stamina

        def call() -> None:
            for attempt in stamina.retry_context(on=Oops, attempts=3):
                with attempt:
                    function()

        return call

    def plain(self, function: Function) -> Function:
        import stamina

        decorated: Function = stamina.retry(on=Oops)(function)
        return decorated

    def make(self, wish: RetryWish, function: Function) -> Function:
        import stamina

        decorated: Function = stamina.retry(
            on=Oops,
            attempts=wish.attempts,
            timeout=wish.total_seconds,
            wait_initial=wish.base_seconds,
            wait_max=wish.max_seconds,
            wait_jitter=wish.base_seconds,
        )(function)
        return decorated


RETRY_LIBRARIES: tuple[RetryLibrary, ...] = (KitRetry(), Tenacity(), Stamina())
