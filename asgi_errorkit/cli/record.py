"""`asgi-errorkit crashes`, `inflight`, `stats`: what the workers of an app, running or dead, leave on record."""

import argparse
import os
import re
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime
from importlib import import_module
from math import isfinite
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import orjson

from asgi_errorkit.redact import Redactor
from asgi_errorkit.spool.crash import crash_of, in_flight
from asgi_errorkit.spool.directory import SpoolError, served_directory
from asgi_errorkit.spool.host import Host, Worker
from asgi_errorkit.spool.layout import Ending
from asgi_errorkit.spool.owner import Life

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

__all__ = ["crashes", "inflight", "stats"]

_VARIABLE = "ASGI_ERRORKIT_DIR"
_NEEDED = ("rich.console", "rich.table", "rich.text")
_PIPED_WIDTH = 160
_COLUMN_WIDTH = 64
_MOST_SHOWN = 5  # suspects of a worker; --json has them all
_MOST_SUSPECTS = 100
_TEXT_LIMIT = 200
_MESSAGE_LIMIT = 1000
_NOT_KNOWN = "?"
_UNUSUAL = 1e15  # no memory, age or count is so large
_SPANS = ((60.0, 1.0, "s", 1), (3600.0, 60.0, "min", 0), (86_400.0, 3600.0, "h", 1))
_DAY_SECONDS = 86_400.0
_FOREIGN = re.compile(r"[^ -~\n]")


def crashes(arguments: Sequence[str]) -> int:
    """Tell of the workers that died, and what they were at; return 0, or 2 when nothing can be read."""
    about = "Tell which workers of an app have died, and which requests they were at."
    return _run("crashes", about, arguments, _read_crashes, _show_crashes)


def inflight(arguments: Sequence[str]) -> int:
    """Tell what the workers that live are at; return 0, or 2 when nothing can be read."""
    about = "Tell which requests the workers of an app are at, the oldest first."
    return _run("inflight", about, arguments, _read_inflight, _show_inflight)


def stats(arguments: Sequence[str]) -> int:
    """Tell how requests have ended, at all workers ever; return 0, or 2 when nothing can be read."""
    about = "Tell how many requests have ended how, at all workers, those that have gone included."
    return _run("stats", about, arguments, _read_stats, _show_stats)


def _run(
    name: str,
    about: str,
    arguments: Sequence[str],
    read: Callable[[Host], dict[str, Any]],
    show: "Callable[[Console, dict[str, Any]], None]",
) -> int:
    asked = _asked(name, about, arguments)
    directory = os.environ.get(_VARIABLE) or None if asked.directory is None else asked.directory
    if directory is None:
        return _refuse(f"{name} needs the directory of the app: name it, or set {_VARIABLE}")
    try:
        if ":" in directory and not os.path.lexists(directory):
            directory = str(served_directory(directory))
        found = _found(directory, read)
    except SpoolError as error:
        return _refuse(str(error))
    if asked.json:
        return _print_json(found)
    try:
        for module in _NEEDED:
            import_module(module)
    except ImportError:
        return _refuse(f"{name} needs rich: pip install 'asgi-errorkit[cli]', or give --json")
    console = _console()
    with console.capture() as captured:
        show(console, found)
    return _print(captured.get())


