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
from asgi_errorkit.recorder import Recorder
from asgi_errorkit.testing import request
from asgi_errorkit.types import ASGIApp, Receive, Scope, Send

ROOT = Path(__file__).parents[1]


def run(module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", f"benchmarks.{module}", *arguments],
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
        "request", "--rounds", "2", "--requests", "40", "--idle-seconds", "0", "--json", str(file)
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    written = json.loads(file.read_text())
    assert written["rounds"] == 2
    assert written["command"][:3] == ["python", "-m", "benchmarks.request"]
    assert written["python"]["version"] and written["versions"]["asgi-errorkit"]
    assert len(written["scenarios"]) == 7
    for name, scenario in written["scenarios"].items():
        assert name in done.stdout
        assert_complete(scenario)


def assert_complete(scenario: dict[str, Any]) -> None:
    subjects = scenario["subjects"]
    assert len(subjects) == 11
    for row in subjects.values():
        assert row["requests"] >= 2
        assert len(row["gc_collections_per_100_000"]) == 3
        for figure in ("hot_us", "wall_us", "cpu_us"):
            spread = row[figure]
            assert 0 < spread["min"] <= spread["q1"] <= spread["median"]
            assert spread["median"] <= spread["q3"] <= spread["max"]
    bare = subjects["bare app"]
    assert bare["cpu_added_us"]["min"] == bare["cpu_added_us"]["max"] == 0
    for promise in scenario["reach"].values():
        assert isinstance(promise["kept"], bool)


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
        await measure.measure(SCENARIOS[0], rounds=1, requests=4, folder=tmp_path)


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
