"""Errors that somebody has mended: should one come again, it is told at once, whoever alerts by then."""

import logging
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from asgi_errorkit import ErrorType
from asgi_errorkit.alerts.groups import KnownErrors
from asgi_errorkit.spool import leader as leader_module

from .test_alerts import App


@pytest.fixture(autouse=True)
def _nobody_leads() -> Iterator[None]:
    leader_module._LEADING.clear()
    yield
    leader_module._LEADING.clear()


def seen(key: str, last: float) -> Any:
    return SimpleNamespace(
        fingerprint=key,
        error_type=ErrorType.MODEL,
        type_name="ValueError",
        message="boom",
        where=None,
        first_seen=100,
        last_seen=last,
        count=1,
        release=None,
    )


def kinds(known: KnownErrors, last: float) -> list[str]:
    return [finding.type for finding in known.news([seen("f1", last)], last)]


def test_it_comes_back_when_it_is_seen_after_that() -> None:
    """Once, and not for what was seen before it was mended."""
    known = KnownErrors(gone_seconds=86_400)
    assert kinds(known, 100) == ["NEW_ERROR"]
    known.resolve("f1", 110)
    assert kinds(known, 105) == kinds(known, 110) == []
    assert kinds(known, 110.1) == ["ERROR_CAME_BACK"]
    assert kinds(known, 111) == []
    assert known.resolved == {}


def test_one_that_nobody_has_told_of_can_be_mended() -> None:
    """It began before anybody watched."""
    known = KnownErrors(gone_seconds=86_400)
    known.resolve("f1", 9000)
    assert kinds(known, 9001) == ["ERROR_CAME_BACK"]


def test_so_many_are_remembered() -> None:
    """Also by who takes over; the oldest go."""
    known, again = KnownErrors(gone_seconds=86_400), KnownErrors(gone_seconds=86_400)
    for number in range(600):
        known.resolve(f"f{number}", number)
    assert list(known.resolved) == [f"f{number}" for number in range(100, 600)]
    assert known.is_changed
    again.remember(known.as_dict(), known.resolved)
    assert again.resolved == known.resolved


def fail(app: App) -> None:
    app.tracker.record_error(ErrorType.MODEL, None, {"exception": ValueError("boom")})


def told_of_errors(app: App) -> list[str]:
    return [kind for kind, _ in app.inbox.kinds() if kind in ("NEW_ERROR", "ERROR_CAME_BACK")]


def test_it_is_an_alert_at_once(caplog: pytest.LogCaptureFixture) -> None:
    """And says since when it is mended, as long as it is."""
    caplog.set_level(logging.INFO, logger="asgi_errorkit.alerts")
    app = App()
    fail(app)
    app.go_on(10)
    [group] = app.tracker.groups()
    at = app.alerts.resolve(group.fingerprint)
    app.go_on(10)
    assert app.alerts.resolved == {group.fingerprint: at}
    assert told_of_errors(app) == ["NEW_ERROR"]
    fail(app)
    app.go_on(10)
    assert told_of_errors(app) == ["NEW_ERROR", "ERROR_CAME_BACK"]
    assert app.alerts.resolved == {}


def test_who_takes_over_knows_it(tmp_path: Path) -> None:
    app = App(tmp_path / "record")
    fail(app)
    app.go_on(10)
    [group] = app.tracker.groups()
    app.alerts.resolve(group.fingerprint)
    app.go_on(10)
    leader_module._LEADING.clear()
    after = App(tmp_path / "record", app.clock)
    after.go_on(10)
    assert list(after.alerts.resolved) == [group.fingerprint]


def test_another_worker_has_it_known_to_the_one_that_alerts(tmp_path: Path) -> None:
    app = App(tmp_path / "record")
    app.go_on(5)
    other = App(tmp_path / "record", app.clock)
    other.alerts._teller.leads = lambda: False
    at = other.alerts.resolve("f1")
    other.go_on(1)
    app.go_on(1)
    assert other.alerts.resolved == app.alerts.resolved == {"f1": at}


@pytest.mark.parametrize("at", ["now", "nan", "inf", None])
def test_a_note_that_makes_no_sense_is_counted_and_changes_nothing(at: Any) -> None:
    """A time that no file can hold would cost who takes over all that was known."""
    app = App()
    app.alerts._teller.take({"resolve": "f1", "at": at})
    app.alerts._teller.take({"silence": "A", "until": at, "why": ""})
    app.go_on(5)
    assert app.alerts.get_alert_summary()["silences"] == []
    assert app.alerts._teller.errors == 2
    assert app.alerts.resolved == {}


@pytest.mark.parametrize("given", [None, 7, b"f1"])
def test_what_is_no_fingerprint_is_refused(given: Any) -> None:
    with pytest.raises(TypeError, match="fingerprint must be a string"):
        App().alerts.resolve(given)
