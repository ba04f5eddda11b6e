"""What the workers of a host have counted in all, those that have gone included."""

import logging
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeAlias

import orjson

from asgi_errorkit.errors import POLICIES, ErrorType
from asgi_errorkit.outcome import Outcome
from asgi_errorkit.routes import OTHER
from asgi_errorkit.spool.directory import SpoolDirectory
from asgi_errorkit.spool.groups import Groups
from asgi_errorkit.spool.owner import this_process
from asgi_errorkit.spool.reading import Listed, Reading
from asgi_errorkit.spool.results import Result, told
from asgi_errorkit.spool.spans import (
    ERRORS,
    REQUESTS,
    ROUTES,
    Row,
    aged,
    row_of_error,
    row_of_request,
    row_of_route,
)

__all__ = ["TOTALS", "Counts", "counts_of", "fold", "gone_counts", "keep_gone", "loaded"]

logger = logging.getLogger("asgi_errorkit.spool")

TOTALS = "totals.ek"
_DAMAGED = "totals-damaged.ek"
_GONE = "gone-"
_GONE_NAME = re.compile(r"gone-[0-9]+-[0-9]+-([0-9a-f]+)-[0-9a-f]+-[0-9a-f]+\.ek")
_END = ".ek"
_SEGMENTS = ("worker-", "claimed-")
_TRIES = 20
_MOST = 2**48  # of what anybody has counted; sums stay numbers that JSON can tell
_MOST_NAMES = 100
_MOST_ROUTES = 500
Load: TypeAlias = Callable[[str], dict[str, Any]]
_ROUTE_LIMIT = 300


class Counts:
    """How many requests have ended, by outcome, errors by type; both also in spans of time, and groups.

    The spans are rows as in `asgi_errorkit.spool.spans`, by the clock of this boot.
    """

    __slots__ = ("error_types", "errors", "groups", "outcomes", "requests", "routes")

    def __init__(self) -> None:
        self.outcomes: Counter[str] = Counter()
        self.error_types: Counter[str] = Counter()
        self.errors: list[Row] = []
        self.requests: list[Row] = []
        self.routes: dict[str, list[Row]] = {}
        self.groups = Groups()

    @property
    def is_empty(self) -> bool:
        """Whether nothing has been counted, and no error told of."""
        return not (self.outcomes or self.error_types or self.errors or self.groups)

    @classmethod
    def read(cls, known: Mapping[str, Any]) -> "Counts":
        """What was told with `as_dict`, or by a worker; what makes no sense counts for nothing."""
        counts = cls()
        counts.outcomes = _numbers(known.get("outcomes"))
        counts.error_types = _numbers(known.get("error_types"))
        counts.errors, counts.requests = _rows(known.get("errors")), _rows(known.get("requests"))
        routes = known.get("routes")
        if isinstance(routes, dict):
            listed = list(routes.items())[:_MOST_ROUTES]
            counts.routes = {label[:_ROUTE_LIMIT]: _rows(rows) for label, rows in listed}
        counts.groups = Groups.read(known.get("groups"))
        return counts

    def add(self, other: "Counts") -> None:
        """Count all that the other has counted too."""
        self.outcomes.update(other.outcomes)
        self.error_types.update(other.error_types)
        self.errors += other.errors
        self.requests += other.requests
        for label, rows in other.routes.items():
            if label in self.routes or len(self.routes) < _MOST_ROUTES:
                self.routes[label] = self.routes.get(label, []) + rows
        self.groups.add(other.groups)

    def forget_spans(self) -> None:
        """They are by the clock of another boot."""
        self.errors, self.requests, self.routes = [], [], {}

    def as_dict(self, now: float) -> dict[str, Any]:
        """As plain JSON-able data, with no more spans than are still asked for."""
        routes = {label: aged(ROUTES, rows, now) for label, rows in self.routes.items()}
        return {
            "outcomes": dict(self.outcomes),
            "error_types": dict(self.error_types),
            "errors": aged(ERRORS, self.errors, now),
            "requests": aged(REQUESTS, self.requests, now),
            "routes": {label: rows for label, rows in routes.items() if rows},
            "groups": self.groups.as_list(),
        }


def counts_of(reading: Reading, said: Mapping[str, Any], *, is_over: bool) -> Counts:
    """What a worker has counted: in its latest snapshot, which has ``said`` so much, and since.

    Of one that is not over, errors of what has ended since are not in the spans yet: whether they
    count there is for the tracker's policies to say.
    """
    counts = Counts.read(said)
    for each in reading.ended:
        result = told(each.result)
        counts.outcomes[result.outcome or "unknown"] += 1
        if result.error_type:
            counts.error_types[result.error_type] += 1
        counts.errors.append(_error_row(each, result, is_over=is_over))
        if not result.is_session:
            counts.requests.append(_request_row(each, result))
            if is_over:  # which route it was of nobody will know
                failed = bool(result.outcome) and Outcome(result.outcome).failed
                seconds = each.ended_at - each.started_at
                rows = counts.routes.setdefault(OTHER, [])
                rows.append(row_of_route(each.ended_at, seconds, failed=failed))
    return counts


