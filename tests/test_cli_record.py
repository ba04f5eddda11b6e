"""The commands tell what is on record, whoever wrote it, and change nothing."""

import asyncio
import contextlib
import io
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asgi_errorkit import ErrorKit
from asgi_errorkit.cli import main
from asgi_errorkit.spool.directory import SpoolDirectory
from asgi_errorkit.spool.host import Host
from asgi_errorkit.spool.layout import SEGMENT_BYTES, Ending
from asgi_errorkit.spool.owner import this_process
from asgi_errorkit.spool.segment import Segment
from asgi_errorkit.testing import request

COMMANDS = ["crashes", "inflight", "stats", "errors"]
DEADLINE_SECONDS = 20
PRINTABLE = re.compile(r"[\x20-\x7e…\n]*")

SUSPECT_KEYS = {
    "request_id",
    "method",
    "path",
    "phase",
    "started_at",
    "age_seconds",
    "memory_mb_at_start",
    "memory_growth_mb",
}
CRASH_KEYS = {
    "pid",
    "app",
    "release",
    "started_at",
    "last_seen_at",
    "found_at",
    "memory_mb",
    "in_flight",
    "unlisted",
    "suspects",
    "damaged",
    "resources",
    "recent",
}

WORKER = """
import asyncio, sys
from asgi_errorkit import ErrorKit
from asgi_errorkit.testing import request

async def app(scope, receive, send):
    if scope["path"] == "/answering":
        await send({"type": "http.response.start", "status": 200, "headers": []})
    if scope["path"] != "/ok":
        print("at it", file=sys.stderr, flush=True)
        await asyncio.Event().wait()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})

async def serve():
    kit = ErrorKit(app, directory=sys.argv[1])
    await request(kit, "GET", "/ok")
    await asyncio.gather(*(request(kit, "POST", path, query=b"a=b") for path in sys.argv[2:]))

asyncio.run(serve())
"""

SERVED = """
import os, signal

async def app(scope, receive, send):
    if scope["path"] == "/guilty":
        os.kill(os.getpid(), signal.SIGKILL)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})
"""


@pytest.fixture(autouse=True)
def _no_directory_around(monkeypatch):
    monkeypatch.delenv("ASGI_ERRORKIT_DIR", raising=False)


@pytest.fixture
def directory(tmp_path):
    """One that is empty, and may serve."""
    made = tmp_path / "record"
    made.mkdir(0o700)
    return made


