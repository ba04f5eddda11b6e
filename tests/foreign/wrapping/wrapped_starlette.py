"""A pytest plugin for Starlette's own suite: every app that its client is given is wrapped."""

import io

from starlette.testclient import TestClient

from asgi_errorkit import (
    ErrorHandlingMiddleware,
    ErrorTracker,
    PerformanceMonitoringMiddleware,
    StructuredLoggingMiddleware,
)

_init = TestClient.__init__


def _wrapping(self, app, *args, **kwargs):
    tracker = ErrorTracker()
    for part in (
        PerformanceMonitoringMiddleware,
        lambda app, **_: ErrorHandlingMiddleware(app, tracker, reraise=True),
        lambda app, **more: StructuredLoggingMiddleware(app, stream=io.BytesIO(), **more),
    ):
        app = part(app, recorder=tracker.recorder)
    _init(self, app, *args, **kwargs)


TestClient.__init__ = _wrapping
