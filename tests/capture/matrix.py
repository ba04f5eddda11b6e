"""What is known of each kind of failure in each framework: what the tests ask for and tables show.

`CASES` says what is expected everywhere; a `Framework` names what it lacks and where it differs,
with the reason.
"""

import re
from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import orjson

from asgi_errorkit.testing import Reply, request, session

from . import apps

THERE = "failing.py fail"
"""Where every application raises what it raises."""


class Expected(NamedTuple):
    """What the client gets, and what the kit says of it."""

    status: int | None  # None for a websocket
    outcome: str
    route: str  # a parameter is written {name}, or {name:kind} where it has a kind
    exception: str | None = None  # the class that the log line names
    error_type: str | None = None
    where: str | None = None  # what the group names: the file and the function; None: no group

    def but(self, **more: Any) -> "Expected":
        return self._replace(**more)


class Case(NamedTuple):
    """A kind of failure: its name in the tables, the path that asks for it, and what follows."""

    title: str
    path: str
    expected: Expected


_FAILED = Expected(500, "server_error", "/fail/{kind}", "ValueError", "unknown", THERE)
_MEANT = Expected(404, "client_error", "/refuse/{status:int}", "{http_error}", "not_found")
_TIMEOUT = {"exception": "TimeoutError", "error_type": "timeout"}
_MEMORY = {"exception": "MemoryError", "error_type": "memory"}
_GROUP = {"exception": "ExceptionGroup", "error_type": "external_service"}
_UNAVAILABLE = {
    "status": 503,
    "exception": "{http_error}",
    "error_type": "system",
    "where": "{app}.py refused",
}
_EXPECTED = {"status": 409, "exception": "ExpectedError", "error_type": "unknown"}
_INVALID = {"status": 400, "exception": "{invalid}", "error_type": "validation"}

CASES: Mapping[str, Case] = MappingProxyType(
    {
        "unhandled": Case("error in a handler", "/fail/value", _FAILED),
        "timeout": Case("`TimeoutError`", "/fail/timeout", _FAILED.but(**_TIMEOUT)),
        "memory": Case("`MemoryError`", "/fail/memory", _FAILED.but(**_MEMORY)),
        "group": Case("`ExceptionGroup`", "/fail/group", _FAILED.but(**_GROUP)),
        "thread": Case("error in a thread", "/thread/value", _FAILED.but(route="/thread/{kind}")),
        "mounted": Case(
            "error in a mounted part",
            "/mounted/fail/value",
            _FAILED.but(route="/mounted/fail/{kind}"),
        ),
        "after": Case(
            "error after the start",
            "/stream",
            _FAILED.but(status=200, outcome="truncated", route="/stream"),
        ),
        "background": Case(
            "error in a background task",
            "/later",
            _FAILED.but(status=200, outcome="background_failed", route="/later"),
        ),
        "websocket": Case(
            "error in a websocket", "/ws/value", _FAILED.but(status=None, route="/ws/{kind}")
        ),
        "unavailable": Case(
            "HTTP error of 500 or more",
            "/refuse/503",
            _FAILED.but(route="/refuse/{status:int}", **_UNAVAILABLE),
        ),
        "refused": Case("HTTP error below 500", "/refuse/404", _MEANT),
        "invalid": Case(
            "invalid input", "/validate/no", _MEANT.but(route="/validate/{number}", **_INVALID)
        ),
        "handled": Case(
            "exception with a handler",
            "/fail/expected",
            _MEANT.but(route="/fail/{kind}", **_EXPECTED),
        ),
        "unmatched": Case(
            "no such route", "/nowhere", _MEANT.but(route="(unmatched)", exception="{unmatched}")
        ),
        "ordinary": Case("nothing wrong", "/ok/7", Expected(200, "ok", "/ok/{item}")),
    }
)


def in_braces(found: "re.Match[str]") -> str:
    return f"{{{found[1]}}}"


def in_brackets(found: "re.Match[str]") -> str:
    return f"<{found[2]}:{found[1]}>" if found[2] else f"<{found[1]}>"


def in_brackets_reversed(found: "re.Match[str]") -> str:
    return f"<{found[1]}:{found[2] or 'str'}>"


async def ask_by_path(app: Any, case: str) -> Reply:
    path = CASES[case].path
    return await (session(app, path) if case == "websocket" else request(app, path=path))


class Framework(NamedTuple):
    """One row of the tables."""

    title: str
    packages: tuple[str, ...]  # the distributions whose versions matter
    make: Callable[[], Any]
    parameter: Callable[["re.Match[str]"], str] = in_braces  # how its routes name one
    answers: bool = True  # what nobody handles, by itself; else the kit answers it
    http_error: str = "HTTPException"
    invalid: str = ""
    unmatched: str | None = None  # the class for no such route; that of other HTTP errors if None
    has_lifespan: bool = False  # serves nothing before it
    page: str = ""  # in docs/frameworks, if it is that of another
    ask: Callable[[Any, str], Awaitable[Reply]] = ask_by_path
    cases: Mapping[str, Case] = CASES
    lacks: Mapping[str, str] = MappingProxyType({})  # cases, and why
    differs: Mapping[str, Mapping[str, Any]] = MappingProxyType({})  # cases, and in what


