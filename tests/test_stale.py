"""A stale copy is whole, old enough to say so, and never somebody else's."""

import threading
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgi_errorkit.stale import StaleCopies, StaleCopy
from asgi_errorkit.testing import HandClock, http_scope
from asgi_errorkit.types import Message, Scope

Headers = list[tuple[bytes, bytes]]


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def copies(clock: HandClock) -> StaleCopies:
    return StaleCopies(clock=clock)


def scope(path: str = "/a", *headers: tuple[bytes, bytes], **more: Any) -> Scope:
    return http_scope(more.pop("method", "GET"), path, headers=headers, **more)


def start(*headers: tuple[bytes, bytes], status: int = 200, **more: Any) -> Message:
    return {"type": "http.response.start", "status": status, "headers": list(headers), **more}


def body(piece: Any = b"x", *, more_body: bool = False) -> Message:
    return {"type": "http.response.body", "body": piece, "more_body": more_body}


def record(copies: StaleCopies, asked: Scope, messages: Iterable[Any]) -> None:
    recording = copies.recording(asked)
    if recording is not None:
        for message in messages:
            recording.see(message)


def cached(*controls: bytes) -> Headers:
    return [(b"Cache-Control", control) for control in controls]


@pytest.mark.parametrize(
    ("option", "error"),
    [
        ({"max_age_seconds": 0}, ValueError),
        ({"max_age_seconds": float("nan")}, ValueError),
        ({"max_age_seconds": "1"}, TypeError),
        ({"max_entries": 0}, ValueError),
        ({"max_entries": 1.5}, TypeError),
        ({"max_body_bytes": 0}, ValueError),
        ({"max_body_bytes": 100, "max_total_bytes": 99}, ValueError),
        ({"clock": 7}, TypeError),
    ],
)
def test_an_option_out_of_bounds_is_refused_by_its_name(
    option: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error, match=f"^{list(option)[-1]} must be"):
        StaleCopies(**option)


@pytest.mark.parametrize(
    "asked",
    [
        scope(method="POST"),
        scope(method="HEAD"),
        scope("/a", (b"range", b"bytes=0-1")),
        scope("/a", (b"Cache-Control", b"max-age=0, No-Store")),
        scope("/a", (b"content-length", b"7")),
        scope("/a", (b"transfer-encoding", b"chunked")),
        scope("/" + "x" * 3000),
        scope(query=b"x" * 3000),
        {**scope(), "type": "websocket"},
        {**scope(), "path": None},
        {**scope(), "query_string": "x"},
        {**scope(), "headers": iter([])},
        {**scope(), "headers": None},
        {**scope(), "headers": [7]},
        {**scope(), "headers": [(None, b"")]},
        {"type": "lifespan"},
    ],
)
def test_what_must_not_be_kept_is_not_recorded(copies: StaleCopies, asked: Scope) -> None:
    assert copies.recording(asked) is None


@pytest.mark.parametrize(
    "messages",
    [
        [start()],
        [start(), body(more_body=True)],
        [body()],
        [start(), start(), body()],
        [start(status=201), body()],
        [start(status=304), body()],
        [start(status=500), body()],
        [start(trailers=True), body()],
        [start(), {"type": "http.response.pathsend", "path": "/x"}],
        [start(), {"type": "http.response.zerocopysend", "file": 0}],
        [start(), {"type": "http.response.unheard.of"}, body()],
        [start(), body(b"x" * 2_000_000)],
        [start(), body(b"x" * 600_000, more_body=True), body(b"x" * 600_000)],
        [start((b"content-length", b"2000000")), body()],
        [start((b"content-length", b"2")), body(b"x")],
        [start((b"content-length", b"x")), body(b"x")],
        [start((b"Set-Cookie", b"a=b")), body()],
        [start((b"content-type", b"text/event-stream")), body()],
        [start((b"Vary", b"Accept, *")), body()],
        [start((b"vary", b",".join(b"a%d" % n for n in range(20)))), body()],
        [start(*[(b"a", b"b")] * 65), body()],
        [start((b"a", b"b" * 20_000)), body()],
        [start((b"age", b"3600")), body()],
        [{**start(), "headers": iter([])}, body()],
        [{**start(), "headers": [7]}, body()],
        [{**start(), "headers": [("a", "b")]}, body()],
        [start(), body("text")],
        [{"type": "http.response.start"}, body()],
        [{}],
        [None],
    ],
)
def test_what_cannot_be_copied_or_is_not_whole_is_given_up_silently(
    copies: StaleCopies, messages: list[Any]
) -> None:
    record(copies, scope(), [*messages, body(), start(), body()])
    if messages in ([start()], [start(), body(more_body=True)]):
        return  # it was made whole after all
    assert copies.as_dict() == dict.fromkeys(copies.as_dict(), 0)


