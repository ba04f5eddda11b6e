"""What is told where, of a process, of a host, and of a record alone; and what cannot be asked."""

import os
import re

import pytest

from asgi_errorkit import ErrorType
from asgi_errorkit.ops import Ops
from asgi_errorkit.ops import answers as answers_module
from asgi_errorkit.spool import leader as leader_module
from asgi_errorkit.spool.directory import SpoolError
from asgi_errorkit.spool.host import Host
from asgi_errorkit.testing import request

from .asking import BEARER, HOST, JSON, TOKEN, Served, ask

READ = """/ /errors /errors/stats /performance/stats /breakers /alerts /inflight /crashes /workers
/status /openapi.json /health /health/live /health/ready""".split()


@pytest.fixture(autouse=True)
def _nobody_leads():
    leader_module._LEADING.clear()
    yield
    leader_module._LEADING.clear()


@pytest.fixture(params=["process", "host"])
def served(request, tmp_path):
    """A kit that answers for itself, and one that does for its host; each has seen two failures."""
    return Served(directory=tmp_path / "record" if request.param == "host" else None)


async def fail(served, times=2):
    for _ in range(times):
        await served.ask("/boom", HOST)


# What cannot be asked


QUERIES = """window_minutes=0 window_minutes=-1 window_minutes=61 window_minutes=nan
window_minutes=inf window_minutes=1e1 window_minutes= window_minutes=5x window_minutes=1_0
window_minutes=%D9%A5 window_minutes=5&window_minutes=6 window_minutes=1%00 worker=0 worker=-1
worker=x worker=1.5 worker=99999999999 worker=1 window=5 token=x = x""".split()


@pytest.mark.parametrize("route", ["/errors/stats", "/performance/stats"])
async def test_a_query_that_cannot_be_is_a_400(served, route):
    """As a problem document that says what can be; unknown names are not passed over."""
    for query in QUERIES:
        reply = await served.ask(f"/_errorkit{route}", HOST, BEARER, query=query.encode())
        assert (reply.status, query) == (400, query)
        assert reply.headers["content-type"] == "application/problem+json"
        assert len(reply.json()["detail"]) > 20


async def test_a_limit_that_cannot_be_is_a_400():
    served = Served()
    for query in (b"limit=0", b"limit=501", b"limit=ten", b"window_minutes=5"):
        assert (await served.ask("/_errorkit/errors", HOST, BEARER, query=query)).status == 400


@pytest.mark.parametrize("given", ["-1", "1.5", "", "x", "9" * 11])
async def test_a_number_of_routes_that_cannot_be_is_a_400(given):
    query = f"most_routes={given}".encode()
    reply = await Served().ask("/_errorkit/performance/stats", HOST, BEARER, query=query)
    assert reply.status == 400


async def test_a_long_query_is_refused_unread():
    reply = await Served().ask("/_errorkit/errors", HOST, BEARER, query=b"limit=1&" * 200)
    assert reply.status == 414


@pytest.mark.parametrize("route", ["/errors", "/health/live", "/events"])
async def test_other_methods_are_not_allowed(route):
    served = Served()
    for method in ("POST", "PUT", "PATCH", "DELETE", "TRACE", "get", "X" * 99):
        reply = await served.ask(f"/_errorkit{route}", HOST, BEARER, JSON, method=method)
        assert (reply.status, reply.headers["allow"]) == (405, "GET, HEAD, OPTIONS")


async def test_options_and_head_are_answered(served):
    """HEAD as GET, with the same headers and no body; OPTIONS with what is allowed."""
    for route in (*READ, "/events"):
        options = await served.ask(f"/_errorkit{route}", HOST, BEARER, method="OPTIONS")
        assert options.status == 204
        assert options.headers["allow"].startswith("GET, HEAD")
        head = await served.ask(f"/_errorkit{route}", HOST, BEARER, method="HEAD")
        assert (head.status, head.body, head.complete) == (200, b"", True)
        if route != "/events":
            assert int(head.headers["content-length"]) > 10


