import asyncio
import gc
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import psutil
import pytest
import trio
import uvloop

from asgi_errorkit import process
from asgi_errorkit.process import ProcessSampler

DEADLINE_SECONDS = 30


class HandClock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


class LoopThread:
    """A thread with a real event loop that outsiders can make call something."""

    def __init__(self, kind):
        self.started = threading.Event()
        self.thread = threading.Thread(target=getattr(self, f"_run_{kind}"), daemon=True)
        self.thread.start()
        assert self.started.wait(DEADLINE_SECONDS)

    def _run_asyncio(self, loop_factory=None):
        async def main():
            self.call_soon = asyncio.get_running_loop().call_soon_threadsafe
            stopped = asyncio.Event()
            self.stop = stopped.set
            self.started.set()
            await stopped.wait()

        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(main())

    def _run_uvloop(self):
        self._run_asyncio(uvloop.new_event_loop)

    def _run_trio(self):
        async def main():
            self.call_soon = trio.lowlevel.current_trio_token().run_sync_soon
            with trio.CancelScope() as scope:
                self.stop = scope.cancel
                self.started.set()
                await trio.sleep_forever()

        trio.run(main)

    def call(self, function):
        """Run the function in the loop and wait until it has run."""
        done = threading.Event()
        self.call_soon(lambda: (function(), done.set()))
        assert done.wait(DEADLINE_SECONDS)

    @contextmanager
    def blocked(self):
        """The loop really stands still inside the block, for a bounded time."""
        entered, release = threading.Event(), threading.Event()
        self.call_soon(lambda: (entered.set(), release.wait(DEADLINE_SECONDS)))
        assert entered.wait(DEADLINE_SECONDS)
        try:
            yield
        finally:
            release.set()

    def end(self):
        if self.thread.is_alive():
            self.call_soon(self.stop)
            self.thread.join(DEADLINE_SECONDS)
        assert not self.thread.is_alive()


@pytest.fixture(params=["asyncio", "uvloop", "trio"])
def loop(request):
    thread = LoopThread(request.param)
    yield thread
    thread.end()


def sampled_until(sampler, holds):
    """Sample again and again until the sample is as wanted; the deadline is a failure."""
    deadline, pause = time.monotonic() + DEADLINE_SECONDS, threading.Event()
    while not holds(sample := sampler.sample(time.monotonic())):
        assert time.monotonic() < deadline, sample
        pause.wait(0.001)
    return sample


def ended_process():
    """A process that psutil knew and that is gone."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        known = psutil.Process(child.pid)
        child.communicate()
    return known


def test_what_psutil_refuses_keeps_the_last_figures():
    """A failure of psutil is counted, never raised; the figures stand and come back later."""
    sampler = ProcessSampler()
    before = sampler.sample(1.0)
    sampler._process = ended_process()
    kept = sampler.sample(2.0)
    assert kept == before._replace(at=2.0) == sampler.latest
    assert sampler.memory_mb == before.memory_mb > 0
    assert sampler.sample_errors == 1
    assert sampler.sample(3.0).memory_mb > 0
    assert sampler.sample_errors == 1


def test_a_failing_first_sample_leaves_zeros():
    """Nothing known yet and nothing to be learnt is zero, not an error."""
    sampler = ProcessSampler()
    sampler._process = ended_process()
    assert sampler.sample(2.0) == (0.0, 0.0, None, 0, None, 2.0)


def test_a_clock_that_stands_or_turns_back_keeps_the_cpu_figure():
    """No time passed means no rate: the former one stays."""
    sampler = ProcessSampler()
    sampler.sample(10.0)
    busy(0.05)
    known = sampler.sample(11.0).cpu_percent
    assert known > 0
    assert sampler.sample(11.0).cpu_percent == known
    assert sampler.sample(5.0).cpu_percent == known


def test_before_the_first_sample():
    """Readers find numbers from the start."""
    sampler = ProcessSampler()
    assert sampler.latest == (0.0, 0.0, None, 0, None, 0.0)
    assert (sampler.memory_mb, sampler.cpu_percent, sampler.sample_errors) == (0.0, 0.0, 0)


def test_the_first_sample_is_of_this_process():
    """Memory, open files and threads are this process's own; a rate needs a second sample."""
    sampler = ProcessSampler()
    sample = sampler.sample(12.5)
    true = psutil.Process()
    assert sample.memory_mb == pytest.approx(true.memory_info().rss / 2**20, rel=0.5)
    assert sample.threads >= 1
    assert sample.open_files > 0
    assert (sample.cpu_percent, sample.loop_lag_seconds, sample.at) == (0.0, None, 12.5)
    assert sampler.latest is sample
    assert (sampler.memory_mb, sampler.cpu_percent) == (sample.memory_mb, sample.cpu_percent)


