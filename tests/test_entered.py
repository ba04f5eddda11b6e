"""Whoever leaves a guard gets the permit that they entered it with, in whatever order they leave."""

import asyncio
import contextvars
import functools
import inspect
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Self

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgi_errorkit.entered import _ENTERED, enter, guarded, leave
from tests.naming import shown


class Guard:
    """Writes down what happens to it; with ``refuses`` it lets nobody in."""

    def __init__(self, *, refuses: bool = False) -> None:
        self.refuses = refuses
        self.log: list[str] = []

    def __enter__(self) -> Self:
        if self.refuses:
            raise PermissionError("refused")
        self.log.append("enter")
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: object, traceback: object) -> None:
        self.log.append("exit" if kind is None else kind.__name__)

    async def __aenter__(self) -> Self:
        self.__enter__()
        self.log[-1] = "aenter"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: object, traceback: object
    ) -> None:
        self.__exit__(kind, exc, traceback)


# Entering and leaving


def test_nothing_is_left_that_was_not_entered() -> None:
    guard, other = Guard(), Guard()
    assert leave(guard) is None
    enter(other, 1, 0.0)
    assert leave(guard) is None
    assert leave(other) == (1, 0.0)


def test_guards_are_told_apart_by_what_they_are_and_not_by_what_they_equal() -> None:
    one, other = [], []  # type: ignore[var-annotated]
    enter(one, 1, 0.5)
    assert leave(other) is None
    assert leave(one) == (1, 0.5)


def test_the_same_guard_gives_back_the_latest_permit_first() -> None:
    guard = Guard()
    enter(guard, 1, 0.1)
    enter(guard, 2, 0.2)
    assert [leave(guard), leave(guard), leave(guard)] == [(2, 0.2), (1, 0.1), None]


def test_one_is_left_from_below_another_which_keeps_its_own() -> None:
    below, above = Guard(), Guard()
    enter(below, 1, 0.1)
    enter(above, 2, 0.2)
    assert leave(below) == (1, 0.1)
    assert leave(above) == (2, 0.2)
    assert leave(above) is None


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 3)), max_size=40))
def test_any_order_of_entering_and_leaving(steps: list[tuple[bool, int]]) -> None:
    """Each guard is a pile of its own, and a context that all have left remembers nothing."""

    def take() -> None:
        guards = [Guard() for _ in range(4)]
        piles: list[list[tuple[int, float]]] = [[] for _ in guards]
        for permit, (enters, which) in enumerate(steps, 1):
            if enters:
                enter(guards[which], permit, permit / 2)
                piles[which].append((permit, permit / 2))
            else:
                assert leave(guards[which]) == (piles[which].pop() if piles[which] else None)
        for guard, pile in zip(guards, piles, strict=True):
            while pile:
                assert leave(guard) == pile.pop()
        assert _ENTERED.get() is None

    contextvars.Context().run(take)


def test_another_thread_knows_of_nothing_and_takes_nothing() -> None:
    guard, found = Guard(), [(0, 0.0)]
    enter(guard, 7, 0.0)
    thread = threading.Thread(target=lambda: found.append(leave(guard)))  # type: ignore[arg-type]
    thread.start()
    thread.join()
    assert found[1:] == [None]
    assert leave(guard) == (7, 0.0)


async def test_tasks_hold_permits_of_their_own() -> None:
    """However their calls lie within each other in time."""
    guard = Guard()
    entered = [asyncio.Event() for _ in range(3)]

    async def call(number: int) -> tuple[int, float] | None:
        enter(guard, number, 0.0)
        entered[number].set()
        for event in entered:
            await event.wait()
        return leave(guard)

    assert await asyncio.gather(*map(call, range(3))) == [(0, 0.0), (1, 0.0), (2, 0.0)]


async def test_what_a_task_was_born_within_it_may_leave_for_itself_alone() -> None:
    guard = Guard()
    enter(guard, 1, 0.0)

    async def child() -> tuple[int, float] | None:
        enter(guard, 2, 0.0)
        return leave(guard)

    assert await asyncio.create_task(child()) == (2, 0.0)
    assert leave(guard) == (1, 0.0)


# Around functions


def sync(a: int, *, b: int = 1) -> int:
    """Divides."""
    return a // b


async def asynchronous(a: int, *, b: int = 1) -> int:
    """Divides, later."""
    await asyncio.sleep(0)
    return a // b


class Sync:
    def __call__(self, a: int, *, b: int = 1) -> int:
        return a // b

    def method(self, a: int, *, b: int = 1) -> int:
        return a // b


class Asynchronous:
    async def __call__(self, a: int, *, b: int = 1) -> int:
        return a // b

    async def method(self, a: int, *, b: int = 1) -> int:
        return a // b


class Generating:
    def __call__(self) -> Iterator[int]:
        yield 1


class GeneratingLater:
    async def __call__(self) -> AsyncIterator[int]:
        yield 1


def generating() -> Iterator[int]:
    yield 1


async def generating_later() -> AsyncIterator[int]:
    yield 1


@pytest.mark.parametrize(
    "generator",
    [
        generating,
        generating_later,
        functools.partial(generating),
        Generating().__call__,
        GeneratingLater().__call__,
    ],
    ids=["sync", "async", "partial", "method", "async method"],
)
def test_a_generator_is_refused_with_what_to_do_instead(generator: Callable[..., Any]) -> None:
    with pytest.raises(TypeError, match="is a generator: use `with` around the loop"):
        guarded(Guard(), generator)


