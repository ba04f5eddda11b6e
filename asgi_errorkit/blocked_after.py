"""After how long an event loop counts as blocked: as the environment says, or else the option."""

import os

from asgi_errorkit.options import check_number

__all__ = ["LEAST_SECONDS", "VARIABLE", "blocked_after", "check_blocked_after"]

VARIABLE = "ASGI_ERRORKIT_BLOCKED_AFTER_SECONDS"
LEAST_SECONDS = 0.02  # to look more often costs more than what that finds
_MOST_SECONDS = 3600


def blocked_after(given: float | None) -> float | None:
    """The seconds, or None for nobody to look.

    The environment outranks the option: who runs an app, or its tests, is not always who wrote it.
    """
    if given is not None:
        check_blocked_after("blocked_after_seconds", given)
    chosen = os.environ.get(VARIABLE, "").strip().lower()
    if not chosen:
        return given
    if chosen == "off":
        return None
    try:
        seconds = float(chosen)
        check_blocked_after(VARIABLE, seconds)
    except ValueError:
        raise ValueError(
            f"the environment's {VARIABLE} must be a number of seconds from {LEAST_SECONDS} to "
            f"{_MOST_SECONDS}, e.g. 0.1, or off; got {chosen!r:.200}"
        ) from None
    return seconds


def check_blocked_after(name: str, given: object) -> None:
    """Raise TypeError or ValueError for what is no number of seconds to look after."""
    check_number(name, given, least=LEAST_SECONDS, most=_MOST_SECONDS, example=0.1)
