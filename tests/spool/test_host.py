"""A worker that died is found by whoever looks, told of once, and with what it was at."""

import json
import logging
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import orjson
import pytest

from asgi_errorkit import (
    ErrorKit,
    ErrorTracker,
    MiddlewareStack,
    Recorder,
    StructuredLoggingMiddleware,
)
from asgi_errorkit.redact import Redactor
from asgi_errorkit.spool import host as host_module
from asgi_errorkit.spool.crash import crash_unread, in_flight
from asgi_errorkit.spool.directory import SpoolError
from asgi_errorkit.spool.host import Host
from asgi_errorkit.spool.owner import Life, this_process
from asgi_errorkit.testing import HandClock, LogLines, request

# Lists what it is given, tells that it has, and waits for its end.
WORKER = """
import json, sys
from asgi_errorkit.spool.host import Host
host = Host(sys.argv[1], app="shop", release="1.4.2")
segment, remove = host.open_segment()
segment.beat(20.0, 300.0, 20.0, 3)
for number, (path, at, memory, answers) in enumerate(json.loads(sys.argv[2])):
    place = segment.begin(f"id-{number}", "GET", path, at, memory)
    if answers:
        segment.first_byte(place, at + 0.5)
if len(sys.argv) > 3:
    segment.close()
print("listed", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "record"


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="asgi_errorkit.workers")


def worker(path: Path, *requests: Any, is_clean: bool = False) -> "subprocess.Popen[str]":
    process = subprocess.Popen(
        [sys.executable, "-c", WORKER, str(path), json.dumps(requests), *["clean"] * is_clean],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "listed\n"
    return process


def kill(process: "subprocess.Popen[str]") -> None:
    process.kill()
    process.communicate()


def died(path: Path, *requests: Any, is_clean: bool = False) -> None:
    kill(worker(path, *requests, is_clean=is_clean))


def files(path: Path) -> list[str]:
    """What kinds of files there are, but for what is always there."""
    names = sorted(each.name.partition("-")[0] for each in path.iterdir())
    return [name for name in names if name not in ("leader.lock", "totals.ek")]


def test_who_lives_is_left_alone(path: Path) -> None:
    process = worker(path, ("/a", 10.0, 100.0, False))
    host = Host(path)
    assert host.look() == []
    (seen,) = host.workers()
    assert (seen.life, seen.owner.pid, seen.about["app"]) == (Life.ALIVE, process.pid, "shop")
    assert [each.path for each in seen.reading.in_flight] == ["/a"]
    kill(process)


def test_who_died_is_told_of_once_and_kept(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    died(path, ("/a", 10.0, 100.0, False))
    host = Host(path)
    (seen,) = host.workers()
    assert seen.life is Life.DEAD
    (crash,) = host.look()
    assert (crash["app"], crash["release"], crash["memory_mb"]) == ("shop", "1.4.2", 300.0)
    assert (crash["in_flight"], crash["unlisted"]) == (1, 3)
    assert host.look() == host.workers() == []
    assert host.crashes() == [crash]
    assert files(path) == ["crash"]
    (line,) = caplog.records
    assert line.levelname == "CRITICAL"
    assert line.getMessage() == (
        f"worker_died: pid {crash['pid']}, with 1 requests in flight and 300 MB; the likeliest: GET "
        "/a (request id-0, running for 10.000 s)"
    )


def test_who_ended_in_order_has_not_died(path: Path) -> None:
    died(path, is_clean=True)
    host = Host(path)
    assert host.look() == host.crashes() == []
    assert files(path) == []


def test_who_was_idle_is_told_of_more_quietly(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A server that stops may leave in the same way."""
    died(path)
    (crash,) = Host(path).look()
    assert crash["suspects"] == []
    assert [line.levelname for line in caplog.records] == ["WARNING"]


