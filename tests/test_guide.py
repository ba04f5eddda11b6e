"""Every example of the original guide, in its order, written in this package's API."""

import dataclasses
import sqlite3
from asyncio import sleep

import httpx
import pytest
from fastapi import FastAPI, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException as StarletteHTTPException

from asgi_errorkit import (
    CIRCUIT_CLOSED,
    CIRCUIT_HALF_OPEN,
    CIRCUIT_OPEN,
    POLICIES,
    CircuitBreakingMiddleware,
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
    PerformanceMetrics,
    PerformanceMonitoringMiddleware,
    PublicError,
    Recorder,
    Recovery,
    RequestLog,
    Retry,
    StructuredLoggingMiddleware,
)
from asgi_errorkit.classify import classify
from asgi_errorkit.process import ProcessSample
from asgi_errorkit.testing import HandClock, LogLines, instant_waits

NOON = 1_704_110_400.0  # 2024-01-01T12:00:00Z


class ModelLoadError(Exception):
    """The guide's own exception."""

    def __init__(self, model_name, message):
        super().__init__(message)
        self.model_name = model_name


class World:
    """A stack whose clocks and process figures are set by hand and whose log is read back."""

    def __init__(self):
        self.clock, self.wall, self.lines = HandClock(), HandClock(NOON), LogLines()
        self.recorder = Recorder(clock=self.clock, wall_clock=self.wall, flush_seconds=None)
        self.tracker = ErrorTracker(recorder=self.recorder)
        self.stack = MiddlewareStack(error_tracker=self.tracker)
        self.stack.add_middleware(
            StructuredLoggingMiddleware, stream=self.lines, trusted_proxies=["127.0.0.1"]
        )

    def pass_by(self, seconds):
        self.clock.move(seconds)
        self.wall.move(seconds)

    def use(self, memory_mb, cpu_percent=0.0):
        self.recorder.sampler._keep(ProcessSample(memory_mb, cpu_percent, 3, 2, None, 0.0))

    def log(self, event):
        self.recorder.flush()
        return self.lines.lines(event)


@pytest.fixture
def world():
    return World()


def client(app):
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://localhost:8000", timeout=None
    )


# Error Types and Categorization


def test_error_type_enum():
    """Thirteen types, by the guide's names and values."""
    assert {kind.name: kind.value for kind in ErrorType} == {
        "VALIDATION": "validation",
        "AUTHENTICATION": "authentication",
        "AUTHORIZATION": "authorization",
        "NOT_FOUND": "not_found",
        "RATE_LIMIT": "rate_limit",
        "TIMEOUT": "timeout",
        "DATABASE": "database",
        "CACHE": "cache",
        "EXTERNAL_SERVICE": "external_service",
        "MODEL": "model",
        "MEMORY": "memory",
        "SYSTEM": "system",
        "UNKNOWN": "unknown",
    }


def test_error_action_enum():
    """Six actions, by the guide's names and values."""
    assert {action.name: action.value for action in ErrorAction} == {
        "LOG": "log",
        "ALERT": "alert",
        "RETRY": "retry",
        "FALLBACK": "fallback",
        "CIRCUIT_BREAK": "circuit_break",
        "IGNORE": "ignore",
    }


def test_error_info_class():
    """The guide's fields in its order, with its defaults."""
    info = ErrorInfo(ErrorType.MODEL, ErrorSeverity.HIGH, ErrorAction.ALERT)
    names = [field.name for field in dataclasses.fields(ErrorInfo)]
    assert names[:8] == [
        "error_type",
        "severity",
        "action",
        "retry_count",
        "max_retries",
        "retry_delay",
        "alert_threshold",
        "circuit_break_threshold",
    ]
    assert [getattr(info, name) for name in names[3:8]] == [0, 3, 1.0, 5, 10]


# Error Tracking and Monitoring


def test_error_tracker_class(world):
    """record_error counts by type and severity; get_error_stats has each of the guide's keys."""
    for kind in (ErrorType.DATABASE, ErrorType.DATABASE, ErrorType.TIMEOUT):
        world.tracker.record_error(kind, POLICIES[kind], {"video_id": "v1"})
    stats = world.tracker.get_error_stats(window_minutes=5)
    expected = {
        "total_errors": 3,
        "errors_by_type": {"database": 2, "timeout": 1},
        "errors_by_severity": {"high": 2, "medium": 1},
        "error_rate": 3 / 5,
        "circuit_breakers": {},
        "recent_alerts": [],
    }
    assert expected.items() <= stats.items()
    world.pass_by(301)
    assert world.tracker.get_error_stats(window_minutes=5)["total_errors"] == 0


