"""Goes on from moment to moment: what is found and sent becomes what is logged, kept and brought."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from asgi_errorkit.alerts.delivery import Courier
from asgi_errorkit.alerts.finding import Finding
from asgi_errorkit.alerts.notice import Words
from asgi_errorkit.alerts.record import AlertRecord, RecordError
from asgi_errorkit.alerts.state import AlertState, Clocks, Shown
from asgi_errorkit.alerts.timeline import RESOLVED, Change, Notice
from asgi_errorkit.alerts.timing import Silence, Timing, time_of
from asgi_errorkit.alerts.watch import Watch
from asgi_errorkit.forks import reset_in_child
from asgi_errorkit.spool.owner import this_process

__all__ = ["Teller"]

logger = logging.getLogger("asgi_errorkit.alerts")

_LEVELS = {
    "low": logging.WARNING,
    "medium": logging.WARNING,
    "high": logging.ERROR,
    "critical": logging.CRITICAL,
}
_STEP_SECONDS = 1.0
_MOST_NOTES = 1000
_PATIENCE_SECONDS = 2.0


class Teller:
    """Takes notes of what is sent by hand, steps the timeline, and hands notices to the couriers.

    Where there is a record, it does so while it leads, and keeps all of it there; else it hands its
    notes on to who does. What fails is counted in ``errors``, and said once.
    """

    def __init__(
        self,
        couriers: Sequence[Courier],
        *,
        timing: Timing,
        gone_seconds: float,
        every_seconds: float,
        max_history: int,
    ) -> None:
        self.errors = 0
        self.dropped = 0  # notes that had no room
        self.couriers = couriers
        self.clock: Callable[[], float] = time.perf_counter
        self.wall_clock: Callable[[], float] = time.time
        self.words: Words
        self.watch: Watch | None = None
        self.record: AlertRecord | None = None
        self.leads: Callable[[], bool] = lambda: True
        self._timing = timing
        self._gone_seconds = gone_seconds
        self._every_seconds = every_seconds
        self._max_history = max_history
        self.reset_after_fork()
        reset_in_child(self)

    def reset_after_fork(self) -> None:
        """In a forked child: what has been found and sent by hand is the parent's to tell."""
        self._turn = threading.Lock()
        self._notes: deque[dict[str, Any]] = deque()
        self._done: deque[tuple[str, str]] = deque()
        self._state: AlertState | None = None
        self._shown = Shown()
        self._findings: list[Finding] = []
        self._looked_at = self._stepped_at = float("-inf")
        self._heeded: frozenset[str] = frozenset()
        self._was_said: set[str] = set()

    # What others call, in any thread

    def take(self, note: dict[str, Any]) -> None:
        """Heed a note in the next step: an "alert", a "silence" or the end of one, or what is mended."""
        if len(self._notes) >= _MOST_NOTES:
            self.dropped += 1
        else:
            self._notes.append(note)

    def take_alert(self, finding: Finding) -> float:
        """Tell of what has happened; the epoch seconds of now."""
        now = self.wall_clock()
        self.take({"alert": finding, "at": now})
        return now

    def done(self, label: str, notice_id: str) -> None:
        """A notice has arrived there, or was given up."""
        self._done.append((notice_id, label))

    def shown(self) -> Shown:
        """What there is to see: as this process knows it, or as the one that alerts has kept it."""
        if self._state is not None or self.record is None or self.watch is None:
            return self._shown
        return self._loaded(self.watch).shown()

    def unheeded(self) -> list[dict[str, Any]]:
        """What was sent here, and has not been heeded yet, as entries of the history."""
        return [
            self.words.sent_entry(self.words.clean(_finding_in(note)), note["at"])
            for note in list(self._notes)
            if "alert" in note
        ]

    @property
    def offset(self) -> float:
        """What makes times of the clock epoch seconds."""
        return self.wall_clock() - self.clock()

    def tick(self) -> None:
        """One turn of the background thread: costs nothing but a look at the clock most times."""
        if self._turn.acquire(blocking=False):
            try:
                self._tick()
            finally:
                self._turn.release()

    def tick_now(self) -> None:
        """Look and step now, when nobody else does."""
        if self._turn.acquire(timeout=_PATIENCE_SECONDS):
            try:
                self._looked_at = self._stepped_at = float("-inf")
                self._tick()
            finally:
                self._turn.release()

    def end(self, linger_seconds: float) -> None:
        """Tell what there is to tell, and wait for the couriers for so long at most."""
        self.tick_now()
        state = self._state
        if state is not None and self.record is None:  # else another goes on with it
            self._put([self._noted(state, n) for n in state.timeline.last_words(self.clock())])
        self._start_couriers()
        until = time.monotonic() + linger_seconds
        for courier in self.couriers:
            courier.wait(max(0.0, until - time.monotonic()))
        self.tick()

    # One turn

    def _tick(self) -> None:
        if self.watch is None:
            return
        try:
            now = self.clock()
            if self._heed_arrivals() and self._state is not None:
                self._save(self._state)
            if now - self._stepped_at >= _STEP_SECONDS:
                self._stepped_at = now
                self._go_on(self.watch, now)
        except Exception as error:  # noqa: BLE001  alerts must never break what they watch
            self._count("alerts could not be told", error)

    def _go_on(self, watch: Watch, now: float) -> None:
        self._start_couriers()
        if not self._is_leader():
            self._state = None
            self._hand_on()
            return
        state = self._state
        if state is None:
            state = self._begun(watch)
            self._shown = state.shown()  # rules may ask for it
            self._state = state
        self._step(state, watch, now)
        self._shown = state.shown()
        self._start_couriers()

    def _step(self, state: AlertState, watch: Watch, now: float) -> None:
        heard, names = self._heard()
        notes = [*heard, *(self._notes.popleft() for _ in range(len(self._notes)))]
        sent = [finding for note in notes if (finding := self._heed(note, state)) is not None]
        step = state.timeline.step(now, [*self._found(watch, state, now), *sent])
        for change in step.changes:
            self._tell(state, change)
        told = [self._noted(state, notice) for notice in step.notices]
        is_kept = state.totals.keep(now)
        is_known, state.known.is_changed = state.known.is_changed, False
        if step.changes or step.notices or notes or is_kept or is_known:
            self._save(state)
        self._put(told)  # once it is kept: who takes over in between would tell it anew
        self._forget(names)

    def _found(self, watch: Watch, state: AlertState, now: float) -> list[Finding]:
        """What the rules find, or found when they were asked last: what happened counts once."""
        if now - self._looked_at < self._every_seconds:
            return self._findings
        self._looked_at = now
        try:
            found = watch.look(state.known, state.totals, now=now, wall_now=self.wall_clock())
            found = [self.words.clean(finding) for finding in found]
        except Exception as error:  # noqa: BLE001  what went on is taken to go on
            self._count("the statistics could not be looked at", error)
            return self._findings
        self._findings = [finding for finding in found if not finding.happened]
        return found

    def _tell(self, state: AlertState, change: Change) -> None:
        """To the log and the history: all of it, also what is muted."""
        entry = self.words.entry(change, self.offset)
        state.note(entry)
        is_over = change.status == RESOLVED
        logger.log(
            logging.INFO if is_over else _LEVELS[entry["severity"]],
            "%s: %s - %s",
            "RESOLVED" if is_over else "ALERT",
            entry["type"],
            entry["message"],
            extra={"event": "alert", "alert": entry},
        )

    def _noted(self, state: AlertState, notice: Notice) -> dict[str, Any]:
        """The notice as it is brought, which the state knows to be on its way."""
        told = self.words.notice(notice, self.offset)
        if self.couriers:
            state.send(told, {courier.label for courier in self.couriers})
        return told

    def _put(self, told: Sequence[dict[str, Any]]) -> None:
        for courier in self.couriers:
            for notice in told:
                courier.put(notice)

    def _start_couriers(self) -> None:
        for courier in self.couriers:
            courier.start()

    def _heed_arrivals(self) -> bool:
        """Whether a notice need not be brought any more."""
        done = [self._done.popleft() for _ in range(len(self._done))]
        state = self._state
        return state is not None and sum(state.arrived(*each) for each in done) > 0

    def _heed(self, note: Mapping[str, Any], state: AlertState) -> Finding | None:
        """The alert in a note; a silence is begun or ended."""
        try:
            if "alert" in note:
                return self.words.clean(_finding_in(note))
            if "silence" in note:
                until = time_of(note["until"]) - self.offset
                state.timeline.silence(Silence(str(note["silence"]), until, str(note["why"])))
            elif "unsilence" in note:
                state.timeline.unsilence(str(note["unsilence"]))
            elif "resolve" in note:
                state.known.resolve(str(note["resolve"]), time_of(note["at"]))
        except (KeyError, TypeError, ValueError) as error:
            self._count("a note about alerts makes no sense", error)
        return None

    # One per host

    def _is_leader(self) -> bool:
        try:
            return self.leads()
        except RecordError as error:  # better twice than never
            self._count("the record of the host cannot serve, and this worker alerts", error)
            return True

    def _begun(self, watch: Watch) -> AlertState:
        """Where the one before has ended, if there was one: what was on its way is brought again."""
        state = self._loaded(watch)
        couriers = {courier.label: courier for courier in self.couriers}
        for notice, labels in list(state.on_its_way.values()):
            for label in list(labels):
                if label in couriers:
                    couriers[label].put(notice)
                else:  # of another configuration
                    state.arrived(notice["id"], label)
        return state

    def _loaded(self, watch: Watch) -> AlertState:
        clocks = self._clocks()
        state = AlertState(
            timing=self._timing,
            gone_seconds=self._gone_seconds,
            ask=watch.counted,
            history=self._max_history,
            clocks=clocks,
        )
        try:
            told = None if self.record is None else self.record.load()
            if told is not None:
                state.remember(told, clocks)
        except (RecordError, ValueError) as error:
            self._count("what is kept of alerts cannot be read, and begins anew", error)
        return state

    def _save(self, state: AlertState) -> None:
        if self.record is None:
            return
        try:
            self.record.save(state.as_dict(self._clocks()))
        except (RecordError, TypeError) as error:
            self._count("alerts cannot be kept on record", error)

    def _hand_on(self) -> None:
        """To the worker that alerts."""
        notes = list(self._notes)
        if self.record is None or not notes:
            return
        try:
            if not self.record.tell([self._as_row(note) for note in notes]):
                self.dropped += len(notes)
        except RecordError as error:  # they wait
            self._count("alerts cannot be handed to the worker that tells of them", error)
            return
        for _ in notes:
            self._notes.popleft()

    def _as_row(self, note: dict[str, Any]) -> dict[str, Any]:
        """A note as JSON-able data, without secrets."""
        if "alert" not in note:
            return note
        finding = self.words.clean(_finding_in(note))
        return {**note, "alert": {**asdict(finding), "values": dict(finding.values)}}

    def _heard(self) -> tuple[list[dict[str, Any]], list[str]]:
        """The notes of other workers, and where they lie."""
        if self.record is None:
            return [], []
        try:
            return self.record.heard(self._heeded)
        except RecordError as error:
            self._count("what other workers alert of cannot be read", error)
            return [], []

    def _forget(self, names: Sequence[str]) -> None:
        """Once they are kept: who takes over in between would else not know of them."""
        self._heeded |= frozenset(names)
        if self.record is None or not self._heeded:
            return
        try:
            self.record.forget(sorted(self._heeded))
            self._heeded = frozenset()
        except RecordError as error:
            self._count("what other workers alerted of cannot be removed", error)

    def _clocks(self) -> Clocks:
        return Clocks(this_process().boot, self.clock(), self.offset)

    def _count(self, what: str, error: Exception) -> None:
        self.errors += 1
        if what not in self._was_said:
            self._was_said.add(what)
            logger.error("%s; this is said once: %.300r", what, error)


def _finding_in(note: Mapping[str, Any]) -> Finding:
    """The alert of a note, which is a row if it comes from another worker."""
    told = note["alert"]
    return told if isinstance(told, Finding) else Finding(**told)
