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
from asgi_errorkit.capture import _hooked
from asgi_errorkit.testing import LogLines, Reply, request, session

from . import apps
from .apps import APPS, lifespan

pytestmark = [
    # Connexion makes an answer that it does not send once the response has started.
    pytest.mark.filterwarnings("ignore:coroutine 'ServerErrorMiddleware.error_response'"),
]

RAISES = ("starlette", "fastapi")
"""What nobody handles escapes these; the kit answers it."""

CAPTURED = {"connexion_flask": "connexion", "fastapi": "starlette"}
CAPTURED |= {"flask_by_asgiref": "wsgi", "flask_by_a2wsgi": "wsgi"}
"""The hook that tells of an app, where it has another name."""

LACKS = {
    "starlette": ("validate", "expected"),
    "fastapi": ("expected",),
    "quart": ("validate", "expected"),
    "litestar": ("expected",),
    "falcon": ("thread", "later", "validate", "expected"),
    "django": ("later", "validate", "expected"),
    "sanic": ("thread", "validate"),
    "blacksheep": ("thread", "later", "validate"),
    "connexion_flask": ("thread", "later"),  # all of it runs in threads
    "flask_by_asgiref": ("thread", "later", "validate"),
    "flask_by_a2wsgi": ("thread", "later", "validate"),
}
"""What there is no such thing as in a framework, or in our app for it."""

TYPES = {
    "value": ("ValueError", "unknown"),
    "timeout": ("TimeoutError", "timeout"),
    "memory": ("MemoryError", "memory"),
    "group": ("ExceptionGroup", "external_service"),
}


PATHS = ("ok/7", "fail/value", "refuse/404", "refuse/503", "expected", "validate/no", "nowhere")


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


@pytest.fixture(autouse=True)
def _quiet() -> None:
    logging.getLogger("django.request").disabled = True


@pytest.fixture(params=APPS)
def name(request: pytest.FixtureRequest) -> str:
    """Each framework in turn; a test that is about some alone names them itself."""
    return str(request.param)


@pytest.fixture
async def watched(name: str) -> Watched:
    watched = Watched(name)
    await started(watched.kit, name)
    return watched


def those_with(path: str) -> list[str]:
    """The frameworks that have such a thing."""
    return [name for name in APPS if path not in LACKS.get(name, ())]


async def started(app: Any, name: str) -> Any:
    """The app, ready to serve: these are not before their lifespan has begun."""
    if name in ("sanic", "blacksheep"):
        await lifespan(app)
    return app


async def ask_bare(name: str, path: str) -> Reply:
    return await request(await started(APPS[name](), name), path=path)


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize(
    ("name", "way"),
    [(name, way) for way in ("fail", "thread", "mounted/fail") for name in those_with(way)],
)
async def test_an_unhandled_error_is_known_for_what_it_is(
    watched: Watched, name: str, kind: str, way: str
) -> None:
    """Its class, its type, the line of the application that raised it, and the route."""
    bare = await ask_bare(name, f"/{way}/{kind}")
    reply, line = await watched.ask(f"/{way}/{kind}")
    class_name, error_type = TYPES[kind]
    assert (line["event"], line["outcome"]) == ("request_error", "server_error")
    assert (line["error_type"], line["error_category"]) == (class_name, error_type)
    group = watched.only_group()
    if kind == "timeout" and is_in_a_task_for_a_thread(name, way):
        assert group.where is None  # asyncio makes a new TimeoutError of one that a thread raised
    else:
        assert "apps.py" in group.where and group.where.endswith(" fail")
    assert group.count == 1
    assert line["route"] is not None and line["route"].startswith(f"/{way}/")
    assert "kind" in line["route"]
    if name not in RAISES:
        assert (reply.status, reply.body) == (bare.status, bare.body)
    assert watched.kit.get_error_stats()["errors_by_type"] == {error_type: 1}


def is_in_a_task_for_a_thread(name: str, way: str) -> bool:
    by_asyncio = name in ("quart", "django", "litestar") and way == "thread"
    return by_asyncio or name == "connexion_flask"


@pytest.mark.parametrize("status", [404, 403])
async def test_what_the_framework_refuses_is_handled(
    watched: Watched, name: str, status: int
) -> None:
    """Counted by its status, and no error of the application's: no group, no traceback."""
    bare = await ask_bare(name, f"/refuse/{status}")
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


@pytest.mark.parametrize("name", those_with("later"))
async def test_an_error_after_the_response_is_a_background_failure(
    watched: Watched, name: str
) -> None:
    reply, line = await watched.ask("/later")
    assert (reply.status, reply.complete) == (200, True)
    if name not in ("quart", "sanic"):  # whose background tasks outlive the request
        assert line["outcome"] == "background_failed"
    group = watched.only_group()
    assert group.type_name == "ValueError"
    assert group.where.endswith(" fail")
    reply.raised = None
    gc.collect()  # what Connexion makes and does not send, within this test


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
    await started(watched.kit, name)
    await request(watched.kit, path="/fail/value")
    inner.flush()
    assert inner.get_error_stats()["total_errors"] == 1
    assert watched.kit.get_error_stats()["total_errors"] == 1


