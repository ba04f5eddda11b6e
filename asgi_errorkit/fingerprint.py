"""What is kept of an exception: a bounded snapshot, the id of its group, and ways to show it."""

import linecache
import re
import reprlib
import sys
import sysconfig
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import cache, lru_cache
from itertools import accumulate, pairwise
from pathlib import Path
from types import CodeType
from typing import Any, Final, NamedTuple
from weakref import WeakKeyDictionary

import orjson

from asgi_errorkit.kept import Kept
from asgi_errorkit.redact import Redactor, safe_str
from asgi_errorkit.tracebacks import OUTERMOST, Frames, passed

__all__ = [
    "Frame",
    "Snapshot",
    "as_json",
    "chain",
    "fingerprint",
    "format_text",
    "frames",
    "is_any_of",
    "is_huge",
    "is_in_app",
    "shortened",
    "snapshot",
    "top_in_app",
    "type_name",
]

MAX_LINKS: Final = 8
MESSAGE_CHARS: Final = 2048
SAMPLE_BYTES: Final = 64 * 1024
TEXT_CHARS: Final = 64 * 1024

_MAX_PLACES = 4096
_MAX_SHOWN = 2048
_MAX_GROUPS = 1024
_MAX_NAME_CHARS = 256
_MAX_LAST_CHARS = _MAX_NAME_CHARS + 2 + MESSAGE_CHARS
_MAX_SOURCE_CHARS = 200
_MAX_HALF_WORD = 300  # one as long is redacted as a whole, should it look like a secret
_MAX_ITEMS = 10_000
_SIZED = (list, tuple, dict, set, frozenset, bytes, bytearray)
_MAX_SOURCE_FILE_BYTES = 4 * 1024 * 1024

# The interpreter's own slots: a class may define properties of these names that raise.
_cause: Callable[[BaseException], BaseException | None]
_cause = vars(BaseException)["__cause__"].__get__
_context: Callable[[BaseException], BaseException | None]
_context = vars(BaseException)["__context__"].__get__
_suppresses: Callable[[BaseException], bool]
_suppresses = vars(BaseException)["__suppress_context__"].__get__
_members: Callable[[BaseException], tuple[BaseException, ...]]
_members = vars(BaseExceptionGroup)["exceptions"].__get__
_args: Callable[[BaseException], tuple[Any, ...]] = vars(BaseException)["args"].__get__
_qualname: Callable[[type], str] = vars(type)["__qualname__"].__get__
_mro: Callable[[type], tuple[type, ...]] = vars(type)["__mro__"].__get__
_module: Callable[[type], Any] = vars(type)["__module__"].__get__


class Snapshot:
    """One exception of a chain, without its frames or itself; never changed once handed out.

    ``frames`` are (code object, line number), outermost first; ``gap`` counts those left out after
    the tenth. ``cause`` is the next of the chain, at most eight in all, and ``relation`` says how
    it came into it: "cause", "context", "member" of the group before it, or "" for the first.
    """

    __slots__ = ("cause", "frames", "gap", "message", "relation", "type_name")

    def __init__(
        self,
        type_name: str,
        message: str,
        frames: Frames,
        *,
        gap: int = 0,
        relation: str = "",
    ) -> None:
        self.type_name = type_name
        self.message = message
        self.frames = frames
        self.gap = gap
        self.relation = relation
        self.cause: Snapshot | None = None

    def links(self) -> "Iterator[Snapshot]":
        """This exception, then those it came from."""
        link: Snapshot | None = self
        while link is not None:
            yield link
            link = link.cause


class Frame(NamedTuple):
    """One line of a traceback, as a person reads it; ``source`` holds (line number, text)."""

    file: str
    line: int
    function: str
    in_app: bool
    source: tuple[tuple[int, str], ...]


def snapshot(exc: BaseException) -> Snapshot:
    """What is worth keeping of an exception, taken while it is at hand; never raises."""
    links = [_link(each, relation) for each, relation in chain(exc)]
    for link, cause in pairwise(links):
        link.cause = cause
    return links[0]


def chain(exc: BaseException) -> list[tuple[BaseException, str]]:
    """The exception and what it came from, each with its relation: at most eight, each once."""
    found: dict[int, tuple[BaseException, str]] = {}
    pending = [(exc, "")]
    while pending and len(found) < MAX_LINKS:
        link = pending.pop()
        if id(link[0]) not in found:
            found[id(link[0])] = link
            pending += _origins(link[0])
    return list(found.values())


