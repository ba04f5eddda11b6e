"""A failure before the response is offered once, and an app that does not fail is left alone."""

import asyncio
import gc
from typing import Any

import pytest
import trio
import trio.testing
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Route

from asgi_errorkit import ErrorHandlingMiddleware, ErrorTracker, ErrorType, Recorder
from asgi_errorkit.attempt import Failing, attempt
from asgi_errorkit.choices import watching
from asgi_errorkit.errors import CircuitOpenError
from asgi_errorkit.exchange import Exchange, state_in
from asgi_errorkit.frame import frame
from asgi_errorkit.testing import Reply, http_scope, request

OK = {"type": "http.response.start", "status": 200, "headers": []}
FAILED = {"type": "http.response.start", "status": 503, "headers": [(b"retry-after", b"7")]}
BODY = {"type": "http.response.body", "body": b"of the app"}
STOCK = [
    {"type": "http.response.start", "status": 500, "headers": [(b"content-length", b"21")]},
    {"type": "http.response.body", "body": b"Internal Server Error"},
]
INSTEAD = [
    {"type": "http.response.start", "status": 200, "headers": []},
    {"type": "http.response.body", "body": b"instead"},
]


class Attempted:
    """An app run by `attempt` in a frame of its own; what was offered is written down."""

    def __init__(self, app: Any, *, takes: bool = True, answers: bool = True, kit: bool = False):
        self.app = app
        self.takes, self.answers = takes, answers
        self.offered: list[Failing] = []
        self.results: list[Any] = []
        self.tracker = ErrorTracker(recorder=Recorder(flush_seconds=None))
        choices = watching(self.tracker.recorder, self.tracker.classifier, None, None)
        self._call = frame(self._serve, choices)
        if kit:
            self._call = ErrorHandlingMiddleware(_Around(self._call, app), self.tracker)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> Any:
        return await self._call(scope, receive, send)

    async def _serve(self, scope: Any, receive: Any, send: Any) -> Any:
        async def take_over(failing: Failing) -> bool:
            self.offered.append(failing)
            await self.deciding()
            if self.takes and self.answers:
                for message in INSTEAD:
                    await send(message)
            return self.takes

        exchange = Exchange(state_in(scope))
        result = await attempt(self.app, exchange, scope, receive, send, take_over)
        self.results.append(result)
        return result[0]

    async def deciding(self) -> None:
        """What goes on while it is decided."""


class _Around:
    """Lets the capture find the framework within."""

    def __init__(self, call: Any, app: Any) -> None:
        self._call, self.app = call, app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> Any:
        return await self._call(scope, receive, send)


def sending(*messages: Any, raised: BaseException | None = None, returned: Any = None) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> Any:
        for message in messages:
            await send(message)
        if raised is not None:
            raise raised
        return returned

    return app


