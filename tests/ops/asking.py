"""A kit with the ops app around it, and how it is asked: by every header of one's own."""

import json

from asgi_errorkit import (
    ErrorKit,
    ErrorTracker,
    MiddlewareStack,
    Recorder,
    StructuredLoggingMiddleware,
    testing,
)
from asgi_errorkit.ops import Ops
from asgi_errorkit.testing import HandClock, LogLines, http_scope

TOKEN = "t0ken-of-the-tests-and-nobody-else"
BEARER = ("Authorization", f"Bearer {TOKEN}")
HOST = ("Host", "localhost:8000")
ORIGIN = ("Origin", "http://localhost:8000")
MEANT = ("X-Errorkit-Ops", "1")
JSON = ("Content-Type", "application/json")


async def app(scope, receive, send):
    """The application: it says that it was asked, and fails where it is told to."""
    if scope["path"].endswith("/boom"):
        raise ConnectionError("the database is gone, password=hunter2")
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"the app"})


class Served:
    """A kit that is mounted as `ErrorKit(app, ops=...)` does it; ``log`` is the app's own."""

    def __init__(self, inner=app, *, directory=None, clock=None, alerts=None, **options):
        self.clock = clock or HandClock()
        recorder = Recorder(flush_seconds=None, clock=self.clock, wall_clock=self.clock)
        stack = MiddlewareStack(error_tracker=ErrorTracker(recorder=recorder))
        self.log = LogLines()
        stack.add_middleware(StructuredLoggingMiddleware, stream=self.log)
        self.kit = ErrorKit(inner, stack=stack, directory=directory, alerts=alerts)
        self.ops = Ops(**{"token": TOKEN, **options})
        self.app = self.ops.around(self.kit, self.kit)

    async def ask(self, path, *headers, **more):
        """One request, with the token and a Host unless other ones are given."""
        return await ask(self.app, path, *headers, **more)

    async def read(self, route, query=b""):
        """What is told at a route to who has the token."""
        reply = await self.ask(f"/_errorkit{route}", HOST, BEARER, query=query)
        assert reply.status == 200, reply.body
        return reply.json()

    async def change(self, route, body, *headers, method="POST"):
        """A change that is asked for with the token; the body is bytes, or what is made JSON."""
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        asked = headers or (BEARER, JSON)
        return await self.ask(f"/_errorkit{route}", HOST, *asked, method=method, body=raw)


async def ask(asked, path, *headers, method="GET", body=b"", **more):
    """One request with these headers and no others."""
    raw = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers]
    scope = {**http_scope(method, path), "headers": raw, **more}
    if "query" in scope:
        scope["query_string"] = scope.pop("query")
    pieces = [body] if isinstance(body, bytes) else list(body)
    events = [
        {"type": "http.request", "body": piece, "more_body": number < len(pieces)}
        for number, piece in enumerate(pieces, 1)
    ]
    return await testing._run(asked, scope, [*events, {"type": "http.disconnect"}], leaves=False)


def is_of_app(reply):
    """Whether the application has answered."""
    return reply.body == b"the app"


def is_of_ops(reply):
    """Whether the ops app has, whatever it has answered."""
    return reply.headers.get("cache-control") == "no-store"
