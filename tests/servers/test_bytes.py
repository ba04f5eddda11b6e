"""Over a plain socket the wrapped app cannot be told from the bare one, but for its request ids."""

import json

import pytest

from .running import COMMANDS
from .wire import Http, Plain, ask, chunked, raw_answer, request_ids, without_date, without_ours

KEEP = {"close": False}
CHUNKED = "Transfer-Encoding: chunked"

ONE_RESPONSE = {
    "plain": ask("/plain"),
    "query": ask("/plain?a=1&b=%20%C3%A9#no"),
    "head": ask("/plain", method="HEAD"),
    "head-of-chunks": ask("/chunks", method="HEAD"),
    "head-of-missing": ask("/missing", method="HEAD"),
    "options": ask("/plain", method="OPTIONS"),
    "odd-method": ask("/plain", method="PROPFIND"),
    "no-content": ask("/no-content"),
    "not-modified": ask("/not-modified", 'If-None-Match: "abc"'),
    "redirect": ask("/redirect"),
    "chunks": ask("/chunks"),
    "empty": ask("/empty"),
    "least-messages": ask("/bare-minimum"),
    "missing": ask("/missing"),
    "duplicate-headers": ask("/duplicates"),
    "headers-from-a-generator": ask("/generator"),
    "large": ask("/large"),
    "trailers-asked-for": ask("/trailers", "TE: trailers"),
    "hints": ask("/hints"),
    "push": ask("/push"),
    "post": ask("/echo", method="POST", body=b"what is sent comes back"),
    "post-binary": ask("/echo", method="PUT", body=bytes(range(256)) * 300),
    "post-empty": ask("/echo", "Content-Length: 0", method="POST"),
    "post-in-chunks": ask("/echo", CHUNKED, method="POST") + chunked(b"one", b"two" * 999),
    "post-to-deaf-ears": ask("/plain", method="POST", body=b"never read"),
    "refused-upload": ask("/refuse", method="POST", body=b"x" * 100),
    "cookies": ask("/scope", "Cookie: a=1; b=2", "X-Twice: 1", "X-Twice: 2"),
    "http-1.0": ask("/plain", version="1.0", close=False),
    "http-1.0-chunks": ask("/chunks", version="1.0", close=False),
    "http-1.0-post": ask("/echo", version="1.0", close=False, method="POST", body=b"old"),
    "traceparent": ask("/plain", "Traceparent: 00-" + "a" * 32 + "-" + "b" * 16 + "-01"),
    "path-escapes": ask("/scope/%2e%2e/%F0%9F%8E%AC%00?%00"),
    "two-starts": ask("/start-twice"),
    "unfinished": ask("/unfinished"),
    "error-in-the-middle": ask("/fail-late"),
    "error-in-the-middle-sized": ask("/fail-late-sized"),
    "error-after-the-end": ask("/fail-after"),
}
"""Requests that get one response of the app, and then the end of the connection."""

READS_HEADERS_TWICE = "it reads the headers twice: a generator is empty then, but we give it a list"
LETS_WAIT = "its client waits for ever: see test_errors.py"
OTHERWISE = {
    ("granian", "least-messages"): "it wants a start to have headers: ours has the id, at least",
    ("daphne", "headers-from-a-generator"): READS_HEADERS_TWICE,
    ("gunicorn-asgi", "headers-from-a-generator"): READS_HEADERS_TWICE,
    ("daphne", "two-starts"): LETS_WAIT,
    ("daphne", "unfinished"): LETS_WAIT,
    ("daphne", "error-in-the-middle"): LETS_WAIT,
    ("daphne", "error-in-the-middle-sized"): LETS_WAIT,
}
"""Where the bytes of the bare app are not those of the wrapped one, or never end."""

ANSWERED_BY_THE_SERVER = {
    ("granian", "two-starts"): "the first start waits for a body; then it answers 500 itself",
    ("gunicorn-asgi", "two-starts"): "the first start waits for a body; then it just closes",
}
"""Where a response that the app has started does not reach the client, nor does its id."""

EACH = [
    (command, name)
    for command in COMMANDS
    for name in ONE_RESPONSE
    if (command, name) not in OTHERWISE
]

NO_RESPONSE_OF_THE_APP = {
    "not-http": b"what is this?\r\n\r\n",
    "bad-length": ask("/echo", "Content-Length: many", method="POST"),
    "bad-header": ask("/plain", "no colon here"),
}

PIPELINED = {
    "three": ask("/plain", **KEEP) + ask("/chunks", **KEEP) + ask("/missing"),
    "after-a-post": ask("/echo", method="POST", body=b"first", **KEEP) + ask("/plain"),
    "many": ask("/plain", **KEEP) * 30 + ask("/empty"),
    "head-between": ask("/plain", **KEEP) + ask("/plain", method="HEAD", **KEEP) + ask("/plain"),
}


