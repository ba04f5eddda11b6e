"""How a request ended, as the one number that its slot has room for."""

from typing import Final, NamedTuple

from asgi_errorkit.errors import ErrorAction, ErrorType
from asgi_errorkit.exchange import (
    CAUGHT,
    COMPLETE,
    DISCONNECTED,
    ENDED_AS,
    SESSION,
    STATUS,
    Caught,
    State,
)
from asgi_errorkit.outcome import Outcome, outcome_of

__all__ = ["Result", "result_of", "told"]

# The format of the file: what is new comes last, and nothing is ever taken out.
_OUTCOMES: Final = (
    Outcome.OK,
    Outcome.CLIENT_ERROR,
    Outcome.SERVER_ERROR,
    Outcome.CLIENT_DISCONNECT,
    Outcome.TRUNCATED,
    Outcome.INCOMPLETE,
    Outcome.CANCELLED,
    Outcome.BACKGROUND_FAILED,
    Outcome.TIMEOUT,
    Outcome.SHED,
    Outcome.CIRCUIT_OPEN,
    Outcome.FALLBACK,
)
_TYPES: Final = (
    None,
    ErrorType.VALIDATION,
    ErrorType.AUTHENTICATION,
    ErrorType.AUTHORIZATION,
    ErrorType.NOT_FOUND,
    ErrorType.RATE_LIMIT,
    ErrorType.TIMEOUT,
    ErrorType.DATABASE,
    ErrorType.CACHE,
    ErrorType.EXTERNAL_SERVICE,
    ErrorType.MODEL,
    ErrorType.MEMORY,
    ErrorType.SYSTEM,
    ErrorType.UNKNOWN,
)
_CODES: Final = {outcome: number for number, outcome in enumerate(_OUTCOMES)}
_ENDED: Final = 1
_IS_SESSION: Final = 2
_IS_IGNORED: Final = 4
_STATUS_AT, _OUTCOME_AT, _TYPE_AT = 8, 24, 32
_STATUS_MASK, _CODE_MASK = 0xFFFF, 0xFF
_FIRST_FAILING = 400
_TYPE_CODES: Final = {each: number for number, each in enumerate(_TYPES)}


class Result(NamedTuple):
    """How a request ended; the names are those of `Outcome` and `ErrorType`, "" where none is known."""

    status_code: int | None
    outcome: str
    error_type: str
    is_session: bool
    is_ignored: bool


def result_of(state: State) -> int:
    """The number for an exchange that has ended: never 0.

    Bit 0 is set, bit 1 for a websocket session, and bit 2 where the policy ignores the error; from bit 8 the status in 16 bits (0: none), from 24 the outcome and from 32 the
    type of the error, in 8 each, by the places in the tables above.
    """
    status = state[STATUS] or 0
    if (
        state[COMPLETE]
        and 0 < status < _FIRST_FAILING
        and state[CAUGHT] is None
        and state[ENDED_AS] is None
        and not state[DISCONNECTED]
        and state[SESSION] is None
    ):
        return _ENDED | (status & _STATUS_MASK) << _STATUS_AT
    caught: Caught | None = state[CAUGHT]
    # One that was told of before is counted by that.
    info = None if caught is None or caught.counted_by else caught.verdict.info
    kind = None if info is None else info.error_type
    is_ignored = caught is not None and caught.verdict.info.action is ErrorAction.IGNORE
    return (
        _ENDED
        | (_IS_SESSION if state[SESSION] is not None else 0)
        | (_IS_IGNORED if is_ignored else 0)
        | (status & _STATUS_MASK) << _STATUS_AT
        | _CODES[outcome_of(state)] << _OUTCOME_AT
        | _TYPE_CODES[kind] << _TYPE_AT
    )


def told(result: int) -> Result:
    """What such a number says; also one of a later version, or of nobody's."""
    outcome = result >> _OUTCOME_AT & _CODE_MASK
    kind = result >> _TYPE_AT & _CODE_MASK
    error_type = _TYPES[kind] if kind < len(_TYPES) else None
    return Result(
        result >> _STATUS_AT & _STATUS_MASK or None,
        _OUTCOMES[outcome].text if outcome < len(_OUTCOMES) else "",
        "" if error_type is None else error_type.value,
        bool(result & _IS_SESSION),
        bool(result & _IS_IGNORED),
    )
