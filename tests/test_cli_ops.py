"""`ops` serves the ops app over a record, whether its app runs or not, to whom has the token."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request

import orjson
import pytest

from asgi_errorkit.cli import main
from asgi_errorkit.cli.ops import _is_loopback
from tests.test_cli_record import everything, killed, working

TOKEN = "t0ken-of-the-tests-and-nobody-else"
DEADLINE_SECONDS = 20


@pytest.fixture(autouse=True)
def _nothing_around(monkeypatch):
    for name in ("ASGI_ERRORKIT_DIR", "ASGI_ERRORKIT_TOKEN"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def directory(tmp_path):
    made = tmp_path / "record"
    made.mkdir(0o700)
    return made


@contextlib.contextmanager
def serving(*arguments, **variables):
    """The command at a port of its own: the process, and what it has printed."""
    process = subprocess.Popen(
        [sys.executable, "-m", "asgi_errorkit", "ops", "--port", "0", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, **variables},
    )
    try:
        printed = []
        while not printed or not printed[-1].startswith("Ctrl-C"):
            printed.append(process.stdout.readline())
            assert printed[-1], printed
        yield process, printed
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def url_of(printed):
    return printed[0].removeprefix("the ops app is at ").strip()


def asked(url, token=None):
    """Status and answer."""
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    try:
        request = urllib.request.Request(url, headers=headers)
        with urllib.request.urlopen(request, timeout=DEADLINE_SECONDS) as response:
            return response.status, orjson.loads(response.read())
    except urllib.error.HTTPError as error:
        with error:
            return error.code, None


def refused(capsys, *arguments):
    assert main(["ops", *map(str, arguments)]) == 2
    out, said = capsys.readouterr()
    assert (out, said.count("\n")) == ("", 1)
    return said


def test_the_dead_are_told_of_to_whom_has_the_token(directory):
    """Without a token given one is made at loopback, and printed once; nothing is changed."""
    pid = killed(directory, "/guilty")
    before = everything(directory)
    with serving(directory) as (process, printed):
        url = url_of(printed)
        assert url.startswith("http://127.0.0.1:")
        token = printed[1].rpartition(" ")[2].strip()
        assert asked(f"{url}performance/stats")[0] == 401
        assert asked(f"{url}performance/stats", "x" * 32)[0] == 401
        status, told = asked(f"{url}performance/stats", token)
        assert (status, told["total_requests"]) == (200, 1)
        assert asked(f"{url}errors", token)[0] == 200
        assert str(pid) not in str(told["workers"])
        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=DEADLINE_SECONDS)
        assert process.returncode == 0
        assert token not in rest
    assert "".join(printed).count(token) == 1
    assert everything(directory) == before


def test_a_token_that_is_given_is_not_printed(directory, tmp_path):
    """That of a file, and that of the environment."""
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    with (
        working(directory, "/slow") as worker,
        serving(directory, "--token-file", file) as (_, printed),
    ):
        assert TOKEN not in "".join(printed)
        status, told = asked(f"{url_of(printed)}inflight", TOKEN)
        assert (status, told["requests"][0]["pid"]) == (200, worker.pid)
    with serving(ASGI_ERRORKIT_DIR=str(directory), ASGI_ERRORKIT_TOKEN=TOKEN) as (_, printed):
        assert TOKEN not in "".join(printed)
        assert asked(f"{url_of(printed)}workers", TOKEN)[0] == 200


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.com", ""])
def test_beyond_loopback_a_token_has_to_be_given(capsys, directory, host):
    """And nothing listens before."""
    assert "a token is needed" in refused(capsys, directory, "--host", host)


@pytest.mark.parametrize(
    ("host", "is_loopback"),
    [("127.0.0.1", True), ("127.8.9.1", True), ("::1", True), ("localhost", True), ("0", False)],
)
def test_loopback_is_known_by_its_addresses(host, is_loopback):
    """And by the one name that means it."""
    assert _is_loopback(host) is is_loopback


def test_what_cannot_be_served_is_said_in_one_line(capsys, directory, tmp_path, monkeypatch):
    """No directory, one that is not there, a token that is none, a port that is taken."""
    assert "set ASGI_ERRORKIT_DIR" in refused(capsys)
    assert "does not exist" in refused(capsys, tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()
    assert "No such file" in refused(capsys, directory, "--token-file", tmp_path / "nowhere")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        said = refused(capsys, directory, "--port", taken.getsockname()[1])
    assert "cannot listen at 127.0.0.1" in said
    monkeypatch.setenv("ASGI_ERRORKIT_TOKEN", "short")
    said = refused(capsys, directory)
    assert "at least 16" in said
    assert "short" not in said


@pytest.mark.parametrize("port", ["-1", "65536", "x"])
def test_a_port_is_one(capsys, directory, port):
    """As argparse refuses."""
    with pytest.raises(SystemExit) as left:
        main(["ops", str(directory), f"--port={port}"])
    assert left.value.code == 2
    capsys.readouterr()
