"""Timeouts: a request is cut off when its time is up, by the library that runs it."""

import asyncio
import contextlib
import contextvars
import gc
import threading
import weakref

import pytest
import trio
import trio.testing
import uvicorn
from asgiref.wsgi import WsgiToAsgi
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import ClientDisconnect
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Mount, Route

from asgi_errorkit import (
    DeadlineExceededError,
    ErrorHandlingMiddleware,
    ErrorTracker,
    ErrorType,
    MiddlewareStack,
    Recorder,
    RetryMiddleware,
    StructuredLoggingMiddleware,
    TimeLimits,
    TimeoutMiddleware,
    current,
    fail_after,
)
from asgi_errorkit.testing import LogLines, Reply, http_scope, request, session

START = {"type": "http.response.start", "status": 200, "headers": []}
PIECE = {"type": "http.response.body", "body": b"piece", "more_body": True}
END = {"type": "http.response.body", "body": b"end"}
SHORT, LONG = 0.02, 60.0
DEADLINE_EXCEEDED = "asgi_errorkit.errors.DeadlineExceededError"


class World:
    """A tracker without threads, and what it logs."""

    def __init__(self, **clocks):
        self.recorder = Recorder(flush_seconds=None, **clocks)
        self.tracker = ErrorTracker(recorder=self.recorder)
        self.lines = LogLines()

    def alone(self, app, **options):
        return TimeoutMiddleware(app, error_tracker=self.tracker, **options)

    def stack(self, app, *around, **options):
        stack = MiddlewareStack(error_tracker=self.tracker)
        stack.add_middleware(StructuredLoggingMiddleware, stream=self.lines)
        stack.add_middleware(TimeoutMiddleware, **options)
        for cls, its in around:
            stack.add_middleware(cls, **its)
        return stack.create_middleware_stack(app)

    def by_hand(self, app, **options):
        return StructuredLoggingMiddleware(
            ErrorHandlingMiddleware(self.alone(app, **options), self.tracker, log_errors=False),
            stream=self.lines,
            recorder=self.recorder,
        )

    def last(self):
        self.recorder.flush()
        return self.lines.lines()[-1]


def timeouts(app):
    while not isinstance(app, TimeoutMiddleware):
        app = app.survival[0] if hasattr(app, "survival") else app.app
    return app.timed_out


def sleeping(*before, then=()):
    async def app(scope, receive, send):
        for message in before:
            await send(dict(message))
        await asyncio.sleep(LONG)
        for message in then:
            await send(dict(message))

    return app


WAYS = pytest.mark.parametrize("way", ["alone", "stack", "by_hand"])


async def send_nothing(message):
    pass


async def one_request():
    return {"type": "http.request", "body": b""}


# Cut off


@WAYS
@pytest.mark.parametrize(
    ("options", "limit"),
    [
        ({"total_seconds": SHORT}, "total"),
        ({"first_byte_seconds": SHORT}, "first_byte"),
        ({"total_seconds": LONG, "first_byte_seconds": SHORT}, "first_byte"),
        ({"total_seconds": SHORT, "first_byte_seconds": LONG}, "total"),
        ({"total_seconds": SHORT, "idle_seconds": LONG}, "total"),
    ],
    ids=["total", "first byte", "first byte before total", "total before first byte", "not idle"],
)
async def test_before_the_start_it_is_answered_504(way, options, limit):
    """The answer is a problem document; the app's task goes on uncancelled."""
    world, task = World(), asyncio.current_task()
    app = getattr(world, way)(sleeping(), **options)
    reply = await request(app)
    assert (reply.status, reply.raised, reply.complete) == (504, None, True)
    assert reply.headers["content-type"] == "application/problem+json"
    error = reply.json()["error"]
    assert (error["status_code"], error["context"]["error_type"]) == (504, "timeout")
    assert error["message"] == "The answer took too long to make."
    assert timeouts(app) == {"total": 0, "first_byte": 0, "idle": 0, limit: 1}
    assert task.cancelling() == 0


@pytest.mark.parametrize("way", ["stack", "by_hand"])
async def test_it_is_an_outcome_of_its_own(way):
    """The log line says timeout, and which of the times was up."""
    world = World()
    app = getattr(world, way)(sleeping(), total_seconds=SHORT)
    await request(app)
    line = world.last()
    assert (line["event"], line["outcome"], line["timed_out"]) == (
        "request_error",
        "timeout",
        "total",
    )
    assert line["status_code"] == 504


@WAYS
@pytest.mark.parametrize(
    ("options", "limit"),
    [({"total_seconds": SHORT}, "total"), ({"idle_seconds": SHORT}, "idle")],
    ids=["total", "idle"],
)
@pytest.mark.parametrize("sent", [[START], [START, PIECE]], ids=["started", "amid"])
async def test_after_the_start_it_breaks_off(way, options, limit, sent):
    """The server sees an exception, and no second start nor a clean end."""
    world, task = World(), asyncio.current_task()
    app = getattr(world, way)(sleeping(*sent), **options)
    reply = await request(app)
    assert isinstance(reply.raised, DeadlineExceededError)
    assert isinstance(reply.raised, TimeoutError)
    assert reply.raised.limit == limit
    assert (len(reply.starts), reply.complete) == (1, False)
    assert task.cancelling() == 0
    if way != "alone":
        line = world.last()
        assert (line["outcome"], line["timed_out"]) == ("timeout", limit)


@WAYS
async def test_the_first_byte_is_enough_for_the_first_byte_time(way):
    """What comes after it may take as long as it likes."""
    world = World()

    async def app(scope, receive, send):
        await send(START)
        await asyncio.sleep(3 * SHORT)
        await send(END)

    reply = await request(getattr(world, way)(app, first_byte_seconds=SHORT))
    assert (reply.status, reply.complete, reply.raised) == (200, True, None)


@WAYS
async def test_each_piece_gives_a_stream_its_idle_time_anew(way):
    """A stream may take many times as long as it may stand still."""
    world = World()

    async def app(scope, receive, send):
        await asyncio.sleep(0.06)  # before the start nothing is idle
        await send(START)
        for _ in range(6):
            await asyncio.sleep(0.02)
            await send(PIECE)
        await send(END)

    reply = await request(getattr(world, way)(app, idle_seconds=0.05))
    assert (reply.complete, reply.raised) == (True, None)
    assert reply.body == b"piece" * 6 + b"end"