def _asked(name: str, about: str, arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        f"asgi-errorkit {name}", description=f"{about} Nothing is changed by reading."
    )
    parser.add_argument(
        "directory",
        nargs="?",
        metavar="DIRECTORY",
        help=f"where the workers keep their record (default: ${_VARIABLE}), or the MODULE:APP that "
        "`asgi-errorkit serve` serves from here",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    return parser.parse_args(list(arguments))


def _refuse(problem: str) -> int:
    print(f"asgi-errorkit: {_shown(problem, _MESSAGE_LIMIT)}", file=sys.stderr)
    return 2


# What is read


def _found(directory: str, read: Callable[[Host], dict[str, Any]]) -> dict[str, Any]:
    _check_exists(directory)
    host = Host(directory)
    with closing(host.directory):
        found = read(host)
    path = os.fsencode(host.directory.path).decode("utf-8", "replace")
    return {"directory": path, "read_at": time.time(), "unread": host.unread, **found}


def _check_exists(directory: str) -> None:
    """Raise SpoolError for what a Host would make."""
    try:
        Path(directory).expanduser().lstat()
    except FileNotFoundError:
        raise SpoolError(f"{directory} does not exist: is it the directory of the app?") from None
    except (OSError, RuntimeError, ValueError):
        return  # a Host says what is wrong with it


def _read_crashes(host: Host) -> dict[str, Any]:
    # The dead come first: one that is claimed meanwhile is a crash by then, and not missed.
    dead = [_as_crash(_death_of(worker)) for worker in host.workers() if _has_died(worker)]
    kept = [_as_crash(told) for told in host.crashes()]
    known = {(crash["pid"], crash["started_at"]) for crash in kept}
    new = [crash for crash in dead if (crash["pid"], crash["started_at"]) not in known]
    return {"crashes": sorted([*new, *kept], key=_told_at, reverse=True)}


def _has_died(worker: Worker) -> bool:
    return worker.life is Life.DEAD and worker.reading.ending is not Ending.CLEAN


def _death_of(worker: Worker) -> dict[str, Any]:
    """As whoever claims it will tell; the name of its file is the better witness of its pid."""
    about = {**worker.about, "pid": worker.owner.pid}
    crash = crash_of(worker.reading, about, found_at=0.0, redactor=Redactor())
    return {**crash, "found_at": None}


def _told_at(crash: Mapping[str, Any]) -> float:
    return float(crash["last_seen_at"] or crash["found_at"] or 0.0)


def _read_inflight(host: Host) -> dict[str, Any]:
    running = [worker for worker in host.workers() if worker.life is not Life.DEAD]
    now = time.perf_counter()
    requests = [request for worker in running for request in _requests_of(worker, now)]
    requests.sort(key=lambda request: -(request["age_seconds"] or 0.0))
    return {"workers": [_as_worker(worker, now) for worker in running], "requests": requests}


def _requests_of(worker: Worker, now: float) -> list[dict[str, Any]]:
    offset = _number(worker.about.get("clock_offset")) or 0.0
    whose = {"pid": worker.owner.pid, "app": _text(worker.about.get("app"))}
    listed = in_flight(worker.reading, now, offset, Redactor())
    return [{**whose, **_as(_REQUEST, each)} for each in listed]


def _read_stats(host: Host) -> dict[str, Any]:
    counts = host.counts()
    return {"requests": counts.outcomes.total(), **counts.as_dict()}


# What is read may be of any shape


def _as(shape: Mapping[str, Callable[[object], Any]], told: Mapping[str, Any]) -> dict[str, Any]:
    """What is told under each name of a shape, None where it makes no sense."""
    return {name: judge(told.get(name)) for name, judge in shape.items()}


def _as_crash(told: Mapping[str, Any]) -> dict[str, Any]:
    suspects = told.get("suspects")
    listed = suspects[:_MOST_SUSPECTS] if isinstance(suspects, list) else []
    made_sense = [_as(_REQUEST, each) for each in listed if isinstance(each, dict)]
    return {**_as(_CRASH, told), "suspects": made_sense}


def _as_worker(worker: Worker, now: float) -> dict[str, Any]:
    reading = worker.reading
    return {
        "pid": worker.owner.pid,
        **_as(_ABOUT, worker.about),
        "life": worker.life.value,
        "silent_seconds": _number(max(0.0, now - reading.beats_at)),
        "memory_mb": reading.memory_mb,
        "in_flight": len(reading.in_flight),
        "unlisted": reading.unlisted,
    }


def _text(told: object) -> str | None:
    return told[:_TEXT_LIMIT] if isinstance(told, str) else None


def _number(told: object) -> float | None:
    if isinstance(told, bool) or not isinstance(told, (int, float)):
        return None
    return told if isfinite(told) else None


def _whole(told: object) -> int | None:
    return told if isinstance(told, int) and not isinstance(told, bool) else None


_ABOUT: Final = {"app": _text, "release": _text, "started_at": _number}
_CRASH: Final[Mapping[str, Callable[[object], Any]]] = {
    "pid": _whole,
    **_ABOUT,
    "last_seen_at": _number,
    "found_at": _number,
    "memory_mb": _number,
    "in_flight": _whole,
    "unlisted": _whole,
}
_REQUEST: Final[Mapping[str, Callable[[object], Any]]] = {
    "request_id": _text,
    "method": _text,
    "path": _text,
    "phase": _text,
    "started_at": _number,
    "age_seconds": _number,
    "memory_mb_at_start": _number,
    "memory_growth_mb": _number,
}


# What is printed


def _print_json(found: Mapping[str, Any]) -> int:
    """In ASCII, so that any terminal shows it and none obeys it."""
    document = orjson.dumps(found, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE).decode()
    return _print(_FOREIGN.sub(_escaped_for_json, document))


def _print(text: str) -> int:
    try:
        print(text, end="", flush=True)
    except BrokenPipeError:  # who reads it has seen enough; Python would complain at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _escaped_for_json(found: re.Match[str]) -> str:
    units = found[0].encode("utf-16-be")
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))


