"""Every way an exchange can end has its own name."""

import re
from pathlib import Path
from typing import Any

import pytest

from asgi_errorkit.classify import Classifier
from asgi_errorkit.exchange import (
    CAUGHT,
    COMPLETE,
    DISCONNECTED,
    ENDED_AS,
    INTERRUPTED,
    SESSION,
    STATUS,
    Caught,
    Exchange,
    begin,
)
from asgi_errorkit.outcome import Outcome, outcome_of
from asgi_errorkit.testing import HandClock, http_scope

ERROR = Caught(None, Classifier()(ValueError()))


@pytest.mark.parametrize(
    ("expected", "state"),
    [
        ("ok", {COMPLETE: True, STATUS: 200}),
        ("ok", {COMPLETE: True, STATUS: 304}),
        ("ok", {COMPLETE: True, STATUS: 200, INTERRUPTED: True}),
        ("client_error", {COMPLETE: True, STATUS: 404}),
        ("client_error", {COMPLETE: True, STATUS: 422, CAUGHT: ERROR}),
        ("server_error", {COMPLETE: True, STATUS: 500}),
        ("server_error", {COMPLETE: True, STATUS: 503, CAUGHT: ERROR}),
        ("server_error", {CAUGHT: ERROR}),
        ("server_error", {COMPLETE: True, STATUS: None}),
        ("truncated", {STATUS: 200, CAUGHT: ERROR}),
        ("truncated", {STATUS: 200, CAUGHT: ERROR, DISCONNECTED: True}),
        ("client_disconnect", {STATUS: 200, DISCONNECTED: True}),
        ("client_disconnect", {DISCONNECTED: True, INTERRUPTED: True}),
        ("client_disconnect", {STATUS: 500, COMPLETE: True, DISCONNECTED: True}),
        ("cancelled", {INTERRUPTED: True}),
        ("cancelled", {INTERRUPTED: True, STATUS: 200}),
        ("incomplete", {}),
        ("incomplete", {STATUS: 200}),
        ("background_failed", {COMPLETE: True, STATUS: 201, CAUGHT: ERROR._replace(late=True)}),
        ("background_failed", {COMPLETE: True, STATUS: 404, CAUGHT: ERROR._replace(late=True)}),
        ("ok", {SESSION: [1, 1, 1000], STATUS: 101, COMPLETE: True}),
        ("ok", {SESSION: [1, 1, 1001], STATUS: 101, COMPLETE: True, DISCONNECTED: True}),
        ("server_error", {SESSION: [0, 0, None], STATUS: 101, CAUGHT: ERROR}),
        ("client_error", {SESSION: [0, 0, 1000], STATUS: 403, COMPLETE: True}),
        ("cancelled", {SESSION: [0, 0, None], STATUS: 101, INTERRUPTED: True}),
        ("timeout", {COMPLETE: True, STATUS: 504, ENDED_AS: "timeout"}),
        ("timeout", {STATUS: 200, CAUGHT: ERROR, ENDED_AS: "timeout"}),
        ("timeout", {STATUS: 200, INTERRUPTED: True, ENDED_AS: "timeout"}),
        ("timeout", {SESSION: [1, 1, 1011], STATUS: 101, ENDED_AS: "timeout"}),
        ("timeout", {SESSION: [1, 1, 1008], STATUS: 101, COMPLETE: True, ENDED_AS: "timeout"}),
        ("shed", {COMPLETE: True, STATUS: 503, ENDED_AS: "shed"}),
        ("shed", {COMPLETE: True, STATUS: 429, ENDED_AS: "shed"}),
        ("circuit_open", {COMPLETE: True, STATUS: 503, ENDED_AS: "circuit_open"}),
        ("circuit_open", {COMPLETE: True, STATUS: 503, CAUGHT: ERROR, ENDED_AS: "circuit_open"}),
        ("ok", {COMPLETE: True, STATUS: 200, ENDED_AS: "shed"}),
    ],
)
def test_the_outcome_is_what_happened(expected: str, state: dict[int, Any]) -> None:
    record = begin(http_scope(), {}, "a", HandClock(), 0.0)
    for place, value in state.items():
        record[place] = value
    assert outcome_of(tuple(record)).value == expected


def test_the_servers_failures_are_those_that_left_a_client_without_an_answer() -> None:
    failed = {outcome.value for outcome in Outcome if outcome.failed}
    own = {"server_error", "truncated", "incomplete", "background_failed"}
    assert failed == own | {"timeout", "shed", "circuit_open"}


def test_each_outcome_is_defined_in_the_documents() -> None:
    """With whether it is a failure."""
    page = (Path(__file__).parents[1] / "docs" / "outcomes.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `(\w+)` \|.*\| (yes|no) \|$", page, re.MULTILINE))
    assert rows == {each.text: "yes" if each.failed else "no" for each in Outcome}


def test_only_what_cannot_be_told_from_outside_can_be_said() -> None:
    exchange = Exchange(begin(http_scope(), {}, "a", HandClock(), 0.0))
    with pytest.raises(ValueError, match=r"'timeout', 'shed', 'circuit_open'.*got 'ok'"):
        exchange.end_as("ok")
    exchange.end_as("shed")
    assert exchange.state[ENDED_AS] == "shed"
