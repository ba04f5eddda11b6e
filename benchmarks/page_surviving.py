"""Writes what was measured into docs/surviving.md: ``python -m benchmarks.page_surviving``.

It says what lies in ``benchmarks/results`` and nothing else; ``--check`` ends with 1 where the page
says something else.
"""

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import outage_page
from benchmarks.guards import rows
from benchmarks.page_text import NOTHING, figure, table

__all__ = ["SECTIONS", "main", "replaced"]

_ROOT = Path(__file__).parents[1]

_SUCCEEDS = "breaker, a call that succeeds"
_FAILS = "breaker, a call that fails"
_REFUSED = "breaker, a call that is refused"
_RETRIES = (
    "retry, a call that succeeds at once",
    "retry, an async call that succeeds at once",
    "retry, a call that fails once",
)


def _shedding(told: dict[str, Any]) -> str:
    cells_of = [["", "arrivals a second", "answered in time, a second", "p50 ms", "p99 ms"]]
    for subject, loads in told["rows"].items():
        for load, row in loads.items():
            arrivals = float(load) * told["capacity_per_second"]
            cells = (row["goodput_per_second"], row["p50_ms"], row["p99_ms"])
            cells_of.append([subject, f"{arrivals:g}", *(_cell(each) for each in cells)])
    goodput, p99 = (each["measured"] for each in told["reach"])
    return (
        f"A server that can answer {told['capacity_per_second']} requests a second (each needs one "
        "of four slots for 20 ms) under uvicorn; clients come whatever the answers, and leave "
        f"after {told['patience_seconds']:g} s. With "
        "`LoadSheddingMiddleware(limit=AdaptiveLimit())`, at twice what it can bear, it answers "
        f"{goodput:.0%} of the most it ever does, with a p99 of {p99:.1f} times that of the "
        f"unloaded app. Made by `{' '.join(told['command'])}`.\n\n{table(cells_of)}\n\n{_where(told)}"
    )


def _cell(value: float | None) -> str:
    return NOTHING if value is None else figure(value)


def _guards(told: dict[str, Any]) -> str:
    costs, asked = told["costs"], dict(rows(told))
    breakers = [["ns added to a call, the best", "that succeeds", "that fails", "that is refused"]]
    for key in _forms(costs[_SUCCEEDS]):
        cells = (_best(costs[name], key) for name in (_SUCCEEDS, _FAILS, _REFUSED))
        breakers.append([_named(key), *cells])
    retries = [["ns added to a call, the best", "sync", "async", "sync, fails once"]]
    retries += [
        [_named(key), *(_best(costs[name], key) for name in _RETRIES)]
        for key in _forms(costs[_RETRIES[0]])
    ]
    return "\n\n".join(
        (
            f"Made by `{' '.join(told['command'])}`. {_where(told)}",
            table(breakers),
            table(retries),
            "What each does was found out by running it:",
            table(asked["what breakers do"]),
            table(asked["what retries do"]),
        )
    )


def _forms(scenario: dict[str, Any]) -> list[tuple[str, str, str]]:
    guards = (each for each in scenario["subjects"] if each["library"] != "bare")
    return [(each["library"], each["form"], each["rules"]) for each in guards]


def _named(key: tuple[str, str, str]) -> str:
    library, form, rules = key
    return f"{library}, `{form}`" + (f", {rules}" if rules else "")


def _best(scenario: dict[str, Any], key: tuple[str, str, str]) -> str:
    for row in scenario["subjects"]:
        if (row["library"], row["form"], row["rules"]) == key:
            return figure(row["ns_added"]["best"])
    return NOTHING


def _where(told: dict[str, Any]) -> str:
    machine, python = told["machine"], told["python"]
    return (
        f"{machine['processor']}, {machine['cores']} cores, {python['implementation']} "
        f"{python['version']}."
    )


SECTIONS: dict[str, Callable[[dict[str, Any]], str]] = {
    "outage": outage_page.section,
    "shedding": _shedding,
    "guards": _guards,
}
"""What stands between the comments of these names, from the results of the same name."""


def replaced(page: str, results: Path) -> str:
    """The page with what the results give; ValueError where it has no place for that."""
    for name, section in SECTIONS.items():
        begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
        if not 0 <= page.find(begin) < page.find(end):
            raise ValueError(f"the page has no place for this: {begin} and {end}")
        told = json.loads((results / f"{name}.json").read_text(encoding="utf-8"))
        before, _, rest = page.partition(begin)
        page = f"{before}{begin}\n\n{section(told)}\n\n{end}{rest.partition(end)[2]}"
    return page


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.page_surviving", description="Write docs/surviving.md anew."
    )
    parser.add_argument("--check", action="store_true", help="end with 1 if it says something else")
    options = parser.parse_args(arguments)
    page = _ROOT / "docs" / "surviving.md"
    before = page.read_text(encoding="utf-8")
    after = replaced(before, _ROOT / "benchmarks" / "results")
    if options.check:
        return int(before != after)
    page.write_text(after, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
