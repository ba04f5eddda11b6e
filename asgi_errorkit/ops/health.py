"""Whether the app is ready: what its own checks say, each for itself and within its time."""

import time
from collections.abc import Callable, Mapping
from functools import partial
from inspect import isawaitable, iscoroutinefunction
from typing import Any, TypeAlias

from asgi_errorkit.async_library import cancel_scope, sleep
from asgi_errorkit.forks import reset_in_child
from asgi_errorkit.ops.off_loop import in_thread, together
from asgi_errorkit.ops.shared import Shared
from asgi_errorkit.options import check_callable
from asgi_errorkit.redact import Redactor

__all__ = ["Check", "Readiness", "checked_checks"]

Check: TypeAlias = Callable[[], object]
"""Unready is what raises, or returns False. It may be async; else it runs in a thread."""

_FRESH_SECONDS = 1.0
_DETAIL_CHARS = 200
_LOOK_SECONDS = 0.01


class Readiness:
    """Runs all checks at once when somebody asks, at most once a second however many ask.

    It knows of no breaker: one that is open is no reason to take this instance, and with it all
    others, out of service.
    """

    def __init__(
        self,
        checks: Mapping[str, Check],
        *,
        seconds: float,
        redactor: Redactor | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._redactor = Redactor() if redactor is None else redactor
        self._checks = {name: _Checking(check, seconds, clock) for name, check in checks.items()}
        self._shared = Shared(self._ask, fresh_seconds=_FRESH_SECONDS, clock=clock)

    async def get(self) -> dict[str, dict[str, Any]]:
        """Each check by its name: whether it is ``ok``, in how many ``seconds``, and what is wrong."""
        return (await self._shared.get()).value if self._checks else {}

    async def _ask(self) -> dict[str, dict[str, Any]]:
        told: dict[str, dict[str, Any]] = {}
        await together(
            partial(self._note, told, name, check) for name, check in self._checks.items()
        )
        return {name: told[name] for name in self._checks}

    async def _note(
        self, told: dict[str, dict[str, Any]], name: str, checking: "_Checking"
    ) -> None:
        wrong, seconds = await checking.ask()
        detail = None if wrong is None else self._redactor.text(wrong, _DETAIL_CHARS)
        told[name] = {"ok": wrong is None, "seconds": round(seconds, 6), "detail": detail}


class _Checking:
    """One check. One that hangs in a thread is not begun again: each would cost a thread more."""

    def __init__(self, check: Check, seconds: float, clock: Callable[[], float]) -> None:
        self._check = check
        self._seconds = seconds
        self._clock = clock
        self._is_async = is_async(check)
        self.reset_after_fork()
        reset_in_child(self)

    def reset_after_fork(self) -> None:
        """In a forked child: the thread is the parent's."""
        self._hangs_since: float | None = None

    async def ask(self) -> tuple[str | None, float]:
        """What is wrong, None if nothing is, and the seconds that it took."""
        began = self._clock()
        since = self._hangs_since
        if since is not None and began - since >= self._seconds:
            return f"has not returned for {began - since:.1f} s", 0.0
        with cancel_scope(self._seconds) as limit:
            while self._hangs_since is not None:  # who began it has left, and it may be well
                await sleep(_LOOK_SECONDS)
            wrong = await self._called()
        if limit.expired:
            wrong = f"has not returned within {self._seconds:g} s"
        return wrong, self._clock() - began

    async def _called(self) -> str | None:
        try:
            told = self._check() if self._is_async else await in_thread(self._in_thread)
            told = await told if isawaitable(told) else told
        except Exception as error:  # noqa: BLE001  that is what it tells
            return f"{type(error).__name__}: {error}"
        return "returned False" if told is False else None

    def _in_thread(self) -> object:
        self._hangs_since = self._clock()
        try:
            return self._check()
        finally:
            self._hangs_since = None


def is_async(check: Check) -> bool:
    """Whether calling it gives at once what is to be awaited."""
    call = getattr(type(check), "__call__", None)  # noqa: B004  an object's own
    return iscoroutinefunction(check) or iscoroutinefunction(call)


def checked_checks(given: Mapping[str, Check] | None) -> dict[str, Check]:
    """The checks by name; raises TypeError or ValueError for what cannot be one."""
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise TypeError(
            'checks must be a mapping of names to callables, e.g. {"database": ping}; '
            f"got {given!r:.200}"
        )
    for name, check in given.items():
        if not isinstance(name, str) or not name.isprintable() or not 0 < len(name) <= 100:
            raise ValueError(
                f'each of checks needs a name for people, e.g. "database"; got {name!r:.200}'
            )
        check_callable(f"checks[{name!r}]", check, may_be_async=True)
    return dict(given)
