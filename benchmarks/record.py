"""What the record on disk costs who writes and who reads it: ``python -m benchmarks.record``.

Snapshots are saved and read by their size. Then one process lists requests as fast as it can, while
others read its segment in a loop, or none do. They are kept on other cores if there are any, and
read another segment in further turns: what that takes, two cores take from each other anyway.
"""

import argparse
import mmap
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from asgi_errorkit.spool.layout import BODY_BYTES, SEGMENT_BYTES, SLOTS
from asgi_errorkit.spool.reading import read_segment
from asgi_errorkit.spool.segment import Segment
from benchmarks.figures import spread
from benchmarks.machine import machine
from benchmarks.measure import rotated
from benchmarks.tables import print_table
from benchmarks.written import write

__all__ = ["main"]

_SIZES = (100, 1_000, 10_000, 100_000, BODY_BYTES)
_UNSAVED = SLOTS // 4
"""After so many requests a snapshot is saved, if that is sooner than in a second."""

_BODY = b"x" * 10_000
_RESULT = 200 << 8 | 1
_MOST_READERS = 4
_NAP_SECONDS = 0.001

_READING, _FILE, _READY = range(3)
_READS, _UNSTEADY, _BUSY = 8, 16, 24
"""Words that all processes share: how many are to read which file and how many are there; and of each
reader how often it has read, how often it was unsure, and whether it is at it."""


class _Turn(NamedTuple):
    """How many read the segment that is written, or another one."""

    readers: int
    another: bool = False

    @property
    def name(self) -> str:
        readers = f"{self.readers} reader{'s' * (self.readers != 1)}"
        return f"{readers} of another segment" if self.another else readers


_NOBODY = _Turn(0)
_TURNS = (_NOBODY, _Turn(1), _Turn(1, another=True), _Turn(4), _Turn(4, another=True))


def main(arguments: list[str] | None = None) -> int:
    options = _options(arguments)
    with tempfile.TemporaryDirectory(prefix="asgi-errorkit-bench-") as folder:
        snapshots = _snapshots(Path(folder), options.rounds)
        readers, cores = _readers(Path(folder), options.rounds, options.seconds)
    _print_snapshots(snapshots)
    print()
    _print_readers(readers)
    if options.json is not None:
        results = {
            **machine(["python", "-m", "benchmarks.record", *(arguments or sys.argv[1:])]),
            "rounds": options.rounds,
            "seconds": options.seconds,
            "cores": cores,
            "requests_a_snapshot": _UNSAVED,
            "snapshots": snapshots,
            "readers": readers,
        }
        write(options.json, results)
    return 0


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.record", description="What the record on disk costs."
    )
    parser.add_argument("--rounds", type=int, default=30, help="turns of each")
    parser.add_argument("--seconds", type=float, default=0.3, help="of a turn with readers")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures to FILE")
    options = parser.parse_args(arguments)
    if options.rounds < 1 or not options.seconds > 0:
        parser.error("--rounds must be at least 1, --seconds more than 0")
    return options


# Snapshots


def _snapshots(folder: Path, rounds: int) -> dict[str, dict[str, Any]]:
    """Microseconds of saving and of reading, by the bytes of the snapshot."""
    taken: dict[int, list[tuple[float, float, float]]] = {size: [] for size in _SIZES}
    with _segment(folder / "snapshots") as (segment, file):
        for turn in range(rounds):
            for size in rotated(list(_SIZES), turn):
                taken[size].append(_snapshot(segment, file, b"x" * size))
    names = ("save_idle_us", "save_us", "read_us")
    return {
        str(size): {
            name: _with_best(list(column))
            for name, column in zip(names, zip(*rows, strict=True), strict=True)
        }
        for size, rows in taken.items()
    }


