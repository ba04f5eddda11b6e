"""The shapes of all that is told: what a document may have, and how each of it is judged."""

from collections.abc import Mapping
from typing import Any, Final

from asgi_errorkit.cli.judges import (
    Shape,
    as_shape,
    by_name,
    context,
    listed,
    number,
    one,
    source_lines,
    text,
    whole,
    words,
    yes,
)

__all__ = [
    "as_breaker",
    "as_crash",
    "as_errors",
    "as_group",
    "as_performance",
    "as_request",
    "as_worker",
]

_MOST_SUSPECTS = 100
_MOST_SAMPLES = 100
_MOST_ROUTES = 500
_MOST_LINKS = 32
_MOST_FRAMES = 100
_MOST_OCCURRENCES = 10


def as_crash(told: Mapping[str, Any]) -> dict[str, Any]:
    """The entry of a worker that died."""
    return as_shape(_CRASH, told)


def as_request(told: Mapping[str, Any]) -> dict[str, Any]:
    """A request that a worker is, or was, at."""
    return as_shape(_REQUEST, told)


def as_worker(told: Mapping[str, Any]) -> dict[str, Any]:
    """A worker whose segment is there."""
    return as_shape(_WORKER, told)


def as_group(told: Mapping[str, Any]) -> dict[str, Any]:
    """A group of errors, with its sample."""
    return as_shape(_GROUP, told)


def as_errors(told: Mapping[str, Any]) -> dict[str, Any]:
    """The statistics of errors of a window."""
    return as_shape(_ERRORS, told)


def as_performance(told: Mapping[str, Any]) -> dict[str, Any]:
    """The statistics of requests of a window."""
    return as_shape(_PERFORMANCE, told)


def as_breaker(told: Mapping[str, Any]) -> dict[str, Any]:
    """A circuit breaker of one worker."""
    return as_shape(_BREAKER, told)


_REQUEST: Final[Shape] = {
    "request_id": text,
    "method": text,
    "path": text,
    "phase": text,
    "started_at": number,
    "age_seconds": number,
    "memory_mb_at_start": number,
    "memory_growth_mb": number,
}
_ABOUT: Final[Shape] = {"pid": whole, "app": text, "release": text, "started_at": number}
_RESOURCES: Final[Shape] = dict.fromkeys(
    ("at", "memory_mb", "cpu_percent", "loop_lag_seconds"), number
)
_ENDED: Final[Shape] = {
    "request_id": text,
    "method": text,
    "path": text,
    "status_code": whole,
    "duration": number,
    "ended_at": number,
}
_CRASH: Final[Shape] = {
    **_ABOUT,
    "last_seen_at": number,
    "found_at": number,
    "memory_mb": number,
    "in_flight": whole,
    "unlisted": whole,
    "suspects": listed(_REQUEST, _MOST_SUSPECTS),
    "damaged": yes,
    "resources": listed(_RESOURCES, _MOST_SAMPLES),
    "recent": listed(_ENDED, _MOST_SAMPLES),
}
_WORKER: Final[Shape] = {
    **_ABOUT,
    "life": text,
    "silent_seconds": number,
    "memory_mb": number,
    "in_flight": whole,
    "unlisted": whole,
}
_FRAME: Final[Shape] = {
    "file": words,
    "line": whole,
    "function": text,
    "in_app": yes,
    "source": source_lines,
}
_LINK: Final[Shape] = {
    "type": text,
    "message": words,
    "relation": text,
    "frames": listed(_FRAME, _MOST_FRAMES),
    "frames_left_out": whole,
}
_EXCEPTION: Final[Shape] = {
    **_LINK,
    "causes": listed(_LINK, _MOST_LINKS),
    "dropped": by_name(whole),
}
_SAMPLE: Final[Shape] = {
    "at": number,
    "release": text,
    "request_id": text,
    "trace_id": text,
    "method": text,
    "path": words,
    "query": words,
    "status_code": whole,
    "headers": by_name(words),
    "exception": one(_EXCEPTION),
    "context": context,
}
_OCCURRENCE: Final[Shape] = {
    "at": number,
    "request_id": text,
    "route": text,
    "status_code": whole,
    "outcome": text,
    "pid": whole,
}
_GROUP: Final[Shape] = {
    "fingerprint": text,
    "error_type": text,
    "type_name": text,
    "message": words,
    "where": words,
    "first_seen": number,
    "last_seen": number,
    "release": text,
    "count": whole,
    "routes": by_name(whole),
    "latest": listed(_OCCURRENCE, _MOST_OCCURRENCES),
    "sample": one(_SAMPLE),
}
_ERRORS: Final[Shape] = {
    "total_requests": whole,
    "failed_requests": whole,
    "client_errors": whole,
    "error_ratio": number,
    "total_errors": whole,
    "error_rate": number,
    "errors_by_type": by_name(whole),
    "errors_by_severity": by_name(whole),
    "alerts_due": by_name(one({"errors": whole, "threshold": whole})),
}
_QUANTILES: Final[Shape] = dict.fromkeys(("p50", "p90", "p95", "p99", "p99.9"), number)
_PERFORMANCE: Final[Shape] = {
    "total_requests": whole,
    "requests_per_second": number,
    "in_flight": whole,
    "avg_duration": number,
    "max_duration": number,
    "min_duration": number,
    "percentiles": one(_QUANTILES),
    "time_to_first_byte": one(_QUANTILES),
    "outcomes": by_name(whole),
    "slow_requests": whole,
    "routes": by_name(
        one(
            {
                "requests": whole,
                "failed": whole,
                "avg_duration": number,
                "max_duration": number,
                **_QUANTILES,
            }
        ),
        _MOST_ROUTES,
    ),
}
_BREAKER: Final[Shape] = {
    "pid": whole,
    "name": text,
    "state": text,
    "error_type": text,
    "calls": whole,
    "failed": whole,
    "slow": whole,
    "triggered_at": number,
    "error_count": number,
    "threshold": number,
    "retry_after_seconds": number,
    "rejected": whole,
}
