"""Where the segments lie: a directory that nobody else can write to, whatever becomes of its path."""

import errno
import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from asgi_errorkit.options import check_whole
from asgi_errorkit.spool.mounts import shared_type
from asgi_errorkit.spool.owner import Life, Owner, this_process

__all__ = [
    "MOST_BYTES",
    "NewFile",
    "SpoolDirectory",
    "SpoolError",
    "choose_directory",
    "served_directory",
]

MOST_BYTES = 16 * 1024 * 1024
"""No file here is larger; what is larger is not ours."""

_NAME = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*\.ek")
_TEMPORARY = re.compile(r"([0-9a-f-]+)\.[0-9a-f]{8}\.new")
_MOST_NAME = 128
_LOCK = re.compile(r"[a-z]+\.lock")
_STALE_SECONDS = 3600.0  # to make a file takes milliseconds

_LABEL = 48
_DIGEST = 12

_CHUNK = 256 * 1024
_CLOSED = -1  # no descriptor: whatever is asked of it fails

# Windows has none of these but the last, which it needs so that no byte is translated.
_ALWAYS = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
_DIRECTORY = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | _ALWAYS
_CREATE = os.O_RDWR | os.O_CREAT | os.O_EXCL | _ALWAYS
# A FIFO that has no writer would hold its reader for ever.
_READ = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | _ALWAYS
_OPENS_DIRECTORIES = hasattr(os, "O_DIRECTORY") and os.open in os.supports_dir_fd

_NO_FALLOCATE = frozenset((errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL))

_FULL = "is full: make room there, or name another directory"
_FORBIDDEN = "may not be used by this user: give it to them (chown), or name another directory"
_NO_DESCRIPTORS = "cannot be opened: no descriptors are left, raise their limit (ulimit -n)"
_ADVICE: Mapping[int | None, str] = MappingProxyType(
    {
        errno.EACCES: _FORBIDDEN,
        errno.EDQUOT: _FULL,
        errno.EFBIG: "may hold no file of that size: raise the limit (ulimit -f)",
        errno.ELOOP: "is a symbolic link, and none is followed: remove it, or name what it leads to",
        errno.EMFILE: _NO_DESCRIPTORS,
        errno.ENFILE: _NO_DESCRIPTORS,
        errno.ENOENT: "is gone, or cannot be made: start again, or name another directory",
        errno.ENOSPC: _FULL,
        errno.ENOTDIR: "is no directory, or a symbolic link to one: name the directory itself",
        errno.ENXIO: "is no regular file: remove it",
        errno.EPERM: _FORBIDDEN,
        errno.EROFS: "is read-only: mount it so that it can be written, or name another directory",
    }
)


class SpoolError(OSError):
    """The directory, or a file in it, cannot serve. The message says what to do about it.

    ``errno`` is the system's reason, None where the refusal is our own.
    """

    def __init__(self, message: str, code: int | None = None) -> None:
        super().__init__(message)
        self.errno = code


class NewFile(NamedTuple):
    """A file that nobody knows of yet: open for reading and writing, full of zeros."""

    file: int
    temporary: str


def choose_directory(app_name: str) -> Path:
    """Where the segments of an app lie unless somebody says: the same for each of its processes.

    It may not exist yet; `SpoolDirectory.open` makes it. It lies in ``$XDG_RUNTIME_DIR``,
    ``/dev/shm`` or the directory for temporary files, the first that will do. Raises SpoolError when
    none does.
    """
    name = _private_name(app_name)
    for base in _bases():
        if _is_free(base, name):
            return base / name
    raise SpoolError(
        "neither $XDG_RUNTIME_DIR, /dev/shm nor a directory for temporary files will do: name one in "
        "ASGI_ERRORKIT_DIR"
    )


def served_directory(app: str) -> Path:
    """Where `asgi-errorkit serve MODULE:APP` has its workers keep their record, if run from here.

    Raises as `choose_directory`, and where there is no working directory any more.
    """
    try:
        here = Path.cwd()
    except OSError as error:
        raise SpoolError(
            "the working directory is gone: go to another, or name the directory itself",
            error.errno,
        ) from error
    return choose_directory(f"{app} {here}")  # two projects may have apps of the same name


