"""Ariadne answers errors of resolvers with 200 or 400; an extension of each request is told of them."""

from collections.abc import Awaitable, Callable, Sequence
from inspect import isawaitable
from typing import Any

from ariadne.types import Extension
from graphql import GraphQLError

from asgi_errorkit.capture.graphql import Operations, tell

__all__ = ["install"]


def install(app: Any) -> None:
    """Add an extension to those of each request, and learn of each document before its rules."""
    handler = app.http_handler
    extensions, rules = handler.extensions, handler.validation_rules
    handler.extensions = _before(_Told, extensions)
    handler.validation_rules = _noting(Operations(), rules)


class _Told(Extension):
    """Sees the errors of an answer before it is made."""

    # The default is called for every field, and would stand in the traceback of every resolver.
    resolve = None  # type: ignore[assignment]  # as its documentation has it

    def has_errors(self, errors: Sequence[GraphQLError], context: Any) -> None:
        tell(errors, by="ariadne")


def _before(extension: type, others: Any) -> Any:
    """The extensions of an application, a list or a callable that makes one, behind ours."""
    if not callable(others):
        return [extension, *(others or ())]

    def add(request: Any, context: Any) -> Any:
        known = others(request, context)
        return add_later(known) if isawaitable(known) else [extension, *(known or ())]

    async def add_later(known: Awaitable[Any]) -> list[Any]:
        return [extension, *(await known or ())]

    return add


def _noting(operations: Operations, rules: Any) -> Callable[..., Any]:
    """The same rules, by a callable that is given each document."""

    def note(context: Any, document: Any, data: Any) -> Any:
        operations.note(document, data.get("operationName"))
        return rules(context, document, data) if callable(rules) else rules

    return note
