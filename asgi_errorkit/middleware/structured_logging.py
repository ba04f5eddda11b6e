"""Request logging as middleware: every request as JSON lines, written off the request path."""

import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import IO, Any, cast

from asgi_errorkit.apps import choices_within, single_callable
from asgi_errorkit.choices import Choices
from asgi_errorkit.classify import Classifier
from asgi_errorkit.fields import DEFAULT_FIELDS, Field
from asgi_errorkit.frame import frame
from asgi_errorkit.identity import RequestIds
from asgi_errorkit.lines import LINE_FIELDS, ON_DRAIN
from asgi_errorkit.logs import EVENTS, RequestLines, RequestLog
from asgi_errorkit.options import check_callable, check_number, check_text, check_type, strings
from asgi_errorkit.pretty import PrettyLines
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
    its name to log through instead. ``events``: which of the seven events are written.
    ``exclude_paths``: paths, or prefixes ending in ``*``, whose successes are not written.
    ``success_sample_rate``: the share of successes written, 0 to 1; failures always are.
    ``fields``: further fields, added to or (with None) taken from the default ``user_id``,
    ``video_id`` and ``model_name``; see `asgi_errorkit.fields`. ``trusted_proxies``: addresses or
    networks whose X-Forwarded-For, Forwarded and X-User-ID are believed. ``redact``: further
    names whose values are secret; in a stack they act in every part, a middleware that is nested
    by hand keeps its own. ``traceback_seconds``: of errors of one origin, one line in so many
    seconds tells the traceback (0: every line), all others only its group.
    ``on_request``: gets the `RequestLog` of each ended request, off
    the request path. Raises TypeError or ValueError for an option that cannot work.
    """

    def __init__(
        self,
        app: ASGIApp,
        log_level: str = "INFO",
        *,
        stream: IO[Any] | PrettyLines | None = None,
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
        check_number("success_sample_rate", success_sample_rate, least=0, most=1, example=0.1)
        check_number("traceback_seconds", traceback_seconds, least=0, example=10.0)
        if on_request is not None:
            check_callable("on_request", on_request, "request_log")
        self.app = app
        extract = _fields(fields)
        within = choices_within(app)
        recorder = recorder or (within.recorder if within and not within.logs else Recorder())
        networks = strings("trusted_proxies", trusted_proxies)
        self.redactor = Redactor(extra_names=strings("redact", redact))
        self.writer = _writer(stream, logger, recorder)
        self.lines = RequestLines(
            self.writer.write,
            level=_level(log_level),
            events=_events(events),
            exclude_paths=_paths(exclude_paths),
            success_sample_rate=success_sample_rate,
            extract=extract,
            proxies=TrustedProxies(networks) if networks else None,
            redactor=self.redactor,
            traceback_seconds=traceback_seconds,
            on_request=on_request,
        )
        self._scope_fields = [(n, f) for n, f in extract.items() if not isinstance(f, ON_DRAIN)]
        recorder.add_log_sink(self.lines, self.lines.claim)
        recorder.add_flusher(self.writer.flush)
        recorder.add_flusher(self.lines.tell_observer)
        recorder.after_fork(self.writer.reset_after_fork)
        self.choices = Choices(
            recorder=recorder,
            classifier=within.classifier if within else Classifier(),
            ids=request_ids or (within.ids if within else RequestIds()),
            logs=self.lines.claim,
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
            collected[name] = value if value is None else safe_str(value, 4096)
        return collected


def _fields(given: Mapping[str, Field | None] | None) -> dict[str, Field]:
    if given is not None and not isinstance(given, Mapping):
        raise TypeError(
            "fields must be a mapping of names to where they come from, e.g. "
            f'{{"tenant": FromHeader("x-tenant")}}; got {given!r:.200}'
        )
    for name, field in (given or {}).items():
        _check_field(name, field)
    fields = {**DEFAULT_FIELDS, **(given or {})}
    # Of a StrEnum's member the plain string: the encoder takes no other.
    return {str.__str__(name): field for name, field in fields.items() if field is not None}


def _check_field(name: str, field: Field | None) -> None:
    check_text("a field's name", name, example="tenant")
    if not name:
        raise ValueError("a field's name must not be empty")
    if name in LINE_FIELDS:
        raise ValueError(f"the field {name!r} is the kit's own; choose another name")
    if field is None and name not in DEFAULT_FIELDS:
        raise ValueError(
            f"fields[{name!r}] is None, which takes away one of {', '.join(DEFAULT_FIELDS)}; "
            "there is no other to take away"
        )
    if field is not None and not isinstance(field, ON_DRAIN):
        _check_extractor(f"fields[{name!r}]", field)


def _check_extractor(name: str, extractor: object) -> None:
    if isinstance(extractor, type) or not callable(extractor):
        raise TypeError(
            f'{name} must come from FromHeader("x-tenant"), FromPath("id"), FromQuery("page"), a '
            f"function of the scope, or None to leave it out; got {extractor!r:.200}"
        )
    check_callable(name, extractor, "scope")


def _level(name: str) -> int:
    check_text("log_level", name, example="INFO")
    level = logging.getLevelNamesMapping().get(name.upper())
    if not level:
        raise ValueError(f"log_level must be DEBUG, INFO, WARNING, ERROR or CRITICAL; got {name!r}")
    return level


def _events(given: Collection[str]) -> list[str]:
    events = strings("events", given)
    for event in events:
        if event not in EVENTS:
            raise ValueError(f"events must be among {', '.join(EVENTS)}; got {event!r}")
    return events


def _paths(given: Collection[str]) -> list[str]:
    paths = strings("exclude_paths", given)
    for path in paths:
        if not path.startswith(("/", "*")) or "*" in path[:-1]:
            raise ValueError(
                "exclude_paths must begin with '/' and may end in a star, as in '/health' or "
                f"'/static/*'; got {path!r}"
            )
    return paths


def _writer(
    stream: IO[Any] | PrettyLines | None, logger: logging.Logger | str | None, recorder: Recorder
) -> LineWriter | LoggerWriter:
    if logger is None:
        # The writer asks for no more of a stream than to be written to.
        return LineWriter(cast("IO[Any] | None", stream), wake=recorder.wake)
    if stream is not None:
        raise ValueError("give either stream or logger, not both")
    if isinstance(logger, str):
        logger = logging.getLogger(logger)
    if not isinstance(logger, logging.Logger):
        raise TypeError(f"logger must be a logging.Logger or its name; got {logger!r}")
    return LoggerWriter(logger, wake=recorder.wake)
