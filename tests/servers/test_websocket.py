"""Websocket sessions of the wrapped app are those of the bare one, byte for byte, and are told."""

import struct

import pytest

from .running import until
from .wire import (
    BINARY,
    CLOSE,
    PING,
    TEXT,
    Http,
    Plain,
    Websocket,
    ask,
    closing,
    frame,
    request_ids,
    without_date,
    without_ours,
)

# Each session: the target, and what the client sends; after each message it reads one frame, and
# after the last it reads until the server closes.
ECHOES = {
    "text": [frame(TEXT, b"hello")],
    "empty-text": [frame(TEXT)],
    "unicode": [frame(TEXT, "héllo 🎬".encode())],
    "bytes": [frame(BINARY, bytes(range(256)))],
    "empty-bytes": [frame(BINARY)],
    "long": [frame(BINARY, b"x" * 300), frame(TEXT, b"y" * 70_000)],
    "fragmented": [frame(TEXT, b"one ", final=False) + frame(0, b"message")],
    "ping-between": [frame(TEXT, b"a"), frame(PING, b"are you there?"), frame(TEXT, b"b")],
    "many": [frame(TEXT, b"%d" % number) for number in range(40)],
}
CLIENT_CLOSES = {
    "normal": (closing(1000), 1000),
    "going-away": (closing(1001, "off to lunch"), 1001),
    "own-code": (closing(4001, "why not"), 4001),
    "no-code": (closing(), 1005),
}
SERVER_CLOSES = {
    "default": ("/close", 1000, ""),
    "code": ("/close?code=1008", 1008, ""),
    "code-and-reason": ("/close?code=4321&reason=enough%20is%20enough", 4321, "enough is enough"),
}
REFUSED = {
    "/deny": ("client_error", 403, 1008),
    "/nowhere": ("client_error", 403, 1008),
    "/deny-fully": ("client_error", 401, None),
    "/fail-early": ("server_error", None, None),
}


def talk(server, target, messages, last=b"", headers=()):
    """Hold one session; everything the server sent."""
    with Websocket(server.port, target, *headers) as session:
        for message in messages:
            session.send(message)
            session.frame()
        session.send(last)
        return session.rest()


def told(server, raw):
    """The log lines of the session with this handshake, once it is over."""
    (request_id,) = request_ids(raw)
    server.last_line(request_id)
    return server.lines(request_id)


@pytest.mark.parametrize("name", ECHOES)
def test_an_echo_is_the_same(bare, wrapped, name):
    """The same handshake and frames; opened and closed in the log with exact counts."""
    theirs, ours = (
        talk(server, "/echo", ECHOES[name], closing(1000)) for server in (bare, wrapped)
    )
    assert ours.startswith(b"HTTP/1.1 101 ")
    assert without_ours(ours) == without_date(theirs)
    opened, closed = told(wrapped, ours)
    assert (opened["event"], closed["event"]) == ("websocket_open", "websocket_close")
    assert (closed["status_code"], closed["outcome"]) == (101, "ok")
    messages = sum(message[0] & 0x0F != PING for message in ECHOES[name])
    assert closed["messages_received"] == closed["messages_sent"] == messages
    assert closed["request_size"] == closed["response_size"]


def test_the_sizes_of_a_session_are_bytes(wrapped):
    """Text counts as UTF-8."""
    raw = talk(
        wrapped, "/echo", [frame(TEXT, "é🎬".encode()), frame(BINARY, b"12345")], closing(1000)
    )
    assert told(wrapped, raw)[-1]["request_size"] == told(wrapped, raw)[-1]["response_size"] == 11


@pytest.mark.parametrize("name", CLIENT_CLOSES)
def test_a_close_by_the_client_is_the_same(bare, wrapped, name):
    """The log has the code that the server tells its app: hypercorn always says 1006."""
    last, code = CLIENT_CLOSES[name]
    theirs, ours = (talk(server, "/echo", [frame(TEXT, b"x")], last) for server in (bare, wrapped))
    assert without_ours(ours) == without_date(theirs)
    closed = told(wrapped, ours)[-1]
    assert closed["outcome"] == "ok"
    assert closed["close_code"] == (code if "uvicorn" in wrapped.name else 1006)


@pytest.mark.parametrize("name", SERVER_CLOSES)
def test_a_close_by_the_app_is_the_same(bare, wrapped, name):
    target, code, reason = SERVER_CLOSES[name]

    def hold(server):
        with Websocket(server.port, target) as session:
            assert session.frame() == (TEXT, b"good bye")
            assert session.frame() == (CLOSE, struct.pack("!H", code) + reason.encode())
            session.send(closing(code))
            return session.rest()

    theirs, ours = hold(bare), hold(wrapped)
    assert without_ours(ours) == without_date(theirs)
    closed = told(wrapped, ours)[-1]
    assert (closed["close_code"], closed["messages_sent"], closed["outcome"]) == (code, 1, "ok")


