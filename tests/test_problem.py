"""What a client is told of a failure, and what it is never told."""

import re
import subprocess
import sys
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from html.parser import HTMLParser
from http import HTTPStatus
from pathlib import Path
from typing import NamedTuple

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.exceptions import HTTPException

from asgi_errorkit.errors import (
    POLICIES,
    ErrorAction,
    ErrorInfo,
    ErrorSeverity,
    ErrorType,
    PublicError,
)
from asgi_errorkit.exchange import KEY
from asgi_errorkit.problem import WORDS, Failure, answer
from asgi_errorkit.redact import Redactor
from tests.naming import shown

JSON = b"application/problem+json"
HTML = b"text/html; charset=utf-8"
BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/webp,*/*;q=0.8"
MARKER = "hunter2-the-secret"


@dataclass(frozen=True)
class Account:
    password: str


class Response(NamedTuple):
    status: int
    headers: dict[bytes, bytes]
    body: bytes


def thrown(exc):
    """The exception, with a traceback."""
    try:
        raise exc
    except BaseException as caught:
        return caught


def scope_of(*, accept=None, method="GET", path="/videos/1", **more):
    headers = [(b"host", b"test")]
    headers += [(b"accept", each.encode("latin-1")) for each in ([accept] if accept else [])]
    return {"type": "http", "method": method, "path": path, "headers": headers, **more}


def failure_of(exc, kind=ErrorType.UNKNOWN, status=None, info=None, request_id="abc123"):
    info = info or POLICIES[kind]
    return Failure(exc, info, status or info.status_code, request_id, 1640995200.0)


def ask(
    exc=None, *, kind=ErrorType.UNKNOWN, status=None, info=None, debug=False, scope=None, **more
):
    """The answer to a failed request, its headers as a dict."""
    failure = failure_of(exc, kind, status, info)
    made = answer(failure, scope or scope_of(**more), debug=debug, redactor=Redactor())
    assert len(made.headers) == len(dict(made.headers))
    assert all(name == name.lower() for name, _ in made.headers)
    return Response(made.status_code, dict(made.headers), made.body)


def document(*args, **more):
    response = ask(*args, **more)
    assert response.headers[b"content-type"] == JSON
    return orjson.loads(response.body)


class TestHostileExceptions:
    """Whatever the exception does when it is asked, there is an answer."""

    def refusing(self, base, *names):
        def refuse(self, *args):
            raise RuntimeError("a property raised")

        members = {name: refuse if name.startswith("__") else property(refuse) for name in names}
        return type("Refusing", (base,), {"__init__": lambda self, *args: None, **members})

    @pytest.mark.parametrize("debug", [False, True])
    @pytest.mark.parametrize("accept", [None, BROWSER])
    @pytest.mark.parametrize("base", [Exception, PublicError, HTTPException])
    def test_of_every_kind_are_answered(self, base, accept, debug):
        names = ("detail", "headers", "context", "retry_after_seconds", "status_code")
        cls = self.refusing(base, "__str__", "__repr__", *names)
        response = ask(thrown(cls()), accept=accept, debug=debug)
        assert response.status == 500
        assert b"abc123" in response.body

    def test_with_a_class_that_cannot_be_asked(self):
        trapped = type("Trapped", (Exception,), {"__class__": property(lambda self: 1 / 0)})
        assert ask(thrown(trapped())).status == 500

    @pytest.mark.parametrize(
        "detail",
        [None, 7, b"bytes", {"a": 1}, object()],
        ids=["none", "int", "bytes", "dict", "object"],
    )
    def test_with_a_detail_that_is_no_text(self, detail):
        """Only text is public: a dict or an object may hold anything."""
        exc = PublicError("x")
        exc.detail = detail
        assert document(exc)["detail"] == WORDS[ErrorType.UNKNOWN].sentence

    def test_with_a_detail_of_ten_megabytes(self):
        assert len(ask(PublicError("x" * 10_000_000)).body) < 10_000

    def test_with_half_a_character(self):
        assert "�" in document(PublicError("\ud800 broken"))["detail"]

    @pytest.mark.parametrize("headers", [7, "a: b", [("a", "b")], {"a": 1, b"b": "c", None: None}])
    def test_with_headers_that_are_none(self, headers):
        exc = PublicError("x")
        exc.headers = headers
        assert ask(exc).headers.keys() == ask(PublicError("x")).headers.keys()

    @pytest.mark.parametrize("seconds", ["5", -1, float("nan"), None, True, object()])
    def test_with_a_retry_after_that_is_none(self, seconds):
        exc = PublicError("x", status_code=500)
        exc.retry_after_seconds = seconds
        assert b"retry-after" not in ask(exc, status=500).headers

    def test_with_an_endless_retry_after(self):
        response = ask(PublicError("x", retry_after_seconds=float("inf")))
        assert response.headers[b"retry-after"] == b"31536000"


class TestHostileContext:
    """The context of a PublicError is sent as JSON, and whatever it holds the answer is sent."""

    def context(self, context):
        exc = PublicError("x")
        exc.context = context
        made = document(exc)["error"]["context"]
        assert made.pop("error_type") == "unknown"
        assert made.pop("path") == "/videos/1"
        assert made.pop("method") == "GET"
        return made

    def test_is_sent_as_it_is(self):
        assert self.context({"left": 3, "max_tokens": 7, 4: [None, 1.5]}) == {
            "left": 3,
            "max_tokens": 7,
            "4": [None, 1.5],
        }

    @pytest.mark.parametrize("context", [None, {}, 7, "text", [1], object()])
    def test_that_is_none_is_left_out(self, context):
        assert self.context(context) == {}

    @pytest.mark.parametrize(
        ("value", "told"),
        [
            (Path("/y"), "/y"),
            (Decimal("1.50"), "1.50"),
            (b"caf\xc3\xa9", "café"),
            ({"a"}, ["a"]),
            (frozenset([7]), [7]),
            (date(2024, 2, 29), "2024-02-29"),
            (object(), "object"),
            (ValueError(MARKER), "ValueError"),
            (Account(MARKER), "Account"),
            ([Account(MARKER)], ["Account"]),
            ({Account(MARKER)}, ["Account"]),
        ],
        ids=shown,
    )
    @pytest.mark.parametrize("beside", ["", "\ud800", "x" * 17_000], ids=["", "odd", "long"])
    def test_tells_plain_values_and_of_objects_the_class_alone(self, value, told, beside):
        """An object's text may hold anything, a password or an address in memory."""
        assert self.context({"a": beside, "it": value})["it"] == told

    def test_tells_of_keys_the_class_alone(self):
        assert set(self.context({Account(MARKER): 1, (1, 2): 2})) == {"Account", "..."}

    def test_with_a_raising_repr(self):
        cls = type("Odd", (), {"__repr__": lambda self: 1 / 0, "__str__": lambda self: 1 / 0})
        assert set(self.context({"odd": cls()})) == {"odd"}

    def test_with_half_characters_is_mended(self):
        assert "�" in self.context({"odd": "\ud800"})["odd"]

    def test_with_huge_numbers_is_mended(self):
        assert set(self.context({"n": 2**200})) == {"n"}

    def test_that_holds_itself_is_cut(self):
        context = {"a": 1}
        context["self"] = context
        assert self.context(context)["a"] == 1

    def test_of_a_megabyte_is_bounded(self):
        assert len(orjson.dumps(self.context({str(n): "x" * 100 for n in range(10_000)}))) < 17_000

    def test_that_raises_is_left_out(self):
        class Broken(dict):
            def keys(self):
                raise RuntimeError("keys")

            items = __iter__ = keys

        assert "secret" not in self.context(Broken(secret=1))

    def test_comes_after_ours(self):
        """Who raises the error may say better what it was about."""
        exc = PublicError("x", context={"error_type": "quota"})
        assert document(exc)["error"]["context"]["error_type"] == "quota"


class TestHostileRequests:
    @pytest.mark.parametrize("accept", [None, BROWSER])
    @pytest.mark.parametrize("debug", [False, True])
    @pytest.mark.parametrize(
        "path",
        [
            "\ud800",
            "/" + "x" * 1_000_000,
            "/<script>alert(1)</script>",
            '/"\r\n\x1b\u2028',
            b"/bytes",
            None,
        ],
    )
    def test_with_any_path_are_answered(self, path, accept, debug):
        response = ask(thrown(ValueError("x")), path=path, accept=accept, debug=debug)
        assert len(response.body) < 100_000
        if response.headers[b"content-type"] == HTML:
            Page(response.body).check()
        else:
            assert orjson.loads(response.body)["status"] == 500

    def test_with_an_empty_scope_are_answered(self):
        assert ask(scope={}).status == 500

    @pytest.mark.parametrize("request_id", ["<script>", "\ud800", "x" * 1000])
    def test_with_any_request_id_are_answered(self, request_id):
        failure = failure_of(None, request_id=request_id)
        page = answer(failure, scope_of(accept=BROWSER), debug=False, redactor=Redactor()).body
        made = answer(failure, scope_of(), debug=False, redactor=Redactor()).body
        assert len(orjson.loads(made)["request_id"]) <= 128
        assert orjson.loads(made)["request_id"] in Page(page).check().text

    def test_a_path_is_no_address_of_another_host(self):
        """RFC 3986, 4.2: a reference that starts with two slashes names a host."""
        made = document(path="//evil.example/x")
        assert made["instance"] == "/%2Fevil.example/x"

    def test_a_path_is_escaped_as_a_reference(self):
        assert document(path="/a b/ü?#")["instance"] == "/a%20b/%C3%BC%3F%23"


class TestNothingLeaks:
    @given(st.text(), st.text(), st.sampled_from(list(ErrorType)), st.sampled_from([None, BROWSER]))
    def test_of_any_message(self, before, after, kind, accept):
        """Without debug no part of the exception's text, class or cause is in the answer."""
        cls = type("ClassNamedSo", (Exception,), {})
        exc = cls(before + MARKER + after)
        exc.__cause__ = KeyError(MARKER)
        exc.add_note(MARKER)
        body = ask(thrown(exc), kind=kind, accept=accept).body
        assert MARKER.encode() not in body
        assert b"ClassNamedSo" not in body and b"Traceback" not in body

    @given(st.text(), st.integers(500, 599))
    def test_of_the_detail_of_a_frameworks_500(self, text, status):
        """Such a detail is often the text of another exception."""
        body = ask(HTTPException(status, detail=text + MARKER), status=status).body
        assert MARKER.encode() not in body

    @pytest.mark.parametrize("kind", ErrorType)
    def test_every_type_has_its_words(self, kind):
        """A name and a sentence each, of the side that is at fault for the type's own status."""
        made = document(ValueError(MARKER), kind=kind)
        assert made["status"] == POLICIES[kind].status_code
        assert (made["error"]["type"], made["detail"]) == WORDS[kind]

    @pytest.mark.parametrize("kind", ErrorType)
    def test_words_never_blame_the_wrong_side(self, kind):
        """A ValueError deep in a handler is a 500: the request is not to be called invalid."""
        as_server = document(kind=kind, status=500)
        as_client = document(kind=kind, status=418)
        at_fault = {as_server["error"]["type"]} - {"InternalError"}
        assert all(POLICIES[k].status_code >= 500 for k in ErrorType if WORDS[k].name in at_fault)
        at_fault = {as_client["error"]["type"]} - {"RequestError"}
        assert all(POLICIES[k].status_code < 500 for k in ErrorType if WORDS[k].name in at_fault)


class TestDocument:
    def test_is_a_problem_document_with_the_guides_error(self):
        """RFC 9457, with request id and the error object as extension members."""
        assert document(ValueError("x"), kind=ErrorType.MODEL, method="POST") == {
            "type": "about:blank",
            "title": "Service Unavailable",
            "status": 503,
            "detail": "The model cannot be used right now.",
            "instance": "/videos/1",
            "request_id": "abc123",
            "error": {
                "type": "ModelError",
                "message": "The model cannot be used right now.",
                "category": "system_error",
                "severity": "high",
                "status_code": 503,
                "timestamp": 1640995200.0,
                "context": {"error_type": "model", "path": "/videos/1", "method": "POST"},
            },
        }

    def test_of_a_clients_fault_says_so(self):
        made = document(kind=ErrorType.NOT_FOUND)
        assert made["error"]["category"] == "client_error"
        assert made["error"]["type"] == "NotFoundError"

    def test_without_an_exception_is_the_same(self):
        """A full queue or an open circuit fails a request without an exception."""
        assert document(None, kind=ErrorType.MODEL) == document(
            ValueError("x"), kind=ErrorType.MODEL
        )
        assert document(None, kind=ErrorType.MODEL, debug=True) == document(kind=ErrorType.MODEL)

    @pytest.mark.parametrize(("status", "title"), [(499, "Client Error"), (599, "Server Error")])
    def test_of_an_unnamed_status_has_a_title(self, status, title):
        assert document(status=status)["title"] == title

    @pytest.mark.parametrize("status", [204, 304, 200, 302, 600])
    def test_never_has_a_status_of_success(self, status):
        """An error is answered as an error, with a body."""
        assert document(status=status)["status"] == 500


class TestPublicError:
    def test_says_what_it_was_made_to_say(self):
        exc = PublicError(
            "Only 3 videos a day.",
            error_type=ErrorType.RATE_LIMIT,
            retry_after_seconds=1.2,
            context={"left": 0},
            headers={"X-Quota": "3"},
        )
        response = ask(exc, kind=ErrorType.RATE_LIMIT)
        made = orjson.loads(response.body)
        assert made["detail"] == made["error"]["message"] == "Only 3 videos a day."
        assert made["error"]["type"] == "RateLimitError"
        assert made["error"]["context"]["left"] == 0
        assert response.headers[b"x-quota"] == b"3"
        assert response.headers[b"retry-after"] == b"2"

    def test_may_speak_of_the_servers_fault(self):
        exc = PublicError("Back at noon.", error_type=ErrorType.SYSTEM)
        assert document(exc, status=500)["detail"] == "Back at noon."

    def test_gets_the_status_of_the_failure(self):
        """A rule of the user's for its class may have changed it."""
        assert ask(PublicError("x", status_code=409), status=410).status == 410

    def test_without_words_gets_ours(self):
        assert document(PublicError(""))["detail"] == WORDS[ErrorType.UNKNOWN].sentence


class TestFrameworksExceptions:
    def test_keep_detail_and_headers(self):
        exc = HTTPException(401, "Sign in.", headers={"WWW-Authenticate": 'Bearer realm="x"'})
        response = ask(exc, kind=ErrorType.AUTHENTICATION)
        assert response.status == 401
        assert orjson.loads(response.body)["detail"] == "Sign in."
        assert response.headers[b"www-authenticate"] == b'Bearer realm="x"'

    def test_authenticate_is_never_made_up(self):
        assert b"www-authenticate" not in ask(kind=ErrorType.AUTHENTICATION).headers

    def test_may_have_a_status_of_the_standard_library(self):
        made = document(HTTPException(HTTPStatus.GONE, "Deleted."), status=410)
        assert made["detail"] == "Deleted."

    def test_keep_the_headers_of_a_500(self):
        response = ask(HTTPException(503, MARKER, headers={"Retry-After": "120"}), status=503)
        assert response.headers[b"retry-after"] == b"120"

    @pytest.mark.parametrize("detail", [{"field": MARKER}, [MARKER], None, 7])
    def test_details_other_than_text_stay_private(self, detail):
        exc = HTTPException(422)
        exc.detail = detail
        made = ask(exc, kind=ErrorType.VALIDATION)
        assert orjson.loads(made.body)["detail"] == WORDS[ErrorType.VALIDATION].sentence

    @pytest.mark.parametrize("own", [401, 302, 1000, "404", None])
    def test_of_another_status_say_nothing(self, own):
        """An HTTP client's exception may have the same shape; an upstream's 401 is not ours."""
        shape = {"status_code": own, "detail": MARKER, "headers": {"x-upstream": "b"}}
        for status in (404, 500):
            response = ask(type("APIStatusError", (Exception,), shape)(MARKER), status=status)
            assert response.status == status
            assert MARKER.encode() not in response.body
            assert b"x-upstream" not in response.headers

    @pytest.mark.parametrize("missing", ["detail", "headers"])
    def test_of_another_shape_say_nothing(self, missing):
        shape = {"status_code": 404, "detail": MARKER, "headers": {"x-upstream": "b"}}
        del shape[missing]
        response = ask(type("APIStatusError", (Exception,), shape)(MARKER), status=404)
        assert MARKER.encode() not in response.body
        assert b"x-upstream" not in response.headers


class TestHeaders:
    def test_are_those_of_an_answer_that_nobody_keeps(self):
        response = ask()
        assert response.headers == {
            b"cache-control": b"no-store",
            b"vary": b"Accept",
            b"x-content-type-options": b"nosniff",
            b"content-type": JSON,
            b"content-length": str(len(response.body)).encode(),
        }

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("X-A", "a\r\nSet-Cookie: b=c"),
            ("X-A", "a\nb"),
            ("X-A", "a\0"),
            ("X-A", "žluť"),
            ("X-A", "x" * 5000),
            ("X A", "a"),
            ("X-A\r\n", "a"),
            ("", "a"),
            ("x" * 200, "a"),
            ("Content-Length", "7"),
            ("Content-Type", "text/plain"),
            ("Transfer-Encoding", "chunked"),
            ("Connection", "close"),
            ("X-Content-Type-Options", "sniff"),
        ],
    )
    def test_that_cannot_or_must_not_be_sent_are_left_out(self, name, value):
        plain, exc = ask(PublicError("x")), PublicError("x")
        exc.headers = {name: value}
        assert ask(exc).headers == plain.headers

    @given(st.dictionaries(st.text(max_size=20), st.text(max_size=20), max_size=50))
    def test_of_any_kind_leave_one_line_each(self, headers):
        """No header of an exception ends its line or breaks the encoding."""
        exc = PublicError("x")
        exc.headers = headers
        for name, value in ask(exc).headers.items():
            assert re.fullmatch(rb"[!#$%&'*+.^_`|~0-9a-z-]+", name)
            assert not re.search(rb"[\r\n\0]", value)

    def test_are_at_most_as_many_as_are_bearable(self):
        headers = {f"X-{number}": "a" for number in range(1000)}
        assert len(ask(PublicError("x", headers=headers)).headers) < 50

    def test_of_an_exception_may_change_how_long_it_is_kept(self):
        exc = PublicError("x", headers={"Cache-Control": "max-age=60"})
        assert ask(exc).headers[b"cache-control"] == b"max-age=60"

    @pytest.mark.parametrize("accept", [None, BROWSER])
    def test_of_head_are_those_of_get(self, accept):
        """RFC 9110, 9.3.2; but the body stays away."""
        head, get = ask(method="HEAD", accept=accept), ask(method="GET", accept=accept)
        assert head.body == b""
        assert head.headers.keys() == get.headers.keys()
        sent = abs(int(head.headers[b"content-length"]) - len(get.body))
        assert sent <= len("HEAD") - len("GET")


class TestRetryAfter:
    def policy(self, kind, delay):
        return ErrorInfo(kind, ErrorSeverity.LOW, ErrorAction.LOG, retry_delay=delay)

    @pytest.mark.parametrize(("delay", "told"), [(1.0, b"1"), (2.1, b"3"), (0, b"0")])
    @pytest.mark.parametrize("status", [429, 503])
    def test_is_the_policys_delay_rounded_up(self, status, delay, told):
        info = self.policy(ErrorType.MODEL, delay)
        assert ask(info=info, status=status).headers[b"retry-after"] == told

    @pytest.mark.parametrize("status", [400, 404, 500, 502, 504])
    def test_is_not_promised_otherwise(self, status):
        assert b"retry-after" not in ask(status=status).headers

    def test_of_the_exception_outweighs_the_policys(self):
        exc = PublicError("x", retry_after_seconds=30)
        assert ask(exc, status=503).headers[b"retry-after"] == b"30"

    def test_of_a_header_outweighs_both(self):
        when = "Wed, 21 Oct 2026 07:28:00 GMT"
        exc = PublicError("x", retry_after_seconds=30, headers={"Retry-After": when})
        assert ask(exc, status=503).headers[b"retry-after"] == when.encode()


class TestNegotiation:
    @pytest.mark.parametrize(
        "accept",
        [
            BROWSER,
            "text/html",
            "TEXT/HTML",
            "text/*",
            "text/html, application/json;q=0.9",
            "text/html;q=0.5, application/json;q=0.4, application/problem+json;q=0",
            "text/html;level=1;q=0.8, */*;q=0.1",
            " text/html ; q=1.000 , */* ; q=0.999 ",
            "application/json;q=2, text/html;q=0.1",
        ],
    )
    def test_html_for_who_prefers_it(self, accept):
        response = ask(accept=accept)
        assert response.headers[b"content-type"] == HTML
        assert response.headers[b"content-security-policy"].startswith(b"default-src 'none';")

    @pytest.mark.parametrize(
        "accept",
        [
            None,
            "*/*",
            "application/json",
            "application/problem+json",
            "text/html;q=0, */*;q=0",
            "text/html, application/json",
            "text/html, */*",
            "text/html;q=0.5, application/*;q=0.6",
            "text/html;q=0.5, application/json",
            "text/plain, */*;q=0.1",
            "text/html;q=nonsense, text/plain",
            "text/html;q=1e9, text/plain",
            "text/html;q=-1, text/plain",
            "text/html;q=, text/plain",
            "image/png",
            ";;;,,,q=;text/",
            "x" * 2000 + ",text/html",
            "a/b," * 500 + "text/html",
            "a/b," * 247 + "x/,text/html;q=0",  # what is read of it ends after "html"
        ],
    )
    def test_json_for_everyone_else(self, accept):
        assert ask(accept=accept).headers[b"content-type"] == JSON

    def test_joins_several_headers(self):
        headers = [(b"accept", b"text/html;q=0.9"), (b"Accept", b"application/json;q=0.8")]
        assert ask(scope={**scope_of(), "headers": headers}).headers[b"content-type"] == HTML

    @given(st.text(st.characters(max_codepoint=255), max_size=200))
    def test_bears_any_header(self, accept):
        assert ask(accept="text/html," + accept).headers[b"content-type"] in {JSON, HTML}