async def test_pieces_do_not_move_the_total():
    """The total is up however lively the stream is."""

    async def app(scope, receive, send):
        await send(START)
        while True:
            await asyncio.sleep(0.003)
            await send(PIECE)

    guarded = World().alone(app, total_seconds=0.05, idle_seconds=0.04)
    async with asyncio.timeout(2):
        reply = await request(guarded)
    assert reply.raised.limit == "total"


@WAYS
async def test_background_tasks_are_not_cut(way):
    """After the complete response the time is nobody's but the app's."""
    world, done = World(), []

    async def app(scope, receive, send):
        await send(START)
        await send(END)
        await asyncio.sleep(3 * SHORT)
        done.append(current().remaining())

    reply = await request(
        getattr(world, way)(app, total_seconds=SHORT, idle_seconds=SHORT, first_byte_seconds=SHORT)
    )
    assert reply.raised is None
    assert len(done) == 1


@pytest.mark.parametrize(
    "kind", ["http.response.pathsend", "http.response.zerocopysend"], ids=["path", "zero copy"]
)
async def test_a_file_ends_a_response_too(kind):
    """What follows the file is not cut."""
    done = []

    async def app(scope, receive, send):
        await send(START)
        await send({"type": kind, "path": "/nowhere", "file": 0})
        await asyncio.sleep(3 * SHORT)
        done.append(True)

    await request(World().alone(app, total_seconds=SHORT))
    assert done == [True]


@WAYS
async def test_a_head_request_is_answered_without_a_body(way):
    """Its 504 has headers alone."""
    reply = await request(getattr(World(), way)(sleeping(), total_seconds=SHORT), "HEAD")
    assert (reply.status, reply.body) == (504, b"")


# What the app makes of it


@WAYS
async def test_an_app_that_completes_its_answer_all_the_same_wins(way):
    """What it had begun and brings to its end is what the client gets."""
    world, task = World(), asyncio.current_task()

    async def app(scope, receive, send):
        await send(START)
        try:
            await asyncio.sleep(LONG)
        except asyncio.CancelledError:
            await send(END)

    kit = getattr(world, way)(app, total_seconds=SHORT)
    reply = await request(kit)
    assert (reply.status, reply.complete, reply.raised) == (200, True, None)
    assert task.cancelling() == 0
    assert timeouts(kit)["total"] == 0
    if way != "alone":
        assert world.last()["outcome"] == "ok"


@WAYS
async def test_an_app_that_answers_all_the_same_has_the_last_word(way):
    """It has caught the cancellation, and knows what it does."""
    world, task = World(), asyncio.current_task()

    async def app(scope, receive, send):
        try:
            await asyncio.sleep(LONG)
        except asyncio.CancelledError:
            await send(START)
            await send(PIECE)
            await send(END)

    kit = getattr(world, way)(app, total_seconds=SHORT)
    reply = await request(kit)
    assert (reply.status, len(reply.starts), reply.raised) == (200, 1, None)
    assert b"piece" in reply.body
    assert (timeouts(kit)["total"], task.cancelling()) == (0, 0)
    if way != "alone":
        assert world.last()["outcome"] == "ok"


@WAYS
@pytest.mark.parametrize("late", [500, 503])
async def test_an_answer_that_begins_after_the_cut_comes_too_late(way, late):
    """Frameworks make an answer of their own of a cancellation: the 504 goes out in its place."""
    world, task = World(), asyncio.current_task()

    async def app(scope, receive, send):
        try:
            await asyncio.sleep(LONG)
        except asyncio.CancelledError:
            await send({**START, "status": late})
            await send(PIECE)
            await send(END)

    kit = getattr(world, way)(app, total_seconds=SHORT)
    reply = await request(kit)
    assert (reply.status, len(reply.starts), reply.raised) == (504, 1, None)
    assert b"piece" not in reply.body
    assert (timeouts(kit)["total"], task.cancelling()) == (1, 0)
    if way != "alone":
        assert world.last()["outcome"] == "timeout"


@WAYS
async def test_an_app_that_swallows_it_and_returns_is_answered_504(way):
    """Silence is answered with what it came of."""
    world, task = World(), asyncio.current_task()

    async def app(scope, receive, send):
        try:
            await asyncio.sleep(LONG)
        except asyncio.CancelledError:
            return

    kit = getattr(world, way)(app, total_seconds=SHORT)
    reply = await request(kit)
    assert (reply.status, reply.raised, task.cancelling()) == (504, None, 0)
    assert timeouts(kit)["total"] == 1


@WAYS
async def test_an_app_that_swallows_it_amid_its_response_is_broken_off(way):
    """What was left unfinished ends as any that is cut: a server must not take it for whole."""
    world, task = World(), asyncio.current_task()

    async def app(scope, receive, send):
        await send(START)
        await send(PIECE)
        try:
            await asyncio.sleep(LONG)
        except asyncio.CancelledError:
            return

    kit = getattr(world, way)(app, total_seconds=SHORT)
    reply = await request(kit)
    assert isinstance(reply.raised, DeadlineExceededError)
    assert (reply.complete, task.cancelling()) == (False, 0)
    assert timeouts(kit)["total"] == 1
    if way != "alone":
        line = world.last()
        assert (line["outcome"], line["timed_out"]) == ("timeout", "total")


@WAYS
@pytest.mark.parametrize("started", [False, True], ids=["before the start", "after the start"])
async def test_an_app_that_makes_another_error_of_it_is_cut_all_the_same(way, started):
    """One request, one error, the timeout; what was raised in place of it is told as its cause."""
    world, task = World(), asyncio.current_task()

    async def app(scope, receive, send):
        if started:
            await send(START)
        try:
            await asyncio.sleep(LONG)
        except asyncio.CancelledError:
            raise ValueError("mine") from None

    kit = getattr(world, way)(app, total_seconds=SHORT)
    reply = await request(kit)
    assert task.cancelling() == 0
    assert timeouts(kit)["total"] == 1
    if started:
        assert isinstance(reply.raised, DeadlineExceededError)
    else:
        assert (reply.status, reply.raised) == (504, None)
    world.recorder.flush()
    (group,) = world.tracker.groups()
    assert (group.type_name, group.count) == (DEADLINE_EXCEEDED, 1)
    assert [each["type"] for each in group.sample["exception"]["causes"]] == ["ValueError"]
    assert world.tracker.get_error_stats()["errors_by_type"] == {"timeout": 1}
    if way != "alone":
        line = next(x for x in reversed(world.lines.lines()) if x.get("outcome"))
        assert (line["outcome"], line["timed_out"]) == ("timeout", "total")


