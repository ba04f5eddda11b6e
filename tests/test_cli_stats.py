"""`stats` adds up what all workers have counted, ever and within the last minutes."""

import asyncio
import contextlib
import os
import re
import subprocess
import sys
import time

import orjson
import pytest

from asgi_errorkit import ErrorKit, ErrorType
from asgi_errorkit.spool.directory import SpoolDirectory
from asgi_errorkit.spool.owner import this_process
from asgi_errorkit.testing import request
from tests.test_cli_record import EVIL_JSON, ODD, PRINTABLE, dead, document, lay, ran

QUANTILES = {"p50", "p90", "p95", "p99", "p99.9"}

# Another worker: it answers three, fails at two of them, and is killed amid a fourth.
OTHER = """
import asyncio, os, signal, sys
sys.path.insert(0, os.getcwd())
from tests.test_cli_stats import app
from asgi_errorkit import ErrorKit
from asgi_errorkit.testing import request

async def serve():
    kit = ErrorKit(app, directory=sys.argv[1])
    for path in ("/", "/boom", "/boom"):
        await request(kit, path=path)
    asyncio.get_running_loop().call_later(0.05, os.kill, os.getpid(), signal.SIGKILL)
    await request(kit, path="/hang")

asyncio.run(serve())
"""


async def app(scope, receive, send):
    if scope["path"] == "/boom":
        raise ConnectionError("boom")
    if scope["path"] == "/hang":
        await asyncio.Event().wait()
    status = 404 if scope["path"] == "/none" else 200
    await send({"type": "http.response.start", "status": status, "headers": []})
    await send({"type": "http.response.body", "body": b""})


@pytest.fixture(autouse=True)
def _no_directory_around(monkeypatch):
    monkeypatch.delenv("ASGI_ERRORKIT_DIR", raising=False)


@pytest.fixture
def directory(tmp_path):
    made = tmp_path / "record"
    made.mkdir(0o700)
    return made


@contextlib.contextmanager
def serving(capsys, directory, *paths):
    """A worker that has answered them, and runs."""
    kit = ErrorKit(app, directory=directory)
    try:
        for path in paths:
            asyncio.run(request(kit, path=path))
        kit.flush()
        assert kit.tracker.recorder.ledger.refresh()  # else it is saved within a second
        capsys.readouterr()  # its log
        yield kit
    finally:
        kit.tracker.recorder.ledger.close()
        kit.tracker.recorder.close()
        capsys.readouterr()


def test_stats_add_up_what_all_workers_have_counted(capsys, directory):
    """Of those that live, and those that have gone."""
    assert ran(capsys, "stats", directory) == (0, "no request has ended\n", "")
    with serving(capsys, directory, "/", "/", "/boom"):
        told = document(capsys, "stats", directory)
        assert told["requests"] == 3
        assert told["outcomes"] == {"ok": 2, "server_error": 1}
        assert told["error_types"] == {"external_service": 1}
        out = ran(capsys, "stats", directory)[1]
        assert re.search(r"^outcome +number *$", out, re.MULTILINE)
        assert re.search(r"^ok +2 *$", out, re.MULTILINE)
    assert document(capsys, "stats", directory)["outcomes"] == {"ok": 2, "server_error": 1}


def test_the_window_has_all_that_is_asked_of_it(capsys, directory):
    """Errors by type and severity, their share, percentiles, and the routes."""
    with serving(capsys, directory, "/", "/", "/boom", "/none"):
        told = document(capsys, "stats", directory)
        errors, performance = told["errors"], told["performance"]
        assert (told["window_minutes"], errors["total_requests"]) == (5, 4)
        assert (errors["failed_requests"], errors["client_errors"]) == (1, 1)
        assert errors["error_ratio"] == 0.25
        assert errors["errors_by_type"] == {"external_service": 1, "not_found": 1}
        assert errors["errors_by_severity"] == {"high": 1, "medium": 1}
        assert performance["outcomes"] == {"ok": 2, "server_error": 1, "client_error": 1}
        assert set(performance["percentiles"]) == QUANTILES
        assert {label: r["requests"] for label, r in performance["routes"].items()}["GET /"] == 2
        code, out, said = ran(capsys, "stats", directory, "--minutes", "1")
        assert (code, said) == (0, "")
        assert "within the last minute: 4 requests and sessions, 1 failed (25.00 %), 1 ref" in out
        assert re.search(
            r"^durations +p50 +p90 +p95 +p99 +p99\.9 +average +longest", out, re.MULTILINE
        )
        assert re.search(r"^route +requests +failed +average +p50", out, re.MULTILINE)
        assert re.search(r"^GET /boom +1 +1 +\d+\.\d ms", out, re.MULTILINE)
        assert "workers" not in told and "worker" not in out


def test_each_worker_is_told_of_by_itself_on_request(capsys, directory):
    """And those that are gone together, so that the rows add up to the whole."""
    done = subprocess.run(
        [sys.executable, "-c", OTHER, str(directory)], stdout=subprocess.DEVNULL, check=False
    )
    assert done.returncode < 0
    with serving(capsys, directory, "/", "/boom"):
        told = document_of(capsys, directory, "--workers")
        mine, others = told["workers"]
        assert (mine["pid"], mine["life"]) == (os.getpid(), "alive")
        assert (others["pid"], others["life"]) == (None, "gone")
        requests = [each["errors"]["total_requests"] for each in (mine, others)]
        failed = [each["errors"]["failed_requests"] for each in (mine, others)]
        assert (requests, failed) == ([2, 3], [1, 2])
        assert told["errors"]["total_requests"] == told["requests"] == 5
        assert told["performance"]["in_flight"] == 0, "the dead are at nothing"
        out = ran(capsys, "stats", directory, "--workers")[1]
        assert re.search(rf"^{os.getpid()} +alive +\d.* 2 +1 \(50\.00 %\)", out, re.MULTILINE)
        assert re.search(r"^all others +gone +3 +2 \(66\.67 %\)", out, re.MULTILINE)


