"""`top` shows what the other commands tell, live: driven by its keys, at a terminal of its own."""

import contextlib
import json
import re
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asgi_errorkit.cli import main
from asgi_errorkit.cli.top import of_url
from asgi_errorkit.cli.top.history import History
from asgi_errorkit.cli.top.keys import parsed
from asgi_errorkit.cli.top.lines import Paper, cell_len, folded, spark
from asgi_errorkit.cli.top.of_url import OfUrl
from asgi_errorkit.cli.top.picture import as_picture, as_told_group
from asgi_errorkit.cli.top.reader import Reader, looked
from asgi_errorkit.cli.top.screen import Look, draw, everything, group_id_of
from asgi_errorkit.cli.top.source import SourceError
from asgi_errorkit.cli.top.state import OPENED, SORTS, VIEWS, Seen, State, pressed
from tests.test_cli_record import ANY, EVIL_JSON, working

TOKEN = "t0ken-of-the-tests-and-nobody-else"


@pytest.fixture(autouse=True)
def _nothing_around(monkeypatch):
    for name in ("ASGI_ERRORKIT_DIR", "ASGI_ERRORKIT_TOKEN", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def directory(tmp_path):
    made = tmp_path / "record"
    made.mkdir(0o700)
    return made


# Keys

SEQUENCES = {
    "\x1b[A": "up",
    "\x1bOB": "down",
    "\x1b[5~": "page_up",
    "\x1b[6~": "page_down",
    "\x1b[Z": "backtab",
    "\x1b[1~": "home",
    "\r": "enter",
    "\t": "tab",
    "\x7f": "backspace",
    "q": "q",
    "é": "é",
}


@given(typed=st.lists(st.sampled_from(sorted(SEQUENCES)), max_size=8), data=st.data())
def test_keys_are_the_same_wherever_a_read_cuts_them(typed, data):
    """A sequence of a terminal may come in two parts."""
    whole = "".join(typed)
    cut = data.draw(st.integers(0, len(whole)))
    first, rest = parsed(whole[:cut], is_all=False)
    then, nothing = parsed(rest + whole[cut:])
    assert [*first, *then] == [SEQUENCES[each] for each in typed]
    assert nothing == ""


@given(typed=st.text())
def test_whatever_is_typed_becomes_keys_that_can_be_shown(typed):
    """No control gets from the keyboard into the picture."""
    keys, rest = parsed(typed)
    assert rest == ""
    assert all(key and key.isprintable() for key in keys)


def test_escape_alone_is_a_key():
    """It waits for what may follow, and is itself if nothing does."""
    assert parsed("\x1b", is_all=False) == ([], "\x1b")
    assert parsed("\x1b") == (["escape"], "")


# What the keys make of the view

ALL_KEYS = [*"123456789jkgGsp/ab", "up", "down", "left", "right", "tab", "backtab", "enter"]
ALL_KEYS += ["escape", "backspace", "home", "end", "page_up", "page_down", "", "q"]
NONE_SEEN, BEGUN = Seen(), State()
SEENS = st.builds(
    Seen,
    st.lists(st.text(max_size=3), max_size=5, unique=True),
    st.integers(0, 9),
    st.integers(0, 9),
)


def after(keys, seen=NONE_SEEN, state=BEGUN):
    for key in keys:
        state = pressed(state, key, seen)
    return state


@given(steps=st.lists(st.tuples(st.sampled_from(ALL_KEYS), SEENS), max_size=40))
def test_any_keys_lead_to_a_view_that_there_is(steps):
    """Whatever is pressed while whatever is listed."""
    state = State()
    for key, seen in steps:
        state = pressed(state, key, seen)
        assert 0 <= state.view < len(VIEWS)
        assert all(0 <= at < max(1, len(of)) for at, of in zip(state.sorts, SORTS, strict=True))
        assert state.opened is None or state.view in OPENED
        assert state.scroll >= 0
        assert not (state.opened is not None and state.is_typing)
    assert after(["escape", "escape", "escape", "q"], state=state).is_over


@given(keys=st.lists(st.sampled_from(ALL_KEYS), max_size=20))
def test_what_is_typed_is_the_filter_and_nothing_else(keys):
    """Also q, p and the numbers."""
    letters = [key for key in keys if len(key) == 1]
    state = after(["2", "/", *letters, "enter"])
    assert state == State(view=1, needle="".join(letters))


def test_tab_goes_around():
    """Once for each view, and backwards likewise."""
    assert after(["tab"] * len(VIEWS)) == State()
    assert after(["backtab", "right"]) == State()


def test_a_row_keeps_chosen_where_rows_move():
    """What is opened is what was chosen, and not who came to its place."""
    state = after(["3", "down"], Seen(["a", "b", "c"]))
    state = after(["enter"], Seen(["new", "c", "a", "b"]), state)
    assert (state.chosen, state.opened) == ("b", "b")


@pytest.mark.parametrize(
    ("keys", "chosen"),
    [(["end"], "c"), (["end", "down"], "c"), (["end", "home", "k"], "a"), (["j", "j", "k"], "b")],
)
def test_one_goes_along_the_rows_and_not_beyond(keys, chosen):
    """Up and down, to the ends, and a page."""
    assert after(["2", *keys], Seen(["a", "b", "c"])).chosen == chosen


# Drawing

NAMES = """errors performance errors_lately lately workers breakers groups requests crashes alerts
total_requests failed_requests client_errors error_ratio errors_by_type alerts_due threshold
requests_per_second in_flight percentiles p50 p95 p99 outcomes routes failed avg_duration pid app
life memory_mb loop_lag_seconds cpu_percent silent_seconds started_at name state triggered_at
retry_after_seconds rejected calls fingerprint error_type type_name message where first_seen
last_seen count release sample exception causes frames file line source context headers method path
phase age_seconds request_id memory_growth_mb memory_mb_at_start last_seen_at found_at suspects
resources recent status_code duration damaged firing type severity""".split()
ODD = st.sampled_from([0, 1, -1, 2**63, 1e308, -1e308, 0.5, "", "x" * 300, EVIL_JSON, "日本", True])
TOLD = st.recursive(
    ODD | st.none() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=12)
    ),
    max_leaves=12,
)
ROW = st.dictionaries(st.sampled_from(NAMES), TOLD, max_size=12)
PICTURES = st.fixed_dictionaries(
    {name: TOLD | ANY | st.lists(ROW, max_size=3) for name in NAMES[4:9]},
    optional=dict.fromkeys((*NAMES[:4], NAMES[9]), ROW | TOLD),
)
STATES = st.builds(
    State,
    st.integers(0, len(VIEWS) - 1),
    st.none() | st.text(max_size=3),
    sorts=st.just(BEGUN.sorts),
    needle=st.text(st.characters(exclude_categories=["C", "Z"]), max_size=2),
    is_typing=st.booleans(),
    is_paused=st.booleans(),
)
PAPERS = st.builds(
    Paper, st.integers(1, 130), st.integers(1, 50), st.sampled_from(["utf-8", "ascii", "latin-1"])
)


