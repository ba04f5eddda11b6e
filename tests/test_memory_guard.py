"""Memory is looked at now and then, and is full only when that is known."""

import math
import sys
from types import ModuleType
from typing import Any

import psutil
import pytest

from asgi_errorkit import memory_guard
from asgi_errorkit.memory_guard import MemoryGuard
from asgi_errorkit.testing import HandClock


def guard(*read: Any, limit: float = 100.0) -> tuple[MemoryGuard, HandClock, list[Any]]:
    clock, left = HandClock(), list(read)

    def read_mb() -> float:
        value = left.pop(0)
        if isinstance(value, BaseException):
            raise value
        return float(value)

    return MemoryGuard(limit, read_mb=read_mb, clock=clock), clock, left


@pytest.mark.parametrize(
    ("memory_mb", "full"),
    [(0, False), (99.9, False), (100, False), (100.1, True), (math.inf, True), (math.nan, False)],
    ids=str,
)
def test_above_the_limit_it_is_full(memory_mb: float, full: bool) -> None:
    asked, _, _ = guard(memory_mb)
    assert asked.is_full() is full


def test_it_looks_at_most_twenty_times_a_second() -> None:
    """Each look costs a system call or three: a flood must not pay for it by the request."""
    asked, clock, left = guard(1, 200, 3)
    assert [asked.is_full() for _ in range(1000)] == [False] * 1000
    assert left == [200, 3]
    clock.move(0.049)
    assert not asked.is_full()
    clock.move(0.002)
    assert asked.is_full() and asked.memory_mb == 200
    clock.move(1)
    assert not asked.is_full() and left == []


def test_where_memory_cannot_be_read_it_is_not_known_to_be_full() -> None:
    asked, clock, _ = guard(200, OSError("no descriptors left"), 200)
    assert asked.is_full()
    clock.move(1)
    assert not asked.is_full()
    assert (asked.read_errors, asked.memory_mb) == (1, 0.0)
    clock.move(1)
    assert asked.is_full() and asked.read_errors == 1


def test_a_failing_read_is_not_tried_again_at_once() -> None:
    asked, _, left = guard(OSError(), 200)
    assert not asked.is_full() and not asked.is_full()
    assert left == [200] and asked.read_errors == 1


def test_what_ends_the_process_is_not_kept_from_it() -> None:
    asked, _, _ = guard(KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        asked.is_full()


def test_a_clock_that_goes_back_only_leaves_the_last_value() -> None:
    asked, clock, left = guard(200, 1)
    assert asked.is_full()
    clock.move(-3600)
    assert asked.is_full() and left == [1]


def test_what_the_system_tells_is_this_processs() -> None:
    asked = MemoryGuard(1.0)
    assert asked.is_full()  # a Python with psutil takes more than a megabyte
    told = psutil.Process().memory_info().rss / 1024**2
    assert asked.memory_mb == pytest.approx(told, rel=0.2)
    assert not MemoryGuard(1e9).is_full()
    assert asked.read_errors == 0


def test_where_there_is_no_proc_psutil_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(memory_guard.os.path, "exists", lambda path: False)
        asked = MemoryGuard(1.0)
    assert asked.is_full() and asked.read_errors == 0


def test_a_psutil_that_fails_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(memory_guard.os.path, "exists", lambda path: False)
        asked = MemoryGuard(1.0)
    monkeypatch.setitem(sys.modules, "psutil", ModuleType("psutil"))
    assert not asked.is_full() and asked.read_errors == 1
