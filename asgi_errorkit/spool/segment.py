"""A worker's segment as it is written: by this process alone, which may die at any moment."""

import mmap
from collections.abc import Callable, Sequence
from itertools import count
from struct import Struct
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
    SEGMENT_BYTES,
    SLOT_BYTES,
    SLOTS,
    TEXT_BYTES,
    VERSION,
    AreaWord,
    Ending,
    HeaderWord,
    SlotWord,
)

__all__ = ["SLOT_WORDS", "Segment"]

# All but the stamp, which comes last; what was there before is written over.
_PUT = Struct(f"=QQdd24x{TEXT_BYTES}s").pack_into
_WORD = 8
SLOT_WORDS = SLOT_BYTES // _WORD
_FIRST_WORD = FIRST_SLOT // _WORD


class Segment:
    """Tells of the requests of this process in a file that outlives it.

    ``begin`` lists a request, before anything is done for it; ``end`` says how it ended; both are a
    few stores to memory, which are in the file whatever becomes of the process. ``save`` puts a
    snapshot of everything counted so far there, and frees the slots of the requests it counts: so
    each request is in the snapshot or in a slot, and never in both. ``tell`` says what others are to
    know of its circuits. Times are the caller's clock.

    One thread saves at a time, and one tells; any may begin and end. After a fork it is the parent's alone.
    Slots are numbered from ``first``: a number of another segment of this process is none here.
    """

    __slots__ = (
        "_doubles",
        "_first",
        "_free",
        "_map",
        "_next_stamp",
        "_saved",
        "_told",
        "_view",
        "_words",
        "begin",
        "unlisted",
    )

    def __init__(self, file: int, about: bytes, first: int = 0) -> None:
        """Lay out a file of `SEGMENT_BYTES` zeros, open for reading and writing.

        ``about`` is a text of at most `ABOUT_BYTES` bytes. Raises ValueError for a longer one, and
        OSError when the file cannot be mapped.
        """
        if len(about) > ABOUT_BYTES:
            raise ValueError(f"about must be at most {ABOUT_BYTES} bytes; got {len(about)}")
        self._map = mmap.mmap(file, SEGMENT_BYTES)
        self._view = memoryview(self._map)
        self._words = self._view.cast("Q")
        self._doubles = self._view.cast("d")
        self._first = first
        self._free = list(range(first + SLOTS - 1, first - 1, -1))
        self._next_stamp = count(1).__next__
        self._saved = self._told = 0
        self.unlisted = 0
        self._view[ABOUT : ABOUT + len(about)] = about
        for word, value in (
            (HeaderWord.VERSION, VERSION),
            (HeaderWord.SEGMENT_BYTES, SEGMENT_BYTES),
            (HeaderWord.SLOTS, SLOTS),
            (HeaderWord.SLOT_BYTES, SLOT_BYTES),
            (HeaderWord.AREA_BYTES, AREA_BYTES),
            (HeaderWord.ABOUT, crc32(about) << 16 | len(about)),
            (HeaderWord.ENDING, Ending.OPEN),
            (HeaderWord.MAGIC, MAGIC),
        ):
            self._words[word] = value
        self.begin = _beginner(self._view, self._words, self._free, self._next_stamp, first)

    def first_byte(self, place: int, at: float) -> None:
        """Say that the response of the request in a slot has begun."""
        if place in self.places:
            self._doubles[self.word_of(place) + SlotWord.FIRST_BYTE_AT] = at

    def end(self, place: int, result: int, at: float) -> None:
        """Say how it ended, with a number that is not 0."""
        if place in self.places:
            self._doubles[self.word_of(place) + SlotWord.ENDED_AT] = at
            self._words[self.word_of(place) + SlotWord.RESULT] = result

    @property
    def places(self) -> range:
        """The numbers of its slots."""
        return range(self._first, self._first + SLOTS)

    def word_of(self, place: int) -> int:
        """Where in the words of the file a slot begins."""
        return _FIRST_WORD + (place - self._first) * SLOT_WORDS

    def content(self) -> bytes:
        """All that the file says, also when its name is gone."""
        return bytes(self._view)

    def cells(self) -> tuple["memoryview[int]", "memoryview[float]"]:
        """The whole file as words, and as doubles: for who cannot afford a call."""
        return self._words, self._doubles

    @property
    def free(self) -> int:
        """How many slots nobody has."""
        return len(self._free)

    def ended(self) -> dict[int, tuple[int, int]]:
        """The stamp and the result of each slot whose request has ended, by its number."""
        table = self._words[_FIRST_WORD : _FIRST_WORD + SLOTS * SLOT_WORDS]
        stamps = table[SlotWord.STAMP :: SLOT_WORDS].tolist()
        results = table[SlotWord.RESULT :: SLOT_WORDS].tolist()
        pairs = enumerate(zip(stamps, results, strict=True), self._first)
        return {place: pair for place, pair in pairs if pair[0] and pair[1]}

    def times(self, place: int) -> tuple[float, float, float]:
        """When the request in a slot began, when its response did (0.0: never), and when it ended."""
        word = _FIRST_WORD + (place - self._first) * SLOT_WORDS
        started_at, first_byte_at, ended_at = (
            self._doubles[word + number]
            for number in (SlotWord.STARTED_AT, SlotWord.FIRST_BYTE_AT, SlotWord.ENDED_AT)
        )
        return started_at, first_byte_at, ended_at

    def save(self, body: bytes, counted: Sequence[int], now: float) -> None:
        """Replace the older snapshot, and free the slots of the requests that it has ``counted``.

        Raises ValueError for a body of more than `BODY_BYTES`; then nothing has changed.
        """
        if len(body) > BODY_BYTES:
            raise ValueError(f"a snapshot has at most {BODY_BYTES} bytes; got {len(body)}")
        listed = bytearray(SLOTS)
        for place in counted:
            listed[place - self._first] = 1
        stamp = self._saved + 1
        start = AREAS[stamp % 2]
        word, text = start // _WORD, start + AREA_HEAD_BYTES
        words = self._words
        words[word + AreaWord.STAMP] = 0
        self._view[text : text + SLOTS] = listed
        self._view[text + SLOTS : text + SLOTS + len(body)] = body
        words[word + AreaWord.LENGTH] = len(body)
        words[word + AreaWord.CHECK] = crc32(body, crc32(listed))
        words[word + AreaWord.NEWEST] = self._next_stamp()
        self._doubles[word + AreaWord.MADE_AT] = now
        words[word + AreaWord.STAMP] = stamp
        self._saved = stamp
        for place in counted:  # a reader knows by the snapshot which it must not count again
            words[_FIRST_WORD + (place - self._first) * SLOT_WORDS] = 0
            self._free.append(place)

    def tell(self, text: bytes, now: float) -> None:
        """Replace the older text about circuits. Raises ValueError for one beyond `CIRCUITS_BYTES`."""
        if len(text) > CIRCUITS_BYTES:
            raise ValueError(f"circuits have at most {CIRCUITS_BYTES} bytes; got {len(text)}")
        stamp = self._told + 1
        start = CIRCUITS[stamp % 2]
        word, body, words = start // _WORD, start + AREA_HEAD_BYTES, self._words
        words[word + AreaWord.STAMP] = 0
        self._view[body : body + len(text)] = text
        words[word + AreaWord.LENGTH] = len(text)
        words[word + AreaWord.CHECK] = crc32(text)
        self._doubles[word + AreaWord.MADE_AT] = now
        words[word + AreaWord.STAMP] = stamp
        self._told = stamp

    def beat(self, now: float, memory_mb: float, memory_at: float, unlisted: int) -> None:
        """Say that the process lives, how much memory it holds, and how many found no slot."""
        doubles = self._doubles
        doubles[HeaderWord.MEMORY_MB] = memory_mb
        doubles[HeaderWord.MEMORY_AT] = memory_at
        doubles[HeaderWord.BEATS_AT] = now
        self._words[HeaderWord.UNLISTED] = unlisted

    def close(self, ending: Ending = Ending.CLEAN) -> None:
        """Say that the process leaves it; what is begun or ended after that is told to nobody.

        The memory goes with the last who holds the segment: somebody may be about to write to it.
        """
        self._words[HeaderWord.ENDING] = ending
        self.begin = _nowhere


