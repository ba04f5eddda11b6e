"""Error handling: what escapes the app is recorded once, and answered only while it still can be."""

import asyncio
import logging
from functools import partial

import pytest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route

from asgi_errorkit import (
    POLICIES,
    Answer,
    ErrorAction,
    ErrorHandlingMiddleware,
    ErrorInfo,
    ErrorSeverity,
    ErrorTracker,
    ErrorType,
    PublicError,
    Recorder,
    StructuredLoggingMiddleware,
    cors,
)
from asgi_errorkit.testing import LogLines, http_scope, request, session

START = {"type": "http.response.start", "status": 200, "headers": []}
PIECE = {"type": "http.response.body", "body": b"piece", "more_body": True}
END = {"type": "http.response.body", "body": b"end"}
SECRET = "the-words-of-the-exception"
BROWSER = [(b"accept", b"text/html,*/*;q=0.8")]


def raising(exc, *messages):
    """An app that sends the messages and then raises."""

    async def app(scope, receive, send):
        for message in messages:
            await send(message)
        raise exc

    return app


def sending(*messages):
    """An app that sends the messages and returns."""

    async def app(scope, receive, send):
        for message in messages:
            await send(message)

    return app


def handled(app, *, policies=None, **options):
    tracker = ErrorTracker(recorder=Recorder(flush_seconds=None), policies=policies)
    return ErrorHandlingMiddleware(app, tracker, **options)


def counted(middleware):
    stats = middleware.error_tracker.get_error_stats()
    return stats["total_requests"], stats["failed_requests"], stats["total_errors"]


# Before, amid and after the response


async def test_an_error_before_the_start_is_answered_and_goes_no_further():
    """One whole problem document, counted once, with the id that its header tells."""
    middleware = handled(raising(ValueError(SECRET)))
    reply = await request(middleware, "POST", "/videos")
    assert (reply.status, reply.complete, reply.raised) == (500, True, None)
    assert len(reply.starts) == 1 and len(reply.messages) == 2
    assert reply.headers["content-type"] == "application/problem+json"
    assert reply.headers["x-request-id"] == reply.json()["request_id"]
    assert counted(middleware) == (1, 1, 1)


@pytest.mark.parametrize(
    "sent", [[START], [START, PIECE], [START, END]], ids=["start", "piece", "all"]
)
async def test_an_error_after_the_start_is_recorded_and_goes_on(sent):
    """Neither a second start nor an end that was not: the server is to see that it failed."""
    exc = ValueError("boom")
    middleware = handled(raising(exc, *sent))
    reply = await request(middleware)
    assert reply.raised is exc
    assert [m["type"] for m in reply.messages] == [m["type"] for m in sent]
    assert reply.complete == (sent[-1] is END)
    assert counted(middleware) == (1, 1, 1)


@pytest.mark.parametrize("messages", [[START], [START, PIECE]], ids=["start", "piece"])
async def test_returning_without_completing_is_a_failure_without_an_answer(messages):
    """Returned normally is not success; what is missing is for the server to judge."""
    middleware = handled(sending(*messages))
    reply = await request(middleware)
    assert reply.raised is None and len(reply.messages) == len(messages)
    assert counted(middleware) == (1, 1, 1)


@pytest.mark.parametrize("around", [False, True], ids=["outermost", "further in"])
async def test_returning_without_a_word_is_answered_in_the_apps_stead(around):
    """Servers differ in what they make of it, and one lets the client wait for ever."""
    middleware = handled(sending())
    lines = LogLines()
    outer = StructuredLoggingMiddleware(middleware, stream=lines) if around else middleware
    reply = await request(outer)
    assert (reply.status, reply.complete, reply.raised) == (500, True, None)
    assert reply.json()["request_id"] == reply.headers["x-request-id"]
    assert counted(middleware) == (1, 1, 1)
    if around:
        middleware.error_tracker.recorder.flush()
        assert lines.lines("request_error")[0]["outcome"] == "incomplete"