@pytest.mark.parametrize("messages", [[start()], [start(), body(more_body=True)]])
def test_what_is_not_complete_is_not_kept(copies: StaleCopies, messages: list[Message]) -> None:
    record(copies, scope(), messages)
    assert copies.find(scope()) is None


@pytest.mark.parametrize(
    "control",
    [
        b"no-store",
        b"No-Cache",
        b"PRIVATE",
        b'private="x-user"',
        b'public, no-cache="set-cookie"',
        b"must-revalidate",
        b"max-age=0, must-revalidate",
        b"proxy-revalidate",
        b"s-maxage=0",
        b"s-maxage=x",
        b"max-age=-1, stale-if-error=0",
        b"stale-if-error=x",
        b'public, a="public',
        b"public must-revalidate",
        b"public;",
    ],
)
def test_what_the_response_forbids_is_not_kept(copies: StaleCopies, control: bytes) -> None:
    record(copies, scope(), [start(*cached(b"max-age=0", control)), body()])
    assert copies.find(scope()) is None
    assert copies.as_dict()["kept"] == 0


CREDENTIALS = [
    {"headers": [(b"host", b"test"), (b"Authorization", b"Bearer x")]},
    {"headers": [(b"host", b"test"), (b"cookie", b"session=x")]},
    {"headers": [(b"host", b"test"), (b"X-API-Key", b"x")]},
    {"headers": [(b"host", b"test"), (b"x-forwarded-user", b"x")]},
    {"extensions": {"tls": {"client_cert_chain": ["x"]}}},
]


@pytest.mark.parametrize("known", CREDENTIALS, ids=str)
def test_what_was_made_for_somebody_who_is_known_is_kept_only_if_it_is_public(
    copies: StaleCopies, known: dict[str, Any]
) -> None:
    own = {**scope(), **known}
    record(copies, own, [start(), body(b"own")])
    record(copies, own, [start(*cached(b"max-age=60")), body(b"own")])
    assert copies.find(scope()) is copies.find(own) is None
    record(copies, own, [start(*cached(b"public")), body(b"for all")])
    assert bodies(copies, scope(), own) == [b"for all", b"for all"]


def test_a_word_that_is_quoted_makes_nothing_public(copies: StaleCopies) -> None:
    control = cached(b'max-age=5, community="a,public,b", x-public, public2')
    record(copies, scope("/a", (b"cookie", b"x")), [start(*control), body()])
    assert copies.find(scope()) is None
    record(copies, scope(), [start(*control), body()])
    assert copies.find(scope()) is not None


@pytest.mark.parametrize("known", CREDENTIALS, ids=str)
def test_who_is_known_is_given_only_what_is_public(
    copies: StaleCopies, known: dict[str, Any]
) -> None:
    record(copies, scope(), [start(), body(b"anonymous")])
    assert copies.find({**scope(), **known}) is None
    assert copies.find(scope("/a", (b"cache-control", b"no-store"))) is None
    assert bodies(copies, scope()) == [b"anonymous"]


