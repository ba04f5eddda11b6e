"""The command itself: what it is asked, and where it reads."""

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module

from asgi_errorkit.cli.top.of_directory import OfDirectory
from asgi_errorkit.cli.top.of_url import OfUrl
from asgi_errorkit.cli.top.source import Source, token_of
from asgi_errorkit.cli.words import MESSAGE_LIMIT, shown

__all__ = ["top"]

_VARIABLE = "ASGI_ERRORKIT_DIR"
_INTERRUPTED = 130
_LEAST_SECONDS, _MOST_SECONDS = 0.2, 3600.0


def top(arguments: Sequence[str]) -> int:
    """Show how an app goes until somebody ends it; return 0, or 2 when that cannot be."""
    asked = _asked(arguments)
    try:
        import_module("rich.live")
    except ImportError:
        return _refuse("top needs rich: pip install 'asgi-errorkit[cli]'")
    try:
        return _show(_source(asked), asked)
    except (OSError, ValueError) as error:
        return _refuse(str(error))
    except KeyboardInterrupt:
        return _INTERRUPTED


def _show(source: Source, asked: argparse.Namespace) -> int:
    from asgi_errorkit.cli.top import live, printed, terminal  # noqa: PLC0415  need an extra

    console = terminal.console_here()
    if not asked.once and terminal.can_show_live(console):
        return live.show_live(source, console, asked.every_seconds)
    problem = printed.printed_once(source, console)
    return 0 if problem is None else _refuse(problem)


def _asked(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "asgi-errorkit top",
        description="Show how an app goes: its requests, errors, breakers, workers and those that "
        "died. Nothing is changed by reading. Keys: 1-7 or Tab for the views, j and k or the arrows "
        "to choose, Enter to open, Escape to go back, s to sort, / to filter, p to pause, q to quit.",
    )
    parser.add_argument(
        "source",
        nargs="?",
        metavar="DIRECTORY|MODULE:APP|URL",
        help=f"where the workers keep their record (default: ${_VARIABLE}), the MODULE:APP that "
        "`asgi-errorkit serve` serves from here, or the http or https URL of an ops app",
    )
    parser.add_argument(
        "--token-file",
        metavar="FILE",
        help="where the token of the ops app stands (default: that of $ASGI_ERRORKIT_TOKEN)",
    )
    parser.add_argument(
        "--every-seconds",
        type=_seconds,
        default=1.0,
        metavar="N",
        help=f"how often to read (1; at least {_LEAST_SECONDS:g})",
    )
    parser.add_argument(
        "--once",
        action="store_true",
        help="print one picture, as is done where there is no terminal",
    )
    return parser.parse_args(list(arguments))


def _seconds(text: str) -> float:
    given = float(text)
    if not _LEAST_SECONDS <= given <= _MOST_SECONDS:
        raise argparse.ArgumentTypeError(
            f"must be from {_LEAST_SECONDS:g} to {_MOST_SECONDS:g}, e.g. 1; got {text}"
        )
    return given


def _source(asked: argparse.Namespace) -> Source:
    """Raises ValueError or OSError for what cannot be one."""
    named = asked.source if asked.source is not None else os.environ.get(_VARIABLE) or None
    if named is None:
        raise ValueError(
            f"top needs the directory of the app, or the URL of its ops app: name it, or set {_VARIABLE}"
        )
    if named.startswith(("http://", "https://")):
        return OfUrl(named, token_of(asked.token_file))
    return OfDirectory(named)


def _refuse(problem: str) -> int:
    print(f"asgi-errorkit: {shown(problem, MESSAGE_LIMIT)}", file=sys.stderr)
    return 2
