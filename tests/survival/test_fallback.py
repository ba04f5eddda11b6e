"""Something else answers in place of what failed, and says so."""

import pytest

from .applying import without_errors_told

FEATURE = "fallback"
UNLESS = (without_errors_told,)


def answered_by(served, kind, target, body):
    """Ask for what fails, and see that this answered for it."""
    answer = served.ask(target)
    assert (answer.status, answer.body) == (200, body)
    assert answer.headers["x-fallback"] == kind
    if served.has_log:
        line = served.line(answer.request_id)
        assert (line["event"], line["outcome"]) == ("request_complete", "fallback")
        assert (line["fallback"], line["fallback_for"]) == (kind, "external_service")
        assert line["error_type"] == "ConnectionError"
        assert line["status_code"] == 200
    return answer


@pytest.mark.parametrize(
    ("path", "kind", "body"),
    [
        ("static", "static", b"something instead"),
        ("called", "callable", b"for external_service"),
        ("app", "app", b"another app: GET /falling/app"),
        ("listed", "static", b"something instead"),
    ],
    ids=["static", "callable", "app", "the-next-of-a-list"],
)
def test_a_fallback_answers_for_what_fails(served, path, kind, body):
    key = served.key()
    target = f"/falling/{path}?key={key}"
    assert served.ask(f"/falling/{path}?key=not-broken").body == b"well"
    served.breaks(key)
    answered_by(served, kind, target, body)
    assert served.calls(key) >= 1


@pytest.mark.parametrize("path", ["stale", "listed"])
def test_a_stale_copy_answers_for_what_fails(served, path):
    key = served.key()
    target = f"/falling/{path}?key={key}"
    fresh = served.ask(target)
    assert (fresh.status, fresh.body) == (200, b"well")
    assert "x-fallback" not in fresh.headers
    served.breaks(key)
    stale = answered_by(served, "stale", target, b"well")
    assert int(stale.headers["age"]) >= 0
    assert stale.headers["content-type"] == fresh.headers["content-type"]


def test_without_a_copy_the_failure_goes_its_way(served):
    key = served.key()
    served.breaks(key)
    answer = served.ask(f"/falling/stale?key={key}")
    assert answer.status >= 500
    assert "x-fallback" not in answer.headers
    if served.has_log:
        assert served.line(answer.request_id)["outcome"] == "server_error"


def test_a_failure_that_it_is_not_for_goes_its_way(served):
    key = served.key()
    answer = served.ask(f"/bug?key={key}")
    assert answer.status == 500
    assert "x-fallback" not in answer.headers
    assert served.calls(key) == 1
