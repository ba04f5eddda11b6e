"""What `top` has seen so far, for its sparklines; kept in this process alone."""

from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

from asgi_errorkit.cli.top_picture import Picture

__all__ = ["History", "Sample", "sample_of"]

_MOST_SAMPLES = 600


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


class History:
    """The latest samples. Written and read by the thread that draws."""

    __slots__ = ("samples",)

    def __init__(self) -> None:
        self.samples: deque[Sample] = deque(maxlen=_MOST_SAMPLES)

    def add(self, picture: Picture) -> None:
        """Keep what a picture tells."""
        self.samples.append(sample_of(picture))

    def of(self, tell: Callable[[Sample], float | None]) -> list[float | None]:
        """One number of each sample, the oldest first."""
        return [tell(each) for each in self.samples]


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
