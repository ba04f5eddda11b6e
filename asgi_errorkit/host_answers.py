"""Who answers for all the workers of a host, where they keep a record."""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Protocol

__all__ = ["HostAnswers", "at_once", "check_own"]


class HostAnswers(Protocol):
    """Each answer is None where the record cannot be read: then a worker answers for itself alone.

    ``worker`` is the pid of one of them, None for all. Raises ValueError for one that is not there.
    """

    def error_stats(self, window_minutes: float, worker: int | None) -> dict[str, Any] | None:
        """See `asgi_errorkit.tracker.ErrorTracker.get_error_stats`."""
        ...

    def performance_stats(
        self, window_minutes: float, worker: int | None, most_routes: int | None
    ) -> dict[str, Any] | None:
        """See `PerformanceMonitoringMiddleware.get_performance_stats`."""
        ...

    def groups(self) -> list[dict[str, Any]] | None:
        """The groups of errors, the most recently seen first."""
        ...

    def breakers(self) -> list[dict[str, Any]] | None:
        """The breakers of each worker, with its ``pid``."""
        ...

    def at_once(self) -> AbstractContextManager[None]:
        """Within it this thread is answered from one look at the record, whatever it asks."""
        ...


@contextmanager
def at_once(host: HostAnswers | None) -> Iterator[None]:
    """Within it this thread is answered from one look at the record, where there is one."""
    with nullcontext() if host is None else host.at_once():
        yield


def check_own(worker: int | None) -> None:
    """Raise ValueError for a worker that only a record could tell of."""
    if worker is not None and worker != os.getpid():
        raise ValueError(
            f"worker must be {os.getpid()}, which is this one, for it answers for itself alone: "
            f"ErrorKit(app, directory=...) answers for others; got {worker!r}"
        )
