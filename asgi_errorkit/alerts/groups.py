"""Which errors are new, and which have come back: by the groups that the tracker knows."""

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from math import inf
from types import MappingProxyType
from typing import Any, Protocol

from asgi_errorkit.alerts.finding import Finding
from asgi_errorkit.alerts.timing import time_of
from asgi_errorkit.errors import ErrorType

__all__ = ["KnownErrors", "Seen"]

_MOST = 2000
_MOST_RESOLVED = 500
_NEW_WITHIN_SECONDS = 3600.0
_NOTED_EVERY_SECONDS = 600.0  # when an error was last seen is kept no more exactly than that


class Seen(Protocol):
    """A group of errors: see `asgi_errorkit.tracker.ErrorGroup`."""

    fingerprint: str
    error_type: ErrorType
    type_name: str
    message: str
    where: str | None
    first_seen: float
    last_seen: float
    count: int
    release: str | None


class KnownErrors:
    """Remembers the latest 2,000 groups of errors by their fingerprints; times are epoch seconds.

    One that was not seen for ``gone_seconds`` comes back when it is seen again, as does one of those
    ``resolved``: by whom it is told to be mended, and when. What began more than an hour ago and is
    not known is no news: whoever watches has just begun to.
    """

    def __init__(self, *, gone_seconds: float) -> None:
        self.is_changed = False
        self.resolved: dict[str, float] = {}
        self._gone_seconds = gone_seconds
        self._seen: OrderedDict[str, float] = OrderedDict()

    def news(self, groups: Iterable[Seen], now: float) -> list[Finding]:
        """What there is to tell of these groups, once each."""
        found = (self._news(group, now) for group in groups)
        return [finding for finding in found if finding is not None]

    def resolve(self, fingerprint: str, at: float) -> None:
        """It is told to be mended since then; the oldest beyond 500 are forgotten."""
        self.resolved.pop(fingerprint, None)
        self.resolved[fingerprint] = at
        self.is_changed = True
        if len(self.resolved) > _MOST_RESOLVED:
            del self.resolved[next(iter(self.resolved))]

    def _news(self, group: Seen, now: float) -> Finding | None:
        if group.last_seen > self.resolved.get(group.fingerprint, inf):
            del self.resolved[group.fingerprint]
            self._note(group)
            return _finding("ERROR_CAME_BACK", group)
        before = self._seen.get(group.fingerprint)
        if before is not None and group.last_seen - before < _NOTED_EVERY_SECONDS:
            return None
        self._note(group)
        if before is None:
            is_new = now - group.first_seen <= _NEW_WITHIN_SECONDS
            return _finding("NEW_ERROR", group) if is_new else None
        is_back = group.last_seen - before >= self._gone_seconds
        return _finding("ERROR_CAME_BACK", group) if is_back else None

    def _note(self, group: Seen) -> None:
        self._seen[group.fingerprint] = group.last_seen
        self._seen.move_to_end(group.fingerprint)
        self.is_changed = True
        if len(self._seen) > _MOST:
            self._seen.popitem(last=False)

    def as_dict(self) -> dict[str, float]:
        """All of it as JSON-able data."""
        return dict(self._seen)

    def remember(
        self, told: Mapping[str, Any], resolved: Mapping[str, Any] = MappingProxyType({})
    ) -> None:
        """Know what was told with `as_dict`, and was ``resolved`` by then.

        Raises AttributeError, TypeError or ValueError.
        """
        known = [(str(key), time_of(at)) for key, at in told.items()]
        mended = [(str(key), time_of(at)) for key, at in resolved.items()]
        self._seen = OrderedDict(known[-_MOST:])
        self.resolved = dict(mended[-_MOST_RESOLVED:])


def _finding(kind: str, group: Seen) -> Finding:
    where = f" at {group.where}" if group.where else ""
    told = f": {group.message}" if group.message else ""
    return Finding(
        kind,
        f"{group.type_name or group.error_type.value}{told}{where}",
        "medium",
        key=f"{kind}:{group.fingerprint}",
        happened=True,
        values={
            "error_group": group.fingerprint,
            "error_type": group.error_type.value,
            "errors": group.count,
            "release": group.release,
        },
    )
