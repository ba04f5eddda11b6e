"""The gate counts the same each time and bars growth; growth and scale tell what they measured."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
CASE_OF_ERRORS = "a repeated error, 20 frames"
AXES = (
    "distinct paths without a route",
    "matched routes",
    "error groups",
    "error groups, all kept",
    "requests in flight",
    "request headers",
    "minutes of uptime",
)


def run(module: str, *arguments: str, seed: str = "0") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", f"benchmarks.{module}", *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": seed},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    """The gate with a file of its own for what is expected, and counts that are given."""
    monkeypatch.syspath_prepend(ROOT)
    import benchmarks.gate

    monkeypatch.setattr(benchmarks.gate, "EXPECTED", tmp_path / "gate.json")
    return benchmarks.gate


@pytest.fixture
def growth(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT)
    import benchmarks.growth

    return benchmarks.growth


def counting(**counts: float) -> Callable[[list[str]], dict[str, dict[str, float]]]:
    return lambda names: {"GET, one log line": counts}


def test_a_request_takes_no_more_than_is_expected_of_this_python() -> None:
    """A path that grows by more than a twentieth is made the measure on purpose or not at all."""
    done = run("gate")
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_gate_counts_the_same_whenever_it_counts(tmp_path: Path) -> None:
    """Whatever the order of sets and the load of the machine; which errors are remembered for
    having been told of depends on their addresses, by a call or two among thousands."""
    success, piece, error = "GET, two log lines", "one more piece of a stream", CASE_OF_ERRORS
    counts = []
    for seed in ("1", "2"):
        file = tmp_path / f"{seed}.json"
        cases = ("--case", success, "--case", piece, "--case", error)
        run("gate", *cases, "--json", str(file), seed=seed)
        counts.append(json.loads(file.read_text())["counts"])
    one, other = counts
    assert list(one) == list(other) == [success, piece, error]
    assert (one[success], one[piece]) == (other[success], other[piece])
    assert one[error] == pytest.approx(other[error], rel=1e-3)
    for case in one.values():
        assert case["total_instructions"] >= case["path_instructions"] > 0
        assert case["total_calls"] >= case["path_calls"] > 0


@pytest.mark.parametrize(
    ("expected", "found", "grown", "stale"),
    [
        (100, 105, 0, 0),
        (100, 106, 1, 0),
        (100, 95, 0, 0),
        (100, 94, 0, 1),
        (0, 0, 0, 0),
        (0, 1, 1, 0),
    ],
    ids=["at", "above", "little less", "much less", "nothing", "out of nothing"],
)
def test_a_twentieth_is_tolerated(
    gate: ModuleType, expected: float, found: float, grown: int, stale: int
) -> None:
    judged = gate.judge({"GET": {"path_calls": expected}}, {"GET": {"path_calls": found}})
    assert [len(each) for each in judged] == [grown, stale]


def test_what_only_one_side_knows_asks_for_a_new_measure(gate: ModuleType) -> None:
    grown, stale = gate.judge({"GET": {"path_calls": 1}}, {"POST": {"path_calls": 1}})
    assert grown == []
    assert stale == ["GET: path_calls is not in both", "POST: path_calls is not in both"]


def test_the_gate_ends_with_1_for_growth_alone(
    gate: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without figures for this Python, and for what shrinks, it says what to do."""
    monkeypatch.setattr(gate, "counts", counting(path_calls=100))
    assert gate.main([]) == 0
    assert f"Nothing is expected of Python {VERSION}: --write" in capsys.readouterr().out
    assert gate.main(["--write"]) == 0
    assert gate.main([]) == 0
    assert "All within 5%" in capsys.readouterr().out
    monkeypatch.setattr(gate, "counts", counting(path_calls=106))
    assert gate.main([]) == 1
    assert "GET, one log line: path_calls 100 -> 106" in capsys.readouterr().out
    monkeypatch.setattr(gate, "counts", counting(path_calls=90))
    assert gate.main([]) == 0
    assert "Shrunk by more than 5%" in capsys.readouterr().out


