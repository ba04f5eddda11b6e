"""Measures the kit beside what its users would take instead: ``python -m benchmarks.peers``."""

import argparse
import asyncio
import logging
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

from benchmarks.figures import cost
from benchmarks.machine import machine
from benchmarks.measure import Series, rotated, serve, whole
from benchmarks.pace import Pace
from benchmarks.peer import Peer
from benchmarks.peer_list import ENTRIES, KIT, PACKAGES, Entry
from benchmarks.scenarios import SCENARIOS, Scenario
from benchmarks.subjects import BARE
from benchmarks.tables import print_table
from benchmarks.written import write

__all__ = ["main", "measure_peers"]

_WANTED = ("GET", "error, 20 frames, repeated")
_WARM = 64
_SETTLING_SECONDS = 0.002
_COLUMNS = (
    "subject",
    "around",
    "wall +us",
    "CPU +us",
    "median (q1-q3)",
    "x the kit",
    "gc 0/1/2 per 100,000",
)

Key = tuple[str, str]
"""The kind of app, and what is put around it."""


def main(arguments: list[str] | None = None) -> int:
    options = _options(arguments)
    # The process is busy all the while, and is warned of it: that goes nowhere.
    for name in ("performance", "breaker"):  # what they warn of goes nowhere
        logging.getLogger(f"asgi_errorkit.{name}").addHandler(logging.NullHandler())
    command = ["python", "-m", "benchmarks.peers", *(arguments or sys.argv[1:])]
    results = {
        **machine(command, packages=PACKAGES),
        "rounds": options.rounds,
        "requests_per_round": options.requests,
        "scenarios": {
            scenario.name: _scenario(scenario, options)
            for scenario in SCENARIOS
            if scenario.name in _WANTED
        },
    }
    if options.json is not None:
        write(options.json, results)
    return 0


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.peers",
        description="What the kit and others like it add to a request.",
    )
    parser.add_argument("--rounds", type=int, default=15, help="turns each subject has")
    parser.add_argument("--requests", type=int, default=2000, help="of a fast subject in one turn")
    parser.add_argument(
        "--patience-seconds", type=float, default=60.0, help="to wait for others on the machine"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures to FILE")
    options = parser.parse_args(arguments)
    if options.rounds < 1 or options.requests < 1:
        parser.error("--rounds and --requests must be at least 1")
    return options


def _scenario(scenario: Scenario, options: argparse.Namespace) -> dict[str, Any]:
    series, left_out = asyncio.run(
        measure_peers(
            ENTRIES,
            scenario,
            rounds=options.rounds,
            requests=options.requests,
            patience_seconds=options.patience_seconds,
        )
    )
    rows = _rows(series)
    print(f"{scenario.name}: best and median of {options.rounds} rounds, per {scenario.per}")
    print_table([_COLUMNS, *(_cells(key, row) for key, row in rows.items())])
    for (around, name), reason in left_out.items():
        print(f"left out: {name} around {around} ({reason})")
    print()
    return {
        "per": scenario.per,
        "subjects": [{"around": key[0], "name": key[1], **row} for key, row in rows.items()],
        "left_out": [
            {"around": around, "name": name, "reason": reason}
            for (around, name), reason in left_out.items()
        ],
    }


async def measure_peers(
    entries: Sequence[Entry],
    scenario: Scenario,
    *,
    rounds: int,
    requests: int,
    patience_seconds: float = 0.0,
) -> tuple[dict[Key, Series], dict[Key, str]]:
    """Measure each ``rounds`` times, and tell which could not be imported."""
    with ExitStack() as closing:
        folder = Path(closing.enter_context(tempfile.TemporaryDirectory(prefix="asgi-errorkit-")))
        peers: dict[Key, Peer] = {}
        logs: dict[Key, IO[bytes]] = {}
        left_out: dict[Key, str] = {}
        for number, entry in enumerate(entries):
            key = (entry.around, entry.name)
            logs[key] = closing.enter_context((folder / f"{number}.log").open("wb"))
            try:
                peers[key] = entry.make(scenario, logs[key], closing)
            except ImportError as missing:
                left_out[key] = str(missing)
        shares = {(entry.around, entry.name): entry.share for entry in entries}
        series = {key: Series() for key in peers}
        pace = Pace(patience_seconds)
        for turn in range(rounds):
            for key in rotated(list(peers), turn):
                count = max(1, round(requests * min(scenario.share, shares[key])))
                await pace.quiet()
                # A task of its own: what a peer leaves in the context stays there.
                await asyncio.create_task(
                    _turn(key, peers[key], scenario, count, series[key]), name=key[1]
                )
                logs[key].seek(0)
                logs[key].truncate()
    return series, left_out


async def _turn(key: Key, peer: Peer, scenario: Scenario, count: int, series: Series) -> None:
    """One subject's turn in one round; one that has not done its work is not reported."""
    before = [done() for done in peer.done]
    warm, settled = min(count, _WARM), min(count, 8)
    with peer.turn():
        await serve(peer.app, scenario, warm)
        peer.flush()
        # Background threads have just been started: their first turn must not fall into the window.
        await asyncio.sleep(_SETTLING_SECONDS)
        await serve(peer.app, scenario, settled)
        peer.flush()
        series.add(await whole(peer.app, scenario, count, flush=peer.flush), requests=count)
        peer.rest()
    served = warm + settled + count
    for done, at_first in zip(peer.done, before, strict=True):
        if done() - at_first < served:
            raise RuntimeError(
                f"{key[1]} around {key[0]}: of {served} requests {done() - at_first} came out, "
                "so its figures would be too good; mend that first"
            )


def _rows(series: dict[Key, Series]) -> dict[Key, dict[str, Any]]:
    """What is added to the bare app of the same kind, and how many times what the kit adds there."""
    rows = {key: cost(one, series[key[0], BARE]) for key, one in series.items()}
    for (around, _), row in rows.items():
        kit = rows[around, KIT]["cpu_added_us"]["best"]
        row["times_the_kit"] = row["cpu_added_us"]["best"] / kit if kit > 0 else None
    return rows


def _cells(key: Key, row: dict[str, Any]) -> list[str]:
    wall, cpu, times = row["wall_added_us"], row["cpu_added_us"], row["times_the_kit"]
    return [
        key[1],
        key[0],
        f"{wall['median']:.2f}",
        f"{cpu['best']:.2f}",
        f"{cpu['median']:.2f} ({cpu['q1']:.2f}-{cpu['q3']:.2f})",
        "-" if times is None or key[1] == BARE else f"{times:.2f}",
        "/".join(f"{number:.0f}" for number in row["gc_collections_per_100_000"]),
    ]


if __name__ == "__main__":
    sys.exit(main())
