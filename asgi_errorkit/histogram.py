"""Histograms that merge exactly, and a ring of time buckets to keep them in."""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate
from math import ceil, floor, inf, isfinite, log2
from typing import Generic, Self, TypeVar

B = TypeVar("B")

SMALLEST = (
    1e-9  # what lies at or below it counts as nothing; a nanosecond, when seconds are counted
)
LARGEST = 2.0**64  # what lies above it counts as this; 18 exabytes, when bytes are counted
# 25 steps an octave: a value in the middle of its step is at most 1.39 % away from all of it.
# log2 and floor cost 45 ns together; frexp, which needs a tuple and an int(), costs 85.
STEPS = 25
ZERO_INDEX = floor(log2(SMALLEST) * STEPS) - 1
LARGEST_INDEX = floor(log2(LARGEST) * STEPS)
_STEP = 2.0 ** (1 / STEPS)
_MIDDLE = 2 * _STEP / (1 + _STEP)


def bucket_index(value: float) -> int:
    """The step a value falls on: one of at most 2,350, never falling as the value grows.

    Zero, negative numbers and nan count as 0, infinity as 2**64. After DDSketch (VLDB 2019).
    """
    if value > SMALLEST:
        return floor(log2(value) * STEPS) if value < LARGEST else LARGEST_INDEX
    return ZERO_INDEX


def _bucket_value(index: int) -> float:
    return 0.0 if index == ZERO_INDEX else 2.0 ** (index / STEPS) * _MIDDLE


class LogHistogram:
    """Counts of non-negative numbers by relative size; any quantile is within 2 % of the truth.

    Values are held to 0 ... 2**64 (see `bucket_index`). ``minimum`` and ``maximum`` are exact, and
    infinity and 0 while empty; ``total`` is an ordinary float sum. Written by one thread at a time.
    """

    __slots__ = ("count", "counts", "maximum", "minimum", "total")

    def __init__(self) -> None:
        self.count = 0
        self.counts: dict[int, int] = {}
        self.maximum = 0.0
        self.minimum = inf
        self.total = 0.0

    def add(self, value: float) -> None:
        """Count one value."""
        if not value > 0.0:  # so that nan counts as 0
            value = 0.0
        elif value > LARGEST:
            value = LARGEST
        index = bucket_index(value)
        self.counts[index] = self.counts.get(index, 0) + 1
        self.count += 1
        self.total += value
        # max() and min() would make the whole method cost 1.8 times as much.
        if value > self.maximum:  # noqa: PLR1730
            self.maximum = value
        if value < self.minimum:  # noqa: PLR1730
            self.minimum = value

    def add_all(self, values: Sequence[float]) -> None:
        """Count many values; a third of the cost of counting each by itself."""
        if not values:
            return
        low, high, total = min(values), max(values), sum(values)
        if not (low >= 0.0 and high <= LARGEST and total >= 0.0):  # one to be held, or nan
            for value in values:
                self.add(value)
            return
        counts = self.counts
        get = counts.get
        indexes = (
            [floor(log2(value) * STEPS) for value in values]
            if low > SMALLEST and high < LARGEST
            else map(bucket_index, values)
        )
        for index in indexes:
            counts[index] = get(index, 0) + 1
        self.count += len(values)
        self.total += total
        self.maximum = max(self.maximum, high)
        self.minimum = min(self.minimum, low)

    def merge(self, other: Self) -> None:
        """Count everything that the other has counted, as if it had been added here."""
        for index, count in other.counts.items():
            self.counts[index] = self.counts.get(index, 0) + count
        self.count += other.count
        self.total += other.total
        self.maximum = max(self.maximum, other.maximum)
        self.minimum = min(self.minimum, other.minimum)

    def quantile(self, q: float) -> float:
        """The value that a share ``q`` of all values does not exceed; 0.0 while empty.

        It is the nearest rank, the ``ceil(q * count)``-th smallest. Raises ValueError when ``q``
        is not between 0 and 1.
        """
        return self.quantiles((q,))[0]

    def quantiles(self, qs: Iterable[float]) -> list[float]:
        """The quantile of each ``q``, in the order asked, from one walk over the counts."""
        indexes = sorted(self.counts)
        reached = list(accumulate(self.counts[index] for index in indexes))
        ranks = [_rank(q, self.count) for q in qs]
        if not indexes:
            return [0.0] * len(ranks)
        middles = (_bucket_value(indexes[bisect_left(reached, rank)]) for rank in ranks)
        return [min(max(middle, self.minimum), self.maximum) for middle in middles]


