"""Segments lie where nobody else can write, whatever is done to the path, and never half made."""

import errno
import os
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from asgi_errorkit.spool import directory as directories
from asgi_errorkit.spool import mounts
from asgi_errorkit.spool.directory import (
    MOST_BYTES,
    NewFile,
    SpoolDirectory,
    SpoolError,
    choose_directory,
    served_directory,
)
from asgi_errorkit.spool.owner import Life, Owner, life_of, this_process

NOBODY = 65534
IS_ROOT = hasattr(os, "geteuid") and os.geteuid() == 0
NAME = "segment-1.ek"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "spool"


@pytest.fixture(params=["descriptor", "path"] if directories._OPENS_DIRECTORIES else ["path"])
def each_way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a descriptor, and by the path alone, as on Windows."""
    monkeypatch.setattr(directories, "_OPENS_DIRECTORIES", request.param == "descriptor")


@pytest.fixture
def spool(path: Path, each_way: None) -> Iterator[SpoolDirectory]:
    with closing(SpoolDirectory.open(path)) as opened:
        yield opened


@pytest.fixture(autouse=True)
def nothing_is_left_open() -> Iterator[None]:
    """Each test, whatever it is refused, ends with the descriptors that it began with."""
    process = psutil.Process()
    count = getattr(process, "num_fds", None) or process.num_handles
    before = count()
    yield
    assert count() <= before or not hasattr(process, "num_fds")


def put(spool: SpoolDirectory, name: str, content: bytes = b"x") -> None:
    made = spool.create(len(content))
    os.write(made.file, content)
    os.close(made.file)
    spool.publish(made.temporary, name)


@contextmanager
def closing_file(file: int) -> Iterator[int]:
    try:
        yield file
    finally:
        os.close(file)


def discard(made: NewFile) -> None:
    os.close(made.file)


def test_a_file_is_made_published_read_and_removed(spool: SpoolDirectory, path: Path) -> None:
    made = spool.create(5000)
    assert spool.names() == []
    assert os.read(made.file, 10_000) == bytes(5000)
    os.lseek(made.file, 0, os.SEEK_SET)
    os.write(made.file, b"hello")
    os.close(made.file)
    spool.publish(made.temporary, NAME)
    assert spool.names() == [NAME] == [each.name for each in path.iterdir()]
    assert spool.read(NAME) == b"hello" + bytes(4995)
    spool.remove(NAME)
    spool.remove(NAME)
    assert list(path.iterdir()) == []


def test_publishing_takes_the_place_of_what_was_there(spool: SpoolDirectory) -> None:
    """A reader finds the one or the other, whole."""
    put(spool, NAME, b"one")
    file = spool.open_for_reading(NAME)
    put(spool, NAME, b"another")
    assert os.read(file, 100) == b"one"
    os.close(file)
    assert spool.read(NAME) == b"another"


def test_one_of_two_claims_succeeds(spool: SpoolDirectory) -> None:
    """The other is told by FileNotFoundError, which is no complaint about the directory."""
    put(spool, NAME)
    spool.rename(NAME, "claimed-1.ek")
    with pytest.raises(FileNotFoundError) as caught:
        spool.rename(NAME, "claimed-2.ek")
    assert not isinstance(caught.value, SpoolError)
    assert spool.names() == ["claimed-1.ek"]


def test_what_is_gone_is_told_from_what_is_wrong(spool: SpoolDirectory) -> None:
    for attempt in (spool.read, spool.open_for_reading):
        with pytest.raises(FileNotFoundError) as caught:
            attempt(NAME)
        assert not isinstance(caught.value, SpoolError)
    made = spool.create(1)
    discard(made)
    spool.remove(made.temporary)
    with pytest.raises(SpoolError, match="is gone") as refused:
        spool.publish(made.temporary, NAME)
    assert refused.value.errno == errno.ENOENT


def test_only_our_names_are_listed(spool: SpoolDirectory, path: Path) -> None:
    put(spool, "b-2.ek")
    put(spool, "a-1.ek")
    discard(spool.create(1))
    for alien in ("README", "a.ek.bak", ".a.ek", "A.ek", "a--b.ek", "-a.ek", "a.new", "x" * 150):
        (path / alien).touch()
    (path / ("x" * 126 + ".ek")).touch()
    (path / "a..ek").mkdir()
    if os.name == "posix":
        (path / os.fsdecode(b"\xff.ek")).touch()
        (path / "a\n.ek").touch()
    assert spool.names() == ["a-1.ek", "b-2.ek"]


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "../a.ek",
        "/etc/passwd",
        "a/b.ek",
        "a\0.ek",
        "a.ek\n",
        "A.ek",
        "a.new",
        "a" * 126 + ".ek",
    ],
)
def test_no_other_name_is_ever_used(spool: SpoolDirectory, name: str) -> None:
    made = spool.create(1)
    discard(made)
    attempts: list[Callable[[], object]] = [
        lambda: spool.publish(made.temporary, name),
        lambda: spool.publish(name, NAME),
        lambda: spool.publish(NAME, NAME),
        lambda: spool.rename(name, NAME),
        lambda: spool.rename(NAME, name),
        lambda: spool.remove(name),
        lambda: spool.open_for_reading(name),
        lambda: spool.read(name),
    ]
    for attempt in attempts:
        with pytest.raises(ValueError, match="name must be"):
            attempt()


def test_the_longest_key_of_an_owner_may_stand_in_a_name(spool: SpoolDirectory) -> None:
    owner = Owner(2**31 - 1, 10**18, "0123abcd", 2**64 - 1)
    assert Owner.parse(owner.key) == owner
    put(spool, f"segment-{owner.key}-0.ek")
    assert spool.names() == [f"segment-{owner.key}-0.ek"]


@pytest.mark.parametrize("size", [0, -1, MOST_BYTES + 1])
def test_a_size_that_makes_no_sense_is_refused(spool: SpoolDirectory, size: int) -> None:
    with pytest.raises(ValueError, match="size must be"):
        spool.create(size)


def test_what_is_larger_than_ours_is_not_read(spool: SpoolDirectory, path: Path) -> None:
    put(spool, NAME)
    os.truncate(path / NAME, MOST_BYTES)
    assert len(spool.read(NAME)) == MOST_BYTES
    os.truncate(path / NAME, MOST_BYTES + 1)
    with pytest.raises(SpoolError, match=f"{MOST_BYTES + 1} bytes"):
        spool.read(NAME)


def test_what_grows_while_it_is_read_is_read_so_far(spool: SpoolDirectory, path: Path) -> None:
    put(spool, NAME)
    with closing_file(spool.open_for_reading(NAME)) as file:
        os.truncate(path / NAME, 2 * MOST_BYTES)
        assert len(directories._all_of(file)) == MOST_BYTES


def test_what_is_cut_short_is_read_as_it_is(spool: SpoolDirectory, path: Path) -> None:
    put(spool, NAME, b"segment")
    os.truncate(path / NAME, 3)
    assert spool.read(NAME) == b"seg"
    os.truncate(path / NAME, 0)
    assert spool.read(NAME) == b""


def test_a_directory_named_as_a_file_is_refused(spool: SpoolDirectory, path: Path) -> None:
    (path / NAME).mkdir()
    with pytest.raises(SpoolError):
        spool.read(NAME)
    with pytest.raises(SpoolError):
        spool.remove(NAME)


def test_the_temporary_files_of_the_dead_are_swept(spool: SpoolDirectory, path: Path) -> None:
    """Those of the living, what is published and what is alien stay."""
    mine = spool.create(1)
    discard(mine)
    put(spool, NAME)
    (path / "alien.new").touch()
    (path / "1-1-0123abcd-0.0123456.new").touch()
    me = this_process()
    for dead in (me._replace(start=me.start - 1), me._replace(pid=2**22 + 1)):
        (path / f"{dead.key}.0123abcd.new").touch()
    left = {mine.temporary, NAME, "alien.new", "1-1-0123abcd-0.0123456.new"}
    assert spool.sweep(life_of, 0.0) == 2
    assert {each.name for each in path.iterdir()} == left
    assert spool.sweep(life_of, 0.0) == 0


def test_what_another_has_swept_meanwhile_is_no_error(spool: SpoolDirectory, path: Path) -> None:
    made = spool.create(1)
    discard(made)

    def sweep_first(owner: Owner) -> Life:
        (path / made.temporary).unlink()
        return Life.DEAD if owner == this_process() else Life.ALIVE

    assert spool.sweep(sweep_first, 0.0) == 1


def test_when_a_file_was_renamed_is_known_until_it_is_gone(
    spool: SpoolDirectory, path: Path
) -> None:
    put(spool, NAME)
    os.utime(path / NAME, (1000.0, 1000.0))
    before = time.time() - 60.0
    spool.rename(NAME, "b.ek")
    assert spool.changed_at(NAME) is None
    assert (spool.changed_at("b.ek") or 0.0) > before
    with pytest.raises(ValueError, match="a name must be"):
        spool.changed_at("../b.ek")


def test_other_paths_may_lead_to_it(
    spool: SpoolDirectory, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(path.parent)
    assert all(map(spool.is_at, (path, "spool", f"{path}/../spool")))
    assert not any(map(spool.is_at, (path.parent, "other", "", "~nobody-at-all/spool")))


MOUNTS = """\
22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 {device} / /mnt/a\\040b rw,relatime shared:1 master:2 - {kind} server:/x rw,vers=4 - odd
28 27 7:7
"""


@pytest.mark.parametrize("kind", ["nfs", "nfs4", "cifs", "smb3", "fuse.sshfs", "ceph"])
def test_a_directory_that_machines_share_is_refused(
    path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody there can say whose process lives: that of another machine would be claimed."""
    path.mkdir(mode=0o700)
    told_by(monkeypatch, path, kind)
    with pytest.raises(SpoolError, match=rf"other machines may share \({kind}\).*name a directory"):
        SpoolDirectory.open(path)


