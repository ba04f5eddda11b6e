"""Where the answers come from: a kit that serves, or the record of one on disk."""

from contextlib import AbstractContextManager
from typing import Any, Protocol

__all__ = ["ACTIONS", "Resolves", "Silences", "Source"]

ACTIONS = ("force_open", "close", "reset", "disable")
"""What can be done to a breaker by hand; to close it is to reset it."""


class Source(Protocol):
    """Answers as plain JSON-able data; each may take some tens of milliseconds, in any thread.

    ``worker`` is the pid of one worker, None for all; ValueError for one that is not there.
    SpoolError where the record cannot be read.
    """

    can_act: bool
    """Whether breakers can be changed here.

    A source whose ``can_silence`` is true too has ``silence(what, seconds, why)`` and
    ``unsilence(what)``, one whose ``can_resolve`` is true ``resolve(fingerprint)``: see
    `Silences` and `Resolves`. Neither has to be there.
    """

    def error_stats(self, window_minutes: float, worker: int | None) -> dict[str, Any]:
        """See `ErrorTracker.get_error_stats`."""
        ...

    def performance_stats(
        self, window_minutes: float, worker: int | None, most_routes: int | None = None
    ) -> dict[str, Any]:
        """See `PerformanceMonitoringMiddleware.get_performance_stats`."""
        ...

    def at_once(self) -> AbstractContextManager[Any]:
        """Within it all that one thread asks may be answered from one look, which is cheaper."""
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


class Silences(Protocol):
    """What a source has besides whose alerts can be silenced."""

    can_silence: bool

    def silence(self, what: str, seconds: float, why: str) -> dict[str, Any]:
        """See `asgi_errorkit.alerts.Alerts.silence`; ``what`` is silenced ``until`` when, and ``why``."""
        ...

    def unsilence(self, what: str) -> dict[str, Any]:
        """End the silence of that name, if there is one."""
        ...


class Resolves(Protocol):
    """What a source has besides whose errors can be told to be mended."""

    can_resolve: bool

    def resolve(self, fingerprint: str) -> dict[str, Any] | None:
        """See `asgi_errorkit.alerts.Alerts.resolve`; since when, None where there is no such group."""
        ...
