"""Answers from a shop that has a hundred thousand routes, in the place of a kit's."""

from contextlib import nullcontext

from shop.routes import MANY
from shop.token import TOKEN

from asgi_errorkit.ops import Ops

BUSIEST = sorted(MANY.items(), key=lambda route: -route[1]["requests"])


class Many:
    """See `asgi_errorkit.ops.Source`."""

    can_act = False

    def at_once(self):
        return nullcontext()

    def error_stats(self, window_minutes, worker):
        return {
            "total_requests": 45,
            "failed_requests": 0,
            "client_errors": 0,
            "total_errors": 0,
            "error_groups": 0,
            "errors_by_type": {},
            "errors_by_severity": {},
            "circuit_breakers": {},
            "recent_alerts": [],
        }

    def performance_stats(self, window_minutes, worker, most_routes=None):
        return {
            "total_requests": 45,
            "percentiles": {"p50": 0.05, "p95": 0.05, "p99": 0.05},
            "outcomes": {"ok": 45},
            "in_flight": 0,
            "routes": dict(BUSIEST[:most_routes]),
            "workers": [],
        }

    def groups(self):
        return []

    def group(self, fingerprint):
        return None

    def breakers(self):
        return []

    def act(self, name, action):
        return None

    def alerts(self):
        return {"total_alerts": 0, "recent_alerts": []}

    def in_flight(self):
        return []

    def crashes(self):
        return []

    def workers(self):
        return []

    def status(self):
        return {}


app = Ops(token=TOKEN).app(Many())
