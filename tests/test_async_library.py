"""Under asyncio and trio alike: what is due is cut, what is woken goes on, and nothing else does."""

import asyncio
import gc
import selectors
import sys
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from math import inf
from typing import Any, TypeAlias

import pytest
import trio
import trio.testing

from asgi_errorkit.async_library import (
    _MOST_SPANS,
    CancelScope,
    _queues,
    cancel_scope,
    in_trio,
    is_cut,
    sleep,
    wakeup,
)

Main: TypeAlias = Callable[[], Awaitable[Any]]


class JumpingSelector(selectors.SelectSelector):
    """Does not wait for the time, but moves it."""

    now = 1024.0

    def select(self, timeout: float | None = None) -> Any:
        ready = super().select(timeout if timeout is None else 0)
        if not ready and timeout is not None and timeout > 0:
            self.now += timeout
        return ready


class JumpingLoop(asyncio.SelectorEventLoop):
    """As trio's MockClock: whenever all tasks wait, it is as late as the first of them waits for."""

    def __init__(self) -> None:
        self.jumping = JumpingSelector()
        self.armed: list[float] = []
        self.complaints: list[dict[str, Any]] = []
        super().__init__(self.jumping)
        self.set_exception_handler(lambda _, complaint: self.complaints.append(complaint))

    def time(self) -> float:
        return self.jumping.now

    def call_at(self, when: float, *args: Any, **options: Any) -> Any:
        self.armed.append(when)
        return super().call_at(when, *args, **options)


def in_asyncio(main: Main) -> None:
    """The task is left as it was found, and nobody who has gone is waited for."""

    async def around() -> None:
        loop: Any = asyncio.get_running_loop()
        await main()
        task = asyncio.current_task()
        assert task is not None and task.cancelling() == 0
        _, queues = _queues.get(id(loop), (None, {}))
        assert not any(queue.waiting for queue in queues.values())
        await asyncio.sleep(1e6)
        assert [timer for timer in loop._scheduled if not timer.cancelled()] == []
        assert loop.complaints == []

    with asyncio.Runner(loop_factory=JumpingLoop) as runner:
        runner.run(around())


def in_trios(main: Main) -> None:
    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


BOTH = pytest.mark.parametrize("run", [in_asyncio, in_trios], ids=["asyncio", "trio"])


BEFORE_ENTERING = pytest.mark.parametrize(
    "run",
    [
        pytest.param(in_asyncio),
        in_trios,
    ],
    ids=["asyncio", "trio"],
)


def now() -> float:
    return trio.current_time() if in_trio() else asyncio.get_running_loop().time()


def task_now() -> object:
    return trio.lowlevel.current_task() if in_trio() else asyncio.current_task()


def cancelled_class() -> type[BaseException]:
    return trio.Cancelled if in_trio() else asyncio.CancelledError


def ended(scope: CancelScope) -> tuple[bool, bool]:
    return scope.called, scope.expired


# Outside of a task


@pytest.mark.parametrize("make", [lambda: cancel_scope(1.0), wakeup], ids=["scope", "wakeup"])
def test_outside_of_a_task_there_is_nothing_to_cut_or_wake(make: Callable[[], object]) -> None:
    with pytest.raises(RuntimeError, match="in a task of asyncio or trio only"):
        make()
    assert not in_trio()


@pytest.mark.parametrize("make", [lambda: cancel_scope(1.0), wakeup], ids=["scope", "wakeup"])
def test_a_callback_of_the_loop_is_no_task(make: Callable[[], object]) -> None:
    async def main() -> None:
        raised: asyncio.Future[object] = asyncio.get_running_loop().create_future()

        def call() -> None:
            try:
                raised.set_result(make())
            except RuntimeError as error:
                raised.set_result(str(error))

        asyncio.get_running_loop().call_soon(call)
        assert await raised == "this runs in a task of asyncio or trio only"

    in_asyncio(main)