def _console() -> "Console":
    from rich.console import Console  # noqa: PLC0415  needs an extra

    width = None if sys.stdout.isatty() else _PIPED_WIDTH
    return Console(width=width, highlight=False, markup=False, emoji=False)


def _show_crashes(console: "Console", found: Mapping[str, Any]) -> None:
    for crash in found["crashes"]:
        _say(console, _heading(crash), style="bold")
        _say(console, _circumstances(crash))
        shown = crash["suspects"][:_MOST_SHOWN]
        if shown:
            console.print(_table(console, _SUSPECT_COLUMNS, shown))
        _say_more(console, (crash["in_flight"] or 0) - len(shown))
        console.print()
    if not found["crashes"]:
        _say(console, "no worker has died")
    _say_unread(console, found["unread"])


def _say_more(console: "Console", more: int) -> None:
    if more > 0:
        _say(console, f"  and {_plain(more)} more")


def _heading(crash: Mapping[str, Any]) -> str:
    return f"worker {_plain(crash['pid'], grouped=False)}{_of(crash)} died, last seen {_time(crash['last_seen_at'])}"


def _of(told: Mapping[str, Any]) -> str:
    release = f", release {_shown(told['release'])}" if told["release"] else ""
    return f" of {_shown(told['app'])}{release}"


def _circumstances(crash: Mapping[str, Any]) -> str:
    started_at, last_seen_at = crash["started_at"], crash["last_seen_at"]
    lived = None if None in (started_at, last_seen_at) else last_seen_at - started_at
    found = "not yet told of" if crash["found_at"] is None else f"found {_time(crash['found_at'])}"
    unlisted = f", {_plain(crash['unlisted'])} not listed" if crash["unlisted"] else ""
    return (
        f"  {found}; it lived {_age(lived)}, memory {_megabytes(crash['memory_mb'] or None)}, "
        f"{_plain(crash['in_flight'])} in flight{unlisted}"
    )


def _show_inflight(console: "Console", found: Mapping[str, Any]) -> None:
    workers, requests = found["workers"], found["requests"]
    if not workers:
        _say(console, "no worker is running")
    else:
        console.print(_table(console, _WORKER_COLUMNS, workers))
        if requests:
            console.print(_table(console, _REQUEST_COLUMNS, requests))
        else:
            _say(console, "nothing is in flight")
    _say_unread(console, found["unread"])


def _show_stats(console: "Console", found: Mapping[str, Any]) -> None:
    if not found["requests"]:
        _say(console, "no request has ended")
    for title, name in (("outcome", "outcomes"), ("type of error", "error_types")):
        rows = [{title: _shown(key, _TEXT_LIMIT), "number": n} for key, n in found[name].items()]
        rows.sort(key=lambda row: -int(row["number"]))
        if rows:
            columns: _Columns = {
                title: itemgetter(title),
                "number": lambda row: f"{row['number']:,}",
            }
            console.print(_table(console, columns, rows))
    _say_unread(console, found["unread"])


