"""What takes too long is cut off: with 504 before its response has started, then by breaking off."""

import pytest

from .running import until
from .wire import request_ids


@pytest.fixture(params=["lone-timeout", "stack-all"], ids=["lone", "together"])
def served(request, make_served):
    """Fewer than elsewhere, for each of these takes its time."""
    return make_served(request.param)


@pytest.fixture
def together(make_served):
    return make_served("stack-all")


IN_A_TASK_OF_ITS_OWN = ("quart", "django")
"""Whose handlers run beside the task that is cut off, and go on when that has ended."""


def is_timeout(served, answer, limit):
    assert answer.status == 504
    if served.has_log:
        line = served.line(answer.request_id)
        assert (line["event"], line["outcome"]) == ("request_error", "timeout")
        assert (line["timed_out"], line["status_code"]) == (limit, 504)
        assert line["duration"] >= 0.15


def test_a_slow_handler_is_cut_off(served):
    key = served.key()
    is_timeout(served, served.ask(f"/timing/hang?key={key}"), "total")
    assert served.calls(key) == 1


def test_a_response_that_does_not_begin_is_cut_off(together):
    is_timeout(together, together.ask("/timing/begin"), "first_byte")


def test_a_handler_ends_when_it_is_cut_off(together):
    key = together.key()
    assert together.ask(f"/timing/hang?key={key}").status == 504
    assert (together.calls(key), together.ended(key)) == (1, 1)


def test_a_stream_ends_when_it_is_cut_off(together):
    key = together.key()
    together.raw(f"/timing/stall?key={key}")
    assert (together.calls(key), together.ended(key)) == (1, 1)


def test_a_slow_handler_in_a_thread_is_answered_for_and_runs_to_its_end(served):
    key = served.key()
    answer = served.ask(f"/timing/sit?key={key}")
    until(lambda: served.ended(key) == 1, "the end of the thread")
    assert served.calls(key) == 1
    is_timeout(served, answer, "total")


def test_a_stream_that_stands_still_is_broken_off(served):
    key = served.key()
    raw = served.raw(f"/timing/stall?key={key}")
    assert raw.startswith(b"HTTP/1.1 200 ")
    assert b"so far so good" in raw
    assert not raw.endswith(b"0\r\n\r\n")
    if served.has_log:
        line = served.line(request_ids(raw)[0])
        assert (line["event"], line["outcome"]) == ("request_error", "timeout")
        assert (line["timed_out"], line["status_code"]) == ("idle", 200)
        assert line["response_size"] == len(b"so far so good")


@pytest.mark.parametrize("path", ["left", "left-in-thread"])
def test_a_handler_can_ask_what_is_left(served, path):
    left = float(served.ask(f"/timing/{path}").body)
    assert 300 < left <= 600
