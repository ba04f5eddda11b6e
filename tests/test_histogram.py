import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from asgi_errorkit.histogram import LARGEST, SMALLEST, LogHistogram, Windows, bucket_index

ERROR = 0.02

measured = st.floats(min_value=SMALLEST, max_value=LARGEST, exclude_min=True)
anything = st.floats() | st.integers() | measured | st.sampled_from([0.0, 1.0, 0.25, 0.5])
shares = st.floats(min_value=0.0, max_value=1.0)


def histogram_of(values):
    histogram = LogHistogram()
    for value in values:
        histogram.add(value)
    return histogram


def merged(*parts):
    whole = LogHistogram()
    for part in parts:
        whole.merge(part)
    return whole


def exact_parts(histogram):
    return histogram.count, histogram.counts, histogram.minimum, histogram.maximum


def held(value):
    """What a value counts as, said without the code under test."""
    if math.isnan(value) or value < 0:
        return 0.0
    return float(min(value, LARGEST))


def nearest_rank(values, numerator, denominator):
    position = max(1, -(-numerator * len(values) // denominator))
    return sorted(values)[position - 1]


@pytest.mark.parametrize("q", [-0.001, 1.001, math.nan, 99], ids=str)
def test_refuses_a_share_outside_zero_and_one(q):
    """A quantile outside 0 ... 1 is a mistake of the caller and says so, even while empty."""
    with pytest.raises(ValueError, match=r"between 0 and 1, e\.g\. 0\.99"):
        LogHistogram().quantile(q)


def test_empty():
    """Nothing counted has every quantile at 0.0."""
    assert LogHistogram().quantiles([0.0, 0.5, 1.0]) == [0.0, 0.0, 0.0]
    assert LogHistogram().quantile(0.5) == 0.0
    assert (LogHistogram().count, LogHistogram().total) == (0, 0.0)


@pytest.mark.parametrize(
    ("value", "counts_as"),
    [(math.nan, 0.0), (-1.0, 0.0), (-math.inf, 0.0), (math.inf, LARGEST), (10**400, LARGEST)],
    ids=["nan", "negative", "minus-infinity", "infinity", "huge-integer"],
)
def test_hostile_values_are_held(value, counts_as):
    """What is no measurement is held to the range and poisons neither sum nor extremes."""
    histogram = histogram_of([value])
    assert histogram.quantile(0.5) == counts_as
    assert (histogram.minimum, histogram.maximum, histogram.total) == (counts_as,) * 3
    assert bucket_index(value) == bucket_index(counts_as)


@given(anything, anything)
@example(SMALLEST, math.nextafter(SMALLEST, 1.0))
@example(LARGEST, math.nextafter(LARGEST, 0.0))
def test_index_never_falls(one, other):
    """The larger value never has the smaller index."""
    low, high = sorted((held(one), held(other)))
    assert bucket_index(low) <= bucket_index(high)


@given(anything)
def test_index_is_bounded(value):
    """Every float and integer falls on one of some 2,350 steps, so memory is bounded."""
    lowest, highest = bucket_index(0.0), bucket_index(math.inf)
    assert lowest <= bucket_index(value) <= highest
    assert highest - lowest < 2500


@given(st.floats(min_value=0.0, max_value=SMALLEST))
@example(SMALLEST)
@example(5e-324)
def test_what_is_too_small_shares_the_lowest_index(value):
    """Values up to a billionth are zero to the histogram."""
    assert bucket_index(value) == bucket_index(0.0) < bucket_index(math.nextafter(SMALLEST, 1.0))


@given(measured, measured)
@example(1.0, math.nextafter(1.0, 2.0))
@example(math.nextafter(SMALLEST, 1.0), 1e-3)
@example(math.nextafter(LARGEST, 0.0), 1.0)
def test_error_of_one_step(value, other):
    """Whatever else is counted, a value comes back within 2 %."""
    histogram = histogram_of([value, other])
    for q, truth in ((0.5, min(value, other)), (1.0, max(value, other))):
        assert abs(histogram.quantile(q) - truth) <= ERROR * truth


@given(st.lists(measured, min_size=1, max_size=60), st.integers(0, 100))
def test_quantiles_are_near_the_true_order_statistic(values, percent):
    """A percentile is within 2 % of the value at the nearest rank of the sorted list."""
    truth = nearest_rank(values, percent, 100)
    estimate = histogram_of(values).quantile(percent / 100)
    assert abs(estimate - truth) <= ERROR * truth


def test_rank_is_exact_for_every_hundredth():
    """Of 100 values the k-th percentile is the k-th value, without a step too far by rounding."""
    histogram = histogram_of([1.1**step for step in range(100)])
    for k in range(1, 101):
        assert histogram.quantile(k / 100) == pytest.approx(1.1 ** (k - 1), rel=ERROR)


@given(st.lists(anything, min_size=1), shares, shares)
def test_quantile_never_falls_and_stays_inside(values, one, other):
    """Quantiles grow with the share and never leave minimum ... maximum."""
    histogram = histogram_of(values)
    low, high = histogram.quantiles(sorted((one, other)))
    assert histogram.minimum <= low <= high <= histogram.maximum


@given(st.lists(anything), st.lists(shares))
def test_many_quantiles_equal_single_ones(values, qs):
    """Asked together, in any order, quantiles are what they are one by one."""
    histogram = histogram_of(values)
    assert histogram.quantiles(qs) == [histogram.quantile(q) for q in qs]


@given(st.lists(anything))
def test_count_extremes_and_total_are_true(values):
    """Count, minimum and maximum are exact; the total is the float sum."""
    histogram, true = histogram_of(values), [held(value) for value in values]
    assert histogram.count == sum(histogram.counts.values()) == len(values)
    # A whole number is kept as it is; not each of those beyond 2**53 is a float.
    assert float(histogram.minimum) == min(true, default=math.inf)
    assert float(histogram.maximum) == max(true, default=0.0)
    assert histogram.total == pytest.approx(math.fsum(true))


@given(st.lists(measured) | st.lists(anything), st.lists(anything))
def test_adding_many_is_adding_each(values, before):
    """A batch counts as its values one by one, hostile ones included, on top of what was there."""
    one_by_one, batch = histogram_of(before + values), histogram_of(before)
    batch.add_all(values)
    assert exact_parts(batch) == exact_parts(one_by_one)
    assert batch.total == pytest.approx(one_by_one.total)


@given(st.lists(anything), st.lists(anything))
def test_merging_is_exact(a, b):
    """Two merged histograms are the one that had seen everything; the merged-in one stays."""
    one, other = histogram_of(a), histogram_of(b)
    before = exact_parts(histogram_of(b))
    one.merge(other)
    assert exact_parts(one) == exact_parts(histogram_of(a + b))
    assert one.total == pytest.approx(histogram_of(a + b).total)
    assert exact_parts(other) == before


@given(st.lists(anything), st.lists(anything), st.lists(anything))
def test_merging_knows_no_order(a, b, c):
    """Merging is commutative and associative."""
    x, y, z = histogram_of(a), histogram_of(b), histogram_of(c)
    left = merged(merged(x, y), z)
    assert exact_parts(left) == exact_parts(merged(x, merged(y, z)))
    assert exact_parts(left) == exact_parts(merged(z, y, x))


def test_memory_is_bounded():
    """Values of every size a float has leave a bounded number of counts."""
    values = (2.0 ** (power / 100) for power in range(-107_400, 102_400))
    assert len(histogram_of(values).counts) < 2500


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width_seconds": 0.0, "count": 1}, "width_seconds must be above zero"),
        ({"width_seconds": -1.0, "count": 1}, "width_seconds must be above zero"),
        ({"width_seconds": math.nan, "count": 1}, "width_seconds must be above zero"),
        ({"width_seconds": math.inf, "count": 1}, "width_seconds must be above zero"),
        ({"width_seconds": 1.0, "count": 0}, "count must be at least 1"),
    ],
    ids=["zero", "negative", "nan", "infinite", "no-buckets"],
)
def test_windows_refuse_what_makes_no_sense(options, message):
    """A wrong width or count fails at construction and names what is wrong."""
    with pytest.raises(ValueError, match=message):
        Windows(list, **options)


