"""The demo that stays: light traffic for as long as somebody looks, and an incident now and then."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable

import httpx

from asgi_errorkit.demo.incidents import Scene, block_the_loop, grow, slow_dependency
from asgi_errorkit.demo.kinds import plan
from asgi_errorkit.demo.ledger import Ledger
from asgi_errorkit.demo.sending import client_for
from asgi_errorkit.demo.server import ServerError
from asgi_errorkit.demo.stage import Stage
from asgi_errorkit.demo.traffic import make_traffic
from asgi_errorkit.demo.visit import Planned, first_of, kill_another, scene_at

__all__ = ["live_on"]

_REQUESTS_OF_A_PLAN = 300
_REQUESTS_AT_A_TIME = 4
_BETWEEN_SECONDS = 1.0


async def live_on(stage: Stage, planned: Planned, *, between_seconds: float = 45.0) -> None:
    """Go on until cancelled, with so long between two incidents.

    Raises ServerError when the server ends.
    """
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(_keep_sending(stage, planned.seed))
            if planned.incidents:
                group.create_task(_keep_failing(stage, planned, between_seconds))
    except ExceptionGroup as error:
        raise first_of(error) from error


async def _keep_sending(stage: Stage, seed: int) -> None:
    async with client_for(stage.server.url) as client:
        for number in itertools.count(seed + 1):
            kinds = plan(number, _REQUESTS_OF_A_PLAN)
            for place in range(0, len(kinds), _REQUESTS_AT_A_TIME):
                stage.server.check()
                some = kinds[place : place + _REQUESTS_AT_A_TIME]
                await make_traffic(client, some, Ledger(), seed=number + place, at_once=2)
                await asyncio.sleep(_BETWEEN_SECONDS)


async def _keep_failing(stage: Stage, planned: Planned, between_seconds: float) -> None:
    """In turn; nobody compares them with what was told any more."""

    async def kill(scene: Scene) -> None:
        with stage.another_server() as victim:
            await kill_another(victim, stage, scene)

    incidents: tuple[Callable[[Scene], Awaitable[object]], ...]
    incidents = (block_the_loop, kill, slow_dependency, grow)
    for incident in itertools.cycle(incidents):
        await asyncio.sleep(between_seconds)
        try:
            async with client_for(stage.server.url) as client:
                await incident(scene_at(stage, client, Ledger(), planned))
        except (ExceptionGroup, httpx.HTTPError, ServerError) as error:
            stage.server.check()
            planned.say(f"It did not come to an end as it was meant to: {first_of(error)!r:.200}")
