"""Circuit breaking: what keeps failing is refused at once, left alone, and tried again."""

import asyncio
import inspect
import logging
from dataclasses import replace

import orjson
import pytest
import trio
import trio.testing
from litestar import Litestar, get
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Mount, Route, WebSocketRoute

from asgi_errorkit import (
    CircuitBreakingMiddleware,
    CircuitOpenError,
    CircuitPolicy,
    CircuitState,
    ErrorAction,
    ErrorHandlingMiddleware,
    ErrorInfo,
    ErrorKit,
    ErrorSeverity,
    ErrorTracker,
    ErrorType,
    MiddlewareStack,
    OverloadedError,
    PublicError,
    Recorder,
    RetryMiddleware,
    StructuredLoggingMiddleware,
    TimeoutMiddleware,
    current,
)
from asgi_errorkit.testing import (
    HandClock,
    LogLines,
    http_scope,
    instant_waits,
    request,
    session,
)
from tests.naming import shown

NOON = 1_640_995_200.0
SOON = CircuitPolicy(
    failure_rate_threshold=None, consecutive_failures=2, jitter=0.0, successes_to_close=2
)
SLOW = CircuitPolicy(
    failure_rate_threshold=None,
    slow_call_rate_threshold=0.5,
    slow_call_seconds=2.0,
    minimum_number_of_calls=2,
    jitter=0.0,
    successes_to_close=1,
)
START = {"type": "http.response.start", "status": 200, "headers": []}
PIECE = {"type": "http.response.body", "body": b"piece", "more_body": True}
END = {"type": "http.response.body", "body": b"end"}


@pytest.fixture(autouse=True)
def _quiet(caplog):
    """The circuits' own lines are looked at where they are the matter."""
    caplog.set_level(logging.INFO, logger="asgi_errorkit.breaker")


class World:
    """A tracker by a hand clock, without threads."""

    def __init__(self, **options):
        self.clock = HandClock()
        self.recorder = Recorder(
            flush_seconds=None, clock=self.clock, wall_clock=lambda: NOON + self.clock() - 1000.0
        )
        self.tracker = ErrorTracker(recorder=self.recorder, **options)
        self.lines = LogLines()

    def alone(self, app, **options):
        options.setdefault("policy", SOON)
        return CircuitBreakingMiddleware(app, error_tracker=self.tracker, **options)

    def stack(self, app, *around, **options):
        options.setdefault("policy", SOON)
        stack = MiddlewareStack(error_tracker=self.tracker)
        stack.add_middleware(StructuredLoggingMiddleware, stream=self.lines)
        for cls, its in around:
            stack.add_middleware(cls, **its)
        stack.add_middleware(CircuitBreakingMiddleware, **options)
        return stack.create_middleware_stack(app)

    def by_hand(self, app, **options):
        """The same, nested by hand."""
        options.setdefault("policy", SOON)
        breaking = CircuitBreakingMiddleware(app, error_tracker=self.tracker, **options)
        return StructuredLoggingMiddleware(
            ErrorHandlingMiddleware(breaking, self.tracker, log_errors=False),
            stream=self.lines,
            recorder=self.recorder,
        )

    def said(self, event=None):
        self.recorder.flush()
        return self.lines.lines(event)

    @property
    def names(self):
        return [b.name for b in self.tracker.circuits.all() if b.name not in TYPES]

    def state(self, name="GET /"):
        breaker = self.tracker.circuits.get(name)
        return None if breaker is None else breaker.state


TYPES = {each.value for each in ErrorType}


class App:
    """A raw app that tells its route as Litestar does, and does what it is set to do."""

    def __init__(self, template=None):
        self.calls = 0
        self.messages = [START, END]
        self.exc = None
        self.seconds = 0.0
        self.clock = None
        self.template = template

    async def __call__(self, scope, receive, send):
        self.calls += 1
        if self.template is not None:
            scope["path_template"] = self.template
        if self.clock is not None:
            self.clock.move(self.seconds)
        for message in self.messages:
            await send(dict(message))
        if self.exc is not None:
            raise self.exc

    def fails(self, exc=None, *messages):
        self.messages, self.exc = list(messages), exc or ValueError("boom")

    def works(self):
        self.messages, self.exc, self.seconds = [START, END], None, 0.0


def status(code):
    return ({**START, "status": code}, END)


async def break_it(app, inner, path="/", times=2):
    inner.fails()
    for _ in range(times):
        await request(app, path=path)
    inner.calls = 0


# What opens


@pytest.mark.parametrize("way", ["alone", "stack", "by_hand"])
async def test_what_keeps_failing_is_refused_unheard(way):
    """After so many failures the app is not asked any more, whatever stands around."""
    world, inner = World(), App()
    app = getattr(world, way)(inner)
    await break_it(app, inner)
    reply = await request(app)
    assert (reply.status, inner.calls, reply.raised) == (503, 0, None)
    assert reply.complete
    assert len(reply.starts) == 1


@pytest.mark.parametrize("way", ["alone", "stack", "by_hand"])
def test_under_trio_it_is_the_same(way):
    """It needs no event loop of its own."""
    world, inner = World(), App()

    async def main():
        app = getattr(world, way)(inner)
        await break_it(app, inner)
        return await request(app)

    reply = trio.run(main)
    assert (reply.status, inner.calls) == (503, 0)


@pytest.mark.parametrize("way", ["alone", "stack", "by_hand"])
async def test_the_refusal_is_the_guides(way):
    """The problem document has the original guide's error, with why the circuit opened."""
    world, inner = World(), App()
    app = getattr(world, way)(inner, error_types=[ErrorType.MODEL])
    inner.fails(PublicError("no", error_type=ErrorType.MODEL))
    for _ in range(2):
        await request(app)
    world.clock.move(1.0)
    reply = await request(app)
    assert reply.headers["content-type"] == "application/problem+json"
    assert reply.headers["retry-after"] == "4"  # 5 s, of which 1 s is over
    problem = reply.json()
    assert (problem["status"], problem["title"]) == (503, "Service Unavailable")
    error = problem["error"]
    assert error.pop("context") == {
        "error_type": "model",
        "path": "/",
        "method": "GET",
        "triggered_at": NOON,
        "error_count": 2,
        "threshold": 2,
    }
    assert error == {
        "type": "CircuitBreakerError",
        "message": "Service temporarily unavailable due to model errors",
        "category": "system_error",
        "severity": "high",
        "status_code": 503,
        "timestamp": NOON + 1.0,
    }


async def test_clients_are_not_told_what_it_is_that_fails():
    """The name of a circuit may be a tenant's or a host's, and stays in the log."""
    world, inner = World(), App()
    app = world.stack(inner, key=lambda scope: "postgres://admin@10.0.0.7")
    await break_it(app, inner)
    reply = await request(app)
    assert b"10.0.0.7" not in reply.body
    assert all("10.0.0.7" not in value for value in reply.headers.values())


async def test_head_gets_no_body():
    """A refused HEAD request has the headers of the answer alone."""
    world, inner = World(), App()
    app = world.alone(inner, key=lambda scope: "one")
    await break_it(app, inner)
    reply = await request(app, "HEAD")
    assert (reply.status, reply.body) == (503, b"")
    assert int(reply.headers["content-length"]) > 0


@pytest.mark.parametrize("way", ["stack", "by_hand"])
async def test_a_refusal_is_an_outcome_of_its_own(way):
    """The log line says circuit_open, and which circuit."""
    world, inner = World(), App()
    app = getattr(world, way)(inner)
    await break_it(app, inner)
    await request(app)
    line = world.said("request_error")[-1]
    assert (line["outcome"], line["circuit"], line["status_code"]) == ("circuit_open", "GET /", 503)
    assert "traceback" not in line


async def test_a_refusal_feeds_no_breaker():
    """Being refused is no news: neither this circuit nor that of the type hears of it."""
    world, inner = World(), App()
    app = world.stack(inner)
    await break_it(app, inner)
    before = world.tracker.breakers()
    for _ in range(30):
        await request(app)
    after = world.tracker.breakers()
    for one, other in zip(before, after, strict=True):
        assert one["failed"] == other["failed"]
    assert app.status()["survival"] == {
        "CircuitBreakingMiddleware": {"refused": 30, "key_errors": 0}
    }


