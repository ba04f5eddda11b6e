"""What a circuit of this worker makes of what the others tell of theirs. Judges, and changes nothing."""

from collections.abc import Sequence
from typing import NamedTuple

from asgi_errorkit.circuit_policy import CircuitPolicy
from asgi_errorkit.circuit_state import BY_HAND, CircuitState, Told

__all__ = ["Why", "newer", "successes_elsewhere", "why_together"]

_CLOSED, _OPEN, _HALF_OPEN = CircuitState.CLOSED, CircuitState.OPEN, CircuitState.HALF_OPEN
_RANKS = {_CLOSED: 0, _OPEN: 1, _HALF_OPEN: 1} | dict.fromkeys(BY_HAND, 2)


class Why(NamedTuple):
    """Why all together open: as text, with how many errors, and what they have reached."""

    text: str
    errors: int
    threshold: float
    run_since: float = 0.0  # of failures in a row


def newer(policy: CircuitPolicy, mine: Told, others: Sequence[Told], now: float) -> Told | None:
    """The latest state of the whole host, where this worker has another and is to take it over."""
    latest = max(map(_of_all, others), key=_version, default=None)
    if latest is None or _version(latest) <= _version(mine):
        return None
    if latest.hand > mine.hand:
        return latest
    if mine.state in BY_HAND:  # by its policy: what others count must not undo that
        return None
    if mine.state is _CLOSED and latest.state is not _CLOSED:
        fares_well = _fares_well(policy, mine, others, latest, now)
        if fares_well:  # it stays closed, and knows of the others
            return latest._replace(state=_CLOSED) if latest.era > mine.era else None
    return latest


def why_together(
    policy: CircuitPolicy, mine: Told, others: Sequence[Told], now: float
) -> Why | None:
    """Why a circuit opens by what all workers have counted, or is the whole host's; None: it is not."""
    if policy.across_workers != "merged":
        return None
    if mine.state is not _CLOSED and not (mine.state is _OPEN and mine.since != mine.era):
        return None
    known = _counting(mine, others, now)
    return _why_by_rate(policy, mine, known) or _why_by_run(mine, known)


def successes_elsewhere(mine: Told, others: Sequence[Told]) -> int:
    """How many probes of the others have fared well since the host's circuit is half-open."""
    if mine.state is not _HALF_OPEN or mine.since != mine.era:
        return 0
    return sum(each.successes for each in others if (each.since, each.era) == mine[2:4])


def _of_all(told: Told) -> Told:
    """What of it is the whole host's: who has opened alone since then was closed like the others."""
    return told if told.since == told.era else told._replace(state=_CLOSED, since=told.era)


def _version(told: Told) -> tuple[float, float, int]:
    return told.hand, told.era, _RANKS[told.state]


def _fares_well(
    policy: CircuitPolicy, mine: Told, others: Sequence[Told], latest: Told, now: float
) -> bool:
    """Whether what this worker has seen itself speaks against what the others have opened for."""
    if policy.across_workers != "merged":
        return False
    if latest.opened_by_run:
        return mine.succeeded_at >= latest.run_since
    has_rates = (policy.failure_rate_threshold, policy.slow_call_rate_threshold) != (None, None)
    if not has_rates or mine.calls < policy.minimum_number_of_calls:
        return False
    return _why_by_rate(policy, mine, _counting(mine, others, now)) is None


def _counting(mine: Told, others: Sequence[Told], now: float) -> list[Told]:
    """Those whose counts are of the same time as this worker's, or of a later one."""
    return [
        each
        for each in others
        if (each.hand, each.era) >= (mine.hand, mine.era)
        and (each.state is _CLOSED or (each.state is _OPEN and now < each.retry_at))
    ]


def _why_by_rate(policy: CircuitPolicy, mine: Told, known: Sequence[Told]) -> Why | None:
    all_of_them = [mine, *known]
    calls, failed, slow = (
        sum(counts)
        for counts in zip(
            *((each.calls, each.failed, each.slow) for each in all_of_them), strict=True
        )
    )
    why = policy.why_to_open(calls, failed, slow)
    workers = sum(each.calls > 0 for each in all_of_them)
    return why and Why(f"{why[0]} at {workers} workers", failed or slow, why[1])


def _why_by_run(mine: Told, known: Sequence[Told]) -> Why | None:
    """Failures in a row anywhere, of runs that have begun after this worker's latest success."""
    if mine.state is not _CLOSED:
        return None
    runs = [mine, *(each for each in known if each.run_since > mine.succeeded_at)]
    runs = [each for each in runs if each.run]
    opens = mine.run_opens or max((each.run_opens for each in runs), default=0)
    length = sum(each.run for each in runs)
    if not opens or length < opens:
        return None
    since = min(each.run_since for each in runs)
    return Why(f"{length} failures in a row at {len(runs)} workers", length, opens, since)
