"""Workers of one host, some killed at random: what all have counted is what they have done.

``python -m tests.spool.crowd --workers 4 --requests 200000`` prints what it found as one line of
JSON, and exits with 1 when the sums differ by more than what was under way where somebody was killed.
"""

import argparse
import asyncio
import json
import mmap
import operator
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from asgi_errorkit import ErrorKit, StructuredLoggingMiddleware
from asgi_errorkit.spool.host import Host
from asgi_errorkit.stack import MiddlewareStack
from asgi_errorkit.testing import LogLines, http_scope

MOST_WORKERS = 500
AT_ONCE = 8
BEGUN, DONE, STOP = 0, 1, 0
"""Of each worker two words, after one that says to stop."""


def shared(path: Path) -> "memoryview[int]":
    with path.open("r+b") as file:
        return memoryview(mmap.mmap(file.fileno(), 0)).cast("Q")


def wrapped(directory: Path) -> ErrorKit:
    stack = MiddlewareStack()
    stack.add_middleware(StructuredLoggingMiddleware, stream=LogLines())

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(0)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await asyncio.sleep(0)
        await send({"type": "http.response.body", "body": b"ok"})

    return ErrorKit(app, stack=stack, directory=directory)


async def work(directory: Path, truth: "memoryview[int]", number: int) -> None:
    kit, place = wrapped(directory), 1 + 2 * number

    async def receive() -> dict[str, Any]:
        return {"type": "http.request"}

    async def send(_: Any) -> None:
        return

    async def ask() -> None:
        while not truth[STOP]:
            truth[place + BEGUN] += 1
            await kit(http_scope(path="/x"), receive, send)
            truth[place + DONE] += 1

    await asyncio.gather(*(ask() for _ in range(AT_ONCE)))


class Crowd:
    """Starts workers, kills them, and adds up what they say that they have done."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.directory = folder / "record"
        self._file = folder / "truth"
        self._file.write_bytes(bytes(8 * (1 + 2 * MOST_WORKERS)))
        self.truth = shared(self._file)
        self.dice = random.Random(seed)
        self.running: list[subprocess.Popen[bytes]] = []
        self.started = self.killed = 0

    def start(self) -> None:
        given = ["--work", str(self.directory), str(self._file), str(self.started)]
        command = [sys.executable, "-m", "tests.spool.crowd", *given]
        self.running.append(subprocess.Popen(command))
        self.started += 1

    def kill_one(self) -> None:
        process = self.running.pop(self.dice.randrange(len(self.running)))
        process.kill()
        process.wait()
        self.killed += 1

    def stop(self) -> None:
        self.truth[STOP] = 1
        for process in self.running:
            assert process.wait(30) == 0

    def sum(self, which: int) -> int:
        return sum(self.truth[1 + which :: 2].tolist())


def sums_of(host: Host) -> tuple[int, int, int]:
    """What has ended so far, by each of those who answer; all of it within the last hour."""
    return (
        host.counts().outcomes.total(),
        host.error_stats(60)["total_requests"],
        host.performance_stats(60)["total_requests"],
    )


def run(workers: int, requests: int, seed: int, folder: Path) -> dict[str, Any]:
    crowd = Crowd(folder, seed)
    for _ in range(workers):
        crowd.start()
    host, lowest, reads = Host(crowd.directory), (0, 0, 0), 0
    while crowd.sum(DONE) < requests and crowd.started < MOST_WORKERS:
        for _ in range(crowd.dice.randrange(4, 12)):
            time.sleep(0.05)
            sums = sums_of(host)
            assert all(map(operator.ge, sums, lowest)), f"a sum went backwards: {lowest}, {sums}"
            lowest, reads = sums, reads + 1
        crowd.kill_one()
        crowd.start()
    crowd.stop()
    while host.look():
        continue
    counted, of_errors, of_performance = sums_of(host)
    listed = sum(crash["in_flight"] for crash in host.crashes())
    return {
        "done": crowd.sum(DONE),
        "begun": crowd.sum(BEGUN),
        "counted": counted,
        "counted_in_error_stats": of_errors,
        "counted_in_performance_stats": of_performance,
        "in_flight_when_killed": listed,
        "killed": crowd.killed,
        "reads": reads,
    }


def is_right(found: dict[str, Any]) -> bool:
    """Of who is killed one request can be between two of our own notes and the kit's."""
    slack = found["killed"]
    told_of = found["counted"] + found["in_flight_when_killed"]
    is_counted = found["done"] <= found["counted"] <= found["done"] + slack
    answers = {found["counted_in_error_stats"], found["counted_in_performance_stats"]}
    is_counted = is_counted and answers == {found["counted"]}
    return is_counted and found["begun"] - slack <= told_of <= found["begun"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--requests", type=int, default=200_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--work", nargs=3, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.work:
        directory, truth, number = asked.work
        asyncio.run(work(Path(directory), shared(Path(truth)), int(number)))
        return 0
    with tempfile.TemporaryDirectory() as folder:
        found = run(asked.workers, asked.requests, asked.seed, Path(folder))
    print(json.dumps(found))
    return 0 if is_right(found) else 1


if __name__ == "__main__":
    sys.exit(main())