@pytest.mark.parametrize("path", REFUSED)
def test_a_session_refused_before_its_accept_is_the_same(bare, wrapped, path):
    """Denied, denied with a response, or broken: the client gets what the bare app gives it."""
    theirs, ours = (talk(server, path, []) for server in (bare, wrapped))
    assert not ours.startswith(b"HTTP/1.1 101 ")
    assert without_ours(ours) == without_date(theirs)


@pytest.mark.parametrize("path", REFUSED)
def test_a_refused_session_has_no_opening_in_the_log(wrapped, path):
    """One line tells that it did not come about, and why."""
    request_id = f"refused-{wrapped.port}-{path}"
    talk(wrapped, path, [], headers=[f"X-Request-ID: {request_id}"])
    line = wrapped.last_line(request_id)
    assert [line["event"] for line in wrapped.lines(request_id)] == ["websocket_close"]
    assert (line["outcome"], line["status_code"], line["close_code"]) == REFUSED[path]
    assert line.get("error_type") == ("RuntimeError" if path == "/fail-early" else None)


@pytest.mark.parametrize("path", ["/fail", "/leave"])
def test_a_session_that_the_app_breaks_off_is_the_same(bare, wrapped, path):
    """By an exception or by returning: the server ends it as it ends the bare app's."""
    theirs, ours = (talk(server, path, [frame(TEXT, b"x")]) for server in (bare, wrapped))
    assert without_ours(ours) == without_date(theirs)
    opened, closed = told(wrapped, ours)
    assert (opened["event"], closed["event"]) == ("websocket_open", "websocket_close")
    assert (closed["messages_received"], closed["messages_sent"]) == (1, 0)
    assert closed["outcome"] == ("server_error" if path == "/fail" else "ok")


def test_an_error_in_a_session_is_counted_and_told(wrapped):
    with Http(wrapped.port) as connection:
        before = int(connection.get("/errors").body)
        raw = talk(wrapped, "/fail", [frame(TEXT, b"x")])
        line = told(wrapped, raw)[-1]
        assert (line["level"], line["error"]) == ("ERROR", "broken in a session")
        assert int(connection.get("/errors").body) == before + 1


def test_a_client_that_vanishes_from_a_session_is_no_error(wrapped):
    """Without a close frame the log has the code that the server tells its app."""
    with Http(wrapped.port) as connection:
        before = connection.get("/errors").body
    with Websocket(wrapped.port, "/echo") as session:
        session.send(frame(TEXT, b"x"))
        assert session.frame() == (TEXT, b"x")
        session.reset()
    closed = told(wrapped, session.raw)[-1]
    assert closed["outcome"] == "ok"
    assert closed["close_code"] == (1005 if "uvicorn" in wrapped.name else 1006)
    with Http(wrapped.port) as connection:
        assert connection.get("/errors").body == before


def test_a_subprotocol_is_the_apps_choice(bare, wrapped):
    offer = ["Sec-WebSocket-Protocol: chat, superchat"]
    theirs, ours = (
        talk(server, "/subprotocol", [b""], closing(1000), offer) for server in (bare, wrapped)
    )
    assert b"superchat" in ours
    assert without_ours(ours) == without_date(theirs)


def test_a_session_honours_an_inbound_request_id(wrapped):
    raw = talk(wrapped, "/echo", [], closing(1000), ["X-Request-ID: a-session"])
    assert request_ids(raw) == ["a-session"]


def test_an_open_session_is_told_before_it_ends(wrapped):
    with Websocket(wrapped.port, "/echo") as session:
        (request_id,) = request_ids(session.raw)
        until(lambda: wrapped.lines(request_id), "the announcement of an open session")
        assert [line["event"] for line in wrapped.lines(request_id)] == ["websocket_open"]
        session.send(closing(1000))
        session.rest()
    assert [line["event"] for line in told(wrapped, session.raw)] == [
        "websocket_open",
        "websocket_close",
    ]


def test_a_handshake_that_the_server_refuses_is_the_same(bare, wrapped):
    """Without a key the app is never asked."""
    request = ask("/echo", "Upgrade: websocket", "Connection: Upgrade", close=False)
    raws = []
    for server in (bare, wrapped):
        with Plain(server.port) as connection:
            connection.send(request)
            raws.append(without_date(connection.past(b"\r\n\r\n")))
    assert raws[0] == raws[1]
