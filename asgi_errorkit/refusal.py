"""Refusing a request: unheard, or when its time is up."""

from collections.abc import Mapping

from asgi_errorkit.errors import PublicError
from asgi_errorkit.exchange import Caught, Exchange
from asgi_errorkit.problem import Answer, Failure, answer
from asgi_errorkit.redact import Redactor
from asgi_errorkit.types import Receive, Scope, Send

__all__ = ["refuse", "send_answer"]

_TRY_AGAIN_LATER = 1013  # RFC 6455's registry of close codes
_REDACTOR = Redactor()


async def refuse(
    exchange: Exchange, error: PublicError, scope: Scope, receive: Receive, send: Send
) -> None:
    """Answer in place of the app, in the words that the kit has for this error, and note why.

    Nothing is raised, and no traceback made: that is for errors, and this must be cheap. A websocket
    is refused before it is accepted: with the same answer where the server can send one, else by
    closing it, which servers make a 403 of.
    """
    exchange.ended_as = error.ends_as
    exchange.caught = Caught(None, exchange.choices.classifier(error))
    if scope["type"] != "websocket":
        await _answer(exchange, error, scope, send)
        return
    if (await receive())["type"] == "websocket.disconnect":
        return
    if _can_deny(scope):
        await _answer(exchange, error, scope, _as_denial(send))
    else:
        await send({"type": "websocket.close", "code": _TRY_AGAIN_LATER, "reason": ""})


async def _answer(exchange: Exchange, error: PublicError, scope: Scope, send: Send) -> None:
    answers = exchange.choices.answers
    if answers is not None:  # with the headers and the words that the application has chosen
        await answers.answer(exchange, error, scope, send, [])
        return
    verdict = exchange.choices.classifier(error)
    at = exchange.choices.recorder.wall_clock()
    failure = Failure(error, verdict.info, error.status_code, exchange.request_id, at)
    made = answer(failure, scope, debug=False, redactor=_REDACTOR)
    await send_answer(made, scope, send)


async def send_answer(made: Answer, scope: Scope, send: Send) -> None:
    """Send a whole response; to a HEAD request, and with 204 and 304, without its body."""
    await send(
        {
            "type": "http.response.start",
            "status": made.status_code,
            "headers": made.headers,
        }
    )
    bodiless = made.status_code in (204, 304) or scope.get("method") == "HEAD"
    await send({"type": "http.response.body", "body": b"" if bodiless else made.body})


def _can_deny(scope: Scope) -> bool:
    extensions = scope.get("extensions")
    return isinstance(extensions, Mapping) and "websocket.http.response" in extensions


def _as_denial(send: Send) -> Send:
    async def deny(message: dict[str, object]) -> None:
        await send({**message, "type": f"websocket.{message['type']}"})

    return deny  # type: ignore[return-value]  # of the messages that are made above
