"""The tracker: counts errors and requests in windows, and groups errors of the same origin."""

import os
import sys
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import partial
from math import inf
from typing import Any

from asgi_errorkit.breaker import CircuitBreaker
from asgi_errorkit.breakers import Breakers
from asgi_errorkit.circuit_policy import CircuitPolicy
from asgi_errorkit.classify import Classifier, Verdict
from asgi_errorkit.error_counts import ErrorCounts, error_stats
from asgi_errorkit.errors import ErrorAction, ErrorInfo, ErrorType
from asgi_errorkit.exchange import (
    CAUGHT,
    ENDED,
    ERROR,
    ID,
    KIND,
    METHOD,
    STATUS,
    Caught,
    Record,
    Seen,
    current,
    told_of,
)
from asgi_errorkit.fingerprint import Snapshot, group_id, snapshot, top_in_app
from asgi_errorkit.histogram import Windows
from asgi_errorkit.host_answers import HostAnswers, check_own
from asgi_errorkit.occurrences import MOST, Occurrence, as_dicts, as_rows, keep
from asgi_errorkit.options import (
    HISTORY_MINUTES,
    check_text,
    check_type,
    check_whole,
    strings,
    window_seconds,
)
from asgi_errorkit.outcome import Outcome, status_of
from asgi_errorkit.recorder import Batch, Recorder, counted_here
from asgi_errorkit.redact import Redactor, safe_str
from asgi_errorkit.routes import RouteLabels
from asgi_errorkit.samples import Sample

__all__ = ["OF_ERROR_TYPES", "ErrorGroup", "ErrorTracker"]

OF_ERROR_TYPES = CircuitPolicy(
    failure_rate_threshold=None,
    window_seconds=60.0,
    open_seconds=30.0,
    max_open_seconds=300.0,
    quiet_seconds=30.0,
)
"""For the breakers of types of errors, which hear of failures alone, and are asked, not entered."""

_TYPES = {each.value: each for each in ErrorType}
_FULL_SAMPLES = 5
_SAMPLE_EVERY_SECONDS = 10.0
_ID_CHARS = 128


@dataclass(slots=True)
class ErrorGroup:
    """Errors of one origin: the same exception type through the same frames of the application.

    Times are seconds since the epoch. ``sample`` is the last one kept: a bounded, redacted
    traceback with source lines and the request it came from. ``latest`` are the last ten
    occurrences, newest first, each with ``at``, ``request_id``, ``route``, ``status_code``,
    ``outcome`` and ``pid``.
    """

    fingerprint: str
    error_type: ErrorType
    type_name: str
    message: str
    where: str | None
    first_seen: float
    last_seen: float
    release: str | None
    count: int = 0
    routes: dict[str, int] = field(default_factory=dict)
    last: Sample | None = field(default=None, repr=False)
    sampled_at: float = field(default=float("-inf"), repr=False)
    occurred: deque[Occurrence] = field(default_factory=partial(deque, maxlen=MOST), repr=False)

    @property
    def latest(self) -> list[dict[str, Any]]:
        """The last occurrences, newest first."""
        return as_dicts(self.occurred)

    def rows(self, most: int) -> list[list[Any]]:
        """So many of the same for a record: see `asgi_errorkit.occurrences.read`."""
        return as_rows(self.occurred, self.routes, most)

    @property
    def sample(self) -> dict[str, Any]:
        """The last occurrence that was kept."""
        return self.last.as_dict() if self.last is not None else {}

    def as_dict(self) -> dict[str, Any]:
        """The group as plain JSON-able data."""
        return {**self.summary(), "latest": self.latest, "sample": self.sample}

    def summary(self) -> dict[str, Any]:
        """The same without its occurrences and its sample."""
        group = {field.name: getattr(self, field.name) for field in fields(self)}
        del group["last"], group["sampled_at"], group["occurred"]
        return {**group, "error_type": self.error_type.value, "routes": dict(self.routes)}

    @classmethod
    def told(cls, group: Mapping[str, Any], own: Sample | None = None) -> "ErrorGroup":
        """The group that was told of with `as_dict`, by whichever worker.

        ``own`` is this worker's sample of it, which is whole, as those on record need not be.
        """
        known = {name: group[name] for name in _TOLD_OF_GROUP}
        kind = _TYPES.get(group["error_type"], ErrorType.UNKNOWN)
        told = cls(**known, error_type=kind, last=_whole(group["sample"], own))
        told.occurred.extend(tuple(each.values()) for each in reversed(group["latest"]))
        return told


_TOLD_OF_GROUP = (
    "fingerprint",
    "type_name",
    "message",
    "where",
    "first_seen",
    "last_seen",
    "release",
    "count",
    "routes",
)