# What counts


FAILURES = {
    "raised": lambda app: app.fails(),
    "raised after the start": lambda app: app.fails(ValueError("late"), START, PIECE),
    "answered with 500": lambda app: vars(app).update(messages=status(500)),
    "answered with 503": lambda app: vars(app).update(messages=status(503)),
    "answered, then raised": lambda app: app.fails(ValueError("x"), *status(500)),
    "silent": lambda app: vars(app).update(messages=[]),
    "never finished": lambda app: vars(app).update(messages=[START, PIECE]),
    "started with 500 only": lambda app: vars(app).update(messages=[status(500)[0]]),
}


@pytest.mark.parametrize("how", FAILURES.values(), ids=FAILURES)
@pytest.mark.parametrize("way", ["alone", "stack", "by_hand"])
async def test_failures_count(way, how):
    """Whatever a client would call a failure, before the start or after it, counts as one."""
    world, inner = World(), App()
    app = getattr(world, way)(inner)
    how(inner)
    for _ in range(2):
        await request(app)
    assert world.state() is CircuitState.OPEN


NEITHER = {
    "answered with 404": lambda app: vars(app).update(messages=status(404), template="/"),
    "answered with 400": lambda app: vars(app).update(messages=status(400)),
    "answered with 499": lambda app: vars(app).update(messages=status(499)),
    "a public error": lambda app: app.fails(PublicError("no", status_code=409)),
    "an HTTP exception": lambda app: app.fails(HTTPException(422)),
    "cancelled": lambda app: app.fails(asyncio.CancelledError()),
    "cancelled after the start": lambda app: app.fails(asyncio.CancelledError(), START),
    "leaving the process": lambda app: app.fails(SystemExit(1)),
    "a background task": lambda app: app.fails(ValueError("late"), START, END),
    "refused further in": lambda app: app.fails(CircuitOpenError("x", retry_after_seconds=1)),
    "shed further in": lambda app: app.fails(OverloadedError("limit")),
}


@pytest.mark.parametrize("how", NEITHER.values(), ids=NEITHER)
@pytest.mark.parametrize("way", ["alone", "stack", "by_hand"])
async def test_what_is_not_the_servers_fault_counts_for_nothing(way, how):
    """However often it happens the circuit stays closed."""
    world, inner = World(), App()
    app = getattr(world, way)(inner, policy=CircuitPolicy(consecutive_failures=1))
    how(inner)
    for _ in range(30):
        await request(app)
    assert inner.calls == 30
    assert world.names == []


@pytest.mark.parametrize("how", NEITHER.values(), ids=NEITHER)
@pytest.mark.parametrize("way", ["alone", "stack", "by_hand"])
async def test_what_counts_for_nothing_closes_no_circuit(way, how):
    """A half-open circuit learns nothing of it, and lets the next one try."""
    world, inner = World(), App()
    app = getattr(world, way)(inner)
    await break_it(app, inner)
    world.clock.move(10.0)
    inner.works()
    how(inner)
    for _ in range(30):
        await request(app)
    assert inner.calls == 30
    assert world.state() is CircuitState.HALF_OPEN
    inner.works()
    for _ in range(2):
        assert (await request(app)).status == 200
    assert world.state() is CircuitState.CLOSED


@pytest.mark.parametrize("way", ["alone", "stack", "by_hand"])
async def test_a_client_that_leaves_counts_for_nothing(way):
    """Neither what the app makes of it, nor the server's own word for it."""
    world = World()

    async def reads(scope, receive, send):
        while (await receive())["type"] != "http.disconnect":
            pass
        raise ValueError("no body") if scope["path"] == "/raises" else OSError("gone")

    async def stops(scope, receive, send):
        await send(START)
        await send(PIECE)
        while (await receive())["type"] != "http.disconnect":
            pass

    for app in (stops,):
        guarded = getattr(world, way)(app)
        for _ in range(5):
            await request(guarded, leaves=True)
    assert world.names == []


@pytest.mark.parametrize("way", ["alone", "stack", "by_hand"])
async def test_a_server_that_cannot_send_counts_for_nothing(way):
    """An error that the server's own send raises is the client's leaving."""
    world, inner = World(), App()
    app = getattr(world, way)(inner)

    async def receive():
        return {"type": "http.request"}

    async def send(message):
        raise OSError("gone")

    for _ in range(5):
        with pytest.raises(OSError, match="gone"):
            await app(http_scope(), receive, send)
    assert world.names == []


async def test_a_failure_with_200_counts():
    """What a framework answers with 200 although it failed is a failure."""
    world = World()

    async def graphql(scope, receive, send):
        from asgi_errorkit.failure import swallowed

        swallowed(ValueError("x"), scope, by="strawberry", despite_status=True)
        await send(START)
        await send(END)

    app = world.stack(graphql)
    for _ in range(2):
        assert (await request(app)).status == 200
    assert world.state() is CircuitState.OPEN


async def test_a_handled_error_is_judged_by_its_answer():
    """An exception with a handler that answers 200 is a success, with 500 a failure."""
    world, code = World(), [500]

    def broken(request):
        raise KeyError("x")

    def handled(request, exc):
        return PlainTextResponse("handled", code[0])

    app = world.stack(
        Starlette(routes=[Route("/", broken)], exception_handlers={KeyError: handled})
    )
    for _ in range(2):
        await request(app)
    assert world.state() is CircuitState.OPEN
    world.clock.move(10.0)
    code[0] = 200
    for _ in range(2):
        await request(app)
    assert world.state() is CircuitState.CLOSED


@pytest.mark.parametrize("kind", ["stack", "by_hand"])
async def test_what_a_framework_swallows_counts_with_its_type(kind):
    """Starlette answers 500 by itself; the circuit is told what was raised."""
    world = World()

    def broken(request):
        raise TimeoutError("slow disk")

    app = getattr(world, kind)(Starlette(routes=[Route("/v/{id}", broken)]))
    for number in range(2):
        await request(app, path=f"/v/{number}")
    breaker = world.tracker.circuits.get("GET /v/{id}")
    assert breaker.error_type is ErrorType.TIMEOUT
    assert "due to timeout errors" in (await request(app, path="/v/3")).json()["detail"]


async def test_litestars_errors_count_with_their_type():
    """Litestar answers what its handlers raise; a hook tells of it."""
    world = World()

    @get("/v/{number:int}", sync_to_thread=False)
    def broken() -> str:
        raise TimeoutError("slow disk")

    @get("/fine/{number:int}", sync_to_thread=False)
    def fine() -> str:
        return "fine"

    app = world.stack(Litestar([broken, fine], logging_config=None))
    for number in range(2):
        assert (await request(app, path=f"/v/{number}")).status >= 500
    reply = await request(app, path="/v/4711")
    assert (reply.status, reply.json()["error"]["type"]) == (503, "CircuitBreakerError")
    assert "due to timeout errors" in reply.json()["detail"]
    assert (await request(app, path="/fine/1")).status == 200


@pytest.mark.parametrize(
    ("types", "state"),
    [([ErrorType.MODEL], None), ([ErrorType.DATABASE, ErrorType.MODEL], CircuitState.OPEN)],
    ids=["others", "these"],
)
async def test_types_say_what_counts(types, state):
    """With error_types only errors of these count."""
    world, inner = World(), App()
    app = world.stack(inner, error_types=types)
    inner.fails(PublicError("no", error_type=ErrorType.DATABASE))
    for _ in range(3):
        await request(app)
    assert world.state() is state


@pytest.mark.parametrize("how", FAILURES.values(), ids=FAILURES)
async def test_outcomes_say_what_counts(how):
    """What is no such outcome counts for nothing; each failure has the outcome that is logged."""
    world, inner = World(), App()
    app = world.stack(inner)
    how(inner)
    await request(app)
    outcome = world.said()[-1]["outcome"]
    for wanted in ("server_error", "truncated", "incomplete"):
        world = World()
        app = world.stack(inner, outcomes=[wanted])
        for _ in range(2):
            await request(app)
        assert (world.state() is CircuitState.OPEN) is (outcome == wanted), (outcome, wanted)