def test_open_files_and_threads_are_counted():
    """An opened file and a started thread show in the next sample, of a process of its own."""
    source = """
import sys, threading
from asgi_errorkit.process import ProcessSampler

sampler = ProcessSampler()
before = sampler.sample(1.0)
release = threading.Event()
thread = threading.Thread(target=release.wait)
thread.start()
with open(sys.executable, "rb"):
    after = sampler.sample(2.0)
release.set()
thread.join()
assert after.threads == before.threads + 1, (before, after)
assert after.open_files == before.open_files + 1, (before, after)
"""
    subprocess.run([sys.executable, "-c", source], check=True, timeout=DEADLINE_SECONDS)


def busy(cpu_seconds):
    until = time.process_time() + cpu_seconds
    while time.process_time() < until:
        pass


def test_cpu_percent_is_cpu_time_over_wall_time():
    """A tenth of a second of work is 10 % of a second and 200 % of a twentieth."""
    sampler = ProcessSampler()
    sampler.sample(0.0)
    busy(0.1)
    of_a_second = sampler.sample(1.0).cpu_percent
    busy(0.1)
    of_a_twentieth = sampler.sample(1.05).cpu_percent
    resolution = 0.03  # the kernel counts in hundredths
    assert of_a_second > (0.1 - resolution) / 1.0 * 100
    assert of_a_twentieth > (0.1 - resolution) / 0.05 * 100 > 100


