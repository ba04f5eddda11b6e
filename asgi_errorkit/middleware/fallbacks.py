"""Fallbacks as middleware: something else answers in place of what failed or was refused."""

import logging
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from inspect import isawaitable
from typing import Any, Protocol, TypeAlias, TypeGuard

from asgi_errorkit.apps import choices_within, coroutine_marker, single_callable
from asgi_errorkit.attempt import Failing, attempt
from asgi_errorkit.choices import watching
from asgi_errorkit.composition import check_order
from asgi_errorkit.errors import ErrorAction, ErrorType
from asgi_errorkit.exchange import FALLBACK, GIVEN, KEY, Caught, Exchange, is_open, state_in
from asgi_errorkit.failure import is_disconnect, keep
from asgi_errorkit.frame import frame
from asgi_errorkit.identity import RequestIds
from asgi_errorkit.options import can_take, check_type, is_header
from asgi_errorkit.patterns import PathTable
from asgi_errorkit.problem import Answer
from asgi_errorkit.refusal import send_answer
from asgi_errorkit.response import with_header
from asgi_errorkit.stale import StaleCopies
from asgi_errorkit.tracker import ErrorTracker
from asgi_errorkit.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["Fallback", "FallbackMiddleware"]

Made: TypeAlias = Answer | None
Fallback: TypeAlias = (
    Answer | StaleCopies | ASGIApp | Callable[[Exchange, Failing], Made | Awaitable[Made]]
)
Key: TypeAlias = ErrorType | ErrorAction | str

logger = logging.getLogger("asgi_errorkit")

_HEADER = b"x-fallback"
_SAFE = frozenset(("GET", "HEAD", "OPTIONS", "TRACE", "QUERY"))  # RFC 9110, 9.2.1


class Fallbacks(Protocol):
    """A mapping of what fails to what answers, as type checkers know it.

    `Mapping[Key, ...]` itself, whose keys are invariant, would not take a ``dict[ErrorType, ...]``.
    """

    def items(self) -> AbstractSet[tuple[Key, Fallback | Sequence[Fallback]]]: ...


