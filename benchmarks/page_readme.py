"""The cost table of README.md, between two comments, from the results of ``benchmarks.request``."""

from collections.abc import Iterator
from typing import Any

from benchmarks.page_text import Results, figure, table
from benchmarks.subjects import FULL, GUIDE, NO_OP, ONE_LINE, RECORDED, SURVIVING

__all__ = ["BEGIN", "END", "costs", "replaced"]

BEGIN, END = "<!-- costs -->", "<!-- /costs -->"

_FRAME = "one frame: id and header"
_NESTED = "the three nested by hand"
_OF_A_GET = {
    NO_OP: "a wrapper that does nothing",
    _FRAME: "request id on the response, exchange, record",
    ONE_LINE: "everything, completion logged",
    FULL: "**`ErrorKit(app)`: everything, start and completion logged**",
    RECORDED: "completion logged, and the record on disk that outlives a worker",
    SURVIVING: "completion logged, and all five middlewares that survive failures",
    _NESTED: "the three middlewares nested by hand",
    GUIDE: "the same work in three `BaseHTTPMiddleware`",
}
_ERRORS = {
    "error, 20 frames, 3 of them new code, distinct": (
        "the first error of its group, raised 20 frames deep: caught, grouped, logged, answered"
    ),
    "error, 20 frames, repeated": "an error like one before it",
}
_CHUNK = "each further piece of a streamed body"


def replaced(readme: str, results: list[Results]) -> str:
    """README with the table that the results give; as it is when there are none of a request."""
    requests = [one for one in results if one.benchmark == "request"]
    if not requests:
        return readme
    before, begin, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"README.md has no place for the costs: {BEGIN} and {END}")
    return f"{before}{BEGIN}\n\n{costs(requests[0])}\n\n{END}{after}"


def costs(one: Results) -> str:
    told = one.told
    rows = [["", "request path", "total CPU"], *_rows(told)]
    cores = told["machine"]["cores"]
    idle = told.get("idle_cpu_us_per_second")
    rest = "" if idle is None else f" Idle, the kit takes {figure(idle / 1e4)} % of a core."
    return (
        f"{table(rows)}\n\nThe best of {told['rounds']} rounds, {one.python}, "
        f"{told['machine']['processor']}, {cores} cores.{rest} "
        "[All figures, what was promised, and others' beside](docs/benchmarks.md)."
    )


def _rows(told: dict[str, Any]) -> Iterator[list[str]]:
    """What a results file does not have has no row."""
    scenarios = told["scenarios"]
    of_a_get = scenarios.get("GET", {}).get("subjects", {})
    for name, text in _OF_A_GET.items():
        yield from _row(text, of_a_get.get(name))
    # A difference of differences: its best would be that of four series by chance.
    yield from _row(_CHUNK, (told.get("per_chunk_us") or {}).get(FULL), "median")
    for name, text in _ERRORS.items():
        yield from _row(text, scenarios.get(name, {}).get("subjects", {}).get(FULL))


def _row(text: str, row: dict[str, Any] | None, which: str = "best") -> Iterator[list[str]]:
    if row is None:
        return
    cells = [figure(row[key][which]) for key in ("hot_added_us", "cpu_added_us")]
    stressed = text.startswith("**")
    yield [text, *(f"**{cell}**" if stressed else cell for cell in cells)]
