"""Notices are brought to their channels, in order, tried again, and never in anybody's way."""

import hmac
import socket
import sys
import threading
import time
from base64 import b64decode
from collections.abc import Iterable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from itertools import chain, repeat
from typing import Any

import orjson
import pytest

from asgi_errorkit import ErrorTracker
from asgi_errorkit.alerts import Alerts
from asgi_errorkit.alerts import channels as alert_channels
from asgi_errorkit.alerts.channels import (
    ThroughApprise,
    UndeliverableError,
    Webhook,
    channel_to,
    is_signed,
)
from asgi_errorkit.alerts.delivery import Courier
from asgi_errorkit.alerts.finding import Finding
from asgi_errorkit.alerts.notice import Words, text_of
from asgi_errorkit.alerts.timeline import Timeline
from asgi_errorkit.alerts.timing import Timing
from asgi_errorkit.backoff import RetryPlan
from asgi_errorkit.redact import Redactor
from asgi_errorkit.testing import HandClock

SECRET = "between us"
DEADLINE_SECONDS = 10.0


def notice_of(*findings: Finding) -> dict[str, Any]:
    words = Words(Redactor(), {"host": "h1", "app": "shop", "release": "1.4"})
    step = Timeline(Timing(wait_seconds=0)).step(0.0, [words.clean(each) for each in findings])
    return words.notice(step.notices[0], offset=1_000_000.0)


@pytest.fixture
def notice() -> dict[str, Any]:
    return notice_of(Finding("HIGH_ERROR_RATE", "Error rate is 7.00 errors/minute"))


class Receiver:
    """A real web server on the loopback that answers as it is told, and keeps what it gets."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, dict[str, str]]] = []
        self.got: list[tuple[str, dict[str, str], bytes]] = []
        receiver = self

        class Post(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                receiver.got.append((self.path, headers, body))
                status, more = receiver.answers.pop(0) if receiver.answers else (200, {})
                self.send_response(status)
                for name, value in more.items():
                    self.send_header(name, value)
                self.send_header("content-length", "0")
                self.end_headers()

            do_GET = do_POST  # noqa: N815

            def log_message(self, *_: Any) -> None:
                """Not in the way of the tests' own output."""

        self.server = HTTPServer(("127.0.0.1", 0), Post)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.close()


# The webhook


def test_what_is_posted_is_signed(receiver: Receiver, notice: dict[str, Any]) -> None:
    """Whoever shares the secret can tell that it is ours, whole and of now."""
    Webhook(f"{receiver.url}/hook?x=1", secret=SECRET, headers={"X-Team": "video"})(notice)
    ((path, headers, body),) = receiver.got
    timestamp, signature = headers["x-errorkit-timestamp"], headers["x-errorkit-signature"]
    assert (path, headers["content-type"], headers["x-team"]) == (
        "/hook?x=1",
        "application/json",
        "video",
    )
    assert orjson.loads(body) == notice
    by_hand = hmac.new(SECRET.encode(), f"{timestamp}.".encode() + body, "sha256").hexdigest()
    assert signature == f"v1={by_hand}"
    assert abs(int(timestamp) - time.time()) < 60
    assert is_signed(body, timestamp=timestamp, signature=signature, secret=SECRET)


