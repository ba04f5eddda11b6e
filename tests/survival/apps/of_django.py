import inspect
import re

import django
from acts import HTTP, Asked
from arranged import arranged
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import HttpResponse, StreamingHttpResponse
from django.urls import path as at


def view(act):
    async def in_loop(request, **_):
        return answer(await act(asked(request)))

    def in_thread(request, **_):
        return answer(act(asked(request)))

    return in_loop if inspect.iscoroutinefunction(act) else in_thread


def asked(request):
    async def body():
        return request.body

    return Asked(request.GET.get("key", ""), request.method, body)


def answer(said):
    kind = HttpResponse if isinstance(said.body, bytes) else StreamingHttpResponse
    return kind(said.body, status=said.status, content_type="text/plain")


urlpatterns = [
    at(re.sub(r"\{(\w+)\}", r"<\1>", path).lstrip("/"), view(act)) for path, act in HTTP.items()
]

settings.configure(
    ALLOWED_HOSTS=["*"], SECRET_KEY="of a test", ROOT_URLCONF=__name__, LOGGING_CONFIG=None
)
django.setup()

app = arranged(get_asgi_application)
