"""Results as they lie in files, and figures as Markdown."""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["BENCHMARKS", "Results", "bullets", "figure", "folded", "middle", "read", "table"]

BENCHMARKS = ("request", "record", "startup", "growth", "scale", "wire", "peers", "gate")
"""In the order of the page. The command of each is ``python -m benchmarks.NAME --json FILE``."""

OF_SURVIVING = frozenset(("outage", "shedding", "guards"))
"""What another page tells of: docs/surviving.md."""

NOTHING = "–"


@dataclass(frozen=True, slots=True)
class Results:
    """What one benchmark wrote; of further interpreters the file is named ``request-3.12.json``."""

    file: str
    benchmark: str
    told: dict[str, Any]

    @property
    def python(self) -> str:
        told = self.told["python"]
        return f"{told['implementation']} {told['version']}"


def read(folder: Path) -> list[Results]:
    """All results of a folder, by benchmark, and of one the file without an addition first."""
    found = []
    for file in sorted(folder.glob("*.json"), key=_by_version):
        benchmark = file.stem.partition("-")[0]
        if benchmark in OF_SURVIVING:
            continue
        if benchmark not in BENCHMARKS:
            raise ValueError(f"{file}: there is no such benchmark; take one of {BENCHMARKS}")
        found.append(Results(file.name, benchmark, json.loads(file.read_text(encoding="utf-8"))))
    return sorted(found, key=lambda one: BENCHMARKS.index(one.benchmark))


def _by_version(file: Path) -> tuple[list[int], str]:
    """3.9 before 3.10, and what has no number before both."""
    return [int(number) for number in re.findall(r"\d+", file.stem)], file.name


def figure(value: float | None) -> str:
    """To three digits or so; what was not measured is a dash."""
    if value is None:
        return NOTHING
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    text = f"{value:,.{digits}f}"
    return text.removeprefix("-") if float(text.replace(",", "")) == 0 else text


def middle(spread: dict[str, float] | None) -> str:
    """The best where it is known, the median, and the quartiles behind it."""
    if spread is None:
        return NOTHING
    median, low, high = (figure(spread[name]) for name in ("median", "q1", "q3"))
    text = median if low == median == high else f"{median} ({low} to {high})"
    best = figure(spread.get("best"))
    return text if best in (NOTHING, text) else f"**{best}** · {text}"


def table(rows: Sequence[Sequence[str]]) -> str:
    """The first row heads the columns; the first column is text, the others are figures."""
    head, *others = ([cell.replace("|", r"\|") for cell in row] for row in rows)
    ruler = ["---", *("--:" for _ in head[1:])]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, ruler, *others))


def bullets(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def folded(summary: str, *blocks: str) -> str:
    """Blocks that show when asked for."""
    inner = "\n\n".join(blocks)
    return f"<details><summary>{summary}</summary>\n\n{inner}\n\n</details>"
