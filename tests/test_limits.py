"""The adaptive limit finds what a server can do, and neither chance nor nonsense moves it much."""

import heapq
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from math import inf, nan
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgi_errorkit.limits import AdaptiveLimit


@dataclass
class Phase:
    seconds: float
    slots: int
    per_second: float
    service_seconds: float = 0.02


@dataclass
class Seen:
    """Of the second half of a phase."""

    per_second: float
    latencies: list[float]
    limit: float

    def percentile(self, part: float) -> float:
        return self.latencies[int(len(self.latencies) * part)]


def served(
    limit: AdaptiveLimit, phases: list[Phase], stretch: Callable[[Random], float] | None = None
) -> list[Seen]:
    """A server with so many slots and an endless queue behind the limit, in time of its own."""
    random, ends, number, in_flight, busy = Random(7), 0.0, 0, 0, 0
    queue: deque[float] = deque()
    running: list[tuple[float, int, float]] = []
    seen = []
    for phase in phases:
        begins, ends = ends, ends + phase.seconds
        comes = begins + random.expovariate(phase.per_second)
        finished: list[tuple[float, float, int]] = []
        while (now := min(comes, running[0][0] if running else inf)) < ends:
            if now == comes:
                comes += random.expovariate(phase.per_second)
                if in_flight < limit.limit:
                    in_flight += 1
                    queue.append(now)
            else:
                _, _, began = heapq.heappop(running)
                limit.observe(now - began, in_flight)
                in_flight, busy = in_flight - 1, busy - 1
                finished.append((now, now - began, limit.limit))
            while queue and busy < phase.slots:
                busy, number = busy + 1, number + 1
                takes = phase.service_seconds * (stretch(random) if stretch else 1.0)
                heapq.heappush(running, (now + takes, number, queue.popleft()))
        late = [one for one in finished if one[0] > begins + phase.seconds / 2]
        seen.append(
            Seen(
                len(late) / (phase.seconds / 2),
                sorted(one[1] for one in late),
                sum(one[2] for one in late) / len(late),
            )
        )
    return seen


def settled(seconds: float = 0.02, **options: Any) -> AdaptiveLimit:
    """A limit that knows what a call takes unloaded, and has not moved."""
    limit = AdaptiveLimit(**options)
    for _ in range(40):
        limit.observe(seconds, 1)
    return limit


@pytest.mark.parametrize(
    ("options", "raised"),
    [
        ({"least": 0}, ValueError),
        ({"least": 5, "most": 4, "start": 5}, ValueError),
        ({"start": 201}, ValueError),
        ({"start": 2.5}, TypeError),
        ({"tolerance": 0.9}, ValueError),
        ({"tolerance": nan}, ValueError),
        ({"smoothing": 0}, ValueError),
        ({"smoothing": 1.1}, ValueError),
        ({"backoff": 0}, ValueError),
        ({"backoff": "0.9"}, TypeError),
        ({"round_calls": 1}, ValueError),
    ],
    ids=str,
)
def test_what_does_not_fit_is_refused_by_name(
    options: dict[str, Any], raised: type[Exception]
) -> None:
    with pytest.raises(raised, match=next(iter(options)) if len(options) == 1 else "most"):
        AdaptiveLimit(**options)


@pytest.mark.parametrize("seconds", [nan, -1.0, inf, -inf], ids=str)
def test_nonsense_is_left_out(seconds: float) -> None:
    limit = settled()
    before = limit.unloaded_seconds
    for _ in range(1_000):
        limit.observe(seconds, 20)
        limit.observe(0.02, -1)
    assert (limit.limit, limit.unloaded_seconds) == (20, before)


def test_calls_without_duration_do_not_break_it() -> None:
    limit = AdaptiveLimit(start=10, most=30)
    for _ in range(5_000):
        limit.observe(0.0, limit.limit)
    assert 1 <= limit.limit <= 30


def test_one_slow_call_does_not_make_it_collapse() -> None:
    """A hundred times as long as the others, and the limit goes down by a tenth at most."""
    limit = settled()
    for number in range(20):
        limit.observe(2.0 if number == 7 else 0.02, 20)
    assert limit.limit >= 18


