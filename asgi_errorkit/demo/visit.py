"""One visit to the demo's server: the traffic, the incidents amid it, and what the kit told."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx

from asgi_errorkit.demo.aftermath import ONE_ALERTS, Incidents, Operated
from asgi_errorkit.demo.incidents import (
    CIRCUIT_ALERT,
    DEATH_ALERT,
    MEMORY_ALERT,
    Block,
    Growth,
    Outage,
    Scene,
    block_the_loop,
    grow,
    slow_dependency,
)
from asgi_errorkit.demo.killing import Killed, kill_amid_request
from asgi_errorkit.demo.kinds import plan
from asgi_errorkit.demo.ledger import Ledger
from asgi_errorkit.demo.operating import Operator
from asgi_errorkit.demo.sending import client_for
from asgi_errorkit.demo.server import Server
from asgi_errorkit.demo.stage import Stage
from asgi_errorkit.demo.traffic import look, make_traffic
from asgi_errorkit.demo.waiting import POLL_SECONDS, turns, until_healthy

__all__ = ["AT_ONCE", "Planned", "first_of", "kill_another", "scene_at", "visit"]

AT_ONCE = 8
_QUIET_SECONDS = 40.0
_MOST_GROUPS = 500

_Witnessed = tuple[Outage, Growth, Block]


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """What is to be done; ``say`` tells people of each incident as it begins."""

    requests: int
    seed: int = 1
    incidents: bool = True
    say: Callable[[str], None] = lambda _: None


async def visit(stage: Stage, ledger: Ledger, planned: Planned) -> dict[str, Any]:
    """What `asgi_errorkit.demo.checks.Seen` has to have, but for what lies in files.

    Raises ServerError when a server does not come, or dies, and httpx.HTTPError.
    """
    try:
        return await _visit(stage, ledger, planned)
    except (ExceptionGroup, httpx.HTTPError) as error:  # a group of what went on side by side
        stage.server.check()
        raise first_of(error) from error


def first_of(error: Exception) -> Exception:
    """The first of a group that is none itself; or the error, if that is none."""
    return first_of(error.exceptions[0]) if isinstance(error, ExceptionGroup) else error


async def _visit(stage: Stage, ledger: Ledger, planned: Planned) -> dict[str, Any]:
    async with client_for(stage.server.url) as client:
        await until_healthy(stage.server, client, ledger)
        planned.say(f"It is there. See it live: {stage.page}")
        scene = scene_at(stage, client, ledger, planned)
        with stage.another_server() as victim:  # it starts while the other has its traffic
            witnessed = await _witnessed(scene, planned)
            stage.server.check()
            status, looked_after = await _when_quiet(client, ledger)
            told = {
                "status": status,
                "looked_after": looked_after,
                "groups": await look(client, "/errors/groups", ledger),
                "videos": await look(client, "/videos", ledger),
                "operated": await _operated(scene.operator, ledger),
                "killed": await kill_another(victim, stage, scene),
            }
        told["crashes"] = (await scene.operator.ask("/crashes"))["crashes"]
        told["incidents"] = None if witnessed is None else await _told(scene, witnessed)
        return told


def scene_at(stage: Stage, client: httpx.AsyncClient, ledger: Ledger, planned: Planned) -> Scene:
    """Where the incidents of a visit happen."""
    return Scene(
        client=client,
        operator=Operator(client, stage.token),
        ledger=ledger,
        upscaler=stage.upscaler,
        inbox=stage.inbox,
        say=planned.say,
    )


async def kill_another(victim: Server, stage: Stage, scene: Scene) -> Killed:
    """Kill a second worker amid a request, and say so."""
    scene.say(
        "A second worker is killed amid an upload, as the kernel kills when memory runs out.\n"
        "Look at: Crashes (who is suspected), Workers, Alerts."
    )
    return await kill_amid_request(victim, stage.server.record)


async def _witnessed(scene: Scene, planned: Planned) -> _Witnessed | None:
    """The traffic, and beside it the incidents; that which blocks the loop goes before the others."""
    kinds = plan(planned.seed, planned.requests)
    traffic = make_traffic(scene.client, kinds, scene.ledger, seed=planned.seed, at_once=AT_ONCE)
    if not planned.incidents:
        await traffic
        return None
    async with asyncio.TaskGroup() as group:
        group.create_task(traffic)
        incidents = group.create_task(_incidents(scene))
    return incidents.result()


async def _incidents(scene: Scene) -> _Witnessed:
    block = await block_the_loop(scene)
    async with asyncio.TaskGroup() as group:
        outage = group.create_task(slow_dependency(scene))
        growth = group.create_task(grow(scene))
    return outage.result(), growth.result(), block


async def _when_quiet(client: httpx.AsyncClient, ledger: Ledger) -> tuple[dict[str, Any], int]:
    """The status when only this look at it is in flight, and what the ledger held before."""
    for _ in turns(_QUIET_SECONDS):
        held = len(ledger)
        status = await look(client, "/status", ledger)
        if status["performance_stats"]["in_flight"] <= 1:
            break
        await asyncio.sleep(POLL_SECONDS)
    return status, held


async def _operated(operator: Operator, ledger: Ledger) -> Operated:
    """What operators are told when nothing is in flight, which what they ask is not."""
    await operator.until(
        "/performance/stats", lambda told: told["in_flight"] == 0, seconds=_QUIET_SECONDS
    )
    return Operated(
        looked_after=len(ledger),
        errors=await operator.ask("/errors/stats"),
        performance=await operator.ask("/performance/stats"),
        groups=await operator.ask(f"/errors?limit={_MOST_GROUPS}"),
        in_flight=await operator.ask("/inflight"),
        breakers=await operator.ask("/breakers"),
        stranger=await operator.status_of_stranger("/status"),
    )


async def _told(scene: Scene, witnessed: _Witnessed) -> Incidents:
    """The incidents, when people were told of each, and of what is over."""
    inbox = scene.inbox

    def is_all_told() -> bool:
        notices = inbox.notices()
        over = notices.ended(CIRCUIT_ALERT) and notices.ended(MEMORY_ALERT)
        return bool(over) and (notices.begun(DEATH_ALERT) > 0 or not ONE_ALERTS)

    await scene.until_told(is_all_told)
    outage, growth, block = witnessed
    return Incidents(outage=outage, growth=growth, block=block, notices=inbox.notices())
