"""Websocket sessions of the wrapped app are those of the bare one, byte for byte, and are told."""

import itertools
import struct

import pytest

from .running import COMMANDS, all_but, until
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
    handshake,
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

ACCEPTS_WITHOUT_HEADERS = {
    "granian": "it drops the headers of an accept, the app's as well as the id",
    "daphne": "it drops the headers of an accept, the app's as well as the id",
}
CLOSES_WITHOUT_REASON = {"daphne": "it drops the reason"}
TELLS_ITS_APP = {
    "hypercorn-asyncio": dict.fromkeys(CLIENT_CLOSES, 1006),
    "hypercorn-trio": dict.fromkeys(CLIENT_CLOSES, 1006),
}
"""Close codes that a server makes of what the client sent."""
TELLS_OF_A_VANISHED_CLIENT = dict.fromkeys(
    ("uvicorn-h11", "uvicorn-httptools", "granian", "gunicorn-uvicorn"), 1005
)
"""All others say 1006."""
SAYS_NOTHING_EMPTY = {"daphne": "it drops messages that are empty"}
REFUSES_CODES = {"daphne": "it raises for codes other than 1000 and 3000 to 4999"}
ENDS_BY_RESET = {"daphne": "it resets the connection of a session that it has closed"}
CLOSES_AT_ONCE = {"granian": "it closes the connection right after its close frame"}
AWAITS_A_CLOSE = {
    "daphne": "having broken off a session, it waits some seconds for the client's close frame",
    "gunicorn-asgi": "having broken off a session, it waits some seconds for the client's close frame",
}
KEEPS_OPEN = {"granian": "a refused handshake is a request like others: the connection goes on"}
LETS_WAIT = {
    ("daphne", "/deny-fully"): "it knows of no denial with a response, and waits for another",
    ("daphne", "/leave"): "it leaves the session open until the client closes it",
}
REFUSALS = [
    (command, path) for command in COMMANDS for path in REFUSED if (command, path) not in LETS_WAIT
]
SPOKEN = [
    (command, name)
    for command in COMMANDS
    for name in ECHOES
    if not (command in SAYS_NOTHING_EMPTY and name.startswith("empty"))
]
CLOSED = [
    (command, name)
    for command in COMMANDS
    for name in SERVER_CLOSES
    if not (command in REFUSES_CODES and name == "code")
]
BREAKS = [
    (command, path)
    for command in COMMANDS
    for path in ("/fail", "/leave")
    if (command, path) not in LETS_WAIT
]

_numbers = itertools.count(1)


def new_id():
    return f"session-{next(_numbers)}"


def talk(server, target, messages, last=b"", headers=()):
    """Hold one session; everything the server sent."""
    with Websocket(server.port, target, *headers) as session:
        for message in messages:
            session.send(message)
            session.frame()
        session.send(last)
        if not session.accepted and server.command in KEEPS_OPEN:
            session.leave()
        return rest_of(session, server)


def rest_of(session, server):
    """All that comes until the server ends the session, however it does."""
    try:
        return session.rest()
    except ConnectionResetError:
        assert server.command in ENDS_BY_RESET
        return session.raw


def talk_alike(bare, wrapped, target, messages, last=b"", headers=()):
    """The same session with both, which must be the same; the log lines of the wrapped one's."""
    request_id = new_id()
    headers = [*headers, f"X-Request-ID: {request_id}"]
    theirs, ours = (talk(server, target, messages, last, headers) for server in (bare, wrapped))
    assert ours.startswith(b"HTTP/1.1 101 ")
    assert without_ours(ours) == without_date(theirs)
    named = [] if wrapped.command in ACCEPTS_WITHOUT_HEADERS else [request_id]
    assert request_ids(ours) == named
    return told(wrapped, request_id)


def told(server, request_id):
    """The log lines of a session once it is over."""
    server.last_line(request_id)
    return server.lines(request_id)


