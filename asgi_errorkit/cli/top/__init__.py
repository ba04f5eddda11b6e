"""`asgi-errorkit top`: how an app goes, in a terminal, from its record on disk or from its ops app."""

from asgi_errorkit.cli.top.command import top

__all__ = ["top"]
