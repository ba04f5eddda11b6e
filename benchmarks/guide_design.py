"""The design the kit replaces: three BaseHTTPMiddleware that do all their work on the request path.

A working rendering of a widely copied recipe, kept to be measured against and for nothing else:
its races, its lists that are filtered on each read and its guesses by substring are its own.
"""

import json
import logging
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Any, Final

import psutil
from starlette.exceptions import HTTPException
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from asgi_errorkit.types import ASGIApp

__all__ = ["ErrorTracker", "guide_design"]

logger = logging.getLogger("benchmarks.guide_design")

_MEGABYTE = 1024 * 1024
_HISTORY = 1000


class ErrorType(Enum):
    VALIDATION = "validation"
    AUTHENTICATION = "authentication"
    AUTHORIZATION = "authorization"
    NOT_FOUND = "not_found"
    RATE_LIMIT = "rate_limit"
    TIMEOUT = "timeout"
    DATABASE = "database"
    CACHE = "cache"
    EXTERNAL_SERVICE = "external_service"
    MODEL = "model"
    MEMORY = "memory"
    SYSTEM = "system"
    UNKNOWN = "unknown"


class ErrorSeverity(Enum):
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"


class ErrorAction(Enum):
    LOG = "log"
    ALERT = "alert"
    RETRY = "retry"
    FALLBACK = "fallback"
    CIRCUIT_BREAK = "circuit_break"
    IGNORE = "ignore"


@dataclass
class ErrorInfo:
    error_type: ErrorType
    severity: ErrorSeverity
    action: ErrorAction
    retry_count: int = 0
    max_retries: int = 3
    retry_delay: float = 1.0
    alert_threshold: int = 5
    circuit_break_threshold: int = 10


@dataclass
class RequestLog:
    request_id: str
    method: str
    url: str
    client_ip: str
    user_agent: str
    start_time: float
    end_time: float | None = None
    duration: float | None = None
    status_code: int | None = None
    error: str | None = None
    error_type: str | None = None
    user_id: str | None = None
    video_id: str | None = None
    model_name: str | None = None
    request_size: int | None = None
    response_size: int | None = None
    memory_usage: float | None = None


@dataclass
class PerformanceMetrics:
    request_id: str
    method: str
    url: str
    duration: float
    memory_before: float
    memory_after: float
    memory_delta: float
    cpu_usage: float
    status_code: int
    error: str | None = None
    timestamp: float = field(default_factory=time.time)


class ErrorTracker:
    """Keeps the last errors in a list, and counts through it on every question."""

    def __init__(self) -> None:
        self.error_counts: dict[str, int] = {}
        self.error_timestamps: list[dict[str, Any]] = []
        self.circuit_breakers: dict[str, dict[str, Any]] = {}
        self.alert_history: list[dict[str, Any]] = []
        self.max_history = _HISTORY

    def record_error(
        self, error_type: ErrorType, error_info: ErrorInfo, context: dict[str, Any]
    ) -> None:
        name = error_type.value
        self.error_counts[name] = self.error_counts.get(name, 0) + 1
        self.error_timestamps.append(
            {
                "error_type": name,
                "severity": error_info.severity.value,
                "timestamp": time.time(),
                "context": context,
            }
        )
        if len(self.error_timestamps) > self.max_history:
            self.error_timestamps = self.error_timestamps[-self.max_history :]
        self._check_circuit_breaker(error_type, error_info)
        self._check_alert_threshold(error_type, error_info)

    def is_circuit_broken(self, error_type: ErrorType) -> bool:
        return error_type.value in self.circuit_breakers

    def get_error_stats(self, window_minutes: int = 5) -> dict[str, Any]:
        cutoff = time.time() - window_minutes * 60
        recent = [e for e in self.error_timestamps if e["timestamp"] > cutoff]
        return {
            "total_errors": len(recent),
            "errors_by_type": _counted(recent, "error_type"),
            "errors_by_severity": _counted(recent, "severity"),
            "error_rate": len(recent) / window_minutes,
            "circuit_breakers": self.circuit_breakers,
            "recent_alerts": self.alert_history[-10:],
        }

    def _recent(self, error_type: ErrorType) -> int:
        return len([e for e in self.error_timestamps[-100:] if e["error_type"] == error_type.value])

    def _check_circuit_breaker(self, error_type: ErrorType, error_info: ErrorInfo) -> None:
        if error_info.circuit_break_threshold <= 0:
            return
        errors = self._recent(error_type)
        if errors >= error_info.circuit_break_threshold:
            self.circuit_breakers[error_type.value] = {
                "triggered_at": time.time(),
                "error_count": errors,
                "threshold": error_info.circuit_break_threshold,
            }
            logger.critical(f"Circuit breaker triggered for {error_type.value}")  # noqa: G004

    def _check_alert_threshold(self, error_type: ErrorType, error_info: ErrorInfo) -> None:
        errors = self._recent(error_type)
        if errors < error_info.alert_threshold:
            return
        self.alert_history.append(
            {
                "error_type": error_type.value,
                "error_count": errors,
                "severity": error_info.severity.value,
                "timestamp": time.time(),
            }
        )
        if len(self.alert_history) > self.max_history:
            self.alert_history = self.alert_history[-self.max_history :]
        logger.warning(f"Alert: {errors} errors of type {error_type.value}")  # noqa: G004


