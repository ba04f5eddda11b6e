"""`top` shows what the other commands tell, live: driven by its keys, at a terminal of its own."""

import codecs
import contextlib
import json
import os
import re
import select
import signal
import struct
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asgi_errorkit.cli import main
from asgi_errorkit.cli.top_history import History
from asgi_errorkit.cli.top_keys import parsed
from asgi_errorkit.cli.top_lines import Paper, cell_len, folded, spark
from asgi_errorkit.cli.top_picture import as_picture, as_told_group
from asgi_errorkit.cli.top_reader import Reader, looked
from asgi_errorkit.cli.top_screen import Look, draw, everything, group_id_of
from asgi_errorkit.cli.top_source import OfUrl, SourceError
from asgi_errorkit.cli.top_state import OPENED, SORTS, VIEWS, Seen, State, pressed
from tests.test_cli_record import ANY, EVIL_JSON, working

TOKEN = "t0ken-of-the-tests-and-nobody-else"
DEADLINE_SECONDS = 20
needs_terminals = pytest.mark.skipif(sys.platform == "win32", reason="no pseudo terminals there")


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
    history.add(picture)
    history.add(picture)
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
    ("encoding", "drawn"), [("utf-8", "▁▄ █"), ("ascii", "_- #")], ids=["blocks", "ascii"]
)
def test_a_sparkline_has_the_latest_at_its_right(encoding, drawn):
    """What is not known is a gap, and the highest of those shown is a full block."""
    assert spark([99.0, 0.0, 1.0, None, 2.0], 4, Paper(80, 24, encoding)).replace(":", "-")[:4] in (
        drawn,
        drawn.replace("▄", "▅"),
    )


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


# At a terminal


COMMAND = """
import sys
from asgi_errorkit.cli import main
sys.exit(main())
"""
BROKEN = f"""
from asgi_errorkit.cli import top_live
def draw(look, *rest, drawn=top_live.draw):
    return drawn(look, *rest) if look.picture is None else 1 / 0
top_live.draw = draw
{COMMAND}
"""


class Terminal:
    """The command at a pseudo terminal, and what stands on its screen."""

    def __init__(self, *arguments, size=(100, 30), code=COMMAND, **variables):
        import fcntl
        import pty
        import termios

        self.size = size
        self.is_other_screen = False
        self.seen = ""
        self._mine, self._theirs = pty.openpty()
        self.resize(*size)
        self.before = termios.tcgetattr(self._theirs)
        self._termios = termios
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        self._rest = ""
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, "top", "--every-seconds", "0.2", *arguments],
            stdin=self._theirs,
            stdout=self._theirs,
            stderr=self._theirs,
            start_new_session=True,
            # So that Ctrl-C reaches it; no thread runs here meanwhile.
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509
            env={**os.environ, "TERM": "xterm-256color", **variables},
        )

    def resize(self, width, height):
        import fcntl
        import termios

        self.size = (width, height)
        fcntl.ioctl(self._mine, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))
        self._clear()

    def _clear(self):
        width, height = self.size
        self.cells = [[" "] * width for _ in range(height)]
        self.row = self.column = 0

    def press(self, keys):
        os.write(self._mine, keys.encode())

    def until(self, *patterns):
        """Read until all of them stand on the screen; the screen."""
        ends_at = time.monotonic() + DEADLINE_SECONDS
        while True:
            screen = "\n".join("".join(row).rstrip() for row in self.cells)
            if all(re.search(pattern, screen, re.MULTILINE) for pattern in patterns):
                return screen
            assert time.monotonic() < ends_at, f"no {patterns} in:\n{screen}\n{self.seen[-3000:]!r}"
            self._read(0.05)

    def _read(self, seconds):
        if not select.select([self._mine], [], [], seconds)[0]:
            return
        try:
            text = self._decode(os.read(self._mine, 65536))
        except OSError:
            return
        self.seen += text
        text, self._rest = self._rest + text, ""
        pattern = re.compile(r"\x1b\[([0-9;?]*)([@-~])|\x1b\[?[0-9;?]*$|([^\x1b])")
        for found in pattern.finditer(text):
            if found[2] is not None:
                self._obey(found[1], found[2])
            elif found[3] is None:
                self._rest = found[0]
            else:
                self._put(found[3])

    def _obey(self, numbers, command):
        if command == "H":
            row, _, column = numbers.partition(";")
            self.row, self.column = int(row or 1) - 1, int(column or 1) - 1
        elif numbers == "?1049":
            self.is_other_screen = command == "h"
            self._clear()

    def _put(self, char):
        if char == "\n":
            self.row = min(self.size[1] - 1, self.row + 1)
        elif char == "\r":
            self.column = 0
        elif self.row < self.size[1] and self.column < self.size[0]:
            self.cells[self.row][self.column] = char
            self.column += 1

    def ended(self, words=""):
        """The exit code; the terminal is as it was, and no more is said than that."""
        ends_at = time.monotonic() + DEADLINE_SECONDS
        while self.process.poll() is None:
            self._read(0.02)
            assert time.monotonic() < ends_at, self.seen[-600:]
        self._read(0.1)
        assert not self.is_other_screen
        assert "\x1b[?25h" in self.seen.rpartition("\x1b[?25l")[2]
        assert self._termios.tcgetattr(self._theirs) == self.before
        said = self.seen.rpartition("\x1b[?1049l")[2]
        assert words in said
        assert words or "Traceback" not in said
        return self.process.returncode

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        os.close(self._mine)
        os.close(self._theirs)


