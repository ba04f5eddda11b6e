"""A request that failed before its response is run again, within its bounds, and is one request."""

import pytest
import trio
from fastapi import FastAPI
from starlette.responses import PlainTextResponse

from asgi_errorkit import (
    Answer,
    CircuitBreakingMiddleware,
    CircuitPolicy,
    ErrorAction,
    ErrorInfo,
    ErrorSeverity,
    ErrorTracker,
    ErrorType,
    FallbackMiddleware,
    MiddlewareStack,
    PublicError,
    Recorder,
    RetryBudget,
    RetryMiddleware,
    RetryPlan,
    StructuredLoggingMiddleware,
    TimeoutMiddleware,
    current,
)
from asgi_errorkit.testing import HandClock, LogLines, http_scope, instant_waits, request


class Flaky:
    """An app that fails some times, then echoes; each run is noted."""

    def __init__(self, failures, error=ConnectionError, *, status=None, started=False):
        self.failures = failures
        self.error = error
        self.status = status
        self.started = started
        self.runs = []
        self.headers = []

    async def __call__(self, scope, receive, send):
        pieces, more = [], True
        while more:
            message = await receive()
            more = message.get("more_body", False)
            pieces.append(message.get("body", b""))
        self.runs.append(b"".join(pieces))
        assert "written" not in scope
        scope["written"] = True
        if len(self.runs) <= self.failures:
            if self.started:
                await send({"type": "http.response.start", "status": 200, "headers": []})
            if self.status is None:
                raise self.error("gone")
            await self.answer(send, self.status, b"failed", self.headers)
            return
        await self.answer(send, 200, self.runs[-1], [])

    async def answer(self, send, status, body, headers):
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})


class World:
    """A stack with a retry, whose log is read back."""

    def __init__(self, app, *layers, policies=None, **options):
        self.log, self.clock = LogLines(), HandClock()
        recorder = Recorder(flush_seconds=None, clock=self.clock)
        self.tracker = ErrorTracker(recorder=recorder, policies=policies)
        stack = MiddlewareStack(error_tracker=self.tracker)
        stack.add_middleware(StructuredLoggingMiddleware, stream=self.log)
        for cls, given in layers:
            if cls is TimeoutMiddleware:
                stack.add_middleware(cls, **given)
        stack.add_middleware(RetryMiddleware, **options)
        for cls, given in layers:
            if cls is not TimeoutMiddleware:
                stack.add_middleware(cls, **given)
        self.kit = stack.create_middleware_stack(app)
        self.retrying = next(x for x in self.kit.survival if isinstance(x, RetryMiddleware))

    async def ask(self, method="GET", path="/", **given):
        with instant_waits() as self.waited:
            return await request(self.kit, method, path, **given)

    @property
    def line(self):
        self.kit.flush()
        (line,) = [each for each in self.log.lines() if each["event"] != "request_start"]
        return line


# What is not retried


@pytest.mark.parametrize("method", ["POST", "PATCH", "CONNECT"])
async def test_what_may_not_be_done_twice_is_not(method):
    app = Flaky(1)
    reply = await World(app).ask(method, body=b"x")
    assert (reply.status, len(app.runs)) == (502, 1)


async def test_an_idempotency_key_is_heeded_only_if_asked_for():
    headers = [(b"Idempotency-Key", b"8e03978e")]
    for given, runs in (({}, 1), ({"idempotency_keys": True}, 2)):
        app = Flaky(1)
        await World(app, **given).ask("POST", headers=headers)
        assert len(app.runs) == runs


@pytest.mark.parametrize("left_out", [True, False], ids=["left out", "none"])
async def test_a_scope_without_headers_has_no_idempotency_key(left_out):
    """A server may leave them out (ASGI, HTTP connection scope)."""
    app, sent = Flaky(0), []
    scope = http_scope("POST")
    del scope["headers"]
    if not left_out:
        scope["headers"] = None

    async def receive():
        return {"type": "http.request"}

    async def send(message):
        sent.append(message["type"])

    await RetryMiddleware(app, idempotency_keys=True)(scope, receive, send)
    assert sent == ["http.response.start", "http.response.body"]