def document_of(capsys, directory, *more):
    code, out, _ = ran(capsys, "stats", directory, "--json", *more)
    assert code == 0 and out.isascii()
    return orjson.loads(out)


def test_what_refuses_requests_now_is_told_whoever_refuses_it(capsys, directory):
    with serving(capsys, directory) as kit:
        kit.tracker.breaker("model:sdxl").force_open()
        kit.tracker.breaker("upscaler")
        for _ in range(30):
            kit.tracker.record_error(ErrorType.DATABASE)
        asyncio.run(request(kit))
        kit.flush()
        time.sleep(1.1)  # circuits are saved once a second
        asyncio.run(request(kit))
        kit.flush()
        told = {
            each["name"]: each
            for each in document(capsys_cleared(capsys), "stats", directory)["breakers"]
        }
        assert {name: each["state"] for name, each in told.items()} == {
            "model:sdxl": "forced_open",
            "database": "open",
        }
        assert {each["pid"] for each in told.values()} == {os.getpid()}
        out = ran(capsys, "stats", directory)[1]
        assert re.search(
            r"^database +open +\d+ +\d{4}-.* \d+ errors, threshold \d+ +\d", out, re.MULTILINE
        )
        assert re.search(r"^model:sdxl +forced_open", out, re.MULTILINE) and "upscaler" not in out


def capsys_cleared(capsys):
    capsys.readouterr()
    return capsys


def test_an_old_window_is_empty_and_the_sums_stay(capsys, directory):
    """After a new start of the machine its clock is another: the windows of before are nobody's."""
    keep_totals(directory, {"outcomes": {"ok": 7}, "boot": "another"})
    out = ran(capsys, "stats", directory)[1]
    assert re.search(r"^ok +7 *$", out, re.MULTILINE)
    assert out.endswith("\nnothing has ended within the last 5 minutes\n")


@pytest.mark.parametrize("minutes", ["0", "-1", "61", "nan", "inf", "many"])
def test_minutes_that_make_no_sense_are_refused(capsys, directory, minutes):
    code, out, said = ran(capsys, "stats", directory, f"--minutes={minutes}")
    assert (code, out) == (2, "") and "--minutes" in said


# Files of anybody


def keep_totals(directory, told):
    with contextlib.closing(SpoolDirectory.open(directory)) as opened:
        opened.write("totals.ek", orjson.dumps({"boot": this_process().boot, **told}))


def spans(*told):
    now = time.perf_counter()
    return [[now - 1, 1.0, *told]]


HISTOGRAM = [1, 0.5, 0.5, 0.5, 0, 1]
NAMES = {EVIL_JSON: 3, "negative": -1, "text": "x", "long" * 100_000: 1}
HOSTILE = {
    **{
        f"all-{number}": dict.fromkeys(
            ("outcomes", "error_types", "errors", "requests", "routes", "groups"), odd
        )
        for number, odd in enumerate(ODD)
        if odd != 10**40
    },
    "names": {"outcomes": NAMES, "error_types": NAMES},
    "errors": {"errors": spans(3, 1, 1, {EVIL_JSON: 3}, {EVIL_JSON: 3}, {EVIL_JSON: [9, 3]})},
    "requests": {
        "requests": spans({EVIL_JSON: 1}, HISTOGRAM, HISTOGRAM, 1e308, 1e308, 1e308, 1e308, 1, 1)
    },
    "routes": {"routes": {f"{EVIL_JSON}{n}": spans(1, HISTOGRAM) for n in range(600)}},
    "numbers": {"outcomes": {f"outcome-{n}": 2**47 for n in range(300)}},
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_sums_are_shown_as_what_they_are(capsys, directory, name):
    keep_totals(directory, {"outcomes": {"ok": 1}, **HOSTILE[name]})
    for more in ([], ["--workers"], ["--minutes", "60"]):
        code, out, said = ran(capsys, "stats", directory, *more)
        assert (code, said) == (0, "")
        assert PRINTABLE.fullmatch(out) and len(out) < 40_000
        document_of(capsys, directory, *more)


def test_text_that_would_be_obeyed_is_shown_as_what_it_is(capsys, directory):
    keep_totals(directory, {"outcomes": {"a\x1b[31m": 3}})
    out = ran(capsys, "stats", directory)[1]
    assert "\x1b" not in out
    assert r"a\x1b[31m" in out


BREAKERS = {
    **{str(number): odd for number, odd in enumerate(ODD) if odd != 10**40},
    "evil": [{"name": EVIL_JSON, "state": EVIL_JSON, "threshold": 1e300, "error_count": -1e300}],
    "many": [{"name": str(n), "state": "open"} for n in range(5000)],
    "odd": [{"name": "a", "state": odd, "threshold": odd} for odd in ODD if odd != 10**40],
}


@pytest.mark.parametrize("name", BREAKERS)
def test_hostile_circuits_are_shown_as_what_they_are(capsys, directory, name):
    body = orjson.dumps({"breakers": BREAKERS[name], "process": BREAKERS[name]})
    lay(directory, this_process(), body=body)
    lay(directory, dead(), body=body)
    for more in ([], ["--workers"]):
        code, out, said = ran(capsys, "stats", directory, *more)
        assert (code, said) == (0, "")
        assert PRINTABLE.fullmatch(out) and len(out) < 40_000
        document_of(capsys, directory, *more)
