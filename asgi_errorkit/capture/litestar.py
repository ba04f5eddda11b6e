"""Litestar calls ``after_exception`` for every exception it answers, its HTTP exceptions too."""

from typing import Any

from litestar.exceptions import HTTPException

from asgi_errorkit.failure import swallowed

__all__ = ["install"]


def install(app: Any) -> None:
    """Add a hook behind those of the application."""
    app.after_exception.append(_note)


async def _note(exc: Exception, scope: Any) -> None:
    # What means a status has said what is to be answered; all else became a 500.
    handled = isinstance(exc, HTTPException) and exc.status_code < 500
    swallowed(exc, scope, by="litestar", handled=handled)
