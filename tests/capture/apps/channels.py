from typing import Any

from channels.generic.websocket import AsyncWebsocketConsumer
from channels.routing import ProtocolTypeRouter, URLRouter
from django.urls import path

from . import django
from .failing import fail


def make() -> Any:
    http = django.make()
    sessions = [path("ws/<kind>", Session.as_asgi()), path("listen", Listening.as_asgi())]
    return ProtocolTypeRouter({"http": http, "websocket": URLRouter(sessions)})


class Session(AsyncWebsocketConsumer):  # type: ignore[misc]  # without types of its own
    async def connect(self) -> None:
        await self.accept()
        fail(self.scope["url_route"]["kwargs"]["kind"])


class Listening(AsyncWebsocketConsumer):  # type: ignore[misc]
    """Takes what comes, and says nothing."""
