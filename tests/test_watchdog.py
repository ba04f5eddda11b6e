"""The watchdog: who held the event loop up, and whom."""

import asyncio
import contextvars
import gc
import io
import json
import subprocess
import sys
import textwrap
import threading
import time
import weakref
from functools import partial
from types import SimpleNamespace

import pytest
import trio
import uvloop

from asgi_errorkit import (
    ErrorKit,
    MiddlewareStack,
    Recorder,
    StructuredLoggingMiddleware,
    loop_watch,
    oversleep,
)
from asgi_errorkit.blocks import Block, Blocks, mark
from asgi_errorkit.exchange import ENDED, EXTRA, OPENER, begin
from asgi_errorkit.loop_stack import Glimpse, base_of, blamed
from asgi_errorkit.loop_watch import LoopWatch
from asgi_errorkit.oversleep import Late, Used, Wait
from asgi_errorkit.redact import Redactor
from asgi_errorkit.watchdog import Watchdog, watchdog_of

LONG_SECONDS = 0.3  # three times the threshold, for machines that are busy
DEADLINE_SECONDS = 30
LOOPS = ["asyncio", "uvloop", "trio"]


def run(loop, main):
    if loop == "trio":
        return trio.run(main)
    factory = uvloop.new_event_loop if loop == "uvloop" else None
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(main())


async def sleep(loop, seconds):
    await (trio.sleep(seconds) if loop == "trio" else asyncio.sleep(seconds))


async def at_once(loop, *functions):
    """Run the functions in tasks side by side."""
    if loop == "trio":
        async with trio.open_nursery() as nursery:
            for function in functions:
                nursery.start_soon(function)
    else:
        async with asyncio.TaskGroup() as group:
            for function in functions:
                group.create_task(function())


async def request(kit, request_id, path="/"):
    async def receive():
        return {"type": "http.request"}

    async def send(message):
        return None

    scope = {"type": "http", "method": "GET", "path": path, "query_string": b"", "client": None}
    scope["headers"] = [(b"x-request-id", request_id.encode())]
    await kit(scope, receive, send)


async def answer(send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})


def watched(app, **options):
    """A kit with a watchdog that tells its log, and where that is written."""
    stream = io.StringIO()
    stack = MiddlewareStack()
    stack.add_middleware(StructuredLoggingMiddleware, stream=stream)
    kit = ErrorKit(app, stack=stack)
    dog = Watchdog(kit.tracker.recorder, **options)
    dog.on_block(kit.logging.lines.tell_block)
    return kit, dog, stream


def told(kit, stream, event):
    kit.flush()
    lines = map(json.loads, stream.getvalue().splitlines())
    return [line for line in lines if line["event"] == event]


def of(dog, function):
    """The latest block of a function; a machine that is busy may have others."""
    return next(each for each in dog.blocks() if each["where"].endswith(f" {function}"))


