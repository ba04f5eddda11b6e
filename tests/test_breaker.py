"""A circuit breaker refuses what is known to fail, finds out when it does not, and never wedges."""

import asyncio
import contextvars
import itertools
import json
import random
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from math import inf, nan
from typing import Any

import pytest
import trio
import trio.testing

from asgi_errorkit import breaker as breaker_module
from asgi_errorkit import call_window as window_module
from asgi_errorkit.breaker import CircuitBreaker, next_permit
from asgi_errorkit.circuit_policy import CircuitPolicy
from asgi_errorkit.circuit_state import MOVES, CircuitState, StateChange
from asgi_errorkit.errors import (
    CircuitOpenError,
    DeadlineExceededError,
    ErrorType,
    OverloadedError,
    PublicError,
)
from asgi_errorkit.testing import HandClock
from tests.naming import shown

CLOSED, OPEN, HALF_OPEN = CircuitState.CLOSED, CircuitState.OPEN, CircuitState.HALF_OPEN
FORCED_OPEN, DISABLED = CircuitState.FORCED_OPEN, CircuitState.DISABLED
METRICS_ONLY = CircuitState.METRICS_ONLY
LETS_THROUGH = (CLOSED, DISABLED, METRICS_ONLY)

EPOCH = 1e9


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


def made(clock: HandClock, **options: Any) -> CircuitBreaker:
    """One that opens at the third failure in a row and closes by one probe, unless told otherwise."""
    usual = {
        "consecutive_failures": 3,
        "failure_rate_threshold": None,
        "open_seconds": 5.0,
        "jitter": 0.0,
        "successes_to_close": 1,
        "probe_seconds": 10.0,
    }
    return CircuitBreaker(
        "model:sdxl",
        CircuitPolicy(**{**usual, **options}),
        clock=clock,
        wall_clock=lambda: EPOCH + clock(),
    )


def half_open(clock: HandClock, **options: Any) -> CircuitBreaker:
    breaker = made(clock, **options)
    breaker.open()
    clock.move(5.0)
    assert breaker.state is HALF_OPEN
    return breaker


def fail(breaker: CircuitBreaker, times: int = 1) -> None:
    for _ in range(times):
        breaker.record_failure(breaker.allow())


def told_by(breaker: CircuitBreaker) -> list[StateChange]:
    told: list[StateChange] = []
    breaker.add_listener(told.append)
    return told


def moves(told: list[StateChange]) -> list[tuple[CircuitState, CircuitState]]:
    return [(change.was, change.now) for change in told]


# Options


RATE = "must be a number above 0 and at most 1, e.g. 0.5"
SPAN = "must be a number above 0 and at most 86400, e.g."
WHOLE = "must be a whole number between 1 and 10000, e.g."


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"failure_rate_threshold": 0}, ValueError, f"failure_rate_threshold {RATE}; got 0"),
        ({"failure_rate_threshold": 50}, ValueError, f"failure_rate_threshold {RATE}; got 50"),
        ({"failure_rate_threshold": nan}, ValueError, f"failure_rate_threshold {RATE}; got nan"),
        ({"failure_rate_threshold": "1"}, TypeError, f"failure_rate_threshold {RATE}; got '1'"),
        ({"failure_rate_threshold": True}, TypeError, f"failure_rate_threshold {RATE}; got True"),
        (
            {"slow_call_rate_threshold": 1.5, "slow_call_seconds": 1},
            ValueError,
            f"slow_call_rate_threshold {RATE}; got 1.5",
        ),
        (
            {"slow_call_rate_threshold": 0.5, "slow_call_seconds": 0},
            ValueError,
            "slow_call_seconds must be a number above 0, e.g. 2.0; got 0",
        ),
        (
            {"slow_call_rate_threshold": 0.5},
            ValueError,
            "slow_call_rate_threshold and slow_call_seconds belong together: give both",
        ),
        ({"slow_call_seconds": 2.0}, ValueError, "belong together: give both, e.g. 0.5 and 2.0"),
        ({"consecutive_failures": 0}, ValueError, f"consecutive_failures {WHOLE} 5; got 0"),
        ({"consecutive_failures": 2.0}, TypeError, f"consecutive_failures {WHOLE} 5; got 2.0"),
        ({"consecutive_failures": 10_001}, ValueError, f"consecutive_failures {WHOLE} 5"),
        ({"window_calls": 0}, ValueError, f"window_calls {WHOLE} 100; got 0"),
        ({"window_calls": 10**6}, ValueError, f"window_calls {WHOLE} 100; got 1000000"),
        ({"minimum_number_of_calls": 0}, ValueError, "minimum_number_of_calls must be a whole"),
        (
            {"minimum_number_of_calls": 101},
            ValueError,
            "minimum_number_of_calls must be at most window_calls (100), or the circuit never",
        ),
        ({"window_seconds": 0}, ValueError, f"window_seconds {SPAN} 30.0; got 0"),
        ({"window_seconds": inf}, ValueError, f"window_seconds {SPAN} 30.0; got inf"),
        ({"open_seconds": 0}, ValueError, f"open_seconds {SPAN} 5.0; got 0"),
        ({"open_seconds": 10**6}, ValueError, f"open_seconds {SPAN} 5.0; got 1000000"),
        ({"open_seconds": None}, TypeError, f"open_seconds {SPAN} 5.0; got None"),
        (
            {"open_seconds": 7, "max_open_seconds": 6},
            ValueError,
            "max_open_seconds must be a number between 7 and 86400, e.g. 15.0; got 6",
        ),
        ({"jitter": -0.1}, ValueError, "jitter must be a number between 0 and 0.5, e.g. 0.2"),
        ({"jitter": 0.6}, ValueError, "jitter must be a number between 0 and 0.5, e.g. 0.2"),
        ({"max_concurrent_probes": 0}, ValueError, f"max_concurrent_probes {WHOLE} 1; got 0"),
        ({"successes_to_close": 0}, ValueError, f"successes_to_close {WHOLE} 3; got 0"),
        ({"probe_seconds": 0}, ValueError, f"probe_seconds {SPAN} 60.0; got 0"),
        ({"quiet_seconds": 0}, ValueError, f"quiet_seconds {SPAN} 30.0; got 0"),
        (
            {"initial_state": "closed"},
            TypeError,
            "initial_state must be a CircuitState, e.g. CircuitState.METRICS_ONLY; got 'closed'",
        ),
        ({"initial_state": OPEN}, ValueError, "initial_state must be closed, forced_open"),
        ({"initial_state": HALF_OPEN}, ValueError, "by what it counts; got half_open"),
        (
            {"failures": "OSError"},
            TypeError,
            "failures must be an exception class or a tuple of them, e.g. (OSError,); got 'OSErr",
        ),
        ({"failures": [OSError]}, TypeError, "failures must be an exception class or a tuple"),
        ({"ignore": (OSError, int)}, TypeError, "ignore must be an exception class or a tuple"),
        ({"ignore": OSError()}, TypeError, "ignore must be an exception class or a tuple"),
    ],
    ids=shown,
)
def test_a_policy_that_cannot_work_says_what_to_give(
    options: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error) as raised:
        CircuitPolicy(**options)
    assert words in str(raised.value)


