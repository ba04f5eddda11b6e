"""What is true of the errors and documents of every server that runs graphql-core."""

from collections.abc import Sequence
from typing import Any

from graphql import GraphQLError, OperationDefinitionNode

from asgi_errorkit.exchange import current
from asgi_errorkit.failure import swallowed
from asgi_errorkit.routes import OTHER

__all__ = ["Operations", "tell"]

_MOST_LOOKED_AT = 100
_MOST_WRAPS = 8
_MOST_NAMES = 100


class Operations:
    """Names the route of a request by its GraphQL operation, such as "query Videos".

    Clients write the names: of one application the first 100 are told apart. What has no name
    leaves the route as it is.
    """

    def __init__(self) -> None:
        self._known: set[str] = set()

    def note(self, document: Any, name: str | None) -> None:
        """Tell the current exchange of the document's operation, the one of that name if given."""
        exchange = current()
        scope = exchange.scope if exchange is not None else None
        label = _named(document, name)
        if scope is not None and label is not None and scope.get("type") == "http":
            scope["path_template"] = self._bounded(label)

    def _bounded(self, label: str) -> str:
        if len(self._known) < _MOST_NAMES:
            self._known.add(label)
        return label if label in self._known else OTHER


def _named(document: Any, name: str | None) -> str | None:
    for each in getattr(document, "definitions", ()):
        if isinstance(each, OperationDefinitionNode) and each.name is not None:
            found = each.name.value
            if (not name or name == found) and len(found) <= _MOST_NAMES:
                return f"{each.operation.value} {found}"
    return None


def tell(errors: Sequence[GraphQLError], *, by: str) -> None:
    """Tell of the errors in one answer, which are counted in the log line as ``graphql_errors``.

    A record keeps one: the first that nobody meant, else the first of those that answer the client.
    """
    judged = [_judged(error) for error in errors[:_MOST_LOOKED_AT]]
    if not judged:
        return
    exc, handled = next((each for each in judged if not each[1]), judged[0])
    exchange = current()
    caught = exchange.caught if exchange is not None and exchange.scope is not None else None
    if caught is None or caught.handled:  # else the first of a batch of operations stays
        exchange = swallowed(exc, by=by, handled=handled, despite_status=True)
    if exchange is not None and exchange.scope is not None:
        before = (exchange.extra or {}).get("graphql_errors", 0)
        exchange.annotate(graphql_errors=before + len(errors))


def _judged(error: BaseException) -> tuple[BaseException, bool]:
    """What a resolver raised, and whether it is an answer to the client that was meant."""
    # At fault is a place in the document or a variable of it, before anything was resolved.
    if getattr(error, "path", None) is None and getattr(error, "nodes", None):
        return error, True
    exc = error
    for _ in range(_MOST_WRAPS):
        if not isinstance(exc, GraphQLError):
            return exc, False
        origin = exc.original_error or exc.__cause__
        if origin is None:
            break
        exc = origin
    return exc, True
