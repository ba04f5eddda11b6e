"""The benchmark over the wire runs real servers, with wrk or without, and refuses what is unsound."""

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
ONE_LINE = "ErrorKit: everything, completion"
WHOLE = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Where no wrk is to be found."""
    return subprocess.run(
        [sys.executable, "-m", "benchmarks.wire", *arguments],
        cwd=ROOT,
        env={**os.environ, "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def clients(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT)
    return import_module("benchmarks.clients")


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT)
    return import_module("benchmarks.loads")


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--rounds", "0"], "--rounds"),
        (["--seconds", "0"], "--seconds"),
        (["--server", "nginx"], "nginx"),
        (["--client", "wrk"], "apt install wrk"),
    ],
    ids=["no rounds", "no time", "unknown server", "no wrk"],
)
def test_a_wrong_option_ends_with_a_word_about_it(arguments: list[str], word: str) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert word in done.stderr


@pytest.mark.parametrize("server", ["uvicorn", "hypercorn", "granian"])
def test_every_subject_has_every_figure_under_each_server(server: str, tmp_path: Path) -> None:
    """Without wrk the client of the benchmark's own asks, and says so."""
    file = tmp_path / "wire.json"
    few = ["--rounds", "1", "--seconds", "0.1", "--connections", "4"]
    done = run("--server", server, "--subject", ONE_LINE, *few, "--json", str(file))
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "wrk is not installed" in done.stdout
    written = json.loads(file.read_text())
    assert (written["client"], written["rounds"], written["connections"]) == ("own", 1, 4)
    assert written["versions"][server] and written["machine"]["cores"]
    [(name, figures)] = written["servers"].items()
    assert name == server
    assert figures["half_load_requests_per_second"] > 0
    assert list(figures["loads"]) == ["saturation", "half load"]
    for rows in figures["loads"].values():
        assert_complete(rows)
    for promise in figures["reach"]:
        assert promise["kept"] in (True, False, None)
        assert promise["load"] in done.stdout


def assert_complete(rows: dict[str, Any]) -> None:
    assert list(rows) == ["bare app", ONE_LINE]
    for row in rows.values():
        assert row["requests"] > 0
        assert len(row["gc_collections_per_100_000"]) == 3
        for figure in ("requests_per_second", "p50_us", "p99_us", "p999_us", "cpu_us"):
            assert row[figure]["median"] > 0
            assert row[f"{figure}_to_bare"]["median"] > 0
        assert row["p50_us"]["median"] <= row["p99_us"]["median"] <= row["p999_us"]["median"]
    for figure in ("requests_per_second", "p99_us", "cpu_us"):
        assert rows["bare app"][f"{figure}_to_bare"]["max"] == 1


def test_a_server_that_does_not_start_is_told_of_in_its_own_words(
    loads: ModuleType, tmp_path: Path
) -> None:
    server = import_module("benchmarks.servers").SERVERS["uvicorn"]
    with pytest.raises(RuntimeError, match=r"did not start: [\s\S]*KeyError: 'unheard of'"):
        loads._turn(server, "unheard of", plan_of(loads, tmp_path), [])


def test_a_run_whose_log_lines_are_dropped_is_refused(loads: ModuleType, tmp_path: Path) -> None:
    """Work that was not done costs nothing, and would make the kit look fast."""
    (tmp_path / "lines.log").symlink_to("/dev/full")
    server = import_module("benchmarks.servers").SERVERS["uvicorn"]
    with pytest.raises(RuntimeError, match=f"{ONE_LINE}: [1-9][0-9]* records lost, lines dropped"):
        loads._turn(server, ONE_LINE, plan_of(loads, tmp_path), [loads._saturation])


def plan_of(loads: ModuleType, folder: Path) -> Any:
    return loads.Plan(
        subjects=[ONE_LINE],
        rounds=1,
        seconds=0.05,
        connections=2,
        saturate=loads.saturate,
        core=None,
        folder=folder,
    )


@contextmanager
def answering(answer: Callable[[socket.socket], None]) -> Iterator[int]:
    """A server of one connection at a time, which answers each request as told; its port."""

    def serve(listening: socket.socket) -> None:
        connection, _ = listening.accept()
        with connection:
            while connection.recv(65536):
                answer(connection)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve, args=(listening,))
        thread.start()
        try:
            yield listening.getsockname()[1]
        finally:
            thread.join()


@pytest.mark.parametrize(
    ("answer", "word"),
    [
        (b"HTTP/1.1 500 Internal Server Error\r\n\r\nok", "500"),
        (b"HTTP/1.1 2", "HTTP/1.1 2'"),
        (b"", "b''"),
    ],
    ids=["an error", "half an answer", "no answer"],
)
def test_a_request_that_fails_is_no_figure(clients: ModuleType, answer: bytes, word: str) -> None:
    def answer_and_leave(connection: socket.socket) -> None:
        connection.sendall(answer)
        connection.shutdown(socket.SHUT_WR)

    refused = pytest.raises(RuntimeError, match=f"a request failed: .*{word}")
    with answering(answer_and_leave) as port, refused:
        clients.saturate(port, 1.0, 1)


def test_an_answer_in_pieces_is_one(clients: ModuleType) -> None:
    answers = []

    def in_pieces(connection: socket.socket) -> None:
        answers.append(connection)
        for piece in (WHOLE[:5], WHOLE[5:20], WHOLE[20:-1], WHOLE[-1:]):
            connection.sendall(piece)

    with answering(in_pieces) as port:
        load = clients.saturate(port, 0.05, 1)
    assert load.requests == len(answers)


def test_what_waits_for_a_server_that_hangs_is_late(
    clients: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At a steady rate a latency begins when the request is due, not when a connection is free."""
    is_over = threading.Event()
    now = 0.0

    def hand_clock() -> float:
        nonlocal now
        now += 2e-6
        if now > 0.2:
            is_over.set()
        return now

    def answer_late(connection: socket.socket) -> None:
        is_over.wait()
        connection.sendall(WHOLE)

    monkeypatch.setattr(clients, "time", SimpleNamespace(perf_counter=hand_clock))
    with answering(answer_late) as port:
        load = clients.steady(port, 0.1, 1, rate=1000, seed=1)
    assert load.requests == 1
    assert 25_000 < load.p50_us < 75_000  # of waits spread over the tenth of a second
    assert load.p999_us > 100_000  # the one that was asked


@pytest.mark.parametrize("failed", [0, 3])
def test_what_wrk_tells_is_taken_over_unless_requests_failed(
    clients: ModuleType, tmp_path: Path, failed: int
) -> None:
    told = {"requests": 50, "us": 2_000_000, "failed": failed, "p50": 7, "p99": 8, "p999": 9}
    program = tmp_path / "wrk"
    program.write_text(
        f"#!{sys.executable}\nprint('Running 2s test')\nprint('''{json.dumps(told)}''')\n"
    )
    program.chmod(0o755)
    ask = clients.with_wrk(str(program), tmp_path)
    if failed:
        with pytest.raises(RuntimeError, match="3 requests failed"):
            ask(1, 2.0, 4)
    else:
        assert ask(1, 2.0, 4) == clients.Load(50, 2.0, 7, 8, 9)
