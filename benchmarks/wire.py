"""Measures what the kit costs over the wire: ``python -m benchmarks.wire --json FILE``."""

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.clients import find_wrk, saturate, with_wrk, wrk_version
from benchmarks.loads import HALF, SATURATION, Plan, measure, rows
from benchmarks.machine import machine
from benchmarks.servers import SERVERS, cores, on_core
from benchmarks.subjects import BARE, FLOOR, FULL, NO_OP, ONE_LINE, SUBJECTS
from benchmarks.tables import print_table
from benchmarks.written import write

__all__ = ["REACH", "main"]

_USUAL = (BARE, NO_OP, FLOOR, "one frame: id and header", ONE_LINE, FULL)

REACH = {
    (SATURATION, "requests_per_second_to_bare"): 0.90,
    (SATURATION, "p99_us_to_bare"): 1.1,
    (SATURATION, "p999_us_to_bare"): 1.2,
    (HALF, "p99_us_to_bare"): 1.1,
    (HALF, "p999_us_to_bare"): 1.2,
}
"""What was promised of everything on and one log line a request: the least, or the most."""

_PROMISES = {
    "requests_per_second_to_bare": "requests/s, x bare, at least",
    "p99_us_to_bare": "p99, x bare, at most",
    "p999_us_to_bare": "p99.9, x bare, at most",
}
_BUSY = 0.9
_KEPT = {True: "yes", False: "no", None: "in doubt"}
_COLUMNS = (
    "subject",
    "requests/s",
    "x bare",
    "(q1-q3)",
    "p50 ms",
    "p99 ms",
    "x bare",
    "p99.9 ms",
    "x bare",
    "CPU us",
    "+us",
    "x bare",
    "(q1-q3)",
    "busy",
    "gc 0/1/2 per 100,000",
)


def main(arguments: list[str] | None = None) -> int:
    options = _options(arguments)
    of_server, of_client = cores() or (None, None)
    if of_server is None:
        print("There are no two cores to pin to: server and client disturb each other.\n")
    with (
        tempfile.TemporaryDirectory(prefix="asgi-errorkit-bench-") as folder,
        on_core(of_client),
    ):
        plan = _plan(options, of_server, Path(folder))
        servers = {name: _server(name, plan) for name in options.server}
    packages = {package for name in options.server for package in SERVERS[name].packages}
    results = {
        **machine(
            ["python", "-m", "benchmarks.wire", *(arguments or sys.argv[1:])],
            packages=sorted(packages),
        ),
        "client": options.client if options.client == "own" else wrk_version(),
        "cores": {"server": of_server, "client": of_client},
        "rounds": options.rounds,
        "seconds": options.seconds,
        "connections": options.connections,
        "servers": servers,
    }
    if options.json is not None:
        write(options.json, results)
    return 0


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.wire", description="What the kit costs over the wire."
    )
    several: dict[str, Any] = {"nargs": "+", "action": "extend", "metavar": "NAME"}
    parser.add_argument("--seconds", type=float, default=3.0, help="of each load in one turn")
    parser.add_argument("--rounds", type=int, default=5, help="turns each subject has")
    parser.add_argument("--connections", type=int, default=64, help="kept open")
    parser.add_argument("--server", choices=SERVERS, help="only these", **several)
    parser.add_argument("--subject", choices=SUBJECTS, help="these beside the bare app", **several)
    parser.add_argument("--client", choices=("wrk", "own"), help="wrk if it is installed")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures to FILE")
    options = parser.parse_args(arguments)
    if not options.seconds > 0 or options.rounds < 1 or options.connections < 1:
        parser.error("--seconds must be more than 0, --rounds and --connections at least 1")
    _choose_servers(parser, options)
    _choose_client(parser, options)
    chosen = options.subject or _USUAL
    options.subject = [name for name in SUBJECTS if name == BARE or name in chosen]
    return options


