"""Request logs: which of an exchange's lines are due, and who else is told of it."""

import logging
from collections import deque
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, fields
from typing import Any
from zlib import crc32

import orjson

from asgi_errorkit.classify import Classifier
from asgi_errorkit.exchange import (
    CAUGHT,
    ENDED,
    ERROR,
    ID,
    KIND,
    LOGGED,
    NOBODY,
    PATH,
    SESSION,
    START,
    STARTED,
    STATUS,
    Record,
    current,
)
from asgi_errorkit.fields import Field
from asgi_errorkit.lines import Lines
from asgi_errorkit.outcome import Outcome
from asgi_errorkit.proxies import TrustedProxies
from asgi_errorkit.recorder import Batch, Recorder
from asgi_errorkit.redact import Redactor
from asgi_errorkit.writer import LoggerWriter

__all__ = ["EVENTS", "RequestIdFilter", "RequestLines", "RequestLog", "log_unclaimed"]

FAILED = "request_error"
DIED = "worker_died"
BLOCKED = "loop_blocked"
EVENTS = (
    "request_start",
    "request_complete",
    FAILED,
    "websocket_open",
    "websocket_close",
    DIED,
    BLOCKED,
)

_MAX_ANNOUNCED = 100_000
_MAX_UNTOLD = 10_000
_OK = Outcome.OK
_UNKNOWN = object()


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


_REQUEST_LOG_FIELDS = frozenset(field.name for field in fields(RequestLog))


