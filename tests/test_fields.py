"""Fields are read from where they are said to come from, bounded, and never break a line."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgi_errorkit import FromHeader, FromPath, FromQuery, from_user
from asgi_errorkit.exchange import PARAMS, Record, begin
from asgi_errorkit.testing import HandClock, http_scope


def record(query: bytes = b"", params: Any = None, **headers: bytes) -> Record:
    named = {name.replace("_", "-").encode(): value for name, value in headers.items()}
    state = begin(http_scope(query=query), named, "a", HandClock(), 0.0)
    state[PARAMS] = params
    return tuple(state)


@pytest.mark.parametrize(
    ("field", "given", "expected"),
    [
        (FromHeader("X-User-ID"), record(x_user_id=b"ann"), "ann"),
        (FromHeader("x-user-id"), record(), None),
        (FromHeader("x"), record(x=b"\xff" * 5000), "\xff" * 1281),
        (FromQuery("model"), record(b"a=1&model=big+one%21&model=2"), "big one!"),
        (FromQuery("model"), record(b"remodel=1"), None),
        (FromQuery("model"), record(b""), None),
        (FromQuery("model"), record(b"model"), ""),
        (FromQuery("m"), record(b"m=" + b"%41" * 5000), "A" * 1281),
        (FromPath("id"), record(params={"id": 7}), "7"),
        (FromPath("id"), record(b"id=8", {"other": 1}), "8"),
        (FromPath("id"), record(b"id=8"), "8"),
        (FromPath("id"), record(params=["id"]), None),
    ],
)
def test_a_field_is_what_the_request_said(field: Any, given: Record, expected: Any) -> None:
    assert field.read(given) == expected


@given(st.binary(max_size=300))
def test_no_query_breaks_the_reader(query: bytes) -> None:
    value = FromQuery("a").read(record(query))
    assert value is None or len(value) <= 256


@pytest.mark.parametrize("make", [FromHeader, FromQuery, FromPath])
@pytest.mark.parametrize("name", [7, None, b"x"])
def test_a_name_that_is_no_string_is_refused(make: Any, name: Any) -> None:
    with pytest.raises(TypeError, match=r"name must be a string, e\.g\."):
        make(name)


@pytest.mark.parametrize(
    ("make", "name"),
    [(FromQuery, ""), (FromPath, "")]
    + [(FromHeader, name) for name in ("", "x y", "x:", "x\r\n", "naïve")],
)
def test_a_name_that_cannot_be_one_is_refused(make: Any, name: str) -> None:
    """What stands in no request would be null for ever."""
    with pytest.raises(ValueError, match=r"name must be a (header name|query parameter) such as"):
        make(name)


def test_trust_is_either_true_or_false() -> None:
    with pytest.raises(TypeError, match="trusted_only must be True or False"):
        FromHeader("x", trusted_only="0")  # type: ignore[arg-type]


class Named:
    display_name = "Ann"


class ByUsername:
    username = "ann"

    @property
    def display_name(self) -> str:
        raise NotImplementedError


class Nobody:
    display_name = ""


@pytest.mark.parametrize(
    ("user", "expected"), [(Named(), "Ann"), (ByUsername(), "ann"), (Nobody(), None), (None, None)]
)
def test_the_user_is_named_by_what_it_has(user: Any, expected: str | None) -> None:
    assert from_user({"user": user}) == expected
