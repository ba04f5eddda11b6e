"""One raw ASGI app that does all that a server can be asked to carry: as `bare`, and `wrapped`."""

import json
import os
import sys
from urllib.parse import parse_qs

import anyio

from asgi_errorkit import ErrorKit, current

TEXT = (b"content-type", b"text/plain; charset=utf-8")
SCOPE_KEYS = (
    "asgi",
    "extensions",
    "http_version",
    "method",
    "path",
    "query_string",
    "raw_path",
    "root_path",
    "scheme",
    "state",
    "subprotocols",
    "type",
)

meetings = {}


async def bare(scope, receive, send):
    kind = scope["type"]
    if kind == "lifespan":
        await live(scope, receive, send)
        return
    routes, other = (ROUTES, missing) if kind == "http" else (SESSIONS, deny)
    path = scope["path"].removeprefix(scope.get("root_path", ""))
    await routes.get(path, other)(scope, receive, send)


async def live(scope, receive, send):
    """The lifespan; what reaches the app is told on standard error."""
    assert (await receive())["type"] == "lifespan.startup"
    scope["state"]["ready"] = True
    print("app: startup", file=sys.stderr, flush=True)
    await send({"type": "lifespan.startup.complete"})
    assert (await receive())["type"] == "lifespan.shutdown"
    print("app: shutdown", file=sys.stderr, flush=True)
    await send({"type": "lifespan.shutdown.complete"})


# What the routes are made of


def refusing(outcome, status):
    """Refuses what it is asked, and says why."""

    async def refuse(scope, receive, send):
        exchange = current()
        if exchange is not None:  # of the wrapped app
            exchange.end_as(outcome)
        await answer(send, b"not now", status)

    return refuse


async def cut(scope, receive, send):
    """Has no more time for the rest of its response."""
    await start(send)
    await piece(send, b"so far so good")
    exchange = current()
    if exchange is not None:
        exchange.end_as("timeout")
    raise TimeoutError


def asked(scope, name, default=None):
    values = parse_qs(scope["query_string"].decode()).get(name)
    return values[0] if values else default


async def start(send, status=200, headers=(TEXT,), **more):
    await send({"type": "http.response.start", "status": status, "headers": headers, **more})


async def piece(send, body, more_body=True):
    await send({"type": "http.response.body", "body": body, "more_body": more_body})


async def answer(send, body, status=200, headers=()):
    length = (b"content-length", b"%d" % len(body))
    await start(send, status, [TEXT, length, *headers])
    await send({"type": "http.response.body", "body": body})


async def body_of(receive):
    """Every piece of the request's body; ends early with None when the client has gone."""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            yield None
            return
        yield message.get("body", b"")
        if not message.get("more_body"):
            return


# Plain responses


async def plain(scope, receive, send):
    await answer(send, b"Hello, world")


async def missing(scope, receive, send):
    await answer(send, b"No such thing", status=404)


async def empty(scope, receive, send):
    await start(send, headers=[(b"content-length", b"0")])
    await send({"type": "http.response.body"})


async def no_content(scope, receive, send):
    await start(send, 204, headers=[(b"x-kind", b"no content")])
    await send({"type": "http.response.body", "body": b""})


async def not_modified(scope, receive, send):
    await start(send, 304, headers=[(b"etag", b'"abc"')])
    await send({"type": "http.response.body", "body": b"", "more_body": False})


async def bare_minimum(scope, receive, send):
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body"})


async def duplicates(scope, receive, send):
    headers = [
        (b"set-cookie", b"a=1"),
        (b"set-cookie", b"b=2; Path=/"),
        (b"server-timing", b"db;dur=53, app;dur=47.2"),
        (b"server-timing", b"cache;desc=hit"),
        (b"x-odd", b"caf\xe9"),
        (b"vary", b"accept"),
    ]
    await answer(send, b"twice", headers=headers)


async def generator(scope, receive, send):
    """Headers that can be read but once."""
    await start(send, headers=(pair for pair in (TEXT, (b"content-length", b"2"))))
    await send({"type": "http.response.body", "body": b"ok"})


async def own_id(scope, receive, send):
    await answer(send, b"mine", headers=[(b"x-request-id", b"the-apps-own")])


async def own_id_from_a_generator(scope, receive, send):
    names = ((b"x-request-id", b"the-apps-own"), (b"content-length", b"0"))
    await start(send, headers=(pair for pair in names))
    await send({"type": "http.response.body", "body": b""})


