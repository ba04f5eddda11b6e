"""Measures what ``capture="monitoring"`` costs: ``python -m benchmarks.monitoring``."""

import argparse
import asyncio
import logging
import sys
import sysconfig
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from statistics import median
from typing import Any

from asgi_errorkit.capture import MONITORING, install_monitoring
from asgi_errorkit.exchange import CURRENT, begin
from asgi_errorkit.middleware.error_handling import ErrorHandlingMiddleware
from asgi_errorkit.middleware.structured_logging import StructuredLoggingMiddleware
from asgi_errorkit.stack import ErrorKit, MiddlewareStack
from asgi_errorkit.types import ASGIApp
from benchmarks.figures import spread
from benchmarks.machine import machine
from benchmarks.scenarios import SCENARIOS, send
from benchmarks.tables import print_table
from benchmarks.written import write

__all__ = ["main"]

_CODE = """
def raises(frames):
    if frames <= 1:
        raise ValueError("of a benchmark")
    raises(frames - 1)


def repeat(count, frames):
    for _ in range(count):
        try:
            raises(frames)
        except ValueError:
            pass


def repeat_within(count):
    for _ in range(count):
        try:
            raise ValueError("of a benchmark")
        except ValueError:
            pass
"""

Work = Callable[[int], Awaitable[None]]


class _Owner:
    """Who asks for the monitoring, for as long as it lives."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Subject:
    """What is repeated ``count`` times in each turn, with the monitoring off and on."""

    name: str
    work: Work
    count: int


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.monitoring",
        description='What capture="monitoring" adds to requests and to exceptions.',
    )
    parser.add_argument("--rounds", type=int, default=41, help="turns of each, off and on")
    parser.add_argument("--count", type=int, default=2000, help="exceptions raised in a turn")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures to FILE")
    options = parser.parse_args(arguments)
    if options.rounds < 1 or options.count < 1:
        parser.error("--rounds and --count must be at least 1")
    if sys.version_info < (3, 12):
        parser.error("Python 3.12 or newer is needed: there is no sys.monitoring before")
    logging.disable(logging.WARNING)  # the kit's own of a busy processor
    results = {
        **machine(["python", "-m", "benchmarks.monitoring", *(arguments or sys.argv[1:])]),
        "rounds": options.rounds,
        "subjects": asyncio.run(_measure(options.rounds, options.count)),
    }
    _print(results)
    if options.json is not None:
        write(options.json, results)
    return 0


async def _measure(rounds: int, count: int) -> dict[str, dict[str, Any]]:
    subjects = _subjects(count)
    taken: dict[str, list[tuple[float, float]]] = {one.name: [] for one in subjects}
    for turn in range(rounds):
        for one in subjects:
            first_on = turn % 2 == 0
            times = [await _timed(one, on=on) for on in (first_on, not first_on)]
            off, on = times[::-1] if first_on else times
            taken[one.name].append((off, on))
    return {name: _figures(pairs) for name, pairs in taken.items()}


async def _timed(one: _Subject, *, on: bool) -> float:
    """Microseconds of one, after a few that have the interpreter adapt to what is watched."""
    with ExitStack() as watching:
        if on:
            owner = _Owner()
            install_monitoring(owner)
            watching.callback(_check_watched)
        await one.work(max(1, one.count // 10))
        began = time.perf_counter()
        await one.work(one.count)
        return (time.perf_counter() - began) / one.count * 1e6


def _check_watched() -> None:
    """What was not watched costs nothing, and must not be reported."""
    tools: Any = getattr(sys, "monitoring", None)
    if "asgi_errorkit" not in map(tools.get_tool, range(6)):
        raise RuntimeError("sys.monitoring had no id left: measure without a debugger or profiler")


def _figures(pairs: list[tuple[float, float]]) -> dict[str, Any]:
    return {
        "off_us": spread([off for off, _ in pairs]),
        "on_us": spread([on for _, on in pairs]),
        "added_us": spread([on - off for off, on in pairs]),
        "ratio": median(on / off for off, on in pairs),
    }


def _subjects(count: int) -> list[_Subject]:
    few = max(1, count // 10)
    kit = _kit(SCENARIOS[0].app)
    subjects = [_Subject(name="request, nothing raised", work=_requests(kit), count=few)]
    fastapi = _fastapi()
    if fastapi is not None:
        work = _requests(_kit(fastapi))
        subjects.append(_Subject(name="request, FastAPI", work=work, count=few))
    here, packages = Path(__file__).parent, Path(sysconfig.get_path("purelib"))
    for where, within in (("outside", None), ("in an exchange", kit)):
        for whose, folder in (("the app's", here), ("a library's", packages)):
            code: dict[str, Any] = {}
            exec(compile(_CODE, str(folder / "of_a_benchmark.py"), "exec"), code)
            for frames, times in ((0, count), (1, count), (20, few)):
                name = f"{where}, {frames} frames of {whose} left"
                subjects.append(
                    _Subject(name=name, work=_raising(code, frames, within), count=times)
                )
    return subjects


def _kit(app: ASGIApp) -> ErrorKit:
    stack = MiddlewareStack()
    stack.add_middleware(StructuredLoggingMiddleware, stream=_Nowhere())
    stack.add_middleware(ErrorHandlingMiddleware, capture=[MONITORING])
    kit = ErrorKit(app, stack=stack)
    kit.errors._frameworks = frozenset()  # what it asks for is turned on and off here
    return kit


class _Nowhere(BytesIO):
    """A stream that keeps nothing."""

    def write(self, text: Any) -> int:
        return len(text)


def _requests(app: ASGIApp) -> Work:
    exchange = SCENARIOS[0].exchange

    async def ask(count: int) -> None:
        for _ in range(count):
            scope, receive = exchange()
            await app(scope, receive, send)

    return ask


def _raising(code: dict[str, Any], frames: int, within: ErrorKit | None) -> Work:
    async def repeat(count: int) -> None:
        token = CURRENT.set(_state(within)) if within is not None else None
        try:
            if frames == 0:
                code["repeat_within"](count)
            else:
                code["repeat"](count, frames)
        finally:
            if token is not None:
                CURRENT.reset(token)

    return repeat


def _state(kit: ErrorKit) -> list[Any]:
    """The state of a request that runs and has not been answered yet."""
    scope, _ = SCENARIOS[0].exchange()
    return begin(scope, {}, "", time.perf_counter, 0.0, 0, send, kit.errors.choices)


def _fastapi() -> ASGIApp | None:
    try:
        from fastapi import FastAPI
    except ImportError:
        return None
    app = FastAPI()

    @app.get(SCENARIOS[0].exchange()[0]["path"])
    async def answer() -> str:
        return "ok"

    return app  # type: ignore[return-value]


def _print(results: dict[str, Any]) -> None:
    print(f"Microseconds, median of {results['rounds']} turns on Python {sys.version.split()[0]}")
    table = [["what", "off us", "on us", "added us", "(q1-q3)", "x off"]]
    for name, row in results["subjects"].items():
        added = row["added_us"]
        table.append(
            [
                name,
                f"{row['off_us']['median']:.2f}",
                f"{row['on_us']['median']:.2f}",
                f"{added['median']:.2f}",
                f"({added['q1']:.2f}-{added['q3']:.2f})",
                f"{row['ratio']:.2f}",
            ]
        )
    print_table(table)


if __name__ == "__main__":
    sys.exit(main())