def test_the_longest_time_is_never_less_than_the_first() -> None:
    """Where none is given it is as long as that, and an example for it is one that works."""
    assert CircuitPolicy(open_seconds=120).longest_seconds == 120
    assert CircuitPolicy().longest_seconds == 15
    with pytest.raises(ValueError, match=r"max_open_seconds .* 120 and 86400, e\.g\. 120; got 60"):
        CircuitPolicy(open_seconds=120, max_open_seconds=60)


@pytest.mark.parametrize(
    "options",
    [
        {"window_seconds": 30.0, "minimum_number_of_calls": 10**6},
        {"failure_rate_threshold": None},
        {"window_calls": 1, "minimum_number_of_calls": 1},
        {"open_seconds": 60.0},
        {"failures": BaseException, "ignore": ()},
        {"failures": (), "ignore": (KeyError, OSError)},
        {"initial_state": FORCED_OPEN},
        {"initial_state": DISABLED},
    ],
    ids=shown,
)
def test_what_can_work_is_taken(options: dict[str, Any]) -> None:
    CircuitBreaker(policy=CircuitPolicy(**options)).record_failure()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"name": None}, "name must be a string, e.g. 'model:sdxl'; got None"),
        ({"policy": {}}, "policy must be a CircuitPolicy or None; got {}"),
        ({"error_type": "model"}, "error_type must be an ErrorType, e.g. ErrorType.MODEL; got"),
        ({"clock": 3}, "clock must be a callable that takes no argument; got 3"),
        ({"wall_clock": None}, "wall_clock must be a callable that takes no argument; got None"),
        ({"random": random.uniform}, "random must be a callable that takes no argument; got"),
        ({"on_change": 3}, "must be a callable that takes (change); got 3"),
        ({"on_change": lambda: None}, "must be a callable that takes (change); got"),
        pytest.param({"on_change": 3}, "on_change must be"),
    ],
    ids=shown,
)
def test_a_breaker_that_cannot_work_says_what_to_give(options: dict[str, Any], words: str) -> None:
    with pytest.raises(TypeError) as raised:
        CircuitBreaker(**options)
    assert words in str(raised.value)


def test_a_listener_that_is_async_is_refused(clock: HandClock) -> None:
    """Nobody would await it."""

    async def listen(change: StateChange) -> None: ...

    with pytest.raises(TypeError, match=r"listener must be a callable .*, and not async"):
        made(clock).add_listener(listen)


def test_the_defaults_open_at_half_of_twenty_calls(clock: HandClock) -> None:
    breaker = CircuitBreaker(clock=clock)
    for _ in range(10):
        breaker.record_success(breaker.allow())
    fail(breaker, 9)
    assert breaker.state is CLOSED
    fail(breaker)
    assert breaker.is_open
    assert 4.0 <= breaker.retry_after_seconds <= 6.0
    assert repr(breaker) == "<CircuitBreaker '' open>"


# Opening


@pytest.mark.parametrize("failures", [2, 3], ids=["below", "at"])
def test_it_opens_at_so_many_failures_in_a_row(failures: int, clock: HandClock) -> None:
    breaker = made(clock)
    fail(breaker, failures)
    assert breaker.is_open is (failures == 3)


@pytest.mark.parametrize("kind", ["success", "slow success"])
def test_a_success_interrupts_a_row_a_cancellation_does_not(kind: str, clock: HandClock) -> None:
    breaker = made(clock, slow_call_rate_threshold=1.0, slow_call_seconds=2.0)
    fail(breaker, 2)
    breaker.record_success(breaker.allow(), seconds=3.0 if kind == "slow success" else 0.1)
    fail(breaker, 2)
    breaker.record_ignored(breaker.allow())
    assert breaker.state is CLOSED
    fail(breaker)
    assert breaker.is_open


def test_a_row_of_failures_ends_with_the_windows_time(clock: HandClock) -> None:
    breaker = made(clock, window_seconds=8.0)
    fail(breaker, 2)
    clock.move(8.0 + 1 / 64)
    fail(breaker, 2)
    assert breaker.state is CLOSED
    clock.move(8.0)
    fail(breaker)
    assert breaker.is_open


def test_a_failure_may_ask_for_fewer_in_a_row_than_the_policy(clock: HandClock) -> None:
    breaker = made(clock, consecutive_failures=None)
    for _ in range(9):
        breaker.record_failure()
    assert breaker.state is CLOSED
    breaker.record_failure(consecutive_failures=10)
    assert breaker.is_open
    assert breaker.error().context["threshold"] == 10


def test_the_latest_failure_says_what_the_refused_are_told(clock: HandClock) -> None:
    breaker = made(clock)
    assert breaker.error_type is ErrorType.EXTERNAL_SERVICE
    fail(breaker, 2)
    breaker.record_failure(error_type=ErrorType.MODEL)
    assert breaker.error().error_type is ErrorType.MODEL
    assert breaker.as_dict()["error_type"] == "model"


def test_the_rate_is_judged_when_a_call_has_failed_not_when_one_fared_well(
    clock: HandClock,
) -> None:
    """Else it would open by the call that shows that all is well again."""
    breaker = made(
        clock, consecutive_failures=None, failure_rate_threshold=0.5, minimum_number_of_calls=4
    )
    fail(breaker, 3)
    breaker.record_success(breaker.allow())
    assert breaker.state is CLOSED
    fail(breaker)
    assert breaker.is_open


@pytest.mark.parametrize(("seconds", "opens"), [(2.0, True), (2.0 - 1 / 64, False), (None, False)])
def test_slow_is_a_call_of_so_many_seconds_or_more(
    seconds: float | None, opens: bool, clock: HandClock
) -> None:
    breaker = made(
        clock,
        slow_call_rate_threshold=1.0,
        slow_call_seconds=2.0,
        minimum_number_of_calls=3,
        window_calls=3,
    )
    for _ in range(3):
        breaker.record_success(breaker.allow(), seconds=seconds)
    assert breaker.is_open is opens
    if opens:
        assert breaker.error().context == {
            "triggered_at": EPOCH + clock(),
            "error_count": 3,
            "threshold": 1.0,
        }


def test_a_with_block_measures_its_call(clock: HandClock) -> None:
    breaker = made(
        clock,
        slow_call_rate_threshold=0.5,
        slow_call_seconds=2.0,
        minimum_number_of_calls=1,
    )
    with breaker:
        clock.move(1.0)
    assert breaker.as_dict()["slow"] == 0
    with breaker:
        clock.move(2.0)
    assert breaker.is_open
    assert breaker.as_dict()["failed"] == 0


# While it is open


