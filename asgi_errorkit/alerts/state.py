"""All that is known of alerts by the one process that tells of them."""

from collections import deque
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from asgi_errorkit.alerts.entries import NO_SENSE, entry_of
from asgi_errorkit.alerts.groups import KnownErrors
from asgi_errorkit.alerts.timeline import FIRING, RESOLVED, Item, Timeline, count_of
from asgi_errorkit.alerts.timing import Silence, Timing
from asgi_errorkit.alerts.totals import Ask, Totals

__all__ = ["AlertState", "Clocks", "Shown"]

_MOST_OUT = 200
_NO_BOOT = "00000000"
_VERSION = 1


class Clocks:
    """What the times of a state are counted by: ``offset`` makes them epoch seconds."""

    def __init__(self, boot: str, now: float, offset: float) -> None:
        self.boot = boot
        self.now = now
        self.offset = offset

    def later(self, told: Mapping[str, Any]) -> float:
        """By how much the clock of who told was later: only that of another boot is."""
        if self.boot == told["boot"] and self.boot != _NO_BOOT:
            return 0.0
        return self.offset - float(told["offset"])


class Shown(NamedTuple):
    """What others may read of a state while it changes."""

    history: tuple[dict[str, Any], ...] = ()
    total_alerts: int = 0
    firing: tuple[Item, ...] = ()
    silences: tuple[Silence, ...] = ()
    unsaid: tuple[tuple[str, int], ...] = (("silenced", 0), ("inhibited", 0), ("overflowed", 0))
    held_back: int = 0
    resolved: Mapping[str, float] = MappingProxyType({})


class AlertState:
    """The timeline, the errors and totals that are known, what has been told and is on its way.

    One thread changes it.
    """

    def __init__(
        self, *, timing: Timing, gone_seconds: float, ask: Ask, history: int, clocks: Clocks
    ) -> None:
        self.timeline = Timeline(timing)
        self.known = KnownErrors(gone_seconds=gone_seconds)
        self.totals = Totals(ask, now=clocks.now)
        self.history: deque[dict[str, Any]] = deque(maxlen=history)
        self.total_alerts = 0
        self.on_its_way: dict[str, tuple[dict[str, Any], set[str]]] = {}

    def note(self, entry: dict[str, Any]) -> None:
        """Keep an entry of the history, or in the one of the same alert that it is over."""
        if entry["status"] != RESOLVED:
            self.total_alerts += 1
            self.history.append({**entry, "resolved_at": None})
            return
        for place in range(len(self.history) - 1, -1, -1):
            known = self.history[place]
            if (known["type"], known["key"], known["status"]) == (
                entry["type"],
                entry["key"],
                FIRING,
            ):
                over = {"status": RESOLVED, "resolved_at": entry["timestamp"]}
                self.history[place] = {**known, **over}
                return

    def shown(self) -> Shown:
        """A copy for those who look."""
        timeline = self.timeline
        return Shown(
            tuple(self.history),
            self.total_alerts,
            tuple(timeline.alerts()),
            tuple(timeline.silences),
            tuple(timeline.unsaid.items()),
            timeline.held_back,
            dict(self.known.resolved),
        )

    def send(self, notice: dict[str, Any], labels: set[str]) -> None:
        """Know that a notice is on its way to these channels."""
        self.on_its_way[notice["id"]] = (notice, set(labels))
        while len(self.on_its_way) > _MOST_OUT:
            del self.on_its_way[next(iter(self.on_its_way))]

    def arrived(self, notice_id: str, label: str) -> bool:
        """Whether it was on its way there: it is not any more."""
        _, labels = self.on_its_way.get(notice_id, ({}, set[str]()))
        if label not in labels:
            return False
        labels.discard(label)
        if not labels:
            del self.on_its_way[notice_id]
        return True

    def as_dict(self, clocks: Clocks) -> dict[str, Any]:
        """All of it as JSON-able data, for `remember`."""
        return {
            "version": _VERSION,
            "boot": clocks.boot,
            "offset": clocks.offset,
            "timeline": self.timeline.as_dict(),
            "known": self.known.as_dict(),
            "resolved": dict(self.known.resolved),
            "totals": self.totals.as_rows(),
            "history": list(self.history),
            "total_alerts": self.total_alerts,
            "on_its_way": [[notice, sorted(to)] for notice, to in self.on_its_way.values()],
        }

    def remember(self, told: Mapping[str, Any], clocks: Clocks) -> None:
        """Know what was told with `as_dict`, by whichever process, all of it or nothing.

        Raises ValueError for what makes no sense.
        """
        try:
            if told["version"] != _VERSION:
                raise ValueError(f"version {told['version']!r:.20} is not {_VERSION}")
            later = clocks.later(told)
            timeline = Timeline.told(
                self.timeline.timing, told["timeline"], now=clocks.now, later=later
            )
            entries = [entry_of(each) for each in told["history"]]
            out = {n["id"]: (dict(n), set(map(str, to))) for n, to in told["on_its_way"]}
            total = count_of(told["total_alerts"])
            self.known.remember(told["known"], told.get("resolved", {}))
            self.totals.remember(told["totals"], now=clocks.now, later=later)
        except NO_SENSE as error:
            raise ValueError(f"what is kept of alerts makes no sense: {error!r:.200}") from error
        self.timeline = timeline
        self.history.extend(entry for entry in entries if entry is not None)
        self.total_alerts = total
        self.on_its_way = out
