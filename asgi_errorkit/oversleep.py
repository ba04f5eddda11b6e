"""Whether a thread slept for as long as it wanted to, and if not, what kept it."""

import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

__all__ = ["Late", "Used", "Wait", "used_so_far"]

_USUAL_SWITCHES = 2  # of a wait that is on time

Clock = Callable[[], float]


class Late:
    """That the watcher itself came late: by how much, and what kept it.

    ``in_vain`` is how often threads woke in vain, of how often one does that waits for the
    interpreter all the time; None where the system does not tell.
    """

    __slots__ = ("in_vain", "process_seconds", "seconds")

    def __init__(
        self, seconds: float = 0.0, process_seconds: float = 0.0, in_vain: float | None = 0.0
    ) -> None:
        self.seconds = seconds
        self.process_seconds = process_seconds
        self.in_vain = in_vain


class Wait:
    """Tells whether the watcher slept for as long as it wanted to, and if not, why.

    A thread that waits for the interpreter wakes in vain each few milliseconds to ask for it; in a
    process that is stopped none does. So their switches tell the two apart.
    """

    __slots__ = ("_before", "_clock", "_due_at", "_pause")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._due_at: float | None = None
        self._pause = 0.0
        self._before = Used(0.0, None)

    def begin(self, pause: float) -> float:
        """Returns the pause."""
        self._pause, self._before = pause, used_so_far()
        self._due_at = self._clock() + pause
        return pause

    def begin_again(self) -> None:
        """As if it were over now, and as long a one began."""
        self.begin(self._pause)

    def is_late(self) -> bool:
        return self._late_seconds() > 0

    def over(self) -> Late:
        late = self._late_seconds()
        if not late:
            return _ON_TIME
        before, now = self._before, used_so_far()
        used = now.seconds - before.seconds
        if now.switches is None or before.switches is None:
            return Late(late, used, None)
        in_vain = now.switches - before.switches - _USUAL_SWITCHES
        return Late(late, used, in_vain * sys.getswitchinterval() / late)

    def _late_seconds(self) -> float:
        """By how much, if that is worth a thought; else 0."""
        if self._due_at is None:
            return 0.0
        late = self._clock() - self._due_at
        return late if late >= self._pause / 2 else 0.0


_ON_TIME = Late()


class Used(NamedTuple):
    """What the process has used so far: CPU time, and how often a thread of it began to wait."""

    seconds: float
    switches: int | None


def used_so_far() -> Used:
    if _rusage is None:
        return Used(time.process_time(), None)
    used = _rusage()
    return Used(used.ru_utime + used.ru_stime, used.ru_nvcsw)


def _rusage_or_none() -> Callable[[], Any] | None:
    try:
        import resource  # noqa: PLC0415  there is none on Windows
    except ImportError:
        return None
    return partial(resource.getrusage, resource.RUSAGE_SELF)


_rusage = _rusage_or_none()