class FallbackMiddleware:
    """Has something else answer where the app fails before its response, or is refused.

    ``fallbacks`` says what, by path (see `asgi_errorkit.patterns.PathTable`), by outcome ("timeout",
    "shed", "circuit_open"), by `ErrorType`, or with `ErrorAction.FALLBACK` for all types whose
    policy has that action; the first of these that is there for a failure is taken. A fallback is
    an `Answer`; a `StaleCopies`, which keeps the last good responses and gives them out again; a
    callable of (exchange, failing) that returns an `Answer` or None, also async; or another ASGI
    app, a callable of (scope, receive, send). A list of them is tried in its order; where none has
    an answer, the failure goes its way. What the app writes into its scope changes nothing: all
    is judged by the request as it came. It stands outside of timeouts: give one that may take long
    a time of its own. A path's fallback answers for every refusal and every failure of 500 and
    more, or only for the types and outcomes that ``on`` names. What answered is told in the header
    X-Fallback and in the log; below 400 the outcome is "fallback", and the error is counted all the
    same. Raises TypeError or ValueError for an option that cannot work.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        fallbacks: Fallbacks,
        on: Collection[ErrorType | str] | None = None,
        error_tracker: ErrorTracker | None = None,
        request_ids: RequestIds | None = None,
    ) -> None:
        check_type("error_tracker", error_tracker, ErrorTracker)
        check_type("request_ids", request_ids, RequestIds)
        check_order(self, app)
        chains = {key: _chain(key, given) for key, given in _items(fallbacks)}
        tracker = error_tracker or ErrorTracker()
        self.app = app
        self.answered = {"static": 0, "stale": 0, "callable": 0, "app": 0}
        self.hook_errors = 0
        self._on = None if on is None else _checked_on(on)
        self._by_type = {k: c for k, c in chains.items() if isinstance(k, ErrorType)}
        self._by_outcome = {k: c for k, c in chains.items() if k in GIVEN}
        self._by_policy: _Chain = chains.get(ErrorAction.FALLBACK, ())
        by_path = {k: c for k, c in chains.items() if isinstance(k, str) and k not in GIVEN}
        self._by_path: PathTable[_Chain] = PathTable(by_path, name="fallbacks")
        self._copies = _copies(chains.values())
        self._copies_by_type = _copies(
            [*self._by_type.values(), *self._by_outcome.values(), self._by_policy]
        )
        self._has_apps = any(kind == "app" for chain in chains.values() for kind, _ in chain)
        self._inner = single_callable(app)
        within = choices_within(app)
        self.choices = watching(tracker.recorder, tracker.classifier, within, request_ids)
        self._alone = frame(self._serve, self.choices)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> Any:
        if KEY in scope and is_open(scope):
            return await self._serve(scope, receive, send)
        return await self._alone(scope, receive, send)

    def as_dict(self) -> dict[str, Any]:
        """How often each kind of fallback answered, what broke, and what copies there are."""
        return {
            "answered": dict(self.answered),
            "hook_errors": self.hook_errors,
            "stale": [copies.as_dict() for copies in self._copies],
        }

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> Any:
        if scope.get("type") != "http":
            return await self._inner(scope, receive, send)
        exchange = Exchange(state_in(scope))
        asked = _copied(scope)
        handed_on = _HandedOn(receive) if self._has_apps else None

        async def take_over(failing: Failing) -> bool:
            return await self._answers(exchange, failing, asked, handed_on, send)

        result, failed = await attempt(
            self._inner,
            exchange,
            scope,
            receive if handed_on is None else handed_on.receive,
            self._recorded(asked, send) if self._copies else send,
            take_over,
        )
        if failed is not None and failed.exc is not None and failed.status is not None:
            _note_raised_on(exchange, failed.exc)
        return result

    def _recorded(self, asked: Scope, send: Send) -> Send:
        """Have the copies see what passes."""
        is_safe = asked.get("method") in _SAFE
        recordings = [r for c in self._copies_for(asked) if (r := c.recording(asked)) is not None]
        if is_safe and not recordings:
            return send

        def recorded_send(message: Message) -> Awaitable[None]:
            try:
                if not is_safe:
                    self._forget(asked, message)
                for recording in recordings:
                    recording.see(message)
            except Exception:  # noqa: BLE001  an observer that breaks must not break the request
                self.hook_errors += 1
            return send(message)

        mark = coroutine_marker()
        return mark(recorded_send) if mark is not None else recorded_send

    def _copies_for(self, asked: Scope) -> list[StaleCopies]:
        """Those that may have to answer such a request: to keep a copy costs some 30 us."""
        of_types = self._copies_by_type
        of_path = _copies([self._by_path.get(asked) or ()])
        return of_types + [copies for copies in of_path if copies not in of_types]

    def _forget(self, asked: Scope, message: Message) -> None:
        """What an unsafe method has changed is not given out any more (RFC 9111, 4.4)."""
        if message.get("type") == "http.response.start" and message["status"] < 400:
            for copies in self._copies:
                copies.forget(asked)

    async def _answers(
        self,
        exchange: Exchange,
        failing: Failing,
        asked: Scope,
        handed_on: "_HandedOn | None",
        send: Send,
    ) -> bool:
        """Whether a fallback has answered; the first that has an answer does."""
        for kind, fallback in self._chain(failing, asked):
            marked = _Marked(send, kind)
            try:
                if not await self._one_answers(
                    kind, fallback, exchange, failing, asked, handed_on, marked
                ):
                    continue
            except Exception as exc:  # a fallback that breaks gives way to the next
                if not is_disconnect(exchange, exc):
                    self._count_hook_error(fallback, exc)
                if marked.started:
                    raise
                continue
            self.answered[kind] += 1
            exchange.annotate(
                fallback=kind,
                fallback_for=failing.refused_as or failing.verdict.info.error_type.value,
            )
            if (marked.status or 500) < 400:
                exchange.ended_as = FALLBACK
            return True
        return False

    def _count_hook_error(self, broken: object, error: Exception) -> None:
        """Count it, and say so once: what goes wrong each time would fill the log."""
        self.hook_errors += 1
        if self.hook_errors == 1:
            logger.error("%r failed; further failures are only counted", broken, exc_info=error)

    async def _one_answers(
        self,
        kind: str,
        fallback: Any,
        exchange: Exchange,
        failing: Failing,
        asked: Scope,
        handed_on: "_HandedOn | None",
        marked: "_Marked",
    ) -> bool:
        if kind == "app" and handed_on is not None:
            _note(exchange, failing)
            await fallback(_copied(asked), handed_on.rest(), marked.send)
            return marked.started
        made = await _made(kind, fallback, exchange, failing, asked)
        if made is None:
            return False
        _check_answer(made)
        if kind != "stale":  # a copy has all that the app has sent
            made = _joined(made, exchange, asked)
        _note(exchange, failing)
        await send_answer(made, asked, marked.send)
        return True

    def _chain(self, failing: Failing, asked: Scope) -> "_Chain":
        info, outcome = failing.verdict.info, failing.refused_as
        by_path = self._by_path.get(asked)
        if by_path is not None and self._is_named(failing):
            return by_path
        if outcome is not None and outcome in self._by_outcome:
            return self._by_outcome[outcome]
        if info.error_type in self._by_type:
            return self._by_type[info.error_type]
        return self._by_policy if info.action is ErrorAction.FALLBACK else ()

    def _is_named(self, failing: Failing) -> bool:
        """Whether a path's fallback is there for this."""
        verdict, outcome = failing.verdict, failing.refused_as
        if self._on is None:
            return outcome is not None or verdict.status_code >= 500
        return outcome in self._on or verdict.info.error_type in self._on


