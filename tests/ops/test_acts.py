"""What is changed by hand: by whom, with which words, and that nothing else comes of them."""

import asyncio
import json
import logging
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asgi_errorkit.alerts import Alerts, Silence, Timing
from asgi_errorkit.ops import Ops
from asgi_errorkit.ops.acts import ACTS, acting_of
from asgi_errorkit.ops.endpoints import GROUP
from asgi_errorkit.ops.of_kit import OfKit
from asgi_errorkit.spool import leader as leader_module
from asgi_errorkit.spool.host import Host

from .asking import BEARER, HOST, JSON, MEANT, ORIGIN, TOKEN, Served, ask

SILENCE = {"action": "silence", "what": "MODEL_*", "seconds": 3600, "why": "new weights"}
UNSILENCE = {"action": "unsilence", "what": "MODEL_*"}
AT_ONCE = Timing(wait_seconds=0)


@pytest.fixture(autouse=True)
def _nobody_leads():
    leader_module._LEADING.clear()
    yield
    leader_module._LEADING.clear()


def alerting(**options):
    """A kit with alerts that come at once, in the inbox."""
    inbox = []
    served = Served(alerts=Alerts(to=[inbox.append], timing=AT_ONCE), **options)
    served.inbox = inbox
    return served


@pytest.fixture(params=["process", "host"])
def served(request, tmp_path):
    """One that answers for itself, and one that does for its host."""
    return alerting(directory=tmp_path / "record" if request.param == "host" else None)


async def silences(served):
    return (await served.read("/alerts"))["silences"]


async def fail(served, times=1):
    for _ in range(times):
        await served.ask("/boom", HOST)


def look(served, seconds=10):
    """Time goes by, the rules are asked, and channels have been waited for."""
    served.clock.move(seconds)
    served.kit.alerts.evaluate()
    for courier in served.kit.alerts._teller.couriers:
        assert courier.wait(15)


async def only_group(served):
    [group] = (await served.read("/errors"))["groups"]
    return group["fingerprint"]


# Silencing


async def test_a_silence_is_begun_and_ended(served):
    """At once, with until when and why."""
    reply = await served.change("/alerts", SILENCE)
    until = served.clock.at + 3600
    assert reply.json() == {"what": "MODEL_*", "until": until, "why": "new weights"}
    assert await silences(served) == [{"what": "MODEL_*", "until": until, "why": "new weights"}]
    reply = await served.change("/alerts", UNSILENCE)
    assert (reply.status, reply.json()) == (200, {"what": "MODEL_*", "until": None})
    assert await silences(served) == []


async def test_what_is_silenced_is_not_told_and_says_so(served):
    await served.change("/alerts", {"action": "silence", "what": "NEW_*", "seconds": 60})
    await fail(served)
    look(served)
    assert [notice["type"] for notice in served.inbox] == []
    recent = (await served.read("/alerts"))["recent_alerts"]
    assert [(entry["type"], entry["muted"]) for entry in recent] == [("NEW_ERROR", "silenced")]


async def test_what_goes_on_says_whether_it_is_muted(served):
    served.kit.tracker.breaker("model:sdxl").force_open()
    look(served)
    [firing] = (await served.read("/alerts"))["firing"]
    assert (firing["type"], firing["muted"]) == ("CIRCUIT_BREAKER_TRIGGERED", None)
    await served.change("/alerts", {**SILENCE, "what": firing["key"]})
    look(served)
    [firing] = (await served.read("/alerts"))["firing"]
    assert firing["muted"] == "silenced"


async def test_a_silence_that_is_over_is_not_listed(served):
    await served.change("/alerts", {**SILENCE, "seconds": 5})
    assert len(await silences(served)) == 1
    served.clock.move(5)
    assert await silences(served) == []


async def test_the_worker_that_alerts_heeds_what_another_was_asked(tmp_path):
    """And each of them lists it."""
    one = alerting(directory=tmp_path / "record")
    look(one, 1)
    other = alerting(directory=tmp_path / "record", clock=one.clock)
    other.kit.alerts._teller.leads = lambda: False
    assert (await other.change("/alerts", SILENCE)).status == 200
    look(one, 1)
    for each in (one, other):
        assert [told["what"] for told in await silences(each)] == ["MODEL_*"]
    await other.change("/alerts", UNSILENCE)
    look(one, 1)
    for each in (one, other):
        assert await silences(each) == []