# Closures, for each look at an attribute of the segment would cost 10 ns, and each call is made with
# every request.


def _beginner(
    view: memoryview,
    words: memoryview,
    free: list[int],
    next_stamp: Callable[[], int],
    first: int,
) -> Callable[[str, str, str, float, float], int | None]:
    take, put, origin = free.pop, _PUT, FIRST_SLOT - first * SLOT_BYTES

    def begin(
        request_id: str, method: str, path: str, started_at: float, memory_mb: float
    ) -> int | None:
        """List a request; its slot, or None where none is free."""
        try:
            text = f"{request_id} {method} {path}".encode()
        except Exception:  # noqa: BLE001  nobody must fail for what cannot be written
            text = _escaped(request_id, method, path)
        length = len(text)
        if length > TEXT_BYTES:
            text, length = text[:TEXT_BYTES], TEXT_BYTES
        try:
            place = take()
        except IndexError:
            return None
        start = origin + place * SLOT_BYTES
        put(view, start + _WORD, crc32(text) << 16 | length, 0, started_at, memory_mb, text)
        words[start // _WORD] = next_stamp()
        return place

    return begin


def _escaped(*words: object) -> bytes:
    """What is no text, or none that can be encoded, as far as it can be told."""
    try:
        return " ".join(map(str, words)).encode("utf-8", "backslashreplace")
    except Exception:  # noqa: BLE001  the same
        return b"? ? ?"


def _nowhere(*_: object) -> None:
    """As `begin`, when the file is closed."""
    return
