"""The report of the demo: plain text tables of what was sent, what was seen, and whether it agrees."""

import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from textwrap import wrap
from typing import Any

import orjson

from asgi_errorkit.demo.aftermath import Incidents
from asgi_errorkit.demo.agreement import agreement, verdict
from asgi_errorkit.demo.checks import Check, Seen
from asgi_errorkit.demo.ledger import Ledger, Sent
from asgi_errorkit.demo.operating import MOUNTED_AT
from asgi_errorkit.demo.stage import Stage
from asgi_errorkit.demo.tables import Row, pretty, section, table

__all__ = ["LOOK_AROUND", "YOUR_OWN_APP", "report", "ways_to_look"]

_QUANTILES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99}
_MOST_ROUTES = 6
_HERE = "asgi_errorkit/demo/"
_MOST_GROUPS = 20
_WIDTH = 78


YOUR_OWN_APP = """
Next, your own app:

  from asgi_errorkit import ErrorKit
  app = ErrorKit(app)            # any ASGI app, once its routes are set up

or without touching its code:

  asgi-errorkit serve yourpackage.main:app --port 8000
"""
LOOK_AROUND = """
To look around in the demo by hand, at its live page and in a terminal, while it goes on:

  asgi-errorkit demo --keep
"""


def _program() -> str:
    """As it was called, for it need not be on the path."""
    called = sys.argv[0]
    return called if Path(called).stem == "asgi-errorkit" else "asgi-errorkit"


def ways_to_look(stage: Stage, *, incidents: bool) -> Iterator[str]:
    """What there is to look at while the demo stays."""
    url, record = stage.server.url, stage.server.record
    now_and_then = ", and an incident about once a minute" if incidents else ""
    yield ""
    yield f"The demo goes on at {url} until Ctrl-C, with light traffic{now_and_then}. Look at:"
    yield f"  {stage.page}"
    yield "  in a terminal, with the record of its workers:"
    for command in ("top", "crashes", "errors"):
        yield f"    {_program()} {command} {record}"
    yield "  as JSON, all that the page shows:"
    yield f'    curl -H "Authorization: Bearer {stage.token}" {url}{MOUNTED_AT}/errors/stats'
    yield "  failures, as a client gets them:"
    yield f"    {url}/videos/database_video"
    yield f"Its request log: {stage.server.log}"


def report(ledger: Ledger, seen: Seen, checks: Sequence[Check], *, encoding: str) -> str:
    """The whole report, in characters that ``encoding`` has."""
    stats = seen.status["performance_stats"]
    sections = {
        "Sent": _requests(ledger, seen),
        "Outcomes of the requests, as the kit saw them": _outcomes(ledger, seen),
        "Errors by type": _errors(seen),
        "Durations of the requests, in milliseconds": _durations(ledger, seen),
        "Slowest routes, in milliseconds": _routes(stats),
        "Errors that escaped the app, grouped by where they come from": _groups(seen.groups),
        "A second worker, killed amid a request, as the record tells of it": _crashes(seen),
        **_alerts(seen),
        "Lines of the request log": _events(seen),
        **_example(ledger, seen),
        "Does it agree? What was sent = what was seen": agreement(checks, encoding=encoding),
    }
    lines = [line for title, under in sections.items() for line in section(title, under)]
    # Text of the requests is in it, and a terminal may know fewer characters than they.
    text = "\n".join([*lines, *verdict(ledger, checks)])
    return text.encode(encoding, "replace").decode(encoding)


def _requests(ledger: Ledger, seen: Seen) -> Iterator[str]:
    own = Counter(sent.kind for sent in ledger.own)
    asked = len(ledger) - len(ledger.own) - len(ledger.of_incidents)
    incidents = Counter(sent.kind for sent in ledger.of_incidents)
    sessions = len(ledger.sessions)
    rows: list[Row] = [
        ("requests by the traffic maker", asked - sessions),
        ("websocket sessions by the traffic maker", sessions),
        *((f"incidents: {kind}", number) for kind, number in incidents.items()),
        *((f"looks of this report: {kind}", number) for kind, number in own.items()),
        ("in all", len(ledger)),
    ]
    yield from table(("", "number"), rows)
    yield f"  {asked:,} were asked for; the looks of this report at the app are requests too."
    yield f"  The statistics know the first {seen.looked_after:,}, the log knows all."


def _outcomes(ledger: Ledger, seen: Seen) -> Iterator[str]:
    outcomes = seen.status["performance_stats"]["outcomes"]
    total = sum(outcomes.values())
    yield from table(
        ("outcome", "requests", "share"),
        ((name, number, f"{number / total:.1%}") for name, number in _falling(outcomes)),
    )
    sessions = len(ledger.until(seen.looked_after).sessions)
    yield f"  {total:,} in all: {sessions:,} websocket sessions are measured apart."


def _errors(seen: Seen) -> Iterator[str]:
    stats = seen.status["error_stats"]
    total = stats["total_errors"]
    yield from table(
        ("type", "errors", "share"),
        (
            (name, number, f"{number / total:.1%}")
            for name, number in _falling(stats["errors_by_type"])
        ),
    )
    escaped = sum(group["count"] for group in seen.groups)
    yield f"  {total:,} in all: {escaped:,} escaped the app and are grouped below; the others are"
    yield "  refusals that the app answered itself, such as a 404."
    severities = ", ".join(f"{n} {name}" for name, n in _falling(stats["errors_by_severity"]))
    yield f"  by severity: {severities or 'none'}"
    due = ", ".join(sorted(stats["alerts_due"]))
    yield f"  an alert is due for: {due or 'nothing'}"


