"""Measures whether cost grows with what an application's life piles up: ``python -m benchmarks.growth``.

Each point is measured in a fresh interpreter. What a request takes is CPU time with the drain, less
the bare app's of the same round; memory is what the kit holds afterwards, by tracemalloc.
"""

import argparse
import gc
import json
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Sequence
from itertools import pairwise
from math import log10
from pathlib import Path
from statistics import median
from typing import IO, Any

from asgi_errorkit.recorder import Recorder
from asgi_errorkit.stack import ErrorKit
from asgi_errorkit.types import ASGIApp
from benchmarks.axes import AXES, Axis, Load
from benchmarks.figures import spread
from benchmarks.kits import ENDS, begin, kit, serve, whole
from benchmarks.machine import machine
from benchmarks.tables import print_table
from benchmarks.written import write

__all__ = ["FLAT", "factors", "main", "measured", "verdict"]

FLAT = 1.25
"""The growth in a decade that a shared machine's noise may feign."""

_FIGURES = {
    "request_us": "request, +us",
    "memory_kib": "memory, KiB",
    "flush_us": "idle flush, us",
    "read_ms": "read 60 min, ms",
}
_BETWEEN_FLUSHES = 2048
_TRIES = 15


class _Subject:
    """A load's app, bare or wrapped, and the requests to it, numbered on and on."""

    def __init__(self, load: Load, log: IO[bytes] | None) -> None:
        self._load = load
        self._log = log
        self._number = 0
        self._parked: list[Callable[[], None]] = []
        self.app: ASGIApp = load.app
        self.kit: ErrorKit | None = None
        self.recorder: Recorder | None = None
        if log is not None:
            clock = load.clock
            self.recorder = Recorder(flush_seconds=None, clock=clock, wall_clock=lambda: 1.7e9)
            self.app = self.kit = kit(
                load.app, log, recorder=self.recorder, max_groups=load.max_groups, events=ENDS
            )

    def serve(self, requests: int) -> None:
        """So many requests, and their drain."""
        app, scope = self.app, self._load.scope
        for number in range(self._number, self._number + requests):
            serve(app, **scope(number))
        self._number += requests
        if self.recorder is not None:
            self.recorder.drain()

    def warm(self, requests: int) -> None:
        while requests > 0:
            self.serve(min(requests, _BETWEEN_FLUSHES))
            requests -= _BETWEEN_FLUSHES
            self.flush()

    def flush(self) -> None:
        if self.kit is not None and self._log is not None:
            self.kit.flush()
            self._log.seek(0)
            self._log.truncate()

    def park(self) -> None:
        """Begin the requests that stay in flight."""
        drain = None if self.recorder is None else self.recorder.drain
        self._parked = begin(self.app, self._load.parked, drain=drain)

    def end(self) -> None:
        for go_on in self._parked:
            go_on()
        self._parked.clear()
        if self.kit is not None:
            whole(self.kit)

    def read(self) -> None:
        if self.kit is not None:
            self.kit.get_error_stats(60)
            self.kit.get_performance_stats(60)


def measured(axis: Axis, size: int, rounds: int, requests: int) -> dict[str, Any]:
    """Everything that is measured of one size, in this interpreter.

    The smallest size is measured beside it, turn by turn: what is judged is the ratio of the two,
    for a machine that others use too is not equally fast in all points.
    """
    with tempfile.TemporaryFile() as log, tempfile.TemporaryFile() as first_log:
        held = _held(axis.load(size), log) - _held(axis.load(size), None)
        pair = _Pair(lambda: axis.load(size), log)
        first = _Pair(lambda: axis.load(axis.sizes[0]), first_log)
        for each in (pair, first):
            each.begin(requests)
        rows = [(pair.added(requests), first.added(requests)) for _ in range(rounds)]
        flushes = _least(pair.wrapped.flush, first.wrapped.flush)
        reads = _least(pair.wrapped.read, first.wrapped.read)
        for each in (pair, first):
            each.end()
    return {
        "size": size,
        "memory_kib": held / 1024,
        "bare_us": spread(pair.bare_us),
        "request_us": spread([added for added, _ in rows]),
        "flush_us": flushes[0] * 1e6,
        "read_ms": reads[0] * 1e3,
        "x_smallest": {
            "request_us": median(added / least for added, least in rows),
            "flush_us": flushes[0] / flushes[1],
            "read_ms": reads[0] / reads[1],
        },
    }


class _Pair:
    """A load as it is and wrapped, turn by turn."""

    def __init__(self, load: Callable[[], Load], log: IO[bytes]) -> None:
        self.bare, self.wrapped = _Subject(load(), None), _Subject(load(), log)
        self.bare_us: list[float] = []
        self._warm = load().warm

    def begin(self, requests: int) -> None:
        for subject in (self.bare, self.wrapped):
            subject.warm(self._warm)
            subject.park()
            subject.warm(requests)

    def added(self, requests: int) -> float:
        """Microseconds of CPU time that the kit adds to a request."""
        subjects = [self.bare, self.wrapped]
        if len(self.bare_us) % 2:
            subjects.reverse()
        taken = {subject: _cpu(subject, requests) / requests * 1e6 for subject in subjects}
        self.bare_us.append(taken[self.bare])
        return taken[self.wrapped] - taken[self.bare]

    def end(self) -> None:
        self.bare.end()
        self.wrapped.end()


def _cpu(subject: _Subject, requests: int) -> float:
    began = time.process_time()
    subject.serve(requests)
    took = time.process_time() - began
    subject.flush()
    return took


