"""Starts real servers, one worker each, on a core of their own where processes can be pinned."""

import http.client
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil

__all__ = [
    "ANSWER",
    "ASKED",
    "FIGURES",
    "LOG",
    "SERVERS",
    "SUBJECT",
    "Server",
    "cores",
    "figures",
    "on_core",
    "serving",
]

SUBJECT = "BENCHMARKS_SUBJECT"
"""The environment variable that tells the served app by name what is around it."""

LOG = "BENCHMARKS_LOG"
"""The environment variable with the path of the file that log lines go to."""

ASKED = "/items/list"
ANSWER = b"ok"
FIGURES = "/figures"
"""What is asked of the served app, what it answers, and where it tells of its process."""

_ROOT = Path(__file__).parents[1]
_START_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Server:
    """How a server is started, and the packages that its figures depend on."""

    command: str
    packages: tuple[str, ...]

    def lacking(self) -> list[str]:
        """The packages that are not installed."""
        return [name for name in self.packages if find_spec(name) is None]


SERVERS = {
    "uvicorn": Server(
        "uvicorn --http httptools --loop uvloop --no-access-log --log-level warning "
        "--host 127.0.0.1 --port {port}",
        ("uvicorn", "httptools", "uvloop"),
    ),
    "hypercorn": Server(
        "hypercorn --worker-class uvloop --workers 1 --bind 127.0.0.1:{port}",
        ("hypercorn", "h11", "uvloop"),
    ),
    "granian": Server(
        "granian --interface asgi --loop uvloop --workers 1 --runtime-threads 1 --no-access-log "
        "--log-level warning --host 127.0.0.1 --port {port}",
        ("granian", "uvloop"),
    ),
}


def cores() -> tuple[int, int] | None:
    """A core for the server and one for the client; None where they cannot be had."""
    if not hasattr(os, "sched_getaffinity"):  # Windows, macOS
        return None
    usable = sorted(os.sched_getaffinity(0))
    return (usable[-1], usable[0]) if len(usable) > 1 else None


@contextmanager
def on_core(core: int | None) -> Iterator[None]:
    """Keep this process, and those that it starts meanwhile, on one core."""
    if core is None:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextmanager
def serving(server: Server, subject: str, *, core: int | None, folder: Path) -> Iterator[int]:
    """A fresh server with a subject, ready; its port. Its log file is deleted in the end."""
    port = _free_port()
    command = server.command.format(port=port).split()
    log, said = folder / "lines.log", folder / "said"
    with on_core(core), said.open("wb") as output:
        process = psutil.Popen(
            [sys.executable, "-m", *command, "benchmarks.served:app"],
            cwd=_ROOT,
            env={**os.environ, SUBJECT: subject, LOG: str(log), "PYTHONPATH": str(_ROOT)},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        _wait(process, port, said)
        yield port
    finally:
        _end(process)
        log.unlink(missing_ok=True)


def figures(port: int) -> dict[str, Any]:
    """What the process that answers has used so far: see `benchmarks.served`."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_START_SECONDS)
    try:
        connection.request("GET", FIGURES)
        told: dict[str, Any] = json.loads(connection.getresponse().read())
        return told
    finally:
        connection.close()


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


def _wait(process: psutil.Popen, port: int, said: Path) -> None:
    """Until it answers: a worker may be long in coming when its parent listens already."""
    deadline = time.monotonic() + _START_SECONDS
    while True:
        try:
            figures(port)
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the server did not start: {said.read_text()}") from None
            time.sleep(0.01)
        else:
            return


def _end(process: psutil.Popen) -> None:
    """At once, with its workers: nothing of it is needed any more."""
    try:
        family = [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return
    for one in family:
        try:
            one.kill()
        except psutil.NoSuchProcess:
            pass
    psutil.wait_procs(family)