def test_who_is_refused_is_told_for_how_long_and_why(clock: HandClock) -> None:
    breaker = made(clock)
    opened_at = EPOCH + clock()
    fail(breaker, 3)
    clock.move(1.5)
    assert breaker.allow() == 0
    with pytest.raises(CircuitOpenError) as raised, breaker:
        pytest.fail("it was let through")
    error = raised.value
    assert error.retry_after_seconds == 3.5
    assert error.context == {"triggered_at": opened_at, "error_count": 3, "threshold": 3}
    assert (error.name, error.status_code) == ("model:sdxl", 503)
    assert breaker.rejected == 2


def test_nobody_is_told_to_come_back_at_once_nor_later_than_the_longest_time(
    clock: HandClock,
) -> None:
    """Close to its time, beside probes, forced open, and after a clock that went back."""
    breaker = made(clock, max_open_seconds=60.0)
    breaker.open()
    clock.move(-7200.0)
    assert breaker.retry_after_seconds == 7205.0
    assert breaker.error().retry_after_seconds == 60.0
    clock.move(7204.75)
    assert breaker.error().retry_after_seconds == 1.0
    clock.move(0.25)
    assert breaker.allow()
    assert breaker.error().retry_after_seconds == 1.0
    breaker.force_open()
    assert breaker.retry_after_seconds == inf
    assert breaker.error().retry_after_seconds == 60.0
    breaker.reset()
    assert breaker.retry_after_seconds == 0.0


def test_opened_by_hand_nothing_is_known_of_why(clock: HandClock) -> None:
    breaker = made(clock)
    breaker.open()
    assert breaker.error().context == {
        "triggered_at": EPOCH + clock(),
        "error_count": None,
        "threshold": None,
    }


def test_what_opened_it_first_is_told_until_it_closes(clock: HandClock) -> None:
    """A probe that failed is no new reason, but a new time."""
    breaker = made(clock)
    fail(breaker, 3)
    clock.move(5.0)
    fail(breaker)
    assert breaker.error().context == {
        "triggered_at": EPOCH + clock(),
        "error_count": 3,
        "threshold": 3,
    }
    clock.move(10.0)
    breaker.record_success(breaker.allow())
    assert breaker.error().context["triggered_at"] is None


@pytest.mark.parametrize("share", [0.0, 0.5, 1 - 1 / 64])
def test_each_time_in_a_row_it_stays_open_twice_as_long_up_to_the_cap(
    share: float, clock: HandClock
) -> None:
    """Give or take a fifth, also at the cap: what opened together must not come back together."""
    breaker = CircuitBreaker(
        policy=CircuitPolicy(open_seconds=4.0, max_open_seconds=20.0, successes_to_close=1),
        clock=clock,
        random=lambda: share,
    )
    breaker.open()
    for usual in (4.0, 8.0, 16.0, 20.0, 20.0, 20.0):
        expected = usual * (0.8 + 0.4 * share)
        assert breaker.retry_after_seconds == pytest.approx(expected)
        clock.move(expected - 1e-6)
        assert breaker.allow() == 0
        clock.move(2e-6)
        fail(breaker)
    clock.move(30.0)
    breaker.record_success(breaker.allow())
    assert breaker.state is CLOSED
    breaker.open()
    assert breaker.retry_after_seconds == pytest.approx(4.0 * (0.8 + 0.4 * share))


def test_opened_thousands_of_times_in_a_row_the_time_stays_at_the_cap(clock: HandClock) -> None:
    breaker = made(clock)
    breaker.open()
    for _ in range(3000):
        clock.move(60.0)
        fail(breaker)
    assert breaker.retry_after_seconds == 15.0
    assert breaker.as_dict()["opened_in_a_row"] == 3001


def test_breakers_that_open_together_come_back_apart(clock: HandClock) -> None:
    """By random numbers of their own, when none are given."""
    spans = set()
    for _ in range(50):
        breaker = CircuitBreaker(clock=clock)
        breaker.open()
        spans.add(breaker.retry_after_seconds)
    assert len(spans) == 50
    assert 4.0 <= min(spans) < 4.5 and 5.5 < max(spans) <= 6.0


# Half open


def test_its_probes_are_let_through_and_no_more(clock: HandClock) -> None:
    breaker = half_open(clock, max_concurrent_probes=3, successes_to_close=5)
    permits = [breaker.allow() for _ in range(5)]
    assert [bool(permit) for permit in permits] == [True] * 3 + [False] * 2
    assert len(set(permits[:3])) == 3
    breaker.record_success(permits[1])
    assert breaker.allow() and not breaker.allow()
    assert not breaker.is_open


@pytest.mark.parametrize("kind", ["failed", "slow"])
def test_a_probe_that_fails_or_is_slow_opens_it_again(kind: str, clock: HandClock) -> None:
    breaker = half_open(
        clock, slow_call_rate_threshold=0.5, slow_call_seconds=2.0, successes_to_close=2
    )
    told = told_by(breaker)
    breaker.record_success(breaker.allow())
    if kind == "failed":
        breaker.record_failure(breaker.allow())
    else:
        breaker.record_success(breaker.allow(), seconds=2.0)
    assert moves(told) == [(HALF_OPEN, OPEN)]
    assert kind in told[0].why


def test_so_many_probes_that_fare_well_close_it(clock: HandClock) -> None:
    """And what was before is forgotten."""
    breaker = half_open(clock, successes_to_close=3)
    told = told_by(breaker)
    for number in range(3):
        assert breaker.state is HALF_OPEN, number
        breaker.record_success(breaker.allow())
    assert moves(told) == [(HALF_OPEN, CLOSED)]
    fail(breaker, 2)
    assert breaker.state is CLOSED


def test_a_probe_that_is_never_heard_of_makes_room_at_its_time(clock: HandClock) -> None:
    breaker = half_open(clock)
    assert breaker.allow()
    clock.move(10.0 - 1 / 64)
    assert not breaker.allow()
    clock.move(1 / 64)
    found = breaker.allow()
    assert found and breaker.expired == 1
    breaker.record_success(found)
    assert breaker.state is CLOSED


def test_probes_that_take_longer_than_they_may_count_when_they_end(clock: HandClock) -> None:
    """Else what always takes so long, such as a video, would never close its circuit."""
    breaker = half_open(clock, successes_to_close=3)
    slow = []
    for _ in range(3):
        slow.append(breaker.allow())
        clock.move(10.0)
    for permit in slow:
        breaker.record_success(permit)
        breaker.record_success(permit)  # once
    assert (breaker.state, breaker.expired, breaker.late) == (CLOSED, 2, 3)


def test_a_probe_that_fails_after_its_time_opens_it(clock: HandClock) -> None:
    breaker = half_open(clock)
    slow = breaker.allow()
    clock.move(60.0)
    assert breaker.allow()
    breaker.record_failure(slow)
    assert breaker.state is OPEN


def test_a_probe_from_before_it_opened_again_counts_for_nothing(clock: HandClock) -> None:
    breaker = half_open(clock)
    slow = breaker.allow()
    clock.move(10.0)
    breaker.record_failure(breaker.allow())
    clock.move(3600.0)
    assert breaker.state is HALF_OPEN
    breaker.record_success(slow)
    assert (breaker.state, breaker.late) == (HALF_OPEN, 1)


