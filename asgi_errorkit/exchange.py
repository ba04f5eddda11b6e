"""The exchange: everything the kit knows about one request, and the flat record made from it."""

import re
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar, Token
from math import inf
from typing import Any, Final, Generic, NamedTuple, Protocol, TypeAlias, TypeVar

from asgi_errorkit.classify import Verdict
from asgi_errorkit.fingerprint import Snapshot
from asgi_errorkit.types import Message, Scope, Send

__all__ = ["Caught", "Deadline", "Exchange", "Record", "Seen", "State", "begin", "current"]

T = TypeVar("T")

KEY: Final = "asgi_errorkit.exchange"
"""Where the exchange lies in the scope while the request runs, as the bound ``state.copy``: a deep
copy of the scope takes a built-in method over as it is, where it would copy all that a list holds."""

State: TypeAlias = list[Any]
"""What a running exchange is made of; one list is made faster than many attributes."""

Record: TypeAlias = Sequence[Any]
"""What the sinks read: the state of an exchange that has ended, or the announcement of one that
goes on. Flat, and of atoms: whatever the garbage collector has to look at between two drains is
paid for by every request."""

# The places in both. Those from ID to CAUGHT are what the metrics keep of a request.
(
    STAMP,  # the ring's sequence number
    KIND,  # START, END or ERROR
    ID,  # str, the request id
    METHOD,  # str
    PATH,  # str, decoded
    STARTED,  # float, seconds of the recorder's clock, as are ENDED and FIRST_BYTE
    ENDED,  # the response's last byte; without one, the return of the app
    MEMORY_BEFORE,  # float, MiB of the process
    MEMORY_AFTER,
    STATUS,  # int; None when nothing was started
    CAUGHT,  # Caught, or None
    QUERY,  # bytes
    HEADERS,  # dict of bytes to bytes; of a repeated header the last
    CLIENT,  # (host, port) or None
    SCHEME,  # str
    LOGGED,  # int, the claim of the sink that writes the log lines: the outermost; or NOBODY
    SCOPE,  # dict, the ASGI scope; the running request's alone, and None in a record
    NOW,  # callable, the recorder's clock; the same
    SEND,  # callable, the server's; the same
    CHOICES,  # Choices of the frame whose judgement applies
    OPENER,  # Choices of the frame that has opened it, the outermost
    FIRST_BYTE,  # the response's start; None when there was none
    SENT,  # int, body bytes of the response; of a websocket all that was sent
    RECEIVED,  # int, body bytes that the app read
    COMPLETE,  # bool, the response was finished
    DISCONNECTED,  # bool, the client left before that
    INTERRUPTED,  # bool, cancelled, or the process is leaving
    ROUTE,  # str, the matched template; None when the framework does not say
    PARAMS,  # dict of path parameters, or None
    EXTRA,  # dict of added log fields, or None
    SESSION,  # (messages in, messages out, close code) of a websocket, or None
    ENDED_AS,  # one of GIVEN, said by code that refused the request or cut it short; or None
    # The rest belongs to the running request alone, and is emptied before the record is made.
    SEEN,  # Seen: the exception that was met last, and whom it was told to; or None
    HELD,  # list of the messages held back, or None
    JOINED,  # tuple of the recorders of frames further in
    ANNOUNCED,  # bool, its start has been logged; only the drain writes it
    TAKEN,  # AMID: taken from the ring while it ran; DONE: handed on since; else None
    DEADLINE,  # Deadline of what limits its time, the innermost; emptied by that; or None
    PLACE,  # int, where it is listed as in flight; or None. Of a record too
) = range(39)

UNKNOWN: Final = (None, 0, 0, False, False, False, *(None,) * 7, (), False, None, None, None)
"""The places from FIRST_BYTE on, of an exchange that begins."""

START, END, ERROR = range(3)

AMID, DONE = range(1, 3)

GIVEN: Final = ("timeout", "shed", "circuit_open")
"""The outcomes that nobody can tell from outside: whoever refuses a request says which it is."""

FALLBACK: Final = "fallback"
"""As ``ENDED_AS``: something else answers in place of what failed."""

NOBODY: Final = 0
"""As ``LOGGED``: nobody writes the lines of this exchange."""


class Caught(NamedTuple):
    """What is kept of an error: its snapshot (None when only told of), and the verdict on it."""

    snapshot: Snapshot | None
    verdict: Verdict
    context: dict[str, Any] | None = None
    late: bool = False  # it came after the complete response
    counted_by: tuple[int, ...] = ()  # the ids of the trackers that were told of it before
    handled: bool = False  # the app has a handler for it, whose answer says how bad it is
    despite_status: bool = False  # answered with 200 or 400 although nobody meant it: GraphQL, MCP


