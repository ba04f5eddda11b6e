"""fail_after: a block of code is cut off after so many seconds, and nothing else is."""

import asyncio
import contextlib
import contextvars
import gc
import threading
import weakref

import pytest
import trio
import trio.testing

from asgi_errorkit import (
    CircuitBreaker,
    CircuitPolicy,
    DeadlineExceededError,
    ErrorTracker,
    ErrorType,
    PublicError,
    fail_after,
)
from asgi_errorkit.async_library import sleep

SHORT, LONG = 0.01, 60.0


def in_trio(main):
    return trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


async def test_what_takes_too_long_is_cut():
    """It raises an error that is a TimeoutError, and leaves no cancellation behind."""
    with pytest.raises(TimeoutError) as caught:
        async with fail_after(SHORT):
            await asyncio.sleep(LONG)
    assert type(caught.value) is DeadlineExceededError
    assert (caught.value.limit, caught.value.seconds) == ("call", SHORT)
    assert isinstance(caught.value.__cause__, asyncio.CancelledError)
    assert asyncio.current_task().cancelling() == 0
    await asyncio.sleep(0)  # would raise what is left over


def test_what_takes_too_long_is_cut_in_trio():
    """At the very moment, by trio's own cancellation."""

    async def main():
        began = trio.current_time()
        with pytest.raises(DeadlineExceededError):
            async with fail_after(5.0):
                await trio.sleep(1000)
        assert trio.current_time() - began == pytest.approx(5.0)
        await trio.lowlevel.checkpoint()

    in_trio(main)


async def test_what_is_in_time_is_left_alone():
    """Its values and its errors are its own, also its own TimeoutError."""
    async with fail_after(LONG) as guard:
        await asyncio.sleep(0)
    assert guard.seconds == LONG
    with pytest.raises(TimeoutError) as caught:
        async with fail_after(LONG):
            raise TimeoutError("mine")
    assert type(caught.value) is TimeoutError
    with pytest.raises(KeyError):
        async with fail_after(LONG):
            raise KeyError("mine")


async def test_a_cancellation_from_elsewhere_passes():
    """Before the time is up and in the same moment."""

    async def guarded(cleanup):
        try:
            async with fail_after(SHORT if cleanup else LONG):
                try:
                    await asyncio.sleep(LONG)
                finally:
                    begun.set()
                    if cleanup:
                        await asyncio.sleep(LONG)
        except DeadlineExceededError:
            pytest.fail("it was not the time")

    for cleanup in (False, True):
        begun = asyncio.Event()
        task = asyncio.create_task(guarded(cleanup))
        if cleanup:
            await begun.wait()
        else:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert task.cancelled()


def test_a_cancellation_from_elsewhere_passes_in_trio():
    """The scope of somebody else, cancelled, cuts both."""

    async def main():
        with trio.move_on_after(1.0) as scope:
            async with fail_after(5.0):
                await trio.sleep(1000)
        assert scope.cancelled_caught

    in_trio(main)


async def test_a_block_that_swallows_it_has_its_way():
    """Whoever catches the cancellation and goes on is not failed afterwards."""
    async with fail_after(SHORT):
        try:
            await asyncio.sleep(LONG)
        except asyncio.CancelledError:
            done = True
    assert done
    assert asyncio.current_task().cancelling() == 0


async def test_a_block_that_makes_another_error_of_it_raises_that():
    """It is not hidden."""

    async def converting():
        try:
            await asyncio.sleep(LONG)
        except asyncio.CancelledError:
            raise ValueError("mine") from None

    with pytest.raises(ValueError, match="mine"):
        async with fail_after(SHORT):
            await converting()
    assert asyncio.current_task().cancelling() == 0


def test_a_group_of_errors_and_cancellations_is_not_hidden_in_trio():
    """What failed beside being cut is raised."""

    async def failing():
        try:
            await trio.sleep(1000)
        finally:
            raise ValueError("mine")

    async def both():
        async with fail_after(5.0), trio.open_nursery() as nursery:
            nursery.start_soon(failing)
            await trio.sleep(1000)

    async def main():
        with pytest.raises(ExceptionGroup) as caught:
            await both()
        assert caught.group_contains(ValueError)

    in_trio(main)


@pytest.mark.parametrize("inner", [SHORT, LONG], ids=["the inner is shorter", "the outer is"])
async def test_of_two_the_shorter_cuts(inner):
    """And each tells its own time."""
    outer = SHORT + LONG - inner
    with pytest.raises(DeadlineExceededError) as caught:
        async with fail_after(outer), fail_after(inner):
            await asyncio.sleep(LONG)
    assert caught.value.seconds == pytest.approx(SHORT)
    assert asyncio.current_task().cancelling() == 0


async def test_two_of_the_same_time_fail_once():
    """Both are due in one moment: one error, nothing left over."""
    with pytest.raises(DeadlineExceededError):
        async with fail_after(SHORT), fail_after(SHORT):
            await asyncio.sleep(LONG)
    assert asyncio.current_task().cancelling() == 0
    await asyncio.sleep(0)


async def test_what_the_outer_made_of_the_inner_is_no_second_error():
    """An inner time that was handled leaves the outer one its own time."""
    async with fail_after(LONG):
        with pytest.raises(DeadlineExceededError):
            async with fail_after(SHORT):
                await asyncio.sleep(LONG)
        await asyncio.sleep(SHORT)


async def test_no_time_at_all_cuts_at_the_first_wait():
    """A block that never waits is done before anybody can cut it."""
    async with fail_after(0):
        done = True
    assert done
    with pytest.raises(DeadlineExceededError):
        async with fail_after(0):
            await asyncio.sleep(LONG)


