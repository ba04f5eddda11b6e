"""Who answers for all the workers of a host, where they keep a record."""

import os
from typing import Any, Protocol

__all__ = ["HostAnswers", "check_own"]


class HostAnswers(Protocol):
    """Each answer is None where the record cannot be read: then a worker answers for itself alone.

    ``worker`` is the pid of one of them, None for all. Raises ValueError for one that is not there.
    """

    def error_stats(self, window_minutes: float, worker: int | None) -> dict[str, Any] | None:
        """See `asgi_errorkit.tracker.ErrorTracker.get_error_stats`."""
        ...

    def performance_stats(self, window_minutes: float, worker: int | None) -> dict[str, Any] | None:
        """See `PerformanceMonitoringMiddleware.get_performance_stats`."""
        ...

    def groups(self) -> list[dict[str, Any]] | None:
        """The groups of errors, the most recently seen first."""
        ...

    def breakers(self) -> list[dict[str, Any]] | None:
        """The breakers of each worker, with its ``pid``."""
        ...


def check_own(worker: int | None) -> None:
    """Raise ValueError for a worker that only a record could tell of."""
    if worker is not None and worker != os.getpid():
        raise ValueError(
            f"worker must be {os.getpid()}, which is this one, for it answers for itself alone: "
            f"ErrorKit(app, directory=...) answers for others; got {worker!r}"
        )
