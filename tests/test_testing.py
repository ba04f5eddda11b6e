"""The raw client is one as servers see it: it stays for its answer, unless it is told to leave."""

import asyncio
import subprocess
import sys

import pytest
import quart
import trio

from asgi_errorkit import ErrorKit, ErrorTracker
from asgi_errorkit.testing import request

START = {"type": "http.response.start", "status": 200, "headers": []}
LAST = {"type": "http.response.body", "body": b"done"}
DISCONNECT = {"type": "http.disconnect"}


def in_asyncio(app, **options):
    return asyncio.run(request(app, **options))


def in_trio(app, **options):
    async def main():
        return await request(app, **options)

    return trio.run(main)


in_either = pytest.mark.parametrize("run", [in_asyncio, in_trio])


@in_either
def test_who_waits_after_the_answer_hears_of_the_disconnect(run):
    """Each time it asks; the body came before."""
    heard = []

    async def app(scope, receive, send):
        heard.append(await receive())
        await send(START)
        await send(LAST)
        heard.extend([await receive(), await receive()])

    assert run(app, body=b"abc").complete
    assert heard == [
        {"type": "http.request", "body": b"abc", "more_body": False},
        DISCONNECT,
        DISCONNECT,
    ]


class Listening:
    """An app that listens for a disconnect all the time, as some frameworks do; tells what was when."""

    def __init__(self, *messages):
        self.messages = messages
        self.told = []

    async def listen(self, receive):
        while (await receive())["type"] != "http.disconnect":
            pass
        self.told.append("disconnect")

    async def answer(self, pause, send):
        for message in self.messages:
            await pause()
            await send(message)
            self.told.append(message["type"].removeprefix("http.response."))

    async def in_asyncio(self, scope, receive, send):
        async with asyncio.TaskGroup() as group:
            group.create_task(self.listen(receive))
            group.create_task(self.answer(lambda: asyncio.sleep(0), send))

    async def in_trio(self, scope, receive, send):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.listen, receive)
            nursery.start_soon(self.answer, trio.lowlevel.checkpoint, send)


BODIES = {
    "one": [LAST],
    "pieces": [{**LAST, "more_body": True}, LAST],
    "file": [{"type": "http.response.pathsend", "path": __file__}],
}


@pytest.mark.parametrize("bodies", BODIES.values(), ids=BODIES)
@in_either
def test_who_listens_all_the_time_hears_of_it_after_the_last_piece(run, bodies):
    app = Listening(START, *bodies)
    assert run(getattr(app, run.__name__)).raised is None
    assert app.told[-1] == "disconnect"
    assert len(app.told) == 2 + len(bodies)


@in_either
def test_a_client_that_leaves_is_gone_behind_its_body(run):
    """Before any answer; what it sent is read to the end first."""
    heard = []

    async def app(scope, receive, send):
        while (message := await receive())["type"] != "http.disconnect":
            heard.append(message["body"])

    assert run(app, body=[b"ab", b"c"], leaves=True).messages == []
    assert heard == [b"ab", b"c"]


async def test_a_task_that_outlives_its_app_is_not_left_waiting():
    """The app raised, its listener was forgotten: it hears what a closed connection tells."""
    listeners = []

    async def app(scope, receive, send):
        await receive()
        listeners.append(asyncio.create_task(receive()))
        await asyncio.sleep(0)
        raise RuntimeError("broken")

    assert isinstance((await request(app)).raised, RuntimeError)
    assert await listeners[0] == DISCONNECT


async def test_who_waits_sleeps():
    """After its first turn the loop has nothing to do for it, until the answer is complete."""
    waited_for = []

    async def app(scope, receive, send):
        await receive()
        listener = asyncio.create_task(receive())
        await asyncio.sleep(0)
        waited_for.append(listener._fut_waiter)
        for message in (START, {**LAST, "more_body": True}):
            await send(message)
            await asyncio.sleep(0)
            waited_for.append(listener._fut_waiter)
        await send(LAST)
        await listener

    assert (await request(app)).complete
    assert waited_for[0] is not None
    assert len(set(waited_for)) == 1


def test_a_guest_of_asyncios_loop_waits_as_trio_does():
    """Where both libraries run in one thread, the one whose task it is decides."""
    app = Listening(START, LAST)

    async def main():
        over = asyncio.get_running_loop().create_future()
        trio.lowlevel.start_guest_run(
            request,
            app.in_trio,
            run_sync_soon_threadsafe=asyncio.get_running_loop().call_soon_threadsafe,
            done_callback=over.set_result,
        )
        return (await over).unwrap()

    assert asyncio.run(main()).raised is None
    assert app.told == ["start", "body", "disconnect"]


def test_no_async_library_is_imported_for_it():
    """Nor needed: an app that waits for nothing is run by hand."""
    code = """
import sys
from asgi_errorkit.testing import request
async def app(scope, receive, send):
    await receive()
    await send({"type": "http.response.start", "status": 204})
    await send({"type": "http.response.body"})
    await receive()
try:
    request(app).send(None)
except StopIteration as ended:
    print(ended.value.status, [name for name in ("asyncio", "trio") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "204 []\n"


@pytest.mark.parametrize(
    ("path", "status", "outcome"), [("/fine", 200, "ok"), ("/broken", 500, "server_error")]
)
async def test_a_framework_that_listens_all_the_time_is_seen_as_it_is(path, status, outcome):
    """Quart's exception is an error of the server's, and no client that left."""
    api = quart.Quart(__name__)

    @api.get("/fine")
    async def fine():
        return "fine"

    @api.get("/broken")
    async def broken():
        raise RuntimeError("broken in the app")

    kit = ErrorKit(api, tracker=ErrorTracker())
    reply = await request(kit, path=path)
    assert (reply.status, reply.raised) == (status, None)
    assert kit.get_performance_stats()["outcomes"] == {outcome: 1}
    assert kit.get_error_stats()["total_errors"] == (outcome == "server_error")


async def test_a_client_of_such_a_framework_may_leave():
    api = quart.Quart(__name__)

    @api.get("/slow")
    async def slow():
        await asyncio.Event().wait()

    kit = ErrorKit(api, tracker=ErrorTracker())
    assert (await request(kit, path="/slow", leaves=True)).messages == []
    assert kit.get_performance_stats()["outcomes"] == {"client_disconnect": 1}


async def test_a_request_without_any_piece_of_a_body_has_an_empty_one() -> None:
    async def app(scope, receive, send):
        message = await receive()
        assert (message["type"], message["body"], message["more_body"]) == (
            "http.request",
            b"",
            False,
        )
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body"})

    assert (await request(app, body=[])).status == 200