async def test_what_an_app_makes_of_being_cut_when_its_client_has_left_is_told_of():
    """Nobody is told of the timeout then: it is the one error."""
    world = World()

    async def app(scope, receive, send):
        while (await receive())["type"] != "http.disconnect":
            continue
        try:
            await asyncio.sleep(LONG)
        except asyncio.CancelledError:
            raise ValueError("mine") from None

    await request(world.stack(app, total_seconds=SHORT), leaves=True)
    world.recorder.flush()
    assert [group.type_name for group in world.tracker.groups()] == ["ValueError"]


@pytest.mark.parametrize("started", [False, True], ids=["before the start", "after the start"])
async def test_what_an_app_has_told_of_itself_is_not_counted_with_the_timeout(started):
    """`record_error`, then raised on in place of being cut: what was told, and the timeout."""
    world = World()

    async def app(scope, receive, send):
        if started:
            await send(START)
        try:
            await asyncio.sleep(LONG)
        except asyncio.CancelledError:
            error = ValueError("mine")
            world.tracker.record_error(ErrorType.MODEL, context={"exception": error})
            raise error from None

    await request(world.stack(app, total_seconds=SHORT))
    world.recorder.flush()
    told = world.tracker.get_error_stats()["errors_by_type"]
    assert told == {"model": 1, "timeout": 1}


@pytest.mark.parametrize("started", [False, True], ids=["before the start", "after the start"])
@pytest.mark.parametrize("converts", [False, True], ids=["cut", "makes another error of it"])
async def test_being_cut_leaves_no_circle(started, converts):
    """Neither what breaks off the response nor what the app makes of that is held by itself."""
    lives = []

    class MineError(Exception):
        pass

    async def app(scope, receive, send):
        if started:
            await send(START)
        try:
            await asyncio.sleep(LONG)
        except asyncio.CancelledError:
            if not converts:
                raise
            raise MineError from None

    async def cut():
        try:
            await kit(http_scope(), one_request, send_nothing)
        except DeadlineExceededError as error:
            lives.append(weakref.ref(error))
            if converts:
                lives.append(weakref.ref(error.__cause__))

    kit = World().alone(app, total_seconds=0.001)
    gc.collect()
    gc.disable()
    try:
        await cut()
        await asyncio.sleep(0)
        assert [each() for each in lives] == [None] * (1 + converts if started else 0)
        assert not [each for each in gc.get_objects() if type(each) is MineError]
    finally:
        gc.enable()


async def test_a_clients_leaving_amid_the_cut_is_no_error():
    """What the server's send raises while the app cleans up is not told of as an error."""
    world = World()

    async def app(scope, receive, send):
        try:
            await asyncio.sleep(LONG)
        finally:
            await send(START)

    async def gone(message):
        raise ConnectionResetError("gone")

    kit = world.stack(app, total_seconds=SHORT)
    with pytest.raises((ConnectionResetError, DeadlineExceededError)):
        await kit(http_scope(), one_request, gone)
    assert [g.type_name for g in world.tracker.groups() if "Reset" in g.type_name] == []


async def test_an_app_that_cleans_up_is_waited_for():
    """Its finally clauses run to their end, awaits and all, before the answer goes out."""
    order = []

    async def app(scope, receive, send):
        try:
            await asyncio.sleep(LONG)
        finally:
            await asyncio.sleep(SHORT)
            order.append("clean")

    kit = World().alone(app, total_seconds=SHORT)

    async def send(message):
        order.append(message["type"])

    await kit(http_scope(), one_request, send)
    assert order == ["clean", "http.response.start", "http.response.body"]


async def test_an_error_of_its_own_is_its_own():
    """What the app raises in time is as it would be without."""
    world = World()

    async def app(scope, receive, send):
        raise TimeoutError("mine")

    kit = world.stack(app, total_seconds=LONG)
    reply = await request(kit)
    assert reply.status == 504
    assert world.last()["outcome"] == "server_error"
    assert timeouts(kit) == {"total": 0, "first_byte": 0, "idle": 0}


async def test_a_task_group_within_is_ended():
    """All tasks of a group end with the request, also when one of them fails then."""
    ended, world = [], World()

    async def worker(fails):
        try:
            await asyncio.sleep(LONG)
        except asyncio.CancelledError:
            ended.append(fails)
            if fails:
                raise ValueError("mine") from None
            raise

    async def app(scope, receive, send):
        async with asyncio.TaskGroup() as group:
            for fails in (False, True):
                group.create_task(worker(fails))

    reply = await request(world.stack(app, total_seconds=SHORT))
    assert (reply.status, sorted(ended)) == (504, [False, True])
    assert asyncio.current_task().cancelling() == 0


async def test_a_timeout_of_the_apps_own_within_is_its_own():
    """asyncio.timeout inside, shorter or longer, is not taken for ours nor ours for it."""

    async def shorter(scope, receive, send):
        try:
            async with asyncio.timeout(SHORT):
                await asyncio.sleep(LONG)
        except TimeoutError:
            await send(START)
            await send(END)

    async def longer(scope, receive, send):
        async with asyncio.timeout(LONG):
            await asyncio.sleep(LONG)

    assert (await request(World().alone(shorter, total_seconds=LONG))).status == 200
    assert (await request(World().alone(longer, total_seconds=SHORT))).status == 504
    assert asyncio.current_task().cancelling() == 0


async def test_a_thread_runs_on():
    """Code in a thread cannot be cut: the request is answered, the thread ends by itself."""
    gate, ended = threading.Event(), threading.Event()

    def work():
        gate.wait(10)
        ended.set()

    async def app(scope, receive, send):
        await asyncio.to_thread(work)

    reply = await request(World().alone(app, total_seconds=SHORT))
    assert reply.status == 504
    assert not ended.is_set()
    gate.set()
    assert await asyncio.to_thread(ended.wait, 10)


# Cancellations from elsewhere


@WAYS
@pytest.mark.parametrize("started", [False, True], ids=["before the start", "after the start"])
async def test_a_cancellation_of_the_servers_passes(way, started):
    """It stays what it is: no timeout, and the task knows that it was cancelled."""
    world = World()
    kit = getattr(world, way)(sleeping(*([START] if started else [])), total_seconds=LONG)
    sent = []

    async def send(message):
        sent.append(message["type"])

    task = asyncio.create_task(kit(http_scope(), one_request, send))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert task.cancelling() == 1
    assert sent == (["http.response.start"] if started else [])
    assert timeouts(kit)["total"] == 0
    if way != "alone":
        assert world.last()["outcome"] == "cancelled"


