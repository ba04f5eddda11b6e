"""Writes docs/benchmarks.md and README's cost table from a run: ``python -m benchmarks.page``.

Both say what lies in ``benchmarks/results`` and nothing else: ``--run`` measures all of it anew
before, and ``--check`` ends with 1 when what is written is not what the results give.
"""

import argparse
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from benchmarks.page_costs import peers, request, wire
from benchmarks.page_head import head, taken
from benchmarks.page_life import gate, growth, scale, startup
from benchmarks.page_plots import Plot, plots
from benchmarks.page_promises import promises
from benchmarks.page_readme import replaced
from benchmarks.page_record import record
from benchmarks.page_text import BENCHMARKS, Results, read

__all__ = ["Place", "main"]

_SECTIONS: dict[str, tuple[str, Callable[[list[Results]], Iterator[str]]]] = {
    "request": ("What is added to a request", request),
    "record": ("The record on disk", record),
    "startup": ("Before the first request", startup),
    "growth": ("What piles up", growth),
    "scale": ("Much at once", scale),
    "wire": ("Over the wire", wire),
    "peers": ("Beside its peers", peers),
    "gate": ("Counted, without noise", gate),
}


@dataclass(frozen=True, slots=True)
class Place:
    """The checkout, or what is made to look like one."""

    root: Path = Path(__file__).parents[1]

    @property
    def results(self) -> Path:
        return self.root / "benchmarks" / "results"

    @property
    def page(self) -> Path:
        return self.root / "docs" / "benchmarks.md"

    @property
    def plots(self) -> Path:
        return self.root / "docs" / "benchmarks"

    @property
    def readme(self) -> Path:
        return self.root / "README.md"


def main(arguments: list[str] | None = None, place: Place | None = None) -> int:
    """Write the page, or see whether it is still true."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.page", description="The results of a run as a page."
    )
    wish = parser.add_mutually_exclusive_group()
    wish.add_argument("--run", action="store_true", help="run all that is installed before")
    wish.add_argument("--check", action="store_true", help="end with 1 if the page is stale")
    options = parser.parse_args(arguments)
    place = place or Place()
    if options.check:
        stale = _stale(place, read(place.results))
        print(*stale or ["The page and README say what the results say."], sep="\n")
        return 1 if stale else 0
    failed = _run(place) if options.run else []
    results = read(place.results)
    if not results:
        print(f"There is nothing in {place.results}: --run measures it all.", file=sys.stderr)
        return 1
    _write(place, results)
    return 1 if failed else 0


def _run(place: Place) -> list[str]:
    """Each benchmark in a process of its own, one after the other; those that wrote nothing."""
    place.results.mkdir(exist_ok=True)
    failed = []
    for name in BENCHMARKS:
        lacking = _lacking(name)
        if lacking:
            print(f"{name} is left out: {lacking}", flush=True)
            continue
        file = place.results / f"{name}.json"
        # What fails must not leave the figures of another day behind.
        file.unlink(missing_ok=True)
        print(f"== {name}", flush=True)
        command = ["-m", f"benchmarks.{name}", "--json", str(file.relative_to(place.root))]
        # Some end with 1 to say that a count is not as it should be, and have written it.
        subprocess.run([sys.executable, *command], cwd=place.root, check=False)
        if not file.exists():
            failed.append(name)
    if failed:
        print(f"These have written nothing: {', '.join(failed)}", file=sys.stderr)
    return failed


def _lacking(benchmark: str) -> str:
    """What a benchmark needs and is not installed, in words."""
    if benchmark == "wire":
        from benchmarks.servers import SERVERS

        return "" if any(not one.lacking() for one in SERVERS.values()) else "there is no server"
    if benchmark == "peers":
        from benchmarks.peer_list import PACKAGES

        return ", ".join(name for name in PACKAGES if not _is_installed(name))
    return ""


def _is_installed(package: str) -> bool:
    try:
        version(package)
    except PackageNotFoundError:
        return False
    return True


def _text(results: list[Results]) -> str:
    """The whole page."""
    blocks = [*head(results), "## What was promised", *promises(results)]
    drawn = plots(results)
    for name, (title, tables) in _SECTIONS.items():
        own = [one for one in results if one.benchmark == name]
        blocks.append(f"## {title}")
        if not own:
            blocks.append(f"There are no results of `python -m benchmarks.{name}`.")
            continue
        blocks += [taken(own), *map(_shown, (plot for plot in drawn if plot.benchmark == name))]
        blocks += tables(own)
    return "\n\n".join(blocks) + "\n"


def _shown(plot: Plot) -> str:
    return f"![{plot.caption}](benchmarks/{plot.name}.svg)\n\n*{plot.caption}*"


def _write(place: Place, results: list[Results]) -> None:
    readme = replaced(place.readme.read_text(encoding="utf-8"), results)
    place.plots.mkdir(parents=True, exist_ok=True)
    place.page.write_text(_text(results), encoding="utf-8")
    place.readme.write_text(readme, encoding="utf-8")
    print(f"Written: {place.page}, {place.readme}")
    if find_spec("matplotlib") is None:
        print("The plots are as they were: matplotlib is not installed (extra bench).")
        return
    from benchmarks.page_draw import draw

    for plot in plots(results):
        draw(plot, place.plots / f"{plot.name}.svg")


def _stale(place: Place, results: list[Results]) -> list[str]:
    """What is not as the results have it, a line each."""
    if not results:
        return [f"{place.page} is of no results"] if place.page.exists() else []
    lines = []
    if not place.page.exists() or place.page.read_text(encoding="utf-8") != _text(results):
        lines.append(f"{place.page} is not what the results give")
    readme = place.readme.read_text(encoding="utf-8")
    if readme != replaced(readme, results):
        lines.append(f"the cost table of {place.readme} is not what the results give")
    for plot in plots(results):
        file = place.plots / f"{plot.name}.svg"
        if not file.exists():
            lines.append(f"{file} is missing")
    return [*lines, "Make it anew: python -m benchmarks.page"] if lines else []


if __name__ == "__main__":
    sys.exit(main())