# GraphQL and MCP answer on one path, with 200 whatever happens.

_QUERIES = {
    "unhandled": 'fails(kind: "value")',
    "timeout": 'fails(kind: "timeout")',
    "memory": 'fails(kind: "memory")',
    "group": 'fails(kind: "group")',
    "refused": "meant",
    "invalid": "unknown",
    "ordinary": "ok",
}


async def ask_graph(app: Any, case: str) -> Reply:
    body = orjson.dumps({"query": f"query Videos {{ {_QUERIES[case]} }}"})
    kind = (b"content-type", b"application/json")
    return await request(app, "POST", "/graphql", headers=[kind], body=body)


_TOOLS: Mapping[str, tuple[str, dict[str, str]]] = MappingProxyType(
    {
        "unhandled": ("fails_later", {"kind": "value"}),
        "timeout": ("fails_later", {"kind": "timeout"}),
        "memory": ("fails_later", {"kind": "memory"}),
        "group": ("fails_later", {"kind": "group"}),
        "thread": ("fails", {"kind": "value"}),
        "refused": ("meant", {}),
        "invalid": ("add", {"a": "no"}),
        "unmatched": ("nowhere", {}),
        "ordinary": ("add", {"a": "1", "b": "2"}),
    }
)


async def ask_tool(app: Any, case: str) -> Reply:
    name, arguments = _TOOLS[case]
    params = {"name": name, "arguments": arguments}
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    headers = [
        (b"content-type", b"application/json"),
        (b"accept", b"application/json, text/event-stream"),
        (b"mcp-protocol-version", b"2025-06-18"),
    ]
    return await request(app, "POST", "/mcp", headers=headers, body=orjson.dumps(body))


def _of_200(**routes: str) -> Mapping[str, Case]:
    """The cases, as they are where every answer has the status 200."""
    changed = {}
    for name, route in routes.items():
        case = CASES[name]
        outcome = "server_error" if case.expected.where else "ok"
        expected = case.expected.but(status=200, outcome=outcome, route=route)
        changed[name] = case._replace(path="", expected=expected)
    return MappingProxyType(changed)


_GRAPH_CASES = _of_200(**dict.fromkeys(_QUERIES, "query Videos"))
_TOOL_CASES = _of_200(**{case: f"tools/call {name}" for case, (name, _) in _TOOLS.items()})

_NO_VALIDATION = "it validates nothing by itself"
_NO_TASKS = "it has no background tasks"
_NO_SESSIONS = "it has no websockets"
_NO_QUERY = "a query has no such thing"
_NO_MESSAGE = "a message has no such thing"

# Before Python 3.13 asyncio makes a new TimeoutError of one that comes out of a thread.
LOST = "lost before Python 3.13"
_LOST = MappingProxyType({"where": LOST})

# The task outlives the request, which has been told of before; its error is told of by itself.
_APART = MappingProxyType({"outcome": "ok", "exception": None, "error_type": None})

# What is meant for the client has no class of its own.
_UNTOLD = MappingProxyType({"error_type": "unknown"})

_KITS = {
    "timeout": {"status": 504},
    "memory": {"status": 503},
    "group": {"status": 502},
}
"""What the kit answers by type where the framework lets exceptions through."""

