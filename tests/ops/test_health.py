"""Whether it is ready: each check for itself and within its time, and no breaker among them."""

import asyncio
import threading
import time
from functools import partial

import pytest
import trio

from asgi_errorkit.ops.health import Readiness
from asgi_errorkit.testing import HandClock

from .asking import BEARER, HOST, Served


def well():
    """A check that has nothing to say."""


def raising():
    raise ConnectionError("no route to postgres://ops:hunter2@db/x")


def refusing():
    return False


async def well_async():
    return True


async def raising_async():
    raise OSError("the disk is full")


async def hanging_async():
    from asgi_errorkit.async_library import sleep

    await sleep(60)


@pytest.fixture(params=["asyncio", "trio"])
def ran(request):
    """Runs one coroutine function in either library."""
    if request.param == "trio":
        return trio.run
    return lambda main: asyncio.run(main())


def test_each_check_is_told_for_itself(ran):
    """One that fails, hangs or refuses hides none of the others, nor what it may not tell."""
    released = threading.Event()
    readiness = Readiness(
        {
            "well": well,
            "raising": raising,
            "refusing": refusing,
            "hanging": lambda: released.wait(20),
            "well_async": well_async,
            "raising_async": raising_async,
            "hanging_async": hanging_async,
            "returning": partial(well_async),
        },
        seconds=0.1,
    )
    began = time.monotonic()
    told = ran(readiness.get)
    released.set()
    assert time.monotonic() - began < 5  # all at once
    assert [name for name, one in told.items() if one["ok"]] == [
        "well",
        "well_async",
        "returning",
    ]
    assert told["raising"]["detail"].startswith("ConnectionError: no route to postgres://")
    assert "hunter2" not in str(told)
    assert told["refusing"]["detail"] == "returned False"
    for name in ("hanging", "hanging_async"):
        assert told[name]["detail"] == "has not returned within 0.1 s"


async def test_a_check_that_hangs_in_a_thread_is_not_begun_again():
    """Each probe would leave a thread behind; when it is over it is asked as before."""
    clock, released, begun = HandClock(), threading.Event(), []

    def hanging():
        begun.append(1)
        released.wait(20)

    readiness = Readiness({"it": hanging}, seconds=0.05, clock=clock)
    assert not (await readiness.get())["it"]["ok"]
    for _ in range(5):
        clock.move(2)
        told = (await readiness.get())["it"]
    assert told["detail"] == "has not returned for 10.0 s"
    assert len(begun) == 1
    released.set()
    for _ in range(100):
        await asyncio.sleep(0.01)
        clock.move(2)
        if (told := (await readiness.get())["it"])["ok"]:
            break
    assert told["ok"] and len(begun) == 2


async def test_a_flood_of_probes_asks_once_a_second():
    """What is asked of the database must not grow with those who ask."""
    clock, begun = HandClock(), []

    async def counting():
        begun.append(1)
        await asyncio.sleep(0.01)

    readiness = Readiness({"it": counting}, seconds=1, clock=clock)
    await asyncio.gather(*(readiness.get() for _ in range(50)))
    assert len(begun) == 1
    clock.move(0.9)
    await readiness.get()
    assert len(begun) == 1
    clock.move(0.2)
    await readiness.get()
    assert len(begun) == 2


async def test_who_leaves_amid_a_check_does_not_make_it_fail():
    """A probe that is cut: the next waits for the check that it has begun."""
    released = threading.Event()
    readiness = Readiness({"it": lambda: released.wait(20)}, seconds=5)
    task = asyncio.create_task(readiness.get())
    await asyncio.sleep(0.02)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    later = asyncio.create_task(readiness.get())
    await asyncio.sleep(0.02)
    released.set()
    assert (await later)["it"]["ok"]


async def test_an_open_breaker_is_not_unready():
    """It would take out every instance at once."""
    served = Served(checks={"well": well})
    served.kit.tracker.breaker("model:sdxl").force_open()
    reply = await served.ask("/_errorkit/health/ready", HOST, BEARER)
    assert (reply.status, reply.json()["status"]) == (200, "ready")


@pytest.mark.parametrize(
    ("route", "words"), [("/health/ready", "unready"), ("/health", "unhealthy")]
)
async def test_an_unready_app_is_a_503(route, words):
    served = Served(checks={"well": well, "it": raising})
    reply = await served.ask(f"/_errorkit{route}", HOST, BEARER)
    told = reply.json()
    assert (reply.status, told["status"]) == (503, words)
    assert [name for name, one in told["checks"].items() if not one["ok"]] == ["it"]


async def test_strangers_are_not_told_what_it_depends_on():
    """Where readiness is public, they learn that much and no more."""
    served = Served(checks={"it": raising}, public=["/health/ready"])
    for headers in ((HOST,), (HOST, ("Authorization", "Bearer wrong"))):
        reply = await served.ask("/_errorkit/health/ready", *headers)
        assert reply.status == 503
        assert reply.json().keys() == {"status", "timestamp"}
    assert "checks" in (await served.ask("/_errorkit/health/ready", HOST, BEARER)).json()


async def test_being_alive_asks_no_check():
    asked = []
    served = Served(checks={"it": lambda: asked.append(1)})
    assert (await served.ask("/_errorkit/health/live", HOST)).status == 200
    assert asked == []
