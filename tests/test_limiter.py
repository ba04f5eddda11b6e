"""Nobody gets in beside the limit, nobody waits where there is room, and no slot is ever lost."""

import asyncio
import gc
import os
import subprocess
import sys
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from math import isnan, nan
from typing import Any, Self
from weakref import ref

import pytest
import trio
import trio.testing
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from asgi_errorkit.errors import OverloadedError
from asgi_errorkit.limiter import ConcurrencyLimiter, Slot
from asgi_errorkit.limits import AdaptiveLimit
from asgi_errorkit.testing import HandClock


@pytest.mark.parametrize(
    ("options", "raised"),
    [
        ({"limit": 0}, ValueError),
        ({"limit": True}, TypeError),
        ({"limit": 2.0}, TypeError),
        ({"max_queue": -1}, ValueError),
        ({"queue_seconds": 0}, ValueError),
        ({"queue_seconds": nan}, ValueError),
        ({"overloaded_after_seconds": -1}, ValueError),
        ({"clock": 3}, TypeError),
        ({"name": None}, TypeError),
    ],
    ids=str,
)
def test_what_does_not_fit_is_refused_by_name(
    options: dict[str, Any], raised: type[Exception]
) -> None:
    with pytest.raises(raised, match=next(iter(options))):
        ConcurrencyLimiter(**{"limit": 1, **options})


# Without a wait


def test_the_sync_door_never_waits() -> None:
    limiter = ConcurrencyLimiter(1)
    slot = limiter.try_acquire()
    assert slot is not None
    assert limiter.try_acquire() is None
    with pytest.raises(OverloadedError) as caught, limiter.slot_now():
        pass
    assert caught.value.reason == "limit"
    slot.release()
    with limiter.slot_now():
        assert limiter.in_flight == 1
    assert limiter.in_flight == 0


def test_a_slot_released_twice_counts_once() -> None:
    limiter = ConcurrencyLimiter(2)
    one, _two = limiter.slot_now(), limiter.slot_now()
    one.release()
    one.release(dropped=True)
    assert limiter.in_flight == 1


@pytest.mark.parametrize("told", ["nonsense", object()], ids=["text", "object"])
def test_a_release_never_raises_and_never_keeps_the_slot(told: Any) -> None:
    limiter = ConcurrencyLimiter(AdaptiveLimit())
    limiter.slot_now().release(told)
    assert (limiter.in_flight, limiter.as_dict()["limit_errors"]) == (0, 1)


def test_a_clock_that_breaks_lets_nobody_in_and_keeps_nobody() -> None:
    ticks = iter([1.0])
    limiter = ConcurrencyLimiter(AdaptiveLimit(), clock=lambda: next(ticks))
    slot = limiter.slot_now()
    slot.release()
    with pytest.raises(StopIteration):
        limiter.slot_now()
    assert (limiter.in_flight, limiter.as_dict()["limit_errors"]) == (0, 1)


def test_what_fails_tells_nothing_of_time_and_a_timeout_is_a_drop() -> None:
    class Told(AdaptiveLimit):
        heard: list[Any] = []  # noqa: RUF012

        def observe(self, seconds: float, in_flight: int) -> None:
            self.heard.append((not isnan(seconds), in_flight))

        def dropped(self) -> None:
            self.heard.append("dropped")

    limiter = ConcurrencyLimiter(Told())
    for error in (ValueError, TimeoutError):
        with pytest.raises(error), limiter.slot_now():
            raise error
    with limiter.slot_now():
        pass
    assert Told.heard == [(False, 1), "dropped", (True, 1)]


def test_only_async_functions_are_decorated() -> None:
    with pytest.raises(TypeError, match="slot_now"):
        ConcurrencyLimiter(1)(lambda: None)  # type: ignore[arg-type,return-value]


