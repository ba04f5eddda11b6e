"""What must start anew in a forked child: locks that another thread held, calls that go on elsewhere."""

import os
from typing import Protocol
from weakref import WeakSet

__all__ = ["reset_in_child"]


class Resettable(Protocol):
    """What can start anew; ``reset_after_fork`` runs in the child, before anything else does."""

    def reset_after_fork(self) -> None: ...


_KNOWN: "WeakSet[Resettable]" = WeakSet()
_watches = False


def reset_in_child(made: Resettable) -> None:
    """Have ``made`` reset in each child that is forked while it lives."""
    global _watches  # noqa: PLW0603  the process forks in one way
    _KNOWN.add(made)
    if not _watches and hasattr(os, "register_at_fork"):
        _watches = True
        os.register_at_fork(after_in_child=_reset)


def _reset() -> None:
    for made in list(_KNOWN):
        made.reset_after_fork()
