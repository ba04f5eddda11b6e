"""Keeping a record of this process on disk, which others read, and looking after theirs."""

import atexit
import logging
import os
import sys
from collections.abc import Callable
from typing import TypeAlias
from weakref import ref

from asgi_errorkit.breakers import Breakers
from asgi_errorkit.recorder import Recorder
from asgi_errorkit.redact import Redactor
from asgi_errorkit.spool.circuits import SharedCircuits
from asgi_errorkit.spool.directory import SpoolError
from asgi_errorkit.spool.host import Host
from asgi_errorkit.spool.ledger import Ledger, Sources
from asgi_errorkit.spool.segment import Segment

__all__ = ["keep_record", "record_of"]

OpenSegment: TypeAlias = Callable[[int], tuple[Segment, Callable[[], None]]]

logger = logging.getLogger("asgi_errorkit.spool")

_LOOK_EVERY_SECONDS = 1.0


def keep_record(
    recorder: Recorder,
    directory: str | os.PathLike[str],
    *,
    app: str,
    release: str | None,
    redactor: Redactor,
    sources: Sources,
    circuits: Breakers | None = None,
) -> Host | None:
    """Have a recorder's requests listed in ``directory``, and dead workers found there.

    For ``sources`` see `Ledger`; ``circuits`` act together with those of the other workers. Returns None where the directory cannot serve, which is said once:
    then the process answers for itself alone. Frames that were made before do not list theirs.
    """
    try:
        host = Host(
            directory,
            app=app,
            release=release,
            redactor=redactor,
            clock=recorder.clock,
            wall_clock=recorder.wall_clock,
        )
    except SpoolError as error:
        logger.warning("workers keep no record on disk, and answer for themselves alone: %s", error)
        return None
    open_segment: OpenSegment = host.open_segment
    if circuits is not None:
        shared = SharedCircuits(host.directory, circuits, clock=recorder.clock)
        open_segment = _telling(open_segment, shared)
    ledger = Ledger(recorder, open_segment, sources)
    ledger.host = host
    recorder.ledger = ledger
    recorder.add_flusher(_looking(host, ledger, recorder.clock))
    _close_at_exit(ledger)
    return host


def _telling(open_segment: OpenSegment, circuits: SharedCircuits) -> OpenSegment:
    """As `Host.open_segment`; the circuits are told of in it."""

    def open_and_tell(first: int) -> tuple[Segment, Callable[[], None]]:
        segment, remove = open_segment(first)
        circuits.begin(segment)

        def leave() -> None:
            circuits.end()
            remove()

        return segment, leave

    return open_and_tell


def record_of(recorder: Recorder, directory: str | os.PathLike[str] | None) -> Host | None:
    """The host of a recorder that keeps a record already. Raises ValueError for another directory."""
    host: Host | None = getattr(recorder.ledger, "host", None)
    if host is None or directory is None or host.directory.is_at(directory):
        return host
    raise ValueError(
        f"directory must be {str(host.directory.path)!r}, where another kit of the same tracker keeps "
        "its record, or be left out; give the kit an ErrorTracker of its own to have two; got "
        f"{os.fspath(directory)!r:.200}"
    )


def _looking(host: Host, ledger: Ledger, clock: Callable[[], float]) -> Callable[[], None]:
    looked_at, is_said = float("-inf"), False

    def look() -> None:
        nonlocal looked_at, is_said
        if clock() - looked_at < _LOOK_EVERY_SECONDS:
            return
        looked_at = clock()
        try:
            ledger.renew(host.has_lost_segment, host.is_counted_elsewhere)
            host.look()
            is_said = False
        except SpoolError as error:  # such as of a directory that somebody has removed
            if not is_said:
                is_said = True
                logger.warning("nobody looks after workers that die: %s", error)

    return look


def _close_at_exit(ledger: Ledger) -> None:
    """A process that ends in order is not one that has died; the ledger is not kept alive for it."""
    ledger_ref = ref(ledger)

    def close() -> None:
        known = ledger_ref()
        if known is not None:
            known.close()

    atexit.register(close)
    forking = sys.modules.get("multiprocessing.util")
    if forking is not None:  # the processes that it forks end without atexit
        forking.Finalize(None, close, exitpriority=-1)
