"""The lists of `top`: in which order the rows stand, and what is left of a filter."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from asgi_errorkit.cli.top.columns import Listing, Row
from asgi_errorkit.cli.top.lines import Line, Paper, line, rows_of
from asgi_errorkit.cli.top.state import SORTS, State
from asgi_errorkit.cli.words import shown

__all__ = ["Body", "arranged"]


class Body(NamedTuple):
    """Lines, and the names of all rows that can be chosen."""

    lines: list[Line]
    rows: list[str]


def arranged(listing: Listing, rows: Sequence[dict[str, Any]], state: State, paper: Paper) -> Body:
    """The rows that the filter leaves, sorted, as many as there is room for around the chosen one."""
    orders = SORTS[state.view]
    order = orders[state.sorts[state.view]] if orders else ""
    kept = [row for row in rows if _matches(listing, row, state.needle)]
    kept.sort(key=_ORDERS.get(order, _unsorted))
    names = _unique([listing.name(row) for row in kept])
    if not kept:
        return Body([line(f"nothing matches {shown(state.needle)}" if rows else listing.none)], [])
    place = names.index(state.chosen) if state.chosen in names else 0
    room = max(1, paper.height - 1)
    first = max(0, min(place - room // 2, len(kept) - room))
    shown_rows = kept[first : first + room]
    inner = paper._replace(width=max(1, paper.width - 2))
    heading, texts = rows_of(listing.columns, shown_rows, inner)
    lines = [line(f"  {heading}", "bold")]
    for at, (row, text) in enumerate(zip(shown_rows, texts, strict=True), first):
        is_chosen = at == place
        style = "reverse" if is_chosen else listing.style(row)
        lines.append(line(f"{'>' if is_chosen else ' '} {text}", style))
    return Body(lines, names)


def _matches(listing: Listing, row: Row, needle: str) -> bool:
    sought = needle.casefold()
    return not sought or any(sought in each.tell(row).casefold() for each in listing.columns)


def _unique(names: Sequence[str]) -> list[str]:
    """Whoever tells the same name twice cannot make two rows one."""
    met: dict[str, int] = {}
    made = []
    for name in names:
        met[name] = met.get(name, 0) + 1
        made.append(name if met[name] == 1 else f"{name}\n{met[name]}")
    return made


def _falling(name: str) -> Callable[[Row], Any]:
    return lambda row: -(row.get(name) or 0.0)


def _by_text(name: str) -> Callable[[Row], Any]:
    return lambda row: row.get(name) or ""


def _unsorted(row: Row) -> Any:
    return 0


_SEVERITIES: Final = {"critical": 0, "high": 1, "medium": 2, "low": 3}
_STATES: Final = {"forced_open": 0, "open": 1, "half_open": 2}
_ORDERS: Final[Mapping[str, Callable[[Row], Any]]] = {
    "requests": _falling("requests"),
    "failed": _falling("failed"),
    "p95": _falling("p95"),
    "average": _falling("avg_duration"),
    "route": _by_text("route"),
    "last seen": lambda row: -(row.get("last_seen") or row.get("last_seen_at") or 0.0),
    "times": _falling("count"),
    "first seen": _falling("first_seen"),
    "type": lambda row: row.get("error_type") or row.get("type") or "",
    "severity": lambda row: _SEVERITIES.get(row.get("severity") or "", len(_SEVERITIES)),
    "age": _falling("age_seconds"),
    "memory grew": _falling("memory_growth_mb"),
    "request": _by_text("path"),
    "state": lambda row: _STATES.get(row.get("state") or "", len(_STATES)),
    "name": _by_text("name"),
    "refused": _falling("rejected"),
    "in flight": _falling("in_flight"),
    "memory": _falling("memory_mb"),
}
