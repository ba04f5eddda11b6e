"""What the kit's own rules find in which figures."""

import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from asgi_errorkit.alerts.asking import PatientRule
from asgi_errorkit.alerts.finding import ALERT_TYPES, Finding
from asgi_errorkit.alerts.groups import KnownErrors
from asgi_errorkit.alerts.rules import (
    Figures,
    Objective,
    Thresholds,
    burning,
    kit_rules,
    worker_died,
)
from asgi_errorkit.alerts.totals import Total, Totals
from asgi_errorkit.alerts.watch import Watch
from asgi_errorkit.error_counts import ErrorCounts, error_stats
from asgi_errorkit.errors import ErrorAction, ErrorInfo, ErrorSeverity, ErrorType
from asgi_errorkit.request_counts import RequestCounts, RouteCounts, request_stats, route_stats

POLICIES = {"database": 5, "model": 3, "external_service": 5, "authentication": 20, "cache": 10}


def errors_of(
    by_type: dict[str, int] | None = None,
    *,
    requests: int = 0,
    failed: int = 0,
    client_errors: int = 0,
    asking: dict[str, tuple[int, int]] | None = None,
    breakers: dict[str, Any] | None = None,
    minutes: float = 5,
) -> dict[str, Any]:
    """Statistics as the tracker makes them."""
    counts = ErrorCounts()
    counts.requests, counts.failed, counts.client_errors = requests, failed, client_errors
    counts.by_type = dict(by_type or {})
    counts.alerting = dict(asking or {})
    return error_stats(counts, minutes, circuit_breakers=breakers or {}, groups=0)


def performance_of(*durations: float, **more: Any) -> dict[str, Any]:
    counts, route = RequestCounts(), RouteCounts()
    counts.durations.add_all(list(durations))
    route.durations.add_all(list(durations))
    routes = {"GET /slow": route_stats(route)} if durations else {}
    return {**request_stats(counts, 300), "routes": routes, **more}


def figures(errors: Any = None, performance: Any = None, **more: Any) -> Figures:
    return Figures(
        errors=errors or errors_of(),
        performance=performance or {},
        alert_thresholds=POLICIES,
        total=more.get("total", lambda seconds: Total(0, 0, seconds)),
        now=0.0,
    )


def found(given: Figures, **thresholds: Any) -> list[Finding]:
    return [f for rule in kit_rules(Thresholds(**thresholds)) for f in rule(given)]  # type: ignore[union-attr]


def kinds(given: Figures, **thresholds: Any) -> list[str]:
    return [finding.type for finding in found(given, **thresholds)]


def test_the_ten_types_of_the_guide_are_there() -> None:
    assert list(ALERT_TYPES)[:10] == [
        "HIGH_ERROR_RATE",
        "CIRCUIT_BREAKER_TRIGGERED",
        "MEMORY_USAGE_HIGH",
        "SLOW_RESPONSE_TIME",
        "DATABASE_CONNECTION_FAILED",
        "MODEL_LOADING_FAILED",
        "EXTERNAL_SERVICE_DOWN",
        "RATE_LIMIT_EXCEEDED",
        "AUTHENTICATION_FAILURES",
        "PERMISSION_DENIED",
    ]


def test_nothing_is_found_where_nothing_happens() -> None:
    assert found(figures(errors_of(), performance_of())) == []


@pytest.mark.parametrize(
    ("errors", "is_high"),
    [
        (errors_of({"system": 25}), False),
        (errors_of({"system": 26}), True),
        (errors_of({"system": 26}, requests=10_000, failed=26), False),
        (errors_of({"system": 26}, requests=100, failed=26), True),
        (errors_of({"system": 3}, requests=4, failed=3), False),
        (errors_of({"not_found": 900}, requests=1000, client_errors=900), False),
    ],
    ids=["at 5 a minute", "above", "a small part", "a large part", "few requests", "the clients'"],
)
def test_a_high_error_rate(errors: Any, is_high: bool) -> None:
    """More than 5 errors a minute that are not the client's, and 5 % where there is traffic."""
    assert ("HIGH_ERROR_RATE" in kinds(figures(errors))) is is_high


