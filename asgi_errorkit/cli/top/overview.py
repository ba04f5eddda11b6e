"""The first view of `top`: how it goes, what there is to be alarmed by, and how requests end."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from asgi_errorkit.cli.top.history import History, Sample, sample_of
from asgi_errorkit.cli.top.lines import Line, Paper, line, spark
from asgi_errorkit.cli.top.picture import Picture
from asgi_errorkit.cli.words import age, megabytes, percent, plain, shown, span, time_of

__all__ = ["overview"]

_TITLE_WIDTH = 12
_NAME_WIDTH = 28
_NUMBER_WIDTH = 10
_REFUSING = ("open", "forced_open")
_MOST_ALERTS = 3


def overview(picture: Picture, history: History, now: float, paper: Paper) -> list[Line]:
    """As many lines as there is room for, the more telling ones first."""
    lines = [*_trends(picture, history, paper), line("")]
    lines += [*_sums(picture), *_alarms(picture, now), line("")]
    room = max(2, paper.height - len(lines))
    outcomes, types = picture.performance["outcomes"], picture.errors["errors_by_type"]
    of_types = min(len(types), max(room - len(outcomes), room // 2))
    lines += _counts("outcome", outcomes, history, lambda s: s.outcomes, room - of_types, paper)
    lines += _counts("error", types, history, lambda s: s.types, of_types, paper)
    return lines


def _trends(picture: Picture, history: History, paper: Paper) -> Iterator[Line]:
    now = sample_of(picture)
    number_width = max(1, min(_NUMBER_WIDTH, paper.width - _TITLE_WIDTH))
    for title, tell, write in _TRENDS:
        number = f"{write(tell(now)):>{number_width}}"
        yield _with_trend(f"{title:<{_TITLE_WIDTH}}{number}", history.of(tell), paper)


def _with_trend(text: str, numbers: list[float | None], paper: Paper) -> Line:
    """One look alone is no trend."""
    drawn = spark(numbers, paper.width - len(text) - 2) if len(numbers) > 1 else ""
    return ((f"{text}  ", ""), (drawn, "cyan")) if drawn else ((text, ""),)


def _sums(picture: Picture) -> Iterator[Line]:
    errors = picture.errors
    failed = errors["failed_requests"]
    yield (
        (f"{'5 minutes':<{_TITLE_WIDTH}}{plain(errors['total_requests'])} requests, ", ""),
        (f"{plain(failed)} failed ({percent(errors['error_ratio'])})", "red" if failed else ""),
        (f", {plain(errors['client_errors'])} refused as the client's fault", ""),
    )


def _alarms(picture: Picture, now: float) -> Iterator[Line]:
    yield _titled("workers", _workers(picture))
    if picture.crashes:
        yield _titled("crashes", _crashes(picture.crashes), "red")
    refusing = [each for each in picture.breakers if each["state"] in _REFUSING]
    if refusing:
        named = ", ".join(dict.fromkeys(shown(each["name"]) for each in refusing))
        yield _titled("breakers", f"{plain(len(refusing))} open: {named}", "red")
    if picture.groups:
        yield _titled("errors", _last_error(picture.groups, now))
    for told in list(_alerts(picture))[:_MOST_ALERTS]:
        yield _titled("alert", told, "red")


def _titled(title: str, text: str, style: str = "") -> Line:
    return ((f"{title:<{_TITLE_WIDTH}}", style), (text, style))


def _workers(picture: Picture) -> str:
    if not picture.workers:
        return "none is running"
    lives = [each["life"] or "alive" for each in picture.workers]
    counted = {life: lives.count(life) for life in dict.fromkeys(lives)}
    return ", ".join(f"{plain(number)} {shown(life)}" for life, number in counted.items())


def _crashes(crashes: list[dict[str, Any]]) -> str:
    last = max(crashes, key=lambda crash: crash["last_seen_at"] or crash["found_at"] or 0.0)
    suspects = last["suspects"]
    amid = f", amid {shown(suspects[0]['method'])} {shown(suspects[0]['path'])}" if suspects else ""
    at = time_of(last["last_seen_at"] or last["found_at"])
    pid = plain(last["pid"], grouped=False)
    return f"{plain(len(crashes))}, the last of worker {pid}, {at}{amid}"


def _last_error(groups: list[dict[str, Any]], now: float) -> str:
    last = max(groups, key=lambda group: group["last_seen"] or 0.0)
    ago = "" if last["last_seen"] is None else f", {age(max(0.0, now - last['last_seen']))} ago"
    number = "1 group" if len(groups) == 1 else f"{plain(len(groups))} groups"
    return f"{number}{ago}: {shown(last['type_name'])}: {shown(last['message'])}"


def _alerts(picture: Picture) -> Iterator[str]:
    for firing in picture.alerts["firing"]:
        yield f"{shown(firing['severity'])} {shown(firing['type'])}: {shown(firing['message'])}"
    for name, due in picture.errors["alerts_due"].items():
        yield f"due for {shown(name)}: {plain(due['errors'])} errors of {plain(due['threshold'])}"


def _counts(
    title: str,
    counts: Mapping[str, int],
    history: History,
    tell: Callable[[Sample], Mapping[str, int]],
    most: int,
    paper: Paper,
) -> Iterator[Line]:
    """The most frequent, each with how it went lately."""
    falling = sorted(counts.items(), key=lambda pair: -pair[1])
    for place, (name, number) in enumerate(falling[:most]):
        others = len(falling) - most
        more = f" and {others} more" if others > 0 and place == most - 1 else ""
        named = shown(name, _NAME_WIDTH - 1)
        head = (
            f"{title:<{_TITLE_WIDTH}}{named:<{_NAME_WIDTH}}{plain(number):>{_NUMBER_WIDTH}}{more}"
        )
        numbers: list[float | None] = [tell(each).get(name, 0) for each in history.samples]
        yield _with_trend(head, numbers, paper)


_TRENDS: Final[
    tuple[tuple[str, Callable[[Sample], float | None], Callable[[float | None], str]], ...]
] = (
    ("requests/s", lambda sample: sample.requests_per_second, lambda told: plain(told, 1)),
    ("failed", lambda sample: sample.failed_ratio, percent),
    ("in flight", lambda sample: sample.in_flight, plain),
    ("p50", lambda sample: sample.p50, span),
    ("p95", lambda sample: sample.p95, span),
    ("p99", lambda sample: sample.p99, span),
    ("memory", lambda sample: sample.memory_mb, megabytes),
    ("loop lag", lambda sample: sample.loop_lag_seconds, span),
)
