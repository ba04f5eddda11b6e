"""Sanic tells of every exception by its signals, before it looks for a handler."""

from typing import Any
from weakref import WeakSet

from sanic.exceptions import SanicException

from asgi_errorkit.exchange import tell_route
from asgi_errorkit.failure import swallowed

__all__ = ["install"]

# Where the traceback of what a task of the application raised begins.
_TASK = "Sanic._prep_task."

# An application takes no weak references; what passes its signals on does.
_listened_to: "WeakSet[Any]" = WeakSet()


def install(app: Any) -> None:
    """Have its signals tell of its errors, those of its tasks, and of the matched routes.

    To be called before it starts: it then takes out the signals that nobody listens to.
    """
    if app.signal_router in _listened_to:
        return
    if app.state.is_started:
        raise RuntimeError("a Sanic that has started has let go of the signals nobody listened to")
    app.add_signal(_note, "http.lifecycle.exception")
    app.add_signal(_note_session, "websocket.handler.exception")
    app.add_signal(_note_task, "server.exception.report")
    app.add_signal(_note_route, "http.routing.after")
    _listened_to.add(app.signal_router)


async def _note(request: Any, exception: BaseException, **_: Any) -> None:
    swallowed(exception, _scope(request), by="sanic", handled=_has_answer(request, exception))


async def _note_session(request: Any, exception: BaseException, **_: Any) -> None:
    swallowed(exception, _scope(request), by="sanic")


async def _note_task(exception: BaseException, **_: Any) -> None:
    # What a request raised is reported too, and told of by its own signal.
    traceback = exception.__traceback__
    if traceback is not None and traceback.tb_frame.f_code.co_qualname.startswith(_TASK):
        swallowed(exception, by="sanic", apart=True)


async def _note_route(request: Any, **_: Any) -> None:
    scope = _scope(request)
    if scope is not None and request.uri_template is not None:
        tell_route(scope, request.uri_template)


def _scope(request: Any) -> Any:
    return getattr(request.transport, "scope", None)  # its own server has none


def _has_answer(request: Any, exc: BaseException) -> bool:
    """Whether it means an answer below 500, or the application has a handler for its kind."""
    if isinstance(exc, SanicException):
        return isinstance(exc.status_code, int) and exc.status_code < 500
    try:
        return _has_handler(request.app.error_handler, exc, request.name)
    except Exception:  # noqa: BLE001  an application may have made its own way to look handlers up
        return False


def _has_handler(handlers: Any, exc: BaseException, route_name: str | None) -> bool:
    handler = handlers.lookup(exc, route_name)
    # One for any exception answers errors: it does not expect them.
    any_exception = [handlers.cached_handlers.get((Exception, name)) for name in (route_name, None)]
    return handler is not None and all(handler is not each for each in any_exception)
