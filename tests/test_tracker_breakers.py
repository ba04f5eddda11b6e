"""The tracker's breakers: errors of a type break its circuit, and code that looks leaves it alone."""

import asyncio
import logging

import pytest
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from asgi_errorkit import (
    CircuitOpenError,
    CircuitPolicy,
    CircuitState,
    ErrorAction,
    ErrorHandlingMiddleware,
    ErrorInfo,
    ErrorSeverity,
    ErrorTracker,
    ErrorType,
    OverloadedError,
    PublicError,
    Recorder,
)
from asgi_errorkit.testing import HandClock, request, session
from asgi_errorkit.tracker import OF_ERROR_TYPES

NOON = 1_640_995_200.0
MODEL = ErrorInfo(
    error_type=ErrorType.MODEL,
    severity=ErrorSeverity.HIGH,
    action=ErrorAction.ALERT,
    alert_threshold=3,
    circuit_break_threshold=5,
)


@pytest.fixture(autouse=True)
def _quiet(caplog):
    caplog.set_level(logging.DEBUG, logger="asgi_errorkit.breaker")


class World:
    """A tracker by the hand clock whose ring nobody drains."""

    def __init__(self, **options):
        self.clock = HandClock()
        self.tracker = ErrorTracker(
            recorder=Recorder(flush_seconds=None, clock=self.clock, wall_clock=lambda: NOON),
            **options,
        )

    def app(self, app):
        return ErrorHandlingMiddleware(app, self.tracker, log_errors=False)

    def errors(self, number, error_type=ErrorType.MODEL, info=None):
        for _ in range(number):
            self.tracker.record_error(error_type, info)

    def broken(self, error_type=ErrorType.MODEL):
        return self.tracker.is_circuit_broken(error_type)


@pytest.fixture
def world():
    return World()


# The guide's way


def test_the_guides_example(world):
    """Five errors of the models break their circuit; after a while others may try; one that fails
    breaks it again, for longer."""
    for number in range(5):
        assert not world.broken(), number
        world.errors(1, info=MODEL)
    assert world.broken()
    world.clock.move(23.9)  # 30 s, give or take a fifth
    assert world.broken()
    world.clock.move(12.2)
    assert not world.broken()
    world.errors(1, info=MODEL)
    assert world.broken()
    world.clock.move(47.9)  # twice as long
    assert world.broken()
    world.clock.move(24.2)
    assert not world.broken()


def test_the_statistics_tell_of_it_as_in_the_guide(world):
    """By the type's name: since when, for how many errors, at which threshold."""
    assert world.tracker.circuit_breakers == {}
    world.errors(5, info=MODEL)
    told = world.tracker.circuit_breakers
    assert told.keys() == {"model"}
    retry_after = told["model"].pop("retry_after_seconds")
    assert 24.0 <= retry_after <= 36.0
    assert told["model"] == {
        "state": "open",
        "triggered_at": NOON,
        "error_count": 5,
        "threshold": 5,
    }
    assert world.tracker.get_error_stats()["circuit_breakers"].keys() == {"model"}
    world.clock.move(37.0)
    assert world.tracker.get_error_stats()["circuit_breakers"] == {}


@pytest.mark.parametrize("error_type", list(ErrorType), ids=lambda each: each.value)
def test_each_type_has_its_own_threshold(error_type):
    """As its policy says, and breaks no other's circuit."""
    world = World()
    threshold = world.tracker.classifier.policy(error_type).circuit_break_threshold
    world.errors(threshold - 1, error_type)
    assert not world.broken(error_type)
    world.errors(1, error_type)
    assert [each for each in ErrorType if world.broken(each)] == [error_type]


def test_a_policy_of_ones_own_has_its_threshold():
    """Whichever policy an error is told with says how many are too many."""
    world = World(policies={ErrorType.CACHE: _info(ErrorType.CACHE, 2)})
    world.errors(2, ErrorType.CACHE)
    assert world.broken(ErrorType.CACHE)
    world.errors(1, info=_info(ErrorType.MODEL, 1))
    assert world.broken()


def _info(error_type, threshold, action=ErrorAction.LOG):
    return ErrorInfo(error_type, ErrorSeverity.LOW, action, circuit_break_threshold=threshold)


