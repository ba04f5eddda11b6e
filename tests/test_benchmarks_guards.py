"""Guards are measured as they really work, beside who is installed, and asked by running them."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "benchmarks.guards", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], str]:
    """A short run of all that is installed: what it wrote and what it printed."""
    file = tmp_path_factory.mktemp("guards") / "guards.json"
    # Whatever else the machine does meanwhile: these figures are not published.
    done = run(*("--rounds", "2", "--calls", "20", "--patience-seconds", "0", "--json", str(file)))
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return json.loads(file.read_text()), done.stdout


@pytest.fixture
def guards(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT)
    import benchmarks.guards

    return benchmarks.guards


@pytest.fixture
def peers(guards: ModuleType) -> ModuleType:
    return sys.modules["benchmarks.guard_peers"]


def test_every_form_is_measured_or_its_library_named_as_left_out(
    measured: tuple[dict[str, Any], str], guards: ModuleType
) -> None:
    written, printed = measured
    assert list(written["costs"]) == [one.name for one in guards.SCENARIOS]
    for one in guards.SCENARIOS:
        told = {
            (row["library"], row["form"], row["rules"])
            for row in written["costs"][one.name]["subjects"]
        }
        for form in one.of_its_kind():
            is_told = (form.library, form.form, form.rules) in told
            assert is_told is (form.library not in written["left_out"])
    for library in written["left_out"]:
        assert f"left out: {library} (" in printed
    assert guards.KIT not in written["left_out"]


def test_every_figure_is_told_of_every_form(measured: tuple[dict[str, Any], str]) -> None:
    written, printed = measured
    for name, scenario in written["costs"].items():
        assert f"{name}\n" in printed
        assert scenario["subjects"][0]["library"] == "bare"
        for row in scenario["subjects"]:
            assert 0 < row["ns"]["best"] <= row["ns"]["median"] <= row["ns"]["max"]
            assert row["ns_added"]["q1"] <= row["ns_added"]["median"] <= row["ns_added"]["q3"]


def test_where_and_with_what_is_told(measured: tuple[dict[str, Any], str]) -> None:
    written, _ = measured
    assert {"taken_at", "machine", "python", "versions", "pace"} <= set(written)
    assert written["rounds"] == 2


def test_every_question_is_answered_by_everybody_who_is_there(
    measured: tuple[dict[str, Any], str], guards: ModuleType, peers: ModuleType
) -> None:
    written, _ = measured
    for name, probes, libraries in (
        ("breakers", guards.BREAKER_PROBES, peers.BREAKER_LIBRARIES),
        ("retries", guards.RETRY_PROBES, peers.RETRY_LIBRARIES),
    ):
        there = {one.name for one in libraries} - set(written["left_out"])
        assert list(written["semantics"][name]) == list(probes)
        for asked in written["semantics"][name].values():
            assert asked["means"]
            assert set(asked["answers"]) == there
            assert {one["answer"] for one in asked["answers"].values()} <= {"yes", "no", "–"}


NOT_OURS = {
    "state shared between processes",
    "results can be failures",
    "retries by result",
    "retries a block",
}
"""What the kit does not do, and some peer does."""


@pytest.mark.parametrize("kind", ["breakers", "retries"])
def test_what_the_kit_does_it_does_when_run(
    measured: tuple[dict[str, Any], str], guards: ModuleType, kind: str
) -> None:
    asked = measured[0]["semantics"][kind]
    for question, found in asked.items():
        wanted = "no" if question in NOT_OURS else "yes"
        assert found["answers"][guards.KIT]["answer"] == wanted, (question, found)


def test_the_tables_are_printed_as_markdown(
    measured: tuple[dict[str, Any], str], guards: ModuleType
) -> None:
    written, _ = measured
    text = guards.markdown(written)
    assert text.count("|  | form | rules | +ns | x the kit | x its default |") == len(
        guards.SCENARIOS
    )
    assert "what breakers do:" in text
    assert "what retries do:" in text
    assert "| late answers ignored | yes |" in text
    for library in written["left_out"]:
        assert f"{library} was left out: " in text


def test_a_ratio_is_to_the_same_form_and_rules(guards: ModuleType, peers: ModuleType) -> None:
    def subject(library: str, rules: str, ns: float) -> Any:
        form = peers.Form(library, "decorator", lambda function: function, rules=rules)
        return guards._Subject(form, lambda: None, [ns, ns])

    rows = guards._costs(
        [
            subject("bare", "", 100.0),
            subject(guards.KIT, "", 200.0),
            subject(guards.KIT, "slow rule", 500.0),
            subject("peer", "slow rule", 900.0),
            subject("peer", "other", 300.0),
        ]
    )
    ratios = [(row["times_the_kit"], row["times_its_default"]) for row in rows]
    assert ratios == [(None, None), (1.0, 1.0), (1.0, 4.0), (2.0, 8.0), (None, 2.0)]


@pytest.mark.parametrize("option", ["--rounds", "--calls"])
def test_a_wrong_option_ends_with_a_word_about_it(option: str) -> None:
    done = run(option, "0")
    assert done.returncode == 2
    assert option in done.stderr


def scenario(guards: ModuleType, make: Any, expected: str = "answer") -> Any:
    form = sys.modules["benchmarks.guard_peers"].Form(guards.KIT, "odd", make)
    return guards.Scenario("odd", [form], guards._works, expected)


def measure(guards: ModuleType, one: Any) -> Any:
    return asyncio.run(
        guards.measure_guards(one, rounds=1, calls=2, pace=guards.Pace(patience_seconds=0.0))
    )


def test_who_cannot_be_imported_is_left_out_with_the_reason(guards: ModuleType) -> None:
    def absent(function: Any) -> Any:
        import no_such_package

        return no_such_package

    subjects, left_out = measure(guards, scenario(guards, absent))
    assert [subject.form.library for subject in subjects] == ["bare"]
    assert left_out == {guards.KIT: "No module named 'no_such_package'"}


def test_who_does_something_else_than_is_measured_is_refused(guards: ModuleType) -> None:
    """A breaker that has opened unseen costs little, and would look fast."""
    with pytest.raises(RuntimeError, match="odd must end with 'refused', but ended with"):
        measure(guards, scenario(guards, lambda function: function, "refused"))


def test_what_is_no_refusal_is_not_taken_for_one(guards: ModuleType) -> None:
    def broken(function: Any) -> Any:
        def call() -> None:
            raise TypeError("an option has gone")

        return call

    with pytest.raises(TypeError, match="an option has gone"):
        measure(guards, scenario(guards, broken, "refused"))


def test_a_probe_tells_a_breaker_that_does_not_do_it(guards: ModuleType, peers: ModuleType) -> None:
    """A breaker that opens at two failures in a row and never closes, with no probes at all."""
    from asgi_errorkit import CircuitBreaker, CircuitPolicy

    class Poor(peers.Kit):  # type: ignore[misc, name-defined]
        name = "poor"

        def make(self, wish: Any, clock: Any) -> CircuitBreaker:
            policy = CircuitPolicy(
                failure_rate_threshold=None,
                consecutive_failures=2,
                open_seconds=10.0,
                max_open_seconds=10.0,
                jitter=0.0,
                max_concurrent_probes=16,
                failures=BaseException,
            )
            return CircuitBreaker("poor", policy, clock=clock)

    answers = {
        question: guards._answer(guards.BREAKER_PROBES[question], Poor()).answer
        for question in (
            "failure rate over a window",
            "slow calls",
            "minimum number of calls",
            "growing open time",
            "open time with jitter",
            "exactly N probes, of 16 tasks",
            "exactly N probes, of 16 threads",
            "metrics only",
        )
    }
    assert set(answers.values()) == {False}