def stock(*, raised: Exception | None, after: Any = None) -> Any:
    """Answers as Starlette's outermost middleware does."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        try:
            raise ValueError("amid this")
        except ValueError:
            for message in STOCK:
                await send(message)
            if after is not None:
                await after(receive, send)
            if raised is not None:
                raise raised from None

    return app


def kinds(reply: Reply) -> list[Any]:
    return [message["type"] for message in reply.messages]


# What fails


@pytest.mark.parametrize(
    "app",
    [
        sending(raised=ValueError("boom")),
        sending(FAILED, BODY),
        sending(FAILED, BODY, raised=ValueError("boom")),
        stock(raised=ValueError("boom")),
        stock(raised=None),
    ],
    ids=["raises", "503", "503 and raises", "stock and raises", "stock alone"],
)
async def test_a_failure_is_offered_once_and_nothing_of_the_app_is_sent(app: Any) -> None:
    attempted = Attempted(app)
    reply = await request(attempted)
    assert reply.raised is None
    assert len(attempted.offered) == len(reply.starts) == 1
    assert reply.body == b"instead"


@pytest.mark.parametrize(
    ("app", "raises"),
    [
        (sending(raised=ValueError("boom")), True),
        (sending(FAILED, BODY), False),
        (sending(FAILED, BODY, raised=ValueError("boom")), True),
        (stock(raised=ValueError("boom")), True),
        (stock(raised=None), False),
    ],
    ids=["raises", "503", "503 and raises", "stock and raises", "stock alone"],
)
async def test_what_is_not_taken_over_goes_its_way_as_it_would_without(
    app: Any, raises: bool
) -> None:
    attempted = Attempted(app, takes=False)
    reply, plain = await request(attempted), await request(app)
    assert len(attempted.offered) == 1
    assert (reply.raised is None) is (plain.raised is None) is not raises
    assert kinds(reply) == kinds(plain) and reply.body == plain.body
    assert reply.status == plain.status


async def test_a_raised_error_is_judged_and_told() -> None:
    exc = TimeoutError()
    attempted = Attempted(sending(raised=exc))
    await request(attempted)
    [failing] = attempted.offered
    assert failing.exc is exc and failing.status is None and failing.refused_as is None
    assert failing.verdict.info.error_type is ErrorType.TIMEOUT
    assert attempted.results == [(None, failing)]


async def test_a_failing_status_is_told_with_its_headers() -> None:
    attempted = Attempted(sending(FAILED, BODY, returned="word"))
    await request(attempted)
    [failing] = attempted.offered
    assert (failing.exc, failing.status) == (None, 503)
    assert list(failing.headers) == [(b"retry-after", b"7")]
    assert attempted.results == [("word", failing)]


async def test_headers_that_can_be_read_but_once_are_left_to_the_server() -> None:
    headers = iter([(b"retry-after", b"7")])
    start = {"type": "http.response.start", "status": 503, "headers": headers}
    attempted = Attempted(sending(start, BODY), takes=False)
    reply = await request(attempted)
    assert attempted.offered[0].headers == ()
    assert reply.headers["retry-after"] == "7"


async def test_what_is_raised_after_an_own_500_comes_with_the_failure() -> None:
    exc = ValueError("boom")
    attempted = Attempted(sending(FAILED, BODY, raised=exc))
    await request(attempted)
    assert attempted.offered[0].exc is None  # nobody could know
    [(result, failing)] = attempted.results
    assert result is None and failing is not None
    assert failing.exc is exc and failing.status == 503


async def test_a_refusal_that_the_application_lets_out_is_known_as_one() -> None:
    attempted = Attempted(sending(raised=CircuitOpenError("model", retry_after_seconds=3)))
    await request(attempted)
    assert attempted.offered[0].refused_as == "circuit_open"


async def test_a_refusal_that_is_said_is_known_as_one() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        Exchange(state_in(scope)).end_as("shed")
        await send(FAILED)
        await send(BODY)

    attempted = Attempted(app)
    await request(attempted)
    assert attempted.offered[0].refused_as == "shed"


async def fails(_: Any) -> None:
    raise MemoryError


@pytest.mark.parametrize("kit", [False, True], ids=["alone", "in the kit"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("kind", ["starlette", "fastapi", "fastapi with a handler"])
async def test_frameworks_failures_are_taken_over(kind: str, method: str, kit: bool) -> None:
    """Whether their stock 500 comes first, or a handler's of the application's own."""
    if kind == "starlette":
        app: Any = Starlette(routes=[Route("/", fails, methods=["GET"])])
    else:
        app = FastAPI()
        app.add_api_route("/", fails_plainly, methods=["GET", "HEAD"])
    if kind == "fastapi with a handler":
        app.add_exception_handler(Exception, answers_500)
    attempted = Attempted(app, kit=kit)
    reply = await request(attempted, method)
    assert (reply.raised, reply.body, len(reply.starts)) == (None, b"instead", 1)
    assert len(attempted.offered) == 1
    if kit or kind != "fastapi with a handler":
        assert attempted.offered[0].verdict.info.error_type is ErrorType.MEMORY
    [(_, failing)] = attempted.results
    assert failing is not None and isinstance(failing.exc, MemoryError)


async def fails_plainly() -> None:
    raise MemoryError


async def answers_500(_: Any, exc: Exception) -> JSONResponse:
    return JSONResponse({"detail": "own"}, status_code=500)


async def test_a_500_that_is_like_the_stock_one_but_is_not_is_offered_too() -> None:
    """Of the same length, sent amid an exception, or in two pieces."""
    for pieces in ([b"!" * 21], [b"Internal ", b"Server Error"]):

        async def app(scope: Any, receive: Any, send: Any, pieces: Any = pieces) -> None:
            try:
                raise ValueError("boom")
            except ValueError:
                await send(STOCK[0])
                for number, piece in enumerate(pieces, 1):
                    more = number < len(pieces)
                    body = {"type": "http.response.body", "body": piece, "more_body": more}
                    await send(body)

        attempted = Attempted(app)
        reply = await request(attempted)
        assert reply.body == b"instead" and len(attempted.offered) == 1
        refused = Attempted(app, takes=False)
        reply = await request(refused)
        assert reply.status == 500 and reply.body == b"".join(pieces)
        assert len(refused.offered) == len(reply.starts) == 1


@pytest.mark.parametrize("takes", [True, False], ids=["taken", "left"])
async def test_a_stock_500_does_not_wait_for_one_who_listens_for_the_end(takes: bool) -> None:
    """The server tells of the end only when the response is complete: else both would wait."""

    async def listen(receive: Any, send: Any) -> None:
        await receive()
        assert (await receive())["type"] == "http.disconnect"

    attempted = Attempted(stock(raised=None, after=listen), takes=takes)
    reply = await asyncio.wait_for(request(attempted), 5)
    assert reply.raised is None and reply.complete and len(reply.starts) == 1
    assert reply.body == (b"instead" if takes else b"Internal Server Error")
    assert len(attempted.offered) == 1


async def test_a_handlers_own_http_exception_of_500_is_offered() -> None:
    async def refuse(_: Any) -> None:
        raise HTTPException(500)

    attempted = Attempted(Starlette(routes=[Route("/", refuse)]))
    reply = await request(attempted)
    assert (reply.body, len(attempted.offered)) == (b"instead", 1)


async def test_background_tasks_run_after_a_500_that_was_taken_over() -> None:
    ran: list[str] = []

    async def afterwards() -> None:
        ran.append("task")

    async def answer(_: Any) -> PlainTextResponse:
        return PlainTextResponse("own", 503, background=BackgroundTask(afterwards))

    reply = await request(Attempted(Starlette(routes=[Route("/", answer)])))
    assert (reply.body, ran) == (b"instead", ["task"])


async def test_a_background_task_that_fails_after_a_500_comes_with_the_failure() -> None:
    async def afterwards() -> None:
        raise MemoryError

    async def answer(_: Any) -> PlainTextResponse:
        return PlainTextResponse("own", 503, background=BackgroundTask(afterwards))

    attempted = Attempted(Starlette(routes=[Route("/", answer)]))
    reply = await request(attempted)
    assert reply.raised is None and reply.body == b"instead"
    assert isinstance(attempted.results[0][1].exc, MemoryError)


# What is no failure


@pytest.mark.parametrize("status", [100, 200, 204, 304, 400, 404, 499])
async def test_what_does_not_fail_is_neither_offered_nor_changed(status: int) -> None:
    messages = [
        {"type": "http.response.debug", "info": {}},
        {"type": "http.response.early_hint", "links": [b"</x>; rel=preload"]},
        {"type": "an.extension.of.somebody"},
        {"type": "http.response.start", "status": status, "headers": iter([(b"a", b"b")])},
        {"type": "http.response.body", "body": b"1", "more_body": True},
        {"type": "http.response.trailers", "headers": []},
        {"type": "http.response.body", "body": b"2"},
        {"type": "http.response.pathsend", "path": "/dev/null"},
        {},
    ]
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> Any:
        for message in messages:
            await send(message)
        return "word"

    async def note(message: Any) -> None:
        seen.append(message)

    async def never(failing: Failing) -> bool:
        raise AssertionError

    exchange = Exchange(_state())
    result = await attempt(app, exchange, http_scope(), _nobody, note, never)
    assert result == ("word", None)
    assert all(one is other for one, other in zip(seen, messages, strict=True))
    assert next(messages[3]["headers"]) == (b"a", b"b")  # nobody has read it


def _state() -> Any:
    from asgi_errorkit.exchange import begin

    tracker = ErrorTracker(recorder=Recorder(flush_seconds=None))
    choices = watching(tracker.recorder, tracker.classifier, None, None)
    return begin(http_scope(), {}, "id", lambda: 0.0, 0.0, 0, _nobody, choices)


async def _nobody(*_: Any) -> Any:
    raise AssertionError


async def test_the_servers_own_awaitable_goes_back_at_once() -> None:
    """Nothing stands between the app and the server once a response has started."""
    gate = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(OK)
        waiting = send(BODY)
        assert waiting is token
        await gate.wait()

    token = asyncio.get_running_loop().create_future()

    def send(message: Any) -> Any:
        if message is BODY:
            gate.set()
            return token
        return asyncio.sleep(0)

    await attempt(app, Exchange(_state()), http_scope(), _nobody, send, _nobody)


@pytest.mark.parametrize("sent", [[OK], [OK, {**BODY, "more_body": True}], [OK, BODY]])
async def test_after_the_start_an_error_goes_its_way(sent: Any) -> None:
    exc = ValueError("boom")
    attempted = Attempted(sending(*sent, raised=exc))
    reply = await request(attempted)
    assert reply.raised is exc
    assert kinds(reply) == [m["type"] for m in sent]
    assert attempted.offered == []


async def test_an_app_that_returns_without_a_word_is_not_offered() -> None:
    attempted = Attempted(sending(returned=7))
    reply = await request(attempted)
    assert (reply.messages, reply.returned, attempted.offered) == ([], 7, [])


async def test_early_hints_do_not_start_the_response() -> None:
    hint = {"type": "http.response.early_hint", "links": []}
    attempted = Attempted(sending(hint, raised=ValueError("boom")))
    reply = await request(attempted)
    assert kinds(reply)[0] == "http.response.early_hint"
    assert reply.body == b"instead"


@pytest.mark.parametrize("read", [True, False], ids=["read", "raised"])
async def test_a_client_that_has_left_is_offered_nothing(read: bool) -> None:
    """Neither an error after the app read of it, nor one that only says so."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if read:
            await receive()
            assert (await receive())["type"] == "http.disconnect"
            raise ValueError("boom")
        raise ClientDisconnect

    attempted = Attempted(app)
    reply = await request(attempted, leaves=True)
    assert isinstance(reply.raised, ValueError if read else ClientDisconnect)
    assert (reply.messages, attempted.offered) == ([], [])


