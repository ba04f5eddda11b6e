"""Whose a segment is: a process, told from every other that was or will be on this host."""

import os
import re
import sys
from enum import Enum
from typing import NamedTuple

__all__ = ["Life", "Owner", "life_of", "this_process"]

_LINUX = sys.platform.startswith("linux")
_KEY = re.compile(
    r"([1-9][0-9]{0,9})-(0|[1-9][0-9]{0,18})-([0-9a-f]{8})-(0|[1-9a-f][0-9a-f]{0,15})"
)
_NO_BOOT = "00000000"
_MOST_READ = 4096

# Places in what follows the name in /proc/<pid>/stat; proc(5) counts from 1 and from the pid.
_STATE, _THREADS, _START = 3 - 3, 20 - 3, 22 - 3
_ENDED = frozenset((b"Z", b"X", b"x"))


class Life(Enum):
    """What can be said of a process; only what is DEAD may be claimed."""

    ALIVE = "alive"
    DEAD = "dead"
    UNKNOWN = "unknown"


class Owner(NamedTuple):
    """A process for good: an id that is given again later belongs to another owner.

    On Linux ``start`` is in clock ticks since the boot (proc(5), field 22 of stat), ``boot`` the
    first 8 hex digits of the boot's random id, and ``namespace`` the inode of the namespace that
    the pid is counted in, 0 when it is not known. Elsewhere ``start`` is in milliseconds since
    1970; such a date tells boots apart, so ``boot`` and ``namespace`` are zeros.
    """

    pid: int
    start: int
    boot: str
    namespace: int

    @property
    def key(self) -> str:
        """All of it as text for the name of a file, some 33 characters of ``[0-9a-f-]``."""
        return f"{self.pid}-{self.start}-{self.boot}-{self.namespace:x}"

    @classmethod
    def parse(cls, key: str) -> "Owner | None":
        """The owner with this key, or None for what is no key."""
        found = _KEY.fullmatch(key)
        if found is None:
            return None
        pid, start, boot, namespace = found.groups()
        return cls(int(pid), int(start), boot, int(namespace, 16))


def this_process() -> Owner:
    """Who runs this. Never raises, and never remembers: a forked child is somebody else."""
    pid = os.getpid()
    if not _LINUX:
        return Owner(pid, _start_by_psutil(pid), _NO_BOOT, 0)
    told = _parse_stat(_read(f"/proc/{pid}/stat"))
    if told is None:
        return Owner(pid, 0, _boot(), 0)
    return Owner(pid, told.start, _boot(), _namespace())


def life_of(owner: Owner) -> Life:
    """Whether it still runs; a zombie does not. Never raises; some 35 µs on Linux.

    UNKNOWN are the processes of a container whose pids are counted apart from ours, and all of them
    where /proc does not tell enough of ourselves. What exists and may not be looked at is ALIVE.
    """
    if not _LINUX:
        return _life_by_psutil(owner)
    boot = _boot()
    if _NO_BOOT in (boot, owner.boot):
        return Life.UNKNOWN
    if boot != owner.boot:
        return Life.DEAD
    namespace = _namespace()
    if not namespace or namespace != owner.namespace:
        return Life.UNKNOWN
    return _life_by_proc(owner)


class _Stat(NamedTuple):
    start: int
    has_ended: bool


def _life_by_proc(owner: Owner) -> Life:
    text = _read(f"/proc/{owner.pid}/stat")
    if not text:
        # No such entry: it is gone, or hidden (hidepid in proc(5)), or we are out of descriptors.
        return Life.ALIVE if _exists(owner.pid) else Life.DEAD
    told = _parse_stat(text)
    if told is None:
        return Life.UNKNOWN
    return Life.DEAD if told.has_ended or told.start != owner.start else Life.ALIVE


def _parse_stat(text: bytes) -> _Stat | None:
    """What /proc/<pid>/stat says, or None where it makes no sense."""
    # A process names itself: its name may hold blanks, line ends and parentheses.
    fields = text.rpartition(b")")[2].split()
    try:
        # The first thread of a process can be a zombie while others run, and write.
        has_ended = fields[_STATE] in _ENDED and int(fields[_THREADS]) <= 1
        return _Stat(int(fields[_START]), has_ended)
    except (IndexError, ValueError):
        return None


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # it is another user's
        return True
    return True


def _boot() -> str:
    boot = _read("/proc/sys/kernel/random/boot_id")[:8].decode("latin-1")
    return boot if re.fullmatch("[0-9a-f]{8}", boot) else _NO_BOOT


def _namespace() -> int:
    """The inode of our pid namespace; 0 also where /proc counts pids by another one than ours."""
    try:
        if os.readlink("/proc/self") != str(os.getpid()):  # noqa: PTH115  half the time of a Path
            return 0
        return os.stat("/proc/self/ns/pid").st_ino
    except OSError:
        return 0


def _read(path: str) -> bytes:
    """The beginning of a file of /proc; nothing where it cannot be read."""
    try:
        file = os.open(path, os.O_RDONLY)
    except OSError:
        return b""
    try:
        return os.read(file, _MOST_READ)
    except OSError:  # it ended meanwhile
        return b""
    finally:
        os.close(file)


def _life_by_psutil(owner: Owner) -> Life:
    if not owner.start:
        return Life.UNKNOWN
    import psutil  # noqa: PLC0415  on Linux nobody pays for it

    try:
        process = psutil.Process(owner.pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return Life.DEAD
        is_same = _milliseconds(process.create_time()) == owner.start
    except psutil.NoSuchProcess:
        return Life.DEAD
    except psutil.AccessDenied:
        return Life.ALIVE
    except Exception:  # noqa: BLE001  what cannot be judged is left alone
        return Life.UNKNOWN
    return Life.ALIVE if is_same else Life.DEAD


def _start_by_psutil(pid: int) -> int:
    import psutil  # noqa: PLC0415  on Linux nobody pays for it

    try:
        return _milliseconds(psutil.Process(pid).create_time())
    except Exception:  # noqa: BLE001  0: not known
        return 0


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)
