"""Request logs: one JSON line an event, made from records on the drain side."""

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from math import inf
from time import gmtime, strftime
from typing import Any
from zlib import crc32

import orjson

from asgi_errorkit.classify import Classifier
from asgi_errorkit.exchange import (
    CAUGHT,
    CLIENT,
    ENDED,
    ERROR,
    EXTRA,
    FIRST_BYTE,
    HEADERS,
    ID,
    KIND,
    LOGGED,
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
    START,
    STARTED,
    STATUS,
    Record,
    current,
    trace_context,
)
from asgi_errorkit.fields import Field, FromHeader, FromPath, FromQuery
from asgi_errorkit.fingerprint import format_text, group_id
from asgi_errorkit.outcome import Outcome, outcome_of
from asgi_errorkit.proxies import TrustedProxies
from asgi_errorkit.redact import Redactor
from asgi_errorkit.routes import RouteLabels

__all__ = ["EVENTS", "LINE_FIELDS", "RequestIdFilter", "RequestLines", "RequestLog"]

FAILED = "request_error"
EVENTS = (
    "request_start",
    "request_complete",
    FAILED,
    "websocket_open",
    "websocket_close",
)

_OPTIONS = orjson.OPT_APPEND_NEWLINE | orjson.OPT_UTC_Z
_TEXT_LIMIT = 2048
_AGENT_LIMIT = 512
_METHOD_LIMIT = 32
_SHORT = 40  # no token or key fits into so few characters
_MAX_ANNOUNCED = 100_000
_MAX_TRACED = 1000
_UNKNOWN = object()
_WITHOUT_EXCEPTION = {
    Outcome.SERVER_ERROR: "the app answered with a failure; no exception reached the kit",
    Outcome.INCOMPLETE: "the app returned without completing its response",
}
_ON_DRAIN = (FromHeader, FromPath, FromQuery)
# A reader that splits on these would tear a line apart; inside a JSON string they may be escaped.
_LINE_BREAKS = (
    (b"\xe2\x80\xa8", b"\\u2028"),
    (b"\xe2\x80\xa9", b"\\u2029"),
    (b"\xc2\x85", b"\\u0085"),
)


@dataclass(slots=True)
class RequestLog:
    """One request as its log line tells it; times in epoch seconds, sizes in bytes, memory in MiB."""

    request_id: str
    method: str
    url: str
    client_ip: str | None
    user_agent: str
    start_time: float
    end_time: float | None = None
    duration: float | None = None
    status_code: int | None = None
    error: str | None = None
    error_type: str | None = None
    user_id: str | None = None
    video_id: str | None = None
    model_name: str | None = None
    request_size: int | None = None
    response_size: int | None = None
    memory_usage: float | None = None


LINE_FIELDS = frozenset(
    (
        "client_ip close_code duration error error_category error_group error_type event level "
        "messages_received messages_sent method outcome request_id request_size response_size route "
        "sample_rate severity span_id status_code time_to_first_byte timestamp trace_id traceback "
        "url user_agent memory_usage"
    ).split()
)
"""The names that a line uses itself."""

_REQUEST_LOG_FIELDS = frozenset(field.name for field in fields(RequestLog))


