"""The stream of events: one snapshot a second for all who look, and none while nobody does."""

import sys
import time
from collections.abc import Callable
from typing import Any

from asgi_errorkit.async_library import cancel_scope, sleep
from asgi_errorkit.forks import reset_in_child
from asgi_errorkit.ops.off_loop import in_thread
from asgi_errorkit.ops.replies import OpsError, encoded, with_strict
from asgi_errorkit.ops.shared import Shared
from asgi_errorkit.ops.source import Source
from asgi_errorkit.types import Receive, Send

__all__ = ["Events", "Snapshots", "recent", "server_is_stopping", "snapshot"]

_LONGEST_SECONDS = 15.0
"""Servers but uvicorn do not tell that they stop while a response is open: each ends by itself, and
the browser comes again."""

_PATIENCE_SECONDS = 5.0
_BEYOND_FRESH_SECONDS = 0.02  # so that who comes again finds a new one due
_MOST_MESSAGES = 64
_MOST_ROUTES = 20
_WINDOW_MINUTES = 5.0
_SPAN_SECONDS = 5.0  # what windows are made of, where workers keep a record
_MOMENT_MINUTES = 1e-6  # of the span that goes on
_HEADERS = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"x-accel-buffering", b"no"),  # nginx would keep it to itself
)
_LATER = ((b"retry-after", b"15"),)
_RETRY = b"retry: 250\n\n"


class Events:
    """Serves the viewers of one process, at most ``most`` at a time.

    Each sleeps for itself, takes the latest snapshot when it is awake, and makes it if it is due:
    so nothing runs while nobody looks, viewers do not all wake at once, and one who is slow misses
    what came between. ``stuck`` counts those that took nothing until their time was up.
    """

    def __init__(
        self,
        make: Callable[[], Any],
        *,
        every_seconds: float,
        most: int,
        longest_seconds: float = _LONGEST_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.refused = 0
        self.stuck = 0
        self._make = make
        self._most = most
        self._longest_seconds = longest_seconds
        self._pause_seconds = every_seconds + _BEYOND_FRESH_SECONDS
        self._clock = clock
        self._shared = Shared(self._event, fresh_seconds=every_seconds, clock=clock)
        self.reset_after_fork()
        reset_in_child(self)

    def reset_after_fork(self) -> None:
        """In a forked child: the viewers are the parent's."""
        self.viewers = 0

    def as_dict(self) -> dict[str, int]:
        """Who looks, and who could not."""
        return {"viewers": self.viewers, "refused": self.refused, "stuck": self.stuck}

    def check_room(self) -> None:
        """Raise OpsError if so many look already."""
        if self.viewers >= self._most:
            self.refused += 1
            raise OpsError(503, f"{self._most} look already.", headers=_LATER)

    async def serve(self, receive: Receive, send: Send) -> None:
        """Send events until the client leaves, the server stops, or the time is up."""
        self.viewers += 1
        try:
            with cancel_scope(self._longest_seconds + _PATIENCE_SECONDS) as limit:
                await self._stream(receive, send)
            self.stuck += limit.expired
        except OSError:  # so some servers say that the client has left
            return
        finally:
            self.viewers -= 1

    async def _stream(self, receive: Receive, send: Send) -> None:
        ends_at, seen = self._clock() + self._longest_seconds, 0
        await send({"type": "http.response.start", "status": 200, "headers": with_strict(_HEADERS)})
        await send(_piece(_RETRY))
        while self._clock() < ends_at and not server_is_stopping():
            number, event = await self._shared.get()
            if number != seen:
                await send(_piece(event))
                seen = number
            if await _has_left_within(self._pause_seconds, receive):
                return
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _event(self) -> bytes:
        try:
            told = await in_thread(lambda: encoded(self._make()))
        except Exception as error:  # noqa: BLE001  viewers are told, and see the next one
            return b"event: failed\ndata: %b\n\n" % encoded({"error": type(error).__name__})
        return b"event: snapshot\ndata: %b\n\n" % told


def _piece(body: bytes) -> dict[str, Any]:
    return {"type": "http.response.body", "body": body, "more_body": True}


async def _has_left_within(seconds: float, receive: Receive) -> bool:
    """Whether the client leaves in that time, all of which is waited for else."""
    with cancel_scope(seconds):
        for _ in range(_MOST_MESSAGES):  # of a body that nobody asked for
            if (await receive()).get("type") == "http.disconnect":
                return True
        await sleep(seconds)
    return False


def server_is_stopping() -> bool:
    """Whether uvicorn has been told to stop: it waits for open responses before it tells the app.

    It is found by its handler of the signal, which is looked at and left alone.
    """
    signal = sys.modules.get("signal")
    handler = signal and signal.getsignal(signal.SIGTERM)
    return getattr(getattr(handler, "__self__", None), "should_exit", False) is True


class Snapshots:
    """Snapshots, each with what ``recent`` seconds were like: points of which a line can be drawn.

    Those are made once in their time: it takes two more looks. Called by one thread at a time.
    """

    def __init__(self, source: Source, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._source = source
        self._clock = clock
        self._recent: dict[str, Any] = {}
        self._due_at = float("-inf")

    def __call__(self) -> dict[str, Any]:
        with self._source.at_once():
            return self._made(self._clock())

    def _made(self, now: float) -> dict[str, Any]:
        if now >= self._due_at:
            self._recent = recent(self._source)
            self._due_at = now + _SPAN_SECONDS
        return {**snapshot(self._source), "recent": self._recent}


def recent(source: Source) -> dict[str, Any]:
    """How many requests ended how within five seconds that are over, and how long the latest took.

    Windows are of whole spans, and that which goes on is among them: it is taken away again.
    """
    going_on = source.performance_stats(_MOMENT_MINUTES, None, 0).get("outcomes", {})
    stats = source.performance_stats(_SPAN_SECONDS / 60, None, 0)
    outcomes = stats.get("outcomes", {})
    ended = {name: max(0, n - going_on.get(name, 0)) for name, n in outcomes.items()}
    return {
        "seconds": _SPAN_SECONDS,
        "outcomes": ended,
        "percentiles": stats.get("percentiles") if stats.get("total_requests") else None,
        "timestamp": time.time(),
    }


def snapshot(source: Source) -> dict[str, Any]:
    """What a viewer sees at one look: the routes that are asked for most, and who refuses."""
    errors = source.error_stats(_WINDOW_MINUTES, None)
    performance = source.performance_stats(_WINDOW_MINUTES, None, _MOST_ROUTES)
    return {
        "error_stats": errors,
        "performance_stats": performance,
        "timestamp": time.time(),
    }