@pytest.mark.parametrize(
    "error", [ValueError, MemoryError, KeyError], ids=["value", "memory", "key"]
)
async def test_an_error_whose_policy_does_not_say_so_is_not(error):
    app = Flaky(1, error)
    await World(app).ask()
    assert len(app.runs) == 1


async def test_after_the_start_everything_goes_its_way():
    app = Flaky(1, started=True)
    reply = await World(app).ask()
    assert (len(reply.starts), len(app.runs)) == (1, 1)
    assert isinstance(reply.raised, ConnectionError)


async def test_a_body_beyond_the_bound_is_not_replayed():
    app = Flaky(1)
    reply = await World(app, max_body_bytes=8).ask("PUT", body=[b"12345", b"67890"])
    assert (reply.status, app.runs) == (502, [b"1234567890"])


async def test_a_client_that_left_is_not_served_again():
    runs = []

    async def app(scope, receive, send):
        runs.append(1)
        while (await receive())["type"] != "http.disconnect":
            continue
        raise ConnectionError("gone")

    await World(app).ask(leaves=True)
    assert len(runs) == 1


async def test_a_cancellation_passes():
    runs = []

    async def app(scope, receive, send):
        runs.append(1)
        raise KeyboardInterrupt

    reply = await World(app).ask()
    assert isinstance(reply.raised, KeyboardInterrupt)
    assert len(runs) == 1


async def test_what_was_refused_further_in_is_not_retried():
    """An open circuit is there to prevent just that."""
    app = Flaky(99)
    policy = CircuitPolicy(consecutive_failures=2)
    world = World(app, (CircuitBreakingMiddleware, {"policy": policy}))
    reply = await world.ask()
    assert (reply.status, len(app.runs)) == (503, 2)
    assert world.line["outcome"] == "circuit_open"


@pytest.mark.parametrize("attempts", [1, 2, 5])
async def test_the_last_failure_is_answered_as_it_would_be(attempts):
    app = Flaky(99)
    world = World(app, attempts=attempts)
    reply = await world.ask()
    assert (reply.status, len(reply.starts), len(app.runs)) == (502, 1, attempts)
    assert world.line["outcome"] == "server_error"
    assert world.tracker.get_error_stats()["total_errors"] == attempts
    assert world.tracker.get_error_stats()["failed_requests"] == 1


async def test_the_budget_bounds_all_together():
    budget = RetryBudget(ratio=0, floor_per_second=2, clock=HandClock())
    app = Flaky(99)
    world = World(app, budget=budget)
    for _ in range(10):
        await world.ask()
    assert len(app.runs) == 12
    assert world.retrying.as_dict()["refused_by_budget"] == 10  # the first had two, then none


async def test_a_wait_beyond_the_deadline_is_not_begun():
    app = Flaky(
        99, PublicError("Later.", error_type=ErrorType.DATABASE, retry_after_seconds=30).__class__
    )
    app.error = lambda word: PublicError(
        word, error_type=ErrorType.DATABASE, retry_after_seconds=30
    )
    world = World(app, (TimeoutMiddleware, {"total_seconds": 10}))
    assert (await world.ask()).status == 503
    assert (len(app.runs), world.waited) == (1, [])


async def test_a_wait_beyond_the_time_to_the_first_byte_is_not_begun():
    """While no response has started, that is the time that is left, if it is less than the total."""
    app = Flaky(99)
    limits = {"total_seconds": 60, "first_byte_seconds": 8}
    given = {"base_seconds": 10, "max_seconds": 10, "random": lambda: 0.9}
    world = World(app, (TimeoutMiddleware, limits), **given)
    assert (await world.ask()).status == 502
    assert (len(app.runs), world.waited) == (1, [])


