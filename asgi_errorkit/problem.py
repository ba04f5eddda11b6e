"""What a client is told of a failure: a problem document (RFC 9457), or a page for a browser."""

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from html import escape
from http import HTTPStatus
from itertools import islice
from math import ceil
from pathlib import PurePath
from types import MappingProxyType
from typing import Any, Final, NamedTuple
from urllib.parse import quote

import orjson

from asgi_errorkit.errors import POLICIES, ErrorInfo, ErrorSeverity, ErrorType, PublicError
from asgi_errorkit.fingerprint import format_text, snapshot
from asgi_errorkit.options import is_header
from asgi_errorkit.redact import MAX_VALUES, Redactor, safe_str
from asgi_errorkit.types import Scope

__all__ = ["Answer", "Failure", "answer"]

DETAIL_CHARS: Final = 2048
PATH_CHARS: Final = 1024
REQUEST_ID_CHARS: Final = 128
CONTEXT_BYTES: Final = 16 * 1024
TRACEBACK_CHARS: Final = 64 * 1024
RETRY_AFTER_MAX_SECONDS: Final = 365 * 24 * 3600

# Nothing may load or run: the page is text. Its one style sheet stands in it.
PAGE_POLICY: Final = (
    b"default-src 'none'; style-src 'unsafe-inline'; "
    b"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


class Answer(NamedTuple):
    """A whole response."""

    status_code: int
    headers: list[tuple[bytes, bytes]]
    body: bytes


@dataclass(frozen=True, slots=True)
class Failure:
    """What went wrong with a request; ``at`` is wall clock time in seconds since the epoch."""

    exc: BaseException | None
    info: ErrorInfo
    status_code: int
    request_id: str
    at: float


class _Words(NamedTuple):
    name: str
    sentence: str


_CLIENT_AT_FAULT = _Words("RequestError", "The request cannot be answered as it was sent.")
_SERVER_AT_FAULT = _Words("InternalError", "Something went wrong on the server.")

WORDS: Mapping[ErrorType, _Words] = MappingProxyType(
    {
        ErrorType.VALIDATION: _Words("ValidationError", "The request is not valid."),
        ErrorType.AUTHENTICATION: _Words(
            "AuthenticationError", "The request needs valid credentials."
        ),
        ErrorType.AUTHORIZATION: _Words(
            "AuthorizationError", "These credentials do not permit this request."
        ),
        ErrorType.NOT_FOUND: _Words("NotFoundError", "What was asked for does not exist."),
        ErrorType.RATE_LIMIT: _Words("RateLimitError", "Too many requests; slow down."),
        ErrorType.TIMEOUT: _Words("TimeoutError", "The answer took too long to make."),
        ErrorType.DATABASE: _Words("DatabaseError", "The data cannot be reached right now."),
        ErrorType.CACHE: _Words("CacheError", "The service cannot answer right now."),
        ErrorType.EXTERNAL_SERVICE: _Words(
            "ExternalServiceError", "Another service that is needed for this did not do its part."
        ),
        ErrorType.MODEL: _Words("ModelError", "The model cannot be used right now."),
        ErrorType.MEMORY: _Words("MemoryError", "The service is too busy to do this right now."),
        ErrorType.SYSTEM: _Words("SystemError", _SERVER_AT_FAULT.sentence),
        ErrorType.UNKNOWN: _SERVER_AT_FAULT,
    }
)
"""What a client may know of each type: a name and a sentence, without a word of the exception."""


class _Told(NamedTuple):
    """What the exception itself has to say in public."""

    status_code: int
    detail: str | None = None
    headers: Any = None
    context: Any = None
    retry_after_seconds: Any = None
    name: str | None = None


def answer(failure: Failure, scope: Scope, *, debug: bool, redactor: Redactor) -> Answer:
    """The answer to a request that failed, as HTML if its Accept header prefers that to JSON.

    A framework's HTTP exception (``status_code``, ``detail`` and ``headers``) whose status was
    taken over as the failure's is public in its headers and, below 500, in its detail. ``debug``
    adds the exception's text, traceback and, in HTML, the frames' variables, all redacted.
    """
    told = _told(failure)
    headers = _headers(failure, told)
    if _prefers_html(scope):
        seen = failure.exc if debug else None
        page = (
            _page(failure, told, headers)
            if seen is None
            else _debug_page(failure, told, seen, scope, redactor)
        )
        body = page.encode()
        headers[b"content-type"] = b"text/html; charset=utf-8"
        headers[b"content-security-policy"] = PAGE_POLICY
    else:
        body = orjson.dumps(_problem(failure, told, scope, debug=debug, redactor=redactor))
        headers[b"content-type"] = b"application/problem+json"
    headers[b"content-length"] = b"%d" % len(body)
    # RFC 9110, 9.3.2: a HEAD request gets the headers that GET would have got.
    is_head = scope.get("method") == "HEAD"
    return Answer(told.status_code, list(headers.items()), b"" if is_head else body)


def _told(failure: Failure) -> _Told:
    exc, status_code = failure.exc, failure.status_code
    if not 400 <= status_code <= 599:
        status_code = 500
    if exc is None:
        return _Told(status_code)
    if issubclass(type(exc), PublicError):
        names = ("headers", "context", "retry_after_seconds", "public_name")
        return _Told(status_code, _read_text(exc), *(_read(exc, name) for name in names))
    if not _is_meant(exc, status_code):
        return _Told(status_code)
    # From 500 on the detail is often the text of some other exception.
    detail = _read_text(exc) if status_code < 500 else None
    return _Told(status_code, detail, _read(exc, "headers"))


def _is_meant(exc: BaseException, status_code: int) -> bool:
    """Whether it is shaped as Starlette's and Litestar's HTTPException, and means this status.

    The status tells it from an HTTP client's exception about somebody else's answer, which may
    have the same shape, but is not answered with the status of that.
    """
    own = _read(exc, "status_code")
    return (
        issubclass(type(own), int)
        and int.__int__(own) == status_code
        and _read(exc, "detail", _MISSING) is not _MISSING
        and _read(exc, "headers", _MISSING) is not _MISSING
    )


_MISSING: Final = object()


def _read(exc: BaseException, name: str, default: Any = None) -> Any:
    try:
        return getattr(exc, name, default)
    except Exception:  # noqa: BLE001  a property of the exception's class raised
        return default


def _read_text(exc: BaseException) -> str | None:
    detail = _read(exc, "detail")
    return safe_str(detail, DETAIL_CHARS) or None if issubclass(type(detail), str) else None


def _words(error_type: ErrorType, status_code: int) -> _Words:
    """The public words for a type, unless they would blame the wrong side for this status."""
    usual = POLICIES[error_type].status_code or 500
    if (usual < 500) == (status_code < 500):
        return WORDS[error_type]
    return _CLIENT_AT_FAULT if status_code < 500 else _SERVER_AT_FAULT


def _title(status_code: int) -> str:
    try:
        return HTTPStatus(status_code).phrase
    except ValueError:
        return "Client Error" if status_code < 500 else "Server Error"


class _Usual(NamedTuple):
    """What all problem documents of one kind have in common."""

    words: _Words
    title: str
    category: str
    severity: str
    error_type: str


@lru_cache(maxsize=1024)
def _usual(error_type: ErrorType, severity: ErrorSeverity, status_code: int) -> _Usual:
    return _Usual(
        _words(error_type, status_code),
        _title(status_code),
        # Whose fault it is; the kind of error stands in the context, as in the original guide.
        "client_error" if status_code < 500 else "system_error",
        severity.value,
        error_type.value,
    )


def _problem(
    failure: Failure, told: _Told, scope: Scope, *, debug: bool, redactor: Redactor
) -> dict[str, Any]:
    usual = _usual(failure.info.error_type, failure.info.severity, told.status_code)
    detail = told.detail or usual.words.sentence
    path = safe_str(scope.get("path", ""), PATH_CHARS)
    error = {
        "type": told.name or usual.words.name,
        "message": detail,
        "category": usual.category,
        "severity": usual.severity,
        "status_code": told.status_code,
        "timestamp": failure.at,
        "context": {
            "error_type": usual.error_type,
            "path": path,
            "method": safe_str(scope.get("method", ""), 32),
            **_public_context(told.context, redactor),
        },
    }
    if debug and failure.exc is not None:
        _disclose(error, failure.exc, redactor)
    return {
        "type": "about:blank",
        "title": usual.title,
        "status": told.status_code,
        "detail": detail,
        "instance": _reference(path),
        "request_id": safe_str(failure.request_id, REQUEST_ID_CHARS),
        "error": error,
    }


def _disclose(error: dict[str, Any], exc: BaseException, redactor: Redactor) -> None:
    seen = snapshot(exc)
    error["type"] = seen.type_name.rpartition(".")[2]
    error["message"] = redactor.text(seen.message)
    error["context"]["traceback"] = format_text(seen, redactor, limit_chars=TRACEBACK_CHARS)


def _public_context(context: Any, redactor: Redactor) -> dict[str, Any]:
    """The context of a PublicError as JSON; what is none of it is made so, or left out."""
    if context is None:
        return {}
    for plain in (dict, lambda given: redactor.mapping(_bounded(given, iter(range(MAX_VALUES))))):
        with suppress(Exception):  # cycles, surrogates, huge numbers, mappings that raise
            encoded = orjson.dumps(plain(context), default=_public_value, option=_OF_CONTEXT)
            if len(encoded) <= CONTEXT_BYTES:
                return dict(orjson.loads(encoded))
    return {}


_OF_CONTEXT: Final = orjson.OPT_NON_STR_KEYS | orjson.OPT_PASSTHROUGH_DATACLASS


def _public_value(value: Any) -> Any:
    """What is told of a value that is no JSON: of an object its class alone, not what it holds."""
    kind = type(value)
    if issubclass(kind, set | frozenset):
        return list(value)
    # By name: the module of decimals takes two milliseconds to import.
    is_decimal = (kind.__module__, kind.__name__) == ("decimal", "Decimal")
    if is_decimal or issubclass(kind, PurePath | bytes | bytearray):
        return safe_str(value)
    return kind.__name__


def _bounded(value: Any, budget: Iterator[int], depth: int = 6) -> Any:
    """A copy of so many values, so deep; what is no JSON is as `_public_value` tells it."""
    if value is None or isinstance(value, str | int | float):
        return value
    if not isinstance(value, Mapping | list | tuple | set | frozenset):
        return orjson.loads(orjson.dumps(value, default=_public_value, option=_OF_CONTEXT))
    if not depth:
        return "..."
    if isinstance(value, Mapping):
        return {
            _bounded(key, budget, 0): _bounded(item, budget, depth - 1)
            for _, (key, item) in zip(budget, value.items(), strict=False)
        }
    return [_bounded(item, budget, depth - 1) for _, item in zip(budget, value, strict=False)]


def _reference(path: str) -> str:
    """The path as a URI reference (RFC 3986, 4.2), where "//" at its start would mean a host."""
    reference = quote(path, safe="/:@!$&'()*+,;=~")
    return f"/%2F{reference[2:]}" if reference.startswith("//") else reference


_MAX_HEADERS = 32
_NAME_CHARS, _VALUE_CHARS = 128, 4096
# What describes the body, which is ours, and the connection, which is the server's.
NOT_TO_SET = frozenset(
    b"connection content-encoding content-length content-range content-security-policy "
    b"content-type keep-alive te trailer transfer-encoding x-content-type-options".split()
)


def _headers(failure: Failure, told: _Told) -> dict[bytes, bytes]:
    headers = {
        b"cache-control": b"no-store",
        b"vary": b"Accept",
        b"x-content-type-options": b"nosniff",
    }
    seconds = _retry_after_seconds(failure, told)
    if seconds is not None:
        headers[b"retry-after"] = b"%d" % seconds
    headers.update(_valid_headers(told.headers))
    return headers


def _valid_headers(headers: Any) -> dict[bytes, bytes]:
    """Those headers that can be sent as they are; the others are left out."""
    if headers is None:
        return {}
    try:
        pairs = [(name, value) for name, value in islice(headers.items(), _MAX_HEADERS)]
    except Exception:  # noqa: BLE001  no mapping, or one that raises
        return {}
    sendable = {
        name.lower().encode(): value.encode("latin-1")
        for name, value in pairs
        if type(name) is type(value) is str
        and len(name) <= _NAME_CHARS
        and len(value) <= _VALUE_CHARS
        and is_header(name, value)
    }
    return {name: value for name, value in sendable.items() if name not in NOT_TO_SET}


def _retry_after_seconds(failure: Failure, told: _Told) -> int | None:
    """What a PublicError asks for; with 429 and 503 else the policy's retry delay, rounded up."""
    seconds = told.retry_after_seconds
    if not _is_span(seconds) and told.status_code in (429, 503):
        seconds = failure.info.retry_delay
    return ceil(min(seconds, RETRY_AFTER_MAX_SECONDS)) if _is_span(seconds) else None


def _is_span(seconds: Any) -> bool:
    return type(seconds) in (int, float) and seconds >= 0


_QUALITY = re.compile(r"(?:0(?:\.\d{0,3})?|1(?:\.0{0,3})?)")
_MAX_ACCEPT_CHARS = 1000


def _prefers_html(scope: Scope) -> bool:
    """Whether the request names HTML and gives it more weight than JSON (RFC 9110, 12.5.1)."""
    values = [value for name, value in scope.get("headers") or () if name.lower() == b"accept"]
    accept = b",".join(values).decode("latin-1").lower()
    if "text/" not in accept:
        return False
    weights = _weights(accept)
    json = max(_weight(weights, "application/problem+json"), _weight(weights, "application/json"))
    return _weight(weights, "text/html") > json


def _weights(accept: str) -> dict[str, float]:
    if len(accept) > _MAX_ACCEPT_CHARS:
        accept = accept[:_MAX_ACCEPT_CHARS].rpartition(",")[0]
    weights: dict[str, float] = {}
    for media_range in accept.split(","):
        media, *parameters = (part.strip() for part in media_range.split(";"))
        given = [part[2:].strip() for part in parameters if part.startswith("q=")] or ["1"]
        if _QUALITY.fullmatch(given[0]):
            weights[media] = max(float(given[0]), weights.get(media, 0.0))
    return weights


def _weight(weights: dict[str, float], media: str) -> float:
    """The weight of the most specific range that the media type falls into."""
    for media_range in (media, f"{media.partition('/')[0]}/*", "*/*"):
        if media_range in weights:
            return weights[media_range]
    return 0.0


def _page(failure: Failure, told: _Told, headers: dict[bytes, bytes]) -> str:
    sentence = told.detail or _words(failure.info.error_type, told.status_code).sentence
    return _PAGE.format(
        heading=escape(_heading(told.status_code)),
        sentence=escape(sentence),
        hint=_hint(told.status_code, headers.get(b"retry-after", b"")),
        request_id=escape(safe_str(failure.request_id, REQUEST_ID_CHARS)),
    )


def _debug_page(
    failure: Failure, told: _Told, exc: BaseException, scope: Scope, redactor: Redactor
) -> str:
    from asgi_errorkit import debug_page  # noqa: PLC0415  production never loads it

    return debug_page.page(
        exc,
        scope,
        heading=_heading(told.status_code),
        request_id=safe_str(failure.request_id, REQUEST_ID_CHARS),
        redactor=redactor,
    )


def _heading(status_code: int) -> str:
    return f"{status_code} {_title(status_code)}"


def _hint(status_code: int, retry_after: bytes) -> str:
    if retry_after.isdigit():
        return f"You can try again in {int(retry_after)} s."
    return "Trying again later may help." if status_code >= 500 else ""


_PAGE: Final = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex">
<title>{heading}</title>
<style>
:root {{ color-scheme: light dark; }}
body {{ font: 1.1rem/1.5 system-ui, sans-serif; margin: 15vh auto 0; max-width: 36rem; padding: 0 1.5rem; }}
code {{ overflow-wrap: anywhere; }}
</style>
</head>
<body>
<main>
<h1>{heading}</h1>
<p>{sentence} {hint}</p>
<p>If you report this, please give the request id: <code>{request_id}</code></p>
</main>
</body>
</html>
"""
