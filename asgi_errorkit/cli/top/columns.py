"""Which columns each list of `top` has, and how each cell is written."""

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from asgi_errorkit.cli.top.history import Change, History
from asgi_errorkit.cli.top.lines import Column, spark
from asgi_errorkit.cli.top.picture import Picture
from asgi_errorkit.cli.top.state import VIEWS
from asgi_errorkit.cli.words import age, many, megabytes, percent, plain, shown, span, time_of

__all__ = ["WORKERS", "Listing", "Row", "listing_of"]

Row = Mapping[str, Any]
_TREND_WIDTH: Final = 16


class Listing(NamedTuple):
    """A kind of rows: how each is told, and named, and what stands where there are none."""

    columns: tuple[Column, ...]
    name: Callable[[Row], str]
    none: str
    style: Callable[[Row], str] = lambda row: ""


def listing_of(
    view: int, picture: Picture, now: float, history: History
) -> tuple[Listing, list[dict[str, Any]]]:
    """How a view lists, and its rows; `arranged` puts them in order."""
    name = VIEWS[view]
    if name == "routes":
        routes = picture.performance["routes"].items()
        return _ROUTES, [
            {**told, "route": label, "trend": history.of_route(label)} for label, told in routes
        ]
    if name == "errors":
        return _ERRORS, [{**each, "ago": _ago(each, now)} for each in picture.groups]
    if name == "in flight":
        return _REQUESTS, picture.requests
    if name == "breakers":
        return _BREAKERS, [
            {**each, "changes": history.changes_of(each)} for each in picture.breakers
        ]
    if name == "alerts":
        return _ALERTS, [{**each, "ago": _ago(each, now)} for each in _alerts(picture)]
    return _CRASHES, picture.crashes


def _alerts(picture: Picture) -> list[dict[str, Any]]:
    """Those that go on, and those that were; the first of them stand in both lists."""
    firing = [{**each, "last_seen": each["since"]} for each in picture.alerts["firing"]]
    going_on = {(each["type"], each["key"]) for each in firing}
    past = [{**each, "last_seen": each["timestamp"]} for each in picture.alerts["recent_alerts"]]
    return firing + [
        each
        for each in reversed(past)
        if each["status"] != "firing" or (each["type"], each["key"]) not in going_on
    ]


def _ago(row: Row, now: float) -> str:
    last_seen = row["last_seen"]
    return age(None if last_seen is None else max(0.0, now - last_seen))


def _trend(row: Row) -> str:
    return spark(row["trend"], _TREND_WIDTH)


def _changes(row: Row) -> str:
    """What it was seen to be: one state alone stands in its own column."""
    changes = row["changes"]
    return " > ".join(_change(each) for each in changes) if len(changes) > 1 else ""


def _change(change: Change) -> str:
    at = "" if change.at is None else f" {time_of(change.at)[11:19]}"
    return f"{shown(change.state)}{at}"


def _status(row: Row) -> str:
    return ", ".join(shown(each) for each in (row["status"], row["muted"]) if each) or "?"


def _number(title: str, tell: Callable[[Row], str], rank: int) -> Column:
    return Column(title, tell, rank, is_number=True)


def _request(row: Row) -> str:
    return f"{shown(row['method'])} {shown(row['path'])}"


def _pid(row: Row) -> str:
    return plain(row["pid"], grouped=False)


def _growth(row: Row) -> str:
    return megabytes(row["memory_growth_mb"] if row["memory_mb_at_start"] else None)


def _suspect(row: Row) -> str:
    return _request(row["suspects"][0]) if row["suspects"] else "none"


def _alarming(name: str) -> Callable[[Row], str]:
    return lambda row: "red" if row[name] else ""


def _retry_after(row: Row) -> str:
    seconds = row["retry_after_seconds"]
    return "" if seconds is None or row["state"] == "closed" else age(seconds)


def _circuit_style(row: Row) -> str:
    return {"open": "red", "forced_open": "red", "half_open": "yellow"}.get(row["state"] or "", "")


