"""CORS headers for error answers: what a browser needs, for exactly the origins that were named."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgi_errorkit.cors import cors

APP = "https://app.example.com"


def ask(headers, *origins):
    """The CORS headers for a request with these Origin headers."""
    return dict(headers({"headers": [(b"origin", each.encode("latin-1")) for each in origins]}))


class TestWhatCannotBeMeant:
    @pytest.mark.parametrize(
        "origin",
        [
            "https://app.example.com/",
            "https://app.example.com/path",
            "app.example.com",
            "https://",
            "https://*.example.com",
            "https://bücher.example",
            "https://app.example.com:port",
            "https://user@app.example.com",
            "null",
            "",
        ],
    )
    def test_refuses_what_is_no_origin(self, origin):
        """A browser would never send it, so it could never be allowed: say so at construction."""
        with pytest.raises(ValueError, match="must be origins such as") as caught:
            cors(allow_origins=[origin])
        assert repr(origin) in str(caught.value)

    def test_refuses_any_origin_with_credentials(self):
        """Fetch 3.3.5: "*" with credentials fails in the browser; the error names the way out."""
        with pytest.raises(ValueError, match="name the origins, or give allow_origin_regex"):
            cors(allow_origins=["*"], allow_credentials=True)

    def test_refuses_a_bare_string_of_origins(self):
        with pytest.raises(TypeError, match=r"write \['https://app.example.com'\]"):
            cors(allow_origins=APP)

    @pytest.mark.parametrize("option", ["allow_origins", "expose_headers"])
    @pytest.mark.parametrize("wrong", [[b"https://app.example.com"], [None], [7], 7, b"a"])
    def test_refuses_what_is_no_list_of_strings(self, option, wrong):
        with pytest.raises(TypeError, match=f"{option} must be a list of strings"):
            cors(**{option: wrong})

    @pytest.mark.parametrize("wrong", [5, b"https://.*", ["https://.*"]])
    def test_refuses_what_is_no_pattern(self, wrong):
        with pytest.raises(TypeError, match=r"allow_origin_regex must be a string, e\.g\. 'https"):
            cors(allow_origin_regex=wrong)

    @pytest.mark.parametrize("wrong", ["0", "false", 1, None])
    def test_refuses_credentials_that_are_neither_true_nor_false(self, wrong):
        """The "0" of an environment variable must not allow them."""
        with pytest.raises(TypeError, match="allow_credentials must be True or False; got"):
            cors(allow_origins=[APP], allow_credentials=wrong)

    def test_refuses_a_broken_pattern(self):
        with pytest.raises(ValueError, match="allow_origin_regex must be a regular expression"):
            cors(allow_origin_regex="https://(")

    @pytest.mark.parametrize("name", ["X Request", "", "X-Id\r\nSet-Cookie: a=b", "é"])
    def test_refuses_what_is_no_header_name(self, name):
        with pytest.raises(ValueError, match="expose_headers must be header names"):
            cors(allow_origins=[APP], expose_headers=[name])


class TestWhoIsAllowed:
    def test_echoes_a_named_origin(self):
        assert ask(cors(allow_origins=[APP]), APP) == {
            "Access-Control-Allow-Origin": APP,
            "Access-Control-Expose-Headers": "X-Request-ID, Retry-After",
            "Vary": "Origin",
        }

    @pytest.mark.parametrize(
        "origin",
        [
            "https://app.example.com.evil.net",
            "https://evil.net",
            "http://app.example.com",
            "https://app.example.com:8443",
            "https://app.example.com/",
            "HTTPS://APP.EXAMPLE.COM",
            "null",
            "",
        ],
    )
    def test_gives_others_nothing_but_vary(self, origin):
        """Caches must know that another origin would have been answered otherwise."""
        assert ask(cors(allow_origins=[APP]), origin) == {"Vary": "Origin"}

    def test_without_an_origin_only_vary(self):
        assert ask(cors(allow_origins=[APP])) == {"Vary": "Origin"}

    def test_two_origins_are_none(self):
        """A request with two Origin headers comes from no browser."""
        assert ask(cors(allow_origins=[APP]), APP, APP) == {"Vary": "Origin"}

    def test_reads_a_scope_without_headers(self):
        assert cors(allow_origins=[APP])({}) == {"Vary": "Origin"}

    def test_names_of_headers_may_have_any_case(self):
        allowed = cors(allow_origins=[APP])({"headers": [(b"Origin", APP.encode())]})
        assert allowed["Access-Control-Allow-Origin"] == APP

    @pytest.mark.parametrize(
        ("named", "sent"),
        [
            ("https://App.Example.com", "https://app.example.com"),
            ("https://app.example.com:443", "https://app.example.com"),
            ("http://app.example.com:80", "http://app.example.com"),
            ("http://localhost:3000", "http://localhost:3000"),
            ("http://[::1]:3000", "http://[::1]:3000"),
            ("chrome-extension://abcdefgh", "chrome-extension://abcdefgh"),
        ],
    )
    def test_an_origin_is_named_as_people_write_it(self, named, sent):
        """Browsers send lower case and leave the scheme's own port out."""
        assert ask(cors(allow_origins=[named]), sent)["Access-Control-Allow-Origin"] == sent

    def test_nothing_named_is_nothing_said(self):
        assert ask(cors(), APP) == {}


