"""Log lines: one exchange's beginning and end as JSON, made from its record on the drain side.

What repeats from one request to the next (URLs, addresses, agents) is kept encoded, and a line is
put together from such pieces: a third of the cost of encoding it anew.
"""

from collections.abc import Mapping
from math import inf
from time import gmtime, strftime
from typing import Any, TypeAlias

import orjson

from asgi_errorkit.classify import Classifier
from asgi_errorkit.exchange import (
    CAUGHT,
    CLIENT,
    ENDED,
    EXTRA,
    FIRST_BYTE,
    HEADERS,
    ID,
    MEMORY_AFTER,
    METHOD,
    PARAMS,
    PATH,
    QUERY,
    RECEIVED,
    ROUTE,
    SCHEME,
    SENT,
    SESSION,
    STARTED,
    STATUS,
    Record,
    trace_context,
)
from asgi_errorkit.fields import LIMIT, Field, FromHeader, FromPath, FromQuery
from asgi_errorkit.fingerprint import Snapshot, format_text, group_id
from asgi_errorkit.kept import Kept
from asgi_errorkit.outcome import Outcome, status_of
from asgi_errorkit.proxies import TrustedProxies
from asgi_errorkit.redact import REDACTED, SHORTEST_BARE, Redactor, safe_str
from asgi_errorkit.routes import RouteLabels

__all__ = ["LINE_FIELDS", "Lines"]

LINE_FIELDS = frozenset(
    (
        "client_ip close_code duration error error_category error_group error_type event level "
        "messages_received messages_sent method outcome request_id request_size response_size route "
        "sample_rate severity span_id status_code time_to_first_byte timestamp trace_id traceback "
        "url user_agent memory_usage"
    ).split()
)
"""The names that a line uses itself."""

_TEXT_LIMIT = 2048
_AGENT_LIMIT = 512
_METHOD_LIMIT = 32
_HOST_LIMIT = 256
_MAX_TRACED = 1000
_DIGITS = [f"{number:03d}" for number in range(1000)]  # formatting a number takes twice as long
_OK = Outcome.OK
_WITHOUT_EXCEPTION = {
    Outcome.SERVER_ERROR: "the app answered with a failure; no exception reached the kit",
    Outcome.INCOMPLETE: "the app returned without completing its response",
    Outcome.TIMEOUT: "the time that was given to it was up",
    Outcome.SHED: "refused, for there was more to do than could be done",
    Outcome.CIRCUIT_OPEN: "refused, for what it needs is known to be failing",
    Outcome.FALLBACK: "refused, or failed without an exception; a fallback answered",
}
_OnDrain: TypeAlias = FromHeader | FromPath | FromQuery
ON_DRAIN = (FromHeader, FromPath, FromQuery)
# A reader that splits on these would tear a line apart; inside a JSON string they may be escaped.
_LINE_BREAKS = (("\u2028", "\\u2028"), ("\u2029", "\\u2029"), ("\x85", "\\u0085"))


