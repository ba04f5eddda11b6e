"""Which requests of this process are in flight, and what has been counted, in its segment."""

import logging
from collections import Counter
from collections.abc import Callable, Mapping
from threading import RLock
from typing import Any, Protocol

import orjson

from asgi_errorkit.errors import ErrorType
from asgi_errorkit.exchange import (
    CAUGHT,
    END,
    ENDED,
    FIRST_BYTE,
    KIND,
    PLACE,
    Caught,
    State,
)
from asgi_errorkit.forks import reset_in_child
from asgi_errorkit.outcome import Outcome, outcomes_of
from asgi_errorkit.recorder import Batch, Recorder, counted_here
from asgi_errorkit.spool.host import Host
from asgi_errorkit.spool.layout import BODY_BYTES, SLOTS, SlotWord
from asgi_errorkit.spool.results import Result, result_of, told
from asgi_errorkit.spool.segment import SLOT_WORDS, Segment

__all__ = ["Ledger"]

logger = logging.getLogger("asgi_errorkit.spool")

_TELL_EVERY_SECONDS = 1.0
_MOST_UNSAVED = SLOTS // 4
_MOST_TOLD = BODY_BYTES // 2  # the counts need the rest


class Sources(Protocol):
    """What a worker tells of beside its requests, as JSON-able data by name."""

    def counts(self, now: float) -> Mapping[str, Any]:
        """What has been counted of the requests that a snapshot counts, and goes with it."""
        ...

    def others(self, now: float, *, is_last: bool) -> Mapping[str, Callable[[], Any]]:
        """What may be as old as a second; of what is too much the last is left out first."""
        ...

    def note_lost(
        self, result: Result, started_at: float, first_byte_at: float, ended_at: float
    ) -> None:
        """Count one that no sink has seen."""
        ...

    def forget(self) -> None:
        """All of it is kept, or was another process's: start anew."""
        ...


