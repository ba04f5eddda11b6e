"""GraphQL and MCP answer 200 (or 400) whatever goes wrong: what did is known all the same."""

import json
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from asgi_errorkit import (
    ErrorKit,
    ErrorTracker,
    MiddlewareStack,
    Recorder,
    StructuredLoggingMiddleware,
)
from asgi_errorkit.capture import install
from asgi_errorkit.exchange import Caught, current
from asgi_errorkit.testing import LogLines, Reply, request
from tests.naming import shown

from .apps import ariadne, running, strawberry
from .apps.failing import fail
from .apps.fastmcp import server

GRAPHS: dict[str, Callable[[], Any]] = {
    "strawberry": strawberry.make,
    "strawberry_router": strawberry.by_router,
    "ariadne": ariadne.make,
}
TYPES = {"value": ("ValueError", "unknown"), "timeout": ("TimeoutError", "timeout")}


class Spy:
    """Stands within the kit, and remembers what the exchange and the scope held at the end."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self.caught: Caught | None = None
        self.route: str | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self.app(scope, receive, send)
        exchange = current()
        if exchange is not None:
            self.caught, self.route = exchange.caught, scope.get("path_template")


class Watched:
    """An app with the kit around it, and what the kit says of one request."""

    def __init__(self, app: Any) -> None:
        self.lines = LogLines()
        self.spy = Spy(app)
        recorder = Recorder(flush_seconds=None)
        stack = MiddlewareStack(error_tracker=ErrorTracker(recorder=recorder))
        stack.add_middleware(StructuredLoggingMiddleware, stream=self.lines)
        self.kit = stack.create_middleware_stack(self.spy)

    def line(self) -> dict[str, Any]:
        self.kit.flush()
        return self.lines.lines()[-1]

    def only_group(self) -> Any:
        self.kit.flush()
        (group,) = self.kit.tracker.groups()
        return group

    def is_of_the_client(self) -> bool:
        """Whether an error was told of, and as one that was meant."""
        self.kit.flush()
        caught = self.spy.caught
        return caught is not None and caught.handled and self.kit.tracker.groups() == []


@pytest.fixture(autouse=True)
def _quiet() -> Any:
    """Nothing is logged to the terminal."""
    names = ("strawberry.execution", "ariadne", "fastmcp", "mcp")
    loggers = [logging.getLogger(name) for name in names]
    for logger in loggers:
        logger.disabled = True
    yield
    for logger in loggers:
        logger.disabled = False


async def ask(app: Any, query: str, name: str | None = None, **variables: Any) -> Reply:
    body = {"query": query, "operationName": name, "variables": variables}
    return await post(app, "/graphql", body)


async def post(app: Any, path: str, body: Any, *headers: tuple[bytes, bytes]) -> Reply:
    kinds = (
        (b"content-type", b"application/json"),
        (b"accept", b"application/json, text/event-stream"),
    )
    return await request(
        app, "POST", path, headers=[*kinds, *headers], body=json.dumps(body).encode()
    )


@pytest.fixture(params=GRAPHS)
def graph(request: pytest.FixtureRequest) -> Callable[[], Any]:
    return GRAPHS[request.param]


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("field", ["fails", "failsLater"])
async def test_what_a_resolver_raises_is_known_for_what_it_is(
    graph: Callable[[], Any], field: str, kind: str
) -> None:
    """Its class, type, group and place are those of the exception; the answer stays as it was."""
    query = f'query Videos {{ {field}(kind: "{kind}") ok }}'
    watched = Watched(graph())
    bare, reply = await ask(graph(), query), await ask(watched.kit, query)
    line, group = watched.line(), watched.only_group()
    class_name, error_type = TYPES[kind]
    assert (reply.status, reply.body) == (bare.status, bare.body) and reply.status == 200
    assert (line["event"], line["outcome"]) == ("request_error", "server_error")
    assert (line["error_type"], line["error_category"]) == (class_name, error_type)
    assert "failing.py" in group.where and group.where.endswith(" fail") and group.count == 1
    assert line["graphql_errors"] == 1
    assert watched.spy.route == line["route"] == "query Videos"


@pytest.mark.parametrize(
    "query",
    [
        "query Videos { ok(",
        "query Videos { unknown }",
        "query Videos { meant }",
        "query Videos($kind: String!) { fails(kind: $kind) }",
        'query Videos { even(number: "1") }',
        'query Videos($number: Even! = "1") { even(number: $number) }',
    ],
    ids=["syntax", "validation", "meant", "variable", "literal", "default"],
)
async def test_errors_of_the_client_are_handled(graph: Callable[[], Any], query: str) -> None:
    watched = Watched(graph())
    bare, reply = await ask(graph(), query), await ask(watched.kit, query)
    assert (reply.status, reply.body) == (bare.status, bare.body) and b"errors" in reply.body
    assert watched.is_of_the_client()
    assert watched.line()["outcome"] == ("ok" if reply.status == 200 else "client_error")


async def test_a_scalar_that_refuses_a_variable_blames_the_client(
    graph: Callable[[], Any],
) -> None:
    """Though what the application raised was no GraphQL error."""
    watched = Watched(graph())
    await ask(watched.kit, "query E($n: Even!) { even(number: $n) }", n="1")
    assert watched.is_of_the_client()


async def test_a_graphql_error_with_a_cause_is_the_cause(graph: Callable[[], Any]) -> None:
    watched = Watched(graph())
    await ask(watched.kit, "{ caused }")
    assert watched.line()["error_type"] == "ValueError"
    assert watched.only_group().where.endswith(" fail")


async def test_of_several_errors_the_first_that_nobody_meant_is_kept(
    graph: Callable[[], Any],
) -> None:
    """And all are counted in the line."""
    watched = Watched(graph())
    await ask(watched.kit, '{ meant a: fails(kind: "timeout") b: fails(kind: "value") ok }')
    line = watched.line()
    assert (line["error_type"], line["graphql_errors"]) == ("TimeoutError", 3)
    assert watched.only_group().count == 1


async def test_what_goes_well_has_its_operation_as_route(graph: Callable[[], Any]) -> None:
    watched = Watched(graph())
    reply = await ask(watched.kit, "query Other { ok } query Videos { ok }", "Videos")
    assert reply.json()["data"] == {"ok": "fine"}
    assert (watched.spy.route, watched.spy.caught) == ("query Videos", None)
    await ask(watched.kit, "{ ok }")
    assert watched.spy.route is None  # without a name the path says more


async def test_names_of_operations_are_bounded(graph: Callable[[], Any]) -> None:
    watched, routes = Watched(graph()), set()
    for number in range(150):
        await ask(watched.kit, f"query Made{number}Up {{ ok }}")
        routes.add(watched.spy.route)
    assert len(routes) == 101 and "(other)" in routes
    await ask(watched.kit, "query Made0Up { ok }")
    assert watched.spy.route == "query Made0Up"


async def test_a_failure_answered_with_400_is_kept() -> None:
    """Ariadne says 400 where no data is left, whoever is to blame."""
    watched = Watched(ariadne.make())
    reply = await ask(watched.kit, 'query Videos { must(kind: "value") }')
    assert reply.status == 400
    assert watched.spy.caught is not None and not watched.spy.caught.handled
    assert watched.only_group().type_name == "ValueError"


async def test_of_a_batch_the_first_failure_is_kept() -> None:
    watched = Watched(strawberry.make())
    queries = ["{ ok }", '{ fails(kind: "timeout") }', '{ fails(kind: "value") }', "{ meant }"]
    reply = await post(watched.kit, "/graphql", [{"query": query} for query in queries])
    line = watched.line()
    assert len(reply.json()) == 4
    assert (line["error_type"], line["graphql_errors"]) == ("TimeoutError", 3)


async def test_masked_errors_are_seen_before_they_are_masked() -> None:
    from strawberry.extensions import MaskErrors

    watched = Watched(strawberry.make(extensions=[MaskErrors]))
    reply = await ask(watched.kit, '{ fails(kind: "value") }')
    assert b"the words" not in reply.body
    assert watched.line()["error_type"] == "ValueError"


async def test_an_extension_that_raises_is_known() -> None:
    from strawberry.extensions import SchemaExtension

    class Broken(SchemaExtension):
        def on_operation(self) -> Any:
            yield
            fail("value")

    watched = Watched(strawberry.make(extensions=[Broken]))
    await ask(watched.kit, "{ ok }")
    assert watched.only_group().where.endswith(" fail")


@pytest.mark.parametrize("query", [None, "", "subscription { ok }"])
async def test_what_strawberry_refuses_is_handled(query: str | None) -> None:
    watched = Watched(strawberry.make())
    bare = await post(strawberry.make(), "/graphql", {"query": query})
    reply = await post(watched.kit, "/graphql", {"query": query})
    assert (reply.status, reply.body) == (bare.status, bare.body)
    assert watched.kit.tracker.groups() == []


async def test_results_of_a_stream_are_seen_before_they_are_masked() -> None:
    import strawberry
    from strawberry.asgi import GraphQL
    from strawberry.extensions import MaskErrors

    @strawberry.type
    class Query:
        ok: str = "fine"

    @strawberry.type
    class Subscription:
        @strawberry.subscription
        async def count(self) -> AsyncIterator[int]:
            yield 1
            fail("value")

    schema = strawberry.Schema(Query, subscription=Subscription, extensions=[MaskErrors])
    watched = Watched(GraphQL(schema, subscription_protocols=["multipart-subscription"]))
    headers = [
        (b"content-type", b"application/json"),
        (b"accept", b"multipart/mixed;subscriptionSpec=1.0,application/json"),
    ]
    body = json.dumps({"query": "subscription Count { count }"}).encode()
    reply = await request(watched.kit, "POST", "/graphql", headers=headers, body=body)
    assert reply.status == 200 and b"the words" not in reply.body
    line = watched.line()
    assert (line["error_type"], line["graphql_errors"]) == ("ValueError", 1)
    assert watched.only_group().where.endswith(" fail")


async def nothing_more(request: Any, context: Any) -> None:
    """As Ariadne has it: extensions of each request, by a coroutine, and there may be none."""


@pytest.mark.parametrize(
    "extensions", [None, [], lambda request, context: None, nothing_more], ids=shown
)
async def test_extensions_of_ariadne_stay_as_they_were(extensions: Any) -> None:
    watched = Watched(ariadne.make(extensions=extensions))
    await ask(watched.kit, '{ fails(kind: "value") }')
    assert watched.line()["error_type"] == "ValueError"


async def test_rules_of_ariadne_stay_as_they_were() -> None:
    from ariadne.asgi import GraphQL
    from graphql import GraphQLError

    app = ariadne.make()
    handler, asked = app.http_handler, []

    def refuse(context: Any, document: Any, data: Any) -> None:
        asked.append(data["query"])
        raise GraphQLError("too much")

    again = GraphQL(handler.schema, validation_rules=refuse)
    watched = Watched(again)
    await ask(watched.kit, "query Videos { ok }")
    assert asked == ["query Videos { ok }"]
    assert watched.is_of_the_client()


async def test_a_schema_that_cannot_be_found_is_hooked_into_by_hand() -> None:
    """As within a router that an older FastAPI has taken apart."""
    from strawberry.asgi import GraphQL

    schema = strawberry.schema()
    install([schema])
    app = GraphQL(schema)

    async def hidden(scope: Any, receive: Any, send: Any) -> None:
        await app(scope, receive, send)

    watched = Watched(hidden)
    await ask(watched.kit, '{ fails(kind: "value") }')
    assert watched.line()["error_type"] == "ValueError"


async def test_wrapped_twice_it_is_told_once(graph: Callable[[], Any]) -> None:
    inner = ErrorKit(graph(), log_level="CRITICAL")
    outer = ErrorKit(inner, log_level="CRITICAL")
    await ask(outer, '{ fails(kind: "value") }')
    for kit in (inner, outer):
        kit.flush()
        assert kit.get_error_stats()["total_errors"] == 1
        kit.tracker.recorder.close()


async def test_without_capture_the_status_alone_is_known(graph: Callable[[], Any]) -> None:
    kit = ErrorKit(graph(), capture=False, log_level="CRITICAL")
    await ask(kit, '{ fails(kind: "value") }')
    assert kit.get_error_stats()["total_errors"] == 0
    kit.tracker.recorder.close()


async def call(app: Any, method: str, params: Any = None, session: str | None = None) -> Reply:
    headers = [(b"mcp-protocol-version", b"2025-06-18")]
    if session is not None:
        headers.append((b"mcp-session-id", session.encode()))
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params or {}}
    return await post(app, "/mcp", body, *headers)


async def tool(app: Any, name: str, session: str | None = None, **arguments: Any) -> Reply:
    return await call(app, "tools/call", {"name": name, "arguments": arguments}, session)


async def begun(app: Any) -> str | None:
    """The id of a new session; None where the server keeps none."""
    client = {"name": "tests", "version": "1"}
    params = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": client}
    return (await call(app, "initialize", params)).headers.get("mcp-session-id")


MODES = {
    "json": {"stateless_http": True, "json_response": True},
    "stream": {"stateless_http": True},
    "session": {},
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("name", ["fails", "fails_later"])
async def test_what_a_tool_raises_is_known_for_what_it_is(name: str, kind: str, mode: str) -> None:
    """Its class, type, group and place are those of the exception; the answer stays as it was."""
    bare, watched = server().http_app(**MODES[mode]), Watched(server().http_app(**MODES[mode]))
    async with running(bare), running(watched.kit):
        expected = await tool(bare, name, await begun(bare), kind=kind)
        reply = await tool(watched.kit, name, await begun(watched.kit), kind=kind)
    line, group = watched.line(), watched.only_group()
    class_name, error_type = TYPES[kind]
    assert (reply.status, reply.body) == (expected.status, expected.body) and reply.status == 200
    assert (line["event"], line["outcome"]) == ("request_error", "server_error")
    assert (line["error_type"], line["error_category"]) == (class_name, error_type)
    assert "failing.py" in group.where and group.where.endswith(" fail") and group.count == 1
    assert watched.spy.route == f"tools/call {name}"


async def asked_of(watched: Watched, method: str, params: Any, **options: Any) -> Reply:
    """One message to a new server and to a watched one, whose answers are the same."""
    bare = server(**options).http_app(**MODES["json"])
    async with running(bare), running(watched.kit):
        expected = await call(bare, method, params)
        reply = await call(watched.kit, method, params)
    assert (reply.status, reply.body) == (expected.status, expected.body)
    return reply


@pytest.mark.parametrize(
    ("method", "params", "route"),
    [
        ("tools/call", {"name": "caused"}, "tools/call caused"),
        ("resources/read", {"uri": "data://fails"}, "resources/read"),
        ("prompts/get", {"name": "prompt"}, "prompts/get prompt"),
    ],
    ids=["tool", "resource", "prompt"],
)
async def test_what_is_said_to_the_client_of_an_error_leads_to_it(
    method: str, params: Any, route: str
) -> None:
    watched = Watched(server().http_app(**MODES["json"]))
    await asked_of(watched, method, params)
    line = watched.line()
    assert (line["error_type"], line["outcome"]) == ("ValueError", "server_error")
    assert watched.only_group().where.endswith(" fail")
    assert watched.spy.route == route


@pytest.mark.parametrize(
    ("method", "params", "route"),
    [
        ("tools/call", {"name": "meant"}, "tools/call meant"),
        ("tools/call", {"name": "add", "arguments": {"a": "x"}}, "tools/call add"),
        ("tools/call", {"name": "made up"}, None),
        ("tools/call", {"nam": "add"}, "tools/call"),
        ("resources/read", {"uri": "data://made-up"}, None),
        ("prompts/get", {"name": "made up"}, None),
        ("made/up", {}, None),
    ],
    ids=["meant", "arguments", "no tool", "malformed", "no resource", "no prompt", "no method"],
)
async def test_mcp_errors_of_the_client_are_handled(
    method: str, params: Any, route: str | None
) -> None:
    """And what a client makes up names no route."""
    watched = Watched(server().http_app(**MODES["json"]))
    await asked_of(watched, method, params)
    assert watched.is_of_the_client()
    assert watched.line()["outcome"] == "ok"
    assert watched.spy.route == route


async def test_what_a_tool_bears_is_no_error() -> None:
    watched = Watched(server().http_app(**MODES["json"]))
    reply = await asked_of(watched, "tools/call", {"name": "bears"})
    assert b"borne" in reply.body
    assert (watched.spy.caught, watched.spy.route) == (None, "tools/call bears")


async def test_what_another_try_puts_right_is_no_error() -> None:
    """The hook stands outside of the application's own middlewares."""
    from fastmcp import FastMCP
    from fastmcp.server.middleware import Middleware

    class Again(Middleware):
        async def on_call_tool(self, context: Any, call_next: Any) -> Any:
            try:
                return await call_next(context)
            except Exception:
                return await call_next(context)

    mcp, tries = FastMCP("tests", middleware=[Again()]), []

    @mcp.tool
    def second() -> str:
        tries.append(1)
        if len(tries) < 2:
            fail("value")
        return "done"

    watched = Watched(mcp.http_app(**MODES["json"]))
    async with running(watched.kit):
        reply = await tool(watched.kit, "second")
    assert b"done" in reply.body and len(tries) == 2
    assert watched.spy.caught is None


