"""The last occurrences of a group of errors: which they are, and that a record of them tells the same."""

import asyncio
import threading
from collections import deque
from math import inf, nan

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgi_errorkit import ErrorKit, ErrorTracker, ErrorType, MiddlewareStack, Recorder
from asgi_errorkit import StructuredLoggingMiddleware as Logging
from asgi_errorkit.occurrences import MOST, as_dicts, as_rows, keep, latest, read
from asgi_errorkit.spool import leader as leader_module
from asgi_errorkit.spool import telling as telling_module
from asgi_errorkit.spool.groups import Groups
from asgi_errorkit.spool.host import Host
from asgi_errorkit.spool.telling import Telling
from asgi_errorkit.testing import HandClock, LogLines, request
from asgi_errorkit.tracker import ErrorGroup

TIMES = st.floats(0, 2e9).map(lambda at: round(at, 3))
NAMES = st.text(max_size=20)
ROUTES = {"GET /a": 3, "GET /b": 2, "POST /c": 1}
OCCURRENCES = st.tuples(
    TIMES,
    st.none() | NAMES,
    st.none() | st.sampled_from(sorted(ROUTES)),
    st.none() | st.integers(100, 599),
    st.none() | st.sampled_from(["server_error", "timeout"]),
    st.integers(1, 2**22),
)


async def failing(scope, receive, send):
    if scope["path"].startswith("/late"):
        await send({"type": "http.response.start", "status": 200, "headers": []})
    raise ConnectionError(scope["path"].split("/")[1])


@pytest.fixture(autouse=True)
def _nobody_leads():
    leader_module._LEADING.clear()
    yield
    leader_module._LEADING.clear()


class Kit:
    """One whose clock is set by hand."""

    def __init__(self, directory=None, clock=None):
        self.clock = clock or HandClock()
        recorder = Recorder(flush_seconds=None, clock=self.clock, wall_clock=self.clock)
        stack = MiddlewareStack(error_tracker=ErrorTracker(recorder=recorder))
        stack.add_middleware(Logging, stream=LogLines())
        self.kit = ErrorKit(failing, stack=stack, directory=directory)

    async def fail(self, number, path="/x"):
        for at in range(number):
            self.clock.move(1)
            headers = [(b"x-request-id", b"%b-%d" % (path[1:].encode(), at))]
            await request(self.kit, path=path, headers=headers)

    def save(self):
        self.clock.move(1)
        self.kit.flush()
        for flush in self.kit.tracker.recorder.flushers:
            flush()

    def group(self):
        [group] = self.kit.tracker.groups()
        return group.as_dict()


async def test_the_last_ten_are_kept_newest_first():
    """Each with what it takes to find it in the log."""
    one = Kit()
    await one.fail(12)
    listed = one.group()["latest"]
    assert [told["request_id"] for told in listed] == [f"x-{at}" for at in range(11, 1, -1)]
    assert [told["at"] for told in listed] == [one.clock.at - ago for ago in range(10)]
    first = listed[0]
    assert (first["route"], first["status_code"], first["outcome"]) == (
        "GET /x",
        502,
        "server_error",
    )
    assert first["pid"] > 0


async def test_what_went_wrong_amid_the_answer_says_so():
    one = Kit()
    await one.fail(1, "/late")
    [told] = one.group()["latest"]
    assert (told["status_code"], told["outcome"]) == (200, "truncated")


def test_what_was_told_of_by_code_has_no_request():
    one = Kit()
    one.kit.tracker.record_error(ErrorType.CACHE)
    [told] = one.group()["latest"]
    assert (told["request_id"], told["route"], told["outcome"]) == (None, None, None)


async def test_a_list_of_groups_is_without_them():
    one = Kit()
    await one.fail(1)
    [group] = one.kit.tracker.groups()
    assert {"latest", "occurred", "sample"}.isdisjoint(group.summary())


async def test_a_copy_is_as_it_was():
    one = Kit()
    await one.fail(1)
    [before] = one.kit.tracker.groups()
    await one.fail(1)
    assert len(before.latest) == 1


async def test_those_of_all_workers_are_merged(tmp_path):
    """The last ten of them all, each with the pid of its worker; of each worker five are on record."""
    one = Kit(tmp_path / "record")
    other = Kit(tmp_path / "record", clock=one.clock)
    await one.fail(3)
    await other.fail(2)
    await one.fail(4)
    for each in (one, other):
        each.save()
    for each in (one, other):
        listed = each.group()["latest"]
        assert len(listed) == 7
        times = [told["at"] for told in listed]
        assert times == sorted(times, reverse=True)
        assert {told["route"] for told in listed} == {"GET /x"}
    host = Host(tmp_path / "record", clock=one.clock)
    assert host.groups()[0]["latest"] == one.group()["latest"]


async def test_those_of_a_worker_that_has_gone_are_told(tmp_path):
    one = Kit(tmp_path / "record")
    await one.fail(2)
    one.save()
    before = one.group()["latest"]
    one.kit.tracker.recorder.ledger.close()
    other = Kit(tmp_path / "record", clock=one.clock)
    other.save()
    assert other.group()["latest"] == before
    assert ErrorGroup.told(other.group()).as_dict() == other.group()