@pytest.mark.parametrize(
    ("thresholds", "is_high"),
    [
        ({"errors_per_minute": None}, True),
        ({"errors_per_minute": None, "error_ratio": 0.6}, False),
        ({"errors_per_minute": None, "error_ratio": None}, False),
        ({"errors_per_minute": None, "least_requests": 50}, False),
        ({"errors_per_minute": 1, "error_ratio": None}, True),
    ],
    ids=["ratio", "higher ratio", "neither", "little traffic", "rate"],
)
def test_each_of_rate_and_ratio_can_be_left_out(thresholds: Any, is_high: bool) -> None:
    errors = errors_of({"system": 20}, requests=40, failed=20)
    assert ("HIGH_ERROR_RATE" in kinds(figures(errors), **thresholds)) is is_high


def test_each_open_circuit_is_an_alert() -> None:
    """On the subject of its type's errors, which it is severer than."""
    breakers = {"model:sdxl": {"error_count": 7}, "db": {"error_count": None}}
    told = found(figures(errors_of({"model": 3}, breakers=breakers)))
    assert [(f.key, f.message) for f in told[:2]] == [
        ("CIRCUIT_BREAKER_TRIGGERED:model:sdxl", "The circuit 'model:sdxl' is open after 7 errors"),
        ("CIRCUIT_BREAKER_TRIGGERED:db", "The circuit 'db' is open"),
    ]
    assert told[2].type == "MODEL_LOADING_FAILED"
    assert told[0].subject == told[2].subject
    assert (told[0].severity, told[2].severity) == ("critical", "high")


def test_the_circuit_of_a_type_of_errors_is_told_as_what_it_is() -> None:
    """An alert as severe, and no word of calls that are refused: code asks it, or nothing does."""
    (told,) = found(figures(errors_of({}, breakers={"model": {"error_count": 7}})))
    assert (told.type, told.severity) == ("CIRCUIT_BREAKER_TRIGGERED", "critical")
    assert told.message == (
        "The circuit of errors of the type 'model' is open after 7 errors: "
        "it refuses nothing unless code asks it"
    )


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("database", "DATABASE_CONNECTION_FAILED"),
        ("model", "MODEL_LOADING_FAILED"),
        ("external_service", "EXTERNAL_SERVICE_DOWN"),
        ("authentication", "AUTHENTICATION_FAILURES"),
    ],
)
def test_types_of_errors_alert_at_the_threshold_of_their_policy(name: str, kind: str) -> None:
    threshold = POLICIES[name]
    assert kind not in kinds(figures(errors_of({name: threshold - 1})))
    assert kind in kinds(figures(errors_of({name: threshold})))


def test_other_types_alert_if_their_policy_asks_for_it() -> None:
    assert kinds(figures(errors_of({"cache": 15}))) == []
    (told,) = found(figures(errors_of({"cache": 15}, asking={"cache": (15, 15)})))
    assert (told.type, told.key) == ("ERRORS_REPEATED", "ERRORS_REPEATED:cache")


def test_the_threshold_of_an_error_that_was_told_of_goes_first() -> None:
    """An `ErrorInfo` given to record_error has its own."""
    counts = ErrorCounts()
    info = ErrorInfo(ErrorType.MODEL, ErrorSeverity.HIGH, ErrorAction.ALERT, alert_threshold=2)
    for _ in range(2):
        counts.add(info)
    errors = error_stats(counts, 5, circuit_breakers={}, groups=0)
    assert kinds(figures(errors)) == ["MODEL_LOADING_FAILED"]


@pytest.mark.parametrize("error_type", [ErrorType.MODEL, ErrorType.DATABASE], ids=str)
def test_the_threshold_of_an_error_is_not_undercut_by_its_types(error_type: ErrorType) -> None:
    """The policy's own is for the errors that have not said theirs."""
    counts = ErrorCounts()
    own = ErrorInfo(error_type, ErrorSeverity.HIGH, ErrorAction.ALERT, alert_threshold=9)
    plain = ErrorInfo(error_type, ErrorSeverity.HIGH, ErrorAction.RETRY)

    def is_told() -> bool:
        return bool(kinds(figures(error_stats(counts, 5, circuit_breakers={}, groups=0))))

    for _ in range(8):
        counts.add(own)
        assert not is_told()
    for _ in range(POLICIES[error_type.value]):
        assert not is_told()
        counts.add(plain)
    assert is_told()
    counts = ErrorCounts()
    for _ in range(9):
        assert not is_told()
        counts.add(own)
    assert is_told()


