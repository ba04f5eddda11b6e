"""How a thing is written. All text is somebody's: a terminal must not obey it."""

from collections.abc import Mapping
from datetime import UTC, datetime

__all__ = [
    "MESSAGE_LIMIT",
    "TEXT_LIMIT",
    "age",
    "many",
    "megabytes",
    "percent",
    "plain",
    "shown",
    "span",
    "time_of",
]

TEXT_LIMIT = 200
MESSAGE_LIMIT = 1000
_NOT_KNOWN = "?"
_UNUSUAL = 1e15  # no memory, age or count is so large
_SPANS = ((60.0, 1.0, "s", 1), (3600.0, 60.0, "min", 0), (86_400.0, 3600.0, "h", 1))
_DAY_SECONDS = 86_400.0
_MINUTE_SECONDS = 60.0


def shown(text: str | None, limit: int = TEXT_LIMIT) -> str:
    """Without anything that a terminal would not print: controls, and marks that turn the text."""
    if text is None:
        return _NOT_KNOWN
    cut = text if len(text) <= limit else f"{text[: limit - 1]}…"
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode() for each in cut
    )


def plain(number: float | None, places: int = 0, *, grouped: bool = True) -> str:
    """A number, in groups of three digits unless it only names something."""
    if number is None:
        return _NOT_KNOWN
    if abs(number) >= _UNUSUAL:
        return f"{number:.0e}"
    return f"{number:{',' if grouped else ''}.{places}f}"


def percent(share: float | None) -> str:
    """A share of 1, as people say it."""
    return _NOT_KNOWN if share is None else f"{plain(share * 100, 2)} %"


def megabytes(number: float | None) -> str:
    """None for a process that nobody has measured yet, which is 0.0 in its record."""
    return _NOT_KNOWN if number is None else f"{plain(number)} MB"


def age(seconds: float | None) -> str:
    """How long ago something was: never less than nothing."""
    if seconds is None:
        return _NOT_KNOWN
    for below, unit, name, places in _SPANS:
        if seconds < below:
            return f"{plain(max(0.0, seconds) / unit, places)} {name}"
    return f"{plain(seconds / _DAY_SECONDS, 1)} d"


def span(seconds: float | None) -> str:
    """How long a request took."""
    if seconds is None or seconds >= _MINUTE_SECONDS:
        return age(seconds)
    return f"{plain(seconds, 2)} s" if seconds >= 1.0 else f"{plain(seconds * 1000, 1)} ms"


def time_of(seconds: float | None) -> str:
    """A moment, given in seconds since the epoch, by the clock on this wall."""
    if seconds is None:
        return _NOT_KNOWN
    try:
        return datetime.fromtimestamp(seconds, UTC).astimezone().isoformat(timespec="seconds")
    except (OverflowError, OSError, ValueError):  # of no year that there is
        return _NOT_KNOWN


def many(counts: Mapping[str, int], most: int) -> str:
    """The most frequent of them, each with its number, and how many others there are."""
    falling = sorted(counts.items(), key=lambda pair: -pair[1])
    told = [f"{shown(name)} ({plain(number)})" for name, number in falling[:most]]
    others = len(falling) - len(told)
    return ", ".join(told) + (f" and {others} more" if others else "")