def _origins(exc: BaseException) -> list[tuple[BaseException, str]]:
    """Where an exception came from, the cause last because the last is followed first."""
    origins = []
    # Not isinstance: that would ask the instance for a __class__, which may be a trap.
    if issubclass(type(exc), BaseExceptionGroup):
        origins = [(member, "member") for member in reversed(_members(exc)[:MAX_LINKS])]
    cause = _cause(exc)
    if cause is not None:
        origins.append((cause, "cause"))
    elif not _suppresses(exc):
        context = _context(exc)
        if context is not None:
            origins.append((context, "context"))
    return origins


def _link(exc: BaseException, relation: str) -> Snapshot:
    frames, gap = passed(exc)
    return Snapshot(type_name(type(exc)), _message(exc), frames, gap=gap, relation=relation)


def _message(exc: BaseException) -> str:
    """What an exception says; writing out an argument of a million items would take a second."""
    huge = list(filter(is_huge, _args(exc)[:MAX_LINKS]))
    if huge and type(exc).__str__ is BaseException.__str__:
        return shortened(reprlib.repr(huge[0]), MESSAGE_CHARS)
    return shortened(exc, MESSAGE_CHARS)


def is_huge(value: object) -> bool:
    """Whether it is a container that takes long to be written out."""
    return type(value) in _SIZED and len(value) > _MAX_ITEMS  # type: ignore[arg-type]


def shortened(value: object, limit: int) -> str:
    """At most ``limit`` characters; half a word at the end goes, it may be half of a secret."""
    text = safe_str(value, limit)
    if len(text) < limit:
        return text
    kept, _, last = text.rpartition(" ")
    return f"{kept} ..." if len(last) < _MAX_HALF_WORD else text


def type_name(cls: type) -> str:
    """The class as "module.QualName", read past metaclasses and subclasses of str."""
    name = str.__str__(_qualname(cls))
    try:
        module = _module(cls)
    except AttributeError:  # made where no module has a name
        module = None
    if type(module) is str and module != "builtins":
        name = f"{module}.{name}"
    is_fine = len(name) <= _MAX_NAME_CHARS and name.isascii()
    return name if is_fine else safe_str(name, _MAX_NAME_CHARS)


def is_any_of(cls: type, names: frozenset[str]) -> bool:
    """Whether a class, or one that it is derived from, bears one of these names."""
    if type(cls) is not type:  # the hash of a class with a metaclass of its own may raise
        return not names.isdisjoint(_names(cls))
    known = _known_names.get(cls)
    if known is None:
        if len(_known_names) >= _MAX_PLACES:
            _known_names.clear()
        known = _known_names[cls] = frozenset(_names(cls))
    return not names.isdisjoint(known)


# Weak keys, for a class may hold all of an application.
_known_names: WeakKeyDictionary[type, frozenset[str]] = WeakKeyDictionary()


def _names(cls: type) -> list[str]:
    return [type_name(each) for each in _mro(cls)]


class _Place(NamedTuple):
    """Where a code object lives; it is held here so that its id stays its own."""

    code: CodeType
    file: str
    function: str
    in_app: bool
    key: str


_places: dict[int, _Place] = {}
_shown: dict[tuple[int, int | None, int], tuple[CodeType, Frame]] = {}  # the code has that id
_groups: dict[tuple[Any, ...], tuple[str, list[Any]]] = {}


def fingerprint(snapshot: Snapshot) -> str:
    """The id of the group an error belongs to, 16 hex digits, for the drain side.

    The same for the same fault in every process, at every path, and after lines have moved: made
    of the exception's type, the places in the application it passed through, and the types it
    came from. The message has no part in it, because messages hold ids.
    """
    links = list(snapshot.links())
    identity = tuple([(link.type_name, link.relation, id(link.frames)) for link in links])
    known = _groups.get(identity)
    if known is None:
        if len(_groups) >= _MAX_GROUPS:
            _groups.clear()
        # The frames are kept with their ids, so that no later object can bear the same.
        known = _groups[identity] = (_digest(snapshot), [link.frames for link in links])
    return known[0]


