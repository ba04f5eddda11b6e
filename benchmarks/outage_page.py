"""The outage as tables, and as a part of docs/surviving.md."""

from typing import Any

from benchmarks.outage_dependency import FAILING, HEALTHY_SECONDS, PHASES, SLOW_SECONDS
from benchmarks.outage_front import ABOUT
from benchmarks.page_text import NOTHING, bullets, figure, table

__all__ = ["BEGIN", "END", "replaced", "rows", "section", "sums"]

BEGIN, END = "<!-- outage -->", "<!-- /outage -->"

_MEANINGS = {
    "full": (
        "the share of the requests answered with 200 and what the dependency said, before the "
        "client left."
    ),
    "fallback": "those answered with 200 and an older copy of that.",
    "p50, p99": (
        "of the times of all requests, whatever the answer; one whose client left counts as long "
        "as it waited."
    ),
    "load": (
        "calls that reached the dependency, for each request that came; *most a second* is the "
        "worst second, to the mean rate of requests."
    ),
    "seconds to recover": (
        "from the dependency's recovery to the beginning of the first second of which 99 % were "
        "answered in full."
    ),
}

_WHY = (
    "Three calls for each request are more than the dependency can do even when it is well, so "
    "naive retries keep it overloaded for good. A breaker that waits longer each time also finds "
    "out later that all is well: `max_open_seconds` bounds that. An `AdaptiveLimit` that was never "
    "reached is too wide for what is twenty times as slow all at once, and calls time out until the "
    "breaker opens; a limit near what the dependency can do has it answer as much as it can."
)


def rows(results: dict[str, Any]) -> list[list[str]]:
    """Each subject in each phase."""
    head = ["", "phase", "full", "fallback", "p50 ms", "p99 ms", "load"]
    return [
        head,
        *(
            [subject if phase == next(iter(PHASES)) else "", phase, *_cells(row)]
            for subject, told in results["subjects"].items()
            for phase, row in told["phases"].items()
        ),
    ]


def _cells(row: dict[str, Any]) -> list[str]:
    return [
        f"{row['full']:.1%}",
        f"{row['fallback']:.1%}" if row["fallback"] else NOTHING,
        figure(row["p50_ms"]),
        figure(row["p99_ms"]),
        f"{row['load']:.2f}",
    ]


def sums(results: dict[str, Any]) -> list[list[str]]:
    """Each subject's whole outage: what was answered, what was borne, and when it was over."""
    head = [
        "",
        "full",
        "full or fallback",
        "seconds to recover",
        "load while failing, most a second",
    ]
    return [head, *([name, *_sum(told, results)] for name, told in results["subjects"].items())]


def _sum(told: dict[str, Any], results: dict[str, Any]) -> list[str]:
    phases = told["phases"].values()
    number = sum(row["requests"] for row in phases)
    full = sum(row["full"] * row["requests"] for row in phases) / number
    fallback = sum(row["fallback"] * row["requests"] for row in phases) / number
    seconds = told["seconds_to_recover"]
    most = max(told["phases"][FAILING]["received_per_second"], default=0) / results["rate"]
    return [
        f"{full:.1%}",
        f"{full + fallback:.1%}",
        f"not in {2 * results['seconds_per_phase']:g}" if seconds is None else f"{seconds:.1f}",
        f"{most:.2f}",
    ]


def section(results: dict[str, Any]) -> str:
    """What stands in docs/surviving.md between the comments."""
    machine, python = results["machine"], results["python"]
    last = 2 * results["seconds_per_phase"]
    others = max(told["others_cpu"] for told in results["subjects"].values())
    story = (
        f"A dependency, asked {results['rate']:g} times a second, has {results['slots']} slots, "
        f"twice what that takes. Then a request takes it {SLOW_SECONDS * 1e3:g} ms in place of "
        f"{HEALTHY_SECONDS * 1e3:g} ms; then each fails, with 503 or a reset connection; then all "
        f"is well again: {results['seconds_per_phase']:g} seconds each, the last {last:g}. What "
        "finds no slot waits, and is worked off even when its caller has left, as most servers "
        "have it. An app under uvicorn calls it for each answer; its clients come whatever the "
        f"answers, and leave after {results['patience_seconds']:g} seconds. Made by "
        f"`{' '.join(results['command'])}`."
    )
    where = (
        f"{machine['processor']}, {machine['cores']} cores, {python['implementation']} "
        f"{python['version']}, uvicorn {results['versions']['uvicorn']}; the dependency and the "
        f"app are processes of their own, fresh for each row; one run of seed {results['seed']}, "
        f"during which others took up to {others:.0%} of the machine."
    )
    blocks = [
        story,
        table(sums(results)),
        table(rows(results)),
        bullets(f"*{name}*: {text}" for name, text in _MEANINGS.items()),
        "What was around the same app:",
        bullets(f"*{name}*: {ABOUT[name]}" for name in results["subjects"]),
        _WHY,
        where,
    ]
    return "\n\n".join(blocks)


def replaced(page: str, results: dict[str, Any]) -> str:
    """The page with what the results give; ValueError where it has no place for that."""
    if not 0 <= page.find(BEGIN) < page.find(END):
        raise ValueError(f"the page has no place for this: {BEGIN} and {END}")
    before, _, rest = page.partition(BEGIN)
    return f"{before}{BEGIN}\n\n{section(results)}\n\n{END}{rest.partition(END)[2]}"