def test_of_probes_that_never_end_a_bounded_number_is_remembered(clock: HandClock) -> None:
    breaker = half_open(clock)
    first = breaker.allow()
    for _ in range(1000):
        clock.move(10.0)
        assert breaker.allow()
    clock.move(10.0)
    assert breaker.allow()
    breaker.record_failure(first)
    assert (breaker.state, breaker.late, len(breaker._overdue)) == (HALF_OPEN, 1, 1000)


def test_what_is_given_back_late_twice_or_by_strangers_changes_nothing(clock: HandClock) -> None:
    breaker = made(clock)
    before = breaker.allow()
    fail(breaker, 3)
    clock.move(5.0)
    probe, stranger = breaker.allow(), half_open(HandClock()).allow()
    for give in (breaker.record_failure, breaker.record_success, breaker.record_ignored):
        give(before)
        give(stranger)
    assert (breaker.state, breaker.late) == (HALF_OPEN, 6)
    breaker.record_ignored(probe)
    breaker.record_ignored(probe)
    breaker.record_failure(probe)
    assert (breaker.state, breaker.late) == (HALF_OPEN, 8)
    breaker.record_success(breaker.allow())
    breaker.record_failure(before)
    assert breaker.as_dict()["failed"] == 0


def test_a_report_without_a_permit_frees_a_probe(clock: HandClock) -> None:
    """Nobody knows whose it is, and none must be kept for ever."""
    breaker = half_open(clock, successes_to_close=2)
    assert breaker.allow() and not breaker.allow()
    breaker.record_success()
    assert breaker.allow()
    breaker.record_success()
    assert breaker.state is CLOSED


def test_a_breaker_that_is_told_of_failures_alone_closes_when_it_is_quiet(
    clock: HandClock,
) -> None:
    breaker = half_open(clock, quiet_seconds=30.0)
    clock.move(30.0 - 1 / 64)
    assert breaker.state is HALF_OPEN
    clock.move(1 / 64)
    assert breaker.state is CLOSED


def test_it_is_not_quiet_while_somebody_probes(clock: HandClock) -> None:
    """Nor for ever, if that one is lost."""
    breaker = half_open(clock, quiet_seconds=4.0)
    assert breaker.allow()
    clock.move(9.0)
    assert breaker.state is HALF_OPEN
    clock.move(1.0)
    assert breaker.state is CLOSED
    assert breaker.expired == 1


# By hand