class RequestLines:
    """The sink that turns records into log lines, and hands them to ``emit`` batch by batch.

    ``emit`` takes a list of lines, each a JSON document in UTF-8 with its line feed.
    """

    def __init__(
        self,
        emit: Callable[[list[bytes]], None],
        *,
        level: int,
        events: Collection[str],
        exclude_paths: Collection[str],
        success_sample_rate: float,
        extract: Mapping[str, Field],
        proxies: TrustedProxies | None,
        redactor: Redactor,
        traceback_seconds: float,
        on_request: Callable[[RequestLog], None] | None,
    ) -> None:
        self._emit = emit
        self._due = {
            event: event in events and level <= (logging.ERROR if event == FAILED else logging.INFO)
            for event in EVENTS
        }
        self._traceback_seconds = traceback_seconds
        self._traced_at: dict[str, float] = {}
        self._second, self._second_text = -1, ""
        self._announced: dict[tuple[str, float], None] = {}
        self._excluded = frozenset(path for path in exclude_paths if not path.endswith("*"))
        self._excluded_prefixes = tuple(path[:-1] for path in exclude_paths if path.endswith("*"))
        self._takes_all = not exclude_paths and success_sample_rate >= 1.0
        self._sample_rate = success_sample_rate
        self._proxies = proxies
        self._redactor = redactor
        self._labels = RouteLabels()
        self.judge = Classifier()  # of statuses that no exception explains; a stack has one for all
        self._on_request = on_request
        self._empty, self._readers = _compiled(extract, proxies)
        self._reads_headers = any(isinstance(field, FromHeader) for _, field in self._readers)
        self.observer_errors = 0

    def __call__(self, batch: Sequence[Record], offset: float) -> None:
        me = id(self)  # somebody further out may write the lines of an exchange
        lines: list[bytes] = []
        for record in batch:
            kind = record[KIND]
            if record[LOGGED] != me or kind == ERROR:
                continue
            try:
                if kind == START:
                    self._tell_start(lines, record, offset)
                else:
                    self._tell(lines, record, offset)
            except Exception:  # noqa: BLE001  one odd record must not cost the lines of the others
                self.observer_errors += 1
        if lines:
            self._emit(lines)

    def _tell_start(self, lines: list[bytes], record: Record, offset: float) -> None:
        """Of an exchange that goes on; remembered, so that its end does not tell it again."""
        event = "request_start" if record[SESSION] is None else "websocket_open"
        if not self._due[event] or not (self._takes_all or self._takes(record)):
            return
        lines.append(self._start(event, record, offset, self._encode(self._shared(record))))
        self._announced[record[ID], record[STARTED]] = None
        if len(self._announced) > _MAX_ANNOUNCED:  # the ends of the oldest were lost
            del self._announced[next(iter(self._announced))]

    def _tell(self, lines: list[bytes], record: Record, offset: float) -> None:
        """Of an exchange that has ended: its start too, unless that has been told before."""
        if self._on_request is not None:
            self._observe(record, offset)
        outcome = outcome_of(record)
        if record[SESSION] is None:
            start, event = "request_start", FAILED if outcome.failed else "request_complete"
        else:
            # A session that was refused, or failed before that, was never open.
            start = "websocket_open" if record[STATUS] == 101 else ""
            event = "websocket_close"
        taken = self._takes_all or self._takes(record)
        tells_end = self._due[event] and (taken or outcome.failed)
        tells_start = taken and self._due.get(start, False)
        if tells_start and self._announced and self._was_told(record):
            tells_start = False
        if not tells_end and not tells_start:
            return
        shared = self._encode(self._shared(record))
        if tells_start:
            lines.append(self._start(start, record, offset, shared))
        if tells_end:
            end = self._encode(self._end(event, record, outcome, offset))
            head, route, rest = end.partition(b',"route":')
            lines.append(b"".join((head, b",", shared[1:-2], route, rest)))

    def _was_told(self, record: Record) -> bool:
        return self._announced.pop((record[ID], record[STARTED]), _UNKNOWN) is None

    def _start(self, event: str, record: Record, offset: float, shared: bytes) -> bytes:
        at = (record[STARTED] if record[SESSION] is None else record[FIRST_BYTE]) + offset
        second = int(at)
        if second != self._second:
            self._second, self._second_text = second, strftime("%Y-%m-%dT%H:%M:%S", gmtime(second))
        size = _announced_size(record)
        head = (
            f'{{"timestamp":"{self._second_text}.{int((at - second) * 1e6):06d}Z","level":"INFO",'
            f'"event":"{event}","request_size":{"null" if size is None else size},'
        )
        return head.encode() + shared[1:]

    def _takes(self, record: Record) -> bool:
        """Whether a success is to be told: its path is not excluded, and the sample takes it."""
        path = record[PATH]
        if path in self._excluded or (
            self._excluded_prefixes and path.startswith(self._excluded_prefixes)
        ):
            return False
        # By the id, so that the start and the completion of one request agree.
        return crc32(record[ID].encode()) < self._sample_rate * 2**32

    def _shared(self, record: Record) -> dict[str, Any]:
        """What the start and the end of an exchange both tell."""
        headers, client = record[HEADERS], record[CLIENT]
        peer = client[0] if client else None
        shared = {
            "request_id": record[ID],
            "method": record[METHOD][:_METHOD_LIMIT],
            "url": self._url(record, headers),
            "client_ip": peer
            if self._proxies is None
            else self._proxies.client(peer, headers.items()),
            "user_agent": self._agent(headers.get(b"user-agent", b"")),
            **self._empty,
        }
        if self._readers and (record[QUERY] or record[PARAMS] or self._reads_headers):
            self._read_fields(shared, record, peer)
        if b"traceparent" in headers:
            context = trace_context(headers)
            if context is not None:
                shared["trace_id"], shared["span_id"] = context
        return shared

    def _read_fields(self, line: dict[str, Any], record: Record, peer: str | None) -> None:
        trusted = self._proxies is not None and self._proxies.trusts(peer)
        for name, field in self._readers:
            if trusted or not isinstance(field, FromHeader) or not field.trusted_only:
                line[name] = field.read(record)

    def _end(self, event: str, record: Record, outcome: Outcome, offset: float) -> dict[str, Any]:
        """What only the end of an exchange tells."""
        started, ended, first_byte = record[STARTED], record[ENDED], record[FIRST_BYTE]
        memory = record[MEMORY_AFTER]
        end = {
            "timestamp": datetime.fromtimestamp(ended + offset, UTC),
            "level": "ERROR" if outcome.failed else "INFO",
            "event": event,
            "route": record[ROUTE],
            "outcome": outcome.text,
            "status_code": record[STATUS],
            "duration": int((ended - started) * 1e6) / 1e6,
            "time_to_first_byte": None
            if first_byte is None
            else int((first_byte - started) * 1e6) / 1e6,
            "request_size": _request_size(record),
            "response_size": record[SENT],
            "memory_usage": int(memory * 10) / 10 if memory else None,
        }
        if self._sample_rate < 1.0 and not outcome.failed:
            end["sample_rate"] = self._sample_rate
        if record[SESSION] is not None:
            end["messages_received"], end["messages_sent"], end["close_code"] = record[SESSION]
        if record[CAUGHT] is not None or outcome.failed:
            self._add_error(end, record, outcome)
        if record[EXTRA]:
            self._add_extra(end, record[EXTRA])
        return end

    def _add_extra(self, line: dict[str, Any], extra: dict[str, Any]) -> None:
        added = self._redactor.mapping(extra)
        if isinstance(added, dict):
            taken = LINE_FIELDS | self._empty.keys()
            line.update((name, value) for name, value in added.items() if name not in taken)

    def _add_error(self, line: dict[str, Any], record: Record, outcome: Outcome) -> None:
        if line["status_code"] is None and record[SESSION] is None:
            line["status_code"] = 500  # what every server sends for an app that failed before
        caught = record[CAUGHT]
        info = (caught.verdict if caught else self.judge.status(record[STATUS] or 500)).info
        snapshot = caught.snapshot if caught else None
        category = info.error_type.value
        group = group_id(snapshot, category, record[STATUS], self._labels(record))
        line["error_category"] = category
        line["severity"] = info.severity.value
        line["error_group"] = group
        if snapshot is None:
            line["error"] = _WITHOUT_EXCEPTION.get(outcome, "the app failed and raised nothing")
            line["error_type"] = None
            return
        line["error"] = self._redactor.text(snapshot.message, _TEXT_LIMIT)
        line["error_type"] = snapshot.type_name.rpartition(".")[2]
        if self._is_traceback_due(group, record[ENDED]):
            text = format_text(snapshot, limit_chars=8 * _TEXT_LIMIT)
            line["traceback"] = self._redactor.text(text, 10 * _TEXT_LIMIT)

    def _is_traceback_due(self, group: str, at: float) -> bool:
        """A storm of one error fills the log with its lines, and not with one traceback."""
        if at - self._traced_at.get(group, -inf) < self._traceback_seconds:
            return False
        if len(self._traced_at) >= _MAX_TRACED and group not in self._traced_at:
            del self._traced_at[next(iter(self._traced_at))]
        self._traced_at[group] = at
        return True

    def _url(self, record: Record, headers: dict[bytes, bytes]) -> str:
        host, path = headers.get(b"host"), record[PATH]
        if len(path) > _SHORT:
            path = self._redactor.text(path, _TEXT_LIMIT)
        if host is not None:
            path = f"{record[SCHEME][:_METHOD_LIMIT]}://{host[:256].decode('latin-1')}{path}"
        query = record[QUERY]
        if query:
            return f"{path}?{self._redactor.query(query[:_TEXT_LIMIT].decode('latin-1'))}"
        return str(path)

    def _agent(self, agent: bytes) -> str:
        if b"earer" in agent or b"eyJ" in agent or b"sk-" in agent:
            return self._redactor.text(agent.decode("latin-1"), _AGENT_LIMIT)
        return agent[:_AGENT_LIMIT].decode("latin-1")

    def _observe(self, record: Record, offset: float) -> None:
        if self._on_request is None:
            return
        try:
            self._on_request(self.request_log(record, offset))
        except Exception:  # noqa: BLE001  a broken observer is counted
            self.observer_errors += 1

    def request_log(self, record: Record, offset: float) -> RequestLog:
        """The ended exchange as a `RequestLog`."""
        line = {**self._shared(record), **self._end("", record, outcome_of(record), offset)}
        return RequestLog(
            start_time=record[STARTED] + offset,
            end_time=record[ENDED] + offset,
            **{name: line[name] for name in _REQUEST_LOG_FIELDS & line.keys()},
        )

    def _encode(self, line: dict[str, Any]) -> bytes:
        try:
            encoded = orjson.dumps(line, option=_OPTIONS)
        except (TypeError, ValueError):  # a lone surrogate, an object, an integer beyond 64 bits
            encoded = orjson.dumps(
                {name: self._plain(value) for name, value in line.items()}, option=_OPTIONS
            )
        if not encoded.isascii():
            for raw, escaped in _LINE_BREAKS:
                encoded = encoded.replace(raw, escaped)
        return encoded

    def _plain(self, value: Any) -> Any:
        return value if isinstance(value, datetime) else self._redactor.mapping(value)