@contextlib.contextmanager
def working(directory, *paths):
    """A process that has answered one request and is at some others; killed afterwards."""
    process = subprocess.Popen(
        [sys.executable, "-c", WORKER, str(directory), *paths],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        for _ in paths:
            assert process.stderr.readline() == "at it\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def killed(directory, *paths):
    """The pid of one that has been killed amid those requests."""
    with working(directory, *paths) as process:
        return process.pid


def lay(directory, owner, *, requests=(), ending=None, about=None, now=None, body=None):
    """A worker's segment as it would lie there; the requests are (id, method, path, age)."""
    now = time.perf_counter() if now is None else now
    spool = SpoolDirectory.open(directory)
    made = spool.create(SEGMENT_BYTES)
    said = {
        "pid": owner.pid,
        "app": "laid",
        "release": None,
        "started_at": time.time(),
        "clock_offset": time.time() - time.perf_counter(),
    }
    segment = Segment(made.file, orjson.dumps(said) if about is None else about)
    os.close(made.file)
    for request_id, method, path, age in requests:
        segment.begin(request_id, method, path, now - age, 50.0)
    segment.beat(now, 60.0, now, 0)
    if body is not None:
        segment.save(body, (), now)
    segment.close(Ending.OPEN if ending is None else ending)
    spool.publish(made.temporary, f"worker-{owner.key}-{os.urandom(4).hex()}.ek")
    spool.close()


def keep(directory, body, number=1):
    """A file in the place of a crash's."""
    path = directory / f"crash-{number:013}-{this_process().key}-{number:08x}.ek"
    path.write_bytes(body)
    path.chmod(0o600)
    return path


def dead(pid=4242):
    """A process of an earlier boot."""
    return this_process()._replace(pid=pid, boot="deadbeef")


def foreign(pid=4343):
    """A process of another container."""
    return this_process()._replace(pid=pid, namespace=0xABC)


def ran(capsys, *arguments):
    """Exit code, standard output, standard error."""
    try:
        code = main([str(each) for each in arguments])
    except SystemExit as left:
        code = left.code
    out, said = capsys.readouterr()
    return code, out, said


def document(capsys, command, directory):
    code, out, said = ran(capsys, command, directory, "--json")
    assert (code, said) == (0, "")
    assert out.isascii() and out.endswith("}\n")
    return orjson.loads(out)


def everything(directory):
    """Whatever a change would change; reading may change when a file was read."""
    found = {}
    for path in [directory, *sorted(directory.iterdir())]:
        about = path.lstat()
        body = path.read_bytes() if stat.S_ISREG(about.st_mode) else b""
        kept = (about.st_mode, about.st_ino, about.st_size, about.st_mtime_ns, about.st_ctime_ns)
        found[path.name] = (*kept, body)
    return found


# Where it is read


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("value", [None, ""], ids=["unset", "empty"])
def test_no_directory_at_all_is_refused(capsys, monkeypatch, command, value):
    """In one line that says how to name one."""
    if value is not None:
        monkeypatch.setenv("ASGI_ERRORKIT_DIR", value)
    code, out, said = ran(capsys, command)
    assert (code, out) == (2, "")
    assert len(said.splitlines()) == 1
    assert said.startswith("asgi-errorkit: ") and "ASGI_ERRORKIT_DIR" in said


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("more", [[], ["--json"]], ids=["table", "json"])
def test_a_missing_directory_is_refused_and_not_made(capsys, tmp_path, command, more):
    missing = tmp_path / "above" / "missing"
    code, out, said = ran(capsys, command, missing, *more)
    assert (code, out) == (2, "")
    assert said == f"asgi-errorkit: {missing} does not exist: is it the directory of the app?\n"
    assert list(tmp_path.iterdir()) == []


def unfit(name, path):
    """Make what cannot serve, in a place where nothing is."""
    if name == "file":
        path.write_text("no directory")
    elif name == "dangling":
        path.symlink_to(path.parent / "nowhere")
    elif name == "link":
        (path.parent / "real").mkdir(0o700)
        path.symlink_to(path.parent / "real")
    else:
        path.mkdir()
        path.chmod(int(name, 8))


def but_for_looks(about):
    """All that a stat tells but when it was looked at last."""
    return about[:7], about.st_mtime_ns, about.st_ctime_ns


UNFIT = {
    "0755": "chmod 700",
    "0710": "chmod 700",
    "0777": "chmod 700",
    "file": "no directory",
    "link": "symbolic link",
    "dangling": "symbolic link",
}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("name", UNFIT)
def test_a_directory_that_cannot_serve_is_refused_as_the_app_would(capsys, tmp_path, command, name):
    """With the reason in one line, and left as it is."""
    path = tmp_path / "unfit"
    unfit(name, path)
    before = but_for_looks(path.lstat())
    code, out, said = ran(capsys, command, path)
    assert (code, out) == (2, "")
    assert len(said.splitlines()) == 1
    assert str(path) in said and UNFIT[name] in said
    assert but_for_looks(path.lstat()) == before
    assert not (tmp_path / "nowhere").exists()


def test_a_name_that_a_terminal_would_obey_is_not_obeyed(capsys, tmp_path):
    code, _, said = ran(capsys, "crashes", tmp_path / "a\x1b[31m\nb\u202e")
    assert code == 2
    assert PRINTABLE.fullmatch(said) and len(said.splitlines()) == 1
    assert r"a\x1b[31m\nb\u202e does not exist" in said


def test_an_empty_name_is_refused(capsys):
    code, _, said = ran(capsys, "crashes", "")
    assert code == 2 and "must have a name" in said


@pytest.mark.parametrize("command", COMMANDS)
def test_the_environment_names_the_directory_unless_an_argument_does(
    capsys, monkeypatch, directory, tmp_path, command
):
    monkeypatch.setenv("ASGI_ERRORKIT_DIR", str(directory))
    _, out, _ = ran(capsys, command, "--json")
    assert orjson.loads(out)["directory"] == str(directory)
    code, _, said = ran(capsys, command, tmp_path / "other")
    assert code == 2 and "other" in said


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("arguments", [["a", "b", "c"], ["--loud"]], ids=["many", "option"])
def test_arguments_that_make_no_sense_are_refused(capsys, command, arguments):
    code, out, said = ran(capsys, command, *arguments)
    assert (code, out) == (2, "")
    assert f"usage: asgi-errorkit {command}" in said


@pytest.mark.parametrize("command", COMMANDS)
def test_help_tells_of_the_variable(capsys, command):
    code, out, _ = ran(capsys, command, "--help")
    assert code == 0
    assert "ASGI_ERRORKIT_DIR" in out and "--json" in out
    assert command in ran(capsys, "--help")[1]


NOTHING = {
    "crashes": "no worker has died\n",
    "inflight": "no worker is running\n",
    "stats": "no request has ended\n",
    "errors": "no error has been seen\n",
}
EMPTY = {
    "crashes": {"crashes": []},
    "inflight": {"workers": [], "requests": []},
    "stats": {"requests": 0, "outcomes": {}, "error_types": {}, "breakers": []},
    "errors": {"groups": [], "window_minutes": None},
}


@pytest.mark.parametrize("command", COMMANDS)
def test_an_empty_directory_has_nothing_to_tell(capsys, directory, command):
    assert ran(capsys, command, directory) == (0, NOTHING[command], "")
    told = document(capsys, command, directory)
    assert (told["directory"], told["unread"]) == (str(directory), 0)
    assert told["read_at"] == pytest.approx(time.time(), abs=60)
    assert {name: told[name] for name in EMPTY[command]} == EMPTY[command]


@pytest.mark.parametrize("module", ["rich", "rich.console", "rich.table", "rich.text"])
@pytest.mark.parametrize("command", COMMANDS)
def test_without_rich_it_says_what_to_install(capsys, monkeypatch, directory, command, module):
    """And --json does without."""
    for name in [module, *(n for n in sys.modules if n.startswith(f"{module}."))]:
        monkeypatch.setitem(sys.modules, name, None)
    code, out, said = ran(capsys, command, directory)
    assert (code, out) == (2, "")
    assert len(said.splitlines()) == 1
    assert "pip install 'asgi-errorkit[cli]'" in said and "--json" in said
    document(capsys, command, directory)


# Who has died


def test_a_killed_worker_is_told_of_before_anybody_has_found_it(capsys, directory):
    """With the requests it was at, the likeliest first; its report is still there for a survivor."""
    before = time.time()
    pid = killed(directory, "/answering", "/work")
    for _ in range(2):
        (crash,) = document(capsys, "crashes", directory)["crashes"]
        assert (crash["pid"], crash["in_flight"], crash["found_at"]) == (pid, 2, None)
        assert before - 1 < crash["started_at"] <= crash["last_seen_at"] < time.time() + 1
        assert set(crash) == CRASH_KEYS
        assert all(set(suspect) == SUSPECT_KEYS for suspect in crash["suspects"])
        told = [(each["method"], each["path"], each["phase"]) for each in crash["suspects"]]
        assert told == [("POST", "/work", "running"), ("POST", "/answering", "answering")]
    (claimed,) = Host(directory).look()
    (kept,) = document(capsys, "crashes", directory)["crashes"]
    assert kept == claimed
    assert {**kept, "found_at": None} == crash


def test_a_killed_worker_is_told_of_in_words(capsys, directory):
    pid = killed(directory, "/work/token=hidden")
    code, out, said = ran(capsys, "crashes", directory)
    assert (code, said) == (0, "")
    heading, circumstances, header, suspect = out.splitlines()[:4]
    at = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d\d:\d\d"
    assert re.fullmatch(rf"worker {pid} of __main__\.app died, last seen {at}", heading)
    assert re.fullmatch(
        r"  not yet told of; it lived \d+\.\d s, memory (\d+ MB|\?), 1 in flight", circumstances
    )
    assert header.split("  ")[1] == "suspect" and "request id" in header
    assert suspect.startswith("  POST /work/token=[redacted]  running  ")
    assert "hidden" not in out and "a=b" not in out
    Host(directory).look()
    assert re.search(rf"^  found {at}; ", ran(capsys, "crashes", directory)[1], re.MULTILINE)


def test_a_served_app_that_kills_its_worker_is_named(capsys, tmp_path, directory):
    """The request that did it, when the app is gone for good."""
    (tmp_path / "served.py").write_text(SERVED)
    with (tmp_path / "said").open("wb") as said:
        process = subprocess.Popen(
            [sys.executable, "-m", "asgi_errorkit", "serve", "served:app", "--port", "0"],
            cwd=tmp_path,
            env={**os.environ, "ASGI_ERRORKIT_DIR": str(directory)},
            stdout=subprocess.DEVNULL,
            stderr=said,
        )
    try:
        deadline = time.monotonic() + DEADLINE_SECONDS
        while not (at := re.search(r"http://[\d.:]+", (tmp_path / "said").read_text())):
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.02)
        urllib.request.urlopen(f"{at[0]}/ok", timeout=DEADLINE_SECONDS).close()
        with contextlib.suppress(OSError):
            urllib.request.urlopen(f"{at[0]}/guilty?a=b", timeout=DEADLINE_SECONDS).close()
        assert process.wait(DEADLINE_SECONDS) == -signal.SIGKILL
    finally:
        process.kill()
        process.wait()
    (crash,) = document(capsys, "crashes", directory)["crashes"]
    assert (crash["pid"], crash["in_flight"]) == (process.pid, 1)
    assert (crash["suspects"][0]["method"], crash["suspects"][0]["path"]) == ("GET", "/guilty")