@pytest.mark.parametrize("kind", ["ext4", "tmpfs", "overlay", "9p", "fuse", "fuse.gocryptfs"])
def test_a_directory_of_this_machine_is_not(
    path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path.mkdir(mode=0o700)
    told_by(monkeypatch, path, kind)
    SpoolDirectory.open(path).close()


@pytest.mark.parametrize("text", [b"", b"\xff - - -\n- \n - nfs", None])
def test_where_no_mounts_are_told_of_none_is_refused(
    path: Path, text: bytes | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = path.with_name("mounts")
    if text is not None:
        told.write_bytes(text)
    monkeypatch.setattr(mounts, "_MOUNTS", told)
    SpoolDirectory.open(path).close()


def told_by(monkeypatch: pytest.MonkeyPatch, path: Path, kind: str) -> None:
    device = path.stat().st_dev
    text = MOUNTS.format(device=f"{os.major(device)}:{os.minor(device)}", kind=kind)
    told = path.with_name("mounts")
    told.write_text(text)
    monkeypatch.setattr(mounts, "_MOUNTS", told)


def test_of_those_of_whom_nobody_can_say_what_is_an_hour_old_is_swept(
    spool: SpoolDirectory, path: Path
) -> None:
    """Such as those of another container, which would pile up; who lives makes a file at once."""
    made = spool.create(1)
    discard(made)
    os.utime(path / made.temporary, (1000.0, 1000.0))
    for life, now in ((Life.UNKNOWN, 4600.0), (Life.ALIVE, 9000.0)):
        assert spool.sweep(lambda _, life=life: life, now) == 0  # type: ignore[misc]

    def sweep_first(_: Owner) -> Life:
        (path / made.temporary).unlink()
        return Life.UNKNOWN

    assert spool.sweep(lambda _: Life.UNKNOWN, 4600.5) == 1
    put(spool, NAME)
    discard(made := spool.create(1))
    assert spool.sweep(sweep_first, 9e9) == 0  # another was faster


def test_what_is_missing_is_made(tmp_path: Path, each_way: None) -> None:
    with closing(SpoolDirectory.open(tmp_path / "a" / "b" / "c")) as spool:
        put(spool, NAME)
    with closing(SpoolDirectory.open(str(tmp_path / "a" / "b" / "c"))) as spool:
        assert spool.names() == [NAME]


def test_a_relative_path_is_from_where_it_was_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, each_way: None
) -> None:
    """An application that changes its working directory later changes nothing here."""
    monkeypatch.chdir(tmp_path)
    with closing(SpoolDirectory.open("spool")) as spool:
        monkeypatch.chdir("/")
        put(spool, NAME)
        assert spool.path == tmp_path / "spool"
    assert (tmp_path / "spool" / NAME).exists()


def test_a_tilde_is_a_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, each_way: None) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    with closing(SpoolDirectory.open("~/spool")) as spool:
        assert spool.path == tmp_path / "spool"


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("", "must have a name"),
        ("a\0b", "must have a name"),
        ("~nobody-of-that-name/x", "names no home"),
        ("/dev/null/x", "is no directory"),
        ("/dev/null", "is no directory"),
        ("/tmp/" + "x" * 300, "name another directory"),
    ],
)
def test_a_path_that_cannot_be_is_refused(each_way: None, given: str, says: str) -> None:
    with pytest.raises(SpoolError, match=says):
        SpoolDirectory.open(given)