def run_until(is_seen, loop, main):
    """Run it again while a busy machine keeps the watchdog from looking, or leaves it no time."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    is_over = False
    while not is_over:
        # A thread of its own: the first request of a thread has the loop watched.
        thread = threading.Thread(target=run, args=(loop, main))
        thread.start()
        thread.join(DEADLINE_SECONDS)
        is_over = is_seen()
        assert is_over or time.monotonic() < deadline
        time.sleep(0.0 if is_over else LONG_SECONDS)  # until the watch of the former has gone


def has(dog, function):
    return lambda: any(block["where"].endswith(f" {function}") for block in dog.blocks())


def longest_ms(dog):
    return max((block["blocked_ms"] for block in dog.blocks()), default=0.0)


def first_way():
    time.sleep(LONG_SECONDS)  # first


def second_way():
    until = time.perf_counter() + LONG_SECONDS
    while time.perf_counter() < until:
        pass


def third_way():
    subprocess.run([sys.executable, "-c", f"import time; time.sleep({LONG_SECONDS})"], check=True)


def fourth_way():
    for _ in range(10):
        first_way_shorter()


def first_way_shorter():
    time.sleep(LONG_SECONDS / 10)  # shorter


WAYS = {
    "first": (first_way, "first_way"),
    "second": (second_way, "second_way"),
    "third": (third_way, "third_way"),
    "fourth": (fourth_way, "first_way_shorter"),
}


@pytest.mark.parametrize("loop", LOOPS)
def test_blames_who_blocks_and_tells_whom_that_held_up(loop):
    """Each block is blamed on its line and its request, and the request that waits tells of it."""

    async def app(scope, receive, send):
        if scope["path"] == "/wait":
            await sleep(loop, LONG_SECONDS / 3)
        else:
            WAYS[scope["path"][1:]][0]()
        await answer(send)

    kit, dog, stream = watched(app)
    rounds = [0]

    async def main():
        rounds[0] += 1
        for way in WAYS:

            async def block(way=way):
                await sleep(loop, LONG_SECONDS / 10)
                await request(kit, f"of-{way}-{rounds[0]}", f"/{way}")

            waits = partial(request, kit, f"with-{way}-{rounds[0]}", "/wait")
            await at_once(loop, waits, block)
        await sleep(loop, 0.05)

    def is_seen():
        latest = {block["request_id"] for block in dog.blocks(1_000)}
        return latest >= {f"of-{way}-{rounds[0]}" for way in WAYS}

    run_until(is_seen, loop, main)
    ended = {line["request_id"]: line for line in told(kit, stream, "request_complete")}
    blocks = {block["request_id"]: block for block in dog.blocks(1_000)}
    for way, (_, function) in WAYS.items():
        who, with_it = f"of-{way}-{rounds[0]}", f"with-{way}-{rounds[0]}"
        file, _, name = blocks[who]["where"].partition(" ")
        assert "test_watchdog.py:" in file and name == function
        own, other = ended[who], ended[with_it]
        assert own["blocked_by"] == other["blocked_by"] == blocks[who]["where"]
        assert own["blocked_ms"] > 100 and other["blocked_ms"] > 100
        assert other["blocked_by_request"] == who and "blocked_by_request" not in own
        assert own["held_up"] == [with_it] and own["held_up_count"] == 1
    first = blocks[f"of-first-{rounds[0]}"]
    assert first["source"] == "time.sleep(LONG_SECONDS)  # first"
    assert first["stack"][-1].endswith("first_way")
    assert not any("asgi_errorkit/" in place for place in first["stack"]), "the kit's own"
    lines = {line["where"]: line for line in told(kit, stream, "loop_blocked")}
    assert lines[first["where"]]["source"] == first["source"]
    assert dog.totals()[first["where"]].longest_seconds > 0.1
    assert dog.observer_errors == 0


@pytest.mark.parametrize("loop", LOOPS)
def test_a_task_that_a_request_has_started_is_its_own(loop):
    """The exchange is found by the context of the task, where no frame of the kit is on the stack."""

    async def inner():
        first_way()

    async def app(scope, receive, send):
        await at_once(loop, inner)
        await answer(send)

    kit, dog, _ = watched(app)

    async def main():
        await request(kit, "starts-it")
        await sleep(loop, 0.05)

    run_until(has(dog, "first_way"), loop, main)
    block = of(dog, "first_way")
    assert block["request_id"] == "starts-it" and block["stack"][0].endswith("inner")


def test_a_callback_of_asyncio_is_blamed_too():
    """What no task runs has the context that it was given to the loop in."""

    async def app(scope, receive, send):
        asyncio.get_running_loop().call_soon(first_way)
        await asyncio.sleep(0.01)
        await answer(send)

    kit, dog, _ = watched(app)

    async def main():
        await request(kit, "calls-it")
        await asyncio.sleep(0.05)

    run_until(has(dog, "first_way"), "asyncio", main)
    assert of(dog, "first_way")["request_id"] == "calls-it"


@pytest.mark.parametrize("loop", LOOPS)
def test_who_waits_blocks_nobody(loop):
    """A handler that awaits for long is slow, and holds nothing up."""

    async def app(scope, receive, send):
        await sleep(loop, LONG_SECONDS)
        await answer(send)

    kit, dog, stream = watched(app)
    run(loop, partial(request, kit, "waits"))
    assert dog.looks > 1 and longest_ms(dog) < LONG_SECONDS * 900
    (line,) = told(kit, stream, "request_complete")
    assert line.get("blocked_ms", 0) < LONG_SECONDS * 900


def test_code_that_keeps_the_interpreter_is_blamed():
    """While it runs the watchdog cannot; as soon as it can it sees the line all the same."""

    def keep():
        return sum(range(size))

    size = 1_000_000
    while (took := _seconds(keep)) < LONG_SECONDS:
        size = int(size * max(2, LONG_SECONDS / took))

    async def app(scope, receive, send):
        await asyncio.sleep(0.1)
        keep()
        end = time.perf_counter() + 0.05  # for another thread may have got the interpreter first
        while time.perf_counter() < end:
            pass
        await answer(send)

    kit, dog, _ = watched(app)

    async def main():
        await request(kit, "keeps-it")
        await asyncio.sleep(0.05)

    run("asyncio", main)
    longest = max(dog.blocks(), key=lambda block: block["blocked_ms"])
    assert longest["request_id"] == "keeps-it"
    assert longest["where"].rpartition(".")[2] in ("keep", "app")


def _seconds(function):
    began_at = time.perf_counter()
    function()
    return time.perf_counter() - began_at


SUSPENDED = textwrap.dedent(
    """
    import asyncio, os, subprocess, sys
    from asgi_errorkit import ErrorKit
    from asgi_errorkit.watchdog import Watchdog, watchdog_of

    async def app(scope, receive, send):
        await asyncio.sleep(0.2)
        os.kill(os.getpid(), 19)
        await asyncio.sleep(0.2)

    async def main():
        scope = {"type": "http", "method": "GET", "path": "/", "headers": []}
        async def nothing(*_): ...
        await kit(scope, nothing, nothing)

    kit = ErrorKit(app, log_level="CRITICAL")
    dog = Watchdog(kit.tracker.recorder)
    stopper = f"sleep 1.2; kill -CONT {os.getpid()}"
    subprocess.Popen(["sh", "-c", stopper])
    asyncio.run(main())
    print(max([block["blocked_ms"] for block in dog.blocks()], default=0), dog.stopped_seconds)
    """
)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="stops itself by number")
def test_a_process_that_was_stopped_is_not_blamed():
    """A time in which nothing of the process ran is nobody's fault, and is counted."""
    told = subprocess.run(
        [sys.executable, "-c", SUSPENDED], capture_output=True, text=True, timeout=60, check=True
    )
    longest_ms, stopped = map(float, told.stdout.split())
    assert longest_ms < 500 * stopped > 150, told


