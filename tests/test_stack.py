"""The stack: how middlewares are ordered, merged into one record, and what the app sees of them."""

import inspect
from itertools import permutations

import httpx
import pytest
import trio
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from asgi_errorkit import (
    ErrorHandlingMiddleware,
    ErrorKit,
    ErrorTracker,
    MiddlewareStack,
    PerformanceMonitoringMiddleware,
    Recorder,
    RequestIds,
    StructuredLoggingMiddleware,
    current,
)
from asgi_errorkit.testing import LogLines, http_scope, request

OURS = (StructuredLoggingMiddleware, ErrorHandlingMiddleware, PerformanceMonitoringMiddleware)


def start(**more):
    """A new one each time: Starlette's gzip writes into the headers of what it is sent."""
    return {"type": "http.response.start", "status": 200, "headers": [], **more}


async def hello(scope, receive, send):
    await send(start())
    await send({"type": "http.response.body", "body": b"hello"})


async def broken(scope, receive, send):
    raise ValueError("boom")


async def broken_after_start(scope, receive, send):
    await send(start())
    raise ValueError("boom")


class Foreign:
    """A pure ASGI middleware of somebody else's that writes down when it is passed."""

    def __init__(self, app, passed, name="foreign"):
        self.app, self.passed, self.name = app, passed, name

    async def __call__(self, scope, receive, send):
        self.passed.append(self.name)
        return await self.app(scope, receive, send)


def hidden(app, passed):
    """A middleware that does not tell what it wraps."""

    async def middleware(scope, receive, send):
        passed.append("hidden")
        return await app(scope, receive, send)

    return middleware


def gzip(app, passed):
    passed.append("gzip")
    return GZipMiddleware(app, minimum_size=1)


def quiet_tracker():
    return ErrorTracker(recorder=Recorder(flush_seconds=None))


def quiet_stack(lines=None):
    """A stack without threads, logging to ``lines``."""
    stack = MiddlewareStack(error_tracker=quiet_tracker())
    stack.add_middleware(StructuredLoggingMiddleware, stream=lines or LogLines())
    return stack


# The order


async def test_the_first_added_is_the_outermost():
    """A request meets the middlewares in the order in which they were added."""
    passed, stack = [], quiet_stack()
    for name in ("first", "second", "third"):
        stack.add_middleware(Foreign, passed=passed, name=name)
    reply = await request(stack.create_middleware_stack(hello))
    assert reply.body == b"hello"
    assert passed == ["first", "second", "third"]


@pytest.mark.parametrize("given", [(), OURS[:1], OURS[1:2], OURS[2:], OURS], ids=len)
def test_what_is_missing_of_the_defaults_is_added_innermost(given):
    """All three of ours are in every built stack, once; the missing ones come last, in order."""
    stack = MiddlewareStack(error_tracker=quiet_tracker())
    for cls in given:
        stack.add_middleware(cls)
    kit = stack.create_middleware_stack(hello)
    missing = [cls for cls in OURS if cls not in given]
    assert [cls for cls, _ in stack.middleware_stack] == [*given, *missing]
    assert (type(kit.logging), type(kit.errors), type(kit.performance)) == OURS


async def test_a_subclass_stands_in_for_a_default():
    """Who adds a subclass of one of ours gets no second one of the same kind."""

    class Mine(StructuredLoggingMiddleware):
        pass

    lines, stack = LogLines(), MiddlewareStack(error_tracker=quiet_tracker())
    stack.add_middleware(Mine, stream=lines)
    kit = stack.create_middleware_stack(hello)
    await request(kit)
    kit.flush()
    assert type(kit.logging) is Mine
    assert [line["event"] for line in lines.lines()] == ["request_start", "request_complete"]


async def test_the_tracker_of_a_subclass_is_that_of_the_stack():
    class Mine(ErrorHandlingMiddleware):
        pass

    stack, tracker = MiddlewareStack(error_tracker=quiet_tracker()), quiet_tracker()
    stack.add_middleware(Mine, error_tracker=tracker)
    kit = stack.create_middleware_stack(broken)
    await request(kit)
    assert kit.tracker is stack.error_tracker is tracker
    assert kit.get_error_stats()["total_errors"] == 1


