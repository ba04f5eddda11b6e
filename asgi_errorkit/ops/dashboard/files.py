"""The files of the page: which there are, who is sent them, and with which headers."""

from collections.abc import Mapping
from functools import cache
from hashlib import sha256
from importlib.resources import files
from types import MappingProxyType
from typing import Final

from asgi_errorkit.ops.hosts import header_values
from asgi_errorkit.ops.mount import Place
from asgi_errorkit.ops.replies import Headers, Reply
from asgi_errorkit.types import Scope

__all__ = ["ASSETS", "POLICY", "asset", "is_of_page", "page", "wants_page"]

_BELOW = "/assets/"
_CSS, _JS = b"text/css; charset=utf-8", b"text/javascript; charset=utf-8"

ASSETS: Mapping[str, bytes] = MappingProxyType(
    {
        "dashboard.css": _CSS,
        **dict.fromkeys(
            """alerts.js api.js breakers.js charts.js crashes.js dashboard.js dom.js errors.js
            flight.js format.js history.js overview.js routes.js silences.js tables.js workers.js""".split(),
            _JS,
        ),
    }
)
"""What there is below /assets/, and its type. A table: no path of a client ever names a file."""

POLICY: Final = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    b"connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_PAGE: Final[Headers] = (
    (b"content-security-policy", POLICY),
    (b"vary", b"accept"),
)


def wants_page(scope: Scope) -> bool:
    """Whether a browser asks for something to look at, and no program for data."""
    accepted = b",".join(header_values(scope, b"accept")).lower()
    return b"text/html" in accepted and b"application/json" not in accepted


def is_of_page(scope: Scope, route: str | None) -> bool:
    """Whether it is the page or one of its files that is looked at: no figure is among them."""
    if scope.get("method") not in ("GET", "HEAD") or route is None:
        return False
    return wants_page(scope) if route == "/" else _name(route) in ASSETS


def page(scope: Scope, place: Place) -> Reply:
    """The page; at a path without a slash at its end the way to it, for its files lie below."""
    if not str(scope.get("path")).endswith("/"):
        # Relative: whatever a proxy has taken from the path stays where it was.
        name = place.base.rpartition("/")[2].encode("ascii", "ignore")
        return Reply(307, b"text/plain", b"", ((b"location", name + b"/"), (b"vary", b"accept")))
    return Reply(200, b"text/html; charset=utf-8", _read("page.html"), _PAGE)


def asset(scope: Scope, route: str) -> Reply | None:
    """One of the files, unless the browser has it; None for what is none."""
    name = _name(route)
    if name not in ASSETS:
        return None
    body = _read(f"assets/{name}")
    tag = _tag(name)
    # Asked for each time, and sent once: another release shows at once, and never half.
    headers = ((b"cache-control", b"no-cache"), (b"etag", tag))
    if tag in b",".join(header_values(scope, b"if-none-match")):
        return Reply(304, ASSETS[name], b"", headers)
    return Reply(200, ASSETS[name], body, headers)


def _name(route: str) -> str:
    return route.removeprefix(_BELOW) if route.startswith(_BELOW) else ""


@cache
def _read(name: str) -> bytes:
    return files(__package__).joinpath(name).read_bytes()


@cache
def _tag(name: str) -> bytes:
    return b'"%b"' % sha256(_read(f"assets/{name}")).hexdigest()[:20].encode()
