"""Whatever can be called as an ASGI app is wrapped; what cannot is refused with a hint."""

from functools import partial
from typing import Any

import falcon.asgi
import pytest
from fastapi import FastAPI
from litestar import Litestar
from quart import Quart
from starlette.applications import Starlette

from asgi_errorkit import ErrorKit
from asgi_errorkit.apps import choices_within, single_callable
from asgi_errorkit.testing import request

HELLO = [
    {"type": "http.response.start", "status": 200, "headers": []},
    {"type": "http.response.body", "body": b"hello"},
]


async def function(scope: Any, receive: Any, send: Any) -> None:
    for message in HELLO:
        await send(message)


def returns_awaitable(scope: Any, receive: Any, send: Any) -> Any:
    return function(scope, receive, send)


class Object:
    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await function(scope, receive, send)

    async def method(self, scope: Any, receive: Any, send: Any) -> None:
        await function(scope, receive, send)


async def with_more(extra: str, scope: Any, receive: Any, send: Any) -> None:
    await function(scope, receive, send)


async def starred(*arguments: Any) -> None:
    await function(*arguments)


async def with_default(scope: Any, receive: Any, send: Any, extra: int = 1) -> None:
    await function(scope, receive, send)


def double(scope: Any) -> Any:
    """An ASGI 2 app."""
    return partial(function, scope)


class DoubleClass:
    def __init__(self, scope: Any) -> None:
        self.scope = scope

    async def __call__(self, receive: Any, send: Any) -> None:
        await function(self.scope, receive, send)


@pytest.mark.parametrize(
    "app",
    [
        function,
        returns_awaitable,
        Object(),
        Object().method,
        partial(with_more, "x"),
        starred,
        with_default,
        double,
        DoubleClass,
    ],
)
async def test_every_shape_of_app_is_served(app: Any) -> None:
    reply = await request(ErrorKit(app))
    assert (reply.status, reply.body, reply.raised) == (200, b"hello", None)


class Endpoint:
    """Made with all three and then awaited, as Starlette's endpoints are."""

    def __init__(self, scope: Any, receive: Any, send: Any) -> None:
        self.sent = function(scope, receive, send)

    def __await__(self) -> Any:
        return self.sent.__await__()


class DoubleStarred(DoubleClass):
    async def __call__(self, *both: Any) -> None:
        await super().__call__(*both)


@pytest.mark.parametrize("app", [Endpoint, DoubleStarred])
async def test_a_class_that_is_itself_an_application_is_served(app: Any) -> None:
    reply = await request(ErrorKit(app))
    assert (reply.status, reply.body, reply.raised) == (200, b"hello", None)


class NeedsOne:
    def __init__(self, name: str) -> None: ...

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None: ...


class MayTakeThree(NeedsOne):
    def __init__(self, a: int = 1, b: int = 2, c: int = 3) -> None: ...


class CannotBeCalled:
    def __init__(self, name: str) -> None: ...


class NeedsNothing:
    def __init__(self) -> None: ...

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None: ...


def factory() -> Any:
    return function


@pytest.mark.parametrize(
    ("app", "words"),
    [
        (None, "app must be an ASGI application, a callable that takes"),
        ("mypkg.main:app", "app must be an ASGI application"),
        (NeedsNothing, r"not its class: pass NeedsNothing\(...\)"),
        (NeedsOne, r"not its class: pass NeedsOne\(...\)"),
        (MayTakeThree, r"not its class: pass MayTakeThree\(...\)"),
        (CannotBeCalled, r"not its class: pass CannotBeCalled\(...\)"),
        (Starlette, r"not its class: pass Starlette\(...\)"),
        (FastAPI, r"not its class: pass FastAPI\(...\)"),
        (Quart, r"not its class: pass Quart\(...\)"),
        (Litestar, r"not its class: pass Litestar\(...\)"),
        (falcon.asgi.App, r"not its class: pass App\(...\)"),
        (factory, r"not a factory of one: pass factory\(\)"),
        (lambda a, b: None, "takes 2 positional arguments"),
    ],
)
def test_what_is_no_app_is_refused_with_a_hint(app: Any, words: str) -> None:
    with pytest.raises(TypeError, match=words):
        single_callable(app)


def test_something_without_a_signature_is_taken_at_its_word() -> None:
    assert single_callable(print) is print


def test_a_frame_is_found_through_other_middleware() -> None:
    class Other:
        def __init__(self, app: Any) -> None:
            self.app = app

    kit = ErrorKit(function)
    assert choices_within(Other(Other(kit.performance))) is kit.performance.choices
    assert choices_within(Other(function)) is None


def test_a_circle_of_apps_ends() -> None:
    class Circle:
        @property
        def app(self) -> "Circle":
            return self

    assert choices_within(Circle()) is None
