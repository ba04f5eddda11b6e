"""What a frame does, decided once at construction."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Protocol

from asgi_errorkit.classify import Classifier
from asgi_errorkit.exchange import NOBODY, Caught, Exchange
from asgi_errorkit.identity import RequestIds
from asgi_errorkit.recorder import Recorder
from asgi_errorkit.types import Message, Scope, Send

__all__ = ["Answers", "Choices", "merged", "watching"]


class Answers(Protocol):
    """What a frame asks of the part that answers errors."""

    async def observe(self, exchange: Exchange, exc: Exception) -> None:
        """Tell the application's own hook of an error."""
        ...

    async def answer(
        self, exchange: Exchange, exc: Exception, scope: Scope, send: Send, held: list[Message]
    ) -> bool:
        """Send an answer in place of what was held; True when the exception need go no further."""
        ...

    def extra_headers(self, scope: Scope) -> list[tuple[bytes, bytes]]:
        """What the application wants in each answer that is not its own, such as those of CORS."""
        ...


_numbers = count()


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """The parts that a frame works with; a part that is None leaves no trace on the path."""

    recorder: Recorder
    classifier: Classifier
    ids: RequestIds
    answers: Answers | None = None
    logs: int = NOBODY  # the claim of the sink that writes the log lines
    captures: frozenset[str] = frozenset()  # the frameworks asked for what they swallow
    prepare: Callable[[Scope], None] | None = None  # what is to be done at the first scope
    learn: Callable[[Caught], None] | None = None  # whose breakers hear of an error at once
    collect: Callable[[Scope], dict[str, Any] | None] | None = None
    number: int = field(default_factory=_numbers.__next__)  # by which the recorder knows them


def watching(
    recorder: Recorder, classifier: Classifier, within: Choices | None, ids: RequestIds | None
) -> Choices:
    """The choices of a frame that opens an exchange for what needs one, and does nothing else."""
    return Choices(
        recorder=recorder,
        classifier=classifier,
        ids=ids or (within.ids if within else RequestIds()),
    )


def merged(side_by_side: Sequence[Choices]) -> Choices:
    """The choices of one frame that does what these would do, one within the other."""
    answering = next((c for c in side_by_side if c.answers is not None), side_by_side[0])
    return Choices(
        recorder=answering.recorder,
        classifier=answering.classifier,
        ids=answering.ids,
        answers=answering.answers,
        logs=next((c.logs for c in side_by_side if c.logs), 0),
        captures=answering.captures,
        prepare=answering.prepare,
        learn=answering.learn,
        collect=next((c.collect for c in side_by_side if c.collect is not None), None),
    )
