"""One run of the app whose failure, if it comes before the response, somebody may take over."""

import sys
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, NamedTuple, TypeAlias

from asgi_errorkit.apps import coroutine_marker
from asgi_errorkit.classify import Verdict
from asgi_errorkit.errors import PublicError
from asgi_errorkit.exchange import Exchange
from asgi_errorkit.failure import is_disconnect, raised_by
from asgi_errorkit.holding import is_stock_body, is_stock_start, nothing
from asgi_errorkit.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["Failing", "TakeOver", "attempt"]


class Failing(NamedTuple):
    """A failure that nobody has been told of yet.

    ``status`` and ``headers`` are those of the response that the app was about to send, ``exc``
    what it raised; ``refused_as`` the outcome, where it was refused further in.
    """

    verdict: Verdict
    exc: Exception | None = None
    status: int | None = None
    headers: Iterable[tuple[bytes, bytes]] = ()
    refused_as: str | None = None


TakeOver: TypeAlias = Callable[[Failing], Awaitable[bool]]


async def attempt(
    app: ASGIApp,
    exchange: Exchange,
    scope: Scope,
    receive: Receive,
    send: Send,
    take_over: TakeOver,
) -> tuple[Any, Failing | None]:
    """Run the app; what it returned, and None or the failure that was taken over.

    ``take_over`` is asked once, when the app raises before its response has started, or starts one
    of 500 or more. If it says True, nothing of the app's response is sent, and what it raises after
    that comes with the failure; else all goes its way as it would without. A framework's stock 500
    waits for the exception that follows it, until the app returns or listens. What ``take_over``
    raises goes to the app where that has sent, and nothing more of it is sent.
    """
    run = _Run(exchange, send, take_over)
    watched_receive, watched_send = run.watching(receive)
    try:
        result = await app(scope, watched_receive, watched_send)
    except Exception as exc:
        if await run.has_raised(exc):
            return None, run.let_out()
        raise
    except BaseException as exc:
        await run.let_go(exc)
        raise
    if run.held:
        await run.decide()
    return result, run.taken


class _Run:
    """The response of one run: passed on, held back, or dropped."""

    __slots__ = (
        "_exchange",
        "_is_asked",
        "_is_over",
        "_send",
        "_take_over",
        "held",
        "started",
        "taken",
    )

    def __init__(self, exchange: Exchange, send: Send, take_over: TakeOver) -> None:
        self.taken: Failing | None = None
        self.started = False
        self.held: list[Message] = []
        self._exchange = exchange
        self._send = send
        self._take_over = take_over
        self._is_asked = False
        self._is_over = False  # the response that was dropped is complete

    def watching(self, receive: Receive) -> tuple[Receive, Send]:
        """What the app is given; not kept here, for that were a circle that only the collector ends."""
        send = self._send

        async def watched_receive() -> Message:
            if self.held:  # whoever listens has nothing to raise
                await self.decide()
            if self._is_over:  # as a server tells it, once a response is complete
                return {"type": "http.disconnect"}
            return await receive()

        def watched_send(message: Message) -> Awaitable[None]:
            if self.started:
                return send(message)
            return self._before_start(message)

        mark = coroutine_marker()
        return watched_receive, mark(watched_send) if mark is not None else watched_send

    def _before_start(self, message: Message) -> Awaitable[None]:
        if self.taken is not None:
            is_body = message.get("type") == "http.response.body"
            self._is_over = self._is_over or (is_body and not message.get("more_body"))
            return nothing()
        if self._is_asked:  # waits for the word; if asking raised, for ever
            self.held.append(message)
            return nothing()
        if self.held:
            return self._after_held(message)
        if message.get("type") != "http.response.start":
            return self._send(message)
        return self._start(message)

    def _after_held(self, message: Message) -> Awaitable[None]:
        self.held.append(message)
        if len(self.held) == 2 and is_stock_body(message):
            return nothing()
        return self.decide()

    def _start(self, message: Message) -> Awaitable[None]:
        status = message.get("status")
        if not isinstance(status, int) or status < 500:
            self.started = True
            return self._send(message)
        self.held.append(message)
        if status == 500 and sys.exc_info()[0] is not None and is_stock_start(message):
            return nothing()
        return self.decide()

    async def decide(self) -> None:
        """Have what is held taken over, or send it."""
        if not self._is_asked and not await self._asks(None):
            await self._release()

    async def _asks(self, exc: Exception | None) -> bool:
        self._is_asked = True
        if self._exchange.disconnected:
            return False
        failing = _failing(self._exchange, exc, self.held[0] if self.held else {})
        if not await self._take_over(failing):
            return False
        self.taken = failing
        return True

    async def has_raised(self, exc: Exception) -> bool:
        """Whether what the app raised is taken over with its failure."""
        if self.taken is not None:
            self.taken = self.taken._replace(exc=exc)
            return True
        if self.started or self._is_asked:
            return False
        exchange = self._exchange
        is_failure = not is_disconnect(exchange, exc) and not raised_by(exc, exchange.send)
        if is_failure and not exchange.started and await self._asks(exc):
            return True
        await self._release()
        return False

    def let_out(self) -> Failing | None:
        """What was taken over; not kept here, for its traceback leads here: that were a circle."""
        taken, self.taken = self.taken, None
        return taken

    async def let_go(self, exc: BaseException) -> None:
        """Send what was held back when the app is cancelled or the process leaves."""
        if self._is_asked or not self.held or isinstance(exc, GeneratorExit):
            return
        try:
            await self._release()
        except Exception:  # noqa: BLE001, S110  the client has gone too: what is under way goes on
            pass

    async def _release(self) -> None:
        self._is_asked = True
        try:
            while self.held:
                await self._send(self.held.pop(0))
        finally:
            self.started = True


def _failing(exchange: Exchange, exc: Exception | None, start: Message) -> Failing:
    """What is known of a failure: by what was raised, by what a hook has told, or by the status."""
    judge = exchange.choices.classifier
    if exc is not None:
        return Failing(judge(exc), exc, refused_as=_refused_as(exchange, exc))
    status = start.get("status") or 500
    caught, seen = exchange.caught, exchange.seen
    told = seen.exc if seen is not None else None
    if caught is not None and not caught.handled:
        verdict = caught.verdict
    elif isinstance(told, Exception):
        verdict = judge(told)
    else:
        verdict = judge.status(int(status))
    headers = start.get("headers")
    known = headers if isinstance(headers, (list, tuple)) else ()
    return Failing(verdict, None, int(status), known, _refused_as(exchange, told))


def _refused_as(exchange: Exchange, exc: BaseException | None) -> str | None:
    """As `Exchange.ended_as` tells, or will once the error is kept."""
    if exchange.ended_as is not None or not issubclass(type(exc), PublicError):
        return exchange.ended_as
    refused_as: str | None = getattr(exc, "ends_as", None)
    return refused_as
