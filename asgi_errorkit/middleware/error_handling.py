"""Error handling as middleware: catches, classifies, records and answers what the app raises."""

import logging
import sys
from collections.abc import Awaitable, Callable, Collection, Mapping
from inspect import isawaitable
from typing import Any, TypeAlias

from asgi_errorkit.apps import choices_within, single_callable
from asgi_errorkit.capture import (
    BY_DEFAULT,
    FALLBACK,
    MONITORING,
    NAMES,
    ORPHANS,
    install,
    install_fallback,
    install_monitoring,
    install_orphans,
)
from asgi_errorkit.choices import Choices
from asgi_errorkit.exchange import Exchange
from asgi_errorkit.frame import frame
from asgi_errorkit.identity import RequestIds
from asgi_errorkit.logs import log_unclaimed
from asgi_errorkit.options import (
    check_bool,
    check_callable,
    check_headers,
    check_type,
    is_header,
    strings,
)
from asgi_errorkit.problem import NOT_TO_SET, Answer, Failure, answer
from asgi_errorkit.refusal import send_answer
from asgi_errorkit.tracker import ErrorTracker
from asgi_errorkit.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["ErrorHandlingMiddleware"]

Headers: TypeAlias = Mapping[str, str] | Callable[[Scope], Mapping[str, str]]
Responder: TypeAlias = Callable[[Exchange, Exception], Answer | Awaitable[Answer | None] | None]
OnError: TypeAlias = Callable[[Exchange, Exception], object]

logger = logging.getLogger("asgi_errorkit")

_REPEATABLE = frozenset((b"set-cookie", b"vary"))
_OF_THE_BODY = frozenset((b"content-length", b"content-type", b"content-encoding", b"etag"))


class ErrorHandlingMiddleware:
    """Records every error that escapes the app, and answers it if nothing has been sent yet.

    ``error_tracker`` counts and classifies; None makes one. ``debug`` answers with traceback,
    request and redacted locals: never in production. ``headers`` are added to error answers: a
    mapping, or a callable of the scope such as `asgi_errorkit.cors`. ``on_error(exchange, exc)``
    is told of each error; ``responder(exchange, exc)`` may return an `Answer` of its own, or None
    for the usual one; both may be async, and are counted in ``hook_errors`` when they raise.
    ``reraise`` lets an answered exception go on, for chains in which something further out wants
    it. ``log_errors`` has each failure logged by the logger "asgi_errorkit.errors" where no
    `StructuredLoggingMiddleware` logs it. ``capture`` has frameworks tell of the exceptions that
    they answer themselves, by their own hooks: True for whichever are found within the app, False
    for none, or the names of some (see `asgi_errorkit.capture.NAMES`). Only where "monitoring" is
    among the names are exceptions also followed by `sys.monitoring` (Python 3.12 and newer). Once
    the response has started, an error is recorded and always goes on.
    """

    def __init__(
        self,
        app: ASGIApp,
        error_tracker: ErrorTracker | None = None,
        *,
        debug: bool = False,
        reraise: bool = False,
        headers: Headers | None = None,
        on_error: OnError | None = None,
        responder: Responder | None = None,
        log_errors: bool = True,
        capture: bool | Collection[str] = True,
        request_ids: RequestIds | None = None,
    ) -> None:
        check_type("error_tracker", error_tracker, ErrorTracker)
        check_type("request_ids", request_ids, RequestIds)
        for name, flag in (("debug", debug), ("reraise", reraise), ("log_errors", log_errors)):
            check_bool(name, flag)
        for name, hook in (("on_error", on_error), ("responder", responder)):
            if hook is not None:
                check_callable(name, hook, "exchange", "exc", may_be_async=True)
        _check_extra_headers(headers)
        self.app = app
        self.error_tracker = error_tracker or ErrorTracker()
        self._answers = _Answers(
            self.error_tracker,
            debug=debug,
            reraise=reraise,
            headers=headers,
            on_error=on_error,
            responder=responder,
        )
        self._captured = False
        self._frameworks = _frameworks(capture)
        install([app], self._frameworks)
        within = choices_within(app)
        self.choices = Choices(
            recorder=self.error_tracker.recorder,
            classifier=self.error_tracker.classifier,
            ids=request_ids or (within.ids if within else RequestIds()),
            answers=self._answers,
            captures=self._frameworks,
            prepare=self._capture if self._frameworks else None,
            learn=self.error_tracker.learn,
        )
        self.error_tracker.recorder.after_fork(self.choices.ids.reset_after_fork)
        if log_errors:
            tracker = self.error_tracker
            log_unclaimed(tracker.recorder, tracker.redactor, tracker.classifier)
        self._serve = frame(single_callable(app), self.choices)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> Any:
        return await self._serve(scope, receive, send)

    def _capture(self, scope: Scope) -> None:
        """Hook into the frameworks within the app, once more with what the first scope tells."""
        recorder = self.choices.recorder
        if self._captured and recorder.running and scope.get("type") == "lifespan":
            # Of a further event loop; the first request may tell more than its lifespan did.
            if ORPHANS in self._frameworks:
                install_orphans(recorder, self.choices.classifier)
            return
        self._captured = True
        try:
            self._capture_now(scope)
        except Exception as error:
            logger.warning("what the app swallows cannot be seen", exc_info=error)

    def _capture_now(self, scope: Scope) -> None:
        apps = (self.app, scope.get("app"), scope.get("litestar_app"))
        install(apps, self._frameworks)
        if FALLBACK in self._frameworks:
            install_fallback()
        if MONITORING in self._frameworks:
            install_monitoring(self)
        if ORPHANS in self._frameworks:
            install_orphans(self.choices.recorder, self.choices.classifier)

    @property
    def hook_errors(self) -> int:
        """How often a hook, responder or headers callable of the application raised."""
        return self._answers.hook_errors


