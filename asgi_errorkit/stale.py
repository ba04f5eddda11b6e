"""Copies of the last good responses, to be served when the app cannot answer (RFC 9111, RFC 5861).

A copy is given to other clients than the one that it was made for, so everything here is about
what must not be: a response is kept only if nothing says that it is somebody's own.
"""

import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from math import inf
from typing import Any, NamedTuple, TypeAlias

from asgi_errorkit.options import check_callable, check_number, check_whole
from asgi_errorkit.problem import Answer
from asgi_errorkit.types import Message, Scope

__all__ = ["Recording", "StaleCopies", "StaleCopy"]

_KIB = 1024
_MIB = 1024 * _KIB

# What says who asks, and may have decided what was answered. The identity that a proxy in front
# has found out (of Cloudflare, AWS, Google, Azure, oauth2-proxy) is as private as a cookie.
_CREDENTIALS = frozenset(
    b"authorization cookie proxy-authorization x-access-token x-api-key x-auth-token x-token "
    b"x-csrf-token x-session-id x-session-token api-key apikey "
    b"remote-user x-remote-user x-user x-user-id x-forwarded-user x-forwarded-email "
    b"x-forwarded-client-cert x-client-cert x-ssl-client-cert x-forwarded-access-token "
    b"x-auth-request-user x-auth-request-email x-auth-request-access-token "
    b"cf-access-jwt-assertion cf-access-authenticated-user-email x-amzn-oidc-data "
    b"x-amzn-oidc-identity x-amzn-oidc-accesstoken x-amz-security-token "
    b"x-goog-authenticated-user-email x-goog-iap-jwt-assertion x-ms-client-principal "
    b"x-ms-client-principal-id".split()
)
# What belongs to the connection (RFC 9111, 3.1), and what told of the one request answered then.
_NOT_KEPT = frozenset(
    b"connection keep-alive proxy-connection proxy-authenticate proxy-authentication-info "
    b"proxy-authorization te trailer transfer-encoding upgrade "
    b"age content-length server-timing traceparent tracestate x-request-id "
    b"x-correlation-id".split()
)
# Answers which say that what was there is gone, or is not for everybody any more.
_REVOKING = frozenset((401, 403, 404, 410, 451))
# Which may come before a response, and are no part of it.
_BESIDE = frozenset(("http.response.early_hint", "http.response.push", "http.response.debug"))

_MOST_HEADERS = 64
_HEADER_BYTES = 16 * _KIB
_KEY_BYTES = 2 * _KIB
_MOST_VARY = 8
_ENTRY_BYTES = 512  # what the objects themselves take, about

_DIRECTIVE = re.compile(rb"""([!#$%&'*+.^_`|~0-9a-z-]++)(?:=(?:"([^"]*+)"|([^\s"]*+)))?""")
_QUOTED = re.compile(rb'"[^"]*+"')
_MOST_SECONDS = 2**31  # RFC 9111, 1.2.2

_Headers: TypeAlias = list[tuple[bytes, bytes]]
_Key: TypeAlias = tuple[Any, ...]
# The names that Vary has, each with the value of the request.
_Chosen: TypeAlias = tuple[tuple[bytes, bytes | None], ...]


class _Request(NamedTuple):
    """What of a request decides about its copies."""

    key: _Key
    headers: dict[bytes, bytes]
    has_credentials: bool
    only_public: bool


class _Kept(NamedTuple):
    """What is kept of a response; ``at`` is the clock's time when it came, the rest is seconds."""

    key: _Key
    chosen: _Chosen
    headers: _Headers
    body: bytes
    at: float
    age_seconds: float  # that it had when it came
    limit_seconds: float
    is_public: bool
    size: int

    def age_at(self, now: float) -> float:
        return self.age_seconds + max(0.0, now - self.at)


class StaleCopy(NamedTuple):
    """A response as it was; for a HEAD request without its body."""

    kept: _Kept
    is_head: bool

    def answer(self, now: float) -> Answer:
        """The response as it may be sent; ``now`` is seconds of the clock of `StaleCopies`."""
        kept = self.kept
        headers = [
            *kept.headers,
            (b"content-length", b"%d" % len(kept.body)),
            (b"age", b"%d" % kept.age_at(now)),
        ]
        return Answer(200, headers, b"" if self.is_head else kept.body)


