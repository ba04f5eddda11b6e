"""Request logs: one JSON line an event, whatever clients, apps and streams do."""

import io
import json
import logging
import re
import threading
from contextlib import contextmanager
from datetime import UTC, datetime
from enum import StrEnum

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asgi_errorkit import (
    ErrorHandlingMiddleware,
    ErrorTracker,
    ErrorType,
    FromHeader,
    FromPath,
    FromQuery,
    PublicError,
    Recorder,
    StructuredLoggingMiddleware,
    current,
    from_user,
)
from asgi_errorkit.testing import HandClock, LogLines, request, session

PROXY = ("10.0.0.1", 1234)
RFC_3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z")


async def hello(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"hello"})


async def broken(scope, receive, send):
    raise ValueError("boom")


def logged(app=hello, log_level="INFO", **options):
    """A logging middleware without a thread, and a function that reads what it has written."""
    lines = options.setdefault("stream", LogLines())
    recorder = options.setdefault("recorder", Recorder(flush_seconds=None))
    middleware = StructuredLoggingMiddleware(app, log_level, **options)

    def read(event=None):
        recorder.flush()
        return lines.lines(event)

    return middleware, read


def events(read):
    return [line["event"] for line in read()]


# What is written, and when


@pytest.mark.parametrize("app", [hello, broken], ids=["ok", "broken"])
async def test_a_request_is_its_start_and_its_end(app):
    """A start, then a completion or an error: both lines tell of the same request."""
    middleware, read = logged(app)
    await request(middleware, "GET", "/videos", query=b"page=2")
    start, end = read()
    assert (start["event"], start["level"]) == ("request_start", "INFO")
    ending = ("request_complete", "INFO") if app is hello else ("request_error", "ERROR")
    assert (end["event"], end["level"]) == ending
    for name in ("request_id", "method", "url", "client_ip", "user_agent"):
        assert start[name] == end[name]
    assert start["url"] == "http://test/videos?page=2"


async def test_an_error_tells_what_where_and_how_bad():
    """Alone, logging answers nothing: the error goes on, and 500 is what the server will send."""
    middleware, read = logged(broken)
    reply = await request(middleware)
    (line,) = read("request_error")
    assert isinstance(reply.raised, ValueError) and reply.messages == []
    assert (line["error"], line["error_type"], line["status_code"]) == ("boom", "ValueError", 500)
    assert (line["outcome"], line["error_category"]) == ("server_error", "unknown")
    assert line["error_group"] and "in broken" in line["traceback"]


async def test_times_are_rfc_3339_in_utc_and_durations_are_seconds():
    """Timestamps come from the wall clock, durations from the steady one."""
    steady, wall = HandClock(1_000.0), HandClock(1_704_110_400.0)

    async def slow(scope, receive, send):
        steady.move(0.25), wall.move(0.25)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        steady.move(2.25), wall.move(2.25)
        await send({"type": "http.response.body"})

    middleware, read = logged(
        slow, recorder=Recorder(flush_seconds=None, clock=steady, wall_clock=wall)
    )
    await request(middleware)
    wall.move(3600.0), steady.move(3600.0)
    start, end = read()
    assert RFC_3339.fullmatch(start["timestamp"]) and RFC_3339.fullmatch(end["timestamp"])
    assert datetime.fromisoformat(start["timestamp"]) == datetime(2024, 1, 1, 12, tzinfo=UTC)
    assert datetime.fromisoformat(end["timestamp"]).timestamp() == 1_704_110_402.5
    assert (end["duration"], end["time_to_first_byte"]) == (2.5, 0.25)


@pytest.mark.parametrize("announced", [True, False])
async def test_sizes_are_those_of_the_bodies(announced):
    """The request's by Content-Length, else as the app read it; the response's as it was sent."""

    async def app(scope, receive, send):
        while (await receive()).get("more_body"):
            pass
        await hello(scope, receive, send)

    middleware, read = logged(app)
    headers = [(b"content-length", b"9")] if announced else []
    await request(middleware, "POST", headers=headers, body=[b"four", b"five!"])
    (line,) = read("request_complete")
    assert (line["request_size"], line["response_size"]) == (9, 5)