async def test_nobody_is_answered_who_has_left():
    async def app(scope, receive, send):
        while (await receive())["type"] != "http.disconnect":
            pass

    reply = await request(handled(app), leaves=True)
    assert reply.messages == []


@pytest.mark.parametrize(
    "exc",
    [
        asyncio.CancelledError(),
        KeyboardInterrupt(),
        SystemExit(3),
        GeneratorExit(),
        BaseExceptionGroup("", [asyncio.CancelledError()]),
        BaseExceptionGroup("", [asyncio.CancelledError(), KeyboardInterrupt()]),
    ],
    ids=repr,
)
@pytest.mark.parametrize("sent", [[], [START, PIECE]], ids=["before", "after"])
async def test_what_is_no_exception_passes_and_is_no_error(exc, sent):
    """Cancellation and the process's end belong to the server: same object, nothing sent."""
    middleware = handled(raising(exc, *sent))
    reply = await request(middleware)
    assert reply.raised is exc
    assert len(reply.messages) == len(sent)
    assert counted(middleware) == (1, 0, 0)


async def test_an_error_beside_a_cancellation_is_recorded_and_passes_with_it():
    """The group belongs to the server: same object, nothing sent. Its error is known all the same."""
    exc = BaseExceptionGroup("", [asyncio.CancelledError(), MemoryError("real")])
    middleware = handled(raising(exc))
    reply = await request(middleware)
    assert reply.raised is exc and reply.messages == []
    assert counted(middleware) == (1, 1, 1)
    assert middleware.error_tracker.get_error_stats()["errors_by_type"] == {"memory": 1}


@pytest.mark.parametrize("cancelled", [1, 25, 5000])
async def test_an_error_is_found_among_any_number_of_cancellations(cancelled):
    leaves = [asyncio.CancelledError() for _ in range(cancelled)]
    middleware = handled(raising(BaseExceptionGroup("", [*leaves, ValueError("lost")])))
    await request(middleware)
    assert counted(middleware) == (1, 1, 1)


@pytest.mark.parametrize("number", [1, 25])
async def test_a_client_that_left_beside_a_cancellation_is_no_error(number):
    """However many of a request's tasks have met the disconnect."""
    gone = [ClientDisconnect() for _ in range(number)]
    for exc in (
        BaseExceptionGroup("", [asyncio.CancelledError(), *gone]),
        ExceptionGroup("", gone),
    ):
        middleware = handled(raising(exc))
        reply = await request(middleware)
        assert reply.raised is exc and reply.messages == []
        assert counted(middleware) == (1, 0, 0)


async def test_what_the_app_told_of_and_then_answered_itself_is_named_in_its_line():
    """Counted once, by the one that was told; the line of the request knows the exception."""
    lines = LogLines()

    async def app(scope, receive, send):
        try:
            raise MemoryError("told")
        except MemoryError:
            middleware.error_tracker.record_error(ErrorType.MEMORY)
        await send({**START, "status": 503})
        await send(END)

    middleware = handled(app)
    await request(StructuredLoggingMiddleware(middleware, stream=lines))
    assert counted(middleware) == (1, 1, 1)
    middleware.error_tracker.recorder.flush()
    (line,) = lines.lines("request_error")
    assert (line["error"], line["error_category"]) == ("told", "memory")


IN_A_TASK_GROUP = """
import asyncio

def around(app):
    async def serve(scope, receive, send):
        async with asyncio.TaskGroup() as group:
            group.create_task(app(scope, receive, send))
    return serve
"""


@pytest.mark.parametrize(
    ("file", "name"),
    [("/x/site-packages/framework/app.py", "ValueError"), ("/x/app.py", "ExceptionGroup")],
)
async def test_the_task_group_of_a_framework_is_looked_into(file, name):
    """That of the application is what failed, with all that it says."""
    names = {}
    exec(compile(IN_A_TASK_GROUP, file, "exec"), names)
    middleware = handled(names["around"](raising(ValueError("boom"))))
    await request(middleware)
    (group,) = middleware.error_tracker.groups()
    assert group.type_name == name


