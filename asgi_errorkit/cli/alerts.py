"""`asgi-errorkit alerts test`: what an alert would look like where it goes, and whether it gets there."""

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import orjson

from asgi_errorkit.alerts import Alerts
from asgi_errorkit.alerts.channels import Channel
from asgi_errorkit.alerts.notice import printable, text_of
from asgi_errorkit.redact import Redactor

__all__ = ["alerts"]

_SECRET = "ASGI_ERRORKIT_ALERT_SECRET"  # noqa: S105  the name of a variable
_LIMIT = 500


def alerts(arguments: Sequence[str]) -> int:
    """Show a test alert, and send it if asked to; return 0, 1 if a channel failed, 2 for nonsense."""
    asked = _asked(arguments)
    try:
        chosen = _chosen(asked.target, asked.url)
    except Exception as error:  # noqa: BLE001  whatever the module raises, or a URL that cannot be
        print(f"asgi-errorkit: {_told(error)}", file=sys.stderr)
        return 2
    notice = chosen.sample()
    _show(notice)
    labels = [courier["channel"] for courier in chosen.get_alert_summary()["channels"]]
    if not labels:
        print("nobody else would be told: name a channel with --url, or give MODULE:NAME")
    pairs = list(zip(labels, chosen.channels, strict=True))
    went_well = [_tried(label, channel, notice, asked.send) for label, channel in pairs]
    return 0 if all(went_well) else 1


def _asked(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "asgi-errorkit alerts",
        description="Show a test alert as it would be sent, and where to. Nothing is sent without "
        f"--send. What is posted to http and https is signed with ${_SECRET}, if there is one.",
    )
    parser.add_argument("what", choices=["test"], help="what to do: there is nothing else yet")
    parser.add_argument(
        "target",
        nargs="?",
        metavar="MODULE:NAME",
        help="the Alerts of an app, or its ErrorKit, whose channels are meant",
    )
    parser.add_argument(
        "--url",
        action="append",
        default=[],
        help="a channel: http and https are posted to, other URLs go through apprise; repeatable",
    )
    parser.add_argument("--send", action="store_true", help="send it, to each of them, once")
    return parser.parse_args(list(arguments))


def _chosen(target: str | None, urls: Sequence[str]) -> Alerts:
    """Those of the target, with the URLs beside them."""
    own = [] if target is None else _loaded(target).channels
    return Alerts(to=[*own, *urls], secret=os.environ.get(_SECRET) or None)


def _loaded(target: str) -> Alerts:
    module, _, name = target.partition(":")
    if not module or not name:
        raise ValueError(f"{target!r} names no Alerts: write MODULE:NAME, e.g. shop.main:alerts")
    sys.path.insert(0, "")
    found: Any = import_module(module)
    for part in name.split("."):
        found = getattr(found, part)
    found = found if isinstance(found, Alerts) else getattr(found, "alerts", None)
    if not isinstance(found, Alerts):
        raise TypeError(f"{target} is neither an Alerts nor an ErrorKit with alerts")
    return found


def _show(notice: dict[str, Any]) -> None:
    title, body = text_of(notice)
    print(f"{title}\n{body}\n")
    print(orjson.dumps(notice, option=orjson.OPT_INDENT_2).decode())


def _tried(label: str, channel: Channel, notice: dict[str, Any], is_to_send: bool) -> bool:
    if not is_to_send:
        print(f"would be sent to #{printable(label)}")
        return True
    try:
        channel(notice)
    except Exception as error:  # noqa: BLE001  whatever a channel raises
        print(f"FAILED: #{printable(label)}: {_told(error)}")
        return False
    print(f"sent to #{printable(label)}")
    return True


def _told(error: Exception) -> str:
    text = f"{type(error).__name__}: {error}"
    return printable(Redactor().text(text, _LIMIT))
