"""Under real servers: the path as a client wrote it, streams whose clients leave, and the stop."""

import time
from contextlib import ExitStack
from pathlib import Path

import orjson
import pytest

from .running import GRACEFUL, Running, until
from .served import TOKEN
from .wire import Plain, ask

FOLDER = Path(__file__).parent
BEARER = f"Authorization: Bearer {TOKEN}"
SERVERS = ("uvicorn-h11", "uvicorn-httptools", "hypercorn-asyncio", "hypercorn-trio")


APART = "apart"


def start(server, folder, app="mounted", options=""):
    options = f"{GRACEFUL.get(server, '')} {options}"
    if server.startswith("hypercorn"):
        return Running(server, f"{FOLDER}/served:{app}", folder, options=options)
    return Running(server, f"served:{app}", folder, options=f"--app-dir {FOLDER} {options}")


@pytest.fixture(scope="module")
def servers(tmp_path_factory):
    """All of them, started at once; one serves it apart, below a root path."""
    started = {name: start(name, tmp_path_factory.mktemp(name)) for name in SERVERS}
    apart = start("uvicorn-h11", tmp_path_factory.mktemp(APART), "alone", "--root-path /api")
    started[APART] = apart
    try:
        yield {name: running.ready() for name, running in started.items()}
    finally:
        for running in started.values():
            running.kill()


def answer(port, target, *headers):
    """The status and the body of one request, whose target goes out as it stands here."""
    with Plain(port) as connection:
        connection.send(ask(target, *headers))
        head, _, body = connection.rest().partition(b"\r\n\r\n")
    return int(head.split()[1]), body


def viewers(running):
    told = orjson.loads(answer(running.port, "/_errorkit/", BEARER)[1])
    return told["events"]["viewers"]


@pytest.mark.parametrize("server", SERVERS)
def test_only_the_plain_path_opens_it(servers, server):
    """As the server hands it on: what resembles it is answered by the app, or by the server."""
    port = servers[server].port
    assert answer(port, "/_errorkit/health/live")[0] == 200
    assert answer(port, "/_errorkit/errors/stats")[0] == 401
    assert answer(port, "/_errorkit/errors/stats", BEARER)[0] == 200
    assert answer(port, "/_errorkit/errors/stats?window_minutes=0", BEARER)[0] == 400
    for target in (
        "//_errorkit/errors/stats",
        "/_errorkit//errors/stats",
        "/x/../_errorkit/errors/stats",
        "/_errorkit/../x",
        "/%5ferrorkit/errors/stats",
        "/_errorkit%2ferrors/stats",
        "/_errorkit/errors%2Fstats",
        "/_errorkit/%2e%2e/x",
        "/_ERRORKIT/errors/stats",
    ):
        status, body = answer(port, target, BEARER)
        assert (status, b"total_errors" in body) in ((200, False), (400, False)), target
        assert status == 400 or body.startswith(b"/"), target


@pytest.mark.parametrize("server", SERVERS)
def test_a_viewer_that_leaves_is_gone(servers, server):
    """In order or rudely: its place is free soon."""
    running = servers[server]
    for leave in (Plain.reset, lambda connection: connection.socket.close()):
        connection = Plain(running.port)
        connection.send(ask("/_errorkit/events", BEARER, close=False))
        assert b"text/event-stream" in connection.past(b"event: snapshot\ndata: {")
        assert viewers(running) == 1
        leave(connection)
        until(lambda: viewers(running) == 0, f"the end of a viewer of {server}")


def test_apart_it_stands_at_the_root(servers):
    """Whatever root path the server has, which uvicorn puts before each path itself."""
    port = servers[APART].port
    assert answer(port, "/health/live")[0] == 200
    assert answer(port, "/errors/stats", BEARER)[0] == 200
    assert answer(port, "/_errorkit/errors/stats", BEARER)[0] == 404
    assert answer(port, "//errors/stats", BEARER)[0] == 404
    assert answer(port, "/elsewhere")[0] == 401


def test_a_viewer_does_not_hold_up_the_stop(servers):
    """The last test: uvicorn waits for open responses, which are ended; others cut them in time."""
    with ExitStack() as connections:
        viewers_of = {
            name: connections.enter_context(Plain(running.port))
            for name, running in servers.items()
        }
        for name, connection in viewers_of.items():
            target = "/events" if name == APART else "/_errorkit/events"
            connection.send(ask(target, BEARER, close=False))
            connection.past(b"event: snapshot")
        assert_all_stop(servers, viewers_of)


def assert_all_stop(servers, viewers_of):
    began = time.monotonic()
    for running in servers.values():
        running.terminate()
    for name, running in servers.items():
        told = viewers_of[name].rest()
        running.ended()
        if not name.startswith("hypercorn"):
            assert told.endswith(b"\r\n0\r\n\r\n"), name  # a whole response
            assert "Cancel" not in running.said(), name
            assert "Traceback" not in running.said(), name
    assert time.monotonic() - began < 10
