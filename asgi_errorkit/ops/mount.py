"""Which requests are for the ops app: by the path as it was sent, and by nothing that resembles it."""

import re
from collections.abc import Collection
from typing import NamedTuple

from asgi_errorkit.types import Scope

__all__ = ["Mount", "Place", "checked_path", "place_alone"]

# Segments of these alone: nothing empty, no dots at their beginning, nothing to be decoded.
_PLAIN = re.compile(r"(?:/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)*/?", re.ASCII)
_MOST_CHARS = 512


class Place(NamedTuple):
    """Where a request goes within the ops app, and where that stands: what its cookies are for."""

    route: str
    base: str


class Mount:
    """Finds what is for the ops app among what is for another.

    That is what lies at or below ``path`` once the root path of the server is taken away, written
    plainly: what has an encoded character, an empty segment, dots or other letters is the app's.
    ``bare`` are routes that are served outside of it too.
    """

    def __init__(self, path: str, bare: Collection[str]) -> None:
        self._path = path
        self._bare = frozenset(bare)
        self._bare_ends = tuple(bare)

    def find(self, scope: Scope) -> Place | None:
        """The place, or None for what is the app's."""
        path: str = scope.get("path") or ""
        if self._path not in path and not path.endswith(self._bare_ends):
            return None  # soon: every request of the app is asked
        root, rest = _split(path, scope.get("root_path") or "")
        if rest in self._bare:
            return Place(rest, root) if _is_plain(scope, rest) else None
        route = rest.removeprefix(self._path)
        if route == rest or (route and route[0] != "/") or not _is_plain(scope, route):
            return None
        return Place(route or "/", root + self._path)


def place_alone(scope: Scope) -> Place | None:
    """The same where nothing else is served."""
    root, route = _split(scope.get("path") or "", scope.get("root_path") or "")
    return Place(route or "/", root) if _is_plain(scope, route) else None


def _split(path: str, root: str) -> tuple[str, str]:
    """The root path, and what comes after it; servers differ in whether it stands before the path."""
    root = root.rstrip("/")
    is_before = path == root or path.startswith(f"{root}/")
    return root, path[len(root) :] if is_before else path


def _is_plain(scope: Scope, route: str) -> bool:
    raw: bytes = scope.get("raw_path") or b""
    is_as_sent = b"%" not in raw.partition(b"?")[0]
    return is_as_sent and len(route) <= _MOST_CHARS and _PLAIN.fullmatch(route) is not None


def checked_path(given: object) -> str:
    """The path of a mount; raises TypeError or ValueError for what cannot be one."""
    wanted = 'path must be plain and below the root, e.g. "/_errorkit"'
    if not isinstance(given, str):
        raise TypeError(f"{wanted}; got {given!r:.200}")
    if not given or given[-1] == "/" or _PLAIN.fullmatch(given) is None:
        raise ValueError(f"{wanted}, without a slash at its end; got {given!r:.200}")
    return given
