"""The circuit breaker does what its documentation says, step by step, whatever comes in which order.

The reference below says the documented rules as plainly as they can be said: it remembers every
call, and is neither fast nor thread-safe. Hypothesis and a seeded walker take the same steps with
it and with the breaker, and compare all that can be seen of both. Breakers that have one defect
each show that the comparison would notice.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from itertools import count, pairwise
from math import inf
from typing import Any, TypeVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from asgi_errorkit.breaker import CircuitBreaker
from asgi_errorkit.call_window import OK
from asgi_errorkit.circuit_policy import CircuitPolicy
from asgi_errorkit.circuit_state import MOVES, CircuitState, StateChange
from asgi_errorkit.errors import PublicError
from asgi_errorkit.testing import HandClock

CLOSED, OPEN, HALF_OPEN = CircuitState.CLOSED, CircuitState.OPEN, CircuitState.HALF_OPEN
FORCED_OPEN, DISABLED = CircuitState.FORCED_OPEN, CircuitState.DISABLED
METRICS_ONLY = CircuitState.METRICS_ONLY

T = TypeVar("T")
Choose = Callable[[list[T]], T]

# All times are sums of powers of two: what is exactly at a boundary is so in both.
TICK = 1 / 64
EPOCH = 2.0**30


class Ticket:
    """What the reference gave for a permit: a call of one era, or a probe."""

    def __init__(self, era: int, due_at: float = inf) -> None:
        self.era = era
        self.due_at = due_at


FOREIGN = Ticket(-1)


class Reference:
    """The documented rules. An era is the time from one change of state to the next."""

    def __init__(
        self, policy: CircuitPolicy, clock: Callable[[], float], share: Callable[[], float]
    ) -> None:
        self.policy = policy
        self.clock = clock
        self.share = share
        self.rejected = self.late = self.expired = self.would_have_opened = 0
        self.told: list[tuple[CircuitState, CircuitState, float]] = []
        self.opened_in_a_row = 0
        self.retry_at = inf
        self.opened: tuple[float | None, int | None, float | None] = (None, None, None)
        self.era = 0
        self.begin(policy.initial_state)

    def begin(self, state: CircuitState) -> None:
        self.state = state
        self.era += 1
        self.since = self.clock()
        self.probing: list[Ticket] = []
        self.overdue: list[Ticket] = []
        self.fared_well = 0
        self.forget()

    def forget(self) -> None:
        self.calls: list[tuple[float, bool, bool]] = []
        self.failed_at: list[float] = []

    # What is asked

    def ask(self) -> Ticket | None:
        self.settle()
        if self.state in (CLOSED, DISABLED, METRICS_ONLY):
            return Ticket(self.era)
        if self.state is HALF_OPEN:
            self.drop_overdue()
            if len(self.probing) < self.policy.max_concurrent_probes:
                probe = Ticket(self.era, self.clock() + self.policy.probe_seconds)
                self.probing.append(probe)
                return probe
        self.rejected += 1
        return None

    def settle(self) -> None:
        """Time is read when somebody asks."""
        if self.state is OPEN and self.clock() >= self.retry_at:
            self.go(HALF_OPEN)
        quiet = self.policy.quiet_seconds
        if self.state is HALF_OPEN and quiet is not None:
            self.drop_overdue()
            if not self.probing and self.clock() >= self.since + quiet:
                self.go(CLOSED)

    def drop_overdue(self) -> None:
        """The eldest first; one behind it that is due earlier was taken by a clock gone back."""
        while self.probing and self.probing[0].due_at <= self.clock():
            self.overdue.append(self.probing.pop(0))
            self.expired += 1

    def retry_after(self) -> float:
        if self.state is FORCED_OPEN:
            return inf
        if self.state is OPEN:
            return max(1.0, self.retry_at - self.clock())
        return 1.0 if self.state is HALF_OPEN else 0.0

    def totals(self) -> tuple[int, int, int]:
        calls = self.in_window()
        return len(calls), sum(call[1] for call in calls), sum(call[2] for call in calls)

    def in_window(self) -> list[tuple[float, bool, bool]]:
        if self.policy.window_seconds is None:
            return self.calls[-self.policy.window_calls :]
        now = self.tenth(self.clock())
        return [call for call in self.calls if now - 10 < self.tenth(call[0]) <= now]

    def tenth(self, at: float) -> int:
        """Which tenth of a window's time it is: windows move in such steps."""
        return int(at * 10 // (self.policy.window_seconds or 1))

    # What is told

    def ignored(self, ticket: Ticket | None) -> None:
        if ticket is None or (ticket.era == self.era and ticket.due_at == inf):
            return
        if not self.takes_back(ticket):
            self.late += 1

    def takes_back(self, ticket: Ticket) -> bool:
        """A probe of this era counts once, also when its time was up."""
        for probes in (self.probing, self.overdue):
            if ticket in probes:
                probes.remove(ticket)
                return True
        return False

    def ended(
        self, ticket: Ticket | None, *, failed: bool, slow: bool, in_a_row: int | None
    ) -> None:
        self.settle()
        if self.state is HALF_OPEN:
            self.probed(ticket, good=not failed and not slow)
        elif self.state is DISABLED or (self.state in (OPEN, FORCED_OPEN) and ticket is None):
            return
        elif self.state in (OPEN, FORCED_OPEN) or (ticket and ticket.era != self.era):
            self.late += 1
        else:
            self.counted(failed=failed, slow=slow, in_a_row=in_a_row)

    def probed(self, ticket: Ticket | None, *, good: bool) -> None:
        if ticket is None:  # nobody knows whose it is: it stands for the eldest
            del self.probing[:1]
        elif not self.takes_back(ticket):
            self.late += 1
            return
        self.fared_well += good
        if not good:
            self.go(OPEN)
        elif self.fared_well >= self.policy.successes_to_close:
            self.go(CLOSED)

    def counted(self, *, failed: bool, slow: bool, in_a_row: int | None) -> None:
        now = self.clock()
        if self.policy.window_seconds is not None:  # a clock gone back writes over what was then
            self.calls = [
                call
                for call in self.calls
                if (self.tenth(call[0]) - self.tenth(now)) % 10 or self.in_step(call[0], now)
            ]
        self.calls.append((now, failed, slow))
        self.failed_at = [*self.failed_at, now] if failed else []
        if not failed and not slow:
            return
        threshold = self.reached(in_a_row or self.policy.consecutive_failures if failed else None)
        if threshold is None:
            return
        if self.state is METRICS_ONLY:
            self.would_have_opened += 1
            self.told.append((METRICS_ONLY, METRICS_ONLY, EPOCH + now))
            self.forget()
            return
        _, failures, slows = self.totals()
        self.go(OPEN, failures or slows, threshold)

    def in_step(self, one: float, other: float) -> bool:
        return self.tenth(one) == self.tenth(other)

    def reached(self, in_a_row: int | None) -> float | None:
        """The threshold that is reached, if one is."""
        policy, (calls, failed, slow) = self.policy, self.totals()
        if in_a_row is not None and len(self.failed_at) >= in_a_row:
            first = self.failed_at[-in_a_row]
            if policy.window_seconds is None or first + policy.window_seconds >= self.clock():
                return in_a_row
        if calls < policy.minimum_number_of_calls:
            return None
        for share, most in (
            (failed / calls, policy.failure_rate_threshold),
            (slow / calls, policy.slow_call_rate_threshold),
        ):
            if most is not None and share >= most:
                return most
        return None

    # What moves it

    def by_hand(self, to: CircuitState) -> None:
        if self.state is not to:
            self.go(to)
        elif to is CLOSED:
            self.forget()

    def go(
        self, to: CircuitState, error_count: int | None = None, threshold: float | None = None
    ) -> None:
        now = self.clock()
        self.told.append((self.state, to, EPOCH + now))
        if to is OPEN:
            base = self.policy.open_seconds
            for _ in range(self.opened_in_a_row):
                base = min(2 * base, self.policy.max_open_seconds)
            self.retry_at = now + base * (1 + self.policy.jitter * (2 * self.share() - 1))
            self.opened_in_a_row += 1
        if to in (OPEN, FORCED_OPEN):
            self.opened = (
                EPOCH + now,
                error_count or self.opened[1],
                threshold or self.opened[2],
            )
        elif to is not HALF_OPEN:
            self.opened = (None, None, None)
            self.opened_in_a_row = 0
        self.begin(to)


class Pair:
    """A breaker and the reference, to which the same happens, and which must never differ."""

    def __init__(self, kind: type[CircuitBreaker], policy: CircuitPolicy) -> None:
        self.steps = 0
        self.clock = HandClock(1024.0)
        self.share = 0.5
        self.told: list[StateChange] = []
        self.told_under_lock = 0
        self.breaker = kind(
            "b",
            policy,
            on_change=self.listen,
            clock=self.clock,
            wall_clock=lambda: EPOCH + self.clock(),
            random=lambda: self.share,
        )
        self.reference = Reference(policy, self.clock, lambda: self.share)
        self.permits: list[tuple[int, Ticket]] = []
        other = CircuitBreaker("other", clock=self.clock)
        self.foreign = [other.allow(), 10**12]

    def listen(self, change: StateChange) -> None:
        self.told.append(change)
        self.told_under_lock += self.breaker._lock._is_owned()  # type: ignore[attr-defined]

    # Steps

    def ask(self) -> bool:
        permit, ticket = self.breaker.allow(), self.reference.ask()
        assert bool(permit) is (ticket is not None), "whether it is let through"
        if ticket is not None:
            if ticket.due_at < inf:
                assert all(permit != known for known, _ in self.permits), "each has its own"
            self.permits.append((permit, ticket))
            del self.permits[:-40]
        self.compare()
        return ticket is not None

    def give(
        self,
        which: int,
        ending: str,
        *,
        keeps: bool = False,
        in_a_row: int | None = None,
        raises: bool = False,
    ) -> None:
        """Give back one permit of those that are out; one that is kept is given back again."""
        permit, ticket = self.permits[which % len(self.permits)]
        if not keeps:
            self.permits.remove((permit, ticket))
        self.tell(permit, ticket, ending, in_a_row, raises=raises)

    def give_foreign(self, ending: str) -> None:
        for permit in self.foreign:
            self.tell(permit, FOREIGN, ending, None)

    def tell(
        self,
        permit: int | None,
        ticket: Ticket | None,
        ending: str,
        in_a_row: int | None,
        *,
        raises: bool = False,
    ) -> None:
        if ending == "ignored" and self.reference.state is DISABLED:
            return  # whether it is late where nothing counts is not documented
        limit = self.breaker.policy.slow_call_seconds
        is_slow = ending.startswith("slow")
        seconds = (limit or 4.0) if is_slow else (limit or 4.0) - TICK
        failed = ending in ("failure", "slow failure")
        if raises:
            self.breaker.record(permit, ERRORS[ending](), seconds=seconds)
            in_a_row = None
        elif ending == "ignored":
            self.breaker.record_ignored(permit)
        elif failed:
            self.breaker.record_failure(permit, seconds=seconds, consecutive_failures=in_a_row)
        else:
            self.breaker.record_success(permit, seconds=seconds)
        if ending == "ignored":
            self.reference.ignored(ticket)
        else:
            is_slow = is_slow and limit is not None
            self.reference.ended(ticket, failed=failed, slow=is_slow, in_a_row=in_a_row)
        self.compare()

    def move(self, seconds: float, *, looks: bool = True) -> None:
        self.clock.move(seconds)
        if looks:
            self.compare()
        else:
            self.compare_counts()

    def edges(self) -> list[float]:
        """When something is to happen by itself."""
        reference, policy = self.reference, self.reference.policy
        edges = [reference.retry_at, *(probe.due_at for probe in reference.probing)]
        edges += [reference.since + (policy.quiet_seconds or inf)]
        edges += [at + (policy.window_seconds or inf) for at in reference.failed_at[:3]]
        if policy.window_seconds is not None:
            tenth = policy.window_seconds / 10
            edges.append((self.clock() // tenth + 1) * tenth)
        return [edge for edge in edges if self.clock() - TICK <= edge < inf] or [self.clock()]

    def put(self, to: CircuitState) -> None:
        assert self.breaker.state is self.settled().state
        {
            CLOSED: self.breaker.reset,
            OPEN: self.breaker.open,
            FORCED_OPEN: self.breaker.force_open,
            DISABLED: self.breaker.disable,
            METRICS_ONLY: self.breaker.metrics_only,
        }[to]()
        self.reference.by_hand(to)
        self.compare()

    def heal(self) -> None:
        """Given enough time and probes that fare well it closes, wherever it stood."""
        self.compare()
        if self.reference.state in (FORCED_OPEN, DISABLED, METRICS_ONLY):
            self.put(OPEN)
        self.move(3 * 86_400.0)
        for _ in range(self.breaker.policy.successes_to_close):
            if self.breaker.state is CLOSED:
                break
            assert self.ask(), "somebody may try"
            self.give(-1, "success")
        assert self.breaker.state is CLOSED, "it closes"

    # Comparisons

    def settled(self) -> Reference:
        self.reference.settle()
        return self.reference

    def compare(self) -> None:
        assert self.breaker.state is self.settled().state
        reference, known = self.reference, self.breaker.as_dict()
        retry_after = reference.retry_after()
        expected = {
            "state": reference.state.value,
            "probes": len(reference.probing),
            "opened_in_a_row": reference.opened_in_a_row,
            "retry_after_seconds": None if retry_after == inf else retry_after,
            **dict(zip(("calls", "failed", "slow"), reference.totals(), strict=True)),
            **dict(
                zip(("triggered_at", "error_count", "threshold"), reference.opened, strict=True)
            ),
        }
        assert {name: known[name] for name in expected} == expected
        assert self.breaker.retry_after_seconds == retry_after
        assert self.breaker.is_open is (reference.state in (OPEN, FORCED_OPEN))
        self.compare_counts()

    def compare_counts(self) -> None:
        self.steps += 1
        breaker, reference = self.breaker, self.reference
        assert (
            breaker.rejected,
            breaker.late,
            breaker.expired,
            breaker.would_have_opened,
            breaker.listener_errors,
            self.told_under_lock,
        ) == (
            reference.rejected,
            reference.late,
            reference.expired,
            reference.would_have_opened,
            0,
            0,
        )
        if self.told or reference.told:
            self.compare_told()

    def compare_told(self) -> None:
        assert [(c.was, c.now, c.at) for c in self.told] == self.reference.told
        for change in self.told:
            is_legal = change.now in MOVES[change.was]
            assert is_legal or change.was is change.now is METRICS_ONLY
            assert change.name == "b" and change.why
        assert all(one.now is next_.was for one, next_ in pairwise(self.told))
        del self.told[:-1], self.reference.told[:-1]


ENDINGS = ["success", "failure", "slow", "slow failure", "ignored"]
ERRORS: dict[str, Callable[[], BaseException | None]] = {
    "success": lambda: None,
    "slow": lambda: None,
    "failure": lambda: OSError("down"),
    "slow failure": lambda: OSError("down"),
    "ignored": lambda: IGNORED[0],
}
IGNORED = [asyncio.CancelledError(), PublicError("Not yours.", status_code=403)]
BY_HAND = [CLOSED, OPEN, FORCED_OPEN, DISABLED, METRICS_ONLY]
SHARES = [0.0, 0.25, 0.5, 0.75, 1 - TICK]


def policy_of(choose: Choose[Any]) -> CircuitPolicy:
    """Any policy whose times can be told apart exactly."""
    slow = choose([None, None, 0.5, 2.0])
    window_calls = choose([1, 4, 10])
    base = CircuitPolicy(
        failure_rate_threshold=choose([None, 0.5, 0.5, 1.0, 0.25]),
        slow_call_rate_threshold=None if slow is None else choose([0.5, 1.0]),
        slow_call_seconds=slow,
        consecutive_failures=choose([None, None, 1, 3]),
        window_calls=window_calls,
        minimum_number_of_calls=choose([n for n in (1, 3, 5) if n <= window_calls]),
        open_seconds=choose([0.5, 4.0, 8.0]),
        max_open_seconds=choose([8.0, 20.0, 64.0]),
        jitter=choose([0.0, 0.25, 0.5]),
        max_concurrent_probes=choose([1, 1, 2, 5]),
        successes_to_close=choose([1, 2, 3]),
        probe_seconds=choose([2.0, 16.0]),
        quiet_seconds=choose([None, None, 4.0, 32.0]),
        initial_state=choose([CLOSED] * 4 + [METRICS_ONLY]),
    )
    return replace(base, window_seconds=choose([None, None, 5.0, 20.0]))


# Hypothesis, which finds short examples


class BreakerMachine(RuleBasedStateMachine):
    @initialize(draws=st.data())
    def make(self, draws: st.DataObject) -> None:
        policy = policy_of(lambda options: draws.draw(st.sampled_from(options)))
        self.pair = Pair(CircuitBreaker, policy)

    @rule(number=st.integers(1, 6))
    def ask(self, number: int) -> None:
        for _ in range(number):
            self.pair.ask()

    @precondition(lambda self: self.pair.permits)
    @rule(
        which=st.integers(0, 39),
        ending=st.sampled_from(ENDINGS),
        keeps=st.booleans(),
        in_a_row=st.sampled_from([None, None, None, 1, 2, 4]),
        raises=st.booleans(),
    )
    def give(self, **how: Any) -> None:
        self.pair.give(**how)

    @rule(ending=st.sampled_from(ENDINGS))
    def give_foreign(self, ending: str) -> None:
        self.pair.give_foreign(ending)

    @rule(ending=st.sampled_from(ENDINGS), in_a_row=st.sampled_from([None, None, 2]))
    def report_without_permit(self, ending: str, in_a_row: int | None) -> None:
        self.pair.tell(None, None, ending, in_a_row)

    @rule(seconds=st.sampled_from([TICK, 0.5, 3.0, 3600.0, 86_400.0, -3600.0]), looks=st.booleans())
    def move(self, seconds: float, looks: bool) -> None:
        self.pair.move(seconds, looks=looks)

    @rule(which=st.integers(0, 9), beside=st.sampled_from([-TICK, 0, TICK]), looks=st.booleans())
    def move_to_an_edge(self, which: int, beside: float, looks: bool) -> None:
        edges = self.pair.edges()
        self.pair.move(edges[which % len(edges)] - self.pair.clock() + beside, looks=looks)

    @rule(to=st.sampled_from(BY_HAND))
    def put(self, to: CircuitState) -> None:
        self.pair.put(to)

    @rule(share=st.sampled_from(SHARES))
    def throw_dice(self, share: float) -> None:
        self.pair.share = share

    def teardown(self) -> None:
        if hasattr(self, "pair"):
            self.pair.heal()


TestBreakerMachine = BreakerMachine.TestCase
TestBreakerMachine.settings = settings(max_examples=300, stateful_step_count=40, deadline=None)


# The walker, which goes far

KINDS = ["ask", "give", "unstamped", "foreign", "move", "edge", "put", "dice", "mood"]
WEIGHTS = [30, 40, 6, 2, 8, 8, 1, 2, 2]
MOODS = [[90, 4, 2, 2, 2], [10, 60, 10, 10, 10], [45, 35, 5, 5, 10]]


def walk(kind: type[CircuitBreaker], seed: int, length: int = 120) -> Pair:
    """Take so many steps; raises AssertionError with the seed for the first that differs."""
    dice = random.Random(seed)
    pair = Pair(kind, policy_of(dice.choice))
    taken = "none"
    try:
        mood = dice.choice(MOODS)
        for taken in dice.choices(KINDS, WEIGHTS, k=length):
            mood = dice.choice(MOODS) if taken == "mood" else mood
            step(pair, dice, taken, dice.choices(ENDINGS, mood)[0])
        taken = "heal"
        pair.heal()
    except Exception as exc:
        raise AssertionError(
            f"seed {seed}, step {pair.steps} ({taken}), {pair.breaker.policy}: {exc!r}"
        ) from exc
    return pair


def step(pair: Pair, dice: random.Random, taken: str, ending: str) -> None:
    in_a_row = dice.choice([None, None, None, None, 1, 2, 4])
    looks = dice.random() < 0.5
    if taken == "ask" or (taken == "give" and not pair.permits):
        pair.ask()
    elif taken == "give":
        which = dice.choice([-1, -1, 0, dice.randrange(40)])
        keeps, raises = dice.random() < 0.3, dice.random() < 0.3
        IGNORED.reverse()
        pair.give(which, ending, keeps=keeps, in_a_row=in_a_row, raises=raises)
    elif taken == "unstamped":
        pair.tell(None, None, ending, in_a_row)
    elif taken == "foreign":
        pair.give_foreign(ending)
    elif taken == "move":
        seconds = dice.choice([TICK, 0.25, 0.5, 1.0, 1.0, 3.0, 10.0, 3600.0, -3600.0])
        pair.move(seconds, looks=looks)
    elif taken == "edge":
        to = dice.choice(pair.edges()) + dice.choice([-TICK, 0, 0, TICK])
        pair.move(to - pair.clock(), looks=looks)
    elif taken == "put":
        pair.put(dice.choice([*BY_HAND, CLOSED, CLOSED, CLOSED]))
    elif taken == "dice":
        pair.share = dice.choice(SHARES)


def test_a_hundred_thousand_steps_go_as_documented() -> None:
    """Every state is visited often, and no step differs from the reference."""
    visited: Counter[str] = Counter()
    steps = 0
    for seed in count():
        pair = walk(CircuitBreaker, seed)
        steps += pair.steps
        visited.update(
            late=pair.breaker.late,
            expired=pair.breaker.expired,
            rejected=pair.breaker.rejected,
            would_have_opened=pair.breaker.would_have_opened,
            changes=pair.reference.era,
        )
        if steps >= 120_000:
            break
    assert steps >= 100_000
    assert min(visited.values()) > 300, visited


# Breakers with one defect each


class StuckProbe(CircuitBreaker):
    """A permit that is never given back never expires."""

    def _expire(self, now: float) -> None:
        return


class ExtraProbe(CircuitBreaker):
    """One probe more than may be is let through."""

    def _take_probe(self, now: float) -> int:
        permit = super()._take_probe(now)
        if not permit and len(self._probes) == self.policy.max_concurrent_probes:
            eldest, due_at = self._probes.popitem()
            permit = super()._take_probe(now)
            self._probes[eldest] = due_at
        return permit


class AcceptsLate(CircuitBreaker):
    """What was permitted before a change of state counts after it."""

    def _record(self, permit: int | None, *how: Any) -> None:
        super()._record(None if self._permit else permit, *how)


class AcceptsLateProbe(CircuitBreaker):
    """What was permitted before it opened is taken for a probe."""

    def _judge_probe(self, permit: int | None, kind: int, now: float) -> None:
        super()._judge_probe(permit if permit in self._probes else None, kind, now)


class AcceptsTwice(CircuitBreaker):
    """A probe counts each time that it is given back."""

    def _judge_probe(self, permit: int | None, kind: int, now: float) -> None:
        due_at = self._probes.get(permit or 0)
        super()._judge_probe(permit, kind, now)
        if due_at is not None and permit and self._state is HALF_OPEN and kind == OK:
            self._probes[permit] = due_at


class CountsCancellations(CircuitBreaker):
    def record_ignored(self, permit: int | None = None) -> None:
        self.record_failure(permit)


class KeepsIgnored(CircuitBreaker):
    """A cancelled probe takes its place for as long as a lost one."""

    def record_ignored(self, permit: int | None = None) -> None:
        if permit not in self._probes:
            super().record_ignored(permit)


class KeepsUnstamped(CircuitBreaker):
    """A report without a permit makes no room."""

    def _judge_probe(self, permit: int | None, kind: int, now: float) -> None:
        kept = dict(self._probes) if permit is None else {}
        super()._judge_probe(permit, kind, now)
        if self._state is HALF_OPEN and kept:
            self._probes.clear()
            self._probes.update(kept)


class NeverCloses(CircuitBreaker):
    def _move(self, to: CircuitState, *how: Any) -> None:
        if (self._state, to) != (HALF_OPEN, CLOSED) or how[1] == "by hand":
            super()._move(to, *how)


class NeverReopens(CircuitBreaker):
    def _move(self, to: CircuitState, *how: Any) -> None:
        if (self._state, to) != (HALF_OPEN, OPEN) or how[1] == "by hand":
            super()._move(to, *how)


class NeverTriesAgain(CircuitBreaker):
    """Once it was open as long as can be, it stays so."""

    def _look(self, *how: Any) -> None:
        if self._trips < 4:
            super()._look(*how)


class UninterruptedRun(CircuitBreaker):
    """A success does not interrupt the failures in a row."""

    def record_success(self, permit: int | None = None, *, seconds: float | None = None) -> None:
        run, known = list(self._run), self._permit
        super().record_success(permit, seconds=seconds)
        if known and known == self._permit:
            self._run.extend(run)


class UntimedRun(CircuitBreaker):
    """Failures in a row count however long ago they were."""

    def _is_run(self, length: int, now: float) -> bool:
        return len(self._run) >= length


class BeyondCap(CircuitBreaker):
    """Jitter and doubling know no cap."""

    def _span(self) -> float:
        share = 1.0 + self.policy.jitter * (2.0 * self._random() - 1.0)
        return self.policy.open_seconds * 2.0 ** min(self._trips, 60) * share


class JitterWithinCap(CircuitBreaker):
    """Those that stay open longest all come back at the same moment."""

    def _span(self) -> float:
        return min(super()._span(), self.policy.max_open_seconds)


class NeverDoubles(CircuitBreaker):
    def _span(self) -> float:
        self._trips = 0
        return super()._span()


class RemembersTrips(CircuitBreaker):
    """Having closed does not start anew."""

    def _move(self, to: CircuitState, *how: Any) -> None:
        trips = self._trips
        super()._move(to, *how)
        self._trips = max(trips, self._trips)


class FreesWhatIsForced(CircuitBreaker):
    """An illegal move: what was forced open tries again by itself."""

    def _look(self, *how: Any) -> None:
        super()._look(*how)
        now = self._clock()
        if self._state is FORCED_OPEN and now >= self._retry_at:
            self._untold.append(StateChange("b", FORCED_OPEN, HALF_OPEN, now, "its time was up"))
            self._begin(HALF_OPEN)


class ExpiresLater(CircuitBreaker):
    """A probe has twice its time."""

    def _take_probe(self, now: float) -> int:
        permit = super()._take_probe(now)
        if permit:
            self._probes[permit] += self.policy.probe_seconds
        return permit


class ForgetsOverdue(CircuitBreaker):
    """What takes longer than a probe may never closes its circuit."""

    def _expire(self, now: float) -> None:
        super()._expire(now)
        self._overdue.clear()


class TakesOverdueTwice(CircuitBreaker):
    """What takes longer than a probe may counts each time that it is given back."""

    def _is_probe(self, permit: int) -> bool:
        kept = dict(self._overdue)
        found = super()._is_probe(permit)
        self._overdue.update(kept)
        return found


class ExpiresAfter(CircuitBreaker):
    """A probe makes room not at its time, but after it."""

    def _expire(self, now: float) -> None:
        super()._expire(now - TICK)


class OpenAtItsTime(CircuitBreaker):
    """It tries again not at its time, but after it."""

    def _span(self) -> float:
        return super()._span() + TICK


class TellsUnderLock(CircuitBreaker):
    def _move(self, *how: Any) -> None:
        super()._move(*how)
        change = self._untold.pop()
        for listener in self._listeners:
            listener(change)


class TellsTwice(CircuitBreaker):
    def _move(self, *how: Any) -> None:
        super()._move(*how)
        self._untold.append(self._untold[-1])


class RemembersCalls(CircuitBreaker):
    """A change of state does not start the window anew."""

    def _begin(self, state: CircuitState) -> None:
        window = getattr(self, "_window", None)
        super()._begin(state)
        if window is not None and not self._permit:
            self._window = window


class OpensOneEarly(CircuitBreaker):
    def _count(self, *how: Any) -> None:
        least = self.policy.minimum_number_of_calls
        self.policy = replace(self.policy, minimum_number_of_calls=max(1, least - 1))
        super()._count(*how)
        self.policy = replace(self.policy, minimum_number_of_calls=least)


class JudgesSuccesses(CircuitBreaker):
    """It opens by a call that fared well, for what was before."""

    def _count(self, kind: int, now: float, in_a_row: int | None) -> None:
        super()._count(kind, now, in_a_row)
        if kind == OK and self._state is CLOSED:
            why = self._why_to_open(now, None)
            if why is not None:
                self._move(OPEN, now, why[0])


class ClosesBesideProbes(CircuitBreaker):
    """It takes the time as quiet though somebody probes."""

    def _look(self, *how: Any) -> None:
        super()._look(*how)
        now, quiet = self._clock(), self.policy.quiet_seconds
        if self._state is HALF_OPEN and quiet and now - self._half_opened_at >= quiet:
            self._move(CLOSED, now, "nothing has failed since")


class ForgetsRejected(CircuitBreaker):
    def _ask(self) -> int:
        before = self.rejected
        permit = super()._ask()
        if self._state is FORCED_OPEN:
            self.rejected = before
        return permit


class OpensMetricsOnly(CircuitBreaker):
    """What is to be watched only opens all the same."""

    def _count(self, kind: int, now: float, in_a_row: int | None) -> None:
        before = self.would_have_opened
        super()._count(kind, now, in_a_row)
        if self.would_have_opened > before:
            self._move(OPEN, now, "it would have")


FAULTS = [
    StuckProbe,
    ExtraProbe,
    AcceptsLate,
    AcceptsLateProbe,
    AcceptsTwice,
    CountsCancellations,
    KeepsIgnored,
    KeepsUnstamped,
    NeverCloses,
    NeverReopens,
    NeverTriesAgain,
    UninterruptedRun,
    UntimedRun,
    BeyondCap,
    JitterWithinCap,
    NeverDoubles,
    RemembersTrips,
    FreesWhatIsForced,
    ExpiresLater,
    ExpiresAfter,
    ForgetsOverdue,
    TakesOverdueTwice,
    OpenAtItsTime,
    TellsUnderLock,
    TellsTwice,
    RemembersCalls,
    OpensOneEarly,
    JudgesSuccesses,
    ClosesBesideProbes,
    ForgetsRejected,
    OpensMetricsOnly,
]


def walk_often(kind: type[CircuitBreaker], walks: int = 400) -> None:
    for seed in range(walks):
        walk(kind, seed)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_the_comparison_notices_each_defect(fault: type[CircuitBreaker]) -> None:
    """Within walks that the true breaker takes without a difference."""
    with pytest.raises(AssertionError, match="seed") as noticed:
        walk_often(fault)
    assert isinstance(noticed.value.__cause__, AssertionError)  # and none has merely broken
