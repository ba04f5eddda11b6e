"""The error model: thirteen types, four severities, six actions, and one table of policies."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import Enum
from math import inf
from types import MappingProxyType
from typing import Any

from asgi_errorkit.options import check_headers, check_number, check_text, check_whole

__all__ = [
    "POLICIES",
    "CircuitOpenError",
    "DeadlineExceededError",
    "ErrorAction",
    "ErrorInfo",
    "ErrorSeverity",
    "ErrorType",
    "OverloadedError",
    "PublicError",
    "checked_error_types",
]


class ErrorType(Enum):
    """What kind of thing went wrong; the value is its name in logs, metrics and answers."""

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

    __hash__ = object.__hash__  # an enum's own is no C: each look into a table would cost 0.2 us


class ErrorSeverity(Enum):
    """How much an operator should care."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"

    __hash__ = object.__hash__


class ErrorAction(Enum):
    """What a policy asks for when its error happens."""

    LOG = "log"
    ALERT = "alert"
    RETRY = "retry"
    FALLBACK = "fallback"
    CIRCUIT_BREAK = "circuit_break"
    IGNORE = "ignore"


@dataclass(frozen=True, slots=True)
class ErrorInfo:
    """The policy for one kind of error: how bad it is and what to do about it.

    ``retry_delay`` is in seconds. ``status_code`` is the HTTP status a client gets; None takes
    the status of the type. Raises TypeError or ValueError for what makes no sense.
    """

    error_type: ErrorType
    severity: ErrorSeverity
    action: ErrorAction
    retry_count: int = 0
    max_retries: int = 3
    retry_delay: float = 1.0
    alert_threshold: int = 5
    circuit_break_threshold: int = 10
    status_code: int | None = None

    def __post_init__(self) -> None:
        for name, kind in (
            ("error_type", ErrorType),
            ("severity", ErrorSeverity),
            ("action", ErrorAction),
        ):
            if not isinstance(getattr(self, name), kind):
                raise TypeError(
                    f"ErrorInfo.{name} must be one of {kind.__name__}, e.g. "
                    f"{next(iter(kind))}; got {getattr(self, name)!r}"
                )
        # No breaker opens at a threshold of 0; an alert of no errors would always be due.
        for name, least, most, example in (
            ("retry_count", 0, inf, 0),
            ("max_retries", 0, inf, 3),
            ("alert_threshold", 1, inf, 5),
            ("circuit_break_threshold", 0, 10_000, 10),
        ):
            number = getattr(self, name)
            check_whole(f"ErrorInfo.{name}", number, least=least, most=most, example=example)
        check_number("ErrorInfo.retry_delay", self.retry_delay, least=0, example=1.0)
        _check_status("ErrorInfo.status_code", self.status_code)


def _check_status(name: str, status_code: int | None) -> None:
    if status_code is not None:
        check_whole(name, status_code, least=400, most=599, example=503)


def _logged(error_type: ErrorType, status_code: int) -> ErrorInfo:
    return ErrorInfo(
        error_type,
        ErrorSeverity.MEDIUM,
        ErrorAction.LOG,
        alert_threshold=20,
        status_code=status_code,
    )


# A status below 500 says "the client is at fault" and is answered only when
# the code that raised meant it: a framework's HTTP exception, a PublicError, or a user's rule.
POLICIES: Mapping[ErrorType, ErrorInfo] = MappingProxyType(
    {
        info.error_type: info
        for info in (
            _logged(ErrorType.VALIDATION, 422),
            _logged(ErrorType.AUTHENTICATION, 401),
            _logged(ErrorType.AUTHORIZATION, 403),
            _logged(ErrorType.NOT_FOUND, 404),
            _logged(ErrorType.RATE_LIMIT, 429),
            ErrorInfo(
                ErrorType.TIMEOUT,
                ErrorSeverity.MEDIUM,
                ErrorAction.RETRY,
                max_retries=3,
                retry_delay=2.0,
                alert_threshold=10,
                status_code=504,
            ),
            ErrorInfo(
                ErrorType.DATABASE,
                ErrorSeverity.HIGH,
                ErrorAction.RETRY,
                max_retries=5,
                retry_delay=1.0,
                alert_threshold=5,
                circuit_break_threshold=10,
                status_code=503,
            ),
            ErrorInfo(
                ErrorType.CACHE,
                ErrorSeverity.MEDIUM,
                ErrorAction.FALLBACK,
                alert_threshold=10,
                status_code=503,
            ),
            ErrorInfo(
                ErrorType.EXTERNAL_SERVICE,
                ErrorSeverity.HIGH,
                ErrorAction.RETRY,
                max_retries=3,
                retry_delay=5.0,
                alert_threshold=5,
                circuit_break_threshold=10,
                status_code=502,
            ),
            ErrorInfo(
                ErrorType.MODEL,
                ErrorSeverity.HIGH,
                ErrorAction.ALERT,
                alert_threshold=3,
                circuit_break_threshold=5,
                status_code=503,
            ),
            ErrorInfo(
                ErrorType.MEMORY,
                ErrorSeverity.HIGH,
                ErrorAction.ALERT,
                alert_threshold=3,
                circuit_break_threshold=5,
                status_code=503,
            ),
            _logged(ErrorType.SYSTEM, 500),
            _logged(ErrorType.UNKNOWN, 500),
        )
    }
)