async def test_a_decorated_function_keeps_its_name_result_and_error() -> None:
    limiter = ConcurrencyLimiter(1, max_queue=0)

    @limiter
    async def half(number: int, *, fails: bool = False) -> float:
        assert limiter.in_flight == 1
        if fails:
            raise ValueError(number)
        return number / 2

    assert (half.__name__, await half(3)) == ("half", 1.5)
    with pytest.raises(ValueError, match="3"):
        await half(3, fails=True)
    assert limiter.in_flight == 0


async def test_entered_twice_by_one_task_is_two_slots() -> None:
    limiter = ConcurrencyLimiter(2)
    async with limiter:
        async with limiter.slot(priority=1) as slot:
            assert (isinstance(slot, Slot), limiter.in_flight) == (True, 2)
        assert limiter.in_flight == 1
    assert limiter.in_flight == 0


async def test_another_task_may_leave_for_the_one_that_entered() -> None:
    """As fixtures and dependencies with a yield are left."""
    limiter = ConcurrencyLimiter(2)
    await asyncio.create_task(limiter.__aenter__())
    await asyncio.create_task(limiter.__aexit__(None, None, None))
    await limiter.__aexit__(None, None, None)  # once too often
    assert limiter.in_flight == 0


async def test_a_slot_entered_with_async_with_may_be_released_early() -> None:
    limiter = ConcurrencyLimiter(1)
    async with limiter as slot:
        slot.release()
        assert limiter.in_flight == 0
        async with limiter:
            assert limiter.in_flight == 1
    assert limiter.in_flight == 0


# With a wait, in both libraries


def in_asyncio(main: Coroutine[Any, Any, None]) -> None:
    asyncio.run(main)


def in_trio(main: Coroutine[Any, Any, None]) -> None:
    async def run() -> None:
        await main

    trio.run(run, clock=trio.testing.MockClock(autojump_threshold=0))


LIBRARIES = pytest.mark.parametrize("run", [in_asyncio, in_trio], ids=["asyncio", "trio"])


class Tasks:
    """What several tasks got: a slot, the reason of a refusal, or "cancelled"; in either library."""

    def __init__(self, limiter: ConcurrencyLimiter) -> None:
        self.limiter = limiter
        self.got: dict[str, Any] = {}
        self.order: list[str] = []
        self._scopes: dict[str, Any] = {}
        self._nursery: Any = None

    async def __aenter__(self) -> Self:
        if is_trio():
            self._opened = trio.open_nursery()
            self._nursery = await self._opened.__aenter__()
        return self

    async def __aexit__(self, *raised: object) -> None:
        if self._nursery is not None:
            self._nursery.cancel_scope.cancel()
            await self._opened.__aexit__(*raised)
            return
        for task in self._scopes.values():
            task.cancel()
        await asyncio.gather(*self._scopes.values(), return_exceptions=True)

    async def start(self, name: str, priority: int = 0) -> None:
        if self._nursery is None:
            self._scopes[name] = asyncio.create_task(self._acquire(name, priority))
        else:
            self._scopes[name] = trio.CancelScope()
            self._nursery.start_soon(self._in_scope, name, priority)
        await settle()

    def cancel(self, name: str) -> None:
        self._scopes[name].cancel()

    async def _in_scope(self, name: str, priority: int) -> None:
        with self._scopes[name]:
            await self._acquire(name, priority)

    async def _acquire(self, name: str, priority: int) -> None:
        try:
            self.got[name] = await self.limiter.acquire(priority)
        except OverloadedError as refused:
            self.got[name] = refused.reason
        except BaseException:
            self.got[name] = "cancelled"
            raise
        else:
            self.order.append(name)


def is_trio() -> bool:
    return trio.lowlevel.in_trio_task()


async def settle() -> None:
    for _ in range(6):
        await (trio.lowlevel.checkpoint() if is_trio() else asyncio.sleep(0))


async def pause(seconds: float) -> None:
    await (trio.sleep(seconds) if is_trio() else asyncio.sleep(seconds))


