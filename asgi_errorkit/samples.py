"""A sample of an error: what is kept of one occurrence, and made readable when somebody asks."""

from collections.abc import Mapping
from typing import Any

from asgi_errorkit.exchange import (
    HEADERS,
    ID,
    METHOD,
    PATH,
    QUERY,
    STATUS,
    Caught,
    Record,
    trace_context,
)
from asgi_errorkit.fingerprint import as_json
from asgi_errorkit.redact import MARGIN, Redactor, safe_str

__all__ = ["Sample"]

_PATH_LIMIT = 2048
_KEPT_CHARS = _PATH_LIMIT + MARGIN + 1  # so that a secret which was cut is known to be cut
_HEADER_LIMIT = 256
_MAX_HEADERS = 50
_MAX_NAME_CHARS = 64


class Sample:
    """One occurrence of an error, bounded in size; raises TypeError for what no server hands on.

    To read the sources of a traceback and to take the secrets out of all that is shown costs a
    millisecond, which an error must not cost the requests beside it: most samples are replaced
    before anybody looks at them.
    """

    __slots__ = ("_at", "_context", "_raw", "_redactor", "_release", "_told")

    def __init__(
        self,
        record: Record,
        caught: Caught | None,
        *,
        at: float,
        release: str | None,
        redactor: Redactor,
    ) -> None:
        self._at = at
        self._release = release
        self._redactor = redactor
        self._told: dict[str, Any] | None = None
        # What lies in a context may be changed, or be large, later.
        self._context = redactor.mapping(caught.context) if caught and caught.context else None
        self._raw = (
            record[ID],
            record[METHOD],
            safe_str(record[PATH], _KEPT_CHARS),
            b"%b" % record[QUERY][: _PATH_LIMIT + 1],  # what is no bytes raises now, and is counted
            record[STATUS],
            _first(record[HEADERS]),
            caught.snapshot if caught else None,
        )

    @classmethod
    def told(cls, told: dict[str, Any]) -> "Sample":
        """One that another process has told of."""
        sample = cls.__new__(cls)
        sample.__setstate__(told)
        return sample

    def as_dict(self) -> dict[str, Any]:
        """The occurrence, as JSON-able as it is harmless; the same object each time."""
        if self._told is None:
            self._told = self._tell()
        return self._told

    def __getstate__(self) -> dict[str, Any]:
        return self.as_dict()  # code objects cannot be pickled

    def __setstate__(self, told: dict[str, Any]) -> None:
        self._told = told

    def _tell(self) -> dict[str, Any]:
        request_id, method, path, query, status, headers, snapshot = self._raw
        trace = trace_context(headers)
        redactor = self._redactor
        return {
            "at": self._at,
            "release": self._release,
            "request_id": request_id or None,
            "trace_id": trace[0] if trace else None,
            "method": method or None,
            "path": redactor.text(path, _PATH_LIMIT) or None,
            "query": redactor.query(query.decode("latin-1"), _PATH_LIMIT) or None,
            "status_code": status,
            "headers": {
                name: redactor.header(name, value)[:_HEADER_LIMIT]
                for name, value in _texts(headers)
            },
            "exception": as_json(snapshot, redactor) if snapshot else None,
            "context": self._context,
        }


def _first(headers: Mapping[bytes, bytes]) -> dict[bytes, bytes]:
    first = list(headers.items())[:_MAX_HEADERS]
    return {b"%b" % name: b"%b" % value[:_KEPT_CHARS] for name, value in first}


def _texts(headers: Mapping[bytes, bytes]) -> list[tuple[str, str]]:
    return [
        (name[:_MAX_NAME_CHARS].decode("latin-1"), value.decode("latin-1"))
        for name, value in headers.items()
    ]
