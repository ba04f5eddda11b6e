"""What is told of alerts, and when: a state machine that is given the time, and does nothing else."""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from math import inf
from typing import Any, NamedTuple

from asgi_errorkit.alerts.finding import ALERT_TYPES, Finding, rank
from asgi_errorkit.alerts.timing import LONGEST_SILENCE_SECONDS, Silence, Timing

__all__ = [
    "FIRING",
    "HAPPENED",
    "RESOLVED",
    "Change",
    "Item",
    "Notice",
    "Step",
    "Timeline",
    "count_of",
]

FIRING, RESOLVED, HAPPENED = "firing", "resolved", "happened"

_MOST_GROUPS = 200
_MOST_ALERTS = 100  # of one type
_MOST_OF_ALL = 2000  # a step looks at each of them
_CRITICAL = rank("critical")
_KEPT_FOR_CRITICAL = 6  # one of so many notices of an hour
_MOST_SILENCES = 100
_HOUR_SECONDS = 3600.0
_UNTOLD = -1
_MOST_COUNT = 2**48


class Change(NamedTuple):
    """An alert that has begun, is over, or happened; ``muted`` says why it will not be told, or ""."""

    finding: Finding
    status: str
    at: float
    muted: str


class Item(NamedTuple):
    """An alert as a notice tells of it; ``times`` is how often it happened, ``muted`` as of a `Change`."""

    finding: Finding
    status: str
    since: float
    times: int
    muted: str = ""


class Notice(NamedTuple):
    """What is to be told now of the alerts of one type.

    ``status`` is "firing" while any goes on, "resolved" when none does any more, "happened" where
    there is nothing that could end. ``beyond`` had no room since the notice before; ``held_back``
    are the types for which the hour has no more room.
    """

    type: str
    status: str
    severity: str
    at: float
    items: list[Item]
    beyond: int = 0
    held_back: int = 0


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
    def is_told(self) -> bool:
        """Whether the next notice of its type is to tell of it: also that it is over, muted or not."""
        return not self.muted or self.ended_at is not None

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
    beyond: int = 0  # how many had no room since then