def _request_row(listed: Listed, result: Result) -> Row:
    first_byte_at = listed.first_byte_at
    return row_of_request(
        listed.ended_at,
        result.outcome or "unknown",
        listed.ended_at - listed.started_at,
        first_byte_at - listed.started_at if first_byte_at else None,
    )


def _error_row(listed: Listed, result: Result, *, is_over: bool) -> Row:
    if not is_over or not result.outcome or result.is_ignored:
        return row_of_error(listed.ended_at)
    outcome = Outcome(result.outcome)
    kind = ErrorType(result.error_type) if result.error_type else None
    return row_of_error(
        listed.ended_at,
        failed=outcome.failed,
        is_client_error=outcome is Outcome.CLIENT_ERROR,
        info=POLICIES[kind] if kind else None,
    )


def keep_gone(directory: SpoolDirectory, ident: str, counts: Counts, now: float) -> None:
    """Keep what a worker that goes has counted, before its segment goes; twice is as good as once."""
    directory.write(f"{_GONE}{ident}{_END}", orjson.dumps(counts.as_dict(now)))


def gone_counts(directory: SpoolDirectory, load: Load) -> tuple[Counts, frozenset[str]]:
    """What those that have gone have counted, and who of them is still known by name.

    ``load`` reads a file by its name. Who is folded into the totals has no name any more. Raises SpoolError when it cannot be read.
    """
    for _ in range(_TRIES):
        try:
            return _gone_counts(directory, load)
        except FileNotFoundError:  # folded meanwhile: the totals have it now
            continue
    return _gone_counts(directory, load)


def fold(directory: SpoolDirectory, clock: Callable[[], float]) -> None:
    """Add what those that have gone have counted to the totals. For one process at a time.

    The totals name whom they have got, until their files are gone: who dies over it, at whatever
    moment, leaves nothing that is counted twice.
    """
    names = directory.names()
    files = _gone(names)
    if not files:
        return
    _put_damaged_aside(directory)

    def load(name: str) -> dict[str, Any]:
        return loaded(directory.read(name))

    totals, folded = _totals(load)
    new = [ident for ident in files if ident not in folded]
    for ident in new:
        totals.add(_kept_by(files[ident], load))
    if new:
        # Also those whose segment is still there: who claims it again will tell of it again.
        segments = [name for name in names if name.startswith(_SEGMENTS)]
        left = [i for i in folded if any(name.endswith(f"-{i}{_END}") for name in segments)]
        told_of = {
            **totals.as_dict(clock()),
            "folded": sorted({*files, *left}),
            "boot": this_process().boot,
        }
        directory.write(TOTALS, orjson.dumps(told_of))
    for name in files.values():
        directory.remove(name)


def _put_damaged_aside(directory: SpoolDirectory) -> None:
    """What nobody can read is not written over: whoever cares may still mend it."""
    with suppress(FileNotFoundError):
        if not loaded(directory.read(TOTALS)):
            directory.rename(TOTALS, _DAMAGED)
            logger.error(
                "the totals of those that have gone cannot be read, and start anew: what there is lies "
                "in %s",
                directory.path / _DAMAGED,
            )


def _gone_counts(directory: SpoolDirectory, load: Load) -> tuple[Counts, frozenset[str]]:
    # The files first: what is folded after that is in the totals too, and known there by its name.
    files = {ident: _kept_by(name, load) for ident, name in _gone(directory.names()).items()}
    counts, folded = _totals(load)
    for ident, each in files.items():
        if ident not in folded:
            counts.add(each)
    return counts, frozenset(files) | folded


def _kept_by(name: str, load: Load) -> Counts:
    counts = Counts.read(load(name))
    known = _GONE_NAME.fullmatch(name)
    if known is not None and known[1] != this_process().boot:
        counts.forget_spans()
    return counts


def _gone(names: Sequence[str]) -> dict[str, str]:
    return {
        name.removeprefix(_GONE).removesuffix(_END): name
        for name in names
        if _GONE_NAME.fullmatch(name)
    }


def _totals(load: Load) -> tuple[Counts, frozenset[str]]:
    try:
        known = load(TOTALS)
    except FileNotFoundError:
        return Counts(), frozenset()
    folded = known.get("folded")
    names = folded if isinstance(folded, list) else []
    counts = Counts.read(known)
    if known.get("boot") != this_process().boot:
        counts.forget_spans()
    return counts, frozenset(name for name in names if isinstance(name, str))


def loaded(body: bytes) -> dict[str, Any]:
    """A JSON object, empty for what is none."""
    try:
        known = orjson.loads(body)
    except ValueError:
        return {}
    return known if isinstance(known, dict) else {}


def _rows(known: object) -> list[Row]:
    return [row for row in known if isinstance(row, list)] if isinstance(known, list) else []


def _numbers(known: object) -> "Counter[str]":
    if not isinstance(known, dict):
        return Counter()
    pairs = list(known.items())[:_MOST_NAMES]
    return Counter({name: n for name, n in pairs if type(n) is int and 0 <= n < _MOST})
