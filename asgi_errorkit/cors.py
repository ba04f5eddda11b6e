"""Headers that let a browser's script read an error answer although CORS was decided further in."""

import re
from collections.abc import Callable, Iterable, Mapping

from asgi_errorkit.options import check_bool, check_text, is_token, strings
from asgi_errorkit.types import Scope

__all__ = ["cors"]

# RFC 6454, 6.2, as browsers write it: lower case, no path. Also what may be echoed, so that a
# pattern of anything never allows "null", which every sandboxed page can send.
_ORIGIN = re.compile(
    r"[a-z][a-z0-9+.-]{0,31}://(?:[a-z0-9._-]{1,253}|\[[0-9a-f:.]{2,45}\])(?::\d{1,5})?"
)
_PATTERN = r"https://[a-z]+\.example\.com"
_DEFAULT_PORT = re.compile(r"^(http://.*):80$|^(https://.*):443$")


def cors(
    *,
    allow_origins: Iterable[str] = (),
    allow_origin_regex: str | None = None,
    allow_credentials: bool = False,
    expose_headers: Iterable[str] = ("X-Request-ID", "Retry-After"),
) -> Callable[[Scope], Mapping[str, str]]:
    """A callable that gives the CORS headers of an error answer, by the Fetch standard (3.3).

    Give it what the app's own CORS middleware has: origins as "https://app.example.com" (scheme,
    host and port, nothing after), "*" for any, or a regular expression for the whole origin.
    Raises ValueError for what no browser would accept, TypeError for what is of a wrong type.
    """
    check_bool("allow_credentials", allow_credentials)
    origins = frozenset(map(_checked_origin, strings("allow_origins", allow_origins)))
    pattern = _compiled(allow_origin_regex)
    if "*" in origins and allow_credentials:
        raise ValueError(
            'allow_origins=["*"] with allow_credentials=True is refused by every browser: '
            'name the origins, or give allow_origin_regex=r"https://.*\\.example\\.com"'
        )
    granted = _granted(strings("expose_headers", expose_headers), allow_credentials)
    if "*" in origins:
        anyone = {"Access-Control-Allow-Origin": "*", **granted}
        return lambda scope: anyone if _origin(scope) is not None else {}
    if not origins and pattern is None:
        return lambda scope: {}

    def headers(scope: Scope) -> Mapping[str, str]:
        origin = _origin(scope)
        if origin is None or not _is_allowed(origin, origins, pattern):
            return {"Vary": "Origin"}
        return {"Access-Control-Allow-Origin": origin, **granted, "Vary": "Origin"}

    return headers


def _is_allowed(origin: str, origins: frozenset[str], pattern: re.Pattern[str] | None) -> bool:
    if origin in origins:
        return True
    return (
        pattern is not None
        and _ORIGIN.fullmatch(origin) is not None
        and pattern.fullmatch(origin) is not None
    )


def _origin(scope: Scope) -> str | None:
    """The request's one Origin header; None when it has none or several."""
    values = [value for name, value in scope.get("headers") or () if name.lower() == b"origin"]
    return values[0].decode("latin-1") if len(values) == 1 else None


def _granted(names: list[str], allow_credentials: bool) -> dict[str, str]:
    for name in names:
        if not is_token(name):
            raise ValueError(
                f'expose_headers must be header names, e.g. "X-Request-ID"; got {name!r}'
            )
    granted = {}
    if allow_credentials:
        granted["Access-Control-Allow-Credentials"] = "true"
    if names:
        granted["Access-Control-Expose-Headers"] = ", ".join(names)
    return granted


def _checked_origin(origin: str) -> str:
    """The origin as a browser writes it: lower case, its scheme's own port left out."""
    if origin == "*":
        return origin
    written = origin.lower()
    if not _ORIGIN.fullmatch(written):
        raise ValueError(
            'allow_origins must be origins such as "https://app.example.com" or '
            f'"http://localhost:3000", without a path or a slash at the end; got {origin!r}'
        )
    return _DEFAULT_PORT.sub(r"\1\2", written)


def _compiled(allow_origin_regex: str | None) -> re.Pattern[str] | None:
    if allow_origin_regex is None:
        return None
    check_text("allow_origin_regex", allow_origin_regex, example=_PATTERN)
    try:
        return re.compile(allow_origin_regex)
    except re.error as error:
        raise ValueError(
            f"allow_origin_regex must be a regular expression for a whole origin, e.g. "
            f"{_PATTERN!r}; got {allow_origin_regex!r}: {error}"
        ) from error
