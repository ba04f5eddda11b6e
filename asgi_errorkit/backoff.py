"""When to try again: a span that doubles, a random share of it, and what a Retry-After says."""

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC
from email.utils import parsedate_to_datetime
from random import random as random_share
from typing import Any

from asgi_errorkit.errors import ErrorInfo
from asgi_errorkit.options import check_number, check_whole

__all__ = [
    "MOST_ATTEMPTS",
    "RetryPlan",
    "backoff_seconds",
    "next_wait",
    "retry_after_of",
    "seconds_of_retry_after",
]

MOST_ATTEMPTS = 100
_DAY_SECONDS = 86_400
_LONGEST = 100  # characters of a header's value
_MOST_DOUBLINGS = 64  # a float could not bear a thousand


@dataclass(frozen=True, slots=True)
class RetryPlan:
    """How often and how soon to try again; ``attempts`` and ``total_seconds`` are from the first on.

    Raises TypeError or ValueError for what cannot work.
    """

    attempts: int = 3
    base_seconds: float = 0.1
    max_seconds: float = 5.0
    total_seconds: float = 45.0

    def __post_init__(self) -> None:
        check_whole("attempts", self.attempts, least=1, most=MOST_ATTEMPTS, example=3)
        check_number("base_seconds", self.base_seconds, least=0, most=_DAY_SECONDS, example=0.1)
        check_number("max_seconds", self.max_seconds, least=0, most=_DAY_SECONDS, example=5.0)
        check_number("total_seconds", self.total_seconds, above=0, most=_DAY_SECONDS, example=45.0)

    def within(self, info: ErrorInfo) -> "RetryPlan":
        """The plan for an error of this policy, which says how soon, and may allow fewer attempts."""
        return replace(
            self,
            attempts=min(self.attempts, info.max_retries + 1),
            base_seconds=min(info.retry_delay, _DAY_SECONDS),
        )


def backoff_seconds(
    attempt: int,
    *,
    base_seconds: float,
    max_seconds: float,
    random: Callable[[], float] = random_share,
) -> float:
    """A random share of a span that doubles with each attempt, the first being 1 ("full jitter").

    AWS Architecture Blog, "Exponential Backoff And Jitter".
    """
    doubled: float = base_seconds * 2.0 ** min(attempt - 1, _MOST_DOUBLINGS)
    return random() * min(max_seconds, doubled)


def next_wait(
    attempt: int,
    *,
    plan: RetryPlan,
    elapsed_seconds: float,
    retry_after_seconds: float | None = None,
    remaining_seconds: float | None = None,
    random: Callable[[], float] = random_share,
) -> float | None:
    """The seconds to wait after an attempt that failed, the first being 1; None to give up.

    ``elapsed_seconds`` is the time since the first attempt began, ``remaining_seconds`` what a
    deadline leaves. What was told to come back after a time comes back the backoff later, for
    others were told the same.
    """
    if attempt >= plan.attempts:
        return None
    seconds = (retry_after_seconds or 0.0) + backoff_seconds(
        attempt, base_seconds=plan.base_seconds, max_seconds=plan.max_seconds, random=random
    )
    left = plan.total_seconds - elapsed_seconds
    if remaining_seconds is not None:
        left = min(left, remaining_seconds)
    return seconds if seconds < left else None


def retry_after_of(
    exc: BaseException, *, wall_clock: Callable[[], float] = time.time
) -> float | None:
    """The seconds after which the exception says to come back; None where it says nothing of use.

    Read from its ``retry_after_seconds`` or ``retry_after``, else from the Retry-After header of
    its ``response`` (httpx, requests) or its own ``headers`` (aiohttp, urllib). Never raises; more
    than a day is a day.
    """
    for name in ("retry_after_seconds", "retry_after"):
        seconds = _seconds(_read(exc, name))
        if seconds is not None:
            return seconds
    for holder in (_read(exc, "response"), exc):
        headers = _read(holder, "headers")
        for name in ("retry-after", "Retry-After"):  # a plain dict knows one of them
            seconds = seconds_of_retry_after(_item(headers, name), wall_clock=wall_clock)
            if seconds is not None:
                return seconds
    return None


def seconds_of_retry_after(
    value: object, *, wall_clock: Callable[[], float] = time.time
) -> float | None:
    """The seconds that the value of a Retry-After header asks for (RFC 9110, 10.2.3), or None.

    It is a number of seconds or a date; one that has passed is 0 seconds, more than a day a day.
    """
    if type(value) is bytes:
        value = value[:_LONGEST].decode("latin-1")
    if type(value) is not str:  # a string of another class may do anything
        return None
    text = value[:_LONGEST].strip()
    if re.fullmatch(r"[0-9]+", text):
        return _seconds(float(text))
    try:
        date = parsedate_to_datetime(text)
        # Without a zone, as C's asctime writes it, it is one of UTC.
        at = (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
        return _seconds(max(0.0, at - wall_clock()))
    except Exception:  # noqa: BLE001  it has been raising new ones for each release of Python
        return None


def _seconds(value: object) -> float | None:
    """The number as seconds within bounds; None for what is no number, such as NaN."""
    if type(value) not in (int, float):
        return None
    number: Any = value
    return float(min(number, _DAY_SECONDS)) if number >= 0 else None


def _read(thing: object, name: str) -> Any:
    try:
        return getattr(thing, name, None)
    except Exception:  # noqa: BLE001  a property may raise anything
        return None


def _item(headers: Any, name: str) -> object:
    try:
        return headers.get(name)
    except Exception:  # noqa: BLE001  as above
        return None