@LIBRARIES
def test_nobody_waits_where_no_queue_is(run: Any) -> None:
    async def main() -> None:
        limiter = ConcurrencyLimiter(1, max_queue=0)
        async with limiter:
            with pytest.raises(OverloadedError) as caught:
                await limiter.acquire()
        assert caught.value.reason == "limit"
        assert limiter.as_dict()["refused"] == {"limit": 1, "queue": 0, "queue_timeout": 0}

    run(main())


@LIBRARIES
def test_a_wait_ends_when_its_time_is_up(run: Any) -> None:
    async def main() -> None:
        limiter = ConcurrencyLimiter(1, queue_seconds=0.02)
        async with limiter:
            with pytest.raises(OverloadedError) as caught:
                await limiter.acquire()
        assert caught.value.reason == "queue_timeout"
        assert caught.value.retry_after_seconds is not None
        assert (limiter.queued, limiter.in_flight) == (0, 0)

    run(main())


@LIBRARIES
def test_a_slot_handed_over_as_the_time_is_up_is_taken(run: Any) -> None:
    async def main() -> None:
        limiter = ConcurrencyLimiter(1, queue_seconds=0.02)
        async with Tasks(limiter) as tasks:
            held = limiter.slot_now()
            await tasks.start("a")
            if not is_trio():
                asyncio.get_running_loop().call_later(0.02, held.release)
                await pause(0.1)
            else:
                await pause(0.02)
                held.release()
                await settle()
            got = tasks.got["a"]
            in_flight = int(isinstance(got, Slot))
            assert in_flight or got == "queue_timeout"
            assert (limiter.in_flight, limiter.queued) == (in_flight, 0)

    run(main())


@LIBRARIES
def test_a_full_queue_refuses_the_next(run: Any) -> None:
    async def main() -> None:
        limiter = ConcurrencyLimiter(1, max_queue=1, queue_seconds=9)
        async with Tasks(limiter) as tasks, limiter:
            await tasks.start("first")
            await tasks.start("second")
            assert tasks.got == {"second": "queue"}
        assert limiter.queued == 0

    run(main())


@LIBRARIES
def test_who_came_first_goes_first(run: Any) -> None:
    async def main() -> None:
        limiter = ConcurrencyLimiter(1, clock=HandClock(), queue_seconds=9)
        async with Tasks(limiter) as tasks:
            held = limiter.slot_now()
            for name in "abc":
                await tasks.start(name)
            held.release()
            for name in "abc":
                await settle()
                tasks.got[name].release()
            assert tasks.order == list("abc")
            assert (limiter.in_flight, limiter.queued) == (0, 0)

    run(main())


@LIBRARIES
def test_the_newest_goes_first_once_the_queue_lasts(run: Any) -> None:
    async def main() -> None:
        clock = HandClock()
        limiter = ConcurrencyLimiter(1, clock=clock, queue_seconds=9, overloaded_after_seconds=0.1)
        async with Tasks(limiter) as tasks:
            held = limiter.slot_now()
            for name in "abc":
                await tasks.start(name)
            clock.move(0.11)
            held.release()
            for name in "cba":
                await settle()
                tasks.got[name].release()
            assert tasks.order == list("cba")

    run(main())


@LIBRARIES
def test_who_comes_once_the_queue_lasts_waits_a_short_time_only(run: Any) -> None:
    async def main() -> None:
        clock = HandClock()
        limiter = ConcurrencyLimiter(1, clock=clock, queue_seconds=9, overloaded_after_seconds=0.02)
        async with Tasks(limiter) as tasks, limiter:
            await tasks.start("first")
            clock.move(0.03)
            await tasks.start("second")
            await pause(0.05)
            assert tasks.got == {"second": "queue_timeout"}

    run(main())


