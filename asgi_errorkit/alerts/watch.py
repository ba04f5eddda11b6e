"""Asks the rules what they find in the statistics."""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from asgi_errorkit.alerts.asking import PatientRule, findings_in
from asgi_errorkit.alerts.finding import Finding
from asgi_errorkit.alerts.groups import KnownErrors, Seen
from asgi_errorkit.alerts.rules import Figures, Objective, Rule, Thresholds, burning, kit_rules
from asgi_errorkit.alerts.totals import Totals

__all__ = ["Watch"]

logger = logging.getLogger("asgi_errorkit.alerts")

_BURN_EVERY_SECONDS = 60.0

Stats = Callable[[float], Mapping[str, Any]]


class Watch:
    """What the rules of the kit and the user's find, each time it is asked.

    ``error_stats`` and ``performance_stats`` are asked for windows of minutes. A rule that raises, or
    one of the user's that does not answer in time, is counted in ``rule_errors``, and said once.
    """

    def __init__(
        self,
        *,
        rules: Sequence[Rule],
        thresholds: Thresholds,
        objective: Objective | None,
        error_stats: Stats,
        performance_stats: Stats | None,
        groups: Callable[[], Iterable[Seen]],
        alert_thresholds: Mapping[str, int],
    ) -> None:
        self.rule_errors = 0
        self._patient = [PatientRule(rule) for rule in rules]
        self._rules: list[Rule] = [*kit_rules(thresholds), *self._patient]
        self._burning: Rule | None = None if objective is None else partial(burning, objective)
        self._burnt: list[Finding] = []
        self._burnt_at = float("-inf")
        self._thresholds = thresholds
        self._error_stats = error_stats
        self._performance_stats = performance_stats
        self._groups = groups
        self._alert_thresholds = alert_thresholds
        self._failed: set[str] = set()

    def counted(self, minutes: float) -> tuple[int, int]:
        """The requests of so many minutes, and those that failed."""
        stats = self._error_stats(minutes)
        return stats["total_requests"], stats["failed_requests"]

    def look(
        self, known: KnownErrors, totals: Totals, *, now: float, wall_now: float
    ) -> list[Finding]:
        """What all rules find now."""
        figures = self._figures(totals, now)
        has_errors = figures.errors["total_errors"] > 0
        for rule in self._patient:  # all at once: each is waited for, and they may all hang
            with suppress(RuntimeError):  # it is asked once more, and then it is told
                rule.begin(figures)
        found = [finding for each in self._rules for finding in self._asked(each, figures)]
        found += self._burns(figures)
        if has_errors:  # without any no group is new
            found += self._asked(lambda _: known.news(self._groups(), wall_now), figures)
        return found

    def _figures(self, totals: Totals, now: float) -> Figures:
        minutes = self._thresholds.window_minutes
        return Figures(
            errors=self._error_stats(minutes),
            performance={} if self._performance_stats is None else self._performance_stats(minutes),
            alert_thresholds=self._alert_thresholds,
            total=lambda seconds: totals.last(seconds, now),
            now=now,
        )

    def _burns(self, figures: Figures) -> list[Finding]:
        """Once a minute: it asks for long windows."""
        if self._burning is not None and figures.now - self._burnt_at >= _BURN_EVERY_SECONDS:
            self._burnt_at = figures.now
            self._burnt = self._asked(self._burning, figures)
        return self._burnt

    def _asked(self, rule: Rule, figures: Figures) -> list[Finding]:
        try:
            return findings_in(rule(figures))
        except Exception:  # one that is broken must not keep the others quiet
            self.rule_errors += 1
            name = _name_of(rule)
            if name not in self._failed:
                self._failed.add(name)
                logger.exception(
                    "an alert rule failed, further failures of it are only counted: %s", name
                )
            return []


def _name_of(rule: Rule) -> str:
    known = getattr(rule, "func", rule)
    return f"{known.__module__}.{getattr(known, '__qualname__', type(known).__qualname__)}"
