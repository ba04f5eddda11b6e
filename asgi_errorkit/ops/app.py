"""The ops app: every request is judged first, then routed by tables."""

import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from asgi_errorkit.ops.answers import Answers, Request, Stream, answer_of, methods_of, refused
from asgi_errorkit.ops.asked import ClientLeftError
from asgi_errorkit.ops.mount import Place, place_alone
from asgi_errorkit.ops.replies import OpsError, Reply, problem, send_reply
from asgi_errorkit.ops.source import Source
from asgi_errorkit.spool.directory import SpoolError
from asgi_errorkit.types import Receive, Scope, Send

if TYPE_CHECKING:
    from asgi_errorkit.ops import Ops

__all__ = ["OpsApp"]

logger = logging.getLogger("asgi_errorkit.ops")

_TOLD_EVERY_SECONDS = 60.0
_NOTHING = "There is nothing here."


class OpsApp:
    """An ASGI app that answers from a source; see `asgi_errorkit.ops.Ops`.

    What it answers is neither logged nor counted as the application's. Of whom it refuses the log
    is told at most once a minute, of what is changed each time.
    """

    def __init__(
        self,
        ops: "Ops",
        source: Source,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._access = ops.access
        self._answers = Answers(ops, source, clock=clock, wall_clock=wall_clock)
        self._clock = clock
        self._told_at = float("-inf")
        self._untold = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        kind = scope.get("type")
        if kind == "http":
            await self.serve(scope, receive, send, place_alone(scope))
        elif kind == "lifespan":
            await _live(receive, send)
        elif kind == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1008})

    async def serve(self, scope: Scope, receive: Receive, send: Send, place: Place | None) -> None:
        """Answer one request; None is a place that cannot be here."""
        # They are looked at more than once, and a server may hand on what can be read but once.
        scope = {**scope, "headers": [*(scope.get("headers") or ())]}
        try:
            reply: Reply | Stream = await self._reply(scope, receive, send, place)
        except OpsError as error:
            reply = problem(error.status, error.detail, headers=error.headers)
        except ClientLeftError:
            return
        except SpoolError as error:
            reply = problem(503, f"The record cannot be read: {error}")
        except Exception:
            logger.exception("ops: %s cannot be told", "nothing" if place is None else place.route)
            reply = problem(500, "This cannot be told; the log says why.")
        if isinstance(reply, Reply):
            await send_reply(reply, scope, send)
        else:
            await reply()

    async def _reply(
        self, scope: Scope, receive: Receive, send: Send, place: Place | None
    ) -> Reply | Stream:
        try:
            known = self._access.check(scope, None if place is None else place.route)
        except OpsError as error:
            self._note_refused(error)
            raise
        answer = None if place is None else answer_of(place.route)
        if place is None or answer is None:
            raise OpsError(404, _NOTHING)
        method = str(scope.get("method"))
        methods = methods_of(place.route, self._answers.source)
        allow = ((b"allow", ", ".join(methods).encode()),)
        if method == "OPTIONS":
            return Reply(204, b"", b"", allow)
        if method not in methods:
            raise OpsError(405, refused(place.route, method, methods), headers=allow)
        return await answer(self._answers, Request(scope, receive, send, place, known, method))

    def _note_refused(self, error: OpsError) -> None:
        self._untold += 1
        now = self._clock()
        if now - self._told_at >= _TOLD_EVERY_SECONDS:
            logger.warning("ops: %s refused, the last with %s", self._untold, error.status)
            self._told_at, self._untold = now, 0


async def _live(receive: Receive, send: Send) -> None:
    while (await receive()).get("type") == "lifespan.startup":
        await send({"type": "lifespan.startup.complete"})
    await send({"type": "lifespan.shutdown.complete"})
