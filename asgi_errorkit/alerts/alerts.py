"""Alerts: rules over what the kit measures, told once per host, in groups, and until they are over."""

import atexit
import platform
import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import WeakMethod

from asgi_errorkit.alerts.channels import Channel, channel_to
from asgi_errorkit.alerts.delivery import Courier
from asgi_errorkit.alerts.finding import Finding, severity_of
from asgi_errorkit.alerts.kept import RECENT, summary_of
from asgi_errorkit.alerts.notice import Words
from asgi_errorkit.alerts.record import AlertRecord
from asgi_errorkit.alerts.rules import Objective, Rule, Thresholds, worker_died
from asgi_errorkit.alerts.teller import Teller
from asgi_errorkit.alerts.timeline import Timeline
from asgi_errorkit.alerts.timing import LONGEST_SILENCE_SECONDS, Timing
from asgi_errorkit.alerts.watch import Watch
from asgi_errorkit.errors import ErrorSeverity, ErrorType
from asgi_errorkit.options import check_callable, check_number, check_text, check_type, check_whole
from asgi_errorkit.redact import Redactor

if TYPE_CHECKING:
    from asgi_errorkit.spool.host import Host
    from asgi_errorkit.tracker import ErrorTracker

__all__ = ["Alerts"]

_NAME_LIMIT = 300
_LINGER_SECONDS = 2.0


