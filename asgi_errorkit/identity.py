"""Request ids: taken from the caller when they are harmless, made otherwise."""

import os
import re
from collections.abc import Callable

from asgi_errorkit.options import check_bool, check_callable, check_text, is_token

__all__ = ["RequestIds"]

_HARMLESS = re.compile(rb"[\x21-\x7e]{1,128}")
_POOL = 256
_NAME_CHARS = 64


class RequestIds:
    """Decides each request's id, and names the header that carries it.

    An inbound id is kept when it is 1 to 128 visible ASCII characters and ``validator`` (given the
    id) agrees; else ``generator`` makes one: by default 32 random hex digits.
    ``trust_inbound=False`` always makes a new one. Raises TypeError or ValueError for
    an option that cannot work.
    """

    def __init__(
        self,
        *,
        header_name: str = "X-Request-ID",
        generator: Callable[[], str] | None = None,
        validator: Callable[[str], bool] | None = None,
        trust_inbound: bool = True,
    ) -> None:
        check_text("header_name", header_name, example="X-Request-ID")
        if not is_token(header_name) or len(header_name) > _NAME_CHARS:
            raise ValueError(
                f"header_name must be an HTTP header name such as 'X-Request-ID'; got {header_name!r}"
            )
        if generator is not None:
            check_callable("generator", generator)
        if validator is not None:
            check_callable("validator", validator, "request_id")
        check_bool("trust_inbound", trust_inbound)
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
