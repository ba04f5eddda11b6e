"""Kills workers at random moments, and looks whether their segments tell what they were at.

``python -m tests.spool.killed --kills 10000`` prints what it found as one line of JSON, and exits
with 1 when a segment told anything else than what its worker had done until then, or had under way.
"""

import argparse
import json
import mmap
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from asgi_errorkit.spool.layout import SEGMENT_BYTES
from asgi_errorkit.spool.reading import Reading, decode
from asgi_errorkit.spool.segment import Segment

LONGEST_SECONDS = 0.004
LONG_BODY = 50_000
"""Bytes; long enough to be killed amid it."""


class Step(NamedTuple):
    """What a worker does next, and with which request."""

    kind: str
    number: int


class Steps:
    """The same steps each time for a seed, and what there is to tell after each."""

    def __init__(self, seed: int) -> None:
        self._dice = random.Random(seed)
        self._next = 0
        self.in_flight: list[int] = []
        self.ended = 0

    def take(self) -> Step:
        kind = self._dice.choices(["begin", "end", "answer", "save"], [40, 38, 10, 4])[0]
        if kind == "begin" and len(self.in_flight) < 100:
            self._next += 1
            self.in_flight.append(self._next)
            return Step(kind, self._next)
        if kind == "save" or not self.in_flight:
            return Step("save", self.ended)
        place = self._dice.randrange(len(self.in_flight))
        if kind == "answer":
            return Step(kind, self.in_flight[place])
        self.ended += 1
        return Step("end", self.in_flight.pop(place))

    def state(self) -> tuple[frozenset[int], int]:
        return frozenset(self.in_flight), self.ended


def work(path: Path, truth: mmap.mmap, seed: int) -> None:
    """In the child: write down each step before it is taken and after it, for ever."""
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    os.posix_fallocate(file, 0, SEGMENT_BYTES)
    segment = Segment(file, b"{}")
    steps, places, counted = Steps(seed), dict[int, int](), list[int]()
    words = memoryview(truth).cast("Q")
    number = 0
    words[2] = 1
    while True:
        number += 1
        kind, which = steps.take()
        words[0] = number
        if kind == "begin":
            place = segment.begin(f"id-{which}", "GET", f"/{which}", 1.0, 2.0)
            if place is None:
                os._exit(1)  # saved too seldom
            places[which] = place
        elif kind == "end":
            segment.end(places[which], 200 << 8 | 1, 3.0)
            counted.append(places.pop(which))
        elif kind == "answer":
            segment.first_byte(places[which], 2.5)
        else:
            padding = b"%d" % (which % 10) * (number % 7 * LONG_BODY // 7)
            segment.save(b'{"ended": %d, "padding": "%b"}' % (which, padding), counted, 4.0)
            counted.clear()
        words[1] = number


def told(reading: Reading) -> tuple[frozenset[int], int]:
    body = json.loads(reading.body) if reading.body else {"ended": 0}
    numbers = [int(each.path[1:]) for each in (*reading.in_flight, *reading.ended)]
    ids = [int(each.request_id[3:]) for each in (*reading.in_flight, *reading.ended)]
    if numbers != ids or len(set(numbers)) < len(numbers) or reading.damaged:
        return frozenset({-1}), -1
    return frozenset(numbers[: len(reading.in_flight)]), body["ended"] + len(reading.ended)


def kill_one(path: Path, truth: mmap.mmap, seed: int, dice: random.Random) -> tuple[str, bool, int]:
    """Amid which kind of step a worker died, whether its segment is right, and after how many."""
    truth[:24] = bytes(24)
    child = os.fork()
    if not child:
        try:
            work(path, truth, seed)
        finally:
            os._exit(2)
    words = memoryview(truth).cast("Q")
    while not words[2]:
        if os.waitpid(child, os.WNOHANG)[0]:
            raise RuntimeError("a worker has left before it began")
        time.sleep(0.0001)
    time.sleep(dice.random() * LONGEST_SECONDS)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    begun, done = words[0], words[1]
    words.release()
    reading = decode(path.read_bytes())
    path.unlink()
    steps, kind = Steps(seed), "between"
    for _ in range(done):
        steps.take()
    allowed = {steps.state()}
    if begun > done:
        kind = steps.take().kind
        allowed.add(steps.state())
    is_right = os.WIFSIGNALED(status) and told(reading) in allowed
    return kind, is_right, done


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    dice, kinds, wrong, steps = random.Random(asked.seed), Counter[str](), 0, 0
    truth = mmap.mmap(-1, 4096)
    with tempfile.TemporaryDirectory() as folder:
        for number in range(asked.kills):
            seed = asked.seed * 1_000_000 + number
            kind, is_right, done = kill_one(Path(folder, "segment"), truth, seed, dice)
            kinds[kind] += 1
            wrong += not is_right
            steps += done
    print(json.dumps({"kills": asked.kills, "steps": steps, "amid": kinds, "wrong": wrong}))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
