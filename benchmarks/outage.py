"""Shows what surviving failures is worth when a dependency slows down, then fails, then recovers:
``python -m benchmarks.outage --write``.

An app under uvicorn has all its answers from a dependency, a process of its own, which can do twice
as much as it is asked for. Clients come in an open loop, and are gone after two seconds. Each
subject has a fresh pair of processes, and the same seed.
"""

import argparse
import asyncio
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import psutil

from benchmarks.machine import machine
from benchmarks.outage_dependency import HEALTHY_SECONDS
from benchmarks.outage_front import DEPENDENCY, SUBJECT, SUBJECTS
from benchmarks.outage_load import PATIENCE_SECONDS, ask, figures
from benchmarks.outage_page import replaced, rows, sums
from benchmarks.servers import cores, on_core
from benchmarks.tables import print_table
from benchmarks.written import write

__all__ = ["main"]

_ROOT = Path(__file__).parents[1]
_RESULTS = _ROOT / "benchmarks" / "results" / "outage.json"
_PAGE = _ROOT / "docs" / "surviving.md"
_START_SECONDS = 30.0
_HEADROOM = 2.0
_MOST_OTHERS = 0.25
_MOST_TURNS = 2


def main(arguments: list[str] | None = None) -> int:
    given = sys.argv[1:] if arguments is None else arguments
    options = _options(given)
    of_front, of_others = cores() or (None, None)
    slots = max(1, round(_HEADROOM * options.rate * HEALTHY_SECONDS))
    subjects = {}
    with on_core(of_others):
        for subject in options.subject or SUBJECTS:
            subjects[subject] = _quietest(subject, slots, options, of_front)
    results = {
        **machine(
            ["python", "-m", "benchmarks.outage", *given],
            packages=["uvicorn", "httptools", "uvloop"],
        ),
        "rate": options.rate,
        "seconds_per_phase": options.seconds_per_phase,
        "seed": options.seed,
        "slots": slots,
        "patience_seconds": PATIENCE_SECONDS,
        "subjects": subjects,
    }
    print_table(rows(results))
    print()
    print_table(sums(results))
    if options.json is not None:
        write(options.json, results)
    if options.write:
        write(_RESULTS, results)
        told = json.loads(_RESULTS.read_text(encoding="utf-8"))  # with its figures rounded
        _PAGE.write_text(replaced(_PAGE.read_text(encoding="utf-8"), told), encoding="utf-8")
    return 0


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.outage",
        description="What surviving failures is worth when a dependency fails.",
    )
    parser.add_argument(
        "--seconds-per-phase", type=float, default=10.0, help="the last phase has twice as many"
    )
    parser.add_argument("--rate", type=float, default=100.0, help="requests a second")
    parser.add_argument("--seed", type=int, default=0, help="of when clients come, and of failures")
    parser.add_argument("--subject", choices=SUBJECTS, action="append", help="only these")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures to FILE")
    parser.add_argument("--write", action="store_true", help=f"write {_RESULTS.name} and the page")
    options = parser.parse_args(arguments)
    if not options.seconds_per_phase >= 1 or not options.rate > 0:
        parser.error("--seconds-per-phase must be at least 1, --rate more than 0")
    if options.write and options.subject:
        parser.error("--write is for all subjects: leave --subject out")
    return options


def _quietest(
    subject: str, slots: int, options: argparse.Namespace, core: int | None
) -> dict[str, Any]:
    """The figures of a turn that others on the machine did not disturb, or of the least disturbed."""
    turns: list[dict[str, Any]] = []
    while len(turns) < _MOST_TURNS and not (turns and turns[-1]["others_cpu"] <= _MOST_OTHERS):
        turns.append(_turn(subject, slots, options, core))
    return min(turns, key=lambda turn: float(turn["others_cpu"]))


def _turn(
    subject: str, slots: int, options: argparse.Namespace, core: int | None
) -> dict[str, Any]:
    with _running(subject, slots, options.seed, core) as (front, dependency):
        before = _cpu()
        asking = ask(
            front,
            dependency,
            rate=options.rate,
            seconds=options.seconds_per_phase,
            seed=options.seed,
        )
        outage = asyncio.run(asking)
        all_seconds, busy, own = (now - then for now, then in zip(_cpu(), before, strict=True))
    told = figures(outage, options.seconds_per_phase)
    return {**told, "others_cpu": max(0.0, busy - own) / all_seconds}


def _cpu() -> tuple[float, float, float]:
    """CPU seconds of the machine: all there were, those in use, and our own processes' of them."""
    times = psutil.cpu_times()
    idle = times.idle + getattr(times, "iowait", 0.0)
    this = psutil.Process()
    family = [one.cpu_times() for one in (this, *this.children(recursive=True))]
    return sum(times[:8]), sum(times[:8]) - idle, sum(one.user + one.system for one in family)


# Processes


@contextmanager
def _running(subject: str, slots: int, seed: int, core: int | None) -> Iterator[tuple[int, int]]:
    """A fresh pair of processes; the ports of the front and of what it depends on."""
    with tempfile.TemporaryFile() as said, _dependency(slots, seed, said) as dependency:
        with socket.socket() as one:
            one.bind(("127.0.0.1", 0))
            port: int = one.getsockname()[1]
        command = (
            "uvicorn --factory benchmarks.outage_front:app --http httptools --loop uvloop "
            f"--no-access-log --log-level critical --host 127.0.0.1 --port {port}"
        )
        with on_core(core):
            process = subprocess.Popen(
                [sys.executable, "-m", *command.split()],
                cwd=_ROOT,
                env={**os.environ, SUBJECT: subject, DEPENDENCY: str(dependency)},
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.STDOUT,
            )
        with _ended(process):
            _wait(process, port, said)
            yield port, dependency


@contextmanager
def _dependency(slots: int, seed: int, said: IO[bytes]) -> Iterator[int]:
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.outage_dependency", str(slots), str(seed)],
        cwd=_ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=said,
    )
    with _ended(process):
        port = process.stdout.readline() if process.stdout is not None else b""
        if not port:
            raise RuntimeError(f"the dependency did not start: {_told(said)}")
        yield int(port)


@contextmanager
def _ended(process: "subprocess.Popen[bytes]") -> Iterator[None]:
    try:
        yield
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def _wait(process: "subprocess.Popen[bytes]", port: int, said: IO[bytes]) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the front did not start: {_told(said)}") from None
            time.sleep(0.02)
        else:
            return


def _told(said: IO[bytes]) -> str:
    said.seek(0)
    return said.read().decode(errors="replace")


if __name__ == "__main__":
    sys.exit(main())
