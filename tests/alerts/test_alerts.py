"""Alerts as an app has them: what happens is found, logged, kept and sent, once per host."""

import hmac
import logging
import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from inspect import signature
from pathlib import Path
from typing import Any

import orjson
import pytest

from asgi_errorkit import ErrorKit, ErrorTracker, ErrorType, Recorder
from asgi_errorkit.alerts import (
    ALERT_TYPES,
    Alerts,
    Figures,
    Finding,
    Objective,
    Thresholds,
    Timing,
)
from asgi_errorkit.alerts.record import AlertRecord
from asgi_errorkit.alerts.state import AlertState
from asgi_errorkit.spool import leader as leader_module
from asgi_errorkit.spool.directory import SpoolError
from asgi_errorkit.spool.host import Host
from asgi_errorkit.testing import HandClock, request
from asgi_errorkit.types import Receive, Scope, Send

DEADLINE_SECONDS = 15.0
AT_ONCE = Timing(wait_seconds=0, interval_seconds=300)


class Inbox:
    """A channel that keeps what it is given; notices come from another thread."""

    def __init__(self) -> None:
        self.got: list[dict[str, Any]] = []

    def __call__(self, notice: dict[str, Any]) -> None:
        self.got.append(notice)

    def kinds(self) -> list[tuple[str, str]]:
        return [(notice["type"], notice["status"]) for notice in self.got]


class App:
    """A tracker with its alerts, whose time is set by hand, and whose couriers have been waited for."""

    def __init__(self, path: Path | None = None, clock: HandClock | None = None, **options: Any):
        self.clock = clock or HandClock()
        self.inbox = Inbox()
        self.recorder = Recorder(
            flush_seconds=None, clock=self.clock, wall_clock=lambda: self.clock.at + 1e6
        )
        self.tracker = ErrorTracker(recorder=self.recorder, release="1.4", redact=["iban"])
        self.host = None if path is None else Host(path, clock=self.clock)
        self.alerts = Alerts(**{"to": [self.inbox], "timing": AT_ONCE, **options})
        self.alerts.watch(self.tracker, host=self.host, app="shop")

    def go_on(self, seconds: float = 0.0) -> "App":
        """As the background thread does it, every second, as long as time goes by."""
        self.tick()
        until = self.clock.at + seconds
        while self.clock.at < until:
            self.clock.move(min(5.0, until - self.clock.at))
            self.tick()
        return self

    def tick(self) -> None:
        self.alerts._teller.tick()
        for courier in self.alerts._teller.couriers:
            assert courier.wait(DEADLINE_SECONDS)
        self.alerts._teller.tick()

    def fail(self, error_type: ErrorType = ErrorType.MODEL, times: int = 4) -> None:
        for _ in range(times):
            self.tracker.record_error(error_type)


@pytest.fixture(autouse=True)
def _log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="asgi_errorkit.alerts")


@pytest.fixture
def app() -> App:
    return App()


