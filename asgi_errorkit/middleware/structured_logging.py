"""Request logging as middleware: every request as JSON lines, written off the request path."""

import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import IO, Any

from asgi_errorkit.apps import check_type, choices_within, single_callable
from asgi_errorkit.choices import Choices
from asgi_errorkit.classify import Classifier
from asgi_errorkit.fields import DEFAULT_FIELDS, Field
from asgi_errorkit.frame import frame
from asgi_errorkit.identity import RequestIds
from asgi_errorkit.lines import LINE_FIELDS, ON_DRAIN
from asgi_errorkit.logs import EVENTS, RequestLines, RequestLog
from asgi_errorkit.proxies import TrustedProxies
from asgi_errorkit.recorder import Recorder
from asgi_errorkit.redact import Redactor, safe_str
from asgi_errorkit.types import ASGIApp, Receive, Scope, Send
from asgi_errorkit.writer import LineWriter, LoggerWriter

__all__ = ["StructuredLoggingMiddleware"]


class StructuredLoggingMiddleware:
    """Logs each request as one JSON line an event, in batches, off the request path.

    ``log_level``: the least level written; a failed request is an ERROR, all else INFO.
    ``stream``: a text or binary stream; None is standard output. ``logger``: a stdlib logger or
    its name to log through instead. ``events``: which of the five events are written.
    ``exclude_paths``: paths, or prefixes ending in ``*``, whose successes are not written.
    ``success_sample_rate``: the share of successes written, 0 to 1; failures always are.
    ``fields``: further fields, added to or (with None) taken from the default ``user_id``,
    ``video_id`` and ``model_name``; see `asgi_errorkit.fields`. ``trusted_proxies``: addresses or
    networks whose X-Forwarded-For, Forwarded and X-User-ID are believed. ``redact``: further
    names whose values are secret. ``traceback_seconds``: of errors of one origin, one line in so
    many seconds tells the traceback (0: every line), all others only its group.
    ``on_request``: gets the `RequestLog` of each ended request, off
    the request path. Raises TypeError or ValueError for an option that cannot work.
    """

    def __init__(
        self,
        app: ASGIApp,
        log_level: str = "INFO",
        *,
        stream: IO[Any] | None = None,
        logger: logging.Logger | str | None = None,
        events: Collection[str] = EVENTS,
        exclude_paths: Collection[str] = (),
        success_sample_rate: float = 1.0,
        fields: Mapping[str, Field | None] | None = None,
        trusted_proxies: Iterable[str] = (),
        redact: Iterable[str] = (),
        traceback_seconds: float = 10.0,
        on_request: Callable[[RequestLog], None] | None = None,
        request_ids: RequestIds | None = None,
        recorder: Recorder | None = None,
    ) -> None:
        check_type("request_ids", request_ids, RequestIds)
        check_type("recorder", recorder, Recorder)
        self.app = app
        extract = _fields(fields)
        within = choices_within(app)
        recorder = recorder or (within.recorder if within and not within.logs else Recorder())
        networks = _strings("trusted_proxies", trusted_proxies)
        self.writer = _writer(stream, logger, recorder)
        self.lines = RequestLines(
            self.writer.write,
            level=_level(log_level),
            events=_events(events),
            exclude_paths=_paths(exclude_paths),
            success_sample_rate=_rate(success_sample_rate),
            extract=extract,
            proxies=TrustedProxies(networks) if networks else None,
            redactor=Redactor(extra_names=_strings("redact", redact)),
            traceback_seconds=_seconds("traceback_seconds", traceback_seconds),
            on_request=_callable("on_request", on_request),
        )
        self._scope_fields = [(n, f) for n, f in extract.items() if not isinstance(f, ON_DRAIN)]
        recorder.add_log_sink(self.lines)
        recorder.add_flusher(self.writer.flush)
        recorder.after_fork(self.writer.reset_after_fork)
        self.choices = Choices(
            recorder=recorder,
            classifier=within.classifier if within else Classifier(),
            ids=request_ids or (within.ids if within else RequestIds()),
            logs=id(self.lines),
            collect=self._collect if self._scope_fields else None,
        )
        recorder.after_fork(self.choices.ids.reset_after_fork)
        self._serve = frame(single_callable(app), self.choices)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> Any:
        return await self._serve(scope, receive, send)

    def _collect(self, scope: Scope) -> dict[str, Any]:
        """Ask the callables; one that breaks gives null, and is counted."""
        collected: dict[str, Any] = {}
        for name, field in self._scope_fields:
            try:
                value = field(scope)
            except Exception:  # noqa: BLE001  an observer that breaks must not break the request
                self.lines.observer_errors += 1
                value = None
            collected[name] = value if value is None else safe_str(value, 256)
        return collected


