"""The record that the servers of the demo keep: its private directory, and what it tells in the end."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from shutil import rmtree
from typing import Any

from asgi_errorkit.spool.directory import choose_directory
from asgi_errorkit.spool.host import Host

__all__ = ["Record", "private_directory", "read_record"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """How requests and sessions have ended at all workers, and who of them has died."""

    outcomes: dict[str, int]
    crashes: list[dict[str, Any]]


@contextmanager
def private_directory() -> Iterator[Path]:
    """One that no other run has, and that is gone afterwards. Raises SpoolError when none will do."""
    directory = choose_directory(f"demo-{token_hex(8)}")
    try:
        yield directory
    finally:
        rmtree(directory, ignore_errors=True)


def read_record(directory: Path) -> Record:
    """What is on record now, also of those that are gone."""
    host = Host(directory)
    with closing(host.directory):
        return Record(outcomes=dict(host.counts().outcomes), crashes=host.crashes())