async def test_a_500_for_a_client_that_has_left_is_offered_to_nobody() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        await send(FAILED)
        await send(BODY)

    attempted = Attempted(app)
    reply = await request(attempted, leaves=True)
    assert (reply.status, attempted.offered) == (503, [])


async def test_what_the_servers_own_send_raises_is_the_servers() -> None:
    """Protocol misuse by the app, such as a body before its start."""

    async def server_send(message: Any) -> None:
        raise RuntimeError("Expected a start")

    attempted = Attempted(sending(BODY))
    with pytest.raises(RuntimeError, match="Expected a start"):
        await attempted(http_scope(), _nobody, server_send)
    assert attempted.offered == []


@pytest.mark.parametrize("status", [None, "503", 503.0], ids=str)
async def test_what_is_no_status_is_for_the_server_to_refuse(status: Any) -> None:
    start = {"type": "http.response.start", "status": status, "headers": []}
    attempted = Attempted(sending(start))
    reply = await request(attempted)
    assert reply.messages[0]["status"] == status and attempted.offered == []


# Cancellation and what take_over raises


@pytest.mark.parametrize("exc", [asyncio.CancelledError, KeyboardInterrupt, SystemExit])
async def test_what_ends_the_process_or_the_task_always_passes(exc: Any) -> None:
    attempted = Attempted(sending(raised=exc()))
    reply = await request(attempted)
    assert isinstance(reply.raised, exc) and attempted.offered == []


