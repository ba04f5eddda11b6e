"""Around the app or within it, in the framework's own way: right in both, and once."""

import logging
from collections.abc import Callable
from typing import Any

import pytest

from asgi_errorkit import (
    ErrorHandlingMiddleware,
    ErrorKit,
    ErrorTracker,
    MiddlewareStack,
    Recorder,
    StructuredLoggingMiddleware,
)
from asgi_errorkit.testing import LogLines, request

from . import apps


class Within:
    """A stack to be built by the framework itself, and its log."""

    def __init__(self) -> None:
        self.lines = LogLines()
        self.stack = MiddlewareStack(
            error_tracker=ErrorTracker(recorder=Recorder(flush_seconds=None))
        )
        self.stack.add_middleware(StructuredLoggingMiddleware, stream=self.lines)

    @property
    def tracker(self) -> ErrorTracker:
        return self.stack.error_tracker

    def kit(self, app: Any) -> ErrorKit:
        return ErrorKit(app, stack=self.stack)

    def nested(self, app: Any) -> Any:
        """For a framework that makes its middlewares anew for each route."""
        handled = ErrorHandlingMiddleware(app, self.tracker)
        return StructuredLoggingMiddleware(
            handled, stream=self.lines, recorder=self.tracker.recorder
        )


def starlette(within: Within) -> Any:
    app = apps.starlette.make()
    app.add_middleware(ErrorKit, stack=within.stack)
    return app


def fastapi(within: Within) -> Any:
    app = apps.fastapi.make()
    app.add_middleware(ErrorKit, stack=within.stack)
    return app


def quart(within: Within) -> Any:
    app = apps.quart.make()
    app.asgi_app = within.kit(app.asgi_app)
    return app


def litestar(within: Within) -> Any:
    return apps.litestar.make(middleware=[within.nested])


def django(within: Within) -> Any:
    return within.kit(apps.django.make())


def falcon(within: Within) -> Any:
    return within.kit(apps.falcon.make())


PLACES: dict[str, Callable[[Within], Any]] = {
    "starlette": starlette,
    "fastapi": fastapi,
    "quart": quart,
    "litestar": litestar,
    "django": django,
    "falcon": falcon,
}


@pytest.fixture(params=PLACES)
def name(request: pytest.FixtureRequest) -> str:
    logging.getLogger("django.request").disabled = True
    return str(request.param)


@pytest.mark.parametrize("around", [False, True], ids=["within", "within and around"])
async def test_within_the_framework_an_error_is_told_once_and_truly(
    name: str, around: bool
) -> None:
    within = Within()
    app: Any = PLACES[name](within)
    outer = ErrorKit(app, log_level="CRITICAL") if around else app
    await request(outer, path="/fail/memory")
    within.tracker.recorder.flush()
    (group,) = within.tracker.groups()
    assert (group.type_name, group.error_type.value, group.count) == ("MemoryError", "memory", 1)
    assert group.where is not None and group.where.endswith(" fail")
    stats = within.tracker.get_error_stats()
    assert (stats["total_requests"], stats["total_errors"]) == (1, 1)
    (label,) = group.routes
    assert label.startswith("GET /fail/") and "kind" in label
    if around:
        assert outer.get_error_stats()["errors_by_type"] == {"memory": 1}
    else:
        (line,) = within.lines.lines("request_error")
        assert (line["error_type"], line["outcome"]) == ("MemoryError", "server_error")


async def test_within_the_framework_a_refusal_is_handled(name: str) -> None:
    within = Within()
    app: Any = PLACES[name](within)
    reply = await request(app, path="/refuse/404")
    within.tracker.recorder.flush()
    assert reply.status == 404
    (line,) = within.lines.lines("request_complete")
    assert line["outcome"] == "client_error"
    assert within.tracker.groups() == []
