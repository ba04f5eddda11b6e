"""The page a developer sees in place of an error answer, for debug mode alone."""

from collections.abc import Iterable, Iterator
from html import escape
from itertools import islice
from types import FrameType, NoneType
from typing import Any, Final

import orjson

from asgi_errorkit.fingerprint import Frame, chain, frames, shortened, snapshot
from asgi_errorkit.redact import Redactor, safe_str
from asgi_errorkit.tracebacks import OUTERMOST, walk
from asgi_errorkit.types import Scope

__all__ = ["page"]

PAGE_BYTES: Final = 1024 * 1024
VALUE_CHARS: Final = 1000

_MAX_VARIABLES = 50
_MAX_ITEMS = 20
_MAX_DEPTH = 2
_ITEM_CHARS = 200
_MAX_HEADERS = 100
_OWN = "asgi_errorkit."  # how the keys of what the kit keeps in a scope begin
_CONTAINERS = (dict, list, tuple, set, frozenset)
_RELATIONS = {
    "cause": "Directly caused by",
    "context": "Raised while handling",
    "member": "Member of the group above",
}


def page(
    exc: BaseException, scope: Scope, *, heading: str, request_id: str, redactor: Redactor
) -> str:
    """An HTML page of the exception, its frames and their variables, and the request.

    Redacted, escaped, without scripts, and at most 1 MB as UTF-8: what lies farthest from the
    raise is left out first. Variables are shown by their own repr(), so only for a debug mode.
    """
    head = _HEAD.format(heading=_text(heading, 200), request_id=_text(request_id, 200))
    request = "".join(_request(scope, redactor))
    room = PAGE_BYTES - len((head + request + _CUT + _FOOT).encode())
    return "".join([head, *_within(room, _exceptions(exc, redactor)), request, _FOOT])


def _within(room: int, parts: Iterable[str]) -> Iterator[str]:
    """As many parts as there is room for, in bytes; the rest is never made."""
    for part in parts:
        room -= len(part.encode())
        if room < 0:
            yield _CUT
            return
        yield part


def _exceptions(exc: BaseException, redactor: Redactor) -> Iterator[str]:
    for each, relation in chain(exc):
        seen = snapshot(each)
        label = _RELATIONS.get(relation, "Raised")
        yield f"<h2>{label}: <code>{_text(seen.type_name, 300)}</code></h2>\n"
        yield f"<pre>{_text(redactor.text(seen.message), 4096)}</pre>\n"
        entries, gap = walk(each)
        shown = list(zip(frames(seen), entries, strict=True))
        if shown:
            yield "<p>Most recent call first.</p>\n"
        for number, (frame, entry) in reversed(list(enumerate(shown))):
            if gap and number == OUTERMOST - 1:
                yield f"<p>{gap} frames left out</p>\n"
            yield _frame(frame, entry.tb_frame, redactor)


def _frame(frame: Frame, live: FrameType, redactor: Redactor) -> str:
    kind, state = ("app", " open") if frame.in_app else ("library", "")
    where = f"{frame.file}, line {frame.line}, in {frame.function}"
    source = "\n".join(_source_line(number, text, frame, redactor) for number, text in frame.source)
    rows = "".join(
        f"<tr><th scope=row>{_text(name, 200)}</th><td><code>{_text(value, VALUE_CHARS)}</code></td></tr>\n"
        for name, value in _variables(live, redactor)
    )
    table = f"<table>\n{rows}</table>\n" if rows else ""
    return (
        f"<details class={kind}{state}><summary>{_text(where, 1000)}</summary>\n"
        f"<pre>{source}</pre>\n{table}</details>\n"
    )


def _source_line(number: int, text: str, frame: Frame, redactor: Redactor) -> str:
    line = f"{number:>5}  {_text(redactor.text(text), 400)}"
    return f"<mark>{line}</mark>" if number == frame.line else line


