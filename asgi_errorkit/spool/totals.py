"""What the workers of a host have counted in all, those that have gone included."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import orjson

from asgi_errorkit.spool.directory import SpoolDirectory
from asgi_errorkit.spool.reading import Reading
from asgi_errorkit.spool.results import told

__all__ = ["Counts", "counts_of", "fold", "gone_counts", "keep_gone"]

_TOTALS = "totals.ek"
_GONE = "gone-"
_GONE_NAME = re.compile(r"gone-[0-9]+-[0-9]+-[0-9a-f]+-[0-9a-f]+-[0-9a-f]+\.ek")
_END = ".ek"
_SEGMENTS = ("worker-", "claimed-")
_TRIES = 20
_MOST = 2**48  # of what anybody has counted; sums stay numbers that JSON can tell
_MOST_NAMES = 100


class Counts(NamedTuple):
    """How many requests have ended, by outcome, and errors by type."""

    outcomes: "Counter[str]"
    error_types: "Counter[str]"

    @classmethod
    def none(cls) -> "Counts":
        """Nothing counted."""
        return cls(Counter(), Counter())

    def add(self, other: "Counts") -> None:
        """Count all that the other has counted too."""
        self.outcomes.update(other.outcomes)
        self.error_types.update(other.error_types)

    def as_dict(self) -> dict[str, Any]:
        """As plain JSON-able data."""
        return {"outcomes": dict(self.outcomes), "error_types": dict(self.error_types)}


def counts_of(reading: Reading) -> Counts:
    """What a worker has counted: in its latest snapshot, and since."""
    counts = _counts_in(_loaded(reading.body or b""))
    for each in reading.ended:
        result = told(each.result)
        counts.outcomes[result.outcome or "unknown"] += 1
        if result.error_type:
            counts.error_types[result.error_type] += 1
    return counts


def keep_gone(directory: SpoolDirectory, ident: str, counts: Counts) -> None:
    """Keep what a worker that goes has counted, before its segment goes; twice is as good as once."""
    directory.write(f"{_GONE}{ident}{_END}", orjson.dumps(counts.as_dict()))


def gone_counts(directory: SpoolDirectory) -> tuple[Counts, frozenset[str]]:
    """What those that have gone have counted, and who of them is still known by name.

    Who is folded into the totals has no name any more. Raises SpoolError when it cannot be read.
    """
    for _ in range(_TRIES):
        try:
            return _gone_counts(directory)
        except FileNotFoundError:  # folded meanwhile: the totals have it now
            continue
    return _gone_counts(directory)


def fold(directory: SpoolDirectory) -> None:
    """Add what those that have gone have counted to the totals. For one process at a time.

    The totals name whom they have got, until their files are gone: who dies over it, at whatever
    moment, leaves nothing that is counted twice.
    """
    names = directory.names()
    totals, folded = _totals(directory)
    files = _gone(names)
    new = [ident for ident in files if ident not in folded]
    for ident in new:
        totals.add(_counts_in(_loaded(directory.read(files[ident]))))
    if new:
        # Also those whose segment is still there: who claims it again will tell of it again.
        segments = [name for name in names if name.startswith(_SEGMENTS)]
        left = [i for i in folded if any(name.endswith(f"-{i}{_END}") for name in segments)]
        told_of = {**totals.as_dict(), "folded": sorted({*files, *left})}
        directory.write(_TOTALS, orjson.dumps(told_of))
    for name in files.values():
        directory.remove(name)


def _gone_counts(directory: SpoolDirectory) -> tuple[Counts, frozenset[str]]:
    # The files first: what is folded after that is in the totals too, and known there by its name.
    files = {
        ident: _counts_in(_loaded(directory.read(name)))
        for ident, name in _gone(directory.names()).items()
    }
    counts, folded = _totals(directory)
    for ident, each in files.items():
        if ident not in folded:
            counts.add(each)
    return counts, frozenset(files) | folded


def _gone(names: Sequence[str]) -> dict[str, str]:
    return {
        name.removeprefix(_GONE).removesuffix(_END): name
        for name in names
        if _GONE_NAME.fullmatch(name)
    }


def _totals(directory: SpoolDirectory) -> tuple[Counts, frozenset[str]]:
    try:
        known = _loaded(directory.read(_TOTALS))
    except FileNotFoundError:
        return Counts.none(), frozenset()
    folded = known.get("folded")
    names = folded if isinstance(folded, list) else []
    return _counts_in(known), frozenset(name for name in names if isinstance(name, str))


def _loaded(body: bytes) -> dict[str, Any]:
    try:
        known = orjson.loads(body)
    except ValueError:
        return {}
    return known if isinstance(known, dict) else {}


def _counts_in(known: Mapping[str, Any]) -> Counts:
    return Counts(_numbers(known.get("outcomes")), _numbers(known.get("error_types")))


def _numbers(known: object) -> "Counter[str]":
    if not isinstance(known, dict):
        return Counter()
    pairs = list(known.items())[:_MOST_NAMES]
    return Counter({name: n for name, n in pairs if type(n) is int and 0 <= n < _MOST})
