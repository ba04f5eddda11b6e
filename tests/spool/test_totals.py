"""What the workers of a host have counted: each request once, whoever dies at whatever moment."""

import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from asgi_errorkit.spool import host as host_module
from asgi_errorkit.spool import leader as leader_module
from asgi_errorkit.spool.directory import SpoolDirectory, SpoolError
from asgi_errorkit.spool.host import Host
from asgi_errorkit.spool.leader import Leader
from asgi_errorkit.spool.results import result_of
from asgi_errorkit.spool.totals import Counts, fold, gone_counts, keep_gone, loaded

OK, FAILED = 200 << 8 | 1, 500 << 8 | 2 << 24 | 13 << 32 | 1


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "record"


@pytest.fixture(autouse=True)
def _none_of_ours(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each host here stands for a process of its own that has died since."""
    monkeypatch.setattr(host_module, "_OURS", set())
    leader_module._LEADING.clear()
    yield
    leader_module._LEADING.clear()


def died(host: Host, ended: int, failed: int, *, saves: bool = True, in_flight: int = 1) -> None:
    """A worker that has counted some in a snapshot, some not yet, and was at some."""
    segment, _ = host.open_segment()
    host_module._OURS.clear()
    places = [segment.begin("id", "GET", "/", 1.0, 2.0) for _ in range(ended + failed)]
    for number, place in enumerate(places):
        assert place is not None
        segment.end(place, OK if number < ended else FAILED, 2.0)
    if saves and places:
        body = {"outcomes": {"ok": 1}, "error_types": {}}
        segment.save(orjson.dumps(body), [places[0] or 0], 3.0)
    for _ in range(in_flight):
        segment.begin("id", "GET", "/guilty", 1.0, 2.0)


def told(host: Host) -> dict[str, int]:
    return dict(host.counts().outcomes)


def test_what_the_dead_have_counted_stays_counted(path: Path) -> None:
    host = Host(path)
    for number in range(1, 4):
        died(host, ended=number, failed=1)
        expected = {"ok": sum(range(number + 1)), "server_error": number}
        assert told(host) == expected
        host.look()
        assert told(host) == expected
        host.look()
        assert told(host) == expected
    assert host.counts().error_types == {"unknown": 3}


def test_who_leaves_in_order_stays_counted(path: Path) -> None:
    host = Host(path)
    segment, leave = host.open_segment()
    place = segment.begin("id", "GET", "/", 1.0, 2.0)
    assert place is not None
    segment.end(place, OK, 2.0)
    assert told(host) == {"ok": 1}
    segment.close()
    leave()
    assert told(host) == {"ok": 1}
    assert not any(each.name.startswith("worker") for each in path.iterdir())


def test_totals_take_no_more_room_with_each_worker(path: Path) -> None:
    host = Host(path)
    for _ in range(20):
        died(host, ended=2, failed=0, in_flight=0)
        host.look()
    host.look()
    assert told(host) == {"ok": 40}
    kinds = Counter(each.name.partition("-")[0] for each in path.iterdir())
    assert kinds["gone"] == 0
    assert len((path / "totals.ek").read_bytes()) < 500


class Died(BaseException):
    """As a process that is killed: nothing is put in order."""


def dying(monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    """Die before the step with that number, of those that change the directory."""
    left = after

    def counting(real: Any) -> Any:
        def step(*given: Any) -> Any:
            nonlocal left
            if left == 0:
                raise Died
            left -= 1
            return real(*given)

        return step

    for name in ("rename", "publish", "remove"):
        monkeypatch.setattr(SpoolDirectory, name, counting(getattr(SpoolDirectory, name)))


def test_whoever_dies_while_counting_the_dead_counts_nobody_twice(path: Path) -> None:
    """At each step that changes the directory; and who looks amid that sees the same."""
    steps = 0
    for after in range(100):
        where = path / str(after)
        host = Host(where)
        for number in range(3):
            died(host, ended=2 + number, failed=1)
        with pytest.MonkeyPatch.context() as short:
            dying(short, after)
            try:
                host.look()
                host.look()
                finished = True
            except Died:
                finished = False
        expected = {"ok": 9, "server_error": 3}
        leader_module._LEADING.clear()
        other = Host(where)
        assert told(other) == expected, after
        for _ in range(3):
            # A claim of this process stands for one of a process that has died.
            other.look()
            assert told(other) == expected, after
        assert len(other.crashes()) == 3, after
        assert not any(
            each.name.startswith(("worker", "claimed", "gone")) for each in where.iterdir()
        )
        steps = after
        if finished:
            break
    assert steps > 12


def test_who_dies_between_claims_of_the_same_segment_has_it_counted_once(path: Path) -> None:
    """Counted and folded into the totals, while its segment was not removed."""
    host = Host(path)
    died(host, ended=5, failed=0)
    (segment,) = [each for each in path.iterdir() if each.name.startswith("worker")]
    body = segment.read_bytes()
    host.look()
    segment.write_bytes(body)
    assert told(host) == {"ok": 5}
    for _ in range(3):
        host.look()
        assert told(host) == {"ok": 5}


def test_what_makes_no_sense_counts_nothing(path: Path) -> None:
    directory = SpoolDirectory.open(path)
    for name, body in (
        ("totals.ek", b'{"outcomes": {"ok": -1, "x": "y", "z": true}, "folded": 3}'),
        ("gone-1-2-0-0-a.ek", b"["),
        ("gone-1-2-0-0-b.ek", b'{"outcomes": {"ok": 2}}'),
        ("gone-1-2-0-0-c.ek", b'{"outcomes": []}'),
    ):
        directory.write(name, body)
    assert gone_counts(directory, lambda name: loaded(directory.read(name)))[0].outcomes == {
        "ok": 2
    }
    fold(directory, lambda: 0.0)
    assert gone_counts(directory, lambda name: loaded(directory.read(name)))[0].outcomes == {
        "ok": 2
    }


def test_who_is_kept_twice_counts_once(path: Path) -> None:
    directory = SpoolDirectory.open(path)
    for _ in range(2):
        keep_gone(directory, "1-2-0-0-d", Counts.read({"outcomes": {"ok": 3}}), 0.0)
    assert gone_counts(directory, lambda name: loaded(directory.read(name)))[0].outcomes == {
        "ok": 3
    }


def test_results_are_those_that_the_tables_say() -> None:
    assert result_of  # the numbers above are those of docs/segment-format.md
    from asgi_errorkit.spool.results import told as said

    assert said(FAILED) == (500, "server_error", "unknown", False, False)


# Who leads

LEADS = """
import sys, time
from asgi_errorkit.spool.directory import SpoolDirectory, SpoolError
from asgi_errorkit.spool.leader import Leader
leader = Leader(SpoolDirectory.open(sys.argv[1]))
print(leader.is_ours(), flush=True)
while sys.stdin.readline():
    print(leader.is_ours(), flush=True)
"""


class Asked:
    """A process that is asked whether it leads."""

    def __init__(self, path: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", LEADS, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.first = self._answer()

    def leads(self) -> bool:
        assert self.process.stdin is not None
        self.process.stdin.write("?\n")
        self.process.stdin.flush()
        return self._answer()

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()

    def _answer(self) -> bool:
        assert self.process.stdout is not None
        return self.process.stdout.readline() == "True\n"


def test_one_leads_and_another_when_it_has_died(path: Path) -> None:
    first, second = Asked(path), Asked(path)
    third = Leader(SpoolDirectory.open(path))
    assert (first.first, second.first, third.is_ours()) == (True, False, False)
    first.kill()
    began = time.monotonic()
    assert second.leads()
    assert time.monotonic() - began < 2.0
    assert not third.is_ours()
    second.kill()
    assert third.is_ours()
    third.resign()


def test_of_one_process_one_leads(path: Path) -> None:
    """Also when another has asked, and gone: that must not let go of the lock."""
    directory = SpoolDirectory.open(path)
    first, second = Leader(directory), Leader(SpoolDirectory.open(path))
    assert (first.is_ours(), second.is_ours(), first.is_ours()) == (True, False, True)
    second.resign()
    del second
    other = Asked(path)
    assert not other.first
    first.resign()
    assert other.leads()
    assert not first.is_ours()
    other.kill()


def test_a_forked_child_does_not_lead_and_its_parent_goes_on_to(path: Path) -> None:
    code = LEADS.replace(
        "print(leader.is_ours(), flush=True)\nwhile",
        "import os\nassert leader.is_ours()\nif not os.fork():\n"
        "    told = leader.is_ours()\n    time.sleep(60 if not told else 0)\n    os._exit(0)\n"
        "print(leader.is_ours(), flush=True)\nwhile",
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "True\n"
    other = Asked(path)
    assert not other.first
    process.kill()
    process.wait()
    assert other.leads()  # although the child of who led is still there
    os.killpg(process.pid, 9)
    process.communicate()
    other.kill()


def test_a_reading_that_fails_for_a_moment_loses_nothing(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Such as for want of descriptors; and the death is logged, once."""
    host = Host(path)
    died(host, ended=3, failed=0)
    real = SpoolDirectory.read
    with pytest.MonkeyPatch.context() as short:

        def fails(self: SpoolDirectory, name: str) -> bytes:
            if name.startswith("claimed"):
                raise SpoolError("no descriptors are left", 24)
            return real(self, name)

        short.setattr(SpoolDirectory, "read", fails)
        assert host.look() == []
    assert told(host) == {"ok": 3}
    assert len(host.look()) == 1
    assert told(host) == {"ok": 3}


def test_a_disk_that_was_full_when_a_worker_died_keeps_nobody_from_being_told(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    host = Host(path)
    died(host, ended=3, failed=0)
    with pytest.MonkeyPatch.context() as full:

        def fails(*_: Any) -> Any:
            raise SpoolError("is full", 28)

        full.setattr(SpoolDirectory, "create", fails)
        for _ in range(3):
            assert host.look() == []
    assert len(host.look()) == 1
    assert sum("worker_died" in line.getMessage() for line in caplog.records) == 1
    assert told(host) == {"ok": 3}


def test_foreign_files_and_numbers_keep_nobody_from_counting(path: Path) -> None:
    host = Host(path)
    (path / "gone-1.ek").mkdir()
    host.directory.write("gone-1-2-0-0-a.ek", b'{"outcomes": {"ok": 18446744073709551615, "x": 2}}')
    died(host, ended=3, failed=0)
    for _ in range(3):
        host.look()
        assert told(host) == {"ok": 3, "x": 2}
    assert orjson.dumps(host.counts().as_dict(0.0))