def _variables(live: FrameType, redactor: Redactor) -> list[tuple[str, str]]:
    try:
        variables = [
            (name, value)
            for name, value in islice(live.f_locals.items(), 2 * _MAX_VARIABLES)
            if not str(name).startswith("__")
        ]
    except Exception:  # noqa: BLE001  another thread changes them, or a class body's mapping raises
        return []
    return [(name, _shown(name, value, redactor)) for name, value in variables[:_MAX_VARIABLES]]


def _shown(name: str, value: Any, redactor: Redactor) -> str:
    """One variable, redacted by its name and its content."""
    try:
        content = orjson.dumps(redactor.mapping(_plain(value, _MAX_DEPTH))).decode()
        return redactor.header(name, content)
    except Exception:  # noqa: BLE001  what cannot be redacted is not shown
        return "(not shown)"


def _plain(value: Any, depth: int, limit: int = VALUE_CHARS) -> Any:
    """A bounded copy of plain data, of anything else its repr: nothing huge reaches the redactor."""
    kind = type(value)
    if kind in _CONTAINERS:
        return _contents(value, depth - 1) if depth else f"({kind.__name__} of {len(value)})"
    if kind is str:
        return shortened(value, limit)
    if kind in (bytes, bytearray):
        value = value[:limit]
    return value if kind in (bool, float, NoneType) else _repr(value, limit)


def _contents(container: Any, depth: int) -> Any:
    if type(container) is dict:
        named = ((safe_str(key, 100), item) for key, item in container.items())
        pairs = ((name, item) for name, item in named if not name.startswith(_OWN))
        return {name: _plain(item, depth, _ITEM_CHARS) for name, item in islice(pairs, _MAX_ITEMS)}
    return [_plain(item, depth, _ITEM_CHARS) for item in islice(container, _MAX_ITEMS)]


def _repr(value: Any, limit: int) -> str:
    try:
        return shortened(repr(value), limit)
    except Exception as error:  # noqa: BLE001  any class may have a repr that raises
        return f"(its repr raised {type(error).__name__})"


def _request(scope: Scope, redactor: Redactor) -> Iterator[str]:
    query = bytes(scope.get("query_string") or b"").decode("latin-1")
    rows = [
        ("method", safe_str(scope.get("method", ""), 32)),
        ("path", redactor.text(scope.get("path", ""), 1024)),
        ("query", redactor.query(query, 4096)),
    ]
    yield f"<h2>Request</h2>\n<table>\n{''.join(_row(name, value) for name, value in rows)}"
    for name, value in islice(scope.get("headers") or (), _MAX_HEADERS):
        label = name.decode("latin-1")
        yield _row(label, redactor.header(label, value.decode("latin-1")))
    yield "</table>\n"


def _row(name: str, value: str) -> str:
    return f"<tr><th scope=row>{_text(name, 200)}</th><td><code>{_text(value, 1024)}</code></td></tr>\n"


def _text(value: str, limit: int) -> str:
    return escape(safe_str(value, limit))


_HEAD: Final = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex">
<title>{heading}</title>
<style>
:root {{ color-scheme: light dark; }}
body {{ font: 1rem/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; padding: 0 1rem; }}
pre, code {{ font: .9rem/1.5 ui-monospace, monospace; overflow-wrap: anywhere; white-space: pre-wrap; }}
details {{ border-left: .3rem solid #8888; margin: .5rem 0; padding-left: .8rem; }}
details.app {{ border-color: #d33; }}
details.app > summary {{ font-weight: bold; }}
summary {{ cursor: pointer; overflow-wrap: anywhere; }}
th {{ padding-right: 1rem; text-align: left; vertical-align: top; }}
</style>
</head>
<body>
<main>
<h1>{heading}</h1>
<p>Request id <code>{request_id}</code>. Shown because debug mode is on: never in production.</p>
"""

_CUT: Final = "<p>The rest is left out: the page is full.</p>\n"

_FOOT: Final = "</main>\n</body>\n</html>\n"
