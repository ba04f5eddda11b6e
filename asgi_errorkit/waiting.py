"""The waits between attempts, which tests make instant."""

import time
from collections.abc import Callable

from asgi_errorkit.async_library import sleep

__all__ = ["is_instant", "wait", "wait_sync"]

hook: Callable[[float], float] | None = None
"""What `asgi_errorkit.testing.instant_waits` makes of the seconds to wait; None lets them be."""


async def wait(seconds: float) -> None:
    """Sleep in the library that runs this task; other tasks get their turn even at 0."""
    await sleep(seconds if hook is None else hook(seconds))


def wait_sync(seconds: float) -> None:
    """Sleep in this thread."""
    time.sleep(seconds if hook is None else hook(seconds))


def is_instant() -> bool:
    """Whether a test has made waits instant; the process's budget of retries then does not count."""
    return hook is not None
