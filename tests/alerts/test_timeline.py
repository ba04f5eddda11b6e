"""What is told of alerts, and when: step by step with a clock that is set by hand."""

from itertools import pairwise
from typing import Any

import orjson
import pytest

from asgi_errorkit.alerts.finding import ALERT_TYPES, Finding
from asgi_errorkit.alerts.timeline import FIRING, HAPPENED, RESOLVED, Notice, Timeline
from asgi_errorkit.alerts.timing import Silence, Timing
from asgi_errorkit.testing import HandClock

WAIT, INTERVAL, REPEAT, RESOLVE = 30.0, 300.0, 14_400.0, 60.0


class Told:
    """A timeline with its clock: steps every few seconds, and keeps the notices with their times."""

    def __init__(self, **timing: Any) -> None:
        self.clock = HandClock(0.0)
        self.timeline = Timeline(Timing(**timing))
        self.notices: list[Notice] = []
        self.changes: list[tuple[float, str, str]] = []

    def go_on(self, seconds: float, *findings: Finding, every: float = 5.0) -> list[Notice]:
        """Let time go by, in which the rules find this; what happened is found at the first step."""
        before, until = len(self.notices), self.clock.at + seconds
        lasting = [finding for finding in findings if not finding.happened]
        self.step(*findings)
        while self.clock.at + every <= until:
            self.clock.move(every)
            self.step(*lasting)
        return self.notices[before:]

    def step(self, *findings: Finding) -> None:
        step = self.timeline.step(self.clock.at, findings)
        self.notices += step.notices
        self.changes += [(self.clock.at, c.status, c.finding.key) for c in step.changes]


def alert(kind: str = "A", severity: str = "high", **more: Any) -> Finding:
    return Finding(kind, more.pop("message", f"{kind} is wrong"), severity, **more)


def short(notices: list[Notice]) -> list[tuple[float, str, str]]:
    return [(notice.at, notice.type, notice.status) for notice in notices]


def keys(notice: Notice) -> list[tuple[str, str]]:
    return [(item.finding.key, item.status) for item in notice.items]


def test_the_first_notice_waits_for_more_of_its_kind() -> None:
    """Alerts of one type that come within 30 s are told in one notice."""
    told = Told()
    told.go_on(20, alert(key="one"))
    told.go_on(20, alert(key="one"), alert(key="two"))
    assert short(told.notices) == [(WAIT, "A", FIRING)]
    assert keys(told.notices[0]) == [("one", FIRING), ("two", FIRING)]


def test_types_are_told_apart() -> None:
    told = Told()
    assert short(told.go_on(40, alert("A"), alert("B"))) == [
        (WAIT, "A", FIRING),
        (WAIT, "B", FIRING),
    ]


def test_what_comes_later_waits_for_the_interval() -> None:
    """Of one type there is one notice in five minutes, whatever comes meanwhile."""
    told = Told()
    told.go_on(40, alert(key="one"))
    told.go_on(400, alert(key="one"), alert(key="two"))
    assert short(told.notices) == [(WAIT, "A", FIRING), (WAIT + INTERVAL, "A", FIRING)]
    assert keys(told.notices[1]) == [("one", FIRING), ("two", FIRING)]


def test_what_goes_on_is_told_again_after_four_hours() -> None:
    told = Told()
    told.go_on(9 * 3600, alert(), every=10.0)
    assert [notice.at for notice in told.notices] == [WAIT, WAIT + REPEAT, WAIT + 2 * REPEAT]


def test_it_is_told_once_that_it_is_over() -> None:
    """Not before it has not been found for a minute, and not within the interval."""
    told = Told()
    told.go_on(40, alert())
    over = told.go_on(4 * 3600, every=10.0)
    assert [notice.status for notice in over] == [RESOLVED]
    assert over[0].at == pytest.approx(WAIT + INTERVAL, abs=10)
    assert told.timeline.alerts() == []