class TestAnyOrigin:
    def test_is_answered_with_a_star(self):
        """The answer is the same for every origin, so no cache need tell them apart."""
        assert ask(cors(allow_origins=["*"]), "null") == {
            "Access-Control-Allow-Origin": "*",
            "Access-Control-Expose-Headers": "X-Request-ID, Retry-After",
        }

    def test_without_an_origin_says_nothing(self):
        assert ask(cors(allow_origins=["*"])) == {}

    def test_outweighs_what_else_was_named(self):
        headers = cors(allow_origins=["*", APP], allow_origin_regex="https://x")
        assert ask(headers, APP)["Access-Control-Allow-Origin"] == "*"


class TestPattern:
    def test_must_match_the_whole_origin(self):
        headers = cors(allow_origin_regex=r"https://[a-z]+\.example\.com")
        assert ask(headers, APP)["Access-Control-Allow-Origin"] == APP
        assert ask(headers, APP + ".evil.net") == {"Vary": "Origin"}

    @pytest.mark.parametrize("origin", ["null", "file://", "https://a.net\x00", "x" * 5000, "a b"])
    def test_of_anything_still_allows_origins_alone(self, origin):
        """A sandboxed page of anybody sends "null"; credentials must not follow it."""
        headers = cors(allow_origin_regex=".*", allow_credentials=True)
        assert ask(headers, origin) == {"Vary": "Origin"}


class TestGrants:
    def test_credentials_are_granted_when_asked_for(self):
        granted = ask(cors(allow_origins=[APP], allow_credentials=True), APP)
        assert granted["Access-Control-Allow-Credentials"] == "true"

    def test_credentials_are_not_granted_otherwise(self):
        assert "Access-Control-Allow-Credentials" not in ask(cors(allow_origins=[APP]), APP)

    def test_exposes_what_is_named(self):
        headers = cors(allow_origins=[APP], expose_headers=["X-Trace"])
        assert ask(headers, APP)["Access-Control-Expose-Headers"] == "X-Trace"

    def test_exposes_nothing_when_nothing_is_named(self):
        headers = cors(allow_origins=[APP], expose_headers=[])
        assert "Access-Control-Expose-Headers" not in ask(headers, APP)


@given(st.text(st.characters(max_codepoint=255), max_size=60))
def test_only_named_origins_ever_come_back(origin):
    """Whatever is sent as Origin, it is echoed only if it was named."""
    allowed = ask(cors(allow_origins=[APP], allow_credentials=True), origin)
    assert allowed.get("Access-Control-Allow-Origin", APP) == APP
    assert ("Access-Control-Allow-Origin" in allowed) == (origin == APP)
