"""What `top` sees at one look, bounded and of one shape, wherever it was read."""

from collections.abc import Mapping
from heapq import nlargest
from typing import Any, Final, NamedTuple

from asgi_errorkit.cli.judges import Shape, as_shape, by_name, listed, number, text, whole, words
from asgi_errorkit.cli.shapes import (
    as_breaker,
    as_crash,
    as_errors,
    as_group,
    as_performance,
    as_request,
    as_worker,
)

__all__ = ["Picture", "as_picture", "as_told_group"]

_MOST_ROWS = 500
_MOST_ALERTS = 100
_MOST_ROUTES = 500  # as many as are judged

_PROCESS: Final[Shape] = dict.fromkeys(("cpu_percent", "loop_lag_seconds"), number)
_ALERT: Final[Shape] = {
    "type": text,
    "key": text,
    "message": words,
    "severity": text,
    "status": text,
    "muted": text,
    "count": whole,
    "since": number,
    "timestamp": number,
}
_SILENCE: Final[Shape] = {"what": text, "why": text, "until": number}
_ALERTS: Final[Shape] = {
    "total_alerts": whole,
    "firing": listed(_ALERT, _MOST_ALERTS),
    "recent_alerts": listed(_ALERT, _MOST_ALERTS),
    "silences": listed(_SILENCE, _MOST_ALERTS),
}
_COUNTS: Final = by_name(whole)


class Picture(NamedTuple):
    """Everything at one look: windows of five minutes and of the last seconds, and what is there."""

    errors: dict[str, Any]
    performance: dict[str, Any]
    errors_lately: dict[str, Any]
    lately: dict[str, Any]
    workers: list[dict[str, Any]]
    breakers: list[dict[str, Any]]
    groups: list[dict[str, Any]]
    requests: list[dict[str, Any]]
    crashes: list[dict[str, Any]]
    alerts: dict[str, Any]


def as_picture(told: Mapping[str, Any]) -> Picture:
    """What is told of each part, None where it makes no sense: it may be of any shape."""
    return Picture(
        errors=as_errors(_mapping(told.get("errors"))),
        performance=_performance(told.get("performance")),
        errors_lately=as_errors(_mapping(told.get("errors_lately"))),
        lately=_performance(told.get("lately")),
        workers=[
            {**as_worker(each), **as_shape(_PROCESS, each)} for each in _rows(told.get("workers"))
        ],
        breakers=[as_breaker(each) for each in _rows(told.get("breakers"))],
        groups=[as_group(each) for each in _rows(told.get("groups"))],
        requests=[
            {"pid": whole(each.get("pid")), **as_request(each)}
            for each in _rows(told.get("requests"))
        ],
        crashes=[as_crash(each) for each in _rows(told.get("crashes"))],
        alerts=as_shape(_ALERTS, _mapping(told.get("alerts"))),
    )


def as_told_group(told: Mapping[str, Any]) -> dict[str, Any]:
    """A group with its sample; an ops app tells apart how often it occurred."""
    return as_group({**told, **_mapping(told.get("occurrences"))})


def _performance(told: object) -> dict[str, Any]:
    """With the busiest routes, if there are too many, and how many there are."""
    stats = _mapping(told)
    routes = _mapping(stats.get("routes"))
    if len(routes) > _MOST_ROUTES:
        busiest = nlargest(_MOST_ROUTES, routes.items(), key=lambda pair: _requests_of(pair[1]))
        stats = {**stats, "routes": dict(busiest)}
    left_out = max(0, len(routes) - _MOST_ROUTES) + (whole(stats.get("routes_left_out")) or 0)
    return {**as_performance(stats), "routes_left_out": left_out}


def _requests_of(route: object) -> int:
    return whole(_mapping(route).get("requests")) or 0


def _mapping(told: object) -> Mapping[str, Any]:
    return told if isinstance(told, dict) else {}


def _rows(told: object) -> list[dict[str, Any]]:
    first = told[:_MOST_ROWS] if isinstance(told, list) else []
    return [each for each in first if isinstance(each, dict)]
