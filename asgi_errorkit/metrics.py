"""Performance of requests: windowed statistics in all and per route, made on the drain side."""

import logging
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from asgi_errorkit.exchange import (
    CAUGHT,
    END,
    ENDED,
    FIRST_BYTE,
    ID,
    KIND,
    MEMORY_AFTER,
    MEMORY_BEFORE,
    PATH,
    SESSION,
    STARTED,
    Record,
)
from asgi_errorkit.histogram import LogHistogram, Windows
from asgi_errorkit.options import HISTORY_MINUTES, window_seconds
from asgi_errorkit.outcome import Outcome
from asgi_errorkit.process import ProcessSampler
from asgi_errorkit.recorder import Batch
from asgi_errorkit.redact import MARGIN, Redactor, safe_str
from asgi_errorkit.request_counts import (
    RequestCounts,
    RouteCounts,
    busiest,
    request_stats,
    route_stats,
)
from asgi_errorkit.routes import OTHER, RouteLabels

__all__ = ["PerformanceMetrics", "RequestMetrics"]

logger = logging.getLogger("asgi_errorkit.performance")

_TOTAL_WIDTH_SECONDS = 5.0
_ROUTE_WIDTH_SECONDS = 15.0
_WARN_EVERY_SECONDS = 10.0
_PATH_LIMIT = 2048
_SHOWN_LIMIT = _PATH_LIMIT - MARGIN - 1  # that a secret which was cut is not shown


@dataclass(slots=True)
class PerformanceMetrics:
    """One request's performance; seconds, MiB and percent. Memory and CPU are the process's."""

    request_id: str
    method: str
    url: str
    duration: float
    memory_before: float
    memory_after: float
    memory_delta: float
    cpu_usage: float
    status_code: int
    error: str | None = None
    timestamp: float = 0.0