async def test_a_cancellation_in_the_same_moment_passes():
    """Where the server and the clock cancel at once, the server's word goes before."""
    world = World()
    cleaning = asyncio.Event()

    async def app(scope, receive, send):
        try:
            await asyncio.sleep(LONG)
        finally:
            cleaning.set()
            await asyncio.sleep(LONG)

    kit = world.stack(app, total_seconds=SHORT)
    task = asyncio.create_task(kit(http_scope(), one_request, send_nothing))
    await cleaning.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert task.cancelling() == 1
    assert world.last()["outcome"] == "cancelled"
    assert timeouts(kit)["total"] == 0


async def test_a_client_that_has_left_is_told_nothing():
    """Its leaving is the outcome, not that it was cut off afterwards."""
    world = World()

    async def app(scope, receive, send):
        while (await receive())["type"] != "http.disconnect":
            pass
        await asyncio.sleep(LONG)

    reply = await request(world.stack(app, total_seconds=SHORT), leaves=True)
    assert (reply.messages, reply.raised) == ([], None)
    assert world.last()["outcome"] == "client_disconnect"


async def test_leaving_the_process_passes():
    """SystemExit and KeyboardInterrupt are nobody's timeout."""

    async def app(scope, receive, send):
        raise SystemExit(3)

    reply = await request(World().alone(app, total_seconds=LONG))
    assert isinstance(reply.raised, SystemExit)


# One within another


@pytest.mark.parametrize("inner", [SHORT, LONG], ids=["the inner is shorter", "the outer is"])
@pytest.mark.parametrize("reaction", ["none", "swallows", "converts"])
async def test_of_two_the_shorter_cuts(inner, reaction):
    """Whose time is up answers and counts; the other has nothing to say, whatever the app does."""
    world = World()

    async def app(scope, receive, send):
        try:
            await asyncio.sleep(LONG)
        except asyncio.CancelledError:
            if reaction == "none":
                raise
            if reaction == "converts":
                raise ValueError("mine") from None

    within = world.alone(app, total_seconds=inner)
    around = world.by_hand(within, total_seconds=SHORT + LONG - inner)
    reply = await request(around)
    assert (reply.status, reply.raised, len(reply.starts)) == (504, None, 1)
    cut = (timeouts(around)["total"], within.timed_out["total"])
    assert cut == ((0, 1) if inner == SHORT else (1, 0))
    assert asyncio.current_task().cancelling() == 0
    assert world.last()["outcome"] == "timeout"


@pytest.mark.parametrize("inner", [SHORT, LONG], ids=["the inner is shorter", "the outer is"])
async def test_of_two_the_shorter_breaks_off(inner):
    """After the start too."""
    world = World()
    within = world.alone(sleeping(START), total_seconds=inner)
    around = world.by_hand(within, total_seconds=SHORT + LONG - inner)
    reply = await request(around)
    assert isinstance(reply.raised, DeadlineExceededError)
    assert reply.raised.seconds == pytest.approx(SHORT)
    cut = (timeouts(around)["total"], within.timed_out["total"])
    assert cut == ((0, 1) if inner == SHORT else (1, 0))


async def test_two_of_the_same_time_answer_once():
    """Both are due in one moment: one answer, no cancellation left over."""
    world = World()
    within = world.alone(sleeping(), total_seconds=SHORT)
    around = world.by_hand(within, total_seconds=SHORT)
    reply = await request(around)
    assert (reply.status, len(reply.starts), reply.raised) == (504, 1, None)
    assert timeouts(around)["total"] + within.timed_out["total"] == 1
    assert asyncio.current_task().cancelling() == 0
    await asyncio.sleep(0)  # would raise what is left over


async def test_the_outer_time_cuts_the_inner_ones_cleaning_up():
    """An app that cleans up for too long is cut by whoever stands further out."""
    world = World()

    async def app(scope, receive, send):
        try:
            await asyncio.sleep(LONG)
        finally:
            await asyncio.sleep(LONG)

    within = world.alone(app, total_seconds=SHORT)
    around = world.by_hand(within, total_seconds=3 * SHORT)
    reply = await request(around)
    assert (reply.status, timeouts(around)["total"], within.timed_out["total"]) == (504, 1, 0)
    assert asyncio.current_task().cancelling() == 0


# What the app can know


async def test_what_remains_can_be_asked():
    """Until the total is up; the nearest of several counts; None where there is none."""
    seen, world = [], World()

    async def app(scope, receive, send):
        seen.append(current().remaining())
        await send(START)
        await send(END)

    await request(world.by_hand(app, idle_seconds=LONG))
    await request(world.by_hand(app, total_seconds=LONG))
    await request(world.by_hand(world.alone(app, total_seconds=2 * LONG), total_seconds=LONG))
    await request(world.by_hand(world.alone(app, total_seconds=LONG), total_seconds=2 * LONG))
    assert seen[0] is None
    assert all(LONG - 1 < each <= LONG for each in seen[1:])


async def test_until_the_start_no_more_remains_than_the_time_to_the_first_byte():
    """Afterwards it is what is left of the total, or nothing that could be told."""
    seen, clock = [], [1000.0]
    world = World(clock=lambda: clock[0])

    async def app(scope, receive, send):
        clock[0] += 1.0
        seen.append(current().remaining())
        await send(START)
        seen.append(current().remaining())
        await send(END)

    for total in (LONG, 5.0, None):
        await request(world.by_hand(app, total_seconds=total, first_byte_seconds=10.0))
    assert seen == [9.0, LONG - 1.0, 4.0, 4.0, 9.0, None]


async def test_nothing_remains_of_what_has_been_cut():
    """Whatever the exchange's own clock says: an app that goes on is not to try again."""
    seen, world = [], World(clock=lambda: 1000.0)

    async def app(scope, receive, send):
        try:
            await asyncio.sleep(LONG)
        finally:
            seen.append(current().remaining())

    await request(world.by_hand(app, total_seconds=LONG, first_byte_seconds=SHORT))
    assert seen == [0.0]


