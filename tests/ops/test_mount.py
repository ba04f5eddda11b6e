"""Where it is mounted: what only resembles its path is the application's, and is never opened."""

import pytest

from asgi_errorkit.ops.mount import Mount, Place
from asgi_errorkit.testing import http_scope, request, session

from .asking import BEARER, HOST, Served, ask, is_of_app, is_of_ops

OF_THE_APP = """
/ /errors /errors/stats /health /_errorki /_errorkitten /_errorkitten/errors /x/_errorkit
/x/_errorkit/errors/stats
//_errorkit //_errorkit/errors/stats ///_errorkit/errors/stats /./_errorkit/errors/stats
/x/../_errorkit/errors/stats /_errorkit//errors/stats /_errorkit/errors//stats
/_errorkit/../x /_errorkit/.. /_errorkit/./errors /_errorkit/errors/../stats /_errorkit/.env
/_ERRORKIT/errors/stats /_Errorkit /_errorkit;x/errors /_errorkit\\errors
_errorkit/errors/stats /_errorkit/errors/st\x00ats /_errorkit/ſtats
/_errorkit/errors/*/x /_errorkit/errors?x
""".strip("\n").split()


ODD = [
    "",
    "/_errorkit /errors",
    "/_errorkit/errors/stats\n",
    "/_errorkit\n",
    "/_errorkit/" + 600 * "a",
]


@pytest.mark.parametrize("path", [*OF_THE_APP, *ODD])
async def test_what_is_not_its_path_is_the_apps(path):
    """The application answers it as ever, also to who has the token."""
    served = Served()
    reply = await served.ask(path, HOST, BEARER, raw_path=path.encode("utf-8", "surrogatepass"))
    assert is_of_app(reply) and not is_of_ops(reply)


ENCODED = {
    "/_errorkit/errors/stats": [
        b"/%5ferrorkit/errors/stats",
        b"/_errorkit%2ferrors/stats",
        b"/_errorkit%2Ferrors%2Fstats",
        b"/_errorkit/errors/%73tats",
        b"/%5Ferrorki%74/errors/stats",
    ],
    "/_errorkit": [b"/_errorki%74", b"%2f_errorkit"],
    "/_errorkit/": [b"/_errorkit%2f"],
    "/_errorkit/../x": [b"/_errorkit/%2e%2e/x", b"/_errorkit/..%2fx"],
    "/_errorkit/%2e%2e/x": [b"/_errorkit/%252e%252e/x"],
    "//_errorkit": [b"/%2f_errorkit", b"%2f%2f_errorkit"],
}


@pytest.mark.parametrize(
    ("path", "raw"), [(path, raw) for path, every in ENCODED.items() for raw in every]
)
async def test_what_has_to_be_decoded_is_the_apps(path, raw):
    """A proxy that guards the path may have seen another one."""
    reply = await Served().ask(path, HOST, BEARER, raw_path=raw)
    assert is_of_app(reply)


@pytest.mark.parametrize("path", ["/_errorkit", "/_errorkit/", "/_errorkit/errors", "/_errorkit/x"])
async def test_what_is_its_path_never_reaches_the_app(path):
    """Whoever asks: refused, unknown and known alike; and the app's log hears nothing of it."""
    served = Served()
    for headers in ((HOST,), (HOST, BEARER), ()):
        assert is_of_ops(await served.ask(path, *headers))
    served.kit.flush()
    assert served.log.lines() == []
    assert served.kit.get_error_stats()["total_requests"] == 0


@pytest.mark.parametrize(
    ("root", "path", "route"),
    [
        ("", "/_errorkit/errors", "/errors"),
        ("/api", "/api/_errorkit/errors", "/errors"),  # as the specification has it
        ("/api/", "/api/_errorkit/errors", "/errors"),
        ("/api", "/_errorkit/errors", "/errors"),  # as hypercorn has it
        ("/api", "/api/_errorkit", "/"),
        ("/api", "/apix/_errorkit", None),
        ("/api", "/API/_errorkit", None),
        ("/api", "/api/api/_errorkit", None),
        ("/api", "/api//_errorkit", None),
        ("/_errorkit", "/_errorkit", None),  # the app's own root
        ("/_errorkit", "/_errorkit/errors", None),
        ("/_errorkit", "/_errorkit/_errorkit/errors", "/errors"),
        ("/x/_errorkit", "/x/_errorkit/errors", None),
    ],
)
def test_the_root_path_is_the_servers(root, path, route):
    """It is taken away first: an app that stands at a path like ours keeps all of its own."""
    place = Mount("/_errorkit", ()).find(http_scope(path=path, root_path=root))
    assert (place and place.route) == route


