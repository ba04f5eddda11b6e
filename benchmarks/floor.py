"""The floor: the least Python that notes of a request what the kit notes, and does nothing with it.

No error is caught, nobody else can join, nothing is checked, and what is noted is thrown away in
batches. What the kit's path takes beyond this is what it takes to be right.
"""

from collections import deque
from contextvars import ContextVar
from itertools import count
from os import urandom
from time import perf_counter
from typing import Any

from asgi_errorkit.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["floor"]

_CURRENT: ContextVar[list[Any] | None] = ContextVar("benchmarks.floor", default=None)
_BATCH = 64
_HEADER = b"x-request-id"


def floor(app: ASGIApp) -> ASGIApp:
    """Wrap an app so that its id, times, status and sizes are noted, and the id is answered."""
    slots: list[list[Any] | None] = [None] * _BATCH
    claim, clock = count().__next__, perf_counter
    ids: deque[str] = deque()

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await app(scope, receive, send)
        if not ids:
            text = urandom(16 * _BATCH).hex()
            ids.extend(text[at : at + 32] for at in range(0, len(text), 32))
        request_id, headers = ids.popleft(), dict(scope["headers"])
        stamp = claim()
        state: list[Any] = [
            stamp,
            request_id,
            scope["method"],
            scope["path"],
            scope["query_string"],
            scope["client"],
            headers,
            clock(),
            None,  # the first byte
            None,  # the last
            None,  # the status
            0,  # sent
            0,  # received
        ]
        slots[stamp % _BATCH] = state

        async def watched_receive() -> Message:
            message = await receive()
            if message["type"] == "http.request":
                state[12] += len(message.get("body") or b"")
            return message

        async def watched_send(message: Message) -> None:
            if message["type"] == "http.response.body":
                state[11] += len(message.get("body") or b"")
                if not message.get("more_body"):
                    state[9] = clock()
            elif message["type"] == "http.response.start":
                state[8], state[10] = clock(), message["status"]
                message = dict(message)
                message["headers"] = [
                    *message.get("headers", ()),
                    (_HEADER, request_id.encode()),
                ]
            await send(message)

        token = _CURRENT.set(state)
        try:
            await app(scope, watched_receive, watched_send)
        finally:
            _CURRENT.reset(token)

    return serve