async def test_what_a_middleware_makes_of_an_error_leads_to_it() -> None:
    from fastmcp.server.middleware.error_handling import ErrorHandlingMiddleware

    def options() -> dict[str, Any]:
        return {"middleware": [ErrorHandlingMiddleware()]}

    watched = Watched(server(**options()).http_app(**MODES["json"]))
    await asked_of(
        watched, "tools/call", {"name": "fails", "arguments": {"kind": "value"}}, **options()
    )
    assert watched.only_group().type_name == "ValueError"


async def test_names_of_tools_are_bounded() -> None:
    from fastmcp import FastMCP

    mcp, routes = FastMCP("tests"), set()
    for number in range(120):
        mcp.tool(lambda: "done", name=f"tool{number}")
    watched = Watched(mcp.http_app(**MODES["json"]))
    async with running(watched.kit):
        for number in range(120):
            await tool(watched.kit, f"tool{number}")
            routes.add(watched.spy.route)
    assert len(routes) == 101 and "(other)" in routes


async def test_a_server_without_http_is_left_alone() -> None:
    """Its errors belong to no request."""
    from fastmcp import Client
    from fastmcp.exceptions import ToolError

    mcp = server()
    install([mcp])
    async with Client(mcp) as client:
        with pytest.raises(ToolError):
            await client.call_tool("fails", {"kind": "value"})


async def test_mounted_in_another_app_it_is_found() -> None:
    from fastapi import FastAPI

    inner = server().http_app(**MODES["json"])
    app = FastAPI(lifespan=inner.lifespan)
    app.mount("/", inner)
    watched = Watched(app)
    async with running(watched.kit):
        await tool(watched.kit, "fails", kind="value")
    assert watched.only_group().where.endswith(" fail")


class Older:
    """What none of the hooks knows how to hook into."""


@pytest.mark.parametrize("name", ["fastmcp", "strawberry", "ariadne"])
def test_a_version_without_the_hook_is_told_of_once(
    name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from asgi_errorkit import capture

    path = f"{Older.__module__}.{Older.__qualname__}"
    monkeypatch.setattr(capture, "FRAMEWORKS", {path: name})
    app = Older()
    assert install([app]) == install([app]) == [name]
    (record,) = caplog.records
    assert name in record.getMessage()
