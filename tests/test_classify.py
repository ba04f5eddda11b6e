"""Laws of classification: the order of evidence, the status rule, words and their false friends, hostility."""

import asyncio
import errno
import gc
import itertools
import json
import re
import weakref
from collections.abc import Callable
from dataclasses import replace
from http import HTTPStatus
from re import _parser as regex_parser
from typing import Any, Never

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgi_errorkit import classify as module
from asgi_errorkit.classify import Classifier, Verdict, classify
from asgi_errorkit.errors import (
    POLICIES,
    ErrorAction,
    ErrorInfo,
    ErrorSeverity,
    ErrorType,
    PublicError,
)
from asgi_errorkit.known_exceptions import HTTP_EXCEPTIONS, STATUSES, TYPES, WORDS

judge = Classifier()

CLIENT_TYPES = {
    ErrorType.VALIDATION,
    ErrorType.AUTHENTICATION,
    ErrorType.AUTHORIZATION,
    ErrorType.NOT_FOUND,
    ErrorType.RATE_LIMIT,
}


def named(name: str, *bases: type, **members: Any) -> type[BaseException]:
    """A class that says of itself that it is ``name``, whoever made it."""
    home, _, own_name = name.rpartition(".")
    return type(own_name, bases or (Exception,), {"__module__": home, **members})


def chained(exc: BaseException, cause: BaseException) -> BaseException:
    exc.__cause__ = cause
    return exc


def arising(exc: BaseException, context: BaseException) -> BaseException:
    exc.__context__ = context
    return exc


class StarletteLike(named("starlette.exceptions.HTTPException")):
    def __init__(self, status_code: object) -> None:
        self.status_code = status_code


StarletteLike.__module__, StarletteLike.__qualname__ = "starlette.exceptions", "HTTPException"


class ModelLoadError(Exception):
    """The guide's own example: arguments, and no message of its own."""

    def __init__(self, model_name: str, message: str) -> None:
        self.model_name, self.message = model_name, message


class VideoError(Exception):
    pass


class VideoMissingError(VideoError):
    pass


# The order of evidence


def strong_evidence() -> dict[str, tuple[Classifier, BaseException, ErrorType]]:
    """Exceptions that carry every weaker evidence too, and what the strongest says."""
    cause = ConnectionRefusedError()
    public = PublicError("database", error_type=ErrorType.MODEL)
    return {
        "rule": (
            Classifier(rules=[(PublicError, ErrorType.CACHE)]),
            chained(public, cause),
            ErrorType.CACHE,
        ),
        "public": (
            judge,
            chained(PublicError("redis", error_type=ErrorType.MODEL), cause),
            ErrorType.MODEL,
        ),
        "class": (judge, chained(MemoryError("database"), cause), ErrorType.MEMORY),
        "status": (judge, chained(StarletteLike(404), cause), ErrorType.NOT_FOUND),
        "errno": (judge, chained(OSError(errno.ENOMEM, "timeout"), cause), ErrorType.MEMORY),
        "cause": (
            judge,
            chained(ExceptionGroup("model failed to load", [TimeoutError()]), cause),
            ErrorType.EXTERNAL_SERVICE,
        ),
        "group": (judge, ExceptionGroup("database failed", [TimeoutError()]), ErrorType.TIMEOUT),
        "message": (judge, RuntimeError("database failed"), ErrorType.DATABASE),
        "none": (judge, RuntimeError("oh"), ErrorType.UNKNOWN),
    }


@pytest.mark.parametrize("evidence", strong_evidence())
def test_the_strongest_evidence_decides(evidence: str) -> None:
    """Rule, public, class, status, errno, cause, group, message: each before all after it."""
    classifier, exc, error_type = strong_evidence()[evidence]
    verdict = classifier(exc)
    assert (verdict.info.error_type, verdict.evidence) == (error_type, evidence)


def test_the_default_table_needs_no_classifier() -> None:
    """classify() tells the type alone."""
    assert classify(TimeoutError()) is ErrorType.TIMEOUT
    assert classify(RuntimeError("GPU error")) is ErrorType.MODEL


# Rules and policies


def test_the_most_specific_class_wins_whatever_the_order() -> None:
    """Among class rules the nearest in the MRO decides."""
    for rules in itertools.permutations(
        [
            (VideoError, ErrorType.MODEL),
            (VideoMissingError, ErrorType.NOT_FOUND),
            (Exception, ErrorType.SYSTEM),
        ]
    ):
        classifier = Classifier(rules=rules)
        assert classifier(VideoMissingError()).info.error_type is ErrorType.NOT_FOUND
        assert classifier(VideoError()).info.error_type is ErrorType.MODEL
        assert classifier(TimeoutError()).info.error_type is ErrorType.SYSTEM


def test_the_first_of_two_rules_for_one_class_stands() -> None:
    """A rule given twice is decided by the first."""
    classifier = Classifier(rules=[(VideoError, ErrorType.MODEL), (VideoError, ErrorType.CACHE)])
    assert classifier(VideoError()).info.error_type is ErrorType.MODEL


@pytest.mark.parametrize("name", [f"{__name__}.VideoError", f"{__name__}.VideoMissingError"])
def test_a_name_stands_for_its_class_and_its_subclasses(name: str) -> None:
    """A rule by qualified name matches along the MRO, nothing imported."""
    assert Classifier(rules={name: ErrorType.MODEL})(VideoMissingError()).evidence == "rule"


def test_predicates_are_asked_first_and_in_order() -> None:
    """The first predicate that holds wins, before any class."""
    classifier = Classifier(
        rules=[
            (VideoError, ErrorType.CACHE),
            (lambda exc: "a" in str(exc), ErrorType.MODEL),
            (lambda exc: "b" in str(exc), ErrorType.DATABASE),
        ]
    )
    types = [classifier(VideoError(text)).info.error_type for text in ("ab", "b", "c")]
    assert types == [ErrorType.MODEL, ErrorType.DATABASE, ErrorType.CACHE]


class Unbool:
    def __bool__(self) -> Never:
        raise ValueError("the truth of an array is ambiguous")


