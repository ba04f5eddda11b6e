"""The end of the report: what was sent beside what was seen, and whether that is the same."""

from collections.abc import Iterator, Sequence

from asgi_errorkit.demo.checks import Check
from asgi_errorkit.demo.ledger import Ledger
from asgi_errorkit.demo.tables import table

__all__ = ["agreement", "verdict"]

_NICE = ("=", "✓", "≠", "✗")
_PLAIN = ("=", "ok", "!=", "NO")


def agreement(checks: Sequence[Check], *, encoding: str) -> list[str]:
    """The table of all checks; its marks are characters that ``encoding`` has."""
    marks = _NICE if _can(encoding, "".join(_NICE)) else _PLAIN
    rows = []
    before = ""
    for check in checks:
        part = check.part if check.part != before else ""
        before = check.part
        relation, mark = marks[:2] if check.holds else marks[2:]
        rows.append((part, check.what, check.sent, relation, check.seen, mark))
    return table(("", "", "sent", "", "seen", ""), rows)


def verdict(ledger: Ledger, checks: Sequence[Check]) -> Iterator[str]:
    """Whether all agrees, and what does not."""
    wrong = [check for check in checks if not check.holds]
    yield ""
    if not wrong:
        yield f"All {len(checks)} agree, exactly: everything that was sent was seen, and nothing else."
        return
    yield f"{len(wrong)} of {len(checks)} DIFFER:"
    for check in wrong:
        yield f"  {check.part}: {check.what}: {check.sent} sent, {check.seen} seen"
    for sent in ledger.wrong[:10]:
        yield f"  {sent.kind} ({sent.request_id or 'no id'}): {sent.wrong}"
    yield "Somebody else may have sent requests to this port; if not, this is a bug of the kit."


def _can(encoding: str, text: str) -> bool:
    try:
        text.encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return False
    return True