class Page(HTMLParser):
    """The elements and attributes of a page, and its text."""

    VOID = frozenset({"meta"})

    def __init__(self, body):
        super().__init__()
        self.open, self.tags, self.attributes, self.text, self.style = [], [], [], "", ""
        self.feed(body.decode())
        assert self.open == [], "every element is closed"

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += attributes
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] == ["style"]:
            self.style += data
        else:
            self.text += data

    def check(self):
        """Nothing runs and nothing is loaded."""
        assert not {"script", "img", "link", "iframe", "object", "form", "a"} & set(self.tags)
        assert not [
            n for n, _ in self.attributes if n.startswith("on") or n in {"src", "href", "style"}
        ]
        assert "{" in self.style and "url(" not in self.style and "@import" not in self.style
        return self


HOSTILE_TEXT = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>&lt;</pre></code>"


class TestPage:
    def page(self, *args, **more):
        response = ask(*args, accept=BROWSER, **more)
        assert response.headers[b"content-type"] == HTML
        return Page(response.body).check()

    def test_tells_status_sentence_and_request_id(self):
        page = self.page(kind=ErrorType.DATABASE)
        for said in ("503 Service Unavailable", "The data cannot be reached", "abc123", "in 1 s."):
            assert said in page.text

    def test_hints_at_another_try_only_where_one_may_help(self):
        assert "Trying again later may help." in self.page(status=500).text
        assert "again" not in self.page(kind=ErrorType.NOT_FOUND).text
        exc = PublicError("x", headers={"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"})
        assert "Trying again later" in self.page(exc, status=503).text

    def test_can_be_read_by_everyone(self):
        """A language, a title, one heading, one main part."""
        page = self.page()
        assert ("lang", "en") in page.attributes
        assert [page.tags.count(tag) for tag in ("title", "h1", "main")] == [1, 1, 1]

    def test_escapes_everything(self):
        page = self.page(PublicError(HOSTILE_TEXT, status_code=400), status=400, path=HOSTILE_TEXT)
        assert HOSTILE_TEXT in page.text

    @given(st.text(max_size=300))
    def test_escapes_any_detail(self, detail):
        self.page(PublicError(detail))