class Lines:
    """Makes lines, each a JSON document with its line feed; one thread at a time."""

    def __init__(
        self,
        *,
        extract: Mapping[str, Field],
        proxies: TrustedProxies | None,
        redactor: Redactor,
        traceback_seconds: float,
        sample_rate: float,
    ) -> None:
        self.judge = Classifier()  # of statuses that no exception explains; a stack has one for all
        self._proxies = proxies
        self._redactor = redactor
        self._labels = RouteLabels(redactor)
        self._traceback_seconds = traceback_seconds
        self._traced_at: dict[str, float] = {}
        self._sample = f',"sample_rate":{sample_rate!r}' if sample_rate < 1.0 else ""
        self._names, self._readers = _compiled(extract, proxies)
        self._reads_headers = any(isinstance(field, FromHeader) for _, field in self._readers)
        self._own = LINE_FIELDS | self._names.keys()
        self._no_fields = self._members(self._names)
        self._second, self._second_text = -1, ""
        self._memory, self._memory_text = 0.0, "null"
        self._urls: Kept[tuple[Any, ...], str] = Kept(self._url)
        self._agents: Kept[bytes, str] = Kept(self._agent)
        self._texts: Kept[str | None, str] = Kept(_text)
        self._values: Kept[str, str] = Kept(self._value)
        self._hidden: Kept[str, bool] = Kept(self._is_hidden)

    def shared(self, record: Record) -> str:
        """What the beginning and the end of an exchange both tell, without the outer braces."""
        headers, client, request_id = record[HEADERS], record[CLIENT], record[ID]
        address = client[0] if client else None
        if self._proxies is not None:
            address = self._proxies.client(address, headers.items())
        if not request_id.isalnum():
            request_id = _text(request_id)[1:-1]
        url = self._urls[record[METHOD], record[PATH], record[SCHEME], headers.get(b"host")]
        if record[QUERY]:
            url = f"{url}{self._query(record[QUERY])}"
        shared = (
            f'"request_id":"{request_id}",{url}","client_ip":{self._texts[address]},'
            f'"user_agent":{self._agents[headers.get(b"user-agent", b"")]}'
        )
        if self._readers and (record[QUERY] or record[PARAMS] or self._reads_headers):
            shared += self._members(self._read(record))
        else:
            shared += self._no_fields
        if b"traceparent" in headers:
            context = trace_context(headers)
            if context is not None:
                shared += f',"trace_id":"{context[0]}","span_id":"{context[1]}"'
        return shared

    def both(self, record: Record, offset: float) -> tuple[str, str]:
        """The two lines of an ordinary request."""
        shared = self.shared(record)
        return (
            self.start("request_start", record, offset, shared),
            self.end("request_complete", record, _OK, offset, shared),
        )

    def completion(self, record: Record, offset: float) -> tuple[str]:
        """The one line of an ordinary request where its start is not told."""
        return (self.end("request_complete", record, _OK, offset, self.shared(record)),)

    def start(self, event: str, record: Record, offset: float, shared: str) -> str:
        """The line that tells of a beginning: of a websocket, the moment it was accepted."""
        at = record[STARTED] if record[SESSION] is None else record[FIRST_BYTE]
        size = _announced_size(record)
        return (
            f'{{"timestamp":"{self._time(at + offset)}","level":"INFO","event":"{event}",'
            f'"request_size":{"null" if size is None else size},{shared}}}\n'
        )

    def end(self, event: str, record: Record, outcome: Outcome, offset: float, shared: str) -> str:
        """The line that tells of an end, and of what went wrong."""
        started, ended, first_byte = record[STARTED], record[ENDED], record[FIRST_BYTE]
        size, status, memory = _announced_size(record), record[STATUS], record[MEMORY_AFTER]
        if memory != self._memory:
            self._memory, self._memory_text = memory, f"{memory:.1f}" if memory else "null"
        level, more = "INFO", self._sample
        if outcome is not _OK or record[CAUGHT] or record[SESSION] or record[EXTRA]:
            if outcome.failed:
                level, more = "ERROR", ""
            more += self._members(self._more(record, outcome))
            status = _status(record, outcome)
        return (
            f'{{"timestamp":"{self._time(ended + offset)}","level":"{level}","event":"{event}",'
            f'{shared},"route":{self._texts[record[ROUTE]]},"outcome":"{outcome.text}",'
            f'"status_code":{"null" if status is None else status},'
            f'"duration":{"%.6f" % (ended - started)},"time_to_first_byte":'
            f"{'null' if first_byte is None else '%.6f' % (first_byte - started)},"
            f'"request_size":{record[RECEIVED] if size is None else size},'
            f'"response_size":{0 if record[METHOD] == "HEAD" else record[SENT]},"memory_usage":{self._memory_text}{more}}}\n'
        )

    def death(self, event: str, level: str, crash: Mapping[str, Any]) -> str:
        """The line that tells of a worker that died, when that was found, and what it was at."""
        return self.notice(event, level, crash["found_at"], crash)

    def notice(self, event: str, level: str, at: float, told: Mapping[str, Any]) -> str:
        """The line that tells of what is no exchange, at a time in seconds since the epoch."""
        clean = self._redactor.mapping(told)
        added = self._members(clean) if isinstance(clean, dict) else ""
        return f'{{"timestamp":"{self._time(at)}","level":"{level}","event":"{event}"{added}}}\n'

    def _time(self, at: float) -> str:
        """Seconds since the epoch as RFC 3339 has it, in UTC."""
        second = int(at)
        if second != self._second:
            self._second, self._second_text = second, strftime("%Y-%m-%dT%H:%M:%S", gmtime(second))
        micro = int((at - second) * 1e6)
        return f"{self._second_text}.{_DIGITS[micro // 1000]}{_DIGITS[micro % 1000]}Z"

    def _url(self, key: tuple[Any, ...]) -> str:
        """The method, and the URL up to its query, whose string stays open."""
        method, path, scheme, host = key
        url = self._redactor.text(path, _TEXT_LIMIT)
        if host is not None:
            url = f"{scheme[:_METHOD_LIMIT]}://{host[:_HOST_LIMIT].decode('latin-1')}{url}"
        url = self._redactor.url(url)
        return f'"method":{_text(method[:_METHOD_LIMIT])},"url":{_text(url)[:-1]}'

    def _query(self, query: bytes) -> str:
        text = query[: _TEXT_LIMIT + 1].decode("latin-1")
        return _text(f"?{self._redactor.query(text, _TEXT_LIMIT)}")[1:-1]

    def _agent(self, agent: bytes) -> str:
        return _text(self._redactor.text(agent.decode("latin-1"), _AGENT_LIMIT))

    def _read(self, record: Record) -> dict[str, Any]:
        """The fields that are read from the record."""
        client = record[CLIENT]
        trusted = self._proxies is not None and self._proxies.trusts(client[0] if client else None)
        read: dict[str, Any] = dict(self._names)
        for name, field in self._readers:
            if trusted or not isinstance(field, FromHeader) or not field.trusted_only:
                value = field.read(record)
                read[name] = value and self._told(name, value)
        return read

    def _told(self, name: str, value: str) -> str:
        """What a line may tell of a field's value."""
        if self._hidden[name]:
            return REDACTED
        if len(value) < SHORTEST_BARE and value.isalnum():
            return value
        return self._values[value]

    def _is_hidden(self, name: str) -> bool:
        """Whether the field's own name, or that of its source, is a secret's."""
        source, is_sensitive = dict(self._readers)[name], self._redactor.is_sensitive
        in_query = not isinstance(source, FromHeader)
        return is_sensitive(name) or is_sensitive(source.name, in_query=in_query)

    def _value(self, value: str) -> str:
        return self._redactor.text(value, LIMIT)

    def _more(self, record: Record, outcome: Outcome) -> dict[str, Any]:
        """What few lines tell."""
        more: dict[str, Any] = {}
        if record[SESSION] is not None:
            more["messages_received"], more["messages_sent"], more["close_code"] = record[SESSION]
        if record[CAUGHT] is not None or outcome.failed:
            self._add_error(more, record, outcome)
        added = self._redactor.mapping(record[EXTRA]) if record[EXTRA] else None
        if isinstance(added, dict):
            more.update((name, value) for name, value in added.items() if name not in self._own)
        return more

    def _add_error(self, more: dict[str, Any], record: Record, outcome: Outcome) -> None:
        caught = record[CAUGHT]
        info = (caught.verdict if caught else self.judge.status(status_of(record, outcome))).info
        snapshot = caught.snapshot if caught else None
        category = info.error_type.value
        more["error_category"] = category
        more["severity"] = info.severity.value
        if snapshot is not None and caught.handled and not outcome.failed:
            more["error"], more["error_type"] = self._named(snapshot)
            return
        group = group_id(snapshot, category, record[STATUS], self._labels(record))
        more["error_group"] = group
        if snapshot is None:
            more["error"] = _WITHOUT_EXCEPTION.get(outcome, "the app failed and raised nothing")
            more["error_type"] = None
            return
        more["error"], more["error_type"] = self._named(snapshot)
        if self._is_traceback_due(group, record[ENDED]):
            limit = 8 * _TEXT_LIMIT
            more["traceback"] = format_text(snapshot, self._redactor, limit_chars=limit)

    def _named(self, snapshot: Snapshot) -> tuple[str, str]:
        """What was raised: its message and the name of its class."""
        message = self._redactor.text(snapshot.message, _TEXT_LIMIT)
        return message, snapshot.type_name.rpartition(".")[2]

    def _is_traceback_due(self, group: str, at: float) -> bool:
        """A storm of one error fills the log with its lines, and not with one traceback."""
        if at - self._traced_at.get(group, -inf) < self._traceback_seconds:
            return False
        if len(self._traced_at) >= _MAX_TRACED and group not in self._traced_at:
            del self._traced_at[next(iter(self._traced_at))]
        self._traced_at[group] = at
        return True

    def _members(self, added: Mapping[str, Any]) -> str:
        """Further members of a JSON object, each after a comma."""
        if not added:
            return ""
        try:
            encoded = orjson.dumps(added)
        except (TypeError, ValueError):  # a lone surrogate, an object, an integer beyond 64 bits
            encoded = orjson.dumps({n: self._redactor.mapping(v) for n, v in added.items()})
        return f",{_unbroken(encoded.decode())[1:-1]}"


