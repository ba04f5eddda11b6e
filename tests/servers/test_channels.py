"""Django Channels under the servers that it is run by."""

from uuid import uuid4

import pytest

from .wire import TEXT, Http, Websocket, frame, without_date, without_ours

SERVERS = ("daphne", "uvicorn-h11")


@pytest.fixture(params=SERVERS)
def command(request):
    """Each of these servers in turn."""
    return request.param


@pytest.fixture
def wrapped(servers, command):
    servers.shared(command, "channelled:app")  # both start side by side
    return servers.shared(command, "channelled_wrapped:app")


@pytest.fixture
def bare(servers, command):
    return servers.shared(command, "channelled:app")


@pytest.mark.parametrize("way", ["threads", "loop"])
def test_an_error_in_a_consumer_is_told_and_the_session_ends_as_before(bare, wrapped, way):
    request_id = uuid4().hex
    theirs, ours = (
        broken_session(server, f"/rooms/7/{way}", request_id) for server in (bare, wrapped)
    )
    assert without_ours(ours) == without_date(theirs)
    line = wrapped.last_line(request_id)
    assert (line["event"], line["outcome"]) == ("websocket_close", "server_error")
    assert (line["error_type"], line["error"]) == ("LookupError", "broken in a consumer")
    assert line["route"] == rf"/rooms/(?P<room>\w+)/{way}"
    assert "channelled.py" in line["traceback"]


def test_a_session_without_a_route_is_refused_as_before(bare, wrapped):
    request_id = uuid4().hex
    theirs, ours = (refused_session(server, request_id) for server in (bare, wrapped))
    assert without_ours(ours) == without_date(theirs)
    line = wrapped.last_line(request_id)
    assert (line["outcome"], line["route"]) == ("server_error", "(unmatched)")


def test_an_error_in_a_view_is_told_and_answered_as_before(bare, wrapped):
    request_id = uuid4().hex
    theirs, ours = (failing_view(server, request_id) for server in (bare, wrapped))
    assert (ours.status, ours.body) == (theirs.status, theirs.body) and ours.status == 500
    line = wrapped.last_line(request_id)
    assert (line["event"], line["outcome"]) == ("request_error", "server_error")
    assert (line["error_type"], line["error"]) == ("LookupError", "broken in a view")
    assert line["route"] == "/fail/<int:number>"


def broken_session(server, target, request_id):
    with Websocket(server.port, target, f"X-Request-ID: {request_id}") as session:
        session.send(frame(TEXT, b"x"))
        session.frame()  # a close, or nothing any more
        return session.raw


def refused_session(server, request_id):
    with Websocket(server.port, "/nowhere", f"X-Request-ID: {request_id}") as session:
        assert not session.accepted
        return session.rest()


def failing_view(server, request_id):
    with Http(server.port) as connection:
        return connection.get("/fail/7", ("x-request-id", request_id))
