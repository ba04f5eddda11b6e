"""Measures breakers and retries beside their peers, and asks what each of them does.

``python -m benchmarks.guards --json FILE``; ``--markdown`` prints the tables for a page. What each
does is found out by running it, under a clock that is set by hand where there is anything to wait
for: the probes are the functions below.
"""

import argparse
import asyncio
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from itertools import count, repeat
from pathlib import Path
from threading import Barrier, Event, Lock, RLock, Thread
from types import SimpleNamespace
from typing import Any, TypeAlias

from asgi_errorkit import TimeoutMiddleware
from asgi_errorkit.testing import HandClock, request
from asgi_errorkit.types import ASGIApp, Receive, Scope, Send
from benchmarks.figures import spread
from benchmarks.guard_peers import (
    BREAKER_LIBRARIES,
    BREAKERS,
    KIT,
    PACKAGES,
    REFUSED,
    RETRIES,
    RETRY_LIBRARIES,
    BreakerLibrary,
    Form,
    Function,
    Oops,
    RetryLibrary,
    RetryWish,
    Wish,
)
from benchmarks.machine import machine
from benchmarks.measure import rotated
from benchmarks.pace import Pace
from benchmarks.page_text import NOTHING, figure, middle, table
from benchmarks.tables import print_table
from benchmarks.written import write

__all__ = [
    "BREAKER_PROBES",
    "RETRY_PROBES",
    "SCENARIOS",
    "Finding",
    "Scenario",
    "main",
    "markdown",
    "measure_guards",
    "rows",
]

_WARM = 200  # calls: windows are full, and breakers that shall be are open
_ONCE_IN = 50  # failing calls one succeeds, lest all of them be failures
_BARE = "bare"
_REFUSALS = {library.name: library.refusal for library in BREAKER_LIBRARIES}


# Costs


@dataclass(frozen=True, slots=True)
class Scenario:
    """What is called within a guard, and what then comes of it: "answer", "oops" or "refused"."""

    name: str
    forms: Sequence[Form]
    function: Callable[[], Function]
    expected: str = "answer"
    is_async: bool = False
    bare: Callable[[], Function] | None = None
    turn: Callable[[], AbstractContextManager[object]] = nullcontext

    def of_its_kind(self) -> list[Form]:
        return [form for form in self.forms if form.is_async is self.is_async]


def _works() -> Function:
    def works() -> int:
        return 1

    return works


def _works_async() -> Function:
    async def works() -> int:
        return 1

    return works


def _fails_mostly() -> Function:
    number = count().__next__

    def fails() -> int:
        if number() % _ONCE_IN:
            raise Oops
        return 1

    return fails


def _fails() -> Function:
    def fails() -> int:
        raise Oops

    return fails


def _fails_once() -> Function:
    number = count().__next__

    def fails_once() -> int:
        if number() % 2:
            return 1
        raise Oops

    return fails_once


def _fails_once_async() -> Function:
    number = count().__next__

    async def fails_once() -> int:
        if number() % 2:
            return 1
        raise Oops

    return fails_once


def _again_by_hand() -> Function:
    function = _fails_once()

    def call() -> object:
        try:
            return function()
        except Oops:
            time.sleep(0)
        return function()

    return call


def _again_by_hand_async() -> Function:
    function = _fails_once_async()

    async def call() -> object:
        try:
            return await function()
        except Oops:
            await asyncio.sleep(0)
        return await function()

    return call


@contextmanager
def _no_sleep() -> Iterator[None]:
    """All of them sleep for 0 seconds, which costs more than they do, and leaves caches cold."""
    before = time.sleep
    time.sleep = lambda seconds: None
    try:
        yield
    finally:
        time.sleep = before


SCENARIOS = (
    Scenario("breaker, a call that succeeds", BREAKERS, _works),
    Scenario("breaker, an async call that succeeds", BREAKERS, _works_async, is_async=True),
    Scenario("breaker, a call that fails", BREAKERS, _fails_mostly, "oops"),
    Scenario("breaker, a call that is refused", BREAKERS, _fails, "refused", bare=_works),
    Scenario("retry, a call that succeeds at once", RETRIES, _works),
    Scenario("retry, an async call that succeeds at once", RETRIES, _works_async, is_async=True),
    Scenario(
        "retry, a call that fails once",
        RETRIES,
        _fails_once,
        bare=_again_by_hand,
        turn=_no_sleep,
    ),
    Scenario(
        "retry, an async call that fails once",
        RETRIES,
        _fails_once_async,
        is_async=True,
        bare=_again_by_hand_async,
    ),
)


@dataclass(slots=True)
class _Subject:
    form: Form
    call: Function
    ns: list[float] = field(default_factory=list)  # a call, one entry a round