class StructuredLoggingMiddleware(BaseHTTPMiddleware):
    def __init__(self, app: ASGIApp, log_level: str = "INFO") -> None:
        super().__init__(app)
        self.log_level = logging.getLevelNamesMapping()[log_level.upper()]
        self.logger = logging.getLogger("benchmarks.guide_design.requests")
        self.logger.setLevel(self.log_level)

    async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        start_time = time.time()
        request_id = str(uuid.uuid4())
        request.state.request_id = request_id
        entry = RequestLog(
            request_id=request_id,
            method=request.method,
            url=str(request.url),
            client_ip=_client_ip(request),
            user_agent=request.headers.get("user-agent", ""),
            start_time=start_time,
            user_id=request.headers.get("x-user-id"),
            video_id=_video_id(request),
            model_name=request.query_params.get("model_name"),
            request_size=_size(request.headers.get("content-length")),
        )
        self._log_start(entry)
        try:
            response = await call_next(request)
        except Exception as exc:
            self._end(entry)
            entry.error = str(exc)
            entry.error_type = exc.__class__.__name__
            self._log_error(entry)
            raise
        self._end(entry)
        entry.status_code = response.status_code
        entry.response_size = _size(response.headers.get("content-length"))
        self._log_complete(entry)
        return response

    def _end(self, entry: RequestLog) -> None:
        entry.end_time = time.time()
        entry.duration = entry.end_time - entry.start_time
        entry.memory_usage = _memory_usage()

    def _log_start(self, entry: RequestLog) -> None:
        line = {
            "event": "request_start",
            "request_id": entry.request_id,
            "method": entry.method,
            "url": entry.url,
            "client_ip": entry.client_ip,
            "user_agent": entry.user_agent,
            "timestamp": _iso(entry.start_time),
            "user_id": entry.user_id,
            "video_id": entry.video_id,
            "model_name": entry.model_name,
            "request_size": entry.request_size,
        }
        self.logger.info(json.dumps(line))

    def _log_complete(self, entry: RequestLog) -> None:
        line = {
            "event": "request_complete",
            "request_id": entry.request_id,
            "method": entry.method,
            "url": entry.url,
            "duration": entry.duration,
            "status_code": entry.status_code,
            "timestamp": _iso(entry.end_time or 0.0),
            "response_size": entry.response_size,
            "memory_usage": entry.memory_usage,
        }
        self.logger.info(json.dumps(line))

    def _log_error(self, entry: RequestLog) -> None:
        line = {
            "event": "request_error",
            "request_id": entry.request_id,
            "method": entry.method,
            "url": entry.url,
            "duration": entry.duration,
            "error": entry.error,
            "error_type": entry.error_type,
            "timestamp": _iso(entry.end_time or 0.0),
            "memory_usage": entry.memory_usage,
        }
        self.logger.error(json.dumps(line))


