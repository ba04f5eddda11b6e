"""What `top` can read again and again, and what is needed to find it."""

import os
from pathlib import Path
from typing import Any, Final, Protocol

from asgi_errorkit.cli.top.picture import Picture
from asgi_errorkit.ops.access import checked_token
from asgi_errorkit.spool.directory import SpoolError, served_directory
from asgi_errorkit.spool.host import Host

__all__ = ["LATELY_MINUTES", "WINDOW_MINUTES", "Source", "SourceError", "opened", "token_of"]

LATELY_MINUTES: Final = 0.25  # what is counted as now: three spans of the record
WINDOW_MINUTES: Final = 5.0
_MOST_TOKEN_BYTES = 4096
_TOKEN_VARIABLE = "ASGI_ERRORKIT_TOKEN"  # noqa: S105  the name of a variable


class SourceError(Exception):
    """Nothing can be read now; the message says why, and what to do about it."""


class Source(Protocol):
    """What can be read again and again; each time may raise SourceError."""

    name: str

    def read(self) -> Picture:
        """Everything at one look."""
        ...

    def group(self, fingerprint: str) -> dict[str, Any] | None:
        """One group of errors with its sample; None if there is none."""
        ...


def opened(directory: str) -> Host:
    """The host of a directory that is there, or of a MODULE:APP. Raises SpoolError."""
    if ":" in directory and not os.path.lexists(directory):
        directory = str(served_directory(directory))
    try:
        Path(directory).expanduser().lstat()
    except FileNotFoundError:  # a Host would make it
        raise SpoolError(f"{directory} does not exist: is it the directory of the app?") from None
    except (OSError, RuntimeError, ValueError):
        pass  # a Host says what is wrong with it
    return Host(directory)


def token_of(file: str | None) -> str | None:
    """That of the file, or else of the environment. Raises ValueError or OSError."""
    if file is None:
        return checked_token(os.environ.get(_TOKEN_VARIABLE) or None)
    with Path(file).open("rb") as opened_file:
        told = opened_file.read(_MOST_TOKEN_BYTES)
    return checked_token(told.decode("ascii", "replace").strip())
