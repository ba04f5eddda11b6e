"""Who may ask: closed by default, one token, known names, own pages, and nothing that proxies say."""

import hmac
import logging

import pytest

from asgi_errorkit import ErrorKit
from asgi_errorkit.ops import Ops
from asgi_errorkit.ops import access as access_module

from .asking import BEARER, HOST, JSON, MEANT, ORIGIN, TOKEN, Served, ask, is_of_ops

ROUTES = """/ /errors /errors/0123456789abcdef /errors/stats /performance/stats /breakers /alerts
/inflight /crashes /workers /status /events /openapi.json /health /health/ready /session
/unknown""".split()
CLOSED = [route for route in ROUTES if route != "/session"]
STATS = "/_errorkit/errors/stats"


@pytest.mark.parametrize("given", [None, f"Bearer {TOKEN}", "Bearer ", "Bearer None"])
async def test_without_a_token_there_is_nothing(given):
    """Not even for who guesses an empty one."""
    served = Served(token=None)
    headers = [("Authorization", given)] if given else []
    for route in ROUTES:
        reply = await served.ask(f"/_errorkit{route}", HOST, *headers)
        assert (reply.status, reply.headers["content-type"]) == (404, "application/problem+json")


@pytest.mark.parametrize(
    ("options", "is_told"),
    [({}, True), ({"token": TOKEN}, False), ({"public": ["/health/ready"]}, False)],
)
def test_who_has_forgotten_the_token_is_told(caplog, options, is_told):
    """As where the environment has none; who has chosen what is public knows."""
    Ops(**options).app(ErrorKit(nobody))
    told = [record.getMessage() for record in caplog.records if "no token" in record.getMessage()]
    assert told == ["ops: there is no token: nothing but /health/live is answered"] * is_told


async def nobody(scope, receive, send): ...


async def test_without_a_token_it_still_says_that_it_lives():
    reply = await Served(token=None).ask("/_errorkit/health/live", HOST)
    assert (reply.status, reply.json()["status"]) == (200, "alive")


@pytest.mark.parametrize("public", [(), ("/health/ready",)], ids=["none", "another"])
async def test_even_that_can_be_closed(public):
    assert (await Served(public=public).ask("/_errorkit/health/live", HOST)).status == 401


async def test_with_a_token_everything_needs_it():
    """What there is and what there is not look the same from outside."""
    served = Served()
    for route in CLOSED:
        reply = await served.ask(f"/_errorkit{route}", HOST)
        assert (reply.status, reply.headers["www-authenticate"][:6]) == (401, "Bearer")


PAGE = [("/", ("Accept", "text/html")), ("/assets/dom.js", ("Accept", "*/*"))]


@pytest.mark.parametrize(("route", "accept"), PAGE, ids=["page", "file"])
async def test_the_page_alone_needs_no_token_but_a_known_host(route, accept):
    """It holds no figures. Without a token to be asked for there is none either."""
    served = Served()
    assert (await served.ask(f"/_errorkit{route}", HOST, accept)).status == 200
    assert (await served.ask(f"/_errorkit{route}", ("Host", "evil.example"), accept)).status == 403
    other = ("Origin", "https://evil.example")
    assert (await served.ask(f"/_errorkit{route}", HOST, accept, other)).status == 403
    assert (await Served(token=None).ask(f"/_errorkit{route}", HOST, accept)).status == 404


async def test_asking_for_a_page_opens_nothing_else():
    served = Served()
    for route in (*CLOSED[1:], "/assets", "/assets/unknown"):
        reply = await served.ask(f"/_errorkit{route}", HOST, ("Accept", "text/html"))
        assert (reply.status, reply.headers["www-authenticate"][:6]) == (401, "Bearer")


WRONG = {
    "wrong": [("Authorization", "Bearer wrong")],
    "longer": [("Authorization", f"Bearer {TOKEN}x")],
    "shorter": [("Authorization", f"Bearer {TOKEN[:-1]}")],
    "empty": [("Authorization", "Bearer ")],
    "nothing": [("Authorization", "")],
    "bare": [("Authorization", TOKEN)],
    "basic": [("Authorization", f"Basic {TOKEN}")],
    "latin": [("Authorization", "Bearer \xfc\xff")],
    "twice": [BEARER, BEARER],
    "one of two": [BEARER, ("Authorization", "Bearer wrong")],
    "as a cookie": [("Cookie", f"asgi_errorkit_ops={TOKEN}")],
    "as a header": [("X-Token", TOKEN)],
}