async def test_the_start_of_a_long_request_is_told_while_it_runs_and_once():
    async def app(scope, receive, send):
        assert events(read) == ["request_start"]
        await hello(scope, receive, send)

    middleware, read = logged(app)
    assert (await request(middleware)).raised is None
    assert events(read) == ["request_start", "request_complete"]


async def test_a_callers_trace_is_told():
    middleware, read = logged()
    traceparent = b"00-" + b"a" * 32 + b"-" + b"b" * 16 + b"-01"
    await request(middleware, headers=[(b"traceparent", traceparent)])
    assert [(line["trace_id"], line["span_id"]) for line in read()] == [("a" * 32, "b" * 16)] * 2


# Which lines are written


@pytest.mark.parametrize(
    ("level", "ok", "failed"),
    [
        ("debug", 2, 2),
        ("INFO", 2, 2),
        ("WARNING", 0, 1),
        ("ERROR", 0, 1),
        ("CRITICAL", 0, 0),
    ],
)
async def test_the_level_decides_what_is_written(level, ok, failed):
    """Failures are of level ERROR, all else is of level INFO."""
    for app, number in ((hello, ok), (broken, failed)):
        middleware, read = logged(app, level)
        await request(middleware)
        assert len(read()) == number


@pytest.mark.parametrize("chosen", ["request_start", "request_complete", "request_error"])
async def test_only_chosen_events_are_written(chosen):
    seen = []
    for app in (hello, broken):
        middleware, read = logged(app, events=[chosen])
        await request(middleware)
        seen += events(read)
    assert seen == [chosen] * (2 if chosen == "request_start" else 1)


@pytest.mark.parametrize(
    ("path", "written"),
    [("/health", 0), ("/healthy", 2), ("/static/a.css", 0), ("/statics", 2), ("/", 2)],
)
async def test_successes_on_excluded_paths_are_not_written(path, written):
    middleware, read = logged(exclude_paths=["/health", "/static/*"])
    await request(middleware, path=path)
    assert len(read()) == written


@pytest.mark.parametrize(
    "options",
    [{"exclude_paths": ["/*"]}, {"success_sample_rate": 0.0}],
    ids=lambda o: next(iter(o)),
)
async def test_failures_are_written_whatever_is_left_out(options):
    middleware, read = logged(broken, **options)
    await request(middleware)
    assert events(read) == ["request_start", "request_error"]


async def test_a_sample_takes_a_start_with_its_completion():
    """A request is told whole or not at all, about as often as was asked, and says how often."""
    middleware, read = logged(success_sample_rate=0.25)
    for number in range(1000):
        await request(middleware, headers=[(b"x-request-id", b"%d" % number)])
    started, completed = read("request_start"), read("request_complete")
    assert [line["request_id"] for line in started] == [line["request_id"] for line in completed]
    assert 150 < len(completed) < 350
    assert {line["sample_rate"] for line in completed} == {0.25}


# Hostile input

EVIL = [
    b"\r\nGET /forged HTTP/1.1",
    b"\x1b[2J\x1b]0;owned\x07",
    b"\x00\x01\x7f",
    "\u2028\u2029\u0085".encode(),
    b"\xff\xfe\xc3\x28",
    b'","level":"INFO","event":"request_complete',
    b"\\u0000\\",
    "\ud800".encode("utf-8", "surrogatepass"),
]


def decoded(line):
    return json.loads(line)  # a reader of another kind than the writer


def whole_lines(stream):
    """Every line, however generously a reader splits lines."""
    return [decoded(line) for line in stream.getvalue().decode("utf-8").splitlines()]


