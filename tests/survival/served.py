"""The applications under real servers, and a client that sees what they do."""

from itertools import count
from pathlib import Path
from urllib.parse import quote

import orjson

from .running import Running, until
from .wire import Http, Plain, Websocket, ask, raw_answer

APPS = Path(__file__).parent / "apps"

TARGETS = [
    (framework, server)
    for server in ("uvicorn-httptools", "hypercorn-asyncio", "hypercorn-trio")
    for framework in ("starlette", "litestar", "quart", "django")
    if server != "hypercorn-trio" or framework in ("starlette", "litestar")
]
"""Quart and Django make tasks of asyncio for each request: they do not run under trio."""

ENDS = ("request_complete", "request_error", "websocket_close")

_numbers = count()


def start(framework, server, folder):
    """Start a server of the application of a framework, without waiting for it."""
    app = f"of_{framework}:app"
    if server.startswith("hypercorn"):
        return Running(server, f"{APPS}/{app}", folder)
    return Running(server, app, folder, options=f"--app-dir {APPS}")


class Served:
    """One way to wrap an application, under one server."""

    def __init__(self, running, framework, stack):
        self.running = running
        self.framework = framework
        self.stack = stack
        self.has_log = stack.startswith("stack-")
        self.has_sessions = framework != "django"
        # Who answers errors itself has to be asked for them, which is the part of a stack.
        self.tells_errors = framework == "starlette" or not stack.startswith("lone-")

    # Asking

    def ask(self, target, method="GET", headers=(), body=b""):
        """The response to one request on a connection of its own."""
        with Http(self.running.port) as connection:
            return connection.ask(method, target, self._headers(headers), body)

    def begin(self, target):
        """A connection on which a request has been sent; its response can be read."""
        connection = Http(self.running.port)
        connection.begin("GET", target, self._headers())
        connection.finish()
        return connection

    def raw(self, target, *headers, after=b"", **more):
        """All bytes of the response, however it ends; ``after`` is sent behind the request."""
        request = ask(target, f"X-Stack: {self.stack}", *headers, **more)
        return raw_answer(self.running.port, request + after)

    def stream(self, target):
        """All bytes of the response up to its last chunk."""
        with Plain(self.running.port) as connection:
            connection.send(ask(target, f"X-Stack: {self.stack}"))
            return connection.past(b"0\r\n\r\n")

    def session(self, target):
        return Websocket(self.running.port, target, f"X-Stack: {self.stack}")

    def line(self, request_id):
        """The line of the log that ends this request; there is but one, and one that begins it."""

        def written():
            self._steer("flush", self.stack)
            lines = self.running.lines(request_id)
            return [line for line in lines if line["event"] in ENDS]

        line = until(written, f"the last log line of {request_id}")[0]
        events = sorted(line["event"] for line in self.running.lines(request_id))
        assert events == sorted(["request_start", line["event"]])
        return line

    # Steering

    def key(self):
        """A name that no other test has."""
        return f"key-{next(_numbers)}"

    def breaks(self, key):
        self._steer("break", key)

    def mends(self, key):
        self._steer("mend", key)

    def lets_go(self, key):
        self._steer("let-go", key)

    def calls(self, key):
        """How often the application was reached."""
        return self._steer("calls", key)

    def ended(self, key):
        """How many of those calls have ended by themselves or by being cancelled."""
        return self._steer("ended", key)

    def status(self):
        return self._steer("status", self.stack)

    def circuit(self, name):
        """How a circuit stands; None where nothing has failed yet, or is heard of."""
        return {each["name"]: each for each in self.status()["breakers"]}.get(name)

    def until_circuit(self, name, *states):
        """Wait for it: a request is judged when the app returns, which the client does not see."""
        until(lambda: (self.circuit(name) or {}).get("state") in states, f"that {name} is {states}")

    def limiter(self, pattern):
        """How the limit of some routes stands."""
        limits = self.status()["survival"]["LoadSheddingMiddleware"]["limits"]
        return next(each for each in limits if each["name"] == pattern)

    def until_idle(self, pattern):
        until(lambda: not self.limiter(pattern)["in_flight"], f"that {pattern} is left")

    def _headers(self, more=()):
        return [("x-stack", self.stack), ("connection", "close"), *more]

    def _steer(self, deed, key):
        with Http(self.running.port) as connection:
            return orjson.loads(connection.get(f"/~{deed}?key={quote(key)}").body)
