"""At whatever moment a worker is killed, its segment tells what it had done until then."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_five_hundred_workers_that_are_killed_lose_nothing_and_tell_nothing_torn() -> None:
    """In a process of its own, without threads, which may fork."""
    ran = subprocess.run(
        [sys.executable, "-m", "tests.spool.killed", "--kills", "500"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    found = json.loads(ran.stdout)
    assert (ran.returncode, found["wrong"], found["kills"]) == (0, 0, 500), ran.stderr
    assert found["steps"] > 10_000
    assert found["amid"]["begin"] > 10
    assert found["amid"]["end"] > 3
    assert found["amid"]["save"] > 50
