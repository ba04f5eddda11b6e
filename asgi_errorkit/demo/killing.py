"""A worker of the demo that is killed amid a request, as the kernel kills when memory runs out."""

import asyncio
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex

from asgi_errorkit.demo.ledger import Ledger
from asgi_errorkit.demo.sending import ID_HEADER, client_for
from asgi_errorkit.demo.server import HOST, Server, ServerError
from asgi_errorkit.demo.traffic import look
from asgi_errorkit.demo.waiting import POLL_SECONDS, turns, until_healthy
from asgi_errorkit.spool.host import Host

__all__ = ["Killed", "kill_amid_request"]

_LISTED_SECONDS = 30.0
_FOUND_SECONDS = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Killed:
    """What the worker had answered, and the id of the request that it was at."""

    answered: Ledger
    request_id: str


async def kill_amid_request(victim: Server, record: Path) -> Killed:
    """Have a server answer a little, kill it amid an upload, and wait until another has found that.

    Raises ServerError when it never gets so far.
    """
    answered = Ledger()
    async with client_for(victim.url) as client:
        await until_healthy(victim, client, answered)
        await look(client, "/videos", answered)
    host = Host(record)
    try:
        request_id = f"demo-{token_hex(8)}"
        await _kill_amid_upload(victim, host, request_id)
        for _ in turns(_FOUND_SECONDS):
            if host.crashes():
                break
            await asyncio.sleep(POLL_SECONDS)
    finally:
        host.directory.close()
    return Killed(answered=answered, request_id=request_id)


async def _kill_amid_upload(victim: Server, host: Host, request_id: str) -> None:
    """Of the upload only the beginning is ever sent, so that the worker waits for the rest."""
    _, writer = await asyncio.open_connection(HOST, victim.port)
    try:
        head = f"POST /videos/upload HTTP/1.1\r\nhost: {HOST}\r\n{ID_HEADER}: {request_id}\r\n"
        writer.write(f"{head}content-length: 100000\r\n\r\nGIF89a".encode())
        await writer.drain()
        await _until_listed(victim, host, request_id)
        victim.process.kill()
        victim.process.wait()
    finally:
        writer.close()


async def _until_listed(victim: Server, host: Host, request_id: str) -> None:
    for _ in turns(_LISTED_SECONDS):
        victim.check()
        listed = (each for worker in host.workers() for each in worker.reading.in_flight)
        if any(each.request_id == request_id for each in listed):
            return
        await asyncio.sleep(POLL_SECONDS)
    raise ServerError(f"no request was put on record within {_LISTED_SECONDS:.0f} s")
