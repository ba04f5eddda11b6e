"""Retries never multiply the calls: a share of them, or a few a second, whatever the clock does."""

import os
import threading
from collections.abc import Callable
from math import ceil, nan
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgi_errorkit.budget import RetryBudget, process_budget
from asgi_errorkit.testing import HandClock

STEPS = 40  # buckets of a window of 10 s


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


def permitted(budget: RetryBudget, asked: int) -> int:
    return sum(budget.take_retry() for _ in range(asked))


@pytest.mark.parametrize(
    ("options", "raised"),
    [
        ({"ratio": -0.1}, ValueError),
        ({"ratio": nan}, ValueError),
        ({"ratio": "0.2"}, TypeError),
        ({"floor_per_second": -1}, ValueError),
        ({"floor_per_second": True}, TypeError),
        ({"window_seconds": 0.5}, ValueError),
        ({"window_seconds": 1e9}, ValueError),
        ({"clock": 3}, TypeError),
    ],
    ids=str,
)
def test_what_does_not_fit_is_refused_by_name(
    options: dict[str, Any], raised: type[Exception]
) -> None:
    with pytest.raises(raised, match=next(iter(options))):
        RetryBudget(**options)


def test_a_budget_of_nothing_permits_nothing(clock: HandClock) -> None:
    budget = RetryBudget(ratio=0, floor_per_second=0, clock=clock)
    budget.note_call()
    clock.move(5)
    assert not budget.take_retry()
    assert budget.refused == 1


def test_without_a_call_the_floor_alone_permits(clock: HandClock) -> None:
    """Three, and again three once a second has passed."""
    budget = RetryBudget(clock=clock)
    assert permitted(budget, 10) == 3
    clock.move(0.999)
    assert permitted(budget, 10) == 0
    clock.move(0.001)
    assert permitted(budget, 10) == 3
    assert (budget.retries, budget.refused) == (6, 24)


@pytest.mark.parametrize(
    ("floor", "seconds", "most"), [(0.5, 2.0, 1), (2.5, 1.2, 3), (1, 1.0, 1)], ids=str
)
def test_a_floor_between_two_numbers_is_kept_over_a_longer_time(
    floor: float, seconds: float, most: int, clock: HandClock
) -> None:
    budget = RetryBudget(ratio=0, floor_per_second=floor, clock=clock)
    assert permitted(budget, 10) == most
    clock.move(seconds - 0.001)
    assert permitted(budget, 10) == 0
    clock.move(0.002)
    assert permitted(budget, 10) == most


def test_many_calls_permit_their_share(clock: HandClock) -> None:
    budget = RetryBudget(clock=clock)
    for _ in range(1000):
        budget.note_call()
    assert permitted(budget, 1000) == 200
    clock.move(2)
    assert permitted(budget, 1000) == 3, "the floor, for the share has been had"
    clock.move(8)
    assert permitted(budget, 1000) == 3, "the calls are ten seconds ago"


def test_calls_that_go_well_permit_retries_too(clock: HandClock) -> None:
    budget = RetryBudget(floor_per_second=0, clock=clock)
    for _ in range(10):
        budget.note_call()
    assert permitted(budget, 10) == 2


def test_a_thousand_calls_that_all_fail_cost_a_fifth_more(clock: HandClock) -> None:
    """Over ten seconds, with three attempts each: without a budget it were three thousand."""
    budget = RetryBudget(clock=clock)
    made = 0
    for _ in range(1000):
        budget.note_call()
        made += 1 + (1 if budget.take_retry() else 0)
        made += 1 if budget.take_retry() else 0
        clock.move(0.0099)
    assert made <= 1200 + 3
    assert made == budget.calls + budget.retries


@pytest.mark.parametrize("jump", [3600.0, -3600.0, 1e9, -1e9, 0.0], ids=str)
def test_a_clock_that_jumps_does_no_harm(jump: float, clock: HandClock) -> None:
    """Neither is a burst permitted then, nor is anything refused for longer."""
    budget = RetryBudget(floor_per_second=3, clock=clock)
    for _ in range(100):
        budget.note_call()
    assert permitted(budget, 100) == 20
    clock.move(jump)
    assert permitted(budget, 100) <= 3
    clock.move(1)
    assert permitted(budget, 100) == 3
    clock.move(10)
    assert budget.as_dict()["window_retries"] == 0


def test_a_clock_that_tells_no_time_once_does_no_harm(clock: HandClock) -> None:
    budget = RetryBudget(clock=clock)
    assert permitted(budget, 9) == 3
    before, clock.at = clock.at, nan
    assert permitted(budget, 9) == 0
    clock.at = before
    assert permitted(budget, 9) == 0
    clock.move(1)
    assert permitted(budget, 9) == 3


