"""Answers from a kit that serves: of its host where it keeps a record, else of its process."""

import os
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Protocol

from asgi_errorkit.breaker import CircuitBreaker
from asgi_errorkit.exchange import FIRST_BYTE, ID, MEMORY_BEFORE, METHOD, PATH, STARTED, State
from asgi_errorkit.ops.of_host import group_of, in_flight_of
from asgi_errorkit.redact import Redactor, safe_str
from asgi_errorkit.spool.crash import Phase
from asgi_errorkit.spool.host import Host
from asgi_errorkit.tracker import ErrorTracker

__all__ = ["Kit", "OfKit"]

_WINDOW_MINUTES = 5.0
_CHARS = 192  # of a path, as the record keeps them

_ACTS: Mapping[str, Callable[[CircuitBreaker], None]] = MappingProxyType(
    {
        "force_open": CircuitBreaker.force_open,
        "close": CircuitBreaker.reset,
        "reset": CircuitBreaker.reset,
        "disable": CircuitBreaker.disable,
    }
)


class Kit(Protocol):
    """What is asked of an `asgi_errorkit.ErrorKit`."""

    tracker: ErrorTracker
    host: Host | None

    def get_error_stats(
        self, window_minutes: float = 5, *, worker: int | None = None
    ) -> dict[str, Any]: ...
    def get_performance_stats(
        self, window_minutes: float = 5, *, worker: int | None = None
    ) -> dict[str, Any]: ...
    def status(self) -> dict[str, Any]: ...


class OfKit:
    """See `asgi_errorkit.ops.source.Source`."""

    can_act = True

    def __init__(self, kit: Kit) -> None:
        self._kit = kit
        self.status = kit.status

    def error_stats(self, window_minutes: float, worker: int | None) -> dict[str, Any]:
        """As the kit tells."""
        return self._kit.get_error_stats(window_minutes, worker=worker)

    def performance_stats(self, window_minutes: float, worker: int | None) -> dict[str, Any]:
        """As the kit tells."""
        return self._kit.get_performance_stats(window_minutes, worker=worker)

    def groups(self) -> list[dict[str, Any]]:
        """As the tracker tells, without their samples."""
        return [group.summary() for group in self._kit.tracker.groups()]

    def group(self, fingerprint: str) -> dict[str, Any] | None:
        """As the tracker tells."""
        group = self._kit.tracker.group(fingerprint)
        if group is None:
            return None
        told = group.as_dict()
        if not told["sample"] and self._kit.host is not None:
            return group_of(self._kit.host, fingerprint) or told
        return told

    def breakers(self) -> list[dict[str, Any]]:
        """Those of this worker as they are now, those of the others as they have told of them."""
        tracker, mine = self._kit.tracker, os.getpid()
        own = [{"pid": mine, **told} for told in tracker.own_breakers()]
        if tracker.host is None:
            return own
        return [*own, *(told for told in tracker.breakers() if told.get("pid", mine) != mine)]

    def act(self, name: str, action: str) -> dict[str, Any] | None:
        """Here; the workers of the host follow where the breaker's policy has them act together."""
        breaker = self._kit.tracker.circuits.get(name)
        if breaker is None:
            return None
        _ACTS[action](breaker)
        return {"pid": os.getpid(), **breaker.as_dict()}

    def alerts(self) -> dict[str, Any]:
        """As the kit tells."""
        told: dict[str, Any] = self.status()["alert_summary"]
        return told

    def in_flight(self) -> list[dict[str, Any]]:
        """Of all workers that live, where they keep a record."""
        if self._kit.host is not None:
            return in_flight_of(self._kit.host)
        recorder = self._kit.tracker.recorder
        going = recorder.read(lambda: [*recorder.amid.values(), *recorder.guests.values()])
        now, at = recorder.clock(), recorder.wall_clock()
        memory, redactor = recorder.sampled().memory_mb, self._kit.tracker.redactor
        listed = [_told(state, now, at, memory, redactor) for state in going]
        return sorted(listed, key=lambda told: -float(told["age_seconds"]))

    def crashes(self) -> list[dict[str, Any]] | None:
        """As the host tells."""
        return None if self._kit.host is None else self._kit.host.crashes()

    def workers(self) -> list[dict[str, Any]]:
        """All that live, where they keep a record; else this one."""
        told = self.performance_stats(_WINDOW_MINUTES, None)
        listed: list[dict[str, Any]] | None = told.get("workers")
        if listed is not None:
            return listed
        whose = {"pid": os.getpid(), "release": self._kit.tracker.release}
        return [{**whose, **told["process"], "in_flight": told["in_flight"]}]


def _told(
    state: State, now: float, at: float, memory_mb: float, redactor: Redactor
) -> dict[str, Any]:
    """As `asgi_errorkit.spool.crash.in_flight`."""
    age = max(0.0, now - state[STARTED])
    before = state[MEMORY_BEFORE]
    return {
        "pid": os.getpid(),
        "request_id": _printable(state[ID]),
        "method": _printable(state[METHOD]),
        "path": _printable(redactor.text(state[PATH], _CHARS)),
        "phase": Phase.RUNNING if state[FIRST_BYTE] is None else Phase.ANSWERING,
        "started_at": at - age,
        "age_seconds": round(age, 6),
        "memory_mb_at_start": before,
        "memory_growth_mb": round(memory_mb - before, 3) if before else 0.0,
    }


def _printable(told: object) -> str:
    """What comes from a client, and is shown."""
    return "".join(c if c.isprintable() else "?" for c in safe_str(told, _CHARS))