async def test_the_log_says_who_has_silenced_what(served, caplog):
    """What looks like other letters is told apart."""
    with caplog.at_level(logging.WARNING, "asgi_errorkit.ops"):
        await served.change("/alerts", SILENCE)
        await served.change("/alerts", UNSILENCE)
        await served.change("/alerts", {**SILENCE, "what": "MODEL_\N{CYRILLIC CAPITAL LETTER A}"})
    told = [each.getMessage() for each in caplog.records if each.name == "asgi_errorkit.ops"]
    assert told == [
        "silence for 3600 s ('new weights') of 'MODEL_*', asked for by '127.0.0.1'",
        "unsilence of 'MODEL_*', asked for by '127.0.0.1'",
        "silence for 3600 s ('new weights') of 'MODEL_\\u0410', asked for by '127.0.0.1'",
    ]


# Resolving


async def test_a_resolved_error_that_comes_again_is_an_alert_at_once(served):
    """And not before it has come again; it is told since when it is resolved, until then."""
    await fail(served)
    look(served)
    group = await only_group(served)
    reply = await served.change(f"/errors/{group}", {"action": "resolve"})
    assert reply.json() == {"fingerprint": group, "resolved_at": served.clock.at}
    assert (await served.read(f"/errors/{group}"))["resolved_at"] == served.clock.at
    assert (await served.read("/errors"))["groups"][0]["resolved_at"] == served.clock.at
    look(served)
    assert [notice["type"] for notice in served.inbox] == ["NEW_ERROR"]
    await fail(served)
    look(served)
    assert [notice["type"] for notice in served.inbox] == ["NEW_ERROR", "ERROR_CAME_BACK"]
    assert (await served.read(f"/errors/{group}"))["resolved_at"] is None
    await fail(served)
    look(served, 600)
    assert len(served.inbox) == 2


async def test_an_unknown_group_is_not_resolved(served):
    reply = await served.change("/errors/0123456789abcdef", {"action": "resolve"})
    assert reply.status == 404


# Where nothing can be changed


@pytest.mark.parametrize("route", ["/alerts", "/errors/0123456789abcdef"])
async def test_without_alerts_it_is_said_what_is_missing(route):
    reply = await Served().change(route, SILENCE)
    assert (reply.status, reply.headers["allow"]) == (405, "GET, HEAD, OPTIONS")
    assert "alerts=Alerts(...)" in reply.json()["detail"]


async def test_from_a_record_alone_nothing_is_changed(tmp_path):
    """It is read by who may not even be of the application."""
    served = alerting(directory=tmp_path / "record")
    await fail(served)
    look(served)
    alone = Ops(token=TOKEN).app(Host(tmp_path / "record"))
    for route, body in (("/alerts", SILENCE), ("/errors/0123456789abcdef", {"action": "resolve"})):
        reply = await ask(
            alone, route, HOST, BEARER, JSON, method="POST", body=json.dumps(body).encode()
        )
        assert reply.status == 405
    told = (await ask(alone, "/openapi.json", HOST, BEARER)).json()
    assert [path for path in told["paths"] if "post" in told["paths"][path]] == ["/session"]


class OfOthers:
    """A source that was written before silences were."""

    can_act = True

    def __init__(self, kit):
        known = OfKit(kit)
        for (
            name
        ) in """error_stats performance_stats groups group breakers act alerts in_flight crashes
        workers status""".split():
            setattr(self, name, getattr(known, name))


async def test_a_source_without_these_methods_still_serves():
    served = alerting()
    served.app = served.ops.app(OfOthers(served.kit))

    async def change(route, body):
        raw = json.dumps(body).encode()
        return await served.ask(route, HOST, BEARER, JSON, method="POST", body=raw)

    assert (await change("/alerts", SILENCE)).status == 405
    assert (await change("/errors/0123456789abcdef", {"action": "resolve"})).status == 405
    served.kit.tracker.breaker("model:sdxl")
    assert (await change("/breakers", {"name": "model:sdxl", "action": "disable"})).status == 200
    told = (await served.ask("/openapi.json", HOST, BEARER)).json()["paths"]
    assert ("post" in told["/alerts"], "post" in told["/breakers"]) == (False, True)


