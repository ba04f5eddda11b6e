"""Workers that are processes of their own: each sees what the others do, whoever is killed amid it."""

import gc
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from weakref import ref

import pytest

from asgi_errorkit import CircuitBreakingMiddleware, ErrorKit
from asgi_errorkit.middleware.structured_logging import StructuredLoggingMiddleware
from asgi_errorkit.stack import MiddlewareStack
from asgi_errorkit.testing import LogLines, request

# Does what it is told, line by line.
WORKER = """
import asyncio, logging, os, sys, threading
from asgi_errorkit import *
from asgi_errorkit.testing import request
logging.disable(logging.CRITICAL)
kit = POLICY = None

async def app(scope, receive, send):
    if scope["query_string"] == b"fail":
        raise OSError("down")
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"ok"})

def begin(path, mode, open_seconds):
    global POLICY, kit
    if kit is not None:
        kit.tracker.recorder.ledger.close()
    POLICY = CircuitPolicy(
        minimum_number_of_calls=10, open_seconds=open_seconds, jitter=0.0, across_workers=mode,
        max_concurrent_probes=3, successes_to_close=100,
    )
    stack = MiddlewareStack()
    stack.add_middleware(StructuredLoggingMiddleware, stream=open(os.devnull, "w"))
    stack.add_middleware(CircuitBreakingMiddleware, policy=POLICY)
    kit = ErrorKit(app, stack=stack, directory=path)
    ask(path="/begin")
    return breaker().allow() > 0

def ask(query=b"", path="/pay"):
    return asyncio.run(request(kit, path=path, query=query)).status

def breaker(name="x"):
    return kit.tracker.breaker(name, POLICY)

taken = []

def give_back():
    for each in taken: breaker().record_ignored(each)

def crowd(calls):
    taken.clear()
    go = threading.Barrier(calls)
    def one():
        go.wait()
        taken.append(breaker().allow())
    threads = [threading.Thread(target=one) for _ in range(calls)]
    for each in threads: each.start()
    for each in threads: each.join()
    return sum(map(bool, taken))

def forked():
    pid = os.fork()
    if pid:
        return os.waitpid(pid, 0)[1]
    try:
        ask(path="/other")
        for _ in range(10): breaker("child").record_failure(breaker("child").allow())
        import time; time.sleep(0.5)
    finally:
        os._exit(0)

for line in sys.stdin:
    print(repr(eval(line)), flush=True)
"""


class Worker:
    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", WORKER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def tell(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()

    def hear(self) -> Any:
        assert self.process.stdout is not None
        return eval(self.process.stdout.readline())

    def do(self, line: str) -> Any:
        self.tell(line)
        return self.hear()

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture(scope="module")
def pool() -> Iterator[list[Worker]]:
    """Processes that begin anew for each test: to start one takes long."""
    workers = [Worker() for _ in range(3)]
    yield workers
    for each in workers:
        each.kill()


@pytest.fixture
def start(tmp_path: Path, pool: list[Worker]) -> Callable[..., list[Worker]]:
    def starting(number: int, mode: str = "merged", open_seconds: float = 60.0) -> list[Worker]:
        pool[:] = [Worker() if each.process.returncode is not None else each for each in pool]
        for each in pool[:number]:
            each.tell(f"begin({str(tmp_path / 'record')!r}, {mode!r}, {open_seconds})")
        assert all(each.hear() for each in pool[:number])
        return pool[:number]

    return starting


def soon(is_so: Callable[[], bool]) -> bool:
    """Whether it comes to be so: within 100 ms, but machines may be busy."""
    until = time.monotonic() + 2.0
    while time.monotonic() < until:
        if is_so():
            return True
        time.sleep(0.01)
    return False


def test_an_open_circuit_is_seen_by_the_others(start: Callable[..., list[Worker]]) -> None:
    first, second = start(2)
    first.do("[breaker().record_failure(breaker().allow()) for _ in range(10)]")
    assert first.do("breaker().is_open")
    assert soon(lambda: second.do("breaker().allow()") == 0)


