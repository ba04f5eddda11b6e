"""One request goes through several of the five, and its one log line tells of each."""

import pytest

from .running import until

CROWDED = "/mixed/crowded"


@pytest.fixture
def served(make_served):
    return make_served("stack-all")


def is_fallback(served, answer, reason):
    """A fallback answered for this; the line."""
    assert (answer.status, answer.body) == (200, b"something instead")
    assert answer.headers["x-fallback"] == "static"
    line = served.line(answer.request_id)
    assert (line["event"], line["outcome"]) == ("request_complete", "fallback")
    assert (line["fallback"], line["fallback_for"]) == ("static", reason)
    return line


def test_a_run_that_hangs_after_one_that_failed_is_cut_and_answered_for(served):
    """The time is that of all runs together; the fallback answers for it, and the place is free."""
    key = served.key()
    line = is_fallback(served, served.ask(f"/mixed/hesitate?key={key}"), "timeout")
    assert (line["retry_attempt"], line["retried_for"]) == (1, ["external_service"])
    assert line["timed_out"] == "total"
    assert served.calls(key) == 2
    served.until_idle("")


def test_a_circuit_that_opens_amid_the_runs_ends_them(served):
    """The breaker hears of each run, refuses the next, which nobody retries; a fallback answers."""
    key = served.key()
    served.breaks(key)
    target = f"/mixed/down?key={key}"
    line = is_fallback(served, served.ask(target), "circuit_open")
    assert (line["retry_attempt"], line["circuit"]) == (2, "GET /mixed/down")
    assert line["retried_for"] == ["external_service"] * 2
    assert served.calls(key) == 2
    line = is_fallback(served, served.ask(target), "circuit_open")
    assert "retry_attempt" not in line
    assert served.calls(key) == 2
    assert served.circuit("GET /mixed/down")["state"] == "open"


def test_what_there_is_no_room_for_is_answered_for(served):
    served.until_idle(CROWDED)
    key = served.key()
    target = f"{CROWDED}?key={key}"
    with served.begin(target) as first, served.begin(target) as second:
        until(lambda: served.limiter(CROWDED)["queued"], "that one of them waits")
        line = is_fallback(served, served.ask(target), "shed")
        assert line["shed_by"] == "queue"
        served.lets_go(key)
        assert [first.answer().body, second.answer().body] == [b"at last"] * 2
    assert served.calls(key) == 2


def test_the_breaker_hears_of_every_run_of_a_request_that_fares_well(served):
    key = served.key()
    name = "PUT /retrying/flaky"
    before = served.circuit(name) or {"calls": 0, "failed": 0}
    assert served.ask(f"/retrying/flaky?key={key}", "PUT", body=b"whole").body == b"whole"
    until(lambda: served.circuit(name)["calls"] - before["calls"] == 3, "that it hears of all")
    assert served.circuit(name)["failed"] - before["failed"] == 2
