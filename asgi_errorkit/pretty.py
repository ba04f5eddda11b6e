"""Log lines for people: what the kit writes as JSON, one readable line each, on a terminal in colour."""

import os
import sys
from collections.abc import Mapping
from datetime import datetime
from typing import IO, Any, Final

import orjson

__all__ = ["PrettyLines"]

_STARTS: Final = frozenset({"request_start"})
_ENDS: Final = frozenset({"request_complete", "request_error"})
_SESSIONS: Final = frozenset({"websocket_open", "websocket_close"})

# What has a place of its own in a line, or tells a person nothing that is worth one.
_SHOWN: Final = frozenset(
    (
        "timestamp level event method url path status_code duration request_id outcome route error "
        "error_type traceback blocked_ms blocked_by blocked_by_request held_up held_up_count where "
        "source stack total_ms count client_ip user_agent memory_usage request_size response_size "
        "time_to_first_byte sample_rate span_id close_code"
    ).split()
)

_RESET: Final = "\x1b[0m"
_STYLES: Final = {
    "dim": "\x1b[2m",
    "bold": "\x1b[1m",
    "red": "\x1b[31m",
    "green": "\x1b[32m",
    "yellow": "\x1b[33m",
    "cyan": "\x1b[36m",
}
_LEVELS: Final = {"INFO": "green", "WARNING": "yellow", "ERROR": "red", "CRITICAL": "red"}
_STATUSES: Final = {2: "green", 3: "cyan", 4: "yellow", 5: "red"}

_WIDTH = 2048


class PrettyLines:
    """A stream that takes the kit's JSON lines and writes each as a person reads it.

    ``StructuredLoggingMiddleware(app, stream=PrettyLines())``: time, level, method, path, status,
    duration and id, and under an error its traceback. A start is shown only of what has not ended
    by the time it is written. ``stream`` is a text stream; None means ``sys.stdout`` as it is at
    each write. ``color``: None colours a terminal only, and heeds NO_COLOR and FORCE_COLOR. What
    could control a terminal is escaped; what is no such line is passed on as text.
    """

    def __init__(self, stream: IO[str] | None = None, *, color: bool | None = None) -> None:
        if stream is not None and not callable(getattr(stream, "write", None)):
            raise TypeError(f"stream must have a write method, or be None; got {stream!r:.200}")
        if color is not None and not isinstance(color, bool):
            raise TypeError(f"color must be True, False or None; got {color!r:.200}")
        self._stream = stream
        self._color = color

    def write(self, lines: bytes | str) -> None:
        """Take whole lines; raises only what the stream itself raises."""
        text = lines if isinstance(lines, str) else lines.decode("utf-8", "replace")
        # Not `splitlines`, which also parts at what may stand within a line.
        told = [_parsed(line) for line in text.split("\n") if line]
        ended = {each.get("request_id") for each in told if each.get("event") in _ENDS}
        stream = sys.stdout if self._stream is None else self._stream
        if stream is None:  # a program without a console
            return
        in_color = _wants_color(stream) if self._color is None else self._color
        shown = [
            _line(each, in_color)
            for each in told
            if not (each.get("event") in _STARTS and each.get("request_id") in ended)
        ]
        if shown:
            _write(stream, "".join(f"{line}\n" for line in shown))

    def flush(self) -> None:
        """Have the stream write what it holds."""
        stream = sys.stdout if self._stream is None else self._stream
        if stream is not None and hasattr(stream, "flush"):
            stream.flush()


def _write(stream: IO[str], text: str) -> None:
    try:
        stream.write(text)
    except UnicodeEncodeError:  # a console of few letters
        encoding = getattr(stream, "encoding", None) or "ascii"
        stream.write(text.encode(encoding, "backslashreplace").decode(encoding))


def _wants_color(stream: IO[str]) -> bool:
    """As Python itself decides for its tracebacks: NO_COLOR first, then FORCE_COLOR."""
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    if os.environ.get("TERM") == "dumb":
        return False
    try:
        return stream.isatty()
    except (AttributeError, ValueError):  # a stream of one's own, or one that is closed
        return False


def _parsed(line: str) -> dict[str, Any]:
    """The members of a line; of what is none, its text alone."""
    try:
        told: Any = orjson.loads(line)
    except (ValueError, RecursionError):
        return {"text": line}
    is_ours = isinstance(told, dict) and isinstance(told.get("event"), str)
    is_ours = is_ours and isinstance(told.get("request_id", ""), str | None)
    return told if is_ours else {"text": line}


def _line(told: Mapping[str, Any], in_color: bool) -> str:
    try:
        return _Painter(in_color).line(told)
    except Exception:  # noqa: BLE001  a member of another type than the kit gives it
        return _plain(told)