def test_circuit_breaker_implementation(world, caplog):
    """A type's circuit breaks at its policy's threshold, is told of as the guide does, and heals."""
    info = POLICIES[ErrorType.MODEL]
    for number in range(1, 2 * info.circuit_break_threshold + 1):
        world.tracker.record_error(ErrorType.MODEL, info, {})
        broken = world.tracker.is_circuit_broken(ErrorType.MODEL)
        assert broken is (number >= info.circuit_break_threshold)
        assert broken is (ErrorType.MODEL.value in world.tracker.circuit_breakers)
    assert not world.tracker.is_circuit_broken(ErrorType.CACHE)
    stats = world.tracker.get_error_stats()
    told = {"triggered_at": NOON, "error_count": 5, "threshold": 5}
    assert stats["total_errors"] == 10
    assert told.items() <= stats["circuit_breakers"]["model"].items()
    (record,) = caplog.records
    assert (record.levelname, record.name) == ("CRITICAL", "asgi_errorkit.breaker")
    world.pass_by(40.0)
    assert not world.tracker.is_circuit_broken(ErrorType.MODEL)


def test_a_threshold_of_zero_breaks_nothing(world):
    """As in the guide."""
    info = dataclasses.replace(POLICIES[ErrorType.MODEL], circuit_break_threshold=0)
    for _ in range(200):
        world.tracker.record_error(ErrorType.MODEL, info, {})
    assert not world.tracker.is_circuit_broken(ErrorType.MODEL)


# Structured Logging Middleware


def test_request_log_class():
    """The guide's fields in its order; what is known only at the end defaults to None."""
    fields = dataclasses.fields(RequestLog)
    assert [field.name for field in fields] == (
        "request_id method url client_ip user_agent start_time end_time duration status_code error "
        "error_type user_id video_id model_name request_size response_size memory_usage"
    ).split()
    assert {field.default for field in fields[6:]} == {None}


def video_api(world):
    """The guide's generating route: it takes its time and its memory, and may fail."""
    app = FastAPI()

    @app.post("/videos/generate")
    async def generate(fail: bool = False):
        if fail:
            world.pass_by(1.2)
            world.use(1024.0)
            raise ModelLoadError("stable-diffusion", "Model loading failed")
        world.pass_by(2.5)
        world.use(768.5)
        return Response(b"v" * 512)

    return world.stack.create_middleware_stack(app)


async def ask_for_a_video(app, **params):
    async with client(app) as http:
        await http.post(
            "/videos/generate",
            content=b"p" * 1024,
            params={"model_name": "stable-diffusion", "video_id": "video_456", **params},
            headers={
                "X-User-ID": "user_123",
                "User-Agent": "Mozilla/5.0",
                "X-Request-ID": "550e8400-e29b-41d4-a716-446655440000",
            },
        )


START_KEYS = (
    "event request_id method url client_ip user_agent timestamp user_id video_id model_name "
    "request_size"
).split()
COMPLETE_KEYS = (
    "event request_id method url duration status_code timestamp response_size memory_usage"
).split()
ERROR_KEYS = (
    "event request_id method url duration error error_type timestamp memory_usage"
).split()

SAME = {
    "request_id": "550e8400-e29b-41d4-a716-446655440000",
    "method": "POST",
    "url": "http://localhost:8000/videos/generate?model_name=stable-diffusion&video_id=video_456",
}


def of(keys, line):
    return {key: line[key] for key in keys}


async def test_request_start_log(world):
    """Every key of the guide's example; the user's id is believed of a trusted proxy alone."""
    await ask_for_a_video(video_api(world))
    (line,) = world.log("request_start")
    assert of(START_KEYS, line) == SAME | {
        "event": "request_start",
        "client_ip": "127.0.0.1",
        "user_agent": "Mozilla/5.0",
        "timestamp": "2024-01-01T12:00:00.000000Z",
        "user_id": "user_123",
        "video_id": "video_456",
        "model_name": "stable-diffusion",
        "request_size": 1024,
    }