def test_the_latest_death_comes_first_found_or_not(capsys, directory):
    """By when the worker was last seen."""
    now = time.perf_counter()
    lay(directory, dead(1), now=now - 300)
    Host(directory).look()
    lay(directory, dead(2), now=now - 200)
    lay(directory, dead(3), now=now - 400)
    keep(directory, orjson.dumps({"pid": 4, "found_at": time.time() - 100}))
    keep(directory, orjson.dumps({"pid": 5}), 2)
    pids = [crash["pid"] for crash in document(capsys, "crashes", directory)["crashes"]]
    assert pids == [4, 2, 1, 3, 5]


def test_who_left_in_order_or_lives_has_not_died(capsys, directory):
    lay(directory, dead(), ending=Ending.CLEAN)
    lay(directory, this_process())
    lay(directory, foreign())
    assert ran(capsys, "crashes", directory) == (0, NOTHING["crashes"], "")


def test_a_death_that_is_being_told_of_is_listed_once(capsys, directory):
    """Its crash is kept before its segment goes."""
    lay(directory, dead())
    (name,) = (path.name for path in directory.iterdir())
    copied = (directory / name).read_bytes()
    Host(directory).look()
    mine = this_process().key
    between = directory / name.replace("worker-", f"claimed-{mine}-of-")
    between.write_bytes(copied)
    between.chmod(0o600)
    assert len(document(capsys, "crashes", directory)["crashes"]) == 1


