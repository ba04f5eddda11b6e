"""Answers from the record of a host's workers on disk, whether the app runs or not."""

import time
from collections.abc import Mapping
from typing import Any

from asgi_errorkit.spool.host import Host

__all__ = ["OfHost", "group_of", "kept_alerts", "with_resolved"]

_WINDOW_MINUTES = 5.0


class OfHost:
    """See `asgi_errorkit.ops.source.Source`. It reads, and changes nothing."""

    can_act = False

    def __init__(self, host: Host) -> None:
        self._host = host
        self.at_once = host.at_once
        self.breakers = host.breakers
        self.crashes = host.crashes
        self.in_flight = host.in_flight

    def error_stats(self, window_minutes: float, worker: int | None) -> dict[str, Any]:
        """As the host tells, and which alerts there have been."""
        told = self._host.error_stats(window_minutes, worker=worker)
        return {**told, "recent_alerts": self.alerts()["recent_alerts"]}

    def performance_stats(
        self, window_minutes: float, worker: int | None, most_routes: int | None = None
    ) -> dict[str, Any]:
        """As the host tells."""
        return self._host.performance_stats(window_minutes, worker=worker, most_routes=most_routes)

    def groups(self) -> list[dict[str, Any]]:
        """As the host tells, without their occurrences and samples."""
        resolved = self._kept()[1]
        return [with_resolved(_without_sample(group), resolved) for group in self._host.groups()]

    def group(self, fingerprint: str) -> dict[str, Any] | None:
        """One group of those of all workers."""
        group = group_of(self._host, fingerprint)
        return None if group is None else with_resolved(group, self._kept()[1])

    def act(self, name: str, action: str) -> dict[str, Any] | None:
        """Nothing can be done from outside of the app."""
        return None

    def alerts(self) -> dict[str, Any]:
        """As the worker that alerts, or did so last, has kept it for the next."""
        return self._kept()[0]

    def _kept(self) -> tuple[dict[str, Any], Mapping[str, float]]:
        return kept_alerts(self._host)

    def workers(self) -> list[dict[str, Any]]:
        """As the host tells."""
        told: list[dict[str, Any]] = self.performance_stats(_WINDOW_MINUTES, None, 0)["workers"]
        return told

    def status(self) -> dict[str, Any]:
        """As `ErrorKit.status`, as far as it is on record."""
        with self.at_once():
            return self._status()

    def _status(self) -> dict[str, Any]:
        errors = self.error_stats(_WINDOW_MINUTES, None)
        return {
            "error_stats": errors,
            "performance_stats": self.performance_stats(_WINDOW_MINUTES, None),
            "alert_summary": self.alerts(),
            "circuit_breakers": errors["circuit_breakers"],
            "breakers": self.breakers(),
            "timestamp": time.time(),
        }


def kept_alerts(host: Host) -> tuple[dict[str, Any], Mapping[str, float]]:
    """What is on record of alerts, and which groups are resolved since when.

    ``is_damaged`` says that it makes no sense, and ``channels`` are not on record.
    """
    from asgi_errorkit.alerts.kept import kept_by  # noqa: PLC0415  only who asks for it pays
    from asgi_errorkit.alerts.record import AlertRecord  # noqa: PLC0415

    try:
        told, resolved = kept_by(AlertRecord(host.directory), time.time())
    except ValueError:
        return {"total_alerts": 0, "recent_alerts": [], "is_damaged": True}, {}
    return {**told, "is_damaged": False}, resolved


def with_resolved(group: dict[str, Any], resolved: Mapping[str, float]) -> dict[str, Any]:
    """A group, and since when it is taken for mended: None if it is not, or was seen since."""
    at = resolved.get(group["fingerprint"])
    is_mended = at is not None and group["last_seen"] <= at
    return {**group, "resolved_at": at if is_mended else None}


def _without_sample(group: dict[str, Any]) -> dict[str, Any]:
    return {name: told for name, told in group.items() if name not in ("sample", "latest")}


def group_of(host: Host, fingerprint: str) -> dict[str, Any] | None:
    """One group with its sample, which lists leave out where all of them are too much."""
    return host.tally().total().groups.by_key().get(fingerprint)
