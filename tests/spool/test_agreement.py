"""What one worker makes of what the others tell: it follows the latest, unless it knows better."""

from dataclasses import replace
from typing import Any

import pytest

from asgi_errorkit import CircuitPolicy, CircuitState
from asgi_errorkit.circuit_state import Told
from asgi_errorkit.spool.agreement import newer, successes_elsewhere, why_together

CLOSED, OPEN, HALF_OPEN = CircuitState.CLOSED, CircuitState.OPEN, CircuitState.HALF_OPEN
FORCED_OPEN = CircuitState.FORCED_OPEN
POLICY = CircuitPolicy(minimum_number_of_calls=10)
NOW = 100.0


def told(state: CircuitState = CLOSED, at: float = 0.0, **members: Any) -> Told:
    """Of a state that is the whole host's, unless told else."""
    usual = {"since": at, "era": at, "retry_at": NOW + 5.0 if state is OPEN else 0.0}
    return Told("x", state, **{**usual, **members})


@pytest.mark.parametrize(
    ("mine", "others", "expected"),
    [
        (told(), [], None),
        (told(), [told()], None),
        (told(), [told(OPEN, 5.0)], OPEN),
        (told(OPEN, 5.0), [told(OPEN, 5.0)], None),
        (told(OPEN, 5.0), [told(CLOSED, 6.0)], CLOSED),
        (told(CLOSED, 6.0), [told(OPEN, 5.0)], None),
        (told(OPEN, 5.0), [told(CLOSED, 6.0), told(OPEN, 7.0)], OPEN),
        (told(), [told(OPEN, 5.0, era=0.0)], None),
        (told(FORCED_OPEN, 5.0, hand=5.0), [told(OPEN, 6.0)], None),
        (told(OPEN, 6.0), [told(FORCED_OPEN, 5.0, hand=5.0)], FORCED_OPEN),
        (told(FORCED_OPEN, 5.0, hand=5.0), [told(OPEN, 7.0, hand=6.0)], OPEN),
        (told(OPEN, 5.0), [told(OPEN, 8.0, era=7.0)], CLOSED),
    ],
    ids=(
        "alone nothing opened known closed older reopened its-own by-hand outdone undone since"
    ).split(),
)
def test_the_latest_of_the_host_holds(mine: Told, others: list[Told], expected: Any) -> None:
    found = newer(POLICY, mine, others, NOW)
    assert (found and found.state) is expected


def test_who_has_seen_enough_good_calls_stays_closed_and_knows_of_it() -> None:
    """Whoever opened for all may not have known of these calls."""
    mine = told(calls=90)
    opened = told(OPEN, 5.0, calls=10, failed=10)
    found = newer(POLICY, mine, [opened], NOW)
    assert found == opened._replace(state=CLOSED)
    assert newer(POLICY, told(CLOSED, 5.0, calls=90), [opened], NOW) is None
    assert newer(replace(POLICY, across_workers="own"), mine, [opened], NOW) is opened
    assert newer(POLICY, told(calls=9), [opened], NOW) is opened
    assert newer(POLICY, told(calls=15), [opened, opened], NOW) is opened
    by_hand = opened._replace(hand=5.0)
    assert newer(POLICY, mine, [by_hand], NOW) is by_hand


@pytest.mark.parametrize(("succeeded_at", "follows"), [(3.9, True), (4.0, False), (9.0, False)])
def test_a_success_since_a_run_began_speaks_against_it(succeeded_at: float, follows: bool) -> None:
    opened = told(OPEN, 5.0, opened_by_run=True, run_since=4.0)
    found = newer(POLICY, told(succeeded_at=succeeded_at), [opened], NOW)
    assert found is not None
    assert (found.state is OPEN) is follows


@pytest.mark.parametrize(
    ("mine", "other", "opens"),
    [
        (told(calls=5, failed=5), told(calls=5, failed=5), True),
        (told(calls=5, failed=5), told(calls=4, failed=4), False),
        (told(calls=5, failed=5), told(calls=15), False),
        (told(CLOSED, 5.0), told(OPEN, 4.0, calls=10, failed=10), False),
        (told(CLOSED, 5.0), told(OPEN, 6.0, era=5.0, calls=10, failed=10), True),
        (told(), told(OPEN, 5.0, era=0.0, retry_at=NOW, calls=10, failed=10), False),
        (told(), told(HALF_OPEN, 5.0, era=0.0, calls=10, failed=10), False),
        (told(OPEN, 5.0, era=0.0, calls=10, failed=10), told(calls=90), False),
        (told(OPEN, 5.0, era=0.0, calls=10, failed=10), told(calls=9), True),
        (told(OPEN, 5.0, calls=10, failed=10), told(calls=9), False),
        (told(FORCED_OPEN, 5.0, hand=5.0), told(calls=10, failed=10, hand=5.0, era=5.0), False),
    ],
    ids=(
        "enough few good before-it-closed its-own its-time-is-up half-open alone shared already "
        "by-hand"
    ).split(),
)
def test_the_calls_of_all_are_added_up(mine: Told, other: Told, opens: bool) -> None:
    """Those of the same time: not what another has counted before it heard that it was closed."""
    assert (why_together(POLICY, mine, [other], NOW) is not None) is opens
    for mode in ("own", "none"):
        policy = replace(POLICY, across_workers=mode)
        assert why_together(policy, mine, [other], NOW) is None


def test_successes_are_those_of_the_same_opening() -> None:
    mine = told(HALF_OPEN, 5.0, successes=1)
    others = [told(HALF_OPEN, 5.0, successes=2), told(HALF_OPEN, 4.0, successes=9)]
    assert successes_elsewhere(mine, others) == 2
    assert successes_elsewhere(told(OPEN, 5.0), others) == 0
    assert successes_elsewhere(told(HALF_OPEN, 5.0, era=0.0), others) == 0
