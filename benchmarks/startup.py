"""Measures what the kit costs before the first request: ``python -m benchmarks.startup``."""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.figures import spread
from benchmarks.machine import machine
from benchmarks.tables import print_table
from benchmarks.written import write

__all__ = ["main"]

_BARE = "pass"
_KIT = "import asgi_errorkit"
_SUBJECTS = (_BARE, "import asyncio", _KIT, "import starlette.applications")

UNWANTED = ("asgiref.sync", "asyncio", "psutil", "starlette", "trio", "uvicorn")
"""What a program that only imports the kit must not have to pay for."""

_LIST_MODULES = """
import sys
before = set(sys.modules)
import asgi_errorkit
print(*sorted(set(sys.modules) - before))
"""

_CONSTRUCT = """
import time
async def app(scope, receive, send): ...
from asgi_errorkit import ErrorKit
began = time.perf_counter()
kit = ErrorKit(app)
first = time.perf_counter() - began
began = time.perf_counter()
for _ in range(200):
    kit = ErrorKit(app)
print(first, (time.perf_counter() - began) / 200)
"""


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.startup", description="What the kit costs before a request."
    )
    parser.add_argument("--rounds", type=int, default=15, help="interpreters started of each")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures to FILE")
    options = parser.parse_args(arguments)
    if options.rounds < 1:
        parser.error("--rounds must be at least 1")
    results = {
        **machine(["python", "-m", "benchmarks.startup", *(arguments or sys.argv[1:])]),
        "rounds": options.rounds,
        "interpreter_ms": _interpreters(options.rounds),
        "modules": _modules(),
        "construction_us": _construction(options.rounds),
    }
    _print(results)
    if options.json is not None:
        write(options.json, results)
    return 0


def _interpreters(rounds: int) -> dict[str, dict[str, dict[str, float]]]:
    """Milliseconds of fresh interpreters, taken in turn; what is added is less ``pass``'s."""
    taken: dict[str, list[tuple[float, float]]] = {code: [] for code in _SUBJECTS}
    for code in _SUBJECTS:
        _start(code)  # so that the bytecode is cached and the files are in memory
    for turn in range(rounds):
        for number in range(len(_SUBJECTS)):
            code = _SUBJECTS[(number + turn) % len(_SUBJECTS)]
            taken[code].append(_start(code))
    return {
        code: {
            name: spread(
                [one[which] - bare[which] for one, bare in zip(times, taken[_BARE], strict=True)]
            )
            for which, name in enumerate(("wall_added", "cpu_added"))
        }
        | {"wall": spread([wall for wall, _ in times])}
        for code, times in taken.items()
    }


def _start(code: str) -> tuple[float, float]:
    """Wall and CPU milliseconds of one interpreter that runs the code."""
    used, began = _children_cpu(), time.perf_counter()
    _run(code)
    return (time.perf_counter() - began) * 1e3, (_children_cpu() - used) * 1e3


def _children_cpu() -> float:
    """CPU seconds of all interpreters that have ended; where only os.times tells, in steps of 10 ms."""
    try:
        import resource
    except ImportError:  # Windows
        times = os.times()
        return times.children_user + times.children_system
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout


def _modules() -> dict[str, list[str]]:
    """What the import loads, by top-level name, and what of it is unwanted."""
    loaded = _run(_LIST_MODULES).split()
    top = {name.partition(".")[0] for name in loaded}
    return {
        "beyond_the_standard_library": sorted(top - sys.stdlib_module_names),
        "of_the_standard_library": sorted(top & sys.stdlib_module_names),
        "unwanted": sorted(set(_unwanted(loaded))),
    }


def _unwanted(loaded: list[str]) -> Iterator[str]:
    for name in loaded:
        for unwanted in UNWANTED:
            if name == unwanted or name.startswith(f"{unwanted}."):
                yield unwanted


def _construction(rounds: int) -> dict[str, float]:
    """Microseconds of ``ErrorKit(app)``: the first in a process, and a later one."""
    taken = [[float(text) for text in _run(_CONSTRUCT).split()] for _ in range(rounds)]
    return {
        "first": median(first for first, _ in taken) * 1e6,
        "later": median(later for _, later in taken) * 1e6,
    }


def _print(results: dict[str, Any]) -> None:
    print(f"Fresh interpreters, median of {results['rounds']}")
    table = [["code", "wall ms", "added wall ms", "(q1-q3)", "added CPU ms"]]
    for code, times in results["interpreter_ms"].items():
        added = times["wall_added"]
        table.append(
            [
                code,
                f"{times['wall']['median']:.1f}",
                f"{added['median']:.1f}",
                f"({added['q1']:.1f}-{added['q3']:.1f})",
                f"{times['cpu_added']['median']:.1f}",
            ]
        )
    print_table(table)
    modules, construction = results["modules"], results["construction_us"]
    print()
    print("It loads, beyond the standard library:", *modules["beyond_the_standard_library"])
    print("and of the standard library:", *modules["of_the_standard_library"])
    print("Unwanted among these:", *modules["unwanted"] or ["nothing"])
    print(
        f"ErrorKit(app) takes {construction['first']:.0f} us the first time, "
        f"{construction['later']:.0f} us later."
    )


if __name__ == "__main__":
    sys.exit(main())
