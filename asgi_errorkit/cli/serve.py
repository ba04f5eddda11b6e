"""`asgi-errorkit serve`: wrap anybody's app without touching its code, and serve it by uvicorn."""

import os
import signal
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType
from typing import Any, NoReturn

from asgi_errorkit.recorder import flush_all
from asgi_errorkit.stack import ErrorKit

__all__ = ["serve", "wrapped"]

# Workers and reloads start as new processes, and find there what they are to wrap.
_APP = "ASGI_ERRORKIT_APP"
_FACTORY = "ASGI_ERRORKIT_FACTORY"
_DEBUG = "ASGI_ERRORKIT_DEBUG"
_FAILED = "ASGI_ERRORKIT_FAILED"
_LOG_LEVEL = "ASGI_ERRORKIT_LOG_LEVEL"


def serve(arguments: Sequence[str]) -> int:
    """Serve ``MODULE:APP`` wrapped; all other options are uvicorn's."""
    try:
        import click  # noqa: PLC0415
        from uvicorn.main import main as uvicorn_command  # noqa: PLC0415
    except ImportError:
        print(
            "asgi-errorkit: serve needs uvicorn: pip install 'asgi-errorkit[serve]'",
            file=sys.stderr,
        )
        return 2
    options = [
        click.Option(
            ["--errorkit-debug"],
            is_flag=True,
            help="Answer errors with their traceback. Never in production.",
        ),
        click.Option(
            ["--errorkit-log-level"],
            type=click.Choice(["debug", "info", "warning", "error", "critical"]),
            default="info",
            show_default=True,
            help="The least level of the request log.",
        ),
    ]

    def run(
        app: str, factory: bool, errorkit_debug: bool, errorkit_log_level: str, **rest: Any
    ) -> None:
        check_target(app)
        os.environ[_APP] = app
        os.environ[_FACTORY] = "1" if factory else ""
        os.environ[_DEBUG] = "1" if errorkit_debug else ""
        os.environ[_LOG_LEVEL] = errorkit_log_level
        source = click.get_current_context().get_parameter_source("access_log")
        if source is click.core.ParameterSource.DEFAULT:
            rest["access_log"] = False  # every request is logged already, and more truthfully
        _flush_when_terminated()
        run_uvicorn: Any = uvicorn_command.callback
        with TemporaryDirectory(prefix="asgi-errorkit-") as folder:
            failed = Path(folder, "failed")
            os.environ[_FAILED] = str(failed)
            run_uvicorn(app=f"{__name__}:wrapped", factory=True, **rest)
            if failed.exists():  # uvicorn ends well although its workers could not start
                sys.exit(_STARTUP_FAILURE)

    command = click.Command(
        "serve",
        params=[*uvicorn_command.params, *options],
        callback=run,
        help="Wrap the ASGI app MODULE:APP with ErrorKit and serve it with uvicorn.",
    )
    try:
        outcome = command.main(
            list(arguments), prog_name="asgi-errorkit serve", standalone_mode=False
        )
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.Abort:
        return 1
    return int(outcome or 0)


def _flush_when_terminated() -> None:
    """Uvicorn ends by the signal that ended it, and then nothing runs at exit any more.

    An app with a lifespan has flushed by then, one without would lose its last lines.
    """

    def flush_and_leave(number: int, _: FrameType | None) -> None:
        flush_all()
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)

    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, flush_and_leave)


def check_target(target: str) -> None:
    """Raise click's usage error for what is no ``module:attribute``; nothing is imported yet."""
    import click  # noqa: PLC0415

    module, colon, attribute = target.partition(":")
    if not (colon and module and attribute):
        raise click.UsageError(f"{target!r} names no app: give MODULE:APP, such as mypkg.main:app")


def wrapped() -> ErrorKit:
    """The app that the environment names, wrapped; uvicorn calls this in every worker."""
    from uvicorn.importer import ImportFromStringError, import_from_string  # noqa: PLC0415

    target = os.environ[_APP]
    try:
        app = import_from_string(target)
        if os.environ.get(_FACTORY):
            app = app()
        return ErrorKit(
            app,
            debug=bool(os.environ.get(_DEBUG)),
            log_level=os.environ.get(_LOG_LEVEL, "info"),
        )
    except ImportFromStringError as error:
        problem = str(error)
    except TypeError as error:
        if not _is_ours(error):
            traceback.print_exc()  # uvicorn would tell its words alone
            _leave()
        makes = "factory" in str(error)
        problem = f"{target}: {'it makes an app and is none: add --factory' if makes else error}"
    return _refuse(problem)


_STARTUP_FAILURE = 3
"""What uvicorn's supervisor takes for a worker that need not be started again."""


def _refuse(problem: str) -> NoReturn:
    print(f"asgi-errorkit: {problem}", file=sys.stderr)
    _leave()


def _leave() -> NoReturn:
    """End this worker for good, and let the command know why it ends."""
    if os.environ.get(_FAILED):
        Path(os.environ[_FAILED]).touch()
    sys.exit(_STARTUP_FAILURE)


def _is_ours(error: BaseException) -> bool:
    """Whether an error was raised in this package: deeper down it is the app's own."""
    last = error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    name = "" if last is None else str(last.tb_frame.f_globals.get("__name__"))
    return name.partition(".")[0] == __name__.partition(".")[0]
