"""Which requests of this process are in flight, and what has been counted, in its segment."""

import logging
from collections import Counter
from collections.abc import Callable, Mapping
from threading import RLock
from typing import Any

import orjson

from asgi_errorkit.errors import ErrorType
from asgi_errorkit.exchange import (
    CAUGHT,
    END,
    ENDED,
    FIRST_BYTE,
    KIND,
    OPENER,
    PLACE,
    State,
)
from asgi_errorkit.forks import reset_in_child
from asgi_errorkit.outcome import Outcome, outcomes_of
from asgi_errorkit.recorder import Batch, Recorder
from asgi_errorkit.spool.layout import BODY_BYTES, SLOTS
from asgi_errorkit.spool.results import result_of, told
from asgi_errorkit.spool.segment import Segment

__all__ = ["Ledger"]

logger = logging.getLogger("asgi_errorkit.spool")

_TELL_EVERY_SECONDS = 1.0
_MOST_UNSAVED = SLOTS // 4
_MOST_TOLD = BODY_BYTES - 4096  # the counts need the rest: of so many outcomes and types


class Ledger:
    """Lists each request in a segment before the app is called, and how it ended.

    ``open_segment`` makes the segment of this process, and says what removes it after a clean end:
    it is called by the first request, also in a forked child; if it raises nothing is listed,
    which is said once. ``sources`` are
    functions of what else is to be saved, by name: JSON-able data, of which the last is left out
    first where it is too much. A snapshot is saved every second, and whenever many have ended.
    """

    def __init__(
        self,
        recorder: Recorder,
        open_segment: Callable[[int], tuple[Segment, Callable[[], None]]],
        sources: Mapping[str, Callable[[], Any]],
    ) -> None:
        self.left_out = 0  # sources that a snapshot had no room for, or that failed
        self._recorder = recorder
        self._open_segment = open_segment
        self._sources = dict(sources)
        self._lock = RLock()
        self._first = 0  # of the slots of the segment; those of the next have other numbers
        self._reset()
        reset_in_child(self)
        recorder.add_sink(self.observe)
        recorder.add_flusher(self.flush)

    def _reset(self) -> None:
        """As before the first request: a segment tells of what came since it was opened."""
        self.unlisted = 0
        self._counted: list[int] = []
        self._missed: dict[int, tuple[int, int]] = {}  # ended, and in no batch so far
        self._lost = self._recorder.lost
        self._outcomes: Counter[Outcome] = Counter()
        self._error_types: Counter[ErrorType] = Counter()
        self.segment: Segment | None = None
        self.begin: Callable[[str, str, str, float, float], int | None] = self._begin_first
        self.answer: Callable[[State], None] = _nowhere
        self.leave: Callable[[State], None] = _nowhere
        self._told: list[bytes] = []
        self._told_at = float("-inf")

    def reset_after_fork(self) -> None:
        """In a forked child: the segment is the parent's, and so are the requests that go on."""
        self._lock = RLock()
        self._reset()

    def _begin_first(
        self, request_id: str, method: str, path: str, started_at: float, memory_mb: float
    ) -> int | None:
        with self._lock:
            if self.begin == self._begin_first:
                self._open()
        # The first request began before anything was measured.
        known_mb = memory_mb or self._recorder.sampler.memory_mb
        return self.begin(request_id, method, path, started_at, known_mb)

    def _open(self) -> None:
        try:
            segment, self._remove = self._open_segment(self._first + SLOTS)
        except Exception as error:  # noqa: BLE001  no request must fail for its record
            self.begin = _nowhere
            logger.warning(
                "workers keep no record on disk, and answer for themselves alone: %s", error
            )
            return
        self._first += SLOTS
        latest = self._recorder.sampled()
        segment.beat(self._recorder.clock(), latest.memory_mb, latest.at, 0)
        self.segment = segment
        self.answer = _answering(segment)
        self.leave = _leaving(segment)
        self.begin = segment.begin

    # Off the path

    def observe(self, batch: Batch) -> None:
        """The sink, which must be the last: what it has seen, all the others have counted."""
        mine = self._recorder
        ended = [
            record
            for record in batch.records
            if record[KIND] == END
            and ((opener := record[OPENER]).recorder is mine or opener.recorder.ledger is None)
        ]  # what a kit further out has listed, it counts
        places = [record[PLACE] for record in ended if record[PLACE] is not None]
        if self.segment is not None:
            self.unlisted += len(ended) - len(places)
            first, beyond = self._first, self._first + SLOTS
            self._counted += [place for place in places if first <= place < beyond]
        is_all = len(ended) == len(batch.records)  # what was told of is no request
        self._outcomes.update(batch.outcomes if is_all else outcomes_of(ended))
        for record in batch.records:
            if record[CAUGHT] is not None:
                self._error_types[record[CAUGHT].verdict.info.error_type] += 1
        if len(self._counted) >= _MOST_UNSAVED:
            self.save()

    def flush(self) -> None:
        """Save everything, if that was long ago."""
        if self.segment is None or self._recorder.clock() - self._told_at < _TELL_EVERY_SECONDS:
            return
        self._recorder.read(self.save_all)

    def save_all(self) -> None:
        """Save what has been counted so far, and what the sources tell now."""
        self._count_lost()
        self._told_at = self._recorder.clock()
        self._told = self._tell()
        self.save()

    def save(self) -> None:
        """Save what has been counted so far. Only within a drain, or while none is under way."""
        segment = self.segment
        if segment is None:
            return
        now, sampler = self._recorder.clock(), self._recorder.sampler
        counted, self._counted = self._counted, []
        segment.save(self._body(), counted, now)
        segment.beat(now, sampler.memory_mb, sampler.latest.at, self.unlisted)

    def _count_lost(self) -> None:
        """Count what has ended and was overwritten in the ring before the drain could see it.

        It is what has ended, is still there a second later, and was in no batch: within a drain all
        batches have been seen, but for one that is on its way.
        """
        lost, segment = self._recorder.lost, self.segment
        if segment is None or (lost == self._lost and not self._missed):
            return
        self._lost = lost
        counted = set(self._counted)
        waiting = {p: pair for p, pair in segment.ended().items() if p not in counted}
        for place, pair in waiting.items():
            if self._missed.get(place) == pair:
                self._counted.append(place)
                result = told(pair[1])
                self._outcomes[Outcome(result.outcome)] += 1
                if result.error_type:
                    self._error_types[ErrorType(result.error_type)] += 1
        self._missed = {p: pair for p, pair in waiting.items() if self._missed.get(p) != pair}

    def _tell(self) -> list[bytes]:
        """What the sources tell, as members of an object, as far as there is room."""
        told, left = [], _MOST_TOLD
        for name, source in self._sources.items():
            try:
                part = b'"%b":%b' % (name.encode(), orjson.dumps(source()))
            except Exception:  # noqa: BLE001  one that fails must not cost the others
                self.left_out += 1
                continue
            if len(part) + 1 > left:
                self.left_out += 1
                continue
            told.append(part)
            left -= len(part) + 1
        return told

    def _body(self) -> bytes:
        counts = (
            b'"outcomes":' + orjson.dumps({o.text: n for o, n in self._outcomes.items()}),
            b'"error_types":' + orjson.dumps({e.value: n for e, n in self._error_types.items()}),
        )
        return b"{%b}" % b",".join((*counts, *self._told))

    def rest(self) -> None:
        """Let go of the segment while nothing is in flight; the next request opens another.

        For the end of a lifespan, after which a server may leave without any word.
        """
        if self.segment is not None:
            self._recorder.read(self._rest)

    def _rest(self) -> None:
        with self._lock:  # who begins meanwhile waits for the next segment
            begin, self.begin = self.begin, self._begin_first
            self.save_all()
            if self.segment is not None and self.segment.free == SLOTS:
                self._close()
            else:
                self.begin = begin

    def close(self) -> None:
        """Save what there is, and let go of the segment, which the process leaves in order."""
        if self.segment is not None:
            self._recorder.read(self._save_and_close)

    def _save_and_close(self) -> None:
        with self._lock:
            self.save_all()
            self._close()

    def _close(self) -> None:
        segment, remove = self.segment, self._remove
        if segment is None:
            return
        self._reset()
        segment.close()
        try:
            remove()
        except OSError as error:  # then whoever looks next does
            logger.warning("the record of this process cannot be put away: %s", error)


# Closures, for each look at an attribute would cost 10 ns, with every request.


def _answering(segment: Segment) -> Callable[[State], None]:
    first_byte = segment.first_byte

    def answer(state: State) -> None:
        first_byte(state[PLACE], state[FIRST_BYTE])

    return answer


def _leaving(segment: Segment) -> Callable[[State], None]:
    end = segment.end

    def leave(state: State) -> None:
        end(state[PLACE], result_of(state), state[ENDED])

    return leave


def _nowhere(*_: object) -> None:
    """In the place of each of them, where there is no segment."""
    return
