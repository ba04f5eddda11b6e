"""An exception that has been told of is known again, once, and nothing is kept alive by that."""

import gc
import weakref

from asgi_errorkit.told import remember, take_known


class Large:
    """What an application puts on an exception."""


class OwnError(Exception):
    """One of the application's own, which takes weak references."""


def test_what_was_told_is_known_once() -> None:
    """A second telling of the same object is news again: it was raised once more."""
    for error in (ValueError(), OwnError()):
        assert not take_known(error)
        remember(error)
        assert take_known(error)
        assert not take_known(error)


def test_one_exception_is_never_taken_for_another() -> None:
    """Also where it has the other's address, as a new one often has."""
    for _ in range(10_000):
        error = ValueError()
        assert not take_known(error)
        remember(error)
        del error


def test_what_is_put_on_an_exception_later_is_let_go() -> None:
    gone = []
    for _ in range(20):
        error = ValueError()
        remember(error)
        large = Large()
        error.request = large  # type: ignore[attr-defined]
        gone.append(weakref.ref(large))
        del error, large
    for _ in range(1_000):  # each telling looks at one place
        remember(OwnError())
    gc.collect()
    assert [each() for each in gone] == [None] * 20
