"""What the kit told of the incidents, and operators over HTTP, as things that have to be so."""

import importlib.util
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from asgi_errorkit.demo.inbox import Notices
from asgi_errorkit.demo.incidents import (
    BLOCKING,
    CIRCUIT_ALERT,
    DEATH_ALERT,
    MEMORY_ALERT,
    Block,
    Growth,
    Outage,
)
from asgi_errorkit.demo.killing import Killed
from asgi_errorkit.demo.ledger import Ledger
from asgi_errorkit.demo.upscaler import CIRCUIT

__all__ = ["ONE_ALERTS", "Incidents", "Operated", "of_incidents", "of_notices", "of_operators"]

_Checks: TypeAlias = Iterator[tuple[str, str, int, int]]

ONE_ALERTS = importlib.util.find_spec("fcntl") is not None
"""Where there are no such locks each worker alerts for itself, and of no other's death."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Operated:
    """What the ops app told when only that was asked: of the first ``looked_after`` of the ledger.

    ``stranger`` is the status for somebody without the token.
    """

    looked_after: int
    errors: Mapping[str, Any]
    performance: Mapping[str, Any]
    groups: Mapping[str, Any]
    in_flight: Mapping[str, Any]
    breakers: Mapping[str, Any]
    stranger: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Incidents:
    """How they went, and the notices of them that arrived."""

    outage: Outage
    growth: Growth
    block: Block
    notices: Notices


def of_operators(ledger: Ledger, told: Operated, crashes: Sequence[Mapping[str, Any]]) -> _Checks:
    """The figures of the ops app; ``ledger`` is that of the time of the look."""
    part = "The ops app"
    yield part, "/errors/stats, requests", len(ledger), told.errors["total_requests"]
    yield part, "/errors/stats, errors", ledger.error_types().total(), told.errors["total_errors"]
    yield part, "/errors/stats, failures", ledger.failed(), told.errors["failed_requests"]
    performance = told.performance
    yield part, "/performance/stats, requests", len(ledger.requests), performance["total_requests"]
    outcomes = Counter(performance["outcomes"])
    yield part, "/performance/stats, outcome ok", ledger.outcomes()["ok"], outcomes["ok"]
    escaped = sum(sent.grouped for sent in ledger.entries)
    yield part, "/errors, in groups", escaped, sum(g["count"] for g in told.groups["groups"])
    yield part, "/inflight", 0, told.in_flight["total"]
    yield part, "/crashes", 1, len(crashes)
    yield part, "without the token", 401, told.stranger


def of_incidents(
    ledger: Ledger, operated: Operated, incidents: Incidents, log: Sequence[Mapping[str, Any]]
) -> _Checks:
    """What was told of each, once."""
    part = "The upscaler"
    yield part, "the circuit opened", 1, int(incidents.outage.opened)
    yield part, "and closed again", 1, int(incidents.outage.closed)
    refused = sum(sent.fallback_for == "CircuitOpenError" for sent in ledger.entries)
    mine = [each for each in operated.breakers["breakers"] if each["name"] == CIRCUIT]
    yield part, "calls that it refused", refused, sum(each["rejected"] for each in mine)
    part = "The memory"
    yield part, "its request, as one that grew", 1, int(incidents.growth.seen)
    part = "The event loop"
    block = incidents.block
    yield part, "the line that did it", 1, int(block.where.endswith(BLOCKING))
    told = {(line.get("where"), line.get("request_id")) for line in log if "where" in line}
    yield part, "told in the log, with its request", 1, int((block.where, block.request_id) in told)


def of_notices(notices: Notices, killed: Killed) -> _Checks:
    """Alerts that arrived at the webhook, once each; where each worker alerts, they are not once."""
    part = "The alerts"
    if ONE_ALERTS:
        yield part, "the circuit: begun", 1, notices.begun(CIRCUIT_ALERT)
        yield part, "the circuit: over", 1, notices.ended(CIRCUIT_ALERT)
        yield part, "the memory: begun", 1, notices.begun(MEMORY_ALERT)
        yield part, "the memory: over", 1, notices.ended(MEMORY_ALERT)
        yield part, "the killed worker", 1, notices.begun(DEATH_ALERT)
        named = notices.naming(DEATH_ALERT, killed.request_id)
        yield part, "with its request", 1, named
        yield part, "notices that came twice", 0, notices.again
    yield part, "with a wrong signature", 0, notices.refused
