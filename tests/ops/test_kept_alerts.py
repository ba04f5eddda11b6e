"""From a record on disk alone: which alerts go on, have been and are silenced, whatever lies there."""

import json

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asgi_errorkit.alerts import Alerts, Timing
from asgi_errorkit.alerts.kept import kept_by
from asgi_errorkit.alerts.record import AlertRecord
from asgi_errorkit.ops import Ops
from asgi_errorkit.ops.of_host import OfHost
from asgi_errorkit.spool import leader as leader_module
from asgi_errorkit.spool.host import Host

from .asking import BEARER, HOST, TOKEN, Served, ask

SAME = """total_alerts recent_alerts firing by_type by_severity silences unsaid held_back""".split()


@pytest.fixture(autouse=True)
def _nobody_leads():
    leader_module._LEADING.clear()
    yield
    leader_module._LEADING.clear()


@pytest.fixture
def served(tmp_path):
    """An application in which something goes on, something has been, and something is silenced."""
    served = Served(directory=tmp_path / "record", alerts=Alerts(timing=Timing(wait_seconds=0)))
    served.kit.tracker.breaker("model:sdxl").force_open()
    served.kit.send_alert("VIDEO_FAILED", "no frames came back")
    served.kit.alerts.silence("MODEL_*", seconds=3600, why="new weights")
    served.kit.alerts.evaluate()
    return served


@pytest.fixture(autouse=True)
def _at_that_time(monkeypatch, request):
    """The record is looked at by the clock that it was written by."""
    if "served" in request.fixturenames:
        served = request.getfixturevalue("served")
        monkeypatch.setattr("asgi_errorkit.ops.of_host.time.time", served.clock)


def alone(served):
    return Ops(token=TOKEN).app(Host(served.kit.host.directory.path))


async def read(served, route):
    reply = await ask(alone(served), route, HOST, BEARER)
    assert reply.status == 200, reply.body
    return reply.json()


async def test_it_tells_the_same_as_the_application(served):
    """But for what is of a process: who is told."""
    told, own = await read(served, "/alerts"), await served.read("/alerts")
    assert {name: told[name] for name in SAME} == {name: own[name] for name in SAME}
    assert [each["type"] for each in told["firing"]] == ["CIRCUIT_BREAKER_TRIGGERED"]
    assert [each["what"] for each in told["silences"]] == ["MODEL_*"]
    assert told["total_alerts"] == 2
    assert (told["is_damaged"], "channels" in told) == (False, False)


async def test_all_that_tells_of_alerts_tells_these(served):
    recent = (await served.read("/alerts"))["recent_alerts"]
    assert len(recent) == 2
    assert (await read(served, "/errors/stats"))["recent_alerts"] == recent
    assert (await read(served, "/status"))["alert_summary"]["recent_alerts"] == recent


async def test_it_tells_what_is_resolved(served):
    await served.ask("/boom", HOST)
    [group] = (await served.read("/errors"))["groups"]
    served.kit.alerts.resolve(group["fingerprint"])
    served.clock.move(1)
    served.kit.alerts.evaluate()
    [told] = (await read(served, "/errors"))["groups"]
    assert told["resolved_at"] == served.clock.at - 1
    told = await read(served, f"/errors/{group['fingerprint']}")
    assert told["resolved_at"] == served.clock.at - 1


async def test_what_has_run_out_since_is_not_silenced(served):
    served.clock.move(3600)
    assert (await read(served, "/alerts"))["silences"] == []


async def test_without_alerts_there_are_none(tmp_path):
    served = Served(directory=tmp_path / "record")
    told = await read(served, "/alerts")
    assert (told["total_alerts"], told["firing"], told["recent_alerts"]) == (0, [], [])


def file_of(served):
    return served.kit.host.directory.path / "alerts.ek"


DAMAGES = {
    "empty": b"",
    "no JSON": b"{",
    "no object": b"[]",
    "nothing in it": b"{}",
    "zeros": bytes(4096),
    "text": b"\xff" * 100,
    "deep": b"[" * 100_000,
}


@pytest.mark.parametrize("body", DAMAGES.values(), ids=DAMAGES)
async def test_a_damaged_file_is_said_to_be_and_hides_nothing_else(served, body):
    file_of(served).write_bytes(body)
    told = await read(served, "/alerts")
    assert told == {"total_alerts": 0, "recent_alerts": [], "is_damaged": True}
    for route in ("/status", "/errors", "/errors/stats"):
        await read(served, route)


