"""The workers of one host, by the segments in their directory: those that live and those that died."""

import logging
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from threading import Lock
from typing import Any, NamedTuple

import orjson

from asgi_errorkit.forks import reset_in_child
from asgi_errorkit.redact import Redactor
from asgi_errorkit.spool.crash import crash_of
from asgi_errorkit.spool.directory import SpoolDirectory, SpoolError
from asgi_errorkit.spool.layout import SEGMENT_BYTES, Ending
from asgi_errorkit.spool.leader import Leader
from asgi_errorkit.spool.owner import Life, Owner, is_dead, life_of, this_process
from asgi_errorkit.spool.reading import DamagedSegmentError, Reading, decode, read_segment
from asgi_errorkit.spool.segment import Segment
from asgi_errorkit.spool.totals import Counts, counts_of, fold, gone_counts, keep_gone

__all__ = ["Host", "Worker"]

logger = logging.getLogger("asgi_errorkit.workers")

_KEY = r"[0-9]+-[0-9]+-[0-9a-f]+-[0-9a-f]+"
_WORKER = re.compile(rf"worker-({_KEY})-([0-9a-f]+)\.ek")
_CLAIMED = re.compile(rf"claimed-({_KEY})-of-({_KEY})-([0-9a-f]+)\.ek")
_CRASH = re.compile(rf"crash-[0-9]+-({_KEY})-([0-9a-f]+)\.ek")
_MOST_CRASHES = 100
_MILLISECONDS = 1000
_SILENCE_SECONDS = 600.0
_TRIES = 20
_ABOUT: dict[str, type | tuple[type, ...]] = {
    "pid": int,
    "app": str,
    "release": str,
    "python": str,
    "started_at": (int, float),
    "clock_offset": (int, float),
}

_OURS: set[str] = set()  # the names of the segments that this process has made


class _Turn:
    """Whose turn it is to look, of the threads of this process."""

    def __init__(self) -> None:
        self.lock = Lock()
        reset_in_child(self)

    def reset_after_fork(self) -> None:
        """In a forked child: who was at it is the parent's."""
        self.lock = Lock()


_turn = _Turn()


class Worker(NamedTuple):
    """A worker whose segment lies in the directory: whose it is, whether it lives, what it says."""

    owner: Owner
    life: Life
    about: dict[str, Any]
    reading: Reading