async def test_what_remains_is_never_less_than_nothing():
    """Beyond the total it is 0, and after the request there is no deadline."""
    seen, clock = [], [1000.0]
    world = World(clock=lambda: clock[0])

    async def app(scope, receive, send):
        clock[0] += 100.0
        seen.append(current())
        assert current().remaining() == 0.0
        await send(START)
        await send(END)

    reply = await request(world.by_hand(app, total_seconds=LONG))
    assert reply.raised is None
    assert seen[0].remaining() is None


async def test_it_stays_in_its_task_and_context():
    """The app is not moved to a task of its own: what it sets is seen by whoever called."""
    var = contextvars.ContextVar("var", default=0)
    seen = []

    async def app(scope, receive, send):
        var.set(7)
        seen.append(asyncio.current_task())
        await send(START)
        await send(END)

    await request(World().alone(app, total_seconds=LONG))
    assert (seen, var.get()) == ([asyncio.current_task()], 7)


async def test_what_the_app_returns_is_returned():
    """Servers look at it."""

    async def app(scope, receive, send):
        await send(START)
        await send(END)
        return "something"

    assert (await request(World().alone(app, total_seconds=LONG))).returned == "something"


# By route


async def test_routes_have_times_of_their_own():
    """A pattern has other limits, or none; the rest has the usual ones."""
    routes = {
        "/free": None,
        "/none": TimeLimits(),
        "/quick/*": TimeLimits(total_seconds=SHORT),
        "POST /slow": TimeLimits(first_byte_seconds=LONG),
    }

    async def app(scope, receive, send):
        await asyncio.sleep(4 * SHORT)
        await send(START)
        await send(END)

    kit = World().alone(app, total_seconds=2 * SHORT, routes=routes)
    pairs = [
        ("GET", "/free", 200),
        ("GET", "/none", 200),
        ("GET", "/quick/x", 504),
        ("POST", "/slow", 200),
        ("GET", "/slow", 504),
        ("GET", "/other", 504),
    ]
    replies = await asyncio.gather(*(request(kit, method, path) for method, path, _ in pairs))
    assert [r.status for r in replies] == [status for *_, status in pairs]


async def test_times_for_some_routes_alone():
    """Without usual times the rest is left alone."""
    kit = World().alone(sleeping(), routes={"/quick": TimeLimits(total_seconds=SHORT)})
    assert (await request(kit, path="/quick")).status == 504
    task = asyncio.create_task(request(kit, path="/other"))
    await asyncio.sleep(2 * SHORT)
    assert not task.done()
    task.cancel()
    await task


# What it leaves alone


@pytest.mark.parametrize("kind", ["lifespan", "mqtt", None])
async def test_other_scopes_are_left_alone(kind):
    """They run as long as they like, untouched, and their errors come out."""
    seen = []

    async def app(scope, receive, send):
        seen.append((scope, receive, send))
        await asyncio.sleep(2 * SHORT)
        raise RuntimeError("its own")

    kit = World().alone(app, total_seconds=SHORT)
    scope = {"type": kind} if kind else {}
    with pytest.raises(RuntimeError, match="its own"):
        await kit(scope, len, print)
    assert seen == [(scope, len, print)]


async def test_websockets_are_left_alone():
    """A session may last as long as it likes."""

    async def app(scope, receive, send):
        await receive()
        await send({"type": "websocket.accept"})
        await asyncio.sleep(2 * SHORT)
        await send({"type": "websocket.close"})

    reply = await session(World().alone(app, total_seconds=SHORT, idle_seconds=SHORT))
    assert [m["type"] for m in reply.messages] == ["websocket.accept", "websocket.close"]


async def test_odd_messages_pass():
    """Without a type, trailers, early hints: all go their way as they are."""
    odd = [
        {"type": "http.response.push", "path": "/x", "headers": []},
        {"what": "ever"},
        {**START, "trailers": True},
        END,
        {"type": "http.response.trailers", "headers": []},
    ]
    sent = []

    async def app(scope, receive, send):
        for message in odd:
            await send(message)

    async def send(message):
        sent.append(message)

    async def inside(scope, receive, _):
        await kit(scope, receive, send)

    kit = World().alone(app, total_seconds=LONG, idle_seconds=LONG)
    await request(World().by_hand(inside, total_seconds=LONG))
    assert all(mine is theirs for mine, theirs in zip(sent, odd, strict=True))


@pytest.mark.parametrize("middleware", [False, True], ids=["bare", "within BaseHTTPMiddleware"])
@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
async def test_starlette_is_cut(middleware, stream):
    """With its task groups, and with its own middlewares."""
    world = World()

    async def passing(request, call_next):
        return await call_next(request)

    async def pieces():
        yield b"a"
        await asyncio.sleep(LONG)

    async def endpoint(request):
        if stream:
            return StreamingResponse(pieces())
        await asyncio.sleep(LONG)
        return PlainTextResponse("late")

    around = [Middleware(BaseHTTPMiddleware, dispatch=passing)] if middleware else []
    inner = Starlette(routes=[Route("/", endpoint)], middleware=around)
    async with asyncio.timeout(5):
        reply = await request(world.stack(inner, total_seconds=SHORT))
    if stream:
        assert isinstance(reply.raised, DeadlineExceededError)
        assert not reply.complete
    else:
        assert (reply.status, reply.raised) == (504, None)
    assert world.last()["outcome"] == "timeout"
    assert asyncio.current_task().cancelling() == 0


async def test_within_starlette_it_is_a_middleware_like_others():
    """Added to an app it cuts what is further in."""

    async def endpoint(request):
        await asyncio.sleep(LONG)

    app = Starlette(routes=[Route("/", endpoint)])
    app.add_middleware(TimeoutMiddleware, total_seconds=SHORT)
    reply = await request(app)
    assert (reply.status, reply.json()["status"]) == (504, 504)


# What says that the client has gone, when it is the kit that has said so


def uploading(reads, **more):
    """A Starlette app that is sent an upload, and reads it in some task that is not its server's."""

    async def passing(request, call_next):
        return await call_next(request)

    async def endpoint(request):
        if reads == "a group of tasks":
            async with asyncio.TaskGroup() as group:
                group.create_task(request.body())
                group.create_task(asyncio.sleep(LONG))
        body = request.body()
        if reads == "a task of its own":
            body = asyncio.create_task(body)
        return PlainTextResponse(await body)

    def wsgi(environ, start_response):
        start_response("200 OK", [])
        return [environ["wsgi.input"].read()]

    route = Route("/", endpoint, methods=["POST"])
    within_base = reads in ("within BaseHTTPMiddleware", "WSGI")
    return Starlette(
        routes=[Mount("/", WsgiToAsgi(wsgi)) if reads == "WSGI" else route],
        middleware=[Middleware(BaseHTTPMiddleware, dispatch=passing)] if within_base else [],
        **more,
    )


