"""What a worker writes to its segment is what is read there, and never more than fits."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from asgi_errorkit.spool import segment as segment_module
from asgi_errorkit.spool.layout import (
    ABOUT_BYTES,
    AREAS,
    BODY_BYTES,
    FIRST_SLOT,
    SEGMENT_BYTES,
    SLOT_BYTES,
    SLOTS,
    TEXT_BYTES,
    Ending,
    SlotWord,
)
from asgi_errorkit.spool.reading import DamagedSegmentError, Listed, decode, read_segment
from asgi_errorkit.spool.segment import Segment
from tests.spool.stores import put
from tests.spool.test_crash_points import Run, Watched


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file of zeros, as a segment is laid out in."""
    path = tmp_path / "segment"
    path.touch()
    os.truncate(path, SEGMENT_BYTES)
    return path


def laid_out(path: Path, about: bytes = b"{}") -> Segment:
    with path.open("r+b") as file:
        return Segment(file.fileno(), about)


@pytest.fixture
def segment(path: Path) -> Segment:
    return laid_out(path)


def begin(segment: Segment, request_id: Any = "id", method: Any = "GET", path: Any = "/") -> int:
    place = segment.begin(request_id, method, path, 1.0, 2.0)
    assert place is not None
    return place


def test_what_is_written_is_what_is_read(path: Path) -> None:
    segment = laid_out(path, b'{"pid": 7}')
    answered = segment.begin("a", "GET", "/a", 1.5, 80.0)
    ended = segment.begin("b", "POST", "/b", 2.5, 81.0)
    assert answered is not None and ended is not None
    segment.first_byte(answered, 3.5)
    segment.end(ended, 200 << 8 | 1, 4.5)
    segment.beat(5.5, 82.0, 5.25, 9)
    reading = decode(path.read_bytes())
    assert reading.in_flight == [Listed(1, "a", "GET", "/a", 1.5, 80.0, 3.5, 0.0, 0)]
    assert reading.ended == [Listed(2, "b", "POST", "/b", 2.5, 81.0, 0.0, 4.5, 200 << 8 | 1)]
    assert (reading.about, reading.ending) == (b'{"pid": 7}', Ending.OPEN)
    assert (reading.beats_at, reading.memory_mb, reading.memory_at) == (5.5, 82.0, 5.25)
    assert (reading.unlisted, reading.body, reading.saved, reading.damaged) == (9, None, 0, 0)
    with path.open("rb") as file:
        assert read_segment(file.fileno()) == reading


def test_the_oldest_request_comes_first_whichever_slot_it_has(segment: Segment, path: Path) -> None:
    first = begin(segment, path="/1")
    begin(segment, path="/2")
    segment.end(first, 1, 3.0)
    segment.save(b"", [first], 4.0)
    begin(segment, path="/3")  # in the slot of the first
    assert [each.path for each in decode(path.read_bytes()).in_flight] == ["/2", "/3"]


def test_a_full_table_lists_no_more_and_changes_nothing(segment: Segment, path: Path) -> None:
    places = {begin(segment, path=f"/{number}") for number in range(SLOTS)}
    assert (len(places), segment.free) == (SLOTS, 0)
    full = path.read_bytes()
    assert segment.begin("id", "GET", "/more", 1.0, 2.0) is None
    assert path.read_bytes() == full
    assert [each.path for each in decode(full).in_flight] == [f"/{n}" for n in range(SLOTS)]


def test_a_slot_that_a_snapshot_has_counted_is_given_again(segment: Segment, path: Path) -> None:
    places = [begin(segment) for _ in range(SLOTS)]
    for place in places:
        segment.end(place, 1, 3.0)
    segment.save(b"all", places, 4.0)
    assert segment.free == SLOTS
    reading = decode(path.read_bytes())
    assert (reading.in_flight, reading.ended, reading.body) == ([], [], b"all")
    assert sorted(begin(segment) for _ in places) == sorted(places)
    reading = decode(path.read_bytes())
    assert (len(reading.in_flight), reading.ended) == (SLOTS, [])
    assert {(each.result, each.ended_at) for each in reading.in_flight} == {(0, 0.0)}


