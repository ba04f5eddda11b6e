"""`asgi-errorkit crashes`, `inflight`, `stats`, `errors`: what the workers of an app, running or dead, leave on record."""

import argparse
import os
import re
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from asgi_errorkit.cli import reading
from asgi_errorkit.cli.crash_tables import show_crashes, show_inflight
from asgi_errorkit.cli.error_tables import show_errors
from asgi_errorkit.cli.output import new_console, print_json, print_text, say
from asgi_errorkit.cli.reading import UnknownGroupError, found
from asgi_errorkit.cli.stats_tables import show_stats
from asgi_errorkit.cli.words import MESSAGE_LIMIT, shown
from asgi_errorkit.options import HISTORY_MINUTES
from asgi_errorkit.spool.directory import SpoolError, served_directory
from asgi_errorkit.spool.host import Host

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["crashes", "errors", "inflight", "stats"]

_VARIABLE = "ASGI_ERRORKIT_DIR"
_GROUP_ID = re.compile(r"[0-9a-f]+")
_MOST_MINUTES = 525_600.0


def crashes(arguments: Sequence[str]) -> int:
    """Tell of the workers that died, and what they were at; return 0, or 2 when nothing can be read."""
    parser = _parser(
        "crashes", "Tell which workers of an app have died, and which requests they were at."
    )
    asked = parser.parse_intermixed_args(list(arguments))
    return _run("crashes", asked, reading.crashes, show_crashes)


def inflight(arguments: Sequence[str]) -> int:
    """Tell what the workers that live are at; return 0, or 2 when nothing can be read."""
    parser = _parser(
        "inflight", "Tell which requests the workers of an app are at, the oldest first."
    )
    asked = parser.parse_intermixed_args(list(arguments))
    return _run("inflight", asked, reading.inflight, show_inflight)


def stats(arguments: Sequence[str]) -> int:
    """Tell how requests have ended, ever and lately; return 0, or 2 when nothing can be read."""
    parser = _parser(
        "stats",
        "Tell how requests have ended at all workers, those that have gone included: ever, and "
        "within the last minutes.",
    )
    parser.add_argument(
        "--minutes",
        type=_minutes_up_to(HISTORY_MINUTES),
        default=5.0,
        metavar="N",
        help=f"how far back the window reaches (5; at most {HISTORY_MINUTES})",
    )
    parser.add_argument(
        "--workers", action="store_true", help="tell of each worker that runs by itself too"
    )
    asked = parser.parse_intermixed_args(list(arguments))

    def read(host: Host) -> dict[str, Any]:
        return reading.stats(host, asked.minutes, by_worker=asked.workers)

    return _run("stats", asked, read, show_stats)


def errors(arguments: Sequence[str]) -> int:
    """Tell of the groups of errors, or of one; return 0, or 2 when there is nothing to be read."""
    parser = _parser(
        "errors",
        "Tell which errors the workers of an app have had, those that have gone included, in groups "
        "of one origin, the last seen first.",
    )
    parser.add_argument(
        "group_id",
        nargs="?",
        metavar="ID",
        help="the id of a group, or its beginning: tell all of it, with traceback and request. "
        f"It may stand alone if ${_VARIABLE} is set",
    )
    parser.add_argument(
        "--minutes",
        type=_minutes_up_to(_MOST_MINUTES),
        metavar="N",
        help="only those seen within the last N minutes",
    )
    asked = _with_id_found(parser.parse_intermixed_args(list(arguments)))

    def read(host: Host) -> dict[str, Any]:
        return reading.errors(host, minutes=asked.minutes, group_id=asked.group_id)

    return _run("errors", asked, read, show_errors)


def _with_id_found(asked: argparse.Namespace) -> argparse.Namespace:
    """One word alone is the directory, unless it looks like an id, and the environment names one."""
    word = asked.directory
    is_id = (
        word is not None
        and asked.group_id is None
        and _GROUP_ID.fullmatch(word) is not None
        and bool(os.environ.get(_VARIABLE))
        and not os.path.lexists(word)
    )
    if is_id:
        asked.directory, asked.group_id = None, word
    return asked


def _parser(name: str, about: str) -> argparse.ArgumentParser:
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
    return parser


def _minutes_up_to(most: float) -> Callable[[str], float]:
    """What argparse converts an option with; it takes the words of its errors from the name."""

    def number(text: str) -> float:
        given = float(text)
        if not 0.0 < given <= most:
            raise argparse.ArgumentTypeError(
                f"must be above 0 and at most {most:g}, e.g. 5; got {text}"
            )
        return given

    return number


def _run(
    name: str,
    asked: argparse.Namespace,
    read: Callable[[Host], dict[str, Any]],
    show: "Callable[[Console, dict[str, Any]], None]",
) -> int:
    directory = os.environ.get(_VARIABLE) or None if asked.directory is None else asked.directory
    if directory is None:
        return _refuse(f"{name} needs the directory of the app: name it, or set {_VARIABLE}")
    try:
        if ":" in directory and not os.path.lexists(directory):
            directory = str(served_directory(directory))
        document = found(directory, read)
    except (SpoolError, UnknownGroupError) as error:
        return _refuse(str(error))
    return print_json(document) if asked.json else _show(name, document, show)


def _show(
    name: str,
    document: dict[str, Any],
    show: "Callable[[Console, dict[str, Any]], None]",
) -> int:
    try:
        console = new_console()
    except ImportError:
        return _refuse(f"{name} needs rich: pip install 'asgi-errorkit[cli]', or give --json")
    with console.capture() as captured:
        show(console, document)
        _say_unread(console, document["unread"])
    return print_text(captured.get())


def _say_unread(console: "Console", unread: int) -> None:
    if unread:
        files = "1 file was" if unread == 1 else f"{unread} files were"
        say(console, f"{files} left out: what is in there makes no sense")


def _refuse(problem: str) -> int:
    print(f"asgi-errorkit: {shown(problem, MESSAGE_LIMIT)}", file=sys.stderr)
    return 2