@pytest.mark.parametrize("control", [b"s-maxage=60", b"max-age=60, must-revalidate"])
def test_what_may_be_shared_despite_authorization_is_kept_but_not_despite_a_cookie(
    copies: StaleCopies, control: bytes
) -> None:
    """RFC 9111, 3.5."""
    authorization = (b"authorization", b"x")
    messages = [start(*cached(control)), body()]
    record(copies, scope("/a", authorization, (b"cookie", b"x")), messages)
    record(copies, scope("/a", (b"cookie", b"x")), messages)
    assert copies.find(scope()) is None
    record(copies, scope("/a", authorization), messages)
    assert copies.find(scope()) is not None
    assert copies.find(scope("/a", authorization)) is None


def bodies(copies: StaleCopies, *asked: Scope) -> list[bytes]:
    found = [copies.find(each) for each in asked]
    return [each.answer(0).body for each in found if each is not None]


def found(copies: StaleCopies, asked: Scope) -> StaleCopy:
    copy = copies.find(asked)
    assert copy is not None
    return copy


def test_a_copy_is_the_response_without_what_belonged_to_its_connection(
    copies: StaleCopies, clock: HandClock
) -> None:
    given: Headers = [
        (b"Content-Type", b"text/plain"),
        (b"Connection", b"close, X-Hop"),
        (b"x-hop", b"1"),
        (b"transfer-encoding", b"chunked"),
        (b"age", b"5"),
        (b"x-request-id", b"theirs"),
        (b"link", b"a"),
        (b"link", b"b"),
    ]
    record(
        copies,
        scope(),
        [
            {"type": "http.response.early_hint", "links": []},
            start(*given),
            body(bytearray(b"he"), more_body=True),
            body(memoryview(b"llo"), more_body=True),
            {"type": "http.response.body"},
        ],
    )
    clock.move(10.9)
    answer = found(copies, scope()).answer(clock())
    assert answer.status_code == 200
    assert answer.body == b"hello"
    assert answer.headers == [
        (b"content-type", b"text/plain"),
        (b"link", b"a"),
        (b"link", b"b"),
        (b"content-length", b"5"),
        (b"age", b"15"),
    ]


def test_a_copy_is_not_changed_by_what_the_app_does_later(copies: StaleCopies) -> None:
    piece, headers = bytearray(b"before"), [(b"a", b"b")]
    message = {"type": "http.response.start", "status": 200, "headers": headers}
    record(copies, scope(), [message, body(piece)])
    piece[:] = b"after!"
    headers.append((b"c", b"d"))
    assert message["headers"] is headers
    answer = found(copies, scope()).answer(0)
    assert answer.body == b"before"
    assert (b"c", b"d") not in answer.headers


def test_head_is_answered_without_a_body_but_with_its_length(copies: StaleCopies) -> None:
    record(copies, scope(), [start((b"Content-Length", b"1")), body()])
    answer = found(copies, scope(method="HEAD")).answer(0)
    assert answer.body == b""
    assert (b"content-length", b"1") in answer.headers


@pytest.mark.parametrize(
    "other",
    [
        scope("/b"),
        scope(query=b"q"),
        scope(method="POST"),
        scope(scheme="https"),
        scope(raw_path=b"/%61"),
        {**scope(), "headers": [(b"host", b"other")]},
        {**scope(), "headers": []},
        {**scope(), "type": "websocket"},
        scope("/a", (b"content-length", b"3")),
    ],
)
def test_another_request_gets_no_copy(copies: StaleCopies, other: Scope) -> None:
    record(copies, scope(), [start(*cached(b"public")), body()])
    assert copies.find(other) is None
    assert copies.find({**scope(), "headers": [(b"Host", b"TEST")]}) is not None


@pytest.mark.parametrize(
    "header", [(b"range", b"bytes=0-"), (b"cache-control", b"only-if-cached, no-cache")]
)
def test_what_asks_for_less_or_for_more_gets_the_whole(
    copies: StaleCopies, header: tuple[bytes, bytes]
) -> None:
    record(copies, scope(), [start(), body()])
    assert copies.find(scope("/a", header)) is not None