@pytest.mark.parametrize("app", [hello, broken], ids=["ok", "broken"])
@pytest.mark.parametrize("evil", EVIL, ids=repr)
async def test_hostile_input_stays_within_its_line(app, evil):
    """Each event is one valid JSON document on one line, and says what really happened."""
    stream = LogLines()
    middleware, read = logged(
        app, stream=stream, fields={"own": FromHeader("x-own", trusted_only=False)}
    )
    names = (b"host", b"user-agent", b"x-own", b"x-request-id", b"traceparent", b"content-length")
    path = "/" + evil.decode("utf-8", "surrogateescape")
    await request(
        middleware,
        evil.decode("latin-1"),
        path,
        query=evil + b"&model_name=" + evil + b"&video_id=" + evil,
        headers=[(name, evil) for name in names],
        client=(evil.decode("latin-1"), 1),
        scheme=evil.decode("latin-1"),
    )
    read()
    lines = whole_lines(stream)
    assert [line["event"] for line in lines] == [
        "request_start",
        "request_complete" if app is hello else "request_error",
    ]
    assert b"\x1b" not in stream.getvalue() and b"\x00" not in stream.getvalue()


@settings(max_examples=150, deadline=None)
@given(
    path=st.text(st.characters()),
    texts=st.lists(st.binary(max_size=40), min_size=4, max_size=4),
    method=st.text(st.characters(), max_size=10),
    message=st.text(st.characters()),
)
def test_no_input_breaks_a_line(path, texts, method, message):
    """Whatever is asked and whatever is raised: two lines, each a document of its own."""

    async def app(scope, receive, send):
        scope["path_params"] = {"video_id": path}
        current().annotate(note=message)
        raise ValueError(message)

    stream = LogLines()
    middleware, read = logged(app, stream=stream, trusted_proxies=["*"])
    query, host, agent, forwarded = texts
    names = (b"host", b"user-agent", b"x-forwarded-for", b"x-user-id")
    headers = list(zip(names, (host, agent, forwarded, forwarded), strict=True))
    run = request(middleware, method, path, query=query, headers=headers)
    with pytest.raises(StopIteration):
        run.send(None)
    read()
    assert [line["event"] for line in whole_lines(stream)] == ["request_start", "request_error"]


async def test_a_line_is_bounded_whatever_is_sent():
    """A megabyte of path, query, agent, header, field and message makes no megabyte of log."""
    much = b"a" * 1_000_000

    async def app(scope, receive, send):
        current().annotate(note=much.decode())
        raise ValueError(much.decode())

    stream = LogLines()
    middleware, read = logged(app, stream=stream, trusted_proxies=["*"])
    names = (b"host", b"user-agent", b"x-user-id", b"x-forwarded-for", b"traceparent")
    await request(
        middleware,
        much.decode(),
        "/" + much.decode(),
        query=b"video_id=" + much,
        headers=[(name, much) for name in names],
    )
    read()
    lines = stream.getvalue().splitlines()
    assert len(lines) == 2 and max(map(len, lines)) < 64_000


class Hostile:
    """An object of which nothing can be had."""

    def __str__(self):
        raise RuntimeError

    __repr__ = __str__


@pytest.mark.parametrize(
    "spoil",
    [
        lambda scope: scope.update(path_params={"video_id": Hostile()}, route=Hostile()),
        lambda scope: scope.update(path_params=Hostile(), path_template="x"),
        lambda scope: current().annotate(note=Hostile(), number=2**70, nan=float("nan"), b=b"\xff"),
        lambda scope: current().annotate(note={Hostile(): Hostile()}),
        lambda scope: scope.clear(),
    ],
    ids=["param", "params", "note", "key", "cleared"],
)
async def test_what_an_app_leaves_behind_costs_no_line(spoil):
    """Records of one batch do not suffer from each other: every request is told."""

    async def app(scope, receive, send):
        if scope["path"] == "/spoilt":
            spoil(scope)
        await hello(scope, receive, send)

    middleware, read = logged(app)
    for path in ("/before", "/spoilt", "/after"):
        assert (await request(middleware, path=path)).body == b"hello"
    assert len(read("request_complete")) == 3


