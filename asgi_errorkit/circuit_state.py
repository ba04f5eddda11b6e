"""The states of a circuit breaker, and the table of its moves."""

from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType
from typing import Final, NamedTuple

__all__ = ["CIRCUIT_CLOSED", "CIRCUIT_HALF_OPEN", "CIRCUIT_OPEN", "CircuitState", "StateChange"]


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

_BY_HAND = frozenset((CircuitState.FORCED_OPEN, CircuitState.DISABLED, CircuitState.METRICS_ONLY))

MOVES: Mapping[CircuitState, frozenset[CircuitState]] = MappingProxyType(
    {
        CircuitState.CLOSED: frozenset((CircuitState.OPEN, *_BY_HAND)),
        CircuitState.OPEN: frozenset((CircuitState.HALF_OPEN, CircuitState.CLOSED, *_BY_HAND)),
        CircuitState.HALF_OPEN: frozenset((CircuitState.OPEN, CircuitState.CLOSED, *_BY_HAND)),
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