class OddError(Exception):
    """Someone's own."""


def fail_with_variables():
    user, password, plain = "ann", MARKER, "shown-as-it-is"  # noqa: F841
    settings = {"db": {"password": MARKER, "host": "db.local"}, "sizes": [1, 2.5, None, True]}
    deep = [[[["too deep"]]]]  # noqa: F841
    markup = HOSTILE_TEXT  # noqa: F841
    raw = b"\xff" * 100  # noqa: F841
    raise OddError(f"cannot log in with password={MARKER} at {settings['db']['host']}")


def raised(function, *args):
    try:
        function(*args)
    except Exception as exc:
        return exc
    raise AssertionError("nothing was raised")


class TestDebugDocument:
    def test_tells_class_text_and_traceback(self):
        made = document(raised(fail_with_variables), debug=True)["error"]
        assert made["type"] == "OddError"
        assert made["message"].startswith("cannot log in") and "db.local" in made["message"]
        assert "in fail_with_variables" in made["context"]["traceback"]
        assert "Traceback (most recent call last):" in made["context"]["traceback"]

    def test_holds_no_secrets(self):
        body = ask(raised(fail_with_variables), debug=True).body
        assert MARKER.encode() not in body

    def test_leaves_the_public_words_alone(self):
        made = document(ValueError("x"), debug=True)
        assert made["detail"] == WORDS[ErrorType.UNKNOWN].sentence

    def test_is_bounded(self):
        exc = None
        for _ in range(20):
            outer = ValueError("w " * 5_000_000)
            outer.__cause__, exc = exc, outer
        assert len(ask(exc, debug=True).body) < 100_000


