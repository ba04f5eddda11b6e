"""What workers tell each other of their circuits, as text; whoever reads it believes little of it."""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from math import isfinite
from types import MappingProxyType
from typing import Any, NamedTuple

import orjson

from asgi_errorkit.circuit_state import CircuitState, Told
from asgi_errorkit.errors import ErrorType

__all__ = ["MOST_NAME", "Heard", "text_of", "told_in"]

MOST_NAME = 300
"""Characters of a name; of a circuit with a longer one nothing is told."""

_MOST_CIRCUITS = 1000
_MOST_NUMBER = 2**32
_MOST_TRIPS = 1000
_SOON_SECONDS = 1.0  # clocks of one machine may differ by less

_STATES = {state.value: state for state in CircuitState}
_TYPES = frozenset(each.value for each in ErrorType)


class Heard(NamedTuple):
    """What one worker tells: who it is, and of which circuits; and how many made no sense."""

    teller: str
    circuits: dict[str, Told]
    unread: int


def text_of(teller: str, circuits: Sequence[Told], room: int) -> tuple[bytes, int]:
    """The text of at most ``room`` bytes, and of how many circuits it tells nothing for want of it.

    What is not closed comes first, then what fails, then the latest that was decided.
    """
    told, left_out = [], 0
    left = room - len(_joined(teller, ()))
    for each in sorted(circuits, key=_importance, reverse=True):
        part = _part(each)
        if part and len(part) + 1 <= left:
            told.append(part)
            left -= len(part) + 1
        else:
            left_out += 1
    return _joined(teller, told), left_out


def told_in(text: bytes, now: float) -> Heard:
    """What a text tells at that time. Never raises."""
    try:
        said = orjson.loads(text)
    except ValueError:
        return Heard("", {}, 1)
    listed = said.get("circuits") if isinstance(said, dict) else None
    if not isinstance(listed, list) or not isinstance(said.get("teller"), str):
        return Heard("", {}, 1)
    read = [_told(each, now) for each in listed[:_MOST_CIRCUITS]]
    known = {told.name: told for told in read if told is not None}
    return Heard(said["teller"], known, len(listed) - len(known))


def _joined(teller: str, told: Sequence[bytes]) -> bytes:
    return b'{"teller":%b,"circuits":[%b]}' % (orjson.dumps(teller), b",".join(told))


@lru_cache(maxsize=1024)
def _part(told: Told) -> bytes:
    """Of one circuit, of which most are as they were the last time; none for a name that is no text."""
    try:
        return orjson.dumps(_members(told)) if len(told.name) <= MOST_NAME else b""
    except orjson.JSONEncodeError:
        return b""


def _importance(told: Told) -> tuple[bool, bool, float]:
    return told.state is not CircuitState.CLOSED, told.failed + told.slow + told.run > 0, told.since


def _members(told: Told) -> dict[str, Any]:
    """What is other than usual."""
    members = {
        name: value
        for name, value in told._asdict().items()
        if name in _KINDS and value != _USUAL.get(name)
    }
    if "state" in members:
        members["state"] = told.state.value
    return members


def _told(said: object, now: float) -> Told | None:
    if not isinstance(said, dict):
        return None
    known = {name: said[name] for name in _KINDS if name in said}
    if not all(_KINDS[name](value, now) for name, value in known.items()) or "name" not in known:
        return None
    known["state"] = _STATES[known.get("state", CircuitState.CLOSED.value)]
    return Told(**known)


def _is_name(value: object, now: float) -> bool:
    return isinstance(value, str) and len(value) <= MOST_NAME


def _is_state(value: object, now: float) -> bool:
    return isinstance(value, str) and value in _STATES


def _is_type(value: object, now: float) -> bool:
    return isinstance(value, str) and value in _TYPES


def _is_number(value: object, now: float) -> bool:
    return type(value) is int and 0 <= value < _MOST_NUMBER


def _is_trips(value: object, now: float) -> bool:
    return type(value) is int and 0 <= value < _MOST_TRIPS


def _is_past(value: object, now: float) -> bool:
    """What somebody says of the future would outlast all that is decided until then."""
    return _is_float(value, now) and value <= now + _SOON_SECONDS  # type: ignore[operator]


def _is_float(value: object, now: float) -> bool:
    return type(value) in (int, float) and 0 <= value < _MOST_NUMBER and isfinite(value)  # type: ignore[operator,arg-type]


def _is_flag(value: object, now: float) -> bool:
    return isinstance(value, bool)


_USUAL: Mapping[str, Any] = MappingProxyType(Told._field_defaults)
_KINDS: Mapping[str, Callable[[object, float], bool]] = MappingProxyType(
    {
        "name": _is_name,
        "state": _is_state,
        "since": _is_past,
        "era": _is_past,
        "hand": _is_past,
        "retry_at": _is_float,
        "trips": _is_trips,
        "error_type": _is_type,
        "triggered_at": _is_float,
        "error_count": _is_number,
        "threshold": _is_float,
        "calls": _is_number,
        "failed": _is_number,
        "slow": _is_number,
        "run": _is_number,
        "run_since": _is_past,
        "run_opens": _is_number,
        "opened_by_run": _is_flag,
        "successes": _is_number,
        "rules": _is_number,
    }
)