def _choose_servers(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """Those that were asked for, or all that are installed."""
    lacking = {name: server.lacking() for name, server in SERVERS.items()}
    for name in options.server or ():
        if lacking[name]:
            parser.error(f"{name} needs what is not installed: {', '.join(lacking[name])}")
    options.server = options.server or [name for name in SERVERS if not lacking[name]]
    if not options.server:
        parser.error(f"no server is installed: pip install one of {', '.join(SERVERS)}")


def _choose_client(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    if options.client is None:
        options.client = "wrk" if find_wrk() else "own"
        if options.client == "own":
            print(
                "wrk is not installed (apt install wrk): a client in Python asks in its stead, "
                "and may be at its limit before the server is.\n"
            )
    if options.client == "own":
        return
    if find_wrk() is None:
        parser.error("wrk is not installed: apt install wrk, or take --client own")
    if options.seconds % 1:
        parser.error("wrk takes whole --seconds; --client own takes any")


def _plan(options: argparse.Namespace, core: int | None, folder: Path) -> Plan:
    program = find_wrk() if options.client == "wrk" else None
    return Plan(
        subjects=options.subject,
        rounds=options.rounds,
        seconds=options.seconds,
        connections=options.connections,
        saturate=saturate if program is None else with_wrk(program, folder),
        core=core,
        folder=folder,
    )


def _server(name: str, plan: Plan) -> dict[str, Any]:
    rate, taken = measure(SERVERS[name], plan)
    loads = {load: rows(turns) for load, turns in taken.items()}
    for load, figures in loads.items():
        told = f", {rate:,.0f} requests/s" if load == HALF else ""
        print(f"{name} at {load}{told}: median of {plan.rounds} rounds")
        print_table([_COLUMNS, *(_cells(subject, row) for subject, row in figures.items())])
        print()
    promises = reach(loads) if ONE_LINE in plan.subjects else []
    _print_promises(promises)
    return {"half_load_requests_per_second": rate, "loads": loads, "reach": promises}


def reach(loads: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Each promise, what was measured of it, and whether it is kept.

    None stands for a doubt: a server that waits at saturation waits for its core or the client.
    """
    judged = []
    in_doubt = any(loads[SATURATION][one]["busy"]["min"] < _BUSY for one in (BARE, ONE_LINE))
    for (load, figure), wanted in REACH.items():
        measured = loads[load][ONE_LINE][figure]["median"]
        at_least = figure == "requests_per_second_to_bare"
        kept = None if in_doubt else measured >= wanted if at_least else measured <= wanted
        judged.append(
            {"load": load, "figure": figure, "wanted": wanted, "measured": measured, "kept": kept}
        )
    return judged


def _print_promises(judged: list[dict[str, Any]]) -> None:
    if not judged:
        return
    cells = [
        [
            f"{one['load']}: {_PROMISES[one['figure']]}",
            f"{one['wanted']:g}",
            f"{one['measured']:.2f}",
            _KEPT[one["kept"]],
        ]
        for one in judged
    ]
    print_table([[ONE_LINE, "wanted", "measured", "kept"], *cells])
    if judged[0]["kept"] is None:
        print(
            "At saturation the server did not run all the time: something else took its core, or "
            "the client is slower than it. Go by the CPU time."
        )
    print()


def _cells(subject: str, row: dict[str, Any]) -> list[str]:
    per_second, cpu = row["requests_per_second_to_bare"], row["cpu_us_to_bare"]
    return [
        subject,
        f"{row['requests_per_second']['median']:,.0f}",
        f"{per_second['median']:.3f}",
        f"({per_second['q1']:.3f}-{per_second['q3']:.3f})",
        f"{row['p50_us']['median'] / 1e3:.2f}",
        f"{row['p99_us']['median'] / 1e3:.2f}",
        f"{row['p99_us_to_bare']['median']:.2f}",
        f"{row['p999_us']['median'] / 1e3:.2f}",
        f"{row['p999_us_to_bare']['median']:.2f}",
        f"{row['cpu_us']['median']:.1f}",
        f"{row['cpu_us_added']:.1f}",
        f"{cpu['median']:.3f}",
        f"({cpu['q1']:.3f}-{cpu['q3']:.3f})",
        f"{row['busy']['median']:.0%}",
        "/".join(f"{number:.0f}" for number in row["gc_collections_per_100_000"]),
    ]


if __name__ == "__main__":
    sys.exit(main())