def test_vary_tells_copies_apart(copies: StaleCopies) -> None:
    """RFC 9111, 4.1; several lines of one header are one value."""
    german, french = (b"accept-language", b"de"), (b"Accept-Language", b"fr")
    vary = (b"Vary", b"Accept-Language , X-Other")
    record(copies, scope("/a", german), [start(vary), body(b"Hallo")])
    record(copies, scope("/a", french), [start(vary), body(b"Bonjour")])
    assert bodies(copies, scope("/a", german), scope("/a", french)) == [b"Hallo", b"Bonjour"]
    assert copies.find(scope()) is copies.find(scope("/a", german, french)) is None
    assert copies.find(scope("/a", german, (b"x-other", b""))) is None


def test_of_several_that_fit_the_newest_is_given(copies: StaleCopies, clock: HandClock) -> None:
    record(copies, scope(), [start((b"vary", b"a")), body(b"1")])
    clock.move(1)
    record(copies, scope(), [start(), body(b"2")])
    clock.move(1)
    record(copies, scope("/a", (b"a", b"b")), [start((b"vary", b"a")), body(b"3")])
    assert bodies(copies, scope(), scope("/a", (b"a", b"b"))) == [b"2", b"3"]
    record(copies, scope(), [start(), body(b"4")])
    assert bodies(copies, scope()) == [b"4"]
    assert copies.as_dict()["entries"] == 3


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ([], 3600),
        (cached(b"max-age=10"), 3600),
        (cached(b"max-age=10, stale-if-error=20"), 30),
        (cached(b"max-age=10", b'Stale-If-Error="20"'), 30),
        (cached(b"stale-if-error=20"), 20),
        (cached(b"stale-if-error=99999999999999999999"), 3600),
        (cached(b"s-maxage=5, max-age=10, stale-if-error=20"), 25),
        (cached(b"max-age=10, s-maxage=5"), 5),
        (cached(b"max-age=10, must-revalidate, stale-if-error=20"), 10),
        (cached(b"max-age=10, proxy-revalidate"), 10),
        ([(b"age", b"4"), *cached(b"max-age=10, must-revalidate")], 6),
        ([(b"age", b"x")], 3600),
    ],
)
def test_a_copy_is_given_as_long_as_the_response_and_the_option_permit(
    copies: StaleCopies, clock: HandClock, headers: Headers, seconds: int
) -> None:
    """RFC 5861, 4; RFC 9111, 4.2.4: what must be revalidated is given while it is fresh."""
    record(copies, scope(), [start(*headers), body()])
    clock.move(seconds)
    assert copies.find(scope()) is not None
    clock.move(1)
    assert copies.find(scope()) is None


@pytest.mark.parametrize("status", [401, 403, 404, 410, 451])
def test_what_is_gone_or_not_for_everybody_any_more_is_forgotten(
    copies: StaleCopies, status: int
) -> None:
    record(copies, scope(), [start(), body()])
    record(copies, scope("/a", (b"cookie", b"x")), [start(status=status)])
    assert copies.find(scope()) is not None  # it was that one who must not have it
    record(copies, scope(), [start(status=status)])
    assert copies.find(scope()) is None


def test_what_has_become_private_is_forgotten(copies: StaleCopies) -> None:
    record(copies, scope(), [start(), body()])
    record(copies, scope(), [start(*cached(b"private")), body()])
    assert copies.as_dict()["entries"] == copies.as_dict()["bytes"] == 0


@pytest.mark.parametrize("status", [304, 429, 500, 503])
def test_a_failure_leaves_the_copy_of_what_was_good(copies: StaleCopies, status: int) -> None:
    record(copies, scope(), [start(), body()])
    record(copies, scope(), [start(status=status), body()])
    record(copies, scope(), [start(), body(b"x" * 2_000_000)])
    assert bodies(copies, scope()) == [b"x"]


