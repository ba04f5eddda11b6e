import pytest

from .running import COMMANDS, Running

_every_running = pytest.StashKey[list]()


class Servers:
    """The servers of the whole test run: each is started when first asked for, then shared."""

    def __init__(self, make_folder, every):
        self._make_folder = make_folder
        self._every = every
        self._shared = {}

    def start(self, command, app="served:wrapped", **more):
        """Start a server of the caller's own, without waiting for it."""
        running = Running(command, app, self._make_folder("server"), **more)
        self._every.append(running)
        return running

    def shared(self, command, app="served:wrapped", **more):
        """The server that all tests share, ready; it must be alive."""
        key = (command, app, *more.items())
        if key not in self._shared:
            self._shared[key] = self.start(command, app, **more)
        running = self._shared[key]
        assert running.alive, f"{running.name} has died"
        return running if hasattr(running, "port") else running.ready()


@pytest.fixture(scope="session")
def servers(request, tmp_path_factory):
    every = request.config.stash[_every_running] = []
    yield Servers(tmp_path_factory.mktemp, every)
    for running in every:
        running.kill()


@pytest.fixture(params=COMMANDS)
def command(request):
    """Each server in turn."""
    return request.param


@pytest.fixture
def wrapped(servers, command):
    """Each server in turn, with the wrapped app; it must outlive the test."""
    servers.shared(command, "served:bare")  # both start side by side
    running = servers.shared(command)
    yield running
    assert running.alive, f"{running.name} has died"


@pytest.fixture
def bare(servers, command):
    """The same server with the app as it is."""
    return servers.shared(command, "served:bare")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Show what the servers have said during a test that fails."""
    report = yield
    for running in item.config.stash.get(_every_running, []):
        said = running.news()
        if report.failed and said:
            report.sections.append((f"said by {running.name}", said[-8000:]))
    return report