def alert_lines(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    return [
        (record.levelname, record.getMessage())
        for record in caplog.records
        if getattr(record, "event", None) == "alert"
    ]


# What happens is told


def test_errors_are_told_of_until_they_are_over(app: App, caplog: pytest.LogCaptureFixture) -> None:
    """Found in the statistics, logged at once, sent, and over when they have left the window."""
    app.fail()
    app.go_on(900)
    assert ("MODEL_LOADING_FAILED", "firing") in app.inbox.kinds()
    assert app.inbox.kinds().count(("MODEL_LOADING_FAILED", "resolved")) == 1
    message = "MODEL_LOADING_FAILED - 4 errors of the type model in 5 minutes"
    assert ("ERROR", f"ALERT: {message}") in alert_lines(caplog)
    assert ("INFO", f"RESOLVED: {message}") in alert_lines(caplog)
    entry = next(e for e in app.alerts.alert_history if e["type"] == "MODEL_LOADING_FAILED")
    assert entry["status"] == "resolved"
    assert entry["resolved_at"] > entry["timestamp"] > 1e6


def test_a_notice_says_whence_it_comes(app: App) -> None:
    app.fail()
    app.go_on()
    notice = app.inbox.got[-1]
    assert (notice["app"], notice["release"]) == ("shop", "1.4")
    assert notice["host"]
    assert notice["dedup_key"] == f"{notice['host']}:shop:{notice['type']}"
    assert orjson.loads(orjson.dumps(notice)) == notice


def test_an_open_circuit_mutes_the_errors_that_opened_it(app: App) -> None:
    for _ in range(5):
        app.tracker.record_error(ErrorType.MODEL)
    app.tracker.breaker("model:sdxl").force_open()
    app.go_on(60)
    assert ("CIRCUIT_BREAKER_TRIGGERED", "firing") in app.inbox.kinds()
    assert "MODEL_LOADING_FAILED" not in [kind for kind, _ in app.inbox.kinds()]
    muted = {entry["type"]: entry["muted"] for entry in app.alerts.alert_history}
    assert muted["MODEL_LOADING_FAILED"] == "inhibited"


def test_a_new_error_is_told_once(app: App) -> None:
    """With its group, by which its samples are found."""
    for _ in range(3):
        try:
            raise KeyError("iban=DE02 password=hunter2")
        except KeyError as error:
            app.tracker.record_error(ErrorType.SYSTEM, context={"exception": error})
        app.go_on(400)
    (told,) = [n for n in app.inbox.got if n["type"] == "NEW_ERROR"]
    fingerprint = told["alerts"][0]["values"]["error_group"]
    assert app.tracker.group(fingerprint) is not None
    assert not any(secret in str(told) for secret in ("DE02", "hunter2"))


def test_rules_of_ones_own(app: App) -> None:
    depth = 0

    def queue_is_full(figures: Figures) -> Finding | None:
        assert figures.total(86_400).requests == 0
        return Finding("QUEUE_FULL", f"{depth} wait", "low") if depth > 10 else None

    app = App(rules=[queue_is_full])
    app.go_on(10)
    depth = 11
    app.go_on(10)
    assert app.inbox.kinds() == [("QUEUE_FULL", "firing")]


# The guide's names


def test_send_alert_gives_what_the_guide_gives(app: App) -> None:
    """The alert is in the history at once, and sent with the next step."""
    alert = app.alerts.send_alert("VIDEO_PROCESSING_FAILED", "no frames", "high")
    assert alert == {
        "type": "VIDEO_PROCESSING_FAILED",
        "message": "no frames",
        "severity": "high",
        "timestamp": app.clock.at + 1e6,
    }
    (entry,) = app.alerts.recent_alerts
    assert alert.items() <= entry.items()
    app.go_on()
    assert [e["message"] for e in app.alerts.recent_alerts] == ["no frames"]
    assert app.inbox.kinds() == [("VIDEO_PROCESSING_FAILED", "happened")]


def test_what_is_sent_often_is_told_once_in_an_interval(
    app: App, caplog: pytest.LogCaptureFixture
) -> None:
    app = App(timing=Timing())
    for _ in range(50):
        app.alerts.send_alert("A", "the same")
        app.go_on(1)
    app.go_on(300)
    counts = [notice["alerts"][0]["count"] for notice in app.inbox.got]
    assert (len(counts), sum(counts)) == (2, 50)
    assert alert_lines(caplog) == [("ERROR", "ALERT: A - the same")] * 2


def test_a_summary(app: App) -> None:
    app.fail()
    app.alerts.send_alert("A", "a", "low")
    app.go_on()
    app.alerts.send_alert("B", "b", "low")
    app.alerts.silence("X*", seconds=60, why="maintenance")
    app.go_on(1)
    app.alerts.send_alert("C", "c", "low")
    told = app.alerts.get_alert_summary()
    assert told["total_alerts"] == len(app.alerts.alert_history)
    assert told["recent_alerts"] == app.alerts.recent_alerts
    assert [told["by_type"][kind] for kind in "ABC"] == [1, 1, 1]
    assert told["by_severity"]["low"] == 3
    assert "MODEL_LOADING_FAILED" in [each["type"] for each in told["firing"]]
    ((what, until, why),) = [tuple(each.values()) for each in told["silences"]]
    assert (what, why) == ("X*", "maintenance")
    assert until == pytest.approx(app.clock.at + 1e6 + 59)
    assert told["channels"][0]["delivered"] >= 3
    assert (told["errors"], told["rule_errors"], told["dropped"]) == (0, 0, 0)
    orjson.dumps(told)


def test_before_anything_is_watched() -> None:
    """What is sent waits for a tracker to be watched."""
    alerts = Alerts()
    alerts.send_alert("A", "a")
    alerts.evaluate()
    assert [entry["type"] for entry in alerts.recent_alerts] == ["A"]
    assert alerts.get_alert_summary()["total_alerts"] == 1
    assert alerts.sample()["type"] == "TEST_ALERT"


def test_the_history_is_bounded(app: App) -> None:
    app = App(max_history=10)
    for number in range(30):
        app.alerts.send_alert("A", str(number))
    app.go_on()
    app.alerts.send_alert("A", "last")
    assert [e["message"] for e in app.alerts.alert_history] == [*map(str, range(21, 30)), "last"]
    assert app.alerts.get_alert_summary()["total_alerts"] == 31


def test_what_waits_is_bounded(app: App) -> None:
    for number in range(1500):
        app.alerts.send_alert("A", str(number))
    assert app.alerts.get_alert_summary()["dropped"] == 500


def test_silences_by_name(app: App) -> None:
    app.alerts.silence("MODEL_*", seconds=3600)
    app.fail()
    app.go_on(600)
    assert "MODEL_LOADING_FAILED" not in [kind for kind, _ in app.inbox.kinds()]
    app.alerts.silence("B", seconds=3600)
    app.alerts.unsilence("MODEL_*")
    app.go_on(1)
    assert [s["what"] for s in app.alerts.get_alert_summary()["silences"]] == ["B"]


# What goes wrong


def test_statistics_that_cannot_be_read_are_counted(
    app: App, caplog: pytest.LogCaptureFixture
) -> None:
    """What went on is taken to go on, what is sent by hand is told, and nothing is raised."""
    app.fail()
    app.go_on()
    assert app.alerts._teller.watch is not None
    app.alerts._teller.watch._error_stats = lambda _: 1 / 0
    app.alerts.send_alert("A", "a")
    app.go_on(900)
    assert "resolved" not in [status for _, status in app.inbox.kinds()]
    assert ("A", "happened") in app.inbox.kinds()
    assert app.alerts.get_alert_summary()["errors"] > 100
    assert len([r for r in caplog.records if "statistics" in r.getMessage()]) == 1


def test_what_breaks_altogether_is_counted(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app.alerts._teller, "_is_leader", lambda: 1 / 0)
    app.go_on(5)
    assert app.alerts.get_alert_summary()["errors"] == 2


def test_two_threads_do_not_look_at_once(app: App) -> None:
    """Who comes meanwhile goes on with its own."""
    with app.alerts._teller._turn:
        app.alerts._teller.tick()
    assert app.alerts._teller._state is None


def test_a_rule_of_ones_own_that_asks_back_does_not_wait_for_itself(app: App) -> None:
    app = App(rules=[lambda _: app.alerts.get_alert_summary() and None])
    app.go_on(5)
    assert app.alerts.get_alert_summary()["rule_errors"] == 0


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"to": "https://x"}, TypeError, r"to must be a list, e\.g\. \['https://.*'\]; got a str"),
        ({"to": [print, 7]}, TypeError, "to must be a callable that takes"),
        ({"rules": len}, TypeError, "rules must be a list"),
        ({"rules": [lambda: None]}, TypeError, r"rules must be a callable that takes \(figures\)"),
        ({"timing": 30}, TypeError, "timing must be a Timing"),
        ({"thresholds": {}}, TypeError, "thresholds must be a Thresholds"),
        ({"objective": 0.99}, TypeError, "objective must be an Objective"),
        ({"every_seconds": 0}, ValueError, "every_seconds must be"),
        ({"max_history": 1}, ValueError, "max_history must be"),
    ],
)
def test_options_that_cannot_be_are_refused(options: Any, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        Alerts(**options)


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda alerts: alerts.send_alert("", "m"), ValueError),
        (lambda alerts: alerts.send_alert("A", 7), TypeError),
        (lambda alerts: alerts.send_alert("A", "m", "worst"), ValueError),
        (lambda alerts: alerts.silence("", seconds=1), ValueError),
        (lambda alerts: alerts.silence("A", seconds=0), ValueError),
        (lambda alerts: alerts.unsilence(7), TypeError),
    ],
)
def test_calls_that_cannot_be_are_refused(app: App, call: Any, error: type) -> None:
    with pytest.raises(error):
        call(app.alerts)


