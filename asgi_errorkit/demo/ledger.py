"""The ledger of the traffic maker: what was sent, and what came back, request by request."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

__all__ = ["FAILED", "Ledger", "Sent"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """One request or websocket session as its client knows it.

    ``status`` is None when nothing came back; ``outcome`` and ``error_type`` are in the words of
    the kit; ``by`` says whether the traffic maker sent it, an incident is made of it, or the report
    has looked; ``fallback_for`` is what a fallback has answered for; ``grouped`` tells that an exception was to escape the app; ``got_all`` that the client
    read to the end; ``answer`` is the body that told of an error; ``wrong`` what did not come back
    as it should have.
    """

    kind: str
    request_id: str
    status: int | None
    outcome: str
    error_type: str | None = None
    session: bool = False
    by: Literal["traffic", "incident", "report"] = "traffic"
    fallback_for: str | None = None
    grouped: bool = False
    got_all: bool = True
    sent_bytes: int = 0
    got_bytes: int = 0
    sent_messages: int = 0
    got_messages: int = 0
    seconds: float = 0.0
    answer: bytes = b""
    wrong: str | None = None


FAILED = frozenset(("server_error", "truncated", "background_failed"))
"""The outcomes in which the server was at fault."""


class Ledger:
    """Entries in the order in which they ended; written by one event loop.

    Looks that the report itself takes are entries too, marked as its own.
    """

    def __init__(self, entries: Sequence[Sent] = ()) -> None:
        self.entries = list(entries)

    def __len__(self) -> int:
        return len(self.entries)

    def add(self, sent: Sent) -> None:
        self.entries.append(sent)

    def until(self, number: int) -> "Ledger":
        """The first so many entries: what had ended when a look was taken."""
        return Ledger(self.entries[:number])

    @property
    def requests(self) -> list[Sent]:
        return [sent for sent in self.entries if not sent.session]

    @property
    def sessions(self) -> list[Sent]:
        return [sent for sent in self.entries if sent.session]

    @property
    def own(self) -> list[Sent]:
        return [sent for sent in self.entries if sent.by == "report"]

    @property
    def of_incidents(self) -> list[Sent]:
        return [sent for sent in self.entries if sent.by == "incident"]

    @property
    def wrong(self) -> list[Sent]:
        return [sent for sent in self.entries if sent.wrong]

    def outcomes(self) -> Counter[str]:
        """Requests by outcome; sessions are measured apart."""
        return Counter(sent.outcome for sent in self.requests)

    def error_types(self) -> Counter[str]:
        return Counter(sent.error_type for sent in self.entries if sent.error_type)

    def statuses(self) -> Counter[str]:
        return Counter(str(sent.status or "none") for sent in self.entries)

    def failed(self) -> int:
        """Requests and sessions in which the server was at fault."""
        return sum(sent.outcome in FAILED for sent in self.entries)

    def events(self) -> Counter[str]:
        """The log lines that these entries have to lead to."""
        events: Counter[str] = Counter()
        for sent in self.entries:
            if not sent.session:
                events["request_start"] += 1
                failed = sent.outcome in FAILED
                events["request_error" if failed else "request_complete"] += 1
            else:
                events["websocket_open"] += sent.status == 101
                events["websocket_close"] += 1
        return events
