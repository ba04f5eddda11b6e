"""Classification: an exception, or a bare status, becomes the policy that applies and a status."""

import errno
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from itertools import islice
from typing import Any, NamedTuple, TypeAlias
from weakref import WeakKeyDictionary

from asgi_errorkit.errors import POLICIES, ErrorInfo, ErrorSeverity, ErrorType, PublicError
from asgi_errorkit.fingerprint import is_huge
from asgi_errorkit.kept import Kept
from asgi_errorkit.known_exceptions import (
    ERRNOS,
    GRPC_CODES,
    HTTP_EXCEPTIONS,
    STATUSES,
    TYPES,
    WORDS,
)

__all__ = ["Classifier", "Rule", "Verdict", "classify"]

Predicate: TypeAlias = Callable[[BaseException], bool]
Rule: TypeAlias = tuple[type[BaseException] | str | Predicate, ErrorType]

# Bounds on hostile exceptions: a chain has been seen 3,000 links long, a group 10,000 leaves wide.
_MAX_LINKS = 10
_MAX_LEAVES = 50
_MAX_SEEN = 100
_MAX_NODES = 500
_MAX_TEXT = 1024
_MAX_CLASSES = 4096

_SEVERITIES = tuple(ErrorSeverity)
_CLIENT_TYPES = frozenset(
    {
        ErrorType.VALIDATION,
        ErrorType.AUTHENTICATION,
        ErrorType.AUTHORIZATION,
        ErrorType.NOT_FOUND,
        ErrorType.RATE_LIMIT,
    }
)
# A cause of these types says too little to outweigh the words of the exception it led to.
_WEAK = frozenset({ErrorType.UNKNOWN, ErrorType.SYSTEM})


class Verdict(NamedTuple):
    """The policy that applies, the status to answer with before the start, and what told so.

    ``evidence`` is "rule", "public", "class", "status", "errno", "cause", "group", "message" or
    "none", from the strongest to the weakest.
    """

    info: ErrorInfo
    status_code: int
    evidence: str


class _Finding(NamedTuple):
    """What an exception tells; ``status_code`` only if somebody meant one for the client."""

    error_type: ErrorType
    evidence: str
    status_code: int | None = None
    info: ErrorInfo | None = None
    vague: bool = False


class _Facts(NamedTuple):
    """What a class tells before any instance is looked at."""

    rule: _Finding | None
    known_name: str | None
    word_type: ErrorType | None


_NOTHING = _Finding(ErrorType.UNKNOWN, "none")


