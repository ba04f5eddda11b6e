"""What the applications of all frameworks do, each path alike, and how a test steers it.

A test names what it counts, breaks and lets go by a ``key`` of its own in the query.
"""

import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import NamedTuple

import anyio

from asgi_errorkit import current

calls = Counter()
ended = Counter()
broken = set()
let_go = set()


class Asked(NamedTuple):
    key: str
    method: str
    body: Callable[[], Awaitable[bytes]]


class Said(NamedTuple):
    body: bytes | AsyncIterator[bytes]
    status: int = 200


# Nothing wrong


async def plain(asked):
    return Said(b"Hello, world")


async def echo(asked):
    return Said(await asked.body())


async def nothing(asked):
    return Said(b"", 204)


async def stream(asked):
    async def pieces():
        for piece in (b"first,", b"second,", b"x" * 5000):
            yield piece
            await anyio.sleep(0)

    return Said(pieces())


# What it needs is broken


async def weak(asked):
    """As strong as what it needs."""
    calls[asked.key] += 1
    if asked.key in broken:
        raise ConnectionError("what it needs is down")
    return Said(b"well")


async def flaky(asked):
    """Reads all that it is sent, fails twice, then gives it back."""
    body = await asked.body()
    calls[asked.key] += 1
    if calls[asked.key] <= 2:
        raise ConnectionError("down for a moment")
    return Said(body)


async def late(asked):
    calls[asked.key] += 1

    async def pieces():
        yield b"so far so good"
        raise ConnectionError("gone amid the response")

    return Said(pieces())


async def bug(asked):
    """A failure that no policy retries, and no fallback answers for."""
    calls[asked.key] += 1
    raise RuntimeError("a bug")


# What takes its time


async def left(asked):
    """How many seconds are left."""
    exchange = current()
    return Said(repr(exchange and exchange.remaining()).encode())


def left_in_thread(asked):
    exchange = current()
    return Said(repr(exchange and exchange.remaining()).encode())


async def hang(asked):
    """Never answers by itself."""
    calls[asked.key] += 1
    try:
        await anyio.sleep(600)
    finally:
        ended[asked.key] += 1


def sit(asked):
    """Takes longer than it may, in a thread, which nobody can cut off."""
    calls[asked.key] += 1
    time.sleep(0.4)
    ended[asked.key] += 1
    return Said(b"too late")


async def stall(asked):
    """Begins to answer, then stands still."""
    calls[asked.key] += 1

    async def pieces():
        yield b"so far so good"
        try:
            await anyio.sleep(600)
        finally:
            ended[asked.key] += 1

    return Said(pieces())


async def hold(asked):
    """Waits until the test lets it go."""
    calls[asked.key] += 1
    while asked.key not in let_go:
        await anyio.sleep(0.005)
    return Said(b"at last")


async def hesitate(asked):
    """Fails at once, and when it is tried again, hangs."""
    if not calls[asked.key]:
        calls[asked.key] += 1
        raise ConnectionError("down for a moment")
    return await hang(asked)


HTTP = {
    "/plain": plain,
    "/health": plain,
    "/echo": echo,
    "/nothing": nothing,
    "/stream": stream,
    "/bug": bug,
    "/breaking/long": weak,
    "/breaking/brief": weak,
    "/breaking/items/{number}": weak,
    "/retrying/flaky": flaky,
    "/retrying/late": late,
    "/falling/static": weak,
    "/falling/called": weak,
    "/falling/stale": weak,
    "/falling/app": weak,
    "/falling/listed": weak,
    "/falling/streamed": stream,
    "/timing/left": left,
    "/timing/left-in-thread": left_in_thread,
    "/timing/hang": hang,
    "/timing/begin": hang,
    "/timing/sit": sit,
    "/timing/stall": stall,
    "/crowded/hold": hold,
    "/crowded/plain": plain,
    "/crowded/health": plain,
    "/mixed/down": weak,
    "/mixed/hesitate": hesitate,
    "/mixed/crowded": hold,
}
"""By path, where a name in braces stands for one segment; what is no coroutine runs in a thread."""

METHODS = ("GET", "PUT", "POST")


# Websocket sessions, made of what each framework has for it


async def ws_echo(key, accept, receive, send):
    """Gives back what it is sent."""
    await accept()
    while (said := await receive()) is not None:
        await send(said)


async def ws_weak(key, accept, receive, send):
    """Fails once it has been accepted, if what it needs is broken."""
    calls[key] += 1
    await accept()
    if key in broken:
        raise ConnectionError("what it needs is down")
    await send("well")


SESSIONS = {"/ws/echo": ws_echo, "/ws/breaking": ws_weak}
