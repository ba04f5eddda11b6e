"""Request ids are unique, and harmless wherever they come from."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgi_errorkit.identity import RequestIds


def test_made_ids_are_32_hex_digits_and_differ() -> None:
    ids = RequestIds()
    made = [ids.of(None) for _ in range(2000)]
    assert len(set(made)) == 2000
    assert all(len(one) == 32 and int(one, 16) >= 0 for one in made)


def test_an_inbound_id_is_kept_when_it_is_harmless() -> None:
    ids = RequestIds()
    for inbound in (b"abc", b"!~", b"a" * 128):
        assert ids.of(inbound) == inbound.decode()


@pytest.mark.parametrize("inbound", [b"", b"a" * 129, b"a b", b"a\nb", b"\xff", b"\x00", b"a\x7f"])
def test_a_hostile_inbound_id_is_replaced(inbound: bytes) -> None:
    assert len(RequestIds().of(inbound)) == 32


@given(st.binary(max_size=200))
def test_every_id_fits_a_header(inbound: bytes) -> None:
    made = RequestIds().of(inbound)
    assert 1 <= len(made) <= 128
    assert all("!" <= character <= "~" for character in made)


def test_untrusted_inbound_ids_are_replaced() -> None:
    assert RequestIds(trust_inbound=False).of(b"abc") != "abc"


def test_a_validator_decides_about_inbound_ids_and_may_break() -> None:
    assert RequestIds(validator=str.isdigit).of(b"12") == "12"
    assert RequestIds(validator=str.isdigit).of(b"ab") != "ab"

    def broken(_: str) -> bool:
        raise RuntimeError

    assert len(RequestIds(validator=broken).of(b"12")) == 32


def broken_generator() -> str:
    raise RuntimeError


@pytest.mark.parametrize(
    ("generator", "expected"),
    [
        (lambda: "made", "made"),
        (lambda: "bad\n", None),
        (lambda: "ü", None),
        (lambda: 5, None),
        (broken_generator, None),
    ],
)
def test_a_generators_id_is_used_when_it_is_harmless(
    generator: Callable[[], Any], expected: str | None
) -> None:
    made = RequestIds(generator=generator).of(None)
    assert made == expected or (expected is None and len(made) == 32)


@pytest.mark.parametrize("name", ["", "X Request", "X\n", "ü", "a" * 65])
def test_a_bad_header_name_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="header_name must be an HTTP header name"):
        RequestIds(header_name=name)


async def later(*arguments: Any) -> str:
    return "late"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"header_name": 5}, "header_name must be a string, e.g. 'X-Request-ID'; got 5"),
        ({"generator": "x"}, r"generator must be a callable that takes no argument; got 'x'"),
        ({"generator": lambda number: "x"}, r"takes no argument; got .*<lambda>\(number\)"),
        ({"generator": later}, "no argument, and not async; got later"),
        ({"validator": "x"}, r"validator must be a callable that takes \(request_id\); got 'x'"),
        ({"validator": lambda: True}, r"takes \(request_id\); got .*<lambda>\(\)"),
        ({"validator": later}, "not async"),  # its coroutine would count as a yes
        ({"trust_inbound": "0"}, "trust_inbound must be True or False; got '0'"),
        ({"trust_inbound": None}, "trust_inbound must be True or False; got None"),
    ],
)
def test_an_option_of_a_wrong_type_is_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(TypeError, match=words):
        RequestIds(**options)


def test_a_forked_child_does_not_repeat_its_parents_ids() -> None:
    ids = RequestIds()
    ids.of(None)
    rest = set(ids._pool)
    ids.reset_after_fork()
    assert rest.isdisjoint(ids.of(None) for _ in range(600))
