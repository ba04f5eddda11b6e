"""Any worker answers for all of its host: what each has counted, those that have gone included."""

import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import orjson
import pytest
from fastapi import FastAPI

from asgi_errorkit import (
    ErrorAction,
    ErrorInfo,
    ErrorKit,
    ErrorSeverity,
    ErrorTracker,
    ErrorType,
    MiddlewareStack,
    Recorder,
    StructuredLoggingMiddleware,
)
from asgi_errorkit.host_answers import at_once
from asgi_errorkit.spool import host as host_module
from asgi_errorkit.spool import leader as leader_module
from asgi_errorkit.spool.directory import SpoolDirectory
from asgi_errorkit.spool.host import Host
from asgi_errorkit.spool.owner import this_process
from asgi_errorkit.spool.spans import row_of_error
from asgi_errorkit.spool.totals import Counts, fold, keep_gone
from asgi_errorkit.testing import HandClock, LogLines, request, session

ROOT = Path(__file__).parents[2]


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        await receive()
        return
    if scope["path"].startswith("/fail"):
        raise ConnectionError("the database is gone")
    if scope["path"].startswith("/odd"):
        raise KeyError(scope["path"])
    status = 404 if scope["path"] == "/nowhere" else 200
    await send({"type": "http.response.start", "status": status, "headers": []})
    await send({"type": "http.response.body", "body": b"hello"})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "record"


@pytest.fixture(autouse=True)
def _nobody_leads() -> Iterator[None]:
    leader_module._LEADING.clear()
    yield
    leader_module._LEADING.clear()


class Workers:
    """Kits that share a directory and a clock, each in the place of a process of its own."""

    def __init__(self, path: Path, number: int = 2, **options: Any) -> None:
        self.clock = HandClock()
        self.path = path
        self.kits = [self.start(**options) for _ in range(number)]

    def start(self, inner: Any = app, **options: Any) -> ErrorKit:
        recorder = Recorder(flush_seconds=None, clock=self.clock, wall_clock=self.clock)
        stack = MiddlewareStack(error_tracker=ErrorTracker(recorder=recorder, **options))
        stack.add_middleware(StructuredLoggingMiddleware, stream=LogLines())
        return ErrorKit(inner, stack=stack, directory=self.path)

    def second(self) -> None:
        """A second passes, and each saves."""
        self.clock.move(1.0)
        for kit in self.kits:
            kit.flush()
            for flush in kit.tracker.recorder.flushers:
                flush()


def quiet(path: Path) -> ErrorKit:
    """A kit by the clock of the machine."""
    stack = MiddlewareStack()
    stack.add_middleware(StructuredLoggingMiddleware, stream=LogLines())
    return ErrorKit(app, stack=stack, directory=path)


async def ask(kit: ErrorKit, path: str = "/", times: int = 1) -> None:
    for _ in range(times):
        await request(kit, path=path)


async def test_each_worker_answers_for_all(path: Path) -> None:
    workers = Workers(path, 3)
    for number, kit in enumerate(workers.kits, 1):
        await ask(kit, "/", number)
        await ask(kit, "/nowhere", 1)
    await ask(workers.kits[0], "/fail", 2)
    workers.second()
    for kit in workers.kits:
        errors, performance = kit.get_error_stats(), kit.get_performance_stats()
        assert errors["total_requests"] == performance["total_requests"] == 11
        assert (errors["failed_requests"], errors["client_errors"]) == (2, 3)
        assert errors["errors_by_type"] == {"not_found": 3, "external_service": 2}
        assert errors["error_ratio"] == pytest.approx(2 / 11)
        assert performance["outcomes"] == {"ok": 6, "client_error": 3, "server_error": 2}
        assert performance["percentiles"]["p50"] >= 0.0
        assert len(performance["workers"]) == 3
        assert sum(r["requests"] for r in performance["routes"].values()) == 11
        assert sum(r["failed"] for r in performance["routes"].values()) == 2
        (group,) = (g for g in kit.tracker.groups() if g.type_name == "ConnectionError")
        assert group.count == 2
        assert group.error_type is ErrorType.EXTERNAL_SERVICE
        assert group.sample["exception"]
        assert kit.tracker.group(group.fingerprint).as_dict() == group.as_dict()


