"""The most specific pattern applies, and nothing that clients send costs memory."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgi_errorkit.patterns import PathTable
from asgi_errorkit.testing import http_scope


def get(patterns: list[str], path: Any, method: str | None = "GET") -> str | None:
    scope = http_scope("GET", "/")
    scope["path"], scope["method"] = path, method
    table = PathTable({each: each for each in patterns})
    assert table.get(scope) == table.get(scope)
    return table.get(scope)


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("", "has no path"),
        ("POST ", "has no path"),
        ("videos", 'must start with "/"'),
        ("POST videos", 'must start with "/"'),
        ("**", 'must start with "/"'),
        ("post /videos", "in lower case: write 'POST /videos'"),
        ("Post /videos", "write 'POST /videos'"),
        ("/a/*/b", r'has a "\*" before its end'),
        ("/a**", r'has a "\*" before its end'),
        ("/a/{id", "without its other half"),
        ("/a/id}", "without its other half"),
        ("/a/{b/c}", "without its other half"),
        ("/a/{}", "braces hold a name"),
        ("/a/{id:int}", "without converters"),
        ("/a/{id}.json", "a whole segment"),
        ("/a/}{", "braces hold a name"),
        ("/a/{id}*", r'has a "\*" right behind a name'),
        (" /a", "has too many spaces"),
        ("POST  /a", "has too many spaces"),
        ("/a b", "has no method before its path"),
        ("* /a", "has no method before its path"),
    ],
)
def test_a_malformed_pattern_is_refused_and_told_how_to_write_it(
    pattern: str, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        PathTable({pattern: 1})


@pytest.mark.parametrize(
    ("one", "other"),
    [("/v/{id}", "/v/{name}"), ("POST /v/{id}/*", "POST /v/{x}/*")],
)
def test_two_patterns_for_the_same_requests_are_refused(one: str, other: str) -> None:
    with pytest.raises(ValueError, match="fit the same requests: leave one"):
        PathTable({one: 1, other: 2})


@pytest.mark.parametrize("given", [None, "*", ["/a"], {1: 2}])
def test_what_is_no_mapping_of_strings_is_refused_by_the_name_of_the_option(given: Any) -> None:
    with pytest.raises(TypeError, match=r"^limits must"):
        PathTable(given, name="limits")


def test_a_table_without_patterns_is_falsy_and_finds_nothing() -> None:
    assert not PathTable({})
    assert PathTable({"*": None})
    assert get([], "/a") is None


EVERY = [
    "*",
    "POST *",
    "/*",
    "/v/*",
    "/v/{id}",
    "POST /v/{id}",
    "/v/new",
    "POST /v/new",
    "/v/{id}/f/{n}",
    "/v/{id}/{kind}/1",
    "/{a}/{b}/f/1",
    "/v/{id}/*",
    "/assets*",
]


@pytest.mark.parametrize(
    ("method", "path", "pattern"),
    [
        ("GET", "/v/new", "/v/new"),
        ("POST", "/v/new", "POST /v/new"),
        ("GET", "/v/7", "/v/{id}"),
        ("POST", "/v/7", "POST /v/{id}"),
        ("GET", "/v/", "/v/*"),  # a name stands for a segment, and there is none
        ("GET", "/v/7/", "/v/{id}/*"),
        ("GET", "/v/7/f/2", "/v/{id}/f/{n}"),
        ("GET", "/v/7/g/1", "/v/{id}/{kind}/1"),
        ("GET", "/v", "/*"),
        ("POST", "/v", "/*"),  # its literal beginning is longer than that of "POST *"
        ("GET", "/a\nb", "/*"),
        ("GET", "/assets", "/assets*"),
        ("GET", "/assets/a/b", "/assets*"),
        ("GET", "", "*"),
        ("POST", "", "POST *"),
        (None, "/v/new", "/v/new"),
        (None, "/v/7", "/v/{id}"),
        (None, "", "*"),
    ],
)
def test_the_most_specific_pattern_wins(method: str | None, path: str, pattern: str) -> None:
    assert get(EVERY, path, method) == pattern
    assert get(EVERY[::-1], path, method) == pattern


def test_a_pattern_with_a_method_never_fits_a_websocket() -> None:
    assert get(["POST /a", "POST *", "GET /*"], "/a", None) is None


def test_a_scope_without_a_method_or_a_path_is_a_websocket_or_a_lifespan() -> None:
    assert PathTable({"*": 1, "GET /": 2}).get({"type": "lifespan"}) == 1


@pytest.mark.parametrize("path", [b"/a", None, 7, ["/a"], {}])
def test_a_path_that_is_no_text_is_fitted_by_the_star_alone(path: Any) -> None:
    assert get(["/a", "/{a}", "/*", "*"], path) == "*"
    assert get(["/a", "/{a}", "/*"], path) is None


def test_the_memory_for_paths_and_methods_is_bounded() -> None:
    table = PathTable({"/{id}": 1})
    for n in range(5_000):
        table.get(http_scope(f"M{n}", f"/{n}"))
        table.get(http_scope("GET", f"/{n}/{'x' * 3000}"))
        table.get(http_scope(f"M{n}" * 600, "/"))
    assert len(table._found) <= 1024


SEGMENTS = st.lists(st.sampled_from(["a", "b", "{x}", "{y}", "new"]), min_size=1, max_size=4)


@given(st.lists(SEGMENTS, max_size=8), st.lists(st.sampled_from("abz"), min_size=1, max_size=4))
def test_what_is_found_fits_and_nothing_that_fits_is_missed(
    many: list[list[str]], asked: list[str]
) -> None:
    """Checked by a matcher that compares segment by segment."""
    shapes = {tuple("{}" if each[0] == "{" else each for each in one): one for one in many}
    table = PathTable({"/" + "/".join(one): shape for shape, one in shapes.items()})
    fitting = [
        shape
        for shape in shapes
        if len(shape) == len(asked)
        and all(s in ("{}", a) for s, a in zip(shape, asked, strict=True))
    ]
    found = table.get(http_scope("GET", "/" + "/".join(asked)))
    assert (found in fitting) if fitting else (found is None)
    if tuple(asked) in fitting:
        assert found == tuple(asked)


@given(st.text(max_size=20), st.text(max_size=40))
def test_no_request_makes_it_raise(method: str, path: str) -> None:
    get(EVERY, path, method)