def _rank(q: float, count: int) -> int:
    if not 0.0 <= q <= 1.0:
        raise ValueError(f"a quantile lies between 0 and 1, e.g. 0.99; got {q!r}")
    # 0.07 * 100 is a hair above 7 and must not ask for the 8th.
    return max(1, ceil(q * count - 1e-9))


class Windows(Generic[B]):
    """A ring of time buckets: memory and cost depend on its length, not on the traffic.

    Times are monotonic seconds given by the caller. The history is the ``count`` buckets up to
    the newest time seen. Written by one thread at a time. Raises ValueError for a width or a
    count that is not above zero.
    """

    __slots__ = (
        "_bucket",
        "_count",
        "_kept",
        "_make",
        "_newest",
        "_tick",
        "_touched",
        "width_seconds",
    )

    def __init__(self, make: Callable[[], B], *, width_seconds: float, count: int) -> None:
        if not (isfinite(width_seconds) and width_seconds > 0):
            raise ValueError(f"width_seconds must be above zero, e.g. 10.0; got {width_seconds!r}")
        if count < 1:
            raise ValueError(f"count must be at least 1 bucket; got {count!r}")
        self._make = make
        self.width_seconds = float(width_seconds)
        self._count = count
        self._touched: set[int] | None = None  # ticks that were written, once somebody asks
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self._kept: dict[int, tuple[int, B]] = {}  # place in the ring -> (tick, bucket)
        self._newest = -inf
        self._tick = -inf
        self._bucket: B
        if self._touched is not None:
            self._touched.clear()

    def at(self, now: float) -> B:
        """The bucket of this time; a time older than the history gets the oldest bucket of it."""
        tick = now // self.width_seconds
        if tick == self._tick:
            return self._bucket
        return self._turn(tick)

    def _turn(self, tick: float) -> B:
        self._newest = max(self._newest, tick)
        tick = int(max(tick, self._newest - self._count + 1))
        place = tick % self._count
        kept = self._kept.get(place)
        if kept is None or kept[0] != tick:
            kept = self._kept[place] = (tick, self._make())
        self._tick, self._bucket = float(tick), kept[1]
        if self._touched is not None:
            self._touched.add(tick)
        return self._bucket

    def touched(self) -> set[int]:
        """The numbers of the buckets that may have changed since it was asked last."""
        before = self._touched
        if before is None:
            before = {tick for tick, _ in self._kept.values()}
        self._touched = set() if self._tick == -inf else {int(self._tick)}
        return before

    def between(self, since: float, until: float) -> list[B]:
        """The buckets that begin at ``since`` or later, and before ``until``, oldest first."""
        first, beyond = ceil(since / self.width_seconds), ceil(until / self.width_seconds)
        first = max(first, beyond - self._count)
        kept = (self._kept.get(tick % self._count) for tick in range(first, beyond))
        return [bucket for tick, bucket in filter(None, kept) if first <= tick < beyond]

    def last(self, seconds: float, now: float) -> list[B]:
        """The buckets that overlap the last ``seconds`` before ``now``, oldest first.

        More seconds than the history has mean all of it. Raises ValueError when ``seconds`` is
        not above zero.
        """
        if not seconds > 0:
            raise ValueError(f"seconds must be above zero, e.g. 300.0; got {seconds!r}")
        latest = now // self.width_seconds
        oldest = max(self._newest, latest) - self._count + 1
        seconds = min(seconds, self.width_seconds * self._count)  # infinity is a fair question
        first = max((now - seconds) // self.width_seconds, oldest)
        kept = (self._kept.get(tick % self._count) for tick in range(int(first), int(latest) + 1))
        return [bucket for tick, bucket in filter(None, kept) if first <= tick <= latest]