def test_suspects_are_in_order_and_their_secrets_are_not_told(path: Path) -> None:
    """Not answered yet, then since which memory grew, then the youngest."""
    died(
        path,
        ("/answering", 19.0, 100.0, True),
        ("/old/small", 1.0, 290.0, False),
        ("/old/big", 2.0, 100.0, False),
        ("/young/big", 18.0, 110.0, False),
        ("/young/small?x=1", 19.5, 299.0, False),
    )
    (crash,) = Host(path).look()
    told = [(each["path"], each["phase"], each["age_seconds"]) for each in crash["suspects"]]
    assert told == [
        ("/young/big", "running", 2.0),
        ("/old/big", "running", 18.0),
        ("/young/small?x=1", "running", 0.5),
        ("/old/small", "running", 19.0),
        ("/answering", "answering", 1.0),
    ]
    assert crash["suspects"][0]["memory_growth_mb"] == 190.0
    # The last sign of life is the latest of all that it wrote.
    assert crash["last_seen_at"] - crash["suspects"][0]["started_at"] == pytest.approx(2.0)


def test_of_many_suspects_the_first_are_kept(path: Path) -> None:
    died(path, *[(f"/{n}", float(n), 100.0, False) for n in range(100)])
    (crash,) = Host(path).look()
    assert (crash["in_flight"], len(crash["suspects"])) == (100, 20)


