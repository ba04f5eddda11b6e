"""Measures what those who look at the ops app cost it: ``python -m benchmarks.ops --json FILE``.

One server, asked as often as it answers, by turns without anybody who looks and with 50 viewers of
the stream of events. It has had requests on many routes before, for they are what a snapshot has to
add up.
"""

import argparse
import logging
import os
import select
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from asgi_errorkit import ErrorKit, MiddlewareStack, StructuredLoggingMiddleware
from asgi_errorkit.ops import Ops
from asgi_errorkit.types import ASGIApp, Receive, Scope, Send
from benchmarks.clients import Saturate, find_wrk, saturate, with_wrk
from benchmarks.machine import machine
from benchmarks.servers import ANSWER, ASKED, cores, on_core
from benchmarks.tables import print_table
from benchmarks.written import write

__all__ = ["Turn", "app", "main", "reach"]

MOST_COST = 0.02
ROUTES = 150

_CONNECTIONS = 32
_START_SECONDS = 30.0
_LOG, _RECORD = "BENCHMARKS_OPS_LOG", "BENCHMARKS_OPS_RECORD"
_TOKEN = "t0ken-of-the-benchmark"
_ROOT = Path(__file__).parents[1]
_EVENTS = (
    f"GET /_errorkit/events HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {_TOKEN}\r\n\r\n"
)


def app() -> ASGIApp:
    """What the server loads: an app that does next to nothing, a kit, and the ops app."""
    # The process is busy all the while, and is warned of it: that goes nowhere.
    logging.getLogger("asgi_errorkit.performance").addHandler(logging.NullHandler())
    stack = MiddlewareStack()
    stream = Path(os.environ[_LOG]).open("ab")  # noqa: SIM115  as long as the process lives
    stack.add_middleware(StructuredLoggingMiddleware, stream=stream)
    kit = ErrorKit(_answering, stack=stack, directory=os.environ.get(_RECORD) or None)
    return Ops(token=_TOKEN, max_viewers=1000).around(kit, kit)


