"""For tests: a clock that is set by hand, a raw ASGI client, captured log lines, instant waits."""

import io
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import orjson

from asgi_errorkit import waiting
from asgi_errorkit.response import FILE_BODIES
from asgi_errorkit.types import ASGIApp, Message, Scope

__all__ = ["HandClock", "LogLines", "Reply", "instant_waits", "request", "session"]

_BODIES = FILE_BODIES | {"http.response.body"}


class HandClock:
    """A clock that stands still until it is moved; seconds."""

    def __init__(self, at: float = 1_000.0) -> None:
        self.at = at

    def __call__(self) -> float:
        return self.at

    def move(self, seconds: float) -> None:
        self.at += seconds


class LogLines(io.BytesIO):
    """A stream for log lines that reads them back as dicts."""

    def lines(self, event: str | None = None) -> list[dict[str, Any]]:
        """Every line written so far, or those of one event."""
        lines = [orjson.loads(line) for line in self.getvalue().splitlines()]
        return [line for line in lines if event in (None, line["event"])]


@contextmanager
def instant_waits() -> Iterator[list[float]]:
    """Within it no retry waits, in the whole process; gives the seconds they would have waited.

    Other tasks get their turn all the same. The process's retry budget, which so many retries at
    once would use up, is not asked; one that a `Retry` was given is.
    """
    waited: list[float] = []

    def pass_by(seconds: float) -> float:
        waited.append(seconds)
        return 0.0

    before, waiting.hook = waiting.hook, pass_by
    try:
        yield waited
    finally:
        waiting.hook = before


class Reply:
    """What an app sent for one request, and how it ended."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.raised: BaseException | None = None
        self.returned: Any = None

    @property
    def starts(self) -> list[Message]:
        return [m for m in self.messages if m["type"].endswith("response.start")]

    @property
    def status(self) -> int | None:
        return self.starts[0]["status"] if self.starts else None

    @property
    def headers(self) -> dict[str, str]:
        """The response's headers by lower-case name; of a repeated one the last."""
        pairs = self.starts[0].get("headers", ()) if self.starts else ()
        return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in pairs}

    @property
    def body(self) -> bytes:
        return b"".join(
            m.get("body", b"") for m in self.messages if m["type"] == "http.response.body"
        )

    @property
    def complete(self) -> bool:
        return any(map(_completes, self.messages))

    def json(self) -> Any:
        return orjson.loads(self.body)


def http_scope(
    method: str = "GET",
    path: str = "/",
    *,
    query: bytes = b"",
    headers: Iterable[tuple[bytes, bytes]] = (),
    **more: Any,
) -> Scope:
    """A scope as uvicorn makes it."""
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "server": ("127.0.0.1", 8000),
        "client": ("127.0.0.1", 50000),
        "scheme": "http",
        "method": method,
        "root_path": "",
        "path": path,
        "raw_path": path.encode("utf-8", "surrogatepass"),
        "query_string": query,
        "headers": [(b"host", b"test"), *headers],
        "state": {},
        **more,
    }


async def request(
    app: ASGIApp,
    method: str = "GET",
    path: str = "/",
    *,
    query: bytes = b"",
    headers: Iterable[tuple[bytes, bytes]] = (),
    body: bytes | Iterable[bytes] = b"",
    leaves: bool = False,
    **more: Any,
) -> Reply:
    """Send one http request to the app as a server would; what it raises is in ``raised``.

    The client stays until the response is complete: only then does a receive after the body give
    ``http.disconnect``, under asyncio and trio alike. One that ``leaves`` is gone after its body.
    """
    pieces = [body] if isinstance(body, bytes) else list(body) or [b""]
    events: list[Message] = [
        {"type": "http.request", "body": piece, "more_body": number < len(pieces)}
        for number, piece in enumerate(pieces, 1)
    ]
    return await _run(
        app,
        http_scope(method, path, query=query, headers=headers, **more),
        [*events, {"type": "http.disconnect"}],
        leaves=leaves,
    )


async def session(
    app: ASGIApp,
    path: str = "/",
    *,
    messages: Iterable[str | bytes] = (),
    headers: Iterable[tuple[bytes, bytes]] = (),
    code: int = 1000,
) -> Reply:
    """Open a websocket, send the messages, and leave with ``code``."""
    scope = http_scope("GET", path, headers=headers)
    del scope["method"]
    scope.update(type="websocket", scheme="ws", subprotocols=[])
    events: list[Message] = [{"type": "websocket.connect"}]
    events += [
        {"type": "websocket.receive", "text" if isinstance(m, str) else "bytes": m}
        for m in messages
    ]
    return await _run(app, scope, [*events, {"type": "websocket.disconnect", "code": code}])


async def _run(app: ASGIApp, scope: Scope, events: list[Message], *, leaves: bool = True) -> Reply:
    reply = Reply()
    over = _Moment()
    if leaves:
        over.come()

    async def receive() -> Message:
        if len(events) > 1:
            return events.pop(0)
        await over.wait()
        return events[0]

    async def send(message: Message) -> None:
        reply.messages.append(message)
        if _completes(message):
            over.come()

    try:
        reply.returned = await app(scope, receive, send)
    except BaseException as raised:  # noqa: BLE001  the test looks at it
        reply.raised = raised
    over.come()  # a server closes behind an app that has ended, and tasks of it may still wait
    return reply


def _completes(message: Message) -> bool:
    return message.get("type") in _BODIES and not message.get("more_body")


class _Moment:
    """Comes once; whoever waits for it sleeps. Belongs to the loop that first waits."""

    __slots__ = ("_event", "has_come")

    def __init__(self) -> None:
        self.has_come = False
        self._event: Any = None  # made by the first who has to wait: many a test runs no loop

    def come(self) -> None:
        self.has_come = True
        if self._event is not None:
            self._event.set()

    async def wait(self) -> None:
        if self.has_come:
            return
        if self._event is None:
            self._event = _event()
        await self._event.wait()


def _event() -> Any:
    """An event of the library, trio or asyncio, that runs this task; neither is ever imported."""
    trio = sys.modules.get("trio")
    # Asked first, for a guest of asyncio's loop is a trio task in which asyncio's loop runs too.
    if trio is not None and trio.lowlevel.in_trio_task():
        return trio.Event()
    return sys.modules["asyncio"].Event()
