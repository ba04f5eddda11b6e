"""The ring's law: produced = taken + lost + waiting, in order, whatever happens meanwhile."""

import threading
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from asgi_errorkit.ring import Ring


@pytest.mark.parametrize("capacity", [0, 1, 3, 100, -4])
def test_refuses_a_capacity_that_is_no_power_of_two(capacity: int) -> None:
    with pytest.raises(ValueError, match="power of two"):
        Ring(capacity)


def test_gives_back_in_order_what_was_published() -> None:
    ring = Ring(8)
    for letter in "abc":
        ring.publish(letter)
    assert [item[1] for item in ring.take()] == ["a", "b", "c"]
    assert ring.take() == []
    assert (ring.taken, ring.lost) == (3, 0)


def test_a_full_ring_keeps_the_newest_and_counts_the_rest_as_lost() -> None:
    ring = Ring(4)
    for number in range(11):
        ring.publish(number)
    assert [item[1] for item in ring.take()] == [7, 8, 9, 10]
    assert (ring.taken, ring.lost) == (4, 7)


def test_taken_items_are_let_go() -> None:
    ring = Ring(4)
    ring.publish("x")
    ring.take()
    assert ring.slots == [None] * 4


def test_an_item_claimed_but_not_stored_holds_back_those_after_it() -> None:
    """A signal handler that publishes in the middle of a publication keeps the order."""
    ring = Ring(8)
    interrupted = ring.claim()
    ring.publish("handler")
    assert ring.take() == []
    ring.slots[interrupted & ring.mask] = (interrupted, "interrupted")
    assert [item[1] for item in ring.take()] == ["interrupted", "handler"]


def test_an_item_claimed_and_never_stored_is_lost_a_lap_later() -> None:
    ring = Ring(4)
    ring.claim()
    for number in range(4):
        ring.publish(number)
    assert [item[1] for item in ring.take()] == [0, 1, 2, 3]
    assert (ring.taken, ring.lost) == (4, 1)


def test_a_foreign_consumer_clears_no_slot() -> None:
    """Only the producer's own thread may empty slots; what a foreigner took is cleared later."""
    ring = Ring(4)
    ring.publish("a")
    thread = threading.Thread(target=ring.take)
    thread.start()
    thread.join()
    assert ring.slots[0] == (0, "a")
    ring.publish("b")
    ring.take()
    assert ring.slots == [None] * 4
    assert (ring.taken, ring.lost) == (2, 0)


class RingMachine(RuleBasedStateMachine):
    """Against a model: a list of everything, of which the ring may keep the newest only."""

    def __init__(self) -> None:
        super().__init__()
        self.ring = Ring(4)
        self.produced = 0
        self.seen: list[int] = []

    @rule(number=st.integers(1, 12))
    def publish(self, number: int) -> None:
        for _ in range(number):
            self.ring.publish(self.produced)
            self.produced += 1

    @rule()
    def take(self) -> None:
        waiting = min(4, self.produced - self.ring.taken - self.ring.lost)
        taken = [item[1] for item in self.ring.take()]
        assert taken == list(range(self.produced - waiting, self.produced))
        self.seen += taken

    @rule()
    def take_elsewhere(self) -> None:
        taken: list[tuple[int, int]] = []
        thread = threading.Thread(target=lambda: taken.extend(self.ring.take()))
        thread.start()
        thread.join()
        self.seen += [item[1] for item in taken]

    @invariant()
    def nothing_is_unaccounted_for(self) -> None:
        waiting = self.produced - self.ring.taken - self.ring.lost
        assert waiting >= 0
        assert len(self.seen) == self.ring.taken
        assert all(a < b for a, b in pairwise(self.seen))


TestRingMachine = RingMachine.TestCase
TestRingMachine.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


@given(st.lists(st.integers(0, 9), max_size=40), st.sampled_from([2, 4, 8]))
@settings(max_examples=100, deadline=None)
def test_produced_is_taken_and_lost(bursts: list[int], capacity: int) -> None:
    ring = Ring(capacity)
    for burst in bursts:
        for _ in range(burst):
            ring.publish()
        ring.take()
    assert ring.taken + ring.lost == sum(bursts)


@given(st.integers(0, 700), st.lists(st.integers(1, 200), min_size=1, max_size=20))
@settings(max_examples=60, deadline=None)
def test_what_is_taken_in_portions_is_all_of_it_in_order(number: int, portions: list[int]) -> None:
    """No portion is larger than what was asked for and the piece it ends in."""
    ring = Ring(256)
    taken: list[int] = []
    for item in range(number):
        ring.publish(item)
    for most in portions:
        portion = [item[1] for item in ring.take(most)]
        assert len(portion) < most + 64
        taken += portion
    taken += [item[1] for item in ring.take()]
    assert taken == list(range(max(0, number - 256), number))
    assert (ring.taken, ring.lost) == (len(taken), number - len(taken))


def test_under_stress_a_foreign_consumer_accounts_for_every_item() -> None:
    """One producer as fast as it can, one consumer: exact, in order, with and without losses."""
    for capacity in (8, 64, 4096):
        ring = Ring(capacity)
        produced = 40_000
        seen: list[int] = []
        done = threading.Event()

        def consume(
            ring: Ring = ring, seen: list[int] = seen, done: threading.Event = done
        ) -> None:
            while not done.is_set():
                seen += [item[1] for item in ring.take()]

        consumer = threading.Thread(target=consume)
        consumer.start()
        ring._owner = threading.get_ident()
        for number in range(produced):
            ring.publish(number)
        done.set()
        consumer.join()
        seen += [item[1] for item in ring.take()]
        assert ring.taken == len(seen)
        assert ring.taken + ring.lost == produced
        assert all(a < b for a, b in pairwise(seen))
        assert seen[-1] == produced - 1
