"""Where the answers come from: a kit that serves, or the record of one on disk."""

from typing import Any, Protocol

__all__ = ["ACTIONS", "Source"]

ACTIONS = ("force_open", "close", "reset", "disable")
"""What can be done to a breaker by hand; to close it is to reset it."""


class Source(Protocol):
    """Answers as plain JSON-able data; each may take some tens of milliseconds, in any thread.

    ``worker`` is the pid of one worker, None for all; ValueError for one that is not there.
    SpoolError where the record cannot be read.
    """

    can_act: bool
    """Whether breakers can be changed here."""

    def error_stats(self, window_minutes: float, worker: int | None) -> dict[str, Any]:
        """See `ErrorTracker.get_error_stats`."""
        ...

    def performance_stats(self, window_minutes: float, worker: int | None) -> dict[str, Any]:
        """See `PerformanceMonitoringMiddleware.get_performance_stats`."""
        ...

    def groups(self) -> list[dict[str, Any]]:
        """The groups of errors without their samples, the most recently seen first."""
        ...

    def group(self, fingerprint: str) -> dict[str, Any] | None:
        """One of them with its sample; None if there is none."""
        ...

    def breakers(self) -> list[dict[str, Any]]:
        """See `ErrorTracker.breakers`."""
        ...

    def act(self, name: str, action: str) -> dict[str, Any] | None:
        """Do one of the `ACTIONS` to a breaker; how it is now, None where it is not known."""
        ...

    def alerts(self) -> dict[str, Any]:
        """What there is to be alarmed by."""
        ...

    def in_flight(self) -> list[dict[str, Any]]:
        """The requests that go on, the oldest first."""
        ...

    def crashes(self) -> list[dict[str, Any]] | None:
        """The workers that died, the latest first; None where nothing is kept on record."""
        ...

    def workers(self) -> list[dict[str, Any]]:
        """The workers that live."""
        ...

    def status(self) -> dict[str, Any]:
        """Everything at one look."""
        ...
