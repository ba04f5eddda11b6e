"""What takes milliseconds, out of the way of the event loop; several waits at once."""

import sys
from collections.abc import Awaitable, Callable, Iterable
from threading import Thread
from typing import Any, TypeVar

from asgi_errorkit.async_library import in_trio, wakeup

__all__ = ["in_thread", "together"]

T = TypeVar("T")


async def in_thread(call: Callable[[], T]) -> T:
    """What it returns or raises, from a thread of its own; where none can be had, from here.

    Of its own, for the pools of the application may be what is in trouble. Whoever is cancelled
    while waiting leaves the thread to itself.
    """
    done, outcome = wakeup(), _Outcome(call)
    try:
        Thread(
            target=outcome.come_about, args=(done.wake,), name="asgi-errorkit-ops", daemon=True
        ).start()
    except RuntimeError:  # no more threads
        return call()
    await done.wait()
    if outcome.error is not None:
        raise outcome.error
    result: T = outcome.result
    return result


class _Outcome:
    """Written by the thread before it wakes who waits, and read after that."""

    __slots__ = ("_call", "error", "result")

    def __init__(self, call: Callable[[], Any]) -> None:
        self._call = call
        self.result: Any = None
        self.error: BaseException | None = None

    def come_about(self, tell: Callable[[], object]) -> None:
        try:
            self.result = self._call()
        except BaseException as error:  # noqa: BLE001  it is raised to who waits
            self.error = error
        finally:
            tell()


async def together(calls: Iterable[Callable[[], Awaitable[Any]]]) -> None:
    """Have these run at once, until the last of them has ended; none of them may raise."""
    if in_trio():
        async with sys.modules["trio"].open_nursery() as nursery:
            for call in calls:
                nursery.start_soon(call)
    else:
        await sys.modules["asyncio"].gather(*(call() for call in calls))
