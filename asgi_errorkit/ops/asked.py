"""What is asked for, in the query or the body: checked before anything is read."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

from asgi_errorkit.async_library import cancel_scope
from asgi_errorkit.ops.hosts import header_values
from asgi_errorkit.ops.replies import OpsError
from asgi_errorkit.options import HISTORY_MINUTES, check_whole, window_seconds
from asgi_errorkit.types import Receive, Scope

__all__ = [
    "LIMIT",
    "MOST_ROUTES",
    "WINDOW",
    "WORKER",
    "ClientLeftError",
    "Parameter",
    "asked",
    "read_body",
]

_MOST_QUERY_BYTES = 1024
_MOST_BODY_BYTES = 4096
_BODY_SECONDS = 5.0
_NUMBER = re.compile(r"[0-9]{1,4}(?:\.[0-9]{1,6})?", re.ASCII)
_WHOLE = re.compile(r"[0-9]{1,10}", re.ASCII)


class Parameter(NamedTuple):
    """One of a query: ``parse`` raises TypeError or ValueError for what it cannot be."""

    name: str
    about: str
    schema: Mapping[str, Any]
    parse: Callable[[str], Any]
    default: Any


class ClientLeftError(Exception):
    """Nobody is there to be answered."""


def _window(text: str) -> float:
    minutes = float(text) if _NUMBER.fullmatch(text) else text
    window_seconds(minutes)  # type: ignore[arg-type]  # it raises for what is no number
    return float(minutes)


def _limit(text: str) -> int:
    return _whole("limit", text, most=500, example=100)


def _worker(text: str) -> int:
    return _whole("worker", text, most=2**32, example=4711)


def _most_routes(text: str) -> int:
    return _whole("most_routes", text, least=0, most=10**6, example=20)


def _whole(name: str, text: str, *, least: int = 1, most: int, example: int) -> int:
    number = int(text) if _WHOLE.fullmatch(text) else text
    check_whole(name, number, least=least, most=most, example=example)
    return int(number)


WINDOW = Parameter(
    "window_minutes",
    "Of the last so many minutes.",
    MappingProxyType(
        {"type": "number", "exclusiveMinimum": 0, "maximum": HISTORY_MINUTES, "default": 5}
    ),
    _window,
    5.0,
)
MOST_ROUTES = Parameter(
    "most_routes",
    "The so many busiest routes alone; all without.",
    MappingProxyType({"type": "integer", "minimum": 0}),
    _most_routes,
    None,
)
WORKER = Parameter(
    "worker",
    "The pid of one worker; all without.",
    MappingProxyType({"type": "integer", "minimum": 1}),
    _worker,
    None,
)
LIMIT = Parameter(
    "limit",
    "At most so many.",
    MappingProxyType({"type": "integer", "minimum": 1, "maximum": 500, "default": 100}),
    _limit,
    100,
)


def asked(scope: Scope, parameters: Sequence[Parameter]) -> dict[str, Any]:
    """The value of each parameter. Raises OpsError (400) for what is unknown, twice or wrong."""
    query: bytes = scope.get("query_string") or b""
    if len(query) > _MOST_QUERY_BYTES:
        raise OpsError(414, f"The query may have {_MOST_QUERY_BYTES} bytes.")
    known = {parameter.name: parameter for parameter in parameters}
    found = {parameter.name: parameter.default for parameter in parameters}
    given: set[str] = set()
    for name, text in parse_qsl(query.decode("latin-1"), keep_blank_values=True):
        if name not in known or name in given:
            allowed = f"{', '.join(known)}, each once" if known else "none"
            raise OpsError(400, f"Parameters here are {allowed}; got {name!r:.100}")
        given.add(name)
        found[name] = _parsed(known[name], text)
    return found


def _parsed(parameter: Parameter, text: str) -> Any:
    try:
        return parameter.parse(text)
    except (TypeError, ValueError) as error:
        raise OpsError(400, str(error)) from error


async def read_body(scope: Scope, receive: Receive) -> Any:
    """The JSON of a POST. Raises OpsError for what is none, ClientLeftError without one."""
    # Forms, which pages of any origin can send, have no such type.
    kinds = [value.partition(b";")[0].strip() for value in header_values(scope, b"content-type")]
    if [kind.lower() for kind in kinds] != [b"application/json"]:
        raise OpsError(415, "The body must be application/json.")
    body = await _body(receive)
    try:
        # What parsers differ in is refused, lest a proxy that judges it has understood another.
        return json.loads(body.decode(), object_pairs_hook=_each_once, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise OpsError(400, f"The body is not JSON: {error!s:.200}") from error


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name stands in it twice")
    return found


def _no_number(text: str) -> None:
    raise ValueError(f"{text} is no number of JSON")


async def _body(receive: Receive) -> bytes:
    with cancel_scope(_BODY_SECONDS) as limit:
        return await _whole_body(receive)
    assert limit.expired  # noqa: S101  else it has returned or raised
    raise OpsError(408, f"The body did not come within {_BODY_SECONDS:g} s.")


async def _whole_body(receive: Receive) -> bytes:
    body = bytearray()
    while True:
        message = await receive()
        if message.get("type") != "http.request":
            raise ClientLeftError
        body += message.get("body", b"")
        if len(body) > _MOST_BODY_BYTES:
            raise OpsError(413, f"The body may have {_MOST_BODY_BYTES} bytes.")
        if not message.get("more_body"):
            return bytes(body)