def _say(console: "Console", line: str, style: str = "") -> None:
    from rich.text import Text  # noqa: PLC0415  needs an extra

    console.print(Text(_encodable(console, line), style), soft_wrap=True)


def _say_unread(console: "Console", unread: int) -> None:
    if unread:
        files = "1 file was" if unread == 1 else f"{unread} files were"
        _say(console, f"{files} left out: what is in there makes no sense")


_Columns = Mapping[str, Callable[[Mapping[str, Any]], str]]


def _table(console: "Console", columns: _Columns, rows: Sequence[Mapping[str, Any]]) -> "Table":
    from rich.table import Table  # noqa: PLC0415  needs an extra
    from rich.text import Text  # noqa: PLC0415

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for name in columns:
        # A long text takes more lines; nothing of an id or a path is left out.
        table.add_column(name, overflow="fold", max_width=_COLUMN_WIDTH)
    for row in rows:
        table.add_row(*(Text(_encodable(console, tell(row))) for tell in columns.values()))
    return table


def _request(told: Mapping[str, Any]) -> str:
    return f"{_shown(told['method'])} {_shown(told['path'])}"


def _growth(told: Mapping[str, Any]) -> str:
    """Not known of one that began before the memory was measured for the first time."""
    return _megabytes(told["memory_growth_mb"] if told["memory_mb_at_start"] else None)


_SUSPECT_COLUMNS: Final[_Columns] = {
    "  suspect": lambda told: f"  {_request(told)}",
    "phase": lambda told: _shown(told["phase"]),
    "age": lambda told: _age(told["age_seconds"]),
    "memory grew": _growth,
    "request id": lambda told: _shown(told["request_id"]),
}
_REQUEST_COLUMNS: Final[_Columns] = {
    "age": lambda told: _age(told["age_seconds"]),
    "request": _request,
    "phase": lambda told: _shown(told["phase"]),
    "pid": lambda told: _plain(told["pid"], grouped=False),
    "memory grew": _growth,
    "request id": lambda told: _shown(told["request_id"]),
}
_WORKER_COLUMNS: Final[_Columns] = {
    "worker": lambda told: _plain(told["pid"], grouped=False),
    "app": lambda told: _shown(told["app"]),
    "life": lambda told: _shown(told["life"]),
    "silent for": lambda told: _age(told["silent_seconds"]),
    "memory": lambda told: _megabytes(told["memory_mb"] or None),
    "in flight": lambda told: _plain(told["in_flight"]),
    "started": lambda told: _time(told["started_at"]),
}


# How a thing is written. All text is somebody's: a terminal must not obey it


def _shown(text: str | None, limit: int = _TEXT_LIMIT) -> str:
    """Without anything that a terminal would not print: controls, and marks that turn the text."""
    if text is None:
        return _NOT_KNOWN
    cut = text if len(text) <= limit else f"{text[: limit - 1]}…"
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode() for each in cut
    )


def _encodable(console: "Console", text: str) -> str:
    return text.encode(console.encoding, "backslashreplace").decode(console.encoding)


def _plain(number: float | None, places: int = 0, *, grouped: bool = True) -> str:
    if number is None:
        return _NOT_KNOWN
    if abs(number) >= _UNUSUAL:
        return f"{number:.0e}"
    return f"{number:{',' if grouped else ''}.{places}f}"


def _megabytes(number: float | None) -> str:
    """None for a process that nobody has measured yet, which is 0.0 in its record."""
    return _NOT_KNOWN if number is None else f"{_plain(number)} MB"


def _age(seconds: float | None) -> str:
    if seconds is None:
        return _NOT_KNOWN
    for below, unit, name, places in _SPANS:
        if seconds < below:
            return f"{_plain(max(0.0, seconds) / unit, places)} {name}"
    return f"{_plain(seconds / _DAY_SECONDS, 1)} d"


def _time(seconds: float | None) -> str:
    if seconds is None:
        return _NOT_KNOWN
    try:
        return datetime.fromtimestamp(seconds, UTC).astimezone().isoformat(timespec="seconds")
    except (OverflowError, OSError, ValueError):  # of no year that there is
        return _NOT_KNOWN
