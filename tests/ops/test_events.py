"""The stream: one snapshot for all who look, none while nobody does, and nobody holds anybody up."""

import asyncio
import signal

import orjson
import pytest
import trio

from asgi_errorkit import async_library
from asgi_errorkit.ops import events as events_module
from asgi_errorkit.ops.events import Events, snapshot
from asgi_errorkit.ops.of_kit import OfKit
from asgi_errorkit.ops.replies import OpsError
from asgi_errorkit.ops.shared import Shared
from asgi_errorkit.testing import HandClock

from .asking import BEARER, HOST, Served


@pytest.fixture(params=["asyncio", "trio"])
def ran(request):
    if request.param == "trio":
        return trio.run
    return lambda main: asyncio.run(main())


class Viewer:
    """One who looks: leaves when told to, after so many events, or never; may read slowly."""

    def __init__(self, leaves_after=10**9, pause=0.0):
        self.sent, self.events = [], []
        self._leaves_after = leaves_after
        self._pause = pause

    async def receive(self):
        if not self.sent:
            return {"type": "http.request", "body": b"", "more_body": False}
        while len(self.events) < self._leaves_after:
            await async_library.sleep(0.005)
        return {"type": "http.disconnect"}

    async def send(self, message):
        self.sent.append(message)
        body = message.get("body", b"")
        if body.startswith(b"event:"):
            self.events.append(body)
            if self._pause:
                await async_library.sleep(self._pause)

    @property
    def is_complete(self):
        return self.sent[-1].get("more_body") is False


def quick(make, **options):
    """Events that come every 20 ms."""
    events = Events(make, **{"every_seconds": 0.02, "most": 10, **options})
    events._pause_seconds = 0.025
    return events


def test_a_viewer_is_sent_events_until_it_leaves(ran):
    """The stream then ends at once, and nobody is counted as looking."""
    number = iter(range(100))
    events = quick(lambda: {"n": next(number)})
    viewer = Viewer(leaves_after=3)
    ran(lambda: events.serve(viewer.receive, viewer.send))
    start = viewer.sent[0]
    assert (start["status"], dict(start["headers"])[b"content-type"][:17]) == (
        200,
        b"text/event-stream",
    )
    assert dict(start["headers"])[b"cache-control"] == b"no-store"
    assert viewer.sent[1]["body"] == b"retry: 250\n\n"
    assert viewer.events == [b'event: snapshot\ndata: {"n":%d}\n\n' % n for n in range(3)]
    assert not viewer.is_complete
    assert events.as_dict() == {"viewers": 0, "refused": 0, "stuck": 0}


def test_many_viewers_share_what_one_makes(ran):
    """However many look, it is made once each time, by one of them."""
    made = []
    events = quick(lambda: made.append(1) or len(made), most=50)
    viewers = [Viewer(leaves_after=4) for _ in range(50)]

    async def main():
        await events_together(events, viewers)

    ran(main)
    most = max(len(viewer.events) for viewer in viewers)
    assert most <= len(made) <= 30  # not two hundred
    assert all(len(viewer.events) >= 4 for viewer in viewers)


async def events_together(events, viewers):
    from asgi_errorkit.ops.off_loop import together

    await together(
        [lambda viewer=viewer: events.serve(viewer.receive, viewer.send) for viewer in viewers]
    )


async def test_nothing_is_made_while_nobody_looks():
    made = []
    events = quick(lambda: made.append(1))
    await asyncio.sleep(0.1)
    assert made == []
    viewer = Viewer(leaves_after=2)
    await events.serve(viewer.receive, viewer.send)
    number = len(made)
    await asyncio.sleep(0.1)
    assert len(made) == number


async def test_a_slow_viewer_misses_what_came_between():
    """It is sent the latest, and holds up none of the others; nothing waits for it in a queue."""
    made = []
    events = quick(lambda: made.append(1) or len(made))
    slow, fast = Viewer(leaves_after=2, pause=0.2), Viewer(leaves_after=8)
    await events_together(events, [slow, fast])
    numbers = [orjson.loads(event.partition(b"data: ")[2]) for event in slow.events]
    assert numbers[1] - numbers[0] > 2
    assert len(fast.events) == 8


async def test_beyond_so_many_viewers_the_next_is_refused():
    """Counted, and told when to come again; a place that is left is free."""
    events = quick(lambda: 1, most=2)
    viewers = [Viewer() for _ in range(2)]
    tasks = [asyncio.create_task(events.serve(v.receive, v.send)) for v in viewers]
    await asyncio.sleep(0.03)
    with pytest.raises(OpsError) as refused:
        events.check_room()
    assert (refused.value.status, refused.value.headers) == (503, ((b"retry-after", b"15"),))
    assert events.as_dict() == {"viewers": 2, "refused": 1, "stuck": 0}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert events.viewers == 0
    viewer = Viewer(leaves_after=1)
    await events.serve(viewer.receive, viewer.send)


def test_a_stream_ends_by_itself(ran):
    """In order, so that a server that stops waits so long at most; the browser comes again."""
    events = quick(lambda: 1, longest_seconds=0.1)
    viewer = Viewer()
    ran(lambda: events.serve(viewer.receive, viewer.send))
    assert viewer.is_complete
    assert viewer.events


def test_a_stream_ends_when_uvicorn_is_to_stop(ran, monkeypatch):
    """Which waits for it, and tells nobody but whoever looks at its handler of the signal."""

    class Server:
        should_exit = False

        def handle_exit(self, number, frame):
            self.should_exit = True

    server = Server()
    monkeypatch.setattr(signal, "getsignal", lambda number: server.handle_exit)

    def make():
        server.should_exit = True

    viewer = Viewer()
    ran(lambda: quick(make).serve(viewer.receive, viewer.send))
    assert viewer.is_complete
    assert len(viewer.events) == 1


