"""What a request takes in instructions of Python and in calls: the same whenever it is counted.

The garbage collector rests meanwhile, every clock goes evenly, and the random ids are the same.
"""

import gc
import io
import itertools
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median_low
from types import CodeType, FrameType, TracebackType
from typing import Any, Self
from unittest.mock import patch

from asgi_errorkit.logs import EVENTS
from asgi_errorkit.recorder import Recorder
from asgi_errorkit.testing import http_scope
from asgi_errorkit.types import ASGIApp, Message, Receive, Scope, Send
from benchmarks.kits import ENDS, answer, failures, finish, kit, receive, send, whole
from benchmarks.surviving import ALL

__all__ = ["CASES", "WARM", "Case", "Served", "by_function", "counts", "served", "without_chance"]

WARM = 128
_COUNTED = 256  # a multiple of whatever is done once in so many requests
_COUNTED_RECORDED = 2 * _COUNTED  # after so many a snapshot is saved
_COUNTED_ERRORS = 64  # each takes ten times as long
_FRAMES = 20
_SEED = 20


def _streaming(pieces: int) -> ASGIApp:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for left in range(pieces - 1, -1, -1):
            await send({"type": "http.response.body", "body": b"x" * 1024, "more_body": left > 0})

    return app


def _repeating() -> ASGIApp:
    (fail,) = failures(1)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        fail(_FRAMES - 2)

    return app


def _always_new() -> ASGIApp:
    places = iter(failures(3 * WARM))

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        next(places)(_FRAMES - 2)

    return app


async def _echoing(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] != "websocket.disconnect":
        await send({"type": "websocket.send", "text": message["text"]})


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What is counted. Of ``longer`` and ``shorter`` it is one of the ``steps`` between them."""

    longer: Callable[[], ASGIApp]
    shorter: Callable[[], ASGIApp] | None = None
    steps: int = 1
    requests: int = _COUNTED
    events: tuple[str, ...] = ENDS
    survives: tuple[str, ...] = ()
    recorded: bool = False
    echoes: tuple[int, int] | None = None


CASES = {
    "GET, one log line": Case(longer=lambda: answer),
    "GET, two log lines": Case(longer=lambda: answer, events=EVENTS),
    "GET, one log line, record on disk": Case(
        longer=lambda: answer, requests=_COUNTED_RECORDED, recorded=True
    ),
    # Without a timeout, which needs a task: no loop runs here.
    **{
        f"GET, one log line, {name}": Case(longer=lambda: answer, survives=(name,))
        for name in ALL
        if name != "timeout"
    },
    "one more piece of a stream": Case(
        longer=lambda: _streaming(20), shorter=lambda: _streaming(10), steps=10
    ),
    "one more websocket echo": Case(
        longer=lambda: _echoing, shorter=lambda: _echoing, steps=10, echoes=(20, 10)
    ),
    "a repeated error, 20 frames": Case(longer=_repeating, requests=_COUNTED_ERRORS),
    "a first error, 20 frames": Case(longer=_always_new, requests=_COUNTED_ERRORS),
}


class Served:
    """An app as it is counted, bare or wrapped; every clock is one of C's that goes evenly."""

    def __init__(self, app: ASGIApp, case: Case, echoes: int | None, *, wrapped: bool) -> None:
        self._echoes = echoes
        self._app = app
        self._kit = None
        self._ends = ExitStack()
        if wrapped:
            directory = self._directory() if case.recorded else None
            recorder = Recorder(
                flush_seconds=None,
                clock=itertools.count(1000.0, 1e-5).__next__,
                wall_clock=itertools.repeat(1.7e9).__next__,
            )
            self._app = self._kit = kit(
                app,
                io.BytesIO(),
                recorder=recorder,
                max_groups=10_000,
                events=case.events,
                survives=case.survives,
                directory=directory,
            )
            if recorder.ledger is not None:
                self._ends.callback(recorder.ledger.close)

    def _directory(self) -> Path:
        """For a record, until it is closed."""
        folder = tempfile.TemporaryDirectory(prefix="asgi-errorkit-gate-")
        return Path(self._ends.enter_context(folder), "record")

    def once(self) -> None:
        if self._echoes is None:
            finish(self._app(http_scope(path="/items/list"), receive, send))
            return
        scope = http_scope(path="/progress", subprotocols=[])
        scope.update(type="websocket", scheme="ws")
        del scope["method"]
        finish(self._app(scope, _client(self._echoes), send))

    def flush(self) -> None:
        if self._kit is not None:
            self._kit.flush()

    def check(self) -> None:
        if self._kit is not None:
            whole(self._kit)

    def close(self) -> None:
        self._ends.close()