async def test_each_part_that_is_lost_is_a_damage_or_is_left_out(served):
    """Also of another kind; what is told is told as ever."""
    whole = orjson.loads(file_of(served).read_bytes())
    for name in whole:
        for wrong in (None, 7, "x", [], {}, [None], [[]], {"x": None}, -1e300):
            file_of(served).write_bytes(orjson.dumps({**whole, name: wrong}))
            told = await read(served, "/alerts")
            assert told["is_damaged"] or told["recent_alerts"] is not None
        file_of(served).write_bytes(orjson.dumps({k: v for k, v in whole.items() if k != name}))
        await read(served, "/alerts")


async def test_entries_that_make_no_sense_are_left_out(served):
    whole = orjson.loads(file_of(served).read_bytes())
    good = whole["history"][-1]
    odd = [{}, {**good, "type": 7}, {**good, "timestamp": "now"}, {**good, "message": None}]
    whole["history"] = [*odd, good]
    file_of(served).write_bytes(orjson.dumps(whole))
    told = await read(served, "/alerts")
    assert [each["type"] for each in told["recent_alerts"]] == [good["type"]]


async def test_what_is_told_is_bounded_and_shows_no_controls(served):
    """However much lies there, and of whatever kind."""
    whole = orjson.loads(file_of(served).read_bytes())
    evil = "\x1b[2J\u202e" + "x" * 600
    whole["history"] = [{**whole["history"][-1], "message": evil, "key": evil}] * 2000
    whole["timeline"]["silences"] = [[evil, 1e12, evil]] * 2000
    row = next(iter(whole["timeline"]["groups"].values()))["alerts"][0]
    row = {**row, "finding": {**row["finding"], "message": evil, "values": {"x": evil}}}
    many = [{**row, "finding": {**row["finding"], "key": str(at)}} for at in range(200)]
    whole["timeline"]["groups"] = {
        f"T{at}": {"notified_at": None, "alerts": many} for at in range(9)
    }
    file_of(served).write_bytes(orjson.dumps(whole))
    told = await read(served, "/alerts")
    assert (len(told["recent_alerts"]), len(told["silences"]), len(told["firing"])) == (
        10,
        100,
        500,
    )
    assert len(json.dumps(told)) < 3_000_000
    for firing in told["firing"]:
        del firing["values"]  # figures of a rule, which are data
    text = json.dumps(told, ensure_ascii=False)
    assert "\\u001b" not in text and "\u202e" not in text and "x" * 501 not in text


async def test_a_large_file_is_a_503(served):
    """As of all that is larger than anything of ours."""
    with file_of(served).open("wb") as file:
        file.truncate(17 * 1024 * 1024)
    reply = await ask(alone(served), "/alerts", HOST, BEARER)
    assert reply.status == 503


def test_it_reads_and_changes_nothing(served):
    before = file_of(served).read_bytes()
    source = OfHost(Host(served.kit.host.directory.path))
    assert source.alerts()["total_alerts"] == 2
    assert (source.can_act, hasattr(source, "silence")) == (False, False)
    assert file_of(served).read_bytes() == before


JSON_LIKE = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


@pytest.fixture(scope="module")
def record(tmp_path_factory):
    return AlertRecord(Host(tmp_path_factory.mktemp("kept") / "record").directory)


@given(data=st.data())
@settings(max_examples=300, deadline=None)
def test_whatever_lies_there_it_is_read_or_is_damaged(record, data):
    """Any part of a good file replaced by any other JSON."""
    told = {
        "version": 1, "boot": "x", "offset": 1.0, "known": {}, "resolved": {"a": 5.0}, "totals": [],
        "timeline": {"groups": {}, "silences": [["X", 5.0, "y"]], "sent": [1.0],
                     "unsaid": {"silenced": 0, "inhibited": 0, "overflowed": 0}},
        "history": [{"type": "A", "message": "b", "severity": "low", "timestamp": 1.0,
                     "status": "happened", "key": "A", "muted": None, "resolved_at": None}],
        "total_alerts": 1, "on_its_way": [],
    }  # fmt: skip
    place, name = told, data.draw(st.sampled_from(sorted(told)))
    while isinstance(place[name], dict | list) and place[name] and data.draw(st.booleans()):
        place = place[name]
        name = data.draw(st.sampled_from(sorted(place) if isinstance(place, dict) else [0]))
    place[name] = data.draw(JSON_LIKE)
    record.save(told)
    try:
        summary, resolved = kept_by(record, 2.0)
    except ValueError:
        return
    assert orjson.loads(orjson.dumps([summary, dict(resolved)]))
