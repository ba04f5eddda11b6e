"""Where no hook of a framework tells: the exception that is logged before a 500 is answered."""

import logging
from typing import Any

from asgi_errorkit.exchange import CAUGHT, CHOICES, CURRENT, SCOPE, SEEN, Seen

__all__ = ["install"]

NAME = "logs"


def install(_: Any = None) -> None:
    """Watch the log records that are made within requests, through the factory that is set.

    A record with an exception is remembered by its exchange, and taken for what failed if a
    response of 500 or more follows. Where the logger's level is off, no record is made.
    """
    before = logging.getLogRecordFactory()
    if getattr(before, "is_of_errorkit", False):
        return

    def make(*args: Any, **kwargs: Any) -> logging.LogRecord:
        record = before(*args, **kwargs)
        try:
            _remember(record.exc_info[1] if record.exc_info else None)
        except Exception:  # noqa: BLE001, S110  whatever was handed in: logging goes on
            pass
        return record

    make.is_of_errorkit = True  # type: ignore[attr-defined]  # told by this when it is set again
    logging.setLogRecordFactory(make)


def _remember(exc: BaseException | None) -> None:
    state = CURRENT.get()
    if state is None or state[SCOPE] is None or state[CAUGHT] is not None:
        return
    choices, seen = state[CHOICES], state[SEEN]
    if choices is None or NAME not in choices.captures or not isinstance(exc, Exception):
        return
    if seen is not None and seen.answered:
        return  # by the handler that logs this
    if seen is None or seen.exc is not exc or type(seen) is not Seen:  # the log's word goes first
        state[SEEN] = Seen(exc)
