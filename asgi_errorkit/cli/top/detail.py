"""One group of errors, or one crash, as `errors` and `crashes` tell of it."""

from collections.abc import Iterator, Mapping
from io import StringIO
from typing import Any

from rich.console import Console

from asgi_errorkit.cli.crash_tables import show_crashes
from asgi_errorkit.cli.error_tables import show_errors
from asgi_errorkit.cli.top.lines import Paper, folded, spark
from asgi_errorkit.cli.words import megabytes, plain, shown, span

__all__ = ["of_crash", "of_group"]

_LEAST_WIDTH = 40  # a table in less is no table
_MOST_RECENT = 20


def of_group(group: Mapping[str, Any], paper: Paper) -> list[str]:
    """What it is, the sample of it with its request, and the traceback."""
    console = _console(paper)
    with console.capture() as captured:
        show_errors(console, {"group": group})
    return _lines(captured.get(), paper)


def of_crash(crash: Mapping[str, Any], paper: Paper) -> list[str]:
    """Who died amid what, how its memory went, and what it had ended last."""
    console = _console(paper)
    with console.capture() as captured:
        show_crashes(console, {"crashes": [crash]})
    return _lines("\n".join([captured.get().rstrip(), *_history(crash, paper)]), paper)


def _console(paper: Paper) -> Console:
    width = max(_LEAST_WIDTH, paper.width)
    return Console(
        file=StringIO(), width=width, color_system=None, highlight=False, markup=False, emoji=False
    )


def _lines(text: str, paper: Paper) -> list[str]:
    return [part for each in text.rstrip().split("\n") for part in folded(each.rstrip(), paper)]


def _history(crash: Mapping[str, Any], paper: Paper) -> Iterator[str]:
    memory = [each["memory_mb"] for each in crash["resources"]]
    if memory:
        head = f"  memory up to its end, {megabytes(memory[-1])}: "
        yield head + spark(memory, paper.width - len(head))
    recent = crash["recent"][-_MOST_RECENT:]
    if recent:
        yield "  what it had ended before, the latest last:"
    for each in recent:
        status = plain(each["status_code"], grouped=False)
        asked = f"{shown(each['method'])} {shown(each['path'])}"
        yield f"    {status} {asked}, {span(each['duration'])}"
