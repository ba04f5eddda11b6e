"""The kinds of requests that the traffic maker mixes, and what has to come of each."""

from dataclasses import dataclass
from random import Random

from asgi_errorkit.demo.sending import ID_HEADER, Sender, ask, follow, order, upload

__all__ = ["KINDS", "Kind", "plan"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One kind of request, and what has to come of it, in the words of the kit.

    ``grouped`` tells that an exception escapes the app; where it ``may_fall_back`` a fallback's answer
    will do as well; a kind of twice the ``weight`` is sent
    twice as often.
    """

    name: str
    send: Sender
    status: int = 200
    outcome: str = "ok"
    error_type: str | None = None
    session: bool = False
    grouped: bool = False
    may_fall_back: bool = False
    weight: int = 1


def plan(seed: int, requests: int) -> list[Kind]:
    """So many kinds in the order in which to send them: each once, the rest by weight."""
    chance = Random(seed)  # noqa: S311  no secret hangs on it
    rest = chance.choices(KINDS, [kind.weight for kind in KINDS], k=max(0, requests - len(KINDS)))
    kinds = [*KINDS, *rest]
    chance.shuffle(kinds)
    return kinds[:requests]


def _failing(
    video_id: str, status: int, error_type: str, *, grouped: bool = True, weight: int = 2
) -> Kind:
    """Looking at a video that cannot be had."""
    return Kind(
        name=f"look at {video_id}",
        send=ask("GET", f"/videos/{video_id}"),
        status=status,
        outcome="client_error" if status < 500 else "server_error",
        error_type=error_type,
        grouped=grouped,
        weight=weight,
    )


KINDS: tuple[Kind, ...] = (
    Kind(name="ask for health", send=ask("GET", "/health"), weight=8),
    Kind(name="read error stats", send=ask("GET", "/errors/stats"), weight=2),
    Kind(name="read performance stats", send=ask("GET", "/performance/stats"), weight=2),
    Kind(name="look at a video", send=ask("GET", "/videos/sample_video"), weight=24),
    Kind(name="order a video", send=order(), status=202, weight=16),
    Kind(name="download", send=ask("GET", "/videos/sample_video/download"), weight=12),
    Kind(name="upload", send=upload(announced=True), weight=6),
    Kind(name="upload in chunks", send=upload(announced=False), weight=6),
    Kind(name="follow progress", send=follow("sample_video"), status=101, session=True, weight=8),
    Kind(
        name="leave a session",
        send=follow("sample_video", leave=True),
        status=101,
        session=True,
        weight=2,
    ),
    Kind(
        name="leave a download",
        send=ask(
            "GET",
            "/videos/sample_video/download",
            params={"kilobytes_per_second": 2},
            leave=True,
        ),
        outcome="client_disconnect",
        weight=4,
    ),
    Kind(
        name="download a damaged video",
        send=ask("GET", "/videos/damaged_video/download"),
        outcome="truncated",
        error_type="unknown",
        grouped=True,
        weight=3,
    ),
    Kind(
        name="order, to fail afterwards",
        # The server closes the connection behind such a failure: another request must not be on it.
        send=order("damaged-diffusion", connection="close"),
        status=202,
        outcome="background_failed",
        error_type="model",
        grouped=True,
        weight=3,
    ),
    Kind(
        name="follow a failing video",
        send=follow("model_video"),
        status=101,
        session=True,
        outcome="server_error",
        error_type="model",
        grouped=True,
        weight=3,
    ),
    Kind(
        name="follow a private video",
        send=follow("private_video"),
        status=403,
        session=True,
        outcome="client_error",
        error_type="authorization",
        weight=2,
    ),
    Kind(
        name="order without a prompt",
        send=ask("POST", "/videos/generate", json={"prompt": "", "frames": 9999}),
        status=422,
        outcome="client_error",
        error_type="validation",
        weight=4,
    ),
    Kind(
        name="order in broken JSON",
        send=ask(
            "POST",
            "/videos/generate",
            content=b'{"prompt": ',
            headers={"content-type": "application/json"},
        ),
        status=422,
        outcome="client_error",
        error_type="validation",
        weight=2,
    ),
    Kind(
        name="order from an unknown model",
        send=order("imaginary-diffusion"),
        status=404,
        outcome="client_error",
        error_type="not_found",
        grouped=True,
        weight=2,
    ),
    Kind(
        name="order from a busy model",
        send=order("premium-diffusion"),
        status=429,
        outcome="client_error",
        error_type="rate_limit",
        grouped=True,
        weight=3,
    ),
    Kind(
        name="upload what is no video",
        send=ask("POST", "/videos/upload", content=b"GIF89a, or so they say" * 50),
        status=422,
        outcome="client_error",
        error_type="validation",
        grouped=True,
        weight=2,
    ),
    Kind(
        name="delete a video",
        send=ask("DELETE", "/videos/sample_video"),
        status=405,
        outcome="client_error",
        error_type="validation",
    ),
    Kind(
        name="ask for a hostile path",
        send=ask(
            "GET",
            "/%0D%0A%1B%5B31m%E2%80%A8%FF?token=hunter2",
            headers={ID_HEADER: "too-long-an-id-" * 20},
        ),
        status=404,
        outcome="client_error",
        error_type="not_found",
        weight=2,
    ),
    _failing("error_video", 422, "validation"),
    _failing("memory_video", 503, "memory"),
    _failing("database_video", 503, "database", weight=4),
    _failing("model_video", 503, "model", weight=4),
    _failing("cache_video", 503, "cache"),
    _failing("timeout_video", 504, "timeout"),
    _failing("storage_video", 502, "external_service"),
    _failing("encoder_video", 500, "system"),
    _failing("buggy_video", 500, "unknown"),
    _failing("private_video", 401, "authentication", grouped=False),
    _failing("foreign_video", 403, "authorization", grouped=False),
    _failing("no_such_video", 404, "not_found", grouped=False),
)
"""Every success and failure that the app knows; what is to come of each is said beside it."""
