"""Labels for requests: by the matched route, of a bounded number, whatever clients ask for."""

import re
from functools import partial

from asgi_errorkit.exchange import METHOD, PATH, ROUTE, STATUS, Record
from asgi_errorkit.kept import Kept
from asgi_errorkit.redact import Redactor

__all__ = ["OTHER", "UNMATCHED", "RouteLabels", "folded_path", "label_of", "usual_method"]

UNMATCHED = "(unmatched)"
OTHER = "(other)"

_METHODS = frozenset(
    ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "QUERY")
)
# What changes from one request to the next: numbers, and ids of hex digits, dashes and the like.
_VARIABLE = re.compile(r"(?<=/)(?=[^/]*[0-9])[^/]*")
_PATH_LIMIT = 128


class RouteLabels:
    """Names the route of a record, such as "GET /videos/{video_id}".

    Where the framework does not tell the matched route, path segments that hold a digit are folded
    into "{...}". Unanswered paths (404, 405) share one label; beyond ``maximum`` labels the rest
    shares another, and ``folded`` counts how many requests that took. A path loses its secrets.
    """

    def __init__(self, redactor: Redactor, maximum: int = 200) -> None:
        if maximum < 1:
            raise ValueError(f"maximum must be at least 1; got {maximum!r}")
        self.folded = 0
        self._maximum = maximum
        self._labels: dict[tuple[str, str], str] = {}
        self._paths: Kept[str, str] = Kept(partial(folded_path, redactor))

    def __call__(self, record: Record) -> str:
        route = record[ROUTE]
        if route == UNMATCHED:
            return UNMATCHED
        if route is None:
            if record[STATUS] in (404, 405):
                return UNMATCHED
            route = self._paths[record[PATH]]
        label = self._labels.get((record[METHOD], route))
        return self._new(record[METHOD], route) if label is None else label

    def _new(self, method: str, route: str) -> str:
        method = usual_method(method)
        label = self._labels.get((method, route))
        if label is not None:
            return label
        if len(self._labels) >= self._maximum:
            self.folded += 1
            return OTHER
        label = label_of(method, route)
        self._labels[method, route] = label
        return label


def folded_path(redactor: Redactor, path: str) -> str:
    """The path without its secrets, its segments that hold a digit as "{...}"; 128 characters."""
    # More than is shown is read, so that the dots of what is cut are not part of a label.
    shown = redactor.text(path, 2 * _PATH_LIMIT)[:_PATH_LIMIT]
    return _VARIABLE.sub("{...}", shown)


def label_of(method: str, route: str) -> str:
    """The method and the route as one line of text; methods nobody uses are one."""
    return f"{usual_method(method)} {_printable(route[:_PATH_LIMIT])}"


def usual_method(method: str) -> str:
    """The method if it is one of those that frameworks know, else "(other)"."""
    return method if method in _METHODS else OTHER


def _printable(text: str) -> str:
    """Labels go into logs and on to terminals: no line breaks, escapes or lone surrogates."""
    return "".join(c if c.isprintable() else "?" for c in text)
