"""Paying: all orders are charged at one bank, which an evening was without for a while."""

import random

from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.routing import Route

CENTS = {"tea": 450, "cups": 1250, "kettle": 3900}
SECONDS = {"/": 0.012, "catalog": 0.03, "search": 0.055, "order": 0.018, "pay": 0.14}


class Evening:
    """What goes on around the shop, of which its clock and its chances are the same each time."""

    def __init__(self, clock):
        self.chance = random.Random(7)
        self.clock = clock
        self.bank_is_reached = True

    def pass_time(self, what):
        self.clock.move(SECONDS[what] * self.chance.lognormvariate(0.0, 0.5))


class PaymentError(Exception):
    """An order that could not be charged."""


def answer_of_bank(evening, cents):
    if not evening.bank_is_reached:
        raise ConnectionError("bank.example:443 refused the connection")
    return {"charged": cents}


def charge(evening, order):
    cents = sum(CENTS[item] for item in order["items"])
    try:
        return answer_of_bank(evening, cents)
    except ConnectionError as error:
        raise PaymentError(f"an order of {cents} cents was not charged") from error


def routes(evening, bank):
    """The pages of the shop; ``bank`` is the breaker in front of it."""

    async def catalog(request):
        evening.pass_time("catalog")
        return JSONResponse(CENTS)

    async def search(request):
        evening.pass_time("search")
        if request.query_params.get("q") == "":
            raise HTTPException(400, "search for something")
        return JSONResponse(list(CENTS))

    async def order(request):
        evening.pass_time("order")
        if evening.chance.random() < 0.08:
            raise HTTPException(404, "no such order")
        return JSONResponse({"order": request.path_params["order"]})

    async def pay(request):
        async with bank:
            evening.pass_time("pay")
            order = {"items": evening.chance.choices(list(CENTS), k=2)}
            return JSONResponse(charge(evening, order))

    async def stock(request):
        evening.pass_time("order")
        return JSONResponse({"cents": CENTS[request.path_params["item"]]})

    return [
        Route("/catalog", catalog),
        Route("/search", search),
        Route("/orders/{order}", order),
        Route("/orders/{order}/pay", pay, methods=["POST"]),
        Route("/stock/{item}", stock),
        Route("/reports/{month}", evening.report),
    ]
