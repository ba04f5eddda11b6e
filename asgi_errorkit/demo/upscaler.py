"""What the demo's app depends on: an upscaler, a service of its own that can become slow."""

import asyncio
import socketserver
import threading
from types import TracebackType
from typing import Self

__all__ = ["CIRCUIT", "Upscaler", "upscaled_size"]

CIRCUIT = "external_service:upscaler"
"""The name of the circuit breaker that its callers have."""

_HOST = "127.0.0.1"
_SLOW_SECONDS = 3.0
_MOST_BYTES = 100


class Upscaler:
    """Answers a number with twice that, over TCP, in threads, while its with-statement lasts.

    While it is made slow an answer takes three seconds.
    """

    def __init__(self) -> None:
        self._is_well = threading.Event()
        self._is_well.set()
        self._server = _Server((_HOST, 0), _answering(self._is_well))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), daemon=True)

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    def slow_down(self) -> None:
        """Take long from now on."""
        self._is_well.clear()

    def recover(self) -> None:
        """Answer at once again, also who waits already."""
        self._is_well.set()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.recover()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 100

    def handle_error(self, request: object, client_address: object) -> None:
        """Who asked has not waited for the answer."""


def _answering(is_well: threading.Event) -> type[socketserver.StreamRequestHandler]:
    class Answering(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            asked = self.rfile.readline(_MOST_BYTES)
            is_well.wait(_SLOW_SECONDS)
            self.wfile.write(b"%d\n" % (2 * int(asked)))

    return Answering


async def upscaled_size(port: int | None, size: int) -> int:
    """What the upscaler at that port makes of it. Raises OSError when it cannot be reached."""
    if port is None:
        raise ConnectionError("this app was told of no upscaler")
    reader, writer = await asyncio.open_connection(_HOST, port)
    try:
        writer.write(b"%d\n" % size)
        answer = await reader.readline()
    finally:
        writer.close()
    if not answer:
        raise ConnectionError("the upscaler has left without an answer")
    return int(answer)