@pytest.mark.parametrize(("command", "name"), EACH)
def test_wrapped_bytes_are_the_bare_bytes(command, bare, wrapped, name):
    """One response, the same bytes, with exactly one request id more."""
    theirs = raw_answer(bare.port, ONE_RESPONSE[name])
    ours = raw_answer(wrapped.port, ONE_RESPONSE[name])
    assert request_ids(theirs) == []
    assert len(request_ids(ours)) == ((command, name) not in ANSWERED_BY_THE_SERVER)
    assert without_ours(ours) == without_date(theirs)


@pytest.mark.parametrize("name", NO_RESPONSE_OF_THE_APP)
def test_what_the_server_answers_itself_is_left_alone(bare, wrapped, name):
    theirs = raw_answer(bare.port, NO_RESPONSE_OF_THE_APP[name])
    assert without_date(raw_answer(wrapped.port, NO_RESPONSE_OF_THE_APP[name])) == without_date(
        theirs
    )


@pytest.mark.parametrize("name", PIPELINED)
def test_pipelined_requests_get_the_bare_bytes_in_order(bare, wrapped, name):
    theirs = raw_answer(bare.port, PIPELINED[name])
    ours = raw_answer(wrapped.port, PIPELINED[name])
    ids = request_ids(ours)
    assert len(set(ids)) == len(ids) == PIPELINED[name].count(b"HTTP/1.1\r\n")
    assert without_ours(ours) == without_date(theirs)


@pytest.mark.parametrize(
    ("command", "path"),
    [
        *((command, "/own-id") for command in COMMANDS),
        *(
            (command, "/own-id-from-a-generator")
            for command in COMMANDS
            if (command, "headers-from-a-generator") not in OTHERWISE
        ),
    ],
)
def test_a_request_id_of_the_app_itself_is_kept(bare, wrapped, path):
    """Byte for byte: nothing is added to a response that names its id."""
    theirs, ours = (raw_answer(server.port, ask(path)) for server in (bare, wrapped))
    assert without_date(ours) == without_date(theirs)
    assert request_ids(ours) == ["the-apps-own"]


def test_a_kept_connection_carries_many_requests(bare, wrapped):
    """One after the other on one connection: the same responses, each with an id of its own."""

    def talk(server):
        with Http(server.port) as connection:
            answers = [
                connection.get("/plain"),
                connection.get("/chunks"),
                connection.get("/no-content"),
            ]
            answers.append(connection.ask("POST", "/echo", body=b"again"))
            answers += [connection.get("/missing") for _ in range(5)]
        return answers

    theirs, ours = talk(bare), talk(wrapped)
    ids = [answer.headers.pop("x-request-id") for answer in ours]
    assert len(set(ids)) == len(ids)
    for their, our in zip(theirs, ours, strict=True):
        their.headers.pop("date", None), our.headers.pop("date", None)  # daphne sends none
        assert (our.status, our.headers, our.body) == (their.status, their.headers, their.body)


def test_an_upload_that_waits_for_leave_is_told_to_go_on(bare, wrapped):
    """Expect: 100-continue: the interim response comes before the body is sent, and is the same."""

    def talk(server):
        request = ask("/echo", "Expect: 100-continue", "Content-Length: 5", method="POST")
        with Plain(server.port) as connection:
            connection.send(request)
            interim = connection.past(b"\r\n\r\n")
            connection.send(b"hello")
            return interim, connection.rest()

    (their_interim, theirs), (our_interim, ours) = talk(bare), talk(wrapped)
    assert our_interim.startswith(b"HTTP/1.1 100 ")
    assert without_date(our_interim) == without_date(their_interim)
    assert without_ours(ours) == without_date(theirs)
    assert len(request_ids(ours)) == 1


def test_the_app_sees_the_same_scope(command, bare, wrapped):
    """Everything that ASGI puts into the scope reaches the wrapped app as it is."""
    request = ask("/scope?q=%E2%82%AC&q=", "Accept: */*", "X-Request-ID: from-outside")
    theirs, ours = (
        json.loads(raw_answer(server.port, request).partition(b"\r\n\r\n")[2])
        for server in (bare, wrapped)
    )
    assert ours == theirs
    assert ours.get("state") == (None if command == "daphne" else {"ready": True})


def test_each_response_has_its_lines_once(command, wrapped):
    """Of every response of the app the log tells the start once and the end once, under its id."""
    ids = []
    for name, request in ONE_RESPONSE.items():
        if OTHERWISE.get((command, name)) != LETS_WAIT:
            ids += request_ids(raw_answer(wrapped.port, request))
    wrapped.last_line(ids[-1])
    for request_id in ids:
        wrapped.last_line(request_id)
    told = [
        (line["request_id"], line["event"]) for line in wrapped.lines() if line["request_id"] in ids
    ]
    starts = [request_id for request_id, event in told if event == "request_start"]
    ends = [
        request_id for request_id, event in told if event in ("request_complete", "request_error")
    ]
    assert sorted(starts) == sorted(ends) == sorted(ids)
