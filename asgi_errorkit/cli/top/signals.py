"""What signals ask of `top` while it runs: to end, to stop for a while, to draw anew."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["Asked", "EndedError", "heeded"]

_ENDING = ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGBREAK")
_STOPPING = ("SIGTSTP", "SIGCONT")
_PATIENCE_SECONDS = 1.0


class EndedError(BaseException):
    """A signal has asked the process to end, which one before it has not brought about."""


class Asked:
    """What was asked so far. Written by handlers of signals, which run in the thread that reads it.

    A signal is only noted: raised anywhere, it could be lost, or leave the terminal half restored.
    One that comes long after the first is raised, for then something holds up.
    """

    __slots__ = ("_at", "ends_by", "is_left", "is_to_stop")

    def __init__(self) -> None:
        self.ends_by: int | None = None
        self.is_to_stop = False
        self.is_left = False
        self._at = 0.0

    @property
    def is_anything(self) -> bool:
        """Whether the terminal is to be given back, for good or for a while."""
        return self.ends_by is not None or self.is_left

    def end(self, number: int, _: FrameType | None) -> None:
        """A handler of signals."""
        if self.ends_by is None:
            self.ends_by, self._at = number, time.monotonic()
        elif time.monotonic() > self._at + _PATIENCE_SECONDS:
            raise EndedError

    def leave(self, number: int, _: FrameType | None) -> None:
        """A handler of signals: SIGCONT is of one that was stopped without being asked."""
        self.is_left = True
        self.is_to_stop = self.is_to_stop or number != getattr(signal, "SIGCONT", None)

    def stop(self) -> None:
        """Stop here, if that was asked, until somebody lets it go on."""
        if self.is_to_stop and os.name == "posix":
            handler = signal.signal(signal.SIGTSTP, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGTSTP)
            signal.signal(signal.SIGTSTP, handler)
        self.is_left = self.is_to_stop = False


@contextmanager
def heeded() -> Iterator[Asked]:
    """What signals ask while it is entered; nothing where other threads hear of them."""
    asked = Asked()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    before = [
        (number, signal.signal(number, handler))
        for names, handler in ((_ENDING, asked.end), (_STOPPING, asked.leave))
        for number in (getattr(signal, name, None) for name in names)
        if number is not None
    ]
    if hasattr(signal, "SIGCONT"):
        # Who goes on in the background waits for the terminal in a call that cannot be repeated.
        signal.siginterrupt(signal.SIGCONT, False)
    try:
        yield asked
    finally:
        for number, handler in before:
            signal.signal(number, handler)
