"""The route of a request before the framework has matched it, guessed from what it told before."""

import re
import threading
from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeAlias

from asgi_errorkit.kept import Kept
from asgi_errorkit.options import check_type, check_whole
from asgi_errorkit.redact import Redactor
from asgi_errorkit.routes import UNMATCHED, folded_path, label_of, usual_method

__all__ = ["LearnedRoutes"]

# Longer paths are never guessed: they would not be remembered, and each be matched anew.
_LONGEST = 512


class LearnedRoutes:
    """Guesses the label of the route that a path will be matched with, such as "GET /v/{id}".

    ``learn`` is told what each request was matched with, ``guess`` is asked before the next. A path
    that is its own template goes before templates, and more literal segments before fewer; of two
    labels that fit alike neither is guessed, nor ever a template that is not understood.

    At most ``maximum`` templates are learned, and as many paths without one; ``refused`` counts the
    requests that came beyond. Many threads may use it: what is known is replaced as a whole. Raises
    TypeError or ValueError for a maximum that is no whole number above 0.
    """

    def __init__(self, *, maximum: int = 500, redactor: Redactor | None = None) -> None:
        check_whole("maximum", maximum, least=1, example=500)
        check_type("redactor", redactor, Redactor)
        self.refused = 0
        self._maximum = maximum
        self._redactor = Redactor() if redactor is None else redactor
        self._lock = threading.Lock()
        self._known = _Known(_Learned({}, {}, {}, frozenset()), self._folded)
        self._labels: Kept[tuple[str, str], str] = Kept(lambda key: label_of(*key))
        self._shapes: Kept[str, tuple[_Shape, ...]] = Kept(_shapes)

    def guess(self, method: str, path: str) -> str | None:
        """The label that `learn` gave for such requests; None where none is known or it differs."""
        if not (isinstance(method, str) and isinstance(path, str)):
            return None
        return self._known.guesses[method, path]

    def label(self, method: str, path: str) -> str:
        """The label where no template is told: segments that hold a digit are "{...}"."""
        return label_of(method, self._folded(path))

    def learn(self, method: str, path: str, template: str | None) -> str | None:
        """Note what a request was matched with; its label, or None beyond the maximum.

        ``template`` is what the framework told. Without one the label is what would be guessed, as
        when a middleware answers first. Do not call it without one for 404 and 405: the paths that
        clients make up would take the place of the application's.
        """
        if not (isinstance(method, str) and isinstance(path, str)) or template == UNMATCHED:
            return None
        guessed = self._known.guesses[method, path]
        if not isinstance(template, str):
            if guessed is not None:
                return guessed
            label = self.label(method, path)
        else:
            label = self._labels[method, template]
            if label == guessed:
                return label
        if len(path) > _LONGEST:
            return label if label in self._known.labels else None
        with self._lock:
            return self._learn(usual_method(method), path, template, label)

    def _learn(self, method: str, path: str, template: str | None, label: str) -> str | None:
        known = self._known.learned
        shape = None
        if isinstance(template, str):
            shape = next((s for s in self._shapes[template] if s.fits.fullmatch(path)), None)
            if shape is None and (template[:1] == "/" or _REGEX.search(template)):
                return self._note(label, _unguessable(known, label))
        if shape is None:
            return self._learn_folded(method, path, label)
        if shape.is_literal:
            exact = _merged(known.exact, (method, path), label)
            if exact is not known.exact:
                known = known._replace(exact=exact)
            return self._note(
                label, _unguessable(known, label) if exact[method, path] is None else known
            )
        key = (method, label, shape)
        if key in known.templates:  # it ties with another, or gives way to it
            return label
        return self._note(label, known._replace(templates={**known.templates, key: label}))

    def _learn_folded(self, method: str, path: str, label: str) -> str | None:
        """A path without a template, or an operation, of which many may share a path.

        Once two labels are known for a path neither is guessed any more.
        """
        known = self._known.learned
        guessed = self._known.guesses[method, path]
        if guessed is not None:
            known = known.without(guessed)
            return self._note(label, _unguessable(_unguessable(known, guessed), label))
        fold = (method, self._folded(path))
        folds = _merged(known.folds, fold, label)
        if folds is not known.folds:
            known = known._replace(folds=folds)
        if (method, path) in known.exact or folds[fold] is None:
            known = _unguessable(known, label)
        return self._note(label, known)

    def _note(self, label: str, learned: "_Learned") -> str | None:
        """Put it in the place of what is known, unless that is too much."""
        known = self._known.learned
        if learned.told > max(known.told, self._maximum) or len(learned.folds) > self._maximum:
            self.refused += 1
            return None
        if learned is not known:
            self._known = _Known(learned, self._folded)
        return label

    def _folded(self, path: str) -> str:
        return folded_path(self._redactor, path)


