"""Where no hook is known, what is logged before a 500 is what failed; nothing else is."""

import asyncio
import logging
from typing import Any

import pytest

from asgi_errorkit import (
    ErrorKit,
    ErrorTracker,
    ErrorType,
    MiddlewareStack,
    Recorder,
    StructuredLoggingMiddleware,
)
from asgi_errorkit.testing import LogLines, request

logger = logging.getLogger("a.framework")


@pytest.fixture(autouse=True)
def factory() -> Any:
    before = logging.getLogRecordFactory()
    logging.setLogRecordFactory(logging.LogRecord)
    yield
    logging.setLogRecordFactory(before)


def answering(status: int, *, after: bool = False, level: int = logging.ERROR) -> Any:
    """An app that logs an exception, as frameworks do, and answers with the status."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        try:
            raise MemoryError(scope["path"])
        except MemoryError as error:
            logger.log(level, "failed", exc_info=error)
        if after:
            logger.error("another", exc_info=ValueError("not raised by anybody"))
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    return app


class Watched:
    def __init__(self, app: Any, **options: Any) -> None:
        self.lines = LogLines()
        stack = MiddlewareStack(error_tracker=ErrorTracker(recorder=Recorder(flush_seconds=None)))
        stack.add_middleware(StructuredLoggingMiddleware, stream=self.lines)
        self.kit = stack.create_middleware_stack(app)

    async def ask(self, path: str = "/") -> dict[str, Any]:
        await request(self.kit, path=path)
        self.kit.flush()
        return self.lines.lines()[-1]


async def test_what_is_logged_before_a_500_is_what_failed() -> None:
    watched = Watched(answering(500))
    line = await watched.ask()
    assert (line["error_type"], line["error_category"]) == ("MemoryError", "memory")
    (group,) = watched.kit.tracker.groups()
    assert group.where is not None and "test_fallback.py" in group.where


@pytest.mark.parametrize("status", [200, 404])
async def test_what_is_logged_and_then_answered_well_is_no_failure(status: int) -> None:
    line = await Watched(answering(status)).ask()
    assert (line["event"], line.get("error")) == ("request_complete", None)


async def test_the_last_that_was_logged_counts() -> None:
    assert (await Watched(answering(503, after=True)).ask())["error_type"] == "ValueError"


async def test_where_the_level_is_off_the_status_alone_is_known() -> None:
    logger.setLevel(logging.CRITICAL)
    try:
        line = await Watched(answering(500)).ask()
    finally:
        logger.setLevel(logging.NOTSET)
    assert (line["outcome"], line["error_type"]) == ("server_error", None)


async def test_requests_side_by_side_keep_their_errors_apart() -> None:
    watched = Watched(answering(500))
    await asyncio.gather(*(request(watched.kit, path=f"/{n}") for n in range(50)))
    watched.kit.flush()
    for line in watched.lines.lines("request_error"):
        assert line["error"] == "/" + line["url"].rpartition("/")[2]


async def test_only_those_that_ask_for_it_have_it() -> None:
    """The factory is set at the first request, once, on top of the application's own."""
    before = logging.getLogRecordFactory()
    off = ErrorKit(answering(500), capture=False, log_level="CRITICAL")
    await request(off)
    assert logging.getLogRecordFactory() is before
    on = ErrorKit(answering(500), log_level="CRITICAL")
    assert logging.getLogRecordFactory() is before
    await request(on)
    await request(ErrorKit(answering(500), log_level="CRITICAL"))
    await request(off)
    assert logging.getLogRecordFactory() is not before
    assert off.get_error_stats()["errors_by_type"] == {"unknown": 2}
    assert on.get_error_stats()["errors_by_type"] == {"memory": 1}


@pytest.mark.parametrize("capture", ["quart", ["flusk"], 5, None])
def test_a_capture_that_makes_no_sense_is_refused(capture: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="capture must be"):
        ErrorKit(answering(500), capture=capture)


async def test_what_is_told_before_the_first_request_turns_nothing_off() -> None:
    """Neither does a kit that serves already, with the same tracker."""
    watched = Watched(answering(500))
    watched.kit.tracker.record_error(ErrorType.CACHE)
    assert (await watched.ask())["error_type"] == "MemoryError"
    logging.setLogRecordFactory(logging.LogRecord)
    second = ErrorKit(answering(500), tracker=watched.kit.tracker, log_level="CRITICAL")
    await request(second, path="/second")
    assert watched.kit.get_error_stats()["errors_by_type"] == {"cache": 1, "memory": 2}
