"""`asgi-errorkit demo`: serves the demo app, sends it traffic, and tells whether all was seen."""

import argparse
import asyncio
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any

import httpx

from asgi_errorkit.demo.checks import Log, Seen, checks, read_log
from asgi_errorkit.demo.kinds import plan
from asgi_errorkit.demo.ledger import Ledger
from asgi_errorkit.demo.report import LOOK_AROUND, YOUR_OWN_APP, report
from asgi_errorkit.demo.sending import client_for
from asgi_errorkit.demo.server import Server, ServerError
from asgi_errorkit.demo.traffic import look, make_traffic

__all__ = ["main", "observe"]

_AT_ONCE = 8
_START_SECONDS = 30.0
_QUIET_SECONDS = 20.0
_LOG_SECONDS = 5.0
_POLL_SECONDS = 0.05


def main(arguments: Sequence[str]) -> int:
    """Run the demo: 0 when all that was sent was seen, 1 when not, 130 when interrupted."""
    options = _options(arguments)
    try:
        with _ended_like_an_error(), Server(options.port) as server:
            return _show(server, options)
    except (ServerError, httpx.HTTPError) as error:
        print(f"asgi-errorkit demo: {error or type(error).__name__}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nstopped")
        return 130


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="asgi-errorkit demo",
        description="Serve an AI video API wrapped by ErrorKit, send it traffic of every success "
        "and failure, and show what the kit saw beside what was sent.",
    )
    parser.add_argument(
        "--requests", type=_number_within(1, 20_000), default=300, help="how many (300)"
    )
    parser.add_argument("--seed", type=int, default=1, help="decides the mix (1)")
    parser.add_argument(
        "--port", type=_number_within(0, 65535), default=0, help="where to serve (a free port)"
    )
    parser.add_argument(
        "--keep", action="store_true", help="leave the server running until Ctrl-C, to look around"
    )
    return parser.parse_args(arguments)


def observe(
    server: Server, *, requests: int, seed: int = 1, keep: bool = False
) -> tuple[Ledger, Seen]:
    """Send the traffic to a server that was just started; what was sent, and what the kit saw.

    The server is stopped before its log is read, unless it is to be kept.
    """
    ledger = Ledger()
    told = asyncio.run(_visit(server, ledger, requests, seed))
    if not keep:
        server.stop()
    return ledger, Seen(log=_log(server, ledger), **told)


def _show(server: Server, options: argparse.Namespace) -> int:
    print(f"The AI video API on FastAPI, wrapped by ErrorKit, under uvicorn at {server.url}")
    print(f"{options.requests} requests, {_AT_ONCE} at once, seed {options.seed} ...", flush=True)
    started_at = time.perf_counter()
    ledger, seen = observe(server, requests=options.requests, seed=options.seed, keep=options.keep)
    print(f"done in {time.perf_counter() - started_at:.1f} s, start and end of the server included")
    verified = checks(ledger, seen)
    print(report(ledger, seen, verified, encoding=sys.stdout.encoding or "ascii"))
    if options.keep:
        _keep(server)
    advice = YOUR_OWN_APP if options.keep else YOUR_OWN_APP + LOOK_AROUND
    print(advice, end="", flush=True)
    return 0 if all(check.holds for check in verified) else 1


async def _visit(server: Server, ledger: Ledger, requests: int, seed: int) -> dict[str, Any]:
    """Wait for the server, send the traffic, and ask the app what it saw."""
    async with client_for(server.url) as client:
        await _until_healthy(server, client, ledger)
        await make_traffic(client, plan(seed, requests), ledger, seed=seed, at_once=_AT_ONCE)
        server.check()
        status, looked_after = await _when_quiet(client, ledger)
        return {
            "status": status,
            "looked_after": looked_after,
            "groups": await look(client, "/errors/groups", ledger),
            "videos": await look(client, "/videos", ledger),
        }


async def _until_healthy(server: Server, client: httpx.AsyncClient, ledger: Ledger) -> None:
    for _ in _turns(_START_SECONDS):
        server.check()
        try:
            await look(client, "/health", ledger)
        except httpx.ConnectError:
            await asyncio.sleep(_POLL_SECONDS)
        else:
            return
    raise ServerError(f"nobody answered at {server.url} within {_START_SECONDS:.0f} s")


async def _when_quiet(client: httpx.AsyncClient, ledger: Ledger) -> tuple[dict[str, Any], int]:
    """The status when only this look at it is in flight, and what the ledger held before."""
    for _ in _turns(_QUIET_SECONDS):
        held = len(ledger)
        status = await look(client, "/status", ledger)
        if status["performance_stats"]["in_flight"] <= 1:
            break
        await asyncio.sleep(_POLL_SECONDS)
    return status, held


def _log(server: Server, ledger: Ledger) -> Log:
    """The log, as soon as it holds all that is expected; else as it is after a while."""
    log = read_log(server.log)
    for _ in _turns(_LOG_SECONDS):
        if len(log.lines) >= ledger.events().total() or server.process.poll() is not None:
            break
        time.sleep(_POLL_SECONDS)
        log = read_log(server.log)
    return log


def _keep(server: Server) -> None:
    try:
        print(f"\nThe demo goes on at {server.url} until Ctrl-C. Try:")
        for path in ("/videos/database_video", "/videos/model_video", "/status", "/errors/groups"):
            print(f"  {server.url}{path}")
        print(f"Its request log: {server.log}", flush=True)
        server.process.wait()
    except KeyboardInterrupt:
        print()
    else:
        server.check()


def _turns(seconds: float) -> Iterator[None]:
    """Turns of a loop until so much time has gone; one at least."""
    until = time.monotonic() + seconds
    yield
    while time.monotonic() < until:
        yield


@contextmanager
def _ended_like_an_error() -> Iterator[None]:
    """Have a request to end, of whatever kind, unwind the stack, so that no child is left behind."""
    handlers = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: _interrupt}
    if threading.current_thread() is not threading.main_thread():
        yield  # signals are the main thread's
        return
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _interrupt(number: int, frame: FrameType | None) -> None:
    signal.raise_signal(signal.SIGINT)  # which asyncio knows how to end with


def _number_within(least: int, most: int) -> Callable[[str], int]:
    """What argparse converts an option with; it takes the words of its errors from the name."""

    def number(text: str) -> int:
        given = int(text)
        if not least <= given <= most:
            raise argparse.ArgumentTypeError(f"must lie between {least} and {most}; got {text}")
        return given

    return number
