"""Where the alerts of the demo arrive: a webhook that looks at their signatures."""

import itertools
import socketserver
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from http.server import BaseHTTPRequestHandler
from types import TracebackType
from typing import Any, Self

import orjson

from asgi_errorkit.alerts import is_signed

__all__ = ["Inbox", "Notices"]

_HOST = "127.0.0.1"
_MOST_NOTICES = 2000
_MOST_BYTES = 1_000_000


class Notices:
    """Notices in the order in which they arrived; what arrived again is left out, and counted."""

    def __init__(self, arrived: list[dict[str, Any]], *, refused: int = 0) -> None:
        self.refused = refused
        self.all = list({notice["id"]: notice for notice in arrived}.values())
        self.again = len(arrived) - len(self.all)

    def alerts(self) -> list[dict[str, Any]]:
        """Each alert as it was first told, and as it was told to be over, in that order."""
        told: dict[tuple[str, str, int], dict[str, Any]] = {}
        for notice in self.all:
            for alert in notice["alerts"]:
                told.setdefault((alert["key"], alert["status"], round(alert["since"])), alert)
        return list(told.values())

    def begun(self, key: str) -> int:
        """How often an alert was told to have begun, or happened, whose type or key that is."""
        return _number_apart(at for _, at in self._items(key, "firing", "happened"))

    def ended(self, key: str) -> int:
        """How often it was told to be over."""
        return _number_apart(at for _, at in self._items(key, "resolved"))

    def naming(self, key: str, words: str) -> int:
        """How often it began with these words in its message."""
        items = self._items(key, "firing", "happened")
        return _number_apart(at for message, at in items if words in message)

    def _items(self, key: str, *statuses: str) -> Iterator[tuple[str, tuple[str, float]]]:
        for notice in self.all:
            for alert in notice["alerts"]:
                if key in (alert["type"], alert["key"]) and alert["status"] in statuses:
                    yield alert["message"], (alert["key"], alert["since"])


def _number_apart(begun: Iterable[tuple[str, float]]) -> int:
    """How many there are, by key and time: what goes on is listed again beside others, as the same."""
    known = sorted(set(begun))
    following = itertools.pairwise(known)
    return len(known) - sum(a == b and until - at < 1.0 for (a, at), (b, until) in following)


class Inbox:
    """Takes notices that are signed with its secret, in threads, while its with-statement lasts.

    What is not signed is refused with 401. The latest 2,000 are kept.
    """

    def __init__(self, secret: str) -> None:
        self._arrived: deque[dict[str, Any]] = deque(maxlen=_MOST_NOTICES)
        self._refused = 0
        self._server = _Server((_HOST, 0), self._handling(secret))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), daemon=True)

    @property
    def url(self) -> str:
        return f"http://{_HOST}:{self._server.server_address[1]}/alerts"

    def notices(self) -> Notices:
        """What has arrived so far."""
        return Notices(list(self._arrived), refused=self._refused)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _take(self, body: bytes, timestamp: str | None, signature: str | None, secret: str) -> int:
        if not is_signed(body, timestamp=timestamp, signature=signature, secret=secret):
            self._refused += 1
            return 401
        self._arrived.append(orjson.loads(body))
        return 204

    def _handling(self, secret: str) -> type[BaseHTTPRequestHandler]:
        take = self._take

        class Handling(BaseHTTPRequestHandler):
            timeout = 10.0

            def do_POST(self) -> None:
                told = self.headers.get("content-length", "")
                length = int(told) if told.isascii() and told.isdigit() else 0
                body = self.rfile.read(min(length, _MOST_BYTES))
                timestamp = self.headers.get("x-errorkit-timestamp")
                signature = self.headers.get("x-errorkit-signature")
                self.send_response(take(body, timestamp, signature, secret))
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """The terminal is the report's."""

        return Handling


class _Server(socketserver.ThreadingTCPServer):
    """Not http.server's, which asks for the name of the host, and that can take seconds."""

    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: object, client_address: object) -> None:
        """Who posted has left."""