class ErrorTracker:
    """Counts and groups what the recorder brings it, and answers with what is true now.

    Windows are kept per second for an hour, groups up to ``max_groups`` (the least recently seen
    goes first, counted in ``dropped_groups``; ``sample_errors`` counts errors too odd to group), so neither cost nor memory grows with traffic.
    ``policies`` and ``rules`` are those of `asgi_errorkit.classify.Classifier`. ``release`` names
    the running version in the samples; default is the environment's ASGI_ERRORKIT_RELEASE.
    ``redact``: further names whose values are secret, here and in the answers of the middleware
    that counts here; in a stack they act in every part. Each error feeds the breaker of its type
    (see `is_circuit_broken`), whose policy ``error_type_policy`` is; ``max_breakers`` bounds those
    of dependencies and routes together with them.
    """

    def __init__(
        self,
        *,
        rules: Any = (),
        policies: Mapping[Any, ErrorInfo] | None = None,
        max_groups: int = 500,
        release: str | None = None,
        redact: Sequence[str] = (),
        error_type_policy: CircuitPolicy = OF_ERROR_TYPES,
        max_breakers: int = 1000,
        recorder: Recorder | None = None,
    ) -> None:
        check_type("recorder", recorder, Recorder)
        check_type("error_type_policy", error_type_policy, CircuitPolicy)
        check_whole("max_breakers", max_breakers, least=1, example=1000)
        check_whole("max_groups", max_groups, least=1, example=500)
        if release is not None:
            check_text("release", release, example="1.4.2")
        self.classifier = Classifier(rules=rules, policies=policies)
        self.recorder = recorder or Recorder()
        self.redactor = Redactor(extra_names=strings("redact", redact))
        self.release = release or os.environ.get("ASGI_ERRORKIT_RELEASE")
        self.dropped_groups = 0
        self.sample_errors = 0
        self.host: HostAnswers | None = None
        # Asks whoever alerts, if anybody does.
        self.recent_alerts: Callable[[], list[dict[str, Any]]] = list
        self._max_groups = max_groups
        self._groups: OrderedDict[str, ErrorGroup] = OrderedDict()
        self.windows = Windows(ErrorCounts, width_seconds=1.0, count=HISTORY_MINUTES * 60)
        self._labels = RouteLabels(self.redactor)
        self.recorder.add_sink(self.observe)
        self.circuits = Breakers(
            maximum=max_breakers,
            clock=self.recorder.clock,
            wall_clock=self.recorder.wall_clock,
        )
        self._of_types: dict[ErrorType, CircuitBreaker] = {}
        self._error_type_policy = error_type_policy or OF_ERROR_TYPES

    def record_error(
        self,
        error_type: ErrorType,
        error_info: ErrorInfo | None = None,
        context: Mapping[str, Any] | None = None,
    ) -> None:
        """Record an error that was handled or happened outside of a request; callable anywhere.

        ``error_info`` defaults to the policy of the type. The exception is ``context["exception"]``,
        or the one being handled; should it later escape from the same request, it is not counted
        again. The type's breaker hears of it at once. Raises TypeError for what is no ErrorType,
        ErrorInfo or mapping.
        """
        _check_type(error_type)
        info = self.classifier.policy(error_type) if error_info is None else error_info
        check_type("error_info", error_info, ErrorInfo)
        if context is not None and not isinstance(context, Mapping):
            raise TypeError(
                f'context must be a mapping, e.g. {{"video_id": 7}}, or None; got {context!r:.200}'
            )
        exc = _exception_of(context)
        caught = Caught(
            snapshot(exc) if exc is not None else None,
            Verdict(info, info.status_code or 500, "rule"),
            {k: v for k, v in (context or {}).items() if v is not exc} or None,
        )
        self._feed(info)
        exchange = current()
        if exchange is not None and exc is not None:
            before = exchange.seen if exchange.seen and exchange.seen.exc is exc else Seen(exc)
            exchange.seen = before._replace(counted_by=(*before.counted_by, id(self)))
        self.recorder.publish(told_of(exchange, caught, self.recorder.clock))

    def breaker(self, name: str | ErrorType, policy: CircuitPolicy | None = None) -> CircuitBreaker:
        """The circuit breaker of a dependency such as "model:sdxl", or of a type of errors.

        ``policy`` is that of one that is new. What stands before the colon says, if it is the value
        of an `ErrorType`, which errors those are told of who are refused. The breaker of a type is
        fed by its errors, and is there to be asked, not to be entered. Raises ValueError for the
        value of a type without a colon.
        """
        if not isinstance(name, ErrorType):
            if name in _TYPES:
                raise ValueError(
                    f"{name!r} names a type of errors: write ErrorType.{_TYPES[name].name} for its "
                    f'breaker, or name the dependency, e.g. "{name}:sdxl"'
                )
            return self.circuits.of(name, policy)
        known = self._of_types.get(name)
        if known is None:
            policy = policy or self._error_type_policy
            known = self._of_types[name] = self.circuits.of(
                name.value, policy, error_type=name, is_kept=True
            )
        return known

    def is_circuit_broken(self, error_type: ErrorType) -> bool:
        """Whether there have been so many errors of a type that what leads to them is to be left.

        As many as the ``circuit_break_threshold`` of their policy, with no `record_success` between
        and none older than a minute (see `OF_ERROR_TYPES`). It asks only: no request is refused for
        it but by code that looks. After a while it is False again, for others to try; an error
        makes it True for longer.
        """
        _check_type(error_type)
        known = self._of_types.get(error_type)
        if known is None and self.circuits.across is not None:  # it may be open at another worker
            known = self.breaker(error_type)
        return known is not None and known.is_open

    def record_success(self, error_type: ErrorType) -> None:
        """What could have led to an error of this type went well: its failures in a row end here."""
        _check_type(error_type)
        known = self._of_types.get(error_type)
        if known is not None:
            known.record_success()

    @property
    def circuit_breakers(self) -> dict[str, dict[str, Any]]:
        """What is refused now, by name: ``triggered_at``, ``error_count``, ``threshold`` and more."""
        return self.circuits.open()

    def breakers(self) -> list[dict[str, Any]]:
        """Every breaker as plain JSON-able data; with a record on disk those of each worker, by its
        ``pid``."""
        told = None if self.host is None else self.host.breakers()
        return self.own_breakers() if told is None else told

    def own_breakers(self) -> list[dict[str, Any]]:
        """Those of this process; ``of_error_type`` says of which code asks, and which refuse nothing."""
        told = [breaker.as_dict() for breaker in self.circuits.all()]
        return [{**each, "of_error_type": each["name"] in _TYPES} for each in told]

    def learn(self, caught: Caught) -> None:
        """Feed the breaker of an error's type, unless it was told of it before.

        What is the client's fault breaks no circuit.
        """
        if caught.verdict.status_code >= 500 and id(self) not in caught.counted_by:
            self._feed(caught.verdict.info)

    def _feed(self, info: ErrorInfo) -> None:
        threshold = info.circuit_break_threshold
        if threshold > 0 and info.action is not ErrorAction.IGNORE:
            breaker = self._of_types.get(info.error_type) or self.breaker(info.error_type)
            breaker.record_failure(consecutive_failures=threshold)

    def get_error_stats(
        self, window_minutes: float = 5, *, worker: int | None = None
    ) -> dict[str, Any]:
        """What went wrong in the last minutes (more than 0, at most 60), with all requests beside it.

        ``error_rate`` is errors a minute, ``error_ratio`` failed requests by all requests. Where the
        workers of a host keep a record, it is that of all of them, in whole steps of 5 s, or of the
        ``worker`` with that pid. Raises ValueError for a window or a worker that cannot be.
        """
        seconds = window_seconds(window_minutes)
        told = None if self.host is None else self.host.error_stats(window_minutes, worker)
        if told is not None:
            return {**told, "recent_alerts": self.recent_alerts()}
        check_own(worker)
        total = self.recorder.read(lambda: self._merged(seconds))
        stats = error_stats(
            total,
            window_minutes,
            circuit_breakers=self.circuit_breakers,
            groups=len(self._groups),
        )
        return {**stats, "recent_alerts": self.recent_alerts()}

    def groups(self) -> list[ErrorGroup]:
        """The known groups, the most recently seen first: of all workers that keep a record."""
        told = None if self.host is None else self.host.groups()
        if told is not None:
            own = self.recorder.read(lambda: {key: g.last for key, g in self._groups.items()})
            return [ErrorGroup.told(group, own.get(group["fingerprint"])) for group in told]
        return self.recorder.read(lambda: [_copied(group) for group in self.latest_groups()])

    def group(self, fingerprint: str) -> ErrorGroup | None:
        """One group by its fingerprint, as error log lines tell it in ``error_group``."""
        if self.host is not None:
            return next((g for g in self.groups() if g.fingerprint == fingerprint), None)
        group = self.recorder.read(lambda: self._groups.get(fingerprint))
        return None if group is None else _copied(group)

    def latest_groups(self) -> Iterator[ErrorGroup]:
        """Those of this process as they are kept, for who drains."""
        return reversed(self._groups.values())

    def forget(self) -> None:
        """Forget all counts and groups, but no breaker; for who drains."""
        self.windows.clear()
        self._groups.clear()

    def _merged(self, seconds: float) -> ErrorCounts:
        total = ErrorCounts()
        for counts in self.windows.last(seconds, self.recorder.clock()):
            total.merge(counts)
        return total

    def observe(self, batch: Batch) -> None:
        """The sink: count every record, look closer at those that did not go well."""
        batch = counted_here(batch, self.recorder)
        since = until = inf
        for record, outcome in zip(batch.records, batch.outcomes, strict=True):
            ended_at = record[ENDED]
            if not since <= ended_at < until:
                since = ended_at // 1
                until = since + 1
                counts = self.windows.at(ended_at)
            if outcome is Outcome.OK:
                counts.requests += 1
            else:
                self._note(record, outcome, counts, batch.offset)

    def _note(self, record: Record, outcome: Outcome, counts: ErrorCounts, offset: float) -> None:
        caught: Caught | None = record[CAUGHT]
        told = record[KIND] == ERROR
        if told:
            outcome = Outcome.SERVER_ERROR
        else:
            counts.requests += 1
        is_replaced = outcome is Outcome.FALLBACK and caught is not None
        if not outcome.failed and outcome is not Outcome.CLIENT_ERROR and not is_replaced:
            return
        verdict = caught.verdict if caught else self.classifier.status(status_of(record, outcome))
        if verdict.info.action is ErrorAction.IGNORE:
            return
        if outcome is Outcome.CLIENT_ERROR:
            counts.client_errors += 1
        elif outcome.failed and not told:
            counts.failed += 1
        if caught and id(self) in caught.counted_by:
            return
        counts.add(verdict.info)
        if outcome.failed or (caught and not caught.handled):
            try:
                self._add_to_group(record, caught, verdict.info, None if told else outcome, offset)
            except Exception:  # noqa: BLE001  one odd record must not cost the others of its batch
                self.sample_errors += 1

    def _add_to_group(
        self,
        record: Record,
        caught: Caught | None,
        info: ErrorInfo,
        outcome: Outcome | None,
        offset: float,
    ) -> None:
        snap = caught.snapshot if caught else None
        label = self._labels(record) if record[METHOD] else None
        key = group_id(snap, info.error_type.value, record[STATUS], label)
        seen_at = record[ENDED] + offset
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = self._new_group(key, snap, info, record, seen_at)
        self._groups.move_to_end(key)
        group.count += 1
        group.first_seen = min(group.first_seen, seen_at)
        group.last_seen = max(group.last_seen, seen_at)
        if label is not None and (label in group.routes or len(group.routes) < 20):
            group.routes[label] = group.routes.get(label, 0) + 1
        how = None if outcome is None else outcome.text
        request_id = safe_str(record[ID], _ID_CHARS) if record[ID] else None
        keep(group.occurred, (seen_at, request_id, label, record[STATUS], how, os.getpid()))
        due = group.count <= _FULL_SAMPLES or seen_at - group.sampled_at >= _SAMPLE_EVERY_SECONDS
        if due:
            group.sampled_at = seen_at
            group.last = Sample(
                record, caught, at=seen_at, release=self.release, redactor=self.redactor
            )

    def _new_group(
        self, key: str, snap: Snapshot | None, info: ErrorInfo, record: Record, seen_at: float
    ) -> ErrorGroup:
        if len(self._groups) >= self._max_groups:
            self._groups.popitem(last=False)
            self.dropped_groups += 1
        frame = top_in_app(snap) if snap else None
        return ErrorGroup(
            fingerprint=key,
            error_type=info.error_type,
            type_name=snap.type_name
            if snap
            else f"HTTP {record[STATUS]}"
            if record[STATUS]
            else "",
            message=self.redactor.text(snap.message, 512) if snap else "",
            where=f"{frame.file}:{frame.line} {frame.function}" if frame else None,
            first_seen=seen_at,
            last_seen=seen_at,
            release=self.release,
        )


def _check_type(error_type: object) -> None:
    if not isinstance(error_type, ErrorType):
        raise TypeError(
            f"error_type must be an ErrorType, e.g. ErrorType.CACHE; got {error_type!r:.200}"
        )


def _whole(told: dict[str, Any], own: Sample | None) -> Sample | None:
    """The later of two samples of a group, the own one if both are of one occurrence."""
    at = told.get("at")
    if own is not None and not (isinstance(at, (int, float)) and at > own.as_dict()["at"]):
        return own
    return Sample.told(told) if told else None


def _exception_of(context: Mapping[str, Any] | None) -> BaseException | None:
    given = context.get("exception") if context else None
    return given if isinstance(given, BaseException) else sys.exc_info()[1]


def _copied(group: ErrorGroup) -> ErrorGroup:
    """A group as it is now; samples are replaced, never changed."""
    return replace(group, routes=dict(group.routes), occurred=group.occurred.copy())
