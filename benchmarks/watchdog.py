"""Whether the watchdog blames the right line, and what it costs: ``python -m benchmarks.watchdog``."""

import argparse
import asyncio
import json
import linecache
import os
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from asgi_errorkit import ErrorKit

LOOPS = ("asyncio", "uvloop", "trio")
THRESHOLD_SECONDS = 0.1
_ENOUGH_SECONDS = 1.5 * THRESHOLD_SECONDS  # what took less is injected again, and larger
_MOST_TRIES = 8
_IN_FLIGHT = 5
_FILE = "/srv/blocking/handlers.py"
_WAYS = (
    "time.sleep(0.16)",
    "spin(0.16)",
    "for _ in range(8): time.sleep(0.02)",
    "subprocess.run(['sleep', '0.16'])",
    "list(map(time.sleep, [0.16]))",
    "re.match('(a+)+$', 'a' * WIDTH + 'b')  # keeps the interpreter",
    "sorted(range(LENGTH), key=lambda n: -n)",
    "threading.Event().wait(0.16)",
)
_HEAD = "import re, subprocess, threading, time\n\n"


def _handlers(number: int) -> tuple[dict[str, Any], dict[int, int]]:
    """Functions that block, one line each, and the line of each."""
    lines = [_HEAD]
    lines.append("def spin(seconds):\n    end = time.perf_counter() + seconds\n")
    lines.append("    while time.perf_counter() < end:\n        pass\n\n")
    expected = {}
    for n in range(number):
        lines.append(f"def handler_{n}():\n    before = {n}\n")
        expected[n] = "".join(lines).count("\n") + 1
        lines.append(f"    {_WAYS[n % len(_WAYS)]}\n    return before\n\n")
    source = "".join(lines)
    linecache.cache[_FILE] = (len(source), None, source.splitlines(keepends=True), _FILE)
    names: dict[str, Any] = {"WIDTH": _width(), "LENGTH": _length()}
    exec(compile(source, _FILE, "exec"), names)
    return names, expected


def _width() -> int:
    """For how many letters the pattern takes 0.2 s or more, also when nothing else runs."""
    import re

    for width in range(16, 40):
        if _least(lambda width=width: re.match("(a+)+$", "a" * width + "b")) > 0.2:
            return width
    return 40


def _length() -> int:
    return int(50_000 * 0.4 / _least(lambda: sorted(range(50_000), key=lambda n: -n)))


def _least(run: Callable[[], object]) -> float:
    """The processor time of it: what else the machine does takes more, and would make it short."""
    took = []
    for _ in range(3):
        began_at = time.thread_time()
        run()
        took.append(time.thread_time() - began_at)
    return min(took)


def _run(loop: str, main: Callable[[], Any]) -> Any:
    if loop == "trio":
        import trio

        return trio.run(main)
    if loop == "uvloop":
        import uvloop

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(main())
    return asyncio.run(main())


def _sleep(loop: str) -> Callable[[float], Awaitable[None]]:
    if loop == "trio":
        import trio

        return trio.sleep
    return asyncio.sleep


async def _answer(send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})


async def _request(kit: Any, path: str) -> None:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request"}

    async def send(_: Any) -> None:
        return None

    headers = [(b"x-request-id", path.strip("/").encode())]
    scope = {"type": "http", "method": "GET", "path": path, "headers": headers}
    await kit({**scope, "query_string": b"", "client": None}, receive, send)


class Injected(NamedTuple):
    """One block: how long it took, and what the machine withheld meanwhile.

    ``withheld`` is for how long a thread of the kit's was ready to run and had no processor, or
    the machine as a whole had none because its host gave it to others. It looks twice within the
    threshold: half of that is enough to miss a block.
    """

    seconds: float
    withheld: float