async def test_what_is_not_there_is_a_404(served):
    missing = ("/unknown", "/errors/", "/errors/x/y", "/errors/0123456789abcdef", "/errors/a-b")
    for route in (*missing, f"/errors/{'a' * 65}", "/breakers/model", "/session/x"):
        reply = await served.ask(f"/_errorkit{route}", HOST, BEARER)
        assert (reply.status, route) == (404, route)


async def test_what_breaks_is_told_to_the_log_alone(caplog):
    """Nothing of the exception goes out, and the app is not harmed."""
    served = Served()
    alone = served.ops.app(served.kit)

    def broken():
        raise RuntimeError("a secret")

    alone._answers.source.status = broken
    reply = await ask(alone, "/status", HOST, BEARER)
    assert (reply.status, b"secret" in reply.body, reply.raised) == (500, False, None)
    assert "a secret" in caplog.text


async def test_a_record_that_cannot_be_read_is_a_503():
    served = Served()
    alone = served.ops.app(served.kit)

    def broken():
        raise SpoolError("/run/x is gone: make it")

    alone._answers.source.crashes = broken
    reply = await ask(alone, "/crashes", HOST, BEARER)
    assert reply.status == 503
    assert "make it" in reply.json()["detail"]


async def test_a_few_read_at_a_time():
    """The next is told to come again: whoever looks must not be what the app suffers from."""
    served = Served()
    alone = served.ops.app(served.kit)
    alone._answers._reading = answers_module._MOST_READS
    reply = await ask(alone, "/errors", HOST, BEARER)
    assert (reply.status, reply.headers["retry-after"]) == (503, "1")
    alone._answers._reading -= 1
    assert (await ask(alone, "/errors", HOST, BEARER)).status == 200


# What is told


async def test_each_says_something_from_the_first_moment(served):
    for route in READ:
        assert (await served.read(route)).keys(), route


async def test_the_statistics_are_those_of_the_kit(served):
    await fail(served)
    assert await served.read("/errors/stats") == served.kit.get_error_stats()
    told = await served.read("/errors/stats", b"window_minutes=0.5")
    assert (told["window_minutes"], told["total_errors"]) == (0.5, 2)
    told = await served.read("/performance/stats", b"window_minutes=60")
    assert told["total_requests"] == 2
    await served.ask("/calm", HOST)
    told = await served.read("/performance/stats", b"most_routes=1")
    assert (list(told["routes"]), told["routes_left_out"]) == (["GET /boom"], 1)
    assert (await served.read("/performance/stats"))["routes_left_out"] == 0
    mine = await served.read("/errors/stats", f"worker={os.getpid()}".encode())
    assert mine["total_errors"] == 2


async def test_an_error_is_told_with_its_sample(served):
    """How often, where, and one occurrence: its request and its frames, without what is secret."""
    await fail(served)
    listed = await served.read("/errors")
    assert (listed["total"], len(listed["groups"])) == (1, 1)
    group = listed["groups"][0]
    assert "sample" not in group and "latest" not in group
    told = await served.read(f"/errors/{group['fingerprint']}")
    assert told["type_name"] == "ConnectionError"
    assert told["occurrences"]["count"] == 2
    assert told["occurrences"]["routes"]
    latest = told["occurrences"]["latest"]
    assert [each["route"] for each in latest] == ["GET /boom"] * 2
    served.kit.flush()
    in_log = [line["request_id"] for line in served.log.lines() if line["event"] == "request_error"]
    assert [each["request_id"] for each in latest] == in_log[::-1]
    assert told["sample"]["path"] == "/boom"
    frames = told["sample"]["exception"]["frames"]
    assert frames[-1]["function"] == "app"
    assert "hunter2" not in str(told)


async def test_of_many_groups_the_latest_are_listed():
    served = Served()
    for name in ("A", "B", "C"):
        exc = type(name, (Exception,), {})("x")
        served.kit.tracker.record_error(ErrorType.CACHE, None, {"exception": exc})
    told = await served.read("/errors", b"limit=2")
    assert (told["total"], len(told["groups"])) == (3, 2)


