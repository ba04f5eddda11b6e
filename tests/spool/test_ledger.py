"""Each request is listed before the app is called, and counted in a snapshot or in a slot, once."""

import asyncio
import contextlib
import logging
import os
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgi_errorkit import (
    ErrorKit,
    ErrorTracker,
    ErrorType,
    MiddlewareStack,
    Recorder,
    current,
)
from asgi_errorkit import (
    exchange as places,
)
from asgi_errorkit.exchange import ENDED_AS, STATUS, begin
from asgi_errorkit.middleware.structured_logging import StructuredLoggingMiddleware
from asgi_errorkit.outcome import Outcome, outcome_of
from asgi_errorkit.spool.layout import SEGMENT_BYTES, SLOTS
from asgi_errorkit.spool.ledger import Ledger
from asgi_errorkit.spool.reading import Reading, decode
from asgi_errorkit.spool.results import result_of, told
from asgi_errorkit.spool.segment import Segment
from asgi_errorkit.testing import HandClock, LogLines, request, session


class Told:
    """Sources of what else is saved, by name."""

    def __init__(self, others: dict[str, Any]) -> None:
        self._others = others
        self.lost = self.forgotten = 0

    def counts(self, now: float) -> dict[str, Any]:
        return {}

    def others(self, now: float, *, is_last: bool) -> dict[str, Any]:
        return self._others

    def note_lost(self, *_: Any) -> None:
        self.lost += 1

    def forget(self) -> None:
        self.forgotten += 1


class World:
    """A kit whose ledger writes to a file that is read here, by a hand clock and without threads."""

    def __init__(self, path: Path, app: Any, **sources: Any) -> None:
        self.path = path
        self.clock = HandClock()
        self.removed = 0
        self.opened = 0
        self.recorder = Recorder(flush_seconds=None, clock=self.clock)
        tracker = ErrorTracker(recorder=self.recorder)
        self.told = Told(sources)
        self.ledger = self.recorder.ledger = Ledger(self.recorder, self.open_segment, self.told)
        stack = MiddlewareStack(error_tracker=tracker)
        stack.add_middleware(StructuredLoggingMiddleware, stream=LogLines())
        self.kit = stack.create_middleware_stack(app)

    def open_segment(self, first: int) -> tuple[Segment, Any]:
        self.opened += 1
        file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            os.truncate(file, SEGMENT_BYTES)
            return Segment(file, b"{}", first), self.remove
        finally:
            os.close(file)

    def remove(self) -> None:
        self.removed += 1
        self.path.unlink()

    def read(self) -> Reading:
        return decode(self.path.read_bytes())

    def outcomes(self) -> Counter[str]:
        """What has ended, by its outcome: counted in the snapshot, or listed since."""
        reading = self.read()
        counted = Counter[str](orjson.loads(reading.body)["outcomes"] if reading.body else {})
        counted.update(told(each.result).outcome for each in reading.ended)
        return counted


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "segment"


async def hello(scope: Any, receive: Any, send: Any) -> None:
    if scope["path"] == "/boom":
        raise ValueError("boom")
    status = int(scope["path"].strip("/") or 200)
    await send({"type": "http.response.start", "status": status, "headers": []})
    await send({"type": "http.response.body", "body": b"hello"})


async def test_a_request_is_listed_before_the_app_is_called_and_with_its_phase(path: Path) -> None:
    seen = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(world.read().in_flight)
        world.clock.move(2.0)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        seen.append(world.read().in_flight)
        await send({"type": "http.response.body", "body": b"hello"})

    world = World(path, app)
    began_at = world.clock()
    await request(world.kit, path="/videos/7", headers=[(b"x-request-id", b"abc-1")])
    (before,), (amid,) = seen
    assert (before.request_id, before.method, before.path) == ("abc-1", "GET", "/videos/7")
    assert (before.started_at, before.first_byte_at) == (began_at, 0.0)
    assert amid.first_byte_at == began_at + 2.0
    assert world.read().in_flight == []
    (ended,) = world.read().ended
    assert (ended.ended_at, told(ended.result)) == (began_at + 2.0, (200, "ok", "", False, False))


async def test_a_session_is_listed_while_it_goes_on(path: Path) -> None:
    seen = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        seen.append(world.read().in_flight)
        await send({"type": "websocket.accept"})
        assert world.read().in_flight[0].first_byte_at > 0.0
        await receive()

    world = World(path, app)
    await session(world.kit, "/chat")
    assert [each.path for each in seen[0]] == ["/chat"]
    assert world.read().in_flight == []
    assert world.outcomes() == {"ok": 1}