@pytest.mark.parametrize(("number", "is_told"), [(4, True), (5, False), (None, False)])
def test_thresholds_of_types_can_be_given(number: int | None, is_told: bool) -> None:
    given = figures(errors_of({"model": 4}))
    assert bool(kinds(given, of_types={ErrorType.MODEL: number})) is is_told


@pytest.mark.parametrize(
    ("durations", "is_slow"),
    [([0.1] * 100, False), ([0.1] * 90 + [9.0] * 10, True), ([9.0] * 19, False)],
    ids=["fast", "slow", "too few"],
)
def test_slow_responses(durations: list[float], is_slow: bool) -> None:
    told = found(figures(performance=performance_of(*durations)))
    assert [f.type for f in told] == ["SLOW_RESPONSE_TIME"] * is_slow
    assert all("GET /slow" in f.message for f in told)


def test_memory_and_blocked_loops_are_told_of_each_worker() -> None:
    workers = [
        {"pid": 1, "memory_mb": 2000.0, "loop_lag_seconds": 0.1},
        {"pid": 2, "memory_mb": 100.0, "loop_lag_seconds": 2.5},
        {"pid": 3, "memory_mb": 100.0, "loop_lag_seconds": None},
    ]
    told = found(figures(performance=performance_of(workers=workers)))
    assert [f.key for f in told] == ["MEMORY_USAGE_HIGH:1", "EVENT_LOOP_BLOCKED:2"]


def test_without_a_record_this_process_is_told_of() -> None:
    process = {"memory_mb": 2000.0, "loop_lag_seconds": 3.0}
    told = kinds(figures(performance=performance_of(process=process)))
    assert told == ["MEMORY_USAGE_HIGH", "EVENT_LOOP_BLOCKED"]
    none = {"memory_mb": None, "loop_lag_seconds": None, "slow_seconds": None}
    assert found(figures(performance=performance_of(process=process)), **none) == []


def test_who_died_is_told_with_the_likeliest_cause() -> None:
    suspect = {"method": "GET", "path": "/{x}", "request_id": "r1"}
    crash = {"pid": 7, "in_flight": 2, "suspects": [suspect], "memory_mb": 10.0}
    told = worker_died(crash)
    assert told.message == (
        "Worker 7 died with 2 requests in flight; the likeliest: GET /{x} (request r1)"
    )
    assert (told.severity, told.happened) == ("critical", True)
    assert worker_died({"pid": 7, "suspects": []}).severity == "medium"
    alone = worker_died({"pid": 7, "in_flight": 1})
    assert alone.message == "Worker 7 died with 1 request in flight"


# Burn rates


def burn(*windows: tuple[float, float, float], **objective: Any) -> list[str]:
    """Windows in seconds, with the requests and failures in them."""
    told = {seconds: (requests, failed) for seconds, requests, failed in windows}
    ask = figures(total=lambda s: Total(*told.get(s, (0, 0)), known_seconds=s))
    return [f.key for f in burning(Objective(0.99, **objective), ask)]


@pytest.mark.parametrize(
    ("windows", "keys"),
    [
        ([(3600, 1000, 145), (300, 100, 15)], ["ERROR_BUDGET_BURNING:14.4"]),
        ([(3600, 1000, 143), (300, 100, 15)], []),
        ([(3600, 1000, 145), (300, 100, 14)], []),
        ([(21_600, 1000, 61), (1800, 100, 7)], ["ERROR_BUDGET_BURNING:6"]),
        ([(259_200, 1000, 11), (21_600, 1000, 11)], ["ERROR_BUDGET_BURNING:1"]),
        ([(3600, 99, 99), (300, 99, 99)], []),
    ],
    ids=["fast", "long too low", "short too low", "medium", "slow", "little traffic"],
)
def test_a_budget_burns_in_both_windows_or_not(windows: Any, keys: list[str]) -> None:
    """The pairs of the SRE workbook, at an objective of 99 %."""
    assert burn(*windows) == keys


def test_the_fast_pair_mutes_the_slow_ones_and_the_plain_rate() -> None:
    told = burn((3600, 1000, 500), (300, 100, 50), (21_600, 1000, 500), (1800, 100, 50))
    assert told == ["ERROR_BUDGET_BURNING:14.4", "ERROR_BUDGET_BURNING:6"]


