"""The frameworks' own test suites pass with every app wrapped, as they pass with the bare ones.

A suite is run wrapped; what fails then is run once more, bare. What passes there is named here,
each with its reason: a test that asserts the exact headers of every response, that a raw exception
comes out, or the framework's own words for a 500.
"""

import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path

import httpx
import pytest

WRAPPING = Path(__file__).parent / "wrapping"
ROOT = Path(__file__).parents[2]
INDEX = os.environ.get("PIP_INDEX_URL", "https://pypi.org/simple").rstrip("/")

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
FASTAPI = {
    "test_dependency_after_yield_streaming.py::test_broken_session_data_no_raise": WORDS,
}
QUART: dict[str, str] = {}
LISTENERS = "unit/test_handlers/test_websocket_handlers/test_listeners.py"
LITESTAR = {
    "unit/test_connection/test_websocket.py::test_additional_headers": HEADER,
    "unit/test_connection/test_websocket.py::test_no_additional_headers": HEADER,
    f"{LISTENERS}::test_listener_accept_connection_callback": HEADER,
}
DJANGO = {
    "test_assert_in_listen_for_disconnect": ANSWERED,
    "test_file_response": HEADER,
    "test_get_asgi_application": HEADER,
    "test_headers": HEADER,
}

# The last sources that were published with their tests. They say of the newer, installed
# frameworks what has not changed since; a test that the framework itself fails is left out.
QUART_TESTS = "0.15.1"
LITESTAR_TESTS = "2.13.0"

# Of Litestar's tests, those that send requests; what is left out tests schemas, data transfer
# objects, the command line, and packages that are not needed here (stores, databases, templates).
REQUESTS = """
    unit/test_asgi unit/test_background_tasks.py unit/test_connection unit/test_controller.py
    unit/test_di.py unit/test_exceptions.py unit/test_guards.py unit/test_handlers unit/test_kwargs
    unit/test_middleware unit/test_response unit/test_static_files unit/test_testing
    e2e/test_cors e2e/test_dependency_injection e2e/test_exception_handlers
    e2e/test_life_cycle_hooks e2e/test_middleware e2e/test_option_requests.py
    e2e/test_regular_handler_under_asgi_mount_path.py e2e/test_router_registration.py
    e2e/test_routing e2e/test_starlette_responses.py
"""


def source(name: str, release: str, folder: Path) -> Path:
    """A published source, unpacked. Not by pip, which would set up what builds it first."""
    with httpx.Client(timeout=60, follow_redirects=True) as client:
        listed = client.get(
            f"{INDEX}/{name}/", headers={"accept": "application/vnd.pypi.simple.v1+json"}
        )
        (file,) = (
            file
            for file in listed.raise_for_status().json()["files"]
            if file["filename"].lower() == f"{name}-{release}.tar.gz"
        )
        packed = client.get(str(listed.url.join(file["url"]))).raise_for_status().content
    assert sha256(packed).hexdigest() == file["hashes"]["sha256"]
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        archive.extractall(folder, filter="data")
    return folder / file["filename"].removesuffix(".tar.gz")


def alone(source: Path, *folders: str) -> Path:
    """The tests moved away from their package, so that they import the installed one."""
    place = source.with_name("alone")
    place.mkdir()
    for folder in folders:
        (source / folder).rename(place / folder)
    return place


def run(arguments: list[str], folder: Path) -> str:
    """Run one suite; what it says."""
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join((str(WRAPPING), str(ROOT))),
            "ASGI_ERRORKIT_BLOCKED_AFTER_SECONDS": "",  # as users have it
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",  # importing those not needed takes seconds
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )
    return done.stdout + done.stderr


def differing(
    wrapper: str, options: list[str], folder: Path, *, passing: int, requests: int
) -> set[str]:
    """The tests that fail wrapped and pass bare, where so many pass and send so many requests."""
    always = ["-m", "pytest", "-q", "--rootdir", str(folder), "--continue-on-collection-errors"]
    # Assertions as they are: to rewrite them takes longer than many suites.
    always += ["--assert=plain", "-o", "addopts=", "-o", "filterwarnings="]
    wrapped = run([*always, *options, "-p", "wrapped", "-p", wrapper, "-rfE"], folder)
    for least, told in ((passing, "passed"), (requests, "requests wrapped")):
        said = re.findall(rf"(\d+) {told}", wrapped)
        assert said and int(said[-1]) >= least, wrapped[-3000:]
    bare = run(
        [*always, *options, "--last-failed", "--last-failed-no-failures=none", "-rp"], folder
    )
    return set(re.findall(r"^PASSED tests/([^\s\[]+)", bare, re.MULTILINE))


