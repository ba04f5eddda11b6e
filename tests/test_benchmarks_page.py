"""The page and README's cost table say what the results say, kept or not, and nothing else."""

import copy
import json
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
BENCHMARKS = ("request", "record", "startup", "growth", "scale", "wire", "peers", "gate")
README = "# Kit\n\nBefore.\n\n<!-- costs -->\nold\n<!-- /costs -->\n\nAfter.\n"
ONE_LINE = "ErrorKit: everything, completion"
TWO_LINES = "ErrorKit: everything, start + completion"
CAN_DRAW = find_spec("matplotlib") is not None

MACHINE: dict[str, Any] = {
    "taken_at": "2026-11-26T01:26:14+00:00",
    "command": ["python", "-m", "benchmarks.any"],
    "machine": {"system": "Minix", "processor": "Z80", "cores": 3, "load_average": [0.25, 0, 0]},
    "python": {
        "version": "3.11.9",
        "implementation": "CPython",
        "compiler": "GCC 1",
        "build": "main Jan  1 1990",
        "configured_with": "'--prefix=/opt' '--enable-optimizations' '--with-lto'",
    },
    "versions": {"asgi-errorkit": "0.1.0", "orjson": "9.8.7"},
    "rounds": 7,
}


def around(median: float) -> dict[str, float]:
    """A spread with its quartiles a tenth away."""
    return {"min": 0.0, "q1": median * 0.9, "median": median, "q3": median * 1.1, "max": 2 * median}


def added(cpu: float, hot: float = 0.5) -> dict[str, Any]:
    return {
        "hot_added_us": {"best": hot, **around(hot)},
        "cpu_added_us": {"best": cpu, **around(cpu)},
        "cpu_step_us": None,
        "wall_added_us": around(cpu),
        "cpu_ratio_to_bare": 1.5,
        "log_lines": 1.0,
    }


def judged(wanted: float, measured: float | None, *, kept: bool) -> dict[str, Any]:
    return {"wanted": wanted, "measured": measured, "kept": kept}


def served(ratio: float) -> dict[str, Any]:
    names = ("requests_per_second", "p50_us", "p99_us", "p999_us", "cpu_us")
    row: dict[str, Any] = {name: around(1000.0) for name in names}
    row |= {f"{name}_to_bare": around(ratio) for name in names}
    return row | {"cpu_us_added": 5.0, "busy": around(0.99)}


GET: dict[str, Any] = {
    "per": "request",
    "subjects": {
        "bare app": added(0.0, 0.0),
        "a row that nobody knows": added(2.25),
        TWO_LINES: added(4.75, 1.25),
        "the guide's design": added(512.0),
    },
    "reach": {
        "hot_added_us": judged(1.2, 1.204, kept=False),
        "cpu_added_us": judged(5, 4.75, kept=True),
        "a promise that nobody knows": judged(1, None, kept=False),
    },
}

