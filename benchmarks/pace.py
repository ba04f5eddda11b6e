"""How fast the machine is just now: others may use it too, and slow it down threefold for seconds."""

import asyncio
import time
from dataclasses import dataclass

__all__ = ["Pace"]

_STEPS = 4000
_LOOKS = 4
_SLOW = 1.2
_PAUSE_SECONDS = 0.2
_TRIES = 4


@dataclass(slots=True)
class Pace:
    """Watches a fixed piece of work; what is measured while that takes longer is measured again.

    At most three times, and while there is patience: what was taken in a slow moment all the same
    is counted in ``slow_turns``.
    """

    patience_seconds: float
    best_seconds: float = float("inf")
    slow_turns: int = 0
    waited_seconds: float = 0.0
    tries: int = 0

    def is_slow(self) -> bool:
        """Whether the machine is a fifth slower now than it was at its best."""
        taken = min(_worked() for _ in range(_LOOKS))
        self.best_seconds = min(self.best_seconds, taken)
        return taken > _SLOW * self.best_seconds

    async def quiet(self) -> None:
        """Wait until the machine is as fast as it was, for as long as there is patience."""
        while self.waited_seconds < self.patience_seconds and self.is_slow():
            self.waited_seconds += _PAUSE_SECONDS
            await asyncio.sleep(_PAUSE_SECONDS)

    def is_good(self) -> bool:
        """Whether what was just measured may stand; asked once after each try of a turn."""
        self.tries += 1
        is_slow = self.is_slow()
        if is_slow and self.tries < _TRIES and self.waited_seconds < self.patience_seconds:
            return False
        self.tries = 0
        self.slow_turns += is_slow
        return True

    def told(self) -> dict[str, float]:
        return {
            "best_ns_a_step": round(self.best_seconds / _STEPS * 1e9, 1),
            "slow_turns": self.slow_turns,
            "waited_seconds": round(self.waited_seconds, 1),
        }


def _worked() -> float:
    began = time.perf_counter()
    total = 0
    for number in range(_STEPS):
        total += number
    return time.perf_counter() - began
