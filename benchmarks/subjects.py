"""What is compared: the bare app, and the same app with each thing that can be put around it."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from asgi_errorkit.choices import Choices, merged
from asgi_errorkit.classify import Classifier
from asgi_errorkit.fields import DEFAULT_FIELDS
from asgi_errorkit.frame import frame
from asgi_errorkit.identity import RequestIds
from asgi_errorkit.middleware.error_handling import ErrorHandlingMiddleware
from asgi_errorkit.middleware.performance_monitoring import PerformanceMonitoringMiddleware
from asgi_errorkit.middleware.structured_logging import StructuredLoggingMiddleware
from asgi_errorkit.recorder import Recorder
from asgi_errorkit.stack import ErrorKit, MiddlewareStack
from asgi_errorkit.types import ASGIApp, Receive, Scope, Send
from benchmarks.floor import floor
from benchmarks.guide_design import ErrorTracker, guide_design
from benchmarks.surviving import ALL, layers

__all__ = [
    "BARE",
    "FLOOR",
    "FULL",
    "GUIDE",
    "NO_OP",
    "ONE_LINE",
    "RECORDED",
    "STEPS",
    "SUBJECTS",
    "SURVIVING",
    "Subject",
]

BARE = "bare app"
NO_OP = "no-op wrapper"
ONE_LINE = "ErrorKit: everything, completion"
FULL = "ErrorKit: everything, start + completion"
RECORDED = "ErrorKit: everything, completion, and its record on disk"
GUIDE = "the guide's design"
SURVIVING = "ErrorKit: everything, completion, and all that survives failures"
FLOOR = "the floor: as much noted, nothing done with it"

_ENDS = ("request_complete", "request_error", "websocket_close")
_EVENTS = (
    ("request_complete", "websocket_close"),
    ("request_complete", "websocket_close", "request_start", "websocket_open"),
    ("request_complete", "websocket_close", "request_start", "websocket_open", "request_error"),
)
"""One event of a request, two and all three; a session has two."""

_NO_FIELDS = dict.fromkeys(DEFAULT_FIELDS)


@dataclass(frozen=True, slots=True)
class Subject:
    """An app as it is measured, and the recorder that holds what it has yet to do, if any."""

    app: ASGIApp
    recorder: Recorder | None = None


class _NoOp:
    """The least that a middleware can be."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> Any:
        return await self.app(scope, receive, send)


def _frame(app: ASGIApp, log: IO[bytes]) -> Subject:
    choices = Choices(recorder=Recorder(), classifier=Classifier(), ids=RequestIds())
    return Subject(frame(app, choices), choices.recorder)


def _parts(
    *, metrics: bool = False, events: tuple[str, ...] = (), capture: bool = False
) -> Callable[[ASGIApp, IO[bytes]], Subject]:
    """One frame with a tracker and what else is on, as a stack makes one of its parts."""

    def make(app: ASGIApp, log: IO[bytes]) -> Subject:
        errors = ErrorHandlingMiddleware(app, log_errors=False, capture=capture)
        recorder = errors.choices.recorder
        parts = [errors.choices]
        if metrics:
            parts.append(PerformanceMonitoringMiddleware(app, recorder=recorder).choices)
        if events:
            lines = StructuredLoggingMiddleware(app, stream=log, events=events, recorder=recorder)
            parts.append(lines.choices)
        return Subject(frame(app, merged(parts)), recorder)

    return make


def _errors(app: ASGIApp, log: IO[bytes]) -> Subject:
    wrapped = ErrorHandlingMiddleware(app, log_errors=False)
    return Subject(wrapped, wrapped.choices.recorder)


def _completion(app: ASGIApp, log: IO[bytes]) -> Subject:
    wrapped = StructuredLoggingMiddleware(app, stream=log, events=_ENDS)
    return Subject(wrapped, wrapped.choices.recorder)


def _both(app: ASGIApp, log: IO[bytes]) -> Subject:
    wrapped = StructuredLoggingMiddleware(app, stream=log)
    return Subject(wrapped, wrapped.choices.recorder)


def _performance(app: ASGIApp, log: IO[bytes]) -> Subject:
    wrapped = PerformanceMonitoringMiddleware(app)
    return Subject(wrapped, wrapped.choices.recorder)


def _nested(app: ASGIApp, log: IO[bytes]) -> Subject:
    wrapped = StructuredLoggingMiddleware(
        ErrorHandlingMiddleware(PerformanceMonitoringMiddleware(app)), stream=log
    )
    return Subject(wrapped, wrapped.choices.recorder)


def _kit(
    *,
    capture: bool = True,
    survives: tuple[str, ...] = (),
    recorded: bool = False,
    **options: Any,
) -> Callable[[ASGIApp, IO[bytes]], Subject]:
    """The record lies beside the log, and goes with the folder of both."""

    def make(app: ASGIApp, log: IO[bytes]) -> Subject:
        stack = MiddlewareStack()
        stack.add_middleware(StructuredLoggingMiddleware, stream=log, **options)
        stack.add_middleware(ErrorHandlingMiddleware, capture=capture)
        for layer, layer_options in layers(survives):
            stack.add_middleware(layer, **layer_options)
        directory = Path(log.name).with_suffix(".record") if recorded else None
        kit = ErrorKit(app, stack=stack, directory=directory)
        return Subject(kit, kit.tracker.recorder)

    return make


class _Text:
    """A binary file for text. It is its opener's to close, as a handler's own would never be."""

    def __init__(self, log: IO[bytes]) -> None:
        self._log = log
        self.flush = log.flush

    def write(self, text: str) -> None:
        self._log.write(text.encode())


def _guide(app: ASGIApp, log: IO[bytes]) -> Subject:
    logger = logging.getLogger("benchmarks.guide_design")
    logger.propagate = False
    logger.handlers = [logging.StreamHandler(_Text(log))]
    return Subject(guide_design(app, ErrorTracker()))


_STEPS: dict[str, Callable[[ASGIApp, IO[bytes]], Subject]] = {
    BARE: lambda app, log: Subject(app),
    NO_OP: lambda app, log: Subject(_NoOp(app)),
    "one frame: id and header": _frame,
    "+ tracker": _parts(),
    "+ metrics": _parts(metrics=True),
    "+ log, 1 event: completion": _parts(metrics=True, events=_EVENTS[0]),
    "+ log, 2 events: and start": _parts(metrics=True, events=_EVENTS[1]),
    "+ log, 3 events: and error": _parts(metrics=True, events=_EVENTS[2]),
    "+ capture": _parts(metrics=True, events=_EVENTS[2], capture=True),
}

STEPS = tuple(_STEPS)
"""Each has what the one before it has, and a feature more. The no-op wrapper is what the frame of
all that follow would cost if it did nothing."""

SUBJECTS: dict[str, Callable[[ASGIApp, IO[bytes]], Subject]] = {
    **_STEPS,
    FULL: _kit(),
    ONE_LINE: _kit(events=_ENDS),
    FLOOR: lambda app, log: Subject(floor(app)),
    "ErrorKit: all off that can be": _kit(events=(), fields=_NO_FIELDS, capture=False),
    "error handling alone": _errors,
    "performance alone": _performance,
    "logging alone, completion": _completion,
    "logging alone, start + completion": _both,
    "the three nested by hand": _nested,
    **{f"{ONE_LINE}, {name}": _kit(events=_ENDS, survives=(name,)) for name in ALL},
    SURVIVING: _kit(events=_ENDS, survives=ALL),
    RECORDED: _kit(events=_ENDS, recorded=True),
    GUIDE: _guide,
}
"""How each is made, around an app and with a file for its log lines."""
