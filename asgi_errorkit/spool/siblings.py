"""The other workers of a host, by what their segments tell of circuits."""

import os
from collections.abc import Mapping
from typing import NamedTuple

from asgi_errorkit.circuit_state import Told
from asgi_errorkit.spool.circuit_text import Heard, told_in
from asgi_errorkit.spool.directory import SpoolDirectory
from asgi_errorkit.spool.layout import Ending
from asgi_errorkit.spool.owner import Life, Owner, life_of
from asgi_errorkit.spool.reading import DamagedSegmentError, read_circuits

__all__ = ["Siblings", "is_news"]

_LIFE_SECONDS = 1.0  # to ask whether a process lives takes 35 us
_SILENT_SECONDS = 10.0  # of who cannot be asked whether it lives
_MOST_WORKERS = 1000
_MOST_NAMES = 10_000
_KEEPS_OPEN = hasattr(os, "pread")  # on Windows nobody could remove what is open here


class _Sibling(NamedTuple):
    """Another worker: its segment, what it has told last, and until when it is taken to live."""

    file: int | None
    stamp: int
    heard: Heard
    lives_until: float


class Siblings:
    """Those that live besides the worker named ``teller``, and what they tell, by circuit.

    Their segments stay open, for a look is to cost little. One thread looks at a time.
    """

    def __init__(self, directory: SpoolDirectory, teller: str) -> None:
        self.unread = 0  # texts, and circuits in them, that made no sense
        self.by_name: dict[str, list[Told]] = {}
        self.news: set[str] = set()
        """The circuits that fail somewhere, or are not as they were from the beginning."""
        self._directory = directory
        self._teller = teller
        self._own = ""  # the name of this worker's segment, once it has been read
        self._known: dict[str, _Sibling] = {}

    def __len__(self) -> int:
        return len(self._known)

    def __del__(self) -> None:
        _let_go(self._known)

    def forget(self) -> None:
        """Let go of what they have told, and of their segments."""
        _let_go(self._known)
        self._known, self.by_name, self.news = {}, {}, set()

    def look(self, now: float) -> set[str]:
        """Read what is new; the names of the circuits of which something else is told than before."""
        names = [name for name in self._directory.names() if self._is_another(name)]
        before = self._known
        heard = {name: self._heard(name, now) for name in names[:_MOST_WORKERS]}
        self._known = {name: each for name, each in heard.items() if each is not None}
        _let_go({name: each for name, each in before.items() if name not in self._known})
        return set() if self._known == before else self._sort()

    def have_all_told(self, name: str) -> bool:
        """Whether each of them tells of that circuit."""
        return all(name in each.heard.circuits for each in self._known.values())

    def _is_another(self, name: str) -> bool:
        return name.startswith("worker-") and name != self._own

    def _sort(self) -> set[str]:
        by_name: dict[str, list[Told]] = {}
        for sibling in self._known.values():
            for told in sibling.heard.circuits.values():
                if told.name in by_name or len(by_name) < _MOST_NAMES:
                    by_name.setdefault(told.name, []).append(told)
        changed = {name for name, tolds in by_name.items() if tolds != self.by_name.get(name)}
        self.by_name = by_name
        self.news = {name for name, tolds in by_name.items() if any(map(is_news, tolds))}
        return changed

    def _heard(self, name: str, now: float) -> _Sibling | None:
        """What another worker tells, if it lives."""
        known = self._known.get(name)
        open_file = known.file if known else None
        try:
            file = self._directory.open_for_reading(name) if open_file is None else open_file
        except OSError:  # it has just gone
            return None
        try:
            heard = self._read(name, file, known, now)
        except (DamagedSegmentError, OSError):
            self.unread += 1
            heard = None
        if open_file is None and (heard is None or not _KEEPS_OPEN):
            os.close(file)
            return heard and heard._replace(file=None)
        return heard

    def _read(self, name: str, file: int, known: _Sibling | None, now: float) -> _Sibling | None:
        said = read_circuits(file, known.stamp if known else 0)
        lives_until = known.lives_until if known else 0.0
        if lives_until <= now:
            lives_until = now + _LIFE_SECONDS
            if said.ending is Ending.CLEAN or not _lives(name, now - said.beats_at):
                return None
        if known is not None and said.stamp in (0, known.stamp):
            return known._replace(file=file, lives_until=lives_until)
        heard = told_in(said.text, now) if said.text else Heard("", {}, 0)
        self.unread += heard.unread
        if heard.teller == self._teller:
            self._own = name
            return None
        return _Sibling(file, said.stamp, heard, lives_until)


def is_news(told: Told) -> bool:
    """Whether others are to know: it fails, or is not as it was from the beginning."""
    return bool(told.since or told.era or told.failed or told.slow or told.run)


def _lives(name: str, silent_seconds: float) -> bool:
    key = name.removeprefix("worker-").removesuffix(".ek").rpartition("-")[0]
    owner = Owner.parse(key)
    life = Life.DEAD if owner is None else life_of(owner)
    return life is Life.ALIVE or (life is Life.UNKNOWN and silent_seconds < _SILENT_SECONDS)


def _let_go(siblings: Mapping[str, _Sibling]) -> None:
    for each in siblings.values():
        if each.file is not None:
            os.close(each.file)
