"""Who reads amid any store of a worker counts each request once, or says that it is unsure.

A worker's stores are written down one by one, and done again on a copy of the file between the
pieces of what is read: so the reader may meet each of them half way, and be held up anywhere. The
segment is small here, and its snapshots name the requests that they count.
"""

import random
from collections.abc import Iterable, Iterator
from itertools import combinations_with_replacement
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from asgi_errorkit.spool import reading as reading_module
from asgi_errorkit.spool import segment as segment_module
from asgi_errorkit.spool.layout import FIRST_SLOT, PAGE, SLOT_BYTES, AreaWord
from asgi_errorkit.spool.reading import Reading, read_segment
from asgi_errorkit.spool.segment import Segment
from tests.spool.stores import put

SLOTS = 6
AREAS = (FIRST_SLOT + SLOTS * SLOT_BYTES, FIRST_SLOT + SLOTS * SLOT_BYTES + PAGE)
SMALL: dict[str, Any] = {
    "SLOTS": SLOTS,
    "AREAS": AREAS,
    "AREA_BYTES": PAGE,
    "BODY_BYTES": PAGE - 64 - SLOTS,
    "SEGMENT_BYTES": AREAS[1] + PAGE,
    "_LAST_SLOT": AREAS[0],
}
PIECE = 16


class Store(NamedTuple):
    place: int
    data: bytes


class Noted:
    """A memoryview that writes down every store, long ones in pieces."""

    stores: list[Store] = []  # noqa: RUF012  of the run under way

    def __init__(self, real: Any) -> None:
        self._real = real if isinstance(real, memoryview) else memoryview(real)

    def cast(self, kind: Any) -> "Noted":
        return Noted(self._real.cast(kind))

    def __setitem__(self, place: Any, value: Any) -> None:
        self._real[place] = value
        if isinstance(place, slice):
            for start in range(0, len(value), PIECE):
                piece = bytes(value[start : start + PIECE])
                Noted.stores.append(Store(place.start + start, piece))
        else:
            start = place * self._real.itemsize
            data = self._real.cast("B")[start : start + self._real.itemsize]
            Noted.stores.append(Store(start, bytes(data)))


class Life:
    """All that a worker has stored, and after how many stores each request had begun and ended."""

    def __init__(self, path: Path, seed: int, *, saves: int) -> None:
        dice = random.Random(seed)
        path.write_bytes(bytes(SMALL["SEGMENT_BYTES"]))
        Noted.stores = self.stores = list[Store]()
        with path.open("r+b") as file:
            segment = Segment(file.fileno(), b"{}")
        self.laid_out = len(self.stores)
        self.begun: dict[int, int] = {}
        self.ended: dict[int, int] = {}
        in_flight, counted = dict[int, int](), list[int]()
        for kind in dice.choices(["begin", "end", "save"], [10, 10, saves], k=300):
            if kind == "begin":
                number = len(self.begun)
                place = segment.begin(f"id-{number}", "GET", f"/{number}", 1.0, 2.0)
                if place is not None:
                    in_flight[number] = place
                    self.begun[number] = len(self.stores)
            elif kind == "end" and in_flight:
                number = dice.choice(list(in_flight))
                segment.end(in_flight[number], 1, 3.0)
                counted.append(in_flight.pop(number))
                self.ended[number] = len(self.stores)
            elif kind == "save":
                segment.save(" ".join(map(str, self.ended)).encode(), counted, 4.0)
                counted = []

    def has_begun(self, moment: int) -> set[int]:
        return {number for number, at in self.begun.items() if at <= moment}

    def has_ended(self, moment: int) -> set[int]:
        return {number for number, at in self.ended.items() if at <= moment}