@pytest.mark.parametrize("predicate", [lambda exc: 1 / 0, lambda exc: Unbool(), lambda: True])
def test_a_predicate_that_raises_does_not_match_and_is_counted(predicate: Any) -> None:
    """A broken rule never hides the error it was asked about."""
    classifier = Classifier(rules=[(predicate, ErrorType.MODEL), (OSError, ErrorType.CACHE)])
    assert classifier(TimeoutError()).info.error_type is ErrorType.CACHE
    assert classifier.rule_errors == 1


def test_a_policy_of_a_type_replaces_the_default_one() -> None:
    """A policy by type changes what applies, for that type alone."""
    info = replace(POLICIES[ErrorType.TIMEOUT], severity=ErrorSeverity.CRITICAL)
    classifier = Classifier(policies={ErrorType.TIMEOUT: info})
    assert classifier(TimeoutError()).info is info
    assert classifier.status(504).info is info
    assert classifier(MemoryError()).info is POLICIES[ErrorType.MEMORY]


@pytest.mark.parametrize("key", [VideoError, f"{__name__}.VideoError"], ids=["class", "name"])
def test_a_policy_of_a_class_decides_type_info_and_status(key: Any) -> None:
    """A policy keyed by a class or its name is a rule too, before rules for the same class."""
    info = ErrorInfo(ErrorType.MODEL, ErrorSeverity.LOW, ErrorAction.IGNORE, status_code=418)
    classifier = Classifier(rules=[(VideoError, ErrorType.CACHE)], policies={key: info})
    if key is VideoError:
        assert classifier(VideoMissingError("database")) == Verdict(info, 418, "rule")
    assert Classifier(policies={key: info})(VideoMissingError("database")) == Verdict(
        info, 418, "rule"
    )


# The status


@given(
    name=st.sampled_from(sorted(TYPES)), message=st.sampled_from(["", "404 not found", "forbidden"])
)
def test_no_known_exception_blames_the_client(name: str, message: str) -> None:
    """What nobody meant for the client is answered 500 or more, whatever its type."""
    verdict = judge(named(name)(message))
    assert verdict.status_code >= 500
    if verdict.info.error_type not in CLIENT_TYPES:
        assert verdict.status_code == POLICIES[verdict.info.error_type].status_code


@pytest.mark.parametrize(
    ("exc", "error_type", "status"),
    [
        (
            named("pydantic_core._pydantic_core.ValidationError", ValueError)(),
            ErrorType.VALIDATION,
            500,
        ),
        (named("jwt.exceptions.PyJWTError")(), ErrorType.AUTHENTICATION, 500),
        (RuntimeError("permission denied"), ErrorType.AUTHORIZATION, 500),
        (named("sqlalchemy.exc.NoResultFound")(), ErrorType.NOT_FOUND, 500),
        (named("openai.RateLimitError")(), ErrorType.RATE_LIMIT, 503),
        (PermissionError(errno.EACCES, "no"), ErrorType.SYSTEM, 500),
        (chained(RuntimeError(), StarletteLike(404)), ErrorType.NOT_FOUND, 500),
        (
            chained(RuntimeError(), PublicError("no", error_type=ErrorType.VALIDATION)),
            ErrorType.VALIDATION,
            500,
        ),
    ],
)
def test_a_servers_own_failure_is_its_own(
    exc: BaseException, error_type: ErrorType, status: int
) -> None:
    """A client's type without a meant status is 500; RATE_LIMIT, an upstream's, is 503."""
    verdict = judge(exc)
    assert (verdict.info.error_type, verdict.status_code) == (error_type, status)


@pytest.mark.parametrize("error_type", ErrorType)
def test_a_users_rule_means_the_status_of_its_type(error_type: ErrorType) -> None:
    """A rule fits the exception itself, so the type's status is meant."""
    verdict = Classifier(rules={VideoError: error_type})(VideoMissingError())
    assert verdict.status_code == POLICIES[error_type].status_code
    wrapped = Classifier(rules={VideoError: error_type})(
        chained(RuntimeError(), VideoMissingError())
    )
    assert (wrapped.info.error_type, wrapped.evidence) == (error_type, "cause")
    assert wrapped.status_code >= 500


@pytest.mark.parametrize("name", sorted(HTTP_EXCEPTIONS))
@pytest.mark.parametrize("status", [400, 401, 404, 418, 429, 503])
def test_a_frameworks_http_exception_keeps_its_status(name: str, status: int) -> None:
    """The status that a framework's exception carries, or always has, is answered."""
    told_by = HTTP_EXCEPTIONS[name]
    exc = named(name)("the database timed out")
    if isinstance(told_by, str):
        setattr(exc, told_by, status)
    verdict = judge(exc)
    assert verdict.evidence == "status"
    assert verdict.status_code == (status if isinstance(told_by, str) else told_by)
    assert verdict.info is judge.status(verdict.status_code).info


@pytest.mark.parametrize(
    "value", ["404 Not Found", "404", HTTPStatus.NOT_FOUND, 404, type("S", (str,), {})("404 x")]
)
def test_a_status_may_be_written_in_many_ways(value: object) -> None:
    """An int, an HTTPStatus or a status line name the same status."""
    assert judge(StarletteLike(value)).status_code == 404


@pytest.mark.parametrize(
    "value", [None, 200, 302, 600, 0, True, "", "teapot", "20", "٤٠٤", 40.4, b"404", object()]
)
def test_what_is_no_error_status_is_no_evidence(value: object) -> None:
    """A redirect, a success or nonsense in an HTTP exception is answered as an unknown error."""
    assert judge(StarletteLike(value)) == Verdict(POLICIES[ErrorType.UNKNOWN], 500, "none")


def test_a_bare_500_takes_the_type_of_its_cause_and_keeps_its_status() -> None:
    """HTTPException(500) says only that it failed; why stands in its cause or its group."""
    assert judge(StarletteLike(500)).info.error_type is ErrorType.UNKNOWN
    for inner in (TimeoutError(), ExceptionGroup("", [TimeoutError()])):
        verdict = judge(chained(StarletteLike(500), inner))
        assert (verdict.info.error_type, verdict.status_code) == (ErrorType.TIMEOUT, 500)
    for unknown in (KeyError("x"), ExceptionGroup("", [KeyError("x")])):
        assert judge(chained(StarletteLike(500), unknown)).evidence == "status"
    assert judge(chained(StarletteLike(504), MemoryError())).info.error_type is ErrorType.TIMEOUT


