"""Whatever comes in which order: nothing is lost unsaid, nothing is said too often.

Hypothesis lets findings come and go, silences begin and end, processes take over from each other,
and time go by in steps of any length, and looks at all that is told.
"""

from collections import defaultdict
from itertools import pairwise

import orjson
from hypothesis import given, settings
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
    most_per_hour=6,
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
        self.sent_lesser: list[float] = []  # of nothing critical
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
            if all(item.finding.severity != "critical" for item in notice.items):
                self.sent_lesser.append(notice.at)
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
        for times, most in ((self.sent, 6), (self.sent_lesser, 5)):
            assert all(sum(at <= other < at + HOUR for other in times) <= most for at in times)

    @invariant()
    def nothing_that_is_due_waits_while_there_is_room(self) -> None:
        """What goes on unmuted is told by the first step after its time."""
        lately = sum(at > self.now - HOUR for at in self.sent)
        if lately < 5:  # the sixth is for what is critical
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

STEPS = st.lists(st.tuples(TIMES, st.sets(st.integers(0, len(LASTING) - 1)), st.booleans()))


@given(STEPS, st.integers(-10_000, 10_000))
@settings(max_examples=150, deadline=None)
def test_who_takes_over_at_any_moment_tells_what_the_one_before_would_have(
    steps: list[tuple[float, set[int], bool]], later: int
) -> None:
    """Word for word, wherever all that goes on has just been found: else it is looked for first."""
    one, other = Timeline(TIMING), Timeline(TIMING)
    now, shift = 0.0, 0
    for seconds, numbers, happens in steps:
        now += seconds
        findings = [*(LASTING[n] for n in sorted(numbers)), *(EVENTS if happens else [])]
        told, told_too = one.step(now, findings), other.step(now - shift, findings)
        assert told_too == moved(told, -shift)
        if {item.finding.key for item in one.alerts()} <= {finding.key for finding in findings}:
            kept = orjson.loads(orjson.dumps(other.as_dict()))
            shift += later
            other = Timeline.told(TIMING, kept, now=now - shift, later=later)


def moved(step: Step, by: float) -> Step:
    return Step(
        [change._replace(at=change.at + by) for change in step.changes],
        [
            notice._replace(
                at=notice.at + by,
                items=[item._replace(since=item.since + by) for item in notice.items],
            )
            for notice in step.notices
        ],
    )


@given(st.lists(st.tuples(st.sampled_from("AB"), st.integers(0, 150), st.booleans()), max_size=400))
@settings(max_examples=50, deadline=None)
def test_whatever_is_found_is_told_or_counted(found: list[tuple[str, int, bool]]) -> None:
    """Also beyond all bounds: each is in a notice, or in how many had no room, and not in both."""
    timeline = Timeline(TIMING)
    findings = [
        Finding(kind, "m", key=f"{number}{happened}", happened=happened)
        for kind, number, happened in found
    ]
    notices = timeline.step(0.0, findings).notices
    notices += timeline.step(31.0, [f for f in findings if not f.happened]).notices
    told = {(i.finding.type, i.finding.key) for notice in notices for i in notice.items}
    without = [f for f in findings if (f.type, f.key) not in told]
    lasting = {(f.type, f.key) for f in without if not f.happened}
    number = len(lasting) + sum(f.happened for f in without)
    assert timeline.unsaid["overflowed"] == number
    assert sum(notice.beyond for notice in notices) == number
    assert all(len(notice.items) <= 100 for notice in notices)
