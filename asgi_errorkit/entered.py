"""Which calls are under way within guards that are entered by ``with``, many at a time."""

import inspect
from collections.abc import Callable
from contextvars import ContextVar
from functools import wraps
from typing import Any, TypeAlias, TypeVar

__all__ = ["enter", "guarded", "leave"]

F = TypeVar("F", bound=Callable[..., Any])

# The guard, its permit, when it was entered, and what was entered before: a plain tuple, for one is
# made with every call.
_Entry: TypeAlias = tuple[Any, int, float, Any]

_ENTERED: ContextVar[_Entry | None] = ContextVar("asgi_errorkit.entered", default=None)


def enter(guard: object, permit: int, at: float) -> None:
    """Remember the permit of a call that begins, above those it lies within."""
    _ENTERED.set((guard, permit, at, _ENTERED.get()))


def leave(guard: object) -> tuple[int, float] | None:
    """The permit of the call that ends, and when it began; None in a context that knows of none.

    Such as that of another thread, in which a framework runs the second half of a generator.
    """
    entry = _ENTERED.get()
    if entry is not None and entry[0] is guard:
        _ENTERED.set(entry[3])
        return entry[1], entry[2]
    return _leave_below(guard, entry)


def _leave_below(guard: object, entry: _Entry | None) -> tuple[int, float] | None:
    above = []
    while entry is not None and entry[0] is not guard:
        above.append(entry)
        entry = entry[3]
    if entry is None:
        return None
    below = entry[3]
    for each in reversed(above):
        below = (*each[:3], below)
    _ENTERED.set(below)
    return entry[1], entry[2]


def guarded(guard: Any, function: F) -> F:
    """The function within the guard. Raises TypeError for a generator: its calls have no end."""
    call = getattr(type(function), "__call__", None)  # noqa: B004  its code is asked for
    if any(
        inspect.isasyncgenfunction(f) or inspect.isgeneratorfunction(f) for f in (function, call)
    ):
        raise TypeError(
            f"a guard stands around calls, and {function!r:.100} is a generator: use `with` around "
            "the loop that reads it"
        )
    around: Any = _async(guard, function) if _is_async(function) else _sync(guard, function)
    return wraps(function)(around)  # type: ignore[return-value]  # it takes and gives the same


def _is_async(function: Callable[..., Any]) -> bool:
    call = getattr(type(function), "__call__", None)  # noqa: B004  its code is asked for
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(call)


def _sync(guard: Any, function: Callable[..., Any]) -> Callable[..., Any]:
    def around(*args: Any, **kwargs: Any) -> Any:
        with guard:
            return function(*args, **kwargs)

    return around


def _async(guard: Any, function: Callable[..., Any]) -> Callable[..., Any]:
    async def around(*args: Any, **kwargs: Any) -> Any:
        async with guard:
            return await function(*args, **kwargs)

    return around
