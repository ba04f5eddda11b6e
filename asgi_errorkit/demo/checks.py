"""The proof of the demo: what the ledger says was sent, against what the kit says it saw."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from asgi_errorkit.demo.aftermath import (
    Incidents,
    Operated,
    of_incidents,
    of_notices,
    of_operators,
)
from asgi_errorkit.demo.killing import Killed
from asgi_errorkit.demo.ledger import FAILED, Ledger
from asgi_errorkit.demo.record import Record

__all__ = ["SECRET", "Check", "Log", "Seen", "checks", "events", "read_log"]

SECRET = "hunter2"  # noqa: S105  it stands in a query that is sent, and must not in the log
_BLOCKED = "loop_blocked"  # a busy machine may have more of them, of whichever request
_ENDS = ("request_complete", "request_error", "websocket_close")


class Check(NamedTuple):
    """One thing that was sent and must have been seen, in just that number."""

    part: str
    what: str
    sent: int
    seen: int

    @property
    def holds(self) -> bool:
        return self.sent == self.seen


@dataclass(frozen=True, slots=True)
class Log:
    """The request log as it was read: its lines, and how many of them were no JSON object."""

    lines: list[dict[str, Any]]
    broken: int = 0
    secrets: int = 0

    @property
    def expected(self) -> list[dict[str, Any]]:
        """All lines but those of what blocked the event loop: nobody knows how many there are."""
        return [line for line in self.lines if line.get("event") != _BLOCKED]

    @property
    def ends(self) -> list[dict[str, Any]]:
        return [line for line in self.lines if line.get("event") in _ENDS]


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What the kit told. ``looked_after`` is how much the ledger held when ``status`` was read.

    ``killed`` is the worker that was killed after that; ``record`` is of both workers, ``crashes``
    what the ops app told of them; ``incidents`` is None when there were none.
    """

    status: Mapping[str, Any]
    looked_after: int
    operated: Operated
    crashes: list[dict[str, Any]]
    incidents: Incidents | None
    groups: list[dict[str, Any]]
    videos: Mapping[str, int]
    log: Log
    killed: Killed
    record: Record


def read_log(path: Path, *secrets: str) -> Log:
    """The log in a file of JSON lines, whatever it holds, and how often these secrets stand in it."""
    raw = path.read_bytes()
    lines, broken = [], 0
    for text in raw.splitlines():
        try:
            line = orjson.loads(text)
        except orjson.JSONDecodeError:
            line = None
        if isinstance(line, dict):
            lines.append(line)
        else:
            broken += 1
    return Log(lines, broken, sum(raw.count(each.encode()) for each in secrets))


def events(ledger: Ledger) -> Counter[str]:
    """The lines that the log has to have: also the one about the worker that was killed."""
    return ledger.events() + Counter({"worker_died": 1})


def checks(ledger: Ledger, seen: Seen) -> list[Check]:
    """Everything that has to agree, in the order in which to tell it."""
    found = [
        *_of_answers(ledger),
        *_of_statistics(ledger.until(seen.looked_after), seen.status),
        *_of_groups(ledger, seen),
        *_of_log(ledger, seen.log),
        *_of_record(ledger, seen.killed, seen.record),
        *of_operators(ledger.until(seen.operated.looked_after), seen.operated, seen.crashes),
        *_of_incidents(ledger, seen),
    ]
    return [Check(*check) for check in found]


_Checks = Iterator[tuple[str, str, int, int]]


def _of_answers(ledger: Ledger) -> _Checks:
    part = "What came back"
    yield part, "as it should have", len(ledger), len(ledger) - len(ledger.wrong)


def _of_statistics(ledger: Ledger, status: Mapping[str, Any]) -> _Checks:
    """The ledger is that of the time of the look, which is itself not among what it saw."""
    errors, performance = status["error_stats"], status["performance_stats"]
    part = "The statistics"
    yield part, "requests and sessions", len(ledger), errors["total_requests"]
    yield part, "failures of the server", ledger.failed(), errors["failed_requests"]
    yield part, "requests measured", len(ledger.requests), performance["total_requests"]
    yield from _each(part, "outcome ", ledger.outcomes(), performance["outcomes"])
    yield part, "errors", ledger.error_types().total(), errors["total_errors"]
    yield from _each(part, "errors: ", ledger.error_types(), errors["errors_by_type"])
    for name in ("lost", "sink_errors", "dropped_log_lines", "dropped_groups", "observer_errors"):
        yield part, f"the kit's own {name.replace('_', ' ')}", 0, status["recorder"][name]
    yield part, "still in flight, the look aside", 0, performance["in_flight"] - 1