async def test_what_can_be_changed_is_described(served):
    """As the body is judged, with nothing beside it."""
    paths = (await served.read("/openapi.json"))["paths"]
    assert {path for path in paths if "post" in paths[path]} == {*ACTS, "/session"}
    for path, acting in ACTS.items():
        schema = paths[path]["post"]["requestBody"]["content"]["application/json"]["schema"]
        assert schema["properties"].keys() == acting.properties.keys()
        assert schema["additionalProperties"] is False
    assert paths[GROUP]["post"]["parameters"] == paths[GROUP]["get"]["parameters"]


async def test_how_a_change_is_refused_is_described(served):
    paths = (await served.read("/openapi.json"))["paths"]
    good = {"action": "unsilence", "what": "A"}
    replies = [
        await served.change("/alerts", good),
        await served.change("/alerts", {}),
        await served.change("/alerts", good, BEARER),
        await served.change("/alerts", b" " * 5000),
        await served.change("/alerts", good, JSON),
        await served.change("/errors/f1", {"action": "resolve"}),
    ]
    assert [reply.status for reply in replies] == [200, 400, 415, 413, 401, 404]
    described = paths["/alerts"]["post"]["responses"].keys()
    assert {str(reply.status) for reply in replies} <= described
    assert "408" in described


async def test_how_a_read_is_refused_is_described(served):
    paths = (await served.read("/openapi.json"))["paths"]
    long = await served.ask("/_errorkit/errors", HOST, BEARER, query=b"limit=1&" * 200)
    described = paths["/errors"]["get"]["responses"].keys()
    assert {str(long.status), "503"} <= described
    assert "503" in paths["/events"]["get"]["responses"]


def test_what_has_no_act_has_none():
    assert acting_of("/errors") is None
    assert acting_of("/nowhere") is None


# What cannot be meant

NO_SILENCES = {
    "nothing": b"",
    "no object": b'["silence"]',
    "no action": b'{"what": "X", "seconds": 5}',
    "another action": b'{"action": "delete", "what": "X", "seconds": 5}',
    "action in another case": b'{"action": "Silence", "what": "X", "seconds": 5}',
    "action of another kind": b'{"action": ["silence"], "what": "X", "seconds": 5}',
    "no what": b'{"action": "silence", "seconds": 5}',
    "empty what": b'{"action": "silence", "what": "", "seconds": 5}',
    "what of another kind": b'{"action": "silence", "what": 7, "seconds": 5}',
    "a what of many": b'{"action": "silence", "what": ["*"], "seconds": 5}',
    "long what": b'{"action": "silence", "what": "%b", "seconds": 5}' % (b"x" * 301),
    "a line feed": b'{"action": "silence", "what": "X\\nALERT", "seconds": 5}',
    "a null": b'{"action": "silence", "what": "X\\u0000", "seconds": 5}',
    "an escape": b'{"action": "silence", "what": "\\u001b[2J", "seconds": 5}',
    "turned around": b'{"action": "silence", "what": "\\u202eX", "seconds": 5}',
    "unseen": b'{"action": "silence", "what": "X\\u200b", "seconds": 5}',
    "a byte order mark": b'{"action": "silence", "what": "\\ufeffX", "seconds": 5}',
    "half a character": b'{"action": "silence", "what": "\\ud800", "seconds": 5}',
    "no seconds": b'{"action": "silence", "what": "X"}',
    "null seconds": b'{"action": "silence", "what": "X", "seconds": null}',
    "seconds as text": b'{"action": "silence", "what": "X", "seconds": "5"}',
    "seconds that are true": b'{"action": "silence", "what": "X", "seconds": true}',
    "no time": b'{"action": "silence", "what": "X", "seconds": 0}',
    "time that is gone": b'{"action": "silence", "what": "X", "seconds": -5}',
    "no number": b'{"action": "silence", "what": "X", "seconds": NaN}',
    "without end": b'{"action": "silence", "what": "X", "seconds": Infinity}',
    "too large to be told": b'{"action": "silence", "what": "X", "seconds": 1e999}',
    "longer than may be": b'{"action": "silence", "what": "X", "seconds": 2592000.001}',
    "of many digits": b'{"action": "silence", "what": "X", "seconds": 1%b}' % (b"0" * 4000),
    "seconds twice": b'{"action": "silence", "what": "X", "seconds": 5, "seconds": 9}',
    "what twice": b'{"action": "silence", "what": "X", "seconds": 5, "wh\\u0061t": "*"}',
    "more": b'{"action": "silence", "what": "X", "seconds": 5, "until": 9}',
    "a reason of another kind": b'{"action": "silence", "what": "X", "seconds": 5, "why": {}}',
    "no reason at all": b'{"action": "silence", "what": "X", "seconds": 5, "why": null}',
    "a long reason": b'{"action": "silence", "what": "X", "seconds": 5, "why": "%b"}' % (b"y" * 201),
    "a reason of lines": b'{"action": "silence", "what": "X", "seconds": 5, "why": "a\\nb"}',
    "an end with seconds": b'{"action": "unsilence", "what": "X", "seconds": 5}',
    "an end with a reason": b'{"action": "unsilence", "what": "X", "why": "over"}',
    "another encoding": json.dumps(SILENCE).encode("utf-16"),
    "a mark before it": b"\xef\xbb\xbf" + json.dumps(SILENCE).encode(),
    "overlong": b'{"action": "silence", "what": "\xc0\xaa", "seconds": 5}',
    "two": json.dumps(SILENCE).encode() * 2,
    "deep": b"[" * 4000,
    "deep and closed": b"[" * 2000 + b"]" * 2000,
    "a comment": json.dumps(SILENCE).encode() + b"//",
}  # fmt: skip


