"""Every response carries a request id, and the log knows exactly those."""

import threading

import pytest

from .wire import Http, ask, raw_answer, request_ids

CONCURRENT = 50

EVERY_KIND = (
    ask("/plain"),
    ask("/plain", method="HEAD"),
    ask("/plain", version="1.0", close=False),
    ask("/no-content"),
    ask("/not-modified"),
    ask("/chunks"),
    ask("/missing"),
    ask("/refuse", method="POST", body=b"x"),
    ask("/fail"),
    ask("/fail", "Accept: text/html"),
    ask("/fail-slowly"),
    ask("/fail-late"),
    ask("/start-twice"),
)

UNANSWERED = {
    # A client that gets a part of a response waits for the rest for ever.
    "daphne": (ask("/fail-late"), ask("/start-twice")),
    # What has been started is sent with the first piece of its body.
    "granian": (ask("/start-twice"),),
    "gunicorn-asgi": (ask("/start-twice"),),
}
"""Those that get no complete head of the app's from some server."""

HOSTILE = {
    "empty": b"",
    "too-long": b"x" * 129,
    "much-too-long": b"x" * 4000,
    "space": b"two words",
    "tab": b"two\twords",
    "latin-1": b"caf\xe9",
    "utf-8": "ñ".encode(),
    "right-to-left": "\u202eabc".encode(),
    "escape-in-utf-8": b"\xc2\x9b31m",
}


def answer_to(server, inbound, target="/plain"):
    start, _, rest = ask(target).partition(b"\r\n")
    return raw_answer(server.port, start + b"\r\nX-Request-ID: " + inbound + b"\r\n" + rest)


def test_every_response_carries_one_id_of_its_own(command, wrapped):
    kinds = [request for request in EVERY_KIND if request not in UNANSWERED.get(command, ())]
    ids = [request_ids(raw_answer(wrapped.port, request)) for request in kinds]
    assert all(len(found) == 1 for found in ids)
    assert len({found[0] for found in ids}) == len(kinds)
    assert all(len(found[0]) == 32 and int(found[0], 16) >= 0 for found in ids)


@pytest.mark.parametrize("inbound", ["a", "x" * 128, "!~<script>&'\";{}", "018f-4f2a:7/9=="])
@pytest.mark.parametrize("target", ["/plain", "/fail", "/missing"])
def test_a_harmless_inbound_id_is_honoured(wrapped, inbound, target):
    assert request_ids(answer_to(wrapped, inbound.encode(), target)) == [inbound]
    assert wrapped.last_line(inbound)["request_id"] == inbound


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_inbound_id_is_replaced(wrapped, name):
    """It comes back neither in the response nor in the log."""
    raw = answer_to(wrapped, HOSTILE[name])
    (made,) = request_ids(raw)
    assert len(made) == 32 and int(made, 16) >= 0
    wrapped.last_line(made)
    assert len(HOSTILE[name]) < 3 or HOSTILE[name] not in wrapped.log()


def test_the_ids_of_50_requests_at_once_are_the_logs_ids_exactly(wrapped):
    """All are in flight together; half bring an id, half are given one; each gets its own answer."""
    answers = {}

    def one(number):
        headers = [("x-request-id", f"caller-{wrapped.port}-{number}")] if number % 2 else []
        with Http(wrapped.port) as connection:
            target = f"/meet?place={wrapped.port}&n={CONCURRENT}&name={number}"
            answers[number] = connection.get(target, *headers)

    threads = [threading.Thread(target=one, args=(number,)) for number in range(CONCURRENT)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == list(range(CONCURRENT))
    for number, answer in answers.items():
        assert answer.body == str(number).encode()
        assert number % 2 == 0 or answer.request_id == f"caller-{wrapped.port}-{number}"
        wrapped.last_line(answer.request_id)
    ids = sorted(answer.request_id for answer in answers.values())
    lines = [line for line in wrapped.lines() if f"place={wrapped.port}&" in line["url"]]
    for event in ("request_start", "request_complete"):
        assert sorted(line["request_id"] for line in lines if line["event"] == event) == ids
    for line in lines:
        number = int(line["url"].rpartition("name=")[2])
        assert line["request_id"] == answers[number].request_id
