"""Counts of spans of time as JSON: how a worker tells of its windows, and how they add up again.

A row is ``[start, width, ...]``: seconds of the clock that all processes of a boot share, and what was
counted then. The last minutes are told finely, what is older in longer spans.
"""

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from itertools import accumulate, takewhile
from math import inf, isfinite
from typing import Any, Generic, NamedTuple, Protocol, Self, TypeAlias, TypeVar

import orjson

from asgi_errorkit.error_counts import ErrorCounts
from asgi_errorkit.errors import ErrorInfo
from asgi_errorkit.histogram import LARGEST_INDEX, ZERO_INDEX, LogHistogram, Windows
from asgi_errorkit.request_counts import RequestCounts, RouteCounts

__all__ = [
    "ERRORS",
    "REQUESTS",
    "ROUTES",
    "Kind",
    "Row",
    "Teller",
    "added_up",
    "aged",
    "requests_of",
    "row_of_error",
    "row_of_request",
    "row_of_route",
]

Row: TypeAlias = list[Any]
_Span: TypeAlias = tuple[float, float]
"""Where it begins, and its width."""

_FINE_SECONDS = 300.0
_COARSE_SECONDS = 900.0
_OLDEST_SECONDS = 300.0  # how long the spans are of what is older than that
_KEPT_SECONDS = 3600.0
_MOST = 2**48  # of what anybody has counted; sums stay numbers that JSON can tell
_MOST_NAMES = 100
_NAME_LIMIT = 64


class _Mergeable(Protocol):
    def merge(self, other: Self) -> None: ...


C = TypeVar("C", bound=_Mergeable)


class Kind(NamedTuple, Generic[C]):
    """What is counted in spans: how it is made, told and read, and how long its spans are."""

    make: Callable[[], C]
    told: Callable[[C], Row]
    read: Callable[[C, Sequence[Any]], None]
    """Add what was told to a count. Raises ValueError, TypeError or the like for what makes no sense."""
    revision: Callable[[C], float]
    """A number that is another once something has been counted."""
    fine_seconds: float
    coarse_seconds: float


