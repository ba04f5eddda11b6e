"""Thousands of streams in flight at once: what they end as, counted exactly, and what a piece costs."""

import asyncio
import gc
import json
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from typing import IO, Any

from asgi_errorkit.logs import EVENTS
from asgi_errorkit.recorder import Recorder
from asgi_errorkit.stack import ErrorKit
from asgi_errorkit.testing import http_scope
from asgi_errorkit.types import ASGIApp, Message, Receive, Scope, Send
from benchmarks.figures import spread
from benchmarks.kits import ENDS, begin, kit, linger, send
from benchmarks.tables import print_table

__all__ = ["print_streams", "streams"]

_PIECE = b"x" * 1024
_SHORT, _LONG = 2, 22
_KINDS = ("/raise", "/leave", "/cancel")  # of each 50 streams one each; the others end well
_ONE_IN = 50


async def _streaming(scope: Scope, receive: Receive, send: Send) -> None:
    """Pieces with a turn of the loop before each, so that all streams go on side by side."""
    pieces = scope["pieces"]
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for number in range(pieces):
        await asyncio.sleep(0)
        if number == pieces // 2 and scope["path"] != "/stream" and await _breaks(scope, receive):
            return
        last = number == pieces - 1
        await send({"type": "http.response.body", "body": _PIECE, "more_body": not last})


async def _breaks(scope: Scope, receive: Receive) -> bool:
    """Half-way, as the path says; whether the client has left."""
    if scope["path"] == "/raise":
        raise RuntimeError("no more pieces")
    if scope["path"] == "/leave":
        return bool((await receive())["type"] == "http.disconnect")
    task = asyncio.current_task()
    if task is not None:
        task.cancel()
    await asyncio.sleep(0)
    return False


async def _gone() -> Message:
    return {"type": "http.disconnect"}


def _path(number: int) -> str:
    kind = number % _ONE_IN
    return _KINDS[kind] if kind < len(_KINDS) else "/stream"


async def _stream(
    app: ASGIApp, number: int, pieces: int, midway: Callable[[], None] | None = None
) -> float:
    """Run so many streams at once; the CPU seconds that all of it took."""
    scopes = [http_scope(path=_path(n), pieces=pieces) for n in range(number)]
    gc.collect()
    began = time.process_time()
    tasks = [asyncio.ensure_future(app(scope, _gone, send)) for scope in scopes]
    await asyncio.sleep(0)
    if midway is not None:
        midway()
    await asyncio.gather(*tasks, return_exceptions=True)
    return time.process_time() - began


async def streams(number: int, rounds: int) -> dict[str, Any]:
    """All streams at once: what was counted, and what a piece costs."""
    with tempfile.TemporaryFile() as log:
        wrapped = kit(_streaming, log, events=EVENTS)
        peaks: list[int] = []
        await _stream(
            wrapped,
            number,
            _LONG,
            lambda: peaks.append(wrapped.get_performance_stats()["in_flight"]),
        )
        wrapped.flush()
        exact = _exact(number, wrapped, log) | {"in flight at once": [number, peaks[0]]}
        wrapped.tracker.recorder.close()
    costs = [await _costs(number) for _ in range(rounds)]
    return {
        "streams": number,
        "exact": exact,
        "added_us_per_piece": spread([piece for piece, _ in costs]),
        f"added_us_per_stream_of_{_SHORT}": spread([stream for _, stream in costs]),
    }


def _exact(number: int, wrapped: ErrorKit, log: IO[bytes]) -> dict[str, list[Any]]:
    """What is to be counted, and what was: by the statistics and by the log lines."""
    kinds = Counter(_path(n) for n in range(number))
    outcomes = {
        "ok": kinds["/stream"],
        "truncated": kinds["/raise"],
        "client_disconnect": kinds["/leave"],
        "cancelled": kinds["/cancel"],
    }
    outcomes = {name: count for name, count in outcomes.items() if count}
    log.seek(0)
    lines = [json.loads(line) for line in log]
    ends = [line for line in lines if line["event"] != "request_start"]
    pieces = kinds["/stream"] * _LONG + (number - kinds["/stream"]) * (_LONG // 2)
    stats = wrapped.get_performance_stats()
    return {
        "requests": [number, stats["total_requests"]],
        "outcomes": [outcomes, stats["outcomes"]],
        "errors": [kinds["/raise"], wrapped.get_error_stats()["total_errors"]],
        "start lines": [number, len(lines) - len(ends)],
        "end lines": [number, len(ends)],
        "ids": [number, len({line["request_id"] for line in ends})],
        "outcomes in lines": [outcomes, dict(Counter(line["outcome"] for line in ends))],
        "bytes": [pieces * len(_PIECE), sum(line["response_size"] for line in ends)],
        "in flight afterwards": [0, stats["in_flight"]],
        "lost": [0, wrapped.status()["recorder"]["lost"]],
        "counted, when all begin before a drain": [number, _begun_before_a_drain(number)],
    }


def _begun_before_a_drain(number: int) -> int:
    """How many of so many requests are counted, when the thread that drains comes late."""
    with tempfile.TemporaryFile() as log:
        wrapped = kit(linger, log, recorder=Recorder(flush_seconds=None), events=ENDS)
        for end in begin(wrapped, number):
            end()
        wrapped.flush()
        counted: int = wrapped.get_performance_stats()["total_requests"]
    return counted


async def _costs(number: int) -> tuple[float, float]:
    """Microseconds that the kit adds to a piece, and to a whole short stream."""
    added = {}
    for pieces in (_SHORT, _LONG):
        with tempfile.TemporaryFile() as log:
            wrapped = kit(_streaming, log, events=ENDS)
            bare = await _stream(_streaming, number, pieces)
            cost = await _stream(wrapped, number, pieces)
            began = time.process_time()
            wrapped.flush()
            added[pieces] = (cost + time.process_time() - began - bare) / number * 1e6
            wrapped.tracker.recorder.close()
    return (added[_LONG] - added[_SHORT]) / (_LONG - _SHORT), added[_SHORT]


def print_streams(streams: dict[str, Any]) -> None:
    print(f"{streams['streams']:,} streams at once, one in {_ONE_IN} each failing, left, cancelled")
    rows = [["", "wanted", "counted", "exact"]]
    for name, (wanted, counted) in streams["exact"].items():
        rows.append([name, _text(wanted), _text(counted), "yes" if wanted == counted else "NO"])
    print_table(rows)
    piece, stream = streams["added_us_per_piece"], streams[f"added_us_per_stream_of_{_SHORT}"]
    print(f"CPU added to a piece: {piece['median']:.2f} us (min {piece['min']:.2f})")
    print(
        f"CPU added to a stream of {_SHORT}: {stream['median']:.2f} us (min {stream['min']:.2f})\n"
    )


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return " ".join(f"{name} {count}" for name, count in sorted(value.items()))
    return f"{value:,}"
