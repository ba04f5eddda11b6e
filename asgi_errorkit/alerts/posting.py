"""Posts over HTTP, and never waits longer than it is told: also where an answer trickles in."""

import time
from collections.abc import Mapping
from http.client import HTTPConnection, HTTPResponse, HTTPSConnection
from io import BufferedReader, RawIOBase
from socket import socket
from typing import Any, BinaryIO
from urllib import request

__all__ = ["post"]


def post(url: str, body: bytes, headers: Mapping[str, str], *, timeout_seconds: float) -> None:
    """Post this; ``timeout_seconds`` bounds the connecting, the sending, and the whole answer.

    The answer's body is not read, and no redirect followed. Raises urllib.error.HTTPError for all
    but 2xx, and what urllib and http.client raise.
    """
    posted = request.Request(url, data=body, headers=dict(headers), method="POST")  # noqa: S310  the scheme has been checked
    request.build_opener(_Stay, _Http, _Https).open(posted, timeout=timeout_seconds).close()


class _Within(RawIOBase):
    """What comes from a socket until its timeout has passed, from now on and not since the last byte."""

    def __init__(self, given: socket, file: BinaryIO) -> None:
        self._socket = given
        self._file = file  # keeps the connection open
        self._until = time.monotonic() + (given.gettimeout() or 0.0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        left = self._until - time.monotonic()
        if left <= 0:
            raise TimeoutError("the answer has not come in time")
        self._socket.settimeout(left)
        return self._socket.recv_into(buffer)

    def close(self) -> None:
        self._file.close()
        super().close()


class _Answer(HTTPResponse):
    def __init__(self, sock: socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.fp = BufferedReader(_Within(sock, self.fp))


class _Connection(HTTPConnection):
    response_class = _Answer


class _SecureConnection(HTTPSConnection):
    response_class = _Answer


class _Http(request.HTTPHandler):
    def http_open(self, req: request.Request) -> HTTPResponse:
        return self.do_open(_Connection, req)


class _Https(request.HTTPSHandler):
    def https_open(self, req: request.Request) -> HTTPResponse:
        return self.do_open(_SecureConnection, req)


class _Stay(request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        """Follow none: what is signed for one is not for another."""