async def test_a_held_500_is_sent_when_its_app_is_cancelled() -> None:
    """As it would have been at once without."""
    held = asyncio.Event()

    async def wait(receive: Any, send: Any) -> None:
        held.set()
        await asyncio.sleep(60)

    attempted = Attempted(stock(raised=None, after=wait))
    task = asyncio.create_task(request(attempted))
    await held.wait()
    task.cancel()
    reply = await task
    assert isinstance(reply.raised, asyncio.CancelledError)
    assert reply.body == b"Internal Server Error" and attempted.offered == []


async def test_a_held_500_is_not_sent_by_a_coroutine_that_is_closed() -> None:
    async def wait(receive: Any, send: Any) -> None:
        await asyncio.sleep(60)

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    running = Attempted(stock(raised=None, after=wait))(http_scope(), _nobody, send)
    running.send(None)
    running.close()
    assert sent == []


def test_under_trio_a_held_500_neither_hangs_nor_masks_the_cancellation() -> None:
    async def wait(receive: Any, send: Any) -> None:
        await trio.sleep_forever()

    async def main() -> None:
        with trio.move_on_after(1):
            reply = await request(Attempted(stock(raised=None, after=wait)))
        assert isinstance(reply.raised, trio.Cancelled)

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


class _Breaks(Attempted):
    """Its take over begins a response, and then breaks or is cancelled."""

    begins = True
    raises: BaseException = LookupError("the fallback broke")

    async def _serve(self, scope: Any, receive: Any, send: Any) -> Any:
        async def take_over(failing: Failing) -> bool:
            self.offered.append(failing)
            if self.begins:
                await send(OK)
            raise self.raises

        exchange = Exchange(state_in(scope))
        return (await attempt(self.app, exchange, scope, receive, send, take_over))[0]


