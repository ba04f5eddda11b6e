"""Who keeps a record is on it from the start of its server on, and says so where it lists nothing."""

import gc
import logging
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from asgi_errorkit import ErrorHandlingMiddleware, ErrorKit, ErrorTracker, Recorder
from asgi_errorkit.spool.crash import crash_unread
from asgi_errorkit.spool.directory import SpoolDirectory
from asgi_errorkit.spool.host import Host
from asgi_errorkit.spool.leader import _LEADING
from asgi_errorkit.testing import HandClock, request, session


class Server:
    """Starts an app as a server does, has something looked at while it runs, and stops it."""

    def __init__(self, while_it_runs: Callable[[], object] = lambda: None) -> None:
        self.sent: list[Any] = []
        self.while_it_runs = while_it_runs

    async def run(self, app: Any) -> None:
        self.scope = {"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}
        self.given = [self.scope, self.receive, self.send]
        await app(*self.given)

    async def receive(self) -> Any:
        if not self.sent:
            return {"type": "lifespan.startup"}
        self.while_it_runs()
        return {"type": "lifespan.shutdown"}

    async def send(self, message: Any) -> None:
        self.sent.append(message["type"])


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        for word in ("startup", "shutdown"):
            assert (await receive())["type"] == f"lifespan.{word}"
            await send({"type": f"lifespan.{word}.complete"})
    elif scope["type"] == "websocket":
        await send({"type": "websocket.accept"})
    else:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "record"


def tracker() -> ErrorTracker:
    """Of a recorder without a thread."""
    return ErrorTracker(recorder=Recorder(flush_seconds=None, clock=HandClock()))


def segments(path: Path) -> list[str]:
    return [each.name for each in path.glob("worker-*")]


async def test_a_worker_is_on_record_from_the_start_of_its_server_to_the_end(path: Path) -> None:
    """Without a request; and when it is started again, as a test does, once more."""
    kit = ErrorKit(app, tracker=tracker(), directory=path)
    reader = Host(path)
    seen: list[Any] = []

    def look() -> None:
        seen.append([each.owner.pid for each in reader.workers()])
        assert kit.tracker.recorder.running

    for _ in range(2):
        assert segments(path) == []
        await Server(look).run(kit)
        assert segments(path) == []
    assert seen == [[os.getpid()]] * 2
    assert (await request(kit)).status == 200
    assert len(segments(path)) == 1


async def test_a_lifespan_passes_untouched(path: Path) -> None:
    got: list[Any] = []

    async def sees(*given: Any) -> Any:
        got.extend(given)
        await app(*given)
        return "answer"

    server = Server()
    await server.run(ErrorKit(sees, tracker=tracker(), directory=path))
    assert all(one is other for one, other in zip(got, server.given, strict=True))
    assert server.scope == {"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}
    assert server.sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


@pytest.mark.parametrize("broken", ["open", "start"])
async def test_what_fails_at_the_start_keeps_no_server_from_starting(
    path: Path, broken: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    kit = ErrorKit(app, tracker=tracker(), directory=path)
    recorder = kit.tracker.recorder

    def fails() -> None:
        raise ValueError("broken")

    monkeypatch.setattr(recorder.ledger if broken == "open" else recorder, broken, fails)
    server = Server()
    await server.run(kit)
    assert len(server.sent) == 2
    assert "cannot be opened yet" in caplog.text
    monkeypatch.undo()
    assert (await request(kit)).status == 200
    assert len(segments(path)) == 1


async def test_without_a_directory_a_lifespan_starts_nothing() -> None:
    kit, running = ErrorKit(app, tracker=tracker()), []
    await Server(lambda: running.append(kit.tracker.recorder.running)).run(kit)
    assert (kit.host, running) == (None, [False])


async def test_the_first_request_tells_what_its_lifespan_did_not(path: Path) -> None:
    """Which app is within is known by its scope, and the recorder runs already then."""
    seen: list[str] = []
    kit = ErrorKit(app, tracker=tracker(), directory=path)
    real = ErrorHandlingMiddleware._capture_now
    with pytest.MonkeyPatch.context() as watched:
        watched.setattr(
            ErrorHandlingMiddleware,
            "_capture_now",
            lambda self, scope: (seen.append(scope["type"]), real(self, scope)),
        )
        await Server().run(kit)
        for _ in range(2):
            await request(kit)
    assert seen == ["lifespan", "http"]


# Kits within one another


async def test_of_kits_within_one_another_the_outermost_is_on_record(path: Path) -> None:
    inner = ErrorKit(app, tracker=tracker(), directory=path.with_name("inner"))
    outer = ErrorKit(inner, tracker=tracker(), directory=path)
    seen: list[Any] = []
    await Server(
        lambda: seen.append((len(segments(path)), len(segments(path.with_name("inner")))))
    ).run(outer)
    assert seen == [(1, 0)]


async def test_a_server_that_an_app_starts_is_not_within_it(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Its tasks inherit the context of the lifespan that started it."""
    other = ErrorKit(app, tracker=tracker(), directory=path)
    seen: list[int] = []

    async def starts(scope: Any, receive: Any, send: Any) -> None:
        await Server(lambda: seen.append(len(segments(path)))).run(other)
        await app(scope, receive, send)

    await Server().run(ErrorKit(starts, tracker=tracker()))
    assert (seen, caplog.records) == ([1], [])


@pytest.mark.parametrize("how", ["lifespan", "request", "session"])
async def test_a_directory_that_stays_empty_because_a_kit_further_out_has_none_is_told_of_once(
    path: Path, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    outer = ErrorKit(ErrorKit(app, tracker=tracker(), directory=path), tracker=tracker())
    use = {
        "lifespan": lambda: Server().run(outer),
        "request": lambda: request(outer),
        "session": lambda: session(outer),
    }[how]
    with caplog.at_level(logging.WARNING, logger="asgi_errorkit.spool"):
        for _ in range(2):
            await use()  # type: ignore[no-untyped-call]
        await request(outer)
    (line,) = caplog.records
    assert f"no request is listed in {path}" in line.getMessage()
    assert line.getMessage().endswith("Give the directory to the outermost ErrorKit")
    assert segments(path) == []


@pytest.mark.parametrize("outer", ["the same kit", "its own"])
async def test_where_the_outermost_lists_nobody_is_warned(
    path: Path, outer: str, caplog: pytest.LogCaptureFixture
) -> None:
    shared = tracker()
    inner = ErrorKit(app, tracker=shared, directory=path)
    own = tracker() if outer == "its own" else shared
    kit = ErrorKit(inner, tracker=own, directory=path)
    await Server().run(kit)
    await request(kit)
    assert caplog.records == []
    assert len(segments(path)) == 1


# Kits of one tracker


def test_kits_of_one_tracker_have_one_directory(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = tracker()
    first = ErrorKit(app, tracker=shared, directory=path)
    link = path.with_name("link")
    link.symlink_to(path)
    monkeypatch.chdir(path.parent)
    monkeypatch.setenv("ASGI_ERRORKIT_DIR", str(path.with_name("other")))
    for same in (path, str(path), "record", link, path / ".." / "record", None):
        assert ErrorKit(app, tracker=shared, directory=same).host is first.host
    assert first.host is not None
    with pytest.raises(ValueError, match="another kit of the same tracker") as refused:
        ErrorKit(app, tracker=shared, directory=path.with_name("other"))
    assert str(path) in str(refused.value)
    assert not path.with_name("other").exists()


def test_a_death_is_logged_by_the_first_of_kits_of_one_tracker(path: Path) -> None:
    shared = tracker()
    kits = [ErrorKit(app, tracker=shared, directory=path) for _ in range(2)]
    assert kits[0].host is kits[1].host is not None
    assert len(kits[0].host._listeners) == 1


def test_what_listens_for_deaths_and_fails_is_counted(path: Path) -> None:
    kit = ErrorKit(app, tracker=tracker(), directory=path)
    assert kit.host is not None
    kit.host.on_death(lambda _: 1 // 0)
    kit.host._untold.append(crash_unread(7, found_at=1.0))
    kit.flush()
    assert kit.status()["recorder"]["observer_errors"] == 1


def test_a_kit_that_is_dropped_leads_no_more(path: Path) -> None:
    kit = ErrorKit(app, tracker=tracker(), directory=path)
    kit.flush()
    identity = SpoolDirectory.open(path).lock_identity("leader.lock")
    assert identity in _LEADING
    del kit
    gc.collect()
    assert identity not in _LEADING


# Of one worker and the next

IDLE = """
import asyncio, sys
from asgi_errorkit import ErrorKit

async def app(scope, receive, send):
    await receive()
    print("started", flush=True)
    await asyncio.to_thread(sys.stdin.read)

async def receive():
    return {"type": "lifespan.startup"}

kit = ErrorKit(app, directory=sys.argv[1])
asyncio.run(kit({"type": "lifespan", "asgi": {"version": "3.0"}}, receive, None))
"""


def idle(path: Path) -> "subprocess.Popen[bytes]":
    process = subprocess.Popen(
        [sys.executable, "-c", IDLE, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"started\n"
    return process


def who_leads(path: Path) -> int | None:
    """The pid of the process that holds the lock (F_GETLK; fcntl(2))."""
    import fcntl  # Windows has none
    import struct

    with (path / "leader.lock").open("rb+") as file:
        asked = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        kind, _, _, _, pid = struct.unpack("hhqqi4x", fcntl.fcntl(file, fcntl.F_GETLK, asked))
    return None if kind == fcntl.F_UNLCK else pid


def until(found: Callable[[], Any], seconds: float) -> Any:
    deadline = time.monotonic() + seconds
    while not (known := found()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return known


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the lock tells its holder so")
def test_an_idle_worker_that_is_killed_is_told_of_and_followed_within_two_seconds(
    path: Path,
) -> None:
    """By another that has had no request either."""
    first = idle(path)
    until(lambda: (path / "leader.lock").exists() and who_leads(path) == first.pid, 10.0)
    second = idle(path)
    assert {worker.owner.pid for worker in Host(path).workers()} == {first.pid, second.pid}
    first.kill()
    began = time.monotonic()
    first.wait()
    until(lambda: who_leads(path) == second.pid and Host(path).crashes(), 2.0)
    assert time.monotonic() - began < 2.0
    told, _ = second.communicate(timeout=10.0)
    (line,) = map(orjson.loads, told.splitlines())
    assert (line["event"], line["pid"], line["suspects"]) == ("worker_died", first.pid, [])
    assert segments(path) == []
    first.communicate()


async def test_a_directory_that_goes_away_is_said_once_and_breaks_nothing(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock = HandClock()
    recorder = Recorder(flush_seconds=None, clock=clock)
    kit = ErrorKit(app, tracker=ErrorTracker(recorder=recorder), directory=path)
    assert (await request(kit)).status == 200
    shutil.rmtree(path)
    for _ in range(3):
        clock.move(2.0)
        assert (await request(kit)).status == 200
        recorder.tick()
    said = [each.message for each in caplog.records if "nobody looks after" in each.message]
    assert len(said) == 1
    assert "is gone" in said[0]
    assert recorder.sink_errors == 0
