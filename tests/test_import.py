"""Importing the package brings in what its face needs, and nothing else."""

import subprocess
import sys

HEAVY = (
    "asyncio",
    "psutil",
    "asgiref",
    "uvicorn",
    "ssl",
    "sqlite3",
    "starlette",
    "trio",
    "multiprocessing",
)


def run(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-I", "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    return done.stdout.strip()


def test_the_import_loads_nothing_heavy() -> None:
    code = f"import sys, asgi_errorkit; print([m for m in {HEAVY!r} if m in sys.modules])"
    assert run(code) == "[]"


def test_wrapping_an_app_starts_no_thread_and_loads_no_psutil() -> None:
    code = (
        "import sys, threading, asgi_errorkit\n"
        "async def app(scope, receive, send): ...\n"
        "asgi_errorkit.ErrorKit(app)\n"
        "print(threading.active_count(), 'psutil' in sys.modules, 'asyncio' in sys.modules)"
    )
    assert run(code) == "1 False False"


def test_everything_promised_is_there() -> None:
    import asgi_errorkit

    for name in asgi_errorkit.__all__:
        assert getattr(asgi_errorkit, name) is not None
