"""Measures what the kit adds to a request: ``python -m benchmarks.request --json FILE``."""

import argparse
import asyncio
import json
import logging
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.figures import figures, reach
from benchmarks.machine import machine
from benchmarks.measure import background_cpu_us_per_second, measure
from benchmarks.scenarios import SCENARIOS, Scenario
from benchmarks.subjects import FULL
from benchmarks.tables import print_table, scenario_table

__all__ = ["main"]

_PROMISES = {
    "hot_added_us": "hot path added, us, at most",
    "cpu_added_us": "total CPU added, us, at most",
    "cheaper_than_guide": "times cheaper than the guide's design, at least",
}


def main(arguments: list[str] | None = None) -> int:
    options = _options(arguments)
    # The process is busy all the while, and is warned of it: that goes nowhere.
    logging.getLogger("asgi_errorkit.performance").addHandler(logging.NullHandler())
    with tempfile.TemporaryDirectory(prefix="asgi-errorkit-bench-") as folder:
        results = asyncio.run(_run(options, Path(folder)))
    results = {
        **machine(["python", "-m", "benchmarks.request", *(arguments or sys.argv[1:])]),
        "rounds": options.rounds,
        "requests_per_round": options.requests,
        **results,
    }
    _print_promises(results)
    if options.json is not None:
        options.json.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    return 0


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.request", description="What the kit adds to a request."
    )
    parser.add_argument("--rounds", type=_positive, default=25, help="turns each subject has")
    parser.add_argument(
        "--requests", type=_positive, default=2000, help="of one subject in one turn"
    )
    parser.add_argument(
        "--scenario", action="append", choices=[s.name for s in SCENARIOS], help="only these"
    )
    parser.add_argument(
        "--idle-seconds", type=float, default=2.0, help="how long to watch the idle kit; 0: not"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures to FILE")
    return parser.parse_args(arguments)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


async def _run(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    wanted = options.scenario or [scenario.name for scenario in SCENARIOS]
    results = {
        scenario.name: await _scenario(scenario, options, folder)
        for scenario in SCENARIOS
        if scenario.name in wanted
    }
    idle = None
    if options.idle_seconds > 0:
        idle = await background_cpu_us_per_second(
            SCENARIOS[0], FULL, seconds=options.idle_seconds, folder=folder
        )
        print(f"Idle, the background thread takes {idle:.0f} us of CPU a second.\n")
    return {"idle_cpu_us_per_second": idle, "scenarios": results}


async def _scenario(
    scenario: Scenario, options: argparse.Namespace, folder: Path
) -> dict[str, Any]:
    series = await measure(
        scenario, rounds=options.rounds, requests=options.requests, folder=folder
    )
    rows = figures(series, guide=scenario.seen_by_guide)
    print(f"{scenario.name}: median of {options.rounds} rounds, per {scenario.per}")
    print_table(scenario_table(rows))
    print()
    return {"per": scenario.per, "subjects": rows, "reach": reach(rows)}


def _print_promises(results: dict[str, Any]) -> None:
    for name, scenario in results["scenarios"].items():
        if not name.startswith("GET"):
            continue
        print(f"{name}, with everything on and its start and completion logged")
        table = [["", "wanted", "measured", "kept"]]
        for key, text in _PROMISES.items():
            promise = scenario["reach"][key]
            measured = promise["measured"]
            table.append(
                [
                    text,
                    f"{promise['wanted']:g}",
                    "-" if measured is None else f"{measured:.2f}",
                    "yes" if promise["kept"] else "no",
                ]
            )
        print_table(table)
        print()


if __name__ == "__main__":
    sys.exit(main())