class Classifier:
    """Judge exceptions: the user's rules, then what is known of their classes, then their causes.

    ``rules`` are pairs of a predicate, an exception class or a qualified name
    ("package.module.ClassName") and the type it means; predicates are asked first, in order, and
    among classes the nearest in the MRO wins. ``policies`` replaces POLICIES per type, or gives a
    class (or name) a policy of its own, which then decides the type too.

    Then, each only if all before said nothing: a PublicError's own word; the nearest class in the
    tables of known exceptions, a framework's HTTP exception by its status; errno; the causes,
    nearest first (``__context__`` counts unless suppressed, and never for a group); the leaves of
    a group; words in the names of custom classes; words in the message. Words come after causes
    because a wrapper's text is written before anyone knows what failed; a cause that is only
    UNKNOWN or SYSTEM yields to them.

    A status below 500 blames the client, so it is answered only where one was meant: by an HTTP
    exception, a PublicError, or a rule or policy that fits the exception itself. All else of a
    client's type gets 500, RATE_LIMIT 503, unless a policy names a status other than the
    default of its type.

    Ten links of a chain, fifty leaves of a group and a hundred exceptions in all are looked at.
    Among a group's leaves the server's faults go before the client's, known types before UNKNOWN,
    then the more severe, the more frequent, the first.

    Raises TypeError or ValueError for a rule or policy that can never apply.
    """

    def __init__(
        self,
        *,
        rules: Iterable[Rule] | Mapping[type[BaseException] | str, ErrorType] = (),
        policies: Mapping[ErrorType | type[BaseException] | str, ErrorInfo] | None = None,
    ) -> None:
        self.rule_errors = 0  # predicates that raised
        self._policies = dict(POLICIES)
        self._predicates: list[tuple[Predicate, _Finding]] = []
        self._rules: dict[type | str, _Finding] = {}
        # Weak keys let dynamic classes go; the bound holds for programs that keep them.
        self._facts: WeakKeyDictionary[type, _Facts] = WeakKeyDictionary()
        _compiled_words()  # at construction, not under the first failing request
        checked = _checked_policies(policies)
        self._policies.update({key: info for key, info in checked if isinstance(key, ErrorType)})
        for key, info in checked:
            if not isinstance(key, ErrorType):
                self._rules[key] = self._meant(info.error_type)._replace(
                    status_code=info.status_code or self._status_of_type(info.error_type), info=info
                )
        for condition, error_type in _checked_rules(rules):
            if isinstance(condition, (str, type)):
                self._rules.setdefault(condition, self._meant(error_type))
            else:
                self._predicates.append((condition, self._meant(error_type)))

    def __call__(self, exc: BaseException) -> Verdict:
        """Judge an exception; never raises, and looks at a bounded part of it."""
        try:
            finding = self._find(exc, {id(exc)})
        except Exception:  # noqa: BLE001  so hostile that even its class cannot be read
            finding = _NOTHING
        return self._verdict(finding)

    def policy(self, error_type: ErrorType) -> ErrorInfo:
        """The policy of a type."""
        return self._policies[error_type]

    def status(self, status_code: int) -> Verdict:
        """Judge a response's status of 400 or more of which no exception is known."""
        return Verdict(self._policies[_type_of_status(status_code)], status_code, "status")

    def _find(self, exc: BaseException, seen: set[int]) -> _Finding:
        own = self._own(exc)
        if own is not None and not own.vague:
            return own
        links = tuple(_links(exc, seen))
        if not links and not issubclass(type(exc), BaseExceptionGroup):  # as most are
            return own or self._from_words((exc,)) or _NOTHING
        told = tuple(map(self._own, links))
        inner = _cause(told) or self._from_group((exc, *links), seen)
        if own is not None:
            return own if inner is None else _explained(own, inner)
        if inner is not None and _is_strong(inner):
            return inner
        silent = (exc, *(link for link, said in zip(links, told, strict=True) if said is None))
        return self._from_words(silent) or inner or _weak_cause(told) or _NOTHING

    def _own(self, exc: BaseException) -> _Finding | None:
        """What the exception tells of itself, words aside."""
        for predicate, finding in self._predicates:
            if self._holds(predicate, exc):
                return finding
        facts = self._facts_of(type(exc))
        return facts.rule or self._from_public(exc) or _from_known(exc, facts.known_name)

    def _holds(self, predicate: Predicate, exc: BaseException) -> bool:
        try:
            return bool(predicate(exc))
        except Exception:  # noqa: BLE001  a broken rule must not hide the error it was asked about
            self.rule_errors += 1
            return False

    def _from_public(self, exc: BaseException) -> _Finding | None:
        if not issubclass(type(exc), PublicError):
            return None
        error_type = _read(exc, "error_type")
        if not isinstance(error_type, ErrorType):
            error_type = ErrorType.UNKNOWN
        status_code = _status_code(_read(exc, "status_code"))
        if status_code in (None, POLICIES[error_type].status_code):
            status_code = self._status_of_type(error_type)  # the default, which a policy may move
        return _Finding(error_type, "public", status_code)

    def _from_group(self, trail: Iterable[BaseException], seen: set[int]) -> _Finding | None:
        group = next((exc for exc in trail if issubclass(type(exc), BaseExceptionGroup)), None)
        if group is None:
            return None
        leaves = islice(_leaves(group), _MAX_LEAVES)
        found = [self._find(leaf, seen) for leaf in leaves if _is_new(leaf, seen)]
        counts = Counter(finding.error_type for finding in found)
        best = max(found, key=lambda finding: self._rank(finding, counts), default=None)
        return None if best is None else best._replace(evidence="group")

    def _rank(self, finding: _Finding, counts: Mapping[ErrorType, int]) -> tuple[int, ...]:
        verdict = self._verdict(finding)
        return (
            verdict.status_code >= 500,
            finding.error_type is not ErrorType.UNKNOWN,
            _SEVERITIES.index(verdict.info.severity),
            counts[finding.error_type],
        )

    def _from_words(self, silent: Iterable[BaseException]) -> _Finding | None:
        for exc in silent:
            error_type = self._facts_of(type(exc)).word_type or _word_type(_text(exc))
            if error_type is not None:
                return _Finding(error_type, "message")
        return None

    def _facts_of(self, cls: type[BaseException]) -> _Facts:
        facts = self._facts.get(cls)
        if facts is None:
            if len(self._facts) >= _MAX_CLASSES:
                self._facts = WeakKeyDictionary()
            facts = self._facts[cls] = self._examined(cls)
        return facts

    def _examined(self, cls: type[BaseException]) -> _Facts:
        named = [
            (ancestor, f"{ancestor.__module__}.{ancestor.__qualname__}") for ancestor in cls.__mro__
        ]
        rules = (self._rules.get(ancestor) or self._rules.get(name) for ancestor, name in named)
        names = [name for _, name in named]
        return _Facts(
            rule=next(filter(None, rules), None),
            known_name=next(filter(_KNOWN_NAMES.__contains__, names), None),
            word_type=_word_type_of_names(names),
        )

    def _verdict(self, finding: _Finding) -> Verdict:
        info = finding.info or self._policies[finding.error_type]
        status_code = finding.status_code or _status_when_not_meant(info)
        return Verdict(info, status_code, finding.evidence)

    def _meant(self, error_type: ErrorType) -> _Finding:
        return _Finding(error_type, "rule", self._status_of_type(error_type))

    def _status_of_type(self, error_type: ErrorType) -> int:
        own = self._policies[error_type].status_code
        return own or POLICIES[error_type].status_code or 500