async def chunks(scope, receive, send):
    await start(send)
    for body in (b"first,", b"", b"second,", b"x" * 5000):
        await piece(send, body)
    await piece(send, b"", more_body=False)


async def large(scope, receive, send):
    await answer(send, bytes(range(256)) * 12_000)


async def redirect(scope, receive, send):
    await answer(send, b"", status=307, headers=[(b"location", b"/plain")])


# Extensions that a server may have; without them the response is a usual one


async def trailers(scope, receive, send):
    able = "http.response.trailers" in scope.get("extensions", {})
    await start(send, headers=[TEXT, (b"trailer", b"x-sum")], trailers=able)
    await piece(send, b"summed", more_body=True)
    await piece(send, b"", more_body=False)
    if able:
        await send({"type": "http.response.trailers", "headers": [(b"x-sum", b"abc")]})


async def hints(scope, receive, send):
    if "http.response.early_hint" in scope.get("extensions", {}):
        await send({"type": "http.response.early_hint", "links": [b"</style.css>; rel=preload"]})
    await answer(send, b"hinted")


async def push(scope, receive, send):
    if "http.response.push" in scope.get("extensions", {}):
        await send({"type": "http.response.push", "path": "/plain", "headers": []})
    await answer(send, b"pushed")


# Requests with a body


async def echo(scope, receive, send):
    body = b"".join([part async for part in body_of(receive) if part])
    await answer(send, body)


async def upload(scope, receive, send):
    """Counts the body; says nothing when the client leaves."""
    count = 0
    async for part in body_of(receive):
        if part is None:
            return
        count += len(part)
    await answer(send, b"%d" % count)


async def upload_strictly(scope, receive, send):
    async for part in body_of(receive):
        if part is None:
            raise ConnectionAbortedError("the client left in the middle of its upload")
    await answer(send, b"all of it")


async def refuse(scope, receive, send):
    """Answers before the body has been read."""
    await answer(send, b"too large", status=413, headers=[(b"connection", b"close")])


# Long responses


async def download(scope, receive, send):
    left = int(asked(scope, "bytes"))
    block = b"d" * 65536
    await start(send, headers=[(b"content-length", b"%d" % left)])
    while left > len(block):
        await piece(send, block)
        left -= len(block)
    await piece(send, block[:left], more_body=False)


async def forever(scope, receive, send):
    """Streams until it is told that the client has left."""

    async def watch():
        while (await receive())["type"] != "http.disconnect":
            pass
        group.cancel_scope.cancel()

    await start(send)
    async with anyio.create_task_group() as group:
        group.start_soon(watch)
        while True:
            await piece(send, b"tick" * 256)
            await anyio.sleep(0.001)


async def meet(scope, receive, send):
    """Answers when as many requests as it says have come to the same place."""
    await everybody_at(asked(scope, "place"), int(asked(scope, "n")))
    await answer(send, asked(scope, "name").encode())


async def meet_afterwards(scope, receive, send):
    """Answers, then works on until another request comes to the same place."""
    await answer(send, b"complete")
    await everybody_at(asked(scope, "place"), 2)


async def everybody_at(place, wanted):
    present, everybody = meetings.setdefault(place, ([], anyio.Event()))
    present.append(None)
    if len(present) == wanted:
        everybody.set()
    await everybody.wait()


# Failures


async def fail(scope, receive, send):
    raise RuntimeError("broken before the start")


async def fail_slowly(scope, receive, send):
    raise TimeoutError("the database took too long")


async def fail_in_task(scope, receive, send):
    async def broken():
        await anyio.sleep(0)
        raise LookupError("broken in a task")

    async with anyio.create_task_group() as group:
        group.start_soon(broken)


async def fail_after_body(scope, receive, send):
    """Reads the whole upload, then breaks."""
    async for _ in body_of(receive):
        pass
    raise RuntimeError("broken after the upload")


async def fail_late(scope, receive, send):
    await start(send)
    await piece(send, b"so far so good")
    raise RuntimeError("broken in the middle")


async def fail_late_sized(scope, receive, send):
    await start(send, headers=[TEXT, (b"content-length", b"1000")])
    await piece(send, b"so far so good")
    raise RuntimeError("broken in the middle")


async def fail_after(scope, receive, send):
    await answer(send, b"complete")
    raise RuntimeError("broken in the background")


async def unfinished(scope, receive, send):
    await start(send)
    await piece(send, b"and then nothing")


async def silent(scope, receive, send):
    return


async def start_twice(scope, receive, send):
    await start(send)
    await start(send)


async def body_first(scope, receive, send):
    await send({"type": "http.response.body", "body": b"no start"})


