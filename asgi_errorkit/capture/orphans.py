"""Errors that nobody awaits: of asyncio tasks and callbacks, of threads, and of finalizers.

The hooks of the process are set once, on top of those that are there, which are called as before.
What a request has failed with, or a framework's hook has told of, is not told of again. An error of
a task that a request has started is told to the kit of that request, if it asked for orphans.
Of any other error one kit is told, for two that count it would double it: the kit that was the last
to begin in that event loop, or, of threads and finalizers, in the process.

A loop is watched from the lifespan on, or from the first request on if it is the kit's first; one
that comes later, and has no lifespan, from the end of its first request in a thread of its own, and
in a thread that had a loop before, from its 64th at the latest: no request pays for looking.
"""

import gc
import sys
import threading
from collections.abc import Callable, Container
from contextvars import Context
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary, WeakSet

from asgi_errorkit.capture import ORPHANS
from asgi_errorkit.classify import Classifier
from asgi_errorkit.exchange import CHOICES, CURRENT, SEEN, Caught, Exchange, State, told_of
from asgi_errorkit.failure import says_gone
from asgi_errorkit.fingerprint import snapshot
from asgi_errorkit.recorder import Recorder
from asgi_errorkit.told import remember, take_known

__all__ = ["install", "tell"]

_listeners: "WeakKeyDictionary[Recorder, Classifier]" = WeakKeyDictionary()  # as they began
_telling = threading.local()  # the exception that the hooks before ours are being told of
_served_in: "WeakKeyDictionary[Any, WeakSet[Recorder]]" = WeakKeyDictionary()  # by event loop


def install(recorder: Recorder, classifier: Classifier) -> None:
    """Have the recorder told of what is orphaned from now on, also in the running event loop."""
    if not recorder.running:
        _listeners.pop(recorder, None)
    _listeners[recorder] = classifier
    recorder.watch_loops(_watch_new_loop)
    loop = _running_loop()
    if loop is not None:
        _watch(loop, recorder)
    if not _is_ours(threading.excepthook):
        threading.excepthook = _ours(_of_threads(threading.excepthook))
    if not _is_ours(sys.unraisablehook):
        sys.unraisablehook = _ours(_of_finalizers(sys.unraisablehook))


def tell(exc: Exception) -> None:
    """Tell of an error that belongs to no request, as of an orphan of the running event loop."""
    remember(exc)
    _tell_one(exc, None, _served_in.get(_running_loop(), ()))


def _watch_new_loop(recorder: Recorder) -> None:
    loop = _running_loop()
    if loop is not None and recorder not in _served_in.get(loop, ()):
        _watch(loop, recorder)


def _watch(loop: Any, recorder: Recorder) -> None:
    _served_in.setdefault(loop, WeakSet()).add(recorder)
    if not _is_ours(loop.get_exception_handler()):
        loop.set_exception_handler(_ours(_of_tasks(loop.get_exception_handler())))


def _running_loop() -> Any:
    asyncio = sys.modules.get("asyncio")
    try:
        return asyncio.get_running_loop() if asyncio is not None else None
    except (AttributeError, RuntimeError):  # trio, or nothing at all
        return None


def _of_tasks(before: Callable[..., Any] | None) -> Callable[..., Any]:
    def note(loop: Any, context: dict[str, Any]) -> None:
        source = context.get("task") or context.get("future") or context.get("handle")
        go_on = partial(before, loop) if before is not None else loop.default_exception_handler
        told = context.get("exception")
        _tell(told, _state_of(source), _served_in.get(loop, ()), partial(go_on, context))

    return note


def _state_of(source: Any) -> State | None:
    """The exchange that a task was started in, or that handed a callback to the loop."""
    get_context = getattr(source, "get_context", None)
    if get_context is not None:
        state: State | None = get_context().get(CURRENT)
        return state
    # Before Python 3.12 they do not tell, but what they refer to can be seen.
    contexts = [each for each in gc.get_referents(source) if type(each) is Context]
    return contexts[0].get(CURRENT) if len(contexts) == 1 else None


def _of_threads(before: Callable[..., Any]) -> Callable[..., Any]:
    def note(failed: Any) -> None:
        _tell(failed.exc_value, CURRENT.get(), None, partial(before, failed))

    return note


def _of_finalizers(before: Callable[..., Any]) -> Callable[..., Any]:
    def note(failed: Any) -> None:
        # A finalizer may run in anybody's context.
        _tell(failed.exc_value, None, None, partial(before, failed))

    return note


def _tell(
    exc: BaseException | None,
    state: State | None,
    serving: Container[Recorder] | None,
    go_on: Callable[[], Any],
) -> None:
    """Tell one recorder, and then whoever was told before."""
    if not isinstance(exc, Exception):
        go_on()
        return
    before = getattr(_telling, "exc", None)
    if before is not exc and not take_known(exc) and not says_gone(exc):
        _tell_one(exc, state, serving)
    _telling.exc = exc  # beneath a hook that was set on top of ours, ours may come again
    try:
        go_on()
    finally:
        _telling.exc = before


def _tell_one(exc: Exception, state: State | None, serving: Container[Recorder] | None) -> None:
    recorder = _whose(state, serving)
    classifier = _listeners.get(recorder) if recorder is not None else None
    if recorder is None or classifier is None:
        return
    caught = Caught(
        snapshot(exc), classifier(exc), late=True, counted_by=_counted_by(exc, state, CURRENT.get())
    )
    exchange = Exchange(state) if state is not None else None
    recorder.publish(told_of(exchange, caught, recorder.clock))


def _counted_by(exc: Exception, *states: State | None) -> tuple[int, ...]:
    """The trackers that the application has told of it."""
    met = [state[SEEN] for state in states if state is not None and state[SEEN] is not None]
    return next((seen.counted_by for seen in met if seen.exc is exc), ())


def _whose(state: State | None, serving: Container[Recorder] | None) -> Recorder | None:
    """The recorder of the exchange; else the last to begin among those that serve in the loop."""
    choices = state[CHOICES] if state is not None else None
    if choices is not None and ORPHANS not in choices.captures:
        return None
    if choices is not None and choices.recorder in _listeners:
        owner: Recorder = choices.recorder
        return owner
    listening = [each() for each in _listeners.keyrefs()]
    candidates = [each for each in listening if each and (serving is None or each in serving)]
    return candidates[-1] if candidates else None


def _ours(hook: Callable[..., Any]) -> Callable[..., Any]:
    hook.is_of_errorkit = True  # type: ignore[attr-defined]  # told by this when it is set again
    return hook


def _is_ours(hook: object) -> bool:
    return getattr(hook, "is_of_errorkit", False) is True
