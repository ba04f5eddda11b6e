"""The circuit breaker: refuses calls to what is known to be failing, and finds out when it is not."""

import time
from collections import deque
from collections.abc import Callable
from itertools import count
from math import inf, nextafter
from random import random as random_share
from threading import Lock, RLock
from types import TracebackType
from typing import Any, Protocol, Self, TypeAlias, TypeVar

from asgi_errorkit.async_library import is_cut
from asgi_errorkit.call_window import (
    FAILED,
    OK,
    SLOW,
    SLOW_FAILED,
    CountWindow,
    TimeWindow,
    Totals,
)
from asgi_errorkit.circuit_policy import CircuitPolicy
from asgi_errorkit.circuit_state import MOVES, CircuitState, StateChange, Told
from asgi_errorkit.entered import enter, guarded, leave
from asgi_errorkit.errors import CircuitOpenError, ErrorType, PublicError
from asgi_errorkit.forks import reset_in_child
from asgi_errorkit.options import check_callable, check_text, check_type

__all__ = ["CircuitBreaker", "Places"]

Clock: TypeAlias = Callable[[], float]
F = TypeVar("F", bound=Callable[..., Any])


_CLOSED, _OPEN, _HALF_OPEN = CircuitState.CLOSED, CircuitState.OPEN, CircuitState.HALF_OPEN
_FORCED_OPEN, _DISABLED = CircuitState.FORCED_OPEN, CircuitState.DISABLED
_METRICS_ONLY = CircuitState.METRICS_ONLY

_LETS_THROUGH = frozenset((_CLOSED, _DISABLED, _METRICS_ONLY))
_COUNTS = frozenset((_CLOSED, _METRICS_ONLY))
_REFUSES = frozenset((_OPEN, _FORCED_OPEN))

_MOST_IN_A_ROW = 10_000
_MOST_OVERDUE = 1000
_LEAST_RETRY_SECONDS = 1.0  # what to tell those who come while others probe

# Numbers of permits, unique in the process and rising: one of another breaker is nobody's here.
next_permit = count(1).__next__
_NOBODYS = -1

# Workers that decide at the same moment must not do so at the very same.
_SHARE_SECONDS = 1e-6

# In the place of the first of a run: a success clears it, as it does all of the run.
_NO_FAILURE = -inf


class Places(Protocol):
    """Room for the probes of a circuit, which the workers of a host share.

    Never raises, and never waits.
    """

    def take(self, most: int) -> bool:
        """Take one of so many, or learn that there is none."""
        ...

    def keep(self, number: int) -> None:
        """Give back what has been taken beyond that number."""
        ...

    def forget(self) -> None:
        """In a forked child: what was taken is the parent's."""
        ...