async def test_a_failed_background_task_counts_where_asked_for():
    """Its response was complete; it is a failure of another kind."""
    world, inner = World(), App()
    app = world.stack(inner, outcomes=["background_failed"])
    inner.fails(ValueError("late"), START, END)
    for _ in range(2):
        await request(app)
    assert world.state() is CircuitState.OPEN


@pytest.mark.parametrize("first", [0, 1], ids=["never failed", "failed once"])
async def test_slowness_alone_opens(first):
    """Where answers begin too late the circuit opens though each is right."""
    world, inner = World(), App()
    app = world.stack(inner, policy=SLOW)
    inner.fails()
    for _ in range(first):
        await request(app)
    inner.works()
    inner.clock, inner.seconds = world.clock, 2.0
    for _ in range(2 - first):
        assert (await request(app)).status == 200
    assert world.state() is CircuitState.OPEN
    assert (await request(app)).status == 503
    world.clock.move(10.0)
    inner.seconds = 1.9
    assert (await request(app)).status == 200
    assert world.state() is CircuitState.CLOSED


async def test_a_long_stream_is_not_slow():
    """Slowness is the time to the first byte."""
    world = World()

    async def stream(scope, receive, send):
        await send(START)
        world.clock.move(100.0)
        await send(END)

    app = world.stack(stream, policy=SLOW)
    for _ in range(5):
        await request(app)
    assert world.state() in (None, CircuitState.CLOSED)


async def test_a_policys_action_opens_at_its_own_threshold():
    """CIRCUIT_BREAK acts: so many failures in a row open, beside the rates."""
    info = ErrorInfo(
        ErrorType.MODEL,
        ErrorSeverity.HIGH,
        ErrorAction.CIRCUIT_BREAK,
        circuit_break_threshold=3,
        status_code=503,
    )
    world, inner = World(policies={ErrorType.MODEL: info}), App()
    app = world.stack(inner, policy=None)
    inner.fails(PublicError("no", error_type=ErrorType.MODEL))
    for number in range(3):
        assert world.state() is not CircuitState.OPEN, number
        await request(app)
    assert world.state() is CircuitState.OPEN


@pytest.mark.parametrize("action", [ErrorAction.LOG, ErrorAction.ALERT, ErrorAction.RETRY])
async def test_other_actions_leave_it_to_the_rates(action):
    """Without that action a threshold is the business of the tracker's breaker alone."""
    info = ErrorInfo(
        ErrorType.MODEL, ErrorSeverity.HIGH, action, circuit_break_threshold=2, status_code=503
    )
    world, inner = World(policies={ErrorType.MODEL: info}), App()
    app = world.stack(inner, policy=None)
    inner.fails(PublicError("no", error_type=ErrorType.MODEL))
    for _ in range(19):
        await request(app)
    assert world.state() is CircuitState.CLOSED
    assert world.tracker.is_circuit_broken(ErrorType.MODEL)


async def test_successes_interrupt_a_run():
    """Failures in a row are counted from the last success."""
    world, inner = World(), App()
    app = world.stack(inner)
    for _ in range(10):
        inner.fails()
        await request(app)
        inner.works()
        assert (await request(app)).status == 200
    assert world.state() is CircuitState.CLOSED


# Half-open


async def test_so_many_probes_are_let_through_at_once():
    """Of a crowd that comes to a half-open circuit exactly N reach the app."""
    policy = CircuitPolicy(
        failure_rate_threshold=None,
        consecutive_failures=1,
        max_concurrent_probes=3,
        successes_to_close=3,
        jitter=0.0,
    )
    world, inner = World(), App()
    gate, asked = asyncio.Event(), []

    async def slow(scope, receive, send):
        if inner.exc:
            raise inner.exc
        asked.append(scope)
        await gate.wait()
        await inner(scope, receive, send)

    app = world.stack(slow, policy=policy)
    await break_it(app, inner, times=1)
    world.clock.move(10.0)
    inner.works()
    tasks = [asyncio.create_task(request(app)) for _ in range(50)]
    for _ in range(5):
        await asyncio.sleep(0)
    assert len(asked) == 3
    gate.set()
    replies = await asyncio.gather(*tasks)
    assert [r.status for r in replies].count(200) == 3
    assert [r.status for r in replies].count(503) == 47
    assert world.state() is CircuitState.CLOSED
    probes = [line for line in world.said() if line.get("circuit_probe")]
    assert len({line["request_id"] for line in probes}) == 3


async def test_an_open_stream_holds_its_probe():
    """A stream is judged at its end: until then nobody else may try; failing late opens again."""
    world, inner = World(), App()
    gate = asyncio.Event()

    async def stream(scope, receive, send):
        await send(START)
        await send(PIECE)
        await gate.wait()
        raise ValueError("late")

    async def app(scope, receive, send):
        await (inner if inner.exc else stream)(scope, receive, send)

    kit = world.stack(app)
    await break_it(kit, inner)
    inner.exc = None
    world.clock.move(10.0)
    probe = asyncio.create_task(request(kit))
    await asyncio.sleep(0)
    assert (await request(kit)).status == 503
    assert world.state() is CircuitState.HALF_OPEN
    gate.set()
    assert isinstance((await probe).raised, ValueError)
    assert world.state() is CircuitState.OPEN


async def test_a_probe_that_is_never_heard_of_makes_room():
    """After probe_seconds another may try; what comes of the first then is too late to count."""
    world, inner, gate = World(), App(), asyncio.Event()

    async def app(scope, receive, send):
        if scope["path"] == "/hang":
            await gate.wait()
            raise ValueError("late")
        await inner(scope, receive, send)

    kit = world.stack(app, key=lambda scope: "one")
    await break_it(kit, inner)
    inner.works()
    world.clock.move(10.0)
    hanging = asyncio.create_task(request(kit, path="/hang"))
    await asyncio.sleep(0)
    assert (await request(kit)).status == 503
    world.clock.move(60.0)
    for _ in range(2):
        assert (await request(kit)).status == 200
    gate.set()
    await hanging
    assert world.state("one") is CircuitState.CLOSED


async def test_a_probe_that_the_client_cancels_counts_for_nothing():
    """The server cancels it: the next one may try."""
    world, inner = World(), App()

    async def app(scope, receive, send):
        if inner.exc:
            raise inner.exc
        await asyncio.sleep(60)

    kit = world.stack(app)
    await break_it(kit, inner)
    inner.exc = None
    world.clock.move(10.0)
    for _ in range(3):
        task = asyncio.create_task(kit(http_scope(), None, None))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert world.state() is CircuitState.HALF_OPEN
    assert world.tracker.circuits.get("GET /").as_dict()["probes"] == 0


@pytest.mark.parametrize("started", [False, True], ids=["before the start", "after the start"])
async def test_a_probe_that_is_timed_out_is_a_failure(started):
    """Cut off by the kit is not cancelled by the client."""
    world, inner = World(), App()

    async def app(scope, receive, send):
        if inner.exc:
            raise inner.exc
        if started:
            await send(START)
        await asyncio.sleep(60)

    kit = world.stack(app, (TimeoutMiddleware, {"total_seconds": 0.02}))
    await break_it(kit, inner)
    inner.exc = None
    world.clock.move(10.0)
    reply = await request(kit)
    assert reply.status == (200 if started else 504)
    assert world.state() is CircuitState.OPEN
    assert world.said("request_error")[-1]["outcome"] == "timeout"


@pytest.mark.parametrize("reaction", ["none", "swallows", "converts"])
async def test_being_cut_is_a_timeout_whatever_the_app_makes_of_it(reaction):
    """Its outcome and its type are those that the request has."""
    world = World()

    async def app(scope, receive, send):
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            if reaction == "none":
                raise
            if reaction == "converts":
                raise ValueError("mine") from None

    around = (TimeoutMiddleware, {"total_seconds": 0.01})
    kit = world.stack(app, around, outcomes=["timeout"], error_types=[ErrorType.TIMEOUT])
    for _ in range(2):
        assert (await request(kit)).status == 504
    assert world.state() is CircuitState.OPEN


