"""What the messages of a response tell: its status, sizes, end, and the id it carries."""

import os
from typing import Any

from asgi_errorkit.exchange import Exchange
from asgi_errorkit.types import Message, Scope

__all__ = ["FILE_BODIES", "body", "headers_of", "start", "watch_file", "with_header"]

FILE_BODIES = frozenset(("http.response.pathsend", "http.response.zerocopysend"))


def headers_of(scope: Scope) -> dict[bytes, bytes]:
    """The request's headers by name; of a repeated one the last. Nothing is taken from the app."""
    headers = scope.get("headers")
    if headers is None:
        return {}
    try:
        if headers.__class__ is not list and headers.__class__ is not tuple:
            # Any iterable is allowed, also one that can be read but once.
            headers = scope["headers"] = list(headers)
        found = dict(headers)
    except (TypeError, ValueError):
        return {}
    if len(found) != len(headers) and b"x-forwarded-for" in found:
        # A list over several lines is one list (RFC 9110, 5.3), and read from its end.
        hops = [value for name, value in headers if name == b"x-forwarded-for"]
        found[b"x-forwarded-for"] = b",".join(hops)
    return found


def start(exchange: Exchange, message: Message, at: float, header: bytes) -> Message:
    """Note a response's start; return the message to send, with the request id among its headers."""
    exchange.status = message.get("status")
    exchange.first_byte_at = at
    return with_header(message, header, exchange.request_id)


def with_header(message: Message, name: bytes, value: str) -> Message:
    """The message with one more header, unless the app has set it. The app's own is not changed."""
    given = message.get("headers")
    try:
        headers = given if given.__class__ is list else [*(given or ())]
        for header in headers:
            if header[0] == name:
                return message if headers is given else {**message, "headers": headers}
    except (TypeError, IndexError):  # for the server to refuse, in its own words
        return message
    # A copy: the app may send the very same message again.
    copy = dict(message)
    copy["headers"] = [*headers, (name, value.encode())]
    return copy


def body(exchange: Exchange, message: Message, at: float) -> None:
    """Note a piece of a response's body. The frame spells this out where it counts."""
    exchange.sent += len(message.get("body") or b"")
    if not message.get("more_body"):
        exchange.ended_at = at
        exchange.complete = True


def watch_file(exchange: Exchange, message: Message, at: float) -> None:
    """Note a body that the server reads from a file: the path send or zero copy send extension."""
    exchange.sent += _file_bytes(message)
    if message["type"] == "http.response.pathsend" or not message.get("more_body"):
        exchange.ended_at = at
        exchange.complete = True


def _file_bytes(message: Message) -> int:
    """How many bytes there are to send; 0 when nobody can tell."""
    file: Any = message.get("path", message.get("file"))
    count, offset = message.get("count"), message.get("offset")
    try:
        if not isinstance(file, str):
            file = file if isinstance(file, int) else file.fileno()
        size = os.stat(file).st_size
        if offset is None:
            offset = 0 if isinstance(file, str) else os.lseek(file, 0, os.SEEK_CUR)
    except (OSError, TypeError, ValueError, AttributeError):
        return count if isinstance(count, int) else 0
    left = max(0, size - offset)
    return min(count, left) if isinstance(count, int) else left
