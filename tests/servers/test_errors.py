"""What goes wrong in the app is answered, told and counted; the server and its connections live on."""

import h11
import orjson
import pytest

from .running import all_but
from .wire import Http, Plain, ask, raw_answer, request_ids, without_date, without_ours

LETS_WAIT = {"daphne": "its client waits for ever for the rest of such a response: see below"}
RAISES_NOTHING_OF_ITS_OWN = {
    "granian": "it raises from no Python code, so its error cannot be told from the app's",
    "gunicorn-asgi": "it raises only when the app has returned",
}


def counted(connection):
    """How many errors the kit has counted so far."""
    return int(connection.get("/errors").body)


@pytest.mark.parametrize("path", ["/fail", "/fail-slowly", "/fail-in-task"])
def test_an_error_before_the_start_is_a_problem_with_the_request_id(wrapped, path):
    """It is answered completely, and the connection goes on to the next request."""
    with Http(wrapped.port) as connection:
        before = counted(connection)
        answer = connection.get(path)
        assert answer.status >= 500
        assert answer.headers["content-type"] == "application/problem+json"
        problem = orjson.loads(answer.body)
        assert problem["status"] == problem["error"]["status_code"] == answer.status
        assert problem["request_id"] == answer.request_id
        assert connection.get("/plain").body == b"Hello, world"
        assert counted(connection) == before + 1
    line = wrapped.last_line(answer.request_id)
    assert (line["event"], line["level"], line["outcome"]) == (
        "request_error",
        "ERROR",
        "server_error",
    )
    assert line["status_code"] == answer.status
    assert line["response_size"] == len(answer.body)
    assert "served.py" in line["traceback"]


def test_nothing_of_the_error_is_shown_to_the_client(wrapped):
    raw = raw_answer(wrapped.port, ask("/fail"))
    assert b"broken before the start" not in raw
    assert b"RuntimeError" not in raw
    assert b"served.py" not in raw


def test_an_error_after_the_whole_upload_leaves_the_connection_usable(wrapped):
    with Http(wrapped.port) as connection:
        answer = connection.ask("POST", "/fail-after-body", body=b"x" * 200_000)
        assert answer.status == 500
        assert connection.get("/plain").status == 200
    assert wrapped.last_line(answer.request_id)["request_size"] == 200_000


def test_an_error_is_answered_to_head_without_a_body(wrapped):
    with Http(wrapped.port) as connection:
        answer = connection.ask("HEAD", "/fail")
        assert (answer.status, answer.body) == (500, b"")
        assert connection.get("/plain").status == 200


@pytest.mark.parametrize("command", all_but(LETS_WAIT))
@pytest.mark.parametrize("path", ["/fail-late", "/fail-late-sized", "/unfinished"])
def test_a_response_that_broke_off_never_looks_complete(bare, wrapped, path):
    """A client sees that it is truncated, of the bare app and of the wrapped one alike."""
    for server in (bare, wrapped):
        with Http(server.port) as connection, pytest.raises(h11.RemoteProtocolError):
            connection.get(path)
    theirs, ours = (raw_answer(server.port, ask(path)) for server in (bare, wrapped))
    assert without_ours(ours) == without_date(theirs)
    assert not ours.endswith(b"\r\n0\r\n\r\n")


@pytest.mark.parametrize("command", all_but(LETS_WAIT))
@pytest.mark.parametrize(
    ("path", "outcome"),
    [("/fail-late", "truncated"), ("/fail-late-sized", "truncated"), ("/unfinished", "incomplete")],
)
def test_a_response_that_broke_off_is_told_as_what_it_was(wrapped, path, outcome):
    with Http(wrapped.port) as connection:
        before = counted(connection)
    line = wrapped.last_line(request_ids(raw_answer(wrapped.port, ask(path)))[0])
    assert (line["event"], line["outcome"], line["status_code"]) == ("request_error", outcome, 200)
    assert line["response_size"] == len(
        b"so far so good" if "late" in path else b"and then nothing"
    )
    with Http(wrapped.port) as connection:
        assert counted(connection) == before + 1
        assert connection.get("/plain").status == 200


