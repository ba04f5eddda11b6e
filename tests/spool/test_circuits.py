"""The circuits of a host's workers act together, as far as their policy says, and fail alone else."""

import logging
import os
import random
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from asgi_errorkit import CircuitBreaker, CircuitPolicy, CircuitState
from asgi_errorkit.breakers import Breakers
from asgi_errorkit.circuit_state import BY_HAND
from asgi_errorkit.spool import circuits as circuits_module
from asgi_errorkit.spool import siblings as siblings_module
from asgi_errorkit.spool.circuits import SharedCircuits
from asgi_errorkit.spool.host import Host
from asgi_errorkit.spool.owner import Life
from asgi_errorkit.testing import HandClock

CLOSED, OPEN, HALF_OPEN = CircuitState.CLOSED, CircuitState.OPEN, CircuitState.HALF_OPEN
BY_RATE = CircuitPolicy(minimum_number_of_calls=10, jitter=0.0, successes_to_close=3)
BY_RUN = CircuitPolicy(failure_rate_threshold=None, consecutive_failures=5, jitter=0.0)
TURN = 0.03


class Worker:
    """One of several in this process, whose turns are taken by hand."""

    def __init__(self, path: Path, clock: HandClock, policy: CircuitPolicy = BY_RATE) -> None:
        self.policy = policy
        self.host = Host(path, clock=clock)
        self.circuits = Breakers(clock=clock, wall_clock=lambda: 1e9)
        self.shared = SharedCircuits(
            self.host.directory, self.circuits, clock=clock, has_thread=False
        )
        self.segment, self._leave = self.host.open_segment()
        self.shared.begin(self.segment)

    @property
    def breaker(self) -> CircuitBreaker:
        return self.circuits.of("x", self.policy)

    @property
    def state(self) -> CircuitState:
        return self.breaker.state

    def calls(self, good: int = 0, bad: int = 0) -> None:
        for number in range(good + bad):
            permit = self.breaker.allow()
            if number < good:
                self.breaker.record_success(permit)
            else:
                self.breaker.record_failure(permit)

    def leave(self) -> None:
        self.shared.end()
        self.segment.close()
        self._leave()


class Crowd:
    """Workers of one host with one clock."""

    def __init__(self, path: Path) -> None:
        self.path, self.clock = path, HandClock()
        self.workers: list[Worker] = []

    def add(self, number: int = 1, policy: CircuitPolicy = BY_RATE) -> list[Worker]:
        made = [Worker(self.path, self.clock, policy) for _ in range(number)]
        for each in made:
            assert each.breaker is not None
        self.workers += made
        return made

    def turn(self, times: int = 1) -> None:
        for _ in range(times):
            for each in self.workers:
                each.shared.turn()
            self.clock.move(TURN)

    def pass_time(self, seconds: float) -> None:
        self.clock.move(seconds)

    def states(self) -> list[CircuitState]:
        return [each.state for each in self.workers]


@pytest.fixture
def crowd(tmp_path: Path) -> Crowd:
    return Crowd(tmp_path / "record")


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="asgi_errorkit.breaker")


def nothing_failed(crowd: Crowd) -> bool:
    told = [each.shared.as_dict() for each in crowd.workers]
    return all((each["errors"], each["unread"]) == (0, 0) for each in told)


# Opening


def test_what_fails_at_two_workers_opens_for_both(crowd: Crowd) -> None:
    """Neither has seen enough calls by itself; together they have."""
    first, second = crowd.add(2)
    first.calls(bad=5)
    crowd.turn(2)
    assert crowd.states() == [CLOSED, CLOSED]
    second.calls(bad=5)
    crowd.turn(2)
    assert crowd.states() == [OPEN, OPEN]
    assert nothing_failed(crowd)


def test_a_local_fault_opens_one_worker_alone(crowd: Crowd) -> None:
    """Of all calls of the host too few have failed."""
    first, second = crowd.add(2)
    second.calls(good=90)
    first.calls(bad=10)
    crowd.turn(5)
    assert crowd.states() == [OPEN, CLOSED]
    assert nothing_failed(crowd)


