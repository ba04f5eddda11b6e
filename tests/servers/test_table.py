"""docs/servers.md says what is tested, and nothing else."""

from . import table


def test_the_table_is_what_the_tests_are() -> None:
    """`python -m tests.servers.table` writes it anew."""
    assert table.PAGE.read_text(encoding="utf-8") == table.page()