@pytest.mark.parametrize("body", NO_SILENCES.values(), ids=NO_SILENCES)
async def test_what_cannot_be_meant_is_a_400_and_changes_nothing(body):
    """As a problem document that says what can be, and does not repeat all that was sent."""
    served = alerting()
    reply = await served.change("/alerts", body)
    assert (reply.status, reply.raised) == (400, None)
    detail = reply.json()["detail"]
    assert 15 < len(detail) < 500 and detail.isprintable()
    assert await silences(served) == []


@pytest.mark.parametrize(
    "body", [b"{}", b'{"action": "delete"}', b'{"action": "resolve", "id": 1}']
)
async def test_a_group_is_resolved_and_nothing_else(body):
    served = alerting()
    await fail(served)
    reply = await served.change(f"/errors/{await only_group(served)}", body)
    assert reply.status == 400
    assert served.kit.alerts.resolved == {}


@given(st.text(st.characters(exclude_categories=["C", "Z"]) | st.sampled_from("*?[]!-^\\&~|"),
               min_size=1, max_size=300), st.text(max_size=300))  # fmt: skip
@settings(deadline=None)
def test_no_pattern_breaks_what_it_is_held_against(what, name):
    """It would break every alert of the host from then on."""
    if what.isprintable():
        assert Silence(what, 1.0).covers(name, name) in (True, False)
        literal = re.sub(r"[*?[]", r"[\g<0>]", what)  # as the page writes what stands for itself
        assert Silence(literal, 1.0).covers(what, "")


async def test_a_pattern_of_stars_takes_no_time_to_speak_of():
    """Backtracking would stop the host's alerts for good: this test would not end."""
    served = alerting()
    assert (await served.change("/alerts", {**SILENCE, "what": "*a" * 149})).status == 200
    served.kit.send_alert("a" * 99, "a" * 500)
    look(served)
    assert len((await served.read("/alerts"))["recent_alerts"]) == 1


async def test_there_are_no_more_silences_than_are_kept():
    """The oldest goes."""
    served = alerting()
    for number in range(103):
        await served.change("/alerts", {**SILENCE, "what": f"TYPE_{number}"})
    names = [told["what"] for told in await silences(served)]
    assert names == [f"TYPE_{number}" for number in range(3, 103)]


# By whom

POSTS = [("/alerts", SILENCE), ("/breakers", {"name": "model:sdxl", "action": "force_open"}),
         ("group", {"action": "resolve"})]  # fmt: skip


