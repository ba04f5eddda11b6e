"""All the workers of a host, of which some are killed: what they have counted is what they have done."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_four_workers_of_which_one_after_the_other_is_killed_count_each_request_once() -> None:
    """And no sum ever goes backwards, whoever reads it amid that."""
    ran = subprocess.run(
        [sys.executable, "-m", "tests.spool.crowd", "--requests", "40000"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr + ran.stdout
    found = json.loads(ran.stdout)
    assert found["killed"] >= 1
    assert found["reads"] > 4
