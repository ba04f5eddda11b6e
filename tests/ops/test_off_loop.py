"""What is done beside the event loop, and answers whose text is none."""

import threading
import time

import orjson
import pytest

from asgi_errorkit.ops import Ops, off_loop
from asgi_errorkit.ops.off_loop import in_thread
from asgi_errorkit.ops.replies import encoded

from .asking import BEARER, HOST, TOKEN, Served, ask


async def test_it_runs_in_another_thread_and_the_loop_goes_on():
    import asyncio

    went_on = asyncio.Event()
    asyncio.get_running_loop().call_later(0.01, went_on.set)
    name = await in_thread(lambda: time.sleep(0.1) or threading.current_thread().name)
    assert name == "asgi-errorkit-ops"
    assert went_on.is_set()


async def test_what_it_raises_comes_through():
    with pytest.raises(ZeroDivisionError):
        await in_thread(lambda: 1 // 0)


async def test_without_a_thread_it_is_done_here(monkeypatch):
    """A process at its limit answers all the same."""

    class NoThread:
        def __init__(self, **_):
            raise RuntimeError("can't start new thread")

    monkeypatch.setattr(off_loop, "Thread", NoThread)
    assert await in_thread(threading.current_thread) is threading.main_thread()
    assert (await Served().ask("/_errorkit/status", HOST, BEARER)).status == 200


@pytest.mark.parametrize("odd", ["\ud800", object(), {1: "\udfff"}, b"bytes"])
def test_what_is_no_json_becomes_some(odd):
    """A record may say anything."""
    assert orjson.loads(encoded({"it": odd}).replace(b"\\ud", b"d")).keys() == {"it"}


class Own:
    """A source of somebody's own, in part."""

    can_act = False

    def error_stats(self, window_minutes, worker):
        raise ValueError("a mistake of its own")

    def alerts(self):
        return {"total_alerts": 7}


async def test_answers_can_come_from_anything():
    """And what goes wrong in it is not taken for the client's mistake."""
    alone = Ops(token=TOKEN).app(Own())
    assert (await ask(alone, "/alerts", HOST, BEARER)).json() == {"total_alerts": 7}
    assert (await ask(alone, "/errors/stats", HOST, BEARER)).status == 500
    assert (await ask(alone, "/workers", HOST, BEARER)).status == 500


async def test_a_stream_is_served_where_it_stands():
    """As an app serves it: the client leaves, and there is nothing more to send."""
    sent = []
    served = Served()
    scope = {
        "type": "http",
        "method": "GET",
        "path": "/_errorkit/events",
        "headers": [(name.lower().encode(), value.encode()) for name, value in (HOST, BEARER)],
    }

    async def receive():
        return {"type": "http.disconnect"}

    async def send(message):
        sent.append(message)

    await served.app(scope, receive, send)
    assert sent[0]["status"] == 200
    assert sent[-1]["body"].startswith(b"event: snapshot\ndata: {")
