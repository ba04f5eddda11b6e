"""How the traffic maker sends one request or follows one session, and what it takes note of."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any, Literal, TypeAlias

import httpx
import orjson
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosedError, ConnectionClosedOK, InvalidStatus

from asgi_errorkit.demo.video import Film, gif

__all__ = [
    "ID_HEADER",
    "Came",
    "Sender",
    "Wire",
    "ask",
    "client_for",
    "follow",
    "order",
    "post_slowly",
    "upload",
]

ID_HEADER = "x-request-id"
PATIENCE_SECONDS = 30.0


@dataclass(slots=True)
class Came:
    """What came back of one request, filled in as it comes."""

    given_id: str = ""
    request_id: str = ""
    status: int | None = None
    ended: Literal["complete", "cut", "left"] = "complete"
    error_type: str | None = None
    fallback_for: str | None = None
    answer: bytes = b""
    sent_bytes: int = 0
    got_bytes: int = 0
    sent_messages: int = 0
    got_messages: int = 0
    started_at: float = field(default_factory=time.perf_counter)


@dataclass(frozen=True, slots=True)
class Wire:
    """The way to the server, and the chance that decides what one request is about."""

    client: httpx.AsyncClient
    chance: Random


Sender: TypeAlias = Callable[[Wire, Came], Awaitable[None]]
"""Sends something; raises what the client library raises when nothing can be said of it."""


def client_for(url: str) -> httpx.AsyncClient:
    """A client that no proxy of the environment stands before, and that keeps no connection long."""
    return httpx.AsyncClient(
        base_url=url,
        trust_env=False,
        timeout=PATIENCE_SECONDS,
        limits=httpx.Limits(keepalive_expiry=2.0),
    )


def ask(method: str, path: str, *, leave: bool = False, **options: Any) -> Sender:
    """Send one request with httpx's options, and read the answer or leave with its first bytes."""

    async def send(wire: Wire, came: Came) -> None:
        await _exchange(wire, came, method, path, leave=leave, **options)

    return send


def order(model_name: str = "stable-diffusion", **headers: str) -> Sender:
    """Order a video that chance describes."""

    async def send(wire: Wire, came: Came) -> None:
        subject = wire.chance.choice(("a whale", "an old tram", "two foxes", "a paper boat"))
        place = wire.chance.choice(("in the rain", "at dusk", "under the ice", "on the moon"))
        wish = {
            "prompt": f"{subject} {place}",
            "model_name": model_name,
            "frames": wire.chance.randint(4, 24),
            "size": wire.chance.choice((32, 48, 64)),
        }
        await _exchange(wire, came, "POST", "/videos/generate", json=wish, headers=headers)

    return send


def upload(*, announced: bool) -> Sender:
    """Send a GIF as the request's body, of a length that is announced, or else in chunks."""

    async def send(wire: Wire, came: Came) -> None:
        frames, size = wire.chance.randint(2, 12), wire.chance.choice((16, 32, 64))
        image = await asyncio.to_thread(gif, Film("an upload", "by hand", frames, size))
        content = image if announced else _pieces(image)
        came.started_at = time.perf_counter()  # the drawing is no part of it
        await _exchange(wire, came, "POST", "/videos/upload", content=content)
        came.sent_bytes = len(image)

    return send


def post_slowly(path: str, request_id: str, content: AsyncIterator[bytes], size: int) -> Sender:
    """Send a body of that size as it comes, under an id that is known before."""

    async def send(wire: Wire, came: Came) -> None:
        came.given_id = request_id
        headers = {ID_HEADER: request_id}
        await _exchange(wire, came, "POST", path, headers=headers, content=content)
        came.sent_bytes = size

    return send


def follow(video_id: str, *, leave: bool = False) -> Sender:
    """Follow a video's progress by websocket to its end, or leave after the second message."""

    async def send(wire: Wire, came: Came) -> None:
        url = wire.client.base_url.copy_with(scheme="ws", path=f"/videos/{video_id}/progress")
        # A session that is refused has no id in its answer: the one that was given has to do.
        came.given_id = came.request_id = _made_id(wire)
        try:
            async with connect(
                f"{url}?frames={wire.chance.randint(4, 12)}",
                additional_headers={ID_HEADER: came.given_id},
                open_timeout=PATIENCE_SECONDS,
                proxy=None,
            ) as socket:
                await _listen(socket, came, leave=leave)
        except InvalidStatus as refused:
            came.status = refused.response.status_code

    return send


async def _exchange(
    wire: Wire,
    came: Came,
    method: str,
    path: str,
    *,
    leave: bool = False,
    headers: dict[str, str] | None = None,
    **options: Any,
) -> None:
    headers = dict(headers or {})
    if ID_HEADER not in headers and wire.chance.random() < 0.5:
        headers[ID_HEADER] = came.given_id = _made_id(wire)
    async with wire.client.stream(method, path, headers=headers, **options) as response:
        came.status = response.status_code
        came.request_id = response.headers.get(ID_HEADER, "")
        came.sent_bytes = int(response.request.headers.get("content-length", "0"))
        await _read(response, came, leave=leave)


async def _read(response: httpx.Response, came: Came, *, leave: bool) -> None:
    body = bytearray()
    try:
        async for piece in response.aiter_raw():
            body += piece
            if leave:
                came.ended = "left"
                break
    except (httpx.RemoteProtocolError, httpx.ReadError):
        came.ended = "cut"
    came.got_bytes = len(body)
    if response.headers.get("content-type") == "application/problem+json":
        came.answer = bytes(body)
        came.error_type = orjson.loads(body)["error"]["context"]["error_type"]
    if "x-fallback" in response.headers:
        came.fallback_for = orjson.loads(body)["because"]


async def _listen(socket: ClientConnection, came: Came, *, leave: bool) -> None:
    came.status = 101
    came.request_id = socket.response.headers.get(ID_HEADER, "") if socket.response else ""
    try:
        async for message in socket:
            came.got_messages += 1
            came.got_bytes += len(message.encode() if isinstance(message, str) else message)
            if leave and came.got_messages == 2:
                came.ended = "left"
                return
            if came.got_messages % 4 == 0:
                await _answer(socket, came, "go on")
    except ConnectionClosedOK:
        pass  # the last word came too late
    except ConnectionClosedError:
        came.ended = "cut"


async def _answer(socket: ClientConnection, came: Came, text: str) -> None:
    await socket.send(text)
    came.sent_messages += 1
    came.sent_bytes += len(text)


async def _pieces(content: bytes) -> AsyncIterator[bytes]:
    for place in range(0, len(content), 1000):
        yield content[place : place + 1000]


def _made_id(wire: Wire) -> str:
    return f"demo-{wire.chance.getrandbits(64):016x}"