def check_fits(lines, paper):
    for parts in lines:
        text = "".join(part for part, _ in parts)
        assert cell_len(text) == paper.width
        assert all(each.isprintable() for each in text)
        text.encode(paper.encoding)


@settings(max_examples=25, deadline=None)
@given(told=PICTURES, state=STATES, paper=PAPERS, problem=st.none() | st.text(max_size=200))
def test_whatever_is_told_the_picture_fits(told, state, paper, problem):
    """Every line of it, at any size, in any view; and nothing in it is obeyed by a terminal."""
    picture = as_picture(told)
    history = History()
    history.add(picture, 1e9)
    history.add(picture, 1e9 + 1)
    look = Look(EVIL_JSON, picture, problem, 1e9)
    lines, seen = draw(look, history, state, paper)
    assert len(lines) == paper.height
    check_fits(lines, paper)
    state = pressed(state._replace(is_typing=False, needle=""), "enter", seen)
    if group_id_of(state) is not None:
        look = look._replace(group_id=group_id_of(state), group=as_told_group(told))
    lines, _ = draw(look, history, state, paper)
    check_fits(lines, paper)
    check_fits(everything(look, history, paper), paper)


@given(text=st.text(st.characters(exclude_categories=["C"]), max_size=80), width=st.integers(2, 40))
def test_a_long_line_is_folded_and_nothing_of_it_is_lost(text, width):
    """Into lines that fit."""
    paper = Paper(width, 1)
    parts = folded(text, paper, indent="")
    assert "".join(parts) == text
    assert all(cell_len(part) <= width for part in parts)


@pytest.mark.parametrize(
    ("encoding", "drawn"), [("utf-8", "▁▅ █"), ("ascii", "_- #")], ids=["blocks", "ascii"]
)
def test_a_sparkline_has_the_latest_at_its_right(encoding, drawn):
    """What is not known is a gap, and the highest of those shown is a full block."""
    drawn_so = Paper(80, 24, encoding).encodable(spark([99.0, 0.0, 1.0, None, 2.0], 4))
    assert drawn_so == drawn


