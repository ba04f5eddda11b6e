"""Django signals every exception that it turns into a 500, from the thread that ran the view.

What means a status (``Http404``, ``PermissionDenied``), and what a middleware answers, it does not
signal: those are seen where it makes the answer.
"""

import sys
from functools import wraps
from inspect import signature
from typing import Any

from django.core.exceptions import BadRequest, PermissionDenied, SuspiciousOperation
from django.core.handlers import exception as answering
from django.core.signals import got_request_exception
from django.http import Http404
from django.http.multipartparser import MultiPartParserError

from asgi_errorkit.exchange import current, tell_route
from asgi_errorkit.failure import swallowed

__all__ = ["install"]

_MARK = "_asgi_errorkit_wraps"

_EXPECTED = (Http404, PermissionDenied, MultiPartParserError, BadRequest, SuspiciousOperation)


def install(app: Any) -> None:
    """Listen to the process for errors, and to this application for routes and middlewares."""
    got_request_exception.connect(_note, weak=False, dispatch_uid=__name__)
    if not issubclass(app.request_class, _Watched):
        given = app.request_class
        app.request_class = type(
            given.__name__, (_Watched, given), {"__module__": given.__module__}
        )
    _watch_middlewares(app)
    _watch_answers()


def _note(sender: Any, request: Any = None, **_: Any) -> None:
    exc = sys.exc_info()[1]
    if exc is not None:
        swallowed(exc, getattr(request, "scope", None), by="django")


def _watch_middlewares(app: Any) -> None:
    """See what the application's ``process_exception`` answers."""
    ask = app.process_exception_by_middleware
    if hasattr(ask, _MARK):
        return

    @wraps(ask)
    def note(exception: Exception, request: Any) -> Any:
        answered = ask(exception, request)
        if answered is not None:
            swallowed(exception, getattr(request, "scope", None), by="django", handled=True)
        return answered

    setattr(note, _MARK, ask)
    app.process_exception_by_middleware = note


def _watch_answers() -> None:
    """See what Django answers with a status of its own, by the one function that does."""
    answer = answering.response_for_exception
    if hasattr(answer, _MARK):
        return
    if list(signature(answer).parameters) != ["request", "exc"]:
        raise RuntimeError(
            "this Django answers its HTTP exceptions in another way: known by status"
        )

    @wraps(answer)
    def note(request: Any, exc: Exception) -> Any:
        if issubclass(type(exc), _EXPECTED):
            swallowed(exc, getattr(request, "scope", None), by="django", handled=True)
        return answer(request, exc)

    setattr(note, _MARK, answer)
    answering.response_for_exception = note


class _Watched:
    """A request that tells its exchange of the route that was matched."""

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if name == "resolver_match" and value is not None:
            _note_route(getattr(self, "scope", None), value)


def _note_route(scope: Any, match: Any) -> None:
    route = getattr(match, "route", None)
    if scope is None:  # a WSGI request, in a thread that has the context of its exchange
        exchange = current()
        scope = exchange.scope if exchange is not None else None
    if scope is None or not isinstance(route, str):
        return
    tell_route(scope, f"/{route.lstrip('/')}")
