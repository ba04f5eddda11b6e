"""However often and wherever a framework is hooked into, its errors are told of once, and apart."""

import asyncio
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

from .apps import ANSWERS_ALL, APPS, lifespan

pytestmark = [
    # Connexion makes an answer that it does not send once the response has started.
    pytest.mark.filterwarnings("ignore:coroutine 'ServerErrorMiddleware.error_response'"),
]

RAISES = ("starlette", "fastapi")
"""What nobody handles escapes these; the kit answers it."""

TYPES = {
    "value": "ValueError",
    "timeout": "TimeoutError",
    "memory": "MemoryError",
    "group": "ExceptionGroup",
}
SESSIONS = ("starlette", "fastapi", "quart", "litestar", "falcon", "sanic", "blacksheep")


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


async def started(app: Any, name: str) -> Any:
    """The app, ready to serve: these are not before their lifespan has begun."""
    if name in ("sanic", "blacksheep"):
        await lifespan(app)
    return app


async def test_many_requests_side_by_side_keep_their_errors_apart(watched: Watched) -> None:
    """Each exception is told of in the line of its own request."""
    kinds = list(TYPES) * 20
    await asyncio.gather(*(request(watched.kit, path=f"/fail/{kind}") for kind in kinds))
    watched.kit.flush()
    ends = watched.lines.lines("request_error")
    assert len(ends) == len(kinds)
    for line in ends:
        kind = line["url"].rpartition("/")[2]
        assert line["error_type"] == TYPES[kind]


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


async def test_hooked_twice_it_tells_once(name: str) -> None:
    """Also where the application cannot be remembered as hooked."""
    watched = Watched(name)
    _hooked.clear()
    kit = ErrorKit(watched.app, log_level="CRITICAL")
    await started(kit, name)
    await request(kit, path="/fail/value")
    assert kit.get_error_stats()["total_errors"] == 1
    kit.tracker.recorder.close()


@pytest.mark.parametrize("name", SESSIONS)
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
    ANSWERS_ALL[name](watched.app)
    await started(watched.kit, name)
    reply, line = await watched.ask("/fail/memory")
    assert (reply.status, line["outcome"]) == (500, "server_error")
    assert b"sorry" in reply.body
    assert watched.only_group().type_name == "MemoryError"
