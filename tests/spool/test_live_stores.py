"""Who reads amid any store of a worker counts each request once, or says that it is unsure.

A worker's stores are written down one by one, and done again on a copy of the file between the
pieces of what is read: so the reader may meet each of them half way, and be held up anywhere. The
segment is small here, and its snapshots name the requests that they count.
"""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from asgi_errorkit.spool import reading as reading_module
from asgi_errorkit.spool import segment as segment_module
from asgi_errorkit.spool.layout import FIRST_SLOT, PAGE, SLOT_BYTES
from asgi_errorkit.spool.reading import Reading, read_segment
from asgi_errorkit.spool.segment import Segment

SLOTS = 6
AREAS = (FIRST_SLOT + SLOTS * SLOT_BYTES, FIRST_SLOT + SLOTS * SLOT_BYTES + PAGE)
SMALL = {
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
    for module in (segment_module, reading_module):
        for name, value in SMALL.items():
            if hasattr(module, name):
                monkeypatch.setattr(module, name, value)
    yield
    Noted.stores = []