@pytest.mark.parametrize(
    ("status", "error_type"),
    [
        *STATUSES.items(),
        (400, ErrorType.VALIDATION),
        (405, ErrorType.VALIDATION),
        (500, ErrorType.UNKNOWN),
        (501, ErrorType.UNKNOWN),
        (999, ErrorType.UNKNOWN),
    ],
)
def test_a_bare_status_has_a_type(status: int, error_type: ErrorType) -> None:
    """A response's status is kept, and typed without an exception."""
    assert judge.status(status) == Verdict(POLICIES[error_type], status, "status")


def test_a_public_error_decides_for_itself() -> None:
    """Its own type and status, or the default of its type, which a policy may move."""
    exc = PublicError("no", error_type=ErrorType.VALIDATION)
    assert judge(exc) == Verdict(POLICIES[ErrorType.VALIDATION], 422, "public")
    info = replace(POLICIES[ErrorType.VALIDATION], status_code=400)
    moved = Classifier(policies={ErrorType.VALIDATION: info})
    assert moved(exc).status_code == 400
    assert (
        moved(PublicError("no", error_type=ErrorType.VALIDATION, status_code=409)).status_code
        == 409
    )
    exc.error_type, exc.status_code = "validation", 99
    assert judge(exc) == Verdict(POLICIES[ErrorType.UNKNOWN], 500, "public")


def test_a_policys_own_status_wins_over_the_status_rule() -> None:
    """A status other than the type's default was chosen, so it is answered for any evidence."""
    info = replace(POLICIES[ErrorType.VALIDATION], status_code=400)
    classifier = Classifier(policies={ErrorType.VALIDATION: info})
    assert classifier(RuntimeError("validation failed")).status_code == 400
    assert classifier(StarletteLike(405)).status_code == 405
    assert Classifier(policies={StarletteLike: info})(StarletteLike(405)).status_code == 400
    wrapped = chained(RuntimeError(), VideoError())
    classifier = Classifier(policies={VideoError: info})
    assert classifier(wrapped) == Verdict(info, 400, "cause")
    assert classifier(chained(StarletteLike(500), VideoError())) == Verdict(info, 500, "cause")


def test_a_policy_copied_for_its_severity_does_not_blame_the_client() -> None:
    """The default status of a type in a replaced policy chooses nothing."""
    info = replace(POLICIES[ErrorType.VALIDATION], severity=ErrorSeverity.HIGH)
    assert (
        Classifier(policies={ErrorType.VALIDATION: info})(RuntimeError("invalid input")).status_code
        == 500
    )
    silent = replace(POLICIES[ErrorType.TIMEOUT], status_code=None)
    assert Classifier(policies={ErrorType.TIMEOUT: silent})(TimeoutError()).status_code == 504


# Classes, errno, causes

BUGS = [
    ArithmeticError, AssertionError, AttributeError, BufferError, EOFError, IndexError, KeyError,
    NameError, UnboundLocalError, NotImplementedError, RecursionError, ReferenceError, StopIteration,
    StopAsyncIteration, SyntaxError, IndentationError, TypeError, ZeroDivisionError, OverflowError,
    RuntimeWarning, asyncio.InvalidStateError,
]  # fmt: skip


@pytest.mark.parametrize("cls", BUGS)
@pytest.mark.parametrize(
    "message", ["memory_id", "database timeout", "model not found", "404", "redis"]
)
def test_the_words_of_a_programming_error_are_never_read(
    cls: type[Exception], message: str
) -> None:
    """A bug is UNKNOWN by its class, whatever it talks about."""
    assert judge(cls(message)) == Verdict(POLICIES[ErrorType.UNKNOWN], 500, "class")


@pytest.mark.parametrize(
    "exc",
    [
        UnicodeDecodeError("utf-8", b"timeout", 0, 1, "database"),
        json.JSONDecodeError("invalid request: timeout", "{}", 0),
        ImportError("No module named 'redis'"),
        SystemError("database"),
        OSError("the database timed out"),
    ],
)
def test_the_words_of_a_broken_format_or_system_are_never_read(exc: BaseException) -> None:
    """Their class says all there is."""
    verdict = judge(exc)
    assert verdict.info.error_type in (ErrorType.UNKNOWN, ErrorType.SYSTEM)
    assert (verdict.evidence, verdict.status_code) == ("class", 500)


@pytest.mark.parametrize(
    "cls", [KeyboardInterrupt, SystemExit, GeneratorExit, asyncio.CancelledError, BaseException]
)
def test_the_end_of_a_task_or_process_is_unknown(cls: type[BaseException]) -> None:
    """Any BaseException can be asked about; these are judged elsewhere."""
    assert classify(cls()) is ErrorType.UNKNOWN


@pytest.mark.parametrize(
    ("number", "error_type"),
    [
        (errno.ENOSPC, ErrorType.SYSTEM),
        (errno.EMFILE, ErrorType.SYSTEM),
        (errno.ENFILE, ErrorType.SYSTEM),
        (errno.EACCES, ErrorType.SYSTEM),
        (errno.EPERM, ErrorType.SYSTEM),
        (errno.ENOENT, ErrorType.SYSTEM),
        (errno.ENOMEM, ErrorType.MEMORY),
        (errno.EHOSTUNREACH, ErrorType.EXTERNAL_SERVICE),
        (errno.ENETUNREACH, ErrorType.EXTERNAL_SERVICE),
    ],
)
def test_errno_decides_for_an_os_error(number: int, error_type: ErrorType) -> None:
    """The machine's own word for it, also in a subclass of a user's."""
    for cls in (OSError, named("app.DatabaseError", OSError)):
        verdict = judge(cls(number, "timeout"))
        assert (verdict.info.error_type, verdict.evidence) == (error_type, "errno")


@pytest.mark.parametrize(
    ("number", "error_type"),
    [
        (errno.ETIMEDOUT, ErrorType.TIMEOUT),
        (errno.ECONNREFUSED, ErrorType.EXTERNAL_SERVICE),
        (errno.ECONNRESET, ErrorType.EXTERNAL_SERVICE),
        (errno.EPIPE, ErrorType.EXTERNAL_SERVICE),
    ],
)
def test_python_gives_some_errnos_a_class(number: int, error_type: ErrorType) -> None:
    """An errno is judged alike whether Python has a class for it or a user's subclass hides it."""
    assert judge(OSError(number, "no")).info.error_type is error_type
    assert judge(named("app.Failure", OSError)(number, "no")).info.error_type is error_type


