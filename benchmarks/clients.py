"""Asks a server: with as many requests as it takes (wrk, or a client here), or at a steady rate."""

import gc
import json
import select
import shutil
import socket
import subprocess
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random

from benchmarks.servers import ANSWER, ASKED

__all__ = ["Load", "Saturate", "find_wrk", "saturate", "steady", "with_wrk", "wrk_version"]

_STUCK_SECONDS = 10.0
_WRK_TELLS = """
done = function(summary, latency, requests)
    local failed = summary.errors
    io.write(string.format(
        '{"requests": %d, "us": %d, "failed": %d, "p50": %d, "p99": %d, "p999": %d}\\n',
        summary.requests, summary.duration,
        failed.connect + failed.read + failed.write + failed.status + failed.timeout,
        latency:percentile(50), latency:percentile(99), latency:percentile(99.9)))
end
"""


@dataclass(frozen=True, slots=True)
class Load:
    """What came back in a turn; latencies in microseconds."""

    requests: int
    seconds: float
    p50_us: float
    p99_us: float
    p999_us: float


Saturate = Callable[[int, float, int], Load]
"""Asks as often as the server at a port answers, for so many seconds, with so many connections."""


def find_wrk() -> str | None:
    """The path of wrk, if it is installed."""
    return shutil.which("wrk")


def wrk_version() -> str:
    """How wrk calls itself, in words of its own."""
    told = subprocess.run(["wrk", "--version"], capture_output=True, text=True, check=False)
    return told.stdout.partition(" [")[0]


def with_wrk(program: str, folder: Path) -> Saturate:
    """Asks by wrk, which takes whole seconds only."""
    script = folder / "tell.lua"
    script.write_text(_WRK_TELLS, encoding="utf-8")

    def ask(port: int, seconds: float, connections: int) -> Load:
        done = subprocess.run(
            [
                program,
                "--threads=1",
                f"--connections={connections}",
                f"--duration={round(seconds)}s",
                f"--script={script}",
                f"http://127.0.0.1:{port}{ASKED}",
            ],
            capture_output=True,
            text=True,
            check=True,
        )
        told = json.loads(done.stdout.splitlines()[-1])
        if told["failed"]:
            raise RuntimeError(f"{told['failed']} requests failed: {done.stdout}")
        return Load(told["requests"], told["us"] / 1e6, told["p50"], told["p99"], told["p999"])

    return ask


def saturate(port: int, seconds: float, connections: int) -> Load:
    """Ask on each connection as soon as it has its answer."""
    latencies: list[float] = []
    with _connected(port, connections) as asking:
        began = time.perf_counter()
        asked_at = {}
        for number in asking.numbers:
            asked_at[number] = time.perf_counter()
            asking.ask(number)
        while asked_at:
            for number in asking.answered():
                now = time.perf_counter()
                latencies.append(now - asked_at.pop(number))
                if now - began < seconds:
                    asked_at[number] = now
                    asking.ask(number)
        return _load(latencies, len(latencies), time.perf_counter() - began)


def steady(port: int, seconds: float, connections: int, *, rate: float, seed: int) -> Load:
    """Ask ``rate`` times a second on average, however long the answers take.

    The times are those of independent clients, and the same for each ``seed``. A latency begins
    when its request is due: one that finds no free connection waits, and the wait counts. What
    still waits at the end is not asked, and its wait so far counts as its latency.
    """
    gap = Random(seed).expovariate
    latencies: list[float] = []
    waiting: deque[float] = deque()
    due_at: dict[int, float] = {}
    clock = time.perf_counter
    with _connected(port, connections) as asking:
        free = list(asking.numbers)
        began = clock()
        ends, due = began + seconds, began + gap(rate)
        while (now := clock()) < ends or due_at:
            while due <= now and due < ends:
                waiting.append(due)
                due += gap(rate)
            while waiting and free and now < ends:
                number = free.pop()
                due_at[number] = waiting.popleft()
                asking.ask(number)
            for number in asking.answered():
                latencies.append(clock() - due_at.pop(number))
                free.append(number)
        answered = len(latencies)
        latencies += [ends - one for one in waiting]
        return _load(latencies, answered, clock() - began)


class _Asking:
    """Connections that are kept alive, one request at a time on each; known by number.

    It looks for answers without ever sleeping: a clock that wakes it up would be late.
    """

    def __init__(self, sockets: Sequence[socket.socket], request: bytes) -> None:
        self.numbers = [one.fileno() for one in sockets]
        self._sockets = dict(zip(self.numbers, sockets, strict=True))
        self._request = request
        self._begun: dict[int, bytes] = {}
        self._heard_at = time.perf_counter()
        # The two agree on all that is used of them, and on no timeout at all.
        self._poller = getattr(select, "epoll", select.poll)()
        for number in self.numbers:
            self._poller.register(number, select.POLLIN)

    def ask(self, number: int) -> None:
        self._sockets[number].send(self._request)

    def answered(self) -> list[int]:
        """The connections whose answer is here as a whole."""
        ready = self._poller.poll(0)
        now = time.perf_counter()
        if ready:
            self._heard_at = now
        elif now - self._heard_at > _STUCK_SECONDS:
            raise RuntimeError(f"the server has not answered for {_STUCK_SECONDS:g} seconds")
        return [number for number, _ in ready if self._is_whole(number)]

    def _is_whole(self, number: int) -> bool:
        got = self._sockets[number].recv(65536)
        answer = self._begun.pop(number, b"") + got
        if not got or not answer.startswith(b"HTTP/1.1 200 "[: len(answer)]):
            raise RuntimeError(f"a request failed: {answer!r:.200}")
        if answer.endswith(b"\r\n\r\n" + ANSWER):
            return True
        self._begun[number] = answer
        return False


@contextmanager
def _connected(port: int, connections: int) -> Iterator[_Asking]:
    """Connections to a server; the collector's pauses must not be taken for the server's."""
    sockets = [socket.create_connection(("127.0.0.1", port)) for _ in range(connections)]
    request = f"GET {ASKED} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode()
    gc.disable()
    try:
        for one in sockets:
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield _Asking(sockets, request)
    finally:
        gc.enable()
        for one in sockets:
            one.close()


def _load(latencies: list[float], answered: int, seconds: float) -> Load:
    latencies.sort()
    p50, p99, p999 = (latencies[int(len(latencies) * part)] * 1e6 for part in (0.5, 0.99, 0.999))
    return Load(answered, seconds, p50, p99, p999)
