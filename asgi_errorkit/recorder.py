"""The recorder: takes each exchange's records off the request path and feeds them to the sinks."""

import atexit
import logging
import os
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any, NamedTuple, Protocol, TypeAlias, TypeVar

from asgi_errorkit.exchange import (
    AMID,
    ANNOUNCED,
    DONE,
    END,
    ENDED,
    HELD,
    JOINED,
    KEY,
    KIND,
    LOGGED,
    MEMORY_AFTER,
    NOW,
    OPENER,
    PARAMS,
    PLACE,
    ROUTE,
    SCOPE,
    SEEN,
    SEND,
    SESSION,
    STAMP,
    STATUS,
    TAKEN,
    Record,
    State,
    announcement,
    route_of,
)
from asgi_errorkit.options import check_callable, check_number, check_whole
from asgi_errorkit.outcome import Outcome, outcomes_of
from asgi_errorkit.process import ProcessSample, ProcessSampler
from asgi_errorkit.ring import Ring
from asgi_errorkit.types import Scope
from asgi_errorkit.writer import PATIENCE_SECONDS

__all__ = ["Batch", "Recorder", "Sink", "counted_here", "flush_all"]


class Batch(NamedTuple):
    """Records of one thread, in order, and what became of each.

    ``offset`` turns their clock into seconds since the epoch.
    """

    records: Sequence[Record]
    outcomes: Sequence[Outcome]
    offset: float


Sink: TypeAlias = Callable[[Batch], None]


def counted_here(batch: Batch, recorder: "Recorder") -> Batch:
    """The batch without the requests that a kit further out has on record: each counts once there.

    Where nothing is kept on record, everybody counts all that comes through.
    """
    if recorder.ledger is None:
        return batch
    is_ours = [
        record[KIND] != END
        or (opener := record[OPENER].recorder) is recorder
        or opener.ledger is None
        for record in batch.records
    ]
    if all(is_ours):
        return batch
    pairs = zip(batch.records, batch.outcomes, is_ours, strict=True)
    ours = [(record, outcome) for record, outcome, is_one in pairs if is_one]
    return Batch([record for record, _ in ours], [outcome for _, outcome in ours], batch.offset)


T = TypeVar("T")

Clock: TypeAlias = Callable[[], float]

logger = logging.getLogger("asgi_errorkit")

BATCH = 64
"""Records that may pile up before the publishing request drains them itself: a power of two.
Measured: a thread that drains costs twice as much, and holds requests up for longer."""


_PORTIONS = 8  # that the thread drains before it writes

_LONG_TICK_SECONDS = 0.01  # after which whoever looks at each wait has not for too long

_NAP_SECONDS = 0.0001  # long enough for whoever waits for the interpreter to get it

_MANY_SEATS = 64
_MOST_CAPACITY = 2**20
_DAY_SECONDS = 86_400


class Ledger(Protocol):
    """What lists the exchanges of a recorder while they go on.

    ``begin`` is told the id, method, path, time and memory of one, and gives it its ``PLACE``, or
    None; ``answer`` that its response begins, ``leave`` that it has ended, before it is published.
    """

    begin: Callable[[str, str, str, float, float], int | None]
    answer: Callable[[State], None]
    leave: Callable[[State], None]

    def open(self) -> None:
        """The server has started."""
        ...

    def pass_over(self) -> None:
        """A frame further out opens the exchanges, and nothing lists them."""
        ...

    def refresh(self) -> bool:
        """Bring what others read up to date; False where nobody can."""
        ...

    def rest(self) -> None:
        """The server is about to leave, or to pause."""
        ...

    def close(self) -> None:
        """Nothing more will come."""
        ...


class _Seat:
    """Lives as long as the thread that sits in it: its ring is folded away afterwards."""

    __slots__ = ("__weakref__",)