def test_after_it_is_closed_everything_is_refused(path: Path) -> None:
    """Even when its descriptor is somebody else's by then."""
    spool = SpoolDirectory.open(path)
    put(spool, NAME)
    spool.close()
    spool.close()
    if directories._OPENS_DIRECTORIES:
        for attempt in (spool.names, lambda: spool.create(1), lambda: spool.read(NAME)):
            with pytest.raises(SpoolError):
                attempt()


def test_the_zeros_are_written_where_they_cannot_be_allocated(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on macOS, and on file systems that know no fallocate: nothing is sparse there either."""

    def refuse(file: int, start: int, length: int) -> None:
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    write = os.write
    with closing(SpoolDirectory.open(path)) as spool:
        monkeypatch.setattr(os, "posix_fallocate", refuse, raising=False)
        monkeypatch.setattr(os, "write", lambda file, part: write(file, part[:70_001]))
        check_is_not_sparse(spool, path)
        monkeypatch.delattr(os, "posix_fallocate")
        check_is_not_sparse(spool, path)


def check_is_not_sparse(spool: SpoolDirectory, path: Path) -> None:
    size = directories._CHUNK * 2 + 17
    with closing_file(spool.create(size).file) as file:
        about = os.fstat(file)
        assert about.st_size == size
        assert getattr(about, "st_blocks", size) * 512 >= size
        assert os.read(file, size + 1) == bytes(size)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO])
def test_what_cannot_be_filled_is_removed(
    spool: SpoolDirectory, path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def refuse(*_: object) -> int:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "posix_fallocate", refuse, raising=False)
    with pytest.raises(SpoolError) as caught:
        spool.create(4096)
    assert caught.value.errno == code
    assert str(caught.value).startswith(str(path))
    assert list(path.iterdir()) == []


def test_an_interrupt_leaves_nothing_behind(
    spool: SpoolDirectory, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(directories, "_fill", interrupt)
    with pytest.raises(KeyboardInterrupt):
        spool.create(4096)
    assert list(path.iterdir()) == []


def test_it_works_with_what_windows_has(path: Path) -> None:
    """Nothing that only POSIX knows is needed, neither by the import nor by what is done then."""
    code = """
import hashlib, os, pathlib, psutil, sys, tempfile
user = os.stat(tempfile.gettempdir()).st_uid if os.name == "nt" else os.geteuid()
for name in "O_NOFOLLOW O_DIRECTORY O_CLOEXEC O_NONBLOCK geteuid posix_fallocate pread".split():
    if hasattr(os, name):
        delattr(os, name)
os.supports_dir_fd = set()
sys.platform = "win32"
from asgi_errorkit.spool import directory, owner
assert not owner._LINUX and not directory._OPENS_DIRECTORIES
directory._user = lambda: user
spool = directory.SpoolDirectory.open(sys.argv[1])
made = spool.create(10)
os.close(made.file)
spool.publish(made.temporary, "a.ek")
spool.rename("a.ek", "b.ek")
assert spool.read("b.ek") == bytes(10) and spool.names() == ["b.ek"]
os.close(spool.create(1).file)
assert spool.sweep(owner.life_of, 0.0) == 0
assert spool.sweep(lambda _: owner.Life.DEAD, 0.0) == 1
spool.remove("b.ek")
spool.close()
assert directory.choose_directory("app").name == f"asgi-errorkit-{user}-app"
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, str(path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert list(path.iterdir()) == []


# Where to put it unless somebody says.


@pytest.fixture
def bases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Three directories, the first to be chosen first."""
    made = [tmp_path / name for name in ("runtime", "shm", "tmp")]
    for each in made:
        each.mkdir()
    monkeypatch.setattr(directories, "_bases", lambda: iter(made))
    return made


def test_the_first_base_that_will_do_is_chosen(bases: list[Path]) -> None:
    assert choose_directory("app").parent == bases[0]
    bases[0].rmdir()
    assert choose_directory("app").parent == bases[1]
    bases[1].rmdir()
    bases[1].touch()
    assert choose_directory("app").parent == bases[2]
    bases[2].rmdir()
    with pytest.raises(SpoolError, match="ASGI_ERRORKIT_DIR"):
        choose_directory("app")


def test_the_choice_is_the_same_once_it_is_made(bases: list[Path]) -> None:
    chosen = choose_directory("main:app")
    assert not chosen.exists()
    with closing(SpoolDirectory.open(chosen)) as spool:
        put(spool, NAME)
        assert choose_directory("main:app") == chosen


def test_a_name_that_somebody_has_taken_is_passed_by(bases: list[Path]) -> None:
    """In /tmp anybody can take a name, so that we would be refused there."""
    chosen = choose_directory("app")
    chosen.touch()
    assert choose_directory("app").parent == bases[1]


def test_apps_of_different_names_have_different_directories(bases: list[Path]) -> None:
    names = ["main:app", "main-app", "main/app", "main app", "", "-", "é", "x" * 48, "x" * 49]
    names += ["x" * 500, "\ud800", "../../etc", "."]
    chosen = [choose_directory(name) for name in names]
    assert len({each.name for each in chosen}) == len(names)
    assert {each.parent for each in chosen} == {bases[0]}
    assert all(len(each.name) < 100 and each.name.isascii() for each in chosen)


def test_the_bases_of_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The runtime directory is the first, if it is absolute and ours."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    rest = [Path("/dev/shm"), tmp_path]
    (tmp_path / "run").mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    assert list(directories._bases()) == [tmp_path / "run", *rest]
    for refused in (str(tmp_path / "gone"), "relative", ""):
        monkeypatch.setenv("XDG_RUNTIME_DIR", refused)
        assert list(directories._bases()) == rest
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    assert list(directories._bases()) == rest


def test_no_directory_for_temporary_files(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> str:
        raise FileNotFoundError

    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.setattr(tempfile, "gettempdir", missing)
    assert list(directories._bases()) == [Path("/dev/shm")]


if directories._OPENS_DIRECTORIES:  # what Windows knows nothing of

    @pytest.fixture
    def opened(path: Path) -> Iterator[SpoolDirectory]:
        with closing(SpoolDirectory.open(path)) as opened:
            yield opened

    @pytest.fixture
    def loose_umask() -> Iterator[None]:
        before = os.umask(0)
        yield
        os.umask(before)

    def test_what_is_made_is_for_this_user_alone(tmp_path: Path, loose_umask: None) -> None:
        """Whatever the umask: a server may run with none."""
        with closing(SpoolDirectory.open(tmp_path / "a" / "b")) as spool:
            made = spool.create(1)
            assert stat.S_IMODE(os.fstat(made.file).st_mode) == 0o600
            discard(made)
        assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o700
        assert stat.S_IMODE((tmp_path / "a" / "b").stat().st_mode) == 0o700

    def test_no_program_that_is_started_inherits_a_file(opened: SpoolDirectory) -> None:
        put(opened, NAME)
        made, file = opened.create(1), opened.open_for_reading(NAME)
        assert opened._at is not None
        assert not any(map(os.get_inheritable, (opened._at, made.file, file)))
        discard(made)
        os.close(file)

    @pytest.mark.parametrize("mode", [0o777, 0o1777])
    def test_nobody_is_told_to_close_what_others_use(path: Path, mode: int) -> None:
        """As /tmp is: a directory of its own is what is wanted."""
        path.mkdir()
        if mode == 0o777:
            (path / "notes.txt").touch()
        path.chmod(mode)
        with pytest.raises(SpoolError, match=f"such as {path}/errorkit$"):
            SpoolDirectory.open(path)
        assert stat.S_IMODE(path.stat().st_mode) == mode

    @pytest.mark.parametrize("mode", [0o777, 0o770, 0o750, 0o701, 0o720])
    def test_a_directory_that_is_open_to_others_is_refused(path: Path, mode: int) -> None:
        path.mkdir()
        path.chmod(mode)
        with pytest.raises(SpoolError, match=f"chmod 700 {path}"):
            SpoolDirectory.open(path)

    def test_a_directory_of_another_user_is_refused(
        path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path.mkdir(0o700)
        become_foreign(path, monkeypatch)
        with pytest.raises(SpoolError, match=f"belongs to user .*chown .* {path}"):
            SpoolDirectory.open(path)

    def test_a_file_of_another_user_is_not_read(
        opened: SpoolDirectory, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        put(opened, NAME)
        become_foreign(path / NAME, monkeypatch)
        with pytest.raises(SpoolError, match="belongs to user"):
            opened.read(NAME)

    def test_a_directory_that_another_user_has_made_is_not_chosen(
        bases: list[Path], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        chosen = choose_directory("app")
        chosen.mkdir()
        if IS_ROOT:
            os.chown(chosen, NOBODY, NOBODY)
        else:
            monkeypatch.setattr(directories, "_is_ours", lambda path: path != chosen)
        assert choose_directory("app").parent == bases[1]

    def test_a_runtime_directory_of_another_user_is_not_chosen(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As sudo leaves it behind."""
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
        become_foreign(tmp_path, monkeypatch)
        assert tmp_path not in list(directories._bases())

    def become_foreign(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        if IS_ROOT:
            os.chown(path, NOBODY, NOBODY)
        else:
            monkeypatch.setattr(os, "geteuid", lambda: path.lstat().st_uid + 1)

    def test_a_link_in_the_place_of_the_directory_is_refused(tmp_path: Path, path: Path) -> None:
        (tmp_path / "theirs").mkdir(0o700)
        path.symlink_to(tmp_path / "theirs")
        with pytest.raises(SpoolError, match="symbolic link"):
            SpoolDirectory.open(path)
        path.unlink()
        path.symlink_to(tmp_path / "nowhere")
        with pytest.raises(SpoolError, match="symbolic link"):
            SpoolDirectory.open(path)

    def test_a_link_above_the_directory_is_followed(tmp_path: Path) -> None:
        """As /var/run is one to /run."""
        (tmp_path / "real").mkdir()
        (tmp_path / "link").symlink_to(tmp_path / "real")
        SpoolDirectory.open(tmp_path / "link" / "spool").close()
        assert (tmp_path / "real" / "spool").is_dir()

    def test_a_link_above_it_that_leads_nowhere_is_refused(tmp_path: Path) -> None:
        (tmp_path / "link").symlink_to(tmp_path / "nowhere")
        with pytest.raises(SpoolError):
            SpoolDirectory.open(tmp_path / "link" / "spool")

    def test_a_link_in_the_place_of_a_file_is_not_followed(
        opened: SpoolDirectory, tmp_path: Path, path: Path
    ) -> None:
        """Neither read, nor written to by what is published over it, nor removed with it."""
        secret = tmp_path / "secret"
        secret.write_bytes(b"secret")
        (path / NAME).symlink_to(secret)
        with pytest.raises(SpoolError, match="symbolic link"):
            opened.read(NAME)
        put(opened, NAME, b"ours")
        assert opened.read(NAME) == b"ours"
        (path / "b.ek").symlink_to(secret)
        opened.remove("b.ek")
        assert secret.read_bytes() == b"secret"

    def test_a_link_where_a_file_is_to_be_made_is_not_followed(
        opened: SpoolDirectory, tmp_path: Path, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(os, "urandom", bytes)
        (path / f"{this_process().key}.00000000.new").symlink_to(tmp_path / "elsewhere")
        with pytest.raises(SpoolError) as caught:
            opened.create(1)
        assert caught.value.errno == errno.EEXIST
        assert not (tmp_path / "elsewhere").exists()

    def test_a_swapped_path_does_not_matter(
        opened: SpoolDirectory, tmp_path: Path, path: Path
    ) -> None:
        """Who may write above it can put a directory of theirs in its place: we stay in ours."""
        put(opened, NAME, b"ours")
        path.rename(tmp_path / "moved")
        path.mkdir(0o777)
        (path / NAME).write_bytes(b"theirs")
        assert opened.read(NAME) == b"ours"
        put(opened, "b.ek")
        opened.rename("b.ek", "c.ek")
        assert opened.names() == ["c.ek", NAME]
        opened.remove(NAME)
        assert [each.name for each in path.iterdir()] == [NAME]
        assert [each.name for each in (tmp_path / "moved").iterdir()] == ["c.ek"]

    def test_a_directory_that_is_removed_is_told_of(opened: SpoolDirectory, path: Path) -> None:
        path.rmdir()
        with pytest.raises(SpoolError, match="is gone"):
            opened.create(1)
        assert opened.names() == []

    @pytest.mark.timeout(20)
    def test_a_fifo_holds_nobody(opened: SpoolDirectory, path: Path) -> None:
        """It is refused at once, though nobody ever opens its other end."""
        os.mkfifo(path / NAME, 0o600)
        with pytest.raises(SpoolError, match="no regular file"):
            opened.read(NAME)

    def test_a_socket_is_refused(
        opened: SpoolDirectory, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(path)  # its whole path may be too long
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(NAME)
            with pytest.raises(SpoolError, match="no regular file"):
                opened.read(NAME)

    def test_a_working_directory_that_is_gone_is_told_of(
        path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path.mkdir()
        monkeypatch.chdir(path)
        path.rmdir()
        with pytest.raises(SpoolError, match="working directory is gone"):
            SpoolDirectory.open("spool")
        with pytest.raises(SpoolError, match="working directory is gone: go to another"):
            served_directory("main:app")

    def test_a_directory_that_may_not_be_written_to_is_told_of() -> None:
        """Its files are read as ever. Root may write anywhere, and is somebody else here."""
        with ExitStack() as after:
            path = Path(after.enter_context(tempfile.TemporaryDirectory()))
            if IS_ROOT:
                os.chown(path, NOBODY, NOBODY)
                after.callback(os.seteuid, 0)
                os.seteuid(NOBODY)
            spool = after.enter_context(closing(SpoolDirectory.open(path)))
            put(spool, NAME, b"there")
            path.chmod(0o500)
            after.callback(path.chmod, 0o700)
            for attempt in (lambda: spool.create(1), lambda: spool.remove(NAME)):
                with pytest.raises(SpoolError, match="may not be used by this user"):
                    attempt()
            assert spool.read(NAME) == b"there"

    def test_where_nothing_can_be_made_is_told_of() -> None:
        with ExitStack() as after:
            path = Path(after.enter_context(tempfile.TemporaryDirectory()))
            path.chmod(0o500)
            if IS_ROOT:
                os.chown(path, NOBODY, NOBODY)
                after.callback(os.seteuid, 0)
                os.seteuid(NOBODY)
            with pytest.raises(SpoolError, match="may not be used by this user"):
                SpoolDirectory.open(path / "a" / "b")
            if IS_ROOT:
                os.seteuid(0)
            path.chmod(0o700)

    @pytest.fixture
    def small_disk(path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
        """A directory with room for 64 KiB: a disk of its own, or, where none may be mounted, told so."""
        path.mkdir(0o700)
        mount = ["mount", "-t", "tmpfs", "-o", "size=64k,mode=0700", "none", str(path)]
        is_mounted = False
        with suppress(OSError):
            is_mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
        if not is_mounted:
            monkeypatch.setattr(os, "posix_fallocate", allocating(path), raising=False)
        yield path
        if is_mounted:
            subprocess.run(["umount", str(path)], check=True)

    def allocating(path: Path) -> Callable[[int, int, int], None]:
        def allocate(file: int, start: int, length: int) -> None:
            if length + sum(each.stat().st_size for each in path.iterdir()) > 65536:
                raise OSError(errno.ENOSPC, "No space left on device")
            os.truncate(file, length)

        return allocate

    def test_a_full_disk_is_told_of_and_left_as_it_was(small_disk: Path) -> None:
        """No file that nobody could write to, and no SIGBUS for who tries: it is refused at once."""
        with closing(SpoolDirectory.open(small_disk)) as spool:
            put(spool, NAME, bytes(32768))
            with pytest.raises(SpoolError, match="is full: make room") as caught:
                spool.create(65536)
            assert caught.value.errno == errno.ENOSPC
            assert [each.name for each in small_disk.iterdir()] == [NAME]
            put(spool, "b.ek", bytes(16384))
            assert len(spool.read("b.ek")) == 16384

    def run(code: str, path: Path) -> str:
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", code, str(path)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    START = "import os, sys\nfrom asgi_errorkit.spool.directory import *\n"

    def test_a_limit_of_file_size_is_told_of(path: Path) -> None:
        """It would otherwise be a signal."""
        code = f"""{START}
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
spool = SpoolDirectory.open(sys.argv[1])
os.close(spool.create(4096).file)
try:
    spool.create(8192)
except SpoolError as error:
    print(error)
print(len(os.listdir(sys.argv[1])))
"""
        told, left = run(code, path).splitlines()
        assert "raise the limit (ulimit -f)" in told
        assert left == "1"

    def test_no_descriptors_are_left(path: Path) -> None:
        code = f"""{START}
import resource
spool = SpoolDirectory.open(sys.argv[1])
resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))
for attempt in (spool.names, lambda: spool.create(1), lambda: SpoolDirectory.open(sys.argv[1])):
    try:
        attempt()
    except SpoolError as error:
        assert "no descriptors are left" in str(error), error
"""
        run(code, path)

    def test_forked_children_list_all_of_it_side_by_side(path: Path) -> None:
        """They share the parent's descriptor, and must not share how far a listing has come."""
        code = f"""{START}
spool = SpoolDirectory.open(sys.argv[1])
names = [f"segment-{{number:04}}.ek" for number in range(1500)]
for name in names:
    os.close(os.open(os.path.join(sys.argv[1], name), os.O_CREAT | os.O_WRONLY))
children = []
for _ in range(3):
    pid = os.fork()
    if not pid:
        os._exit(0 if all(spool.names() == names for _ in range(60)) else 1)
    children.append(pid)
for pid in children:
    assert os.waitpid(pid, 0)[1] == 0
"""
        run(code, path)

    def test_forked_children_make_files_of_their_own(path: Path) -> None:
        """What a child had not published when it was killed is swept, the parent's is not."""
        code = f"""{START}
import signal
from asgi_errorkit.spool.owner import life_of
spool = SpoolDirectory.open(sys.argv[1])
mine = spool.create(1)
for _ in range(3):
    pid = os.fork()
    if not pid:
        spool.create(1)
        spool.publish(spool.create(1).temporary, f"segment-{{os.getpid()}}.ek")
        os.kill(os.getpid(), signal.SIGKILL)
    assert os.waitpid(pid, 0)[1] == signal.SIGKILL
assert len(os.listdir(sys.argv[1])) == 7
assert spool.sweep(life_of, 0.0) == 3
assert len(spool.names()) == 3
assert mine.temporary in os.listdir(sys.argv[1])
"""
        run(code, path)

    def test_many_claim_and_one_succeeds(path: Path) -> None:
        code = f"""{START}
spool = SpoolDirectory.open(sys.argv[1])
for round in range(30):
    made = spool.create(1)
    os.close(made.file)
    spool.publish(made.temporary, "segment.ek")
    children = []
    for number in range(4):
        pid = os.fork()
        if not pid:
            try:
                spool.rename("segment.ek", f"claimed-{{round}}-{{number}}.ek")
            except FileNotFoundError:
                os._exit(1)
            os._exit(0)
        children.append(pid)
    results = sorted(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children)
    assert results == [0, 1, 1, 1], results
"""
        run(code, path)
