"""What a rule finds: the one kind of thing that alerts are made of."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from asgi_errorkit.errors import ErrorSeverity
from asgi_errorkit.options import check_bool, check_text

__all__ = ["ALERT_TYPES", "Finding", "rank", "severity_of"]

ALERT_TYPES: Mapping[str, str] = MappingProxyType(
    {
        "HIGH_ERROR_RATE": "Error rate exceeds threshold",
        "CIRCUIT_BREAKER_TRIGGERED": "Circuit breaker activated",
        "MEMORY_USAGE_HIGH": "Memory usage exceeds threshold",
        "SLOW_RESPONSE_TIME": "Response time exceeds threshold",
        "DATABASE_CONNECTION_FAILED": "Database connection issues",
        "MODEL_LOADING_FAILED": "AI model loading failures",
        "EXTERNAL_SERVICE_DOWN": "External service unavailable",
        "RATE_LIMIT_EXCEEDED": "Rate limit exceeded",
        "AUTHENTICATION_FAILURES": "Multiple authentication failures",
        "PERMISSION_DENIED": "Authorization failures",
        # Beyond these ten, what else the kit knows of:
        "ERRORS_REPEATED": "Errors of a type whose policy asks for an alert",
        "ERROR_BUDGET_BURNING": "The objective will be missed at this rate of failures",
        "WORKER_DIED": "A worker process died",
        "EVENT_LOOP_BLOCKED": "The event loop was blocked",
        "NEW_ERROR": "An error that was never seen before",
        "ERROR_CAME_BACK": "An error that had been gone for long",
    }
)
"""What the kit itself alerts of, with a word on each; rules and `send_alert` may have more."""

_RANKS = {severity.value: number for number, severity in enumerate(ErrorSeverity)}
_NAME_LIMIT = 100
_KEY_LIMIT = 300
_MESSAGE_LIMIT = 4096  # more than is ever looked at


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that an alert is to tell of, as a rule sees it now.

    ``type`` is a name such as those of `ALERT_TYPES`; alerts of one type are told together.
    ``severity`` is the value of an `ErrorSeverity`, or that itself. ``key`` tells apart what goes on
    side by side, such as two breakers (default: the type). ``subject`` is what it is about: of
    several on one subject the severest mutes the others (default: the key, which mutes none).
    ``values`` are JSON-able figures. What ``happened`` is told of once; all else goes on for as long
    as the rule finds it. Raises TypeError or ValueError for what makes no sense.
    """

    type: str
    message: str
    severity: str = "high"
    key: str = ""
    subject: str = ""
    values: Mapping[str, Any] = field(default_factory=dict)
    happened: bool = False

    def __post_init__(self) -> None:
        for name, example in (
            ("type", "HIGH_ERROR_RATE"),
            ("message", "7 errors"),
            ("key", "db"),
            ("subject", "db"),
        ):
            check_text(name, getattr(self, name), example=example)
        if not self.type.strip():
            raise ValueError("type must be the name of an alert, e.g. 'QUEUE_FULL'; got ''")
        if not isinstance(self.values, Mapping):
            raise TypeError(
                f'values must be a mapping, e.g. {{"queue": 12}}; got {self.values!r:.200}'
            )
        check_bool("happened", self.happened)
        kind = self.type[:_NAME_LIMIT]
        key = (self.key or kind)[:_KEY_LIMIT]
        for name, value in (
            ("type", kind),
            ("message", self.message[:_MESSAGE_LIMIT]),
            ("severity", severity_of(self.severity)),
            ("key", key),
            ("subject", (self.subject or key)[:_KEY_LIMIT]),
        ):
            object.__setattr__(self, name, value)


def severity_of(given: object) -> str:
    """The value of a severity; raises ValueError for what is none."""
    value = given.value if isinstance(given, ErrorSeverity) else given
    if not isinstance(value, str) or value not in _RANKS:
        raise ValueError(f"severity must be one of {', '.join(_RANKS)}; got {given!r:.200}")
    return value


def rank(severity: str) -> int:
    """The higher the severer."""
    return _RANKS[severity]
