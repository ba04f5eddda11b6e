"""Bodies of any length pass in bounded memory and are counted to the byte; clients may leave."""

import itertools

import pytest

from .running import all_but, until
from .wire import Http, Plain, ask

MB = 1 << 20
UPLOAD = 100 * MB
DOWNLOAD = 50 * MB
MAY_GROW = 24 * MB

READS_ALL_FIRST = {
    "daphne": "it begins with the app when it has the whole upload, then hands it over all at once"
}

_numbers = itertools.count(1)


def new_id():
    return f"test-{next(_numbers)}"


def counted(server):
    with Http(server.port) as connection:
        return int(connection.get("/errors").body)


class Growth:
    """How far a server's memory rises above where it stood."""

    def __init__(self, server):
        self._server = server
        self._before = server.memory()
        self.worst = 0

    def look(self):
        self.worst = max(self.worst, self._server.memory() - self._before)


@pytest.mark.parametrize("command", all_but(READS_ALL_FIRST))
@pytest.mark.parametrize("way", ["content-length", "chunked"])
def test_an_upload_of_100_mb_passes_in_bounded_memory(wrapped, way):
    """Every byte reaches the app and is counted; none of them is kept."""
    request_id, block = new_id(), bytes(MB)
    with Http(wrapped.port) as warm:
        warm.ask("POST", "/upload", body=bytes(4 * MB))
    with Http(wrapped.port) as connection:
        growth = Growth(wrapped)
        length = (
            {"content-length": str(UPLOAD)}
            if way == "content-length"
            else {"transfer-encoding": way}
        )
        connection.begin("POST", "/upload", [("x-request-id", request_id), *length.items()])
        for number in range(UPLOAD // MB):
            if way == "chunked":
                connection.send(b"%x\r\n" % MB)
            connection.send(block)
            if way == "chunked":
                connection.send(b"\r\n")
            if number % 4 == 3:
                growth.look()
        if way == "chunked":
            connection.send(b"0\r\n\r\n")
        reply = connection.past(b"\r\n\r\n%d" % UPLOAD)
        growth.look()
    assert reply.startswith(b"HTTP/1.1 200 ")
    assert growth.worst < MAY_GROW
    assert wrapped.last_line(request_id)["request_size"] == UPLOAD


@pytest.mark.parametrize("command", all_but({"daphne": "it takes all that is sent, at any pace"}))
def test_a_download_of_50_mb_passes_in_bounded_memory(wrapped):
    """The app's pace is the client's; the log tells the exact size."""
    request_id = new_id()
    with Plain(wrapped.port) as warm:
        warm.send(ask(f"/download?bytes={4 * MB}"))
        warm.rest()
    with Plain(wrapped.port) as connection:
        growth = Growth(wrapped)
        connection.send(ask(f"/download?bytes={DOWNLOAD}", f"X-Request-ID: {request_id}"))
        head, _, first = connection.past(b"\r\n\r\n").partition(b"\r\n\r\n")
        count, number = len(first), 0
        while got := connection.socket.recv(1 << 20):
            count += len(got)
            number += 1
            if number % 32 == 0:
                growth.look()
    assert head.startswith(b"HTTP/1.1 200 ")
    assert count == DOWNLOAD
    assert growth.worst < MAY_GROW
    line = wrapped.last_line(request_id)
    assert (line["response_size"], line["outcome"]) == (DOWNLOAD, "ok")


@pytest.mark.parametrize("command", all_but(READS_ALL_FIRST))
@pytest.mark.parametrize("path", ["/upload", "/upload-strictly"])
@pytest.mark.parametrize("leave", ["close", "reset"])
def test_a_client_that_leaves_in_its_upload_is_no_error(wrapped, path, leave):
    """Whether the app returns or raises for the disconnect it has read of."""
    before, request_id = counted(wrapped), new_id()
    with Plain(wrapped.port) as connection:
        connection.send(
            ask(path, "Content-Length: 1000", f"X-Request-ID: {request_id}", method="POST")
        )
        connection.send(b"only this")
        until(lambda: wrapped.lines(request_id), "the announcement of a running request")
        if leave == "reset":
            connection.reset()
    line = wrapped.last_line(request_id)
    assert (line["event"], line["outcome"]) == ("request_complete", "client_disconnect")
    assert line["status_code"] is None
    assert counted(wrapped) == before


@pytest.mark.parametrize("command", READS_ALL_FIRST)
def test_an_upload_that_never_came_to_the_app_is_not_told_of(wrapped):
    """Such a server alone knows of a client that has left."""
    before, request_id = counted(wrapped), new_id()
    with Plain(wrapped.port) as connection:
        connection.send(
            ask("/upload", "Content-Length: 1000", f"X-Request-ID: {request_id}", method="POST")
        )
        connection.send(b"only this")
    with Http(wrapped.port) as connection:
        wrapped.last_line(connection.get("/plain").request_id)
    assert wrapped.lines(request_id) == []
    assert counted(wrapped) == before


@pytest.mark.parametrize("leave", ["close", "reset"])
def test_a_client_that_leaves_an_endless_response_is_no_error(wrapped, leave):
    """The app learns of it by its receive, stops, and the request is a disconnect."""
    before, request_id = counted(wrapped), new_id()
    with Plain(wrapped.port) as connection:
        connection.send(ask("/forever", f"X-Request-ID: {request_id}"))
        connection.past(b"tick" * 256)
        if leave == "reset":
            connection.reset()
    line = wrapped.last_line(request_id)
    assert (line["event"], line["outcome"]) == ("request_complete", "client_disconnect")
    assert line["status_code"] == 200
    assert line["response_size"] >= 4 * 256
    assert counted(wrapped) == before


def test_a_client_that_leaves_a_download_that_never_looks_is_no_error(wrapped):
    """The app sends on into the void and ends; nothing is counted against it."""
    before, request_id = counted(wrapped), new_id()
    with Plain(wrapped.port) as connection:
        connection.send(ask(f"/download?bytes={8 * MB}", f"X-Request-ID: {request_id}"))
        connection.past(b"\r\n\r\n")
        connection.reset()
    assert wrapped.last_line(request_id)["event"] == "request_complete"
    assert counted(wrapped) == before


@pytest.mark.parametrize(
    ("command", "option"),
    [
        ("gunicorn-asgi", "--asgi-disconnect-grace-period 0"),
        ("daphne", "--application-close-timeout 0"),
    ],
    ids=["gunicorn-asgi", "daphne"],
)
def test_a_request_that_the_server_cancels_is_told_as_cancelled(servers, command, option):
    """Its client has left, the app did not look, and the server lost its patience."""
    server = servers.start(command, options=option).ready()
    before = counted(server)
    with Plain(server.port) as connection:
        connection.send(ask("/meet?place=nowhere&n=2&name=alone", "X-Request-ID: cancelled"))
        until(lambda: server.lines("cancelled"), "the announcement of a running request")
    line = server.last_line("cancelled")
    assert (line["event"], line["outcome"]) == ("request_complete", "cancelled")
    assert line["status_code"] is None
    assert counted(server) == before


@pytest.mark.parametrize("command", all_but(READS_ALL_FIRST))
def test_the_start_of_a_long_request_is_told_while_it_runs(wrapped):
    """Whoever looks at the log during an upload sees it begin, and its end later, each once."""
    request_id = new_id()
    with Plain(wrapped.port) as connection:
        connection.send(
            ask("/echo", "Content-Length: 4", f"X-Request-ID: {request_id}", method="POST")
        )
        until(lambda: wrapped.lines(request_id), "the announcement of a running request")
        assert [line["event"] for line in wrapped.lines(request_id)] == ["request_start"]
        connection.send(b"done")
        assert connection.rest().endswith(b"done")
    wrapped.last_line(request_id)
    events = [line["event"] for line in wrapped.lines(request_id)]
    assert events == ["request_start", "request_complete"]


def test_work_after_the_response_is_told_once(wrapped):
    """Its beginning while it goes on although the response is complete, and its end at its end."""
    request_id, place = new_id(), f"afterwards-{wrapped.port}"
    with Http(wrapped.port) as connection:
        connection.get(f"/meet-afterwards?place={place}", ("x-request-id", request_id))
    until(lambda: wrapped.lines(request_id), "the announcement of a running request")
    assert [line["event"] for line in wrapped.lines(request_id)] == ["request_start"]
    with Http(wrapped.port) as connection:
        connection.get(f"/meet?place={place}&n=2&name=other")
    assert wrapped.last_line(request_id)["outcome"] == "ok"
    events = [line["event"] for line in wrapped.lines(request_id)]
    assert events == ["request_start", "request_complete"]