async def test_a_group_of_exceptions_is_an_error_like_any_other():
    reply = await request(middleware := handled(raising(ExceptionGroup("", [TimeoutError()]))))
    assert reply.status == 504 and counted(middleware) == (1, 1, 1)


# Clients that leave, and servers that refuse


@pytest.mark.parametrize("exc", [None, ClientDisconnect(), ConnectionResetError()], ids=repr)
async def test_a_client_that_left_is_no_error(exc):
    """An app that hears of the disconnect may return or raise: nothing is sent, nothing counted."""

    async def app(scope, receive, send):
        while (await receive())["type"] != "http.disconnect":
            pass
        if exc:
            raise exc

    reply = await request(middleware := handled(app), leaves=True)
    assert reply.messages == [] and reply.raised is exc
    assert counted(middleware) == (1, 0, 0)


async def test_a_connection_that_the_app_lost_is_an_error():
    """Only with a client that left is a ConnectionError its leaving."""
    reply = await request(middleware := handled(raising(ConnectionResetError())))
    assert reply.status == 502 and counted(middleware) == (1, 1, 1)


async def test_a_mistake_after_the_client_left_is_still_an_error():
    async def app(scope, receive, send):
        while (await receive())["type"] != "http.disconnect":
            pass
        raise KeyError("video")

    await request(middleware := handled(app), leaves=True)
    assert counted(middleware)[2] == 1


class Server:
    """A server whose send raises from the nth message on, in each shape that a callable has."""

    def __init__(self, exc, after=0):
        self.exc, self.after, self.messages = exc, after, []

    async def send(self, message):
        if len(self.messages) >= self.after:
            raise self.exc
        self.messages.append(message)

    __call__ = send

    def shapes(self):
        async def closure(message):
            await self.send(message)

        return {
            "method": self.send,
            "object": self,
            "partial": partial(Server.send, self),
            "closure": closure,
        }


async def nothing():
    return {"type": "http.disconnect"}


@pytest.mark.parametrize("shape", ["method", "object", "partial", "closure"])
@pytest.mark.parametrize("after", [0, 1])
@pytest.mark.parametrize(
    ("exc", "errors"), [(RuntimeError("misuse"), 1), (BrokenPipeError(), 0)], ids=["misuse", "gone"]
)
async def test_what_the_servers_own_send_raises_reaches_the_server(exc, errors, after, shape):
    """It is not ours to answer: the app sees it, the server gets it back, nothing more is sent."""
    seen = []

    async def app(scope, receive, send):
        try:
            await send(START)
            await send(END)
        except Exception as raised:
            seen.append(raised)
            raise

    middleware, server = handled(app), Server(exc, after)
    with pytest.raises(type(exc)) as raised:
        await middleware(http_scope(), nothing, server.shapes()[shape])
    assert raised.value is exc and seen == [exc]
    assert len(server.messages) == after
    assert counted(middleware)[2] == errors


@pytest.mark.parametrize("around", [False, True], ids=["outermost", "further in"])
async def test_a_last_piece_that_did_not_arrive_is_a_disconnect(around):
    """The app had sent everything; the server's send says that nobody is there any more."""

    async def gone(message):
        if message["type"] == "http.response.body":
            raise OSError("the client has gone")

    async def receive():
        return {"type": "http.request"}

    lines = LogLines()
    middleware = handled(sending(START, END))
    outer = StructuredLoggingMiddleware(middleware, stream=lines)
    with pytest.raises(OSError, match="gone"):
        await (outer if around else middleware)(http_scope(), receive, gone)
    assert counted(middleware) == (1, 0, 0)
    if around:
        middleware.error_tracker.recorder.flush()
        assert lines.lines("request_complete")[0]["outcome"] == "client_disconnect"


async def test_an_app_that_survives_a_failing_send_is_left_alone():
    async def app(scope, receive, send):
        try:
            await send(START)
        except OSError:
            return "gone"

    server = Server(OSError())
    middleware = handled(app)
    assert await middleware(http_scope(), nothing, server.send) == "gone"
    assert server.messages == []


