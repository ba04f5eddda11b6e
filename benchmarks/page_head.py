"""Where, when and with what the figures of the page were taken."""

import re
from collections.abc import Callable
from typing import Any

from benchmarks.page_text import Results, bullets, figure

__all__ = ["head", "taken"]

_SPEED = re.compile(r"--[\w-]*(?:optimizations|lto|bolt|shared|gil|jit|tail-call|debug)[\w-]*\b")
"""Options that Python may have been configured with, and that its speed depends on."""

_ABOUT = (
    "Made by `python -m benchmarks.page` from the files in "
    "[benchmarks/results](../benchmarks/results); how it is measured is told in "
    "[benchmarks/README.md](../benchmarks/README.md). Compare ratios and columns of one run, never "
    "figures of two machines or two interpreters. Figures are medians, and behind them in "
    "brackets stand the quartiles; a bold one before them is the best of all rounds. µs are microseconds, +µs those that are added to the bare app's."
)


def head(results: list[Results]) -> list[str]:
    """The title, and the machines and interpreters that took part, each once."""
    machines = _by_what(results, lambda told: _machine(told["machine"]))
    pythons = _by_what(results, lambda told: _python(told["python"]))
    return ["# Benchmarks", _ABOUT, bullets([*machines, *pythons])]


def _by_what(results: list[Results], tells: Callable[[dict[str, Any]], str]) -> list[str]:
    files: dict[str, list[str]] = {}
    for one in results:
        files.setdefault(tells(one.told), []).append(f"`{one.file}`")
    if len(files) == 1:
        return list(files)
    return [f"{text}: {', '.join(names)}" for text, names in files.items()]


def _machine(machine: dict[str, Any]) -> str:
    return f"{machine['processor']}, {machine['cores']} cores, {machine['system']}"


def _python(python: dict[str, Any]) -> str:
    options = dict.fromkeys(_SPEED.findall(python.get("configured_with") or ""))
    configured = f"configured with {' '.join(options) or 'no option that changes its speed'}"
    build = f", build {python['build']}" if "build" in python else ""
    return (
        f"{python['implementation']} {python['version']}{build}, {python['compiler']}, {configured}"
    )


def taken(results: list[Results]) -> str:
    """A line for each file: when, by which command, and with which versions."""
    return bullets(_taken(one) for one in results)


def _taken(one: Results) -> str:
    told = one.told
    versions = ", ".join(f"{name} {version}" for name, version in told["versions"].items())
    load = told["machine"]["load_average"]
    busy = "" if load is None else f", load average {figure(load[0])}"
    day, _, time = told["taken_at"].partition("T")
    return (
        f"`{one.file}`: {one.python}, {day} {time[:5]} UTC{busy}, by "
        f"`{' '.join(told['command'])}`, with {versions}"
    )
