"""The pages of docs/frameworks and the tables say what the tests ask for, and their examples run."""

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest

from asgi_errorkit import ErrorKit
from asgi_errorkit.testing import Reply

from . import apps
from .matrix import FRAMEWORKS
from .tables import PAGES, documents, page_of
from .test_matrix import ask

EXAMPLES = [
    pytest.param(path, block, id=f"{path.stem}-{number}")
    for path in sorted(PAGES.glob("*.md"))
    for number, block in enumerate(re.findall(r"```python\n(.*?)```", path.read_text(), re.DOTALL))
]


@pytest.mark.parametrize(
    ("path", "text"), [pytest.param(*each, id=each[0].stem) for each in documents()]
)
def test_a_table_is_what_the_tests_ask_for(path: Path, text: str) -> None:
    """`python -m tests.capture.tables` writes it anew."""
    assert path.read_text(encoding="utf-8") == text


def test_each_framework_has_a_page() -> None:
    assert {path.stem for path in PAGES.glob("*.md")} == {page_of(name) for name in FRAMEWORKS}


@pytest.mark.parametrize(("path", "block"), EXAMPLES)
async def test_an_example_wraps_the_application(
    path: Path, block: str, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    """An error in a handler is then known and logged, from the lines of the page alone."""
    framework = FRAMEWORKS[next(name for name in FRAMEWORKS if page_of(name) == path.stem)]
    names: dict[str, Any] = {"app": made(path.stem, framework.make)}
    exec(compile(block, path.name, "exec"), names)
    wrapped = names.get("application", names["app"])
    reply = await ask(framework, wrapped, "unhandled")
    assert len(ids(reply)) == 1
    said = b""
    while b"\n" not in said.partition(b'"error_type":"ValueError"')[2]:
        await asyncio.sleep(0.01)  # a thread writes it
        said += capfdbinary.readouterr().out
    if isinstance(wrapped, ErrorKit):
        (group,) = wrapped.tracker.groups()
        assert group.type_name == "ValueError"
        wrapped.tracker.recorder.close()


def made(page: str, make: Any) -> Any:
    """What a user of this page has before its first line."""
    return apps.flask.make() if page == "flask" else make()


def ids(reply: Reply) -> list[bytes]:
    return [value for name, value in reply.starts[0]["headers"] if name == b"x-request-id"]