class Teller(Generic[C]):
    """Tells of one worker's windows; what has not changed since is not made again."""

    __slots__ = ("_kind", "_latest", "_rows", "_windows")

    def __init__(self, windows: Windows[C], kind: Kind[C]) -> None:
        self._windows = windows
        self._kind = kind
        self.forget()

    def forget(self) -> None:
        """Its windows have been emptied."""
        self._latest = -1.0  # the number of the latest span
        self._rows: dict[_Span, tuple[float, bytes]] = {}  # revision and row, the latest first

    def rows(self, now: float, most_bytes: int) -> tuple[bytes, int]:
        """The rows as a JSON array, and how many of the oldest had no room in ``most_bytes``."""
        changed = {span for tick in self._windows.touched() for span in self._around(tick)}
        latest = now // self._kind.fine_seconds
        if latest != self._latest:
            self._latest = latest
            known = self._rows
            self._rows = {span: known.get(span, _NOTHING) for span in _spans(now, self._kind)}
            changed.update(span for span in self._rows if span not in known)
        for span in changed:
            if span in self._rows:
                self._rows[span] = self._row(span, self._rows[span])
        told = [row for _, row in self._rows.values() if row]
        room = most_bytes - len(b"[]")
        if sum(map(len, told)) + len(told) <= room:
            return b"[%b]" % b",".join(told), 0
        fitting = list(
            takewhile(lambda size: size <= room, accumulate(len(row) + 1 for row in told))
        )
        return b"[%b]" % b",".join(told[: len(fitting)]), len(told) - len(fitting)

    def _around(self, tick: int) -> Iterable[_Span]:
        """The spans that a bucket may be told in."""
        at = tick * self._windows.width_seconds
        widths = (self._kind.fine_seconds, self._kind.coarse_seconds, _OLDEST_SECONDS)
        return ((at // width * width, width) for width in widths)

    def _row(self, span: _Span, before: tuple[float, bytes]) -> tuple[float, bytes]:
        start, width = span
        buckets = self._windows.between(start, start + width)
        revision = sum(map(self._kind.revision, buckets))
        if revision == before[0]:
            return before
        if not buckets:  # of a time before the history
            return _NOTHING
        total = buckets[0]
        if len(buckets) > 1:
            total = self._kind.make()
            for bucket in buckets:
                total.merge(bucket)
        return revision, orjson.dumps([start, width, *self._kind.told(total)])


_NOTHING = (0.0, b"")


def _spans(now: float, kind: Kind[Any]) -> Iterable[_Span]:
    """Where each span begins, and its width, the latest first."""
    end = now // kind.fine_seconds * kind.fine_seconds + kind.fine_seconds
    while end > now - _KEPT_SECONDS:
        width = _width_at(end - kind.fine_seconds, now, kind)
        end -= width
        yield end, width


def _width_at(at: float, now: float, kind: Kind[Any]) -> float:
    """How long the span is in which that time is told. Each boundary is one of the longer spans."""
    coarse, oldest = kind.coarse_seconds, _OLDEST_SECONDS
    if at >= (now - _FINE_SECONDS) // coarse * coarse:
        return kind.fine_seconds
    return coarse if at >= (now - _COARSE_SECONDS) // oldest * oldest else oldest


def added_up(kind: Kind[C], rows: Iterable[Row], seconds: float, now: float) -> tuple[C, int]:
    """What was counted within the last seconds, in whole spans, and how many rows make no sense."""
    total, damaged = kind.make(), 0
    for row in rows:
        try:
            start, width = _place(row)
            if start <= now and start + width > now - seconds:
                kind.read(total, row[2:])
        except _NO_SENSE:
            damaged += 1
    return total, damaged


def requests_of(rows: Iterable[Row], seconds: float, now: float) -> int:
    """How many requests a route has had within the last seconds, as far as its rows make sense."""
    total = 0
    for row in rows:
        with suppress(*_NO_SENSE):
            start, width = _place(row)
            if start <= now and start + width > now - seconds:
                total += _whole(row[3][0])
    return total


def aged(kind: Kind[C], rows: Iterable[Row], now: float) -> list[Row]:
    """The same counts in as few rows as will do: what is old in coarse spans, what is too old in none."""
    spans: dict[_Span, C] = {}
    for row in rows:
        try:
            start, width = _place(row)
            if start + width <= now - _KEPT_SECONDS or start > now + kind.coarse_seconds:
                continue
            unit = _width_at(start, now, kind)
            place = start // unit * unit, max(unit, width)
            total = spans.get(place) or kind.make()
            kind.read(total, row[2:])
            spans[place] = total
        except _NO_SENSE:
            continue
    return [[*place, *kind.told(total)] for place, total in spans.items()]


_NO_SENSE = (ValueError, TypeError, IndexError, KeyError, AttributeError, OverflowError)


def _place(row: object) -> _Span:
    if not isinstance(row, list):
        raise TypeError("a row is a list")
    start, width = _number(row[0]), _number(row[1])
    if not 0 < width <= _KEPT_SECONDS:
        raise ValueError("a span has a width")
    return start, width


# What is read may be of any shape


def _number(told: object) -> float:
    if isinstance(told, bool) or not isinstance(told, (int, float)) or not isfinite(told):
        raise ValueError("not a number")
    return float(told)


def _whole(told: object) -> int:
    if type(told) is not int or not 0 <= told < _MOST:
        raise ValueError("not a count")
    return told


def _add_numbers(into: dict[str, int], told: dict[str, Any]) -> None:
    checked = [(name[:_NAME_LIMIT], _whole(n)) for name, n in list(told.items())[:_MOST_NAMES]]
    for name, number in checked:
        into[name] = into.get(name, 0) + number


def _histogram_row(histogram: LogHistogram) -> Row:
    """The count, sum, least and most, and then of each step how far from the last, and how many."""
    row: Row = [histogram.count, histogram.total, histogram.minimum, histogram.maximum]
    before = 0
    for index in sorted(histogram.counts):
        row += (index - before, histogram.counts[index])
        before = index
    return row


class _Told(NamedTuple):
    """A histogram whose row makes sense."""

    values: int
    total: float
    minimum: float
    maximum: float
    indexes: Iterable[int]
    numbers: Sequence[int]

    def add_to(self, histogram: LogHistogram) -> None:
        counts, get = histogram.counts, histogram.counts.get
        for index, number in zip(self.indexes, self.numbers, strict=True):
            counts[index] = get(index, 0) + number
        histogram.count += self.values
        histogram.total += self.total
        histogram.minimum = min(histogram.minimum, self.minimum)
        histogram.maximum = max(histogram.maximum, self.maximum)


_NO_VALUES = _Told(0, 0.0, inf, 0.0, (), ())


def _histogram(told: Sequence[Any]) -> _Told:
    """What a histogram's row says. There are many: each is looked at as a whole, not step by step."""
    count = _whole(told[0])
    if not count:
        return _NO_VALUES
    steps, numbers = told[4::2], told[5::2]
    if set(map(type, told[4:])) != {int} or len(steps) != len(numbers):
        raise TypeError("steps and counts are whole numbers in pairs")
    indexes = list(accumulate(steps))
    if min(numbers) < 0 or sum(numbers) != count:
        raise ValueError("the steps of a histogram do not add up")
    if min(indexes) < ZERO_INDEX or max(indexes) > LARGEST_INDEX:
        raise ValueError("no value falls on such a step")
    total, minimum, maximum = map(_number, told[1:4])
    return _Told(count, total, minimum, maximum, indexes, numbers)


def _errors_row(counts: ErrorCounts) -> Row:
    return [
        counts.requests,
        counts.failed,
        counts.client_errors,
        counts.by_type,
        counts.by_severity,
        counts.alerting,
    ]


def _read_errors(into: ErrorCounts, told: Sequence[Any]) -> None:
    read = ErrorCounts()
    read.requests, read.failed, read.client_errors = map(_whole, told[:3])
    _add_numbers(read.by_type, told[3])
    _add_numbers(read.by_severity, told[4])
    for name, (errors, threshold) in list(told[5].items())[:_MOST_NAMES]:
        read.alerting[name[:_NAME_LIMIT]] = _whole(errors), _whole(threshold)
    into.merge(read)


def _errors_revision(counts: ErrorCounts) -> int:
    return counts.requests + counts.failed + counts.client_errors + sum(counts.by_type.values())


def _requests_row(counts: RequestCounts) -> Row:
    return [
        counts.outcomes,
        _histogram_row(counts.durations),
        _histogram_row(counts.first_bytes),
        counts.cpu_maximum,
        counts.cpu_total,
        counts.memory_delta_maximum if isfinite(counts.memory_delta_maximum) else None,
        counts.memory_delta_total,
        counts.slow,
        counts.high_memory,
    ]


def _read_requests(into: RequestCounts, told: Sequence[Any]) -> None:
    read = RequestCounts()
    _add_numbers(read.outcomes, told[0])
    read.cpu_maximum, read.cpu_total = _number(told[3]), _number(told[4])
    if told[5] is not None:
        read.memory_delta_maximum = _number(told[5])
    read.memory_delta_total = _number(told[6])
    read.slow, read.high_memory = _whole(told[7]), _whole(told[8])
    durations, first_bytes = _histogram(told[1]), _histogram(told[2])
    into.merge(read)
    durations.add_to(into.durations)
    first_bytes.add_to(into.first_bytes)


def _route_row(counts: RouteCounts) -> Row:
    return [counts.failed, _histogram_row(counts.durations)]


def _read_route(into: RouteCounts, told: Sequence[Any]) -> None:
    failed, durations = _whole(told[0]), _histogram(told[1])
    into.failed += failed
    durations.add_to(into.durations)


ERRORS: Kind[ErrorCounts] = Kind(
    ErrorCounts, _errors_row, _read_errors, _errors_revision, 5.0, 60.0
)
REQUESTS: Kind[RequestCounts] = Kind(
    RequestCounts, _requests_row, _read_requests, lambda c: c.durations.count, 5.0, 60.0
)
ROUTES: Kind[RouteCounts] = Kind(
    RouteCounts, _route_row, _read_route, lambda c: c.durations.count + c.failed, 60.0, 300.0
)


# Rows of single requests, which no snapshot has counted yet


def row_of_error(
    at: float,
    *,
    failed: bool = False,
    is_client_error: bool = False,
    info: ErrorInfo | None = None,
) -> Row:
    """One that ended then, and the error that it ended with."""
    counts = ErrorCounts()
    counts.requests, counts.failed, counts.client_errors = 1, int(failed), int(is_client_error)
    if info is not None:
        counts.add(info)
    return [*_span_of(at, ERRORS), *_errors_row(counts)]


def row_of_request(
    at: float, outcome: str, seconds: float, first_byte_seconds: float | None
) -> Row:
    """One that ended then, after so long."""
    counts = RequestCounts()
    counts.outcomes[outcome] = 1
    counts.durations.add(seconds)
    if first_byte_seconds is not None:
        counts.first_bytes.add(first_byte_seconds)
    return [*_span_of(at, REQUESTS), *_requests_row(counts)]


def row_of_route(at: float, seconds: float, *, failed: bool) -> Row:
    """One of a route that ended then, after so long."""
    counts = RouteCounts()
    counts.failed = int(failed)
    counts.durations.add(seconds)
    return [*_span_of(at, ROUTES), *_route_row(counts)]


def _span_of(at: float, kind: Kind[Any]) -> _Span:
    return at // kind.fine_seconds * kind.fine_seconds, kind.fine_seconds
