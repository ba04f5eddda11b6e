"""The tracker counts each error once, by type, in windows that do not grow with traffic."""

import pickle
from copy import deepcopy
from typing import Any

import orjson
import pytest

from asgi_errorkit import (
    ErrorAction,
    ErrorHandlingMiddleware,
    ErrorInfo,
    ErrorSeverity,
    ErrorTracker,
    ErrorType,
    PublicError,
    Recorder,
)
from asgi_errorkit.testing import HandClock, request
from asgi_errorkit.types import Receive, Scope, Send


class Bench:
    """A tracker by the hand clock, and an app that does as its path says."""

    def __init__(self, **options: Any) -> None:
        self.clock = HandClock()
        self.wall = HandClock(1.7e9)
        recorder = Recorder(clock=self.clock, wall_clock=self.wall, flush_seconds=None)
        self.tracker = ErrorTracker(recorder=recorder, **options)
        self.app = ErrorHandlingMiddleware(self._app, self.tracker)

    async def _app(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        if path == "/told-and-raised":
            try:
                raise MemoryError("told")
            except MemoryError as error:
                self.tracker.record_error(ErrorType.MEMORY, context={"exception": error})
                raise
        if path.startswith("/raise/"):
            name, _, _ = path[7:].partition(";")
            raise {"timeout": TimeoutError, "memory": MemoryError}[name]("words")
        status = int(path[1:]) if path[1:].isdigit() else 200
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def get(self, path: str, times: int = 1, **more: Any) -> None:
        for _ in range(times):
            await request(self.app, path=path, **more)

    def stats(self, minutes: float = 5) -> dict[str, Any]:
        return self.tracker.get_error_stats(minutes)


KEYS = {
    "total_errors",
    "errors_by_type",
    "errors_by_severity",
    "error_rate",
    "circuit_breakers",
    "recent_alerts",
}


async def test_every_key_is_there_before_anything_happened() -> None:
    stats = Bench().stats()
    assert stats.keys() >= KEYS
    assert (stats["total_errors"], stats["error_rate"], stats["error_ratio"]) == (0, 0.0, 0.0)


async def test_errors_are_counted_by_type_and_severity_beside_all_requests() -> None:
    bench = Bench()
    await bench.get("/200", 6)
    await bench.get("/raise/timeout", 2)
    await bench.get("/raise/memory")
    await bench.get("/404")
    stats = bench.stats()
    assert stats["errors_by_type"] == {"timeout": 2, "memory": 1, "not_found": 1}
    assert stats["errors_by_severity"] == {"medium": 3, "high": 1}
    assert (stats["total_requests"], stats["failed_requests"]) == (10, 3)
    assert (stats["client_errors"], stats["error_ratio"]) == (1, 0.3)
    assert stats["error_rate"] == 4 / 5


@pytest.mark.parametrize(("passed", "seen"), [(0, 1), (299, 1), (301, 0)])
async def test_a_window_forgets_what_is_older(passed: float, seen: int) -> None:
    bench = Bench()
    await bench.get("/500")
    bench.clock.move(passed)
    assert bench.stats()["total_errors"] == seen


async def test_a_jump_of_the_wall_clock_changes_no_window() -> None:
    bench = Bench()
    await bench.get("/500")
    for hour in (3600, -7200):
        bench.wall.move(hour)
        assert bench.stats()["total_errors"] == 1


@pytest.mark.parametrize("minutes", [0, -1, 61, float("nan")])
def test_a_window_that_is_not_kept_is_refused(minutes: float) -> None:
    with pytest.raises(ValueError, match="window_minutes must be a number above 0 and at most 60"):
        Bench().stats(minutes)


@pytest.mark.parametrize("minutes", ["5", True, None])
def test_a_window_that_is_no_number_is_refused(minutes: Any) -> None:
    with pytest.raises(TypeError, match="window_minutes must be a number above 0"):
        Bench().stats(minutes)


def test_an_error_told_outside_of_a_request_counts_as_no_request() -> None:
    bench = Bench()
    bench.tracker.record_error(ErrorType.CACHE, context={"name": "thumbnails"})
    stats = bench.stats()
    assert stats["errors_by_type"] == {"cache": 1}
    assert (stats["total_requests"], stats["failed_requests"]) == (0, 0)
    (group,) = bench.tracker.groups()
    assert group.sample["context"] == {"name": "thumbnails"}
    assert group.sample["path"] is None


async def test_an_error_that_was_told_and_then_escapes_counts_once() -> None:
    bench = Bench()
    await bench.get("/told-and-raised")
    stats = bench.stats()
    assert stats["errors_by_type"] == {"memory": 1}
    assert (stats["total_requests"], stats["failed_requests"]) == (1, 1)
    assert [group.count for group in bench.tracker.groups()] == [1]


def test_the_error_being_handled_is_found_by_itself() -> None:
    bench = Bench()
    try:
        raise KeyError("lost")
    except KeyError:
        bench.tracker.record_error(ErrorType.CACHE)
    (group,) = bench.tracker.groups()
    assert group.type_name == "KeyError"
    assert "test_tracker.py" in (group.where or "")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("cache",), "error_type must be an ErrorType"),
        ((ErrorType.CACHE, "info"), "error_info must be an ErrorInfo"),
        ((ErrorType.CACHE, None, ["context"]), "context must be a mapping"),
    ],
)
def test_what_cannot_be_recorded_is_refused(arguments: tuple[Any, ...], words: str) -> None:
    with pytest.raises(TypeError, match=words):
        Bench().tracker.record_error(*arguments)


