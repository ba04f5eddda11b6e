"""`asgi-errorkit demo`: serves the demo app, sends it traffic, and tells whether all was seen."""

import argparse
import asyncio
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from types import FrameType

import httpx

from asgi_errorkit.demo.checks import SECRET, Log, Seen, checks, events, read_log
from asgi_errorkit.demo.ledger import Ledger
from asgi_errorkit.demo.living import live_on
from asgi_errorkit.demo.record import Record, read_record
from asgi_errorkit.demo.report import LOOK_AROUND, YOUR_OWN_APP, report, ways_to_look
from asgi_errorkit.demo.server import Server, ServerError
from asgi_errorkit.demo.stage import Stage, staged
from asgi_errorkit.demo.visit import AT_ONCE, Planned, visit
from asgi_errorkit.demo.waiting import POLL_SECONDS, turns
from asgi_errorkit.spool.directory import SpoolError

__all__ = ["main", "observe"]

_LOG_SECONDS = 5.0


def main(arguments: Sequence[str]) -> int:
    """Run the demo: 0 when all that was sent was seen, 1 when not, 130 when interrupted."""
    options = _options(arguments)
    try:
        with _ended_like_an_error(), staged(options.port) as stage:
            return _show(stage, options)
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
        "and failure, make incidents, and show what the kit saw beside what was sent.",
    )
    parser.add_argument(
        "--requests", type=_number_within(1, 20_000), default=300, help="how many (300)"
    )
    parser.add_argument("--seed", type=int, default=1, help="decides the mix (1)")
    parser.add_argument(
        "--port", type=_number_within(0, 65535), default=0, help="where to serve (a free port)"
    )
    parser.add_argument(
        "--no-incidents",
        dest="incidents",
        action="store_false",
        help="send the traffic and kill a worker, but have nothing else go wrong",
    )
    parser.add_argument(
        "--keep",
        action="store_true",
        help="leave the server running until Ctrl-C, with light traffic and an incident a minute, "
        "to look around",
    )
    return parser.parse_args(arguments)


def observe(stage: Stage, planned: Planned, *, keep: bool = False) -> tuple[Ledger, Seen]:
    """Send the traffic to a server that was just started; what was sent, and what the kit saw.

    A second one is killed after that. The server is stopped before its log is read, unless it is to
    be kept.
    """
    ledger, server = Ledger(), stage.server
    told = asyncio.run(visit(stage, ledger, planned))
    if not keep:
        server.stop()
    log = _log(stage, ledger)
    sent = len(ledger) + len(told["killed"].answered)
    return ledger, Seen(log=log, record=_record(server, sent), **told)


def _show(stage: Stage, options: argparse.Namespace) -> int:
    started_at = time.perf_counter()

    def say(text: str) -> None:
        first, *more = text.splitlines()
        print(f"{time.perf_counter() - started_at:5.1f} s  {first}")
        print("".join(f"         {line}\n" for line in more), end="", flush=True)

    planned = Planned(
        requests=options.requests, seed=options.seed, incidents=options.incidents, say=say
    )
    print(f"The AI video API on FastAPI, wrapped by ErrorKit, under uvicorn at {stage.server.url}")
    print(f"{options.requests} requests, {AT_ONCE} at once, seed {options.seed} ...", flush=True)
    ledger, seen = observe(stage, planned, keep=options.keep)
    print(f"done in {time.perf_counter() - started_at:.1f} s, start and end of the server included")
    verified = checks(ledger, seen)
    print(report(ledger, seen, verified, encoding=sys.stdout.encoding or "ascii"))
    if options.keep:
        _keep(stage, planned)
    advice = YOUR_OWN_APP if options.keep else YOUR_OWN_APP + LOOK_AROUND
    print(advice, end="", flush=True)
    return 0 if all(check.holds for check in verified) else 1


def _log(stage: Stage, ledger: Ledger) -> Log:
    """The log, as soon as it holds all that is expected; else as it is after a while."""
    server = stage.server
    for _ in turns(_LOG_SECONDS):
        log = read_log(server.log, SECRET, stage.token)
        if len(log.expected) >= events(ledger).total() or server.process.poll() is not None:
            break
        time.sleep(POLL_SECONDS)
    in_errors = server.errors.read_bytes().count(stage.token.encode())
    return replace(log, secrets=log.secrets + in_errors)


def _record(server: Server, sent: int) -> Record:
    """As soon as it holds all that is expected; else as it is after a while."""
    for _ in turns(_LOG_SECONDS):
        record = read_record(server.record)
        if sum(record.outcomes.values()) >= sent:
            break
        time.sleep(POLL_SECONDS)
    return record


def _keep(stage: Stage, planned: Planned) -> None:
    try:
        print("\n".join(ways_to_look(stage, incidents=planned.incidents)), flush=True)
        asyncio.run(live_on(stage, planned))
    except KeyboardInterrupt:
        print()


@contextmanager
def _ended_like_an_error() -> Iterator[None]:
    """Have a request to end, of whatever kind, unwind the stack, so that no child is left behind."""
    handlers = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: _interrupt}
    if hasattr(signal, "SIGHUP"):  # the terminal is closed
        handlers[signal.SIGHUP] = _interrupt
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
