"""The ops app: health, statistics, errors, breakers and events of a kit, or of its record on disk.

An ASGI app of its own, closed unless it was opened. Mounted: ``ErrorKit(app, ops=Ops(token=...))``;
on a port or a unix socket of its own: ``Ops(token=...).app(kit)``.
"""

import logging
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from asgi_errorkit.ops.access import Access, checked_token
from asgi_errorkit.ops.app import OpsApp
from asgi_errorkit.ops.health import Check, checked_checks
from asgi_errorkit.ops.hosts import Hosts, checked_hosts
from asgi_errorkit.ops.mount import Mount, checked_path
from asgi_errorkit.ops.of_host import OfHost
from asgi_errorkit.ops.of_kit import Kit, OfKit
from asgi_errorkit.ops.source import Source
from asgi_errorkit.options import check_number, check_whole, strings
from asgi_errorkit.spool.host import Host
from asgi_errorkit.types import ASGIApp, Receive, Scope, Send

__all__ = ["Ops", "OpsApp", "Source"]

logger = logging.getLogger("asgi_errorkit.ops")

_BARE = ("/health", "/errors/stats", "/performance/stats")
_PUBLIC = ("/health/live", "/health/ready", *_BARE)
_DAY_SECONDS = 86_400


class Ops:
    """How the ops app is served: to whom, where, and with which checks.

    Without a ``token`` nothing answers but what is ``public``, which of the rest can be the health
    and the two statistics alone. ``hosts`` are the names, beside those of loopback and the server's
    own address, that the Host header may have. ``path`` is where it is mounted, ``bare`` says which
    of "/health", "/errors/stats" and "/performance/stats" are served at the root too, before the
    app's own. ``checks`` say whether the app is ready: see `asgi_errorkit.ops.health`. Raises
    TypeError or ValueError for an option that cannot work.
    """

    def __init__(
        self,
        *,
        token: str | None = None,
        path: str = "/_errorkit",
        hosts: Iterable[str] = (),
        public: Iterable[str] = ("/health/live",),
        bare: Iterable[str] = (),
        checks: Mapping[str, Check] | None = None,
        check_seconds: float = 2.0,
        session_seconds: int = 8 * 3600,
        max_viewers: int = 100,
        events_every_seconds: float = 1.0,
    ) -> None:
        check_number("check_seconds", check_seconds, above=0, most=60, example=2.0)
        check_whole("session_seconds", session_seconds, least=60, most=_DAY_SECONDS, example=28_800)
        check_whole("max_viewers", max_viewers, least=0, most=10_000, example=100)
        check_number("events_every_seconds", events_every_seconds, least=1, most=60, example=1.0)
        self.path = checked_path(path)
        self.bare = _chosen("bare", bare, _BARE)
        chosen = _chosen("public", public, _PUBLIC)
        # As where a token is taken from an environment that has none.
        self._says_that_it_lives_alone = token is None and chosen == {"/health/live"}
        self.access = Access(
            token=checked_token(token), hosts=Hosts(checked_hosts(hosts)), public=chosen
        )
        self.checks = checked_checks(checks)
        self.check_seconds = check_seconds
        self.session_seconds = session_seconds
        self.max_viewers = max_viewers
        self.events_every_seconds = events_every_seconds

    def app(self, answers_from: "Kit | Host | Source") -> OpsApp:
        """The ASGI app that answers from a kit, from the record of a host, or from what you have."""
        if self._says_that_it_lives_alone:
            logger.warning("ops: there is no token: nothing but /health/live is answered")
        return OpsApp(self, _source(answers_from))

    def around(self, kit: Kit, serve: ASGIApp) -> ASGIApp:
        """The ops app of a kit at its path, and what the kit serves everywhere else."""
        ops_app, find = self.app(kit), Mount(self.path, self.bare).find

        async def mounted(scope: Scope, receive: Receive, send: Send) -> Any:
            place = find(scope) if scope.get("type") == "http" else None
            if place is None:
                return await serve(scope, receive, send)
            return await ops_app.serve(scope, receive, send, place)

        return mounted


def _source(given: Any) -> Source:
    if isinstance(given, Host):
        return OfHost(given)
    if hasattr(given, "tracker") and hasattr(given, "get_performance_stats"):
        return OfKit(given)
    if hasattr(given, "can_act"):
        source: Source = given
        return source
    raise TypeError(
        "answers come from an ErrorKit, a Host, or what has the methods of "
        f"asgi_errorkit.ops.Source; got {given!r:.200}"
    )


def _chosen(name: str, given: Iterable[str], of: Collection[str]) -> frozenset[str]:
    chosen = frozenset(strings(name, given))
    for each in sorted(chosen):
        if each not in of:
            raise ValueError(f"{name} may have {', '.join(of)}; got {each!r:.200}")
    return chosen