def classify(exc: BaseException) -> ErrorType:
    """Tell the type of an exception by the default tables; never raises."""
    return _default_classifier()(exc).info.error_type


@cache
def _default_classifier() -> Classifier:
    return Classifier()


def _status_when_not_meant(info: ErrorInfo) -> int:
    default = POLICIES[info.error_type].status_code or 500
    if info.status_code not in (None, default):
        return info.status_code
    if info.error_type is ErrorType.RATE_LIMIT:
        return 503
    return 500 if info.error_type in _CLIENT_TYPES else default


def _type_of_status(status_code: int) -> ErrorType:
    other = ErrorType.VALIDATION if 400 <= status_code <= 499 else ErrorType.UNKNOWN
    return STATUSES.get(status_code, other)


# One exception, by its class and its attributes


def _from_known(exc: BaseException, name: str | None) -> _Finding | None:
    if name is None:
        return None
    if name == _OS_ERROR:
        return _from_errno(_read(exc, "errno"))
    if name in HTTP_EXCEPTIONS:
        return _from_http(exc, HTTP_EXCEPTIONS[name])
    error_type = TYPES[name]
    if error_type is ErrorType.MODEL and _speaks_of(ErrorType.MEMORY, _text(exc)):
        error_type = ErrorType.MEMORY  # many an AI runtime says so in words only
    elif name in _CLOSER_LOOKS:
        error_type = _CLOSER_LOOKS[name](exc) or error_type
    return _Finding(error_type, "class")


def _from_http(exc: BaseException, told_by: str | int) -> _Finding | None:
    status_code = told_by if isinstance(told_by, int) else _status_code(_read(exc, told_by))
    if status_code is None:
        return None
    # A bare 500 says only that it failed: the cause may know why.
    return _Finding(_type_of_status(status_code), "status", status_code, vague=status_code == 500)


def _from_errno(number: object) -> _Finding:
    name = errno.errorcode.get(number) if isinstance(number, int) else None
    if name is None:
        return _Finding(ErrorType.SYSTEM, "class", vague=True)
    # Windows has its sockets' numbers under names of their own.
    return _Finding(ERRNOS.get(name.removeprefix("WSA"), ErrorType.SYSTEM), "errno")


def _grpc_type(exc: BaseException) -> ErrorType | None:
    code = _read(exc, "code")
    try:
        return GRPC_CODES.get(code().name)
    except Exception:  # noqa: BLE001  an RpcError by name only, or one whose call is broken
        return None


