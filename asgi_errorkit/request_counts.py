"""How requests went within a span of time, as counts that add up over spans and over workers."""

from collections.abc import Callable, Mapping
from heapq import nlargest
from math import isfinite
from typing import Any, TypeVar

from asgi_errorkit.histogram import LogHistogram

__all__ = [
    "RequestCounts",
    "RouteCounts",
    "busiest",
    "percentiles",
    "request_stats",
    "route_stats",
]

T = TypeVar("T")

_QUANTILES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99, "p99.9": 0.999}


class RequestCounts:
    """What is kept of all requests of one span of time; seconds, MiB and percent."""

    __slots__ = (
        "cpu_maximum",
        "cpu_total",
        "durations",
        "first_bytes",
        "high_memory",
        "memory_delta_maximum",
        "memory_delta_total",
        "outcomes",
        "slow",
    )

    def __init__(self) -> None:
        self.durations = LogHistogram()
        self.first_bytes = LogHistogram()
        self.outcomes: dict[str, int] = {}
        self.cpu_maximum = self.cpu_total = 0.0
        self.memory_delta_maximum = float("-inf")
        self.memory_delta_total = 0.0
        self.slow = 0
        self.high_memory = 0

    def merge(self, other: "RequestCounts") -> None:
        """Count everything that the other has counted."""
        self.durations.merge(other.durations)
        self.first_bytes.merge(other.first_bytes)
        for outcome, number in other.outcomes.items():
            self.outcomes[outcome] = self.outcomes.get(outcome, 0) + number
        self.cpu_maximum = max(self.cpu_maximum, other.cpu_maximum)
        self.cpu_total += other.cpu_total
        self.memory_delta_maximum = max(self.memory_delta_maximum, other.memory_delta_maximum)
        self.memory_delta_total += other.memory_delta_total
        self.slow += other.slow
        self.high_memory += other.high_memory


class RouteCounts:
    """What is kept of one route in one span of time."""

    __slots__ = ("durations", "failed")

    def __init__(self) -> None:
        self.durations = LogHistogram()
        self.failed = 0

    def merge(self, other: "RouteCounts") -> None:
        """Count everything that the other has counted."""
        self.durations.merge(other.durations)
        self.failed += other.failed


def request_stats(total: RequestCounts, watched_seconds: float) -> dict[str, Any]:
    """The statistics of a window but for its routes: see `get_performance_stats`.

    The rate is that of the seconds of the window that somebody watched.
    """
    durations = total.durations
    number = durations.count
    growth = total.memory_delta_maximum
    return {
        "total_requests": number,
        "avg_duration": durations.total / max(number, 1),
        "max_duration": durations.maximum,
        "min_duration": durations.minimum if number else 0.0,
        "avg_memory_delta": total.memory_delta_total / max(number, 1),
        "max_memory_delta": growth if isfinite(growth) else 0.0,
        "avg_cpu_usage": total.cpu_total / max(number, 1),
        "max_cpu_usage": total.cpu_maximum,
        "slow_requests": total.slow,
        "high_memory_requests": total.high_memory,
        "percentiles": percentiles(durations),
        "time_to_first_byte": percentiles(total.first_bytes),
        "outcomes": total.outcomes,
        "requests_per_second": number / watched_seconds if watched_seconds > 0 else 0.0,
    }


def route_stats(route: RouteCounts) -> dict[str, Any]:
    """The statistics of one route that has had requests."""
    durations = route.durations
    return {
        "requests": durations.count,
        "failed": route.failed,
        "avg_duration": durations.total / durations.count,
        "max_duration": durations.maximum,
        **percentiles(durations),
    }


def busiest(
    routes: Mapping[str, T], requests: Callable[[T], int], most: int | None
) -> tuple[list[str], int]:
    """The labels of all routes, or of the ``most`` that had the most requests, and how many not.

    To add up the durations of a route takes longer than to count its requests.
    """
    numbers = {label: number for label in routes if (number := requests(routes[label]))}
    if most is None:
        return list(numbers), 0
    return nlargest(most, numbers, key=numbers.__getitem__), max(0, len(numbers) - most)


def percentiles(histogram: LogHistogram) -> dict[str, float]:
    """The five percentiles people ask for, within 2 % of the true ones."""
    return dict(zip(_QUANTILES, histogram.quantiles(list(_QUANTILES.values())), strict=True))
