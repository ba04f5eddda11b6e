"""The least HTTP client: one request on a connection of its own."""

import asyncio
from typing import NamedTuple

__all__ = ["Answered", "get"]


class Answered(NamedTuple):
    """A response that came as a whole; of its headers the bytes, in lower case."""

    status: int
    headers: bytes
    body: bytes


async def get(port: int, path: str) -> Answered:
    """What is answered on that port of this machine; raises ConnectionError for what breaks off."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(
            f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
        )
        told = await reader.read()
    finally:
        writer.close()
    head, end, body = told.partition(b"\r\n\r\n")
    if not end:
        raise ConnectionError("the answer broke off")
    return Answered(int(head[9:12]), head.lower(), body)