@pytest.mark.parametrize(("command", "name"), SPOKEN)
def test_an_echo_is_the_same(bare, wrapped, name):
    """The same handshake and frames; opened and closed in the log with exact counts."""
    opened, closed = talk_alike(bare, wrapped, "/echo", ECHOES[name], closing(1000))
    assert (opened["event"], closed["event"]) == ("websocket_open", "websocket_close")
    assert (closed["status_code"], closed["outcome"]) == (101, "ok")
    messages = sum(message[0] & 0x0F != PING for message in ECHOES[name])
    assert closed["messages_received"] == closed["messages_sent"] == messages
    assert closed["request_size"] == closed["response_size"]


def test_the_sizes_of_a_session_are_bytes(wrapped):
    """Text counts as UTF-8."""
    request_id = new_id()
    messages = [frame(TEXT, "é🎬".encode()), frame(BINARY, b"12345")]
    talk(wrapped, "/echo", messages, closing(1000), [f"X-Request-ID: {request_id}"])
    closed = told(wrapped, request_id)[-1]
    assert closed["request_size"] == closed["response_size"] == 11


@pytest.mark.parametrize("name", CLIENT_CLOSES)
def test_a_close_by_the_client_is_the_same(command, bare, wrapped, name):
    """The log has the code that the server tells its app."""
    last, code = CLIENT_CLOSES[name]
    closed = talk_alike(bare, wrapped, "/echo", [frame(TEXT, b"x")], last)[-1]
    assert closed["outcome"] == "ok"
    assert closed["close_code"] == TELLS_ITS_APP.get(command, {}).get(name, code)


@pytest.mark.parametrize(("command", "name"), CLOSED)
def test_a_close_by_the_app_is_the_same(command, bare, wrapped, name):
    target, code, reason = SERVER_CLOSES[name]
    said = b"" if command in CLOSES_WITHOUT_REASON else reason.encode()
    request_id = new_id()

    def hold(server):
        with Websocket(server.port, target, f"X-Request-ID: {request_id}") as session:
            assert session.frame() == (TEXT, b"good bye")
            assert session.frame() == (CLOSE, struct.pack("!H", code) + said)
            if command not in CLOSES_AT_ONCE:
                session.send(closing(code))
            return rest_of(session, server)

    theirs, ours = hold(bare), hold(wrapped)
    assert without_ours(ours) == without_date(theirs)
    closed = told(wrapped, request_id)[-1]
    assert (closed["close_code"], closed["messages_sent"], closed["outcome"]) == (code, 1, "ok")


@pytest.mark.parametrize(("command", "path"), REFUSALS)
def test_a_session_refused_before_its_accept_is_the_same(bare, wrapped, path):
    """Denied, denied with a response, or broken: the client gets what the bare app gives it."""
    theirs, ours = (talk(server, path, []) for server in (bare, wrapped))
    assert not ours.startswith(b"HTTP/1.1 101 ")
    assert without_ours(ours) == without_date(theirs)


@pytest.mark.parametrize(("command", "path"), REFUSALS)
def test_a_refused_session_has_no_opening_in_the_log(wrapped, path):
    """One line tells that it did not come about, and why."""
    request_id = f"refused-{wrapped.port}-{path}"
    talk(wrapped, path, [], headers=[f"X-Request-ID: {request_id}"])
    line = wrapped.last_line(request_id)
    assert [line["event"] for line in wrapped.lines(request_id)] == ["websocket_close"]
    assert (line["outcome"], line["status_code"], line["close_code"]) == REFUSED[path]
    assert line.get("error_type") == ("RuntimeError" if path == "/fail-early" else None)