async def test_a_client_that_left_is_no_timeout():
    """What goes on for nobody and is cut counts for nothing."""
    world = World()

    async def app(scope, receive, send):
        while (await receive())["type"] != "http.disconnect":
            pass
        await asyncio.sleep(60)

    kit = world.stack(app, (TimeoutMiddleware, {"total_seconds": 0.01}))
    for _ in range(3):
        await request(kit, leaves=True)
    assert world.said()[-1]["outcome"] == "client_disconnect"
    assert world.names == []


@pytest.mark.parametrize("framework", [False, True], ids=["raw", "starlette"])
async def test_each_attempt_of_a_retried_request_counts(framework):
    """One that fails and one that goes well: the second ends the run of the first."""
    world, inner = World(), App()
    calls = []

    def endpoint(request):
        calls.append(request)
        if len(calls) % 2:
            raise ConnectionError("x")
        return PlainTextResponse("fine")

    async def raw(scope, receive, send):
        calls.append(scope)
        inner.fails(ConnectionError("x")) if len(calls) % 2 else inner.works()
        await inner(scope, receive, send)

    app = Starlette(routes=[Route("/", endpoint)]) if framework else raw
    kit = world.stack(app, (RetryMiddleware, {"attempts": 2}))
    with instant_waits():
        for _ in range(3):
            assert (await request(kit)).status == 200
    assert len(calls) == 6
    assert world.state() is CircuitState.CLOSED
    told = world.tracker.circuits.get("GET /").as_dict()
    assert (told["calls"], told["failed"]) == (6, 3)


async def test_timeouts_open_a_circuit():
    """Requests that are always cut off are failures, of the type timeout."""
    world = World()

    async def app(scope, receive, send):
        await asyncio.sleep(60)

    kit = world.stack(app, (TimeoutMiddleware, {"total_seconds": 0.01}))
    for _ in range(2):
        assert (await request(kit)).status == 504
    reply = await request(kit)
    assert (reply.status, reply.json()["error"]["context"]["error_type"]) == (503, "timeout")


def test_timeouts_open_a_circuit_under_trio():
    """The same by trio's own cancellation."""
    inner_world = World()

    async def app(scope, receive, send):
        await trio.sleep(60)

    async def main():
        kit = inner_world.stack(app, (TimeoutMiddleware, {"total_seconds": 10.0}))
        for _ in range(2):
            assert (await request(kit)).status == 504
        return await request(kit)

    assert trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0)).status == 503


def test_a_probe_cancelled_from_outside_under_trio_counts_for_nothing():
    """Trio's Cancelled is no failure either."""
    world, inner = World(), App()

    async def app(scope, receive, send):
        if inner.exc:
            raise inner.exc
        await trio.sleep(60)

    async def main():
        kit = world.stack(app)
        await break_it(kit, inner)
        inner.exc = None
        world.clock.move(10.0)
        with trio.move_on_after(1.0):
            await kit(http_scope(), None, None)

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    assert world.state() is CircuitState.HALF_OPEN


# Which circuit


def starlette(**bad):
    """An application with templates, literals beside them, and a mount."""

    def endpoint(request):
        template = request.scope["route"].path
        if bad.get(template):
            raise ValueError(template)
        return PlainTextResponse(template)

    routes = [
        Route("/v/latest", endpoint),
        Route("/v/{id}", endpoint, methods=["GET", "POST"]),
        Route("/w/{id}", endpoint),
        Mount("/api", routes=[Route("/v/{id}", endpoint)]),
    ]
    return Starlette(routes=routes), bad


@pytest.mark.parametrize("way", ["alone", "stack", "by_hand"])
async def test_a_bad_route_closes_no_other(way):
    """Its own paths are refused, also those that were never asked for; all else goes on."""
    world = World()
    inner, bad = starlette(**{"/v/{id}": True})
    app = getattr(world, way)(inner)
    for number in range(2):
        await request(app, path=f"/v/{number}")
    assert (await request(app, path="/v/4711")).status == 503
    assert (await request(app, path="/w/1")).status == 200
    assert "GET /v/{id}" in world.names
    bad.clear()
    assert (await request(app, "POST", path="/v/1")).status == 200


@pytest.mark.parametrize("way", ["alone", "stack", "by_hand"])
async def test_a_literal_path_beside_a_bad_template_goes_on(way):
    """What was seen to be a route of its own is not taken for one of the template's paths."""
    world = World()
    inner, bad = starlette()
    app = getattr(world, way)(inner)
    await request(app, path="/v/1")
    assert (await request(app, path="/v/latest")).status == 200
    bad["/v/{id}"] = True
    for number in range(2):
        await request(app, path=f"/v/{number}")
    assert (await request(app, path="/v/7")).status == 503
    assert (await request(app, path="/v/latest")).status == 200


async def test_a_wrong_guess_is_not_counted_against_the_guessed():
    """The circuit that hears of a call is that of the route that was matched."""
    world = World()
    inner, bad = starlette(**{"/v/{id}": True})
    app = world.stack(inner)
    await request(app, path="/v/1")
    bad["/v/latest"] = True
    for _ in range(2):
        await request(app, path="/v/latest")
    assert world.state("GET /v/latest") is CircuitState.OPEN
    assert world.state("GET /v/{id}") is CircuitState.CLOSED


async def test_a_wrong_guess_closes_no_circuit():
    """A success of another route is none of the half-open circuit's."""
    world = World()
    inner, _ = starlette(**{"/v/{id}": True})
    app = world.stack(inner)
    for number in range(2):
        await request(app, path=f"/v/{number}")
    world.clock.move(10.0)
    for _ in range(5):
        assert (await request(app, path="/v/latest")).status == 200
    assert world.state("GET /v/{id}") is CircuitState.HALF_OPEN


async def test_mounts_are_told_apart():
    """The same template under another prefix is another route."""
    world = World()
    inner, bad = starlette(**{"/v/{id}": True})
    app = world.stack(inner)

    class Bad(dict):
        def get(self, key):
            return key == "/v/{id}"

    for number in range(2):
        await request(app, path=f"/v/{number}")
    bad.clear()
    assert (await request(app, path="/api/v/1")).status == 200
    assert (await request(app, path="/v/1")).status == 503


@pytest.mark.parametrize("way", ["stack", "by_hand"])
async def test_a_prefix_that_is_stripped_between_is_no_matter(way):
    """A middleware between the kit and the breaker may change the path."""
    world = World()
    inner, _ = starlette(**{"/v/{id}": True})

    class Stripping:
        def __init__(self, app):
            self.app = app

        async def __call__(self, scope, receive, send):
            await self.app({**scope, "path": scope["path"].removeprefix("/prefix")}, receive, send)

    if way == "stack":
        app = world.stack(inner, (Stripping, {}))
    else:
        breaking = CircuitBreakingMiddleware(inner, policy=SOON, error_tracker=world.tracker)
        app = ErrorHandlingMiddleware(Stripping(breaking), world.tracker, log_errors=False)
    for number in range(2):
        await request(app, path=f"/prefix/v/{number}")
    assert (await request(app, path="/prefix/v/9")).status == 503


async def test_an_app_that_changes_the_path_is_no_matter():
    """Older frameworks write into the scope while they match."""
    world = World()

    async def app(scope, receive, send):
        scope["path_template"] = "/v/{id}"
        scope["path"] = "/other"
        raise ValueError("x")

    kit = world.stack(app)
    for number in range(2):
        await request(kit, path=f"/v/{number}")
    assert (await request(kit, path="/v/9")).status == 503