async def measure_guards(
    scenario: Scenario, *, rounds: int, calls: int, pace: Pace
) -> tuple[list[_Subject], dict[str, str]]:
    """Measure each form ``rounds`` times, the bare call first; and tell which library is missing."""
    bare = (scenario.bare or scenario.function)()
    subjects = [_Subject(Form(_BARE, "", lambda function: function), bare)]
    left_out: dict[str, str] = {}
    for form in scenario.of_its_kind():
        try:
            subjects.append(_Subject(form, form.make(scenario.function())))
        except ImportError as missing:
            left_out[form.library] = str(missing)
    for subject in subjects:
        with scenario.turn(), subject.form.turn():
            await _timed(subject.call, _WARM, is_async=scenario.is_async)
            await _check(scenario, subject)
    for turn in range(rounds):
        for subject in rotated(subjects, turn):
            with scenario.turn(), subject.form.turn():
                await pace.quiet()
                await _timed(subject.call, min(calls, _ONCE_IN), is_async=scenario.is_async)
                ns = await _timed(subject.call, calls, is_async=scenario.is_async)
                while not pace.is_good():
                    await pace.quiet()
                    ns = await _timed(subject.call, calls, is_async=scenario.is_async)
            subject.ns.append(ns)
    for subject in subjects:
        with scenario.turn(), subject.form.turn():
            await _check(scenario, subject)
    return subjects, left_out


async def _timed(call: Function, number: int, *, is_async: bool) -> float:
    """Nanoseconds of CPU a call. One task and one loop make all of them."""
    if is_async:
        began = time.thread_time()
        for _ in repeat(None, number):
            try:
                await call()
            except Exception:  # noqa: BLE001  each has an error of its own for a refusal
                pass
        return (time.thread_time() - began) / number * 1e9
    began = time.thread_time()
    for _ in repeat(None, number):
        try:
            call()
        except Exception:  # noqa: BLE001  as above
            pass
    return (time.thread_time() - began) / number * 1e9


async def _check(scenario: Scenario, subject: _Subject) -> None:
    """Who does something else than is measured must not be reported."""
    if subject.form.library == _BARE:
        return
    refusal = _REFUSALS.get(subject.form.library)
    is_async = scenario.is_async
    ends = {await _end(subject.call, is_async=is_async, refusal=refusal) for _ in range(2)}
    if scenario.expected not in ends or not ends <= {scenario.expected, "answer"}:
        raise RuntimeError(
            f"{subject.form.library}, {subject.form.form} {subject.form.rules}: {scenario.name} "
            f"must end with {scenario.expected!r}, but ended with {sorted(ends)}; mend that first"
        )


async def _end(
    call: Function, *, is_async: bool, refusal: Callable[[], type[Exception]] | None = None
) -> str:
    """How a call ends; what is neither a refusal nor the dependency's failure is raised."""
    try:
        result = await call() if is_async else call()
    except Oops:
        return "oops"
    except Exception as exc:
        if refusal is None or not isinstance(exc, refusal()):
            raise
        return "refused"
    return "refused" if result is REFUSED else "answer"


def _costs(subjects: Sequence[_Subject]) -> list[dict[str, Any]]:
    """What each adds to the bare call of its round, and that as a multiple of what the kit adds.

    Once with the same form and the same rules, and once with the kit's default ones; where the kit
    has no such form, its decorator stands for it.
    """
    bare = subjects[0]
    found = []
    for subject in subjects:
        added = [one - other for one, other in zip(subject.ns, bare.ns, strict=True)]
        best = min(subject.ns) - min(bare.ns)
        found.append(
            {
                "library": subject.form.library,
                "form": subject.form.form,
                "rules": subject.form.rules,
                "ns_added": {"best": best, **spread(added)},
                "ns": {"best": min(subject.ns), **spread(subject.ns)},
            }
        )
    kit = {(row["form"], row["rules"]): row for row in found if row["library"] == KIT}
    default = next(iter(kit))[1]
    for row in found:
        like = kit.get((row["form"], row["rules"])) or kit.get(("decorator", row["rules"]))
        usual = kit.get((row["form"], default)) or kit["decorator", default]
        row["times_the_kit"] = _times(row, like)
        row["times_its_default"] = _times(row, usual)
    return found


def _times(row: dict[str, Any], kit: dict[str, Any] | None) -> float | None:
    if kit is None or row["library"] == _BARE or kit["ns_added"]["best"] <= 0:
        return None
    times: float = row["ns_added"]["best"] / kit["ns_added"]["best"]
    return times


# What they do


@dataclass(frozen=True, slots=True)
class Finding:
    """The answer to a question, None where it does not apply, and what was seen."""

    answer: bool | None
    seen: str = ""

    def told(self) -> dict[str, str]:
        return {"answer": {True: "yes", False: "no", None: NOTHING}[self.answer], "seen": self.seen}


