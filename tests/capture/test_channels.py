"""Whatever fails in Channels is known: consumers, views below its routers, routes and outcomes."""

import asyncio
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from channels import exceptions
from channels.auth import AuthMiddlewareStack
from channels.generic import websocket
from channels.generic.http import AsyncHttpConsumer
from channels.generic.websocket import AsyncWebsocketConsumer
from channels.middleware import BaseMiddleware
from channels.routing import ProtocolTypeRouter, URLRouter
from channels.security.websocket import AllowedHostsOriginValidator
from django.test import override_settings
from django.urls import path, re_path
from starlette.applications import Starlette
from starlette.routing import Mount

from asgi_errorkit import (
    ErrorHandlingMiddleware,
    ErrorTracker,
    FromPath,
    MiddlewareStack,
    Recorder,
    StructuredLoggingMiddleware,
)
from asgi_errorkit.capture import _hooked
from asgi_errorkit.capture.channels import _telling
from asgi_errorkit.testing import LogLines, Reply, http_scope, request, session

from .apps import django, starlette
from .apps.failing import fail

SETTINGS = {
    "INSTALLED_APPS": ["django.contrib.contenttypes", "django.contrib.auth"],
    "SESSION_ENGINE": "django.contrib.sessions.backends.signed_cookies",
    "CHANNEL_LAYERS": {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}},
    "ALLOWED_HOSTS": ["test"],
}

KINDS = (
    "WebsocketConsumer",
    "JsonWebsocketConsumer",
    "AsyncWebsocketConsumer",
    "AsyncJsonWebsocketConsumer",
)
SYNC = KINDS[:2]

PLACES = ("connect", "receive", "disconnect")


@pytest.fixture(autouse=True)
def _settings() -> Iterator[None]:
    django.make()  # has Django set up, once in a process
    logging.getLogger("django.request").disabled = True
    with override_settings(**SETTINGS):
        yield


class Watched:
    """An app with the kit around it, and what the kit says of one request or session."""

    def __init__(self, app: Any, **capture: Any) -> None:
        self.lines = LogLines()
        tracker = ErrorTracker(recorder=Recorder(flush_seconds=None))
        stack = MiddlewareStack(error_tracker=tracker)
        fields = {"kind": FromPath("kind"), "room": FromPath("room")}
        stack.add_middleware(StructuredLoggingMiddleware, stream=self.lines, fields=fields)
        stack.add_middleware(ErrorHandlingMiddleware, **capture)
        self.kit = stack.create_middleware_stack(app)

    async def ask(self, target: str, **more: Any) -> tuple[Reply, dict[str, Any]]:
        return await request(self.kit, path=target, **more), self.last_line()

    async def open(self, target: str, **more: Any) -> tuple[Reply, dict[str, Any]]:
        more.setdefault("messages", ["{}"])
        return await session(self.kit, target, **more), self.last_line()

    def last_line(self) -> dict[str, Any]:
        self.kit.flush()
        return self.lines.lines()[-1]

    def only_group(self) -> Any:
        (group,) = self.kit.tracker.groups()
        return group


def consumer(kind: str, place: str, does: Any) -> Any:
    """A consumer of this kind that does so in this place, as an application."""

    def run(self: Any, *_: Any, **__: Any) -> None:
        does()

    async def run_async(self: Any, *_: Any, **__: Any) -> None:
        does()

    if "Json" in kind and place == "receive":
        place = "receive_json"
    members = {place: run if kind in SYNC else run_async}
    return type(kind, (getattr(websocket, kind),), members).as_asgi()


def echo(kind: str = "AsyncWebsocketConsumer") -> Any:

    def receive(self: Any, text_data: str) -> None:
        self.send(text_data)

    async def receive_async(self: Any, text_data: str) -> None:
        await self.send(text_data)

    members = {"receive": receive if kind in SYNC else receive_async}
    return type(kind, (getattr(websocket, kind),), members).as_asgi()


def http_consumer() -> Any:

    class Answering(AsyncHttpConsumer):  # type: ignore[misc]
        async def handle(self, body: bytes) -> None:
            place = self.scope["url_route"]["kwargs"]["place"]
            if place == "before":
                fail("value")
            if place == "silent":
                return
            await self.send_headers(headers=[(b"content-type", b"text/plain")])
            await self.send_body(b"one", more_body=True)
            if place == "amid":
                fail("value")
            await self.send_body(b"two")
            if place == "after":
                fail("value")

    return Answering.as_asgi()


