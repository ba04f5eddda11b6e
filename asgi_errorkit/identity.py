"""Request ids: taken from the caller when they are harmless, made otherwise."""

import os
import re
from collections.abc import Callable

__all__ = ["RequestIds"]

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}")  # a token, RFC 9110, 5.6.2
_HARMLESS = re.compile(rb"[\x21-\x7e]{1,128}")
_POOL = 256


class RequestIds:
    """Decides each request's id, and names the header that carries it.

    An inbound id is kept when it is 1 to 128 visible ASCII characters and ``validator`` (given the
    id) agrees; else ``generator`` makes one: by default 32 random hex digits.
    ``trust_inbound=False`` always makes a new one. Raises ValueError for a bad header name.
    """

    def __init__(
        self,
        *,
        header_name: str = "X-Request-ID",
        generator: Callable[[], str] | None = None,
        validator: Callable[[str], bool] | None = None,
        trust_inbound: bool = True,
    ) -> None:
        if not isinstance(header_name, str) or not _NAME.fullmatch(header_name):
            raise ValueError(
                f"header_name must be an HTTP header name such as 'X-Request-ID'; got {header_name!r}"
            )
        for name, option in (("generator", generator), ("validator", validator)):
            if option is not None and not callable(option):
                raise TypeError(f"{name} must be a callable or None; got {option!r}")
        self.header = header_name.lower().encode("ascii")
        self.trust_inbound = trust_inbound
        self._validator = validator
        # Popped from by the frame itself; empty for good when the application makes the ids.
        self._pool: list[str] = []
        self.ready = self._pool.pop
        self.make = self._safely(generator) if generator else self._refill

    def of(self, inbound: bytes | None) -> str:
        """The id of a request whose header says ``inbound``."""
        if inbound is not None and self.trust_inbound and _HARMLESS.fullmatch(inbound):
            text = inbound.decode("ascii")
            if self._validator is None or self._accepts(text):
                return text
        return self._random() if self.make == self._refill else self.make()

    def reset_after_fork(self) -> None:
        """Forget the random pool: the parent goes on to use it."""
        self._pool.clear()

    def _accepts(self, text: str) -> bool:
        try:
            return bool(self._validator and self._validator(text))
        except Exception:  # noqa: BLE001  a validator that breaks must not break the request
            return False

    def _random(self) -> str:
        try:
            return self.ready()
        except IndexError:
            return self._refill()

    def _refill(self) -> str:
        digits = os.urandom(16 * _POOL).hex()
        self._pool.extend(digits[i : i + 32] for i in range(32, 32 * _POOL, 32))
        return digits[:32]

    def _safely(self, generator: Callable[[], str]) -> Callable[[], str]:
        def make() -> str:
            try:
                made = generator()
                harmless = _HARMLESS.fullmatch(made.encode("ascii"))
            except Exception:  # noqa: BLE001  a generator that breaks must not break the request
                return os.urandom(16).hex()
            return made if harmless else os.urandom(16).hex()

        return make