def _snapshot(segment: Segment, file: int, body: bytes) -> tuple[float, float, float]:
    """Saving it with nothing counted, and with as many requests as are counted under load; reading."""
    counted = _listed(segment, _UNSAVED)
    began = time.perf_counter()
    segment.save(body, (), 1.0)
    idle = time.perf_counter()
    segment.save(body, counted, 1.0)
    saved = time.perf_counter()
    reading = read_segment(file)
    read = time.perf_counter()
    if reading.body != body or reading.ended:
        raise RuntimeError("what was read is not what was saved")
    return (idle - began) * 1e6, (saved - idle) * 1e6, (read - saved) * 1e6


def _listed(segment: Segment, requests: int) -> list[int]:
    """So many requests, from their beginning to their end; their slots."""
    begin, first_byte, end = segment.begin, segment.first_byte, segment.end
    places = []
    for _ in range(requests):
        place = begin("0b54c3a1d8e94c55", "GET", "/items/list", 1.0, 50.0)
        if place is None:
            raise RuntimeError("there is no slot, and what is not listed costs nothing")
        first_byte(place, 1.5)
        end(place, _RESULT, 2.0)
        places.append(place)
    return places


@contextmanager
def _segment(path: Path) -> Iterator[tuple[Segment, int]]:
    """A segment, and its file."""
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.truncate(path, SEGMENT_BYTES)
        segment = Segment(file, b"{}")
        segment.save(_BODY, (), 1.0)
        yield segment, file
        segment.close()
    finally:
        os.close(file)


# Readers


def _readers(
    folder: Path, rounds: int, seconds: float
) -> tuple[dict[str, dict[str, Any]], dict[str, list[int]] | None]:
    """What a writer does beside readers, and the cores that each kind was kept on, if any."""
    cores = _cores()
    others = cores["readers"] if cores else None
    (folder / "shared").write_bytes(bytes(mmap.PAGESIZE))
    context = get_context("spawn")
    with _segment(folder / "read") as (segment, _), _segment(folder / "another"):
        names = [str(folder / name) for name in ("shared", "read", "another")]
        with closing(_Shared(names[0])) as shared:
            processes = [
                context.Process(target=_read, args=(number, names, others), daemon=True)
                for number in range(_MOST_READERS)
            ]
            for process in processes:
                process.start()
            try:
                with _kept_on(cores["writer"] if cores else None):
                    while shared.words[_READY] < _MOST_READERS:
                        time.sleep(_NAP_SECONDS)
                        if not all(process.is_alive() for process in processes):
                            raise RuntimeError("a reader has left")
                    taken = _written(segment, shared.words, rounds, seconds)
            finally:
                for process in processes:
                    process.kill()
                    process.join()
    return _told(taken), cores


class _Shared:
    """A page that processes share, as words."""

    def __init__(self, path: str) -> None:
        with Path(path).open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), 0)
        self.words = memoryview(self._map).cast("Q")

    def close(self) -> None:
        self.words.release()
        self._map.close()


def _cores() -> dict[str, list[int]] | None:
    """One for the writer and the others for readers, or None where that cannot be chosen."""
    if not hasattr(os, "sched_getaffinity"):
        return None
    first, *others = sorted(os.sched_getaffinity(0))
    return {"writer": [first], "readers": others} if others else None


@contextmanager
def _kept_on(cores: list[int] | None) -> Iterator[None]:
    if cores is None:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _read(number: int, names: Sequence[str], cores: list[int] | None) -> None:
    """A reader: reads as fast as it can while it is asked to, until it is killed."""
    words = _Shared(names[0]).words
    files = [os.open(name, os.O_RDONLY) for name in names[1:]]
    with _kept_on(cores):
        words[_READS + number] = words[_UNSTEADY + number] = 0
        _come(words, number)
        while True:
            words[_BUSY + number] = 1
            while number < words[_READING]:
                reading = read_segment(files[words[_FILE]])
                words[_READS + number] += 1
                words[_UNSTEADY + number] += not reading.is_steady
            words[_BUSY + number] = 0
            time.sleep(_NAP_SECONDS)


