"""A shop that lives through minutes within seconds, for pictures: its clock is moved by hand.

Each request of /tick makes five seconds pass, with their traffic; everything else is the ops app.
"""

import asyncio
import time
from types import SimpleNamespace

from shop.payments import Evening, routes
from shop.ticks import TICKS
from shop.token import TOKEN
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse

from asgi_errorkit import ErrorKit, ErrorTracker, MiddlewareStack, Recorder
from asgi_errorkit.alerts import Alerts
from asgi_errorkit.ops import Ops, OpsApp, events
from asgi_errorkit.ops.of_kit import OfKit
from asgi_errorkit.testing import HandClock, request

SPAN_SECONDS = 5

OUTAGE = range(26, 41)
MISSPELT = range(8, 60, 9)
AGENT = (b"user-agent", b"Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0")
HEADERS = ((b"host", b"shop.example"), AGENT, (b"accept", b"application/json"))

began_at = time.time() - TICKS * SPAN_SECONDS
clock, clock_of_page = HandClock(0.0), HandClock(0.0)


def wall_clock():
    return began_at + clock()


events.time = SimpleNamespace(time=wall_clock, monotonic=clock_of_page)

evening = Evening(clock)
_over = asyncio.Event()


async def _report(request):
    """A request that goes on for as long as the shop does."""
    await _over.wait()
    return PlainTextResponse("done")


evening.report = _report
tracker = ErrorTracker(recorder=Recorder(clock=clock, wall_clock=wall_clock), release="2026.11.2")
shop = Starlette(routes=routes(evening, tracker.breaker("external_service:bank")))
kit = ErrorKit(shop, stack=MiddlewareStack(error_tracker=tracker), alerts=Alerts())
_ops = Ops(token=TOKEN)
_ops.events_every_seconds = 0.05  # of which the clock by hand knows nothing
_page = OpsApp(_ops, OfKit(kit), clock=clock_of_page, wall_clock=wall_clock)
_going_on = []
_ticks = iter(range(TICKS))


async def app(scope, receive, send):
    if scope["type"] == "http" and scope["path"] == "/tick":
        await tick(next(_ticks))
        await PlainTextResponse("ticked")(scope, receive, send)
    else:
        await _page(scope, receive, send)


async def tick(at):
    """Five seconds of the shop."""
    evening.bank_is_reached = at not in OUTAGE
    chance = evening.chance
    for visit in visits(at, chance):
        method, _, target = visit.partition(" ")
        path, _, query = target.partition("?")
        await request(kit, method, path, query=query.encode(), headers=HEADERS)
        clock.move(chance.uniform(0, 0.02))
    if at in (TICKS - 3, TICKS - 2):
        _going_on.append(asyncio.create_task(request(kit, path=f"/reports/2026-{at % 12 + 1:02}")))
    over_at = (at + 1) * SPAN_SECONDS + 1 / 64  # beyond the span, and exact
    assert clock.at < over_at
    clock.at = clock_of_page.at = over_at  # no picture of less is made


def visits(at, chance):
    crowd = 24 + at // 4 + chance.randrange(10)
    kinds = ["GET /catalog"] * 5 + ["GET /search?q=tea"] * 3 + ["GET /orders/{}"] * 4
    kinds += ["POST /orders/{}/pay"] * 3
    for _ in range(crowd):
        yield chance.choice(kinds).format(chance.randrange(1000, 9999))
    yield "GET /search?q="
    if at in MISSPELT:
        yield "GET /stock/teapot"