@pytest.mark.parametrize("status", [None, "200", b"200", 2**70, -1], ids=repr)
async def test_a_status_that_is_none_costs_no_line(status):
    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body"})

    middleware, read = logged(app)
    await request(middleware)
    await request(middleware)
    assert len(read()) == 4


# Secrets


async def test_secrets_are_redacted_everywhere():
    """In the query, in messages, tracebacks and added fields, at any depth; more names on request."""

    async def app(scope, receive, send):
        current().annotate(login={"password": "hunter2", "user": "ann"}, colour="hunter2")
        raise ValueError("cannot reach postgres://ann:hunter2@db/videos, api_key=hunter2")

    stream = LogLines()
    middleware, read = logged(app, stream=stream, redact=["colour"])
    await request(middleware, query=b"token=hunter2&page=2&colour=hunter2")
    (line,) = read("request_error")
    assert b"hunter2" not in stream.getvalue()
    assert "page=2" in line["url"] and line["login"]["user"] == "ann"


UUID = "550e8400-e29b-41d4-a716-446655440000"
TOKEN = "ghp_a1a1a1a1a1a1a1a1a1a1a1a1a1a1"


@pytest.mark.parametrize(
    "asked",
    [
        {"path": "/x;jsessionid=hunter2"},
        {"path": "/reset/token=hunter2"},
        {"path": "/reset;colour=hunter2"},
        {"path": f"/{TOKEN}"},
        {"path": "//u:hunter2@a.b/"},
        {"host": b"u:hunter2@a.b"},
        {"host": b"a.b", "path": "/http://u:hunter2@c/"},
        {"agent": b"robot token=hunter2"},
        {"agent": TOKEN.encode()},
        {"agent": b"robot Basic aHVudGVyMg=="},
    ],
    ids=repr,
)
async def test_no_short_url_or_agent_tells_a_secret(asked):
    """The whole URL and the agent are looked at, however short they are, and so is the host."""
    stream = LogLines()
    middleware, read = logged(stream=stream, redact=["colour"])
    headers = [(b"host", asked.get("host", b"test")), (b"user-agent", asked.get("agent", b"curl"))]
    await request(middleware, path=asked.get("path", "/"), headers=headers)
    assert len(read()) == 2 and b"[redacted]" in stream.getvalue()
    for secret in (b"hunter2", TOKEN[:12].encode(), b"aHVudGVyMg"):
        assert secret not in stream.getvalue()


@pytest.mark.parametrize(
    ("host", "path"), [(b"auth:8000", "/a@b"), (b"[::1]:8000", "/@ann"), (b"a.b", "/key: x")]
)
async def test_an_ordinary_url_is_told_as_it_is(host, path):
    middleware, read = logged()
    await request(middleware, path=path, headers=[(b"host", host)])
    assert {line["url"] for line in read()} == {f"http://{host.decode()}{path}"}


async def test_a_long_query_is_cut_where_no_secret_is():
    """What a cut would hide from the redactor is left out."""
    stream = LogLines()
    middleware, read = logged(stream=stream)
    query = b"page=2&a=" + b"." * 2000 + b"&dsn=postgres://u:" + b"hunter2" * 20 + b"@h/d"
    await request(middleware, query=query)
    assert read()[0]["url"].endswith("...&...")
    assert b"hunter2" not in stream.getvalue() and b"page=2" in stream.getvalue()


async def with_params(scope, receive, send):
    scope["path_params"], scope["path_template"] = {"video_id": scope["path"][1:]}, "/{video_id}"
    await hello(scope, receive, send)