def group_id(
    snapshot: Snapshot | None, error_type: str, status: int | None, label: str | None
) -> str:
    """The group of an error, 16 hex digits: its type, and its origin.

    The origin is the fingerprint; of an error without an exception, its status and route.
    """
    return _ids[error_type, fingerprint(snapshot) if snapshot else f"{status}\0{label}"]


def _id(key: tuple[str, str]) -> str:
    from hashlib import blake2b  # noqa: PLC0415  loads OpenSSL, 4 ms that only an error pays for

    return blake2b("\0".join(key).encode("utf-8", "replace"), digest_size=8).hexdigest()


_ids: Kept[tuple[str, str], str] = Kept(_id)


def _digest(snapshot: Snapshot) -> str:
    from hashlib import blake2b  # noqa: PLC0415  loads OpenSSL, 4 ms that only an error pays for

    parts = [snapshot.type_name, *_route(snapshot), *sorted(set(_roots(snapshot)))]
    return blake2b("\n".join(parts).encode(), digest_size=8).hexdigest()


def _route(link: Snapshot) -> list[str]:
    """The places an exception came through, each once, then the place that raised.

    Each once, because recursion (also of several functions in turn) is as deep as its input. How
    deep it was when the stack ran out decides which of them raises a RecursionError.
    """
    places = [_place(code) for code, _ in link.frames]
    keys = [place.key for place in places if place.in_app] or [place.key for place in places]
    raised_at = keys[-1:] if link.type_name != "RecursionError" else []
    return [*dict.fromkeys(keys), *raised_at]


def _roots(snapshot: Snapshot) -> Iterator[str]:
    """The types at the ends of the chain; members of a group also with the place that raised."""
    for link in snapshot.links():
        if link.relation == "member":
            yield f"{link.type_name} {''.join(_route(link)[-1:])}"
        elif link.cause is None or link.cause.relation == "member":
            yield link.type_name


def _place(code: CodeType) -> _Place:
    place = _places.get(id(code))
    if place is None:
        if len(_places) >= _MAX_PLACES:
            _places.clear()
        place = _places[id(code)] = _locate(code)
    return place


def _locate(code: CodeType) -> _Place:
    file = _file(str.__str__(code.co_filename))  # a plain one: its hash is asked for
    function = safe_str(code.co_qualname, _MAX_NAME_CHARS)
    key = re.sub(r"0x[0-9a-fA-F]+", "#", f"{file.stable}:{function}")
    return _Place(code, file.shown, function, file.in_app, key)


class _File(NamedTuple):
    shown: str
    stable: str
    in_app: bool


@lru_cache(maxsize=1024)
def _file(path: str) -> _File:
    file = Path(path)
    shown = safe_str(_relative(file) if file.is_absolute() else path, _MAX_NAME_CHARS)
    # Names of code that no file holds count up.
    stable = re.sub(r"\d+", "#", shown) if path.startswith("<") else shown.removesuffix(".py")
    return _File(shown, stable, not path.startswith("<frozen ") and not _is_foreign(file))


def _is_foreign(file: Path) -> bool:
    """Whether a file belongs to an installed package, to Python, or to this package."""
    kit, installed = _foreign_folders()
    if file.is_relative_to(kit):
        return not file.is_relative_to(kit / "demo")  # an application like any other
    if not {"site-packages", "dist-packages"}.isdisjoint(file.parts):
        return True
    if file.suffix == ".pyx":  # compiled into an extension module: its path is its builder's
        return True
    return any(file.is_relative_to(folder) for folder in installed)


@cache
def _foreign_folders() -> tuple[Path, frozenset[Path]]:
    """This package, and where Python and packages lie.

    Not the prefix of the environment: that may be the project's own folder.
    """
    names = ("stdlib", "platstdlib", "purelib", "platlib")
    paths = [Path(sysconfig.get_path(name)) for name in names]
    return Path(__file__).parent, frozenset(paths) | {path.resolve() for path in paths}


def _relative(file: Path) -> str:
    """A file's path within its import root, which is the same on every machine."""
    roots = [root for root in _import_roots() if file.is_relative_to(root)]
    root = max(roots, key=lambda root: len(root.parts), default=None) or _package_parent(file)
    return file.relative_to(root).as_posix()


def _import_roots() -> Iterator[Path]:
    for entry in sys.path:
        if isinstance(entry, str):
            with suppress(OSError):  # the working directory may be gone
                yield Path(entry).absolute()


