"""The tables of README and of docs/frameworks, made of what the tests ask for.

``python -m tests.capture.tables`` writes them anew.
"""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

from .matrix import CASES, FRAMEWORKS, LOST, Expected, Framework, expected_of

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
PAGES = ROOT / "docs" / "frameworks"

BEGIN, END = "<!-- made by tests/capture/tables.py -->\n", "<!-- end -->\n"

COLUMNS = {
    "in a handler": ("unhandled", "timeout", "memory", "group"),
    "in a thread": ("thread",),
    "after the start": ("after",),
    "in the background": ("background",),
    "in a websocket": ("websocket",),
    "HTTP errors": ("refused", "unavailable"),
    "invalid input": ("invalid",),
    "handled": ("handled",),
    "route": ("mounted", "ordinary"),
}


def summary() -> str:
    """A row for each framework, and what is known of it."""
    rows = [
        [f"[{each.title}](docs/frameworks/{page_of(name)}.md)", versions(each), *_cells(each)]
        for name, each in FRAMEWORKS.items()
    ]
    return _table(["", "versions", *COLUMNS], rows)


def _cells(framework: Framework) -> Iterator[str]:
    for column, cases in COLUMNS.items():
        every = [expected_of(framework, case) for case in cases]
        there = [each for each in every if each is not None]
        yield _mark(there, is_route=column == "route")


def _mark(there: list[Expected], *, is_route: bool) -> str:
    if not there:
        return "–"
    if not is_route and any(each.exception is None for each in there):
        return "apart"
    return "yes"


def page_of(name: str) -> str:
    return FRAMEWORKS[name].page or name


def details(page: str) -> str:
    """A table for each way to have the framework of one page: what follows of each failure."""
    parts = []
    ways = [each for name, each in FRAMEWORKS.items() if page_of(name) == page]
    for framework in ways:
        rows = [list(_row(framework, case)) for case in CASES]
        head = ["", "the client gets", "outcome", "exception", "type", "place", "route"]
        parts.append(f"**{framework.title}**, {versions(framework)}\n\n{_table(head, rows)}")
    return "\n".join(parts)


def _row(framework: Framework, case: str) -> Iterator[str]:
    yield CASES[case].title
    expected = expected_of(framework, case)
    if expected is None:
        yield f"– ({framework.lacks[case]})"
        yield from [""] * 5
        return
    yield "" if expected.status is None else str(expected.status)
    yield f"`{expected.outcome}`"
    yield _code(expected.exception) or ("told of apart" if expected.where else "")
    yield expected.error_type or ""
    yield {None: "", LOST: LOST}.get(expected.where, "known")
    yield _code(expected.route)


def _code(text: str | None) -> str:
    return f"`{text}`" if text else ""


def versions(framework: Framework) -> str:
    """The bounds that the tests are run with."""
    bounds = dict(_bounds())
    return ", ".join(f"{each} {bounds[each]}" for each in framework.packages if each in bounds)


def _bounds() -> Iterator[tuple[str, str]]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    for each in (*project["dependencies"], *extras["demo"], *extras["test"]):
        name, _, bounds = re.fullmatch(r"([\w.-]+)(\[.*\])?(.*)", each.partition(";")[0]).groups()
        yield name, bounds.replace(">=", "≥ ").replace(",<", ", < ").strip()


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def made(text: str, *tables: str) -> str:
    """A page with its tables as they ought to be."""
    parts = re.split(f"(?<={re.escape(BEGIN)}).*?(?={re.escape(END)})", text, flags=re.DOTALL)
    if len(parts) != len(tables) + 1:
        raise ValueError(f"{len(tables)} places wanted, between {BEGIN!r} and {END!r}")
    inserted = [*(f"\n{table}\n" for table in tables), ""]
    return "".join(part + table for part, table in zip(parts, inserted, strict=True))


def documents() -> Iterator[tuple[Path, str]]:
    """Each page that has tables, and what it ought to be."""
    yield README, made(README.read_text(encoding="utf-8"), summary())
    for name in sorted({page_of(name) for name in FRAMEWORKS}):
        path = PAGES / f"{name}.md"
        yield path, made(path.read_text(encoding="utf-8"), details(name))


if __name__ == "__main__":
    for path, text in documents():
        path.write_text(text, encoding="utf-8")