@pytest.mark.parametrize("generator", [Generating(), GeneratingLater()], ids=["sync", "async"])
def test_an_object_that_generates_when_it_is_called_is_refused_too(
    generator: Callable[..., Any],
) -> None:
    """Its call would count as done, and well, before its first piece was made."""
    with pytest.raises(TypeError, match="is a generator"):
        guarded(Guard(), generator)


@pytest.mark.parametrize(
    "function", [sync, Sync(), Sync().method, functools.partial(sync)], ids=shown
)
def test_a_function_runs_within_the_guard(function: Callable[..., int]) -> None:
    guard = Guard()
    around = guarded(guard, function)
    assert around(6, b=2) == 3
    with pytest.raises(ZeroDivisionError):
        around(1, b=0)
    assert guard.log == ["enter", "exit", "enter", "ZeroDivisionError"]


@pytest.mark.parametrize(
    "function",
    [asynchronous, Asynchronous(), Asynchronous().method, functools.partial(asynchronous)],
    ids=shown,
)
async def test_an_async_function_runs_within_the_guard_while_it_is_awaited(
    function: Callable[..., Any],
) -> None:
    guard = Guard()
    around = guarded(guard, function)
    assert inspect.iscoroutinefunction(around)
    called = around(6, b=2)
    assert guard.log == []  # not before
    assert await called == 3
    with pytest.raises(ZeroDivisionError):
        await around(1, b=0)
    assert guard.log == ["aenter", "exit", "aenter", "ZeroDivisionError"]


async def test_whom_the_guard_refuses_the_function_never_sees() -> None:
    called: list[int] = []

    async def later() -> None:
        called.append(1)

    guard = Guard(refuses=True)
    with pytest.raises(PermissionError):
        guarded(guard, called.append)(1)
    with pytest.raises(PermissionError):
        await guarded(guard, later)()
    assert called == []


@pytest.mark.parametrize("function", [sync, asynchronous])
def test_a_guarded_function_keeps_its_name_its_words_and_its_signature(
    function: Callable[..., Any],
) -> None:
    around: Any = guarded(Guard(), function)
    assert (around.__name__, around.__doc__) == (function.__name__, function.__doc__)
    assert inspect.signature(around) == inspect.signature(function)
    assert around.__wrapped__ is function


def test_a_guarded_method_is_bound_to_its_object() -> None:
    guard = Guard()

    class Model:
        size = 3

        def predict(self, number: int) -> int:
            return self.size * number

        guarded_predict = guarded(guard, predict)

    assert Model().guarded_predict(2) == 6
    assert guard.log == ["enter", "exit"]


def test_a_guarded_function_may_call_itself() -> None:
    guard = Guard()

    def down(number: int) -> int:
        return number and around(number - 1)

    around = guarded(guard, down)
    assert around(3) == 0
    assert guard.log == ["enter"] * 4 + ["exit"] * 4


# What ends elsewhere


def length() -> int:
    entry, number = _ENTERED.get(), 0
    while entry is not None:
        entry, number = entry[3], number + 1
    return number


@pytest.mark.parametrize("lies_below", [False, True], ids=["alone", "below one that lasts"])
def test_what_is_left_in_a_copy_of_the_context_takes_no_room_here(lies_below: bool) -> None:
    """As an async generator that is given up is closed by a task of the event loop."""
    guard, lasting = Guard(), Guard()

    def main() -> None:
        for number in range(100):
            enter(guard, number, 0.5)
            if lies_below:
                enter(lasting, number, 0.25)
            assert contextvars.copy_context().run(leave, guard) == (number, 0.5)
            if lies_below and number:
                assert leave(lasting) == (number, 0.25)
        assert length() <= 3
        assert leave(guard) is None

    contextvars.copy_context().run(main)


async def test_generators_that_are_given_up_take_no_room() -> None:
    guard = Guard()

    async def numbers() -> AsyncIterator[int]:
        with guard:
            enter(guard, 1, 0.5)
            try:
                yield 1
            finally:
                leave(guard)

    for _ in range(100):
        async for _number in numbers():
            break
        for _turn in range(5):  # until the loop has closed it
            await asyncio.sleep(0)
    assert length() <= 10  # the loop may be late with some


def test_a_sync_function_that_gives_a_coroutine_is_refused_when_called() -> None:
    """Its call has not ended: all would be counted as gone well."""
    guard = Guard()

    async def hidden() -> None:
        raise AssertionError("not to be run")

    decorated = guarded(guard, lambda *_: hidden())
    with pytest.raises(TypeError, match="guard an async function"):
        decorated()


async def test_tasks_that_begin_tasks_keep_nothing_that_was_left() -> None:
    guard, longest, tasks = Guard(), 0, []

    async def tick(left: int) -> None:
        nonlocal longest
        enter(guard, left, 0.5)
        longest = max(longest, length())
        if left:
            tasks.append(asyncio.ensure_future(tick(left - 1)))
        await asyncio.sleep(0)
        leave(guard)

    await tick(200)
    while tasks:
        await tasks.pop()
    assert longest <= 4