def test_an_error_after_the_complete_response_is_a_background_failure(wrapped):
    """The client has its answer; the log and the count know better."""
    raw = raw_answer(wrapped.port, ask("/fail-after"))
    assert raw.startswith(b"HTTP/1.1 200 ") and raw.endswith(b"complete")
    line = wrapped.last_line(request_ids(raw)[0])
    assert (line["event"], line["outcome"]) == ("request_error", "background_failed")
    assert line["error_type"] == "RuntimeError"


@pytest.mark.parametrize("command", all_but(RAISES_NOTHING_OF_ITS_OWN))
def test_misuse_of_the_protocol_stays_between_the_app_and_the_server(bare, wrapped):
    """What the server refuses it answers itself, as it does for the bare app."""
    theirs, ours = (raw_answer(server.port, ask("/body-first")) for server in (bare, wrapped))
    assert b" 500 " in theirs
    assert without_date(ours) == without_date(theirs)


@pytest.mark.parametrize("command", RAISES_NOTHING_OF_ITS_OWN)
def test_misuse_of_the_protocol_that_only_the_server_knows_of_is_answered(bare, wrapped):
    """With its status, and with a request id to ask about."""
    assert b" 500 " in raw_answer(bare.port, ask("/body-first"))
    with Http(wrapped.port) as connection:
        answer = connection.get("/body-first")
    assert (answer.status, orjson.loads(answer.body)["request_id"]) == (500, answer.request_id)
    line = wrapped.last_line(answer.request_id)
    assert (line["event"], line["status_code"]) == ("request_error", 500)


@pytest.mark.parametrize("command", all_but(LETS_WAIT))
def test_servers_answer_for_a_bare_app_that_returns_without_a_word(bare):
    assert b" 500 " in raw_answer(bare.port, ask("/silent"))


def test_an_app_that_returns_without_a_word_is_answered_for(wrapped):
    """With the same status as the server's, and with a request id to ask about."""
    with Http(wrapped.port) as connection:
        before = counted(connection)
        answer = connection.get("/silent")
        assert answer.status == 500
        assert orjson.loads(answer.body)["request_id"] == answer.request_id
        assert connection.get("/plain").body == b"Hello, world"
        assert counted(connection) == before + 1
    line = wrapped.last_line(answer.request_id)
    assert (line["event"], line["outcome"]) == ("request_error", "incomplete")


@pytest.mark.parametrize("command", LETS_WAIT)
@pytest.mark.parametrize(
    ("path", "outcome", "ending"),
    [
        ("/start-twice", "truncated", b""),
        ("/fail-late", "truncated", b"\r\nso far so good\r\n"),
        ("/fail-late-sized", "truncated", b"\r\nso far so good"),
        ("/unfinished", "incomplete", b"\r\nand then nothing\r\n"),
    ],
)
def test_a_client_that_is_left_waiting_gets_the_same(servers, command, path, outcome, ending):
    """The server says no more; the log tells what it was, and other clients are served."""
    # Their own, for this server looks after no failed app any more once it has met such a one.
    pair = [servers.start(command, f"served:{which}") for which in ("bare", "wrapped")]
    raws = []
    for server in pair:
        with Plain(server.ready().port) as connection:
            connection.send(ask(path, "X-Request-ID: waits"))
            connection.past(ending)
            if server is pair[1]:
                line = server.last_line("waits")
                assert (line["event"], line["outcome"]) == ("request_error", outcome)
            assert b"Hello, world" in raw_answer(server.port, ask("/plain"))
            assert connection.is_open()
            raws.append(connection.raw)
    theirs, ours = raws
    assert without_ours(ours) == without_date(theirs)