async def test_a_server_that_refuses_our_answer_gets_its_own_error():
    """When the answer itself cannot be sent, nothing of it is tried again."""
    server = Server(BrokenPipeError())
    with pytest.raises(BrokenPipeError):
        await handled(raising(ValueError("boom")))(http_scope(), nothing, server.send)
    assert server.messages == []


# The stock 500 of Starlette, and what only looks like it


def starlette(fails, **options):
    return Starlette(routes=[Route("/", fails)], **options)


async def raises(request):
    raise ValueError(SECRET)


def logged_around(app):
    """Another of our middlewares further out: error handling then joins its exchange."""
    return StructuredLoggingMiddleware(
        app, stream=LogLines(), recorder=Recorder(flush_seconds=None)
    )


anywhere = pytest.mark.parametrize(
    "around", [lambda app: app, logged_around], ids=["outermost", "further in"]
)


@anywhere
async def test_a_stock_500_is_replaced_by_our_answer(around):
    """Starlette sends its own 500 and then raises: the client gets one answer, ours."""
    reply = await request(around(middleware := handled(starlette(raises))))
    assert (reply.status, len(reply.starts), reply.raised) == (500, 1, None)
    assert reply.json()["status"] == 500
    assert counted(middleware) == (1, 1, 1)


def custom(body, status_code=500):
    async def answer(request, exc):
        return PlainTextResponse(body, status_code=status_code)

    return answer


@anywhere
@pytest.mark.parametrize("body", ["We are sorry.", "x" * len("Internal Server Error"), ""], ids=len)
async def test_a_custom_500_is_untouched_and_its_exception_goes_on(body, around):
    """What the application wrote for its users is theirs; the error is recorded all the same."""
    app = starlette(raises, exception_handlers={500: custom(body)})
    bare, reply = await request(app), await request(around(middleware := handled(app)))
    assert (reply.status, reply.body, len(reply.starts)) == (500, body.encode(), 1)
    assert [type(r.raised) for r in (bare, reply)] == [ValueError, ValueError]
    assert counted(middleware) == (1, 1, 1)


@anywhere
async def test_a_client_that_left_amid_its_upload_is_no_stock_500(around):
    """Starlette answers 500 to a client that has gone; that is its leaving, not our failure."""

    async def reads(request):
        await request.body()

    middleware, server = handled(starlette(reads)), Server(None, after=10)
    with pytest.raises(ClientDisconnect):
        await around(middleware)(http_scope(), nothing, server.send)
    assert [m["type"] for m in server.messages] in (
        [],
        ["http.response.start", "http.response.body"],
    )
    assert counted(middleware) == (1, 0, 0)


@anywhere
async def test_a_raised_500_without_an_escaping_exception_is_untouched(around):
    """HTTPException(500) is answered by Starlette in the stock words; byte for byte it stays."""

    async def fails(request):
        raise HTTPException(500)

    middleware = handled(starlette(fails))
    bare, reply = await request(starlette(fails)), await request(around(middleware))
    assert (reply.status, reply.body, reply.raised) == (500, bare.body, None)
    assert [m["type"] for m in reply.messages] == [m["type"] for m in bare.messages]
    assert bare.headers.items() <= reply.headers.items()
    assert counted(middleware) == (1, 1, 1)


async def test_a_streamed_500_is_passed_on_piece_by_piece():
    """Only what announces exactly the stock body is held back, and never a stream."""
    server = Server(None, after=10)

    async def pieces():
        for number in range(3):
            assert len(server.messages) == 1 + number
            yield b"piece"

    async def fails(request):
        return StreamingResponse(pieces(), status_code=500)

    await handled(starlette(fails))(http_scope(), nothing, server.send)
    assert len(server.messages) == 5


async def test_a_frameworks_debug_page_is_untouched():
    reply = await request(handled(starlette(raises, debug=True)), headers=BROWSER)
    assert SECRET.encode() in reply.body and len(reply.starts) == 1


# What is answered