def test_no_time_at_all_in_trio():
    """The same."""

    async def main():
        async with fail_after(0):
            pass
        with pytest.raises(DeadlineExceededError):
            async with fail_after(0):
                await trio.lowlevel.checkpoint()

    in_trio(main)


async def test_many_at_once_are_cut_each():
    """Of one time, of many times, and of more different times than are kept apart."""

    async def late(seconds):
        try:
            async with fail_after(seconds):
                await asyncio.sleep(LONG)
        except DeadlineExceededError:
            return True

    times = [SHORT] * 200 + [SHORT + n / 100_000 for n in range(300)]
    assert all(await asyncio.gather(*map(late, times)))


async def test_the_one_that_ends_first_does_not_keep_the_others():
    """Those that are given the same time wait in line: each is cut at its own."""
    loop, ended = asyncio.get_running_loop(), []

    async def late(name):
        began = loop.time()
        try:
            async with fail_after(0.03):
                await asyncio.sleep(0 if name == "quick" else LONG)
        except DeadlineExceededError:
            ended.append((name, loop.time() - began))

    tasks = [asyncio.create_task(late("quick"))]
    await asyncio.sleep(0.01)
    tasks.append(asyncio.create_task(late("a")))
    await asyncio.sleep(0.01)
    tasks.append(asyncio.create_task(late("b")))
    await asyncio.gather(*tasks)
    assert [name for name, _ in ended] == ["a", "b"]
    assert all(0.03 <= took < 0.5 for _, took in ended)


async def test_what_is_not_cut_leaves_no_timers():
    """Ten thousand blocks of one time ask the loop for one timer."""
    scheduled = asyncio.get_running_loop()._scheduled
    before = len(scheduled)
    for _ in range(10_000):
        async with fail_after(LONG):
            pass
    assert len(scheduled) - before <= 1


async def test_code_in_a_thread_is_left_behind():
    """It runs to its end; the block does not wait."""
    gate = threading.Event()
    with pytest.raises(DeadlineExceededError):
        async with fail_after(SHORT):
            await asyncio.to_thread(gate.wait, 10)
    gate.set()


def test_outside_of_a_task_it_says_so():
    """It needs a library that runs it."""
    coroutine = fail_after(1.0).__aenter__()
    with pytest.raises(RuntimeError, match="asyncio or trio"):
        coroutine.send(None)


def test_its_error_is_for_clients_too():
    """It is answered with 504, in words that say nothing of the inside."""
    error = DeadlineExceededError("call", 2.0)
    assert isinstance(error, PublicError)
    assert (error.status_code, error.error_type, error.ends_as) == (504, ErrorType.TIMEOUT, None)
    assert str(error) == "the call time of 2 s is up"
    verdict = ErrorTracker().classifier(error)
    assert (verdict.info.error_type, verdict.status_code) == (ErrorType.TIMEOUT, 504)


@pytest.mark.parametrize(
    ("seconds", "error"),
    [
        (-1, ValueError),
        (float("nan"), ValueError),
        ("2", TypeError),
        (None, TypeError),
        (True, TypeError),
    ],
    ids=repr,
)
def test_what_is_no_time_is_refused(seconds, error):
    """At once, not when it is entered."""
    with pytest.raises(error, match="seconds"):
        fail_after(seconds)


async def test_as_long_as_it_likes():
    """Infinity is a time that never comes."""
    async with fail_after(float("inf")):
        await asyncio.sleep(0)


async def test_ever_different_times_leave_few_timers():
    """As `fail_after(current().remaining())` asks for: what is over is not waited for."""
    scheduled = asyncio.get_running_loop()._scheduled
    before = sum(not timer.cancelled() for timer in scheduled)
    for number in range(1_000):
        async with fail_after(LONG + number / 1_000):
            pass
    assert sum(not timer.cancelled() for timer in scheduled) - before <= 100


async def test_what_is_over_is_let_go():
    """Nothing that was current for a block outlives it, however long its time would have been."""

    class Something:
        pass

    var = contextvars.ContextVar("var")

    async def block():
        something = Something()
        var.set(something)
        async with fail_after(LONG + 0.5):
            pass
        return weakref.ref(something)

    kept = [await asyncio.create_task(block()) for _ in range(10)]
    await asyncio.sleep(0)
    gc.collect()
    assert [each() for each in kept] == [None] * 10


def test_what_a_time_limit_cuts_off_counts_as_failed_wherever_the_breaker_stands():
    """A dependency that hangs opens its circuit also where the limit is set further out; what others
    cancel counts for nothing."""

    async def cut(breaker):
        with contextlib.suppress(DeadlineExceededError):
            async with fail_after(SHORT), breaker:
                await sleep(LONG)

    async def main():
        breaker = CircuitBreaker("hanging", CircuitPolicy(consecutive_failures=2))
        await cut(breaker)
        assert breaker.as_dict()["failed"] == 1
        await cut(breaker)
        assert breaker.is_open
        assert breaker.error().error_type is ErrorType.TIMEOUT

    asyncio.run(main())
    in_trio(main)


async def test_what_others_cancel_counts_for_nothing_within_a_time_limit():
    breaker = CircuitBreaker("hanging")

    async def call():
        async with fail_after(LONG), breaker:
            await asyncio.sleep(LONG)

    task = asyncio.create_task(call())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert breaker.as_dict()["calls"] == 0


async def test_one_that_is_in_use_is_not_entered_again():
    """Its first block would be cut off when it is over, and the second never."""
    shared = fail_after(LONG)
    async with shared:
        with pytest.raises(RuntimeError, match="one block"):
            async with shared:
                pass
    async with shared:  # one after the other it may be
        await asyncio.sleep(0)
