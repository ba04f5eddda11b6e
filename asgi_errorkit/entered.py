"""Which calls are under way within guards that are entered by ``with``, many at a time."""

import inspect
from collections.abc import Callable
from contextvars import ContextVar
from functools import wraps
from types import CoroutineType
from typing import Any, TypeAlias, TypeVar

__all__ = ["enter", "guarded", "leave"]

F = TypeVar("F", bound=Callable[..., Any])

# The guard (None once it was left), its permit, when it was entered, and what was entered before. A
# list, for one is made with every call. Tasks inherit it, and so an end is seen by all who know of it.
_Entry: TypeAlias = list[Any]

_ENTERED: ContextVar[_Entry | None] = ContextVar("asgi_errorkit.entered", default=None)


def enter(guard: object, permit: int, at: float) -> None:
    """Remember the permit of a call that begins, above those it lies within."""
    before = _ENTERED.get()
    if before is not None:
        if before[0] is None:
            before = _lasting(before)
        # What lies below may have ended before it, where tasks begin tasks.
        if before is not None and before[3] is not None and before[3][0] is None:
            before[3] = _lasting(before[3])
    _ENTERED.set([guard, permit, at, before])


def leave(guard: object) -> tuple[int, float] | None:
    """The permit of the call that ends, and when it began; None in a context that knows of none.

    Such as that of another thread, in which a framework runs the second half of a generator.
    """
    entry = _ENTERED.get()
    if entry is None or entry[0] is not guard:
        return _leave_below(guard, entry)
    entry[0] = None
    _ENTERED.set(entry[3])
    return entry[1], entry[2]


def _leave_below(guard: object, entry: _Entry | None) -> tuple[int, float] | None:
    above = None
    while entry is not None and entry[0] is not guard:
        above, entry = entry, entry[3]
    if entry is None:
        return None
    entry[0] = None
    if above is None:
        _ENTERED.set(entry[3])
    else:
        above[3] = _lasting(entry)
    return entry[1], entry[2]


def _lasting(entry: _Entry | None) -> _Entry | None:
    """This or the next below it that was not left, as what ends in a copy of the context is."""
    while entry is not None and entry[0] is None:
        entry = entry[3]
    return entry


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
            result = function(*args, **kwargs)
        if type(result) is CoroutineType:
            result.close()
            raise TypeError(
                f"{function!r:.100} gives a coroutine, so its call has not ended when the guard is "
                "left: guard an async function, which awaits it"
            )
        return result

    return around


def _async(guard: Any, function: Callable[..., Any]) -> Callable[..., Any]:
    async def around(*args: Any, **kwargs: Any) -> Any:
        async with guard:
            return await function(*args, **kwargs)

    return around