@LIBRARIES
def test_the_highest_priority_goes_first_however_late(run: Any) -> None:
    async def main() -> None:
        clock = HandClock()
        limiter = ConcurrencyLimiter(1, clock=clock, queue_seconds=9)
        async with Tasks(limiter) as tasks:
            held = limiter.slot_now()
            for name, priority in (("low", -1), ("usual", 0), ("high", 5), ("usual 2", 0)):
                await tasks.start(name, priority)
            held.release()
            for name in ("high", "usual", "usual 2", "low"):
                await settle()
                tasks.got[name].release()
            assert tasks.order == ["high", "usual", "usual 2", "low"]

    run(main())


@LIBRARIES
@pytest.mark.parametrize(
    ("lasts", "displaced"), [(0.0, "second"), (0.2, "first")], ids=["queue is young", "and old"]
)
def test_a_higher_priority_displaces_whose_turn_would_be_last(
    run: Any, lasts: float, displaced: str
) -> None:
    async def main() -> None:
        clock = HandClock()
        limiter = ConcurrencyLimiter(
            1, max_queue=2, queue_seconds=9, overloaded_after_seconds=0.1, clock=clock
        )
        async with Tasks(limiter) as tasks, limiter:
            await tasks.start("first")
            await tasks.start("second")
            clock.move(lasts)
            await tasks.start("third", 1)
            await tasks.start("fourth", -1)
            assert tasks.got == {displaced: "queue", "fourth": "queue"}

    run(main())


@LIBRARIES
def test_a_cancelled_waiter_leaves_the_queue(run: Any) -> None:
    async def main() -> None:
        limiter = ConcurrencyLimiter(1, queue_seconds=9)
        async with Tasks(limiter) as tasks:
            held = limiter.slot_now()
            await tasks.start("a")
            await tasks.start("b")
            tasks.cancel("a")
            await settle()
            assert limiter.queued == 1
            held.release()
            await settle()
            assert tasks.order == ["b"]
            assert tasks.got["a"] == "cancelled"

    run(main())


@LIBRARIES
def test_who_is_cancelled_with_the_slot_in_hand_passes_it_on(run: Any) -> None:
    async def main() -> None:
        limiter = ConcurrencyLimiter(1, queue_seconds=9)
        async with Tasks(limiter) as tasks:
            held = limiter.slot_now()
            await tasks.start("a")
            await tasks.start("b")
            held.release()
            tasks.cancel("a")
            await settle()
            # trio lets one finish whom it has woken already; then it has the slot, and only then
            if tasks.got["a"] != "cancelled":
                tasks.got["a"].release()
                await settle()
            assert tasks.order[-1] == "b"
            tasks.got["b"].release()
            assert (limiter.in_flight, limiter.queued) == (0, 0)

    run(main())


@LIBRARIES
def test_a_priority_that_is_none_is_refused_before_anybody_waits(run: Any) -> None:
    async def main() -> None:
        limiter = ConcurrencyLimiter(1)
        async with limiter:
            with pytest.raises(TypeError, match="priority"):
                await limiter.acquire("high")  # type: ignore[arg-type]
            assert limiter.queued == 0

    run(main())


@LIBRARIES
def test_a_limit_that_shrinks_lets_nobody_in_until_it_fits(run: Any) -> None:
    async def main() -> None:
        limiter = ConcurrencyLimiter(3, queue_seconds=9)
        async with Tasks(limiter) as tasks:
            held = [limiter.slot_now() for _ in range(3)]
            await tasks.start("a")
            limiter.resize(1)
            for slot in held[:2]:
                slot.release()
                await settle()
            assert (tasks.got, limiter.in_flight) == ({}, 1)
            held[2].release()
            await settle()
            assert tasks.order == ["a"]

    run(main())


@LIBRARIES
def test_a_limit_that_grows_lets_in_who_waits(run: Any) -> None:
    async def main() -> None:
        limiter = ConcurrencyLimiter(1, queue_seconds=9)
        async with Tasks(limiter) as tasks, limiter:
            for name in "abc":
                await tasks.start(name)
            limiter.resize(3)
            await settle()
            assert (sorted(tasks.order), limiter.in_flight, limiter.queued) == (["a", "b"], 3, 1)

    run(main())


