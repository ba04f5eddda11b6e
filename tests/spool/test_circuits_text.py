"""What workers tell of their circuits is read whole, or not at all, and believed within bounds."""

import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asgi_errorkit import CircuitState, ErrorType
from asgi_errorkit.circuit_state import Told
from asgi_errorkit.spool import segment as segment_module
from asgi_errorkit.spool.circuit_text import MOST_NAME, text_of, told_in
from asgi_errorkit.spool.layout import (
    AREA_HEAD_BYTES,
    AREAS,
    CIRCUITS,
    CIRCUITS_BYTES,
    PAGE,
    SEGMENT_BYTES,
    AreaWord,
)
from asgi_errorkit.spool.reading import DamagedSegmentError, decode, read_circuits
from asgi_errorkit.spool.segment import Segment
from tests.spool.stores import put
from tests.spool.test_circuits import BY_RATE, Crowd
from tests.spool.test_crash_points import Watched

NOW = 1000.0
past = st.floats(0, NOW)
number = st.integers(0, 2**32 - 1)
tolds = st.builds(
    Told,
    name=st.text(max_size=MOST_NAME),
    state=st.sampled_from(CircuitState),
    since=past,
    era=past,
    hand=past,
    retry_at=st.floats(0, 2.0**31),
    trips=st.integers(0, 999),
    error_type=st.sampled_from([each.value for each in ErrorType]),
    triggered_at=st.floats(0, 2.0**31),
    error_count=number,
    threshold=st.floats(0, 1),
    calls=number,
    failed=number,
    slow=number,
    run=number,
    run_since=past,
    run_opens=number,
    opened_by_run=st.booleans(),
    successes=number,
    rules=number,
    succeeded_at=st.just(0.0),
)


@settings(max_examples=30, deadline=None)
@given(st.lists(tolds, max_size=5, unique_by=lambda told: told.name))
def test_what_is_told_is_heard(circuits: list[Told]) -> None:
    text, left_out = text_of("me", circuits, CIRCUITS_BYTES)
    heard = told_in(text, NOW)
    assert (heard.teller, heard.unread, left_out) == ("me", 0, 0)
    assert heard.circuits == {each.name: each for each in circuits}


def test_what_is_open_comes_first_where_there_is_little_room() -> None:
    closed = [Told(f"closed-{n}", since=float(n), era=float(n)) for n in range(100)]
    failing = Told("failing", failed=1, calls=2)
    opened = Told("open", CircuitState.OPEN, 1.0, 1.0)
    text, left_out = text_of("me", [*closed, failing, opened], 400)
    assert len(text) <= 400
    names = list(told_in(text, NOW).circuits)
    assert names[:3] == ["open", "failing", "closed-99"]
    assert left_out == 102 - len(names)


def test_a_name_that_cannot_be_told_costs_no_other(tmp_path: Path) -> None:
    odd = [Told("x" * (MOST_NAME + 1)), Told("\udc80"), Told("\ud800" * 10)]
    text, left_out = text_of("me", [*odd, Told("y")], CIRCUITS_BYTES)
    assert (list(told_in(text, NOW).circuits), left_out) == (["y"], 3)


MANY = [{"name": str(n)} for n in range(5000)]


@pytest.mark.parametrize(
    ("text", "known", "unread"),
    [
        (b"", 0, 1),
        (b"\xff\x00", 0, 1),
        (b"[" * 30_000, 0, 1),
        (b"[]", 0, 1),
        (b"7", 0, 1),
        (b'{"teller":"a"}', 0, 1),
        (b'{"teller":7,"circuits":[]}', 0, 1),
        (b'{"teller":"a","circuits":{}}', 0, 1),
        (b'{"teller":"a","circuits":[]}', 0, 0),
        (b'{"teller":"a","circuits":[1,null,[],{},"x",{"name":"a"}]}', 1, 5),
        (orjson.dumps({"teller": "a", "circuits": MANY}), 1000, 4000),
    ],
    ids="empty binary deep list number nothing no-name no-list none odd many".split(),
)
def test_what_makes_no_sense_is_left_out_and_counted(text: bytes, known: int, unread: int) -> None:
    heard = told_in(text, NOW)
    assert (len(heard.circuits), heard.unread) == (known, unread)


@pytest.mark.parametrize(
    "member",
    [
        {"name": None},
        {"name": "x" * (MOST_NAME + 1)},
        {"state": "ajar"},
        {"state": []},
        {"state": {}},
        {"since": NOW + 2},
        {"era": 1e300},
        {"hand": -1},
        {"retry_at": "soon"},
        {"retry_at": True},
        {"trips": 10**6},
        {"trips": 1.5},
        {"error_type": "nothing"},
        {"error_type": []},
        {"calls": -1},
        {"failed": 2**40},
        {"run": None},
        {"run_since": NOW + 60},
        {"opened_by_run": 1},
        {"successes": "9"},
        {"rules": {}},
    ],
    ids=repr,
)
def test_a_circuit_with_an_impossible_member_is_left_out(member: dict[str, Any]) -> None:
    text = orjson.dumps({"teller": "a", "circuits": [{"name": "x", **member}, {"name": "y"}]})
    heard = told_in(text, NOW)
    assert (list(heard.circuits), heard.unread) == (["y"], 1)


# In the segment


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "segment"
    path.touch()
    os.truncate(path, SEGMENT_BYTES)
    return path


def laid_out(path: Path) -> Segment:
    with path.open("r+b") as file:
        return Segment(file.fileno(), b"{}")


def read(path: Path, known: int = 0) -> tuple[int, bytes]:
    with path.open("rb") as file:
        return read_circuits(file.fileno(), known)[:2]


