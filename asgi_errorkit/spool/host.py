"""The workers of one host, by the segments in their directory: those that live and those that died."""

import logging
import os
import re
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from threading import Lock, local
from typing import Any, NamedTuple

import orjson

from asgi_errorkit.forks import reset_in_child
from asgi_errorkit.redact import Redactor
from asgi_errorkit.spool import answers
from asgi_errorkit.spool.answers import Heard, Tally
from asgi_errorkit.spool.crash import crash_of, crash_unread, with_names
from asgi_errorkit.spool.directory import SpoolDirectory, SpoolError
from asgi_errorkit.spool.history import history_of
from asgi_errorkit.spool.layout import ABOUT_BYTES, SEGMENT_BYTES, Ending
from asgi_errorkit.spool.leader import Leader
from asgi_errorkit.spool.owner import Life, Owner, life_of, this_process
from asgi_errorkit.spool.reading import DamagedSegmentError, Reading, decode, read_segment
from asgi_errorkit.spool.segment import Segment
from asgi_errorkit.spool.totals import (
    TOTALS,
    Counts,
    counts_of,
    fold,
    gone_counts,
    keep_gone,
    loaded,
)

__all__ = ["Host", "Worker"]

logger = logging.getLogger("asgi_errorkit.workers")

_KEY = r"[0-9]+-[0-9]+-[0-9a-f]+-[0-9a-f]+"
_WORKER = re.compile(rf"worker-({_KEY})-([0-9a-f]+)\.ek")
_CLAIMED = re.compile(rf"claimed-({_KEY})-of-({_KEY})-([0-9a-f]+)\.ek")
_CRASH = re.compile(rf"crash-[0-9]+-({_KEY})-([0-9a-f]+)\.ek")
_GONE = re.compile(rf"gone-({_KEY})-([0-9a-f]+)\.ek")
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
    "redact": list,
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


class _AtOnce(local):
    """The tally from which a thread is answered for a while."""

    tally: Tally | None = None


