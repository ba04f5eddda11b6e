"""A notice as it is sent, kept and read: plain data, bounded, without secrets."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import orjson

from asgi_errorkit.alerts.finding import Finding
from asgi_errorkit.alerts.timeline import HAPPENED, RESOLVED, Change, Item, Notice
from asgi_errorkit.redact import Redactor

__all__ = ["Words", "printable", "text_of"]

_MOST_ITEMS = 20
_MESSAGE_LIMIT = 500
_NAME_LIMIT = 300
_MOST_BYTES = 4000


class Words:
    """Cleans what is found, and puts changes and notices of a timeline into words.

    ``source`` says whence they come: it is put into each notice. What is in an alert may come from
    a client: it is redacted, cut, and has no characters that a terminal or a log would obey.
    """

    def __init__(self, redactor: Redactor, source: Mapping[str, str | None]) -> None:
        self._redactor = redactor
        self._source = {name: text and self._plain(text, 200) for name, text in source.items()}

    def clean(self, finding: Finding) -> Finding:
        """The finding as anybody may read it."""
        copied = self._redactor.mapping(dict(finding.values), 3)
        values = copied if isinstance(copied, dict) and _is_small(copied) else {"...": "..."}
        return replace(
            finding,
            type=self._plain(finding.type),
            message=self._plain(finding.message, _MESSAGE_LIMIT),
            key=self._plain(finding.key),
            subject=self._plain(finding.subject),
            values=values,
        )

    def _plain(self, text: str, limit: int = _NAME_LIMIT) -> str:
        return printable(self._redactor.text(text, limit))

    def entry(self, change: Change, offset: float) -> dict[str, Any]:
        """A change for the history and the log; ``offset`` makes its time epoch seconds."""
        return {
            "type": change.finding.type,
            "message": change.finding.message,
            "severity": change.finding.severity,
            "timestamp": change.at + offset,
            "status": change.status,
            "key": change.finding.key,
            "muted": change.muted or None,
        }

    def sent_by_hand(self, finding: Finding, at: float) -> dict[str, Any]:
        """What whoever sends an alert is given back."""
        return {
            "type": self._plain(finding.type),
            "message": self._plain(finding.message, _MESSAGE_LIMIT),
            "severity": finding.severity,
            "timestamp": at,
        }

    def sent_entry(self, finding: Finding, at: float) -> dict[str, Any]:
        """As `entry` of what was sent by hand, and has not come to the timeline yet."""
        return {**self.entry(Change(finding, HAPPENED, at, ""), 0.0), "resolved_at": None}

    def notice(self, notice: Notice, offset: float) -> dict[str, Any]:
        """A notice for channels: ``dedup_key`` is the same for all of one type on this host."""
        at = notice.at + offset
        source = (self._source.get("host"), self._source.get("app"), notice.type)
        dedup_key = ":".join(filter(None, source))
        first = notice.items[0].finding.message
        others = len(notice.items) - 1 + notice.beyond
        return {
            "id": f"{dedup_key}:{at:.3f}",
            "dedup_key": dedup_key,
            "type": notice.type,
            "status": notice.status,
            "severity": notice.severity,
            "message": f"{first} (and {others} more)" if others else first,
            "timestamp": at,
            **self._source,
            "alerts": [self.item(item, offset) for item in notice.items[:_MOST_ITEMS]],
            "not_listed": max(0, len(notice.items) - _MOST_ITEMS) + notice.beyond,
            "held_back": notice.held_back,
        }

    @staticmethod
    def item(item: Item, offset: float) -> dict[str, Any]:
        """One alert of a notice."""
        finding = item.finding
        return {
            "type": finding.type,
            "key": finding.key,
            "status": item.status,
            "severity": finding.severity,
            "message": finding.message,
            "since": item.since + offset,
            "count": item.times,
            "values": dict(finding.values),
        }


def printable(text: str) -> str:
    """The text without what a terminal or a log would obey."""
    return "".join(each if each.isprintable() else "?" for each in text)


def _is_small(values: object) -> bool:
    return len(orjson.dumps(values)) <= _MOST_BYTES


def text_of(notice: Mapping[str, Any]) -> tuple[str, str]:
    """A title and a text for people.

    The title is the same from the beginning to the end: mails of one are a conversation, and what
    knows an incident by its title finds it.
    """
    of = f" ({notice['app']})" if notice.get("app") else ""
    release = f", release {notice['release']}" if notice.get("release") else ""
    lines = [f"{notice['status'].upper()}, {notice['severity']}{release}"]
    lines += [_line(alert) for alert in notice["alerts"]]
    if notice["not_listed"]:
        lines.append(f"and {notice['not_listed']} more")
    if held_back := notice.get("held_back"):
        lines.append(f"{held_back} other types wait: this hour has no room for more notices")
    return f"{notice['type']} on {notice['host']}{of}", "\n".join(lines)


def _line(alert: Mapping[str, Any]) -> str:
    times = f" ({alert['count']} times)" if alert["count"] > 1 else ""
    over = "over: " if alert["status"] == RESOLVED else ""
    return f"- {over}{alert['message']}{times}"