def test_one_tracker_is_watched(app: App) -> None:
    app.alerts.watch(app.tracker)
    with pytest.raises(RuntimeError, match="another tracker"):
        app.alerts.watch(ErrorTracker())


# The end


def test_at_the_end_what_waits_is_told(app: App) -> None:
    """Before its time, for nobody will be there then."""
    app = App(timing=Timing())
    app.alerts.send_alert("A", "a")
    app.alerts.close()
    assert app.inbox.kinds() == [("A", "happened")]


async def lifespan(kit: ErrorKit) -> None:
    """From the beginning to the end of one, as a server has it."""
    steps = ["lifespan.startup", "lifespan.shutdown"]

    async def receive() -> Any:
        return {"type": steps.pop(0)}

    async def send(_: Any) -> None:
        """It is taken."""

    await kit({"type": "lifespan", "asgi": {"version": "3.0"}}, receive, send)


async def idle(scope: Scope, receive: Receive, send: Send) -> None:
    while (await receive())["type"] != "lifespan.shutdown":
        await send({"type": "lifespan.startup.complete"})
    await send({"type": "lifespan.shutdown.complete"})


async def test_at_the_end_of_a_lifespan_what_waits_is_told() -> None:
    """A server that was told to end by a signal leaves then, and runs nothing of what is to come."""
    inbox = Inbox()
    alerts = Alerts(to=[inbox])
    kit = ErrorKit(idle, alerts=alerts)
    alerts.send_alert("A", "a")
    await lifespan(kit)
    assert inbox.kinds() == [("A", "happened")]