class Host:
    """Makes the segment of this process, finds those whose process has died, and tells of them.

    ``app`` and ``release`` are what the segments say of themselves; ``clock`` is that of their
    times. A dead worker is found by whoever looks first, and told of once: its segment is renamed,
    which one alone can do, read, kept as a crash of which the newest 100 stay, and removed. What
    listens and fails is counted in ``listener_errors``. Raises SpoolError when the directory cannot
    serve.
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
        self._at_once = _AtOnce()
        self.unread = 0  # files that made no sense
        self._said: dict[str, tuple[int, dict[str, Any]]] = {}
        self._totals: tuple[tuple[int, ...], dict[str, Any]] | None = None
        self.listener_errors = 0
        self._listeners: list[Callable[[dict[str, Any]], object]] = []
        self._untold: deque[dict[str, Any]] = deque()
        self._segment_name: str | None = None
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
        self._segment_name = name
        return segment, partial(self._leave, name, segment)

    def _leave(self, name: str, segment: Segment) -> None:
        """In order: what was counted is kept, then the segment goes."""
        if self._segment_name == name:
            self._segment_name = None
        try:
            reading = decode(self.directory.read(name))
        except FileNotFoundError:  # it was removed, or taken by somebody who counts it
            if self._is_counted(_ident(name)):
                return
            reading = decode(segment.content())
        self._keep_counts(name, reading)
        self.directory.remove(name)

    def has_lost_segment(self) -> bool:
        """Whether the segment that was opened last is not there any more, although nobody left it.

        It was taken from a process that was paused for so long that it passed for dead, or removed.
        """
        name = self._segment_name
        if name is None or not name.startswith(f"worker-{this_process().key}-"):  # the parent's
            return False
        return self.directory.changed_at(name) is None

    def is_counted_elsewhere(self) -> bool:
        """Whether somebody has taken the segment that was lost: they count what it says, or have."""
        return self._is_counted(_ident(self._segment_name or ""))

    def _is_counted(self, ident: str) -> bool:
        # A crash is kept before the claim goes: one of two listings has the one or the other.
        return any(
            _ident_within(name) == ident for _ in range(2) for name in self.directory.names()
        )

    def leads(self) -> bool:
        """Whether this one does what is to be done once per host. Raises SpoolError without a lock."""
        return self._leader.is_ours()

    def on_death(self, listener: Callable[[dict[str, Any]], object]) -> None:
        """Have ``listener`` told of each death that is found here, with its crash, soon after."""
        self._listeners.append(listener)

    def _keep_counts(self, name: str, reading: Reading) -> None:
        counts = counts_of(reading, loaded(reading.body or b""), is_over=True)
        if not counts.is_empty:
            keep_gone(self.directory, _ident(name), counts, self._clock())

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
            self._tell()

    def _tell(self) -> None:
        """Outside of the turn: a listener may take its time, and the others look."""
        with suppress(IndexError):  # there is no more to tell; another thread may tell too
            while True:
                self._tell_of(self._untold.popleft())

    def _tell_of(self, crash: dict[str, Any]) -> None:
        for listener in list(self._listeners):
            try:
                listener(crash)
            except Exception:  # noqa: BLE001  one that fails must not keep the others from hearing
                self.listener_errors += 1

    def _look(self) -> list[dict[str, Any]]:
        found = [crash for name in self.directory.names() if (crash := self._claimed(name))]
        if found:
            self._forget_old()
        if self.leads():
            fold(self.directory, self._clock)
        self.directory.sweep(life_of, self._wall_clock())
        return found

    def workers(self) -> list[Worker]:
        """Those that are there, the dead that nobody has claimed yet among them."""
        return [worker for name in self.directory.names() if (worker := self._known(name))]

    def _known(self, name: str) -> Worker | None:
        known = _WORKER.fullmatch(name) or _CLAIMED.fullmatch(name)
        return self._worker(name, known.groups()[-2]) if known else None

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Within it this thread is answered from one tally, which takes most of the time of each."""
        outer = self._at_once.tally
        with suppress(SpoolError):  # else whoever asks is told of it
            self._at_once.tally = self.tally()
        try:
            yield
        finally:
            self._at_once.tally = outer

    @property
    def is_at_once(self) -> bool:
        """Whether this thread is within `at_once`."""
        return self._at_once.tally is not None

    def tally(self) -> Tally:
        """What all workers have counted so far, those that have gone included: each request once."""
        if self._at_once.tally is not None:
            return self._at_once.tally
        for _ in range(_TRIES):
            names = self._segment_names()
            # These first: who goes after that is known by name to what those count who have gone.
            segments = {name: worker for name in names if (worker := self._known(name))}
            counts, gone = gone_counts(self.directory, self._loaded)
            after = self._segment_names()
            is_steady = all(each.reading.is_steady for each in segments.values())
            is_known = all(name in after or _ident(name) in gone for name in segments)
            is_all = len(segments) == len(names) or names == after
            if is_steady and is_known and is_all:
                break  # none was claimed, or has gone and been folded, before it could be read
        there = {name: each for name, each in segments.items() if _ident(name) not in gone}
        # Another thread may ask meanwhile, and keep what it has heard.
        said = {name: self._said_by(name, each.reading) for name, each in there.items()}
        self._said = said
        heard = [_heard(each, said[name][1]) for name, each in there.items()]
        return Tally(heard, counts)

    def _loaded(self, name: str) -> dict[str, Any]:
        """What a file says; that of the totals is kept, for it is large and changes seldom."""
        if name != TOTALS:
            return loaded(self.directory.read(name))
        identity = self.directory.identity(name)
        kept = self._totals
        if kept is not None and identity is not None and kept[0] == identity:
            return kept[1]
        said = loaded(self.directory.read(name))
        if identity is not None and self.directory.identity(name) == identity:
            self._totals = identity, said
        return said

    def _said_by(self, name: str, reading: Reading) -> tuple[int, dict[str, Any]]:
        """What its latest snapshot says, and which that is: to understand one takes milliseconds."""
        known = self._said.get(name)
        if known is not None and known[0] == reading.saved:
            return known
        return reading.saved, loaded(reading.body or b"")

    def counts(self) -> Counts:
        """How many requests have ended at all workers ever, and how."""
        return self.tally().total()

    def error_stats(
        self, window_minutes: float = 5, *, worker: int | None = None
    ) -> dict[str, Any]:
        """See `ErrorTracker.get_error_stats`: of all workers, or of the one with that pid.

        Raises ValueError for a window or a worker that cannot be, SpoolError where nothing can be read.
        """
        return answers.errors(self.tally().of(worker), window_minutes, self._clock())

    def performance_stats(
        self,
        window_minutes: float = 5,
        *,
        worker: int | None = None,
        most_routes: int | None = None,
    ) -> dict[str, Any]:
        """See `PerformanceMonitoringMiddleware.get_performance_stats`; ``workers`` tells of each.

        Raises as `error_stats` does.
        """
        tally = self.tally().of(worker)
        return answers.performance(tally, window_minutes, self._clock(), most_routes)

    def groups(self) -> list[dict[str, Any]]:
        """The groups of errors of all workers, the most recently seen first. Raises SpoolError."""
        return answers.groups(self.tally())

    def in_flight(self) -> list[dict[str, Any]]:
        """What the workers that live are at, the oldest first, each with its ``pid``. Raises SpoolError."""
        return answers.in_flight(self.workers(), self._clock(), self._redactor)

    def breakers(self) -> list[dict[str, Any]]:
        """The breakers of each worker that lives, each with its ``pid``. Raises SpoolError."""
        return answers.breakers(self.tally())

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
        about: dict[str, Any] = {
            "pid": this_process().pid,
            "app": self._app[:200],
            "release": None if self._release is None else self._release[:200],
            "python": sys.version.partition(" ")[0],
            "started_at": self._wall_clock(),
            "clock_offset": self._wall_clock() - self._clock(),
            "redact": sorted(filter(_is_secret_name, self._redactor.extra_names), key=len),
        }
        while len(told := orjson.dumps(about)) > ABOUT_BYTES and about["redact"]:
            about["redact"].pop()
        return told

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
        except Exception as error:  # noqa: BLE001  whatever it is, of a file that anybody may have made
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
        # One of another container, whose files would pile up: its silence has to do.
        if _CLAIMED.fullmatch(name):  # whose segment it was has been silent for long
            return self._unchanged_seconds(name) > 2 * _SILENCE_SECONDS
        return self._silent_seconds(name, owner) > _SILENCE_SECONDS

    def _unchanged_seconds(self, name: str) -> float:
        changed_at = self.directory.changed_at(name)
        return 0.0 if changed_at is None else self._wall_clock() - changed_at

    def _silent_seconds(self, name: str, owner: Owner) -> float:
        """By the clock of the machine, which is the same to both if neither has started anew since."""
        if owner.boot != this_process().boot:
            return 0.0
        worker = self._worker(name, owner.key)
        if worker is None:  # it makes no sense, and nobody who lives leaves it at that
            return self._unchanged_seconds(name)
        return self._clock() - worker.reading.beats_at

    def _told(self, mine: str, key: str, number: str) -> dict[str, Any] | None:
        try:
            reading = decode(self.directory.read(mine))
        except (DamagedSegmentError, SpoolError) as error:
            if isinstance(error, SpoolError) and error.errno is not None:
                raise  # such as of descriptors: it may be read later
            self.unread += 1
            owner = Owner.parse(key)
            crash = crash_unread(owner.pid if owner else 0, found_at=self._wall_clock())
            self._announce(mine, crash, error)
            return self._kept(mine, crash, key, number)
        if self.directory.changed_at(mine) is None:  # we were paused over it, and it was taken on
            return None
        if reading.ending is Ending.CLEAN:
            self._keep_counts(mine, reading)
            self.directory.remove(mine)
            return None
        about = _about_of(reading)
        redactor = with_names(self._redactor, about)
        said = loaded(reading.body or b"")
        crash = {
            **crash_of(reading, about, found_at=self._wall_clock(), redactor=redactor),
            **history_of(said, about.get("clock_offset", 0.0)),
        }
        self._announce(mine, crash)
        self._keep_counts(mine, reading)
        return self._kept(mine, crash, key, number)

    def _announce(self, mine: str, crash: dict[str, Any], damage: Exception | None = None) -> None:
        """Once, however often it has to be tried to keep it."""
        if _ident(mine) not in self._logged:
            self._logged.add(_ident(mine))
            _log(crash, damage)
            self._untold.append(crash)

    def _kept(self, mine: str, crash: dict[str, Any], key: str, number: str) -> dict[str, Any]:
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


