"""What the tools here have in common that do without a server: kits to measure, requests by hand."""

import linecache
from collections.abc import Callable, Generator
from contextvars import copy_context
from functools import partial
from pathlib import Path
from typing import IO, Any

from asgi_errorkit.middleware.error_handling import ErrorHandlingMiddleware
from asgi_errorkit.middleware.performance_monitoring import PerformanceMonitoringMiddleware
from asgi_errorkit.middleware.structured_logging import StructuredLoggingMiddleware
from asgi_errorkit.recorder import BATCH, Recorder
from asgi_errorkit.stack import ErrorKit, MiddlewareStack
from asgi_errorkit.testing import http_scope
from asgi_errorkit.tracker import ErrorTracker
from asgi_errorkit.types import ASGIApp, Message, Receive, Scope, Send
from benchmarks.surviving import layers

__all__ = [
    "ENDS",
    "answer",
    "begin",
    "failures",
    "finish",
    "kit",
    "linger",
    "receive",
    "send",
    "serve",
    "whole",
]

ENDS = ("request_complete", "request_error", "websocket_close")
"""One log line for each request."""

_NEVER = 1e12
"""A threshold that is not reached: a busy machine's warnings would count as the kit's own cost."""

_PARKED = "/parked"

_SOURCE = """\
def fail_{number}(deeper):
    if deeper:
        fail_{number}(deeper - 1)
    raise RuntimeError("the last frame gives up")
"""


def kit(
    app: ASGIApp,
    log: IO[bytes],
    *,
    recorder: Recorder | None = None,
    max_groups: int = 500,
    survives: tuple[str, ...] = (),
    directory: Path | None = None,
    **logging: Any,
) -> ErrorKit:
    """Everything on, as `ErrorKit` has it, with a place for its lines and without warnings.

    ``survives`` names what it has to survive failures, of `benchmarks.surviving.PARTS`. In
    ``directory`` it keeps its record, if there is one.
    """
    stack = MiddlewareStack(error_tracker=ErrorTracker(recorder=recorder, max_groups=max_groups))
    stack.add_middleware(StructuredLoggingMiddleware, stream=log, **logging)
    stack.add_middleware(ErrorHandlingMiddleware)
    stack.add_middleware(
        PerformanceMonitoringMiddleware,
        slow_request_threshold_seconds=_NEVER,
        memory_growth_threshold_mb=_NEVER,
        high_memory_threshold_mb=_NEVER,
        high_cpu_threshold_percent=_NEVER,
    )
    for layer, options in layers(survives):
        stack.add_middleware(layer, **options)
    return ErrorKit(app, stack=stack, directory=directory)


def whole(kit: ErrorKit) -> dict[str, int]:
    """The kit's own account; RuntimeError if it has lost or broken anything.

    Work that was not done costs nothing, and would make the kit look fast.
    """
    account: dict[str, int] = kit.status()["recorder"]
    for name in ("lost", "sink_errors", "dropped_log_lines", "observer_errors"):
        if account[name]:
            raise RuntimeError(
                f"{name} is {account[name]}, so the figures would be too good; mend that first"
            )
    return account


async def answer(scope: Scope, receive: Receive, send: Send) -> None:
    """The least app: a short text."""
    await send(
        {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]}
    )
    await send({"type": "http.response.body", "body": b"ok"})


async def receive() -> Message:
    """An empty body."""
    return {"type": "http.request", "body": b"", "more_body": False}


async def send(message: Message) -> None:
    """Take a message as a server with room in its buffers does: at once."""


def failures(number: int) -> list[Callable[[int], None]]:
    """Functions that raise, each at a place of its own and so in an error group of its own.

    They are always in the same file of the same name, wherever this one lies.
    """
    file = "shop/orders.py"
    source = "".join(_SOURCE.format(number=n) for n in range(number))
    linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)
    names: dict[str, Any] = {}
    exec(compile(source, file, "exec"), names)
    return [names[f"fail_{n}"] for n in range(number)]


class _Parking:
    """Awaited, it leaves the request in flight until somebody goes on with it."""

    def __await__(self) -> Generator[None, None, None]:
        yield


async def linger(scope: Scope, receive: Receive, send: Send) -> None:
    """The least app, but for what `begin` asks of it: that stays in flight."""
    if scope["path"] == _PARKED:
        await _Parking()
    await answer(scope, receive, send)


def begin(
    app: ASGIApp, number: int, *, drain: Callable[[], object] | None = None
) -> list[Callable[[], None]]:
    """Have so many requests begin that stay in flight; each is ended by a call of what is returned.

    Each runs in a context of its own, as a task does. ``drain`` is called as often as batches fill.
    """
    ends: list[Callable[[], None]] = []
    for _ in range(number):
        context = copy_context()
        request: Any = app(http_scope(path=_PARKED), receive, send)
        context.run(request.send, None)
        ends.append(partial(context.run, finish, request))
        if drain is not None and len(ends) % BATCH == 0:
            drain()
    return ends


def serve(app: ASGIApp, path: str = "/items/list", **scope: Any) -> None:
    """One request from its beginning to its end, without a loop: nothing of the app waits."""
    finish(app(http_scope(path=path, **scope), receive, send))


def finish(request: Any) -> None:
    """Run the coroutine of a request to its end; what the app raises goes to nobody, as a server would have it."""
    try:
        request.send(None)
    except (StopIteration, RuntimeError):
        return
    raise AssertionError("the app waits, and nobody will wake it")