def test_what_comes_and_goes_all_day_is_told_six_times() -> None:
    """Every ten seconds, of 20 types: each is told as one that goes on, and the hours have room."""
    told, flapping = Told(), [alert(f"T{n}") for n in range(20)]
    for _ in range(24 * 3600 // 20):
        told.go_on(5, *flapping)
        told.clock.move(5)
        told.go_on(5)
        told.clock.move(5)
    assert len(told.notices) == 20 * 6
    assert {notice.status for notice in told.notices} == {FIRING}
    assert len(told.changes) == 20


def test_what_comes_and_goes_is_one_alert() -> None:
    """What is found again within a minute has not been over."""
    told = Told()
    for _ in range(10):
        told.go_on(50, alert())
        told.go_on(50)
    assert short(told.notices) == [(WAIT, "A", FIRING)]
    assert [status for _, status, _ in told.changes] == [FIRING]


def test_what_is_over_before_it_was_told_is_told_first() -> None:
    """No alert is lost for being short: it is told, and then that it is over."""
    told = Told(resolve_seconds=5)
    told.go_on(2, alert())
    told.go_on(2000)
    assert [notice.status for notice in told.notices] == [FIRING, RESOLVED]


def test_what_begins_again_before_its_end_was_told_goes_on() -> None:
    """An end that was not told does not need to be, but a beginning does: one of each, by turns."""
    told = Told()
    told.go_on(40, alert())
    told.go_on(100)  # over, but within the interval
    told.go_on(600, alert())
    assert [notice.status for notice in told.notices] == [FIRING]
    assert [status for _, status, _ in told.changes] == [FIRING, RESOLVED, FIRING]
    assert [n.status for n in told.go_on(2000)] == [RESOLVED]


def test_the_interval_holds_over_an_end() -> None:
    told = Told()
    told.go_on(40, alert())
    told.go_on(300)
    told.go_on(600, alert())
    times = [notice.at for notice in told.notices]
    assert [notice.status for notice in told.notices] == [FIRING, RESOLVED, FIRING]
    assert all(later - earlier >= INTERVAL for earlier, later in pairwise(times))


def test_what_becomes_severer_is_told_again() -> None:
    told = Told()
    told.go_on(600, alert(severity="medium"))
    told.go_on(600, alert(severity="critical"))
    told.go_on(600, alert(severity="low"))
    assert [(n.status, n.severity) for n in told.notices] == [
        (FIRING, "medium"),
        (FIRING, "critical"),
    ]


def test_what_happened_is_told_once() -> None:
    """With how often, and without an end."""
    told = Told()
    for _ in range(3):
        told.go_on(5, alert(happened=True))
    told.go_on(4000)
    assert short(told.notices) == [(WAIT, "A", HAPPENED)]
    assert told.notices[0].items[0].times == 3
    assert told.timeline.alerts() == []


def test_a_notice_tells_of_all_of_its_type() -> None:
    """What is over, what goes on, and what happened: it is firing while anything goes on."""
    told = Told()
    told.go_on(60, alert(key="one"), alert(key="two"))
    told.go_on(200, alert(key="two"))
    told.go_on(100, alert(key="two"), alert(key="three", happened=True))
    assert keys(told.notices[1]) == [("one", RESOLVED), ("two", FIRING), ("three", HAPPENED)]
    assert told.notices[1].status == FIRING


# Mutes


def test_the_lesser_is_not_told_beside_the_greater() -> None:
    """On one subject the severest is told; the others are not, and neither is their end."""
    told = Told()
    lesser, greater = alert("L", "high", subject="db"), alert("G", "critical", subject="db")
    told.go_on(600, lesser, greater)
    told.go_on(3600)
    assert [(n.type, n.status) for n in told.notices] == [("G", FIRING), ("G", RESOLVED)]
    assert told.timeline.unsaid["inhibited"] == 1


def test_the_lesser_is_told_when_the_greater_is_over() -> None:
    told = Told()
    lesser, greater = alert("L", "high", subject="db"), alert("G", "critical", subject="db")
    told.go_on(600, lesser, greater)
    told.go_on(600, lesser)
    assert [(n.type, n.status) for n in told.notices] == [
        ("G", FIRING),
        ("L", FIRING),
        ("G", RESOLVED),
    ] or [(n.type, n.status) for n in told.notices] == [
        ("G", FIRING),
        ("G", RESOLVED),
        ("L", FIRING),
    ]


def test_what_was_muted_when_it_was_last_found_is_not_told_later() -> None:
    """When the mute is over, it is over too."""
    told = Told()
    lesser, greater = alert("L", "high", subject="db"), alert("G", "critical", subject="db")
    told.go_on(600, lesser, greater)
    told.go_on(10, lesser)
    told.go_on(3600)
    assert "L" not in [notice.type for notice in told.notices]


def test_what_was_told_is_told_to_be_over_although_it_is_muted() -> None:
    """Whoever was alerted learns that it is over."""
    told = Told()
    lesser, greater = alert("L", "high", subject="db"), alert("G", "critical", subject="db")
    told.go_on(60, lesser)
    told.go_on(60, lesser, greater)
    told.go_on(1200, greater)
    assert (RESOLVED, "L") in [(n.status, n.type) for n in told.notices]


def test_equals_do_not_mute_each_other() -> None:
    told = Told()
    told.go_on(60, alert("A", subject="db"), alert("B", subject="db"))
    assert [notice.type for notice in told.notices] == ["A", "B"]


@pytest.mark.parametrize("what", ["A", "A*", "one", "*"], ids=["type", "pattern", "key", "all"])
def test_what_is_silenced_is_not_told(what: str) -> None:
    """Neither when it begins nor again; it stays among the changes."""
    told = Told()
    told.timeline.silence(Silence(what, until=3600.0))
    told.go_on(3000, alert(key="one"))
    assert told.notices == []
    assert [status for _, status, _ in told.changes] == [FIRING]
    told.go_on(1200, alert(key="one"))
    assert short(told.notices) == [(3600.0, "A", FIRING)]


def test_what_is_over_while_it_is_silenced_was_never_said() -> None:
    told = Told()
    told.timeline.silence(Silence("A", until=600.0))
    told.go_on(100, alert(), alert(key="x", happened=True))
    told.go_on(2000)
    assert told.notices == []
    assert told.timeline.unsaid["silenced"] == 2


def test_a_silence_can_be_ended_and_replaced() -> None:
    told = Told()
    told.timeline.silence(Silence("A", until=600.0))
    told.timeline.silence(Silence("A", until=50_000.0))
    assert len(told.timeline.silences) == 1
    told.go_on(1000, alert())
    told.timeline.unsilence("A")
    told.go_on(10, alert())
    assert len(told.notices) == 1


def test_a_silenced_alert_mutes_no_other() -> None:
    """Or else nothing would be said at all."""
    told = Told()
    told.timeline.silence(Silence("G", until=6000.0))
    told.go_on(60, alert("L", "high", subject="db"), alert("G", "critical", subject="db"))
    assert [notice.type for notice in told.notices] == ["L"]


# Bounds


def test_no_hour_has_more_notices_than_allowed() -> None:
    """What is beyond waits for the next hour, the severest first, and is told then."""
    told = Told(most_per_hour=3)
    findings = [alert(f"T{n}", "medium") for n in range(5)] + [alert("WORST", "critical")]
    told.go_on(3600, *findings, every=5.0)
    assert len(told.notices) == 3
    assert told.notices[0].type == "WORST"
    assert told.timeline.held_back == 3
    told.go_on(3600, *findings, every=5.0)
    assert {notice.type for notice in told.notices} == {finding.type for finding in findings}
    times = [notice.at for notice in told.notices]
    assert all(sum(at <= each < at + 3600 for each in times) <= 3 for at in times)
    assert told.timeline.held_back == 0


def test_alerts_of_a_type_are_bounded() -> None:
    told = Told()
    told.go_on(0, *(alert(key=f"k{n}") for n in range(150)))
    assert len(told.timeline.alerts()) == 100
    assert told.timeline.unsaid["overflowed"] == 50


def test_types_are_bounded() -> None:
    told = Told()
    told.go_on(0, *(alert(f"T{n}") for n in range(250)))
    assert len(told.timeline.alerts()) == 200
    assert told.timeline.unsaid["overflowed"] == 50


def test_all_alerts_together_are_bounded() -> None:
    """A step looks at each of them, and all of them are kept."""
    told = Told()
    told.go_on(0, *(alert(f"T{n % 100}", key=f"k{n}") for n in range(5000)))
    assert len(told.timeline.alerts()) == 2000
    assert told.timeline.unsaid["overflowed"] == 3000


def test_what_has_no_room_is_counted_once_for_as_long_as_it_is_found() -> None:
    """And so is what comes back, and each that happened."""
    told, many = Told(), [alert(key=f"k{n}") for n in range(101)]
    told.go_on(100, *many)
    assert told.timeline.unsaid["overflowed"] == 1
    told.go_on(5, *many[:100])
    told.go_on(5, *many)
    assert told.timeline.unsaid["overflowed"] == 2
    happened = alert(key="h", happened=True)
    told.go_on(5, *many, happened, happened)
    assert told.timeline.unsaid["overflowed"] == 4


def test_a_notice_says_how_many_had_no_room() -> None:
    """Those since the notice before, also if another process tells it."""
    told, many = Told(), [alert(key=f"k{n}") for n in range(130)]
    told.go_on(10, *many)
    told.timeline = taken_over(told)
    told.go_on(30, *many[:100])
    (notice,) = told.notices
    assert (len(notice.items), notice.beyond) == (100, 30)
    (again,) = told.go_on(REPEAT, *many[:100], every=30.0)
    assert again.beyond == 0


def test_the_kits_own_types_always_have_room() -> None:
    """Names that somebody makes of what comes in take it from nobody else."""
    flood = [alert(f"T{n % 300}", "low", key=f"k{n}") for n in range(5000)]
    told = Told()
    told.go_on(10, *flood)
    own = [alert(kind, "critical", key=kind) for kind in ALERT_TYPES]
    told.go_on(60, *flood, *own)
    assert set(ALERT_TYPES) <= {item.finding.type for item in told.timeline.alerts()}
    told.timeline = taken_over(told)
    assert set(ALERT_TYPES) <= {item.finding.type for item in told.timeline.alerts()}


def test_what_is_critical_does_not_wait_for_the_lesser() -> None:
    """A sixth of the hour is kept for it; who is told something is told that the rest waits."""
    told = Told(most_per_hour=60)
    lesser = [alert(f"T{n}") for n in range(100)]
    told.go_on(600, *lesser)
    assert len(told.notices) == 50
    assert [notice.held_back for notice in told.notices[48:]] == [0, 50]
    worst = [alert(f"C{n}", "critical") for n in range(12)]
    told.go_on(60, *lesser, *worst)
    assert [notice.severity for notice in told.notices[50:]] == ["critical"] * 10
    told.go_on(7200, *lesser, *worst)
    assert {notice.type for notice in told.notices} == {f.type for f in [*lesser, *worst]}


def test_what_is_over_is_forgotten() -> None:
    told = Told()
    told.go_on(40, alert())
    told.go_on(1200)
    assert told.timeline.as_dict()["groups"] == {}


def test_last_words_do_not_wait() -> None:
    """When nobody will be there at its time, what is untold is told at once, and once."""
    told = Told()
    told.go_on(5, alert("A"), alert("B", happened=True))
    last = told.timeline.last_words(told.clock.at)
    assert [(notice.type, notice.status) for notice in last] == [("A", FIRING), ("B", HAPPENED)]
    assert told.timeline.last_words(told.clock.at) == []


def test_the_severest_are_the_last_words() -> None:
    """Where the hour has no room for all."""
    told = Told(most_per_hour=2)
    told.go_on(5, alert("A", "low"), alert("B"), alert("C", "critical"))
    last = told.timeline.last_words(told.clock.at)
    assert [notice.type for notice in last] == ["C", "B"]


# Taking over


def taken_over(told: Told, later: float = 0.0) -> Timeline:
    kept = orjson.loads(orjson.dumps(told.timeline.as_dict()))
    return Timeline.told(told.timeline.timing, kept, now=told.clock.at - later, later=later)


def test_who_takes_over_does_not_tell_again() -> None:
    """What was told is not told within its repeat interval, by whichever process."""
    told = Told()
    told.go_on(100, alert())
    told.timeline = taken_over(told)
    told.go_on(REPEAT - 200, alert(), every=10.0)
    assert len(told.notices) == 1
    told.go_on(200, alert(), every=10.0)
    assert len(told.notices) == 2


def test_who_takes_over_tells_what_was_waiting() -> None:
    told = Told()
    told.go_on(10, alert(), alert("B", happened=True, values={"n": 1}))
    told.timeline = taken_over(told)
    assert len(told.go_on(60, alert())) == 2


def test_who_takes_over_tells_what_is_over_meanwhile() -> None:
    told = Told()
    told.go_on(100, alert())
    told.timeline = taken_over(told)
    assert [n.status for n in told.go_on(600)] == [RESOLVED]


def test_silences_and_the_hour_are_taken_over() -> None:
    told = Told(most_per_hour=1)
    told.timeline.silence(Silence("S", until=5000.0, why="maintenance"))
    told.go_on(100, alert("A"))
    told.timeline = taken_over(told)
    told.go_on(3000, alert("A"), alert("B"), alert("S", "critical"), every=10.0)
    assert [notice.type for notice in told.notices] == ["A"]
    assert told.timeline.silences == [Silence("S", 5000.0, "maintenance")]


def test_a_clock_that_was_wrong_silences_nobody_for_ever() -> None:
    """Who was told at a time decades from now, or before the clock was set, takes 30 days."""
    told = Told()
    told.timeline.silence(Silence("S", until=5000.0))
    kept = told.timeline.as_dict()
    (silence,) = Timeline.told(Timing(), kept, now=10.0, later=-1.5e9).silences
    assert silence.until == 10.0 + 30 * 86_400


def test_another_boot_has_another_clock() -> None:
    """Times are moved to the clock of who takes over."""
    told = Told()
    told.clock.at = 1_000_000.0
    told.go_on(100, alert())
    told.timeline = taken_over(told, later=999_000.0)
    told.clock.at = told.clock.at - 999_000.0
    assert told.go_on(REPEAT - 200, alert(), every=10.0) == []
    assert len(told.go_on(300, alert(), every=10.0)) == 1


@pytest.mark.parametrize(
    "kept",
    [
        {},
        {"groups": {"A": {"notified_at": "never", "alerts": []}}},
        {"groups": {"A": {"notified_at": None, "alerts": [{"finding": {}}]}}},
        {"groups": [], "silences": [], "sent": [], "unsaid": {}},
        {"groups": {}, "silences": [[1]], "sent": [], "unsaid": {}},
    ],
    ids=["nothing", "no time", "no finding", "no groups", "no silence"],
)
def test_what_makes_no_sense_is_not_taken_over(kept: Any) -> None:
    with pytest.raises((KeyError, TypeError, ValueError, AttributeError)):
        Timeline.told(Timing(), kept, now=0.0)


# Options


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"wait_seconds": -1}, ValueError, "wait_seconds must be"),
        ({"interval_seconds": 0}, ValueError, "interval_seconds must be"),
        ({"repeat_seconds": 10}, ValueError, "repeat_seconds must be"),
        ({"resolve_seconds": "60"}, TypeError, "resolve_seconds must be"),
        ({"most_per_hour": 0}, ValueError, "most_per_hour must be"),
    ],
)
def test_a_timing_that_cannot_be_is_refused(options: Any, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        Timing(**options)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"type": " "}, ValueError, "type must be the name"),
        ({"type": 7}, TypeError, "type must be a string"),
        ({"message": None}, TypeError, "message must be a string"),
        ({"severity": "worst"}, ValueError, "severity must be one of low, medium"),
        ({"values": [1]}, TypeError, "values must be a mapping"),
        ({"happened": 1}, TypeError, "happened must be True or False"),
    ],
)
def test_a_finding_that_cannot_be_is_refused(options: Any, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        Finding(**{"type": "A", "message": "m", **options})