READS = pytest.mark.parametrize(
    "reads",
    ["within BaseHTTPMiddleware", "a task of its own", "a group of tasks", "WSGI"],
)


async def upload(kit, *, stalls=True):
    """A request whose body does not come to its end: it stalls, or its client leaves."""
    reply, events = Reply(), [{"type": "http.request", "body": b"half", "more_body": True}]

    async def receive():
        if events:
            return events.pop()
        if stalls:
            await asyncio.Event().wait()
        return {"type": "http.disconnect"}

    async def send(message):
        reply.messages.append(message)

    try:
        async with asyncio.timeout(5):
            await kit(http_scope("POST"), receive, send)
    except Exception as exc:
        reply.raised = exc
    return reply


def is_one_timeout(world, *causes):
    """The timeout is all that was told of."""
    world.recorder.flush()
    assert world.tracker.get_error_stats()["errors_by_type"] == {"timeout": 1}
    (group,) = world.tracker.groups()
    sample = group.sample.get("exception") or {}
    assert sorted(each["type"] for each in sample.get("causes", ())) == sorted(causes)
    (line,) = (line for line in world.lines.lines() if line.get("outcome"))
    assert (line["outcome"], line["timed_out"]) == ("timeout", "total")


@WAYS
@READS
async def test_an_upload_that_stalls_is_answered_504(way, reads):
    """The disconnect by which the app is told to end is nobody's leaving, nor an error."""
    world = World()
    kit = getattr(world, way)(uploading(reads), total_seconds=SHORT)
    reply = await upload(kit)
    assert (reply.status, len(reply.starts), reply.raised) == (504, 1, None)
    assert timeouts(kit)["total"] == 1
    if way != "alone":
        is_one_timeout(world)


@READS
async def test_an_upload_whose_client_leaves_in_time_is_no_timeout(reads):
    """Then it is the client that said so."""
    world = World()
    kit = world.stack(uploading(reads), total_seconds=LONG)
    reply = await upload(kit, stalls=False)
    assert reply.raised is not None
    assert world.last()["outcome"] == "client_disconnect"
    assert (timeouts(kit)["total"], world.tracker.groups()) == (0, [])


@READS
@pytest.mark.parametrize("inner", [SHORT, LONG], ids=["the inner is shorter", "the outer is"])
async def test_of_two_the_shorter_answers_an_upload_that_stalls(reads, inner):
    """Whichever has said that the client has gone, it is not taken for that by the other."""
    world = World()
    within = world.alone(uploading(reads), total_seconds=inner)
    around = world.by_hand(within, total_seconds=SHORT + LONG - inner)
    reply = await upload(around)
    assert (reply.status, len(reply.starts), reply.raised) == (504, 1, None)
    cut = (timeouts(around)["total"], within.timed_out["total"])
    assert cut == ((0, 1) if inner == SHORT else (1, 0))
    is_one_timeout(world)


@READS
async def test_a_kit_further_in_does_not_take_it_for_the_clients_leaving(reads):
    """Neither does it count it, nor answer."""
    world = World()
    within = ErrorHandlingMiddleware(uploading(reads), world.tracker, log_errors=False)
    reply = await upload(world.by_hand(within, total_seconds=SHORT))
    assert (reply.status, len(reply.starts), reply.raised) == (504, 1, None)
    is_one_timeout(world)


async def test_an_apps_own_handler_of_a_client_that_left_changes_nothing():
    """What it answers nobody sees: its client is there, and waits."""
    world, asked = World(), []

    async def gone(request, exc):
        asked.append(exc)
        return PlainTextResponse("gone", 400)

    app = uploading("within BaseHTTPMiddleware", exception_handlers={ClientDisconnect: gone})
    reply = await upload(world.stack(app, total_seconds=SHORT))
    assert (reply.status, reply.raised, len(asked)) == (504, None, 1)
    is_one_timeout(world)


async def test_it_is_not_tried_again():
    """Nothing has failed that could go better the next time."""
    world, tried = World(), []
    app = uploading("a task of its own")

    async def counted(scope, receive, send):
        tried.append(scope)
        await app(scope, receive, send)

    within = RetryMiddleware(
        counted, methods=["POST"], error_types=list(ErrorType), error_tracker=world.tracker
    )
    reply = await upload(world.by_hand(within, total_seconds=SHORT))
    assert (reply.status, len(tried), within.retries) == (504, 1, 0)
    is_one_timeout(world)


async def test_what_fails_beside_it_is_the_cause():
    """A group of which one says that the client has gone, and another something else."""
    world = World()

    async def failing(request):
        try:
            await request.body()
        finally:
            raise ValueError("mine")

    async def endpoint(request):
        async with asyncio.TaskGroup() as group:
            group.create_task(request.body())
            group.create_task(failing(request))

    app = Starlette(routes=[Route("/", endpoint, methods=["POST"])])
    reply = await upload(world.stack(app, total_seconds=SHORT))
    assert reply.status == 504
    is_one_timeout(
        world,
        "ExceptionGroup",
        *["starlette.requests.ClientDisconnect"] * 2,  # one amid which the other was raised
        "ValueError",
    )


async def test_a_client_that_leaves_amid_the_cut_has_left():
    """The app has heard it from the server, not from the kit."""
    world, cut = World(), asyncio.Event()

    async def app(scope, receive, send):
        try:
            await asyncio.sleep(LONG)
        except asyncio.CancelledError:
            cut.set()
            assert (await receive())["type"] == "http.disconnect"
            raise ClientDisconnect from None

    async def receive():
        await cut.wait()
        return {"type": "http.disconnect"}

    with pytest.raises(ClientDisconnect):
        await world.stack(app, total_seconds=SHORT)(http_scope(), receive, send_nothing)
    assert world.last()["outcome"] == "client_disconnect"
    assert world.tracker.groups() == []