class SpoolDirectory:
    """A directory of this user alone, by a descriptor: its path may be swapped or go away.

    Files are made under a temporary name, which tells whose they are, and published by renaming;
    published names are ``[a-z0-9-]+.ek``, up to 128 characters, and other files are not seen.
    Whatever cannot be done raises SpoolError; a name of another shape raises ValueError. Forked
    children may go on with it, and any thread.
    """

    __slots__ = ("_at", "_prefix", "path")

    def __init__(self, path: Path, at: int | None) -> None:
        """As `open` does it; ``at`` is the descriptor, None on Windows, where the path has to do."""
        self.path = path
        self._at = at
        self._prefix = f"{path}{os.sep}" if at is None else ""

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> "SpoolDirectory":
        """Open a directory, and make it first if it is missing, and those above it.

        ``~`` is a home, and a relative path starts from the working directory. Raises SpoolError for
        a directory of another user, or that others may look into, or behind a symbolic link, or that
        other machines may share.
        """
        whole = _absolute(path)
        with _explained(whole):
            return cls(whole, _opened(whole))

    def is_at(self, path: str | os.PathLike[str]) -> bool:
        """Whether this path leads here too, whatever links it goes by."""
        try:
            return os.path.realpath(_absolute(path)) == os.path.realpath(self.path)
        except OSError:
            return False

    def close(self) -> None:
        """Let go of the descriptor; whatever is asked for afterwards raises SpoolError."""
        at = self._at
        if at is not None and at != _CLOSED:
            self._at = _CLOSED
            os.close(at)

    def create(self, size: int) -> NewFile:
        """Make a file of ``size`` zeros that take their room on the disk now. The caller closes it.

        A disk that is full later would kill who writes to a mapped file, with SIGBUS. Raises
        SpoolError when it is full now; nothing is left behind then.
        """
        check_whole("size", size, least=1, most=MOST_BYTES, example=4096)
        temporary = f"{this_process().key}.{os.urandom(4).hex()}.new"
        with _explained(self.path):
            file = os.open(self._prefix + temporary, _CREATE, 0o600, dir_fd=self._at)
            try:
                _fill(file, size)
            except BaseException:
                os.close(file)
                with suppress(OSError):
                    self.remove(temporary)
                raise
        return NewFile(file, temporary)

    def publish(self, temporary: str, name: str) -> None:
        """Give a file that was created its name, in the place of another of that name.

        It is not synced to the disk: it is to outlive its process, not the machine. On Windows it
        must be closed.
        """
        _check_temporary(temporary)
        _check_name(name)
        with _explained(self.path):
            self._move(temporary, name)

    def rename(self, name: str, to: str) -> None:
        """Name a file anew. Of several who do so at once one succeeds: that is how a claim is made.

        Raises FileNotFoundError for the others.
        """
        _check_name(name)
        _check_name(to)
        with _explained(self.path, may_be_gone=True):
            self._move(name, to)

    def remove(self, name: str) -> None:
        """Remove a file, published or temporary; one that is gone already is no error."""
        if not _is_temporary(name):
            _check_name(name)
        with suppress(FileNotFoundError), _explained(self.path / name, may_be_gone=True):
            os.unlink(self._prefix + name, dir_fd=self._at)

    def names(self) -> list[str]:
        """The published names, sorted."""
        return sorted(name for name in self._listed() if _is_name(name))

    def changed_at(self, name: str) -> float | None:
        """When a published file was last renamed or written, in seconds since the epoch.

        None when it is gone. What is stored into a mapped file may change nothing of it.
        """
        _check_name(name)
        about = self._about(name)
        return None if about is None else about.st_ctime

    def open_for_reading(self, name: str) -> int:
        """A descriptor of a published file, which the caller closes. Never waits.

        Raises FileNotFoundError when it is gone, SpoolError for what nobody here has made: a link, a
        FIFO, a file of another user, or one of more than `MOST_BYTES`.
        """
        _check_name(name)
        with _explained(self.path / name, may_be_gone=True):
            file = os.open(self._prefix + name, _READ, dir_fd=self._at)
            try:
                _check_file(os.fstat(file), self.path / name)
            except BaseException:
                os.close(file)
                raise
        return file

    def read(self, name: str) -> bytes:
        """All of a published file. Raises as `open_for_reading` does.

        It is not mapped: a file that is cut short meanwhile would kill the reader.
        """
        file = self.open_for_reading(name)
        try:
            with _explained(self.path / name):
                return _all_of(file)
        finally:
            os.close(file)

    def write(self, name: str, body: bytes) -> None:
        """Make a file of these bytes, in the place of another of that name: at once, or not at all."""
        made = self.create(max(1, len(body)))
        try:
            with _explained(self.path):
                _write_all(made.file, body or b" ")
        except BaseException:
            with suppress(OSError):
                self.remove(made.temporary)
            raise
        finally:
            os.close(made.file)
        self.publish(made.temporary, name)

    def lock_identity(self, name: str) -> tuple[int, int] | None:
        """The device and inode of a file that is there to be locked, such as "leader.lock"; or None.

        It is not opened: to close it again would let go of all locks of this process.
        """
        _check_lock(name)
        about = self._about(name)
        return None if about is None else (about.st_dev, about.st_ino)

    def identity(self, name: str) -> tuple[int, ...] | None:
        """What changes when a file is replaced, None where there is none."""
        _check_name(name)
        about = self._about(name)
        return None if about is None else (about.st_ino, about.st_ctime_ns, about.st_size)

    def open_lock(self, name: str) -> int:
        """A descriptor of that file, which is made if it is missing; the caller closes it."""
        _check_lock(name)
        with _explained(self.path / name):
            flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NONBLOCK", 0) | _ALWAYS
            file = os.open(self._prefix + name, flags, 0o600, dir_fd=self._at)
            try:
                _check_file(os.fstat(file), self.path / name)
            except BaseException:
                os.close(file)
                raise
        return file

    def sweep(self, life_of: Callable[[Owner], Life], now: float) -> int:
        """Remove the temporary files of those who are dead; return how many have been removed.

        Of those of whom nobody can say, what is an hour old, by ``now`` in seconds since the epoch.
        """
        stale = [name for name in self._listed() if self._is_stale(name, life_of, now)]
        for name in stale:
            self.remove(name)
        return len(stale)

    def _is_stale(self, name: str, life_of: Callable[[Owner], Life], now: float) -> bool:
        owner = _owner_of(name)
        if owner is None:
            return False
        life = life_of(owner)
        if life is not Life.UNKNOWN:
            return life is Life.DEAD
        about = self._about(name)
        return about is not None and now - about.st_mtime > _STALE_SECONDS

    def _about(self, name: str) -> os.stat_result | None:
        with suppress(FileNotFoundError), _explained(self.path / name, may_be_gone=True):
            return os.stat(self._prefix + name, dir_fd=self._at, follow_symlinks=False)
        return None

    def _move(self, name: str, to: str) -> None:
        old, new, at = self._prefix + name, self._prefix + to, self._at
        os.replace(old, new, src_dir_fd=at, dst_dir_fd=at)

    def _listed(self) -> list[str]:
        with _explained(self.path):
            if self._at is None:
                return [each.name for each in self.path.iterdir()]
            # How far a listing has come belongs to an open file, which forked children share: one
            # of them would miss what another has been told.
            own = os.open(".", _DIRECTORY, dir_fd=self._at)
            try:
                return os.listdir(own)  # noqa: PTH208  a Path knows no descriptors
            finally:
                os.close(own)


