"""Writes finished lines to a stream, in batches, on the background thread."""

import io
import json
import logging
import os
import re
import stat
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, Any

import orjson

__all__ = ["PATIENCE_SECONDS", "LineWriter", "LoggerWriter"]

logger = logging.getLogger("asgi_errorkit")

_ATOMIC_BYTES = 4096
"""What a pipe takes in one piece (PIPE_BUF on Linux): more, and the lines of several workers that
share it would be torn apart."""

_MUCH_BYTES = 256 * 1024
"""Memory that is still warm in the cache; waiting longer costs page faults."""

PATIENCE_SECONDS = 2.0
"""How long a flush waits for another that is stuck in a stream which takes nothing."""


class LineWriter:
    """Holds lines until `flush` writes them; never blocks the one who hands them over.

    ``stream`` is a text or a binary stream; None means ``sys.stdout`` as it is at each flush. At
    most ``max_pending_bytes`` wait for a stream that does not take them; lines beyond that are
    dropped and counted in ``dropped_lines``, as are the lines of a write that fails. ``wake`` is
    called when much is waiting, to have `flush` called soon.
    """

    def __init__(
        self,
        stream: IO[Any] | None = None,
        *,
        max_pending_bytes: int = 16 * 1024 * 1024,
        wake: Callable[[], None] | None = None,
    ) -> None:
        if stream is not None and not callable(getattr(stream, "write", None)):
            raise TypeError(f"stream must have a write method, or be None; got {stream!r}")
        if not max_pending_bytes > 0:
            raise ValueError(f"max_pending_bytes must be more than 0; got {max_pending_bytes!r}")
        self._stream = stream
        self._max_pending_bytes = max_pending_bytes
        self._wake = wake
        self._pending: deque[tuple[bytes, int]] = deque()
        # Each counter has one writer at a time: the drain, and the flush under its lock.
        self._taken_bytes = 0
        self._written_bytes = 0
        self._refused_lines = 0
        self._failed_lines = 0
        self._lock = threading.RLock()

    @property
    def pending_bytes(self) -> int:
        return self._taken_bytes - self._written_bytes

    @property
    def dropped_lines(self) -> int:
        return self._refused_lines + self._failed_lines

    def write(self, lines: list[str]) -> None:
        """Take over whole lines, each with its line feed."""
        text = "".join(lines).encode()  # one buffer: many small ones that wait cost page faults
        size = len(text)
        if self.pending_bytes + size > self._max_pending_bytes:
            self._refused_lines += len(lines)
            return
        self._taken_bytes += size
        self._pending.append((text, len(lines)))
        if self._wake is not None and self.pending_bytes > _MUCH_BYTES:
            self._wake()

    def flush(self) -> None:
        """Write what is held; gives up on a stream in which another flush has been stuck."""
        if not self._pending or not self._lock.acquire(timeout=PATIENCE_SECONDS):
            return
        try:
            self._write_pending(self._stream if self._stream is not None else sys.stdout)
        finally:
            self._lock.release()

    def reset_after_fork(self) -> None:
        """Forget the parent's lines: it writes them itself."""
        self._pending.clear()
        self._written_bytes = self._taken_bytes
        self._lock = threading.RLock()

    def _write_pending(self, stream: Any) -> None:
        while self._pending:
            text, lines = self._take()
            try:
                _write(stream, text)
            except Exception as error:  # noqa: BLE001  closed, full, no stdout, a stream of one's own
                self._note_failure(stream, lines, error)
            self._written_bytes += len(text)

    def _take(self) -> tuple[bytes, int]:
        """What is pending, up to much, as one text: each write has its own cost."""
        texts, lines, size = [], 0, 0
        while size <= _MUCH_BYTES:
            try:
                text, number = self._pending.popleft()
            except IndexError:  # nothing more, or a signal handler flushed in between
                break
            texts.append(text)
            lines += number
            size += len(text)
        return b"".join(texts), lines

    def _note_failure(self, stream: Any, lines: int, error: Exception) -> None:
        if not self._failed_lines:
            # Without the traceback, which is ours alone and tells no more.
            logger.error("log lines cannot be written to %.200r: %.200r", stream, error)
        self._failed_lines += lines


