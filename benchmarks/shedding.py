"""Measures what shedding load saves under overload: ``python -m benchmarks.shedding --json FILE``.

The server can answer 200 requests a second: each needs one of four slots for 20 ms. Clients come
independently of each other and of the answers (an open loop), and are gone after a second.
"""

import argparse
import asyncio
import gc
import os
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from asgi_errorkit.limits import AdaptiveLimit
from asgi_errorkit.middleware.load_shedding import LoadSheddingMiddleware
from asgi_errorkit.types import ASGIApp, Receive, Scope, Send
from benchmarks.machine import machine
from benchmarks.servers import cores, on_core
from benchmarks.tables import print_table
from benchmarks.written import write

__all__ = ["SUBJECTS", "app", "main"]

CAPACITY = 200
LOADS = (0.5, 1.0, 2.0)
LEAST_GOODPUT = 0.8
MOST_P99 = 3.0

_SLOTS = 4
_WORK_SECONDS = 0.02
_PATIENCE_SECONDS = 1.0
_WARMING_SECONDS = 1.0
_START_SECONDS = 30.0
_SUBJECT = "BENCHMARKS_SHEDDING"
_REQUEST = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
_ROOT = Path(__file__).parents[1]


def _bare(working: ASGIApp) -> ASGIApp:
    return working


def _shedding(working: ASGIApp) -> ASGIApp:
    # A quarter of a second, for a client that waits a second has other ways to spend it, too.
    return LoadSheddingMiddleware(working, limit=AdaptiveLimit(), queue_seconds=0.25)


SUBJECTS: dict[str, Callable[[ASGIApp], ASGIApp]] = {"bare": _bare, "shedding": _shedding}


def app() -> ASGIApp:
    """What the server loads: the work, and what the environment says around it."""
    return SUBJECTS[os.environ[_SUBJECT]](_working(asyncio.Semaphore(_SLOTS)))


def _working(slots: asyncio.Semaphore) -> ASGIApp:
    async def working(scope: Scope, receive: Receive, send: Send) -> None:
        async with slots:
            await asyncio.sleep(_WORK_SECONDS)
        await _answer(send, 200)

    return working


async def _answer(send: Send, status: int) -> None:
    headers = [(b"content-length", b"2")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b"ok"})


@dataclass(slots=True)
class Turn:
    """What became of the requests that were due after the warming up; latencies in seconds."""

    seconds: float
    latencies: list[float] = field(default_factory=list)
    ends: Counter[str] = field(default_factory=Counter)

    def row(self) -> dict[str, Any]:
        good = sorted(self.latencies)
        p50, p99 = (good[int(len(good) * part)] * 1e3 if good else None for part in (0.5, 0.99))
        return {
            "goodput_per_second": len(good) / self.seconds,
            "p50_ms": p50,
            "p99_ms": p99,
            "ends": dict(self.ends),
        }


def main(arguments: list[str] | None = None) -> int:
    options = _options(arguments)
    of_server, of_client = cores() or (None, None)
    rows: dict[str, dict[str, Any]] = {}
    with on_core(of_client):
        for subject in SUBJECTS:
            rows[subject] = {}
            for load in LOADS:
                with _serving(subject, of_server) as port:
                    turn = asyncio.run(_ask(port, load * CAPACITY, options.seconds, options.seed))
                rows[subject][f"{load:g}"] = turn.row()
    promises = reach(rows)
    _print(rows, promises)
    if options.json is not None:
        command = ["python", "-m", "benchmarks.shedding", *(arguments or sys.argv[1:])]
        results = {
            **machine(command, packages=["uvicorn", "httptools", "uvloop"]),
            "capacity_per_second": CAPACITY,
            "patience_seconds": _PATIENCE_SECONDS,
            "seconds": options.seconds,
            "cores": {"server": of_server, "client": of_client},
            "rows": rows,
            "reach": [asdict(promise) for promise in promises],
        }
        write(options.json, results)
    return 0


@dataclass(frozen=True, slots=True)
class Promise:
    """What was promised at twice the capacity, and what was measured."""

    figure: str
    wanted: float
    measured: float
    kept: bool