@pytest.mark.parametrize("app", [hello, broken], ids=["ok", "broken"])
@pytest.mark.parametrize("place", range(4))
async def test_a_foreign_middleware_may_stand_anywhere_among_ours(app, place):
    """Wherever it stands it is passed once, and the request is one record in every part."""
    passed, lines = [], LogLines()
    stack = MiddlewareStack(error_tracker=quiet_tracker())
    order = list(OURS)
    order.insert(place, Foreign)
    options = {StructuredLoggingMiddleware: {"stream": lines}, Foreign: {"passed": passed}}
    for cls in order:
        stack.add_middleware(cls, **options.get(cls, {}))
    kit = stack.create_middleware_stack(app)
    reply = await request(kit)
    kit.flush()
    assert (reply.status, reply.raised) == (200 if app is hello else 500, None)
    assert passed == ["foreign"]
    assert len(lines.lines()) == 2
    assert kit.get_error_stats()["total_requests"] == 1
    assert kit.get_error_stats()["total_errors"] == (app is broken)
    assert kit.get_performance_stats()["total_requests"] == 1


@pytest.mark.parametrize("inner", OURS, ids=lambda cls: cls.__name__)
async def test_a_start_that_gzip_withholds_is_still_a_start(inner):
    """An error after the app's start is never answered, though nothing has reached the server."""
    stack = quiet_stack()
    stack.add_middleware(GZipMiddleware, minimum_size=1)
    if inner is not StructuredLoggingMiddleware:
        stack.add_middleware(inner)
    kit = stack.create_middleware_stack(broken_after_start)
    reply = await request(kit, headers=[(b"accept-encoding", b"gzip")])
    assert isinstance(reply.raised, ValueError)
    assert reply.messages == []
    assert kit.get_error_stats()["total_errors"] == 1


async def test_an_answer_passes_a_compressing_neighbour_whole():
    """An error answer made inside gzip reaches the client compressed, complete and with its id."""
    stack = quiet_stack()
    stack.add_middleware(GZipMiddleware, minimum_size=1)
    kit = stack.create_middleware_stack(broken)
    transport = httpx.ASGITransport(kit)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        response = await client.get("/")
    assert response.status_code == 500
    assert response.headers["content-encoding"] == "gzip"
    assert response.json()["request_id"] == response.headers["x-request-id"]


# Once built


def test_a_built_stack_does_not_change():
    """Adding to a built stack, or building it again, is refused with what to do instead."""
    stack = quiet_stack()
    stack.create_middleware_stack(hello)
    with pytest.raises(RuntimeError, match="before create_middleware_stack"):
        stack.add_middleware(Foreign, passed=[])
    with pytest.raises(RuntimeError, match="make one for each app"):
        stack.create_middleware_stack(hello)


class Uncallable:
    def __init__(self, app):
        self.app = app


def built_with(cls):
    stack = quiet_stack()
    stack.add_middleware(cls)
    return stack.create_middleware_stack(hello)


def with_option(cls, **options):
    MiddlewareStack(error_tracker=quiet_tracker()).add_middleware(cls, **options)


