"""What keeps failing is left alone, whoever answers its errors, and is tried again after a while."""

import orjson

from .applying import unless, without_errors_told, without_websockets
from .running import until
from .wire import CLOSE

FEATURE = "breaker"


def fails(served, target, key, times=3):
    """Have so many requests fail that none retries: by POST."""
    served.breaks(key)
    for _ in range(times):
        assert served.ask(target, "POST").status >= 500


def opened(served, path):
    """The names of open circuits of such paths."""
    known = served.status()["breakers"]
    return [each["name"] for each in known if path in each["name"] and each["state"] == "open"]


def test_a_circuit_opens_and_the_app_is_left_alone(served):
    """After three failures it is refused with 503, and other routes go on."""
    key = served.key()
    target = f"/breaking/long?key={key}"
    fails(served, target, key)
    served.until_circuit("POST /breaking/long", "open")
    assert served.calls(key) == 3
    served.mends(key)  # nobody tries before its time
    refused = served.ask(target, "POST")
    assert refused.status == 503
    assert 0 < int(refused.headers["retry-after"]) <= 60
    assert orjson.loads(refused.body)["error"]["type"] == "CircuitBreakerError"
    assert served.calls(key) == 3
    assert served.ask("/plain").status == 200
    if served.has_log:
        line = served.line(refused.request_id)
        assert line["event"] == "request_error"
        assert (line["outcome"], line["circuit"]) == ("circuit_open", "POST /breaking/long")
        assert line["status_code"] == 503


def test_a_route_has_one_circuit_whatever_its_parameters_are(served):
    """What was matched before tells which route a path belongs to that was never asked for."""
    key = served.key()
    served.breaks(key)
    for number in range(3):
        assert served.ask(f"/breaking/items/{number}?key={key}", "POST").status >= 500
    until(lambda: opened(served, "/breaking/items/"), "that its circuit opens")
    assert served.ask(f"/breaking/items/17?key={key}", "POST").status == 503
    assert served.calls(key) == 3


def test_a_probe_closes_the_circuit_again(served):
    key = served.key()
    target = f"/breaking/brief?key={key}"
    fails(served, target, key)
    served.until_circuit("POST /breaking/brief", "open", "half_open")
    served.mends(key)
    answer = until(
        lambda: (found := served.ask(target, "POST")).status == 200 and found,
        "a probe that fares well",
    )
    assert answer.body == b"well"
    served.until_circuit("POST /breaking/brief", "closed")
    assert [served.ask(target, "POST").status for _ in range(3)] == [200] * 3
    assert served.calls(key) == 3 + 1 + 3
    if served.has_log:
        assert served.line(answer.request_id)["circuit_probe"] == "POST /breaking/brief"


@unless(without_websockets, without_errors_told)
def test_a_session_is_refused_before_it_is_accepted(served):
    key = served.key()
    target = f"/ws/breaking?key={key}"
    served.breaks(key)
    for _ in range(3):
        with served.session(target) as session:
            assert session.accepted
            while (said := session.frame()) is not None and said[0] != CLOSE:
                pass
    until(lambda: opened(served, "/ws/breaking"), "that its circuit opens")
    assert served.calls(key) == 3
    with served.session(target) as session:
        assert not session.accepted
        assert session.raw.startswith(b"HTTP/1.1 503 ")
        assert b"CircuitBreakerError" in session.rest()
    assert served.calls(key) == 3
    with served.session("/ws/echo") as session:
        assert session.accepted
