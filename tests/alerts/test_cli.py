"""The command shows what an alert would look like, and sends it only if it is asked to."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from asgi_errorkit.alerts.channels import Webhook, is_signed
from asgi_errorkit.cli.alerts import alerts

APP = """
from types import SimpleNamespace
from asgi_errorkit.alerts import Alerts

told = []

def paging(notice):
    told.append(notice)

def broken(notice):
    raise RuntimeError("no token=hunter2 \\x1b[31m here")

mine = Alerts(to=[paging])
bad = Alerts(to=[broken, paging])
kit = SimpleNamespace(alerts=mine)
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    name = "an_app_with_alerts"
    (tmp_path / f"{name}.py").write_text(APP)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    yield name
    sys.modules.pop(name, None)


def test_nothing_is_sent_unasked(module: str, capsys: pytest.CaptureFixture[str]) -> None:
    """It prints the text for people, the document for programs, and where both would go."""
    assert alerts(["test", f"{module}:mine", "--url", "https://user:pw@hook.example/T0K3N"]) == 0
    out = capsys.readouterr().out
    assert re.match(r"TEST_ALERT on .+\nHAPPENED, low\n- This is a test", out)
    assert orjson.loads(out[out.index("{") : out.rindex("}") + 1])["type"] == "TEST_ALERT"
    assert "would be sent to #0 paging\nwould be sent to #1 https://hook.example\n" in out
    assert not any(secret in out for secret in ("pw", "T0K3N"))
    assert sys.modules[module].told == []


@pytest.mark.parametrize("name", ["mine", "kit"])
def test_it_is_sent_if_asked(module: str, capsys: pytest.CaptureFixture[str], name: str) -> None:
    assert alerts(["test", f"{module}:{name}", "--send"]) == 0
    assert capsys.readouterr().out.endswith("sent to #0 paging\n")
    assert [notice["type"] for notice in sys.modules[module].told] == ["TEST_ALERT"]


def test_a_channel_that_fails_is_told(module: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The others are tried all the same, and nothing of a secret is shown."""
    assert alerts(["test", f"{module}:bad", "--send"]) == 1
    out = capsys.readouterr().out
    assert "FAILED: #0 broken: RuntimeError: no token=[redacted]" in out
    assert out.endswith("sent to #1 paging\n")
    assert "\x1b" not in out


def test_what_is_posted_is_signed_with_the_variable(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ASGI_ERRORKIT_ALERT_SECRET", "between us")
    seen: dict[str, Any] = {}

    def post(webhook: Webhook, notice: dict[str, Any]) -> None:
        seen.update(webhook._signed_headers(b"x"))

    monkeypatch.setattr(Webhook, "__call__", post)
    assert alerts(["test", "--url", "http://127.0.0.1:9", "--send"]) == 0
    assert is_signed(
        b"x",
        timestamp=seen["X-Errorkit-Timestamp"],
        signature=seen["X-Errorkit-Signature"],
        secret="between us",
    )


def test_without_a_channel_it_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert alerts(["test"]) == 0
    assert "nobody else would be told" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "names no Alerts: write MODULE:NAME"),
        (["no_such_module_here:alerts"], "No module named"),
        (["{module}:told"], "is neither an Alerts nor an ErrorKit with alerts"),
        (["{module}:nothing"], "has no attribute 'nothing'"),
        (["--url", "http://"], "url must be an http or https URL"),
    ],
    ids=["no colon", "no module", "no alerts", "no name", "no URL"],
)
def test_what_makes_no_sense_is_one_line(
    module: str, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert alerts(["test", *(each.format(module=module) for each in arguments)]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.startswith("asgi-errorkit: ")
    assert error.count("\n") == 1
