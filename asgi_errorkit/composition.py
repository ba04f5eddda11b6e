"""The order in which what survives failures stands around an app."""

from typing import Any, Final

__all__ = ["ORDER", "check_order", "rank"]

ORDER: Final = (
    "FallbackMiddleware",
    "LoadSheddingMiddleware",
    "TimeoutMiddleware",
    "RetryMiddleware",
    "CircuitBreakingMiddleware",
)
"""From the outside in. A fallback answers for all that the others refuse. What there is no room for
is refused before it costs anything. The time that is given holds for all attempts together. Each
attempt asks the breaker, which hears of each, and stops them."""

_DEEPEST = 50


def rank(kind: type[Any]) -> int | None:
    """The place of a middleware class in the order; None for any other."""
    names = (base.__name__ for base in kind.__mro__ if base.__module__.startswith("asgi_errorkit."))
    return next((ORDER.index(name) for name in names if name in ORDER), None)


def _check_inner(mine: int, theirs: int | None) -> None:
    if theirs is not None and theirs < mine:
        raise ValueError(
            f"{ORDER[theirs]} belongs outside of {ORDER[mine]}: the order is "
            f"{', '.join(ORDER)}, the first outermost"
        )


def check_order(outer: object, app: object) -> None:
    """Raise ValueError if what is wrapped belongs outside of what wraps it."""
    mine = rank(type(outer))
    if mine is None:
        return
    for _ in range(_DEEPEST):
        within = getattr(app, "survival", None)  # a kit's
        for layer in (app, *(within if isinstance(within, list) else ())):
            _check_inner(mine, rank(type(layer)))
        app = getattr(app, "app", None)
        if app is None:
            return