@pytest.mark.parametrize("seconds", [0.0, -1.0, math.nan], ids=str)
def test_windows_refuse_an_empty_span(seconds):
    """A window has a length."""
    with pytest.raises(ValueError, match="seconds must be above zero"):
        Windows(list, width_seconds=1.0, count=2).last(seconds, 0.0)


def test_a_bucket_is_made_once_and_found_again():
    """Times of one bucket share it; the next bucket starts exactly at its width."""
    windows = Windows(list, width_seconds=10.0, count=3)
    first = windows.at(100.0)
    assert windows.at(109.999) is first
    assert windows.at(110.0) is not first
    assert windows.at(105.0) is first


def test_a_late_time_beyond_the_history_joins_the_oldest():
    """What is older than the history is not lost and wakes no dropped bucket."""
    windows = Windows(list, width_seconds=10.0, count=3)
    windows.at(0.0).append("gone")
    windows.at(95.0).append("new")
    windows.at(3.0).append("late")
    assert windows.last(math.inf, 99.0) == [["late"], ["new"]]
    assert windows.at(70.0) is windows.at(3.0)


def test_time_without_traffic_ends_the_history():
    """A reader who comes after a long silence sees nothing old."""
    windows = Windows(list, width_seconds=10.0, count=3)
    windows.at(5.0).append("old")
    assert windows.last(1e9, 29.0) == [["old"]]
    assert windows.last(1e9, 30.0) == []


