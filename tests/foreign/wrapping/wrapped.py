"""How every app of the frameworks' own suites is wrapped: all three parts, capture on.

As a pytest plugin it says at the end how many requests went through the kit.
"""

import io
from itertools import count

from asgi_errorkit import (
    ErrorHandlingMiddleware,
    ErrorTracker,
    PerformanceMonitoringMiddleware,
    StructuredLoggingMiddleware,
)

_called = count()


def wrap(app):
    tracker = ErrorTracker()
    for part in (
        PerformanceMonitoringMiddleware,
        lambda app, **_: ErrorHandlingMiddleware(app, tracker, reraise=True),
        lambda app, **more: StructuredLoggingMiddleware(app, stream=io.BytesIO(), **more),
    ):
        app = part(app, recorder=tracker.recorder)

    async def counted(scope, receive, send):
        if scope["type"] != "lifespan":
            next(_called)
        await app(scope, receive, send)

    return counted


class Seen:
    """What is called through the kit, and is in all else what a test expects to see."""

    def __init__(self, seen, **instead):
        self.__dict__.update(instead, _seen=seen)

    def __getattr__(self, name):
        return getattr(self._seen, name)


def pytest_terminal_summary(terminalreporter):
    terminalreporter.write_line(f"{next(_called)} requests wrapped")
