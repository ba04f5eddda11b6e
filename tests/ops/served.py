"""What the servers of these tests load: a kit with the ops app, mounted or apart."""

from asgi_errorkit import ErrorKit
from asgi_errorkit.ops import Ops

TOKEN = "t0ken-of-the-tests-and-nobody-else"


async def _app(scope, receive, send):
    if scope["type"] == "lifespan":
        while (await receive())["type"] == "lifespan.startup":
            await send({"type": "lifespan.startup.complete"})
        await send({"type": "lifespan.shutdown.complete"})
        return
    body = scope["path"].encode()
    headers = [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


_kit = ErrorKit(_app)
_ops = Ops(token=TOKEN, hosts=["test"])

mounted = _ops.around(_kit, _kit)
alone = _ops.app(_kit)