def _least(*works: Callable[[], None]) -> list[float]:
    """The CPU seconds of the best try of each, in turns, after a first that does what was left."""
    tries: list[list[float]] = [[] for _ in works]
    for _ in range(_TRIES + 1):
        for work, taken in zip(works, tries, strict=True):
            began = time.process_time()
            work()
            taken.append(time.process_time() - began)
    return [min(taken[1:]) for taken in tries]


def _held(load: Load, log: IO[bytes] | None) -> int:
    """The bytes that are held when everything has been seen, and what is parked is in flight."""
    tracemalloc.start()
    try:
        subject = _Subject(load, log)
        subject.park()
        subject.warm(load.seen)
        gc.collect()
        held = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    subject.end()
    return held


def factors(sizes: Sequence[int], values: Sequence[float]) -> list[float]:
    """By what each decade multiplies a value; what is not above nothing counts as nearly so."""
    held = [max(value, 1e-9) for value in values]
    return [
        (b / a) ** (1 / log10(larger / smaller))
        for (a, b), (smaller, larger) in zip(pairwise(held), pairwise(sizes), strict=True)
    ]


def verdict(growth: Sequence[float]) -> str:
    """Flat; levelling off, when some decade is not but the last one is; or growing."""
    if all(factor <= FLAT for factor in growth):
        return "flat"
    return "levels off" if growth[-1] <= FLAT else "grows"


def _judged(axis: Axis, points: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    sizes = [point["size"] for point in points]
    judged = {}
    for name in _FIGURES:
        values = [point["x_smallest"].get(name, _value(point, name)) for point in points]
        if axis.each and name == "memory_kib":
            values = [value / size for value, size in zip(values, sizes, strict=True)]
        growth = factors(sizes, values)
        judged[name] = {"factors": growth, "verdict": verdict(growth) if growth else "one point"}
    return judged


def _value(point: dict[str, Any], name: str) -> float:
    value = point[name]
    return float(value["median"] if isinstance(value, dict) else value)


def main(arguments: list[str] | None = None) -> int:
    """Measure every axis, print its figures and growth, and say what is not flat."""
    options = _options(arguments)
    axes = {axis.name: axis for axis in AXES}
    if options.point:
        (name,) = options.axis
        print(json.dumps(measured(axes[name], options.point, options.rounds, options.requests)))
        return 0
    results: dict[str, Any] = {
        **machine(["python", "-m", "benchmarks.growth", *(arguments or sys.argv[1:])]),
        "rounds": options.rounds,
        "requests_per_round": options.requests,
        "axes": {},
    }
    for name in options.axis or axes:
        sizes = [size for size in axes[name].sizes if size <= (options.largest or size)]
        if not sizes:
            continue
        points = [_in_a_fresh_interpreter(name, size, options) for size in sizes]
        judged = _judged(axes[name], points)
        results["axes"][name] = {"points": points, "growth": judged, "each": axes[name].each}
        _print(axes[name], points, judged)
    _print_what_grows(results["axes"])
    if options.json is not None:
        write(options.json, results)
    return 0


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.growth", description="Whether cost grows with what piles up."
    )
    names = [axis.name for axis in AXES]
    parser.add_argument("--axis", action="append", choices=names, help="only these")
    parser.add_argument("--largest", type=_positive, metavar="SIZE", help="leave out larger sizes")
    parser.add_argument("--rounds", type=_positive, default=9, help="turns of each point")
    parser.add_argument("--requests", type=_positive, default=1000, help="in one turn")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures to FILE")
    parser.add_argument("--point", type=_positive, help=argparse.SUPPRESS)  # of the one axis
    return parser.parse_args(arguments)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


def _in_a_fresh_interpreter(name: str, size: int, options: argparse.Namespace) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.growth", "--axis", name, "--point", str(size)]
    command += ["--rounds", str(options.rounds), "--requests", str(options.requests)]
    done = subprocess.run(
        command, cwd=Path(__file__).parents[1], stdout=subprocess.PIPE, text=True, check=True
    )
    point: dict[str, Any] = json.loads(done.stdout)
    return point


def _print(axis: Axis, points: list[dict[str, Any]], judged: dict[str, dict[str, Any]]) -> None:
    rows = [[axis.name, *_FIGURES.values(), "bare, us"]]
    for point in points:
        cells = [f"{_value(point, name):,.2f}" for name in _FIGURES]
        rows.append([f"{point['size']:,}", *cells, f"{point['bare_us']['median']:.2f}"])
    growth = [judged[name] for name in _FIGURES]
    for number, (one, other) in enumerate(pairwise(points)):
        label = f"x a decade, {one['size']:,} to {other['size']:,}"
        rows.append([label, *(f"{each['factors'][number]:.2f}" for each in growth), ""])
    rows.append(["", *(each["verdict"] for each in growth), ""])
    print_table(rows)
    if axis.each:
        print("(memory is judged by what one of them takes)")
    print(flush=True)


def _print_what_grows(axes: dict[str, Any]) -> None:
    grows = [
        f"{text} with {axis}: x {max(found['growth'][name]['factors']):.2f} in a decade"
        for axis, found in axes.items()
        for name, text in _FIGURES.items()
        if found["growth"][name]["verdict"] == "grows"
    ]
    print("Not flat:", *grows or ["nothing"], sep="\n  ")


if __name__ == "__main__":
    sys.exit(main())
