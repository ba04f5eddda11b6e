"""Measures what the kit adds to a request: ``python -m benchmarks.request --json FILE``."""

import argparse
import asyncio
import gc
import logging
import sys
import tempfile
from itertools import groupby
from pathlib import Path
from typing import Any

from asgi_errorkit.recorder import flush_all
from benchmarks.figures import chunks, figures, reach
from benchmarks.machine import machine
from benchmarks.measure import Series, background_cpu_us_per_second, measure
from benchmarks.pace import Pace
from benchmarks.scenarios import MANY_CHUNKS, ONE_CHUNK, SCENARIOS, Scenario
from benchmarks.subjects import FULL
from benchmarks.tables import chunk_table, print_table, promise_table, scenario_table
from benchmarks.written import write

__all__ = ["main"]

_PROMISES = {
    "hot_added_us": "hot path added, us, at most",
    "record_hot_us": "hot path added by the record on disk, us, at most",
    "cpu_one_line_us": "total CPU added with one log line, us, at most",
    "cpu_added_us": "total CPU added with two log lines, us, at most",
    "cheaper_than_guide": "times cheaper than the guide's design, at least",
    "chunk_added_us": "total CPU added to each further body chunk, us, at most",
    "error_first_us": "total CPU added to the first error of a group, us, at most",
    "error_repeated_us": "total CPU added to a repeated error, us, at most",
}


def main(arguments: list[str] | None = None) -> int:
    options = _options(arguments)
    for name in ("performance", "breaker"):  # what they warn of goes nowhere
        logging.getLogger(f"asgi_errorkit.{name}").addHandler(logging.NullHandler())
    with tempfile.TemporaryDirectory(prefix="asgi-errorkit-bench-") as folder:
        results = asyncio.run(_run(options, Path(folder)))
        gc.collect()  # the kits, which look after their records
        flush_all()
    results = {
        **machine(["python", "-m", "benchmarks.request", *(arguments or sys.argv[1:])]),
        "rounds": options.rounds,
        "requests_per_round": options.requests,
        **results,
    }
    _print_promises(results["scenarios"])
    if options.json is not None:
        write(options.json, results)
    return 0


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.request", description="What the kit adds to a request."
    )
    parser.add_argument("--rounds", type=_positive, default=40, help="turns each subject has")
    parser.add_argument(
        "--requests", type=_positive, default=1000, help="of one subject in one turn"
    )
    parser.add_argument(
        "--scenario", action="append", choices=[s.name for s in SCENARIOS], help="only these"
    )
    parser.add_argument(
        "--idle-seconds", type=float, default=2.0, help="how long to watch the idle kit; 0: not"
    )
    parser.add_argument(
        "--patience-seconds", type=float, default=120.0, help="to wait for others on the machine"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures to FILE")
    return parser.parse_args(arguments)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


async def _run(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    names = options.scenario or [scenario.name for scenario in SCENARIOS]
    wanted = [scenario for scenario in SCENARIOS if scenario.name in names]
    series: dict[str, dict[str, Series]] = {}
    scenarios: dict[str, Any] = {}
    pace = Pace(options.patience_seconds)
    for _, alike in groupby(wanted, key=lambda scenario: scenario.kind or scenario.name):
        together = list(alike)
        series |= await measure(
            together, rounds=options.rounds, requests=options.requests, folder=folder, pace=pace
        )
        for scenario in together:
            scenarios[scenario.name] = _scenario(scenario, series[scenario.name], options.rounds)
    per_chunk = _per_chunk(series)
    for scenario in wanted:
        told = scenarios[scenario.name]
        told["reach"] = reach(told["subjects"], scenario.promises, per_chunk=per_chunk)
    idle = await _idle(options.idle_seconds, folder)
    return {
        "pace": pace.told(),
        "idle_cpu_us_per_second": idle,
        "per_chunk_us": per_chunk,
        "scenarios": scenarios,
    }


def _scenario(scenario: Scenario, series: dict[str, Series], rounds: int) -> dict[str, Any]:
    rows = figures(series, guide=scenario.seen_by_guide)
    print(f"{scenario.name}: median of {rounds} rounds, per {scenario.per}")
    print_table(scenario_table(rows))
    print(flush=True)
    return {"per": scenario.per, "subjects": rows}


def _per_chunk(series: dict[str, dict[str, Series]]) -> dict[str, dict[str, Any]] | None:
    """What is added to each further chunk of a body; None unless both streams were measured."""
    if not {ONE_CHUNK, MANY_CHUNKS} <= series.keys():
        return None
    per_chunk = chunks(series[ONE_CHUNK], series[MANY_CHUNKS])
    print(f"each further chunk: {MANY_CHUNKS} less {ONE_CHUNK}")
    print_table(chunk_table(per_chunk))
    print()
    return per_chunk


async def _idle(seconds: float, folder: Path) -> float | None:
    """CPU time that the background thread takes each second; None if nobody asked."""
    if seconds <= 0:
        return None
    idle = await background_cpu_us_per_second(SCENARIOS[0], FULL, seconds=seconds, folder=folder)
    print(f"Idle, the background thread takes {idle:.0f} us of CPU a second.\n")
    return idle


def _print_promises(scenarios: dict[str, Any]) -> None:
    for name, scenario in scenarios.items():
        promises = [(_PROMISES[key], promise) for key, promise in scenario["reach"].items()]
        if promises:
            print(f"{name}, with everything on")
            print_table(promise_table(promises))
            print()


if __name__ == "__main__":
    sys.exit(main())