RESULTS: dict[str, dict[str, Any]] = {
    "request": {
        "idle_cpu_us_per_second": 1500.0,
        "pace": {"slow_turns": 4, "waited_seconds": 1.5},
        "per_chunk_us": {TWO_LINES: added(0.375, 0.125)},
        "scenarios": {"GET": GET},
    },
    "record": {
        "seconds": 0.5,
        "cores": {"writer": [0], "readers": [1, 2]},
        "requests_a_snapshot": 512,
        "snapshots": {
            "10000": {name: around(10.0) for name in ("save_idle_us", "save_us", "read_us")}
        },
        "readers": {
            "4 readers": {
                "per_second": around(200_000.0),
                "per_second_to_none": around(0.5),
                "cpu_us": around(2.0),
                "cpu_to_none": around(1.0),
                "reads_per_second": 450.0,
                "unsteady": 0.25,
            }
        },
    },
    "startup": {
        "interpreter_ms": {
            "pass": {name: around(8.0) for name in ("wall", "wall_added", "cpu_added")}
        },
        "modules": {"beyond_the_standard_library": ["orjson"], "unwanted": []},
        "construction_us": {"first": 700.0, "later": 70.0},
    },
    "growth": {
        "axes": {
            "matched routes": {
                "each": False,
                "growth": {
                    name: {"factors": [1.5], "verdict": "grows"}
                    for name in ("request_us", "memory_kib", "flush_us", "read_ms")
                },
                "points": [
                    {
                        "size": size,
                        "request_us": around(3.0),
                        "bare_us": around(1.0),
                        "memory_kib": 100.0 * size,
                        "flush_us": 2.0,
                        "read_ms": 0.0,
                    }
                    for size in (10, 1000)
                ],
            }
        }
    },
    "scale": {
        "streams": {
            "streams": 10_000,
            "exact": {"requests": [10_000, 10_000], "outcomes": [{"ok": 3}, {"ok": 3}]},
            "added_us_per_piece": around(0.5),
        },
        "published": {
            "recorder, everything listens": {
                "records_per_second": 99_950.0,
                "produced": 5,
                "taken": 4,
                "lost": 1,
                "longest_publication_ms": 0.5,
                "exact": True,
            }
        },
        "drained": {
            "two lines": {"records_per_second": 321_000.0, "median_ms": 0.1, "longest_ms": 0.2}
        },
        "longest_hold_ms": {"ring full": 0.5, "announcing": 0.75},
        "targets": {"records/s drained without lines": judged(400_000, 321_000.0, kept=False)},
    },
    "wire": {
        "client": "wrk 4",
        "cores": {"server": None, "client": None},
        "seconds": 3.0,
        "connections": 64,
        "servers": {
            "uvicorn": {
                "loads": {
                    load: {"bare app": served(1.0), ONE_LINE: served(0.95)}
                    for load in ("saturation", "half load")
                },
                "reach": [
                    {
                        "load": "saturation",
                        "figure": "requests_per_second_to_bare",
                        "wanted": 0.9,
                        "measured": 0.95,
                        "kept": None,
                    }
                ],
            }
        },
    },
    "peers": {
        "scenarios": {
            "GET": {
                "per": "request",
                "subjects": [
                    {"around": "ASGI", "name": name, "times_the_kit": 2.0, **added(cpu)}
                    for name, cpu in (("bare app", 0.0), (TWO_LINES, 5.0), ("structlog", 10.0))
                ],
                "left_out": [{"around": "ASGI", "name": "Sentry", "reason": "no sentry_sdk"}],
            }
        }
    },
    "gate": {"counts": {"GET, one log line": {"path_calls": 27.0, "total_calls": 51.88}}},
}


class Checkout:
    """A folder that looks like the repository: its README, its results, and what is made of them."""

    def __init__(self, root: Path, module: ModuleType) -> None:
        self.root = root
        self.results = root / "benchmarks" / "results"
        self.page = root / "docs" / "benchmarks.md"
        self.readme = root / "README.md"
        self._module = module
        self.results.mkdir(parents=True)
        self.page.parent.mkdir()
        self.readme.write_text(README, encoding="utf-8")

    def put(self, *benchmarks: str, as_: str = "", **changed: Any) -> None:
        for name in benchmarks:
            told = copy.deepcopy(MACHINE | RESULTS[name] | changed)
            (self.results / f"{name}{as_}.json").write_text(json.dumps(told), encoding="utf-8")

    def run(self, *arguments: str) -> int:
        code: int = self._module.main(list(arguments), self._module.Place(self.root))
        return code

    def told(self) -> str:
        """The page, once it is written."""
        assert self.run() == 0
        return self.page.read_text(encoding="utf-8")

    def files(self) -> dict[str, bytes]:
        found = sorted(file for file in self.root.rglob("*") if file.is_file())
        return {str(file.relative_to(self.root)): file.read_bytes() for file in found}


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT)
    import benchmarks.page

    return benchmarks.page


