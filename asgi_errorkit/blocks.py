"""What held an event loop up: the blocks of the latest time, each with its place and its victims."""

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from weakref import ref

from asgi_errorkit.exchange import (
    END,
    ENDED,
    EXTRA,
    ID,
    KIND,
    METHOD,
    OPENER,
    PATH,
    ROUTE,
    STARTED,
    Record,
    State,
)
from asgi_errorkit.fingerprint import Snapshot, frames
from asgi_errorkit.loop_stack import Glimpse, blamed
from asgi_errorkit.redact import Redactor

if TYPE_CHECKING:
    from asgi_errorkit.recorder import Recorder

__all__ = ["Block", "Blocks", "LineTotal"]

_MOST_BLOCKS = 256
_MOST_LINES = 256
_MOST_HELD = 20
_MOST_STACK = 20
_TEXT_LIMIT = 512
_LEAST_SHARE = 0.001  # seconds: less than what is known of when a block began


@dataclass(slots=True, eq=False)
class Block:
    """One time that an event loop stood still.

    ``began_at`` and ``ended_at`` are seconds of the recorder's clock; ``seconds`` is what lies
    between, without what the loop is not to blame for. ``where`` is "file:line function" of the
    application, ``stack`` the lines of the application that led there, and what ran at last. ``held_up`` are the ids of up to 20 exchanges that were
    open meanwhile and have ended since, of ``held_up_count``.
    """

    began_at: float
    ended_at: float
    seconds: float = 0.0
    where: str = ""
    source: str = ""
    stack: tuple[str, ...] = ()
    request_id: str | None = None
    method: str | None = None
    path: str | None = None
    route: str | None = None
    held_up: list[str] = field(default_factory=list)
    held_up_count: int = 0
    is_sole_loop: bool = True
    opener: "ref[Recorder] | None" = None  # whose exchange it is
    _started_at: float | None = None

    def blame(self, glimpses: Sequence[Glimpse], redactor: Redactor) -> None:
        """Say what the looks so far have shown."""
        best, depth = blamed(glimpses)
        shown = frames(Snapshot("", "", best.frames), source_lines=0)
        at = shown[depth]
        self.where = f"{at.file}:{at.line} {at.function}"
        source = "".join(text for _, text in at.source).strip()
        self.source = redactor.text(source, _TEXT_LIMIT)
        # Those of libraries between are many, and say little; but for what ran at last.
        told = [frame for frame in shown if frame.in_app or frame is shown[-1]]
        self.stack = tuple(f"{f.file}:{f.line} {f.function}" for f in told[-_MOST_STACK:])
        if best.state is not None:
            self._name(best.state, redactor)

    def _name(self, state: State, redactor: Redactor) -> None:
        self.request_id, self.method = state[ID], state[METHOD]
        self.path = redactor.text(state[PATH], _TEXT_LIMIT)
        self.route = state[ROUTE]  # known once it has ended
        self._started_at = state[STARTED]
        self.opener = ref(state[OPENER].recorder)

    def is_of(self, record: Record) -> bool:
        """Whether the exchange is the one whose code it was."""
        return bool(record[STARTED] == self._started_at and record[ID] == self.request_id)

    def holds(self, record: Record) -> bool:
        """Whether it held this other exchange up; of several loops nobody can tell."""
        is_open = record[STARTED] < self.ended_at
        return self.is_sole_loop and is_open and not self.is_of(record)

    def share(self, record: Record) -> float:
        """The seconds that lie within the exchange."""
        end, start = min(self.ended_at, record[ENDED]), max(self.began_at, record[STARTED])
        return float(min(self.seconds, max(0.0, end - start)))

    def victims(self, in_flight: Iterable[State]) -> tuple[list[str], int]:
        """The ids of up to 20 that it held up, and how many there are, those that go on included."""
        going_on = [state[ID] for state in in_flight if self.holds(state)]
        ids = [*self.held_up, *going_on][:_MOST_HELD]
        return ids, self.held_up_count + len(going_on)

    def as_dict(self, in_flight: Iterable[State], offset: float) -> dict[str, Any]:
        """What the log tells; ``offset`` turns the clock into seconds since the epoch."""
        ids, count = self.victims(in_flight)
        return {
            "at": self.began_at + offset,
            "blocked_ms": _milliseconds(self.seconds),
            "where": self.where,
            "source": self.source,
            "stack": list(self.stack),
            "request_id": self.request_id,
            "method": self.method,
            "path": self.path,
            "route": self.route,
            "held_up": ids,
            "held_up_count": count,
        }