@pytest.mark.parametrize("headers", WRONG.values(), ids=WRONG)
async def test_only_the_one_token_opens(headers):
    assert (await Served().ask(STATS, HOST, *headers)).status == 401


@pytest.mark.parametrize("query", [f"token={TOKEN}", f"access_token={TOKEN}"])
async def test_a_token_in_the_query_opens_nothing(query):
    """Queries lie in logs and histories."""
    assert (await Served().ask(STATS, HOST, query=query.encode())).status == 401


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
async def test_the_token_opens(scheme):
    reply = await Served().ask(STATS, HOST, ("Authorization", f"{scheme} {TOKEN}"))
    assert reply.status == 200


async def test_tokens_are_compared_in_constant_time(monkeypatch):
    """By hmac.compare_digest, whatever is given."""
    compared = []
    monkeypatch.setattr(
        access_module.hmac,
        "compare_digest",
        lambda *pair: compared.append(pair) or hmac._compare_digest(*pair),
    )
    await Served().ask(STATS, HOST, ("Authorization", "Bearer wrong"))
    assert compared == [(b"wrong", TOKEN.encode())]


# By which name


@pytest.mark.parametrize(
    "host",
    ["localhost", "localhost:8000", "LOCALHOST", "localhost.", "127.0.0.1:80", "[::1]:8000",
     "10.1.2.3:8000", "ops.example.com", "OPS.example.com:443"],
)  # fmt: skip
async def test_a_known_host_is_served(host):
    """Loopback by its names, the address that the server was reached at, and the names given."""
    served = Served(hosts=["ops.example.com"])
    reply = await served.ask(STATS, ("Host", host), BEARER, server=("10.1.2.3", 8000))
    assert reply.status == 200


STRANGE = {
    "rebound": [("Host", "evil.example:8000")],
    "another address": [("Host", "10.9.9.9")],
    "none": [],
    "empty": [("Host", "")],
    "two": [HOST, ("Host", "evil.example")],
    "the same twice": [HOST, HOST],
    "user": [("Host", "localhost@evil.example")],
    "beneath": [("Host", "localhost.evil.example")],
    "list": [("Host", "localhost, evil.example")],
    "slash": [("Host", "localhost/evil")],
    "port": [("Host", "localhost:evil")],
    "spaces": [("Host", " localhost")],
    "newline": [("Host", "localhost\n")],
    "long": [("Host", "a" * 5000)],
    "dot": [("Host", ".")],
    "forwarded host": [("Host", "evil.example"), ("X-Forwarded-Host", "localhost")],
    "forwarded": [("Host", "evil.example"), ("Forwarded", "host=localhost;for=127.0.0.1")],
    "forwarded for": [("Host", "evil.example"), ("X-Forwarded-For", "127.0.0.1")],
    "real ip": [("Host", "evil.example"), ("X-Real-IP", "127.0.0.1")],
}


@pytest.mark.parametrize("headers", STRANGE.values(), ids=STRANGE)
async def test_a_strange_host_is_refused_with_the_right_token(headers):
    """A name that somebody else has made point here: no header of a proxy makes up for it."""
    reply = await Served().ask(STATS, *headers, BEARER)
    assert (reply.status, "www-authenticate" in reply.headers) == (403, False)


async def test_on_a_unix_socket_its_path_is_no_name():
    served = Served()
    server = ("/run/ops.sock", None)
    assert (await served.ask(STATS, ("Host", "localhost"), BEARER, server=server)).status == 200
    assert (await served.ask(STATS, ("Host", "/run/ops.sock"), BEARER, server=server)).status == 403


async def test_probes_come_by_any_name():
    """Those of an orchestrator: what is public of the health needs no known Host."""
    served = Served(public=["/health/live", "/health/ready"])
    for route in ("live", "ready"):
        reply = await served.ask(f"/_errorkit/health/{route}", ("Host", "10.244.0.9:8000"))
        assert reply.status == 200


SMUGGLED = {
    "X-Forwarded-For": "127.0.0.1",
    "X-Forwarded-For ": "127.0.0.1",
    "Forwarded": 'for="[::1]"',
    "X-Real-IP": "127.0.0.1",
    "X-Client-IP": "127.0.0.1",
    "X-Forwarded-User": "admin",
    "X-Forwarded-Authorization": f"Bearer {TOKEN}",
    "X-Original-URL": "/_errorkit/errors/stats",
    "X-Rewrite-URL": "/_errorkit/errors/stats",
    "X-HTTP-Method-Override": "GET",
}