@pytest.mark.parametrize("path", ["/_errorkit/errors", "/api/_errorkit/errors"])
def test_its_cookies_are_for_where_it_stands(path):
    """With the root path before it, whether the server hands that on in the path or not."""
    place = Mount("/_errorkit", ()).find(http_scope(path=path, root_path="/api"))
    assert place == Place("/errors", "/api/_errorkit")


async def test_it_is_mounted_elsewhere_by_choice():
    served = Served(path="/internal/ops")
    assert is_of_ops(await served.ask("/internal/ops/errors", HOST, BEARER))
    assert is_of_app(await served.ask("/_errorkit/errors", HOST, BEARER))
    assert is_of_app(await served.ask("/internal", HOST, BEARER))


BARE = ("/health", "/errors/stats", "/performance/stats")


async def test_the_paths_of_the_guide_can_be_served_at_the_root():
    """By choice, each for itself, and no more public for it."""
    served = Served(bare=BARE, public=["/health"])
    assert (await served.ask("/health", HOST)).json()["status"] == "healthy"
    for path in BARE[1:]:
        assert (await served.ask(path, HOST)).status == 401
        assert (await served.ask(path, HOST, BEARER)).status == 200
    for path in ("/health/", "//health", "/health/live", "/errors", "/HEALTH", "/api/health"):
        assert is_of_app(await served.ask(path, HOST, BEARER))
    assert is_of_app(await served.ask("/health", HOST, raw_path=b"/healt%68"))
    assert is_of_ops(await served.ask("/api/health", HOST, root_path="/api"))


async def test_the_guides_client_reads_them():
    """With all three bare and public it answers as the guide's own routes."""
    served = Served(bare=BARE, public=BARE)
    await served.ask("/boom", HOST)
    assert set((await served.ask("/health", HOST)).json()) >= {"status", "timestamp"}
    assert (await served.ask("/errors/stats", HOST)).json()["total_errors"] == 1


async def test_websockets_and_the_lifespan_are_the_apps():
    seen = []

    async def noting(scope, receive, send):
        seen.append((scope.get("type"), scope.get("path")))
        return "returned"

    served = Served(noting)
    reply = await session(served.app, "/_errorkit/events")
    assert reply.returned == "returned"
    await served.app({"type": "lifespan"}, None, None)
    await served.app({}, None, None)
    assert seen == [("websocket", "/_errorkit/events"), ("lifespan", None), (None, None)]


async def test_what_the_app_returns_and_raises_comes_through():
    async def failing(scope, receive, send):
        raise KeyboardInterrupt

    async def returning(scope, receive, send):
        return 7

    assert (await request(Served(returning).app)).returned == 7
    assert isinstance((await request(Served(failing).app)).raised, KeyboardInterrupt)


# Apart


async def test_apart_it_stands_at_the_root():
    served = Served()
    alone = served.ops.app(served.kit)
    assert (await ask(alone, "/errors/stats", HOST, BEARER)).status == 200
    assert (await ask(alone, "/api/errors/stats", HOST, BEARER, root_path="/api")).status == 200
    for path in ("/_errorkit/errors/stats", "//errors", "/errors/../errors", ""):
        reply = await ask(alone, path, HOST, BEARER)
        assert reply.status == (200 if path == "" else 404)
        assert (await ask(alone, path, HOST)).status == 401
    assert (await ask(alone, "/errors", HOST, BEARER, raw_path=b"/%65rrors")).status == 404


async def test_apart_it_lives_as_an_app_does():
    """It completes its lifespan, and takes no websocket."""
    served = Served()
    alone = served.ops.app(served.kit)
    events, sent = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}], []

    async def receive():
        return events.pop(0)

    async def send(message):
        sent.append(message["type"])

    await alone({"type": "lifespan"}, receive, send)
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    reply = await session(alone, "/events")
    assert [m["type"] for m in reply.messages] == ["websocket.close"]
