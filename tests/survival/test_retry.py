"""A request that failed before its response is run again, if that does no harm."""

import pytest

from .applying import unless, without_errors_told
from .wire import request_ids

FEATURE = "retry"
BODY = bytes(range(65, 91)) * 40


@unless(without_errors_told)
def test_a_put_is_run_again_with_its_whole_body(served):
    key = served.key()
    answer = served.ask(f"/retrying/flaky?key={key}", "PUT", body=BODY)
    assert (answer.status, answer.body) == (200, BODY)
    assert served.calls(key) == 3
    if served.has_log:
        line = served.line(answer.request_id)
        assert (line["event"], line["outcome"]) == ("request_complete", "ok")
        assert line["retry_attempt"] == 2
        assert line["retried_for"] == ["external_service"] * 2
        assert (line["request_size"], line["response_size"]) == (len(BODY), len(BODY))


@unless(without_errors_told)
def test_a_body_in_pieces_is_run_again_whole(served):
    key = served.key()
    body = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in (b"one ", b"two", b""))
    raw = served.raw(
        f"/retrying/flaky?key={key}", "Transfer-Encoding: chunked", method="PUT", after=body
    )
    assert raw.startswith(b"HTTP/1.1 200 ")
    assert b"one two" in raw
    assert served.calls(key) == 3


@pytest.mark.parametrize(
    ("method", "body"), [("POST", BODY), ("PUT", b"x" * 70_000)], ids=["post", "too-much-to-keep"]
)
def test_what_cannot_be_run_again_is_not(served, method, body):
    key = served.key()
    answer = served.ask(f"/retrying/flaky?key={key}", method, body=body)
    assert answer.status >= 500
    assert served.calls(key) == 1
    if served.has_log:
        line = served.line(answer.request_id)
        assert line["outcome"] == "server_error"
        assert "retry_attempt" not in line


def test_what_has_begun_to_answer_is_not_run_again(served):
    key = served.key()
    raw = served.raw(f"/retrying/late?key={key}")
    assert raw.startswith(b"HTTP/1.1 200 ")
    assert not raw.endswith(b"0\r\n\r\n")
    assert served.calls(key) == 1
    if served.has_log:
        line = served.line(request_ids(raw)[0])
        assert (line["event"], line["outcome"]) == ("request_error", "truncated")
        assert "retry_attempt" not in line