def test_windows_names_of_errnos_are_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    """A socket's error on Windows has a number and a name of its own."""
    monkeypatch.setitem(errno.errorcode, 10065, "WSAEHOSTUNREACH")
    assert classify(OSError(10065, "no route")) is ErrorType.EXTERNAL_SERVICE


@pytest.mark.parametrize("number", [None, "28", 10**6, -1, 28.5, object()])
def test_an_os_error_without_a_known_errno_is_system(number: object) -> None:
    """Nothing more is known of it; only a cause may know."""
    exc = OSError(number, "timeout")
    assert judge(exc) == Verdict(POLICIES[ErrorType.SYSTEM], 500, "class")
    assert judge(chained(exc, TimeoutError())).info.error_type is ErrorType.TIMEOUT


def test_a_cause_speaks_before_the_wrappers_words() -> None:
    """A wrapper's text was written before anyone knew what failed."""
    exc = RuntimeError("model loading failed")
    assert (
        judge(chained(exc, ConnectionRefusedError())).info.error_type is ErrorType.EXTERNAL_SERVICE
    )
    assert (
        judge(chained(ModelLoadError("a", "b"), MemoryError())).info.error_type is ErrorType.MEMORY
    )


@pytest.mark.parametrize("cause", [KeyError("path"), FileNotFoundError(2, "no"), RuntimeError("x")])
def test_a_cause_that_knows_little_yields_to_words(cause: BaseException) -> None:
    """UNKNOWN and SYSTEM do not outweigh what the wrapper says it was doing."""
    assert judge(chained(ModelLoadError("a", "b"), cause)).info.error_type is ErrorType.MODEL
    verdict = judge(chained(RuntimeError("oh"), cause))
    expected = ErrorType.SYSTEM if isinstance(cause, OSError) else ErrorType.UNKNOWN
    assert verdict.info.error_type is expected


def test_the_context_counts_unless_it_is_suppressed() -> None:
    """`raise X` in an except block arose from it; `raise X from None` says it did not."""
    exc = arising(RuntimeError("oh"), TimeoutError())
    assert judge(exc).info.error_type is ErrorType.TIMEOUT
    exc.__suppress_context__ = True
    assert judge(exc).evidence == "none"
    assert (
        judge(arising(chained(RuntimeError(), MemoryError()), TimeoutError())).info.error_type
        is ErrorType.MEMORY
    )


@pytest.mark.parametrize("attribute", ["original_error", "original_exception"])
def test_wrappers_may_keep_their_origin_under_another_name(attribute: str) -> None:
    """GraphQL and werkzeug do not use the cause for what they wrap."""
    exc = RuntimeError("oh")
    setattr(exc, attribute, TimeoutError())
    assert judge(exc).info.error_type is ErrorType.TIMEOUT
    setattr(exc, attribute, "TimeoutError")
    assert judge(exc).evidence == "none"


def test_the_words_of_a_silent_cause_count_last() -> None:
    """If nobody in the chain knows, its words do, the wrapper's first."""
    assert (
        judge(chained(RuntimeError("oh"), ValueError("redis is down"))).info.error_type
        is ErrorType.CACHE
    )
    assert (
        judge(chained(RuntimeError("GPU"), ValueError("redis"))).info.error_type is ErrorType.MODEL
    )
    assert (
        judge(chained(RuntimeError("oh"), TypeError("redis is down"))).info.error_type
        is ErrorType.UNKNOWN
    )


@pytest.mark.parametrize(
    ("reason", "error_type"),
    [
        (TimeoutError(), ErrorType.TIMEOUT),
        (ConnectionRefusedError(), ErrorType.EXTERNAL_SERVICE),
        (named("urllib3.exceptions.TimeoutError")(), ErrorType.TIMEOUT),
        ("no host given", ErrorType.EXTERNAL_SERVICE),
        (None, ErrorType.EXTERNAL_SERVICE),
    ],
)
@pytest.mark.parametrize("name", ["urllib.error.URLError", "urllib3.exceptions.MaxRetryError"])
def test_a_client_wrapper_is_a_timeout_if_its_reason_is(
    name: str, reason: object, error_type: ErrorType
) -> None:
    """urllib and urllib3 keep what happened as `reason`."""
    exc = named(name)()
    exc.reason = reason
    assert classify(exc) is error_type


@pytest.mark.parametrize(
    ("code", "error_type"),
    [
        ("DEADLINE_EXCEEDED", ErrorType.TIMEOUT),
        ("RESOURCE_EXHAUSTED", ErrorType.RATE_LIMIT),
        ("NOT_FOUND", ErrorType.EXTERNAL_SERVICE),
    ],
)
def test_grpc_is_judged_by_its_code(code: str, error_type: ErrorType) -> None:
    """A code of gRPC is the upstream's word; without one it is the upstream's failure."""
    status = type("StatusCode", (), {"name": code})()
    assert classify(named("grpc.RpcError", code=lambda self: status)()) is error_type
    assert classify(named("grpc.RpcError", code=code)()) is ErrorType.EXTERNAL_SERVICE
    assert classify(named("grpc.RpcError")()) is ErrorType.EXTERNAL_SERVICE


@pytest.mark.parametrize("name", [name for name, kind in TYPES.items() if kind is ErrorType.MODEL])
def test_a_runtime_that_starved_is_memory(name: str) -> None:
    """Many an AI runtime tells in words only that it ran out of memory."""
    assert classify(named(name)("bad graph")) is ErrorType.MODEL
    assert classify(named(name)("CUDA error: out of memory")) is ErrorType.MEMORY


# Stand-ins for libraries too heavy to install: a class of the same module and name.


