"""The exchange is there for the code that runs for it, and for nobody else."""

import asyncio
import copy
import logging
import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgi_errorkit import (
    ErrorHandlingMiddleware,
    ErrorKit,
    ErrorTracker,
    Exchange,
    Recorder,
    RequestIdFilter,
    current,
)
from asgi_errorkit.exchange import ID, KEY, MEMORY_BEFORE, begin, route_of, state_in, trace_context
from asgi_errorkit.testing import HandClock, Reply, http_scope, request, session
from asgi_errorkit.types import Receive, Scope, Send

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


async def ok(send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"ok"})


def test_there_is_none_outside_of_a_request() -> None:
    assert current() is None


async def test_handlers_tasks_and_threads_find_their_own() -> None:
    seen: dict[str, list[str | None]] = {}

    def name() -> str | None:
        exchange = current()
        return exchange.request_id if exchange else None

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        task = asyncio.create_task(asyncio.sleep(0, name()))
        seen[scope["path"]] = [name(), await asyncio.to_thread(name), await task]
        await ok(send)

    kit = ErrorKit(app)
    replies = await asyncio.gather(*(request(kit, path=f"/{n}") for n in range(20)))
    assert current() is None
    for number, reply in enumerate(replies):
        assert seen[f"/{number}"] == [reply.headers["x-request-id"]] * 3


async def test_a_plain_thread_sees_none() -> None:
    seen: list[Exchange | None] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        thread = threading.Thread(target=lambda: seen.append(current()))
        thread.start()
        thread.join()
        await ok(send)

    await request(ErrorKit(app))
    assert seen == [None]


async def test_it_tells_what_is_known_so_far() -> None:
    seen: list[Any] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        exchange = current()
        assert exchange is not None
        assert exchange == current() and hash(exchange) == hash(current())
        seen.extend((exchange.started, exchange.method, exchange.path, exchange.trace_id))
        await ok(send)
        seen.extend((exchange.started, exchange.status, exchange.complete, exchange.sent))
        seen.append(exchange.elapsed_seconds >= 0)
        seen.append(exchange)

    headers = [(b"traceparent", f"00-{TRACE}-{SPAN}-01".encode())]
    await request(ErrorKit(app), "PUT", "/x", headers=headers)
    assert seen[:4] == [False, "PUT", "/x", TRACE]
    assert seen[4:9] == [True, 200, True, 2, True]
    ended: Exchange = seen[9]
    assert ended.elapsed_seconds == pytest.approx(ended.ended_at - ended.started_at)
    assert ended.parent_span_id == SPAN
    assert ended.scope is None
    assert repr(ended).startswith("<Exchange ")


async def test_nothing_of_it_stays_in_the_scope() -> None:
    scopes: list[Scope] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert KEY in scope
        scopes.append(scope)
        await ok(send)

    await request(ErrorKit(app))
    assert KEY not in scopes[0]


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, dict])
async def test_a_scope_can_be_copied_and_the_copy_belongs_to_the_same_exchange(
    duplicate: Any,
) -> None:
    copies: list[Scope] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        copies.append(duplicate(scope))
        await inner(copies[-1], receive, send)

    async def fails(scope: Scope, receive: Receive, send: Send) -> None:
        assert state_in(scope) is current().state  # type: ignore[union-attr]
        raise MemoryError

    tracker = ErrorTracker(recorder=Recorder(flush_seconds=None))
    inner = ErrorHandlingMiddleware(fails, tracker)
    reply = await request(ErrorHandlingMiddleware(app, tracker))
    assert reply.status == 503
    stats = tracker.get_error_stats()
    assert (stats["total_requests"], stats["errors_by_type"]) == (1, {"memory": 1})
    assert copies[0]["path"] == "/"


async def test_the_scope_of_a_websocket_can_be_copied_too() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert state_in(copy.deepcopy(scope)) is state_in(scope)
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.close", "code": 1000})

    reply = await session(ErrorKit(app))
    assert reply.raised is None
    assert reply.messages[-1]["code"] == 1000