@pytest.mark.parametrize(("command", "path"), BREAKS)
def test_a_session_that_the_app_breaks_off_is_the_same(command, bare, wrapped, path):
    """By an exception or by returning: the server ends it as it ends the bare app's."""
    last = closing(1011) if command in AWAITS_A_CLOSE else b""
    opened, closed = talk_alike(bare, wrapped, path, [frame(TEXT, b"x")], last)
    assert (opened["event"], closed["event"]) == ("websocket_open", "websocket_close")
    assert (closed["messages_received"], closed["messages_sent"]) == (1, 0)
    assert closed["outcome"] == ("server_error" if path == "/fail" else "ok")


def test_an_error_in_a_session_is_counted_and_told(wrapped):
    with Http(wrapped.port) as connection:
        before, request_id = int(connection.get("/errors").body), new_id()
        with Websocket(wrapped.port, "/fail", f"X-Request-ID: {request_id}") as session:
            session.send(frame(TEXT, b"x"))
            line = told(wrapped, request_id)[-1]
        assert (line["level"], line["error"]) == ("ERROR", "broken in a session")
        assert int(connection.get("/errors").body) == before + 1


def test_a_client_that_vanishes_from_a_session_is_no_error(command, wrapped):
    """Without a close frame the log has the code that the server tells its app."""
    request_id = new_id()
    with Http(wrapped.port) as connection:
        before = connection.get("/errors").body
    with Websocket(wrapped.port, "/echo", f"X-Request-ID: {request_id}") as session:
        session.send(frame(TEXT, b"x"))
        assert session.frame() == (TEXT, b"x")
        session.reset()
    closed = told(wrapped, request_id)[-1]
    assert closed["outcome"] == "ok"
    assert closed["close_code"] == TELLS_OF_A_VANISHED_CLIENT.get(command, 1006)
    with Http(wrapped.port) as connection:
        assert connection.get("/errors").body == before


def test_a_subprotocol_is_the_apps_choice(command, bare, wrapped):
    offer = ["Sec-WebSocket-Protocol: chat, superchat"]
    last = b"" if command in CLOSES_AT_ONCE else closing(1000)
    theirs, ours = (talk(server, "/subprotocol", [b""], last, offer) for server in (bare, wrapped))
    assert b"superchat" in ours
    assert without_ours(ours) == without_date(theirs)


@pytest.mark.parametrize("command", all_but(ACCEPTS_WITHOUT_HEADERS))
def test_a_session_is_given_an_id_if_it_brings_none(wrapped):
    (request_id,) = request_ids(talk(wrapped, "/echo", [], closing(1000)))
    assert len(request_id) == 32
    assert told(wrapped, request_id)


def test_an_open_session_is_told_before_it_ends(wrapped):
    request_id = new_id()
    with Websocket(wrapped.port, "/echo", f"X-Request-ID: {request_id}") as session:
        until(lambda: wrapped.lines(request_id), "the announcement of an open session")
        assert [line["event"] for line in wrapped.lines(request_id)] == ["websocket_open"]
        session.send(closing(1000))
        session.rest()
    assert [line["event"] for line in told(wrapped, request_id)] == [
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
            head = connection.past(b"\r\n\r\n").partition(b"\r\n\r\n")[0]
            raws.append(without_date(head))
    assert raws[0] == raws[1]


@pytest.mark.parametrize(("command", "path"), LETS_WAIT)
def test_a_session_that_is_left_waiting_gets_the_same(bare, wrapped, path):
    """The app has ended, of which the server tells nobody; the log does."""
    request_id = new_id()
    raws = []
    for server in (bare, wrapped):
        with Plain(server.port) as connection:
            connection.send(handshake(path, f"X-Request-ID: {request_id}"))
            if path == "/leave":
                connection.past(b"\r\n\r\n")
                connection.send(frame(TEXT, b"x"))
            if server is wrapped:
                line = told(wrapped, request_id)[-1]
                assert (line["outcome"], line["status_code"]) == (
                    ("ok", 101) if path == "/leave" else ("client_error", 401)
                )
            assert connection.is_open()
            raws.append(connection.raw)
    assert raws[0] == raws[1]
