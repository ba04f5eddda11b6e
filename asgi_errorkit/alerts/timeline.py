"""What is told of alerts, and when: a state machine that is given the time, and does nothing else."""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from math import inf
from typing import Any, NamedTuple

from asgi_errorkit.alerts.finding import Finding, rank
from asgi_errorkit.alerts.timing import Silence, Timing

__all__ = ["FIRING", "HAPPENED", "RESOLVED", "Change", "Item", "Notice", "Step", "Timeline"]

FIRING, RESOLVED, HAPPENED = "firing", "resolved", "happened"

_MOST_GROUPS = 200
_MOST_ALERTS = 100
_MOST_SILENCES = 100
_HOUR_SECONDS = 3600.0
_UNTOLD = -1


class Change(NamedTuple):
    """An alert that has begun, is over, or happened; ``muted`` says why it will not be told, or ""."""

    finding: Finding
    status: str
    at: float
    muted: str


class Item(NamedTuple):
    """An alert as a notice tells of it; ``times`` is how often it happened."""

    finding: Finding
    status: str
    since: float
    times: int


class Notice(NamedTuple):
    """What is to be told now of the alerts of one type.

    ``status`` is "firing" while any goes on, "resolved" when none does any more, "happened" where
    there is nothing that could end.
    """

    type: str
    status: str
    severity: str
    at: float
    items: list[Item]


class Step(NamedTuple):
    """What a step of the time has brought."""

    changes: list[Change]
    notices: list[Notice]


@dataclass(slots=True)
class _Alert:
    """One alert from when it is found until it has been told that it is over."""

    finding: Finding
    since: float
    seen_at: float
    count: int = 1
    muted: str = ""
    told_rank: int = _UNTOLD  # of the severity that it was told with
    ended_at: float | None = None

    @property
    def is_news(self) -> bool:
        """Whether it is to be told, for the first time or as severer than before."""
        is_severer = self.told_rank < rank(self.finding.severity)
        return is_severer and not self.muted and self.ended_at is None

    @property
    def goes_on(self) -> bool:
        return not self.finding.happened and self.ended_at is None

    @property
    def status(self) -> str:
        if self.finding.happened:
            return HAPPENED
        return FIRING if self.ended_at is None else RESOLVED

    def find_again(self, finding: Finding, now: float) -> bool:
        """Whether that is news to those who follow: it was over."""
        was_over, self.ended_at = self.ended_at is not None, None
        self.finding, self.seen_at = finding, now
        self.count += finding.happened
        return was_over


@dataclass(slots=True)
class _Group:
    """The alerts of one type, by their keys."""

    alerts: dict[str, _Alert] = field(default_factory=dict)
    notified_at: float = -inf


