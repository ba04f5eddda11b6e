"""How many may be in flight: a limit that finds itself by what the calls take. Pure arithmetic."""

from math import ceil, inf, sqrt

from asgi_errorkit.options import check_number, check_whole

__all__ = ["AdaptiveLimit"]

# Measured on a simulated server with 1 to 100 slots, at half to ten times its capacity, with equal,
# exponential, lognormal and bimodal calls: what serves them all, not what is best for one.
_LEAST_GRADIENT = 0.5
_NEARLY_UNLOADED = 1.1
_CALM_SHARE = 0.2
_PROBE_LIMIT = 1 / 3
_PROBE_SHARE = 0.5
_PROBE_EVERY_ROUNDS = 50
_FIRST_PROBE_ROUNDS = 10
_UNSETTLED_ROUNDS = 20
_SETTLED = 1.4


class AdaptiveLimit:
    """Grows while calls take what they take unloaded, and shrinks once they wait for each other.

    A gradient limit as Gradient2 of Netflix's concurrency-limits: each round of about as many
    calls as the limit moves it by ``tolerance * unloaded / measured``, plus some headroom. What is
    unloaded is not a long average, which drifts up under lasting overload until nothing is limited
    (Netflix/concurrency-limits, issue 137), nor a minimum, which the quickest of unequal calls
    sets. It is measured: whenever few are in flight, and else every fifty rounds with a third of
    the limit for one round (as the minRTT of Envoy's adaptive concurrency filter, and ProbeRTT of
    BBR, ACM Queue 14-5, 2016). Constant time, no clock. It belongs to one limiter, which calls it
    under its lock; by itself it is not safe for threads.

    ``limit`` is how many may be in flight; ``unloaded_seconds`` what a call is thought to take
    unloaded, None until it is known.
    """

    __slots__ = (
        "_backoff",
        "_calls",
        "_drops",
        "_exact",
        "_fastest",
        "_is_probing",
        "_least",
        "_most",
        "_most_in_flight",
        "_roots",
        "_round_calls",
        "_rounds",
        "_skip",
        "_smoothing",
        "_tolerance",
        "limit",
        "unloaded_seconds",
    )

    _drops: int
    _fastest: float
    _most_in_flight: int
    limit: int
    unloaded_seconds: float | None

    def __init__(
        self,
        *,
        start: int = 20,
        least: int = 1,
        most: int = 200,
        tolerance: float = 1.5,
        smoothing: float = 0.2,
        backoff: float = 0.9,
        round_calls: int = 20,
    ) -> None:
        """A limit between ``least`` and ``most`` that begins with ``start``.

        Args:
            tolerance: How many times as long as unloaded calls may take before the limit shrinks.
            smoothing: The share of the way to its new value that the limit goes in one round.
            backoff: What the limit is multiplied by in a round in which a call was dropped.
            round_calls: How many calls a round has at least; fewer leave the limit to chance.

        Raises TypeError or ValueError for what does not fit.
        """
        check_whole("least", least, least=1, example=1)
        check_whole("most", most, least=least, example=max(200, least))
        check_whole("start", start, least=least, most=most, example=least)
        check_number("tolerance", tolerance, least=1, most=100, example=1.5)
        check_number("smoothing", smoothing, above=0, most=1, example=0.2)
        check_number("backoff", backoff, above=0, most=1, example=0.9)
        check_whole("round_calls", round_calls, least=2, most=10_000, example=20)
        self._least, self._most = least, most
        self._tolerance, self._smoothing, self._backoff = tolerance, smoothing, backoff
        self._round_calls = round_calls
        self._exact = float(start)
        self.limit = start
        self.unloaded_seconds = None
        self._is_probing = False
        self._skip = 0
        self._rounds = 0
        self._begin_round()

    def observe(self, seconds: float, in_flight: int) -> None:
        """Take in a call that has ended, and how many were in flight then, itself included.

        What is negative, infinite or NaN tells nothing, and is left out.
        """
        if not (0 <= seconds < inf and in_flight >= 0):
            return
        if self._skip:
            self._skip -= 1
            return
        self._calls += 1
        self._roots += sqrt(seconds)  # one slow call weighs little among their roots
        if seconds < self._fastest:  # noqa: PLR1730  here and below: min() costs three times that
            self._fastest = seconds
        if in_flight > self._most_in_flight:  # noqa: PLR1730
            self._most_in_flight = in_flight
        if self._calls >= self._round_calls and (self._is_probing or self._calls >= self._exact):
            self._end_round()

    def dropped(self) -> None:
        """Take in a call that timed out, or was refused further on; backs off once a round."""
        if not self._drops:
            self._set(self._exact * self._backoff)
        self._drops += 1
        if self._drops >= max(self._round_calls, self._exact):
            self._begin_round()  # for it may be that no call ends any more

    def _begin_round(self) -> None:
        self._calls = 0
        self._roots = 0.0
        self._fastest = inf
        self._most_in_flight = 0
        self._drops = 0

    def _end_round(self) -> None:
        measured = (self._roots / self._calls) ** 2
        fastest, most_in_flight, drops = self._fastest, self._most_in_flight, self._drops
        self._begin_round()
        self._rounds += 1
        unloaded = self.unloaded_seconds
        if unloaded is None:
            # It may have begun under overload: a first guess, and a probe soon tells better.
            self.unloaded_seconds = unloaded = fastest
            self._rounds = _PROBE_EVERY_ROUNDS - _FIRST_PROBE_ROUNDS
        if self._is_probing:
            self._end_probe(measured, unloaded)
        elif most_in_flight < self._exact / 2:
            # The limit holds nobody back: it stays, and this is what they take unloaded.
            self._learn(measured, unloaded, _CALM_SHARE)
            self._rounds = 0
        elif not drops:
            self._move(measured, unloaded)
            if self._rounds >= _PROBE_EVERY_ROUNDS:
                self._begin_probe(most_in_flight)

    def _move(self, measured: float, unloaded: float) -> None:
        exact = self._exact
        if self.limit <= ceil(exact * _PROBE_LIMIT):
            self._learn(measured, unloaded, _CALM_SHARE)  # a probe would not have fewer
        gradient = self._tolerance * unloaded / measured if measured > 0 else 1.0
        gradient = max(_LEAST_GRADIENT, min(1.0, gradient))
        headroom = exact / 2 if measured <= unloaded * _NEARLY_UNLOADED else sqrt(exact) / 2
        self._set(exact + (exact * gradient + headroom - exact) * self._smoothing)

    def _begin_probe(self, in_flight: int) -> None:
        self._is_probing = True
        self._skip = in_flight  # they began among more
        self._set(self._exact)

    def _end_probe(self, measured: float, unloaded: float) -> None:
        # Far from what was thought: it has changed, or a third of the limit was still too many.
        is_settled = unloaded / _SETTLED <= measured <= unloaded * _SETTLED
        self._rounds = 0 if is_settled else _PROBE_EVERY_ROUNDS - _UNSETTLED_ROUNDS
        self._learn(measured, unloaded, _PROBE_SHARE)
        self._is_probing = False
        self._set(self._exact)

    def _learn(self, measured: float, unloaded: float, share: float) -> None:
        self.unloaded_seconds = unloaded + (measured - unloaded) * share

    def _set(self, exact: float) -> None:
        self._exact = max(self._least, min(self._most, exact))
        now = ceil(self._exact * _PROBE_LIMIT) if self._is_probing else int(self._exact)
        self.limit = max(self._least, now)
