"""However a server ends, its log can be read; when it is asked to end, its log is complete."""

import fcntl
import itertools
import os
import signal
import threading

import h11
import orjson
import pytest

from .running import GRACEFUL, SERVE, all_but, until
from .wire import Http, Plain, ask

ENDS_BY_SIGNAL = dict.fromkeys(
    ("uvicorn-h11", "uvicorn-httptools", "gunicorn-uvicorn"),
    "it raises the signal again, by which the process ends before Python does",
)
CANCELS = {"daphne": "it cancels what is in flight"}
LETS_IDLE = {"gunicorn-asgi": "it waits for idle connections as for others"}

CLIENTS = 4
PATHS = ("/plain", "/echo", "/fail", "/missing")


class Traffic:
    """Clients that ask without pause until the server has gone; the ids of what was answered."""

    def __init__(self, server):
        self._server = server
        self.answered = []
        self._threads = [threading.Thread(target=self._ask) for _ in range(CLIENTS)]
        for thread in self._threads:
            thread.start()

    def ended(self):
        """The ids of every complete answer, once no client gets any more."""
        for thread in self._threads:
            thread.join()
        return self.answered

    def _ask(self):
        try:
            while True:
                with Http(self._server.port) as connection:
                    self._ask_on(connection)
        except OSError:
            return  # nobody listens any more

    def _ask_on(self, connection):
        try:
            for path in itertools.cycle(PATHS):
                body = b"x" * 100 if path == "/echo" else b""
                self.answered.append(connection.ask("POST", path, body=body).request_id)
                if connection.state.our_state is h11.MUST_CLOSE:
                    return
        except (OSError, h11.RemoteProtocolError):
            return  # this connection has ended; the next may find the server, or not


def complete_lines(raw):
    """Every line that was ended, parsed; what follows the last line feed was never a line."""
    return [orjson.loads(line) for line in raw.split(b"\n")[:-1]]


def ends(lines):
    return [
        line["request_id"]
        for line in lines
        if line["event"] in ("request_complete", "request_error")
    ]


def test_a_server_killed_in_traffic_leaves_only_whole_lines(servers, command):
    """SIGKILL while lines are written: each that was ended is valid JSON, in a file."""
    server = servers.start(command).ready()
    traffic = Traffic(server)
    until(lambda: server.log().count(b"\n") > 400, "traffic in the log")
    server.kill()
    assert server.ended() == -signal.SIGKILL
    answered = traffic.ended()
    lines = complete_lines(server.log())
    assert len(lines) > 400
    told = ends(lines)
    assert len(set(told)) == len(told)
    assert len(set(told) & set(answered)) > 100


def assert_complete_after_term(server):
    """End a server in full traffic, and compare its log with what its clients got."""
    traffic = Traffic(server)
    until(lambda: len(traffic.answered) > 100, "traffic")
    server.terminate()
    server.ended()
    answered = traffic.ended()
    lines = complete_lines(server.log())
    assert server.log().endswith(b"\n")
    told = ends(lines)
    assert len(set(told)) == len(told)
    assert set(answered) <= set(told)


@pytest.mark.parametrize("app", ["unhurried_served", "unhurried_failing_late"])
def test_a_server_told_to_end_has_told_of_every_answer(servers, command, app):
    """SIGTERM in full traffic: each request that was answered has its last line in the log."""
    options = GRACEFUL.get(command, "")
    assert_complete_after_term(servers.start(command, f"lifespans:{app}", options=options).ready())


@pytest.mark.parametrize(
    ("command", "options"),
    [
        *((command, GRACEFUL.get(command, "")) for command in all_but(ENDS_BY_SIGNAL)),
        (SERVE, ""),
        (SERVE, "--lifespan off"),
    ],
    ids=[*all_but(ENDS_BY_SIGNAL), "serve", "serve-lifespan-off"],
)
def test_without_a_lifespan_every_answer_is_told_too(servers, command, options):
    """Most servers end as Python does; under uvicorn the command line of the kit sees to it."""
    app = "lifespans:without" if command == SERVE else "lifespans:unhurried_without"
    assert_complete_after_term(servers.start(command, app, options=options).ready())