def _of_groups(ledger: Ledger, seen: Seen) -> _Checks:
    part = "The groups"
    escaped = sum(sent.grouped for sent in ledger.entries)
    yield part, "exceptions that escaped the app", escaped, sum(g["count"] for g in seen.groups)
    rendered = sum(sent.kind == "order a video" for sent in ledger.entries)
    yield "The app itself", "videos rendered afterwards", rendered, seen.videos["completed"]


def _of_record(ledger: Ledger, killed: Killed, record: Record) -> _Checks:
    """What two workers have counted, of whom one was killed, adds up to what was sent to both."""
    part = "The record"
    outcomes, answered = record.outcomes, killed.answered
    sent = len(ledger) + len(answered)
    yield part, "requests and sessions of two workers", sent, sum(outcomes.values())
    failed = sum(outcomes.get(name, 0) for name in FAILED)
    yield part, "failures of the server", ledger.failed() + answered.failed(), failed
    yield part, "workers that were killed", 1, len(record.crashes)
    first = [s["request_id"] for crash in record.crashes for s in crash["suspects"][:1]]
    yield part, "its request, as the first suspect", 1, first.count(killed.request_id)


def _of_incidents(ledger: Ledger, seen: Seen) -> _Checks:
    if seen.incidents is not None:
        yield from of_incidents(ledger, seen.operated, seen.incidents, seen.log.lines)
        yield from of_notices(seen.incidents.notices, seen.killed)


def _of_log(ledger: Ledger, log: Log) -> _Checks:
    part = "The log"
    logged = Counter(str(line.get("event")) for line in log.expected)
    yield from _each(part, "", events(ledger), logged)
    yield from _each(part, "status ", ledger.statuses(), Counter(_status(e) for e in log.ends))
    yield part, "websocket sessions", len(ledger.sessions), _number(log, "websocket_close")
    yield from _of_ids(ledger, log)
    yield from _of_sizes(ledger, log)
    yield part, "lines that are no JSON object", 0, log.broken
    yield part, "secrets of queries, or the token", 0, log.secrets


def _of_ids(ledger: Ledger, log: Log) -> _Checks:
    sent = Counter(entry.request_id for entry in ledger.entries)
    ended = Counter(str(line.get("request_id")) for line in log.ends)
    yield "The log", "request ids the client saw", len(sent), len(sent.keys() & ended.keys())
    yield "The log", "ids of nobody, or told twice", 0, (ended - sent).total()


def _of_sizes(ledger: Ledger, log: Log) -> _Checks:
    """Of what a client left early, the server sent more than the client read."""
    entries = [sent for sent in ledger.entries if sent.got_all]
    ids = {sent.request_id for sent in entries}
    ends = [line for line in log.ends if line.get("request_id") in ids]
    for what, sent, name in (
        ("bytes the client sent", sum(e.sent_bytes for e in entries), "request_size"),
        ("bytes the client got", sum(e.got_bytes for e in entries), "response_size"),
        ("messages the client sent", sum(e.sent_messages for e in entries), "messages_received"),
        ("messages the client got", sum(e.got_messages for e in entries), "messages_sent"),
    ):
        yield "The log", what, sent, sum(line.get(name) or 0 for line in ends)


def _each(part: str, prefix: str, sent: Mapping[str, int], seen: Mapping[str, int]) -> _Checks:
    """One check for every name that either side knows."""
    for name in sorted(sent.keys() | seen.keys()):
        yield part, prefix + name, sent.get(name, 0), seen.get(name, 0)


def _status(line: Mapping[str, Any]) -> str:
    return str(line.get("status_code") or "none")


def _number(log: Log, event: str) -> int:
    return sum(line.get("event") == event for line in log.lines)