@pytest.mark.parametrize(
    ("wrong", "error", "words"),
    [
        (lambda: ErrorKit(None), TypeError, "callable that takes"),
        (lambda: ErrorKit(lambda: hello), TypeError, "not a factory"),
        (lambda: ErrorKit(FastAPI), TypeError, "not its class"),
        (lambda: ErrorKit(lambda a, b: None), TypeError, r"scope, receive, send"),
        (lambda: ErrorKit(hello, stack=[]), TypeError, "must be a MiddlewareStack"),
        (lambda: ErrorKit(Starlette), TypeError, "not its class"),
        (lambda: ErrorKit(quiet_stack()), TypeError, r"pass it as stack=, ErrorKit\(app, stack="),
        (lambda: ErrorKit(hello, debug="0"), TypeError, "debug must be True or False; got '0'"),
        (
            lambda: ErrorKit(hello, stack=quiet_stack(), debug=True),
            ValueError,
            r"error_tracker and request_ids to MiddlewareStack\(...\), debug, log_level and capture to its",
        ),
        (lambda: ErrorKit(hello, stack=quiet_stack(), tracker=quiet_tracker()), ValueError, "give"),
        (lambda: ErrorKit(hello, log_level="LOUD"), ValueError, "log_level must be DEBUG"),
        (lambda: ErrorKit(hello, tracker="tracker"), TypeError, "must be an ErrorTracker"),
        (lambda: ErrorKit(hello, request_ids="ids"), TypeError, "must be a RequestIds"),
        (lambda: MiddlewareStack(error_tracker=ErrorTracker), TypeError, "must be an ErrorTracker"),
        (lambda: quiet_stack().add_middleware(hello), TypeError, "must be a class"),
        (lambda: quiet_stack().add_middleware(OURS[0]), ValueError, "added already"),
        (lambda: quiet_stack().get_performance_stats(), RuntimeError, "create_middleware_stack"),
        (lambda: quiet_stack().status(), RuntimeError, "has not been built"),
        (lambda: quiet_stack().flush(), RuntimeError, "has not been built"),
        (lambda: built_with(Uncallable), TypeError, "Uncallable must make an ASGI application"),
        (
            lambda: with_option(OURS[0], recorder=Recorder()),
            ValueError,
            "give ErrorTracker.recorder",
        ),
        (
            lambda: with_option(OURS[2], recorder=Recorder()),
            ValueError,
            "give ErrorTracker.recorder",
        ),
        (
            lambda: with_option(OURS[0], request_ids=RequestIds()),
            ValueError,
            "give it to Middleware",
        ),
        (
            lambda: with_option(OURS[2], request_ids=RequestIds()),
            ValueError,
            "give it to Middleware",
        ),
        (
            lambda: with_option(OURS[1], error_tracker=5),
            TypeError,
            "must be an ErrorTracker or None",
        ),
        (lambda: quiet_stack().create_middleware_stack(42), TypeError, "callable that takes"),
    ],
)
def test_a_wrong_input_is_refused_at_once_with_words_that_help(wrong, error, words):
    with pytest.raises(error, match=words):
        wrong()


async def test_an_option_of_none_leaves_what_the_stack_shares():
    """None is the default of each: it makes no part count or name requests for itself."""
    stack = MiddlewareStack(
        error_tracker=quiet_tracker(), request_ids=RequestIds(header_name="X-Trace")
    )
    stack.add_middleware(OURS[0], stream=LogLines(), recorder=None, request_ids=None)
    stack.add_middleware(OURS[1], error_tracker=None, request_ids=None)
    stack.add_middleware(OURS[2], recorder=None, request_ids=None)
    reply = await request(stack.create_middleware_stack(broken))
    assert reply.headers["x-trace"] and stack.get_error_stats()["total_errors"] == 1
    assert stack.get_performance_stats()["total_requests"] == 1


async def test_a_stack_that_a_framework_builds_tells_its_status_and_is_flushed():
    """``app.add_middleware(ErrorKit, stack=stack)`` keeps the kit; the stack reaches it."""
    lines = LogLines()
    app, stack = framework(Starlette), quiet_stack(lines)
    app.add_middleware(ErrorKit, stack=stack)
    await request(app, path="/ok")
    stack.flush()
    assert len(lines.lines()) == 2
    assert stack.status()["error_stats"]["total_requests"] == 1


# One record, whoever nests what


async def reading(log, errors, performance):
    """What each of three parts has seen: log events, requests and errors, requests measured."""
    lines = log.writer._stream
    log.choices.recorder.flush()
    stats = errors.error_tracker.get_error_stats()
    return (
        [line["event"] for line in lines.lines()],
        (stats["total_requests"], stats["total_errors"]),
        performance.get_performance_stats()["total_requests"],
    )