@pytest.mark.parametrize(
    ("name", "base", "error_type"),
    [
        ("torch.OutOfMemoryError", RuntimeError, ErrorType.MEMORY),
        ("torch.cuda.OutOfMemoryError", RuntimeError, ErrorType.MEMORY),
        ("torch._C._OutOfMemoryError", RuntimeError, ErrorType.MEMORY),
        ("torch.AcceleratorError", RuntimeError, ErrorType.MODEL),
        ("torch._C._LinAlgError", RuntimeError, ErrorType.MODEL),
        (
            "tensorflow.python.framework.errors_impl.ResourceExhaustedError",
            Exception,
            ErrorType.MEMORY,
        ),
        ("jaxlib.xla_extension.XlaRuntimeError", RuntimeError, ErrorType.MODEL),
        ("vllm.v1.engine.exceptions.EngineDeadError", Exception, ErrorType.MODEL),
        ("safetensors_rust.SafetensorError", Exception, ErrorType.MODEL),
        ("pydantic.error_wrappers.ValidationError", ValueError, ErrorType.VALIDATION),
        ("cimpl.KafkaException", Exception, ErrorType.EXTERNAL_SERVICE),
        ("MySQLdb._exceptions.MySQLError", Exception, ErrorType.DATABASE),
        ("pyodbc.Error", Exception, ErrorType.DATABASE),
    ],
)
def test_a_stand_in_of_a_heavy_library_is_judged_by_its_name(
    name: str, base: type[Exception], error_type: ErrorType
) -> None:
    """A name is enough, and it speaks for subclasses, wherever they live."""
    cls = named(name, base)
    assert classify(cls("shape mismatch")) is error_type
    assert classify(named("app.Custom", cls)("shape mismatch")) is error_type


# Groups


def test_a_group_of_one_type_has_that_type() -> None:
    """However deep and however many."""
    deep = ExceptionGroup(
        "", [TimeoutError(), ExceptionGroup("", [TimeoutError(), TimeoutError()])]
    )
    assert judge(deep) == Verdict(POLICIES[ErrorType.TIMEOUT], 504, "group")


@pytest.mark.parametrize(
    ("leaves", "error_type", "status"),
    [
        ([TimeoutError(), MemoryError(), TimeoutError()], ErrorType.MEMORY, 503),
        ([ImportError(), TimeoutError(), TimeoutError()], ErrorType.TIMEOUT, 504),
        ([TimeoutError(), ImportError()], ErrorType.TIMEOUT, 504),
        ([StarletteLike(404), StarletteLike(404)], ErrorType.NOT_FOUND, 404),
        ([StarletteLike(404), KeyError("x")], ErrorType.UNKNOWN, 500),
        ([StarletteLike(404), TimeoutError()], ErrorType.TIMEOUT, 504),
        ([KeyError("x"), RuntimeError("redis is down")], ErrorType.CACHE, 503),
        ([chained(RuntimeError("x"), MemoryError())], ErrorType.MEMORY, 503),
        ([chained(StarletteLike(500), MemoryError())], ErrorType.MEMORY, 500),
        ([StarletteLike(500)], ErrorType.UNKNOWN, 500),
        ([chained(RuntimeError("x"), FileNotFoundError(2, "x"))], ErrorType.SYSTEM, 500),
        ([KeyError("x")], ErrorType.UNKNOWN, 500),
    ],
)
def test_the_worst_leaf_speaks_for_a_group(
    leaves: list[Exception], error_type: ErrorType, status: int
) -> None:
    """The server's fault before the client's, known before UNKNOWN, severe, frequent, first."""
    verdict = judge(ExceptionGroup("tasks", leaves))
    assert (verdict.info.error_type, verdict.status_code, verdict.evidence) == (
        error_type,
        status,
        "group",
    )


def test_a_group_behind_a_wrapper_is_opened() -> None:
    """LitestarException from a group from the original, as that framework raises it."""
    wrapper = chained(
        named("litestar.exceptions.base_exceptions.LitestarException")(),
        ExceptionGroup("", [TimeoutError()]),
    )
    assert judge(wrapper).info.error_type is ErrorType.TIMEOUT
    vague = chained(RuntimeError("redis"), ExceptionGroup("", [KeyError()]))
    assert judge(vague).info.error_type is ErrorType.CACHE


def test_what_a_group_arose_amid_is_not_its_cause() -> None:
    """Only an explicit cause goes before the leaves."""
    group = ExceptionGroup("", [TimeoutError()])
    assert judge(arising(group, MemoryError())).info.error_type is ErrorType.TIMEOUT
    assert judge(chained(group, MemoryError())).info.error_type is ErrorType.MEMORY


def test_cancellations_in_a_group_are_left_out() -> None:
    """A group of nothing but cancellations has no leaf to judge."""
    cancelled = asyncio.CancelledError("database")
    assert judge(BaseExceptionGroup("", [cancelled])).evidence == "none"
    assert (
        judge(BaseExceptionGroup("", [cancelled, TimeoutError()])).info.error_type
        is ErrorType.TIMEOUT
    )


# Words

MEANT = {
    ErrorType.TIMEOUT: ["Request timeout", "the read timed out", "Deadline exceeded", "rendering took too long", "Timeout: no reply"],
    ErrorType.MEMORY: ["Out of memory", "CUDA out of memory. Tried to allocate 2.00 GiB", "memory error", "Memory usage too high", "not enough memory", "worker was OOM killed", "cannot allocate memory", "insufficient GPU memory", "RESOURCE_EXHAUSTED: nothing left"],
    ErrorType.DATABASE: ["Database connection failed", "database is locked", "SQL syntax error", "db error", "Postgres is gone", "deadlock detected"],
    ErrorType.CACHE: ["Cache unavailable", "Redis is down", "in-memory cache failed", "caching failed", "memcached: no servers"],
    ErrorType.MODEL: ["Model loading failed", "Inference failed", "GPU error", "failed to load the model", "CUDA error: an illegal memory access was encountered", "model weights missing", "error loading checkpoint", "Model 'sdxl' is not loaded", "Expected all tensors to be on the same device", "model not found"],
    ErrorType.EXTERNAL_SERVICE: ["Connection refused", "connection reset by peer", "upstream said no", "service unavailable", "Temporary failure in name resolution"],
    ErrorType.RATE_LIMIT: ["Rate limit exceeded", "rate_limit_exceeded", "Too many requests", "quota exceeded"],
    ErrorType.NOT_FOUND: ["Video not found", "error 404", "HTTP status 404", "404 Not Found", "missing video file", "the page is missing", "user does not exist"],
    ErrorType.AUTHENTICATION: ["authentication failed", "invalid token", "the token has expired"],
    ErrorType.AUTHORIZATION: ["Permission denied", "You have no permission", "access denied", "Unauthorized", "forbidden"],
    ErrorType.VALIDATION: ["Validation failed", "invalid input", "Bad request", "invalid video id", "missing required field 'prompt'"],
}  # fmt: skip


