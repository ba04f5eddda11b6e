"""What is asked of the statistics: the kit's own rules, as plain functions over figures."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple, TypeAlias

from asgi_errorkit.alerts.finding import Finding
from asgi_errorkit.alerts.totals import Total
from asgi_errorkit.errors import ErrorType
from asgi_errorkit.options import HISTORY_MINUTES, check_number, check_whole

__all__ = ["Figures", "Objective", "Rule", "Thresholds", "burning", "kit_rules", "worker_died"]

_DAY_SECONDS = 86_400.0

BURN_RATES = (
    (14.4, 3600.0, 300.0, "critical"),
    (6.0, 6 * 3600.0, 1800.0, "high"),
    (1.0, 3 * _DAY_SECONDS, 6 * 3600.0, "medium"),
)
"""How many times as fast as the objective allows failures come, over a long and a short window in
seconds, and how bad that is (Google, The Site Reliability Workbook, chapter 5, table 5-8)."""

ALERTS_OF_TYPES: Mapping[ErrorType, tuple[str, str]] = MappingProxyType(
    {
        ErrorType.DATABASE: ("DATABASE_CONNECTION_FAILED", "high"),
        ErrorType.MODEL: ("MODEL_LOADING_FAILED", "high"),
        ErrorType.EXTERNAL_SERVICE: ("EXTERNAL_SERVICE_DOWN", "high"),
        ErrorType.RATE_LIMIT: ("RATE_LIMIT_EXCEEDED", "medium"),
        ErrorType.AUTHENTICATION: ("AUTHENTICATION_FAILURES", "medium"),
        ErrorType.AUTHORIZATION: ("PERMISSION_DENIED", "medium"),
    }
)


class Figures(NamedTuple):
    """What rules look at.

    ``errors`` is what `ErrorTracker.get_error_stats` tells of the window, ``performance`` what
    `get_performance_stats` tells, or empty without that part; ``alert_thresholds`` are those of the
    policies, by the values of the types; ``total`` tells of the last so many seconds, three days at
    most; ``now`` is seconds of a clock that does not go back.
    """

    errors: Mapping[str, Any]
    performance: Mapping[str, Any]
    alert_thresholds: Mapping[str, int]
    total: Callable[[float], Total]
    now: float


Rule: TypeAlias = Callable[[Figures], Finding | Iterable[Finding] | None]


@dataclass(frozen=True, slots=True)
class Thresholds:
    """From where on the kit's own rules alert; None switches one off.

    Within ``window_minutes`` (5, at most 60): errors that are not the client's, ``errors_per_minute``
    (5, the guide's), if they also make ``error_ratio`` (0.05) of the requests where there are
    ``least_requests`` (20); a 95th percentile of ``slow_seconds`` (5, as slow requests are warned
    of). At a sample: resident memory of a worker of ``memory_mb`` (1,024, as above), and of event
    loops that wait for their turn ``loop_lag_seconds`` (1). ``of_types`` are numbers of errors of a
    type in the place of its policy's ``alert_threshold``. An error is back when it was gone for
    ``gone_seconds`` (a day). Raises TypeError or ValueError.
    """

    window_minutes: float = 5
    errors_per_minute: float | None = 5.0
    error_ratio: float | None = 0.05
    least_requests: int = 20
    slow_seconds: float | None = 5.0
    memory_mb: float | None = 1024.0
    loop_lag_seconds: float | None = 1.0
    of_types: Mapping[ErrorType, int | None] = field(default_factory=dict)
    gone_seconds: float = _DAY_SECONDS

    def __post_init__(self) -> None:
        check_number(
            "window_minutes", self.window_minutes, above=0, most=HISTORY_MINUTES, example=5
        )
        for name, example in (
            ("errors_per_minute", 5.0),
            ("error_ratio", 0.05),
            ("slow_seconds", 5.0),
            ("memory_mb", 1024.0),
            ("loop_lag_seconds", 1.0),
        ):
            if (value := getattr(self, name)) is not None:
                check_number(name, value, least=0, example=example)
        check_whole("least_requests", self.least_requests, least=1, example=20)
        check_number("gone_seconds", self.gone_seconds, least=3600, example=_DAY_SECONDS)
        _check_of_types(self.of_types)


def _check_of_types(given: object) -> None:
    if not isinstance(given, Mapping) or not all(isinstance(each, ErrorType) for each in given):
        raise TypeError(
            f"of_types must map ErrorType to numbers, e.g. {{ErrorType.MODEL: 10}}; got {given!r:.200}"
        )
    for error_type, number in given.items():
        if number is not None:
            check_whole(f"of_types[{error_type}]", number, least=1, example=10)


@dataclass(frozen=True, slots=True)
class Objective:
    """What share of requests is to go well, such as 0.999, for alerts on how fast that is missed.

    They ask for ``least_requests`` (100) in the long window, for of a few requests one failure says
    nothing. Raises TypeError or ValueError.
    """

    ratio: float
    least_requests: int = 100

    def __post_init__(self) -> None:
        check_number("ratio", self.ratio, above=0, most=0.999999, example=0.999)
        check_whole("least_requests", self.least_requests, least=1, example=100)


def kit_rules(thresholds: Thresholds) -> list[Rule]:
    """The rules that every kit has."""
    return [partial(rule, thresholds) for rule in _RULES]


def high_error_rate(thresholds: Thresholds, figures: Figures) -> Iterator[Finding]:
    """More errors a minute than allowed, and, where there is traffic, too large a part of it."""
    errors, least = figures.errors, thresholds.least_requests
    number = errors["total_errors"] - errors["client_errors"]
    rate = max(0, number) / errors["window_minutes"]
    requests, ratio = errors["total_requests"], errors["error_ratio"]
    by_rate, by_ratio = thresholds.errors_per_minute, thresholds.error_ratio
    has_traffic = requests >= least
    if by_rate is None and (by_ratio is None or not has_traffic):
        return
    if by_rate is not None and rate <= by_rate:
        return
    if by_ratio is not None and has_traffic and ratio <= by_ratio:
        return
    told = f", {ratio:.1%} of {requests:,} requests failed" if requests else ""
    yield Finding(
        "HIGH_ERROR_RATE",
        f"Error rate is {rate:.2f} errors/minute{told}",
        subject="requests",
        values={"error_rate": rate, "error_ratio": ratio, "total_requests": requests},
    )


def circuit_breaker_triggered(thresholds: Thresholds, figures: Figures) -> Iterator[Finding]:
    """Each circuit that is open: it refuses calls, or, that of a type of errors, says so if asked."""
    for name, told in figures.errors["circuit_breakers"].items():
        errors = f" after {told['error_count']} errors" if told.get("error_count") else ""
        yield Finding(
            "CIRCUIT_BREAKER_TRIGGERED",
            _told_of_circuit(name, errors),
            "critical",
            key=f"CIRCUIT_BREAKER_TRIGGERED:{name}",
            subject=f"errors:{name.partition(':')[0]}",
            values={"breaker": name, **told},
        )


def _told_of_circuit(name: str, errors: str) -> str:
    if name not in _TYPES:
        return f"The circuit {name!r} is open{errors}"
    return (
        f"The circuit of errors of the type {name!r} is open{errors}: "
        "it refuses nothing unless code asks it"
    )


def memory_usage_high(thresholds: Thresholds, figures: Figures) -> Iterator[Finding]:
    """Each worker whose resident memory is too much."""
    limit = thresholds.memory_mb
    for pid, memory in _of_workers(figures, "memory_mb", limit):
        yield Finding(
            "MEMORY_USAGE_HIGH",
            f"Worker {pid} uses {memory:,.0f} MB, more than {limit:,.0f}",
            key=f"MEMORY_USAGE_HIGH:{pid}",
            values={"pid": pid, "memory_mb": memory},
        )


def event_loop_blocked(thresholds: Thresholds, figures: Figures) -> Iterator[Finding]:
    """Each worker whose event loop has kept others waiting for too long."""
    for pid, lag in _of_workers(figures, "loop_lag_seconds", thresholds.loop_lag_seconds):
        yield Finding(
            "EVENT_LOOP_BLOCKED",
            f"The event loop of worker {pid} was blocked for {lag:.2f} s",
            "medium",
            key=f"EVENT_LOOP_BLOCKED:{pid}",
            values={"pid": pid, "loop_lag_seconds": lag},
        )


def _of_workers(figures: Figures, name: str, limit: float | None) -> Iterator[tuple[object, float]]:
    process = figures.performance.get("process")
    workers = figures.performance.get("workers") or ([process] if process else [])
    for worker in workers:
        value = worker.get(name)
        if limit is not None and value is not None and value > limit:
            yield worker.get("pid", os.getpid()), value


def slow_response_time(thresholds: Thresholds, figures: Figures) -> Iterator[Finding]:
    """Too slow a 95th percentile, where there is traffic."""
    told, limit = figures.performance, thresholds.slow_seconds
    if limit is None or told.get("total_requests", 0) < thresholds.least_requests:
        return
    p95 = told["percentiles"]["p95"]
    if p95 <= limit:
        return
    slowest = max(told["routes"].items(), key=lambda each: each[1]["p95"], default=None)
    where = f"; the slowest is {slowest[0]} with {slowest[1]['p95']:.2f} s" if slowest else ""
    yield Finding(
        "SLOW_RESPONSE_TIME",
        f"1 of 20 responses takes {p95:.2f} s or longer{where}",
        "medium",
        values={"p95_seconds": p95, "route": slowest[0] if slowest else None},
    )


def errors_of_types(thresholds: Thresholds, figures: Figures) -> Iterator[Finding]:
    """Each type with as many errors as its policy's ``alert_threshold``.

    Of the types that have no alert of their own those whose policy asks for one.
    """
    for name, number in figures.errors["errors_by_type"].items():
        threshold = _threshold_of(name, number, thresholds, figures)
        if threshold is None:
            continue
        error_type = _TYPES.get(name, ErrorType.UNKNOWN)
        kind, severity = ALERTS_OF_TYPES.get(error_type, ("ERRORS_REPEATED", "high"))
        yield Finding(
            kind,
            f"{number:,} errors of the type {name} in {figures.errors['window_minutes']:g} minutes",
            severity,
            key=kind if kind != "ERRORS_REPEATED" else f"{kind}:{name}",
            subject=f"errors:{name}",
            values={"error_type": name, "errors": number, "threshold": threshold},
        )


def _threshold_of(name: str, number: int, thresholds: Thresholds, figures: Figures) -> int | None:
    """The threshold that so many errors of a type have reached, if any."""
    error_type = _TYPES.get(name, ErrorType.UNKNOWN)
    if error_type in thresholds.of_types:
        given = thresholds.of_types[error_type]
        return given if given is not None and number >= given else None
    if name in figures.errors["alerts_due"]:
        threshold: int = figures.errors["alerts_due"][name]["threshold"]
        return threshold
    if error_type not in ALERTS_OF_TYPES:
        return None
    # Those that ask for an alert by an `ErrorInfo` of their own have not reached its threshold.
    others = number - figures.errors["alerts_asked"].get(name, {"errors": 0})["errors"]
    policy = figures.alert_thresholds.get(name)
    return policy if policy is not None and others >= policy else None


_TYPES = {each.value: each for each in ErrorType}

_RULES: tuple[Callable[[Thresholds, Figures], Iterator[Finding]], ...] = (
    high_error_rate,
    circuit_breaker_triggered,
    memory_usage_high,
    event_loop_blocked,
    slow_response_time,
    errors_of_types,
)


def burning(objective: Objective, figures: Figures) -> Iterator[Finding]:
    """Each pair of windows in both of which failures come too fast for the objective.

    The long one says that it matters, the short one that it goes on.
    """
    for rate, long, short, severity in BURN_RATES:
        total, lately = figures.total(long), figures.total(short)
        allowed = rate * (1.0 - objective.ratio)
        is_known = total.known_seconds > short and total.requests >= objective.least_requests
        if not (is_known and _ratio(total) > allowed and _ratio(lately) > allowed):
            continue
        yield Finding(
            "ERROR_BUDGET_BURNING",
            f"{_ratio(total):.2%} of {total.requests:,.0f} requests failed in {long / 3600:g} h: "
            f"{_ratio(total) / (1.0 - objective.ratio):.1f} times as many as {objective.ratio:%} allows",
            severity,
            key=f"ERROR_BUDGET_BURNING:{rate:g}",
            subject="requests",
            values={"error_ratio": _ratio(total), "objective": objective.ratio, "burn_rate": rate},
        )


def _ratio(total: Total) -> float:
    return total.failed / total.requests if total.requests > 0 else 0.0


def worker_died(crash: Mapping[str, Any]) -> Finding:
    """What there is to tell of a crash: see `asgi_errorkit.spool.host.Host.on_death`."""
    suspects = crash.get("suspects") or ()
    number = crash.get("in_flight", 0)
    requests = "request" if number == 1 else "requests"
    told = f"Worker {crash.get('pid')} died with {number} {requests} in flight"
    if suspects:
        told += "; the likeliest: {method} {path} (request {request_id})".format(**suspects[0])
    return Finding(
        "WORKER_DIED",
        told,
        "critical" if suspects else "medium",
        key=f"WORKER_DIED:{crash.get('pid')}",
        happened=True,
        values={name: crash.get(name) for name in ("pid", "app", "release", "memory_mb")},
    )