class Deadline(Protocol):
    """What limits the time of an exchange; ``called`` tells that it has been told to end, and has not
    completed its response all the same."""

    @property
    def called(self) -> bool: ...
    def remaining(self) -> float: ...


class Seen(NamedTuple):
    """The exception that was met last, and whom it was told to."""

    exc: BaseException
    counted_by: tuple[int, ...] = ()  # the ids of trackers
    untold: bool = False  # the application's own hook has yet to hear of it
    answered: bool = False  # a handler of the app's own answers it; it is raised on afterwards


def state_in(scope: Mapping[str, Any]) -> State:
    """The state of the exchange that a scope with a ``KEY``, or its copy, belongs to."""
    state: State = scope[KEY].__self__
    return state


def is_cut_off(state: State) -> bool:
    """Whether the kit has told the exchange to end, and its client has not left.

    An app that is told so by a disconnect may say that its client has gone: it has not.
    """
    deadline: Deadline | None = state[DEADLINE]
    return deadline is not None and deadline.called and not state[DISCONNECTED]


def is_open(scope: Scope) -> bool:
    """Whether a frame further out has opened an exchange for this scope that goes on."""
    return KEY in scope and state_in(scope)[SCOPE] is not None


CURRENT: ContextVar[State | None] = ContextVar("asgi_errorkit.exchange", default=None)

_TRACEPARENT = re.compile(
    rb"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-[0-9a-f]{2}(?:-.*)?"
)


def trace_context(headers: dict[bytes, bytes]) -> tuple[str, str] | None:
    """The (trace id, parent span id) of a valid W3C traceparent header (Trace Context level 2)."""
    value = headers.get(b"traceparent")
    if value is None:
        return None
    found = _TRACEPARENT.fullmatch(value[:512])
    if found is None or (value[:2] == b"00" and len(value) != 55):
        return None
    return found[1].decode(), found[2].decode()


def begin(
    scope: Scope,
    headers: dict[bytes, bytes],
    request_id: str,
    clock: Callable[[], float],
    memory: float,
    logged: int = NOBODY,
    send: Send | None = None,
    choices: Any = None,
) -> State:
    """The state of an exchange that begins now."""
    get = scope.get
    return [
        0,
        END,
        request_id,
        get("method") or "GET",
        get("path") or "",
        clock(),
        None,  # ENDED
        memory,
        memory,
        None,  # STATUS
        None,  # CAUGHT
        get("query_string") or b"",
        headers,
        get("client"),
        get("scheme") or "http",
        logged,
        scope,
        clock,
        send,
        choices,
        choices,
        *UNKNOWN,
    ]


def announcement(state: State) -> Record:
    """The record that tells of the beginning of an exchange that goes on."""
    return (0, START, *state[ID:SCOPE], None, None, None, None, None, *state[FIRST_BYTE:SEEN])


class _Place(Generic[T]):
    """An attribute of an exchange that lies in its state."""

    __slots__ = ("_index",)

    def __init__(self, index: int) -> None:
        self._index = index

    def __get__(self, exchange: "Exchange", owner: type | None = None) -> T:
        value: T = exchange.state[self._index]
        return value

    def __set__(self, exchange: "Exchange", value: T) -> None:
        exchange.state[self._index] = value