class Timeline:
    """Is told what the rules find, step by step, and says what is to be told.

    Every alert that it takes is told once, unless it is muted for as long as it is found: by a
    silence, or by a severer alert on the same subject. What was told is told to be over, once, also
    if it is muted then. Of one type there is one notice in an interval. Times are seconds of any
    clock that does not go back. One thread steps.
    """

    def __init__(self, timing: Timing) -> None:
        self.timing = timing
        self.silences: list[Silence] = []
        self.unsaid = {"silenced": 0, "inhibited": 0, "overflowed": 0}
        self.held_back = 0  # types whose notices wait for the next hour
        self._groups: dict[str, _Group] = {}
        self._sent: deque[float] = deque()

    def step(self, now: float, findings: Iterable[Finding]) -> Step:
        """Go on to ``now``, at which the rules find this, and all of this."""
        self.silences = [silence for silence in self.silences if silence.until > now]
        begun = self._take(findings, now)
        self._mute(now)
        changes = [Change(each.finding, each.status, now, each.muted) for each in begun]
        changes += self._end(now)
        notices = self._notices(now)
        self._forget(now)
        return Step(changes, notices)

    def last_words(self, now: float) -> list[Notice]:
        """What has not been told yet, before its time: nobody will be there then."""
        untold = [
            (kind, group)
            for kind, group in self._groups.items()
            if any(alert.is_news for alert in group.alerts.values())
        ]
        return [self._told(kind, group, now) for kind, group in untold if self._has_room(now)]

    def silence(self, silence: Silence) -> None:
        """Mute what it covers, in the place of another of the same name. The oldest beyond 100 goes."""
        self.unsilence(silence.what)
        self.silences = [*self.silences, silence][-_MOST_SILENCES:]

    def unsilence(self, what: str) -> None:
        """End the silence of that name."""
        self.silences = [each for each in self.silences if each.what != what]

    def alerts(self) -> list[Item]:
        """What goes on now, muted or not, the severest first."""
        going = [alert for _, alert in self._all() if alert.goes_on]
        going.sort(key=lambda alert: (-rank(alert.finding.severity), alert.since))
        return [_item(alert) for alert in going]

    # Taking

    def _take(self, findings: Iterable[Finding], now: float) -> list[_Alert]:
        """Those that begin, or begin again."""
        begun = []
        for finding in findings:
            group = self._group(finding.type)
            known = None if group is None else group.alerts.get(finding.key)
            if known is not None:
                if known.find_again(finding, now):
                    begun.append(known)
            elif group is None or len(group.alerts) >= _MOST_ALERTS:
                self.unsaid["overflowed"] += 1
            else:
                group.alerts[finding.key] = alert = _Alert(finding, since=now, seen_at=now)
                begun.append(alert)
        return begun

    def _group(self, kind: str) -> _Group | None:
        group = self._groups.get(kind)
        if group is None and len(self._groups) < _MOST_GROUPS:
            group = self._groups[kind] = _Group()
        return group

    def _mute(self, now: float) -> None:
        """Say of each why it is not to be told. What is not found any more stays as it was muted."""
        alerts = [alert for _, alert in self._all()]
        silenced = {id(alert) for alert in alerts if self._is_silenced(alert)}
        greatest: dict[str, int] = {}
        for alert in alerts:
            if alert.goes_on and id(alert) not in silenced:
                subject = alert.finding.subject
                greatest[subject] = max(greatest.get(subject, 0), rank(alert.finding.severity))
        for alert in alerts:
            is_lesser = rank(alert.finding.severity) < greatest.get(alert.finding.subject, 0)
            why = "silenced" if id(alert) in silenced else "inhibited" if is_lesser else ""
            alert.muted = why if alert.seen_at == now else alert.muted or why

    def _is_silenced(self, alert: _Alert) -> bool:
        finding = alert.finding
        return any(silence.covers(finding.type, finding.key) for silence in self.silences)

    def _end(self, now: float) -> list[Change]:
        """What is over. What was told stays until that is told too, what was muted is let go."""
        changes = []
        for group, alert in list(self._all()):
            is_gone = now - alert.seen_at >= self.timing.resolve_seconds and alert.seen_at < now
            if alert.finding.happened:
                if alert.muted:
                    self._let_go(group, alert)
            elif alert.ended_at is None and is_gone:
                if alert.told_rank != _UNTOLD:
                    alert.ended_at = now
                elif alert.muted:
                    self._let_go(group, alert)
                else:
                    continue  # it is to be told first
                changes.append(Change(alert.finding, RESOLVED, now, alert.muted))
        return changes

    def _let_go(self, group: _Group, alert: _Alert) -> None:
        self.unsaid[alert.muted] += 1
        del group.alerts[alert.finding.key]

    # Telling

    def _notices(self, now: float) -> list[Notice]:
        """Those that are due, the severest first, as far as the hour has room."""
        due = [
            (-_severest(group.alerts.values()), due_at, kind)
            for kind, group in self._groups.items()
            if (due_at := self._due_at(group)) <= now
        ]
        told = [
            self._told(kind, self._groups[kind], now)
            for _, _, kind in sorted(due)
            if self._has_room(now)
        ]
        self.held_back = len(due) - len(told)
        return told

    def _due_at(self, group: _Group) -> float:
        timing, last = self.timing, group.notified_at
        times = [inf]
        for alert in group.alerts.values():
            if alert.is_news:
                times.append(max(alert.since + timing.wait_seconds, last + timing.interval_seconds))
            elif alert.ended_at is not None:
                times.append(last + timing.interval_seconds)
            elif alert.told_rank != _UNTOLD and not alert.muted:
                times.append(last + timing.repeat_seconds)
        return min(times)

    def _has_room(self, now: float) -> bool:
        while self._sent and self._sent[0] <= now - _HOUR_SECONDS:
            self._sent.popleft()
        return len(self._sent) < self.timing.most_per_hour

    def _told(self, kind: str, group: _Group, now: float) -> Notice:
        """All that there is to tell of a type; what needs no more telling is let go."""
        alerts = group.alerts.values()
        told = [alert for alert in alerts if not alert.muted or alert.ended_at is not None]
        items = [_item(alert) for alert in told]
        for alert in told:
            alert.told_rank = rank(alert.finding.severity)
            if not alert.goes_on:
                del group.alerts[alert.finding.key]
        group.notified_at = now
        self._sent.append(now)
        open_items = [item for item in items if item.status != RESOLVED]
        severest = max(open_items or items, key=lambda item: rank(item.finding.severity))
        return Notice(kind, _status(items), severest.finding.severity, now, items)

    def _forget(self, now: float) -> None:
        for kind, group in list(self._groups.items()):
            if not group.alerts and now - group.notified_at >= self.timing.interval_seconds:
                del self._groups[kind]

    def _all(self) -> Iterator[tuple[_Group, _Alert]]:
        return (
            (group, alert) for group in self._groups.values() for alert in group.alerts.values()
        )

    # For who takes over

    def as_dict(self) -> dict[str, Any]:
        """All of it as JSON-able data, for `told`."""
        return {
            "groups": {
                kind: {
                    "notified_at": None if group.notified_at == -inf else group.notified_at,
                    "alerts": [_row(alert) for alert in group.alerts.values()],
                }
                for kind, group in self._groups.items()
            },
            "silences": [list(silence) for silence in self.silences],
            "sent": list(self._sent),
            "unsaid": dict(self.unsaid),
        }

    @classmethod
    def told(
        cls, timing: Timing, told: Mapping[str, Any], *, now: float, later: float = 0.0
    ) -> "Timeline":
        """The timeline that was told of with `as_dict`, by a clock that was so much ``later``.

        What went on then counts as found now: whoever takes over looks for it first. Raises
        KeyError, TypeError, ValueError or AttributeError for what is none.
        """
        timeline = cls(timing)
        for kind, group in list(told["groups"].items())[:_MOST_GROUPS]:
            alerts = [_alert(row, now=now, later=later) for row in group["alerts"][:_MOST_ALERTS]]
            at = group["notified_at"]
            timeline._groups[kind] = _Group(
                {alert.finding.key: alert for alert in alerts},
                -inf if at is None else min(now, float(at) - later),
            )
        timeline.silences = [
            Silence(str(what), float(until) - later, str(why))
            for what, until, why in told["silences"][-_MOST_SILENCES:]
        ]
        sent = [min(now, float(at) - later) for at in told["sent"]]
        timeline._sent.extend(sorted(sent)[-timing.most_per_hour :])
        for why in timeline.unsaid:
            timeline.unsaid[why] = int(told["unsaid"][why])
        return timeline


def _severest(alerts: Iterable[_Alert]) -> int:
    return max(rank(alert.finding.severity) for alert in alerts)


def _item(alert: _Alert) -> Item:
    return Item(alert.finding, alert.status, alert.since, alert.count)


def _status(items: list[Item]) -> str:
    statuses = {item.status for item in items}
    return FIRING if FIRING in statuses else HAPPENED if HAPPENED in statuses else RESOLVED


def _row(alert: _Alert) -> dict[str, Any]:
    finding = alert.finding
    row: dict[str, Any] = {"finding": {**asdict(finding), "values": dict(finding.values)}}
    for name in ("since", "count", "muted", "told_rank", "ended_at"):
        row[name] = getattr(alert, name)
    return row


def _alert(row: Mapping[str, Any], *, now: float, later: float) -> _Alert:
    ended_at = row["ended_at"]
    return _Alert(
        Finding(**row["finding"]),
        since=min(now, float(row["since"]) - later),
        seen_at=now,
        count=int(row["count"]),
        muted=str(row["muted"]),
        told_rank=int(row["told_rank"]),
        ended_at=None if ended_at is None else min(now, float(ended_at) - later),
    )
