"""However a worker dies, under whatever server: who reads its record knows amid which request."""

import contextlib
import signal
import socket
import threading

import psutil
import pytest

from asgi_errorkit.spool.host import Host

from .running import Running, until

SERVERS = {
    "uvicorn": "uvicorn --no-use-colors --host 127.0.0.1 --port 0",
    "uvicorn-workers": "uvicorn --no-use-colors --host 127.0.0.1 --port 0 --workers 2",
    "gunicorn": "gunicorn --no-control-socket --bind 127.0.0.1:0 --workers 2 --worker-class asgi",
    "gunicorn-preload": (
        "gunicorn --no-control-socket --bind 127.0.0.1:0 --workers 2 --worker-class asgi --preload"
    ),
    "hypercorn": "hypercorn --bind 127.0.0.1:0 --workers 2",
    "granian": "granian",
}
OPTIONS = {"granian": "--workers 2"}
DEATHS = ("/killed", "/segfault", "/exit", "/grow")
TOO_MUCH = 150 * 1024 * 1024


def ask(port, path):
    """Send a request; the connection, on which nothing need ever come."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=10)
    connection.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    return connection


def kill_the_largest(server, stopped):
    """What the kernel does when there is no memory left: no word before, and none after."""
    while not stopped.wait(0.05):
        for process in server._processes():
            try:
                if process.memory_info().rss > TOO_MUCH:
                    process.send_signal(signal.SIGKILL)
                    return
            except psutil.NoSuchProcess:
                continue


@pytest.fixture
def record(tmp_path, monkeypatch):
    path = tmp_path / "record"
    monkeypatch.setenv("ASGI_ERRORKIT_DIR", str(path))
    return path


@pytest.mark.parametrize("death", DEATHS)
@pytest.mark.parametrize("name", SERVERS)
def test_the_guilty_request_is_the_first_suspect(name, death, record, tmp_path):
    server = Running(SERVERS[name], "dying:app", tmp_path, options=OPTIONS.get(name, ""))
    stopped = threading.Event()
    watching = threading.Thread(target=kill_the_largest, args=(server, stopped))
    with contextlib.ExitStack() as connections:
        connections.callback(server.kill)
        server.ready()
        waiting = [ask(server.port, f"/wait/{number}") for number in range(4)]
        for connection in waiting:
            connections.enter_context(connection)
        assert all(connection.recv(12) == b"HTTP/1.1 200" for connection in waiting)
        watching.start()
        connections.callback(watching.join)
        connections.callback(stopped.set)
        connections.enter_context(ask(server.port, death))
        host = Host(record)

        def found():
            """Some servers end their other workers when one has died."""
            host.look()
            return [crash for crash in host.crashes() if death in paths(crash)]

        (crash,) = until(found, f"the death of a worker of {name}")
        assert paths(crash)[0] == death
        assert crash["suspects"][0]["phase"] == "running"
        assert crash["pid"] not in {worker.owner.pid for worker in host.workers()}
        if death == "/grow":
            assert crash["memory_mb"] > TOO_MUCH / 2**20 / 2


def paths(crash):
    return [suspect["path"] for suspect in crash["suspects"]]
