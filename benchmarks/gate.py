"""Counts what a request takes, without noise: ``python -m benchmarks.gate``.

Executed bytecode instructions and calls (of Python's and of C's functions) do not depend on how
busy the machine is. What a C function does inside is not seen: ``--callgrind`` counts machine
instructions, where valgrind is installed. The counts that are expected lie beside this file.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.counting import CASES, WARM, by_function, counts, served, without_chance
from benchmarks.machine import machine
from benchmarks.tables import print_table
from benchmarks.written import write

__all__ = ["EXPECTED", "TOLERANCE", "judge", "main"]

EXPECTED = Path(__file__).with_name("gate.json")
TOLERANCE = 0.05
"""By how much a count may differ from the expected one."""

_LISTED = 25

_COLLECTED = re.compile(r"Collected : (\d+)")


def judge(
    expected: dict[str, dict[str, float]], found: dict[str, dict[str, float]]
) -> tuple[list[str], list[str]]:
    """What has grown beyond the tolerance, and what has shrunk so, or is not expected at all."""
    grown, stale = [], []
    for case in expected.keys() | found.keys():
        wanted, counted = expected.get(case, {}), found.get(case, {})
        for name in sorted(wanted.keys() | counted.keys()):
            if name not in wanted or name not in counted:
                stale.append(f"{case}: {name} is not in both")
                continue
            change = f"{case}: {name} {wanted[name]:g} -> {counted[name]:g}"
            if counted[name] > wanted[name] * (1 + TOLERANCE):
                grown.append(change)
            elif counted[name] < wanted[name] * (1 - TOLERANCE):
                stale.append(change)
    return sorted(grown), sorted(stale)


def main(arguments: list[str] | None = None) -> int:
    """Count, compare with what is expected of this Python, and end with 1 if a count has grown."""
    options = _options(arguments)
    if options.serve is not None:
        return _serve(options)
    cases = options.case or list(CASES)
    found = counts(cases)
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    known = json.loads(EXPECTED.read_text("utf-8")) if EXPECTED.exists() else {}
    expected = known.get(version)
    if expected is not None and options.case:
        expected = {name: expected.get(name, {}) for name in cases}
    _print(found, expected)
    for name in cases if options.by_function else ():
        print()
        print_table([[name, "instructions"], *_cells(_most(by_function(name)))])
    if options.callgrind:
        print()
        _print_machine_instructions(cases)
    if options.json is not None:
        command = ["python", "-m", "benchmarks.gate", *(arguments or sys.argv[1:])]
        results = {
            **machine(command),
            "counts": found,
            "expected": expected,
            "by_function": {name: _most(by_function(name)) for name in cases},
        }
        write(options.json, results)
    if options.write:
        known[version] = known.get(version, {}) | found if options.case else found
        EXPECTED.write_text(json.dumps(known, indent=2, sort_keys=True) + "\n", "utf-8")
        print(f"\nWritten as what is expected of Python {version}.")
        return 0
    return _verdict(version, expected, found)


def _most(functions: dict[str, float]) -> dict[str, float]:
    """The functions that take most, and all others together."""
    listed = dict(list(functions.items())[:_LISTED])
    rest = sum(functions.values()) - sum(listed.values())
    return {**listed, f"{len(functions) - len(listed)} others": round(rest, 1)}


def _cells(functions: dict[str, float]) -> list[list[str]]:
    return [[name, f"{number:g}"] for name, number in functions.items()]


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gate", description="What a request takes, counted."
    )
    parser.add_argument("--case", action="append", choices=CASES, help="only these")
    parser.add_argument("--write", action="store_true", help="expect what is counted from now on")
    parser.add_argument("--by-function", action="store_true", help="tell where they go too")
    parser.add_argument("--callgrind", action="store_true", help="count machine instructions too")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the counts to FILE")
    # What valgrind is given to run.
    parser.add_argument("--serve", choices=CASES, help=argparse.SUPPRESS)
    parser.add_argument("--requests", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--shorter", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--wrapped", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.callgrind and shutil.which("valgrind") is None:
        parser.error("--callgrind needs valgrind")
    return options


def _verdict(version: str, expected: dict[str, Any] | None, found: dict[str, Any]) -> int:
    print()
    if expected is None:
        print(f"Nothing is expected of Python {version}: --write makes this the measure.")
        return 0
    grown, stale = judge(expected, found)
    again = "make this the measure anew: python -m benchmarks.gate --write"
    if stale:
        print(f"Shrunk by more than {TOLERANCE:.0%}, or new; {again}", *stale, sep="\n  ")
    if grown:
        print(f"Grown by more than {TOLERANCE:.0%}; if it must, {again}", *grown, sep="\n  ")
    if not (stale or grown):
        print(f"All within {TOLERANCE:.0%} of what is expected of Python {version}.")
    return 1 if grown else 0


def _print(found: dict[str, dict[str, float]], expected: dict[str, Any] | None) -> None:
    names = list(next(iter(found.values())))
    rows = [["added, per request or step", *(name.replace("_", ", ") for name in names)]]
    for case, figures in found.items():
        wanted = (expected or {}).get(case, {})
        rows.append([case, *(_cell(figures[name], wanted.get(name)) for name in names)])
    print_table(rows)


def _cell(count: float, wanted: float | None) -> str:
    if not wanted:
        return f"{count:g}"
    return f"{count:g} ({count / wanted - 1:+.1%})"


def _print_machine_instructions(cases: list[str]) -> None:
    rows = [["added, by callgrind", "machine instructions, total"]]
    for name in cases:
        case = CASES[name]
        added = _machine_instructions(name, shorter=False)
        if case.shorter is not None:
            added -= _machine_instructions(name, shorter=True)
        rows.append([name, f"{added / case.steps:,.0f}"])
        print(".", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    print_table(rows)


def _machine_instructions(name: str, *, shorter: bool) -> float:
    """What the kit adds to one request; the start of Python is in both runs, and so cancels out."""
    wrapped, bare = (
        _collected(name, 3 * WARM, shorter=shorter, wrapped=wrapped)
        - _collected(name, WARM, shorter=shorter, wrapped=wrapped)
        for wrapped in (True, False)
    )
    return (wrapped - bare) / (2 * WARM)


def _collected(name: str, requests: int, *, shorter: bool, wrapped: bool) -> int:
    command = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", sys.executable]
    command += ["-m", "benchmarks.gate", "--serve", name, "--requests", str(requests)]
    done = subprocess.run(
        command + ["--shorter"] * shorter + ["--wrapped"] * wrapped,
        cwd=Path(__file__).parents[1],
        env={**os.environ, "PYTHONHASHSEED": "0"},
        capture_output=True,
        text=True,
        check=True,
    )
    found = _COLLECTED.search(done.stderr)
    if found is None:
        raise RuntimeError(f"valgrind tells no count: {done.stderr[-500:]}")
    return int(found[1])


def _serve(options: argparse.Namespace) -> int:
    """What valgrind runs: requests of one case, and nothing else."""
    app = served(CASES[options.serve], shorter=options.shorter, wrapped=options.wrapped)
    with without_chance():
        for _ in range(options.requests):
            app.once()
        app.flush()
        app.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
