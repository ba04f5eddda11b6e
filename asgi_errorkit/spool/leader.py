"""One duty, one worker: who of those that share a directory does what is to be done once."""

import errno
import os
from collections.abc import Callable
from threading import Lock
from typing import TypeAlias
from weakref import WeakValueDictionary, finalize

from asgi_errorkit.forks import reset_in_child
from asgi_errorkit.spool.directory import SpoolDirectory

__all__ = ["Leader"]

_NAME = "leader.lock"
_BUSY = frozenset((errno.EACCES, errno.EAGAIN, errno.EDEADLK))

_Identity: TypeAlias = tuple[int, int]  # of a file: its device and inode


class Leader:
    """``is_ours()`` is True for one of all that ask for the same directory, while its process lives.

    It is decided by a lock on a file there, which the system takes from a process that dies, and
    which no forked child holds (POSIX record locks; fcntl(2)): so another is found by its next
    question, also when who leads is dropped. Where there are no such locks nobody leads.
    """

    def __init__(self, directory: SpoolDirectory) -> None:
        self._directory = directory
        self._leads: _Identity | None = None
        self._asked_for: _Identity | None = None
        self._detach: Callable[[], object] = _nothing  # what is to be done when this is dropped
        reset_in_child(self)

    def is_ours(self) -> bool:
        """Whether this one leads, or has just begun to. Raises SpoolError without a file."""
        if self._leads is not None:
            if self._directory.lock_identity(_NAME) == self._leads:
                return True
            self.resign()  # somebody has removed the file, and by a new one another may lead
        if not _turn.lock.acquire(blocking=False):  # another thread competes: ask again
            return False
        try:
            return self._compete()
        finally:
            _turn.lock.release()
            _put_down()

    def _compete(self) -> bool:
        known = _lock_of(self._directory)
        if self._asked_for not in (None, known):
            _LEFT.append(self._asked_for)  # its file is gone, and nobody else will lead by it
        self._asked_for = known
        # Of one process all get the lock, and it is lost when any of them closes the file.
        if known in _LEADING or not _lock(_FILES[known]):
            return False
        _LEADING[known] = self
        self._leads = known
        dropped = finalize(self, _let_go, known)
        dropped.atexit = False  # the system does it
        self._detach = dropped.detach
        return True

    def resign(self) -> None:
        """Let another lead; it may be this one again."""
        known, self._leads = self._leads, None
        if known is None:
            return
        self._detach()
        _LEADING.pop(known, None)
        _let_go(known)

    def reset_after_fork(self) -> None:
        """In a forked child: the parent leads, and goes on to."""
        self._detach()
        self._leads = None
        _LEADING.clear()
        _LEFT.clear()


class _Turn:
    """Whose turn it is, of the threads of this process, to lock or to unlock."""

    def __init__(self) -> None:
        self.lock = Lock()
        reset_in_child(self)

    def reset_after_fork(self) -> None:
        """In a forked child: who was at it is the parent's."""
        self.lock = Lock()


_turn = _Turn()

# By device and inode. The files stay open while the process lives: a directory has one of them.
_FILES: dict[_Identity, int] = {}
_LEADING: "WeakValueDictionary[_Identity, Leader]" = WeakValueDictionary()
_LEFT: list[_Identity | None] = []  # of which nobody may be the leader any more


def _nothing() -> None:
    """What is done for who does not lead."""


def _let_go(known: _Identity) -> None:
    _LEFT.append(known)
    _put_down()


def _put_down() -> None:
    """Unlock what nobody here leads by any more.

    A finalizer comes here amid anything: whoever has the turn does it for it afterwards.
    """
    while _LEFT and _turn.lock.acquire(blocking=False):
        try:
            while _LEFT:
                _close(_LEFT.pop())
        finally:
            _turn.lock.release()


def _close(known: _Identity | None) -> None:
    if known is not None and known not in _LEADING and known in _FILES:
        os.close(_FILES.pop(known))  # which lets go of the lock


def _lock_of(directory: SpoolDirectory) -> _Identity:
    known = directory.lock_identity(_NAME)
    if known is None or known not in _FILES:
        file = directory.open_lock(_NAME)
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
