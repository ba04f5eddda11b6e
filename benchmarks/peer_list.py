"""All that is compared: the kit, and what its users would take instead, each around its kind of app."""

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from typing import IO, Any, NamedTuple

from benchmarks.peer import Make, Peer, lines
from benchmarks.peer_apps import (
    APPS,
    FASTAPI,
    RAW,
    STARLETTE,
    AnyApp,
    fastapi,
    raw,
    starlette,
)
from benchmarks.peer_logs import asgi_logger, lean_structlog, usual_access_log, usual_structlog
from benchmarks.peer_reports import SECONDS, opentelemetry, sent, sentry, sentry_client, sentry_turn
from benchmarks.scenarios import Scenario
from benchmarks.subjects import BARE, FULL, GUIDE, NO_OP, ONE_LINE, SUBJECTS

__all__ = ["ENTRIES", "KIT", "PACKAGES", "Entry"]

KIT = FULL
_SLOW, _SLOWEST = 0.1, 0.02
"""The share of requests made of those that take some ten times as long as others, and even longer."""

PACKAGES = (
    "asgi-correlation-id",
    "asgi-logger",
    "elastic-apm",
    "fastapi",
    "opentelemetry-instrumentation-asgi",
    "opentelemetry-sdk",
    "prometheus-client",
    "prometheus-fastapi-instrumentator",
    "sentry-sdk",
    "starlette-exporter",
    "structlog",
)
"""Those whose versions matter."""


class Entry(NamedTuple):
    """A line of the table: what is put around which app, and how many requests it gets."""

    around: str
    name: str
    make: Make
    share: float = 1.0


def _subject(name: str, app: Callable[[Scenario], AnyApp], *, each: int = 0) -> Make:
    """One of those that ``benchmarks.request`` measures, around an app of one's choice."""

    def make(scenario: Scenario, log: IO[bytes], closing: ExitStack) -> Peer:
        subject = SUBJECTS[name](app(scenario), log)
        done = (lines(log, each=each),) if each else ()
        if subject.recorder is None:
            return Peer(app=subject.app, done=done)
        recorder = subject.recorder
        return Peer(
            app=subject.app,
            flush=recorder.flush,
            done=done,
            turn=_own_log_records(),
            rest=recorder.close,
        )

    return make


def _own_log_records() -> Callable[[], AbstractContextManager[None]]:
    """The kit watches the log records of its process, for which those that log by them would pay."""
    own: Any = None

    @contextmanager
    def turn() -> Iterator[None]:
        nonlocal own
        others = logging.getLogRecordFactory()
        logging.setLogRecordFactory(own or others)
        try:
            yield
        finally:
            own = logging.getLogRecordFactory()
            logging.setLogRecordFactory(others)

    return turn


def _correlation_id(scenario: Scenario, log: IO[bytes], closing: ExitStack) -> Peer:
    from asgi_correlation_id import CorrelationIdMiddleware

    wrapped = CorrelationIdMiddleware(scenario.app)
    wrapped.sentry_extension = lambda request_id: None  # else it depends on who else is installed
    return Peer(app=wrapped)


def _starlette_exporter(scenario: Scenario, log: IO[bytes], closing: ExitStack) -> Peer:
    from prometheus_client import REGISTRY
    from starlette_exporter import PrometheusMiddleware

    app = starlette(scenario)
    app.add_middleware(PrometheusMiddleware)
    return Peer(app=app, done=(lambda: _total(REGISTRY, "starlette_requests_total"),))


def _instrumentator(scenario: Scenario, log: IO[bytes], closing: ExitStack) -> Peer:
    app = fastapi(scenario)
    return Peer(app=app, done=(_instrument(app),))


def _instrument(app: AnyApp) -> Callable[[], int]:
    from prometheus_client import CollectorRegistry
    from prometheus_fastapi_instrumentator import Instrumentator

    registry = CollectorRegistry()
    Instrumentator(registry=registry).instrument(app)
    return lambda: _total(registry, "http_requests_total")


def _total(registry: Any, name: str) -> int:
    samples = (sample for metric in registry.collect() for sample in metric.samples)
    return int(sum(sample.value for sample in samples if sample.name == name))


def _elastic(scenario: Scenario, log: IO[bytes], closing: ExitStack) -> Peer:
    from benchmarks.peer_elastic import elastic

    return elastic(scenario, log, closing)


def _usual_stack(scenario: Scenario, log: IO[bytes], closing: ExitStack) -> Peer:
    """Metrics within, then the access log, the request id, and Sentry outermost."""
    from asgi_correlation_id import CorrelationIdMiddleware, correlation_id
    from sentry_sdk.integrations.asgi import SentryAsgiMiddleware

    app = fastapi(scenario)
    counted = _instrument(app)
    logged = usual_access_log(app, log, request_id=correlation_id.get)
    client = sentry_client(closing)
    done = (counted, lines(log), sent(client)) if scenario.raises else (counted, lines(log))
    return Peer(
        app=SentryAsgiMiddleware(CorrelationIdMiddleware(logged)),
        flush=partial(client.flush, timeout=SECONDS),
        done=done,
        turn=sentry_turn(client),
    )


def _entries() -> Iterator[Entry]:
    for around, app in APPS.items():
        yield Entry(around, BARE, _subject(BARE, app))
        yield Entry(around, KIT, _subject(KIT, app, each=2))
        yield Entry(around, ONE_LINE, _subject(ONE_LINE, app, each=1))
        yield from _PEERS[around]


_PEERS = {
    RAW: (
        Entry(RAW, NO_OP, _subject(NO_OP, raw)),
        Entry(RAW, "asgi-correlation-id", _correlation_id),
        Entry(RAW, "structlog, leanest access log", lean_structlog),
        Entry(RAW, "structlog, usual recipe", usual_structlog),
        Entry(RAW, "asgi-logger", asgi_logger),
        Entry(RAW, "Sentry, errors only", sentry()),
        Entry(RAW, "Sentry, errors and traces", sentry(traces=1.0), _SLOW),
        Entry(RAW, "OpenTelemetry, spans", opentelemetry(metrics=False), _SLOW),
        Entry(RAW, "OpenTelemetry, spans and metrics", opentelemetry(metrics=True), _SLOW),
        Entry(RAW, "Elastic APM", _elastic, _SLOW),
        Entry(RAW, GUIDE, _subject(GUIDE, raw, each=2), _SLOW),
    ),
    STARLETTE: (Entry(STARLETTE, "starlette-exporter", _starlette_exporter),),
    FASTAPI: (
        Entry(FASTAPI, "prometheus-fastapi-instrumentator", _instrumentator),
        Entry(FASTAPI, "a usual stack", _usual_stack, _SLOWEST),
    ),
}

ENTRIES = tuple(_entries())
"""In the order of the table; around each kind of app the bare one comes first."""
