"""Groups of errors as several workers have told of them: those of one fingerprint are one."""

from math import isfinite
from typing import Any

import orjson

from asgi_errorkit import occurrences

__all__ = ["Groups"]

_MOST = 500
_MOST_BYTES = 2_000_000
_MOST_ROUTES = 20
_MOST_COUNT = 2**48
_TEXT_LIMIT = 1000
_KEY_LIMIT = 64


class Groups:
    """By their fingerprints. What is told is that of `ErrorGroup.as_dict`, as far as it makes sense."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: dict[str, dict[str, Any]] = {}

    @classmethod
    def read(cls, told: object) -> "Groups":
        """What was told as a list."""
        groups = cls()
        for each in told if isinstance(told, list) else ():
            group = _read(each)
            if group is not None:
                groups._add(group)
        return groups

    def __len__(self) -> int:
        return len(self._known)

    def add(self, other: "Groups") -> None:
        """Add those that another has told of."""
        for group in other.by_key().values():
            self._add(group)

    def by_key(self) -> dict[str, dict[str, Any]]:
        """Each by its fingerprint."""
        return self._known

    def as_list(self) -> list[dict[str, Any]]:
        """The most recently seen first, of a bounded number and size: later ones lose their samples and occurrences."""
        known = sorted(self._known.values(), key=lambda group: -group["last_seen"])
        left, told = _MOST_BYTES, []
        for group in known[:_MOST]:
            left -= _size_of(group)
            told.append(group if left > 0 else {**group, "sample": {}, "latest": []})
        return told

    def _add(self, group: dict[str, Any]) -> None:
        known = self._known.get(group["fingerprint"])
        self._known[group["fingerprint"]] = group if known is None else _merged(known, group)


def _merged(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    first, last = sorted((one, other), key=lambda group: float(group["last_seen"]))
    oldest = min(one, other, key=lambda group: float(group["first_seen"]))
    routes = dict(first["routes"])
    for label, number in last["routes"].items():
        if label in routes or len(routes) < _MOST_ROUTES:
            routes[label] = routes.get(label, 0) + number
    return {
        **last,
        "first_seen": oldest["first_seen"],
        "release": oldest["release"],
        "count": one["count"] + other["count"],
        "routes": routes,
        "latest": occurrences.latest(last["latest"], first["latest"]),
        "sample": last["sample"] or first["sample"],
    }


def _read(told: object) -> dict[str, Any] | None:
    """A group, or None for what is none."""
    if not isinstance(told, dict):
        return None
    key, count = told.get("fingerprint"), told.get("count")
    first, last = told.get("first_seen"), told.get("last_seen")
    is_group = (
        isinstance(key, str)
        and 0 < len(key) <= _KEY_LIMIT
        and _is_count(count)
        and _is_time(first)
        and _is_time(last)
    )
    if not is_group:
        return None
    listed, sample = told.get("routes"), told.get("sample")
    routes = _read_routes(listed if isinstance(listed, dict) else {})
    return {
        "fingerprint": key,
        **{name: _text(told.get(name)) or "" for name in ("error_type", "type_name", "message")},
        "where": _text(told.get("where")),
        "first_seen": first,
        "last_seen": last,
        "release": _text(told.get("release")),
        "count": count,
        "routes": routes,
        "latest": occurrences.read(told.get("latest"), routes),
        "sample": sample if isinstance(sample, dict) else {},
    }


def _size_of(group: dict[str, Any]) -> int:
    try:
        return len(orjson.dumps(group))
    except TypeError:  # it is nested so deep that nobody could write it
        group["sample"] = {}
        return len(orjson.dumps(group))


def _read_routes(told: dict[str, Any]) -> dict[str, int]:
    pairs = list(told.items())[:_MOST_ROUTES]
    return {label[:_TEXT_LIMIT]: number for label, number in pairs if _is_count(number)}


def _is_count(told: object) -> bool:
    return type(told) is int and 0 <= told < _MOST_COUNT


def _is_time(told: object) -> bool:
    return not isinstance(told, bool) and isinstance(told, (int, float)) and isfinite(told)


def _text(told: object) -> str | None:
    return told[:_TEXT_LIMIT] if isinstance(told, str) else None