def test_who_knows_nothing_waits_for_who_does(crowd: Crowd) -> None:
    """The third has no calls; what the second has seen speaks for it, though it told nobody before."""
    _, second, third = crowd.add(3)
    second.calls(good=90)
    crowd.turn(2)
    crowd.workers[0].calls(bad=10)
    third.shared.turn()
    third.shared.turn()
    crowd.turn(5)
    assert crowd.states() == [OPEN, CLOSED, CLOSED]


def test_who_fares_well_follows_when_all_together_do_not(crowd: Crowd) -> None:
    first, second, third = crowd.add(3)
    second.calls(good=12)
    first.calls(bad=10)
    crowd.turn(3)
    assert crowd.states() == [OPEN, CLOSED, CLOSED]
    third.calls(bad=9)
    crowd.turn(3)
    assert crowd.states() == [OPEN, OPEN, OPEN]


@pytest.mark.parametrize(
    ("mode", "expected"),
    [("merged", [OPEN, CLOSED]), ("own", [OPEN, OPEN]), ("none", [OPEN, CLOSED])],
)
def test_the_policy_says_when_others_open(crowd: Crowd, mode: Any, expected: Any) -> None:
    first, second = crowd.add(2, replace(BY_RATE, across_workers=mode))
    second.calls(good=90)
    first.calls(bad=10)
    crowd.turn(4)
    assert crowd.states() == expected


@pytest.mark.parametrize(("mode", "is_open"), [("merged", True), ("own", True), ("none", False)])
def test_who_has_had_no_calls_goes_by_the_others(crowd: Crowd, mode: Any, is_open: bool) -> None:
    first, *_ = crowd.add(3, replace(BY_RATE, across_workers=mode))
    first.calls(bad=10)
    crowd.turn(2)
    assert crowd.states() == [OPEN] + [OPEN if is_open else CLOSED] * 2


def test_another_mode_is_refused() -> None:
    with pytest.raises(ValueError, match="one of 'merged', 'own' and 'none'; got 'all'"):
        CircuitPolicy(across_workers="all")  # type: ignore[arg-type]


def test_slow_calls_are_counted_together(crowd: Crowd) -> None:
    policy = replace(BY_RATE, slow_call_rate_threshold=0.5, slow_call_seconds=1.0)
    first, second = crowd.add(2, policy)
    for each in (first, second):
        for _ in range(5):
            each.breaker.record_success(each.breaker.allow(), seconds=2.0)
        crowd.turn(2)
    assert crowd.states() == [OPEN, OPEN]


def test_failures_in_a_row_are_counted_together(crowd: Crowd) -> None:
    first, second, third = crowd.add(3, BY_RUN)
    crowd.turn()
    first.calls(bad=3)
    crowd.turn(2)
    assert crowd.states() == [CLOSED] * 3
    second.calls(bad=2)
    crowd.turn(2)
    assert crowd.states() == [OPEN] * 3
    assert third.breaker.as_dict()["error_count"] == 5


def test_who_had_a_success_since_the_run_began_does_not_follow(crowd: Crowd) -> None:
    first, second, third = crowd.add(3, BY_RUN)
    crowd.turn()
    first.calls(bad=3)
    crowd.turn()
    third.calls(good=1)
    crowd.turn()
    second.calls(bad=2)
    crowd.turn(3)
    assert crowd.states() == [OPEN, OPEN, CLOSED]
    third.calls(bad=4)
    crowd.turn()
    assert third.state is CLOSED  # its own run counts from its success on
    third.calls(bad=1)
    assert third.state is OPEN


def test_a_success_counts_also_when_a_failure_follows_before_anybody_looks(crowd: Crowd) -> None:
    first, second = crowd.add(2, BY_RUN)
    crowd.turn()
    first.calls(bad=4)
    crowd.turn()
    second.calls(good=1)
    crowd.pass_time(0.001)
    second.calls(bad=1)
    crowd.turn(3)
    assert crowd.states() == [OPEN, CLOSED]


