"""An app whose requests kill their worker, each in another way; one that waits is innocent."""

import asyncio
import ctypes
import os
import signal

from asgi_errorkit import ErrorKit

HOARD = []


async def wait(send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"wait", "more_body": True})
    await asyncio.sleep(60)


async def grow(send):
    """Until whoever watches over the memory of this machine has had enough."""
    for _ in range(1000):
        HOARD.append(bytearray(os.urandom(1024)) * 8192)
        await asyncio.sleep(0.1)


async def inner(scope, receive, send):
    if scope["type"] == "lifespan":
        while (await receive())["type"] != "lifespan.shutdown":
            await send({"type": "lifespan.startup.complete"})
        await send({"type": "lifespan.shutdown.complete"})
        return
    path = scope["path"]
    if path == "/killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if path == "/segfault":
        ctypes.string_at(0)
    if path == "/exit":
        os._exit(9)
    if path == "/grow":
        await grow(send)
    if path.startswith("/wait"):
        await wait(send)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(os.getpid()).encode()})


app = ErrorKit(inner)
