"""The tables of what is no single request's: the start, growth, much at once, and what is counted."""

from collections.abc import Iterator
from typing import Any

from benchmarks.page_text import Results, figure, folded, middle, table

__all__ = ["gate", "growth", "scale", "startup"]

_GROWING = {
    "request_us": "request, +µs",
    "memory_kib": "memory, KiB",
    "flush_us": "idle flush, µs",
    "read_ms": "read 60 min, ms",
}


def startup(results: list[Results]) -> Iterator[str]:
    for one in results:
        told = one.told
        yield f"### {one.python}"
        yield f"Fresh interpreters, milliseconds, medians of {told['rounds']} rounds with quartiles."
        rows = [["", "wall", "added wall", "added CPU"]]
        for code, times in told["interpreter_ms"].items():
            cells = [middle(times[name]) for name in ("wall", "wall_added", "cpu_added")]
            rows.append([f"`{code}`", *cells])
        yield table(rows)
        construction, modules = told["construction_us"], told["modules"]
        yield (
            f"`ErrorKit(app)` takes {figure(construction['first'])} µs the first time, "
            f"{figure(construction['later'])} µs later. The import loads, beyond the standard "
            f"library: {_names(modules['beyond_the_standard_library'])}; of what a program that "
            f"only imports it must not pay for: {_names(modules['unwanted'])}."
        )


def _names(names: list[str]) -> str:
    return ", ".join(f"`{name}`" for name in names) or "nothing"


def growth(results: list[Results]) -> Iterator[str]:
    """Of the first interpreter what each size costs; of all what becomes of it."""
    for number, one in enumerate(results):
        yield f"### {one.python}"
        yield (
            "By what the worst decade multiplies a cost. *Flat* is up to 1.25 in each, which a "
            "shared machine's noise may feign; what *levels off* is flat in the last."
        )
        yield table(_verdicts(one.told["axes"]))
        if number == 0:
            for name, axis in one.told["axes"].items():
                yield folded(name, table(_points(name, axis["points"])))


def _verdicts(axes: dict[str, Any]) -> list[list[str]]:
    rows = [["with", "sizes", *_GROWING.values()]]
    for name, axis in axes.items():
        sizes = [point["size"] for point in axis["points"]]
        label = f"{name} (memory: of each)" if axis["each"] else name
        cells = [_verdict(axis["growth"][figure_name]) for figure_name in _GROWING]
        rows.append([label, f"{sizes[0]:,} to {sizes[-1]:,}", *cells])
    return rows


def _verdict(growth: dict[str, Any]) -> str:
    worst = max(growth["factors"], default=None)
    return growth["verdict"] if worst is None else f"{growth['verdict']}, x {figure(worst)}"


def _points(name: str, points: list[dict[str, Any]]) -> list[list[str]]:
    rows = [[name, *_GROWING.values(), "bare app, µs"]]
    for point in points:
        cells = [
            middle(point["request_us"]),
            *(figure(point[key]) for key in ("memory_kib", "flush_us", "read_ms")),
            middle(point["bare_us"]),
        ]
        rows.append([f"{point['size']:,}", *cells])
    return rows


def scale(results: list[Results]) -> Iterator[str]:
    for one in results:
        streams = one.told["streams"]
        yield f"### {one.python}"
        yield table(_counted(streams))
        added = [
            f"{key.removeprefix('added_us_').replace('_', ' ')}: {middle(spread)} µs"
            for key, spread in streams.items()
            if key.startswith("added_us_")
        ]
        yield f"CPU added {'; '.join(added)}."
        yield table(_published(one.told["published"]))
        yield table(_drained(one.told["drained"]))
        full, announcing = one.told["longest_hold_ms"].values()
        yield (
            f"The background thread holds requests up for {figure(full)} ms at most when the ring is "
            f"full, and for {figure(announcing)} ms while it logs the start of all that is in flight."
        )


def _counted(streams: dict[str, Any]) -> list[list[str]]:
    rows = [[f"{streams['streams']:,} streams at once", "wanted", "counted", "exact"]]
    for name, (wanted, counted) in streams["exact"].items():
        exact = "yes" if wanted == counted else "**no**"
        rows.append([name, _count(wanted), _count(counted), exact])
    return rows


def _count(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {count:,}" for name, count in sorted(value.items()))
    return f"{value:,}"


def _published(published: dict[str, Any]) -> list[list[str]]:
    rows = [["publication", "records/s", "produced", "taken", "lost", "longest ms", "exact"]]
    for name, one in published.items():
        counts = [f"{one[key]:,}" for key in ("produced", "taken", "lost")]
        longest, exact = figure(one.get("longest_publication_ms")), one["exact"]
        cells = [figure(one["records_per_second"]), *counts, longest]
        rows.append([name, *cells, "yes" if exact else "**no**"])
    return rows


def _drained(drained: dict[str, Any]) -> list[list[str]]:
    rows = [["drain, CPU time of its thread", "records/s", "median ms", "longest ms"]]
    for name, one in drained.items():
        keys = ("records_per_second", "median_ms", "longest_ms")
        rows.append([name, *(figure(one[key]) for key in keys)])
    return rows


def gate(results: list[Results]) -> Iterator[str]:
    for one in results:
        counts: dict[str, dict[str, float]] = one.told["counts"]
        names = list(next(iter(counts.values()), {}))
        yield f"### {one.python}"
        rows = [["added, per request or step", *(name.replace("_", ", ") for name in names)]]
        rows += [[case, *(figure(row.get(n)) for n in names)] for case, row in counts.items()]
        yield table(rows)
    for name, functions in (results[0].told.get("by_function", {}) if results else {}).items():
        heads = ["function", "instructions a request, the bare app's with them"]
        rows = [heads, *([function, figure(number)] for function, number in functions.items())]
        yield folded(f"Where they go: {name}", table(rows))