async def prepared(route):
    """A kit in which that can be changed, where, and whether it was."""
    served = alerting()
    breaker = served.kit.tracker.breaker("model:sdxl")
    await fail(served)
    route = f"/errors/{await only_group(served)}" if route == "group" else route

    def is_changed():
        shown = served.kit.alerts.get_alert_summary()["silences"]
        return bool(shown or served.kit.alerts.resolved or breaker.is_open)

    return served, route, is_changed


async def cookie_of(served):
    reply = await served.ask("/_errorkit/session", HOST, BEARER, method="POST")
    return ("Cookie", reply.headers["set-cookie"].partition(";")[0])


FORGED = {
    "nobody": [JSON],
    "a wrong token": [JSON, ("Authorization", f"Bearer {TOKEN}x")],
    "a token in a cookie": [JSON, ("Cookie", f"asgi_errorkit_ops={TOKEN}"), ORIGIN, MEANT],
    "a forwarded token": [JSON, ("X-Forwarded-Authorization", f"Bearer {TOKEN}")],
    "a neighbour": [JSON, ("X-Forwarded-For", "127.0.0.1"), ("X-Real-IP", "127.0.0.1")],
    "a method in a header": [JSON, ("X-HTTP-Method-Override", "POST")],
}


@pytest.mark.parametrize("headers", FORGED.values(), ids=FORGED)
@pytest.mark.parametrize(("route", "body"), POSTS, ids=["silence", "breaker", "resolve"])
async def test_nobody_without_the_token_changes_anything(route, body, headers):
    served, route, is_changed = await prepared(route)
    reply = await served.change(route, body, *headers)
    assert (reply.status, is_changed()) == (401, False)


CROSS = {
    "the cookie alone": [JSON],
    "an origin alone": [JSON, ORIGIN],
    "the header alone": [JSON, MEANT],
    "another origin": [JSON, MEANT, ("Origin", "https://evil.example")],
    "another port": [JSON, MEANT, ("Origin", "http://localhost:8001")],
    "no origin": [JSON, MEANT, ("Origin", "null")],
    "two origins": [JSON, MEANT, ORIGIN, ORIGIN],
    "another site": [JSON, MEANT, ORIGIN, ("Sec-Fetch-Site", "same-site")],
    "a form": [("Content-Type", "text/plain"), ORIGIN],
}


@pytest.mark.parametrize("headers", CROSS.values(), ids=CROSS)
@pytest.mark.parametrize(("route", "body"), POSTS, ids=["silence", "breaker", "resolve"])
async def test_a_cookie_changes_nothing_from_pages_of_others(route, body, headers):
    served, route, is_changed = await prepared(route)
    reply = await served.change(route, body, await cookie_of(served), *headers)
    assert (reply.status, is_changed()) == (403, False)


@pytest.mark.parametrize(("route", "body"), POSTS, ids=["silence", "breaker", "resolve"])
async def test_the_own_page_changes_what_it_means_to(route, body):
    served, route, is_changed = await prepared(route)
    cookie = await cookie_of(served)
    assert (await served.change(route, body, cookie, JSON, ORIGIN, MEANT)).status == 200
    assert is_changed()


@pytest.mark.parametrize(("route", "body"), POSTS, ids=["silence", "breaker", "resolve"])
async def test_only_json_by_post_to_a_known_host_changes_anything(route, body):
    served, route, is_changed = await prepared(route)
    raw = json.dumps(body).encode()
    for status, headers, method in (
        (415, [HOST, BEARER, ("Content-Type", "text/plain")], "POST"),
        (415, [HOST, BEARER, ("Content-Type", "application/x-www-form-urlencoded")], "POST"),
        (415, [HOST, BEARER, JSON, JSON], "POST"),
        (415, [HOST, BEARER], "POST"),
        (403, [("Host", "evil.example"), BEARER, JSON], "POST"),
        (403, [HOST, HOST, BEARER, JSON], "POST"),
        (405, [HOST, BEARER, JSON], "PUT"),
        (405, [HOST, BEARER, JSON], "PATCH"),
        (405, [HOST, BEARER, JSON], "DELETE"),
        (405, [HOST, BEARER, JSON], "post"),
        (200, [HOST, BEARER, JSON], "GET"),
        (200, [HOST, BEARER, JSON], "HEAD"),
    ):
        reply = await served.ask(f"/_errorkit{route}", *headers, method=method, body=raw)
        assert (reply.status, is_changed()) == (status, False)


