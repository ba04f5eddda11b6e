"""Performance: what the statistics say is what happened, in memory that traffic does not grow."""

from math import ceil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asgi_errorkit import PerformanceMetrics, PerformanceMonitoringMiddleware, Recorder
from asgi_errorkit.process import ProcessSample
from asgi_errorkit.testing import HandClock, request, session

WARNINGS = "asgi_errorkit.performance"


class App:
    """Takes as long as it is told, by moving the clock."""

    def __init__(self, clock):
        self.clock, self.seconds, self.status, self.exc = clock, 0.0, 200, None

    async def __call__(self, scope, receive, send):
        self.clock.move(self.seconds)
        if self.exc:
            raise self.exc
        await send({"type": "http.response.start", "status": self.status, "headers": []})
        await send({"type": "http.response.body"})


class Bench:
    """A monitored app, with clocks and process figures set by hand."""

    def __init__(self, app=None, **options):
        self.clock, self.wall = HandClock(), HandClock(1_700_000_000.0)
        self.recorder = Recorder(clock=self.clock, wall_clock=self.wall, flush_seconds=None)
        self.app = app or App(self.clock)
        self.middleware = PerformanceMonitoringMiddleware(
            self.app, recorder=self.recorder, **options
        )

    async def take(self, *durations, path="/videos", **scope):
        for self.app.seconds in durations:
            await request(self.middleware, path=path, **scope)

    def use(self, memory_mb=0.0, cpu_percent=0.0):
        """What the process uses from now on."""
        self.recorder.sampler._keep(ProcessSample(memory_mb, cpu_percent, 3, 2, None, 0.0))

    def stats(self, window_minutes=5):
        return self.middleware.get_performance_stats(window_minutes)


@pytest.fixture
def bench():
    return Bench()


def nearest_rank(durations, q):
    return sorted(durations)[max(1, ceil(q * len(durations))) - 1]


# The numbers


async def test_totals_are_exact(bench):
    await bench.take(1.0, 2.0, 6.0)
    stats = bench.stats()
    assert stats["total_requests"] == 3
    assert (stats["min_duration"], stats["max_duration"]) == (1.0, 6.0)
    assert stats["avg_duration"] == pytest.approx(3.0)
    assert stats["requests_per_second"] == pytest.approx(3 / 9)  # watched for nine seconds
    bench.clock.move(291.0)
    assert bench.stats()["requests_per_second"] == pytest.approx(3 / 300)
    bench.clock.move(600.0)
    assert bench.stats(60)["requests_per_second"] == pytest.approx(3 / 900)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(1e-6, 80.0), min_size=1, max_size=40))
def test_percentiles_are_within_two_percent_of_the_true_ones(durations):
    """p50 to p99.9, in all and per route, however durations are spread."""
    bench = Bench()
    running = bench.take(*durations)
    with pytest.raises(StopIteration):
        running.send(None)
    stats = bench.stats(60)
    for found in (stats["percentiles"], stats["routes"]["GET /videos"]):
        for name in ("p50", "p90", "p95", "p99", "p99.9"):
            true = nearest_rank(durations, float(name[1:]) / 100)
            assert found[name] == pytest.approx(true, rel=0.02, abs=1e-9)


async def test_time_to_first_byte_and_total_differ():
    """The first byte is the start of the response; background work after its end is no latency."""
    bench = Bench()

    async def app(scope, receive, send):
        bench.clock.move(1.0)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        bench.clock.move(2.0)
        await send({"type": "http.response.body"})
        bench.clock.move(60.0)

    bench.middleware = PerformanceMonitoringMiddleware(app, recorder=bench.recorder)
    await request(bench.middleware)
    stats = bench.stats()
    assert stats["time_to_first_byte"]["p50"] == pytest.approx(1.0, rel=0.02)
    assert stats["max_duration"] == 3.0


async def test_in_flight_counts_those_that_run_now():
    seen = []

    async def app(scope, receive, send):
        seen.append(bench.stats()["in_flight"])
        if scope["path"] == "/outer":
            await request(bench.middleware, path="/inner")

    bench = Bench(app)
    await request(bench.middleware, path="/outer")
    assert seen == [1, 2]
    assert bench.stats()["in_flight"] == 0