@pytest.mark.timeout(600)
def test_starlettes_own_suite(tmp_path: Path) -> None:
    folder = alone(source("starlette", version("starlette"), tmp_path), "tests")
    options = ["-p", "anyio", "tests"]
    # of a package not needed here
    options += ["--ignore", "tests/middleware/test_opentelemetry.py"]
    found = differing("wrapped_starlette", options, folder, passing=1200, requests=800)
    assert found == STARLETTE.keys()


@pytest.mark.timeout(600)
def test_fastapis_own_suite(tmp_path: Path) -> None:
    folder = alone(source("fastapi", version("fastapi"), tmp_path), "tests", "docs_src")
    options = ["-p", "anyio", "tests", "-k", "not openapi"]  # the schemas are no business of ours
    for left_out in (
        "benchmarks",
        "memory_benchmarks",
        "test_fastapi_cli.py",
        "test_prepare_release.py",
        "test_telemetry",  # of packages that are not needed here
        "test_translate.py",
        "test_tutorial",  # the examples of the manual, which take half as long again
    ):
        shutil.move(folder / "tests" / left_out, folder)
    found = differing("wrapped_starlette", options, folder, passing=3000, requests=2500)
    assert found == FASTAPI.keys()


@pytest.mark.timeout(600)
def test_quarts_own_suite(tmp_path: Path) -> None:
    folder = alone(source("quart", QUART_TESTS, tmp_path), "tests")
    options = ["-p", "asyncio", "-o", "asyncio_mode=auto", "-p", "quart_names", "tests"]
    # without a request
    options += ["--ignore", "tests/wrappers/test_response.py"]
    found = differing("wrapped_quart", options, folder, passing=150, requests=50)
    assert found == QUART.keys()


@pytest.mark.timeout(600)
def test_litestars_own_suite(tmp_path: Path) -> None:
    folder = alone(source("litestar", LITESTAR_TESTS, tmp_path), "tests")
    _without_import(folder / "tests/conftest.py", "from time_machine import travel")
    _without_import(folder / "tests/helpers.py", "import picologging")
    options = ["-p", "anyio", "-p", "asyncio", "-o", "asyncio_mode=auto"]
    options += [
        "-p",
        "pytest_lazy_fixtures.plugin",
        "-p",
        "pytest_mock",
        "-m",
        "not server_integration",
    ]
    options += ["-k", "not test_cors_simple_response"]  # one test with 486 sets of options
    options += [f"tests/{path}" for path in REQUESTS.split()]
    found = differing("wrapped_litestar", options, folder, passing=1200, requests=800)
    assert found == LITESTAR.keys()


def _without_import(file: Path, line: str) -> None:
    """Of a package that none of the tests needs that are run."""
    said = file.read_text()
    assert line in said
    name = line.rsplit(maxsplit=1)[-1]
    file.write_text(
        said.replace(line, f"from unittest.mock import MagicMock\n{name} = MagicMock()")
    )


@pytest.mark.timeout(600)
def test_djangos_own_asgi_tests(tmp_path: Path) -> None:
    tests = source("django", version("django"), tmp_path) / "tests"
    options = ["runtests.py", "asgi", "--parallel=1"]
    wrapped = run([*options, "--settings=wrapped_django"], tests)
    assert int(re.findall(r"Ran (\d+) tests", wrapped)[-1]) >= 30, wrapped[-3000:]
    failed = _failed(wrapped)
    assert failed == DJANGO.keys(), wrapped[-3000:]
    bare = run([*options, *(word for name in failed for word in ("-k", name))], tests)
    assert int(re.findall(r"Ran (\d+) tests", bare)[-1]) >= len(failed), bare[-3000:]
    assert _failed(bare) == set(), bare[-3000:]


def _failed(said: str) -> set[str]:
    return set(re.findall(r"^(?:FAIL|ERROR): (\w+)", said, re.MULTILINE))
