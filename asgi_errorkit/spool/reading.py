"""What a segment says, to whoever reads it: its worker may be running, dead, or somebody hostile."""

import os
from math import isfinite
from typing import NamedTuple
from zlib import crc32

from asgi_errorkit.spool.layout import (
    ABOUT,
    ABOUT_BYTES,
    AREA_BYTES,
    AREA_HEAD_BYTES,
    AREAS,
    BODY_BYTES,
    CIRCUITS,
    CIRCUITS_BYTES,
    FIRST_SLOT,
    MAGIC,
    PAGE,
    SEGMENT_BYTES,
    SLOT_BYTES,
    SLOT_TEXT,
    SLOTS,
    TEXT_BYTES,
    VERSION,
    AreaWord,
    Ending,
    HeaderWord,
    SlotWord,
)

__all__ = [
    "CircuitsText",
    "DamagedSegmentError",
    "Listed",
    "Reading",
    "decode",
    "read_circuits",
    "read_segment",
]

_WORD = 8
_HEAD_BYTES = len(HeaderWord) * _WORD
_TRIES = 10
_LAST_SLOT = FIRST_SLOT + SLOTS * SLOT_BYTES


class DamagedSegmentError(ValueError):
    """What was read is no segment that can be understood."""


class Listed(NamedTuple):
    """A request that lies in a slot. Times are by the clock of its worker, in seconds; 0.0: not yet."""

    stamp: int
    request_id: str
    method: str
    path: str
    started_at: float
    memory_mb: float
    first_byte_at: float
    ended_at: float
    result: int  # 0: it is in flight


class Reading(NamedTuple):
    """What a segment says.

    What has ``ended`` is counted in no snapshot yet. ``body`` is the latest snapshot that is whole,
    None where none is. ``damaged`` counts what had to be left out; ``is_steady`` is False when a
    writer has saved so often meanwhile that a request may be told of twice.
    """

    about: bytes
    ending: Ending
    beats_at: float
    memory_mb: float
    memory_at: float
    unlisted: int
    in_flight: list[Listed]
    ended: list[Listed]
    body: bytes | None
    made_at: float
    saved: int
    damaged: int
    is_steady: bool = True


class CircuitsText(NamedTuple):
    """What a segment says of circuits, ``stamp`` 0 and no text if nothing whole; and of its worker."""

    stamp: int
    text: bytes
    beats_at: float
    ending: Ending


class _Area(NamedTuple):
    stamp: int
    newest: int
    made_at: float
    counted: bytes
    body: bytes


def read_segment(file: int) -> Reading:
    """Read a segment that may be written meanwhile. Never blocks the writer, nor waits for it.

    Raises `DamagedSegmentError` for what is no segment, OSError when it cannot be read.
    """
    for _ in range(_TRIES):
        before = max(_stamps_now(file))
        data = _all_of(file)
        after = _stamps_now(file)
        reading, whole = _decoded(data, after)
        if reading.saved in after and _is_of_one_moment(file, reading, whole, before):
            return reading
    return reading._replace(is_steady=False)


def _is_of_one_moment(file: int, reading: Reading, whole: int, before: int) -> bool:
    """Whether each slot of a copy can be judged: it is free, or counted, or neither.

    The copy was made from front to back, so its slots before its snapshots. ``before`` is the
    highest stamp that there was when it was begun, and as many snapshots are ``whole`` and were not
    touched until the copy was made; the latest is one of them.
    """
    if reading.saved == before:
        # None has been saved before the slots were copied, and at most one since: a second would
        # have gone over this one, and while there is none, over the first place.
        return bool(before) or not _word_now(file, AREAS[0] + AreaWord.NEWEST * _WORD)
    # A slot may be counted in either.
    return reading.saved == before + 1 and whole == len(AREAS)


def read_circuits(file: int, known: int = 0) -> CircuitsText:
    """Read what a segment says of circuits, which may be written meanwhile: some 10 µs.

    ``known`` is the stamp of a text that need not be read again. Raises as `read_segment` does.
    """
    head = _read_at(file, _HEAD_BYTES, 0)
    if len(head) < _HEAD_BYTES:
        raise DamagedSegmentError(f"a segment has {SEGMENT_BYTES} bytes; got {len(head)}")
    words, doubles = _cast(head)
    _check(words)
    stamp, text = _latest_circuits(file, known)
    beats_at = _finite(doubles[HeaderWord.BEATS_AT])
    return CircuitsText(stamp, text, beats_at, _ending(words[HeaderWord.ENDING]))


