"""Counts of spans of time: what is told of them adds up to what was counted, and takes little room."""

from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asgi_errorkit.error_counts import ErrorCounts
from asgi_errorkit.errors import POLICIES, ErrorType
from asgi_errorkit.histogram import Windows
from asgi_errorkit.request_counts import RequestCounts, RouteCounts
from asgi_errorkit.spool.spans import (
    ERRORS,
    REQUESTS,
    ROUTES,
    Kind,
    Row,
    Teller,
    added_up,
    aged,
    row_of_error,
    row_of_request,
    row_of_route,
)

HOUR = 3600.0
ROOM = 500_000


def windows_of(kind: Kind[Any]) -> Windows[Any]:
    width = {id(ERRORS): 1.0, id(REQUESTS): 5.0, id(ROUTES): 15.0}[id(kind)]
    return Windows(kind.make, width_seconds=width, count=int(HOUR / width))


def count_one(counts: Any, seconds: float) -> None:
    if isinstance(counts, ErrorCounts):
        counts.requests += 1
        counts.add(POLICIES[ErrorType.DATABASE])
    elif isinstance(counts, RequestCounts):
        counts.durations.add(seconds)
        counts.outcomes["ok"] = counts.outcomes.get("ok", 0) + 1
        counts.memory_delta_maximum = max(counts.memory_delta_maximum, 1.0)
    else:
        counts.durations.add(seconds)
        counts.failed += 1


def number_in(counts: Any) -> int:
    return int(counts.requests if isinstance(counts, ErrorCounts) else counts.durations.count)


def told_by(teller: Teller[Any], now: float, room: int = ROOM) -> list[Row]:
    rows: list[Row] = orjson.loads(teller.rows(now, room)[0])
    return rows


KINDS = st.sampled_from((ERRORS, REQUESTS, ROUTES))
STEPS = st.lists(
    st.tuples(
        st.floats(0.0, 700.0),  # how far the clock moves
        st.integers(0, 5),  # how many are counted then
        st.floats(0.0, 90.0),  # how long ago they have ended
        st.floats(1e-6, 100.0),
    ),
    max_size=30,
)


@given(KINDS, STEPS)
@settings(deadline=None)
def test_what_is_told_step_by_step_is_what_one_who_comes_late_would_tell(
    kind: Kind[Any], steps: Any
) -> None:
    windows = windows_of(kind)
    teller, now = Teller(windows, kind), 50_000.0
    for moved, number, ago, seconds in steps:
        now += moved
        for _ in range(number):
            count_one(windows.at(now - ago), seconds)
        known_since = (
            now - HOUR + max(kind.coarse_seconds, 300.0)
        )  # of what is older the windows forget parts
        told = sorted(row for row in told_by(teller, now) if row[0] > known_since)
        late = Teller(windows, kind)
        # The one that comes late must not take from the other what has changed.
        kept, windows._touched = windows._touched, None
        assert sorted(row for row in told_by(late, now) if row[0] > known_since) == told
        windows._touched = kept


@given(KINDS, STEPS, st.floats(1.0, 60.0))
@settings(deadline=None)
def test_what_is_told_adds_up_to_what_was_counted(
    kind: Kind[Any], steps: Any, minutes: float
) -> None:
    windows = windows_of(kind)
    now, ended = 50_000.0, []
    for moved, number, ago, seconds in steps:
        now += moved
        for _ in range(number):
            count_one(windows.at(now - ago), seconds)
            ended.append(now - ago)
    total, damaged = added_up(kind, told_by(Teller(windows, kind), now), minutes * 60, now)
    assert damaged == 0
    # Whole spans are told of, and what is told late counts with the oldest that is known.
    surely = sum(now - minutes * 60 <= at for at in ended)
    widest = max(kind.coarse_seconds, 300.0)
    perhaps = sum(now - minutes * 60 - 2 * widest <= at for at in ended)
    assert surely <= number_in(total) <= perhaps


@given(KINDS, STEPS)
@settings(deadline=None)
def test_what_is_old_takes_less_room_and_counts_the_same(kind: Kind[Any], steps: Any) -> None:
    windows = windows_of(kind)
    rows: list[Row] = []
    now = 50_000.0
    for moved, number, ago, seconds in steps:
        now += moved
        for _ in range(number):
            count_one(windows.at(now - ago), seconds)
        rows = told_by(Teller(windows, kind), now)
    before, _ = added_up(kind, rows, HOUR, now)
    once = aged(kind, rows, now)
    assert sorted(aged(kind, once, now)) == sorted(once)
    assert number_in(added_up(kind, once, HOUR, now)[0]) == number_in(before)
    doubled = aged(kind, rows + rows, now)
    assert len(doubled) == len(once)
    assert number_in(added_up(kind, doubled, HOUR, now)[0]) == 2 * number_in(before)
    much_later = now + HOUR + 2 * kind.coarse_seconds
    assert aged(kind, rows, much_later) == []
    later = aged(kind, rows, now + 1200)
    assert len(later) <= HOUR / kind.coarse_seconds + 1 + 360 / kind.fine_seconds