def raising(name: str) -> Any:

    def run() -> None:
        raise getattr(exceptions, name)

    return run


def broken() -> None:
    fail("value")


def of_protocols(*routes: Any, http: Any = None) -> Any:
    """The application as its documentation has it."""
    sessions = AuthMiddlewareStack(URLRouter(list(routes)))
    return ProtocolTypeRouter({"http": http or django.make(), "websocket": sessions})


def http_below_a_router() -> Any:

    return URLRouter([path("consumer/<place>", http_consumer()), re_path(r"", django.make())])


def http_below_middlewares() -> Any:

    return AuthMiddlewareStack(http_below_a_router())


BELOW = {
    "protocols": django.make,
    "router": http_below_a_router,
    "middlewares": http_below_middlewares,
}
"""What an application has for http."""


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("kind", KINDS)
async def test_an_error_in_a_consumer_is_known_for_what_it_is(kind: str, place: str) -> None:
    """Before the accept, within the session and behind it: its class, its line, its route."""
    watched = Watched(of_protocols(path("chat/<room>/", consumer(kind, place, broken))))
    reply, line = await watched.open("/chat/7/")
    assert [m["type"] for m in reply.messages] == ["websocket.accept"] * (place != "connect")
    assert isinstance(reply.raised, ValueError)
    assert (line["event"], line["outcome"]) == ("websocket_close", "server_error")
    assert (line["error_type"], line["error_category"]) == ("ValueError", "unknown")
    assert (line["route"], line["room"]) == ("/chat/<room>/", "7")
    group = watched.only_group()
    assert group.where.endswith(" fail")
    assert "in consumer.<locals>.run" in line["traceback"]
    assert watched.kit.get_error_stats()["total_errors"] == 1


@pytest.mark.parametrize("kind", KINDS)
async def test_an_error_on_a_message_of_the_channel_layer_is_known(kind: str) -> None:
    def receive(self: Any, text_data: str) -> None:
        async_to_sync(self.channel_layer.group_send)("all", {"type": "chat.message"})

    async def receive_async(self: Any, text_data: str) -> None:
        await self.channel_layer.group_send("all", {"type": "chat.message"})

    def told(self: Any, message: Any) -> None:
        fail("value")

    async def told_async(self: Any, message: Any) -> None:
        fail("value")

    how = (receive, told) if kind in SYNC else (receive_async, told_async)
    members = {"groups": ["all"], "receive": how[0], "chat_message": how[1]}
    app = type(kind, (getattr(websocket, kind),), members).as_asgi()
    watched = Watched(of_protocols(path("chat", app)))
    with pytest.raises(ValueError, match="the words"):
        await stay(watched.kit, "/chat", "hello")
    line = watched.last_line()
    assert (line["outcome"], line["route"]) == ("server_error", "/chat")
    assert watched.only_group().where.endswith(" fail")


async def stay(app: Any, target: str, message: str) -> None:
    """Open a session, say something, and do not leave."""
    events = [{"type": "websocket.connect"}, {"type": "websocket.receive", "text": message}]

    async def receive() -> Any:
        return events.pop(0) if events else await asyncio.Event().wait()

    async def send(message: Any) -> None:
        pass

    scope = http_scope("GET", target)
    await app({**scope, "type": "websocket", "subprotocols": []}, receive, send)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("place", "name", "outcome", "status"),
    [
        ("connect", "DenyConnection", "client_error", 403),
        ("connect", "AcceptConnection", "ok", 101),
        ("connect", "StopConsumer", "incomplete", None),
        ("receive", "StopConsumer", "ok", 101),
        ("disconnect", "StopConsumer", "ok", 101),
    ],
)
async def test_an_exception_that_means_something_else_is_no_error(
    kind: str, place: str, name: str, outcome: str, status: int | None
) -> None:
    watched = Watched(of_protocols(path("chat", consumer(kind, place, raising(name)))))
    reply, line = await watched.open("/chat")
    assert reply.raised is None
    assert (line["outcome"], line["status_code"], line["route"]) == (outcome, status, "/chat")
    assert line.get("error_type") is None