def test_another_thread_that_keeps_the_interpreter_is_not_the_loop():
    """A loop that only waits for the interpreter has done nothing."""

    async def app(scope, receive, send):
        thread = threading.Thread(target=lambda: sum(range(20_000_000)))
        thread.start()
        while thread.is_alive():
            await asyncio.sleep(0.02)
        await answer(send)

    kit, dog, _ = watched(app)
    took = _seconds(lambda: run("asyncio", partial(request, kit, "waits")))
    assert longest_ms(dog) < took * 500


def test_it_rests_while_nothing_happens_and_sees_all_the_same():
    """The recorder's thread looks for it, and has it go on when a loop does something."""

    async def app(scope, receive, send):
        if scope["path"] == "/block":
            first_way()
        await answer(send)

    kit, dog, _ = watched(app)

    async def main():
        await request(kit, "first")
        deadline = time.monotonic() + DEADLINE_SECONDS
        while dog._wanted.is_set():
            assert time.monotonic() < deadline
            await asyncio.sleep(0.3)
        await request(kit, "blocks", "/block")
        await asyncio.sleep(0.05)

    run_until(has(dog, "first_way"), "asyncio", main)
    assert of(dog, "first_way")["request_id"] == "blocks"
    assert dog._wanted.is_set()


def test_a_debugger_is_not_blamed():
    """Whoever stands at a breakpoint knows that it stands still."""
    names = {"__name__": "bdb", "sleep": time.sleep}
    exec("def stop(seconds):\n    sleep(seconds)", names)

    async def app(scope, receive, send):
        await asyncio.sleep(0.1)
        names["stop"](LONG_SECONDS)
        await answer(send)

    kit, dog, _ = watched(app)

    async def main():
        await request(kit, "debugged")
        await asyncio.sleep(0.05)

    run("asyncio", main)
    assert longest_ms(dog) < LONG_SECONDS * 900 and dog.debugged > 0


def test_of_several_loops_nobody_knows_whom_it_held_up():
    """A request in another loop of the process has not waited for this one."""
    kit, _, stream = watched(_two_ways)
    other = threading.Thread(target=run, args=("asyncio", partial(request, kit, "elsewhere", "/w")))

    async def main():
        await request(kit, "first", "/none")
        other.start()
        await asyncio.sleep(LONG_SECONDS / 3)
        await request(kit, "blocks", "/block")
        await asyncio.sleep(0.05)

    run("asyncio", main)
    other.join(DEADLINE_SECONDS)
    lines = {line["request_id"]: line for line in told(kit, stream, "request_complete")}
    assert "blocked_ms" in lines["blocks"] and "blocked_ms" not in lines["elsewhere"]


async def _two_ways(scope, receive, send):
    if scope["path"] == "/block":
        first_way()
    elif scope["path"] == "/w":
        await asyncio.sleep(3 * LONG_SECONDS)
    await answer(send)


def told_blocks(kit, stream):
    return {line["request_id"] for line in told(kit, stream, "loop_blocked")}