@pytest.mark.parametrize(
    ("exc", "status", "kind"),
    [
        (TimeoutError(), 504, "timeout"),
        (MemoryError(), 503, "memory"),
        (ConnectionRefusedError(), 502, "external_service"),
        (KeyError("video"), 500, "unknown"),
        (PublicError("No.", error_type=ErrorType.AUTHORIZATION), 403, "authorization"),
        (PublicError("Later.", error_type=ErrorType.MODEL, status_code=507), 507, "model"),
        (HTTPException(404), 404, "not_found"),
    ],
    ids=repr,
)
async def test_the_status_is_that_of_the_error(exc, status, kind):
    reply = await request(middleware := handled(raising(exc)))
    assert (reply.status, reply.json()["status"]) == (status, status)
    assert middleware.error_tracker.get_error_stats()["errors_by_type"] == {kind: 1}


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "validation"),
        (401, "authentication"),
        (403, "authorization"),
        (404, "not_found"),
        (422, "validation"),
        (429, "rate_limit"),
        (500, "unknown"),
        (502, "external_service"),
        (503, "system"),
        (504, "timeout"),
    ],
)
async def test_a_response_without_an_exception_counts_by_its_status(status, kind):
    """An app that answers 4xx or 5xx by itself is counted; only 5xx is the server's failure."""

    async def app(scope, receive, send):
        await send({**START, "status": status})
        await send(END)

    reply = await request(middleware := handled(app))
    assert reply.body == b"end"
    assert middleware.error_tracker.get_error_stats()["errors_by_type"] == {kind: 1}
    assert counted(middleware) == (1, status >= 500, 1)


async def test_a_public_error_says_what_it_was_given_to_say():
    exc = PublicError(
        "The queue is full.",
        error_type=ErrorType.RATE_LIMIT,
        retry_after_seconds=7,
        headers={"X-Queue": "12"},
        context={"queue": 12},
    )
    reply = await request(handled(raising(exc)))
    assert reply.json()["detail"] == "The queue is full."
    assert reply.json()["error"]["context"]["queue"] == 12
    assert (reply.headers["retry-after"], reply.headers["x-queue"]) == ("7", "12")


async def test_an_answer_to_head_has_no_body_but_its_length():
    app = raising(ValueError("boom"))
    get, head = await request(handled(app)), await request(handled(app), "HEAD")
    assert (head.status, head.body, head.complete) == (500, b"", True)
    assert abs(int(head.headers["content-length"]) - len(get.body)) < 16  # ids, times and "HEAD"


@pytest.mark.parametrize("headers", [[], BROWSER], ids=["json", "html"])
@pytest.mark.parametrize("debug", [False, True], ids=["production", "debug"])
async def test_the_exceptions_words_are_told_only_with_debug(debug, headers):
    """In production not one word of the exception, nor of where it happened, leaves the server."""
    reply = await request(handled(raising(ValueError(SECRET)), debug=debug), headers=headers)
    kind = "text/html" if headers else "application/problem+json"
    assert reply.headers["content-type"].startswith(kind)
    for told in (SECRET, "ValueError", "test_error_handling.py"):
        assert (told.encode() in reply.body) is debug


class WordlessError(Exception):
    def __str__(self):
        raise RuntimeError

    __repr__ = __str__
    args = property(__str__)


class UntouchableError(Exception):
    def __getattribute__(self, name):
        raise RuntimeError


class LeavingError(Exception):
    def __str__(self):
        raise SystemExit(3)


class NamelessClass(type):
    def __getattribute__(cls, name):
        if name in ("__module__", "__qualname__"):
            raise RuntimeError
        return super().__getattribute__(name)


class NamelessError(Exception, metaclass=NamelessClass):
    pass