async def test_the_requests_in_flight_are_told(tmp_path):
    """Of a process and of a host alike; and not those of the ops app itself."""
    for directory in (None, tmp_path / "record"):
        told = {}

        served = Served(lambda *given: looking(*given), directory=directory)  # noqa: PLW0108

        async def looking(scope, receive, send, told=told, served=served):
            told.update(await served.read("/inflight"))
            raise ValueError

        if directory is not None:
            served.kit.tracker.recorder.ledger.open()
        await served.ask("/videos/token=abcdefgh", HOST)
        assert told["total"] == 1
        [one] = told["requests"]
        assert (one["method"], one["phase"], one["pid"]) == ("GET", "running", os.getpid())
        assert one["path"] == "/videos/token=[redacted]"
        assert (await served.read("/inflight"))["total"] == 0


async def test_the_dead_are_told_where_they_are_on_record(tmp_path):
    assert (await Served().read("/crashes")) == {"is_recorded": False, "crashes": []}
    told = await Served(directory=tmp_path / "record").read("/crashes")
    assert told == {"is_recorded": True, "crashes": []}


async def test_the_workers_are_told(served):
    await fail(served)
    [worker] = (await served.read("/workers"))["workers"]
    assert worker["pid"] == os.getpid()


async def test_status_and_alerts_are_those_of_the_kit(served):
    await fail(served)
    told = await served.read("/status")
    assert told.keys() == served.kit.status().keys()
    assert await served.read("/alerts") == served.kit.status()["alert_summary"]


# Breakers


async def act(served, body, *headers):
    return await served.ask(
        "/_errorkit/breakers", HOST, BEARER, *(headers or (JSON,)), method="POST", body=body
    )


@pytest.mark.parametrize(
    ("action", "state"),
    [
        ("force_open", "forced_open"),
        ("disable", "disabled"),
        ("close", "closed"),
        ("reset", "closed"),
    ],
)
async def test_a_breaker_is_set_by_hand(served, action, state, caplog):
    """At once, and the log says who has asked."""
    breaker = served.kit.tracker.breaker("model:sdxl")
    breaker.open()
    reply = await act(served, f'{{"name": "model:sdxl", "action": "{action}"}}'.encode())
    assert (reply.status, reply.json()["state"]) == (200, state)
    assert breaker.state.value == state
    assert f"{action} of the circuit 'model:sdxl', asked for by '127.0.0.1'" in caplog.text
    listed = (await served.read("/breakers"))["breakers"]
    assert "model:sdxl" in [told["name"] for told in listed]


@pytest.mark.parametrize(
    "body",
    [b"", b"{}", b"[]", b"null", b"nothing", b'"model:sdxl"', b'{"name": "model:sdxl"}',
     b'{"name": "model:sdxl", "action": "explode"}', b'{"name": "model:sdxl", "action": []}',
     b'{"name": "", "action": "reset"}', b'{"name": 7, "action": "reset"}',
     b'{"name": "model:sdxl", "action": "reset", "more": 1}', b"\xff\xfe",
     b'{"name": "' + b"x" * 301 + b'", "action": "reset"}', b"[" * 3000],
)  # fmt: skip
async def test_a_body_that_cannot_be_is_a_400_and_changes_nothing(body):
    served = Served()
    breaker = served.kit.tracker.breaker("model:sdxl")
    breaker.force_open()
    assert (await act(served, body)).status == 400
    assert breaker.is_open


async def test_a_large_body_is_refused_before_it_is_whole():
    """In one piece or in many: what has not come yet is not read."""
    served = Served()
    assert (await act(served, b" " * 4097)).status == 413
    assert (await act(served, [b" " * 1000] * 9)).status == 413


