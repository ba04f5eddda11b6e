# ruff: noqa: SLF001  breakers and each of them are one thing in two parts
"""Circuit breakers by name, of a bounded number."""

import logging
from collections.abc import Callable
from threading import RLock
from typing import Any, Protocol
from zlib import crc32

from asgi_errorkit.breaker import CircuitBreaker, Places
from asgi_errorkit.circuit_policy import CircuitPolicy
from asgi_errorkit.circuit_state import CircuitState, StateChange
from asgi_errorkit.errors import ErrorType
from asgi_errorkit.forks import reset_in_child
from asgi_errorkit.options import check_callable, check_text, check_whole

__all__ = ["Across", "Breakers"]

logger = logging.getLogger("asgi_errorkit.breaker")

_LEVELS = {
    CircuitState.OPEN: logging.CRITICAL,
    CircuitState.FORCED_OPEN: logging.CRITICAL,
    CircuitState.METRICS_ONLY: logging.WARNING,
}


class Across(Protocol):
    """What has the breakers of one worker act together with those of the others of its host."""

    @property
    def note(self) -> Callable[[str], object]:
        """Told the name when others want to know of a circuit; never raises."""
        ...

    def meet(self, breaker: CircuitBreaker) -> None:
        """One that is new begins as the others are. Never raises."""
        ...

    def places(self, name: str) -> Places:
        """Where its probes are, those of all workers."""
        ...

    def as_dict(self) -> dict[str, Any]:
        """What went wrong with it, in numbers."""
        ...


class Breakers:
    """The breakers of one tracker, found by name; each is made when it is first asked for.

    Beyond ``maximum`` the oldest closed one is forgotten, and if none is, the oldest, counted in
    ``forgotten``: of those that requests have made first, then of those that code names. Every `StateChange` is logged by "asgi_errorkit.breaker", and told to whoever
    listens.
    """

    def __init__(
        self,
        *,
        maximum: int = 1000,
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
    ) -> None:
        check_whole("maximum", maximum, least=1, example=1000)
        self.forgotten = 0
        self._maximum = maximum
        self._clock = clock
        self._wall_clock = wall_clock
        self._breakers: dict[str, CircuitBreaker] = {}
        self._kept: set[str] = set()
        self._named: set[str] = set()
        self._listeners: list[Callable[[StateChange], object]] = [_log]
        self._lock = RLock()
        # Found by a dictionary's own method: a circuit that never failed costs a look-up.
        self.get = self._breakers.get
        self.across: Across | None = None
        self._rules: dict[CircuitPolicy, int] = {}  # those that requests make circuits with
        reset_in_child(self)

    def of(
        self,
        name: str,
        policy: CircuitPolicy | None = None,
        *,
        error_type: ErrorType | None = None,
        is_kept: bool = False,
        is_named: bool = True,
    ) -> CircuitBreaker:
        """The breaker of this name; ``policy`` and ``error_type`` are those of one that is new.

        One that ``is_kept`` is never forgotten; one that is not ``is_named``, but made by a request,
        is so before others. Without a type, what stands before a colon in the name may say it:
        "model:sdxl".
        """
        found = self._breakers.get(name)
        if found is not None:
            if is_named:  # a request may have made it
                self._named.add(name)
            return found
        check_text("name", name, example="model:sdxl")
        is_new = False
        with self._lock:
            found = self._breakers.get(name)
            if found is None:
                is_new = True
                found = self._made(name, policy, error_type or _type_in(name))
                if is_kept:
                    self._kept.add(name)
                elif len(self._breakers) - len(self._kept) >= self._maximum:
                    self._forget_one()
                if is_named:
                    self._named.add(name)
                self._breakers[name] = found
        if is_new and found._note is not None and self.across is not None:
            self.across.meet(found)  # with no lock held: listeners may be told
        return found

    def act_across(self, across: Across) -> None:
        """Have these act together with those of other workers, but for whose policy says no."""
        with self._lock:
            self.across = across
            for breaker in self._breakers.values():
                self._join(breaker)

    def know(self, policy: CircuitPolicy) -> None:
        """Requests make circuits of that policy: one that other workers tell of is made here too."""
        self._rules[policy] = crc32(repr(policy).encode()) or 1

    def rules_of(self, breaker: CircuitBreaker) -> int:
        """A number for the policy of one that requests have made, the same in all workers; else 0."""
        return 0 if breaker.name in self._named else self._rules.get(breaker.policy, 0)

    def policy_of(self, rules: int) -> CircuitPolicy | None:
        """The policy of that number, if it is known here."""
        return next((policy for policy, known in self._rules.items() if known == rules), None)

    def is_used(self) -> bool:
        """Whether there is any circuit, or requests may make one."""
        return bool(self._breakers or self._rules)

    def with_runs(self) -> list[CircuitBreaker]:
        """Those that open at so many failures in a row."""
        return [breaker for breaker in self.all() if breaker._run_opens]

    def add_listener(self, listener: Callable[[StateChange], object]) -> None:
        """Have a callable told of every `StateChange` of every breaker, outside of any lock."""
        check_callable("listener", listener, "change")
        self._listeners.append(listener)
        with self._lock:
            for breaker in self._breakers.values():
                breaker.add_listener(listener)

    def all(self) -> list[CircuitBreaker]:
        """Those that there are, the oldest first."""
        with self._lock:
            return list(self._breakers.values())

    def open(self) -> dict[str, dict[str, Any]]:
        """What is refused now, by name: since when, for how many errors, and at which threshold."""
        return {
            breaker.name: {
                name: known[name]
                for name in (
                    "state",
                    "triggered_at",
                    "error_count",
                    "threshold",
                    "retry_after_seconds",
                )
            }
            for breaker in self.all()
            if breaker.is_open
            for known in (breaker.as_dict(),)
        }

    def reset_after_fork(self) -> None:
        """In a forked child: whoever held the lock is the parent's."""
        self._lock = RLock()

    def _made(
        self, name: str, policy: CircuitPolicy | None, error_type: ErrorType
    ) -> CircuitBreaker:
        made = CircuitBreaker(name, policy, error_type=error_type)
        # What has been checked before is not checked again: a request may wait for this.
        made._clock, made._wall_clock = self._clock, self._wall_clock
        made._listeners += self._listeners
        self._join(made)
        return made

    def _join(self, breaker: CircuitBreaker) -> None:
        if self.across is not None and breaker.policy.across_workers != "none":
            breaker._places = self.across.places(breaker.name)
            breaker._note = self.across.note

    def _forget_one(self) -> None:
        others = [each for each in self._breakers.values() if each.name not in self._kept]
        others = [each for each in others if each.name not in self._named] or others
        # Not by `state`, which may tell listeners: no lock is held then.
        closed = (each for each in others if each._state is CircuitState.CLOSED)
        gone = next(closed, others[0]).name
        self._named.discard(gone)
        del self._breakers[gone]
        self.forgotten += 1


def _type_in(name: str) -> ErrorType:
    try:
        return ErrorType(name.partition(":")[0])
    except ValueError:
        return ErrorType.EXTERNAL_SERVICE


def _log(change: StateChange) -> None:
    if change.was is change.now:
        logger.warning("the circuit %r would have opened: %s", change.name, change.why)
        return
    level = _LEVELS.get(change.now, logging.INFO)
    logger.log(level, "the circuit %r is %s now: %s", change.name, change.now.value, change.why)
