"""Keeping a record of this process on disk, which others read, and looking after theirs."""

import atexit
import logging
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any
from weakref import ref

from asgi_errorkit.recorder import Recorder
from asgi_errorkit.redact import Redactor
from asgi_errorkit.spool.directory import SpoolError
from asgi_errorkit.spool.host import Host
from asgi_errorkit.spool.ledger import Ledger

__all__ = ["keep_record"]

logger = logging.getLogger("asgi_errorkit.spool")

_LOOK_EVERY_SECONDS = 1.0


def keep_record(
    recorder: Recorder,
    directory: str | os.PathLike[str],
    *,
    app: str,
    release: str | None,
    redactor: Redactor,
    sources: Mapping[str, Callable[[], Any]],
) -> Host | None:
    """Have a recorder's requests listed in ``directory``, and dead workers found there.

    For ``sources`` see `Ledger`. Returns None where the directory cannot serve, which is said once:
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
    ledger = Ledger(recorder, host.open_segment, sources)
    recorder.ledger = ledger
    recorder.add_flusher(_looking(host, recorder.clock))
    _close_at_exit(ledger)
    return host


def _looking(host: Host, clock: Callable[[], float]) -> Callable[[], None]:
    looked_at = float("-inf")

    def look() -> None:
        nonlocal looked_at
        if clock() - looked_at >= _LOOK_EVERY_SECONDS:
            looked_at = clock()
            host.look()

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
