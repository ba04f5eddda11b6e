"""Which browser is driven: one of the system's, else one that is fetched once."""

import os
import shutil
import subprocess
import sys
from functools import cache

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PATH = "ASGI_ERRORKIT_BROWSER"
REQUIRED = "ASGI_ERRORKIT_BROWSER_REQUIRED"
FETCH_SECONDS = 100


async def launch(playwright):
    """A headless browser; where there is none the test is skipped, or fails where one must be."""
    path = found()
    if path is None and (why := fetched()):
        absent = pytest.fail if os.environ.get(REQUIRED) else pytest.skip
        absent(f"no browser: none of {', '.join(NAMES)} is there, ${PATH} names none, and {why}")
    return await playwright.chromium.launch(executable_path=path)


def found():
    """Where a browser lies that is there already; None if there is none."""
    given = os.environ.get(PATH)
    return given or next(filter(None, map(shutil.which, NAMES)), None)


@cache
def fetched():
    """Have one fetched, unless it was before; why that failed, or nothing."""
    command = [sys.executable, "-m", "playwright", "install", "chromium-headless-shell"]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=FETCH_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return f"none could be fetched within {FETCH_SECONDS} s"
    return f"none could be fetched: {done.stderr[-500:]}" if done.returncode else ""