class Unspeakable:
    def __str__(self) -> str:
        raise RuntimeError


@pytest.mark.parametrize(
    ("named", "expected"),
    [
        (("id", "GET", "/\udc80x"), ("id", "GET", "/\\udc80x")),
        (("id", "GET", "/\0\n\r\t é 𝄞"), ("id", "GET", "/\0\n\r\t é 𝄞")),
        (("id", "GET HEAD", "/x"), ("id", "GET", "HEAD /x")),
        (("", "", ""), ("", "", "")),
        ((b"id", None, 7), ("b'id'", "None", "7")),
        (("id", "GET", "/" + "x" * 10_000_000), ("id", "GET", "/" + "x" * (TEXT_BYTES - 8))),
        (("id", "GET", "/" + "\udc80" * 1000), ("id", "GET", "/" + ("\\udc80" * 40)[: 192 - 8])),
        (("id", "GET", "/" + "é" * 1000), ("id", "GET", "/" + "é" * 92)),
        (("id", "GET", "/x" + "é" * 1000), ("id", "GET", "/x" + "é" * 91 + "\ufffd")),
        (("i" * 500, "GET", "/"), ("i" * TEXT_BYTES, "", "")),
        (("id", "GET", Unspeakable()), ("?", "?", "?")),
    ],
    ids="surrogate control blank empty no-text huge huge-surrogates even odd id failing".split(),
)
def test_whatever_a_request_is_named_it_is_listed_as_far_as_there_is_room(
    segment: Segment, path: Path, named: tuple[Any, Any, Any], expected: tuple[str, str, str]
) -> None:
    """Its neighbours are not touched, and nobody fails for it."""
    begin(segment, path="/before")
    begin(segment, *named)
    begin(segment, path="/after")
    reading = decode(path.read_bytes())
    before, listed, after = (each[1:4] for each in reading.in_flight)
    assert (before, after) == (("id", "GET", "/before"), ("id", "GET", "/after"))
    assert listed == expected
    assert reading.damaged == 0


def test_a_body_that_is_too_long_changes_nothing(segment: Segment, path: Path) -> None:
    place = begin(segment)
    segment.end(place, 1, 3.0)
    before = path.read_bytes()
    with pytest.raises(ValueError, match=f"at most {BODY_BYTES} bytes; got {BODY_BYTES + 1}"):
        segment.save(b"x" * (BODY_BYTES + 1), [place], 4.0)
    assert path.read_bytes() == before
    assert segment.free == SLOTS - 1
    segment.save(b"x" * BODY_BYTES, [place], 4.0)
    reading = decode(path.read_bytes())
    assert (reading.body, reading.saved, reading.ended) == (b"x" * BODY_BYTES, 1, [])


def test_snapshots_go_into_the_two_places_by_turns(segment: Segment, path: Path) -> None:
    """The one before stays as it is, to the last byte."""
    for number in range(1, 6):
        before = path.read_bytes()
        segment.save(b"%d" % number, [], float(number))
        after = path.read_bytes()
        kept = AREAS[(number + 1) % 2]
        end = kept + AREAS[1] - AREAS[0]
        assert after[kept:end] == before[kept:end]
        reading = decode(after)
        assert (reading.body, reading.saved, reading.made_at) == (b"%d" % number, number, number)


def test_a_shorter_body_leaves_nothing_of_the_longer_one(segment: Segment, path: Path) -> None:
    for body in (b"long" * 1000, b"long" * 1000, b"short", b""):
        segment.save(body, [], 1.0)
        assert decode(path.read_bytes()).body == body


