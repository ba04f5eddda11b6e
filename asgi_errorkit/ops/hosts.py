"""By which name and from which page a request comes: what DNS rebinding and other origins get wrong."""

import re
from collections.abc import Iterable
from typing import Any, NamedTuple

from asgi_errorkit.options import strings
from asgi_errorkit.types import Scope

__all__ = ["Hosts", "checked_hosts", "header_values", "is_of_other_page", "is_same_origin"]

_LOOPBACK = frozenset(("localhost", "127.0.0.1", "::1"))
# RFC 9110, 7.2, without what no browser and no server writes.
_HOST = re.compile(r"(?:\[([0-9a-f:.]{2,45})\]|([a-z0-9._-]{1,253}))(?::([0-9]{1,5}))?")
_ORIGIN = re.compile(r"(https?)://(.{1,300})")
_PORTS = {"http": "80", "https": "443"}


class _Authority(NamedTuple):
    name: str
    port: str | None


class Hosts:
    """Judges the Host header: a loopback name, the server's own address, or one of ``names``.

    A page that has its own name point at this server is refused by it. What proxies say in other
    headers is not looked at.
    """

    def __init__(self, names: frozenset[str]) -> None:
        self._names = names | _LOOPBACK

    def know(self, scope: Scope) -> bool:
        """Whether the request has one Host, and a known one."""
        host = _host(scope)
        return host is not None and (host.name in self._names or host.name == _own(scope))


def checked_hosts(given: Iterable[str]) -> frozenset[str]:
    """The names in lower case; raises TypeError or ValueError for what no Host header can name."""
    return frozenset(map(_checked, strings("hosts", given)))


def _checked(name: str) -> str:
    host = _parsed(name.lower())
    if host is None:
        known = _parsed(f"[{name.lower()}]")
        host = known if known is not None and ":" in name else None
    if host is None or host.port is not None:
        raise ValueError(
            'hosts must be names as browsers are given them, e.g. "ops.example.com" or "10.0.0.7", '
            f"without scheme, port and path; got {name!r:.200}"
        )
    return host.name


def is_same_origin(scope: Scope, origin: str) -> bool:
    """Whether it is the origin of a page that this server, by this name and port, has served."""
    known, host = _ORIGIN.fullmatch(origin), _host(scope)
    page = _parsed(known[2]) if known else None
    if known is None or page is None or host is None:
        return False
    scheme = known[1]
    if scheme == "http" and scope.get("scheme") == "https":
        return False
    usual = _PORTS[scheme]
    return (page.name, page.port or usual) == (host.name, host.port or usual)


def is_of_other_page(scope: Scope) -> bool:
    """Whether the browser says that another origin's page asks, unless a person follows a link."""
    site = header_values(scope, b"sec-fetch-site")
    if all(value in (b"same-origin", b"none") for value in site):
        return False
    is_followed = (
        header_values(scope, b"sec-fetch-mode") == [b"navigate"]
        and header_values(scope, b"sec-fetch-dest") == [b"document"]
        and scope.get("method") in ("GET", "HEAD")
    )
    return not is_followed


def header_values(scope: Scope, name: bytes) -> list[bytes]:
    """All values of a header, each as it came."""
    return [value for known, value in scope.get("headers") or () if known.lower() == name]


def _host(scope: Scope) -> _Authority | None:
    values = header_values(scope, b"host")
    return _parsed(values[0].decode("latin-1").lower()) if len(values) == 1 else None


def _parsed(authority: str) -> _Authority | None:
    known = _HOST.fullmatch(authority)
    if known is None:
        return None
    name = known[1] or known[2].removesuffix(".")
    return _Authority(name, known[3]) if name else None


def _own(scope: Scope) -> Any:
    """The address that the server was reached at; none of a unix socket."""
    server = scope.get("server")
    if not server or len(server) < 2 or server[1] is None:
        return None
    return server[0]
