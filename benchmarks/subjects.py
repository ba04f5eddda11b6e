"""What is compared: the bare app, and the same app with each thing that can be put around it."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO, Any

from asgi_errorkit.choices import Choices
from asgi_errorkit.classify import Classifier
from asgi_errorkit.frame import frame
from asgi_errorkit.identity import RequestIds
from asgi_errorkit.middleware.error_handling import ErrorHandlingMiddleware
from asgi_errorkit.middleware.performance_monitoring import PerformanceMonitoringMiddleware
from asgi_errorkit.middleware.structured_logging import StructuredLoggingMiddleware
from asgi_errorkit.recorder import Recorder
from asgi_errorkit.stack import MiddlewareStack
from asgi_errorkit.types import ASGIApp, Receive, Scope, Send
from benchmarks.guide_design import ErrorTracker, guide_design

__all__ = ["BARE", "FULL", "GUIDE", "NO_OP", "ONE_LINE", "SUBJECTS", "Subject"]

BARE = "bare app"
NO_OP = "no-op wrapper"
ONE_LINE = "ErrorKit: everything, completion"
FULL = "ErrorKit: everything, start + completion"
GUIDE = "the guide's design"

_ENDS = ("request_complete", "request_error", "websocket_close")


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


def _kit(**options: Any) -> Callable[[ASGIApp, IO[bytes]], Subject]:
    def make(app: ASGIApp, log: IO[bytes]) -> Subject:
        stack = MiddlewareStack()
        stack.add_middleware(StructuredLoggingMiddleware, stream=log, **options)
        kit = stack.create_middleware_stack(app)
        return Subject(kit, kit.tracker.recorder)

    return make


def _guide(app: ASGIApp, log: IO[bytes]) -> Subject:
    logger = logging.getLogger("benchmarks.guide_design")
    logger.propagate = False
    logger.handlers = [logging.FileHandler(log.name)]
    return Subject(guide_design(app, ErrorTracker()))


SUBJECTS: dict[str, Callable[[ASGIApp, IO[bytes]], Subject]] = {
    BARE: lambda app, log: Subject(app),
    NO_OP: lambda app, log: Subject(_NoOp(app)),
    "one frame: id and header": _frame,
    "error handling alone": _errors,
    "performance alone": _performance,
    "logging alone, completion": _completion,
    "logging alone, start + completion": _both,
    ONE_LINE: _kit(events=_ENDS),
    FULL: _kit(),
    "the three nested by hand": _nested,
    GUIDE: _guide,
}
"""How each is made, around an app and with a file for its log lines."""