async def test_a_client_whose_leaving_a_send_tells_amid_the_cut_has_left():
    """Starlette raises its own word for what the server's send has raised."""
    world, sent = World(), []

    async def pieces():
        yield b"a"
        try:
            await asyncio.sleep(LONG)
        except asyncio.CancelledError:
            yield b"b"

    async def endpoint(request):
        return StreamingResponse(pieces())

    async def send(message):
        if message.get("body") == b"b":
            raise OSError
        sent.append(message)

    kit = world.stack(Starlette(routes=[Route("/", endpoint)]), total_seconds=SHORT)
    scope = http_scope(asgi={"version": "3.0", "spec_version": "2.4"})
    with pytest.raises(ClientDisconnect):
        await kit(scope, one_request, send)
    assert world.last()["outcome"] == "client_disconnect"
    assert (world.tracker.groups(), timeouts(kit)["total"]) == ([], 0)


@READS
async def test_uvicorn_sends_the_504_of_an_upload_that_stalls(reads, caplog):
    """And has no exception to tell of."""
    world = World()
    kit = world.stack(uploading(reads), total_seconds=0.1)
    config = uvicorn.Config(kit, port=0, lifespan="off", log_config=None, ws="none")
    server = uvicorn.Server(config)
    server.capture_signals = contextlib.nullcontext
    serving = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\nhalf")
    async with asyncio.timeout(5):
        answer = await reader.readuntil(b"\r\n\r\n")
    writer.close()
    server.should_exit = True
    await serving
    assert answer.startswith(b"HTTP/1.1 504 ")
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []
    is_one_timeout(world)


# What it feeds and leaves


@pytest.mark.parametrize("started", [False, True], ids=["before the start", "after the start"])
async def test_being_cut_feeds_the_types_breaker(started):
    """Timeouts are errors of their type, at once, whether or not they could be answered."""
    world = World()
    kit = world.stack(sleeping(*([START] if started else [])), total_seconds=0.001)
    threshold = world.tracker.classifier.policy(ErrorType.TIMEOUT).circuit_break_threshold
    for _ in range(threshold):
        assert not world.tracker.is_circuit_broken(ErrorType.TIMEOUT)
        await request(kit)
    assert world.tracker.is_circuit_broken(ErrorType.TIMEOUT)


async def test_being_cut_is_counted_once():
    """One failed request, one error of the type timeout."""
    world = World()
    kit = world.stack(sleeping(), total_seconds=SHORT)
    await request(kit)
    stats = kit.get_error_stats()
    assert (stats["total_requests"], stats["failed_requests"]) == (1, 1)
    assert stats["errors_by_type"] == {"timeout": 1}
    assert kit.status()["survival"]["TimeoutMiddleware"] == {
        "timed_out": {"total": 1, "first_byte": 0, "idle": 0}
    }


async def test_no_timers_pile_up():
    """Ten thousand requests that are in time leave a few timers, and none of their own."""

    async def app(scope, receive, send):
        await send(START)
        for _ in range(3):
            await send(PIECE)
        await send(END)

    kit = World().alone(app, total_seconds=LONG, first_byte_seconds=LONG / 2, idle_seconds=LONG / 3)
    scheduled = asyncio.get_running_loop()._scheduled
    before = sum(not timer.cancelled() for timer in scheduled)
    for _ in range(10_000):
        await kit(http_scope(), one_request, send_nothing)
    assert sum(not timer.cancelled() for timer in scheduled) - before < 10


async def test_a_stream_costs_no_timer_a_piece():
    """A lively stream asks the loop for a timer once or twice, not with each of its pieces."""
    loop = asyncio.get_running_loop()
    made, call_at = [], loop.call_at

    async def app(scope, receive, send):
        await send(START)
        for _ in range(500):
            await send(PIECE)
        await send(END)

    loop.call_at = lambda *args, **kwargs: made.append(args) or call_at(*args, **kwargs)
    try:
        for options in (
            {"total_seconds": LONG},
            {"idle_seconds": LONG},
            {"total_seconds": LONG, "idle_seconds": 2 * LONG},
            {"total_seconds": LONG, "first_byte_seconds": LONG},
        ):
            made.clear()
            await World().alone(app, **options)(http_scope(), one_request, send_nothing)
            assert len(made) <= 3, options
    finally:
        del loop.call_at


async def test_nothing_of_a_request_is_kept():
    """Once it is over its scope is let go, however long its time would have been."""

    class Scope(dict):
        pass

    async def app(scope, receive, send):
        await send(START)
        await send(END)

    kit = World().alone(app, total_seconds=LONG, idle_seconds=LONG)
    kept = []
    for _ in range(3):
        scope = Scope(http_scope())
        kept.append(weakref.ref(scope))
        await kit(scope, one_request, send_nothing)
        del scope
    gc.collect()
    assert [each() for each in kept] == [None] * 3


async def test_many_at_once_are_cut_each():
    """A thousand requests of one time, half of which are late."""

    async def app(scope, receive, send):
        if scope["path"] == "/late":
            await asyncio.sleep(LONG)
        await send(START)
        await send(END)

    kit = World().alone(app, total_seconds=0.05)
    paths = ["/late", "/quick"] * 500
    replies = await asyncio.gather(*(request(kit, path=path) for path in paths))
    assert [r.status for r in replies] == [504, 200] * 500
    assert timeouts(kit)["total"] == 500


def test_in_one_event_loop_after_another():
    """A middleware outlives its loop, as under test clients and reloads."""
    kit = World().alone(sleeping(), total_seconds=SHORT)
    for _ in range(3):
        assert asyncio.run(request(kit)).status == 504