@pytest.mark.parametrize("way", ["alone", "stack", "by_hand"])
async def test_unmatched_paths_make_no_circuits(way):
    """However many paths clients make up, memory is as it was."""
    world, inner = World(), App()
    inner.messages = status(404)
    if way != "alone":
        inner, _ = starlette()
    app = getattr(world, way)(inner)

    async def receive():
        return {"type": "http.request"}

    async def send(message):
        pass

    for number in range(20_000 if way == "alone" else 1_000):
        await app(http_scope(path=f"/{number}/x{number}"), receive, send)
    assert world.names == []
    known = _breaking(app)._routes._known.learned
    assert known.told + len(known.folds) == 0


def _breaking(app):
    while not isinstance(app, CircuitBreakingMiddleware):
        app = app.survival[0] if isinstance(app, ErrorKit) else app.app
    return app


@pytest.mark.parametrize("way", ["alone", "stack"])
async def test_failing_made_up_paths_are_bounded(way):
    """What fails before it is matched, on ever new paths, makes no more than a bounded number."""
    world, inner = World(max_breakers=50), App()
    app = getattr(world, way)(inner)
    inner.fails()
    for number in range(600):
        await request(app, path=f"/{'x' * (number % 7)}{'y' * (number % 200)}")
    types = {each.value for each in ErrorType}
    assert len([b for b in world.tracker.circuits.all() if b.name not in types]) <= 50
    known = _breaking(app)._routes._known.learned
    assert known.told + len(known.folds) <= 1000


async def test_numbers_in_paths_are_folded():
    """Where no template is told, segments with a digit are one."""
    world, inner = World(), App()
    app = world.alone(inner)
    await request(app, path="/v/1")
    inner.fails()
    for number in range(2):
        await request(app, path=f"/v/{number}")
    assert (await request(app, path="/v/77")).status == 503
    inner.works()
    assert (await request(app, path="/w/77")).status == 200


async def test_a_key_names_the_circuit():
    """A tenant, a model, an upstream: whatever the callable says; None is unguarded."""
    world, inner = World(), App()

    def tenant(scope):
        return dict(scope["headers"]).get(b"x-tenant", b"").decode() or None

    app = world.stack(inner, key=tenant)
    inner.fails()
    for _ in range(3):
        await request(app, headers=[(b"x-tenant", b"a")])
        await request(app)
    inner.calls = 0
    assert (await request(app, headers=[(b"x-tenant", b"a")])).status == 503
    assert (await request(app, headers=[(b"x-tenant", b"b")])).status == 500
    assert (await request(app)).status == 500
    assert inner.calls == 2
    assert world.names == ["a", "b"]


@pytest.mark.parametrize(
    "key",
    [
        lambda scope: 1 / 0,
        lambda scope: scope["nothing"],
        lambda scope: b"bytes",
        lambda scope: 7,
        lambda scope: ["unhashable"],
    ],
    ids=["raises", "missing", "bytes", "number", "list"],
)
async def test_a_broken_key_is_counted_and_lets_through(key):
    """A hook that breaks must break no request."""
    world, inner = World(), App()
    app = world.stack(inner, key=key)
    assert (await request(app)).status == 200
    inner.fails()
    for _ in range(3):
        assert (await request(app)).status == 500
    assert inner.calls == 4
    assert app.status()["survival"]["CircuitBreakingMiddleware"]["key_errors"] == 4
    assert world.names == []


async def test_routes_have_policies_of_their_own():
    """A pattern says which policy applies, or that there is no breaker."""
    world, inner = World(), App()
    lenient = CircuitPolicy(failure_rate_threshold=None, consecutive_failures=4)
    app = world.stack(inner, routes={"/health": None, "/lenient/*": lenient})
    inner.fails()
    for _ in range(3):
        for path in ("/health", "/lenient/x", "/other"):
            await request(app, path=path)
    states = {b.name: b.state.value for b in world.tracker.circuits.all() if b.name not in TYPES}
    assert states == {"GET /lenient/x": "closed", "GET /other": "open"}


async def test_metrics_only_refuses_nothing():
    """It counts and logs when it would have opened: the way to roll out."""
    world, inner = World(), App()
    policy = CircuitPolicy(
        failure_rate_threshold=None,
        consecutive_failures=2,
        initial_state=CircuitState.METRICS_ONLY,
    )
    app = world.stack(inner, policy=policy)
    inner.fails()
    for _ in range(20):
        assert (await request(app)).status == 500
    assert inner.calls == 20
    assert world.tracker.circuits.get("GET /").would_have_opened == 10


async def test_a_circuit_can_be_forced_open_by_name():
    """An operator refuses a route by hand; it has no time to tell."""
    world, inner = World(), App()
    app = world.stack(inner)
    await request(app)
    world.tracker.breaker("GET /").force_open()
    reply = await request(app)
    assert (reply.status, inner.calls) == (503, 1)
    assert int(reply.headers["retry-after"]) == 15
    world.tracker.breaker("GET /").reset()
    assert (await request(app)).status == 200


# Websockets


async def accepting(scope, receive, send):
    await receive()
    await send({"type": "websocket.accept"})
    while (await receive())["type"] == "websocket.receive":
        pass


async def failing_session(scope, receive, send):
    await receive()
    await send({"type": "websocket.accept"})
    raise ValueError("boom")


class Sessions:
    def __init__(self):
        self.calls, self.app = 0, failing_session

    async def __call__(self, scope, receive, send):
        self.calls += 1
        await self.app(scope, receive, send)


async def deny_session(app, path="/", *, extension=True):
    """A session with a server that can send a denial response, or not."""
    sent, events = [], [{"type": "websocket.connect"}]

    async def receive():
        return events.pop(0) if events else {"type": "websocket.disconnect", "code": 1006}

    async def send(message):
        sent.append(message)

    scope = http_scope(path=path, extensions={"websocket.http.response": {}} if extension else {})
    del scope["method"]
    scope.update(type="websocket", scheme="ws", subprotocols=[])
    await app(scope, receive, send)
    return sent


@pytest.mark.parametrize("way", ["alone", "stack", "by_hand"])
async def test_failing_sessions_open_the_circuit(way):
    """A session is refused before it is accepted: with 1013, which servers make a 403 of."""
    world, inner = World(), Sessions()
    app = getattr(world, way)(inner)
    for _ in range(2):
        await session(app)
    inner.calls = 0
    reply = await session(app)
    assert inner.calls == 0
    assert reply.raised is None
    assert reply.messages == [{"type": "websocket.close", "code": 1013, "reason": ""}]


@pytest.mark.parametrize("way", ["alone", "stack", "by_hand"])
async def test_a_session_is_denied_where_the_server_can(way):
    """With the extension it gets the whole problem document, and no http message."""
    world, inner = World(), Sessions()
    app = getattr(world, way)(inner)
    for _ in range(2):
        await session(app)
    start, body = await deny_session(app)
    assert (start["type"], start["status"]) == ("websocket.http.response.start", 503)
    assert b"retry-after" in dict(start["headers"])
    assert body["type"] == "websocket.http.response.body"
    assert b"CircuitBreakerError" in body["body"]
    assert not body.get("more_body")


async def test_a_refused_session_is_told_of():
    """The line of its close says circuit_open, and which circuit."""
    world, inner = World(), Sessions()
    app = world.stack(inner)
    for _ in range(2):
        await session(app)
    for extension in (False, True):
        await deny_session(app, extension=extension)
        line = world.said("websocket_close")[-1]
        assert (line["outcome"], line["circuit"]) == ("circuit_open", "websocket /")


async def test_a_client_that_left_before_the_refusal_is_sent_nothing():
    """After its disconnect nothing may be sent."""
    world, inner = World(), Sessions()
    app = world.alone(inner)
    for _ in range(2):
        await session(app)
    sent = []

    async def receive():
        return {"type": "websocket.disconnect", "code": 1006}

    async def send(message):
        sent.append(message)

    scope = http_scope()
    scope.update(type="websocket")
    await app(scope, receive, send)
    assert sent == []


@pytest.mark.parametrize("way", ["alone", "stack", "by_hand"])
async def test_sessions_that_clients_end_close_the_circuit(way):
    """A session that goes well is a success, whoever ends it: most are ended by the client."""
    world, inner = World(), Sessions()
    app = getattr(world, way)(inner)
    for _ in range(2):
        await session(app)
    inner.app = accepting
    world.clock.move(10.0)
    for _ in range(2):
        await session(app, messages=["hello"])
    assert world.state("websocket /") is CircuitState.CLOSED


