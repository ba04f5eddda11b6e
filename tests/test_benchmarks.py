"""The benchmarks run, tell what they measured, and measure a guide's design that works."""

import json
import logging
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from asgi_errorkit.choices import Choices
from asgi_errorkit.classify import Classifier
from asgi_errorkit.frame import frame
from asgi_errorkit.identity import RequestIds
from asgi_errorkit.middleware.error_handling import ErrorHandlingMiddleware
from asgi_errorkit.recorder import Recorder
from asgi_errorkit.testing import request
from asgi_errorkit.tracker import ErrorGroup
from asgi_errorkit.types import ASGIApp, Receive, Scope, Send

ROOT = Path(__file__).parents[1]


def run(module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", f"benchmarks.{module}", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def design(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT)
    import benchmarks.guide_design

    return benchmarks.guide_design


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT)
    import benchmarks.figures

    return benchmarks.figures


@pytest.mark.parametrize(
    "arguments",
    [("request", "--rounds", "0"), ("request", "--scenario", "PUT"), ("startup", "--rounds", "0")],
    ids=["no rounds", "unknown scenario", "no interpreters"],
)
def test_a_wrong_option_ends_with_a_word_about_it(arguments: tuple[str, ...]) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert arguments[1] in done.stderr


def test_request_writes_what_it_measured(tmp_path: Path) -> None:
    """Every subject has every figure in every scenario, and every promise is judged."""
    file = tmp_path / "request.json"
    done = run(
        "request",
        "--rounds",
        "2",
        "--requests",
        "40",
        "--idle-seconds",
        "0",
        "--patience-seconds",
        "0",
        "--json",
        str(file),
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    written = json.loads(file.read_text())
    assert written["rounds"] == 2
    assert written["command"][:3] == ["python", "-m", "benchmarks.request"]
    assert written["python"]["version"] and written["versions"]["asgi-errorkit"]
    assert len(written["scenarios"]) == 16
    for name, scenario in written["scenarios"].items():
        assert name in done.stdout
        assert_complete(scenario)
    assert_lines(written["scenarios"]["GET"]["subjects"], 1, 2, 2)
    assert_lines(written["scenarios"]["error, 20 frames, repeated"]["subjects"], 0, 1, 2)
    assert_lines(written["scenarios"]["websocket session of 1 echo"]["subjects"], 1, 2, 2)
    assert written["per_chunk_us"].keys() == written["scenarios"]["GET"]["subjects"].keys()
    judged = [set(scenario["reach"]) for scenario in written["scenarios"].values()]
    assert set().union(*judged) == {
        "hot_added_us",
        "record_hot_us",
        "cpu_one_line_us",
        "cpu_added_us",
        "cheaper_than_guide",
        "chunk_added_us",
        "error_first_us",
        "error_repeated_us",
    }
    assert done.stdout.count("kept") == sum(map(bool, judged))


def assert_complete(scenario: dict[str, Any]) -> None:
    subjects = scenario["subjects"]
    assert len(subjects) == 26
    for row in subjects.values():
        assert row["requests"] >= 2
        assert len(row["gc_collections_per_100_000"]) == 3
        for figure in ("hot_us", "wall_us", "cpu_us"):
            spread = row[figure]
            assert 0 < spread["min"] <= spread["q1"] <= spread["median"]
            assert spread["median"] <= spread["q3"] <= spread["max"]
    bare = subjects["bare app"]
    assert bare["cpu_added_us"]["min"] == bare["cpu_added_us"]["max"] == 0
    steps = [name for name, row in subjects.items() if row["cpu_step_us"] is not None]
    recorded = "ErrorKit: everything, completion, and its record on disk"
    assert steps == [*list(subjects)[1:9], recorded]
    assert "best" in subjects[recorded]["hot_step_us"]
    for promise in scenario["reach"].values():
        assert isinstance(promise["kept"], bool)


def assert_lines(subjects: dict[str, Any], *events: int) -> None:
    """As many lines as one, two and three events have, and none where no log is on."""
    lines = {name: row["log_lines"] for name, row in subjects.items()}
    logging = [number for name, number in lines.items() if name.startswith("+ log, ")]
    assert logging == list(events)
    assert lines["+ metrics"] == lines["ErrorKit: all off that can be"] == 0
    assert lines["ErrorKit: everything, completion"] == 1
    assert lines["ErrorKit: everything, start + completion"] == lines["+ capture"] == 2


@pytest.fixture
def apps(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT)
    import benchmarks.failing

    return benchmarks.failing


async def groups_of(app: ASGIApp) -> list[ErrorGroup]:
    wrapped = ErrorHandlingMiddleware(app, log_errors=False)
    for _ in range(20):
        assert (await request(wrapped)).status == 500
    return wrapped.error_tracker.groups()


def depth(group: ErrorGroup) -> int:
    """The frames of the app in a sample, those that were left out with them."""
    sample = group.sample["exception"]
    own = [frame for frame in sample["frames"] if frame["file"].endswith("failing.py")]
    return len(own) + int(sample["frames_left_out"])


@pytest.mark.parametrize(("frames", "new"), [(5, 3), (20, 3), (20, 18), (100, 3)])
async def test_distinct_errors_are_each_the_first_of_its_group(
    apps: ModuleType, frames: int, new: int
) -> None:
    """Those that were made ready as well as those made when none is left."""
    distinct = apps.Distinct(frames=frames, new=new)
    distinct.stock(10)
    groups = await groups_of(distinct.app)
    assert [group.count for group in groups] == 20 * [1]
    assert {depth(group) for group in groups} == {frames}
    assert len({group.where for group in groups}) == 20


@pytest.mark.parametrize("frames", [5, 20, 100])
async def test_repeated_errors_are_one_group(apps: ModuleType, frames: int) -> None:
    (group,) = await groups_of(apps.repeated(frames))
    assert group.count == 20
    assert depth(group) == frames


def series(measured: ModuleType, *us: float) -> Any:
    return measured.Series(wall_us=list(us), hot_us=list(us), cpu_us=list(us), requests=1)


def test_a_chunk_costs_the_ninth_part_of_nine_more(figures: ModuleType) -> None:
    """Of each round, and less what the bare app takes for them."""
    from benchmarks import measure

    one = {"bare app": series(measure, 10, 20), "wrapped": series(measure, 12, 23)}
    many = {"bare app": series(measure, 50, 60), "wrapped": series(measure, 61, 72)}
    row = figures.chunks(one, many)["wrapped"]["cpu_added_us"]
    assert (row["min"], row["max"]) == (1.0, 1.0)


@pytest.mark.parametrize(
    ("name", "measured", "kept"),
    [
        ("record_hot_us", 1.5, True),
        ("record_hot_us", 1.6, False),
        ("record_hot_us", None, False),
        ("cpu_added_us", 5.0, True),
        ("cpu_added_us", 5.1, False),
        ("error_first_us", 60.1, False),
        ("cheaper_than_guide", 100.0, True),
        ("cheaper_than_guide", 99.0, False),
        ("cheaper_than_guide", None, False),
        ("chunk_added_us", 0.25, True),
        ("chunk_added_us", None, False),
    ],
)
def test_a_promise_is_kept_up_to_its_limit(
    figures: ModuleType, name: str, measured: float | None, kept: bool
) -> None:
    """What was not measured is not kept."""
    full = "ErrorKit: everything, start + completion"
    recorded = "ErrorKit: everything, completion, and its record on disk"
    row = {"cpu_added_us": {"best": measured, "median": measured}, "cheaper_than_guide": measured}
    per_chunk = None if measured is None else {full: row}
    rows = {full: row} | (
        {} if measured is None else {recorded: {"hot_step_us": {"best": measured}}}
    )
    (promise,) = figures.reach(rows, [name], per_chunk=per_chunk).values()
    assert promise == {"wanted": figures.REACH[name], "measured": measured, "kept": kept}


def test_startup_writes_what_it_measured(tmp_path: Path) -> None:
    file = tmp_path / "startup.json"
    done = run("startup", "--rounds", "1", "--json", str(file))
    assert done.returncode == 0, done.stderr
    written = json.loads(file.read_text())
    assert len(written["interpreter_ms"]) == 4
    assert written["construction_us"]["first"] > 0


def test_importing_the_kit_loads_nothing_it_can_do_without(tmp_path: Path) -> None:
    """psutil, asyncio, asgiref.sync and every framework wait until they are used."""
    file = tmp_path / "startup.json"
    run("startup", "--rounds", "1", "--json", str(file))
    modules = json.loads(file.read_text())["modules"]
    assert modules["unwanted"] == []
    assert set(modules["beyond_the_standard_library"]) <= {"asgi_errorkit", "asgiref", "orjson"}


async def test_a_run_whose_sink_breaks_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Work that was not done costs nothing, and would make the kit look fast."""
    monkeypatch.syspath_prepend(ROOT)
    from benchmarks import measure
    from benchmarks.scenarios import SCENARIOS
    from benchmarks.subjects import BARE, Subject

    recorder = Recorder()

    def breaks(batch: object) -> None:
        raise OSError("no space left")

    def broken(app: ASGIApp, log: object) -> Subject:
        recorder.add_sink(breaks)
        choices = Choices(recorder=recorder, classifier=Classifier(), ids=RequestIds())
        return Subject(frame(app, choices), recorder)

    monkeypatch.setattr(
        measure, "SUBJECTS", {BARE: lambda app, log: Subject(app), "broken": broken}
    )
    with pytest.raises(RuntimeError, match=r"broken: 0 records lost and [1-9]\d* sinks failed"):
        await measure.measure(
            SCENARIOS[:1], rounds=1, requests=4, folder=tmp_path, pace=measure.Pace(0.0)
        )


def test_what_was_taken_in_a_slow_moment_is_taken_again_and_counted_in_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from benchmarks import pace as module

    took = iter([1.0] * 4 + [1.1] * 4 + [2.0] * 4 + [1.0] * 4 + [2.0] * 16)
    monkeypatch.setattr(module, "_worked", lambda: next(took))
    pace = module.Pace(1.0)
    assert [pace.is_slow(), pace.is_good()] == [False, True]
    assert [pace.is_good(), pace.is_good()] == [False, True]
    assert [pace.is_good() for _ in range(4)] == [False, False, False, True]
    assert pace.told()["slow_turns"] == 1


async def answering(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"ok"})


async def failing(scope: Scope, receive: Receive, send: Send) -> None:
    raise RuntimeError("GPU inference failed")


async def test_the_guides_design_answers_and_tracks_a_failure(design: ModuleType) -> None:
    tracker = design.ErrorTracker()
    reply = await request(design.guide_design(failing, tracker))
    assert reply.raised is None
    assert reply.status == 500
    assert reply.json()["error"]["category"] == "model"
    assert tracker.get_error_stats()["errors_by_type"] == {"model": 1}
    assert tracker.get_error_stats()["errors_by_severity"] == {"high": 1}


async def test_the_guides_design_logs_start_and_completion_under_one_id(
    design: ModuleType, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        reply = await request(
            design.guide_design(answering, design.ErrorTracker()),
            path="/videos/video_456",
            query=b"model_name=stable-diffusion",
            headers=[(b"user-agent", b"test")],
        )
    assert (reply.status, reply.body) == (200, b"ok")
    lines = [json.loads(record.message) for record in caplog.records if record.message[0] == "{"]
    assert [line["event"] for line in lines] == ["request_start", "request_complete"]
    assert lines[0]["request_id"] == lines[1]["request_id"]
    assert lines[0]["video_id"] == "video_456"
    assert lines[0]["model_name"] == "stable-diffusion"
    assert lines[1]["status_code"] == 200
    assert lines[1]["memory_usage"] > 0


async def test_the_guides_design_keeps_the_latest_thousand(design: ModuleType) -> None:
    """Its lists are capped, so that what is measured is not their growth."""
    tracker = design.ErrorTracker()
    app = design.PerformanceMonitoringMiddleware(answering)
    info = design.ErrorInfo(
        design.ErrorType.MODEL, design.ErrorSeverity.HIGH, design.ErrorAction.ALERT
    )
    for _ in range(1005):
        tracker.record_error(design.ErrorType.MODEL, info, {})
    for _ in range(1005):
        await request(app)
    assert len(tracker.error_timestamps) == len(tracker.alert_history) == 1000
    assert len(app.metrics) == 1000
    assert app.get_performance_stats()["total_requests"] == 1000
    assert tracker.is_circuit_broken(design.ErrorType.MODEL)