async def test_request_completion_log(world):
    """Every key of the guide's example; times are UTC and say so."""
    await ask_for_a_video(video_api(world))
    (line,) = world.log("request_complete")
    assert of(COMPLETE_KEYS, line) == SAME | {
        "event": "request_complete",
        "duration": 2.5,
        "status_code": 200,
        "timestamp": "2024-01-01T12:00:02.500000Z",
        "response_size": 512,
        "memory_usage": 768.5,
    }


async def test_request_error_log(world):
    """Every key of the guide's example."""
    await ask_for_a_video(video_api(world), fail="true")
    (line,) = world.log("request_error")
    assert line["timestamp"].startswith("2024-01-01T12:00:01.") and line["timestamp"].endswith("Z")
    assert of(ERROR_KEYS, line) == {
        "event": "request_error",
        "request_id": SAME["request_id"],
        "method": "POST",
        "url": SAME["url"] + "&fail=true",
        "duration": pytest.approx(1.2, abs=2e-6),
        "error": "Model loading failed",
        "error_type": "ModelLoadError",
        "timestamp": line["timestamp"],
        "memory_usage": 1024.0,
    }


# Error Handling Middleware


def raising(exc):
    async def app(scope, receive, send):
        raise exc

    return app


async def test_error_handling_middleware():
    """With the guide's argument: the error is classified, recorded with its context, answered."""
    tracker = ErrorTracker(recorder=Recorder(flush_seconds=None))
    app = ErrorHandlingMiddleware(raising(MemoryError("out")), error_tracker=tracker)
    async with client(app) as http:
        response = await http.get("/videos/v1", headers={"X-Request-ID": "r1"})
    assert response.status_code == 503
    assert tracker.get_error_stats()["errors_by_type"] == {"memory": 1}
    (group,) = tracker.groups()
    sample = group.sample
    assert (sample["request_id"], sample["method"], sample["path"]) == ("r1", "GET", "/videos/v1")


def invalid_request():
    return RequestValidationError([{"type": "missing", "loc": ("body",), "msg": "Field required"}])


@pytest.mark.parametrize(
    ("exc", "kind"),
    [
        (invalid_request(), ErrorType.VALIDATION),
        (TimeoutError(), ErrorType.TIMEOUT),
        (MemoryError(), ErrorType.MEMORY),
        (ConnectionError(), ErrorType.EXTERNAL_SERVICE),
        (ConnectionResetError(), ErrorType.EXTERNAL_SERVICE),
    ],
    ids=repr,
)
def test_error_type_mapping(exc, kind):
    """The guide's table, and by inheritance, which the guide's look-up of the exact type misses."""
    assert classify(exc) is kind


@pytest.mark.parametrize(
    ("exc", "kind"),
    [
        (StarletteHTTPException(404), ErrorType.NOT_FOUND),
        (StarletteHTTPException(401), ErrorType.AUTHENTICATION),
        (StarletteHTTPException(429), ErrorType.RATE_LIMIT),
        (PublicError("No GPU is free.", error_type=ErrorType.MODEL), ErrorType.MODEL),
        (PublicError("Who?", error_type=ErrorType.AUTHENTICATION), ErrorType.AUTHENTICATION),
    ],
    ids=repr,
)
def test_http_exceptions_are_told_apart(exc, kind):
    """Otherwise than in the guide, where every one of them is SYSTEM."""
    assert classify(exc) is kind


PATTERNS = {
    "timeout": ("Request timeout after 30 s", ErrorType.TIMEOUT),
    "timed out": ("Upload timed out", ErrorType.TIMEOUT),
    "memory": ("Not enough memory for 512 frames", ErrorType.MEMORY),
    "out of memory": ("CUDA out of memory. Tried to allocate 2.00 GiB", ErrorType.MEMORY),
    "database": ("Database is locked", ErrorType.DATABASE),
    "sql": ("SQL statement failed", ErrorType.DATABASE),
    "cache": ("Cache write failed", ErrorType.CACHE),
    "redis": ("Redis is loading the dataset", ErrorType.CACHE),
    "model": ("Failed to load model stable-diffusion", ErrorType.MODEL),
    "inference": ("Inference failed at step 12", ErrorType.MODEL),
    "gpu": ("No GPU available", ErrorType.MODEL),
    "not found": ("Video not found", ErrorType.NOT_FOUND),
    "missing": ("The file is missing", ErrorType.NOT_FOUND),
    "404": ("Server said: HTTP 404", ErrorType.NOT_FOUND),
    "permission": ("Permission denied for user", ErrorType.AUTHORIZATION),
    "access denied": ("Access denied to project", ErrorType.AUTHORIZATION),
    "unauthorized": ("Unauthorized", ErrorType.AUTHORIZATION),
    "rate limit": ("Rate limit exceeded", ErrorType.RATE_LIMIT),
    "too many requests": ("Too many requests", ErrorType.RATE_LIMIT),
    "validation": ("Validation failed for prompt", ErrorType.VALIDATION),
    "invalid": ("Invalid request parameter", ErrorType.VALIDATION),
    "bad request": ("Bad request", ErrorType.VALIDATION),
}


