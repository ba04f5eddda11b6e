"""Answers from a kit that serves: of its host where it keeps a record, else of its process."""

import os
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol

from asgi_errorkit.breaker import CircuitBreaker
from asgi_errorkit.exchange import FIRST_BYTE, ID, MEMORY_BEFORE, METHOD, PATH, STARTED, State
from asgi_errorkit.host_answers import at_once
from asgi_errorkit.ops.of_host import group_of, with_resolved
from asgi_errorkit.redact import Redactor, safe_str
from asgi_errorkit.spool.crash import Phase
from asgi_errorkit.spool.host import Host
from asgi_errorkit.tracker import ErrorTracker

if TYPE_CHECKING:
    from asgi_errorkit.alerts import Alerts

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
    alerts: "Alerts | None"

    def get_error_stats(
        self, window_minutes: float = 5, *, worker: int | None = None
    ) -> dict[str, Any]: ...
    def get_performance_stats(
        self,
        window_minutes: float = 5,
        *,
        worker: int | None = None,
        most_routes: int | None = None,
    ) -> dict[str, Any]: ...
    def status(self) -> dict[str, Any]: ...


class OfKit:
    """See `asgi_errorkit.ops.source.Source`."""

    can_act = True

    def __init__(self, kit: Kit) -> None:
        self._kit = kit
        self.status = kit.status

    @property
    def can_silence(self) -> bool:
        """Where there are alerts."""
        return self._alerts is not None

    @property
    def can_resolve(self) -> bool:
        """The same: it is an alert when a resolved error comes again."""
        return self._alerts is not None

    @property
    def _alerts(self) -> "Alerts | None":
        return getattr(self._kit, "alerts", None)  # what looks like a kit may have none

    def _asked_alerts(self) -> "Alerts":
        alerts = self._alerts
        assert alerts is not None  # noqa: S101  it is not asked for where it cannot be done
        return alerts

    def error_stats(self, window_minutes: float, worker: int | None) -> dict[str, Any]:
        """As the kit tells."""
        return self._kit.get_error_stats(window_minutes, worker=worker)

    def performance_stats(
        self, window_minutes: float, worker: int | None, most_routes: int | None = None
    ) -> dict[str, Any]:
        """As the kit tells."""
        return self._kit.get_performance_stats(
            window_minutes, worker=worker, most_routes=most_routes
        )

    def at_once(self) -> AbstractContextManager[None]:
        """Where the workers keep a record."""
        return at_once(self._kit.tracker.host)

    def groups(self) -> list[dict[str, Any]]:
        """As the tracker tells, without their occurrences and samples."""
        resolved = self._resolved()
        return [with_resolved(group.summary(), resolved) for group in self._kit.tracker.groups()]

    def group(self, fingerprint: str) -> dict[str, Any] | None:
        """As the tracker tells."""
        group = self._kit.tracker.group(fingerprint)
        if group is None:
            return None
        told = group.as_dict()
        if not told["sample"] and self._kit.host is not None:
            told = group_of(self._kit.host, fingerprint) or told
        return with_resolved(told, self._resolved())

    def resolve(self, fingerprint: str) -> dict[str, Any] | None:
        """For the whole host."""
        if self._kit.tracker.group(fingerprint) is None:
            return None
        alerts = self._asked_alerts()
        at = alerts.resolve(fingerprint)
        alerts.evaluate()
        return {"fingerprint": fingerprint, "resolved_at": at}

    def _resolved(self) -> Mapping[str, float]:
        return {} if self._alerts is None else self._alerts.resolved

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
        if self._alerts is not None:
            return self._alerts.get_alert_summary()
        told: dict[str, Any] = self.status()["alert_summary"]
        return told

    def silence(self, what: str, seconds: float, why: str) -> dict[str, Any]:
        """For the whole host."""
        alerts = self._asked_alerts()
        until = alerts.silence(what, seconds=seconds, why=why)
        alerts.evaluate()  # so that it holds now, and not with the next look
        return {"what": what, "until": until, "why": why}

    def unsilence(self, what: str) -> dict[str, Any]:
        """For the whole host."""
        alerts = self._asked_alerts()
        alerts.unsilence(what)
        alerts.evaluate()
        return {"what": what, "until": None}

    def in_flight(self) -> list[dict[str, Any]]:
        """Of all workers that live, where they keep a record."""
        if self._kit.host is not None:
            return self._kit.host.in_flight()
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
        told = self.performance_stats(_WINDOW_MINUTES, None, 0)
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
