"""The error model refuses what makes no sense where it is written, and keeps what does."""

import pickle
from http import HTTPStatus
from typing import Any

import pytest

from asgi_errorkit import (
    POLICIES,
    CircuitOpenError,
    DeadlineExceededError,
    ErrorAction,
    ErrorInfo,
    ErrorSeverity,
    ErrorType,
    OverloadedError,
    PublicError,
)


def info(**options: Any) -> ErrorInfo:
    return ErrorInfo(ErrorType.MODEL, ErrorSeverity.LOW, ErrorAction.LOG, **options)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"retry_count": -1}, ValueError, "ErrorInfo.retry_count must be a whole number of at"),
        ({"retry_count": True}, TypeError, "ErrorInfo.retry_count must be a whole number"),
        ({"max_retries": 1.5}, TypeError, "ErrorInfo.max_retries must be .* e.g. 3; got 1.5"),
        ({"retry_delay": -0.5}, ValueError, "ErrorInfo.retry_delay must be a number of at least 0"),
        ({"retry_delay": float("nan")}, ValueError, "ErrorInfo.retry_delay must be .* got nan"),
        ({"retry_delay": True}, TypeError, "ErrorInfo.retry_delay must be a number .* got True"),
        ({"retry_delay": "2"}, TypeError, "ErrorInfo.retry_delay must be a number .* got '2'"),
        (
            {"alert_threshold": 0},
            ValueError,
            "ErrorInfo.alert_threshold must .* at least 1, e.g. 5",
        ),
        ({"alert_threshold": 1.5}, TypeError, "ErrorInfo.alert_threshold must be a whole number"),
        (
            {"circuit_break_threshold": -1},
            ValueError,
            "circuit_break_threshold must .* between 0 and 10000",
        ),
        ({"circuit_break_threshold": "5"}, TypeError, "circuit_break_threshold must be a whole"),
        ({"status_code": 200}, ValueError, "ErrorInfo.status_code must .* between 400 and 599"),
        (
            {"status_code": 503.5},
            TypeError,
            "ErrorInfo.status_code must be a whole number .* 503.5",
        ),
        (
            {"status_code": "503"},
            TypeError,
            "ErrorInfo.status_code must be a whole number .* '503'",
        ),
    ],
)
def test_a_policy_that_makes_no_sense_is_refused(
    options: dict[str, Any], error: type[Exception], words: str
) -> None:
    """TypeError for the wrong type, ValueError for the wrong value; both name the option."""
    with pytest.raises(error, match=words):
        info(**options)


@pytest.mark.parametrize("name", ["error_type", "severity", "action"])
def test_a_policy_is_made_of_the_enums(name: str) -> None:
    given = {
        "error_type": ErrorType.MODEL,
        "severity": ErrorSeverity.LOW,
        "action": ErrorAction.LOG,
    }
    with pytest.raises(TypeError, match=rf"ErrorInfo\.{name} must be one of Error"):
        ErrorInfo(**{**given, name: "model"})  # type: ignore[arg-type]


def test_a_threshold_of_no_breaker_and_a_named_status_are_kept() -> None:
    kept = info(circuit_break_threshold=0, retry_delay=0, status_code=HTTPStatus.BAD_GATEWAY)
    assert (kept.circuit_break_threshold, kept.retry_delay, kept.status_code) == (0, 0, 502)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"detail": 5}, TypeError, "detail must be a string, e.g. .*; got 5"),
        ({"detail": None}, TypeError, "detail must be a string"),
        ({"error_type": "model"}, TypeError, "error_type must be an ErrorType, e.g."),
        ({"status_code": "404"}, TypeError, "status_code must be a whole number .* got '404'"),
        ({"status_code": 200}, ValueError, "status_code must be .* between 400 and 599"),
        ({"status_code": True}, TypeError, "status_code must be a whole number"),
        ({"retry_after_seconds": "soon"}, TypeError, "retry_after_seconds must .* got 'soon'"),
        (
            {"retry_after_seconds": -1},
            ValueError,
            "retry_after_seconds must .* at least 0, e.g. 30",
        ),
        ({"retry_after_seconds": float("nan")}, ValueError, "retry_after_seconds must .* got nan"),
        ({"headers": [("X-A", "b")]}, TypeError, "headers must be a mapping of header names"),
        ({"headers": {"X-A": 5}}, TypeError, "both strings; got 'X-A': 5"),
        ({"headers": {"X A": "b"}}, ValueError, "headers must be .* got 'X A': 'b'"),
        ({"headers": {"X-A": "b\r\nc: d"}}, ValueError, "each on one line"),
        ({"headers": {"X-A\n": "b"}}, ValueError, "each on one line"),
        ({"headers": {"X-A": "€"}}, ValueError, "in Latin-1"),
        ({"context": [("queue", 12)]}, TypeError, "context must be a mapping, e.g."),
        ({"context": "queue"}, TypeError, "context must be a mapping"),
    ],
)
def test_a_public_error_that_cannot_be_sent_is_refused(
    options: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        PublicError(**{"detail": "No.", **options})


def test_a_public_error_keeps_what_it_is_given() -> None:
    exc = PublicError(
        "Full.",
        error_type=ErrorType.MODEL,
        retry_after_seconds=0.5,
        headers={"X-A": ""},
        context={"a": 1},
    )
    assert (exc.detail, exc.args, exc.status_code) == ("Full.", ("Full.",), 503)
    assert (exc.retry_after_seconds, exc.headers, exc.context) == (0.5, {"X-A": ""}, {"a": 1})


@pytest.mark.parametrize("kind", ErrorType)
def test_every_type_has_a_policy_with_a_status(kind: ErrorType) -> None:
    assert POLICIES[kind].error_type is kind and POLICIES[kind].status_code


@pytest.mark.parametrize(
    "error",
    [
        PublicError("Full.", error_type=ErrorType.MODEL, context={"queue": 12}),
        CircuitOpenError("model:x", retry_after_seconds=3, error_type=ErrorType.MODEL),
        DeadlineExceededError("idle", 3.0),
        OverloadedError("queue", retry_after_seconds=2),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_the_kit_raises_comes_back_from_another_process(error: PublicError) -> None:
    """Whole, whatever the arguments it was made with."""
    back = pickle.loads(pickle.dumps(error))
    assert type(back) is type(error)
    assert (str(back), back.args, vars(back)) == (str(error), error.args, vars(error))
