"""`asgi-errorkit ops`: the ops app over the record of an app, whether that runs or not."""

import argparse
import os
import secrets
import socket
import sys
from collections.abc import Sequence
from contextlib import closing
from ipaddress import ip_address
from typing import TYPE_CHECKING

from asgi_errorkit.cli.top.source import opened, token_of
from asgi_errorkit.cli.words import MESSAGE_LIMIT, shown
from asgi_errorkit.ops import Ops

if TYPE_CHECKING:
    from asgi_errorkit.types import ASGIApp

__all__ = ["ops"]

_VARIABLE = "ASGI_ERRORKIT_DIR"
_MOST_PORT = 65_535


def ops(arguments: Sequence[str]) -> int:
    """Serve the ops app until somebody ends it; return 0, or 2 when that cannot be."""
    asked = _asked(arguments)
    try:
        import uvicorn  # noqa: F401, PLC0415  needs an extra
    except ImportError:
        return _refuse("ops needs uvicorn: pip install 'asgi-errorkit[serve]'")
    try:
        given = token_of(asked.token_file)
        token = given or _made_for(asked.host)
        host = opened(_directory(asked))
        with closing(host.directory), closing(_bound(asked.host, asked.port)) as bound:
            app = Ops(token=token, hosts=_names(asked.host)).app(host)
            _tell(bound, None if given else token)
            _serve(app, bound)
    except (OSError, ValueError) as error:
        return _refuse(str(error))
    return 0


def _asked(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "asgi-errorkit ops",
        description="Serve the ops app over the record of an app, whether that runs or not. "
        "Nothing is changed by reading.",
    )
    parser.add_argument(
        "directory",
        nargs="?",
        metavar="DIRECTORY",
        help=f"where the workers keep their record (default: ${_VARIABLE}), or the MODULE:APP that "
        "`asgi-errorkit serve` serves from here",
    )
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen at (127.0.0.1)")
    parser.add_argument("--port", type=_port, default=8765, help="the port (8765; 0: any)")
    parser.add_argument(
        "--token-file",
        metavar="FILE",
        help="where the token stands that lets in (default: that of $ASGI_ERRORKIT_TOKEN; at "
        "loopback, one is made if there is none)",
    )
    return parser.parse_args(list(arguments))


def _port(text: str) -> int:
    given = int(text)
    if not 0 <= given <= _MOST_PORT:
        raise argparse.ArgumentTypeError(f"must be from 0 to {_MOST_PORT}, e.g. 8765; got {text}")
    return given


def _directory(asked: argparse.Namespace) -> str:
    named: str | None = asked.directory if asked.directory is not None else _of_environment()
    if named is None:
        raise ValueError(f"ops needs the directory of the app: name it, or set {_VARIABLE}")
    return named


def _of_environment() -> str | None:
    return os.environ.get(_VARIABLE) or None


def _made_for(host: str) -> str:
    """A token that nobody has to choose, where nobody else can listen. Raises ValueError elsewhere."""
    if not _is_loopback(host):
        raise ValueError(
            f"a token is needed to listen at {host}: give --token-file, or set ASGI_ERRORKIT_TOKEN"
        )
    return secrets.token_urlsafe(32)


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _names(host: str) -> list[str]:
    """What the Host header may say beside the address: the name that was given, if it is one."""
    try:
        ip_address(host)
    except ValueError:
        return [host]
    return []


def _bound(host: str, port: int) -> socket.socket:
    """A socket that listens there. Raises OSError or ValueError where that cannot be."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, _, _, _, address = found[0]
        return socket.create_server(address[:2], family=family)
    except (OSError, UnicodeError) as error:
        raise ValueError(f"cannot listen at {host}, port {port}: {error}") from error


def _tell(bound: socket.socket, made: str | None) -> None:
    address, port = bound.getsockname()[:2]
    where = f"[{address}]" if ":" in address else address
    print(f"the ops app is at http://{where}:{port}/", flush=True)
    if made is not None:
        print(f"its token, made for this run: {made}", flush=True)
    print("Ctrl-C ends it", flush=True)


def _serve(app: "ASGIApp", bound: socket.socket) -> None:
    import uvicorn  # noqa: PLC0415  needs an extra

    config = uvicorn.Config(app, lifespan="off", access_log=False, log_level="warning")
    try:
        uvicorn.Server(config).run(sockets=[bound])
    except KeyboardInterrupt:  # uvicorn has ended in order, and says so
        return


def _refuse(problem: str) -> int:
    print(f"asgi-errorkit: {shown(problem, MESSAGE_LIMIT)}", file=sys.stderr)
    return 2