def _package_parent(file: Path) -> Path:
    """The folder of a file outside of every import root, or of the outermost package it lies in."""
    folder = file.parent
    while (folder / "__init__.py").is_file():
        folder = folder.parent
    return folder


def frames(snapshot: Snapshot, *, source_lines: int = 2) -> list[Frame]:
    """An exception's frames, outermost first, each with the source around its line.

    ``source_lines`` is how many lines to show on each side. Reads files: for the drain side.
    """
    return [_frame(code, line, source_lines) for code, line in snapshot.frames]


def is_in_app(code: CodeType) -> bool:
    """Whether it is code of the application: not of an installed package, nor of Python's own."""
    return _place(code).in_app


def top_in_app(snapshot: Snapshot) -> Frame | None:
    """The innermost frame in the application, of the first exception in the chain that has one."""
    found = None
    for link in snapshot.links():
        for code, line in reversed(link.frames):
            if _place(code).in_app:
                if not code.co_filename.startswith("<"):
                    return _frame(code, line, 2)
                # Code without a file, such as a dataclass's __init__, tells nobody where to look.
                found = found or (code, line)
    return _frame(*found, 2) if found else None


def _frame(code: CodeType, line: int | None, source_lines: int) -> Frame:
    key = (id(code), line, source_lines)
    known = _shown.get(key)
    if known is None:
        place = _place(code)
        number = line or 0  # generated code has frames without a line
        source = _source(code, number, source_lines)
        frame = Frame(place.file, number, place.function, place.in_app, source)
        if not source:  # it may be known later, as that of a notebook's cell
            return frame
        if len(_shown) >= _MAX_SHOWN:
            _shown.clear()
        known = _shown[key] = (code, frame)
    return known[1]


def _source(code: CodeType, line: int, around: int) -> tuple[tuple[int, str], ...]:
    lines = _lines(code.co_filename) if line > 0 else []
    first = max(line - around, 1)
    return tuple(
        (number, shortened(text.rstrip(), _MAX_SOURCE_CHARS))
        for number, text in enumerate(lines[first - 1 : line + around], first)
    )


def _lines(path: str) -> list[str]:
    """The lines of a source file; none of what is no ordinary file (a pipe would never end)."""
    try:
        if path not in linecache.cache and _is_unreadable(Path(path)):
            return []
        return linecache.getlines(path)
    except Exception:  # noqa: BLE001  a file name may hold anything, and linecache lets much through
        return []


def _is_unreadable(file: Path) -> bool:
    if not file.exists():
        return False  # linecache knows other ways, and looks up relative names
    return not file.is_file() or file.stat().st_size > _MAX_SOURCE_FILE_BYTES


