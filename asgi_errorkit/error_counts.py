"""What went wrong within a span of time, as counts that add up over spans and over workers."""

from typing import Any

from asgi_errorkit.errors import ErrorAction, ErrorInfo

__all__ = ["ErrorCounts", "error_stats"]


class ErrorCounts:
    """Requests, those that failed, and errors by type and severity."""

    __slots__ = ("alerting", "by_severity", "by_type", "client_errors", "failed", "requests")

    def __init__(self) -> None:
        self.requests = 0
        self.failed = 0
        self.client_errors = 0
        self.by_type: dict[str, int] = {}
        self.by_severity: dict[str, int] = {}
        self.alerting: dict[str, tuple[int, int]] = {}  # type: errors, threshold

    def add(self, info: ErrorInfo) -> None:
        """Count an error."""
        name, severity = info.error_type.value, info.severity.value
        self.by_type[name] = self.by_type.get(name, 0) + 1
        self.by_severity[severity] = self.by_severity.get(severity, 0) + 1
        if info.action is ErrorAction.ALERT:
            self.alerting[name] = self.alerting.get(name, (0, 0))[0] + 1, info.alert_threshold

    def merge(self, other: "ErrorCounts") -> None:
        """Count everything that the other has counted."""
        self.requests += other.requests
        self.failed += other.failed
        self.client_errors += other.client_errors
        for mine, others in (
            (self.by_type, other.by_type),
            (self.by_severity, other.by_severity),
        ):
            for name, number in others.items():
                mine[name] = mine.get(name, 0) + number
        for name, (errors, threshold) in other.alerting.items():
            self.alerting[name] = self.alerting.get(name, (0, 0))[0] + errors, threshold


def error_stats(
    total: ErrorCounts,
    window_minutes: float,
    *,
    circuit_breakers: dict[str, dict[str, Any]],
    groups: int,
) -> dict[str, Any]:
    """The statistics of a window as plain JSON-able data: see `ErrorTracker.get_error_stats`."""
    errors = sum(total.by_type.values())
    return {
        "total_errors": errors,
        "errors_by_type": total.by_type,
        "errors_by_severity": total.by_severity,
        "error_rate": errors / window_minutes,
        "circuit_breakers": circuit_breakers,
        "recent_alerts": [],
        "total_requests": total.requests,
        "failed_requests": total.failed,
        "client_errors": total.client_errors,
        "error_ratio": total.failed / total.requests if total.requests else 0.0,
        "alerts_asked": _asked(total),
        "alerts_due": {
            name: asked
            for name, asked in _asked(total).items()
            if asked["errors"] >= asked["threshold"]
        },
        "error_groups": groups,
        "window_minutes": window_minutes,
    }


def _asked(counts: ErrorCounts) -> dict[str, dict[str, int]]:
    """The types with errors whose policy asks for an alert, how many, and from how many on."""
    return {
        name: {"errors": errors, "threshold": threshold}
        for name, (errors, threshold) in counts.alerting.items()
    }
