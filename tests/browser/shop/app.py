"""The shop as it is served: a record that its workers share, alerts, and the ops app."""

import os

from shop.orders import ROUTES
from shop.token import TOKEN
from starlette.applications import Starlette
from starlette.routing import Mount

from asgi_errorkit import ErrorKit
from asgi_errorkit.alerts import Alerts, Timing
from asgi_errorkit.ops import Ops

_shop = Starlette(routes=ROUTES)
kit = ErrorKit(
    _shop,
    directory=os.environ["SHOP_RECORD"],
    alerts=Alerts(timing=Timing(wait_seconds=0), every_seconds=1),
    ops=Ops(token=TOKEN),
)
_shop.state.payments = kit.tracker.breaker("payments")

mounted = Starlette(routes=[Mount("/branch", kit)])
"""The shop within another application, which gives it a root path."""