def test_of_kits_within_and_beside_one_another_one_tells():
    """The one whose request it was; what was nobody's is told by the first at the loop."""

    async def app(scope, receive, send):
        if scope["path"] == "/nobody's":
            loop, nothing = asyncio.get_running_loop(), contextvars.Context()
            loop.call_soon(second_way, context=nothing)
            await asyncio.sleep(0.01)
        elif scope["path"] == "/block":
            first_way()
        await answer(send)

    inner, inner_dog, inner_log = watched(app)
    outer, outer_dog, outer_log = watched(inner)
    beside, beside_dog, beside_log = watched(app)
    deaf = ErrorKit(app)
    deaf_dog = Watchdog(deaf.tracker.recorder)

    async def main():
        for kit in (deaf, outer, beside):
            await request(kit, "first", "/none")
        for kit, path in [(outer, "/block"), (beside, "/block"), (beside, "/nobody's")]:
            await request(kit, "outer" if kit is outer else "beside", path)
            await asyncio.sleep(0.05)

    dogs = (inner_dog, outer_dog, beside_dog, deaf_dog)
    whose = {"outer", "beside", None}
    run_until(
        lambda: all({b["request_id"] for b in dog.blocks(1_000)} >= whose for dog in dogs),
        "asyncio",
        main,
    )
    assert not told_blocks(inner, inner_log)
    assert {"outer", None} <= told_blocks(outer, outer_log)
    assert "beside" in told_blocks(beside, beside_log)
    assert "beside" not in told_blocks(outer, outer_log) | told_blocks(deaf, inner_log)


def test_who_tells_later_leaves_the_short_ones_to_others():
    """A kit further out that tells only of long blocks keeps nobody from telling of the rest."""
    inner, inner_dog, inner_log = watched(_two_ways)
    outer, outer_dog, outer_log = watched(inner, threshold_seconds=60)

    async def main():
        await request(outer, "short", "/block")
        await asyncio.sleep(0.05)

    run_until(has(inner_dog, "first_way"), "asyncio", main)
    assert "short" in told_blocks(inner, inner_log)
    assert not told_blocks(outer, outer_log) and not outer_dog.blocks()


def test_a_kit_looks_and_tells_by_default(watched_loops):
    """Its log says who blocks, without a word of the user's."""
    stream = io.StringIO()
    stack = MiddlewareStack()
    stack.add_middleware(StructuredLoggingMiddleware, stream=stream)
    kit = ErrorKit(_two_ways, stack=stack)

    async def main():
        await request(kit, "blocks", "/block")
        await asyncio.sleep(0.05)

    run_until(has(kit.watchdog, "first_way"), "asyncio", main)
    assert "blocks" in told_blocks(kit, stream)
    assert "blocks" in {block["request_id"] for block in kit.status()["blocks"]}


def test_many_short_loops_leave_nothing_behind():
    """A loop for each request, as test clients make them, costs one watch and one thread at most."""
    kit, dog, _ = watched(_two_ways)
    threads = []
    for n in range(50):
        client = threading.Thread(target=run, args=("asyncio", partial(request, kit, f"{n}", "/")))
        client.start()
        client.join(DEADLINE_SECONDS)
        run("asyncio", partial(request, kit, f"here-{n}", "/"))
        threads.append(dog._thread)
    deadline = time.monotonic() + DEADLINE_SECONDS
    while len(dog._watched) > 1:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    alive = {thread for thread in threads if thread is not None and thread.is_alive()}
    assert len(alive) <= 1


def test_a_sync_endpoint_that_sleeps_in_a_thread_blocks_nobody():
    """What runs in a thread pool leaves the loop free."""

    async def app(scope, receive, send):
        await asyncio.to_thread(first_way)
        await answer(send)

    kit, dog, _ = watched(app)
    run("asyncio", partial(request, kit, "in a thread"))
    assert "first_way" not in str(dog.blocks())


async def test_threads_without_a_common_lock_are_not_looked_at(monkeypatch):
    """To read the frames of one that runs may crash the interpreter then."""
    recorder = Recorder(flush_seconds=None)
    dog = Watchdog(recorder)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "_is_gil_enabled", lambda: False, raising=False)
        dog._watch(recorder)
        assert dog._thread is None and dog._watched == {}
    recorder.running = True
    dog._watch(recorder)
    assert dog._thread is not None
    recorder.running = False