def _type_of_reason(exc: BaseException) -> ErrorType | None:
    """What is known of the reason that a client's wrapper keeps, above all that it is a timeout."""
    names = (f"{cls.__module__}.{cls.__qualname__}" for cls in type(_read(exc, "reason")).__mro__)
    return TYPES.get(next(filter(_KNOWN_NAMES.__contains__, names), ""))


_CLOSER_LOOKS: Mapping[str, Callable[[BaseException], ErrorType | None]] = {
    "grpc.RpcError": _grpc_type,
    "urllib.error.URLError": _type_of_reason,
    "urllib3.exceptions.MaxRetryError": _type_of_reason,
}
_OS_ERROR = "builtins.OSError"
_KNOWN_NAMES = frozenset({*TYPES, *HTTP_EXCEPTIONS, _OS_ERROR})


def _status_code(value: object) -> int | None:
    """A status of 400 to 599 out of 404, HTTPStatus.NOT_FOUND or "404 Not Found"."""
    if isinstance(value, str):
        digits = str.__getitem__(value, slice(3))
        number = int(digits) if digits.isascii() and digits.isdigit() else 0
    else:
        number = int.__index__(value) if isinstance(value, int) else 0
    return number if 400 <= number <= 599 else None


# Several exceptions


def _is_new(exc: BaseException, seen: set[int]) -> bool:
    """Whether to look at the exception: once, and only while few have been looked at."""
    if id(exc) in seen or len(seen) >= _MAX_SEEN:
        return False
    seen.add(id(exc))
    return True


def _links(exc: BaseException, seen: set[int]) -> Iterator[BaseException]:
    """What led to the exception, nearest first, a bounded way back."""
    link = _origin(exc)
    for _ in range(_MAX_LINKS):
        if link is None or not _is_new(link, seen):
            return
        yield link
        link = _origin(link)


def _origin(exc: BaseException) -> BaseException | None:
    # GraphQL's errors and werkzeug's InternalServerError keep it under names of their own.
    for name in ("original_error", "original_exception", "__cause__"):
        origin = _exception_at(exc, name)
        if origin is not None:
            return origin
    # What a group arose amid is circumstance: its leaves are what failed.
    if issubclass(type(exc), BaseExceptionGroup) or _read(exc, "__suppress_context__"):
        return None
    return _exception_at(exc, "__context__")


def _leaves(group: BaseException) -> Iterator[BaseException]:
    """The plain exceptions of a group and of its groups, in order; cancellations left out."""
    waiting = [group]
    for _ in range(_MAX_NODES):
        if not waiting:
            return
        exc = waiting.pop()
        if issubclass(type(exc), BaseExceptionGroup):
            inner = _read(exc, "exceptions")
            waiting.extend(reversed(inner[:_MAX_NODES] if type(inner) is tuple else ()))
        elif issubclass(type(exc), Exception):
            yield exc


def _is_strong(finding: _Finding) -> bool:
    return finding.error_type not in _WEAK or finding.evidence in ("rule", "cause")


def _cause(told: Iterable[_Finding | None]) -> _Finding | None:
    """The nearest cause that knows something. It decides no status: who wrapped it did not."""
    finding = next((said for said in told if said is not None and _is_strong(said)), None)
    return None if finding is None else finding._replace(evidence="cause", status_code=None)


def _weak_cause(told: Iterable[_Finding | None]) -> _Finding | None:
    known = (said for said in told if said is not None and said.error_type is ErrorType.SYSTEM)
    return next((_Finding(ErrorType.SYSTEM, "cause") for _ in known), None)


def _explained(own: _Finding, inner: _Finding) -> _Finding:
    """The status of a vague exception with the type of what is behind it."""
    if not _is_strong(inner):
        return own
    return own._replace(error_type=inner.error_type, evidence=inner.evidence, info=inner.info)


# Words


@cache
def _compiled_words() -> Mapping[ErrorType, tuple[tuple[str, re.Pattern[str]], ...]]:
    return {
        error_type: tuple((needed, re.compile(pattern)) for needed, pattern in words)
        for error_type, words in WORDS.items()
    }


def _word_type(text: str) -> ErrorType | None:
    return _word_types[text]


def _searched(text: str) -> ErrorType | None:
    return next((error_type for error_type in WORDS if _speaks_of(error_type, text)), None)


_word_types: Kept[str, ErrorType | None] = Kept(_searched)