def blame(loop: str, number: int) -> dict[str, Any]:
    """Inject so many blocks while other requests wait, and see what is blamed."""
    names, expected = _handlers(number)
    sleep = _sleep(loop)
    injected: dict[str, Injected] = {}
    before: dict[str, dict[object, float]] = {}

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"].startswith("/block"):
            name = scope["path"][1:]
            began_at = time.perf_counter()
            names[f"handler_{name[5:].partition('.')[0]}"]()
            took = time.perf_counter() - began_at
            await _answer(send)
            # Last: to read a file lets other threads run.
            injected[name] = Injected(took, _withheld(before[name]))
        else:
            await sleep(0.3)
            await _answer(send)

    kit = ErrorKit(app, log_level="CRITICAL", blocked_after_seconds=THRESHOLD_SECONDS)
    watchdog: Any = kit.watchdog
    last: dict[int, str] = {}

    async def inject(n: int) -> None:
        """Until it has taken long enough to be a block."""
        for again in range(_MOST_TRIES):
            last[n] = f"block{n}.{again}"
            before[last[n]] = _waits()  # the look that misses a block may be late before it
            await _inject(kit, loop, last[n])
            if injected[last[n]].seconds >= _ENOUGH_SECONDS:
                return
            names["WIDTH"] += "WIDTH" in _WAYS[n % len(_WAYS)]
            names["LENGTH"] *= 2 if "LENGTH" in _WAYS[n % len(_WAYS)] else 1

    async def main() -> None:
        await _request(kit, "/wait-first")
        await sleep(1.0)  # until the kit has imported what it samples the process with
        for n in range(number):
            await inject(n)
        await sleep(0.1)

    _run(loop, main)
    found = {block["request_id"]: block for block in watchdog.blocks(number * _MOST_TRIES)}
    right = {n for n in expected if _is_right(found.get(last[n]), n, expected[n])}
    missed = {n: injected[last[n]] for n in expected if n not in right}
    withheld = {n for n, each in missed.items() if each.withheld >= THRESHOLD_SECONDS / 2}
    return {
        "loop": loop,
        "blocks": number,
        "right": len(right),
        "machine_withheld_a_processor": len(withheld),
        "wrong": len(missed) - len(withheld),
        "right_of_each_kind": _by_kind(right, expected),
        "missed": [
            {
                "line": _WAYS[n % len(_WAYS)],
                "blamed": found.get(last[n], {}).get("where"),
                "seconds": round(each.seconds, 3),
                "withheld_seconds": round(each.withheld, 3),
            }
            for n, each in missed.items()
        ],
        "held_up": sum(found[last[n]]["held_up_count"] for n in right),
        "held_up_expected": len(right) * _IN_FLIGHT,
        "injected_again": len(injected) - number,
        "others_blamed": [
            (b["where"], b["blocked_ms"])
            for b in found.values()
            if not str(b["request_id"]).startswith("block")
        ],
        "unseen": watchdog.unseen,
        "stopped_seconds": round(watchdog.stopped_seconds, 3),
    }


async def _inject(kit: Any, loop: str, name: str) -> None:
    async with _group(loop) as start:
        for other in range(_IN_FLIGHT):
            start(partial(_request, kit, f"/wait-{name}-{other}"))
        await _sleep(loop)(THRESHOLD_SECONDS)
        await _request(kit, f"/{name}")


def _by_kind(right: set[int], expected: dict[int, int]) -> dict[str, str]:
    every, found = (Counter(n % len(_WAYS) for n in some) for some in (expected, right))
    return {_WAYS[way]: f"{found[way]} of {every[way]}" for way in sorted(every)}


def _withheld(before: dict[object, float]) -> float:
    return max(now - before.get(whom, now) for whom, now in _waits().items())


def _waits() -> dict[object, float]:
    """The seconds so far that each of the kit's threads waited for a processor, and all for the host."""
    threads = [t for t in threading.enumerate() if t.name.startswith("asgi-errorkit")]
    return {"host": _stolen(), **{t.native_id: _waited(t.native_id) for t in threads}}