async def test_an_adaptive_limit_is_told_and_followed() -> None:
    clock = HandClock()
    limiter = ConcurrencyLimiter(AdaptiveLimit(start=4), clock=clock)
    assert limiter.limit == 4
    for _ in range(20):
        slots = [limiter.slot_now() for _ in range(4)]
        clock.move(0.02)
        for slot in slots:
            slot.release()
    assert limiter.limit > 4
    limiter.slot_now().release(dropped=True)
    assert limiter.as_dict()["limit_errors"] == 0


async def test_a_waiter_whose_coroutine_is_thrown_away_leaves() -> None:
    limiter = ConcurrencyLimiter(1)
    held = limiter.slot_now()
    waiting = limiter.acquire()
    waiting.send(None)
    waiting.close()
    assert limiter.queued == 0
    held.release()


async def test_a_refused_one_is_told_to_return_when_the_queue_may_be_empty() -> None:
    clock = HandClock()
    limiter = ConcurrencyLimiter(1, max_queue=1, clock=clock, queue_seconds=9)
    async with Tasks(limiter) as tasks:
        for _ in range(100):
            held = limiter.slot_now()
            await tasks.start("a")
            clock.move(10)
            held.release()
            await settle()
            tasks.got.pop("a").release()
        async with limiter:
            await tasks.start("a")
            with pytest.raises(OverloadedError) as caught:
                limiter.slot_now()
    assert caught.value.retry_after_seconds == pytest.approx(20, rel=0.1)


async def test_it_tells_what_it_has_done() -> None:
    clock = HandClock()
    limiter = ConcurrencyLimiter(1, max_queue=1, clock=clock, name="model", queue_seconds=9)
    async with Tasks(limiter) as tasks:
        held = limiter.slot_now()
        await tasks.start("a")
        assert limiter.as_dict()["queued"] == 1
        clock.move(0.5)
        held.release()
        await settle()
        assert limiter.as_dict() == {
            "name": "model",
            "limit": 1,
            "in_flight": 1,
            "queued": 0,
            "admitted": 2,
            "refused": {"limit": 0, "queue": 0, "queue_timeout": 0},
            "waited": 1,
            "queue_seconds_mean": 0.5,
            "queue_seconds_max": 0.5,
            "limit_errors": 0,
        }


# Several threads and loops, and forks