async def _answering(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        while (await receive())["type"] == "lifespan.startup":
            await send({"type": "lifespan.startup.complete"})
        await send({"type": "lifespan.shutdown.complete"})
        return
    headers = [(b"content-type", b"text/plain"), (b"content-length", b"2")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": ANSWER})


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn: how many requests a second, the CPU of the server for each, and the p99."""

    per_second: float
    cpu_us: float
    p99_us: float
    events: int


def main(arguments: list[str] | None = None) -> int:
    options = _options(arguments)
    of_server, of_client = cores() or (None, None)
    with tempfile.TemporaryDirectory() as folder, on_core(of_client):
        wrk = find_wrk()
        ask = with_wrk(wrk, Path(folder)) if wrk and options.seconds >= 1 else saturate
        with _serving(Path(folder), of_server, has_record=options.record) as (process, port):
            _warm(port)
            pairs = [
                _pair(ask, process, port, options, is_reversed=bool(number % 2))
                for number in range(options.rounds)
            ]
            idle = _idle(process, port, options)
    rows = reach(pairs)
    _print(rows, idle, options.viewers)
    if options.json is not None:
        command = ["python", "-m", "benchmarks.ops", *(arguments or sys.argv[1:])]
        write(
            options.json,
            {
                **machine(command, packages=["uvicorn", "httptools", "uvloop"]),
                "viewers": options.viewers,
                "has_record": options.record,
                "routes": ROUTES,
                "seconds": options.seconds,
                "cores": {"server": of_server, "client": of_client},
                "client": "wrk" if wrk and options.seconds >= 1 else "benchmarks.clients",
                "rounds": {
                    str(number): {"without": asdict(without), "with": asdict(viewed)}
                    for number, (without, viewed) in enumerate(pairs, 1)
                },
                "idle_cpu_share": idle,
                "reach": rows,
            },
        )
    return 0


def reach(pairs: Sequence[tuple[Turn, Turn]]) -> dict[str, dict[str, float]]:
    """What viewers cost, as shares: of the throughput, and of the CPU of a request.

    ``best`` compares the best turns of both: what others do on the machine only ever adds.
    """
    without, viewed = zip(*pairs, strict=True)
    throughput = [1 - two.per_second / one.per_second for one, two in pairs]
    cpu = [two.cpu_us / one.cpu_us - 1 for one, two in pairs]
    most = [max(turn.per_second for turn in turns) for turns in (without, viewed)]
    least = [min(turn.cpu_us for turn in turns) for turns in (without, viewed)]
    return {
        "throughput": {**_quartiles(throughput), "best": 1 - most[1] / most[0]},
        "cpu_of_a_request": {**_quartiles(cpu), "best": least[1] / least[0] - 1},
    }


def _quartiles(shares: list[float]) -> dict[str, float]:
    if len(shares) < 2:
        return {"q1": shares[0], "median": shares[0], "q3": shares[0]}
    q1, median, q3 = statistics.quantiles(shares, n=4, method="inclusive")
    return {"q1": q1, "median": median, "q3": q3}


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.ops", description="What viewers of the ops app cost it."
    )
    parser.add_argument("--viewers", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=8, help="of two turns each")
    parser.add_argument("--seconds", type=float, default=4.0, help="of each turn")
    parser.add_argument("--record", action="store_true", help="with a record on disk")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures to FILE")
    options = parser.parse_args(arguments)
    if not (options.seconds > 0 and options.rounds > 0 and options.viewers > 0):
        parser.error("--seconds, --rounds and --viewers must be more than 0")
    return options


def _pair(
    ask: Saturate,
    process: psutil.Process,
    port: int,
    options: argparse.Namespace,
    *,
    is_reversed: bool,
) -> tuple[Turn, Turn]:
    """A turn without and one with viewers; which comes first changes from round to round."""
    turns = {
        number: _turn(ask, process, port, options.seconds, number)
        for number in sorted((0, options.viewers), reverse=is_reversed)
    }
    return turns[0], turns[options.viewers]


def _turn(ask: Saturate, process: psutil.Process, port: int, seconds: float, number: int) -> Turn:
    with _viewers(port, number) as seen:
        before, events = _cpu_seconds(process), seen.events
        load = ask(port, seconds, _CONNECTIONS)
        used = _cpu_seconds(process) - before
        return Turn(
            load.requests / load.seconds,
            used / load.requests * 1e6,
            load.p99_us,
            seen.events - events,
        )


def _idle(process: psutil.Process, port: int, options: argparse.Namespace) -> float:
    """The share of a core that viewers take of a server that has nothing else to do."""
    shares = []
    for number in (0, options.viewers):
        with _viewers(port, number):
            before, began = _cpu_seconds(process), time.monotonic()
            time.sleep(options.seconds)
            shares.append((_cpu_seconds(process) - before) / (time.monotonic() - began))
    return shares[1] - shares[0]


def _cpu_seconds(process: psutil.Process) -> float:
    used = process.cpu_times()
    return float(used.user + used.system)


class _Seen:
    """How many events have come, to all viewers together; their thread writes it."""

    def __init__(self) -> None:
        self.events = 0
        self.is_over = False


@contextmanager
def _viewers(port: int, number: int) -> Iterator[_Seen]:
    """So many connections on which events come, each opened again when its stream has ended."""
    seen = _Seen()
    reading = threading.Thread(target=_read, args=(port, number, seen), daemon=True)
    reading.start()
    deadline = time.monotonic() + _START_SECONDS
    while seen.events < number:
        if time.monotonic() > deadline:
            raise RuntimeError(f"{seen.events} events came to {number} viewers")
        time.sleep(0.01)
    try:
        yield seen
    finally:
        seen.is_over = True
        reading.join()


def _read(port: int, number: int, seen: _Seen) -> None:
    connections = [_opened(port) for _ in range(number)]
    while not seen.is_over:
        readable = select.select(connections, [], [], 0.05)[0] if connections else ()
        if not connections:
            time.sleep(0.05)
        for connection in readable:
            told = connection.recv(1 << 17)
            seen.events += told.count(b"event: snapshot")
            if not told or told.endswith(b"\r\n0\r\n\r\n"):
                connections.remove(connection)
                connection.close()
                connections.append(_opened(port))
    for connection in connections:
        connection.close()


def _opened(port: int) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port))
    connection.sendall(_EVENTS.encode())
    return connection


def _warm(port: int) -> None:
    """Requests on many routes, so that each has statistics of its own."""
    with socket.create_connection(("127.0.0.1", port)) as connection:
        for number in range(ROUTES):
            name = "".join(chr(ord("a") + int(digit)) for digit in str(number))
            for path in (f"/routes/{name}", ASKED):
                connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
                _past(connection, ANSWER)


def _past(connection: socket.socket, mark: bytes) -> None:
    told = b""
    while not told.endswith(mark):
        got = connection.recv(1 << 16)
        if not got:
            raise RuntimeError("the server has closed the connection")
        told += got


@contextmanager
def _serving(
    folder: Path, core: int | None, *, has_record: bool
) -> Iterator[tuple[psutil.Process, int]]:
    """A fresh server, ready; its process and port."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
    command = "uvicorn --factory benchmarks.ops:app --http httptools --loop uvloop "
    command += f"--no-access-log --log-level error --host 127.0.0.1 --port {port}"
    environment = {
        **os.environ,
        _LOG: str(folder / "lines.log"),
        _RECORD: str(folder / "record") if has_record else "",
    }
    with on_core(core):
        process = subprocess.Popen(
            [sys.executable, "-m", *command.split()],
            cwd=_ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
        )
    try:
        _wait(process, port)
        yield psutil.Process(process.pid), port
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


def _print(rows: dict[str, dict[str, float]], idle: float, viewers: int) -> None:
    table = [[f"{viewers} viewers cost", "best", "median", "q1", "q3", "kept (best < 2 %)"]]
    for name, row in rows.items():
        shares = [f"{row[each]:.2%}" for each in ("best", "median", "q1", "q3")]
        table.append([name, *shares, _kept(row["best"])])
    table.append(["an idle core", f"{idle:.2%}", "", "", "", _kept(idle)])
    print_table(table)


def _kept(share: float) -> str:
    return "yes" if share < MOST_COST else "no"


if __name__ == "__main__":
    sys.exit(main())
