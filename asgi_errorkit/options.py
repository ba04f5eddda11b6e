"""Checks of what is given at construction, each written once: they name the option and what fits."""

import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from math import inf

__all__ = [
    "HISTORY_MINUTES",
    "can_take",
    "check_bool",
    "check_callable",
    "check_headers",
    "check_number",
    "check_text",
    "check_type",
    "check_whole",
    "is_header",
    "is_token",
    "strings",
    "window_seconds",
]

HISTORY_MINUTES = 60
"""How far back statistics reach."""

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, 5.6.2
_FIELD_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")  # RFC 9110, 5.5: it cannot end its line


def check_type(name: str, given: object, wanted: type) -> None:
    """Raise TypeError unless an optional part is of its class, or None."""
    if given is not None and not isinstance(given, wanted):
        raise TypeError(f"{name} must be {_article(wanted.__name__)} or None; got {given!r:.200}")


def check_bool(name: str, given: object) -> None:
    """Raise TypeError for what is neither True nor False, such as an environment's "0"."""
    if not isinstance(given, bool):
        raise TypeError(
            f"{name} must be True or False; got {given!r:.200} (compare what the environment says, "
            f'e.g. {name}=os.environ.get("{name.upper()}") == "1")'
        )


def check_text(name: str, given: object, *, example: str) -> None:
    """Raise TypeError unless it is a string."""
    if not isinstance(given, str):
        raise TypeError(f"{name} must be a string, e.g. {example!r}; got {given!r:.200}")


def check_number(
    name: str,
    given: object,
    *,
    example: float,
    least: float = -inf,
    above: float = -inf,
    most: float = inf,
) -> None:
    """Raise TypeError for what is no number, ValueError for one out of bounds, as NaN always is."""
    wanted = f"a number {_bounds(least, above, most)}, e.g. {example}"
    if isinstance(given, bool) or not isinstance(given, (int, float)):
        raise TypeError(f"{name} must be {wanted}; got {given!r:.200}")
    if not (least <= given <= most and given > above):
        raise ValueError(f"{name} must be {wanted}; got {given!r:.200}")


def check_whole(name: str, given: object, *, example: int, least: int, most: float = inf) -> None:
    """Raise TypeError for what is no whole number, ValueError for one out of bounds."""
    wanted = f"a whole number {_bounds(least, -inf, most)}, e.g. {example}"
    if isinstance(given, bool) or not isinstance(given, int):
        raise TypeError(f"{name} must be {wanted}; got {given!r:.200}")
    if not least <= given <= most:
        raise ValueError(f"{name} must be {wanted}; got {given!r:.200}")


def window_seconds(window_minutes: float) -> float:
    """The seconds of a window that statistics are asked for; raises as `check_number` does."""
    check_number("window_minutes", window_minutes, above=0, most=HISTORY_MINUTES, example=5)
    return window_minutes * 60.0


def strings(name: str, given: Iterable[str]) -> list[str]:
    """The strings as a list; raises TypeError for a bare string, and for anything else."""
    if isinstance(given, str):
        raise TypeError(f"{name} must be a list of strings; got {given!r:.200}, write [{given!r}]")
    if isinstance(given, bytes) or not isinstance(given, Iterable):
        raise TypeError(f'{name} must be a list of strings, e.g. ["a", "b"]; got {given!r:.200}')
    listed = list(given)
    for each in listed:
        if not isinstance(each, str):
            raise TypeError(f"{name} must be a list of strings; got {each!r:.200} among them")
    return listed


def check_callable(name: str, given: object, *takes: str, may_be_async: bool = False) -> None:
    """Raise TypeError for what cannot be called with these arguments, or returns a coroutine.

    What has no signature is taken at its word.
    """
    arguments = f"({', '.join(takes)})" if takes else "no argument"
    wanted = f"a callable that takes {arguments}"
    if not callable(given):
        raise TypeError(f"{name} must be {wanted}; got {given!r:.200}")
    if not may_be_async and _is_async(given):
        raise TypeError(f"{name} must be {wanted}, and not async; got {_described(given)}")
    if not can_take(given, len(takes)):
        raise TypeError(f"{name} must be {wanted}; got {_described(given)}")


def can_take(given: Callable[..., object], number: int) -> bool:
    """Whether it can be called with so many arguments; what has no signature always can."""
    try:
        signature = inspect.signature(given)
    except (TypeError, ValueError):
        return True
    try:
        signature.bind(*range(number))
    except TypeError:
        return False
    return True


def check_headers(name: str, given: object) -> None:
    """Raise TypeError for what is no mapping of strings, ValueError for what cannot be sent."""
    wanted = f'{name} must be a mapping of header names to values, e.g. {{"X-Service": "video"}}'
    if not isinstance(given, Mapping):
        raise TypeError(f"{wanted}; got {given!r:.200}")
    for header, value in given.items():
        if not (isinstance(header, str) and isinstance(value, str)):
            raise TypeError(f"{wanted}, both strings; got {header!r:.200}: {value!r:.200}")
        if not is_header(header, value):
            raise ValueError(
                f"{wanted}, each on one line and in Latin-1; got {header!r:.200}: {value!r:.200}"
            )


def is_token(name: str) -> bool:
    """Whether it can be the name of a header."""
    return _TOKEN.fullmatch(name) is not None


def is_header(name: str, value: str) -> bool:
    """Whether a header of this name and value can be sent."""
    return is_token(name) and _FIELD_VALUE.fullmatch(value) is not None


def _bounds(least: float, above: float, most: float) -> str:
    if above > -inf:
        return f"above {above}" if most == inf else f"above {above} and at most {most}"
    return f"of at least {least}" if most == inf else f"between {least} and {most}"


def _article(name: str) -> str:
    return f"an {name}" if name[0] in "AEIOUaeiou" else f"a {name}"


def _is_async(given: object) -> bool:
    """Whether calling it gives what must be awaited: a function, a partial, or an object."""
    calls = (given, getattr(type(given), "__call__", None))  # noqa: B004  its code is asked for
    return any(inspect.iscoroutinefunction(c) or inspect.isasyncgenfunction(c) for c in calls)


def _described(given: object) -> str:
    name = getattr(given, "__qualname__", None) or type(given).__qualname__
    try:
        return f"{name}{inspect.signature(given)}"  # type: ignore[arg-type]  # it is callable
    except (TypeError, ValueError):
        return name
