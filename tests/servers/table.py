"""docs/servers.md, made of the tests that there are for each server.

``python -m tests.servers.table`` writes it anew.
"""

import re
import subprocess
import sys
from pathlib import Path

from .running import COMMANDS

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "servers.md"

LAWS = {
    "the bare app's bytes": "test_wrapped_bytes_are_the_bare_bytes",
    "error before the start": "test_an_error_before_the_start_is_a_problem_with_the_request_id",
    "error after it, amid the body": (
        "test_a_response_that_broke_off_is_told_as_what_it_was|"
        "test_a_client_that_is_left_waiting_gets_the_same"
    ),
    "error after the response": "test_an_error_after_the_complete_response_is_a_background_failure",
    "client leaves its upload": (
        "test_a_client_that_leaves_in_its_upload_is_no_error|"
        "test_an_upload_that_never_came_to_the_app_is_not_told_of"
    ),
    "client leaves the response": "test_a_client_that_leaves_an_endless_response_is_no_error",
    "error in a websocket": "test_an_error_in_a_session_is_counted_and_told",
    "told to end with requests in flight": (
        "test_a_request_in_flight_when_the_server_is_told_to_end_is_told|"
        "test_a_request_in_flight_that_the_ending_server_cancels_is_told_as_cancelled"
    ),
    "no lifespan": (
        "test_a_lifespan_that_raises_is_no_lifespan|"
        "test_where_no_lifespan_is_called_every_request_is_told"
    ),
    "HTTP/2": "test_h2.py::test_wrapped_frames_are_the_bare_frames",
}
"""What is asked of servers, and the tests that do."""

TEXT = """# Servers

Each law is a test with real processes on loopback sockets: the wrapped app beside the bare one, under this server. The servers are those of the versions that the `test` extra of `pyproject.toml` names; the oldest and the newest of them are tested.

{table}
What differs between servers, and stays as it is:

- **daphne** lets a client wait for ever for the rest of a response that broke off, wrapped or bare; it begins with the app when it has the whole upload; it calls no lifespan, so the kit starts with the first request; it cancels what is in flight when it is told to end, and those requests are told as `cancelled`.
- **granian** and **gunicorn's asgi worker** raise errors of the protocol (a body before its start) where the kit cannot tell them from the app's: the kit answers them, with 500 as the server would.
- **uvicorn**, told to end, raises the signal again: nothing of Python runs after it, so that without a lifespan of the app's the last tenth of a second of the log is lost. `asgi-errorkit serve` flushes in that case too.
"""


def page() -> str:
    """The whole page, as it ought to be."""
    every, names = collected(), list(COMMANDS)
    rows = [
        [law, *("yes" if asks(every, tests, name) else "–" for name in names)]
        for law, tests in LAWS.items()
    ]
    lines = [["", *names], ["---"] * (len(names) + 1), *rows]
    return TEXT.format(table="".join(f"| {' | '.join(line)} |\n" for line in lines))


def collected() -> list[str]:
    """The names of all tests with their parameters."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, str(HERE)],
        cwd=HERE.parents[1],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()


def asks(every: list[str], tests: str, name: str) -> bool:
    """Whether one of these tests is run with this server."""
    wanted = re.compile(rf"(?:{tests})\[(?:.*-)?{name}(?:-|\])")
    return any(wanted.search(each) for each in every)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