@pytest.mark.parametrize("name", SMUGGLED)
async def test_no_header_of_a_proxy_stands_for_the_token(name):
    """Nor does a loopback client: a proxy on the same host is one."""
    header = (name, SMUGGLED[name])
    client = ("127.0.0.1", 50000)
    assert (await Served().ask(STATS, HOST, header, client=client)).status == 401
    assert not is_of_ops(await Served().ask("/elsewhere", HOST, header))


# From which page


@pytest.mark.parametrize(
    "origin",
    ["https://evil.example", "null", "", "http://localhost", "http://localhost:8001",
     "http://localhost:8000.evil.example", "file://", "http://127.0.0.1:8000", "ftp://localhost:8000"],
)  # fmt: skip
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
async def test_pages_of_other_origins_are_refused(origin, method):
    """Also with the right token, and nothing in the answer lets them read it."""
    served = Served()
    reply = await served.ask(
        "/_errorkit/breakers", HOST, BEARER, JSON, ("Origin", origin), method=method
    )
    assert reply.status == 403
    assert not [name for name in reply.headers if name.startswith("access-control")]


async def test_a_preflight_grants_nothing():
    """A browser asks without the token."""
    reply = await Served().ask(
        "/_errorkit/breakers",
        HOST,
        ("Origin", "https://evil.example"),
        ("Access-Control-Request-Method", "POST"),
        ("Access-Control-Request-Headers", "authorization,x-errorkit-ops"),
        method="OPTIONS",
    )
    assert reply.status == 403
    assert not [name for name in reply.headers if name.startswith("access-control")]


@pytest.mark.parametrize("site", ["cross-site", "same-site", "odd"])
async def test_what_the_browser_calls_another_site_is_refused(site):
    """Of an image or a frame there is no Origin."""
    served = Served()
    headers = [HOST, BEARER, ("Sec-Fetch-Site", site)]
    for more in (
        [("Sec-Fetch-Mode", "no-cors"), ("Sec-Fetch-Dest", "image")],
        [("Sec-Fetch-Mode", "navigate"), ("Sec-Fetch-Dest", "iframe")],
        [],
    ):
        assert (await served.ask(STATS, *headers, *more)).status == 403


@pytest.mark.parametrize("site", ["same-origin", "none"])
async def test_own_pages_and_people_may_ask(site):
    reply = await Served().ask(STATS, HOST, BEARER, ORIGIN, ("Sec-Fetch-Site", site))
    assert reply.status == 200


async def test_a_link_from_elsewhere_may_be_followed():
    followed = [("Sec-Fetch-Mode", "navigate"), ("Sec-Fetch-Dest", "document")]
    headers = [HOST, BEARER, ("Sec-Fetch-Site", "cross-site"), *followed]
    assert (await Served().ask("/_errorkit/", *headers)).status == 200
    assert (await Served().ask("/_errorkit/session", *headers, method="POST")).status == 403


@pytest.mark.parametrize(
    ("scheme", "origin", "host", "status"),
    [
        ("http", "https://ops.example.com", "ops.example.com", 200),  # TLS ends before us
        ("https", "https://ops.example.com", "ops.example.com:443", 200),
        ("https", "http://ops.example.com", "ops.example.com", 403),
        ("http", "http://ops.example.com", "ops.example.com:80", 200),
        ("http", "http://[::1]:8000", "[::1]:8000", 200),
    ],
)
async def test_the_same_origin_has_the_same_port(scheme, origin, host, status):
    served = Served(hosts=["ops.example.com"])
    reply = await served.ask(STATS, ("Host", host), ("Origin", origin), BEARER, scheme=scheme)
    assert reply.status == status


# The cookie


async def taken(served, **more):
    """The cookie for the token, as a browser sends it back; and all of what it was set with."""
    reply = await served.ask("/_errorkit/session", HOST, BEARER, method="POST", **more)
    assert (reply.status, reply.body) == (204, b"")
    told = reply.headers["set-cookie"]
    return ("Cookie", told.partition(";")[0]), told