def test_five_suspects_are_shown_and_the_others_counted(capsys, directory):
    """In JSON are as many as were kept."""
    lay(directory, dead(), requests=[(f"id{n}", "GET", f"/{n}", n) for n in range(9)])
    out = ran(capsys, "crashes", directory)[1]
    assert out.count("running") == 5
    assert "  and 4 more\n" in out
    assert len(document(capsys, "crashes", directory)["crashes"][0]["suspects"]) == 9


def test_a_worker_that_was_at_nothing_has_no_suspects(capsys, directory):
    lay(directory, dead())
    out = ran(capsys, "crashes", directory)[1]
    assert "memory 60 MB, 0 in flight\n" in out and "suspect" not in out


def test_of_a_record_that_cannot_be_read_the_death_is_told(capsys, directory):
    """No zeros stand for what is not known."""
    lay(directory, dead(31))
    (path,) = directory.glob("worker-*")
    path.write_bytes(b"damaged")
    Host(directory).look()
    (crash,) = document(capsys, "crashes", directory)["crashes"]
    assert (crash["pid"], crash["damaged"], crash["suspects"]) == (31, True, [])
    heading, circumstances = ran(capsys, "crashes", directory)[1].splitlines()[:2]
    assert heading == "worker 31 died, its record cannot be read"
    assert re.fullmatch(r"  found \d{4}-\S+; what it was at is not known", circumstances)