@pytest.mark.parametrize(
    "headers",
    [
        [("Content-Type", "text/plain")],
        [("Content-Type", "application/x-www-form-urlencoded")],
        [("Content-Type", "multipart/form-data; boundary=x")],
        [("Content-Type", "application/jsonx")],
        [JSON, ("Content-Type", "text/plain")],
        [("X-Nothing", "")],
    ],
)
async def test_forms_are_refused(headers):
    """Any page can have one sent."""
    body = b'{"name": "model:sdxl", "action": "reset"}'
    assert (await act(Served(), body, *headers)).status == 415


async def test_a_body_that_does_not_come_is_not_waited_for_long(monkeypatch):
    """Whoever leaves amid it is answered nothing."""
    monkeypatch.setattr("asgi_errorkit.ops.asked._BODY_SECONDS", 0.02)
    served = Served()
    sent = []

    async def send(message):
        sent.append(message)

    async def never():
        import asyncio

        await asyncio.sleep(60)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/_errorkit/breakers",
        "headers": [(n.lower().encode(), v.encode()) for n, v in (HOST, BEARER, JSON)],
    }
    await served.app(dict(scope), never, send)
    assert sent[0]["status"] == 408

    async def gone():
        return {"type": "http.disconnect"}

    sent.clear()
    await served.app(dict(scope), gone, send)
    assert sent == []


async def test_an_unknown_breaker_is_a_404():
    reply = await act(Served(), b'{"name": "model:nobody", "action": "force_open"}')
    assert reply.status == 404


# A record without a running app


async def test_a_record_is_read_without_its_app(tmp_path):
    """All that is read, and nothing can be changed: not even the method is there."""
    served = Served(directory=tmp_path / "record")
    await fail(served)
    served.kit.get_error_stats()
    host = Host(tmp_path / "record", clock=served.clock, wall_clock=served.clock)
    alone = Ops(token=TOKEN).app(host)
    for route in READ:
        reply = await ask(alone, route, HOST, BEARER)
        assert reply.status == 200, (route, reply.body)
    stats = (await ask(alone, "/errors/stats", HOST, BEARER)).json()
    assert stats["total_errors"] == 2
    [group] = (await ask(alone, "/errors", HOST, BEARER)).json()["groups"]
    told = (await ask(alone, f"/errors/{group['fingerprint']}", HOST, BEARER)).json()
    assert told["sample"]["path"] == "/boom"
    reply = await ask(alone, "/breakers", HOST, BEARER, JSON, method="POST", body=b"{}")
    assert (reply.status, reply.headers["allow"]) == (405, "GET, HEAD, OPTIONS")


# The description


async def test_everything_is_described():
    """Each path of the description is there, and each that is there is described."""
    served = Served()
    told = await served.read("/openapi.json")
    assert told["openapi"].startswith("3.1")
    assert told["servers"] == [{"url": "/_errorkit"}]
    listed = set((await served.read("/"))["endpoints"])
    assert listed - set(told["paths"]) == {"/", "/openapi.json"}
    for path, methods in told["paths"].items():
        for method in methods:
            route = re.sub(r"\{.*\}", "0", path)
            reply = await served.ask(f"/_errorkit{route}", HOST, BEARER, method="OPTIONS")
            assert method.upper() in reply.headers["allow"]


async def test_the_description_of_a_record_has_nothing_to_change(tmp_path):
    served = Served(directory=tmp_path / "record")
    alone = Ops(token=TOKEN).app(served.kit.host)
    told = (await ask(alone, "/openapi.json", HOST, BEARER)).json()
    assert "post" not in told["paths"]["/breakers"]
    assert told["servers"] == [{"url": "/"}]


async def test_it_is_a_plain_asgi_app_under_trio():
    """Threads and time limits are those of whoever runs it."""
    import trio

    served = Served(checks={"a": lambda: True})
    told = {}

    async def main():
        for route in ("/errors/stats", "/health/ready", "/status"):
            told[route] = (await served.ask(f"/_errorkit{route}", HOST, BEARER)).status

    trio.run(main)
    assert set(told.values()) == {200}
    assert (await request(served.app)).body == b"the app"
