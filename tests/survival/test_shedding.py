"""What there is no room for is refused at once; a few may wait; health checks always pass."""

import pytest

from .running import until

HELD = "/crowded/*"


@pytest.fixture(params=["lone-shed", "stack-shed"])
def shedding(request, make_served):
    """With room for one, and no queue."""
    served = make_served(request.param)
    served.until_idle(HELD)
    return served


@pytest.fixture(params=["lone-queue", "stack-queue", "stack-all"])
def queueing(request, make_served):
    """With room for one, and another that waits."""
    served = make_served(request.param)
    served.until_idle(HELD)
    return served


def is_shed(served, answer, reason):
    assert answer.status == 503
    assert int(answer.headers["retry-after"]) >= 1
    assert b"OverloadedError" in answer.body
    if served.has_log:
        line = served.line(answer.request_id)
        assert (line["event"], line["outcome"]) == ("request_error", "shed")
        assert line["shed_by"] == reason


def test_the_second_is_refused_and_health_passes(shedding):
    key = shedding.key()
    with shedding.begin(f"/crowded/hold?key={key}") as first:
        until(lambda: shedding.calls(key), "the first request")
        is_shed(shedding, shedding.ask("/crowded/plain"), "limit")
        assert shedding.ask("/crowded/health").status == 200
        assert shedding.ask("/plain").status == 200
        shedding.lets_go(key)
        assert first.answer().body == b"at last"
    shedding.until_idle(HELD)
    assert shedding.ask("/crowded/plain").status == 200


def test_one_waits_its_turn_and_the_next_is_refused(queueing):
    key = queueing.key()
    with (
        queueing.begin(f"/crowded/hold?key={key}") as first,
    ):
        until(lambda: queueing.calls(key), "the first request")
        with queueing.begin("/crowded/plain") as second:
            until(lambda: queueing.limiter(HELD)["queued"], "that the second waits")
            is_shed(queueing, queueing.ask("/crowded/plain"), "queue")
            assert queueing.ask("/crowded/health").status == 200
            queueing.lets_go(key)
            assert first.answer().body == b"at last"
            answer = second.answer()
        assert (answer.status, answer.body) == (200, b"Hello, world")
    if queueing.has_log:
        line = queueing.line(answer.request_id)
        assert line["outcome"] == "ok"
        assert line["queued_seconds"] > 0


def test_who_leaves_the_queue_makes_room_in_it(queueing):
    key = queueing.key()
    with queueing.begin(f"/crowded/hold?key={key}") as first:
        until(lambda: queueing.calls(key), "the first request")
        with queueing.begin("/crowded/plain"):
            until(lambda: queueing.limiter(HELD)["queued"], "that the second waits")
        queueing.lets_go(key)
        assert first.answer().status == 200
    queueing.until_idle(HELD)
    assert queueing.limiter(HELD)["queued"] == 0
    assert queueing.ask("/crowded/plain").status == 200
