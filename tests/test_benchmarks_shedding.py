"""The benchmark of load shedding measures what it says it does."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import shedding
from benchmarks.shedding import Turn, main, reach


def rows(goodput: float, p99: float) -> dict[str, Any]:
    """What was measured: unloaded 100 a second in 40 ms, at most 200, and so under overload."""
    return {
        "bare": {
            "0.5": {"goodput_per_second": 100.0, "p99_ms": 40.0},
            "1": {"goodput_per_second": 200.0, "p99_ms": 300.0},
        },
        "shedding": {"2": {"goodput_per_second": goodput, "p99_ms": p99}},
    }


@pytest.mark.parametrize(
    ("goodput", "p99", "kept"),
    [(160.0, 120.0, [True, True]), (159.0, 120.0, [False, True]), (160.0, 121.0, [True, False])],
    ids=["both", "too few", "too late"],
)
def test_a_promise_is_kept_by_what_was_measured(
    goodput: float, p99: float, kept: list[bool]
) -> None:
    """Goodput against the most of all turns, lateness against the unloaded app."""
    assert [promise.kept for promise in reach(rows(goodput, p99))] == kept


def test_nothing_answered_keeps_nothing() -> None:
    assert not any(promise.kept for promise in reach(rows(0.0, None)))  # type: ignore[arg-type]


def test_a_turn_tells_its_quantiles() -> None:
    """Of those answered in time; the others are told by how they ended."""
    turn = Turn(seconds=2.0, latencies=[number / 1000 for number in range(100)])
    turn.ends["gave up"] += 1
    row = turn.row()
    assert (row["goodput_per_second"], row["p50_ms"], row["p99_ms"]) == (50.0, 50.0, 99.0)
    assert row["ends"] == {"gave up": 1}


def test_it_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A server in a process of its own, asked for a moment."""
    monkeypatch.setattr(shedding, "LOADS", (0.5, 2.0))
    monkeypatch.setattr(shedding, "_WARMING_SECONDS", 0.1)
    file = tmp_path / "shedding.json"
    assert main(["--seconds", "0.5", "--json", str(file)]) == 0
    told = json.loads(file.read_text(encoding="utf-8"))
    assert told["rows"].keys() == {"bare", "shedding"}
    assert all(row["ends"] for loads in told["rows"].values() for row in loads.values())