class _Answers:
    """Turns an exception into a response; see `asgi_errorkit.choices.Answers`."""

    def __init__(
        self,
        tracker: ErrorTracker,
        *,
        debug: bool,
        reraise: bool,
        headers: Headers | None,
        on_error: OnError | None,
        responder: Responder | None,
    ) -> None:
        self.hook_errors = 0
        self._judge = tracker.classifier
        self._redactor = tracker.redactor
        self._wall_clock = tracker.recorder.wall_clock
        self._debug = debug
        self._reraise = reraise
        self._headers = headers
        self._on_error = on_error
        self._responder = responder

    async def observe(self, exchange: Exchange, exc: Exception) -> None:
        if self._on_error is None:
            return
        try:
            told = self._on_error(exchange, exc)
            if isawaitable(told):
                await told
        except Exception as error:  # noqa: BLE001  a hook that breaks must not break the answer
            self._count_hook_error(self._on_error, error)

    async def answer(
        self, exchange: Exchange, exc: Exception, scope: Scope, send: Send, held: list[Message]
    ) -> bool:
        made = await self._respond(exchange, exc) or self._usual(exchange, exc, scope)
        headers = _joined([*made.headers, *self.extra_headers(scope)], held)
        await send_answer(made._replace(headers=headers), scope, send)
        return not self._reraise

    async def _respond(self, exchange: Exchange, exc: Exception) -> Answer | None:
        if self._responder is None:
            return None
        try:
            made = self._responder(exchange, exc)
            if isawaitable(made):
                made = await made
            if made is None:
                return None
            return _valid(Answer(*made))
        except Exception as error:  # noqa: BLE001  then the usual answer is sent
            self._count_hook_error(self._responder, error)
            return None

    def _usual(self, exchange: Exchange, exc: Exception, scope: Scope) -> Answer:
        caught = exchange.caught
        verdict = caught.verdict if caught else self._judge(exc)
        failure = Failure(
            exc, verdict.info, verdict.status_code, exchange.request_id, self._wall_clock()
        )
        return answer(failure, scope, debug=self._debug, redactor=self._redactor)

    def extra_headers(self, scope: Scope) -> list[tuple[bytes, bytes]]:
        if self._headers is None:
            return []
        try:
            extra = self._headers(scope) if callable(self._headers) else self._headers
            return _encoded(extra)
        except Exception as error:  # noqa: BLE001  an answer without them is better than none
            self._count_hook_error(self._headers, error)
            return []

    def _count_hook_error(self, broken: object, error: Exception) -> None:
        """Count it, and say so once: what goes wrong each time would fill the log."""
        self.hook_errors += 1
        if self.hook_errors == 1:
            logger.error("%r failed; further failures are only counted", broken, exc_info=error)


def _frameworks(capture: bool | Collection[str]) -> frozenset[str]:
    if isinstance(capture, bool):
        return BY_DEFAULT if capture else frozenset()
    names = frozenset(strings("capture", capture))
    if not names <= NAMES:
        raise ValueError(
            f"capture must be True, False or names among {', '.join(sorted(NAMES))}; "
            f"got {min(names - NAMES)!r}"
        )
    if MONITORING in names and sys.version_info < (3, 12):
        raise ValueError(
            f"capture must do without {MONITORING!r} before Python 3.12, which brought "
            "sys.monitoring: leave it out, or run a newer Python"
        )
    return names


def _joined(headers: list[tuple[bytes, bytes]], held: list[Message]) -> list[tuple[bytes, bytes]]:
    """Add what middlewares had added to the answer that is replaced, CORS headers and cookies."""
    if not held:
        return headers
    given = {name.lower() for name, _ in headers} - _REPEATABLE
    added = [pair for pair in held[0]["headers"] if pair[0].lower() not in given | _OF_THE_BODY]
    return headers + added


def _check_extra_headers(headers: Headers | None) -> None:
    if headers is None:
        return
    if callable(headers):
        check_callable("headers", headers, "scope")
    else:
        _encoded(headers)


def _valid(made: Answer) -> Answer:
    pairs = [(bytes(name), bytes(value)) for name, value in made.headers]
    for name, value in pairs:
        if not is_header(name.decode("latin-1"), value.decode("latin-1")):
            raise ValueError(
                f"a header has a name and a value on one line; got {name!r}: {value!r}"
            )
    if not (isinstance(made.status_code, int) and 200 <= made.status_code <= 999):
        raise ValueError(f"a status code lies between 200 and 999; got {made.status_code!r}")
    if not isinstance(made.body, bytes):
        raise TypeError(f"a body is bytes; got {type(made.body).__name__}")
    return Answer(made.status_code, pairs, made.body)


def _encoded(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    check_headers("headers", headers)
    encoded = [
        (name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()
    ]
    for name, _ in encoded:
        if name in NOT_TO_SET:
            raise ValueError(
                "headers must not describe the body or the connection, as the answer and the "
                f"server do that; got {name.decode()!r}"
            )
    return encoded
