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

from asgi_errorkit.demo.checks import Log, Seen, checks, events, read_log
from asgi_errorkit.demo.killing import kill_amid_request
from asgi_errorkit.demo.kinds import plan
from asgi_errorkit.demo.ledger import Ledger
from asgi_errorkit.demo.record import Record, private_directory, read_record
from asgi_errorkit.demo.report import LOOK_AROUND, YOUR_OWN_APP, report
from asgi_errorkit.demo.sending import client_for
from asgi_errorkit.demo.server import Server, ServerError
from asgi_errorkit.demo.traffic import look, make_traffic
from asgi_errorkit.demo.waiting import POLL_SECONDS, turns, until_healthy
from asgi_errorkit.spool.directory import SpoolError

__all__ = ["main", "observe"]

_AT_ONCE = 8
_QUIET_SECONDS = 20.0
_LOG_SECONDS = 5.0


def main(arguments: Sequence[str]) -> int:
    """Run the demo: 0 when all that was sent was seen, 1 when not, 130 when interrupted."""
    options = _options(arguments)
    try:
        with (
            _ended_like_an_error(),
            private_directory() as record,
            Server(record, options.port) as server,
        ):
            return _show(server, options)
    except (ServerError, SpoolError, httpx.HTTPError) as error:
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

    A second one is killed meanwhile. The server is stopped before its log is read, unless it is to
    be kept.
    """
    ledger = Ledger()
    told = asyncio.run(_visit(server, ledger, requests, seed))
    if not keep:
        server.stop()
    log = _log(server, ledger)
    sent = len(ledger) + len(told["killed"].answered)
    return ledger, Seen(log=log, record=_record(server, sent), **told)


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
        await until_healthy(server, client, ledger)
        with Server(server.record) as victim:  # it starts while the other has its traffic
            await make_traffic(client, plan(seed, requests), ledger, seed=seed, at_once=_AT_ONCE)
            server.check()
            status, looked_after = await _when_quiet(client, ledger)
            return {
                "status": status,
                "looked_after": looked_after,
                "groups": await look(client, "/errors/groups", ledger),
                "videos": await look(client, "/videos", ledger),
                "killed": await kill_amid_request(victim, server.record),
            }


async def _when_quiet(client: httpx.AsyncClient, ledger: Ledger) -> tuple[dict[str, Any], int]:
    """The status when only this look at it is in flight, and what the ledger held before."""
    for _ in turns(_QUIET_SECONDS):
        held = len(ledger)
        status = await look(client, "/status", ledger)
        if status["performance_stats"]["in_flight"] <= 1:
            break
        await asyncio.sleep(POLL_SECONDS)
    return status, held


def _log(server: Server, ledger: Ledger) -> Log:
    """The log, as soon as it holds all that is expected; else as it is after a while."""
    log = read_log(server.log)
    for _ in turns(_LOG_SECONDS):
        if len(log.lines) >= events(ledger).total() or server.process.poll() is not None:
            break
        time.sleep(POLL_SECONDS)
        log = read_log(server.log)
    return log


def _record(server: Server, sent: int) -> Record:
    """As soon as it holds all that is expected; else as it is after a while."""
    for _ in turns(_LOG_SECONDS):
        record = read_record(server.record)
        if sum(record.outcomes.values()) >= sent:
            break
        time.sleep(POLL_SECONDS)
    return record


def _keep(server: Server) -> None:
    try:
        print(f"\nThe demo goes on at {server.url} until Ctrl-C. Try:")
        for path in ("/videos/database_video", "/videos/model_video", "/status", "/errors/groups"):
            print(f"  {server.url}{path}")
        print("Its record, with the death of the second server:")
        for command in ("crashes", "errors", "stats"):
            print(f"  asgi-errorkit {command} {server.record}")
        print(f"Its request log: {server.log}", flush=True)
        server.process.wait()
    except KeyboardInterrupt:
        print()
    else:
        server.check()


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
