"""Apps that fail: with so many frames, always at the same place or each time at another."""

from collections.abc import Callable
from itertools import count
from types import CodeType, FunctionType
from typing import Any

from asgi_errorkit.types import ASGIApp, Receive, Scope, Send

__all__ = ["Distinct", "deep", "repeated"]

_Call = Callable[[list[Any]], None]


def deep(frames: int) -> None:
    """Fail this many calls further down."""
    if frames:
        return deep(frames - 1)
    raise RuntimeError("the last frame gives up")


def repeated(frames: int) -> ASGIApp:
    """Fails always at the same place, with so many frames of its own in the traceback."""

    async def failing(scope: Scope, receive: Receive, send: Send) -> None:
        deep(frames - 2)

    return failing


class Distinct:
    """Fails each time in functions that never ran before, so each error is the first of its group.

    The innermost ``new`` of the ``frames`` are such functions, the outer ones are always the same,
    as an application's errors have their first frames in common. Caches, whose size does not
    matter then, know nothing of what is new.
    """

    def __init__(self, *, frames: int, new: int) -> None:
        self._shared = frames - new - 2
        self._new = new
        self._ready: list[list[_Call]] = []

    def stock(self, number: int) -> None:
        """Have functions for so many failures at hand: to make them takes longer than to fail."""
        self._ready += [self._made() for _ in range(number - len(self._ready))]

    def _made(self) -> list[_Call]:
        """Functions that call one another from the last to the first, which raises."""
        return [_renamed(_give_up), *[_renamed(_pass_on) for _ in range(self._new - 1)]]

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The app: frame number one."""
        _go_down(self._shared, self._ready.pop() if self._ready else self._made())


def _go_down(frames: int, others: list[_Call]) -> None:
    if frames:
        return _go_down(frames - 1, others)
    return others.pop()(others)


def _pass_on(others: list[_Call]) -> None:
    return others.pop()(others)


def _give_up(others: list[_Call]) -> None:
    raise RuntimeError("the last frame gives up")


_numbers = count()


def _renamed(function: Any) -> _Call:
    """The same function as code of its own: an error is known by the names it came through."""
    code: CodeType = function.__code__
    name = f"{code.co_name}_{next(_numbers)}"
    return FunctionType(code.replace(co_name=name, co_qualname=name), function.__globals__)
