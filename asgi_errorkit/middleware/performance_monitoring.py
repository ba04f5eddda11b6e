"""Performance monitoring as middleware: durations, sizes and resources, measured truthfully."""

from collections.abc import Iterable
from typing import Any

from asgi_errorkit.apps import choices_within, single_callable
from asgi_errorkit.choices import Choices
from asgi_errorkit.classify import Classifier
from asgi_errorkit.frame import frame
from asgi_errorkit.host_answers import HostAnswers, check_own
from asgi_errorkit.identity import RequestIds
from asgi_errorkit.metrics import PerformanceMetrics, RequestMetrics
from asgi_errorkit.options import check_number, check_type, check_whole, strings
from asgi_errorkit.recorder import Batch, Recorder, counted_here
from asgi_errorkit.redact import Redactor
from asgi_errorkit.types import ASGIApp, Receive, Scope, Send

__all__ = ["PerformanceMonitoringMiddleware"]


class PerformanceMonitoringMiddleware:
    """Measures each request, and warns of slow ones and of high memory and CPU use.

    A request's memory and CPU figures are the samples taken before and after it of the whole
    process, not of the request alone. ``max_metrics`` is how many single requests are kept in
    ``metrics``, ``max_routes`` how many routes have statistics of their own. ``redact``: further
    names whose values are secret; in a stack they act in every part, a middleware that is nested
    by hand keeps its own. Raises TypeError or ValueError for an option that cannot work.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        slow_request_threshold_seconds: float = 5.0,
        memory_growth_threshold_mb: float = 100.0,
        high_memory_threshold_mb: float = 1024.0,
        high_cpu_threshold_percent: float = 80.0,
        max_metrics: int = 1000,
        max_routes: int = 200,
        redact: Iterable[str] = (),
        request_ids: RequestIds | None = None,
        recorder: Recorder | None = None,
    ) -> None:
        for name, threshold, example in (
            ("slow_request_threshold_seconds", slow_request_threshold_seconds, 5.0),
            ("memory_growth_threshold_mb", memory_growth_threshold_mb, 100.0),
            ("high_memory_threshold_mb", high_memory_threshold_mb, 1024.0),
            ("high_cpu_threshold_percent", high_cpu_threshold_percent, 80.0),
        ):
            check_number(name, threshold, above=0, example=example)
        check_whole("max_metrics", max_metrics, least=1, example=1000)
        check_whole("max_routes", max_routes, least=1, example=200)
        check_type("request_ids", request_ids, RequestIds)
        check_type("recorder", recorder, Recorder)
        self.app = app
        self.slow_request_threshold = slow_request_threshold_seconds
        self.high_memory_threshold = high_memory_threshold_mb
        self.max_metrics = max_metrics
        self.redactor = Redactor(extra_names=strings("redact", redact))
        within = choices_within(app)
        self._recorder = recorder or (within.recorder if within else Recorder())
        self.host: HostAnswers | None = None
        self.counted = RequestMetrics(
            sampler=self._recorder.sampler,
            clock=self._recorder.clock,
            slow_request_seconds=slow_request_threshold_seconds,
            memory_growth_mb=memory_growth_threshold_mb,
            high_memory_mb=high_memory_threshold_mb,
            high_cpu_percent=high_cpu_threshold_percent,
            max_metrics=max_metrics,
            max_routes=max_routes,
            redactor=self.redactor,
        )
        self._recorder.add_sink(self._observe)
        self.choices = Choices(
            recorder=self._recorder,
            classifier=within.classifier if within else Classifier(),
            ids=request_ids or (within.ids if within else RequestIds()),
        )
        self._recorder.after_fork(self.choices.ids.reset_after_fork)
        self._serve = frame(single_callable(app), self.choices)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> Any:
        return await self._serve(scope, receive, send)

    @property
    def metrics(self) -> list[PerformanceMetrics]:
        """The latest requests, oldest first, at most ``max_metrics``."""
        return self._recorder.read(self.counted.latest)

    def get_performance_stats(
        self,
        window_minutes: float = 5,
        *,
        worker: int | None = None,
        most_routes: int | None = None,
    ) -> dict[str, Any]:
        """The statistics of the last minutes (more than 0, at most 60), percentiles among them.

        Durations are seconds, memory is MiB; percentiles are within 2 % of the true ones. A window
        is taken in whole steps of 5 s, that of a route in steps of 15 s. ``process`` is the latest
        sample of this process, with the epoch seconds at which it was taken. Where the workers of a
        host keep a record, it is that of all of them, or of the ``worker`` with that pid; routes
        are then taken in steps of a minute, and ``workers`` tells of each. ``most_routes`` has the
        busiest alone told, which is quicker, and ``routes_left_out`` how many are not. Raises ValueError for what cannot be, TypeError for
        what is no number.
        """
        if most_routes is not None:
            check_whole("most_routes", most_routes, least=0, example=20)
        recorder = self._recorder
        stats = None
        if self.host is not None:
            stats = self.host.performance_stats(window_minutes, worker, most_routes)
        if stats is None:
            check_own(worker)
            stats = recorder.read(
                lambda: self.counted.stats(window_minutes, recorder.in_flight(), most_routes)
            )
        sample = recorder.sampled()
        at = sample.at + recorder.wall_clock() - recorder.clock()
        return {**stats, "process": {**sample._asdict(), "at": at}}

    def _observe(self, batch: Batch) -> None:
        self.counted(counted_here(batch, self._recorder))