@pytest.mark.parametrize("between", [None, Foreign, hidden, gzip], ids=lambda b: b and b.__name__)
@pytest.mark.parametrize("order", list(permutations("LEP")), ids="".join)
@pytest.mark.parametrize("app", [hello, broken, broken_after_start], ids=lambda app: app.__name__)
async def test_every_hand_nested_order_gives_one_record(app, order, between):
    """Three middlewares nested by hand share one record: each sink gets it once, with one id."""
    makes = {
        "L": lambda app: StructuredLoggingMiddleware(app, stream=LogLines()),
        "E": lambda app: ErrorHandlingMiddleware(app, quiet_tracker()),
        "P": PerformanceMonitoringMiddleware,
    }
    layers, wrapped = {}, app
    for name in order:
        if layers and between:
            wrapped = between(wrapped, [])
        wrapped = layers[name] = makes[name](wrapped)
    reply = await request(wrapped, headers=[(b"x-request-id", b"caller")])
    end = "request_complete" if app is hello else "request_error"
    expected = (["request_start", end], (1, app is not hello), 1)
    assert await reading(layers["L"], layers["E"], layers["P"]) == expected
    assert [line["request_id"] for line in layers["L"].writer._stream.lines()] == ["caller"] * 2
    if app is broken_after_start and (between is not gzip or order[0] == "E"):
        assert isinstance(reply.raised, ValueError) and len(reply.starts) < 2
    else:  # also where compression withheld the start from an error handling further out
        assert reply.raised is None and reply.complete
        names = [name for name, _ in reply.starts[0]["headers"]]
        assert names.count(b"x-request-id") == 1 and reply.headers["x-request-id"] == "caller"


@pytest.mark.parametrize("app", [hello, broken], ids=["ok", "broken"])
async def test_wrapping_twice_counts_once_and_logs_once(app):
    """ErrorKit(ErrorKit(app)): each kit counts the request once; the log lines are written once."""
    lines = LogLines()
    inner = quiet_stack(lines).create_middleware_stack(app)
    outer = quiet_stack(lines).create_middleware_stack(inner)
    reply = await request(outer)
    inner.flush()
    outer.flush()
    assert reply.complete and reply.raised is None
    assert len(lines.lines("request_start")) == 1 and len(lines.lines()) == 2
    for kit in (inner, outer):
        stats = kit.get_error_stats()
        assert (stats["total_requests"], stats["total_errors"]) == (1, app is broken)
        assert kit.get_performance_stats()["total_requests"] == 1
        assert kit.get_performance_stats()["in_flight"] == 0


# Within frameworks


def framework(cls):
    async def ok(request):
        return PlainTextResponse("hello")

    async def fails(request):
        raise ValueError("boom")

    return cls(routes=[Route("/ok", ok), Route("/fails", fails)])


@pytest.mark.parametrize("cls", [Starlette, FastAPI])
@pytest.mark.parametrize("way", ["inside", "outside", "both"])
async def test_a_framework_app_counts_once_wherever_the_kit_stands(cls, way):
    """Added by add_middleware, wrapped around, or both: one answer, one error, one request each."""
    app, tracker, outside = framework(cls), quiet_tracker(), quiet_tracker()
    if way != "outside":
        app.add_middleware(ErrorKit, tracker=tracker)
    wrapped = app if way == "inside" else ErrorKit(app, tracker=outside)
    assert (await request(wrapped, path="/ok")).body == b"hello"
    failed = await request(wrapped, path="/fails")
    assert (failed.status, failed.raised, len(failed.starts)) == (500, None, 1)
    assert failed.headers["content-type"] == "application/problem+json"
    assert failed.json()["request_id"] == failed.headers["x-request-id"]
    assert (await request(wrapped, path="/nowhere")).status == 404
    for each in (
        {tracker} if way == "inside" else {outside} if way == "outside" else {tracker, outside}
    ):
        stats = each.get_error_stats()
        assert (stats["total_requests"], stats["failed_requests"]) == (3, 1)
        assert stats["errors_by_type"] == {"unknown": 1, "not_found": 1}


# What the app and the server see


async def test_the_app_gets_the_scope_itself_and_the_server_gets_it_back_clean():
    """The same scope and state objects go through; afterwards nothing of the kit's is left in."""
    seen = []

    async def app(scope, receive, send):
        seen.append((scope, scope["state"], current().request_id))
        return await hello(scope, receive, send)

    kit = quiet_stack().create_middleware_stack(app)
    scope = http_scope()
    before = dict(scope)

    async def nothing(message=None):
        return {"type": "http.disconnect"}

    await kit(scope, nothing, nothing)
    assert seen[0][0] is scope and seen[0][1] is before["state"]
    assert dict(scope) == before
    assert current() is None


