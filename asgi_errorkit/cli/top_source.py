"""Where `top` reads: the record of a host in a directory, or an ops app at a URL."""

import os
import time
from contextlib import closing
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol
from urllib.parse import urlsplit

import orjson

from asgi_errorkit.cli import reading
from asgi_errorkit.cli.top_picture import Picture, as_picture, as_told_group
from asgi_errorkit.ops.access import checked_token
from asgi_errorkit.ops.of_host import group_of
from asgi_errorkit.spool import answers
from asgi_errorkit.spool.directory import SpoolError, served_directory
from asgi_errorkit.spool.host import Host

__all__ = ["LATELY_MINUTES", "OfDirectory", "OfUrl", "Source", "SourceError", "opened", "token_of"]

LATELY_MINUTES = 0.25  # what is counted as now: three spans of the record
_WINDOW_MINUTES = 5.0
_TIMEOUT_SECONDS = 5.0
_MOST_BYTES = 16 * 1024 * 1024
_MOST_TOKEN_BYTES = 4096
_TOKEN_VARIABLE = "ASGI_ERRORKIT_TOKEN"  # noqa: S105  the name of a variable
_REFUSALS: Final = {
    401: "it refuses the token: give the right one with --token-file, or in $ASGI_ERRORKIT_TOKEN",
    403: "it does not know itself by that name: ask it by its address, or give Ops(hosts=[...])",
    404: "there is no ops app: add its path, such as /_errorkit (it has to have a token)",
}


class SourceError(Exception):
    """Nothing can be read now; the message says why, and what to do about it."""


class Source(Protocol):
    """What can be read again and again; each time may raise SourceError."""

    name: str

    def read(self) -> Picture:
        """Everything at one look."""
        ...

    def group(self, fingerprint: str) -> dict[str, Any] | None:
        """One group of errors with its sample; None if there is none."""
        ...


def opened(directory: str) -> Host:
    """The host of a directory that is there, or of a MODULE:APP. Raises SpoolError."""
    if ":" in directory and not os.path.lexists(directory):
        directory = str(served_directory(directory))
    try:
        Path(directory).expanduser().lstat()
    except FileNotFoundError:  # a Host would make it
        raise SpoolError(f"{directory} does not exist: is it the directory of the app?") from None
    except (OSError, RuntimeError, ValueError):
        pass  # a Host says what is wrong with it
    return Host(directory)


def token_of(file: str | None) -> str | None:
    """That of the file, or else of the environment. Raises ValueError or OSError."""
    if file is None:
        return checked_token(os.environ.get(_TOKEN_VARIABLE) or None)
    with Path(file).open("rb") as opened_file:
        told = opened_file.read(_MOST_TOKEN_BYTES)
    return checked_token(told.decode("ascii", "replace").strip())


class OfDirectory:
    """Reads the record of a host, whether its app runs or not. Used by one thread at a time."""

    def __init__(self, directory: str) -> None:
        self.name = directory

    def read(self) -> Picture:
        """As the commands that print do."""
        try:
            host = opened(self.name)
            with closing(host.directory):  # opened anew: it may have been replaced
                return as_picture(_read_of(host))
        except OSError as error:
            raise SourceError(str(error)) from error

    def group(self, fingerprint: str) -> dict[str, Any] | None:
        """As it is on record."""
        try:
            host = opened(self.name)
            with closing(host.directory):
                told = group_of(host, fingerprint)
        except OSError as error:
            raise SourceError(str(error)) from error
        return None if told is None else as_told_group(told)


def _read_of(host: Host) -> dict[str, Any]:
    tally, now = host.tally(), time.perf_counter()
    lately = answers.performance(tally, LATELY_MINUTES, now)
    return {
        "errors": answers.errors(tally, _WINDOW_MINUTES, now),
        "performance": answers.performance(tally, _WINDOW_MINUTES, now),
        "errors_lately": answers.errors(tally, LATELY_MINUTES, now),
        "lately": lately,
        "workers": lately["workers"],
        "breakers": answers.breakers(tally),
        "groups": answers.groups(tally),
        "requests": reading.inflight(host)["requests"],
        "crashes": reading.crashes(host)["crashes"],
    }


class _Answer(NamedTuple):
    """Where a part of the picture is asked for, and the name it has in the answer, if any."""

    path: str
    within: str | None = None


_LATELY = f"window_minutes={LATELY_MINUTES}"
_PARTS: Final = {
    "errors": _Answer("/errors/stats"),
    "performance": _Answer("/performance/stats"),
    "errors_lately": _Answer(f"/errors/stats?{_LATELY}"),
    "lately": _Answer(f"/performance/stats?{_LATELY}"),
    "workers": _Answer("/workers", "workers"),
    "breakers": _Answer("/breakers", "breakers"),
    "groups": _Answer("/errors", "groups"),
    "requests": _Answer("/inflight", "requests"),
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
            told = {name: self._told(connection, part) for name, part in _PARTS.items()}
        return as_picture(told)

    def group(self, fingerprint: str) -> dict[str, Any] | None:
        """As the ops app tells."""
        if not (fingerprint.isascii() and fingerprint.isalnum()):
            return None  # its path would be another
        with closing(self._connected()) as connection:
            status, told = self._asked(connection, f"/errors/{fingerprint}")
        return as_told_group(told) if status == 200 and isinstance(told, dict) else None

    def _connected(self) -> HTTPConnection:
        kind = HTTPSConnection if self._secure else HTTPConnection
        return kind(self._host, self._port, timeout=_TIMEOUT_SECONDS)

    def _told(self, connection: HTTPConnection, part: _Answer) -> object:
        status, told = self._asked(connection, part.path)
        if status != 200:
            raise SourceError(_REFUSALS.get(status, f"it answers with status {status}"))
        if part.within is None:
            return told
        return told.get(part.within) if isinstance(told, dict) else None

    def _asked(self, connection: HTTPConnection, path: str) -> tuple[int, object]:
        try:
            connection.request("GET", f"{self._path}{path}", headers=self._headers)
            response = connection.getresponse()
            body = response.read(_MOST_BYTES + 1)
        except TimeoutError:
            raise SourceError(f"no answer within {_TIMEOUT_SECONDS:g} s") from None
        except (OSError, HTTPException, UnicodeError) as error:
            raise SourceError(str(error) or type(error).__name__) from error
        if len(body) > _MOST_BYTES:
            raise SourceError("it answers with more than any ops app does")
        if response.status != 200:
            return response.status, None
        try:
            return 200, orjson.loads(body)
        except ValueError:
            raise SourceError("what answers is no ops app: it tells no JSON") from None
