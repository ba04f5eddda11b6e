"""One peer as it is measured."""

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from asgi_errorkit.types import ASGIApp
from benchmarks.scenarios import Scenario

__all__ = ["Make", "Peer", "lines"]


def _nothing() -> None:
    """There is nothing left to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """The wrapped app, and how to have it finish and prove its work.

    ``flush`` returns when all that was put off is done, which is a part of the cost. Each of ``done``
    counts the requests of which something has come out at the other end so far. ``turn`` is entered
    while the peer is measured, ``rest`` is called between its turns.
    """

    app: ASGIApp
    flush: Callable[[], None] = _nothing
    done: tuple[Callable[[], int], ...] = ()
    turn: Callable[[], AbstractContextManager[object]] = nullcontext
    rest: Callable[[], None] = _nothing


Make = Callable[[Scenario, IO[bytes], ExitStack], Peer]
"""Makes a peer for a scenario, with a file for its log lines and a stack for what must be closed."""


def lines(log: IO[bytes], *, each: int = 1) -> Callable[[], int]:
    """Counts requests by the lines in the file, of which there are ``each`` a request."""
    path = Path(log.name)
    return lambda: path.read_bytes().count(b"\n") // each