def test_a_success_ends_a_run_wherever_it_is_counted(crowd: Crowd) -> None:
    first, second = crowd.add(2, BY_RUN)
    crowd.turn()
    first.calls(bad=4)
    crowd.turn()
    first.calls(good=1)
    crowd.pass_time(1.0)
    crowd.turn(2)
    second.calls(bad=4)
    crowd.turn(3)
    assert crowd.states() == [CLOSED, CLOSED]


def test_runs_older_than_the_window_do_not_count(crowd: Crowd) -> None:
    first, second = crowd.add(2, replace(BY_RUN, window_seconds=10.0))
    first.calls(bad=4)
    crowd.turn()
    crowd.pass_time(11.0)
    second.calls(bad=1)
    crowd.turn(2)
    assert crowd.states() == [CLOSED, CLOSED]


def test_the_mark_of_a_success_is_no_failure(crowd: Crowd) -> None:
    """A breaker that is looked at opens at as many failures as one that is not."""
    (only,) = crowd.add(1, BY_RUN)
    crowd.turn(3)
    only.calls(bad=4)
    crowd.turn(3)
    assert only.state is CLOSED
    only.calls(bad=1)
    assert only.state is OPEN


# What is known of it


def test_who_follows_tells_the_same(crowd: Crowd) -> None:
    """Since when, for how many errors, at which threshold, and when to come again."""
    first, second = crowd.add(2)
    first.calls(bad=10)
    crowd.turn(2)
    told = [each.breaker.as_dict() for each in (first, second)]
    for name in ("state", "error_count", "threshold", "triggered_at", "retry_after_seconds"):
        assert told[0][name] == told[1][name], name
    assert told[1]["error_count"] == 10


def test_each_worker_tells_its_listeners(crowd: Crowd) -> None:
    seen: list[Any] = []
    first, second = crowd.add(2)
    second.circuits.add_listener(seen.append)
    first.calls(bad=10)
    crowd.turn(2)
    assert [(each.was, each.now) for each in seen] == [(CLOSED, OPEN)]


# Closing


def probe(worker: Worker, *, is_good: bool = True) -> None:
    permit = worker.breaker.allow()
    assert permit
    if is_good:
        worker.breaker.record_success(permit)
    else:
        worker.breaker.record_failure(permit)


def opened(crowd: Crowd, workers: int, policy: CircuitPolicy = BY_RATE) -> list[Worker]:
    made = crowd.add(workers, policy)
    made[0].calls(bad=10)
    crowd.turn(3)
    assert crowd.states() == [OPEN] * workers
    crowd.pass_time(policy.open_seconds)
    return made


def test_probes_of_all_workers_close_it_for_all(crowd: Crowd) -> None:
    """It takes as many as the policy says, not as many at each."""
    first, second, third = opened(crowd, 3)
    probe(first)
    crowd.turn(2)
    probe(second)
    crowd.turn(2)
    assert HALF_OPEN in crowd.states() and CLOSED not in crowd.states()
    probe(third)
    crowd.turn(3)
    assert crowd.states() == [CLOSED] * 3
    crowd.turn(5)
    assert crowd.states() == [CLOSED] * 3, "what the others told before must not open it again"


def test_a_probe_that_fails_opens_it_for_all(crowd: Crowd) -> None:
    first, second = opened(crowd, 2)
    probe(second)
    crowd.turn(2)
    probe(first, is_good=False)
    crowd.turn(2)
    assert crowd.states() == [OPEN, OPEN]
    crowd.pass_time(5.0)
    assert crowd.states() == [OPEN, OPEN], "the second time is twice as long"
    crowd.pass_time(5.0)
    assert crowd.states() == [HALF_OPEN, HALF_OPEN]
    probe(first)
    crowd.turn(2)
    assert second.state is HALF_OPEN, "successes before it opened again count no more"


