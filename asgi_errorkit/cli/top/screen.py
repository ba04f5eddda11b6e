"""What `top` shows: every line of the screen, from what was read and what the keys have made of it."""

from typing import Any, Final, NamedTuple

from asgi_errorkit.cli.top.columns import WORKERS, listing_of
from asgi_errorkit.cli.top.detail import of_crash, of_group
from asgi_errorkit.cli.top.history import History
from asgi_errorkit.cli.top.lines import Line, Paper, fitted, folded, line, rows_of
from asgi_errorkit.cli.top.lists import Body, arranged
from asgi_errorkit.cli.top.overview import overview
from asgi_errorkit.cli.top.picture import Picture
from asgi_errorkit.cli.top.state import OPENED, SORTS, VIEWS, Seen, State
from asgi_errorkit.cli.words import MESSAGE_LIMIT, age, shown, time_of

__all__ = ["Look", "draw", "everything", "group_id_of"]

_FOOT: Final = 1
_ROOMY: Final = 12  # lines: with fewer, none is left empty
_MOST_OF_PROBLEM: Final = 3
_ROWS_AT_ONCE: Final = 10  # of each list where all are printed one below the other


class Look(NamedTuple):
    """What was read last, or why nothing could be; ``group`` is the one that was opened."""

    name: str = ""
    picture: Picture | None = None
    problem: str | None = None
    read_at: float = 0.0
    group_id: str | None = None
    group: dict[str, Any] | None = None


def draw(look: Look, history: History, state: State, paper: Paper) -> tuple[list[Line], Seen]:
    """Exactly the lines that the paper has, each exactly as wide; and what can be chosen there."""
    head = [_title(look, state), _tabs(state), *_problem(look, paper)]
    if look.problem is None and paper.height < _ROOMY:
        head.pop()
    room = max(1, paper.height - len(head) - _FOOT)
    body, most_scroll = _body(look, history, state, paper._replace(height=room))
    filled = [*body.lines[:room], *[line("")] * (room - len(body.lines))]
    lines = [*head, *filled, _keys(state)]
    seen = Seen(body.rows, max(1, room - 2), most_scroll)
    return [fitted(each, paper) for each in lines[: paper.height]], seen


def everything(look: Look, history: History, paper: Paper) -> list[Line]:
    """All views one below the other, with the first rows of each list."""
    if look.picture is None:
        return []
    lines = [_title(look, State()), line("")]
    lines += overview(look.picture, history, look.read_at, paper._replace(height=200))
    for view in range(1, len(VIEWS)):
        some = paper._replace(height=_ROWS_AT_ONCE + 1)
        lines += [line(""), line(VIEWS[view], "bold")]
        above = _above(view, look.picture, look.read_at, some)
        lines += [*above, line("")] if above else []
        listing, rows = listing_of(view, look.picture, look.read_at, history)
        body = arranged(listing, rows, State(view=view), some)
        lines += [
            ((text.replace(">", " ", 1), ""),) if style == "reverse" else ((text, style),)
            for ((text, style),) in body.lines
        ]
        if len(rows) > _ROWS_AT_ONCE:
            lines.append(line(f"  and {len(rows) - _ROWS_AT_ONCE} more"))
    return [fitted(each, paper) for each in lines]


def _title(look: Look, state: State) -> Line:
    at = time_of(look.read_at) if look.read_at else "nothing read yet"
    paused = "  paused" if state.is_paused else ""
    return (
        ("asgi-errorkit top  ", "bold"),
        (f"{at}{paused}  ", "yellow" if paused else ""),
        (shown(look.name), "dim"),
    )


def _tabs(state: State) -> Line:
    parts: list[tuple[str, str]] = []
    for at, name in enumerate(VIEWS):
        is_here = at == state.view
        parts.append((f"[{at + 1} {name}]" if is_here else f" {at + 1} {name} ", _style(is_here)))
    return tuple(parts)


def _style(is_here: bool) -> str:
    return "bold reverse" if is_here else ""


def _problem(look: Look, paper: Paper) -> list[Line]:
    """Why nothing new is shown, if so."""
    if look.problem is None:
        return [line("")]
    told = f"CANNOT READ, trying again: {shown(look.problem, MESSAGE_LIMIT)}"
    return [line(each, "bold red") for each in folded(told, paper)[:_MOST_OF_PROBLEM]]