class Ledger:
    """Lists each request in a segment before the app is called, and how it ended.

    ``open_segment`` makes the segment of this process, and says what removes it after a clean end:
    it is called by the first request, also in a forked child; if it raises nothing is listed,
    which is said once. ``sources`` tell what else is to be saved. A snapshot is saved every second,
    and whenever many have ended.
    """

    def __init__(
        self,
        recorder: Recorder,
        open_segment: Callable[[int], tuple[Segment, Callable[[], None]]],
        sources: Sources,
    ) -> None:
        self.left_out = 0  # sources that a snapshot had no room for, or that failed
        self._recorder = recorder
        self._open_segment = open_segment
        self._sources = sources
        self.host: Host | None = None  # whose segment it is
        self._is_passed_over = False
        self._lock = RLock()
        self._first = 0  # of the slots of the segment; those of the next have other numbers
        self._reset()
        reset_in_child(self)
        recorder.add_last_sink(self.observe)
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
        self._has_news = False

    def reset_after_fork(self) -> None:
        """In a forked child: the segment is the parent's, and so are the requests that go on."""
        self._lock = RLock()
        self._reset()
        self._sources.forget()

    def _begin_first(
        self, request_id: str, method: str, path: str, started_at: float, memory_mb: float
    ) -> int | None:
        self.open()
        # The first request began before anything was measured.
        known_mb = memory_mb or self._recorder.sampler.memory_mb
        return self.begin(request_id, method, path, started_at, known_mb)

    def open(self) -> None:
        """Open the segment, if it is not open: the first request does so, or who knows of it before."""
        self._recorder.sampled()  # before the lock is taken: who drains may wait for that
        with self._lock:
            if self.begin == self._begin_first:
                self._open()

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
        latest = self._recorder.sampler.latest
        segment.beat(self._recorder.clock(), latest.memory_mb, latest.at, 0)
        self.segment = segment
        self.answer = _answering(segment)
        self.leave = _leaving(segment)
        self.begin = segment.begin

    def renew(self, is_lost: Callable[[], bool], is_counted_elsewhere: Callable[[], bool]) -> None:
        """Open another segment if the file of this one is lost.

        What has been counted goes along, unless whoever has the file counts it.
        """
        if self.segment is not None and is_lost():
            self._recorder.read(lambda: self._renew(is_lost, is_counted_elsewhere))

    def _renew(self, is_lost: Callable[[], bool], is_counted_elsewhere: Callable[[], bool]) -> None:
        with self._lock:  # who begins meanwhile waits for the next segment
            segment = self.segment
            if segment is None or not is_lost():
                return
            kept = self._outcomes, self._error_types, self.unlisted
            goes_along = not is_counted_elsewhere()
            self._reset()
            if goes_along:
                self._outcomes, self._error_types, self.unlisted = kept
                self._has_news = True
            else:
                self._sources.forget()
            segment.close()  # there is nothing to put away
            self._open()
            self.save_all()

    def pass_over(self) -> None:
        """Say, once, that nothing will be listed: a kit further out has the requests, and no directory."""
        if self._is_passed_over:
            return
        self._is_passed_over = True
        logger.warning(
            "no request is listed in %s: the ErrorKit that was given it is within another, which has "
            "none. Give the directory to the outermost ErrorKit",
            self.host.directory.path if self.host else "its directory",
        )

    # Off the path

    def observe(self, batch: Batch) -> None:
        """The last sink: what it has seen, all the others have counted."""
        batch = counted_here(batch, self._recorder)
        self._has_news = self._has_news or bool(batch.records)
        ended = [record for record in batch.records if record[KIND] == END]
        places = [record[PLACE] for record in ended if record[PLACE] is not None]
        if self.segment is not None:
            self.unlisted += len(ended) - len(places)
            first, beyond = self._first, self._first + SLOTS
            self._counted += [place for place in places if first <= place < beyond]
        is_all = len(ended) == len(batch.records)  # what was told of is no request
        self._outcomes.update(batch.outcomes if is_all else outcomes_of(ended))
        for record in batch.records:
            caught: Caught | None = record[CAUGHT]
            if caught is not None and not (record[KIND] == END and caught.counted_by):
                self._error_types[caught.verdict.info.error_type] += 1
        if len(self._counted) >= _MOST_UNSAVED:
            self.save()

    def refresh(self) -> bool:
        """Have the segment say all that has been counted; whether it does, and so answers for this
        process too."""
        # Amid a drain a snapshot would tell of requests whose slots it does not count.
        return self._recorder.read(self._refresh, lambda: self.segment is not None)

    def _refresh(self) -> bool:
        host = self.host
        if host is not None and self.segment is not None and host.has_lost_segment():
            self._renew(host.has_lost_segment, host.is_counted_elsewhere)
        self.open()
        if self.segment is None:
            return False
        self.save_all()
        return True

    def flush(self) -> None:
        """Save everything, if that was long ago."""
        if self.segment is None and self._has_news:
            self.open()
        if self.segment is None or self._recorder.clock() - self._told_at < _TELL_EVERY_SECONDS:
            return
        self._recorder.read(self.save_all, _nowhere)

    def save_all(self, *, is_last: bool = False) -> None:
        """Save what has been counted so far, and what the sources tell now."""
        self._count_lost()
        self._told_at = self._recorder.clock()
        self._told = self._tell(is_last=is_last)
        self.save()

    def save(self) -> None:
        """Save what has been counted so far. Only within a drain, or while none is under way."""
        segment = self.segment
        if segment is None:
            return
        now, sampler = self._recorder.clock(), self._recorder.sampler
        counted, self._counted = self._counted, []
        segment.save(self._body(now), counted, now)
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
                self._sources.note_lost(result, *segment.times(place))
        self._missed = {p: pair for p, pair in waiting.items() if self._missed.get(p) != pair}

    def _tell(self, *, is_last: bool) -> list[bytes]:
        """What the sources tell, as members of an object, as far as there is room."""
        told, left = [], _MOST_TOLD
        for name, source in self._sources.others(self._told_at, is_last=is_last).items():
            try:
                part = _member(name, source())
            except Exception:  # noqa: BLE001  one that fails must not cost the others
                self.left_out += 1
                continue
            if len(part) + 1 > left:
                self.left_out += 1
                continue
            told.append(part)
            left -= len(part) + 1
        return told

    def _body(self, now: float) -> bytes:
        counts = [
            _member("outcomes", {o.text: n for o, n in self._outcomes.items()}),
            _member("error_types", {e.value: n for e, n in self._error_types.items()}),
        ]
        try:
            counts += [_member(name, told) for name, told in self._sources.counts(now).items()]
        except Exception:  # noqa: BLE001  what has ended is counted all the same
            self.left_out += 1
        body = b"{%b}" % b",".join((*counts, *self._told))
        if len(body) <= BODY_BYTES:
            return body
        self.left_out += 1
        return b"{%b}" % b",".join(counts)

    def rest(self) -> None:
        """Let go of the segment while nothing is in flight; the next request opens another.

        For the end of a lifespan, after which a server may leave without any word.
        """
        if self.segment is None and self._has_news:
            self.open()
        if self.segment is not None:
            self._recorder.read(self._rest, self._rest_amid)

    def _rest(self) -> None:
        with self._lock:  # who begins meanwhile waits for the next segment
            begin, self.begin = self.begin, self._begin_first
            self.save_all(is_last=True)
            if self.segment is not None and self.segment.free == SLOTS:
                self._close()
            else:
                self.begin = begin

    def _rest_amid(self) -> None:
        """Amid a drain: nothing is saved, and what is counted is what the segment says so far."""
        segment = self.segment
        if segment is not None and segment.free + len(segment.ended()) == SLOTS:
            self._close()

    def close(self) -> None:
        """Save what there is, and let go of the segment, which the process leaves in order."""
        if self.segment is None and self._has_news:
            self.open()
        if self.segment is not None:
            self._recorder.read(self._save_and_close, self._close)

    def _save_and_close(self) -> None:
        with self._lock:
            self.save_all(is_last=True)
            self._close()

    def _close(self) -> None:
        segment, remove = self.segment, self._remove
        if segment is None:
            return
        self._reset()
        self._sources.forget()
        self._put_away(segment, remove)

    def _put_away(self, segment: Segment, remove: Callable[[], None]) -> None:
        segment.close()
        try:
            remove()
        except OSError as error:  # then whoever looks next does
            logger.warning("the record of this process cannot be put away: %s", error)


