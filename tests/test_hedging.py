"""The first call to succeed wins, the others are cancelled and awaited, and none is forgotten."""

import asyncio
import gc
import weakref
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
import trio.testing

from asgi_errorkit import ErrorHandlingMiddleware, current
from asgi_errorkit.async_library import sleep
from asgi_errorkit.budget import RetryBudget
from asgi_errorkit.hedging import hedge
from asgi_errorkit.testing import HandClock, request
from tests.naming import shown

AFTER = 0.01


def run(library: str, main: Callable[[], Awaitable[Any]]) -> Any:
    """Run it under asyncio or trio; complaints of a loop about what nobody looked at are errors."""
    if library == "trio":
        return trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    complaints: list[Any] = []
    gc.freeze()  # what is there already is not looked at, which is much

    async def watched() -> Any:
        asyncio.get_running_loop().set_exception_handler(lambda _, told: complaints.append(told))
        try:
            return await main()
        finally:
            others = asyncio.all_tasks() - {asyncio.current_task()}
            assert not others, "the losers are awaited"
            gc.collect()

    try:
        return asyncio.run(watched())
    finally:
        gc.collect()
        gc.unfreeze()
        assert complaints == []


def rich() -> RetryBudget:
    return RetryBudget(ratio=10, floor_per_second=1000)


def poor() -> RetryBudget:
    return RetryBudget(ratio=0, floor_per_second=0)


class Calls:
    """Each call does what its number says: ``(seconds, result or error)``."""

    def __init__(self, *plans: tuple[float, Any]) -> None:
        self.plans = plans
        self.begun = 0
        self.ended: list[int] = []
        self.cancelled: list[int] = []

    async def __call__(self) -> Any:
        number = self.begun
        self.begun += 1
        seconds, result = self.plans[number]
        try:
            await sleep(seconds)
        except BaseException:
            self.cancelled.append(number)
            raise
        finally:
            self.ended.append(number)
        if isinstance(result, BaseException):
            raise result
        return result


both = pytest.mark.parametrize("library", ["asyncio", "trio"])
FOREVER = 30.0


# Who wins


@both
def test_a_quick_call_is_made_once(library: str) -> None:
    calls, budget = Calls((0, "first")), rich()

    async def main() -> None:
        assert await hedge(calls, after_seconds=5, budget=budget) == "first"

    run(library, main)
    assert calls.begun == 1
    assert (budget.calls, budget.retries) == (1, 0)


@both
def test_where_the_first_takes_long_the_second_wins_and_the_first_is_cancelled(
    library: str,
) -> None:
    calls, budget = Calls((FOREVER, "first"), (0, "second")), rich()

    async def main() -> None:
        assert await hedge(calls, after_seconds=AFTER, budget=budget) == "second"
        assert calls.ended == [1, 0] and calls.cancelled == [0]  # before it returns

    run(library, main)
    assert (budget.calls, budget.retries) == (1, 1)


@both
def test_the_first_may_still_win(library: str) -> None:
    calls = Calls((3 * AFTER, "first"), (FOREVER, "second"))

    async def main() -> None:
        assert await hedge(calls, after_seconds=AFTER, budget=rich()) == "first"

    run(library, main)
    assert calls.cancelled == [1]


@both
@pytest.mark.parametrize("result", [None, False, 0, ""], ids=shown)
def test_any_result_is_a_success(library: str, result: Any) -> None:
    calls = Calls((0, result))

    async def main() -> None:
        assert await hedge(calls, after_seconds=5, budget=rich()) is result

    run(library, main)
    assert calls.begun == 1


@both
def test_an_exception_that_is_returned_is_a_result(library: str) -> None:
    exc = ValueError("returned")

    async def call() -> Exception:
        return exc

    async def main() -> None:
        assert await hedge(call, after_seconds=5, budget=rich()) is exc

    run(library, main)


@both
def test_a_failed_call_is_followed_at_once(library: str) -> None:
    calls = Calls((0, ValueError("one")), (0, "second"))

    async def main() -> None:
        assert await hedge(calls, after_seconds=FOREVER, budget=rich()) == "second"

    run(library, main)


@both
def test_where_all_fail_the_last_error_is_raised(library: str) -> None:
    errors = [ValueError("one"), LookupError("two"), MemoryError()]
    calls = Calls(*((0, error) for error in errors))

    async def main() -> None:
        with pytest.raises(MemoryError) as caught:
            await hedge(calls, after_seconds=AFTER, most=3, budget=rich())
        assert caught.value is errors[-1]

    run(library, main)
    assert calls.begun == 3


@both
def test_the_failure_of_a_hedge_does_not_end_the_first(library: str) -> None:
    calls = Calls((5 * AFTER, "first"), (0, ValueError("second")))

    async def main() -> None:
        assert await hedge(calls, after_seconds=AFTER, budget=rich()) == "first"

    run(library, main)
    assert calls.cancelled == []