@pytest.mark.parametrize("name", [name for name in APPS if name not in RAISES])
async def test_without_capture_the_status_alone_is_known(name: str) -> None:
    kit = ErrorKit(APPS[name](), capture=False, log_level="CRITICAL")
    await started(kit, name)
    await request(kit, path="/fail/memory")
    assert kit.get_error_stats()["errors_by_type"] == {"unknown": 1}
    kit.tracker.recorder.close()


@pytest.mark.parametrize(
    ("name", "path"),
    [
        (name, path)
        for path in PATHS
        for name in APPS
        if not (name in RAISES and path == "fail/value")  # which the kit answers
    ],
)
async def test_the_response_stays_as_it_was(watched: Watched, name: str, path: str) -> None:
    """To the byte, its headers too, but for the request id that the kit adds."""
    bare = await ask_bare(name, f"/{path}")
    reply, _ = await watched.ask(f"/{path}")
    headers = list(reply.starts[0]["headers"])
    assert headers.pop()[0] == b"x-request-id"
    assert headers == list(bare.starts[0]["headers"])
    assert (reply.status, reply.body) == (bare.status, bare.body)


@pytest.mark.parametrize("name", those_with("validate"))
async def test_what_the_framework_finds_invalid_blames_the_client(
    watched: Watched, name: str
) -> None:
    bare = await ask_bare(name, "/validate/no")
    reply, line = await watched.ask("/validate/no")
    assert (reply.status, reply.body) == (bare.status, bare.body) and 400 <= reply.status < 500
    assert line["outcome"] == "client_error"
    assert watched.kit.tracker.groups() == []
    stats = watched.kit.get_error_stats()
    assert (stats["client_errors"], stats["failed_requests"]) == (1, 0)


@pytest.mark.parametrize("name", those_with("expected"))
async def test_what_has_a_handler_is_handled(watched: Watched, name: str) -> None:
    reply, line = await watched.ask("/expected")
    assert (reply.status, line["outcome"]) == (409, "client_error")
    assert watched.kit.tracker.groups() == []


async def test_hooked_twice_it_tells_once(name: str) -> None:
    """Also where the application cannot be remembered as hooked."""
    watched = Watched(name)
    _hooked.clear()
    kit = ErrorKit(watched.app, log_level="CRITICAL")
    await started(kit, name)
    await request(kit, path="/fail/value")
    assert kit.get_error_stats()["total_errors"] == 1
    kit.tracker.recorder.close()


@pytest.mark.parametrize("name", ["sanic", "blacksheep"])
async def test_an_error_that_ends_a_websocket_is_known(name: str) -> None:
    """These answer it themselves, with a close or not at all."""
    watched = Watched(name)
    await started(watched.kit, name)
    reply = await session(watched.kit, "/ws/memory")
    watched.kit.flush()
    assert reply.raised is None
    line = watched.lines.lines()[-1]
    assert (line["error_type"], line["outcome"]) == ("MemoryError", "server_error")
    assert line["route"].startswith("/ws/")
    assert watched.only_group().where.endswith(" fail")


@pytest.mark.parametrize("name", ["sanic", "blacksheep"])
async def test_a_client_that_ends_its_websocket_is_no_error(name: str) -> None:
    watched = Watched(name)
    await started(watched.kit, name)
    await session(watched.kit, "/listen", messages=["one"])
    watched.kit.flush()
    assert watched.lines.lines()[-1]["outcome"] == "ok"
    assert watched.kit.tracker.groups() == []


async def test_a_sanic_that_has_started_is_told_of_and_serves(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It has let go of its signals; the response and its status are all that is known."""
    app = await started(APPS["sanic"](), "sanic")
    kit = ErrorKit(app, log_level="CRITICAL")
    reply = await request(kit, path="/fail/memory")
    assert reply.status == 500
    assert [r.message for r in caplog.records if r.name == "asgi_errorkit"]
    assert kit.get_error_stats()["total_errors"] == 1
    kit.tracker.recorder.close()


async def test_a_blacksheep_that_starts_anew_is_known_as_before() -> None:
    watched = Watched("blacksheep")
    for _ in range(2):
        await watched.app.start()
        reply, line = await watched.ask("/fail/memory")
        assert (reply.status, line["error_type"]) == (500, "MemoryError")
        assert line["route"] == "/fail/{kind}"
        await watched.app.stop()


@pytest.mark.parametrize("name", ["sanic", "blacksheep", "connexion", "connexion_flask"])
async def test_an_application_that_answers_all_its_errors_still_has_them(name: str) -> None:
    """A handler for any exception does not expect the one that comes."""
    watched = Watched(name)
    apps.answer_all(watched.app, name)
    await started(watched.kit, name)
    reply, line = await watched.ask("/fail/memory")
    assert (reply.status, line["outcome"]) == (500, "server_error")
    assert b"sorry" in reply.body
    assert watched.only_group().type_name == "MemoryError"
