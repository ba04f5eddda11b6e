"""Wrap any ASGI app in one line and know every failure."""

from asgi_errorkit.classify import Classifier
from asgi_errorkit.cors import cors
from asgi_errorkit.errors import (
    POLICIES,
    ErrorAction,
    ErrorInfo,
    ErrorSeverity,
    ErrorType,
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

__version__ = "0.1.0"

__all__ = [
    "POLICIES",
    "Answer",
    "Classifier",
    "ErrorAction",
    "ErrorGroup",
    "ErrorHandlingMiddleware",
    "ErrorInfo",
    "ErrorKit",
    "ErrorSeverity",
    "ErrorTracker",
    "ErrorType",
    "Exchange",
    "FromHeader",
    "FromPath",
    "FromQuery",
    "MiddlewareStack",
    "Outcome",
    "PerformanceMetrics",
    "PerformanceMonitoringMiddleware",
    "PublicError",
    "Recorder",
    "RequestIdFilter",
    "RequestIds",
    "RequestLog",
    "StructuredLoggingMiddleware",
    "cors",
    "current",
    "from_user",
]