@pytest.mark.parametrize(
    ("place", "status", "outcome"),
    [
        ("before", 500, "server_error"),
        ("amid", 200, "truncated"),
        ("after", 200, "background_failed"),
        ("silent", 500, "incomplete"),
        ("well", 200, "ok"),
    ],
)
async def test_an_http_consumer_is_known_for_what_it_does(
    place: str, status: int, outcome: str
) -> None:
    watched = Watched(of_protocols(http=http_below_a_router()))
    reply, line = await watched.ask(f"/consumer/{place}")
    assert (reply.status, line["outcome"]) == (status, outcome)
    assert line["route"] == "/consumer/<place>"
    if place in ("before", "amid", "after"):
        assert line["error_type"] == "ValueError"
        assert watched.only_group().where.endswith(" fail")


@pytest.mark.parametrize("below", BELOW)
@pytest.mark.parametrize("way", ["fail", "thread", "mounted/fail"])
async def test_an_error_of_a_view_is_known_with_its_own_route(below: str, way: str) -> None:
    """And not with that of the router above, which takes all that is left."""
    watched = Watched(of_protocols(http=BELOW[below]()))
    bare = await request(of_protocols(http=BELOW[below]()), path=f"/{way}/value")
    reply, line = await watched.ask(f"/{way}/value")
    assert (reply.status, reply.body) == (bare.status, bare.body) and reply.status == 500
    assert (line["outcome"], line["error_type"]) == ("server_error", "ValueError")
    assert line["route"] == f"/{way}/<kind>"
    assert watched.only_group().where.endswith(" fail")


@pytest.mark.parametrize("below", BELOW)
async def test_what_no_view_is_there_for_shares_one_label(below: str) -> None:
    watched = Watched(of_protocols(http=BELOW[below]()))
    for target in ("/nowhere", "/else/where"):
        reply, line = await watched.ask(target)
        assert (reply.status, line["outcome"], line["route"]) == (404, "client_error", None)
    assert list(watched.kit.get_performance_stats()["routes"]) == ["(unmatched)"]


async def test_what_no_route_is_there_for_shares_one_label() -> None:
    """It is a failure of the server's, as the client sees it: Channels raises, and has no answer."""
    within = URLRouter([path("in", echo())])
    app = of_protocols(path("chat/<room>/", within), http=URLRouter([path("x", http_consumer())]))
    watched = Watched(app)
    for target in ("/nowhere/7", "/chat/7/out", "/"):
        reply, line = await watched.open(target)
        assert isinstance(reply.raised, ValueError)
        assert (line["outcome"], line["route"], line["room"]) == (
            "server_error",
            "(unmatched)",
            None,
        )
    assert watched.only_group().count == 3
    for target in ("/nowhere/7", "/y"):
        reply, line = await watched.ask(target)
        assert (reply.status, line["outcome"]) == (500, "server_error")
    (label,) = watched.kit.get_performance_stats()["routes"]
    assert "(unmatched)" in label


@pytest.mark.parametrize(
    ("target", "root_path", "route", "room"),
    [
        ("/plain/7", "", "/plain/<int:room>", "7"),
        ("/expression/7/", "", r"/expression/(?P<room>\w+)/", "7"),
        ("/rooms/a/in/7", "", "/rooms/<room>/in/<int:n>", "a"),
        ("/rooms/a/deep/", "", "/rooms/<room>/deep/", "a"),
        ("/rooms/a/later", "", "/rooms/<room>/later", "a"),
        ("/without/slash", "", "/without/slash", None),
        ("/withoutslash", "", "/withoutslash", None),
        ("/root/plain/7", "/root", "/root/plain/<int:room>", "7"),
        ("/root/rooms/a/in/7", "/root", "/root/rooms/<room>/in/<int:n>", "a"),
        ("/root/any", "/root", "/root/any", None),
    ],
)
async def test_the_route_is_told_with_all_that_it_lies_within(
    target: str, root_path: str, route: str, room: str | None
) -> None:
    """Patterns of both kinds, routers in routers, and a router left for a later route."""
    watched = Watched(of_protocols(*nested()))
    scope = {**http_scope("GET", target), "root_path": root_path, "type": "websocket"}
    events = [{"type": "websocket.connect"}, {"type": "websocket.disconnect", "code": 1000}]

    async def receive() -> Any:
        return events.pop(0)

    async def send(message: Any) -> None:
        assert message["type"] == "websocket.accept"

    await watched.kit(scope, receive, send)
    line = watched.last_line()
    assert (line["outcome"], line["route"], line["room"]) == ("ok", route, room)