@pytest.mark.parametrize("saves", ["never", "at times", "at the end"])
async def test_each_request_is_counted_once_wherever_it_is_counted(path: Path, saves: str) -> None:
    world = World(path, hello)
    sent: Counter[str] = Counter()
    for number in range(3 * SLOTS):
        wanted, outcome = [("/", "ok"), ("/404", "client_error"), ("/boom", "server_error")][
            number % 3
        ]
        await request(world.kit, path=wanted)
        sent[outcome] += 1
        if saves == "at times" and number % 700 == 0:
            world.clock.move(1.0)
            world.ledger.flush()
            assert world.outcomes() == sent
    if saves == "at the end":
        world.clock.move(1.0)
        world.ledger.flush()
    assert world.outcomes() == sent
    assert world.ledger.unlisted == 0


async def test_more_requests_than_there_are_slots_are_served_and_counted(path: Path) -> None:
    gate = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await gate.wait()
        await hello(scope, receive, send)

    world = World(path, app)
    tasks = [asyncio.create_task(request(world.kit)) for _ in range(SLOTS + 10)]
    for _ in range(3):
        await asyncio.sleep(0)
    assert len(world.read().in_flight) == SLOTS
    gate.set()
    replies = await asyncio.gather(*tasks)
    assert {reply.status for reply in replies} == {200}
    world.clock.move(1.0)
    world.ledger.flush()
    assert world.read().unlisted == world.ledger.unlisted == 10
    assert world.outcomes() == {"ok": SLOTS + 10}


