"""What is asked of the app: kinds of requests, each with the bare app that answers it."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from asgi_errorkit.types import ASGIApp, Message, Receive, Scope, Send
from benchmarks.failing import Distinct, deep, repeated

__all__ = ["CHUNKS", "MANY_CHUNKS", "ONE_CHUNK", "SCENARIOS", "Scenario", "deep", "send"]

CHUNKS = 10
ONE_CHUNK = "stream of 1 chunk"
MANY_CHUNKS = f"stream of {CHUNKS} chunks"

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
_FAILING = "/orders/list"
_KILOBYTE = b"x" * 1024
_MESSAGES = 100
_OF_A_GET = (
    "hot_added_us",
    "record_hot_us",
    "cpu_one_line_us",
    "cpu_added_us",
    "cheaper_than_guide",
)


def _nothing(requests: int) -> None:
    """There is nothing to make ready."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One kind of request. ``units`` is what its cost is divided by: 1, or the messages in it.

    ``make`` makes the bare app, one for each subject, for a capture changes the app it is told by.
    ``share`` is how many of the asked number of requests are made, for those that take long.
    ``stock`` is told how many requests come, before the clock starts. ``promises`` are those of
    `benchmarks.figures.REACH` that are judged by it. Those of one ``kind`` are compared with each
    other, and so measured in the same rounds.
    """

    name: str
    per: str
    make: Callable[[], ASGIApp]
    exchange: Callable[[], tuple[Scope, Receive]]
    units: int = 1
    share: float = 1.0
    seen_by_guide: bool = True
    raises: bool = False
    stock: Callable[[int], None] = _nothing
    promises: tuple[str, ...] = ()
    kind: str = ""

    @property
    def app(self) -> ASGIApp:
        """A bare app to be put into something."""
        return self.make()


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


def _streaming(chunks: int) -> ASGIApp:
    async def streaming(scope: Scope, receive: Receive, send: Send) -> None:
        await send(
            {
                "type": "http.response.start",
                "status": 200,
                "headers": [(b"content-type", b"application/octet-stream")],
            }
        )
        for left in range(chunks - 1, -1, -1):
            await send({"type": "http.response.body", "body": _KILOBYTE, "more_body": left > 0})

    return streaming


def _starlette() -> ASGIApp:
    """An app of a framework, which answers an error by a handler of the application."""
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import PlainTextResponse, Response
    from starlette.routing import Route

    async def answering(request: Request) -> Response:
        return PlainTextResponse("ok")

    async def failing(request: Request) -> Response:
        deep(18)
        return PlainTextResponse("never")

    async def sorry(request: Request, exc: Exception) -> Response:
        return PlainTextResponse("sorry", status_code=500)

    return Starlette(
        routes=[Route("/items/{name}", answering), Route(_FAILING, failing)],
        exception_handlers={RuntimeError: sorry},
    )


async def _echoing(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    while True:
        message = await receive()
        if message["type"] == "websocket.disconnect":
            return
        await send({"type": "websocket.send", "text": message["text"]})


def _http(
    headers: list[tuple[bytes, bytes]],
    *,
    method: str = "GET",
    body: bytes = b"",
    path: str = "/items/list",
) -> Callable[[], tuple[Scope, Receive]]:
    """Makes scopes as a server does: nothing in one is shared with the next but bytes and strings."""
    raw_path = path.encode()

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
            "path": path,
            "raw_path": raw_path,
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


def _repeated_error(frames: int, *promises: str) -> Scenario:
    return Scenario(
        name=f"error, {frames} frames, repeated",
        per="request",
        make=lambda: repeated(frames),
        exchange=_http(_HOST),
        share=0.1,
        raises=True,
        promises=promises,
    )


def _distinct_error(frames: int, *promises: str, new: int = 3, share: float = 0.015) -> Scenario:
    failing = Distinct(frames=frames, new=new)
    return Scenario(
        name=f"error, {frames} frames, {new} of them new code, distinct",
        per="request",
        make=lambda: failing.app,
        exchange=_http(_HOST),
        share=share,
        raises=True,
        stock=failing.stock,
        promises=promises,
    )


SCENARIOS = (
    Scenario(
        name="GET",
        per="request",
        make=lambda: _answering,
        exchange=_http(_HOST),
        promises=_OF_A_GET,
    ),
    Scenario(
        name="GET, browser's 10 headers",
        per="request",
        make=lambda: _answering,
        exchange=_http(_BROWSER),
        share=0.5,
        promises=_OF_A_GET,
    ),
    Scenario(
        name="GET, Starlette", per="request", make=_starlette, exchange=_http(_HOST), share=0.2
    ),
    Scenario(
        name="POST 1 KB",
        per="request",
        make=lambda: _reading,
        exchange=_http(_UPLOAD, method="POST", body=_KILOBYTE),
        share=0.5,
    ),
    Scenario(
        name=ONE_CHUNK,
        per="request",
        make=lambda: _streaming(1),
        exchange=_http(_HOST),
        share=0.5,
        kind="stream",
    ),
    Scenario(
        name=MANY_CHUNKS,
        per="request",
        make=lambda: _streaming(CHUNKS),
        exchange=_http(_HOST),
        share=0.5,
        promises=("chunk_added_us",),
        kind="stream",
    ),
    Scenario(
        name="websocket session of 1 echo",
        per="session",
        make=lambda: _echoing,
        exchange=_websocket(1),
        share=0.25,
        seen_by_guide=False,
    ),
    Scenario(
        name=f"websocket message of {_MESSAGES}",
        per="echo (one message each way)",
        make=lambda: _echoing,
        exchange=_websocket(_MESSAGES),
        units=_MESSAGES,
        share=0.03,
        seen_by_guide=False,
    ),
    _repeated_error(5),
    _repeated_error(20, "error_repeated_us"),
    _repeated_error(100),
    _distinct_error(5),
    _distinct_error(20, "error_first_us"),
    _distinct_error(20, new=18, share=0.006),
    _distinct_error(100, share=0.008),
    Scenario(
        name="error that Starlette's handler answers, 20 frames, repeated",
        per="request",
        make=_starlette,
        exchange=_http(_HOST, path=_FAILING),
        share=0.1,
    ),
)
