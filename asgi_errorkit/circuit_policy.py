"""When a circuit opens, for how long, and what closes it again."""

from dataclasses import dataclass
from typing import Literal, get_args

from asgi_errorkit.circuit_state import CircuitState
from asgi_errorkit.options import check_number, check_whole

__all__ = ["AcrossWorkers", "CircuitPolicy"]

AcrossWorkers = Literal["merged", "own", "none"]

_MOST = 10_000
_DAY_SECONDS = 86_400
_LONGEST_SECONDS = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class CircuitPolicy:
    """The rules of a `CircuitBreaker`; one serves any number of them.

    It opens at ``failure_rate_threshold`` or ``slow_call_rate_threshold`` (shares of the calls, 0
    to 1; slow is a call of ``slow_call_seconds`` or more) over the last ``window_calls`` calls, or
    those of the last ``window_seconds``, if there were ``minimum_number_of_calls``; or at
    ``consecutive_failures``, which a success interrupts, and the window's time. None leaves a rule
    out. It stays open for ``open_seconds``, each further time in a row for twice as long, at most
    ``max_open_seconds`` (None: 15, or ``open_seconds`` if that is more), give or take the share ``jitter``. Then ``max_concurrent_probes`` calls
    at a time are let through; ``successes_to_close`` that fare well close it, one that fails or is
    slow opens it again. A probe that is not heard of for ``probe_seconds`` makes room,
    and counts all the same when it ends. With
    ``quiet_seconds`` it also closes when so long nothing has failed and nobody probes: for a
    breaker that is told of failures alone. ``initial_state`` METRICS_ONLY is the way to roll out.

    Where the workers of a host keep a record, ``across_workers`` says when all of them open:
    "merged", when the calls of all together ask for it, so that one that fails by itself opens alone;
    "own", when any of them opens; "none": each is alone. But for that they open, close and probe
    together: ``max_concurrent_probes`` and ``successes_to_close`` are the host's.

    Exceptions of the classes ``ignore`` count for nothing; of the others those of ``failures`` are
    failures. The defaults of the rates are resilience4j's, the first time open is Polly's. The
    longest is less than is usual: what has recovered is left alone for as long as that, and a call
    or two in so many seconds is little to bear. Raises TypeError or ValueError for what cannot work.
    """

    failure_rate_threshold: float | None = 0.5
    slow_call_rate_threshold: float | None = None
    slow_call_seconds: float | None = None
    consecutive_failures: int | None = None
    minimum_number_of_calls: int = 20
    window_calls: int = 100
    window_seconds: float | None = None
    open_seconds: float = 5.0
    max_open_seconds: float | None = None
    jitter: float = 0.2
    max_concurrent_probes: int = 1
    successes_to_close: int = 3
    probe_seconds: float = 60.0
    quiet_seconds: float | None = None
    initial_state: CircuitState = CircuitState.CLOSED
    across_workers: AcrossWorkers = "merged"
    failures: type[BaseException] | tuple[type[BaseException], ...] = Exception
    ignore: type[BaseException] | tuple[type[BaseException], ...] = ()

    def __post_init__(self) -> None:
        self._check_rates()
        self._check_window()
        self._check_times()
        for name, example in (("max_concurrent_probes", 1), ("successes_to_close", 3)):
            check_whole(name, getattr(self, name), least=1, most=_MOST, example=example)
        _check_state(self.initial_state)
        if self.across_workers not in get_args(AcrossWorkers):
            raise ValueError(
                "across_workers must be one of 'merged', 'own' and 'none'; got "
                f"{self.across_workers!r:.200}"
            )
        _check_classes("failures", self.failures)
        _check_classes("ignore", self.ignore)

    @property
    def longest_seconds(self) -> float:
        """How long it stays open at most, but for the jitter."""
        longest = self.max_open_seconds
        return max(_LONGEST_SECONDS, self.open_seconds) if longest is None else longest

    def why_to_open(self, calls: int, failed: int, slow: int) -> tuple[str, float] | None:
        """Why so many calls open a circuit, and the rate that they have reached; None if they do not."""
        if calls < self.minimum_number_of_calls:
            return None
        most_failed, most_slow = self.failure_rate_threshold, self.slow_call_rate_threshold
        if most_failed is not None and calls and failed / calls >= most_failed:
            return f"{failed} of {calls} calls failed", most_failed
        if most_slow is not None and calls and slow / calls >= most_slow:
            return f"{slow} of {calls} calls were slow", most_slow
        return None

    def _check_rates(self) -> None:
        for name in ("failure_rate_threshold", "slow_call_rate_threshold"):
            if getattr(self, name) is not None:
                check_number(name, getattr(self, name), above=0, most=1, example=0.5)
        if self.slow_call_seconds is not None:
            check_number("slow_call_seconds", self.slow_call_seconds, above=0, example=2.0)
        if (self.slow_call_rate_threshold is None) != (self.slow_call_seconds is None):
            raise ValueError(
                "slow_call_rate_threshold and slow_call_seconds belong together: give both, e.g. "
                "0.5 and 2.0, or neither"
            )

    def _check_window(self) -> None:
        if self.consecutive_failures is not None:
            check_whole(
                "consecutive_failures", self.consecutive_failures, least=1, most=_MOST, example=5
            )
        check_whole("window_calls", self.window_calls, least=1, most=_MOST, example=100)
        minimum = self.minimum_number_of_calls
        check_whole("minimum_number_of_calls", minimum, least=1, example=20)
        if self.window_seconds is not None:
            check_number(
                "window_seconds", self.window_seconds, above=0, most=_DAY_SECONDS, example=30.0
            )
        elif minimum > self.window_calls:
            raise ValueError(
                f"minimum_number_of_calls must be at most window_calls ({self.window_calls}), or "
                f"the circuit never opens; got {minimum}"
            )

    def _check_times(self) -> None:
        times = [("open_seconds", 5.0), ("probe_seconds", 60.0)]
        if self.quiet_seconds is not None:
            times.append(("quiet_seconds", 30.0))
        for name, example in times:
            check_number(name, getattr(self, name), above=0, most=_DAY_SECONDS, example=example)
        if self.max_open_seconds is not None:
            example = max(_LONGEST_SECONDS, self.open_seconds)
            check_number(
                "max_open_seconds",
                self.max_open_seconds,
                least=self.open_seconds,
                most=_DAY_SECONDS,
                example=example,
            )
        check_number("jitter", self.jitter, least=0, most=0.5, example=0.2)


def _check_state(state: CircuitState) -> None:
    if not isinstance(state, CircuitState):
        raise TypeError(
            f"initial_state must be a CircuitState, e.g. CircuitState.METRICS_ONLY; got {state!r}"
        )
    if state in (CircuitState.HALF_OPEN, CircuitState.OPEN):
        raise ValueError(
            "initial_state must be closed, forced_open, disabled or metrics_only: a circuit opens "
            f"by what it counts; got {state.value}"
        )


def _check_classes(name: str, classes: object) -> None:
    listed = classes if isinstance(classes, tuple) else (classes,)
    if not all(isinstance(c, type) and issubclass(c, BaseException) for c in listed):
        raise TypeError(
            f"{name} must be an exception class or a tuple of them, e.g. (OSError,); got {classes!r}"
        )