def test_marks_are_not_piled_upon_each_other():
    """They would cover the lines above; those that people write stay."""
    paper = Paper(80, 24)
    assert paper.encodable("e\u0301\u0323" + "\u0301" * 3) == "e\u0301\u0323\u0301\\u0301\\u0301"
    assert Paper(80, 24, "ascii").encodable("é▁█") == "\\xe9_#"


def listed(picture, view, history, width=200):
    """The heading and the rows of a view."""
    look = Look(picture=picture, read_at=1e9)
    state = State(view=VIEWS.index(view))
    lines, _ = draw(look, history, state, Paper(width, 30))
    return ["".join(text for text, _ in parts).rstrip() for parts in lines[3:-1]]


def seen(*told):
    """The last picture, and what was seen of all of them, one a second."""
    history = History()
    for at, each in enumerate(told):
        picture = as_picture(each)
        history.add(picture, 1e9 + at)
    return picture, history


def of_routes(**requests):
    routes = {f"GET /{name}": {"requests": number} for name, number in requests.items()}
    return {"performance": {"routes": routes}, "lately": {"routes": routes}}


def test_each_route_has_its_trend():
    """What it had at each look, the latest at the right; one look is none."""
    told = [of_routes(a=7), of_routes(a=0, b=2), of_routes(a=3, b=2)]
    picture, history = seen(told[0])
    assert "trend" not in listed(picture, "routes", history)[0]
    picture, history = seen(*told)
    heading, *rows = listed(picture, "routes", history)
    assert heading.endswith("trend")
    assert [row.split()[-1] for row in rows[:2]] == ["█▁▄", "▁██"]


def test_of_too_many_routes_the_busiest_are_listed():
    """And how many others there are, whatever their order."""
    requests = {f"r{at}": at * 7919 % 100_003 for at in range(100_000)}
    picture, history = seen(of_routes(**requests))
    above, _, _, first, *_ = listed(picture, "routes", history)
    assert above == "those with the fewest requests are left out: 99,500"
    assert re.match(rf"> GET /\w+ +{max(requests.values()):,} ", first)
    least = sorted(requests.values())[-500]
    assert {each["requests"] >= least for each in picture.performance["routes"].values()} == {True}
    history.add(picture, 1e9)
    assert len(history.of_route("GET /r1")) == 2


def test_routes_that_the_app_has_left_out_are_counted():
    """It was asked for the busiest alone; what it says may be anything."""
    for said, told in ((7, "7"), (0, None), (-3, None), ("many", None)):
        routes = of_routes(a=2)
        routes["performance"]["routes_left_out"] = said
        picture, history = seen(routes)
        above = listed(picture, "routes", history)[0]
        words = f"those with the fewest requests are left out: {told}"
        assert (above == words) is (told is not None)


def test_what_a_breaker_was_is_seen():
    """Each state once, with when; what opened before the first look by its own word."""

    def told(state, at=None):
        return {"breakers": [{"pid": 1, "name": "db", "state": state, "triggered_at": at}]}

    picture, history = seen(told("closed"), told("closed"))
    assert "seen as" not in listed(picture, "breakers", history)[0]
    picture, history = seen(*map(told, ["closed", "open", "half_open", "half_open", "closed"]))
    assert [(each.state, each.at) for each in history.changes_of(picture.breakers[0])] == [
        ("closed", None),
        ("open", 1e9 + 1),
        ("half_open", 1e9 + 2),
        ("closed", 1e9 + 4),
    ]
    heading, row = listed(picture, "breakers", history)[:2]
    assert "seen as" in heading
    assert re.search(r"closed > open \d\d:\d\d:\d\d > half_open .* > closed \d\d:\d\d:\d\d$", row)
    picture, history = seen(told("open", 9e8))
    assert history.changes_of(picture.breakers[0])[0].at == 9e8
    history.add(as_picture({}), 1e9)
    assert history.changes_of(picture.breakers[0]) == ()


def test_of_much_that_changes_little_is_kept():
    """However long it looks."""
    told = {**of_routes(**{f"r{at}": at for at in range(500)})}
    told["breakers"] = [{"pid": at, "name": "b", "state": "open"} for at in range(600)]
    picture, history = seen(told)
    for at in range(2000):
        for each in picture.breakers:
            each["state"] = str(at)
        history.add(picture, at)
    assert len(history.samples) == 600
    assert len(history.of_route("GET /r1")) == 60
    assert len(history.changes_of(picture.breakers[0])) == 10