async def test_what_the_app_returns_is_returned():
    """Servers check it: an app that returns something wrong is told so by them."""

    async def app(scope, receive, send):
        return "something"

    assert (await request(quiet_stack().create_middleware_stack(app))).returned == "something"


async def test_other_scopes_pass_untouched_and_their_exceptions_too():
    """Lifespan, unknown scope types and scopes without one: same scope, same callables, no catch."""

    async def app(scope, receive, send):
        raise LookupError((id(scope), receive, send))

    async def receive():
        raise AssertionError

    kit = quiet_stack().create_middleware_stack(app)
    for scope in ({"type": "lifespan"}, {"type": "mqtt"}, {}):
        with pytest.raises(LookupError) as raised:
            await kit(scope, receive, receive)
        assert raised.value.args[0] == (id(scope), receive, receive)
    assert kit.get_error_stats()["total_requests"] == 0


async def test_an_error_outside_of_any_request_is_told_of_once():
    """As that of a worker of Channels; a lifespan that raises only says that there is none."""

    async def app(scope, receive, send):
        raise ConnectionError("the queue is gone")

    outer = MiddlewareStack(error_tracker=ErrorTracker(recorder=Recorder(flush_seconds=None)))
    inner = ErrorHandlingMiddleware(app, outer.error_tracker)
    kit = outer.create_middleware_stack(inner)
    for kind in ("channel", "lifespan"):
        with pytest.raises(ConnectionError):
            await kit({"type": kind}, None, None)
    (group,) = kit.tracker.groups()
    assert (group.type_name, group.count) == ("ConnectionError", 1)
    stats = kit.get_error_stats()
    assert (stats["total_errors"], stats["total_requests"]) == (1, 0)


EXTENSIONS = [
    {"type": "http.response.early_hint", "links": [b"</a.css>"]},
    {"type": "http.response.push", "path": "/a.css", "headers": []},
    {"type": "http.response.debug", "info": {"template": "a.html"}},
    start(trailers=True),
    {"type": "http.response.body", "body": b"hello", "more_body": True},
    {"type": "http.response.body"},
    {"type": "http.response.trailers", "headers": [(b"x-sum", b"1")], "more_trailers": False},
    {"type": "http.response.unheard.of"},
    {"no": "type"},
]


async def test_every_message_is_forwarded_as_it_is():
    """Extensions and messages nobody knows reach the server; only the start gets a header."""

    async def app(scope, receive, send):
        for message in EXTENSIONS:
            await send(message)

    sent = []

    async def send(message):
        sent.append(message)

    kit = quiet_stack().create_middleware_stack(app)
    await kit(http_scope(), None, send)
    added = sent[3].pop("headers")
    assert sent[3] == {"type": "http.response.start", "status": 200, "trailers": True}
    assert [name for name, _ in added] == [b"x-request-id"]
    assert all(
        got is given
        for got, given in zip(sent, EXTENSIONS, strict=True)
        if given is not EXTENSIONS[3]
    )
    assert EXTENSIONS[3]["headers"] == []


async def test_nothing_is_read_that_the_app_does_not_read():
    """No read-ahead: receive is called as often as the app calls it, and gives what it gave."""
    given = [{"type": "http.request", "body": b"a", "more_body": True}, {"type": "http.disconnect"}]
    read = []

    async def receive():
        read.append(given[len(read)])
        return read[-1]

    async def app(scope, receive, send):
        got = [await receive() for _ in range(scope["reads"])]
        assert all(ours is theirs for ours, theirs in zip(got, given, strict=False))
        await hello(scope, receive, send)

    async def send(message):
        pass

    kit = quiet_stack().create_middleware_stack(app)
    for reads in range(3):
        read.clear()
        await kit(http_scope(reads=reads), receive, send)
        assert len(read) == reads


