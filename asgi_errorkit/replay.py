"""A request's body, recorded while the app reads it, so that it can be read again."""

from asgi_errorkit.types import Message, Receive

__all__ = ["ReplayedBody"]


class ReplayedBody:
    """Passes messages on as they are asked for, never ahead, and keeps up to ``max_bytes`` of body.

    After `rewind` the app reads them again, then goes on with what it had not read.
    """

    __slots__ = ("_bytes", "_kept", "_max_bytes", "_place", "_receive", "can_rewind")

    def __init__(self, receive: Receive, max_bytes: int) -> None:
        self.can_rewind = True  # False once there was too much of it, or the client has left
        self._receive = receive
        self._max_bytes = max_bytes
        self._bytes = 0
        self._kept: list[Message] = []
        self._place = 0

    async def receive(self) -> Message:
        if self._place < len(self._kept):
            self._place += 1
            return dict(self._kept[self._place - 1])
        message = await self._receive()
        if message.get("type") != "http.request":
            self.can_rewind = False
        elif self.can_rewind:
            self._keep(message)
        return message

    def rewind(self) -> None:
        self._place = 0

    def _keep(self, message: Message) -> None:
        # A message costs some memory of its own, however little body is in it.
        self._bytes += len(message.get("body") or b"") + 1
        if self._bytes > self._max_bytes:
            self.can_rewind = False
            self._kept.clear()
            self._place = 0
            return
        self._kept.append(dict(message))
        self._place += 1