def test_what_a_request_has_changed_can_be_forgotten(copies: StaleCopies) -> None:
    record(copies, scope(), [start((b"vary", b"a")), body()])
    record(copies, scope("/a", (b"a", b"b")), [start((b"vary", b"a")), body()])
    copies.forget(scope(method="POST"))
    copies.forget(scope("/" + "x" * 3000))
    copies.forget({"type": "lifespan"})
    assert copies.as_dict()["entries"] == 0


def test_beyond_the_entries_what_was_used_least_recently_goes(clock: HandClock) -> None:
    copies = StaleCopies(max_entries=2, clock=clock)
    record(copies, scope("/1"), [start(), body()])
    record(copies, scope("/2"), [start(), body()])
    assert copies.find(scope("/1")) is not None
    record(copies, scope("/3"), [start(), body()])
    assert copies.find(scope("/2")) is None
    assert copies.find(scope("/1")) is not None
    assert copies.as_dict()["evicted"] == 1
    assert copies.as_dict() | {"bytes": 0} == {
        "entries": 2,
        "bytes": 0,
        "kept": 3,
        "served": 2,
        "evicted": 1,
    }


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 3000)), max_size=60))
def test_the_bytes_are_bounded_and_counted_right(asked: list[tuple[int, int]]) -> None:
    copies = StaleCopies(max_body_bytes=2000, max_total_bytes=6000, max_entries=5)
    for number, size in asked:
        record(copies, scope(f"/{number}"), [start(), body(b"x" * size)])
        assert copies.as_dict()["bytes"] <= 6000
        assert copies.as_dict()["entries"] <= 5
    assert copies.as_dict()["bytes"] == sum(each.size for each in copies._copies.values())
    assert sorted(copies._copies) == sorted(
        (k, c) for k, cs in copies._variants.items() for c in cs
    )
    for number in range(10):
        copies.forget(scope(f"/{number}"))
    assert copies.as_dict()["bytes"] == 0
    assert not copies._variants


def test_what_is_too_large_for_all_of_it_takes_nothing_else_away() -> None:
    copies = StaleCopies(max_body_bytes=1000, max_total_bytes=1600)
    record(copies, scope("/1"), [start(), body()])
    record(copies, scope("/2"), [start((b"a", b"b" * 2000)), body()])
    assert copies.find(scope("/1")) is not None


def test_a_body_of_many_pieces_is_kept_whole(copies: StaleCopies) -> None:
    pieces = [body(b"%d," % n, more_body=True) for n in range(1000)]
    record(copies, scope(), [start(), *pieces, body(b"")])
    assert bodies(copies, scope()) == [b"".join(b"%d," % n for n in range(1000))]


def test_many_threads_leave_it_whole() -> None:
    copies = StaleCopies(max_entries=5)

    def work() -> None:
        for n in range(300):
            record(copies, scope(f"/{n % 9}"), [start(), body()])
            copies.find(scope(f"/{n % 7}"))
            copies.forget(scope(f"/{n % 5}"))

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert copies.as_dict()["kept"] == 1800
    assert copies.as_dict()["bytes"] == sum(each.size for each in copies._copies.values())


@given(
    st.lists(
        st.tuples(
            st.sampled_from([b"cache-control", b"vary", b"age", b"content-length", b"connection"]),
            st.binary(max_size=30),
        )
    ),
    st.lists(
        st.dictionaries(
            st.sampled_from(["type", "body", "status", "headers", "more_body"]),
            st.none() | st.binary(max_size=3) | st.integers() | st.just("http.response.body"),
        )
    ),
)
def test_nothing_that_is_sent_makes_it_raise(headers: Headers, messages: list[Message]) -> None:
    copies = StaleCopies()
    record(copies, scope(), [start(*headers), *messages, body()])
    copy = copies.find(scope())
    assert copy is None or copy.answer(0.0).status_code == 200