@pytest.mark.parametrize("in_flight", [1, 5, 9])
def test_it_does_not_grow_while_less_than_half_is_used(in_flight: int) -> None:
    limit = settled()
    for _ in range(2_000):
        limit.observe(0.001, in_flight)
    assert limit.limit == 20


def test_it_grows_while_calls_are_as_quick_as_unloaded() -> None:
    limit = settled(most=50)
    for _ in range(2_000):
        limit.observe(0.02, limit.limit)
    assert limit.limit in {50, 17}  # as a probe has it


def test_drops_back_off_once_a_round() -> None:
    """What goes wrong all at once is one sign, not twenty."""
    limit = settled()
    for _ in range(20):
        limit.dropped()
    assert limit.limit == 18
    limit.dropped()
    assert limit.limit == 16


def test_drops_alone_never_go_below_the_least() -> None:
    limit = settled(least=3)
    for _ in range(10_000):
        limit.dropped()
    assert limit.limit == 3


def test_a_round_with_drops_does_not_grow() -> None:
    limit = settled()
    limit.dropped()
    for _ in range(20):
        limit.observe(0.02, 18)
    assert limit.limit == 18


@given(
    st.lists(
        st.one_of(st.none(), st.tuples(st.floats(allow_nan=True), st.integers(-1, 10_000))),
        max_size=300,
    ),
    st.integers(1, 5),
)
def test_it_stays_within_its_bounds(told: list[Any], least: int) -> None:
    limit = AdaptiveLimit(start=10, least=least, most=12, round_calls=2)
    for one in told:
        if one is None:
            limit.dropped()
        else:
            limit.observe(*one)
        assert least <= limit.limit <= 12


EQUAL = None
UNEQUAL = [
    pytest.param(EQUAL, 0.95, 3.0, id="equal"),
    pytest.param(lambda random: random.expovariate(1), 0.85, 6.5, id="exponential"),
    pytest.param(lambda random: random.lognormvariate(-0.5, 1), 0.8, 9.0, id="lognormal"),
]


@pytest.mark.parametrize(("stretch", "share", "times"), UNEQUAL)
def test_twice_the_load_costs_neither_throughput_nor_latency(
    stretch: Any, share: float, times: float
) -> None:
    """Four slots of 20 ms, and 400 calls a second where 200 can be served."""
    (seen,) = served(AdaptiveLimit(), [Phase(30, 4, 400)], stretch)
    assert seen.per_second >= share * 200
    assert seen.percentile(0.5) <= 2.2 * 0.02
    assert seen.percentile(0.99) <= times * 0.02


def test_lasting_overload_does_not_make_it_drift() -> None:
    """Ten times the load for ten minutes; a long average would call that usual by then."""
    limit = AdaptiveLimit()
    first, *_, last = served(limit, [Phase(60, 4, 2_000) for _ in range(10)])
    assert abs(first.limit - last.limit) < 1
    assert last.percentile(0.99) <= 3 * 0.02


def test_it_follows_the_capacity_up_and_down() -> None:
    phases = [Phase(20, 4, 400), Phase(20, 8, 800), Phase(20, 4, 400), Phase(20, 2, 200)]
    four, eight, four_again, two = served(AdaptiveLimit(), phases)
    assert two.limit < four.limit < eight.limit
    assert abs(four_again.limit - four.limit) < 1.5
    for seen, phase in zip((four, eight, four_again, two), phases, strict=True):
        assert seen.per_second >= 0.95 * phase.per_second / 2
        assert seen.percentile(0.99) <= 3 * 0.02


def test_it_learns_that_calls_take_longer_now() -> None:
    """Twice the work in each call is no overload of twice as few."""
    limit = AdaptiveLimit()
    _, slow = served(limit, [Phase(20, 4, 400), Phase(20, 4, 200, 0.04)])
    assert slow.per_second >= 0.85 * 100
    assert limit.unloaded_seconds is not None and limit.unloaded_seconds > 0.03


def test_below_capacity_nobody_is_held_back() -> None:
    limit = AdaptiveLimit()
    (seen,) = served(limit, [Phase(30, 4, 100)])
    assert seen.per_second >= 95
    assert limit.limit >= 8
