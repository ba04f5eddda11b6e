# ruff: noqa: SLF001  a slot and its limiter are one thing in two parts
"""Lets so many in at once, has some more wait their turn, and refuses the rest at once."""

import functools
import inspect
import time
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from math import inf, nan
from threading import RLock
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar

from asgi_errorkit.async_library import Wakeup, cancel_scope, wakeup
from asgi_errorkit.errors import OverloadedError
from asgi_errorkit.forks import reset_in_child
from asgi_errorkit.limits import AdaptiveLimit
from asgi_errorkit.options import check_callable, check_number, check_text, check_whole

__all__ = ["ConcurrencyLimiter", "Slot"]

_Given = ParamSpec("_Given")
_Result = TypeVar("_Result")

_MOST_RETRY_SECONDS = 60.0
_OVERLOADED_AFTER_SHARE = 0.1
_HOLD_SHARE = 0.05
_WAITING, _ADMITTED, _REFUSED = range(3)


class Slot:
    """The right to be in flight, until it is released or its ``with`` block ends.

    Any thread may release it; once is enough, and more often changes nothing.
    """

    __slots__ = ("_began_at", "_generation", "_limiter")

    # Set by whoever makes it: a call of __init__ would cost as much as all the rest of it.
    _limiter: "ConcurrencyLimiter"
    _generation: int
    _began_at: float

    def release(self, seconds: float | None = None, *, dropped: bool = False) -> None:
        """Give it back; never raises.

        ``seconds`` is what an `AdaptiveLimit` is told that the call took, such as the time to the
        first byte of a long stream; None is the time since it was had, and NaN tells it nothing.
        ``dropped`` tells it that the call timed out.
        """
        woken: Iterable[_Waiter] = ()
        limiter = self._limiter
        lock = limiter._lock
        lock.acquire()  # a with block costs a hundred nanoseconds more
        try:
            if self._generation != limiter._generation:
                return
            self._generation = 0
            if limiter._adaptive is None and not limiter._line.length:
                limiter._in_flight -= 1
            else:
                woken = limiter._give_back(self._began_at, seconds, dropped)
        finally:
            lock.release()
        for waiter in woken:
            waiter.wakeup.wake()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is None:
            self.release()
        else:
            # What has failed says nothing of how long a call takes, unless it took too long.
            self.release(nan, dropped=issubclass(kind, TimeoutError))