def test_who_opened_alone_closes_alone(crowd: Crowd) -> None:
    """What one has opened for by itself no success of another can judge."""
    first, second, third = crowd.add(3)
    third.calls(good=90)
    crowd.turn(1)
    first.calls(bad=10)
    second.calls(bad=10)
    crowd.turn(5)
    assert crowd.states() == [OPEN, OPEN, CLOSED]
    crowd.pass_time(5.0)
    for _ in range(3):
        probe(first)
        crowd.turn(2)
    assert crowd.states() == [CLOSED, HALF_OPEN, CLOSED]


def test_quiet_closes_for_all(crowd: Crowd) -> None:
    first, second = opened(crowd, 2, replace(BY_RATE, quiet_seconds=3.0))
    assert first.state is HALF_OPEN
    crowd.pass_time(3.0)
    assert first.state is CLOSED
    crowd.turn(2)
    assert second.state is CLOSED


def test_a_new_fault_opens_it_again(crowd: Crowd) -> None:
    first, second = opened(crowd, 2)
    for _ in range(3):
        probe(first)
    crowd.turn(2)
    assert crowd.states() == [CLOSED, CLOSED]
    second.calls(bad=10)
    crowd.turn(2)
    assert crowd.states() == [OPEN, OPEN]


# By hand


@pytest.mark.parametrize("mode", ["merged", "own", "none"])
@pytest.mark.parametrize(
    ("do", "state"),
    [
        ("force_open", CircuitState.FORCED_OPEN),
        ("disable", CircuitState.DISABLED),
        ("metrics_only", CircuitState.METRICS_ONLY),
        ("open", OPEN),
    ],
)
def test_what_is_done_by_hand_holds_for_the_host(
    crowd: Crowd, mode: Any, do: str, state: CircuitState
) -> None:
    first, second = crowd.add(2, replace(BY_RATE, across_workers=mode))
    second.calls(good=90)
    getattr(first.breaker, do)()
    crowd.turn(2)
    assert crowd.states() == [state, CLOSED if mode == "none" else state]
    second.breaker.reset()
    crowd.turn(2)
    assert crowd.states() == [state if mode == "none" else CLOSED, CLOSED]


def test_what_is_done_by_hand_outdoes_what_happens_at_the_same_time(crowd: Crowd) -> None:
    first, second = crowd.add(2)
    first.breaker.force_open()
    crowd.pass_time(0.001)
    second.calls(bad=10)
    assert crowd.states() == [CircuitState.FORCED_OPEN, OPEN]
    crowd.turn(3)
    assert crowd.states() == [CircuitState.FORCED_OPEN] * 2


def test_a_reset_forgets_everywhere(crowd: Crowd) -> None:
    first, second = crowd.add(2)
    first.calls(bad=5)
    second.calls(bad=4)
    crowd.turn(2)
    first.breaker.reset()
    crowd.turn(2)
    assert second.breaker.as_dict()["calls"] == 0
    first.calls(bad=5)
    crowd.turn(3)
    assert crowd.states() == [CLOSED, CLOSED]


def test_what_one_has_followed_it_tells_others(crowd: Crowd) -> None:
    """Who did it by hand may be gone."""
    first, second, third = crowd.add(3)
    crowd.workers.remove(third)
    second.calls(bad=3)
    first.breaker.reset()
    crowd.turn(2)
    crowd.workers.remove(first)
    first.leave()
    crowd.turn(2)
    third.calls(bad=3)
    third.shared.turn()
    assert third.breaker.told().hand == second.breaker.told().hand > 0


def test_what_is_forced_open_by_policy_is_reset_for_all(crowd: Crowd) -> None:
    """Also for a worker that starts later."""
    policy = replace(BY_RATE, initial_state=CircuitState.FORCED_OPEN)
    first, _ = crowd.add(2, policy)
    crowd.turn(2)
    assert crowd.states() == [CircuitState.FORCED_OPEN] * 2
    first.breaker.reset()
    crowd.turn(2)
    crowd.add(1, policy)
    crowd.turn()
    assert crowd.states() == [CLOSED] * 3


