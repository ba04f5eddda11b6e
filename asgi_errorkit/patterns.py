"""Which value applies to a request, by its method and path: options that differ by route."""

import re
from collections.abc import Mapping
from typing import Any, Generic, NamedTuple, TypeVar

from asgi_errorkit.kept import Kept
from asgi_errorkit.options import check_type, is_token
from asgi_errorkit.types import Scope

__all__ = ["PathTable", "by_path"]

T = TypeVar("T")

_NAME = re.compile(r"\{[A-Za-z_]\w*\}")
_EXACT, _NAMED, _REST = range(3)


class PathTable(Generic[T]):
    """``table.get(scope)`` is the value of the most specific pattern that fits, or None.

    A pattern is a path, such as "/videos", "/videos/{id}" where a name in braces stands for one
    segment, or "/static/*" where the star stands for any rest, also none; a method may stand
    before it: "POST /videos". "*" fits everything. An exact path goes before one with names, that
    before one with a star; then a longer literal beginning, then a method, then more literal
    segments, then more segments, then what is given first. Paths are those of the scope, decoded;
    where its root path stands before them, and no pattern fits them so, what comes after that.

    A table without patterns is falsy. Raises TypeError for what is no mapping, ValueError for a
    malformed pattern and for two that are the same; ``name`` is the option that messages tell of.
    """

    def __init__(self, patterns: Mapping[str, T], *, name: str = "patterns") -> None:
        parsed = _checked(name, patterns)
        self._exact: dict[tuple[str | None, str], T] = {
            (each.method, each.path): each.value for each in parsed if each.kind == _EXACT
        }
        self._others = sorted((each for each in parsed if each.kind != _EXACT), key=_order)
        self._found: Kept[tuple[str | None, str, str], T | None] = Kept(self._find)

    def __len__(self) -> int:
        return len(self._exact) + len(self._others)

    def get(self, scope: Scope) -> T | None:
        """The value for this request; what has no path, or none of text, is fitted by "*" alone."""
        get = scope.get
        method, path, root = get("method"), get("path"), get("root_path")
        return self._found[
            method if isinstance(method, str) else None,
            path if isinstance(path, str) else "",
            root if isinstance(root, str) else "",
        ]

    def _find(self, key: tuple[str | None, str, str]) -> T | None:
        method, path, root = key
        found = self._find_path(method, path)
        if found is None and root and path.startswith(f"{root}/"):
            return self._find_path(method, path.removeprefix(root))
        return found

    def _find_path(self, method: str | None, path: str) -> T | None:
        key = (method, path)
        # A websocket, which has no method, asks for the same twice.
        for known in (key, (None, path)):
            if known in self._exact:
                return self._exact[known]
        for each in self._others:
            if each.method in (None, method) and each.fits.fullmatch(path):
                value: T = each.value
                return value
        return None


def by_path(
    name: str, given: Mapping[str, T | None] | None, kind: type[T]
) -> PathTable[tuple[T | None]]:
    """The table of an option that differs by path; what applies is in a tuple, for it may be None.

    Raises TypeError for what is neither of its kind nor None.
    """
    PathTable(given or {}, name=name)  # raises for what is no mapping of patterns
    for value in (given or {}).values():
        check_type(f"each of {name}", value, kind)
    return PathTable({path: (value,) for path, value in (given or {}).items()}, name=name)


class _Pattern(NamedTuple):
    given: str
    method: str | None
    path: str
    kind: int
    prefix: int  # characters before the first name or star
    literals: int  # segments without a name
    segments: int
    fits: re.Pattern[str]
    value: Any


def _order(pattern: _Pattern) -> tuple[int, int, bool, int, int]:
    has_no_method = pattern.method is None
    return (pattern.kind, -pattern.prefix, has_no_method, -pattern.literals, -pattern.segments)


def _checked(name: str, patterns: object) -> list[_Pattern]:
    if not isinstance(patterns, Mapping):
        raise TypeError(
            f'{name} must be a mapping of patterns to values, e.g. {{"POST /videos/{{id}}": ...}}; '
            f"got {patterns!r:.200}"
        )
    parsed: dict[tuple[str | None, str], _Pattern] = {}
    for given, value in patterns.items():
        each = _parsed(name, given, value)
        same = parsed.setdefault((each.method, each.fits.pattern), each)
        if same is not each:
            raise ValueError(
                f"{name} has {same.given!r:.200} and {given!r:.200}, which fit the same requests: "
                "leave one of them out"
            )
    return list(parsed.values())


def _parsed(name: str, given: object, value: object) -> _Pattern:
    if not isinstance(given, str):
        raise TypeError(f'{name} must have strings as patterns, e.g. "/videos"; got {given!r:.200}')
    before, space, after = given.partition(" ")
    method, path = (before, after) if space else (None, given)
    wrong = _wrong(method, path)
    if wrong is not None:
        raise ValueError(f"{name}: {given!r:.200} {wrong}")
    segments = path.removesuffix("*").split("/")
    named = [segment for segment in segments if _NAME.fullmatch(segment)]
    kind = _REST if path[-1] == "*" else _NAMED if named else _EXACT
    return _Pattern(
        given,
        method,
        path,
        kind,
        len(_NAME.split(path.removesuffix("*"), maxsplit=1)[0]),
        len(segments) - len(named),
        len(segments),
        _compiled(segments, has_rest=kind == _REST),
        value,
    )


def _compiled(segments: list[str], *, has_rest: bool) -> re.Pattern[str]:
    # A segment gives nothing back: time is linear in the length of hostile paths.
    expressions = ["[^/]++" if _NAME.fullmatch(each) else re.escape(each) for each in segments]
    return re.compile("/".join(expressions) + (".*+" if has_rest else ""), re.DOTALL)


def _wrong(method: str | None, path: str) -> str | None:
    """What is wrong with a pattern, and what to write; None when nothing is."""
    if method is not None:
        wrong = _wrong_method(method, path)
        if wrong is not None:
            return wrong
    if not path:
        return 'has no path: write one, e.g. "/videos", or "*" for everything'
    if path == "*":
        return None
    if path[0] != "/":
        return 'must start with "/", e.g. "/videos" or "POST /videos"; "*" alone is everything'
    if "*" in path[:-1]:
        return 'has a "*" before its end: write {name} for one segment, "*" at the end for the rest'
    return _wrong_segment(path.removesuffix("*"), has_rest=path[-1] == "*")


def _wrong_method(method: str, path: str) -> str | None:
    if not method or path[:1] == " ":
        return 'has too many spaces: write e.g. "/videos" or "POST /videos"'
    if not is_token(method) or "*" in method:
        return f'has no method before its path: write e.g. "POST /videos", not {method!r:.50}'
    if method != method.upper():
        return f"has its method in lower case: write {f'{method.upper()} {path}'!r:.200}"
    return None


def _wrong_segment(path: str, *, has_rest: bool) -> str | None:
    segments = path.split("/")
    for segment in segments:
        if _NAME.fullmatch(segment):
            continue
        if segment.count("{") != segment.count("}"):
            return "has a brace without its other half: write e.g. /videos/{id}"
        if "{" in segment or "}" in segment:
            return (
                f"has {segment!r:.100}: braces hold a name alone and are a whole segment, without "
                'converters, e.g. "/videos/{id}/frames"'
            )
    if has_rest and _NAME.fullmatch(segments[-1]):
        return 'has a "*" right behind a name: write "/" between them, e.g. "/videos/{id}/*"'
    return None
