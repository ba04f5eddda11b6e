"""What grows in an application's life, each as a load of a chosen size."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from asgi_errorkit.testing import HandClock
from asgi_errorkit.types import ASGIApp, Receive, Scope, Send
from benchmarks.kits import answer, failures, linger

__all__ = ["AXES", "Axis", "Load"]

_LETTERS = str.maketrans("0123456789", "abcdefghij")
_FRAMES = 5
_SAMPLED = 6  # errors of a group, after which it keeps no further sample for a while


def _even_clock() -> Callable[[], float]:
    return itertools.count(1000.0, 1e-5).__next__


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """An app, and the requests that come to it: ``scope`` has what is particular to the nth.

    ``seen`` requests bring everything about once, ``warm`` so many that what follows is usual.
    ``parked`` ones are in flight all the while. ``clock`` is the kit's.
    """

    app: ASGIApp
    scope: Callable[[int], dict[str, Any]] = lambda number: {}
    seen: int = 1000
    warm: int = 1000
    parked: int = 0
    max_groups: int = 500
    clock: Callable[[], float] = field(default_factory=_even_clock)


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """What grows, through which sizes. Memory that each of it must take is judged ``each``."""

    name: str
    sizes: tuple[int, ...]
    load: Callable[[int], Load]
    each: bool = False


def _paths(size: int) -> Load:
    """Words, which are not folded as numbers are."""
    return Load(
        app=answer,
        scope=lambda number: {"path": f"/{number % size}".translate(_LETTERS)},
        seen=max(size, 1000),
        warm=max(size, 1000),
    )


def _routes(size: int) -> Load:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        name, _, _ = scope["path"][1:].partition("/")
        scope["path_template"] = f"/{name}/{{video_id}}"
        await answer(scope, receive, send)

    return Load(
        app=app,
        scope=lambda number: {"path": f"/{number % size}/7".translate(_LETTERS)},
        seen=max(size, 1000),
        warm=max(size, 1000),
    )


def _failing(size: int) -> ASGIApp:
    fails = itertools.cycle(failures(size))

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        next(fails)(_FRAMES - 2)

    return app


def _groups(size: int) -> Load:
    """Beyond the default bound each error is the first of its group again: the others drove it out."""
    return Load(app=_failing(size), seen=max(size, 100), warm=_SAMPLED * min(size, 1000) + size)


def _kept_groups(size: int) -> Load:
    return Load(app=_failing(size), seen=size, warm=_SAMPLED * size, max_groups=max(size, 500))


def _in_flight(size: int) -> Load:
    return Load(app=linger, parked=size)


def _headers(size: int) -> Load:
    headers = [(f"x-name-{n}".encode(), b"some value %d" % n) for n in range(size - 1)]
    # Tuples of its own for each request, as a server makes them; http_scope adds the host.
    return Load(
        app=answer, scope=lambda number: {"headers": [(name, value) for name, value in headers]}
    )


def _uptime(size: int) -> Load:
    """A request a second, of a duration that differs, through so many minutes of history."""
    clock = HandClock()
    steps = itertools.cycle([n / 64 for n in range(1, 64)])

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        step = next(steps)
        clock.move(step)
        await answer(scope, receive, send)
        clock.move(1.0 - step)

    return Load(app=app, seen=60 * size, warm=60 * size, clock=clock)


AXES = (
    Axis(
        name="distinct paths without a route", sizes=(10, 100, 1000, 10_000, 100_000), load=_paths
    ),
    Axis(name="matched routes", sizes=(10, 100, 1000, 10_000), load=_routes),
    Axis(name="error groups", sizes=(1, 10, 100, 1000, 10_000, 40_000), load=_groups),
    Axis(
        name="error groups, all kept", sizes=(20, 200, 2000, 10_000), load=_kept_groups, each=True
    ),
    Axis(name="requests in flight", sizes=(1, 10, 100, 1000, 10_000), load=_in_flight, each=True),
    Axis(name="request headers", sizes=(1, 10, 100), load=_headers),
    Axis(name="minutes of uptime", sizes=(1, 10, 100, 1440), load=_uptime),
)