@pytest.mark.parametrize(
    ("command", "whose"), [("crashes", dead), ("inflight", this_process)], ids=["dead", "alive"]
)
def test_what_the_app_has_named_a_secret_is_one_here_too(capsys, directory, command, whose):
    """By the names that its worker tells, and no worker's names count for another."""
    said = orjson.dumps({"app": "a", "redact": ["iban", 7, "\x1b"]})
    lay(directory, whose(), about=said, requests=[("1", "GET", "/pay/iban=DE12", 1)])
    lay(directory, whose(), requests=[("2", "GET", "/pay/iban=FR34", 1)])
    out = ran(capsys, command, directory)[1]
    assert "/pay/iban=[redacted]" in out and "DE12" not in out
    assert "/pay/iban=FR34" in out


# What is in flight


def test_what_is_in_flight_is_listed_over_all_workers_the_oldest_first(capsys, directory):
    """Of those that live, and of those of whom nobody knows; the dead are at nothing."""
    lay(directory, dead(), requests=[("dead", "GET", "/dead", 5)])
    lay(directory, foreign(), requests=[("b", "GET", "/b", 30), ("d", "GET", "/d", 10)])
    lay(directory, this_process(), requests=[("a", "GET", "/a", 4000), ("c", "PUT", "/c", 20)])
    told = document(capsys, "inflight", directory)
    mine, other = os.getpid(), foreign().pid
    assert [(each["pid"], each["path"]) for each in told["requests"]] == [
        (mine, "/a"),
        (other, "/b"),
        (mine, "/c"),
        (other, "/d"),
    ]
    assert all(set(each) == SUSPECT_KEYS | {"pid", "app"} for each in told["requests"])
    ages = [each["age_seconds"] for each in told["requests"]]
    assert ages == pytest.approx([4000, 30, 20, 10], abs=9)
    assert {(each["pid"], each["life"], each["in_flight"]) for each in told["workers"]} == {
        (mine, "alive", 2),
        (other, "unknown", 2),
    }
    _, out, _ = ran(capsys, "inflight", directory)
    shown = [line.split()[:3] for line in out.splitlines()]
    assert ["1.1", "h", "GET"] in shown
    assert out.index("/a") < out.index("/b") < out.index("/c") < out.index("/d")


def test_a_running_worker_is_read_while_it_works(capsys, directory):
    """Its requests with their ages by its own clock; when they have ended it is at nothing."""
    with working(directory, "/answering", "/work/token=hidden") as process:
        told = document(capsys, "inflight", directory)
        (worker,) = told["workers"]
        assert (worker["pid"], worker["life"], worker["in_flight"]) == (process.pid, "alive", 2)
        listed = {(each["path"], each["phase"]) for each in told["requests"]}
        assert listed == {("/answering", "answering"), ("/work/token=[redacted]", "running")}
        for each in told["requests"]:
            assert each["started_at"] + each["age_seconds"] == pytest.approx(time.time(), abs=2)
    assert ran(capsys, "inflight", directory) == (0, NOTHING["inflight"], "")


