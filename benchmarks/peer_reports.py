"""Sentry and OpenTelemetry; what they would send is thrown away.

Both can patch other libraries for the whole process. That is left off here, since everyone else in
the process would pay for it: with it they cost more than what is measured.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from typing import IO, Any

from benchmarks.peer import Make, Peer
from benchmarks.scenarios import Scenario

__all__ = ["SECONDS", "opentelemetry", "sent", "sentry", "sentry_client", "sentry_turn"]

SECONDS = 30.0
"""How long a flush may take before it counts as failed."""
_PLENTY = 100_000
"""Room in the queues: what a full one drops would cost nothing."""


def sentry_client(closing: ExitStack, *, traces: float | None = None) -> Any:
    """A client with the SDK's own queue, thread, JSON and gzip, and nothing behind them."""
    from sentry_sdk import Client
    from sentry_sdk.integrations.argv import ArgvIntegration
    from sentry_sdk.integrations.dedupe import DedupeIntegration
    from sentry_sdk.integrations.modules import ModulesIntegration
    from sentry_sdk.transport import HttpTransport

    class Nowhere(HttpTransport):
        def __init__(self, options: Any) -> None:
            super().__init__(options)
            self.sent = 0

        def _send_request(self, *arguments: Any, envelope: Any = None, **more: Any) -> None:
            self.sent += sum(item.type in ("event", "transaction") for item in envelope.items)

    client = Client(
        dsn="https://public@sentry.invalid/1",
        transport=Nowhere,
        transport_queue_size=_PLENTY,
        traces_sample_rate=traces,
        release="benchmark",  # else it asks git
        default_integrations=False,
        auto_enabling_integrations=False,
        # Those of the default ones that add to an event and patch nothing.
        integrations=[ArgvIntegration(), DedupeIntegration(), ModulesIntegration()],
    )
    closing.callback(client.close, timeout=SECONDS)
    return client


def sent(client: Any, *, each: int = 1) -> Callable[[], int]:
    """Counts requests by what the client has sent, which is ``each`` a request."""
    return lambda: client.transport.sent // each


def sentry_turn(client: Any) -> Callable[[], AbstractContextManager[None]]:
    """The client is the process's own while its peer has its turn, and nobody's otherwise."""
    from sentry_sdk import get_global_scope

    @contextmanager
    def turn() -> Iterator[None]:
        get_global_scope().set_client(client)
        try:
            yield
        finally:
            get_global_scope().set_client(None)

    return turn


def sentry(*, traces: float | None = None) -> Make:
    def make(scenario: Scenario, log: IO[bytes], closing: ExitStack) -> Peer:
        from sentry_sdk.integrations.asgi import SentryAsgiMiddleware

        client = sentry_client(closing, traces=traces)
        each = (traces is not None) + scenario.raises
        return Peer(
            app=SentryAsgiMiddleware(scenario.app),
            flush=partial(client.flush, timeout=SECONDS),
            done=(sent(client, each=each),) if each else (),
            turn=sentry_turn(client),
        )

    return make


def opentelemetry(*, metrics: bool) -> Make:
    """Spans of the request and of each message sent, in batches, to an exporter that counts."""

    def make(scenario: Scenario, log: IO[bytes], closing: ExitStack) -> Peer:
        from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
        from opentelemetry.metrics import NoOpMeterProvider
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.metrics.export import InMemoryMetricReader
        from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
        from opentelemetry.sdk.trace.export import (
            BatchSpanProcessor,
            SpanExporter,
            SpanExportResult,
        )
        from opentelemetry.trace import SpanKind

        class Nowhere(SpanExporter):
            requests = 0

            def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
                self.requests += sum(span.kind is SpanKind.SERVER for span in spans)
                return SpanExportResult.SUCCESS

        exporter, spans = Nowhere(), TracerProvider(shutdown_on_exit=False)
        spans.add_span_processor(BatchSpanProcessor(exporter, max_queue_size=_PLENTY))
        closing.callback(spans.shutdown)
        meters: Any = NoOpMeterProvider()
        if metrics:
            meters = MeterProvider([InMemoryMetricReader()], shutdown_on_exit=False)
            closing.callback(meters.shutdown)
        return Peer(
            app=OpenTelemetryMiddleware(scenario.app, tracer_provider=spans, meter_provider=meters),
            flush=partial(spans.force_flush, int(SECONDS * 1000)),
            done=(lambda: exporter.requests,),
        )

    return make
