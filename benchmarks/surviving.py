"""What survives failures, part by part, as it is put into the kit that is measured."""

from typing import Any

from asgi_errorkit.errors import ErrorType
from asgi_errorkit.limits import AdaptiveLimit
from asgi_errorkit.middleware.circuit_breaking import CircuitBreakingMiddleware
from asgi_errorkit.middleware.fallbacks import FallbackMiddleware
from asgi_errorkit.middleware.load_shedding import LoadSheddingMiddleware
from asgi_errorkit.middleware.retrying import RetryMiddleware
from asgi_errorkit.middleware.timeouts import TimeoutMiddleware
from asgi_errorkit.problem import Answer

__all__ = ["ALL", "PARTS", "layers"]

PARTS: dict[str, type[Any]] = {
    "fallback": FallbackMiddleware,
    "shedding, adaptive": LoadSheddingMiddleware,
    "timeout": TimeoutMiddleware,
    "retry": RetryMiddleware,
    "breaker": CircuitBreakingMiddleware,
}
"""In the order in which they stand around the app."""

ALL = tuple(PARTS)


def layers(names: tuple[str, ...]) -> list[tuple[type[Any], dict[str, Any]]]:
    """The middlewares of these names and their options, made anew: a limit belongs to one app."""
    options: dict[str, dict[str, Any]] = {
        "fallback": {"fallbacks": {ErrorType.CACHE: Answer(200, [], b"[]")}},
        "shedding, adaptive": {"limit": AdaptiveLimit()},
        "timeout": {"total_seconds": 30.0},
    }
    return [(PARTS[name], options.get(name, {})) for name in names]
