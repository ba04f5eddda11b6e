"""A process is told from every other; only what is certainly dead is said to be."""

import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgi_errorkit.spool import owner as owners
from asgi_errorkit.spool.owner import Life, Owner, life_of, this_process

OWNER = Owner(pid=4711, start=123456, boot="0123abcd", namespace=0xF0000123)

TELLS = (
    "from asgi_errorkit.spool.owner import this_process\nprint(this_process().key, flush=True)\n"
)


@contextmanager
def another() -> Iterator[tuple[Owner, subprocess.Popen[str]]]:
    """A process that says who it is, and runs until its standard input ends."""
    code = f"{TELLS}input()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield told(process), process
        finally:
            process.kill()


def told(process: "subprocess.Popen[str]") -> Owner:
    assert process.stdout is not None
    owner = Owner.parse(process.stdout.readline().strip())
    assert owner is not None
    return owner


def run(code: str) -> list[Owner | None]:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return [Owner.parse(line) for line in done.stdout.split()]


@pytest.fixture(params=["proc", "psutil"] if owners._LINUX else ["psutil"])
def each_way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """By /proc where there is one, and by psutil, as elsewhere."""
    monkeypatch.setattr(owners, "_LINUX", request.param == "proc")


def test_a_process_is_the_same_each_time_it_is_asked(each_way: None) -> None:
    first = this_process()
    assert first.pid == os.getpid()
    assert first.start > 0
    assert this_process() == first
    assert life_of(first) is Life.ALIVE


def test_threads_are_their_process() -> None:
    found: list[Owner] = []
    thread = threading.Thread(target=lambda: found.append(this_process()))
    thread.start()
    thread.join()
    assert found == [this_process()]


def test_another_process_lives_until_it_ends() -> None:
    with another() as (owner, process):
        assert owner.pid == process.pid
        assert life_of(owner) is Life.ALIVE
        process.kill()
        process.wait()
        assert life_of(owner) is Life.DEAD


if hasattr(os, "waitid"):  # not on macOS, nor on Windows

    def test_a_forked_child_is_somebody_else_at_once() -> None:
        """Nothing that the parent has found out about itself is believed by its child."""
        parent, child, parent_again = run(
            f"import os\n{TELLS}pid = os.fork()\n"
            "if pid: os.waitpid(pid, 0)\n"
            "print(this_process().key, flush=True)\n"
            "if not pid: os._exit(0)"
        )
        assert parent == parent_again
        assert parent is not None
        assert child is not None
        assert child.pid != parent.pid
        assert (child.boot, child.namespace) == (parent.boot, parent.namespace)
        assert life_of(parent) is life_of(child) is Life.DEAD

    def die(process: "subprocess.Popen[str]") -> None:
        """Kill it, and wait until it is a zombie, which nobody has waited for."""
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)

    def test_a_zombie_is_dead() -> None:
        """It holds its pid until its parent asks for it, which may be never."""
        with another() as (owner, process):
            die(process)
            assert psutil.pid_exists(owner.pid)
            assert life_of(owner) is Life.DEAD

    def test_a_zombie_is_dead_by_psutil_too(monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(owners, "_LINUX", False)
        with another() as (_, process):
            start = owners._start_by_psutil(process.pid)
            owner = Owner(process.pid, start, "00000000", 0)
            assert life_of(owner) is Life.ALIVE
            die(process)
            assert life_of(owner) is Life.DEAD


def test_a_pid_that_is_given_again_is_another_owner(each_way: None) -> None:
    me = this_process()
    assert life_of(me._replace(start=me.start - 1)) is Life.DEAD
    assert life_of(me._replace(start=me.start + 1)) is Life.DEAD


@pytest.mark.parametrize("pid", [2**22 + 1, 2**31 - 1, 2**31, 9_999_999_999])
def test_a_pid_that_nobody_can_have_is_dead(each_way: None, pid: int) -> None:
    assert life_of(this_process()._replace(pid=pid)) is Life.DEAD


def test_what_no_start_is_known_of_is_left_alone_by_psutil(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(owners, "_LINUX", False)
    assert life_of(this_process()._replace(start=0)) is Life.UNKNOWN


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (psutil.NoSuchProcess(1), Life.DEAD),
        (psutil.ZombieProcess(1), Life.DEAD),
        (psutil.AccessDenied(1), Life.ALIVE),
        (OSError("odd"), Life.UNKNOWN),
    ],
    ids=lambda each: type(each).__name__,
)
def test_what_psutil_refuses(
    monkeypatch: pytest.MonkeyPatch, error: Exception, expected: Life
) -> None:
    def refuse(pid: int) -> None:
        raise error

    monkeypatch.setattr(owners, "_LINUX", False)
    monkeypatch.setattr(psutil, "Process", refuse)
    assert this_process().start == 0
    assert life_of(OWNER) is expected