BreakerProbe: TypeAlias = Callable[[BreakerLibrary], Finding]
RetryProbe: TypeAlias = Callable[[RetryLibrary], Finding]

_CALLERS = 16
_STEP_SECONDS = 0.25
_LATER_SECONDS = Wish.open_seconds + 1.0
_A_DAY_SECONDS = 86_400.0


async def _failing() -> None:
    raise Oops


async def _working() -> int:
    return 1


class _Held:
    """A call that lasts until it is let go; how many have come is counted."""

    def __init__(self) -> None:
        self.reached = 0
        self.fails = False
        self._go = asyncio.Event()

    def let_go(self) -> None:
        self._go.set()

    async def __call__(self) -> None:
        self.reached += 1
        await self._go.wait()
        if self.fails:
            raise Oops


class _Bench:
    """A library's breaker, and the clock that it reads."""

    clock = HandClock(1_000_000.0)  # one for all: a library's module reads it in place of its own

    def __init__(self, library: BreakerLibrary, wish: Wish | None = None) -> None:
        self.library = library
        self.breaker = library.make(wish or Wish(), self.clock)

    @property
    def state(self) -> str:
        return self.library.state(self.breaker)

    async def call(self, function: Function) -> str:
        """How it ended: "answer", "oops", or "refused", for which each has an error of its own."""

        async def plain() -> Any:  # some decorate nothing but plain functions
            return await function()

        async def call() -> Any:
            return await self.library.run(self.breaker, plain)

        return await _end(call, is_async=True, refusal=self.library.refusal)

    def call_sync(self, function: Function) -> str:
        try:
            self.library.run_sync(self.breaker, function)
        except Oops:
            return "oops"
        except self.library.refusal():
            return "refused"
        return "answer"

    async def trip(self) -> None:
        for _ in range(200):
            if self.state == "open":
                return
            await self.call(_failing)
        raise RuntimeError(f"{self.library.name} does not open after 200 failures")

    def trip_sync(self) -> None:
        for _ in range(200):
            if self.state == "open":
                return
            self.call_sync(_fails())
        raise RuntimeError(f"{self.library.name} does not open after 200 failures")

    async def is_reached(self) -> bool:
        """Whether a call comes through now; it succeeds."""
        return await self.call(_working) == "answer"

    async def open_for(self) -> float:
        """How long it refuses, by the clock; the call that comes through fails."""
        for number in range(1, 1_000):
            self.clock.move(_STEP_SECONDS)
            reached: list[bool] = []

            async def fails(reached: list[bool] = reached) -> None:
                reached.append(True)
                raise Oops

            await self.call(fails)
            if reached:
                return number * _STEP_SECONDS
        return float("inf")

    def has_lock(self) -> bool:
        return _has_lock(self.breaker, depth=3)


def _has_lock(thing: Any, *, depth: int) -> bool:
    if isinstance(thing, (type(Lock()), type(RLock()))):
        return True
    if depth == 0 or not hasattr(thing, "__dict__"):
        return False
    return any(_has_lock(each, depth=depth - 1) for each in vars(thing).values())


async def _settled() -> None:
    for _ in range(30):
        await asyncio.sleep(0)


async def failure_rate(library: BreakerLibrary) -> Finding:
    """Opens when every second call fails, though never two in a row."""
    bench = _Bench(library)
    for number in range(60):
        await bench.call(_failing if number % 2 else _working)
    return Finding(bench.state == "open", f"{bench.state} after 30 failures of 60, none in a row")


async def slow_calls(library: BreakerLibrary) -> Finding:
    """Opens when calls that succeed are slow."""
    bench = _Bench(library, Wish(slow_seconds=1.0))

    async def slow() -> None:
        bench.clock.move(2.0)

    for _ in range(30):
        await bench.call(slow)
    return Finding(bench.state == "open", f"{bench.state} after 30 slow successes")


async def minimum_calls(library: BreakerLibrary) -> Finding:
    """Stays closed until a number of calls was made, whatever their rate of failures."""
    bench = _Bench(library, Wish(minimum=10))
    failures = 0
    while bench.state != "open" and failures < 200:
        await bench.call(_failing)
        failures += 1
    return Finding(failures == 10, f"opened by failure {failures} where 10 calls were asked for")


async def consecutive_failures(library: BreakerLibrary) -> Finding:
    """Opens after three failures in a row, which a success interrupts, however rare they are."""
    bench = _Bench(library, Wish(rate=None, consecutive=3))
    for function in (*[_working] * 50, _failing, _failing, _working, _failing, _failing):
        await bench.call(function)
    before = bench.state
    await bench.call(_failing)
    return Finding((before, bench.state) == ("closed", "open"), f"{before}, then {bench.state}")


