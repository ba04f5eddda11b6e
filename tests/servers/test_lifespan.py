"""The lifespan passes between the server and the app as if nothing stood between them."""

import json
import re

import pytest

from .running import GRACEFUL, all_but
from .wire import Http, ask, raw_answer, request_ids

UVICORNS = ["uvicorn-h11", "uvicorn-httptools"]
"""Those that have options for it."""
CALLS_NONE = {"daphne": "it knows of no lifespan"}
ROOT_PATHS = {
    "hypercorn-asyncio": "--root-path /api",
    "granian": "--url-path-prefix /api",
    "daphne": "--root-path /api",
    "gunicorn-asgi": "--root-path /api",
}


def both(servers, command, bare, wrapped, options=None):
    """The same server twice, with the bare and the wrapped app, started side by side."""
    options = GRACEFUL.get(command, "") if options is None else options
    return [servers.start(command, app, options=options) for app in (bare, wrapped)]


def ended(running):
    """How a server ended: its exit code, and what it said less numbers and places in code."""
    code = running.ended()
    said = [line for line in running.said().splitlines() if not line.startswith(" ")]
    return code, [re.sub(r"\d+", "N", line) for line in said]


@pytest.mark.parametrize("command", all_but(CALLS_NONE))
def test_startup_and_shutdown_reach_the_app(servers, command):
    """Once each, in order, of the bare and the wrapped app alike."""
    pair = both(servers, command, "served:bare", "served:wrapped")
    for running in pair:
        raw_answer(running.ready().port, ask("/plain"))
        running.terminate()
    theirs, ours = map(ended, pair)
    assert ours == theirs
    assert [line for line in ours[1] if "app:" in line] == ["app: startup", "app: shutdown"]


@pytest.mark.parametrize("name", ["without", "raising"])
def test_a_lifespan_that_raises_is_no_lifespan(servers, command, name):
    """As bare: the server goes on without it, and every request is answered and told."""
    pair = both(servers, command, f"lifespans:{name}", f"lifespans:wrapped_{name}")
    bare, wrapped = (running.ready() for running in pair)
    with Http(bare.port) as theirs, Http(wrapped.port) as ours:
        assert ours.get("/plain").body == theirs.get("/plain").body == b"Hello, world"
        answer = ours.get("/fail")
        assert answer.status == 500
    assert wrapped.last_line(answer.request_id)["error_type"] == "RuntimeError"
    for running in pair:
        running.terminate()
    theirs, ours = map(ended, pair)
    assert ours == theirs


@pytest.mark.parametrize("command", all_but(CALLS_NONE))
def test_a_startup_that_the_app_says_failed_ends_the_server(servers, command):
    """With the exit code and the words of the bare one."""
    pair = both(servers, command, "lifespans:failing", "lifespans:wrapped_failing", options="")
    theirs, ours = map(ended, pair)
    assert ours == theirs
    assert ours[0] != 0
    assert "no database today" in pair[1].said()


@pytest.mark.parametrize("name", UVICORNS)
def test_a_startup_that_raises_ends_a_server_that_insists(servers, name):
    """`--lifespan on`: the exception comes through to uvicorn, and to its log."""
    pair = both(servers, name, "lifespans:raising", "lifespans:wrapped_raising", "--lifespan on")
    theirs, ours = map(ended, pair)
    assert ours == theirs
    assert ours[0] != 0
    assert "RuntimeError: no configuration today" in ours[1]


@pytest.mark.parametrize("command", all_but(CALLS_NONE))
def test_a_shutdown_that_the_app_says_failed_ends_as_it_does_bare(servers, command):
    pair = both(servers, command, "lifespans:failing_late", "lifespans:wrapped_failing_late")
    for running in pair:
        running.ready().terminate()
    theirs, ours = map(ended, pair)
    assert ours == theirs


@pytest.mark.parametrize("name", UVICORNS)
def test_without_lifespan_and_under_a_root_path(servers, name):
    """`--lifespan off --root-path`: the scope is the bare one's, errors and ids are as ever."""
    options = "--lifespan off --root-path /api"
    bare, wrapped = (
        servers.shared(name, f"served:{which}", options=options) for which in ("bare", "wrapped")
    )
    theirs, ours = (
        raw_answer(server.port, ask("/scope?a=1")).partition(b"\r\n\r\n")
        for server in (bare, wrapped)
    )
    assert ours[2] == theirs[2]
    scope = json.loads(ours[2])
    assert (scope["root_path"], scope["path"], scope["state"]) == ("/api", "/api/scope", {})
    (request_id,) = request_ids(ours[0] + b"\r\n")
    assert wrapped.last_line(request_id)["url"] == "http://test/api/scope?a=1"
    with Http(wrapped.port) as connection:
        answer = connection.get("/fail")
        assert (answer.status, json.loads(answer.body)["request_id"]) == (500, answer.request_id)


@pytest.mark.parametrize("command", CALLS_NONE)
def test_where_no_lifespan_is_called_every_request_is_told(servers, command):
    """From the first one on, although nothing has announced the start."""
    pair = both(servers, command, "served:bare", "served:wrapped")
    bare, wrapped = (running.ready() for running in pair)
    with Http(bare.port) as theirs, Http(wrapped.port) as ours:
        answer = ours.get("/plain")
        assert answer.body == theirs.get("/plain").body == b"Hello, world"
    assert wrapped.last_line(answer.request_id)["outcome"] == "ok"
    for running in pair:
        running.terminate()
    theirs, ours = map(ended, pair)
    assert ours == theirs
    assert "app:" not in wrapped.said()


@pytest.mark.parametrize("command", ROOT_PATHS)
def test_a_root_path_of_other_servers(servers, command):
    bare, wrapped = (
        servers.shared(command, f"served:{which}", options=ROOT_PATHS[command])
        for which in ("bare", "wrapped")
    )
    theirs, ours = (
        raw_answer(server.port, ask("/api/scope")).partition(b"\r\n\r\n")
        for server in (bare, wrapped)
    )
    assert ours[2] == theirs[2]
    assert json.loads(ours[2])["root_path"] == "/api"