@pytest.mark.parametrize("handler", [None, signal.SIG_DFL, print, lambda *_: None])
def test_other_handlers_of_the_signal_tell_nothing(handler, monkeypatch):
    monkeypatch.setattr(signal, "getsignal", lambda number: handler)
    assert events_module.server_is_stopping() is False


def test_who_takes_nothing_is_let_go(ran, monkeypatch):
    """A client that does not read: its place is free when its time is up, and it is counted."""
    monkeypatch.setattr(events_module, "_PATIENCE_SECONDS", 0.05)
    events = quick(lambda: 1, longest_seconds=0.05)

    async def stuck(message):
        await async_library.sleep(60)

    ran(lambda: events.serve(Viewer().receive, stuck))
    assert events.as_dict() == {"viewers": 0, "refused": 0, "stuck": 1}


async def test_what_cannot_be_made_is_told_and_tried_again():
    outcome = [RuntimeError("a secret"), None]

    def make():
        told = outcome.pop(0) if outcome else None
        if told:
            raise told
        return 1

    viewer = Viewer(leaves_after=2)
    await quick(make).serve(viewer.receive, viewer.send)
    assert viewer.events == [
        b'event: failed\ndata: {"error":"RuntimeError"}\n\n',
        b"event: snapshot\ndata: 1\n\n",
    ]


async def test_a_server_that_repeats_the_body_does_not_make_it_spin():
    """One whose receive never waits: the viewer sleeps all the same."""
    asked = []

    async def receive():
        asked.append(1)
        return {"type": "http.request", "body": b"", "more_body": False}

    viewer = Viewer()
    events = quick(lambda: 1, longest_seconds=0.1)
    await events.serve(receive, viewer.send)
    assert viewer.is_complete
    assert len(asked) < 1000


class Breaking(Viewer):
    """A server whose send raises at the second event."""

    def __init__(self, error):
        super().__init__()
        self._error = error

    async def send(self, message):
        if self.events:
            raise self._error
        await super().send(message)


async def test_a_send_that_says_the_client_has_left_ends_it():
    """As some servers do; nothing more is sent, and nothing is raised."""
    events, viewer = quick(iter(range(9)).__next__), Breaking(BrokenPipeError())
    await events.serve(viewer.receive, viewer.send)
    assert (len(viewer.events), events.viewers) == (1, 0)


async def test_what_breaks_amid_a_stream_comes_through_and_is_not_answered():
    """A response that has begun cannot begin again."""
    served, viewer = Served(), Breaking(RuntimeError("of the server"))
    alone = served.ops.app(served.kit)
    alone._answers._events._pause_seconds = 0.01
    alone._answers._events._shared._fresh_seconds = 0
    scope = {
        "type": "http",
        "method": "GET",
        "path": "/events",
        "headers": [(name.lower().encode(), value.encode()) for name, value in (HOST, BEARER)],
    }
    with pytest.raises(RuntimeError, match="of the server"):
        await alone(scope, viewer.receive, viewer.send)
    assert [message["type"] for message in viewer.sent].count("http.response.start") == 1


# What is shared


async def test_who_is_cancelled_while_making_leaves_it_to_the_next():
    made, begun = [], asyncio.Event()

    async def make():
        begun.set()
        await asyncio.sleep(0.05)
        made.append(1)
        return len(made)

    shared = Shared(make, fresh_seconds=60)
    first = asyncio.create_task(shared.get())
    await begun.wait()
    others = [asyncio.create_task(shared.get()) for _ in range(3)]
    await asyncio.sleep(0.01)
    first.cancel()
    assert await asyncio.wait_for(asyncio.gather(*others), 5) == [(1, 1)] * 3
    assert made == [1]


async def test_who_waits_and_is_cancelled_is_not_missed():
    async def make():
        await asyncio.sleep(0.03)
        return "it"

    shared = Shared(make, fresh_seconds=60)
    first = asyncio.create_task(shared.get())
    await asyncio.sleep(0.005)
    waiting = asyncio.create_task(shared.get())
    await asyncio.sleep(0.005)
    waiting.cancel()
    assert (await first).value == "it"


async def test_what_was_made_is_good_for_its_time():
    clock, made = HandClock(), []

    async def make():
        made.append(1)

    shared = Shared(make, fresh_seconds=1, clock=clock)
    assert [(await shared.get()).number for _ in range(3)] == [1, 1, 1]
    clock.move(0.99)
    assert (await shared.get()).number == 1
    clock.move(0.02)
    assert (await shared.get()).number == 2


async def test_in_a_forked_child_nobody_is_making_it():
    """Who did is the parent's: a child that waited for them would wait for ever."""

    async def make():
        return 1

    shared = Shared(make, fresh_seconds=1)
    shared._is_making = True
    shared._lock.acquire()
    shared.reset_after_fork()
    assert (await asyncio.wait_for(shared.get(), 5)).value == 1


# What is seen


async def test_a_snapshot_is_bounded():
    """The routes that are asked for most: a viewer is sent it each second."""
    served = Served()
    for number in range(30):
        for _ in range(1 + number % 3):
            await served.ask(f"/route{'x' * number}", HOST)
    await served.ask("/boom", HOST)
    told = snapshot(OfKit(served.kit))
    assert told["error_stats"]["total_errors"] == 1
    assert len(told["performance_stats"]["routes"]) == 20
    assert min(route["requests"] for route in told["performance_stats"]["routes"].values()) >= 2
    orjson.dumps(told)


async def test_the_stream_needs_the_token_and_its_place():
    served = Served(max_viewers=0)
    assert (await served.ask("/_errorkit/events", HOST)).status == 401
    assert (await served.ask("/_errorkit/events", HOST, BEARER)).status == 503
