"""Much at once in one process, counted exactly: ``python -m benchmarks.scale``.

Thousands of streams in flight together, records published faster than any app does, and how fast
the drain takes them. Times are CPU times: others on the machine do not count.
"""

import argparse
import asyncio
import sys
from pathlib import Path
from typing import Any

from asgi_errorkit.recorder import BATCH
from benchmarks.draining import LISTENING, announced, drained, held, print_drained
from benchmarks.machine import machine
from benchmarks.publishing import CAPACITY, print_published, published
from benchmarks.streams import print_streams, streams
from benchmarks.tables import print_table
from benchmarks.written import write

__all__ = ["main"]

TARGETS = {
    "records/s drained without lines": (400_000, True),
    "records/s drained with one line": (150_000, True),
    "longest drain of a batch, ms": (1.0, False),
    "longest hold of the thread, ring full, ms": (1.0, False),
    "longest hold of the thread, announcing all in flight, ms": (1.0, False),
    "longest publication at the wanted rate, ms": (1.0, False),
}
"""What is promised, and whether more of it is better."""

_BATCHES = 200
_BACKLOG = CAPACITY - BATCH


def main(arguments: list[str] | None = None) -> int:
    """Measure it all; ends with 1 when something was not counted exactly."""
    options = _options(arguments)
    at_once = asyncio.run(streams(options.streams, options.rounds))
    print_streams(at_once)
    publication = published(options.rate, options.seconds)
    print_published(publication)
    drains = {
        f"{name}, {waiting} at a time": drained(name, waiting, max(8, times * options.batches))
        for name in LISTENING
        for waiting, times in ((BATCH, 1), (_BACKLOG, 0))
    }
    print_drained(drains)
    turns = 5 if options.batches >= _BATCHES else 1
    holds = {"ring full": held(_BACKLOG, turns), "announcing": announced(options.streams, turns)}
    targets = _targets(publication, drains, holds)
    _print_targets(targets)
    if options.json is not None:
        results = {
            **machine(["python", "-m", "benchmarks.scale", *(arguments or sys.argv[1:])]),
            "streams": at_once,
            "published": publication,
            "drained": drains,
            "longest_hold_ms": holds,
            "targets": targets,
        }
        write(options.json, results)
    counted = all(wanted == found for wanted, found in at_once["exact"].values())
    return 0 if counted and all(each["exact"] for each in publication.values()) else 1


def _targets(
    publication: dict[str, Any], drains: dict[str, Any], holds: dict[str, float]
) -> dict[str, dict[str, Any]]:
    batch = f"{BATCH} at a time"
    without, one, two = LISTENING
    measured = (
        drains[f"{without}, {batch}"]["records_per_second"],
        drains[f"{one}, {batch}"]["records_per_second"],
        drains[f"{two}, {batch}"]["longest_ms"],
        *holds.values(),
        publication["recorder, everything listens"]["longest_publication_ms"],
    )
    return {
        name: {
            "wanted": wanted,
            "measured": value,
            "kept": value >= wanted if more else value <= wanted,
        }
        for (name, (wanted, more)), value in zip(TARGETS.items(), measured, strict=True)
    }


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.scale", description="Much at once in one process."
    )
    parser.add_argument("--streams", type=_positive, default=10_000, help="in flight at once")
    parser.add_argument("--rounds", type=_positive, default=3, help="turns of the streams")
    parser.add_argument("--rate", type=_positive, default=100_000, help="records a second")
    parser.add_argument("--seconds", type=float, default=2.0, help="of publication")
    parser.add_argument("--batches", type=_positive, default=_BATCHES, help="drained of each kind")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures to FILE")
    return parser.parse_args(arguments)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


def _print_targets(targets: dict[str, dict[str, Any]]) -> None:
    rows = [["", "wanted", "measured", "kept"]]
    for name, each in targets.items():
        cells = [
            f"{each['wanted']:,g}",
            f"{each['measured']:,.4g}" if each["measured"] < 1e4 else f"{each['measured']:,.0f}",
        ]
        rows.append([name, *cells, "yes" if each["kept"] else "no"])
    print_table(rows)


if __name__ == "__main__":
    sys.exit(main())