_ROUTES: Final = Listing(
    (
        Column("route", lambda row: shown(row["route"]), 0, gives_way=True),
        _number("requests", lambda row: plain(row["requests"]), 1),
        _number("failed", lambda row: plain(row["failed"]), 2),
        _number("average", lambda row: span(row["avg_duration"]), 7),
        _number("p50", lambda row: span(row["p50"]), 5),
        _number("p90", lambda row: span(row["p90"]), 8),
        _number("p95", lambda row: span(row["p95"]), 3),
        _number("p99", lambda row: span(row["p99"]), 6),
        _number("longest", lambda row: span(row["max_duration"]), 9),
        Column("trend", _trend, 4, is_optional=True),
    ),
    lambda row: str(row["route"]),
    "no request has ended within the last 5 minutes",
    _alarming("failed"),
)
_ERRORS: Final = Listing(
    (
        _number("last seen", lambda row: str(row["ago"]), 1),
        _number("times", lambda row: plain(row["count"]), 2),
        Column("type", lambda row: shown(row["error_type"]), 5, gives_way=True),
        Column("exception", lambda row: shown(row["type_name"]), 0, gives_way=True),
        Column("message", lambda row: shown(row["message"]), 3, gives_way=True),
        Column("where", lambda row: shown(row["where"]), 4, gives_way=True),
        Column("routes", lambda row: many(row["routes"], 1), 6, gives_way=True),
        Column("id", lambda row: shown(row["fingerprint"]), 7),
    ),
    lambda row: str(row["fingerprint"]),
    "no error has been seen",
)
_REQUESTS: Final = Listing(
    (
        _number("age", lambda row: age(row["age_seconds"]), 0),
        Column("request", _request, 1, gives_way=True),
        Column("phase", lambda row: shown(row["phase"]), 4),
        _number("pid", _pid, 3),
        _number("memory grew", _growth, 5),
        Column("request id", lambda row: shown(row["request_id"]), 6),
    ),
    lambda row: f"{row['pid']} {row['request_id']}",
    "nothing is in flight",
)
_BREAKERS: Final = Listing(
    (
        Column("circuit", lambda row: shown(row["name"]), 0, gives_way=True),
        Column("state", lambda row: shown(row["state"]), 1),
        _number("worker", _pid, 2),
        _number("calls", lambda row: plain(row["calls"]), 7),
        _number("failed", lambda row: plain(row["failed"]), 5),
        _number("refused", lambda row: plain(row["rejected"]), 3),
        _number("tries again in", _retry_after, 4),
        Column("since", lambda row: _moment(row["triggered_at"]), 6),
        Column("seen as", _changes, 8, gives_way=True, is_optional=True),
    ),
    lambda row: f"{row['pid']} {row['name']}",
    "no circuit breaker is there",
    _circuit_style,
)
_ALERTS: Final = Listing(
    (
        _number("began", lambda row: str(row["ago"]), 1),
        Column("status", _status, 2),
        Column("severity", lambda row: shown(row["severity"]), 3),
        Column("alert", lambda row: shown(row["type"]), 4, gives_way=True),
        Column("message", lambda row: shown(row["message"]), 0, gives_way=True),
    ),
    lambda row: f"{row['type']} {row['key']} {row['last_seen']}",
    "there has been no alert",
    lambda row: "red" if row["status"] == "firing" and not row["muted"] else "",
)
_CRASHES: Final = Listing(
    (
        _number("died", _pid, 0),
        Column("last seen", lambda row: _moment(row["last_seen_at"] or row["found_at"]), 1),
        _number("memory", lambda row: megabytes(row["memory_mb"] or None), 4),
        _number("in flight", lambda row: plain(row["in_flight"]), 3),
        Column("likeliest suspect", _suspect, 2, gives_way=True),
        Column("release", lambda row: shown(row["release"] or ""), 5, gives_way=True),
    ),
    lambda row: f"{row['pid']} {row['started_at']} {row['found_at']}",
    "no worker has died",
)
WORKERS: Final = (
    _number("worker", _pid, 0),
    Column("life", lambda row: shown(row["life"] or "alive"), 5),
    _number("memory", lambda row: megabytes(row["memory_mb"] or None), 1),
    _number("loop lag", lambda row: span(row["loop_lag_seconds"]), 2),
    _number("cpu", lambda row: _share(row["cpu_percent"]), 4),
    _number("in flight", lambda row: plain(row["in_flight"]), 3),
    _number("silent for", lambda row: age(row["silent_seconds"]), 6),
    Column("app", lambda row: shown(row["app"]), 7, gives_way=True),
    Column("release", lambda row: shown(row["release"] or ""), 8, gives_way=True),
)


def _moment(seconds: float | None) -> str:
    return "" if seconds is None else time_of(seconds)


def _share(number: float | None) -> str:
    return percent(None if number is None else number / 100)