async def growing_open_time(library: BreakerLibrary) -> Finding:
    """Stays open for longer when a probe has failed."""
    bench = _Bench(library, Wish(is_growing=True))
    await bench.trip()
    spans = [await bench.open_for() for _ in range(3)]
    return Finding(spans[1] >= 1.5 * spans[0], " s, ".join(f"{one:g}" for one in spans) + " s")


async def open_time_jitter(library: BreakerLibrary) -> Finding:
    """Breakers that opened at the same time do not all probe at the same time."""
    spans = []
    for _ in range(8):
        bench = _Bench(library, Wish(jitter=0.2))
        await bench.trip()
        spans.append(await bench.open_for())
    return Finding(len(set(spans)) > 1, f"{min(spans):g} s to {max(spans):g} s")


async def exact_probes_of_tasks(library: BreakerLibrary) -> Finding:
    """Of 16 tasks at half-open as many reach the dependency as were asked for."""
    reached = {}
    for probes in (1, 3):
        bench = _Bench(library, Wish(probes=probes))
        await bench.trip()
        bench.clock.move(_LATER_SECONDS)
        held = _Held()
        tasks = [asyncio.create_task(bench.call(held)) for _ in range(_CALLERS)]
        await _settled()
        reached[probes] = held.reached
        held.let_go()
        await asyncio.gather(*tasks)
    return _exactly(reached)


def exact_probes_of_threads(library: BreakerLibrary) -> Finding:
    """Of 16 threads at half-open as many reach the dependency as were asked for."""
    reached = {}
    for probes in (1, 3):
        bench = _Bench(library, Wish(probes=probes))
        bench.trip_sync()
        bench.clock.move(_LATER_SECONDS)
        reached[probes] = _reached_by_threads(bench, _CALLERS)
    return _exactly(reached)


def _exactly(reached: dict[int, int]) -> Finding:
    seen = ", ".join(f"{number} of {_CALLERS} for {probes}" for probes, number in reached.items())
    return Finding(all(probes == number for probes, number in reached.items()), seen)


def _reached_by_threads(bench: _Bench, callers: int) -> int:
    """How many are within the dependency at the same time, when nobody comes out of it."""
    go, come, barrier = Event(), [], Barrier(callers)

    def held() -> None:
        come.append(True)
        go.wait()

    def caller() -> None:
        barrier.wait()
        bench.call_sync(held)

    threads = [Thread(target=caller, daemon=True) for _ in range(callers)]
    for thread in threads:
        thread.start()
    reached, since = -1, time.monotonic()
    while reached != len(come) or time.monotonic() - since < 0.15:
        if reached != len(come):
            reached, since = len(come), time.monotonic()
        time.sleep(0.01)
    go.set()
    for thread in threads:
        thread.join()
    return reached


async def late_answers_ignored(library: BreakerLibrary) -> Finding:
    """A call from before it opened that ends while a probe runs neither closes nor opens it."""
    seen = {}
    for fails in (False, True):
        bench = _Bench(library)
        late, probe = _Held(), _Held()
        late.fails = fails
        tasks = [asyncio.create_task(bench.call(late))]
        await _settled()
        await bench.trip()
        bench.clock.move(_LATER_SECONDS)
        tasks.append(asyncio.create_task(bench.call(probe)))
        await _settled()
        late.let_go()
        await _settled()
        seen["failure" if fails else "success"] = bench.state
        probe.let_go()
        await asyncio.gather(*tasks)
    text = ", ".join(f"{state} after a late {kind}" for kind, state in seen.items())
    return Finding(set(seen.values()) == {"half_open"}, text)


async def cancellation_not_counted(library: BreakerLibrary) -> Finding:
    """Calls whose task is cancelled are no failures."""
    bench = _Bench(library)
    for _ in range(30):
        await _cancelled(bench)
    return Finding(bench.state == "closed", f"{bench.state} after 30 cancelled calls")


async def _cancelled(bench: _Bench) -> None:
    task = asyncio.create_task(bench.call(_Held()))
    await _settled()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def cancelled_probe_makes_room(library: BreakerLibrary) -> Finding:
    """After a probe that was cancelled the next call may probe at once."""
    bench = _Bench(library)
    await bench.trip()
    bench.clock.move(_LATER_SECONDS)
    await _cancelled(bench)
    if await bench.is_reached():
        return Finding(answer=True, seen="the next call came through")
    bench.clock.move(_LATER_SECONDS)
    if await bench.is_reached():
        return Finding(answer=False, seen="it opened again, for its open time")
    return Finding(answer=False, seen="no call ever came through again")


