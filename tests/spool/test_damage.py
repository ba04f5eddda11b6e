"""Whatever lies in a file: a reader tells what can be told, or that it is damaged, and nothing else."""

import os
import random
import tracemalloc
from math import isfinite
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asgi_errorkit.spool import reading as reading_module
from asgi_errorkit.spool.layout import (
    ABOUT,
    AREAS,
    FIRST_SLOT,
    PAGE,
    SEGMENT_BYTES,
    SLOT_BYTES,
    HeaderWord,
)
from asgi_errorkit.spool.reading import DamagedSegmentError, Reading, decode, read_segment
from asgi_errorkit.spool.segment import Segment

MUTATIONS = 100_000
LISTED = 8
WORDS = (0, 1, 2**16 - 1, 2**32, 2**63, 2**64 - 1, 0x7FF0_0000_0000_0000, 0x7FF8_0000_0000_0000)


@pytest.fixture
def body(tmp_path: Path) -> bytearray:
    """A segment with requests in flight and ended, and both snapshots."""
    path = tmp_path / "segment"
    file = os.open(path, os.O_RDWR | os.O_CREAT)
    os.truncate(file, SEGMENT_BYTES)
    segment = Segment(file, b'{"pid": 7}')
    os.close(file)
    for number in range(LISTED):
        place = segment.begin(f"id-{number}", "GET", f"/{number}", 1.0, 2.0)
        assert place is not None
        if number % 2:
            segment.end(place, 200 << 8 | 1, 2.0)
        if number in (1, 3):
            segment.save(b'{"outcomes": {}}', [place], 3.0)
    return bytearray(path.read_bytes())


def check(data: bytes | bytearray) -> bool:
    """Whether it could be read; what was read is sound."""
    try:
        reading = decode(data)  # type: ignore[arg-type]  # one that is not copied each time
    except DamagedSegmentError:
        return False
    assert isinstance(reading, Reading)
    numbers = [reading.beats_at, reading.memory_mb, reading.memory_at, reading.made_at]
    for each in (*reading.in_flight, *reading.ended):
        numbers += each.started_at, each.memory_mb, each.first_byte_at, each.ended_at
        assert all(type(text) is str for text in (each.request_id, each.method, each.path))
        assert len(each.path) <= SLOT_BYTES
    assert all(map(isfinite, numbers))
    assert len(reading.in_flight) + len(reading.ended) <= LISTED + 1
    return True


def a_place(dice: random.Random) -> int:
    """Where something lies, mostly."""
    start, length = dice.choice(
        [
            (0, 12 * 8),
            (1024, 16),
            (FIRST_SLOT, LISTED * SLOT_BYTES),
            (AREAS[0], 64),
            (AREAS[1], 64),
            (AREAS[0] + 64, 2048 + 32),
            (AREAS[1] + 64, 2048 + 32),
        ]
    )
    return start + dice.randrange(length)