@contextmanager
def _explained(path: Path, *, may_be_gone: bool = False) -> Iterator[None]:
    """Raise SpoolError in the place of an OSError; with ``may_be_gone`` not of FileNotFoundError."""
    try:
        yield
    except SpoolError:
        raise
    except OSError as error:
        if may_be_gone and isinstance(error, FileNotFoundError):
            raise
        reason = error.strerror or error
        advice = _ADVICE.get(error.errno, f"cannot be used ({reason}): name another directory")
        raise SpoolError(f"{path} {advice}", error.errno) from error


def _absolute(path: str | os.PathLike[str]) -> Path:
    text = os.fspath(path)
    if not text or "\0" in text:
        raise SpoolError(f"a directory must have a name, e.g. /run/my-app; got {text!r:.200}")
    try:
        return Path(text).expanduser().absolute()
    except RuntimeError as error:
        raise SpoolError(f"{text} names no home that is known: write the whole path") from error
    except OSError as error:
        raise SpoolError(
            f"{text} is relative, and the working directory is gone: write the whole path"
        ) from error


def _opened(path: Path) -> int | None:
    """The directory's descriptor once it is known to be ours alone; None on Windows."""
    if not _OPENS_DIRECTORIES:
        _check_by_path(path)
        return None
    try:
        at = os.open(path, _DIRECTORY)
    except FileNotFoundError:
        _make(path)
        at = os.open(path, _DIRECTORY)
    try:
        about = os.fstat(at)
        _check_directory(about, path)
        _check_mount(about, path)
    except BaseException:
        os.close(at)
        raise
    return at


def _check_by_path(path: Path) -> None:
    if not os.path.lexists(path):
        _make(path)
    if path.is_symlink() or not path.is_dir():
        raise SpoolError(f"{path} {_ADVICE[errno.ENOTDIR]}", errno.ENOTDIR)


def _make(path: Path) -> None:
    """Make it, and what is missing above it, all for this user alone."""
    if not path.parent.exists():
        _make(path.parent)
    path.mkdir(0o700, exist_ok=True)


def _check_directory(about: os.stat_result, path: Path) -> None:
    user = _user()
    if about.st_uid != user:
        raise SpoolError(
            f"{path} belongs to user {about.st_uid}, and this is user {user}: run as that user, give "
            f"it to this one (chown {user} {path}), or name a directory that does not exist yet"
        )
    mode = stat.S_IMODE(about.st_mode)
    if mode & 0o077:
        raise SpoolError(
            f"{path} is open to other users (mode {mode:04o}): name a directory that does not exist "
            f"yet, such as {path / 'errorkit'}{_or_close(path, mode)}"
        )


