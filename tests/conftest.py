"""What all tests have in common."""

import pytest


@pytest.fixture(scope="session", autouse=True)
def _own_record(tmp_path_factory):
    """What is served keeps the record of its workers among the tests' own files."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("XDG_RUNTIME_DIR", str(tmp_path_factory.mktemp("runtime")))
        environment.delenv("ASGI_ERRORKIT_DIR", raising=False)
        yield