@pytest.mark.parametrize(
    ("error_type", "message"), [(kind, text) for kind, texts in MEANT.items() for text in texts]
)
@pytest.mark.parametrize("cls", [Exception, RuntimeError, ValueError, LookupError, VideoError])
def test_words_tell_when_nothing_better_does(
    cls: type[Exception], error_type: ErrorType, message: str
) -> None:
    """The guide's words, in whole words, whatever their case."""
    for text in (message, message.upper(), f"failed ({message})"):
        if text.startswith("failed") and message.startswith("404"):
            continue  # a leading 404 is a status line's
        verdict = judge(cls(text))
        assert (verdict.info.error_type, verdict.evidence) == (error_type, "message")


@pytest.mark.parametrize(
    "message",
    [
        "connection", "no connection", "missing 1 required positional argument: 'x'",
        "invalid literal for int() with base 10: 'a'", "the data model has no field x",
        "remodel the kitchen", "the view model failed", "loading the data model", "memory_id",
        "unknown key memory_id", "in-memory store is empty", "shared memory segment",
        "memory address 0x0", "timeout must be positive", "invalid timeout", "got timeout=5",
        "timeouts_total", "invalid state", "invalid escape sequence", "missing comma",
        "processed 404 frames", "line 404 column 3", "validation loss is nan", "cached_property",
        "cache-control: none", "type inference gave up", "nosql", "sqlalchemy_utils",
        "rate limit must be positive", "permissions field is not set", "model field x",
        "[errno 13] permission denied: '/etc/x'",
        "no handler for 'redis'",
        'unknown key "timeout"',
        "('database', 3)", "generator already executing", "modelling clay", "",
    ],
)  # fmt: skip
def test_false_friends_are_not_taken_for_words(message: str) -> None:
    """What the guide's substrings would misfile tells nothing."""
    assert judge(RuntimeError(message)).evidence == "none"


@pytest.mark.parametrize(
    ("exc", "error_type"),
    [
        (KeyError("memory_id"), ErrorType.UNKNOWN),
        (TypeError("f() missing 1 required positional argument: 'model'"), ErrorType.UNKNOWN),
        (AttributeError("'NoneType' object has no attribute 'cache'"), ErrorType.UNKNOWN),
        (RuntimeError("connection"), ErrorType.UNKNOWN),
        (ConnectionError("database"), ErrorType.EXTERNAL_SERVICE),
    ],
)
def test_the_guides_mistakes_are_not_made(exc: Exception, error_type: ErrorType) -> None:
    """Each is misfiled by the guide's substrings."""
    assert classify(exc) is error_type


@pytest.mark.parametrize(
    ("name", "error_type"),
    [
        ("ModelLoadError", ErrorType.MODEL), ("model_load_error", ErrorType.MODEL),
        ("DatabaseError", ErrorType.DATABASE), ("DBError", ErrorType.DATABASE),
        ("InferenceTimeout", ErrorType.TIMEOUT), ("HTTPTimeoutError", ErrorType.TIMEOUT),
        ("GPUError", ErrorType.MODEL), ("CUDAFailure", ErrorType.MODEL), ("OutOfMemory", ErrorType.MEMORY),
        ("VideoNotFoundError", ErrorType.NOT_FOUND), ("RateLimitExceeded", ErrorType.RATE_LIMIT),
        ("CacheUnavailable", ErrorType.CACHE), ("InvalidPrompt", ErrorType.VALIDATION),
        ("UnauthorizedError", ErrorType.AUTHORIZATION), ("ServiceUnavailable", ErrorType.EXTERNAL_SERVICE),
        ("ModelValidationError", ErrorType.VALIDATION), ("ViewModelError", ErrorType.UNKNOWN),
        ("DataModelError", ErrorType.UNKNOWN), ("InMemoryStoreError", ErrorType.UNKNOWN),
        ("Remodel", ErrorType.UNKNOWN), ("CacheControlError", ErrorType.UNKNOWN),
        ("AppError", ErrorType.UNKNOWN),
    ],
)  # fmt: skip
def test_a_custom_class_is_known_by_the_words_of_its_name(name: str, error_type: ErrorType) -> None:
    """A name is a word its author chose, for the class and for its subclasses."""
    for base in (Exception, RuntimeError):
        cls = named(f"app.{name}", base)
        assert classify(cls("x")) is error_type
        assert classify(named("app.Oops", cls)("x")) is error_type


def test_the_name_goes_before_the_message() -> None:
    """A class is named for what it is; its message mentions what was around."""
    assert classify(named("app.ModelLoadError")("connection refused")) is ErrorType.MODEL
    assert judge(ModelLoadError("stable-diffusion", "Model loading failed")) == Verdict(
        POLICIES[ErrorType.MODEL], 503, "message"
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ("timeout", 30),
        (30, "timeout"),
        ("render", "timeout", "x" * 10_000_000),
        ({"state": "a read timeout"},),
    ],
)
def test_words_are_found_among_several_arguments(arguments: tuple[object, ...]) -> None:
    """An exception need not be given one text."""
    assert classify(RuntimeError(*arguments)) is ErrorType.TIMEOUT


def test_only_the_beginning_of_a_message_is_read() -> None:
    """A word counts within the first 1,024 characters, in a message of any size."""
    padding = "x" * 1010 + " "
    assert classify(RuntimeError(padding + "redis" + "y" * 10_000_000)) is ErrorType.UNKNOWN
    assert classify(RuntimeError(padding + "redis " + "y" * 10_000_000)) is ErrorType.CACHE
    assert classify(RuntimeError("x" * 1030 + " redis")) is ErrorType.UNKNOWN


def unbounded(tree: Any) -> list[Any]:
    """Every repetition without an end in a parsed pattern, with what it repeats."""
    found = []
    for op, argument in tree:
        if op in (regex_parser.MAX_REPEAT, regex_parser.MIN_REPEAT):
            _, high, body = argument
            found += [body] if high > 60 else []
        for part in argument if isinstance(argument, (tuple, list)) else ():
            branches = part if isinstance(part, list) else [part]
            for branch in branches:
                if isinstance(branch, regex_parser.SubPattern):
                    found += unbounded(branch)
    return found


