"""What the keys have made of the view: pure, so that any order of keys can be tried."""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Final, NamedTuple

from asgi_errorkit.cli.top.keys import QUIT

__all__ = ["OPENED", "SORTS", "VIEWS", "Seen", "State", "pressed"]

VIEWS: Final = ("overview", "routes", "errors", "in flight", "breakers", "workers", "alerts")
SORTS: Final = (
    (),
    ("requests", "failed", "p95", "average", "route"),
    ("last seen", "times", "first seen", "type"),
    ("age", "memory grew", "request"),
    ("state", "name", "refused"),
    ("last seen", "in flight", "memory"),
    ("as told", "last seen", "severity", "type"),
)
"""The orders of each view, the first of which is the usual one."""

OPENED: Final = frozenset((VIEWS.index("errors"), VIEWS.index("workers")))
"""The views whose rows can be opened."""

_MOST_TYPED = 60


class Seen(NamedTuple):
    """What was drawn last: the rows that can be chosen, and how far one can go."""

    rows: Sequence[str] = ()
    page: int = 1
    most_scroll: int = 0


class State(NamedTuple):
    """Which view is shown, and how. ``chosen`` is a row, which keeps its name where it moves."""

    view: int = 0
    chosen: str | None = None
    opened: str | None = None
    scroll: int = 0
    sorts: tuple[int, ...] = (0,) * len(VIEWS)
    needle: str = ""
    is_typing: bool = False
    is_paused: bool = False
    is_over: bool = False

    def lists_as(self, other: "State") -> bool:
        """Whether the same rows can be chosen there, in the same order."""
        mine = (self.view, self.opened, self.sorts, self.needle, self.is_typing)
        theirs = (other.view, other.opened, other.sorts, other.needle, other.is_typing)
        return mine == theirs


def pressed(state: State, key: str, seen: Seen) -> State:
    """The state after a key; a key that means nothing changes nothing."""
    if key == QUIT:
        return state._replace(is_over=True)
    if state.is_typing:
        return _typed(state, key)
    if key in _MOVES:
        return _moved(state, key, seen)
    act = _KEYS.get(key)
    if act is not None:
        return act(state, seen)
    if key.isascii() and key.isdigit() and 1 <= int(key) <= len(VIEWS):
        return _at(state, int(key) - 1)
    return state


def _typed(state: State, key: str) -> State:
    """A filter as it is written: Enter keeps it, Escape drops it."""
    if key == "enter":
        return state._replace(is_typing=False)
    if key == "escape":
        return state._replace(is_typing=False, needle="", chosen=None)
    if key == "backspace":
        return state._replace(needle=state.needle[:-1], chosen=None)
    if len(key) == 1:
        return state._replace(needle=(state.needle + key)[:_MOST_TYPED], chosen=None)
    return state


def _at(state: State, view: int) -> State:
    return state._replace(view=view % len(VIEWS), chosen=None, opened=None, scroll=0, needle="")


def _moved(state: State, key: str, seen: Seen) -> State:
    step = _MOVES[key](seen)
    if state.opened is not None:
        return state._replace(scroll=_within(state.scroll + step, seen.most_scroll))
    if not seen.rows:
        return state
    place = seen.rows.index(state.chosen) if state.chosen in seen.rows else 0
    return state._replace(chosen=seen.rows[_within(place + step, len(seen.rows) - 1)])


def _within(number: int, most: int) -> int:
    return max(0, min(number, most))


def _open(state: State, seen: Seen) -> State:
    if state.opened is not None or state.view not in OPENED or not seen.rows:
        return state
    chosen = state.chosen if state.chosen in seen.rows else seen.rows[0]
    return state._replace(chosen=chosen, opened=chosen, scroll=0)


def _back(state: State, seen: Seen) -> State:
    """Out of what is opened, or else out of the filter."""
    if state.opened is not None:
        return state._replace(opened=None, scroll=0)
    return state._replace(needle="", chosen=None) if state.needle else state


def _sort(state: State, seen: Seen) -> State:
    orders = len(SORTS[state.view])
    if not orders or state.opened is not None:
        return state
    sorts = list(state.sorts)
    sorts[state.view] = (sorts[state.view] + 1) % orders
    return state._replace(sorts=tuple(sorts))


def _filter(state: State, seen: Seen) -> State:
    is_list = bool(SORTS[state.view]) and state.opened is None
    return state._replace(is_typing=True, needle="", chosen=None) if is_list else state


_FAR = 1_000_000
_MOVES: Mapping[str, Callable[[Seen], int]] = MappingProxyType(
    {
        "up": lambda seen: -1,
        "k": lambda seen: -1,
        "down": lambda seen: 1,
        "j": lambda seen: 1,
        "page_up": lambda seen: -max(1, seen.page),
        "page_down": lambda seen: max(1, seen.page),
        "home": lambda seen: -_FAR,
        "g": lambda seen: -_FAR,
        "end": lambda seen: _FAR,
        "G": lambda seen: _FAR,
    }
)
_KEYS: Mapping[str, Callable[[State, Seen], State]] = MappingProxyType(
    {
        "tab": lambda state, seen: _at(state, state.view + 1),
        "right": lambda state, seen: _at(state, state.view + 1),
        "backtab": lambda state, seen: _at(state, state.view - 1),
        "left": lambda state, seen: _at(state, state.view - 1),
        "enter": _open,
        "escape": _back,
        "backspace": _back,
        "s": _sort,
        "/": _filter,
        "p": lambda state, seen: state._replace(is_paused=not state.is_paused),
        "q": lambda state, seen: state._replace(is_over=True),
    }
)
