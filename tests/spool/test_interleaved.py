"""Two workers that look after the dead at once, at each step of the other: nobody is told of twice."""

import os
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from asgi_errorkit.spool import host as host_module
from asgi_errorkit.spool.directory import SpoolDirectory
from asgi_errorkit.spool.host import Host
from asgi_errorkit.spool.layout import Ending
from asgi_errorkit.spool.owner import Life, Owner, this_process
from asgi_errorkit.testing import HandClock

OK = 200 << 8 | 1
ME = this_process()
FIRST, SECOND, READER = (ME._replace(pid=pid, namespace=pid) for pid in (11, 12, 13))
DEAD = [ME._replace(pid=pid, namespace=1) for pid in range(101, 106)]
LONG_AGO, NOW = 1000.0, 9000.0


class Interrupted:
    """A directory that has something happen before the operation with a number, and before no other."""

    def __init__(self, real: SpoolDirectory, number: int, happens: Callable[[], None]) -> None:
        self._real, self._left, self._happens = real, number, happens
        self.is_over = True  # fewer operations than that

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._real, name)
        if not callable(found):
            return found

        def step(*given: Any) -> Any:
            self._left -= 1
            if self._left == -1:
                self.is_over = False
                self._happens()
            return found(*given)

        return step


class World:
    """Two workers and a reader, in a directory in which some have died; who acts is set by hand."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch, dead: Life) -> None:
        self.path = path
        self.acts = FIRST
        self.lives = dict.fromkeys(
            (FIRST, SECOND), Life.ALIVE if dead is Life.DEAD else Life.UNKNOWN
        )
        monkeypatch.setattr(host_module, "this_process", lambda: self.acts)
        monkeypatch.setattr(host_module, "life_of", lambda owner: self.lives.get(owner, dead))
        monkeypatch.setattr(host_module, "_OURS", set())
        self.told: list[dict[str, Any]] = []

    def host(self, owner: Owner, *, leads: bool = False) -> Host:
        host = Host(self.path, clock=HandClock(NOW))
        host._leader.is_ours = lambda: leads  # type: ignore[method-assign]
        host.on_death(self.told.append)
        return host

    def look(self, host: Host, owner: Owner) -> None:
        """As `Host.look`, of which one process does one at a time."""
        before, self.acts = self.acts, owner
        host._look()
        host._tell()
        self.acts = before


def bury(path: Path, world: World) -> None:
    """One that was idle, one that ended in order, one amid a request, one damaged, one half claimed."""
    host = Host(path, clock=HandClock(LONG_AGO))
    for number, owner in enumerate(DEAD):
        world.acts = owner
        segment, _ = host.open_segment()
        for _ in range(3):
            place = segment.begin("id", "GET", "/", 1.0, 2.0)
            assert place is not None
            segment.end(place, OK, 2.0)
        segment.save(orjson.dumps({"outcomes": {"ok": 1}}), [place], LONG_AGO)
        if number == 1:
            segment.close(Ending.CLEAN)
        elif number > 1:
            segment.begin("id", "GET", "/guilty", 1.0, 2.0)
    world.acts = FIRST
    damaged, claimed = (next(path.glob(f"worker-{owner.pid}-*")) for owner in DEAD[3:])
    os.truncate(damaged, 5000)
    claimed.rename(path / claimed.name.replace("worker-", f"claimed-{DEAD[0].key}-of-"))


def counted(host: Host) -> dict[str, int]:
    return dict(host.counts().outcomes)


@pytest.mark.parametrize(
    ("life", "who_leads"),
    [(Life.DEAD, "second"), (Life.UNKNOWN, "first")],
    ids=["of one host", "of containers"],
)
def test_whoever_looks_at_whichever_step_of_another_each_death_is_told_of_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, life: Life, who_leads: str
) -> None:
    """And what the dead have counted is counted once, at each moment; nothing is left behind."""
    template = tmp_path / "template"
    bury(template, World(template, monkeypatch, life))
    # In a container of its own a claim, and what is damaged, is left alone until it is old.
    dead = {101, 103, 104, 105} if life is Life.DEAD else {101, 103}
    ok = 12  # of 15, for three are in the damaged one
    for number in range(1000):
        path = tmp_path / str(number)
        shutil.copytree(template, path, copy_function=os.link)  # nobody writes to what is there
        path.chmod(0o700)
        world = World(path, monkeypatch, life)
        first = world.host(FIRST, leads=who_leads == "first")
        second = world.host(SECOND, leads=who_leads == "second")
        reader = world.host(READER)

        def happens(world: World = world, second: Host = second, reader: Host = reader) -> None:
            assert counted(reader) == {"ok": ok}
            world.look(second, SECOND)

        interrupted = Interrupted(first.directory, number, happens)
        first.directory = interrupted  # type: ignore[assignment]
        world.look(first, FIRST)
        first.directory = interrupted._real
        for host, owner in ((first, FIRST), (second, SECOND)) * 2:
            world.look(host, owner)
        told = Counter(crash["pid"] for crash in world.told)
        assert told == dict.fromkeys(told, 1), number
        assert set(map(_pid_in_name, path.glob("crash-*"))) == dead, number
        assert len(list(path.glob("crash-*"))) == len(told) == len(dead)
        assert counted(reader) == {"ok": ok}
        left = Counter(each.name.partition("-")[0] for each in path.iterdir())
        alone = {} if life is Life.DEAD else {"worker": 1, "claimed": 1}
        assert left == {"crash": len(dead), "totals.ek": 1, **alone}
        shutil.rmtree(path)
        if interrupted.is_over:
            break
    assert number > 20


def _pid_in_name(path: Path) -> int:
    return int(path.name.split("-")[2])