class Replay:
    """The file at some moment of a life, which goes on while it is read."""

    def __init__(self, life: Life, dice: random.Random) -> None:
        self.life, self.dice = life, dice
        self.image = bytearray(SMALL["SEGMENT_BYTES"])
        self.moment = 0
        self.go_on(life.laid_out)

    def go_on(self, stores: int) -> None:
        for place, data in self.life.stores[self.moment : self.moment + stores]:
            self.image[place : place + len(data)] = data
        self.moment = min(self.moment + stores, len(self.life.stores))

    def read_at(self, file: int, length: int, start: int) -> bytes:
        """What lies there, in pieces from front to back, each as it is at another moment."""
        end = min(start + length, len(self.image))
        cuts = sorted({*self._cuts(start, end), end})
        data = bytearray()
        for cut in cuts:
            data += self.image[start + len(data) : cut]
            self.go_on(self._delay())
        return bytes(data)

    def _cuts(self, start: int, end: int) -> list[int]:
        near = [start, FIRST_SLOT, *AREAS, *(at + 64 for at in AREAS), AREAS[1] - 8]
        some = [self.dice.choice(near) + 8 * self.dice.randrange(32) for _ in range(8)]
        return [cut for cut in (*near, *some) if start < cut < end]

    def _delay(self) -> int:
        """Mostly none; now and then the reader is held up for many stores."""
        luck = self.dice.random()
        if luck < 0.7:
            return 0
        return self.dice.randrange(4) if luck < 0.85 else self.dice.randrange(120)


def check(reading: Reading, life: Life, first: int, last: int) -> None:
    """Each request is told of once, and as it was at some moment between the two."""
    in_body = [int(number) for number in (reading.body or b"").split()]
    in_slots = [int(each.path[1:]) for each in reading.ended]
    in_flight = {int(each.path[1:]) for each in reading.in_flight}
    ended = {*in_body, *in_slots}
    assert len(ended) == len(in_body) + len(in_slots)
    assert life.has_ended(first) <= ended <= life.has_ended(last)
    assert len(in_flight) == len(reading.in_flight)
    assert not in_flight & ended
    assert life.has_begun(first) - life.has_ended(last) <= in_flight
    assert in_flight <= life.has_begun(last)
    assert reading.damaged == 0
    for each in (*reading.in_flight, *reading.ended):
        assert (each.request_id, each.method) == (f"id-{each.path[1:]}", "GET")
        assert each.ended_at or not each.result


def readings(
    path: Path, monkeypatch: pytest.MonkeyPatch, *, seeds: range, saves: int, tries: int
) -> tuple[int, int]:
    """How many were steady, of how many."""
    monkeypatch.setattr(reading_module, "_TRIES", tries)
    steady = number = 0
    for seed in seeds:
        life = Life(path, seed, saves=saves)
        replay = Replay(life, random.Random(seed))
        monkeypatch.setattr(reading_module, "_read_at", replay.read_at)
        while replay.moment < len(life.stores):
            first = replay.moment
            reading = read_segment(-1)
            number += 1
            if reading.is_steady:
                steady += 1
                check(reading, life, first, replay.moment)
            replay.go_on(replay.dice.randrange(20))
    return steady, number


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(segment_module, "memoryview", Noted, raising=False)
    monkeypatch.setattr(segment_module, "_PUT", put)
    for module in (segment_module, reading_module):
        for name, value in SMALL.items():
            if hasattr(module, name):
                monkeypatch.setattr(module, name, value)
    yield
    Noted.stores = []


@pytest.mark.parametrize("tries", [1, 10])
@pytest.mark.parametrize("saves", [1, 3, 8])
def test_a_steady_reading_counts_each_request_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, saves: int, tries: int
) -> None:
    """Wherever the reader was held up, and for however long."""
    steady, number = readings(
        tmp_path / "segment", monkeypatch, seeds=range(100), saves=saves, tries=tries
    )
    assert steady > number * (0.05 if tries == 1 else 0.7)
    assert steady > 80


