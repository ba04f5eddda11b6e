"""A lock-free ring of stamped slots: one producing thread, any consumer, losses counted exactly."""

from itertools import count
from threading import get_ident
from typing import Any

__all__ = ["Ring"]

PIECE = 64
_EMPTY = [None] * PIECE


class Ring:
    """Keeps the newest ``capacity`` items of one producing thread until they are taken.

    The law: produced = taken + lost + waiting, in order, whatever the producer does meanwhile.
    Every item is a sequence whose first member is its stamp, the sequence number it claimed. The
    producer claims and stores; the consumer reads the stamps, so it sees by itself what was
    overwritten and what is not there yet (after the Disruptor's sequence, without its barriers:
    storing one reference into a list is atomic in CPython, with and without the GIL).
    A signal handler or ``__del__`` may publish in the middle of a publication: claiming is one
    call into C, so each gets a slot of its own. Only one consumer may call `take` at a time.
    """

    __slots__ = ("_cleared", "_next", "_owner", "claim", "lost", "mask", "slots", "taken")

    def __init__(self, capacity: int = 4096) -> None:
        if capacity < 2 or capacity & (capacity - 1):
            raise ValueError(f"capacity must be a power of two of at least 2; got {capacity!r}")
        self.claim = count().__next__
        self.mask = capacity - 1
        self.slots: list[Any] = [None] * capacity
        self.taken = 0
        self.lost = 0
        self._owner = get_ident()
        self._next = 0
        self._cleared = 0

    def publish(self, *item: Any) -> int:
        """Stamp and store one item; return its sequence number."""
        stamp = self.claim()
        self.slots[stamp & self.mask] = (stamp, *item)
        return stamp

    def take(self, most: int | None = None) -> list[Any]:
        """Return the waiting items, oldest first, each once; after ``most`` at the next piece."""
        items: list[Any] = []
        # Two laps bound the work although the producer may go on.
        most = 2 * self.mask + 1 if most is None else most
        while len(items) < most and (piece := self._take_piece()):
            items += piece
        if len(items) < most:
            self._take_singly(items, most - len(items))
        self.taken += len(items)
        return items

    def _take_piece(self) -> list[Any] | None:
        """The next items at once, if every one of them is there: a third of the cost of singly."""
        slots, wanted = self.slots, self._next
        first = wanted & self.mask
        piece = slots[first : first + PIECE]
        stamps = [item[0] for item in piece if item]
        if stamps != list(range(wanted, wanted + PIECE)):
            return None
        self._next = wanted + PIECE
        # What `_clear` says holds here: between the comparison and the store nothing can run.
        if (
            self._cleared == wanted
            and get_ident() == self._owner
            and slots[first : first + PIECE] == piece
        ):
            slots[first : first + PIECE] = _EMPTY
            self._cleared = self._next
        return piece

    def _take_singly(self, items: list[Any], most: int) -> None:
        slots, mask, wanted = self.slots, self.mask, self._next
        for _ in range(most + 1):  # one step is to skip what was lost
            item = slots[wanted & mask]
            if item is None:
                break  # never produced, or claimed and not stored yet
            if item[0] != wanted:
                if item[0] < wanted:
                    break  # the same, with an item of an earlier lap in its place
                wanted = self._skip(item[0], wanted)
                continue
            items.append(item)
            wanted += 1
        self._next = wanted
        if get_ident() == self._owner:
            self._clear()

    def _skip(self, found: int, wanted: int) -> int:
        """Lapped: count as lost whatever came before the oldest slot that can be there still."""
        oldest = found - self.mask
        self.lost += oldest - wanted
        return oldest

    def _clear(self) -> None:
        """Let go of taken items, so that memory stays hot and small.

        Only on the producer's own thread: a foreign consumer that emptied a slot could wipe out
        the item stored there a moment before. On this one, what a signal handler stored meanwhile
        is told by its stamp; between that look and the store nothing can run.
        """
        slots, mask, end = self.slots, self.mask, self._next
        for stamp in range(max(self._cleared, end - mask - 1), end):
            item = slots[stamp & mask]
            if item is not None and item[0] == stamp:
                slots[stamp & mask] = None
        self._cleared = end