def _waited(thread: int | None) -> float:
    try:
        told = Path(f"/proc/self/task/{thread}/schedstat").read_text("ascii")
    except OSError:  # another system: nothing is put down to the machine
        return 0.0
    return int(told.split()[1]) / 1e9


def _stolen() -> float:
    """Of each processor, on average."""
    try:
        stolen = int(Path("/proc/stat").read_text("ascii").split()[8])
    except (OSError, IndexError):
        return 0.0
    return stolen / os.sysconf("SC_CLK_TCK") / (os.cpu_count() or 1)


def _is_right(block: dict[str, Any] | None, n: int, line: int) -> bool:
    if block is None:
        return False
    file, _, function = block["where"].partition(" ")
    if "spin" in _WAYS[n % len(_WAYS)]:  # the loop itself, further in
        return function == "spin" and f":{line} handler_{n}" in " ".join(block["stack"])
    return file.endswith(f"handlers.py:{line}")


class _group:  # noqa: N801  used as a function
    """Starts tasks, and waits for them, in either library."""

    def __init__(self, loop: str) -> None:
        self._loop = loop

    async def __aenter__(self) -> Callable[[Callable[[], Any]], Any]:
        if self._loop == "trio":
            import trio

            self._group: Any = trio.open_nursery()
            return (await self._group.__aenter__()).start_soon  # type: ignore[no-any-return]
        self._group = asyncio.TaskGroup()
        group = await self._group.__aenter__()
        return lambda function: group.create_task(function())

    async def __aexit__(self, *raised: object) -> None:
        await self._group.__aexit__(*raised)


def cost(loop: str, seconds: float, *, busy: bool) -> dict[str, Any]:
    """CPU of the process with and without a watchdog, while nothing or requests come."""
    spent = {}
    sleep = _sleep(loop)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await _answer(send)

    for watched in (False, True) * 3:
        threshold_seconds = THRESHOLD_SECONDS if watched else None
        kit = ErrorKit(app, log_level="CRITICAL", blocked_after_seconds=threshold_seconds)
        watchdog = kit.watchdog
        requests = [0]

        async def main(kit: Any = kit, requests: list[int] = requests) -> tuple[float, float]:
            await _request(kit, "/first")
            await sleep(0.3)
            began_at, used = time.perf_counter(), time.process_time()
            while time.perf_counter() - began_at < seconds:
                if busy:
                    for _ in range(200):
                        await _request(kit, "/")
                    requests[0] += 200
                    await sleep(0)
                else:
                    await sleep(seconds)
            return time.process_time() - used, time.perf_counter() - began_at

        used, took = _run(loop, main)
        kit.tracker.recorder.close()
        per = used / requests[0] * 1e6 if busy else used / took * 100
        spent.setdefault(watched, []).append(per)
        looks = watchdog.looks / took if watchdog else 0.0
    with_it, without = min(spent[True]), min(spent[False])
    unit = "us_per_request" if busy else "cpu_percent"
    told = {"loop": loop, "busy": busy, f"{unit}_without": round(without, 4)}
    told[f"{unit}_added"] = round(with_it - without, 4)
    told["looks_per_second"] = round(looks, 1)
    if not busy:
        told["cpu_seconds_per_hour"] = round((with_it - without) / 100 * 3600, 2)
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--blocks", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--loop", choices=LOOPS, action="append")
    parser.add_argument("--only", choices=("blame", "cost"))
    chosen = parser.parse_args()
    for loop in chosen.loop or LOOPS:
        if chosen.only != "cost":
            print(json.dumps(blame(loop, chosen.blocks)), flush=True)
        if chosen.only != "blame":
            print(json.dumps(cost(loop, chosen.seconds, busy=False)), flush=True)
            print(json.dumps(cost(loop, chosen.seconds / 2, busy=True)), flush=True)


if __name__ == "__main__":
    main()
