"""The command: it serves anybody's app wrapped, and says in one line what it cannot do."""

import http.client
import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import time

import orjson
import pytest

DEADLINE_SECONDS = 20

APPS = """
import os

async def app(scope, receive, send):
    if scope["type"] != "http":
        raise RuntimeError("no lifespan here")
    if scope["path"] == "/fail":
        raise RuntimeError("broken in the app")
    body = b"%d" % os.getpid()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})

def make():
    return app

def needy(settings):
    return app

def broken():
    raise RuntimeError("no settings today")

def typo():
    return len(42)

class Unmade:
    async def __call__(self, scope, receive, send):
        pass

number = 7
"""

MODULES = {
    "anybodys": APPS,
    "importing": "import nothing_that_there_is",
    "misspelt": "def app(:",
}


@pytest.fixture
def folder(tmp_path):
    """A folder with app modules that know nothing of the kit."""
    for name, text in MODULES.items():
        (tmp_path / f"{name}.py").write_text(text)
    return tmp_path


def command(*arguments):
    return [sys.executable, "-m", "asgi_errorkit", *arguments]


def end(process):
    """End a process and its workers, if they have not ended."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()


def run(*arguments, **more):
    """Run the command to its end: exit code, standard output, standard error."""
    process = subprocess.Popen(
        command(*arguments),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        **more,
    )
    try:
        out, said = process.communicate(timeout=DEADLINE_SECONDS)
    finally:
        end(process)
    return process.returncode, out, said


class Served:
    """The command while it serves; a context manager that ends it and all its workers."""

    def __init__(self, line, folder):
        self._said, self._log = folder / "said", folder / "log"
        with self._said.open("wb") as said, self._log.open("wb") as log:
            self.process = subprocess.Popen(
                line, cwd=folder, stdout=log, stderr=said, start_new_session=True
            )

    def __enter__(self):
        try:
            self.port = int(self._until(self._address)[1])
            self._until(self._answers)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        end(self.process)

    def get(self, path="/"):
        """(status, headers, body) of one answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=DEADLINE_SECONDS)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()
        finally:
            connection.close()

    def lines(self, request_id):
        """The log lines of one request, once its last is there."""

        def written():
            lines = [orjson.loads(line) for line in self._log.read_bytes().splitlines()]
            mine = [line for line in lines if line["request_id"] == request_id]
            return mine if mine and mine[-1]["event"] != "request_start" else None

        return self._until(written)

    def log(self):
        return self._log.read_text()

    def said(self):
        return self._said.read_text()

    def _address(self):
        assert self.process.poll() is None, f"it has ended: {self.said()}"
        return re.search(r"http://127\.0\.0\.1:(\d+)", self.said())

    def _answers(self):
        try:
            return self.get()[0]
        except OSError:
            return None

    def _until(self, happened):
        deadline = time.monotonic() + DEADLINE_SECONDS
        while not (answer := happened()):
            assert time.monotonic() < deadline, f"it did not happen; said: {self.said()}"
            time.sleep(0.01)
        return answer


SCRIPT = shutil.which("asgi-errorkit", path=sysconfig.get_path("scripts"))


@pytest.mark.parametrize(
    "start", [[SCRIPT], [sys.executable, "-m", "asgi_errorkit"]], ids=["script", "module"]
)
def test_it_serves_an_app_that_knows_nothing_of_it(folder, start):
    """By the installed script and by `python -m`, from the current folder, wrapped and logged."""
    with Served([*start, "serve", "anybodys:app", "--port", "0"], folder) as served:
        status, headers, _ = served.get()
        assert status == 200
        line = served.lines(headers["x-request-id"])[-1]
        assert (line["event"], line["outcome"]) == ("request_complete", "ok")
        status, headers, body = served.get("/fail")
        assert (status, headers["content-type"]) == (500, "application/problem+json")
        assert b"broken in the app" not in body
        line = served.lines(headers["x-request-id"])[-1]
        assert (line["event"], line["error"]) == ("request_error", "broken in the app")


