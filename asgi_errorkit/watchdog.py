"""Notices that an event loop stands still, and says which line of the application holds it up."""

import sys
import threading
import time
from collections.abc import Callable
from itertools import takewhile
from typing import Any
from weakref import WeakKeyDictionary, ref

from asgi_errorkit.blocked_after import check_blocked_after
from asgi_errorkit.blocks import Block, Blocks, LineTotal, mark
from asgi_errorkit.exchange import STARTED, State
from asgi_errorkit.loop_stack import base_of, can_look, glimpse
from asgi_errorkit.loop_watch import LoopWatch
from asgi_errorkit.options import check_callable, check_type, check_whole
from asgi_errorkit.oversleep import Late, Wait
from asgi_errorkit.process import MAX_LOOPS, running_loop
from asgi_errorkit.recorder import Batch, Recorder
from asgi_errorkit.redact import Redactor

__all__ = ["Watchdog", "watchdog_of"]

LOOKS = 2
"""How often it looks within the threshold while there is something to do; else once, which still
sees each block that lasts as long."""

TELL_SECONDS = 10.0
"""A line that blocks again and again is told of once in so many seconds, with how often it did."""

_MOST_ERRORS = 100
_QUIET_LOOKS = 10  # at loops that wait, and then it looks once
_REST_SECONDS = 1.0  # until it sees for itself, should nobody look for it

# Of kits within or beside one another, who tells of what no request has done.
_FIRST_AT: "WeakKeyDictionary[Any, ref[Watchdog]]" = WeakKeyDictionary()