async def test_a_directory_that_fails_costs_a_warning_and_no_request(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    world = World(path, hello)

    def full(_: int) -> Any:
        raise OSError("/spool is full: make room there")

    world.ledger._open_segment = full
    with caplog.at_level(logging.WARNING, logger="asgi_errorkit.spool"):
        for _ in range(3):
            assert (await request(world.kit)).status == 200
    (line,) = caplog.records
    assert line.message.endswith("answer for themselves alone: /spool is full: make room there")


async def test_sources_are_saved_each_second_and_those_that_fail_cost_the_others_nothing(
    path: Path,
) -> None:
    asked = []

    def broken() -> Any:
        raise ValueError("broken")

    world = World(
        path,
        hello,
        first=lambda: asked.append(1) or {"a": 1},
        broken=broken,
        huge=lambda: "x" * SEGMENT_BYTES,
        last=lambda: [1, 2],
    )
    await request(world.kit)
    for _ in range(5):
        world.ledger.flush()
    body = orjson.loads(world.read().body or b"")
    assert body == {"outcomes": {"ok": 1}, "error_types": {}, "first": {"a": 1}, "last": [1, 2]}
    assert (len(asked), world.ledger.left_out) == (1, 2)
    world.clock.move(1.0)
    world.ledger.flush()
    assert len(asked) == 2


async def test_after_a_lifespan_the_segment_is_gone_and_a_later_request_opens_another(
    path: Path,
) -> None:
    world = World(path, hello)

    await request(world.kit)
    world.ledger.rest()
    assert (world.removed, path.exists()) == (1, False)
    await request(world.kit)
    assert (world.opened, world.outcomes()) == (2, {"ok": 1})


async def test_a_lifespan_that_ends_while_a_request_goes_on_leaves_it_listed(path: Path) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        world.ledger.rest()
        assert len(world.read().in_flight) == 1
        await hello(scope, receive, send)

    world = World(path, app)
    assert (await request(world.kit)).status == 200
    assert world.removed == 0


async def test_the_end_of_the_process_is_no_death_also_amid_a_request(path: Path) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        world.ledger.close()
        await hello(scope, receive, send)

    world = World(path, app)
    assert (await request(world.kit)).status == 200
    assert world.removed == 1


async def test_a_forked_child_lists_in_a_segment_of_its_own(path: Path) -> None:
    """What was in flight when it was forked is the parent's."""
    parents = path.read_bytes

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/fork":
            before = parents()
            world.ledger.reset_after_fork()
            world.path = path.with_name("child")
            await request(world.kit, path="/200")
            assert parents() == before
        await hello(scope if scope["path"] != "/fork" else {"path": ""}, receive, send)

    world = World(path, app)
    assert (await request(world.kit, path="/fork")).status == 200
    assert decode(parents()).in_flight[0].path == "/fork"
    assert world.outcomes() == {"ok": 1}
    assert world.opened == 2


async def test_what_is_told_of_beside_a_request_is_no_request(path: Path) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        exchange = current()
        assert exchange is not None
        world.kit.tracker.record_error(ErrorType.CACHE)
        await hello(scope, receive, send)

    world = World(path, app)
    await request(world.kit)
    world.ledger.flush()
    body = orjson.loads(world.read().body or b"")
    assert (body["outcomes"], body["error_types"]) == ({"ok": 1}, {"cache": 1})


async def test_odd_methods_and_paths_are_served_as_they_are(path: Path) -> None:
    world = World(path, hello)
    assert (await request(world.kit, path="/200", method="PURGE ALL")).status == 200
    assert world.outcomes() == {"ok": 1}


@given(
    st.sampled_from([None, 0, 200, 204, 302, 404, 500, 503, 999, 70_000, -1]),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.sampled_from([None, "timeout", "shed", "circuit_open", "fallback"]),
)
def test_a_result_says_what_the_outcome_says(
    status: int | None, complete: bool, disconnected: bool, interrupted: bool, ended_as: str | None
) -> None:
    state = begin({}, {}, "", lambda: 1.0, 0.0)
    state[STATUS], state[places.COMPLETE] = status, complete
    state[places.DISCONNECTED], state[places.INTERRUPTED] = disconnected, interrupted
    state[ENDED_AS] = ended_as
    result = result_of(state)
    assert 0 < result < 2**64
    assert told(result).outcome == outcome_of(state).text


@given(st.integers(0, 2**64 - 1))
def test_whatever_number_is_read_tells_something(number: int) -> None:
    status, outcome, error_type, *_ = told(number)
    assert status is None or 0 < status < 65_536
    assert outcome in {"", *(each.text for each in Outcome)}
    assert isinstance(error_type, str)


def test_without_a_directory_nothing_is_listed() -> None:
    kit = ErrorKit(hello)
    assert kit.tracker.recorder.ledger is None


async def test_what_the_ring_has_lost_is_counted_and_its_slots_are_given_back(path: Path) -> None:
    """It ended, and was overwritten before anybody took it."""
    world = World(path, hello)
    await request(world.kit)
    world.ledger.flush()
    recorder = world.recorder
    with recorder._drain_lock:
        recorder._draining = True  # a reader that takes very long
        for _ in range(5000):
            await request(world.kit)
        recorder._draining = False
    await request(world.kit)
    for _ in range(3):
        world.clock.move(1.0)
        world.ledger.flush()
    assert recorder.lost > 500
    assert world.outcomes() == {"ok": 5002}
    assert world.ledger.segment is not None
    assert world.ledger.segment.free == SLOTS


async def test_what_belongs_to_a_segment_that_was_left_says_nothing_in_the_next(path: Path) -> None:
    """A request that ends after another segment was opened, or sends after its end."""
    gate, sends = asyncio.Event(), []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/long":
            await gate.wait()
        sends.append(send)
        await hello({"path": "/200"}, receive, send)

    world = World(path, app)
    long = asyncio.create_task(request(world.kit, path="/long"))
    for _ in range(5):
        await asyncio.sleep(0)
    world.ledger.close()
    await request(world.kit, path="/other")
    before = world.read().ended
    gate.set()
    assert (await long).status == 200
    assert world.read().ended == before
    assert world.ledger.segment is not None
    world.clock.move(1.0)
    world.ledger.flush()
    assert world.ledger.segment.free == SLOTS


async def test_a_send_after_the_end_says_nothing_of_who_has_the_slot_now(path: Path) -> None:
    late: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if late:
            with contextlib.suppress(Exception):
                await late[0]({"type": "http.response.start", "status": 200, "headers": []})
            (listed,) = world.read().in_flight
            assert listed.first_byte_at == 0.0
        else:
            late.append(send)
            await hello(scope, receive, send)
            return
        await hello({"path": "/200"}, receive, send)

    world = World(path, app)
    await request(world.kit, path="/200")
    world.clock.move(1.0)
    world.ledger.flush()
    assert (await request(world.kit, path="/200")).status == 200


def test_threads_that_serve_while_lifespans_end_are_counted_once(path: Path) -> None:
    """Whoever lets go of a segment, and whoever has it meanwhile."""
    world = World(path, hello)
    kept: Counter[str] = Counter()

    def put_away() -> None:
        kept.update(world.outcomes())
        path.unlink()

    world.remove = put_away  # type: ignore[method-assign]
    stop = threading.Event()
    served = [0, 0]

    def serve(number: int) -> None:
        async def run() -> None:
            while not stop.is_set():
                assert (await request(world.kit)).status == 200
                served[number] += 1

        asyncio.run(run())

    threads = [threading.Thread(target=serve, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + 2.0
    while time.monotonic() < deadline:
        world.ledger.rest()
    stop.set()
    for thread in threads:
        thread.join()
    world.ledger.close()
    assert kept.total() == sum(served) > 100


async def test_of_kits_within_one_another_the_outermost_counts(path: Path) -> None:
    inner = World(path.with_name("inner"), hello)
    outer = World(path, inner.kit)
    for _ in range(3):
        assert (await request(outer.kit, path="/200")).status == 200
    for world in (outer, inner):
        world.clock.move(1.0)
        world.recorder.drain()
        world.ledger.flush()
    assert outer.outcomes() == {"ok": 3}
    assert (inner.opened, inner.ledger._outcomes) == (0, {})
    assert (outer.ledger.unlisted, inner.ledger.unlisted) == (0, 0)