async def test_what_has_ended_since_the_last_snapshot_of_another_counts_at_once(path: Path) -> None:
    workers = Workers(path)
    first, second = workers.kits
    await ask(first, "/", 3)
    await session(first, messages=[{"type": "websocket.connect"}, {"type": "websocket.disconnect"}])
    assert second.get_error_stats()["total_requests"] == 4
    assert second.get_performance_stats()["total_requests"] == 3
    workers.second()
    assert second.get_error_stats()["total_requests"] == 4
    assert second.get_performance_stats()["total_requests"] == 3


async def test_its_own_part_is_of_this_moment(path: Path) -> None:
    (kit,) = Workers(path, 1).kits
    await ask(kit, "/fail", 3)
    stats = kit.get_error_stats()
    assert (stats["total_errors"], stats["errors_by_type"]) == (3, {"external_service": 3})
    kit.tracker.record_error(ErrorType.CACHE)
    assert kit.get_error_stats()["errors_by_type"] == {"external_service": 3, "cache": 1}


async def test_the_busiest_routes_of_all_workers_alone_are_told_on_request(path: Path) -> None:
    """Busy is what is so at all of them together."""
    first, second = Workers(path).kits
    for kit, name, number in ((first, "/a", 3), (first, "/b", 2), (second, "/b", 2)):
        await ask(kit, name, number)
    whole = second.get_performance_stats()["routes"]
    (told,) = second.get_performance_stats(most_routes=1)["routes"].items()
    assert told == ("GET /b", whole["GET /b"])
    assert second.get_performance_stats(most_routes=0)["routes"] == {}


async def test_what_is_asked_at_once_is_answered_from_one_look(path: Path) -> None:
    """By the thread that asks so alone; after it, and in another thread, all is of that moment."""
    first, second = Workers(path).kits
    assert second.tracker.host is not None
    await ask(first, "/", 1)
    with second.tracker.host.at_once():
        await ask(first, "/", 2)
        assert second.get_error_stats()["total_requests"] == 1
        assert second.get_performance_stats()["total_requests"] == 1
        with ThreadPoolExecutor(1) as other:
            assert other.submit(second.get_error_stats).result()["total_requests"] == 3
    assert second.get_error_stats()["total_requests"] == 3


async def test_who_asks_at_once_amid_that_leaves_the_look_as_it_is(path: Path) -> None:
    first, second = Workers(path).kits
    await ask(first, "/", 1)
    with at_once(second.tracker.host):
        await ask(first, "/", 2)
        with at_once(second.tracker.host):
            assert second.get_error_stats()["total_requests"] == 1
        assert second.get_error_stats()["total_requests"] == 1
    assert second.get_error_stats()["total_requests"] == 3


async def test_where_nothing_can_be_read_at_once_a_worker_answers_for_itself(path: Path) -> None:
    first, second = Workers(path).kits
    await ask(first, "/", 2)
    await ask(second, "/", 1)
    shutil.rmtree(path)
    path.write_text("no directory")
    assert second.tracker.host is not None
    with second.tracker.host.at_once():
        assert second.get_error_stats()["total_requests"] == 1
    assert second.status()["error_stats"]["total_requests"] == 1


async def test_an_error_told_of_before_the_first_request_counts(path: Path) -> None:
    first, second = Workers(path).kits
    first.tracker.record_error(ErrorType.CACHE)
    assert first.get_error_stats()["errors_by_type"] == {"cache": 1}
    assert second.get_error_stats()["errors_by_type"] == {"cache": 1}


async def test_windows_are_those_asked_for(path: Path) -> None:
    workers = Workers(path)
    first, second = workers.kits
    await ask(first, "/", 4)
    workers.second()
    workers.clock.move(120.0)
    await ask(second, "/", 3)
    for kit in workers.kits:
        assert kit.get_error_stats(1)["total_requests"] == 3
        assert kit.get_error_stats(5)["total_requests"] == 7
        assert kit.get_performance_stats(1)["total_requests"] == 3
        assert kit.get_performance_stats(5)["total_requests"] == 7
    workers.clock.move(3700.0)
    assert first.get_error_stats(60)["total_requests"] == 0
    assert first.get_performance_stats(60)["message"] == "No metrics available"
    with pytest.raises(ValueError, match="60"):
        first.get_error_stats(61)
    with pytest.raises(ValueError, match="60"):
        first.get_performance_stats(0)