@pytest.mark.parametrize("word", PATTERNS)
def test_error_type_determination(word):
    """Each of the guide's words, in a message as people write it, tells the guide's type."""
    message, kind = PATTERNS[word]
    assert word in message.lower()
    assert classify(Exception(message)) is kind


@pytest.mark.parametrize(
    ("exc", "guide_says", "kind"),
    [
        (Exception("Connection refused"), ErrorType.DATABASE, ErrorType.EXTERNAL_SERVICE),
        (TypeError("f() missing 1 required argument: 'x'"), ErrorType.NOT_FOUND, ErrorType.UNKNOWN),
        (KeyError("memory_id"), ErrorType.MEMORY, ErrorType.UNKNOWN),
        (AttributeError("'X' has no attribute 'model'"), ErrorType.MODEL, ErrorType.UNKNOWN),
        (ValueError("bad row in sqlalchemist.csv"), ErrorType.DATABASE, ErrorType.UNKNOWN),
        (Exception("Frame 1404 dropped"), ErrorType.NOT_FOUND, ErrorType.UNKNOWN),
    ],
    ids=repr,
)
def test_the_guides_mistakes_are_not_repeated(exc, guide_says, kind):
    """A word within a word, or within a programming mistake, is no evidence."""
    assert classify(exc) is kind is not guide_says


MEDIUM, HIGH = ErrorSeverity.MEDIUM, ErrorSeverity.HIGH
STRATEGIES = {
    # The numbers: retries at most, seconds between them, errors to an alert, errors to a break.
    ErrorType.TIMEOUT: (MEDIUM, ErrorAction.RETRY, 3, 2.0, 10, 10),
    ErrorType.MEMORY: (HIGH, ErrorAction.ALERT, 3, 1.0, 3, 5),
    ErrorType.DATABASE: (HIGH, ErrorAction.RETRY, 5, 1.0, 5, 10),
    ErrorType.CACHE: (MEDIUM, ErrorAction.FALLBACK, 3, 1.0, 10, 10),
    ErrorType.MODEL: (HIGH, ErrorAction.ALERT, 3, 1.0, 3, 5),
    ErrorType.EXTERNAL_SERVICE: (HIGH, ErrorAction.RETRY, 3, 5.0, 5, 10),
}
EVERY_OTHER = (MEDIUM, ErrorAction.LOG, 3, 1.0, 20, 10)


@pytest.mark.parametrize("kind", ErrorType, ids=lambda kind: kind.value)
def test_error_handling_strategies(kind):
    """The guide's policy for each type, value by value."""
    info = POLICIES[kind]
    assert info.error_type is kind and info.retry_count == 0
    assert (
        info.severity,
        info.action,
        info.max_retries,
        info.retry_delay,
        info.alert_threshold,
        info.circuit_break_threshold,
    ) == STRATEGIES.get(kind, EVERY_OTHER)


# Performance Monitoring Middleware


def test_performance_metrics_class():
    """The guide's fields in its order."""
    fields = dataclasses.fields(PerformanceMetrics)
    assert [field.name for field in fields] == (
        "request_id method url duration memory_before memory_after memory_delta cpu_usage "
        "status_code error timestamp"
    ).split()
    assert fields[9].default is None