def test_its_numbers(clock: HandClock) -> None:
    budget = RetryBudget(floor_per_second=1, clock=clock)
    budget.note_call()
    clock.move(20)
    budget.note_call()
    assert permitted(budget, 2) == 1
    assert budget.as_dict() == {
        "calls": 2,
        "retries": 1,
        "refused": 1,
        "window_calls": 1,
        "window_retries": 1,
        "window_seconds": 10.0,
    }
    assert repr(budget) == "<RetryBudget 1 retries of 2 calls, 1 refused>"


def test_memory_is_bounded(clock: HandClock) -> None:
    budget = RetryBudget(window_seconds=60, clock=clock)
    for _ in range(5000):
        budget.note_call()
        budget.take_retry()
        clock.move(0.5)
    assert len(budget._buckets) == 60
    assert len(budget._latest) == 3


# Against an independent account

EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["call", "calls", "retry", "retries"]),
        st.sampled_from([0, 0, 1, 3, 4, 7, 39, 40, 41, 400, -5]),  # 1/4 s, in which it is exact
    ),
    max_size=60,
)


class Account:
    """All that ever happened, with its time in quarters of a second."""

    def __init__(self, ratio: float, floor: int) -> None:
        self.ratio, self.floor = ratio, floor
        self.now = 0
        self.calls: list[int] = []
        self.retries: list[int] = []

    def within(self, times: list[int], steps: int, until: int | None = None) -> int:
        end = self.now if until is None else until
        return sum(end - steps < at <= end for at in times)

    def take_retry(self) -> bool:
        share = self.within(self.retries, STEPS) < self.ratio * self.within(self.calls, STEPS)
        if share or self.within(self.retries, 4) < self.floor:
            self.retries.append(self.now)
            return True
        return False


@given(
    events=EVENTS, ratio=st.sampled_from([0, 0.1, 0.2, 0.5, 1.0]), floor=st.sampled_from([0, 1, 3])
)
def test_it_keeps_to_the_rule_whatever_happens(
    events: list[tuple[str, int]], ratio: float, floor: int
) -> None:
    """Each answer is that of a full account; and so is the bound on the retries of any window.

    The retries that the share permitted are fewer than ``ratio`` times the calls of the window
    that ended with the last of them, plus one. What came after it the floor permitted, and of
    these no second saw more than ``floor``.
    """
    clock = HandClock(0)
    budget = RetryBudget(ratio=ratio, floor_per_second=floor, clock=clock)
    account = Account(ratio, floor)
    for what, moved in events:
        clock.move(moved / 4)
        account.now += max(0, moved)
        for _ in range(20 if what.endswith("s") else 1):
            if what.startswith("call"):
                budget.note_call()
                account.calls.append(account.now)
            else:
                assert budget.take_retry() is account.take_retry()
        stats = budget.as_dict()
        assert stats["window_calls"] == account.within(account.calls, STEPS)
        assert stats["window_retries"] == account.within(account.retries, STEPS)
    for end in {*account.calls, *account.retries}:
        most_calls = max(
            account.within(account.calls, STEPS, until) for until in range(end - STEPS, end + 1)
        )
        by_floor = floor * (STEPS // 4)
        assert account.within(account.retries, STEPS, end) <= ceil(ratio * most_calls) + by_floor
    assert (budget.calls, budget.retries) == (len(account.calls), len(account.retries))


# Many at once


def test_no_count_is_lost_among_threads() -> None:
    budget = RetryBudget(ratio=0.5, floor_per_second=0, clock=HandClock())

    def work() -> None:
        for _ in range(2000):
            budget.note_call()
            budget.take_retry()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert budget.calls == 16_000
    assert budget.retries + budget.refused == 16_000
    assert budget.retries <= 8_000


def test_who_retries_amid_it_does_not_wait_for_itself() -> None:
    """As a signal handler may, at any line: here where the clock is read. No count goes astray."""
    inner: list[bool] = []

    class Interrupting(HandClock):
        budget: RetryBudget | None = None

        def __call__(self) -> float:
            budget, self.budget = self.budget, None
            if budget is not None:
                inner.append(budget.take_retry())
            return super().__call__()

    clock = Interrupting()
    budget = RetryBudget(clock=clock)
    clock.move(0.3)
    clock.budget = budget
    assert budget.take_retry()
    assert inner == [True]
    assert budget.as_dict()["window_retries"] == 2
    clock.move(11)
    assert budget.as_dict()["window_retries"] == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_begins_anew_though_the_lock_was_held() -> None:
    budget = RetryBudget(clock=HandClock())
    assert permitted(budget, 9) == 3
    held, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with budget._lock:
            held.set()
            leave.wait(30)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(30)
    child = os.fork()
    if child == 0:  # an assertion would unwind into pytest
        fine = False
        try:
            fine = permitted(budget, 9) == 3 and (budget.retries, budget.refused) == (3, 6)
        finally:
            os._exit(0 if fine else 1)
    leave.set()
    thread.join()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert budget.retries == 3


def test_all_of_a_process_share_one() -> None:
    make: Callable[[], RetryBudget] = process_budget
    assert make() is make()
    assert isinstance(make(), RetryBudget)