@pytest.mark.parametrize(
    "hostile",
    [WordlessError, UntouchableError, LeavingError, NamelessError],
    ids=["wordless", "untouchable", "leaving", "nameless"],
)
@pytest.mark.parametrize("debug", [False, True], ids=["production", "debug"])
async def test_an_exception_that_cannot_be_looked_at_is_answered_too(hostile, debug):
    """Before the start it is answered, after the start the very same object goes on."""
    exc = hostile()
    for sent in ([], [START]):
        reply = await request(middleware := handled(raising(exc, *sent), debug=debug))
        assert reply.status == (200 if sent else 500)
        assert reply.raised is (exc if sent else None)
        assert counted(middleware) == (1, 1, 1)


# Websockets


@pytest.mark.parametrize("sent", [[], [{"type": "websocket.accept"}]], ids=["before", "after"])
async def test_a_websocket_never_gets_an_http_message(sent):
    """Its error is recorded and goes on to the server, which knows how to close."""
    exc = ValueError("boom")
    reply = await session(middleware := handled(raising(exc, *sent)))
    assert reply.raised is exc
    assert [m["type"] for m in reply.messages] == [m["type"] for m in sent]
    assert counted(middleware) == (1, 1, 1)


# The options


async def needs_three(a, b, c):
    """No hook takes so many."""


def scope_header(scope):
    return {"X-Path": scope["path"]}


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"X-Service": "video"}, ("x-service", "video")),
        (scope_header, ("x-path", "/here")),
        (cors(allow_origins=["https://a.test"]), ("access-control-allow-origin", "https://a.test")),
    ],
    ids=["mapping", "callable", "cors"],
)
async def test_extra_headers_are_on_error_answers_alone(headers, expected):
    async def fine(scope, receive, send):
        await send(START)
        await send(END)

    origin = [(b"origin", b"https://a.test")]
    for app, there in ((raising(ValueError("boom")), True), (fine, False)):
        reply = await request(handled(app, headers=headers), path="/here", headers=origin)
        assert (expected in reply.headers.items()) is there


@pytest.mark.parametrize(
    "broken",
    [
        lambda scope: 1 / 0,
        lambda scope: {"X": "a\r\nb"},
        lambda scope: {"Content-Length": "5"},
        lambda _: 7,
    ],
)
async def test_a_broken_headers_callable_is_counted_and_the_answer_sent(broken):
    reply = await request(middleware := handled(raising(ValueError("boom")), headers=broken))
    assert reply.json()["status"] == 500 and middleware.hook_errors == 1


@pytest.mark.parametrize(
    "hook", ["on_error", "responder", "headers"], ids=["on_error", "responder", "headers"]
)
async def test_the_first_failure_of_a_hook_is_logged_the_others_are_counted(hook, caplog):
    """With its traceback, by the logger "asgi_errorkit": else nobody would look for it."""

    def failing(*arguments):
        raise LookupError("of the hook")

    middleware = handled(raising(ValueError("boom")), **{hook: failing})
    with caplog.at_level(logging.ERROR, "asgi_errorkit"):
        for _ in range(3):
            assert (await request(middleware)).json()["status"] == 500
    assert middleware.hook_errors == 3
    (told,) = [each for each in caplog.records if each.name == "asgi_errorkit"]
    assert "failing" in told.getMessage() and "only counted" in told.getMessage()
    assert told.exc_info[0] is LookupError and told.exc_info[2] is not None


@pytest.mark.parametrize("sent", [[], [START]], ids=["before", "after"])
@pytest.mark.parametrize("kind", ["sync", "async", "raising"])
async def test_on_error_is_told_of_each_error_once(kind, sent):
    """Whether it can be answered or not; a hook that raises is counted and changes nothing."""
    told, exc = [], ValueError("boom")

    def hook(exchange, exc):
        told.append((exchange.request_id, exchange.caught.verdict.info.error_type, exc))
        if kind == "raising":
            raise LookupError

    async def async_hook(exchange, exc):
        await asyncio.sleep(0)
        hook(exchange, exc)

    on_error = async_hook if kind == "async" else hook
    middleware = handled(raising(exc, *sent), on_error=on_error)
    reply = await request(middleware, headers=[(b"x-request-id", b"mine")])
    assert told == [("mine", ErrorType.UNKNOWN, exc)]
    assert reply.status == (200 if sent else 500)
    assert middleware.hook_errors == (kind == "raising")


