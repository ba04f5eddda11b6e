"""The command `asgi-errorkit`."""

import sys
from collections.abc import Callable, Sequence

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

asgi-errorkit COMMAND --help tells more.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit status: 0, or 2 for arguments that make no sense."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    command, rest = (given[0], given[1:]) if given else ("", [])
    if command == "serve":
        from asgi_errorkit.cli.serve import serve  # noqa: PLC0415  needs an extra

        return serve(rest)
    if command == "demo":
        from asgi_errorkit.cli.demo import demo  # noqa: PLC0415  needs an extra

        return demo(rest)
    if command in ("crashes", "errors", "inflight", "stats"):
        from asgi_errorkit.cli import record  # noqa: PLC0415  others need not wait for it

        run: Callable[[Sequence[str]], int] = getattr(record, command)
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
