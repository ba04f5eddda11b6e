"""The frameworks' own test suites pass with every app wrapped, as they pass with the bare ones.

What fails is named here, each with its reason: a test that asserts the exact headers of every
response, that a raw exception comes out, or the framework's own words for a 500.
"""

import os
import re
import subprocess
import sys
import tarfile
from importlib.metadata import version
from pathlib import Path

import pytest

WRAPPING = Path(__file__).parent / "wrapping"
ROOT = Path(__file__).parents[2]

HEADER = "asserts that a response has no header but its own: it has an X-Request-ID"
ANSWERED = "asserts what nobody answers: the kit does"
WORDS = "asserts the framework's own words for a 500"

STARLETTE = {
    "test_exceptions.py::test_force_500_response": WORDS,
    "test_routing.py::test_websocket_route_middleware": HEADER,
    "test_staticfiles.py::test_staticfiles_unhandled_os_error_returns_500": WORDS,
    "test_testclient.py::test_invalid_trailer_sequence": ANSWERED,
    "test_websockets.py::test_additional_headers": HEADER,
    "test_websockets.py::test_no_additional_headers": HEADER,
}
DJANGO = {
    "test_assert_in_listen_for_disconnect": ANSWERED,
    "test_file_response": HEADER,
    "test_get_asgi_application": HEADER,
    "test_headers": HEADER,
}


def source(name: str, folder: Path) -> Path:
    """The source of the installed version, with its tests."""
    fetch = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--no-binary",
        ":all:",
    ]
    subprocess.run([*fetch, f"{name}=={version(name)}"], cwd=folder, check=True)
    (packed,) = folder.glob("*.tar.gz")
    with tarfile.open(packed) as archive:
        archive.extractall(folder, filter="data")
    return folder / packed.name.removesuffix(".tar.gz")


def run(arguments: list[str], folder: Path) -> str:
    """Run one suite; what it says."""
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join((str(WRAPPING), str(ROOT)))},
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )
    return done.stdout + done.stderr


@pytest.mark.timeout(600)
def test_starlettes_own_suite(tmp_path: Path) -> None:
    tests = source("starlette", tmp_path) / "tests"
    alone = tmp_path / "alone"  # beside the installed package, not the unpacked one
    alone.mkdir()
    tests.rename(alone / "tests")
    options = ["-m", "pytest", "-q", "-rf", "-p", "no:asyncio", "-p", "no:cacheprovider"]
    options += ["-o", "addopts=", "-o", "filterwarnings=", "--rootdir", str(alone)]
    options += [
        "--ignore",
        "tests/middleware/test_opentelemetry.py",
    ]  # of a package not needed here
    bare = run([*options, "tests"], alone)
    wrapped = run([*options, "-p", "wrapped_starlette", "tests"], alone)
    for said in (bare, wrapped):
        assert int(re.findall(r"(\d+) passed", said)[-1]) > 1000, said[-3000:]
    new = _failed(wrapped) - _failed(bare)
    assert new == STARLETTE.keys(), wrapped[-3000:]


def _failed(said: str) -> set[str]:
    return set(re.findall(r"^FAILED tests/([^ \[]+)", said, re.MULTILINE))


@pytest.mark.timeout(600)
def test_djangos_own_asgi_tests(tmp_path: Path) -> None:
    tests = source("django", tmp_path) / "tests"
    options = ["runtests.py", "asgi", "--parallel=1"]
    bare = run(options, tests)
    wrapped = run([*options, "--settings=wrapped_django"], tests)
    for said in (bare, wrapped):
        assert int(re.findall(r"Ran (\d+) tests", said)[-1]) >= 30, said[-3000:]
    assert re.findall(r"^(?:FAIL|ERROR): (\w+)", bare, re.MULTILINE) == []
    assert set(re.findall(r"^(?:FAIL|ERROR): (\w+)", wrapped, re.MULTILINE)) == DJANGO.keys(), (
        wrapped[-3000:]
    )