async def test_where_no_thread_can_be_made_it_does_not_look(monkeypatch):
    """A subinterpreter that allows no thread of the background refuses to make one."""
    recorder = Recorder(flush_seconds=None)
    dog = Watchdog(recorder)

    def refuse(*_, **__):
        raise RuntimeError("daemon threads are disabled in this interpreter")

    monkeypatch.setattr(threading, "Thread", refuse)
    dog._watch(recorder)
    assert dog._thread is None and dog.look_errors == 0


async def test_a_loop_unlike_others_costs_no_request(monkeypatch):
    """What cannot be watched is counted."""
    recorder = Recorder(flush_seconds=None)
    dog = Watchdog(recorder)
    monkeypatch.setattr("asgi_errorkit.watchdog.running_loop", lambda: 1)  # no reference to it
    dog._watch(recorder)
    assert dog.look_errors == 1


def test_the_thread_ends_with_the_recorder():
    """A closed recorder has no watchdog; the next request starts it again."""

    async def app(scope, receive, send):
        await answer(send)

    kit, dog, _ = watched(app, threshold_seconds=0.02)
    for _ in range(2):
        run("asyncio", partial(request, kit, "any"))
        thread = dog._thread
        kit.tracker.recorder.close()
        if thread is not None:
            thread.join(DEADLINE_SECONDS)
            assert not thread.is_alive()
    assert dog.looks > 0


def test_the_thread_ends_with_the_kit():
    """A kit that nobody holds takes its watchdog with it."""

    async def app(scope, receive, send):
        await answer(send)

    kit, dog, _ = watched(app)
    gone = weakref.ref(dog)

    async def main(kit):
        await request(kit, "any")

    run("asyncio", partial(main, kit))
    del kit, dog
    deadline = time.monotonic() + DEADLINE_SECONDS
    while gone() is not None:
        assert time.monotonic() < deadline
        gc.collect()
        time.sleep(0.02)


def test_a_forked_child_starts_anew():
    """The parent has the thread, the loops and the blocks."""
    recorder = Recorder(flush_seconds=None)
    dog = Watchdog(recorder)
    dog._blocks.add(Block(1.0, 2.0, 1.0, "a.py:1 f"))
    dog._thread = threading.Thread()
    recorder.reset_after_fork()
    assert dog._thread is None and dog.blocks() == [] and dog.totals() == {}


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"threshold_seconds": 0}, ValueError),
        ({"threshold_seconds": 0.001}, ValueError),
        ({"threshold_seconds": "0.1"}, TypeError),
        ({"redactor": object()}, TypeError),
    ],
    ids=["never", "always", "text", "redactor"],
)
def test_refuses_what_cannot_work(options, error):
    """An option that cannot work is told of at construction."""
    with pytest.raises(error, match=next(iter(options))):
        Watchdog(Recorder(), **options)
    with pytest.raises(TypeError, match="recorder"):
        Watchdog(object())
    with pytest.raises(TypeError, match="tell"):
        Watchdog(Recorder()).on_block(None)
    with pytest.raises(ValueError, match="latest"):
        Watchdog(Recorder()).blocks(0)
    with pytest.raises(ValueError, match="most"):
        Watchdog(Recorder()).lines(0)


def test_a_broken_observer_is_counted():
    """An observer that raises costs the others nothing."""
    recorder, heard = Recorder(flush_seconds=None), []
    dog = Watchdog(recorder)
    dog.on_block(lambda block: 1 / 0)
    dog.on_block(heard.append)
    dog._blocks.add(Block(1.0, 2.0, 1.0, "a.py:1 f"))
    recorder.flush()
    assert dog.observer_errors == 1
    assert [(each["where"], each["count"]) for each in heard] == [("a.py:1 f", 1)]


def test_without_its_recorder_it_has_nothing_to_tell():
    """It does not keep the recorder alive."""
    dog = Watchdog(Recorder(flush_seconds=None))
    gc.collect()
    assert dog.blocks() == []
    assert dog.look() == 0.0


async def test_what_runs_in_no_task_is_not_watched_yet():
    """A callback cannot tell what lies below a task; a later call comes from one."""
    recorder = Recorder(flush_seconds=None)
    dog, done = Watchdog(recorder), asyncio.Event()
    thread = threading.Thread(target=lambda: dog._watch(recorder))
    thread.start()
    thread.join(DEADLINE_SECONDS)
    asyncio.get_running_loop().call_soon(done.set)
    await done.wait()
    assert dog._watched == {} and dog._thread is None


def test_a_thread_may_run_another_loop():
    """The next call that comes from it is of the new one."""
    recorder = Recorder(flush_seconds=None)
    recorder.running = True
    dog, loops = Watchdog(recorder), []

    async def look_at_it():
        dog._watch(recorder)
        (watch,) = dog._watched.values()
        loops.append(watch.loop.loop() is asyncio.get_running_loop())

    run("asyncio", look_at_it)
    run("asyncio", look_at_it)
    recorder.running = False
    assert loops == [True, True]


