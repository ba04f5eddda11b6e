"""What the app of the outage depends on: ``python -m benchmarks.outage_dependency SLOTS SEED``.

It fares as it is told (``GET /phase/slow``), and counts what it is asked for. Each request takes one
of its slots for a while, also one whose caller has left meanwhile, as most servers have it; what
finds no slot waits.
"""

import asyncio
import json
import sys
import time
from random import Random
from typing import Any

__all__ = ["FAILING", "HEALTHY_SECONDS", "PHASES", "SLOW_SECONDS", "main"]

HEALTHY_SECONDS = 0.02
SLOW_SECONDS = 0.4
FAILING = "failing"
PHASES = {
    "healthy": HEALTHY_SECONDS,
    "slow": SLOW_SECONDS,
    FAILING: HEALTHY_SECONDS,
    "recovered": HEALTHY_SECONDS,
}
"""What becomes of it, in this order, and how long a request takes meanwhile: half as long to half
as much again."""

_PHASE = "/phase/"
_OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n[]"
_UNAVAILABLE = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


class Dependency:
    """A server with so many slots; its times and failures follow from the seed."""

    def __init__(self, slots: int, seed: int) -> None:
        self._slots = asyncio.Semaphore(slots)
        self._random = Random(seed)
        self._phase = next(iter(PHASES))
        self._began_at = time.monotonic()
        self._received: dict[str, list[int]] = {phase: [] for phase in PHASES}

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, with one request on it."""
        try:
            request = await reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()
            return
        path = request.split(b" ", 2)[1].decode()
        if path.startswith(_PHASE):
            answer: bytes | None = self._begin(path.removeprefix(_PHASE))
        else:
            self._count()
            answer = await self._work()
        if answer is None:
            writer.transport.abort()  # the peer sees a connection that is reset
            return
        writer.write(answer)
        writer.close()

    def _begin(self, phase: str) -> bytes:
        """Fare like that from now on; "" only asks for the counts."""
        if phase:
            self._phase, self._began_at = phase, time.monotonic()
        body = json.dumps(self._received).encode()
        return b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)

    def _count(self) -> None:
        seconds = self._received[self._phase]
        second = int(time.monotonic() - self._began_at)
        seconds.extend([0] * (second + 1 - len(seconds)))
        seconds[second] += 1

    async def _work(self) -> bytes | None:
        async with self._slots:
            phase = self._phase
            await asyncio.sleep(PHASES[phase] * self._random.uniform(0.5, 1.5))
        if phase != FAILING:
            return _OK
        return _UNAVAILABLE if self._random.random() < 0.5 else None


async def _serve(slots: int, seed: int) -> None:
    dependency = Dependency(slots, seed)
    server = await asyncio.start_server(dependency.serve, "127.0.0.1", 0, backlog=4096)
    port: Any = server.sockets[0].getsockname()[1]
    print(port, flush=True)
    await server.serve_forever()


def main(arguments: list[str]) -> None:
    slots, seed = map(int, arguments)
    asyncio.run(_serve(slots, seed))


if __name__ == "__main__":
    main(sys.argv[1:])
