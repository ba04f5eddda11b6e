"""The kit is compared with its peers as they really work, and with nobody who has not done the work."""

import json
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from types import ModuleType
from typing import IO, Any

import pytest

from asgi_errorkit.testing import request

ROOT = Path(__file__).parents[1]

WATCHED = """
import logging
import sys

asked = []
NETWORK = ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto")


def watch(event, arguments):
    if event in NETWORK:
        asked.append(event)
        raise OSError("nothing may be reached from here")


sys.addaudithook(watch)
from benchmarks.peers import main

code = main(sys.argv[1:])
print("asked of the network:", asked)
print("log records of:", logging.getLogRecordFactory().__name__)
sys.exit(code)
"""

ALWAYS = {
    "bare app",
    "no-op wrapper",
    "ErrorKit: everything, start + completion",
    "ErrorKit: everything, completion",
    "structlog, leanest access log",
    "structlog, usual recipe",
    "the guide's design",
}
"""What the tests' own requirements suffice for."""


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", WATCHED, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], str]:
    """A short run of all that is installed: what it wrote and what it printed."""
    file = tmp_path_factory.mktemp("peers") / "peers.json"
    # Whatever else the machine does meanwhile: these figures are not published.
    done = run(
        *("--rounds", "2", "--requests", "20", "--patience-seconds", "0", "--json", str(file))
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return json.loads(file.read_text()), done.stdout


@pytest.fixture
def peers(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT)
    import benchmarks.peers

    return benchmarks.peers


def scenario(*, raises: bool) -> Any:
    from benchmarks.scenarios import SCENARIOS

    return next(one for one in SCENARIOS if one.raises is raises)


def test_every_subject_is_measured_or_named_as_left_out(
    measured: tuple[dict[str, Any], str], peers: ModuleType
) -> None:
    written, printed = measured
    wanted = {(entry.around, entry.name) for entry in peers.ENTRIES}
    assert len(written["scenarios"]) == 2
    for one in written["scenarios"].values():
        subjects = {(row["around"], row["name"]) for row in one["subjects"]}
        left_out = {(row["around"], row["name"]) for row in one["left_out"]}
        assert subjects | left_out == wanted
        assert not subjects & left_out
        assert {name for _, name in subjects} >= ALWAYS
        for around, name in left_out:
            assert f"left out: {name} around {around}" in printed


def test_every_figure_is_told_of_every_subject(measured: tuple[dict[str, Any], str]) -> None:
    written, printed = measured
    for scenario_name, one in written["scenarios"].items():
        assert scenario_name in printed
        for row in one["subjects"]:
            assert row["requests"] >= 2
            assert len(row["gc_collections_per_100_000"]) == 3
            for figure in ("wall_us", "cpu_us"):
                assert 0 < row[figure]["min"] <= row[figure]["median"] <= row[figure]["max"]
            if row["name"] == "bare app":
                assert row["cpu_added_us"]["min"] == row["cpu_added_us"]["max"] == 0


def test_nothing_is_asked_of_the_network(measured: tuple[dict[str, Any], str]) -> None:
    """No collector is looked for, not even in vain."""
    assert "asked of the network: []" in measured[1]


def test_nobody_is_slowed_by_what_another_sets_for_the_process(
    measured: tuple[dict[str, Any], str],
) -> None:
    assert "log records of: LogRecord\n" in measured[1]


def test_versions_are_told_of_what_is_installed_only(
    measured: tuple[dict[str, Any], str], peers: ModuleType
) -> None:
    from benchmarks.machine import machine

    versions = measured[0]["versions"]
    assert {"asgi-errorkit", "structlog", "fastapi"} <= set(versions)
    assert "no-such-package" not in machine([], packages=["no-such-package"])["versions"]


@pytest.mark.parametrize("option", ["--rounds", "--requests"])
def test_a_wrong_option_ends_with_a_word_about_it(option: str) -> None:
    done = run(option, "0")
    assert done.returncode == 2
    assert option in done.stderr


async def test_what_cannot_be_imported_is_left_out_with_the_reason(peers: ModuleType) -> None:
    def absent(scenario: Any, log: IO[bytes], closing: ExitStack) -> Any:
        import no_such_package

        return no_such_package

    entries = [*peers.ENTRIES[:1], peers.Entry("ASGI", "absent", absent)]
    series, left_out = await peers.measure_peers(
        entries, scenario(raises=False), rounds=1, patience_seconds=0.0, requests=2
    )
    assert list(series) == [("ASGI", "bare app")]
    assert left_out == {("ASGI", "absent"): "No module named 'no_such_package'"}


async def test_who_breaks_for_another_reason_is_not_left_out_in_silence(
    peers: ModuleType,
) -> None:
    def broken(scenario: Any, log: IO[bytes], closing: ExitStack) -> Any:
        raise TypeError("an option has gone")

    with pytest.raises(TypeError, match="an option has gone"):
        await peers.measure_peers(
            [peers.Entry("ASGI", "broken", broken)], scenario(raises=False), rounds=1, requests=2
        )


async def test_who_has_not_done_the_work_is_refused(peers: ModuleType) -> None:
    """What is lost on the way out costs nothing, and would make a peer look fast."""

    def idle(scenario: Any, log: IO[bytes], closing: ExitStack) -> Any:
        return peers.Peer(app=scenario.app, done=(lambda: 0,))

    with pytest.raises(RuntimeError, match=r"idle around ASGI: of 6 requests 0 came out"):
        await peers.measure_peers(
            [peers.Entry("ASGI", "idle", idle)], scenario(raises=False), rounds=1, requests=2
        )


async def test_a_peer_is_in_force_in_its_own_turn_only(peers: ModuleType) -> None:
    """Neither what it enters nor what it leaves in the context reaches the next one's turn."""
    from contextlib import contextmanager
    from contextvars import ContextVar

    marked: ContextVar[bool] = ContextVar("marked", default=False)
    entered: list[str] = []
    seen: list[tuple[list[str], bool]] = []

    @contextmanager
    def turn() -> Any:
        entered.append("on")
        marked.set(True)
        yield
        entered.pop()

    def one(scenario: Any, log: IO[bytes], closing: ExitStack) -> Any:
        return peers.Peer(app=scenario.app, turn=turn)

    def next_one(scenario: Any, log: IO[bytes], closing: ExitStack) -> Any:
        async def looking(*arguments: Any) -> None:
            seen.append((list(entered), marked.get()))

        return peers.Peer(app=looking)

    entries = [peers.Entry("ASGI", "one", one), peers.Entry("ASGI", "next", next_one)]
    await peers.measure_peers(entries, scenario(raises=False), rounds=2, requests=1)
    assert seen
    assert all(look == ([], False) for look in seen)


async def test_every_installed_peer_lets_the_app_answer(peers: ModuleType, tmp_path: Path) -> None:
    """A plain request is answered by the app within, whatever is around it."""
    plain = scenario(raises=False)
    answered = set()
    for entry in peers.ENTRIES:
        with ExitStack() as closing:
            log = closing.enter_context((tmp_path / "one.log").open("wb"))
            try:
                peer = entry.make(plain, log, closing)
            except ImportError:
                continue
            before = [done() for done in peer.done]
            with peer.turn():
                reply = await request(peer.app, path="/items/list")
                peer.flush()
            assert (reply.status, reply.body) == (200, b"ok"), entry.name
            assert [done() for done in peer.done] > before or not before, entry.name
            peer.rest()
            answered.add(entry.name)
    assert answered >= ALWAYS