def test_of_many_who_look_at_once_one_tells(path: Path) -> None:
    for _ in range(5):
        died(path, ("/a", 10.0, 100.0, False))
    hosts = [Host(path) for _ in range(8)]
    found: list[Any] = []
    start = threading.Barrier(len(hosts))

    def look(host: Host) -> None:
        start.wait()
        found.extend(host.look())

    threads = [threading.Thread(target=look, args=(host,)) for host in hosts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == len({crash["pid"] for crash in found}) == 5
    assert files(path) == ["crash"] * 5


def test_who_dies_over_a_claim_is_followed_by_another_and_no_crash_is_kept_twice(
    path: Path,
) -> None:
    host = Host(path)
    died(path, ("/a", 10.0, 100.0, False))
    dead = host.workers()[0].owner.key
    (name,) = [each.name for each in path.iterdir()]
    body = (path / name).read_bytes()
    host.look()
    # It had kept the crash already, but not removed the segment.
    (path / name.replace("worker-", f"claimed-{dead}-of-")).write_bytes(body)
    (crash,) = Host(path).look()
    assert host.crashes() == [crash]
    assert files(path) == ["crash"]


def test_a_claim_of_who_lives_is_left_to_them(path: Path) -> None:
    process = worker(path)
    host = Host(path)
    other = host.workers()[0].owner.key
    died(path, ("/a", 10.0, 100.0, False))
    (dead,) = [each for each in path.iterdir() if f"-{other}-" not in each.name]
    dead.rename(path / dead.name.replace("worker-", f"claimed-{other}-of-"))
    assert host.look() == []
    kill(process)
    assert len(host.look()) == 2


def test_crashes_are_bounded_and_the_latest_come_first(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host_module, "_MOST_CRASHES", 2)
    clock = HandClock(1000.0)
    host = Host(path, wall_clock=clock)
    for number in range(4):
        died(path, (f"/{number}", 10.0, 100.0, False))
        clock.move(1.0)
        host.look()
    assert [crash["suspects"][0]["path"] for crash in host.crashes()] == ["/3", "/2"]


@pytest.mark.parametrize("how", ["short", "alien", "empty", "about"])
def test_a_segment_that_makes_no_sense_leaves_an_entry_when_its_worker_is_dead(
    path: Path, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    died(path, ("/a", 10.0, 100.0, False))
    (segment,) = path.iterdir()
    body = bytearray(segment.read_bytes())
    if how == "about":
        body[1024:1030] = b"\xff" * 6
    segment.write_bytes(
        {"short": bytes(body[:5000]), "alien": b"x" * len(body), "empty": b""}.get(how, bytes(body))
    )
    pid = int(segment.name.split("-")[1])
    host = Host(path)
    assert host.workers() == []
    (crash,) = host.look()
    assert host.crashes() == [crash]
    assert (crash["pid"], crash["damaged"], crash["suspects"]) == (pid, True, [])
    assert host.unread == 2
    assert files(path) == ["crash"]
    assert f"worker_died: pid {pid}, whose record cannot be read" in caplog.text
    assert [line.levelname for line in caplog.records] == ["WARNING"]


def test_an_entry_has_the_same_names_whether_the_segment_could_be_read_or_not(path: Path) -> None:
    died(path, ("/a", 10.0, 100.0, False))
    host = Host(path)
    (crash,) = host.look()
    unread = crash_unread(crash["pid"], found_at=1.0)
    assert list(unread) == list(crash)
    assert crash["damaged"] is False
    assert orjson.dumps(unread)


def test_files_of_others_are_not_seen(path: Path) -> None:
    host = Host(path)
    for name in ("notes.txt", "worker-x.ek", "claimed-1-2-0-0-of-x.ek", "crash-1.ek", "other.ek"):
        (path / name).write_bytes(b"x")
    assert host.look() == host.workers() == host.crashes() == []
    assert len(files(path)) == 5


@pytest.mark.parametrize("body", [b"", b"[", b"[]", b"null", b'"x"', b"\xff", b"{" * 5000])
def test_a_crash_file_that_makes_no_sense_is_left_out(path: Path, body: bytes) -> None:
    died(path, ("/a", 10.0, 100.0, False))
    host = Host(path)
    (crash,) = host.look()
    (kept,) = path.glob("crash-*")
    (path / kept.name.replace("crash-1", "crash-2")).write_bytes(body)
    assert host.crashes() == [crash]


def test_who_became_another_program_is_found_by_its_successor(path: Path) -> None:
    """By exec a process keeps its pid and its start."""
    code = (
        "import os, sys\n"
        "from asgi_errorkit.spool.host import Host\n"
        "host = Host(sys.argv[1])\n"
        "if len(sys.argv) > 2:\n"
        "    print(len(host.look()), len(host.workers()))\n"
        "else:\n"
        "    segment, _ = host.open_segment()\n"
        "    segment.begin('id', 'GET', '/', 1.0, 1.0)\n"
        "    assert host.look() == []\n"
        "    os.execv(sys.executable, [sys.executable, '-c', os.environ['CODE'], sys.argv[1], '2'])\n"
    )
    told = subprocess.run(
        [sys.executable, "-c", code, str(path)],
        env={**os.environ, "CODE": code},
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout == "1 0\n"


def test_who_counts_pids_apart_is_claimed_after_a_long_silence(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody can say whether it lives, and its files would pile up."""
    died(path, ("/a", 10.0, 100.0, False))
    monkeypatch.setattr(host_module, "life_of", lambda _: Life.UNKNOWN)
    clock = HandClock(20.0 + 600.0)
    host = Host(path, clock=clock)
    assert host.look() == []
    clock.move(0.5)
    assert len(host.look()) == 1


def test_by_another_boot_nobody_is_known_to_be_silent(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or where none is known: clocks say nothing then."""
    died(path, ("/a", 10.0, 100.0, False))
    here = this_process()._replace(boot="00000000")
    monkeypatch.setattr(host_module, "life_of", lambda _: Life.UNKNOWN)
    monkeypatch.setattr(host_module, "this_process", lambda: here)
    assert Host(path, clock=HandClock(1e9)).look() == []


def test_a_claim_is_not_taken_from_who_may_be_at_it_however_long_ago_the_worker_died(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two containers that find an old segment at once would both tell of it."""
    died(path, ("/a", 10.0, 100.0, False))
    monkeypatch.setattr(host_module, "life_of", lambda _: Life.UNKNOWN)
    (segment,) = path.iterdir()
    other = this_process()._replace(namespace=1)
    segment.rename(path / segment.name.replace("worker-", f"claimed-{other.key}-of-"))
    wall = HandClock(time.time())
    host = Host(path, clock=HandClock(1e6), wall_clock=wall)
    wall.move(1190.0)
    assert host.look() == []
    wall.move(20.0)
    assert len(host.look()) == 1


def test_what_is_damaged_and_of_another_container_is_claimed_when_it_is_old(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    died(path)
    monkeypatch.setattr(host_module, "life_of", lambda _: Life.UNKNOWN)
    (segment,) = path.iterdir()
    os.truncate(segment, 5000)
    wall = HandClock(time.time())
    host = Host(path, wall_clock=wall)
    assert host.look() == []
    wall.move(610.0)
    (crash,) = host.look()
    assert crash["damaged"]


def test_who_listens_is_told_of_each_death_once_and_one_that_fails_keeps_it_from_nobody(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when it could not be kept at once; and while it takes its time others may look."""
    died(path, ("/a", 10.0, 100.0, False))
    host = Host(path)
    heard: list[Any] = []
    held: list[bool] = []

    def broken(_: Any) -> None:
        held.append(host_module._turn.lock.locked())
        raise ValueError("broken")

    host.on_death(broken)
    host.on_death(heard.append)
    with monkeypatch.context() as full:
        full.setattr(type(host.directory), "create", _full)
        for _ in range(2):
            host.look()
    assert len(host.look()) == 1
    assert [crash["pid"] for crash in heard] == [crash["pid"] for crash in host.crashes()]
    assert (host.listener_errors, held) == (1, [False])


def test_who_was_paused_over_a_claim_that_another_has_taken_on_tells_nothing(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever has it tells, and counts: to do so again, much later, would count it twice."""
    died(path, ("/a", 10.0, 100.0, False))
    host = Host(path)
    real = type(host.directory).read

    def paused(self: Any, name: str) -> bytes:
        told = real(self, name)
        if name.startswith("claimed"):
            (path / name).unlink()
        return told

    monkeypatch.setattr(type(host.directory), "read", paused)
    assert host.look() == []
    assert files(path) == []


def test_the_names_of_secrets_go_with_the_segment(path: Path) -> None:
    """Who claims it, or reads it, may not have been told of them."""
    given = ["iban", "tax_id"]
    told = Host(path, redactor=Redactor(extra_names=given))
    segment, _ = told.open_segment()
    segment.begin("id", "GET", "/pay/iban=DE99/tax_id=5/token=9", 1.0, 1.0)
    (worker,) = told.workers()
    assert sorted(worker.about["redact"]) == given
    host_module._OURS.clear()
    (crash,) = Host(path, redactor=Redactor(extra_names=["tenant"])).look()
    assert "DE99" not in str(crash)
    assert crash["suspects"][0]["path"] == "/pay/iban=[redacted]"


def test_names_of_secrets_have_no_more_room_than_there_is(path: Path) -> None:
    names = [f"name{number:04}" for number in range(2000)]
    host = Host(path, app="x" * 500, release="y" * 500, redactor=Redactor(extra_names=names))
    host.open_segment()
    (worker,) = host.workers()
    assert 100 < len(worker.about["redact"]) < 300
    assert set(worker.about["redact"]) < set(names)
    assert worker.about["app"] == "x" * 200


@pytest.mark.parametrize("names", ["iban", [1, None, "", "-", "\ud800", ["x"]], {"a": 1}])
def test_names_that_make_no_sense_are_left_out(
    path: Path, names: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = Host(path)
    told = json.dumps({"pid": 1, "redact": names}).encode()
    monkeypatch.setattr(host, "_about", lambda: told)
    host.open_segment()[0].begin("id", "GET", "/token=a", 1.0, 1.0)
    assert host.workers()[0].about["redact"] == []
    host_module._OURS.clear()
    (crash,) = host.look()
    assert crash["suspects"][0]["path"] == "/token=[redacted]"


# Whose segment is taken although they live


class Alive:
    """A worker by a hand clock, and without threads, and another of its host."""

    def __init__(self, path: Path) -> None:
        self.path, self.clock = path, HandClock()
        self.recorder = Recorder(flush_seconds=None, clock=self.clock)
        self.during: Any = lambda: None
        self.log = LogLines()
        stack = MiddlewareStack(error_tracker=ErrorTracker(recorder=self.recorder))
        stack.add_middleware(StructuredLoggingMiddleware, stream=self.log)
        self.kit = ErrorKit(self.app, stack=stack, directory=path)
        self.other = Host(path, clock=self.clock)

    async def app(self, scope: Any, receive: Any, send: Any) -> None:
        self.during()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def serves(self, number: int) -> None:
        for _ in range(number):
            assert (await request(self.kit)).status == 200

    def a_second_later(self) -> None:
        self.clock.move(1.0)
        self.recorder.flush()

    def segment(self) -> Path:
        (segment,) = self.path.glob("worker-*")
        return segment

    def is_taken_for_dead(self) -> None:
        dead = this_process()._replace(start=1)
        segment = self.segment()
        segment.rename(self.path / segment.name.replace("worker-", f"claimed-{dead.key}-of-"))
        (crash,) = self.other.look()
        assert crash["pid"] == os.getpid()

    def counted(self) -> dict[str, int]:
        return dict(self.other.counts().outcomes)


async def test_who_was_taken_for_dead_opens_another_segment_and_counts_nothing_twice(
    path: Path,
) -> None:
    """Such as one of another container that was paused; what is in flight meanwhile counts too."""
    alive = Alive(path)
    await alive.serves(3)
    alive.a_second_later()
    before = alive.segment()

    def taken() -> None:
        alive.is_taken_for_dead()
        alive.a_second_later()

    alive.during = taken
    await alive.serves(1)
    alive.during = lambda: None
    assert alive.segment() != before
    await alive.serves(2)
    for _ in range(3):
        alive.a_second_later()
        alive.other.look()
        assert alive.counted() == {"ok": 6}
    assert alive.segment().stat().st_nlink == 1
    alive.recorder.ledger.close()  # type: ignore[union-attr]
    assert alive.counted() == {"ok": 6}
    assert list(path.glob("worker-*")) == []


async def test_who_was_taken_for_dead_and_ends_before_it_knows_leaves_nothing_wrong(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    alive = Alive(path)
    await alive.serves(3)
    alive.a_second_later()
    alive.is_taken_for_dead()
    caplog.clear()
    alive.recorder.ledger.close()  # type: ignore[union-attr]
    assert alive.counted() == {"ok": 3}
    assert caplog.records == []


async def test_who_is_being_claimed_counts_anew_before_the_claim_is_done(path: Path) -> None:
    alive = Alive(path)
    await alive.serves(3)
    alive.a_second_later()
    segment = alive.segment()
    other = this_process()._replace(namespace=1)
    claim = path / segment.name.replace("worker-", f"claimed-{other.key}-of-")
    segment.rename(claim)
    await alive.serves(1)
    alive.a_second_later()
    await alive.serves(1)
    # What ended at most a second before it was noticed counts with what was claimed.
    assert alive.counted() == {"ok": 5}


async def test_who_had_its_file_removed_opens_another_and_loses_no_count(path: Path) -> None:
    """As cleaners do with what looks old: what is stored into a mapped file has no date."""
    alive = Alive(path)
    await alive.serves(3)
    alive.a_second_later()
    alive.segment().unlink()
    await alive.serves(1)
    alive.a_second_later()
    assert alive.counted() == {"ok": 4}
    await alive.serves(1)
    assert alive.counted() == {"ok": 5}


async def test_who_finds_its_file_lost_once_and_there_again_goes_on_in_it(path: Path) -> None:
    """Another thread may have opened the next one meanwhile."""
    alive = Alive(path)
    await alive.serves(1)
    before, ledger, lost = alive.segment(), alive.recorder.ledger, iter((True, False))
    ledger.renew(lambda: next(lost), lambda: True)  # type: ignore[union-attr]
    assert alive.segment() == before
    assert alive.counted() == {"ok": 1}


def test_who_leaves_an_older_segment_still_knows_of_the_latest(path: Path) -> None:
    host = Host(path)
    _, leave = host.open_segment()
    host.open_segment()
    leave()
    assert not host.has_lost_segment()
    next(path.glob("worker-*")).unlink()
    assert host.has_lost_segment()


async def test_a_forked_child_does_not_miss_the_segment_of_its_parent(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alive = Alive(path)
    await alive.serves(1)
    host = alive.kit.host
    assert host is not None
    alive.segment().unlink()
    assert host.has_lost_segment()
    child = this_process()._replace(pid=12345)
    monkeypatch.setattr(host_module, "this_process", lambda: child)
    assert not host.has_lost_segment()


# What the log of the kit tells


async def test_a_death_is_a_line_of_the_structured_log_of_who_found_it(path: Path) -> None:
    died(path, ("/a", 10.0, 100.0, False), ("/token=abc", 11.0, 100.0, False))
    first, second = Alive(path), Alive(path)
    for _ in range(3):
        first.a_second_later()
        second.a_second_later()
    (crash,) = second.other.crashes()
    (line,) = first.log.lines("worker_died")
    assert second.log.lines("worker_died") == []
    assert line.pop("timestamp").endswith("Z")
    assert (line.pop("event"), line.pop("level")) == ("worker_died", "CRITICAL")
    assert line == crash
    assert "abc" not in str(line)


async def nothing(scope: Any, receive: Any, send: Any) -> None:
    """Never called."""


async def test_a_death_of_an_idle_worker_is_logged_where_warnings_are(path: Path) -> None:
    for level, expected in (("ERROR", []), ("WARNING", ["WARNING"])):
        died(path)
        log, recorder = LogLines(), Recorder(flush_seconds=None)
        stack = MiddlewareStack(error_tracker=ErrorTracker(recorder=recorder))
        stack.add_middleware(StructuredLoggingMiddleware, stream=log, log_level=level)
        kit = ErrorKit(nothing, stack=stack, directory=path)
        recorder.flush()
        assert [line["level"] for line in log.lines("worker_died")] == expected
        assert kit.host is not None
        assert kit.host.listener_errors == 0


def test_a_directory_that_cannot_serve_says_what_to_do(path: Path) -> None:
    path.mkdir(mode=0o755)
    path.chmod(0o755)
    with pytest.raises(SpoolError, match="chmod 700"):
        Host(path)


def test_what_goes_on_is_told_with_its_age(path: Path) -> None:
    host = Host(path, clock=lambda: 50.0)
    segment, remove = host.open_segment()
    segment.begin("id-1", "GET", "/a?x=1", 10.0, 100.0)
    segment.begin("id-2", "POST", "/b", 40.0, 100.0)
    (seen,) = host.workers()
    assert seen.owner == this_process()
    told = in_flight(seen.reading, 50.0, 1000.0, Redactor())
    assert [(each["path"], each["age_seconds"], each["started_at"]) for each in told] == [
        ("/a?x=1", 40.0, 1010.0),
        ("/b", 10.0, 1040.0),
    ]
    assert orjson.dumps(told)
    segment.close()
    remove()
    assert files(path) == []


def test_a_crash_that_cannot_be_kept_is_told_of_once_and_kept_later(
    path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others are found all the same."""
    died(path, ("/a", 10.0, 100.0, False))
    host = Host(path)
    with monkeypatch.context() as full:
        full.setattr(type(host.directory), "create", _full)
        for _ in range(3):
            assert host.look() == []
    assert files(path) == ["claimed"]
    assert [line.levelname for line in caplog.records] == ["CRITICAL", "WARNING"]
    (crash,) = host.look()
    assert host.crashes() == [crash]
    assert sum("worker_died" in line.message for line in caplog.records) == 1


def test_whatever_fails_with_one_of_the_dead_the_others_are_found(
    path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        died(path, (f"/{number}", 10.0, 100.0, False))
    real = host_module.crash_of

    def fails(reading: Any, *given: Any, **more: Any) -> Any:
        if reading.in_flight[0].path == "/1":
            raise ZeroDivisionError("odd")
        return real(reading, *given, **more)

    host = Host(path)
    with monkeypatch.context() as broken:
        broken.setattr(host_module, "crash_of", fails)
        for _ in range(2):
            host.look()
        assert sum("cannot be kept: odd" in line.message for line in caplog.records) == 1
    assert {crash["suspects"][0]["path"] for crash in host.crashes()} == {"/0", "/2"}
    assert len(host.look()) == 1


def _full(*_: Any) -> Any:
    raise SpoolError("the disk is full")


def test_what_a_client_has_written_cannot_forge_a_line(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    died(path, ("/a\nCRITICAL all is lost\x1b[2J", 10.0, 100.0, False))
    Host(path).look()
    assert "\n" not in caplog.text.rstrip("\n")
    assert "\x1b" not in caplog.text


def test_a_request_that_began_before_memory_was_measured_has_grown_by_nothing_known(
    path: Path,
) -> None:
    died(path, ("/first", 10.0, 0.0, False), ("/guilty", 19.0, 290.0, False))
    (crash,) = Host(path).look()
    assert [each["path"] for each in crash["suspects"]] == ["/guilty", "/first"]


@pytest.mark.parametrize(
    "about", [b"", b"[", b"[]", b'{"pid": {"a": 1}, "started_at": "x"}', b'{"pid":' + b"[" * 900]
)
def test_whatever_a_segment_says_of_itself_it_is_told_of(
    path: Path, about: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = Host(path)
    monkeypatch.setattr(host, "_about", lambda: about)
    segment, _ = host.open_segment()
    segment.begin("id", "GET", "/a", 1.0, 1.0)
    monkeypatch.setattr(host_module, "_OURS", set())
    (crash,) = host.look()
    assert (crash["pid"], crash["suspects"][0]["path"]) == (None, "/a")