class RequestLines:
    """The sink that turns records into log lines, and hands them to ``emit`` batch by batch.

    ``emit`` takes a list of lines, each a JSON document with its line feed. ``claim`` is what
    the exchanges it tells of carry as ``LOGGED``; None makes one that no other has.
    """

    def __init__(
        self,
        emit: Callable[[list[str]], None],
        *,
        level: int,
        events: Collection[str],
        exclude_paths: Collection[str],
        success_sample_rate: float,
        extract: Mapping[str, Field],
        proxies: TrustedProxies | None,
        redactor: Redactor,
        traceback_seconds: float,
        on_request: Callable[[RequestLog], None] | None = None,
        claim: int | None = None,
    ) -> None:
        self.observer_errors = 0
        self.claim = id(self) if claim is None else claim
        self.lines = Lines(
            extract=extract,
            proxies=proxies,
            redactor=redactor,
            traceback_seconds=traceback_seconds,
            sample_rate=success_sample_rate,
        )
        self._emit = emit
        self._due = frozenset(events if level <= logging.INFO else ())
        self._due_of_failures = frozenset(events if level <= logging.ERROR else ())
        self._tells_deaths = DIED in events
        self._tells_blocks = BLOCKED in events and level <= logging.WARNING
        self._level = level
        self._announced: dict[tuple[str, float], None] = {}
        self._excluded = frozenset(path for path in exclude_paths if not path.endswith("*"))
        self._excluded_prefixes = tuple(path[:-1] for path in exclude_paths if path.endswith("*"))
        is_plain = not exclude_paths and success_sample_rate >= 1.0 and on_request is None
        # What makes the lines of a request that went well, where nothing has to be asked of it.
        self._usual: Callable[[Record, float], tuple[str, ...]] | None = None
        if is_plain and "request_complete" in self._due:
            self._usual = self.lines.both if "request_start" in self._due else self.lines.completion
        self._takes_all = not exclude_paths and success_sample_rate >= 1.0
        self._sample_rate = success_sample_rate
        self._on_request = on_request
        self._untold: deque[tuple[str, float, float]] = deque(maxlen=_MAX_UNTOLD)

    def __call__(self, batch: Batch) -> None:
        mine = self.claim  # somebody further out may write the lines of an exchange
        lines: list[str] = []
        usual = None if self._announced else self._usual
        for record, outcome in zip(batch.records, batch.outcomes, strict=True):
            kind = record[KIND]
            if record[LOGGED] != mine or kind == ERROR:
                continue
            try:
                if kind == START:  # perhaps with its response complete: its end is still to come
                    self._tell_start(lines, record, batch.offset)
                elif usual is not None and outcome is _OK and record[SESSION] is None:
                    lines += usual(record, batch.offset)
                else:
                    self._tell(lines, record, outcome, batch.offset)
            except Exception:  # noqa: BLE001  one odd record must not cost the lines of the others
                self.observer_errors += 1
        if lines:
            self._emit(lines)

    def tell_death(self, crash: Mapping[str, Any]) -> None:
        """Tell of a worker that died, with its crash. Only while no batch is told of."""
        level = logging.CRITICAL if crash["suspects"] else logging.WARNING
        if self._tells_deaths and level >= self._level:
            self._emit([self.lines.death(DIED, logging.getLevelName(level), crash)])

    def tell_block(self, block: Mapping[str, Any]) -> None:
        """Tell of what held the event loop up. Only while no batch is told of."""
        if self._tells_blocks:
            told = {name: value for name, value in block.items() if name != "at"}
            self._emit([self.lines.notice(BLOCKED, "WARNING", block["at"], told)])

    def _tell_start(self, lines: list[str], record: Record, offset: float) -> None:
        """Of an exchange that goes on; remembered, so that its end does not tell it again."""
        event = "request_start" if record[SESSION] is None else "websocket_open"
        if event not in self._due or not (self._takes_all or self._takes(record)):
            return
        lines.append(self.lines.start(event, record, offset, self.lines.shared(record)))
        self._announced[record[ID], record[STARTED]] = None
        if len(self._announced) > _MAX_ANNOUNCED:  # the ends of the oldest were lost
            del self._announced[next(iter(self._announced))]

    def _tell(self, lines: list[str], record: Record, outcome: Outcome, offset: float) -> None:
        """Of an exchange that has ended: its start too, unless that has been told before."""
        if record[SESSION] is None:
            start, event = "request_start", FAILED if outcome.failed else "request_complete"
        else:
            # A session that was refused, or failed before that, was never open.
            start = "websocket_open" if record[STATUS] == 101 else ""
            event = "websocket_close"
        caught = record[CAUGHT]
        failed = outcome.failed or (caught is not None and not caught.handled)
        taken = self._takes_all or failed or self._takes(record)
        tells_end = taken and event in (self._due_of_failures if outcome.failed else self._due)
        tells_start = taken and start in self._due
        if tells_start and self._announced and self._was_told(record):
            tells_start = False
        if not (tells_end or tells_start or self._on_request):
            return
        shared = self.lines.shared(record)
        if tells_start:
            lines.append(self.lines.start(start, record, offset, shared))
        if tells_end or self._on_request:
            line = self.lines.end(event, record, outcome, offset, shared)
            if tells_end:
                lines.append(line)
            if self._on_request:
                self._remember(line, record, offset)

    def _was_told(self, record: Record) -> bool:
        return self._announced.pop((record[ID], record[STARTED]), _UNKNOWN) is None

    def _takes(self, record: Record) -> bool:
        """Whether a success is to be told: its path is not excluded, and the sample takes it."""
        path = record[PATH]
        if path in self._excluded or (
            self._excluded_prefixes and path.startswith(self._excluded_prefixes)
        ):
            return False
        # By the id, so that the start and the completion of one request agree.
        return crc32(record[ID].encode()) < self._sample_rate * 2**32

    def _remember(self, line: str, record: Record, offset: float) -> None:
        if len(self._untold) == _MAX_UNTOLD:  # the observer is slower than the requests
            self.observer_errors += 1
        self._untold.append((line, record[STARTED] + offset, record[ENDED] + offset))

    def tell_observer(self) -> None:
        """Hand the `RequestLog` of each ended request to the observer: it may take its time."""
        while self._untold and self._on_request:
            try:
                line, started_at, ended_at = self._untold.popleft()
            except IndexError:  # another thread tells too
                return
            told = orjson.loads(line)
            known = {name: told[name] for name in _REQUEST_LOG_FIELDS & told.keys()}
            try:
                self._on_request(RequestLog(start_time=started_at, end_time=ended_at, **known))
            except Exception:  # noqa: BLE001  a broken observer is counted
                self.observer_errors += 1


def log_unclaimed(recorder: Recorder, redactor: Redactor, judge: Classifier) -> None:
    """Have failures whose lines nobody writes logged by the logger ``asgi_errorkit.errors``."""
    writer = LoggerWriter(logging.getLogger("asgi_errorkit.errors"), wake=recorder.wake)
    lines = RequestLines(
        writer.write,
        level=logging.ERROR,
        events=(FAILED, "websocket_close"),
        exclude_paths=(),
        success_sample_rate=1.0,
        extract={},
        proxies=None,
        redactor=redactor,
        traceback_seconds=10.0,
        claim=NOBODY,
    )
    lines.lines.judge = judge
    if recorder.add_log_sink(lines, NOBODY):
        recorder.add_flusher(writer.flush)
        recorder.after_fork(writer.reset_after_fork)


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
