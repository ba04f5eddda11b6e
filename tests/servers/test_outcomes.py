"""Each outcome is told of what happened on a real socket, in the log, the metrics and the count."""

import orjson
import pytest

from asgi_errorkit import Outcome

from .running import all_but
from .test_errors import LETS_WAIT
from .wire import Http, ask, raw_answer, request_ids

OUTCOMES = {
    "/plain": "ok",
    "/missing": "client_error",
    "/fail": "server_error",
    "/silent": "incomplete",
    "/fail-after": "background_failed",
    "/too-slow": "timeout",
    "/shed": "shed",
    "/circuit-open": "circuit_open",
}
BROKEN_OFF = {"/fail-late": "truncated", "/unfinished": "incomplete", "/cut": "timeout"}

ELSEWHERE = {
    "fallback": "../survival/test_fallback.py",
    "client_disconnect": "test_bodies.py::test_a_client_that_leaves_in_its_upload_is_no_error",
    "cancelled": "test_bodies.py::test_a_request_that_the_server_cancels_is_told_as_cancelled",
}
"""Those that it takes more than a request for."""


def outcomes(connection):
    """How many requests have ended so, by outcome."""
    return orjson.loads(connection.get("/outcomes").body)


@pytest.mark.parametrize(("path", "outcome"), OUTCOMES.items())
def test_an_outcome_is_told_of_what_happened(wrapped, path, outcome):
    with Http(wrapped.port) as connection:
        before = outcomes(connection).get(outcome, 0)
        answer = connection.get(path)
    line = wrapped.last_line(answer.request_id)
    assert line["outcome"] == outcome
    assert line["event"] == ("request_error" if Outcome(outcome).failed else "request_complete")
    with Http(wrapped.port) as connection:
        assert outcomes(connection)[outcome] == before + 1 + (
            outcome == "ok"
        )  # the question itself


@pytest.mark.parametrize("command", all_but(LETS_WAIT))
@pytest.mark.parametrize(("path", "outcome"), BROKEN_OFF.items())
def test_an_outcome_is_told_of_what_broke_off(wrapped, path, outcome):
    line = wrapped.last_line(request_ids(raw_answer(wrapped.port, ask(path)))[0])
    assert (line["event"], line["outcome"]) == ("request_error", outcome)


def test_each_outcome_is_tested_so():
    tested = {*OUTCOMES.values(), *BROKEN_OFF.values(), *ELSEWHERE}
    assert tested == {outcome.value for outcome in Outcome}