PLACES = ["//_errorkit{}", "/_errorkit/{}", "/_errorkit/.{}", "/_errorkit/..{}", "/_ERRORKIT{}",
          "/_errorkit{};x", "/x/../_errorkit{}", "/_errorkit{}\x00", "{}"]  # fmt: skip


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(("route", "body"), POSTS, ids=["silence", "breaker", "resolve"])
async def test_what_only_resembles_the_path_changes_nothing(route, body, place):
    """It is the application's, which is asked."""
    served, route, is_changed = await prepared(route)
    path = place.format(route)
    raw = json.dumps(body).encode()
    reply = await served.ask(
        path, HOST, BEARER, JSON, method="POST", body=raw, raw_path=path.encode()
    )
    assert (reply.body, is_changed()) == (b"the app", False)


@pytest.mark.parametrize("raw", ["/_errorkit%2f{}", "/%5ferrorkit/{}", "/_errorkit/%2e/{}"])
@pytest.mark.parametrize(("route", "body"), POSTS, ids=["silence", "breaker", "resolve"])
async def test_what_was_sent_encoded_changes_nothing(route, body, raw):
    served, route, is_changed = await prepared(route)
    sent = raw.format(route[1:]).encode()
    path = f"/_errorkit{route}"
    reply = await served.ask(
        path, HOST, BEARER, JSON, method="POST", body=json.dumps(body).encode(), raw_path=sent
    )
    assert (reply.body, is_changed()) == (b"the app", False)


async def test_below_the_root_path_it_is_changed_as_elsewhere():
    served, _, is_changed = await prepared("/alerts")
    raw = json.dumps(SILENCE).encode()
    asked = (HOST, BEARER, JSON)
    odd = {"root_path": "/_errorkit", "method": "POST", "body": raw}
    assert (await served.ask("/_errorkit/alerts", *asked, **odd)).body == b"the app"
    assert not is_changed()
    more = {"root_path": "/api", "method": "POST", "body": raw}
    assert (await served.ask("/api/_errorkit/alerts", *asked, **more)).status == 200
    assert is_changed()


# Bodies that are no small ones


@pytest.mark.parametrize(("route", "body"), POSTS, ids=["silence", "breaker", "resolve"])
async def test_a_large_body_changes_nothing(route, body):
    """In one piece or in many, whatever it would mean."""
    served, route, is_changed = await prepared(route)
    raw = json.dumps(body).encode()
    assert (await served.change(route, raw + b" " * 4096)).status == 413
    pieces = [raw, *[b" " * 1000] * 9]
    path, asked = f"/_errorkit{route}", (HOST, BEARER, JSON)
    assert (await served.ask(path, *asked, method="POST", body=pieces)).status == 413
    assert not is_changed()


@pytest.mark.parametrize(("route", "body"), POSTS, ids=["silence", "breaker", "resolve"])
async def test_a_body_that_comes_too_slowly_changes_nothing(route, body, monkeypatch):
    """Piece by piece it is not waited for longer than for one that does not come."""
    monkeypatch.setattr("asgi_errorkit.ops.asked._BODY_SECONDS", 0.05)
    served, route, is_changed = await prepared(route)
    pieces, sent = iter(json.dumps(body).encode().decode()), []

    async def receive():
        await asyncio.sleep(0.01)
        piece = next(pieces, None)
        assert piece is not None, "it was waited for to its end"
        return {"type": "http.request", "body": piece.encode(), "more_body": True}

    async def send(message):
        sent.append(message)

    headers = [(name.lower().encode(), value.encode()) for name, value in (HOST, BEARER, JSON)]
    scope = {"type": "http", "method": "POST", "path": f"/_errorkit{route}", "headers": headers}
    await served.app(scope, receive, send)
    assert (sent[0]["status"], is_changed()) == (408, False)
