"""Log fields that are read from a request: its headers, path, query, user, or anything."""

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias
from urllib.parse import unquote_plus

from asgi_errorkit.exchange import HEADERS, PARAMS, QUERY, Record
from asgi_errorkit.options import check_bool, check_text, is_token
from asgi_errorkit.redact import MARGIN, safe_str
from asgi_errorkit.types import Scope

__all__ = [
    "DEFAULT_FIELDS",
    "Field",
    "FromHeader",
    "FromPath",
    "FromQuery",
    "from_user",
]

LIMIT = 256
"""How many characters of a value are told."""

_READ = LIMIT + MARGIN + 1  # whole enough that a secret which the limit cuts is known for one


class FromHeader:
    """The value of a request header; by default only when a trusted proxy passed it on.

    A header such as X-User-ID is whatever the client says it is, unless a proxy of yours sets it.
    """

    def __init__(self, name: str, *, trusted_only: bool = True) -> None:
        check_text("name", name, example="x-user-id")
        check_bool("trusted_only", trusted_only)
        if not is_token(name):
            raise ValueError(f"name must be a header name such as 'x-user-id'; got {name!r}")
        self.trusted_only = trusted_only
        self.name = name
        self._bytes = name.lower().encode("ascii")

    def read(self, record: Record) -> str | None:
        value = record[HEADERS].get(self._bytes)
        return None if value is None else value[:_READ].decode("latin-1")


class FromQuery:
    """The value of a query parameter, the first of its name."""

    def __init__(self, name: str) -> None:
        check_text("name", name, example="model_name")
        if not name:
            raise ValueError(f"name must be a query parameter such as 'model_name'; got {name!r}")
        self.name = name
        self._bytes = name.encode()

    def read(self, record: Record) -> str | None:
        query = record[QUERY]
        if not query or self._bytes not in query:
            return None
        for pair in query.split(b"&", 200)[:200]:
            name, _, value = pair.partition(b"=")
            if unquote_plus(name.decode("latin-1")) == self.name:
                return unquote_plus(value[: 3 * _READ].decode("latin-1"))[:_READ]
        return None


class FromPath:
    """The value of a path parameter that the framework matched, else of the query parameter."""

    def __init__(self, name: str) -> None:
        self._query = FromQuery(name)
        self.name = name

    def read(self, record: Record) -> str | None:
        params = record[PARAMS]
        if isinstance(params, Mapping) and self.name in params:
            return safe_str(params[self.name], _READ)
        return self._query.read(record)


Field: TypeAlias = FromHeader | FromPath | FromQuery | Callable[[Scope], Any]
"""Where a log field comes from; a callable gets the scope when the response is over."""


def from_user(scope: Scope) -> str | None:
    """The user that an authentication middleware put into the scope, by its name or id."""
    user = scope.get("user")
    for attribute in ("display_name", "username", "identity", "id"):
        try:
            value = getattr(user, attribute, None)
        except Exception:  # noqa: BLE001, S112  Starlette's BaseUser raises for what it lacks
            continue
        if value not in (None, ""):
            return str(value)[:LIMIT]
    return None


DEFAULT_FIELDS: Mapping[str, Field] = {
    "user_id": FromHeader("x-user-id"),
    "video_id": FromPath("video_id"),
    "model_name": FromQuery("model_name"),
}
