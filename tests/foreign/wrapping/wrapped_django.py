"""Settings for Django's own suite under which every ASGI application is wrapped."""

import io

import django.core.asgi
from test_sqlite import *  # noqa: F403  the suite's own settings

from asgi_errorkit import MiddlewareStack, StructuredLoggingMiddleware

_make = django.core.asgi.get_asgi_application


def _wrapped():
    stack = MiddlewareStack()
    stack.add_middleware(StructuredLoggingMiddleware, stream=io.BytesIO())
    return stack.create_middleware_stack(_make())


django.core.asgi.get_asgi_application = _wrapped