@given(st.lists(OCCURRENCES, max_size=MOST))
def test_a_record_tells_the_same(kept):
    """Whether all of each is written, or as little as can be."""
    told = as_dicts(kept)
    assert read(orjson.loads(orjson.dumps(told)), ROUTES) == told
    rows = orjson.loads(orjson.dumps(as_rows(kept, ROUTES, 5)))
    assert read(rows, ROUTES) == told[:5]


@given(st.lists(OCCURRENCES, max_size=MOST), st.lists(OCCURRENCES, max_size=MOST))
def test_of_two_the_last_are_kept(one, other):
    both = latest(as_dicts(one), as_dicts(other))
    times = sorted((at for at, *_ in [*one, *other]), reverse=True)
    assert [told["at"] for told in both] == times[:MOST]


NONSENSE = [None, 7, "x", {}, [7], [[]], [{}], [[1.0] * 5], [[1.0] * 7], [[nan, *"abcde"]],
            [[inf, *"abcde"]], [["now", *"abcde"]], [[True, *"abcde"]], [None] * 99]  # fmt: skip


@pytest.mark.parametrize("told", NONSENSE, ids=repr)
def test_what_makes_no_sense_is_left_out(told):
    assert read(told, ROUTES) == []


def test_what_is_odd_in_one_is_left_out_of_it():
    """A place that no route has, a text too long, a number that is none."""
    [told] = read([[1.0, "x" * 999, 3, "500", "y" * 99, -1]], ROUTES)
    assert told == {
        "at": 1.0, "request_id": "x" * 128, "route": None, "status_code": None,
        "outcome": "y" * 40, "pid": None,
    }  # fmt: skip


def test_more_than_are_kept_are_not_read():
    row = [1.0, None, None, None, None, None]
    assert len(read([row] * 5000, {})) == MOST


def test_a_record_of_many_groups_loses_these_before_groups():
    """Later ones lose them with their samples; what is counted stays."""
    row = {"at": 1.0, "request_id": "x" * 128, "route": "y" * 300, "status_code": 500}
    told = [
        {"fingerprint": f"{at:016x}", "error_type": "cache", "type_name": "E", "message": "m" * 900,
         "first_seen": 1.0, "last_seen": 1.0, "count": 1, "routes": {}, "latest": [row] * 10}
        for at in range(500)
    ]  # fmt: skip
    groups = Groups.read(told).as_list()
    assert len(groups) == 500
    assert (len(groups[0]["latest"]), groups[-1]["latest"]) == (10, [])


class ManyGroups:
    """A hundred groups, of long names, each with five occurrences of long ids and a sample."""

    def __init__(self, at):
        self.fingerprint, self.count, self.last = f"{at:016x}", 1, object()
        self.sample = {"text": "s" * 5000}

    def summary(self):
        return {"fingerprint": self.fingerprint, "message": "m" * 500}

    def rows(self, most):
        return [[1.0, "x" * 128, 0, 500, "server_error", 1]] * most


def test_a_snapshot_has_room_for_all_groups_and_then_for_these():
    """Of the fifty seen last; then come as many samples as there is room for."""
    told = Telling(
        errors=None, groups=lambda: map(ManyGroups, range(200)), breakers=list, process=None,
        forget=list,
    )._told_groups(1_000)  # fmt: skip
    body = orjson.dumps(told)
    groups = orjson.loads(body)
    assert len(body) <= telling_module._MOST_GROUPS
    assert len(groups) == 100
    assert [at for at, group in enumerate(groups) if "latest" in group] == list(range(50))
    assert 0 < sum("sample" in group for group in groups) < 50


@given(st.lists(OCCURRENCES, max_size=15))
def test_in_whatever_order_they_are_drained_the_newest_comes_first(drained):
    kept = deque(maxlen=MOST)
    for each in drained:
        keep(kept, each)
    told = [each["at"] for each in as_dicts(kept)]
    assert told == sorted(told, reverse=True)
    assert len(told) == min(len(drained), MOST)


def test_of_two_threads_the_newest_is_the_last_seen():
    """The records of one are drained after those of the other, whenever they ended."""
    clock = HandClock()
    recorder = Recorder(flush_seconds=None, clock=clock, wall_clock=clock)
    tracker = ErrorTracker(recorder=recorder)
    kit = ErrorKit(failing, tracker=tracker)

    async def fail():
        clock.move(1.0)
        await request(kit, "/a")

    def elsewhere():
        asyncio.run(fail())
        is_there.set()
        assert may_end.wait(15)
        asyncio.run(fail())

    is_there, may_end = threading.Event(), threading.Event()
    other = threading.Thread(target=elsewhere)
    other.start()
    assert is_there.wait(15)
    asyncio.run(fail())
    may_end.set()
    other.join(15)
    [group] = tracker.groups()
    told = [each["at"] for each in group.latest]
    assert told == sorted(told, reverse=True)
    assert (group.count, group.first_seen, group.last_seen) == (3, told[-1], told[0])