def test_metrics_only_by_policy_is_left_by_hand_alone(crowd: Crowd) -> None:
    """While it is rolled out to one worker after the other."""
    crowd.add(1, replace(BY_RATE, initial_state=CircuitState.METRICS_ONLY))
    (second,) = crowd.add(1, replace(BY_RATE, across_workers="own"))
    second.calls(bad=10)
    crowd.turn(3)
    assert crowd.states() == [CircuitState.METRICS_ONLY, OPEN]


# Who comes and goes


@pytest.mark.parametrize("do", ["calls", "force_open"])
def test_a_breaker_that_is_made_later_begins_as_the_others_are(crowd: Crowd, do: str) -> None:
    (first,) = crowd.add(1)
    second = Worker(crowd.path, crowd.clock)
    if do == "calls":
        first.calls(bad=10)
    else:
        first.breaker.force_open()
    first.shared.turn()
    second.shared.turn()
    assert second.circuits.get("x") is None
    assert second.breaker.is_open
    assert not second.breaker.allow()


def test_a_worker_that_comes_later_knows_what_was_closed(crowd: Crowd) -> None:
    """Though another, that was held up, still tells of the time before."""
    first, second = opened(crowd, 2)
    for _ in range(3):
        probe(first)
    first.shared.turn()  # the second has not looked since
    third = Worker(crowd.path, crowd.clock)
    third.shared.turn()
    assert third.state is CLOSED
    crowd.turn(2)
    assert second.state is CLOSED