def test_threads_and_loops_of_both_libraries_share_it() -> None:
    """Never more in flight than the limit, everybody gets in, and nothing is left over."""
    limiter = ConcurrencyLimiter(3, max_queue=1_000, queue_seconds=60)
    lock, inside, most, done = threading.Lock(), [0], [0], [0]

    @contextmanager
    def counted() -> Iterator[None]:
        with lock:
            inside[0] += 1
            most[0] = max(most[0], inside[0])
        yield
        with lock:
            inside[0] -= 1
            done[0] += 1

    async def one() -> None:
        async with limiter.slot():
            with counted():
                await pause(0.0005)

    async def of_asyncio() -> None:
        for _ in range(10):
            await asyncio.gather(*(one() for _ in range(10)))

    async def of_trio() -> None:
        for _ in range(10):
            async with trio.open_nursery() as nursery:
                for _ in range(10):
                    nursery.start_soon(one)

    def of_thread() -> None:
        left = 100
        while left:
            slot = limiter.try_acquire()
            if slot is not None:
                with slot, counted():
                    left -= 1

    threads = [
        threading.Thread(target=lambda: asyncio.run(of_asyncio())),
        threading.Thread(target=lambda: asyncio.run(of_asyncio())),
        threading.Thread(target=lambda: trio.run(of_trio)),
        threading.Thread(target=of_thread),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert (done[0], inside[0], limiter.in_flight, limiter.queued) == (400, 0, 0, 0)
    assert most[0] <= 3


FORKED = """
import os, threading
from asgi_errorkit.limiter import ConcurrencyLimiter
limiter = ConcurrencyLimiter(2)
held = limiter.slot_now()
limiter._lock.acquire()  # as another thread may have at the moment of the fork
child = os.fork()
if child == 0:
    assert limiter.in_flight == 0
    own = limiter.slot_now()
    held.release()
    assert limiter.in_flight == 1
    thread = threading.Thread(target=own.release)
    thread.start()
    thread.join(5)
    os._exit(limiter.in_flight)
limiter._lock.release()
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert limiter.in_flight == 1
held.release()
assert limiter.in_flight == 0
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks here")
def test_a_forked_child_begins_with_nothing_in_flight() -> None:
    """And what its parent holds is not given back there."""
    done = subprocess.run(
        [sys.executable, "-c", FORKED], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_neither_library_is_imported() -> None:
    code = "import sys, asgi_errorkit.limiter as l; l.ConcurrencyLimiter(1).slot_now().release()\n"
    code += "assert not {'asyncio', 'trio'} & set(sys.modules)"
    package = "import sys, types; p = types.ModuleType('asgi_errorkit')\n"
    package += "p.__path__ = ['asgi_errorkit']; sys.modules['asgi_errorkit'] = p\n"
    done = subprocess.run(
        [sys.executable, "-c", package + code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


# Against a model


class Model(RuleBasedStateMachine):
    """What a list and sorting would do, step by step; time stands still but for `move`."""

    MAX_QUEUE = 3
    SECONDS = 1.0
    OVERLOADED_AFTER = 0.25  # what is exact in binary, as both sides add up

    def __init__(self) -> None:
        super().__init__()
        self.clock = HandClock()
        self.loop = asyncio.new_event_loop()
        self.loop.time = self.clock  # type: ignore[method-assign]
        self.limiter = ConcurrencyLimiter(
            2,
            max_queue=self.MAX_QUEUE,
            queue_seconds=self.SECONDS,
            overloaded_after_seconds=self.OVERLOADED_AFTER,
            clock=self.clock,
        )
        self.tasks: list[asyncio.Task[Slot]] = []
        self.ends: list[str] = []  # what the model says of each task
        self.inside: list[int] = []
        self.waiting: list[tuple[int, int, float]] = []  # number, priority, until
        self.busy_since = 0.0
        self.limit = 2

    def teardown(self) -> None:
        for number in list(self.inside):
            self.tasks[number].result().release()
        for task in self.tasks:
            task.cancel()
        self._settle()
        for task in self.tasks:
            if not task.cancelled() and not task.exception():
                task.result().release()
        assert (self.limiter.in_flight, self.limiter.queued) == (0, 0)
        self.loop.close()

    def _settle(self) -> None:
        self.loop.run_until_complete(self._turns())

    async def _turns(self) -> None:
        for _ in range(8):
            await asyncio.sleep(0)

    def _overloaded(self) -> bool:
        return self.clock.at - self.busy_since > self.OVERLOADED_AFTER

    def _in_order(self) -> list[tuple[int, int, float]]:
        """Oldest first is the order of the list itself."""
        waiting = self.waiting[::-1] if self._overloaded() else list(self.waiting)
        return sorted(waiting, key=lambda one: -one[1])

    def _let_in(self) -> None:
        while self.waiting and len(self.inside) < self.limit:
            one = self._in_order()[0]
            self.waiting.remove(one)
            self.inside.append(one[0])
            self.ends[one[0]] = "in"

    def _leave(self, number: int, end: str) -> None:
        self.waiting = [one for one in self.waiting if one[0] != number]
        self.ends[number] = end

    @rule(priority=st.integers(-1, 1))
    def acquire(self, priority: int) -> None:
        number = len(self.tasks)
        self.tasks.append(self.loop.create_task(self.limiter.acquire(priority)))
        self.ends.append("waiting")
        self._settle()
        if len(self.inside) < self.limit:
            self.inside.append(number)
            self.ends[number] = "in"
            return
        if not self.waiting:
            self.busy_since = self.clock.at
        until = self.clock.at + (self.OVERLOADED_AFTER if self._overloaded() else self.SECONDS)
        self.waiting.append((number, priority, until))
        if len(self.waiting) > self.MAX_QUEUE:
            self._leave(self._in_order()[-1][0], "queue")

    @precondition(lambda self: self.inside)
    @rule(pick=st.integers(0, 9), times=st.integers(1, 2))
    def release(self, pick: int, times: int) -> None:
        number = self.inside.pop(pick % len(self.inside))
        for _ in range(times):
            self.tasks[number].result().release()
        self.ends[number] = "done"
        self._let_in()
        self._settle()

    @precondition(lambda self: self.waiting)
    @rule(pick=st.integers(0, 9))
    def cancel(self, pick: int) -> None:
        number = self.waiting[pick % len(self.waiting)][0]
        self.tasks[number].cancel()
        self._leave(number, "cancelled")
        self._settle()

    @precondition(lambda self: self.waiting and len(self.inside) == self.limit)
    @rule(pick=st.integers(0, 9))
    def release_and_cancel_the_heir(self, pick: int) -> None:
        """In the same turn of the loop: the slot is in its hand, and it does not know yet."""
        number = self.inside.pop(pick % len(self.inside))
        heir = self._in_order()[0][0]
        self.tasks[number].result().release()
        self.tasks[heir].cancel()
        self.ends[number] = "done"
        self._leave(heir, "cancelled")
        self._let_in()
        self._settle()

    @precondition(lambda self: self.waiting and len(self.inside) == self.limit)
    @rule(pick=st.integers(0, 9))
    def release_and_time_out_the_heir(self, pick: int) -> None:
        """The slot is in its hand as its time is up: it has the slot."""
        number = self.inside.pop(pick % len(self.inside))
        heir = self._in_order()[0]
        self.tasks[number].result().release()
        self.ends[number] = "done"
        self._let_in()
        assert heir not in self.waiting
        self.move(self.SECONDS)

    @rule(seconds=st.sampled_from([0.125, 0.25, 0.5, 1.0]))
    def move(self, seconds: float) -> None:
        self.clock.move(seconds)
        self._settle()
        for number, _, until in list(self.waiting):
            if until <= self.clock.at:
                self._leave(number, "queue_timeout")

    @rule(limit=st.integers(1, 4))
    def resize(self, limit: int) -> None:
        self.limit = limit
        self.limiter.resize(limit)
        self._let_in()
        self._settle()

    @rule()
    def try_acquire(self) -> None:
        slot = self.limiter.try_acquire()
        assert (slot is not None) == (len(self.inside) < self.limit)
        if slot is not None:
            slot.release()

    def _end(self, task: "asyncio.Task[Slot]", said: str) -> str:
        if not task.done():
            return "waiting"
        if task.cancelled():
            return "cancelled"
        refused = task.exception()
        if refused is not None:
            assert isinstance(refused, OverloadedError)
            return refused.reason
        return said if said in {"in", "done"} else "in"

    @invariant()
    def everybody_is_where_the_model_says(self) -> None:
        ends = [self._end(task, said) for task, said in zip(self.tasks, self.ends, strict=True)]
        assert ends == self.ends

    @invariant()
    def the_counts_are_right(self) -> None:
        assert self.limiter.in_flight == len(self.inside)
        assert self.limiter.queued == len(self.waiting)

    @invariant()
    def nobody_waits_where_there_is_room(self) -> None:
        assert not self.limiter.queued or self.limiter.in_flight >= self.limiter.limit


TestModel = Model.TestCase
TestModel.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_a_limiter_that_is_gone_is_forgotten() -> None:
    limiter = ref(ConcurrencyLimiter(1))
    gc.collect()
    assert limiter() is None