def test_the_file_neither_grows_nor_takes_more_room(tmp_path: Path) -> None:
    """All of its blocks are there beforehand, so that no store can find the disk full."""
    path = tmp_path / "segment"
    with path.open("w+b") as file:
        os.posix_fallocate(file.fileno(), 0, SEGMENT_BYTES)
        blocks = os.fstat(file.fileno()).st_blocks
        segment = Segment(file.fileno(), b"x" * ABOUT_BYTES)
        for _ in range(3):
            places = [begin(segment, path="x" * 500) for _ in range(SLOTS)]
            segment.save(b"x" * BODY_BYTES, places, 1.0)
        found = os.fstat(file.fileno())
    assert (found.st_size, found.st_blocks) == (SEGMENT_BYTES, blocks)
    assert blocks * 512 >= SEGMENT_BYTES


def test_who_it_is_about_must_fit(path: Path) -> None:
    with pytest.raises(ValueError, match=f"at most {ABOUT_BYTES} bytes; got {ABOUT_BYTES + 1}"):
        laid_out(path, b"x" * (ABOUT_BYTES + 1))
    assert not any(path.read_bytes())
    laid_out(path, b"x" * ABOUT_BYTES)
    assert decode(path.read_bytes()).about == b"x" * ABOUT_BYTES


@pytest.mark.parametrize("ending", Ending)
def test_what_is_closed_says_so_and_lists_no_more(
    segment: Segment, path: Path, ending: Ending
) -> None:
    begin(segment, path="/left")
    segment.save(b"last", [], 1.0)
    segment.close(ending)
    closed = path.read_bytes()
    assert segment.begin("id", "GET", "/late", 1.0, 2.0) is None
    assert path.read_bytes() == closed
    reading = decode(closed)
    assert (reading.ending, reading.body) == (ending, b"last")
    assert [each.path for each in reading.in_flight] == ["/left"]


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(segment_module, "memoryview", Watched, raising=False)
    monkeypatch.setattr(segment_module, "_PUT", put)
    yield
    Watched.hook = lambda: None


@pytest.mark.usefixtures("watched")
def test_until_the_last_store_of_its_layout_it_is_no_segment(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bool] = []

    def look() -> None:
        try:
            reading = decode(path.read_bytes())
        except DamagedSegmentError:
            seen.append(False)
        else:
            seen.append(True)
            assert (reading.about, reading.in_flight, reading.saved) == (b'{"pid": 7}', [], 0)

    monkeypatch.setattr(Watched, "hook", look)
    laid_out(path, b'{"pid": 7}')
    assert seen == [False] * (len(seen) - 1) + [True]
    assert len(seen) > 8


def slot_word(place: int) -> int:
    return (FIRST_SLOT + place * SLOT_BYTES) // 8


class EndsBeforeItsTime(Segment):
    """A result is there before the time of the end."""

    def __init__(self, file: int, about: bytes) -> None:
        super().__init__(file, about)
        words, rightly = self._words, self.end

        def end(place: int, result: int, at: float) -> None:
            words[slot_word(place) + SlotWord.RESULT] = result
            rightly(place, result, at)

        self.end = end


class StampsBeforeItsText(Segment):
    """A slot is taken before it says by whom."""

    def __init__(self, file: int, about: bytes) -> None:
        super().__init__(file, about)
        words, free, rightly = self._words, self._free, self.begin

        def begin(*request: Any) -> int | None:
            words[slot_word(free[-1])] = 10_000
            return rightly(*request)

        self.begin = begin


class OverTheNewer(Segment):
    """A snapshot is written over the newer of the two."""

    def save(self, body: bytes, counted: Any, now: float) -> None:
        self._saved += 1
        super().save(body, counted, now)


@pytest.mark.usefixtures("watched")
@pytest.mark.parametrize(
    "fault", [EndsBeforeItsTime, StampsBeforeItsText, OverTheNewer], ids=lambda f: f.__name__
)
def test_a_worker_that_stores_in_another_order_is_noticed(fault: type[Segment], path: Path) -> None:
    run = Run(path, fault, seed=1)

    def walk() -> None:
        for _ in range(100):
            run.step()

    with pytest.raises(AssertionError):
        walk()