class Alerts:
    """Alerts of what goes wrong, by the kit's own rules and yours; give it to one `ErrorKit`.

    ``to`` says where notices go, beside the logger "asgi_errorkit.alerts", which gets all: callables
    that take a notice, `Webhook`, or URLs, which are posted to and signed with ``secret`` (http,
    https), or go through apprise. ``rules`` take `Figures` and return a `Finding`, several, or None.
    For what the kit's rules ask see ``thresholds``, for burn rates ``objective`` (None: not asked),
    for grouping and repeating ``timing``. Statistics are looked at every ``every_seconds``, off the
    request path. Where the workers of a host keep a record, one of them alerts, and the next goes on
    where it ended. ``max_history`` alerts are kept. Raises TypeError, ValueError or ImportError for
    what cannot work.
    """

    def __init__(
        self,
        *,
        to: Iterable[Channel | str] = (),
        rules: Iterable[Rule] = (),
        thresholds: Thresholds | None = None,
        objective: Objective | None = None,
        timing: Timing | None = None,
        secret: str | bytes | None = None,
        every_seconds: float = 5.0,
        max_history: int = 100,
    ) -> None:
        check_type("thresholds", thresholds, Thresholds)
        check_type("objective", objective, Objective)
        check_type("timing", timing, Timing)
        check_number("every_seconds", every_seconds, least=1, most=300, example=5.0)
        check_whole("max_history", max_history, least=RECENT, most=1000, example=100)
        self.thresholds = thresholds or Thresholds()
        self.objective = objective
        self.timing = timing or Timing()
        self.max_history = max_history
        self.channels = [
            _channel(each, secret)
            for each in _listed("to", to, "['https://alerts.example.com/hook']")
        ]
        self._rules = _listed("rules", rules, "[shedding]")
        for rule in self._rules:
            check_callable("rules", rule, "figures")
        self._watched: object = None
        couriers = [Courier(each, _label(at, each)) for at, each in enumerate(self.channels)]
        self._teller = Teller(
            couriers,
            timing=self.timing,
            gone_seconds=self.thresholds.gone_seconds,
            every_seconds=every_seconds,
            max_history=max_history,
        )
        self._teller.words = Words(Redactor(), _source(None, None))
        for courier in couriers:
            courier.on_done = partial(self._teller.done, courier.label)

    def watch(
        self,
        tracker: "ErrorTracker",
        performance_stats: Callable[[float], Mapping[str, Any]] | None = None,
        *,
        host: "Host | None" = None,
        app: str | None = None,
    ) -> None:
        """Begin to look at the statistics of a tracker, in the background thread of its recorder.

        ``performance_stats`` is a `get_performance_stats`; ``host`` is that of the tracker's record,
        if there is one; ``app`` is named in notices. Raises RuntimeError if it watches another.
        """
        if self._watched is tracker:  # by several kits
            return
        if self._watched is not None:
            raise RuntimeError("these alerts watch another tracker: make an Alerts(...) for each")
        self._watched = tracker
        teller, recorder = self._teller, tracker.recorder
        teller.clock, teller.wall_clock = recorder.clock, recorder.wall_clock
        teller.words = Words(tracker.redactor, _source(app, tracker.release))
        if host is not None and _can_lead():
            teller.record = AlertRecord(host.directory)
            teller.leads = host.leads  # one duty, one worker
            host.on_death(lambda crash: teller.take_alert(worker_died(crash)))
        policy = tracker.classifier.policy
        teller.watch = Watch(
            rules=self._rules,
            thresholds=self.thresholds,
            objective=self.objective,
            error_stats=tracker.get_error_stats,
            performance_stats=performance_stats,
            groups=tracker.groups,
            alert_thresholds={each.value: policy(each).alert_threshold for each in ErrorType},
        )
        recorder.add_flusher(teller.tick)
        recorder.on_rest(partial(teller.end, _LINGER_SECONDS))
        _close_at_exit(teller)

    def send_alert(
        self, alert_type: str, message: str, severity: str | ErrorSeverity = "high"
    ) -> dict[str, Any]:
        """Alert of something that your code has found; callable anywhere, returns at once.

        It is told as all else is: with others of its type, and once however often it is sent within
        that time. Returns what the history will hold: ``type``, ``message``, ``severity`` and
        ``timestamp`` in epoch seconds. Raises TypeError or ValueError for what is no alert.
        """
        check_text("alert_type", alert_type, example="QUEUE_FULL")
        check_text("message", message, example="12,000 videos wait")
        key = f"{alert_type}:{message}"
        finding = Finding(alert_type, message, severity_of(severity), key=key, happened=True)
        now = self._teller.take_alert(finding)
        return self._teller.words.sent_by_hand(finding, now)

    @property
    def recent_alerts(self) -> list[dict[str, Any]]:
        """The last ten of `alert_history`."""
        return self.alert_history[-RECENT:]

    @property
    def alert_history(self) -> list[dict[str, Any]]:
        """The last ``max_history`` alerts, the latest last: of the host where there is a record.

        Each has ``type``, ``message``, ``severity``, ``timestamp``, ``status`` ("firing",
        "resolved" or "happened"), ``resolved_at``, ``key``, ``muted`` (None, "silenced" or
        "inhibited").
        """
        told = [*self._teller.shown().history, *self._teller.unheeded()]
        return [dict(entry) for entry in told[-self.max_history :]]

    def get_alert_summary(self) -> dict[str, Any]:
        """How many alerts there have been, the recent ones, what goes on, and how telling went.

        ``by_type`` and ``by_severity`` count those of the history. ``unsaid`` counts alerts that
        were muted for as long as they were found, ``held_back`` the types that wait for the next
        hour. ``channels`` and what follows are this process's.
        """
        teller, shown, unheeded = self._teller, self._teller.shown(), self._teller.unheeded()
        return {
            **summary_of(shown, unheeded, now=teller.clock(), offset=teller.offset),
            "channels": [courier.as_dict() for courier in teller.couriers],
            "rule_errors": 0 if teller.watch is None else teller.watch.rule_errors,
            "errors": teller.errors,
            "dropped": teller.dropped,
        }

    def silence(self, what: str, *, seconds: float, why: str = "") -> float:
        """Do not tell of alerts whose type or key is ``what``, where ``*`` stands for anything.

        For 30 days at most, on the whole host, within seconds. They stay in the log and the history;
        that what was told is over is told all the same. Returns until when, in epoch seconds. Raises
        TypeError or ValueError.
        """
        _check_what(what)
        check_text("why", why, example="maintenance")
        check_number("seconds", seconds, above=0, most=LONGEST_SILENCE_SECONDS, example=3600)
        until = self._teller.wall_clock() + seconds
        note = {"silence": what[:_NAME_LIMIT], "until": until, "why": why[:_NAME_LIMIT]}
        self._teller.take(note)
        return until

    def unsilence(self, what: str) -> None:
        """End the silence of that name. Raises TypeError or ValueError."""
        _check_what(what)
        self._teller.take({"unsilence": what[:_NAME_LIMIT]})

    def resolve(self, fingerprint: str) -> float:
        """Take the errors of a group for mended, on the whole host, within seconds.

        Should one occur after now, it is an alert at once (ERROR_CAME_BACK), and not only when the
        group has been gone for a day. ``fingerprint`` is that of the group. Returns the epoch
        seconds of now. Raises TypeError.
        """
        check_text("fingerprint", fingerprint, example="0f6b2c1d9a3e4857")
        now = self._teller.wall_clock()
        self._teller.take({"resolve": fingerprint[:_NAME_LIMIT], "at": now})
        return now

    @property
    def resolved(self) -> dict[str, float]:
        """The groups that were taken for mended, by fingerprint, since when; none of them came back."""
        return dict(self._teller.shown().resolved)

    def evaluate(self) -> None:
        """Look at the statistics and tell now, in the calling thread; where another worker alerts,
        hand to it what has been sent here."""
        self._teller.tick_now()

    def close(self, *, linger_seconds: float = _LINGER_SECONDS) -> None:
        """Tell what there is to tell, for the process ends; wait so long at most for the channels.

        Where there is a record, what could not be told is told by the next worker.
        """
        self._teller.end(linger_seconds)

    def sample(self) -> dict[str, Any]:
        """A notice of a test alert, as channels are given them."""
        message = "This is a test: nothing is wrong, and nothing has to be done"
        finding = Finding("TEST_ALERT", message, "low", happened=True)
        step = Timeline(Timing(wait_seconds=0.0)).step(self._teller.clock(), [finding])
        return self._teller.words.notice(step.notices[0], self._teller.offset)