class ConcurrencyLimiter:
    """Keeps at most ``limit`` in flight: as ``async with limiter:``, as ``@limiter``, or by hand.

    Whoever finds it full waits in a bounded queue for a bounded time, or gets an OverloadedError.
    The highest priority goes first; among equals who came first, but once the queue has not been
    empty for a while, who came last, and the time to wait is short: the others may well have given
    up (adaptive LIFO and controlled delay, "Fail at Scale", ACM Queue 13-8, 2015). Whoever would be
    last of all makes room for one who would not be.

    All event loops, of asyncio and trio, and all threads of a process may share it. A cancelled
    waiter leaves the queue, and passes on what it was handed meanwhile. A forked child begins
    with nothing in flight; what its parent held is not given back there.
    """

    def __init__(
        self,
        limit: int | AdaptiveLimit,
        *,
        max_queue: int = 100,
        queue_seconds: float = 1.0,
        overloaded_after_seconds: float | None = None,
        clock: Callable[[], float] = time.monotonic,
        name: str = "",
    ) -> None:
        """A limiter with nothing in flight.

        Args:
            limit: How many may be in flight; an AdaptiveLimit is for this limiter alone.
            max_queue: How many may wait; with 0 nobody does.
            queue_seconds: How long one may wait.
            overloaded_after_seconds: How long the queue is not empty until that is an overload: from
                then on the newest goes first, and who comes waits no longer than this. None is a
                tenth of ``queue_seconds``.
            clock: Tells the seconds; the time of a wait itself is the event loop's.
            name: Tells it from others in `as_dict`.

        Raises TypeError or ValueError for what does not fit.
        """
        check_whole("max_queue", max_queue, least=0, example=100)
        check_number("queue_seconds", queue_seconds, above=0, example=1.0)
        if overloaded_after_seconds is not None:
            check_number("overloaded_after_seconds", overloaded_after_seconds, least=0, example=0.1)
        check_callable("clock", clock)
        check_text("name", name, example="model")
        self.name = name
        self._max_queue = max_queue
        self._queue_seconds = queue_seconds
        self._overloaded_after = (
            queue_seconds * _OVERLOADED_AFTER_SHARE
            if overloaded_after_seconds is None
            else overloaded_after_seconds
        )
        self._clock = clock
        self._generation = 0
        self._adopt(limit)
        self.reset_after_fork()
        reset_in_child(self)

    @property
    def limit(self) -> int:
        """How many may be in flight now."""
        return self._limit

    @property
    def learns(self) -> bool:
        """Whether it asks how long calls take, to find its limit."""
        return self._adaptive is not None

    @property
    def in_flight(self) -> int:
        """How many are in flight; above the limit only after the limit has shrunk."""
        return self._in_flight

    @property
    def queued(self) -> int:
        """How many wait."""
        return self._line.length

    def resize(self, limit: int | AdaptiveLimit) -> None:
        """Take another limit; nobody in flight is disturbed, and whom it has room for comes in."""
        with self._lock:
            self._adopt(limit)
            woken = self._let_in()
        _wake(woken)

    def try_acquire(self) -> Slot | None:
        """A slot at once, or None; for code that cannot wait, in any thread."""
        with self._lock:
            if self._in_flight < self._limit:
                slot = self._slot(self._generation)
                self._in_flight += 1
                self._admitted += 1
                return slot
            self._refused["limit"] += 1
            return None

    def slot_now(self) -> Slot:
        """A slot at once, as in ``with limiter.slot_now():``; raises OverloadedError if full."""
        slot = self.try_acquire()
        if slot is None:
            raise OverloadedError("limit", retry_after_seconds=self._retry_after())
        return slot

    async def acquire(self, priority: int = 0) -> Slot:
        """A slot, after a wait if need be; raises OverloadedError when there is none to be had.

        Its ``reason`` is "limit" where nobody may wait, "queue" for one whom the queue has no room
        for, or no longer, and "queue_timeout" when the time is up. The highest priority goes first.
        """
        # As try_acquire, spelled out: this is every call's way in, and a call costs as much as all
        # of it, a with block a hundred nanoseconds more.
        lock = self._lock
        lock.acquire()
        try:
            if self._in_flight < self._limit:
                slot = Slot()
                slot._limiter = self
                slot._generation = self._generation
                slot._began_at = self._clock()
                self._in_flight += 1
                self._admitted += 1
                return slot
        finally:
            lock.release()
        return await self._wait(priority)

    def slot(self, priority: int = 0) -> "_Entry":
        """For ``async with limiter.slot(priority=1):``, which gives the Slot; as `acquire`."""
        return _Entry(self, priority)

    async def __aenter__(self) -> Slot:
        slot = await self.acquire()
        self._entered.append(slot)
        return slot

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # Of those that came in by this door any will do: each is one in flight, and their times
        # add up to the same. Which is whose a task cannot tell where another one leaves for it.
        try:
            slot = self._entered.pop()
        except IndexError:  # it came in before a fork
            return
        slot.__exit__(kind, exc, traceback)

    def __call__(
        self, function: Callable[_Given, Awaitable[_Result]]
    ) -> Callable[_Given, Coroutine[Any, Any, _Result]]:
        """The async function, each call of which takes a slot first. Raises TypeError for others."""
        if not inspect.iscoroutinefunction(function):
            raise TypeError(
                f"a limiter decorates async functions only; got {function!r:.200} "
                "(in others write: with limiter.slot_now():)"
            )

        @functools.wraps(function)
        async def limited(*args: _Given.args, **kwargs: _Given.kwargs) -> _Result:
            with await self.acquire():
                return await function(*args, **kwargs)

        return limited

    def as_dict(self) -> dict[str, Any]:
        """What it has done so far, and how it stands; the waits are of those who got in."""
        with self._lock:
            waited = self._waited
            return {
                "name": self.name,
                "limit": self._limit,
                "in_flight": self._in_flight,
                "queued": self._line.length,
                "admitted": self._admitted,
                "refused": dict(self._refused),
                "waited": waited,
                "queue_seconds_mean": self._wait_seconds / waited if waited else 0.0,
                "queue_seconds_max": self._wait_seconds_max,
                "limit_errors": self._limit_errors,
            }

    def reset_after_fork(self) -> None:
        """Begin with nothing in flight: in a forked child, before anything else runs there."""
        self._lock = RLock()  # what the collector runs within a locked part may release, too
        self._generation += 1
        self._in_flight = 0
        self._line = _Line(self._overloaded_after)
        self._entered: list[Slot] = []
        self._hold_seconds = 0.0
        self._admitted = 0
        self._refused: Counter[str] = Counter(limit=0, queue=0, queue_timeout=0)
        self._waited = 0
        self._wait_seconds = 0.0
        self._wait_seconds_max = 0.0
        self._limit_errors = 0

    def _slot(self, generation: int) -> Slot:
        slot = Slot()
        slot._limiter = self
        slot._generation = generation
        slot._began_at = self._clock()
        return slot

    def _adopt(self, limit: int | AdaptiveLimit) -> None:
        if isinstance(limit, AdaptiveLimit):
            self._adaptive: AdaptiveLimit | None = limit
            self._limit = limit.limit
            return
        check_whole("limit", limit, least=1, example=20)
        self._adaptive = None
        self._limit = limit

    async def _wait(self, priority: int) -> Slot:
        waiter = _Waiter(self._clock(), priority, wakeup())
        with self._lock:
            refused = self._line_up(waiter)
        _wake(refused)
        if waiter.state == _WAITING:
            try:
                with cancel_scope(waiter.seconds):
                    await waiter.wakeup.wait()
            except BaseException:
                self._leave(waiter)
                raise
        return self._outcome(waiter)

    def _line_up(self, waiter: "_Waiter") -> Iterable["_Waiter"]:
        """Queue it, and refuse whoever is one too many, be it itself; who is must be woken."""
        if self._in_flight < self._limit:  # somebody has left since it was full
            self._admit(waiter)
            return ()
        self._line.add(waiter)
        waiter.seconds = self._queue_seconds
        if self._line.is_overloaded(waiter.since):
            waiter.seconds = min(self._queue_seconds, self._overloaded_after)
        if self._line.length <= self._max_queue:
            return ()
        last = self._line.last(waiter.since)
        self._line.remove(last)
        self._refuse(last, "queue" if self._max_queue else "limit")
        return (last,)

    def _admit(self, waiter: "_Waiter") -> None:
        waiter.state = _ADMITTED
        waiter.generation = self._generation
        self._in_flight += 1
        self._admitted += 1
        seconds = max(0.0, self._clock() - waiter.since)
        self._waited += 1
        self._wait_seconds += seconds
        self._wait_seconds_max = max(self._wait_seconds_max, seconds)

    def _refuse(self, waiter: "_Waiter", reason: str) -> None:
        waiter.state = _REFUSED
        waiter.reason = reason
        self._refused[reason] += 1

    def _let_in(self) -> list["_Waiter"]:
        """Hand the free slots to those who wait; they must be woken outside of the lock."""
        woken = []
        while self._line.length and self._in_flight < self._limit:
            waiter = self._line.next(self._clock())
            self._line.remove(waiter)
            self._admit(waiter)
            woken.append(waiter)
        return woken

    def _outcome(self, waiter: "_Waiter") -> Slot:
        with self._lock:
            if waiter.state == _WAITING:
                self._line.remove(waiter)
                self._refuse(waiter, "queue_timeout")
        if waiter.state == _REFUSED:
            raise OverloadedError(waiter.reason, retry_after_seconds=self._retry_after())
        return self._slot(waiter.generation)

    def _leave(self, waiter: "_Waiter") -> None:
        """It has been cancelled; what it was handed in the same moment goes to another."""
        with self._lock:
            is_waiting = waiter.state == _WAITING
            if is_waiting:
                self._line.remove(waiter)
        if not is_waiting and waiter.state == _ADMITTED:
            self._slot(waiter.generation).release(nan)

    def _give_back(
        self, began_at: float, seconds: float | None, dropped: bool
    ) -> Iterable["_Waiter"]:
        try:
            self._learn(self._clock() - began_at if seconds is None else seconds, dropped)
        except Exception:  # noqa: BLE001  a clock or a limit that breaks must not keep the slot
            self._limit_errors += 1
        self._in_flight -= 1
        return self._let_in()

    def _learn(self, seconds: float, dropped: bool) -> None:
        if 0 <= seconds < inf:
            self._hold_seconds += (seconds - self._hold_seconds) * _HOLD_SHARE
        adaptive = self._adaptive
        if adaptive is None:
            return
        if dropped:
            adaptive.dropped()
        else:
            adaptive.observe(seconds, self._in_flight)
        self._limit = adaptive.limit

    def _retry_after(self) -> float:
        """When those who wait now may have had their turn."""
        seconds = self._hold_seconds * (self._line.length + 1) / self._limit
        return max(1.0, min(_MOST_RETRY_SECONDS, seconds))


