"""One event loop that is watched: the ping it was asked, and what its thread was seen at since."""

import threading
import time
from collections.abc import Callable
from types import CodeType, FrameType
from typing import Any

from asgi_errorkit.blocks import Block
from asgi_errorkit.exchange import STARTED
from asgi_errorkit.loop_stack import Glimpse, is_waiting
from asgi_errorkit.oversleep import Late
from asgi_errorkit.process import WatchedLoop
from asgi_errorkit.redact import Redactor

__all__ = ["LoopWatch"]

_MOST_GLIMPSES = 10
_IN_VAIN_A_LITTLE, _IN_VAIN_ALL_ALONG = 1 / 8, 1 / 4
_HARDLY_USED = 0.05  # of one processor, by the whole process: what waking in vain takes

Clock = Callable[[], float]


class LoopWatch:
    """A loop, the ping it has been asked, and what its thread was seen at until it answers."""

    __slots__ = (
        "_clock",
        "_cpu_clock",
        "_cpu_seconds",
        "_redactor",
        "_shown",
        "_threshold_seconds",
        "_waiting",
        "alive_at",
        "base",
        "block",
        "came_at",
        "excused",
        "glimpses",
        "look_at",
        "looked_at",
        "loop",
    )

    def __init__(
        self,
        loop: Any,
        base: CodeType,
        clock: Clock,
        threshold_seconds: float,
        redactor: Redactor,
    ) -> None:
        """In the thread of the loop, which is known to turn right now."""
        self.loop = WatchedLoop(loop)
        self.base = base
        self._clock = clock
        self._threshold_seconds = threshold_seconds
        self._redactor = redactor
        self.alive_at = self.came_at = self.look_at = self.looked_at = clock()
        self.excused = 0.0  # seconds that it did not turn through no fault of its own
        self.glimpses: list[Glimpse] = []
        self.block: Block | None = None
        self._waiting: tuple[CodeType, ...] = ()
        self._shown = 0  # glimpses that the block has been made from
        self._cpu_clock = _cpu_clock()
        self._cpu_seconds = self._cpu()

    @property
    def exists(self) -> bool:
        loop = self.loop.loop()
        return loop is not None and not (hasattr(loop, "is_closed") and loop.is_closed())

    @property
    def is_asked(self) -> bool:
        """Whether it has been pinged and has not answered."""
        ping = self.loop.ping
        return ping is not None and ping.lag is None

    def waits(self, frame: FrameType) -> bool:
        """Whether the loop waits for something to do; by its innermost frames, once they are known."""
        innermost = _innermost(frame)
        if innermost != self._waiting:
            if not is_waiting(frame, self.base):
                return False
            self._waiting = innermost
        return True

    def ask(self) -> bool:
        """Ping it, or look whether it still runs while the ping waits."""
        return self.loop.ask(self._clock)

    def excuse(self, seconds: float, now: float) -> None:
        """Leave out a time in which the loop could not turn."""
        self.excused += seconds
        if not self.is_asked and not self.glimpses:
            self.alive_at = now

    def unseen_seconds(self, now: float, late: Late) -> float:
        """How long nobody has looked, while it may have stood still.

        Who comes late sees what came after the code that kept the interpreter as often as not: if
        there is an earlier look, that counts for more.
        """
        unseen = now - max(self.alive_at, self.looked_at)
        return max(0.0, unseen - late.seconds) if self.glimpses else unseen

    def add(self, seen: Glimpse, now: float) -> None:
        """Remember what the thread is at; the longer it takes, the less often it is looked at."""
        self.looked_at = now
        self.look_at = now + max(0.0, now - self.came_at)
        if seen.is_debugged:
            self.excused += seen.seconds
        elif len(self.glimpses) < _MOST_GLIMPSES:
            self.glimpses.append(seen)

    def so_far(self, now: float, is_sole: bool) -> Block | None:
        """The block that goes on, or has just ended, once it is long enough to be one."""
        ping = self.loop.ping
        if not self.glimpses or ping is None:
            return None
        ended_at = now if ping.lag is None else ping.asked_at + ping.lag
        began_at = self._began_at()
        seconds = ended_at - began_at - self.excused
        if seconds < self._threshold_seconds:
            return None
        if self.block is None:
            self.block = Block(began_at, ended_at)
        self.block.ended_at, self.block.seconds = ended_at, seconds
        self.block.is_sole_loop = self.block.is_sole_loop and is_sole
        if self._shown < len(self.glimpses):
            self.block.blame(self.glimpses, self._redactor)
            self._shown = len(self.glimpses)
        return self.block

    def take_over(self, is_sole: bool) -> Block | float | None:
        """What there was before the answer that came: a block, or the seconds that nobody saw."""
        ping = self.loop.ping
        if ping is None or ping.lag is None:
            return None
        ended_at = ping.asked_at + ping.lag
        if ended_at <= self.alive_at:
            return None
        block = self.so_far(ended_at, is_sole)
        seconds = 0.0 if self.glimpses else ping.lag - self.excused
        self.block, self._shown, self.excused = None, 0, 0.0
        self.alive_at = self.look_at = self.looked_at = ended_at
        self.glimpses.clear()
        return seconds if block is None else block

    def _began_at(self) -> float:
        """When it stopped turning: between its last sign of life and the ping.

        Often that is when the request began whose code it runs.
        """
        state = self.glimpses[0].state
        started = 0.0 if state is None else float(state[STARTED])
        return started if started > self.alive_at else (self.alive_at + self.came_at) / 2

    def is_to_blame(self, late: Late) -> bool:
        """Whether the loop's thread had the interpreter while the watchdog waited for it.

        It used the processor, or nobody did: then it waits for something in C code, and keeps the
        rest. Not by the time that has passed: on a busy machine a thread gets little of it.
        """
        before, self._cpu_seconds = self._cpu_seconds, self._cpu()
        used = self._cpu_seconds - before
        share = late.process_seconds / late.seconds if late.seconds else 0.0
        in_vain = share if late.in_vain is None else late.in_vain
        if not late.seconds or in_vain < _IN_VAIN_A_LITTLE:
            return False
        if used >= max(self._threshold_seconds, late.process_seconds / 2):
            return True  # a block by its processor time alone, however little of that there was
        if share < _HARDLY_USED:
            return in_vain >= _IN_VAIN_ALL_ALONG
        return self._cpu_clock is None or used >= late.process_seconds / 2

    def _cpu(self) -> float:
        if self._cpu_clock is None:
            return 0.0
        try:
            return time.clock_gettime(self._cpu_clock)
        except OSError:  # the thread has ended
            return 0.0


def _innermost(frame: FrameType) -> tuple[CodeType, ...]:
    """The code of three frames, which are enough to know a loop that waits from what it runs."""
    codes = [frame.f_code]
    while len(codes) < 3 and frame.f_back is not None:
        frame = frame.f_back
        codes.append(frame.f_code)
    return tuple(codes)


def _cpu_clock() -> int | None:
    """The clock of this thread's CPU time, asked for here: of a thread that has gone it is unsafe."""
    try:
        return time.pthread_getcpuclockid(threading.get_ident())
    except (AttributeError, OSError):
        return None
