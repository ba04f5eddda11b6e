"""`top` at a terminal: what it shows of who lives, dies, comes back or is hostile, and how it leaves."""

import contextlib
import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import time

import psutil
import pytest

from asgi_errorkit.cli.top.state import VIEWS
from tests.terminals import COMMAND, DEADLINE_SECONDS, SHELL, Terminal
from tests.test_cli_record import working
from tests.test_cli_top import TOKEN, answering

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no pseudo terminals there")


@pytest.fixture(autouse=True)
def _nothing_around(monkeypatch):
    for name in ("ASGI_ERRORKIT_DIR", "ASGI_ERRORKIT_TOKEN", "COLUMNS", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def directory(tmp_path):
    made = tmp_path / "record"
    made.mkdir(0o700)
    return made


BROKEN = f"""
from asgi_errorkit.cli.top import live
def draw(look, *rest, drawn=live.draw):
    return drawn(look, *rest) if look.picture is None else 1 / 0
live.draw = draw
{COMMAND}
"""


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
        terminal.until("q quit  1-7 view")
        terminal.resize(60, 12)
        terminal.until(r"^q quit  1-7 view", r"^> +\d+")
        terminal.press("q")
        assert terminal.ended() == 0


ENDS = {
    "q": (lambda terminal: terminal.press("q"), 0),
    "ctrl-c": (lambda terminal: terminal.press("\x03"), 0),
    "sigterm": (lambda terminal: terminal.process.send_signal(signal.SIGTERM), 143),
}


@pytest.mark.parametrize(("end", "code"), ENDS.values(), ids=ENDS)
def test_however_it_ends_the_terminal_is_as_it_was(directory, end, code):
    """With echo, lines, its cursor and its screen; and without colours where none are wanted."""
    with Terminal(str(directory), size=(80, 24), NO_COLOR="1") as terminal:
        terminal.until(r"^\[1 overview\]", "^q quit", "none is running")
        end(terminal)
        assert terminal.ended() == code
        assert not re.search(r"\x1b\[[0-9;]*\b(3[0-7]|9[0-7]|38;5;\d+)m", terminal.seen)


def test_also_an_error_of_its_own_leaves_the_terminal_as_it_was(directory):
    """And is read on the screen that was there before."""
    with Terminal(str(directory), code=BROKEN) as terminal:
        terminal.until("^ZeroDivisionError")
        assert terminal.ended("ZeroDivisionError") == 1


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


# Stopped, and brought back


def test_who_stops_it_has_the_terminal_and_who_brings_it_back_the_view(directory):
    """Ctrl-Z does as with any other job of a shell, also twice."""
    with Terminal(str(directory), code=SHELL) as terminal:
        terminal.until("^q quit")
        terminal.press("2")
        for _ in range(2):
            terminal.until(r"\[2 routes\]")
            assert terminal.is_other_screen
            terminal.press("\x1a")
            terminal.until("^stopped, and the terminal is as it was")
            assert not terminal.is_other_screen
            terminal.press("\r")
        terminal.until(r"\[2 routes\]")
        assert terminal.mode() != terminal.before
        terminal.press("q")
        assert terminal.ended() == 0


def test_what_was_stopped_without_being_asked_takes_the_terminal_again(directory):
    """SIGSTOP leaves it no time to give anything back: the shell does, and it begins anew."""
    with Terminal(str(directory), code=SHELL) as terminal:
        terminal.until("^q quit")
        os.kill(terminal.job(), signal.SIGSTOP)
        terminal.until_said("stopped, and the terminal is another")
        terminal.seen = ""
        terminal.press("\r")
        terminal.until_said("[1 overview]")
        assert terminal.mode() != terminal.before
        terminal.press("q")
        assert terminal.ended() == 0


# Leaving


def test_of_a_terminal_that_is_gone_nothing_is_said(directory, tmp_path):
    """The exit code is that of SIGHUP."""
    with (tmp_path / "said").open("w+") as said:
        with Terminal(str(directory), errors=said) as terminal:
            terminal.until("^q quit")
            terminal.hang_up()
            assert terminal.process.wait(DEADLINE_SECONDS) == 128 + signal.SIGHUP
        said.seek(0)
        assert said.read() == ""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["int", "term"])
