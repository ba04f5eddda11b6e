"""What each command reads of a host, as one document; nothing is changed by it."""

import os
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from math import inf
from pathlib import Path
from typing import Any

from asgi_errorkit.cli.judges import number, text
from asgi_errorkit.cli.shapes import (
    as_breaker,
    as_crash,
    as_errors,
    as_group,
    as_performance,
    as_request,
    as_worker,
)
from asgi_errorkit.redact import Redactor
from asgi_errorkit.spool import answers
from asgi_errorkit.spool.answers import Tally
from asgi_errorkit.spool.crash import crash_of, in_flight, with_names
from asgi_errorkit.spool.directory import SpoolError
from asgi_errorkit.spool.history import history_of
from asgi_errorkit.spool.host import Host, Worker
from asgi_errorkit.spool.layout import Ending
from asgi_errorkit.spool.owner import Life
from asgi_errorkit.spool.totals import Counts, loaded

__all__ = ["UnknownGroupError", "crashes", "errors", "found", "inflight", "stats"]

_MINUTE_SECONDS = 60.0
_MOST_NAMED = 5
_MOST_GROUPS = 500
_GONE = "gone"


class UnknownGroupError(Exception):
    """No group has that id, or several may be meant; the message says what to do about it."""


def found(directory: str, read: Callable[[Host], dict[str, Any]]) -> dict[str, Any]:
    """What is read, with where and when. Raises SpoolError when nothing can be."""
    _check_exists(directory)
    host = Host(directory)
    with closing(host.directory):
        read_at = time.time()
        told = read(host)
    path = os.fsencode(host.directory.path).decode("utf-8", "replace")
    return {"directory": path, "read_at": read_at, "unread": host.unread, **told}


def _check_exists(directory: str) -> None:
    """Raise SpoolError for what a Host would make."""
    try:
        Path(directory).expanduser().lstat()
    except FileNotFoundError:
        raise SpoolError(f"{directory} does not exist: is it the directory of the app?") from None
    except (OSError, RuntimeError, ValueError):
        return  # a Host says what is wrong with it


def crashes(host: Host) -> dict[str, Any]:
    """Who has died, the latest first, whether somebody has found them yet or not."""
    # The dead come first: one that is claimed meanwhile is a crash by then, and not missed.
    dead = [as_crash(_death_of(worker)) for worker in host.workers() if _has_died(worker)]
    kept = [as_crash(told) for told in host.crashes()]
    known = {(crash["pid"], crash["started_at"]) for crash in kept}
    new = [crash for crash in dead if (crash["pid"], crash["started_at"]) not in known]
    return {"crashes": sorted([*new, *kept], key=_told_at, reverse=True)}


def _has_died(worker: Worker) -> bool:
    return worker.life is Life.DEAD and worker.reading.ending is not Ending.CLEAN


def _death_of(worker: Worker) -> dict[str, Any]:
    """As whoever claims it will tell; the name of its file is the better witness of its pid."""
    about = {**worker.about, "pid": worker.owner.pid}
    crash = crash_of(worker.reading, about, found_at=0.0, redactor=_redactor_of(worker))
    said = loaded(worker.reading.body or b"")
    return {**crash, **history_of(said, about.get("clock_offset", 0.0)), "found_at": None}


def _redactor_of(worker: Worker) -> Redactor:
    return with_names(Redactor(), worker.about)


def _told_at(crash: Mapping[str, Any]) -> float:
    return float(crash["last_seen_at"] or crash["found_at"] or 0.0)


def inflight(host: Host) -> dict[str, Any]:
    """What the workers that live are at, the oldest first."""
    running = [worker for worker in host.workers() if worker.life is not Life.DEAD]
    now = time.perf_counter()
    requests = [request for worker in running for request in _requests_of(worker, now)]
    requests.sort(key=lambda request: -(request["age_seconds"] or 0.0))
    return {"workers": [_worker(worker, now) for worker in running], "requests": requests}