async def test_without_threads_it_tries_again(monkeypatch):
    """A process at its limit is served all the same."""
    recorder = Recorder(flush_seconds=None)
    dog = Watchdog(recorder)

    def refuse(thread):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        dog._watch(recorder)
    assert dog._thread is None
    recorder.running = True
    dog._watch(recorder)
    assert dog._thread is not None
    recorder.running = False


def test_a_system_that_tells_less(monkeypatch):
    """Without what Windows and macOS lack it judges by what there is."""
    monkeypatch.setattr(oversleep, "_rusage", None)
    assert oversleep.used_so_far().switches is None
    monkeypatch.setitem(sys.modules, "resource", None)
    assert oversleep._rusage_or_none() is None
    monkeypatch.delattr(time, "pthread_getcpuclockid", raising=False)
    assert loop_watch._cpu_clock() is None

    async def made():
        return LoopWatch(
            asyncio.get_running_loop(), CODE["outer"], time.perf_counter, 0.1, Redactor()
        )

    watch = run("asyncio", made)
    assert watch._cpu() == 0.0 and watch.is_to_blame(Late(1.0, 0.9, 0.9))
    watch._cpu_clock = -123456789
    assert watch._cpu() == 0.0


def test_a_recorder_knows_its_watchdog():
    """So that kits which share one do not watch twice."""
    recorder = Recorder(flush_seconds=None)
    recorder.add_sink(len)
    assert watchdog_of(recorder) is None
    dog = Watchdog(recorder)
    assert watchdog_of(recorder) is dog


def test_a_watchdog_that_breaks_is_counted(monkeypatch):
    """It breaks nothing else, and gives up in the end."""
    dog = Watchdog(Recorder(flush_seconds=None))
    assert not dog.turn()  # no thread of its own
    dog._thread = threading.current_thread()
    monkeypatch.setattr(dog, "_recorder", lambda: 1 / 0)
    assert sum(dog.turn() > 0 for _ in range(200)) == 99
    assert dog.look_errors == 200


def test_who_does_not_want_the_line_does_not_get_it():
    """``loop_blocked`` is an event like others, and a warning."""
    block = Block(1.0, 2.0, 1.0, "a.py:1 f").as_dict([], 0.0)
    for options, expected in [
        ({}, 1),
        ({"events": ["request_error"]}, 0),
        ({"log_level": "ERROR"}, 0),
    ]:
        stream = io.StringIO()
        middleware = StructuredLoggingMiddleware(_two_ways, stream=stream, **options)
        middleware.lines.tell_block(block)
        middleware.writer.flush()
        assert stream.getvalue().count("loop_blocked") == expected


def test_one_line_is_told_of_once_in_a_while_with_its_count():
    """Of a storm the log gets the longest, how many there were, and their sum."""
    blocks = Blocks()
    blocks.add(Block(0.0, 1.0, 1.0, "a.py:1 f"))
    assert [(b.seconds, n, s) for b, n, s in blocks.take_due(1.0, 10.0)] == [(1.0, 1, 1.0)]
    for seconds in (0.2, 0.5, 0.3):
        blocks.add(Block(0.0, seconds, seconds, "a.py:1 f"))
    assert blocks.take_due(10.9, 10.0) == []
    ((longest, count, seconds),) = blocks.take_due(11.0, 10.0)
    assert (longest.seconds, count, seconds) == (0.5, 3, 1.0)
    assert blocks.take_due(30.0, 10.0) == []
    assert blocks.by_line["a.py:1 f"].longest_seconds == 1.0


def test_the_lines_that_block_for_longest_come_first():
    """With how often, how long in all, and the longest."""
    dog = Watchdog(Recorder(flush_seconds=None))
    for where, seconds in [("a.py:1 f", 0.2), ("b.py:2 g", 0.5), ("a.py:1 f", 0.4)]:
        dog._blocks.add(Block(0.0, seconds, seconds, where))
    first = {"where": "a.py:1 f", "count": 2, "total_ms": 600.0, "longest_ms": 400.0}
    assert dog.lines(1) == [first]
    assert [line["where"] for line in dog.lines()] == ["a.py:1 f", "b.py:2 g"]


def test_lines_and_blocks_are_bounded():
    """However many lines block, the oldest goes."""
    blocks = Blocks()
    for n in range(1000):
        blocks.add(Block(n, n + 1, 1.0, f"a.py:{n} f"))
    assert len(blocks.latest) == len(blocks.by_line) == 256
    assert "a.py:999 f" in blocks.by_line and "a.py:0 f" not in blocks.by_line


