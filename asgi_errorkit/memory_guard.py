"""Whether this process holds more memory than it should take on further work with."""

import os
import time
from collections.abc import Callable

__all__ = ["MemoryGuard"]

_FRESH_SECONDS = 0.05
_MEGABYTE = 1024 * 1024


class MemoryGuard:
    """Looks at the resident memory of the process when asked, at most twenty times a second.

    ``read_mb`` gives it, in units of 1,048,576 bytes; None reads the system's. Where that refuses
    to tell, counted in ``read_errors``, memory is not known to be full.
    """

    def __init__(
        self,
        max_memory_mb: float,
        *,
        read_mb: Callable[[], float] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.read_errors = 0
        self.memory_mb = 0.0
        self._max_mb = max_memory_mb
        self._read_mb = read_mb or _reader()
        self._clock = clock
        self._read_at = float("-inf")

    def is_full(self) -> bool:
        now = self._clock()
        if now - self._read_at >= _FRESH_SECONDS:
            self._read_at = now
            try:
                self.memory_mb = self._read_mb()
            except Exception:  # noqa: BLE001  no descriptors left, no /proc: go on
                self.read_errors += 1
                self.memory_mb = 0.0
        return self.memory_mb > self._max_mb


def _reader() -> Callable[[], float]:
    """Of what the system has: /proc costs a tenth of psutil."""
    if os.path.exists("/proc/self/statm"):  # noqa: PTH110  as cheap as can be
        return _from_proc
    return _from_psutil


def _from_proc() -> float:
    with open("/proc/self/statm", "rb", buffering=0) as statm:  # noqa: PTH123  the same
        return int(statm.read(64).split()[1]) * _PAGE_BYTES / _MEGABYTE


_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096


def _from_psutil() -> float:
    import psutil  # noqa: PLC0415  only those who ask pay for it

    return float(psutil.Process().memory_info().rss) / _MEGABYTE
