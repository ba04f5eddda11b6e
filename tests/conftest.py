"""What all tests have in common."""

import pytest
from hypothesis import settings

# A busy machine is no failure, and neither is a change what an unlucky draw finds beside it: examples
# are the same each time, but with `--hypothesis-profile=random`, which looks further.
settings.register_profile("random", deadline=None)
settings.register_profile("anywhere", deadline=None, derandomize=True)
settings.load_profile("anywhere")

UNWATCHED = (
    # The kit runs in processes of their own.
    "tests/browser/",
    "tests/foreign/",
    "tests/servers/",
    "tests/test_benchmarks",
    # The same lines once more under each framework, or some ten thousand times.
    "tests/capture/test_frameworks.py::test_many_requests_side_by_side",
    "tests/capture/test_matrix.py::test_the_response_stays_as_it_was",
    "tests/spool/test_crash_points.py::test_at_whichever_store_it_dies",
    "tests/spool/test_damage.py::test_a_hundred_thousand_mutations",
    "tests/spool/test_damage.py::test_pages_of_other_moments",
    "tests/spool/test_ledger.py::test_each_request_is_counted_once_wherever_it_is_counted",
    "tests/spool/test_live_reading.py::",
    "tests/spool/test_live_stores.py::",
    "tests/spool/test_owner.py::test_a_key_says_all_of_its_owner",
    "tests/test_breaker.py::test_interrupted_at_any_line",
    "tests/test_breaker_model.py::TestBreakerMachine",
    "tests/test_breaker_model.py::test_a_hundred_thousand_steps",
    "tests/test_breaker_model.py::test_the_comparison_notices_each_defect",
    "tests/test_circuit_breaking.py::test_failing_made_up_paths_are_bounded",
    "tests/test_circuit_breaking.py::test_unmatched_paths_make_no_circuits",
    "tests/test_limiter.py::TestModel",
    "tests/test_limits.py::test_lasting_overload_does_not_make_it_drift",
    "tests/test_performance_monitoring.py::test_ten_thousand_paths",
    "tests/test_redact.py::test_hostile_repetition_takes_linear_time",
    "tests/test_redact.py::test_mapping_gives_json_and_never_raises",
    "tests/test_stale.py::test_nothing_that_is_sent_makes_it_raise",
    "tests/test_structured_logging.py::test_an_observer_is_never_called_on_the_request_path",
    "tests/test_structured_logging.py::test_no_input_breaks_a_line",
    "tests/test_timeouts.py::test_no_timers_pile_up",
)
"""By what their names begin with, the tests in which coverage rests: it would double their time."""


def pytest_collection_modifyitems(config, items):
    if not config.pluginmanager.hasplugin("_cov"):
        return
    for item in items:
        if item.nodeid.startswith(UNWATCHED):
            item.add_marker(pytest.mark.no_cover)


@pytest.fixture(scope="session", autouse=True)
def _own_record(tmp_path_factory):
    """What is served keeps the record of its workers among the tests' own files."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("XDG_RUNTIME_DIR", str(tmp_path_factory.mktemp("runtime")))
        environment.delenv("ASGI_ERRORKIT_DIR", raising=False)
        yield


@pytest.fixture(scope="session", autouse=True)
def _unwatched_loops():
    """A busy machine may block a loop at any time: only who wants its lines gets them."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("ASGI_ERRORKIT_BLOCKED_AFTER_SECONDS", "off")
        yield


@pytest.fixture
def watched_loops(monkeypatch):
    """The kits made in this test look for who blocks the loop, as they do by default."""
    monkeypatch.delenv("ASGI_ERRORKIT_BLOCKED_AFTER_SECONDS")
