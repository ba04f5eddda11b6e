"""When alerts are told: the times between notices, and what is not to be told for a while."""

from dataclasses import dataclass
from fnmatch import fnmatchcase
from math import isfinite
from typing import Any, NamedTuple

from asgi_errorkit.options import check_number, check_whole

__all__ = ["LONGEST_SILENCE_SECONDS", "Silence", "Timing", "time_of"]

_DAY_SECONDS = 86_400.0
_HOUR_SECONDS = 3600.0
LONGEST_SILENCE_SECONDS = 30 * _DAY_SECONDS


@dataclass(frozen=True, slots=True)
class Timing:
    """How soon and how often one type of alerts is told of.

    The first notice waits ``wait_seconds`` for more of its kind, the next comes ``interval_seconds``
    after it at the earliest (also if all was resolved between), and what goes on unchanged is told
    again after ``repeat_seconds``; these defaults are those of Prometheus Alertmanager
    (``group_wait``, ``group_interval``, ``repeat_interval``). What has not been found for
    ``resolve_seconds`` is over. At most ``most_per_hour`` notices are sent in any hour (60, as in
    Bugsink), of which a sixth is kept for what is critical: what is beyond waits, the severest
    first. Raises TypeError or ValueError.
    """

    wait_seconds: float = 30.0
    interval_seconds: float = 300.0
    repeat_seconds: float = 4 * _HOUR_SECONDS
    resolve_seconds: float = 60.0
    most_per_hour: int = 60

    def __post_init__(self) -> None:
        for name, value, example in (
            ("wait_seconds", self.wait_seconds, 30.0),
            ("resolve_seconds", self.resolve_seconds, 60.0),
        ):
            check_number(name, value, least=0, most=_DAY_SECONDS, example=example)
        check_number(
            "interval_seconds", self.interval_seconds, above=0, most=_DAY_SECONDS, example=300.0
        )
        check_number(
            "repeat_seconds", self.repeat_seconds, least=self.interval_seconds, example=14_400.0
        )
        check_whole("most_per_hour", self.most_per_hour, least=1, example=60)


class Silence(NamedTuple):
    """Alerts whose type or key matches ``what`` (``*`` stands for anything) are not told ``until`` then."""

    what: str
    until: float
    why: str = ""

    def covers(self, alert_type: str, key: str) -> bool:
        """Whether it is meant."""
        return fnmatchcase(alert_type, self.what) or fnmatchcase(key, self.what)


def time_of(told: Any) -> float:
    """A time as it was told; raises TypeError or ValueError for what is none, and could not be kept."""
    at = float(told)
    if not isfinite(at):
        raise ValueError(f"{at} is no time")
    return at