def _fields(given: Mapping[str, Field | None] | None) -> dict[str, Field]:
    if given is not None and not isinstance(given, Mapping):
        raise TypeError(f"fields must be a mapping of names to where they come from; got {given!r}")
    fields = {**DEFAULT_FIELDS, **(given or {})}
    for name, field in fields.items():
        if not isinstance(name, str) or not name:
            raise TypeError(f"a field's name must be a string; got {name!r}")
        if name in LINE_FIELDS:
            raise ValueError(f"the field {name!r} is the kit's own; choose another name")
        if field is not None and not isinstance(field, ON_DRAIN) and not callable(field):
            raise TypeError(
                f"the field {name!r} must come from FromHeader, FromPath, FromQuery, a callable of "
                f"the scope, or None to leave it out; got {field!r}"
            )
    return {name: field for name, field in fields.items() if field is not None}


def _level(name: str) -> int:
    level = logging.getLevelNamesMapping().get(name.upper()) if isinstance(name, str) else None
    if not level:
        raise ValueError(f"log_level must be DEBUG, INFO, WARNING, ERROR or CRITICAL; got {name!r}")
    return level


def _events(events: Collection[str]) -> Collection[str]:
    unknown = [event for event in _strings("events", events) if event not in EVENTS]
    if unknown:
        raise ValueError(f"events must be among {', '.join(EVENTS)}; got {unknown[0]!r}")
    return events


def _paths(paths: Collection[str]) -> Collection[str]:
    for path in _strings("exclude_paths", paths):
        if not path.startswith(("/", "*")):
            raise ValueError(
                f"exclude_paths must begin with '/', as in '/health' or '/static/*'; got {path!r}"
            )
    return paths


def _rate(rate: float) -> float:
    if not isinstance(rate, (int, float)) or not 0 <= rate <= 1:
        raise ValueError(f"success_sample_rate must lie between 0 and 1; got {rate!r}")
    return rate


def _seconds(name: str, seconds: float) -> float:
    if not isinstance(seconds, (int, float)) or not seconds >= 0:
        raise ValueError(f"{name} must be a number of seconds, 0 or more; got {seconds!r}")
    return seconds


def _strings(name: str, given: Iterable[str]) -> list[str]:
    if isinstance(given, (str, bytes)) or not isinstance(given, Iterable):
        raise TypeError(f"{name} must be a list of strings; got {given!r}")
    strings = list(given)
    if not all(isinstance(string, str) for string in strings):
        raise TypeError(f"{name} must be a list of strings; got {strings!r}")
    return strings


def _callable(name: str, given: Callable[..., Any] | None) -> Callable[..., Any] | None:
    if given is not None and not callable(given):
        raise TypeError(f"{name} must be a callable or None; got {given!r}")
    return given


def _writer(
    stream: IO[Any] | None, logger: logging.Logger | str | None, recorder: Recorder
) -> LineWriter | LoggerWriter:
    if logger is None:
        return LineWriter(stream, wake=recorder.wake)
    if stream is not None:
        raise ValueError("give either stream or logger, not both")
    if isinstance(logger, str):
        logger = logging.getLogger(logger)
    if not isinstance(logger, logging.Logger):
        raise TypeError(f"logger must be a logging.Logger or its name; got {logger!r}")
    return LoggerWriter(logger, wake=recorder.wake)
