"""How `crashes` and `inflight` show what they have read."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from asgi_errorkit.cli.output import Columns, say, table
from asgi_errorkit.cli.words import age, megabytes, plain, shown, time_of

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["show_crashes", "show_inflight"]

_MOST_SHOWN = 5  # suspects of a worker; --json has them all


def show_crashes(console: "Console", found: Mapping[str, Any]) -> None:
    """Each that died, with its likeliest suspects."""
    for crash in found["crashes"]:
        say(console, _heading(crash), style="bold")
        say(console, _circumstances(crash))
        suspects = crash["suspects"][:_MOST_SHOWN]
        if suspects:
            console.print(table(console, _SUSPECTS, suspects))
        _say_more(console, (crash["in_flight"] or 0) - len(suspects))
        console.print()
    if not found["crashes"]:
        say(console, "no worker has died")


def _say_more(console: "Console", more: int) -> None:
    if more > 0:
        say(console, f"  and {plain(more)} more")


def _heading(crash: Mapping[str, Any]) -> str:
    of = "" if crash["damaged"] else _of(crash)
    return f"worker {plain(crash['pid'], grouped=False)}{of} died, {_last_seen(crash)}"


def _last_seen(crash: Mapping[str, Any]) -> str:
    return (
        "its record cannot be read"
        if crash["damaged"]
        else f"last seen {time_of(crash['last_seen_at'])}"
    )


def _of(told: Mapping[str, Any]) -> str:
    release = f", release {shown(told['release'])}" if told["release"] else ""
    return f" of {shown(told['app'])}{release}"


def _circumstances(crash: Mapping[str, Any]) -> str:
    known_since = (
        "not yet told of" if crash["found_at"] is None else f"found {time_of(crash['found_at'])}"
    )
    if crash["damaged"]:
        return f"  {known_since}; what it was at is not known"
    started_at, last_seen_at = crash["started_at"], crash["last_seen_at"]
    lived = None if None in (started_at, last_seen_at) else last_seen_at - started_at
    unlisted = f", {plain(crash['unlisted'])} not listed" if crash["unlisted"] else ""
    return (
        f"  {known_since}; it lived {age(lived)}, memory {megabytes(crash['memory_mb'] or None)}, "
        f"{plain(crash['in_flight'])} in flight{unlisted}"
    )


def show_inflight(console: "Console", found: Mapping[str, Any]) -> None:
    """The workers that run, and what they are at."""
    if not found["workers"]:
        say(console, "no worker is running")
        return
    console.print(table(console, _WORKERS, found["workers"]))
    if found["requests"]:
        console.print(table(console, _REQUESTS, found["requests"]))
    else:
        say(console, "nothing is in flight")


def _request(told: Mapping[str, Any]) -> str:
    return f"{shown(told['method'])} {shown(told['path'])}"


def _growth(told: Mapping[str, Any]) -> str:
    """Not known of one that began before the memory was measured for the first time."""
    return megabytes(told["memory_growth_mb"] if told["memory_mb_at_start"] else None)


_SUSPECTS: Final[Columns] = {
    "  suspect": lambda told: f"  {_request(told)}",
    "phase": lambda told: shown(told["phase"]),
    "age": lambda told: age(told["age_seconds"]),
    "memory grew": _growth,
    "request id": lambda told: shown(told["request_id"]),
}
_REQUESTS: Final[Columns] = {
    "age": lambda told: age(told["age_seconds"]),
    "request": _request,
    "phase": lambda told: shown(told["phase"]),
    "pid": lambda told: plain(told["pid"], grouped=False),
    "memory grew": _growth,
    "request id": lambda told: shown(told["request_id"]),
}
_WORKERS: Final[Columns] = {
    "worker": lambda told: plain(told["pid"], grouped=False),
    "app": lambda told: shown(told["app"]),
    "life": lambda told: shown(told["life"]),
    "silent for": lambda told: age(told["silent_seconds"]),
    "memory": lambda told: megabytes(told["memory_mb"] or None),
    "in flight": lambda told: plain(told["in_flight"]),
    "started": lambda told: time_of(told["started_at"]),
}
