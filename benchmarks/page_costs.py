"""The tables of what a request costs: in one process, over the wire, and beside the kit's peers."""

from collections.abc import Iterator
from typing import Any

from benchmarks.page_text import Results, bullets, figure, folded, middle, table
from benchmarks.subjects import FULL, ONE_LINE

__all__ = ["peers", "request", "wire"]

_SERVED = (
    "",
    "requests/s",
    "x bare",
    "p50 ms",
    "p99 ms",
    "x bare",
    "p99.9 ms",
    "x bare",
    "CPU µs",
    "+µs",
    "busy",
)


def request(results: list[Results]) -> Iterator[str]:
    """All scenarios of each interpreter with everything on; of the first all subjects, too."""
    for one in results:
        told = one.told
        yield f"### {one.python}, everything on"
        yield (
            f"Microseconds added: the best of {told['rounds']} rounds, for what others on the machine "
            "do only ever adds, then their median and quartiles. *x bare* is the CPU time of both, "
            "divided by the bare app's."
        )
        yield table(_with_everything(told["scenarios"]))
        yield from _idle(told)
    if results:
        first = results[0]
        yield f"### {first.python}, all that was compared"
        yield from _chunks(first.told.get("per_chunk_us"))
        for name, scenario in first.told["scenarios"].items():
            yield folded(f"{name}, per {scenario['per']}", table(_subjects(scenario["subjects"])))


def _with_everything(scenarios: dict[str, Any]) -> list[list[str]]:
    rows = [["", "hot path", "CPU, one line", "x bare", "CPU, two lines", "x bare"]]
    for name, scenario in scenarios.items():
        one, two = scenario["subjects"].get(ONE_LINE, {}), scenario["subjects"].get(FULL, {})
        cells = [middle(two.get("hot_added_us"))]
        for row in (one, two):
            cells += [middle(row.get("cpu_added_us")), figure(row.get("cpu_ratio_to_bare"))]
        rows.append([f"{name}, per {scenario['per']}", *cells])
    return rows


def _idle(told: dict[str, Any]) -> Iterator[str]:
    idle, pace = told.get("idle_cpu_us_per_second"), told.get("pace")
    if idle is None:
        yield "The idle kit was not watched."
    else:
        yield f"Idle, the background thread takes {figure(idle)} µs of CPU a second."
    if pace is not None:
        yield (
            f"{pace['slow_turns']:,} turns were taken while the machine was a fifth slower than at "
            f"its best, or more; {pace['waited_seconds']:g} s were waited for it."
        )


def _chunks(per_chunk: dict[str, Any] | None) -> Iterator[str]:
    if per_chunk is None:
        yield "Further chunks of a body were not measured."
        return
    rows = [["each further chunk of a body", "hot path +µs", "CPU +µs"]]
    for name, row in per_chunk.items():
        rows.append([name, middle(row["hot_added_us"]), middle(row["cpu_added_us"])])
    yield folded("each further chunk of a body", table(rows))


def _subjects(subjects: dict[str, Any]) -> list[list[str]]:
    rows = [["", "hot path +µs", "CPU +µs", "step +µs", "wall +µs", "x bare", "log lines"]]
    for name, row in subjects.items():
        spreads = ("hot_added_us", "cpu_added_us", "cpu_step_us")
        cells = [middle(row.get(key)) for key in spreads]
        cells += [figure(row["wall_added_us"]["median"]), figure(row["cpu_ratio_to_bare"])]
        rows.append([name, *cells, f"{row['log_lines']:.3g}"])
    return rows


def peers(results: list[Results]) -> Iterator[str]:
    """What each adds to its kind of app, and that as a multiple of what the kit adds there."""
    for one in results:
        yield f"### {one.python}"
        for name, scenario in one.told["scenarios"].items():
            yield (
                f"{name}: microseconds added per {scenario['per']}, the best of "
                f"{one.told['rounds']} rounds (CPU), medians and quartiles."
            )
            yield table(_peers(scenario["subjects"]))
            yield from _left_out(scenario["left_out"])


def _peers(subjects: list[dict[str, Any]]) -> list[list[str]]:
    rows = [["", "around", "wall +µs", "CPU +µs", "x the kit"]]
    for row in subjects:
        cells = [middle(row["wall_added_us"]), middle(row["cpu_added_us"])]
        rows.append([row["name"], row["around"], *cells, figure(row["times_the_kit"])])
    return rows


def _left_out(entries: list[dict[str, str]]) -> Iterator[str]:
    if entries:
        yield "Left out, for they could not be imported:"
        yield bullets(f"{one['name']} around {one['around']}: {one['reason']}" for one in entries)


def wire(results: list[Results]) -> Iterator[str]:
    """Each server under each load; ratios are to the bare app's turn of the same round."""
    for one in results:
        told = one.told
        yield f"### {one.python}"
        yield (
            f"{told['connections']} connections, {told['seconds']:g} s a turn, medians of "
            f"{told['rounds']} rounds with quartiles; at saturation asked by {told['client']}. "
            f"{_pinned(told['cores'])}"
        )
        for server, found in told["servers"].items():
            for load, rows in found["loads"].items():
                yield f"{server} at {load}:"
                yield table(_served(rows))


def _pinned(cores: dict[str, int | None]) -> str:
    if cores["server"] is None:
        return "Server and client were not kept on cores of their own."
    return f"The server had core {cores['server']}, the client core {cores['client']}."


def _served(subjects: dict[str, Any]) -> list[list[str]]:
    rows = [list(_SERVED)]
    for name, row in subjects.items():
        cells = [figure(row["requests_per_second"]["median"])]
        cells += [_ratio(row["requests_per_second_to_bare"]), _milliseconds(row["p50_us"])]
        for key in ("p99_us", "p999_us"):
            cells += [_milliseconds(row[key]), middle(row[f"{key}_to_bare"])]
        cells += [figure(row["cpu_us"]["median"]), figure(row["cpu_us_added"])]
        rows.append([name, *cells, f"{row['busy']['median']:.0%}"])
    return rows


def _milliseconds(microseconds: dict[str, float]) -> str:
    return figure(microseconds["median"] / 1e3)


def _ratio(spread: dict[str, float]) -> str:
    """Near 1 a third digit matters."""
    median, low, high = (f"{spread[name]:.3f}" for name in ("median", "q1", "q3"))
    return median if low == median == high else f"{median} ({low} to {high})"
