"""The demo tells the truth: what it sends is what the kit sees, and it notices when it is not."""

import asyncio
import copy
import dataclasses
import itertools
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from asgi_errorkit.alerts import Webhook
from asgi_errorkit.demo.app import create_app
from asgi_errorkit.demo.checks import SECRET, Log, Seen, checks, read_log
from asgi_errorkit.demo.inbox import Inbox, Notices
from asgi_errorkit.demo.incidents import CIRCUIT_ALERT, DEATH_ALERT, MEMORY_ALERT
from asgi_errorkit.demo.kinds import KINDS, plan
from asgi_errorkit.demo.ledger import Ledger, Sent
from asgi_errorkit.demo.living import live_on
from asgi_errorkit.demo.report import report, ways_to_look
from asgi_errorkit.demo.restoring import MOST_BYTES, RAW, Reel, packed_frames
from asgi_errorkit.demo.run import main, observe
from asgi_errorkit.demo.sending import client_for
from asgi_errorkit.demo.server import HOST, ServerError
from asgi_errorkit.demo.stage import Stage, staged
from asgi_errorkit.demo.surroundings import Surroundings
from asgi_errorkit.demo.tables import pretty, section, table
from asgi_errorkit.demo.upscaler import Upscaler, upscaled_size
from asgi_errorkit.demo.video import MOST_PIXELS, Film, gif, look_at
from asgi_errorkit.demo.visit import Planned
from asgi_errorkit.demo.waiting import until_healthy
from asgi_errorkit.errors import PublicError
from asgi_errorkit.testing import request

# Films


@settings(max_examples=25, deadline=None)
@given(
    prompt=st.text(max_size=50),
    frames=st.integers(1, 120),
    size=st.integers(8, 40),
)
def test_a_film_is_a_gif_of_just_its_frames(prompt: str, frames: int, size: int) -> None:
    """Pillow reads back as many frames as were asked for, in the size that was asked for."""
    seen = look_at(gif(Film(prompt, "any", frames, size)))
    assert (seen.frames, seen.width, seen.height) == (frames, size, size)


def test_the_same_film_is_the_same_bytes_and_another_is_not() -> None:
    film = Film("a paper boat", "stable-diffusion", 6, 32)
    assert gif(film) == gif(dataclasses.replace(film))
    others = (
        dataclasses.replace(film, prompt="a whale"),
        dataclasses.replace(film, model_name="tiny-diffusion"),
    )
    assert len({gif(film), *map(gif, others)}) == 3


@pytest.mark.parametrize(("frames", "size"), [(0, 64), (-1, 64), (1, 7)])
def test_a_film_without_frames_or_pixels_is_refused(frames: int, size: int) -> None:
    with pytest.raises(ValueError, match="needs a frame"):
        Film("nothing", "any", frames, size)


