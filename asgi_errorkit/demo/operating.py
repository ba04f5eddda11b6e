"""How the demo asks the ops app: as an operator does, over HTTP and with the token."""

import asyncio
from collections.abc import Callable
from typing import Any

import httpx
import orjson

from asgi_errorkit.demo.waiting import turns

__all__ = ["MOUNTED_AT", "Operator"]

MOUNTED_AT = "/_errorkit"
_PAUSE_SECONDS = 0.2
_BUSY_SECONDS = 10.0


class Operator:
    """Asks by a client of the demo; nothing of it is a request of the app, so none is entered."""

    def __init__(self, client: httpx.AsyncClient, token: str) -> None:
        self._client = client
        self._headers = {"authorization": f"Bearer {token}"}

    async def ask(self, path: str) -> Any:
        """What is told there. Raises httpx.HTTPError."""
        for _ in turns(_BUSY_SECONDS):
            response = await self._client.get(MOUNTED_AT + path, headers=self._headers)
            if response.status_code != 503:  # as many are read for others as may be
                break
            await asyncio.sleep(_PAUSE_SECONDS)
        response.raise_for_status()
        return orjson.loads(response.content)

    async def until(self, path: str, is_so: Callable[[Any], bool], *, seconds: float) -> bool:
        """Ask until that is so, for so long at most; whether it was."""
        for _ in turns(seconds):
            if is_so(await self.ask(path)):
                return True
            await asyncio.sleep(_PAUSE_SECONDS)
        return False

    async def status_of_stranger(self, path: str) -> int:
        """What somebody without a token is answered."""
        return (await self._client.get(MOUNTED_AT + path)).status_code