async def test_errors_of_one_origin_are_one_group_with_its_last_sample() -> None:
    bench = Bench(release="7.1")
    await bench.get("/raise/memory", 3, headers=[(b"cookie", b"a=secret")])
    bench.wall.move(60)
    bench.clock.move(60)
    await bench.get("/raise/timeout", query=b"token=abc&x=1")
    last, first = bench.tracker.groups()
    assert (first.type_name, first.count, first.error_type) == ("MemoryError", 3, ErrorType.MEMORY)
    assert last.last_seen - first.last_seen == pytest.approx(60)
    assert first.where is not None and first.where.endswith("Bench._app")
    assert first.routes == {"GET /raise/memory": 3}
    assert first.sample["headers"]["cookie"] == "[redacted]"
    assert (last.sample["query"], last.sample["release"]) == ("token=[redacted]&x=1", "7.1")
    assert last.sample["exception"]["message"] == "words"
    assert bench.tracker.group(first.fingerprint) == first
    assert orjson.loads(orjson.dumps(first.as_dict()))["error_type"] == "memory"
    assert bench.tracker.group("unknown") is None


async def test_a_group_tells_no_secret_of_a_path() -> None:
    """Nor do the labels of its routes, where no framework has matched one."""
    bench = Bench(redact=["colour"])
    for name in ("token", "colour"):
        await bench.get(f"/raise/memory;{name}=hunter2")
    assert sum(len(group.routes) for group in bench.tracker.groups()) == 2
    assert "hunter2" not in str([group.as_dict() for group in bench.tracker.groups()])


async def test_a_sample_is_of_the_moment_although_it_is_made_readable_later() -> None:
    bench = Bench(redact=["colour"])
    context = {"colour": "red", "sizes": [1, 2]}
    bench.tracker.record_error(ErrorType.CACHE, context=context)
    (before,) = bench.tracker.groups()
    context["sizes"] = [3]
    bench.tracker.redactor.add(["hue"])
    assert before.sample["context"] == {"colour": "[redacted]", "sizes": [1, 2]}
    assert before.sample is before.sample
    bench.clock.move(60)
    bench.tracker.record_error(ErrorType.CACHE, context=context)
    (after,) = bench.tracker.groups()
    assert (before.sample["context"]["sizes"], after.sample["context"]["sizes"]) == ([1, 2], [3])