class _Painter:
    """Makes one text of a line's members."""

    def __init__(self, in_color: bool) -> None:
        self._in_color = in_color

    def line(self, told: Mapping[str, Any]) -> str:
        if "text" in told:
            return _plain(told["text"])
        level = _plain(told.get("level", ""))
        parts = [
            self._paint(_time(told.get("timestamp")), "dim"),
            self._paint(f"{level:<8}", _LEVELS.get(level, "")),
            *self._story(told, told["event"]),
            self._paint(_plain(told.get("request_id") or ""), "dim"),
            self._paint(_others(told), "dim"),
        ]
        first = " ".join(part for part in parts if part).rstrip()
        return "\n".join([first, *self._beneath(told)])

    def _story(self, told: Mapping[str, Any], event: str) -> list[str]:
        if event == "loop_blocked":
            return self._block(told)
        if event in _STARTS | _ENDS | _SESSIONS:
            return self._exchange(told, event)
        return [self._paint(_plain(event), "bold")]

    def _exchange(self, told: Mapping[str, Any], event: str) -> list[str]:
        names = {"websocket_open": "open", "websocket_close": "close", "request_start": "begins"}
        status = told.get("status_code")
        color = _STATUSES.get(status // 100, "") if isinstance(status, int) else ""
        code = told.get("close_code")
        outcome = told.get("outcome")
        return [
            self._paint("WS" if event in _SESSIONS else _plain(told.get("method")), "bold"),
            _path(told.get("url")),
            names.get(event, ""),
            self._paint("" if status is None else _plain(status), color),
            "" if code is None else _plain(code),
            _span(told.get("duration")),
            self._paint("" if outcome in (None, "ok") else _plain(outcome), color or "red"),
            self._blocked(told),
        ]

    def _blocked(self, told: Mapping[str, Any]) -> str:
        blocked = told.get("blocked_ms")
        if blocked is None:
            return ""
        by = _plain(told.get("blocked_by"))
        other, held = told.get("blocked_by_request"), told.get("held_up_count")
        whose = f" of {_plain(other)}" if other else ""
        more = f", held up {_plain(held)} more" if held else ""
        return self._paint(f"(blocked {_plain(blocked)} ms by {by}{whose}{more})", "yellow")

    def _block(self, told: Mapping[str, Any]) -> list[str]:
        count = told.get("count") or 1
        often = f" ({count} times, {_plain(told.get('total_ms'))} ms)" if count > 1 else ""
        held = told.get("held_up_count")
        method = told.get("method")
        return [
            self._paint(f"loop blocked {_plain(told.get('blocked_ms'))} ms", "bold"),
            f"at {_plain(told.get('where'))}{often}",
            f"in {_plain(method)} {_plain(told.get('path'))}" if method else "",
            f"held up {_plain(held)} more" if held else "",
        ]

    def _beneath(self, told: Mapping[str, Any]) -> list[str]:
        """The error, and where it came from; of a block its line."""
        traceback, error, source = (told.get(n) for n in ("traceback", "error", "source"))
        if traceback:
            return [f"    {_plain(each)}" for each in str(traceback).split("\n")]
        if error:
            name = told.get("error_type")
            text = f"{name}: {error}" if name else error
            return [f"    {self._paint(_plain(text), 'red')}"]
        return [f"    {_plain(source)}"] if source else []

    def _paint(self, text: str, style: str) -> str:
        if not (self._in_color and text and style):
            return text
        return f"{_STYLES[style]}{text}{_RESET}"


def _others(told: Mapping[str, Any]) -> str:
    """What else a line tells."""
    more = {name: value for name, value in told.items() if name not in _SHOWN}
    return " ".join(
        f"{_plain(name)}={_plain(value)}" for name, value in more.items() if value is not None
    )


def _time(timestamp: object) -> str:
    """The time of day where the reader is."""
    try:
        at = datetime.fromisoformat(str(timestamp)).astimezone()
    except (ValueError, OverflowError, OSError):
        return _plain(timestamp or "")
    return f"{at:%H:%M:%S}.{at.microsecond // 1000:03d}"


def _path(url: object) -> str:
    """The URL without the host, which is the reader's own."""
    text = _plain(url)
    scheme, found, rest = text.partition("://")
    if not found or "/" in scheme:
        return text
    return f"/{rest.partition('/')[2]}"


def _span(seconds: object) -> str:
    if not isinstance(seconds, (int, float)):
        return ""
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1000:.1f} ms"


def _plain(value: object) -> str:
    """Text that no terminal takes for a command: all that is not printed is escaped."""
    text = (value if isinstance(value, str) else str(value))[:_WIDTH]
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else _escaped(each) for each in text)


def _escaped(letter: str) -> str:
    return letter.encode("unicode_escape", "surrogatepass").decode("ascii")
