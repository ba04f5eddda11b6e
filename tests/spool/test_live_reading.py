"""Who reads while a worker writes tells what was true at some moment, or says that it is unsure."""

import os
import random
from pathlib import Path
from typing import Any

import pytest

from asgi_errorkit.spool import reading as reading_module
from asgi_errorkit.spool.layout import SEGMENT_BYTES
from asgi_errorkit.spool.reading import Reading, read_segment
from asgi_errorkit.spool.segment import Segment


class Writer:
    """A worker that takes random steps when it is told to, and knows what it has done."""

    def __init__(self, path: Path, dice: random.Random, *, saves: int) -> None:
        self.dice = dice
        self.file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        os.truncate(self.file, SEGMENT_BYTES)
        self.segment = Segment(self.file, b"{}")
        self.kinds = ["begin"] * 10 + ["end"] * 10 + ["save"] * saves
        self.in_flight: dict[int, int] = {}
        self.counted: list[int] = []
        self.next = self.ended = 0

    def step(self) -> None:
        kind = self.dice.choice(self.kinds)
        if kind == "begin":
            place = self.segment.begin(f"id-{self.next}", "GET", f"/{self.next}", 1.0, 2.0)
            if place is not None:
                self.in_flight[self.next] = place
                self.next += 1
        elif kind == "end" and self.in_flight:
            number = self.dice.choice(list(self.in_flight))
            place = self.in_flight.pop(number)
            self.segment.end(place, 1, 2.0)
            self.counted.append(place)
            self.ended += 1
        elif kind == "save":
            self.segment.save(b"%d" % self.ended, self.counted, 3.0)
            self.counted = []

    def close(self) -> None:
        os.close(self.file)


def check(reading: Reading, before: tuple[set[int], int], after: tuple[set[int], int]) -> None:
    """Between what was so when the reading began and when it ended."""
    seen = {int(each.path[1:]) for each in reading.in_flight}
    ended = {int(each.path[1:]) for each in reading.ended}
    assert len(seen) + len(ended) == len(reading.in_flight) + len(reading.ended)
    assert not seen & ended
    total = int(reading.body or b"0") + len(ended)
    assert before[1] <= total <= after[1]
    assert before[0] & after[0] <= seen
    assert reading.damaged == 0


def read_amid(writer: Writer, monkeypatch: pytest.MonkeyPatch, most: int) -> Reading:
    """Read while the writer goes on: between any two pieces of what is copied."""
    real, dice = reading_module._read_at, writer.dice

    def in_pieces(file: int, length: int, start: int) -> bytes:
        cuts = sorted(dice.randrange(start, start + length) // 8 * 8 for _ in range(6))
        data, at = b"", start
        for cut in [*(cut for cut in cuts if cut > start), start + length]:
            data += real(file, cut - at, at)
            at = cut
            for _ in range(dice.randrange(most)):
                writer.step()
        return data

    with monkeypatch.context() as slow:
        slow.setattr(reading_module, "_read_at", in_pieces)
        return read_segment(writer.file)


def readings(saves: int, most: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """Check those that are steady; how many there were."""
    steady = 0
    for seed in range(40):
        writer = Writer(tmp_path / "segment", random.Random(seed), saves=saves)
        for _ in range(60):
            writer.step()
        for _ in range(3):
            before = set(writer.in_flight), writer.ended
            reading = read_amid(writer, monkeypatch, most)
            if reading.is_steady:
                steady += 1
                check(reading, before, (set(writer.in_flight), writer.ended))
        writer.close()
    return steady


@pytest.mark.parametrize(("saves", "most"), [(1, 2), (1, 10), (4, 10)])
def test_a_steady_reading_counts_each_request_once(
    saves: int, most: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert readings(saves, most, tmp_path, monkeypatch) > 20


def test_where_too_much_is_saved_meanwhile_the_reading_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert readings(10, 40, tmp_path, monkeypatch) == 0


def test_what_is_read_while_nobody_writes_is_steady(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "segment", random.Random(1), saves=2)
    for _ in range(500):
        writer.step()
        reading = read_segment(writer.file)
        state: Any = set(writer.in_flight), writer.ended
        check(reading, state, state)
        assert reading.is_steady
    writer.close()


def test_a_reader_that_takes_whatever_it_read_for_steady_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = reading_module.Reading._replace
    monkeypatch.setattr(
        reading_module.Reading, "_replace", lambda self, **_: real(self, is_steady=True)
    )
    monkeypatch.setattr(reading_module, "_TRIES", 1)
    with pytest.raises(AssertionError):
        readings(4, 10, tmp_path, monkeypatch)