class Timeline:
    """Is told what the rules find, step by step, and says what is to be told.

    Every alert that it takes is told once, unless it is muted for as long as it is found: by a
    silence, or by a severer alert on the same subject. What was told is told to be over, once, also
    if it is muted then. Of one type there is one notice in an interval. There are at most 100 alerts
    of a type, and 2,000 in 200 types beside the kit's own, which always have room: what is beyond is
    counted. Times are seconds of any clock that does not go back. One thread steps.
    """

    def __init__(self, timing: Timing) -> None:
        self.timing = timing
        self.silences: list[Silence] = []
        self.unsaid = {"silenced": 0, "inhibited": 0, "overflowed": 0}
        self.held_back = 0  # types whose notices wait for the next hour
        self._groups: dict[str, _Group] = {}
        self._sent: deque[float] = deque()
        self._overflown: set[tuple[str, str]] = set()  # as of the step before

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
        untold.sort(key=lambda each: -_severest(each[1]))
        return [
            self._told(kind, group, now)
            for kind, group in untold
            if self._has_room(now, _severest(group))
        ]

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
        overflown: set[tuple[str, str]] = set()
        left = _MOST_OF_ALL - sum(
            len(group.alerts) for kind, group in self._groups.items() if kind not in ALERT_TYPES
        )
        for finding in findings:
            group = self._group(finding.type)
            known = None if group is None else group.alerts.get(finding.key)
            is_own = finding.type in ALERT_TYPES
            if known is not None:
                if known.find_again(finding, now):
                    begun.append(known)
            elif group is None or len(group.alerts) >= _MOST_ALERTS or (left <= 0 and not is_own):
                self._overflow(finding, group, overflown)
            else:
                group.alerts[finding.key] = alert = _Alert(finding, since=now, seen_at=now)
                left -= not is_own
                begun.append(alert)
        self._overflown = overflown
        return begun

    def _group(self, kind: str) -> _Group | None:
        group = self._groups.get(kind)
        if group is None and (len(self._groups) < _MOST_GROUPS or kind in ALERT_TYPES):
            group = self._groups[kind] = _Group()
        return group

    def _overflow(
        self, finding: Finding, group: _Group | None, overflown: set[tuple[str, str]]
    ) -> None:
        """Count it, once for as long as it goes on to be found."""
        name = (finding.type, finding.key)
        is_counted = not finding.happened and (name in self._overflown or name in overflown)
        overflown.add(name)
        if not is_counted:
            self.unsaid["overflowed"] += 1
            if group is not None:
                group.beyond += 1

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
            (-_severest(group), due_at, kind)
            for kind, group in self._groups.items()
            if (due_at := self._due_at(group)) <= now
        ]
        told = [
            self._told(kind, self._groups[kind], now)
            for severest, _, kind in sorted(due)
            if self._has_room(now, -severest)
        ]
        self.held_back = len(due) - len(told)
        if told and self.held_back:
            told[-1] = told[-1]._replace(held_back=self.held_back)
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

    def _has_room(self, now: float, severest: int) -> bool:
        """Whether the hour has: its last notices are kept for what is critical."""
        while self._sent and self._sent[0] <= now - _HOUR_SECONDS:
            self._sent.popleft()
        most = self.timing.most_per_hour
        if severest < _CRITICAL:
            most -= most // _KEPT_FOR_CRITICAL
        return len(self._sent) < most

    def _told(self, kind: str, group: _Group, now: float) -> Notice:
        """All that there is to tell of a type; what needs no more telling is let go."""
        alerts = group.alerts.values()
        told = [alert for alert in alerts if alert.is_told]
        items = [_item(alert) for alert in told]
        for alert in told:
            alert.told_rank = rank(alert.finding.severity)
            if not alert.goes_on:
                del group.alerts[alert.finding.key]
        group.notified_at = now
        beyond, group.beyond = group.beyond, 0
        self._sent.append(now)
        open_items = [item for item in items if item.status != RESOLVED]
        severest = max(open_items or items, key=lambda item: rank(item.finding.severity))
        return Notice(kind, _status(items), severest.finding.severity, now, items, beyond)

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
                    "beyond": group.beyond,
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
        for kind, group in list(told["groups"].items())[: _MOST_GROUPS + len(ALERT_TYPES)]:
            alerts = [_alert(row, now=now, later=later) for row in group["alerts"][:_MOST_ALERTS]]
            at = group["notified_at"]
            timeline._groups[kind] = _Group(
                {alert.finding.key: alert for alert in alerts},
                -inf if at is None else min(now, float(at) - later),
                count_of(group.get("beyond", 0)),
            )
        timeline.silences = [
            Silence(str(what), min(float(until) - later, now + LONGEST_SILENCE_SECONDS), str(why))
            for what, until, why in told["silences"][-_MOST_SILENCES:]
        ]
        sent = [min(now, float(at) - later) for at in told["sent"]]
        timeline._sent.extend(sorted(sent)[-timing.most_per_hour :])
        for why in timeline.unsaid:
            timeline.unsaid[why] = count_of(told["unsaid"][why])
        return timeline


def _severest(group: _Group) -> int:
    """The rank of the severest that is to be told."""
    return max(rank(alert.finding.severity) for alert in group.alerts.values() if alert.is_told)


def _item(alert: _Alert) -> Item:
    return Item(alert.finding, alert.status, alert.since, alert.count, alert.muted)


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
        count=count_of(row["count"]),
        muted=str(row["muted"]),
        told_rank=max(_UNTOLD, min(int(row["told_rank"]), _CRITICAL)),
        ended_at=None if ended_at is None else min(now, float(ended_at) - later),
    )


def count_of(told: Any) -> int:
    """A count as it was kept; raises TypeError or ValueError for what is none."""
    count = int(told)
    if not 0 <= count < _MOST_COUNT:
        raise ValueError("nobody has counted that far")
    return count
