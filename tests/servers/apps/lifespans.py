"""Apps whose lifespan is out of the ordinary, each also wrapped."""

import served

from asgi_errorkit import ErrorKit, ErrorTracker
from asgi_errorkit.recorder import Recorder


async def without(scope, receive, send):
    """Knows of no lifespan."""
    assert scope["type"] != "lifespan"
    await served.bare(scope, receive, send)


async def failing(scope, receive, send):
    """Says that it cannot start."""
    assert scope["type"] == "lifespan"
    await receive()
    await send({"type": "lifespan.startup.failed", "message": "no database today"})


async def raising(scope, receive, send):
    """Breaks while it starts."""
    if scope["type"] != "lifespan":
        await served.bare(scope, receive, send)
        return
    await receive()
    raise RuntimeError("no configuration today")


async def failing_late(scope, receive, send):
    """Starts, serves, and says that it could not stop."""
    if scope["type"] != "lifespan":
        await served.bare(scope, receive, send)
        return
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await send({"type": "lifespan.shutdown.failed", "message": "still busy"})


wrapped_without = ErrorKit(without)
wrapped_failing = ErrorKit(failing)
wrapped_raising = ErrorKit(raising)
wrapped_failing_late = ErrorKit(failing_late)


def unhurried(app):
    """Wrapped by a kit that writes its log in batches, and else only when all ends."""
    return ErrorKit(app, tracker=ErrorTracker(recorder=Recorder(flush_seconds=3600)))


unhurried_served = unhurried(served.bare)
unhurried_without = unhurried(without)
unhurried_failing_late = unhurried(failing_late)