@pytest.mark.parametrize(
    ("seconds", "now", "expected"),
    [(1.0, 25.0, "c"), (5.0, 25.0, "c"), (5.1, 25.0, "bc"), (15.1, 25.0, "abc"), (5.0, 15.0, "b")],
    ids=["inside", "to-the-edge", "over-the-edge", "all", "earlier"],
)
def test_last_takes_every_bucket_that_overlaps(seconds, now, expected):
    """The span reaches back exactly as far as asked, rounded out to whole buckets."""
    windows = Windows(list, width_seconds=10.0, count=5)
    for time, name in ((5.0, "a"), (15.0, "b"), (25.0, "c")):
        windows.at(time).append(name)
    assert "".join(name for bucket in windows.last(seconds, now) for name in bucket) == expected


@st.composite
def drained(draw):
    """Times as a drain sees them: never falling, apart from some that come a little late."""
    now, times = draw(st.floats(min_value=-100.0, max_value=1e6)), []
    for step, late in draw(
        st.lists(st.tuples(st.floats(0.0, 50.0), st.sampled_from([0.0, 0.0, 0.5, 7.0, 60.0])))
    ):
        now += step
        times.append(now - late)
    return times


@given(
    drained(),
    st.sampled_from([0.1, 1.0, 2.5, 10.0]),
    st.integers(1, 6),
    st.floats(min_value=0.01, max_value=100.0),
    st.floats(min_value=-20.0, max_value=100.0),
)
def test_windows_equal_a_plain_list(times, width, count, seconds, later):
    """The ring answers as a list of all times with the ticks worked out afterwards."""
    made = []
    windows = Windows(lambda: made.append([]) or made[-1], width_seconds=width, count=count)
    model, newest = [], -math.inf
    for time in times:
        windows.at(time).append(time)
        newest = max(newest, time // width)
        model.append((max(time // width, newest - count + 1), time))
    now = (max(times) if times else 0.0) + later
    latest = now // width
    oldest = max((now - seconds) // width, max(newest, latest) - count + 1)
    buckets = {}
    for tick, time in model:
        if oldest <= tick <= latest:
            buckets.setdefault(tick, []).append(time)
    assert windows.last(seconds, now) == [buckets[tick] for tick in sorted(buckets)]
    assert len(windows._kept) <= count
