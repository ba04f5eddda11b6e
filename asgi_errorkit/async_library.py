"""What a task needs of the library that runs it, asyncio or trio: to sleep, to be woken, to be cut.

Neither is ever imported: whoever runs in one has loaded it.
"""

import sys
from collections.abc import Callable
from contextvars import Context, ContextVar
from math import inf
from types import TracebackType
from typing import Any, Protocol, Self
from weakref import ref

__all__ = ["CancelScope", "Wakeup", "cancel_scope", "in_trio", "is_cut", "sleep", "wakeup"]


class CancelScope(Protocol):
    """Cuts short, by the library's own cancellation, the block that it is entered for once it is due.

    The block stays in its task. What was cut ends quietly, and ``expired`` tells it; ``called``
    tells that the block was asked to end, whatever it made of that. A cancellation from elsewhere
    passes through. ``move(seconds)`` makes it due so many seconds from now, or never (infinity);
    ``spares_caller()`` tells whether who asks is in the block, and not cut. ``first``, where it was
    given, is called when it is due: the block is cut so many seconds after that as it returns.
    """

    expired: bool

    @property
    def called(self) -> bool: ...
    def move(self, seconds: float) -> None: ...
    def spares_caller(self) -> bool: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool: ...


class Wakeup(Protocol):
    """What one task waits for; ``wake`` may be called from any thread, and more than once."""

    def wake(self) -> None: ...
    async def wait(self) -> None: ...


def in_trio() -> bool:
    """Whether trio runs this task. Asked before asyncio is: a guest of its loop is trio's task."""
    trio = sys.modules.get("trio")
    return trio is not None and bool(trio.lowlevel.in_trio_task())


async def sleep(seconds: float) -> None:
    """Sleep in the library that runs this task."""
    await sys.modules["trio" if in_trio() else "asyncio"].sleep(seconds)


def cancel_scope(seconds: float, first: Callable[[], float] | None = None) -> CancelScope:
    """A scope that is due in so many seconds. Raises RuntimeError outside of a task.

    Under trio ``first`` is never called: what a task has begun ends with it there.
    """
    return _TrioScope(seconds) if in_trio() else _AsyncioScope(seconds, first)


def is_cut() -> bool:
    """Whether a scope of ours has asked the caller to end: that which runs here, or what began it.

    A task or thread that was begun within a scope belongs to it for as long as the block lasts.
    """
    scope = _innermost.get()
    while scope is not None:
        if not scope.ended and scope.called:
            return True
        scope = scope.outer
    return False


def wakeup() -> Wakeup:
    """What the calling task can wait for. Raises RuntimeError outside of a task."""
    return _TrioWakeup() if in_trio() else _AsyncioWakeup()


# The scopes that the running code lies in, each with what it lies in itself. Tasks inherit it, and so
# keep what has ended since.
_innermost: "ContextVar[_AsyncioScope | _TrioScope | None]" = ContextVar(
    "asgi_errorkit.scopes", default=None
)


def _begin(scope: "_AsyncioScope | _TrioScope") -> None:
    outer = _lasting(_innermost.get())
    if outer is not None:  # what it lay in may have ended before it, where tasks begin tasks
        outer.outer = _lasting(outer.outer)
    scope.outer = outer
    _innermost.set(scope)


def _lasting(scope: "_AsyncioScope | _TrioScope | None") -> "_AsyncioScope | _TrioScope | None":
    """This or the next around it that has not ended."""
    while scope is not None and scope.ended:
        scope = scope.outer
    return scope


def _end(scope: "_AsyncioScope | _TrioScope") -> None:
    scope.ended = True
    if _innermost.get() is scope:
        _innermost.set(scope.outer)


def _current_task() -> Any:
    asyncio = sys.modules.get("asyncio")
    try:
        task = asyncio and asyncio.current_task()
    except RuntimeError:  # no loop runs here
        task = None
    if task is None:
        raise RuntimeError("this runs in a task of asyncio or trio only")
    return task


class _AsyncioScope:
    """As `asyncio.timeout`, but that it costs no timer, nor does moving it, and ends quietly."""

    __slots__ = (
        "_before",
        "_due_at",
        "_first",
        "_has_begun",
        "_has_cut",
        "_loop",
        "_queue",
        "_seconds",
        "_task",
        "_timer",
        "called",
        "ended",
        "expired",
        "outer",
    )

    def __init__(self, seconds: float, first: Callable[[], float] | None = None) -> None:
        self._first = first
        self._has_cut = False
        self._task = _current_task()
        self._loop = self._task.get_loop()
        self._due_at = self._loop.time() + seconds
        self._seconds = seconds
        self._queue: _Queue | None = None
        self._timer: Any = None
        self.called = False
        self.expired = False
        self.ended = False
        self.outer: _AsyncioScope | _TrioScope | None = None
        self._has_begun = False

    def __enter__(self) -> Self:
        self._before = self._task.cancelling()
        self._has_begun = True
        _begin(self)
        self._wait(self._seconds)
        return self

    def move(self, seconds: float) -> None:
        if seconds == inf:
            self._due_at = inf
            return
        before, self._due_at = self._due_at, self._loop.time() + seconds
        # Later ones find out when the time comes: a piece of a stream must not cost a timer.
        if not self._has_begun:
            self._seconds = seconds
        elif self._due_at < before and not self.called:
            self._leave()
            self._wait(seconds)

    def _wait(self, seconds: float) -> None:
        self._queue = _queue_of(self._loop, seconds)
        if self._queue is None:
            self._arm()
        else:
            self._queue.add(self, self._due_at, self._loop)

    def _arm(self) -> None:
        if self._due_at != inf:
            self._timer = self._loop.call_at(self._due_at, self.come)

    def spares_caller(self) -> bool:
        asyncio = sys.modules["asyncio"]
        return self._task is not None and asyncio.current_task() is self._task

    def come(self) -> None:
        """Cancel the task, unless it has been given more time."""
        if self._task is None or self._has_cut:
            return
        if self._loop.time() < self._due_at:
            self._arm()
            return
        first, self._first, self.called = self._first, None, True
        patience = 0.0 if first is None else first()
        if patience > 0:
            self._due_at = self._loop.time() + patience
            self._arm()
            return
        self._has_cut = True
        self._task.cancel()

    def _leave(self) -> None:
        if self._queue is not None:
            self._queue.waiting.pop(self, None)
            self._queue = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        _end(self)
        self._leave()
        task, self._task = self._task, None  # a circle by way of its coroutine's frame
        self._first = None
        if not self._has_cut:
            return False
        is_ours_alone = task.uncancel() <= self._before
        cancelled = sys.modules["asyncio"].CancelledError
        self.expired = is_ours_alone and kind is not None and issubclass(kind, cancelled)
        return self.expired