def test_an_idle_worker_is_listed_with_nothing_in_flight(capsys, directory):
    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    kit = ErrorKit(app, directory=directory)
    asyncio.run(request(kit))
    kit.flush()
    capsys.readouterr()  # its log
    try:
        _, out, _ = ran(capsys, "inflight", directory)
        assert out.splitlines()[1].startswith(f"{os.getpid()} ")
        assert out.endswith("\nnothing is in flight\n")
    finally:
        kit.tracker.recorder.ledger.close()
        kit.tracker.recorder.close()


# Nothing is changed


@pytest.mark.parametrize("more", [[], ["--json"]], ids=["table", "json"])
@pytest.mark.parametrize("command", COMMANDS)
def test_reading_changes_nothing(capsys, directory, command, more):
    """Nothing is claimed, renamed, removed or written, not even what others would sweep away."""
    killed(directory, "/work")
    lay(directory, this_process(), requests=[("a", "GET", "/a", 1)])
    lay(directory, foreign())
    lay(directory, dead(), ending=Ending.CLEAN)
    lay(directory, dead(7), about=b"no json")
    keep(directory, b'{"pid": 1}')
    keep(directory, b"no json", 2)
    (directory / f"{dead().key}.00000000.new").write_bytes(b"stale")
    (directory / "a stranger").write_bytes(b"")
    before = everything(directory)
    assert ran(capsys, command, directory, *more)[0] == 0
    assert everything(directory) == before


def test_a_directory_that_cannot_be_written_can_be_read(capsys, directory):
    lay(directory, dead())
    directory.chmod(0o500)
    try:
        assert len(document(capsys, "crashes", directory)["crashes"]) == 1
    finally:
        directory.chmod(0o700)


# Files of anybody