def _compiled(
    extract: Mapping[str, Field], proxies: TrustedProxies | None
) -> tuple[dict[str, None], list[tuple[str, _OnDrain]]]:
    """The fields that the drain reads, without a value, and those of them that can have one.

    What callables read of the scope is known at the end only, and comes with the exchange.
    """
    readers = [
        (name, field)
        for name, field in extract.items()
        if isinstance(field, (FromPath, FromQuery))
        or (isinstance(field, FromHeader) and not (field.trusted_only and proxies is None))
    ]
    on_drain = (name for name, field in extract.items() if isinstance(field, ON_DRAIN))
    return dict.fromkeys(on_drain), readers


def _text(text: str | None) -> str:
    """A JSON string on one line, or null."""
    try:
        return _unbroken(orjson.dumps(text).decode())
    except TypeError:  # a lone surrogate, or no string at all
        return _unbroken(orjson.dumps(safe_str(text)).decode())


def _unbroken(encoded: str) -> str:
    if not encoded.isascii():
        for raw, escaped in _LINE_BREAKS:
            encoded = encoded.replace(raw, escaped)
    return encoded


def _announced_size(record: Record) -> int | None:
    """What the Content-Length header says; None without one."""
    announced = record[HEADERS].get(b"content-length")
    if announced is not None and announced.isdigit() and len(announced) < 19:
        return int(announced)
    return None


def _status(record: Record, outcome: Outcome) -> int | None:
    """The status sent; every server sends 500 for an app that failed before it sent any."""
    status: int | None = record[STATUS]
    if status is None and record[SESSION] is None and (record[CAUGHT] or outcome.failed):
        return 500
    return status
