"""Recovery in application code: an operation again, or something else instead."""

import inspect
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeAlias, TypeVar

from asgi_errorkit.errors import ErrorAction
from asgi_errorkit.exchange import current
from asgi_errorkit.options import check_text, check_type
from asgi_errorkit.retry import Retry, check_function

__all__ = ["Recovery"]

F = TypeVar("F", bound=Callable[..., Any])

Operation: TypeAlias = Callable[..., Any]


class Recovery:
    """Runs operations so that some failures do not matter: again, or something else instead.

    An operation is a callable, sync or async, or the name under which one was given; all further
    arguments are its own. Sync ones are called in the running task and hold up its loop: those that
    block belong into a thread. ``retry`` (default: what the policies retry) says what is tried
    again. A ``fallback`` that answered stands in the log line of the current exchange. Raises
    TypeError or ValueError for what cannot be called, and for a name that is not known.
    """

    def __init__(
        self, operations: Mapping[str, Operation] | None = None, *, retry: Retry | None = None
    ) -> None:
        check_type("operations", operations, Mapping)
        check_type("retry", retry, Retry)
        self._operations: dict[str, Operation] = {}
        for name, function in (operations or {}).items():
            self.operation(name)(function)
        self._retry = retry or Retry(on=ErrorAction.RETRY)

    def operation(self, name: str) -> Callable[[F], F]:
        """As ``@recovery.operation("render")``: register a function, which stays as it is."""
        check_text("name", name, example="render")
        if name in self._operations:
            raise ValueError(f"there is an operation named {name!r} already")

        def register(function: F) -> F:
            check_function(function)
            self._operations[name] = function
            return function

        return register

    async def process_with_retry(
        self, operation: str | Operation, /, *args: Any, **kwargs: Any
    ) -> Any:
        """What the operation returns, tried again where it fails."""
        return await self._retry.call(self._known(operation), *args, **kwargs)

    async def process_with_fallback(
        self, operation: str | Operation, fallback: str | Operation, /, *args: Any, **kwargs: Any
    ) -> Any:
        """What the operation returns, or where it fails the fallback; each is tried once."""
        return await self._first_of(_once, operation, fallback, args, kwargs)

    async def process_with_recovery(
        self,
        operation: str | Operation,
        /,
        *args: Any,
        fallback: str | Operation | None = None,
        **kwargs: Any,
    ) -> Any:
        """What the operation returns, or else the fallback; each is tried again where it fails.

        The fallback of "render" is named "fallback_render" unless another is given. If both fail,
        the fallback's error is raised, from the operation's.
        """
        instead = self._fallback_of(operation) if fallback is None else fallback
        return await self._first_of(self._retry.call, operation, instead, args, kwargs)

    async def _first_of(
        self,
        call: Callable[..., Awaitable[Any]],
        operation: str | Operation,
        fallback: str | Operation,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        first, second = self._known(operation), self._known(fallback)
        try:
            return await call(first, *args, **kwargs)
        except Exception as failure:  # noqa: BLE001  what comes instead says whether it is raised
            try:
                answer = await call(second, *args, **kwargs)
            except Exception as last:
                if last is not failure and last.__cause__ is None:  # else it has its own story
                    raise last from failure
                raise
        _annotate_fallback(fallback)
        return answer

    def _known(self, operation: str | Operation) -> Operation:
        if not isinstance(operation, str):
            check_function(operation)
            return operation
        if operation not in self._operations:
            raise ValueError(
                f"no operation is named {operation!r}; there are: "
                f"{', '.join(map(repr, sorted(self._operations))) or 'none'}"
            )
        return self._operations[operation]

    @staticmethod
    def _fallback_of(operation: str | Operation) -> str:
        if not isinstance(operation, str):
            raise ValueError(  # noqa: TRY004  its type is right
                f"the fallback of a callable must be given, e.g. fallback=cached; got none for "
                f"{operation!r:.200}"
            )
        return f"fallback_{operation}"


async def _once(function: Operation, /, *args: Any, **kwargs: Any) -> Any:
    result = function(*args, **kwargs)
    return await result if inspect.isawaitable(result) else result


def _annotate_fallback(fallback: str | Operation) -> None:
    exchange = current()
    if exchange is None or exchange.scope is None:  # it has ended: its record is written already
        return
    name = fallback if isinstance(fallback, str) else getattr(fallback, "__qualname__", None)
    exchange.annotate(fallback=name or type(fallback).__qualname__)
