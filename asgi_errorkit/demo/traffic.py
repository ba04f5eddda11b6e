"""The traffic maker: sends the planned mix, so many at once, and keeps the ledger."""

import asyncio
import time
from collections.abc import Iterator, Sequence
from random import Random
from typing import Any, Literal

import httpx
import orjson
from websockets.exceptions import WebSocketException

from asgi_errorkit.demo.kinds import Kind
from asgi_errorkit.demo.ledger import Ledger, Sent
from asgi_errorkit.demo.sending import ID_HEADER, Came, Wire

__all__ = ["look", "make_traffic", "send_one"]

_TYPES_OF_FALLBACKS = {"DeadlineExceededError": "timeout"}
"""Errors by class, as far as they are not those of another service that is down."""


async def make_traffic(
    client: httpx.AsyncClient, kinds: Sequence[Kind], ledger: Ledger, *, seed: int, at_once: int
) -> None:
    """Send one request of each kind given, in order, and enter each into the ledger as it ends."""
    waiting = iter(
        [(kind, Wire(client, Random(f"{seed}/{n}"))) for n, kind in enumerate(kinds)]  # noqa: S311
    )
    async with asyncio.TaskGroup() as group:
        for _ in range(at_once):
            group.create_task(_work_off(waiting, ledger))


async def look(client: httpx.AsyncClient, path: str, ledger: Ledger) -> Any:
    """Read one of the app's own reports, and enter that too. Raises httpx.HTTPError."""
    started_at = time.perf_counter()
    response = await client.get(path)
    ledger.add(
        Sent(
            kind=f"GET {path}",
            by="report",
            request_id=response.headers.get(ID_HEADER, ""),
            status=response.status_code,
            outcome="ok",
            got_bytes=len(response.content),
            seconds=time.perf_counter() - started_at,
            wrong=None if response.is_success else f"answered {response.status_code}",
        )
    )
    response.raise_for_status()
    return orjson.loads(response.content)


async def _work_off(waiting: Iterator[tuple[Kind, Wire]], ledger: Ledger) -> None:
    for kind, wire in waiting:
        await send_one(kind, wire, ledger)


async def send_one(
    kind: Kind, wire: Wire, ledger: Ledger, *, by: Literal["traffic", "incident"] = "traffic"
) -> Sent:
    """Send one request, and enter it into the ledger when it has ended."""
    sent = await _sent(kind, wire, by)
    ledger.add(sent)
    return sent


async def _sent(kind: Kind, wire: Wire, by: Literal["traffic", "incident"]) -> Sent:
    came = Came()
    wrong = None
    try:
        await kind.send(wire, came)
    except (httpx.HTTPError, WebSocketException, OSError) as error:
        wrong = f"{type(error).__name__}: {error}"
    return Sent(
        kind=kind.name,
        request_id=came.request_id,
        status=came.status,
        outcome=_outcome(kind, came),
        error_type=_error_type(kind, came),
        by=by,
        fallback_for=came.fallback_for,
        session=kind.session,
        grouped=kind.grouped or came.fallback_for is not None,
        got_all=came.ended != "left",
        sent_bytes=came.sent_bytes,
        got_bytes=came.got_bytes,
        sent_messages=came.sent_messages,
        got_messages=came.got_messages,
        seconds=time.perf_counter() - came.started_at,
        answer=came.answer,
        wrong=wrong or _wrong(kind, came),
    )


def _error_type(kind: Kind, came: Came) -> str | None:
    if came.fallback_for is None:
        return kind.error_type
    return _TYPES_OF_FALLBACKS.get(came.fallback_for, "external_service")


def _outcome(kind: Kind, came: Came) -> str:
    """How it ended for the client, who cannot see what fails after a good answer."""
    if came.status is None:
        return "lost"
    if came.ended == "cut":
        return "server_error" if kind.session else "truncated"
    if came.ended == "left" and not kind.session:
        return "client_disconnect"
    if came.status >= 400:
        return "client_error" if came.status < 500 else "server_error"
    if came.fallback_for is not None:
        return "fallback"
    return kind.outcome if kind.outcome == "background_failed" else "ok"


def _wrong(kind: Kind, came: Came) -> str | None:
    """What did not come back as it should have."""
    outcome = _outcome(kind, came)
    is_wanted = outcome == kind.outcome or (kind.may_fall_back and outcome == "fallback")
    if came.status != kind.status or not is_wanted:
        return f"expected {kind.status} {kind.outcome}, got {came.status} {outcome}"
    if came.error_type not in (None, kind.error_type):
        return f"expected the error type {kind.error_type}, was told {came.error_type}"
    if not came.request_id:
        return "no X-Request-ID came back"
    if came.given_id and came.request_id != came.given_id:
        return f"gave the id {came.given_id}, got {came.request_id}"
    return None