async def test_total_seconds_bound_the_waits():
    app = Flaky(99)
    world = World(app, base_seconds=10, max_seconds=10, total_seconds=15, random=lambda: 0.9)

    async def slow(scope, receive, send):
        world.clock.move(5)
        await app(scope, receive, send)

    world = World(slow, base_seconds=10, max_seconds=10, total_seconds=15, random=lambda: 0.9)
    await world.ask()
    assert (len(app.runs), world.waited) == (2, [9.0])


# What is


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"])
async def test_idempotent_methods_are(method):
    app = Flaky(2)
    reply = await World(app).ask(method, body=[b"one ", b"two"])
    assert (reply.status, len(reply.starts)) == (200, 1)
    assert app.runs == [b"one two"] * 3
    assert reply.body == b"one two"


async def test_it_is_one_request_with_its_attempts():
    """One record that ended well; the errors of the runs before are counted and grouped."""
    world = World(Flaky(2))
    await world.ask()
    line = world.line
    assert (line["outcome"], line["status_code"], line["event"]) == ("ok", 200, "request_complete")
    assert line["retry_attempt"] == 2
    assert line["retried_for"] == ["external_service"] * 2
    stats = world.tracker.get_error_stats()
    assert (stats["total_requests"], stats["failed_requests"]) == (1, 0)
    assert stats["errors_by_type"] == {"external_service": 2}
    (group,) = world.tracker.groups()
    assert group.count == 2
    assert world.retrying.as_dict()["recovered"] == 1


async def test_an_error_that_the_app_has_told_of_itself_is_counted_once():
    """`record_error`, then raised on and retried: one error, one group, one failure of its type."""
    runs = []

    async def app(scope, receive, send):
        runs.append(1)
        if len(runs) == 1:
            error = ConnectionError("gone")
            world.tracker.record_error(ErrorType.EXTERNAL_SERVICE, context={"exception": error})
            raise error
        await send({"type": "http.response.start", "status": 204})
        await send({"type": "http.response.body"})

    world = World(app)
    world.tracker.breaker(ErrorType.EXTERNAL_SERVICE)
    assert (await world.ask()).status == 204
    assert world.line["retried_for"] == ["external_service"]
    assert world.tracker.get_error_stats()["errors_by_type"] == {"external_service": 1}
    (group,) = world.tracker.groups()
    assert group.count == 1
    (breaker,) = [b for b in world.tracker.breakers() if b["name"] == "external_service"]
    assert breaker["failed"] == 1


async def test_of_two_errors_the_one_that_was_not_told_of_is_counted_too():
    """What was told of before is another error than what is raised."""
    runs = []

    async def app(scope, receive, send):
        runs.append(1)
        if len(runs) == 1:
            world.tracker.record_error(ErrorType.CACHE, context={"exception": KeyError("miss")})
            raise ConnectionError("gone")
        await send({"type": "http.response.start", "status": 204})
        await send({"type": "http.response.body"})

    world = World(app)
    await world.ask()
    world.kit.flush()
    told = world.tracker.get_error_stats()["errors_by_type"]
    assert told == {"cache": 1, "external_service": 1}


@pytest.mark.parametrize("status", [502, 504])
async def test_an_answer_that_tells_such_a_failure_is_dropped(status):
    app = Flaky(1, status=status)
    reply = await World(app).ask()
    assert (reply.status, reply.body, len(reply.starts)) == (200, b"", 1)


async def test_the_wait_is_of_the_policy():
    """Full jitter on its retry_delay, doubled, as often as its max_retries."""
    info = ErrorInfo(
        ErrorType.EXTERNAL_SERVICE,
        ErrorSeverity.HIGH,
        ErrorAction.RETRY,
        max_retries=3,
        retry_delay=1.0,
    )
    app = Flaky(99)
    world = World(app, policies={ErrorType.EXTERNAL_SERVICE: info}, random=lambda: 0.5)
    await world.ask()
    assert (len(app.runs), world.waited) == (4, [0.5, 1.0, 2.0])


