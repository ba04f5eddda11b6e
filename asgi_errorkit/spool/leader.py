"""One duty, one worker: who of those that share a directory does what is to be done once."""

import errno
import os
from weakref import WeakValueDictionary

from asgi_errorkit.forks import reset_in_child
from asgi_errorkit.spool.directory import SpoolDirectory

__all__ = ["Leader"]

_BUSY = frozenset((errno.EACCES, errno.EAGAIN, errno.EDEADLK))


class Leader:
    """``is_ours()`` is True for one of all that ask for the same directory, while its process lives.

    It is decided by a lock on a file there, which the system takes from a process that dies, and
    which no forked child holds (POSIX record locks; fcntl(2)): so another is found by its next
    question. Where there are no such locks nobody leads.
    """

    def __init__(self, directory: SpoolDirectory) -> None:
        self._directory = directory
        self._leads: tuple[int, int] | None = None
        reset_in_child(self)

    def is_ours(self) -> bool:
        """Whether this one leads, or has just begun to. Raises SpoolError without a file."""
        if self._leads is not None:
            return True
        known = _lock_of(self._directory)
        # Of one process all get the lock, and it is lost when any of them closes the file.
        if known in _LEADING or not _lock(_FILES[known]):
            return False
        _LEADING[known] = self
        self._leads = known
        return True

    def resign(self) -> None:
        """Let another lead; it may be this one again."""
        known, self._leads = self._leads, None
        if known is not None:
            _LEADING.pop(known, None)
            os.close(_FILES.pop(known))  # which lets go of the lock

    def reset_after_fork(self) -> None:
        """In a forked child: the parent leads, and goes on to."""
        self._leads = None
        _LEADING.clear()


# By device and inode. The files stay open while the process lives: a directory has one of them.
_FILES: dict[tuple[int, int], int] = {}
_LEADING: "WeakValueDictionary[tuple[int, int], Leader]" = WeakValueDictionary()


def _lock_of(directory: SpoolDirectory) -> tuple[int, int]:
    known = directory.lock_identity()
    if known is None or known not in _FILES:
        file = directory.open_lock()
        about = os.fstat(file)
        known = about.st_dev, about.st_ino
        _FILES[known] = file
    return known


def _lock(file: int) -> bool:
    try:
        import fcntl  # noqa: PLC0415  Windows has none
    except ImportError:
        return False
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _BUSY:
            return False
        raise
    return True
