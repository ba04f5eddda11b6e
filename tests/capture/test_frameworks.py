"""Whatever a framework swallows is known: the true exception, its place, route and outcome."""

import asyncio
import gc
import logging
from typing import Any

import pytest

from asgi_errorkit import (
    ErrorKit,
    ErrorTracker,
    MiddlewareStack,
    Recorder,
    StructuredLoggingMiddleware,
)
from asgi_errorkit.testing import LogLines, Reply, request

from .apps import APPS

RAISES = ("starlette", "fastapi")
"""What nobody handles escapes these; the kit answers it."""

TYPES = {
    "value": ("ValueError", "unknown"),
    "timeout": ("TimeoutError", "timeout"),
    "memory": ("MemoryError", "memory"),
    "group": ("ExceptionGroup", "external_service"),
}


class Watched:
    """An app of one framework, with the kit around it, and what the kit says of one request."""

    def __init__(self, name: str, **options: Any) -> None:
        self.lines = LogLines()
        recorder = Recorder(flush_seconds=None)
        stack = MiddlewareStack(error_tracker=ErrorTracker(recorder=recorder))
        stack.add_middleware(StructuredLoggingMiddleware, stream=self.lines)
        self.app = APPS[name]()
        self.kit = stack.create_middleware_stack(self.app, **options)

    async def ask(self, path: str, **more: Any) -> tuple[Reply, dict[str, Any]]:
        reply = await request(self.kit, path=path, **more)
        for _ in range(5):
            await asyncio.sleep(0)
        self.kit.flush()
        return reply, self.lines.lines()[-1]

    def only_group(self) -> Any:
        (group,) = self.kit.tracker.groups()
        return group


@pytest.fixture(params=APPS)
def name(request: pytest.FixtureRequest) -> str:
    logging.getLogger("django.request").disabled = True
    return str(request.param)


@pytest.fixture
def watched(name: str) -> Watched:
    return Watched(name)


def has(watched: Watched, name: str, path: str) -> bool:
    return not (
        (name == "falcon" and path in ("thread", "later"))
        or (name == "django" and path == "later")
        or (name in ("starlette", "quart", "falcon", "django") and path == "validate")
    )


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("way", ["fail", "thread", "mounted/fail"])
async def test_an_unhandled_error_is_known_for_what_it_is(
    watched: Watched, name: str, kind: str, way: str
) -> None:
    """Its class, its type, the line of the application that raised it, and the route."""
    if not has(watched, name, way):
        return
    bare = await request(APPS[name](), path=f"/{way}/{kind}")
    reply, line = await watched.ask(f"/{way}/{kind}")
    class_name, error_type = TYPES[kind]
    assert (line["event"], line["outcome"]) == ("request_error", "server_error")
    assert (line["error_type"], line["error_category"]) == (class_name, error_type)
    group = watched.only_group()
    if (way, kind) == ("thread", "timeout") and name in ("quart", "django", "litestar"):
        return  # asyncio makes a new TimeoutError of one that a thread raised
    assert group.where is not None and "apps.py" in group.where and group.where.endswith(" fail")
    assert group.count == 1
    assert line["route"] is not None and line["route"].startswith(f"/{way}/")
    assert "kind" in line["route"]
    if name not in RAISES:
        assert (reply.status, reply.body) == (bare.status, bare.body)
    assert watched.kit.get_error_stats()["errors_by_type"] == {error_type: 1}


@pytest.mark.parametrize("status", [404, 403])
async def test_what_the_framework_refuses_is_handled(
    watched: Watched, name: str, status: int
) -> None:
    """Counted by its status, and no error of the application's: no group, no traceback."""
    bare = await request(APPS[name](), path=f"/refuse/{status}")
    reply, line = await watched.ask(f"/refuse/{status}")
    assert (reply.status, reply.body) == (bare.status, bare.body) and reply.status == status
    assert (line["event"], line["outcome"]) == ("request_complete", "client_error")
    assert "traceback" not in line
    assert watched.kit.tracker.groups() == []
    assert watched.kit.get_error_stats()["client_errors"] == 1


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_an_error_after_the_start_is_truncated(watched: Watched) -> None:
    reply, line = await watched.ask("/stream")
    assert reply.status == 200 and not reply.complete
    assert line["outcome"] == "truncated"
    assert line["error_category"] == "unknown"
    group = watched.only_group()
    assert "apps.py" in group.where and group.where.endswith(" fail")
    reply.raised = None
    gc.collect()  # Django itself leaves a file open then, which the exception's frames hold


async def test_an_error_after_the_response_is_a_background_failure(
    watched: Watched, name: str
) -> None:
    if not has(watched, name, "later"):
        return
    reply, line = await watched.ask("/later")
    assert (reply.status, reply.complete) == (200, True)
    if name != "quart":  # whose background tasks outlive the request
        assert line["outcome"] == "background_failed"
    group = watched.only_group()
    assert group.type_name == "ValueError"
    assert group.where.endswith(" fail")


async def test_an_ordinary_request_has_its_route(watched: Watched) -> None:
    reply, line = await watched.ask("/ok/7")
    assert (reply.status, line["outcome"]) == (200, "ok")
    assert line["route"].startswith("/ok/") and "item" in line["route"]
    assert "error" not in line


async def test_many_requests_side_by_side_keep_their_errors_apart(watched: Watched) -> None:
    """Each exception is told of in the line of its own request."""
    kinds = list(TYPES) * 20
    await asyncio.gather(*(request(watched.kit, path=f"/fail/{kind}") for kind in kinds))
    watched.kit.flush()
    ends = watched.lines.lines("request_error")
    assert len(ends) == len(kinds)
    for line in ends:
        kind = line["url"].rpartition("/")[2]
        assert line["error_type"] == TYPES[kind][0]


async def test_wrapped_twice_it_is_told_once(name: str) -> None:
    watched = Watched(name)
    inner, watched.kit = watched.kit, ErrorKit(watched.kit, log_level="CRITICAL")
    await request(watched.kit, path="/fail/value")
    inner.flush()
    assert inner.get_error_stats()["total_errors"] == 1
    assert watched.kit.get_error_stats()["total_errors"] == 1


async def test_without_capture_the_status_alone_is_known(name: str) -> None:
    if name in RAISES:
        return
    kit = ErrorKit(APPS[name](), capture=False, log_level="CRITICAL")
    await request(kit, path="/fail/memory")
    assert kit.get_error_stats()["errors_by_type"] == {"unknown": 1}
    kit.tracker.recorder.close()
