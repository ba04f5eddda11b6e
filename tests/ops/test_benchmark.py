"""The benchmark of viewers measures what it says it does."""

import json

import pytest

from benchmarks import ops
from benchmarks.ops import Turn, main, reach


def test_what_viewers_cost_is_a_share_of_the_turn_beside():
    """Of the throughput that is lost, and of the CPU of a request that comes on top."""
    pairs = [(Turn(1000.0, 20.0, 1.0, 0), Turn(990.0, 20.2, 1.0, 50))] * 3
    rows = reach(pairs)
    assert rows["throughput"]["median"] == pytest.approx(0.01)
    assert rows["cpu_of_a_request"]["q3"] == pytest.approx(0.01)


def test_it_runs(monkeypatch, tmp_path):
    """A server in a process of its own, viewers, and a moment of load; viewers were sent events."""
    monkeypatch.setattr(ops, "ROUTES", 20)
    file = tmp_path / "ops.json"
    options = ["--rounds", "1", "--seconds", "0.3", "--viewers", "5"]
    assert main([*options, "--json", str(file)]) == 0
    told = json.loads(file.read_text(encoding="utf-8"))
    assert told["rounds"]["1"]["without"]["per_second"] > 0
    assert told["rounds"]["1"]["with"]["events"] >= 0


def test_the_best_turns_are_compared_beside():
    """Whatever the round: what others do on the machine only ever adds."""
    pairs = [
        (Turn(1000.0, 20.0, 1.0, 0), Turn(500.0, 40.0, 1.0, 50)),
        (Turn(500.0, 40.0, 1.0, 0), Turn(990.0, 20.2, 1.0, 50)),
    ]
    rows = reach(pairs)
    assert rows["throughput"]["best"] == pytest.approx(0.01)
    assert rows["cpu_of_a_request"]["best"] == pytest.approx(0.01)