_Chain: TypeAlias = tuple[tuple[str, Any], ...]


async def _made(
    kind: str, fallback: Any, exchange: Exchange, failing: Failing, asked: Scope
) -> Any:
    if kind == "static":
        return fallback
    if kind == "stale":
        copy = fallback.find(asked)
        return None if copy is None else copy.answer(fallback.clock())
    made = fallback(exchange, failing)
    return await made if isawaitable(made) else made


def _joined(made: Answer, exchange: Exchange, asked: Scope) -> Answer:
    """The answer with the headers that are wanted in each, but for those that it has of its own."""
    answers = exchange.choices.answers
    if answers is None:
        return made
    own = {name.lower() for name, _ in made.headers} - {b"vary"}
    extra = [(n, v) for n, v in answers.extra_headers(asked) if n.lower() not in own]
    return made._replace(headers=[*made.headers, *extra])


def _copied(scope: Scope) -> Scope:
    """The request as it came: routers and mounts within write into the very scope they are given.

    What the server shares with the app, the state and the extensions, stays shared.
    """
    copy = dict(scope)
    headers = copy.get("headers")
    if headers.__class__ is list:
        copy["headers"] = headers[:]  # they say who asks: what is private is not for all
    return copy


class _HandedOn:
    """The body as the next app gets it: when one before has read of it, it is at its end."""

    __slots__ = ("_is_read", "_receive")

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._is_read = False

    async def receive(self) -> Message:
        """What the first app reads by."""
        self._is_read = True
        return await self._receive()

    def rest(self) -> Receive:
        """What the next reads by."""
        return _at_end(self._receive) if self._is_read else self.receive


def _at_end(receive: Receive) -> Receive:
    is_told = False

    async def rest() -> Message:
        nonlocal is_told
        if not is_told:
            is_told = True
            return {"type": "http.request", "body": b"", "more_body": False}
        message = await receive()
        while message.get("type") == "http.request":
            message = await receive()  # what was left of it
        return message

    return rest


class _Marked:
    """The response of a fallback, with the header that says so."""

    __slots__ = ("_kind", "_send", "started", "status")

    def __init__(self, send: Send, kind: str) -> None:
        self.started = False
        self.status: int | None = None
        self._kind = kind
        self._send = send

    async def send(self, message: Message) -> None:
        if message.get("type") == "http.response.start":
            self.started = True
            self.status = message.get("status")
            message = with_header(message, _HEADER, self._kind)
        await self._send(message)


