"""Over HTTP/2 the laws are the same: frames, ids, errors, disconnects, bodies of any length."""

import orjson
import pytest

from .h2c import H2
from .running import until

MB = 1 << 20
UPLOAD = 32 * MB
DOWNLOAD = 50 * MB
MAY_GROW = 24 * MB

SAME = (
    ("GET", "/plain"),
    ("HEAD", "/plain"),
    ("GET", "/no-content"),
    ("GET", "/not-modified"),
    ("GET", "/empty"),
    ("GET", "/bare-minimum"),
    ("GET", "/chunks"),
    ("GET", "/missing"),
    ("GET", "/duplicates"),
    ("GET", "/generator"),
    ("GET", "/large"),
    ("GET", "/hints"),
    ("GET", "/trailers"),
    ("GET", "/fail-after"),
    ("GET", "/own-id"),
)


@pytest.fixture(params=["hypercorn-asyncio", "hypercorn-trio"])
def command(request):
    """The servers that speak HTTP/2."""
    return request.param


@pytest.mark.parametrize(("method", "path"), SAME, ids=[" ".join(pair) for pair in SAME])
def test_wrapped_frames_are_the_bare_frames(bare, wrapped, method, path):
    """Interim responses, headers in their order, data and trailers: all but the request id."""

    def talk(server):
        with H2(server.port) as connection:
            return connection.answer(connection.begin(method, path, [("te", "trailers")]))

    theirs, ours = talk(bare), talk(wrapped)
    assert ours.without_ours() == theirs.without_ours()
    assert b"x-request-id" not in theirs.headers or path == "/own-id"
    assert len(ours.request_id) == (12 if path == "/own-id" else 32)


def test_extensions_reach_the_client(wrapped):
    """An early hint comes before the response, trailers after it."""
    with H2(wrapped.port) as connection:
        assert [kind for kind, _ in connection.get("/hints").told] == ["interim", "response"]
        stream = connection.get("/trailers", ("te", "trailers"))
        assert [kind for kind, _ in stream.told] == ["response", "trailers"]
        assert stream.told[-1][1] == [(b"x-sum", b"abc")]


def test_a_push_is_a_request_of_its_own(bare, wrapped):
    """The pushed response has its own id, and its own lines in the log."""

    def talk(server):
        with H2(server.port) as connection:
            stream = connection.get("/push")
            assert [kind for kind, _ in stream.told] == ["push", "response"]
            return stream, connection.answer(2)

    (their, their_pushed), (our, our_pushed) = talk(bare), talk(wrapped)
    assert our.without_ours() == their.without_ours()
    assert our_pushed.without_ours() == their_pushed.without_ours()
    assert our.request_id != our_pushed.request_id
    assert wrapped.last_line(our_pushed.request_id)["url"].endswith("/plain")


def test_an_error_before_the_start_is_a_problem(wrapped):
    """With the request id; the connection goes on."""
    with H2(wrapped.port) as connection:
        stream = connection.get("/fail", ("x-request-id", "h2-asks"))
        assert (stream.status, stream.request_id) == (500, "h2-asks")
        assert orjson.loads(stream.body)["request_id"] == "h2-asks"
        assert connection.get("/plain").body == b"Hello, world"


@pytest.mark.parametrize("path", ["/fail-late", "/fail-late-sized", "/unfinished"])
def test_a_stream_that_broke_off_never_looks_complete(bare, wrapped, path):
    """No END_STREAM, of the bare app and of the wrapped one alike; other streams go on."""

    def talk(server):
        with H2(server.port) as connection:
            stream = connection.streams[connection.begin("GET", path)]
            until(lambda: connection.ping() or stream.body, "the first data")
            assert connection.get("/plain").status == 200
            connection.ping()
            return stream

    theirs, ours = talk(bare), talk(wrapped)
    assert ours.without_ours() == theirs.without_ours()
    assert not ours.ended
    outcome = "incomplete" if path == "/unfinished" else "truncated"
    assert wrapped.last_line(ours.request_id)["outcome"] == outcome


def test_an_abandoned_stream_is_a_disconnect_and_no_error(wrapped):
    with H2(wrapped.port) as connection:
        before = connection.get("/errors").body
        stream_id = connection.begin("GET", "/forever")
        until(lambda: connection.ping() or connection.streams[stream_id].body, "the first data")
        connection.abandon(stream_id)
        line = wrapped.last_line(connection.streams[stream_id].request_id)
        assert (line["event"], line["outcome"]) == ("request_complete", "client_disconnect")
        assert connection.get("/errors").body == before


def test_many_streams_at_once_have_the_logs_ids_exactly(wrapped):
    """All are in flight together on one connection."""
    with H2(wrapped.port) as connection:
        streams = {
            number: connection.begin("GET", f"/meet?place=h2-{wrapped.port}&n=50&name={number}")
            for number in range(50)
        }
        answers = {number: connection.answer(stream) for number, stream in streams.items()}
    ids = sorted(answer.request_id for answer in answers.values())
    for number, answer in answers.items():
        assert answer.body == str(number).encode()
        wrapped.last_line(answer.request_id)
    lines = [line for line in wrapped.lines() if f"place=h2-{wrapped.port}" in line["url"]]
    for event in ("request_start", "request_complete"):
        assert sorted(line["request_id"] for line in lines if line["event"] == event) == ids


def test_a_long_upload_passes_in_bounded_memory(wrapped):
    with H2(wrapped.port) as connection:
        connection.body(stream := connection.begin("POST", "/upload", end=False), bytes(4 * MB))
        connection.answer(stream)
        before = wrapped.memory()
        stream_id = connection.begin("POST", "/upload", end=False)
        connection.body(stream_id, bytes(UPLOAD))
        assert wrapped.memory() - before < MAY_GROW
        answer = connection.answer(stream_id)
    assert answer.body == b"%d" % UPLOAD
    assert wrapped.last_line(answer.request_id)["request_size"] == UPLOAD


def test_a_long_download_is_counted_to_the_byte(wrapped):
    with H2(wrapped.port) as connection:
        answer = connection.get(f"/download?bytes={DOWNLOAD}")
    assert len(answer.body) == DOWNLOAD
    assert wrapped.last_line(answer.request_id)["response_size"] == DOWNLOAD