@pytest.mark.parametrize("command", all_but(CANCELS))
def test_a_request_in_flight_when_the_server_is_told_to_end_is_told(servers, command):
    """It is let finish, is answered, and is in the log although it ended after the signal."""
    server = servers.start(command, options=GRACEFUL.get(command, "")).ready()
    with Http(server.port) as idle, Http(server.port) as connection:
        idle.get("/plain")
        connection.begin("POST", "/echo", [("content-length", "4"), ("x-request-id", "late")])
        connection.send(b"do")
        until(lambda: server.lines("late"), "the announcement of a running request")
        server.terminate()
        if command not in LETS_IDLE:
            assert idle.rest() == b"", "an idle connection is closed when the server begins to end"
        connection.send(b"ne")
        assert connection.past(b"done").startswith(b"HTTP/1.1 200 ")
    server.ended()
    assert ends(server.lines("late")) == ["late"]


@pytest.mark.parametrize("command", CANCELS)
def test_a_request_in_flight_that_the_ending_server_cancels_is_told_as_cancelled(servers, command):
    server = servers.start(command).ready()
    with Plain(server.port) as connection:
        connection.send(ask("/meet?place=nowhere&n=2&name=alone", "X-Request-ID: late"))
        until(lambda: server.lines("late"), "the announcement of a running request")
        server.terminate()
        assert connection.rest() == b""
    server.ended()
    assert ends(server.lines("late")) == ["late"]
    assert server.lines("late")[-1]["outcome"] == "cancelled"


LONG = f"/{'p' * 2000}?{'q' * 2000}"
"""Its log lines are longer than what a pipe takes in one piece: 4096 bytes."""


def both_workers(server):
    """A connection to each of two workers: to the second while the first is stopped."""
    first = Http(server.port)
    pid = int(first.get("/pid").body)
    os.kill(pid, signal.SIGSTOP)
    try:
        second = Http(server.port)
        assert int(second.get("/pid").body) != pid
    finally:
        os.kill(pid, signal.SIGCONT)
    return first, second


def ask_both_workers(server, target):
    """Ask both workers at the same time, again and again; the ids of the answers."""
    ids = []

    def one(connection):
        with connection:
            ids.extend(connection.get(target).request_id for _ in range(150))

    threads = [threading.Thread(target=one, args=(each,)) for each in both_workers(server)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return ids


@pytest.mark.parametrize("target", ["/plain", LONG], ids=["short-lines", "long-lines"])
def test_two_workers_share_one_pipe(servers, target):
    """Every line is whole and none is missing, though both workers have long been waiting for the
    full pipe to be read, and though the lines may be longer than it takes in one piece."""
    read_end, write_end = os.pipe()
    if hasattr(fcntl, "F_SETPIPE_SZ"):
        fcntl.fcntl(write_end, fcntl.F_SETPIPE_SZ, 4096)
    server = servers.start("uvicorn-httptools", options="--workers 2", stdout=write_end)
    os.close(write_end)
    with os.fdopen(read_end, "rb", buffering=0) as pipe:
        ids = ask_both_workers(server.ready(), target)
        server.terminate()
        log = b"".join(iter(lambda: pipe.read(1000), b""))
    server.ended()
    assert log.endswith(b"\n")
    told = ends(complete_lines(log))
    assert len(set(told)) == len(told)
    assert set(ids) <= set(told)


@pytest.mark.parametrize("target", ["/plain", LONG], ids=["short-lines", "long-lines"])
def test_two_workers_share_one_file(servers, target):
    """Every line is whole, and none is overwritten by the other worker's."""
    server = servers.start("uvicorn-httptools", options="--workers 2").ready()
    ids = ask_both_workers(server, target)
    server.terminate()
    server.ended()
    told = ends(complete_lines(server.log()))
    assert len(set(told)) == len(told)
    assert set(ids) <= set(told)
