"""A window holds the latest calls and no others, by number or by time."""

import threading
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asgi_errorkit.call_window import FAILED, OK, SLOW, SLOW_FAILED, CountWindow, TimeWindow, Totals

KINDS = st.sampled_from([OK, FAILED, SLOW, SLOW_FAILED])


def expected(kinds: list[int]) -> Totals:
    number = Counter(kinds)
    both = number[SLOW_FAILED]
    return Totals(len(kinds), number[FAILED] + both, number[SLOW] + both)


@pytest.mark.parametrize("window", [CountWindow(5), TimeWindow(10.0)], ids=["count", "time"])
def test_a_window_without_calls_has_rates_of_nothing(window: CountWindow | TimeWindow) -> None:
    totals = window.totals(1000.0)
    assert totals == (0, 0, 0)
    assert totals.failure_rate == totals.slow_call_rate == 0.0


@pytest.mark.parametrize("window", [CountWindow(5), TimeWindow(10.0)], ids=["count", "time"])
def test_what_failed_and_was_slow_is_one_call_of_both_rates(
    window: CountWindow | TimeWindow,
) -> None:
    for kind in (OK, FAILED, SLOW, SLOW_FAILED):
        window.add(kind, 1000.0)
    totals = window.totals(1000.0)
    assert totals == (4, 2, 2)
    assert totals.failure_rate == totals.slow_call_rate == 0.5


@given(st.lists(KINDS, max_size=40), st.integers(1, 12))
def test_a_count_window_holds_the_last_so_many(kinds: list[int], calls: int) -> None:
    """However they were added, and at whatever time."""
    window = CountWindow(calls)
    for number, kind in enumerate(kinds):
        if kind == OK:
            window.add_ok(OK)
        else:
            window.add(kind, -float(number))
    assert window.totals(0.0) == expected(kinds[-calls:])


@given(
    st.lists(st.tuples(KINDS, st.sampled_from([0.0, 0.25, 0.5, 1.0, 4.0, 10.0, 1e6])), max_size=60),
    st.sampled_from([-100.0, 0.0, 1000.0]),
    st.sampled_from([2.5, 5.0, 40.0]),
)
@settings(max_examples=300)
def test_a_time_window_holds_what_its_last_ten_tenths_held(
    calls: list[tuple[int, float]], now: float, seconds: float
) -> None:
    """Also when the clock stands below zero, and after a pause of any length."""
    window, added = TimeWindow(seconds), []
    for kind, pause in calls:
        now += pause
        window.add(kind, now)
        added.append((kind, now // (seconds / 10)))
        first = now // (seconds / 10) - 10
        assert window.totals(now) == expected([kind for kind, tenth in added if tenth > first])


@given(st.integers(0, 10_000), st.sampled_from([2.5, 5.0, 40.0]))
def test_a_call_is_known_for_nine_tenths_at_least_and_never_longer_than_the_window(
    at: int, seconds: float
) -> None:
    window, at_seconds = TimeWindow(seconds), at / 64
    window.add(FAILED, at_seconds)
    assert window.totals(at_seconds + seconds * 9 / 10 - 1 / 64).failed == 1
    assert window.totals(at_seconds + seconds).failed == 0


def test_a_clock_gone_back_shows_nothing_of_what_is_to_come() -> None:
    """And what is counted then is known; when the clock has caught up, all is in order again."""
    window = TimeWindow(10.0)
    window.add(FAILED, 5000.0)
    assert window.totals(1400.0) == (0, 0, 0)
    window.add(OK, 1400.0)
    assert window.totals(1400.0) == (1, 0, 0)
    assert window.totals(5000.0).calls <= 1
    window.add(OK, 5001.0)
    assert window.totals(6000.0) == (0, 0, 0)


def test_a_count_window_is_read_while_others_add() -> None:
    """Without a lock: the totals are those of some moment, and nothing is lost."""
    window, over = CountWindow(1000), threading.Event()

    def add() -> None:
        for _ in range(5000):
            window.add_ok(OK)
        over.set()

    thread = threading.Thread(target=add)
    thread.start()
    seen = [0]
    while not over.is_set():
        seen.append(window.totals(0.0).calls)
    thread.join()
    assert seen == sorted(seen)
    assert window.totals(0.0) == (1000, 0, 0)
