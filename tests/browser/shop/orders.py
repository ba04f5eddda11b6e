"""What the shop does for those who ask: each fails in a way of its own, and always in the same."""

import asyncio
import os
import signal
from pathlib import Path

from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.routing import Route

HOSTILE = (
    "<script>alert('message')</script><img src=x onerror=alert('image')>"
    "\u202egpj.exe\u2066 \x1b[31mred\x00\x07 &lt;b&gt; " + "long " * 400
)
"""What a message may hold that came from a client."""

PRICES = {"tea": 4, "cups": 9}


async def order(request):
    return JSONResponse({"order": request.path_params["order"], "price": PRICES["tea"]})


async def missing(request):
    raise HTTPException(404, "no such customer")


async def price(request):
    return JSONResponse({"price": PRICES[request.path_params["item"]]})


def charge(order, cents):
    if cents > 0:
        raise ConnectionError(f"the bank does not answer for {cents} cents")
    return order


async def invoice(request):
    order = request.path_params["order"]
    try:
        cents = PRICES[order] * 100
    except KeyError:
        return charge(order, 1250)
    return JSONResponse({"cents": cents})


async def review(request):
    raise ValueError(HOSTILE)


async def pay(request):
    async with request.app.state.payments:
        return JSONResponse({"paid": request.path_params["order"]})


async def hold(request):
    """Go on until the file is there that the environment names."""
    released = Path(os.environ["SHOP_RELEASED"])
    while not await asyncio.to_thread(released.exists):
        await asyncio.sleep(0.05)
    return JSONResponse({"released": True})


async def die(request):
    os.kill(os.getpid(), signal.SIGKILL)


ROUTES = [
    Route("/orders/{order:int}", order),
    Route("/customers/{customer}", missing),
    Route("/prices/{item}", price),
    Route("/invoices/{order}", invoice),
    Route("/reviews/{review}", review),
    Route("/pay/{order}", pay),
    Route("/hold/{name}", hold),
    Route("/images/{name}/resize", die),
]