@pytest.mark.parametrize(
    "info",
    [_info(ErrorType.MODEL, 0), _info(ErrorType.MODEL, 1, ErrorAction.IGNORE)],
    ids=["a threshold of 0", "ignored"],
)
def test_what_breaks_no_circuit(world, info):
    """However often it happens; and no breaker is made for it."""
    world.errors(1_000, info=info)
    assert not world.broken()
    assert world.tracker.breakers() == []


@pytest.mark.parametrize("action", [a for a in ErrorAction if a is not ErrorAction.IGNORE])
def test_any_other_action_breaks_circuits(world, action):
    """The threshold is there for all of them."""
    world.errors(2, info=_info(ErrorType.MODEL, 2, action))
    assert world.broken()


def test_errors_that_are_old_count_no_more(world):
    """Of the last minute alone."""
    for _ in range(20):
        world.errors(1, info=MODEL)
        world.clock.move(16.0)
    assert not world.broken()
    world.clock.move(61.0)
    world.errors(4, info=MODEL)
    world.clock.move(61.0)
    world.errors(1, info=MODEL)
    assert not world.broken()


def test_a_success_ends_a_run(world):
    """Whoever tells of what went well starts the count anew; of what is unknown it is no matter."""
    world.tracker.record_success(ErrorType.MODEL)
    assert world.tracker.breakers() == []
    for _ in range(10):
        world.errors(4, info=MODEL)
        world.tracker.record_success(ErrorType.MODEL)
    assert not world.broken()
    world.errors(5, info=MODEL)
    world.tracker.record_success(ErrorType.MODEL)
    assert world.broken()  # what ended before it was opened is no news


def test_successes_close_it(world):
    """While others try, three of them are enough."""
    world.errors(5, info=MODEL)
    world.clock.move(37.0)
    assert not world.broken()
    for _ in range(3):
        world.tracker.record_success(ErrorType.MODEL)
    assert world.tracker.breaker(ErrorType.MODEL).state is CircuitState.CLOSED
    world.errors(4, info=MODEL)
    assert not world.broken()


def test_silence_closes_it(world):
    """Nobody has to tell of successes: half a minute without an error will do."""
    world.errors(5, info=MODEL)
    world.clock.move(37.0)
    assert not world.broken()
    world.clock.move(31.0)
    assert world.tracker.breaker(ErrorType.MODEL).state is CircuitState.CLOSED
    world.errors(4, info=MODEL)
    assert not world.broken()


def test_asking_takes_no_probe_and_makes_nothing(world):
    """It may be asked as often as one likes, of what never failed too."""
    for _ in range(1_000):
        assert not world.broken(ErrorType.DATABASE)
    assert world.tracker.breakers() == []
    world.errors(5, info=MODEL)
    world.clock.move(37.0)
    for _ in range(1_000):
        assert not world.broken()
    told = world.tracker.breaker(ErrorType.MODEL).as_dict()
    assert (told["probes"], told["rejected"]) == (0, 0)


# What escapes requests


async def test_errors_that_escape_count_at_once(world):
    """No drain is needed: a circuit that opens too late is none."""

    async def broken(scope, receive, send):
        raise PublicError("no", error_type=ErrorType.MODEL)

    app = world.app(broken)
    for number in range(5):
        assert not world.broken(), number
        await request(app)
    assert world.broken()