class ErrorHandlingMiddleware(BaseHTTPMiddleware):
    def __init__(self, app: ASGIApp, error_tracker: ErrorTracker) -> None:
        super().__init__(app)
        self.error_tracker = error_tracker
        self.error_type_mapping: dict[type[BaseException], ErrorType] = {
            HTTPException: ErrorType.SYSTEM,
            TimeoutError: ErrorType.TIMEOUT,
            MemoryError: ErrorType.MEMORY,
            ConnectionError: ErrorType.EXTERNAL_SERVICE,
        }

    async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        try:
            return await call_next(request)
        except Exception as exc:  # noqa: BLE001  to catch everything is its purpose
            error_type = self._error_type(exc)
            error_info = _error_info(error_type)
            context = self._context(request, exc)
            self.error_tracker.record_error(error_type, error_info, context)
            return self._answer(exc, error_type, error_info, context)

    def _error_type(self, exc: Exception) -> ErrorType:
        if type(exc) in self.error_type_mapping:
            return self.error_type_mapping[type(exc)]
        message = str(exc).lower()
        for words, error_type in _PATTERNS:
            if any(word in message for word in words):
                return error_type
        return ErrorType.UNKNOWN

    def _context(self, request: Request, exc: Exception) -> dict[str, Any]:
        return {
            "request_id": getattr(request.state, "request_id", None),
            "method": request.method,
            "url": str(request.url),
            "client_ip": _client_ip(request),
            "user_agent": request.headers.get("user-agent", ""),
            "error": str(exc),
            "exception": exc.__class__.__name__,
            "timestamp": time.time(),
        }

    def _answer(
        self,
        exc: Exception,
        error_type: ErrorType,
        error_info: ErrorInfo,
        context: dict[str, Any],
    ) -> Response:
        logger.error(f"{error_type.value} error in request {context['request_id']}: {exc}")  # noqa: G004
        error = {
            "type": exc.__class__.__name__,
            "message": str(exc),
            "category": error_type.value,
            "severity": error_info.severity.value,
            "status_code": _STATUS.get(error_type, 500),
            "timestamp": time.time(),
            "context": context,
        }
        return JSONResponse({"error": error}, status_code=_STATUS.get(error_type, 500))


class PerformanceMonitoringMiddleware(BaseHTTPMiddleware):
    def __init__(self, app: ASGIApp) -> None:
        super().__init__(app)
        self.metrics: list[PerformanceMetrics] = []
        self.max_metrics = _HISTORY
        self.slow_request_threshold = 5.0
        self.high_memory_threshold = 1024.0

    async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        start_time = time.time()
        request_id = getattr(request.state, "request_id", None) or str(uuid.uuid4())
        memory_before = _memory_usage()
        cpu_before = psutil.cpu_percent()

        def record(status_code: int, error: str | None = None) -> None:
            memory_after = _memory_usage()
            self._record(
                PerformanceMetrics(
                    request_id=request_id,
                    method=request.method,
                    url=str(request.url),
                    duration=time.time() - start_time,
                    memory_before=memory_before,
                    memory_after=memory_after,
                    memory_delta=memory_after - memory_before,
                    cpu_usage=cpu_before,
                    status_code=status_code,
                    error=error,
                )
            )

        try:
            response = await call_next(request)
        except Exception as exc:
            record(500, str(exc))
            raise
        record(response.status_code)
        return response

    def _record(self, metrics: PerformanceMetrics) -> None:
        self.metrics.append(metrics)
        if len(self.metrics) > self.max_metrics:
            self.metrics = self.metrics[-self.max_metrics :]
        if metrics.duration > self.slow_request_threshold:
            logger.warning(f"Slow request detected: {metrics.duration:.2f}s for {metrics.url}")  # noqa: G004
        if metrics.memory_delta > 100:
            logger.warning(f"High memory usage detected: {metrics.memory_delta:.2f}MB increase")  # noqa: G004
        if metrics.memory_after > self.high_memory_threshold:
            logger.warning(f"High memory usage: {metrics.memory_after:.2f}MB")  # noqa: G004

    def get_performance_stats(self, window_minutes: int = 5) -> dict[str, Any]:
        cutoff = time.time() - window_minutes * 60
        recent = [m for m in self.metrics if m.timestamp > cutoff]
        if not recent:
            return {"message": "No metrics available"}
        durations = [m.duration for m in recent]
        deltas = [m.memory_delta for m in recent]
        cpu = [m.cpu_usage for m in recent]
        return {
            "total_requests": len(recent),
            "avg_duration": sum(durations) / len(durations),
            "max_duration": max(durations),
            "min_duration": min(durations),
            "avg_memory_delta": sum(deltas) / len(deltas),
            "max_memory_delta": max(deltas),
            "avg_cpu_usage": sum(cpu) / len(cpu),
            "max_cpu_usage": max(cpu),
            "slow_requests": len([d for d in durations if d > self.slow_request_threshold]),
            "high_memory_requests": len([d for d in deltas if d > 100]),
        }