EVIL = "a\x1b[31mb\x9b31m\u202ec\r\n[bold red]\u2066:smile:\x00\x7f\u2028\udcff\U000e0041"
EVIL_JSON = EVIL.replace("\udcff", "")  # which no JSON can hold
NESTED = b'{"pid":' + b"[" * 600 + b"]" * 600 + b',"app":"nested"}'
ODD = [None, True, -1, 2**64 - 1, 10**40, 1e308, -1e308, "", EVIL_JSON, [], [[]], {}, {"a": [1]}]
OF_ONE_KIND = {
    f"all-{number}": orjson.dumps(dict.fromkeys(CRASH_KEYS | SUSPECT_KEYS, odd))
    for number, odd in enumerate(ODD)
    if odd != 10**40
}
SUSPECTS_OF_ONE_KIND = {
    f"suspects-{number}": orjson.dumps({"suspects": [dict.fromkeys(SUSPECT_KEYS, odd), odd]})
    for number, odd in enumerate(ODD)
    if odd != 10**40
}
HOSTILE = {
    **OF_ONE_KIND,
    **SUSPECTS_OF_ONE_KIND,
    "empty": b"",
    "no-json": b"\xff\xfe no json",
    "list": b"[1, 2]",
    "nothing": b"{}",
    "nested": NESTED,
    "nested-beyond": NESTED.replace(b"[", b"[[[").replace(b"]", b"]]]"),
    "large-number": b'{"pid": 1%s, "started_at": 1%s}' % (b"0" * 300, b"0" * 300),
    "huge-text": orjson.dumps({"app": "x" * 3_000_000, "suspects": [{"path": "\x1b" * 1_000_000}]}),
    "many": orjson.dumps({"suspects": [{"path": "/"}] * 100_000, "in_flight": 100_000}),
    "surrogate": b'{"app": "\\ud800"}',
    "year": orjson.dumps({"started_at": 1e12, "last_seen_at": -1e12, "found_at": 253402300800}),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_crash_file_is_shown_as_far_as_it_makes_sense(capsys, directory, name):
    """Nothing in it is obeyed, it fills no screen, and the others are shown beside it."""
    keep(directory, HOSTILE[name])
    keep(directory, orjson.dumps({"pid": 77, "app": "honest"}), 2)
    code, out, said = ran(capsys, "crashes", directory)
    assert (code, said) == (0, "")
    assert "worker 77 of honest died" in out
    assert PRINTABLE.fullmatch(out)
    assert len(out) < 20_000
    told = document(capsys, "crashes", directory)["crashes"]
    assert all(set(crash) == CRASH_KEYS for crash in told)
    assert 77 in [crash["pid"] for crash in told]


def test_text_that_would_be_obeyed_is_shown_as_what_it_is(capsys, directory):
    """Controls, markup, and marks that turn the text around; JSON tells them exactly."""
    keep(directory, orjson.dumps({"app": EVIL_JSON, "release": "[/] [link=x]"}))
    out = ran(capsys, "crashes", directory)[1]
    shown = r"a\x1b[31mb\x9b31m\u202ec\r\n[bold red]\u2066:smile:\x00\x7f\u2028\U000e0041"
    assert f"of {shown}, release [/] [link=x] died" in out
    assert document(capsys, "crashes", directory)["crashes"][0]["app"] == EVIL_JSON


def test_a_long_path_takes_more_lines_and_no_wider_ones(capsys, directory):
    suspect = {"method": "GET", "path": "/" + "p" * 191, "request_id": "i" * 500}
    keep(directory, orjson.dumps({"suspects": [suspect]}))
    out = ran(capsys, "crashes", directory)[1]
    assert max(map(len, out.splitlines())) <= 160
    assert out.count("p") >= 191


def test_what_is_no_file_of_ours_is_passed_over(capsys, directory):
    """A FIFO holds nobody, a link is not followed, and what is too large is not read."""
    key = this_process().key
    os.mkfifo(directory / f"crash-0000000000001-{key}-1.ek", 0o600)
    os.mkfifo(directory / f"worker-{key}-1.ek", 0o600)
    (directory / f"crash-0000000000002-{key}-2.ek").symlink_to("/etc/passwd")
    with keep(directory, b"{", 3).open("ab") as large:
        large.truncate(17 * 1024 * 1024)
    code, told, _ = ran(capsys, "crashes", directory)
    assert (code, told.splitlines()[0]) == (0, NOTHING["crashes"].strip())
    assert "3 files were left out" in told
    assert ran(capsys, "inflight", directory) == (0, NOTHING["inflight"], "")


ABOUTS = {
    "no-json": b"no json",
    "list": b"[]",
    "nested": b'{"pid":' + b"[" * 600 + b"]" * 600 + b"}",
    "wrong": b'{"pid":{},"app":[1],"release":7,"started_at":"now","clock_offset":"x"}',
    "far": b'{"started_at":1e308,"clock_offset":1.7e308}',
    "evil": orjson.dumps({"app": EVIL_JSON, "release": EVIL_JSON}),
}


@pytest.mark.parametrize("name", ABOUTS)
@pytest.mark.parametrize("whose", [dead, this_process], ids=["dead", "alive"])
def test_a_hostile_segment_is_shown_as_far_as_it_makes_sense(capsys, directory, whose, name):
    """Its pid is known by its name."""
    requests = [(EVIL, EVIL, EVIL, 3), ("", "", "", -1e300), ("far", "GET", "/", 1.7e308)]
    lay(directory, whose(), about=ABOUTS[name], requests=requests)
    for command in COMMANDS:
        code, out, said = ran(capsys, command, directory)
        assert (code, said) == (0, "")
        assert PRINTABLE.fullmatch(out)
        document(capsys, command, directory)
    crash = document(capsys, "crashes", directory)["crashes"]
    running = document(capsys, "inflight", directory)["workers"]
    assert [each["pid"] for each in crash or running] == [whose().pid]


def test_a_file_that_makes_no_sense_is_counted(capsys, directory):
    lay(directory, this_process())
    (path,) = directory.iterdir()
    path.write_bytes(b"damaged")
    for command in COMMANDS:
        out = ran(capsys, command, directory)[1]
        assert out.endswith("1 file was left out: what is in there makes no sense\n")
        assert document(capsys, command, directory)["unread"] == 1


ANY = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
ANY_SUSPECT = st.dictionaries(st.sampled_from(sorted(SUSPECT_KEYS)), ANY)
ANY_CRASH = st.dictionaries(st.sampled_from(sorted(CRASH_KEYS)), ANY | st.lists(ANY_SUSPECT | ANY))


@settings(max_examples=60, deadline=None)
@given(crashes=st.lists(ANY_CRASH | ANY, max_size=3))
def test_whatever_a_crash_file_says_there_is_an_answer(crashes):
    """In words without anything to obey, and in JSON of the one shape."""
    with tempfile.TemporaryDirectory() as made:
        for number, crash in enumerate(crashes):
            keep(Path(made), orjson.dumps(crash), number)
        for more in ([], ["--json"]):
            with contextlib.redirect_stdout(io.StringIO()) as printed:
                assert main(["crashes", made, *more]) == 0
    assert all(set(crash) == CRASH_KEYS for crash in orjson.loads(printed.getvalue())["crashes"])


# Where it is printed


def run(*arguments, **more):
    return subprocess.run(
        [sys.executable, "-m", "asgi_errorkit", *map(str, arguments)],
        timeout=DEADLINE_SECONDS,
        check=False,
        **more,
    )


@pytest.mark.parametrize("more", [[], ["--json"]], ids=["table", "json"])
def test_a_reader_that_leaves_is_no_error(directory, more):
    """As `head` does."""
    keep(directory, b"{}")
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = run("crashes", directory, *more, stdout=writing, stderr=subprocess.PIPE)
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (0, b"")


def test_an_encoding_that_lacks_a_letter_is_no_error(directory):
    keep(directory, orjson.dumps({"app": "café ☕"}))
    done = run(
        "crashes",
        directory,
        env={**os.environ, "PYTHONIOENCODING": "latin-1"},
        capture_output=True,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert r"of café \u2615 died".encode("latin-1") in done.stdout


AGES = {
    None: "?",
    -5.0: "0.0 s",
    0.04: "0.0 s",
    3.24: "3.2 s",
    240.0: "4 min",
    5400.0: "1.5 h",
    129_600.0: "1.5 d",
    1e300: "1e+295 d",
}


@pytest.mark.parametrize("seconds", AGES)
def test_an_age_is_told_as_people_would(seconds, capsys, directory):
    keep(directory, orjson.dumps({"suspects": [{"age_seconds": seconds}]}))
    suspect = ran(capsys, "crashes", directory)[1].splitlines()[3]
    assert re.split(r" {2,}", suspect.strip())[2] == AGES[seconds]


def test_the_commands_load_nothing_of_rich_for_json(directory):
    code = (
        "import sys; from asgi_errorkit.cli import main\n"
        f"main(['crashes', {str(directory)!r}, '--json'])\n"
        "print('rich' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("\nFalse\n")


def test_what_is_served_from_here_is_found_by_its_name(capsys, tmp_path, monkeypatch):
    """As `serve` keeps its record where nobody says where."""
    monkeypatch.delenv("ASGI_ERRORKIT_DIR", raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dying.py").write_text(
        "import os, signal\n"
        "async def app(scope, receive, send):\n"
        "    if scope['type'] == 'http':\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    raise NotImplementedError\n"
    )
    port = free_port()
    command = ["-m", "asgi_errorkit", "serve", "dying:app", "--port", str(port)]
    with subprocess.Popen([sys.executable, *command], stderr=subprocess.DEVNULL) as process:
        ask_until_it_dies(process, port)
    (crash,) = document(capsys, "crashes", "dying:app")["crashes"]
    assert crash["suspects"][0]["path"] == "/guilty"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def ask_until_it_dies(process, port):
    deadline = time.monotonic() + 20
    while process.poll() is None:
        assert time.monotonic() < deadline
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
                connection.sendall(b"GET /guilty HTTP/1.1\r\nHost: x\r\n\r\n")
                connection.recv(1)
        except OSError:
            time.sleep(0.05)
