"""Real servers: started as processes on free loopback ports, watched, and always ended."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import orjson
import psutil

APPS = Path(__file__).parent / "apps"
DEADLINE_SECONDS = 15

UVICORN_OPTIONS = "--no-use-colors --host 127.0.0.1 --port 0 --timeout-graceful-shutdown 20"
UVICORN = f"uvicorn --no-access-log {UVICORN_OPTIONS}"
HYPERCORN = "hypercorn --bind 127.0.0.1:0 --workers 0 --graceful-timeout 2"
SERVE = f"asgi_errorkit serve {UVICORN_OPTIONS}"
GUNICORN = "gunicorn --no-control-socket --bind 127.0.0.1:0 --graceful-timeout 20 --keep-alive 20"
COMMANDS = {
    "uvicorn-h11": f"{UVICORN} --http h11 --loop asyncio --ws websockets-sansio",
    "uvicorn-httptools": f"{UVICORN} --http httptools --loop uvloop --ws wsproto",
    "hypercorn-asyncio": f"{HYPERCORN} --worker-class asyncio",
    "hypercorn-trio": f"{HYPERCORN} --worker-class trio",
    "granian": "granian --interface asgi --host 127.0.0.1 --port 0 --log-config granian.json",
    "daphne": "daphne --bind 127.0.0.1 --port 0 --access-log /dev/null",
    "gunicorn-asgi": f"{GUNICORN} --worker-class asgi",
    "gunicorn-uvicorn": f"{GUNICORN} --worker-class uvicorn_worker.UvicornWorker",
}

READY = {
    "granian": r"Started worker-1",
    "daphne": r"on TCP address 127\.0\.0\.1:(\d+)",
    "gunicorn-uvicorn": r"http://127\.0\.0\.1:(\d+)[\s\S]*Application startup complete",
}
"""What a server says when its app has started, unless it is `on http://127.0.0.1:<port>`."""

# Hypercorn's own process, without a worker, does not heed SIGTERM under trio.
GRACEFUL = {"hypercorn-asyncio": "--workers 1", "hypercorn-trio": "--workers 1"}


def all_but(whys):
    """The servers that a law holds for: all but these, for the reasons given."""
    assert set(whys) < set(COMMANDS)
    return [name for name in COMMANDS if name not in whys]


def until(happened, what):
    """Ask again and again until the answer is true; the answer, or a failure at the deadline."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not (answer := happened()):
        assert time.monotonic() < deadline, f"{what} did not happen in {DEADLINE_SECONDS} s"
        time.sleep(0.005)
    return answer


class Running:
    """One server process; what it writes to standard output is the request log.

    ``command`` is one of `COMMANDS` or a whole command line of a Python module. Standard output
    and error go to files in ``folder``, unless ``stdout`` is something else.
    """

    def __init__(self, command, app, folder, *, options="", stdout=None):
        self.command = command
        self.name = f"{command} {app}"
        self._says_when_ready = READY.get(command, r"on http://127\.0\.0\.1:(\d+)")
        self.log_path = folder / "stdout"
        self._said_path = folder / "stderr"
        self._shown = 0
        self._read_bytes, self._read_lines = 0, []
        line = f"{COMMANDS.get(command, command)} {options} {app}".split()
        with self.log_path.open("ab") as log, self._said_path.open("ab") as said:
            self.process = subprocess.Popen(
                [sys.executable, "-m", *line],
                cwd=APPS,
                env={
                    **os.environ,
                    "PYTHONPATH": str(APPS),
                    "PYTHONDONTWRITEBYTECODE": "1",
                    "ASGI_ERRORKIT_BLOCKED_AFTER_SECONDS": "",  # as users have it
                },
                stdin=subprocess.DEVNULL,
                stdout=log if stdout is None else stdout,
                stderr=said,
                start_new_session=True,  # so that its workers can be ended with it
            )

    def ready(self):
        """Wait until it listens; itself."""
        self.port = until(self._port, f"the start of {self.name}")
        until(self._listens, f"listening by {self.name}")
        return self

    def said(self):
        """Everything on standard error so far."""
        return self._said_path.read_text()

    def news(self):
        """What it has said since this was last asked."""
        if self._said_path.stat().st_size == self._shown:
            return ""
        said = self._said_path.read_bytes()
        news, self._shown = said[self._shown :], len(said)
        return news.decode()

    def log(self):
        """Everything on standard output so far."""
        return self.log_path.read_bytes()

    def lines(self, request_id=None):
        """The log so far as dicts, of one request or of all; a line that is being written waits."""
        with self.log_path.open("rb") as log:
            log.seek(self._read_bytes)
            text = log.read()
        complete = text.rfind(b"\n") + 1
        told = map(orjson.loads, text[:complete].splitlines())
        # What a busy machine blocks the loop with is no request's line.
        self._read_lines += [line for line in told if line["event"] != "loop_blocked"]
        self._read_bytes += complete
        return [line for line in self._read_lines if request_id in (None, line["request_id"])]

    def last_line(self, request_id):
        """The line that ends this request, once it has been written."""
        ends = ("request_complete", "request_error", "websocket_close")

        def written():
            return [line for line in self.lines(request_id) if line["event"] in ends]

        return until(written, f"the last log line of {request_id}")[-1]

    def memory(self):
        """Resident bytes, with those of its workers."""
        return sum(process.memory_info().rss for process in self._processes())

    @property
    def alive(self):
        return self.process.poll() is None

    def terminate(self):
        self.process.send_signal(signal.SIGTERM)

    def ended(self):
        """Wait for its end; the exit code."""
        return self.process.wait(DEADLINE_SECONDS)

    def kill(self):
        """End it and its workers at once, if they have not ended."""
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait(DEADLINE_SECONDS)

    def _port(self):
        found = re.search(self._says_when_ready, self.said())
        assert found or self.alive, f"{self.name} ended at once:\n{self.said()}"
        if found and not found.groups():  # it does not say which port it was given
            return self._listening_port()
        return int(found[1]) if found else None

    def _listening_port(self):
        for process in self._processes():
            for connection in process.net_connections("tcp4"):
                if connection.status == psutil.CONN_LISTEN:
                    return connection.laddr.port
        return None

    def _processes(self):
        main = psutil.Process(self.process.pid)
        return [main, *main.children(recursive=True)]

    def _listens(self):
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        except OSError:
            return False
        return True
