"""One small file that the workers of a host share: what has changed, and who probes a circuit."""

import errno
import os
from contextlib import suppress
from hashlib import blake2b

from asgi_errorkit.forks import reset_in_child
from asgi_errorkit.spool.directory import SpoolDirectory

__all__ = ["HALF", "ProbePlaces", "SharedFile"]

_NAME = "circuits.lock"
_WORD = 8
HALF = 4
_HASH_BYTES = 6
_MOST_PLACES = 1 << 14  # of a circuit: more than a policy can ask for
_FIRST_PLACE = _MOST_PLACES  # beyond the word
_BUSY = frozenset((errno.EACCES, errno.EAGAIN, errno.EDEADLK))


class _Process:
    """What of such files this process has open, and which of their bytes it has locked.

    The system asks no process for its own locks: two kits of one process would both get one. And it
    takes all of them away when any descriptor of the file is closed, so they stay open for good.
    """

    def __init__(self) -> None:
        self.files: dict[tuple[int, int], int] = {}
        self.held: dict[tuple[int, int], object] = {}
        reset_in_child(self)

    def reset_after_fork(self) -> None:
        """In a forked child: the locks are the parent's."""
        self.held.clear()


_process = _Process()


class SharedFile:
    """``circuits.lock`` in a directory; made by whoever comes first, and again if it is removed.

    Its first word is another whenever somebody has told something new: the first half when a state
    has changed, the second when no more than calls were counted. Whatever cannot be done raises
    OSError.
    """

    def __init__(self, directory: SpoolDirectory) -> None:
        self.alone = 0  # probes for which there was no lock to be had
        self._directory = directory
        self._file: int | None = None

    @property
    def file(self) -> int:
        """A descriptor for reading and writing, which is never closed."""
        if self._file is None:
            self.look()
        return self._file or 0

    def look(self) -> None:
        """Find out whether it is still there, and make it if not."""
        identity = self._directory.lock_identity(_NAME)
        known = None if identity is None else _process.files.get(identity)
        self._file = self._opened() if known is None else known

    def _opened(self) -> int:
        file = self._directory.open_lock(_NAME)
        about = os.fstat(file)
        # Another thread may have been faster: this one is not closed either.
        return _process.files.setdefault((about.st_dev, about.st_ino), file)

    def word(self) -> bytes:
        """What it says now: one system call, of less than a microsecond."""
        if not hasattr(os, "pread"):  # on Windows who looks does so once a second
            return b""
        return os.pread(self.file, _WORD, 0)

    def bump(self, *, is_state: bool) -> None:
        """Tell everybody that there is something new; it is there already.

        By what never was there before: of two who do so at once either is new to the others.
        """
        if hasattr(os, "pwrite"):
            os.pwrite(self.file, os.urandom(HALF), 0 if is_state else HALF)


class ProbePlaces:
    """The places of one circuit's probes, each a byte of the shared file that one process locks.

    The system gives back what a process holds that dies. Where there are no such locks, or the file
    cannot be had, the places are this process's own, which is counted.
    """

    __slots__ = ("_first", "_held", "_mine", "_shared")

    def __init__(self, shared: SharedFile, name: str) -> None:
        self._held: list[tuple[int, int] | None] = []  # file and byte; None: a place of its own
        self._mine = object()  # not itself, which would never be let go of
        digest = blake2b(name.encode("utf-8", "surrogatepass"), digest_size=_HASH_BYTES).digest()
        self._shared = shared
        self._first = _FIRST_PLACE + int.from_bytes(digest, "big") * _MOST_PLACES

    def take(self, most: int) -> bool:
        """Take one of so many places, or learn that others have them."""
        try:
            file = self._shared.file
            for byte in range(self._first, self._first + most):
                if self._lock(file, byte):
                    self._held.append((file, byte))
                    return True
        except (ImportError, OSError):
            self._shared.alone += 1
            self._held.append(None)
            return True
        return False

    def keep(self, number: int) -> None:
        """Give back what has been taken beyond that number."""
        while len(self._held) > number:
            place = self._held.pop()
            if place is not None:
                self._unlock(place)

    def forget(self) -> None:
        """In a forked child: what was taken is the parent's."""
        self._held.clear()

    def __del__(self) -> None:
        # A breaker that is forgotten, or a kit that is let go, holds up nobody.
        self.keep(0)

    def _lock(self, file: int, byte: int) -> bool:
        import fcntl  # noqa: PLC0415  Windows has none

        place = file, byte
        known = _process.held.setdefault(place, self._mine)
        if known is not self._mine or place in self._held:
            return False
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, byte)
        except OSError as error:
            del _process.held[place]
            if error.errno in _BUSY:
                return False
            raise
        return True

    def _unlock(self, place: tuple[int, int]) -> None:
        import fcntl  # noqa: PLC0415  Windows has none

        with suppress(OSError):
            fcntl.lockf(place[0], fcntl.LOCK_UN, 1, place[1])
        _process.held.pop(place, None)