def test_nothing_burns_before_anything_is_known() -> None:
    """Two windows of which the same minutes are known say the same twice."""
    ask = figures(total=lambda _: Total(1000, 900, 200.0))
    assert list(burning(Objective(0.99), ask)) == []


# Totals beyond the hour


class Traffic:
    """So many requests a second, of which some fail, as the statistics tell of an hour at most."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.seconds: list[tuple[float, int, int]] = []

    def go_on(self, totals: Totals, seconds: float, *, failed: int) -> None:
        until = self.now + seconds
        while self.now < until:
            self.now += 10
            self.seconds.append((self.now, 10, failed))
            totals.keep(self.now)

    def ask(self, minutes: float) -> tuple[int, int]:
        assert 0 < minutes <= 60
        within = [each for each in self.seconds if each[0] > self.now - minutes * 60]
        return sum(n for _, n, _ in within), sum(n for _, _, n in within)


def test_totals_reach_three_days_back() -> None:
    """Exact to the row, although the statistics know of an hour."""
    traffic = Traffic()
    totals = Totals(traffic.ask, now=traffic.now)
    traffic.go_on(totals, 3600 * 2, failed=5)
    traffic.go_on(totals, 3600 * 7, failed=0)
    assert totals.last(6 * 3600, traffic.now) == (21_600, 0, 21_600)
    requests, failed, known = totals.last(8 * 3600, traffic.now)
    assert (requests, failed) == (pytest.approx(28_800, rel=0.01), pytest.approx(1800, rel=0.01))
    assert totals.last(3 * 86_400, traffic.now) == (32_400, 3600, 32_400)
    assert known == 28_800


def test_totals_are_bounded() -> None:
    totals = Totals(lambda _: (1, 0), now=0.0)
    for n in range(2000):
        totals.keep(n * 300.0)
    assert len(totals.as_rows()) <= 866


def test_totals_are_taken_over_and_the_gap_is_asked_for() -> None:
    """Nothing is missing but what is older than the statistics' hour."""
    traffic = Traffic()
    totals = Totals(traffic.ask, now=traffic.now)
    traffic.go_on(totals, 7200, failed=1)
    kept = totals.as_rows()
    traffic.go_on(Totals(traffic.ask, now=0.0), 1800, failed=1)  # nobody keeps them
    again = Totals(traffic.ask, now=traffic.now)
    again.remember(kept, now=traffic.now)
    again.keep(traffic.now)
    assert again.last(7200 + 1800, traffic.now)[:2] == (9000, 900)


# New errors


def group(key: str, first: float, last: float, **more: Any) -> Any:
    return SimpleNamespace(
        fingerprint=key,
        error_type=ErrorType.MODEL,
        type_name=more.get("type_name", "ValueError"),
        message=more.get("message", "boom"),
        where=more.get("where", "app.py:7 load"),
        first_seen=first,
        last_seen=last,
        count=1,
        release=None,
    )


def test_an_error_is_new_once() -> None:
    known = KnownErrors(gone_seconds=86_400)
    (told,) = known.news([group("f1", 100, 100)], 101)
    assert (told.type, told.message) == ("NEW_ERROR", "ValueError: boom at app.py:7 load")
    assert known.news([group("f1", 100, 5000)], 5001) == []
    assert known.news([group("f1", 100, 5000)], 5001) == []


def test_an_error_that_was_gone_for_a_day_is_back() -> None:
    known = KnownErrors(gone_seconds=86_400)
    known.news([group("f1", 100, 100)], 101)
    (told,) = known.news([group("f1", 100, 90_000)], 90_001)
    assert told.type == "ERROR_CAME_BACK"
    assert known.news([group("f1", 100, 90_500)], 90_501) == []


def test_what_began_long_ago_is_no_news() -> None:
    """Who begins to watch knows nothing yet."""
    known = KnownErrors(gone_seconds=86_400)
    assert known.news([group("f1", 100, 9000)], 9001) == []


def test_what_is_remembered_is_not_new() -> None:
    known, again = KnownErrors(gone_seconds=86_400), KnownErrors(gone_seconds=86_400)
    known.news([group(f"f{n}", n, n) for n in range(2500)], 2500)
    again.remember(known.as_dict())
    assert len(again.as_dict()) == 2000
    assert again.news([group("f2499", 2499, 2499)], 2500) == []
    assert known.is_changed