def _speaks_of(error_type: ErrorType, text: str) -> bool:
    words = _compiled_words()[error_type]
    return any(needed in text and pattern.search(text) for needed, pattern in words)


def _word_type_of_names(names: Iterable[str]) -> ErrorType | None:
    """By the words of a custom class's name, then of its bases'."""
    for name in names:
        words = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+", name.rpartition(".")[2][:128])
        error_type = _word_type(" ".join(words).lower())
        if error_type is not None:
            return error_type
    return None


def _text(exc: BaseException) -> str:
    """The first characters of the message in lower case; nothing if the message cannot be had."""
    try:
        text = str.__getitem__(_message(exc), slice(_MAX_TEXT)).lower()
    except BaseException:  # noqa: BLE001  as in traceback.py: a __str__ may raise anything
        return ""
    # A quoted word is somebody's data: int('redis') fails in no cache.
    return re.sub(r"""(?<!\w)(['"])[^'"\s]*\1(?!\w) ?""", "", text)


def _message(exc: BaseException) -> str:
    if type(exc).__str__ is not BaseException.__str__:
        return str(exc)
    if len(exc.args) == 1 and not is_huge(exc.args[0]):
        return str(exc)
    # Not the repr of a tuple, which quotes every word.
    return " ".join(arg[:_MAX_TEXT] for arg in exc.args[:_MAX_LINKS] if isinstance(arg, str))


def _read(thing: object, name: str) -> Any:
    try:
        return getattr(thing, name, None)
    except BaseException:  # noqa: BLE001  a property may raise anything
        return None


def _exception_at(exc: BaseException, name: str) -> BaseException | None:
    value = _read(exc, name)
    # Not isinstance: a hostile value may lie, or raise, about its __class__.
    return value if issubclass(type(value), BaseException) else None


# What a user hands in


_TYPE_NAMES = frozenset(each.value for each in ErrorType)


def _checked_policies(
    policies: Mapping[ErrorType | type[BaseException] | str, ErrorInfo] | None,
) -> list[tuple[ErrorType | type[BaseException] | str, ErrorInfo]]:
    if policies is not None and not isinstance(policies, Mapping):
        raise TypeError(f"policies must map types or exceptions to ErrorInfo; got {policies!r}")
    for key, info in (policies or {}).items():
        if not isinstance(info, ErrorInfo):
            raise TypeError(f"policies[{key!r}] must be an ErrorInfo; got {info!r}")
        if key in _TYPE_NAMES:
            raise ValueError(
                f"policies must have the type itself as a key, {ErrorType(key)}; got its name {key!r}"
            )
        if isinstance(key, ErrorType):
            if info.error_type is not key:
                raise ValueError(
                    f"policies[{key}] must be about {key}; its error_type is {info.error_type}"
                )
        else:
            _check_class_or_name(key)
    return list((policies or {}).items())


def _checked_rules(
    rules: Iterable[Rule] | Mapping[type[BaseException] | str, ErrorType],
) -> Iterator[Rule]:
    if not isinstance(rules, Iterable) or isinstance(rules, str):
        raise TypeError(f"rules must be pairs or a mapping; got {rules!r}")
    for rule in rules.items() if isinstance(rules, Mapping) else rules:
        if not isinstance(rule, tuple) or len(rule) != 2:
            raise TypeError(
                f"each rule must be a pair, e.g. (MyTimeout, ErrorType.TIMEOUT); got {rule!r}"
            )
        condition, error_type = rule
        if not isinstance(error_type, ErrorType):
            raise TypeError(
                f"a rule must end in an ErrorType, e.g. ErrorType.TIMEOUT; got {error_type!r}"
            )
        if isinstance(condition, (str, type)) or not callable(condition):
            _check_class_or_name(condition)
        yield condition, error_type


def _check_class_or_name(key: object) -> None:
    if isinstance(key, str):
        if "." not in key or not all(map(str.strip, key.split("."))):
            raise ValueError(
                'name an exception in full, e.g. "package.module.ClassName" or '
                f'"builtins.ValueError"; got {key!r}'
            )
    elif not (isinstance(key, type) and issubclass(key, BaseException)):
        raise TypeError(
            "expected an exception class, its full name, or a predicate for a rule "
            f"(an ErrorType for a policy); got {key!r}"
        )