KEYS = st.builds(
    Owner,
    pid=st.integers(1, 2**31),
    start=st.integers(0, 10**18),
    boot=st.from_regex("[0-9a-f]{8}", fullmatch=True).filter(str.isascii),
    namespace=st.integers(0, 2**64 - 1),
)


@given(KEYS)
def test_a_key_says_all_of_its_owner(owner: Owner) -> None:
    """It is short, harmless in a name, and read back as what it was made of."""
    assert Owner.parse(owner.key) == owner
    assert re.fullmatch("[0-9a-f-]{14,60}", owner.key)


def test_the_own_key_is_read_back(each_way: None) -> None:
    assert Owner.parse(this_process().key) == this_process()


@given(st.text() | st.from_regex(r"[0-9]+-[0-9]+-[0-9a-f]+-[0-9a-f]+", fullmatch=True))
def test_an_owner_has_one_key_and_everything_else_is_none(text: str) -> None:
    owner = Owner.parse(text)
    assert owner is None or owner.key == text


@pytest.mark.parametrize(
    "key",
    [
        "",
        "1-2-3",
        "0-1-0123abcd-0",
        "-1-1-0123abcd-0",
        "01-1-0123abcd-0",
        "1-1-0123ABCD-0",
        "1-1-0123abcd-00",
        "1-1-0123abcd-0\n",
        "1-1-0123abcd-0/../x",
        "١-1-0123abcd-0",
    ],
)
def test_what_is_no_key(key: str) -> None:
    assert Owner.parse(key) is None


STAT = b"77 (%s) %s 1 77 77 0 -1 4194304 1 0 0 0 1 1 0 0 20 0 %d 0 1234 1 1 1 1\n"


def stat(*, name: bytes = b"python", state: bytes = b"S", threads: int = 1) -> bytes:
    return STAT % (name, state, threads)


OURS = Owner(pid=77, start=1234, boot="0123abcd", namespace=5)


