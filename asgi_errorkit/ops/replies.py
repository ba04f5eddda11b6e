"""What the ops app sends: whole answers, all with the same strict headers."""

import json
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any, Final, NamedTuple, TypeAlias

import orjson

from asgi_errorkit.types import Scope, Send

__all__ = ["STRICT", "Headers", "OpsError", "Reply", "as_json", "encoded", "problem", "send_reply"]

Headers: TypeAlias = tuple[tuple[bytes, bytes], ...]

STRICT: Final[Headers] = (
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
    (
        b"content-security-policy",
        b"default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"referrer-policy", b"no-referrer"),
)
"""With every answer. None of them lets another origin read it."""


class Reply(NamedTuple):
    """A whole answer; one of its own ``headers`` goes before the strict one of its name."""

    status: int
    content_type: bytes
    body: bytes
    headers: Headers = ()


class OpsError(Exception):
    """A request that is not answered as it was asked: with this status, and why."""

    def __init__(self, status: int, detail: str, *, headers: Headers = ()) -> None:
        super().__init__(detail)
        self.status, self.detail, self.headers = status, detail, headers


def as_json(told: Any, *, status: int = 200, headers: Headers = ()) -> Reply:
    """Plain data as JSON."""
    return Reply(status, b"application/json", encoded(told), headers)


def problem(status: int, detail: str, *, headers: Headers = ()) -> Reply:
    """A problem document (RFC 9457)."""
    title = HTTPStatus(status).phrase
    told = {"type": "about:blank", "title": title, "status": status, "detail": detail}
    return Reply(status, b"application/problem+json", encoded(told), headers)


def encoded(told: Any) -> bytes:
    """As JSON on one line; what is no text becomes some, for a record may say anything."""
    try:
        return orjson.dumps(told, option=orjson.OPT_NON_STR_KEYS)
    except TypeError:
        return json.dumps(told, default=str).encode()


async def send_reply(reply: Reply, scope: Scope, send: Send) -> None:
    """Send it; to HEAD without its body, but with that one's length (RFC 9110, 9.3.2)."""
    headers = [*with_strict(reply.headers)]
    if reply.status not in (204, 304):
        headers += [
            (b"content-type", reply.content_type),
            (b"content-length", b"%d" % len(reply.body)),
        ]
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    body = b"" if scope.get("method") == "HEAD" else reply.body
    await send({"type": "http.response.body", "body": body})


def with_strict(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """These, and the strict ones that are not among them."""
    own = list(headers)
    names = {name for name, _ in own}
    return [*own, *((name, value) for name, value in STRICT if name not in names)]
