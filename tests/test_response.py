"""What the messages of a response tell is noted, whatever form they come in."""

from pathlib import Path
from typing import Any

import pytest

from asgi_errorkit import ErrorTracker, MiddlewareStack, Recorder, StructuredLoggingMiddleware
from asgi_errorkit.testing import LogLines, request
from tests.naming import shown

START = {"type": "http.response.start", "status": 200, "headers": []}
BYTES = 1221


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "film.gif"
    path.write_bytes(bytes(BYTES))
    return path


async def told(*messages: dict[str, Any], **scope: Any) -> dict[str, Any]:
    """The last log line of a request that is answered with these messages; all must be passed on."""

    async def app(_: Any, receive: Any, send: Any) -> None:
        for message in messages:
            await send(message)

    lines = LogLines()
    stack = MiddlewareStack(error_tracker=ErrorTracker(recorder=Recorder(flush_seconds=None)))
    stack.add_middleware(StructuredLoggingMiddleware, stream=lines)
    kit = stack.create_middleware_stack(app)
    reply = await request(kit, **scope)
    kit.flush()
    assert [m["type"] for m in reply.messages] == [m["type"] for m in messages]
    return lines.lines()[-1]


async def test_a_file_that_the_server_sends_by_its_path_counts_whole(file: Path) -> None:
    line = await told(START, {"type": "http.response.pathsend", "path": str(file)})
    assert (line["outcome"], line["response_size"]) == ("ok", BYTES)


@pytest.mark.parametrize(
    ("position", "extent", "sent"),
    [
        (0, {}, BYTES),
        (1000, {}, BYTES - 1000),
        (1000, {"offset": 21}, BYTES - 21),
        (0, {"offset": 21, "count": 100}, 100),
        (0, {"count": 1_000_000_000}, BYTES),
        (0, {"offset": 5000}, 0),
    ],
    ids=["whole", "from where it stands", "from an offset", "a count", "beyond its end", "nothing"],
)
@pytest.mark.parametrize("by", ["object", "descriptor"])
async def test_a_file_that_the_server_copies_counts_what_there_is_to_send(
    file: Path, position: int, extent: dict[str, int], sent: int, by: str
) -> None:
    with file.open("rb", buffering=0) as opened:
        opened.seek(position)
        source = opened if by == "object" else opened.fileno()
        line = await told(START, {"type": "http.response.zerocopysend", "file": source, **extent})
    assert (line["outcome"], line["response_size"]) == ("ok", sent)


@pytest.mark.parametrize("file", [None, "/nowhere/at/all", object(), -1], ids=shown)
async def test_a_file_that_nobody_can_look_at_counts_nothing(file: Any) -> None:
    kind = "http.response.pathsend" if isinstance(file, str) else "http.response.zerocopysend"
    line = await told(START, {"type": kind, "path" if isinstance(file, str) else "file": file})
    assert (line["outcome"], line["response_size"]) == ("ok", 0)


async def test_a_copied_piece_with_more_to_come_is_not_the_end(file: Path) -> None:
    with file.open("rb") as opened:
        piece = {
            "type": "http.response.zerocopysend",
            "file": opened,
            "offset": 0,
            "count": 21,
            "more_body": True,
        }
        line = await told(START, piece)
        assert (line["outcome"], line["response_size"]) == ("incomplete", 21)
        line = await told(START, piece, {"type": "http.response.body", "body": b"end"})
        assert (line["outcome"], line["response_size"]) == ("ok", 24)


async def test_the_body_of_an_answer_to_head_does_not_go_out() -> None:
    line = await told(START, {"type": "http.response.body", "body": b"ok"}, method="HEAD")
    assert (line["outcome"], line["response_size"]) == ("ok", 0)


@pytest.mark.parametrize(
    "headers",
    [None, (), (pair for pair in [(b"host", b"a")]), [(b"a",)], 5, [None]],
    ids=["none", "tuple", "generator", "no pairs", "no iterable", "nothing"],
)
async def test_headers_of_any_shape_are_left_to_the_app(headers: Any) -> None:
    """What is no list of pairs tells nothing, and costs nobody the request."""
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        given = scope["headers"]
        seen.append(list(given) if hasattr(given, "__iter__") else given)
        await send(START)
        await send({"type": "http.response.body"})

    stack = MiddlewareStack(error_tracker=ErrorTracker(recorder=Recorder(flush_seconds=None)))
    stack.add_middleware(StructuredLoggingMiddleware, stream=LogLines())
    kit = stack.create_middleware_stack(app)

    async def changed(scope: Any, receive: Any, send: Any) -> None:
        scope["headers"] = headers
        await kit(scope, receive, send)

    reply = await request(changed)
    assert (reply.status, reply.raised) == (200, None)
    assert len(seen) == 1