async def test_what_breaks_at_the_end_of_a_lifespan_is_counted() -> None:
    recorder = Recorder(flush_seconds=None)
    kit = ErrorKit(idle, tracker=ErrorTracker(recorder=recorder))
    recorder.on_rest(lambda: 1 / 0 and None)
    await lifespan(kit)
    assert recorder.sink_errors == 1


def test_a_stuck_channel_does_not_keep_a_process_from_ending() -> None:
    stuck = threading.Event()
    app = App(to=[lambda _: stuck.wait(DEADLINE_SECONDS)])
    app.alerts.send_alert("A", "a")
    begun_at = time.monotonic()
    app.alerts.close(linger_seconds=0.1)
    assert time.monotonic() - begun_at < DEADLINE_SECONDS / 2
    stuck.set()


def test_a_process_that_ends_tells_what_it_knows(tmp_path: Path) -> None:
    """Without a record, in its last moment."""
    told = tmp_path / "told"
    code = f"""
        from pathlib import Path
        from asgi_errorkit import ErrorTracker
        from asgi_errorkit.alerts import Alerts
        def channel(notice): Path({str(told)!r}).write_text(notice["type"])
        alerts, tracker = Alerts(to=[channel]), ErrorTracker()
        alerts.watch(tracker)
        alerts.send_alert("A", "a")
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True, timeout=60)
    assert told.read_text() == "A"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_child_does_not_tell_what_its_parent_will(app: App) -> None:
    app.alerts.send_alert("A", "a")
    app.alerts._teller.reset_after_fork()
    assert app.alerts.recent_alerts == []
    app.go_on(10)
    assert app.inbox.got == []


# One per host


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "record"


@pytest.fixture
def two(path: Path) -> Iterator[tuple[App, App]]:
    """Two workers with one record; the first has begun to lead."""
    clock = HandClock()
    one, other = App(path, clock), App(path, clock)
    one.go_on()
    other.go_on()
    yield one, other
    for app in (one, other):
        assert app.host is not None
        app.host._leader.resign()


def go_on(apps: tuple[App, App], seconds: float) -> None:
    for _ in range(int(seconds / 5)):
        apps[0].clock.move(5)
        for app in apps:
            app.tick()


def resign(app: App) -> None:
    assert app.host is not None
    app.host._leader.resign()
    app.host._leader.is_ours = lambda: False  # type: ignore[method-assign]
    app.alerts._teller.leads = lambda: False


def test_one_worker_alerts(two: tuple[App, App]) -> None:
    """What both see is told by one."""
    for app in two:
        app.fail()
    go_on(two, 30)
    assert ("MODEL_LOADING_FAILED", "firing") in two[0].inbox.kinds()
    assert two[1].inbox.got == []


def test_any_worker_knows_the_alerts_of_the_host(two: tuple[App, App]) -> None:
    two[0].fail()
    go_on(two, 10)
    one, other = (app.alerts.get_alert_summary() for app in two)
    for name in ("total_alerts", "recent_alerts", "firing", "silences"):
        assert other[name] == one[name]
    assert other["firing"]


def test_what_another_worker_sends_is_told_by_the_one(two: tuple[App, App]) -> None:
    """Alerts, silences, and deaths that it was the first to find."""
    two[1].alerts.send_alert("A", "a password=hunter2")
    two[1].alerts.silence("S", seconds=600)
    assert two[1].host is not None
    crash = {"pid": 7, "in_flight": 0, "suspects": [], "memory_mb": 1.0}
    two[1].host._listeners[0](crash)
    go_on(two, 10)
    assert sorted(two[0].inbox.kinds()) == [("A", "happened"), ("WORKER_DIED", "happened")]
    assert two[1].inbox.got == []
    assert [s["what"] for s in two[1].alerts.get_alert_summary()["silences"]] == ["S"]
    assert two[1].alerts.recent_alerts[-1]["type"] == "WORKER_DIED"
    left = two[0].host.directory.names() if two[0].host else []
    assert left == ["alerts.ek"]
    body = two[0].host.directory.read("alerts.ek") if two[0].host else b""
    assert b"hunter2" not in body


def test_who_takes_over_does_not_tell_again(two: tuple[App, App]) -> None:
    """And tells that it is over."""
    for app in two:
        app.fail()
    go_on(two, 20)
    resign(two[0])
    go_on(two, 200)
    assert two[1].inbox.got == []
    go_on(two, 700)
    kinds = two[1].inbox.kinds()
    assert ("MODEL_LOADING_FAILED", "resolved") in kinds
    assert not [kind for kind in kinds if kind[1] == "firing"]


def test_who_takes_over_brings_what_was_on_its_way(path: Path) -> None:
    """At least once, to the channels that have not got it, under the id that it had."""
    clock, stuck = HandClock(), threading.Event()
    got: list[str] = []

    def slow(_: Any) -> None:
        stuck.wait(DEADLINE_SECONDS)

    def quick(notice: dict[str, Any]) -> None:
        got.append(notice["id"])

    one = App(path, clock, to=[quick, slow])
    one.alerts.send_alert("A", "a")
    one.alerts._teller.tick()
    assert one.alerts._teller.couriers[0].wait(DEADLINE_SECONDS)
    one.alerts._teller.tick()
    resign(one)

    slow_got: list[str] = []

    def slow_now(notice: dict[str, Any]) -> None:
        slow_got.append(notice["id"])

    slow_now.__name__ = "slow"
    other = App(path, clock, to=[quick, slow_now])
    other.go_on(5)
    assert got == slow_got
    assert len(got) == 1
    assert AlertRecord(other.host.directory).load()["on_its_way"] == []  # type: ignore[union-attr,index]
    stuck.set()


def test_nothing_is_brought_before_it_is_kept(path: Path) -> None:
    """Whoever took over in between would tell it anew, and by another name."""
    app = App(path)
    record = AlertRecord(Host(path).directory)
    kept_before: list[bool] = []
    (courier,) = app.alerts._teller.couriers
    put = courier.put

    def put_and_look(notice: dict[str, Any]) -> None:
        kept = record.load() or {"on_its_way": []}
        kept_before.append(notice["id"] in [known["id"] for known, _ in kept["on_its_way"]])
        put(notice)

    courier.put = put_and_look  # type: ignore[method-assign]
    app.alerts.send_alert("A", "a")
    app.go_on(10)
    assert kept_before == [True]
    assert app.inbox.kinds() == [("A", "happened")]


def test_what_was_on_its_way_to_nowhere_is_let_go(path: Path) -> None:
    """Whoever takes over may have other channels."""
    app = App(path, to=[print])
    app.host.directory.write("alerts.ek", orjson.dumps(kept_with_notices(app, 250)))  # type: ignore[union-attr]
    app.go_on(5)
    assert app.alerts._teller._state is not None
    assert app.alerts._teller._state.on_its_way == {}


def kept_with_notices(app: App, number: int) -> dict[str, Any]:
    teller = app.alerts._teller
    assert teller.watch is not None
    state = teller._loaded(teller.watch)
    for n in range(number):
        state.send({"id": str(n)}, {"0 channel of another"})
    assert len(state.on_its_way) == 200
    return state.as_dict(teller._clocks())


def test_another_boot_has_another_clock(path: Path) -> None:
    """What is kept is taken over by the time of day."""
    one = App(path)
    one.fail()
    one.alerts.silence("S", seconds=600)
    one.go_on(10)
    resign(one)
    assert one.host is not None
    kept = orjson.loads(one.host.directory.read("alerts.ek"))
    one.host.directory.write("alerts.ek", orjson.dumps({**kept, "boot": "0000aaaa"}))
    clock = HandClock(one.clock.at + 500_000)
    other = App(path, clock)
    other.recorder.wall_clock = other.alerts._teller.wall_clock = lambda: clock.at + 1e6 - 500_000
    other.fail()
    other.go_on(400)
    assert ("MODEL_LOADING_FAILED", "firing") not in other.inbox.kinds()
    known, before = other.alerts.alert_history[0], one.alerts.alert_history[0]
    assert {**known, **{name: before[name] for name in ("status", "resolved_at")}} == before
    assert [s["what"] for s in other.alerts.get_alert_summary()["silences"]] == ["S"]
    other.go_on(400)
    assert other.alerts.get_alert_summary()["silences"] == []


def test_notes_that_cannot_be_left_wait(
    two: tuple[App, App], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And those that cannot be removed are heeded once."""

    def full(*_: Any) -> None:
        raise SpoolError("no space left")

    with monkeypatch.context() as patched:
        patched.setattr(AlertRecord, "tell", full)
        two[1].alerts.send_alert("A", "a")
        go_on(two, 10)
        assert [entry["type"] for entry in two[1].alerts.recent_alerts] == ["A"]
    with monkeypatch.context() as patched:
        patched.setattr(AlertRecord, "forget", full)
        go_on(two, 20)
    go_on(two, 10)
    assert [n["alerts"][0]["count"] for n in two[0].inbox.got] == [1]
    assert two[0].host is not None
    assert two[0].host.directory.names() == ["alerts.ek"]