@pytest.mark.parametrize(
    "odd", [{"query_string": "a=1"}, {"headers": [("x-name", "text")]}], ids=["query", "headers"]
)
async def test_what_is_too_odd_to_sample_is_counted_when_it_happens_not_when_it_is_read(
    odd: dict[str, Any],
) -> None:
    bench = Bench()
    await bench.get("/raise/memory", **odd)
    assert [group.as_dict()["sample"] for group in bench.tracker.groups()] == [{}]
    assert bench.tracker.sample_errors == 1


async def test_a_header_that_was_cut_amid_a_secret_does_not_show_it() -> None:
    """Secrets before it become short, and pull what was cut into what is shown."""
    bench = Bench()
    for length in range(1950, 2700, 7):
        value = b"Bearer " + b"a" * length + b" https://admin:hunter2hunter2hunter2@db.example/x"
        await bench.get("/raise/memory", headers=[(b"x-note", value)])
        bench.clock.move(60)
        bench.wall.move(60)
        (group,) = bench.tracker.groups()
        assert "hunter" not in str(group.sample)


async def test_a_group_can_be_pickled_and_copied() -> None:
    bench = Bench()
    await bench.get("/raise/memory")
    (group,) = bench.tracker.groups()
    for twin in (pickle.loads(pickle.dumps(group)), deepcopy(group)):
        assert twin.as_dict() == group.as_dict()


async def test_a_sample_that_waits_to_be_read_holds_no_more_than_it_shows() -> None:
    bench = Bench()
    headers = [(b"x-%d" % number, b"v" * 60_000) for number in range(60)]
    await bench.get(
        "/raise/memory" + "/long" * 20_000, query=b"q=" + b"x" * 90_000, headers=headers
    )
    (group,) = bench.tracker.groups()
    assert group.last is not None
    held = sum(map(len, map(repr, group.last._raw)))
    assert held < 170_000
    assert len(orjson.dumps(group.sample)) < 100_000


async def test_a_long_query_is_cut_where_no_secret_is() -> None:
    bench = Bench()
    query = b"a=" + b"." * 2000 + b"&dsn=postgres://u:" + b"hunter2" * 20 + b"@h/d"
    await bench.get("/raise/memory", query=query)
    (group,) = bench.tracker.groups()
    assert "hunter2" not in str(group.sample)
    assert group.sample["query"].endswith("&...")


async def test_a_failure_without_an_exception_has_a_group_of_its_own() -> None:
    bench = Bench()
    await bench.get("/503", 2)
    await bench.get("/404")
    (group,) = bench.tracker.groups()
    assert (group.type_name, group.count, group.sample["exception"]) == ("HTTP 503", 2, None)


async def test_groups_are_bounded_and_the_least_recent_goes() -> None:
    bench = Bench(max_groups=2)
    for status in ("/500", "/501", "/500", "/502"):
        await bench.get(status)
    names = [group.type_name for group in bench.tracker.groups()]
    assert names == ["HTTP 502", "HTTP 500"]
    assert bench.tracker.dropped_groups == 1


async def test_samples_are_taken_at_first_and_then_now_and_then() -> None:
    bench = Bench()
    await bench.get("/raise/memory", 20)
    (group,) = bench.tracker.groups()
    fifth = group.sample["request_id"]
    bench.clock.move(11)
    bench.wall.move(11)
    await bench.get("/raise/memory")
    (later,) = bench.tracker.groups()
    assert later.sample["request_id"] != fifth
    assert (group.count, later.count) == (20, 21)


async def test_an_ignored_error_is_answered_and_not_counted() -> None:
    ignored = ErrorInfo(ErrorType.TIMEOUT, ErrorSeverity.LOW, ErrorAction.IGNORE)
    bench = Bench(policies={TimeoutError: ignored})
    await bench.get("/raise/timeout")
    stats = bench.stats()
    assert (stats["total_errors"], stats["total_requests"]) == (0, 1)
    assert bench.tracker.groups() == []