def test_the_latest_text_is_read(path: Path) -> None:
    segment = laid_out(path)
    assert read(path) == (0, b"")
    for stamp, text in enumerate((b"one", b"two" * 1000, b"", b"x" * CIRCUITS_BYTES), 1):
        segment.tell(text, 1.0)
        assert read(path) == (stamp, text)
        assert read(path, stamp) == (stamp, b""), "what is known is not read again"


def test_a_text_touches_nothing_else(path: Path) -> None:
    segment = laid_out(path)
    segment.save(b"counted", [], 1.0)
    before = path.read_bytes()
    for _ in range(2):
        segment.tell(b"x" * CIRCUITS_BYTES, 1.0)
    assert path.read_bytes()[: CIRCUITS[0]] == before[: CIRCUITS[0]]
    assert path.stat().st_size == SEGMENT_BYTES
    assert decode(path.read_bytes()).body == b"counted"


def test_a_text_that_is_too_long_changes_nothing(path: Path) -> None:
    segment = laid_out(path)
    segment.tell(b"before", 1.0)
    with pytest.raises(ValueError, match=f"at most {CIRCUITS_BYTES} bytes"):
        segment.tell(b"x" * (CIRCUITS_BYTES + 1), 1.0)
    assert read(path) == (1, b"before")


def test_a_file_that_is_no_segment_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "odd"
    for data in (b"", b"short", bytes(SEGMENT_BYTES), b"\xff" * SEGMENT_BYTES):
        path.write_bytes(data)
        with pytest.raises(DamagedSegmentError):
            read(path)


def test_one_place_that_is_broken_leaves_the_other(path: Path) -> None:
    segment = laid_out(path)
    segment.tell(b"older", 1.0)
    segment.tell(b"newer", 1.0)
    with path.open("r+b") as file:
        file.seek(CIRCUITS[0] + AREA_HEAD_BYTES)
        file.write(b"n3wer")
    assert read(path) == (1, b"older")


@pytest.fixture
def _watched(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(segment_module, "memoryview", Watched, raising=False)
    monkeypatch.setattr(segment_module, "_PUT", put)
    yield
    Watched.hook = lambda: None


@pytest.mark.usefixtures("_watched")
def test_at_whichever_store_its_worker_dies_a_whole_text_is_there(path: Path) -> None:
    Watched.hook = lambda: None
    segment = laid_out(path)
    allowed = {b""}
    looked = 0

    def look() -> None:
        nonlocal looked
        looked += 1
        assert read(path)[1] in allowed

    Watched.hook = look
    for number_ in range(20):
        text = b"%d" % number_ * (number_ * 7 % 11)
        allowed.add(text)
        segment.tell(text, 1.0)
        allowed = {text}
    assert looked >= 20 * 4


def writing(path: Path) -> None:
    segment, n = laid_out(path), 0
    while True:
        n += 1
        segment.tell(b"%08d" % n + bytes([n % 256]) * (n * 7919 % 20_000), 1.0)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_who_reads_amid_writing_reads_whole_texts(path: Path) -> None:
    """And so does who reads what a killed worker has left."""
    pid = os.fork()
    if pid == 0:
        try:
            writing(path)
        finally:
            os._exit(1)
    seen, latest, until = 0, 0, time.monotonic() + 0.7
    try:
        while time.monotonic() < until:
            try:
                stamp, text = read(path)
            except DamagedSegmentError:  # not laid out yet
                continue
            if text:
                n = int(text[:8])
                assert text[8:] == bytes([n % 256]) * (n * 7919 % 20_000)
                assert n == stamp >= latest
                seen, latest = seen + 1, stamp
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    assert seen > 20
    n, text = read(path)
    assert text == b"%08d" % n + bytes([n % 256]) * (n * 7919 % 20_000)


def test_whatever_lies_in_a_siblings_circuits_nobody_fails_for_it(tmp_path: Path) -> None:
    """Mutated text under a right check, and mutated heads: it is read, or left out and counted."""
    crowd = Crowd(tmp_path / "record")
    crowd.clock.at = NOW
    first, second = crowd.add(2, BY_RATE)
    first.calls(bad=3)
    first.circuits.of("y", BY_RATE).force_open()
    crowd.turn()
    dice, good = random.Random(7), first.shared._told
    words = [b"1e999", b"-1", b"null", b"[]", b"{}", b'"x"', b"true", b"9" * 30, b'"open"', b"1000"]
    for turn in range(600):
        text = bytearray(good)
        for _ in range(dice.choice([1, 1, 3])):
            start = dice.randrange(len(text))
            if dice.random() < 0.5:
                text[start : start + dice.randrange(12)] = dice.choice(words)
            else:
                text[start] = dice.randrange(256)
        first.segment.tell(bytes(text), NOW)
        if turn % 3 == 0:
            place = dice.choice(CIRCUITS) // 8 + dice.choice(list(AreaWord))
            was = first.segment._words[place]
            first.segment._words[place] = dice.choice(
                [0, 1, 2**63, 2**64 - 1, dice.getrandbits(64)]
            )
        first.shared._shared.bump(is_state=True)
        second.shared.turn()
        if turn % 3 == 0:
            first.segment._words[place] = was
        second.breaker.allow()
        second.breaker.record_success()
        assert second.breaker.as_dict()["name"] == "x"
    told = second.shared.as_dict()
    assert told["errors"] == 0
    assert told["unread"] > 100


def test_the_places_lie_where_the_documentation_says() -> None:
    assert (AREAS[0], AREAS[1], *CIRCUITS) == (528384, 1216512, 1904640, 1937408)
    assert SEGMENT_BYTES == CIRCUITS[1] + 8 * PAGE == 1970176