class _Shape(NamedTuple):
    """A template as it is matched."""

    fits: re.Pattern[str]
    segments: int  # 0 where it spans any number
    literals: tuple[tuple[int, str], ...]  # the places of segments without a name, and their text
    rank: tuple[int, ...]  # the higher the more specific
    is_literal: bool


# By method and path; None where several are known.
_Labels: TypeAlias = dict[tuple[str, str], str | None]
_Templates: TypeAlias = dict[tuple[str, str, _Shape], str | None]


class _Learned(NamedTuple):
    """All that was learned; replaced, never changed."""

    exact: _Labels
    templates: _Templates
    folds: _Labels
    unguessable: frozenset[str]

    @property
    def told(self) -> int:
        return len(self.exact) + len(self.templates) + len(self.unguessable)

    def without(self, label: str) -> "_Learned":
        """The same, but for that this label is not guessed any more."""
        return _Learned(
            {key: None if each == label else each for key, each in self.exact.items()},
            {key: None if each == label else each for key, each in self.templates.items()},
            {key: None if each == label else each for key, each in self.folds.items()},
            self.unguessable,
        )


def _merged(labels: _Labels, key: tuple[str, str], label: str) -> _Labels:
    merged = label if labels.get(key, label) == label else None
    return labels if key in labels and labels[key] == merged else {**labels, key: merged}


def _unguessable(learned: _Learned, label: str) -> _Learned:
    if label in learned.unguessable:
        return learned
    return learned._replace(unguessable=learned.unguessable | {label})


class _Known:
    """What was learned, arranged for guessing; what was guessed is remembered with it."""

    __slots__ = ("_fold", "_spanning", "_tables", "guesses", "labels", "learned")

    def __init__(self, learned: _Learned, fold: Callable[[str], str]) -> None:
        self.learned = learned
        self.labels = frozenset(_labels(learned))
        self.guesses: Kept[tuple[str, str], str | None] = Kept(self._guess)
        self._fold = fold
        # By method and number of segments: which of them are literal; by their text: what fits.
        self._tables: dict[tuple[str, int], dict[tuple[int, ...], _ByText]] = {}
        self._spanning: dict[str, list[_Candidate]] = {}
        for (method, _, shape), label in learned.templates.items():
            self._arrange(method, shape, label)

    def _arrange(self, method: str, shape: _Shape, label: str | None) -> None:
        if not shape.segments:
            self._spanning.setdefault(method, []).append((shape, label))
            return
        places = tuple(place for place, _ in shape.literals)
        texts = tuple(text for _, text in shape.literals)
        by_places = self._tables.setdefault((method, shape.segments), {})
        by_places.setdefault(places, {}).setdefault(texts, []).append((shape, label))

    def _guess(self, key: tuple[str, str]) -> str | None:
        path = key[1]
        if len(path) > _LONGEST:
            return None
        method = usual_method(key[0])
        if (method, path) in self.learned.exact:
            return self.learned.exact[method, path]
        fitting = self._fitting(method, path)
        if fitting:
            return fitting[0][1] if len(fitting) == 1 else _most_specific(fitting)
        if not self.learned.folds:
            return None
        return self.learned.folds.get((method, self._fold(path)))

    def _fitting(self, method: str, path: str) -> "list[_Candidate]":
        segments = path.split("/")
        found = [*self._spanning.get(method, ())]
        for places, by_text in self._tables.get((method, len(segments)), {}).items():
            found += by_text.get(tuple([segments[place] for place in places]), ())
        return [each for each in found if each[0].fits.fullmatch(path)]


_Candidate: TypeAlias = tuple[_Shape, str | None]
_ByText: TypeAlias = dict[tuple[str, ...], list[_Candidate]]


def _labels(learned: _Learned) -> Iterator[str]:
    for labels in (learned.exact, learned.templates, learned.folds):
        yield from (each for each in labels.values() if each is not None)
    yield from learned.unguessable


def _most_specific(fitting: list[_Candidate]) -> str | None:
    best = max(shape.rank for shape, _ in fitting)
    labels = {label for shape, label in fitting if shape.rank == best}
    return labels.pop() if len(labels) == 1 else None