def test_without_locks_each_alerts_for_itself(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on Windows: nobody would lead there."""
    monkeypatch.setitem(sys.modules, "fcntl", None)
    app = App(path)
    app.alerts.send_alert("A", "a")
    app.go_on()
    assert app.inbox.kinds() == [("A", "happened")]
    assert app.host is not None
    assert app.host.directory.names() == []


def test_a_killed_worker_is_followed_by_another(path: Path) -> None:
    """The one that led is gone without a word: nothing is told twice, and nothing is lost."""
    code = """
        import sys
        from asgi_errorkit import ErrorTracker, ErrorType
        from asgi_errorkit.alerts import ALERT_TYPES, Alerts, Timing
        from asgi_errorkit.spool.host import Host
        told = []
        alerts = Alerts(to=[told.append], timing=Timing(wait_seconds=0))
        tracker = ErrorTracker()
        alerts.watch(tracker, host=Host(sys.argv[1]))
        for _ in range(4):
            tracker.record_error(ErrorType.MODEL)
        alerts.evaluate()
        for courier in alerts._teller.couriers:
            courier.wait(10)
        alerts.evaluate()
        print(",".join(sorted(notice["type"] for notice in told)), flush=True)
        sys.stdin.read()
    """
    leader = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert leader.stdout is not None
        assert "MODEL_LOADING_FAILED" in leader.stdout.readline()
        clock = HandClock(time.perf_counter())
        app = App(path, clock)
        app.fail()
        app.go_on(10)
        assert app.inbox.got == []
        assert app.alerts.recent_alerts
    finally:
        leader.send_signal(signal.SIGKILL)
        leader.communicate()
    app.go_on(60)
    assert "MODEL_LOADING_FAILED" not in [kind for kind, _ in app.inbox.kinds()]
    app.alerts.send_alert("A", "a")
    app.go_on(10)
    assert ("A", "happened") in app.inbox.kinds()


def test_a_worker_killed_amid_a_delivery_is_followed_by_another(path: Path) -> None:
    """The notice comes once more, the same, so that who knows it by its id has it once."""
    code = """
        import sys
        from asgi_errorkit import ErrorTracker
        from asgi_errorkit.alerts import Alerts, Timing
        from asgi_errorkit.spool.host import Host
        alerts = Alerts(to=[sys.argv[2]], secret="s", timing=Timing(wait_seconds=0))
        alerts.watch(ErrorTracker(), host=Host(sys.argv[1]), app="shop")
        alerts.send_alert("A", "a")
        alerts.evaluate()
        sys.stdin.read()
    """
    got: list[bytes] = []
    has_come, may_answer = threading.Event(), threading.Event()

    class Post(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            stamped = self.headers["x-errorkit-timestamp"].encode() + b"." + body
            signature = hmac.new(b"s", stamped, "sha256").hexdigest()
            assert self.headers["x-errorkit-signature"] == f"v1={signature}"
            got.append(body)
            has_come.set()
            may_answer.wait(DEADLINE_SECONDS)
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Not in the way of the tests' own output."""

        def finish(self) -> None:
            with suppress(OSError):  # nobody is there any more
                super().finish()

    with ThreadingHTTPServer(("127.0.0.1", 0), Post) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,)).start()
        url = f"http://127.0.0.1:{server.server_port}/hook"
        leader = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(code), str(path), url], stdin=subprocess.PIPE
        )
        try:
            assert has_come.wait(DEADLINE_SECONDS)
        finally:
            leader.send_signal(signal.SIGKILL)
            leader.communicate()
            may_answer.set()
        app = App(path, HandClock(time.perf_counter()), to=[url], secret="s")
        app.go_on(10)
        app.go_on(600)
        server.shutdown()
    ours = [body for body in got if orjson.loads(body)["type"] == "A"]
    assert len(ours) == 2
    assert ours[0] == ours[1]