async def test_an_error_is_measured_too(bench):
    """Its duration counts, its status is 500, its words are kept, bounded and without secrets."""
    bench.app.exc = ValueError("password=hunter2 " + "x" * 100_000)
    await bench.take(1.5)
    (metrics,) = bench.middleware.metrics
    assert (metrics.duration, metrics.status_code) == (1.5, 500)
    assert metrics.error.startswith("password=") and len(metrics.error) < 10_000
    assert "hunter2" not in metrics.error
    assert bench.stats()["outcomes"] == {"server_error": 1}
    assert bench.stats()["routes"]["GET /videos"]["failed"] == 1


async def test_outcomes_tell_clients_errors_from_the_servers(bench):
    for bench.app.status in (200, 301, 404, 422, 503):
        await bench.take(0.1)
    assert bench.stats()["outcomes"] == {"ok": 2, "client_error": 2, "server_error": 1}


async def test_websocket_sessions_are_no_requests(bench):
    await session(bench.middleware)
    assert bench.stats()["total_requests"] == 0


# Windows


async def test_a_window_holds_what_ended_within_it(bench):
    """Requests leave the statistics when their window has passed, and only then."""
    await bench.take(1.0)
    bench.clock.move(120.0)
    await bench.take(2.0)
    assert [bench.stats(window)["total_requests"] for window in (1, 5)] == [1, 2]
    bench.clock.move(240.0)
    assert bench.stats(5)["total_requests"] == 1
    bench.clock.move(3600.0)
    empty = bench.stats(60)
    assert (empty.pop("message"), empty["total_requests"]) == ("No metrics available", 0)
    await bench.take(1.0)
    assert empty.keys() == bench.stats().keys()


async def test_a_route_leaves_the_statistics_within_a_quarter_of_a_minute(bench):
    await bench.take(*[1.0] * 10, path="/a")
    bench.clock.move(76.0)
    await bench.take(1.0, path="/a")
    stats = bench.stats(1)
    assert (stats["total_requests"], stats["routes"]["GET /a"]["requests"]) == (1, 1)


async def test_the_process_is_told_of_before_anything_has_been_sampled(bench):
    bench.wall.at = 1_700_000_100.0
    process = bench.stats()["process"]
    assert process["memory_mb"] > 1 and process["threads"] >= 1
    assert process["at"] == bench.wall.at


@pytest.mark.parametrize("path", [b"/x", 5, ["/x"], None, "/" + "x" * 100_000], ids=type)
async def test_one_odd_request_costs_no_other_its_place(bench, path):
    """No server makes such a path, but a middleware further out may."""
    await bench.take(1.0)

    async def odd(scope, receive, send):
        await bench.middleware({**scope, "path": path}, receive, send)

    await request(odd)
    await bench.take(1.0)
    stats = bench.stats()
    assert stats["total_requests"] == sum(stats["outcomes"].values()) == 3
    assert sum(route["requests"] for route in stats["routes"].values()) == 3
    assert stats["routes"]["GET /videos"]["requests"] == 2
    assert len(bench.middleware.metrics) == 3
    assert all(len(str(m.url)) < 3000 for m in bench.middleware.metrics)
    assert bench.recorder.sink_errors == 0


@pytest.mark.parametrize("jump", [3600.0, -3600.0])
async def test_a_jump_of_the_wall_clock_changes_no_window_and_no_duration(bench, jump):
    await bench.take(1.0)
    bench.wall.move(jump)
    await bench.take(1.0)
    stats = bench.stats(1)
    assert (stats["total_requests"], stats["max_duration"]) == (2, 1.0)


@pytest.mark.parametrize("window", [0, -1, 61, float("nan"), float("inf")])
def test_a_window_that_is_not_kept_is_refused(bench, window):
    with pytest.raises(ValueError, match="window_minutes must be a number above 0 and at most 60"):
        bench.stats(window)


@pytest.mark.parametrize("window", ["5", True, None])
def test_a_window_that_is_no_number_is_refused(bench, window):
    with pytest.raises(TypeError, match="window_minutes must be a number above 0 and at most 60"):
        bench.stats(window)


# Bounds


def letters(number):
    return "".join(chr(ord("a") + int(digit)) for digit in str(number))


async def test_ten_thousand_paths_make_a_bounded_number_of_labels():
    """The first routes keep their own statistics, the rest shares one label, and none is lost."""
    bench = Bench(max_routes=20)
    for number in range(10_000):
        await bench.take(0.0, path=f"/{letters(number)}")
    routes = bench.stats()["routes"]
    assert len(routes) == 21
    assert sum(route["requests"] for route in routes.values()) == 10_000