def _large_gif() -> bytes:
    """Few bytes that unpack to more pixels than are taken."""
    file = BytesIO()
    Image.new("P", (8192, MOST_PIXELS // 8192 + 1)).save(file, format="GIF")
    return file.getvalue()


@pytest.mark.parametrize(
    "image",
    [
        b"",
        b"no picture at all",
        b"GIF89a" + b"\xff" * 100,
        gif(Film("cut off", "any", 3, 32))[:400],
        _large_gif(),
    ],
    ids=["empty", "text", "a bomb", "cut off", "large"],
)
def test_what_is_no_gif_is_refused(image: bytes) -> None:
    with pytest.raises((OSError, EOFError, ValueError)):
        look_at(image)


# The app


@pytest.mark.parametrize(
    ("video_id", "status", "error_type"),
    [
        ("error_video", 422, "validation"),
        ("memory_video", 503, "memory"),
        ("database_video", 503, "database"),
        ("model_video", 503, "model"),
        ("cache_video", 503, "cache"),
        ("timeout_video", 504, "timeout"),
        ("storage_video", 502, "external_service"),
        ("encoder_video", 500, "system"),
        ("buggy_video", 500, "unknown"),
    ],
)
async def test_each_trouble_is_answered_by_the_kit(
    video_id: str, status: int, error_type: str
) -> None:
    """Not by the framework's stock 500, which is held back; with the type that it is."""
    kit = create_app()
    reply = await request(kit, "GET", f"/videos/{video_id}")
    assert (reply.status, reply.headers["content-type"]) == (status, "application/problem+json")
    assert reply.json()["error"]["context"]["error_type"] == error_type
    assert kit.get_error_stats()["errors_by_type"] == {error_type: 1}


async def test_a_video_that_was_ordered_is_rendered_after_the_answer() -> None:
    kit = create_app()
    reply = await request(
        kit,
        "POST",
        "/videos/generate",
        headers=[(b"content-type", b"application/json")],
        body=b'{"prompt": "two foxes", "frames": 5, "size": 16}',
    )
    assert reply.status == 202
    assert reply.json()["status"] == "queued"
    video_id = reply.json()["video_id"]
    assert (await request(kit, "GET", f"/videos/{video_id}")).json()["status"] == "completed"


async def test_without_an_upscaler_a_fallback_answers_and_says_why() -> None:
    """The error is counted all the same, as that of another service."""
    kit = create_app()
    reply = await request(kit, "GET", "/videos/sample_video/upscaled")
    assert (reply.status, reply.headers["x-fallback"]) == (200, "callable")
    assert reply.json() == {"upscaled": False, "because": "ConnectionError"}
    assert kit.get_error_stats()["errors_by_type"] == {"external_service": 1}
    assert kit.get_error_stats()["failed_requests"] == 0


async def test_without_a_token_the_ops_app_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """So it is for who serves the demo's app by hand, and has given none."""
    monkeypatch.delenv("ASGI_ERRORKIT_TOKEN", raising=False)
    headers = [(b"host", b"localhost"), (b"authorization", b"Bearer None")]
    reply = await request(create_app(), "GET", "/_errorkit/status", headers=headers)
    assert reply.status == 404


def test_the_app_is_told_of_its_surroundings_by_its_environment() -> None:
    around = Surroundings(token="t" * 20, hook="http://x/y", secret="s", upscaler_port=7)
    assert Surroundings.of({**around.as_environment(), "PATH": "/bin"}) == around
    assert Surroundings().as_environment() == {}
    assert Surroundings.of({"ASGI_ERRORKIT_TOKEN": ""}) == Surroundings()


# What stands around it


async def test_the_upscaler_answers_late_while_it_is_slow_and_at_once_when_it_is_well() -> None:
    with Upscaler() as upscaler:
        assert await upscaled_size(upscaler.port, 21) == 42
        upscaler.slow_down()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await upscaled_size(upscaler.port, 1)
        waiting = asyncio.create_task(upscaled_size(upscaler.port, 1))
        await asyncio.sleep(0)
        upscaler.recover()
        assert await waiting == 2
        assert await upscaled_size(upscaler.port, 3) == 6


async def test_an_upscaler_that_is_gone_cannot_be_reached() -> None:
    """It ends also while callers wait, and leaves nobody at its port."""
    with Upscaler() as upscaler:
        port = upscaler.port
        upscaler.slow_down()
        waiting = asyncio.create_task(upscaled_size(port, 1))
        await asyncio.sleep(0.05)
    with pytest.raises(ConnectionError):
        await upscaled_size(port, 1)
    await asyncio.wait([waiting])
    with pytest.raises(ConnectionError):
        await upscaled_size(None, 1)


_NOTICE: dict[str, Any] = {"id": "1", "type": "TEST", "alerts": []}


def test_the_inbox_takes_what_is_signed_with_its_secret_and_nothing_else() -> None:
    with Inbox("the secret") as inbox:
        Webhook(inbox.url, secret="the secret")(_NOTICE)
        for wrong in ("another", None):
            with pytest.raises(Exception, match="answered 401"):
                Webhook(inbox.url, secret=wrong)(_NOTICE)
        notices = inbox.notices()
        assert (notices.all, notices.again, notices.refused) == ([_NOTICE], 0, 2)
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(inbox.url, data=b"", timeout=5)


def _notice(number: int, *alerts: tuple[str, str, float]) -> dict[str, Any]:
    """A notice of alerts of one type, each with its key, status, and since when."""
    listed = [
        {"type": "T", "key": key, "status": status, "since": since, "message": f"{key} at {since}"}
        for key, status, since in alerts
    ]
    return {"id": f"n{number}", "type": "T", "alerts": listed}


def test_an_alert_that_is_listed_again_has_begun_but_once() -> None:
    """Whoever is told of another of its type is told that it goes on; one that came back is two."""
    arrived = [
        _notice(1, ("T:a", "firing", 10.0)),
        _notice(2, ("T:a", "firing", 10.01), ("T:b", "firing", 12.0)),
        _notice(2, ("T:a", "firing", 10.01), ("T:b", "firing", 12.0)),
        _notice(3, ("T:a", "resolved", 10.0), ("T:b", "firing", 12.0)),
        _notice(4, ("T:a", "firing", 50.0), ("T:c", "happened", 51.0)),
    ]
    notices = Notices(arrived)
    assert (len(notices.all), notices.again) == (4, 1)
    assert [notices.begun(key) for key in ("T", "T:a", "T:b", "T:c", "T:d")] == [4, 2, 1, 1, 0]
    assert [notices.ended(key) for key in ("T", "T:a", "T:b")] == [1, 1, 0]
    assert (notices.naming("T", "a at 50"), notices.naming("T", "nothing")) == (1, 0)
    told = [(alert["key"], alert["status"]) for alert in notices.alerts()]
    assert told == [
        ("T:a", "firing"),
        ("T:b", "firing"),
        ("T:a", "resolved"),
        ("T:a", "firing"),
        ("T:c", "happened"),
    ]


@pytest.mark.parametrize("piece_bytes", [1, 700, 10**6])
def test_a_film_is_restored_whatever_pieces_it_comes_in(piece_bytes: int) -> None:
    reel, film = Reel(), zlib.compress(bytes(10**6), wbits=RAW)
    for place in range(0, len(film), piece_bytes):
        reel.take(film[place : place + piece_bytes])
    assert reel.size == 10**6


def test_the_film_of_the_incident_is_as_long_as_one_may_be() -> None:
    reel = Reel()
    for piece in packed_frames():
        reel.take(piece)
    assert reel.size == MOST_BYTES


def test_a_film_that_is_too_long_is_refused_however_small_it_came() -> None:
    """So the worker grows by no more than it is meant to."""
    with pytest.raises(PublicError):
        Reel().take(zlib.compress(bytes(MOST_BYTES + 1), 1, RAW))
    with pytest.raises(zlib.error):
        Reel().take(b"no film at all")


# The traffic


def test_the_same_seed_plans_the_same_traffic() -> None:
    assert plan(7, 200) == plan(7, 200)
    assert plan(7, 200) != plan(8, 200)


@pytest.mark.parametrize("requests", [1, len(KINDS) - 1, len(KINDS), 200])
def test_a_plan_is_as_long_as_asked_and_leaves_no_kind_out_for_another(requests: int) -> None:
    kinds = plan(1, requests)
    assert len(kinds) == requests
    assert len(set(kinds)) == min(requests, len(KINDS))


def test_the_traffic_knows_every_error_type_and_outcome_that_a_client_can_cause() -> None:
    assert {kind.error_type for kind in KINDS} >= {
        "validation",
        "authentication",
        "authorization",
        "not_found",
        "rate_limit",
        "timeout",
        "database",
        "cache",
        "external_service",
        "model",
        "memory",
        "system",
        "unknown",
    }
    assert {kind.outcome for kind in KINDS} == {
        "ok",
        "client_error",
        "server_error",
        "client_disconnect",
        "truncated",
        "background_failed",
    }


# Sent and seen


@pytest.fixture(scope="module")
def observed() -> tuple[Ledger, Seen]:
    with staged() as stage:
        return observe(stage, Planned(requests=60, seed=5))


def test_what_was_sent_was_seen(observed: tuple[Ledger, Seen]) -> None:
    """Over a real server: each kind of traffic was sent, and every check holds."""
    ledger, seen = observed
    assert {sent.kind for sent in ledger.entries} >= {kind.name for kind in KINDS}
    assert [check for check in checks(ledger, seen) if not check.holds] == []


def test_the_looks_of_the_report_are_accounted_for(observed: tuple[Ledger, Seen]) -> None:
    """What the maker sent, the incidents, and what the report asked add up to what the log tells."""
    ledger, seen = observed
    own = {sent.kind for sent in ledger.own}
    assert own == {"GET /health", "GET /status", "GET /errors/groups", "GET /videos"}
    assert len(seen.log.ends) == 60 + len(ledger.of_incidents) + len(ledger.own)


def test_the_incidents_are_what_they_are_said_to_be(observed: tuple[Ledger, Seen]) -> None:
    """Calls that took too long, and calls that were refused at once, were answered by a fallback."""
    ledger, seen = observed
    why = {sent.fallback_for for sent in ledger.of_incidents}
    assert why >= {None, "DeadlineExceededError", "CircuitOpenError"}
    assert seen.incidents is not None
    assert "trouble.py" in seen.incidents.block.where


def _one_request_more(ledger: Ledger, seen: Seen) -> None:
    ledger.entries.insert(
        0, Sent(kind="one more", request_id="never-sent", status=200, outcome="ok")
    )


def _another_status(ledger: Ledger, seen: Seen) -> None:
    ledger.entries[1] = dataclasses.replace(ledger.entries[1], status=418)


def _another_type(ledger: Ledger, seen: Seen) -> None:
    n = next(n for n, sent in enumerate(ledger.entries) if sent.error_type == "database")
    ledger.entries[n] = dataclasses.replace(ledger.entries[n], error_type="cache")


def _another_id(ledger: Ledger, seen: Seen) -> None:
    ledger.entries[1] = dataclasses.replace(ledger.entries[1], request_id="of nobody")


def _a_wrong_answer(ledger: Ledger, seen: Seen) -> None:
    ledger.entries[1] = dataclasses.replace(ledger.entries[1], wrong="not what was expected")


def _a_byte_more(ledger: Ledger, seen: Seen) -> None:
    n = next(n for n, sent in enumerate(ledger.entries) if sent.got_all)
    more = ledger.entries[n].got_bytes + 1
    ledger.entries[n] = dataclasses.replace(ledger.entries[n], got_bytes=more)


def _a_line_lost(ledger: Ledger, seen: Seen) -> None:
    del seen.log.lines[-1]


def _a_line_twice(ledger: Ledger, seen: Seen) -> None:
    seen.log.lines.append(seen.log.lines[-1])


def _a_group_short(ledger: Ledger, seen: Seen) -> None:
    seen.groups[0]["count"] -= 1


def _a_record_lost(ledger: Ledger, seen: Seen) -> None:
    seen.status["recorder"]["lost"] = 1


def _a_request_that_nobody_counted(ledger: Ledger, seen: Seen) -> None:
    seen.record.outcomes["ok"] -= 1


def _a_death_that_nobody_found(ledger: Ledger, seen: Seen) -> None:
    seen.record.crashes.clear()


def _another_suspect(ledger: Ledger, seen: Seen) -> None:
    seen.record.crashes[0]["suspects"][0]["request_id"] = "of nobody"


def _change(seen: Seen, **parts: Any) -> None:
    for name, value in parts.items():
        object.__setattr__(seen, name, value)  # it is a copy, and this test's own


def _incidents(seen: Seen) -> Any:
    return seen.incidents


def _change_incidents(seen: Seen, **parts: Any) -> None:
    _change(seen, incidents=dataclasses.replace(_incidents(seen), **parts))


def _another_figure_of_operators(ledger: Ledger, seen: Seen) -> None:
    seen.operated.errors["total_errors"] += 1


def _a_stranger_let_in(ledger: Ledger, seen: Seen) -> None:
    _change(seen, operated=dataclasses.replace(seen.operated, stranger=200))


def _a_call_refused_more(ledger: Ledger, seen: Seen) -> None:
    n = next(n for n, s in enumerate(ledger.entries) if s.fallback_for == "CircuitOpenError")
    ledger.entries[n] = dataclasses.replace(ledger.entries[n], fallback_for="another error")


def _a_circuit_that_stays_open(ledger: Ledger, seen: Seen) -> None:
    _change_incidents(seen, outage=dataclasses.replace(_incidents(seen).outage, closed=False))


def _another_line_blamed(ledger: Ledger, seen: Seen) -> None:
    _change_incidents(seen, block=dataclasses.replace(_incidents(seen).block, where="x.py:1 other"))


def _memory_that_nobody_saw_grow(ledger: Ledger, seen: Seen) -> None:
    _change_incidents(seen, growth=dataclasses.replace(_incidents(seen).growth, seen=False))


def _an_alert_untold(ledger: Ledger, seen: Seen) -> None:
    notices = _incidents(seen).notices
    notices.all = [notice for notice in notices.all if notice["type"] != MEMORY_ALERT]


def _an_alert_never_over(ledger: Ledger, seen: Seen) -> None:
    kept = lambda alert: (alert["key"], alert["status"]) != (CIRCUIT_ALERT, "resolved")  # noqa: E731
    for notice in _incidents(seen).notices.all:
        notice["alerts"] = [alert for alert in notice["alerts"] if kept(alert)]


def _an_alert_told_twice(ledger: Ledger, seen: Seen) -> None:
    notices = _incidents(seen).notices
    again = copy.deepcopy(next(n for n in notices.all if n["type"] == DEATH_ALERT))
    again["alerts"][0]["since"] += 5
    notices.all.append(again)


def _the_token_in_the_log(ledger: Ledger, seen: Seen) -> None:
    _change(seen, log=dataclasses.replace(seen.log, secrets=1))


@pytest.mark.parametrize(
    "change",
    [
        _another_figure_of_operators,
        _a_stranger_let_in,
        _a_call_refused_more,
        _a_circuit_that_stays_open,
        _another_line_blamed,
        _memory_that_nobody_saw_grow,
        _an_alert_untold,
        _an_alert_never_over,
        _an_alert_told_twice,
        _the_token_in_the_log,
        _one_request_more,
        _another_status,
        _another_type,
        _another_id,
        _a_wrong_answer,
        _a_byte_more,
        _a_line_lost,
        _a_line_twice,
        _a_group_short,
        _a_record_lost,
        _a_request_that_nobody_counted,
        _a_death_that_nobody_found,
        _another_suspect,
    ],
)
def test_the_smallest_difference_is_told(
    change: Callable[[Ledger, Seen], None], observed: tuple[Ledger, Seen]
) -> None:
    ledger, seen = copy.deepcopy(observed)
    change(ledger, seen)
    found = checks(ledger, seen)
    assert not all(check.holds for check in found)
    assert "DIFFER" in report(ledger, seen, found, encoding="utf-8")


def test_a_log_is_read_whatever_it_holds(tmp_path: Path) -> None:
    """Lines that are no JSON object are counted, as are secrets, wherever they stand."""
    file = tmp_path / "log"
    file.write_bytes(b'{"event": "request_start"}\n{"eve\n[1]\n\xff' + SECRET.encode() + b"\n")
    assert read_log(file, SECRET, "r2") == Log([{"event": "request_start"}], broken=3, secrets=2)
    assert read_log(file) == Log([{"event": "request_start"}], broken=3)


# The report


def test_the_report_has_a_mark_for_each_check_in_any_encoding(
    observed: tuple[Ledger, Seen],
) -> None:
    ledger, seen = observed
    found = checks(ledger, seen)
    nice = report(ledger, seen, found, encoding="utf-8")
    plain = report(ledger, seen, found, encoding="ascii")
    assert nice.count("✓") == len(found)
    assert plain.isascii()
    assert len(re.findall(r" ok$", plain, re.MULTILINE)) == len(found)


def test_the_report_tells_where_errors_come_from(observed: tuple[Ledger, Seen]) -> None:
    """Each group under its route, all of one route together."""
    under = _sections(observed)["Errors that escaped the app, grouped by where they come from"]
    routes = [line.strip() for line in under if re.match(r"  [A-Z]+ /", line)]
    assert len(set(routes)) == len(routes)
    place = under.index("  GET /videos/{video_id}")
    of_route = itertools.takewhile(lambda line: line.startswith("   "), under[place + 1 :])
    assert any(re.search(r"database +OperationalError +trouble\.py:\d+$", li) for li in of_route)


def _sections(observed: tuple[Ledger, Seen]) -> dict[str, list[str]]:
    """The lines of the report under each title, with the rule."""
    text = report(*observed, checks(*observed), encoding="utf-8")
    parts = [part.splitlines() for part in text.strip().split("\n\n")]
    return {title: under for title, *under in parts}


def test_no_table_is_wider_than_its_rule(observed: tuple[Ledger, Seen]) -> None:
    """Nor than a terminal of 80 columns; only what is shown as JSON may be wider, up to 100."""
    sections = _sections(observed)
    *ruled, _verdict = sections.items()
    for title, (rule, *lines) in ruled:
        shown = lines[0] == "  {"
        assert re.fullmatch(r"-{78,100}" if shown else r"-{78}", rule), title
        assert max(map(len, lines)) <= len(rule), title


def test_a_rule_grows_with_what_is_under_it() -> None:
    assert list(section("Long", ["x" * 90])) == ["", "Long", "-" * 90, "x" * 90]
    assert list(section("Nothing", [])) == ["", "Nothing", "-" * 78]


def test_the_worker_that_was_killed_is_shown_with_its_request(
    observed: tuple[Ledger, Seen],
) -> None:
    """Who died, and amid what, as the record tells of it; what it had answered counts too."""
    _, seen = observed
    title = "A second worker, killed amid a request, as the record tells of it"
    _, crash, _, suspect, more = _sections(observed)[title]
    assert re.fullmatch(r"  worker \d+: 1 in flight; the other found that \d+\.\d s later", crash)
    assert suspect.split() == ["POST", "/videos/upload", "running", seen.killed.request_id]
    assert f"The {len(seen.killed.answered)} requests" in more


def test_totals_that_differ_are_explained(observed: tuple[Ledger, Seen]) -> None:
    """Where the looks come in, what the groups leave out, and why more sessions close than open."""
    ledger, seen = observed
    sections = _sections(observed)
    assert (
        "  60 were asked for; the looks of this report at the app are requests too."
        in (sections["Sent"])
    )
    first = f"  The statistics know the first {seen.looked_after}, the log knows all."
    assert first in sections["Sent"]
    total = sum(seen.status["error_stats"]["errors_by_type"].values())
    grouped = sum(group["count"] for group in seen.groups)
    assert total > grouped
    errors = "\n".join(sections["Errors by type"])
    assert f"{total} in all: {grouped} escaped the app and are grouped below" in errors
    events = ledger.events()
    refused = events["websocket_close"] - events["websocket_open"]
    assert (
        f"  {refused} sessions were refused: closed, and never opened."
        in (sections["Lines of the request log"])
    )


def test_sessions_that_were_all_opened_need_no_explanation(observed: tuple[Ledger, Seen]) -> None:
    ledger, seen = copy.deepcopy(observed)
    seen.log.lines[:] = [line for line in seen.log.lines if line["event"] != "websocket_close"]
    assert "refused" not in "\n".join(_sections((ledger, seen))["Lines of the request log"])


def test_every_row_of_durations_has_a_greatest(observed: tuple[Ledger, Seen]) -> None:
    """No less than the 99th of a hundred, for the first byte too."""
    _, _, *rows = _sections(observed)["Durations of the requests, in milliseconds"]
    assert len(rows) == 3
    for row in rows:
        *_, p99, greatest = row.split()
        assert float(greatest) >= float(p99) > 0


def test_a_log_that_tells_no_durations_leaves_the_cell_blank(
    observed: tuple[Ledger, Seen],
) -> None:
    ledger, seen = copy.deepcopy(observed)
    seen.log.lines.clear()
    *_, row = _sections((ledger, seen))["Durations of the requests, in milliseconds"]
    assert re.fullmatch(r"  the kit, to the first byte( +\d+\.\d){4}", row)


def test_one_failure_is_shown_as_it_was_logged_and_answered(
    observed: tuple[Ledger, Seen],
) -> None:
    """Of the same request, as JSON; the answer is what the client got."""
    ledger, _ = observed
    sections = _sections(observed)
    answer = orjson.loads("".join(sections["What its client was answered"][1:]))
    sent = next(sent for sent in ledger.entries if sent.request_id == answer["request_id"])
    assert (sent.outcome, orjson.loads(sent.answer)) == ("server_error", answer)
    line = sections["One line of the request log"]
    assert f'    "request_id": "{sent.request_id}",' in line
    assert '    "event": "request_error",' in line
    # Last, but for what is told of a request that had to wait.
    assert any(re.match(r'    "traceback": "Traceback .+ \.\.\. .+",?$', text) for text in line)


def test_without_an_error_a_line_of_the_log_is_shown_alone(observed: tuple[Ledger, Seen]) -> None:
    ledger, seen = copy.deepcopy(observed)
    ledger.entries[:] = [sent for sent in ledger.entries if not sent.answer]
    sections = _sections((ledger, seen))
    assert "One line of the request log" in sections
    assert "What its client was answered" not in sections


def test_of_a_long_line_the_middle_is_left_out() -> None:
    first, short, long, last = pretty({"short": "ü", "long": "a" * 100 + "b" * 100})
    assert (first, last) == ("  {", "  }")
    assert short == '    "short": "\\u00fc",'
    assert re.fullmatch(r'    "long": "a+ \.\.\. b+"', long)
    assert len(long) == 100


def test_a_table_aligns_text_to_the_left_and_numbers_to_the_right() -> None:
    assert table(("what", "n"), [("a", 1), ("bbbbb", 2000)]) == [
        "  what       n",
        "  a          1",
        "  bbbbb  2,000",
    ]
    assert table(("what", "n"), []) == ["  what  n"]


def test_a_cell_that_is_none_is_blank_among_numbers() -> None:
    assert table(("what", "n"), [("a", 1.0), ("b", None)]) == ["  what    n", "  a     1.0", "  b"]


# The command


def test_the_command_ends_with_0_when_all_agrees(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """And nothing is left of the record of its servers, which it keeps apart from any other."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setenv("ASGI_ERRORKIT_DIR", str(tmp_path / "of another app"))
    assert main(["--requests", "20", "--seed", "3", "--no-incidents"]) == 0
    assert list(tmp_path.iterdir()) == []
    told = capsys.readouterr().out
    assert re.search(
        r"live: http://127\.0\.0\.1:\d+/_errorkit/#token=[\w-]{43}$", told, re.MULTILINE
    )
    for title in ("Sent", "Outcomes", "Errors by type", "Durations", "Slowest", "Lines", "Does it"):
        assert re.search(rf"^{title}", told, re.MULTILINE)
    assert "agree, exactly" in told
    assert "asgi-errorkit serve" in told
    assert "asgi-errorkit demo --keep" in told


@pytest.fixture
def stranger() -> Iterator[int]:
    """A port on which somebody else asks for health, all the time."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
    enough = threading.Event()
    asking = threading.Thread(target=_ask_until, args=(enough, port))
    asking.start()
    yield port
    enough.set()
    asking.join()


def _ask_until(enough: threading.Event, port: int) -> None:
    while not enough.wait(0.02):
        try:
            with socket.create_connection((HOST, port), timeout=5) as connection:
                connection.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                while connection.recv(4096):
                    pass
        except OSError:
            continue  # nobody is there yet, or any more


def test_the_command_ends_with_1_when_somebody_else_was_there(
    stranger: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """More was seen than was sent, and that is said."""
    assert main(["--requests", "40", "--port", str(stranger), "--no-incidents"]) == 1
    told = capsys.readouterr().out
    assert re.search(r"The log: request_start: \d+ sent, \d+ seen", told)
    assert "Somebody else may have sent requests to this port" in told


def test_a_port_that_is_taken_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert main(["--port", str(port)]) == 1
    assert f"port {port} cannot be had" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (["--requests", "0"], "must lie between 1 and 20000; got 0"),
        (["--requests", "x"], "argument --requests: invalid number value: 'x'"),
        (["--port", "70000"], "must lie between 0 and 65535; got 70000"),
        (["--port", "x"], "argument --port: invalid number value: 'x'"),
    ],
)
def test_an_option_that_makes_no_sense_is_refused(
    wrong: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as leaving:
        main(wrong)
    assert leaving.value.code == 2
    assert words in capsys.readouterr().err


def _kill(stage: Stage) -> None:
    stage.server.process.kill()
    stage.server.process.wait()


def test_a_server_that_dies_is_told() -> None:
    with staged() as stage:
        _kill(stage)
        with pytest.raises(ServerError, match="ended"):
            observe(stage, Planned(requests=1))
    assert not stage.server.log.exists()


def test_a_server_that_dies_amid_the_incidents_is_told() -> None:
    """And none of them is waited for any more."""
    with staged() as stage:

        def say(text: str) -> None:
            if "becomes slow" in text:
                _kill(stage)

        with pytest.raises(ServerError, match="ended"):
            observe(stage, Planned(requests=1, say=say))


async def test_what_stays_has_one_incident_after_the_other() -> None:
    """Until it is cancelled, and beside them requests keep coming."""
    said: list[str] = []
    enough = asyncio.Event()

    def say(text: str) -> None:
        said.append(text)
        if "is killed" in text:
            enough.set()

    with staged() as stage:
        async with client_for(stage.server.url) as client:
            await until_healthy(stage.server, client, Ledger())
        living = asyncio.create_task(
            live_on(stage, Planned(requests=1, say=say), between_seconds=0.5)
        )
        waiting = asyncio.create_task(enough.wait())
        await asyncio.wait([living, waiting], timeout=60, return_when=asyncio.FIRST_COMPLETED)
        assert waiting.done()
        assert not living.done()
        living.cancel()
        with pytest.raises(asyncio.CancelledError):
            await living
        assert stage.server.process.poll() is None
    assert any("blocks the event loop" in text for text in said)


def test_all_ways_to_look_are_told() -> None:
    """With what they need: the token, the record, the port."""
    with staged() as stage:
        text = "\n".join(ways_to_look(stage, incidents=True))
        assert "an incident about once a minute" in text
        for needed in (
            f"{stage.server.url}/_errorkit/#token={stage.token}",
            f"asgi-errorkit top {stage.server.record}",
            f"asgi-errorkit crashes {stage.server.record}",
            f'curl -H "Authorization: Bearer {stage.token}" {stage.server.url}/_errorkit/errors/',
        ):
            assert needed in text
        assert "incident" not in "\n".join(ways_to_look(stage, incidents=False))


def _started(*options: str, runtime: Path) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "asgi_errorkit", "demo", "--requests", "5", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1", "XDG_RUNTIME_DIR": str(runtime)},
    )


def _told(demo: "subprocess.Popen[str]", pattern: str) -> "re.Match[str]":
    """The next line of its output that has this; its last words, if there is none."""
    assert demo.stdout is not None
    assert demo.stderr is not None
    for line in demo.stdout:
        found = re.search(pattern, line)
        if found:
            return found
    pytest.fail(f"it ended without {pattern!r}: {demo.stderr.read()}")


def _assert_nobody_at(port: int) -> None:
    with pytest.raises(ConnectionRefusedError), socket.create_connection((HOST, port), timeout=5):
        pass


def test_a_demo_that_is_interrupted_amid_an_incident_leaves_nothing_behind(tmp_path: Path) -> None:
    """Neither a server nor its record, and no traceback."""
    with _started(runtime=tmp_path) as demo:
        port = int(_told(demo, r":(\d+)$")[1])
        _told(demo, "becomes slow")
        demo.send_signal(signal.SIGINT)
        rest, said = demo.communicate()
    assert demo.returncode == 130
    assert rest.endswith("\nstopped\n")
    assert said == ""
    assert list(tmp_path.iterdir()) == []
    _assert_nobody_at(port)


@pytest.mark.parametrize(
    "number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=["Ctrl-C", "SIGTERM", "SIGHUP"]
)
def test_an_interrupted_demo_leaves_nothing_behind(number: signal.Signals, tmp_path: Path) -> None:
    """Neither a server nor its record."""
    with _started("--keep", "--no-incidents", runtime=tmp_path) as demo:
        port = int(_told(demo, r":(\d+)$")[1])
        _told(demo, "^Its request log")
        assert len(list(tmp_path.iterdir())) == 1
        demo.send_signal(number)
        advice, _ = demo.communicate()
    assert demo.returncode == 0
    assert "asgi-errorkit serve" in advice
    assert "--keep" not in advice, "that has just been done"
    assert list(tmp_path.iterdir()) == []
    _assert_nobody_at(port)
