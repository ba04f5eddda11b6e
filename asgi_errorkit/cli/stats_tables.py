"""How `stats` shows what it has read."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from asgi_errorkit.cli.output import Columns, counted, say, table
from asgi_errorkit.cli.words import age, megabytes, percent, plain, shown, span, time_of

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["show_stats"]

_MOST_ROUTES = 30  # --json has them all
_MOST_BREAKERS = 30
_QUANTILES = ("p50", "p90", "p95", "p99", "p99.9")


def show_stats(console: "Console", found: Mapping[str, Any]) -> None:
    """What has ended ever, then the window, then what refuses requests now."""
    if not found["requests"]:
        say(console, "no request has ended")
    for title, name in (("outcome", "outcomes"), ("type of error", "error_types")):
        _show_counts(console, title, "number", found[name])
    if found["requests"]:
        _show_window(console, found)
    if "workers" in found:
        console.print()
        console.print(table(console, _WORKERS, found["workers"]))
    _show_breakers(console, found["breakers"])


def _show_counts(console: "Console", title: str, heading: str, counts: Mapping[str, int]) -> None:
    if counts:
        falling = sorted(counts.items(), key=lambda pair: -pair[1])
        told = {shown(name): plain(number) for name, number in falling}
        console.print(counted(console, title, heading, told))


def _show_window(console: "Console", found: Mapping[str, Any]) -> None:
    errors, performance = found["errors"], found["performance"]
    minutes = "minute" if found["window_minutes"] == 1 else f"{found['window_minutes']:g} minutes"
    console.print()
    if not errors["total_requests"] and not errors["total_errors"]:
        say(console, f"nothing has ended within the last {minutes}", style="bold")
        return
    say(console, f"within the last {minutes}: {_sums(errors, performance)}", style="bold")
    _show_counts(console, "type of error", "errors", errors["errors_by_type"])
    _show_counts(console, "severity", "errors", errors["errors_by_severity"])
    for name, due in errors["alerts_due"].items():
        say(console, f"an alert is due for {shown(name)}: {_due(due)}")
    if performance["total_requests"]:
        console.print(table(console, _DURATIONS, _durations(performance)))
    _show_routes(console, performance["routes"])


def _sums(errors: Mapping[str, Any], performance: Mapping[str, Any]) -> str:
    return (
        f"{plain(errors['total_requests'])} requests and sessions, "
        f"{plain(errors['failed_requests'])} failed ({percent(errors['error_ratio'])}), "
        f"{plain(errors['client_errors'])} refused as the client's fault; "
        f"{plain(performance['requests_per_second'], 2)} requests a second, "
        f"{plain(performance['in_flight'])} in flight"
    )


def _due(due: Mapping[str, Any]) -> str:
    return f"{plain(due['errors'])} errors, of {plain(due['threshold'])} that call for one"


def _durations(performance: Mapping[str, Any]) -> list[dict[str, Any]]:
    whole, first = performance["percentiles"] or {}, performance["time_to_first_byte"] or {}
    spans = {"avg": performance["avg_duration"], "max": performance["max_duration"]}
    return [
        {"of": "to the last byte", **whole, **spans},
        {"of": "to the first byte", **first},
    ]


def _show_routes(console: "Console", routes: Mapping[str, Mapping[str, Any]]) -> None:
    falling = sorted(routes.items(), key=lambda pair: -(pair[1]["requests"] or 0))
    rows = [{"route": label, **told} for label, told in falling[:_MOST_ROUTES]]
    if rows:
        console.print(table(console, _ROUTES, rows))
    if len(falling) > len(rows):
        say(console, f"and {len(falling) - len(rows)} routes more")


def _show_breakers(console: "Console", breakers: list[dict[str, Any]]) -> None:
    if not breakers:
        return
    console.print()
    console.print(table(console, _BREAKERS, breakers[:_MOST_BREAKERS]))
    if len(breakers) > _MOST_BREAKERS:
        say(console, f"and {len(breakers) - _MOST_BREAKERS} circuits more")


def _span_of(name: str) -> Callable[[Mapping[str, Any]], str]:
    return lambda told: span(told[name]) if name in told else ""


def _failed(told: Mapping[str, Any]) -> str:
    errors = told["errors"]
    ratio = f" ({percent(errors['error_ratio'])})" if errors["failed_requests"] else ""
    return f"{plain(errors['failed_requests'])}{ratio}"


def _of_worker(name: str) -> Callable[[Mapping[str, Any]], str]:
    """One percentile of a worker; one that has answered nothing has none."""

    def tell(told: Mapping[str, Any]) -> str:
        performance = told["performance"]
        return (
            span((performance["percentiles"] or {})[name]) if performance["total_requests"] else ""
        )

    return tell


def _running(write: Callable[[Any], str], name: str) -> Callable[[Mapping[str, Any]], str]:
    """What is told of a worker; of those that are gone, who are one row, there is nothing."""
    return lambda told: "" if told["pid"] is None else write(told[name])


def _opened_by(told: Mapping[str, Any]) -> str:
    """A threshold is a number of errors, or a share of the calls; one opened by hand has none."""
    if told["threshold"] is None:
        return ""
    return f"{plain(told['error_count'])} errors, threshold {told['threshold']:g}"


def _retry_after(told: Mapping[str, Any]) -> str:
    seconds = told["retry_after_seconds"]
    return "" if seconds is None else age(seconds)


_DURATIONS: Final[Columns] = {
    "durations": lambda told: str(told["of"]),
    **{name: _span_of(name) for name in _QUANTILES},
    "average": _span_of("avg"),
    "longest": _span_of("max"),
}
_ROUTES: Final[Columns] = {
    "route": lambda told: shown(told["route"]),
    "requests": lambda told: plain(told["requests"]),
    "failed": lambda told: plain(told["failed"]),
    "average": _span_of("avg_duration"),
    **{name: _span_of(name) for name in _QUANTILES[:4]},
    "longest": _span_of("max_duration"),
}
_WORKERS: Final[Columns] = {
    "worker": lambda told: (
        "all others" if told["pid"] is None else plain(told["pid"], grouped=False)
    ),
    "life": lambda told: shown(told["life"]),
    "started": _running(time_of, "started_at"),
    "memory": _running(lambda told: megabytes(told or None), "memory_mb"),
    "in flight": _running(plain, "in_flight"),
    "requests": lambda told: plain(told["errors"]["total_requests"]),
    "failed": _failed,
    "errors": lambda told: plain(told["errors"]["total_errors"]),
    "p50": _of_worker("p50"),
    "p95": _of_worker("p95"),
    "p99": _of_worker("p99"),
}
_BREAKERS: Final[Columns] = {
    "circuit": lambda told: shown(told["name"]),
    "state": lambda told: shown(told["state"]),
    "worker": lambda told: plain(told["pid"], grouped=False),
    "since": lambda told: time_of(told["triggered_at"]),
    "opened by": _opened_by,
    "tries again in": _retry_after,
    "refused": lambda told: plain(told["rejected"]),
}