# {id}, {id:int}, {id:int(3)}, <id>, <int:id>, <id:int>; what else is in brackets is not understood.
_NAMED = re.compile(r"\{([^{}<>]*)\}|<([^{}<>]*)>")
_INSIDE = re.compile(r"([\w.-]++)(?:\([^()]*\))?+(?::([\w.-]++)(?:\([^()]*\))?+)?+")
# Regular expressions are the application's own, and may take any time: none is ever run here.
_REGEX = re.compile(r"\(\?|[\\^]")
_REGEX_OF_TEXT = re.compile(r"/?\^([^\\^$()\[\]{}<>*+?|]*)\$?")
_SEGMENT = "[^/]++"
_CONVERTERS = {
    "int": "-?[0-9]+",
    "float": r"-?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)",
    "uuid": "[0-9a-fA-F]{8}(?:-?[0-9a-fA-F]{4}){3}-?[0-9a-fA-F]{12}",
    "path": ".*",
    "str": _SEGMENT,
    "string": _SEGMENT,
    "slug": _SEGMENT,
}
_MOST_IN_SEGMENT = 2  # each more multiplies the time that a hostile path takes by its length


class _Segment(NamedTuple):
    text: str
    expression: str
    is_literal: bool
    restricted: int  # how many names have a converter that not everything fits
    characters: int  # literal ones


def _shapes(template: str) -> tuple[_Shape, ...]:
    """How a template may be matched, the likeliest first; empty when it is not understood."""
    of_text = _REGEX_OF_TEXT.fullmatch(template)
    if of_text is not None:
        template = of_text[1]
    elif _REGEX.search(template):
        return ()
    path = template if template[:1] == "/" else f"/{template}"
    if len(path) > _LONGEST:
        return ()
    parsed = [_segment(each) for each in path[1:].split("/")]
    segments = [each for each in parsed if each is not None]
    if len(segments) < len(parsed) or sum(map(_spans, segments)) > 1:
        return ()
    return tuple(map(_shape, _variants(segments)))


def _variants(segments: list[_Segment]) -> Iterator[list[_Segment]]:
    yield segments
    if any(map(_spans, segments)):
        return
    # Servers differ in whether the path has the prefix that the template has.
    left = segments
    while left[0].is_literal and any(each.is_literal and each.text for each in left[1:]):
        left = left[1:]
        yield left
    if segments[-1].text == "{path}":  # of a mount, see `exchange.route_of`
        yield [*segments[:-1], segments[-1]._replace(expression=_CONVERTERS["path"])]


def _spans(segment: _Segment) -> bool:
    return segment.expression == _CONVERTERS["path"]


def _shape(segments: list[_Segment]) -> _Shape:
    spanning = any(map(_spans, segments))
    literals = tuple((n, each.text) for n, each in enumerate(segments, 1) if each.is_literal)
    return _Shape(
        re.compile("/" + "/".join(each.expression for each in segments), re.DOTALL),
        0 if spanning else len(segments) + 1,
        literals,
        (
            len(literals),
            not spanning,
            sum(each.characters for each in segments if not each.is_literal),
            sum(each.restricted for each in segments),
        ),
        is_literal=len(literals) == len(segments),
    )


def _segment(text: str) -> _Segment | None:
    pieces = _NAMED.split(text)  # text, and what is in braces or in angles, in turn
    texts, names = pieces[::3], list(zip(pieces[1::3], pieces[2::3], strict=True))
    if any(bracket in each for each in texts for bracket in "{}<>"):
        return None
    if not names:
        return _Segment(text, re.escape(text), is_literal=True, restricted=0, characters=len(text))
    found = [_expression(braces, angles) for braces, angles in names]
    expressions = [each for each in found if each is not None]
    is_whole = len(names) == 1 and not any(texts)
    if len(expressions) < len(found) or len(found) > _MOST_IN_SEGMENT:
        return None
    if _CONVERTERS["path"] in expressions and not is_whole:
        return None
    restricted = sum(each not in (_SEGMENT, _CONVERTERS["path"]) for each in expressions)
    expression = expressions[0] if is_whole else _joined(texts, expressions)
    return _Segment(text, expression, False, restricted, sum(map(len, texts)))


def _joined(texts: list[str], expressions: list[str]) -> str:
    # As a whole it gives nothing back, so that the segments' times are not multiplied.
    given_back = [each.replace("++", "+") for each in expressions]
    pieces = [re.escape(texts[0])]
    for expression, text in zip(given_back, texts[1:], strict=True):
        pieces += (f"(?:{expression})", re.escape(text))
    return rf"(?>{''.join(pieces)}(?=/|\Z))"


def _expression(braces: str | None, angles: str | None) -> str | None:
    """What fits a name; None when it is not clear which word is the converter."""
    inside = _INSIDE.fullmatch(braces or angles or "")
    if inside is None:
        return None
    first, second = inside[1], inside[2]
    if second is None:
        return _SEGMENT
    known = [each for each in (first, second) if each in _CONVERTERS]
    if len(known) == 2 and first != second:
        # Starlette, Litestar and Falcon write the name first; of the others some do.
        return None if braces is None else _CONVERTERS[second]
    return _CONVERTERS[known[0]] if known else _SEGMENT