class Host:
    """Makes the segment of this process, finds those whose process has died, and tells of them.

    ``app`` and ``release`` are what the segments say of themselves; ``clock`` is that of their
    times. A dead worker is found by whoever looks first, and told of once: its segment is renamed,
    which one alone can do, read, kept as a crash of which the newest 100 stay, and removed. Raises
    SpoolError when the directory cannot serve.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        app: str = "",
        release: str | None = None,
        redactor: Redactor | None = None,
        clock: Callable[[], float] = time.perf_counter,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self.directory = SpoolDirectory.open(directory)
        self.unread = 0  # files that made no sense
        self._failed: set[str] = set()  # of those that cannot be kept yet
        self._logged: set[str] = set()
        self._leader = Leader(self.directory)
        self._app = app
        self._release = release
        self._redactor = Redactor() if redactor is None else redactor
        self._clock = clock
        self._wall_clock = wall_clock

    def open_segment(self, first: int = 0) -> tuple[Segment, Callable[[], None]]:
        """A new segment for this process, and what removes it. Raises SpoolError without room."""
        made = self.directory.create(SEGMENT_BYTES)
        try:
            segment = Segment(made.file, self._about(), first)
        except BaseException:
            self.directory.remove(made.temporary)
            raise
        finally:
            os.close(made.file)
        name = f"worker-{this_process().key}-{os.urandom(4).hex()}.ek"
        segment.beat(self._clock(), 0.0, 0.0, 0)  # who has never been alive would be long dead
        _OURS.add(name)
        self.directory.publish(made.temporary, name)
        return segment, partial(self._leave, name)

    def _leave(self, name: str) -> None:
        """In order: what was counted is kept, then the segment goes."""
        self._keep_counts(name, decode(self.directory.read(name)))
        self.directory.remove(name)

    def _keep_counts(self, name: str, reading: Reading) -> None:
        counts = counts_of(reading)
        if counts.outcomes or counts.error_types:
            keep_gone(self.directory, _ident(name), counts)

    def look(self) -> list[dict[str, Any]]:
        """Claim the segments of the dead; the crashes that were found, each told of to one alone.

        One thread of the process looks at a time; who comes meanwhile finds nothing.
        """
        turn = _turn.lock
        if not turn.acquire(blocking=False):
            return []
        try:
            return self._look()
        finally:
            turn.release()

    def _look(self) -> list[dict[str, Any]]:
        found = [crash for name in self.directory.names() if (crash := self._claimed(name))]
        if found:
            self._forget_old()
        if self._leader.is_ours():
            fold(self.directory)
        self.directory.sweep(is_dead)
        return found

    def workers(self) -> list[Worker]:
        """Those that are there, the dead that nobody has claimed yet among them."""
        return [worker for name in self.directory.names() if (worker := self._known(name))]

    def _known(self, name: str) -> Worker | None:
        known = _WORKER.fullmatch(name) or _CLAIMED.fullmatch(name)
        return self._worker(name, known.groups()[-2]) if known else None

    def counts(self) -> Counts:
        """What all workers have counted so far, those that have gone included: each request once."""
        for _ in range(_TRIES):
            names = self._segment_names()
            # These first: who goes after that is known by name to what those count who have gone.
            segments = {name: worker for name in names if (worker := self._known(name))}
            counts, gone = gone_counts(self.directory)
            after = self._segment_names()
            is_steady = all(each.reading.is_steady for each in segments.values())
            is_known = all(name in after or _ident(name) in gone for name in segments)
            is_all = len(segments) == len(names) or names == after
            if is_steady and is_known and is_all:
                break  # none was claimed, or has gone and been folded, before it could be read
        for name, worker in segments.items():
            if _ident(name) not in gone:
                counts.add(counts_of(worker.reading))
        return counts

    def _segment_names(self) -> list[str]:
        names = self.directory.names()
        return [name for name in names if _WORKER.fullmatch(name) or _CLAIMED.fullmatch(name)]

    def crashes(self) -> list[dict[str, Any]]:
        """What is kept of those that died, the latest first."""
        return list(self._crashes())

    def _crashes(self) -> Iterator[dict[str, Any]]:
        for name in reversed(self._crash_names()):
            try:
                told = orjson.loads(self.directory.read(name))
            except FileNotFoundError:
                continue
            except (OSError, ValueError):
                told = None
            if isinstance(told, dict):
                yield told
            else:
                self.unread += 1

    def _crash_names(self) -> list[str]:
        """The oldest first: their names begin with the time."""
        return [name for name in self.directory.names() if _CRASH.fullmatch(name)]

    def _about(self) -> bytes:
        return orjson.dumps(
            {
                "pid": os.getpid(),
                "app": self._app[:200],
                "release": None if self._release is None else self._release[:200],
                "python": sys.version.partition(" ")[0],
                "started_at": self._wall_clock(),
                "clock_offset": self._wall_clock() - self._clock(),
            }
        )

    def _worker(self, name: str, key: str) -> Worker | None:
        owner = Owner.parse(key)
        if owner is None:
            return None
        try:
            file = self.directory.open_for_reading(name)
        except OSError:
            return None
        try:
            reading = read_segment(file)
        except (DamagedSegmentError, OSError):
            self.unread += 1
            return None
        finally:
            os.close(file)
        return Worker(owner, life_of(owner), _about_of(reading), reading)

    def _claimed(self, name: str) -> dict[str, Any] | None:
        """As `_claim`; one that fails must not keep the others from being found."""
        try:
            return self._claim(name)
        except OSError as error:
            known = _ident(name)
            if known not in self._failed:
                self._failed.add(known)
                logger.warning(
                    "a worker has died, and what is known of it cannot be kept: %s", error
                )
            return None

    def _claim(self, name: str) -> dict[str, Any] | None:
        """The crash of a dead worker, if this is one, and nobody else was faster."""
        known = _CLAIMED.fullmatch(name) or _WORKER.fullmatch(name)
        if known is None:
            return None
        key, number = known.groups()[-2:]
        holder = Owner.parse(known[1])  # of a claim it is who has died over it
        if holder is None or not self._is_gone(holder, name):
            return None
        mine = f"claimed-{this_process().key}-of-{key}-{number}.ek"
        try:
            self.directory.rename(name, mine)
            return self._told(mine, key, number)
        except FileNotFoundError:  # somebody else was faster, or has taken us for dead
            return None

    def _is_gone(self, owner: Owner, name: str) -> bool:
        if owner == this_process():  # it has the same pid still, if it has become another by exec
            return name not in _OURS  # or it is a claim of ours that could not be kept
        life = life_of(owner)
        if life is not Life.UNKNOWN:
            return life is Life.DEAD
        # One of another container, whose files would pile up: its silence has to do. The clock is
        # that of the machine, and so the same to both.
        worker = self._worker(name, owner.key)
        if worker is None or owner.boot != this_process().boot:
            return False
        patience = _SILENCE_SECONDS * (2 if _CLAIMED.fullmatch(name) else 1)
        return self._clock() - worker.reading.beats_at > patience

    def _told(self, mine: str, key: str, number: str) -> dict[str, Any] | None:
        try:
            reading = decode(self.directory.read(mine))
        except (DamagedSegmentError, SpoolError) as error:
            if isinstance(error, SpoolError) and error.errno is not None:
                raise  # such as of descriptors: it may be read later
            self.unread += 1
            logger.warning("a worker has died, and its segment cannot be read: %s", error)
            self.directory.remove(mine)
            return None
        if reading.ending is Ending.CLEAN:
            self._keep_counts(mine, reading)
            self.directory.remove(mine)
            return None
        crash = crash_of(
            reading, _about_of(reading), found_at=self._wall_clock(), redactor=self._redactor
        )
        if _ident(mine) not in self._logged:
            self._logged.add(_ident(mine))
            _log(crash)
        self._keep_counts(mine, reading)
        self._keep(crash, key, number)
        self.directory.remove(mine)
        self._failed.discard(_ident(mine))
        self._logged.discard(_ident(mine))
        return crash

    def _keep(self, crash: dict[str, Any], key: str, number: str) -> None:
        """Under a name that is the same whoever writes it: one who dies over it leaves no second."""
        mine = (name for name in self._crash_names() if name.endswith(f"-{key}-{number}.ek"))
        at = int(crash["found_at"] * _MILLISECONDS)
        known = next(mine, f"crash-{at:013}-{key}-{number}.ek")
        self.directory.write(known, orjson.dumps(crash))

    def _forget_old(self) -> None:
        for name in self._crash_names()[:-_MOST_CRASHES]:
            self.directory.remove(name)


def _ident(name: str) -> str:
    """Whose segment it is, whoever has claimed it."""
    known = _CLAIMED.fullmatch(name) or _WORKER.fullmatch(name)
    return "-".join(known.groups()[-2:]) if known else name


def _about_of(reading: Reading) -> dict[str, Any]:
    """What a segment says of itself, as far as it is of the kind it should be."""
    try:
        told = orjson.loads(reading.about)
    except ValueError:
        return {}
    known = told if isinstance(told, dict) else {}
    return {name: known[name] for name, kind in _ABOUT.items() if isinstance(known.get(name), kind)}


def _log(crash: dict[str, Any]) -> None:
    suspects = crash["suspects"]
    likeliest = (
        "; the likeliest: {method} {path} (request {request_id}, {phase} for {age_seconds:.3f} s)".format(
            **suspects[0]
        )
        if suspects
        else ""
    )
    # Servers that stop leave as those do that are killed, but finish what is in flight before.
    logger.log(
        logging.CRITICAL if suspects else logging.WARNING,
        "worker_died: pid %s, with %d requests in flight and %.0f MB%s",
        crash["pid"],
        crash["in_flight"],
        crash["memory_mb"],
        likeliest,
        extra={"event": "worker_died", "crash": crash},
    )
