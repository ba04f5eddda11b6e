"""Reads the record of a host in a directory, for `top`."""

import time
from contextlib import closing
from typing import Any

from asgi_errorkit.cli import reading
from asgi_errorkit.cli.top.picture import Picture, as_picture, as_told_group
from asgi_errorkit.cli.top.source import LATELY_MINUTES, WINDOW_MINUTES, SourceError, opened
from asgi_errorkit.ops.of_host import OfHost, group_of
from asgi_errorkit.spool import answers
from asgi_errorkit.spool.host import Host

__all__ = ["OfDirectory"]


class OfDirectory:
    """Reads the record of a host, whether its app runs or not. Used by one thread at a time."""

    def __init__(self, directory: str) -> None:
        self.name = directory

    def read(self) -> Picture:
        """As the commands that print do."""
        try:
            host = opened(self.name)
            with closing(host.directory):  # opened anew: it may have been replaced
                return as_picture(_read_of(host))
        except OSError as error:
            raise SourceError(str(error)) from error

    def group(self, fingerprint: str) -> dict[str, Any] | None:
        """As it is on record."""
        try:
            host = opened(self.name)
            with closing(host.directory):
                told = group_of(host, fingerprint)
        except OSError as error:
            raise SourceError(str(error)) from error
        return None if told is None else as_told_group(told)


def _read_of(host: Host) -> dict[str, Any]:
    tally, now = host.tally(), time.perf_counter()
    lately = answers.performance(tally, LATELY_MINUTES, now)
    return {
        "errors": answers.errors(tally, WINDOW_MINUTES, now),
        "performance": answers.performance(tally, WINDOW_MINUTES, now),
        "errors_lately": answers.errors(tally, LATELY_MINUTES, now),
        "lately": lately,
        "workers": lately["workers"],
        "breakers": answers.breakers(tally),
        "groups": answers.groups(tally),
        "requests": reading.inflight(host)["requests"],
        "crashes": reading.crashes(host)["crashes"],
        "alerts": OfHost(host).alerts(),
    }
