"""The last occurrences of a group of errors: so much of each that it is found in the log."""

from collections import deque
from collections.abc import Mapping, Reversible, Sequence
from itertools import islice
from math import isfinite
from typing import Any, TypeAlias

__all__ = ["MOST", "Occurrence", "as_dicts", "as_rows", "keep", "latest", "read"]

MOST = 10
"""As many of a group are kept."""

Occurrence: TypeAlias = tuple[float, str | None, str | None, int | None, str | None, int | None]
"""One, as a flat tuple: the garbage collector has nothing to look at in it."""

_FIELDS = ("at", "request_id", "route", "status_code", "outcome", "pid")
_ID_CHARS = 128
_ROUTE_CHARS = 300
_WORD_CHARS = 40
_MOST_NUMBER = 2**48


def keep(kept: deque[Occurrence], one: Occurrence) -> None:
    """Keep it in the order of time: what other threads had may be drained before it."""
    is_late = bool(kept) and one[0] < kept[-1][0]
    kept.append(one)
    if is_late:
        ordered = sorted(kept, key=lambda each: each[0])
        kept.clear()
        kept.extend(ordered)


def as_dicts(kept: Reversible[Occurrence]) -> list[dict[str, Any]]:
    """Each with the names of what is told of it, the latest first."""
    return [dict(zip(_FIELDS, each, strict=True)) for each in reversed(kept)]


def as_rows(kept: Reversible[Occurrence], routes: Mapping[str, int], most: int) -> list[list[Any]]:
    """The last of them for `read`, as short as they can be: a route is its place among those."""
    places = {label: place for place, label in enumerate(routes)}
    return [
        [round(at, 3), request_id, places.get(route or ""), *rest]
        for at, request_id, route, *rest in islice(reversed(kept), most)
    ]


def read(told: object, routes: Mapping[str, int]) -> list[dict[str, Any]]:
    """What was told with `as_dicts` or `as_rows`, as the former tells it, as far as it makes sense."""
    labels = list(routes)
    rows = [_row(each, labels) for each in (told[:MOST] if isinstance(told, list) else ())]
    return [dict(zip(_FIELDS, row, strict=True)) for row in rows if row is not None]


def latest(one: list[dict[str, Any]], other: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The last of two groups together."""
    return sorted([*one, *other], key=lambda told: -float(told["at"]))[:MOST]


def _row(told: object, labels: Sequence[str]) -> Occurrence | None:
    if isinstance(told, dict):
        told = [told.get(name) for name in _FIELDS]
    if not isinstance(told, list) or len(told) != len(_FIELDS):
        return None
    at, request_id, route, status, outcome, pid = told
    if isinstance(at, bool) or not isinstance(at, (int, float)) or not isfinite(at):
        return None
    place = _number(route)
    if place is not None:
        route = labels[place] if place < len(labels) else None
    return (
        at,
        _text(request_id, _ID_CHARS),
        _text(route, _ROUTE_CHARS),
        _number(status),
        _text(outcome, _WORD_CHARS),
        _number(pid),
    )


def _number(told: object) -> int | None:
    return told if type(told) is int and 0 <= told < _MOST_NUMBER else None


def _text(told: object, most: int) -> str | None:
    return told[:most] if isinstance(told, str) else None
