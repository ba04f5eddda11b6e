"""A cache for the drain side: what was made of a key is kept, within a bound."""

from collections.abc import Callable
from typing import Any, Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")

MAXIMUM = 1024
_LONGEST = 512


class Kept(dict[K, V], Generic[K, V]):
    """``kept[key]`` is ``make(key)``, made once while it is remembered; a hit is one call into C.

    At most ``maximum`` are remembered; beyond that all are forgotten and made anew as they are
    asked for, which needs no order among them. A key whose text is long is never remembered, so
    memory stays below ``maximum`` times a kilobyte or so whatever clients send.
    """

    __slots__ = ("_make", "_maximum")

    def __init__(self, make: Callable[[K], V], maximum: int = MAXIMUM) -> None:
        super().__init__()
        self._make = make
        self._maximum = maximum

    def __missing__(self, key: K) -> V:
        value = self._make(key)
        if _length(key) <= _LONGEST:
            if len(self) >= self._maximum:
                self.clear()
            self[key] = value
        return value


def _length(key: Any) -> int:
    if isinstance(key, tuple):
        return sum(map(_length, key))
    return len(key) if isinstance(key, (str, bytes)) else 0