class RequestMetrics:
    """The sink that measures requests: windows in all, per route, and the latest ones singly.

    Websocket sessions last as long as they like, and so are not counted among the requests.
    """

    def __init__(
        self,
        *,
        sampler: ProcessSampler,
        clock: Callable[[], float],
        slow_request_seconds: float,
        memory_growth_mb: float,
        high_memory_mb: float,
        high_cpu_percent: float,
        max_metrics: int,
        max_routes: int,
        redactor: Redactor,
    ) -> None:
        self._sampler = sampler
        self._clock = clock
        self._since = clock()
        self._slow_seconds = slow_request_seconds
        self._growth_mb = memory_growth_mb
        self._high_memory_mb = high_memory_mb
        self._high_cpu_percent = high_cpu_percent
        self._max_metrics = max_metrics
        self._latest: deque[tuple[list[tuple[Any, ...]], float]] = deque()
        self._latest_count = 0
        self._offset = 0.0
        self._redactor = redactor
        self._labels = RouteLabels(redactor, max_routes)
        self.total = Windows(
            RequestCounts,
            width_seconds=_TOTAL_WIDTH_SECONDS,
            count=int(HISTORY_MINUTES * 60 / _TOTAL_WIDTH_SECONDS),
        )
        self.routes: dict[str, Windows[RouteCounts]] = {}
        self._warned_at: dict[str, float] = {}
        self._unwarned: dict[str, int] = {}

    def __call__(self, batch: Batch) -> None:
        ended = [
            (record, outcome)
            for record, outcome in zip(batch.records, batch.outcomes, strict=True)
            if record[KIND] == END and record[SESSION] is None
        ]
        if not ended:
            return
        self._offset = batch.offset
        at = [record[ENDED] for record, _ in ended]
        if min(at) // _TOTAL_WIDTH_SECONDS == max(at) // _TOTAL_WIDTH_SECONDS:
            self._observe(ended, self._sampler.cpu_percent)
            return
        spans: dict[float, list[tuple[Record, Outcome]]] = {}
        for each in ended:
            spans.setdefault(each[0][ENDED] // _TOTAL_WIDTH_SECONDS, []).append(each)
        for span in spans.values():
            self._observe(span, self._sampler.cpu_percent)

    def _observe(self, ended: list[tuple[Record, Outcome]], cpu: float) -> None:
        """Count records of one span; what is summed at once costs a third of one by one."""
        records = [record for record, _ in ended]
        bucket = self.total.at(records[0][ENDED])
        bucket.first_bytes.add_all(
            [r[FIRST_BYTE] - r[STARTED] for r in records if r[FIRST_BYTE] is not None]
        )
        growths = [r[MEMORY_AFTER] - (r[MEMORY_BEFORE] or r[MEMORY_AFTER]) for r in records]
        bucket.memory_delta_total += sum(growths)
        bucket.memory_delta_maximum = max(bucket.memory_delta_maximum, *growths)
        bucket.cpu_total += cpu * len(records)
        bucket.cpu_maximum = max(bucket.cpu_maximum, cpu)
        self._keep(records, cpu)
        slowest = self._observe_routes(bucket, ended)
        if slowest > self._slow_seconds or max(growths) > self._growth_mb:
            for record, growth in zip(records, growths, strict=True):
                self._note_issues(bucket, record, record[ENDED] - record[STARTED], growth)
        self._note_process(records[-1], cpu)

    def _keep(self, records: list[Record], cpu: float) -> None:
        kept = [tuple(record[ID : CAUGHT + 1]) for record in records]
        try:
            is_long = max(len(each[_KEPT_PATH]) for each in kept) > _PATH_LIMIT
        except TypeError:  # no server makes such a path, but a middleware further out may
            is_long = True
        if is_long:
            kept = [
                (
                    *each[:_KEPT_PATH],
                    safe_str(each[_KEPT_PATH], _PATH_LIMIT),
                    *each[_KEPT_PATH + 1 :],
                )
                for each in kept
            ]
        self._latest.append((kept, cpu))
        self._latest_count += len(kept)
        while self._latest_count - len(self._latest[0][0]) >= self._max_metrics:
            self._latest_count -= len(self._latest.popleft()[0])

    def _observe_routes(self, bucket: RequestCounts, ended: list[tuple[Record, Outcome]]) -> float:
        """Count durations by route and in all, and outcomes; return the longest duration."""
        by_label: dict[str, list[float]] = {}
        outcomes = bucket.outcomes
        for record, outcome in ended:
            try:
                label = self._labels(record)
            except Exception:  # noqa: BLE001  its path or method is not even a string
                label = OTHER
            if label in by_label:
                by_label[label].append(record[ENDED] - record[STARTED])
            else:
                by_label[label] = [record[ENDED] - record[STARTED]]
            outcomes[outcome.text] = outcomes.get(outcome.text, 0) + 1
            if outcome.failed:
                self._route(label, record).failed += 1
        for label, values in by_label.items():
            durations = LogHistogram()
            durations.add_all(values)
            bucket.durations.merge(durations)
            self._route(label, ended[0][0]).durations.merge(durations)
        return max(map(max, by_label.values()))

    def _route(self, label: str, record: Record) -> RouteCounts:
        windows = self.routes.get(label)
        if windows is None:
            windows = self.routes[label] = Windows(
                RouteCounts,
                width_seconds=_ROUTE_WIDTH_SECONDS,
                count=int(HISTORY_MINUTES * 60 / _ROUTE_WIDTH_SECONDS),
            )
        return windows.at(record[ENDED])

    def _note_issues(
        self, bucket: RequestCounts, record: Record, duration: float, growth: float
    ) -> None:
        where = self._where(record)
        if duration > self._slow_seconds:
            bucket.slow += 1
            self._warn("slow", record, f"Slow request: {duration:.2f} s for {where}")
        if growth > self._growth_mb:
            bucket.high_memory += 1
            self._warn("growth", record, f"Memory grew by {growth:.1f} MB during {where}")

    def _note_process(self, record: Record, cpu: float) -> None:
        """Once a batch: these are figures of the process, which all its records share."""
        memory = record[MEMORY_AFTER]
        if memory > self._high_memory_mb:
            where = self._where(record)
            self._warn("memory", record, f"High memory usage: {memory:.1f} MB after {where}")
        if cpu > self._high_cpu_percent:
            self._warn("cpu", record, f"High CPU usage: {cpu:.0f} % around {self._where(record)}")

    def _where(self, record: Record) -> str:
        return f"{self._labels(record)} (request {record[ID]})"

    def _warn(self, kind: str, record: Record, text: str) -> None:
        """Warn of one kind of issue at most every ten seconds, telling how many went untold."""
        at = record[ENDED]
        if at - self._warned_at.get(kind, float("-inf")) < _WARN_EVERY_SECONDS:
            self._unwarned[kind] = self._unwarned.get(kind, 0) + 1
            return
        self._warned_at[kind] = at
        untold = self._unwarned.pop(kind, 0)
        logger.warning("%s%s", text, f"; {untold} more like it before" if untold else "")

    def forget(self) -> None:
        """Forget all but the latest requests; for who drains."""
        self.total.clear()
        self.routes.clear()

    def latest(self) -> list[PerformanceMetrics]:
        """The latest requests, oldest first."""
        views = [
            _view(each, cpu, self._offset, self._redactor)
            for kept, cpu in self._latest
            for each in kept
        ]
        return views[-self._max_metrics :]

    def newest(self, number: int) -> list[PerformanceMetrics]:
        """So many of the latest, oldest first."""
        newest: list[tuple[tuple[Any, ...], float]] = []
        for kept, cpu in reversed(self._latest):
            newest += ((each, cpu) for each in reversed(kept))
            if len(newest) >= number:
                break
        return [
            _view(each, cpu, self._offset, self._redactor)
            for each, cpu in reversed(newest[:number])
        ]

    def stats(
        self, window_minutes: float, in_flight: int, most_routes: int | None = None
    ) -> dict[str, Any]:
        """The statistics of the last minutes; durations in seconds, memory in MiB.

        The rate is that of the time since the kit was made, where that is shorter.
        """
        seconds = window_seconds(window_minutes)
        now = self._clock()
        total = RequestCounts()
        for bucket in self.total.last(seconds, now):
            total.merge(bucket)
        stats = {
            **request_stats(total, min(seconds, now - self._since)),
            "in_flight": in_flight,
            **self._route_stats(seconds, now, most_routes),
        }
        return stats if total.durations.count else {"message": "No metrics available", **stats}

    def _route_stats(self, seconds: float, now: float, most: int | None) -> dict[str, Any]:
        seen = {label: windows.last(seconds, now) for label, windows in list(self.routes.items())}
        labels, left_out = busiest(seen, _requests_in, most)
        stats = {}
        for label in labels:
            total = RouteCounts()
            for bucket in seen[label]:
                total.merge(bucket)
            stats[label] = route_stats(total)
        return {"routes": stats, "routes_left_out": left_out}


def _requests_in(buckets: Iterable[RouteCounts]) -> int:
    return sum(bucket.durations.count for bucket in buckets)


# A record itself holds the request's headers, and is let go.
_KEPT_PATH = PATH - ID


def _view(
    kept: tuple[Any, ...], cpu: float, offset: float, redactor: Redactor
) -> PerformanceMetrics:
    request_id, method, path, started, ended, before, after, status, caught = kept
    return PerformanceMetrics(
        request_id=request_id,
        method=method,
        url=redactor.text(path, _SHOWN_LIMIT),
        duration=ended - started,
        memory_before=before,
        memory_after=after,
        memory_delta=after - before if before else 0.0,
        cpu_usage=cpu,
        status_code=status or 500,
        error=redactor.text(caught.snapshot.message) if caught and caught.snapshot else None,
        timestamp=ended + offset,
    )
