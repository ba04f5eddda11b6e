"""How the demo waits: for a while, and no longer."""

import asyncio
import time
from collections.abc import Iterator

import httpx

from asgi_errorkit.demo.ledger import Ledger
from asgi_errorkit.demo.server import Server, ServerError
from asgi_errorkit.demo.traffic import look

__all__ = ["POLL_SECONDS", "turns", "until_healthy"]

POLL_SECONDS = 0.05
_START_SECONDS = 60.0


def turns(seconds: float) -> Iterator[None]:
    """Turns of a loop until so much time has gone; one at least."""
    until = time.monotonic() + seconds
    yield
    while time.monotonic() < until:
        yield


async def until_healthy(server: Server, client: httpx.AsyncClient, ledger: Ledger) -> None:
    """Wait for a server that was just started. Raises ServerError when it does not come."""
    for _ in turns(_START_SECONDS):
        server.check()
        try:
            await look(client, "/health", ledger)
        except httpx.ConnectError:
            await asyncio.sleep(POLL_SECONDS)
        else:
            return
    raise ServerError(f"nobody answered at {server.url} within {_START_SECONDS:.0f} s")
