"""The page on surviving says what the results say."""

from pathlib import Path

import pytest

from benchmarks.page_surviving import SECTIONS, main, replaced

ROOT = Path(__file__).parents[1]


def test_the_repository_says_what_its_results_say() -> None:
    """`python -m benchmarks.page_surviving` would change nothing."""
    page = (ROOT / "docs" / "surviving.md").read_text(encoding="utf-8")
    assert page == replaced(page, ROOT / "benchmarks" / "results")
    assert main(["--check"]) == 0


def test_a_page_without_a_place_is_not_written() -> None:
    """It says which comments are missing."""
    for name in SECTIONS:
        with pytest.raises(ValueError, match=f"<!-- {name} -->"):
            replaced(
                "".join(f"<!-- {n} --><!-- /{n} -->" for n in SECTIONS if n != name),
                ROOT / "benchmarks" / "results",
            )
