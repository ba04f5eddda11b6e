"""The cookie that a browser gets for the token: it tells until when it is good, and is signed.

Nothing of it is kept: any worker that has the token can judge it.
"""

import hmac
import re
from hashlib import sha256

__all__ = ["COOKIE", "cookie", "is_good"]

COOKIE = "asgi_errorkit_ops"

_VALUE = re.compile(r"([0-9]{1,12})\.([0-9a-f]{64})")
_PURPOSE = b"asgi-errorkit ops session "
_SAFE_PATH = re.compile(r"(?:/[\w.~-]+)*/?", re.ASCII)


def cookie(token: bytes, *, until: int, seconds: int, path: str, is_secure: bool) -> bytes:
    """The value of a Set-Cookie header. ``seconds`` of 0 take the cookie away."""
    value = f"{until}.{_signature(token, str(until))}" if seconds else ""
    # A server may take its root path from a header: what is odd must not write attributes here.
    where = path if path and _SAFE_PATH.fullmatch(path) else "/"
    secure = "; Secure" if is_secure else ""
    return (
        f"{COOKIE}={value}; Max-Age={seconds}; Path={where}; HttpOnly; SameSite=Strict{secure}"
    ).encode()


def is_good(token: bytes, value: str, now: float) -> bool:
    """Whether it was signed with this token, and its time is not up."""
    known = _VALUE.fullmatch(value)
    if known is None:
        return False
    is_ours = hmac.compare_digest(_signature(token, known[1]), known[2])
    return is_ours and now < int(known[1])


def _signature(token: bytes, until: str) -> str:
    return hmac.new(token, _PURPOSE + until.encode(), sha256).hexdigest()