def test_a_hundred_thousand_mutations_are_read_or_refused(
    body: bytearray, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What lies in the slots that nobody has used costs most of the time, and is looked at elsewhere.
    monkeypatch.setattr(reading_module, "_LAST_SLOT", FIRST_SLOT + LISTED * SLOT_BYTES)
    dice = random.Random(1)
    assert check(body)
    read = 0
    for _ in range(MUTATIONS):
        undo = []
        for _change in range(dice.choice([1, 1, 2, 5])):
            place = a_place(dice)
            if dice.random() < 0.5:
                undo.append((place, bytes(body[place : place + 1])))
                body[place] ^= 1 << dice.randrange(8)
            else:
                place -= place % 8
                undo.append((place, bytes(body[place : place + 8])))
                word = dice.choice([*WORDS, dice.getrandbits(64)])
                body[place : place + 8] = word.to_bytes(8, "little")
        read += check(body)
        for place, was in reversed(undo):
            body[place : place + len(was)] = was
    assert check(body)
    assert MUTATIONS * 0.1 < read < MUTATIONS * 0.95


def test_pages_of_other_moments_and_of_aliens_are_read_or_refused(
    body: bytearray, tmp_path: Path
) -> None:
    """As a disk may leave them: some older, some at the wrong place, some of something else."""
    path = tmp_path / "segment"
    path.touch()
    os.truncate(path, SEGMENT_BYTES)
    with path.open("r+b") as file:
        other = Segment(file.fileno(), b'{"pid": 8}')
    for number in range(LISTED):
        other.save(b'{"outcomes": {"ok": %d}}' % number, [], 4.0)
    sources = [bytes(body), path.read_bytes(), bytes(SEGMENT_BYTES), b"\xff" * SEGMENT_BYTES]
    dice = random.Random(3)
    last = SEGMENT_BYTES // PAGE - 1
    places = [0, FIRST_SLOT // PAGE, *(start // PAGE for start in AREAS)]
    read = 0
    for _ in range(1000):
        undo = []
        for _splice in range(dice.choice([1, 1, 3])):
            to = dice.choice([*places[1:], *places, dice.randint(0, last)]) * PAGE
            start = dice.choice([to, to, dice.randint(0, last) * PAGE])
            undo.append((to, bytes(body[to : to + PAGE])))
            body[to : to + PAGE] = dice.choice(sources)[start : start + PAGE]
        read += check(body)
        for place, was in reversed(undo):
            body[place : place + PAGE] = was
    assert 200 < read < 1000


@pytest.mark.parametrize("start", [b"\x7fELF", b"SQLite format 3\0", b"PK\3\4", b"\n" * 8, b"{}"])
def test_a_file_of_something_else_is_refused(start: bytes) -> None:
    with pytest.raises(DamagedSegmentError, match="no segment"):
        decode(start.ljust(SEGMENT_BYTES, b"x"))


@pytest.mark.parametrize("word", [0xFFFF, 2**64 - 1, 2**63, SEGMENT_BYTES])
def test_no_length_that_is_told_makes_it_take_memory(body: bytearray, word: int) -> None:
    """Each word of the file says it, but for those that say what it is."""
    words = memoryview(body).cast("Q")
    for place in range(HeaderWord.ENDING + 1, len(words)):
        words[place] = word
    words.release()
    # In the header the text may be damaged as well: who it is about is checked first.
    body[ABOUT : ABOUT + 10] = b'{"pid": 7}'
    data = bytes(body)
    tracemalloc.start()
    try:
        reading = decode(data)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (reading.in_flight, reading.ended, reading.body) == ([], [], None)
    assert most < 2_000_000


def test_slots_of_any_content_are_read_or_left_out(body: bytearray) -> None:
    dice = random.Random(2)
    for _ in range(30):
        body[FIRST_SLOT : AREAS[0]] = dice.randbytes(AREAS[0] - FIRST_SLOT)
        reading = decode(bytes(body))
        assert reading.damaged > 2000
        assert len(reading.in_flight) + len(reading.ended) < 5


@pytest.mark.parametrize("length", [0, 1, 7, 8, 95, PAGE - 1, PAGE, AREAS[0], SEGMENT_BYTES - 1])
def test_a_file_that_was_cut_short_is_refused(body: bytearray, length: int, tmp_path: Path) -> None:
    with pytest.raises(DamagedSegmentError):
        decode(bytes(body[:length]))
    path = tmp_path / "short"
    path.write_bytes(body[:length])
    with path.open("rb") as file, pytest.raises(DamagedSegmentError):
        read_segment(file.fileno())


def test_a_file_that_has_grown_is_read_as_far_as_it_is_one(body: bytearray, tmp_path: Path) -> None:
    path = tmp_path / "long"
    path.write_bytes(body + b"x" * 1000)
    with path.open("rb") as file:
        assert read_segment(file.fileno()) == decode(bytes(body))


@pytest.mark.parametrize(
    "word", [HeaderWord.VERSION, *range(HeaderWord.SEGMENT_BYTES, HeaderWord.ABOUT)]
)
@pytest.mark.parametrize("value", [0, 2, 2**64 - 1])
def test_another_version_or_layout_is_refused_by_name(
    body: bytearray, word: int, value: int
) -> None:
    body[word * 8 : word * 8 + 8] = value.to_bytes(8, "little")
    with pytest.raises(DamagedSegmentError, match=HeaderWord(word).name.lower()):
        decode(bytes(body))


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=2 * PAGE))
def test_what_is_no_segment_is_refused(data: bytes) -> None:
    with pytest.raises(DamagedSegmentError):
        decode(data)


@settings(max_examples=200, deadline=None)
@given(
    st.integers(0, 2**32),
    st.booleans(),
    st.lists(st.tuples(st.integers(0, 11), st.sampled_from(WORDS))),
)
def test_a_header_of_any_content_is_read_or_refused(
    seed: int, is_alike: bool, words: list[tuple[int, int]]
) -> None:
    header = bytearray(SEGMENT_BYTES)
    header[:PAGE] = random.Random(seed).randbytes(PAGE)
    if is_alike:
        header[:8] = b"asgi-ek\n"
    for place, word in words:
        header[place * 8 : place * 8 + 8] = word.to_bytes(8, "little")
    check(bytes(header))