async def test_sessions_that_the_app_refuses_count_for_nothing():
    """A close before the accept is what a 403 is to a request."""
    world, inner = World(), Sessions()
    app = world.stack(inner)

    async def refusing(scope, receive, send):
        await receive()
        await send({"type": "websocket.close", "code": 4003})

    inner.app = refusing
    for _ in range(5):
        await session(app)
    assert world.names == []


async def test_starlettes_sessions_have_their_route():
    """Its websocket routes are circuits too."""
    world = World()

    async def chat(websocket):
        await websocket.accept()
        raise ValueError("boom")

    app = world.stack(Starlette(routes=[WebSocketRoute("/chat/{room}", chat)]))
    for number in range(2):
        await session(app, f"/chat/{number}")
    reply = await session(app, "/chat/9")
    assert [m["type"] for m in reply.messages] == ["websocket.close"]


# What it leaves alone


@pytest.mark.parametrize("kind", ["lifespan", "mqtt", None])
async def test_other_scopes_pass(kind):
    """What is no request passes untouched, and its errors come out."""
    world, seen = World(), []
    scope = {"type": kind} if kind else {}

    async def app(scope, receive, send):
        seen.append((scope, receive, send))
        raise RuntimeError("its own")

    guarded = world.alone(app)
    for _ in range(3):
        with pytest.raises(RuntimeError, match="its own"):
            await guarded(scope, len, print)
    assert seen[-1] == (scope, len, print)
    assert world.names == []


async def test_what_the_app_returns_is_returned():
    """Servers look at it."""

    async def app(scope, receive, send):
        await send(START)
        await send(END)
        return "something"

    reply = await request(World().alone(app))
    assert reply.returned == "something"


async def test_messages_pass_as_they_are():
    """Trailers, unknown messages, and ones without a type; also of generators as headers."""
    odd = [
        {**START, "headers": ((k, v) for k, v in [(b"a", b"b")]), "trailers": True},
        {"type": "http.response.push", "path": "/x", "headers": []},
        {"what": "ever"},
        END,
        {"type": "http.response.trailers", "headers": [], "more_trailers": False},
    ]

    async def app(scope, receive, send):
        for message in odd:
            await send(message)

    sent = []

    async def send(message):
        sent.append(message)

    scope = http_scope()

    async def outer(scope, receive, send_):
        """So that the frame around it, which adds its id, is not what is looked at."""
        await breaking(scope, receive, send)

    breaking = World().alone(app)
    await ErrorKit(outer, tracker=World().tracker)(scope, None, send)
    assert all(mine is theirs for mine, theirs in zip(sent, odd, strict=False))


@pytest.mark.parametrize("odd", ["200", None, 200.0, object()], ids=shown)
async def test_odd_statuses_are_the_servers_business(odd):
    """A status that is no number must not break what would have been sent."""
    world, inner = World(), App()
    app = world.alone(inner)
    inner.messages = [{**START, "status": odd}, END]
    for _ in range(3):
        reply = await request(app)
        assert reply.raised is None


async def test_scopes_that_say_little_are_served():
    """Neither method nor path need be there, nor be text."""
    world, inner = World(), App()
    app = world.alone(inner)
    for odd in ({}, {"path": None, "method": None}, {"path": b"/x", "method": 7}):
        for fails in (False, True):
            inner.fails() if fails else inner.works()
            reply = await request(_with(app, odd))
            assert isinstance(reply.raised, ValueError) is fails


def _with(app, odd):
    async def served(scope, receive, send):
        for name in ("method", "path"):
            scope.pop(name)
        await app({**scope, **odd}, receive, send)

    return served


async def test_a_framework_whose_route_breaks_is_served():
    """Looking at what the framework wrote must not break the request."""

    class Evil:
        @property
        def path(self):
            raise RuntimeError("evil")

    async def app(scope, receive, send):
        scope["route"] = Evil()
        await send(START)
        await send(END)

    reply = await request(World().alone(app))
    assert (reply.status, reply.raised) == (200, None)


async def test_base_http_middleware_between_is_no_matter():
    """Starlette's own middlewares run the app in a task of their own."""
    world = World()

    async def passing(request, call_next):
        return await call_next(request)

    def endpoint(request):
        raise ValueError("x")

    app = world.stack(
        Starlette(
            routes=[Route("/s/{id}", endpoint)],
            middleware=[Middleware(BaseHTTPMiddleware, dispatch=passing)],
        )
    )
    for number in range(2):
        await request(app, path=f"/s/{number}")
    assert (await request(app, path="/s/9")).status == 503


async def test_it_stays_in_its_task_and_context():
    """The app runs where it would without."""
    seen = []

    async def app(scope, receive, send):
        seen.append((asyncio.current_task(), current() is not None))
        await send(START)
        await send(END)

    task = asyncio.create_task(request(World().alone(app)))
    await task
    assert seen == [(task, True)]


async def test_two_around_one_app_have_each_their_circuits():
    """By route outside, by tenant within: what the inner one refuses the outer one does not count."""
    world, inner = World(), App()
    by_tenant = world.alone(inner, key=lambda scope: "tenant")
    app = world.by_hand(by_tenant, policy=CircuitPolicy(consecutive_failures=4))
    inner.fails()
    for _ in range(10):
        await request(app)
    assert world.state("tenant") is CircuitState.OPEN
    assert world.state("GET /") is CircuitState.CLOSED
    assert inner.calls == 2


async def test_a_responder_has_the_last_word():
    """The application's own answers and headers are those of refusals too."""
    world, inner = World(), App()
    breaking = CircuitBreakingMiddleware(inner, policy=SOON, error_tracker=world.tracker)

    def responder(exchange, exc):
        return (
            (418, [(b"x-why", type(exc).__name__.encode())], b"tea") if inner.calls == 2 else None
        )

    app = ErrorHandlingMiddleware(
        breaking, world.tracker, log_errors=False, responder=responder, headers={"X-Service": "v"}
    )
    inner.fails()
    for _ in range(2):
        await request(app)
    reply = await request(app)
    assert (reply.status, reply.body) == (418, b"tea")
    assert (reply.headers["x-why"], reply.headers["x-service"]) == ("CircuitOpenError", "v")


async def test_html_is_for_browsers():
    """A refusal is a page for whoever prefers one."""
    world, inner = World(), App()
    app = world.alone(inner)
    await break_it(app, inner)
    reply = await request(app, headers=[(b"accept", b"text/html")])
    assert reply.headers["content-type"].startswith("text/html")


async def test_many_at_once_fail_once():
    """A crowd that fails together opens the circuit once."""
    world, inner = World(), App()
    changes = []
    world.tracker.circuits.add_listener(changes.append)
    gate = asyncio.Event()

    async def app(scope, receive, send):
        await gate.wait()
        raise ValueError("boom")

    kit = world.stack(app, key=lambda scope: "one")
    tasks = [asyncio.create_task(request(kit)) for _ in range(100)]
    await asyncio.sleep(0)
    gate.set()
    await asyncio.gather(*tasks)
    assert [c.now for c in changes if c.name == "one"] == [CircuitState.OPEN]
    assert inner.calls == 0


# What it is given


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"policy": 5}, TypeError),
        ({"key": "tenant"}, TypeError),
        ({"key": lambda: "no scope"}, TypeError),
        ({"routes": {"/x": 5}}, TypeError),
        ({"routes": {"x": None}}, ValueError),
        ({"outcomes": "server_error"}, TypeError),
        ({"outcomes": []}, ValueError),
        ({"outcomes": ["ok"]}, ValueError),
        ({"outcomes": ["circuit_open"]}, ValueError),
        ({"error_types": ErrorType.MODEL}, TypeError),
        ({"error_types": []}, TypeError),
        ({"error_types": ["model"]}, TypeError),
        ({"error_types": "model"}, TypeError),
        ({"error_tracker": "x"}, TypeError),
        ({"request_ids": "x"}, TypeError),
    ],
    ids=lambda value: shown(value)[:40] if isinstance(value, dict) else "",
)
def test_what_cannot_work_is_refused_at_construction(options, error):
    """An option that cannot work is told of with its name."""
    with pytest.raises(error, match=next(iter(options))):
        CircuitBreakingMiddleware(App(), **options)


