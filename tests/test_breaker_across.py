"""What a breaker tells of itself to other workers, and what it takes over from them."""

from typing import Any

import pytest

from asgi_errorkit import CircuitBreaker, CircuitPolicy, CircuitState, ErrorType
from asgi_errorkit.circuit_state import Told
from asgi_errorkit.testing import HandClock

CLOSED, OPEN, HALF_OPEN = CircuitState.CLOSED, CircuitState.OPEN, CircuitState.HALF_OPEN
POLICY = CircuitPolicy(minimum_number_of_calls=4, jitter=0.0, successes_to_close=2)


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


def made(clock: HandClock, policy: CircuitPolicy = POLICY) -> CircuitBreaker:
    return CircuitBreaker("x", policy, clock=clock, wall_clock=lambda: 1e9)


def opened(clock: HandClock, **policy: Any) -> CircuitBreaker:
    breaker = made(clock, CircuitPolicy(minimum_number_of_calls=4, jitter=0.0, **policy))
    for _ in range(4):
        breaker.record_failure(breaker.allow())
    return breaker


def elsewhere(clock: HandClock, **members: Any) -> Told:
    usual = {"state": OPEN, "since": clock(), "era": clock(), "retry_at": clock() + 3.0, "trips": 2}
    return Told("x", **{**usual, **members})


def test_what_is_told_of_a_closed_one_is_its_window(clock: HandClock) -> None:
    breaker = made(clock)
    assert breaker.told() == Told("x", error_type="external_service", succeeded_at=float("-inf"))
    breaker.record_success()
    breaker.record_failure()
    told = breaker.told()
    assert (told.state, told.calls, told.failed, told.slow) == (CLOSED, 2, 1, 0)


def test_what_is_told_of_an_open_one_is_what_it_opened_for(clock: HandClock) -> None:
    told = opened(clock).told()
    assert (told.state, told.calls, told.failed) == (OPEN, 4, 4)
    assert (told.retry_at, told.trips, told.error_count) == (clock() + 5.0, 1, 4)


@pytest.mark.parametrize(("mode", "is_of_all"), [("merged", False), ("own", True)])
def test_an_opening_by_its_own_calls_is_its_own_unless_the_policy_says_else(
    clock: HandClock, mode: Any, is_of_all: bool
) -> None:
    told = opened(clock, across_workers=mode).told()
    assert (told.since == told.era) is is_of_all


def test_each_decision_is_later_than_those_before(clock: HandClock) -> None:
    """Though the clock stands still, or goes back."""
    breaker = made(clock)
    seen = []
    for do in (breaker.open, breaker.reset, breaker.reset, breaker.force_open, breaker.reset):
        do()
        clock.move(-1.0)
        seen.append(breaker.told().hand)
    assert seen == sorted(set(seen))


def test_it_follows_with_all_that_was_told(clock: HandClock) -> None:
    breaker = made(clock)
    told = elsewhere(clock, error_type="model", triggered_at=7.0, error_count=9, threshold=0.5)
    breaker.follow(told, breaker.told())
    known = breaker.as_dict()
    assert (known["state"], known["error_type"], known["opened_in_a_row"]) == ("open", "model", 2)
    assert (known["triggered_at"], known["error_count"], known["threshold"]) == (7.0, 9, 0.5)
    assert breaker.error_type is ErrorType.MODEL
    assert known["retry_after_seconds"] == 3.0
    clock.move(3.0)
    assert breaker.state is HALF_OPEN


def test_nobody_keeps_it_open_for_longer_than_its_policy_would(clock: HandClock) -> None:
    breaker = made(clock)
    breaker.follow(elsewhere(clock, retry_at=clock() + 1e6), breaker.told())
    clock.move(POLICY.longest_seconds)
    assert breaker.state is HALF_OPEN


def test_what_was_judged_by_an_older_state_is_left(clock: HandClock) -> None:
    """The next look judges anew."""
    breaker = made(clock)
    seen = breaker.told()
    breaker.force_open()
    breaker.follow(elsewhere(clock), seen)
    breaker.open_for_all("9 of 9 calls failed", (9, 0.5), 0.0, seen)
    breaker.hear(5, seen)
    assert breaker.state is CircuitState.FORCED_OPEN


def test_it_opens_by_the_calls_of_all(clock: HandClock) -> None:
    breaker = made(clock)
    breaker.open_for_all("9 of 9 calls failed", (9, 0.5), 0.0, breaker.told())
    told = breaker.told()
    assert (told.state, told.error_count, told.since == told.era) == (OPEN, 9, True)


def test_what_opened_alone_may_become_that_of_all(clock: HandClock) -> None:
    breaker = opened(clock)
    before = breaker.told()
    breaker.open_for_all("9 of 9 calls failed", (9, 0.5), 0.0, before)
    after = breaker.told()
    assert after.since == after.era == before.since
    assert after.retry_at == before.retry_at


def test_probes_elsewhere_count(clock: HandClock) -> None:
    breaker = made(clock)
    breaker.follow(elsewhere(clock), breaker.told())
    breaker.hear(2, breaker.told())
    assert breaker.state is OPEN, "not before it is half-open"
    clock.move(3.0)
    assert breaker.state is HALF_OPEN
    breaker.hear(1, breaker.told())
    assert breaker.state is HALF_OPEN
    breaker.record_success(breaker.allow())
    assert breaker.state is CLOSED


class Room:
    """Places that say what was asked of them."""

    def __init__(self) -> None:
        self.free, self.taken = 1, 0

    def take(self, most: int) -> bool:
        if self.taken >= self.free:
            return False
        self.taken += 1
        return True

    def keep(self, number: int) -> None:
        self.taken = min(self.taken, number)

    def forget(self) -> None:
        self.taken = 0


def test_a_probe_needs_a_place(clock: HandClock) -> None:
    breaker = made(clock, CircuitPolicy(max_concurrent_probes=2, jitter=0.0, probe_seconds=10.0))
    breaker._places = room = Room()
    breaker.open()
    clock.move(5.0)
    permit = breaker.allow()
    assert permit and not breaker.allow(), "others have the second"
    room.free = 2
    assert breaker.allow()
    breaker.record_success(permit)
    assert room.taken == 1
    clock.move(10.0)
    breaker.tend()
    assert room.taken == 0
    assert breaker.allow()
    breaker.reset_after_fork()
    assert room.taken == 0


def test_what_it_opened_for_alone_others_do_not_close(clock: HandClock) -> None:
    """But for somebody who does so by hand."""
    breaker = opened(clock)
    closed = elsewhere(clock, state=CLOSED, since=clock() + 0.5, era=clock() + 0.5)
    breaker.follow(closed, breaker.told())
    told = breaker.told()
    assert (told.state, told.era) == (OPEN, closed.era)
    breaker.follow(closed._replace(hand=closed.era), told)
    assert breaker.state is CLOSED


@pytest.mark.parametrize("state", [CLOSED, OPEN, CircuitState.DISABLED])
def test_what_it_follows_it_tells_on(clock: HandClock, state: CircuitState) -> None:
    """Who told of it may be gone before all others have heard."""
    breaker, noted = made(clock), list[str]()
    breaker._note = noted.append
    breaker.follow(elsewhere(clock, state=state, hand=clock()), breaker.told())
    assert "x" in noted