async def test_an_error_after_the_start_counts(world):
    """What cuts a response short is an error of its type."""

    async def broken(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise MemoryError("full")

    for _ in range(5):
        await request(world.app(broken))
    assert world.broken(ErrorType.MEMORY)


async def test_an_error_of_a_session_counts(world):
    """A websocket's error is one like others."""

    async def broken(scope, receive, send):
        raise MemoryError("full")

    app = world.app(broken)
    for _ in range(5):
        await session(app)
    assert world.broken(ErrorType.MEMORY)


async def test_an_error_in_the_background_counts(world):
    """Of a background task, and of a task that nobody awaits."""

    def endpoint(request):
        def work():
            raise MemoryError("full")

        return PlainTextResponse("ok", background=BackgroundTask(work))

    app = world.app(Starlette(routes=[Route("/", endpoint)]))
    for _ in range(5):
        await request(app)
    assert world.broken(ErrorType.MEMORY)


async def test_a_swallowed_error_counts_once(world):
    """What a framework answers by itself and raises on is one error."""

    def endpoint(request):
        raise MemoryError("full")

    app = world.app(Starlette(routes=[Route("/", endpoint)]))
    for number in range(5):
        assert not world.broken(ErrorType.MEMORY), number
        await request(app)
    assert world.broken(ErrorType.MEMORY)


async def test_what_is_the_clients_fault_counts_for_nothing(world):
    """Raised with 4xx, answered with 4xx, or a client that has left."""
    outcomes = {
        "/public": PublicError("no", status_code=409, error_type=ErrorType.MODEL),
        "/http": HTTPException(404),
        "/gone": ConnectionResetError("gone"),
    }

    async def app(scope, receive, send):
        if scope["path"] == "/gone":
            await receive()
            await receive()
        if scope["path"] in outcomes:
            raise outcomes[scope["path"]]
        await send({"type": "http.response.start", "status": 429, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    kit = world.app(app)
    for _ in range(50):
        for path in (*outcomes, "/answered"):
            await request(kit, path=path, leaves=path == "/gone")
    assert world.tracker.breakers() == []


async def test_a_cancellation_counts_for_nothing(world):
    """Nobody's error."""

    async def app(scope, receive, send):
        raise asyncio.CancelledError

    for _ in range(50):
        await request(world.app(app))
    assert world.tracker.breakers() == []


async def test_what_the_app_handles_counts_for_nothing(world):
    """An exception with a handler of its own is no failure of the type."""

    def endpoint(request):
        raise MemoryError("full")

    def handled(request, exc):
        return PlainTextResponse("handled", 200)

    app = Starlette(routes=[Route("/", endpoint)], exception_handlers={MemoryError: handled})
    kit = world.app(app)
    for _ in range(50):
        await request(kit)
    assert world.tracker.breakers() == []


async def test_an_error_that_was_told_of_counts_once(world):
    """Recorded with its policy, then raised on, as the guide does."""

    async def app(scope, receive, send):
        try:
            raise ValueError("the model failed")
        except ValueError as exc:
            world.tracker.record_error(ErrorType.MODEL, MODEL, {"exception": exc})
            raise

    kit = world.app(app)
    for number in range(5):
        assert not world.broken(), number
        await request(kit)
    assert world.broken()
    assert [b["name"] for b in world.tracker.breakers()] == ["model"]


async def test_two_trackers_hear_each_of_its_own(world):
    """What one was told of the other learns when it escapes."""
    other = World()

    async def app(scope, receive, send):
        try:
            raise MemoryError("full")
        except MemoryError:
            other.tracker.record_error(ErrorType.MEMORY)
            raise

    kit = world.app(app)
    for _ in range(5):
        await request(kit)
    assert world.broken(ErrorType.MEMORY)
    assert other.broken(ErrorType.MEMORY)


@pytest.mark.parametrize(
    "refusal",
    [
        CircuitOpenError("model:x", retry_after_seconds=1, error_type=ErrorType.MODEL),
        OverloadedError("limit"),
    ],
    ids=["circuit open", "overloaded"],
)
async def test_refusals_count_for_nothing(world, refusal):
    """Being refused is no news of what is failing: it would keep a circuit open for ever."""

    async def app(scope, receive, send):
        raise refusal

    kit = world.app(app)
    for _ in range(50):
        await request(kit)
    assert world.tracker.breakers() == []


# Of dependencies


def test_a_dependency_has_a_breaker_by_its_name(world):
    """The same each time; its type is what stands before the colon."""
    breaker = world.tracker.breaker("model:sdxl")
    assert world.tracker.breaker("model:sdxl") is breaker
    assert (breaker.name, breaker.error_type) == ("model:sdxl", ErrorType.MODEL)
    assert breaker.policy == CircuitPolicy()
    assert not world.broken()


def test_a_types_breaker_is_the_one_that_errors_feed(world):
    """Under the type's name, with a policy for what hears of failures alone."""
    world.errors(5, info=MODEL)
    breaker = world.tracker.breaker(ErrorType.MODEL)
    assert (breaker.name, breaker.error_type) == ("model", ErrorType.MODEL)
    assert breaker.policy == OF_ERROR_TYPES
    assert breaker.is_open


def test_the_types_policy_can_be_chosen():
    """All of them have it."""
    policy = CircuitPolicy(failure_rate_threshold=None, open_seconds=1.0, jitter=0.0)
    world = World(error_type_policy=policy)
    world.errors(5, info=MODEL)
    assert world.broken()
    world.clock.move(1.0)
    assert not world.broken()


async def test_what_a_dependencys_breaker_refuses_is_answered(world):
    """The error that gets out is the guide's, with 503 and Retry-After."""
    breaker = world.tracker.breaker(
        "model:sdxl", CircuitPolicy(failure_rate_threshold=None, consecutive_failures=2, jitter=0.0)
    )

    async def app(scope, receive, send):
        async with breaker:
            raise ValueError("boom")

    kit = world.app(app)
    replies = [await request(kit) for _ in range(3)]
    assert [r.status for r in replies] == [500, 500, 503]
    reply = replies[-1]
    assert reply.headers["retry-after"] == "5"
    error = reply.json()["error"]
    assert error["type"] == "CircuitBreakerError"
    assert error["message"] == "Service temporarily unavailable due to model errors"
    assert error["context"]["threshold"] == 2
    assert b"sdxl" not in reply.body
    assert world.tracker.circuit_breakers.keys() == {"model:sdxl"}


def test_their_number_is_bounded_and_counted():
    """Ever new names leave memory as it was."""
    world = World(max_breakers=10)
    for number in range(200):
        world.tracker.breaker(f"model:{number}")
    assert len(world.tracker.breakers()) == 10
    assert world.tracker.circuits.forgotten == 190


async def test_a_types_circuit_outlives_a_crowd_of_others():
    """Names that clients make up push no type's breaker out: it stays broken, and told of."""
    world = World(max_breakers=20)
    world.errors(5, info=MODEL)
    for number in range(50):
        world.tracker.breaker(f"tenant {number}").force_open()
    assert world.broken()
    assert "model" in world.tracker.circuit_breakers
    assert "model" in [each["name"] for each in world.tracker.breakers()]


def test_a_dependency_is_not_named_as_a_type_is(world):
    """It would be the type's breaker, which hears of each error that gets out: a second time."""
    with pytest.raises(ValueError, match=r'ErrorType\.MODEL.*"model:sdxl"'):
        world.tracker.breaker("model")


def test_all_of_them_are_plain_data(world):
    """As an endpoint or a page would show them."""
    import orjson

    world.errors(5, info=MODEL)
    world.tracker.breaker("x").force_open()
    told = orjson.loads(orjson.dumps(world.tracker.breakers()))
    assert [(each["name"], each["state"]) for each in told] == [
        ("model", "open"),
        ("x", "forced_open"),
    ]
    assert [each["of_error_type"] for each in told] == [True, False]
    assert orjson.dumps(world.tracker.circuit_breakers)


def test_changes_are_logged_and_listened_to(world, caplog):
    """By the logger "asgi_errorkit.breaker", and by whoever wants to know."""
    heard = []
    world.tracker.circuits.add_listener(heard.append)
    world.errors(5, info=MODEL)
    assert [(c.name, c.now, c.why) for c in heard] == [
        ("model", CircuitState.OPEN, "5 failures in a row")
    ]
    assert [r.getMessage() for r in caplog.records] == [
        "the circuit 'model' is open now: 5 failures in a row"
    ]


def test_by_hand(world):
    """An operator opens and closes the circuit of a type."""
    world.tracker.breaker(ErrorType.MODEL).force_open()
    assert world.broken()
    assert world.tracker.circuit_breakers["model"]["state"] == "forced_open"
    world.errors(50, info=MODEL)
    world.tracker.breaker(ErrorType.MODEL).reset()
    assert not world.broken()
    world.tracker.breaker(ErrorType.MODEL).disable()
    world.errors(50, info=MODEL)
    assert not world.broken()


# What it is given


@pytest.mark.parametrize("given", ["model", None, 5], ids=repr)
def test_what_is_no_type_is_refused(world, given):
    """A type's name is no type."""
    with pytest.raises(TypeError, match="error_type"):
        world.tracker.is_circuit_broken(given)


@pytest.mark.parametrize("given", [None, 5, b"x", ["x"]], ids=repr)
def test_what_is_no_name_is_refused(world, given):
    """Nothing is made of it."""
    with pytest.raises(TypeError):
        world.tracker.breaker(given)
    assert world.tracker.breakers() == []


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"error_type_policy": 5}, TypeError),
        ({"max_breakers": 0}, ValueError),
        ({"max_breakers": "many"}, TypeError),
    ],
    ids=repr,
)
def test_what_cannot_work_is_refused_at_construction(options, error):
    """With its name."""
    with pytest.raises(error, match=next(iter(options))):
        ErrorTracker(**options)