def _source(app: str | None, release: str | None) -> dict[str, str | None]:
    return {"host": platform.node(), "app": app, "release": release}


def _listed(name: str, given: Iterable[Any], example: str) -> list[Any]:
    if isinstance(given, (str, bytes)) or not isinstance(given, Iterable):
        raise TypeError(f"{name} must be a list, e.g. {example}; got a {type(given).__name__}")
    return list(given)


def _channel(given: Channel | str, secret: str | bytes | None) -> Channel:
    if isinstance(given, str):
        return channel_to(given, secret)
    check_callable("to", given, "notice")
    return given


def _label(number: int, channel: Channel) -> str:
    named = getattr(channel, "label", None) or getattr(channel, "__name__", None)
    return f"{number} {named or type(channel).__name__}"


def _check_what(what: object) -> None:
    check_text("what", what, example="SLOW_RESPONSE_TIME")
    if not what:
        raise ValueError("what must be a type or key of alerts, or '*' for all; got ''")


def _can_lead() -> bool:
    """Where there are no such locks nobody would: then each alerts for itself."""
    try:
        import fcntl  # noqa: F401, PLC0415  Windows has none
    except ImportError:
        return False
    return True


def _close_at_exit(teller: Teller) -> None:
    end = WeakMethod(teller.end)

    def end_if_there() -> None:
        known = end()
        if known is not None:
            known(_LINGER_SECONDS)

    # Of the two this alone runs while threads can still be started.
    register: Callable[..., object] = getattr(threading, "_register_atexit", atexit.register)
    with suppress(RuntimeError):  # the process ends already
        register(end_if_there)
