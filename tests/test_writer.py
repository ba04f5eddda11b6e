"""Lines are written whole, late at most by a flush, and never at the cost of a request."""

import io
import json
import logging
import os
import threading
from typing import Any

import pytest

from asgi_errorkit.writer import LineWriter, LoggerWriter


def test_lines_are_written_to_binary_and_text_streams() -> None:
    binary, text = io.BytesIO(), io.StringIO()
    for stream in (binary, text):
        writer = LineWriter(stream)
        writer.write(['{"a":1}\n', '{"ü":2}\n'])
        writer.flush()
        assert writer.pending_bytes == 0
    assert binary.getvalue().decode() == text.getvalue() == '{"a":1}\n{"ü":2}\n'


def test_without_a_stream_it_is_standard_output_as_it_is_then(
    capsysbinary: pytest.CaptureFixture[bytes],
) -> None:
    writer = LineWriter()
    writer.write(["{}\n"])
    print("before")
    writer.flush()
    assert capsysbinary.readouterr().out == b"before\n{}\n"


class Broken(io.RawIOBase):
    def write(self, _: Any) -> int:
        raise OSError("no space left")


@pytest.mark.parametrize("stream", [Broken(), pytest.param(None, id="closed")])
def test_what_cannot_be_written_is_counted(stream: Any) -> None:
    if stream is None:
        stream = io.BytesIO()
        stream.close()
    writer = LineWriter(stream)
    writer.write(["1\n", "2\n"])
    writer.flush()
    assert writer.dropped_lines == 2
    assert writer.pending_bytes == 0


def test_without_any_standard_output_lines_are_counted_as_dropped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sys.stdout", None)
    writer = LineWriter()
    writer.write(["1\n"])
    writer.flush()
    assert writer.dropped_lines == 1


def test_no_more_waits_than_was_allowed() -> None:
    writer = LineWriter(io.BytesIO(), max_pending_bytes=10)
    writer.write(["12345678\n"])
    writer.write(["12345678\n"])
    assert (writer.pending_bytes, writer.dropped_lines) == (9, 1)


def test_much_that_waits_wakes_the_flusher() -> None:
    woken: list[int] = []
    writer = LineWriter(io.BytesIO(), wake=lambda: woken.append(1))
    writer.write(["x" * 1000])
    assert woken == []
    writer.write(["x" * 300_000])
    assert woken == [1]


def test_a_pipe_gets_pieces_that_it_takes_whole() -> None:
    """Several workers share a pipe: what is written at once stays together up to 4,096 bytes."""
    reading, writing = os.pipe()
    sizes: list[int] = []

    class Spy(io.FileIO):
        def write(self, piece: Any) -> int:
            sizes.append(len(piece))
            return super().write(piece)

    with Spy(writing, "wb") as stream, os.fdopen(reading, "rb") as other:
        writer = LineWriter(stream)
        writer.write(["x" * 999 + "\n"] * 10 + ["y" * 5000 + "\n"])
        writer.flush()
        stream.close()
        assert other.read() == (b"x" * 999 + b"\n") * 10 + b"y" * 5000 + b"\n"
    assert sizes == [4000, 4000, 2000, 5001]


def test_a_stream_that_takes_nothing_blocks_no_writer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asgi_errorkit.writer.PATIENCE_SECONDS", 0.01)
    release, entered = threading.Event(), threading.Event()

    class Stuck(io.BytesIO):
        def write(self, piece: Any) -> int:
            entered.set()
            release.wait(10)
            return super().write(piece)

    stream = Stuck()
    writer = LineWriter(stream)
    writer.write(["1\n"])
    thread = threading.Thread(target=writer.flush)
    thread.start()
    assert entered.wait(10)
    writer.write(["2\n"])
    writer.flush()  # gives up
    release.set()
    thread.join()
    assert stream.getvalue() == b"1\n2\n"


