"""What is read of alerts in a file that may say anything: entries of the history, and numbers."""

from collections.abc import Mapping
from math import isfinite
from typing import Any

from asgi_errorkit.alerts.notice import printable

__all__ = ["NO_SENSE", "entry_of", "text_of_record"]

NO_SENSE = (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError)
"""What reading something of another shape raises."""

_TEXT_LIMIT = 500
_TEXTS = ("type", "message", "severity", "status", "key")


def entry_of(told: Mapping[str, Any]) -> dict[str, Any] | None:
    """An entry of the history, or None for what is none."""
    at = told.get("timestamp")
    texts = {name: told.get(name) for name in _TEXTS}
    if not isinstance(at, (int, float)) or not isfinite(at):
        return None
    if not all(isinstance(text, str) for text in texts.values()):
        return None
    over, muted = told.get("resolved_at"), told.get("muted")
    return {
        **{name: text_of_record(str(text)) for name, text in texts.items()},
        "timestamp": at,
        "muted": text_of_record(muted) if isinstance(muted, str) else None,
        "resolved_at": over if isinstance(over, (int, float)) and isfinite(over) else None,
    }


def text_of_record(told: str) -> str:
    """As much of a text as is shown, without what a terminal or a log would obey."""
    return printable(told[:_TEXT_LIMIT])