class CircuitBreaker:
    """Counts how calls end, and refuses them for a while when too many fail.

    Use it as ``with``, ``async with`` or decorator, which raise `CircuitOpenError` for what is
    refused; or ask ``allow()`` for a permit (0: refused), and give it back with exactly one of
    ``record_success``, ``record_failure`` and ``record_ignored``. What is left of a permit from
    before a change of state is ignored; one that is not given back in time expires, which makes room
    for another, but what its call tells in the end still counts. A circuit is judged when a call has
    failed or was slow.

    ``policy`` says when it opens and closes. Cancellations, but for those by a time limit of the
    kit, errors that are the client's fault (`PublicError` below 500) and refusals further in count
    for nothing, beside what the policy ignores. ``error_type`` is what those are told who are refused. ``on_change`` is told of each
    `StateChange`, outside of any lock; if it raises, that is counted in ``listener_errors``.
    Thread-safe, without timers: time is read when somebody asks. Raises TypeError or ValueError
    for an option that cannot work.
    """

    def __init__(
        self,
        name: str = "",
        policy: CircuitPolicy | None = None,
        *,
        error_type: ErrorType = ErrorType.EXTERNAL_SERVICE,
        on_change: Callable[[StateChange], object] | None = None,
        clock: Clock = time.monotonic,
        wall_clock: Clock = time.time,
        random: Clock = random_share,
    ) -> None:
        check_text("name", name, example="model:sdxl")
        check_type("policy", policy, CircuitPolicy)
        if not isinstance(error_type, ErrorType):
            raise TypeError(
                f"error_type must be an ErrorType, e.g. ErrorType.MODEL; got {error_type!r:.200}"
            )
        for option, function, usual in (
            ("clock", clock, time.monotonic),
            ("wall_clock", wall_clock, time.time),
            ("random", random, random_share),
        ):
            if function is not usual:  # to look at a signature takes some 300 us
                check_callable(option, function)
        self.name = name
        self.policy = policy = policy or CircuitPolicy()
        self.error_type = error_type
        self.rejected = 0
        self.late = 0  # given back after a change of state, or twice
        self.expired = 0
        self.would_have_opened = 0
        self.listener_errors = 0
        self._has_rates = (policy.failure_rate_threshold, policy.slow_call_rate_threshold) != (
            None,
            None,
        )
        self.is_timed = policy.slow_call_seconds is not None
        self._slow_seconds = inf if policy.slow_call_seconds is None else policy.slow_call_seconds
        self._clock = clock
        self._wall_clock = wall_clock
        self._random = random
        self._listeners: list[Callable[[StateChange], object]] = []
        self._lock = RLock()
        self._is_busy = False
        # Steps of who interrupted one, left to who was interrupted.
        self._left: deque[tuple[Callable[..., Any], tuple[Any, ...]]] = deque()
        self._telling = Lock()
        self._untold: deque[StateChange] = deque()
        self._run: deque[float] = deque(maxlen=_MOST_IN_A_ROW)  # when the failures in a row were
        self._probes: dict[int, float] = {}  # permits of half-open: when they expire, in that order
        self._overdue: dict[int, None] = {}  # permits that have expired since it is half-open
        # Of probes whether they go well, and who is told when that was counted.
        self._going: dict[int, tuple[Callable[[], bool], Callable[[int], object]]] = {}
        self._successes = 0
        self._trips = 0  # how often it has opened without closing since
        self._retry_at = inf
        self._half_opened_at = 0.0
        self._opened: tuple[float, int | None, float | None] | None = None
        self._since = self._era = self._hand = 0.0  # see `Told`
        self._judged = Totals(0, 0, 0), (0, 0.0)  # what it opened for
        self._opened_by_run = False
        self._run_opens = policy.consecutive_failures or 0
        self._elsewhere = 0  # successes of the probes of other workers
        self._succeeded_at = -inf  # not later than that, as far as somebody has looked
        self._watched = 0
        # Set by `Breakers`, where the workers of a host act together.
        self._places: Places | None = None
        self._note: Callable[[str], object] | None = None  # told the name when others want to know
        self._begin(policy.initial_state)
        self._first_permit = self._permit
        if on_change is not None:
            check_callable("on_change", on_change, "change")
            self.add_listener(on_change)
        reset_in_child(self)

    def __repr__(self) -> str:
        return f"<CircuitBreaker {self.name!r} {self._state.value}>"

    # Asking

    def allow(self) -> int:
        """A permit for one call, or 0 if it is refused."""
        return self._permit or self._ask()

    def permit_since(self, began: int) -> int | None:
        """The permit of a call that has none, and began when that number was drawn.

        It is that of all calls now, or None for a trial call that nobody was asked for, unless the
        circuit has changed its state since. But for coming to be: who is told of a breaker's first
        failure made it.
        """
        if self._state is _HALF_OPEN and began > self._begun:
            return None
        permit = self._permit
        is_of_now = permit and (began > permit or permit == self._first_permit)
        return permit if is_of_now else _NOBODYS

    def watch_probe(
        self, permit: int, goes_well: Callable[[], bool], counted: Callable[[int], object]
    ) -> None:
        """Have somebody asked, if this is a probe's, whether its call goes well when it expires.

        If it does, it has fared well, and ``counted`` is told the number of the call that begins
        with that: for `permit_since`. Both are called once, with the lock held.
        """
        with self._lock:
            if permit in self._probes:
                self._going[permit] = goes_well, counted

    @property
    def state(self) -> CircuitState:
        """The state now; time may have moved it."""
        if self._permit:
            return self._state
        self._do(self._look)
        return self._state

    @property
    def is_open(self) -> bool:
        """Whether calls are refused, the probes of a half-open circuit apart."""
        return self.state in _REFUSES

    @property
    def retry_after_seconds(self) -> float:
        """How long to wait before trying again; infinity when somebody has forced it open."""
        if self._permit:
            return 0.0
        with self._lock:
            if self._state is _FORCED_OPEN:
                return inf
            left = self._retry_at - self._clock() if self._state is _OPEN else 0.0
        return max(left, _LEAST_RETRY_SECONDS)

    def error(self) -> CircuitOpenError:
        """What to raise for a call that was refused."""
        triggered_at, error_count, threshold = self._opened or (None, None, None)
        return CircuitOpenError(
            self.name,
            retry_after_seconds=min(self.retry_after_seconds, self.policy.longest_seconds),
            error_type=self.error_type,
            triggered_at=triggered_at,
            error_count=error_count,
            threshold=threshold,
        )

    # Telling

    def record_success(self, permit: int | None = None, *, seconds: float | None = None) -> None:
        """The call of this permit went well, in so many seconds. None is a call without a permit."""
        add_ok = self._add_ok
        if add_ok is not None and (permit == self._permit or permit is None) and self._permit:
            add_ok(OK)
            if self._run:
                self._run.clear()
            return
        self._record(permit, OK, seconds)

    def record_failure(
        self,
        permit: int | None = None,
        *,
        seconds: float | None = None,
        error_type: ErrorType | None = None,
        consecutive_failures: int | None = None,
    ) -> None:
        """The call of this permit failed.

        ``error_type`` is what is told to those refused from now on; ``consecutive_failures`` opens
        at so many in a row for this failure, as a policy's threshold may ask.
        """
        if error_type is not None:
            self.error_type = error_type
        self._record(
            permit, FAILED, seconds, consecutive_failures or self.policy.consecutive_failures
        )

    def record_ignored(self, permit: int | None = None) -> None:
        """The call of this permit tells nothing: it was cancelled, or never came that far."""
        if permit is None or permit == self._permit:
            return
        self._do(self._give_back, permit)

    def record(
        self, permit: int | None, exc: BaseException | None, *, seconds: float | None = None
    ) -> None:
        """The call of this permit ended, with that exception or none, as its class says."""
        if exc is None:
            self.record_success(permit, seconds=seconds)
        elif not issubclass(type(exc), Exception):
            self._record_cancelled(permit, exc, seconds)
        elif self._is_ignored(exc):
            self.record_ignored(permit)
        elif issubclass(type(exc), self.policy.failures):
            self.record_failure(permit, seconds=seconds)
        else:
            self.record_success(permit, seconds=seconds)

    def _record_cancelled(
        self, permit: int | None, exc: BaseException, seconds: float | None
    ) -> None:
        """By others it tells nothing; by a time limit of the kit, that the call took too long.

        A generator that is closed tells nothing either: it is who reads that is cut.
        """
        if is_cut() and not isinstance(exc, GeneratorExit):
            self.record_failure(permit, seconds=seconds, error_type=ErrorType.TIMEOUT)
        else:
            self.record_ignored(permit)

    # By hand

    def open(self) -> None:
        """Open it as if it had opened by itself; it tries again when its time is up."""
        self._put(_OPEN)

    def force_open(self) -> None:
        """Refuse every call until it is reset."""
        self._put(_FORCED_OPEN)

    def disable(self) -> None:
        """Let every call through, and count none, until it is reset."""
        self._put(_DISABLED)

    def metrics_only(self) -> None:
        """Let every call through, and count how often it would have opened, until it is reset."""
        self._put(_METRICS_ONLY)

    def reset(self) -> None:
        """Close it, and forget all calls so far."""
        self._put(_CLOSED)

    def add_listener(self, listener: Callable[[StateChange], object]) -> None:
        """Have a further callable told of each `StateChange`."""
        check_callable("listener", listener, "change")
        self._listeners.append(listener)

    def as_dict(self) -> dict[str, Any]:
        """Everything that is to be known of it, as plain JSON-able data."""
        state = self.state
        with self._lock:
            totals = self._window.totals(self._clock())
            triggered_at, error_count, threshold = self._opened or (None, None, None)
            retry_after = self.retry_after_seconds
            return {
                "name": self.name,
                "state": state.value,
                "error_type": self.error_type.value,
                "calls": totals.calls,
                "failed": totals.failed,
                "slow": totals.slow,
                "failure_rate": totals.failure_rate,
                "slow_call_rate": totals.slow_call_rate,
                "triggered_at": triggered_at,
                "error_count": error_count,
                "threshold": threshold,
                "retry_after_seconds": None if retry_after == inf else retry_after,
                "opened_in_a_row": self._trips,
                "probes": len(self._probes),
                "rejected": self.rejected,
                "late": self.late,
                "expired": self.expired,
                "would_have_opened": self.would_have_opened,
                "listener_errors": self.listener_errors,
            }

    def reset_after_fork(self) -> None:
        """In a forked child: the probes, and whoever held the lock, are the parent's."""
        self._lock = RLock()
        self._telling = Lock()
        self._is_busy = False
        self._left.clear()
        self._probes.clear()
        self._overdue.clear()
        self._going.clear()
        self._untold.clear()
        if self._places is not None:
            self._places.forget()

    # Among the workers of a host

    def told(self) -> Told:
        """What the others are to know of it."""
        with self._lock:
            return self._told(self._clock())

    def tend(self) -> None:
        """Let probes whose time is up give their places back, though nobody asks."""
        self._do(self._tended)

    def watch_run(self) -> None:
        """Note whether there was a success since the last look: who has one goes on alone."""
        with self._lock:
            run = self._run.copy()  # a success may clear it meanwhile
            if run and run[0] == _NO_FAILURE:
                return
            if self._watched == self._begun:
                self._succeeded_at = run[0] if run else self._clock()
            self._watched = self._begun
            self._run.appendleft(_NO_FAILURE)

    def follow(self, told: Told, seen: Told) -> None:
        """Take over a state of the whole host, unless this is no more as it was ``seen``."""
        self._do(self._follow, told, seen)

    def open_for_all(
        self, why: str, opened_by: tuple[int, float], run_since: float, seen: Told
    ) -> None:
        """Open, or stay so, by what all workers have counted. ``run_since``: of failures in a row."""
        self._do(self._open_for_all, why, opened_by, run_since, seen)

    def hear(self, successes: int, seen: Told) -> None:
        """So many probes of other workers have fared well since it opened."""
        self._do(self._hear, successes, seen)

    # Around a call

    def __enter__(self) -> Self:
        permit = self._permit or self._ask()
        if not permit:
            raise self.error()
        enter(self, permit, self._clock() if self.is_timed else 0.0)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        entered = leave(self)
        if entered is None:  # in another context, such as another thread's
            self._record_unknown(exc)
            return
        permit, started_at = entered
        seconds = self._clock() - started_at if self.is_timed else None
        if exc is None:
            self.record_success(permit, seconds=seconds)
        else:
            self.record(permit, exc, seconds=seconds)

    def _record_unknown(self, exc: BaseException | None) -> None:
        """Of a call whose permit nobody knows. If it tells nothing, it must not keep a probe's place.

        But for a generator that the garbage collector closes, amid whatever runs.
        """
        if exc is None or isinstance(exc, GeneratorExit) or not self._tells_nothing(exc):
            self.record(None, exc)
        else:
            self._do(self._give_back_oldest)

    def _tells_nothing(self, exc: BaseException) -> bool:
        if not issubclass(type(exc), Exception):
            return not is_cut()
        return self._is_ignored(exc)

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.__exit__(kind, exc, traceback)

    def __call__(self, function: F) -> F:
        """Guard a function, sync or async. Raises TypeError for a generator: its calls have no end."""
        return guarded(self, function)

    # Within

    def _do(self, step: Callable[..., Any], *given: Any) -> Any:
        """One step at a time: of who interrupts one in its own thread, the step is done after it.

        Such as a signal handler, or a generator that the garbage collector closes.
        """
        with self._lock:
            if self._is_busy:
                self._left.append((step, given))
                return None
            result = self._alone(step, given)
            while self._left:
                self._alone(self._catch_up, ())
        self._tell()
        return result

    def _alone(self, step: Callable[..., Any], given: tuple[Any, ...]) -> Any:
        self._is_busy = True
        try:
            return step(*given)
        finally:
            self._is_busy = False

    def _catch_up(self) -> None:
        while self._left:
            step, given = self._left.popleft()
            step(*given)

    def _ask(self) -> int:
        with self._lock:
            if self._is_busy:  # amid a step of the same thread: nobody knows what it will lead to
                self.rejected += 1
                return 0
        permit: int = self._do(self._asked)
        return permit

    def _asked(self) -> int:
        now = self._clock()
        self._look(now)
        permit = self._permit
        if self._state is _HALF_OPEN:
            self._expire(now)
            permit = self._take_probe(now) if self._state is _HALF_OPEN else self._permit
        if not permit:
            self.rejected += 1
        return permit

    def _take_probe(self, now: float) -> int:
        if len(self._probes) >= self.policy.max_concurrent_probes:
            return 0
        if self._places is not None and not self._places.take(self.policy.max_concurrent_probes):
            return 0
        permit = next_permit()
        self._probes[permit] = now + self.policy.probe_seconds
        return permit

    def _give_places_back(self) -> None:
        if self._places is not None:
            self._places.keep(len(self._probes))

    def _expire(self, now: float) -> None:
        while self._probes:
            oldest = next(iter(self._probes))
            if self._probes[oldest] > now:
                return
            del self._probes[oldest]
            self._give_places_back()
            self.expired += 1
            if not self._fared_well(oldest, now):
                self._overdue[oldest] = None
                if len(self._overdue) > _MOST_OVERDUE:
                    del self._overdue[next(iter(self._overdue))]

    def _fared_well(self, expired: int, now: float) -> bool:
        """Whether a probe that goes on does well, which counts as if it had ended."""
        goes_well, counted = self._going.pop(expired, (None, None))
        try:
            if goes_well is None or counted is None or not goes_well():
                return False
        except Exception:  # noqa: BLE001  whoever asks for a permit must get an answer
            return False
        self._fare_well(now)
        counted(next_permit())
        return True

    def _give_back(self, permit: int) -> None:
        if not self._is_probe(permit) and self._state is not _DISABLED:
            self.late += 1

    def _give_back_oldest(self) -> None:
        oldest = next(iter(self._probes), None)
        if oldest is not None:
            self._give_back(oldest)

    def _is_probe(self, permit: int) -> bool:
        """Whether it was a probe's of this time; from now on it is not."""
        self._going.pop(permit, None)
        if self._probes.pop(permit, None) is not None:
            self._give_places_back()
            return True
        return self._overdue.pop(permit, permit) is None

    def _record(
        self, permit: int | None, kind: int, seconds: float | None, in_a_row: int | None = None
    ) -> None:
        self._do(self._recorded, permit, kind, seconds, in_a_row)

    def _recorded(
        self, permit: int | None, kind: int, seconds: float | None, in_a_row: int | None
    ) -> None:
        now = self._clock()
        self._look(now)
        if seconds is not None and seconds >= self._slow_seconds:
            kind = SLOW_FAILED if kind == FAILED else SLOW
        if self._state in _COUNTS and permit in (None, self._permit):
            self._count(kind, now, in_a_row)
        elif self._state is _HALF_OPEN:
            self._judge_probe(permit, kind, now)
        elif self._state is not _DISABLED and permit is not None:
            self.late += 1

    def _count(self, kind: int, now: float, in_a_row: int | None) -> None:
        self._window.add(kind, now)
        if kind in (FAILED, SLOW_FAILED):
            self._run.append(now)
        else:
            self._run.clear()
        if kind == OK:
            return
        self._run_opens = in_a_row or self._run_opens
        if self._note is not None:
            self._note(self.name)
        why = self._why_to_open(now, in_a_row)
        if why is None:
            return
        if self._state is _METRICS_ONLY:
            self.would_have_opened += 1
            self._untold.append(
                StateChange(self.name, _METRICS_ONLY, _METRICS_ONLY, self._wall_clock(), why[0])
            )
            self._forget()
            return
        totals = self._window.totals(now)
        self._move(_OPEN, now, why[0], (totals.failed or totals.slow, why[1]))

    def _why_to_open(self, now: float, in_a_row: int | None) -> tuple[str, float] | None:
        if in_a_row is not None and self._is_run(in_a_row, now):
            return f"{in_a_row} failures in a row", in_a_row
        if not self._has_rates:
            return None
        return self.policy.why_to_open(*self._window.totals(now))

    def _is_run(self, length: int, now: float) -> bool:
        known = len(self._run)
        if known < length or (known == length and _NO_FAILURE in self._run):
            return False
        return (
            self.policy.window_seconds is None
            or now - self._run[-length] <= self.policy.window_seconds
        )

    def _judge_probe(self, permit: int | None, kind: int, now: float) -> None:
        if permit is None:  # whose it is nobody knows, and none must be kept for ever
            permit = next(iter(self._probes), None)
            if permit is not None:
                self._is_probe(permit)
        elif not self._is_probe(permit):
            self.late += 1
            return
        if kind != OK:
            self._move(_OPEN, now, "a probe failed" if kind != SLOW else "a probe was slow")
            return
        self._fare_well(now)

    def _fare_well(self, now: float) -> None:
        self._successes += 1
        if self._note is not None:
            self._note(self.name)
        self._close_if_well(now)

    def _close_if_well(self, now: float) -> None:
        successes = self._successes + self._elsewhere
        if successes >= self.policy.successes_to_close:
            self._move(_CLOSED, now, f"{successes} probes fared well")

    def _look(self, now: float | None = None) -> None:
        """Take the steps that only time asks for."""
        now = self._clock() if now is None else now
        if self._state is _OPEN and now >= self._retry_at:
            self._move(_HALF_OPEN, now, "its time was up")
        if self._state is _HALF_OPEN and self.policy.quiet_seconds is not None:
            self._expire(now)
            is_quiet = self._state is _HALF_OPEN and not self._probes
            if is_quiet and now - self._half_opened_at >= self.policy.quiet_seconds:
                self._move(_CLOSED, now, "nothing has failed since")

    def _put(self, to: CircuitState) -> None:
        self._do(self._put_now, to)

    def _put_now(self, to: CircuitState) -> None:
        now = self._clock()
        self._look(now)
        if self._state is to is _CLOSED:
            self._forget()
        elif self._state is not to:
            self._move(to, now, "by hand")
        self._arrive(now)
        self._era = self._hand = self._since

    def _move(
        self,
        to: CircuitState,
        now: float,
        why: str,
        opened_by: tuple[int | None, float | None] = (None, None),
    ) -> None:
        """The one door that every change of state goes through; the lock is held."""
        was, at = self._state, self._wall_clock()
        is_of_all = self._since == self._era and was in (_OPEN, _HALF_OPEN)
        if to not in MOVES[was]:
            raise RuntimeError(f"a breaker cannot go from {was.value} to {to.value}")
        if to is _OPEN:
            self._retry_at = now + self._span()
            self._trips += 1
            if was is not _HALF_OPEN:
                self._judged = self._window.totals(now), self._run_now(now)
                self._opened_by_run = False
        if to in _REFUSES:
            before = self._opened or (at, None, None)
            self._opened = (at, opened_by[0] or before[1], opened_by[1] or before[2])
        elif to is not _HALF_OPEN:
            self._opened = None
            self._trips = 0
        self._half_opened_at = now
        self._begin(to)
        if to is not _HALF_OPEN:
            self._arrive(now)
            if is_of_all or self.policy.across_workers == "own":
                self._era = self._since
        self._untold.append(StateChange(self.name, was, to, at, why))

    def _arrive(self, now: float) -> None:
        """It is so from now on: after whatever was known before, though clocks may differ."""
        known = nextafter(max(self._since, self._era, self._hand), inf)
        self._since = max(now, known) + _SHARE_SECONDS * random_share()  # noqa: S311
        if self._note is not None:
            self._note(self.name)

    def _span(self) -> float:
        """How long to stay open this time, in seconds."""
        doubled = self.policy.open_seconds * 2.0 ** min(self._trips, 60)
        share = 1.0 + self.policy.jitter * (2.0 * self._random() - 1.0)
        return min(doubled, self.policy.longest_seconds) * share

    def _begin(self, state: CircuitState) -> None:
        """Start anew in a state; what was permitted before is known no more."""
        # Made first: a change that breaks off for want of memory must leave all as it was.
        permit = next_permit() if state in _LETS_THROUGH else 0
        window = self._new_window()
        self._probes.clear()
        self._overdue.clear()
        self._going.clear()
        self._successes = self._elsewhere = 0
        self._give_places_back()
        self._state = state
        self._start(window)
        self._begun = next_permit()
        # Last: whoever asks without the lock asks for this alone.
        self._permit = permit

    def _new_window(self) -> CountWindow | TimeWindow:
        seconds = self.policy.window_seconds
        return CountWindow(self.policy.window_calls) if seconds is None else TimeWindow(seconds)

    def _forget(self) -> None:
        self._start(self._new_window())

    def _start(self, window: CountWindow | TimeWindow) -> None:
        self._run.clear()
        self._window = window
        # What a success that is neither slow nor late has to do; None where that needs a lock.
        is_plain = not self.is_timed and self._state in _COUNTS
        self._add_ok = window.add_ok if is_plain else None

    def _told(self, now: float) -> Told:
        state = self._state
        totals, run = Totals(0, 0, 0), (0, 0.0)
        if state is _CLOSED:
            totals, run = self._window.totals(now), self._run_now(now)
        elif state is _OPEN:
            totals, run = self._judged
        at, count, threshold = self._opened or (0.0, None, None)
        return Told(
            self.name,
            state,
            self._since,
            self._era,
            self._hand,
            retry_at=self._retry_at if state in (_OPEN, _HALF_OPEN) else 0.0,
            trips=self._trips,
            error_type=self.error_type.value,
            triggered_at=at,
            error_count=count or 0,
            threshold=threshold or 0.0,
            calls=totals.calls,
            failed=totals.failed,
            slow=totals.slow,
            run=run[0],
            run_since=run[1],
            run_opens=self._run_opens,
            opened_by_run=self._opened_by_run,
            successes=self._successes,
            succeeded_at=self._succeeded_at,
        )

    def _run_now(self, now: float) -> tuple[int, float]:
        """How many failures in a row there are, of those that can open it, and since when."""
        seconds = self.policy.window_seconds or inf
        latest = [*self._run.copy()][-self._run_opens :] if self._run_opens else []
        counted = [at for at in latest if at > _NO_FAILURE and now - at <= seconds]
        return len(counted), min(counted, default=0.0)

    def _tended(self) -> None:
        if self._state is _HALF_OPEN:
            self._expire(self._clock())

    def _is_as(self, seen: Told) -> bool:
        return (self._since, self._era, self._hand) == (seen.since, seen.era, seen.hand)

    def _follow(self, told: Told, seen: Told) -> None:
        now = self._clock()
        self._look(now)
        if not self._is_as(seen):
            return
        was, by_hand = self._state, told.hand > self._hand
        is_own = self._since != self._era and was in (_OPEN, _HALF_OPEN)
        self._era, self._hand = told.era, told.hand
        if self._note is not None:  # others may hear of it from this worker alone
            self._note(self.name)
        to = _OPEN if told.state is _HALF_OPEN else told.state
        if to is _CLOSED and is_own and not by_hand:
            return  # what it has opened for alone, the others cannot judge
        if was is not to:
            self._move(to, now, f"{'by hand' if by_hand else to.value} at another worker")
        elif to is _CLOSED and by_hand:
            self._forget()
        self._since = self._era = told.era
        if to is _OPEN:
            self._open_as(told, now)

    def _open_as(self, told: Told, now: float) -> None:
        latest = now + self.policy.longest_seconds * (1.0 + self.policy.jitter)
        self._retry_at = min(told.retry_at, latest)
        self._trips = told.trips
        self._opened_by_run = told.opened_by_run
        self._judged = self._judged[0], (self._judged[1][0], told.run_since)
        at = told.triggered_at or self._wall_clock()
        self._opened = (at, told.error_count or None, told.threshold or None)
        if told.error_type:
            self.error_type = ErrorType(told.error_type)
        self._look(now)

    def _open_for_all(
        self, why: str, opened_by: tuple[int, float], run_since: float, seen: Told
    ) -> None:
        now = self._clock()
        self._look(now)
        if not self._is_as(seen) or self._state not in (_CLOSED, _OPEN):
            return
        if self._state is _CLOSED:
            self._move(_OPEN, now, why, opened_by)
            self._opened_by_run = run_since > 0
            self._judged = self._judged[0], (self._judged[1][0], run_since or self._judged[1][1])
        self._era = self._since
        if self._note is not None:
            self._note(self.name)

    def _hear(self, successes: int, seen: Told) -> None:
        if self._is_as(seen) and self._state is _HALF_OPEN:
            self._elsewhere = successes
            self._close_if_well(self._clock())

    def _is_ignored(self, exc: BaseException) -> bool:
        if issubclass(type(exc), self.policy.ignore):
            return True
        return isinstance(exc, PublicError) and (
            exc.status_code < 500 or exc.ends_as in ("circuit_open", "shed")
        )

    def _tell(self) -> None:
        """Tell the listeners in order, with no lock held that a call waits for: they may do anything,
        also ask this breaker. Whoever comes meanwhile leaves it to who is at it."""
        while self._untold and not self._is_busy and self._telling.acquire(blocking=False):
            try:
                self._tell_all()
            finally:
                self._telling.release()

    def _tell_all(self) -> None:
        while self._untold:
            change = self._untold.popleft()
            for listener in self._listeners:
                try:
                    listener(change)
                except Exception:  # noqa: BLE001  a broken listener must not stop the others
                    self.listener_errors += 1