def test_an_alert_that_goes_on_is_listed_once():
    """It stands in both lists that are told; what nobody is told of stands above."""
    past = [
        {"type": "memory", "key": "m", "status": "firing", "timestamp": 1e9 - 60},
        {"type": "memory", "key": "m", "status": "resolved", "timestamp": 1e9 - 600},
        {"type": "slow", "key": "s", "status": "firing", "muted": "silenced", "timestamp": 1e9 - 5},
    ]
    firing = [{"type": "memory", "key": "m", "status": "firing", "since": 1e9 - 60}]
    silences = [{"what": "slow*", "why": "known", "until": 1e9 + 3600}]
    told = {"alerts": {"firing": firing, "recent_alerts": past, "silences": silences}}
    picture, history = seen(told)
    above, _, _, *rows = listed(picture, "alerts", history)
    assert above == "silenced for 1.0 h: slow* because: known"
    assert [re.search("firing, silenced|firing|resolved", row)[0] for row in rows if row] == [
        "firing",
        "firing, silenced",
        "resolved",
    ]


# One picture


def once(capsys, *arguments):
    code = main(["top", "--once", *map(str, arguments)])
    out, said = capsys.readouterr()
    return code, out, said


def test_one_picture_has_all_views(capsys, directory):
    """Of a worker that runs, also where there is no terminal."""
    with working(directory, "/slow") as process:
        code, out, said = once(capsys, directory)
        assert (code, said) == (0, "")
        assert all(f"\n{name}\n" in out for name in VIEWS[1:])
        assert re.search(r"POST /slow +running", out)
        assert re.search(rf"{process.pid}  alive", out)
        assert "\x1b" not in out


def test_one_picture_of_the_dead_names_the_suspect(capsys, directory):
    """After kill -9, with nobody left to ask."""
    with working(directory, "/guilty") as process:
        process.kill()
        process.wait()
        code, out, _ = once(capsys, directory)
    assert code == 0
    assert re.search(rf"{process.pid}  .*POST /guilty", out)
    assert "none is running" in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "name it, or set ASGI_ERRORKIT_DIR"),
        (["/nowhere/at/all"], "does not exist"),
        (["http://127.0.0.1:1/_errorkit"], "refused"),
        (["http://user:secret@127.0.0.1/"], "no user"),
        (["http://"], "no URL"),
        (["http://127.0.0.1:99999/"], "out of range"),
        (["http://127.0.0.1:1/", "--token-file", "/nowhere/at/all"], "No such file"),
    ],
    ids=["nothing", "gone", "refused", "user", "no-host", "port", "no-token-file"],
)
def test_what_cannot_be_read_is_said_in_one_line(capsys, arguments, words):
    """And why; the exit code is 2."""
    code, out, said = once(capsys, *arguments)
    assert (code, out) == (2, "")
    assert words in said
    assert said.count("\n") == 1
    assert "secret" not in said


@pytest.mark.parametrize(
    ("redirected", "code", "words"),
    [
        (">&-", 2, "nowhere to print it"),
        ("> /dev/full", 2, "No space left"),
        ("| head -1", 0, ""),
        ("< /dev/null", 0, ""),
        ("<&-", 0, ""),
    ],
    ids=["closed", "full", "head", "no-input", "closed-input"],
)
@pytest.mark.skipif(sys.platform == "win32", reason="no such shell there")
def test_wherever_it_is_printed_nothing_is_raised(directory, redirected, code, words):
    """What cannot be printed is said in one line."""
    command = f"{sys.executable} -m asgi_errorkit top {directory} {redirected}"
    shell = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
    assert shell.returncode == code
    assert shell.stderr.count("\n") == (1 if code else 0)
    assert words in shell.stderr


WITHOUT_POSIX = """
import sys
missing = ["termios", "tty", "pty", "fcntl"]
for name in missing:
    sys.modules[name] = None
import importlib, pkgutil
import asgi_errorkit.cli.top as room
for each in pkgutil.iter_modules(room.__path__):
    importlib.import_module(f"{room.__name__}.{each.name}")
from asgi_errorkit.cli import main
sys.exit(main(["top", sys.argv[1]]))
"""


def test_nothing_of_posix_is_needed_to_be_imported(directory):
    """Nor to print: Windows has none of it."""
    command = [sys.executable, "-c", WITHOUT_POSIX, str(directory)]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (process.returncode, process.stderr) == (0, "")
    assert "no worker has died" in process.stdout


# From a URL