async def test_an_async_key_is_refused():
    """It would name nothing."""

    async def key(scope):
        return "x"

    assert inspect.iscoroutinefunction(key)
    with pytest.raises(TypeError, match="key"):
        CircuitBreakingMiddleware(App(), key=key)


# What lasts longer than a probe may


async def lasting_stream(gate, receive, send):
    await send(START)
    await send(PIECE)
    while await gate():
        await send(PIECE)
    await send(END)


async def lasting_session(gate, receive, send):
    await receive()
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.send", "text": "tick"})
    while await gate():
        await send({"type": "websocket.send", "text": "tick"})


LASTING = pytest.mark.parametrize("kind", ["http", "websocket"])


class Lasting:
    """Fails at first; then streams, or talks, for as long as the gate lets it."""

    def __init__(self, world, kind):
        self.world, self.kind = world, kind
        self.works, self.ends, self.waits, self.exc = False, False, 0, None
        self.open, self.tasks = asyncio.Event(), []

    async def __call__(self, scope, receive, send):
        if not self.works:
            raise ValueError("boom")
        run = lasting_stream if scope["type"] == "http" else lasting_session
        await run(self.gate, receive, send)

    async def gate(self):
        self.waits += 1
        await self.open.wait()
        if self.exc:
            raise self.exc
        return not self.ends

    async def begin(self, app):
        ask = request(app) if self.kind == "http" else session(app)
        self.tasks.append(asyncio.create_task(ask))
        before = self.waits
        for _ in range(20):
            await asyncio.sleep(0)
        return self.waits > before

    async def goes_on(self):
        self.open.set()
        self.open = asyncio.Event()
        for _ in range(20):
            await asyncio.sleep(0)

    async def end(self, exc):
        self.exc = exc
        self.open.set()
        await asyncio.gather(*self.tasks, return_exceptions=True)


async def broken(world, kind, **options):
    inner = Lasting(world, kind)
    kit = world.stack(inner, **options)
    for _ in range(2):
        assert not await inner.begin(kit)
    name = "GET /" if kind == "http" else "websocket /"
    assert world.state(name) is CircuitState.OPEN
    inner.works = True
    world.clock.move(10.0)
    return inner, kit, name


@LASTING
async def test_a_probe_that_goes_on_for_longer_than_it_may_fares_well(kind):
    """Else streams and sessions of hours would keep a circuit from closing for as long."""
    world = World()
    policy = CircuitPolicy(
        failure_rate_threshold=None, consecutive_failures=2, jitter=0.0, successes_to_close=1
    )
    inner, kit, name = await broken(world, kind, policy=policy)
    assert await inner.begin(kit)
    world.clock.move(59.0)
    assert not await inner.begin(kit)
    world.clock.move(1.0)
    assert await inner.begin(kit)
    assert world.state(name) is CircuitState.CLOSED
    told = world.tracker.circuits.get(name).as_dict()
    assert (told["calls"], told["failed"], told["late"]) == (0, 0, 0)
    await inner.end(ValueError("late"))
    told = world.tracker.circuits.get(name).as_dict()
    assert (told["state"], told["error_count"]) == ("open", 2)  # they failed after all, both


async def test_a_stream_that_went_well_early_counts_once():
    world = World()
    inner, kit, name = await broken(world, "http")
    assert await inner.begin(kit)
    world.clock.move(60.0)
    assert await inner.begin(kit)
    breaker = world.tracker.circuits.get(name)
    assert (breaker.state, breaker._successes) == (CircuitState.HALF_OPEN, 1)
    inner.tasks[1].cancel()
    for _ in range(20):
        await asyncio.sleep(0)
    inner.ends = True
    await inner.goes_on()
    assert breaker.state is CircuitState.HALF_OPEN or breaker._successes == 0


# Names


async def test_a_key_named_as_a_type_of_errors_is_a_circuit_of_its_own():
    """Others' errors of that type do not refuse it, nor do its successes close the type's."""
    world, inner = World(), App()
    app = world.stack(inner, key=lambda scope: "unknown")
    for _ in range(30):
        world.tracker.record_error(ErrorType.UNKNOWN)
    assert (await request(app)).status == 200
    await break_it(app, inner)
    assert (await request(app)).status == 503
    assert world.names == ["key:unknown"]
    assert "key:unknown" in world.tracker.circuit_breakers


@pytest.mark.parametrize("key", ["\ud800", "x" * 100_000, "a\nb", ""], ids=shown)
async def test_whatever_text_is_a_key_can_be_shown_and_logged(key):
    """And is the same circuit each time."""
    world, inner = World(), App()
    app = world.stack(inner, key=lambda scope: key)
    await break_it(app, inner)
    assert (await request(app)).status == 503
    (name,) = world.names
    assert name.isprintable() and 0 < len(name) <= 200
    assert len(orjson.dumps(app.status()["breakers"])) < 10_000
    assert world.said()[-1]["circuit"] == name


async def test_keys_that_clients_make_up_push_out_no_breaker_that_code_names():
    world, inner = World(max_breakers=5), App()
    kept = world.tracker.breaker("model:sdxl")
    app = world.stack(inner, key=lambda scope: scope["path"])
    inner.fails()
    for number in range(20):
        await request(app, path=f"/{number}")
    assert world.tracker.breaker("model:sdxl") is kept
    assert world.names == ["model:sdxl", "/16", "/17", "/18", "/19"]


@pytest.mark.parametrize("options", ["routes", "policy", "key"])
async def test_what_is_forced_open_from_the_start_refuses_until_it_is_reset(options):
    """All of it, by one circuit that no path which clients make up adds to; then each route has its own."""
    world, inner = World(max_breakers=3), App("/off/{name}")
    forced = replace(SOON, initial_state=CircuitState.FORCED_OPEN)
    given = {"routes": {"/off/*": forced}} if options == "routes" else {"policy": forced}
    if options == "key":
        given["key"] = lambda scope: "tenant"
    app = world.stack(inner, **given)
    for number in range(10):
        assert (await request(app, path=f"/off/{number}")).status == 503
    assert inner.calls == 0
    name = "routes /off/*" if options == "routes" else "routes *"
    assert world.names == [name]
    world.tracker.breaker(name).reset()
    for _ in range(3):
        assert (await request(app, path="/off/x")).status == 200
    await break_it(app, inner, path="/off/x")
    assert (await request(app, path="/off/x")).status == 503
    own = "tenant" if options == "key" else "GET /off/{name}"
    assert world.state(own) is CircuitState.OPEN


async def test_what_has_no_key_is_not_refused_by_what_is_forced_open():
    world, inner = World(), App()
    forced = CircuitPolicy(initial_state=CircuitState.FORCED_OPEN)
    app = world.stack(inner, policy=forced, key=lambda scope: None)
    assert (await request(app)).status == 200


async def test_keys_that_look_like_names_of_ours_are_circuits_of_their_own():
    world, inner = World(), App()
    keys = ["model", "key:model", "key:key:model", "", "(empty)", "(unknown)"]
    app = world.stack(inner, key=lambda scope: keys[int(scope["path"][1:])])
    inner.fails()
    for number in range(len(keys)):
        await request(app, path=f"/{number}")
    assert len(set(world.names)) == len(keys)


# What comes too late