def _ident_within(name: str) -> str | None:
    """Whose death, counts or claim a file is of."""
    known = _CLAIMED.fullmatch(name) or _CRASH.fullmatch(name) or _GONE.fullmatch(name)
    return "-".join(known.groups()[-2:]) if known else None


def _heard(worker: Worker, said: dict[str, Any]) -> Heard:
    is_over = worker.life is Life.DEAD or worker.reading.ending is Ending.CLEAN
    counts = counts_of(worker.reading, said, is_over=is_over)
    if worker.owner.boot != this_process().boot:
        counts.forget_spans()
    return Heard(worker, said, counts)


def _about_of(reading: Reading) -> dict[str, Any]:
    """What a segment says of itself, as far as it is of the kind it should be."""
    try:
        told = orjson.loads(reading.about)
    except ValueError:
        told = None
    known = told if isinstance(told, dict) else {}
    about = {n: known[n] for n, kind in _ABOUT.items() if isinstance(known.get(n), kind)}
    return {**about, "redact": list(filter(_is_secret_name, about.get("redact", ())))}


def _is_secret_name(name: object) -> bool:
    """Whether a `Redactor` can take it."""
    return isinstance(name, str) and name.isprintable() and any(map(str.isalnum, name))


def _log(crash: dict[str, Any], damage: Exception | None) -> None:
    # Servers that stop leave as those do that are killed, but finish what is in flight before.
    logger.log(
        logging.CRITICAL if crash["suspects"] else logging.WARNING,
        "worker_died: pid %s, %s",
        crash["pid"],
        _circumstances(crash) if damage is None else f"whose record cannot be read: {damage}",
        extra={"event": "worker_died", "crash": crash},
    )


def _circumstances(crash: dict[str, Any]) -> str:
    told = f"with {crash['in_flight']} requests in flight and {crash['memory_mb']:.0f} MB"
    if not crash["suspects"]:
        return told
    likeliest = "{method} {path} (request {request_id}, {phase} for {age_seconds:.3f} s)"
    return f"{told}; the likeliest: {likeliest.format(**crash['suspects'][0])}"