def _client(echoes: int) -> Receive:
    events: Iterator[Message] = itertools.chain(
        [{"type": "websocket.connect"}],
        itertools.repeat({"type": "websocket.receive", "text": "progress?"}, echoes),
        [{"type": "websocket.disconnect", "code": 1000}],
    )

    async def receive() -> Message:
        return next(events)

    return receive


class _Instructions(AbstractContextManager["_Instructions"]):
    """Counts the bytecode instructions of all that is called within it."""

    def __init__(self) -> None:
        self.count = 0

    def __enter__(self) -> Self:
        sys.settrace(self._called)
        return self

    def __exit__(
        self,
        raised: type[BaseException] | None,
        value: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        sys.settrace(None)

    def _called(self, frame: FrameType, event: str, argument: Any) -> Any:
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        return self._within

    def _within(self, frame: FrameType, event: str, argument: Any) -> Any:
        if event == "opcode":
            self.count += 1
        return self._within


class _ByFunction(_Instructions):
    """Counts them by the function that they are of."""

    def __init__(self, found: Counter[CodeType]) -> None:
        super().__init__()
        self._found = found

    def _within(self, frame: FrameType, event: str, argument: Any) -> Any:
        if event == "opcode":
            self._found[frame.f_code] += 1
        return self._within


class _Calls(AbstractContextManager["_Calls"]):
    """Counts the calls of functions, in Python and in C, within it."""

    def __init__(self) -> None:
        self.count = -1  # of what ends the counting

    def __enter__(self) -> Self:
        sys.setprofile(self._called)
        return self

    def __exit__(
        self,
        raised: type[BaseException] | None,
        value: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        sys.setprofile(None)

    def _called(self, frame: FrameType, event: str, argument: Any) -> None:
        if event in ("call", "c_call"):
            self.count += 1


def counts(names: Iterable[str]) -> dict[str, dict[str, float]]:
    """By case: instructions and calls that the kit adds, on the path and with the drain."""
    with without_chance():
        return {name: _counts(CASES[name]) for name in names}


def by_function(name: str) -> dict[str, float]:
    """Where the instructions of a case go, the most first: those of the wrapped app, bare or not."""
    case, found = CASES[name], Counter[CodeType]()
    with without_chance():
        one = served(case, shorter=False, wrapped=True)
        _counted(one, case.requests, lambda: _ByFunction(found))
    named = Counter[str]()
    for code, number in found.items():
        named[f"{Path(code.co_filename).name} {code.co_qualname}"] += number
    return {function: round(number / case.requests, 1) for function, number in named.most_common()}


@contextmanager
def without_chance() -> Iterator[None]:
    """Leave out what differs from run to run."""
    collecting = gc.isenabled()
    gc.disable()  # finalizers would count where they happen to run
    try:
        # What looks like a secret in a random id takes some more instructions.
        with patch("os.urandom", random.Random(_SEED).randbytes):
            yield
    finally:
        if collecting:
            gc.enable()


def _counts(case: Case) -> dict[str, float]:
    found = {}
    for name, tool in (("instructions", _Instructions), ("calls", _Calls)):
        path, total = _added(case, tool)
        found[f"path_{name}"] = path
        found[f"total_{name}"] = total
    return found


def _added(case: Case, tool: Callable[[], Any]) -> tuple[float, float]:
    """What the kit adds to the bare app, on the path of an ordinary request and all in all."""
    path, total = _difference(case, tool, shorter=False)
    if case.shorter is not None:
        less = _difference(case, tool, shorter=True)
        path, total = path - less[0], total - less[1]
    return round(path / case.steps, 2), round(total / case.steps / case.requests, 2)


def _difference(case: Case, tool: Callable[[], Any], *, shorter: bool) -> tuple[int, int]:
    wrapped, bare = (
        _counted(served(case, shorter=shorter, wrapped=wrapped), case.requests, tool)
        for wrapped in (True, False)
    )
    return wrapped[0] - bare[0], wrapped[1] - bare[1]


def served(case: Case, *, shorter: bool, wrapped: bool) -> Served:
    make = case.shorter if shorter and case.shorter is not None else case.longer
    echoes = None if case.echoes is None else case.echoes[shorter]
    return Served(make(), case, echoes, wrapped=wrapped)


def _counted(served: Served, requests: int, tool: Callable[[], Any]) -> tuple[int, int]:
    """The count of an ordinary request, and that of all of them until the last line is written.

    The request that fills a batch pays for many: it has no part in the first, but in the second.
    """
    for _ in range(WARM):
        served.once()
    served.flush()
    each = [_count(served.once, tool) for _ in range(requests)]
    total = sum(each) + _count(served.flush, tool)
    served.check()
    served.close()
    return median_low(each), total


def _count(work: Callable[[], None], tool: Callable[[], Any]) -> int:
    with tool() as counter:
        work()
    return int(counter.count)