@pytest.mark.parametrize(
    ("asked", "name", "told"),
    [
        ({"query": b"model_name=pg%3A%2F%2Fu%3Ahunter2%40h"}, "model_name", "pg://[redacted]@h"),
        ({"query": b"video_id=" + TOKEN.encode()}, "video_id", "[redacted]"),
        ({"path": f"/{TOKEN}"}, "video_id", "[redacted]"),
        ({"query": b"password=hunter2"}, "login", "[redacted]"),
        ({"query": b"code=hunter2"}, "step", "[redacted]"),
        ({"query": b"shade=hunter2"}, "colour", "[redacted]"),
        ({"headers": [(b"authorization", b"hunter2")]}, "caller", "[redacted]"),
        ({"headers": [(b"x-note", b"token=hunter2")]}, "note", "token=[redacted]"),
        ({"query": b"model_name=hunter2"}, "model_name", "hunter2"),
        ({"query": b"model_name=big-model:v2"}, "model_name", "big-model:v2"),
        ({"query": b"model_name="}, "model_name", ""),
        ({"query": b"password="}, "login", ""),
        ({"path": f"/{UUID}"}, "video_id", UUID),
        ({"query": b"model_name=" + b"%41" * 5000}, "model_name", "A" * 253 + "..."),
    ],
    ids=repr,
)
async def test_fields_tell_no_secrets(asked, name, told):
    """A field's value is looked at like all text, and hidden whole under a secret's name."""
    fields = {
        "login": FromQuery("password"),
        "step": FromQuery("code"),
        "colour": FromQuery("shade"),
        "caller": FromHeader("authorization", trusted_only=False),
        "note": FromHeader("x-note", trusted_only=False),
    }
    app = with_params if "path" in asked else hello
    middleware, read = logged(app, fields=fields, redact=["colour"])
    await request(middleware, **asked)
    assert read("request_complete")[0][name] == told


async def test_headers_that_were_not_asked_for_are_not_logged():
    stream = LogLines()
    middleware, read = logged(broken, stream=stream)
    for name in (b"authorization", b"cookie", b"x-api-key", b"x-user-id"):
        await request(middleware, headers=[(name, b"hunter2")])
    assert len(read()) == 8 and b"hunter2" not in stream.getvalue()


# Whom to believe


@pytest.mark.parametrize(
    ("peer", "expected"),
    [(PROXY, ("7.7.7.7", "ann")), (("8.8.8.8", 1), ("8.8.8.8", None)), (None, (None, None))],
    ids=["proxy", "stranger", "none"],
)
async def test_only_a_trusted_proxy_is_believed(peer, expected):
    """The address is read from the right, and the user's id is heard, if a proxy of ours says so."""
    middleware, read = logged(trusted_proxies=["10.0.0.0/8"])
    headers = [(b"x-forwarded-for", b"6.6.6.6, 7.7.7.7, 10.0.0.2"), (b"x-user-id", b"ann")]
    await request(middleware, headers=headers, client=peer)
    assert {(line["client_ip"], line["user_id"]) for line in read()} == {expected}


# Fields


class User:
    display_name = "ann"


async def test_fields_come_from_wherever_they_are_said_to():
    async def app(scope, receive, send):
        scope["path_params"], scope["path_template"] = {"id": 7}, "/videos/{id}"
        scope["user"] = User()
        await hello(scope, receive, send)

    middleware, read = logged(
        app,
        fields={
            "agent": FromHeader("X-Agent", trusted_only=False),
            "video": FromPath("id"),
            "style": FromQuery("style"),
            "user": from_user,
            "callable": lambda scope: scope["path"].upper(),
            "model_name": None,
        },
    )
    await request(middleware, path="/v", query=b"style=a%20b", headers=[(b"x-agent", b"robot")])
    (line,) = read("request_complete")
    expected = {"agent": "robot", "video": "7", "style": "a b", "user": "ann", "callable": "/V"}
    assert expected.items() <= line.items()
    assert line["user_id"] is None and "model_name" not in line
    assert line["route"] == "/videos/{id}"


