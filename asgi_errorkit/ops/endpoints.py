"""What can be read, by its path: a table, which also describes itself."""

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple

from asgi_errorkit.ops.asked import LIMIT, MOST_ROUTES, WINDOW, WORKER, Parameter
from asgi_errorkit.ops.replies import OpsError
from asgi_errorkit.ops.source import Source

__all__ = ["GROUP", "READS", "Read", "read_of"]


class Read(NamedTuple):
    """What is told there, and of what it is asked; ``read`` runs beside the event loop."""

    about: str
    read: Callable[[Source, Mapping[str, Any]], Any]
    parameters: tuple[Parameter, ...] = ()


GROUP = "/errors/{id}"
_GROUP_CHARS = 64
_OF_OCCURRENCES = ("count", "first_seen", "last_seen", "routes", "latest")


def _error_stats(source: Source, asked: Mapping[str, Any]) -> Any:
    return _of_worker(source.error_stats, asked)


def _performance_stats(source: Source, asked: Mapping[str, Any]) -> Any:
    most = asked[MOST_ROUTES.name]
    if most is None:
        return _of_worker(source.performance_stats, asked)
    return _of_worker(partial(source.performance_stats, most_routes=most), asked)


def _of_worker(
    stats: Callable[[float, int | None], dict[str, Any]], asked: Mapping[str, Any]
) -> dict[str, Any]:
    try:
        return stats(asked[WINDOW.name], asked[WORKER.name])
    except ValueError as error:
        if asked[WORKER.name] is None:
            raise
        raise OpsError(400, str(error)) from error


def _groups(source: Source, asked: Mapping[str, Any]) -> Any:
    groups = source.groups()
    return {"total": len(groups), "groups": groups[: asked[LIMIT.name]]}


def _group(source: Source, asked: Mapping[str, Any]) -> Any:
    group = source.group(asked["id"])
    if group is None:
        raise OpsError(404, "No group of errors that is kept has this id.")
    sample = group.get("sample") or None
    occurrences = {name: group.get(name) for name in _OF_OCCURRENCES}
    told = {name: value for name, value in group.items() if name not in (*occurrences, "sample")}
    return {**told, "occurrences": occurrences, "sample": sample}


def _in_flight(source: Source, asked: Mapping[str, Any]) -> Any:
    requests = source.in_flight()
    return {"total": len(requests), "requests": requests[: asked[LIMIT.name]]}


def _crashes(source: Source, asked: Mapping[str, Any]) -> Any:
    crashes = source.crashes()
    return {"is_recorded": crashes is not None, "crashes": crashes or []}


READS: Mapping[str, Read] = MappingProxyType(
    {
        "/errors/stats": Read(
            "How many errors there were, of which types, and how many requests.",
            _error_stats,
            (WINDOW, WORKER),
        ),
        "/errors": Read("The groups of errors, the most recently seen first.", _groups, (LIMIT,)),
        GROUP: Read(
            "One group: how often and where it occurred, its last occurrences (at most ten), and a "
            "sample with its request and its traceback (sample.exception.frames).",
            _group,
        ),
        "/performance/stats": Read(
            "Durations, memory, outcomes and routes.",
            _performance_stats,
            (WINDOW, WORKER, MOST_ROUTES),
        ),
        "/breakers": Read(
            "All circuit breakers.", lambda source, _: {"breakers": source.breakers()}
        ),
        "/alerts": Read("What there is to be alarmed by.", lambda source, _: source.alerts()),
        "/inflight": Read("The requests that go on, the oldest first.", _in_flight, (LIMIT,)),
        "/crashes": Read("The workers that died, and amid what; the latest first.", _crashes),
        "/workers": Read("The workers that live.", lambda source, _: {"workers": source.workers()}),
        "/status": Read("Everything at one look.", lambda source, _: source.status()),
    }
)


def read_of(route: str) -> tuple[Read, dict[str, Any]] | None:
    """What is read there, and what the path itself asks for; None where nothing is."""
    known = READS.get(route)
    if known is not None:  # never GROUP: a place has no braces
        return known, {}
    parent, _, name = route.rpartition("/")
    if parent == "/errors" and name.isalnum() and len(name) <= _GROUP_CHARS:
        return READS[GROUP], {"id": name}
    return None