def test_many_signals_end_it_as_one_does(number):
    """Also while a server does not answer; none of them comes amid the giving back."""
    with listening() as url, Terminal(url) as terminal:
        terminal.until("^nothing is known yet")
        for _ in range(20):
            terminal.process.send_signal(number)
        assert terminal.ended() == (0 if number == signal.SIGINT else 128 + number)


def test_who_interrupts_one_picture_is_not_told_where():
    """Ctrl-C while a server does not answer."""
    with listening() as url:
        process = subprocess.Popen(
            [sys.executable, "-c", COMMAND, "top", "--once", url],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        listening_to = url.rpartition(":")[2]
        wait_for(lambda: connected_to(listening_to))
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=DEADLINE_SECONDS)
    assert (process.returncode, out) == (130, "")


@contextlib.contextmanager
def listening():
    """A server that takes connections and says nothing; its URL."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def connected_to(port):
    return any(
        each.laddr.port != int(port) and each.raddr and each.raddr.port == int(port)
        for each in psutil.net_connections("tcp4")
        if each.status == psutil.CONN_ESTABLISHED
    )


def wait_for(condition):
    ends_at = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < ends_at
        time.sleep(0.02)


# Any terminal


def test_it_fits_any_size(directory):
    """Also one that nobody can read; it is drawn anew at each."""
    with Terminal(str(directory)) as terminal:
        terminal.until("^q quit")
        for size in [(20, 5), (1, 1), (300, 100), (3, 200), (400, 2), (80, 24)]:
            terminal.resize(*size)
            title = "asgi-errorkit top  "[: max(0, size[0] - 1)]
            terminal.until(rf"^{title}")
            for key in "1234567\r":
                terminal.press(key)
            terminal.press("1")
        screen = terminal.until(r"^\[1 overview\]", "^q quit  1-7 view")
        assert [line[:10].strip() for line in screen.split("\n")[3:6]] == [
            "requests/s",
            "failed",
            "in flight",
        ]
        terminal.press("q")
        assert terminal.ended() == 0


PLAIN = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}


@pytest.mark.parametrize(
    "variables", [PLAIN, {"PYTHONIOENCODING": "latin-1"}, {"TERM": ""}], ids=["c", "latin", "none"]
)
def test_what_a_terminal_does_not_have_is_not_sent(directory, variables):
    """The blocks of a sparkline are ASCII there."""
    with (
        working(directory, "/slow/\xe4\u65e5"),
        Terminal(str(directory), **variables) as terminal,
    ):
        sparks = "[_.,:=*#-]{3}" if "TERM" not in variables else "[▁▂▃▄▅▆▇█]{3}"
        terminal.until("^in flight +1 +" + sparks)
        terminal.press("4")
        terminal.until(r"POST /slow/")
        terminal.press("q")
        assert terminal.ended() == 0


@pytest.mark.parametrize("term", ["dumb", "unknown"])
def test_where_nothing_can_be_drawn_one_picture_is_printed(directory, term):
    """And it ends, without a sequence that such a terminal would show."""
    with Terminal(str(directory), TERM=term, size=(80, 60)) as terminal:
        assert terminal.process.wait(DEADLINE_SECONDS) == 0
        terminal.until("^workers +none is running", "^no worker has died")
        assert "\x1b" not in terminal.seen


# A real app


SHOP = """
import asyncio
import os

from asgi_errorkit import ErrorKit, ErrorTracker
from asgi_errorkit.ops import Ops

EVIL = os.environ.get("EVIL", "").encode().decode("unicode_escape")

async def shop(scope, receive, send):
    if scope["type"] == "lifespan":
        for _ in range(2):
            told = await receive()
            await send({"type": told["type"] + ".complete"})
        return
    status = {"/missing": 404, "/ok": 200}.get(scope["path"])
    if scope["path"] == "/slow":
        await asyncio.Event().wait()
    if status is None:
        raise ConnectionError("the price list is gone" + EVIL)
    await send({"type": "http.response.start", "status": status, "headers": []})
    await send({"type": "http.response.body", "body": b""})

