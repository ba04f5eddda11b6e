"""What is known of a worker that died: when, with how much memory, and amid which requests."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from asgi_errorkit.redact import Redactor
from asgi_errorkit.spool.reading import Listed, Reading

__all__ = ["Phase", "crash_of", "crash_unread", "in_flight", "with_names"]

_MOST_SUSPECTS = 20
_PATH_LIMIT = 192
_NOTABLE_MB = 32.0


class Phase:
    """How far a request had come."""

    RUNNING = "running"  # its response had not begun
    ANSWERING = "answering"


class _Suspect(NamedTuple):
    """The lower the sooner suspected."""

    is_answering: bool
    has_not_grown: bool
    age_seconds: float
    listed: Listed
    growth_mb: float


def crash_of(
    reading: Reading, about: Mapping[str, Any], *, found_at: float, redactor: Redactor
) -> dict[str, Any]:
    """The entry for a worker that died, as plain JSON-able data; times in seconds since the epoch.

    ``suspects`` are those of its requests that are the likeliest to have been its end: whose
    response had not begun, then since whose beginning its memory has grown most, then the youngest,
    for what kills at once has killed nobody before.
    """
    offset = _number(about.get("clock_offset"))
    died_at = _last_sign(reading)
    suspects = _suspects(reading, died_at)
    return {
        "pid": about.get("pid"),
        "app": about.get("app"),
        "release": about.get("release"),
        "started_at": about.get("started_at"),
        "last_seen_at": died_at + offset,
        "found_at": found_at,
        "memory_mb": reading.memory_mb,
        "in_flight": len(reading.in_flight),
        "unlisted": reading.unlisted,
        "suspects": [_told(each, offset, redactor) for each in suspects[:_MOST_SUSPECTS]],
        "damaged": False,
    }


def crash_unread(pid: int, *, found_at: float) -> dict[str, Any]:
    """The entry for a worker that died, and whose record cannot be read: nothing else is known."""
    return {
        "pid": pid,
        "app": None,
        "release": None,
        "started_at": None,
        "last_seen_at": None,
        "found_at": found_at,
        "memory_mb": 0.0,
        "in_flight": 0,
        "unlisted": 0,
        "suspects": [],
        "damaged": True,
        "resources": [],
        "recent": [],
    }


def with_names(redactor: Redactor, about: Mapping[str, Any]) -> Redactor:
    """One that also hides what the worker itself took for a secret, by the names it was given."""
    names = redactor.extra_names.union(about.get("redact", ()))
    return redactor if names == redactor.extra_names else Redactor(extra_names=names)


def in_flight(
    reading: Reading, now: float, offset: float, redactor: Redactor
) -> list[dict[str, Any]]:
    """What a worker that lives is at, the oldest first."""
    return [
        _told(_suspect(each, reading, now, 0.0), offset, redactor) for each in reading.in_flight
    ]


def _last_sign(reading: Reading) -> float:
    """The last moment at which the worker is known to have lived, by its clock."""
    slots = [*reading.in_flight, *reading.ended]
    signs = [max(each.started_at, each.first_byte_at, each.ended_at) for each in slots]
    return max([reading.beats_at, reading.memory_at, *signs])


def _suspects(reading: Reading, died_at: float) -> list[_Suspect]:
    known = [_suspect(each, reading, died_at, 0.0) for each in reading.in_flight]
    notable = max(_NOTABLE_MB, max((each.growth_mb for each in known), default=0.0) / 2)
    return sorted(each._replace(has_not_grown=each.growth_mb < notable) for each in known)


def _suspect(listed: Listed, reading: Reading, now: float, notable: float) -> _Suspect:
    growth = reading.memory_mb - listed.memory_mb if listed.memory_mb else 0.0  # 0: not known
    return _Suspect(
        is_answering=listed.first_byte_at > 0.0,
        has_not_grown=growth < notable,
        age_seconds=max(0.0, now - listed.started_at),
        listed=listed,
        growth_mb=growth,
    )


def _told(suspect: _Suspect, offset: float, redactor: Redactor) -> dict[str, Any]:
    listed = suspect.listed
    return {
        "request_id": _printable(listed.request_id),
        "method": _printable(listed.method),
        "path": _printable(redactor.text(listed.path, _PATH_LIMIT)),
        "phase": Phase.ANSWERING if suspect.is_answering else Phase.RUNNING,
        "started_at": listed.started_at + offset,
        "age_seconds": round(suspect.age_seconds, 6),
        "memory_mb_at_start": listed.memory_mb,
        "memory_growth_mb": round(suspect.growth_mb, 3),
    }


def _printable(text: str) -> str:
    """What comes from a client, and is written into logs."""
    return "".join(c if c.isprintable() else "?" for c in text)


def _number(told: object) -> float:
    return float(told) if isinstance(told, (int, float)) else 0.0