async def test_the_busiest_routes_alone_are_told_on_request():
    """And each as it is told among all of them."""
    bench = Bench()
    for name, number in (("few", 1), ("most", 5), ("some", 3), ("none", 0)):
        for _ in range(number):
            await bench.take(0.1 * number, path=f"/{name}")
    whole = bench.stats()
    told = bench.middleware.get_performance_stats(most_routes=2)
    assert list(told["routes"]) == ["GET /most", "GET /some"]
    assert told["routes"].items() <= whole["routes"].items()
    assert (told.pop("routes_left_out"), whole.pop("routes_left_out")) == (1, 0)
    assert {**told, "routes": 0} == {**whole, "routes": 0}
    assert bench.middleware.get_performance_stats(most_routes=0)["routes"] == {}
    assert bench.middleware.get_performance_stats(most_routes=9)["routes"] == whole["routes"]


@pytest.mark.parametrize(
    ("given", "error"), [(-1, ValueError), (1.5, TypeError), ("20", TypeError), (True, TypeError)]
)
def test_how_many_routes_is_a_whole_number(bench, given, error):
    with pytest.raises(error, match="most_routes must be a whole number"):
        bench.middleware.get_performance_stats(most_routes=given)


async def test_a_route_is_its_template_not_its_paths(bench):
    """What the framework matched names the route; else segments with digits are one."""

    class Route:
        path = "/videos/{video_id}"

    for number in range(3):
        await bench.take(0.1, path=f"/videos/{number}", route=Route())
        await bench.take(0.1, path=f"/users/{number}/films")
    bench.app.status = 404
    await bench.take(0.1, path="/wp-login.php")
    numbers = {label: route["requests"] for label, route in bench.stats()["routes"].items()}
    assert numbers == {"GET /videos/{video_id}": 3, "GET /users/{...}/films": 3, "(unmatched)": 1}


async def test_single_requests_are_kept_up_to_the_maximum():
    """The latest stay, oldest first; a long path does not stay long."""
    bench = Bench(max_metrics=3)
    await bench.take(*map(float, range(5)), path="/" + "x" * 1_000_000)
    metrics = bench.middleware.metrics
    assert [each.duration for each in metrics] == [2.0, 3.0, 4.0]
    assert all(isinstance(each, PerformanceMetrics) for each in metrics)
    assert max(len(each.url) for each in metrics) < 10_000
    assert max(each.timestamp for each in metrics) <= bench.wall.at


@pytest.mark.parametrize(
    "path",
    [
        "/x;token=hunter2",
        "/x;colour=hunter2",
        "/go/postgres://u:hunter2@h",
        f"/{'x' * 2000}/go/postgres://u:{'hunter2' * 20}@h",
    ],
    ids=["parameter", "extra name", "credentials", "cut"],
)
async def test_no_path_tells_a_secret(path, caplog):
    """Neither single requests nor route labels nor warnings show what is secret in a path."""
    bench = Bench(redact=["colour"], slow_request_threshold_seconds=1.0)
    await bench.take(2.0, path=path)
    (metrics,) = bench.middleware.metrics
    assert metrics.url.startswith(path[:3])
    assert "hunter2" not in f"{metrics} {bench.stats()} {warned(caplog)}"


# Warnings


def warned(caplog):
    return [record.getMessage() for record in caplog.records if record.name == WARNINGS]


@pytest.mark.parametrize(
    ("duration", "slow"), [(5.0, False), (5.1, True)], ids=["at the threshold", "beyond"]
)
async def test_a_slow_request_is_counted_and_warned_of(bench, caplog, duration, slow):
    await bench.take(duration)
    assert bench.stats()["slow_requests"] == slow
    assert [("Slow request" in text and "GET /videos" in text) for text in warned(caplog)] == [
        True
    ] * slow