def test_a_forked_child_drops_its_parents_lines() -> None:
    stream = io.BytesIO()
    writer = LineWriter(stream)
    writer.write(["parent\n"])
    writer.reset_after_fork()
    writer.write(["child\n"])
    writer.flush()
    assert stream.getvalue() == b"child\n"
    assert writer.pending_bytes == 0


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"stream": "path"}, TypeError, "stream must have a write method"),
        ({"max_pending_bytes": 0}, ValueError, "max_pending_bytes must be more than 0"),
    ],
)
def test_bad_options_are_refused(
    options: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        LineWriter(**options)


def test_a_logger_gets_each_line_by_its_level(caplog: pytest.LogCaptureFixture) -> None:
    woken: list[int] = []
    logger = logging.getLogger("asgi_errorkit.access")
    writer = LoggerWriter(logger, max_pending=20, wake=lambda: woken.append(1))
    lines = ['{"level":"INFO","n":1}\n', '{"level":"ERROR","n":"100%s"}\n']
    with caplog.at_level(logging.INFO, "asgi_errorkit.access"):
        writer.write(lines)
        writer.flush()
    assert [(r.levelname, r.getMessage(), r.fields["n"]) for r in caplog.records] == [
        ("INFO", '{"level":"INFO","n":1}', 1),
        ("ERROR", '{"level":"ERROR","n":"100%s"}', "100%s"),
    ]
    writer.write(lines * 15)
    assert writer.dropped_lines == 10
    assert woken
    writer.reset_after_fork()
    assert not writer._pending


def test_a_stream_of_ones_own_may_take_bytes_or_strings() -> None:
    class Strings:
        def __init__(self) -> None:
            self.got: list[str] = []

        def write(self, text: Any) -> None:
            assert isinstance(text, str)
            self.got.append(text)

    class Bytes(Strings):
        def write(self, text: Any) -> None:
            if not isinstance(text, bytes):
                raise TypeError(text)
            self.got.append(text.decode())

    for stream in (Strings(), Bytes()):
        writer = LineWriter(stream)  # type: ignore[arg-type]
        writer.write(['{"a":"ü"}\n'])
        writer.flush()
        assert stream.got == ['{"a":"ü"}\n']
        assert writer.dropped_lines == 0


def test_a_text_stream_that_cannot_encode_a_line_gets_it_escaped() -> None:
    class Ascii(io.StringIO):
        def write(self, text: str) -> int:
            text.encode("ascii")
            return super().write(text)

    stream = Ascii()
    writer = LineWriter(stream)
    writer.write(['{"a":"ü\U0001f600"}\n', '{"b":1}\n'])
    writer.flush()
    lines = stream.getvalue().splitlines()
    assert [json.loads(line) for line in lines] == [{"a": "ü\U0001f600"}, {"b": 1}]
    assert writer.dropped_lines == 0


def test_lines_that_cannot_be_written_are_counted_and_told_of_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Closed:
        def write(self, _: Any) -> int:
            raise OSError("closed")

    writer = LineWriter(Closed())  # type: ignore[arg-type]
    for _ in range(3):
        writer.write(["1\n", "2\n"])
        writer.flush()
    assert writer.dropped_lines == 6
    assert [record.name for record in caplog.records] == ["asgi_errorkit"]


@pytest.mark.parametrize(
    ("level", "has_handler", "words"),
    [
        (logging.INFO, True, None),
        (logging.WARNING, True, "set the level"),
        (logging.INFO, False, "has no handler"),
    ],
    ids=["configured", "level", "handler"],
)
def test_a_logger_that_takes_no_lines_is_told_of_once(
    level: int, has_handler: bool, words: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    logger = logging.Logger("quiet", level)
    if has_handler:
        logger.addHandler(logging.NullHandler())
    writer = LoggerWriter(logger)
    for _ in range(3):
        writer.write(['{"level":"INFO"}\n', '{"level":"INFO"}\n'])
        writer.flush()
    told = [record.message for record in caplog.records if record.name == "asgi_errorkit"]
    assert len(told) == (words is not None)
    assert all(words in message for message in told if words)