async def lost_probe_makes_room(library: BreakerLibrary) -> Finding:
    """A probe that never ends does not keep the circuit half-open for ever."""
    bench = _Bench(library)
    await bench.trip()
    bench.clock.move(_LATER_SECONDS)
    held = _Held()
    lost = asyncio.create_task(bench.call(held))
    await _settled()
    if await bench.is_reached():
        finding = Finding(answer=None, seen="probes are not counted: the next call came through")
    else:
        bench.clock.move(_A_DAY_SECONDS)
        is_reached = await bench.is_reached()
        finding = Finding(
            is_reached, f"a day later {'a' if is_reached else 'no'} call came through"
        )
    held.let_go()
    await lost
    return finding


async def metrics_only(library: BreakerLibrary) -> Finding:
    """Can be told to let every call through and count all the same."""
    bench = _Bench(library, Wish(is_metrics_only=True))
    ends = [await bench.call(_failing) for _ in range(100)]
    counted = library.counted(bench.breaker)
    seen = f"{ends.count('oops')} of 100 failing calls came through, {counted} were counted"
    return Finding(set(ends) == {"oops"} and counted > 0, seen)


def thread_safe(library: BreakerLibrary) -> Finding:
    """Holds a lock, and opens once and no more often where 16 threads fail at the same time."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        told = [_opened_by_threads(library) for _ in range(20)]
    finally:
        sys.setswitchinterval(before)
    has_lock = _Bench(library).has_lock()
    seen = f"{'a' if has_lock else 'no'} lock; opened once in {told.count(1)} of {len(told)} trials"
    return Finding(has_lock and set(told) == {1}, seen)


def _opened_by_threads(library: BreakerLibrary) -> int:
    told: list[str] = []
    bench = _Bench(library, Wish(consecutive=80, minimum=80, on_change=told.append))
    barrier = Barrier(_CALLERS)

    def caller() -> None:
        barrier.wait()
        for _ in range(10):
            bench.call_sync(_fails())

    threads = [Thread(target=caller) for _ in range(_CALLERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return told.count("open")


def calls_side_by_side(library: BreakerLibrary) -> Finding:
    """Threads call through a closed breaker at the same time."""
    reached = _reached_by_threads(_Bench(library), 4)
    return Finding(reached == 4, f"{reached} of 4 threads at a time")


async def asyncio_calls(library: BreakerLibrary) -> Finding:
    """Guards what awaits, in asyncio."""
    bench = _Bench(library)
    for _ in range(30):
        await bench.call(_failing)
    return Finding(bench.state == "open", library.uses or f"{bench.state} after 30 failures")


async def decorates_async(library: BreakerLibrary) -> Finding:
    """Its decorator sees the failures of an async function."""
    bench = _Bench(library)
    decorated = library.decorated(bench.breaker, _failing)
    for _ in range(30):
        await _end(decorated, is_async=True, refusal=library.refusal)
    return Finding(bench.state == "open", f"{bench.state} after 30 failures")


def trio_calls(library: BreakerLibrary) -> Finding:
    """Guards what awaits, in trio."""
    try:
        import trio
    except ImportError:
        return Finding(answer=None, seen="trio is not installed")
    bench = _Bench(library)

    async def awaits() -> None:
        await trio.lowlevel.checkpoint()
        raise Oops

    async def calls() -> None:
        for _ in range(30):
            await bench.call(awaits)

    trio.run(calls)
    return Finding(bench.state == "open", library.uses or f"{bench.state} after 30 failures")


def listeners_outside_locks(library: BreakerLibrary) -> Finding:
    """While a listener is told, another thread can use the breaker."""
    stuck: list[bool] = []

    def told(state: str) -> None:
        if state != "open":
            return
        other = Thread(target=lambda: bench.call_sync(_works()), daemon=True)
        other.start()
        other.join(0.5)
        stuck.append(other.is_alive())

    bench = _Bench(library, Wish(on_change=told))
    bench.trip_sync()
    seen = "another thread waited" if any(stuck) else "another thread was let in"
    return Finding(stuck == [False], seen if bench.has_lock() else "there is no lock")


def broken_listener_harmless(library: BreakerLibrary) -> Finding:
    """A listener that raises does not change how a call ends."""

    def told(state: str) -> None:
        raise ArithmeticError(state)

    bench = _Bench(library, Wish(on_change=told))
    for _ in range(30):
        try:
            library.run_sync(bench.breaker, _fails())
        except ArithmeticError:
            return Finding(answer=False, seen="the caller got the listener's error")
        except (Oops, library.refusal()):
            continue
    return Finding(answer=True, seen="the caller got what it would have got")


def refusals_stay_small(library: BreakerLibrary) -> Finding:
    """The error of a refusal does not grow with their number."""
    bench = _Bench(library)
    bench.trip_sync()
    depths = []
    for _ in range(50):
        try:
            library.run_sync(bench.breaker, _works())
        except library.refusal() as exc:
            depths.append(_depth(exc))
    seen = f"a traceback of {depths[0]} frames at first, {depths[-1]} at the 50th"
    return Finding(depths[0] == depths[-1], seen)


def _depth(exc: Exception) -> int:
    number, step = 0, exc.__traceback__
    while step is not None:
        number, step = number + 1, step.tb_next
    return number


def shared_state(library: BreakerLibrary) -> Finding:
    """Takes a store for its state, such as Redis, by which several processes share it."""
    found = {"state_storage", "storage", "uow"}.intersection(library.options())
    return Finding(bool(found), f"option {found.pop()}" if found else "no such option")


def results_judged(library: BreakerLibrary) -> Finding:
    """Some results can be counted as failures by an option."""
    breaker = library.judging(lambda result: result == 1, _Bench.clock)
    if breaker is None:
        return Finding(answer=False, seen="no such option")
    for _ in range(10):
        library.run_sync(breaker, _works())
    return Finding(library.state(breaker) == "open", f"{library.state(breaker)} after 10 such")


BREAKER_PROBES: dict[str, Callable[[BreakerLibrary], Any]] = {
    "failure rate over a window": failure_rate,
    "slow calls": slow_calls,
    "minimum number of calls": minimum_calls,
    "consecutive failures": consecutive_failures,
    "growing open time": growing_open_time,
    "open time with jitter": open_time_jitter,
    "exactly N probes, of 16 tasks": exact_probes_of_tasks,
    "exactly N probes, of 16 threads": exact_probes_of_threads,
    "late answers ignored": late_answers_ignored,
    "cancellation not counted": cancellation_not_counted,
    "a cancelled probe makes room": cancelled_probe_makes_room,
    "a lost probe makes room in time": lost_probe_makes_room,
    "metrics only": metrics_only,
    "thread-safe": thread_safe,
    "threads call side by side": calls_side_by_side,
    "asyncio": asyncio_calls,
    "decorates async functions": decorates_async,
    "trio": trio_calls,
    "listeners outside locks": listeners_outside_locks,
    "a broken listener does no harm": broken_listener_harmless,
    "refusals do not grow": refusals_stay_small,
    "state shared between processes": shared_state,
    "results can be failures": results_judged,
}
"""By question; each is asked of a breaker of its own."""


def full_jitter(library: RetryLibrary) -> Finding:
    """Waits are a random share, from nothing up, of a span that doubles."""
    wish = RetryWish(base_seconds=1.0)
    with library.waits() as waited:
        function = library.make(wish, _fails())
        for _ in range(300):
            _end_sync(function)
    firsts, seconds = waited[::2], waited[1::2]
    seen = (
        f"{min(firsts):.1f} s to {max(firsts):.1f} s, "
        f"then {min(seconds):.1f} s to {max(seconds):.1f} s"
    )
    is_full = max(min(firsts), min(seconds)) < 0.2
    return Finding(is_full and max(firsts) <= 1.0 and 1.5 < max(seconds) <= 2.0, seen)


def _end_sync(function: Function) -> str:
    try:
        function()
    except Oops:
        return "oops"
    except Exception:  # noqa: BLE001  tenacity's own for one that it gave up
        return "gave up"
    return "answer"


def _counting(fails: int | None = None) -> tuple[Function, list[int]]:
    """A function that fails so often, or always, and how often it was called."""
    calls = [0]

    def function() -> int:
        calls[0] += 1
        if fails is None or calls[0] <= fails:
            raise Oops
        return 1

    return function, calls


def attempt_limit(library: RetryLibrary) -> Finding:
    """Calls as often as it was told to, and no more."""
    function, calls = _counting()
    with library.waits():
        _end_sync(library.make(RetryWish(attempts=4), function))
    return Finding(calls[0] == 4, f"{calls[0]} calls for 4")


def limited_by_default(library: RetryLibrary) -> Finding:
    """Gives up though it was not told when to."""
    function, calls = _counting(fails=200)
    with library.waits():
        _end_sync(library.plain(function))
    return Finding(calls[0] <= 200, f"{calls[0]} calls" if calls[0] <= 200 else "goes on for ever")


def total_time(library: RetryLibrary) -> Finding:
    """Gives up when its time is up, though it has attempts left."""
    function, calls = _counting()
    wish = RetryWish(attempts=100, base_seconds=0.01, max_seconds=0.02, total_seconds=0.1)
    began_at = time.monotonic()
    _end_sync(library.make(wish, function))
    seconds = time.monotonic() - began_at
    return Finding(1 < calls[0] < 100 and seconds < 0.5, f"{calls[0]} calls of 100")


def waits_within_total_time(library: RetryLibrary) -> Finding:
    """Does not begin a wait that would outlast its total time."""
    wish = RetryWish(base_seconds=10.0, total_seconds=1.0)
    with library.waits() as waited:
        for _ in range(40):
            _end_sync(library.make(wish, _fails()))
    longest = max(waited, default=0.0)
    return Finding(longest <= 1.0, f"the longest wait was {longest:.1f} s of 1 s")


def shared_budget(library: RetryLibrary) -> Finding:
    """In an outage all retries of the process together stay a share of its calls."""
    retries = 0
    for _ in range(2):
        function, calls = _counting()
        retried = library.sharing(function)
        for _ in range(500):
            _end_sync(retried)
        retries += calls[0] - 500
    return Finding(retries < 500, f"{retries / 10:.0f} retries for 100 calls")


def honours_retry_after(library: RetryLibrary) -> Finding:
    """Waits as long as the answer's Retry-After says, without code for it."""

    def refused() -> None:
        raise _refusal()

    with library.waits() as waited:
        _end_sync(library.make(RetryWish(base_seconds=0.01), refused))
    return Finding(min(waited) >= 7.0, f"waited {waited[0]:.1f} s of 7 s")


