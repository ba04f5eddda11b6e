"""Every example of README and of the page on surviving runs as it stands, given the app that it talks about."""

import logging
import re
import tomllib
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import falcon.asgi
import pytest
from fastapi import FastAPI
from litestar import Litestar, get

from asgi_errorkit import ErrorKit, ErrorType, PublicError
from asgi_errorkit.testing import request

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
TEXT = "".join(
    page.read_text(encoding="utf-8") for page in (README, ROOT / "docs" / "surviving.md")
)
BLOCKS = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)


@get("/")
async def handler() -> str:
    return "here"


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
async def test_an_example_runs(block: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it makes of the app serves requests; what it raises is what it shows."""
    monkeypatch.setenv("OPS_TOKEN", "t0ken-of-the-examples")
    monkeypatch.setenv("ALERTS_URL", "http://127.0.0.1:9/nobody-is-there")
    names: dict[str, Any] = {
        "app": FastAPI(),
        "ErrorKit": ErrorKit,
        "ErrorType": ErrorType,
        "Litestar": partial(Litestar, logging_config=None),
        "falcon_app": falcon.asgi.App(),
        "get_asgi_application": FastAPI,  # Django has one configuration for a whole process
        "handler": handler,
    }
    root = logging.getLogger()
    before = list(root.handlers)
    shown = pytest.raises(PublicError) if "raise PublicError" in block else nullcontext()
    try:
        with shown:
            exec(compile(block, README.name, "exec"), names)
    finally:
        root.handlers = before
    for name in ("app", "kit", "application"):
        wrapped = names.get(name)
        if isinstance(wrapped, ErrorKit):
            reply = await request(wrapped, path="/nowhere")
            assert (reply.status, reply.raised) == (404, None)
            assert reply.headers["x-request-id"]
            wrapped.tracker.recorder.close()


def test_there_are_examples() -> None:
    assert len(BLOCKS) >= 8


def test_the_pictures_are_there_and_small() -> None:
    """Those that README shows, no others, and none of them in what is installed."""
    shown = set(re.findall(r'(?:src|srcset)="(docs/images/[^"]+)"', README.read_text("utf-8")))
    lying = {path.relative_to(ROOT).as_posix() for path in ROOT.glob("docs/images/*")}
    assert shown == lying
    assert shown
    assert all((ROOT / path).stat().st_size < 200_000 for path in shown)
    build = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["hatch"]["build"]
    assert build["targets"]["wheel"] == {"packages": ["asgi_errorkit"]}
    assert "docs" in build["targets"]["sdist"]["include"]