def _note(exchange: Exchange, failing: Failing) -> None:
    """Keep the error while it is known that it came before any response, and was not answered."""
    caught, seen = exchange.caught, exchange.seen
    if failing.exc is not None:
        keep(exchange, failing.exc, exchange.choices)
    elif caught is not None:
        exchange.caught = caught._replace(handled=False)
    elif seen is not None and isinstance(seen.exc, Exception):
        keep(exchange, seen.exc, exchange.choices)
    else:
        exchange.caught = Caught(None, failing.verdict)


def _note_raised_on(exchange: Exchange, exc: Exception) -> None:
    """What the app raises after its own 500 came before any response too: that was dropped."""
    if keep(exchange, exc, exchange.choices) and exchange.caught is not None:
        exchange.caught = exchange.caught._replace(late=False)


def _items(fallbacks: object) -> list[tuple[Any, Any]]:
    if not isinstance(fallbacks, Mapping) or not fallbacks:
        raise TypeError(
            "fallbacks must be a mapping of what fails to what answers, e.g. {ErrorType.CACHE: "
            f'StaleCopies(), "circuit_open": Answer(200, [], b"[]")}}; got {fallbacks!r:.200}'
        )
    for key in fallbacks:
        if not isinstance(key, (ErrorType, str)) and key is not ErrorAction.FALLBACK:
            raise TypeError(
                "fallbacks must have an ErrorType, an outcome, a path or ErrorAction.FALLBACK as "
                f"each of its keys; got {key!r:.200}"
            )
    return list(fallbacks.items())


def _chain(key: object, given: object) -> _Chain:
    listed = given if _is_listed(given) else [given]
    if not listed:
        raise ValueError(f"the list of fallbacks for {key!r} is empty: leave it out")
    return tuple(_kind(key, each) for each in listed)


def _is_listed(given: object) -> TypeGuard[Sequence[object]]:
    # An Answer is a tuple too, and an app may be a sequence of its routes.
    is_one = isinstance(given, (Answer, str, bytes)) or callable(given)
    return isinstance(given, Sequence) and not is_one


def _kind(key: object, fallback: Any) -> tuple[str, Any]:
    """What a fallback is, and the fallback in the form in which it is used."""
    if isinstance(fallback, StaleCopies):
        return "stale", fallback
    if isinstance(fallback, Answer):
        _check_answer(fallback)
        return "static", fallback
    if callable(fallback) and can_take(fallback, 3):
        return "app", single_callable(fallback)
    if callable(fallback) and can_take(fallback, 2):
        return "callable", fallback
    raise TypeError(
        f"the fallback for {key!r} must be an Answer, a StaleCopies, a callable of (exchange, "
        f"failing), or an ASGI app of (scope, receive, send); got {fallback!r:.200}"
    )


def _check_answer(made: object) -> None:
    if not isinstance(made, Answer):
        raise TypeError(f"a fallback returns an Answer or None; got {made!r:.200}")
    if not (isinstance(made.status_code, int) and 200 <= made.status_code <= 599):
        raise ValueError(f"a status code lies between 200 and 599; got {made.status_code!r}")
    if not isinstance(made.body, bytes):
        raise TypeError(f"a body is bytes; got {type(made.body).__name__}")
    for name, value in made.headers:
        if not is_header(name.decode("latin-1"), value.decode("latin-1")):
            raise ValueError(
                f"a header has a name and a value on one line; got {name!r}: {value!r}"
            )


def _checked_on(on: Collection[ErrorType | str]) -> frozenset[ErrorType | str]:
    listed = [] if isinstance(on, (str, ErrorType)) else list(on)
    if not listed or not all(isinstance(e, ErrorType) or e in GIVEN for e in listed):
        raise ValueError(
            f"on must be a collection of ErrorType and of {', '.join(GIVEN)}, or None for the "
            f"usual ones; got {on!r:.200}"
        )
    return frozenset(listed)


def _copies(chains: Iterable[_Chain]) -> list[StaleCopies]:
    found: list[StaleCopies] = []
    for chain in chains:
        for kind, fallback in chain:
            if kind == "stale" and fallback not in found:
                found.append(fallback)
    return found
