"""Clients that see every byte: a plain socket, HTTP/1.1 on it, and websocket frames on it."""

import re
import socket
import struct

import h11

TIMEOUT_SECONDS = 20

_DATE = re.compile(rb"\r\ndate: [^\r\n]*", re.IGNORECASE)
_REQUEST_ID = re.compile(rb"\r\nx-request-id: ([^\r\n]*)", re.IGNORECASE)


def ask(target, *headers, method="GET", body=b"", version="1.1", close=True):
    """The bytes of one request; by default the last one on its connection."""
    lines = [f"{method} {target} HTTP/{version}", "Host: test"]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    if close:
        lines.append("Connection: close")
    return "\r\n".join([*lines, *headers, "", ""]).encode("latin-1") + body


def chunked(*pieces):
    """A request body in chunks, each as long as it is here."""
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in [*pieces, b""])


def request_ids(raw):
    """The ids in the X-Request-ID headers of raw responses."""
    return [value.decode("latin-1") for value in _REQUEST_ID.findall(raw)]


def without_date(raw):
    return _DATE.sub(b"", raw)


def without_ours(raw):
    """Raw responses less what may differ between the bare and the wrapped app."""
    return _REQUEST_ID.sub(b"", without_date(raw))


class Plain:
    """A plain connection to a server on this machine; a context manager."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_SECONDS)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.raw = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, raw):
        self.socket.sendall(raw)

    def some(self):
        """The next bytes, none at the end of the connection; all are kept in ``raw``."""
        got = self.socket.recv(1 << 16)
        self.raw += got
        return got

    def past(self, mark):
        """Read until the mark has come; everything so far."""
        while mark not in self.raw:
            assert self.some(), f"the connection ended before {mark!r}: {self.raw!r}"
        return self.raw

    def rest(self):
        """Read until the server closes; everything the server has sent."""
        while self.some():
            pass
        return self.raw

    def is_open(self):
        """Whether the server has neither closed the connection nor sent what was not read."""
        self.socket.setblocking(False)
        try:
            self.socket.recv(1, socket.MSG_PEEK)
            return False
        except BlockingIOError:
            return True
        finally:
            self.socket.settimeout(TIMEOUT_SECONDS)

    def leave(self):
        """Send no more; what the server still sends can be read."""
        self.socket.shutdown(socket.SHUT_WR)

    def reset(self):
        """Leave rudely, as a client does that crashes."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()


def raw_answer(port, request):
    """All bytes that come back for these; the request must have the server close."""
    with Plain(port) as connection:
        connection.send(request)
        return connection.rest()


class Response:
    """A complete response as h11 reads it."""

    def __init__(self, status, headers, body):
        self.status = status
        self.headers = {name.decode(): value.decode("latin-1") for name, value in headers}
        self.body = body

    @property
    def request_id(self):
        return self.headers["x-request-id"]


class Http(Plain):
    """One HTTP/1.1 connection, kept alive; raises h11.RemoteProtocolError on a broken response."""

    def __init__(self, port):
        super().__init__(port)
        self.state = h11.Connection(h11.CLIENT)

    def get(self, target, *headers):
        return self.ask("GET", target, headers)

    def ask(self, method, target, headers=(), body=b""):
        """Send a request and read its response."""
        self.begin(
            method, target, [("content-length", str(len(body))), *headers] if body else headers
        )
        if body:
            self.send(self.state.send(h11.Data(data=body)))
        self.finish()
        return self.answer()

    def begin(self, method, target, headers=()):
        """Send a request without its body."""
        request = h11.Request(method=method, target=target, headers=[("host", "test"), *headers])
        self.send(self.state.send(request))

    def finish(self):
        """End the request's body."""
        self.send(self.state.send(h11.EndOfMessage()))

    def answer(self):
        """Read the response to its end; then the connection takes the next request."""
        body = bytearray()
        start = self._event(h11.Response)
        while isinstance(event := self._event(h11.Data, h11.EndOfMessage), h11.Data):
            body += event.data
        if self.state.our_state is h11.DONE and self.state.their_state is h11.DONE:
            self.state.start_next_cycle()
        return Response(start.status_code, start.headers, bytes(body))

    def _event(self, *kinds):
        while not isinstance(event := self.state.next_event(), kinds):
            if event is h11.NEED_DATA:
                self.state.receive_data(self.socket.recv(1 << 18))
        return event


# Websockets, RFC 6455

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
_MASK = b"\x0f\xf0\x55\xaa"


def frame(opcode, payload=b"", final=True):
    """A client's frame, masked always alike."""
    size = len(payload)
    head = bytes([opcode | (0x80 if final else 0)])
    if size < 126:
        head += bytes([0x80 | size])
    else:
        head += (
            struct.pack("!BH", 0x80 | 126, size)
            if size < 1 << 16
            else struct.pack("!BQ", 0xFF, size)
        )
    mask = (_MASK * (size // 4 + 1))[:size]
    masked = int.from_bytes(payload, "big") ^ int.from_bytes(mask, "big")
    return head + _MASK + masked.to_bytes(size, "big")


def closing(code=None, reason=""):
    """A client's close frame."""
    return frame(CLOSE, b"" if code is None else struct.pack("!H", code) + reason.encode())


def handshake(target, *headers):
    """The request that opens a session."""
    opening = (
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version: 13",
    )
    return ask(target, *opening, *headers, close=False)


class Websocket(Plain):
    """A websocket session, opened or refused; what the server sends is kept in ``raw``."""

    def __init__(self, port, target, *headers):
        super().__init__(port)
        self.send(handshake(target, *headers))
        head = self.past(b"\r\n\r\n")
        self.accepted = head.startswith(b"HTTP/1.1 101 ")
        self._read = head.index(b"\r\n\r\n") + 4

    def frame(self):
        """The next frame of the server as (opcode, payload); None when it has closed."""
        head = self._take(2)
        if head is None:
            return None
        assert head[0] & 0x80, "this server sends every message whole"
        size = head[1]
        if size >= 126:
            size = int.from_bytes(self._take(2 if size == 126 else 8), "big")
        return head[0] & 0x0F, self._take(size)

    def _take(self, count):
        while len(self.raw) - self._read < count:
            if not self.some():
                return None
        self._read += count
        return self.raw[self._read - count : self._read]