FRAMEWORKS: Mapping[str, Framework] = MappingProxyType(
    {
        "starlette": Framework(
            "Starlette",
            ("starlette",),
            apps.starlette.make,
            answers=False,
            lacks={"invalid": _NO_VALIDATION},
            differs=_KITS,
        ),
        "fastapi": Framework(
            "FastAPI",
            ("fastapi",),
            apps.fastapi.make,
            answers=False,
            invalid="RequestValidationError",
            differs={**_KITS, "invalid": {"status": 422}},
        ),
        "quart": Framework(
            "Quart",
            ("quart",),
            apps.quart.make,
            parameter=in_brackets,
            http_error="NotFound",
            lacks={"invalid": _NO_VALIDATION},
            differs={
                "background": _APART,
                "unavailable": {"exception": "ServiceUnavailable"},
            },
        ),
        "litestar": Framework(
            "Litestar",
            ("litestar",),
            apps.litestar.make,
            invalid="ValidationException",
            unmatched="NotFoundException",
        ),
        "falcon": Framework(
            "Falcon",
            ("falcon",),
            apps.falcon.make,
            http_error="HTTPError",
            invalid="HTTPMissingParam",
            unmatched="HTTPRouteNotFound",
            differs={"background": _APART, "unavailable": {"where": "falcon.py on_get"}},
        ),
        "django": Framework(
            "Django",
            ("django",),
            apps.django.make,
            parameter=in_brackets,
            http_error="Http404",
            unmatched="Resolver404",
            lacks={
                "background": _NO_TASKS,
                "websocket": "they are those of Channels",
                "invalid": _NO_VALIDATION,
                "unavailable": "it has no exception for it",
            },
        ),
        "channels": Framework(
            "Django Channels",
            ("channels",),
            apps.channels.make,
            parameter=in_brackets,
            http_error="Http404",
            unmatched="Resolver404",
            lacks={
                "background": _NO_TASKS,
                "invalid": _NO_VALIDATION,
                "unavailable": "it has no exception for it",
            },
        ),
        "sanic": Framework(
            "Sanic",
            ("sanic",),
            apps.sanic.make,
            parameter=in_brackets_reversed,
            http_error="SanicException",
            unmatched="NotFound",
            has_lifespan=True,
            lacks={"invalid": _NO_VALIDATION},
            differs={"background": _APART},
        ),
        "blacksheep": Framework(
            "BlackSheep",
            ("blacksheep",),
            apps.blacksheep.make,
            invalid="BadRequest",
            unmatched="NotFound",
            has_lifespan=True,
            lacks={"background": _NO_TASKS},
        ),
        "connexion": Framework(
            "Connexion",
            ("connexion",),
            apps.connexion.make,
            http_error="ProblemException",
            unmatched="HTTPException",
            invalid="HTTPException",
            lacks={"websocket": _NO_SESSIONS},
            differs={
                # It refuses a path that does not match the types of its parameters as unknown.
                "invalid": {"status": 404, "error_type": "not_found", "route": "/{path}"},
                "unmatched": {"route": "/{path}"},
            },
        ),
        "connexion_flask": Framework(
            "Connexion with Flask",
            ("connexion", "flask"),
            apps.connexion.by_flask,
            parameter=in_brackets,
            http_error="ProblemException",
            unmatched="HTTPException",
            invalid="HTTPException",
            page="connexion",
            lacks={
                "websocket": _NO_SESSIONS,
                "background": _NO_TASKS,
            },
            differs={
                "timeout": _LOST,
                "invalid": {"status": 404, "error_type": "not_found", "route": "/{path}"},
                "unmatched": {"route": "/{path}"},
            },
        ),
        **{
            f"flask_by_{adapter}": Framework(
                f"Flask by {adapter}",
                ("flask", adapter),
                make,
                parameter=in_brackets,
                http_error="NotFound",
                page="flask",
                lacks={
                    "websocket": _NO_SESSIONS,
                    "background": _NO_TASKS,
                    "invalid": _NO_VALIDATION,
                },
                differs={"unavailable": {"exception": "ServiceUnavailable"}},
            )
            for adapter, make in (
                ("asgiref", apps.flask.by_asgiref),
                ("a2wsgi", apps.flask.by_a2wsgi),
            )
        },
        **{
            name: Framework(
                title,
                (package,),
                make,
                http_error="GraphQLError",
                invalid="GraphQLError",
                page=name.partition("_")[0],
                ask=ask_graph,
                cases=_GRAPH_CASES,
                lacks=dict.fromkeys(set(CASES) - set(_GRAPH_CASES), _NO_QUERY),
                differs={"refused": _UNTOLD, "invalid": {**_UNTOLD, **invalid}},
            )
            for name, title, package, make, invalid in (
                ("strawberry", "Strawberry", "strawberry-graphql", apps.strawberry.make, {}),
                (
                    "strawberry_router",
                    "Strawberry in FastAPI",
                    "strawberry-graphql",
                    apps.strawberry.by_router,
                    {},
                ),
                (
                    "ariadne",
                    "Ariadne",
                    "ariadne",
                    apps.ariadne.make,
                    {"status": 400, "outcome": "client_error"},
                ),
            )
        },
        "fastmcp": Framework(
            "FastMCP",
            ("fastmcp",),
            apps.fastmcp.make,
            http_error="ToolError",
            invalid="ValidationError",
            unmatched="NotFoundError",
            has_lifespan=True,
            ask=ask_tool,
            cases=_TOOL_CASES,
            lacks=dict.fromkeys(set(CASES) - set(_TOOL_CASES), _NO_MESSAGE),
            differs={"refused": _UNTOLD, "unmatched": {"route": "/mcp"}},
        ),
    }
)


def expected_of(framework: Framework, case: str) -> Expected | None:
    """What follows in this framework; None where there is no such thing."""
    if case in framework.lacks:
        return None
    expected = framework.cases[case].expected
    exception = {
        "{http_error}": framework.http_error,
        "{invalid}": framework.invalid,
        "{unmatched}": framework.unmatched or framework.http_error,
    }
    return expected.but(
        exception=exception.get(str(expected.exception), expected.exception),
        where=expected.where and expected.where.replace("{app}", _module(framework)),
        route=re.sub(r"\{(\w+):?(\w*)\}", framework.parameter, expected.route),
    ).but(**framework.differs.get(case, {}))


def _module(framework: Framework) -> str:
    return framework.make.__module__.rpartition(".")[2]