def test_every_line_on_standard_output_is_the_kits(folder):
    """uvicorn's own access log is left out, for it would tell everything twice."""
    with Served(command("serve", "anybodys:app", "--port", "0"), folder) as served:
        served.lines(served.get()[1]["x-request-id"])
        assert all("event" in orjson.loads(line) for line in served.log().splitlines())


def test_the_access_log_comes_when_it_is_asked_for(folder):
    line = command("serve", "anybodys:app", "--port", "0", "--access-log")
    with Served(line, folder) as served:
        served.get("/seen")
        served._until(lambda: '"GET /seen HTTP/1.1" 200' in served.log())


def test_a_factory_is_called(folder):
    with Served(command("serve", "anybodys:make", "--factory", "--port", "0"), folder) as served:
        assert served.get()[0] == 200


def test_an_app_is_found_in_another_folder(folder, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    line = command("serve", "anybodys:app", "--app-dir", str(folder), "--port", "0")
    with Served(line, elsewhere) as served:
        assert served.get()[1]["x-request-id"]


def test_workers_are_all_wrapped(folder):
    """Two processes answer, both with an id; the second while the first is stopped."""
    line = command("serve", "anybodys:app", "--port", "0", "--workers", "2")
    with Served(line, folder) as served:
        _, first_headers, first = served.get()
        os.kill(int(first), signal.SIGSTOP)
        try:
            _, second_headers, second = served.get()
        finally:
            os.kill(int(first), signal.SIGCONT)
        assert first != second
        for headers in (first_headers, second_headers):
            assert served.lines(headers["x-request-id"])[-1]["event"] == "request_complete"


def test_the_kits_own_options_reach_it(folder):
    """The debug answer shows the error; at level error the log tells of errors alone."""
    options = ("--errorkit-debug", "--errorkit-log-level", "error")
    with Served(command("serve", "anybodys:app", "--port", "0", *options), folder) as served:
        served.get("/")
        status, headers, body = served.get("/fail")
        assert status == 500
        assert b"broken in the app" in body
        served.lines(headers["x-request-id"])
        events = [orjson.loads(line)["event"] for line in served.log().splitlines()]
        assert events == ["request_error"]


NO_APP = {
    "no-such-module": (["nowhere:app"], "nowhere"),
    "no-such-attribute": (["anybodys:missing"], "missing"),
    "not-an-app": (["anybodys:number"], "anybodys:number"),
    "class": (["anybodys:Unmade"], "class"),
    "factory-unasked": (["anybodys:make"], "--factory"),
    "app-as-factory": (["anybodys:app", "--factory"], "anybodys:app"),
    "factory-with-needs": (["anybodys:needy", "--factory"], "settings"),
}


@pytest.mark.parametrize("name", NO_APP)
def test_what_cannot_be_served_is_told_in_one_line(folder, name):
    """Named, on standard error, with a failing exit code and without a traceback."""
    arguments, word = NO_APP[name]
    code, out, said = run("serve", *arguments, "--port", "0", cwd=folder)
    assert code != 0
    assert out == ""
    assert len(said.splitlines()) == 1
    assert said.startswith("asgi-errorkit: ")
    assert word in said


@pytest.mark.parametrize("target", ["nowhere:app", "anybodys:make"])
def test_workers_that_cannot_start_end_the_command(folder, target):
    """It does not start them over and over."""
    code, _, said = run("serve", target, "--port", "0", "--workers", "2", cwd=folder)
    assert code != 0
    assert "Traceback" not in said
    assert 1 <= said.count("asgi-errorkit: ") <= 2


BAD_ARGUMENTS = {
    "nothing": ([], "app"),
    "no-attribute": (["anybodys"], "MODULE:APP"),
    "empty-attribute": (["anybodys:"], "MODULE:APP"),
    "empty-module": ([":app"], "MODULE:APP"),
    "unknown-option": (["anybodys:app", "--colour", "blue"], "--colour"),
    "bad-port": (["anybodys:app", "--port", "many"], "many"),
    "bad-level": (["anybodys:app", "--errorkit-log-level", "loud"], "loud"),
    "two-apps": (["anybodys:app", "anybodys:make"], "anybodys:make"),
}


@pytest.mark.parametrize("name", BAD_ARGUMENTS)
def test_arguments_that_make_no_sense_are_refused(folder, name):
    """With exit code 2, the trouble in the last line, and without a traceback."""
    arguments, word = BAD_ARGUMENTS[name]
    code, out, said = run("serve", *arguments, cwd=folder)
    assert code == 2
    assert out == ""
    assert "Traceback" not in said
    assert word.lower() in said.splitlines()[-1].lower()


OWN_ERRORS = {
    "import": (["importing:app"], "No module named 'nothing_that_there_is'"),
    "syntax": (["misspelt:app"], "SyntaxError"),
    "factory": (["anybodys:broken", "--factory"], "RuntimeError: no settings today"),
    "factory-type-error": (["anybodys:typo", "--factory"], "TypeError"),
}


@pytest.mark.parametrize("name", OWN_ERRORS)
def test_an_error_in_the_apps_own_code_is_shown_where_it_is(folder, name):
    """Its traceback is what the developer needs."""
    arguments, word = OWN_ERRORS[name]
    code, _, said = run("serve", *arguments, "--port", "0", cwd=folder)
    assert code != 0
    assert word in said
    assert f'{arguments[0].partition(":")[0]}.py", line ' in said


def test_help_lists_uvicorns_options_and_ours():
    code, out, _ = run("serve", "--help")
    assert code == 0
    for option in ("--port", "--workers", "--reload", "--factory", "--app-dir", "--ssl-keyfile"):
        assert option in out
    for option in ("--errorkit-debug", "--errorkit-log-level"):
        assert option in out


def test_help_names_the_commands():
    code, out, said = run("--help")
    assert (code, said) == (0, "")
    assert "serve" in out and "demo" in out


def test_the_version_is_told():
    from asgi_errorkit import __version__

    assert run("--version") == (0, f"asgi-errorkit {__version__}\n", "")


@pytest.mark.parametrize(
    "arguments", [[], ["--bogus"], ["server"]], ids=["none", "option", "command"]
)
def test_an_unknown_command_is_refused_with_the_usage(arguments):
    code, out, said = run(*arguments)
    assert (code, out) == (2, "")
    assert "usage: asgi-errorkit COMMAND" in said


def without(folder, module):
    """An environment in which a module cannot be imported, in child processes neither."""
    (folder / "sitecustomize.py").write_text(f"import sys\nsys.modules[{module!r}] = None\n")
    return {**os.environ, "PYTHONPATH": str(folder)}


@pytest.mark.parametrize("module", ["uvicorn", "click"])
def test_serve_without_its_extra_says_what_to_install(folder, module):
    code, out, said = run("serve", "anybodys:app", cwd=folder, env=without(folder, module))
    assert (code, out) == (2, "")
    assert len(said.splitlines()) == 1
    assert "pip install 'asgi-errorkit[serve]'" in said


@pytest.mark.parametrize("module", ["fastapi", "httpx", "numpy", "PIL", "uvicorn", "websockets"])
def test_demo_without_its_extra_says_what_to_install(folder, module):
    code, out, said = run("demo", "--requests", "1", env=without(folder, module))
    assert (code, out) == (2, "")
    assert len(said.splitlines()) == 1
    assert module in said
    assert "pip install 'asgi-errorkit[demo]'" in said


@pytest.mark.parametrize("arguments", [["--help"], ["--version"]])
def test_help_and_version_need_no_extra(folder, arguments):
    assert run(*arguments, env=without(folder, "uvicorn"))[0] == 0
