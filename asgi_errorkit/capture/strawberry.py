"""Strawberry answers errors of resolvers with 200; extensions of its schema are told of them."""

from collections.abc import Iterator
from typing import Any

from strawberry.extensions import SchemaExtension

from asgi_errorkit.capture.graphql import Operations, tell
from asgi_errorkit.failure import swallowed

__all__ = ["install"]


def install(schema: Any) -> None:
    """Put an extension of ours on either side of those that the schema has."""
    innermost = type("_Innermost", (_Innermost,), {"operations": Operations()})
    schema.extensions = (_Outermost, *schema.extensions, innermost)
    # Made once in older versions, perhaps before now.
    for name in ("_sync_extensions", "_async_extensions"):
        vars(schema).pop(name, None)


class _Innermost(SchemaExtension):
    """Sees the result before the extensions around it mask its errors."""

    operations: Operations
    streamed = False

    def on_operation(self) -> Iterator[None]:
        context = self.execution_context  # of this request, though an instance may serve several
        yield
        # By getattr: what an older or a newer version lacks must not become an error of its answer.
        self.operations.note(
            getattr(context, "graphql_document", None), getattr(context, "operation_name", None)
        )
        if not self.streamed:
            result = getattr(context, "result", None)
            early = getattr(context, "pre_execution_errors", None)  # it was not executed at all
            tell(_errors_of(result) or early or (), by="strawberry")

    def on_stream_result(self, result: Any) -> Iterator[None]:
        self.streamed = True
        yield


class _Outermost(SchemaExtension):
    """Sees what the extensions within it raise, and the results of a stream before they mask them."""

    def on_operation(self) -> Iterator[None]:
        try:
            yield
        except Exception as exc:
            # Its own are for a request that asks for nothing, or for what it may not.
            refused = type(exc).__module__.startswith("strawberry.")
            swallowed(exc, by="strawberry", handled=refused, despite_status=True)
            raise

    def on_stream_result(self, result: Any) -> Iterator[None]:
        tell(_errors_of(result), by="strawberry")
        yield


def _errors_of(result: Any) -> list[Any]:
    """The errors of a result, and of those that it delivers piece by piece."""
    initial = getattr(result, "initial_result", None)
    pieces = [result, initial]
    for name in ("incremental", "completed"):
        pieces += [piece for part in (result, initial) for piece in getattr(part, name, None) or ()]
    return [error for piece in pieces for error in getattr(piece, "errors", None) or ()]