OWN = Answer(418, [(b"x-own", b"1")], b"teapot")


@pytest.mark.parametrize("made", [OWN, tuple(OWN)], ids=["answer", "tuple"])
@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
async def test_a_responders_answer_is_sent_instead(made, is_async):
    async def later(exchange, exc):
        return made

    responder = later if is_async else (lambda exchange, exc: made)
    reply = await request(middleware := handled(raising(ValueError("boom")), responder=responder))
    assert (reply.status, reply.body, reply.headers["x-own"]) == (418, b"teapot", "1")
    assert reply.headers["x-request-id"] and reply.raised is None
    assert counted(middleware) == (1, 0, 1)  # by its status the client is at fault


@pytest.mark.parametrize(
    "made",
    [
        42,
        "abc",
        (500,),
        Answer("x", [], b""),
        Answer(500, None, b""),
        Answer(500, [], "x"),
        Answer(500, [(b"x a", b"1")], b""),
        Answer(500, [(b"", b"1")], b""),
        Answer(500, [(b"x-a", b"1\r\nset-cookie: a=b")], b""),
        Answer(500, [(b"x-a", b"1\n")], b""),
        Answer(500, [(b"x-a", b"\0")], b""),
        Answer(500, [(b"x-a", 7)], b""),
        Answer(500, [("x-a", "1")], b""),
    ],
    ids=repr,
)
async def test_a_responder_that_answers_nonsense_is_counted(made):
    """What could not be sent is not tried: the usual answer goes out whole."""
    middleware = handled(raising(ValueError("boom")), responder=lambda exchange, exc: made)
    reply = await request(middleware)
    assert reply.json()["status"] == 500 and reply.raised is None
    assert middleware.hook_errors == 1


@pytest.mark.parametrize("status", [200, 204, 302])
async def test_an_error_that_is_answered_kindly_is_still_an_error(status):
    """The exception is trusted over the status."""
    middleware = handled(raising(ValueError("x")), responder=lambda *_: Answer(status, [], b""))
    reply = await request(middleware)
    assert reply.status == status
    assert counted(middleware) == (1, 1, 1)
    assert len(middleware.error_tracker.groups()) == 1


@pytest.mark.parametrize("fails", [False, True], ids=["none", "raising"])
async def test_a_responder_without_an_answer_leaves_the_usual_one(fails):
    def responder(exchange, exc):
        return 1 / 0 if fails else None

    reply = await request(middleware := handled(raising(ValueError("boom")), responder=responder))
    assert reply.json()["status"] == 500 and middleware.hook_errors == fails


async def test_reraise_lets_an_answered_error_go_on():
    exc = ValueError("boom")
    reply = await request(middleware := handled(raising(exc), reraise=True))
    assert reply.json()["status"] == 500 and reply.raised is exc
    assert counted(middleware) == (1, 1, 1)


async def test_an_ignored_error_is_answered_and_not_counted():
    """ErrorAction.IGNORE: the client gets its answer, the statistics do not tell of it."""
    ignored = ErrorInfo(ErrorType.MODEL, ErrorSeverity.LOW, ErrorAction.IGNORE, status_code=503)
    reply = await request(
        middleware := handled(raising(ValueError("boom")), policies={ValueError: ignored})
    )
    assert reply.status == 503 and counted(middleware) == (1, 0, 0)


@pytest.mark.parametrize("own", [True, False], ids=["the same", "another"])
async def test_an_error_told_of_and_then_raised_counts_once_in_each_tracker(own):
    """What the application records before it raises on is one error, also in another tracker."""

    async def app(scope, receive, send):
        try:
            raise ValueError("boom")
        except ValueError:
            told.record_error(ErrorType.MODEL)
            raise

    middleware = handled(app)
    told = middleware.error_tracker if own else ErrorTracker(recorder=Recorder(flush_seconds=None))
    await request(middleware)
    assert told.get_error_stats()["errors_by_type"] == {"model": 1}
    assert counted(middleware) == (1, 1, 1)