def format_text(
    snapshot: Snapshot, redactor: Redactor | None = None, *, limit_chars: int = TEXT_CHARS
) -> str:
    """The traceback as Python would print it, oldest cause first, without its secrets.

    What is longer than ``limit_chars`` loses lines in its middle, never its last. Without a
    ``redactor`` the text must not leave the process as it is.
    """
    lines: list[str] = []
    for link in reversed(list(snapshot.links())):
        lines += [*_text_of(link, redactor), _CONNECTORS[link.relation]]
    *lines, last, _ = lines
    if sum(len(line) + 1 for line in lines) + len(last) > limit_chars:
        room = limit_chars - len(_LEFT_OUT) - len(last) - 2
        head = _fitting(lines, room // 4)
        tail = _fitting(lines[::-1], room - room // 4)
        lines = [*head, _LEFT_OUT, *reversed(tail)]
    return "\n".join([*lines, last])


_LEFT_OUT = "... the middle is left out ..."


def _fitting(lines: list[str], room: int) -> list[str]:
    """The first lines that fit: whole ones, because half a secret would not be redacted."""
    ends = accumulate(len(line) + 1 for line in lines)
    return lines[: sum(end <= room for end in ends)]


_CONNECTORS = {
    "": "",
    "cause": "\nThe above exception was the direct cause of the following exception:\n",
    "context": "\nDuring handling of the above exception, another exception occurred:\n",
    "member": "\nThe above exception is a member of the following exception group:\n",
}


def _text_of(link: Snapshot, redactor: Redactor | None) -> Iterator[str]:
    """Frame by frame: those of the framework are in every traceback, and are redacted once."""
    if link.frames:
        yield "Traceback (most recent call last):"
    for number, frame in enumerate(frames(link, source_lines=0)):
        if link.gap and number == OUTERMOST:
            yield f"  ... {link.gap} frames left out ..."
        text = f'  File "{frame.file}", line {frame.line}, in {frame.function}'
        for _, source in frame.source:
            text += f"\n    {source.strip()}"
        yield redactor.known_text(text) if redactor else text
    last = f"{link.type_name}: {link.message}" if link.message else link.type_name
    yield redactor.text(last, _MAX_LAST_CHARS) if redactor else last


def as_json(snapshot: Snapshot, redactor: Redactor) -> dict[str, Any]:
    """A sample of an error to keep and show: JSON-able, redacted, at most 64 KB when encoded.

    What did not fit is counted under ``dropped``: sources go first, then frames, from the outside
    in, then causes.
    """
    first, *causes = [_link_as_json(link, redactor) for link in snapshot.links()]
    sample = {**first, "causes": causes, "dropped": {"sources": 0, "frames": 0, "causes": 0}}
    _fit(sample, SAMPLE_BYTES)
    return sample


def shorter(sample: Mapping[str, Any], most_bytes: int) -> dict[str, Any]:
    """What `as_json` has told in so many bytes at most: what is of libraries goes before all else."""
    copies = [_copied(link) for link in (sample, *sample["causes"])]
    short = {**copies[0], "causes": copies[1:], "dropped": dict(sample["dropped"])}
    _leave_out_libraries(short, most_bytes)
    _fit(short, most_bytes)
    return short


def _leave_out_libraries(short: dict[str, Any], most_bytes: int) -> None:
    """Their sources, and then their frames, from the outside in."""
    excess, dropped = _excess(short, most_bytes), short["dropped"]
    links = [short, *short["causes"]]
    placed = [(link, link["frames"][-distance]) for link, distance in _outside_in(links)]
    of_libraries = [(link, frame) for link, frame in placed if not frame["in_app"]]
    for _, frame in of_libraries:
        if excess > 0 and frame["source"]:
            excess -= len(orjson.dumps(frame["source"])) - 2
            frame["source"] = []
            dropped["sources"] += 1
    for link, frame in of_libraries:
        if excess > 0 and frame is not link["frames"][-1]:
            excess -= len(orjson.dumps(frame)) + 1
            link["frames"] = [each for each in link["frames"] if each is not frame]
            dropped["frames"] += 1


def _copied(link: Mapping[str, Any]) -> dict[str, Any]:
    return {**link, "frames": [dict(frame) for frame in link["frames"]]}


def _link_as_json(link: Snapshot, redactor: Redactor) -> dict[str, Any]:
    return {
        "type": link.type_name,
        "message": redactor.text(link.message),
        "relation": link.relation,
        "frames": [_frame_as_json(frame, redactor) for frame in frames(link)],
        "frames_left_out": link.gap,
    }


def _frame_as_json(frame: Frame, redactor: Redactor) -> dict[str, Any]:
    source = [[number, redactor.known_text(text)] for number, text in frame.source]
    return {**frame._asdict(), "source": source}


def _excess(sample: dict[str, Any], most_bytes: int) -> int:
    return len(orjson.dumps(sample)) - most_bytes + 64  # the counts grow by some digits


def _fit(sample: dict[str, Any], most_bytes: int) -> None:
    """Drop what matters least until the sample has its size."""
    excess = _excess(sample, most_bytes)
    links, dropped = [sample, *sample["causes"]], sample["dropped"]
    for link, distance in _outside_in(links):
        frame = link["frames"][-distance]
        if excess > 0 and frame["source"]:
            excess -= len(orjson.dumps(frame["source"])) - 2
            frame["source"] = []
            dropped["sources"] += 1
    for link, _ in _outside_in(links):
        if excess > 0:
            excess -= len(orjson.dumps(link["frames"].pop(0))) + 1
            dropped["frames"] += 1
    while excess > 0 and sample["causes"]:
        excess -= len(orjson.dumps(sample["causes"].pop())) + 1
        dropped["causes"] += 1


def _outside_in(links: list[dict[str, Any]]) -> list[tuple[dict[str, Any], int]]:
    """Each frame's link and its distance from the raise, the farthest first."""
    depth = max(len(link["frames"]) for link in links)
    return [
        (link, distance)
        for distance in range(depth, 0, -1)
        for link in links
        if len(link["frames"]) >= distance
    ]