def test_an_open_route_is_refused_by_the_others(start: Callable[..., list[Worker]]) -> None:
    """Though no request has made its circuit there."""
    first, second = start(2)
    assert second.do("ask()") == 200
    assert second.do("kit.tracker.circuits.get('GET /pay')") is None
    assert first.do("[ask(b'fail') for _ in range(10)]") == [500] * 10
    assert first.do("ask()") == 503
    assert soon(lambda: second.do("ask()") == 503)


def test_a_fault_of_one_process_stays_its_own(start: Callable[..., list[Worker]]) -> None:
    first, second, third = start(3)
    second.do("[breaker().record_success(breaker().allow()) for _ in range(90)]")
    first.do("[breaker().record_failure(breaker().allow()) for _ in range(10)]")
    time.sleep(0.3)
    opened = [each.do("breaker().is_open") for each in (first, second, third)]
    assert opened == [True, False, False]


def half_open(start: Callable[..., list[Worker]], number: int) -> list[Worker]:
    workers = start(number, "own", 0.3)
    workers[0].do("breaker().open()")
    for each in workers:
        assert soon(lambda each=each: each.do("breaker().state.value") == "half_open")  # type: ignore[misc]
    return workers


def test_probes_are_three_on_the_host_however_many_ask_at_once(
    start: Callable[..., list[Worker]],
) -> None:
    workers = half_open(start, 3)
    for each in workers:
        each.tell("crowd(16)")
    assert sum(each.hear() for each in workers) == 3


def test_who_is_killed_amid_a_probe_leaves_its_place(start: Callable[..., list[Worker]]) -> None:
    first, second = half_open(start, 2)
    assert first.do("crowd(8)") == 3
    assert second.do("breaker().allow()") == 0
    first.do("give_back()")
    assert second.do("crowd(8)") == 3
    second.do("give_back()")
    assert first.do("crowd(8)") == 3
    first.kill()
    assert second.do("crowd(8)") == 3


def test_a_forked_child_is_a_worker_of_its_own(start: Callable[..., list[Worker]]) -> None:
    first, second = start(2)
    second.do("breaker('child').is_open")
    first.tell("forked()")
    assert soon(lambda: bool(second.do("breaker('child').is_open")))
    assert first.hear() == 0
    assert soon(lambda: bool(first.do("breaker('child').is_open")))


def test_who_ends_waits_for_nobody(start: Callable[..., list[Worker]]) -> None:
    """The thread keeps no process alive."""
    (only,) = start(1)
    assert only.do("any('circuits' in each.name for each in threading.enumerate())")
    began = time.monotonic()
    only.process.communicate()
    assert only.process.returncode == 0
    assert time.monotonic() - began < 5.0


def circuit_threads() -> set[threading.Thread]:
    return {each for each in threading.enumerate() if each.name == "asgi-errorkit-circuits"}


@pytest.fixture
def turning() -> Callable[[], int]:
    """How many threads there are that others have not left: their kits may live on."""
    before = circuit_threads()
    return lambda: len(circuit_threads() - before)


async def hello(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"hello"})


def wrapped(path: Path) -> ErrorKit:
    stack = MiddlewareStack()
    stack.add_middleware(StructuredLoggingMiddleware, stream=LogLines())
    stack.add_middleware(CircuitBreakingMiddleware)
    return ErrorKit(hello, stack=stack, directory=path)


async def test_the_thread_ends_with_the_record_and_begins_again(
    tmp_path: Path, turning: Callable[[], int]
) -> None:
    kit = wrapped(tmp_path / "record")
    assert turning() == 0, "nothing has come yet"
    for _ in range(2):
        await request(kit)
        assert turning() == 1
        kit.tracker.recorder.flush()
        assert kit.tracker.recorder.ledger is not None
        kit.tracker.recorder.ledger.close()
        assert soon(lambda: turning() == 0)


async def test_the_thread_ends_with_its_kit(tmp_path: Path, turning: Callable[[], int]) -> None:
    kit = wrapped(tmp_path / "record")
    await request(kit)
    assert turning() == 1
    gone = ref(kit)
    del kit
    gc.collect()
    assert gone() is None
    assert soon(lambda: gc.collect() >= 0 and turning() == 0)
