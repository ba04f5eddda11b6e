"""Every check names the option, says what is wanted, with an example, and what was given."""

import re
import time
from functools import partial
from typing import Any

import pytest

from asgi_errorkit.options import (
    can_take,
    check_bool,
    check_callable,
    check_headers,
    check_number,
    check_text,
    check_type,
    check_whole,
    is_header,
    strings,
    window_seconds,
)
from tests.naming import shown


async def later(given: object) -> None: ...


async def stream(given: object) -> Any:
    yield given


class Called:
    def __call__(self, given: object) -> None: ...

    def method(self, given: object) -> None: ...


class CalledLater:
    async def __call__(self, given: object) -> None: ...


class Unsigned:
    __signature__ = "none"

    def __call__(self) -> None: ...


@pytest.mark.parametrize(
    ("check", "words"),
    [
        (lambda: check_type("x", 5, int), None),
        (lambda: check_type("x", None, int), None),
        (lambda: check_type("x", "5", int), "x must be an int or None; got '5'"),
        (lambda: check_type("x", 5, Called), "x must be a Called or None; got 5"),
        (lambda: check_type("x", 5, OSError), "x must be an OSError or None; got 5"),
        (lambda: check_bool("debug", False), None),
        (
            lambda: check_bool("debug", "0"),
            (
                "debug must be True or False; got '0' (compare what the environment says, "
                'e.g. debug=os.environ.get("DEBUG") == "1")'
            ),
        ),
        (lambda: check_text("x", "", example="a"), None),
        (lambda: check_text("x", b"a", example="a"), "x must be a string, e.g. 'a'; got b'a'"),
        (lambda: check_number("x", 0, least=0, example=1), None),
        (lambda: check_number("x", 0.5, least=0, most=1, example=1), None),
        (lambda: check_number("x", float("inf"), above=0, example=1), None),
        (
            lambda: check_number("x", "1", above=0, example=0.1),
            "x must be a number above 0, e.g. 0.1; got '1'",
        ),
        (
            lambda: check_number("x", True, least=0, most=1, example=0.1),
            "x must be a number between 0 and 1, e.g. 0.1; got True",
        ),
        (
            lambda: check_whole("x", 1.0, least=1, example=5),
            "x must be a whole number of at least 1, e.g. 5; got 1.0",
        ),
        (
            lambda: check_whole("x", False, least=0, example=5),
            "x must be a whole number of at least 0, e.g. 5; got False",
        ),
        (lambda: check_whole("x", 1, least=1, most=1, example=1), None),
        (
            lambda: strings("x", "abc"),
            "x must be a list of strings; got 'abc', write ['abc']",
        ),
        (lambda: strings("x", 5), 'x must be a list of strings, e.g. ["a", "b"]; got 5'),  # type: ignore[arg-type]
        (lambda: strings("x", ["a", 5]), "x must be a list of strings; got 5 among them"),  # type: ignore[list-item]
        (lambda: check_callable("x", later, "given", may_be_async=True), None),
        (
            lambda: check_callable("x", None, "given"),
            "x must be a callable that takes (given); got None",
        ),
        (lambda: check_callable("x", 5), "x must be a callable that takes no argument; got 5"),
        (
            lambda: check_callable("x", Called(), "scope", "exc"),
            "x must be a callable that takes (scope, exc); got Called(given: object) -> None",
        ),
        (
            lambda: check_headers("x", ["a"]),
            (
                'x must be a mapping of header names to values, e.g. {"X-Service": "video"}; '
                "got ['a']"
            ),
        ),
    ],
)
def test_a_wrong_type_is_a_type_error(check: Any, words: str | None) -> None:
    if words is None:
        check()
        return
    with pytest.raises(TypeError, match=f"^{re.escape(words)}$"):
        check()


@pytest.mark.parametrize("given", [-0.1, 1.1, float("nan"), float("inf")])
def test_a_number_out_of_bounds_is_a_value_error(given: float) -> None:
    with pytest.raises(ValueError, match=r"^x must be a number between 0 and 1, e\.g\. 0\.5; got"):
        check_number("x", given, least=0, most=1, example=0.5)


@pytest.mark.parametrize("given", [0, 6])
def test_a_whole_number_out_of_bounds_is_a_value_error(given: int) -> None:
    with pytest.raises(ValueError, match=r"^x must be a whole number between 1 and 5, e\.g\. 3; "):
        check_whole("x", given, least=1, most=5, example=3)


@pytest.mark.parametrize("given", [0, -1, 60.1, float("nan")])
def test_a_window_reaches_back_an_hour_at_most(given: float) -> None:
    assert window_seconds(60) == 3600.0
    with pytest.raises(ValueError, match="window_minutes must be a number above 0 and at most 60"):
        window_seconds(given)


def test_strings_may_come_from_anything_that_gives_them() -> None:
    assert strings("x", (each for each in ("a", "b"))) == ["a", "b"]


@pytest.mark.parametrize(
    "given",
    [
        lambda given: None,
        lambda *given: None,
        partial(lambda a, b: None, 1),
        Called(),
        Called().method,
        Unsigned(),
        str.isdigit,
        print,
        Exception,
    ],
)
def test_whatever_can_take_the_arguments_is_a_callable(given: Any) -> None:
    """What has no signature is taken at its word."""
    check_callable("x", given, "given")


@pytest.mark.parametrize("given", [later, stream, partial(later), CalledLater()], ids=shown)
def test_what_must_be_awaited_is_refused(given: Any) -> None:
    with pytest.raises(TypeError, match=r"takes \(given\), and not async; got"):
        check_callable("x", given, "given")


def test_a_builtin_clock_takes_no_argument() -> None:
    check_callable("clock", time.perf_counter)


@pytest.mark.parametrize(("number", "can"), [(0, False), (1, True), (2, True), (3, False)])
def test_how_many_arguments_can_be_taken(number: int, can: bool) -> None:
    assert can_take(lambda a, b=1, *, c=2: None, number) is can


@pytest.mark.parametrize(
    ("name", "value", "sendable"),
    [
        ("X-A", "b", True),
        ("x!#$%&'*+.^_`|~", "\t\xff", True),
        ("X-A", "", True),
        ("", "b", False),
        ("X A", "b", False),
        ("X-A:", "b", False),
        ("X-A\n", "b", False),
        ("Ä", "b", False),
        ("X-A", "b\r\nc: d", False),
        ("X-A", "b\n", False),
        ("X-A", "\0", False),
        ("X-A", "\x7f", False),
        ("X-A", "€", False),
    ],
)
def test_a_header_stays_on_its_line(name: str, value: str, sendable: bool) -> None:
    """RFC 9110, 5.1 and 5.5."""
    assert is_header(name, value) is sendable
    if not sendable:
        with pytest.raises(ValueError, match="each on one line and in Latin-1; got"):
            check_headers("headers", {name: value})