# All of them together


def watch(*rules: Any, **more: Any) -> Watch:
    return Watch(
        rules=rules,
        thresholds=Thresholds(),
        objective=more.get("objective"),
        error_stats=more.get("error_stats", lambda minutes: errors_of(minutes=minutes)),
        performance_stats=None,
        groups=more.get("groups", list),
        alert_thresholds=POLICIES,
    )


def look(asked: Watch, now: float = 0.0) -> list[Finding]:
    totals = Totals(asked.counted, now=-1e6)
    return asked.look(KnownErrors(gone_seconds=86_400), totals, now=now, wall_now=now)


def test_rules_return_one_or_several_or_none() -> None:
    one = Finding("QUEUE_FULL", "full")

    def several(_: Figures) -> Iterator[Finding]:
        yield one
        yield one

    asked = watch(lambda _: one, lambda _: None, several, lambda _: [])
    assert look(asked) == [one] * 3


@pytest.mark.parametrize("returned", [7, "QUEUE_FULL", [7]], ids=repr)
def test_a_rule_that_returns_nonsense_is_counted(returned: Any) -> None:
    asked = watch(lambda _: returned)
    assert look(asked) == []
    assert asked.rule_errors == 1


def test_a_rule_that_raises_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    """And keeps none of the others quiet."""
    asked = watch(lambda _: 1 / 0, lambda _: Finding("A", "a"))
    assert [f.type for f in [*look(asked), *look(asked)]] == ["A", "A"]
    assert asked.rule_errors == 2
    assert len(caplog.records) == 1


def test_a_rule_that_hangs_keeps_no_other_quiet() -> None:
    """It is counted each time it is looked for, and said once."""
    may_answer = threading.Event()
    hangs = PatientRule(lambda _: may_answer.wait() and None, patience_seconds=0.01)
    asked = watch(lambda _: Finding("A", "a"))
    asked._rules.insert(0, hangs)
    assert [f.type for f in [*look(asked), *look(asked)]] == ["A", "A"]
    assert asked.rule_errors == 2
    may_answer.set()


def test_a_rule_that_never_ends_is_cut() -> None:
    def endless(_: Figures) -> Iterator[Finding]:
        while True:
            yield Finding("A", "a")

    assert len(look(watch(endless))) == 200


def test_groups_are_asked_for_only_after_errors() -> None:
    """It costs more than all else."""
    asked = watch(groups=lambda: pytest.fail("asked for"))
    look(asked)
    asked = watch(
        error_stats=lambda minutes: errors_of({"model": 1}, minutes=minutes),
        groups=lambda: [group("f1", 0, 0)],
    )
    assert [f.type for f in look(asked)] == ["NEW_ERROR"]


def test_long_windows_are_asked_for_once_a_minute() -> None:
    windows: list[float] = []

    def stats(minutes: float) -> dict[str, Any]:
        windows.append(minutes)
        return errors_of(requests=1000, failed=900, minutes=minutes)

    asked = watch(objective=Objective(0.99), error_stats=stats)
    first, number = look(asked, 0.0), len(windows)
    assert "ERROR_BUDGET_BURNING" in [f.type for f in first]
    assert [f.type for f in look(asked, 30.0)] == [f.type for f in first]
    assert len(windows) == number + 1
    look(asked, 61.0)
    assert len(windows) > number + 2


# Options


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"window_minutes": 61}, ValueError, "window_minutes must be"),
        ({"errors_per_minute": -1}, ValueError, "errors_per_minute must be"),
        ({"least_requests": 0}, ValueError, "least_requests must be"),
        ({"gone_seconds": 60}, ValueError, "gone_seconds must be"),
        ({"of_types": {"model": 3}}, TypeError, "of_types must map ErrorType"),
        ({"of_types": {ErrorType.MODEL: 0}}, ValueError, "of_types"),
    ],
)
def test_thresholds_that_cannot_be_are_refused(options: Any, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        Thresholds(**options)


@pytest.mark.parametrize("ratio", [0, 1, 99.9])
def test_an_objective_that_cannot_be_is_refused(ratio: float) -> None:
    with pytest.raises(ValueError, match="ratio must be"):
        Objective(ratio)