async def test_performance_monitoring_middleware(world):
    """The guide's attributes, and one metric a request, errors with status 500 among them."""
    app = video_api(world)
    monitor = app.performance
    world.use(700.0, 12.5)
    await ask_for_a_video(app)
    await ask_for_a_video(app, fail="true")
    first, second = monitor.metrics
    assert (monitor.max_metrics, monitor.slow_request_threshold) == (1000, 5.0)
    assert monitor.high_memory_threshold == 1024
    assert (first.method, first.status_code, first.error) == ("POST", 200, None)
    assert (first.duration, first.memory_before, first.memory_after) == (2.5, 700.0, 768.5)
    assert (first.memory_delta, first.timestamp) == (68.5, NOON + 2.5)
    assert first.request_id == SAME["request_id"] and "/videos/generate" in first.url
    assert (second.status_code, second.error) == (503, "Model loading failed")


async def test_performance_issue_detection(world, caplog):
    """Slow, growing and high: each of the guide's three warnings is logged."""
    app = FastAPI()

    @app.get("/videos/long")
    async def long():
        world.pass_by(6.0)
        world.use(1100.0)

    world.use(900.0)
    async with client(world.stack.create_middleware_stack(app)) as http:
        await http.get("/videos/long")
    world.recorder.flush()
    assert [record.levelname for record in caplog.records] == ["WARNING"] * 3
    slow, grown, high = (record.getMessage() for record in caplog.records)
    assert slow.startswith("Slow request: 6.00 s for GET /videos/long")
    assert grown.startswith("Memory grew by 200.0 MB")
    assert high.startswith("High memory usage: 1100.0 MB")


async def test_get_performance_stats(world):
    """Each of the guide's keys, and its message when there is nothing to tell."""
    app = video_api(world)
    assert world.stack.get_performance_stats()["message"] == "No metrics available"
    world.use(700.0, 50.0)
    await ask_for_a_video(app)
    await ask_for_a_video(app, fail="true")
    stats = app.get_performance_stats(window_minutes=5)
    expected = {
        "total_requests": 2,
        "avg_duration": pytest.approx(1.85),
        "max_duration": pytest.approx(2.5),
        "min_duration": pytest.approx(1.2),
        "avg_memory_delta": pytest.approx((68.5 + 255.5) / 2),
        "max_memory_delta": pytest.approx(255.5),
        "avg_cpu_usage": 0.0,  # what video_api sets with the memory
        "max_cpu_usage": 0.0,
        "slow_requests": 0,
        "high_memory_requests": 1,
    }
    assert of(expected, stats) == expected


# Circuit Breaker Patterns


class CircuitBreakerExample:
    """The guide's class."""

    def __init__(self, tracker):
        self.error_tracker = tracker
        self.request_count = 0

    async def process_video(self, video_id):
        if self.error_tracker.is_circuit_broken(ErrorType.MODEL):
            return {
                "error": "Service temporarily unavailable due to model errors",
                "status": "circuit_broken",
                "video_id": video_id,
            }
        try:
            self.request_count += 1
            if self.request_count % 3 == 0:
                raise ModelLoadError("stable-diffusion", "Model loading failed")
            await sleep(0)
        except Exception as exc:
            error_info = ErrorInfo(
                error_type=ErrorType.MODEL,
                severity=ErrorSeverity.HIGH,
                action=ErrorAction.ALERT,
                alert_threshold=3,
                circuit_break_threshold=5,
            )
            context = {
                "video_id": video_id,
                "request_count": self.request_count,
                "error_type": exc.__class__.__name__,
            }
            self.error_tracker.record_error(ErrorType.MODEL, error_info, context)
            raise
        return {"video_id": video_id, "status": "processed", "processing_time": 1.0}


async def test_circuit_breaker_example(world):
    """Recorded, then raised on: the error that also escapes the request is counted once."""
    example, app = CircuitBreakerExample(world.tracker), FastAPI()
    app.get("/videos/{video_id}")(example.process_video)
    async with client(world.stack.create_middleware_stack(app)) as http:
        statuses = [(await http.get(f"/videos/v{n}")).status_code for n in range(1, 7)]
    assert statuses == [200, 200, 503, 200, 200, 503]
    stats = world.tracker.get_error_stats()
    assert (stats["total_errors"], stats["failed_requests"]) == (2, 2)
    assert (stats["errors_by_type"], stats["circuit_breakers"]) == ({"model": 2}, {})
    (group,) = world.tracker.groups()
    assert group.count == 2
    assert group.sample["context"] == {
        "video_id": "v6",
        "request_count": 6,
        "error_type": "ModelLoadError",
    }


