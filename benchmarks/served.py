"""The small app that real servers load, with what is to be measured around it."""

import gc
import json
import logging
import os
import time
from pathlib import Path
from typing import Any

from asgi_errorkit.stack import ErrorKit
from asgi_errorkit.types import ASGIApp, Receive, Scope, Send
from benchmarks.servers import ANSWER, FIGURES, LOG, SUBJECT
from benchmarks.subjects import SUBJECTS, Subject

__all__ = ["app"]


async def _answering(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        await _living(receive, send)
    elif scope["path"] == FIGURES:
        await _telling(send)
    else:
        await send(
            {
                "type": "http.response.start",
                "status": 200,
                "headers": [(b"content-type", b"text/plain"), (b"content-length", b"2")],
            }
        )
        await send({"type": "http.response.body", "body": ANSWER})


async def _living(receive: Receive, send: Send) -> None:
    while (await receive())["type"] == "lifespan.startup":
        await send({"type": "lifespan.startup.complete"})
    await send({"type": "lifespan.shutdown.complete"})


async def _telling(send: Send) -> None:
    body = json.dumps(_figures()).encode()
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _figures() -> dict[str, Any]:
    """What this process has used so far, with all log lines written, and what was not done."""
    if _served.recorder is not None:
        _served.recorder.flush()
    return {
        "cpu_seconds": time.process_time(),  # of all threads, and finer than the ticks of psutil
        "collections": [generation["collections"] for generation in gc.get_stats()],
        "undone": _undone(),
    }


def _undone() -> int:
    """Records lost, sinks broken and lines dropped."""
    if isinstance(_served.app, ErrorKit):
        counts = _served.app.status()["recorder"]
    elif _served.recorder is not None:
        counts = _served.recorder.counts()
    else:
        return 0
    return sum(counts.get(name, 0) for name in ("lost", "sink_errors", "dropped_log_lines"))


def _subject(answering: ASGIApp) -> Subject:
    # The process is busy all the while, and is warned of it: that goes nowhere.
    for name in ("performance", "breaker"):  # what they warn of goes nowhere
        logging.getLogger(f"asgi_errorkit.{name}").addHandler(logging.NullHandler())
    log = Path(os.environ[LOG]).open("ab")  # noqa: SIM115  as long as the process lives
    return SUBJECTS[os.environ[SUBJECT]](answering, log)


_served = _subject(_answering)
app = _served.app
