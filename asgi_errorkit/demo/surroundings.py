"""What stands around the demo's app, and how it is told of that: by its environment."""

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["Surroundings"]

_TOKEN = "ASGI_ERRORKIT_TOKEN"  # noqa: S105  names, no secrets
_SECRET = "ASGI_ERRORKIT_ALERT_SECRET"  # noqa: S105
_HOOK = "ASGI_ERRORKIT_DEMO_HOOK"
_UPSCALER = "ASGI_ERRORKIT_DEMO_UPSCALER"


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """The token of operators, where alerts go and with which secret, and the upscaler's port.

    Each may be missing: then the ops app is closed, alerts are logged alone, and there is no
    upscaler.
    """

    token: str | None = None
    hook: str | None = None
    secret: str | None = None
    upscaler_port: int | None = None

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> "Surroundings":
        """What the environment tells of."""
        port = environment.get(_UPSCALER)
        return cls(
            token=environment.get(_TOKEN) or None,
            hook=environment.get(_HOOK) or None,
            secret=environment.get(_SECRET) or None,
            upscaler_port=int(port) if port else None,
        )

    def as_environment(self) -> dict[str, str]:
        """For `of`, in another process: neither commands nor logs have it."""
        told = {
            _TOKEN: self.token,
            _HOOK: self.hook,
            _SECRET: self.secret,
            _UPSCALER: None if self.upscaler_port is None else str(self.upscaler_port),
        }
        return {name: value for name, value in told.items() if value is not None}