@pytest.mark.parametrize(
    ("before", "after", "cpu", "words"),
    [
        (500.0, 600.0, 80.0, []),
        (500.0, 601.0, 0.0, ["Memory grew by 101.0 MB"]),
        (1024.0, 1025.0, 0.0, ["High memory usage: 1025.0 MB"]),
        (500.0, 500.0, 81.0, ["High CPU usage: 81 %"]),
        (900.0, 1100.0, 95.0, ["Memory grew", "High memory usage", "High CPU usage"]),
        (0.0, 900.0, 0.0, []),
    ],
    ids=["within", "growth", "memory", "cpu", "all", "no sample before"],
)
async def test_high_use_of_resources_is_warned_of(caplog, before, after, cpu, words):
    """By the guide's thresholds: 100 MB of growth, 1024 MB in all, 80 % of CPU."""

    async def app(scope, receive, send):
        bench.use(after, cpu)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body"})

    bench = Bench(app)
    bench.use(before, 0.0)
    await request(bench.middleware)
    stats = bench.stats()
    texts = warned(caplog)
    assert len(texts) == len(words) and all(map(str.startswith, texts, words))
    growth = after - before if before else 0.0
    assert stats["max_memory_delta"] == stats["avg_memory_delta"] == growth
    assert stats["high_memory_requests"] == (growth > 100)
    assert stats["max_cpu_usage"] == stats["avg_cpu_usage"] == cpu
    (metrics,) = bench.middleware.metrics
    assert (metrics.memory_before, metrics.memory_after, metrics.cpu_usage) == (before, after, cpu)


async def test_a_storm_of_one_issue_is_told_once_in_ten_seconds(bench, caplog):
    """All are counted; the next warning says how many went untold."""
    bench.middleware = PerformanceMonitoringMiddleware(
        bench.app, slow_request_threshold_seconds=0.5, recorder=bench.recorder
    )
    await bench.take(*[1.0] * 9)
    bench.clock.move(10.0)
    await bench.take(1.0)
    assert bench.stats()["slow_requests"] == 10
    first, second = warned(caplog)
    assert "more like it" not in first and second.endswith("; 8 more like it before")


@pytest.mark.parametrize(
    "evil", ["\r\nCRITICAL forged", "\x1b[m", "\u2028", "\x00", "\ud800"], ids=ascii
)
async def test_no_hostile_input_forges_a_warning(bench, caplog, evil):
    """A warning is one line of printable text, whatever the request's path and method are."""
    await request(bench.middleware, path=f"/{evil}/{'x' * 100_000}")
    bench.app.seconds = 9.0
    await request(bench.middleware, f"GET{evil}", f"/{evil}/{'x' * 100_000}")
    bench.stats()
    (text,) = warned(caplog)
    assert text.isprintable() and len(text) < 1_000


# The options


@pytest.mark.parametrize(
    "name",
    [
        "slow_request_threshold_seconds",
        "memory_growth_threshold_mb",
        "high_memory_threshold_mb",
        "high_cpu_threshold_percent",
    ],
)
@pytest.mark.parametrize("wrong", [0, -1, float("nan"), "5", None, True], ids=repr)
def test_a_wrong_threshold_is_refused_at_construction(name, wrong):
    error = ValueError if type(wrong) in (int, float) else TypeError
    with pytest.raises(error, match=f"{name} must be a number above 0, e.g. .*; got {wrong!r}"):
        PerformanceMonitoringMiddleware(App(None), **{name: wrong})


def test_names_to_redact_are_a_list():
    with pytest.raises(TypeError, match="redact must be a list"):
        PerformanceMonitoringMiddleware(App(None), redact="colour")


@pytest.mark.parametrize("name", ["max_metrics", "max_routes"])
@pytest.mark.parametrize("wrong", [0, -1, 10.0, 2.5, float("nan"), "x", None, True], ids=repr)
def test_what_counts_things_is_a_whole_number(name, wrong):
    error = ValueError if type(wrong) is int else TypeError
    with pytest.raises(error, match=f"{name} must be a whole number of at least 1, e.g. "):
        PerformanceMonitoringMiddleware(App(None), **{name: wrong})


@pytest.mark.parametrize("endless", ["slow_request_threshold_seconds", "high_memory_threshold_mb"])
def test_a_threshold_may_never_be_reached(endless):
    PerformanceMonitoringMiddleware(App(None), **{endless: float("inf")})


async def test_own_thresholds_replace_the_guides(caplog):
    bench = Bench(slow_request_threshold_seconds=0.5, high_memory_threshold_mb=100.0)
    bench.use(memory_mb=150.0)
    await bench.take(0.6)
    assert bench.stats()["slow_requests"] == 1
    assert [text.split(":")[0] for text in warned(caplog)] == ["Slow request", "High memory usage"]