async def test_an_alert_is_due_when_its_threshold_is_reached_and_no_longer_afterwards() -> None:
    bench = Bench()
    await bench.get("/raise/memory", 2)
    assert bench.stats()["alerts_due"] == {}
    await bench.get("/raise/memory")
    assert bench.stats()["alerts_due"] == {"memory": {"errors": 3, "threshold": 3}}
    bench.clock.move(301)
    assert bench.stats()["alerts_due"] == {}


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        (
            {"max_groups": 0},
            ValueError,
            "max_groups must be a whole number of at least 1, e.g. 500",
        ),
        ({"max_groups": "5"}, TypeError, "max_groups must be a whole number"),
        ({"max_groups": 1.5}, TypeError, "max_groups must be a whole number"),
        ({"max_groups": True}, TypeError, "max_groups must be a whole number"),
        ({"release": 5}, TypeError, "release must be a string, e.g. '1.4.2'; got 5"),
        ({"redact": None}, TypeError, "redact must be a list of strings"),
        ({"redact": "colour"}, TypeError, r"redact must be a list.*write \['colour'\]"),
        ({"recorder": "x"}, TypeError, "recorder must be a Recorder"),
    ],
)
def test_bad_options_are_refused(
    options: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        ErrorTracker(**options)


async def test_memory_does_not_grow_with_errors() -> None:
    bench = Bench()
    for _ in range(70):
        await bench.get("/raise/memory", 5)
        bench.clock.move(60)
    bench.stats()
    assert len(bench.tracker.windows._kept) <= 3600
    assert bench.stats(60)["total_errors"] == 295


async def test_one_origin_with_two_types_is_two_groups() -> None:
    """So the groups of a type add up to what the statistics say of it."""
    bench = Bench()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        kind = ErrorType.NOT_FOUND if scope["path"] == "/a" else ErrorType.RATE_LIMIT
        raise PublicError("no", error_type=kind)

    handled = ErrorHandlingMiddleware(app, bench.tracker)
    for path in ("/a", "/a", "/b"):
        await request(handled, path=path)
    groups = {group.error_type.value: group.count for group in bench.tracker.groups()}
    assert groups == bench.stats()["errors_by_type"] == {"not_found": 2, "rate_limit": 1}


def test_an_error_told_of_follows_the_trackers_own_policies() -> None:
    strict = ErrorInfo(
        ErrorType.TIMEOUT, ErrorSeverity.CRITICAL, ErrorAction.ALERT, alert_threshold=1
    )
    bench = Bench(policies={ErrorType.TIMEOUT: strict})
    bench.tracker.record_error(ErrorType.TIMEOUT)
    assert bench.stats()["errors_by_severity"] == {"critical": 1}
    assert bench.stats()["alerts_due"] == {"timeout": {"errors": 1, "threshold": 1}}


@pytest.mark.parametrize(
    "odd", [{"query_string": "a=1"}, {"headers": [(b"x", None)]}, {"path": b"/raise"}], ids=str
)
async def test_one_odd_request_costs_no_other_its_count(odd: dict[str, Any]) -> None:
    """No server makes such a scope, but a middleware further out may."""

    async def broken(scope: Scope, receive: Receive, send: Send) -> None:
        raise MemoryError("words")

    bench = Bench()
    app = ErrorHandlingMiddleware(broken, bench.tracker)

    async def changed(scope: Scope, receive: Receive, send: Send) -> None:
        await app({**scope, **odd}, receive, send)

    for each in (app, changed, app):
        await request(each)
    stats = bench.stats()
    assert (stats["total_requests"], stats["total_errors"]) == (3, 3)
    assert sum(group.count for group in bench.tracker.groups()) in (2, 3)
    assert bench.tracker.recorder.sink_errors == 0
