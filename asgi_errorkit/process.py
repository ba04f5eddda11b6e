"""What this process uses, sampled off the request path, and how late its event loops run."""

import sys
import time
from collections.abc import Callable
from threading import get_ident
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import ref

if TYPE_CHECKING:
    from psutil import Process

MAX_LOOPS = 64
_MEGABYTE = 1024 * 1024


class ProcessSample(NamedTuple):
    """The figures of the whole process at one moment; all zero until the first sample.

    ``memory_mb`` is resident memory in units of 1,048,576 bytes. ``cpu_percent`` is CPU time over
    wall time since the sample before, above 100 when threads run side by side. ``open_files``
    counts descriptors, on Windows handles. ``loop_lag_seconds`` is the worst wait for a turn of
    any watched event loop since the sample before, None when none has answered or is overdue.
    ``at`` is the caller's clock.
    """

    memory_mb: float
    cpu_percent: float
    open_files: int | None
    threads: int
    loop_lag_seconds: float | None
    at: float


class ProcessSampler:
    """Holds the latest sample; one thread calls `sample`, any thread reads or calls `watch_loop`.

    What psutil refuses to tell keeps its last value and is counted in ``sample_errors``.
    """

    __slots__ = (
        "_clock",
        "_cpu_seconds",
        "_process",
        "_sampled_at",
        "_watched",
        "cpu_percent",
        "latest",
        "memory_mb",
        "sample_errors",
    )

    _process: "Process | None"
    _sampled_at: float | None

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Cheap: psutil is imported by the first sample; ``clock`` measures the loops' lag."""
        self._clock = clock
        self.sample_errors = 0
        self._keep(ProcessSample(0.0, 0.0, None, 0, None, 0.0))
        self.reset_after_fork()

    def sample(self, now: float) -> ProcessSample:
        """Take a new sample at ``now``, in monotonic seconds; never raises."""
        lag = self._loop_lag()
        try:
            sample = self._measure(lag, now)
        except Exception:  # noqa: BLE001  no descriptors left, no /proc, no permission: go on
            self.sample_errors += 1
            self._process = None
            sample = self.latest._replace(loop_lag_seconds=lag, at=now)
        self._keep(sample)
        return sample

    def watch_loop(self) -> None:
        """Remember the event loop that runs in the calling thread, if one does.

        Costs a dictionary look-up once the thread is known. A thread that starts another loop is
        known again after the sample that finds the former one ended.
        """
        if get_ident() in self._watched:
            return
        loop = running_loop()
        if loop is not None and len(self._watched) < MAX_LOOPS:
            self._watched[get_ident()] = WatchedLoop(loop)

    def reset_after_fork(self) -> None:
        """Forget the parent's loops, process and CPU time; its figures stand until a sample."""
        self._process = None
        self._sampled_at = None
        self._cpu_seconds = 0.0
        self._watched: dict[int, WatchedLoop] = {}

    def _keep(self, sample: ProcessSample) -> None:
        self.latest = sample
        self.memory_mb = sample.memory_mb
        self.cpu_percent = sample.cpu_percent

    def _measure(self, lag: float | None, now: float) -> ProcessSample:
        process = self._process
        if process is None:
            import psutil  # noqa: PLC0415  only those who sample pay for it

            process = self._process = psutil.Process()
        with process.oneshot():
            memory_mb = process.memory_info().rss / _MEGABYTE
            open_files = _open_files(process)
            threads = process.num_threads()
            times = process.cpu_times()
        cpu_percent = self._cpu_since(now, times.user + times.system)
        return ProcessSample(memory_mb, cpu_percent, open_files, threads, lag, now)

    def _cpu_since(self, now: float, cpu_seconds: float) -> float:
        before, used = self._sampled_at, cpu_seconds - self._cpu_seconds
        if before is not None and now <= before:
            return self.cpu_percent
        self._sampled_at, self._cpu_seconds = now, cpu_seconds
        return 0.0 if before is None else used / (now - before) * 100

    def _loop_lag(self) -> float | None:
        lags = []
        for thread, watched in list(self._watched.items()):
            lag = watched.lag(self._clock())
            if watched.ask(self._clock):
                lags.append(lag)
            else:
                self._watched.pop(thread, None)
        return max((lag for lag in lags if lag is not None), default=None)


def _open_files(process: "Process") -> int | None:
    count = getattr(process, "num_fds", None) or getattr(process, "num_handles", None)
    return None if count is None else int(count())


def running_loop() -> Any:
    """The asyncio loop (uvloop's too) or trio token of this thread; neither is ever imported."""
    try:
        asyncio = sys.modules.get("asyncio")
        loop = asyncio and asyncio._get_running_loop()  # noqa: SLF001  public, and does not raise
        trio = sys.modules.get("trio")
        return loop or (trio and trio.lowlevel.current_trio_token())
    except (AttributeError, RuntimeError):  # half imported by another thread; not inside trio
        return None


class _Ping:
    """One question to a loop: the loop's thread writes the lag, once; the sampler reads it."""

    __slots__ = ("asked_at", "clock", "lag")

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.lag: float | None = None
        self.asked_at = clock()

    def __call__(self) -> None:
        if self.lag is None:
            self.lag = self.clock() - self.asked_at


class WatchedLoop:
    """A loop, never kept alive by us, and the one ping it has been asked."""

    __slots__ = ("loop", "ping")

    def __init__(self, loop: Any) -> None:
        self.loop = ref(loop)
        self.ping: _Ping | None = None

    def lag(self, now: float) -> float | None:
        """How late the ping was, or is already; None when none was asked."""
        if self.ping is None:
            return None
        return now - self.ping.asked_at if self.ping.lag is None else self.ping.lag

    def ask(self, clock: Callable[[], float]) -> bool:
        """Ask again what has been answered; False when the loop has ended."""
        loop, ping = self.loop(), self.ping
        if loop is None:
            return False
        if ping is None or ping.lag is not None:
            self.ping = _Ping(clock)
        try:
            if hasattr(loop, "run_sync_soon"):
                # Asked each time, for only this tells of an ended run; a waiting ping stays one.
                loop.run_sync_soon(self.ping, idempotent=True)
                return True
            if self.ping is not ping:
                loop.call_soon_threadsafe(self.ping)
            return bool(loop.is_running())  # a stopped loop may stay open and answer nothing
        except Exception:  # noqa: BLE001  closed, trio's RunFinishedError, or a loop unlike others
            return False