def nested() -> list[Any]:

    deep = URLRouter([path("", echo())])
    rooms = URLRouter([path("in/<int:n>", echo()), path("deep/", deep)])
    return [
        path("plain/<int:room>", echo()),
        re_path(r"^expression/(?P<room>\w+)/$", echo()),
        path("rooms/<room>/", rooms),
        path("rooms/<room>/later", echo()),
        path("without", URLRouter([path("slash", echo())])),
        re_path(r"", AuthMiddlewareStack(URLRouter([path("any", echo())]))),
    ]


async def test_an_origin_that_is_not_allowed_is_the_clients_fault() -> None:
    app = AllowedHostsOriginValidator(of_protocols(path("chat", echo())))
    watched = Watched(app)
    reply, line = await watched.open("/chat", headers=[(b"origin", b"http://evil.example")])
    assert [m["type"] for m in reply.messages] == ["websocket.close"]
    assert (line["outcome"], line["status_code"]) == ("client_error", 403)
    assert watched.kit.tracker.groups() == []
    _, line = await watched.open("/chat", headers=[(b"origin", b"http://test")])
    assert (line["outcome"], line["route"]) == ("ok", "/chat")


@pytest.mark.parametrize("outside", [True, False])
async def test_an_error_in_a_middleware_is_known(outside: bool) -> None:
    class Broken(BaseMiddleware):  # type: ignore[misc]
        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            fail("memory")

    app = of_protocols(path("chat", echo() if outside else Broken(echo())))
    watched = Watched(Broken(app) if outside else app)
    _, line = await watched.open("/chat")
    assert (line["outcome"], line["error_type"]) == ("server_error", "MemoryError")
    assert line["route"] == (None if outside else "/chat")
    assert watched.only_group().where.endswith(" fail")


@pytest.mark.parametrize("kind", ["WebsocketConsumer", "AsyncWebsocketConsumer"])
async def test_a_client_that_leaves_is_no_error(kind: str) -> None:
    """Neither is what the server raises when something is sent to it then."""

    class GoneError(OSError):
        pass

    events = [{"type": "websocket.connect"}, {"type": "websocket.receive", "text": "late"}]

    async def receive() -> Any:
        return events.pop(0)

    async def send(message: Any) -> None:
        if message["type"] == "websocket.send":
            raise GoneError

    watched = Watched(of_protocols(path("chat", echo(kind))))
    _, line = await watched.open("/chat")
    assert (line["outcome"], line["close_code"]) == ("ok", 1000)
    scope = {**http_scope("GET", "/chat"), "type": "websocket", "subprotocols": []}
    with pytest.raises(GoneError):
        await watched.kit(scope, receive, send)
    assert watched.last_line()["outcome"] == "ok"
    assert watched.kit.tracker.groups() == []


