"""Who may ask the ops app what: closed unless it was opened."""

import hmac
import time
from collections.abc import Callable, Collection
from enum import Enum

from asgi_errorkit.ops.dashboard import is_of_page
from asgi_errorkit.ops.hosts import Hosts, header_values, is_of_other_page, is_same_origin
from asgi_errorkit.ops.replies import OpsError
from asgi_errorkit.ops.session import COOKIE, is_good
from asgi_errorkit.types import Scope

__all__ = ["HEADER", "SAFE", "Access", "Known", "checked_token"]

HEADER = b"x-errorkit-ops"
"""What a page sends with what changes something; other origins' pages cannot without being asked."""

SAFE = frozenset(("GET", "HEAD"))
_LEAST_CHARS = 16
_MOST_COOKIES = 8
_LOGIN = (b"www-authenticate", b'Bearer realm="asgi-errorkit ops"')


class Known(Enum):
    """By what whoever asks is known."""

    NOTHING = "nothing"
    TOKEN = "token"  # noqa: S105  no secret
    SESSION = "session"


class Access:
    """Judges every request before anything else is done with it; whom it refuses is counted."""

    def __init__(
        self,
        *,
        token: str | None,
        hosts: Hosts,
        public: Collection[str],
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self.refused = 0
        self.token = None if token is None else token.encode()
        self._hosts = hosts
        self._public = frozenset(public)
        self._wall_clock = wall_clock

    def check(self, scope: Scope, route: str | None) -> Known:
        """By what the asker is known. Raises OpsError for who may not ask.

        In an order that tells a stranger least: without a token there is nothing here.
        """
        try:
            return self._check(scope, route)
        except OpsError:
            self.refused += 1
            raise

    def _check(self, scope: Scope, route: str | None) -> Known:
        is_public = route in self._public and scope.get("method") in SAFE
        if is_public and route is not None and route.startswith("/health"):
            return self._known(scope)  # probes come by addresses that nobody knows before
        if self.token is None and not is_public:
            raise OpsError(404, "There is nothing here.")
        if not self._hosts.know(scope):
            raise OpsError(
                403,
                "This server is not known by the name in the Host header: ask it by its address, "
                "or give Ops(hosts=[...]) the name.",
            )
        self._check_page(scope)
        known = self._known(scope)
        is_open = is_public or is_of_page(scope, route) or _asks_for_session(scope, route)
        if known is Known.NOTHING and not is_open:
            raise OpsError(401, "A token is needed: Authorization: Bearer ...", headers=(_LOGIN,))
        if known is Known.SESSION and scope.get("method") not in SAFE:
            self._check_meant(scope)
        return known

    def _check_page(self, scope: Scope) -> None:
        origins = header_values(scope, b"origin")
        is_same = all(is_same_origin(scope, origin.decode("latin-1")) for origin in origins)
        if not is_same or len(origins) > 1 or is_of_other_page(scope):
            raise OpsError(403, "Pages of other origins may not ask.")

    def _check_meant(self, scope: Scope) -> None:
        """A browser sends a cookie along whoever has it ask: more is wanted of who changes something."""
        if not header_values(scope, b"origin") or not header_values(scope, HEADER):
            raise OpsError(
                403, "With a cookie, what changes something needs an Origin, and X-Errorkit-Ops: 1."
            )

    def _known(self, scope: Scope) -> Known:
        if self.token is None:
            return Known.NOTHING
        given = header_values(scope, b"authorization")
        if given:  # whoever gives one means it: a cookie does not make up for a wrong one
            is_right = len(given) == 1 and self._is_token(given[0])
            return Known.TOKEN if is_right else Known.NOTHING
        now = self._wall_clock()
        has_session = any(is_good(self.token, value, now) for value in _cookies(scope))
        return Known.SESSION if has_session else Known.NOTHING

    def _is_token(self, authorization: bytes) -> bool:
        scheme, _, token = authorization.partition(b" ")
        is_bearer = scheme.lower() == b"bearer"
        return hmac.compare_digest(token.strip(b" "), self.token or b"") and is_bearer


def _asks_for_session(scope: Scope, route: str | None) -> bool:
    """Whether it is asked by whom it is known, with a cookie or with nothing.

    Who gives a token is refused if it is wrong, and counted: guesses are not to go by this door.
    """
    is_asked = route == "/session" and scope.get("method") in SAFE
    return is_asked and not header_values(scope, b"authorization")


def _cookies(scope: Scope) -> list[str]:
    """The values of ours: another path, or a neighbour of the domain, may have set one too."""
    pairs = (
        pair.strip().partition("=")
        for header in header_values(scope, b"cookie")
        for pair in header.decode("latin-1").split(";")
    )
    return [value for name, _, value in pairs if name == COOKIE][:_MOST_COOKIES]


def checked_token(given: object) -> str | None:
    """The token; raises TypeError or ValueError, which do not repeat it, for what is none."""
    if given is None:
        return None
    wanted = (
        f"token must be a string of at least {_LEAST_CHARS} visible ASCII characters, e.g. what "
        "secrets.token_urlsafe(32) has made, kept outside of the code"
    )
    if not isinstance(given, str):
        raise TypeError(f"{wanted}; got {type(given).__name__}")
    if len(given) < _LEAST_CHARS or not (given.isascii() and given.isprintable()) or " " in given:
        raise ValueError(f"{wanted}; got {len(given)} characters")
    return given