@pytest.fixture
def checkout(page: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Checkout:
    """As where nothing can be drawn: most of the time would go into plots that nobody looks at."""
    monkeypatch.setattr(page, "find_spec", lambda name: None)
    return Checkout(tmp_path, page)


@pytest.fixture
def drawn(checkout: Checkout, page: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Checkout:
    """With its plots, where they can be drawn."""
    monkeypatch.setattr(page, "find_spec", find_spec)
    return checkout


def test_the_repository_says_what_its_results_say(page: ModuleType) -> None:
    """Without results there is no page either."""
    assert page.main(["--check"]) == 0
    place = page.Place()
    assert place.page.exists() == any(place.results.glob("*.json"))


def test_readme_has_one_place_for_the_costs() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(re.findall(r"<!-- costs -->[^!]*<!-- /costs -->", readme)) == 1


def test_the_page_says_where_when_and_with_what(checkout: Checkout) -> None:
    checkout.put("request")
    text = checkout.told()
    assert "- Z80, 3 cores, Minix" in text
    assert (
        "- CPython 3.11.9, build main Jan  1 1990, GCC 1, configured with --enable-optimizations "
        "--with-lto"
    ) in text
    assert (
        "- `request.json`: CPython 3.11.9, 2026-11-26 01:26 UTC, load average 0.25, by "
        "`python -m benchmarks.any`, with asgi-errorkit 0.1.0, orjson 9.8.7"
    ) in text


@pytest.mark.parametrize(
    ("benchmark", "line"),
    [
        ("request", "| GET: hot path added, µs, at most | 3.11.9 | 1.2 | 1.204 | **no** |"),
        (
            "request",
            "| GET: total CPU added with two log lines, µs, at most | 3.11.9 | 5 | 4.75 | yes |",
        ),
        ("request", "| GET: a promise that nobody knows | 3.11.9 | 1 | – | **no** |"),
        (
            "scale",
            "| records/s drained without lines, at least | 3.11.9 | 400,000 | 321,000 | **no** |",
        ),
        (
            "scale",
            (
                "| publications a second, paced, each taken or counted as lost, at least | 3.11.9 "
                "| 100,000 | 99,950 | yes |"
            ),
        ),
        (
            "scale",
            "| streams at once, all counted exactly, at least | 3.11.9 | 10,000 | 10,000 | yes |",
        ),
        (
            "wire",
            (
                "| uvicorn, saturation: requests/s, x bare, at least | 3.11.9 | 0.9 | 0.95 "
                "| in doubt |"
            ),
        ),
    ],
    ids=["missed", "kept", "not measured", "missed at scale", "paced", "streams", "in doubt"],
)
def test_a_promise_is_said_to_be_kept_only_if_it_is(
    checkout: Checkout, benchmark: str, line: str
) -> None:
    checkout.put(benchmark)
    assert line in checkout.told().splitlines()


def test_promises_are_summed_up(checkout: Checkout) -> None:
    checkout.put("request", "wire")
    assert "Of 4: 1 kept, 2 not kept, 1 in doubt." in checkout.told()


def test_one_count_that_is_not_exact_breaks_the_promise(checkout: Checkout) -> None:
    published = copy.deepcopy(RESULTS["scale"]["published"])
    published["recorder, everything listens"]["exact"] = False
    streams = RESULTS["scale"]["streams"] | {"exact": {"requests": [10_000, 9_999]}}
    checkout.put("scale", published=published, streams=streams)
    text = checkout.told()
    assert "at least | 3.11.9 | 100,000 | 99,950 | **no** |" in text
    assert "at least | 3.11.9 | 10,000 | 10,000 | **no** |" in text
    assert "| requests | 10,000 | 9,999 | **no** |" in text


@pytest.mark.parametrize(
    ("benchmark", "line"),
    [
        (
            "request",
            (
                "| a row that nobody knows | **0.50** · 0.50 (0.45 to 0.55) | **2.25** · 2.25 (2.02 to 2.48) | – | 2.25 "
                "| 1.50 | 1 |"
            ),
        ),
        ("request", "Idle, the background thread takes 1,500 µs of CPU a second."),
        ("record", "| 10,000 | 10.0 (9.00 to 11.0) | 10.0 (9.00 to 11.0) | 10.0 (9.00 to 11.0) |"),
        (
            "record",
            (
                "| 4 readers | 200,000 | 0.50 (0.45 to 0.55) | 2.00 (1.80 to 2.20) "
                "| 1.00 (0.90 to 1.10) | 450 | 25% |"
            ),
        ),
        (
            "startup",
            "| `pass` | 8.00 (7.20 to 8.80) | 8.00 (7.20 to 8.80) | 8.00 (7.20 to 8.80) |",
        ),
        (
            "growth",
            (
                "| matched routes | 10 to 1,000 | grows, x 1.50 | grows, x 1.50 | grows, x 1.50 "
                "| grows, x 1.50 |"
            ),
        ),
        ("growth", "| 1,000 | 3.00 (2.70 to 3.30) | 100,000 | 2.00 | 0.00 | 1.00 (0.90 to 1.10) |"),
        ("scale", "| two lines | 321,000 | 0.10 | 0.20 |"),
        (
            "wire",
            (
                f"| {ONE_LINE} | 1,000 | 0.950 (0.855 to 1.045) | 1.00 | 1.00 | 0.95 (0.85 to 1.04) "
                "| 1.00 | 0.95 (0.85 to 1.04) | 1,000 | 5.00 | 99% |"
            ),
        ),
        (
            "peers",
            "| structlog | ASGI | 10.0 (9.00 to 11.0) | **10.0** · 10.0 (9.00 to 11.0) | 2.00 |",
        ),
        ("peers", "- Sentry around ASGI: no sentry_sdk"),
        ("gate", "| GET, one log line | 27.0 | 51.9 |"),
    ],
)
def test_the_page_has_the_figures(checkout: Checkout, benchmark: str, line: str) -> None:
    checkout.put(benchmark)
    assert line in checkout.told().splitlines()


@pytest.mark.parametrize("benchmark", BENCHMARKS)
def test_what_was_not_run_is_said_in_a_sentence(checkout: Checkout, benchmark: str) -> None:
    others = [name for name in BENCHMARKS if name != benchmark]
    checkout.put(*others)
    text = checkout.told()
    sentence = "There are no results of `python -m benchmarks.{}`."
    assert sentence.format(benchmark) in text
    assert not any(sentence.format(other) in text for other in others)


def test_what_a_file_lacks_is_said_in_a_sentence(checkout: Checkout) -> None:
    """Neither on the page nor in README is there anything of it."""
    checkout.put("request", per_chunk_us=None, idle_cpu_us_per_second=None, scenarios={})
    text = checkout.told()
    assert "The idle kit was not watched." in text
    assert "Further chunks of a body were not measured." in text
    assert "The results have nothing that was promised." in text
    assert ".svg" not in text
    assert "Idle" not in checkout.readme.read_text(encoding="utf-8")


def test_further_interpreters_follow_in_order(checkout: Checkout) -> None:
    for version in ("3.11.9", "3.13.1", "3.9.2"):
        python = MACHINE["python"] | {"version": version}
        minor = version.rpartition(".")[0]
        checkout.put("request", as_="" if minor == "3.11" else f"-{minor}", python=python)
    titles = [line for line in checkout.told().splitlines() if line.startswith("### CPython")]
    assert [title.split()[2] for title in titles] == ["3.11.9,", "3.9.2,", "3.13.1,", "3.11.9,"]


def test_a_file_of_no_benchmark_is_refused(checkout: Checkout) -> None:
    (checkout.results / "guess.json").write_text("{}")
    with pytest.raises(ValueError, match=r"guess\.json"):
        checkout.run()


def test_the_costs_are_replaced_between_the_comments_alone(checkout: Checkout) -> None:
    """With a row for what the results have, and none for what they do not have."""
    checkout.put("request")
    checkout.run()
    before, _, rest = checkout.readme.read_text(encoding="utf-8").partition("<!-- costs -->\n")
    table, _, after = rest.partition("\n<!-- /costs -->")
    assert (before, after) == ("# Kit\n\nBefore.\n\n", "\n\nAfter.\n")
    rows = [line for line in table.splitlines() if line.startswith("|")][2:]
    assert rows == [
        "| **`ErrorKit(app)`: everything, start and completion logged** | **1.25** | **4.75** |",
        "| the same work in three `BaseHTTPMiddleware` | 0.50 | 512 |",
        "| each further piece of a streamed body | 0.12 | 0.38 |",
    ]
    assert "The best of 7 rounds, CPython 3.11.9, Z80, 3 cores." in table
    assert "Idle, the kit takes 0.15 % of a core." in table


def test_without_a_request_measured_readme_stays_as_it_is(checkout: Checkout) -> None:
    checkout.put("gate")
    checkout.run()
    assert checkout.readme.read_text(encoding="utf-8") == README


def test_a_readme_without_a_place_for_the_costs_is_refused(checkout: Checkout) -> None:
    """Before anything is written."""
    checkout.put("request")
    checkout.readme.write_text("# Kit\n", encoding="utf-8")
    with pytest.raises(ValueError, match="<!-- costs -->"):
        checkout.run()
    assert not checkout.page.exists()


def test_it_is_the_same_twice(drawn: Checkout) -> None:
    """Plots too, by the byte; they are small, and all that the page shows are there."""
    drawn.put(*BENCHMARKS)
    text = drawn.told()
    first = drawn.files()
    shown = {f"docs/{name}" for name in re.findall(r"\]\((benchmarks/[\w-]+\.svg)\)", text)}
    plots = {name for name in first if name.endswith(".svg")}
    for name in plots:
        (drawn.root / name).unlink()
    drawn.run()
    assert drawn.files() == first
    assert len(shown) == 5
    assert plots == (shown if CAN_DRAW else set())
    assert all(len(first[name]) < 60_000 for name in plots)


def test_a_plot_is_the_same_in_another_process(drawn: Checkout) -> None:
    """With other hashes; without matplotlib the page is written, and that there are no plots said."""
    drawn.put("peers")
    drawn.run()
    first = drawn.files()
    code = (
        "import sys; from pathlib import Path; from benchmarks.page import Place, main; "
        "sys.exit(main([], Place(Path(sys.argv[1]))))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(drawn.root)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert drawn.files() == first
    assert ("matplotlib is not installed" in done.stdout) is not CAN_DRAW


def test_checking_finds_what_is_stale(
    checkout: Checkout, capsys: pytest.CaptureFixture[str]
) -> None:
    """The page, README and a plot that is missing; it writes nothing itself."""
    assert checkout.run("--check") == 0
    checkout.put(*BENCHMARKS)
    assert checkout.run("--check") == 1
    checkout.run()
    for plot in re.findall(r"\]\((benchmarks/[\w-]+\.svg)\)", checkout.page.read_text("utf-8")):
        (checkout.page.parent / plot).touch()  # there, whether it can be drawn here or not
    assert checkout.run("--check") == 0
    checkout.put("request", idle_cpu_us_per_second=9.0)
    before = checkout.files()
    capsys.readouterr()
    assert checkout.run("--check") == 1
    said = capsys.readouterr().out
    assert f"{checkout.page} is not what the results give" in said
    assert f"the cost table of {checkout.readme} is not what the results give" in said
    assert checkout.files() == before
    checkout.put("request")
    (checkout.page.parent / "benchmarks" / "peers.svg").unlink()
    assert checkout.run("--check") == 1
    assert "peers.svg is missing" in capsys.readouterr().out


def test_a_page_of_no_results_is_stale(checkout: Checkout) -> None:
    checkout.page.write_text("# Benchmarks\n")
    assert checkout.run("--check") == 1


def test_nothing_is_written_of_nothing(
    checkout: Checkout, capsys: pytest.CaptureFixture[str]
) -> None:
    assert checkout.run() == 1
    assert "--run" in capsys.readouterr().err
    assert not checkout.page.exists()


def test_running_measures_all_that_is_installed(
    checkout: Checkout,
    page: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """One after the other, the figures of another day away; what lacks something is left out."""
    ran = []

    def run(command: list[str], *, cwd: Path, check: bool) -> None:
        name = command[2].removeprefix("benchmarks.")
        file = f"benchmarks/results/{name}.json"
        assert command == [sys.executable, "-m", f"benchmarks.{name}", "--json", file]
        assert cwd == checkout.root
        assert not (cwd / file).exists()
        ran.append(name)
        if name != "growth":
            checkout.put(name)

    monkeypatch.setattr(page.subprocess, "run", run)
    monkeypatch.setattr(page, "_lacking", lambda name: "sentry-sdk" if name == "peers" else "")
    checkout.put("growth")
    assert checkout.run("--run") == 1
    assert ran == [name for name in BENCHMARKS if name != "peers"]
    told = capsys.readouterr()
    assert "peers is left out: sentry-sdk" in told.out
    assert "These have written nothing: growth" in told.err
    assert "There are no results of `python -m benchmarks.growth`." in checkout.page.read_text(
        encoding="utf-8"
    )


def test_running_and_checking_at_once_is_refused(
    checkout: Checkout, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        checkout.run("--run", "--check")
    assert "not allowed with" in capsys.readouterr().err