def guide_design(app: ASGIApp, error_tracker: ErrorTracker) -> ASGIApp:
    """The app in the recipe's stack: logging outermost, then error handling, then performance."""
    layers: list[Callable[[ASGIApp], ASGIApp]] = [
        PerformanceMonitoringMiddleware,
        lambda inner: ErrorHandlingMiddleware(inner, error_tracker),
        StructuredLoggingMiddleware,
    ]
    for layer in layers:
        app = layer(app)
    return app


_PATTERNS: Final = (
    (("timeout", "timed out"), ErrorType.TIMEOUT),
    (("memory", "out of memory"), ErrorType.MEMORY),
    (("database", "sql", "connection"), ErrorType.DATABASE),
    (("cache", "redis"), ErrorType.CACHE),
    (("model", "inference", "gpu"), ErrorType.MODEL),
    (("not found", "missing", "404"), ErrorType.NOT_FOUND),
    (("permission", "access denied", "unauthorized"), ErrorType.AUTHORIZATION),
    (("rate limit", "too many requests"), ErrorType.RATE_LIMIT),
    (("validation", "invalid", "bad request"), ErrorType.VALIDATION),
)

_STATUS: Final = {
    ErrorType.VALIDATION: 422,
    ErrorType.AUTHENTICATION: 401,
    ErrorType.AUTHORIZATION: 403,
    ErrorType.NOT_FOUND: 404,
    ErrorType.RATE_LIMIT: 429,
    ErrorType.TIMEOUT: 504,
    ErrorType.EXTERNAL_SERVICE: 502,
    ErrorType.MEMORY: 503,
}


def _error_info(error_type: ErrorType) -> ErrorInfo:
    medium, high = ErrorSeverity.MEDIUM, ErrorSeverity.HIGH
    if error_type == ErrorType.TIMEOUT:
        return ErrorInfo(error_type, medium, ErrorAction.RETRY, retry_delay=2.0, alert_threshold=10)
    if error_type in (ErrorType.MEMORY, ErrorType.MODEL):
        return ErrorInfo(
            error_type, high, ErrorAction.ALERT, alert_threshold=3, circuit_break_threshold=5
        )
    if error_type == ErrorType.DATABASE:
        return ErrorInfo(error_type, high, ErrorAction.RETRY, max_retries=5)
    if error_type == ErrorType.CACHE:
        return ErrorInfo(error_type, medium, ErrorAction.FALLBACK, alert_threshold=10)
    if error_type == ErrorType.EXTERNAL_SERVICE:
        return ErrorInfo(error_type, high, ErrorAction.RETRY, retry_delay=5.0)
    return ErrorInfo(error_type, medium, ErrorAction.LOG, alert_threshold=20)


def _memory_usage() -> float:
    return float(psutil.Process().memory_info().rss / _MEGABYTE)


def _client_ip(request: Request) -> str:
    forwarded = request.headers.get("x-forwarded-for")
    if forwarded:
        return forwarded.split(",")[0].strip()
    return request.client.host if request.client else "unknown"


def _video_id(request: Request) -> str | None:
    parts = request.url.path.split("/")
    if "videos" in parts[:-1]:
        return parts[parts.index("videos") + 1]
    return request.query_params.get("video_id")


def _size(content_length: str | None) -> int | None:
    return int(content_length) if content_length else None


def _iso(at: float) -> str:
    return datetime.fromtimestamp(at).isoformat()  # noqa: DTZ006  local time, as the recipe has it


def _counted(errors: list[dict[str, Any]], key: str) -> dict[str, int]:
    counts: dict[str, int] = {}
    for error in errors:
        counts[error[key]] = counts.get(error[key], 0) + 1
    return counts