async def test_a_retry_after_of_the_answer_is_the_least_wait():
    app = Flaky(1, status=502)
    app.headers = [(b"Retry-After", b"7")]
    world = World(app, random=lambda: 0.0)
    await world.ask()
    assert world.waited == [7.0]


async def test_types_and_routes_can_be_chosen():
    given = {
        "error_types": [ErrorType.MEMORY],
        "routes": {"/never": None, "/thrice": RetryPlan(attempts=3)},
    }
    for path, runs in (("/never", 1), ("/thrice", 3)):
        app = Flaky(99, MemoryError)
        await World(app, **given).ask(path=path)
        assert len(app.runs) == runs
    app = Flaky(1)  # whose type is not among them
    await World(app, **given).ask()
    assert len(app.runs) == 1


async def test_a_framework_that_answers_and_then_raises_is_run_again():
    """FastAPI's stock 500 is not sent before it is known whether there is another run."""
    app, runs = FastAPI(), []

    @app.put("/videos/{number}")
    async def video(number: int):
        runs.append(number)
        if len(runs) < 3:
            raise ConnectionError("gone")
        return PlainTextResponse(f"video {number}")

    world = World(app)
    reply = await world.ask("PUT", "/videos/7")
    assert (reply.status, reply.body, runs) == (200, b"video 7", [7, 7, 7])
    assert world.line["route"] == "/videos/{number}"


async def test_a_breaker_further_in_hears_of_each_run():
    app = Flaky(2)
    world = World(app, (CircuitBreakingMiddleware, {}))
    await world.ask()
    (breaker,) = [b for b in world.tracker.breakers() if b["name"].startswith("GET")]
    assert (breaker["calls"], breaker["failed"]) == (3, 2)


async def test_it_works_alone():
    app = Flaky(2)
    with instant_waits():
        reply = await request(RetryMiddleware(app), "PUT", body=b"alone")
    assert (reply.status, reply.body, len(app.runs)) == (200, b"alone", 3)


def test_it_works_under_trio():
    app = Flaky(2)

    async def main():
        with instant_waits():
            return await request(RetryMiddleware(app), "PUT", body=b"trio")

    assert trio.run(main).body == b"trio"


async def test_the_application_sees_one_exchange():
    seen = []

    async def app(scope, receive, send):
        seen.append(current())
        if len(seen) < 2:
            raise ConnectionError
        await send({"type": "http.response.start", "status": 204})
        await send({"type": "http.response.body"})

    await World(app).ask()
    assert seen[0] == seen[1]


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("attempts", 0),
        ("attempts", True),
        ("base_seconds", -1),
        ("max_seconds", float("nan")),
        ("total_seconds", 0),
        ("max_body_bytes", -1),
        ("methods", "GET"),
        ("idempotency_keys", 1),
        ("budget", 3),
        ("routes", {"/x": 3}),
        ("routes", {"x": None}),
        ("error_types", ["database"]),
        ("error_types", []),
        ("random", 0.5),
    ],
)
def test_an_option_that_cannot_work_is_refused_by_name(option, value):
    with pytest.raises((TypeError, ValueError), match=option):
        RetryMiddleware(Flaky(0), **{option: value})


async def test_what_a_fallback_answers_is_not_recovered():
    """The retry has failed; somebody further out has answered."""
    tracker = ErrorTracker(recorder=Recorder(flush_seconds=None))
    stack = MiddlewareStack(error_tracker=tracker)
    stack.add_middleware(StructuredLoggingMiddleware, stream=LogLines())
    stack.add_middleware(FallbackMiddleware, fallbacks={"*": Answer(200, [], b"instead")})
    stack.add_middleware(RetryMiddleware, attempts=2)
    kit = stack.create_middleware_stack(Flaky(99))
    with instant_waits():
        reply = await request(kit)
    assert (reply.status, reply.body) == (200, b"instead")
    told = kit.status()["survival"]["RetryMiddleware"]
    assert (told["retries"], told["recovered"]) == (1, 0)
