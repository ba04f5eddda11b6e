"""What a forked child must start anew starts anew, and only there."""

import gc
import os
import signal
import threading
import warnings
import weakref
from collections.abc import Callable
from contextlib import suppress

import pytest

from asgi_errorkit import forks
from asgi_errorkit.breaker import CircuitBreaker
from asgi_errorkit.circuit_policy import CircuitPolicy
from asgi_errorkit.circuit_state import CircuitState
from asgi_errorkit.forks import reset_in_child
from asgi_errorkit.testing import HandClock

can_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")


class Made:
    def __init__(self) -> None:
        self.resets = 0

    def reset_after_fork(self) -> None:
        self.resets += 1


def in_child(check: Callable[[], object]) -> None:
    """Run it in a forked child, which ends at once; fails if that fails, or takes for ever."""
    with warnings.catch_warnings():
        # Python 3.12 and newer warn of a fork beside threads, which is what is tested.
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        code = 1
        with suppress(BaseException):
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(30)
            check()
            code = 0
        os._exit(code)
    assert os.waitpid(pid, 0)[1] == 0


def expect(holds: bool) -> None:
    assert holds


@can_fork
def test_a_child_resets_what_lives_and_the_parent_nothing() -> None:
    first, second = Made(), Made()
    reset_in_child(first)
    reset_in_child(second)
    reset_in_child(first)  # twice is once
    in_child(lambda: expect(first.resets == second.resets == 1))
    assert first.resets == second.resets == 0


@can_fork
def test_a_child_of_a_child_resets_again() -> None:
    made = Made()
    reset_in_child(made)
    in_child(lambda: in_child(lambda: expect(made.resets == 2)))


def test_what_is_to_be_reset_is_not_kept_alive() -> None:
    made = Made()
    reset_in_child(made)
    gone = weakref.ref(made)
    del made
    gc.collect()
    assert gone() is None
    forks._reset()


def test_where_no_process_forks_nothing_is_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forks, "_watches", False)
    monkeypatch.delattr(os, "register_at_fork", raising=False)
    made = Made()
    reset_in_child(made)
    assert not forks._watches
    forks._reset()
    assert made.resets == 1


def test_the_process_is_watched_once(monkeypatch: pytest.MonkeyPatch) -> None:
    watched: list[object] = []
    monkeypatch.setattr(forks, "_watches", False)
    monkeypatch.setattr(
        os, "register_at_fork", lambda *, after_in_child: watched.append(after_in_child), False
    )
    made = [Made() for _ in range(3)]
    for each in made:
        reset_in_child(each)
    assert watched == [forks._reset]


# The breaker's own


def half_open(clock: HandClock, probes: int = 1) -> CircuitBreaker:
    breaker = CircuitBreaker(
        "b",
        CircuitPolicy(
            open_seconds=5.0, jitter=0, max_concurrent_probes=probes, successes_to_close=1
        ),
        clock=clock,
    )
    breaker.open()
    clock.move(5.0)
    return breaker


@can_fork
def test_a_child_uses_a_breaker_whose_lock_another_thread_held() -> None:
    """And the parent goes on with the lock as it was."""
    breaker = half_open(HandClock())
    holds, let_go = threading.Event(), threading.Event()

    def hold() -> None:
        with breaker._lock:
            holds.set()
            let_go.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    assert holds.wait(60)

    def use() -> None:
        permit = breaker.allow()
        expect(permit > 0)
        breaker.record_success(permit)
        expect(breaker.state is CircuitState.CLOSED)
        expect(breaker.as_dict()["probes"] == 0)

    in_child(use)
    let_go.set()
    thread.join()
    assert breaker.state is CircuitState.HALF_OPEN


@can_fork
def test_the_parents_probes_take_no_room_in_a_child() -> None:
    """Nobody would give them back there; the parent's stay out in the parent."""
    breaker = half_open(HandClock(), probes=2)
    assert breaker.allow() and breaker.allow()
    in_child(lambda: expect(bool(breaker.allow() and breaker.allow()) and not breaker.allow()))
    assert not breaker.allow()


@can_fork
def test_a_child_keeps_what_its_parent_knew() -> None:
    """An open circuit is open in the child, until its own time is up."""
    clock = HandClock()
    breaker = CircuitBreaker("b", CircuitPolicy(open_seconds=5.0, jitter=0), clock=clock)
    breaker.open()

    def use() -> None:
        expect(breaker.allow() == 0)
        clock.move(5.0)
        expect(breaker.allow() > 0)

    in_child(use)
    assert breaker.allow() == 0