RECORDER = Recorder(flush_seconds=None)


def record(request_id, started, ended):
    state = begin({"path": "/"}, {}, request_id, lambda: started, 0.0)
    state[OPENER] = SimpleNamespace(recorder=RECORDER)
    state[ENDED] = ended
    return state


def test_a_record_tells_its_share():
    """What lies within the exchange counts, of each block; whoever had ended or came later is free."""
    block = Block(10.0, 12.0, 2.0, "a.py:1 f", request_id="own", _started_at=10.0)
    later = Block(20.0, 21.0, 1.0, "b.py:2 g")
    own, held = record("own", 10.0, 12.0), record("held", 9.0, 11.5)
    before, after = record("before", 1.0, 10.0), record("after", 12.0, 13.0)
    long = record("long", 11.0, 30.0)
    running = [record("running", 11.5, None), record("young", 50.0, None)]
    mark([before, held, own, after, long], [block, later], running)
    assert before[EXTRA] is None and after[EXTRA] is None
    assert held[EXTRA] == {
        "blocked_ms": 1500.0,
        "blocked_by": "a.py:1 f",
        "blocked_by_request": "own",
    }
    assert long[EXTRA]["blocked_ms"] == 2000.0
    assert own[EXTRA]["held_up"] == ["held", "long", "running"]
    assert own[EXTRA]["held_up_count"] == 3


def test_what_the_application_has_added_stays():
    """A record keeps its other fields."""
    own = record("own", 0.0, 2.0)
    own[EXTRA] = {"tenant": "a"}
    mark([own], [Block(0.5, 1.5, 1.0, "a.py:1 f")], [])
    assert own[EXTRA]["tenant"] == "a" and own[EXTRA]["blocked_ms"] == 1000.0


def functions(*sources):
    """Code objects of the application, by their names."""
    names = {}
    exec(compile("\n".join(sources), "/srv/app/main.py", "exec"), names)
    return {name: made.__code__ for name, made in names.items() if hasattr(made, "__code__")}


CODE = functions("def outer(): ...", "def inner(): ...", "def other(): ...")
FOREIGN = json.dumps.__code__


def look(*frames, seconds=1.0):
    known = {**CODE, "foreign": FOREIGN}
    return Glimpse(tuple((known[name], line) for name, line in frames), None, False, seconds)


@pytest.mark.parametrize(
    ("looks", "expected"),
    [
        ([look(("outer", 1), ("inner", 2))], ("inner", 2)),
        ([look(("outer", 1), ("inner", 2), ("foreign", 9))], ("inner", 2)),
        (
            [look(("outer", 1), ("inner", 2)), look(("outer", 1), ("other", 3), seconds=0.1)],
            ("inner", 2),
        ),
        ([look(("outer", 1), (n, 2)) for n in ("inner", "other", "foreign")], ("outer", 1)),
        ([look(("inner", 2)), look(("inner", 3), seconds=2.0), look(("inner", 2))], ("inner", 2)),
        ([look((n, 5)) for n in ("inner", "other", "outer")], ("inner", 5)),
        ([look(("foreign", 7))], ("foreign", 7)),
    ],
    ids=[
        "innermost",
        "within a library",
        "most of it",
        "in turn",
        "by line",
        "none most",
        "foreign",
    ],
)
def test_blames_the_innermost_function_that_took_half_of_the_time(looks, expected):
    """The longer something was on the stack, the more it is to blame."""
    best, depth = blamed(looks)
    code, line = best.frames[depth]
    names = {code: name for name, code in {**CODE, "foreign": FOREIGN}.items()}
    assert (names[code], line) == expected


def test_outside_of_a_task_there_is_no_base():
    """Where nothing runs a task nothing can be told apart."""
    assert base_of(sys._getframe()) is None or asyncio._get_running_loop() is not None
    assert base_of(None) is None


class HandClock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.mark.parametrize(
    ("switches", "in_vain"),
    [(4, 0.01), (202, 1.0), (None, None)],
    ids=["stopped", "waits in vain", "does not tell"],
)
def test_a_late_watchdog_knows_what_kept_it(monkeypatch, switches, in_vain):
    """Who waits for the interpreter wakes in vain; who is stopped does not."""
    clock, used = HandClock(), [Used(1.0, switches and 0), Used(1.5, switches)]
    monkeypatch.setattr(oversleep, "used_so_far", lambda: used.pop(0))
    wait = Wait(clock)
    assert wait.over().seconds == 0 and not wait.is_late()
    assert wait.begin(0.05) == 0.05
    clock.now = 0.06
    assert wait.over().seconds == 0
    clock.now = 1.05
    assert wait.is_late()
    late = wait.over()
    interval = sys.getswitchinterval() / 0.005
    assert (late.seconds, late.process_seconds) == (pytest.approx(1.0), 0.5)
    assert late.in_vain == (in_vain and pytest.approx(in_vain * interval))