@pytest.mark.parametrize(
    ("field", "told", "broken_fields"),
    [(lambda scope: 1 / 0, None, 1), (lambda scope: Hostile(), "<Hostile without a text>", 0)],
    ids=["raises", "value"],
)
async def test_a_broken_field_breaks_nothing(field, told, broken_fields):
    """A callable that raises gives null and is counted; the other fields are told."""
    middleware, read = logged(fields={"mine": field, "fine": lambda scope: "yes"})
    assert (await request(middleware)).body == b"hello"
    (line,) = read("request_complete")
    assert (line["fine"], line["mine"]) == ("yes", told)
    assert middleware.lines.observer_errors == broken_fields


async def test_added_fields_are_told_and_replace_none_of_ours():
    async def app(scope, receive, send):
        current().annotate(frames=24, status_code=999, event="forged", user_id="forged")
        await hello(scope, receive, send)

    middleware, read = logged(app)
    await request(middleware)
    (line,) = read("request_complete")
    assert (line["frames"], line["status_code"], line["user_id"]) == (24, 200, None)


@pytest.mark.parametrize("breaks", [False, True], ids=["fine", "raising"])
async def test_an_observer_gets_each_ended_request(breaks):
    """on_request sees what the log tells; one that raises is counted and stops nothing."""
    seen = []

    def observer(log):
        seen.append(log)
        if breaks:
            raise LookupError

    middleware, read = logged(broken, on_request=observer)
    await request(middleware, path="/a", query=b"video_id=v1")
    (line,) = read("request_error")
    (log,) = seen
    assert (log.request_id, log.url, log.video_id) == (line["request_id"], line["url"], "v1")
    assert (log.error, log.error_type, log.status_code) == ("boom", "ValueError", 500)
    assert log.end_time >= log.start_time
    assert middleware.lines.observer_errors == breaks


@pytest.mark.parametrize("neighbours", [0, 3])
async def test_work_after_the_response_is_told_once(neighbours):
    """Announced while it goes on although its response is complete: one start, then one end."""
    told_within = []

    async def app(scope, receive, send):
        await hello(scope, receive, send)
        if scope["path"] == "/long":
            told_within.extend(line["event"] for line in read())

    middleware, read = logged(app)
    await request(middleware, path="/long")
    for _ in range(neighbours):
        await request(middleware)
    told = [line["event"] for line in read() if line["url"].endswith("/long")]
    assert told_within == ["request_start"]
    assert told == ["request_start", "request_complete"]
    assert len(read()) == 2 + 2 * neighbours


async def test_a_field_may_be_named_by_a_member_of_an_enum():
    class Field(StrEnum):
        TENANT = "tenant"

    middleware, read = logged(fields={Field.TENANT: FromHeader("x-tenant", trusted_only=False)})
    await request(middleware, headers=[(b"x-tenant", b"acme")])
    assert [line["tenant"] for line in read()] == ["acme", "acme"]


async def test_an_observer_is_never_called_on_the_request_path():
    """It may take its time: only a flush calls it, and what it cannot keep up with is counted."""
    seen = []
    middleware, read = logged(on_request=lambda log: seen.append(log.request_id), events=())
    for _ in range(200):
        await request(middleware)
    assert seen == []
    assert read() == []
    assert len(set(seen)) == 200
    for _ in range(10_010):
        await request(middleware)
    read()
    assert (len(seen), middleware.lines.observer_errors) == (10_200, 10)


@pytest.mark.parametrize("options", [{"exclude_paths": ["/*"]}, {"success_sample_rate": 0.0}])
async def test_an_error_that_blames_the_client_is_no_success(options):
    """It was raised, it is counted and grouped, and so its lines are written."""

    async def refusing(scope, receive, send):
        raise PublicError("bad input", error_type=ErrorType.VALIDATION)

    lines, recorder = LogLines(), Recorder(flush_seconds=None)
    tracker = ErrorTracker(recorder=recorder)
    middleware = StructuredLoggingMiddleware(
        ErrorHandlingMiddleware(refusing, tracker), stream=lines, recorder=recorder, **options
    )
    await request(middleware)
    recorder.flush()
    start, end = lines.lines()
    assert (start["event"], end["event"]) == ("request_start", "request_complete")
    assert (end["outcome"], end["error"]) == ("client_error", "bad input")


