"""What a worker tells of itself in its segment, beside its requests: windows, groups, breakers."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import Any, Protocol

import orjson

from asgi_errorkit.error_counts import ErrorCounts
from asgi_errorkit.fingerprint import shorter
from asgi_errorkit.histogram import Windows
from asgi_errorkit.outcome import Outcome
from asgi_errorkit.process import ProcessSample
from asgi_errorkit.request_counts import RequestCounts, RouteCounts
from asgi_errorkit.spool.history import Measured, Resources, recent_rows
from asgi_errorkit.spool.results import Result
from asgi_errorkit.spool.spans import ERRORS, REQUESTS, ROUTES, Teller

__all__ = ["Group", "Telling"]

# Together they leave room for the counts in a snapshot.
_MOST_ERRORS = 45_000
_MOST_REQUESTS = 380_000
_MOST_ROUTES = 100_000
_MOST_GROUPS = 105_000
_MOST_BREAKERS = 30_000

_GROUPS = 100
_GROUPS_WITH_LATEST = 50
_LATEST = 5  # occurrences of a group
_ALL = 1_000_000
# What is made anew at a time, for which requests may have to wait.
_NEW_SAMPLES = 2  # a millisecond
_NEW_ROUTES = 50
_ROUTE_BYTES = 8_000
# What a sample may take: its exception, and all of it. Where there are many, each is brief.
_EXCEPTION_BYTES, _SAMPLE_BYTES = 10_000, 13_000
_BRIEF_EXCEPTION_BYTES, _BRIEF_BYTES = 2_800, 4_200


class Group(Protocol):
    """A group of errors: see `asgi_errorkit.tracker.ErrorGroup`."""

    fingerprint: str
    count: int

    @property
    def last(self) -> Any:
        """The last occurrence that was kept, another object each time."""
        ...

    @property
    def sample(self) -> dict[str, Any]:
        """What is told of that."""
        ...

    def summary(self) -> dict[str, Any]:
        """All else that is to be told."""
        ...

    def rows(self, most: int) -> list[list[Any]]:
        """So many of its last occurrences."""
        ...


class Requests(Protocol):
    """What has been measured of requests: see `asgi_errorkit.metrics.RequestMetrics`."""

    total: Windows[RequestCounts]

    @property
    def routes(self) -> Mapping[str, Windows[RouteCounts]]:
        """The windows of each route; it grows as routes come."""
        ...

    def newest(self, number: int) -> Sequence[Measured]:
        """So many of the latest, oldest first."""
        ...

    def forget(self) -> None:
        """Forget the windows."""
        ...


class Telling:
    """Makes the parts of a snapshot from what the sinks of one kit have counted.

    ``groups`` gives the groups, the most recently seen first, and ``breakers`` what is told of each;
    ``forget`` empties what the tracker has counted. All is called by who drains. What has no room is
    left out, and counted.
    """

    def __init__(
        self,
        *,
        errors: Windows[ErrorCounts],
        groups: Callable[[], Iterable[Group]],
        breakers: Callable[[], list[dict[str, Any]]],
        process: Callable[[], ProcessSample],
        forget: Callable[[], None],
    ) -> None:
        self.left_out = 0
        self._error_windows = errors
        self._errors = Teller(errors, ERRORS)
        self._measured: Requests | None = None
        self._requests: Teller[RequestCounts] | None = None
        self._routes: dict[str, _KnownRoute] = {}
        self._groups = groups
        self._known_groups: dict[str, _KnownGroup] = {}
        self._breakers = breakers
        self._process = process
        self._resources = Resources(process)
        self._forgets = [forget]
        self._start_anew()

    def add_requests(self, requests: Requests) -> None:
        """Tell of the performance too."""
        self._measured = requests
        self._requests = Teller(requests.total, REQUESTS)
        self._forgets.append(requests.forget)

    def forget(self) -> None:
        """Empty what is told of: it has been kept elsewhere, or was another process's."""
        for forget in self._forgets:
            forget()
        self._start_anew()

    def _start_anew(self) -> None:
        self._errors.forget()
        if self._requests is not None:
            self._requests.forget()
        self._routes.clear()
        self._known_groups.clear()
        self._resources.forget()

    def counts(self, now: float) -> dict[str, Any]:
        """What must be in the same snapshot as the requests that it counts."""
        errors, left_out = self._errors.rows(now, _MOST_ERRORS)
        told = {"errors": orjson.Fragment(errors)}
        self.left_out += left_out
        if self._requests is not None:
            requests, left_out = self._requests.rows(now, _MOST_REQUESTS)
            told["requests"] = orjson.Fragment(requests)
            self.left_out += left_out
        return told

    def others(self, now: float, *, is_last: bool) -> dict[str, Callable[[], Any]]:
        """What may be a second old; ``is_last`` spares no cost."""
        return {
            "process": lambda: self._process()._asdict(),
            "resources": self._resources.rows,
            "recent": self._told_recent,
            "breakers": self._told_breakers,
            "routes": partial(self._told_routes, now, _ALL if is_last else _NEW_ROUTES),
            "groups": partial(self._told_groups, _ALL if is_last else _NEW_SAMPLES),
        }

    def note_lost(
        self, result: Result, started_at: float, first_byte_at: float, ended_at: float
    ) -> None:
        """Count one that no sink has seen; what its route was nobody knows."""
        outcome = Outcome(result.outcome)
        errors = self._error_windows.at(ended_at)
        errors.requests += 1
        errors.failed += outcome.failed
        errors.client_errors += outcome is Outcome.CLIENT_ERROR
        if self._measured is not None and not result.is_session:
            requests = self._measured.total.at(ended_at)
            requests.outcomes[outcome.text] = requests.outcomes.get(outcome.text, 0) + 1
            requests.durations.add(ended_at - started_at)
            if first_byte_at:
                requests.first_bytes.add(first_byte_at - started_at)

    def _told_recent(self) -> list[list[Any]]:
        return [] if self._measured is None else recent_rows(self._measured.newest)

    def _told_breakers(self) -> orjson.Fragment:
        # Those that are closed come last: there may be many, and it is the others that matter.
        known = sorted(self._breakers(), key=lambda told: bool(told["state"] == "closed"))
        return self._as_many_as_fit(filter(None, map(self._dumped, known)), _MOST_BREAKERS)

    def _dumped(self, told: dict[str, Any]) -> bytes:
        try:
            return orjson.dumps(told)
        except TypeError:  # such as for a name that is no text
            self.left_out += 1
            return b""

    def _told_routes(self, now: float, most_new: int) -> orjson.Fragment:
        routes = {} if self._measured is None else self._measured.routes
        for label, windows in list(routes.items()):
            if label not in self._routes:
                self._routes[label] = _KnownRoute(label, Teller(windows, ROUTES))
        # By turns: those that were looked at longest ago come first.
        for label in list(self._routes)[:most_new]:
            route = self._routes[label] = self._routes.pop(label)
            self.left_out += route.look(now)
        left, told = _MOST_ROUTES, []
        for route in self._routes.values():
            left -= len(route.told) + 1
            if left < 0:
                self.left_out += 1
            elif route.told:
                told.append(route.told)
        return orjson.Fragment(b"{%b}" % b",".join(told))

    def _told_groups(self, most_new: int) -> orjson.Fragment:
        known: dict[str, _KnownGroup] = {}
        left = most_new
        for group in islice(self._groups(), _GROUPS):
            try:
                one = self._known_groups.get(group.fingerprint) or _KnownGroup()
                left -= one.look(group, may_sample=left > 0)
            except Exception:  # noqa: BLE001  one odd group must not cost the others
                self.left_out += 1
                continue
            known[group.fingerprint] = one
        self._known_groups = known
        told = [each.summary for each in known.values()]
        room = _MOST_GROUPS - len(b"[]") - sum(len(each) + 1 for each in told)
        latest = [each.latest for each in known.values()][:_GROUPS_WITH_LATEST]
        # Rather all groups than all of some, and rather some of each sample than all of some.
        room = _put(told, latest, room)
        _put(told, _samples_within(list(known.values()), room), room)
        return self._as_many_as_fit(told, _MOST_GROUPS)

    def _as_many_as_fit(self, told: Iterable[bytes], most_bytes: int) -> orjson.Fragment:
        fitting, left = [], most_bytes - 2
        for each in told:
            left -= len(each) + 1
            if left < 0:
                self.left_out += 1
            else:
                fitting.append(each)
        return orjson.Fragment(b"[%b]" % b",".join(fitting))


