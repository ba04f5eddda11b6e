"""The recorder brings every record to every sink, once, and survives what its surroundings do."""

import asyncio
import gc
import logging
import os
import signal
import subprocess
import sys
import textwrap
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from asgi_errorkit import ErrorKit, ErrorTracker, ErrorType, StructuredLoggingMiddleware
from asgi_errorkit.exchange import (
    AMID,
    END,
    ENDED,
    ID,
    JOINED,
    KIND,
    LOGGED,
    SCOPE,
    START,
    TAKEN,
    Record,
    announcement,
    begin,
)
from asgi_errorkit.recorder import BATCH, Batch, Recorder, tell_joined
from asgi_errorkit.testing import HandClock, LogLines, http_scope, request


def recorder_of(clock: HandClock | None = None, **options: Any) -> Recorder:
    clock = clock or HandClock()
    return Recorder(clock=clock, wall_clock=lambda: clock() + 1e9, flush_seconds=None, **options)


def publish(recorder: Recorder, name: str = "a") -> None:
    state = begin(http_scope(), {}, name, recorder.clock, 0.0)
    recorder.open(state)
    recorder.finish(state)


class Kept:
    def __init__(self) -> None:
        self.records: list[Record] = []
        self.offsets: list[float] = []
        self.sizes: list[int] = []

    def __call__(self, batch: Batch) -> None:
        self.records += batch.records
        self.sizes.append(len(batch.records))
        self.offsets.append(batch.offset)

    @property
    def ids(self) -> list[str]:
        return [record[ID] for record in self.records]


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"ring_capacity": 64}, ValueError, "ring_capacity must be a whole number between 128 and"),
        ({"ring_capacity": 2**40}, ValueError, "ring_capacity must be a whole number between 128"),
        ({"ring_capacity": 1000}, ValueError, "ring_capacity must be a power of two, e.g. 4096"),
        ({"ring_capacity": "x"}, TypeError, "ring_capacity must be a whole number"),
        ({"ring_capacity": 4096.0}, TypeError, "ring_capacity must be a whole number"),
        ({"flush_seconds": 0}, ValueError, "flush_seconds must be a number above 0"),
        (
            {"flush_seconds": float("inf")},
            ValueError,
            "above 0 and at most 86400, e.g. 0.1; got inf",
        ),
        ({"flush_seconds": "x"}, TypeError, "flush_seconds must be a number above 0"),
        ({"sample_seconds": -1}, ValueError, "sample_seconds must be a number above 0"),
        ({"sample_seconds": None}, TypeError, "sample_seconds must be a number above 0"),
        ({"clock": 5}, TypeError, "clock must be a callable that takes no argument; got 5"),
        ({"clock": lambda now: now}, TypeError, r"no argument; got .*<lambda>\(now\)"),
        ({"wall_clock": None}, TypeError, "wall_clock must be a callable that takes no argument"),
    ],
)
def test_bad_options_are_refused_with_a_reason(
    options: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        Recorder(**options)


def test_a_drain_brings_everything_to_every_sink_in_order() -> None:
    recorder, first, second = recorder_of(), Kept(), Kept()
    recorder.add_sink(first)
    recorder.add_sink(first)
    recorder.add_sink(second)
    for name in "abc":
        publish(recorder, name)
    recorder.drain()
    assert first.ids == second.ids == ["a", "b", "c"]
    assert first.offsets == [1e9]
    assert recorder.counts() == {"produced": 3, "taken": 3, "lost": 0, "sink_errors": 0}


def test_a_full_batch_drains_itself() -> None:
    recorder, kept = recorder_of(), Kept()
    recorder.add_sink(kept)
    for _ in range(BATCH - 1):
        publish(recorder)
    assert kept.records == []
    publish(recorder)
    assert len(kept.records) == BATCH


def test_a_broken_sink_is_counted_told_once_and_stops_no_other(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def broken(batch: Batch) -> None:
        raise RuntimeError("sink")

    recorder, kept = recorder_of(), Kept()
    recorder.add_sink(broken)
    recorder.add_sink(kept)
    with caplog.at_level(logging.ERROR, "asgi_errorkit"):
        for _ in range(3):
            publish(recorder)
            recorder.drain()
    assert len(kept.records) == 3
    assert recorder.counts()["sink_errors"] == 3
    assert len(caplog.records) == 1


def test_a_broken_flusher_stops_no_other(caplog: pytest.LogCaptureFixture) -> None:
    recorder = recorder_of()
    flushed: list[str] = []

    def broken() -> None:
        raise OSError("full")

    recorder.add_flusher(broken)
    recorder.add_flusher(lambda: flushed.append("x"))
    recorder.flush()
    assert flushed == ["x"]
    assert recorder.sink_errors == 1


def test_a_sink_that_records_and_drains_neither_deadlocks_nor_recurses() -> None:
    recorder, kept = recorder_of(), Kept()
    depth: list[int] = []

    def recording(batch: Batch) -> None:
        depth.append(1)
        if len(depth) < 3:
            publish(recorder, f"inner{len(depth)}")
            recorder.drain()

    recorder.add_sink(recording)
    recorder.add_sink(kept)
    publish(recorder)
    for _ in range(3):
        recorder.drain()
    assert kept.ids == ["a", "inner1", "inner2"]


@contextmanager
def interrupted_by(handle: Callable[[], None]) -> Iterator[None]:
    """Call it from a signal handler, again and again, at any point of what runs in between.

    The timer is set anew at each handler's end: handlers that are slower than the timer would nest
    without end. It counts the process's own time and leaves the real one to the tests' time limit.
    """

    def handler(*_: object) -> None:
        handle()
        signal.setitimer(signal.ITIMER_VIRTUAL, 0.0005 if again else 0)

    again = True
    handle()  # coverage has a lock for each file that it sees for the first time
    before = signal.signal(signal.SIGVTALRM, handler)
    signal.setitimer(signal.ITIMER_VIRTUAL, 0.0005)
    try:
        yield
    finally:
        again = False
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no interval timers here")
def test_a_signal_handler_that_records_loses_nothing() -> None:
    """Handlers interrupt publications and drains at random points; the account stays exact."""
    recorder, kept = recorder_of(), Kept()
    recorder.add_sink(kept)
    handled: list[int] = []

    def handle() -> None:
        handled.append(1)
        publish(recorder, "signal")
        recorder.drain()

    produced = 0
    with interrupted_by(handle):
        while len(handled) < 50:
            publish(recorder)
            produced += 1
    recorder.drain()
    counts = recorder.counts()
    assert counts["produced"] == produced + len(handled)
    assert counts["taken"] + counts["lost"] == counts["produced"]
    assert len(kept.records) == counts["taken"]


def test_threads_have_rings_of_their_own_and_leave_their_counts_behind() -> None:
    recorder, kept = recorder_of(), Kept()
    recorder.add_sink(kept)

    def work(name: str) -> None:
        for _ in range(100):
            publish(recorder, name)

    threads = [threading.Thread(target=work, args=(str(n),)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    counts = recorder.counts()
    assert counts["produced"] == counts["taken"] == 800
    assert {name: kept.ids.count(name) for name in kept.ids} == {str(n): 100 for n in range(8)}
    gc.collect()
    recorder.drain()
    assert recorder._seats == []
    assert recorder.counts()["taken"] == 800


def test_concurrent_drains_bring_each_record_once() -> None:
    recorder, kept = recorder_of(ring_capacity=8192), Kept()
    recorder.add_sink(kept)
    done = threading.Event()

    def drain() -> None:
        while not done.is_set():
            recorder.drain()

    threads = [threading.Thread(target=drain) for _ in range(3)]
    for thread in threads:
        thread.start()
    for number in range(5000):
        publish(recorder, str(number))
    done.set()
    for thread in threads:
        thread.join()
    recorder.drain()
    assert kept.ids == [str(number) for number in range(5000)]


def test_what_goes_on_is_announced_to_the_log_once_and_before_its_end() -> None:
    recorder, log, other = recorder_of(), Kept(), Kept()
    recorder.add_log_sink(log, id(log))
    recorder.add_sink(other)
    state = begin(http_scope(), {}, "long", recorder.clock, 0.0, id(log))
    recorder.open(state)
    recorder.flush()
    recorder.flush()
    recorder.finish(state)
    recorder.flush()
    assert [record[KIND] for record in log.records] == [START, END]
    assert [record[KIND] for record in other.records] == [END]


def test_the_thread_drains_and_announces_in_portions_between_which_requests_go_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recorder, ends, log = recorder_of(), Kept(), Kept()
    recorder.add_sink(ends)
    recorder.add_log_sink(log, id(log))
    states = [
        begin(http_scope(), {}, str(number), recorder.clock, 0.0, id(log)) for number in range(900)
    ]
    with monkeypatch.context() as busy:  # as if another thread were draining
        busy.setattr(recorder, "drain_inline", lambda: None)
        for state in states:
            recorder.open(state)
        for _ in range(1000):
            publish(recorder)
    for _ in range(50):
        recorder.tick()
    assert (len(ends.records), len(log.records)) == (1000, 1900)
    assert max(ends.sizes + log.sizes) <= BATCH
    for state in states:
        recorder.finish(state)
    for _ in range(50):
        recorder.tick()
    assert [record[KIND] for record in log.records].count(START) == 900
    assert len(ends.records) == 1900
    assert recorder.unannounced == {} == recorder.amid


@pytest.mark.parametrize(("woken", "portions"), [(True, 1), (False, 8)])
def test_the_thread_writes_before_too_much_waits_to_be_written(
    woken: bool, portions: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At once where somebody has asked for it; however long traffic keeps it draining."""
    recorder, kept = recorder_of(), Kept()
    recorder.add_sink(kept)
    written: list[int] = []
    recorder.add_flusher(lambda: written.append(len(kept.records)))
    with monkeypatch.context() as busy:
        busy.setattr(recorder, "drain_inline", lambda: None)
        for _ in range(1000):
            publish(recorder)
    if woken:
        recorder.wake()
    recorder.tick()
    assert written == [portions * BATCH]
    assert recorder._wake.is_set()  # to go on at once


def test_a_request_that_drains_takes_no_more_than_its_portion() -> None:
    recorder, kept = recorder_of(), Kept()
    recorder.add_sink(kept)
    with recorder._drain_lock:
        drain, recorder._draining = recorder._draining, True  # somebody is at it, and takes long
        for _ in range(1000):
            publish(recorder)
        recorder._draining = drain
    assert kept.records == []
    recorder.drain_inline()
    assert kept.sizes == [BATCH, BATCH]  # it catches up
    recorder.drain()
    assert len(kept.records) == 1000


def test_what_has_ended_is_not_held_for_an_announcement_that_nobody_makes() -> None:
    recorder, kept = recorder_of(), Kept()
    recorder.add_log_sink(kept, id(kept))
    for _ in range(20):
        states = [begin(http_scope(), {}, "a", recorder.clock, 0.0, id(kept)) for _ in range(50)]
        for state in states:
            recorder.open(state)
        recorder.drain()
        for state in states:
            recorder.finish(state)
        recorder.drain()
    assert recorder.unannounced == {} == recorder.amid


def test_what_is_claimed_while_it_runs_is_announced_then() -> None:
    """By a frame further in, which a slow frame between the two has kept waiting."""
    recorder, log = recorder_of(), Kept()
    recorder.add_log_sink(log, id(log))
    state = begin(http_scope(), {}, "late", recorder.clock, 0.0)
    recorder.open(state)
    recorder.flush()
    state[LOGGED] = id(log)
    recorder.flush()
    assert [record[KIND] for record in log.records] == [START]


def test_a_flush_amid_an_announcement_tells_nothing_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a signal handler or a finalizer may, which may also end what is being announced."""
    recorder, log = recorder_of(), Kept()
    recorder.add_log_sink(log, id(log))
    first, second = (
        begin(http_scope(), {}, name, recorder.clock, 0.0, id(log)) for name in ("a", "b")
    )

    def interrupted(state: list[Any]) -> Record:
        recorder.flush()
        if state is first:
            recorder.finish(state)
            recorder.drain()
        return announcement(state)

    monkeypatch.setattr("asgi_errorkit.recorder.announcement", interrupted)
    for state in (first, second):
        recorder.open(state)
    recorder.flush()
    recorder.flush()
    told = [(record[ID], record[KIND]) for record in log.records]
    assert told == [("a", START), ("b", START), ("a", END)]


def test_a_guest_that_ends_is_not_announced_afterwards() -> None:
    recorder, log = recorder_of(), Kept()
    recorder.add_log_sink(log, id(log))
    state = begin(http_scope(), {}, "guest", recorder.clock, 0.0, id(log))
    state[JOINED] = (recorder,)
    recorder.guests[id(state)] = recorder.unannounced[id(state)] = state
    tell_joined(state)
    recorder.flush()  # before the state has let go of its scope
    assert [record[KIND] for record in log.records] == [END]


def test_a_portion_is_of_as_many_rings_as_it_takes() -> None:
    """With many threads each has little, and what is drained keeps up with what is produced."""
    recorder, kept = recorder_of(), Kept()
    recorder.add_sink(kept)
    threads = [threading.Thread(target=publish, args=(recorder,)) for _ in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    recorder.drain_inline()
    assert len(kept.records) == 40


def test_a_beginning_is_announced_to_the_sink_that_writes_the_lines_alone() -> None:
    recorder, first, second = recorder_of(), Kept(), Kept()
    recorder.add_log_sink(first, id(first))
    recorder.add_log_sink(second, id(second))
    states = [
        begin(http_scope(), {}, name, recorder.clock, 0.0, logged)
        for name, logged in (("a", id(second)), ("b", 0))
    ]
    for state in states:
        recorder.open(state)
    recorder.flush()
    assert (first.ids, second.ids) == ([], ["a"])


def test_threads_that_end_while_another_drains_are_told_of_once_each() -> None:
    """Whether the drain saw them end, or they saw that the drain had been there."""
    recorder, kept, done = recorder_of(), Kept(), threading.Event()
    recorder.add_sink(kept)

    def work(name: str) -> None:
        for number in range(2000):
            publish(recorder, f"{name}{number}")

    def drain() -> None:
        while not done.is_set():
            recorder.drain()

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        working = [threading.Thread(target=work, args=(name,)) for name in "abc"]
        draining = threading.Thread(target=drain)
        for thread in (draining, *working):
            thread.start()
        for thread in working:
            thread.join()
        done.set()
        draining.join()
    finally:
        sys.setswitchinterval(before)
    recorder.drain()
    recorder.drain()
    assert len(kept.ids) == len(set(kept.ids)) == 6000
    counts = recorder.counts()
    assert (counts["produced"], counts["taken"], recorder.in_flight()) == (6000, 6000, 0)


@pytest.mark.parametrize("number", [5_000, 20_000])
def test_of_any_number_that_begin_before_one_ends_none_is_lost(number: int) -> None:
    """More than the ring holds: what only begins drains too."""
    recorder, kept = recorder_of(), Kept()
    recorder.add_sink(kept)
    states = [begin(http_scope(), {}, str(n), recorder.clock, 0.0) for n in range(number)]
    for state in states:
        recorder.open(state)
    recorder.drain()
    assert recorder.in_flight() == number
    for state in states:
        recorder.finish(state)
    recorder.drain()
    assert len(set(kept.ids)) == len(kept.ids) == number
    assert recorder.counts()["produced"] == recorder.counts()["taken"] == number


class Ending(list[Any]):
    """An exchange that ends in the very moment in which the drain marks it as going on."""

    sees_the_mark: bool
    recorder: Recorder

    def __setitem__(self, place: Any, value: Any) -> None:
        super().__setitem__(place, value)
        if place == TAKEN and value == AMID:
            self[ENDED] = 1.0
            self[SCOPE] = None
            if self.sees_the_mark:
                self.recorder.publish(self)


@pytest.mark.parametrize("sees_the_mark", [True, False])
def test_what_ends_as_it_is_marked_is_told_of_once(sees_the_mark: bool) -> None:
    recorder, kept = recorder_of(), Kept()
    recorder.add_sink(kept)
    state = Ending(begin(http_scope(), {}, "a", recorder.clock, 0.0))
    state.sees_the_mark, state.recorder = sees_the_mark, recorder
    recorder.open(state)
    for _ in range(3):
        recorder.drain()
    assert kept.ids == ["a"]
    assert recorder.in_flight() == 0


async def test_statistics_can_be_read_by_another_thread_under_load() -> None:
    """Nothing is read while it is written: no torn sums, no dictionary that changes its size."""
    kit, failures, done = ErrorKit(answer), [], threading.Event()

    def read() -> None:
        while not done.is_set():
            try:
                stats = kit.get_performance_stats()
                assert sum(stats.get("outcomes", {}).values()) == stats["total_requests"]
                kit.get_error_stats()
                kit.tracker.groups()
            except Exception as error:
                failures.append(error)

    threads = [threading.Thread(target=read) for _ in range(2)]
    for thread in threads:
        thread.start()
    for number in range(3000):
        await request(kit, path=f"/{number % 7}/x{number % 300}")
    done.set()
    for thread in threads:
        thread.join()
    assert failures == []
    kit.tracker.recorder.close()


async def answer(scope: Any, receive: Any, send: Any) -> None:
    status = 500 if scope["path"].startswith("/3") else 200
    await send({"type": "http.response.start", "status": status, "headers": []})
    await send({"type": "http.response.body", "body": b""})


def test_threads_that_come_and_go_leave_no_ring_behind() -> None:
    """Also where nothing is served and nobody drains: an error told of in many short threads."""
    tracker = ErrorTracker(recorder=recorder_of())
    for _ in range(300):
        thread = threading.Thread(target=tracker.record_error, args=(ErrorType.CACHE,))
        thread.start()
        thread.join()
    assert len(tracker.recorder._seats) <= 70
    assert tracker.get_error_stats()["total_errors"] == 300


def test_without_a_thread_to_be_had_requests_are_served(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    recorder, kept = Recorder(), Kept()
    recorder.add_sink(kept)
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        recorder.start()
        publish(recorder)
    assert not recorder.running
    recorder.start()
    assert recorder.running
    recorder.close()
    assert kept.ids == ["a"]


def test_the_thread_flushes_what_no_batch_fills() -> None:
    recorder = Recorder(flush_seconds=0.01)
    arrived = threading.Event()
    recorder.add_sink(lambda batch: arrived.set())
    recorder.start()
    recorder.start()
    publish(recorder)
    assert arrived.wait(10)
    assert recorder.sampler.memory_mb > 0
    recorder.close()
    assert not recorder.running


def test_the_thread_ends_with_its_recorder() -> None:
    recorder = Recorder(flush_seconds=0.01)
    recorder.start()
    thread = recorder._thread
    assert thread is not None
    gone = weakref.ref(recorder)
    del recorder
    gc.collect()
    thread.join(10)
    assert not thread.is_alive()
    assert gone() is None


def run(source: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(source)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


PROGRAM = """
    import asyncio, os, sys
    from asgi_errorkit import ErrorKit
    from asgi_errorkit.testing import request

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    kit = ErrorKit(app)
"""


def test_at_exit_everything_is_written() -> None:
    lines = run(PROGRAM + '    asyncio.run(request(kit, path="/last"))\n').splitlines()
    assert ['"request_complete"' in line for line in lines] == [False, True]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_starts_anew_and_repeats_nothing_of_its_parent() -> None:
    out = run(
        PROGRAM
        + """
    asyncio.run(request(kit, path="/parent"))
    pid = os.fork()
    asyncio.run(request(kit, path="/child" if pid == 0 else "/parent-after"))
    kit.flush()
    assert kit.get_error_stats()["total_requests"] == (1 if pid == 0 else 2) or pid == 0
    sys.stdout.flush()
    if pid == 0:
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    """
    )
    completed = [line for line in out.splitlines() if '"request_complete"' in line]
    for path in ("/parent", "/child", "/parent-after"):
        assert sum(f'http://test{path}"' in line for line in completed) == 1
    ids = {line.split('"request_id":"')[1][:32] for line in completed}
    assert len(ids) == 3


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes like these here")
@pytest.mark.parametrize("requests", [1, 3000])
def test_a_process_whose_output_nobody_reads_ends_all_the_same(requests: int) -> None:
    """At its end it waits two seconds for a full pipe, and not for ever."""
    reading, writing = os.pipe()
    source = textwrap.dedent(
        PROGRAM
        + f"""
    async def main():
        for _ in range({requests}):
            await request(kit)

    asyncio.run(main())
    """
    )
    process = subprocess.Popen([sys.executable, "-c", source], stdout=writing)
    os.close(writing)
    try:
        assert process.wait(30) == 0
    finally:
        process.kill()
        os.close(reading)


def test_whoever_flushes_waits_until_the_thread_has_written() -> None:
    recorder = Recorder(flush_seconds=60)
    written: list[str] = []
    recorder.add_flusher(lambda: written.append(threading.current_thread().name))
    recorder.start()
    recorder.flush()
    recorder.flush()
    assert "asgi-errorkit" in written
    assert set(written) == {"asgi-errorkit"}
    recorder.close()
    recorder.flush()
    assert written[-1] == threading.current_thread().name


def test_a_writer_that_is_stuck_holds_nobody_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asgi_errorkit.recorder.PATIENCE_SECONDS", 0.01)
    recorder = Recorder(flush_seconds=60)
    stuck, let_go = threading.Event(), threading.Event()

    def write() -> None:
        stuck.set()
        let_go.wait(30)

    recorder.add_flusher(write)
    recorder.start()
    assert stuck.wait(30)
    recorder.flush()
    let_go.set()
    recorder.close()


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no interval timers here")
def test_a_signal_handler_that_reads_changes_nothing_that_is_being_read() -> None:
    """Statistics are read while nobody feeds the sinks, also not a handler on the same thread."""
    tracker = ErrorTracker(recorder=Recorder(flush_seconds=None))
    for number in range(300):
        tracker.record_error(ErrorType.CACHE, context={"exception": made(f"E{number}")})
    handled: list[int] = []

    def handle() -> None:
        handled.append(1)
        tracker.record_error(ErrorType.MODEL, context={"exception": made(f"H{len(handled)}")})
        tracker.get_error_stats()

    tracker.groups()  # coverage has a lock for each file that it sees for the first time
    with interrupted_by(handle):
        while len(handled) < 100:
            assert len(tracker.groups()) >= 300
    assert tracker.get_error_stats()["total_errors"] == 300 + len(handled)


def made(name: str) -> Exception:
    error: Exception = type(name, (Exception,), {})()
    return error


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no interval timers here")
def test_a_signal_handler_that_flushes_amid_a_drain_does_not_wait_for_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The thread could write only when the drain is over, which waits for the handler."""
    monkeypatch.setattr("asgi_errorkit.recorder.PATIENCE_SECONDS", threading.TIMEOUT_MAX)
    recorder, written = Recorder(flush_seconds=60), []
    recorder.add_flusher(lambda: written.append(1))
    interrupted: list[int] = []

    def slow(batch: Batch) -> None:
        signal.raise_signal(signal.SIGVTALRM)
        interrupted.append(len(written))

    recorder.add_sink(slow)
    recorder.start()
    before = signal.signal(signal.SIGVTALRM, lambda *_: recorder.flush())
    try:
        publish(recorder)
        recorder.drain()
    finally:
        signal.signal(signal.SIGVTALRM, before)
    assert len(interrupted) == 1
    recorder.close()


def test_a_flush_beside_a_close_is_never_left_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asked when the thread had taken its last turn is told by the one who closes."""
    recorder = Recorder(flush_seconds=60)
    written: list[int] = []
    recorder.start()
    recorder.add_flusher(lambda: written.append(1))
    asked = threading.Event()
    real_flush = recorder.flush

    def flush() -> None:
        real_flush()
        recorder._asked.append(asked)  # another, at this very moment

    monkeypatch.setattr(recorder, "flush", flush)
    recorder.close()
    assert asked.is_set() and written


async def test_a_kit_that_is_let_go_at_once_has_told_of_its_last_request() -> None:
    """Though its thread has not had a turn since."""
    told: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    lines = LogLines()
    kit: Any = StructuredLoggingMiddleware(
        app, stream=lines, on_request=lambda log: told.append(log.url), recorder=Recorder()
    )
    for number in range(3):
        await request(kit, path=f"/{number}")
    del kit
    gc.collect()
    while len(told) < 3:
        await asyncio.sleep(0.01)  # its thread tells
    assert [url.rpartition("/")[2] for url in told] == ["0", "1", "2"]
    assert len(lines.lines("request_complete")) == 3