@needs_terminals
def test_it_is_driven_by_keys_while_a_worker_lives_and_dies(directory):
    """All views of one that is at a request, then its crash opened, by what the screen shows."""
    with working(directory, "/slow") as worker, Terminal(str(directory)) as terminal:
        terminal.until(r"^\[1 overview\]", r"^requests/s ", r"^in flight +1 ", "^workers +1 alive")
        terminal.press("2")
        terminal.until(r"\[2 routes\]", r"^> GET /ok +1 ")
        terminal.press("s")
        terminal.until(r"s sort: failed")
        terminal.press("\x1b[C\t")
        terminal.until(r"\[4 in flight\]", r"^> +[0-9.]+ s  POST /slow +running")
        terminal.press("/nothing\r")
        terminal.until("^nothing matches nothing", r"/ filter: nothing")
        terminal.press("\x1b")
        terminal.until("POST /slow")
        terminal.press("6")
        terminal.until(rf"^ +{worker.pid}  alive", "^no worker has died")
        worker.kill()
        worker.wait()
        terminal.until("^no worker is running", rf"^> +{worker.pid} .*POST /slow")
        terminal.press("\r")
        terminal.until(rf"^worker {worker.pid} of .* died", r"^ +POST /slow +running", "Esc back")
        terminal.press("\x1b")
        terminal.until("q quit  1-6 view")
        terminal.resize(60, 12)
        terminal.until(r"^q quit  1-6 view", r"^> +\d+")
        terminal.press("q")
        assert terminal.ended() == 0


ENDS = {
    "q": (lambda terminal: terminal.press("q"), 0),
    "ctrl-c": (lambda terminal: terminal.press("\x03"), 0),
    "sigterm": (lambda terminal: terminal.process.send_signal(signal.SIGTERM), 143),
}


@needs_terminals
@pytest.mark.parametrize(("end", "code"), ENDS.values(), ids=ENDS)
def test_however_it_ends_the_terminal_is_as_it_was(directory, end, code):
    """With echo, lines, its cursor and its screen; and without colours where none are wanted."""
    with Terminal(str(directory), size=(80, 24), NO_COLOR="1") as terminal:
        terminal.until(r"^\[1 overview\]", "^q quit", "none is running")
        end(terminal)
        assert terminal.ended() == code
        assert not re.search(r"\x1b\[[0-9;]*\b(3[0-7]|9[0-7]|38;5;\d+)m", terminal.seen)


@needs_terminals
def test_also_an_error_of_its_own_leaves_the_terminal_as_it_was(directory):
    """And is read on the screen that was there before."""
    with Terminal(str(directory), code=BROKEN) as terminal:
        terminal.until("^ZeroDivisionError")
        assert terminal.ended("ZeroDivisionError") == 1


@needs_terminals
def test_what_is_gone_is_said_in_the_header_and_tried_again(tmp_path):
    """A directory that is made while it looks is shown."""
    later = tmp_path / "later"
    with Terminal(str(later)) as terminal:
        terminal.until("^CANNOT READ, trying again: ", "not exist: is it the directory")
        later.mkdir(0o700)
        terminal.until("^workers +none is running")
        assert "CANNOT READ" not in terminal.until("q quit")
        later.rmdir()
        terminal.until("^CANNOT READ, trying again: ", "none is running")
        terminal.press("q")
        assert terminal.ended() == 0


LIVE = """
import asyncio, sys
import uvicorn
from asgi_errorkit import ErrorKit
from asgi_errorkit.ops import Ops
from asgi_errorkit.testing import request

async def app(scope, receive, send):
    if scope["path"] == "/slow":
        await asyncio.Event().wait()
    raise ConnectionError("the price list\\x1b[31m is gone")

async def serve():
    kit = ErrorKit(app)
    await request(kit, "GET", "/prices")
    slow = asyncio.ensure_future(request(kit, "GET", "/slow"))
    server = uvicorn.Server(
        uvicorn.Config(Ops(token=sys.argv[1]).app(kit), port=0, lifespan="off", log_level="error")
    )
    serving = asyncio.ensure_future(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    print(server.servers[0].sockets[0].getsockname()[1], flush=True)
    await serving

asyncio.run(serve())
"""


@needs_terminals
def test_an_ops_app_is_shown_from_its_url(tmp_path):
    """A group of errors is opened with its traceback; of a server that goes the last is kept."""
    token = tmp_path / "token"
    token.write_text(TOKEN + "\n")
    server = subprocess.Popen(
        [sys.executable, "-c", LIVE, TOKEN],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        lines = iter(server.stdout.readline, "")
        port = next(line for line in lines if line.strip().isdigit()).strip()
        url = f"http://127.0.0.1:{port}"
        with Terminal(url, "--token-file", str(token)) as terminal:
            terminal.until("^workers +1 alive", "^errors +1 group.*ConnectionError")
            terminal.press("4")
            terminal.until("GET /slow")
            terminal.press("3\r")
            terminal.until(r"^ConnectionError: the price list\\x1b\[31m is gone", "^Traceback")
            terminal.press("G")
            terminal.until(
                r"^ConnectionError: the price list", 'raise ConnectionError|File "<string>"'
            )
            server.kill()
            terminal.until("^CANNOT READ, trying again", "ConnectionError")
            terminal.press("q")
            assert terminal.ended() == 0
    finally:
        server.kill()
        server.wait()
        server.stdout.close()