def test_quantiles_of_what_was_told_are_those_of_what_was_counted() -> None:
    windows = windows_of(REQUESTS)
    for number in range(1, 1001):
        count_one(windows.at(40_000.0 + number), number / 100)
    total, _ = added_up(REQUESTS, told_by(Teller(windows, REQUESTS), 41_001.0), HOUR, 41_001.0)
    assert total.durations.count == 1000
    assert total.durations.quantile(0.5) == pytest.approx(5.0, rel=0.02)
    assert (total.durations.minimum, total.durations.maximum) == (0.01, 10.0)
    assert total.durations.total == pytest.approx(5005.0)


def test_what_has_no_room_are_the_oldest_and_they_are_counted() -> None:
    windows = windows_of(ERRORS)
    for number in range(100):
        count_one(windows.at(50_000.0 + 5 * number), 1.0)
    teller = Teller(windows, ERRORS)
    whole, left_out = teller.rows(50_500.0, ROOM)
    assert left_out == 0
    part, left_out = teller.rows(50_500.0, len(whole) // 2)
    assert len(part) <= len(whole) // 2
    rows, all_rows = orjson.loads(part), orjson.loads(whole)
    assert rows == all_rows[: len(rows)]
    assert left_out == len(all_rows) - len(rows) > 0
    assert teller.rows(50_500.0, 1)[0] == b"[]"


def test_who_forgets_tells_nothing_of_before() -> None:
    windows = windows_of(ROUTES)
    teller = Teller(windows, ROUTES)
    count_one(windows.at(50_000.0), 1.0)
    assert len(told_by(teller, 50_001.0)) == 1
    windows.clear()
    teller.forget()
    assert told_by(teller, 50_001.0) == []
    count_one(windows.at(50_002.0), 1.0)
    assert number_in(added_up(ROUTES, told_by(teller, 50_003.0), HOUR, 50_003.0)[0]) == 1


def test_single_requests_add_up_with_the_others() -> None:
    rows = [
        row_of_error(100.0, failed=True, info=POLICIES[ErrorType.MEMORY]),
        row_of_error(101.0, is_client_error=True),
    ]
    errors, damaged = added_up(ERRORS, rows, 60, 102.0)
    assert (errors.requests, errors.failed, errors.client_errors, damaged) == (2, 1, 1, 0)
    assert errors.by_type == {"memory": 1}
    request = row_of_request(100.0, "ok", 0.5, None)
    requests, damaged = added_up(REQUESTS, [request, request], 60, 102.0)
    assert (requests.durations.count, requests.first_bytes.count, damaged) == (2, 0, 0)
    assert requests.memory_delta_maximum == float("-inf")
    route, damaged = added_up(ROUTES, [row_of_route(100.0, 0.5, failed=True)], 60, 102.0)
    assert (route.durations.count, route.failed, damaged) == (1, 1, 0)


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=6) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=12,
)


@given(KINDS, st.lists(ANYTHING, max_size=12))
@settings(deadline=None)
def test_rows_of_any_shape_count_for_nothing_and_harm_nobody(
    kind: Kind[Any], content: list[Any]
) -> None:
    good = {
        id(ERRORS): row_of_error(1.0),
        id(REQUESTS): row_of_request(1.0, "ok", 1.0, 1.0),
        id(ROUTES): row_of_route(1.0, 1.0, failed=False),
    }[id(kind)]
    rows: list[Any] = [content, good, [0.0, 5.0, *content], [1, 1, content], *content]
    total, _ = added_up(kind, rows, HOUR, 100.0)
    assert number_in(total) >= 1
    told = orjson.dumps(aged(kind, rows, 100.0))
    assert number_in(added_up(kind, orjson.loads(told), HOUR, 100.0)[0]) == number_in(total)


def test_counts_beyond_all_measure_count_for_nothing() -> None:
    for number in (-1, 2**48, True, 1.0, "1"):
        row = row_of_error(1.0)
        row[2] = number
        assert added_up(ERRORS, [row], HOUR, 2.0)[0].requests == 0


def test_routes_have_counts_of_their_own() -> None:
    windows: Windows[RouteCounts] = windows_of(ROUTES)
    windows.at(100.0).failed += 1
    total, _ = added_up(ROUTES, told_by(Teller(windows, ROUTES), 101.0), HOUR, 101.0)
    assert (total.failed, total.durations.count) == (1, 0)