class Gates:
    """An app whose requests wait at a gate, but for "now", and then end with their status."""

    def __init__(self):
        self.gates = {}

    async def __call__(self, scope, receive, send):
        scope["path_template"] = "/x/{status}/{gate}"
        _, _, status, gate = scope["path"].split("/")
        if gate != "now":
            await self.gates.setdefault(gate, asyncio.Event()).wait()
        await send({"type": "http.response.start", "status": int(status), "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def begin(self, kit, status, gate):
        task = asyncio.create_task(request(kit, path=f"/x/{status}/{gate}"))
        for _ in range(20):
            await asyncio.sleep(0)
        return task


@pytest.mark.parametrize("is_known", [False, True], ids=["route unknown", "route known"])
@pytest.mark.parametrize("status", [200, 500])
async def test_what_began_before_the_circuit_opened_is_no_probe(is_known, status):
    """It neither takes a probe's place, nor closes nor opens the circuit."""
    world, inner = World(), Gates()
    kit = world.stack(inner, key=None)
    if is_known:
        await request(kit, path="/x/200/now")
    late = [await inner.begin(kit, status, "late") for _ in range(3)]
    for _ in range(2):
        assert (await request(kit, path="/x/500/now")).status == 500
    world.clock.move(10.0)
    probe = await inner.begin(kit, 200, "probe")
    inner.gates["late"].set()
    await asyncio.gather(*late)
    breaker = world.tracker.circuits.get("GET /x/{status}/{gate}")
    assert breaker.state is CircuitState.HALF_OPEN
    assert (breaker._successes, breaker.as_dict()["probes"]) == (0, 1)
    assert (await request(kit, path="/x/200/now")).status == 503
    inner.gates["probe"].set()
    assert (await probe).status == 200
    assert breaker._successes == 1


async def test_what_began_before_the_circuit_opened_does_not_count_when_it_has_closed_again():
    world, inner = World(), Gates()
    kit = world.stack(inner)
    await request(kit, path="/x/200/now")
    late = [await inner.begin(kit, 500, "late") for _ in range(3)]
    for _ in range(2):
        await request(kit, path="/x/500/now")
    world.clock.move(10.0)
    for _ in range(2):
        assert (await request(kit, path="/x/200/now")).status == 200
    inner.gates["late"].set()
    await asyncio.gather(*late)
    assert world.state("GET /x/{status}/{gate}") is CircuitState.CLOSED


async def test_a_stream_that_fared_well_and_fails_in_a_later_trial_opens_nothing():
    world = World()
    policy = replace(SOON, successes_to_close=1)
    inner, kit, name = await broken(world, "http", policy=policy)
    assert await inner.begin(kit)
    world.clock.move(60.0)
    assert await inner.begin(kit)
    breaker = world.tracker.circuits.get(name)
    assert breaker.state is CircuitState.CLOSED
    breaker.open()
    world.clock.move(30.0)
    assert breaker.state is CircuitState.HALF_OPEN
    await inner.end(ValueError("late"))
    assert breaker.state is CircuitState.HALF_OPEN
    assert breaker.late == 2


async def test_a_silent_session_that_goes_on_closes_the_circuit():
    """One that only receives, too: somebody asks of it when its time is up."""
    world, inner = World(), Sessions()
    app = world.stack(inner)
    for _ in range(2):
        await session(app)
    inner.app, inner.calls = accepting, 0
    world.clock.move(10.0)
    never = asyncio.Event()

    async def lasting(scope, receive, send):
        await receive()
        await send({"type": "websocket.accept"})
        await never.wait()

    inner.app = lasting
    tasks = []
    for _ in range(3):
        tasks.append(asyncio.create_task(session(app)))
        for _turn in range(20):
            await asyncio.sleep(0)
        world.clock.move(60.0)
    assert inner.calls == 3
    tasks.append(asyncio.create_task(session(app)))
    for _turn in range(20):
        await asyncio.sleep(0)
    assert world.state("websocket /") is CircuitState.CLOSED
    never.set()
    await asyncio.gather(*tasks)


async def test_what_ends_tidily_because_it_was_cut_off_has_failed():
    """An app that is told of a disconnect ends its response, which is withheld."""
    world = World()

    class Passing(BaseHTTPMiddleware):
        async def dispatch(self, request, call_next):
            return await call_next(request)

    async def endpoint(request):
        async def pieces():
            yield b"1"
            await asyncio.sleep(60)

        return StreamingResponse(pieces())

    app = Starlette(routes=[Route("/", endpoint)], middleware=[Middleware(Passing)])
    kit = world.stack(app, (TimeoutMiddleware, {"total_seconds": 0.02}))
    for _ in range(2):
        await request(kit)
    assert world.state() is CircuitState.OPEN


async def test_the_circuit_of_a_route_that_cannot_be_guessed_closes_again():
    """Nobody is asked before, but what began since it is half open tells how that fares."""
    world, inner = World(), Gates()

    async def app(scope, receive, send):
        await inner(scope, receive, send)
        scope["path_template"] = "[[odd]]{"

    kit = world.stack(app)
    for _ in range(2):
        await request(kit, path="/x/500/now")
    (name,) = world.names
    assert world.state(name) is CircuitState.OPEN
    world.clock.move(10.0)
    assert world.state(name) is CircuitState.HALF_OPEN
    for _ in range(2):
        await request(kit, path="/x/200/now")
    assert world.state(name) is CircuitState.CLOSED


async def test_a_slow_trial_that_goes_on_has_not_fared_well():
    world = World()
    policy = replace(SLOW, consecutive_failures=2)
    inner, kit, name = await broken(world, "http", policy=policy)
    inner.world.clock, clock = world.clock, world.clock
    slow_start = inner.__class__.__call__

    async def starts_late(self, scope, receive, send):
        clock.move(3.0)
        await slow_start(self, scope, receive, send)

    inner.__class__ = type("Late", (Lasting,), {"__call__": starts_late})
    assert await inner.begin(kit)
    world.clock.move(60.0)
    assert await inner.begin(kit)
    assert world.state(name) is CircuitState.HALF_OPEN
    await inner.end(asyncio.CancelledError())


async def test_a_trial_whose_background_work_goes_on_has_fared_well():
    """Its response was complete; and should that work fail, it counts yet."""
    world, inner = World(), App()
    never = asyncio.Event()

    async def app(scope, receive, send):
        await inner(scope, receive, send)
        if not inner.exc and inner.messages[0].get("status") == 200:
            await never.wait()

    kit = world.stack(app, policy=replace(SOON, successes_to_close=1))
    await break_it(kit, inner)
    inner.works()
    world.clock.move(10.0)
    tasks = []
    for _ in range(2):
        tasks.append(asyncio.create_task(request(kit)))
        for _turn in range(20):
            await asyncio.sleep(0)
        world.clock.move(60.0)
    assert world.state() is CircuitState.CLOSED
    never.set()
    await asyncio.gather(*tasks)


async def test_a_gate_that_is_opened_by_hand_lets_through_when_its_time_is_up():
    world, inner = World(), App()
    forced = CircuitPolicy(initial_state=CircuitState.FORCED_OPEN, jitter=0.0)
    app = world.stack(inner, routes={"/old/*": forced})
    gate = world.tracker.breaker("routes /old/*")
    gate.reset()
    gate.open()
    assert (await request(app, path="/old/1")).status == 503
    world.clock.move(10.0)
    for _ in range(3):
        assert (await request(app, path="/old/1")).status == 200


async def test_a_key_that_is_named_as_a_gate_is_a_circuit_of_its_own():
    world, inner = World(), App()
    app = world.stack(inner, key=lambda scope: "routes /old/*")
    await break_it(app, inner)
    assert world.names == ["key:routes /old/*"]


async def test_successes_that_began_before_the_first_failure_count_too():
    """Of many in flight when the first one fails, those that go well are not forgotten."""
    world, inner = World(), Gates()
    policy = CircuitPolicy(minimum_number_of_calls=10)
    kit = world.stack(inner, policy=policy)
    await request(kit, path="/x/200/now")
    failing = [await inner.begin(kit, 500, "a") for _ in range(4)]
    well = [await inner.begin(kit, 200, "b") for _ in range(30)]
    await request(kit, path="/x/500/now")
    inner.gates["b"].set()
    await asyncio.gather(*well)
    inner.gates["a"].set()
    await asyncio.gather(*failing)
    told = world.tracker.circuits.get("GET /x/{status}/{gate}").as_dict()
    assert (told["state"], told["calls"], told["failed"]) == ("closed", 35, 5)