def test_construction_and_watching_import_nothing():
    """psutil waits for the first sample; asyncio and trio are never imported for the user."""
    code = (
        "import sys, asgi_errorkit.process\n"
        "before = set(sys.modules)\n"
        "sampler = asgi_errorkit.process.ProcessSampler()\n"
        "sampler.watch_loop()\n"
        "assert set(sys.modules) == before, set(sys.modules) - before\n"
        "assert 'psutil' not in before\n"
        "sampler.sample(1.0)\n"
        "new = set(sys.modules) - before\n"
        "assert 'psutil' in new and not {'asyncio', 'trio'} & new, new\n"
        "assert sampler.memory_mb > 0\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_thread_without_a_loop_is_not_watched():
    """No loop, no lag."""
    sampler = ProcessSampler()
    sampler.watch_loop()
    assert sampler._watched == {}
    assert sampler.sample(1.0).loop_lag_seconds is None


def test_a_half_imported_library_is_no_loop(monkeypatch):
    """While another thread imports trio, its module is there but empty."""
    monkeypatch.setitem(sys.modules, "trio", type(sys)("trio"))
    sampler = ProcessSampler()
    sampler.watch_loop()
    assert sampler._watched == {}


def test_a_blocked_loop_is_seen_while_blocked_and_after(loop):
    """An unanswered ping counts with its age, then with how late it was, then is forgotten."""
    clock = HandClock()
    sampler = ProcessSampler(clock=clock)
    loop.call(sampler.watch_loop)
    with loop.blocked():
        assert sampler.sample(1.0).loop_lag_seconds is None
        clock.now += 5.0
        assert sampler.sample(2.0).loop_lag_seconds == 5.0
        clock.now += 2.0
        assert sampler.sample(3.0).loop_lag_seconds == 7.0
    loop.call(lambda: None)
    clock.now += 100.0
    assert sampler.sample(4.0).loop_lag_seconds == 7.0
    loop.call(lambda: None)
    assert sampler.sample(5.0).loop_lag_seconds == 0.0


def test_only_the_first_answer_to_a_ping_counts():
    """A ping that trio runs twice, asked again while it was being answered, keeps its lag."""
    clock = HandClock()
    ping = process._Ping(clock)
    clock.now += 1.0
    ping()
    clock.now += 1.0
    ping()
    assert ping.lag == 1.0


def test_lag_grows_by_the_real_clock(loop):
    """With the default clock a blocked loop's lag keeps growing and ends with the block."""
    sampler = ProcessSampler()
    loop.call(sampler.watch_loop)
    with loop.blocked():
        first = sampled_until(sampler, lambda sample: sample.loop_lag_seconds is not None)
        later = sampled_until(
            sampler, lambda sample: sample.loop_lag_seconds > 2 * first.loop_lag_seconds
        )
    sampled_until(sampler, lambda sample: sample.loop_lag_seconds < later.loop_lag_seconds)


def test_the_worst_of_all_loops_is_reported(loop):
    """One blocked loop shows although another answers at once."""
    clock, other = HandClock(), LoopThread("asyncio")
    sampler = ProcessSampler(clock=clock)
    loop.call(sampler.watch_loop)
    other.call(sampler.watch_loop)
    with loop.blocked():
        sampler.sample(1.0)
        other.call(lambda: None)
        clock.now += 3.0
        assert sampler.sample(2.0).loop_lag_seconds == 3.0
    other.end()


def test_an_ended_loop_is_dropped_silently(loop):
    """What has ended is no lag, not even its open question, and counts as no error."""
    sampler = ProcessSampler()
    loop.call(sampler.watch_loop)
    sampler.sample(1.0)
    loop.end()
    assert sampler.sample(2.0).loop_lag_seconds is None
    assert sampler._watched == {}
    assert sampler.sample_errors == 0


def test_a_stopped_loop_that_stays_open_is_dropped():
    """A loop that is only run now and then does not look blocked in between."""
    clock = HandClock()
    sampler = ProcessSampler(clock=clock)
    loop = asyncio.new_event_loop()
    loop.call_soon(sampler.watch_loop)
    loop.call_soon(sampler.sample, 1.0)
    loop.call_soon(loop.stop)
    loop.run_forever()
    clock.now += 60.0
    assert sampler.sample(2.0).loop_lag_seconds is None
    assert sampler._watched == {}
    loop.close()


def test_a_watched_loop_is_not_kept_alive():
    """Watching holds no loop in memory, and one that vanished is dropped."""
    sampler = ProcessSampler()

    async def watch():
        sampler.watch_loop()

    asyncio.run(watch())
    (watched,) = sampler._watched.values()
    gc.collect()
    assert watched.loop() is None
    assert sampler.sample(1.0).loop_lag_seconds is None
    assert sampler._watched == {}


def test_the_next_loop_of_a_thread_is_watched_in_turn():
    """After the sample that finds the former loop ended, the thread's new one is known."""
    sampler, loops = ProcessSampler(), []

    async def watch():
        sampler.watch_loop()
        loops.append(asyncio.get_running_loop())
        assert [watched.loop() for watched in sampler._watched.values()] == loops[-1:]

    for _ in range(2):
        asyncio.run(watch())
        sampler.sample(1.0)


def test_watching_again_is_watching_once(loop):
    """Each request may ask; the loop is pinged once."""
    sampler = ProcessSampler()
    loop.call(sampler.watch_loop)
    (watched,) = sampler._watched.values()
    loop.call(sampler.watch_loop)
    assert list(sampler._watched.values()) == [watched]


def test_the_number_of_watched_loops_is_bounded(monkeypatch):
    """Threads without end do not fill the memory; the first ones stay watched."""
    monkeypatch.setattr(process, "MAX_LOOPS", 2)
    sampler, threads = ProcessSampler(), [LoopThread("asyncio") for _ in range(3)]
    for thread in threads:
        thread.call(sampler.watch_loop)
    assert set(sampler._watched) == {thread.thread.ident for thread in threads[:2]}
    for thread in threads:
        thread.end()


def test_after_a_fork_the_parent_is_forgotten(loop):
    """The child samples itself, starts its CPU time anew, and watches no loop of the parent."""
    sampler = ProcessSampler()
    loop.call(sampler.watch_loop)
    before = sampler.sample(1.0)
    sampler._process = ended_process()
    busy(0.05)
    sampler.reset_after_fork()
    assert sampler.latest == before
    assert sampler._watched == {}
    sample = sampler.sample(2.0)
    assert (sample.cpu_percent, sample.loop_lag_seconds) == (0.0, None)
    assert sample.memory_mb > 0
    assert sampler.sample_errors == 0