class TestDebugPage:
    def page(self, exc, **more):
        response = ask(exc, accept=BROWSER, debug=True, **more)
        assert response.headers[b"content-type"] == HTML
        assert len(response.body) <= 1024 * 1024
        assert response.headers[b"content-length"] == str(len(response.body)).encode()
        return Page(response.body).check()

    def test_tells_what_happened_and_where(self):
        text = self.page(raised(fail_with_variables)).text
        for said in (
            "OddError",
            "cannot log in",
            "in fail_with_variables",
            "raise OddError(f",
            "shown-as-it-is",
            "db.local",
            "abc123",
            "500 Internal Server Error",
        ):
            assert said in text

    def test_holds_no_secrets(self):
        scope = scope_of(
            accept=BROWSER,
            query_string=f"page=2&token={MARKER}".encode(),
        )
        scope["headers"] += [
            (b"authorization", f"Bearer {MARKER}".encode()),
            (b"cookie", f"session={MARKER}".encode()),
            (b"user-agent", b"browser"),
        ]
        response = ask(raised(fail_with_variables), scope=scope, debug=True)
        assert MARKER.encode() not in response.body
        assert b"page=2" in response.body and b"browser" in response.body

    def test_holds_no_secrets_of_the_path(self):
        scope = scope_of(accept=BROWSER, path=f"/reset;token={MARKER}")
        assert MARKER.encode() not in ask(raised(fail_with_variables), scope=scope, debug=True).body

    def test_holds_nothing_of_the_kits_own(self):
        def fail():
            scope = {KEY: "kept by the kit", "path": "/a"}
            state = [{"scope": scope}]  # noqa: F841
            raise ValueError("x")

        text = self.page(raised(fail)).text
        assert '{"path":"/a"}' in text
        assert KEY not in text

    def test_holds_no_secrets_of_the_source(self):
        def fail():
            api_key = "written-in-the-source"  # noqa: F841
            raise ValueError("x")

        response = ask(raised(fail), accept=BROWSER, debug=True)
        assert b"raise ValueError" in response.body
        assert b"written-in-the-source" not in response.body

    def test_marks_the_line(self):
        body = ask(raised(fail_with_variables), accept=BROWSER, debug=True).body
        marked = re.findall(rb"<mark>(.*?)</mark>", body)
        assert b"function(*args)" in marked[1] and b"raise OddError" in marked[0]

    def test_tells_the_application_from_libraries(self):
        page = self.page(raised(orjson_of_a_callback))
        kinds = [value for name, value in page.attributes if name == "class"]
        assert {"app", "library"} <= set(kinds)

    def test_tells_causes(self):
        def fail():
            try:
                raise KeyError("first")
            except KeyError as exc:
                raise ValueError("second") from exc

        text = self.page(raised(fail)).text
        assert text.index("Raised: ValueError") < text.index("Directly caused by: KeyError")

    def test_tells_members_of_groups(self):
        text = self.page(ExceptionGroup("several", [KeyError("k"), OSError("o")])).text
        assert text.count("Member of the group above") == 2

    def test_escapes_everything(self):
        scope = scope_of(accept=BROWSER, path="/" + HOSTILE_TEXT, method="<b>")
        scope["headers"].append((b"x-<b>", HOSTILE_TEXT.encode()))
        scope["query_string"] = HOSTILE_TEXT.encode()
        exc = raised(fail_with_variables)
        exc.__cause__ = type("<script>", (Exception,), {"__qualname__": "<script>"})(HOSTILE_TEXT)
        self.page(exc, scope=scope)

    def test_shows_deep_data_in_part(self):
        text = self.page(raised(fail_with_variables)).text
        assert "(list of 1)" in text and "too deep" not in text.replace('[["too deep"]]', "")

    def test_bears_any_variable(self):
        class Hostile:
            def __repr__(self):
                raise RuntimeError("repr")

            __str__ = __iter__ = __len__ = __getattr__ = __class_getitem__ = __repr__

        class Endless(dict):
            def __repr__(self):
                return "r" * 10_000_000

        def fail():
            hostile, endless, nested = Hostile(), Endless(), [Hostile()] * 3  # noqa: F841
            number, text, broken = 10**5000, "t" * 10_000_000, "\ud800"  # noqa: F841
            many = {n: list(range(1000)) for n in range(1000)}  # noqa: F841
            raise ValueError("x")

        text = self.page(raised(fail)).text
        assert "its repr raised RuntimeError" in text
        assert "its repr raised ValueError" in text

    def test_bears_a_class_bodys_own_mapping(self):
        class Names(dict):
            def items(self):
                raise RuntimeError("items")

        class Meta(type):
            @classmethod
            def __prepare__(cls, name, bases):
                return Names()

        def fail():
            class Body(metaclass=Meta):
                raise ValueError("x")

        assert "in TestDebugPage" in self.page(raised(fail)).text

    def test_what_cannot_be_redacted_is_not_shown(self):
        class Broken(Redactor):
            def mapping(self, value, depth=6):
                raise RuntimeError("cannot judge")

        failure = failure_of(raised(fail_with_variables))
        made = answer(failure, scope_of(accept=BROWSER), debug=True, redactor=Broken())
        assert b"(not shown)" in made.body
        assert b"shown-as-it-is" not in re.sub(rb"<pre>.*?</pre>", b"", made.body, flags=re.DOTALL)

    def test_says_when_it_is_full(self):
        exc = None
        for _ in range(8):
            outer = raised(full_of_variables, 60)
            outer.__cause__, exc = exc, outer
        text = self.page(exc).text
        assert "The rest is left out" in text
        assert "Request" in text

    def test_counts_frames_left_out(self):
        def descend(depth):
            if depth:
                descend(depth - 1)
            raise ValueError("at the bottom")

        assert "52 frames left out" in self.page(raised(descend, 100)).text

    def test_of_an_exception_without_a_traceback(self):
        assert "Most recent call first" not in self.page(ValueError("x")).text


def full_of_variables(depth):
    a = b = c = d = e = f = g = h = i = j = "<&" * 490  # noqa: F841
    if depth:
        full_of_variables(depth - 1)
    raise ValueError("full")


def orjson_of_a_callback():
    return re.sub("a", lambda match: 1 // 0, "a")


def test_the_debug_page_is_loaded_only_for_debugging():
    """Production does not pay for it, and cannot show it by accident."""
    script = (
        "import sys, time\n"
        "from asgi_errorkit.errors import POLICIES, ErrorType\n"
        "from asgi_errorkit.problem import Failure, answer\n"
        "from asgi_errorkit.redact import Redactor\n"
        "failure = Failure(ValueError(), POLICIES[ErrorType.SYSTEM], 500, 'id', 0.0)\n"
        "scope = {'headers': [(b'accept', b'text/html')]}\n"
        "for debug in (False, True):\n"
        "    answer(failure, scope, debug=debug, redactor=Redactor())\n"
        "    print('asgi_errorkit.debug_page' in sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["False", "True"]
