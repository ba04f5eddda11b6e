"""Errors that nobody awaits: of asyncio tasks, of threads, and of finalizers.

The hooks of the process are set once, on top of those that are there, which are called as before.
"""

import sys
import threading
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

from asgi_errorkit.classify import Classifier
from asgi_errorkit.exchange import CHOICES, CURRENT, Caught, Exchange, State, told_of
from asgi_errorkit.failure import says_gone
from asgi_errorkit.fingerprint import snapshot
from asgi_errorkit.recorder import Recorder

__all__ = ["install"]

_listeners: "WeakKeyDictionary[Recorder, Classifier]" = WeakKeyDictionary()


def install(recorder: Recorder, classifier: Classifier) -> None:
    """Have the recorder told of what is orphaned from now on, also in the running event loop."""
    _listeners[recorder] = classifier
    _watch_loop()
    if not _is_ours(threading.excepthook):
        threading.excepthook = _ours(_of_threads(threading.excepthook))
    if not _is_ours(sys.unraisablehook):
        sys.unraisablehook = _ours(_of_finalizers(sys.unraisablehook))


def _watch_loop() -> None:
    asyncio = sys.modules.get("asyncio")
    try:
        loop = asyncio and asyncio.get_running_loop()
    except (AttributeError, RuntimeError):  # trio, or nothing at all
        return
    if loop and not _is_ours(loop.get_exception_handler()):
        loop.set_exception_handler(_ours(_of_tasks(loop.get_exception_handler())))


def _of_tasks(before: Callable[..., Any] | None) -> Callable[..., Any]:
    def note(loop: Any, context: dict[str, Any]) -> None:
        _tell(context.get("exception"), _state_of(context.get("task") or context.get("future")))
        if before is None:
            loop.default_exception_handler(context)
        else:
            before(loop, context)

    return note


def _state_of(task: Any) -> State | None:
    """The exchange that a task was started in; Pythons before 3.12 do not tell."""
    context = getattr(task, "get_context", None)
    return context().get(CURRENT) if context is not None else None


def _of_threads(before: Callable[..., Any]) -> Callable[..., Any]:
    def note(failed: Any) -> None:
        _tell(failed.exc_value, CURRENT.get())
        before(failed)

    return note


def _of_finalizers(before: Callable[..., Any]) -> Callable[..., Any]:
    def note(failed: Any) -> None:
        _tell(failed.exc_value, None)  # a finalizer may run in anybody's context
        before(failed)

    return note


def _tell(exc: BaseException | None, state: State | None) -> None:
    if not isinstance(exc, Exception) or says_gone(exc):
        return
    owner = state[CHOICES].recorder if state is not None and state[CHOICES] is not None else None
    exchange = Exchange(state) if state is not None else None
    for recorder, classifier in list(_listeners.items()):
        if owner is None or recorder is owner:
            caught = Caught(snapshot(exc), classifier(exc), late=True)
            recorder.publish(told_of(exchange, caught, recorder.clock))


def _ours(hook: Callable[..., Any]) -> Callable[..., Any]:
    hook.is_of_errorkit = True  # type: ignore[attr-defined]  # told by this when it is set again
    return hook


def _is_ours(hook: object) -> bool:
    return getattr(hook, "is_of_errorkit", False) is True
