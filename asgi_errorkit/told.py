"""Which exceptions have been told of lately: they may come again, from a task that nobody awaits."""

from itertools import count
from typing import Any
from weakref import ref

__all__ = ["remember", "take_known"]

_MOST = 256  # a power of two
_dict_of: Any = vars(BaseException)["__dict__"].__get__

_known: list[Any] = [None] * _MOST
_turns = count()


def remember(exc: BaseException) -> None:
    """Know, for a while, that an exception has been told of: it may come again, as an orphan.

    Forgotten when one that falls on its place is told of.
    """
    _known[_place_of(exc)] = _identity_of(exc)
    _let_go_of_one()


def _let_go_of_one() -> None:
    """Look at each place in turn: what has been put on an exception since is not ours to hold."""
    place = next(_turns) % _MOST
    if type(_known[place]) is dict and not _is_small(_known[place]):
        _known[place] = None


def take_known(exc: BaseException) -> bool:
    """Whether an exception has been told of before; asked again, it has not.

    So of an exception object that is raised time and again no more is left out than was told of.
    """
    place = _place_of(exc)
    known = _known[place]
    if known is None or (known() if type(known) is ref else known) is not _itself(exc, known):
        return False
    _known[place] = None
    return True


def _place_of(exc: BaseException) -> int:
    return (id(exc) >> 4) % _MOST


def _itself(exc: BaseException, known: Any) -> Any:
    return exc if type(known) is ref else _dict_of(exc)


def _identity_of(exc: BaseException) -> Any:
    """What is the same as long as the exception lives, and never another's; it holds no traceback.

    An id may be another's soon. Built-in exceptions take no weak reference, but each has a
    dictionary of its own, which outlives it while it is held.
    """
    try:
        return ref(exc)
    except TypeError:
        attributes = _dict_of(exc)
        return attributes if _is_small(attributes) else None


def _is_small(attributes: dict[str, Any]) -> bool:
    return attributes.keys() <= {"__notes__"}