def reach(rows: dict[str, dict[str, Any]]) -> list[Promise]:
    """Goodput to the best of all turns, and the p99 of successes to that of the unloaded app."""
    over, unloaded = rows["shedding"]["2"], rows["bare"]["0.5"]
    peak = max(row["goodput_per_second"] for loads in rows.values() for row in loads.values())
    goodput = over["goodput_per_second"] / peak
    p99 = (over["p99_ms"] or float("inf")) / unloaded["p99_ms"]
    return [
        Promise("goodput, x peak, at least", LEAST_GOODPUT, goodput, goodput >= LEAST_GOODPUT),
        Promise("p99, x unloaded, at most", MOST_P99, p99, p99 <= MOST_P99),
    ]


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.shedding", description="What shedding load saves."
    )
    parser.add_argument("--seconds", type=float, default=8.0, help="of each load, after a warming")
    parser.add_argument("--seed", type=int, default=0, help="of the times at which requests come")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures to FILE")
    options = parser.parse_args(arguments)
    if not options.seconds > 0:
        parser.error("--seconds must be more than 0")
    return options


@contextmanager
def _serving(subject: str, core: int | None) -> Iterator[int]:
    """A fresh server, ready; its port."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
    command = "uvicorn --factory benchmarks.shedding:app --http httptools --loop uvloop "
    command += f"--no-access-log --log-level error --host 127.0.0.1 --port {port}"
    with on_core(core):
        process = subprocess.Popen(
            [sys.executable, "-m", *command.split()],
            cwd=_ROOT,
            env={**os.environ, _SUBJECT: subject},
            stdin=subprocess.DEVNULL,
        )
    try:
        _wait(process, port)
        yield port
    finally:
        process.kill()
        process.wait()


def _wait(process: "subprocess.Popen[bytes]", port: int) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("the server did not start; it has said why") from None
            time.sleep(0.02)
        else:
            return


async def _ask(port: int, rate: float, seconds: float, seed: int) -> Turn:
    """Ask ``rate`` times a second on average, whatever the answers; the first second is left out."""
    gap = Random(seed).expovariate
    turn = Turn(seconds)
    clock = asyncio.get_running_loop().time
    begins = clock() + _WARMING_SECONDS
    due, ends = clock() + gap(rate), begins + seconds
    tasks = []
    gc.disable()  # its pauses must not be taken for the server's
    try:
        while due < ends:
            await asyncio.sleep(due - clock())
            counted = turn if due >= begins else Turn(seconds)
            tasks.append(asyncio.create_task(_ask_once(port, due, counted)))
            due += gap(rate)
        await asyncio.gather(*tasks)
    finally:
        gc.enable()
    return turn


async def _ask_once(port: int, due: float, turn: Turn) -> None:
    """One request on a connection of its own; its time begins when it is due."""
    try:
        async with asyncio.timeout_at(due + _PATIENCE_SECONDS):
            end = await _status(port)
    except TimeoutError:
        end = "gave up"
    except OSError:
        end = "failed"
    if end == "200":
        turn.latencies.append(asyncio.get_running_loop().time() - due)
    turn.ends[end] += 1


async def _status(port: int) -> str:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(_REQUEST)
        head = await reader.read()
    finally:
        writer.close()
    return head[9:12].decode() or "failed"


def _print(rows: dict[str, dict[str, Any]], promises: list[Promise]) -> None:
    table = [["subject, x capacity", "goodput/s", "p50 ms", "p99 ms", "ends"]]
    for subject, loads in rows.items():
        for load, row in loads.items():
            told = [f"{row[name]:.1f}" if row[name] else "-" for name in ("p50_ms", "p99_ms")]
            ends = ", ".join(f"{end}: {number}" for end, number in sorted(row["ends"].items()))
            goodput = f"{row['goodput_per_second']:.1f}"
            table.append([f"{subject}, {load}", goodput, *told, ends])
    print_table(table)
    print()
    judged = [
        [one.figure, f"{one.wanted:g}", f"{one.measured:.2f}", "yes" if one.kept else "no"]
        for one in promises
    ]
    print_table([["shedding at twice the capacity", "wanted", "measured", "kept"], *judged])


if __name__ == "__main__":
    sys.exit(main())