async def test_circuit_breaker_example_when_broken(world):
    """Fifteen videos, of which each third fails: the fifth failure breaks it, and it is left alone."""
    example, app = CircuitBreakerExample(world.tracker), FastAPI()
    app.get("/videos/{video_id}")(example.process_video)
    async with client(world.stack.create_middleware_stack(app)) as http:
        answers = [await http.get(f"/videos/v{n}") for n in range(1, 19)]
    assert [answer.status_code for answer in answers[:15]] == [200, 200, 503] * 5
    assert [answer.json()["status"] for answer in answers[15:]] == ["circuit_broken"] * 3
    assert example.request_count == 15


def test_circuit_breaker_states():
    """The guide's three names are the values of the states."""
    names = (CIRCUIT_CLOSED, CIRCUIT_OPEN, CIRCUIT_HALF_OPEN)
    assert names == ("closed", "open", "half_open")
    assert [CircuitState(name) for name in names] == [
        CircuitState.CLOSED,
        CircuitState.OPEN,
        CircuitState.HALF_OPEN,
    ]


async def test_circuit_breaker_response(world):
    """What an open circuit refuses is answered with the guide's object, and when to come again."""
    world.stack.add_middleware(
        CircuitBreakingMiddleware,
        policy=CircuitPolicy(consecutive_failures=2, open_seconds=30, jitter=0),
    )
    failing = raising(ModelLoadError("stable-diffusion", "Model loading failed"))
    async with client(world.stack.create_middleware_stack(failing)) as http:
        statuses = [(await http.get("/videos/v1")).status_code for _ in range(2)]
        response = await http.get("/videos/v1")
    assert statuses == [503, 503]
    told = {"triggered_at": NOON, "error_count": 2, "threshold": 2}
    error = response.json()["error"]
    assert error["type"] == "CircuitBreakerError"
    assert list(error) == ("type message category severity status_code timestamp context".split())
    assert error["message"] == "Service temporarily unavailable due to model errors"
    assert (error["category"], error["severity"]) == ("system_error", "high")
    assert (error["status_code"], error["timestamp"]) == (503, NOON)
    assert {"error_type": "model", **told}.items() <= error["context"].items()
    assert response.headers["retry-after"] == "30"


# Alerting and Monitoring


async def test_alert_system(world):
    """More than five errors within the minute make a rate of more than five, from the sixth on."""
    alerts = []
    for number in range(1, 11):
        error_info = ErrorInfo(
            error_type=ErrorType.MODEL,
            severity=ErrorSeverity.HIGH,
            action=ErrorAction.ALERT,
            alert_threshold=5,
        )
        world.tracker.record_error(ErrorType.MODEL, error_info, {"error_count": number})
        stats = world.tracker.get_error_stats(window_minutes=1)
        assert bool(stats["alerts_due"]) is (number >= 5)
        if stats["error_rate"] > 5:
            alerts.append(f"Error rate is {stats['error_rate']:.2f} errors/minute")
        world.pass_by(0.1)
    assert len(alerts) == 5
    assert (alerts[0], alerts[-1]) == (
        "Error rate is 6.00 errors/minute",
        "Error rate is 10.00 errors/minute",
    )
    world.pass_by(61.0)
    assert world.tracker.get_error_stats(window_minutes=1)["error_rate"] == 0


# Middleware Stack


async def test_middleware_stack_class():
    """The guide's three defaults are added; errors are counted by the stack's own tracker."""
    stack = MiddlewareStack(error_tracker=ErrorTracker(recorder=Recorder(flush_seconds=None)))
    stack.add_middleware(StructuredLoggingMiddleware, log_level="INFO", stream=LogLines())
    app = stack.create_middleware_stack(raising(TimeoutError()))
    assert [cls for cls, _ in stack.middleware_stack] == [
        StructuredLoggingMiddleware,
        ErrorHandlingMiddleware,
        PerformanceMonitoringMiddleware,
    ]
    async with client(app) as http:
        assert (await http.get("/")).status_code == 504
    assert stack.get_error_stats() == stack.error_tracker.get_error_stats()
    assert stack.get_error_stats()["total_errors"] == 1