def _refusal() -> Oops:
    exc: Any = Oops()
    exc.response = SimpleNamespace(status_code=503, headers={"Retry-After": "7"})
    return exc  # type: ignore[no-any-return]


async def _fails_once_and_awaits() -> tuple[Function, list[int]]:
    function, calls = _counting(fails=1)

    async def awaits() -> int:
        result: int = function()
        return result

    return awaits, calls


async def asyncio_retries(library: RetryLibrary) -> Finding:
    """Retries what awaits, in asyncio."""
    return await _retries(library)


async def _retries(library: RetryLibrary) -> Finding:
    function, calls = await _fails_once_and_awaits()
    end = await _end(library.make(RetryWish(base_seconds=0.001), function), is_async=True)
    return Finding(end == "answer" and calls[0] == 2, f"{calls[0]} calls")


def trio_retries(library: RetryLibrary) -> Finding:
    """Retries what awaits, in trio."""
    try:
        import trio
    except ImportError:
        return Finding(answer=None, seen="trio is not installed")
    return trio.run(_retries, library)


def has_test_mode(library: RetryLibrary) -> Finding:
    """Tests can have all retries of the process wait for nothing."""
    if library.test_mode is None:
        return Finding(answer=False, seen="each function's own")
    function, calls = _counting(fails=1)
    retried = library.make(RetryWish(base_seconds=30.0), function)
    began_at = time.monotonic()
    with library.test_mode():
        end = _end_sync(retried)
    return Finding(
        end == "answer" and time.monotonic() - began_at < 5.0 and calls[0] == 2,
        f"{calls[0]} calls at once",
    )


