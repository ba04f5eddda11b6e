"""The app of the outage, as uvicorn serves it: what it answers it has from what it depends on."""

import asyncio
import json
import os
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

from asgi_errorkit import (
    AdaptiveLimit,
    Answer,
    CircuitBreaker,
    CircuitBreakingMiddleware,
    CircuitPolicy,
    ErrorKit,
    ErrorType,
    FallbackMiddleware,
    LoadSheddingMiddleware,
    MiddlewareStack,
    Retry,
    RetryMiddleware,
    StaleCopies,
    TimeoutMiddleware,
    fail_after,
)
from asgi_errorkit.types import ASGIApp, Receive, Scope, Send
from benchmarks.outage_http import get

__all__ = ["ABOUT", "ASKED", "DEPENDENCY", "STATUS", "SUBJECT", "SUBJECTS", "app"]

SUBJECT, DEPENDENCY = "BENCHMARKS_OUTAGE_SUBJECT", "BENCHMARKS_OUTAGE_PORT"
"""The environment variables that tell what is served, and the port of what it depends on."""

ASKED, STATUS = "/feed", "/status"
"""What clients ask for, and where the kit tells of what it has done."""

_CALL_SECONDS = 5.0  # httpx's default
_TOTAL_SECONDS = 1.0  # clients wait for two

Call: TypeAlias = Callable[[], Awaitable[bytes]]


def app() -> ASGIApp:
    """What the environment asks for."""
    port = int(os.environ[DEPENDENCY])

    async def call() -> bytes:
        async with asyncio.timeout(_CALL_SECONDS):
            answered = await get(port, "/")
        if answered.status >= 500:
            raise ConnectionError(f"the dependency answered with {answered.status}")
        return answered.body

    return _told(SUBJECTS[os.environ[SUBJECT]](call))


def _feed(call: Call) -> ASGIApp:
    """An app as it is written: what the call raises it leaves to whoever is around it."""

    async def feed(scope: Scope, receive: Receive, send: Send) -> None:
        await _answer(send, await call())

    return feed


async def _answer(send: Send, body: bytes) -> None:
    headers = [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _naive(call: Call) -> Call:
    async def three_times() -> bytes:
        for _ in range(2):
            try:
                return await call()
            except OSError:  # of which a timeout is one
                continue
        return await call()

    return three_times


def _budgeted(call: Call) -> Call:
    """As often, but after waits, and no more than the process's budget permits."""
    retry = Retry(on=OSError)

    async def retried() -> bytes:
        return await retry.call(call)

    return retried


def _guarded(call: Call) -> Call:
    """The guards around the call. The breaker stands outside of the time limit, so that it counts
    what is cut off."""
    breaker, retry = CircuitBreaker("dependency"), Retry(on=ConnectionError)

    async def once() -> bytes:
        async with breaker, fail_after(_TOTAL_SECONDS):
            return await call()

    async def guarded() -> bytes:
        return await retry.call(once)

    return guarded


def _kit(
    feed: ASGIApp,
    *,
    has_fallback: bool = True,
    limit: int | AdaptiveLimit | None = None,
    policy: CircuitPolicy | None = None,
) -> ErrorKit:
    stack = MiddlewareStack()
    if has_fallback:
        stack.add_middleware(
            FallbackMiddleware,
            fallbacks={f"GET {ASKED}": [StaleCopies(), Answer(200, [], b"[]")]},
            on=("shed", "timeout", "circuit_open", ErrorType.EXTERNAL_SERVICE),
        )
    stack.add_middleware(LoadSheddingMiddleware, limit=limit or AdaptiveLimit())
    stack.add_middleware(TimeoutMiddleware, total_seconds=_TOTAL_SECONDS)
    stack.add_middleware(RetryMiddleware, base_seconds=0.1)  # not the policy's five seconds
    stack.add_middleware(
        CircuitBreakingMiddleware, policy=policy, key=lambda scope: "external_service:feed"
    )
    return stack.create_middleware_stack(feed)


SUBJECTS: dict[str, Callable[[Call], ASGIApp]] = {
    "bare": _feed,
    "naive retries": lambda call: _feed(_naive(call)),
    "retries on a budget": lambda call: ErrorKit(_feed(_budgeted(call))),
    "guards in the app": lambda call: ErrorKit(_feed(_guarded(call))),
    "kit, no fallback": lambda call: _kit(_feed(call), has_fallback=False),
    "kit": lambda call: _kit(_feed(call)),
    "kit, told more": lambda call: _kit(
        _feed(call), limit=8, policy=CircuitPolicy(max_open_seconds=5)
    ),
}

"""What is around the app, or around its call."""

ABOUT = {
    "bare": "nothing; a call may take five seconds, as with httpx.",
    "naive retries": "what fails is called again at once, up to three times in all.",
    "retries on a budget": "`Retry(on=OSError)` around the call: as often, but with waits and a budget.",
    "guards in the app": (
        "`Retry(on=ConnectionError)` around a `CircuitBreaker` around `fail_after(1)` around the "
        "call; all else is default."
    ),
    "kit, no fallback": (
        "`LoadSheddingMiddleware(limit=AdaptiveLimit())`, `TimeoutMiddleware(total_seconds=1)`, "
        "`RetryMiddleware(base_seconds=0.1)` and `CircuitBreakingMiddleware`; all else is default."
    ),
    "kit": (
        "around those a `FallbackMiddleware` with `StaleCopies()`, also for errors of the type "
        "EXTERNAL_SERVICE."
    ),
    "kit, told more": (
        "the same with `limit=8`, twice the slots, and `CircuitPolicy(max_open_seconds=5)`: the "
        "breaker tries again every five seconds, and does not wait longer each time."
    ),
}
"""The same in words."""


def _told(served: ASGIApp) -> ASGIApp:
    """The app, beside which the kit tells of itself."""

    async def telling(scope: Scope, receive: Receive, send: Send) -> Any:
        if scope["type"] != "http" or scope["path"] != STATUS:
            return await served(scope, receive, send)
        told = served.status() if isinstance(served, ErrorKit) else {}
        known = {name: told.get(name) for name in ("survival", "breakers", "recorder")}
        await _answer(send, json.dumps(known).encode())
        return None

    return telling