@pytest.mark.parametrize(
    "pattern",
    [pattern for words in WORDS.values() for _, pattern in words],
    ids=range(sum(map(len, WORDS.values()))),
)
def test_every_pattern_is_linear_by_its_form(pattern: str) -> None:
    """No repetition holds another, and an endless one repeats the characters of one word."""
    for body in unbounded(regex_parser.parse(pattern)):
        assert str(body) == str(regex_parser.parse(r"\w+")[0][1][2])
    assert not re.search(r"\\w[*+](?!\\b|\||\))", pattern)


VOCABULARY = sorted(
    {
        word
        for words in WORDS.values()
        for _, pattern in words
        for word in re.findall(r"[a-z]{2,}|\d+", pattern)
    }
)


@given(
    st.lists(
        st.sampled_from([*VOCABULARY, "is", "the", "'x'", "in-", ":", "  ", "_", "\n"]), max_size=12
    )
)
def test_looking_for_the_needed_piece_first_changes_nothing(words: list[str]) -> None:
    """A pattern never matches a text without the piece that it stands behind."""
    for text in (" ".join(words), "".join(words), "_".join(words)):
        for needed, pattern in itertools.chain.from_iterable(WORDS.values()):
            assert needed in text or not re.search(pattern, text)


# Hostility


class RaisingError(Exception):
    """Everything one may ask of it raises, a BaseException at that."""

    def __str__(self) -> Never:
        raise SystemExit("from __str__")

    __repr__ = __str__
    __cause__ = __context__ = __suppress_context__ = property(__str__)
    args = original_error = status_code = code = errno = property(__str__)

    def __bool__(self) -> Never:
        raise SystemExit("from __bool__")

    __len__ = __eq__ = __bool__
    __hash__ = None


class LyingClassError(Exception):
    __class__ = property(lambda self: 1 / 0)


class NotTextError(Exception):
    __str__ = property(lambda self: lambda: 404)


class Meta(type):
    def __hash__(cls) -> Never:
        raise RuntimeError("no hash")

    __eq__ = __hash__


class OddClassError(Exception, metaclass=Meta):
    pass


class EvilText(str):
    __slots__ = ()

    def __getitem__(self, key: Any) -> Never:
        raise RuntimeError("no slice")

    lower = __contains__ = __getitem__


class EvilTextError(Exception):
    def __str__(self) -> str:
        return EvilText("redis is down")


class EvilGroup(ExceptionGroup[Exception]):
    exceptions = property(lambda self: 1 / 0)


class EvilInt(int):
    def __le__(self, other: object) -> Never:
        raise RuntimeError("no order")

    __lt__ = __gt__ = __ge__ = __eq__ = __add__ = __le__
    __hash__ = int.__hash__


class FalsyError(RuntimeError):
    def __len__(self) -> int:
        return 0


def public_error_with(status_code: object) -> PublicError:
    exc = PublicError("x")
    exc.status_code = status_code
    return exc