@pytest.mark.parametrize(
    "kept",
    [b"", b"[]", b"{}", b'{"version":1,"boot":"x","offset":0,"timeline":{}}', b'{"version":2}'],
    ids=repr,
)
def test_a_record_that_makes_no_sense_begins_anew(path: Path, kept: bytes) -> None:
    app = App(path)
    assert app.host is not None
    app.host.directory.write("alerts.ek", kept)
    app.host.directory.write("alertnote-1.ek", b"{")
    app.host.directory.write("alertnote-2.ek", b'[7,{"alert":{}},{"silence":1},{"x":1}]')
    app.alerts.send_alert("A", "a")
    app.go_on(10)
    assert app.inbox.kinds() == [("A", "happened")]
    assert app.alerts.get_alert_summary()["errors"] == 3
    assert app.host.directory.names() == ["alerts.ek"]


@pytest.mark.parametrize(
    ("change", "errors"),
    [
        ({"history": [{}, {"type": 1}, {"type": "A", "key": "A", "status": "firing"}]}, 0),
        ({"total_alerts": 1e308}, 1),
        ({"resolved": {"f1": "nan"}}, 1),
        ({"timeline": {"unsaid": {"silenced": 1e308, "inhibited": 0, "overflowed": 0}}}, 1),
    ],
    ids=repr,
)
def test_who_takes_over_what_makes_no_sense_alerts_and_keeps_it_all_the_same(
    path: Path, change: dict[str, Any], errors: int
) -> None:
    one = App(path)
    one.fail()
    one.go_on(10)
    assert one.host is not None
    kept = orjson.loads(one.host.directory.read("alerts.ek"))
    for name, told in change.items():
        kept[name] = {**kept[name], **told} if name == "timeline" else told
    one.host.directory.write("alerts.ek", orjson.dumps(kept))
    leader_module._LEADING.clear()
    app = App(path, one.clock)
    app.alerts.send_alert("A", "a")
    app.go_on(1000)  # what was firing is over
    assert ("A", "happened") in app.inbox.kinds()
    assert app.alerts.get_alert_summary()["errors"] == errors
    orjson.dumps(app.alerts.get_alert_summary())
    again = AlertState(
        timing=AT_ONCE,
        gone_seconds=60.0,
        ask=lambda _: (0, 0),
        history=100,
        clocks=app.alerts._teller._clocks(),
    )
    again.remember(orjson.loads(one.host.directory.read("alerts.ek")), app.alerts._teller._clocks())
    assert again.total_alerts == app.alerts.get_alert_summary()["total_alerts"]


