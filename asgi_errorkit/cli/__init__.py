"""The command `asgi-errorkit`."""

import sys
from collections.abc import Callable, Sequence
from importlib import import_module

__all__ = ["main"]

_USAGE = """\
usage: asgi-errorkit COMMAND ...

commands:
  serve MODULE:APP   wrap an app with ErrorKit and serve it with uvicorn, whose options it takes
  demo               serve a demo app, send it traffic, and print what the kit saw
  crashes [DIR]      tell which workers have died, and which requests they were at
  inflight [DIR]     tell which requests the workers are at, the oldest first
  stats [DIR]        tell how requests have ended at all workers, ever and lately
  errors [DIR] [ID]  tell which errors all workers have had, or all there is to know of one
  top [DIR|URL]      show how an app goes, live, in this terminal
  ops [DIR]          serve the ops app over the record of an app, also of one that is gone
  alerts test        show a test alert as it would be sent, or send it

asgi-errorkit COMMAND --help tells more.
"""

_MODULES = {
    "alerts": "alerts",
    "crashes": "record",
    "demo": "demo",
    "errors": "record",
    "inflight": "record",
    "ops": "ops",
    "serve": "serve",
    "stats": "record",
    "top": "top",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit status: 0, or 2 for arguments that make no sense."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    command, rest = (given[0], given[1:]) if given else ("", [])
    run = _command(command)
    if run is not None:
        return run(rest)
    if command in ("-h", "--help"):
        print(_USAGE, end="")
        return 0
    if command == "--version":
        from asgi_errorkit import __version__  # noqa: PLC0415

        print(f"asgi-errorkit {__version__}")
        return 0
    print(
        f"asgi-errorkit: unknown command {command!r}\n\n{_USAGE}" if command else _USAGE,
        end="",
        file=sys.stderr,
    )
    return 2


def _command(name: str) -> Callable[[Sequence[str]], int] | None:
    """Each loads what it needs, which others need not wait for; some need an extra."""
    run: Callable[[Sequence[str]], int] | None = None
    if name in _MODULES:
        module = import_module(f"asgi_errorkit.cli.{_MODULES[name]}")
        run = getattr(module, name)
    return run