class LoggerWriter:
    """Holds lines until `flush` passes them to a stdlib logger, each by its own level.

    The message is the JSON line, and ``record.fields`` the same as a dict. At most ``max_pending``
    lines wait; what comes beyond that is dropped and counted.
    """

    def __init__(
        self,
        logger: logging.Logger,
        *,
        max_pending: int = 20_000,
        wake: Callable[[], None] | None = None,
    ) -> None:
        self._logger = logger
        self._max_pending = max_pending
        self._wake = wake
        self._pending: deque[str] = deque()
        self._looked = False
        self.dropped_lines = 0

    def write(self, lines: list[str]) -> None:
        """Take over whole lines."""
        room = max(0, self._max_pending - len(self._pending))
        self.dropped_lines += max(0, len(lines) - room)
        self._pending.extend(lines[:room])
        if self._wake is not None and len(self._pending) > self._max_pending // 20:
            self._wake()

    def flush(self) -> None:
        """Log what is held; the logger's handlers decide what becomes of it."""
        while self._pending:
            try:
                line = self._pending.popleft()
            except IndexError:  # another thread flushes too
                return
            fields = orjson.loads(line)
            level = logging.getLevelNamesMapping()[fields["level"]]
            if level <= logging.INFO and not self._looked:
                self._look()
            self._logger.log(level, "%s", line[:-1], extra={"fields": fields})

    def _look(self) -> None:
        """Say so, once, if what is logged goes nowhere: an unconfigured logger takes warnings only."""
        self._looked, name = True, self._logger.name
        if not self._logger.hasHandlers():
            logger.warning("only failures are logged: the logger %r has no handler", name)
        elif not self._logger.isEnabledFor(logging.INFO):
            logger.warning("only failures are logged: set the level of the logger %r to INFO", name)

    def reset_after_fork(self) -> None:
        """Forget the parent's lines: it logs them itself."""
        self._pending.clear()


def _write(stream: Any, text: bytes) -> None:
    if isinstance(stream, io.TextIOBase) or hasattr(stream, "encoding"):
        _write_text(stream, text)
        return
    try:
        _write_binary(stream, text)
    except (TypeError, AssertionError):  # a stream of one's own that takes strings
        if isinstance(stream, io.IOBase):
            raise
        stream.write(text.decode())


def _write_text(stream: Any, text: bytes) -> None:
    if hasattr(stream, "buffer"):
        stream.flush()  # what was printed before comes before
        _write_binary(stream.buffer, text)
        return
    try:
        stream.write(text.decode())
    except UnicodeEncodeError:
        # Outside of its strings JSON is ASCII, and inside them everything can be escaped.
        stream.write(re.sub(r"[^\x00-\x7f]", lambda m: json.dumps(m[0])[1:-1], text.decode()))
    stream.flush()


def _write_binary(binary: Any, text: bytes) -> None:
    with _alone(binary):
        for piece in _pieces(binary, text):
            _write_whole(binary, piece)
            if hasattr(binary, "flush"):
                binary.flush()


@contextmanager
def _alone(binary: Any) -> Iterator[None]:
    """Keep the other workers on a shared pipe out, where the system can (Linux): a line longer
    than a pipe takes in one piece would be torn by theirs.

    The pipe is opened once more, since a lock belongs to an opening and workers share theirs.
    """
    try:
        import fcntl  # noqa: PLC0415  there is none on Windows

        if not stat.S_ISFIFO(os.fstat(binary.fileno()).st_mode):
            raise OSError  # noqa: TRY301
        lock = os.open(f"/proc/self/fd/{binary.fileno()}", os.O_WRONLY | os.O_NONBLOCK)
    except (ImportError, OSError, ValueError, AttributeError):
        yield
        return
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)  # gone with its owner
        yield
    finally:
        os.close(lock)


def _write_whole(binary: Any, piece: bytes) -> None:
    """An unbuffered stream may take a part, or nothing when it must not block."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while piece:
        taken = binary.write(piece)
        if not isinstance(taken, int):
            if taken is not None or not isinstance(binary, io.RawIOBase):
                return  # a stream of one's own that does not say
            if time.monotonic() > deadline:
                raise BlockingIOError("the stream takes nothing")
            time.sleep(0.01)
            continue
        piece = piece[taken:]


def _pieces(binary: Any, text: bytes) -> Iterator[bytes]:
    """One piece for a file or an object in memory; for a pipe or terminal what it takes whole."""
    if not _is_shared(binary):
        yield text
        return
    piece: list[bytes] = []
    size = 0
    for line in text.splitlines(keepends=True):
        if piece and size + len(line) > _ATOMIC_BYTES:
            yield b"".join(piece)
            piece, size = [], 0
        piece.append(line)
        size += len(line)
    yield b"".join(piece)


def _is_shared(binary: Any) -> bool:
    try:
        return not stat.S_ISREG(os.fstat(binary.fileno()).st_mode)
    except (OSError, ValueError, AttributeError):
        return False