if owners._LINUX:  # what is said of /proc

    @pytest.fixture
    def proc(monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
        """A /proc of our own, in which `OURS` lives; what is not in it cannot be read."""
        files = {
            "/proc/sys/kernel/random/boot_id": b"0123abcd-4567-4890-abcd-0123456789ab\n",
            "/proc/77/stat": stat(),
        }
        monkeypatch.setattr(owners, "_read", lambda path: files.get(path, b""))
        monkeypatch.setattr(owners, "_namespace", lambda: 5)
        return files

    @pytest.mark.parametrize(
        "name",
        [b"python", b"", b"a b", b"a) Z 1 (b", b")", b"((", b"\n\xff) R 2\n3 4"],
        ids=["plain", "none", "blank", "fields", "parenthesis", "two", "lines"],
    )
    def test_a_process_may_have_any_name(proc: dict[str, bytes], name: bytes) -> None:
        """It gives it to itself, and cannot pass for dead, nor for another, by it."""
        proc["/proc/77/stat"] = stat(name=name)
        assert life_of(OURS) is Life.ALIVE
        assert life_of(OURS._replace(start=1)) is Life.DEAD

    def test_a_real_process_may_have_such_a_name() -> None:
        done = run(
            "import ctypes\n"
            "assert ctypes.CDLL(None).prctl(15, b'a) Z 1 (b') == 0\n"
            f"{TELLS}"
            "from asgi_errorkit.spool.owner import Life, life_of\n"
            "assert life_of(this_process()) is Life.ALIVE"
        )
        assert done[0] is not None
        assert done[0].start > 0

    @pytest.mark.parametrize("state", [b"Z", b"X", b"x"])
    def test_what_has_ended_is_dead(proc: dict[str, bytes], state: bytes) -> None:
        proc["/proc/77/stat"] = stat(state=state)
        assert life_of(OURS) is Life.DEAD

    @pytest.mark.parametrize("state", [b"R", b"S", b"D", b"T", b"t", b"I"])
    def test_what_sleeps_or_is_stopped_lives(proc: dict[str, bytes], state: bytes) -> None:
        proc["/proc/77/stat"] = stat(state=state)
        assert life_of(OURS) is Life.ALIVE

    def test_a_process_whose_first_thread_has_ended_lives(proc: dict[str, bytes]) -> None:
        """The other threads may still write to its segment."""
        proc["/proc/77/stat"] = stat(state=b"Z", threads=2)
        assert life_of(OURS) is Life.ALIVE

    def test_another_boot_is_dead_whatever_its_namespace(proc: dict[str, bytes]) -> None:
        assert life_of(OURS._replace(boot="99999999")) is Life.DEAD
        assert life_of(OURS._replace(boot="99999999", namespace=0)) is Life.DEAD

    @pytest.mark.parametrize("namespace", [0, 6], ids=["not known", "another"])
    def test_pids_of_another_container_are_not_judged(
        proc: dict[str, bytes], namespace: int
    ) -> None:
        """Its pids mean other processes here, or none: neither says that it is dead."""
        assert life_of(OURS._replace(namespace=namespace)) is Life.UNKNOWN
        assert life_of(OURS._replace(namespace=namespace, pid=2**30)) is Life.UNKNOWN
        assert life_of(OURS._replace(namespace=namespace)) is not Life.DEAD

    def test_who_does_not_know_its_own_namespace_judges_nobody(
        proc: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(owners, "_namespace", lambda: 0)
        assert life_of(OURS) is life_of(OURS._replace(namespace=0)) is Life.UNKNOWN

    def test_a_proc_of_another_namespace_is_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
        """After ``unshare --pid`` without a /proc of its own, pids there are those of others."""
        me = this_process()
        monkeypatch.setattr(os, "readlink", lambda path: "1")
        assert owners._namespace() == 0
        assert life_of(me) is Life.UNKNOWN

    @pytest.mark.parametrize("boot", [b"", b"\n", b"\xff" * 40, b"0123", b"00000000-"])
    def test_who_does_not_know_its_boot_judges_nobody(proc: dict[str, bytes], boot: bytes) -> None:
        proc["/proc/sys/kernel/random/boot_id"] = boot
        assert life_of(OURS) is Life.UNKNOWN
        assert this_process().boot == "00000000"

    @given(st.binary(max_size=200))
    def test_odd_content_raises_nothing(content: bytes) -> None:
        me = this_process()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(owners, "_read", lambda path: content)
            assert life_of(me) in Life
            assert this_process().pid == me.pid

    @pytest.mark.parametrize("fields", range(22))
    def test_what_is_cut_short_is_no_death(proc: dict[str, bytes], fields: int) -> None:
        proc["/proc/77/stat"] = b" ".join([b"?", *stat().split()[1:fields]])
        assert life_of(OURS) is Life.UNKNOWN

    def test_what_may_not_be_looked_at_lives(
        proc: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """With hidepid another user's process has no entry, and yet it runs."""

        def refuse(pid: int, number: int) -> None:
            raise PermissionError

        del proc["/proc/77/stat"]
        monkeypatch.setattr(os, "kill", refuse)
        assert life_of(OURS) is Life.ALIVE

    def test_a_shortage_of_descriptors_kills_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
        me, opens = this_process(), os.open

        def refuse(path: str, flags: int) -> int:
            if path.endswith("stat"):
                raise OSError(24, "Too many open files")
            return opens(path, flags)

        monkeypatch.setattr(os, "open", refuse)
        assert life_of(me) is Life.ALIVE
        assert life_of(me._replace(pid=2**22 + 1)) is Life.DEAD
        assert this_process() == Owner(me.pid, 0, me.boot, 0)

    def test_one_that_ends_while_it_is_read_is_asked_for_again(
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        def vanish(file: int, length: int) -> bytes:
            raise ProcessLookupError

        monkeypatch.setattr(os, "read", vanish)
        assert owners._read("/proc/self/stat") == b""

    def test_no_namespace_is_known_where_proc_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
        def missing(path: str) -> str:
            raise FileNotFoundError

        monkeypatch.setattr(os, "readlink", missing)
        assert owners._namespace() == 0


def test_nothing_is_left_open() -> None:
    me = this_process()

    def opened() -> set[tuple[str, int]]:
        return {(each.path, each.fd) for each in psutil.Process().open_files()}

    before = opened()
    for _ in range(100):
        life_of(me)
        life_of(me._replace(pid=2**22 + 1))
    assert opened() == before


def test_the_import_costs_no_psutil_on_linux() -> None:
    code = (
        "import sys\nfrom asgi_errorkit.spool import directory, owner\n"
        "owner.life_of(owner.this_process())\n"
        "assert not owner._LINUX or not {'psutil', 'tempfile'} & sys.modules.keys()"
    )
    assert run(code) == []
