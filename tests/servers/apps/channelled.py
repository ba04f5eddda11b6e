"""An application of Django Channels: a view, and consumers of both kinds."""

import django
from channels.generic.websocket import AsyncWebsocketConsumer, WebsocketConsumer
from channels.routing import ProtocolTypeRouter, URLRouter
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.urls import path, re_path


def view(request, number):
    raise LookupError("broken in a view")


class InThreads(WebsocketConsumer):
    def receive(self, text_data):
        raise LookupError("broken in a consumer")


class InLoop(AsyncWebsocketConsumer):
    async def receive(self, text_data):
        raise LookupError("broken in a consumer")


urlpatterns = [path("fail/<int:number>", view)]

settings.configure(ALLOWED_HOSTS=["*"], SECRET_KEY="of a test", ROOT_URLCONF=__name__)
django.setup()

rooms = URLRouter([path("threads", InThreads.as_asgi()), path("loop", InLoop.as_asgi())])
app = ProtocolTypeRouter(
    {
        "http": URLRouter([re_path(r"", get_asgi_application())]),
        "websocket": URLRouter([re_path(r"^rooms/(?P<room>\w+)/", rooms)]),
    }
)
