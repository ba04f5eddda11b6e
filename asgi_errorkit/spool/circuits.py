"""The circuits of one worker and those of the others of its host: told, heard of, and agreed upon."""

import logging
import os
import threading
from collections.abc import Callable
from functools import partial
from typing import Any
from weakref import ref

from asgi_errorkit.breaker import CircuitBreaker, Places
from asgi_errorkit.breakers import Breakers
from asgi_errorkit.circuit_state import CircuitState, StateChange, Told
from asgi_errorkit.forks import reset_in_child
from asgi_errorkit.spool.agreement import newer, successes_elsewhere, why_together
from asgi_errorkit.spool.circuit_text import text_of
from asgi_errorkit.spool.directory import SpoolDirectory
from asgi_errorkit.spool.layout import CIRCUITS_BYTES
from asgi_errorkit.spool.probes import HALF, ProbePlaces, SharedFile
from asgi_errorkit.spool.segment import Segment
from asgi_errorkit.spool.siblings import Siblings, is_news

__all__ = ["SharedCircuits"]

logger = logging.getLogger("asgi_errorkit.spool")

_POLL_SECONDS = 0.02
_COUNTS_SECONDS = 0.05  # between two texts, and two looks, that are about no more than calls
_REFRESH_SECONDS = 0.25  # of what nobody says has changed: successes, and calls that are too old
_LOOK_SECONDS = 1.0  # who has died tells nobody
_PATIENCE_SECONDS = 0.05  # with those who have not told yet how a circuit fares with them
_MOST_NAMES = 10_000

_CLOSED = CircuitState.CLOSED