@both
@pytest.mark.parametrize("most", [1, 2, 5])
def test_no_more_than_most_are_begun(library: str, most: int) -> None:
    calls = Calls(*[(10 * AFTER, "late")] * 9)

    async def main() -> None:
        assert await hedge(calls, after_seconds=0, most=most, budget=rich()) == "late"

    run(library, main)
    assert calls.begun == most
    assert sorted(calls.ended) == list(range(most))


@both
def test_those_that_end_in_the_same_moment_are_all_looked_at(library: str) -> None:
    """One may have failed: nobody is to be told that its error was never retrieved."""

    async def main() -> None:
        for failing in range(6):
            calls = Calls(*((0, LookupError(n) if n != failing else n) for n in range(6)))
            won = await hedge(calls, after_seconds=0, most=6, budget=rich())
            assert won == failing

    run(library, main)


# The budget


@both
def test_without_budget_there_is_one_call(library: str) -> None:
    calls, budget = Calls((3 * AFTER, "first"), (0, "second")), poor()

    async def main() -> None:
        assert await hedge(calls, after_seconds=AFTER, budget=budget) == "first"

    run(library, main)
    assert calls.begun == 1
    assert (budget.retries, budget.refused) == (0, 1)  # asked but once


@both
def test_without_budget_an_error_is_raised_at_once(library: str) -> None:
    calls = Calls((0, ValueError("one")))

    async def main() -> None:
        with pytest.raises(ValueError, match="one"):
            await hedge(calls, after_seconds=FOREVER, most=9, budget=poor())

    run(library, main)


def test_hedges_count_as_the_retries_that_they_are() -> None:
    """A dependency that turns slow gets a fifth more calls, and not twice as many."""
    budget = RetryBudget(ratio=0.2, floor_per_second=0, clock=HandClock())
    begun = 0

    async def call() -> None:
        nonlocal begun
        begun += 1
        await asyncio.sleep(20 * AFTER)

    async def main() -> None:
        await asyncio.gather(
            *(hedge(call, after_seconds=AFTER, most=2, budget=budget) for _ in range(50))
        )

    run("asyncio", main)
    assert begun == 60 and budget.retries == 10


# Cancellation


@both
def test_a_cancellation_from_outside_ends_all_of_them(library: str) -> None:
    calls = Calls((FOREVER, 1), (FOREVER, 2), (FOREVER, 3))

    async def hedged() -> None:
        await hedge(calls, after_seconds=0, most=3, budget=rich())

    async def asyncio_main() -> None:
        task = asyncio.create_task(hedged())
        while calls.begun < 3:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert sorted(calls.cancelled) == [0, 1, 2]

    async def trio_main() -> None:
        with trio.move_on_after(5 * AFTER) as scope:
            await hedged()
        assert scope.cancelled_caught and sorted(calls.cancelled) == [0, 1, 2]

    run(library, trio_main if library == "trio" else asyncio_main)


@both
def test_a_timeout_around_it_is_a_timeout(library: str) -> None:
    calls = Calls((FOREVER, 1), (FOREVER, 2))

    async def timed() -> None:
        if library == "trio":
            with trio.fail_after(5 * AFTER):
                await hedge(calls, after_seconds=0, budget=rich())
        async with asyncio.timeout(5 * AFTER):
            await hedge(calls, after_seconds=0, budget=rich())

    async def main() -> None:
        with pytest.raises(TimeoutError if library == "asyncio" else trio.TooSlowError):
            await timed()

    run(library, main)
    assert sorted(calls.cancelled) == list(range(calls.begun))


@both
def test_a_loser_may_take_its_time_to_end_and_may_fail_at_it(library: str) -> None:
    tidied: list[str] = []

    async def loser() -> None:
        try:
            await sleep(FOREVER)
        finally:
            if library == "trio":
                with trio.CancelScope(shield=True):
                    await trio.sleep(AFTER)
            else:
                await asyncio.sleep(AFTER)
            tidied.append("yes")
            raise LookupError("as it tidied up")

    async def winner() -> str:
        return "won"

    calls = iter([loser, winner])

    def call() -> Awaitable[Any]:
        return next(calls)()

    async def main() -> None:
        assert await hedge(call, after_seconds=AFTER, budget=rich()) == "won"
        assert tidied == ["yes"]

    run(library, main)


def test_a_second_cancellation_does_not_wait_and_leaves_no_complaint() -> None:
    """One who shuts down twice is in a hurry; the losers have been told."""

    async def stubborn() -> None:
        try:
            await asyncio.sleep(FOREVER)
        except asyncio.CancelledError:
            await asyncio.sleep(AFTER)
            raise LookupError("as it tidied up") from None

    async def main() -> None:
        task = asyncio.create_task(hedge(stubborn, after_seconds=0, budget=rich()))
        await asyncio.sleep(AFTER)
        task.cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(3 * AFTER)

    run("asyncio", main)


def test_one_that_cancels_itself_has_failed_as_any_other() -> None:
    calls = iter([asyncio.CancelledError(), None])

    async def call() -> str:
        raised = next(calls)
        if raised is not None:
            raise raised
        return "second"

    async def main() -> None:
        assert await hedge(call, after_seconds=FOREVER, budget=rich()) == "second"

    run("asyncio", main)


