from typing import Any

import django
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpResponse, StreamingHttpResponse
from django.urls import include, path

from .failing import ExpectedError, fail, pieces


def make() -> Any:
    if not settings.configured:
        settings.configure(
            ALLOWED_HOSTS=["*"],
            SECRET_KEY="of a test",
            LOGGING_CONFIG=None,
            MIDDLEWARE=[f"{__name__}.{Answers.__name__}"],
        )
        django.setup()
    patterns = [
        path("ok/<item>", ok),
        path("fail/<kind>", failing),
        path("thread/<kind>", in_thread),
        path("refuse/<int:status>", refused),
        path("stream", streamed),
        path("mounted/", include([path("fail/<kind>", failing)])),
    ]
    settings.ROOT_URLCONF = type("urls", (), {"urlpatterns": patterns})
    return get_asgi_application()


async def ok(request: Any, item: str) -> Any:
    return HttpResponse("fine")


async def failing(request: Any, kind: str) -> Any:
    fail(kind)


def in_thread(request: Any, kind: str) -> Any:
    fail(kind)


async def refused(request: Any, status: int) -> Any:
    raise Http404("words of the framework") if status == 404 else PermissionDenied


async def streamed(request: Any) -> Any:
    return StreamingHttpResponse(pieces())


class Answers:
    """A middleware that answers what the application expects."""

    async_capable = True
    sync_capable = False

    def __init__(self, get_response: Any) -> None:
        from asgiref.sync import markcoroutinefunction

        self._get_response = get_response
        markcoroutinefunction(self)

    async def __call__(self, request: Any) -> Any:
        return await self._get_response(request)

    def process_exception(self, request: Any, exception: Exception) -> Any:
        if isinstance(exception, ExpectedError):
            return HttpResponse("expected", status=409)
        return None
