"""The demo app in a process of its own, under uvicorn on a free port of the loopback."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import IO, Self

from asgi_errorkit.demo.surroundings import Surroundings

__all__ = ["HOST", "Server", "ServerError"]

HOST = "127.0.0.1"
_APP = "asgi_errorkit.demo.app:app"
_GRACE_SECONDS = 10.0


class ServerError(Exception):
    """The demo's server cannot be had; the message says why, and what to do."""


class Server:
    """Runs while its with-statement lasts; then it is asked to leave, and made to if it does not.

    It keeps its record in the directory ``record``; ``port`` 0 takes a free one; ``around`` is what
    its app is told of. Its standard
    output, which is the request log, goes to the file ``log``, its errors to ``errors``; both are
    gone afterwards. Raises ServerError on entering when the port is taken.
    """

    def __init__(self, record: Path, port: int = 0, around: Surroundings | None = None) -> None:
        self.record = record
        self.around = around or Surroundings()
        self._wanted_port = port
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    def __enter__(self) -> Self:
        self.port = _free_port(self._wanted_port)
        self._folder = TemporaryDirectory(prefix="asgi-errorkit-demo-")
        self.log = Path(self._folder.name, "requests.jsonl")
        self.errors = Path(self._folder.name, "errors.txt")
        with self.log.open("wb") as log, self.errors.open("wb") as errors:
            told = {**self.around.as_environment(), "ASGI_ERRORKIT_DIR": str(self.record)}
            self.process = _start(self.port, told, log, errors)
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            self.stop()
        finally:
            self._folder.cleanup()

    def check(self) -> None:
        """Raise ServerError, with its last words, when the server has ended."""
        if self.process.poll() is not None:
            words = self.errors.read_text(errors="replace").strip()[-1000:]
            raise ServerError(f"the demo's server ended ({self.process.returncode}):\n{words}")

    def stop(self) -> None:
        """Have the server finish what it is at, write its log, and leave; harmless when it has."""
        if self.process.poll() is None:
            self.process.send_signal(_leave())
        try:
            self.process.wait(_GRACE_SECONDS)
        except BaseException as impatience:
            self.process.kill()
            self.process.wait()
            if not isinstance(impatience, subprocess.TimeoutExpired):
                raise


def _start(
    port: int, told: Mapping[str, str], log: IO[bytes], errors: IO[bytes]
) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "uvicorn", _APP, "--host", HOST, "--port", str(port)]
    # Idle connections outlive the client's patience, so that no request meets a closing one.
    command += ["--no-access-log", "--log-level", "warning", "--timeout-keep-alive", "30"]
    environment = {name: value for name, value in os.environ.items() if not _is_in_the_way(name)}
    flags = 0
    if sys.platform == "win32":
        flags = subprocess.CREATE_NEW_PROCESS_GROUP  # only a group can be sent Ctrl-Break
    return subprocess.Popen(  # noqa: S603  our own app under our own interpreter
        command,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=errors,
        creationflags=flags,
        env={**environment, **told},
    )


def _is_in_the_way(name: str) -> bool:
    """What asks uvicorn or the kit for other things, such as more workers, or for a way to the
    loopback by a proxy."""
    return (
        name == "WEB_CONCURRENCY"
        or name.startswith(("UVICORN_", "ASGI_ERRORKIT_"))
        or name.lower() in ("http_proxy", "https_proxy", "all_proxy")
    )


def _leave() -> signal.Signals:
    """What uvicorn takes as a request to shut down in order."""
    if sys.platform == "win32":
        return signal.CTRL_BREAK_EVENT
    return signal.SIGTERM


def _free_port(wanted: int) -> int:
    with socket.socket() as probe:
        if os.name == "posix":
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, wanted))
        except OSError as error:
            raise ServerError(
                f"port {wanted} cannot be had ({error.strerror}): give another --port, or none"
            ) from error
        return int(probe.getsockname()[1])