class Recorder:
    """Carries records from any number of threads to the sinks, in batches, losing none unnoticed.

    ``flush_seconds`` is how long a record may wait when traffic stops; None starts no thread, and
    then only `drain` and full batches move records. Every `drain` and every read of statistics
    sees all that was published before it. A sink that raises is counted in ``sink_errors``.
    """

    def __init__(
        self,
        *,
        ring_capacity: int = 4096,
        flush_seconds: float | None = 0.1,
        sample_seconds: float = 1.0,
        clock: Clock = time.perf_counter,
        wall_clock: Clock = time.time,
    ) -> None:
        _check_capacity(ring_capacity)
        if flush_seconds is not None:
            # Also what an event can wait for: not for ever.
            check_number("flush_seconds", flush_seconds, above=0, most=_DAY_SECONDS, example=0.1)
        check_number("sample_seconds", sample_seconds, above=0, example=1.0)
        check_callable("clock", clock)
        check_callable("wall_clock", wall_clock)
        self.clock = clock
        self.wall_clock = wall_clock
        self.sampler = ProcessSampler()
        self.amid: dict[int, State] = {}  # what was taken from a ring while it ran; the drain's
        self.guests: dict[int, State] = {}  # what a frame of another recorder has opened
        self.unannounced: dict[int, State] = {}  # those of both whose beginning no log has told yet
        self._doubtful: list[State] = []
        self._backlog: deque[list[State]] = deque()  # taken, and not fed to the sinks yet
        self._drained_inline = False  # since the thread has looked
        self._came_again = 0  # what was in a ring twice, because it ran when it was taken first
        self.sinks: list[Sink] = []
        self._last_sinks = 0
        self._log_sinks: dict[int, Sink] = {}
        self.flushers: list[Callable[[], None]] = []
        self.sink_errors = 0
        self.ledger: Ledger | None = None  # given before the frames are made
        self.running = False
        self.begun: set[int] = set()  # the numbers of the choices that have had a request since
        self._capacity = ring_capacity
        self.quarter = ring_capacity // 4 - 1  # of a ring may fill with what only begins
        self._flush_seconds = flush_seconds
        self._sample_seconds = sample_seconds
        self._sampled_at = float("-inf")
        self._after_fork: list[Callable[[], None]] = [self.sampler.reset_after_fork]
        self._loop_watchers: list[Callable[[Recorder], None]] = []
        self._wakers: list[Callable[[], None]] = []
        self._resters: list[Callable[[], None]] = []
        self.local = threading.local()
        self._begin()
        self.open = _opener(self)
        self.publish = _publisher(self)
        self.finish = _finisher(self)

    def _begin(self) -> None:
        """Everything that belongs to one process and is not inherited by a forked child."""
        self.local.__dict__.clear()  # the one thread that a child has inherited
        self._seats: list[tuple[weakref.ref[_Seat], Ring]] = []
        # Re-entrant, because a signal handler or a finalizer may record in the middle of a drain.
        self._seats_lock = threading.RLock()
        self._drain_lock = threading.RLock()
        self._draining = False
        self._wake = threading.Event()
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        self._asked: list[threading.Event] = []
        self._writing = False
        self._folded = [0, 0]  # taken and lost in the rings of threads that ended

    def __del__(self) -> None:
        # A kit may be let go within a flush of its last request, which is told of all the same: by
        # its thread, for a finalizer may run amid anything, and must neither wait nor call much.
        if getattr(self, "_thread", None) is not None:  # none if an option was refused
            _LEAVING.append(self)

    def start(self) -> None:
        """Start the flushing and sampling thread, once; the first request calls it."""
        self.running = True
        self._watch_loop()
        if self._flush_seconds is None:
            return
        with self._seats_lock:
            if self._thread is not None:
                return
            self._thread = threading.Thread(
                target=_flush_until_gone,
                args=(weakref.ref(self), self._wake, self._stopped, self._flush_seconds),
                name="asgi-errorkit",
                daemon=True,
            )
        _LIVE.add(self)
        _watch_process()
        try:
            self._thread.start()
        except RuntimeError as error:  # no more threads: serve all the same, and try again later
            self._thread, self.running = None, False
            self.begun.clear()
            self._count_sink_error("the background thread", error)

    # What happens off the request path

    def drain(self) -> None:
        """Hand every record published so far to the sinks.

        Called while this thread already drains (by a sink, a signal handler, a finalizer) it
        returns at once; a drain that is under way in another thread is waited for.
        """
        with self._drain_lock:
            self._drain()

    def read(self, make: Callable[[], T], amid: Callable[[], T] | None = None) -> T:
        """Drain, then have ``make`` read what the sinks know, while none of them writes.

        Amid a drain of the same thread, such as within a sink or a signal handler, some sinks have
        seen the current batch and some have not: then it is ``amid`` that is called, if given.
        """
        with self._drain_lock:
            self._drain()
            if self._draining:  # by this very thread, further out
                return make() if amid is None else amid()
            self._draining = True  # a signal handler must not feed the sinks meanwhile
            try:
                return make()
            finally:
                self._draining = False

    def flush(self) -> None:
        """Drain, announce what has begun, and have every writer write what it holds.

        The background thread writes, if there is one: a stream that takes nothing holds the caller
        up for two seconds at most, also at the end of the process.
        """
        is_within = self._drain_and_announce()
        thread = self._thread
        # A signal handler amid a drain holds what the thread would wait for.
        if (
            is_within
            or thread is None
            or thread is threading.current_thread()
            or not thread.is_alive()
        ):
            self._flush_writers()
            return
        asked = threading.Event()
        self._asked.append(asked)
        self._wake.set()
        is_closed = self._thread is not thread
        if is_closed or (not asked.wait(PATIENCE_SECONDS) and not self._writing):
            self._flush_writers()

    def _drain_and_announce(self) -> bool:
        """Whether this thread is within a drain already, which then goes on by itself."""
        with self._drain_lock:
            if self._draining:
                return True
            self._drain()
            while self._announce():
                pass
            return False

    def _drain_in_pieces(self) -> None:
        """As the thread does it: requests must not wait for long, neither for the lock nor to run.

        While requests drain, and catch up, it leaves that to them: a thread that waits for the
        interpreter with the lock in its hands keeps them from it.
        """
        others_drain, self._drained_inline = self._drained_inline, False
        drained = self._in_portions(lambda: self._drain(BATCH), 1 if others_drain else _PORTIONS)
        announced = self._in_portions(self._announce, _PORTIONS)
        if not (announced and (drained or others_drain)):
            self._wake.set()  # go on at once, when the lines of these are written

    def _in_portions(self, take_one: Callable[[], bool], most: int) -> bool:
        """Whether there is nothing more to take."""
        for _ in range(most):
            with self._drain_lock:
                if not take_one():
                    return True
            if self._wake.is_set():  # somebody wants what there is to be written
                return False
            time.sleep(_NAP_SECONDS)
        return False

    def _flush_writers(self) -> None:
        self._writing = True
        for flush in self.flushers:
            try:
                flush()
            except Exception as error:  # noqa: BLE001  a broken writer must not stop the others
                self._count_sink_error(flush, error)
        self._writing = False

    def close(self) -> None:
        """Flush and stop the thread; a request that comes later starts it again."""
        self.flush()
        self._stopped.set()
        self._wake.set()
        self._stopped = threading.Event()
        self._thread = None
        self.running = False
        self.begun.clear()
        asked, self._asked = self._asked, []
        if asked:  # by others, while the thread ended
            self._flush_writers()
        for each in asked:
            each.set()

    def end(self) -> None:
        """Tell what is left, when nobody holds this any more; in whichever thread."""
        self._thread = None
        self._drain_and_announce()
        self._flush_writers()
        if self.ledger is not None:
            self.ledger.close()

    def tick(self) -> None:
        """One turn of the background thread: sample the process when due, then flush."""
        woke_at = self._look()
        if woke_at - self._sampled_at >= self._sample_seconds:
            self._sample()
        self._drain_in_pieces()
        asked, self._asked = self._asked, []
        self._flush_writers()
        for each in asked:
            each.set()
        if self.clock() - woke_at > _LONG_TICK_SECONDS:
            self._look()

    def _look(self) -> float:
        """Have those look who want to as often as the thread waits; the time now."""
        for look in self._wakers:
            look()
        return self.clock()

    def sampled(self) -> ProcessSample:
        """The latest figures of the process; the first are taken now if there are none yet."""
        with self._drain_lock:
            if self._sampled_at == float("-inf"):
                self._sample()
        return self.sampler.latest

    def _sample(self) -> None:
        now = self.clock()
        self.sampler.sample(now)
        self._sampled_at = now  # last: who asks then gets its figures

    def wake(self) -> None:
        """Have the background thread flush now."""
        self._wake.set()

    def add_sink(self, sink: Sink) -> None:
        """Feed a sink, once however often it is added."""
        if sink not in self.sinks:
            self.sinks.insert(len(self.sinks) - self._last_sinks, sink)

    def add_last_sink(self, sink: Sink) -> None:
        """Feed a sink after all others, also those that are added later: it tells what they know."""
        self.sinks.append(sink)
        self._last_sinks += 1

    def add_log_sink(self, sink: Sink, claim: int) -> bool:
        """Feed a sink that writes the lines of what was begun with ``claim`` as ``LOGGED``.

        It also gets the beginnings of what goes on. False when there is one for it already.
        """
        if claim in self._log_sinks:
            return False
        self.add_sink(sink)
        self._log_sinks[claim] = sink
        return True

    def add_flusher(self, flush: Callable[[], None]) -> None:
        """Have a writer flushed, once however often it is added."""
        if flush not in self.flushers:
            self.flushers.append(flush)

    def watch_loops(self, watch: Callable[["Recorder"], None]) -> None:
        """Have ``watch`` called in every event loop that exchanges end in, soon and often."""
        if watch not in self._loop_watchers:
            self._loop_watchers.append(watch)

    def on_rest(self, tell: Callable[[], None]) -> None:
        """Have ``tell`` called at the end of a lifespan: a server may leave then without any word."""
        if tell not in self._resters:
            self._resters.append(tell)

    def rest(self) -> None:
        """The end of a lifespan: everything is written, and told."""
        self.flush()
        for tell in self._resters:
            try:
                tell()
            except Exception as error:  # noqa: BLE001  as of a writer
                self._count_sink_error(tell, error)
        if self.ledger is not None:
            self.ledger.rest()

    def on_wake(self, look: Callable[[], None]) -> None:
        """Have ``look`` called as soon as the background thread wakes, before all else, and after a
        long turn once more.
        """
        if look not in self._wakers:
            self._wakers.append(look)

    def after_fork(self, reset: Callable[[], None]) -> None:
        """Have something reset in a forked child."""
        self._after_fork.append(reset)

    @property
    def may_start_threads(self) -> bool:
        """Whether it has one of its own while requests come."""
        return self._flush_seconds is not None

    @property
    def lost(self) -> int:
        """How many records have been overwritten before anybody took them, as far as is known."""
        return self._folded[1] + sum(ring.lost for _, ring in list(self._seats))

    def counts(self) -> dict[str, int]:
        """The ring's account: produced = taken + lost, once drained; and broken sinks."""
        return self.read(self._counts)

    def _counts(self) -> dict[str, int]:
        taken, lost = self._folded
        for _, ring in self._seats:
            taken += ring.taken
            lost += ring.lost
        taken -= self._came_again
        return {
            "produced": taken + lost,
            "taken": taken,
            "lost": lost,
            "sink_errors": self.sink_errors,
        }

    def reset_after_fork(self) -> None:
        """In a forked child: the parent has the thread and the unflushed records, and keeps them."""
        self._begin()
        self.running = False
        self.begun.clear()
        self.amid.clear()
        self.guests.clear()
        self.unannounced.clear()
        self._doubtful.clear()
        self._backlog.clear()
        for reset in self._after_fork:
            reset()

    def take_seat(self) -> tuple[Callable[[], int], list[Any], int]:
        """A ring for this thread, as its publications need it."""
        seat, ring = _Seat(), Ring(self._capacity)
        with self._seats_lock:
            self._seats.append((weakref.ref(seat), ring))
        if not self.running:
            self.start()
        self._watch_loop()
        if len(self._seats) > _MANY_SEATS:  # of threads that came and went
            self.drain()
        self.local.seat = seat
        self.local.parts = ring.claim, ring.slots, ring.mask
        return ring.claim, ring.slots, ring.mask

    def drain_inline(self) -> None:
        """The request that fills a batch drains one, two if it has to catch up; not if another does."""
        self._watch_loop()
        if not self._drain_lock.acquire(blocking=False):
            return
        self._drained_inline = True
        try:
            if self._drain(BATCH):  # others have drained meanwhile, or read for long
                self._drain(BATCH)
        finally:
            self._drain_lock.release()

    def _watch_loop(self) -> None:
        """Look at the loop that runs here, which may be new: in a new thread, and at each batch."""
        self.sampler.watch_loop()
        for watch in self._loop_watchers:
            watch(self)

    def _drain(self, most: int | None = None) -> bool:
        """Feed the sinks with all that is there, or with ``most``; True when there is more.

        To take a record costs a fifth of a microsecond, to feed the sinks with it ten: what
        has been taken is out of the ring, and need not be fed at once.
        """
        if self._draining:  # by this very thread, further out: the lock is held
            return False
        self._draining = True
        try:
            is_more = self._take(None if most is None else self._capacity // 4 + most)
            if sum(map(len, self._backlog)) > 2 * self._capacity:  # what waits is bounded
                most = None
            left = sys.maxsize if most is None else most
            offset = self.wall_clock() - self.clock()
            while self._backlog and left > 0:
                records = self._backlog.popleft()
                if len(records) > left:
                    self._backlog.appendleft(records[left:])
                    records = records[:left]
                left -= len(records)
                self._feed(self.sinks, records, offset)
            return is_more or bool(self._backlog)
        finally:
            self._draining = False

    def _take(self, most: int | None) -> bool:
        """Take what is in the rings, of each so much or a little more; True when that was not all."""
        is_more = False
        if self._doubtful and (settled := self._settled()):
            self._backlog.append(settled)
        for seat, ring in list(self._seats):
            gone = seat() is None  # asked before taking: nothing can follow the last take
            taken = ring.take(None if gone else most)
            is_more = is_more or (most is not None and len(taken) >= most)
            if records := self._ended(taken):
                self._backlog.append(records)
            if gone:
                self._fold(seat, ring)
        return is_more

    def _ended(self, taken: list[State]) -> list[State]:
        """Those that are over. What goes on is marked, and comes through the ring again when it ends.

        It ends by letting go of its scope, and looks at the mark then: so one of the two sees the
        other, or both do, which `_settled` looks at.
        """
        if not [s for s in taken if s[SCOPE] is not None or s[TAKEN] is not None]:
            return taken
        self._came_again += len([s for s in taken if s[TAKEN] is not None])
        return [state for state in taken if self._has_ended(state)]

    def _has_ended(self, state: State) -> bool:
        if state[SCOPE] is None:
            if state[TAKEN] is None:
                return True
            is_new: bool = state[TAKEN] != DONE
            state[TAKEN] = DONE
            self.amid.pop(id(state), None)
            self.unannounced.pop(id(state), None)
            return is_new
        state[TAKEN] = AMID
        self.amid[id(state)] = self.unannounced[id(state)] = state
        if state[SCOPE] is None:
            self._doubtful.append(state)
        return False

    def _settled(self) -> list[State]:
        """What ended while it was being marked: its thread may have seen the mark, or have not.

        Should it come through the ring after this, it is known as done.
        """
        doubtful, self._doubtful = self._doubtful, []
        return [state for state in doubtful if self._has_ended(state)]

    def in_flight(self) -> int:
        """How many requests and sessions go on, once drained."""
        return len(self.amid) + len(self.guests)

    def _announce(self) -> bool:
        """Tell the log of exchanges that go on, a piece of them; of those that are over the drain
        tells. True when there may be more.

        So a request that ends soon costs one record, and the start of a long one is logged within
        a flush.
        """
        if not self._log_sinks or not self.unannounced:
            return False
        self._draining = True  # a signal handler must neither tell the same nor what follows
        try:
            waiting = (s for s in list(self.unannounced.values()) if self._is_to_tell(s))
            piece = list(islice(waiting, BATCH))
            by_sink: dict[int, list[Record]] = {}
            for state in piece:
                self.unannounced.pop(id(state), None)
                state[ANNOUNCED] = True
                by_sink.setdefault(state[LOGGED], []).append(announcement(state))
            for claim, records in by_sink.items():
                self._feed([self._log_sinks[claim]], records, self.wall_clock() - self.clock())
        finally:
            self._draining = False
        return len(piece) == BATCH

    def _is_to_tell(self, state: State) -> bool:
        """Whether it goes on, and, of a session, has been accepted, and this recorder logs it.

        A frame further in may yet claim it, or it may be for another recorder to tell.
        """
        if state[SCOPE] is None or state[ANNOUNCED]:
            self.unannounced.pop(id(state), None)
            return False
        is_begun = state[SESSION] is None or state[STATUS] == 101
        return is_begun and state[LOGGED] in self._log_sinks

    def _feed(self, sinks: Sequence[Sink], records: Sequence[Record], offset: float) -> None:
        batch = Batch(records, outcomes_of(records), offset)
        for sink in sinks:
            try:
                sink(batch)
            except Exception as error:  # noqa: BLE001  a broken sink must not stop the others
                self._count_sink_error(sink, error)

    def _count_sink_error(self, broken: object, error: Exception) -> None:
        """Count it, and say so once: what goes wrong each time would fill the log."""
        self.sink_errors += 1
        if self.sink_errors == 1:
            logger.error("%r failed; further failures are only counted", broken, exc_info=error)

    def _fold(self, seat: "weakref.ref[_Seat]", ring: Ring) -> None:
        with self._seats_lock:
            self._seats.remove((seat, ring))
            self._folded[0] += ring.taken
            self._folded[1] += ring.lost


def _check_capacity(ring_capacity: int) -> None:
    check_whole("ring_capacity", ring_capacity, least=2 * BATCH, most=_MOST_CAPACITY, example=4096)
    if ring_capacity & (ring_capacity - 1):
        raise ValueError(f"ring_capacity must be a power of two, e.g. 4096; got {ring_capacity!r}")


def _opener(recorder: Recorder) -> Callable[[State], None]:
    """What puts an exchange into the ring as it begins; the drain looks whether it has ended.

    A closure, as those that follow: each look at an attribute of the recorder would cost 10 ns. It
    does not keep the recorder alive, which lasts as long as somebody else uses it.
    """
    local, quarter, recorder_ref = recorder.local, recorder.quarter, weakref.ref(recorder)

    def open_(state: State) -> None:
        try:
            claim, slots, mask = local.parts
        except AttributeError:
            claim, slots, mask = _owner(recorder_ref).take_seat()
        stamp = state[STAMP] = claim()
        slots[stamp & mask] = state
        if stamp & quarter == quarter:
            _owner(recorder_ref).drain_inline()

    return open_


def _publisher(recorder: Recorder) -> Callable[[State], None]:
    """What stores an exchange that has ended; every 64th of a ring drains them all."""
    put, last, recorder_ref = recorder.open, BATCH - 1, weakref.ref(recorder)

    def publish(state: State) -> None:
        put(state)
        if state[STAMP] & last == last:
            _owner(recorder_ref).drain_inline()

    return publish


def _owner(recorder_ref: "weakref.ref[Recorder]") -> Recorder:
    recorder = recorder_ref()
    if recorder is None:
        raise RuntimeError("an exchange was published after its recorder had gone")
    return recorder


def _finisher(recorder: Recorder) -> Callable[[State], None]:
    """What ends an exchange: stamps what is still open, and takes it out of the scope."""
    publish, last, recorder_ref = recorder.publish, BATCH - 1, weakref.ref(recorder)
    clock, sampler = recorder.clock, recorder.sampler

    def finish(state: State) -> None:
        scope = state[SCOPE]
        scope.pop(KEY, None)
        if "route" in scope or "path_template" in scope:
            note_route(state, scope)
        if state[STATUS].__class__ is not int:
            state[STATUS] = plain_status(state[STATUS])
        if state[ENDED] is None:
            state[ENDED] = clock()
        state[MEMORY_AFTER] = sampler.memory_mb
        # Tasks that outlive the request hold its state, and must not hold all of it.
        state[NOW] = state[SEND] = state[SEEN] = state[HELD] = None
        if state[JOINED]:
            tell_joined(state)
        if state[PLACE] is not None:
            _leave(recorder_ref, state)
        state[SCOPE] = None  # from here on it has ended, whoever looks
        if state[TAKEN] is not None:
            publish(state)
        elif state[STAMP] & last == last:
            _owner(recorder_ref).drain_inline()

    return finish


def _leave(recorder_ref: "weakref.ref[Recorder]", state: State) -> None:
    ledger = _owner(recorder_ref).ledger
    if ledger is not None:
        ledger.leave(state)


def tell_joined(state: State) -> None:
    joined, state[JOINED] = state[JOINED], ()
    for recorder in joined:
        recorder.guests.pop(id(state), None)
        recorder.unannounced.pop(id(state), None)
        copy = state.copy()
        copy[SCOPE] = copy[PLACE] = None
        recorder.publish(copy)


def note_route(state: State, scope: Scope) -> None:
    try:
        state[ROUTE] = state[ROUTE] or route_of(scope)  # a hook may know better
        state[PARAMS] = scope.get("path_params") or None
    except Exception:  # noqa: BLE001  the framework's own objects may do anything when looked at
        state[ROUTE] = None


def plain_status(status: object) -> int | None:
    """An http.HTTPStatus is a number; of anything else the server makes what it likes."""
    if status is None or isinstance(status, int):
        return None if status is None else int(status)
    return 500


_LIVE: "weakref.WeakSet[Recorder]" = weakref.WeakSet()
_LEAVING: list[Recorder] = []
_FINALIZED_SECONDS = 0.05
_watched = False


def _watch_process() -> None:
    """Once per process, with the first recorder that runs: flush at exit, start anew after fork."""
    global _watched  # noqa: PLW0603  the process has one exit
    if _watched:
        return
    _watched = True
    atexit.register(flush_all)
    forking = sys.modules.get("multiprocessing.util")
    if forking is not None:  # the processes that it forks, as granian's workers, end without atexit
        forking.Finalize(None, flush_all, exitpriority=0)
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_reset_all)


def flush_all() -> None:
    """Flush every recorder of this process that has run: it is about to end."""
    _let_go()
    for recorder in list(_LIVE):
        recorder.flush()
        if recorder.ledger is not None:
            recorder.ledger.rest()


def _let_go() -> None:
    """Have those that nobody holds any more tell what they have left to tell."""
    while _LEAVING:
        try:
            recorder = _LEAVING.pop()
        except IndexError:  # another thread has it
            return
        recorder.end()


def _reset_all() -> None:
    for recorder in list(_LIVE):
        recorder.reset_after_fork()


def _flush_until_gone(
    recorder_ref: "weakref.ref[Recorder]",
    wake: threading.Event,
    stopped: threading.Event,
    flush_seconds: float,
) -> None:
    """The background thread; it holds no recorder while it waits, and ends with it."""
    while not stopped.is_set():
        if _LEAVING:
            _let_go()
        recorder = recorder_ref()
        if recorder is None:
            time.sleep(_FINALIZED_SECONDS)  # its finalizer comes after its reference has gone
            _let_go()
            return
        recorder.tick()
        del recorder
        wake.wait(flush_seconds)
        wake.clear()