async def test_the_token_is_exchanged_for_a_cookie():
    """Which scripts cannot read, other sites do not cause to be sent, and other paths do not get."""
    served = Served()
    cookie, told = await taken(served)
    assert told.split("; ")[1:] == ["Max-Age=28800", "Path=/_errorkit", "HttpOnly",
                                    "SameSite=Strict"]  # fmt: skip
    assert TOKEN not in told
    assert (await served.ask(STATS, HOST, cookie)).status == 200


async def test_over_tls_the_cookie_is_for_tls():
    _, told = await taken(Served(), scheme="https")
    assert told.endswith("; Secure")


async def test_the_cookie_is_for_the_path_below_the_root_path():
    _, told = await taken(Served(), root_path="/api")
    assert "; Path=/api/_errorkit;" in told


async def test_a_root_path_from_a_client_writes_no_attributes():
    """daphne takes it from a header."""
    _, told = await taken(Served(), root_path="/;Domain=evil.example\r\nX: y")
    assert "; Path=/;" in told and "evil" not in told


async def test_a_cookie_takes_no_further_cookie():
    """So a session ends, whoever holds it."""
    served = Served()
    cookie, _ = await taken(served)
    reply = await served.ask("/_errorkit/session", HOST, cookie, ORIGIN, MEANT, method="POST")
    assert (reply.status, "set-cookie" in reply.headers) == (401, False)


async def test_a_cookie_has_its_time(monkeypatch):
    served = Served(session_seconds=60)
    now = [1_000_000.0]
    served.ops.access._wall_clock = lambda: now[0]
    served.app = served.ops.app(served.kit)
    served.app._answers._wall_clock = lambda: now[0]
    reply = await served.ask("/session", HOST, BEARER, method="POST")
    cookie = ("Cookie", reply.headers["set-cookie"].partition(";")[0])
    assert (await served.ask("/errors", HOST, cookie)).status == 200
    now[0] += 60
    assert (await served.ask("/errors", HOST, cookie)).status == 401


async def test_a_forged_cookie_is_none():
    """Each part of it is signed, by the token."""
    served, other = Served(), Served(token="another-token-of-sixteen")
    (_, value), _ = await taken(served)
    until = value.partition("=")[2].partition(".")[0]
    for forged in (
        value[:-1] + ("0" if value[-1] != "0" else "1"),
        value.replace(until, str(int(until) + 9)),
        value.partition(".")[0],
        "asgi_errorkit_ops=",
        "asgi_errorkit_ops=99999999999.",
        f"asgi_errorkit_ops=99999999999.{'0' * 64}",
        f"asgi_errorkit_ops={'9' * 5000}.{'0' * 64}",
        "asgi_errorkit_ops=\xff.\xfe",
    ):
        assert (await served.ask(STATS, HOST, ("Cookie", forged))).status == 401
    assert (await other.ask(STATS, HOST, ("Cookie", value))).status == 401


async def test_a_cookie_of_a_neighbour_does_not_hide_ours():
    served = Served()
    (_, value), _ = await taken(served)
    cookie = ("Cookie", f"a=b; asgi_errorkit_ops=tossed; {value}")
    assert (await served.ask(STATS, HOST, cookie)).status == 200


async def test_a_wrong_token_is_not_made_up_for_by_a_cookie():
    served = Served()
    cookie, _ = await taken(served)
    wrong = ("Authorization", "Bearer wrong")
    assert (await served.ask(STATS, HOST, cookie, wrong)).status == 401


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ([], 403),
        ([ORIGIN], 403),
        ([MEANT], 403),
        ([MEANT, ("Origin", "https://evil.example")], 403),
        ([MEANT, ("Origin", "null")], 403),
        ([MEANT, ORIGIN, ORIGIN], 403),
        ([MEANT, ORIGIN], 200),
    ],
    ids=["bare", "origin", "header", "evil", "null", "twice", "both"],
)
async def test_a_cookie_changes_something_from_own_pages_only(headers, status):
    """Cross-site request forgery: the browser sends the cookie, and cannot send the rest."""
    served = Served()
    breaker = served.kit.tracker.breaker("model:sdxl")
    cookie, _ = await taken(served)
    reply = await served.ask(
        "/_errorkit/breakers",
        HOST,
        cookie,
        JSON,
        *headers,
        method="POST",
        body=b'{"name": "model:sdxl", "action": "force_open"}',
    )
    assert (reply.status, breaker.is_open) == (status, status == 200)


async def test_the_session_can_be_ended():
    served = Served()
    cookie, _ = await taken(served)
    reply = await served.ask("/_errorkit/session", HOST, cookie, ORIGIN, MEANT, method="DELETE")
    assert reply.headers["set-cookie"].startswith("asgi_errorkit_ops=; Max-Age=0;")


