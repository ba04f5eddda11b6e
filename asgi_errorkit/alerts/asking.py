"""Asks a rule in a thread of its own: whoever wrote it, it holds up nobody and ends nothing."""

import os
import threading
import time
from collections.abc import Iterable
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING

from asgi_errorkit.alerts.finding import Finding

if TYPE_CHECKING:
    from asgi_errorkit.alerts.rules import Figures, Rule

__all__ = ["PatientRule", "findings_in"]

_MOST_FINDINGS = 200
_PATIENCE_SECONDS = 2.0


class PatientRule:
    """A rule whose answer is waited for a while; what comes later is taken when it is asked again.

    Until then it is not asked another time. Where many have begun, who waits for one has waited for
    all. Raises TimeoutError where there is no answer yet, what the rule raises, and RuntimeError for
    what would end the process. One thread asks.
    """

    def __init__(self, rule: "Rule", *, patience_seconds: float = _PATIENCE_SECONDS) -> None:
        self.func = rule
        self._patience_seconds = patience_seconds
        self._asked: _Asked | None = None
        self._until = 0.0

    def begin(self, figures: "Figures") -> None:
        """Ask it, unless it still thinks. Raises RuntimeError where no thread can be had."""
        self._begun(figures)

    def __call__(self, figures: "Figures") -> list[Finding]:
        asked = self._begun(figures)
        if not asked.answered.wait(max(0.0, self._until - time.monotonic())):
            raise TimeoutError(f"the rule has not answered within {self._patience_seconds:g} s")
        self._asked = None
        return asked.found()

    def _begun(self, figures: "Figures") -> "_Asked":
        asked = self._asked
        if asked is None or asked.is_lost:
            asked = _Asked(self.func, figures)
            asked.start()
            self._asked, self._until = asked, time.monotonic() + self._patience_seconds
        return asked


class _Asked(threading.Thread):
    """One call of a rule."""

    def __init__(self, rule: "Rule", figures: "Figures") -> None:
        super().__init__(name="asgi-errorkit-rule", daemon=True)
        self.answered = threading.Event()
        self._pid = os.getpid()
        self._rule = rule
        self._figures = figures
        self._found: list[Finding] = []
        self._error: BaseException | None = None

    def run(self) -> None:
        try:
            self._found = findings_in(self._rule(self._figures))
        except BaseException as error:  # noqa: BLE001  also SystemExit: the thread is ours
            self._error = error
        self.answered.set()

    @property
    def is_lost(self) -> bool:
        """In a forked child: the thread is the parent's, and may have held the locks of its event."""
        return self._pid != os.getpid()

    def found(self) -> list[Finding]:
        error, self._error = self._error, None
        if isinstance(error, Exception):
            raise error
        if error is not None:
            raise RuntimeError("a rule must not end the process") from error
        return self._found


def findings_in(found: object) -> list[Finding]:
    """What a rule has returned, copied; raises TypeError for what are no findings."""
    if found is None:
        return []
    if isinstance(found, Finding):
        return [_copied(found)]
    if not isinstance(found, Iterable):
        raise TypeError(f"a rule returns a Finding, several, or None; got {found!r:.200}")
    listed = list(islice(found, _MOST_FINDINGS))
    for each in listed:
        if not isinstance(each, Finding):
            raise TypeError(f"a rule returns a Finding, several, or None; got {each!r:.200} in it")
    return [_copied(each) for each in listed]


def _copied(finding: Finding) -> Finding:
    """Here it is seen which one cannot be read: later it would keep all others quiet."""
    return replace(finding, values=dict(finding.values))