async def test_an_error_that_is_due_for_an_alert_is_recorded_as_due():
    """ErrorAction.ALERT: once the threshold of the policy is reached, the type is due."""
    middleware = handled(raising(MemoryError()))
    for number in range(1, 4):
        await request(middleware)
        due = middleware.error_tracker.get_error_stats()["alerts_due"]
        assert bool(due) is (number >= POLICIES[ErrorType.MEMORY].alert_threshold)
    assert due == {"memory": {"errors": 3, "threshold": 3}}


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"error_tracker": "tracker"}, TypeError, "must be an ErrorTracker"),
        ({"debug": "0"}, TypeError, "debug must be True or False; got '0'.*compare.* == \"1\""),
        ({"debug": 1}, TypeError, "debug must be True or False"),
        ({"reraise": None}, TypeError, "reraise must be True or False"),
        ({"log_errors": "no"}, TypeError, "log_errors must be True or False"),
        ({"on_error": "hook"}, TypeError, "on_error must be a callable"),
        ({"on_error": lambda exc: None}, TypeError, r"takes \(exchange, exc\); got .*\(exc\)"),
        ({"responder": 42}, TypeError, "responder must be a callable"),
        ({"responder": needs_three}, TypeError, r"\(exchange, exc\); got needs_three\(a, b, c\)"),
        ({"headers": ["X-A"]}, TypeError, "headers must be a mapping"),
        ({"headers": {"X-A": 1}}, TypeError, "both strings; got 'X-A': 1"),
        ({"headers": {"X-A": "a\nb"}}, ValueError, "each on one line"),
        ({"headers": {"X-A": "\u20ac"}}, ValueError, "in Latin-1"),
        ({"headers": {"X A:": "b"}}, ValueError, "headers must be .* got 'X A:': 'b'"),
        ({"headers": {"content-length": "5"}}, ValueError, "not describe the body.*content-length"),
        ({"headers": {"Content-Type": "a/b"}}, ValueError, "not describe the body.*content-type"),
        ({"headers": {"Connection": "close"}}, ValueError, "not describe the body or the connect"),
        ({"headers": lambda: None}, TypeError, r"headers must be a callable that takes \(scope\)"),
        ({"headers": needs_three}, TypeError, r"headers must be a callable that takes \(scope\)"),
    ],
)
def test_a_wrong_option_is_refused_at_construction(options, error, words):
    with pytest.raises(error, match=words):
        ErrorHandlingMiddleware(raising(None), **options)


@pytest.mark.parametrize("options", [{}, {"log_errors": False}], ids=["default", "off"])
async def test_alone_it_logs_what_nobody_else_logs(caplog, options):
    """An exception that is answered must not vanish from sight."""
    middleware = handled(raising(ValueError("boom")), **options)
    await request(middleware)
    await session(middleware)
    middleware.error_tracker.recorder.flush()
    records = [record for record in caplog.records if record.name == "asgi_errorkit.errors"]
    assert len(records) == (0 if options else 2)
    for record in records:
        assert (record.levelname, record.fields["error"]) == ("ERROR", "boom")
    if records:
        assert "Traceback" in records[0].fields["traceback"]


async def test_what_is_logged_by_lines_is_logged_once(caplog):
    lines = LogLines()
    outer = StructuredLoggingMiddleware(handled(raising(ValueError("boom"))), stream=lines)
    await request(outer)
    outer.choices.recorder.flush()
    assert len(lines.lines("request_error")) == 1
    assert [record for record in caplog.records if record.name == "asgi_errorkit.errors"] == []


async def test_two_that_share_a_tracker_log_an_error_once(caplog):
    inner = handled(raising(ValueError("boom")))
    outer = ErrorHandlingMiddleware(inner, inner.error_tracker)
    await request(outer)
    inner.error_tracker.recorder.flush()
    names = [record.name for record in caplog.records]
    assert names.count("asgi_errorkit.errors") == 1