def _come(words: "memoryview[int]", number: int) -> None:
    """One after the other: nobody's coming is lost."""
    while words[_READY] != number:
        time.sleep(_NAP_SECONDS)
    words[_READY] = number + 1


class _Written(NamedTuple):
    """Of one turn: the writer's requests, by both clocks, and what readers did meanwhile."""

    per_second: float
    cpu_us: float
    reads_per_second: float
    unsteady: float


def _written(
    segment: Segment, words: "memoryview[int]", rounds: int, seconds: float
) -> dict[_Turn, list[_Written]]:
    taken: dict[_Turn, list[_Written]] = {turn: [] for turn in _TURNS}
    for number in range(rounds):
        for turn in rotated(list(_TURNS), number):
            words[_FILE], words[_READING] = turn.another, turn.readers
            time.sleep(3 * _NAP_SECONDS)
            taken[turn].append(_write(segment, words, seconds))
            words[_READING] = 0
            while _sum(words, _BUSY):
                time.sleep(_NAP_SECONDS)
    return taken


def _write(segment: Segment, words: "memoryview[int]", seconds: float) -> _Written:
    """List requests for so long, and save a snapshot as often as under load."""
    requests, reads, unsteady = 0, _sum(words, _READS), _sum(words, _UNSTEADY)
    cpu, wall = time.process_time(), time.perf_counter()
    while time.perf_counter() - wall < seconds:
        segment.save(_BODY, _listed(segment, _UNSAVED), 1.0)
        requests += _UNSAVED
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    reads, unsteady = _sum(words, _READS) - reads, _sum(words, _UNSTEADY) - unsteady
    share = unsteady / reads if reads else 0.0
    return _Written(requests / wall, cpu / requests * 1e6, reads / wall, share)


def _sum(words: "memoryview[int]", start: int) -> int:
    return sum(words[start : start + _MOST_READERS])


def _told(taken: dict[_Turn, list[_Written]]) -> dict[str, dict[str, Any]]:
    """By the name of the turn; ratios are to the turn of the same round that nobody reads in."""
    alone = taken[_NOBODY]
    return {
        turn.name: {
            "per_second": spread([one.per_second for one in rows]),
            "cpu_us": _with_best([one.cpu_us for one in rows]),
            "per_second_to_none": spread(
                [one.per_second / none.per_second for one, none in zip(rows, alone, strict=True)]
            ),
            "cpu_to_none": spread(
                [one.cpu_us / none.cpu_us for one, none in zip(rows, alone, strict=True)]
            ),
            "reads_per_second": median(one.reads_per_second for one in rows),
            "unsteady": median(one.unsteady for one in rows),
        }
        for turn, rows in taken.items()
    }


def _with_best(taken: list[float]) -> dict[str, float]:
    return {"best": min(taken), **spread(taken)}


def _print_snapshots(snapshots: dict[str, dict[str, Any]]) -> None:
    head = ["bytes of a snapshot", "save us, idle", f"save us, {_UNSAVED} counted", "read us"]
    rows = [
        [f"{int(size):,}", *(_middle(row[name]) for name in row)] for size, row in snapshots.items()
    ]
    print_table([head, *rows])


def _print_readers(readers: dict[str, dict[str, Any]]) -> None:
    rows = [["", "requests/s", "x none", "CPU us", "x none", "reads/s", "unsteady"]]
    for name, row in readers.items():
        cells = [f"{row['per_second']['median']:,.0f}", _middle(row["per_second_to_none"])]
        cells += [_middle(row["cpu_us"]), _middle(row["cpu_to_none"])]
        cells += [f"{row['reads_per_second']:,.0f}", f"{row['unsteady']:.0%}"]
        rows.append([name, *cells])
    print_table(rows)


def _middle(figures: dict[str, float]) -> str:
    return f"{figures['median']:.3g} ({figures['q1']:.3g}-{figures['q3']:.3g})"


if __name__ == "__main__":
    sys.exit(main())