# What a call may be


@both
def test_a_call_that_raises_at_once_has_failed_as_any_other(library: str) -> None:
    """A function that makes the awaitable may refuse to."""
    calls = iter(range(9))

    async def well() -> str:
        return "fine"

    def call() -> Awaitable[str]:
        if next(calls) == 0:
            raise ValueError("refused to begin")
        return well()

    async def main() -> None:
        assert await hedge(call, after_seconds=FOREVER, budget=rich()) == "fine"

    run(library, main)


@both
def test_a_call_that_gives_nothing_to_await_is_an_error(library: str) -> None:
    async def main() -> None:
        with pytest.raises(TypeError, match="await"):
            await hedge(lambda: 3, after_seconds=AFTER, budget=rich())  # type: ignore[arg-type,return-value]

    run(library, main)


def test_a_future_is_awaited_as_it_is() -> None:
    async def main() -> None:
        future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_later(AFTER, future.set_result, "set")
        assert await hedge(lambda: future, after_seconds=0, most=3, budget=rich()) == "set"

    run("asyncio", main)


@both
def test_the_request_is_current_within_each_call(library: str) -> None:
    seen: list[Any] = []

    async def call() -> str:
        exchange = current()
        seen.append(exchange and exchange.request_id)
        if len(seen) == 1:
            await sleep(FOREVER)
        return "fine"

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert await hedge(call, after_seconds=AFTER, budget=rich()) == "fine"
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body"})

    async def main() -> Any:
        return await request(ErrorHandlingMiddleware(app))

    reply = run(library, main)
    assert reply.raised is None
    assert seen == [reply.headers["x-request-id"]] * 2


@pytest.mark.parametrize(
    ("options", "raised", "named"),
    [
        ({"call": 3}, TypeError, "call"),
        ({"call": lambda one: one}, TypeError, "call"),
        ({"after_seconds": -1}, ValueError, "after_seconds"),
        ({"after_seconds": float("nan")}, ValueError, "after_seconds"),
        ({"after_seconds": "1"}, TypeError, "after_seconds"),
        ({"most": 0}, ValueError, "most"),
        ({"most": 101}, ValueError, "most"),
        ({"most": 2.0}, TypeError, "most"),
        ({"budget": 0.2}, TypeError, "budget"),
    ],
    ids=shown,
)
async def test_what_cannot_work_is_refused_by_name(
    options: dict[str, Any], raised: type[Exception], named: str
) -> None:
    async def call() -> None:
        raise AssertionError

    given: dict[str, Any] = {"call": call, "after_seconds": 1.0, **options}
    with pytest.raises(raised, match=named):
        await hedge(given.pop("call"), **given)


async def test_by_default_the_processs_budget_is_asked() -> None:
    from asgi_errorkit.budget import process_budget

    before = process_budget().calls
    assert await hedge(Calls((0, 1)), after_seconds=1) == 1
    assert process_budget().calls == before + 1


class BrokenError(Exception):
    """One that tells whether it lives."""


@both
@pytest.mark.parametrize("most", [1, 2], ids=["alone", "two"])
def test_no_error_is_held_by_itself(library: str, most: int) -> None:
    """What is raised goes with whoever caught it, and the collector has nothing to do."""
    lives: list[weakref.ref[BrokenError]] = []

    async def call() -> None:
        error = BrokenError()
        lives.append(weakref.ref(error))
        try:
            raise error
        finally:
            del error

    async def main() -> None:
        try:
            await hedge(call, after_seconds=AFTER, most=most, budget=rich())
        except BrokenError:
            pass
        await sleep(0)
        assert [each() for each in lives] == [None] * most

    without_collector(library, main)


@both
def test_no_error_of_a_loser_is_held_by_itself(library: str) -> None:
    """One that fails as it is cancelled, which nobody hears of."""
    lives: list[weakref.ref[BrokenError]] = []

    async def call() -> str:
        if not lives:
            error = BrokenError()
            lives.append(weakref.ref(error))
            try:
                await sleep(FOREVER)
            finally:
                try:
                    raise error
                finally:
                    del error
        return "second"

    async def main() -> None:
        assert await hedge(call, after_seconds=AFTER, budget=rich()) == "second"
        await sleep(0)
        assert [each() for each in lives] == [None]

    without_collector(library, main)


def without_collector(library: str, main: Callable[[], Awaitable[Any]]) -> None:
    async def watched() -> None:
        gc.disable()
        try:
            await main()
        finally:
            gc.enable()

    run(library, watched)


async def test_an_error_leaves_no_circle_to_the_collector() -> None:
    async def call() -> None:
        raise ValueError("boom")

    async def hedged() -> None:
        with pytest.raises(ValueError, match="boom"):
            await hedge(call, after_seconds=AFTER, budget=budget)

    budget = rich()
    await hedged()
    await asyncio.sleep(0)
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        try:
            await hedge(call, after_seconds=AFTER, budget=budget)
        except ValueError:
            pass
        await asyncio.sleep(0)
        assert gc.collect() == 0
    finally:
        gc.enable()
        gc.unfreeze()