def test_in_several_threads():
    """Each event loop cuts its own."""
    kit, statuses = World().alone(sleeping(), total_seconds=SHORT), []

    def serve():
        statuses.append(asyncio.run(request(kit)).status)

    threads = [threading.Thread(target=serve) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [504] * 4


def test_in_uvloop():
    """Another loop is no other matter."""
    uvloop = pytest.importorskip("uvloop")
    kit = World().alone(sleeping(), total_seconds=SHORT)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(request(kit)).status == 504


# Trio


def in_trio(main):
    """Run it by a clock that jumps to whatever is waited for."""
    return trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


def trio_world():
    return World(clock=trio.current_time, wall_clock=trio.current_time)


TRIO_WAYS = pytest.mark.parametrize("way", ["alone", "by_hand"])


@TRIO_WAYS
@pytest.mark.parametrize(
    ("options", "limit", "after"),
    [
        ({"total_seconds": 5.0}, "total", 5.0),
        ({"first_byte_seconds": 3.0, "total_seconds": 5.0}, "first_byte", 3.0),
    ],
    ids=["total", "first byte"],
)
def test_trio_answers_504(way, options, limit, after):
    """By trio's own cancellation, at the very moment."""

    async def main():
        async def app(scope, receive, send):
            await trio.sleep(1000)

        world = trio_world()
        kit = getattr(world, way)(app, **options)
        began = trio.current_time()
        reply = await request(kit)
        assert trio.current_time() - began == pytest.approx(after)
        assert (reply.status, reply.raised) == (504, None)
        assert timeouts(kit)[limit] == 1
        if way != "alone":
            assert world.last()["outcome"] == "timeout"

    in_trio(main)


@TRIO_WAYS
@pytest.mark.parametrize(
    ("options", "limit", "after"),
    [
        ({"total_seconds": 5.0}, "total", 5.0),
        ({"idle_seconds": 2.0}, "idle", 1.5 + 2.0),
        ({"first_byte_seconds": 1.0, "idle_seconds": 3.0, "total_seconds": 4.0}, "total", 4.0),
    ],
    ids=["total", "idle", "total before idle"],
)
def test_trio_breaks_off(way, options, limit, after):
    """After the start, an exception; each piece moves the idle time alone."""

    async def main():
        async def app(scope, receive, send):
            await send(START)
            for _ in range(3):
                await trio.sleep(0.5)
                await send(PIECE)
            await trio.sleep(1000)

        kit = getattr(trio_world(), way)(app, **options)
        began = trio.current_time()
        reply = await request(kit)
        assert trio.current_time() - began == pytest.approx(after)
        assert isinstance(reply.raised, DeadlineExceededError)
        assert reply.raised.limit == limit

    in_trio(main)


@TRIO_WAYS
def test_trio_leaves_background_tasks_alone(way):
    """After a complete response nothing is cut."""

    async def main():
        done = []

        async def app(scope, receive, send):
            await send(START)
            await send(END)
            await trio.sleep(1000)
            done.append(True)

        reply = await request(getattr(trio_world(), way)(app, total_seconds=5.0))
        assert (reply.raised, done) == (None, [True])

    in_trio(main)


@TRIO_WAYS
@pytest.mark.parametrize("reaction", ["answers", "swallows", "converts", "group"])
def test_trio_apps_may_make_of_it_what_they_like(way, reaction):
    """As under asyncio: what it does not answer itself is answered 504."""

    async def main():
        async def failing():
            try:
                await trio.sleep(1000)
            finally:
                raise ValueError("mine")

        async def app(scope, receive, send):
            if reaction == "group":
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(failing)
                    await trio.sleep(1000)
            try:
                await trio.sleep(1000)
            except trio.Cancelled:
                if reaction == "converts":
                    raise ValueError("mine") from None
                if reaction == "answers":
                    with trio.CancelScope(shield=True):
                        await send(START)
                        await send(END)

        kit = getattr(trio_world(), way)(app, total_seconds=5.0)
        reply = await request(kit)
        assert reply.raised is None
        assert (reply.status, len(reply.starts)) == (200 if reaction == "answers" else 504, 1)

    in_trio(main)


@TRIO_WAYS
def test_trio_cancellations_from_elsewhere_pass(way):
    """The server's scope is cancelled: nothing is answered, and it is no timeout."""

    async def main():
        async def app(scope, receive, send):
            await trio.sleep(1000)

        world, sent = trio_world(), []

        async def send(message):
            sent.append(message)

        kit = getattr(world, way)(app, total_seconds=50.0)
        with trio.move_on_after(5.0) as scope:
            await kit(http_scope(), one_request, send)
        assert scope.cancelled_caught
        assert (sent, timeouts(kit)["total"]) == ([], 0)
        if way != "alone":
            assert world.last()["outcome"] == "cancelled"

    in_trio(main)


@pytest.mark.parametrize("inner", [5.0, 50.0], ids=["the inner is shorter", "the outer is"])
@pytest.mark.parametrize("swallows", [False, True])
def test_of_two_in_trio_the_shorter_cuts(inner, swallows):
    """Whose time is up answers and counts."""

    async def main():
        async def app(scope, receive, send):
            try:
                await trio.sleep(1000)
            except trio.Cancelled:
                if not swallows:
                    raise

        world = trio_world()
        within = world.alone(app, total_seconds=inner)
        around = world.by_hand(within, total_seconds=55.0 - inner)
        reply = await request(around)
        assert (reply.status, len(reply.starts)) == (504, 1)
        cut = (timeouts(around)["total"], within.timed_out["total"])
        assert cut == ((0, 1) if inner == 5.0 else (1, 0))

    in_trio(main)


async def test_a_guard_of_time_within_cuts_its_block_alone():
    """fail_after within a request is an error of the app's, of the type timeout."""
    world = World()

    async def app(scope, receive, send):
        async with fail_after(SHORT):
            await asyncio.sleep(LONG)

    kit = world.stack(app, total_seconds=LONG)
    reply = await request(kit)
    assert reply.status == 504
    assert world.last()["outcome"] == "server_error"
    assert timeouts(kit)["total"] == 0


# What it is given


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({}, ValueError, "total_seconds"),
        ({"routes": {}}, ValueError, "total_seconds"),
        ({"total_seconds": 0}, ValueError, "total_seconds"),
        ({"total_seconds": -1}, ValueError, "total_seconds"),
        ({"total_seconds": float("nan")}, ValueError, "total_seconds"),
        ({"total_seconds": float("inf")}, ValueError, "total_seconds"),
        ({"total_seconds": "30"}, TypeError, "total_seconds"),
        ({"total_seconds": True}, TypeError, "total_seconds"),
        ({"idle_seconds": 0}, ValueError, "idle_seconds"),
        ({"first_byte_seconds": 0}, ValueError, "first_byte_seconds"),
        ({"routes": {"/x": 30}}, TypeError, "routes"),
        ({"routes": {"x": None}}, ValueError, "routes"),
        ({"total_seconds": 1, "error_tracker": 5}, TypeError, "error_tracker"),
        ({"total_seconds": 1, "request_ids": 5}, TypeError, "request_ids"),
    ],
    ids=repr,
)
def test_what_cannot_work_is_refused_at_construction(options, error, match):
    """No time at all, none that can be waited for, none of the right kind."""
    with pytest.raises(error, match=match):
        TimeoutMiddleware(sleeping(), **options)
