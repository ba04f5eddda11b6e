"""One leads, whatever becomes of its file, and another as soon as it no longer does."""

import errno
import gc
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from asgi_errorkit.spool import leader as leaders
from asgi_errorkit.spool.directory import SpoolDirectory
from asgi_errorkit.spool.leader import Leader

pytest.importorskip("fcntl")

# Runs each line that it is sent, and prints what the last name in it is worth.
OTHER = """
import gc, os, sys
from asgi_errorkit.spool.directory import SpoolDirectory
from asgi_errorkit.spool.leader import Leader
directory = SpoolDirectory.open(sys.argv[1])
leader = Leader(directory)
for line in sys.stdin:
    exec(line)
    print(told, flush=True)
"""


class Other:
    """Another process, which does what it is told."""

    def __init__(self, path: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", OTHER, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def does(self, line: str) -> str:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()

    def leads(self) -> bool:
        return self.does("told = leader.is_ours()") == "True"

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "record"


@pytest.fixture
def directory(path: Path) -> Iterator[SpoolDirectory]:
    with closing(SpoolDirectory.open(path)) as opened:
        yield opened


@pytest.fixture
def other(path: Path) -> Iterator[Other]:
    with closing(Other(path)) as started:
        yield started


def test_who_leads_by_a_file_that_was_removed_leads_no_more(
    directory: SpoolDirectory, path: Path, other: Other
) -> None:
    """Another may lead by a new one: of all that ask there is never more than one."""
    ours = Leader(directory)
    assert ours.is_ours()
    (path / "leader.lock").unlink()
    assert other.leads()
    assert not ours.is_ours()
    (path / "leader.lock").unlink()
    assert ours.is_ours()
    assert not other.leads()
    ours.resign()
    assert other.leads()


def test_no_file_of_a_lock_that_is_gone_stays_open(
    directory: SpoolDirectory, path: Path, other: Other
) -> None:
    """Neither of one that led by it, nor of one that asked while another process did."""
    before = set(leaders._FILES)
    asks = Leader(directory)
    for _ in range(3):
        assert other.leads()
        assert not asks.is_ours()
        (path / "leader.lock").unlink()
    assert len(set(leaders._FILES) - before) == 1
    other.does("leader.resign(); told = None")
    assert asks.is_ours()
    asks.resign()
    first, second = Leader(directory), Leader(directory)
    for _ in range(5):
        assert (first.is_ours(), second.is_ours()) == (True, False)
        (path / "leader.lock").unlink()
    first.is_ours()
    assert len(set(leaders._FILES) - before) == 1
    first.resign()
    assert set(leaders._FILES) == before


def test_who_is_dropped_leads_no_more(directory: SpoolDirectory, other: Other) -> None:
    """The process goes on to live, and would keep the lock from all others."""
    ours = Leader(directory)
    assert ours.is_ours()
    assert not other.leads()
    del ours
    gc.collect()
    assert other.leads()


def test_who_is_dropped_while_another_of_its_process_competes_takes_nothing_from_it(
    directory: SpoolDirectory, other: Other
) -> None:
    """A finalizer comes amid anything: it leaves the lock to whoever has the turn."""
    first, second = Leader(directory), Leader(directory)
    assert first.is_ours()
    with leaders._turn.lock:
        assert not second.is_ours()
        del first
        gc.collect()
    assert second.is_ours()
    assert not other.leads()
    second.resign()
    assert other.leads()


def test_where_there_are_no_locks_nobody_leads(
    directory: SpoolDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "fcntl", None)
    assert not Leader(directory).is_ours()


def test_a_lock_that_fails_is_told_of(
    directory: SpoolDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And whoever asks later may lead: nothing is held."""
    ours = Leader(directory)

    def fails(*_: object) -> None:
        raise OSError(errno.ENOLCK, "no locks are left")

    with monkeypatch.context() as broken:
        broken.setattr("fcntl.lockf", fails)
        with pytest.raises(OSError, match="no locks"):
            ours.is_ours()
    assert ours.is_ours()
    ours.resign()


def test_a_forked_child_asks_anew(directory: SpoolDirectory) -> None:
    ours = Leader(directory)
    assert ours.is_ours()
    assert leaders._turn.lock.acquire(timeout=0.0)  # by a thread that the child does not have
    leaders._turn.reset_after_fork()
    ours.reset_after_fork()  # the lock is this process's still, unlike a child's
    assert ours.is_ours()
    assert not Leader(directory).is_ours()
    ours.resign()


def test_what_a_forked_child_drops_is_not_taken_from_its_parent(
    directory: SpoolDirectory, other: Other
) -> None:
    ours = Leader(directory)
    assert other.leads()
    child = (
        "child = os.fork()\n"
        "if not child:\n    del leader; gc.collect(); os._exit(0)\n"
        "told = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])"
    )
    assert other.does(f"exec({child!r})") == "0"
    assert not ours.is_ours()
    assert other.leads()
    assert other.does("leader = None; gc.collect(); told = 'dropped'") == "dropped"
    assert ours.is_ours()
    ours.resign()
