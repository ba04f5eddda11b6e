"""The benchmark of the record on disk tells what it has measured, and leaves nothing behind."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
SPREAD = {"min", "q1", "median", "q3", "max"}


def run(module: str, *arguments: str, temporary: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", f"benchmarks.{module}", *arguments],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(temporary)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_every_size_and_every_number_of_readers_has_every_figure(tmp_path: Path) -> None:
    """The writer's figures are told beside those of the turns in which nobody read."""
    file, temporary = tmp_path / "record.json", tmp_path / "temporary"
    temporary.mkdir()
    few = ("--rounds", "2", "--seconds", "0.05")
    done = run("record", *few, "--json", str(file), temporary=temporary)
    assert (done.returncode, done.stderr) == (0, "")
    assert list(temporary.iterdir()) == []
    told = json.loads(file.read_text())
    assert (told["rounds"], told["seconds"]) == (2, 0.05)
    for size, row in told["snapshots"].items():
        assert f"{int(size):,}" in done.stdout
        assert row.keys() == {"save_idle_us", "save_us", "read_us"}
        assert all(one.keys() == SPREAD | {"best"} and one["min"] > 0 for one in row.values())
    names = ["0 readers", "1 reader", "1 reader of another segment"]
    names += ["4 readers", "4 readers of another segment"]
    assert list(told["readers"]) == names
    check_readers(told["readers"])


def check_readers(readers: dict[str, dict[str, Any]]) -> None:
    for row in readers.values():
        assert 0 <= row["unsteady"] <= 1
        for figure in ("per_second", "per_second_to_none", "cpu_us", "cpu_to_none"):
            assert row[figure]["min"] > 0
    nobody = readers["0 readers"]
    assert nobody["reads_per_second"] == nobody["unsteady"] == 0
    assert nobody["per_second_to_none"]["min"] == nobody["cpu_to_none"]["max"] == 1


@pytest.mark.parametrize(
    "arguments", [("--rounds", "0"), ("--seconds", "0")], ids=["no rounds", "no time"]
)
def test_a_wrong_option_ends_with_a_word_about_it(
    arguments: tuple[str, str], tmp_path: Path
) -> None:
    done = run("record", *arguments, temporary=tmp_path)
    assert done.returncode == 2
    assert arguments[0] in done.stderr


def test_the_gate_counts_a_request_with_its_record_and_leaves_none(tmp_path: Path) -> None:
    """What the record takes is counted on the path as well as with the drain."""
    file, temporary = tmp_path / "gate.json", tmp_path / "temporary"
    temporary.mkdir()
    plain, recorded = "GET, one log line", "GET, one log line, record on disk"
    cases = ("--case", plain, "--case", recorded)
    done = run("gate", *cases, "--json", str(file), temporary=temporary)
    assert done.stderr == ""
    assert list(temporary.iterdir()) == []
    counts = json.loads(file.read_text())["counts"]
    assert all(counts[recorded][name] > counts[plain][name] for name in counts[plain])