async def test_an_http_client_that_leaves_amid_its_upload_is_told_of() -> None:
    watched = Watched(of_protocols(http=http_below_a_router()))
    events = [{"type": "http.request", "body": b"a", "more_body": True}]

    async def receive() -> Any:
        return events.pop() if events else {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        raise AssertionError(message)

    await watched.kit(http_scope("POST", "/consumer/well"), receive, send)
    assert watched.last_line()["outcome"] == "client_disconnect"


TARGETS = ("/plain/7", "/rooms/a/in/7", "/rooms/a/later", "/nowhere", "/broken/connect")


@pytest.mark.parametrize("target", TARGETS)
async def test_a_session_stays_as_it_was(target: str) -> None:
    """Every message but for the request id, what is raised, and the scope that a consumer sees."""
    (bare, theirs), (reply, ours) = [
        await session_and_scopes(target, wrap)
        for wrap in (lambda app: app, lambda app: Watched(app).kit)
    ]
    for message in reply.messages:
        if message["type"] == "websocket.accept":
            assert [name for name, _ in message.pop("headers")] == [b"x-request-id"]
    assert reply.messages == bare.messages
    assert repr(reply.raised) == repr(bare.raised)
    assert ours == theirs


async def session_and_scopes(target: str, wrap: Any) -> tuple[Reply, list[Any]]:
    """What a session brings, and the keys and the match that its consumer has in its scope."""

    scopes: list[Any] = []

    class Seeing(AsyncWebsocketConsumer):  # type: ignore[misc]
        async def connect(self) -> None:
            keys = sorted(key for key in self.scope if not key.startswith("asgi_errorkit."))
            scopes.append((keys, self.scope["url_route"], self.scope["path_remaining"]))
            await self.accept()

        async def receive(self, text_data: str) -> None:
            await self.send(text_data)

    seeing = Seeing.as_asgi()
    routes = [
        path("plain/<int:room>", seeing),
        path("rooms/<room>/", URLRouter([path("in/<int:n>", seeing)]), {"given": 1}),
        path("rooms/<room>/later", seeing),
        path("broken/connect", consumer("AsyncWebsocketConsumer", "connect", broken)),
    ]
    reply = await session(wrap(of_protocols(*routes)), target, messages=["one"])
    return reply, scopes


async def test_installed_twice_and_on_two_apps_it_tells_once() -> None:
    """The routers of a process are told to tell once, and each app hears of its own alone."""
    routes = [path("chat/<room>", consumer("WebsocketConsumer", "receive", broken))]
    first = Watched(of_protocols(*routes))
    call = URLRouter.__call__
    _hooked.clear()
    again, second = Watched(first.kit), Watched(of_protocols(*routes))
    assert URLRouter.__call__ is call
    _, line = await again.open("/chat/7")
    assert (line["route"], line["outcome"]) == ("/chat/<room>", "server_error")
    assert first.kit.get_error_stats()["total_errors"] == 1
    assert second.kit.get_error_stats()["total_errors"] == 0
    _, line = await second.open("/chat/8")
    assert line["route"] == "/chat/<room>"
    assert first.only_group().count == second.only_group().count == 1


@pytest.mark.parametrize("capture", [False, ["django"]], ids=["nothing", "others"])
async def test_without_capture_the_route_is_not_known(capture: Any) -> None:
    """While another app of the process has it told; errors of consumers are known all the same."""
    routes = [path("chat/<room>", consumer("WebsocketConsumer", "receive", broken))]
    Watched(of_protocols(*routes))
    watched = Watched(of_protocols(*routes), capture=capture)
    _, line = await watched.open("/chat/7")
    assert (line["route"], line["error_type"]) == (None, "ValueError")


async def test_a_router_that_the_kit_cannot_find_tells_too() -> None:
    """What stands around it keeps it to itself; it is known that it is Channels by the rest."""

    def hiding(inner: Any) -> Any:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            await inner({**scope, "user": "joe"}, receive, send)

        return app

    class Router(URLRouter):  # type: ignore[misc]
        async def __call__(self, scope: Any, receive: Any, send: Any) -> Any:
            return await super().__call__(dict(scope), receive, send)

    router = Router([path("chat/<room>", echo())])
    watched = Watched(ProtocolTypeRouter({"websocket": hiding(router)}))
    _, line = await watched.open("/chat/7")
    assert (line["outcome"], line["route"]) == ("ok", "/chat/<room>")


async def test_another_framework_below_a_router_tells_of_its_own_routes() -> None:
    router = URLRouter([path("consumer/<place>", http_consumer()), re_path(r"", starlette.make())])
    watched = Watched(of_protocols(http=router))
    _, line = await watched.ask("/fail/value")
    assert (line["route"], line["error_type"]) == ("/fail/{kind}", "ValueError")


async def test_a_route_below_that_cannot_be_looked_at_changes_nothing() -> None:
    class Hostile:
        @property
        def path(self) -> str:
            raise LookupError

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope["route"] = Hostile()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body"})

    watched = Watched(of_protocols(http=URLRouter([path("at/<room>", app)])))
    _, line = await watched.ask("/at/7")
    assert (line["outcome"], line["route"]) == ("ok", "/at/<room>")


async def test_a_router_finds_what_it_looks_for_in_itself() -> None:
    """Those of this Channels look at nothing but their routes; those of another may."""
    found = []

    async def call(router: Any, scope: Any, receive: Any, send: Any) -> None:
        found.append((router.name, [route.name for route in router.routes]))

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await _telling(call)(router, scope, receive, send)

    router = URLRouter([path("chat", echo(), name="talk")])
    router.name = "of a test"
    await Watched(app).open("/chat")
    assert found == [("of a test", ["talk"])]


async def test_channels_within_a_mount_tells_of_its_routes() -> None:
    watched = Watched(Starlette(routes=[Mount("/in", of_protocols(*nested()))]))
    _, line = await watched.open("/in/rooms/a/in/7")
    assert (line["outcome"], line["route"]) == ("ok", "/in/rooms/<room>/in/<int:n>")


async def test_a_lifespan_that_channels_does_not_know_is_no_error() -> None:
    watched = Watched(of_protocols())
    scope = {"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}
    with pytest.raises(ValueError, match="lifespan"):
        await watched.kit(scope, None, None)
    assert watched.kit.get_error_stats()["total_errors"] == 0
