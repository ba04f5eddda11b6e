"""A time limit for a block of application code."""

from types import TracebackType
from typing import Self

from asgi_errorkit.async_library import CancelScope, cancel_scope
from asgi_errorkit.errors import DeadlineExceededError
from asgi_errorkit.options import check_number

__all__ = ["fail_after"]


class fail_after:  # noqa: N801  used as a function is, and named as trio and anyio name theirs
    """``async with fail_after(2.0):`` cuts the block off after so many seconds, under asyncio or
    trio, and raises `DeadlineExceededError` (a TimeoutError).

    A cancellation from elsewhere passes through. Raises RuntimeError where one that is in use is
    entered again, and TypeError or ValueError for what is no time.
    """

    __slots__ = ("_scope", "seconds")

    def __init__(self, seconds: float) -> None:
        check_number("seconds", seconds, least=0, example=2.0)
        self.seconds = seconds
        self._scope: CancelScope | None = None

    async def __aenter__(self) -> Self:
        if self._scope is not None:  # its first block would be cut off when it is over
            raise RuntimeError(
                "this fail_after is in use: it is for one block, so write "
                f"`async with fail_after({self.seconds:g}):` at each"
            )
        self._scope = cancel_scope(self.seconds)
        self._scope.__enter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        scope, self._scope = self._scope, None
        if scope is None:
            return
        scope.__exit__(kind, exc, traceback)
        if scope.expired:
            raise DeadlineExceededError("call", self.seconds) from exc