def _durations(ledger: Ledger, seen: Seen) -> list[str]:
    stats = seen.status["performance_stats"]
    requests = ledger.until(seen.looked_after).requests
    client = sorted(sent.seconds for sent in requests)
    whole, first = stats["percentiles"], stats["time_to_first_byte"]
    return table(
        ("seen by", *_QUANTILES, "max"),
        [
            (
                "the client, waiting included",
                *(_ms(_rank(client, q)) for q in _QUANTILES.values()),
                _ms(client[-1]) if client else None,
            ),
            (
                "the kit, to the last byte",
                *(_ms(whole[p]) for p in _QUANTILES),
                _ms(stats["max_duration"]),
            ),
            ("the kit, to the first byte", *(_ms(first[p]) for p in _QUANTILES), _slowest(seen)),
        ],
    )


def _slowest(seen: Seen) -> float | None:
    """The longest time to the first byte of a request: the log tells it, the statistics do not."""
    ends = (line for line in seen.log.ends if line["event"] != "websocket_close")
    spans = [line["time_to_first_byte"] for line in ends if line.get("time_to_first_byte")]
    return _ms(max(spans)) if spans else None


def _routes(stats: Mapping[str, Any]) -> list[str]:
    slowest = sorted(stats["routes"].items(), key=lambda item: -item[1]["p95"])[:_MOST_ROUTES]
    return table(
        ("route", "requests", "failed", "p50", "p95", "max"),
        (
            (
                label,
                route["requests"],
                route["failed"],
                _ms(route["p50"]),
                _ms(route["p95"]),
                _ms(route["max_duration"]),
            )
            for label, route in slowest
        ),
    )


def _groups(groups: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """The groups under their routes, that of most errors first."""
    of_route = Counter[str]()
    for group in groups:
        of_route[_route(group)] += group["count"]
    falling = sorted(groups, key=lambda g: (-of_route[_route(g)], _route(g), -g["count"]))
    shown = falling[:_MOST_GROUPS]
    head, *lines = table(
        ("errors", "type", "exception", "where in the demo"),
        (
            (
                group["count"],
                group["error_type"],
                _short(group["exception"]),
                (group["where"] or "").removeprefix(_HERE).partition(" ")[0],
            )
            for group in shown
        ),
    )
    yield head
    for route, rows in groupby(zip(shown, lines, strict=True), lambda row: _route(row[0])):
        yield f"  {route}"
        yield from (line for _, line in rows)
    if len(falling) > len(shown):
        yield f"  and {len(falling) - len(shown)} groups more"


def _route(group: Mapping[str, Any]) -> str:
    return ", ".join(group["routes"])


def _crashes(seen: Seen) -> Iterator[str]:
    for crash in seen.record.crashes:
        found_after = crash["found_at"] - crash["last_seen_at"]
        yield f"  worker {crash['pid']}: {crash['in_flight']} in flight; the other found that {found_after:.1f} s later"
        yield from table(
            ("suspect", "phase", "request id"),
            [
                (f"{s['method']} {s['path']}", s["phase"], s["request_id"])
                for s in crash["suspects"]
            ],
        )
    number = len(seen.killed.answered)
    yield f"  The {number} requests that it had answered before are on record too."


def _alerts(seen: Seen) -> dict[str, Iterator[str]]:
    """Of the incidents; nothing else has made alerts worth a section."""
    if seen.incidents is None:
        return {}
    return {"Alerts, as they arrived at a webhook": _notices(seen.incidents)}


def _notices(incidents: Incidents) -> Iterator[str]:
    """What is new of errors is in a section of its own already."""
    alerts = incidents.notices.alerts()
    shown = [alert for alert in alerts if alert["type"] != "NEW_ERROR"]
    head, *lines = table(
        ("alert", "status", "severity"),
        [(alert["type"], alert["status"], alert["severity"]) for alert in shown],
    )
    yield head
    for alert, line in zip(shown, lines, strict=True):
        yield line
        yield from wrap(alert["message"], _WIDTH, initial_indent="    ", subsequent_indent="    ")
    yield f"  and NEW_ERROR, of {len(alerts) - len(shown)} groups of errors"


def _events(seen: Seen) -> Iterator[str]:
    events = Counter(str(line.get("event")) for line in seen.log.lines)
    yield from table(("event", "lines"), _falling(events))
    refused = events["websocket_close"] - events["websocket_open"]
    if refused > 0:
        yield f"  {refused:,} sessions were refused: closed, and never opened."


def _example(ledger: Ledger, seen: Seen) -> dict[str, Iterator[str]]:
    """One line of the log and the answer that belongs to it, of a failure if there was one."""
    lines = {line.get("request_id"): line for line in seen.log.ends}
    logged = [sent for sent in ledger.entries if sent.request_id in lines]
    if not logged:
        return {}
    sent = min(logged, key=lambda each: _how_dull(each, lines[each.request_id]))
    sections = {"One line of the request log": pretty(lines[sent.request_id])}
    if sent.answer:
        sections["What its client was answered"] = pretty(orjson.loads(sent.answer))
    return sections


def _how_dull(sent: Sent, line: Mapping[str, Any]) -> tuple[bool, bool, bool]:
    """The first error of a group alone is logged with its traceback."""
    return not sent.answer, sent.outcome != "server_error", "traceback" not in line


def _falling(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def _short(exception: str) -> str:
    """A class's name, with its module where it says too little alone, as zlib.error does."""
    module, _, name = exception.rpartition(".")
    return name if name[:1].isupper() or name.startswith("_") else f"{module}.{name}"


def _rank(ordered: Sequence[float], quantile: float) -> float:
    """The nearest rank, as statistics define it."""
    return ordered[max(0, -int(-quantile * len(ordered) // 1) - 1)] if ordered else 0.0


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 1)
