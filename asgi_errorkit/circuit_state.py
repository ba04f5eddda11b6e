"""The states of a circuit breaker, and the table of its moves."""

from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType
from typing import Final, NamedTuple

__all__ = [
    "BY_HAND",
    "CIRCUIT_CLOSED",
    "CIRCUIT_HALF_OPEN",
    "CIRCUIT_OPEN",
    "CircuitState",
    "StateChange",
    "Told",
]


class CircuitState(Enum):
    """What a breaker does with a call."""

    CLOSED = "closed"  # lets it through, and counts
    OPEN = "open"  # refuses it, until its time is up
    HALF_OPEN = "half_open"  # lets a few through, to see how they fare
    FORCED_OPEN = "forced_open"  # refuses it, until told otherwise
    DISABLED = "disabled"  # lets it through, and counts nothing
    METRICS_ONLY = "metrics_only"  # lets it through, and counts how often it would have opened

    __hash__ = object.__hash__


CIRCUIT_CLOSED: Final = CircuitState.CLOSED.value
CIRCUIT_OPEN: Final = CircuitState.OPEN.value
CIRCUIT_HALF_OPEN: Final = CircuitState.HALF_OPEN.value

BY_HAND: Final = frozenset(
    (CircuitState.FORCED_OPEN, CircuitState.DISABLED, CircuitState.METRICS_ONLY)
)
"""The states that a breaker is put into, and leaves when it is told to."""

MOVES: Mapping[CircuitState, frozenset[CircuitState]] = MappingProxyType(
    {
        CircuitState.CLOSED: frozenset((CircuitState.OPEN, *BY_HAND)),
        CircuitState.OPEN: frozenset((CircuitState.HALF_OPEN, CircuitState.CLOSED, *BY_HAND)),
        CircuitState.HALF_OPEN: frozenset((CircuitState.OPEN, CircuitState.CLOSED, *BY_HAND)),
        CircuitState.FORCED_OPEN: frozenset(
            (
                CircuitState.CLOSED,
                CircuitState.OPEN,
                CircuitState.DISABLED,
                CircuitState.METRICS_ONLY,
            )
        ),
        CircuitState.DISABLED: frozenset(
            (
                CircuitState.CLOSED,
                CircuitState.OPEN,
                CircuitState.FORCED_OPEN,
                CircuitState.METRICS_ONLY,
            )
        ),
        CircuitState.METRICS_ONLY: frozenset(
            (
                CircuitState.CLOSED,
                CircuitState.OPEN,
                CircuitState.FORCED_OPEN,
                CircuitState.DISABLED,
            )
        ),
    }
)
"""Whence a breaker can go whither; any other move is a defect, and changes nothing."""


class StateChange(NamedTuple):
    """A breaker's step from one state to another; ``at`` is seconds since the epoch.

    From ``METRICS_ONLY`` to itself means that it would have opened.
    """

    name: str
    was: CircuitState
    now: CircuitState
    at: float
    why: str


class Told(NamedTuple):
    """What one worker knows of a circuit, for the others of its host; times are by their clock.

    A state is the whole host's if it came ``since`` the ``era``: the others take it over, the latest
    of what somebody asked for by ``hand`` first, then the latest era. Else it is this worker's own.
    What was counted is that of the window while it is closed, and of an open circuit what it opened
    for.
    """

    name: str
    state: CircuitState = CircuitState.CLOSED
    since: float = 0.0  # of one that is half-open: when it opened
    era: float = 0.0
    hand: float = 0.0
    retry_at: float = 0.0
    trips: int = 0
    error_type: str = ""
    triggered_at: float = 0.0  # seconds since 1970
    error_count: int = 0
    threshold: float = 0.0
    calls: int = 0
    failed: int = 0
    slow: int = 0
    run: int = 0  # failures in a row, of those that can open it
    run_since: float = 0.0
    run_opens: int = 0  # how many do; 0: no number does
    opened_by_run: bool = False
    successes: int = 0  # of probes, since it is half-open
    rules: int = 0  # which policy, of those that requests make circuits with; 0: another
    succeeded_at: float = 0.0  # not later than that; told to nobody