async def test_after_a_take_over_that_broke_nothing_of_the_app_is_sent() -> None:
    """Neither a second start nor its body behind the start of another."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        try:
            await send(FAILED)
        except LookupError:
            await send(FAILED)
            await send(BODY)
            raise

    attempted = _Breaks(app)
    reply = await request(attempted)
    assert isinstance(reply.raised, LookupError)
    assert kinds(reply) == ["http.response.start"]
    assert len(attempted.offered) == 1


async def test_a_take_over_that_is_cancelled_is_not_followed_by_what_was_held() -> None:
    for app in (sending(FAILED, BODY), stock(raised=None)):
        attempted = _Breaks(app)
        attempted.raises = asyncio.CancelledError()
        reply = await request(attempted)
        assert isinstance(reply.raised, asyncio.CancelledError)
        assert kinds(reply) == ["http.response.start"]


@pytest.mark.parametrize("begins", [True, False], ids=["begun", "not begun"])
async def test_what_take_over_raises_of_an_error_goes_on(begins: bool) -> None:
    attempted = _Breaks(sending(raised=ValueError("boom")))
    attempted.begins = begins
    reply = await request(attempted)
    assert isinstance(reply.raised, LookupError)
    assert isinstance(reply.raised.__context__, ValueError)
    assert len(reply.messages) == begins


# Several tasks


async def test_a_body_sent_beside_its_start_waits_for_the_word() -> None:
    """It neither overtakes the start nor gets into the response of another."""

    class Slow(Attempted):
        async def deciding(self) -> None:
            await asyncio.sleep(0)
            await asyncio.sleep(0)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        more = {"type": "http.response.body", "body": b"1", "more_body": True}
        await asyncio.gather(send(FAILED), send(more), send(BODY))

    for takes in (True, False):
        attempted = Slow(app, takes=takes)
        reply = await request(attempted)
        assert reply.raised is None and len(attempted.offered) == 1
        assert kinds(reply)[0] == "http.response.start" and len(reply.starts) == 1
        assert reply.body == (b"instead" if takes else b"1of the app")


async def test_an_error_beside_a_decision_is_not_offered_again() -> None:
    """A task group cancels the task whose failure is being decided on."""

    class Slow(Attempted):
        async def deciding(self) -> None:
            await asyncio.sleep(60)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        async def breaks() -> None:
            await asyncio.sleep(0)
            raise ValueError("boom")

        async with asyncio.TaskGroup() as group:
            group.create_task(send(FAILED))
            group.create_task(breaks())

    attempted = Slow(app)
    reply = await request(attempted)
    assert isinstance(reply.raised, ExceptionGroup)
    assert (len(attempted.offered), reply.messages) == (1, [])


async def test_what_another_task_sends_while_an_error_is_decided_on_begins_nothing() -> None:
    """One that the app has left behind: its start is not to be a second one."""

    class Slow(Attempted):
        async def deciding(self) -> None:
            for _ in range(5):
                await asyncio.sleep(0)

    left: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        async def late() -> None:
            await asyncio.sleep(0)
            await send(OK)
            await send(BODY)

        left.append(asyncio.create_task(late()))
        raise ValueError("boom")

    reply = await request(Slow(app))
    await asyncio.wait(left)
    assert (len(reply.starts), reply.body) == (1, b"instead")


async def test_a_slow_server_keeps_the_order_of_what_is_released() -> None:
    sent: list[Any] = []

    async def slow(message: Any) -> None:
        await asyncio.sleep(0)
        sent.append(message["type"])

    async def app(scope: Any, receive: Any, send: Any) -> None:
        more = {"type": "http.response.body", "body": b"1", "more_body": True}
        await asyncio.gather(*map(send, (FAILED, more, BODY)))

    await Attempted(app, takes=False)(http_scope(), _nobody, slow)
    assert sent == ["http.response.start", "http.response.body", "http.response.body"]


def test_under_trio_a_failure_is_taken_over() -> None:
    async def main() -> None:
        for app in (sending(raised=ValueError("boom")), sending(FAILED, BODY)):
            reply = await request(Attempted(app))
            assert (reply.body, reply.raised) == (b"instead", None)

    trio.run(main)


# What it leaves behind


async def breaking(scope: Any, receive: Any, send: Any) -> None:
    raise ValueError("a new one each time")


@pytest.mark.parametrize(
    "app",
    [sending(OK, BODY), sending(FAILED, BODY), breaking],
    ids=["well", "failed", "raised"],
)
async def test_a_run_leaves_no_circle_to_the_collector(app: Any) -> None:
    attempted = Attempted(app)

    async def nothing(message: Any) -> None:
        pass

    await attempted(http_scope(), _nobody, nothing)
    attempted.tracker.recorder.flush()
    attempted.results.clear()
    attempted.offered.clear()
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        await attempted(http_scope(), _nobody, nothing)
        attempted.tracker.recorder.flush()
        attempted.results.clear()
        attempted.offered.clear()
        assert gc.collect() == 0
    finally:
        gc.enable()
        gc.unfreeze()
