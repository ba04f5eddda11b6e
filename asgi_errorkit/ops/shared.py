"""What many want at once is made once, by the first who asks."""

import time
from collections.abc import Awaitable, Callable
from threading import Lock
from typing import Any, Generic, NamedTuple, TypeVar

from asgi_errorkit.async_library import Wakeup, wakeup
from asgi_errorkit.forks import reset_in_child

__all__ = ["Made", "Shared"]

T = TypeVar("T")


class Made(NamedTuple, Generic[T]):
    """What was made, and the how manieth that is: from 1 on."""

    number: int
    value: T


class Shared(Generic[T]):
    """Something that stays good for a while. It is made when somebody asks for it, and never else.

    Who asks while another makes it waits for that; if that one is cancelled, one of those who wait
    makes it. No task and no timer belongs to it; threads and event loops may share it.
    """

    def __init__(
        self,
        make: Callable[[], Awaitable[T]],
        *,
        fresh_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._make = make
        self._fresh_seconds = fresh_seconds
        self._clock = clock
        self._made: Made[T] | None = None
        self._made_at = 0.0
        self.reset_after_fork()
        reset_in_child(self)

    def reset_after_fork(self) -> None:
        """In a forked child: whoever was making it is the parent's."""
        self._lock = Lock()
        self._is_making = False
        self._waiting: list[Wakeup] = []

    async def get(self) -> Made[T]:
        """The latest, if it is fresh, or a new one. What making it raises comes through."""
        while True:
            fresh, others = self._look()
            if fresh is not None:
                return fresh
            if others is None:
                return await self._made_now()
            await others.wait()

    def _look(self) -> tuple[Made[T] | None, Wakeup | None]:
        """What is fresh; else what to wait for; else it is the caller's turn."""
        with self._lock:
            if self._made is not None and self._clock() - self._made_at < self._fresh_seconds:
                return self._made, None
            if not self._is_making:
                self._is_making = True
                return None, None
            waits = wakeup()
            self._waiting.append(waits)
            return None, waits

    async def _made_now(self) -> Made[T]:
        try:
            value = await self._make()
            return self._keep(value)
        finally:
            for each in self._ended():
                each.wake()

    def _keep(self, value: T) -> Made[T]:
        with self._lock:
            number = 1 if self._made is None else self._made.number + 1
            self._made = made = Made(number, value)
            self._made_at = self._clock()
            return made

    def _ended(self) -> list[Any]:
        with self._lock:
            waiting, self._waiting = self._waiting, []
            self._is_making = False
            return waiting