class Moments:
    """A life of few saves, and the file at each moment that matters to one who reads.

    Of each save these are: when a request has ended, when the snapshot is there but for its stamp,
    and when it is whole, but the slot that it counts has not been freed.
    """

    def __init__(self, path: Path, saves: int) -> None:
        path.write_bytes(bytes(SMALL["SEGMENT_BYTES"]))
        Noted.stores = []
        with path.open("r+b") as file:
            segment = Segment(file.fileno(), b"{}")
        places = [segment.begin("id", "GET", f"/{n}", 1.0, 2.0) or 0 for n in range(1, saves + 1)]
        self.files, self.ended = [path.read_bytes()], [0]
        for number, place in enumerate(places, 1):
            segment.end(place, 1, 3.0)
            self._keep(path.read_bytes(), number)
            Noted.stores.clear()
            segment.save(" ".join(map(str, range(1, number + 1))).encode(), [place], 4.0)
            self._amid_save(number)
        self._keep(path.read_bytes(), saves)

    def _amid_save(self, number: int) -> None:
        file, area = bytearray(self.files[-1]), AREAS[number % 2]
        for place, data in Noted.stores:
            file[place : place + len(data)] = data
            if place == area + 8 * AreaWord.NEWEST or (place == area and any(data)):
                self._keep(bytes(file), number)

    def _keep(self, file: bytes, ended: int) -> None:
        self.files.append(file)
        self.ended.append(ended)

    def read(self, at: Iterable[int], monkeypatch: pytest.MonkeyPatch) -> Reading:
        """Read each piece at the next of the moments: two stamps, three parts, the stamps again."""
        moments = iter(at)
        now = 0

        def read_at(file: int, length: int, start: int) -> bytes:
            nonlocal now
            data, end = b"", min(start + length, SMALL["SEGMENT_BYTES"])
            for cut in (*(cut for cut in AREAS if start < cut < end), end):
                now = next(moments, now)
                data += self.files[now][start + len(data) : cut]
            return data

        monkeypatch.setattr(reading_module, "_read_at", read_at)
        return read_segment(-1)


def all_held_up(path: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """Read in every way that there is to be held up between the pieces; how many were steady."""
    monkeypatch.setattr(reading_module, "_TRIES", 1)
    moments, steady = Moments(path, saves=3), 0
    for at in combinations_with_replacement(range(len(moments.files)), 8):
        reading = moments.read(at, monkeypatch)
        if not reading.is_steady:
            continue
        steady += 1
        in_slots = [int(each.path[1:]) for each in reading.ended]
        told = [*map(int, (reading.body or b"").split()), *in_slots]
        assert len(set(told)) == len(told), at
        first, last = moments.ended[at[0]], moments.ended[at[-1]]
        assert set(range(1, first + 1)) <= set(told) <= set(range(1, last + 1)), at
    return steady


def test_wherever_a_reader_is_held_up_each_request_counts_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing that ended before the reading is lost, whatever is saved and freed amid it."""
    assert all_held_up(tmp_path / "segment", monkeypatch) > 1000


def anything_goes(*_: object) -> bool:
    return True


def one_of_the_last_two(_: int, reading: Reading, __: int, before: int) -> bool:
    """One that was saved meanwhile is taken alone."""
    return reading.saved in (before, before + 1)


@pytest.mark.parametrize("rule", [anything_goes, one_of_the_last_two], ids=lambda r: r.__name__)
def test_a_reader_that_believes_too_much_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rule: Any
) -> None:
    monkeypatch.setattr(reading_module, "_is_of_one_moment", rule)
    with pytest.raises(AssertionError):
        all_held_up(tmp_path / "segment", monkeypatch)


class Anything(list[int]):
    """Stamps that none is missing from."""

    def __contains__(self, _: object) -> bool:
        return True


def test_a_reader_that_does_not_look_at_the_stamps_again_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = reading_module._stamps_now
    monkeypatch.setattr(reading_module, "_stamps_now", lambda file: Anything(real(file)))
    with pytest.raises(AssertionError):
        readings(tmp_path / "segment", monkeypatch, seeds=range(200), saves=3, tries=1)


def test_who_meets_nothing_but_saves_under_way_does_not_take_them_for_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each look at a stamp falls amid another save, so all are 0 as if nothing had been saved."""
    monkeypatch.setattr(reading_module, "_TRIES", 1)
    moments = Moments(tmp_path / "segment", saves=5)
    first_done, amid_3, amid_4, amid_5 = 4, 8, 11, 14
    at = [0, 0, first_done, first_done, amid_3, amid_4, amid_5]
    reading = moments.read(at, monkeypatch)
    assert (reading.saved, reading.body) == (0, None)
    assert not reading.is_steady