class StaleCopies:
    """Keeps the last good response to each GET request, for `find` to give out later.

    Kept is a complete response with status 200 whose headers neither forbid it (``no-store``,
    ``no-cache``, ``private``, ``Set-Cookie``, ``Vary: *``) nor are huge. Whoever sends credentials
    (``Authorization``, cookies, keys and users that proxies name) adds to the copies, and is given
    of them, only what is ``Cache-Control: public``: an app that knows its users by anything else,
    such as their address, must say ``private``. ``must-revalidate``, ``proxy-revalidate`` and
    ``s-maxage`` let a copy be given as long as it is fresh, ``stale-if-error`` so much longer.

    Beyond ``max_entries`` or ``max_total_bytes`` what was used least recently goes. Responses that
    are under way count only when they are complete. Many threads may use it. Raises TypeError or
    ValueError for an option out of bounds.
    """

    def __init__(
        self,
        *,
        max_age_seconds: float = 3600.0,
        max_entries: int = 256,
        max_body_bytes: int = _MIB,
        max_total_bytes: int = 16 * _MIB,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        check_number("max_age_seconds", max_age_seconds, above=0, example=3600.0)
        check_whole("max_entries", max_entries, least=1, example=256)
        check_whole("max_body_bytes", max_body_bytes, least=1, example=_MIB)
        check_whole("max_total_bytes", max_total_bytes, least=max_body_bytes, example=16 * _MIB)
        check_callable("clock", clock)
        self.max_age_seconds = max_age_seconds
        self.max_body_bytes = max_body_bytes
        self.clock = clock
        self._max_entries = max_entries
        self._max_total_bytes = max_total_bytes
        self._lock = threading.Lock()
        # By what the request asks for, then by what Vary adds to that; the last used at the end.
        self._copies: OrderedDict[tuple[_Key, _Chosen], _Kept] = OrderedDict()
        self._variants: dict[_Key, list[_Chosen]] = {}
        self._bytes = self._stored = self._served = self._evicted = 0

    def recording(self, scope: Scope) -> "Recording | None":
        """What is to see each message of the response; None where it must not be kept anyway."""
        request = _request(scope)
        if request is None or scope["method"] != "GET":
            return None
        headers = request.headers
        if b"range" in headers or b"no-store" in headers.get(b"cache-control", b"").lower():
            return None
        return Recording(self, request)

    def find(self, scope: Scope) -> StaleCopy | None:
        """The newest copy that may answer this GET or HEAD request, or None."""
        request = _request(scope)
        if request is None:
            return None
        now = self.clock()
        with self._lock:
            found: _Kept | None = None
            for chosen in self._variants.get(request.key, ()):
                kept = self._copies[request.key, chosen]
                if _may_answer(kept, request, now) and (found is None or kept.at >= found.at):
                    found = kept
            if found is None:
                return None
            self._copies.move_to_end((found.key, found.chosen))
            self._served += 1
        return StaleCopy(found, scope["method"] == "HEAD")

    def forget(self, scope: Scope) -> None:
        """Drop the copies of what this request asks for, such as after a POST to it changed it.

        RFC 9111, 4.4, asks for that where an unsafe method was answered with 2xx or 3xx.
        """
        key = _key(scope, _values(scope) or {})
        if key is not None:
            self.drop(key)

    def as_dict(self) -> dict[str, int]:
        """How many there are, their bytes, and how many were kept, served and evicted so far."""
        with self._lock:
            return {
                "entries": len(self._copies),
                "bytes": self._bytes,
                "kept": self._stored,
                "served": self._served,
                "evicted": self._evicted,
            }

    def keep(self, kept: _Kept) -> None:
        """Take a copy in the place of an older one; what is then over the bounds goes."""
        if kept.size > self._max_total_bytes:
            return
        with self._lock:
            place = (kept.key, kept.chosen)
            if place in self._copies:
                self._remove(place)
            self._copies[place] = kept
            self._variants.setdefault(kept.key, []).append(kept.chosen)
            self._bytes += kept.size
            self._stored += 1
            while len(self._copies) > self._max_entries or self._bytes > self._max_total_bytes:
                self._remove(next(iter(self._copies)))
                self._evicted += 1

    def drop(self, key: _Key) -> None:
        """Drop all copies of what has this key."""
        with self._lock:
            for chosen in tuple(self._variants.get(key, ())):
                self._remove((key, chosen))

    def _remove(self, place: tuple[_Key, _Chosen]) -> None:
        self._bytes -= self._copies.pop(place).size
        key, chosen = place
        variants = self._variants[key]
        variants.remove(chosen)
        if not variants:
            del self._variants[key]


class Recording:
    """Sees the messages of one response, and keeps a copy when it is complete and may be kept.

    Written by the task that sends the response. Raises nothing, and changes no message.
    """

    __slots__ = ("_copies", "_length", "_pieces", "_request", "_start")

    def __init__(self, copies: StaleCopies, request: _Request) -> None:
        self._copies: StaleCopies | None = copies  # None when it is over
        self._request = request
        self._start: _Kept | None = None
        self._pieces: list[bytes] = []
        self._length: int | None = None

    def see(self, message: Message) -> None:
        """Take a copy of a message that is sent."""
        copies = self._copies
        if copies is None:
            return
        try:
            if not self._takes(copies, message):
                self._end()
        except Exception:  # noqa: BLE001  a malformed message is for the server to refuse
            self._end()

    def _takes(self, copies: StaleCopies, message: Message) -> bool:
        """Whether it goes on."""
        kind = message["type"]
        if kind == "http.response.body":
            return self._start is not None and self._takes_body(copies, self._start, message)
        if kind == "http.response.start":
            return self._start is None and self._takes_start(copies, message)
        return kind in _BESIDE

    def _takes_start(self, copies: StaleCopies, message: Message) -> bool:
        status = message["status"]
        headers = _response_headers(message.get("headers") or ())
        start = None
        if status == 200 and headers is not None:
            start = _judged(self._request, headers, copies.clock(), copies.max_age_seconds)
        # What is not for everybody any more must not be given to anybody from before.
        was_public = not self._request.has_credentials
        if start is None and was_public and (status == 200 or status in _REVOKING):
            copies.drop(self._request.key)
        if start is None or headers is None or message.get("trailers"):
            return False
        lengths = [value for name, value in headers if name == b"content-length"]
        self._length = int(lengths[0]) if lengths else None
        self._start = start
        return self._length is None or self._length <= copies.max_body_bytes

    def _takes_body(self, copies: StaleCopies, start: _Kept, message: Message) -> bool:
        self._pieces.append(bytes(message.get("body") or b""))
        size = sum(map(len, self._pieces))
        if size > copies.max_body_bytes:
            return False
        if message.get("more_body"):
            if len(self._pieces) > _MOST_HEADERS:
                self._pieces = [b"".join(self._pieces)]
            return True
        if self._length in (None, size):
            body = b"".join(self._pieces)
            copies.keep(start._replace(body=body, size=start.size + len(body)))
        return False

    def _end(self) -> None:
        self._copies = self._start = None
        self._pieces = []


def _request(scope: Scope) -> _Request | None:
    """What decides, of a request that a copy may answer; None for any other."""
    if scope.get("type") != "http" or scope.get("method") not in ("GET", "HEAD"):
        return None
    headers = _values(scope)
    if headers is None or b"transfer-encoding" in headers:
        return None
    if headers.get(b"content-length", b"0") != b"0":  # what it has sent may have been looked at
        return None
    key = _key(scope, headers)
    if key is None:
        return None
    has_credentials = not _CREDENTIALS.isdisjoint(headers) or _has_certificate(scope)
    no_store = b"no-store" in headers.get(b"cache-control", b"").lower()
    return _Request(key, headers, has_credentials, has_credentials or no_store)


def _key(scope: Scope, headers: dict[bytes, bytes]) -> _Key | None:
    # Also the raw path: "/a%2Fb" and "/a/b" are one in the other.
    text = (scope.get("scheme") or "http", scope.get("path"))
    addressed = (scope.get("raw_path") or b"", scope.get("query_string") or b"")
    octets = (headers.get(b"host", b"").lower(), *addressed)
    if any(each.__class__ is not str for each in text):
        return None
    if any(each.__class__ is not bytes for each in octets):
        return None
    key: _Key = text + octets
    return key if sum(map(len, key)) <= _KEY_BYTES else None


def _values(scope: Scope) -> dict[bytes, bytes] | None:
    """The request's headers by name, the lines of one in one; None for what cannot be read twice."""
    headers = scope.get("headers")
    if not isinstance(headers, list | tuple):
        return None
    try:
        return _by_name([(name.lower(), value) for name, value in headers])
    except (TypeError, ValueError, AttributeError):
        return None


def _by_name(headers: _Headers) -> dict[bytes, bytes]:
    values = dict(headers)
    if len(values) == len(headers):
        return values
    lines: dict[bytes, list[bytes]] = {}
    for name, value in headers:
        lines.setdefault(name, []).append(value)
    return {name: b", ".join(each) for name, each in lines.items()}  # RFC 9110, 5.3


def _has_certificate(scope: Scope) -> bool:
    extensions = scope.get("extensions")
    tls = extensions.get("tls") if isinstance(extensions, dict) else None
    return isinstance(tls, dict) and bool(tls.get("client_cert_chain"))


def _response_headers(given: Any) -> _Headers | None:
    """The headers with names in lower case; None when they are too many or too long."""
    if not isinstance(given, list | tuple) or len(given) > _MOST_HEADERS:
        return None
    headers = [(bytes(name).lower(), bytes(value)) for name, value in given]
    size = sum(len(name) + len(value) for name, value in headers)
    return headers if size <= _HEADER_BYTES else None


def _judged(request: _Request, headers: _Headers, now: float, max_age: float) -> _Kept | None:
    """The copy without its body, or None when the response must not be kept."""
    values = _by_name(headers)
    control = values.get(b"cache-control", b"").lower()
    # Wherever they stand, also where a name is quoted: rather too little is kept.
    if any(word in control for word in (b"no-store", b"no-cache", b"private")):
        return None
    directives = _directives(control)
    if b"set-cookie" in values or b"text/event-stream" in values.get(b"content-type", b"").lower():
        return None
    if directives is None or (request.has_credentials and not _is_shared(request, directives)):
        return None
    chosen = _chosen(request, values.get(b"vary", b"").lower())
    age = _seconds(values.get(b"age", b""))
    limit = min(max_age, _limit_seconds(directives))
    if chosen is None or age >= limit:
        return None
    kept = _end_to_end(headers, values.get(b"connection", b""))
    size = sum(len(name) + len(value) for name, value in kept)
    size += sum(len(name) + len(value or b"") for name, value in chosen)
    size += sum(map(len, request.key)) + _ENTRY_BYTES
    return _Kept(request.key, chosen, kept, b"", now, age, limit, b"public" in directives, size)


def _is_shared(request: _Request, directives: dict[bytes, bytes]) -> bool:
    """Whether a response to somebody who is known is for others too (RFC 9111, 3.5)."""
    if b"public" in directives:
        return True
    if not (b"must-revalidate" in directives or b"s-maxage" in directives):
        return False
    # Those tell of Authorization alone: of a cookie caches know nothing, so the app may not either.
    return b"authorization" in request.headers and _CREDENTIALS.isdisjoint(
        request.headers.keys() - {b"authorization"}
    )


def _limit_seconds(directives: dict[bytes, bytes]) -> float:
    """The age beyond which a copy must not be given (RFC 9111, 4.2.4; RFC 5861, 4)."""
    shared = directives.get(b"s-maxage")
    fresh = _seconds(directives.get(b"max-age", b"") if shared is None else shared)
    if b"must-revalidate" in directives or b"proxy-revalidate" in directives:
        return fresh
    if b"stale-if-error" in directives:
        return fresh + _seconds(directives[b"stale-if-error"])
    return inf if shared is None else fresh


def _chosen(request: _Request, vary: bytes) -> _Chosen | None:
    """What Vary adds to the key; None for what nobody can know, or that is too much."""
    if not vary:
        return ()
    names = sorted({name.strip() for name in vary.split(b",")} - {b""})
    if b"*" in names or len(names) > _MOST_VARY:
        return None
    chosen = tuple((name, request.headers.get(name)) for name in names)
    size = sum(len(name) + len(value or b"") for name, value in chosen)
    return chosen if size <= _KEY_BYTES else None


def _may_answer(kept: _Kept, request: _Request, now: float) -> bool:
    if request.only_public and not kept.is_public:
        return False
    if kept.age_at(now) > kept.limit_seconds:
        return False
    return all(request.headers.get(name) == value for name, value in kept.chosen)


def _end_to_end(headers: _Headers, connection: bytes) -> _Headers:
    dropped = _NOT_KEPT.union(map(bytes.strip, connection.lower().split(b",")))
    return [pair for pair in headers if pair[0] not in dropped]


def _directives(control: bytes) -> dict[bytes, bytes] | None:
    """The directives of a Cache-Control header, of a repeated one the first; None if malformed."""
    directives: dict[bytes, bytes] = {}
    unquoted = _QUOTED.sub(lambda found: found[0].replace(b",", b" "), control)
    for item in filter(None, map(bytes.strip, unquoted.split(b","))):
        found = _DIRECTIVE.fullmatch(item)
        if found is None:
            return None
        directives.setdefault(found[1], found[2] or found[3] or b"")
    return directives


def _seconds(value: bytes) -> float:
    """Seconds that a header tells; 0 for what is no number, so that nothing is fresh by mistake."""
    digits = value.strip()
    if not digits.isdigit():
        return 0.0
    return float(_MOST_SECONDS if len(digits) > 10 else min(int(digits), _MOST_SECONDS))
