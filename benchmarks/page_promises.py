"""What was promised, what the results say of it, and whether it is kept: yes, no or in doubt."""

from collections.abc import Callable, Iterator
from typing import Any

from benchmarks.page_text import Results, figure, table
from benchmarks.scale import TARGETS

__all__ = ["promises"]

_OF_A_REQUEST = {
    "hot_added_us": "hot path added, µs, at most",
    "record_hot_us": "hot path added by the record on disk, µs, at most",
    "cpu_one_line_us": "total CPU added with one log line, µs, at most",
    "cpu_added_us": "total CPU added with two log lines, µs, at most",
    "cheaper_than_guide": "times cheaper than the guide's design, at least",
    "chunk_added_us": "total CPU added to each further body chunk, µs, at most",
    "error_first_us": "total CPU added to the first error of a group, µs, at most",
    "error_repeated_us": "total CPU added to a repeated error, µs, at most",
}
_OVER_THE_WIRE = {
    "requests_per_second_to_bare": "requests/s, x bare, at least",
    "p99_us_to_bare": "p99, x bare, at most",
    "p999_us_to_bare": "p99.9, x bare, at most",
}
_SERVER = "uvicorn"
"""The one that was promised of: with httptools and uvloop."""

_PUBLISHED_A_SECOND = 100_000
_PACED = 0.99
"""The share of it that will do: paced as they are, publications never come to more than all of it."""

_LISTENING = "recorder, everything listens"
_STREAMS = 10_000
_KEPT = {True: "yes", False: "**no**", None: "in doubt"}

Promise = tuple[str, float, float | None, bool | None]
"""In words, what is wanted, what was measured, and whether that will do."""


def promises(results: list[Results]) -> list[str]:
    """A table with a row for each promise and interpreter, and a word on what it leaves open."""
    rows, doubtful = [["", "Python", "wanted", "measured", "kept"]], False
    for one in results:
        for text, wanted, measured, kept in _FINDS.get(one.benchmark, _none)(one.told):
            cells = [f"{wanted:,g}", _measured(measured), _KEPT[kept]]
            rows.append([text, one.told["python"]["version"], *cells])
            doubtful |= kept is None
    if len(rows) == 1:
        return ["The results have nothing that was promised."]
    doubt = (
        "*In doubt*: at saturation the server did not run all the time, so something else took its "
        "core, or the client is slower than it."
    )
    return [_summary([row[-1] for row in rows[1:]]), table(rows), *([doubt] if doubtful else [])]


def _summary(kept: list[str]) -> str:
    counts = {word: kept.count(_KEPT[verdict]) for verdict, word in _COUNTED.items()}
    told = ", ".join(f"{count} {word}" for word, count in counts.items() if count)
    return f"Of {len(kept)}: {told}."


def _measured(value: float | None) -> str:
    """To more digits than elsewhere: rounded, what is just missed would look kept."""
    return f"{value:,.4g}" if value is not None and abs(value) < 1e4 else figure(value)


_COUNTED = {True: "kept", False: "not kept", None: "in doubt"}


def _none(told: dict[str, Any]) -> Iterator[Promise]:
    yield from ()


def _of_a_request(told: dict[str, Any]) -> Iterator[Promise]:
    for name, scenario in told["scenarios"].items():
        for key, promise in scenario["reach"].items():
            text = f"{name}: {_OF_A_REQUEST.get(key, key)}"
            yield text, promise["wanted"], promise["measured"], promise["kept"]


def _over_the_wire(told: dict[str, Any]) -> Iterator[Promise]:
    for one in told["servers"].get(_SERVER, {}).get("reach", ()):
        text = f"{_SERVER}, {one['load']}: {_OVER_THE_WIRE.get(one['figure'], one['figure'])}"
        yield text, one["wanted"], one["measured"], one["kept"]


def _at_scale(told: dict[str, Any]) -> Iterator[Promise]:
    for name, one in told["targets"].items():
        more = TARGETS.get(name, (0, False))[1]
        text = f"{name}, {'at least' if more else 'at most'}"
        yield text, one["wanted"], one["measured"], one["kept"]
    published, streams = told["published"], told["streams"]
    reached = published.get(_LISTENING, {}).get("records_per_second")
    exact = all(one["exact"] for one in published.values())
    yield (
        "publications a second, paced, each taken or counted as lost, at least",
        _PUBLISHED_A_SECOND,
        reached,
        exact and reached is not None and reached >= _PACED * _PUBLISHED_A_SECOND,
    )
    counted = all(wanted == found for wanted, found in streams["exact"].values())
    yield (
        "streams at once, all counted exactly, at least",
        _STREAMS,
        streams["streams"],
        counted and streams["streams"] >= _STREAMS,
    )


_FINDS: dict[str, Callable[[dict[str, Any]], Iterator[Promise]]] = {
    "request": _of_a_request,
    "wire": _over_the_wire,
    "scale": _at_scale,
}