async def test_who_asks_is_told_whether_he_is_signed_in():
    """And nothing else: so the page need not make a request that is refused."""
    served = Served()
    cookie, _ = await taken(served)
    for headers, is_in in (([], False), ([cookie], True), ([BEARER], True)):
        reply = await served.ask("/_errorkit/session", HOST, *headers)
        assert (reply.status, reply.json()) == (200, {"signed_in": is_in})
        assert ("set-cookie" in reply.headers, reply.headers["cache-control"]) == (
            False,
            "no-store",
        )
    forged = ("Cookie", f"asgi_errorkit_ops=99999999999.{'0' * 64}")
    assert (await served.ask("/_errorkit/session", HOST, forged)).json() == {"signed_in": False}
    head = await served.ask("/_errorkit/session", HOST, method="HEAD")
    assert (head.status, head.body) == (200, b"")


async def test_no_token_is_guessed_by_asking_whether_it_is_signed_in():
    """A wrong one is refused, and counted, as everywhere."""
    served = Served()
    for wrong in WRONG.values():
        if any(name == "Authorization" for name, _ in wrong):
            assert (await served.ask("/_errorkit/session", HOST, *wrong)).status == 401
    assert served.ops.access.refused == sum(
        "Authorization" in str(wrong) for wrong in WRONG.values()
    )


@pytest.mark.parametrize(
    "headers",
    [
        [("Host", "evil.example")],
        [HOST, ("Origin", "https://evil.example")],
        [HOST, ("Sec-Fetch-Site", "cross-site"), ("Sec-Fetch-Mode", "cors")],
    ],
    ids=["host", "origin", "site"],
)
async def test_other_pages_do_not_learn_whether_somebody_is_signed_in(headers):
    cookie, _ = await taken(Served())
    assert (await Served().ask("/_errorkit/session", cookie, *headers)).status == 403


async def test_without_a_token_there_is_nothing_to_be_signed_in_to():
    assert (await Served(token=None).ask("/_errorkit/session", HOST)).status == 404


# What else


@pytest.mark.parametrize("route", ["/", "/errors", "/unknown", "/health/live"])
async def test_every_answer_has_the_strict_headers(route):
    served = Served()
    for headers in ((HOST,), (HOST, BEARER), (("Host", "evil.example"), BEARER)):
        told = (await served.ask(f"/_errorkit{route}", *headers)).headers
        assert (told["cache-control"], told["x-content-type-options"]) == ("no-store", "nosniff")
        assert told["content-security-policy"].startswith("default-src 'none'")
        assert "unsafe" not in told["content-security-policy"]


async def test_who_is_refused_is_counted_and_told_of_once_a_minute(caplog):
    """A flood of guesses must not flood the log; it says how many there were."""
    served = Served()
    moment = served.clock
    alone = served.ops.app(served.kit)
    alone._clock = moment
    with caplog.at_level(logging.WARNING, "asgi_errorkit.ops"):
        for _ in range(50):
            await ask(alone, "/errors", HOST)
        moment.move(61)
        await ask(alone, "/errors", HOST)
    told = [record.getMessage() for record in caplog.records]
    assert told == ["ops: 1 refused, the last with 401", "ops: 50 refused, the last with 401"]
    index = await ask(alone, "/", HOST, BEARER)
    assert index.json()["requests_refused"] == 51


async def test_the_public_statistics_need_no_token_but_a_known_host():
    """What a page of a rebound name could read otherwise."""
    served = Served(token=None, public=["/errors/stats"])
    assert (await served.ask(STATS, HOST)).status == 200
    assert (await served.ask(STATS, ("Host", "evil.example"))).status == 403
    assert (await served.ask(STATS, HOST, method="POST")).status == 404


async def test_headers_that_can_be_read_once_are_read_once():
    """As a server may hand them on: what is wrong among them must not be passed over."""

    def headers(*pairs):
        return {"headers": ((name.lower().encode(), value.encode()) for name, value in pairs)}

    served = Served()
    assert (await served.ask(STATS, **headers(HOST, BEARER))).status == 200
    evil = ("Origin", "https://evil.example")
    assert (await served.ask(STATS, **headers(HOST, BEARER, evil))).status == 403
    assert (await served.ask(STATS, headers=None)).status == 403
