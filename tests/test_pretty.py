"""Lines for people: what the kit tells, readable, and harmless to a terminal."""

import io
import json
import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from asgi_errorkit import ErrorKit, MiddlewareStack, StructuredLoggingMiddleware
from asgi_errorkit.pretty import PrettyLines
from asgi_errorkit.testing import request, session

SHOWN_TIME = r"\d\d:\d\d:\d\d\.\d\d\d"


@pytest.fixture(autouse=True)
def _no_wishes(monkeypatch):
    for name in ("NO_COLOR", "FORCE_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)


class Terminal(io.StringIO):
    def isatty(self):
        return True


def end(**members):
    return {
        "timestamp": "2026-01-02T03:04:05.678901Z",
        "level": "INFO",
        "event": "request_complete",
        "request_id": "abc",
        "method": "GET",
        "url": "http://example.org/users/7?page=2",
        "outcome": "ok",
        "status_code": 200,
        "duration": 0.0123,
        **members,
    }


def pretty(*lines, stream=None, **options):
    stream = stream or io.StringIO()
    text = "".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines)
    PrettyLines(stream, **options).write(text.encode())
    return stream.getvalue()


async def app(scope, receive, send):
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        await receive()
        return
    if scope["path"] == "/broken":
        raise ValueError("no \x1b[2J way")
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"hello"})


async def test_every_event_of_the_kit_is_readable():
    """As the stream of the logging part it tells each request on one line, and its traceback."""
    stream = io.StringIO()
    stack = MiddlewareStack()
    stack.add_middleware(StructuredLoggingMiddleware, stream=PrettyLines(stream))
    kit = ErrorKit(app, stack=stack)
    await request(kit, "GET", "/fine", headers=[(b"x-request-id", b"one")])
    await request(kit, "POST", "/broken", headers=[(b"x-request-id", b"two")])
    await session(kit, "/live", headers=[(b"x-request-id", b"three")])
    kit.flush()
    lines = stream.getvalue().splitlines()
    assert re.fullmatch(rf"{SHOWN_TIME} INFO +GET /fine 200 \d+\.\d ms one", lines[0])
    assert re.match(rf"{SHOWN_TIME} ERROR +POST /broken 500 \d+\.\d ms server_error two ", lines[1])
    assert lines[2] == "    Traceback (most recent call last):"
    assert any("test_pretty.py" in line and line.startswith("    ") for line in lines)
    assert "\x1b" not in stream.getvalue() and r"no \x1b[2J way" in stream.getvalue()
    assert re.search(r"WS /live open three", stream.getvalue())
    assert re.search(r"WS /live close 101 1000 \d+\.\d ms", stream.getvalue())


def test_a_start_is_shown_of_what_goes_on():
    """Who ends in the same breath has one line; who runs for long is seen to have begun."""
    start = {"event": "request_start", "level": "INFO", "method": "GET", "url": "/slow"}
    shown = pretty({**start, "request_id": "abc"}, {**start, "request_id": "long"}, end())
    assert len(shown.splitlines()) == 2
    assert "GET /slow begins long" in shown


def test_a_block_is_told_with_its_line():
    """Where the loop stood still, how often, and for whom."""
    block = {
        "event": "loop_blocked",
        "level": "WARNING",
        "blocked_ms": 204.7,
        "where": "app/main.py:12 resize",
        "source": "image.resize(size)",
        "method": "GET",
        "path": "/video",
        "request_id": "abc",
        "held_up_count": 3,
        "count": 4,
        "total_ms": 800.0,
    }
    shown = pretty(block)
    assert "loop blocked 204.7 ms at app/main.py:12 resize (4 times, 800.0 ms)" in shown
    assert "in GET /video held up 3 more abc\n    image.resize(size)\n" in shown
    shown = pretty(
        end(blocked_ms=50.0, blocked_by="a.py:1 f", blocked_by_request="xyz"),
        end(blocked_ms=60.0, blocked_by="a.py:1 f", held_up_count=2),
    )
    assert "(blocked 50.0 ms by a.py:1 f of xyz) abc" in shown
    assert "(blocked 60.0 ms by a.py:1 f, held up 2 more) abc" in shown


def test_what_else_a_line_tells_stands_behind_it():
    """Fields of the application's own, if they say something."""
    shown = pretty(end(tenant="acme", user_id=None), {"event": "worker_died", "pid": 7})
    assert "abc tenant=acme\n" in shown and "user_id" not in shown
    assert "worker_died" in shown and "pid=7" in shown


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0.0123, " 12.3 ms "), (61.5, " 61.50 s "), (None, " 200 abc")]
)
def test_durations(seconds, shown):
    """Milliseconds below a second."""
    assert shown in pretty(end(duration=seconds))


