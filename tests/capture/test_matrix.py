"""Whatever goes wrong in whichever framework, it is known for what it is, and answered as before."""

import asyncio
import gc
import re
import sys
from contextlib import AsyncExitStack
from typing import Any

import pytest

from asgi_errorkit import (
    ErrorTracker,
    MiddlewareStack,
    Recorder,
    StructuredLoggingMiddleware,
)
from asgi_errorkit.testing import LogLines, Reply

from .apps import running
from .matrix import CASES, FRAMEWORKS, LOST, THERE, Expected, Framework, expected_of

pytestmark = [
    # Connexion makes an answer that it does not send once the response has started.
    pytest.mark.filterwarnings("ignore:coroutine 'ServerErrorMiddleware.error_response'"),
    # Django leaves a file open then.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

CELLS = [
    pytest.param(name, case, id=f"{name}-{case}")
    for name, framework in FRAMEWORKS.items()
    for case in CASES
    if expected_of(framework, case) is not None
]


class Told:
    """What the kit says of one request to an application that it is around."""

    def __init__(self, framework: Framework) -> None:
        self._framework = framework
        self._lines = LogLines()
        recorder = Recorder(flush_seconds=None)
        stack = MiddlewareStack(error_tracker=ErrorTracker(recorder=recorder))
        stack.add_middleware(StructuredLoggingMiddleware, stream=self._lines)
        self.kit = stack.create_middleware_stack(framework.make())

    async def ask(self, case: str) -> Reply:
        reply = await ask(self._framework, self.kit, case)
        for _ in range(5):
            await asyncio.sleep(0)
        if case == "background":
            gc.collect()  # a task that nobody awaits is told of when it goes
        self.kit.flush()
        return reply

    def line(self) -> dict[str, Any]:
        return self._lines.lines()[-1]

    def ids(self) -> set[str]:
        """The requests that the groups name."""
        return {group.sample["request_id"] for group in self.kit.tracker.groups()}

    def of(self, reply: Reply) -> Expected:
        line = self.line()
        return Expected(
            reply.status,
            line["outcome"],
            line["route"] or self._label(),
            line.get("error_type"),
            line.get("error_category"),
            self._where(),
        )

    def _label(self) -> str:
        """What the statistics call the only request."""
        (label,) = self.kit.get_performance_stats()["routes"]
        return str(label)

    def _where(self) -> str | None:
        """The file and the function that the only group names; None when there is no group."""
        groups = self.kit.tracker.groups()
        assert sum(group.count for group in groups) == len(groups) <= 1
        if not groups:
            return None
        place = groups[0].where
        return "-" if place is None else re.sub(r".*/([^/]+):\d+ (?:.*\.)?(\w+)$", r"\1 \2", place)


async def ask(framework: Framework, app: Any, case: str) -> Reply:
    async with AsyncExitStack() as stack:
        if framework.has_lifespan:
            await stack.enter_async_context(running(app))
        return await framework.ask(app, case)


@pytest.mark.parametrize(("name", "case"), CELLS)
async def test_it_is_known_for_what_it_is(name: str, case: str) -> None:
    """Its class and type, the line of the application that raised it, the route, the outcome."""
    framework = FRAMEWORKS[name]
    told, expected = Told(framework), expected_of(framework, case)
    assert expected is not None
    reply = await told.ask(case)
    if expected.where == LOST:
        expected = expected.but(where=THERE if sys.version_info >= (3, 13) else "-")
    assert told.of(reply) == expected
    assert told.ids() <= {reply.headers.get("x-request-id", told.line()["request_id"])}
    failed = expected.outcome not in ("ok", "client_error")
    assert told.kit.get_error_stats()["failed_requests"] == failed
    if reply.raised is not None:
        reply.raised = None
        gc.collect()  # Django leaves a file open then, which the exception's frames hold


KEPT = [
    cell
    for cell in CELLS
    if FRAMEWORKS[cell.values[0]].answers or CASES[cell.values[1]].expected.status != 500
]
"""Where the answer is the framework's; a websocket has none."""


@pytest.mark.parametrize(("name", "case"), KEPT)
async def test_the_response_stays_as_it_was(name: str, case: str) -> None:
    """To the byte, its headers too, but for the request id that the kit adds."""
    framework = FRAMEWORKS[name]
    bare, ours = await ask(framework, framework.make(), case), await Told(framework).ask(case)
    assert messages(ours) == messages(bare)
    assert type(ours.raised) is type(bare.raised)
    if bare.raised is not None:
        bare.raised = ours.raised = None
        gc.collect()


def messages(reply: Reply) -> list[Any]:
    """What was sent, without what the kit adds to it."""
    sent = []
    for message in reply.messages:
        headers = [each for each in message.get("headers", ()) if each[0] != b"x-request-id"]
        sent.append({**message, "headers": headers})
    return sent