def create_app_with_middleware(stack):
    """The guide's function, in the order that works: the routes first, the stack around them."""
    app = FastAPI(title="AI Video API with Middleware")
    app.state.middleware_stack = stack

    @app.get("/health")
    async def health_check():
        return {"status": "healthy"}

    @app.get("/errors/stats")
    async def get_error_stats():
        return stack.get_error_stats()

    @app.get("/performance/stats")
    async def get_performance_stats():
        return stack.get_performance_stats()

    @app.get("/videos/{video_id}")
    async def get_video(video_id: str):
        raise {
            "error_video": PublicError("Invalid video id.", error_type=ErrorType.VALIDATION),
            "memory_video": MemoryError("Insufficient memory for video"),
            "database_video": sqlite3.OperationalError("unable to open database file"),
            "model_video": ModelLoadError("stable-diffusion", "Model loading failed"),
        }[video_id]

    return stack.create_middleware_stack(app)


async def test_fastapi_integration(world):
    """Built in the right order, routes reach the stack, and what is around reaches the app."""
    app = create_app_with_middleware(world.stack)
    assert app.app.state.middleware_stack is world.stack
    async with client(app) as http:
        assert (await http.get("/health")).json() == {"status": "healthy"}
        assert (await http.get("/errors/stats")).json()["total_requests"] == 1
        assert (await http.get("/performance/stats")).json()["total_requests"] == 2


@pytest.mark.parametrize("mistake", ["state", "get"])
def test_the_guides_order_is_told_to_be_a_mistake(world, mistake):
    """The guide goes on with the wrapped app as if it were FastAPI: the error says what to do."""
    app = world.stack.create_middleware_stack(FastAPI())
    with pytest.raises(AttributeError, match=r"before you wrap it.*or reach it as \.app\."):
        getattr(app, mistake)


# Best Practices


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ("gateway timeout", ErrorType.TIMEOUT),
        ("out of memory", ErrorType.MEMORY),
        ("database unavailable", ErrorType.DATABASE),
        ("something else", ErrorType.UNKNOWN),
    ],
)
def test_error_categorization(message, kind):
    """Type first, then words, then UNKNOWN; a type that is known is not outvoted by words."""
    assert classify(Exception(message)) is kind
    assert classify(TimeoutError(message)) is ErrorType.TIMEOUT


@pytest.mark.parametrize(("alert", "circuit_break"), [(3, 5), (1, 2)], ids=["good", "aggressive"])
def test_circuit_breaker_configuration(world, alert, circuit_break):
    """Thresholds are the user's to choose; what is due for an alert follows them."""
    info = ErrorInfo(
        error_type=ErrorType.MODEL,
        severity=ErrorSeverity.HIGH,
        action=ErrorAction.ALERT,
        alert_threshold=alert,
        circuit_break_threshold=circuit_break,
    )
    for number in range(1, 5):
        world.tracker.record_error(ErrorType.MODEL, info, {})
        assert bool(world.tracker.get_error_stats()["alerts_due"]) is (number >= alert)


async def test_performance_monitoring_of_the_cpu(world, caplog):
    """The guide's fourth warning: more than 80 % of CPU."""
    world.use(100.0, 81.0)
    async with client(create_app_with_middleware(world.stack)) as http:
        await http.get("/health")
    world.recorder.flush()
    (record,) = caplog.records
    assert record.getMessage().startswith("High CPU usage: 81 %")


async def test_structured_logging_with_context(world):
    """A start line has the guide's context, as JSON with names and never as a sentence."""
    await ask_for_a_video(video_api(world))
    (line,) = world.log("request_start")
    assert line.keys() >= set(START_KEYS)


@pytest.mark.parametrize(("failures", "status"), [(0, 200), (1, 200), (2, 200), (3, 200), (4, 503)])
async def test_error_recovery(world, failures, status):
    """The primary with its retries, then the fallback with its own; when both fail, one error."""
    app, calls = FastAPI(), []

    def operation(name):
        async def process(video_id):
            calls.append(name)
            if len(calls) <= failures:
                raise ModelLoadError("stable-diffusion", f"Model loading failed for {video_id}")

        return process

    names = ("generate", "fallback_generate")
    recovery = Recovery(
        {name: operation(name) for name in names}, retry=Retry(on=ModelLoadError, attempts=2)
    )

    @app.get("/generate")
    async def generate():
        await recovery.process_with_recovery("generate", "v1")

    with instant_waits():
        async with client(world.stack.create_middleware_stack(app)) as http:
            assert (await http.get("/generate")).status_code == status
    assert calls == [name for name in names for _ in range(2)][: failures + 1]
    assert world.tracker.get_error_stats()["total_errors"] == (status != 200)


# Examples