def _member(name: str, told: Any) -> bytes:
    return b'"%b":%b' % (name.encode(), orjson.dumps(told))


# Closures, for each look at an attribute would cost 10 ns, with every request.


def _answering(segment: Segment) -> Callable[[State], None]:
    _, doubles = segment.cells()
    first, beyond = segment.places.start, segment.places.stop
    at, step = segment.word_of(0) + SlotWord.FIRST_BYTE_AT.value, SLOT_WORDS

    def answer(state: State) -> None:
        place = state[PLACE]
        if first <= place < beyond:  # else it is one of a segment before
            doubles[at + place * step] = state[FIRST_BYTE]

    return answer


def _leaving(segment: Segment) -> Callable[[State], None]:
    words, doubles = segment.cells()
    first, beyond = segment.places.start, segment.places.stop
    ended_at, step = segment.word_of(0) + SlotWord.ENDED_AT.value, SLOT_WORDS
    result_at = segment.word_of(0) + SlotWord.RESULT.value

    def leave(state: State) -> None:
        place = state[PLACE]
        if first <= place < beyond:
            doubles[ended_at + place * step] = state[ENDED]
            words[result_at + place * step] = result_of(state)  # last: with it, it has ended

    return leave


def _nowhere(*_: object) -> None:
    """In the place of each of them, where there is no segment."""
    return
