"""How `errors` shows what it has read: all groups of errors in a table, or the whole of one."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

import orjson

from asgi_errorkit.cli.output import Columns, say, table
from asgi_errorkit.cli.words import MESSAGE_LIMIT, age, many, plain, shown, time_of

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["show_errors"]

_MOST_SHOWN = 50  # --json has them all
_MOST_ROUTES = 2
_MESSAGE_SHOWN = 120
_OUTERMOST = 10  # frames of a long traceback that stand before those that were left out
_RELATIONS: Final[Mapping[str | None, str]] = {
    "cause": "The above exception was the direct cause of the following exception:",
    "context": "During handling of the above exception, another exception occurred:",
    "member": "The above exception is a member of the following exception group:",
}


def show_errors(console: "Console", found: Mapping[str, Any]) -> None:
    """The table, or the one group that was asked for."""
    if "group" in found:
        _show_group(console, found["group"])
        return
    groups = found["groups"]
    if not groups:
        minutes = found["window_minutes"]
        within = "" if minutes is None else f" within the last {minutes:g} minutes"
        say(console, f"no error has been seen{within}")
        return
    rows = [{**each, "ago": _ago(each, found["read_at"])} for each in groups[:_MOST_SHOWN]]
    console.print(table(console, _GROUPS, rows))
    if len(groups) > len(rows):
        say(console, f"and {plain(len(groups) - len(rows))} groups more")


def _ago(group: Mapping[str, Any], now: float) -> str:
    last_seen = group["last_seen"]
    return f"{age(None if last_seen is None else now - last_seen)} ago"


def _show_group(console: "Console", group: Mapping[str, Any]) -> None:
    say(console, f"{_text(group['type_name'])}: {shown(group['message'], MESSAGE_LIMIT)}", "bold")
    for line in _facts(group):
        say(console, f"  {line}")
    sample = group["sample"]
    if sample is None:
        say(console, "  no sample of it is kept")
        return
    console.print()
    say(console, f"the sample of {time_of(sample['at'])}", style="bold")
    for line in _request(sample):
        say(console, f"  {line}")
    if sample["exception"] is not None:
        console.print()
        for line in _traceback(sample["exception"]):
            say(console, line)


def _facts(group: Mapping[str, Any]) -> Iterator[str]:
    release = f", since release {_text(group['release'])}" if group["release"] else ""
    yield f"group {_text(group['fingerprint'])} of the type {_text(group['error_type'])}{release}"
    yield f"where: {_text(group['where'])}"
    yield (
        f"seen {plain(group['count'])} times, first {time_of(group['first_seen'])}, "
        f"last {time_of(group['last_seen'])}"
    )
    yield f"routes: {many(group['routes'], len(group['routes'])) or 'none'}"
    for each in group["latest"]:
        yield f"at {_occurrence(each)}"


def _occurrence(told: Mapping[str, Any]) -> str:
    request = f"request {shown(told['request_id'])}" if told["request_id"] else "no request"
    route = f" of {shown(told['route'])}" if told["route"] else ""
    status = plain(told["status_code"], grouped=False) if told["status_code"] else ""
    answer = " ".join(filter(None, (status, told["outcome"] and shown(told["outcome"]))))
    worker = f"worker {plain(told['pid'], grouped=False)}" if told["pid"] else ""
    where = ", ".join(filter(None, (f"{request}{route}", answer, worker)))
    return f"{time_of(told['at'])}: {where}"


def _request(sample: Mapping[str, Any]) -> Iterator[str]:
    if sample["method"] or sample["path"]:
        query = f"?{_text(sample['query'])}" if sample["query"] else ""
        yield f"{_text(sample['method'])} {_text(sample['path'])}{query}"
    answer = "nothing" if sample["status_code"] is None else plain(sample["status_code"])
    yield f"answered: {answer}"
    for title, name in (
        ("request id", "request_id"),
        ("trace id", "trace_id"),
        ("release", "release"),
    ):
        if sample[name]:
            yield f"{title}: {_text(sample[name])}"
    for name, value in sample["headers"].items():
        yield f"{shown(name)}: {_text(value)}"
    if sample["context"]:
        context = orjson.dumps(sample["context"]).decode()
        yield f"context: {_text(context)}"


def _traceback(exception: Mapping[str, Any]) -> Iterator[str]:
    """As Python prints it, the oldest cause first, with the lines around each."""
    for link in reversed([exception, *exception["causes"]]):
        yield from _link(link)
        if link is not exception:
            yield from (
                "",
                _RELATIONS.get(link["relation"], "It led to the following exception:"),
                "",
            )
    dropped = {name: number for name, number in exception["dropped"].items() if number}
    if dropped:
        yield f"left out for want of room: {many(dropped, len(dropped))}"


def _link(link: Mapping[str, Any]) -> Iterator[str]:
    if link["frames"]:
        yield "Traceback (most recent call last):"
    for place, frame in enumerate(link["frames"]):
        if link["frames_left_out"] and place == _OUTERMOST:
            yield f"  ... {plain(link['frames_left_out'])} frames left out ..."
        yield from _frame(frame)
    message = f": {_text(link['message'])}" if link["message"] else ""
    yield f"{_text(link['type'])}{message}"


def _frame(frame: Mapping[str, Any]) -> Iterator[str]:
    """With the lines around it if it is of the app: those of frameworks are told by one line."""
    line = plain(frame["line"], grouped=False)
    yield f'  File "{_text(frame["file"])}", line {line}, in {_text(frame["function"])}'
    for at, source in frame["source"]:
        text = _text((source or "").expandtabs(4).rstrip())
        if frame["in_app"]:
            mark = ">" if at == frame["line"] else " "
            yield f"  {mark} {plain(at, grouped=False):>5} | {text}".rstrip()
        elif at == frame["line"]:
            yield f"    {text.strip()}"


def _text(text: str | None) -> str:
    return shown(text, MESSAGE_LIMIT)


_GROUPS: Final[Columns] = {
    "id": lambda told: shown(told["fingerprint"]),
    "last seen": lambda told: str(told["ago"]),
    "times": lambda told: plain(told["count"]),
    "type": lambda told: shown(told["error_type"]),
    "exception": lambda told: shown(told["type_name"]),
    "where": lambda told: shown(told["where"]),
    "message": lambda told: shown(told["message"], _MESSAGE_SHOWN),
    "routes": lambda told: many(told["routes"], _MOST_ROUTES),
}
