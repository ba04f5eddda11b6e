"""The outage is simulated with real processes, and the page says of it what the results say."""

import json
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
PHASES = ["healthy", "slow", "failing", "recovered"]


@pytest.fixture
def outage(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT)
    return import_module("benchmarks.outage_page")


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT)
    return import_module("benchmarks.outage_load")


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "benchmarks.outage", *arguments],
        cwd=ROOT,
        env=os.environ,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--seconds-per-phase", "0.5"], "--seconds-per-phase"),
        (["--rate", "0"], "--rate"),
        (["--subject", "luck"], "luck"),
        (["--subject", "bare", "--write"], "--subject"),
    ],
    ids=["too short", "no rate", "unknown subject", "half a page"],
)
def test_a_wrong_option_ends_with_a_word_about_it(arguments: list[str], word: str) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert word in done.stderr


def test_an_outage_is_told_phase_by_phase(tmp_path: Path) -> None:
    """What comes is answered somehow, and the dependency counts what reaches it."""
    file = tmp_path / "outage.json"
    brief = ["--seconds-per-phase", "1", "--rate", "40", "--subject", "kit"]
    done = run(*brief, "--json", str(file))
    assert done.returncode == 0, done.stderr
    told = json.loads(file.read_text(encoding="utf-8"))
    assert (told["rate"], told["slots"], list(told["subjects"])) == (40, 2, ["kit"])
    kit = told["subjects"]["kit"]
    assert list(kit["phases"]) == PHASES
    for phase, row in kit["phases"].items():
        assert phase in done.stdout
        assert row["requests"] == sum(row["ends"].values()) > 0
        assert 0 <= row["p50_ms"] <= row["p99_ms"] <= 2_000
    assert kit["phases"]["healthy"]["full"] > 0
    assert sum(sum(row["received_per_second"]) for row in kit["phases"].values()) > 0
    assert kit["status"]["survival"]["FallbackMiddleware"]["answered"]["stale"] > 0
    assert [one["name"] for one in kit["status"]["breakers"]].count("external_service:feed") == 1


def test_the_page_says_what_the_results_say(outage: ModuleType) -> None:
    page = (ROOT / "docs" / "surviving.md").read_text(encoding="utf-8")
    results = json.loads((ROOT / "benchmarks/results/outage.json").read_text(encoding="utf-8"))
    assert outage.replaced(page, results) == page
    assert list(results["subjects"]) == list(outage.ABOUT)


def test_what_is_published_shows_no_retry_storm() -> None:
    """A failing dependency has about a fifth more to bear at most, whichever way the kit is used."""
    results = json.loads((ROOT / "benchmarks/results/outage.json").read_text(encoding="utf-8"))
    load = {name: told["phases"]["failing"]["load"] for name, told in results["subjects"].items()}
    assert load.pop("naive retries") > 2
    # The budget looks back ten seconds, into another phase, where other requests came.
    assert load.pop("retries on a budget") <= 1.25
    assert all(one <= 1.2 for one in load.values())


@pytest.mark.parametrize("page", ["", "<!-- outage -->", "<!-- /outage --><!-- outage -->"])
def test_a_page_without_a_place_for_it_is_refused(outage: ModuleType, page: str) -> None:
    with pytest.raises(ValueError, match="<!-- /outage -->"):
        outage.replaced(page, {})


def asked(load: ModuleType, *ends: str, phase: str = "recovered") -> list[Any]:
    """Ten requests a second, which end like that, ``ends`` for one second each."""
    return [
        load.Asked(phase, second + tenth / 10, 0.1, end)
        for second, end in enumerate(ends)
        for tenth in range(10)
    ]


@pytest.mark.parametrize(
    ("ends", "seconds"),
    [
        (["full", "full"], 0.0),
        (["gave up", "fallback", "full"], 2.0),
        (["503", "full", "502"], 1.0),
        (["fallback", "gave up"], None),
    ],
    ids=["at once", "later", "for a second", "never"],
)
def test_it_has_recovered_when_a_whole_second_is_answered_in_full(
    load: ModuleType, ends: list[str], seconds: float | None
) -> None:
    assert load._recovered_after(asked(load, *ends), len(ends)) == seconds


def test_what_was_answered_in_full_and_by_a_fallback_is_told_apart(load: ModuleType) -> None:
    """And who gave up counts among the times, as long as it waited."""
    all_asked = [*asked(load, "full", "fallback", "gave up", "502", phase="slow")]
    received = {phase: [3, 5] if phase == "slow" else [] for phase in PHASES}
    told = load.figures(load.Outage(all_asked, received, {}), 4.0)
    assert told["seconds_to_recover"] is None
    row = told["phases"]["slow"]
    assert (row["full"], row["fallback"], row["load"]) == (0.25, 0.25, 0.2)
    assert row["ends"] == {"full": 10, "fallback": 10, "gave up": 10, "502": 10}
    assert row["p50_ms"] == row["p99_ms"] == 100.0
    assert told["phases"]["healthy"]["p50_ms"] is None
