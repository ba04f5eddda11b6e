"""Asks an ops app at a URL, for `top`."""

import time
from contextlib import closing
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from io import BufferedReader, RawIOBase
from socket import socket
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import urlsplit

import orjson

from asgi_errorkit.cli.top.picture import Picture, as_picture, as_told_group
from asgi_errorkit.cli.top.source import LATELY_MINUTES, SourceError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

__all__ = ["OfUrl"]

_SILENCE_SECONDS = 5.0
_LOOK_SECONDS = 15.0  # for all answers of one look
_MOST_ROWS = 500  # the most that it tells
_MOST_BYTES = 16 * 1024 * 1024  # of them together
_REFUSALS: Final = {
    401: "it refuses the token: give the right one with --token-file, or in $ASGI_ERRORKIT_TOKEN",
    403: "it does not know itself by that name: ask it by its address, or give Ops(hosts=[...])",
    404: "there is no ops app: add its path, such as /_errorkit (it has to have a token)",
}


class _Answer(NamedTuple):
    """Where a part of the picture is asked for, and the name it has in the answer, if any."""

    path: str
    within: str | None = None


_LATELY = f"window_minutes={LATELY_MINUTES}"
_PARTS: Final = {
    "errors": _Answer("/errors/stats"),
    "performance": _Answer(f"/performance/stats?most_routes={_MOST_ROWS}"),
    "errors_lately": _Answer(f"/errors/stats?{_LATELY}"),
    "lately": _Answer(f"/performance/stats?{_LATELY}&most_routes={_MOST_ROWS}"),
    "workers": _Answer("/workers", "workers"),
    "breakers": _Answer("/breakers", "breakers"),
    "groups": _Answer(f"/errors?limit={_MOST_ROWS}", "groups"),
    "requests": _Answer(f"/inflight?limit={_MOST_ROWS}", "requests"),
    "crashes": _Answer("/crashes", "crashes"),
    "alerts": _Answer("/alerts"),
}


class OfUrl:
    """Asks the ops app at an http or https URL. Used by one thread at a time.

    The token goes in a header to that host alone: no redirect is followed, no proxy is asked.
    Raises ValueError for a URL that cannot be.
    """

    def __init__(self, url: str, token: str | None) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{url!r:.200} is no URL of an ops app: http://HOST:PORT/_errorkit")
        if parts.username is not None or parts.query or parts.fragment:
            raise ValueError("the URL of an ops app has no user, no query and no fragment")
        self._secure, self._host, self._port = parts.scheme == "https", parts.hostname, parts.port
        self._path = parts.path.rstrip("/")
        if not (self._path.isascii() and self._path.isprintable()) or " " in self._path:
            raise ValueError("the path of the URL has what no path has")
        self._headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        self.name = url

    def read(self) -> Picture:
        """One connection, and one request for each part."""
        with closing(self._connected()) as connection:
            told, left = {}, _MOST_BYTES
            for name, part in _PARTS.items():
                told[name], taken = self._told(connection, part, left)
                left -= taken
        return as_picture(told)

    def group(self, fingerprint: str) -> dict[str, Any] | None:
        """As the ops app tells."""
        if not (fingerprint.isascii() and fingerprint.isalnum()):
            return None  # its path would be another
        with closing(self._connected()) as connection:
            status, body = self._asked(connection, f"/errors/{fingerprint}", _MOST_BYTES)
        told = _loaded(body) if status == 200 else None
        return as_told_group(told) if isinstance(told, dict) else None

    def _connected(self) -> HTTPConnection:
        kind = HTTPSConnection if self._secure else HTTPConnection
        connection = kind(self._host, self._port, timeout=_SILENCE_SECONDS)
        connection.response_class = _response_until(time.monotonic() + _LOOK_SECONDS)
        return connection

    def _told(self, connection: HTTPConnection, part: _Answer, most: int) -> tuple[object, int]:
        """What is told, and how many bytes that took."""
        status, body = self._asked(connection, part.path, most)
        if status != 200:
            raise SourceError(_REFUSALS.get(status, f"it answers with status {status}"))
        told = _loaded(body)
        if part.within is not None:
            told = told.get(part.within) if isinstance(told, dict) else None
        return told, len(body)

    def _asked(self, connection: HTTPConnection, path: str, most: int) -> tuple[int, bytes]:
        try:
            connection.request("GET", f"{self._path}{path}", headers=self._headers)
            response = connection.getresponse()
            body = response.read(most + 1)
        except _TooSlowError:
            raise SourceError(f"its answers take more than {_LOOK_SECONDS:g} s") from None
        except TimeoutError:
            raise SourceError(f"no answer within {_SILENCE_SECONDS:g} s") from None
        except (OSError, HTTPException, UnicodeError) as error:
            raise SourceError(str(error) or type(error).__name__) from error
        if len(body) > most:
            raise SourceError(
                f"it answers with more than {_MOST_BYTES >> 20} MB: is it an ops app?"
            )
        return response.status, body


def _loaded(body: bytes) -> object:
    try:
        return orjson.loads(body)
    except ValueError:
        raise SourceError("what answers is no ops app: it tells no JSON") from None


class _TooSlowError(TimeoutError):
    """Each piece came in time, and all of them took too long."""


class _Timely(RawIOBase):
    """What comes from a socket, up to a moment.

    The timeout of a socket is for each piece: who sends a byte now and then would be waited for
    forever.
    """

    def __init__(self, raw: RawIOBase, ends_at: float) -> None:
        self._raw = raw
        self._ends_at = ends_at

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int | None:
        """As the socket does."""
        if time.monotonic() >= self._ends_at:
            raise _TooSlowError
        return self._raw.readinto(buffer)

    def close(self) -> None:
        """Also the socket's."""
        self._raw.close()
        super().close()


def _response_until(ends_at: float) -> type[HTTPResponse]:
    class Response(HTTPResponse):
        def __init__(self, sock: socket, *args: Any, **named: Any) -> None:
            super().__init__(sock, *args, **named)
            self.fp = BufferedReader(_Timely(self.fp.detach(), ends_at))

    return Response
