"""Refusing: an answer in place of the app, in the kit's words, and nothing raised."""

import pytest

from asgi_errorkit import (
    CircuitOpenError,
    DeadlineExceededError,
    ErrorHandlingMiddleware,
    ErrorKit,
    ErrorTracker,
    ErrorType,
    MiddlewareStack,
    OverloadedError,
    Recorder,
    StructuredLoggingMiddleware,
    current,
)
from asgi_errorkit.problem import Answer
from asgi_errorkit.refusal import refuse, send_answer
from asgi_errorkit.testing import LogLines, http_scope, request, session

ERRORS = {
    "circuit_open": CircuitOpenError(
        "secret-name",
        retry_after_seconds=4.2,
        error_type=ErrorType.MODEL,
        triggered_at=1_640_995_200.0,
        error_count=10,
        threshold=5,
    ),
    "shed": OverloadedError("queue", retry_after_seconds=2),
    "timeout": DeadlineExceededError("total", 30.0),
}
BY_OUTCOME = pytest.mark.parametrize(("outcome", "error"), ERRORS.items(), ids=ERRORS)


def refusing(error):
    async def app(scope, receive, send):
        await refuse(current(), error, scope, receive, send)

    return app


class Kit:
    def __init__(self, app, **options):
        self.tracker = ErrorTracker(recorder=Recorder(flush_seconds=None))
        self.lines = LogLines()
        stack = MiddlewareStack(error_tracker=self.tracker)
        stack.add_middleware(StructuredLoggingMiddleware, stream=self.lines)
        stack.add_middleware(ErrorHandlingMiddleware, **options)
        self.app = stack.create_middleware_stack(app)

    def last(self):
        self.app.flush()
        return self.lines.lines()[-1]


async def denied(app, *, extensions, events=None):
    sent, events = [], events or [{"type": "websocket.connect"}]

    async def receive():
        return events.pop(0)

    async def send(message):
        sent.append(message)

    scope = http_scope(extensions=extensions)
    del scope["method"]
    scope.update(type="websocket", scheme="ws", subprotocols=[])
    await app(scope, receive, send)
    return sent


@BY_OUTCOME
async def test_a_request_is_answered(outcome, error):
    """A whole problem document, its status, and why in the line; nothing is raised."""
    kit = Kit(refusing(error))
    reply = await request(kit.app)
    assert (reply.status, reply.raised, reply.complete) == (error.status_code, None, True)
    assert reply.headers["content-type"] == "application/problem+json"
    assert int(reply.headers["content-length"]) == len(reply.body)
    problem = reply.json()
    assert (problem["status"], problem["detail"]) == (error.status_code, error.detail)
    assert problem["request_id"] == reply.headers["x-request-id"]
    line = kit.last()
    assert (line["event"], line["outcome"]) == ("request_error", outcome)
    assert line["error_category"] == error.error_type.value
    assert "traceback" not in line


@BY_OUTCOME
async def test_it_is_counted_once(outcome, error):
    """One failed request, one error of its type."""
    kit = Kit(refusing(error))
    await request(kit.app)
    stats = kit.app.get_error_stats()
    assert (stats["failed_requests"], stats["errors_by_type"]) == (1, {error.error_type.value: 1})


async def test_the_application_hears_of_no_exception():
    """A refusal is not raised: on_error is for what is."""
    heard = []
    kit = Kit(refusing(ERRORS["shed"]), on_error=lambda exchange, exc: heard.append(exc))
    await request(kit.app)
    assert heard == []


@pytest.mark.parametrize(
    ("error", "seconds"),
    [(ERRORS["circuit_open"], "5"), (ERRORS["shed"], "2"), (ERRORS["timeout"], None)],
    ids=["rounded up", "whole", "unknown"],
)
async def test_it_says_when_to_come_again(error, seconds):
    """In whole seconds, never too early."""
    reply = await request(Kit(refusing(error)).app)
    assert reply.headers.get("retry-after") == seconds


async def test_what_clients_are_told_is_public():
    """Why it opened, but not what it is called inside."""
    reply = await request(Kit(refusing(ERRORS["circuit_open"])).app)
    assert reply.json()["error"]["context"] == {
        "error_type": "model",
        "path": "/",
        "method": "GET",
        "triggered_at": 1_640_995_200.0,
        "error_count": 10,
        "threshold": 5,
    }
    assert b"secret-name" not in reply.body


async def test_a_head_request_gets_no_body():
    """But the headers that GET would have got."""
    reply = await request(Kit(refusing(ERRORS["shed"])).app, "HEAD")
    assert (reply.status, reply.body) == (503, b"")
    assert int(reply.headers["content-length"]) > 0