class Watchdog:
    """Watches the event loops that the exchanges of a recorder run in, by one thread of its own.

    A loop that has not turned for ``threshold_seconds`` is blocked: the stack of its thread says
    where, and for which exchange. Exchanges that were open meanwhile get ``blocked_ms`` and
    ``blocked_by`` in their log lines, the one to blame also ``held_up``. What the loop is not to
    blame for (a stopped process, another thread that keeps the interpreter, a debugger) is left
    out, and counted. The thread starts with the first request and ends with the recorder.
    """

    def __init__(
        self,
        recorder: Recorder,
        *,
        threshold_seconds: float = 0.1,
        redactor: Redactor | None = None,
    ) -> None:
        check_type("recorder", recorder, Recorder)
        check_type("redactor", redactor, Redactor)
        check_blocked_after("threshold_seconds", threshold_seconds)
        self.threshold_seconds = threshold_seconds
        self.stopped_seconds = 0.0  # the process, or its thread, did not run
        self.debugged = 0  # looks that found a debugger
        self.unseen = 0  # blocks that were over before their line could be seen
        self.observer_errors = 0
        self.look_errors = 0
        self.looks = 0
        self._recorder = ref(recorder)
        self._clock = recorder.clock
        self._redactor = redactor or Redactor()
        self._observers: list[Callable[[dict[str, Any]], None]] = []
        self._begin()
        # First of all: the lines of an exchange are made from what has been added to its record.
        recorder.sinks.insert(0, self._mark)
        recorder.flushers.insert(0, self._tell)
        recorder.watch_loops(self._watch)
        recorder.on_wake(self._glance)
        recorder.after_fork(self._begin)

    def _begin(self) -> None:
        """What belongs to one process; a forked child has neither the thread nor the loops."""
        # Re-entrant, because a signal handler may flush amid a look of its own thread.
        self._lock = threading.RLock()
        self._watched: dict[int, LoopWatch] = {}
        self._thread: threading.Thread | None = None
        self._wait = Wait(self._clock)
        self._quiet = 0  # looks since a loop did something
        self._wanted = threading.Event()  # set while the watchdog's own thread is to look
        self._wanted.set()
        self._glanced_at, self._is_carried = float("-inf"), False
        self._blocks = Blocks()

    @property
    def is_telling(self) -> bool:
        """Whether it looks at a loop, and somebody is told of what it finds."""
        return self._thread is not None and bool(self._observers)

    def on_block(self, tell: Callable[[dict[str, Any]], None]) -> None:
        """Have ``tell`` called with what the log is to say, off the request path.

        Nobody else writes log lines meanwhile. Of one line it is called once in ten seconds, with
        the longest block, and ``count`` and ``total_ms`` of all there were.
        """
        check_callable("tell", tell, "block")
        self._observers.append(tell)

    def blocks(self, latest: int = 20) -> list[dict[str, Any]]:
        """The latest blocks, the newest first, each as the log tells it."""
        check_whole("latest", latest, least=1, example=20)
        recorder = self._recorder()
        if recorder is None:
            return []
        return recorder.read(lambda: self._shown(recorder, latest))

    def lines(self, most: int = 20) -> list[dict[str, Any]]:
        """The lines of code that have blocked for longest in all, the worst first."""
        check_whole("most", most, least=1, example=20)
        worst = sorted(self.totals().items(), key=lambda line: line[1].seconds, reverse=True)
        return [total.as_dict(where) for where, total in worst[:most]]

    def totals(self) -> dict[str, LineTotal]:
        """How often and how long each line has blocked, by its "file:line function"."""
        self._settle()
        with self._lock:
            return dict(self._blocks.by_line)

    # In the threads of the loops

    def _watch(self, _: Recorder) -> None:
        """Watch the loop that runs here; costs two look-ups once it is known."""
        try:
            self._watch_here()
        except Exception:  # noqa: BLE001  a loop unlike others must not cost a request
            self.look_errors += 1

    def _watch_here(self) -> None:
        loop, known = running_loop(), self._watched.get(threading.get_ident())
        if known is not None and known.loop.loop() is loop and self._thread is not None:
            return
        if loop is None or not can_look():
            return
        base = base_of(sys._getframe())  # noqa: SLF001  public
        if base is None:  # no task runs here: another call will come from one
            return
        with self._lock:
            if not _looks_at(_first_at(loop)):
                _FIRST_AT[loop] = ref(self)
            if len(self._watched) < MAX_LOOPS:
                self._watched[threading.get_ident()] = LoopWatch(
                    loop, base, self._clock, self.threshold_seconds, self._redactor
                )
            if self._thread is None:
                self._start()

    def _start(self) -> None:
        self._wait = Wait(self._clock)
        self._wait.begin(self.threshold_seconds / LOOKS)  # its first look may be late too
        try:
            self._thread = threading.Thread(
                target=_look_until_gone,
                args=(ref(self), self._wanted),
                name="asgi-errorkit-loops",
                daemon=True,
            )
            self._thread.start()
        except RuntimeError:  # no more threads, or none at all: the next batch tries again
            self._thread = None

    # In the watchdog's thread

    def _glance(self) -> None:
        """In the recorder's thread, which wakes anyway: look for the watchdog's own, if that rests
        or should have looked and has not.

        Code that kept the interpreter has just let it go, and whichever thread gets it first sees
        where: a few milliseconds later the loop is somewhere else.
        """
        now = self._clock()
        self._is_carried = now - self._glanced_at < 1.5 * self.threshold_seconds
        self._glanced_at = now
        if self._thread is None or (self._wanted.is_set() and not self._wait.is_late()):
            return
        self.look()
        if self._quiet == 0:
            self._wanted.set()

    def turn(self) -> float:
        """What the watchdog's thread does each time; in how many seconds again, 0 for never.

        While nothing happens the recorder's thread looks for it: a thread that wakes costs ten
        times what a look does.
        """
        if self._thread is not threading.current_thread():  # another has been started since
            return 0.0
        self._wanted.set()
        try:
            pause = self.look()
        except Exception:  # noqa: BLE001  whoever only watches must not print into a log
            self.look_errors += 1
            return self.threshold_seconds if self.look_errors < _MOST_ERRORS else 0.0
        if pause and self._is_carried and self._quiet > _QUIET_LOOKS:
            self._wanted.clear()
        return pause

    def look(self) -> float:
        """One look at each loop, in time or late; in how many seconds the next is due, 0 for never."""
        recorder = self._recorder()
        with self._lock:
            self.looks += 1
            self._quiet += 1
            late = self._wait.over()
            for thread, watch in list(self._watched.items()):
                if not self._look_at(watch, thread, late):
                    self._watched.pop(thread, None)
            if self._watched and recorder is not None and recorder.running:
                looks = 1 if self._quiet > _QUIET_LOOKS else LOOKS
                return self._wait.begin(self.threshold_seconds / looks)
            self._watched.clear()
            self._thread = None
            return 0.0

    def _look_at(self, watch: LoopWatch, thread: int, late: Late) -> bool:
        """False when the loop has gone."""
        frame = sys._current_frames().get(thread)  # noqa: SLF001  public
        if frame is None:
            return False
        now, waits = self._clock(), watch.waits(frame)
        if not waits:
            self._quiet = 0
        is_to_blame = watch.is_to_blame(late)
        # The stack first: to ask the loop gives the interpreter away, and then it goes on.
        seen = None
        if not waits and (is_to_blame or now >= watch.look_at):
            seen = glimpse(frame, watch.base, watch.loop.loop(), watch.unseen_seconds(now, late))
        if not is_to_blame:
            self._excuse(watch, late, now)
        self._take(watch)
        if not watch.is_asked:
            if waits:
                self.unseen += is_to_blame and late.seconds >= self.threshold_seconds
                watch.alive_at = now
                return watch.exists
            watch.came_at = now - late.seconds if is_to_blame else now
        if seen is not None:
            self.debugged += seen.is_debugged
            watch.add(seen, now)
        return watch.ask()

    def _excuse(self, watch: LoopWatch, late: Late, now: float) -> None:
        # A little is what any busy machine does, and then a block is one all the same.
        if late.seconds >= self.threshold_seconds:
            watch.excuse(late.seconds, now)
            self.stopped_seconds += late.seconds

    def _take(self, watch: LoopWatch) -> None:
        """What is over becomes one of the blocks, if it took long enough."""
        over = watch.take_over(is_sole=len(self._watched) == 1)
        if isinstance(over, Block):
            self._blocks.add(over, is_to_tell=self._is_to_tell(over, watch.loop.loop()))
        elif over is not None:
            self.unseen += over >= self.threshold_seconds

    def _is_to_tell(self, block: Block, loop: Any) -> bool:
        """Whether it is for the log of this kit: of all that look at the loop one tells.

        That is the one whose exchange it was; if it was nobody's, the first.
        """
        opener = None if block.opener is None else block.opener()
        other = _first_at(loop) if opener is None else watchdog_of(opener)
        return (
            other is None
            or other is self
            or not _looks_at(other)
            or other.threshold_seconds > block.seconds
        )

    def _catch_up(self) -> None:
        """Before what is over is told: the thread that should have looked may come after who asks.

        The loop itself cannot look where it is, and says only what it is not to blame for.
        """
        if not self._wait.is_late():
            return
        if threading.get_ident() not in self._watched:
            self.look()
            return
        now, late = self._clock(), self._wait.over()
        if late.seconds < self.threshold_seconds:
            return
        for watch in list(self._watched.values()):
            if not watch.is_to_blame(late):
                self._excuse(watch, late, now)
            elif not watch.is_asked and not watch.glimpses:
                self.unseen += 1
        self._wait.begin_again()

    def _settle(self) -> None:
        """Take up what is over and the thread has not looked at since."""
        with self._lock:
            self._catch_up()
            for watch in list(self._watched.values()):
                self._take(watch)

    # Where the recorder drains, and its lines are written

    def _mark(self, batch: Batch) -> None:
        """The sink: tell the records of what they have met."""
        if not self._blocks.latest and not any(w.glimpses for w in list(self._watched.values())):
            return
        recorder = self._recorder()
        blocks = self._since(min(record[STARTED] for record in batch.records))
        if blocks and recorder is not None:
            mark(batch.records, blocks, _in_flight(recorder))

    def _since(self, first: float) -> list[Block]:
        """The blocks that ended after this, and those that go on as long as they have until now."""
        with self._lock:
            self._catch_up()
            now, is_sole = self._clock(), len(self._watched) == 1
            going_on = [watch.so_far(now, is_sole) for watch in self._watched.values()]
            over = takewhile(lambda block: block.ended_at > first, reversed(self._blocks.latest))
            return [*reversed(list(over)), *(block for block in going_on if block is not None)]

    def _shown(self, recorder: Recorder, latest: int) -> list[dict[str, Any]]:
        self._settle()
        offset = recorder.wall_clock() - recorder.clock()
        running = _in_flight(recorder)
        with self._lock:
            newest = list(self._blocks.latest)[: -latest - 1 : -1]
        return [block.as_dict(running, offset) for block in newest]

    def _tell(self) -> None:
        """The flusher: have the log say what is due."""
        self._settle()
        recorder = self._recorder()
        if recorder is None or not self._observers or not self._blocks.by_line:
            return
        with self._lock:
            due = self._blocks.take_due(self._clock(), TELL_SECONDS)
        if due:
            recorder.read(lambda: self._tell_all(recorder, due))

    def _tell_all(self, recorder: Recorder, due: list[tuple[Block, int, float]]) -> None:
        offset, running = recorder.wall_clock() - recorder.clock(), _in_flight(recorder)
        for block, count, seconds in due:
            told = block.as_dict(running, offset)
            told["count"], told["total_ms"] = count, round(seconds * 1000, 1)
            for tell in self._observers:
                self._tell_one(tell, told)

    def _tell_one(self, tell: Callable[[dict[str, Any]], None], told: dict[str, Any]) -> None:
        try:
            tell(told)
        except Exception:  # noqa: BLE001  a broken observer is counted
            self.observer_errors += 1


def watchdog_of(recorder: Recorder) -> Watchdog | None:
    """The one that watches for a recorder already: kits that share one need no second."""
    owners = (getattr(sink, "__self__", None) for sink in recorder.sinks)
    return next((owner for owner in owners if isinstance(owner, Watchdog)), None)


def _first_at(loop: Any) -> Watchdog | None:
    first = None if loop is None else _FIRST_AT.get(loop)
    return None if first is None else first()


def _looks_at(watchdog: Watchdog | None) -> bool:
    """Whether it looks, and somebody hears of what it sees."""
    return watchdog is not None and watchdog.is_telling


def _in_flight(recorder: Recorder) -> list[State]:
    return [*recorder.amid.values(), *recorder.guests.values()]


def _look_until_gone(watchdog_ref: "ref[Watchdog]", wanted: threading.Event) -> None:
    """The thread; it holds no watchdog while it waits, and ends with it."""
    while True:
        watchdog = watchdog_ref()
        pause = 0.0 if watchdog is None else watchdog.turn()
        if not pause:
            return
        del watchdog
        if wanted.is_set():
            time.sleep(pause)  # not an event's wait, which takes twice as long to come back
        else:
            wanted.wait(max(_REST_SECONDS, pause))
