"""The incidents of the demo: each happens for real, goes on until the kit has told of it, and ends."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from random import Random
from secrets import token_hex
from typing import Any

import httpx

from asgi_errorkit.demo.inbox import Inbox
from asgi_errorkit.demo.kinds import Kind
from asgi_errorkit.demo.ledger import Ledger, Sent
from asgi_errorkit.demo.operating import Operator
from asgi_errorkit.demo.restoring import MOST_BYTES, packed_frames
from asgi_errorkit.demo.sending import Wire, ask, post_slowly
from asgi_errorkit.demo.traffic import send_one
from asgi_errorkit.demo.upscaler import CIRCUIT, Upscaler
from asgi_errorkit.demo.waiting import POLL_SECONDS, turns

__all__ = [
    "BLOCKING",
    "CIRCUIT_ALERT",
    "DEATH_ALERT",
    "MEMORY_ALERT",
    "Block",
    "Growth",
    "Outage",
    "Scene",
    "block_the_loop",
    "grow",
    "slow_dependency",
]

CIRCUIT_ALERT = f"CIRCUIT_BREAKER_TRIGGERED:{CIRCUIT}"
MEMORY_ALERT = "MEMORY_USAGE_HIGH"
DEATH_ALERT = "WORKER_DIED"
BLOCKING = " pack_tightly"  # the end of the line that is to be blamed

_CALLERS = 8
_BETWEEN_CALLS_SECONDS = 0.3
_WELL_SECONDS = 0.5
_TOLD_SECONDS = 40.0  # what a machine takes that has much else to do
_BLOCK_TOLD_SECONDS = 10.0
_MOST_BLOCKS = 3
_BETWEEN_PIECES_SECONDS = 0.05
_GROWN_MB = 100

_UPSCALED = Kind(
    name="ask for a larger video",
    send=ask("GET", "/videos/sample_video/upscaled"),
    may_fall_back=True,
)
_PACKED = Kind(name="pack a video tightly", send=ask("GET", "/videos/sample_video/packed"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """Where incidents happen, and what has to be known of it; ``say`` tells people."""

    client: httpx.AsyncClient
    operator: Operator
    ledger: Ledger
    upscaler: Upscaler
    inbox: Inbox
    say: Callable[[str], None]

    async def send(self, kind: Kind) -> Sent:
        """Send one request that belongs to an incident."""
        wire = Wire(self.client, Random(token_hex(8)))  # noqa: S311  callers come as they come
        return await send_one(kind, wire, self.ledger, by="incident")

    async def until_told(self, is_so: Callable[[], bool]) -> bool:
        """Wait until the inbox has what is waited for, for a while; whether it has."""
        for _ in turns(_TOLD_SECONDS):
            if is_so():
                return True
            await asyncio.sleep(POLL_SECONDS)
        return False


@dataclass(frozen=True, slots=True, kw_only=True)
class Outage:
    """Whether the circuit was seen to open, and after that to close."""

    opened: bool
    closed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Growth:
    """The request that a worker grew by, and whether it was seen amid that."""

    request_id: str
    seen: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """The request that blocked the event loop, and the line that was told to have done it."""

    request_id: str
    where: str


async def slow_dependency(scene: Scene) -> Outage:
    """Callers that come whatever the answers; the upscaler is slow until people were told of it."""
    enough = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        for _ in range(_CALLERS):
            group.create_task(_keep_asking(scene, enough))
        try:
            return await _slow_for_a_while(scene)
        finally:
            scene.upscaler.recover()
            enough.set()


async def _keep_asking(scene: Scene, enough: asyncio.Event) -> None:
    while not enough.is_set():
        await scene.send(_UPSCALED)
        await asyncio.sleep(_BETWEEN_CALLS_SECONDS)


async def _slow_for_a_while(scene: Scene) -> Outage:
    known = scene.inbox.notices().begun(CIRCUIT_ALERT)
    await asyncio.sleep(_WELL_SECONDS)
    scene.say(
        "The upscaler, which the app depends on, becomes slow: calls are cut off after 1 s, then\n"
        "its circuit opens, and a fallback answers at once.\n"
        "Look at: In flight, Overview (outcomes, latency), then Circuit breakers, Alerts."
    )
    scene.upscaler.slow_down()
    opened = await _until_circuit(scene, "open")
    await scene.until_told(lambda: scene.inbox.notices().begun(CIRCUIT_ALERT) > known)
    scene.say("The upscaler is well again: some calls are let through, and the circuit closes.")
    scene.upscaler.recover()
    return Outage(opened=opened, closed=await _until_circuit(scene, "closed"))


async def _until_circuit(scene: Scene, state: str) -> bool:
    def is_so(told: dict[str, Any]) -> bool:
        known = [each for each in told["breakers"] if each["name"] == CIRCUIT]
        return any(each["state"] == state for each in known)

    return await scene.operator.until("/breakers", is_so, seconds=_TOLD_SECONDS)


async def grow(scene: Scene) -> Growth:
    """A request whose body unpacks to 150 MB in memory, and that ends when people were told of it."""
    scene.say(
        f"A request unpacks {MOST_BYTES // 2**20} MB into the memory of its worker.\n"
        "Look at: Workers (memory), In flight (what grew), Alerts."
    )
    request_id = f"demo-{token_hex(8)}"
    known = scene.inbox.notices().begun(MEMORY_ALERT)
    pieces = await asyncio.to_thread(packed_frames)
    seen = False

    async def body() -> AsyncIterator[bytes]:
        nonlocal seen
        for piece in pieces:
            yield piece
            await asyncio.sleep(_BETWEEN_PIECES_SECONDS)
        seen = await scene.operator.until(
            "/inflight", lambda told: _has_grown(told, request_id), seconds=_TOLD_SECONDS
        )
        await scene.until_told(lambda: scene.inbox.notices().begun(MEMORY_ALERT) > known)

    size = sum(map(len, pieces))
    restore = post_slowly("/videos/restore", request_id, body(), size)
    await scene.send(Kind(name="restore an old film", send=restore))
    scene.say("The request has ended, and its memory is free again.")
    return Growth(request_id=request_id, seen=seen)


def _has_grown(told: dict[str, Any], request_id: str) -> bool:
    mine = [each for each in told["requests"] if each["request_id"] == request_id]
    return any(each["memory_growth_mb"] >= _GROWN_MB for each in mine)


async def block_the_loop(scene: Scene) -> Block:
    """A handler that packs where nothing else can run; again, if the watchdog got no processor."""
    scene.say(
        "A handler blocks the event loop for more than half a second, and all others wait.\n"
        "Look at: Overview (latency), Workers (loop lag), and loop_blocked in the log."
    )
    for _ in range(_MOST_BLOCKS):
        request_id = (await scene.send(_PACKED)).request_id
        for _ in turns(_BLOCK_TOLD_SECONDS):
            blocks = (await scene.operator.ask("/status"))["blocks"]
            for each in blocks:
                if each["request_id"] == request_id and each["where"].endswith(BLOCKING):
                    return Block(request_id=request_id, where=each["where"])
            await asyncio.sleep(POLL_SECONDS)
    return Block(request_id=request_id, where="")