def test_an_error_without_a_traceback():
    """Of a storm of one error each line tells what was raised."""
    shown = pretty(end(error="no way", error_type="ValueError", status_code=500, outcome="timeout"))
    assert shown.splitlines()[0].endswith("500 12.3 ms timeout abc")
    assert shown.splitlines()[1] == "    ValueError: no way"
    assert "    told of\n" in pretty(end(error="told of", error_type=None))


@pytest.mark.parametrize(
    ("wishes", "terminal", "color", "colored"),
    [
        ({}, True, None, True),
        ({}, False, None, False),
        ({"NO_COLOR": "1"}, True, None, False),
        ({"NO_COLOR": ""}, True, None, True),
        ({"FORCE_COLOR": "1"}, False, None, True),
        ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, True, None, False),
        ({"TERM": "dumb"}, True, None, False),
        ({"NO_COLOR": "1"}, False, True, True),
        ({}, True, False, False),
    ],
)
def test_colors_are_for_who_wants_them(monkeypatch, wishes, terminal, color, colored):
    """A terminal gets them, and nobody who said no."""
    for name, value in wishes.items():
        monkeypatch.setenv(name, value)
    shown = pretty(end(), stream=Terminal() if terminal else io.StringIO(), color=color)
    assert ("\x1b[32m200\x1b[0m" in shown) is colored
    assert ("\x1b" in shown) is colored


def test_a_stream_that_knows_nothing_of_terminals():
    """Whatever has a write method will do; one that is closed has no colour."""

    class Own:
        def __init__(self):
            self.written = []

        def write(self, text):
            self.written.append(text)

    own = Own()
    lines = PrettyLines(own)
    lines.write(json.dumps(end()) + "\n")
    lines.flush()
    assert "GET /users/7?page=2 200" in own.written[0]


def test_standard_output_is_looked_up_at_each_write(capsys, monkeypatch):
    """It may be another then, or none."""
    lines = PrettyLines()
    lines.write(json.dumps(end()) + "\n")
    lines.flush()
    assert "GET /users/7?page=2 200" in capsys.readouterr().out
    monkeypatch.setattr("sys.stdout", None)
    lines.write(json.dumps(end()) + "\n")
    lines.flush()


def test_a_console_of_few_letters():
    """What it cannot show is escaped."""
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    PrettyLines(stream).write(json.dumps(end(url="/caf\u00e9")) + "\n")
    stream.flush()
    assert rb"/caf\xe9" in raw.getvalue()


@pytest.mark.parametrize(
    "line",
    [
        "plain words",
        "[1, 2]",
        "{",
        '{"no": "event"}',
        '{"event": ["x"], "level": 7}',
        "\x1b[31mred",
    ],
    ids=["text", "list", "half", "stranger", "odd", "control"],
)
def test_an_odd_line_is_passed_on(line):
    """What the kit has not written is shown as it is, without what could command a terminal."""
    shown = pretty(line)
    assert shown.endswith("\n") and len(shown.splitlines()) == 1
    assert "\x1b" not in shown


MEMBERS = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**60), 2**60), st.floats(allow_nan=False), st.text()
)


@settings(deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(
            "timestamp level event method url status_code duration request_id outcome error "
            "error_type traceback blocked_ms blocked_by blocked_by_request held_up_count count where "
            "total_ms source path close_code own".split()
        ),
        MEMBERS,
    ),
    st.sampled_from(["request_complete", "websocket_close", "loop_blocked", "request_start", None]),
)
@example({"status_code": "\x1b", "held_up_count": "\x1b", "blocked_ms": 1}, "request_complete")
@example({"held_up_count": "\x1b", "total_ms": "\x1b", "count": 2}, "loop_blocked")
def test_nothing_that_is_told_can_break_or_command(members, event):
    """Never raises, and writes printable text and line feeds alone, whatever the members are."""
    line = {**members, "event": event} if event else members
    try:
        encoded = json.dumps(line).encode()
    except UnicodeEncodeError:
        return
    stream = io.StringIO()
    PrettyLines(stream, color=False).write(encoded + b"\n")
    assert all(each.isprintable() or each == "\n" for each in stream.getvalue())


@pytest.mark.parametrize(
    ("options", "error"),
    [({"stream": object()}, "stream"), ({"color": "yes"}, "color")],
    ids=["stream", "color"],
)
def test_refuses_what_cannot_work(options, error):
    """An option that cannot work is told of at construction."""
    with pytest.raises(TypeError, match=error):
        PrettyLines(**options)