def _requests_of(worker: Worker, now: float) -> list[dict[str, Any]]:
    offset = number(worker.about.get("clock_offset")) or 0.0
    whose = {"pid": worker.owner.pid, "app": text(worker.about.get("app"))}
    listed = in_flight(worker.reading, now, offset, _redactor_of(worker))
    return [{**whose, **as_request(each)} for each in listed]


def _worker(worker: Worker, now: float) -> dict[str, Any]:
    reading = worker.reading
    told = {
        **worker.about,
        "pid": worker.owner.pid,
        "life": worker.life.value,
        "silent_seconds": max(0.0, now - reading.beats_at),
        "memory_mb": reading.memory_mb,
        "in_flight": len(reading.in_flight),
        "unlisted": reading.unlisted,
    }
    return as_worker(told)


def stats(host: Host, minutes: float, *, by_worker: bool) -> dict[str, Any]:
    """How requests have ended: ever, and within the last minutes. All of it is of one moment."""
    tally, now = host.tally(), time.perf_counter()
    counts = tally.total()
    breakers = [as_breaker(told) for told in answers.breakers(tally)]
    return {
        "requests": counts.outcomes.total(),
        "outcomes": {name[:200]: n for name, n in counts.outcomes.items()},
        "error_types": {name[:200]: n for name, n in counts.error_types.items()},
        "window_minutes": minutes,
        **_window(tally, minutes, now),
        "breakers": [told for told in breakers if told["state"] != "closed"],
        **({"workers": _split(tally, minutes, now)} if by_worker else {}),
    }


def _window(tally: Tally, minutes: float, now: float) -> dict[str, Any]:
    return {
        "errors": as_errors(answers.errors(tally, minutes, now)),
        "performance": as_performance(answers.performance(tally, minutes, now)),
    }


def _split(tally: Tally, minutes: float, now: float) -> list[dict[str, Any]]:
    """The window of each worker that runs, and of all others together: it adds up to the whole."""
    running = [heard for heard in tally.heard if heard.is_alive]
    others = Tally([heard for heard in tally.heard if not heard.is_alive], tally.gone)
    gone = {**as_worker({}), "life": _GONE}
    return [
        *(
            {**_worker(heard.worker, now), **_window(Tally([heard], Counts()), minutes, now)}
            for heard in running
        ),
        {**gone, **_window(others, minutes, now)},
    ]


def errors(host: Host, *, minutes: float | None, group_id: str | None) -> dict[str, Any]:
    """The groups of errors, the most recently seen first; or one of them, with its sample.

    Only those seen within the last ``minutes``, if given. Raises UnknownGroupError.
    """
    since = -inf if minutes is None else time.time() - minutes * _MINUTE_SECONDS
    # Not by what the host answers: that leaves out samples where all of them are too much.
    known = host.tally().total().groups.by_key().values()
    recent = [group for group in known if group["last_seen"] >= since]
    recent.sort(key=lambda group: -float(group["last_seen"]))
    if group_id is None:
        groups = [as_group(told) for told in recent[:_MOST_GROUPS]]
        return {"window_minutes": minutes, "groups": groups}
    return {"window_minutes": minutes, "group": as_group(_chosen(recent, group_id, minutes))}


def _chosen(groups: list[dict[str, Any]], group_id: str, minutes: float | None) -> dict[str, Any]:
    """The group with that id, or the only one whose id begins so."""
    ids = [group["fingerprint"] for group in groups]
    meant = [each for each in ids if each == group_id] or [
        each for each in ids if each.startswith(group_id)
    ]
    if not meant:
        within = "" if minutes is None else f" seen within the last {minutes:g} minutes"
        count = f"there is {len(ids)}" if len(ids) == 1 else f"there are {len(ids) or 'none'}"
        raise UnknownGroupError(
            f"no group of errors{within} has an id that begins with {group_id!r}: {count}"
            f"{', leave the id out to list them' if ids else ''}"
        )
    if len(meant) > 1:
        named = ", ".join(meant[:_MOST_NAMED])
        raise UnknownGroupError(
            f"{len(meant)} groups of errors have an id that begins with {group_id!r}: give more of "
            f"it, for {named}{' and others' if len(meant) > _MOST_NAMED else ''}"
        )
    return groups[ids.index(meant[0])]
