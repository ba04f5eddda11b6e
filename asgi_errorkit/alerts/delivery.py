"""Brings notices to a channel, one after the other, from a thread of its own."""

import logging
import time
from collections import deque
from collections.abc import Callable
from threading import Event, Lock, Thread
from typing import Any

from asgi_errorkit.alerts.channels import Channel, UndeliverableError
from asgi_errorkit.alerts.notice import printable
from asgi_errorkit.backoff import RetryPlan, next_wait, retry_after_of
from asgi_errorkit.forks import reset_in_child
from asgi_errorkit.redact import Redactor

__all__ = ["Courier"]

logger = logging.getLogger("asgi_errorkit.alerts")


def _nobody(_: str) -> None:
    """Is told of nothing."""


_AN_HOUR = RetryPlan(attempts=100, base_seconds=2.0, max_seconds=120.0, total_seconds=3600.0)
_LONGEST_TOLD_SECONDS = 900.0  # what is told to come back in an hour would be given up at once


class Courier:
    """Brings each notice to its channel, in order, and tries again for an hour what fails.

    At most ``most_waiting`` wait; beyond that the oldest goes, counted in ``dropped``; what the
    channel does not take is counted in ``failed``; each is said once. ``on_done`` is told the id of each
    that need not be brought any more, in the thread. The thread is there only while there is
    something to bring, and keeps no process from ending.
    """

    def __init__(
        self,
        channel: Channel,
        label: str,
        *,
        most_waiting: int = 100,
        plan: RetryPlan = _AN_HOUR,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.label = label
        self.delivered = self.failed = self.dropped = self.retried = 0
        self._channel = channel
        self._most_waiting = most_waiting
        self._plan = plan
        self._clock = clock
        self.on_done: Callable[[str], object] = _nobody
        self.reset_after_fork()
        reset_in_child(self)

    def reset_after_fork(self) -> None:
        """In a forked child: what waits is the parent's to bring."""
        self._waiting: deque[dict[str, Any]] = deque()
        self._lock = Lock()
        self._thread: Thread | None = None
        self._gone = Event()  # set when the thread has nothing more to do
        self._gone.set()
        self._begin_next()

    def _begin_next(self) -> None:
        self._attempts = 0
        self._begun_at = self._next_at = float("-inf")

    def put(self, notice: dict[str, Any]) -> None:
        """Have it brought, once, if it is not waiting already. Never waits for the channel."""
        gone = None
        with self._lock:
            if any(known["id"] == notice["id"] for known in self._waiting):
                return
            if len(self._waiting) >= self._most_waiting:
                gone = self._waiting[1]  # the first may be on its way
                del self._waiting[1]
                self.dropped += 1
            self._waiting.append(notice)
        if gone is not None:
            self.on_done(gone["id"])
            if self.dropped == 1:
                logger.error(
                    "alerts wait for %s, the oldest have been dropped, and further ones are only counted",
                    self.label,
                )

    def start(self) -> None:
        """Have a thread bring what waits, unless one does; without any more threads, later."""
        with self._lock:
            if self._thread is not None or not self._waiting:
                return
            self._thread = Thread(target=self._run, name="asgi-errorkit-alerts", daemon=True)
            self._gone.clear()
            try:
                self._thread.start()
            except RuntimeError:
                self._thread = None
                self._gone.set()

    def wait(self, seconds: float) -> bool:
        """Whether everything has been brought or given up, within that time.

        What is not to be tried again within it is not waited for.
        """
        if self._next_at - self._clock() < seconds:
            self._gone.wait(seconds)
        return not self._waiting

    def turn(self) -> float | None:
        """Try what is next, if it is time; the seconds until there is something to do, or None."""
        now = self._clock()
        if not self._waiting:
            return None
        if now < self._next_at:
            return self._next_at - now
        notice = self._waiting[0]
        if self._attempts == 0:
            self._begun_at = now
        self._attempts += 1
        try:
            self._channel(notice)
        except BaseException as error:  # noqa: BLE001  also SystemExit: the thread is ours
            wait = self._wait_after(error)
            if wait is not None:
                self.retried += 1
                self._next_at = self._clock() + wait
                return wait
            self._give_up(error)
        else:
            self.delivered += 1
        with self._lock:
            self._waiting.popleft()
        self._begin_next()
        self.on_done(notice["id"])
        return 0.0

    def as_dict(self) -> dict[str, Any]:
        """Its account."""
        counts = ("delivered", "retried", "failed", "dropped")
        told = {name: getattr(self, name) for name in counts}
        return {"channel": self.label, "waiting": len(self._waiting), **told}

    def _wait_after(self, error: BaseException) -> float | None:
        if isinstance(error, UndeliverableError):
            return None
        return next_wait(
            self._attempts,
            plan=self._plan,
            elapsed_seconds=self._clock() - self._begun_at,
            retry_after_seconds=min(retry_after_of(error) or 0.0, _LONGEST_TOLD_SECONDS),
        )

    def _give_up(self, error: BaseException) -> None:
        self.failed += 1
        if self.failed == 1:
            logger.error(
                "an alert could not be brought to %s, and further failures are only counted: %s",
                self.label,
                printable(Redactor().text(repr(error), 300)),
            )

    def _run(self) -> None:
        while True:
            seconds = self.turn()
            if seconds:
                time.sleep(seconds)
            elif seconds is None and self._is_over():
                return

    def _is_over(self) -> bool:
        """Under the lock, so that what is put meanwhile finds a thread or starts one."""
        with self._lock:
            if self._waiting:
                return False
            self._thread = None
            self._gone.set()
            return True
