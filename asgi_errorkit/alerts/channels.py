"""Where notices go: a webhook with a signature, and through apprise to whatever it knows."""

import hmac
import re
import time
from base64 import b64encode
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, TypeAlias
from urllib.parse import unquote, urlsplit

import orjson

from asgi_errorkit.alerts.notice import text_of
from asgi_errorkit.options import check_headers, check_number, check_text

__all__ = ["Channel", "ThroughApprise", "UndeliverableError", "Webhook", "channel_to", "is_signed"]

Channel: TypeAlias = Callable[[dict[str, Any]], object]
"""Takes a notice; what it raises means: try again later, unless it is an `UndeliverableError`."""

_VERSION = "v1"
_SENDABLE = re.compile(r"[!-~]+")
_LATER = frozenset((408, 425, 429))  # statuses below 500 after which it may go well


class UndeliverableError(Exception):
    """A channel will never take this notice: it is not tried again."""


class Webhook:
    """Posts each notice as JSON to a URL; what is not answered with 2xx has failed.

    With ``secret`` it is signed: ``X-Errorkit-Signature`` is ``v1=`` and the HMAC-SHA256, in hex, of
    the ``X-Errorkit-Timestamp`` (epoch seconds), a dot, and the body: see `is_signed`. No redirect
    is followed. A name and password in the URL are sent as basic authentication. ``timeout_seconds``
    bounds the connecting, the sending, and the whole answer. Raises TypeError or ValueError for what
    cannot work.
    """

    def __init__(
        self,
        url: str,
        *,
        secret: str | bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_seconds: float = 5.0,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        check_text("url", url, example="https://alerts.example.com/hook")
        check_headers("headers", headers or {})
        check_number("timeout_seconds", timeout_seconds, above=0, most=60, example=5.0)
        self.label = _label_of(url)
        self._url, login = _without_login(url)
        self._secret = None if secret is None else _key(secret)
        self._headers = {
            "Content-Type": "application/json",
            "User-Agent": "asgi-errorkit",
            **login,
            **(headers or {}),
        }
        self._timeout_seconds = timeout_seconds
        self._wall_clock = wall_clock

    def __call__(self, notice: Mapping[str, Any]) -> None:
        # They bring in ssl, which others need not wait for.
        from urllib.error import HTTPError  # noqa: PLC0415

        from asgi_errorkit.alerts.posting import post  # noqa: PLC0415

        body = orjson.dumps(notice)
        headers = self._signed_headers(body)
        try:
            post(self._url, body, headers, timeout_seconds=self._timeout_seconds)
        except HTTPError as error:
            error.close()
            if error.code < 500 and error.code not in _LATER:
                raise UndeliverableError(f"{self.label} answered {error.code}") from error
            raise

    def _signed_headers(self, body: bytes) -> dict[str, str]:
        at = str(int(self._wall_clock()))
        headers = {**self._headers, "X-Errorkit-Timestamp": at}
        if self._secret is not None:
            headers["X-Errorkit-Signature"] = _signature(self._secret, at, body)
        return headers


def is_signed(
    body: bytes,
    *,
    timestamp: str | None,
    signature: str | None,
    secret: str | bytes,
    tolerance_seconds: float = 300.0,
    wall_clock: Callable[[], float] = time.time,
) -> bool:
    """Whether a `Webhook` with this secret has posted the body, and not long ago: for who receives.

    ``timestamp`` and ``signature`` are the values of the two headers, None where there is none.
    """
    if not timestamp or not signature or not (timestamp.isascii() and timestamp.isdigit()):
        return False
    if abs(wall_clock() - int(timestamp[:18])) > tolerance_seconds:
        return False
    wanted = _signature(_key(secret), timestamp, body)
    return hmac.compare_digest(wanted.encode(), signature.encode("utf-8", "replace"))


class ThroughApprise:
    """Sends each notice to a service that apprise knows, by its URL, such as ``slack://...``.

    Needs ``pip install 'asgi-errorkit[alerts]'``, or raises ImportError. Raises ValueError for a URL
    that apprise does not understand.
    """

    def __init__(self, url: str) -> None:
        check_text("url", url, example="slack://TokenA/TokenB/TokenC/#alerts")
        self.label = f"{url.partition(':')[0][:40]}://..."  # all else in it may be a secret
        try:
            self._apprise: Any = import_module("apprise")
        except ImportError as error:
            raise ImportError(
                f"{self.label} needs apprise: pip install 'asgi-errorkit[alerts]'"
            ) from error
        self._service = self._apprise.Apprise()
        if not self._service.add(url):
            raise ValueError(
                f"apprise does not understand the URL {self.label}: see "
                "https://github.com/caronc/apprise/wiki for the form of each service's"
            )
        if "overflow=" not in url:
            self._have_cut()

    def __call__(self, notice: Mapping[str, Any]) -> None:
        title, body = text_of(notice)
        is_sent = self._service.notify(
            title=_harmless(title),
            body=_harmless(body),
            notify_type=self._type_of(notice),
            body_format=self._apprise.NotifyFormat.TEXT,
        )
        if not is_sent:
            raise OSError(f"{self.label} has not taken the notice")

    def _have_cut(self) -> None:
        """What is too long for a service is refused each time it is tried, and holds up all else."""
        for service in self._service:
            service.overflow_mode = self._apprise.OverflowMode.TRUNCATE

    def _type_of(self, notice: Mapping[str, Any]) -> Any:
        types = self._apprise.NotifyType
        if notice["status"] == "resolved":
            return types.SUCCESS
        return types.FAILURE if notice["severity"] in ("high", "critical") else types.WARNING


def channel_to(url: str, secret: str | bytes | None = None) -> Webhook | ThroughApprise:
    """The channel to a URL: a `Webhook` for http and https, all else `ThroughApprise`."""
    check_text("url", url, example="https://alerts.example.com/hook")
    if "://" not in url:
        raise ValueError(
            "url must begin with its scheme, e.g. 'https://alerts.example.com/hook' or 'slack://...'; "
            f"got {len(url)} characters without"
        )
    is_web = url.partition(":")[0].lower() in ("http", "https")
    return Webhook(url, secret=secret) if is_web else ThroughApprise(url)


def _label_of(url: str) -> str:
    """Scheme and host: what follows them may be a secret."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
        (host or "").encode("idna")  # as it is looked up
    except ValueError:
        host = None
    if not host or parts.scheme not in ("http", "https") or not _SENDABLE.fullmatch(url):
        raise ValueError(
            "url must be an http or https URL, e.g. 'https://alerts.example.com/hook', with what is "
            f"neither ASCII nor printable percent-encoded; got one that begins {url[:12]!r}"
        )
    name = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{name}{f':{port}' if port else ''}"


def _without_login(url: str) -> tuple[str, dict[str, str]]:
    """The URL without name and password, and the header that tells them."""
    parts = urlsplit(url)
    login, at, place = parts.netloc.rpartition("@")
    if not at:
        return url, {}
    encoded = b64encode(":".join(map(unquote, login.partition(":")[::2])).encode()).decode()
    return parts._replace(netloc=place).geturl(), {"Authorization": f"Basic {encoded}"}


def _key(secret: object) -> bytes:
    key = secret.encode() if isinstance(secret, str) else secret
    if not isinstance(key, bytes):
        raise TypeError(f"secret must be a string or bytes; got a {type(secret).__name__}")
    if not key:
        raise ValueError("secret must not be empty: leave it out to post without a signature")
    return key


def _signature(secret: bytes, timestamp: str, body: bytes) -> str:
    signed = hmac.new(secret, timestamp.encode() + b"." + body, "sha256")
    return f"{_VERSION}={signed.hexdigest()}"


def _harmless(text: str) -> str:
    """Without what would call a whole channel: a client's words may be in it."""
    return text.replace("@", "@\u200b").replace("<", "\u2039").replace(">", "\u203a")