@pytest.mark.parametrize("was", list(CircuitState), ids=lambda state: state.value)
@pytest.mark.parametrize(
    ("put", "to"),
    [
        (CircuitBreaker.open, OPEN),
        (CircuitBreaker.force_open, FORCED_OPEN),
        (CircuitBreaker.disable, DISABLED),
        (CircuitBreaker.metrics_only, METRICS_ONLY),
        (CircuitBreaker.reset, CLOSED),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_whoever_puts_it_into_a_state_finds_it_there(
    put: Callable[[CircuitBreaker], None], to: CircuitState, was: CircuitState, clock: HandClock
) -> None:
    """It is told once, and not at all if it is there already."""
    breaker = in_state(was, clock)
    told = told_by(breaker)
    put(breaker)
    put(breaker)
    assert breaker.state is to
    assert moves(told) == ([] if was is to else [(was, to)])
    assert all(change.why == "by hand" for change in told)
    assert bool(breaker.allow()) is (to in LETS_THROUGH)


def in_state(state: CircuitState, clock: HandClock, **options: Any) -> CircuitBreaker:
    breaker = half_open(clock, **options) if state is HALF_OPEN else made(clock, **options)
    if state is OPEN:
        breaker.open()
    elif state is FORCED_OPEN:
        breaker.force_open()
    elif state is DISABLED:
        breaker.disable()
    elif state is METRICS_ONLY:
        breaker.metrics_only()
    assert breaker.state is state
    return breaker


def test_to_open_one_whose_time_is_up_opens_it_anew(clock: HandClock) -> None:
    """Whether somebody has asked for its state since or not."""
    breaker = made(clock)
    breaker.open()
    clock.move(5.0)
    breaker.open()
    assert breaker.state is OPEN


def test_a_reset_forgets_all_calls_so_far_and_no_permit(clock: HandClock) -> None:
    breaker = made(clock)
    permit = breaker.allow()
    fail(breaker, 2)
    breaker.reset()
    assert breaker.as_dict()["calls"] == 0
    breaker.record_failure(permit)
    assert breaker.as_dict()["failed"] == 1
    fail(breaker)
    assert breaker.state is CLOSED
    fail(breaker)
    assert breaker.is_open


def test_what_is_forced_open_stays_so_whatever_comes(clock: HandClock) -> None:
    breaker = half_open(clock, quiet_seconds=4.0)
    probe = breaker.allow()
    breaker.force_open()
    breaker.record_success(probe)
    breaker.record_success()
    clock.move(86_400.0)
    assert breaker.state is FORCED_OPEN
    assert breaker.is_open and not breaker.allow()
    assert breaker.as_dict()["retry_after_seconds"] is None


def test_what_is_disabled_counts_nothing(clock: HandClock) -> None:
    breaker = in_state(DISABLED, clock)
    fail(breaker, 100)
    breaker.record_success(breaker.allow())
    assert breaker.state is DISABLED
    known = breaker.as_dict()
    assert (known["calls"], known["rejected"], known["late"]) == (0, 0, 0)
    breaker.reset()
    fail(breaker, 2)
    assert breaker.state is CLOSED


def test_what_is_disabled_counts_late_permits_alike_however_they_ended(clock: HandClock) -> None:
    breaker = made(clock)
    permit = breaker.allow()
    breaker.disable()
    breaker.record_success(permit)
    after_success = breaker.late
    breaker.record_ignored(permit)
    assert breaker.late == 2 * after_success


def test_metrics_only_lets_all_through_and_counts_how_often_it_would_have_opened(
    clock: HandClock,
) -> None:
    """And tells each time, with why; then it counts anew."""
    breaker = made(clock, initial_state=METRICS_ONLY)
    told = told_by(breaker)
    fail(breaker, 7)
    assert breaker.allow()
    assert breaker.would_have_opened == 2
    assert moves(told) == [(METRICS_ONLY, METRICS_ONLY)] * 2
    assert told[0] == StateChange(
        "model:sdxl", METRICS_ONLY, METRICS_ONLY, EPOCH + clock(), "3 failures in a row"
    )
    breaker.reset()
    fail(breaker, 3)
    assert breaker.is_open
    assert breaker.would_have_opened == 2


# Telling


def test_a_whole_life_is_told_in_order(clock: HandClock) -> None:
    told: list[StateChange] = []
    breaker = CircuitBreaker(
        "b",
        CircuitPolicy(consecutive_failures=1, jitter=0, successes_to_close=1),
        on_change=told.append,
        clock=clock,
        wall_clock=lambda: EPOCH + clock(),
    )
    fail(breaker)
    clock.move(5.0)
    fail(breaker)
    clock.move(10.0)
    breaker.record_success(breaker.allow())
    assert moves(told) == [
        (CLOSED, OPEN),
        (OPEN, HALF_OPEN),
        (HALF_OPEN, OPEN),
        (OPEN, HALF_OPEN),
        (HALF_OPEN, CLOSED),
    ]
    assert [change.at - EPOCH for change in told] == [1000.0, 1005.0, 1005.0, 1015.0, 1015.0]
    assert [change.why for change in told] == [
        "1 failures in a row",
        "its time was up",
        "a probe failed",
        "its time was up",
        "1 probes fared well",
    ]


def test_a_listener_that_raises_is_counted_and_stops_no_other(clock: HandClock) -> None:
    breaker = made(clock)

    def broken(change: StateChange) -> None:
        raise RuntimeError(change.why)

    breaker.add_listener(broken)
    told = told_by(breaker)
    breaker.open()
    breaker.reset()
    assert breaker.listener_errors == breaker.as_dict()["listener_errors"] == 2
    assert moves(told) == [(CLOSED, OPEN), (OPEN, CLOSED)]


def test_a_listener_may_ask_the_breaker_from_any_thread(clock: HandClock) -> None:
    """It is told outside of any lock."""
    breaker = made(clock)
    seen: list[tuple[CircuitState, int]] = []

    def listen(change: StateChange) -> None:
        thread = threading.Thread(target=lambda: seen.append((breaker.state, breaker.allow())))
        thread.start()
        thread.join(30)

    breaker.add_listener(listen)
    fail(breaker, 3)
    assert seen == [(OPEN, 0)]


def test_a_listener_may_move_the_breaker(clock: HandClock) -> None:
    breaker = made(clock)

    def listen(change: StateChange) -> None:
        if change.now is OPEN:
            breaker.metrics_only()

    breaker.add_listener(listen)
    fail(breaker, 3)
    assert breaker.state is METRICS_ONLY


def test_all_listeners_are_told_in_the_same_order(clock: HandClock) -> None:
    """Also of what one of them does when it is told."""
    breaker = made(clock)
    breaker.add_listener(lambda change: breaker.reset() if change.now is OPEN else None)
    told = told_by(breaker)
    breaker.open()
    assert moves(told) == [(CLOSED, OPEN), (OPEN, CLOSED)]


@pytest.mark.parametrize("state", list(CircuitState), ids=lambda state: state.value)
def test_all_that_is_known_is_plain_json(state: CircuitState, clock: HandClock) -> None:
    breaker = in_state(state, clock)
    known = breaker.as_dict()
    assert json.loads(json.dumps(known, allow_nan=False)) == known
    assert known["state"] == state.value
    assert known["name"] == "model:sdxl"


def test_a_move_that_the_table_does_not_know_changes_nothing(clock: HandClock) -> None:
    breaker = made(clock)
    told = told_by(breaker)
    with pytest.raises(RuntimeError, match="a breaker cannot go from closed to half_open"):
        breaker._move(HALF_OPEN, clock(), "a defect")
    assert breaker.state is CLOSED
    assert breaker.allow() and told == []


def test_no_state_leads_to_itself_nor_is_without_a_way_out() -> None:
    assert set(MOVES) == set(CircuitState)
    for was, to in MOVES.items():
        assert was not in to
        assert CLOSED in to or was is CLOSED
    assert [was for was, to in MOVES.items() if HALF_OPEN in to] == [OPEN]


# What counts


class TeapotError(PublicError):
    def __init__(self) -> None:
        super().__init__("I am a teapot.", status_code=418)


COUNTS_FOR_NOTHING = [
    KeyboardInterrupt(),
    SystemExit(),
    GeneratorExit(),
    asyncio.CancelledError(),
    BaseExceptionGroup("several", [asyncio.CancelledError()]),
    PublicError("No such image.", status_code=404),
    TeapotError(),
    CircuitOpenError("further in", retry_after_seconds=1.0),
    OverloadedError("queue"),
    BrokenPipeError("ignored by the policy"),
]
IS_A_FAILURE = [
    OSError("down"),
    TimeoutError(),
    ExceptionGroup("several", [OSError()]),
    PublicError("Broken.", status_code=500),
    DeadlineExceededError("total", 5.0),
]


def named(exc: BaseException) -> str:
    return type(exc).__name__


@pytest.mark.parametrize("exc", COUNTS_FOR_NOTHING, ids=named)
def test_what_says_nothing_of_the_callee_passes_and_gives_its_permit_back(
    exc: BaseException, clock: HandClock
) -> None:
    """Half open, where one that counted would open or close it, and one that was kept would stay."""
    breaker = half_open(clock, ignore=BrokenPipeError)
    with pytest.raises(type(exc)) as raised, breaker:
        raise exc
    assert raised.value is exc
    assert (breaker.state, breaker.as_dict()["probes"]) == (HALF_OPEN, 0)
    assert breaker.allow()
    assert (breaker.late, breaker.expired) == (0, 0)


@pytest.mark.parametrize("exc", COUNTS_FOR_NOTHING, ids=named)
def test_what_says_nothing_neither_fails_nor_interrupts_a_row(
    exc: BaseException, clock: HandClock
) -> None:
    breaker = made(clock, ignore=BrokenPipeError)
    fail(breaker, 2)
    breaker.record(breaker.allow(), exc)
    assert (breaker.state, breaker.as_dict()["calls"]) == (CLOSED, 2)
    fail(breaker)
    assert breaker.is_open


@pytest.mark.parametrize("exc", IS_A_FAILURE, ids=named)
def test_what_is_the_callees_fault_is_a_failure_and_passes(
    exc: Exception, clock: HandClock
) -> None:
    breaker = half_open(clock)
    with pytest.raises(type(exc)) as raised, breaker:
        raise exc
    assert raised.value is exc
    assert breaker.is_open


def test_exceptions_that_are_neither_failures_nor_ignored_are_answers(clock: HandClock) -> None:
    breaker = made(clock, failures=(OSError, TimeoutError), ignore=(ConnectionResetError,))
    for exc in (KeyError("a"), ConnectionRefusedError(), ConnectionResetError()):
        with pytest.raises(type(exc)), breaker:
            raise exc
    known = breaker.as_dict()
    assert (known["calls"], known["failed"]) == (2, 1)


def test_a_cancellation_in_trio_gives_the_permit_back(clock: HandClock) -> None:
    breaker = half_open(clock)

    async def main() -> None:
        with trio.CancelScope(deadline=trio.current_time() + 1.0) as scope:
            async with breaker:
                await trio.sleep(50.0)
        assert scope.cancelled_caught

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    assert (breaker.state, breaker.as_dict()["probes"], breaker.late) == (HALF_OPEN, 0, 0)


async def test_a_cancellation_in_asyncio_gives_the_permit_back(clock: HandClock) -> None:
    breaker = half_open(clock)
    entered = asyncio.Event()

    async def call() -> None:
        async with breaker:
            entered.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(call())
    await entered.wait()
    assert not breaker.allow()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (breaker.state, breaker.as_dict()["probes"], breaker.late) == (HALF_OPEN, 0, 0)


def test_a_generator_that_nobody_reads_on_gives_the_permit_back(clock: HandClock) -> None:
    breaker = half_open(clock)

    def pieces() -> Iterator[int]:
        with breaker:
            yield 1
            yield 2

    reading = pieces()
    assert next(reading) == 1
    assert not breaker.allow()
    reading.close()  # type: ignore[attr-defined]
    assert breaker.allow()


# Around calls


def call_sync(breaker: CircuitBreaker, exc: Exception | None) -> None:
    @breaker
    def call() -> str:
        if exc is not None:
            raise exc
        return "answer"

    assert call() == "answer"


def call_async(breaker: CircuitBreaker, exc: Exception | None) -> None:
    @breaker
    async def call() -> str:
        await asyncio.sleep(0)
        if exc is not None:
            raise exc
        return "answer"

    assert asyncio.run(call()) == "answer"


def call_object(breaker: CircuitBreaker, exc: Exception | None) -> None:
    class Model:
        def __call__(self) -> str:
            if exc is not None:
                raise exc
            return "answer"

    assert breaker(Model())() == "answer"


def call_async_partial(breaker: CircuitBreaker, exc: Exception | None) -> None:
    async def call(answer: str) -> str:
        if exc is not None:
            raise exc
        return answer

    assert asyncio.run(breaker(partial(call, "answer"))()) == "answer"


def call_with(breaker: CircuitBreaker, exc: Exception | None) -> None:
    with breaker as entered:
        assert entered is breaker
        if exc is not None:
            raise exc


def call_async_with(breaker: CircuitBreaker, exc: Exception | None) -> None:
    async def call() -> None:
        async with breaker as entered:
            assert entered is breaker
            await asyncio.sleep(0)
            if exc is not None:
                raise exc

    asyncio.run(call())


@pytest.mark.parametrize(
    "call",
    [call_sync, call_async, call_object, call_async_partial, call_with, call_async_with],
    ids=lambda call: call.__name__,
)
def test_every_way_around_a_call_counts_and_refuses_alike(
    call: Callable[[CircuitBreaker, Exception | None], None], clock: HandClock
) -> None:
    breaker = made(clock)
    call(breaker, None)
    for _ in range(3):
        with pytest.raises(OSError, match="down"):
            call(breaker, OSError("down"))
    known = breaker.as_dict()
    assert (known["state"], known["error_count"]) == ("open", 3)
    with pytest.raises(CircuitOpenError):
        call(breaker, None)
    clock.move(5.0)
    call(breaker, None)
    assert breaker.state is CLOSED
    assert (breaker.rejected, breaker.late) == (1, 0)


def test_generators_are_refused(clock: HandClock) -> None:
    def pieces() -> Iterator[int]:
        yield 1

    with pytest.raises(TypeError, match="is a generator"):
        made(clock)(pieces)


def test_a_call_within_itself_takes_a_probe_each_and_gives_each_back(clock: HandClock) -> None:
    breaker = half_open(clock, max_concurrent_probes=3, successes_to_close=3)

    @breaker
    def call(depth: int) -> None:
        if depth:
            call(depth - 1)

    with pytest.raises(CircuitOpenError):
        call(3)  # the fourth finds no room, which says nothing of the three
    assert (breaker.state, breaker.as_dict()["probes"]) == (HALF_OPEN, 0)
    call(2)
    assert breaker.state is CLOSED


def test_of_different_breakers_within_each_other_each_is_told_of_its_own(
    clock: HandClock,
) -> None:
    outer, inner = half_open(clock), half_open(clock)
    assert outer.state is HALF_OPEN
    with outer, pytest.raises(OSError, match="inner"), inner:
        raise OSError("inner")
    assert (outer.state, inner.state) == (CLOSED, OPEN)
    with outer, pytest.raises(CircuitOpenError), inner:
        pytest.fail("it was let through")
    assert outer.as_dict()["failed"] == 0


def test_entries_that_interleave_give_back_what_they_took(clock: HandClock) -> None:
    """As two fixtures do that are left in the order in which they were entered."""
    first, second = half_open(clock), half_open(clock)
    assert first.state is HALF_OPEN
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert (first.state, second.state) == (CLOSED, HALF_OPEN)
    second.__exit__(OSError, OSError(), None)
    assert (second.state, first.late, second.late) == (OPEN, 0, 0)


async def test_probes_of_tasks_that_interleave_are_told_apart(clock: HandClock) -> None:
    """The one that was cancelled is given back, and the other one's answer counts."""
    breaker = half_open(clock, max_concurrent_probes=2)
    first_in, second_in, go_on = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def call(entered: asyncio.Event) -> None:
        async with breaker:
            entered.set()
            await go_on.wait()

    first = asyncio.create_task(call(first_in))
    await first_in.wait()
    second = asyncio.create_task(call(second_in))
    await second_in.wait()
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    assert (breaker.state, breaker.as_dict()["probes"]) == (HALF_OPEN, 1)
    go_on.set()
    await second
    assert (breaker.state, breaker.late) == (CLOSED, 0)


@pytest.mark.parametrize("fails", [False, True])
def test_what_is_left_in_another_thread_counts_and_keeps_no_probe(
    fails: bool, clock: HandClock
) -> None:
    """As a framework does that runs the second half of a generator elsewhere."""
    breaker = half_open(clock)
    breaker.__enter__()
    how = (OSError, OSError(), None) if fails else (None, None, None)
    thread = threading.Thread(target=breaker.__exit__, args=how)
    thread.start()
    thread.join()
    assert breaker.state is (OPEN if fails else CLOSED)
    assert (breaker.as_dict()["probes"], breaker.late) == (0, 0)


def test_a_call_that_outlives_a_change_of_state_is_late(clock: HandClock) -> None:
    breaker = made(clock)
    with breaker:
        breaker.open()
        clock.move(5.0)
        assert breaker.allow()
    assert (breaker.state, breaker.late) == (HALF_OPEN, 1)


# Clocks that jump


@pytest.mark.parametrize("jump", [-3600.0, 3600.0, 86_400.0 * 365])
@pytest.mark.parametrize("window_seconds", [None, 20.0])
@pytest.mark.parametrize("state", [CLOSED, OPEN, HALF_OPEN], ids=lambda state: state.value)
def test_a_clock_that_jumps_wedges_nothing(
    jump: float, window_seconds: float | None, state: CircuitState, clock: HandClock
) -> None:
    """Given the time that it lacks it tries again, and closes."""
    breaker = in_state(state, clock, window_seconds=window_seconds)
    if state is HALF_OPEN:
        assert breaker.allow()
    clock.move(jump)
    fail(breaker, 3)
    clock.move(3600.0 + 60.0)
    for _ in range(2):
        breaker.record_success(breaker.allow())
    assert breaker.state is CLOSED
    fail(breaker, 3)
    assert breaker.is_open


# Threads


THREADS, ROUNDS = 16, 300


def together(work: Callable[[int, threading.Barrier], None]) -> None:
    """Run it in so many threads; what one raises is raised, and none is waited for in vain."""
    raised: list[BaseException] = []
    barrier = threading.Barrier(THREADS, timeout=60)

    def run(number: int) -> None:
        try:
            work(number, barrier)
        except BaseException as exc:
            raised.append(exc)
            barrier.abort()

    running = [threading.Thread(target=run, args=(n,), daemon=True) for n in range(THREADS)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join(60)
        assert not thread.is_alive(), "a deadlock"
    for exc in raised:
        raise exc


@pytest.fixture
def switching() -> Iterator[None]:
    """Threads take turns at every few bytecodes."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("switching")
@pytest.mark.parametrize(("probes", "rounds"), [(1, 50), (3, ROUNDS), (16, 50)])
def test_of_threads_that_ask_at_once_exactly_as_many_get_through_as_may(
    probes: int, rounds: int, clock: HandClock
) -> None:
    """Again and again, with results of all kinds; each round is decided by a failure, if there was one."""
    breaker = made(clock, max_concurrent_probes=probes, successes_to_close=probes)
    dice = random.Random(probes)
    let_through: list[int] = []
    states: list[CircuitState] = []
    kinds: list[list[str]] = [
        dice.choices(["success", "failure", "ignored", "lost"], [6, 1, 2, 1], k=THREADS)
        for _ in range(rounds)
    ]
    ended: list[str] = []

    def begin() -> None:
        breaker.reset()
        breaker.open()
        clock.move(5.0)
        let_through.clear()
        ended.clear()

    def work(number: int, barrier: threading.Barrier) -> None:
        for kind in (of_round[number] for of_round in kinds):
            if barrier.wait() == 0:
                begin()
            barrier.wait()
            permit = breaker.allow()
            if permit:
                let_through.append(permit)
            barrier.wait()
            assert len(let_through) == len(set(let_through)) == probes
            if permit:
                ended.append(kind)
                give(breaker, permit, kind)
            if barrier.wait() == 0:
                states.append(expected_after(ended, probes))
                assert breaker.state is states[-1]
            barrier.wait()

    together(work)
    assert len(states) == rounds
    assert {OPEN, CLOSED, HALF_OPEN} == set(states) or probes == 16
    assert breaker.rejected == rounds * (THREADS - probes)


def give(breaker: CircuitBreaker, permit: int, kind: str) -> None:
    if kind == "success":
        breaker.record_success(permit)
    elif kind == "failure":
        breaker.record_failure(permit)
    elif kind == "ignored":
        breaker.record_ignored(permit)


def expected_after(ended: list[str], probes: int) -> CircuitState:
    if "failure" in ended:
        return OPEN
    return CLOSED if ended.count("success") == probes else HALF_OPEN


def follow_on(first: CircuitState, told: list[StateChange], breaker: CircuitBreaker) -> bool:
    """Every change follows on another; two threads may tell of theirs in either order."""
    ways_in = Counter([first, *(change.now for change in told)])
    return ways_in == Counter([*(change.was for change in told), breaker._state])


@pytest.mark.usefixtures("switching")
def test_threads_that_do_everything_at_once_break_nothing(clock: HandClock) -> None:
    """Probes are never above their number, what is told hangs together, and the account is exact."""
    breaker = made(clock, max_concurrent_probes=2, successes_to_close=2, quiet_seconds=20.0)
    told: list[StateChange] = []
    breaker.add_listener(told.append)
    asked, refused = [0] * THREADS, [0] * THREADS
    by_hand = [
        breaker.force_open,
        breaker.reset,
        breaker.open,
        breaker.metrics_only,
        breaker.disable,
        breaker.reset,
    ]

    def work(number: int, barrier: threading.Barrier) -> None:
        dice = random.Random(number)
        barrier.wait()
        for _ in range(ROUNDS):
            chosen = dice.random()
            if chosen < 0.6:
                asked[number] += 1
                permit = breaker.allow()
                refused[number] += not permit
                if permit:
                    give(breaker, permit, dice.choice(["success", "failure", "ignored", "lost"]))
            elif chosen < 0.7:
                known = breaker.as_dict()
                assert known["probes"] <= 2
                assert known["failed"] <= known["calls"]
            elif chosen < 0.8:
                breaker.record_failure()
            elif chosen < 0.9:
                clock.move(1.0)
            elif chosen < 0.93:
                dice.choice(by_hand)()
            else:
                assert breaker.state in CircuitState
                assert breaker.retry_after_seconds >= 0.0

    together(work)
    assert breaker.rejected == sum(refused) > 0
    assert breaker.listener_errors == 0
    assert all(change.now in MOVES[change.was] for change in told if change.was is not change.now)
    assert breaker.state in CircuitState and follow_on(CLOSED, told, breaker)
    breaker.reset()
    assert breaker.allow()


@pytest.mark.usefixtures("switching")
def test_successes_without_a_lock_are_all_counted(clock: HandClock) -> None:
    breaker = made(clock, window_calls=10_000)

    def work(number: int, barrier: threading.Barrier) -> None:
        barrier.wait()
        for _ in range(ROUNDS):
            breaker.record_success(breaker.allow())

    together(work)
    assert breaker.as_dict()["calls"] == THREADS * ROUNDS


# Whoever interrupts: signal handlers, and what the garbage collector closes


@pytest.mark.skipif(not hasattr(signal, "raise_signal"), reason="no signals here")
def test_a_signal_handler_that_records_does_not_wait_for_whom_it_interrupts(
    clock: HandClock,
) -> None:
    """It comes while the lock is held, in the thread that holds it."""
    breaker = made(clock)
    usual, pending = breaker._clock, [1]

    def interrupted() -> float:
        if pending:
            pending.pop()
            signal.raise_signal(signal.SIGTERM)
        return usual()

    breaker._clock = interrupted
    before = signal.signal(signal.SIGTERM, lambda *_: fail(breaker))
    try:
        fail(breaker)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert pending == []
    assert breaker.as_dict()["failed"] == 2


ACTS: dict[str, Callable[[CircuitBreaker], object]] = {
    "ask": CircuitBreaker.allow,
    "state": lambda breaker: breaker.state,
    "succeed": CircuitBreaker.record_success,
    "fail": CircuitBreaker.record_failure,
    "open": CircuitBreaker.open,
    "force_open": CircuitBreaker.force_open,
    "reset": CircuitBreaker.reset,
}


def one_failure_before_it_opens(clock: HandClock) -> CircuitBreaker:
    breaker = made(clock)
    fail(breaker, 2)
    return breaker


def a_probe_is_out(clock: HandClock) -> CircuitBreaker:
    breaker = half_open(clock)
    assert breaker.allow()
    return breaker


def a_probe_is_overdue(clock: HandClock) -> CircuitBreaker:
    breaker = a_probe_is_out(clock)
    clock.move(20.0)
    return breaker


def its_time_is_up(clock: HandClock) -> CircuitBreaker:
    breaker = made(clock)
    breaker.open()
    clock.move(5.0)
    return breaker


def interrupted_at(nth: int, handle: Callable[[], object], run: Callable[[], object]) -> bool:
    """Run the one, and the other within it before the nth line of the breaker's own code."""
    own = {breaker_module.__file__, window_module.__file__}
    lines = itertools.count(1)
    was = sys.gettrace()
    interrupts = False

    def trace(frame: Any, event: str, arg: object) -> Any:
        nonlocal interrupts
        if frame.f_code.co_filename not in own:
            return None
        if event == "line" and next(lines) == nth:
            interrupts = True
            sys.settrace(None)
            handle()
        return trace

    sys.settrace(trace)
    try:
        run()
    finally:
        sys.settrace(was)
    return interrupts


@pytest.mark.parametrize("inner", ACTS)
@pytest.mark.parametrize("outer", ACTS)
def test_interrupted_at_any_line_it_neither_raises_nor_wedges(outer: str, inner: str) -> None:
    """As by a signal handler, or by a generator that the garbage collector closes."""
    for begin in (
        one_failure_before_it_opens,
        a_probe_is_out,
        a_probe_is_overdue,
        its_time_is_up,
    ):
        for nth in itertools.count(1):
            clock = HandClock()
            breaker = begin(clock)
            told = told_by(breaker)
            first = breaker._state
            inner_act, outer_act = partial(ACTS[inner], breaker), partial(ACTS[outer], breaker)
            if not interrupted_at(nth, inner_act, outer_act):
                break
            assert bool(breaker._permit) is (breaker._state in LETS_THROUGH)
            assert len(breaker._probes) <= 1
            assert breaker.listener_errors == 0
            assert follow_on(first, told, breaker)
            if breaker.state is FORCED_OPEN:
                breaker.open()
            clock.move(86_400.0)
            if breaker.state is not CLOSED:
                breaker.record_success(breaker.allow())
            assert breaker.state is CLOSED
            assert breaker.allow()


@pytest.mark.parametrize("change", ["opens", "closes", "is put"])
def test_a_change_of_state_that_memory_does_not_suffice_for_wedges_nothing(
    change: str, clock: HandClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What could not be done then is done later."""

    def no_memory(calls: int) -> None:
        raise MemoryError

    breaker = a_probe_is_out(clock) if change == "closes" else one_failure_before_it_opens(clock)
    acts = {
        "opens": breaker.record_failure,
        "closes": breaker.record_success,
        "is put": breaker.metrics_only,
    }
    with monkeypatch.context() as patched:
        patched.setattr(breaker_module, "CountWindow", no_memory)
        with pytest.raises(MemoryError):
            acts[change]()
    clock.move(86_400.0)
    for _ in range(2):
        permit = breaker.allow()
        assert permit
        breaker.record_success(permit)
    assert breaker.state in (CLOSED, METRICS_ONLY)


@pytest.mark.parametrize(
    "exc", [BrokenPipeError("gone"), asyncio.CancelledError(), PublicError("No.", status_code=404)]
)
def test_a_trial_call_that_ends_in_another_context_and_tells_nothing_makes_room(
    exc: BaseException, clock: HandClock
) -> None:
    """As the two halves of a sync dependency of FastAPI run in contexts of their own."""
    breaker = half_open(clock, ignore=BrokenPipeError)
    contextvars.copy_context().run(breaker.__enter__)
    assert not breaker.allow()
    contextvars.copy_context().run(breaker.__exit__, type(exc), exc, None)
    assert breaker.state is HALF_OPEN
    assert breaker.allow()


def test_a_generator_that_is_closed_amid_a_trial_call_of_another_leaves_that_its_place(
    clock: HandClock,
) -> None:
    """The garbage collector closes it wherever it likes."""
    breaker = half_open(clock)
    assert breaker.allow()
    contextvars.copy_context().run(breaker.__exit__, GeneratorExit, GeneratorExit(), None)
    assert not breaker.allow()


def test_a_call_without_a_permit_counts_only_in_the_time_that_it_began_in(clock: HandClock) -> None:
    """But for what was begun before the breaker was: its first failure made it."""
    before = next_permit()
    breaker = made(clock, consecutive_failures=2)
    assert breaker.permit_since(before) == breaker.allow()
    amid = next_permit()
    fail(breaker, 2)
    clock.move(30.0)
    assert breaker.state is HALF_OPEN
    for began in (before, amid):
        breaker.record_failure(breaker.permit_since(began))
        breaker.record_success(breaker.permit_since(began))
    assert (breaker.state, breaker.late) == (HALF_OPEN, 4)
    breaker.record_success(breaker.permit_since(next_permit()))
    assert (breaker.state, breaker.late) == (CLOSED, 4)
    breaker.reset()
    assert breaker.permit_since(amid) != breaker.allow()
    assert breaker.permit_since(next_permit()) == breaker.allow()


def test_a_trial_call_that_goes_well_when_its_time_is_up_counts_once(clock: HandClock) -> None:
    breaker = half_open(clock, successes_to_close=2)
    began: list[int] = []
    asked: list[bool] = []

    def goes_well() -> bool:
        asked.append(True)
        return True

    permit = breaker.allow()
    breaker.watch_probe(permit, goes_well, began.append)
    assert not breaker.allow()
    clock.move(10.0)
    assert breaker.allow()
    assert (breaker.state, breaker.expired, len(asked), len(began)) == (HALF_OPEN, 1, 1, 1)
    breaker.record_success(permit)
    assert (breaker.state, breaker.late) == (HALF_OPEN, 1)


@pytest.mark.parametrize("goes_well", [True, False])
def test_a_trial_call_that_goes_well_when_its_time_is_up_may_close_it(
    goes_well: bool, clock: HandClock
) -> None:
    """Also one that is quiet, and so closes by itself."""
    breaker = half_open(clock, quiet_seconds=10.0)
    breaker.watch_probe(breaker.allow(), lambda: goes_well, lambda _: None)
    clock.move(10.0)
    assert breaker.state is CLOSED
    again = half_open(clock)
    again.watch_probe(again.allow(), lambda: goes_well, lambda _: None)
    clock.move(10.0)
    assert again.allow()
    assert again.state is (CLOSED if goes_well else HALF_OPEN)


def test_who_cannot_say_how_it_goes_is_not_taken_for_doing_well(clock: HandClock) -> None:
    """And whoever asks for a permit gets an answer."""
    breaker = half_open(clock)

    def broken() -> bool:
        raise KeyError("type")

    breaker.watch_probe(breaker.allow(), broken, lambda _: None)
    clock.move(10.0)
    assert breaker.allow()
    assert breaker.state is HALF_OPEN