def _keys(state: State) -> Line:
    if state.is_typing:
        return line(f"/{state.needle}_   Enter: keep   Esc: drop", "bold")
    keys = ["q quit", f"1-{len(VIEWS)} view"]
    if state.opened is not None:
        return line("q quit  Esc back  j/k scroll", "dim")
    orders = SORTS[state.view]
    if orders:
        keys += ["j/k choose", f"s sort: {orders[state.sorts[state.view]]}"]
        keys.append(f"/ filter: {shown(state.needle)} (Esc: all)" if state.needle else "/ filter")
    if state.view in OPENED:
        keys.append("Enter open")
    return line("  ".join([*keys, "p go on" if state.is_paused else "p pause"]), "dim")


def _body(look: Look, history: History, state: State, paper: Paper) -> tuple[Body, int]:
    if look.picture is None:
        return Body([line("nothing is known yet")], []), 0
    if state.view == 0:
        return Body(overview(look.picture, history, look.read_at, paper), []), 0
    if state.opened is not None:
        return _opened(look, history, state, paper)
    return _list(look.picture, look.read_at, history, state, paper), 0


def _list(picture: Picture, now: float, history: History, state: State, paper: Paper) -> Body:
    some = paper._replace(height=max(3, paper.height // 2))
    above = _above(state.view, picture, now, some)
    above += [line("")] if above else []
    listing, rows = listing_of(state.view, picture, now, history)
    below = arranged(listing, rows, state, paper._replace(height=paper.height - len(above)))
    return Body([*above, *below.lines], below.rows)


def _above(view: int, picture: Picture, now: float, paper: Paper) -> list[Line]:
    """What stands above the list of a view, in about as many lines as the paper has."""
    if VIEWS[view] == "workers":
        return _workers(picture, paper)
    if VIEWS[view] == "alerts":
        return _silences(picture, now, paper)
    left_out = picture.performance["routes_left_out"]
    is_cut = VIEWS[view] == "routes" and left_out
    return [line(f"those with the fewest requests are left out: {left_out:,}")] if is_cut else []


def _silences(picture: Picture, now: float, paper: Paper) -> list[Line]:
    """What nobody is told of, and for how long."""
    silences = picture.alerts["silences"]
    most = max(1, paper.height - 1)
    lines = [
        line(
            f"silenced for {age(None if each['until'] is None else each['until'] - now)}: "
            f"{shown(each['what'])}{' because: ' + shown(each['why']) if each['why'] else ''}",
            "yellow",
        )
        for each in silences[:most]
    ]
    more = len(silences) - most
    return [*lines, line(f"  and {more} more")] if more > 0 else lines


def _workers(picture: Picture, paper: Paper) -> list[Line]:
    """Those that run, as many as there is room for."""
    if not picture.workers:
        return [line("no worker is running")]
    shown_rows = picture.workers[: max(1, paper.height - 2)]
    heading, texts = rows_of(WORKERS, shown_rows, paper._replace(width=max(1, paper.width - 2)))
    lines = [line(f"  {heading}", "bold"), *(line(f"  {each}") for each in texts)]
    more = len(picture.workers) - len(shown_rows)
    return [*lines, line(f"  and {more} more")] if more else lines


def _opened(look: Look, history: History, state: State, paper: Paper) -> tuple[Body, int]:
    """What was opened, from where it is scrolled to."""
    texts = _detail(look, history, state, paper)
    most = max(0, len(texts) - paper.height)
    first = min(state.scroll, most)
    lines = [line(each, "" if at else "bold") for at, each in enumerate(texts)]
    return Body(lines[first : first + paper.height], []), most


def _detail(look: Look, history: History, state: State, paper: Paper) -> list[str]:
    if look.picture is None or state.opened is None:
        return []
    if VIEWS[state.view] == "errors":
        if look.group_id != group_id_of(state):
            return ["..."]
        return ["it is not kept any more"] if look.group is None else of_group(look.group, paper)
    listing, rows = listing_of(state.view, look.picture, look.read_at, history)
    for row in rows:
        if listing.name(row) == state.opened.partition("\n")[0]:
            return of_crash(row, paper)
    return ["it is not kept any more"]


def group_id_of(state: State) -> str | None:
    """The group of errors that is opened, if one is."""
    is_group = state.opened is not None and VIEWS[state.view] == "errors"
    return state.opened.partition("\n")[0] if is_group and state.opened else None
