"""What frameworks swallow: each is asked, by a hook of its own, for the exceptions that it answers.

One file for each framework, with a function ``install(app)``; none is imported unless its framework
is found within the app that is wrapped. A hook calls `asgi_errorkit.failure.swallowed`, which finds
the exchange it belongs to, and never changes what the framework answers.
"""

import logging
from collections.abc import Iterable, Iterator, Mapping
from importlib import import_module
from types import MappingProxyType
from typing import Any
from weakref import WeakSet

from asgi_errorkit.classify import Classifier
from asgi_errorkit.fingerprint import type_name
from asgi_errorkit.recorder import Recorder

__all__ = [
    "BY_DEFAULT",
    "FALLBACK",
    "FRAMEWORKS",
    "MONITORING",
    "NAMES",
    "ORPHANS",
    "install",
    "install_fallback",
    "install_monitoring",
    "install_orphans",
]

logger = logging.getLogger("asgi_errorkit")

FRAMEWORKS: Mapping[str, str] = MappingProxyType(
    {
        "starlette.applications.Starlette": "starlette",
        "starlette.middleware.exceptions.ExceptionMiddleware": "starlette",
        "quart.app.Quart": "quart",
        "litestar.app.Litestar": "litestar",
        "django.core.handlers.asgi.ASGIHandler": "django",
        "channels.routing.ProtocolTypeRouter": "channels",
        "channels.routing.URLRouter": "channels",
        "django.core.handlers.wsgi.WSGIHandler": "django",
        "falcon.asgi.app.App": "falcon",
        "sanic.app.Sanic": "sanic",
        "blacksheep.server.application.Application": "blacksheep",
        "connexion.middleware.main.ConnexionMiddleware": "connexion",
        "flask.app.Flask": "wsgi",
        "fastmcp.server.server.FastMCP": "fastmcp",
        "strawberry.schema.schema.Schema": "strawberry",
        "ariadne.asgi.graphql.GraphQL": "ariadne",
    }
)
"""The qualified name of a class of each framework, and the file here that knows it."""

FALLBACK = "logs"
"""What is done for an app, or a part of one, of a framework that nobody here knows."""

ORPHANS = "orphans"
"""Errors of tasks, threads and finalizers that nobody awaits."""

MONITORING = "monitoring"
"""What left the application before a 500, as Python 3.12 and newer tell; only by this name."""

BY_DEFAULT = frozenset((*FRAMEWORKS.values(), FALLBACK, ORPHANS))

NAMES = BY_DEFAULT | {MONITORING}

# Where wrappers, routers and servers keep the application they stand around.
_WITHIN = (
    "app",
    "application",
    "inner",
    "callback",
    "asgi_app",
    "wsgi_application",
    "wsgi_app",
    "middleware",
    "mount_registry",
    "handler",
    "__self__",
    "func",
    "__wrapped__",
    "state",
    "fastmcp_server",
    "original_router",
    "schema",
)
_MANY_WITHIN = ("routes", "application_mapping", "mounted_apps", "mounts")
_MOST = 5000
_PLAIN = frozenset((type(None), bool, str, bytes, int, float, dict, list, tuple))
_MADE_UP = frozenset(("django.utils.functional", "unittest.mock", "werkzeug.local"))

_EACH_TIME = frozenset(("starlette",))  # its tables may have grown since

_hooked: "WeakSet[Any]" = WeakSet()


def install(apps: Iterable[Any], names: Iterable[str] = NAMES) -> list[str]:
    """Hook into each framework within ``apps``, once; return the names of those found there.

    ``names`` are the only ones to hook into. A framework whose hook cannot be set is told of once,
    and its errors are then known by their status alone.
    """
    wanted = frozenset(names)
    found = []
    for each in (each for app in apps for each in within(app)):
        name = _framework_of(each)
        if name not in wanted:
            continue
        found.append(name)
        if not _is_hooked(each) or name in _EACH_TIME:
            _hook(each, name)
    return found


def install_fallback() -> None:
    """Know exceptions by what is logged of them; see `asgi_errorkit.capture.logs`."""
    _hook(None, FALLBACK)


def install_monitoring(owner: Any) -> None:
    """Know exceptions by the frames they leave; see `asgi_errorkit.capture.monitoring`."""
    from asgi_errorkit.capture import monitoring  # noqa: PLC0415  only those who ask pay for it

    monitoring.install(owner)


def install_orphans(recorder: Recorder, classifier: Classifier) -> None:
    """Know errors that nobody awaits; see `asgi_errorkit.capture.orphans`."""
    from asgi_errorkit.capture import orphans  # noqa: PLC0415  only those who serve pay for it

    orphans.install(recorder, classifier)


def within(app: Any) -> Iterator[Any]:
    """The app, and every application that it wraps, mounts or routes to."""
    pending: list[Any] = [app]
    seen: dict[int, Any] = {}
    while pending and len(seen) < _MOST:
        each = pending.pop()
        if id(each) in seen or not _is_walked(type(each)):
            continue
        seen[id(each)] = each  # held, so that no later object gets its id
        yield each
        pending += [_read(each, name) for name in _WITHIN]
        for name in _MANY_WITHIN:
            pending += _listed(_read(each, name))


def _is_walked(kind: type) -> bool:
    """Not what has no parts, nor what makes them up as it is looked at: proxies and mocks."""
    return kind not in _PLAIN and kind.__module__ not in _MADE_UP


def _framework_of(app: Any) -> str:
    names = (FRAMEWORKS.get(type_name(cls)) for cls in type(app).__mro__)
    return next(filter(None, names), "")


def _hook(app: Any, name: str) -> None:
    try:
        import_module(f"{__name__}.{name}").install(app)
    except Exception as error:
        logger.warning(
            "the exceptions that %s answers itself cannot be seen: its version may be too old or "
            "too new",
            name,
            exc_info=error,
        )


def _is_hooked(app: Any) -> bool:
    """Whether it has been hooked into before; from now on it has."""
    try:
        if app in _hooked:
            return True
        _hooked.add(app)
    except TypeError:  # neither hashable nor weakly referenced: the hook has to know by itself
        return False
    return False


def _read(thing: Any, name: str) -> Any:
    try:
        return getattr(thing, name, None)
    except Exception:  # noqa: BLE001  a property may raise anything
        return None


def _listed(things: Any) -> list[Any]:
    if isinstance(things, Mapping):
        return list(things.values())[:_MOST]
    return list(things)[:_MOST] if isinstance(things, (list, tuple)) else []
