"""Peers that write an access log: structlog by two recipes, and asgi-logger."""

import logging
import time
from contextlib import ExitStack
from io import TextIOWrapper
from typing import IO, Any
from uuid import uuid4

from asgi_errorkit.types import ASGIApp, Message, Receive, Scope, Send
from benchmarks.peer import Peer, lines
from benchmarks.scenarios import Scenario

__all__ = ["asgi_logger", "lean_structlog", "usual_access_log", "usual_structlog"]


class _UsualAccessLog:
    """What most projects have copied: the request is bound to the context, then told of at its end."""

    def __init__(self, app: ASGIApp, log: Any, request_id: Any) -> None:
        from structlog import contextvars

        self.app = app
        self.log = log
        self.request_id = request_id
        self.contextvars = contextvars

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        self.contextvars.clear_contextvars()
        self.contextvars.bind_contextvars(
            request_id=self.request_id(),
            method=scope["method"],
            path=scope["path"],
            client_ip=scope["client"][0],
        )
        began = time.perf_counter()
        status = 500

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, noting)
        except Exception:
            self.log.exception("request_error", duration=time.perf_counter() - began)
            raise
        self.log.info("request_complete", status=status, duration=time.perf_counter() - began)


class _LeanAccessLog:
    """The least that tells of a request with structlog: no context, no id, one call at its end."""

    def __init__(self, app: ASGIApp, log: Any) -> None:
        self.app = app
        self.log = log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began = time.perf_counter()
        status = 500

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, noting)
        except Exception:
            self.log.exception(
                "request_error",
                method=scope["method"],
                path=scope["path"],
                duration=time.perf_counter() - began,
            )
            raise
        self.log.info(
            "request_complete",
            method=scope["method"],
            path=scope["path"],
            status=status,
            duration=time.perf_counter() - began,
        )


def usual_access_log(
    app: ASGIApp, log: IO[bytes], *, request_id: Any = lambda: str(uuid4())
) -> ASGIApp:
    """structlog's own example for JSON in production, with its standard renderer."""
    import structlog

    # Nothing is configured for the whole process: the logger has its processors with it.
    logger = structlog.wrap_logger(
        structlog.WriteLogger(TextIOWrapper(log, encoding="utf-8")),
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.StackInfoRenderer(),
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.dict_tracebacks,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        context_class=dict,
        cache_logger_on_first_use=True,
    )
    return _UsualAccessLog(app, logger.bind(), request_id)


def usual_structlog(scenario: Scenario, log: IO[bytes], closing: ExitStack) -> Peer:
    return Peer(app=usual_access_log(scenario.app, log), done=(lines(log),))


def lean_structlog(scenario: Scenario, log: IO[bytes], closing: ExitStack) -> Peer:
    import orjson
    import structlog

    logger = structlog.wrap_logger(
        structlog.BytesLogger(log),
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(serializer=orjson.dumps),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        context_class=dict,
        cache_logger_on_first_use=True,
    )
    return Peer(app=_LeanAccessLog(scenario.app, logger.bind()), done=(lines(log),))


def asgi_logger(scenario: Scenario, log: IO[bytes], closing: ExitStack) -> Peer:
    from asgi_logger import AccessLoggerMiddleware

    handler = logging.FileHandler(log.name)
    closing.callback(handler.close)
    logger = logging.getLogger("benchmarks.peers.asgi_logger")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    logger.handlers = [handler]
    return Peer(app=AccessLoggerMiddleware(scenario.app, logger=logger), done=(lines(log),))