@contextlib.contextmanager
def answering(status, body):
    """A server that gives everybody the same answer; the URL, and the headers that it got."""
    got = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # an answer in one piece

        def do_GET(self):
            got.append(self.headers)
            self.send_response(status)
            self.send_header("Location", "http://127.0.0.1:1/elsewhere")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", got
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (401, b"", "token"),
        (404, b"", "no ops app"),
        (302, b"", "302"),
        (200, b"<html>", "no JSON"),
        (200, b"[" * 100_000, "no JSON"),
    ],
    ids=["no-token", "elsewhere", "redirect", "html", "deep"],
)
def test_what_a_url_answers_is_judged(status, body, words):
    """No redirect is followed, for the token would go there."""
    with answering(status, body) as (url, got):
        with pytest.raises(SourceError, match=words):
            OfUrl(url, TOKEN).read()
        assert len(got) == 1


@pytest.mark.parametrize(
    "told", [None, [], {}, 1, {"workers": [{"pid": []}, 3], "groups": {}, "breakers": [None]}]
)
def test_json_of_any_shape_is_a_picture(told):
    """The token goes in its header, and nowhere else."""
    with answering(200, json.dumps(told).encode()) as (url, got):
        picture = OfUrl(url + "/_errorkit/", TOKEN).read()
        assert {each["Authorization"] for each in got} == {f"Bearer {TOKEN}"}
    check_fits(everything(Look(picture=picture), History(), Paper(80, 0)), Paper(80, 0))


@contextlib.contextmanager
def sending(begin, piece):
    """A server that sends the one, and then the other until nobody wants it; its URL."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve():
            connection, _ = server.accept()
            with connection, contextlib.suppress(OSError):
                connection.recv(65536)
                connection.sendall(begin)
                while True:
                    connection.sendall(piece)
                    time.sleep(0.01 if len(piece) < 10 else 0)

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        thread.join()


BEGIN = b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize(
    ("begin", "piece", "words"),
    [
        (BEGIN + b"Content-Length: 1000000\r\n\r\n", b" ", "more than 0.5 s"),
        (BEGIN + b"X: ", b"x", "more than 0.5 s"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" * 9, b"HTTP/1.1 100 C\r\n\r\n", "more than 0.5 s"),
        (BEGIN + b"\r\n[", b"[" * 1_000_000, "more than 16 MB"),
        (BEGIN + b"Transfer-Encoding: chunked\r\n\r\n", b"8\r\n[[[[[[[[\r\n" * 9000, "more than"),
        (BEGIN, b"X: y\r\n" * 1000, "100 headers"),
        (b"", b"x" * 1_000_000, "status line"),
    ],
    ids=["dripping", "slow-header", "continuing", "endless", "chunked", "headers", "no-http"],
)
def test_no_server_is_heard_forever(monkeypatch, begin, piece, words):
    """However it goes on: nobody waits long for it, and nothing of it fills the memory."""
    monkeypatch.setattr(of_url, "_LOOK_SECONDS", 0.5 if len(piece) < 100 else 60.0)
    with sending(begin, piece) as url, pytest.raises(SourceError, match=words):
        OfUrl(url, TOKEN).read()


def test_what_all_answers_take_together_is_bounded(monkeypatch):
    """Each alone might do."""
    monkeypatch.setattr(of_url, "_MOST_BYTES", 1000)
    with answering(200, b"[" + b" " * 700 + b"]") as (url, got):
        with pytest.raises(SourceError, match="more than"):
            OfUrl(url, TOKEN).read()
        assert len(got) == 2


@pytest.mark.parametrize("name", ["../status", "a/b", "é", "a b", ""])
def test_an_id_cannot_be_another_path(name):
    """Whoever tells it."""
    assert OfUrl("http://127.0.0.1:1", None).group(name) is None


def test_what_fails_keeps_the_last_picture_and_is_said():
    """Also an error that nobody has thought of."""

    class Broken:
        name = "broken"

        def read(self):
            raise ZeroDivisionError("odd")

        def group(self, fingerprint):
            raise SourceError("gone")

    before = Look(picture=as_picture({}))
    assert looked(Broken(), before, None) == before._replace(problem="ZeroDivisionError: odd")
    assert looked(Broken(), before, "a") == before._replace(problem="gone")


def test_while_paused_nothing_is_read():
    """But the group that is opened."""
    asked = []

    class Counting:
        name = "counting"

        def read(self):
            asked.append("all")
            return as_picture({})

        def group(self, fingerprint):
            asked.append(fingerprint)

    looked(Counting(), Look(), "abc", is_paused=True)
    assert asked == ["abc"]
    reader = Reader(Counting(), 0.01)
    reader.want(None, is_paused=True)
    reader.start()
    reader.stop()
    assert reader.latest().picture is None