def checked_error_types(
    name: str, given: Collection[ErrorType] | None
) -> frozenset[ErrorType] | None:
    """The types as a set, or None for all; raises TypeError for anything else, also for none."""
    if given is None:
        return None
    listed = [] if isinstance(given, (str, ErrorType)) else list(given)
    if not listed or not all(isinstance(each, ErrorType) for each in listed):
        raise TypeError(
            f"{name} must be a collection of ErrorType, e.g. [ErrorType.MODEL], or None; "
            f"got {given!r:.200}"
        )
    return frozenset(listed)


class PublicError(Exception):
    """An error whose words are meant for the client: raise it in any handler.

    ``detail`` is sent as it is, ``context`` with it as JSON; everything else about the exception
    stays private. ``status_code`` (400 to 599) defaults to the status of ``error_type``;
    ``retry_after_seconds`` becomes a Retry-After header (RFC 9110, 10.2.3). Raises TypeError or
    ValueError for what cannot be sent.
    """

    public_name: str | None = None
    """What clients are told as the error's type; None tells the name of its ``error_type``."""

    ends_as: str | None = None
    """The outcome of a request that this error ends; None leaves it to the rest of the story."""

    def __init__(
        self,
        detail: str,
        *,
        error_type: ErrorType = ErrorType.UNKNOWN,
        status_code: int | None = None,
        retry_after_seconds: float | None = None,
        headers: Mapping[str, str] | None = None,
        context: Mapping[str, Any] | None = None,
    ) -> None:
        check_text("detail", detail, example="The queue is full.")
        if not isinstance(error_type, ErrorType):
            raise TypeError(
                f"error_type must be an ErrorType, e.g. ErrorType.MODEL; got {error_type!r}"
            )
        _check_status("status_code", status_code)
        if retry_after_seconds is not None:
            check_number("retry_after_seconds", retry_after_seconds, least=0, example=30)
        if headers is not None:
            check_headers("headers", headers)
        if context is not None and not isinstance(context, Mapping):
            raise TypeError(
                f'context must be a mapping, e.g. {{"queue": 12}}; got {context!r:.200}'
            )
        status_code = status_code or POLICIES[error_type].status_code or 500
        self._take(detail, error_type, status_code, retry_after_seconds, dict(context or {}))
        self.headers: dict[str, str] = dict(headers or {})

    def _take(
        self,
        detail: str,
        error_type: ErrorType,
        status_code: int,
        retry_after_seconds: float | None = None,
        context: dict[str, Any] | None = None,
    ) -> None:
        """As it is: what the kit itself refuses is to cost no checks."""
        Exception.__init__(self, detail)
        self.detail = detail
        self.error_type = error_type
        self.status_code = status_code
        self.retry_after_seconds = retry_after_seconds
        self.headers = {}
        self.context = context or {}

    def __reduce__(self) -> tuple[Any, ...]:
        # Not by the arguments of __init__, which those of a subclass may differ from.
        return _restored, (type(self), self.args), self.__dict__


def _restored(cls: type[PublicError], args: tuple[Any, ...]) -> PublicError:
    restored = cls.__new__(cls)
    restored.args = args
    return restored


class CircuitOpenError(PublicError):
    """A call was refused, for what it needs is known to be failing; answered with 503.

    ``name`` is the breaker's, which clients are not told; ``retry_after_seconds`` says when the
    breaker will let somebody try. ``triggered_at`` (seconds since the epoch), ``error_count`` and
    ``threshold`` tell why it opened; None where that is not known, as when it was opened by hand.
    """

    public_name = "CircuitBreakerError"
    ends_as = "circuit_open"

    def __init__(
        self,
        name: str,
        *,
        retry_after_seconds: float,
        error_type: ErrorType = ErrorType.EXTERNAL_SERVICE,
        triggered_at: float | None = None,
        error_count: int | None = None,
        threshold: float | None = None,
    ) -> None:
        self._take(
            f"Service temporarily unavailable due to {error_type.value.replace('_', ' ')} errors",
            error_type,
            503,
            retry_after_seconds,
            {"triggered_at": triggered_at, "error_count": error_count, "threshold": threshold},
        )
        self.name = name

    def __str__(self) -> str:
        return f"the circuit {self.name!r} is open; retry in {self.retry_after_seconds:.1f} s"


class DeadlineExceededError(PublicError, TimeoutError):
    """The time that was given to a request or a call is up; answered with 504.

    ``limit`` says which time: a request's "total", "first_byte" or "idle", or a "call"'s, which
    alone does not end its request as timed out; ``seconds`` how much it was.
    """

    def __init__(self, limit: str, seconds: float) -> None:
        self._take("The answer took too long to make.", ErrorType.TIMEOUT, 504)
        self.limit = limit
        self.seconds = seconds
        self.ends_as = None if limit == "call" else "timeout"

    def __str__(self) -> str:
        return f"the {self.limit.replace('_', ' ')} time of {self.seconds:g} s is up"


class OverloadedError(PublicError):
    """There is more to do than can be done, and this was refused unheard; answered with 503.

    ``reason`` says what was full: "limit", "queue", "queue_timeout" or "memory".
    """

    public_name = "OverloadedError"
    ends_as = "shed"

    def __init__(self, reason: str, *, retry_after_seconds: float = 1.0) -> None:
        self._take(
            "The service has more to do than it can right now.",
            ErrorType.SYSTEM,
            503,
            retry_after_seconds,
        )
        self.reason = reason

    def __str__(self) -> str:
        return f"refused, for there is too much to do ({self.reason.replace('_', ' ')})"
