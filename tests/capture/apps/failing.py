"""What goes wrong in the applications: the frame that every framework's error is to lead to."""

import asyncio
from collections.abc import AsyncIterator, Iterator


class ExpectedError(Exception):
    """What applications have a handler for, which answers with 409."""


def fail(kind: str) -> None:
    """Raise what the name says."""
    if kind == "value":
        raise ValueError("the words of the exception")
    if kind == "timeout":
        raise TimeoutError
    if kind == "memory":
        raise MemoryError
    if kind == "group":
        raise ExceptionGroup("several", [ConnectionError("one"), ConnectionError("two")])
    if kind == "expected":
        raise ExpectedError
    raise LookupError(kind)


async def later() -> None:
    """What is left to do when the response has been sent."""
    fail("value")


async def pieces() -> AsyncIterator[bytes]:
    """A body that breaks off."""
    yield b"first"
    await asyncio.sleep(0)
    fail("value")


def synchronous_pieces() -> Iterator[bytes]:
    yield b"first"
    fail("value")
