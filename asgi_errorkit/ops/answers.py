"""The answers of the ops app, by their path: what is read, what is done, who is alive."""

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from asgi_errorkit.ops.access import SAFE, Access, Known
from asgi_errorkit.ops.acts import acting_of
from asgi_errorkit.ops.asked import asked, read_body
from asgi_errorkit.ops.dashboard import asset, page, wants_page
from asgi_errorkit.ops.endpoints import READS, read_of
from asgi_errorkit.ops.events import Events, Snapshots
from asgi_errorkit.ops.health import Readiness
from asgi_errorkit.ops.mount import Place
from asgi_errorkit.ops.off_loop import in_thread
from asgi_errorkit.ops.openapi import described
from asgi_errorkit.ops.replies import OpsError, Reply, as_json
from asgi_errorkit.ops.session import COOKIE, cookie
from asgi_errorkit.ops.source import Source
from asgi_errorkit.types import Receive, Scope, Send

if TYPE_CHECKING:
    from asgi_errorkit.ops import Ops

__all__ = ["Answer", "Answers", "Request", "Stream", "answer_of", "methods_of", "refused"]

logger = logging.getLogger("asgi_errorkit.ops")

_MOST_READS = 4
_BUSY = ((b"retry-after", b"1"),)


class Request(NamedTuple):
    """One that was let through."""

    scope: Scope
    receive: Receive
    send: Send
    place: Place
    known: Known
    method: str


class Answers:
    """Answers from a source, each with a whole reply or with a stream that is to be sent."""

    def __init__(
        self,
        ops: "Ops",
        source: Source,
        *,
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
    ) -> None:
        self.source = source
        self._access: Access = ops.access
        self._session_seconds: int = ops.session_seconds
        self._wall_clock = wall_clock
        self._readiness = Readiness(ops.checks, seconds=ops.check_seconds, clock=clock)
        self._events = Events(
            Snapshots(source, clock=clock),
            every_seconds=ops.events_every_seconds,
            most=ops.max_viewers,
            clock=clock,
        )
        self._reading = 0

    async def index(self, request: Request) -> Reply:
        """The page for who looks with a browser; else what there is, and how it is used."""
        if wants_page(request.scope):
            return page(request.scope, request.place)
        return as_json(
            {
                "name": "asgi-errorkit ops",
                "endpoints": sorted({*READS, *_OWN}),
                "requests_refused": self._access.refused,
                "events": self._events.as_dict(),
            }
        )

    async def asset(self, request: Request) -> Reply:
        """A file of the page."""
        found = asset(request.scope, request.place.route)
        if found is None:
            raise OpsError(404, "There is nothing here.")
        return found

    async def read(self, request: Request) -> Reply:
        """What the table of reads tells; a few at a time, lest the app suffer from those who look."""
        if request.method not in SAFE:
            return await self._changed(request)
        found = read_of(request.place.route)
        assert found is not None  # noqa: S101  it would not come here else
        read, of_path = found
        values = {**asked(request.scope, read.parameters), **of_path}
        if self._reading >= _MOST_READS:
            raise OpsError(503, f"{_MOST_READS} read already.", headers=_BUSY)
        self._reading += 1
        try:
            return await in_thread(lambda: as_json(read.read(self.source, values)))
        finally:
            self._reading -= 1

    async def _changed(self, request: Request) -> Reply:
        found = acting_of(request.place.route)
        assert found is not None  # noqa: S101  the method would not be allowed else
        acting, of_path = found
        act = acting.understood(await read_body(request.scope, request.receive), of_path)
        told = await in_thread(lambda: act.do(self.source))
        if told is None:
            raise OpsError(404, act.missing)
        client = (request.scope.get("client") or ("unknown",))[0]
        logger.warning("%s %a, asked for by %r", *act.told, client)
        return as_json(told)

    async def live(self, request: Request) -> Reply:
        """That this answers is all there is to it."""
        return as_json({"status": "alive", "timestamp": self._wall_clock()})

    async def ready(self, request: Request) -> Reply:
        """What the app's own checks say."""
        return await self._checked(request, "ready", "unready")

    async def health(self, request: Request) -> Reply:
        """The same, in the words of the guide."""
        return await self._checked(request, "healthy", "unhealthy")

    async def _checked(self, request: Request, well: str, ill: str) -> Reply:
        checks = await self._readiness.get()
        is_well = all(check["ok"] for check in checks.values())
        told = {"status": well if is_well else ill, "timestamp": self._wall_clock()}
        if request.known is not Known.NOTHING:  # a stranger need not know what this depends on
            told["checks"] = checks
        return as_json(told, status=200 if is_well else 503)

    async def events(self, request: Request) -> "Reply | Stream":
        """The stream, if there is room for one who looks."""
        if request.method == "HEAD":
            return Reply(200, b"text/event-stream; charset=utf-8", b"")
        self._events.check_room()
        return partial(self._events.serve, request.receive, request.send)

    async def session(self, request: Request) -> Reply:
        """Whether there is one; a cookie for the token, or its end."""
        if request.method in SAFE:
            return as_json({"signed_in": request.known is not Known.NOTHING})
        is_leaving = request.method == "DELETE"
        if request.known is not Known.TOKEN and not is_leaving:
            raise OpsError(401, "The token itself is needed: Authorization: Bearer ...")
        seconds = 0 if is_leaving else self._session_seconds
        value = cookie(
            self._access.token or b"",
            until=int(self._wall_clock()) + seconds,
            seconds=seconds,
            path=request.place.base,
            is_secure=request.scope.get("scheme") == "https",
        )
        return Reply(204, b"", b"", ((b"set-cookie", value),))

    async def openapi(self, request: Request) -> Reply:
        """The description of all this."""
        base = request.place.base
        return as_json(described(base, self.source, cookie=COOKIE))


Stream: TypeAlias = Callable[[], Awaitable[None]]
"""Sends a response of its own: what goes wrong amid it can be answered no more."""

Answer: TypeAlias = Callable[[Answers, Request], Awaitable[Reply | Stream]]

_READ: Final = ("GET", "HEAD", "OPTIONS")
_OWN: Mapping[str, tuple[Answer, tuple[str, ...]]] = MappingProxyType(
    {
        "/": (Answers.index, _READ),
        "/events": (Answers.events, _READ),
        "/health": (Answers.health, _READ),
        "/health/live": (Answers.live, _READ),
        "/health/ready": (Answers.ready, _READ),
        "/openapi.json": (Answers.openapi, _READ),
        "/session": (Answers.session, ("GET", "HEAD", "POST", "DELETE", "OPTIONS")),
    }
)


def answer_of(route: str) -> Answer | None:
    """Who answers there; None where nobody does."""
    if read_of(route) is not None:
        return Answers.read
    if route in _OWN:
        return _OWN[route][0]
    return Answers.asset if route.startswith("/assets/") else None


def methods_of(route: str, source: Source) -> tuple[str, ...]:
    """The methods that are answered there."""
    if route in _OWN:
        return _OWN[route][1]
    acting = acting_of(route)
    can_act = acting is not None and acting[0].is_possible(source)
    return ("GET", "HEAD", "POST", "OPTIONS") if can_act else _READ


def refused(route: str, method: str, methods: Sequence[str]) -> str:
    """Why a method is not answered there, and where it would be."""
    acting = acting_of(route)
    if acting is not None and method == "POST":
        return acting[0].elsewhere
    return f"{route} takes {', '.join(methods)}."