class _Waiter:
    """One who waits; all but its wakeup is read and written under the limiter's lock."""

    __slots__ = ("generation", "priority", "reason", "seconds", "since", "state", "wakeup")

    def __init__(self, since: float, priority: int, wakes: Wakeup) -> None:
        check_whole("priority", priority, least=-(2**31), example=0)
        self.since = since
        self.priority = priority
        self.wakeup = wakes
        self.state = _WAITING
        self.seconds = 0.0
        self.reason = ""
        self.generation = 0


class _Line:
    """Those who wait, in the order of their turns; the limiter's lock guards it."""

    __slots__ = ("_busy_since", "_overloaded_after", "_queues", "length")

    def __init__(self, overloaded_after: float) -> None:
        self._overloaded_after = overloaded_after
        self._busy_since = 0.0
        self._queues: dict[int, OrderedDict[_Waiter, None]] = {}  # without empty ones
        self.length = 0

    def add(self, waiter: _Waiter) -> None:
        if not self.length:
            self._busy_since = waiter.since
        queue = self._queues.get(waiter.priority)
        if queue is None:
            queue = self._queues[waiter.priority] = OrderedDict()
        queue[waiter] = None
        self.length += 1

    def remove(self, waiter: _Waiter) -> None:
        queue = self._queues.get(waiter.priority)
        if queue is None or waiter not in queue:  # it lined up before a fork
            return
        del queue[waiter]
        if not queue:
            del self._queues[waiter.priority]
        self.length -= 1

    def next(self, now: float) -> _Waiter:
        """Whose turn it is."""
        queue = self._queues[max(self._queues)]
        return next(reversed(queue) if self.is_overloaded(now) else iter(queue))

    def last(self, now: float) -> _Waiter:
        """Whose turn would come after everybody's."""
        queue = self._queues[min(self._queues)]
        return next(iter(queue) if self.is_overloaded(now) else reversed(queue))

    def is_overloaded(self, now: float) -> bool:
        return now - self._busy_since > self._overloaded_after


class _Entry:
    """One way in; it may be used again after it has been left."""

    __slots__ = ("_limiter", "_priority", "_slot")

    _slot: Slot

    def __init__(self, limiter: ConcurrencyLimiter, priority: int) -> None:
        self._limiter = limiter
        self._priority = priority

    async def __aenter__(self) -> Slot:
        self._slot = await self._limiter.acquire(self._priority)
        return self._slot

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._slot.__exit__(kind, exc, traceback)


def _wake(waiters: Iterable[_Waiter]) -> None:
    for waiter in waiters:
        waiter.wakeup.wake()
