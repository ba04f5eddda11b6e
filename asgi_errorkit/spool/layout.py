"""Where what lies in a worker's segment; `docs/segment-format.md` says the same for other readers.

    header   one page: what it is, whose, and a few numbers that change
    table    a slot for each request in flight, and for each that has ended since the last snapshot
    A, B     two places for a snapshot of all that has been counted; the next goes into the older
    C, D     two places for what others are to know of the circuits, likewise

Numbers are of 8 bytes in the byte order of the machine, each at a multiple of 8, so that none is seen half
written. Whatever is longer lies behind a stamp: 0 while it is written, and stored last.
"""

import sys
from enum import IntEnum
from typing import Final

__all__ = [
    "ABOUT",
    "ABOUT_BYTES",
    "AREAS",
    "AREA_BYTES",
    "AREA_HEAD_BYTES",
    "BODY_BYTES",
    "CIRCUITS",
    "CIRCUITS_BYTES",
    "FIRST_SLOT",
    "MAGIC",
    "PAGE",
    "SEGMENT_BYTES",
    "SLOTS",
    "SLOT_BYTES",
    "SLOT_TEXT",
    "TEXT_BYTES",
    "VERSION",
    "AreaWord",
    "Ending",
    "HeaderWord",
    "SlotWord",
]

MAGIC: Final = int.from_bytes(b"asgi-ek\n", sys.byteorder)
VERSION: Final = 1
PAGE: Final = 4096

SLOTS: Final = 2048
SLOT_BYTES: Final = 256
SLOT_TEXT: Final = 64
TEXT_BYTES: Final = SLOT_BYTES - SLOT_TEXT
FIRST_SLOT: Final = PAGE

ABOUT: Final = 1024
"""Where in the header the text lies that says whose it is."""
ABOUT_BYTES: Final = PAGE - ABOUT

AREA_BYTES: Final = 168 * PAGE
AREA_HEAD_BYTES: Final = 64
AREAS: Final = (
    FIRST_SLOT + SLOTS * SLOT_BYTES,
    FIRST_SLOT + SLOTS * SLOT_BYTES + AREA_BYTES,
)
BODY_BYTES: Final = AREA_BYTES - AREA_HEAD_BYTES - SLOTS
"""The longest snapshot; before it lies a byte for each slot."""

_CIRCUITS_AREA: Final = 8 * PAGE
CIRCUITS: Final = (AREAS[1] + AREA_BYTES, AREAS[1] + AREA_BYTES + _CIRCUITS_AREA)
CIRCUITS_BYTES: Final = _CIRCUITS_AREA - AREA_HEAD_BYTES
"""The longest text about circuits."""

SEGMENT_BYTES: Final = CIRCUITS[1] + _CIRCUITS_AREA


class HeaderWord(IntEnum):
    """The numbers in the header, by their place."""

    MAGIC = 0
    VERSION = 1
    SEGMENT_BYTES = 2
    SLOTS = 3
    SLOT_BYTES = 4
    AREA_BYTES = 5
    ABOUT = 6  # check << 16 | length of the text at ABOUT
    ENDING = 7
    BEATS_AT = 8  # float: when the worker was last known to be alive, by its clock
    MEMORY_MB = 9  # float: resident, as last sampled
    MEMORY_AT = 10  # float
    UNLISTED = 11  # requests that found no slot


class Ending(IntEnum):
    """How a segment stands."""

    OPEN = 0
    CLEAN = 1


class SlotWord(IntEnum):
    """The numbers in a slot, by their place; its text is "id method path"."""

    STAMP = 0  # of the request, rising; 0: the slot is free
    TEXT = 1  # check << 16 | length
    RESULT = 2  # 0: it is in flight; else see `asgi_errorkit.spool.results`
    STARTED_AT = 3  # float, by the worker's clock, as are those that follow
    MEMORY_MB = 4  # float: resident, when it began
    FIRST_BYTE_AT = 5  # float; 0: not yet
    ENDED_AT = 6  # float
    SPARE = 7


class AreaWord(IntEnum):
    """The numbers before a snapshot, and before a text about circuits, by their place."""

    STAMP = 0  # of the snapshot, rising; 0: it is being written
    LENGTH = 1
    CHECK = 2  # CRC-32 of the bytes of the slots and of the body
    NEWEST = 3  # the highest stamp of a slot that was given when it was made; of circuits 0
    MADE_AT = 4  # float