def _latest_circuits(file: int, known: int) -> tuple[int, bytes]:
    for _ in range(_TRIES):
        stamps = [_word_now(file, start + AreaWord.STAMP * _WORD) for start in CIRCUITS]
        for stamp, start in sorted(zip(stamps, CIRCUITS, strict=True), reverse=True):
            if stamp in (0, known):
                return stamp, b""
            text = _circuits_at(file, start, stamp)
            if text is not None:
                return stamp, text
    return 0, b""  # written over each time, or never whole


def _circuits_at(file: int, start: int, stamp: int) -> bytes | None:
    """The text with that stamp, or None where it is not whole."""
    length = _word_now(file, start + AreaWord.LENGTH * _WORD)
    if length > CIRCUITS_BYTES:
        return None
    text = _read_at(file, length, start + AREA_HEAD_BYTES)
    check = _word_now(file, start + AreaWord.CHECK * _WORD)
    is_whole = crc32(text) == check and len(text) == length
    return text if is_whole and _word_now(file, start) == stamp else None


def decode(data: bytes) -> Reading:
    """What the bytes of a segment say that nobody writes any more. Raises `DamagedSegmentError`."""
    return _decoded(data)[0]


def _all_of(file: int) -> bytes:
    # Not mapped: a file that is cut short meanwhile would kill the reader.
    data = _read_at(file, SEGMENT_BYTES, 0)
    while len(data) < SEGMENT_BYTES and (more := _read_at(file, SEGMENT_BYTES, len(data))):
        data += more
    return data[:SEGMENT_BYTES]


def _read_at(file: int, length: int, start: int) -> bytes:
    if hasattr(os, "pread"):
        return os.pread(file, length, start)
    os.lseek(file, start, os.SEEK_SET)  # Windows; the file is this reader's own
    return os.read(file, length)


def _stamps_now(file: int) -> list[int]:
    """Of both snapshots; 0 where one is being written."""
    return [_word_now(file, start + AreaWord.STAMP * _WORD) for start in AREAS]


def _word_now(file: int, start: int) -> int:
    word = _read_at(file, _WORD, start)
    return memoryview(word).cast("Q")[0] if len(word) == _WORD else 0


def _decoded(data: bytes, stamps: list[int] | None = None) -> tuple[Reading, int]:
    """What it says, and how many of its snapshots are whole.

    The older of them is none if it is not of the ``stamps``: then it was written over amid the copy.
    """
    if len(data) < PAGE:
        raise DamagedSegmentError(f"a segment has {SEGMENT_BYTES} bytes; got {len(data)}")
    words, doubles = _cast(data)
    _check(words)
    if len(data) < SEGMENT_BYTES:
        raise DamagedSegmentError(
            f"the segment was cut short: {len(data)} of {SEGMENT_BYTES} bytes"
        )
    areas = [area for start in AREAS if (area := _area(data, words, doubles, start))]
    areas.sort(reverse=True)
    if stamps is not None:
        areas = areas[:1] + [area for area in areas[1:] if area.stamp in stamps]
    listed, damaged = _listed(data, words, doubles, areas)
    latest = areas[0] if areas else _Area(0, 0, 0.0, b"", b"")
    return Reading(
        about=_about(data, words),
        ending=_ending(words[HeaderWord.ENDING]),
        beats_at=_finite(doubles[HeaderWord.BEATS_AT]),
        memory_mb=_finite(doubles[HeaderWord.MEMORY_MB]),
        memory_at=_finite(doubles[HeaderWord.MEMORY_AT]),
        unlisted=words[HeaderWord.UNLISTED],
        in_flight=[each for each in listed if not each.result],
        ended=[each for each in listed if each.result],
        body=latest.body if areas else None,
        made_at=latest.made_at,
        saved=latest.stamp,
        damaged=damaged,
    ), len(areas)