async def deadline_aware(library: RetryLibrary) -> Finding:
    """Gives up at once where the request's deadline comes before the next attempt."""
    ends = []

    async def refused() -> None:
        raise _refusal()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        began_at = time.monotonic()
        try:
            await library.make(RetryWish(base_seconds=10.0), refused)()
        finally:
            ends.append(time.monotonic() - began_at)

    try:
        await request(_limited(app))
    except Oops:
        pass
    return Finding(ends[0] < 0.1, "at once" if ends[0] < 0.1 else "was cut off at the deadline")


def by_result(library: RetryLibrary) -> Finding:
    """Some results can be retried by an option."""
    results = [None, 1]
    retried = library.by_result(lambda result: result is None, lambda: results.pop(0))
    if retried is None:
        return Finding(answer=False, seen="no such option")
    with library.waits():
        end = retried()
    return Finding(end == 1, f"got {end}")


def retries_blocks(library: RetryLibrary) -> Finding:
    """Retries a block of code, not functions alone."""
    function, calls = _counting(fails=1)
    retried = library.block(function)
    if retried is None:
        return Finding(answer=False, seen="no such form")
    with library.waits():
        retried()
    return Finding(calls[0] == 2, f"{calls[0]} calls")


def _limited(app: ASGIApp) -> ASGIApp:
    return TimeoutMiddleware(app, total_seconds=0.3)


RETRY_PROBES: dict[str, Callable[[RetryLibrary], Any]] = {
    "full jitter": full_jitter,
    "attempt limit": attempt_limit,
    "limited by default": limited_by_default,
    "total time": total_time,
    "no wait beyond the total time": waits_within_total_time,
    "budget shared in the process": shared_budget,
    "honours Retry-After": honours_retry_after,
    "asyncio": asyncio_retries,
    "trio": trio_retries,
    "test mode": has_test_mode,
    "aware of the request's deadline": deadline_aware,
    "retries by result": by_result,
    "retries a block": retries_blocks,
}


