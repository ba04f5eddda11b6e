"""The tables of what the record on disk costs who writes and who reads it."""

from collections.abc import Iterator
from typing import Any

from benchmarks.page_text import Results, figure, middle, table

__all__ = ["record"]


def record(results: list[Results]) -> Iterator[str]:
    for one in results:
        told = one.told
        yield f"### {one.python}"
        yield (
            "Snapshots by their size, microseconds, of "
            f"{told['rounds']} rounds: saved with nothing new, saved with {told['requests_a_snapshot']} "
            "requests that are counted, and read with the whole segment."
        )
        yield table(_snapshots(told["snapshots"]))
        yield (
            "One process lists requests as fast as it can while others read in a loop, "
            f"{told['seconds']:g} s a turn, beside the turn of the same round in which nobody reads. "
            f"{_pinned(told['cores'])} A read is *unsteady* if too much was saved meanwhile."
        )
        yield table(_readers(told["readers"]))


def _pinned(cores: dict[str, list[int]] | None) -> str:
    if cores is None:
        return "Nobody was kept on cores of their own."
    readers = ", ".join(map(str, cores["readers"]))
    return f"The writer had core {cores['writer'][0]}, the readers {readers}."


def _snapshots(snapshots: dict[str, dict[str, Any]]) -> list[list[str]]:
    rows = [["bytes", "saved, nothing new", "saved", "read"]]
    for size, row in snapshots.items():
        cells = (middle(row[name]) for name in ("save_idle_us", "save_us", "read_us"))
        rows.append([f"{int(size):,}", *cells])
    return rows


def _readers(readers: dict[str, dict[str, Any]]) -> list[list[str]]:
    rows = [["", "requests/s", "x none", "CPU µs a request", "x none", "reads/s", "unsteady"]]
    for name, row in readers.items():
        cells = [figure(row["per_second"]["median"]), middle(row["per_second_to_none"])]
        cells += [middle(row["cpu_us"]), middle(row["cpu_to_none"])]
        rows.append([name, *cells, figure(row["reads_per_second"]), f"{row['unsteady']:.0%}"])
    return rows