def _cast(data: bytes) -> tuple[memoryview, "memoryview[float]"]:
    view = memoryview(data)[: len(data) // _WORD * _WORD]
    return view.cast("Q"), view.cast("d")


def _check(words: memoryview) -> None:
    if words[HeaderWord.MAGIC] != MAGIC:
        raise DamagedSegmentError("this is no segment: its beginning is another")
    if words[HeaderWord.VERSION] != VERSION:
        raise DamagedSegmentError(
            f"a segment of version {words[HeaderWord.VERSION]}; this reads version {VERSION}"
        )
    for word, expected in (
        (HeaderWord.SEGMENT_BYTES, SEGMENT_BYTES),
        (HeaderWord.SLOTS, SLOTS),
        (HeaderWord.SLOT_BYTES, SLOT_BYTES),
        (HeaderWord.AREA_BYTES, AREA_BYTES),
    ):
        if words[word] != expected:
            raise DamagedSegmentError(f"{word.name.lower()} must be {expected}; got {words[word]}")


def _about(data: bytes, words: memoryview) -> bytes:
    check, length = divmod(words[HeaderWord.ABOUT], 1 << 16)
    about = data[ABOUT : ABOUT + length]
    if length > ABOUT_BYTES or crc32(about) != check:
        raise DamagedSegmentError("whose segment it is cannot be read")
    return about


def _ending(number: int) -> Ending:
    try:
        return Ending(number)
    except ValueError:
        raise DamagedSegmentError(
            f"a segment ends with one of {list(Ending)}; got {number}"
        ) from None


def _area(data: bytes, words: memoryview, doubles: "memoryview[float]", start: int) -> _Area | None:
    """A snapshot, or None where it is not whole."""
    word = start // _WORD
    stamp, length = words[word + AreaWord.STAMP], words[word + AreaWord.LENGTH]
    if not stamp or length > BODY_BYTES:
        return None
    text = start + AREA_HEAD_BYTES
    counted = data[text : text + SLOTS]
    body = data[text + SLOTS : text + SLOTS + length]
    if crc32(body, crc32(counted)) != words[word + AreaWord.CHECK]:
        return None
    made_at = _finite(doubles[word + AreaWord.MADE_AT])
    return _Area(stamp, words[word + AreaWord.NEWEST], made_at, counted, body)


def _listed(
    data: bytes, words: memoryview, doubles: "memoryview[float]", areas: list[_Area]
) -> tuple[list[Listed], int]:
    """The requests in the slots that no snapshot has counted, the oldest first."""
    listed, damaged = [], 0
    stamps = words[FIRST_SLOT // _WORD : _LAST_SLOT // _WORD : SLOT_BYTES // _WORD]
    for place, stamp in enumerate(stamps.tolist()):
        if not stamp or any(stamp < area.newest and area.counted[place] for area in areas):
            continue
        each = _slot(data, words, doubles, FIRST_SLOT + place * SLOT_BYTES)
        if each is None:
            damaged += 1
        else:
            listed.append(each)
    return sorted(listed), damaged


def _slot(
    data: bytes, words: memoryview, doubles: "memoryview[float]", start: int
) -> Listed | None:
    word = start // _WORD
    check, length = divmod(words[word + SlotWord.TEXT], 1 << 16)
    text = data[start + SLOT_TEXT : start + SLOT_TEXT + length]
    if length > TEXT_BYTES or crc32(text) != check:
        return None
    # A path may be cut amid a character.
    request_id, _, rest = text.decode("utf-8", "replace").partition(" ")
    method, _, path = rest.partition(" ")
    return Listed(
        stamp=words[word + SlotWord.STAMP],
        request_id=request_id,
        method=method,
        path=path,
        started_at=_finite(doubles[word + SlotWord.STARTED_AT]),
        memory_mb=_finite(doubles[word + SlotWord.MEMORY_MB]),
        first_byte_at=_finite(doubles[word + SlotWord.FIRST_BYTE_AT]),
        ended_at=_finite(doubles[word + SlotWord.ENDED_AT]),
        result=words[word + SlotWord.RESULT],
    )


def _finite(number: float) -> float:
    return number if isfinite(number) else 0.0
