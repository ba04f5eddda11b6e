"""Django signals every exception that it turns into a 500, from the thread that ran the view."""

import sys
from typing import Any

from django.core.signals import got_request_exception

from asgi_errorkit.failure import swallowed

__all__ = ["install"]


def install(app: Any) -> None:
    """Listen to the signal of the whole process; every request knows its own exchange."""
    got_request_exception.connect(_note, weak=False, dispatch_uid=__name__)
    if not issubclass(app.request_class, _Watched):
        app.request_class = type(
            app.request_class.__name__, (_Watched, app.request_class), {"__module__": __name__}
        )


def _note(sender: Any, request: Any = None, **_: Any) -> None:
    exc = sys.exc_info()[1]
    if exc is not None:
        swallowed(exc, getattr(request, "scope", None), by="django")


class _Watched:
    """A request that tells its exchange of the route that was matched."""

    scope: dict[str, Any]

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if name == "resolver_match" and value is not None:
            _note_route(self.scope, value)


def _note_route(scope: dict[str, Any], match: Any) -> None:
    route = getattr(match, "route", None)
    if isinstance(route, str):
        scope["path_template"] = f"/{route.lstrip('/')}"
