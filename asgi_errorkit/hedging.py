"""Hedged calls: a second one is begun where the first takes long, and the sooner answer is taken."""

import sys
from collections.abc import Awaitable, Callable
from math import inf
from typing import Any, TypeVar

from asgi_errorkit.async_library import in_trio
from asgi_errorkit.budget import RetryBudget, process_budget
from asgi_errorkit.options import check_callable, check_number, check_type, check_whole

__all__ = ["hedge"]

T = TypeVar("T")


async def hedge(
    call: Callable[[], Awaitable[T]],
    *,
    after_seconds: float,
    most: int = 2,
    budget: RetryBudget | None = None,
) -> T:
    """What the first of up to ``most`` calls to succeed returns; the others are cancelled.

    A further call begins when ``after_seconds`` have passed since the last, or that has failed, if
    the ``budget`` of retries (default: the process's) allows it. Where all fail, the last error is
    raised. For calls that may be made twice, such as reads ("The Tail at Scale", CACM 56-2, 2013:
    hedge after the 95th percentile). Raises TypeError or ValueError for an option that cannot work.
    """
    check_callable("call", call, may_be_async=True)
    check_number("after_seconds", after_seconds, least=0, example=0.5)
    check_whole("most", most, least=1, most=100, example=2)
    check_type("budget", budget, RetryBudget)
    shared = budget or process_budget()
    shared.note_call()
    race = _Race(call, after_seconds, most, shared)
    result: T = await (_in_trio(race) if in_trio() else _in_asyncio(race))
    return result


class _Race:
    """Which calls have begun, and when another one may."""

    def __init__(
        self, call: Callable[[], Awaitable[Any]], after: float, most: int, budget: RetryBudget
    ) -> None:
        self.call = call
        self._after = after
        self._left = most
        self._budget = budget
        self._has_begun = False

    def may_begin(self) -> bool:
        if self._left == 0:
            return False
        if self._has_begun and not self._budget.take_retry():
            self._left = 0
            return False
        self._has_begun = True
        self._left -= 1
        return True

    @property
    def patience(self) -> float:
        """How long to wait for those that have begun before another one begins."""
        return self._after if self._left else inf


async def _in_asyncio(race: _Race) -> Any:
    asyncio = sys.modules["asyncio"]
    running: set[Any] = set()
    failed: list[Any] = []  # not their errors: one that is raised here would be held by itself
    try:
        while True:
            if race.may_begin():
                running.add(asyncio.ensure_future(_called(race.call)))
            if not running:
                return failed.pop().result()
            patience = None if race.patience == inf else race.patience
            done, running = await asyncio.wait(
                running, timeout=patience, return_when=asyncio.FIRST_COMPLETED
            )
            failed = [each for each in done if _has_failed(each)]
            done.difference_update(failed)
            if done:
                return done.pop().result()
    finally:
        for each in running:
            each.add_done_callback(_has_failed)
            each.cancel()
        if running:
            await asyncio.wait(running)


async def _called(call: Callable[[], Awaitable[Any]]) -> Any:
    return await call()  # in here, so that what it raises at once is the error of one call


def _has_failed(task: Any) -> bool:
    """Its error is looked at, so that nobody is told of one that none has awaited."""
    return task.cancelled() or task.exception() is not None


async def _in_trio(race: _Race) -> Any:
    tell, hear = sys.modules["trio"].open_memory_channel(inf)
    with hear:  # what nobody has heard goes: an error there is held by its own traceback
        result, error = await _first_in_trio(race, tell, hear)
    if error is None:
        return result
    try:
        raise error
    finally:
        del error  # which leads here


async def _first_in_trio(race: _Race, tell: Any, hear: Any) -> tuple[Any, Exception | None]:
    trio = sys.modules["trio"]

    async def run() -> None:
        try:
            tell.send_nowait((await race.call(), None))
        except Exception as error:  # noqa: BLE001  raised by whoever waits, if none succeeds
            tell.send_nowait((None, error))

    running, result, error = 0, None, None
    async with trio.open_nursery() as nursery:
        while True:
            if race.may_begin():
                nursery.start_soon(run)
                running += 1
            if not running:
                break
            with trio.move_on_after(race.patience):
                result, error = await hear.receive()
                running -= 1
                if error is None:
                    break
        nursery.cancel_scope.cancel()
    return result, error
