"""What Ops is made with: checked at once, with what to write instead."""

import subprocess
import sys
from functools import partial

import pytest

from asgi_errorkit.ops import Ops

from .asking import TOKEN

TOO_SHORT = "fifteen-letters"


@pytest.mark.parametrize(
    ("options", "error", "told"),
    [
        ({"token": TOO_SHORT}, ValueError, "token must be a string of at least 16"),
        ({"token": ""}, ValueError, "secrets.token_urlsafe"),
        ({"token": "with a space in the middle"}, ValueError, "visible ASCII"),
        ({"token": "sch\u00f6n und lang genug....".replace(" ", "")}, ValueError, "visible ASCII"),
        ({"token": "line\nbreaks-are-nothing"}, ValueError, "visible ASCII"),
        ({"token": b"bytes-bytes-bytes-bytes"}, TypeError, "got bytes"),
        ({"path": "_errorkit"}, ValueError, 'e.g. "/_errorkit"'),
        ({"path": "/"}, ValueError, "below the root"),
        ({"path": ""}, ValueError, "below the root"),
        ({"path": "/_errorkit/"}, ValueError, "slash at its end"),
        ({"path": "/a//b"}, ValueError, "plain"),
        ({"path": "/../b"}, ValueError, "plain"),
        ({"path": "/%61"}, ValueError, "plain"),
        ({"path": "/a?b"}, ValueError, "plain"),
        ({"path": None}, TypeError, "path must be plain"),
        ({"hosts": "ops.example.com"}, TypeError, "write ['ops.example.com']"),
        ({"hosts": ["https://ops.example.com"]}, ValueError, "without scheme"),
        ({"hosts": ["ops.example.com:443"]}, ValueError, "without scheme, port"),
        ({"hosts": ["*"]}, ValueError, "hosts must be names"),
        ({"hosts": [""]}, ValueError, "hosts must be names"),
        ({"public": "/health"}, TypeError, "write ['/health']"),
        ({"public": ["/errors"]}, ValueError, "public may have /health/live"),
        ({"public": ["/"]}, ValueError, "public may have"),
        ({"bare": ["/status"]}, ValueError, "bare may have /health"),
        ({"checks": [print]}, TypeError, "mapping of names to callables"),
        ({"checks": {"": print}}, ValueError, "name for people"),
        ({"checks": {"a\nb": print}}, ValueError, "name for people"),
        ({"checks": {"db": 7}}, TypeError, "checks['db'] must be a callable"),
        ({"checks": {"db": lambda needed: None}}, TypeError, "no argument"),
        ({"check_seconds": 0}, ValueError, "check_seconds"),
        ({"session_seconds": 59}, ValueError, "session_seconds"),
        ({"session_seconds": 1e4}, TypeError, "session_seconds"),
        ({"max_viewers": -1}, ValueError, "max_viewers"),
        ({"events_every_seconds": 0.5}, ValueError, "events_every_seconds"),
        ({"events_every_seconds": float("nan")}, ValueError, "events_every_seconds"),
    ],
)
def test_what_cannot_work_is_refused_at_once(options, error, told):
    with pytest.raises(error) as raised:
        Ops(**{"token": TOKEN, **options})
    assert told in str(raised.value)


def test_a_token_is_never_repeated():
    """Neither by the message that refuses it nor by what is shown of the options."""
    with pytest.raises(ValueError, match="15 characters") as raised:
        Ops(token=TOO_SHORT)
    assert TOO_SHORT not in str(raised.value)
    assert TOKEN not in repr(Ops(token=TOKEN))


def test_options_are_given_by_name():
    with pytest.raises(TypeError):
        Ops(TOKEN)  # type: ignore[misc]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"hosts": ["OPS.example.com", "10.0.0.7", "::1", "[fe80::1]"]},
        {"checks": {"a": print, "b": partial(print, "x"), "c": int}},
        {"public": [], "bare": ["/health"]},
        {"path": "/a/b-c_d.e~f"},
    ],
)
def test_what_can_work_is_taken(options):
    assert Ops(**options).path.startswith("/")


@pytest.mark.parametrize("given", [None, 7, object()])
def test_answers_come_from_what_has_some(given):
    with pytest.raises(TypeError, match="ErrorKit, a Host"):
        Ops(token=TOKEN).app(given)


def test_nothing_of_it_is_loaded_with_the_kit():
    """And with it neither asyncio nor trio."""
    code = (
        "import sys, asgi_errorkit\n"
        "a = [m for m in sys.modules if m.startswith('asgi_errorkit.ops')]\n"
        "import asgi_errorkit.ops\n"
        "print(a, [m for m in ('asyncio', 'trio', 'psutil', 'ssl') if m in sys.modules])"
    )
    command = [sys.executable, "-I", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[] []"
