"""Wrap any ASGI app in one line and know every failure."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from asgi_errorkit.breaker import CircuitBreaker
from asgi_errorkit.circuit_policy import CircuitPolicy
from asgi_errorkit.circuit_state import (
    CIRCUIT_CLOSED,
    CIRCUIT_HALF_OPEN,
    CIRCUIT_OPEN,
    CircuitState,
    StateChange,
)
from asgi_errorkit.classify import Classifier
from asgi_errorkit.cors import cors
from asgi_errorkit.errors import (
    POLICIES,
    CircuitOpenError,
    DeadlineExceededError,
    ErrorAction,
    ErrorInfo,
    ErrorSeverity,
    ErrorType,
    OverloadedError,
    PublicError,
)
from asgi_errorkit.exchange import Exchange, current
from asgi_errorkit.fields import FromHeader, FromPath, FromQuery, from_user
from asgi_errorkit.identity import RequestIds
from asgi_errorkit.logs import RequestIdFilter, RequestLog
from asgi_errorkit.metrics import PerformanceMetrics
from asgi_errorkit.middleware.error_handling import ErrorHandlingMiddleware
from asgi_errorkit.middleware.performance_monitoring import PerformanceMonitoringMiddleware
from asgi_errorkit.middleware.structured_logging import StructuredLoggingMiddleware
from asgi_errorkit.outcome import Outcome
from asgi_errorkit.problem import Answer
from asgi_errorkit.recorder import Recorder
from asgi_errorkit.stack import ErrorKit, MiddlewareStack
from asgi_errorkit.tracker import ErrorGroup, ErrorTracker

if TYPE_CHECKING:
    from asgi_errorkit.alerts import Alerts
    from asgi_errorkit.attempt import Failing
    from asgi_errorkit.backoff import RetryPlan
    from asgi_errorkit.budget import RetryBudget
    from asgi_errorkit.deadlines import fail_after
    from asgi_errorkit.hedging import hedge
    from asgi_errorkit.limiter import ConcurrencyLimiter
    from asgi_errorkit.limits import AdaptiveLimit
    from asgi_errorkit.middleware.circuit_breaking import CircuitBreakingMiddleware
    from asgi_errorkit.middleware.fallbacks import Fallback, FallbackMiddleware
    from asgi_errorkit.middleware.load_shedding import LoadSheddingMiddleware
    from asgi_errorkit.middleware.retrying import RetryMiddleware
    from asgi_errorkit.middleware.timeouts import TimeLimits, TimeoutMiddleware
    from asgi_errorkit.ops import Ops
    from asgi_errorkit.pretty import PrettyLines
    from asgi_errorkit.recovery import Recovery
    from asgi_errorkit.retry import Retry
    from asgi_errorkit.stale import StaleCopies

__version__ = "0.1.0"

# Loaded when it is asked for: not every app has it.
_LATER = {
    "AdaptiveLimit": "limits",
    "Alerts": "alerts",
    "CircuitBreakingMiddleware": "middleware.circuit_breaking",
    "ConcurrencyLimiter": "limiter",
    "Failing": "attempt",
    "Fallback": "middleware.fallbacks",
    "FallbackMiddleware": "middleware.fallbacks",
    "LoadSheddingMiddleware": "middleware.load_shedding",
    "Ops": "ops",
    "PrettyLines": "pretty",
    "Recovery": "recovery",
    "Retry": "retry",
    "RetryBudget": "budget",
    "RetryPlan": "backoff",
    "RetryMiddleware": "middleware.retrying",
    "StaleCopies": "stale",
    "TimeLimits": "middleware.timeouts",
    "TimeoutMiddleware": "middleware.timeouts",
    "fail_after": "deadlines",
    "hedge": "hedging",
}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(import_module(f"{__name__}.{_LATER[name]}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATER})


__all__ = [
    "CIRCUIT_CLOSED",
    "CIRCUIT_HALF_OPEN",
    "CIRCUIT_OPEN",
    "POLICIES",
    "AdaptiveLimit",
    "Alerts",
    "Answer",
    "CircuitBreaker",
    "CircuitBreakingMiddleware",
    "CircuitOpenError",
    "CircuitPolicy",
    "CircuitState",
    "Classifier",
    "ConcurrencyLimiter",
    "DeadlineExceededError",
    "ErrorAction",
    "ErrorGroup",
    "ErrorHandlingMiddleware",
    "ErrorInfo",
    "ErrorKit",
    "ErrorSeverity",
    "ErrorTracker",
    "ErrorType",
    "Exchange",
    "Failing",
    "Fallback",
    "FallbackMiddleware",
    "FromHeader",
    "FromPath",
    "FromQuery",
    "LoadSheddingMiddleware",
    "MiddlewareStack",
    "Ops",
    "Outcome",
    "OverloadedError",
    "PerformanceMetrics",
    "PerformanceMonitoringMiddleware",
    "PrettyLines",
    "PublicError",
    "Recorder",
    "Recovery",
    "RequestIdFilter",
    "RequestIds",
    "RequestLog",
    "Retry",
    "RetryBudget",
    "RetryMiddleware",
    "RetryPlan",
    "StaleCopies",
    "StateChange",
    "StructuredLoggingMiddleware",
    "TimeLimits",
    "TimeoutMiddleware",
    "cors",
    "current",
    "fail_after",
    "from_user",
    "hedge",
]
