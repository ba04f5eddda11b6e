"""What does not fail cannot be told from the bare app, but for its request id, under all five."""

import pytest

from .applying import unless, without_websockets
from .wire import (
    TEXT,
    chunked,
    closing,
    frame,
    request_ids,
    without_date,
    without_ours,
)

ASKED = {
    "plain": {"target": "/plain"},
    "head": {"target": "/plain", "method": "HEAD"},
    "no-content": {"target": "/nothing"},
    "http-1.0": {"target": "/plain", "version": "1.0", "close": False},
    "missing": {"target": "/nowhere"},
    "wrong-method": {"target": "/plain", "method": "DELETE"},
    "post": {"target": "/echo", "method": "POST", "body": b"what is sent comes back"},
    "put": {"target": "/echo", "method": "PUT", "body": bytes(range(256)) * 1000},
    "never-read": {"target": "/plain", "method": "PUT", "body": b"never read"},
    "fallback-at-hand": {"target": "/falling/listed?key=well"},
    "limited": {"target": "/crowded/plain"},
}
FAILURES = {"bug": {"target": "/bug"}, "late": {"target": "/retrying/late"}}


@pytest.fixture(params=["lone-all", "stack-all"])
def wrapped(request, make_served):
    served = make_served(request.param)
    served.until_idle("/crowded/*")
    return served


@pytest.fixture
def bare(make_served):
    return make_served("bare")


def is_unchanged(theirs, ours):
    assert request_ids(theirs) == []
    assert len(request_ids(ours)) == ours.count(b"HTTP/1.")
    assert without_ours(ours) == without_date(theirs)


@pytest.mark.parametrize("name", ASKED)
def test_what_fares_well_is_unchanged(bare, wrapped, name):
    is_unchanged(bare.raw(**ASKED[name]), wrapped.raw(**ASKED[name]))


@pytest.mark.parametrize("path", ["/stream", "/falling/streamed"])
def test_a_stream_is_unchanged(bare, wrapped, path):
    """To its last chunk: hypercorn under trio leaves the connection open then, of bare apps too."""
    is_unchanged(bare.stream(path), wrapped.stream(path))


def test_an_upload_in_pieces_is_unchanged(bare, wrapped):
    asked = {"method": "PUT", "after": chunked(b"one", b"two" * 999)}
    chunks = "Transfer-Encoding: chunked"
    is_unchanged(bare.raw("/echo", chunks, **asked), wrapped.raw("/echo", chunks, **asked))


def let_through(params):
    """Starlette lets the exception through, which the kit answers."""
    return params["target"][0] == "starlette" and params["name"] == "bug"


@unless(let_through)
@pytest.mark.parametrize("name", FAILURES)
def test_a_failure_that_nobody_survives_is_answered_as_the_framework_does(bare, wrapped, name):
    is_unchanged(bare.raw(**FAILURES[name]), wrapped.raw(**FAILURES[name]))


@unless(without_websockets)
def test_a_session_is_unchanged(bare, wrapped):
    is_unchanged(talk(bare), talk(wrapped))


def talk(served):
    """Every byte of a session that says a few words."""
    with served.session("/ws/echo") as session:
        for words in (b"hello", b"", "héllo 🎬".encode(), b"y" * 70_000):
            session.send(frame(TEXT, words))
            assert session.frame() == (TEXT, words)
        session.send(closing(1000))
        return session.rest()