async def test_one_worker_alone_is_told_of_on_request(path: Path) -> None:
    kit = quiet(path)
    await ask(kit, "/", 2)
    gone = subprocess.run(
        [sys.executable, "-c", OTHER.format(path=str(path))],
        cwd=ROOT, check=True, capture_output=True, text=True,
    )  # fmt: skip
    assert kit.get_error_stats(60)["total_requests"] == 2 + 3, gone.stderr
    assert kit.get_error_stats(worker=os.getpid())["total_requests"] == 2
    assert kit.get_performance_stats(worker=os.getpid())["total_requests"] == 2
    with pytest.raises(ValueError, match=f"{os.getpid()}"):
        kit.get_error_stats(worker=1)


OTHER = """
import asyncio
from pathlib import Path
from asgi_errorkit import ErrorKit
from asgi_errorkit.testing import request
from tests.spool.test_answers import app
kit = ErrorKit(app, directory={path!r})
for _ in range(3):
    asyncio.run(request(kit))
"""


async def test_without_a_record_a_worker_answers_for_itself_alone(path: Path) -> None:
    kit = ErrorKit(app)
    assert kit.get_error_stats(worker=os.getpid())["total_requests"] == 0
    for ask_it in (kit.get_error_stats, kit.get_performance_stats):
        with pytest.raises(ValueError, match="directory"):
            ask_it(worker=1)


async def test_who_leaves_takes_nothing_with_it(path: Path) -> None:
    """And who begins anew in the same process counts nothing again."""
    workers = Workers(path)
    first, second = workers.kits
    await ask(first, "/", 3)
    await ask(first, "/fail", 2)
    assert first.tracker.recorder.ledger is not None
    for round_ in range(3):
        first.tracker.recorder.ledger.rest()
        for kit in workers.kits:
            stats = kit.get_error_stats()
            assert stats["total_requests"] == 5 + round_
            assert stats["errors_by_type"] == {"external_service": 2}
            assert kit.get_performance_stats()["total_requests"] == 5 + round_
            (group,) = kit.tracker.groups()
            assert group.count == 2
            assert group.sample["exception"]
        await ask(first, "/", 1)
    Host(path, clock=workers.clock).look()
    assert second.get_error_stats()["total_requests"] == 8


async def test_of_kits_within_one_another_each_request_counts_once(path: Path) -> None:
    workers = Workers(path, 0)
    inner = workers.start()
    outer = workers.start(inner)
    await ask(outer, "/fail", 2)
    await ask(outer, "/", 1)
    await ask(inner, "/", 4)
    assert inner.get_error_stats()["total_requests"] == 7
    workers.kits = [inner, outer]
    workers.second()
    for kit in (inner, outer):
        stats = kit.get_error_stats()
        assert (stats["total_requests"], stats["total_errors"]) == (7, 2)
        assert kit.get_performance_stats()["total_requests"] == 7
        assert [group.count for group in kit.tracker.groups()] == [2]
        assert Host(path).counts().error_types == {"external_service": 2}


async def test_groups_of_several_workers_are_one(path: Path) -> None:
    workers = Workers(path)
    first, second = workers.kits
    await ask(first, "/fail", 2)
    workers.clock.move(10.0)
    await ask(second, "/fail/more", 3)
    workers.second()
    (group,) = first.tracker.groups()
    assert group.count == 5
    assert group.last_seen - group.first_seen == 10.0
    assert group.sample["path"] == "/fail/more"
    assert sum(group.routes.values()) == 5
    assert first.get_error_stats()["error_groups"] == 1


async def test_the_breakers_of_all_are_told_of(path: Path) -> None:
    workers = Workers(path)
    first, second = workers.kits
    await ask(first, "/")
    await ask(second, "/")
    first.tracker.breaker("model:sdxl").force_open()
    assert first.get_error_stats()["circuit_breakers"]["model:sdxl"]["state"] == "forced_open"
    workers.second()
    assert "model:sdxl" in second.get_error_stats()["circuit_breakers"]
    told = [(b["pid"], b["name"]) for b in second.tracker.breakers()]
    assert (os.getpid(), "model:sdxl") in told