@pytest.mark.parametrize(("level", "written"), [("ERROR", 1), ("CRITICAL", 0)])
async def test_a_session_that_failed_is_an_error_like_a_request(level, written):
    lines = LogLines()
    middleware, read = logged(broken, level, stream=lines)
    await session(middleware)
    assert [line["event"] for line in read()] == ["websocket_close"] * written


async def test_an_extractor_that_ends_the_process_leaves_nothing_open():
    """The end of the request is told and counted all the same."""

    def leaves(scope):
        raise SystemExit(3)

    middleware, read = logged(fields={"a": leaves})
    reply = await request(middleware)
    assert isinstance(reply.raised, SystemExit)
    assert events(read) == ["request_start", "request_complete"]
    assert middleware.choices.recorder.in_flight() == 0


# Where lines go


@contextmanager
def handler_on(logger):
    records = []
    handler = logging.Handler()
    handler.emit = records.append
    logger.addHandler(handler)
    try:
        yield records
    finally:
        logger.removeHandler(handler)


@pytest.mark.parametrize("name", [True, False], ids=["name", "logger"])
async def test_lines_go_through_a_logger_when_asked(name):
    """Each line is one log record: its level, its JSON text as the message, its fields beside."""
    logger = logging.getLogger("asgi_errorkit.test_access")
    logger.setLevel(logging.INFO)
    with handler_on(logger) as records:
        middleware = StructuredLoggingMiddleware(
            broken, logger=logger.name if name else logger, recorder=Recorder(flush_seconds=None)
        )
        await request(middleware)
        middleware.choices.recorder.flush()
    assert [record.levelname for record in records] == ["INFO", "ERROR"]
    assert [json.loads(record.getMessage()) for record in records] == [r.fields for r in records]


class FailingStream(io.RawIOBase):
    def __init__(self, exc):
        self.exc = exc

    def write(self, text):
        raise self.exc


@pytest.mark.parametrize(
    "exc", [OSError(28, "No space left"), BrokenPipeError(), ValueError(), RuntimeError()], ids=repr
)
async def test_a_failing_stream_breaks_no_request_and_its_lines_are_counted(exc):
    recorder = Recorder(flush_seconds=None)
    middleware = StructuredLoggingMiddleware(hello, stream=FailingStream(exc), recorder=recorder)
    for _ in range(100):
        assert (await request(middleware)).body == b"hello"
    recorder.flush()
    assert middleware.writer.dropped_lines == 200


async def test_a_blocked_stream_blocks_no_request():
    """While a write is stuck, requests are served; once it goes on, every line is there."""
    stuck, go_on = threading.Event(), threading.Event()

    class BlockedStream(LogLines):
        def write(self, text):
            stuck.set()
            go_on.wait()
            return super().write(text)

    stream = BlockedStream()
    middleware, _ = logged(stream=stream)
    await request(middleware)
    flushing = threading.Thread(target=middleware.choices.recorder.flush)
    flushing.start()
    stuck.wait()
    for _ in range(300):
        assert (await request(middleware)).body == b"hello"
    go_on.set()
    flushing.join()
    middleware.choices.recorder.flush()
    assert len(stream.lines()) == 602 and middleware.writer.dropped_lines == 0


# Wrong options


