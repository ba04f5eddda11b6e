"""How many requests there were and how many of them failed, over more than the kit's hour."""

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

__all__ = ["Total", "Totals"]

_ROW_SECONDS = 300.0
_HOUR_SECONDS = 3600.0
_LONGEST_SECONDS = 3 * 86_400.0
_MOST_ROWS = 1000


class Total(NamedTuple):
    """The requests of a span of time; ``known_seconds`` is how much of it anybody has watched."""

    requests: float
    failed: float
    known_seconds: float


Ask: TypeAlias = Callable[[float], tuple[int, int]]
"""The requests, and those that failed, of so many minutes until now: 60 at most."""


class _Row(NamedTuple):
    since: float
    until: float
    requests: int
    failed: int


class Totals:
    """Keeps totals of five minutes for three days; the last hour is asked of the statistics.

    Times are seconds of a clock that does not go back. One thread uses it.
    """

    def __init__(self, ask: Ask, *, now: float) -> None:
        self._ask = ask
        self._since = now
        self._until = now  # as far as the rows go
        self._rows: deque[_Row] = deque(maxlen=_MOST_ROWS)

    def keep(self, now: float) -> bool:
        """Whether five minutes have gone by, whose total is kept now."""
        if now - self._until < _ROW_SECONDS:
            return False
        since = max(self._until, now - _HOUR_SECONDS)  # beyond that nobody knows any more
        self._rows.append(_Row(since, now, *self._ask((now - since) / 60)))
        self._until = now
        while self._rows[0].until < now - _LONGEST_SECONDS:
            self._rows.popleft()
        return True

    def last(self, seconds: float, now: float) -> Total:
        """The total of the last seconds: those of an hour as they are, of more from what was kept."""
        known = min(seconds, now - self._since)
        if seconds <= _HOUR_SECONDS:
            return Total(*self._ask(seconds / 60), known)
        lately = min(now - self._until, _HOUR_SECONDS)
        requests, failed = map(float, self._ask(lately / 60)) if lately > 0 else (0.0, 0.0)
        for row in self._rows:
            share = _share(row, now - seconds)
            requests += share * row.requests
            failed += share * row.failed
        return Total(requests, failed, known)

    def as_rows(self) -> list[Sequence[float]]:
        """All of it as JSON-able data: since when, then each row."""
        return [[self._since, self._until], *(list(row) for row in self._rows)]

    def remember(self, told: Any, *, now: float, later: float = 0.0) -> None:
        """Know what was told with `as_rows`, by a clock that was so much ``later``.

        Raises TypeError, ValueError or IndexError for what is none.
        """
        rows = [
            _Row(float(since) - later, float(until) - later, int(requests), int(failed))
            for since, until, requests, failed in told[1:][-_MOST_ROWS:]
        ]
        begun, end = (min(now, float(at) - later) for at in told[0])
        self._since, self._until = min(begun, end), end
        self._rows = deque((row for row in rows if row.until <= now), maxlen=_MOST_ROWS)


def _share(row: _Row, since: float) -> float:
    """How much of a row lies after that."""
    length = row.until - row.since
    return 0.0 if length <= 0 else min(1.0, max(0.0, (row.until - since) / length))
