"""Reads a source again and again in a thread of its own, so that keys never wait for it."""

import time
from threading import Event, Lock, Thread

from asgi_errorkit.cli.top.screen import Look
from asgi_errorkit.cli.top.source import Source, SourceError

__all__ = ["Reader", "looked"]

_PATIENCE_SECONDS = 0.5


class Reader:
    """Keeps the latest look. What is written here by one thread is read by another under the lock."""

    def __init__(self, source: Source, every_seconds: float) -> None:
        self._source = source
        self._every_seconds = every_seconds
        self._lock = Lock()
        self._look = Look(name=source.name)
        self._wanted: str | None = None
        self._is_paused = self._is_over = False
        self._wake = Event()
        self._thread = Thread(target=self._run, name="asgi-errorkit-top", daemon=True)

    def start(self) -> None:
        """Begin to read. The thread keeps no process alive."""
        self._thread.start()

    def stop(self) -> None:
        """Read no more; what is read meanwhile is waited for, unless it takes long."""
        self._is_over = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(_PATIENCE_SECONDS)

    def latest(self) -> Look:
        """What was read last."""
        with self._lock:
            return self._look

    def want(self, group_id: str | None, *, is_paused: bool) -> None:
        """Which group is to be read too, at once if it is another; nothing else while paused."""
        is_new = group_id != self._wanted or is_paused != self._is_paused
        self._wanted, self._is_paused = group_id, is_paused
        if is_new:
            self._wake.set()

    def _run(self) -> None:
        while not self._is_over:
            begun_at = time.monotonic()
            look = looked(self._source, self._look, self._wanted, is_paused=self._is_paused)
            with self._lock:
                self._look = look
            self._wake.wait(max(0.0, begun_at + self._every_seconds - time.monotonic()))
            self._wake.clear()


def looked(source: Source, before: Look, wanted: str | None, *, is_paused: bool = False) -> Look:
    """The next look: where nothing can be read, the one before with the problem."""
    try:
        group = None if wanted is None else source.group(wanted)
        seen = before._replace(group_id=wanted, group=group)
        if is_paused:
            return seen
        return seen._replace(picture=source.read(), problem=None, read_at=time.time())
    except SourceError as error:
        return before._replace(problem=str(error))
    except Exception as error:  # noqa: BLE001  whatever it is of: it is told, and tried again
        return before._replace(problem=f"{type(error).__name__}: {error}")