def test_a_record_that_cannot_be_written_keeps_nobody_quiet(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Alerts go on in memory."""
    app = App(path)

    def full(*_: Any) -> None:
        raise SpoolError("no space left")

    for name in ("write", "names", "read"):
        monkeypatch.setattr(type(app.host.directory), name, full)  # type: ignore[union-attr]
    app.fail()
    app.go_on(10)
    assert ("MODEL_LOADING_FAILED", "firing") in app.inbox.kinds()
    assert app.alerts.recent_alerts


def test_without_a_leader_notes_do_not_pile_up(two: tuple[App, App]) -> None:
    """As where the one that leads has no alerts."""
    two[0].alerts._teller.leads = lambda: False
    for number in range(250):
        two[1].alerts.send_alert("A", str(number))
        two[1].go_on(1)
    names = two[1].host.directory.names() if two[1].host else []
    assert len(names) <= 201
    assert two[1].alerts.get_alert_summary()["dropped"] > 40


def test_who_cannot_ask_alerts_itself(path: Path) -> None:
    """Better twice than never."""
    app = App(path)

    def gone() -> bool:
        raise SpoolError("the directory is gone")

    app.alerts._teller.leads = gone
    app.alerts.send_alert("A", "a")
    app.go_on()
    assert app.inbox.kinds() == [("A", "happened")]


# With a whole kit

PAGE = (Path(__file__).parents[2] / "docs" / "alerts.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_an_example_of_the_page_runs(block: str) -> None:
    if "ErrorKit(" in block and "alerts" not in signature(ErrorKit).parameters:
        pytest.skip("the kit takes no alerts yet")
    names: dict[str, Any] = {"app": failing}
    exec(compile(block, "alerts.md", "exec"), names)
    if "is_ours" in names:
        assert not names["is_ours"]({}, b"{}")
    if "shedding" in names:
        found = names["shedding"](Figures({}, {"outcomes": {"shed": 101}}, {}, lambda _: None, 0))
        assert found.type == "LOAD_SHED"


def test_the_page_names_every_type() -> None:
    assert [kind for kind in ALERT_TYPES if f"`{kind}`" not in PAGE] == []


async def failing(scope: Scope, receive: Receive, send: Send) -> None:
    raise RuntimeError("model weights are missing")


async def test_with_a_kit_and_its_thread() -> None:
    """The background thread looks; requests have nothing to do with it."""
    inbox = Inbox()
    tracker = ErrorTracker(recorder=Recorder(flush_seconds=0.01))
    kit = ErrorKit(failing, tracker=tracker)
    alerts = Alerts(
        to=[inbox],
        timing=AT_ONCE,
        objective=Objective(0.99),
        thresholds=Thresholds(errors_per_minute=1),
        every_seconds=1,
    )
    alerts.watch(tracker, kit.get_performance_stats, app="shop")
    for _ in range(30):
        await request(kit)
    until = time.monotonic() + DEADLINE_SECONDS
    wanted = {("HIGH_ERROR_RATE", "firing"), ("NEW_ERROR", "happened")}
    while not wanted <= set(inbox.kinds()) and time.monotonic() < until:
        time.sleep(0.02)  # the thread may look amid the requests
    assert wanted <= set(inbox.kinds())
    told = alerts.get_alert_summary()
    assert (told["errors"], told["rule_errors"]) == (0, 0)
    tracker.recorder.close()