class _KnownRoute:
    """A route as it was told last."""

    __slots__ = ("_label", "_teller", "told")

    def __init__(self, label: str, teller: Teller[RouteCounts]) -> None:
        self._label = orjson.dumps(label)
        self._teller = teller
        self.told = b""

    def look(self, now: float) -> int:
        """Tell of it anew; how many spans had no room."""
        rows, left_out = self._teller.rows(now, _ROUTE_BYTES)
        self.told = b"%b:%b" % (self._label, rows) if len(rows) > len(b"[]") else b""
        return left_out


class _KnownGroup:
    """A group as it was told last."""

    __slots__ = ("_count", "_last", "brief", "latest", "sample", "summary")

    def __init__(self) -> None:
        self._count = -1
        self._last: Any = None
        self.summary = b""
        self.latest = b""  # with its name before it, as the sample
        self.sample = b""
        self.brief = b""  # less of the sample

    def look(self, group: Group, *, may_sample: bool) -> bool:
        """Tell of it anew if it has changed; whether that made a new sample."""
        if group.count != self._count:
            self._count = group.count
            self.summary = orjson.dumps(group.summary())
            self.latest = b'"latest":%b' % orjson.dumps(group.rows(_LATEST))
        if group.last is self._last or not may_sample:
            return False
        self._last = group.last
        sample = group.sample
        self.sample = _within(sample, _EXCEPTION_BYTES, _SAMPLE_BYTES)
        self.brief = _within(sample, _BRIEF_EXCEPTION_BYTES, _BRIEF_BYTES)
        return True


def _within(sample: dict[str, Any], exception_bytes: int, most_bytes: int) -> bytes:
    exception = sample.get("exception")
    if exception:
        sample = {**sample, "exception": shorter(exception, exception_bytes)}
    told = orjson.dumps(sample)
    return b'"sample":%b' % told if len(told) <= most_bytes else b""


def _samples_within(groups: Sequence[_KnownGroup], room: int) -> list[bytes]:
    """Of each as much as there is room for if all are brief, and of the first ones more."""
    chosen = []
    for each in groups:
        fits = len(each.brief) + 1 < room
        chosen.append(each.brief if fits else b"")
        room -= len(each.brief) + 1 if fits else 0
    for place, each in enumerate(groups):
        more = len(each.sample) - len(chosen[place])
        if 0 < more < room - 1:
            chosen[place] = each.sample
            room -= more + 1
    return chosen


def _put(told: list[bytes], parts: Iterable[bytes], room: int) -> int:
    """Put each part into the group of its place, as long as there is room; what is left of that."""
    for place, part in enumerate(parts):
        if part and len(part) < room:
            told[place] = b"%b,%b}" % (told[place][:-1], part)
            room -= len(part) + len(b",")
    return room
