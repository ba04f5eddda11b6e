"""All that the demo needs around it: a record, an upscaler, an inbox, a token, and the server."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from secrets import token_urlsafe

from asgi_errorkit.demo.inbox import Inbox
from asgi_errorkit.demo.operating import MOUNTED_AT
from asgi_errorkit.demo.record import private_directory
from asgi_errorkit.demo.server import Server
from asgi_errorkit.demo.surroundings import Surroundings
from asgi_errorkit.demo.upscaler import Upscaler

__all__ = ["Stage", "staged"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """What is there while the demo runs; ``token`` is that of operators, made for this run."""

    server: Server
    upscaler: Upscaler
    inbox: Inbox
    token: str

    @property
    def page(self) -> str:
        """Where to see it live; browsers send nothing of what stands after the #."""
        return f"{self.server.url}{MOUNTED_AT}/#token={self.token}"

    def another_server(self) -> Server:
        """One that keeps the same record, on a port of its own."""
        return Server(self.server.record, around=self.server.around)


@contextmanager
def staged(port: int = 0) -> Iterator[Stage]:
    """A server that was just started; nothing of it is left afterwards.

    Raises ServerError when the port is taken, and SpoolError when there is no room for a record.
    """
    token, secret = token_urlsafe(32), token_urlsafe(32)
    with private_directory() as record, Upscaler() as upscaler, Inbox(secret) as inbox:
        around = Surroundings(
            token=token, hook=inbox.url, secret=secret, upscaler_port=upscaler.port
        )
        with Server(record, port, around) as server:
            yield Stage(server=server, upscaler=upscaler, inbox=inbox, token=token)
