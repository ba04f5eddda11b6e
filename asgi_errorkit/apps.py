"""What is given to be wrapped: any ASGI application, and the frames already around it."""

import inspect
import sys
from collections.abc import Callable
from typing import Any

from asgi_errorkit.choices import Choices
from asgi_errorkit.options import can_take
from asgi_errorkit.types import ASGIApp

__all__ = ["choices_within", "coroutine_marker", "single_callable"]

_DEEPEST = 50


def single_callable(app: Any) -> ASGIApp:
    """The app as ASGI 3 calls it; an ASGI 2 app is adapted. Raises TypeError for anything else."""
    if not callable(app):
        raise TypeError(
            "app must be an ASGI application, a callable that takes (scope, receive, send); "
            f"got {type(app).__name__}: {app!r:.100}"
        )
    wanted = _positional_parameters(app)
    if inspect.isclass(app) and _is_of_instances(app, wanted):
        raise TypeError(f"app must be an application, not its class: pass {app.__name__}(...)")
    if wanted is None or wanted == 3:
        return app  # type: ignore[no-any-return]  # what it returns shows when it is called
    if wanted == 1:
        # Loaded only for such an app: it brings asyncio with it.
        from asgiref.compatibility import double_to_single_callable  # noqa: PLC0415

        return double_to_single_callable(app)  # type: ignore[no-any-return,no-untyped-call]
    if wanted == 0:
        raise TypeError(f"app must be an application, not a factory of one: pass {_name(app)}()")
    raise TypeError(
        f"app must take (scope, receive, send); {_name(app)} takes {wanted} positional arguments"
    )


def coroutine_marker() -> Callable[[Any], Any] | None:
    """What marks a function as async for asgiref, which warns of any other; None without it.

    Django, Channels and WSGI adapters hand ``send`` to it.
    """
    sync = sys.modules.get("asgiref.sync")
    return getattr(sync, "markcoroutinefunction", None)


def choices_within(app: Any) -> Choices | None:
    """The choices of the nearest frame of ours around the app, also through other middleware."""
    for _ in range(_DEEPEST):
        choices = getattr(app, "choices", None)
        if isinstance(choices, Choices):
            return choices
        app = getattr(app, "app", None)
        if app is None:
            return None
    return None


def _is_of_instances(cls: type[Any], wanted: int | None) -> bool:
    """Whether the application is what the class makes, and not the class itself."""
    call = next((vars(each)["__call__"] for each in cls.__mro__ if "__call__" in vars(each)), None)
    if call is None:
        # Starlette's endpoints are made with all three and then awaited.
        return wanted not in (None, 3)
    if can_take(call, 4) and not can_take(call, 3):  # self, scope, receive, send
        return True
    return wanted not in (None, 1, 3)


def _positional_parameters(app: Callable[..., Any]) -> int | None:
    """How many positional arguments it requires, or 3 where it can take that many; None: unknown."""
    try:
        parameters = inspect.signature(app).parameters.values()
    except (TypeError, ValueError):
        return None
    if any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return 3
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    required = sum(p.default is p.empty for p in positional)
    if required <= 3 <= len(positional):
        return 3
    return required


def _name(app: Any) -> str:
    return getattr(app, "__qualname__", None) or type(app).__qualname__