async def later(given):
    return given


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"log_level": "LOUD"}, ValueError, "log_level must be DEBUG, INFO"),
        ({"log_level": 20}, TypeError, "log_level must be a string, e.g. 'INFO'; got 20"),
        ({"stream": "access.log"}, TypeError, "write method"),
        ({"logger": 42}, TypeError, "logger must be a logging.Logger"),
        ({"logger": "a", "stream": io.StringIO()}, ValueError, "either stream or logger"),
        ({"events": ["request_end"]}, ValueError, "among request_start"),
        ({"events": "request_start"}, TypeError, "events must be a list"),
        ({"exclude_paths": ["health"]}, ValueError, "must begin with '/'"),
        ({"exclude_paths": "/health"}, TypeError, "exclude_paths must be a list"),
        ({"exclude_paths": ["/a/*/b"]}, ValueError, "may end in a star, as in .* got '/a/\\*/b'"),
        ({"exclude_paths": ["*.css"]}, ValueError, "may end in a star"),
        ({"exclude_paths": ["/a/**"]}, ValueError, "may end in a star"),
        ({"success_sample_rate": 1.5}, ValueError, "between 0 and 1"),
        ({"success_sample_rate": float("nan")}, ValueError, "between 0 and 1"),
        ({"success_sample_rate": "all"}, TypeError, "between 0 and 1"),
        ({"success_sample_rate": True}, TypeError, "between 0 and 1"),
        ({"traceback_seconds": -1}, ValueError, "traceback_seconds must be a number of at least 0"),
        ({"traceback_seconds": "10"}, TypeError, "traceback_seconds must be a number"),
        ({"fields": ["user_id"]}, TypeError, "fields must be a mapping"),
        ({"fields": {"duration": from_user}}, ValueError, "choose another name"),
        (
            {"fields": {"mine": "x-header"}},
            TypeError,
            r"fields\['mine'\] must come from FromHeader",
        ),
        ({"fields": {"mine": FromHeader}}, TypeError, "must come from FromHeader.*got <class"),
        ({"fields": {"mine": str}}, TypeError, "must come from FromHeader.*got <class"),
        ({"fields": {"mine": later}}, TypeError, "not async; got later"),
        ({"fields": {"mine": lambda: 1}}, TypeError, r"takes \(scope\); got .*<lambda>\(\)"),
        ({"fields": {"no_such_field": None}}, ValueError, "takes away one of user_id, video_id"),
        ({"fields": {"": from_user}}, ValueError, "name must not be empty"),
        ({"fields": {7: from_user}}, TypeError, "field's name must be a string"),
        ({"trusted_proxies": ["10.0.0.300"]}, ValueError, "10.0.0.300"),
        ({"trusted_proxies": "10.0.0.1"}, TypeError, "must be a list"),
        ({"redact": "colour"}, TypeError, "redact must be a list"),
        ({"on_request": "observer"}, TypeError, "must be a callable"),
        ({"on_request": later}, TypeError, r"takes \(request_log\), and not async; got later"),
        ({"on_request": lambda: None}, TypeError, r"takes \(request_log\); got .*<lambda>\(\)"),
    ],
    ids=lambda given: next(iter(given)) if isinstance(given, dict) else "",
)
def test_a_wrong_option_is_refused_at_construction(options, error, words):
    with pytest.raises(error, match=words):
        StructuredLoggingMiddleware(hello, **options)


async def test_tokens_in_paths_and_bare_queries_and_agents_are_not_told():
    token = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U"
    stream = LogLines()
    middleware, read = logged(hello, stream=stream)
    agent = (b"user-agent", b"curl Bearer " + token.encode())
    await request(middleware, path=f"/verify/{token}", query=token.encode(), headers=[agent])
    read()
    assert token.encode() not in stream.getvalue()
    assert b"/verify/" in stream.getvalue()


async def test_hops_over_several_lines_are_read_as_one_list():
    middleware, read = logged(hello, trusted_proxies=["127.0.0.1", "10.0.0.0/8"])
    hops = [(b"x-forwarded-for", b"203.0.113.9"), (b"x-forwarded-for", b"10.0.0.5")]
    await request(middleware, headers=hops)
    assert read("request_complete")[0]["client_ip"] == "203.0.113.9"
