"""What the workers of a host answer together, from what each has on record."""

from collections.abc import Mapping, Sequence
from math import inf, isfinite
from typing import TYPE_CHECKING, Any, NamedTuple, TypeGuard

from asgi_errorkit.error_counts import error_stats
from asgi_errorkit.options import window_seconds
from asgi_errorkit.redact import Redactor
from asgi_errorkit.request_counts import busiest, request_stats, route_stats
from asgi_errorkit.spool.crash import in_flight as listed
from asgi_errorkit.spool.crash import with_names
from asgi_errorkit.spool.layout import Ending
from asgi_errorkit.spool.owner import Life
from asgi_errorkit.spool.spans import ERRORS, REQUESTS, ROUTES, added_up, requests_of
from asgi_errorkit.spool.totals import Counts

if TYPE_CHECKING:
    from asgi_errorkit.spool.host import Worker

__all__ = ["Heard", "Tally", "breakers", "errors", "groups", "in_flight", "performance"]

_REFUSING = ("open", "forced_open")
_TOLD_OF_OPEN = ("state", "triggered_at", "error_count", "threshold", "retry_after_seconds")
_TOLD_OF_PROCESS = ("cpu_percent", "open_files", "threads", "loop_lag_seconds")
_NAME_LIMIT = 300
_MOST_BREAKERS = 1000


class Heard(NamedTuple):
    """A worker whose segment is there, what it says of itself, and what it has counted."""

    worker: "Worker"
    said: dict[str, Any]
    counts: Counts

    @property
    def is_alive(self) -> bool:
        """Whether it may still be at what it lists."""
        return self.worker.life is not Life.DEAD and self.worker.reading.ending is Ending.OPEN


class Tally(NamedTuple):
    """What all workers have counted at one moment, each request once."""

    heard: list[Heard]
    gone: Counts

    def total(self) -> Counts:
        """All of it."""
        total = Counts()
        for each in self.heard:
            total.add(each.counts)
        total.add(self.gone)
        return total

    def of(self, worker: int | None) -> "Tally":
        """That of the worker with this pid alone, or all of it. Raises ValueError for an unknown pid."""
        if worker is None:
            return self
        heard = [each for each in self.heard if each.worker.owner.pid == worker]
        if not heard:
            known = ", ".join(str(each.worker.owner.pid) for each in self.heard) or "none"
            raise ValueError(
                f"worker must be the pid of one that is there ({known}); got {worker!r}"
            )
        return Tally(heard, Counts())


def errors(tally: Tally, window_minutes: float, now: float) -> dict[str, Any]:
    """As `ErrorTracker.get_error_stats`."""
    seconds = window_seconds(window_minutes)
    total = tally.total()
    counts, _ = added_up(ERRORS, total.errors, seconds, now)
    return error_stats(
        counts,
        window_minutes,
        circuit_breakers=_open_breakers(tally.heard),
        groups=len(total.groups),
    )


def performance(
    tally: Tally, window_minutes: float, now: float, most_routes: int | None = None
) -> dict[str, Any]:
    """As `PerformanceMonitoringMiddleware.get_performance_stats`, and of each worker that is there."""
    seconds = window_seconds(window_minutes)
    total = tally.total()
    counts, _ = added_up(REQUESTS, total.requests, seconds, now)
    alive = [each for each in tally.heard if each.is_alive]
    stats = {
        **request_stats(counts, min(seconds, now - _since(tally, total))),
        "in_flight": sum(len(each.worker.reading.in_flight) for each in alive),
        **_routes(total, seconds, now, most_routes),
        "workers": [_worker(each, now) for each in alive],
    }
    return stats if counts.durations.count else {"message": "No metrics available", **stats}


def groups(tally: Tally) -> list[dict[str, Any]]:
    """Those of all workers, the most recently seen first: each as `ErrorGroup.as_dict`."""
    return tally.total().groups.as_list()


def breakers(tally: Tally) -> list[dict[str, Any]]:
    """Those of each worker that lives, each as `CircuitBreaker.as_dict`, and with its ``pid``."""
    return [
        {"pid": each.worker.owner.pid, **told}
        for each in tally.heard
        if each.is_alive
        for told in _breakers(each.said)
    ]


def in_flight(workers: Sequence["Worker"], now: float, redactor: Redactor) -> list[dict[str, Any]]:
    """What those that live are at, the oldest first, each as a suspect of a crash and with its ``pid``."""
    told = []
    for each in workers:
        if each.life is not Life.DEAD and each.reading.ending is Ending.OPEN:
            offset = each.about.get("clock_offset", 0.0)
            names = with_names(redactor, each.about)
            pid = {"pid": each.owner.pid}
            told += [{**pid, **one} for one in listed(each.reading, now, offset, names)]
    return sorted(told, key=lambda one: float(one["started_at"]))


def _routes(total: Counts, seconds: float, now: float, most: int | None) -> dict[str, Any]:
    labels, left_out = busiest(total.routes, lambda rows: requests_of(rows, seconds, now), most)
    stats = {}
    for label in labels:
        route, _ = added_up(ROUTES, total.routes[label], seconds, now)
        if route.durations.count:
            stats[label] = route_stats(route)
    return {"routes": stats, "routes_left_out": left_out}


def _since(tally: Tally, total: Counts) -> float:
    """Since when anybody has counted, as far as is known."""
    starts = [row[0] for row in total.requests if row and _is_number(row[0])]
    for each in tally.heard:
        about = each.worker.about
        starts.append(about.get("started_at", inf) - about.get("clock_offset", 0.0))
    return min(starts, default=inf)


def _worker(heard: Heard, now: float) -> dict[str, Any]:
    worker = heard.worker
    reading, process = worker.reading, _mapping(heard.said.get("process"))
    measured = {name: process.get(name) for name in _TOLD_OF_PROCESS}
    return {
        "pid": worker.owner.pid,
        **{name: worker.about.get(name) for name in ("app", "release", "started_at")},
        "life": worker.life.value,
        "silent_seconds": max(0.0, now - reading.beats_at),
        "memory_mb": reading.memory_mb,
        **{name: value if _is_number(value) else None for name, value in measured.items()},
        "in_flight": len(reading.in_flight),
        "unlisted": reading.unlisted,
    }


def _open_breakers(heard: Sequence[Heard]) -> dict[str, dict[str, Any]]:
    """By name; where several workers have opened it, as the last of them tells."""
    found: dict[str, dict[str, Any]] = {}
    for each in heard:
        if not each.is_alive:
            continue
        for told in _breakers(each.said):
            if told.get("state") not in _REFUSING:
                continue
            known = found.get(told["name"])
            if known is None or _at(known) <= _at(told):
                found[told["name"]] = {name: told.get(name) for name in _TOLD_OF_OPEN}
    return found


def _at(told: Mapping[str, Any]) -> float:
    at = told.get("triggered_at")
    return float(at) if _is_number(at) else 0.0


def _breakers(said: Mapping[str, Any]) -> list[dict[str, Any]]:
    listed = said.get("breakers")
    known = listed[:_MOST_BREAKERS] if isinstance(listed, list) else []
    return [
        {**each, "name": each["name"][:_NAME_LIMIT]}
        for each in known
        if isinstance(each, dict) and isinstance(each.get("name"), str)
    ]


def _mapping(told: object) -> dict[str, Any]:
    return told if isinstance(told, dict) else {}


def _is_number(told: object) -> TypeGuard[float]:
    return not isinstance(told, bool) and isinstance(told, (int, float)) and isfinite(told)
