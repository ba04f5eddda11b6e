"""A rule of the user's may do what it likes: the others are asked, and the kit's own go on."""

import os
import threading
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import pytest

from asgi_errorkit.alerts.asking import PatientRule
from asgi_errorkit.alerts.finding import Finding
from asgi_errorkit.alerts.groups import KnownErrors
from asgi_errorkit.alerts.rules import Figures, Thresholds
from asgi_errorkit.alerts.totals import Total, Totals
from asgi_errorkit.alerts.watch import Watch
from asgi_errorkit.tracker import ErrorTracker
from tests.test_forks import in_child

FIGURES = Figures({}, {}, {}, lambda seconds: Total(0, 0, seconds), 0.0)
DEADLINE_SECONDS = 15.0


class Hanging:
    """A rule that answers when it may."""

    def __init__(self) -> None:
        self.may_answer = threading.Event()
        self.times = 0

    def __call__(self, figures: Figures) -> Finding:
        self.times += 1
        self.may_answer.wait()
        return Finding("LATE", "late")


@pytest.fixture
def hanging() -> Iterator[Hanging]:
    rule = Hanging()
    yield rule
    rule.may_answer.set()


def test_a_rule_that_hangs_is_asked_once(hanging: Hanging) -> None:
    """It costs one thread, and who asks waits for it the first time only."""
    rule = PatientRule(hanging, patience_seconds=0.01)
    for _ in range(20):
        with pytest.raises(TimeoutError, match=r"the rule has not answered within 0\.01 s"):
            rule(FIGURES)
    assert hanging.times == 1


def test_a_late_answer_is_taken_when_it_is_asked_for_again(hanging: Hanging) -> None:
    rule = PatientRule(hanging, patience_seconds=0.01)
    with pytest.raises(TimeoutError):
        rule(FIGURES)
    hanging.may_answer.set()
    assert rule._asked is not None
    assert rule._asked.answered.wait(DEADLINE_SECONDS)
    assert [each.type for each in rule(FIGURES)] == ["LATE"]
    assert hanging.times == 1


def test_who_waits_for_one_waits_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two rules that answer when both are asked: were one asked after the other, none would."""
    monkeypatch.setattr(
        "asgi_errorkit.alerts.watch.PatientRule",
        partial(PatientRule, patience_seconds=2 * DEADLINE_SECONDS),
    )
    both = threading.Barrier(2)

    def rule(figures: Figures) -> Finding:
        both.wait(DEADLINE_SECONDS)
        return Finding("BOTH", "there")

    watch = Watch(
        rules=[rule, rule],
        thresholds=Thresholds(),
        objective=None,
        error_stats=ErrorTracker().get_error_stats,
        performance_stats=None,
        groups=list,
        alert_thresholds={},
    )
    totals = Totals(watch.counted, now=0.0)
    found = watch.look(KnownErrors(gone_seconds=86_400), totals, now=0.0, wall_now=0.0)
    assert [each.type for each in found] == ["BOTH", "BOTH"]
    assert watch.rule_errors == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_what_a_rule_has_answered_the_parent_a_child_does_not_take(hanging: Hanging) -> None:
    """It is the parent's to tell, and the event of its thread may be locked for ever."""
    rule = PatientRule(hanging, patience_seconds=0.01)
    with pytest.raises(TimeoutError):
        rule(FIGURES)
    hanging.may_answer.set()
    assert rule._asked is not None
    assert rule._asked.answered.wait(DEADLINE_SECONDS)

    def ask_anew() -> None:
        rule._patience_seconds = DEADLINE_SECONDS
        assert [each.type for each in rule(FIGURES)] == ["LATE"]
        assert hanging.times == 2

    in_child(ask_anew)
    assert len(rule(FIGURES)) == 1
    assert hanging.times == 1


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit()], ids=repr)
def test_a_rule_ends_no_process(error: BaseException) -> None:
    def ending(_: Figures) -> None:
        raise error

    with pytest.raises(RuntimeError, match="a rule must not end the process"):
        PatientRule(ending)(FIGURES)


def test_a_generator_that_hangs_is_no_better(hanging: Hanging) -> None:
    """What it yields is taken where it may hang."""
    rule = PatientRule(lambda figures: (hanging(figures) for _ in "ab"), patience_seconds=0.01)
    with pytest.raises(TimeoutError):
        rule(FIGURES)


class Hostile(dict[str, Any]):
    def keys(self) -> Any:
        raise RuntimeError("not today")

    __iter__ = items = keys


class Hollow(Finding):
    """Has nothing of a finding but its class."""

    __slots__ = ()

    def __init__(self) -> None:
        """Says nothing."""


@pytest.mark.parametrize(
    "returned",
    [lambda: Finding("A", "a", values=Hostile(a=1)), Hollow, lambda: [Hollow()], lambda: Finding],
    ids=["values", "hollow", "within", "class"],
)
def test_a_finding_that_cannot_be_read_is_the_fault_of_its_rule(returned: Any) -> None:
    """Seen later it would keep what all rules have found from being told."""
    with pytest.raises((RuntimeError, AttributeError, TypeError)):
        PatientRule(lambda _: returned())(FIGURES)


def test_what_a_rule_keeps_and_changes_later_is_not_what_is_told() -> None:
    values: dict[str, Any] = {"n": 1}
    (found,) = PatientRule(lambda _: Finding("A", "a", values=values))(FIGURES)
    values["n"] = 2
    assert isinstance(found.values, Mapping)
    assert dict(found.values) == {"n": 1}


def test_without_threads_a_rule_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """And is asked again when there are some."""

    def no_more(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    rule = PatientRule(lambda _: Finding("A", "a"))
    with monkeypatch.context() as without:
        without.setattr(threading.Thread, "start", no_more)
        with pytest.raises(RuntimeError, match="can't start"):
            rule(FIGURES)
    assert len(rule(FIGURES)) == 1
