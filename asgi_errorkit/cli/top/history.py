"""What `top` has seen so far, for its sparklines; kept in this process alone."""

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from asgi_errorkit.cli.top.picture import Picture

__all__ = ["Change", "History", "Sample", "sample_of"]

_MOST_SAMPLES = 600
_MOST_OF_ROUTES = 60
_MOST_CHANGES = 10
_REFUSING = ("open", "forced_open")  # of these it is told since when


class Sample(NamedTuple):
    """What there was at one look, within the seconds before it."""

    requests_per_second: float | None = None
    failed_ratio: float | None = None
    in_flight: float | None = None
    p50: float | None = None
    p95: float | None = None
    p99: float | None = None
    memory_mb: float | None = None
    loop_lag_seconds: float | None = None
    outcomes: dict[str, int] = {}  # noqa: RUF012  never changed
    types: dict[str, int] = {}  # noqa: RUF012


class Change(NamedTuple):
    """A state that a breaker was seen in, and when first; None if it was in it before."""

    state: str
    at: float | None


class History:
    """The latest samples. Written and read by the thread that draws."""

    __slots__ = ("_changes", "_routes", "samples")

    def __init__(self) -> None:
        self.samples: deque[Sample] = deque(maxlen=_MOST_SAMPLES)
        self._routes: deque[dict[str, int]] = deque(maxlen=_MOST_OF_ROUTES)
        self._changes: dict[tuple[int | None, str | None], tuple[Change, ...]] = {}

    def add(self, picture: Picture, at: float) -> None:
        """Keep what a picture of that moment tells; of breakers, those that are still there."""
        self.samples.append(sample_of(picture))
        routes = picture.lately["routes"].items()
        self._routes.append({label: told["requests"] or 0 for label, told in routes})
        self._changes = {
            (row["pid"], row["name"]): self._changed(row, at) for row in picture.breakers
        }

    def of(self, tell: Callable[[Sample], float | None]) -> list[float | None]:
        """One number of each sample, the oldest first."""
        return [tell(each) for each in self.samples]

    def of_route(self, label: str) -> list[float | None]:
        """How many requests it had lately, at each of the last looks; one look is no trend."""
        return [each.get(label, 0) for each in self._routes] if len(self._routes) > 1 else []

    def changes_of(self, breaker: Mapping[str, Any]) -> tuple[Change, ...]:
        """The states that a breaker was seen in, the latest last."""
        return self._changes.get((breaker["pid"], breaker["name"]), ())

    def _changed(self, row: Mapping[str, Any], at: float) -> tuple[Change, ...]:
        known = self.changes_of(row)
        state = row["state"] or ""
        if known and known[-1].state == state:
            return known
        since = row["triggered_at"] if state in _REFUSING else None
        is_first = not known
        return (*known, Change(state, since or (None if is_first else at)))[-_MOST_CHANGES:]


def sample_of(picture: Picture) -> Sample:
    """The numbers of one picture."""
    lately, errors = picture.lately, picture.errors_lately
    had_any = bool(lately["total_requests"])
    percentiles = (lately["percentiles"] or {}) if had_any else {}
    return Sample(
        requests_per_second=lately["requests_per_second"],
        failed_ratio=errors["error_ratio"] if had_any else None,
        in_flight=lately["in_flight"],
        p50=percentiles.get("p50"),
        p95=percentiles.get("p95"),
        p99=percentiles.get("p99"),
        memory_mb=_sum_of(picture.workers, "memory_mb"),
        loop_lag_seconds=_most_of(picture.workers, "loop_lag_seconds"),
        outcomes=lately["outcomes"],
        types=errors["errors_by_type"],
    )


def _known(rows: list[dict[str, Any]], name: str) -> list[float]:
    return [row[name] for row in rows if row[name] is not None]


def _sum_of(rows: list[dict[str, Any]], name: str) -> float | None:
    known = _known(rows, name)
    return sum(known) if known else None


def _most_of(rows: list[dict[str, Any]], name: str) -> float | None:
    return max(_known(rows, name), default=None)