def _asked(
    probes: dict[str, Callable[[Any], Any]], libraries: Sequence[Any], left_out: dict[str, str]
) -> dict[str, dict[str, Any]]:
    """Each question, what it means, and the answer of each library that could be imported."""
    asked: dict[str, dict[str, Any]] = {
        question: {"means": probe.__doc__, "answers": {}} for question, probe in probes.items()
    }
    for library in libraries:
        try:
            for question, probe in probes.items():
                asked[question]["answers"][library.name] = _answer(probe, library).told()
        except ImportError as missing:
            left_out[library.name] = str(missing)
    return asked


def _answer(probe: Callable[[Any], Any], library: Any) -> Finding:
    is_breaker = isinstance(library, BreakerLibrary)
    with library.hand(_Bench.clock) if is_breaker else library.alone():
        found = probe(library)
        finding: Finding = asyncio.run(found) if asyncio.iscoroutine(found) else found
    return finding


# Output


def rows(results: dict[str, Any]) -> Iterator[tuple[str, list[list[str]]]]:
    """Each table of the results: what it tells, and its cells."""
    for name, scenario in results["costs"].items():
        cells = [_cost_cells(row) for row in scenario["subjects"]]
        yield name, [["", "form", "rules", "+ns", "x the kit", "x its default"], *cells]
    for name, asked in results["semantics"].items():
        libraries = list(next(iter(asked.values()))["answers"])
        lines = [
            [question, *(found["answers"][library]["answer"] for library in libraries)]
            for question, found in asked.items()
        ]
        yield f"what {name} do", [["", *libraries], *lines]


def _cost_cells(row: dict[str, Any]) -> list[str]:
    if row["library"] == _BARE:
        return [_BARE, "", "", f"takes {middle(row['ns'])}", NOTHING, NOTHING]
    return [
        row["library"],
        row["form"],
        row["rules"],
        middle(row["ns_added"]),
        figure(row["times_the_kit"]),
        figure(row["times_its_default"]),
    ]


def markdown(results: dict[str, Any]) -> str:
    """All tables, and who was left out."""
    blocks = [f"{name}:\n\n{table(cells)}" for name, cells in rows(results)]
    blocks += [f"{name} was left out: {why}" for name, why in results["left_out"].items()]
    return "\n\n".join(blocks)


def main(arguments: list[str] | None = None) -> int:
    options = _options(arguments)
    command = ["python", "-m", "benchmarks.guards", *(arguments or sys.argv[1:])]
    pace = Pace(options.patience_seconds)
    left_out: dict[str, str] = {}
    results = {
        **machine(command, packages=PACKAGES),
        "rounds": options.rounds,
        "calls_per_round": options.calls,
        "costs": {one.name: _scenario(one, options, pace, left_out) for one in SCENARIOS},
        "pace": pace.told(),
        "semantics": {
            "breakers": _asked(BREAKER_PROBES, BREAKER_LIBRARIES, left_out),
            "retries": _asked(RETRY_PROBES, RETRY_LIBRARIES, left_out),
        },
        "left_out": left_out,
    }
    if options.markdown:
        print(markdown(results))
    else:
        _print(results)
    if options.json is not None:
        write(options.json, results)
    return 0


def _scenario(
    scenario: Scenario, options: argparse.Namespace, pace: Pace, left_out: dict[str, str]
) -> dict[str, Any]:
    subjects, missing = asyncio.run(
        measure_guards(scenario, rounds=options.rounds, calls=options.calls, pace=pace)
    )
    left_out.update(missing)
    return {"per": "call", "subjects": _costs(subjects)}


def _print(results: dict[str, Any]) -> None:
    for name, cells in rows(results):
        print(name)
        print_table([[cell.replace("**", "") for cell in line] for line in cells])
        print()
    for name, why in results["left_out"].items():
        print(f"left out: {name} ({why})")


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.guards",
        description="What breakers and retries add to a call, and what they do.",
    )
    parser.add_argument("--rounds", type=int, default=40, help="turns each has")
    parser.add_argument("--calls", type=int, default=2000, help="in one turn")
    parser.add_argument(
        "--patience-seconds", type=float, default=60.0, help="to wait for others on the machine"
    )
    parser.add_argument("--markdown", action="store_true", help="print the tables as Markdown")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures to FILE")
    options = parser.parse_args(arguments)
    if options.rounds < 1 or options.calls < 1:
        parser.error("--rounds and --calls must be at least 1")
    return options


if __name__ == "__main__":
    sys.exit(main())