def _or_close(path: Path, mode: int) -> str:
    """What else could be done, where that harms nobody: others may need what is not ours alone."""
    try:
        is_ours = all(entry.suffix == ".ek" for entry in path.iterdir())
    except OSError:
        return ""
    return f", or close this one (chmod 700 {path})" if is_ours and not mode & stat.S_ISVTX else ""


def _check_mount(about: os.stat_result, path: Path) -> None:
    kind = shared_type(about.st_dev)
    if kind is not None:
        raise SpoolError(
            f"{path} is on a file system that other machines may share ({kind}), and the life of "
            "their processes cannot be seen: name a directory of this machine, such as one in /run"
        )


def _check_file(about: os.stat_result, path: Path) -> None:
    if not stat.S_ISREG(about.st_mode):
        raise SpoolError(f"{path} {_ADVICE[errno.ENXIO]}")
    if about.st_uid != _user():
        raise SpoolError(f"{path} belongs to user {about.st_uid}: remove it")
    if about.st_size > MOST_BYTES:
        raise SpoolError(f"{path} is larger than any of ours ({about.st_size} bytes): remove it")


def _fill(file: int, size: int) -> None:
    """Have the zeros take their room; the position stays at the beginning."""
    if hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(file, 0, size)
            return
        except OSError as error:
            if error.errno not in _NO_FALLOCATE:
                raise
    zeros = memoryview(bytes(min(size, _CHUNK)))
    left = size
    while left:
        left -= os.write(file, zeros[:left])
    os.lseek(file, 0, os.SEEK_SET)


def _write_all(file: int, body: bytes) -> None:
    left = memoryview(body)
    while left:
        left = left[os.write(file, left) :]


def _all_of(file: int) -> bytes:
    # The position is nobody else's, and Windows has no pread.
    chunks, left = [], MOST_BYTES
    while left and (chunk := os.read(file, min(left, _CHUNK))):
        chunks.append(chunk)
        left -= len(chunk)
    return b"".join(chunks)


def _is_name(name: str) -> bool:
    return len(name) <= _MOST_NAME and _NAME.fullmatch(name) is not None


def _is_temporary(name: str) -> bool:
    return _owner_of(name) is not None


def _owner_of(temporary: str) -> Owner | None:
    found = _TEMPORARY.fullmatch(temporary)
    return Owner.parse(found[1]) if found else None


def _check_name(name: str) -> None:
    if not _is_name(name):
        raise ValueError(
            f"a name must be of {_MOST_NAME} characters [a-z0-9-] at most that end in .ek, e.g. "
            f"'segment-7.ek'; got {name!r:.200}"
        )


def _check_lock(name: str) -> None:
    if _LOCK.fullmatch(name) is None:
        raise ValueError(f"a lock's name must be as 'leader.lock'; got {name!r:.200}")


def _check_temporary(name: str) -> None:
    if not _is_temporary(name):
        raise ValueError(f"a temporary name must be one that create() gave; got {name!r:.200}")


def _private_name(app_name: str) -> str:
    """A name for the app's own directory; apps of other names and of other users have others."""
    label = re.sub(r"[^A-Za-z0-9_.-]+", "-", app_name)[:_LABEL]
    if label != app_name or not label:
        digest = sha256(app_name.encode("utf-8", "surrogatepass")).hexdigest()
        label = f"{label}-{digest[:_DIGEST]}"
    return f"asgi-errorkit-{_user()}-{label}"


def _bases() -> Iterator[Path]:
    runtime = Path(os.environ.get("XDG_RUNTIME_DIR", ""))
    # The XDG Base Directory Specification: one that is relative, or not ours, is not to be used.
    if runtime.is_absolute() and _is_ours(runtime):
        yield runtime
    yield Path("/dev/shm")  # noqa: S108  what is made there is ours alone
    import tempfile  # noqa: PLC0415  only who gets so far pays for it

    with suppress(FileNotFoundError):
        yield Path(tempfile.gettempdir())


def _is_free(base: Path, name: str) -> bool:
    """Whether our directory is there, or can be made: somebody else may have taken its name."""
    if not (base.is_dir() and os.access(base, os.W_OK | os.X_OK)):
        return False
    return not os.path.lexists(base / name) or _is_ours(base / name)


def _is_ours(path: Path) -> bool:
    try:
        about = path.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(about.st_mode) and about.st_uid == _user()


def _user() -> int:
    # Windows says that each file is user 0's, and has a directory for temporary files for each user.
    return os.geteuid() if hasattr(os, "geteuid") else 0