app = ErrorKit(
    shop,
    directory=os.environ["RECORD"],
    tracker=ErrorTracker(release="r1" + EVIL),
    ops=Ops(token=os.environ["TOKEN"]),
)
"""
EVIL = r"\x1b]0;owned\x07\x1b[2J\x9b31m\u202egnp\u200b\u0301\u0301\u0301\u0301\u0301\u65e5\r\n\x00"


@contextlib.contextmanager
def shop(directory, tmp_path, *, workers=1, port=0, evil=""):
    """Workers of uvicorn that serve it, and their port."""
    (tmp_path / "shop.py").write_text(SHOP)
    arguments = ["--workers", str(workers), "--port", str(port), "--app-dir", str(tmp_path)]
    with subprocess.Popen(
        [sys.executable, "-m", "uvicorn", "shop:app", "--no-access-log", *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "RECORD": str(directory), "TOKEN": TOKEN, "EVIL": evil},
    ) as server:
        try:
            ready, said = 0, ""
            while ready < workers or not port:
                said = server.stderr.readline()
                assert said, "it has ended"
                running = re.search(r"http://127\.0\.0\.1:(\d+)", said)
                port = int(running[1]) if running else port
                ready += "startup complete" in said
            yield port
        finally:
            os.killpg(server.pid, signal.SIGKILL)  # in order, it would wait for what goes on


def send(port, path, *, times=1, agent="browser", **headers):
    for _ in range(times):
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port)) as connection:
            connection.request("GET", path, headers={"User-Agent": agent, **headers})
            connection.getresponse().read()


@contextlib.contextmanager
def going_on(port, path):
    """A request that nobody answers."""
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port)) as connection:
        connection.request("GET", path)
        yield


def test_the_figures_are_those_of_the_traffic(directory, tmp_path):
    """Of all workers together, from their directory and from the URL of one of them."""
    with shop(directory, tmp_path, workers=2) as port:
        send(port, "/ok", times=25)
        send(port, "/missing", times=4)
        send(port, "/boom", times=3)
        with going_on(port, "/slow"):
            sources = str(directory), f"http://127.0.0.1:{port}/_errorkit"
            for source in sources:
                check_figures(source, ok=25, missing=4, boom=3)
    with Terminal(str(directory), size=(120, 40)) as terminal:
        terminal.until(
            "^5 minutes +32 requests, 3 failed",
            "^workers +none is running",
            r"^crashes +[12], the last of worker \d+",
        )
        terminal.press("6")
        terminal.until(r"^. +\d+ .*GET /slow")


def check_figures(source, *, ok, missing, boom):
    with Terminal(source, size=(120, 40), ASGI_ERRORKIT_TOKEN=TOKEN) as terminal:
        whole = ok + missing + boom
        share = f"{100 * boom / whole:.2f}"
        terminal.until(
            "^in flight +1 ",
            rf"^5 minutes +{whole} requests, {boom} failed \({share} %\), {missing} refused",
            "^workers +2 alive",
            rf"^outcome +ok +{ok}\b",
            rf"^outcome +client_error +{missing}\b",
            rf"^outcome +server_error +{boom}\b",
            rf"^error +external_service +{boom}\b",
            rf"^error +not_found +{missing}\b",
        )
        terminal.press("2")
        screen = terminal.until(rf"^. GET /boom +{boom} +{boom} ", "[▁▂▃▄▅▆▇█]{2}$")
        listed = re.findall(r"^. .*?\)?  +(\d+) +(\d+) .* ms", screen, re.MULTILINE)
        assert sum(int(requests) for requests, _ in listed) == whole
        assert sum(int(failed) for _, failed in listed) == boom
        terminal.press("3")
        terminal.until(rf" {boom} +external_service +ConnectionError +the price l")
        terminal.press("4")
        terminal.until(r"^> +[0-9.]+ (s|min)  GET /slow +running")
        terminal.press("5")
        terminal.until(r"^. external_service +closed +\d+ ")
        terminal.press("6")
        terminal.until(r"(?s)worker +life.* +\d+  alive .* +\d+  alive ")
        terminal.press("q")
        assert terminal.ended() == 0


def test_nothing_that_a_client_sends_or_an_app_says_is_obeyed(directory, tmp_path):
    """In paths, agents, ids, messages and releases: what is drawn are the sequences of `top` alone."""
    with shop(directory, tmp_path, evil=EVIL) as port:
        evil = EVIL.encode().decode("unicode_escape")
        path = "/" + "".join(f"%{each:02x}" for each in evil.encode())
        # A server refuses other controls in a header.
        agent = re.sub(r"[\x00-\x1f]", "", evil).encode().decode("latin-1")
        send(port, path, times=2, agent=agent, **{"X-Request-ID": agent})
        with going_on(port, "/slow"):
            for source in (str(directory), f"http://127.0.0.1:{port}/_errorkit"):
                check_obeys_nothing(source)


def check_obeys_nothing(source):
    with Terminal(source, size=(200, 60), ASGI_ERRORKIT_TOKEN=TOKEN) as terminal:
        terminal.until("^errors +1 group", "^workers +1 alive")
        for view in range(1, len(VIEWS) + 1):
            terminal.press(str(view))
            terminal.until(rf"\[{view} ")
        terminal.press("6")
        terminal.until(r"\\x1b\]0;owned\\x07")
        terminal.press("3\r")
        terminal.until(r"^ConnectionError: the price list is gone\\x1b\]0;owned", "^Traceback")
        terminal.press("q")
        assert terminal.ended() == 0
        plain = re.sub(r"\x1b\[(\?(1049|25|7)[hl]|H|\d+;\d+H|[0-9;]*m)", "", terminal.seen)
        assert all(each.isprintable() or each in "\r\n" for each in plain)
        assert "\u0301" * 4 not in plain


def test_a_server_that_goes_is_said_and_one_that_comes_is_shown(directory, tmp_path):
    """The last picture stays meanwhile; a wrong token is said likewise."""
    with contextlib.ExitStack() as serving:
        port = serving.enter_context(shop(directory, tmp_path))
        send(port, "/boom")
        url = f"http://127.0.0.1:{port}/_errorkit"
        with Terminal(url, ASGI_ERRORKIT_TOKEN=TOKEN[::-1]) as terminal:
            terminal.until("^CANNOT READ, trying again: it refuses the token", "^nothing is known")
            terminal.press("q")
            assert terminal.ended() == 0
        with Terminal(url, ASGI_ERRORKIT_TOKEN=TOKEN) as terminal:
            terminal.until("^errors +1 group")
            serving.close()
            terminal.until("^CANNOT READ, trying again: .*refused", "^errors +1 group")
            with shop(directory, tmp_path, port=port):
                terminal.until(r"\A.*\n.*\n\nrequests/s", "^workers +1 alive")
                terminal.press("q")
                assert terminal.ended() == 0


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [(200, b"<html>\x1b]0;owned\x07</html>", "no JSON"), (418, b"", "status 418")],
    ids=["html", "teapot"],
)
def test_what_is_no_ops_app_is_said(status, body, words):
    """And tried again, for it may become one."""
    with answering(status, body) as (url, _), Terminal(url) as terminal:
        terminal.until(f"^CANNOT READ, trying again: .*{words}")
        terminal.press("q")
        assert terminal.ended() == 0
        assert "owned" not in terminal.seen


# Alerts


ALARMED = """
import asyncio, sys
import uvicorn
from asgi_errorkit import ErrorKit
from asgi_errorkit.alerts import Alerts
from asgi_errorkit.ops import Ops
from asgi_errorkit.testing import request

async def app(scope, receive, send):
    raise ConnectionError

async def serve():
    alerts = Alerts()
    kit = ErrorKit(app, alerts=alerts)
    await request(kit, "GET", "/prices")
    alerts.send_alert("disk_full", "the disk\\x1b[31m is full", "high")
    alerts.silence("loop_blocked", seconds=7200, why="a known\\x1b[31m one")
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


def test_alerts_are_shown_with_what_is_silenced():
    """Of a kit that has them."""
    with subprocess.Popen(
        [sys.executable, "-c", ALARMED, TOKEN],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as server:
        try:
            port = next(line for line in server.stdout if line.strip().isdigit()).strip()
            url = f"http://127.0.0.1:{port}"
            with Terminal(url, ASGI_ERRORKIT_TOKEN=TOKEN) as terminal:
                terminal.until("^q quit")
                terminal.press("7")
                terminal.until(
                    r"^silenced for 2\.0 h: loop_blocked because: a known\\x1b\[31m one",
                    r"^> .* happened +high +disk_full +the disk(\\x1b\[|\?\[)31m is full",
                )
                terminal.press("q")
                assert terminal.ended() == 0
        finally:
            server.kill()
