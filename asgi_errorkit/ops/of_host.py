"""Answers from the record of a host's workers on disk, whether the app runs or not."""

import time
from typing import Any

from asgi_errorkit.redact import Redactor
from asgi_errorkit.spool.crash import in_flight, with_names
from asgi_errorkit.spool.host import Host, Worker
from asgi_errorkit.spool.owner import Life

__all__ = ["OfHost", "group_of", "in_flight_of"]

_WINDOW_MINUTES = 5.0


class OfHost:
    """See `asgi_errorkit.ops.source.Source`. It reads, and changes nothing."""

    can_act = False

    def __init__(self, host: Host) -> None:
        self._host = host
        self.breakers = host.breakers
        self.crashes = host.crashes

    def error_stats(self, window_minutes: float, worker: int | None) -> dict[str, Any]:
        """As the host tells."""
        return self._host.error_stats(window_minutes, worker=worker)

    def performance_stats(self, window_minutes: float, worker: int | None) -> dict[str, Any]:
        """As the host tells."""
        return self._host.performance_stats(window_minutes, worker=worker)

    def groups(self) -> list[dict[str, Any]]:
        """As the host tells, without their samples."""
        return [_without_sample(group) for group in self._host.groups()]

    def group(self, fingerprint: str) -> dict[str, Any] | None:
        """One group of those of all workers."""
        return group_of(self._host, fingerprint)

    def act(self, name: str, action: str) -> dict[str, Any] | None:
        """Nothing can be done from outside of the app."""
        return None

    def alerts(self) -> dict[str, Any]:
        """As the statistics tell."""
        recent = self.error_stats(_WINDOW_MINUTES, None)["recent_alerts"]
        return {"total_alerts": len(recent), "recent_alerts": recent}

    def in_flight(self) -> list[dict[str, Any]]:
        """Of all workers that live."""
        return in_flight_of(self._host)

    def workers(self) -> list[dict[str, Any]]:
        """As the host tells."""
        told: list[dict[str, Any]] = self.performance_stats(_WINDOW_MINUTES, None)["workers"]
        return told

    def status(self) -> dict[str, Any]:
        """As `ErrorKit.status`, as far as it is on record."""
        errors = self.error_stats(_WINDOW_MINUTES, None)
        return {
            "error_stats": errors,
            "performance_stats": self.performance_stats(_WINDOW_MINUTES, None),
            "alert_summary": self.alerts(),
            "circuit_breakers": errors["circuit_breakers"],
            "breakers": self.breakers(),
            "timestamp": time.time(),
        }


def _without_sample(group: dict[str, Any]) -> dict[str, Any]:
    return {name: told for name, told in group.items() if name != "sample"}


def group_of(host: Host, fingerprint: str) -> dict[str, Any] | None:
    """One group with its sample, which lists leave out where all of them are too much."""
    return host.tally().total().groups.by_key().get(fingerprint)


def in_flight_of(host: Host) -> list[dict[str, Any]]:
    """What the workers that live are at, the oldest first, each with its ``pid``."""
    now = time.perf_counter()
    running = [worker for worker in host.workers() if worker.life is not Life.DEAD]
    listed = [told for worker in running for told in _requests_of(worker, now)]
    return sorted(listed, key=lambda told: -float(told["age_seconds"]))


def _requests_of(worker: Worker, now: float) -> list[dict[str, Any]]:
    offset = worker.about.get("clock_offset", 0.0)
    redactor = with_names(Redactor(), worker.about)
    return [
        {"pid": worker.owner.pid, **told}
        for told in in_flight(worker.reading, now, offset, redactor)
    ]