class Exchange:
    """One request or websocket session, from its first event to its last, seen by name.

    Written by the tasks of that one request until its record is published, then let go. Times are
    seconds of the recorder's monotonic clock, sizes are bytes. Two views of one state are equal.
    """

    __slots__ = ("state",)

    request_id = _Place[str](ID)
    method = _Place[str](METHOD)
    path = _Place[str](PATH)
    headers = _Place[dict[bytes, bytes]](HEADERS)
    started_at = _Place[float](STARTED)
    ended_at = _Place[float | None](ENDED)
    first_byte_at = _Place[float | None](FIRST_BYTE)
    status = _Place[int | None](STATUS)
    sent = _Place[int](SENT)
    received = _Place[int](RECEIVED)
    complete = _Place[bool](COMPLETE)
    disconnected = _Place[bool](DISCONNECTED)
    interrupted = _Place[bool](INTERRUPTED)
    caught = _Place[Caught | None](CAUGHT)
    extra = _Place[dict[str, Any] | None](EXTRA)
    session = _Place[list[int | None] | None](SESSION)
    route = _Place[str | None](ROUTE)
    scope = _Place[Scope | None](SCOPE)
    send = _Place[Send | None](SEND)
    choices = _Place[Any](CHOICES)
    seen = _Place[Seen | None](SEEN)
    held = _Place[list[Message] | None](HELD)
    joined = _Place[tuple[Any, ...]](JOINED)
    logged = _Place[int](LOGGED)
    ended_as = _Place[str | None](ENDED_AS)
    deadline = _Place[Deadline | None](DEADLINE)

    def __init__(self, state: State) -> None:
        self.state = state

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Exchange) and self.state is other.state

    def __hash__(self) -> int:
        return id(self.state)

    def __repr__(self) -> str:
        return f"<Exchange {self.request_id} {self.method} {self.path!r:.200}>"

    def now(self) -> float:
        """Seconds of the clock by which this exchange is timed."""
        clock = self.state[NOW]
        return float(self.state[ENDED] if clock is None else clock())

    @property
    def trace_id(self) -> str | None:
        """The caller's W3C trace id, 32 hex digits; None when it sent none."""
        context = trace_context(self.headers)
        return context[0] if context else None

    @property
    def parent_span_id(self) -> str | None:
        """The caller's W3C span id, 16 hex digits; None when it sent none."""
        context = trace_context(self.headers)
        return context[1] if context else None

    @property
    def started(self) -> bool:
        """Whether the response has started: from then on its status cannot change."""
        return self.status is not None

    @property
    def elapsed_seconds(self) -> float:
        """Seconds since the request came in; of an ended one, how long it took."""
        ended_at = self.ended_at
        return float((self.now() if ended_at is None else ended_at) - self.started_at)

    def remaining(self) -> float | None:
        """Seconds until the time given to this request is up, 0 at the least; None if none was.

        Until the response has started, the time given to its start counts too.
        """
        deadline = self.deadline
        left = inf if deadline is None else deadline.remaining()
        return None if left == inf else max(0.0, left)

    def end_as(self, outcome: str) -> None:
        """Say why a request is refused or cut short: "timeout", "shed" or "circuit_open".

        It then ends with that outcome, unless it is answered completely and below 400 after all.
        Raises ValueError for any other word.
        """
        if outcome not in GIVEN:
            raise ValueError(
                f"an exchange can be said to end as one of {GIVEN}; got {outcome!r:.200}"
            )
        self.state[ENDED_AS] = outcome

    def annotate(self, **fields: Any) -> None:
        """Add fields to this exchange's log line; the kit's own fields cannot be replaced."""
        if self.extra is None:
            self.extra = {}
        self.extra.update(fields)


def route_of(scope: Scope) -> str | None:
    """The route template that the framework wrote into the scope, with the prefix of its mounts."""
    prefix = scope.get("root_path") or ""
    template = scope.get("path_template")  # Litestar, and what hooks of ours have found out
    if isinstance(template, str):
        is_within = template[:1] == "/" and not template.startswith(f"{prefix}/")
        return f"{prefix}{template}" if is_within else template
    route = scope.get("route")  # Starlette, FastAPI
    if type(route).__name__ == "Mount":  # what it leads to does not say any more
        return f"{prefix}/{{path}}"
    template = getattr(_effective(scope) or route, "path", None)
    return f"{prefix}{template}" if isinstance(template, str) else None


def _effective(scope: Scope) -> Any:
    """What newer FastAPIs say of a route of a router that was included under a prefix."""
    known = scope.get("fastapi")
    return known.get("effective_route_context") if isinstance(known, dict) else None


def told_of(exchange: Exchange | None, caught: Caught, clock: Callable[[], float]) -> State:
    """The state to publish for an error told of within ``exchange``, after it, or outside of any."""
    if exchange is None:
        state = begin({}, {}, "", clock, 0.0)
        state[METHOD] = ""
    else:
        scope = {"method": exchange.method, "path": exchange.path}
        scope["query_string"] = exchange.state[QUERY]
        state = begin(scope, exchange.headers, exchange.request_id, clock, 0.0)
        state[ROUTE] = exchange.route or _route_so_far(exchange.scope)
    state[KIND] = ERROR
    state[CAUGHT] = caught
    state[ENDED] = state[STARTED]
    state[SCOPE] = state[NOW] = None
    return state


def _route_so_far(scope: Scope | None) -> str | None:
    """The route of a request that goes on."""
    try:
        return route_of(scope) if scope is not None else None
    except Exception:  # noqa: BLE001  the framework's own objects may do anything when looked at
        return None


def tell_route(scope: Scope, template: str) -> None:
    """Write the matched route into a scope; a copy that a middleware made tells its exchange too."""
    scope["path_template"] = template
    if is_open(scope):
        state = state_in(scope)
        if state[SCOPE] is not scope:
            state[ROUTE] = route_of(scope)


def leave(token: Token[State | None]) -> None:
    """Put back what was current before."""
    try:
        CURRENT.reset(token)
    except ValueError:
        pass


def current() -> Exchange | None:
    """The exchange that the calling code runs for; None outside of one.

    Works in handlers, the tasks they start, and the threads that frameworks run sync handlers in.
    """
    state = CURRENT.get()
    return None if state is None else Exchange(state)