def test_what_the_dead_have_told_is_not_heard(
    crowd: Crowd, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = crowd.add(2, replace(BY_RATE, across_workers="own"))
    crowd.pass_time(1.0)
    first.calls(bad=10)
    monkeypatch.setattr(siblings_module, "life_of", lambda _: Life.DEAD)
    second.shared.turn()
    assert second.state is CLOSED


def test_who_cannot_be_asked_is_heard_while_it_beats(
    crowd: Crowd, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of another container, say."""
    monkeypatch.setattr(siblings_module, "life_of", lambda _: Life.UNKNOWN)
    first, second = crowd.add(2, replace(BY_RATE, across_workers="own"))
    first.calls(bad=5)
    first.segment.beat(crowd.clock(), 0.0, 0.0, 0)
    crowd.turn(2)
    assert second.shared.as_dict()["workers"] == 1
    crowd.pass_time(11.0)
    second.segment.beat(crowd.clock(), 0.0, 0.0, 0)
    crowd.turn()
    assert second.shared.as_dict()["workers"] == 0


def test_an_opening_does_not_outlast_its_time_when_its_worker_dies(crowd: Crowd) -> None:
    first, second = crowd.add(2)
    first.calls(bad=10)
    crowd.turn(2)
    crowd.workers.remove(first)
    first.leave()
    crowd.turn(2)
    assert second.state is OPEN
    crowd.pass_time(5.0)
    for _ in range(3):
        probe(second)
    assert second.state is CLOSED


def test_who_has_a_new_segment_tells_all_again(crowd: Crowd) -> None:
    first, second = crowd.add(2)
    first.leave()
    first.calls(bad=10)
    crowd.turn(2)
    assert second.state is CLOSED
    first.segment, first._leave = first.host.open_segment()
    first.shared.begin(first.segment)
    crowd.turn(2)
    assert second.state is OPEN


def test_a_directory_that_goes_away_leaves_each_alone(
    crowd: Crowd, caplog: pytest.LogCaptureFixture
) -> None:
    """It is said once, and no call fails for it."""
    first, second = crowd.add(2)
    crowd.turn()
    for each in crowd.workers:
        each.host.directory.close()
    first.calls(bad=10)
    crowd.pass_time(2.0)
    crowd.turn(3)
    assert crowd.states() == [OPEN, CLOSED]
    assert first.shared.as_dict()["errors"] > 1
    said = [each for each in caplog.records if each.name == "asgi_errorkit.spool"]
    assert len(said) == 2
    assert second.breaker.allow()


def test_the_shared_file_may_be_removed(crowd: Crowd) -> None:
    """Whoever looks next makes another; nobody is cut off for more than a second."""
    first, _ = crowd.add(2)
    crowd.turn()
    (crowd.path / "circuits.lock").unlink()
    crowd.pass_time(1.0)
    crowd.turn()
    first.calls(bad=10)
    crowd.turn(2)
    assert crowd.states() == [OPEN, OPEN]
    assert (crowd.path / "circuits.lock").exists()


def test_what_has_no_room_is_counted(crowd: Crowd) -> None:
    """What is open is told of first."""
    first, second = crowd.add(2)
    for number in range(600):
        first.circuits.of(f"{'y' * 250}{number}", BY_RATE).record_failure()
    first.circuits.of("z" * 400, BY_RATE).record_failure()
    first.calls(bad=10)
    crowd.turn(2)
    assert second.state is OPEN
    assert first.shared.as_dict()["left_out"] > 400


def test_two_kits_of_one_process_are_two_workers(crowd: Crowd) -> None:
    first, second = crowd.add(2)
    crowd.turn()
    assert [each.shared.as_dict()["workers"] for each in (first, second)] == [1, 1]


# Routes


def test_a_circuit_that_requests_have_made_elsewhere_is_made_here(crowd: Crowd) -> None:
    """Where requests make circuits of the same policy."""
    workers = crowd.add(3)
    policy = replace(BY_RATE, window_calls=50)
    for each in workers[:2]:
        each.circuits.know(replace(policy))
    crowd.turn()
    made = workers[0].circuits.of("GET /pay", policy, is_named=False)
    made.record_failure(made.allow())
    crowd.turn(2)
    there = workers[1].circuits.get("GET /pay")
    assert there is not None and there.state is CLOSED
    assert there.policy == policy
    assert workers[2].circuits.get("GET /pay") is None
    for _ in range(9):
        made.record_failure(made.allow())
    crowd.turn(5)
    assert there.state is OPEN


def test_a_named_circuit_is_not_made_by_others(crowd: Crowd) -> None:
    first, second = crowd.add(2)
    second.circuits.know(BY_RATE)
    first.circuits.know(BY_RATE)
    first.circuits.of("model:sdxl", BY_RATE).force_open()
    crowd.turn(2)
    assert second.circuits.get("model:sdxl") is None
    assert second.circuits.of("model:sdxl", BY_RATE).is_open


# The places of probes


@pytest.mark.parametrize("most", [1, 3])
def test_probes_are_so_many_on_the_host(crowd: Crowd, most: int) -> None:
    policy = replace(BY_RATE, max_concurrent_probes=most, successes_to_close=100)
    workers = opened(crowd, 4, policy)
    permits = [(each, each.breaker.allow()) for each in workers for _ in range(2)]
    taken = [(each, permit) for each, permit in permits if permit]
    assert len(taken) == most
    worker, permit = taken[0]
    worker.breaker.record_success(permit)
    assert workers[-1].breaker.allow(), "its place is given back"


def give_back(how: str, worker: Worker, permit: int, crowd: Crowd) -> None:
    if how == "ignored":
        worker.breaker.record_ignored(permit)
    elif how == "failure":
        worker.breaker.record_failure(permit)
    elif how == "success":
        worker.breaker.record_success(permit)
    elif how == "expiry":
        crowd.pass_time(worker.policy.probe_seconds + 1.0)
        worker.shared.turn()  # nobody asks there any more
    elif how == "reset":
        worker.breaker.reset()
    else:
        worker.breaker.force_open()


@pytest.mark.parametrize("how", ["ignored", "failure", "success", "expiry", "reset", "force"])
def test_a_place_is_given_back_however_a_probe_ends(crowd: Crowd, how: str) -> None:
    first, second = opened(crowd, 2)
    permit = first.breaker.allow()
    assert permit
    assert not second.breaker.allow()
    give_back(how, first, permit, crowd)
    assert second.breaker.allow()


def test_a_breaker_that_is_forgotten_gives_its_places_back(crowd: Crowd) -> None:
    first, second = opened(crowd, 2)
    assert first.breaker.allow()
    assert not second.breaker.allow()
    del first.circuits._breakers["x"]
    assert second.breaker.allow()


def test_without_locks_each_worker_has_its_own(
    crowd: Crowd, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fcntl

    def fails(*_: Any) -> None:
        raise OSError(37, "no locks available")

    first, second = opened(crowd, 2)
    monkeypatch.setattr(fcntl, "lockf", fails)
    assert first.breaker.allow()
    assert not first.breaker.allow()
    assert second.breaker.allow()
    assert [each.shared.as_dict()["probes_alone"] for each in (first, second)] == [1, 1]


def test_circuits_of_other_names_have_other_places(crowd: Crowd) -> None:
    first, second = crowd.add(2)
    for name in ("a", "b"):
        for each in (first, second):
            each.circuits.of(name, BY_RATE).open()
    crowd.pass_time(6.0)
    assert first.circuits.of("a").allow()
    assert second.circuits.of("b").allow()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_a_forked_child_holds_no_places_and_is_heard_by_itself(crowd: Crowd) -> None:
    first, second = opened(crowd, 2)
    assert first.breaker.allow()
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            told = [first.breaker.allow() > 0, first.shared._segment is None]
            first.breaker.reset()
            os.write(write, repr(told).encode())
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    assert os.read(read, 100) == b"[False, True]"
    os.close(read)
    os.close(write)
    assert not second.breaker.allow(), "the parent's place is the parent's"


# Whatever happens


class Walk:
    """Random steps of several workers, and what must be so when all have heard of each other."""

    def __init__(self, path: Path, seed: int, mode: Any) -> None:
        self.dice = random.Random(seed)
        self.policy = replace(
            BY_RATE,
            across_workers=mode,
            consecutive_failures=self.dice.choice([None, 4]),
            window_seconds=self.dice.choice([None, 20.0]),
            quiet_seconds=self.dice.choice([None, None, 8.0]),
            max_concurrent_probes=self.dice.choice([1, 2]),
            jitter=0.2,
        )
        kinds = ["call"] * 12 + ["turn"] * 8 + ["time"] * 4 + ["give"] * 6 + ["come", "go"]
        self.kinds = kinds + ["hand"] * (seed % 2)
        self.crowd = Crowd(path)
        self.crowd.add(3, self.policy)
        self.probing: list[tuple[Worker, int]] = []

    def step(self) -> None:
        worker = self.dice.choice(self.crowd.workers)
        getattr(self, self.dice.choice(self.kinds))(worker)

    def call(self, worker: Worker) -> None:
        for _ in range(self.dice.randrange(1, 8)):
            permit = worker.breaker.allow()
            if worker.breaker.state is HALF_OPEN and permit:
                self.probing.append((worker, permit))
            elif self.dice.random() < 0.6:
                worker.breaker.record_failure(permit or None)
            else:
                worker.breaker.record_success(permit or None)

    def turn(self, worker: Worker) -> None:
        worker.shared.turn()

    def time(self, _: Worker) -> None:
        self.crowd.pass_time(self.dice.choice([0.01, 0.1, 1.0, 6.0]))

    def give(self, _: Worker) -> None:
        if self.probing:
            worker, permit = self.probing.pop(self.dice.randrange(len(self.probing)))
            name = self.dice.choice(["success"] * 4 + ["failure", "ignored"])
            getattr(worker.breaker, f"record_{name}")(permit)

    def hand(self, worker: Worker) -> None:
        name = self.dice.choice(["reset"] * 4 + ["open", "force_open", "disable", "metrics_only"])
        getattr(worker.breaker, name)()

    def come(self, _: Worker) -> None:
        if len(self.crowd.workers) < 5:
            self.crowd.add(1, self.policy)

    def go(self, worker: Worker) -> None:
        if len(self.crowd.workers) > 2:
            self.crowd.workers.remove(worker)
            self.probing = [each for each in self.probing if each[0] is not worker]
            worker.leave()
            worker.breaker._begin(worker.breaker._state)  # as the system gives back what it held

    def settle(self) -> None:
        """Nothing happens any more, and everybody looks."""
        for _ in range(12):
            self.crowd.turn()
        assert nothing_failed(self.crowd)
        told = [each.breaker.told() for each in self.crowd.workers]
        assert len({(each.hand, each.era) for each in told}) == 1, told
        of_all = {each.state for each in told if each.since == each.era}
        by_hand = of_all & BY_HAND
        assert not by_hand or len(of_all) == 1, told
        if self.policy.across_workers == "own":
            assert len({"open" if s is HALF_OPEN else s.value for s in of_all}) == 1, told
        probes = [each.breaker.as_dict()["probes"] for each in self.crowd.workers]
        assert sum(probes) <= self.policy.max_concurrent_probes
        held = [len(each.breaker._places._held) for each in self.crowd.workers]  # type: ignore[union-attr]
        assert held == probes


@pytest.mark.parametrize("mode", ["merged", "own"])
@pytest.mark.parametrize("seed", range(12))
def test_whatever_happens_all_come_to_agree(tmp_path: Path, seed: int, mode: Any) -> None:
    """On what is the whole host's; and there are never more probes than the policy says."""
    walk = Walk(tmp_path / "record", seed, mode)
    for _ in range(6):
        for _ in range(30):
            walk.step()
        walk.settle()


def test_without_a_segment_what_has_changed_does_not_pile_up(
    crowd: Crowd, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when the disk was full, and names are those of clients."""
    monkeypatch.setattr(circuits_module, "_MOST_NAMES", 100)
    circuits = Breakers(maximum=5, clock=crowd.clock, wall_clock=lambda: 1e9)
    shared = SharedCircuits(Host(crowd.path).directory, circuits, clock=crowd.clock)
    for number in range(1000):
        circuits.of(f"tenant-{number}", BY_RATE).record_failure()
    assert len(shared._changed) <= 101


def test_without_a_thread_to_be_had_it_is_counted(
    crowd: Crowd, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(_: Any) -> None:
        raise RuntimeError("can't start new thread")

    (worker,) = crowd.add(1)
    shared = SharedCircuits(worker.host.directory, worker.circuits, clock=crowd.clock)
    monkeypatch.setattr(threading.Thread, "start", fails)
    shared.begin(worker.segment)
    assert shared.as_dict()["errors"] == 1
    monkeypatch.undo()
    shared.begin(worker.segment)
    assert shared._thread is not None
    shared.end()


def test_what_is_no_file_of_ours_is_not_used(crowd: Crowd) -> None:
    os.mkfifo(Host(crowd.path).directory.path / "circuits.lock")
    first, _ = crowd.add(2)
    first.calls(bad=10)
    crowd.turn(2)
    assert crowd.states() == [OPEN, CLOSED]
    assert first.shared.as_dict()["errors"] > 0
    first.breaker.open()
    crowd.pass_time(6.0)
    assert first.breaker.allow()
    assert first.shared.as_dict()["probes_alone"] == 1


def test_a_segment_that_is_none_is_counted(crowd: Crowd) -> None:
    first, second = crowd.add(2)
    name = next(each.name for each in crowd.path.glob("worker-*") if each.name)
    (crowd.path / f"{name[:-11]}0000000a.ek").write_bytes(b"x" * 5000)
    crowd.pass_time(1.0)
    first.calls(bad=10)
    crowd.turn(3)
    assert second.state is OPEN
    assert second.shared.as_dict()["unread"] > 0
