# ruff: noqa: SLF001  breakers and each of them are one thing in two parts
"""Circuit breakers by name, of a bounded number."""

import logging
from collections.abc import Callable
from threading import RLock
from typing import Any

from asgi_errorkit.breaker import CircuitBreaker
from asgi_errorkit.circuit_policy import CircuitPolicy
from asgi_errorkit.circuit_state import CircuitState, StateChange
from asgi_errorkit.errors import ErrorType
from asgi_errorkit.forks import reset_in_child
from asgi_errorkit.options import check_callable, check_text, check_whole

__all__ = ["Breakers"]

logger = logging.getLogger("asgi_errorkit.breaker")

_LEVELS = {
    CircuitState.OPEN: logging.CRITICAL,
    CircuitState.FORCED_OPEN: logging.CRITICAL,
    CircuitState.METRICS_ONLY: logging.WARNING,
}


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
        with self._lock:
            found = self._breakers.get(name)
            if found is None:
                found = self._made(name, policy, error_type or _type_in(name))
                if is_kept:
                    self._kept.add(name)
                elif len(self._breakers) - len(self._kept) >= self._maximum:
                    self._forget_one()
                if is_named:
                    self._named.add(name)
                self._breakers[name] = found
        return found

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
        return made

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