def _compiled(
    extract: Mapping[str, Field], proxies: TrustedProxies | None
) -> tuple[dict[str, None], list[tuple[str, FromHeader | FromPath | FromQuery]]]:
    """The fields that the drain reads, without a value, and those of them that can have one.

    What callables read of the scope is known at the end only, and comes with the exchange.
    """
    readers = [
        (name, field)
        for name, field in extract.items()
        if isinstance(field, (FromPath, FromQuery))
        or (isinstance(field, FromHeader) and not (field.trusted_only and proxies is None))
    ]
    on_drain = (name for name, field in extract.items() if isinstance(field, _ON_DRAIN))
    return dict.fromkeys(on_drain), readers


def _announced_size(record: Record) -> int | None:
    """What the Content-Length header says; None without one."""
    announced = record[HEADERS].get(b"content-length")
    if announced is not None and announced.isdigit() and len(announced) < 19:
        return int(announced)
    return None


def _request_size(record: Record) -> int:
    """The announced size of the request's body; without one, what the app read of it."""
    announced = _announced_size(record)
    return record[RECEIVED] if announced is None else announced


class RequestIdFilter(logging.Filter):
    """Puts ``request_id`` and ``trace_id`` on every log record that a request's code makes.

    Attach it to a handler, then use ``%(request_id)s`` in its format; outside of a request both
    are "-".
    """

    def filter(self, record: logging.LogRecord) -> bool:
        exchange = current()
        record.request_id = exchange.request_id if exchange else "-"
        record.trace_id = (exchange.trace_id if exchange else None) or "-"
        return True