# Made when a test asks: pytest itself does not survive holding some of them.
HOSTILE: dict[str, Callable[[], BaseException]] = {
    "raising": RaisingError,
    "lying class": lambda: LyingClassError("redis"),
    "message that is no text": NotTextError,
    "unhashable class": OddClassError,
    "text that cannot be cut": EvilTextError,
    "group that hides its leaves": lambda: EvilGroup("", [ValueError()]),
    "raising status": named(
        "starlette.exceptions.HTTPException", status_code=property(lambda self: 1 / 0)
    ),
    "lying status": lambda: StarletteLike(LyingClassError()),
    "raising code": named("grpc.RpcError", code=property(lambda self: 1 / 0)),
    "raising reason": named("urllib.error.URLError", reason=property(lambda self: 1 / 0)),
    "public error's lying status": lambda: public_error_with(LyingClassError()),
    "surrogates": lambda: RuntimeError("\ud800\x00"),
    "odd names": lambda: type("\u0130" * 500, (Exception,), {"__module__": None})("\u0130" * 2000),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_nothing_an_exception_does_gets_out(name: str) -> None:
    """Raising, lying and odd members cost the evidence they hide, never the verdict."""
    make = HOSTILE[name]
    for asked in (
        make(),
        chained(RuntimeError("oh"), make()),
        ExceptionGroup("", [chained(ValueError(), make()), make()]),
    ):
        verdict = judge(asked)
        assert type(verdict.info) is ErrorInfo
        assert 400 <= verdict.status_code <= 599


class Lying:
    __class__ = property(lambda self: 1 / 0)


@pytest.mark.parametrize("name", ["original_error", "original_exception"])
def test_a_lying_attribute_hides_no_other_evidence(name: str) -> None:
    """What is no exception is no origin, whatever it does when asked for its class."""
    exc = RuntimeError("redis is down")
    setattr(exc, name, Lying())
    assert classify(exc) is ErrorType.CACHE


def test_a_falsy_exception_is_still_a_cause() -> None:
    """An exception may have a length of zero (aiohttp's HTTP exceptions are mappings)."""
    assert (
        judge(chained(RuntimeError("oh"), FalsyError("redis"))).info.error_type is ErrorType.CACHE
    )


def test_text_and_numbers_of_odd_classes_are_read_as_what_they_are() -> None:
    """A subclass of str or int cannot get between us and its value."""
    assert classify(EvilTextError()) is ErrorType.CACHE
    assert judge(StarletteLike(EvilInt(404))).status_code == 404


class CountingError(Exception):
    """Counts how often anything looks at it."""

    read = 0

    def __str__(self) -> str:
        type(self).read += 1
        return "oh"


@pytest.fixture
def reads() -> Any:
    CountingError.read = 0
    return lambda: CountingError.read


def test_a_chain_is_followed_a_bounded_way(reads: Any) -> None:
    """Of 3,000 links eleven are looked at."""
    links = [CountingError() for _ in range(3_000)]
    for link, cause in itertools.pairwise(links):
        link.__cause__ = cause
    links[-1].__cause__ = TimeoutError()
    assert judge(links[0]).evidence == "none"
    assert reads() == 11
    assert judge(links[-11]).evidence == "none"
    assert judge(links[-10]).info.error_type is ErrorType.TIMEOUT


@pytest.mark.parametrize("size", [1, 2, 3])
def test_a_cycle_ends(reads: Any, size: int) -> None:
    """Each exception of a cycle is looked at once."""
    links = [CountingError() for _ in range(size)]
    for link, cause in zip(links, links[1:] + links[:1], strict=True):
        link.__cause__ = cause
    assert judge(links[0]).evidence == "none"
    assert reads() == size


def test_a_group_is_opened_a_bounded_way(reads: Any) -> None:
    """Of 10,000 leaves fifty are looked at; so deep a nest of groups ends without a leaf."""
    wide = ExceptionGroup("", [CountingError() for _ in range(10_000)])
    assert judge(wide).info.error_type is ErrorType.UNKNOWN
    assert reads() == 50
    deep: Exception = TimeoutError()
    for _ in range(10_000):
        deep = ExceptionGroup("", [deep])
    assert judge(deep).evidence == "none"
    while isinstance(deep, ExceptionGroup):  # unwind by hand: freeing it at once recurses in C
        deep = deep.exceptions[0]


def test_groups_in_the_causes_of_leaves_do_not_multiply_the_work(reads: Any) -> None:
    """Groups of leaves caused by groups of leaves: a hundred exceptions are looked at in all."""
    exc: BaseException = CountingError()
    for _ in range(8):
        exc = ExceptionGroup("", [chained(CountingError(), exc) for _ in range(50)])
    assert judge(exc).info.error_type is ErrorType.UNKNOWN
    assert reads() <= 100


def test_a_group_in_the_cause_of_a_leaf_is_opened() -> None:
    """As trio raises a refused connection out of a nursery."""
    refused = chained(
        OSError("all attempts failed"), ExceptionGroup("", [ConnectionRefusedError()])
    )
    assert classify(ExceptionGroup("", [refused])) is ErrorType.EXTERNAL_SERVICE
    assert classify(refused) is ErrorType.EXTERNAL_SERVICE


TREES = st.recursive(
    st.sampled_from(
        [
            *BUGS,
            TimeoutError,
            MemoryError,
            OSError,
            RuntimeError,
            VideoMissingError,
            NotTextError,
            EvilTextError,
        ]
    ).map(lambda cls: cls()),
    lambda inner: st.one_of(
        st.tuples(inner, inner).map(lambda pair: chained(*pair)),
        st.tuples(inner, inner).map(lambda pair: arising(*pair)),
        st.lists(inner, min_size=1, max_size=3).map(lambda leaves: ExceptionGroup("x", leaves)),
    ),
    max_leaves=20,
)


@given(exc=TREES)
def test_any_tree_of_exceptions_gets_a_verdict_and_the_same_again(exc: BaseException) -> None:
    """Judging is pure: it neither raises nor remembers what it saw."""
    verdict = judge(exc)
    assert verdict.status_code >= 500
    assert judge(exc) == verdict == Classifier()(exc)


# What is remembered


def test_classes_are_not_kept_alive() -> None:
    """What is remembered of a class goes with it."""
    classifier = Classifier()
    cls = named("app.Dynamic")
    classifier(cls())
    alive = weakref.ref(cls)
    del cls
    gc.collect()
    assert alive() is None


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Classes without end, all kept by the program: the memory of them starts anew."""
    monkeypatch.setattr(module, "_MAX_CLASSES", 8)
    classifier = Classifier()
    classes = [named("app.ModelLoadError") for _ in range(100)]
    assert {classifier(cls()).info.error_type for cls in classes} == {ErrorType.MODEL}
    assert len(classifier._facts) <= 8


def test_two_classifiers_do_not_share_what_they_learned() -> None:
    """One user's rule is not another's."""
    assert Classifier(rules={VideoError: ErrorType.CACHE})(VideoError()).evidence == "rule"
    assert Classifier()(VideoError()).evidence == "none"


# Construction

INFO = POLICIES[ErrorType.MODEL]


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"rules": 5}, TypeError, "pairs or a mapping"),
        ({"rules": "app.Error"}, TypeError, "pairs or a mapping"),
        ({"rules": (VideoError, ErrorType.MODEL)}, TypeError, "must be a pair"),
        ({"rules": [(VideoError,)]}, TypeError, "must be a pair"),
        ({"rules": [(VideoError, "model")]}, TypeError, "ErrorType.TIMEOUT"),
        ({"rules": {VideoError: None}}, TypeError, "ErrorType.TIMEOUT"),
        ({"rules": [(int, ErrorType.MODEL)]}, TypeError, "exception class"),
        ({"rules": [(404, ErrorType.MODEL)]}, TypeError, "exception class"),
        ({"rules": [(ErrorType.MODEL, ErrorType.MODEL)]}, TypeError, "exception class"),
        ({"rules": [("", ErrorType.MODEL)]}, ValueError, "in full"),
        ({"rules": [("ValueError", ErrorType.MODEL)]}, ValueError, "builtins.ValueError"),
        ({"rules": [("app..Error", ErrorType.MODEL)]}, ValueError, "in full"),
        ({"rules": [(" . ", ErrorType.MODEL)]}, ValueError, "in full"),
        ({"policies": [(VideoError, INFO)]}, TypeError, "policies must map"),
        ({"policies": {VideoError: ErrorType.MODEL}}, TypeError, "must be an ErrorInfo"),
        ({"policies": {ErrorType.CACHE: INFO}}, ValueError, "must be about ErrorType.CACHE"),
        ({"policies": {int: INFO}}, TypeError, "exception class"),
        ({"policies": {"model": INFO}}, ValueError, "the type itself as a key, ErrorType.MODEL;"),
        ({"policies": {"Error": INFO}}, ValueError, "in full"),
        ({"policies": {lambda exc: True: INFO}}, TypeError, "exception class"),
    ],
)
def test_what_can_never_apply_is_refused_with_what_to_do(
    options: dict[str, Any], error: type[Exception], words: str
) -> None:
    """A mistake in rules or policies is told where it was made."""
    with pytest.raises(error, match=re.escape(words)):
        Classifier(**options)


def test_options_are_taken_by_name() -> None:
    """Rules and policies cannot be confused."""
    with pytest.raises(TypeError, match="positional"):
        Classifier([])