async def test_headers_that_can_be_read_but_once_reach_whom_they_are_for():
    """Header iterables may be generators, of the scope and of the response: none is used up."""

    async def app(scope, receive, send):
        headers = ((name, value) for name, value in scope["headers"] if name == b"x-own")
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body"})

    kit = quiet_stack().create_middleware_stack(app)
    headers = (pair for pair in [(b"x-own", b"1"), (b"x-request-id", b"mine")])
    scope = http_scope()
    scope["headers"] = headers
    sent = []

    async def send(message):
        sent.append(message)

    await kit(scope, None, send)
    assert list(sent[0]["headers"]) == [(b"x-own", b"1"), (b"x-request-id", b"mine")]


async def test_an_app_of_asgi_2_is_adapted():
    class Double:
        def __init__(self, scope):
            self.scope = scope

        async def __call__(self, receive, send):
            await hello(self.scope, receive, send)

    assert (await request(quiet_stack().create_middleware_stack(Double))).body == b"hello"


def test_the_app_stays_reachable_and_its_attributes_are_not_faked():
    """``.app`` is the app; asking the kit for the app's attributes tells where they are."""
    app = FastAPI(title="inside")
    app.state.answer = 42
    kit = quiet_stack().create_middleware_stack(app)
    assert kit.app is app and kit.app.state.answer == 42
    assert inspect.iscoroutinefunction(kit.__call__)
    for name in ("state", "get", "title"):
        with pytest.raises(AttributeError, match=rf"wraps your FastAPI.*\.app\.{name}"):
            getattr(kit, name)


def test_the_kit_runs_under_trio():
    """No part of the request path needs asyncio; trio's cancellation passes and is no error."""
    lines = LogLines()

    async def app(scope, receive, send):
        await trio.lowlevel.checkpoint()
        if scope["path"] == "/broken":
            raise ValueError("boom")
        if scope["path"] == "/cancelled":
            await trio.sleep_forever()
        await hello(scope, receive, send)

    kit = quiet_stack(lines).create_middleware_stack(app)
    replies = {}

    async def ask(path):
        replies[path] = await request(kit, path=path)

    async def main():
        async with trio.open_nursery() as nursery:
            for path in ("/", "/broken"):
                nursery.start_soon(ask, path)
        with trio.CancelScope() as scope:
            scope.cancel()
            await request(kit, path="/cancelled")

    trio.run(main)
    kit.flush()
    assert replies["/"].body == b"hello" and replies["/broken"].json()["status"] == 500
    stats = kit.get_error_stats()
    assert (stats["total_requests"], stats["total_errors"]) == (3, 1)
    outcomes = sorted(line["outcome"] for line in lines.lines() if "outcome" in line)
    assert outcomes == ["cancelled", "ok", "server_error"]


def test_status_tells_the_kits_own_losses():
    """Nothing that the kit loses goes uncounted: status() names each kind of loss."""
    kit = ErrorKit(hello, tracker=quiet_tracker(), request_ids=RequestIds(header_name="X-Trace"))
    losses = kit.status()["recorder"]
    assert losses.keys() >= {"lost", "sink_errors", "dropped_log_lines", "observer_errors"}
    assert "unseen_blocks" in losses
    assert set(losses.values()) == {0}


# Secrets


def telling_tracker(redact=()):
    return ErrorTracker(recorder=Recorder(flush_seconds=None), redact=redact)


def told_by(kit, lines):
    """Everything that a stack's parts show of what they have seen."""
    kit.flush()
    groups = [group.as_dict() for group in kit.tracker.groups()]
    return f"{lines.lines()} {groups} {kit.performance.metrics} {kit.status()}"


