"""Whatever comes in which order: nothing is lost unsaid, nothing is said too often.

Hypothesis lets findings come and go, silences begin and end, processes take over from each other,
and time go by in steps of any length, and looks at all that is told.
"""

from collections import defaultdict
from itertools import pairwise

import orjson
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from asgi_errorkit.alerts.finding import Finding, rank
from asgi_errorkit.alerts.timeline import FIRING, HAPPENED, RESOLVED, Item, Step, Timeline
from asgi_errorkit.alerts.timing import Silence, Timing

TIMING = Timing(
    wait_seconds=30,
    interval_seconds=300,
    repeat_seconds=3600,
    resolve_seconds=60,
    most_per_hour=4,
)
HOUR = 3600.0

LASTING = [
    Finding("A", "a", "medium", key="a1", subject="db"),
    Finding("A", "a", "medium", key="a2"),
    Finding("B", "b", "high", key="b", subject="db"),
    Finding("C", "c", "critical", key="c", subject="db"),
    Finding("C", "c", "low", key="c2"),
]
EVENTS = [
    Finding("A", "h", "high", key="h1", happened=True),
    Finding("D", "h", "medium", key="h2", subject="db", happened=True),
]
TIMES = st.sampled_from([0.5, 1, 10, 29, 30, 31, 60, 90, 299, 300, 301, 1000, 3600, 7300])


class Timelines(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.timeline = Timeline(TIMING)
        self.found: set[int] = set()
        self.told_at: dict[str, list[float]] = defaultdict(list)
        self.sent: list[float] = []
        self.open: set[str] = set()  # begun, and neither told to be over nor let go
        self.fired: dict[str, float] = {}  # told to be firing, and not to be over: since when
        self.begun = self.ended = 0

    def findings(self) -> list[Finding]:
        return [LASTING[number] for number in sorted(self.found)]

    @rule(number=st.integers(0, len(LASTING) - 1))
    def begin(self, number: int) -> None:
        self.found.add(number)

    @rule(number=st.integers(0, len(LASTING) - 1))
    def stop(self, number: int) -> None:
        self.found.discard(number)

    @rule(what=st.sampled_from(["A", "b", "C", "h2"]), seconds=TIMES)
    def silence(self, what: str, seconds: float) -> None:
        self.timeline.silence(Silence(what, self.now + seconds))

    @rule(what=st.sampled_from(["A", "b", "C", "h2"]))
    def unsilence(self, what: str) -> None:
        self.timeline.unsilence(what)

    @rule(later=st.sampled_from([0.0, 500.0, -2000.0]))
    def take_over(self, later: float) -> None:
        """Another process goes on: no law below may notice."""
        kept = orjson.loads(orjson.dumps(self.timeline.as_dict()))
        between = Timeline.told(TIMING, kept, now=self.now - later, later=later)
        kept = orjson.loads(orjson.dumps(between.as_dict()))
        self.timeline = Timeline.told(TIMING, kept, now=self.now, later=-later)

    @rule(event=st.sampled_from(EVENTS))
    def happen(self, event: Finding) -> None:
        self.step([*self.findings(), event])

    @rule(seconds=TIMES)
    def go_on(self, seconds: float) -> None:
        self.now += seconds
        self.step(self.findings())

    def step(self, findings: list[Finding]) -> None:
        self.heed(self.timeline.step(self.now, findings), findings)

    def heed(self, step: Step, findings: list[Finding]) -> None:
        for change in step.changes:
            key = change.finding.key
            if change.status == RESOLVED:
                if key not in self.fired:
                    self.open.discard(key)  # let go, for it was muted
            elif key not in self.open:
                self.begun += 1
                self.open |= {key} if change.status == FIRING else set()
        for notice in step.notices:
            self.told_at[notice.type].append(notice.at)
            self.sent.append(notice.at)
            for item in notice.items:
                self.heed_item(item, findings)

    def heed_item(self, item: Item, findings: list[Finding]) -> None:
        key = item.finding.key
        if item.status == RESOLVED:
            assert key in self.fired, "told to be over, and was never told to go on"
            del self.fired[key]
            self.open.discard(key)
            self.ended += 1
            return
        assert not self.is_muted(item.finding, findings), "told although it is muted"
        if item.status == HAPPENED:
            self.ended += 1
        else:
            self.fired.setdefault(key, self.now)

    def is_muted(self, finding: Finding, findings: list[Finding]) -> bool:
        if any(s.covers(finding.type, finding.key) for s in self.timeline.silences):
            return True
        return any(
            other.subject == finding.subject
            and rank(other.severity) > rank(finding.severity)
            and not any(s.covers(other.type, other.key) for s in self.timeline.silences)
            for other in findings
            if not other.happened
        )

    @invariant()
    def no_type_is_told_twice_within_the_interval(self) -> None:
        for times in self.told_at.values():
            assert all(after - before >= 300 for before, after in pairwise(times))

    @invariant()
    def no_hour_has_more_than_its_share(self) -> None:
        assert all(sum(at <= other < at + HOUR for other in self.sent) <= 4 for at in self.sent)

    @invariant()
    def nothing_that_is_due_waits_while_there_is_room(self) -> None:
        """What goes on unmuted is told by the first step after its time."""
        lately = sum(at > self.now - HOUR for at in self.sent)
        if lately < 4:
            assert self.timeline.held_back == 0

    def teardown(self) -> None:
        """In the end each alert was told, or was muted for as long as it was found."""
        self.timeline.silences = []
        self.found.clear()
        for _ in range(200):
            self.now += 100
            self.step([])
        assert not self.fired
        assert not self.timeline.alerts()
        assert self.begun == self.ended + sum(self.timeline.unsaid.values())
        self.no_type_is_told_twice_within_the_interval()
        self.no_hour_has_more_than_its_share()


TestTimelines = Timelines.TestCase
TestTimelines.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
