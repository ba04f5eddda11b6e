from pathlib import Path

import pytest

from .applying import leaves_out
from .served import TARGETS, Served, start

HERE = Path(__file__).parent

_every_running = pytest.StashKey[dict]()


def pytest_collection_modifyitems(config, items):
    here = [item for item in items if item.path.parent == HERE and hasattr(item, "callspec")]
    left_out = [item for item in here if leaves_out(item)]
    items[:] = [item for item in items if item not in left_out]
    config.hook.pytest_deselected(items=left_out)


@pytest.fixture(scope="session")
def _servers(request, tmp_path_factory):
    """All servers; each is started when it is first asked for, then shared."""
    every = request.config.stash[_every_running] = {}

    def shared(framework, server):
        if (framework, server) not in every:
            folder = tmp_path_factory.mktemp("survival")
            every[framework, server] = start(framework, server, folder)
        running = every[framework, server]
        assert running.alive, f"{running.name} has died"
        return running if hasattr(running, "port") else running.ready()

    yield shared
    for running in every.values():
        running.kill()


@pytest.fixture(params=TARGETS, ids="-".join)
def target(request):
    """Each framework under each server."""
    return request.param


@pytest.fixture
def make_served(_servers, target):
    """Any way to wrap the application of this framework, under this server, which must outlive it."""
    running = _servers(*target)
    yield lambda stack: Served(running, target[0], stack)
    assert running.alive, f"{running.name} has died"


@pytest.fixture(params=["lone", "stack", "together"])
def served(request, make_served):
    """The module's ``FEATURE``: its middleware alone, in a stack, and in one with all five."""
    way, feature = request.param, request.module.FEATURE
    return make_served("stack-all" if way == "together" else f"{way}-{feature}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Show what the servers have said during a test that fails."""
    report = yield
    for running in item.config.stash.get(_every_running, {}).values():
        said = running.news()
        if report.failed and said:
            report.sections.append((f"said by {running.name}", said[-8000:]))
    return report