async def test_who_is_at_it_is_in_flight_for_all(path: Path) -> None:
    workers = Workers(path)
    first, second = workers.kits
    seen = []

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        seen.append(second.get_performance_stats()["in_flight"])
        await app(scope, receive, send)

    await ask(workers.start(slow))
    await ask(first)
    assert seen == [1]
    assert second.get_performance_stats()["in_flight"] == 0


async def test_a_record_that_cannot_be_read_any_more_leaves_each_to_itself(
    path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    workers = Workers(path)
    first, second = workers.kits
    await ask(first, "/", 2)
    await ask(second, "/fail", 1)
    assert first.host is not None
    first.host.directory.close()
    caplog.set_level(logging.WARNING, "asgi_errorkit.spool")
    for _ in range(3):
        assert first.get_error_stats()["total_requests"] == 2
        assert first.get_performance_stats()["total_requests"] == 2
        assert first.tracker.groups() == []
        assert first.tracker.breakers() == []
    assert sum("answers for itself" in each.message for each in caplog.records) == 1
    assert second.get_error_stats()["total_requests"] == 3


async def test_without_room_for_a_segment_a_worker_answers_for_itself(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workers = Workers(path)
    first, second = workers.kits
    monkeypatch.setattr(SpoolDirectory, "create", _full)
    await ask(first, "/", 2)
    monkeypatch.undo()
    await ask(second, "/", 1)
    assert first.get_error_stats()["total_requests"] == 2
    assert second.get_error_stats()["total_requests"] == 1


def _full(*_: Any) -> Any:
    raise OSError("no room")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
async def test_a_forked_child_counts_nothing_of_its_parent(path: Path) -> None:
    kit = quiet(path)
    await ask(kit, "/fail", 3)
    with forked() as is_child:
        if is_child:
            import asyncio

            asyncio.set_event_loop(None)
            asyncio.Runner().run(ask(kit, "/", 2))
            assert kit.tracker.recorder.ledger is not None
            kit.tracker.recorder.ledger.close()
    stats = kit.get_error_stats()
    assert (stats["total_requests"], stats["total_errors"]) == (5, 3)
    assert [group.count for group in kit.tracker.groups()] == [3]


class forked:  # noqa: N801  used as a word
    """Run the block in a forked child too, and wait for that."""

    def __enter__(self) -> bool:
        self._child = os.fork()
        return self._child == 0

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._child == 0:
            os._exit(0 if kind is None else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(self._child, 0)[1]) == 0


SAID: list[Any] = [
    b"[]",
    b"{",
    b'{"errors": 3, "requests": {"a": 1}, "routes": [], "groups": "x", "breakers": 7, "process": 1}',
    b'{"errors": [[1]], "requests": [1, [2, 3]], "routes": {"a": 3, "b": [[0, 1]]}}',
    b'{"groups": [1, {}, {"fingerprint": "a", "count": -1}], "breakers": [1, {"name": 2}, {}]}',
    orjson.dumps(
        {
            "groups": [
                {
                    "fingerprint": "f",
                    "count": 1,
                    "first_seen": 0,
                    "last_seen": 1,
                    "routes": {"a": "b"},
                    "sample": 3,
                    "message": 4,
                    "error_type": "nobody's",
                }
            ],
            "breakers": [{"name": "b" * 1000, "state": "open"}],
            "process": {"cpu_percent": "much"},
        }
    ),
]


@pytest.mark.parametrize("said", SAID)
async def test_whatever_a_worker_says_the_others_answer(path: Path, said: bytes) -> None:
    host = Host(path)
    segment, _ = host.open_segment()
    segment.save(said, [], 1.0)
    host.directory.write("gone-1-2-0-0-a.ek", said)
    host.directory.write("totals.ek", said)
    workers = Workers(path, 1)
    (kit,) = workers.kits
    await ask(kit, "/", 2)
    answers: list[Callable[[], Any]] = [
        kit.get_error_stats,
        kit.get_performance_stats,
        kit.tracker.groups,
        kit.tracker.breakers,
        kit.status,
    ]
    for answer in answers:
        answer()
    assert kit.get_error_stats()["total_requests"] == 2
    assert orjson.dumps(kit.status(), option=orjson.OPT_NON_STR_KEYS)
    host.look()
    assert kit.get_error_stats()["total_requests"] == 2


async def test_totals_that_cannot_be_read_are_put_aside(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    host = Host(path)
    host.directory.write("totals.ek", b"damaged")
    host.directory.write("gone-1-2-0-0-a.ek", b'{"outcomes": {"ok": 2}}')
    host.look()
    assert (path / "totals-damaged.ek").read_bytes() == b"damaged"
    assert host.counts().outcomes == {"ok": 2}
    assert sum("start anew" in each.message for each in caplog.records) == 1


async def test_who_is_killed_has_told_of_all_that_had_ended(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By their slots, where no snapshot has counted it: also which kind of error it was."""
    workers = Workers(path, 1)
    (kit,) = workers.kits
    await ask(kit, "/", 2)
    host = Host(path, clock=workers.clock)
    segment, _ = host.open_segment()
    now = workers.clock()
    for result in (OK, FAILED, FAILED, GONE):
        place = segment.begin("id", "GET", "/x", now - 0.5, 2.0)
        assert place is not None
        segment.first_byte(place, now - 0.25)
        segment.end(place, result, now)
    segment.begin("id", "GET", "/guilty", now, 2.0)
    assert kit.get_error_stats()["total_requests"] == 2 + 4
    assert kit.get_error_stats()["failed_requests"] == 0  # it lives, and will say which count
    monkeypatch.setattr(host_module, "_OURS", set())
    kept = [name for name in host.directory.names() if name.startswith("worker-")]
    own = kit.tracker.recorder.ledger
    assert own is not None
    assert len(kept) == 2
    # All of this process are dead to who looks now; the kit's own is counted as gone too.
    found = host.look()
    assert len(found) == 2
    own.reset_after_fork()  # type: ignore[attr-defined]
    stats = kit.get_error_stats()
    assert (stats["total_requests"], stats["failed_requests"], stats["client_errors"]) == (6, 2, 1)
    assert stats["errors_by_type"] == {"unknown": 2, "not_found": 1}
    performance = kit.get_performance_stats()
    assert performance["total_requests"] == 6
    assert performance["max_duration"] == 0.5
    assert sum(route["requests"] for route in performance["routes"].values()) == 6


OK, FAILED, GONE = 200 << 8 | 1, 500 << 8 | 2 << 24 | 13 << 32 | 1, 404 << 8 | 1 << 24 | 4 << 32 | 1


async def test_what_all_are_at_is_listed_with_who_is_at_it(path: Path) -> None:
    workers = Workers(path)
    first, second = workers.kits
    seen: list[Any] = []

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        workers.clock.move(2.0)
        assert second.host is not None
        seen.extend(second.host.in_flight())
        await app(scope, receive, send)

    await ask(workers.start(slow), "/slow/token=abc")
    await ask(first)
    (listed,) = seen
    assert (listed["pid"], listed["age_seconds"]) == (os.getpid(), 2.0)
    assert listed["path"] == "/slow/token=[redacted]"
    assert second.host is not None
    assert second.host.in_flight() == []


async def test_a_death_is_kept_with_what_the_worker_has_lately_done_and_used(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workers = Workers(path, 1)
    (kit,) = workers.kits
    await ask(kit, "/", 2)
    await ask(kit, "/fail/token=abc", 1)
    workers.second()
    workers.clock.move(7.0)
    kit.tracker.recorder._sample()
    workers.second()
    monkeypatch.setattr(host_module, "_OURS", set())
    host = Host(path, clock=workers.clock, wall_clock=workers.clock)
    (crash,) = host.look()
    assert [each["path"] for each in crash["recent"]] == ["/", "/", "/fail/token=[redacted]"]
    assert [each["status_code"] for each in crash["recent"]] == [200, 200, 502]
    assert len(crash["resources"]) == 2
    assert crash["resources"][1]["at"] - crash["resources"][0]["at"] > 5.0
    assert all(each["memory_mb"] > 0.0 for each in crash["resources"])
    assert host.crashes() == [crash]


async def test_a_sample_nested_without_end_keeps_nobody_from_answering(path: Path) -> None:
    nested = b"[" * 900 + b"]" * 900
    said = (
        b'{"groups": [{"fingerprint": "f", "count": 1, "first_seen": 1, "last_seen": 2,'
        b' "sample": {"a": %b}}], "outcomes": {"ok": 1}}' % nested
    )
    host = Host(path)
    host.directory.write("gone-1-2-0-0-a.ek", said)
    for _ in range(2):
        (group,) = host.groups()
        assert (group["count"], group["sample"]) == (1, {})
        host.look()
    assert host.counts().outcomes == {"ok": 1}


async def test_rather_all_groups_than_all_samples_are_told(path: Path) -> None:
    workers = Workers(path, 1)
    (kit,) = workers.kits

    def raising(number: int) -> Any:
        names: dict[str, Any] = {}
        padding = "\n".join(f"    x{n} = {'x' * 60!r}" for n in range(60))
        exec(
            compile(
                f"async def fail_{number}():\n{padding}\n    raise KeyError({number})\n",
                f"/app/{number}.py",
                "exec",
            ),
            names,
        )
        return names[f"fail_{number}"]

    for number in range(60):
        fail = raising(number)

        async def failing(scope: Any, receive: Any, send: Any, fail: Any = fail) -> None:
            await fail()

        inner = ErrorKit(failing, tracker=kit.tracker)
        await request(inner, headers=[(b"x-%d" % n, b"v" * 200) for n in range(30)])
    for _ in range(40):
        workers.second()
    groups = kit.tracker.groups()
    assert len(groups) == 60
    assert all(group.sample for group in groups), "those of its own are whole"
    told = Host(path, clock=workers.clock).groups()
    assert len(told) == 60
    assert 0 < sum(bool(group["sample"]) for group in told) < 60


async def test_of_twenty_groups_each_has_its_traceback_on_record(path: Path) -> None:
    """If not with all of it: also a chain of errors from deep within."""
    workers = Workers(path, 1, release="1")
    (kit,) = workers.kits
    framework = FastAPI()

    def deep(number: int) -> None:
        if number:
            return deep(number - 1)
        try:
            raise ValueError("the cause")
        except ValueError as cause:
            raise RuntimeError("it cannot be read") from cause

    @framework.get("/deep")
    async def of_a_chain() -> None:
        deep(15)

    for number in range(19):
        names: dict[str, Any] = {}
        line = f"async def fail_{number}():\n    raise KeyError({number})\n"
        exec(compile(line, f"/app/{number}.py", "exec"), names)
        framework.get(f"/fail/{number}")(names[f"fail_{number}"])
    inner = ErrorKit(framework, tracker=kit.tracker)
    for where in ("deep", *(f"fail/{number}" for number in range(19))):
        await request(inner, path=f"/{where}", headers=[(b"user-agent", b"a" * 100)])
    for _ in range(20):
        workers.second()
    told = Host(path, clock=workers.clock).groups()
    assert len(told) == 20
    frames = [group["sample"]["exception"]["frames"] for group in told]
    assert all(each[-1]["in_app"] or each[-1]["file"].startswith("/app") for each in frames)
    chained = next(g["sample"] for g in told if g["type_name"] == "RuntimeError")
    assert chained["exception"]["causes"][0]["message"] == "the cause"
    assert "deep" in chained["exception"]["frames"][-1]["function"]


async def test_who_asks_amid_a_drain_makes_nobody_count_twice(path: Path) -> None:
    """Such as a sink, a log handler or a signal handler: some sinks have seen the batch, some not."""
    workers = Workers(path)
    first, second = workers.kits
    told: list[int] = []

    def ask_amid(batch: Any) -> None:
        first.flush()
        for flush in first.tracker.recorder.flushers:
            flush()
        told.append(first.get_error_stats()["total_requests"])
        told.append(second.get_performance_stats()["total_requests"])

    first.tracker.recorder.add_sink(ask_amid)
    for sent in range(1, 200):
        workers.clock.move(0.5)
        await ask(first)
        if told:
            assert max(told) <= sent
            told.clear()
    assert second.get_error_stats()["total_requests"] == 199
    assert second.get_performance_stats()["total_requests"] == 199


def test_two_threads_that_ask_at_once_are_both_told_the_truth(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = Host(path)
    segment, leave = host.open_segment()
    place = segment.begin("id", "GET", "/", 1.0, 2.0)
    assert place is not None
    segment.end(place, OK, 2.0)
    heard, asked = host_module._heard, []

    def interrupted(*given: Any) -> Any:
        if not asked:
            asked.append(True)
            leave()
            host.counts()
        return heard(*given)

    monkeypatch.setattr(host_module, "_heard", interrupted)
    assert host.counts().outcomes == {"ok": 1}
    assert host.counts().outcomes == {"ok": 1}


async def test_an_hour_of_busy_history_is_told_whole(path: Path) -> None:
    (kit,) = Workers(path, 1).kits
    await ask(kit)
    now, total = kit.tracker.recorder.clock(), kit.performance.counted.total
    durations = [0.001 * 1.02**step for step in range(460)]
    for at in range(5, 3600, 5):
        total.at(now - 3600 + at).durations.add_all(durations)
    assert kit.get_performance_stats(60)["total_requests"] == 719 * 460 + 1
    assert kit.status()["record"]["left_out"] == 0


async def test_what_opens_before_the_first_request_is_told(path: Path) -> None:
    first, second = Workers(path).kits
    first.tracker.breaker("dep:x").force_open()
    assert "dep:x" in first.get_error_stats()["circuit_breakers"]
    assert [told["name"] for told in first.tracker.breakers()] == ["dep:x"]
    assert first.get_error_stats(worker=os.getpid())["total_requests"] == 0
    assert "dep:x" in second.get_error_stats()["circuit_breakers"]


async def test_who_only_tells_of_errors_is_on_record(path: Path) -> None:
    (kit,) = Workers(path, 1).kits
    kit.tracker.record_error(ErrorType.CACHE)
    ledger = kit.tracker.recorder.ledger
    assert ledger is not None
    kit.tracker.recorder.drain()
    ledger.rest()
    assert Host(path).counts().error_types == {"cache": 1}
    kit.tracker.record_error(ErrorType.CACHE)
    kit.tracker.recorder.drain()
    ledger.close()
    assert Host(path).counts().error_types == {"cache": 2}


async def test_an_error_that_is_told_of_and_then_raised_counts_once(path: Path) -> None:
    (kit,) = Workers(path, 1).kits

    async def telling(scope: Any, receive: Any, send: Any) -> None:
        try:
            raise KeyError("x")
        except KeyError:
            kit.tracker.record_error(ErrorType.CACHE)
            raise

    outer = ErrorKit(telling, tracker=kit.tracker)
    for _ in range(3):
        await request(outer)
    assert kit.get_error_stats()["errors_by_type"] == {"cache": 3}
    assert Host(path).counts().error_types == {"cache": 3}


async def test_a_file_that_is_removed_just_before_the_end_costs_no_count(path: Path) -> None:
    (kit,) = Workers(path, 1).kits
    await ask(kit, "/", 5)
    for file in path.glob("worker-*.ek"):
        file.unlink()
    assert kit.tracker.recorder.ledger is not None
    kit.tracker.recorder.ledger.rest()
    assert Host(path).counts().outcomes == {"ok": 5}


async def test_what_a_policy_ignores_is_no_failure_of_who_is_killed(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ignored = ErrorInfo(ErrorType.UNKNOWN, ErrorSeverity.LOW, ErrorAction.IGNORE)
    workers = Workers(path, 1, policies={ErrorType.UNKNOWN: ignored})
    (kit,) = workers.kits
    await ask(kit, "/odd", 4)
    kit.tracker.recorder.drain()
    monkeypatch.setattr(host_module, "_OURS", set())
    host = Host(path, clock=workers.clock)
    assert len(host.look()) == 1
    stats = host.error_stats()
    assert (stats["total_requests"], stats["failed_requests"], stats["total_errors"]) == (4, 0, 0)


async def test_one_breaker_that_cannot_be_told_of_hides_no_other(path: Path) -> None:
    (kit,) = Workers(path, 1).kits
    await ask(kit)
    kit.tracker.breaker("good:x").force_open()
    kit.tracker.breaker("bad:\ud800").force_open()
    assert [told["name"] for told in kit.tracker.breakers()] == ["good:x"]


def test_what_begins_while_it_is_folded_is_not_too_late(path: Path) -> None:
    directory = SpoolDirectory.open(path)
    boot = this_process().boot
    counts = Counts.read({"outcomes": {"ok": 1}, "errors": [row_of_error(1000.0)]})
    keep_gone(directory, f"1-2-{boot}-0-a", counts, 1000.1)
    fold(directory, lambda: 999.99)
    assert Host(path, clock=lambda: 1001.0).error_stats()["total_requests"] == 1