@pytest.mark.parametrize("given_to", ["tracker", "logging", "performance", "errors"])
@pytest.mark.parametrize("accept", [b"text/html", b"application/json"], ids=["page", "json"])
async def test_a_name_to_redact_acts_in_every_part(given_to, accept):
    """Whichever part of a stack is told of a secret's name, none of them shows its value."""

    async def app(scope, receive, send):
        colour = scope["query_string"].decode().partition("=")[2]
        current().annotate(seen={"colour": colour})
        raise ValueError(f"cannot paint with colour={colour}")

    lines = LogLines()
    options = {name: {} for name in ("logging", "performance", "errors")}
    tracker = telling_tracker(["colour"] if given_to == "tracker" else ())
    if given_to == "errors":
        tracker, options["errors"]["error_tracker"] = None, telling_tracker(["colour"])
    elif given_to != "tracker":
        options[given_to]["redact"] = iter(["colour"])
    stack = MiddlewareStack(error_tracker=tracker)
    stack.add_middleware(StructuredLoggingMiddleware, stream=lines, **options["logging"])
    stack.add_middleware(Foreign, passed=[])
    stack.add_middleware(ErrorHandlingMiddleware, debug=True, **options["errors"])
    stack.add_middleware(PerformanceMonitoringMiddleware, **options["performance"])
    kit = stack.create_middleware_stack(app)
    headers = [(b"accept", accept), (b"colour", b"hunter2")]
    asked = {"query": b"colour=hunter2", "headers": headers}
    await request(kit, path="/x;colour=hunter2", **asked)
    reply = await request(kit, **asked)  # an answer names its own path
    assert reply.status == 500 and b"[redacted]" in reply.body
    assert b"hunter2" not in reply.body
    told = told_by(kit, lines)
    assert told.count("[redacted]") > 5 and "hunter2" not in told


async def test_parts_joined_by_hand_keep_their_own_names():
    """Who nests middlewares tells each of them; the tracker's names stay the tracker's."""
    lines = LogLines()
    tracker = telling_tracker(["colour"])
    app = StructuredLoggingMiddleware(
        ErrorHandlingMiddleware(broken, tracker), stream=lines, recorder=tracker.recorder
    )
    await request(app, query=b"colour=hunter2")
    tracker.recorder.flush()
    assert "hunter2" in str(lines.lines())
    assert "hunter2" not in str(tracker.groups())


@pytest.mark.parametrize("cls", [StructuredLoggingMiddleware, PerformanceMonitoringMiddleware])
def test_a_wrong_name_to_redact_is_refused_when_the_stack_is_built(cls):
    stack = quiet_stack() if cls is PerformanceMonitoringMiddleware else MiddlewareStack()
    stack.add_middleware(cls, redact="colour")
    with pytest.raises(TypeError, match="redact must be a list"):
        stack.create_middleware_stack(hello)


async def test_a_kit_looks_for_who_blocks_the_loop(watched_loops):
    """Unless it is told not to; kits that share a recorder share who looks."""
    kit = ErrorKit(hello)
    assert kit.watchdog.threshold_seconds == 0.1
    assert kit.status()["blocks"] == []
    other = ErrorKit(hello, tracker=kit.tracker, blocked_after_seconds=0.2)
    assert other.watchdog is kit.watchdog
    assert ErrorKit(hello, blocked_after_seconds=None).watchdog is None
    unwatched = ErrorKit(hello, blocked_after_seconds=None).status()
    assert unwatched["blocks"] == unwatched["blocked_lines"] == []
    with pytest.raises(ValueError, match="blocked_after_seconds"):
        ErrorKit(hello, blocked_after_seconds=0)


async def test_a_recorder_that_starts_no_thread_gets_none(watched_loops):
    """Whoever wants no thread gets none by the way of a default."""
    tracker = ErrorTracker(recorder=Recorder(flush_seconds=None))
    assert ErrorKit(hello, tracker=tracker).watchdog is None


@pytest.mark.parametrize(
    ("said", "seconds"), [("off", None), (" OFF ", None), ("2.5", 2.5), ("", 0.1)]
)
async def test_the_environment_outranks_the_option(monkeypatch, said, seconds):
    """Whoever runs an app or its tests decides without its code."""
    monkeypatch.setenv("ASGI_ERRORKIT_BLOCKED_AFTER_SECONDS", said)
    watchdog = ErrorKit(hello).watchdog
    assert (watchdog and watchdog.threshold_seconds) == seconds


@pytest.mark.parametrize("said", ["on", "0", "nan", "-1", "1e9"])
async def test_what_the_environment_says_in_vain_is_refused(monkeypatch, said):
    """With the variable's name and what fits."""
    monkeypatch.setenv("ASGI_ERRORKIT_BLOCKED_AFTER_SECONDS", said)
    with pytest.raises(ValueError, match=r"ASGI_ERRORKIT_BLOCKED_AFTER_SECONDS .* or off; got"):
        ErrorKit(hello)