@pytest.mark.parametrize(
    ("used", "process", "in_vain", "is_to_blame"),
    [
        (0.9, 1.0, 0.9, True),
        (0.9, 1.0, None, True),
        (0.2, 0.3, 0.3, True),
        (0.11, 0.12, 0.3, True),
        (0.11, 0.12, 0.1, False),
        (0.11, 0.3, 0.3, False),
        (0.0, 1.0, 0.9, False),
        (0.0, 0.0, 0.9, True),
        (0.0, 0.0, None, False),
        (0.0, 0.0, 0.2, False),
        (0.9, 1.0, 0.0, False),
    ],
    ids=[
        "computes",
        "computes, and the system does not tell",
        "computes, on a busy machine",
        "computes, on one that hardly gives it a processor",
        "stopped, after it has computed",
        "computes, and another does more",
        "another computes",
        "sleeps with it",
        "does nothing, and the system does not tell",
        "gets no processor",
        "stopped",
    ],
)
def test_the_thread_that_computes_has_kept_the_interpreter(used, process, in_vain, is_to_blame):
    """By its processor time; if nobody used any, the loop waits in C code that keeps the rest."""

    async def judged():
        loop = asyncio.get_running_loop()
        watch = LoopWatch(loop, CODE["outer"], time.perf_counter, 0.1, Redactor())
        watch._cpu_clock, watch._cpu_seconds = 1, 0.0
        return watch.is_to_blame(Late(1.0, process, in_vain))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LoopWatch, "_cpu", lambda self: used)
        assert run("asyncio", judged) is is_to_blame


@pytest.mark.parametrize(
    ("late", "stopped", "unseen", "begins_again"),
    [
        (Late(1.0, 1.0, 0.0), 1.0, 0, 1),
        (Late(1.0, 0.0, 0.9), 0.0, 1, 1),
        (Late(0.05, 0.0, 0.9), 0.0, 0, 0),
    ],
    ids=["stopped", "kept the interpreter", "a little late"],
)
def test_whoever_asks_before_the_late_thread_has_looked_hears_the_truth(
    late, stopped, unseen, begins_again
):
    """What the loop is not to blame for is left out, and what nobody saw is counted, once."""
    began = []
    wait = SimpleNamespace(
        is_late=lambda: not began, over=lambda: late, begin_again=lambda: began.append(1)
    )

    async def asked():
        dog = Watchdog(Recorder(flush_seconds=None))
        watch = LoopWatch(
            asyncio.get_running_loop(), CODE["outer"], time.perf_counter, 0.1, Redactor()
        )
        dog._watched[threading.get_ident()], dog._wait = watch, wait
        dog._settle()
        dog._settle()
        return dog, watch.excused

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LoopWatch, "_cpu", lambda self: 0.0)
        dog, excused = run("asyncio", asked)
    assert (dog.stopped_seconds, excused, dog.unseen) == (stopped, stopped, unseen)
    assert len(began) == begins_again and dog.looks == 0


def test_another_thread_that_asks_looks_for_the_late_one():
    """What a loop is at now nobody sees later."""
    recorder = Recorder(flush_seconds=None)
    dog = Watchdog(recorder)
    dog._wait = SimpleNamespace(is_late=lambda: True, over=Late, begin=lambda pause: pause)
    dog._settle()
    assert dog.looks == 1


def test_what_is_told_has_no_secret():
    """The source line and the path are redacted."""
    names = {}
    source = "def leak():\n    login(password='hunter2hunter2')\n"
    exec(compile(source, "/srv/app/leak.py", "exec"), names)
    import linecache

    linecache.cache["/srv/app/leak.py"] = (len(source), None, source.splitlines(True), "leak.py")
    block = Block(0.0, 1.0)
    state = record("id", 0.0, 1.0)
    state[4] = (
        "/reset/eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9"
    )
    code = names["leak"].__code__
    block.blame([Glimpse(((code, 2),), state, False, 1.0)], Redactor())
    shown = json.dumps(block.as_dict([], 0.0))
    assert "hunter2" not in shown and "dozjgNry" not in shown
    assert block.where.endswith("leak.py:2 leak")