@pytest.mark.parametrize("make", [lambda: cancel_scope(1.0), wakeup], ids=["scope", "wakeup"])
def test_where_asyncio_was_never_loaded_there_is_no_task(
    make: Callable[[], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "asyncio")
    monkeypatch.delitem(sys.modules, "trio")
    with pytest.raises(RuntimeError, match="in a task of asyncio or trio only"):
        make()


def test_a_guest_of_asyncios_loop_is_trios_task() -> None:
    async def main() -> None:
        over: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        loop = asyncio.get_running_loop()

        async def guest() -> bool:
            with cancel_scope(0.0) as scope:
                await sleep(60.0)
            return in_trio() and scope.expired

        assert not in_trio()
        trio.lowlevel.start_guest_run(
            guest,
            run_sync_soon_threadsafe=loop.call_soon_threadsafe,
            done_callback=lambda outcome: over.set_result(outcome.unwrap()),
        )
        assert await over
        with cancel_scope(0.0) as scope:
            await sleep(60.0)
        assert scope.expired

    asyncio.run(main())


# Being cut


@BOTH
@pytest.mark.parametrize("seconds", [-1.0, 0.0, 0.5, 3600.0])
def test_what_is_due_is_cut_at_its_time_in_its_task_and_ends_quietly(
    run: Callable[[Main], None], seconds: float
) -> None:
    async def main() -> None:
        began_at, task = now(), task_now()
        with cancel_scope(seconds) as scope:
            assert task_now() is task
            assert not scope.expired
            await sleep(86_400.0)
            pytest.fail("it was not cut")
        assert ended(scope) == (True, True)
        assert now() - began_at == max(seconds, 0.0)
        await sleep(1.0)  # nothing of it is left
        assert now() - began_at == max(seconds, 0.0) + 1.0

    run(main)


@BOTH
@pytest.mark.parametrize("seconds", [2.0, inf])
def test_what_ends_before_is_not_touched_then_or_later(
    run: Callable[[Main], None], seconds: float
) -> None:
    async def main() -> None:
        with cancel_scope(seconds) as scope:
            await sleep(1.0)
        await sleep(100.0)
        assert ended(scope) == (False, False)

    run(main)


@BOTH
def test_what_does_not_wait_is_not_cut(run: Callable[[Main], None]) -> None:
    async def main() -> None:
        with cancel_scope(-1.0) as scope:
            pass
        await sleep(1.0)
        assert not scope.expired

    run(main)


@BOTH
def test_errors_pass_through_as_they_are(run: Callable[[Main], None]) -> None:
    async def main() -> None:
        error = ValueError("mine")
        with pytest.raises(ValueError, match="mine") as raised, cancel_scope(1.0) as scope:
            raise error
        assert raised.value is error
        assert ended(scope) == (False, False)

    run(main)


@BOTH
def test_what_a_body_makes_of_its_cut_is_what_happens(run: Callable[[Main], None]) -> None:
    """It may raise what it likes, and is then not told to have expired."""

    async def body() -> None:
        try:
            await sleep(5.0)
        except cancelled_class():
            raise ValueError("instead") from None

    async def main() -> None:
        with pytest.raises(ValueError, match="instead"), cancel_scope(1.0) as scope:
            await body()
        assert ended(scope) == (True, False)
        await sleep(1.0)

    run(main)


@BOTH
def test_a_body_that_swallows_its_cut_was_called_and_has_not_expired(
    run: Callable[[Main], None],
) -> None:
    async def main() -> None:
        began_at = now()
        with cancel_scope(1.0) as scope, suppress(cancelled_class()):
            await sleep(5.0)
        assert ended(scope) == (True, False)
        await sleep(1.0)
        assert now() - began_at == 2.0

    run(main)


@BOTH
@pytest.mark.parametrize("beside", [-1 / 64, 0.0, 1 / 64], ids=["before", "at", "after"])
@pytest.mark.parametrize("is_armed_first", [True, False], ids=["armed first", "armed last"])
def test_a_body_that_ends_at_the_very_moment_either_ended_or_expired(
    run: Callable[[Main], None], beside: float, is_armed_first: bool
) -> None:
    """Never both, and nothing is left of the one that came second."""

    async def main() -> None:
        began_at = now()
        finished = False
        if is_armed_first:
            with cancel_scope(1.0) as scope:
                await sleep(1.0 + beside)
                finished = True
        else:
            waking = wakeup()
            later = _later(waking.wake, 1.0 + beside)
            with cancel_scope(1.0) as scope:
                await waking.wait()
                finished = True
            await later()
        assert finished is not scope.expired
        if beside:
            assert finished is (beside < 0)
        await sleep(began_at + 2.0 - now())
        assert now() - began_at == 2.0

    run(main)


def _later(call: Callable[[], object], seconds: float) -> Main:
    """Call it in so many seconds; what is returned waits for it."""
    if in_trio():

        async def wait() -> None:
            await sleep(0.0)

        trio.lowlevel.spawn_system_task(_after, call, seconds)
        return wait
    task = asyncio.get_running_loop().create_task(_after(call, seconds))

    async def wait_for_task() -> None:
        await task

    return wait_for_task


async def _after(call: Callable[[], object], seconds: float) -> None:
    await sleep(seconds)
    call()


# Being moved


@BOTH
@pytest.mark.parametrize(
    ("moves", "cut_at"),
    [
        ([(1.0, 5.0)], 6.0),
        ([(1.0, 1.5)], 2.5),
        ([(1.0, 5.0), (2.0, 1.0)], 3.0),
        ([(1.0, 9.0), (1.5, 2.0)], 3.5),
        ([(1.0, 9.0), (4.0, 0.5)], 4.5),
        ([(1.0, inf), (50.0, 1.0)], 51.0),
        ([(0.5, inf), (0.75, 0.5)], 1.25),
        ([(1.0, 0.0)], 1.0),
        ([(1.0, -5.0)], 1.0),
        ([(0.0, inf), (0.0, inf), (1.0, 7.0), (1.0, 3.0), (1.0, 5.0)], 6.0),
    ],
    ids=str,
)
def test_it_is_due_when_it_was_last_moved_to(
    run: Callable[[Main], None], moves: list[tuple[float, float]], cut_at: float
) -> None:
    """Later ones cost no early cut, earlier ones cut earlier, and infinity never does."""

    async def main() -> None:
        began_at = now()
        with cancel_scope(2.0) as scope:
            for at, seconds in moves:
                await sleep(began_at + at - now())
                scope.move(seconds)
            await sleep(86_400.0)
        assert ended(scope) == (True, True)
        assert now() - began_at == cut_at

    run(main)


@BOTH
def test_what_was_moved_to_never_waits_as_long_as_it_likes(run: Callable[[Main], None]) -> None:
    async def main() -> None:
        with cancel_scope(1.0) as scope:
            scope.move(inf)
            await sleep(86_400.0)
        assert ended(scope) == (False, False)

    run(main)


@BOTH
def test_moving_what_was_called_undoes_nothing(run: Callable[[Main], None]) -> None:
    async def main() -> None:
        began_at = now()
        with cancel_scope(1.0) as scope:
            try:
                await sleep(5.0)
            finally:
                scope.move(0.5)
                scope.move(50.0)
        assert ended(scope) == (True, True)
        await sleep(100.0)
        assert now() - began_at == 101.0

    run(main)


def test_a_move_to_later_costs_no_timer() -> None:
    """Each piece of a stream makes one."""

    async def main() -> None:
        loop: Any = asyncio.get_running_loop()
        with cancel_scope(4.0) as scope:
            for _ in range(100):
                scope.move(4.0)
                loop.jumping.now += 1 / 64
                await asyncio.sleep(0)
            assert len(loop.armed) == 1
            await sleep(3.0)
            assert len(loop.armed) == 3  # the sleep's, and the one that was found to be too early
            await sleep(86_400.0)
        assert scope.expired

    in_asyncio(main)


def test_scopes_of_one_span_share_a_timer() -> None:
    """Each request makes one, and nearly all end before they are due."""

    async def main() -> None:
        loop: Any = asyncio.get_running_loop()
        for _ in range(100):
            with cancel_scope(4.0):
                loop.jumping.now += 1 / 64
                await asyncio.sleep(0)
        assert len(loop.armed) == 1

    in_asyncio(main)


@BOTH
@pytest.mark.parametrize("spans", [1, _MOST_SPANS - 1, _MOST_SPANS + 10])
def test_any_number_of_tasks_is_cut_each_at_its_time(
    run: Callable[[Main], None], spans: int
) -> None:
    """Whether they wait in queues or alone, and whoever leaves or moves meanwhile."""

    async def call(number: int) -> None:
        began_at = now()
        seconds = 1.0 + number % spans / 8
        fate = number % 4
        with cancel_scope(seconds) as scope:
            if fate == 1:
                await sleep(seconds / 2)
                scope.move(seconds)
            elif fate == 2:
                await sleep(seconds / 2)
                scope.move(1 / 16)
            await sleep(seconds / 2 if fate == 3 else 1000.0)
        assert scope.expired is (fate != 3)
        due = {1: seconds * 1.5, 2: seconds / 2 + 1 / 16, 3: seconds / 2}.get(fate, seconds)
        ends.append(now() - began_at == due)

    async def main() -> None:
        if in_trio():
            async with trio.open_nursery() as nursery:
                for number in range(200):
                    nursery.start_soon(call, number)
        else:
            await asyncio.gather(*map(call, range(200)))

    ends: list[bool] = []
    run(main)
    assert ends == [True] * 200


def test_what_a_loop_waited_for_is_forgotten_with_it() -> None:
    """And a loop that takes the place of another in memory starts anew."""
    for _ in range(3):
        in_asyncio(lambda: _cut(1.0))
    gc.collect()
    in_asyncio(lambda: _cut(1.0))
    assert sum(made() is None for made, _ in _queues.values()) == 0


async def _cut(seconds: float) -> None:
    with cancel_scope(seconds) as scope:
        await sleep(50.0)
    assert scope.expired


@BOTH
def test_moving_what_is_over_cuts_nobody(run: Callable[[Main], None]) -> None:
    """As a stream does whose last pieces somebody sends from a task of their own."""

    async def main() -> None:
        with cancel_scope(4.0) as scope:
            await sleep(1.0)
        scope.move(0.5)
        await sleep(5.0)
        assert ended(scope) == (False, False)

    run(main)


@BEFORE_ENTERING
def test_what_is_moved_before_it_is_entered_is_due_then(run: Callable[[Main], None]) -> None:
    async def main() -> None:
        began_at = now()
        scope = cancel_scope(4.0)
        scope.move(1.0)
        with scope:
            await sleep(5.0)
        assert now() - began_at == 1.0

    run(main)


@BEFORE_ENTERING
def test_the_time_runs_from_when_it_was_made(run: Callable[[Main], None]) -> None:
    async def main() -> None:
        began_at = now()
        scope = cancel_scope(4.0)
        await sleep(1.0)
        with scope:
            await sleep(50.0)
        assert now() - began_at == 4.0

    run(main)


# Within each other, and cancellations from elsewhere


@BOTH
@pytest.mark.parametrize(
    ("outer_seconds", "inner_seconds", "expected"),
    [
        (4.0, 1.0, (False, True)),
        (1.0, 4.0, (True, False)),
        (1.0, 1.0, (True, False)),
        (inf, 1.0, (False, True)),
        (1.0, inf, (True, False)),
    ],
    ids=str,
)
def test_of_nested_scopes_the_outermost_that_is_due_expires_alone(
    run: Callable[[Main], None],
    outer_seconds: float,
    inner_seconds: float,
    expected: tuple[bool, bool],
) -> None:
    async def main() -> None:
        went_on = False
        with cancel_scope(outer_seconds) as outer:
            with cancel_scope(inner_seconds) as inner:
                await sleep(50.0)
            went_on = True
        assert (outer.expired, inner.expired) == expected
        assert went_on is inner.expired
        await sleep(1.0)

    run(main)


@BOTH
def test_a_scope_within_another_may_expire_again_and_again(run: Callable[[Main], None]) -> None:
    async def main() -> None:
        began_at = now()
        with cancel_scope(3.5) as outer:
            while True:
                with cancel_scope(1.0):
                    await sleep(50.0)
        assert outer.expired
        assert now() - began_at == 3.5

    run(main)


@pytest.mark.parametrize("order", ["scope first", "cancel first", "cancelled before"])
def test_a_cancellation_from_elsewhere_at_the_same_moment_passes_through(order: str) -> None:
    """Whichever of the two came first: who cancelled a task must not see it go on."""
    seen: list[tuple[bool, bool]] = []

    async def cut() -> None:
        loop = asyncio.get_running_loop()
        task = asyncio.current_task()
        assert task is not None
        if order == "cancel first":
            loop.call_at(loop.time() + 1.0, task.cancel)
        if order == "cancelled before":
            loop.call_at(loop.time() + 0.5, task.cancel)
        scope = cancel_scope(1.0)
        try:
            with scope:
                if order == "scope first":
                    loop.call_at(loop.time() + 1.0, task.cancel)
                await sleep(5.0)
        finally:
            seen.append(ended(scope))
            assert task.cancelling() == 1

    async def main() -> None:
        task = asyncio.create_task(cut())
        with pytest.raises(asyncio.CancelledError):
            await task
        assert task.cancelled()

    in_asyncio(main)
    assert seen == [(order != "cancelled before", False)]


def test_a_cancellation_that_comes_while_the_cut_is_on_its_way_passes_through() -> None:
    """The task was told to end by both before it could run."""

    async def main() -> None:
        async def cut() -> None:
            with cancel_scope(1.0):
                try:
                    await sleep(5.0)
                finally:
                    cutting.set()
                    await asyncio.sleep(1.0)

        cutting = asyncio.Event()
        task = asyncio.create_task(cut())
        await cutting.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert task.cancelled()

    in_asyncio(main)


def test_a_scope_in_the_cleanup_of_a_cancelled_task_expires_for_itself() -> None:
    """The cancellation that is under way stays under way."""
    seen: list[object] = []

    async def cleaning() -> None:
        task = asyncio.current_task()
        assert task is not None
        try:
            await sleep(50.0)
        finally:
            with cancel_scope(1.0) as scope:
                await sleep(50.0)
            seen.append((scope.expired, task.cancelling()))

    async def main() -> None:
        task = asyncio.create_task(cleaning())
        await sleep(1.0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    in_asyncio(main)
    assert seen == [(True, 1)]


def test_trios_own_cancellation_at_the_same_moment_passes_through() -> None:
    async def main() -> None:
        with trio.CancelScope(deadline=trio.current_time() + 1.0) as elsewhere:
            with cancel_scope(1.0) as scope:
                await sleep(5.0)
            pytest.fail("it went on")
        assert elsewhere.cancelled_caught
        assert not scope.expired

    in_trios(main)


def test_within_asyncios_own_timeout_that_is_due_earlier_it_does_not_expire() -> None:
    async def cut() -> None:
        async with asyncio.timeout(1.0):
            with cancel_scope(2.0) as scope:
                scopes.append(scope)
                await sleep(5.0)

    async def main() -> None:
        with pytest.raises(TimeoutError):
            await cut()
        assert ended(scopes[0]) == (False, False)

    scopes: list[CancelScope] = []
    in_asyncio(main)


def test_within_asyncios_own_timeout_that_is_due_later_it_expires_alone() -> None:
    async def main() -> None:
        async with asyncio.timeout(2.0) as timeout:
            with cancel_scope(1.0) as scope:
                await sleep(5.0)
        assert scope.expired and not timeout.expired()

    in_asyncio(main)


@BOTH
def test_the_tasks_that_a_body_waits_for_are_cut_with_it(run: Callable[[Main], None]) -> None:
    cut: list[float] = []

    async def child() -> None:
        try:
            await sleep(50.0)
        finally:
            cut.append(now())

    async def main() -> None:
        began_at = now()
        with cancel_scope(1.0) as scope:
            if in_trio():
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(child)
                    nursery.start_soon(child)
            else:
                async with asyncio.TaskGroup() as group:
                    group.create_task(child())
                    group.create_task(child())
        assert scope.expired
        assert cut == [began_at + 1.0] * 2

    run(main)


def test_a_timer_that_comes_a_little_early_cuts_nobody_early() -> None:
    """A loop runs what is due within its clock's resolution."""

    async def main() -> None:
        loop: Any = asyncio.get_running_loop()
        began_at = loop.time()
        with cancel_scope(1.0) as scope:
            scope.come()  # type: ignore[attr-defined]
            assert not scope.called
            await sleep(5.0)
        assert scope.expired
        assert loop.time() - began_at == 1.0

    in_asyncio(main)


# Being woken


@BOTH
def test_whoever_was_woken_before_does_not_wait(run: Callable[[Main], None]) -> None:
    async def main() -> None:
        waking = wakeup()
        waking.wake()
        waking.wake()  # twice is once
        await waking.wait()

    run(main)


@BOTH
def test_one_task_wakes_another(run: Callable[[Main], None]) -> None:
    async def main() -> None:
        waking = wakeup()
        later = _later(waking.wake, 1.0)
        began_at = now()
        await waking.wait()
        assert now() - began_at == 1.0
        await later()

    run(main)


@pytest.mark.parametrize("library", ["asyncio", "trio"])
def test_another_thread_wakes_a_task(library: str) -> None:
    """More than one of them, and more than once, and also one that runs a loop of its own."""

    async def main() -> None:
        waking = wakeup()

        def wake() -> None:
            waking.wake()
            waking.wake()

        async def wake_from_a_loop() -> None:
            wake()

        threads = [
            threading.Thread(target=wake),
            threading.Thread(target=lambda: asyncio.run(wake_from_a_loop())),
            threading.Thread(target=lambda: trio.run(wake_from_a_loop)),
        ]
        for thread in threads:
            thread.start()
        await waking.wait()
        for thread in threads:
            thread.join()
        await sleep(0.0)

    if library == "trio":
        trio.run(main)
    else:
        asyncio.run(main())


@BOTH
def test_waking_one_who_has_given_up_wakes_nobody(run: Callable[[Main], None]) -> None:
    async def main() -> None:
        waking = wakeup()
        with cancel_scope(1.0) as scope:
            await waking.wait()
        assert scope.expired
        waking.wake()
        await sleep(1.0)

    run(main)


@BOTH
def test_waking_in_a_loop_that_has_ended_does_nothing(run: Callable[[Main], None]) -> None:
    made: list[Any] = []

    async def main() -> None:
        made.append(wakeup())

    run(main)
    made[0].wake()


async def in_children(call: Main, how: str) -> None:
    """Run it in a task or tasks that are begun here, and wait for these."""
    if how == "nursery":
        async with trio.open_nursery() as nursery:
            nursery.start_soon(call)
    elif how == "gather":
        await asyncio.gather(call(), call())
    elif how == "wait_for":
        await asyncio.wait_for(call(), 50.0)
    elif how == "task of a task":
        await asyncio.gather(asyncio.gather(call()))
    else:
        async with asyncio.TaskGroup() as group:
            group.create_task(call())  # type: ignore[arg-type]  # it is a coroutine


CHILDREN = [
    (in_asyncio, "gather"),
    (in_asyncio, "wait_for"),
    (in_asyncio, "task of a task"),
    (in_asyncio, "task group"),
    (in_trios, "nursery"),
]


@pytest.mark.parametrize(("run", "how"), CHILDREN, ids=[how for _, how in CHILDREN])
@pytest.mark.parametrize("has_inner", [False, True], ids=["alone", "with a scope further in"])
def test_a_child_knows_that_the_scope_it_was_begun_in_cuts_it(
    run: Callable[[Main], None], how: str, has_inner: bool
) -> None:
    seen: list[bool] = []

    async def child() -> None:
        try:
            with cancel_scope(25.0 if has_inner else inf):
                await sleep(50.0)
        finally:
            seen.append(is_cut())

    async def main() -> None:
        with cancel_scope(1.0) as scope:
            assert not is_cut()
            await in_children(child, how)
        assert scope.expired
        assert not is_cut()

    run(main)
    assert seen and all(seen)


def test_a_child_that_others_cancel_is_not_cut() -> None:
    seen: list[bool] = []

    async def child() -> None:
        try:
            await sleep(50.0)
        finally:
            seen.append(is_cut())

    async def main() -> None:
        with cancel_scope(4.0):
            within = asyncio.ensure_future(child())
            await sleep(1.0)
            within.cancel()
            await asyncio.wait([within])

    in_asyncio(main)
    assert seen == [False]


def test_a_child_that_outlives_its_scope_is_not_cut_when_others_cancel_it() -> None:
    seen: list[bool] = []

    async def child() -> None:
        try:
            await sleep(50.0)
        finally:
            seen.append(is_cut())

    async def main() -> None:
        with cancel_scope(1.0) as scope:
            outliving = asyncio.ensure_future(child())
            await sleep(4.0)
        assert scope.expired
        outliving.cancel()
        await asyncio.wait([outliving])

    in_asyncio(main)
    assert seen == [False]


@BOTH
def test_what_ends_itself_since_the_scope_has_called_is_cut(run: Callable[[Main], None]) -> None:
    """Some applications end their own tasks when they are told that the client has gone."""
    seen: list[bool] = []

    async def main() -> None:
        def told() -> float:
            gone.set()
            return 2.0

        gone = trio.Event() if in_trio() else asyncio.Event()
        with cancel_scope(1.0, told):
            try:
                await gone.wait()
            finally:
                seen.append(is_cut())

    run(main)
    assert seen == [True]


@BOTH
def test_in_a_thread_that_is_begun_within_a_scope_it_can_be_asked(
    run: Callable[[Main], None],
) -> None:
    seen: list[bool] = []

    async def main() -> None:
        with cancel_scope(4.0):
            in_thread = trio.to_thread.run_sync if in_trio() else asyncio.to_thread
            seen.append(await in_thread(is_cut))

    run(main)
    assert seen == [False]


@BOTH
def test_a_task_that_enters_scopes_of_its_own_keeps_none_that_has_ended(
    run: Callable[[Main], None],
) -> None:
    """Such as a consumer that lives as long as the process, begun within a request."""

    async def child() -> None:
        await sleep(4.0)
        for _ in range(3):
            with cancel_scope(1.0) as inner:
                assert inner.outer is None  # type: ignore[attr-defined]

    async def main() -> None:
        if in_trio():
            async with trio.open_nursery() as nursery:
                # Its context is that of the caller, though its nursery is outside of the scope.
                with cancel_scope(1.0):
                    nursery.start_soon(child)
        else:
            with cancel_scope(1.0):
                task = asyncio.ensure_future(child())
            await task

    run(main)


@BOTH
def test_tasks_that_begin_tasks_keep_no_scopes_that_have_ended(run: Callable[[Main], None]) -> None:
    """Such as a tick that starts the next one: each is alive when the next is begun."""
    longest = 0

    async def tick(left: int, begin: Callable[[int], None]) -> None:
        nonlocal longest
        with cancel_scope(4.0) as scope:
            number, outer = 0, scope
            while outer is not None:
                number, outer = number + 1, outer.outer  # type: ignore[attr-defined]
            longest = max(longest, number)
            if left:
                begin(left - 1)
            await sleep(0)

    async def main() -> None:
        if in_trio():
            async with trio.open_nursery() as nursery:
                await tick(200, lambda left: nursery.start_soon(tick, left, begin_in(nursery)))
            return
        tasks: list[asyncio.Future[None]] = []

        def begin(left: int) -> None:
            tasks.append(asyncio.ensure_future(tick(left, begin)))

        await tick(200, begin)
        while tasks:
            await tasks.pop()

    def begin_in(nursery: Any) -> Callable[[int], None]:
        return lambda left: nursery.start_soon(tick, left, begin_in(nursery))

    run(main)
    assert longest <= 4
