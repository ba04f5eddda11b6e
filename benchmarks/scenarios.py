"""What is asked of the app: kinds of requests, each with the bare app that answers it."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from asgi_errorkit.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["SCENARIOS", "Scenario", "deep", "send"]

_HOST = [(b"host", b"example.org")]
_BROWSER = [
    (b"host", b"shop.example.org"),
    (b"connection", b"keep-alive"),
    (b"user-agent", b"Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"),
    (b"accept", b"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
    (b"accept-language", b"en-GB,en;q=0.7,de;q=0.3"),
    (b"accept-encoding", b"gzip, deflate, br, zstd"),
    (b"referer", b"https://shop.example.org/basket"),
    (b"cookie", b"session=0b54c3a1d8e94c55; theme=dark; consent=all"),
    (b"sec-fetch-mode", b"navigate"),
    (b"cache-control", b"max-age=0"),
]
_UPLOAD = [
    *_HOST,
    (b"content-type", b"application/octet-stream"),
    (b"content-length", b"1024"),
]
_KILOBYTE = b"x" * 1024
_MESSAGES = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One kind of request. ``units`` is what its cost is divided by: 1, or the messages in it.

    ``share`` is how many of the asked number of requests are made, for those that take long.
    """

    name: str
    per: str
    app: ASGIApp
    exchange: Callable[[], tuple[Scope, Receive]]
    units: int = 1
    share: float = 1.0
    seen_by_guide: bool = True
    raises: bool = False


async def send(message: Message) -> None:
    """Take a message as a server with room in its buffers does: at once."""


async def _answering(scope: Scope, receive: Receive, send: Send) -> None:
    await send(
        {
            "type": "http.response.start",
            "status": 200,
            "headers": [(b"content-type", b"text/plain"), (b"content-length", b"2")],
        }
    )
    await send({"type": "http.response.body", "body": b"ok"})


async def _reading(scope: Scope, receive: Receive, send: Send) -> None:
    while (await receive()).get("more_body"):
        pass
    await _answering(scope, receive, send)


async def _streaming(scope: Scope, receive: Receive, send: Send) -> None:
    await send(
        {
            "type": "http.response.start",
            "status": 200,
            "headers": [(b"content-type", b"application/octet-stream")],
        }
    )
    for left in range(9, -1, -1):
        await send({"type": "http.response.body", "body": _KILOBYTE, "more_body": left > 0})


async def _failing(scope: Scope, receive: Receive, send: Send) -> None:
    deep(18)


def deep(frames: int) -> None:
    """Fail this many calls further down."""
    if frames:
        return deep(frames - 1)
    raise RuntimeError("the twentieth frame gives up")


async def _echoing(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    while True:
        message = await receive()
        if message["type"] == "websocket.disconnect":
            return
        await send({"type": "websocket.send", "text": message["text"]})


def _http(
    headers: list[tuple[bytes, bytes]], *, method: str = "GET", body: bytes = b""
) -> Callable[[], tuple[Scope, Receive]]:
    """Makes scopes as a server does: nothing in one is shared with the next but bytes and strings."""

    def exchange() -> tuple[Scope, Receive]:
        read = False

        async def receive() -> Message:
            nonlocal read
            if read:  # the client stays: nobody is told of a disconnect
                await asyncio.get_running_loop().create_future()
            read = True
            return {"type": "http.request", "body": body, "more_body": False}

        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "server": ("127.0.0.1", 8000),
            "client": ("127.0.0.1", 54321),
            "scheme": "http",
            "method": method,
            "root_path": "",
            "path": "/items/list",
            "raw_path": b"/items/list",
            "query_string": b"",
            "headers": [(name, value) for name, value in headers],  # tuples of its own
            "state": {},
        }
        return scope, receive

    return exchange


def _websocket(messages: int) -> Callable[[], tuple[Scope, Receive]]:
    def exchange() -> tuple[Scope, Receive]:
        events = iter(_events(messages))

        async def receive() -> Message:
            return next(events)

        scope = {
            "type": "websocket",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "server": ("127.0.0.1", 8000),
            "client": ("127.0.0.1", 54321),
            "scheme": "ws",
            "root_path": "",
            "path": "/progress",
            "raw_path": b"/progress",
            "query_string": b"",
            "headers": [(name, value) for name, value in _HOST],  # tuples of its own
            "subprotocols": [],
            "state": {},
        }
        return scope, receive

    return exchange


def _events(messages: int) -> Any:
    yield {"type": "websocket.connect"}
    for _ in range(messages):
        yield {"type": "websocket.receive", "text": "progress?"}
    yield {"type": "websocket.disconnect", "code": 1000}


SCENARIOS = (
    Scenario(name="GET", per="request", app=_answering, exchange=_http(_HOST)),
    Scenario(
        name="GET, browser's 10 headers", per="request", app=_answering, exchange=_http(_BROWSER)
    ),
    Scenario(
        name="POST 1 KB",
        per="request",
        app=_reading,
        exchange=_http(_UPLOAD, method="POST", body=_KILOBYTE),
    ),
    Scenario(
        name="stream of 10 chunks", per="request", app=_streaming, exchange=_http(_HOST), share=0.5
    ),
    Scenario(
        name="error, 20 frames, repeated",
        per="request",
        app=_failing,
        exchange=_http(_HOST),
        share=0.1,
        raises=True,
    ),
    Scenario(
        name="websocket session of 1 echo",
        per="session",
        app=_echoing,
        exchange=_websocket(1),
        seen_by_guide=False,
    ),
    Scenario(
        name=f"websocket message of {_MESSAGES}",
        per="echo (one message each way)",
        app=_echoing,
        exchange=_websocket(_MESSAGES),
        units=_MESSAGES,
        share=0.05,
        seen_by_guide=False,
    ),
)
