"""What can be changed, by its path: a table, which also describes itself."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from asgi_errorkit.ops.endpoints import GROUP, READS, read_of
from asgi_errorkit.ops.replies import OpsError
from asgi_errorkit.ops.source import ACTIONS, Source
from asgi_errorkit.options import check_number

__all__ = ["ACTS", "Act", "Acting", "acting_of"]

_LONGEST_SILENCE_SECONDS = 30 * 86_400
_MOST_CHARS = 300
_MOST_WHY_CHARS = 200


class Act(NamedTuple):
    """What is to be done: ``do`` runs beside the event loop, and gives None where nothing is there."""

    told: tuple[str, str]
    """What to what, for the log."""
    do: Callable[[Any], dict[str, Any] | None]
    missing: str = "There is none here."


class Acting(NamedTuple):
    """What is done there, what the body may be, and where it can be done at all."""

    about: str
    properties: Mapping[str, Any]
    required: tuple[str, ...]
    parse: Callable[[dict[str, Any], Mapping[str, Any]], Act]
    """Raises TypeError or ValueError for what cannot be meant; the body has no other names."""
    is_possible: Callable[[Source], bool]
    elsewhere: str
    """Where it could be done, for who asks where it cannot."""

    def understood(self, body: object, of_path: Mapping[str, Any]) -> Act:
        """The act that a body asks for. Raises OpsError (400) for what it cannot."""
        allowed = f"The body must be an object of {', '.join(self.properties)}"
        if not isinstance(body, dict) or not set(self.required) <= body.keys() <= set(
            self.properties
        ):
            raise OpsError(400, f"{allowed}; {', '.join(self.required)} must be there.")
        try:
            return self.parse(body, of_path)
        except (TypeError, ValueError) as error:
            raise OpsError(400, str(error)) from error


def _set_breaker(body: dict[str, Any], of_path: Mapping[str, Any]) -> Act:
    name, action = _text("name", body["name"]), _one_of(ACTIONS, body["action"])
    return Act(
        (f"{action} of the circuit", name),
        lambda source: source.act(name, action),
        "This worker has no breaker of that name: the first call through it makes one.",
    )


_SILENCING = ("silence", "unsilence")


def _silence(body: dict[str, Any], of_path: Mapping[str, Any]) -> Act:
    action = _one_of(_SILENCING, body["action"])
    what = _line("what", body["what"], _MOST_CHARS)
    if action == "unsilence":
        if body.keys() & {"seconds", "why"}:
            raise ValueError("To end a silence takes no seconds and no why.")
        return Act(("unsilence of", what), lambda source: source.unsilence(what))
    seconds = body.get("seconds")
    check_number("seconds", seconds, above=0, most=_LONGEST_SILENCE_SECONDS, example=3600)
    assert isinstance(seconds, (int, float))  # noqa: S101  it has been checked
    why = body.get("why", "")
    if why != "":
        why = _line("why", why, _MOST_WHY_CHARS)
    told = f"silence for {seconds:.10g} s{f' ({why!a})' if why else ''} of"
    return Act((told, what), lambda source: source.silence(what, float(seconds), why))


def _resolve(body: dict[str, Any], of_path: Mapping[str, Any]) -> Act:
    _one_of(("resolve",), body["action"])
    fingerprint = of_path["id"]
    return Act(
        ("resolve of the error group", fingerprint),
        lambda source: source.resolve(fingerprint),
        "No group of errors that is kept has this id.",
    )


def _text(name: str, given: object, most: int = _MOST_CHARS) -> str:
    if not isinstance(given, str) or not 0 < len(given) <= most:
        raise ValueError(f"{name} must be a text of 1 to {most} characters.")
    return given


def _line(name: str, given: object, most: int) -> str:
    """A text without controls, line ends, and marks that turn text around or hide in it."""
    text = _text(name, given, most)
    if not text.isprintable():
        raise ValueError(f"{name} must have printable characters alone.")
    return text


def _one_of(allowed: tuple[str, ...], given: object) -> str:
    if not isinstance(given, str) or given not in allowed:
        raise ValueError(f"action must be one of {', '.join(allowed)}.")
    return given


_NO_ALERTS = "it takes an app that serves, made with ErrorKit(app, alerts=Alerts(...))."

ACTS: Mapping[str, Acting] = MappingProxyType(
    {
        "/breakers": Acting(
            "Force a breaker open, close (reset) or disable it.",
            {"name": {"type": "string"}, "action": {"enum": list(ACTIONS)}},
            ("name", "action"),
            _set_breaker,
            lambda source: source.can_act,
            "No breaker can be set here: it takes an app that serves.",
        ),
        "/alerts": Acting(
            "Silence alerts whose type or key is `what` (`*` stands for anything) on the whole host "
            "for so many seconds, or end that.",
            {
                "action": {"enum": list(_SILENCING)},
                "what": {"type": "string", "minLength": 1, "maxLength": _MOST_CHARS},
                "seconds": {
                    "type": "number",
                    "exclusiveMinimum": 0,
                    "maximum": _LONGEST_SILENCE_SECONDS,
                },
                "why": {"type": "string", "maxLength": _MOST_WHY_CHARS},
            },
            ("action", "what"),
            _silence,
            lambda source: bool(getattr(source, "can_silence", False)),
            f"Nothing can be silenced here: {_NO_ALERTS}",
        ),
        GROUP: Acting(
            "Say that an error is mended: should it come again, that is an alert at once.",
            {"action": {"enum": ["resolve"]}},
            ("action",),
            _resolve,
            lambda source: bool(getattr(source, "can_resolve", False)),
            f"No error can be resolved here: {_NO_ALERTS}",
        ),
    }
)


def acting_of(route: str) -> tuple[Acting, dict[str, Any]] | None:
    """What can be changed there, and what the path itself says; None where nothing ever can."""
    found = read_of(route)
    if found is None:
        return None
    read, of_path = found
    acting = ACTS.get(GROUP if read is READS[GROUP] else route)
    return None if acting is None else (acting, of_path)