# What the tests ask about


async def tell_scope(scope, receive, send):
    told = {key: scope[key] for key in SCOPE_KEYS if key in scope}
    told["headers"] = [
        [name.decode("latin-1"), value.decode("latin-1")] for name, value in scope["headers"]
    ]
    await answer(send, json.dumps(told, default=repr, sort_keys=True).encode())


async def pid(scope, receive, send):
    await answer(send, b"%d" % os.getpid())


async def errors(scope, receive, send):
    """How many errors the kit has counted."""
    await answer(send, b"%d" % wrapped.get_error_stats()["total_errors"])


async def outcomes(scope, receive, send):
    """How many requests have ended in each way."""
    await answer(send, json.dumps(wrapped.get_performance_stats()["outcomes"]).encode())


ROUTES = {
    "/plain": plain,
    "/too-slow": refusing("timeout", 504),
    "/shed": refusing("shed", 503),
    "/circuit-open": refusing("circuit_open", 503),
    "/cut": cut,
    "/empty": empty,
    "/no-content": no_content,
    "/not-modified": not_modified,
    "/bare-minimum": bare_minimum,
    "/duplicates": duplicates,
    "/generator": generator,
    "/own-id": own_id,
    "/own-id-from-a-generator": own_id_from_a_generator,
    "/chunks": chunks,
    "/large": large,
    "/redirect": redirect,
    "/trailers": trailers,
    "/hints": hints,
    "/push": push,
    "/echo": echo,
    "/upload": upload,
    "/upload-strictly": upload_strictly,
    "/refuse": refuse,
    "/download": download,
    "/forever": forever,
    "/meet": meet,
    "/meet-afterwards": meet_afterwards,
    "/fail": fail,
    "/fail-slowly": fail_slowly,
    "/fail-in-task": fail_in_task,
    "/fail-after-body": fail_after_body,
    "/fail-late": fail_late,
    "/fail-late-sized": fail_late_sized,
    "/fail-after": fail_after,
    "/unfinished": unfinished,
    "/silent": silent,
    "/start-twice": start_twice,
    "/body-first": body_first,
    "/scope": tell_scope,
    "/pid": pid,
    "/errors": errors,
    "/outcomes": outcomes,
}


# Websocket sessions


async def accept(receive, send, **more):
    assert (await receive())["type"] == "websocket.connect"
    await send({"type": "websocket.accept", **more})


async def say(send, text):
    await send({"type": "websocket.send", "text": text})


async def ws_echo(scope, receive, send):
    await accept(receive, send, headers=[(b"x-kind", b"echo")])
    while (message := await receive())["type"] == "websocket.receive":
        if message.get("text") is not None:
            await say(send, message["text"])
        else:
            await send({"type": "websocket.send", "bytes": message["bytes"]})


async def ws_close(scope, receive, send):
    """Says one thing, then closes with the code and reason it was asked for."""
    await accept(receive, send)
    await say(send, "good bye")
    code = {"code": int(asked(scope, "code"))} if asked(scope, "code") else {}
    reason = {"reason": asked(scope, "reason")} if asked(scope, "reason") else {}
    await send({"type": "websocket.close", **code, **reason})


async def ws_subprotocol(scope, receive, send):
    await accept(receive, send, subprotocol=scope["subprotocols"][-1])
    await send({"type": "websocket.close"})


async def deny(scope, receive, send):
    assert (await receive())["type"] == "websocket.connect"
    await send({"type": "websocket.close", "code": 1008})


async def ws_deny_fully(scope, receive, send):
    """Denies with a response of its own."""
    assert (await receive())["type"] == "websocket.connect"
    headers = [TEXT, (b"content-length", b"13"), (b"www-authenticate", b"Bearer")]
    await send({"type": "websocket.http.response.start", "status": 401, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": b"who are you? "[:13]})


async def ws_fail(scope, receive, send):
    await accept(receive, send)
    await receive()
    raise RuntimeError("broken in a session")


async def ws_fail_early(scope, receive, send):
    await receive()
    raise RuntimeError("broken before the accept")


async def ws_leave(scope, receive, send):
    """Returns without a word after the first message."""
    await accept(receive, send)
    await receive()


SESSIONS = {
    "/echo": ws_echo,
    "/close": ws_close,
    "/subprotocol": ws_subprotocol,
    "/deny": deny,
    "/deny-fully": ws_deny_fully,
    "/fail": ws_fail,
    "/fail-early": ws_fail_early,
    "/leave": ws_leave,
}

wrapped = ErrorKit(bare)
