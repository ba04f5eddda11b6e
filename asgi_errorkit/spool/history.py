"""What a worker has lately done and used: told in its segment, and kept with its crash."""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from math import isfinite
from typing import Any, Protocol

from asgi_errorkit.process import ProcessSample

__all__ = ["Measured", "Resources", "history_of", "recent_in", "recent_rows", "resources_in"]

_EVERY_SECONDS = 5.0
_SAMPLES = 60
_RECENT = 50
_TEXT_LIMIT = 200


class Measured(Protocol):
    """A request that has ended: see `asgi_errorkit.metrics.PerformanceMetrics`."""

    request_id: str
    method: str
    url: str
    status_code: int
    duration: float
    timestamp: float


class Resources:
    """Samples of the process of the last five minutes."""

    def __init__(self, latest: Callable[[], ProcessSample]) -> None:
        self._latest = latest
        self._samples: deque[ProcessSample] = deque(maxlen=_SAMPLES)

    def rows(self) -> list[list[float | None]]:
        """Time, memory in MiB, CPU in percent and the worst loop lag in seconds, oldest first."""
        sample = self._latest()
        if not self._samples or sample.at - self._samples[-1].at >= _EVERY_SECONDS:
            self._samples.append(sample)
        told = list(self._samples)
        if told[-1] is not sample:
            told.append(sample)
        return [[s.at, s.memory_mb, s.cpu_percent, s.loop_lag_seconds] for s in told if s.at]

    def forget(self) -> None:
        """They were another process's."""
        self._samples.clear()


def recent_rows(newest: Callable[[int], Sequence[Measured]]) -> list[list[Any]]:
    """Id, method, path, status, duration, and when it ended in epoch seconds, oldest first."""
    return [
        [m.request_id, m.method, m.url[:_TEXT_LIMIT], m.status_code, m.duration, m.timestamp]
        for m in newest(_RECENT)
    ]


def history_of(said: Mapping[str, Any], offset: float) -> dict[str, Any]:
    """What a worker has lately used and done, to be kept with its crash."""
    return {"resources": resources_in(said, offset), "recent": recent_in(said)}


def resources_in(said: Mapping[str, Any], offset: float) -> list[dict[str, Any]]:
    """What a worker has used, with ``at`` in epoch seconds, as far as what was told makes sense."""
    rows = [row for row in _rows(said.get("resources"), 4) if all(map(_is_number, row[:3]))]
    return [
        {
            "at": row[0] + offset,
            "memory_mb": row[1],
            "cpu_percent": row[2],
            "loop_lag_seconds": row[3] if _is_number(row[3]) else None,
        }
        for row in rows[-_SAMPLES:]
    ]


def recent_in(said: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Which requests a worker has ended last."""
    return [
        {
            "request_id": row[0][:_TEXT_LIMIT],
            "method": row[1][:_TEXT_LIMIT],
            "path": row[2][:_TEXT_LIMIT],
            "status_code": row[3] if type(row[3]) is int else None,
            "duration": row[4] if _is_number(row[4]) else None,
            "ended_at": row[5] if _is_number(row[5]) else None,
        }
        for row in _rows(said.get("recent"), 6)[-_RECENT:]
        if all(isinstance(text, str) for text in row[:3])
    ]


def _rows(told: object, length: int) -> list[list[Any]]:
    listed = told if isinstance(told, list) else []
    return [row for row in listed if isinstance(row, list) and len(row) == length]


def _is_number(told: object) -> bool:
    return not isinstance(told, bool) and isinstance(told, (int, float)) and isfinite(told)