def test_writing_keeps_what_is_expected_of_other_versions(
    gate: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = {"2.7": {"GET, one log line": {"path_calls": 1}}}
    gate.EXPECTED.write_text(json.dumps(other))
    monkeypatch.setattr(gate, "counts", counting(path_calls=100))
    gate.main(["--write"])
    gate.main(["--write", "--case", "GET, one log line"])
    mine = {VERSION: {"GET, one log line": {"path_calls": 100}}}
    assert json.loads(gate.EXPECTED.read_text()) == other | mine


@pytest.mark.parametrize(
    ("sizes", "values", "expected"),
    [
        ([1, 10, 100], [2.0, 2.0, 2.4], "flat"),
        ([1, 10, 100], [2.0, 3.0, 3.0], "levels off"),
        ([1, 10, 100], [2.0, 2.0, 3.0], "grows"),
        ([1, 100], [2.0, 3.0], "flat"),
        ([1, 10, 100], [2.0, 1.0, 0.0], "flat"),
    ],
    ids=["flat", "step", "growing", "little over two decades", "falling"],
)
def test_growth_is_judged_by_the_decade(
    growth: ModuleType, sizes: list[int], values: list[float], expected: str
) -> None:
    """What costs more once and not again levels off; what still costs more at the end grows."""
    assert growth.verdict(growth.factors(sizes, values)) == expected


def test_linear_growth_is_tenfold_in_a_decade(growth: ModuleType) -> None:
    assert growth.factors([1, 10, 1000], [1, 10, 1000]) == pytest.approx([10, 10])


@pytest.mark.parametrize("name", AXES)
def test_each_axis_is_measured_without_a_loss(growth: ModuleType, name: str) -> None:
    """Every load works: its requests all come to an end, and the kit has counted them whole."""
    axis = {axis.name: axis for axis in growth.AXES}[name]
    point = growth.measured(axis, axis.sizes[0], rounds=1, requests=20)
    assert point["size"] == axis.sizes[0]
    assert point["memory_kib"] > 0
    assert point["bare_us"]["median"] > 0
    assert set(point["x_smallest"]) == {"request_us", "flush_us", "read_ms"}


def test_growth_writes_what_it_measured(tmp_path: Path) -> None:
    """A point is measured in an interpreter of its own; what has none is left out."""
    file = tmp_path / "growth.json"
    done = run(
        *("growth", "--axis", "request headers", "--axis", "matched routes", "--largest", "5"),
        *("--rounds", "1", "--requests", "20", "--json", str(file)),
    )
    assert done.returncode == 0, done.stderr
    written = json.loads(file.read_text())
    assert written["python"]["version"]
    assert list(written["axes"]) == ["request headers"]
    assert [p["size"] for p in written["axes"]["request headers"]["points"]] == [1]
    assert "Not flat:" in done.stdout


def test_scale_counts_everything_exactly(tmp_path: Path) -> None:
    """Of streams that end in every way, and of records that are taken or overwritten."""
    file = tmp_path / "scale.json"
    done = run(
        *("scale", "--streams", "120", "--rounds", "1", "--seconds", "0.1", "--batches", "8"),
        *("--json", str(file)),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    written = json.loads(file.read_text())
    assert_exact(written["streams"]["exact"])
    for name, each in written["published"].items():
        assert each["exact"], name
        assert each["produced"] == each["taken"] + each["lost"] == 10_000
    assert len(written["drained"]) == 6
    assert len(written["targets"]) == 6


def assert_exact(counts: dict[str, list[Any]]) -> None:
    outcomes = {"ok": 111, "truncated": 3, "client_disconnect": 3, "cancelled": 3}
    assert counts["outcomes"] == [outcomes, outcomes]
    assert counts["in flight at once"] == [120, 120]
    for wanted, counted in counts.values():
        assert wanted == counted


@pytest.mark.parametrize(
    "arguments",
    [("growth", "--rounds", "0"), ("scale", "--streams", "0"), ("gate", "--case", "PUT")],
    ids=["no rounds", "no streams", "unknown case"],
)
def test_a_wrong_option_ends_with_a_word_about_it(arguments: tuple[str, ...]) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert arguments[1] in done.stderr


def test_the_gate_tells_where_the_instructions_go() -> None:
    """All of them, the functions that take most by name."""
    done = run("gate", "--case", "GET, one log line", "--by-function")
    assert done.returncode == 0, done.stdout + done.stderr
    told = done.stdout.partition("instructions\n")[2]
    assert "frame.py frame.<locals>.serve" in told
    assert re.search(r"^\d+ others +\d", told, re.MULTILINE)