class _Queue:
    """Scopes of one event loop that are given the same time, and so come in their order.

    One timer serves them all: to make one for each, and to cancel it, costs 6 us.
    """

    __slots__ = ("_context", "timer", "waiting")

    def __init__(self) -> None:
        self.waiting: dict[_AsyncioScope, float] = {}
        self.timer: Any = None
        self._context = Context()  # its own: that of whoever comes first would be kept alive

    def add(self, scope: _AsyncioScope, due_at: float, loop: Any) -> None:
        self.waiting[scope] = due_at
        if self.timer is None:
            self._arm(due_at, loop)

    def _arm(self, due_at: float, loop: Any) -> None:
        self.timer = loop.call_at(due_at, self._come, loop, context=self._context)

    def _come(self, loop: Any) -> None:
        self.timer = None
        while self.waiting:
            scope, due_at = next(iter(self.waiting.items()))
            if due_at > loop.time():
                self._arm(due_at, loop)
                return
            del self.waiting[scope]
            scope.come()


_MOST_SPANS = 64
_queues: dict[int, tuple[Callable[[], Any], dict[float, _Queue]]] = {}


def _queue_of(loop: Any, seconds: float) -> _Queue | None:
    """The queue of a loop for a span of time; None for one of too many different ones."""
    known = _queues.get(id(loop))
    if known is None or known[0]() is not loop:
        for number, (other, _) in list(_queues.items()):
            if other() is None:
                _queues.pop(number, None)
        known = _queues[id(loop)] = (ref(loop), {})
    queues = known[1]
    queue = queues.get(seconds)
    if queue is None and seconds != inf:
        if len(queues) >= _MOST_SPANS:  # of spans that differ each time
            for span in [span for span, each in queues.items() if not each.waiting]:
                timer = queues.pop(span).timer
                if timer is not None:
                    timer.cancel()
            if len(queues) >= _MOST_SPANS:
                return None
        queue = queues[seconds] = _Queue()
    return queue


class _TrioScope:
    __slots__ = ("_scope", "_trio", "ended", "expired", "outer")

    def __init__(self, seconds: float) -> None:
        self._trio = sys.modules["trio"]
        self._scope = self._trio.CancelScope(deadline=self._trio.current_time() + seconds)
        self.expired = False
        self.ended = False
        self.outer: _AsyncioScope | _TrioScope | None = None

    @property
    def called(self) -> bool:
        # To ask it elsewhere, such as in a worker's thread, raises.
        return in_trio() and bool(self._scope.cancel_called)

    def spares_caller(self) -> bool:
        return bool(self._trio.current_effective_deadline() > -inf)

    def move(self, seconds: float) -> None:
        self._scope.deadline = self._trio.current_time() + seconds

    def __enter__(self) -> Self:
        self._scope.__enter__()
        _begin(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        _end(self)
        swallowed = self._scope.__exit__(kind, exc, traceback)
        self.expired = bool(self._scope.cancelled_caught)
        return bool(swallowed)


class _AsyncioWakeup:
    __slots__ = ("_future", "_loop")

    def __init__(self) -> None:
        self._loop = _current_task().get_loop()
        self._future = self._loop.create_future()

    def wake(self) -> None:
        _run_in(
            sys.modules["asyncio"]._get_running_loop() is self._loop,  # noqa: SLF001  public
            self._loop.call_soon_threadsafe,
            self._set,
        )

    def _set(self) -> None:
        if not self._future.done():
            self._future.set_result(None)

    async def wait(self) -> None:
        await self._future


class _TrioWakeup:
    __slots__ = ("_event", "_token")

    def __init__(self) -> None:
        trio = sys.modules["trio"]
        self._event = trio.Event()
        self._token = trio.lowlevel.current_trio_token()

    def wake(self) -> None:
        is_here = in_trio() and sys.modules["trio"].lowlevel.current_trio_token() is self._token
        _run_in(is_here, self._token.run_sync_soon, self._event.set)

    async def wait(self) -> None:
        await self._event.wait()


def _run_in(
    is_here: bool, soon: Callable[[Callable[[], Any]], Any], call: Callable[[], Any]
) -> None:
    """Call it in the loop that it belongs to; a loop that has ended has nobody waiting."""
    if is_here:
        call()
        return
    try:
        soon(call)
    except RuntimeError:  # trio.RunFinishedError is one
        return
