"""What one thing that is read becomes: it may be of any shape, and is bounded here."""

from collections.abc import Callable, Mapping
from math import isfinite
from typing import Any, TypeAlias

from asgi_errorkit.cli.words import MESSAGE_LIMIT, TEXT_LIMIT

__all__ = [
    "Judge",
    "Shape",
    "as_shape",
    "by_name",
    "context",
    "listed",
    "number",
    "one",
    "source_lines",
    "text",
    "whole",
    "words",
    "yes",
]

_MOST_NAMES = 100
_MOST_LINES = 20
_MOST_ITEMS = 50
_MOST_DEPTH = 8

Judge: TypeAlias = Callable[[object], Any]
"""Gives what is told, or None for what makes no sense under that name."""
Shape: TypeAlias = Mapping[str, Judge]


def text(told: object, limit: int = TEXT_LIMIT) -> str | None:
    """A string that is not too long."""
    return told[:limit] if isinstance(told, str) else None


def number(told: object) -> float | None:
    """A number that can be told in JSON."""
    if isinstance(told, bool) or not isinstance(told, (int, float)):
        return None
    return told if isfinite(told) else None


def as_shape(shape: Shape, told: Mapping[str, Any]) -> dict[str, Any]:
    """What is told under each name of a shape, None where it makes no sense."""
    return {name: judge(told.get(name)) for name, judge in shape.items()}


def whole(told: object) -> int | None:
    """A whole number."""
    return told if isinstance(told, int) and not isinstance(told, bool) else None


def yes(told: object) -> bool:
    """Whether it is told to be so."""
    return told is True


def words(told: object) -> str | None:
    """A longer string, such as a message."""
    return text(told, MESSAGE_LIMIT)


def listed(shape: Shape, most: int) -> Judge:
    """As many of a list as are mappings, each of that shape."""

    def judge(told: object) -> list[dict[str, Any]]:
        first = told[:most] if isinstance(told, list) else []
        return [as_shape(shape, each) for each in first if isinstance(each, dict)]

    return judge


def one(shape: Shape) -> Judge:
    """A mapping of that shape, None for what is none or empty."""
    return lambda told: as_shape(shape, told) if isinstance(told, dict) and told else None


def by_name(judge: Judge, most: int = _MOST_NAMES) -> Judge:
    """A mapping of what makes sense, by its bounded names."""

    def judge_all(told: object) -> dict[str, Any]:
        pairs = list(told.items())[:most] if isinstance(told, dict) else []
        judged = {str(name)[:TEXT_LIMIT]: judge(each) for name, each in pairs}
        return {name: each for name, each in judged.items() if each is not None}

    return judge_all


def source_lines(told: object) -> list[list[Any]]:
    """Lines of source, each with its number."""
    first = told[:_MOST_LINES] if isinstance(told, list) else []
    pairs = [each for each in first if isinstance(each, list) and len(each) == 2]
    return [[whole(at), text(line)] for at, line in pairs]


def _anything(told: object, depth: int = _MOST_DEPTH) -> Any:
    """What a context may hold, not too much and not too deep."""
    if isinstance(told, dict) and depth:
        first = list(told.items())[:_MOST_ITEMS]
        return {str(name)[:TEXT_LIMIT]: _anything(each, depth - 1) for name, each in first}
    if isinstance(told, list) and depth:
        return [_anything(each, depth - 1) for each in told[:_MOST_ITEMS]]
    if isinstance(told, bool):
        return told
    return words(told) if isinstance(told, str) else number(told)


def context(told: object) -> dict[str, Any] | None:
    """What somebody noted with an error, as far as it is neither too much nor too deep."""
    return _anything(told) if isinstance(told, dict) and told else None