async def test_complete_error_handling_system(world):
    """The guide's whole: recorded as SYSTEM with its context, raised on, told by status()."""
    app = FastAPI()

    @app.post("/process/{video_id}")
    async def process_video_request(video_id: str, prompt: str):
        try:
            raise ModelLoadError("stable-diffusion", "Model loading failed")
        except ModelLoadError as exc:
            error_info = ErrorInfo(
                error_type=ErrorType.SYSTEM,
                severity=ErrorSeverity.HIGH,
                action=ErrorAction.ALERT,
                alert_threshold=3,
            )
            context = {"video_id": video_id, "prompt": prompt, "error": str(exc)}
            world.tracker.record_error(ErrorType.SYSTEM, error_info, context)
            raise

    kit = world.stack.create_middleware_stack(app)
    async with client(kit) as http:
        assert (await http.post("/process/v1", params={"prompt": "a cat"})).status_code == 503
    status = kit.status()
    assert status.keys() >= {"error_stats", "alert_summary", "circuit_breakers", "timestamp"}
    assert status["error_stats"]["errors_by_type"] == {"system": 1}
    assert status["error_stats"]["errors_by_severity"] == {"high": 1}
    assert (status["circuit_breakers"], status["timestamp"]) == ({}, NOON)


async def test_the_integrated_system_recovers_step_by_step(world):
    """The model is loaded on the second try, the video made by the fallback; both are seen."""
    recovery, app, calls = Recovery(retry=Retry(on=ModelLoadError)), FastAPI(), []

    @recovery.operation("load_model")
    async def load_model(video_id):
        calls.append("load_model")
        if len(calls) == 1:
            raise ModelLoadError("stable-diffusion", "Model loading failed")
        return "loaded"

    @recovery.operation("generate_video")
    async def generate_video(video_id):
        raise ModelLoadError("stable-diffusion", "out of frames")

    @recovery.operation("generate_video_fallback")
    async def generate_video_fallback(video_id):
        return f"a small {video_id}"

    @app.post("/process/{video_id}")
    async def process_video_request(video_id: str):
        model = await recovery.process_with_retry("load_model", video_id)
        video = await recovery.process_with_fallback(
            "generate_video", "generate_video_fallback", video_id
        )
        return {"model_loading": model, "video_generation": video}

    with instant_waits():
        async with client(world.stack.create_middleware_stack(app)) as http:
            answer = (await http.post("/process/v1")).json()
    assert answer == {"model_loading": "loaded", "video_generation": "a small v1"}
    (line,) = world.log("request_complete")
    assert (line["retries"], line["fallback"]) == (1, "generate_video_fallback")
    assert world.tracker.get_error_stats()["failed_requests"] == 0


SCENARIOS = {
    "/health": (200, None, None),
    "/videos/error_video": (422, "validation", "client_error"),
    "/videos/memory_video": (503, "memory", "system_error"),
    "/videos/database_video": (503, "database", "system_error"),
    "/videos/model_video": (503, "model", "system_error"),
    "/videos": (404, "not_found", None),
}


async def test_error_scenarios(world):
    """Each of the guide's requests has its status and error object; the statistics tell them all."""
    async with client(create_app_with_middleware(world.stack)) as http:
        for path, (status, kind, category) in SCENARIOS.items():
            response = await http.get(path)
            assert response.status_code == status
            if category:
                error = response.json()["error"]
                assert (error["category"], error["context"]["error_type"]) == (category, kind)
                assert (error["status_code"], error["timestamp"]) == (status, NOON)
                assert error.keys() >= {"type", "message", "severity"}
        stats = (await http.get("/errors/stats")).json()
    kinds = [kind for _, kind, _ in SCENARIOS.values() if kind]
    assert stats["errors_by_type"] == dict.fromkeys(kinds, 1)
    assert (stats["total_errors"], stats["total_requests"], stats["failed_requests"]) == (5, 6, 3)


async def test_one_line_does_all_of_it():
    """ErrorKit(app) is the guide's whole stack: no part of it has to be named."""
    kit = ErrorKit(
        raising(MemoryError()), tracker=ErrorTracker(recorder=Recorder(flush_seconds=None))
    )
    async with client(kit) as http:
        assert (await http.get("/")).json()["error"]["severity"] == "high"
    assert kit.status()["error_stats"]["total_errors"] == 1
    assert kit.get_performance_stats()["total_requests"] == 1