async def test_an_app_that_empties_its_scope_is_served_all_the_same() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scope.clear()
        await ok(send)

    reply: Reply = await request(ErrorKit(app))
    assert (reply.status, reply.raised) == (200, None)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (f"00-{TRACE}-{SPAN}-01", (TRACE, SPAN)),
        (f"cc-{TRACE}-{SPAN}-01-what-the-future-will-be-like", (TRACE, SPAN)),
        (f"00-{TRACE}-{SPAN}-01-more", None),
        (f"ff-{TRACE}-{SPAN}-01", None),
        (f"00-{'0' * 32}-{SPAN}-01", None),
        (f"00-{TRACE}-{'0' * 16}-01", None),
        (f"00-{TRACE.upper()}-{SPAN}-01", None),
        (f"00-{TRACE[1:]}-{SPAN}-01", None),
        ("", None),
        ("\x00" * 10_000, None),
    ],
)
def test_a_traceparent_is_read_as_w3c_says(value: str, expected: tuple[str, str] | None) -> None:
    assert trace_context({b"traceparent": value.encode()}) == expected


@given(st.binary(max_size=80))
def test_no_traceparent_breaks_the_reader(value: bytes) -> None:
    trace_context({b"traceparent": value})


class Route:
    path = "/items/{id}"


class Odd:
    path = 7


@pytest.mark.parametrize(
    ("scope", "expected"),
    [
        ({}, None),
        ({"route": Route()}, "/items/{id}"),
        ({"route": Route(), "root_path": "/api"}, "/api/items/{id}"),
        ({"path_template": "/users/{name:str}"}, "/users/{name:str}"),
        ({"route": Odd()}, None),
        ({"route": "text"}, None),
        ({"path_template": None}, None),
    ],
)
def test_the_route_is_what_the_framework_wrote(scope: Scope, expected: str | None) -> None:
    assert route_of(scope) == expected


def test_elapsed_time_is_that_of_the_recorders_clock() -> None:
    clock = HandClock()
    exchange = Exchange(begin(http_scope(), {}, "a", clock, 0.0))
    clock.move(2.5)
    assert exchange.elapsed_seconds == 2.5
    assert exchange.now() == clock()


async def test_the_filter_puts_the_ids_on_the_applications_log_records() -> None:
    lines: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(self.format(record))

    handler = Keep()
    handler.addFilter(RequestIdFilter())
    handler.setFormatter(logging.Formatter("%(request_id)s %(trace_id)s %(message)s"))
    log = logging.getLogger("tests.app")
    log.setLevel(logging.INFO)
    log.addHandler(handler)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        log.info("inside")
        await asyncio.to_thread(log.info, "thread")
        await ok(send)

    kit = ErrorKit(app)
    traced = [(b"x-request-id", b"abc"), (b"traceparent", f"00-{TRACE}-{SPAN}-01".encode())]
    await request(kit, headers=traced)
    log.info("outside")
    log.removeHandler(handler)
    assert lines == [f"abc {TRACE} inside", f"abc {TRACE} thread", "- - outside"]


async def test_the_frame_begins_an_exchange_as_begin_does() -> None:
    """The frame spells the list out, for a call costs time; both must mean the same places."""
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(state_in(scope).copy())

    clock = HandClock()
    tracker = ErrorTracker(recorder=Recorder(clock=clock, flush_seconds=None))
    kit = ErrorHandlingMiddleware(app, tracker, capture=False)
    scope = http_scope("PUT", "/x", query=b"a=1", scheme="https", client=("::1", 5))
    headers = dict(scope["headers"])

    async def receive() -> Any:
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        return None

    await kit(scope, receive, send)
    (state,) = seen
    logged, choices = kit.choices.logs, kit.choices
    again = begin(scope, headers, state[ID], clock, state[MEMORY_BEFORE], logged, send, choices)
    assert state == again
