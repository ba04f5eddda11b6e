"""How a worker answers for all of its host: its own segment is brought up to date, and all are read."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, TypeVar

from asgi_errorkit.recorder import Ledger
from asgi_errorkit.spool.directory import SpoolError
from asgi_errorkit.spool.host import Host

__all__ = ["Asking"]

logger = logging.getLogger("asgi_errorkit.spool")

T = TypeVar("T")


class Asking:
    """See `asgi_errorkit.host_answers.HostAnswers`. What could not be answered is counted in ``failed``."""

    def __init__(self, host: Host, ledger: Ledger) -> None:
        self.failed = 0
        self._host = host
        self._ledger = ledger

    def error_stats(self, window_minutes: float, worker: int | None) -> dict[str, Any] | None:
        """As the host tells."""
        return self._answer(lambda: self._host.error_stats(window_minutes, worker=worker))

    def performance_stats(
        self, window_minutes: float, worker: int | None, most_routes: int | None
    ) -> dict[str, Any] | None:
        """As the host tells."""
        host = self._host
        return self._answer(
            lambda: host.performance_stats(window_minutes, worker=worker, most_routes=most_routes)
        )

    def groups(self) -> list[dict[str, Any]] | None:
        """As the host tells."""
        return self._answer(self._host.groups)

    def breakers(self) -> list[dict[str, Any]] | None:
        """As the host tells."""
        return self._answer(self._host.breakers)

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """As the host does; where that cannot be, each is answered on its own."""
        with self._host.at_once() if self._answer(lambda: True) else nullcontext():
            yield

    def _answer(self, ask: Callable[[], T]) -> T | None:
        try:
            return ask() if self._host.is_at_once or self._ledger.refresh() else None
        except SpoolError as error:
            self.failed += 1
            if self.failed == 1:
                logger.warning(
                    "the record of the host cannot be read, this worker answers for itself: %s",
                    error,
                )
            return None