@pytest.mark.parametrize(
    "changed",
    [
        {"body": b"{}"},
        {"timestamp": "1000001"},
        {"timestamp": None},
        {"timestamp": "soon"},
        {"signature": None},
        {"signature": "v1=00"},
        {"signature": "v1=\u00e4"},
        {"secret": b"another"},
        {"wall_clock": lambda: 1_000_301.0},
        {"wall_clock": lambda: 999_600.0},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_what_was_changed_or_is_old_is_not_signed(changed: dict[str, Any]) -> None:
    signed = alert_channels._signature(SECRET.encode(), "1000000", b"[]")
    given: dict[str, Any] = {
        "body": b"[]",
        "timestamp": "1000000",
        "signature": signed,
        "secret": SECRET,
        "wall_clock": lambda: 1_000_010.0,
    }
    assert is_signed(given.pop("body"), **given)
    given = {"body": b"[]", **given, **changed}
    assert not is_signed(given.pop("body"), **given)


def test_without_a_secret_there_is_no_signature(receiver: Receiver, notice: Any) -> None:
    Webhook(receiver.url)(notice)
    assert "x-errorkit-signature" not in receiver.got[0][1]


@pytest.mark.parametrize("status", [400, 404, 410, 302], ids=str)
def test_what_is_refused_is_not_tried_again(receiver: Receiver, notice: Any, status: int) -> None:
    """A redirect is one of these: what is meant for one receiver is sent to no other."""
    receiver.answers = [(status, {"location": f"{receiver.url}/elsewhere"})]
    with pytest.raises(UndeliverableError, match=f"answered {status}"):
        Webhook(receiver.url)(notice)
    assert len(receiver.got) == 1


@pytest.mark.parametrize("status", [500, 503, 429, 408], ids=str)
def test_what_may_go_well_later_is_tried_again(
    receiver: Receiver, notice: Any, status: int
) -> None:
    """After the time that the receiver asks for."""
    receiver.answers = [(status, {"retry-after": "7"})]
    clock = HandClock()
    courier = Courier(Webhook(receiver.url), "hook", clock=clock)
    courier.put(notice)
    wait = courier.turn()
    assert wait is not None
    assert 7 <= wait < 10
    assert courier.turn() == pytest.approx(wait)  # not before
    assert len(receiver.got) == 1
    clock.move(wait)
    assert courier.turn() == 0.0
    assert (courier.delivered, courier.retried, len(receiver.got)) == (1, 1, 2)


def test_who_says_to_come_back_in_an_hour_is_asked_before(notice: Any) -> None:
    """A notice is tried for an hour: it would be given up at the first such answer."""
    clock, channel = HandClock(), Channel(*(LaterError(seconds) for seconds in (3600, 10**9)))
    courier = Courier(channel, "c", clock=clock)
    courier.put(notice)
    while (wait := courier.turn()) is not None:
        assert wait < 1000
        clock.move(wait)
    assert (courier.delivered, courier.retried, courier.failed) == (1, 2, 0)


class LaterError(OSError):
    def __init__(self, seconds: float) -> None:
        super().__init__("later")
        self.retry_after = seconds


class Slow:
    """Takes connections, and says so many pieces, with a pause before each."""

    def __init__(self, pieces: Iterable[bytes], pause_seconds: float = 0.05) -> None:
        self.pieces, self.pause_seconds = pieces, pause_seconds
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listening.getsockname()[1]}"
        self.is_over = threading.Event()
        self.thread = threading.Thread(target=self.serve)
        self.thread.start()

    def serve(self) -> None:
        connection, _ = self.listening.accept()
        with connection, suppress(OSError):
            connection.recv(65536)
            for piece in self.pieces:
                if self.is_over.wait(self.pause_seconds):
                    return
                connection.sendall(piece)

    def close(self) -> None:
        self.is_over.set()
        self.thread.join(DEADLINE_SECONDS)
        self.listening.close()


def test_an_answer_that_trickles_in_holds_up_no_other_notice(notice: Any) -> None:
    """The timeout is for the whole of it, and not for each byte: that might go on for days."""
    answers: list[tuple[Iterable[bytes], float]] = [
        ((bytes([byte]) for byte in b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 10_000), 0.05),
        (repeat(b"HTTP/1.1 100 Continue\r\n\r\n"), 0.0),
    ]
    for pieces, pause_seconds in answers:
        slow = Slow(pieces, pause_seconds)
        with pytest.raises(OSError, match="time"):
            Webhook(slow.url, timeout_seconds=0.5)(notice)
        slow.close()


def test_an_answer_is_not_read_to_its_end(notice: Any) -> None:
    """There may be no end."""
    slow = Slow(chain([b"HTTP/1.1 200 OK\r\n\r\n"], repeat(b"x" * 65536)), pause_seconds=0)
    Webhook(slow.url)(notice)
    slow.close()


def test_a_login_in_the_url_is_sent_as_such(receiver: Receiver, notice: Any) -> None:
    place = receiver.url.partition("//")[2]
    Webhook(f"http://us%40er:p%3Aw@{place}/hook")(notice)
    ((path, headers, _),) = receiver.got
    assert (path, headers["host"]) == ("/hook", place)
    assert b64decode(headers["authorization"].removeprefix("Basic ")) == b"us@er:p:w"


def test_a_header_that_is_given_goes_before_a_login(receiver: Receiver, notice: Any) -> None:
    place = receiver.url.partition("//")[2]
    Webhook(f"http://user:pw@{place}", headers={"authorization": "Bearer t"})(notice)
    assert receiver.got[0][1]["authorization"] == "Bearer t"


def test_a_name_that_nobody_has_and_a_certificate_of_nobody_are_tried_again(
    notice: Any, receiver: Receiver
) -> None:
    for url in ("http://nobody.invalid/", f"https://{receiver.url.partition('//')[2]}/"):
        courier = Courier(Webhook(url, timeout_seconds=0.5), "hook", clock=HandClock())
        courier.put(notice)
        assert courier.turn() is not None
        assert (courier.retried, courier.failed) == (1, 0)


def test_nobody_there_is_tried_again(notice: Any, receiver: Receiver) -> None:
    url = receiver.url
    receiver.server.server_close()
    courier = Courier(Webhook(url, timeout_seconds=0.5), "hook", clock=HandClock())
    courier.put(notice)
    courier.turn()
    assert (courier.retried, courier.delivered) == (1, 0)


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"url": "ftp://x"}, ValueError, "url must be an http or https URL"),
        ({"url": "https://"}, ValueError, "url must be an http or https URL"),
        ({"url": "http://[x"}, ValueError, "url must be an http or https URL"),
        ({"url": "https://x/a b"}, ValueError, "percent-encoded"),
        ({"url": "https://x/\r\nX-Evil: 1"}, ValueError, "percent-encoded"),
        ({"url": "https://x/\u00e4"}, ValueError, "percent-encoded"),
        ({"url": "https://a..b/"}, ValueError, "url must be an http or https URL"),
        ({"headers": {"X-A": "1\r\nX-Evil: 1"}}, ValueError, "headers must be"),
        ({"url": 7}, TypeError, "url must be a string"),
        ({"secret": ""}, ValueError, "secret must not be empty"),
        ({"secret": 7}, TypeError, "secret must be a string or bytes"),
        ({"headers": {"a": 1}}, TypeError, "headers must be a mapping"),
        ({"timeout_seconds": 0}, ValueError, "timeout_seconds must be"),
    ],
)
def test_a_webhook_that_cannot_be_is_refused(given: Any, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        Webhook(**{"url": "https://x", **given})


def test_a_label_tells_no_secret() -> None:
    """What follows the host, or stands before it, may be one."""
    label = Webhook("https://user:pw@hooks.example.com:8443/services/T0K3N?key=1").label
    assert label == "https://hooks.example.com:8443"
    assert Webhook("http://[::1]:80/x").label == "http://[::1]:80"


def test_an_alert_comes_with_its_signature(receiver: Receiver) -> None:
    """All the way from where it is sent to who verifies it."""
    alerts = Alerts(to=[f"{receiver.url}/hook"], secret=SECRET, timing=Timing(wait_seconds=0))
    alerts.watch(ErrorTracker(), app="shop")
    alerts.send_alert("VIDEO_PROCESSING_FAILED", "no frames")
    alerts.evaluate()
    alerts.close(linger_seconds=DEADLINE_SECONDS)
    ((_, headers, body),) = receiver.got
    assert orjson.loads(body)["alerts"][0]["message"] == "no frames"
    assert is_signed(
        body,
        timestamp=headers["x-errorkit-timestamp"],
        signature=headers["x-errorkit-signature"],
        secret=SECRET,
    )


# The courier


class Channel:
    """Takes what it is given, after as many failures as it is told."""

    def __init__(self, *failures: BaseException) -> None:
        self.failures = list(failures)
        self.got: list[Any] = []

    def __call__(self, notice: dict[str, Any]) -> None:
        if self.failures:
            raise self.failures.pop(0)
        self.got.append(notice["id"])


def numbered(number: int) -> dict[str, Any]:
    return {"id": f"n{number}"}


def test_they_come_in_order_whatever_fails() -> None:
    """The end of an alert never comes before its beginning."""
    clock, channel = HandClock(), Channel(OSError("down"), OSError("down"))
    done: list[str] = []
    courier = Courier(channel, "c", clock=clock)
    courier.on_done = done.append
    for number in range(3):
        courier.put(numbered(number))
    while (wait := courier.turn()) is not None:
        clock.move(wait)
    assert channel.got == done == ["n0", "n1", "n2"]
    assert courier.as_dict() == {
        "channel": "c",
        "waiting": 0,
        "delivered": 3,
        "retried": 2,
        "failed": 0,
        "dropped": 0,
    }


def test_what_waits_already_is_not_brought_twice() -> None:
    channel = Channel()
    courier = Courier(channel, "c")
    for _ in range(3):
        courier.put(numbered(0))
    while courier.turn() is not None:
        pass
    assert channel.got == ["n0"]


def test_what_is_never_taken_is_given_up(caplog: pytest.LogCaptureFixture) -> None:
    """After an hour, counted, said once; what comes behind it is brought."""
    clock = HandClock()
    channel = Channel(*[OSError("no password=hunter2")] * 400)
    courier = Courier(channel, "c", clock=clock)
    courier.put(numbered(0))
    courier.put(numbered(1))
    begun_at = clock.at
    while not courier.failed:
        clock.move(courier.turn() or 0.0)
    assert clock.at - begun_at <= 3600
    channel.failures = [UndeliverableError("gone")]
    courier.turn()
    assert courier.failed == 2
    assert courier.turn() is None
    (record,) = [r for r in caplog.records if r.name == "asgi_errorkit.alerts"]
    assert "could not be brought to c" in record.getMessage()
    assert "hunter2" not in record.getMessage()


def test_a_full_queue_loses_the_oldest_that_is_not_on_its_way(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """And says so, once."""
    done: list[str] = []
    channel = Channel()
    courier = Courier(channel, "c", most_waiting=3)
    courier.on_done = done.append
    for number in range(5):
        courier.put(numbered(number))
    assert (courier.dropped, done) == (2, ["n1", "n2"])
    assert [record.getMessage() for record in caplog.records] == [
        "alerts wait for c, the oldest have been dropped, and further ones are only counted"
    ]
    while courier.turn() is not None:
        pass
    assert channel.got == ["n0", "n3", "n4"]


@pytest.mark.parametrize("error", [SystemExit(1), KeyboardInterrupt()], ids=["exit", "interrupt"])
def test_a_channel_that_would_end_the_thread_does_not(error: BaseException) -> None:
    clock, channel = HandClock(), Channel(error)
    courier = Courier(channel, "c", clock=clock)
    courier.put(numbered(0))
    clock.move(courier.turn() or 0.0)
    courier.turn()
    assert channel.got == ["n0"]


def test_a_thread_brings_them_and_ends() -> None:
    """It is there only while there is something to bring."""
    channel = Channel(OSError("once"))
    courier = Courier(channel, "c", plan=RetryPlan(base_seconds=0.001))
    courier.start()
    assert courier._thread is None
    for number in range(3):
        courier.put(numbered(number))
        courier.start()
        courier.start()
    assert courier.wait(DEADLINE_SECONDS)
    assert channel.got == ["n0", "n1", "n2"]
    assert courier._thread is None
    courier.put(numbered(3))
    courier.start()
    assert courier.wait(DEADLINE_SECONDS)
    assert channel.got[-1] == "n3"


def test_what_is_tried_again_much_later_is_not_waited_for() -> None:
    """A receiver that is down keeps no process from ending, not even for the two seconds."""
    courier = Courier(Channel(LaterError(600)), "c")
    courier.put(numbered(0))
    courier.start()
    until = time.monotonic() + DEADLINE_SECONDS
    while not courier.retried and time.monotonic() < until:
        time.sleep(0.01)
    begun_at = time.monotonic()
    while courier._next_at < begun_at:  # it is about to say until when it sleeps
        time.sleep(0.01)
    assert not courier.wait(DEADLINE_SECONDS * 4)
    assert time.monotonic() - begun_at < DEADLINE_SECONDS


def test_without_threads_it_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """A system that gives no more of them now may do so later."""
    channel = Channel()
    courier = Courier(channel, "c")
    courier.put(numbered(0))

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        courier.start()
    assert not courier.wait(0)
    courier.start()
    assert courier.wait(DEADLINE_SECONDS)
    assert channel.got == ["n0"]


def test_a_stuck_channel_holds_up_nobody() -> None:
    """To hand over a notice, and to end, takes no longer for it."""
    stuck = threading.Event()
    courier = Courier(lambda _: stuck.wait(DEADLINE_SECONDS), "c")
    begun_at = time.monotonic()
    for number in range(200):
        courier.put(numbered(number))
        courier.start()
    assert not courier.wait(0.05)
    assert time.monotonic() - begun_at < DEADLINE_SECONDS / 2
    assert courier.dropped == 100
    stuck.set()
    assert courier.wait(DEADLINE_SECONDS)


def test_a_child_does_not_bring_what_the_parent_will() -> None:
    courier = Courier(Channel(), "c")
    courier.put(numbered(0))
    courier.reset_after_fork()
    assert courier.turn() is None


# apprise


apprise = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@apprise
def test_apprise_brings_a_notice(receiver: Receiver) -> None:
    """To a receiver that it knows: its type, title and text say what the notice says."""
    pytest.importorskip("apprise")
    channel = channel_to(f"json://{receiver.url.partition('//')[2]}/x")
    assert isinstance(channel, ThroughApprise)
    assert channel.label == "json://..."
    notice = notice_of(Finding("NEW_ERROR", "hello @everyone <!channel>", "critical"))
    channel(notice)
    channel({**notice, "status": "resolved"})
    channel({**notice, "severity": "low"})
    told = [orjson.loads(body) for _, _, body in receiver.got]
    assert [each["type"] for each in told] == ["failure", "success", "warning"]
    assert told[0]["title"] == "NEW_ERROR on h1 (shop)"
    assert "hello @\u200beveryone \u2039!channel\u203a" in told[0]["message"]


@apprise
def test_an_incident_is_found_again_by_its_end(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PagerDuty is told the same key from the trigger to the end, if the URL asks for it."""
    pytest.importorskip("apprise")
    channel = ThroughApprise(f"pagerduty://{'k' * 32}@{'a' * 20}?action=map")
    plugin = sys.modules["apprise.plugins.pagerduty"]
    if not hasattr(plugin, "PagerDutyAction"):
        pytest.skip("this apprise knows of no end of an incident")
    monkeypatch.setitem(plugin.PAGERDUTY_API_LOOKUP, "us", receiver.url)
    going = notice_of(Finding("HIGH_ERROR_RATE", "Error rate is 7.00 errors/minute"))
    over = notice_of(Finding("HIGH_ERROR_RATE", "Error rate is 0.10 errors/minute", "low"))
    receiver.answers = [(202, {})] * 2
    channel(going)
    channel({**over, "status": "resolved"})
    told = [orjson.loads(body) for _, _, body in receiver.got]
    assert [each["event_action"] for each in told] == ["trigger", "resolve"]
    assert told[0]["dedup_key"] == told[1]["dedup_key"]


@apprise
def test_what_apprise_cannot_bring_is_tried_again(receiver: Receiver, notice: Any) -> None:
    pytest.importorskip("apprise")
    receiver.answers = [(500, {})] * 9
    with pytest.raises(OSError, match=r"json://\.\.\. has not taken the notice"):
        ThroughApprise(f"json://{receiver.url.partition('//')[2]}/x")(notice)


@apprise
def test_what_is_too_long_for_a_service_is_cut(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Discord refuses more than 2,000 characters, also in an hour, while all else would wait."""
    pytest.importorskip("apprise")
    many = notice_of(*(Finding("A", f"{n} " + "x" * 490, key=f"{n}") for n in range(20)))
    channel = ThroughApprise(f"discord://{'1' * 18}/{'a' * 64}")
    chosen = ThroughApprise(f"discord://{'1' * 18}/{'a' * 64}?overflow=split")
    plugin = sys.modules["apprise.plugins.discord"].NotifyDiscord
    monkeypatch.setattr(plugin, "notify_url", receiver.url)
    channel(many)
    told = [orjson.loads(body)["content"] for _, _, body in receiver.got]
    assert [len(text) <= 2000 for text in told] == [True]
    assert chosen._service[0].overflow_mode == "split"


@apprise
def test_a_url_that_apprise_does_not_know_is_refused() -> None:
    """Without a word of what may be a secret in it."""
    pytest.importorskip("apprise")
    with pytest.raises(ValueError, match=r"does not understand the URL nosuch://\.\.\.") as raised:
        channel_to("nosuch://t0ken/secret")
    assert "t0ken" not in str(raised.value)


def test_without_apprise_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "apprise", None)
    with pytest.raises(ImportError, match=r"pip install 'asgi-errorkit\[alerts\]'"):
        channel_to("slack://a/b/c")


# Words


def test_nothing_secret_or_hostile_is_told() -> None:
    """Whatever is in an alert may come from a client."""
    finding = Finding(
        "NEW_ERROR",
        "boom password=hunter2 \x1b[31m\u202eevil\n" + "x" * 5000,
        key="k\x00",
        values={"token": "abc", "note": "api_key=zzz", "n": 1},
    )
    told = notice_of(finding)
    text = orjson.dumps(told).decode()
    assert not any(secret in text for secret in ("hunter2", "abc", "zzz", "\\u001b", "\u202e"))
    assert len(told["message"]) <= 500
    assert told["alerts"][0]["values"] == {
        "token": "[redacted]",
        "note": "api_key=[redacted]",
        "n": 1,
    }


def test_much_is_cut() -> None:
    told = notice_of(
        *(Finding("A", f"m{n}", key=str(n), values={"x": ["y" * 1000] * 9}) for n in range(30))
    )
    assert (len(told["alerts"]), told["not_listed"]) == (20, 10)
    assert told["message"] == "m0 (and 29 more)"
    assert told["alerts"][0]["values"] == {"...": "..."}
    assert text_of(told)[1].endswith("- m19\nand 10 more")


def test_people_are_told_that_more_waits() -> None:
    """Where the hour has no room, and where a notice is of a release that did not say."""
    told = notice_of(Finding("A", "a"))
    assert "wait" not in text_of(told)[1]
    assert text_of({**told, "held_back": 7})[1].endswith(
        "\n7 other types wait: this hour has no room for more notices"
    )
    del told["held_back"]
    assert "wait" not in text_of(told)[1]


def test_a_text_for_people() -> None:
    words = Words(Redactor(), {"host": "h1", "app": None, "release": None})
    timeline = Timeline(Timing(wait_seconds=0))
    event = Finding("A", "happened", key="e", happened=True)
    timeline.step(0.0, [Finding("A", "went on", key="s")])
    timeline.step(200.0, [event, event])
    step = timeline.step(400.0, [])
    assert text_of(words.notice(step.notices[0], 0.0)) == (
        "A on h1",
        "HAPPENED, high\n- over: went on\n- happened (2 times)",
    )


@pytest.mark.parametrize(
    "url", ["nope", "example.com/hook", "user@example.com", "https:/one.slash"]
)
def test_a_url_without_a_scheme_is_told_so(url: str) -> None:
    """And nothing of it: it may hold a secret."""
    with pytest.raises(ValueError, match="must begin with its scheme") as raised:
        Alerts(to=[url + "/s3cret-of-the-receiver"])
    assert "s3cret" not in str(raised.value)