@pytest.mark.parametrize(
    ("responder", "headers"),
    [
        (lambda exchange, exc: Answer(418, [(b"x-why", b"tea")], b"tea"), {"X-Service": "v"}),
        (None, {"X-Service": "v"}),
    ],
    ids=["responder", "headers"],
)
async def test_the_applications_words_go_before(responder, headers):
    """What answers errors answers refusals, with its headers."""
    reply = await request(Kit(refusing(ERRORS["shed"]), responder=responder, headers=headers).app)
    assert reply.status == (418 if responder else 503)
    assert reply.headers["x-service"] == "v"


async def test_a_broken_responder_leaves_the_usual_answer():
    """A refusal must not fail for the application's own words."""

    def responder(exchange, exc):
        raise RuntimeError("mine")

    reply = await request(Kit(refusing(ERRORS["shed"]), responder=responder).app)
    assert (reply.status, reply.raised) == (503, None)


@BY_OUTCOME
async def test_a_session_is_closed_before_it_is_accepted(outcome, error):
    """With 1013, try again later: servers make a 403 of it."""
    kit = Kit(refusing(error))
    reply = await session(kit.app)
    assert reply.messages == [{"type": "websocket.close", "code": 1013, "reason": ""}]
    line = kit.last()
    assert (line["event"], line["outcome"], line["close_code"]) == (
        "websocket_close",
        outcome,
        1013,
    )


@BY_OUTCOME
async def test_a_session_is_denied_where_the_server_can(outcome, error):
    """The same answer as a request would get, in the messages of the extension."""
    kit = Kit(refusing(error))
    start, body = await denied(kit.app, extensions={"websocket.http.response": {}})
    assert (start["type"], start["status"]) == (
        "websocket.http.response.start",
        error.status_code,
    )
    assert dict(start["headers"])[b"content-type"] == b"application/problem+json"
    assert body["type"] == "websocket.http.response.body"
    assert len(body["body"]) == int(dict(start["headers"])[b"content-length"])
    assert kit.last()["outcome"] == outcome


@pytest.mark.parametrize(
    "extensions", [None, {}, {"other": {}}, ["websocket.http.response"], "no"], ids=repr
)
async def test_odd_extensions_are_none(extensions):
    """What is no mapping with that name can do nothing."""
    (message,) = await denied(Kit(refusing(ERRORS["shed"])).app, extensions=extensions)
    assert message["type"] == "websocket.close"


@pytest.mark.parametrize("extensions", [{}, {"websocket.http.response": {}}], ids=["close", "deny"])
async def test_a_client_that_left_is_sent_nothing(extensions):
    """After a disconnect every send is an error."""
    gone = [{"type": "websocket.disconnect", "code": 1006}]
    kit = Kit(refusing(ERRORS["shed"]))
    assert await denied(kit.app, extensions=extensions, events=gone) == []


@pytest.mark.parametrize("kind", ["http", "websocket"])
async def test_what_the_servers_send_raises_is_the_servers(kind):
    """It is not answered a second time."""
    tried = []

    async def send(message):
        tried.append(message["type"])
        raise OSError("gone")

    async def receive():
        return {"type": f"{kind}.connect"}

    scope = http_scope()
    scope["type"] = kind
    with pytest.raises(OSError, match="gone"):
        await Kit(refusing(ERRORS["shed"])).app(scope, receive, send)
    assert len(tried) == 1


@pytest.mark.parametrize("status", [204, 304])
async def test_statuses_without_a_body_have_none(status):
    """Whatever an Answer says."""
    sent = []

    async def send(message):
        sent.append(message)

    await send_answer(Answer(status, [], b"something"), http_scope(), send)
    assert [m.get("body") for m in sent] == [None, b""]


async def test_a_refusal_that_something_answers_for_is_no_failure():
    """Below 400 after all it was not refused."""

    async def app(scope, receive, send):
        async def swallow(message):
            pass

        await refuse(current(), ERRORS["shed"], scope, receive, swallow)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"after all"})

    kit = Kit(app)
    assert (await request(kit.app)).status == 200
    kit.app.flush()
    assert kit.lines.lines()[-1]["outcome"] != "shed"


async def test_without_a_kit_it_answers_as_well():
    """What stands alone has the usual words, without a trace of an application's."""
    from asgi_errorkit import LoadSheddingMiddleware

    app = LoadSheddingMiddleware(refusing(ERRORS["shed"]), limit=10)
    reply = await request(app)
    assert (reply.status, reply.json()["error"]["type"]) == (503, "OverloadedError")
    assert isinstance(
        ErrorKit(app, tracker=ErrorTracker(recorder=Recorder(flush_seconds=None))), ErrorKit
    )