class SharedCircuits:
    """Has the `Breakers` of this worker act together with those of the others in a directory.

    Each tells of its circuits in its own segment, at once when one changes its state, and changes a
    word in a file that all share; a thread of each looks at that word every 20 ms, reads what the
    others tell when it is another, and has its breakers follow. No request ever waits for that. It
    tells from `begin` to `end`, the time that it has a segment; in between there is a thread, unless
    ``has_thread`` is False: then call ``turn``.
    """

    def __init__(
        self,
        directory: SpoolDirectory,
        circuits: Breakers,
        *,
        clock: Callable[[], float],
        has_thread: bool = True,
    ) -> None:
        self.left_out = 0  # circuits for which the latest text has no room
        self.errors = 0
        self._directory = directory
        self._shared = SharedFile(directory)
        self._circuits = circuits
        self._clock = clock
        self._has_thread = has_thread
        self._changed: set[str] = set()
        self.note: Callable[[str], object] = self._changed.add
        self._reset()
        reset_in_child(self)
        circuits.act_across(self)
        circuits.add_listener(_telling(self))

    def _reset(self) -> None:
        self._teller = os.urandom(8).hex()
        self._turn = threading.Lock()
        self._segment: Segment | None = None
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        self._unsettled: set[str] = set()  # changed since they were agreed upon
        self._with_runs: list[CircuitBreaker] = []
        self._is_untold = True
        self._told = b""
        self._told_states: set[tuple[object, ...]] = set()
        self._told_at = float("-inf")
        self._word = b""
        self._looked_at = self._refreshed_at = float("-inf")
        self._mine: dict[str, Told] = {}
        self._siblings = Siblings(self._directory, self._teller)
        self._waiting: dict[str, float] = {}  # since when, for others to tell of a circuit

    def reset_after_fork(self) -> None:
        """In a forked child: the segment and the thread are the parent's."""
        self._siblings.forget()
        self._reset()

    # What the breakers need

    def meet(self, breaker: CircuitBreaker) -> None:
        """One that is new begins as those of the others are."""
        if len(self._changed) > _MOST_NAMES:  # there is no segment, and so nobody takes them down
            self._changed.clear()
        self._changed.add(breaker.name)
        if breaker.policy.consecutive_failures is not None:
            breaker.watch_run()
            self._with_runs.append(breaker)
        if self._looked_at == float("-inf") and self._segment is not None:
            self.turn()  # without circuits nobody has listened
        elif breaker.name in self._siblings.by_name:
            self._tried(partial(self._settle, breaker))

    def places(self, name: str) -> Places:
        """Where the probes of a circuit are, those of all workers."""
        return ProbePlaces(self._shared, name)

    def as_dict(self) -> dict[str, Any]:
        """How many others there are, and what went wrong with them."""
        return {
            "workers": len(self._siblings),
            "left_out": self.left_out,
            "unread": self._siblings.unread,
            "errors": self.errors,
            "probes_alone": self._shared.alone,
        }

    # When

    def begin(self, segment: Segment) -> None:
        """Tell in that segment from now on."""
        self._segment, self._told, self._is_untold = segment, b"", True
        if not self._has_thread or self._thread is not None:
            return
        self._thread = threading.Thread(
            target=_turning,
            args=(ref(self), self._stopped),
            name="asgi-errorkit-circuits",
            daemon=True,
        )
        try:
            self._thread.start()
        except RuntimeError:  # no more threads: the others are heard of when the next segment comes
            self._thread = None
            self.errors += 1

    def end(self) -> None:
        """The segment is about to go."""
        self._segment, self._thread = None, None
        self._stopped.set()
        self._stopped = threading.Event()
        if self._turn.acquire(blocking=False):
            try:
                self._siblings.forget()
            finally:
                self._turn.release()

    def tell(self) -> None:
        """Tell of what has changed now, unless this or another thread is at it already."""
        if self._turn.acquire(blocking=False):
            try:
                self._tried(self._tell)
            finally:
                self._turn.release()

    def turn(self) -> None:
        """Tell, hear, and follow; what somebody has changed meanwhile is for the next turn."""
        if self._turn.acquire(blocking=False):
            try:
                self._tried(self._take_turn)
            finally:
                self._turn.release()
        if self._changed:  # by a request that found this turn under way
            self.tell()

    def _tried(self, step: Callable[[], None]) -> None:
        try:
            step()
        except Exception as error:  # noqa: BLE001  neither a request nor the thread must fail for it
            self.errors += 1
            if self.errors == 1:
                logger.warning("workers may not hear of each other's circuits: %r", error)

    def _take_turn(self) -> None:
        if not self._circuits.is_used():
            return
        now = self._clock()
        for breaker in self._with_runs:
            breaker.watch_run()
        if now - self._refreshed_at >= _REFRESH_SECONDS:
            self._refreshed_at = now
            self._with_runs = self._circuits.with_runs()
            self._refresh()
        self._tell()
        names = {*self._unsettled.copy(), *self._waiting}
        self._unsettled -= names
        word = self._shared.word()
        if self._is_to_look(word, now):
            names |= self._look(word, now)
        for name in names:
            self._tried(partial(self._settle_named, name))
        self._tell()

    def _is_to_look(self, word: bytes, now: float) -> bool:
        since = now - self._looked_at
        if word[:HALF] != self._word[:HALF] or since >= _LOOK_SECONDS:
            return True
        return word != self._word and since >= _COUNTS_SECONDS

    def _look(self, word: bytes, now: float) -> set[str]:
        """As `Siblings.look`; the word was read before, so that nothing is missed."""
        if now - self._looked_at >= _LOOK_SECONDS:
            self._shared.look()
        self._word, self._looked_at = word, now
        before = self._siblings.news
        changed = self._siblings.look(now)
        # Of what fails elsewhere the others want to know how it fares here.
        self._changed |= before ^ self._siblings.news
        return changed

    # Telling

    def _refresh(self) -> None:
        for name, told in self._mine.items():
            breaker = self._circuits.get(name)
            if breaker is not None and told.state is not _CLOSED:
                breaker.tend()
            if breaker is None or told.calls or told.state is not _CLOSED:
                self._changed.add(name)

    def _tell(self) -> None:
        self._take_all_down()
        segment = self._segment
        if segment is None or not self._is_untold:
            return
        now, circuits = self._clock(), list(self._mine.values())
        states = set(map(_state_of, circuits))
        is_state = states != self._told_states
        if not is_state and now - self._told_at < _COUNTS_SECONDS and self._told:
            return
        self._is_untold = False
        text, left_out = text_of(self._teller, circuits, CIRCUITS_BYTES)
        if text == self._told:
            return
        self._told, self._told_states, self._told_at = text, states, now
        self.left_out = left_out
        segment.tell(text, now)
        self._shared.bump(is_state=is_state)

    def _take_all_down(self) -> None:
        while self._changed:
            try:
                name = self._changed.pop()
            except KeyError:  # another thread was faster
                return
            before = self._mine.get(name)
            self._take_down(name)
            if self._mine.get(name) != before:
                self._unsettled.add(name)
                self._is_untold = True

    def _take_down(self, name: str) -> None:
        """Write down how a circuit is, if it is anything to others."""
        breaker = self._circuits.get(name)
        told = Told(name) if breaker is None else breaker.told()
        is_silent = breaker is not None and breaker.policy.across_workers == "none"
        if is_silent or not (is_news(told) or name in self._siblings.news):
            self._mine.pop(name, None)
            return
        rules = 0 if breaker is None else self._circuits.rules_of(breaker)
        self._mine[name] = told._replace(rules=rules)

    # Agreeing

    def _settle_named(self, name: str) -> None:
        breaker = self._circuits.get(name) or self._made(name)
        if breaker is not None and breaker.policy.across_workers != "none":
            self._settle(breaker)

    def _made(self, name: str) -> CircuitBreaker | None:
        """One that requests have made elsewhere, and would here."""
        siblings = self._siblings
        for told in siblings.by_name[name] if name in siblings.news else ():
            policy = self._circuits.policy_of(told.rules) if told.rules else None
            if policy is not None and policy.across_workers != "none":
                return self._circuits.of(name, policy, is_named=False)
        return None

    def _settle(self, breaker: CircuitBreaker) -> None:
        others, now = self._siblings.by_name.get(breaker.name, []), self._clock()
        seen = breaker.told()
        latest = newer(breaker.policy, seen, others, now)
        if latest is not None:
            breaker.follow(latest, seen)
            seen = breaker.told()
        successes = successes_elsewhere(seen, others)
        if successes:
            breaker.hear(successes, seen)
        why = why_together(breaker.policy, seen, others, now)
        if why is None:
            self._waiting.pop(breaker.name, None)
        elif self._have_all_told(breaker.name, now):
            breaker.open_for_all(why.text, (why.errors, why.threshold), why.run_since, seen)

    def _have_all_told(self, name: str, now: float) -> bool:
        """Whether it is known of every other worker how it fares there, or long enough waited for."""
        if not self._siblings.have_all_told(name):
            since = self._waiting.setdefault(name, now)
            if now - since < _PATIENCE_SECONDS:
                return False
        self._waiting.pop(name, None)
        return True


def _state_of(told: Told) -> tuple[object, ...]:
    """What of it the others are to know at once."""
    return told.name, told.state, told.since, told.era, told.hand, told.successes


def _telling(shared: SharedCircuits) -> Callable[[StateChange], None]:
    """Told of each change of state; does not keep the circuits alive, which keep it."""
    shared_ref = ref(shared)

    def tell(_: StateChange) -> None:
        known = shared_ref()
        if known is not None:
            known.tell()

    return tell


def _turning(shared_ref: "ref[SharedCircuits]", stopped: threading.Event) -> None:
    """The thread; it holds nothing while it waits, and ends with what it is for."""
    while True:
        shared = shared_ref()
        if shared is None or stopped.is_set():
            return
        shared.turn()
        del shared
        stopped.wait(_POLL_SECONDS)
