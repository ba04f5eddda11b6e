"""`asgi-errorkit serve`: wrap anybody's app without touching its code, and serve it by uvicorn."""

import inspect
import json
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from copy import copy
from pathlib import Path
from secrets import token_hex
from tempfile import gettempdir
from types import FrameType
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from asgi_errorkit.middleware.error_handling import ErrorHandlingMiddleware
from asgi_errorkit.middleware.structured_logging import StructuredLoggingMiddleware
from asgi_errorkit.pretty import PrettyLines
from asgi_errorkit.recorder import flush_all
from asgi_errorkit.stack import ErrorKit, MiddlewareStack

if TYPE_CHECKING:
    import click

__all__ = ["serve", "wrapped"]

_SERVED = "ASGI_ERRORKIT_SERVED"
_DIRECTORY = "ASGI_ERRORKIT_DIR"
_STARTUP_FAILURE = 3
"""What uvicorn's supervisor takes for a worker that need not be started again."""


class _Served(NamedTuple):
    """What is served and how, as the environment hands it to workers and reloads.

    They start as new processes. Those that cannot start make the file ``failed``.
    """

    app: str
    factory: bool
    debug: bool
    log_level: str
    pretty: bool
    failed: str


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
    command = click.Command(
        "serve",
        # With it, uvicorn's options take uvicorn's environment variables.
        context_settings=uvicorn_command.context_settings,
        params=[*map(_adapted, uvicorn_command.params), *_own_options()],
        callback=_run,
        help="Wrap the ASGI app MODULE:APP with ErrorKit and serve it with uvicorn.",
    )
    try:
        outcome = command.main(
            list(arguments), prog_name="asgi-errorkit serve", standalone_mode=False
        )
    except click.ClickException as error:
        told = f"{error.format_message()} ('asgi-errorkit serve --help' tells more)"
        print(f"asgi-errorkit: {told}", file=sys.stderr)
        return error.exit_code
    except click.Abort:
        return 1
    return int(outcome or 0)


def _adapted(option: "click.Parameter") -> "click.Parameter":
    """An option of uvicorn's, but the port has to be one, and the access log is off."""
    import click  # noqa: PLC0415

    option = copy(option)  # uvicorn's own command stays as it is
    if option.name == "port":
        option.type = click.IntRange(0, 65535)
    if isinstance(option, click.Option) and option.name == "access_log":
        option.default = False
        option.help = "Enable/Disable access log. Off by default: the kit logs every request."
    return option


def _own_options() -> "list[click.Parameter]":
    import click  # noqa: PLC0415

    return [
        click.Option(
            ["--errorkit-debug"],
            is_flag=True,
            envvar="ASGI_ERRORKIT_DEBUG",
            allow_from_autoenv=False,
            show_envvar=True,
            help="Answer errors with their traceback. Never in production.",
        ),
        click.Option(
            ["--errorkit-log-level"],
            type=click.Choice(
                ["debug", "info", "warning", "error", "critical"], case_sensitive=False
            ),
            default="info",
            show_default=True,
            envvar="ASGI_ERRORKIT_LOG_LEVEL",
            allow_from_autoenv=False,
            show_envvar=True,
            help="The least level of the request log.",
        ),
        click.Option(
            ["--pretty"],
            is_flag=True,
            help="Log for people, one readable line per request, in place of JSON.",
        ),
    ]


def _run(
    app: str,
    factory: bool,
    errorkit_debug: bool,
    errorkit_log_level: str,
    pretty: bool,
    **rest: Any,
) -> None:
    from uvicorn.main import main as uvicorn_command  # noqa: PLC0415

    check_target(app)
    if errorkit_debug:
        print(
            "asgi-errorkit: warning: error answers show tracebacks; never in production",
            file=sys.stderr,
            flush=True,
        )
    # Nobody can guess the name, so it is only made when there is something to tell.
    failed = Path(gettempdir(), f"asgi-errorkit-{token_hex(16)}")
    served = _Served(app, factory, errorkit_debug, errorkit_log_level, pretty, str(failed))
    os.environ[_SERVED] = json.dumps(served)
    _keep_record(app)
    _flush_when_terminated()
    run_uvicorn: Any = uvicorn_command.callback
    try:
        run_uvicorn(app=f"{__name__}:wrapped", factory=True, **rest)
        if failed.exists():  # uvicorn ends well although its workers could not start
            sys.exit(_STARTUP_FAILURE)
    finally:
        failed.unlink(missing_ok=True)


def _keep_record(app: str) -> None:
    """Choose where the workers keep their record, unless the environment says."""
    if os.environ.get(_DIRECTORY):
        return
    from asgi_errorkit.spool.directory import SpoolError, served_directory  # noqa: PLC0415

    try:
        os.environ[_DIRECTORY] = str(served_directory(app))
    except (SpoolError, OSError):  # then each worker answers for itself alone
        return


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
    if module.endswith(".py"):
        dots = ", and write dots for slashes" if "/" in module else ""
        raise click.UsageError(f"{target!r} names a file, not a module: drop '.py'{dots}")


def wrapped() -> ErrorKit:
    """The app that the environment names, wrapped; uvicorn calls this in every worker."""
    from uvicorn.importer import ImportFromStringError, import_from_string  # noqa: PLC0415

    served = _served()
    try:
        app = import_from_string(served.app)
        if served.factory:
            app = _made_by(app, served.app)
        return _kit(app, served)
    except ImportFromStringError as error:
        problem = str(error)
    except TypeError as error:
        if not _is_ours(error):
            traceback.print_exc()  # uvicorn would tell its words alone
            _leave()
        makes = "factory" in str(error)
        problem = (
            f"{served.app}: {'it makes an app and is none: add --factory' if makes else error}"
        )
    return _refuse(problem)


def _kit(app: Any, served: _Served) -> ErrorKit:
    if not served.pretty:
        return ErrorKit(app, debug=served.debug, log_level=served.log_level)
    stack = MiddlewareStack()
    stack.add_middleware(
        StructuredLoggingMiddleware, log_level=served.log_level, stream=PrettyLines()
    )
    stack.add_middleware(ErrorHandlingMiddleware, debug=served.debug)
    return ErrorKit(app, stack=stack)


def _made_by(factory: Any, name: str) -> Any:
    """What a factory makes; an app that was taken for one is refused."""
    if _is_app(factory):
        _refuse(f"{name}: it is an app and makes none: leave --factory out")
    return factory()


def _is_app(found: Any) -> bool:
    """Whether it cannot do without what a server gives to an app, and to no factory."""
    try:
        parameters = inspect.signature(found).parameters.values()
    except (TypeError, ValueError):
        return False
    by_place = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    needed = [p.name for p in by_place if p.default is p.empty]
    return len(needed) == 3 or needed == ["scope"]


def _served() -> _Served:
    return _Served(*json.loads(os.environ[_SERVED]))


def _refuse(problem: str) -> NoReturn:
    print(f"asgi-errorkit: {problem}", file=sys.stderr)
    _leave()


def _leave() -> NoReturn:
    """End this worker for good, and let the command know why it ends."""
    Path(_served().failed).touch()
    sys.exit(_STARTUP_FAILURE)


def _is_ours(error: BaseException) -> bool:
    """Whether an error was raised in this package: deeper down it is the app's own."""
    last = error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    name = "" if last is None else str(last.tb_frame.f_globals.get("__name__"))
    return name.partition(".")[0] == __name__.partition(".")[0]
