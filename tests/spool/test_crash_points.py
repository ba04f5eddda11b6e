"""Whichever store a worker dies at: each request is told of once, and as what it was.

Every store of the segment is watched, and after each the whole file is read, as if the process had
ended there; of a store of many bytes also after half of them.
"""

import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from asgi_errorkit.spool import segment as segment_module
from asgi_errorkit.spool.layout import SEGMENT_BYTES, AreaWord
from asgi_errorkit.spool.reading import Reading, decode
from asgi_errorkit.spool.segment import Segment
from tests.spool.stores import put

Hook = Callable[[], None]


class Watched:
    """A memoryview that tells of every store."""

    hook: Hook = staticmethod(lambda: None)

    def __init__(self, real: Any) -> None:
        self._real = real if isinstance(real, memoryview) else memoryview(real)

    def cast(self, kind: str) -> "Watched":
        return Watched(self._real.cast(kind))

    def __getitem__(self, place: Any) -> Any:
        return self._real[place]

    def __setitem__(self, place: Any, value: Any) -> None:
        if isinstance(place, slice) and len(value) > 1:
            half = len(value) // 2
            self._real[place.start : place.start + half] = value[:half]
            Watched.hook()
        self._real[place] = value
        Watched.hook()

    def release(self) -> None:
        self._real.release()


class Model:
    """What a segment has to say, as plainly as it can be said."""

    def __init__(self) -> None:
        self.in_flight: dict[int, str] = {}
        self.ended = 0

    def state(self) -> tuple[frozenset[str], int]:
        return frozenset(self.in_flight.values()), self.ended


def told(reading: Reading) -> tuple[frozenset[str], int]:
    counted = int(reading.body or b"0")
    assert len({each.path for each in reading.in_flight}) == len(reading.in_flight)
    return frozenset(each.path for each in reading.in_flight), counted + len(reading.ended)


class Run:
    """Random steps of a worker; after each store the file says what was before the step, or after."""

    def __init__(self, path: Path, kind: type[Segment], seed: int) -> None:
        Watched.hook = lambda: None
        self.dice = random.Random(seed)
        self.stores = 0
        self.path = path
        self.model, self.allowed = Model(), set[Any]()
        self.counted: list[int] = []
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        os.truncate(file, SEGMENT_BYTES)
        self.segment = kind(file, b"{}")
        os.close(file)
        self.allowed = {self.model.state()}
        Watched.hook = self.look

    def look(self) -> None:
        self.stores += 1
        reading = decode(self.path.read_bytes())
        assert told(reading) in self.allowed, (told(reading), self.allowed)
        assert reading.damaged == 0
        for each in (*reading.in_flight, *reading.ended):
            assert (each.request_id, each.method) == (f"id{each.path[1:]}", "GET")
            assert (each.ended_at > 0) >= (each.result > 0)

    def step(self) -> None:
        before = self.model.state()
        take = self.dice.choice(
            [self.begin, self.begin, self.end, self.end, self.answer, self.save]
        )
        change = take()
        self.allowed = {before, self.model.state()}
        change()
        self.allowed = {self.model.state()}
        self.look()

    def begin(self) -> Hook:
        number = self.stores
        path = f"/{number}"

        def change() -> None:
            place = self.segment.begin(f"id{number}", "GET", path, 1.0, 2.0)
            assert place is not None
            self.model.in_flight[place] = self.model.in_flight.pop(-1)

        self.model.in_flight[-1] = path
        return change

    def end(self) -> Hook:
        if not self.model.in_flight:
            return lambda: None
        place = self.dice.choice(list(self.model.in_flight))
        del self.model.in_flight[place]
        self.model.ended += 1

        def change() -> None:
            self.segment.end(place, 1, 3.0)
            self.counted.append(place)

        return change

    def answer(self) -> Hook:
        if not self.model.in_flight:
            return lambda: None
        place = self.dice.choice(list(self.model.in_flight))
        return lambda: self.segment.first_byte(place, 2.5)

    def save(self) -> Hook:
        counted, self.counted = self.counted, []
        return lambda: self.segment.save(b"%d" % self.model.ended, counted, 4.0)


@pytest.fixture(autouse=True)
def _watched(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(segment_module, "memoryview", Watched, raising=False)
    monkeypatch.setattr(segment_module, "_PUT", put)
    yield
    Watched.hook = lambda: None


def runs(path: Path, kind: type[Segment], seeds: int, steps: int) -> int:
    stores = 0
    for seed in range(seeds):
        run = Run(path, kind, seed)
        for _ in range(steps):
            run.step()
        stores += run.stores
    return stores


def test_at_whichever_store_it_dies_each_request_is_told_of_once(tmp_path: Path) -> None:
    assert runs(tmp_path / "segment", Segment, seeds=12, steps=60) > 2000


class StampFirst(Segment):
    """A snapshot is valid before it is there."""

    def save(self, body: bytes, counted: Any, now: float) -> None:
        start = segment_module.AREAS[(self._saved + 1) % 2] // 8
        self._words[start + AreaWord.STAMP] = self._saved + 1
        super().save(body, counted, now)


class FreesFirst(Segment):
    """Slots are free before a snapshot has counted them."""

    def save(self, body: bytes, counted: Any, now: float) -> None:
        for place in counted:
            self._words[(segment_module.FIRST_SLOT + place * 256) // 8] = 0
        super().save(body, counted, now)


class ForgetsToList(Segment):
    """A snapshot does not say which slots it has counted."""

    def save(self, body: bytes, counted: Any, now: float) -> None:
        super().save(body, [], now)
        for place in counted:
            self._words[(segment_module.FIRST_SLOT + place * 256) // 8] = 0
            self._free.append(place)


class OnePlace(Segment):
    """Each snapshot is written over the one before."""

    def save(self, body: bytes, counted: Any, now: float) -> None:
        super().save(body, counted, now)
        self._saved += 1


class NeverFrees(Segment):
    """The counted slot is given again without having been cleared."""

    def save(self, body: bytes, counted: Any, now: float) -> None:
        kept = {p: self._words[(segment_module.FIRST_SLOT + p * 256) // 8] for p in counted}
        super().save(body, counted, now)
        for place, stamp in kept.items():
            self._words[(segment_module.FIRST_SLOT + place * 256) // 8] = stamp


@pytest.mark.parametrize(
    "fault", [StampFirst, FreesFirst, ForgetsToList, OnePlace, NeverFrees], ids=lambda f: f.__name__
)
def test_a_worker_with_a_defect_is_noticed(fault: type[Segment], tmp_path: Path) -> None:
    with pytest.raises(AssertionError):
        runs(tmp_path / "segment", fault, seeds=12, steps=60)
