"""What happened to an exchange, told truthfully: the status alone lies both ways."""

from collections.abc import Sequence
from enum import Enum

from asgi_errorkit.exchange import (
    CAUGHT,
    COMPLETE,
    DISCONNECTED,
    ENDED_AS,
    FALLBACK,
    INTERRUPTED,
    SESSION,
    STATUS,
    Caught,
    Record,
)

__all__ = ["Outcome", "outcome_of", "outcomes_of", "status_of"]


class Outcome(Enum):
    """How an exchange ended; `failed` tells the ones that are the server's failures."""

    text: str
    failed: bool

    OK = "ok"  # a complete response below 400, or a websocket session that ended by itself
    CLIENT_ERROR = "client_error"  # a complete response of 400 to 499
    SERVER_ERROR = "server_error"  # a complete response of 500 or more, or an error before it
    CLIENT_DISCONNECT = "client_disconnect"  # the client left before the response was complete
    TRUNCATED = "truncated"  # an error after the response started and before it was complete
    INCOMPLETE = "incomplete"  # the app returned without completing the response or handshake
    CANCELLED = "cancelled"  # the server cancelled the request, or the process was told to leave
    BACKGROUND_FAILED = "background_failed"  # an error after a complete response below 500
    # Said by whoever refuses or cuts a request (`Exchange.end_as`), of no complete answer below 400
    TIMEOUT = "timeout"  # the time that was given to it was up
    SHED = "shed"  # it was refused unheard, for there was more to do than could be done
    CIRCUIT_OPEN = "circuit_open"  # it was refused, for what it needs is known to be failing
    FALLBACK = "fallback"  # it failed, and something else answered below 400 in its place

    __hash__ = object.__hash__  # an enum's own is no C, and each request is counted by its outcome

    def __init__(self, text: str) -> None:
        # Plain attributes: an enum's own value is computed at each look.
        self.text = text
        self.failed = text not in (
            "ok",
            "client_error",
            "client_disconnect",
            "cancelled",
            "fallback",
        )


_STATUSES = {Outcome.TIMEOUT: 504, Outcome.SHED: 503, Outcome.CIRCUIT_OPEN: 503}


def status_of(record: Record, outcome: Outcome) -> int:
    """The status that tells what kind of failure it was, of which no exception is known."""
    return _STATUSES.get(outcome) or record[STATUS] or 500


def outcomes_of(records: Sequence[Record]) -> list[Outcome]:
    """Judge ended exchanges, nearly all of which went well."""
    ok = Outcome.OK
    return [
        ok
        if record[COMPLETE]
        and record[CAUGHT] is None
        and record[ENDED_AS] is None
        and not record[DISCONNECTED]
        and record[SESSION] is None
        and (record[STATUS] or 500) < 400
        else outcome_of(record)
        for record in records
    ]


def outcome_of(record: Record) -> Outcome:
    """Judge one ended exchange."""
    given = record[ENDED_AS]
    if given is not None and _went_well(record) is (given == FALLBACK):
        return Outcome(given)
    caught: Caught | None = record[CAUGHT]
    if caught is not None and caught.handled:
        caught = None  # the answer says how bad it was
    if record[SESSION] is not None:
        return _of_session(record, caught)
    if record[DISCONNECTED] and caught is None:
        return Outcome.CLIENT_DISCONNECT  # whatever was sent after that reached nobody
    status = record[STATUS]
    if record[COMPLETE]:
        return _of_response(status or 500, caught)
    if caught is not None:
        return Outcome.SERVER_ERROR if status is None else Outcome.TRUNCATED
    return Outcome.CANCELLED if record[INTERRUPTED] else Outcome.INCOMPLETE


def _went_well(record: Record) -> bool:
    is_response = record[COMPLETE] and record[SESSION] is None
    return is_response and (record[STATUS] or 500) < 400


def _of_response(status: int, caught: Caught | None) -> Outcome:
    if status >= 500:
        return Outcome.SERVER_ERROR
    if caught is not None and caught.late:
        return Outcome.BACKGROUND_FAILED
    if status >= 400 and not (caught is not None and caught.despite_status):
        return Outcome.CLIENT_ERROR
    return Outcome.OK if caught is None else Outcome.SERVER_ERROR  # whatever it was answered with


def _of_session(record: Record, caught: Caught | None) -> Outcome:
    if caught is not None:
        return Outcome.SERVER_ERROR
    status = record[STATUS]
    if status is not None and status >= 400:  # refused before it was accepted
        return _of_response(status, None)
    if record[INTERRUPTED] and not record[DISCONNECTED]:
        return Outcome.CANCELLED
    if status is None and not record[DISCONNECTED]:
        return Outcome.INCOMPLETE  # the handshake was left unanswered
    return Outcome.OK
