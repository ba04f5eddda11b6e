"""Clients of the outage: they come independently of each other and of the answers (an open loop)."""

import asyncio
import gc
import json
from collections import Counter
from dataclasses import dataclass
from random import Random
from typing import Any

from benchmarks.outage_dependency import PHASES
from benchmarks.outage_front import ASKED, STATUS
from benchmarks.outage_http import Answered, get

__all__ = ["FALLBACK", "FULL", "PATIENCE_SECONDS", "Asked", "Outage", "ask", "figures", "lengths"]

PATIENCE_SECONDS = 2.0
FULL, FALLBACK = "full", "fallback"
WANTED = 0.99
"""The share of full answers in a second that counts as recovered."""

_STEPS = 10
_RECOVERED = "recovered"


@dataclass(frozen=True, slots=True)
class Asked:
    """One request: when it was due, in seconds since its phase began, and what became of it."""

    phase: str
    due_at: float
    seconds: float
    end: str


@dataclass(frozen=True, slots=True)
class Outage:
    """All requests, how many the dependency received in each second, and what the kit tells."""

    asked: list[Asked]
    received: dict[str, list[int]]
    status: dict[str, Any]


def lengths(seconds: float) -> dict[str, float]:
    """How long each phase lasts; the last is twice as long, for it is waited for."""
    return {phase: seconds * (2 if phase == _RECOVERED else 1) for phase in PHASES}


async def ask(front: int, dependency: int, *, rate: float, seconds: float, seed: int) -> Outage:
    """Have the dependency go through its phases, and ask the front all the while."""
    gap = Random(seed).expovariate
    clock = asyncio.get_running_loop().time
    asked: list[Asked] = []
    tasks = []
    gc.disable()  # its pauses must not be taken for the server's
    try:
        for phase, length in lengths(seconds).items():
            await get(dependency, f"/phase/{phase}")
            began = clock()
            due = began + gap(rate)
            while due < began + length:
                await asyncio.sleep(due - clock())
                tasks.append(asyncio.create_task(_ask_once(front, phase, began, due, asked)))
                due += gap(rate)
            await asyncio.sleep(began + length - clock())
        received = json.loads((await get(dependency, "/phase/")).body)
        await asyncio.gather(*tasks)
        status = json.loads((await get(front, STATUS)).body)
    finally:
        gc.enable()
    return Outage(asked, received, status)


async def _ask_once(port: int, phase: str, began: float, due: float, asked: list[Asked]) -> None:
    """Its time begins when it is due, and ends when the client gives up."""
    clock = asyncio.get_running_loop().time
    try:
        async with asyncio.timeout_at(due + PATIENCE_SECONDS):
            end = _end(await get(port, ASKED))
    except TimeoutError:
        end = "gave up"
    except OSError:
        end = "broken"
    asked.append(Asked(phase, due - began, min(clock() - due, PATIENCE_SECONDS), end))


def _end(answered: Answered) -> str:
    if answered.status != 200:
        return str(answered.status)
    return FALLBACK if b"\r\nx-fallback:" in answered.headers else FULL


def figures(outage: Outage, seconds: float) -> dict[str, Any]:
    """What is told of one subject, phase by phase."""
    by_phase: dict[str, list[Asked]] = {phase: [] for phase in PHASES}
    for one in outage.asked:
        by_phase[one.phase].append(one)
    last = by_phase[_RECOVERED]
    return {
        "phases": {phase: _row(asked, outage.received[phase]) for phase, asked in by_phase.items()},
        "seconds_to_recover": _recovered_after(last, lengths(seconds)[_RECOVERED]),
        "status": outage.status,
    }


def _row(asked: list[Asked], received: list[int]) -> dict[str, Any]:
    ends = Counter(one.end for one in asked)
    times = sorted(one.seconds for one in asked)
    number = max(1, len(asked))
    p50, p99 = (times[int(len(times) * part)] * 1e3 if times else None for part in (0.5, 0.99))
    return {
        "requests": len(asked),
        "full": ends[FULL] / number,
        "fallback": ends[FALLBACK] / number,
        "p50_ms": p50,
        "p99_ms": p99,
        "load": sum(received) / number,
        "received_per_second": received,
        "ends": dict(ends),
    }


def _recovered_after(asked: list[Asked], length: float) -> float | None:
    """When the first second began of which 99 % were answered in full, to a tenth; None is never."""
    for step in range(max(0, round((length - 1) * _STEPS)) + 1):
        begins = step / _STEPS
        ends = [one.end for one in asked if begins <= one.due_at < begins + 1]
        if ends and ends.count(FULL) >= WANTED * len(ends):
            return begins
    return None