@dataclass(slots=True)
class LineTotal:
    """All the blocks of one line."""

    count: int = 0
    seconds: float = 0.0
    longest_seconds: float = 0.0
    _untold: list[Block] = field(default_factory=list)  # the longest of them alone
    _untold_count: int = 0
    _untold_seconds: float = 0.0
    _told_at: float = float("-inf")

    def add(self, block: Block, *, is_to_tell: bool) -> None:
        self.count += 1
        self.seconds += block.seconds
        self.longest_seconds = max(self.longest_seconds, block.seconds)
        if not is_to_tell:
            return
        self._untold_count += 1
        self._untold_seconds += block.seconds
        self._untold = [max([*self._untold, block], key=lambda each: each.seconds)]

    def as_dict(self, where: str) -> dict[str, Any]:
        return {
            "where": where,
            "count": self.count,
            "total_ms": _milliseconds(self.seconds),
            "longest_ms": _milliseconds(self.longest_seconds),
        }

    def take_due(self, now: float, each_seconds: float) -> tuple[Block, int, float] | None:
        """The longest that has not been told, how many there were, and their seconds; once."""
        if not self._untold or now - self._told_at < each_seconds:
            return None
        due = self._untold.pop(), self._untold_count, self._untold_seconds
        self._told_at, self._untold_count, self._untold_seconds = now, 0, 0.0
        return due


class Blocks:
    """The latest blocks, and the totals of each line; its owner lets in one thread at a time."""

    def __init__(self) -> None:
        self.latest: deque[Block] = deque(maxlen=_MOST_BLOCKS)
        self.by_line: dict[str, LineTotal] = {}

    def add(self, block: Block, *, is_to_tell: bool = True) -> None:
        """Take up one that is over, whether or not the log is to hear of it from here."""
        self.latest.append(block)
        if len(self.by_line) >= _MOST_LINES and block.where not in self.by_line:
            del self.by_line[next(iter(self.by_line))]
        self.by_line.setdefault(block.where, LineTotal()).add(block, is_to_tell=is_to_tell)

    def take_due(self, now: float, each_seconds: float) -> list[tuple[Block, int, float]]:
        """What is to be told now: of one line once in so many seconds."""
        totals = list(self.by_line.values())
        return [due for total in totals if (due := total.take_due(now, each_seconds)) is not None]


def mark(records: Sequence[Record], blocks: Sequence[Block], in_flight: Iterable[State]) -> None:
    """Add to each record that overlaps with blocks, which are in order, what they were to it.

    First all victims are counted, so that the one who held them up can tell of them.
    """
    found = []
    for record in records:
        if record[KIND] == END:
            touching = _touching(record, blocks)
            if touching:
                found.append((record, touching))
    running = list(in_flight) if found else []
    for record, touching in found:
        _add(record, touching, running)


def _touching(record: Record, blocks: Sequence[Block]) -> list[tuple[Block, float]]:
    touching = []
    for block in reversed(blocks):
        if block.ended_at <= record[STARTED]:
            break
        share = block.share(record)
        if block.is_of(record):
            block.route = record[ROUTE]
            touching.append((block, share))
        elif share >= _LEAST_SHARE and block.holds(record):
            touching.append((block, share))
            block.held_up_count += 1
            if len(block.held_up) < _MOST_HELD:
                block.held_up.append(record[ID])
    return touching


def _add(record: Any, touching: list[tuple[Block, float]], in_flight: list[State]) -> None:
    longest = max(touching, key=lambda pair: pair[1])[0]
    own = [block for block, _ in touching if block.is_of(record)]
    told: dict[str, Any] = {
        "blocked_ms": _milliseconds(sum(share for _, share in touching)),
        "blocked_by": longest.where,
    }
    if longest not in own:
        told["blocked_by_request"] = longest.request_id
    if own:
        victims = [block.victims(in_flight) for block in own]
        told["held_up"] = list(dict.fromkeys(each for ids, _ in victims for each in ids))
        told["held_up_count"] = max(len(told["held_up"]), *(count for _, count in victims))
    record[EXTRA] = {**(record[EXTRA] or {}), **told}


def _milliseconds(seconds: float) -> float:
    return round(seconds * 1000, 1)
