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

class Instance:
    async def __call__(self, scope, receive, send):
        await app(scope, receive, send)

instance = Instance()

def older(scope):
    raise RuntimeError("never called")

def choosy(first=1, second=2, third=3):
    return app

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
    """The command while it serves; a context manager that ends it and all its workers.

    ``variables`` are added to its environment.
    """

    def __init__(self, line, folder, **variables):
        self._said, self._log = folder / "said", folder / "log"
        with self._said.open("wb") as said, self._log.open("wb") as log:
            self.process = subprocess.Popen(
                line,
                cwd=folder,
                stdout=log,
                stderr=said,
                start_new_session=True,
                env={**os.environ, **variables},
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
            mine = [line for line in lines if line.get("request_id") == request_id]
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


@pytest.mark.parametrize("name", ["make", "choosy"])
def test_a_factory_is_called(folder, name):
    """Also one that would take as many arguments as an app."""
    with Served(command("serve", f"anybodys:{name}", "--factory", "--port", "0"), folder) as served:
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


FROM_THE_ENVIRONMENT = {"UVICORN_APP": "anybodys:make", "UVICORN_PORT": "0", "UVICORN_FACTORY": "1"}


def test_uvicorns_environment_variables_are_its_options(folder):
    """As its own command has it; the access log among them."""
    variables = {**FROM_THE_ENVIRONMENT, "UVICORN_ACCESS_LOG": "1"}
    with Served(command("serve"), folder, **variables) as served:
        served.get("/seen")
        served._until(lambda: '"GET /seen HTTP/1.1" 200' in served.log())


def test_an_option_that_is_given_outdoes_its_environment_variable(folder):
    code, _, said = run(
        "serve", "anybodys:app", "--port", "no", cwd=folder, env={**os.environ, "UVICORN_PORT": "0"}
    )
    assert code == 2
    assert "'no'" in said


@pytest.mark.parametrize("workers", ["1", "2"])
def test_our_own_environment_variables_reach_every_worker(folder, workers):
    """The log level in any case of letters; what is given as an option outdoes them."""
    line = command("serve", "anybodys:app", "--port", "0", "--workers", workers)
    variables = {"ASGI_ERRORKIT_DEBUG": "1", "ASGI_ERRORKIT_LOG_LEVEL": "ERROR"}
    with Served(line, folder, **variables) as served:
        _, headers, body = served.get("/fail")
        assert b"broken in the app" in body
        served.lines(headers["x-request-id"])
        assert [orjson.loads(line)["event"] for line in served.log().splitlines()] == [
            "request_error"
        ]
    with Served([*line, "--errorkit-log-level", "info"], folder, **variables) as served:
        assert len(served.lines(served.get()[1]["x-request-id"])) == 2


@pytest.mark.parametrize("off", ["0", "false", ""])
def test_debug_that_the_environment_turns_off_is_off(folder, off):
    line = command("serve", "anybodys:app", "--port", "0", "--workers", "2")
    with Served(line, folder, ASGI_ERRORKIT_DEBUG=off) as served:
        assert b"broken in the app" not in served.get("/fail")[2]
        assert "warning" not in served.said()


def test_debug_is_no_option_of_uvicorns(folder):
    """Nor does an option reach a command that the app itself starts."""
    text = "import os\nprint([n for n in os.environ if 'DEBUG' in n or 'LEVEL' in n])\napp = 1\n"
    (folder / "telling.py").write_text(text)
    variables = {n: v for n, v in os.environ.items() if "DEBUG" not in n and "LEVEL" not in n}
    variables["UVICORN_ERRORKIT_DEBUG"] = "1"
    _, out, said = run("serve", "telling:app", "--port", "0", cwd=folder, env=variables)
    assert out == "['UVICORN_ERRORKIT_DEBUG']\n"
    assert "tracebacks" not in said
    del variables["UVICORN_ERRORKIT_DEBUG"]
    _, out, said = run(
        "serve", "telling:app", "--port", "0", "--errorkit-debug", cwd=folder, env=variables
    )
    assert out == "[]\n"


@pytest.mark.parametrize("more", [[], ["--workers", "2"]], ids=["alone", "workers"])
def test_debug_is_warned_of_once(folder, more):
    """In one line on standard error, before anything is served."""
    line = command("serve", "anybodys:app", "--port", "0", "--errorkit-debug", *more)
    with Served(line, folder) as served:
        first, *others = served.said().splitlines()
        assert first.startswith("asgi-errorkit: warning: ")
        assert "tracebacks" in first
        assert not any("asgi-errorkit" in line for line in others)


LIFESPAN = """
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        for step in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{step}.complete"})
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body"})
"""


ENDINGS = {
    "without-lifespan": (["anybodys:app"], -signal.SIGTERM),
    "with-lifespan": (["lifelong:app"], -signal.SIGTERM),
    "workers": (["anybodys:app", "--workers", "2"], 0),
    "reload": (["anybodys:app", "--reload"], 0),
}


@pytest.mark.parametrize("name", ENDINGS)
def test_who_is_told_to_end_leaves_nothing_behind(folder, name):
    """No temporary file, and in one process no line of the log untold; it ends as it always did."""
    arguments, code = ENDINGS[name]
    (folder / "lifelong.py").write_text(LIFESPAN)
    temporary = folder / "temporary"
    temporary.mkdir()
    with Served(
        command("serve", *arguments, "--port", "0"), folder, TMPDIR=str(temporary)
    ) as served:
        request_id = served.get()[1]["x-request-id"]
        served.process.send_signal(signal.SIGTERM)
        assert served.process.wait(DEADLINE_SECONDS) == code
        assert list(temporary.iterdir()) == []
        if code:
            assert served.lines(request_id)[-1]["event"] == "request_complete"


NO_APP = {
    "no-such-module": (["nowhere:app"], "nowhere"),
    "no-such-attribute": (["anybodys:missing"], "missing"),
    "not-an-app": (["anybodys:number"], "anybodys:number"),
    "class": (["anybodys:Unmade"], "class"),
    "factory-unasked": (["anybodys:make"], "--factory"),
    "app-as-factory": (["anybodys:app", "--factory"], "anybodys:app: it is an app"),
    "instance-as-factory": (["anybodys:instance", "--factory"], "leave --factory out"),
    "older-app-as-factory": (["anybodys:older", "--factory"], "leave --factory out"),
    "number-as-factory": (["anybodys:number", "--factory"], "not callable"),
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
    """It does not start them over and over, and leaves no temporary file behind."""
    temporary = folder / "temporary"
    temporary.mkdir()
    code, _, said = run(
        *("serve", target, "--port", "0", "--workers", "2"),
        cwd=folder,
        env={**os.environ, "TMPDIR": str(temporary)},
    )
    assert code != 0
    assert list(temporary.iterdir()) == []
    assert "Traceback" not in said
    assert 1 <= said.count("asgi-errorkit: ") <= 2


BAD_ARGUMENTS = {
    "nothing": ([], "app"),
    "no-attribute": (["anybodys"], "MODULE:APP"),
    "empty-attribute": (["anybodys:"], "MODULE:APP"),
    "empty-module": ([":app"], "MODULE:APP"),
    "unknown-option": (["anybodys:app", "--colour", "blue"], "--colour"),
    "file": (["anybodys.py:app"], "drop '.py'"),
    "file-in-folder": (["./mypkg/anybodys.py:app"], "dots for slashes"),
    "bad-port": (["anybodys:app", "--port", "many"], "many"),
    "port-too-high": (["anybodys:app", "--port", "99999"], "99999"),
    "port-too-low": (["anybodys:app", "--port", "-1"], "-1"),
    "bad-level": (["anybodys:app", "--errorkit-log-level", "loud"], "loud"),
    "two-apps": (["anybodys:app", "anybodys:make"], "anybodys:make"),
}


@pytest.mark.parametrize("name", BAD_ARGUMENTS)
def test_arguments_that_make_no_sense_are_refused(folder, name):
    """With exit code 2 and one line that names the trouble and where to read more."""
    arguments, word = BAD_ARGUMENTS[name]
    code, out, said = run("serve", *arguments, cwd=folder)
    assert code == 2
    assert out == ""
    assert len(said.splitlines()) == 1
    assert said.startswith("asgi-errorkit: ")
    assert word.lower() in said.lower()
    assert "serve --help" in said


def test_a_variable_that_makes_no_sense_is_refused_as_an_option_is(folder):
    variables = {**os.environ, "UVICORN_PORT": "99999"}
    code, _, said = run("serve", "anybodys:app", cwd=folder, env=variables)
    assert code == 2
    assert len(said.splitlines()) == 1
    assert "--port" in said and "99999" in said


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
    for variable in ("ASGI_ERRORKIT_DEBUG", "ASGI_ERRORKIT_LOG_LEVEL"):
        assert variable in out


def test_help_tells_why_there_is_no_access_log():
    """Beside its option, however the lines are broken."""
    words = " ".join(run("serve", "--help")[1].split())
    assert "access log. Off by default: the kit logs every request." in words


def test_uvicorns_own_command_stays_as_it_is():
    code = """
from asgi_errorkit.cli import main
main(["serve", "--help"])
from uvicorn.main import main
print({option.name: option.default for option in main.params}["access_log"])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("\nTrue\n")


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
