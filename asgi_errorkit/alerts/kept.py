"""What goes on, has been and is silenced, at one look: as it is known, or as it is kept on record."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from asgi_errorkit.alerts.entries import NO_SENSE, entry_of, text_of_record
from asgi_errorkit.alerts.notice import Words
from asgi_errorkit.alerts.record import AlertRecord
from asgi_errorkit.alerts.state import Shown
from asgi_errorkit.alerts.timeline import Timeline, count_of
from asgi_errorkit.alerts.timing import Timing
from asgi_errorkit.redact import Redactor

__all__ = ["RECENT", "kept_by", "summary_of"]

RECENT = 10

_MOST_HISTORY = 1000
_MOST_FIRING = 500
_MOST_RESOLVED = 500


def summary_of(
    shown: Shown, unheeded: Sequence[Mapping[str, Any]], *, now: float, offset: float
) -> dict[str, Any]:
    """That part of `Alerts.get_alert_summary` which is the same for all of a host.

    ``unheeded`` are entries of the history that come after it. ``now`` is by the clock of what is
    shown, which ``offset`` makes epoch seconds.
    """
    history = [*shown.history, *unheeded]
    return {
        "total_alerts": shown.total_alerts + len(unheeded),
        "recent_alerts": [dict(entry) for entry in history[-RECENT:]],
        "firing": [
            {**Words.item(item, offset), "muted": item.muted or None} for item in shown.firing
        ],
        "by_type": dict(Counter(entry["type"] for entry in history)),
        "by_severity": dict(Counter(entry["severity"] for entry in history)),
        "silences": [
            {**s._asdict(), "until": s.until + offset} for s in shown.silences if s.until > now
        ],
        "unsaid": dict(shown.unsaid),
        "held_back": shown.held_back,
    }


def kept_by(record: AlertRecord, wall_now: float) -> tuple[dict[str, Any], Mapping[str, float]]:
    """The same as the worker that alerts, or did so last, has kept it; and what is resolved.

    It reads, and changes nothing. Raises RecordError where the directory cannot serve, ValueError
    for what makes no sense.
    """
    told = record.load()
    if told is None:
        return summary_of(Shown(), (), now=0.0, offset=0.0), {}
    try:
        offset = float(told["offset"])
        now = wall_now - offset
        shown = _shown(told, now)
        return summary_of(shown, (), now=now, offset=offset), shown.resolved
    except NO_SENSE as error:
        raise ValueError(f"what is kept of alerts makes no sense: {error!r:.200}") from error


def _shown(told: Mapping[str, Any], now: float) -> Shown:
    """By the clock of who has told it, so that no time has to be made another."""
    timeline, words = Timeline.told(Timing(), told["timeline"], now=now), Words(Redactor(), {})
    entries = (entry_of(each) for each in told["history"][-_MOST_HISTORY:])
    mended = list(told.get("resolved", {}).items())[-_MOST_RESOLVED:]
    return Shown(
        tuple(entry for entry in entries if entry is not None),
        count_of(told["total_alerts"]),
        tuple(
            item._replace(finding=words.clean(item.finding))
            for item in timeline.alerts()[:_MOST_FIRING]
        ),
        tuple(
            silence._replace(what=text_of_record(silence.what), why=text_of_record(silence.why))
            for silence in timeline.silences
        ),
        tuple(timeline.unsaid.items()),
        timeline.held_back,
        {str(key): float(at) for key, at in mended},
    )
