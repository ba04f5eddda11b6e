"""The report of the demo: plain text tables of what was sent, what was seen, and whether it agrees."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from asgi_errorkit.demo.checks import Check, Seen
from asgi_errorkit.demo.ledger import Ledger

__all__ = ["report", "table", "what_next"]

_WIDTH = 78
_QUANTILES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99}
_MOST_ROUTES = 6
_HERE = "asgi_errorkit/demo/"
_MOST_GROUPS = 20
_NICE = ("=", "✓", "≠", "✗")
_PLAIN = ("=", "ok", "!=", "NO")

Row = Sequence[object]


def report(ledger: Ledger, seen: Seen, checks: Sequence[Check], *, encoding: str) -> str:
    """The whole report; its marks are characters that ``encoding`` has."""
    marks = _NICE if _can(encoding, "".join(_NICE)) else _PLAIN
    lines = [
        *_requests(ledger),
        *_outcomes(ledger, seen),
        *_errors(seen.status["error_stats"]),
        *_durations(ledger, seen),
        *_routes(seen.status["performance_stats"]),
        *_groups(seen.groups),
        *_events(seen),
        *_agreement(checks, marks),
        *_verdict(ledger, checks),
    ]
    # Text of the requests is in it, and a terminal may know fewer characters than they.
    return "\n".join(lines).encode(encoding, "replace").decode(encoding)


def what_next() -> str:
    """What to do after the demo."""
    return """
Next, your own app:

  from asgi_errorkit import ErrorKit
  app = ErrorKit(app)            # any ASGI app, once its routes are set up

or without touching its code:

  asgi-errorkit serve yourpackage.main:app --port 8000

To look around in the demo by hand:

  asgi-errorkit demo --keep --port 8000
"""


def table(headings: Row, rows: Iterable[Row], *, indent: str = "  ") -> list[str]:
    """Rows under their headings, text to the left and numbers to the right."""
    cells = [[_text(cell) for cell in row] for row in rows]
    heads = [str(heading) for heading in headings]
    widths = [max(map(len, column)) for column in zip(heads, *cells, strict=True)]
    right = [_is_number(column) for column in zip(*cells, strict=True)] or [False] * len(heads)
    lines = []
    for row in [heads, *cells]:
        parts = [
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(row, widths, right, strict=True)
        ]
        lines.append((indent + "  ".join(parts)).rstrip())
    return lines


def _requests(ledger: Ledger) -> Iterator[str]:
    yield from _title("Sent")
    own = Counter(sent.kind for sent in ledger.own)
    made = len(ledger) - len(ledger.own)
    sessions = len(ledger.sessions)
    rows: list[Row] = [
        ("requests by the traffic maker", made - sessions),
        ("websocket sessions by the traffic maker", sessions),
        *((f"looks of this report: {kind}", number) for kind, number in own.items()),
        ("in all", len(ledger)),
    ]
    yield from table(("", "number"), rows)


def _outcomes(ledger: Ledger, seen: Seen) -> Iterator[str]:
    yield from _title("Outcomes of the requests, as the kit saw them")
    outcomes = seen.status["performance_stats"]["outcomes"]
    total = sum(outcomes.values()) or 1
    yield from table(
        ("outcome", "requests", "share"),
        ((name, number, f"{number / total:.1%}") for name, number in _falling(outcomes)),
    )


def _errors(stats: Mapping[str, Any]) -> Iterator[str]:
    yield from _title("Errors by type")
    total = stats["total_errors"] or 1
    yield from table(
        ("type", "errors", "share"),
        (
            (name, number, f"{number / total:.1%}")
            for name, number in _falling(stats["errors_by_type"])
        ),
    )
    severities = ", ".join(f"{n} {name}" for name, n in _falling(stats["errors_by_severity"]))
    yield f"  by severity: {severities or 'none'}"
    due = ", ".join(sorted(stats["alerts_due"]))
    yield f"  an alert is due for: {due or 'nothing'}"


def _durations(ledger: Ledger, seen: Seen) -> Iterator[str]:
    yield from _title("Durations of the requests, in milliseconds")
    stats = seen.status["performance_stats"]
    requests = ledger.until(seen.looked_after).requests
    client = sorted(sent.seconds for sent in requests)
    rows = [
        ("the client, waiting included", *(_ms(_rank(client, q)) for q in _QUANTILES.values())),
        ("the kit, to the last byte", *(_ms(stats["percentiles"][p]) for p in _QUANTILES)),
        ("the kit, to the first byte", *(_ms(stats["time_to_first_byte"][p]) for p in _QUANTILES)),
    ]
    maxima = [_ms(client[-1]) if client else "", _ms(stats["max_duration"]), ""]
    yield from table(
        ("seen by", *_QUANTILES, "max"),
        [(*row, most) for row, most in zip(rows, maxima, strict=True)],
    )


def _routes(stats: Mapping[str, Any]) -> Iterator[str]:
    yield from _title("Slowest routes, in milliseconds")
    slowest = sorted(stats["routes"].items(), key=lambda item: -item[1]["p95"])[:_MOST_ROUTES]
    yield from table(
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
    yield from _title("Errors that escaped the app, grouped by where they come from")
    falling = sorted(groups, key=lambda group: -group["count"])
    yield from table(
        ("errors", "type", "exception", f"where (in {_HERE})", "route"),
        (
            (
                group["count"],
                group["error_type"],
                _short(group["exception"]),
                (group["where"] or "").removeprefix(_HERE).partition(" ")[0],
                ", ".join(group["routes"]),
            )
            for group in falling[:_MOST_GROUPS]
        ),
    )
    if len(falling) > _MOST_GROUPS:
        yield f"  and {len(falling) - _MOST_GROUPS} groups more"


def _events(seen: Seen) -> Iterator[str]:
    yield from _title("Lines of the request log")
    events = Counter(str(line.get("event")) for line in seen.log.lines)
    yield from table(("event", "lines"), _falling(events))


def _agreement(checks: Sequence[Check], marks: Sequence[str]) -> Iterator[str]:
    yield from _title("Does it agree? What was sent = what was seen")
    rows = []
    before = ""
    for check in checks:
        part = check.part if check.part != before else ""
        before = check.part
        relation, mark = marks[:2] if check.holds else marks[2:]
        rows.append((part, check.what, check.sent, relation, check.seen, mark))
    yield from table(("", "", "sent", "", "seen", ""), rows)


def _verdict(ledger: Ledger, checks: Sequence[Check]) -> Iterator[str]:
    wrong = [check for check in checks if not check.holds]
    yield ""
    if not wrong:
        yield f"All {len(checks)} agree, exactly: everything that was sent was seen, and nothing else."
        return
    yield f"{len(wrong)} of {len(checks)} DIFFER:"
    for check in wrong:
        yield f"  {check.part}: {check.what}: {check.sent} sent, {check.seen} seen"
    for sent in ledger.wrong[:10]:
        yield f"  {sent.kind} ({sent.request_id or 'no id'}): {sent.wrong}"
    yield "Somebody else may have sent requests to this port; if not, this is a bug of the kit."


def _title(text: str) -> Iterator[str]:
    yield ""
    yield text
    yield "-" * _WIDTH


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


def _text(cell: object) -> str:
    if isinstance(cell, float):
        return f"{cell:.1f}"
    return f"{cell:,}" if isinstance(cell, int) else str(cell)


def _is_number(column: Sequence[str]) -> bool:
    return all(cell[:1].isdigit() or not cell for cell in column)


def _can(encoding: str, text: str) -> bool:
    try:
        text.encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return False
    return True
